//! The operations that Java threads started, and their replies.
//!
//! Java chooses the ids, waits in Java, and learns from [`poll`] which operations have finished. A
//! reply stays until Java releases the operation, so a Java thread without memory for the reply can
//! fetch it again.

use std::collections::{HashMap, VecDeque};
use std::future::Future;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use tokio::task::AbortHandle;

use super::session_of;
use super::wire::{self, Reply};
use crate::aside::{bug, panic_text};
use crate::error::{Error, ErrorKind, Result};
use crate::log;
use crate::runtime::runtime;

static OPERATIONS: LazyLock<Operations> = LazyLock::new(Operations::default);

#[derive(Default)]
struct Operations {
    table: Mutex<Table>,
    /// Notified when an operation has finished, and by [`wake_polls`].
    finished: Condvar,
}

#[derive(Default)]
struct Table {
    operations: HashMap<i64, Operation>,
    /// Operations that have finished since the last poll.
    finished: VecDeque<i64>,
    /// The number of calls of [`wake_polls`].
    wakes: u64,
}

enum Operation {
    /// Without the handle while the task is being started.
    Running(Option<AbortHandle>),
    /// No caller waits for the operation. Its error is logged.
    Detached,
    Finished(Reply),
}

/// Finishes its operation when it is dropped, if not earlier. A runtime that ends drops its tasks.
struct Unfinished(i64);

impl Unfinished {
    fn finish(self, reply: Result<Reply>) {
        OPERATIONS.finish(self.0, reply);
        std::mem::forget(self);
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        let error = Error::new(
            ErrorKind::Closed,
            "The membership library of this process was shut down",
        );
        OPERATIONS.finish(self.0, Err(error));
    }
}

impl Operations {
    fn finish(&self, id: i64, result: Result<Reply>) {
        let mut table = self.table.lock();
        match table.operations.get_mut(&id) {
            Some(operation @ Operation::Running(_)) => {
                let reply = result.unwrap_or_else(|error| wire::error(&error));
                *operation = Operation::Finished(reply);
                table.finished.push_back(id);
                drop(table);
                self.finished.notify_all();
            }
            Some(Operation::Detached) => {
                // Logged before the operation is removed: Java's log thread runs until then.
                if let Err(error) = result {
                    log::warn!("A call whose caller was interrupted has failed: {error}");
                }
                table.operations.remove(&id);
            }
            Some(Operation::Finished(_)) | None => {}
        }
    }
}

/// Starts the work on the runtime under an unused id. A panic becomes an error.
pub(super) fn start<F>(id: i64, work: F)
where
    F: Future<Output = Result<Reply>> + Send + 'static,
{
    let mut table = OPERATIONS.table.lock();
    table.operations.insert(id, Operation::Running(None));
    drop(table);
    let unfinished = Unfinished(id);
    let runtime = match runtime() {
        Ok(runtime) => runtime,
        Err(error) => return unfinished.finish(Err(error)),
    };
    let task = runtime.spawn(work);
    let abort = task.abort_handle();
    runtime.spawn(async move {
        match task.await {
            Ok(result) => unfinished.finish(result),
            Err(ended) => match ended.try_into_panic() {
                Ok(payload) => unfinished.finish(Err(bug(panic_text(&*payload)))),
                Err(_) => drop(unfinished),
            },
        }
    });
    let mut table = OPERATIONS.table.lock();
    match table.operations.get_mut(&id) {
        Some(Operation::Running(handle)) => *handle = Some(abort),
        Some(Operation::Detached | Operation::Finished(_)) => {}
        // Only the thread that starts an operation releases it.
        None => abort.abort(),
    }
}

/// Adds an operation that has failed.
pub(super) fn fail(id: i64, error: Error) {
    let mut table = OPERATIONS.table.lock();
    table.operations.insert(id, Operation::Running(None));
    drop(table);
    OPERATIONS.finish(id, Err(error));
}

/// Waits until operations of the session have finished, and writes their ids. Returns the number of
/// ids, which is 0 after the timeout and after [`wake_polls`].
pub(super) fn poll(session: i64, ids: &mut [i64], timeout: Duration) -> usize {
    let deadline = Instant::now() + timeout;
    let mut table = OPERATIONS.table.lock();
    let wakes = table.wakes;
    loop {
        let mut found = 0;
        table.finished.retain(|&id| {
            let taken = found < ids.len() && session_of(id) == session;
            if taken {
                ids[found] = id;
                found += 1;
            }
            !taken
        });
        if found > 0
            || table.wakes != wakes
            || OPERATIONS
                .finished
                .wait_until(&mut table, deadline)
                .timed_out()
        {
            return found;
        }
    }
}

