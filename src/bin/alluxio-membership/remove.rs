//! `remove`: takes a lost worker out of the cluster, by the rules and with the words of `alluxio process remove-worker`.

use std::io::{self, IsTerminal, Write};

use alluxio_membership::config::{Backend, EtcdConfig};
use alluxio_membership::view::Member;
use alluxio_membership::worker::WorkerState;

use crate::Context;
use crate::cli::RemoveOptions;
use crate::output::{self, Failure, Outcome, Stop};

pub async fn run(context: &Context, options: &RemoveOptions) -> Result<Outcome, Stop> {
    let identity = options.identity;
    let Backend::Etcd(EtcdConfig {
        service_registry: false,
        cluster_name,
        ..
    }) = &context.config.backend
    else {
        let text = "There is nothing to remove: only an ETCD cluster remembers lost workers.";
        return Err(Failure::new(Outcome::Failed, text).into());
    };
    let on_terminal = io::stdin().is_terminal() && io::stderr().is_terminal();
    if on_terminal && !options.yes {
        let view = context.membership.view().await?;
        // For any other, decommission has the right words.
        if let Some(member) = view.find(&identity)
            && member.state == WorkerState::Lost
            && !confirmed(cluster_name, member).await?
        {
            return Err(Failure::new(Outcome::Failed, "Nothing was removed.").into());
        }
    }
    context.membership.decommission(&identity).await?;
    output::print(format!("Successfully removed worker: {identity}\n"))?;
    Ok(Outcome::Done)
}

async fn confirmed(cluster_name: &str, member: &Member) -> Result<bool, Stop> {
    let question = format!(
        "Remove {} ({}, {}) from cluster {cluster_name}? [y/N] ",
        member.worker.identity,
        output::address(member),
        member.state.status(),
    );
    let answer = tokio::task::spawn_blocking(move || {
        let mut stderr = io::stderr();
        stderr.write_all(question.as_bytes())?;
        stderr.flush()?;
        let mut answer = String::new();
        io::stdin().read_line(&mut answer)?;
        Ok::<String, io::Error>(answer)
    });
    let answer = answer
        .await
        .map_err(io::Error::other)
        .and_then(|answer| answer)
        .map_err(|error| Failure::new(Outcome::Failed, format!("standard input: {error}")))?;
    let answer = answer.trim().to_ascii_lowercase();
    Ok(answer == "y" || answer == "yes")
}
