//! The Tokio runtime of the process, for callers that are not async: the C and the Java bindings.
//!
//! The runtime has one thread. The first use starts it, and it ends when nothing uses it any more.
//! Blocking work has its own threads (see [`crate::aside`]).

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::aside::{bug, exhausted, panic_text, start_thread};
use crate::error::{Error, ErrorKind, Result};
use crate::etcd::Clusters;

const LONGEST_SHUTDOWN: Duration = Duration::from_secs(3600);
/// The time that tasks and the thread get to end after the deadline.
const LEAST_SHUTDOWN: Duration = Duration::from_millis(100);
/// How often an unused runtime checks whether a cluster is still in use.
const IDLE_CHECK: Duration = Duration::from_secs(1);

/// The process that uses the runtime; 0 before the first use.
static OWNER: AtomicU32 = AtomicU32::new(0);
static STATE: Mutex<State> = Mutex::new(State::Idle);
/// Locked during a shutdown.
static SHUTDOWN: Mutex<()> = Mutex::new(());

enum State {
    /// The next use starts a runtime.
    Idle,
    Running(Arc<Shared>),
    /// The runtime never starts again.
    ShutDown,
}

/// A use of the runtime. The runtime runs while a use exists, or while a cluster is kept after its
/// last manager was closed.
pub(crate) struct Runtime {
    shared: Arc<Shared>,
}

struct Shared {
    handle: tokio::runtime::Handle,
    clusters: Arc<Clusters>,
    uses: AtomicUsize,
    /// Notified when the last use ends.
    unused: Notify,
    is_shut_down: AtomicBool,
    /// Notified when the thread must end.
    end: Notify,
    thread: Mutex<Option<Thread>>,
}

/// The thread of a runtime.
struct Thread {
    handle: JoinHandle<()>,
    /// Disconnected when every task has ended.
    ended: Receiver<()>,
}

/// Returns the runtime, and starts it if it does not run.
///
/// # Errors
///
/// Fails if its thread cannot be started, in a process that was forked after the first use, and
/// after [`shut_down`].
pub(crate) fn runtime() -> Result<Runtime> {
    // Checked before the lock, because a lock that was held during a fork is never released in the
    // child.
    if OWNER.load(Ordering::Relaxed) == 0 {
        // Another thread of this process may set it first.
        let process = std::process::id();
        let _ = OWNER.compare_exchange(0, process, Ordering::Relaxed, Ordering::Relaxed);
    }
    check_not_forked()?;
    let mut state = STATE.lock();
    match &*state {
        State::Running(shared) => Ok(Runtime::of(shared)),
        State::ShutDown => Err(shut_down_already()),
        State::Idle => {
            let shared = Shared::start()?;
            *state = State::Running(shared.clone());
            Ok(Runtime::of(&shared))
        }
    }
}

/// Ends all registrations, then the runtime and all its connections, for good. Has no effect if the
/// runtime was never used.
pub(crate) fn shut_down(timeout: Duration) -> Result<()> {
    check_not_forked()?;
    if tokio::runtime::Handle::try_current().is_ok() {
        return Err(Error::new(
            ErrorKind::InvalidArgument,
            "A thread of the membership library cannot shut it down",
        ));
    }
    if OWNER.load(Ordering::Relaxed) == 0 {
        return Ok(());
    }
    let deadline = Instant::now() + timeout.min(LONGEST_SHUTDOWN);
    // A second caller waits until the first caller's shutdown has ended.
    let Some(_only_one) = SHUTDOWN.try_lock_until(deadline) else {
        return Err(Error::new(
            ErrorKind::Unavailable,
            "Another thread is still shutting down the membership library",
        ));
    };
    let before = std::mem::replace(&mut *STATE.lock(), State::ShutDown);
    match before {
        State::Running(shared) => Runtime::of(&shared).shut_down(deadline, timeout),
        State::Idle | State::ShutDown => Ok(()),
    }
}

