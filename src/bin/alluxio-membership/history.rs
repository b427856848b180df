//! `history`: the changes of the cluster that etcd remembers.

use alluxio_membership::etcd::{History, PastChange, PastKind};
use serde_json::{Value, json};

use crate::Context;
use crate::cli::HistoryOptions;
use crate::output::{self, Failure, Outcome, Stop};
use crate::table::{Cell, EMPTY, Table, status_cell};

const HEADER: [&str; 6] = ["Revision", "Change", "WorkerId", "Address", "Status", "Was"];

pub async fn run(context: &Context, options: &HistoryOptions) -> Result<Outcome, Stop> {
    let Some(mut history) = context.membership.history(options.after).await? else {
        let text = "There is no history: a hosts file does not remember.";
        return Err(Failure::new(Outcome::Failed, text).into());
    };
    if let Some(identity) = options.identity {
        let is_of_it = |change: &PastChange| change.member.worker.identity == identity;
        history.changes.retain(is_of_it);
    }
    if options.json {
        output::print_json(&json(&history))?;
    } else {
        output::print(match output::on_terminal() {
            true => aligned(&history),
            false => separated(&history),
        })?;
        notes(&history);
    }
    Ok(match history.is_incomplete {
        true => Outcome::Failed,
        false => Outcome::Done,
    })
}

fn name(kind: PastKind) -> &'static str {
    match kind {
        PastKind::Added => "added",
        PastKind::Removed => "removed",
        PastKind::Live => "live",
        PastKind::Lost => "lost",
        PastKind::Moved => "moved",
        PastKind::Rejoined => "rejoined",
    }
}

fn cells(change: &PastChange) -> [String; 6] {
    let was = change.was.as_ref();
    [
        change.revision.to_string(),
        name(change.kind).to_owned(),
        change.member.worker.identity.to_string(),
        output::address(&change.member),
        output::status_word(&change.member, true).to_owned(),
        was.map_or(EMPTY.to_owned(), |worker| output::address_of(worker)),
    ]
}

fn aligned(history: &History) -> String {
    let mut table = Table::new(&HEADER);
    for change in &history.changes {
        let mut row = cells(change).map(Cell::from);
        row[4] = status_cell(&change.member, true);
        table.push(row.into());
    }
    table.hide_empty_columns();
    table.text()
}

fn separated(history: &History) -> String {
    let rows = history
        .changes
        .iter()
        .map(|change| cells(change).join("\t"));
    let lines = std::iter::once(HEADER.join("\t")).chain(rows);
    lines.map(|line| line + "\n").collect()
}

fn notes(history: &History) {
    let count = history.changes.len();
    output::note(format_args!(
        "{count} {} after revision {}, until {}; etcd stores no times",
        crate::nodes::plural(count, "change", "changes"),
        history.after,
        history.until
    ));
    if history.left_out > 0 {
        output::complain(format_args!(
            "{} older changes were left out",
            history.left_out
        ));
    }
    if history.is_incomplete {
        output::complain(
            "etcd did not send every change: those above do not lead to the workers of today",
        );
    }
}

fn json(history: &History) -> Value {
    let change = |change: &PastChange| {
        json!({
            "revision": change.revision,
            "change": name(change.kind),
            "worker": output::member_json(&change.member, true),
            "was": change.was.as_ref().map(|worker| output::worker_json(worker)),
        })
    };
    json!({
        "after": history.after,
        "until": history.until,
        "changes": history.changes.iter().map(change).collect::<Vec<_>>(),
        "leftOutCount": history.left_out,
        "incomplete": history.is_incomplete,
    })
}
