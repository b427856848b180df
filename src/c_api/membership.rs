//! `axm_membership_t`: access to one cluster.

use std::ffi::c_char;
use std::future::Future;
use std::mem::{self, MaybeUninit};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::check_not_in_log_callback;
use super::config::axm_config_t;
use super::convert::{c_text, free_text, required, to_identity};
use super::error::{axm_error_t, guard};
use super::log::in_callback;
use super::snapshot::{axm_snapshot_t, to_filter};
use super::worker::{axm_worker_t, to_worker};
use crate::config::Config;
use crate::error::{ErrorKind, Result};
use crate::log;
use crate::membership::{JoinOptions, Membership};
use crate::runtime::{self, Runtime};
use crate::view::{ClusterView, MemberFilter};

/// Access to one cluster: lists its workers, registers workers and keeps them registered. Memberships of one cluster
/// share their connections and their memory; opening another one is cheap.
pub struct axm_membership_t {
    membership: Membership,
    /// What runs the membership. It stays until the handle is freed.
    runtime: Runtime,
    /// What was handed out last. Not touched in a forked process, where no thread may be left to unlock it.
    listings: Mutex<Listings>,
}

/// The snapshots made of one view, one for each filter.
#[derive(Default)]
struct Listings {
    view: Option<Arc<ClusterView>>,
    snapshots: [Option<Arc<axm_snapshot_t>>; 3],
}

impl Listings {
    fn snapshot(&mut self, view: Arc<ClusterView>, filter: MemberFilter) -> Arc<axm_snapshot_t> {
        if !self
            .view
            .as_ref()
            .is_some_and(|known| Arc::ptr_eq(known, &view))
        {
            *self = Listings {
                view: Some(view.clone()),
                ..Default::default()
            };
        }
        self.snapshots[filter as usize]
            .get_or_insert_with(|| Arc::new(axm_snapshot_t::new(&view, filter)))
            .clone()
    }
}

/// The header lets any number of threads use these at a time.
const fn shared_between_threads<T: Send + Sync>() {}
const _: () = shared_between_threads::<axm_membership_t>();
const _: () = shared_between_threads::<axm_snapshot_t>();

impl axm_membership_t {
    /// The manager behind the handle.
    pub(super) fn core(&self) -> &Membership {
        &self.membership
    }

    /// The runtime, for functions that need it.
    pub(super) fn runtime(&self) -> Result<&Runtime> {
        check_not_in_log_callback()?;
        self.runtime.check()?;
        Ok(&self.runtime)
    }

    /// Runs a task of the core and waits for it.
    fn run<T, F>(&self, task: impl FnOnce(Membership) -> F) -> Result<T>
    where
        F: Future<Output = Result<T>> + Send + 'static,
        T: Send + 'static,
    {
        self.runtime()?.block_on(task(self.membership.clone()))
    }

    fn list(&self, filter: MemberFilter) -> Result<Arc<axm_snapshot_t>> {
        self.runtime()?;
        let version = self.membership.current_version();
        let known = self.listings.lock().view.clone();
        let view = match known {
            Some(view) if view.version() == version => view,
            _ => self.run(|membership| async move { membership.view().await })?,
        };
        Ok(self.listings.lock().snapshot(view, filter))
    }
}

/// Opens a membership. Never waits for the network: an etcd that cannot be reached is an error of later calls. Reads the
/// files that the configuration names. Blocks if there are any, at most for alluxio.membership.native.operation.timeout.
///
/// Errors: INVALID_CONFIG, MISSING_CONFIG; NOT_FOUND, IO (a file, also if it is not read in time); INVALID_ARGUMENT,
/// CLOSED, FORKED, RESOURCE_EXHAUSTED (no thread or no file descriptor to be had).
#[must_use]
#[unsafe(no_mangle)]
pub extern "C" fn axm_membership_open(
    config: Option<&axm_config_t>,
    out: Option<&mut MaybeUninit<*mut axm_membership_t>>,
) -> Option<Box<axm_error_t>> {
    guard(|| {
        let config = required(config, "config")?;
        let out = required(out, "out")?;
        let properties = config.properties.clone();
        check_not_in_log_callback()?;
        let runtime = runtime::runtime()?;
        let clusters = runtime.clusters();
        let membership = runtime.block_on(async move {
            let config = Config::from_properties(&properties)?;
            Membership::open_aside(config, clusters).await
        })?;
        out.write(Box::into_raw(Box::new(axm_membership_t {
            membership,
            runtime,
            listings: Mutex::default(),
        })));
        Ok(())
    })
}