/// Fails in a process that was forked after the first use. Unlike [`runtime`], it does not start
/// the runtime.
pub(crate) fn check_not_forked() -> Result<()> {
    let owner = OWNER.load(Ordering::Relaxed);
    if owner != 0 && owner != std::process::id() {
        return Err(Error::new(
            ErrorKind::Forked,
            "This process was forked after the membership library was first used in its parent; \
             the library works in the parent only. Fork first, or exec a new program in the child.",
        ));
    }
    Ok(())
}

fn shut_down_already() -> Error {
    Error::new(
        ErrorKind::Closed,
        "The membership library of this process was shut down",
    )
}

impl Shared {
    /// Creates a runtime and its thread. Tokio's own threads are unsuitable, because Tokio panics
    /// if it cannot start them.
    fn start() -> Result<Arc<Shared>> {
        let tokio = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| exhausted("Failed to start the membership library".into(), &error))?;
        let shared = Arc::new(Shared {
            handle: tokio.handle().clone(),
            clusters: Arc::default(),
            uses: AtomicUsize::new(0),
            unused: Notify::new(),
            is_shut_down: AtomicBool::new(false),
            end: Notify::new(),
            thread: Mutex::default(),
        });
        let (running, ended) = sync_channel(0);
        let run = {
            let shared = shared.clone();
            move || {
                let _running: std::sync::mpsc::SyncSender<()> = running;
                tokio.block_on(shared.until_end());
                // Ends every task, and does not wait for Tokio's own threads.
                tokio.shutdown_background();
            }
        };
        let handle = start_thread("axm-runtime", "the membership library", run)?;
        *shared.thread.lock() = Some(Thread { handle, ended });
        Ok(shared)
    }

    /// Returns when nothing uses the runtime any more, or when it is shut down.
    async fn until_end(self: &Arc<Self>) {
        let unused = async {
            loop {
                self.unused.notified().await;
                while self.uses.load(Ordering::Acquire) == 0 {
                    tokio::time::sleep(IDLE_CHECK).await;
                    if self.retire() {
                        return;
                    }
                }
            }
        };
        tokio::select! {
            () = unused => {}
            () = self.end.notified() => {}
        }
    }

    /// Lets the next use start another runtime if nothing uses this one: no caller, and no cluster.
    fn retire(self: &Arc<Self>) -> bool {
        let mut state = STATE.lock();
        let retires = matches!(&*state, State::Running(running) if Arc::ptr_eq(running, self))
            && self.uses.load(Ordering::Acquire) == 0
            && !self.clusters.in_use();
        if retires {
            *state = State::Idle;
        }
        retires
    }
}

impl Runtime {
    fn of(shared: &Arc<Shared>) -> Runtime {
        shared.uses.fetch_add(1, Ordering::AcqRel);
        Runtime {
            shared: shared.clone(),
        }
    }

    /// Fails in a forked process, and after [`shut_down`].
    pub(crate) fn check(&self) -> Result<()> {
        check_not_forked()?;
        if self.shared.is_shut_down.load(Ordering::Acquire) {
            return Err(shut_down_already());
        }
        Ok(())
    }

    /// Returns the clusters, which all managers of the process share.
    pub(crate) fn clusters(&self) -> Arc<Clusters> {
        self.shared.clusters.clone()
    }

