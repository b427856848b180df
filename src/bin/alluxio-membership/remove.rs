//! `remove`: removes lost workers from the cluster, with the rules and texts of `alluxio process
//! remove-worker`.

use std::fs::File;
use std::io::{self, BufRead, BufReader, IsTerminal, Write};
use std::time::Duration;

use alluxio_membership::config::{Backend, EtcdConfig};
use alluxio_membership::error::ErrorKind;
use alluxio_membership::text::Safe;
use alluxio_membership::view::{ClusterView, Member, MemberFilter};
use alluxio_membership::worker::{WorkerIdentity, WorkerState};
use tokio::time::Instant;

use crate::Context;
use crate::aside::aside;
use crate::cli::RemoveOptions;
use crate::nodes::plural;
use crate::output::{self, Failure, Outcome, Stop};
use crate::selection;

pub async fn run(context: &Context, options: &RemoveOptions) -> Result<Outcome, Stop> {
    let Backend::Etcd(EtcdConfig {
        service_registry: false,
        cluster_name,
        ..
    }) = &context.config.backend
    else {
        let text = "There is nothing to remove: only an ETCD cluster remembers lost workers.";
        return Err(Failure::new(Outcome::Failed, text).into());
    };
    match options.identity {
        Some(identity) => remove_one(context, options, cluster_name, identity).await,
        None => remove_lost(context, options, cluster_name).await,
    }
}

async fn remove_one(
    context: &Context,
    options: &RemoveOptions,
    cluster_name: &str,
    identity: WorkerIdentity,
) -> Result<Outcome, Stop> {
    // A person uses this terminal, wherever the output goes.
    if io::stdin().is_terminal() && !options.yes {
        let view = context.membership.view().await?;
        // For any other worker, remove() returns the right error.
        if let Some(member) = view.find(&identity)
            && member.state == WorkerState::Lost
        {
            let what = format!(
                "{} ({}, {})",
                member.worker.identity,
                output::address(member),
                member.state.status()
            );
            confirm(format!(
                "Remove {what} from cluster {}? [y/N] ",
                Safe(cluster_name)
            ))
            .await?;
        }
    }
    context.membership.remove(&identity).await?;
    removed(&identity)?;
    Ok(Outcome::Done)
}

async fn remove_lost(
    context: &Context,
    options: &RemoveOptions,
    cluster_name: &str,
) -> Result<Outcome, Stop> {
    if !options.yes && !io::stdin().is_terminal() {
        let text = "Nothing was removed: --lost asks on a terminal only; --yes does not ask.";
        return Err(Failure::new(Outcome::Failed, text).into());
    }
    let lost = match options.lost_for {
        None => lost(&*context.membership.view().await?, options),
        Some(time) => lost_all_the_time(context, options, time).await?,
    };
    if lost.is_empty() {
        output::note("No worker is to be removed.");
        return Ok(Outcome::Done);
    }
    if !options.yes {
        let rows = lost.iter().map(|member| {
            let identity = member.worker.identity;
            format!("  {identity}  {}\n", output::address(member))
        });
        let count = lost.len();
        confirm(format!(
            "{}Remove {} {} from cluster {}? [y/N] ",
            rows.collect::<String>(),
            plural(count, "this", "these"),
            plural(count, "worker", &format!("{count} workers")),
            Safe(cluster_name),
        ))
        .await?;
    }
    let mut outcome = Outcome::Done;
    for member in lost {
        let identity = &member.worker.identity;
        match context.membership.remove(identity).await {
            Ok(()) => removed(identity)?,
            // The worker returned, or another process has removed it.
            Err(error) if error.kind() == ErrorKind::InvalidArgument => {
                output::complain(error);
                outcome = Outcome::Failed;
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(outcome)
}

/// The lost workers with the selected host.
fn lost(view: &ClusterView, options: &RemoveOptions) -> Vec<Member> {
    let lost = view.members(MemberFilter::Lost).iter();
    lost.filter(|member| selection::has_host(member, options.host.as_ref()))
        .cloned()
        .collect()
}

/// The workers that are lost, and stay lost for this long. etcd does not say since when a worker is
/// lost.
async fn lost_all_the_time(
    context: &Context,
    options: &RemoveOptions,
    time: Duration,
) -> Result<Vec<Member>, Stop> {
    let membership = &context.membership;
    let until = Instant::now() + time;
    let mut view = membership.view().await?;
    let mut still_lost = lost(&view, options);
    let count = still_lost.len();
    output::note(format_args!(
        "{count} {} lost. Watching for {}.",
        plural(count, "worker is", "workers are"),
        humantime::format_duration(time)
    ));
    let is_lost = |view: &ClusterView, member: &Member| {
        let found = view.find(&member.worker.identity);
        found.is_some_and(|found| found.state == WorkerState::Lost)
    };
    while !still_lost.is_empty() {
        let left = until.saturating_duration_since(Instant::now());
        let Some(newer) = membership.wait_for_change(view.version(), left).await? else {
            break;
        };
        still_lost.retain(|member| is_lost(&newer, member));
        view = newer;
    }
    // Not the list in memory, which is old if etcd did not answer.
    let view = membership.view().await?;
    still_lost.retain(|member| is_lost(&view, member));
    Ok(still_lost)
}

fn removed(identity: &WorkerIdentity) -> Result<(), Stop> {
    output::print(format!("Successfully removed worker: {identity}\n"))
}

/// Asks on the terminal. Any answer but yes is a failure.
async fn confirm(question: String) -> Result<(), Stop> {
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
    match answer == "y" || answer == "yes" {
        true => Ok(()),
        false => Err(Failure::new(Outcome::Failed, "Nothing was removed.").into()),
    }
}
