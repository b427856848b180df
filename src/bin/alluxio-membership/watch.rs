//! `nodes --watch`: changes as they come.

use std::time::Duration;

use alluxio_membership::view::{Change, ClusterView};
use serde_json::json;

use crate::Context;
use crate::cli::NodesOptions;
use crate::output::{self, Outcome, Stop};
use crate::signals::Signals;

pub async fn run(context: &Context, options: &NodesOptions) -> Result<Outcome, Stop> {
    let mut signals = Signals::new()?;
    let membership = &context.membership;
    let watching = async {
        let mut view = membership.view().await?;
        let present = view.changes_since(&ClusterView::default());
        output::print_aside(lines(context, &present, &view, Some("present"), options)).await?;
        loop {
            let newer = membership
                .wait_for_change(view.version(), Duration::MAX)
                .await?;
            if let Some(newer) = newer {
                // A reader that is slow gets the changes of the meantime at once.
                let changes = newer.changes_since(&view);
                output::print_aside(lines(context, &changes, &newer, None, options)).await?;
                view = newer;
            }
        }
    };
    tokio::select! {
        stop = watching => stop,
        _ = signals.next() => Ok(Outcome::Done),
        () = output::reader_gone() => Err(Stop::NobodyReads),
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
    for Change { kind, member } in changes {
        let what = what.unwrap_or_else(|| output::change_name(*kind));
        text.push_str(&if options.json {
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
