//! `axm_membership_t`: access to one cluster.

#[cfg(test)]
mod cost;

use std::ffi::c_char;
use std::future::Future;
use std::mem::{self, MaybeUninit};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::check_not_in_log_callback;
use super::config::axm_config_t;
use super::convert::{
    SizedStruct, c_text, free_text, invalid, read_struct, required, shared, to_identity,
};
use super::error::{axm_error_t, guard};
use super::log::in_callback;
use super::numbers;
use super::snapshot::{axm_snapshot_t, to_filter};
use super::worker::{axm_worker_t, to_worker};
use crate::config::Config;
use crate::error::{ErrorKind, Result};
use crate::log;
use crate::membership::{JoinOptions, Membership};
use crate::runtime::{self, Runtime};
use crate::view::{ClusterView, MemberFilter};

/// Access to one cluster: lists its workers, registers workers and keeps them registered.
///
/// Memberships of one cluster share their connections and their memory, so another one is cheap.
/// Any number of threads may use a membership at the same time.
pub struct axm_membership_t {
    membership: Membership,
    /// What runs the membership. It stays until the handle is freed.
    runtime: Runtime,
    /// What was handed out last. Not touched in a forked process, where no thread may be left to
    /// unlock it.
    listings: Mutex<Listings>,
}

/// The snapshots made of one view, one for each filter, and those of the view before it.
#[derive(Default)]
struct Listings {
    view: Option<Arc<ClusterView>>,
    snapshots: [Option<Arc<axm_snapshot_t>>; 3],
    before: [Option<Arc<axm_snapshot_t>>; 3],
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
                before: mem::take(&mut self.snapshots),
                ..Default::default()
            };
        }
        if let Some(snapshot) = &self.snapshots[filter as usize] {
            return snapshot.clone();
        }
        let others = self.before.iter().chain(&self.snapshots).flatten();
        let snapshot = Arc::new(axm_snapshot_t::new(&view, filter, others));
        self.snapshots[filter as usize].insert(snapshot).clone()
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

/// Whether the workers run on Kubernetes, where a worker may start again under another address.
#[repr(i32)]
pub enum axm_k8s_t {
    /// As the property alluxio.k8s.env.deployment says.
    AXM_K8S_AS_CONFIGURED = 0,
    /// The workers do not run on Kubernetes.
    AXM_K8S_NO = 1,
    /// The workers run on Kubernetes.
    AXM_K8S_YES = 2,
}

/// How a worker joins. Start with #AXM_JOIN_OPTIONS_INIT. Later versions may add fields at the end.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct axm_join_options_t {
    /// sizeof(axm_join_options_t), which #AXM_JOIN_OPTIONS_INIT sets.
    pub struct_size: usize,
    /// Whether a record of the worker under another address is replaced.
    pub k8s: numbers::axm_k8s_t,
}

// SAFETY: the fields are numbers.
unsafe impl SizedStruct for axm_join_options_t {
    const NAME: &str = "options";
    const INIT: &str = "AXM_JOIN_OPTIONS_INIT";
}

/// The options a caller gives; NULL stands for none.
fn to_join_options(pointer: *const axm_join_options_t) -> Result<JoinOptions> {
    if pointer.is_null() {
        return Ok(JoinOptions::default());
    }
    let options = read_struct(pointer)?;
    let k8s_deployment = [
        (axm_k8s_t::AXM_K8S_AS_CONFIGURED, None),
        (axm_k8s_t::AXM_K8S_NO, Some(false)),
        (axm_k8s_t::AXM_K8S_YES, Some(true)),
    ]
    .into_iter()
    .find_map(|(number, k8s)| (number as i32 == options.k8s).then_some(k8s))
    .ok_or_else(|| {
        let number = options.k8s;
        invalid(format!(
            "options.k8s is {number}, expected an AXM_K8S_* value"
        ))
    })?;
    Ok(JoinOptions {
        k8s_deployment,
        ..JoinOptions::default()
    })
}

/// Opens a membership.
///
/// Never waits for the network: if etcd cannot be reached, later calls fail. Blocks if the
/// configuration names files, at most for alluxio.membership.native.operation.timeout.
///
/// \param config The configuration.
/// \param[out] out The membership, for axm_membership_free.
/// \return NULL, or an error: AXM_ERROR_INVALID_CONFIG, AXM_ERROR_MISSING_CONFIG;
/// AXM_ERROR_NOT_FOUND or AXM_ERROR_IO for a file, also for one that is not read in time;
/// AXM_ERROR_RESOURCE_EXHAUSTED, AXM_ERROR_INVALID_ARGUMENT, AXM_ERROR_CLOSED, AXM_ERROR_FORKED.
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

