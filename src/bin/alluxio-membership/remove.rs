//! `remove`: takes a lost worker out of the cluster, by the rules and with the words of `alluxio process remove-worker`.

use std::fs::File;
use std::io::{self, BufRead, BufReader, IsTerminal, Write};

use alluxio_membership::config::{Backend, EtcdConfig};
use alluxio_membership::text::Safe;
use alluxio_membership::view::Member;
use alluxio_membership::worker::WorkerState;

use crate::Context;
use crate::aside::aside;
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
    // Somebody types here, wherever the output goes.
    if io::stdin().is_terminal() && !options.yes {
        let view = context.membership.view().await?;
        // For any other, remove() has the right words.
        if let Some(member) = view.find(&identity)
            && member.state == WorkerState::Lost
            && !confirmed(cluster_name, member).await?
        {
            return Err(Failure::new(Outcome::Failed, "Nothing was removed.").into());
        }
    }
    context.membership.remove(&identity).await?;
    output::print(format!("Successfully removed worker: {identity}\n"))?;
    Ok(Outcome::Done)
}

async fn confirmed(cluster_name: &str, member: &Member) -> Result<bool, Stop> {
    let question = format!(
        "Remove {} ({}, {}) from cluster {}? [y/N] ",
        member.worker.identity,
        output::address(member),
        member.state.status(),
        Safe(cluster_name),
    );
    let answer = aside(move || {
        let mut terminal = File::options().read(true).write(true).open("/dev/tty")?;
        terminal.write_all(question.as_bytes())?;
        let mut answer = String::new();
        BufReader::new(terminal).read_line(&mut answer)?;
        Ok::<String, io::Error>(answer)
    });
    let answer = answer.await.and_then(|answer| answer).map_err(|error| {
        let text = format!("/dev/tty: {error}. --yes removes without asking.");
        Failure::new(Outcome::Failed, text)
    })?;
    let answer = answer.trim().to_ascii_lowercase();
    Ok(answer == "y" || answer == "yes")
}
