//! `join`: keeps a worker registered for as long as the program runs.

use alluxio_membership::config::Backend;
use alluxio_membership::membership;
use alluxio_membership::worker::{Worker, WorkerIdentity, WorkerNetAddress};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::Context;
use crate::cli::JoinOptions;
use crate::identity_file;
use crate::output::{self, Failure, Outcome, Stop};

pub async fn run(context: &Context, options: &JoinOptions) -> Result<Outcome, Stop> {
    // From here on a signal means: leave.
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
            membership.close().await?;
            return Err(Failure::new(Outcome::Failed, format!("{name} before the worker had joined")).into());
        }
    }
    let place = format!(
        "{} at {}:{}",
        worker.identity, options.host, options.rpc_port
    );
    // A worker does not end because nobody reads this any more.
    let _ = output::print(format!("Joined {}: {place}\n", etcd.cluster_name));

    let name = signals.next().await;
    if membership.leaves_on_shutdown() {
        membership.close().await?;
        let _ = output::print(format!("Left after {name}: {place}\n"));
    } else {
        let _ = output::print(format!(
            "Ended after {name}, listed until its lease ends: {place}\n"
        ));
        // Dropping the membership would leave.
        std::process::exit(Outcome::Done as i32);
    }
    Ok(Outcome::Done)
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

/// The signals that ask a program to end.
pub struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
}

impl Signals {
    pub fn new() -> Result<Self, Stop> {
        let listen = |kind| {
            signal(kind).map_err(|error| {
                Stop::from(Failure::new(Outcome::Failed, format!("signals: {error}")))
            })
        };
        Ok(Signals {
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
            hangup: listen(SignalKind::hangup())?,
        })
    }

    /// Waits for one, and returns its name.
    pub async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.interrupt.recv() => "SIGINT",
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.hangup.recv() => "SIGHUP",
        }
    }
}
