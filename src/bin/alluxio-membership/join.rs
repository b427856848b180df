//! `join`: keeps a worker registered for as long as the program runs.

use std::time::Duration;

use alluxio_membership::config::Backend;
use alluxio_membership::membership::{self, Membership};
use alluxio_membership::text::Safe;
use alluxio_membership::worker::{Worker, WorkerIdentity, WorkerNetAddress};
use sd_notify::NotifyState;
use tokio::time::Instant;

use crate::Context;
use crate::cli::JoinOptions;
use crate::identity_file;
use crate::output::{self, Failure, Outcome, Stop};
use crate::signals::Signals;
use crate::systemd;

/// How long the last line waits for a stalled reader.
const PATIENCE: Duration = Duration::from_secs(5);
/// The least time for leaving, whatever further signals arrive. A closed terminal and a supervisor
/// may both send a signal for the same stop.
const AT_LEAST: Duration = Duration::from_secs(1);

pub async fn run(context: &Context, options: &JoinOptions) -> Result<Outcome, Stop> {
    // From here on, a signal ends the registration.
    let mut signals = Signals::new()?;
    let Backend::Etcd(etcd) = &context.config.backend else {
        let text = "The workers of a STATIC cluster are those of its hosts file; none can join.";
        return Err(Failure::new(Outcome::Failed, text).into());
    };
    let worker = Worker {
        identity: identity(options)?,
        address: address(options),
    };
    let membership = &context.membership;
    let join_options = membership::JoinOptions::default();
    tokio::select! {
        joined = membership.join(&worker, &join_options) => joined?,
        name = signals.next() => {
            leave(membership, &mut signals).await?;
            let text = format!("{name} before the worker had joined");
            return Err(Failure::new(Outcome::Failed, text).into());
        }
    }
    let place = format!(
        "{} at {}:{}",
        worker.identity,
        Safe(&options.host),
        options.rpc_port
    );
    let cluster = Safe(&etcd.cluster_name);
    // The worker continues if the reader of this line has gone, and does not wait for a slow
    // reader.
    let joined = format!("Joined {cluster}: {place}\n");
    let joined = tokio::spawn(async move {
        if let Err(Stop::Failed(failure)) = output::print_aside(joined).await {
            log::warn!("{failure}");
        }
    });
    systemd::notify(&[NotifyState::Ready]);

    let name = signals.next().await;
    systemd::notify(&[NotifyState::Stopping]);
    let leaves = membership.leaves_on_shutdown();
    let last = if leaves {
        leave(membership, &mut signals).await?;
        format!("Left after {name}: {place}\n")
    } else {
        format!("Ended after {name}, listed until its lease ends: {place}\n")
    };
    let printing = async {
        let _ = joined.await;
        let _ = output::print_aside(last).await;
    };
    let _ = tokio::time::timeout(PATIENCE, printing).await;
    if !leaves {
        // Dropping the last manager would leave.
        std::mem::forget(membership.clone());
    }
    Ok(Outcome::Done)
}

/// Leaves, for as long as etcd takes. A second signal ends the wait.
async fn leave(membership: &Membership, signals: &mut Signals) -> Result<(), Stop> {
    let start = Instant::now();
    let second = async {
        let name = signals.next().await;
        tokio::time::sleep_until(start + AT_LEAST).await;
        name
    };
    tokio::select! {
        left = membership.close() => Ok(left?),
        name = second => {
            let text = format!(
                "{name} while leaving: the worker may be listed as live until its lease ends"
            );
            Err(Failure::new(Outcome::Failed, text).into())
        }
    }
}

fn identity(options: &JoinOptions) -> Result<WorkerIdentity, Stop> {
    match (&options.identity.id, &options.identity.identity_file) {
        (Some(identity), _) => Ok(*identity),
        (None, Some(file)) => identity_file::read_or_create(file).map_err(|error| {
            Failure::new(Outcome::Failed, format!("{}: {error}", file.display())).into()
        }),
        (None, None) => Err(Failure::new(Outcome::Failed, "no identity is given").into()),
    }
}

fn address(options: &JoinOptions) -> WorkerNetAddress {
    WorkerNetAddress {
        host: Some(options.host.clone()),
        container_host: Some(options.container_host.clone()),
        rpc_port: options.rpc_port.into(),
        data_port: options.data_port.into(),
        secure_rpc_port: options.secure_rpc_port.into(),
        netty_data_port: options.netty_data_port.into(),
        web_port: options.web_port.into(),
        domain_socket_path: Some(options.domain_socket_path.clone()),
        http_server_port: options.http_server_port.into(),
    }
}
