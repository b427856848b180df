//! Blocking work on its own threads.
//!
//! Tokio panics if it cannot start a thread for blocking work, or never runs the work. This module
//! returns an error instead.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::{io, thread};

use tokio::sync::oneshot;

use crate::error::{Error, ErrorKind, Result};
use crate::runtime::with_signals_blocked;

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
            Err(_) => Err(bug("a thread ended early")),
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

/// The error for a thread or a descriptor that the system does not grant.
pub(crate) fn exhausted(failed: String, error: &io::Error) -> Error {
    Error::new(
        ErrorKind::ResourceExhausted,
        format!(
            "{failed}: {error}. The limits are the process limits (ulimit -u, ulimit -n), those of the control group \
             (pids.max) and those of the system."
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
