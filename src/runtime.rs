//! The one Tokio runtime of the process, for callers that are not async: the C and the Java door.

use std::future::Future;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::error::{Error, ErrorKind, Result};
use crate::etcd::Clusters;

/// The runtime and what lives on it.
pub(crate) struct Runtime {
    tokio: tokio::runtime::Runtime,
    clusters: Clusters,
}

static RUNTIME: once_cell::sync::OnceCell<Runtime> = once_cell::sync::OnceCell::new();

/// The process that uses the runtime; 0 before anybody does.
static OWNER: AtomicU32 = AtomicU32::new(0);

/// The runtime, started at the first call. Fails if its threads cannot be started, and in a process that was forked
/// after the start.
pub(crate) fn runtime() -> Result<&'static Runtime> {
    // Asked before the cell: in a process forked during the start, nobody is left to finish it.
    if !this_process_is_the_owner() {
        return Err(Error::new(
            ErrorKind::Forked,
            "This process was forked after the membership library was first used in its parent; \
             the library works in the parent only. Fork first, or exec a new program in the child.",
        ));
    }
    RUNTIME.get_or_try_init(Runtime::start)
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
            tokio,
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
        self.tokio.spawn(task)
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
            Ok(Err(error)) => Err(Error::new(
                ErrorKind::Internal,
                format!("A task of the membership library ended early: {error}"),
            )),
            Err(_) => Err(Error::new(
                ErrorKind::Internal,
                "The membership library's runtime was stopped",
            )),
        }
    }
}

/// Blocks, on the calling thread, SIGPIPE and every signal that is sent to the process.
///
/// A library cannot rely on the host ignoring SIGPIPE: a write to a connection that etcd closed would end the process.
/// The host's other signals are for the host's threads: a host that blocks them later, to wait for them with sigwait,
/// would be ended by one that arrives here. Signals that say what the thread itself did, and a profiler's, stay.
#[allow(unsafe_code)]
fn block_signals() {
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
