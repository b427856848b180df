//! Blocking work on its own threads.
//!
//! Tokio panics if it cannot start a thread for blocking work, or never runs the work. This module
//! returns an error instead.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::{io, thread};

use tokio::sync::oneshot;

use crate::error::{Error, ErrorKind, Result};

/// Blocking work that runs on its own thread. Dropping this does not stop the work.
pub(crate) struct Aside<T>(oneshot::Receiver<thread::Result<T>>);

/// Starts blocking work on a new thread. `what` says in errors what the thread is for, such as
/// "reading files".
///
/// The caller limits how many threads it starts, and how long it waits for them.
///
/// # Errors
///
/// `ResourceExhausted` if the thread cannot be started. The work is then dropped.
pub(crate) fn start<T: Send + 'static>(
    what: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<Aside<T>> {
    let (sender, receiver) = oneshot::channel();
    start_thread("axm-aside", what, move || {
        // Without a receiver, the caller has given up.
        let _ = sender.send(catch_unwind(AssertUnwindSafe(work)));
    })?;
    Ok(Aside(receiver))
}

impl<T> Aside<T> {
    /// Waits for the work to end.
    ///
    /// # Errors
    ///
    /// `Internal` if the work panicked.
    pub(crate) async fn end(self) -> Result<T> {
        match self.0.await {
            Ok(Ok(done)) => Ok(done),
            Ok(Err(panic)) => Err(bug(panic_text(&*panic))),
            // The thread always sends a result.
            Err(_) => Err(bug("a thread ended without a result")),
        }
    }
}

/// Starts a thread of the library, which blocks the host's signals.
pub(crate) fn start_thread(
    name: &str,
    what: &str,
    run: impl FnOnce() + Send + 'static,
) -> Result<thread::JoinHandle<()>> {
    let thread = thread::Builder::new().name(name.to_owned());
    with_signals_blocked(|| thread.spawn(run))
        .map_err(|error| exhausted(format!("Failed to start a thread for {what}"), &error))
}

/// Starts threads of the library through `start`. These threads, and threads that they start, block
/// SIGPIPE and every signal that is sent to the process.
///
/// SIGPIPE: a write to a connection that etcd closed would end the process, unless the host ignores
/// SIGPIPE. Other signals: they belong to the host's threads. If the host blocks a signal later, to
/// wait for it with sigwait, an unblocked signal in a thread of the library would end the process.
/// Signals that a thread causes itself, and the signal of a profiler, stay unblocked.
///
/// A new thread cannot block the signals itself, because a signal may arrive before it does so.
#[allow(unsafe_code)]
fn with_signals_blocked<T>(start: impl FnOnce() -> T) -> T {
    /// Restores the signal mask of the calling thread, also after a panic.
    struct Restore(libc::sigset_t);

    impl Drop for Restore {
        fn drop(&mut self) {
            // SAFETY: the set is the earlier mask of this thread, and only this thread's mask
            // changes.
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
    // SAFETY: a set is plain numbers, for which zeros are valid. sigfillset initializes the first
    // set before its use, and pthread_sigmask the second. pthread_sigmask cannot fail with these
    // arguments, and it changes only the calling thread's mask.
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

/// The error for a thread or a descriptor that the system does not grant.
pub(crate) fn exhausted(failed: String, error: &io::Error) -> Error {
    Error::new(
        ErrorKind::ResourceExhausted,
        format!(
            "{failed}: {error}. Check the limits of the process (ulimit -u, ulimit -n), of the \
             control group (pids.max) and of the system."
        ),
    )
}

/// Returns the message of a panic.
pub(crate) fn panic_text(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("a panic without a message")
}

/// The error for a caught panic, or for a state that should be impossible.
pub(crate) fn bug(text: &str) -> Error {
    Error::new(
        ErrorKind::Internal,
        format!("A bug in the membership library: {text}"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn panics_become_internal_errors_with_their_text() {
        async fn error_of(panic: impl FnOnce() + Send + 'static) -> (ErrorKind, String) {
            let error = start("a test", panic).unwrap().end().await.unwrap_err();
            (error.kind(), error.to_string())
        }
        let internal = |text: &str| {
            let text = format!("A bug in the membership library: {text}");
            (ErrorKind::Internal, text)
        };
        assert_eq!(error_of(|| panic!("plain")).await, internal("plain"));
        let number = 7;
        let formatted = error_of(move || panic!("number {number}")).await;
        assert_eq!(formatted, internal("number 7"));
        let no_text = error_of(move || std::panic::panic_any(number)).await;
        assert_eq!(no_text, internal("a panic without a message"));
        assert_eq!(start("a test", || 7).unwrap().end().await.unwrap(), 7);
    }
}
