//! Work that may block, on a thread of its own: the program must notice signals and renew leases meanwhile.

use std::{io, thread};

use tokio::sync::oneshot;

/// Runs the work and waits for it. Fails if the thread cannot be started, or panics. Work that is given up goes on until
/// the program ends.
pub async fn aside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> io::Result<T> {
    let (sender, done) = oneshot::channel();
    thread::Builder::new()
        .name("aside".to_owned())
        .spawn(move || {
            // No receiver: the work was given up.
            let _ = sender.send(work());
        })?;
    done.await.map_err(io::Error::other)
}