/// Ends the waits of [`poll`].
pub(super) fn wake_polls() {
    OPERATIONS.table.lock().wakes += 1;
    OPERATIONS.finished.notify_all();
}

/// Returns the reply, or `None` while the operation is running.
pub(super) fn reply(id: i64) -> Option<Reply> {
    match OPERATIONS.table.lock().operations.get(&id) {
        Some(Operation::Finished(reply)) => Some(reply.clone()),
        Some(_) => None,
        None => Some(wire::error(&bug(&format!("operation {id} does not exist")))),
    }
}

/// Removes the operation and its reply. Stops an operation that is running.
pub(super) fn release(id: i64) {
    let mut table = OPERATIONS.table.lock();
    let operation = table.operations.remove(&id);
    // The caller may be faster than the poll thread.
    table.finished.retain(|&finished| finished != id);
    drop(table);
    if let Some(Operation::Running(Some(task))) = operation {
        task.abort();
    }
}

/// Continues the operation without a caller, and logs its error. Returns false if the operation has
/// finished.
pub(super) fn detach(id: i64) -> bool {
    let mut table = OPERATIONS.table.lock();
    match table.operations.get_mut(&id) {
        Some(operation @ Operation::Running(_)) => {
            *operation = Operation::Detached;
            true
        }
        _ => false,
    }
}

/// Returns whether the session has operations that are running or have a reply.
pub(super) fn any(session: i64) -> bool {
    let table = OPERATIONS.table.lock();
    let mut ids = table.operations.keys();
    ids.any(|&id| session_of(id) == session)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{RecvTimeoutError, sync_channel};

    use super::super::SESSION_SHIFT;
    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    /// Returns an id. Each test has its own session.
    fn id(session: i64, number: i64) -> i64 {
        (session << SESSION_SHIFT) + number
    }

    fn finished(session: i64) -> Vec<i64> {
        let mut ids = [0; 8];
        let found = poll(session, &mut ids, LONG);
        ids[..found].to_vec()
    }

    #[test]
    fn a_poll_gets_the_operations_of_its_session() {
        let (first, second) = (id(101, 1), id(102, 1));
        for id in [first, second] {
            start(id, async { Ok(wire::nothing()) });
        }
        assert_eq!(finished(102), [second]);
        assert_eq!(finished(101), [first]);
        assert_eq!(poll(101, &mut [0], Duration::ZERO), 0);
        for _ in 0..2 {
            assert_eq!(reply(first), Some(wire::nothing()));
        }
        release(first);
        assert!(!any(101) && any(102));
        release(second);
    }

    #[test]
    fn a_panic_is_the_error_of_its_operation() {
        let id = id(103, 1);
        start(id, async { panic!("of the {}", "test") });
        assert_eq!(finished(103), [id]);
        let reply = reply(id).expect("a reply");
        assert!(String::from_utf8_lossy(&reply).contains("of the test"));
        release(id);
    }

    #[test]
    fn a_released_operation_is_stopped() {
        let (running, ended) = sync_channel::<()>(0);
        start(id(104, 1), async move {
            let _running = running;
            std::future::pending().await
        });
        release(id(104, 1));
        assert!(!any(104));
        assert_eq!(
            ended.recv_timeout(LONG),
            Err(RecvTimeoutError::Disconnected)
        );
    }

    #[test]
    fn a_detached_operation_ends_without_a_caller() {
        let (go, goes) = tokio::sync::oneshot::channel::<()>();
        start(id(105, 1), async move {
            let _ = goes.await;
            Ok(wire::nothing())
        });
        assert!(detach(id(105, 1)));
        assert!(any(105));
        assert!(go.send(()).is_ok());
        let deadline = Instant::now() + LONG;
        while any(105) {
            assert!(Instant::now() < deadline, "the operation does not end");
            std::thread::yield_now();
        }
        fail(id(105, 2), bug("of the test"));
        assert!(!detach(id(105, 2)), "the operation has finished");
        release(id(105, 2));
    }
}
