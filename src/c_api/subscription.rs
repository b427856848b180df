//! `axm_subscription_t`: changes, reported to a callback.

use std::ffi::c_void;
use std::mem::{self, MaybeUninit};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tokio::sync::Notify;

use super::convert::required;
use super::error::{axm_error_t, guard};
use super::log::in_callback;
use super::membership::axm_membership_t;
use super::numbers;
use super::snapshot::{axm_member_t, axm_snapshot_t};
use crate::aside::start_thread;
use crate::error::Result;
use crate::log;
use crate::membership::Membership;
use crate::runtime::{Runtime, check_not_forked};
use crate::view::{Change, ChangeKind, ClusterView, MemberFilter};

/// What happened to a worker. Later versions may add kinds.
#[repr(i32)]
pub enum axm_change_kind_t {
    /// The worker is new to the subscription.
    AXM_CHANGE_ADDED = 1,
    /// The worker is no longer listed.
    AXM_CHANGE_REMOVED = 2,
    /// The worker was lost and is live again.
    AXM_CHANGE_LIVE = 3,
    /// The worker was live and is lost.
    AXM_CHANGE_LOST = 4,
    /// The worker has another address, and the state that it had before.
    AXM_CHANGE_MOVED = 5,
}

impl From<ChangeKind> for axm_change_kind_t {
    fn from(kind: ChangeKind) -> Self {
        match kind {
            ChangeKind::Added => axm_change_kind_t::AXM_CHANGE_ADDED,
            ChangeKind::Removed => axm_change_kind_t::AXM_CHANGE_REMOVED,
            ChangeKind::Live => axm_change_kind_t::AXM_CHANGE_LIVE,
            ChangeKind::Lost => axm_change_kind_t::AXM_CHANGE_LOST,
            ChangeKind::Moved => axm_change_kind_t::AXM_CHANGE_MOVED,
        }
    }
}

/// Called for each change.
///
/// Changes that are reported together come in the order of the identities, not of time. A live
/// worker that is not registered is reported too, but is not in the snapshot. That such a worker
/// registers, or stops being registered, is not reported.
///
/// \param user_data The user_data of axm_membership_subscribe.
/// \param kind What happened.
/// \param member The worker as it is now; if it was removed, as it was. Lives during the call only.
/// \param snapshot The registered workers after this change and all others that are reported with
/// it, as #AXM_FILTER_ALL lists them. Lives during the call only, unless axm_snapshot_retain keeps
/// it.
pub type axm_change_callback_t = Option<
    unsafe extern "C" fn(
        user_data: *mut c_void,
        kind: numbers::axm_change_kind_t,
        member: *const axm_member_t,
        snapshot: *const axm_snapshot_t,
    ),
>;

/// A callback that gets the changes of a cluster until the subscription is freed.
pub struct axm_subscription_t {
    stop: Arc<Stop>,
    thread: JoinHandle<()>,
}

#[derive(Default)]
struct Stop {
    requested: AtomicBool,
    wake: Notify,
}

struct Subscriber {
    callback: unsafe extern "C" fn(*mut c_void, i32, *const axm_member_t, *const axm_snapshot_t),
    user_data: *mut c_void,
}

// SAFETY: the header says that a thread of the library calls the callback with the user data.
unsafe impl Send for Subscriber {}

impl Subscriber {
    fn report(&self, change: &Change, snapshot: &Arc<axm_snapshot_t>) {
        let member = axm_member_t::new(&change.member);
        let kind = axm_change_kind_t::from(change.kind) as i32;
        let snapshot = Arc::as_ptr(snapshot);
        // SAFETY: the caller passed a function of this type, and keeps the user data until the
        // subscription is freed. The other pointers are valid during the call, as the header
        // promises.
        unsafe { (self.callback)(self.user_data, kind, &member, snapshot) };
    }
}