/// Registers a worker and keeps it registered.
///
/// The registration ends with axm_membership_leave, axm_membership_leave_worker,
/// axm_membership_close or the process. A registered worker may join again with another
/// http_server_port and netty_data_port. Any other new address is AXM_ERROR_ALREADY_EXISTS, unless
/// the workers run on Kubernetes (#axm_k8s_t). Succeeds and does nothing for a STATIC cluster,
/// because the hosts file defines its workers. Blocks.
///
/// \param membership A membership.
/// \param worker The worker.
/// \param options How it joins; NULL for the defaults.
/// \return NULL, or an error: AXM_ERROR_INVALID_ARGUMENT for the worker, also for a record that is
/// longer than etcd stores (1.5 MiB by default); AXM_ERROR_ALREADY_EXISTS; AXM_ERROR_CORRUPT if the
/// record that is stored under this identity cannot be read; AXM_ERROR_UNAVAILABLE,
/// AXM_ERROR_UNAUTHENTICATED, AXM_ERROR_PERMISSION_DENIED, AXM_ERROR_CLOSED, AXM_ERROR_FORKED.
#[must_use]
#[unsafe(no_mangle)]
pub extern "C" fn axm_membership_join(
    membership: *mut axm_membership_t,
    worker: *const axm_worker_t,
    options: *const axm_join_options_t,
) -> Option<Box<axm_error_t>> {
    guard(|| {
        let membership = shared(membership, "membership")?;
        let worker = to_worker(worker)?;
        let options = to_join_options(options)?;
        membership.run(|membership| async move { membership.join(&worker, &options).await })
    })
}

