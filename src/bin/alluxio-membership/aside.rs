//! Runs blocking work on a separate thread, so that the program notices signals and renews leases
//! meanwhile.

use std::{io, thread};

use tokio::sync::oneshot;

/// Runs the work and waits for it. Fails if the thread cannot start, or panics. If the caller stops
/// waiting, the work continues until the program ends.
pub async fn aside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> io::Result<T> {
    let (sender, done) = oneshot::channel();
    thread::Builder::new()
        .name("aside".to_owned())
        .spawn(move || {
            // Without a receiver, the caller has stopped waiting.
            let _ = sender.send(work());
        })?;
    done.await.map_err(io::Error::other)
}
