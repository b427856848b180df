//! The one Tokio runtime of the process, for callers that are not async: the C and the Java door.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::error::{Error, ErrorKind, Result};
use crate::etcd::Clusters;

/// The runtime and what lives on it.
pub(crate) struct Runtime {
    handle: tokio::runtime::Handle,
    /// Gone when the library was shut down. Locked while that is under way.
    tokio: Mutex<Option<tokio::runtime::Runtime>>,
    shut_down: AtomicBool,
    clusters: Clusters,
}

const LONGEST_SHUTDOWN: Duration = Duration::from_secs(3600);
/// What only has to notice that the time is over gets this long for it.
const LEAST_SHUTDOWN: Duration = Duration::from_millis(100);

static RUNTIME: once_cell::sync::OnceCell<Runtime> = once_cell::sync::OnceCell::new();

/// The process that uses the runtime; 0 before anybody does.
static OWNER: AtomicU32 = AtomicU32::new(0);

/// The runtime, started at the first call. Fails if its threads cannot be started, in a process that was forked after the
/// start, and after [`shut_down`].
pub(crate) fn runtime() -> Result<&'static Runtime> {
    // Asked before the cell: in a process forked during the start, nobody is left to finish it.
    if OWNER.load(Ordering::Relaxed) == 0 {
        // Another thread may be first; it is of this process too.
        let process = std::process::id();
        let _ = OWNER.compare_exchange(0, process, Ordering::Relaxed, Ordering::Relaxed);
    }
    check_not_forked()?;
    let runtime = RUNTIME.get_or_try_init(Runtime::start)?;
    if runtime.shut_down.load(Ordering::Acquire) {
        return Err(shut_down_already());
    }
    Ok(runtime)
}

/// Ends all registrations and then the runtime, for good. Does nothing if there is none.
pub(crate) fn shut_down(timeout: Duration) -> Result<()> {
    check_not_forked()?;
    if tokio::runtime::Handle::try_current().is_ok() {
        return Err(Error::new(
            ErrorKind::InvalidArgument,
            "A thread of the membership library cannot shut it down",
        ));
    }
    RUNTIME
        .get()
        .map_or(Ok(()), |runtime| runtime.shut_down(timeout))
}

/// Fails in a process that was forked after the start. Unlike [`runtime`], starts nothing.
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

impl Runtime {
    fn start() -> Result<Runtime> {
        let workers = std::thread::available_parallelism()
            .map_or(1, usize::from)
            .min(2);
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        builder
            .worker_threads(workers)
            .max_blocking_threads(16)
            .thread_name("axm-runtime")
            .enable_all();
        // Only these threads start more of them, which inherit what is blocked.
        let tokio = with_signals_blocked(|| builder.build()).map_err(|error| {
            Error::new(
                ErrorKind::Internal,
                format!("Failed to start the threads of the membership library: {error}"),
            )
        })?;
        Ok(Runtime {
            handle: tokio.handle().clone(),
            tokio: Mutex::new(Some(tokio)),
            shut_down: AtomicBool::new(false),
            clusters: Clusters::default(),
        })
    }

    /// The clusters shared by all managers of the process.
    pub(crate) fn clusters(&self) -> &Clusters {
        &self.clusters
    }

    /// Starts a task.
    pub(crate) fn spawn<F>(&self, task: F) -> tokio::task::JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.handle.spawn(task)
    }

    /// Runs a task on the runtime and blocks the calling thread until it ends. The task never runs on the calling
    /// thread, whose stack may be small and whose signals are its own.
    pub(crate) fn block_on<T, F>(&self, task: F) -> Result<T>
    where
        F: Future<Output = Result<T>> + Send + 'static,
        T: Send + 'static,
    {
        // The runtime drops the sender when it is shut down.
        let ended = self.start_task(Box::pin(task)).recv();
        ended.unwrap_or_else(|_| Err(shut_down_already()))
    }

    /// Starts a task, and says how it ended. It comes in a box since tasks are large, and each function that one is handed
    /// through as it is has it on the caller's stack once more.
    fn start_task<T: Send + 'static>(
        &self,
        task: Pin<Box<dyn Future<Output = Result<T>> + Send>>,
    ) -> Receiver<Result<T>> {
        let (sender, receiver) = sync_channel(1);
        let task = self.spawn(task);
        self.spawn(async move {
            let result = match task.await {
                Ok(result) => result,
                Err(error) if error.is_panic() => Err(Error::new(
                    ErrorKind::Internal,
                    format!("A task of the membership library ended early: {error}"),
                )),
                // Nothing else ends a task early.
                Err(_) => Err(shut_down_already()),
            };
            let _ = sender.send(result);
        });
        receiver
    }

    fn shut_down(&'static self, timeout: Duration) -> Result<()> {
        let deadline = Instant::now() + timeout.min(LONGEST_SHUTDOWN);
        // Whoever comes second waits for the first, and must not say earlier that all is over.
        let Some(mut tokio) = self.tokio.try_lock_until(deadline) else {
            return Err(Error::new(
                ErrorKind::Unavailable,
                "Another thread is still shutting the membership library down",
            ));
        };
        if tokio.is_none() {
            return Ok(());
        }
        self.shut_down.store(true, Ordering::Release);
        let left = self
            .start_task(Box::pin(async move {
                self.clusters.leave_all(deadline.into()).await
            }))
            // Leaving knows the deadline, but may wait for a call that does not, and threads may be held up by a callback.
            .recv_timeout(deadline.saturating_duration_since(Instant::now()) + LEAST_SHUTDOWN)
            .unwrap_or_else(|_| {
                Err(Error::new(
                    ErrorKind::Unavailable,
                    format!("Ending the registrations takes longer than {timeout:?}"),
                ))
            });
        if let Some(tokio) = tokio.take() {
            let remaining = deadline.saturating_duration_since(Instant::now());
            tokio.shutdown_timeout(remaining.max(LEAST_SHUTDOWN));
        }
        left
    }
}

