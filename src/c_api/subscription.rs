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
use super::snapshot::{axm_member_t, axm_snapshot_t};
use crate::aside::start_thread;
use crate::error::Result;
use crate::log;
use crate::membership::Membership;
use crate::runtime::{Runtime, check_not_forked};
use crate::view::{Change, ChangeKind, ClusterView, MemberFilter};

/// What happened to a worker. Later versions may add events.
#[repr(C)]
pub enum axm_event_t {
    /// It is new to the subscription.
    AXM_EVENT_ADDED = 1,
    /// It is no longer listed.
    AXM_EVENT_REMOVED = 2,
    /// It was lost and is live again.
    AXM_EVENT_LIVE = 3,
    /// It was live and is lost.
    AXM_EVENT_LOST = 4,
    /// It is as live as before, under another address.
    AXM_EVENT_MOVED = 5,
}

impl From<ChangeKind> for axm_event_t {
    fn from(kind: ChangeKind) -> Self {
        match kind {
            ChangeKind::Added => axm_event_t::AXM_EVENT_ADDED,
            ChangeKind::Removed => axm_event_t::AXM_EVENT_REMOVED,
            ChangeKind::Live => axm_event_t::AXM_EVENT_LIVE,
            ChangeKind::Lost => axm_event_t::AXM_EVENT_LOST,
            ChangeKind::Moved => axm_event_t::AXM_EVENT_MOVED,
        }
    }
}

/// Called for each change: with the user_data of axm_membership_subscribe, an AXM_EVENT_* value, the worker as it is now
/// (as it was, if it was removed), and the registered workers after the change and all others reported with it, as
/// AXM_FILTER_ALL lists them. Changes reported together come in the order of the workers' identities, not of time. A live
/// worker that is not registered counts too, but is not in the snapshot; that it is registered now, or no longer, is not
/// reported. The member lives during the call only; so does the snapshot, unless it is kept with axm_snapshot_retain.
pub type axm_event_callback_t = Option<
    unsafe extern "C" fn(
        user_data: *mut c_void,
        event: i32,
        member: *const axm_member_t,
        snapshot: *const axm_snapshot_t,
    ),
>;

/// A callback that changes are reported to until it is freed.
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

// SAFETY: the header says that the callback is called, with the user data, on a thread of the library.
unsafe impl Send for Subscriber {}

impl Subscriber {
    fn report(&self, change: &Change, snapshot: &Arc<axm_snapshot_t>) {
        let member = axm_member_t::new(&change.member);
        let event = axm_event_t::from(change.kind) as i32;
        let snapshot = Arc::as_ptr(snapshot);
        // SAFETY: the caller gave a function of this type, and keeps the user data until the subscription is freed; the
        // other pointers are valid during the call, which is all the header promises.
        unsafe { (self.callback)(self.user_data, event, &member, snapshot) };
    }
}

/// Subscribes to the changes of the cluster. The callback first gets AXM_EVENT_ADDED for each listed worker, then
/// each change. Changes that come faster than the callback takes them may be reported as one.
///
/// The callback runs on a thread of the subscription's own, one call at a time, and may use the library as any thread
/// may, close the membership included. It ends, without a report, when the membership is closed; while etcd does not
/// answer, nothing changes, and axm_membership_status says so. The user data must live until axm_subscription_free has returned.
///
/// Errors: INVALID_ARGUMENT, CLOSED, FORKED, RESOURCE_EXHAUSTED (the thread cannot be started).
#[must_use]
#[unsafe(no_mangle)]
pub extern "C" fn axm_membership_subscribe(
    membership: Option<&axm_membership_t>,
    callback: axm_event_callback_t,
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

/// Fails when no change is reported any more: the membership is closed, the library was shut down, this process was
/// forked.
fn check_open(membership: &Membership, runtime: &Runtime) -> Result<()> {
    runtime.check()?;
    membership.view_age().map(drop)
}

/// Reports changes until it is asked to stop or the membership is closed, and not in a process that a callback forked.
fn report_all(
    membership: &Membership,
    runtime: &Runtime,
    subscriber: &Subscriber,
    stop: &Arc<Stop>,
) -> Result<()> {
    let mut known = Arc::new(ClusterView::default());
    loop {
        let (watched, stopped, version) = (membership.clone(), stop.clone(), known.version());
        let newer = runtime.block_on(async move {
            tokio::select! {
                newer = watched.wait_for_change(version, Duration::MAX) => newer,
                () = stopped.wake.notified() => Ok(None),
            }
        })?;
        if let Some(newer) = newer {
            let snapshot = Arc::new(axm_snapshot_t::new(&newer, MemberFilter::All));
            for change in newer.changes_since(&known) {
                if stop.requested.load(Ordering::Acquire) {
                    return Ok(());
                }
                check_open(membership, runtime)?;
                subscriber.report(&change, &snapshot);
            }
            known = newer;
        }
        if stop.requested.load(Ordering::Acquire) {
            return Ok(());
        }
    }
}

/// Ends a subscription and frees it. Blocks until a running call of the callback has returned; after that, there is none.
/// From inside the callback itself it does not wait: the running call is then the last one. Nor does it from the log
/// callback, where the running call may end later.
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
