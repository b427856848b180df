//! Restarts tasks after a bug.

use std::fmt::Display;

use tokio::task::JoinSet;

use super::endpoints::retry_delays;
use crate::log;

/// Runs a task while this future runs. If the task panics, it is restarted after a pause.
pub(super) async fn keep_running<F>(what: impl Display, run: impl Fn() -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    for delay in retry_delays() {
        // The task ends when this is dropped.
        let mut task = JoinSet::new();
        task.spawn(run());
        if let Some(Err(error)) = task.join_next().await {
            log::error!("A bug stopped {what}, which is restarted: {error}");
        }
        tokio::time::sleep(delay).await;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::sync::mpsc;

    use super::*;

    #[tokio::test]
    async fn what_panics_is_restarted() {
        let (sender, mut events) = mpsc::channel(1);
        let begun = AtomicUsize::new(0);
        let run = || {
            let is_first = begun.fetch_add(1, Ordering::Relaxed) == 0;
            let sender = sender.clone();
            async move {
                assert!(!is_first, "a bug of a test");
                let _ = sender.send("it runs").await;
            }
        };
        tokio::select! {
            () = keep_running("a test", run) => panic!("it goes on"),
            event = events.recv() => assert_eq!(event, Some("it runs")),
        }
    }
}
