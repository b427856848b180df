//! `nodes --watch`: changes as they come, as a table on a terminal and as lines in a pipe.

use std::time::Duration;

use alluxio_membership::view::{Change, ClusterView};
use serde_json::json;

use crate::Context;
use crate::cli::{Format, NodesOptions};
use crate::output::{self, Failure, Outcome, Stop};
use crate::signals::Signals;
use crate::{live_table, selection};

pub async fn run(context: &Context, options: &NodesOptions) -> Result<Outcome, Stop> {
    let format = options.format();
    if !matches!(format, Format::Table | Format::Json) {
        let text = "--watch has the formats table and json only";
        return Err(Failure::new(Outcome::Failed, text).into());
    }
    let mut signals = Signals::new()?;
    let draws = format == Format::Table && output::terminal_moves_cursor();
    let watching = async {
        match draws {
            true => live_table::run(context, &options.selection).await,
            false => print_changes(context, options).await,
        }
    };
    tokio::select! {
        ended = watching => ended.map(|()| Outcome::Done),
        _ = signals.next() => Ok(Outcome::Done),
        () = output::reader_gone() => Err(Stop::NobodyReads),
    }
}

async fn print_changes(context: &Context, options: &NodesOptions) -> Result<(), Stop> {
    let membership = &context.membership;
    let mut view = membership.view().await?;
    let present = view.changes_since(&ClusterView::default());
    output::print_aside(lines(context, &present, &view, Some("present"), options)).await?;
    loop {
        let newer = membership.wait_for_change(view.version(), Duration::MAX);
        if let Some(newer) = newer.await? {
            // A slow reader receives several changes at once.
            let changes = newer.changes_since(&view);
            output::print_aside(lines(context, &changes, &newer, None, options)).await?;
            view = newer;
        }
    }
}

fn lines(
    context: &Context,
    changes: &[Change],
    view: &ClusterView,
    what: Option<&str>,
    options: &NodesOptions,
) -> String {
    let now = output::now();
    let known = context.knows_states();
    let mut text = String::new();
    let selected = changes.iter();
    let selected = selected.filter(|it| selection::is_selected(&it.member, &options.selection));
    for Change { kind, member } in selected {
        let what = what.unwrap_or_else(|| output::change_name(*kind));
        text.push_str(&if options.format() == Format::Json {
            let worker = output::member_json(member, known);
            let revision = view.revision();
            output::json_line(
                &json!({"time": now, "change": what, "revision": revision, "worker": worker}),
            )
        } else {
            let identity = member.worker.identity;
            let address = output::address(member);
            let status = output::status(member, known);
            format!("{now}\t{what}\t{identity}\t{address}\t{status}\n")
        });
    }
    text
}
