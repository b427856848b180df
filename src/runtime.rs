//! The one Tokio runtime of the process, for callers that are not async: the C and the Java door.

use std::future::Future;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::error::{Error, ErrorKind, Result};
use crate::etcd::Clusters;

/// The runtime and what lives on it.
pub(crate) struct Runtime {
    handle: tokio::runtime::Handle,
    /// Gone when the library was shut down.
    tokio: Mutex<Option<tokio::runtime::Runtime>>,
    shut_down: AtomicBool,
    clusters: Clusters,
}

const LONGEST_SHUTDOWN: Duration = Duration::from_secs(3600);
/// Threads that only have to notice get this long even when the time is over.
const LEAST_SHUTDOWN: Duration = Duration::from_millis(100);

static RUNTIME: once_cell::sync::OnceCell<Runtime> = once_cell::sync::OnceCell::new();

/// The process that uses the runtime; 0 before anybody does.
static OWNER: AtomicU32 = AtomicU32::new(0);

/// The runtime, started at the first call. Fails if its threads cannot be started, in a process that was forked after the
/// start, and after [`shut_down`].
pub(crate) fn runtime() -> Result<&'static Runtime> {
    check_owner()?;
    let runtime = RUNTIME.get_or_try_init(Runtime::start)?;
    if runtime.shut_down.load(Ordering::Acquire) {
        return Err(shut_down_already());
    }
    Ok(runtime)
}

/// Ends all registrations and then the runtime, for good. Does nothing if there is none.
pub(crate) fn shut_down(timeout: Duration) -> Result<()> {
    check_owner()?;
    if tokio::runtime::Handle::try_current().is_ok() {
        return Err(Error::new(
            ErrorKind::InvalidArgument,
            "A thread of the membership library cannot shut it down",
        ));
    }
    let Some(runtime) = RUNTIME.get() else {
        return Ok(());
    };
    if runtime.shut_down.swap(true, Ordering::AcqRel) {
        return Ok(());
    }
    let start = Instant::now();
    let left = runtime.block_on(async move {
        let deadline = tokio::time::Instant::now() + timeout.min(LONGEST_SHUTDOWN);
        runtime.clusters.leave_all(deadline).await
    });
    let tokio = runtime.tokio.lock().take();
    if let Some(tokio) = tokio {
        tokio.shutdown_timeout(timeout.saturating_sub(start.elapsed()).max(LEAST_SHUTDOWN));
    }
    left
}

/// Fails in a process that was forked after the start.
fn check_owner() -> Result<()> {
    // Asked before the cell: in a process forked during the start, nobody is left to finish it.
    if !this_process_is_the_owner() {
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

fn this_process_is_the_owner() -> bool {
    let process = std::process::id();
    let owner = match OWNER.load(Ordering::Relaxed) {
        0 => OWNER
            .compare_exchange(0, process, Ordering::Relaxed, Ordering::Relaxed)
            .map_or_else(|owner| owner, |_| process),
        owner => owner,
    };
    owner == process
}

impl Runtime {
    fn start() -> Result<Runtime> {
        let workers = std::thread::available_parallelism()
            .map_or(1, usize::from)
            .min(2);
        let tokio = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(workers)
            .max_blocking_threads(4)
            .thread_name("axm-runtime")
            .on_thread_start(block_signals)
            .enable_all()
            .build()
            .map_err(|error| {
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
        let (sender, receiver) = std::sync::mpsc::sync_channel(1);
        let task = self.spawn(task);
        self.spawn(async move {
            let _ = sender.send(task.await);
        });
        match receiver.recv() {
            Ok(Ok(result)) => result,
            Ok(Err(error)) if error.is_panic() => Err(Error::new(
                ErrorKind::Internal,
                format!("A task of the membership library ended early: {error}"),
            )),
            // Nothing else ends a task early.
            Ok(Err(_)) | Err(_) => Err(shut_down_already()),
        }
    }
}

/// Blocks, on the calling thread, SIGPIPE and every signal that is sent to the process.
///
/// A library cannot rely on the host ignoring SIGPIPE: a write to a connection that etcd closed would end the process.
/// The host's other signals are for the host's threads: a host that blocks them later, to wait for them with sigwait,
/// would be ended by one that arrives here. Signals that say what the thread itself did, and a profiler's, stay.
#[allow(unsafe_code)]
pub(crate) fn block_signals() {
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
    // SAFETY: the set is initialized by sigfillset before use, and only the calling thread's own mask changes.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigfillset(&mut set);
        for signal in OWN {
            libc::sigdelset(&mut set, signal);
        }
        libc::pthread_sigmask(libc::SIG_BLOCK, &set, std::ptr::null_mut());
    }
}