/// Subscribes to the changes of the cluster.
///
/// The callback first gets AXM_CHANGE_ADDED for each listed worker, then each change. Changes that
/// come faster than the callback returns may be reported as one.
///
/// The subscription has a thread, which runs one call of the callback at a time. The callback may
/// use the library like any other thread, and may close the membership. The subscription ends
/// without a call when the membership is closed. While etcd does not answer there are no changes;
/// axm_membership_status shows that.
///
/// \param membership A membership.
/// \param callback The callback.
/// \param user_data For the callback. Must live until axm_subscription_free has returned.
/// \param[out] out The subscription, for axm_subscription_free.
/// \return NULL, or an error: AXM_ERROR_RESOURCE_EXHAUSTED if the thread cannot start;
/// AXM_ERROR_INVALID_ARGUMENT, AXM_ERROR_CLOSED, AXM_ERROR_FORKED.
#[must_use]
#[unsafe(no_mangle)]
pub extern "C" fn axm_membership_subscribe(
    membership: Option<&axm_membership_t>,
    callback: axm_change_callback_t,
    user_data: *mut c_void,
    out: Option<&mut MaybeUninit<*mut axm_subscription_t>>,
) -> Option<Box<axm_error_t>> {
    guard(|| {
        let membership = required(membership, "membership")?;
        let subscriber = Subscriber {
            callback: required(callback, "callback")?,
            user_data,
        };
        let out = required(out, "out")?;
        let (membership, runtime) = (membership.core().clone(), membership.runtime()?.clone());
        check_open(&membership, &runtime)?;
        let stop = Arc::new(Stop::default());
        let run = {
            let stop = stop.clone();
            move || {
                if let Err(error) = report_all(&membership, &runtime, &subscriber, &stop) {
                    log::debug!("A subscription ended: {error}");
                }
            }
        };
        let thread = start_thread("axm-events", "a subscription", run)?;
        out.write(Box::into_raw(Box::new(axm_subscription_t { stop, thread })));
        Ok(())
    })
}

/// Fails when no change is reported any more: the membership is closed, the library was shut down,
/// this process was forked.
fn check_open(membership: &Membership, runtime: &Runtime) -> Result<()> {
    runtime.check()?;
    membership.view_age().map(drop)
}

/// Reports changes until it is asked to stop or the membership is closed, and not in a process that
/// a callback forked.
fn report_all(
    membership: &Membership,
    runtime: &Runtime,
    subscriber: &Subscriber,
    stop: &Arc<Stop>,
) -> Result<()> {
    let mut known = Arc::new(ClusterView::default());
    let mut reported = None;
    loop {
        let (watched, stopped, version) = (membership.clone(), stop.clone(), known.version());
        let newer = runtime.block_on(async move {
            tokio::select! {
                newer = watched.wait_for_change(version, Duration::MAX) => newer,
                () = stopped.wake.notified() => Ok(None),
            }
        })?;
        if let Some(newer) = newer {
            let snapshot = axm_snapshot_t::new(&newer, MemberFilter::All, &reported);
            let snapshot = Arc::new(snapshot);
            for change in newer.changes_since(&known) {
                if stop.requested.load(Ordering::Acquire) {
                    return Ok(());
                }
                check_open(membership, runtime)?;
                subscriber.report(&change, &snapshot);
            }
            known = newer;
            reported = Some(snapshot);
        }
        if stop.requested.load(Ordering::Acquire) {
            return Ok(());
        }
    }
}

/// Ends a subscription and frees it.
///
/// Blocks until a running call of the callback has returned. No call starts after that. Inside the
/// callback itself, this function does not wait: the running call is the last one. In the log
/// callback it does not wait either, and a running call may end later.
///
/// \param subscription A subscription, or NULL.
#[unsafe(no_mangle)]
pub extern "C" fn axm_subscription_free(subscription: Option<Box<axm_subscription_t>>) {
    let Some(subscription) = subscription else {
        return;
    };
    drop(guard(|| {
        if check_not_forked().is_err() {
            // Its thread is not in this process, so no thread can wait for it.
            mem::forget(subscription);
            return Ok(());
        }
        let axm_subscription_t { stop, thread } = *subscription;
        stop.requested.store(true, Ordering::Release);
        stop.wake.notify_one();
        // The log callback may be what its thread waits for.
        if thread.thread().id() != thread::current().id() && !in_callback() {
            // A bug that ended the thread was printed by its panic hook.
            let _ = thread.join();
        }
        Ok(())
    }));
}