    /// Starts a task. The task is a use of the runtime.
    pub(crate) fn spawn<F>(&self, task: F) -> tokio::task::JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        let in_use = self.clone();
        self.shared.handle.spawn(async move {
            let _in_use = in_use;
            task.await
        })
    }

    /// Runs a task on the runtime and blocks the calling thread until the task ends. The task never
    /// runs on the calling thread, because that thread may have a small stack and its own signal
    /// mask.
    pub(crate) fn block_on<T, F>(&self, task: F) -> Result<T>
    where
        F: Future<Output = Result<T>> + Send + 'static,
        T: Send + 'static,
    {
        // The runtime drops the sender when it is shut down.
        let ended = self.start_task(Box::pin(task)).recv();
        ended.unwrap_or_else(|_| Err(shut_down_already()))
    }

    /// Starts a task and returns a channel for its result. The task is boxed, because each function
    /// that passes an unboxed task on copies it to the caller's stack, and tasks are large.
    fn start_task<T: Send + 'static>(
        &self,
        task: Pin<Box<dyn Future<Output = Result<T>> + Send>>,
    ) -> Receiver<Result<T>> {
        let (sender, receiver) = sync_channel(1);
        let task = self.spawn(task);
        self.spawn(async move {
            let result = match task.await {
                Ok(result) => result,
                Err(error) => Err(ended_early(error)),
            };
            let _ = sender.send(result);
        });
        receiver
    }

    fn shut_down(&self, deadline: Instant, timeout: Duration) -> Result<()> {
        self.shared.is_shut_down.store(true, Ordering::Release);
        let clusters = self.clusters();
        let left = self
            .start_task(Box::pin(async move {
                clusters.leave_all(deadline.into()).await
            }))
            // Leaving respects the deadline, but it may wait for a call without a deadline, and a
            // callback may block the thread.
            .recv_timeout(deadline.saturating_duration_since(Instant::now()) + LEAST_SHUTDOWN)
            .unwrap_or_else(|_| {
                Err(Error::new(
                    ErrorKind::Unavailable,
                    format!("Ending the registrations takes longer than {timeout:?}"),
                ))
            });
        self.shared.end.notify_one();
        let thread = self.shared.thread.lock().take();
        if let Some(Thread { handle, ended }) = thread {
            let remaining = deadline.saturating_duration_since(Instant::now());
            let ended = ended.recv_timeout(remaining.max(LEAST_SHUTDOWN));
            if ended != Err(RecvTimeoutError::Timeout) {
                let _ = handle.join();
            }
        }
        left
    }
}

impl Clone for Runtime {
    fn clone(&self) -> Runtime {
        Runtime::of(&self.shared)
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        if self.shared.uses.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.shared.unused.notify_one();
        }
    }
}

/// The error of a task that did not finish: it panicked, or the runtime ended.
pub(crate) fn ended_early(error: tokio::task::JoinError) -> Error {
    match error.try_into_panic() {
        Ok(panic) => bug(panic_text(&*panic)),
        Err(_) => shut_down_already(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn new_runtime() -> Runtime {
        Runtime::of(&Shared::start().expect("a runtime"))
    }

    fn shut_down(runtime: &Runtime, timeout: Duration) -> Result<()> {
        runtime.shut_down(Instant::now() + timeout, timeout)
    }

    #[test]
    fn a_shutdown_does_not_wait_for_a_thread_that_is_held_up() {
        let runtime = new_runtime();
        let barrier = || Arc::new(std::sync::Barrier::new(2));
        let (held, released) = (barrier(), barrier());
        {
            let (held, released) = (held.clone(), released.clone());
            runtime.spawn(async move {
                held.wait();
                released.wait();
            });
        }
        held.wait();
        let error = shut_down(&runtime, Duration::from_millis(1));
        assert_eq!(error.unwrap_err().kind(), ErrorKind::Unavailable);
        released.wait();
    }

    #[test]
    fn tasks_end_with_the_runtime() {
        let runtime = new_runtime();
        let waiting = {
            let runtime = runtime.clone();
            std::thread::spawn(move || runtime.block_on(std::future::pending::<Result<()>>()))
        };
        assert!(shut_down(&runtime, Duration::from_secs(60)).is_ok());
        assert_eq!(
            waiting.join().unwrap().unwrap_err().kind(),
            ErrorKind::Closed
        );
        assert_eq!(runtime.check().unwrap_err().kind(), ErrorKind::Closed);
    }

    #[test]
    fn panics_of_tasks_are_errors() {
        let error = new_runtime().block_on::<(), _>(async { panic!("of a test") });
        let error = error.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Internal);
        assert_eq!(
            error.to_string(),
            "A bug in the membership library: of a test"
        );
    }
}