/// Starts threads of the library: what `start` runs, and every thread started by it or by such a thread, has SIGPIPE and
/// every signal that is sent to the process blocked.
///
/// A library cannot rely on the host ignoring SIGPIPE: a write to a connection that etcd closed would end the process.
/// The host's other signals are for the host's threads: a host that blocks them later, to wait for them with sigwait,
/// would be ended by one that arrives here. Signals that say what the thread itself did, and a profiler's, stay.
///
/// A new thread that blocked them itself would have a moment before that.
#[allow(unsafe_code)]
pub(crate) fn with_signals_blocked<T>(start: impl FnOnce() -> T) -> T {
    /// Gives the calling thread its signals back, after a panic too.
    struct Restore(libc::sigset_t);

    impl Drop for Restore {
        fn drop(&mut self) {
            // SAFETY: the set is the mask that this thread had, and only this thread's mask changes.
            unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &self.0, std::ptr::null_mut()) };
        }
    }

    const OWN: [libc::c_int; 8] = [
        libc::SIGABRT,
        libc::SIGBUS,
        libc::SIGFPE,
        libc::SIGILL,
        libc::SIGPROF,
        libc::SIGSEGV,
        libc::SIGSYS,
        libc::SIGTRAP,
    ];
    // SAFETY: a set is plain numbers, for which zeros are valid. The first is filled in by sigfillset before use, the
    // second by pthread_sigmask, which cannot fail on such arguments and changes the calling thread's own mask only.
    let _restore = unsafe {
        let mut blocked: libc::sigset_t = std::mem::zeroed();
        let mut before: libc::sigset_t = std::mem::zeroed();
        libc::sigfillset(&mut blocked);
        for signal in OWN {
            libc::sigdelset(&mut blocked, signal);
        }
        libc::pthread_sigmask(libc::SIG_BLOCK, &blocked, &mut before);
        Restore(before)
    };
    start()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn new_runtime() -> &'static Runtime {
        Box::leak(Box::new(Runtime::start().expect("a runtime")))
    }

    #[test]
    fn a_second_shutdown_succeeds_after_the_first_only() {
        let runtime = new_runtime();
        let first = runtime.tokio.lock();
        let error = runtime.shut_down(Duration::from_millis(1));
        assert_eq!(error.unwrap_err().kind(), ErrorKind::Unavailable);
        assert!(!runtime.shut_down.load(Ordering::Acquire));
        drop(first);
        assert!(runtime.shut_down(Duration::MAX).is_ok());
        assert!(runtime.tokio.lock().is_none());
        assert!(runtime.shut_down(Duration::ZERO).is_ok());
    }

    #[test]
    fn a_shutdown_does_not_wait_for_a_thread_that_is_held_up() {
        let runtime = new_runtime();
        let threads = runtime.handle.metrics().num_workers();
        let barrier = || std::sync::Arc::new(std::sync::Barrier::new(threads + 1));
        let (held, released) = (barrier(), barrier());
        for _ in 0..threads {
            let (held, released) = (held.clone(), released.clone());
            runtime.spawn(async move {
                held.wait();
                released.wait();
            });
        }
        held.wait();
        let error = runtime.shut_down(Duration::from_millis(1));
        assert_eq!(error.unwrap_err().kind(), ErrorKind::Unavailable);
        released.wait();
    }

    #[test]
    fn tasks_end_with_the_runtime() {
        let runtime = new_runtime();
        let waiting = std::thread::spawn(|| runtime.block_on(std::future::pending::<Result<()>>()));
        assert!(runtime.shut_down(Duration::from_secs(60)).is_ok());
        assert_eq!(
            waiting.join().unwrap().unwrap_err().kind(),
            ErrorKind::Closed
        );
    }
}
