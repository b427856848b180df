//! The connections of `serve`: bounded in number, in time and in what each may leave unread.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use tokio_io_timeout::TimeoutStream;
use tokio_util::sync::CancellationToken;

/// The maximum number of clients. Further clients wait in the kernel's queue.
const MOST_CLIENTS: usize = 4096;
/// The time limit for the head of a request, also on a kept connection.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// The longest time in which a client reads nothing before it is dropped.
const WRITE_TIMEOUT: Duration = Duration::from_secs(20);
/// The time limit for running answers after the program was asked to stop.
const LAST_ANSWERS: Duration = Duration::from_millis(500);
/// The pause after a connection could not be accepted, as when no file descriptor is free.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// Raises the limit of open files to the system's maximum. Each client needs one file, and the
/// usual limit is 1024.
fn raise_file_limit() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        ..limit
    };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        log::debug!("Failed to raise the limit of open files: {error}");
    }
}

/// Serves clients until `stopping`.
pub async fn serve(listener: TcpListener, router: Router, stopping: CancellationToken) {
    raise_file_limit();
    let clients = Arc::new(Semaphore::new(MOST_CLIENTS));
    let graceful = GracefulShutdown::new();
    let mut can_accept = true;
    loop {
        let accepted = tokio::select! {
            () = stopping.cancelled() => break,
            accepted = async {
                let permit = clients.clone().acquire_owned().await;
                (permit, listener.accept().await)
            } => accepted,
        };
        let (permit, stream) = match accepted {
            (Ok(permit), Ok((stream, _))) => (permit, stream),
            (_, Err(error)) => {
                if std::mem::replace(&mut can_accept, false) {
                    log::warn!("Failed to accept a client: {error}; trying again");
                }
                sleep(ACCEPT_PAUSE).await;
                continue;
            }
            // The semaphore is never closed.
            (Err(_), _) => break,
        };
        can_accept = true;
        let connection = builder()
            .serve_connection(
                TokioIo::new(limited(stream)),
                TowerToHyperService::new(router.clone()),
            )
            .into_owned();
        let connection = graceful.watch(connection);
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                log::debug!("A client's connection ended: {error}");
            }
            drop(permit);
        });
    }
    let _ = timeout(LAST_ANSWERS, graceful.shutdown()).await;
}

fn builder() -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new()).http1_only();
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT);
    builder
}

fn limited(stream: TcpStream) -> std::pin::Pin<Box<TimeoutStream<TcpStream>>> {
    // Changes are small and urgent.
    let _ = stream.set_nodelay(true);
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(WRITE_TIMEOUT));
    Box::pin(stream)
}