/// Registers a worker and keeps it registered until axm_membership_leave, axm_membership_stop_heartbeat,
/// axm_membership_close or the end of the process. A worker that is registered already may join again, with another
/// http_server_port and netty_data_port. Joining with any other address is AXM_ERROR_ALREADY_EXISTS, unless
/// alluxio.k8s.env.deployment is true. Succeeds and does nothing for a STATIC cluster, whose workers are those of the
/// hosts file. Blocks.
///
/// Errors: INVALID_ARGUMENT (the worker, or a record longer than etcd stores: 1.5 MiB by default), ALREADY_EXISTS, CORRUPT
/// (what is stored under this identity), UNAVAILABLE, UNAUTHENTICATED, PERMISSION_DENIED, CLOSED, FORKED.
#[must_use]
#[unsafe(no_mangle)]
pub extern "C" fn axm_membership_join(
    membership: Option<&axm_membership_t>,
    worker: *const axm_worker_t,
) -> Option<Box<axm_error_t>> {
    guard(|| {
        let membership = required(membership, "membership")?;
        let worker = to_worker(worker)?;
        membership.run(|membership| async move {
            membership.join(&worker, &JoinOptions::default()).await
        })
    })
}

/// Lists the workers of the cluster that an AXM_FILTER_* value names. Blocks when the library has no fresh list, which
/// it usually has.
///
/// Errors: INVALID_ARGUMENT, UNAVAILABLE, UNAUTHENTICATED, PERMISSION_DENIED, CLOSED, FORKED.
#[must_use]
#[unsafe(no_mangle)]
pub extern "C" fn axm_membership_list(
    membership: Option<&axm_membership_t>,
    filter: i32,
    out: Option<&mut MaybeUninit<*mut axm_snapshot_t>>,
) -> Option<Box<axm_error_t>> {
    guard(|| {
        let membership = required(membership, "membership")?;
        let filter = to_filter(filter)?;
        let out = required(out, "out")?;
        out.write(membership.list(filter)?.into_raw());
        Ok(())
    })
}

/// The version that a listing would have now; 0 if axm_membership_list would block or fail. Takes nanoseconds: for
/// programs that keep something of their own up to date with the list.
#[unsafe(no_mangle)]
pub extern "C" fn axm_membership_version(membership: Option<&axm_membership_t>) -> u64 {
    let Some(membership) = membership else {
        return 0;
    };
    let mut version = 0;
    // Errors and a version of 0 say the same.
    drop(guard(|| {
        membership.runtime()?;
        version = membership.membership.current_version();
        Ok(())
    }));
    version
}

/// Waits until the library has a list of the cluster with a greater version than the given one (0: any), and hands it out.
/// That may be of any age, in each read mode: axm_snapshot_age_ms says it. When the time is over first, *out is NULL. Waits
/// without limit if timeout_ms is negative. Blocks, also while etcd does not answer: axm_membership_status says that.
///
/// Errors: INVALID_ARGUMENT, CLOSED, FORKED.
#[must_use]
#[unsafe(no_mangle)]
pub extern "C" fn axm_membership_wait_for_change(
    membership: Option<&axm_membership_t>,
    filter: i32,
    version: u64,
    timeout_ms: i64,
    out: Option<&mut MaybeUninit<*mut axm_snapshot_t>>,
) -> Option<Box<axm_error_t>> {
    guard(|| {
        let membership = required(membership, "membership")?;
        let filter = to_filter(filter)?;
        let out = required(out, "out")?;
        let timeout = u64::try_from(timeout_ms).map_or(Duration::MAX, Duration::from_millis);
        let view = membership
            .run(|membership| async move { membership.wait_for_change(version, timeout).await })?;
        out.write(view.map_or(std::ptr::null_mut(), |view| {
            membership.listings.lock().snapshot(view, filter).into_raw()
        }));
        Ok(())
    })
}

/// The table of all workers that "alluxio info nodes" prints. Freed with axm_string_free. Blocks as
/// axm_membership_list does.
///
/// Errors: those of axm_membership_list.
#[must_use]
#[unsafe(no_mangle)]
pub extern "C" fn axm_membership_show(
    membership: Option<&axm_membership_t>,
    out: Option<&mut MaybeUninit<*mut c_char>>,
) -> Option<Box<axm_error_t>> {
    guard(|| {
        let membership = required(membership, "membership")?;
        let out = required(out, "out")?;
        let table =
            membership.run(|membership| async move { membership.show_all_members().await })?;
        out.write(c_text(&table).into_raw());
        Ok(())
    })
}

