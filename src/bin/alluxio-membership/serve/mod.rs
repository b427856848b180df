//! `serve`: shows one cluster to browsers, to Prometheus and to programs, over HTTP. Read-only.

mod api;
mod clients;
mod details;
mod feed;
mod metrics;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use sd_notify::NotifyState;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::Context;
use crate::cli::ServeOptions;
use crate::output::{self, Failure, Outcome, Stop};
use crate::signals::Signals;
use crate::systemd;
use details::Details;
use feed::Feed;

pub async fn run(context: &Context, options: &ServeOptions) -> Result<Outcome, Stop> {
    let mut signals = Signals::new()?;
    let (listener, address) = listen(options.listen).await.map_err(|error| {
        let text = format!("cannot listen on {}: {error}", options.listen);
        Failure::new(Outcome::Failed, text)
    })?;
    let feed = Arc::new(Feed::new(context, options.worker_series));
    let stopping = CancellationToken::new();
    // Cancelled whichever way the function ends, so that no task outlives the command.
    let _stop_on_return = stopping.clone().drop_guard();
    let following = tokio::spawn(feed.clone().follow(stopping.clone()));
    let details = Arc::new(Details::new(context.membership.clone()));
    let router = api::router(feed, details, stopping.clone());
    let serving = tokio::spawn(clients::serve(listener, router, stopping.clone()));

    let started = format!("Serving the cluster at http://{address}/\n");
    let printing = tokio::spawn(output::print_aside(started));
    systemd::notify(&[NotifyState::Ready]);
    signals.next().await;
    systemd::notify(&[NotifyState::Stopping]);
    stopping.cancel();
    printing.abort();
    let _ = tokio::join!(following, serving);
    Ok(Outcome::Done)
}

async fn listen(address: SocketAddr) -> io::Result<(TcpListener, SocketAddr)> {
    let listener = TcpListener::bind(address).await?;
    let address = listener.local_addr()?;
    Ok((listener, address))
}