/// Lists workers of the cluster. Blocks when the library has no list that is fresh enough.
///
/// \param membership A membership.
/// \param filter Which workers to list.
/// \param[out] out The snapshot, for axm_snapshot_release.
/// \return NULL, or an error: AXM_ERROR_INVALID_ARGUMENT, AXM_ERROR_UNAVAILABLE,
/// AXM_ERROR_UNAUTHENTICATED, AXM_ERROR_PERMISSION_DENIED, AXM_ERROR_CLOSED, AXM_ERROR_FORKED.
#[must_use]
#[unsafe(no_mangle)]
pub extern "C" fn axm_membership_list(
    membership: Option<&axm_membership_t>,
    filter: numbers::axm_filter_t,
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

/// Returns the version that a list would have now. Takes nanoseconds.
///
/// For programs that derive data of their own from the list, and update it when the version
/// changes.
///
/// \param membership A membership, or NULL.
/// \return The version; 0 if axm_membership_list would block or fail, and for NULL.
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

/// Waits for a list of the cluster with a greater version.
///
/// The list may be of any age, whatever the configured read mode: axm_snapshot_age_ms returns the
/// age. Blocks, also while etcd does not answer: axm_membership_status shows that.
///
/// \param membership A membership.
/// \param filter Which workers to list.
/// \param version The version that the caller knows; 0 for none.
/// \param timeout_ms The limit in milliseconds; no limit if negative.
/// \param[out] out The snapshot, for axm_snapshot_release; NULL after the timeout.
/// \return NULL, or an error: AXM_ERROR_INVALID_ARGUMENT, AXM_ERROR_CLOSED, AXM_ERROR_FORKED.
#[must_use]
#[unsafe(no_mangle)]
pub extern "C" fn axm_membership_wait_for_change(
    membership: Option<&axm_membership_t>,
    filter: numbers::axm_filter_t,
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

/// Returns the table of all workers that "alluxio info nodes" prints. Blocks like
/// axm_membership_list.
///
/// \param membership A membership.
/// \param[out] out The table, for axm_string_free.
/// \return NULL, or an error: AXM_ERROR_INVALID_ARGUMENT, AXM_ERROR_UNAVAILABLE,
/// AXM_ERROR_UNAUTHENTICATED, AXM_ERROR_PERMISSION_DENIED, AXM_ERROR_CLOSED, AXM_ERROR_FORKED.
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

/// Removes a lost worker from the cluster.
///
/// Succeeds and does nothing in a STATIC and in a SERVICE_REGISTRY cluster, which have no record to
/// remove. Blocks.
///
/// \param membership A membership.
/// \param identity The identity of the worker, such as "worker-<uuid>".
/// \return NULL, or an error: AXM_ERROR_INVALID_ARGUMENT for a live or an unknown worker, and for a
/// text that is no identity; AXM_ERROR_UNAVAILABLE, AXM_ERROR_UNAUTHENTICATED,
/// AXM_ERROR_PERMISSION_DENIED, AXM_ERROR_CLOSED, AXM_ERROR_FORKED.
#[must_use]
#[unsafe(no_mangle)]
pub extern "C" fn axm_membership_remove(
    membership: *mut axm_membership_t,
    identity: *const c_char,
) -> Option<Box<axm_error_t>> {
    guard(|| {
        let membership = shared(membership, "membership")?;
        let identity = to_identity(identity, "identity")?;
        membership.run(|membership| async move { membership.remove(&identity).await })
    })
}

/// Ends the registration of one worker that this process registered. The worker is lost at once.
///
/// Succeeds and does nothing if this process has not registered the worker. Blocks.
///
/// \param membership A membership of the cluster.
/// \param identity The identity of the worker, such as "worker-<uuid>".
/// \return NULL, or an error: AXM_ERROR_INVALID_ARGUMENT; AXM_ERROR_UNAVAILABLE,
/// AXM_ERROR_UNAUTHENTICATED or AXM_ERROR_PERMISSION_DENIED, after which the lease runs out on its
/// own; AXM_ERROR_CLOSED, AXM_ERROR_FORKED.
#[must_use]
#[unsafe(no_mangle)]
pub extern "C" fn axm_membership_leave_worker(
    membership: *mut axm_membership_t,
    identity: *const c_char,
) -> Option<Box<axm_error_t>> {
    guard(|| {
        let membership = shared(membership, "membership")?;
        let identity = to_identity(identity, "identity")?;
        membership.run(|membership| async move { membership.leave_worker(&identity).await })
    })
}

/// Ends the registration of every worker that joined through this membership. They are lost at
/// once.
///
/// Blocks.
///
/// \param membership A membership.
/// \return NULL, or an error: AXM_ERROR_UNAVAILABLE, AXM_ERROR_UNAUTHENTICATED or
/// AXM_ERROR_PERMISSION_DENIED, after which a lease runs out on its own;
/// AXM_ERROR_INVALID_ARGUMENT, AXM_ERROR_CLOSED, AXM_ERROR_FORKED.
#[must_use]
#[unsafe(no_mangle)]
pub extern "C" fn axm_membership_leave(
    membership: *mut axm_membership_t,
) -> Option<Box<axm_error_t>> {
    guard(|| {
        let membership = shared(membership, "membership")?;
        membership.run(|membership| async move { membership.leave().await })
    })
}

/// Leaves and closes.
///
/// Running calls soon end with AXM_ERROR_CLOSED (\ref blocking names the exceptions), and so do all
/// later calls except this one, which succeeds again. The membership is closed even if leaving
/// fails; then the lease of a worker runs out on its own. The membership must still be freed; until
/// then the library follows the cluster. Blocks.
///
/// \param membership A membership.
/// \return NULL, or an error: AXM_ERROR_UNAVAILABLE, AXM_ERROR_UNAUTHENTICATED or
/// AXM_ERROR_PERMISSION_DENIED, after which the membership is closed too; AXM_ERROR_CLOSED after
/// axm_shutdown; AXM_ERROR_INVALID_ARGUMENT, AXM_ERROR_FORKED.
#[must_use]
#[unsafe(no_mangle)]
pub extern "C" fn axm_membership_close(
    membership: *mut axm_membership_t,
) -> Option<Box<axm_error_t>> {
    guard(|| {
        let membership = shared(membership, "membership")?;
        membership.run(|membership| async move { membership.close().await })?;
        *membership.listings.lock() = Listings::default();
        Ok(())
    })
}

/// Frees a membership, and closes it first if it is open. Snapshots stay.
///
/// Blocks if it closes the membership. The error of closing is logged only.
///
/// \param membership A membership, or NULL.
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

/// Frees a text that a function handed out through an out-parameter.
///
/// \param text A text, or NULL.
#[unsafe(no_mangle)]
pub extern "C" fn axm_string_free(text: *mut c_char) {
    free_text(text);
}