/// Removes a lost worker, such as "worker-<uuid>", from the cluster. Succeeds and does nothing where there is nothing to
/// remove a worker from: in a STATIC and in a SERVICE_REGISTRY cluster. Blocks.
///
/// Errors: INVALID_ARGUMENT (a live or an unknown worker, or no identity), UNAVAILABLE, UNAUTHENTICATED, PERMISSION_DENIED,
/// CLOSED, FORKED.
#[must_use]
#[unsafe(no_mangle)]
pub extern "C" fn axm_membership_remove(
    membership: Option<&axm_membership_t>,
    identity: *const c_char,
) -> Option<Box<axm_error_t>> {
    guard(|| {
        let membership = required(membership, "membership")?;
        let identity = to_identity(identity, "identity")?;
        membership.run(|membership| async move { membership.decommission(&identity).await })
    })
}

/// Ends the registration of one worker that this process registered; it is listed as lost at once. Success if there is
/// none. Blocks.
///
/// Errors: INVALID_ARGUMENT (no identity), UNAVAILABLE, UNAUTHENTICATED, PERMISSION_DENIED (then its lease ends on its
/// own), CLOSED, FORKED.
#[must_use]
#[unsafe(no_mangle)]
pub extern "C" fn axm_membership_stop_heartbeat(
    membership: Option<&axm_membership_t>,
    identity: *const c_char,
) -> Option<Box<axm_error_t>> {
    guard(|| {
        let membership = required(membership, "membership")?;
        let identity = to_identity(identity, "identity")?;
        membership.run(|membership| async move { membership.stop_heartbeat(&identity).await })
    })
}

/// Ends the registration of every worker that joined through this membership; they are listed as lost at once. Blocks.
///
/// Errors: UNAVAILABLE, UNAUTHENTICATED, PERMISSION_DENIED (then a lease ends on its own), CLOSED, FORKED;
/// INVALID_ARGUMENT for NULL.
#[must_use]
#[unsafe(no_mangle)]
pub extern "C" fn axm_membership_leave(
    membership: Option<&axm_membership_t>,
) -> Option<Box<axm_error_t>> {
    guard(|| {
        let membership = required(membership, "membership")?;
        membership.run(|membership| async move { membership.leave().await })
    })
}

/// Leaves and closes. Calls that are running end soon, with AXM_ERROR_CLOSED (which do not, "Blocking" says above), as do
/// all later calls but this one, which succeeds again. Still to be freed; until then the library follows the cluster.
/// Closed even if leaving fails, in which case the lease of a worker ends on its own. Blocks.
///
/// Errors: UNAVAILABLE, UNAUTHENTICATED, PERMISSION_DENIED (closed all the same); CLOSED (after axm_shutdown), FORKED;
/// INVALID_ARGUMENT for NULL.
#[must_use]
#[unsafe(no_mangle)]
pub extern "C" fn axm_membership_close(
    membership: Option<&axm_membership_t>,
) -> Option<Box<axm_error_t>> {
    guard(|| {
        let membership = required(membership, "membership")?;
        membership.run(|membership| async move { membership.close().await })?;
        *membership.listings.lock() = Listings::default();
        Ok(())
    })
}

/// Closes a membership that is not closed, and frees it; blocks in the first case, and loses the error. Snapshots stay.
#[unsafe(no_mangle)]
pub extern "C" fn axm_membership_free(membership: Option<Box<axm_membership_t>>) {
    let Some(membership) = membership else {
        return;
    };
    let error = guard(|| {
        match membership.runtime.check() {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::Forked => {
                // The threads that may hold its locks are gone, so it cannot be taken apart.
                mem::forget(membership);
                return Ok(());
            }
            // The library was shut down.
            Err(_) => return Ok(()),
        }
        let axm_membership_t {
            membership,
            runtime,
            ..
        } = *membership;
        let close = async move {
            let closed = membership.close().await;
            if let Err(error) = &closed {
                log::warn!("Failed to close a membership that was freed: {error}");
            }
            closed
        };
        if in_callback() {
            // This thread may be one that closing needs.
            runtime.spawn(close);
            return Ok(());
        }
        runtime.block_on(close)
    });
    drop(error);
}

/// Frees a text that a function handed out through a char ** out-parameter.
#[unsafe(no_mangle)]
pub extern "C" fn axm_string_free(text: *mut c_char) {
    free_text(text);
}
