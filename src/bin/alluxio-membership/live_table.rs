//! `nodes --watch` on a terminal: a table that is drawn again with each change.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, SystemTime};

use alluxio_membership::config::Backend;
use alluxio_membership::text::Safe;
use alluxio_membership::view::{Change, ChangeKind, ClusterView, Member};
use alluxio_membership::worker::WorkerIdentity;
use anstyle::AnsiColor;
use terminal_size::{Height, Width, terminal_size};
use tokio::time::Instant;

use crate::Context;
use crate::cli::SelectionOptions;
use crate::output::{self, Stop};
use crate::selection;
use crate::table::{Table, cut, member_cells};

/// The interval of updates of the ages and of the terminal's width.
const TICK: Duration = Duration::from_secs(1);
/// A list of this age is not up to date.
const OLD: Duration = Duration::from_secs(5);
/// The changes that stand below the table.
const LAST_CHANGES: usize = 5;

/// Escape sequences that all terminals know.
const CLEAR: &str = "\x1b[2J";
const HOME: &str = "\x1b[H";
const CLEAR_LINE: &str = "\x1b[K";
const CLEAR_BELOW: &str = "\x1b[J";

struct LiveTable<'a> {
    context: &'a Context,
    options: &'a SelectionOptions,
    began: Instant,
    /// When each worker changed that has changed since the tool started.
    changed: HashMap<WorkerIdentity, Instant>,
    last: VecDeque<String>,
}

/// Draws until the caller drops it, or the terminal is closed.
pub async fn run(context: &Context, options: &SelectionOptions) -> Result<(), Stop> {
    let mut view = context.membership.view().await?;
    let mut table = LiveTable {
        context,
        options,
        began: Instant::now(),
        changed: HashMap::new(),
        last: VecDeque::new(),
    };
    output::print_aside(CLEAR.to_owned()).await?;
    loop {
        output::print_aside(table.frame(&view)).await?;
        let newer = context.membership.wait_for_change(view.version(), TICK);
        if let Some(newer) = newer.await? {
            table.note(&newer.changes_since(&view));
            view = newer;
        }
    }
}

impl LiveTable<'_> {
    fn note(&mut self, changes: &[Change]) {
        let (now, clock) = (Instant::now(), clock());
        for Change { kind, member } in changes {
            let identity = member.worker.identity;
            match kind {
                ChangeKind::Removed => self.changed.remove(&identity),
                _ => self.changed.insert(identity, now),
            };
            if selection::is_selected(member, self.options) {
                let change = output::change_name(*kind);
                let address = output::address(member);
                self.last
                    .push_front(format!("{clock}  {change:<7}  {identity}  {address}"));
                self.last.truncate(LAST_CHANGES);
            }
        }
    }

    /// Returns the whole picture, for a terminal with the cursor at any place.
    fn frame(&self, view: &ClusterView) -> String {
        let (width, height) = match terminal_size() {
            Some((Width(width), Height(height))) => (usize::from(width), usize::from(height)),
            None => (80, 24),
        };
        let mut lines = vec![self.title(view, width), String::new()];
        let below = match self.last.len() {
            0 => 0,
            changes => changes + 2,
        };
        // The title, the empty line below it, the header, and the line where the cursor stays.
        let room = height.saturating_sub(4 + below).max(1);
        lines.extend(self.rows(view, width, room));
        if !self.last.is_empty() {
            lines.push(String::new());
            lines.push(cut("Last changes:", width).to_owned());
            lines.extend(self.last.iter().map(|line| cut(line, width).to_owned()));
        }
        lines.truncate(height.saturating_sub(1).max(1));
        let lines = lines
            .into_iter()
            .map(|line| line + CLEAR_LINE + "\r\n")
            .collect::<String>();
        format!("{HOME}{lines}{CLEAR_BELOW}")
    }

    /// Returns the cluster, the numbers and the age of the list.
    fn title(&self, view: &ClusterView, width: usize) -> String {
        let mut title = output::live_and_lost(view);
        if let Backend::Etcd(config) = &self.context.config.backend {
            title = format!("Cluster {}: {title}", Safe(&config.cluster_name));
        }
        let title = format!("{title}; {}", clock());
        let status = self.context.membership.status().ok();
        let age = status.as_ref().and_then(|status| status.view_age);
        match age.filter(|age| *age >= OLD) {
            None => cut(&title, width).to_owned(),
            Some(age) => {
                let error = status.and_then(|status| status.view_error);
                let why = error.map_or_else(String::new, |it| format!(": {}", output::reason(&it)));
                let old = Safe(format!("OLD, as of {} s ago{why}; {title}", age.as_secs()));
                output::in_colour(cut(&old.to_string(), width), AnsiColor::Red)
            }
        }
    }

    fn rows(&self, view: &ClusterView, width: usize, room: usize) -> Vec<String> {
        let known = self.context.knows_states();
        let newest = |member: &Member| self.changed.get(&member.worker.identity).copied();
        let members = selection::select(view, self.options, newest);
        let mut table = Table::new(&["WorkerId", "Address", "Status", "Age"]);
        // The last line says how many there are more.
        let shown = match members.len() > room {
            true => room - 1,
            false => members.len(),
        };
        for member in &members[..shown] {
            let mut row = Vec::from(member_cells(member, known));
            row.push(self.age(member).into());
            table.push(row);
        }
        let mut lines = table.lines(width);
        if shown < members.len() {
            let more = format!("and {} more", members.len() - shown);
            lines.push(cut(&more, width).to_owned());
        }
        lines
    }

    /// Returns the time since a worker changed. etcd stores no times, so a change before the first
    /// list is only known to be older than that.
    fn age(&self, member: &Member) -> String {
        match self.changed.get(&member.worker.identity) {
            Some(at) => age(at.elapsed()),
            None => format!(">{}", age(self.began.elapsed())),
        }
    }
}

/// The time, which a person reads.
fn clock() -> String {
    humantime::format_rfc3339_seconds(SystemTime::now()).to_string()
}

/// Returns a duration in its two largest units.
fn age(time: Duration) -> String {
    match time.as_secs() {
        seconds @ ..120 => format!("{seconds}s"),
        seconds @ 120..7_200 => format!("{}m{}s", seconds / 60, seconds % 60),
        seconds @ 7_200..172_800 => format!("{}h{}m", seconds / 3600, seconds / 60 % 60),
        seconds => format!("{}d{}h", seconds / 86_400, seconds / 3600 % 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_have_two_units_at_most() {
        for (seconds, text) in [
            (0, "0s"),
            (119, "119s"),
            (120, "2m0s"),
            (7_199, "119m59s"),
            (7_260, "2h1m"),
            (172_800, "2d0h"),
        ] {
            assert_eq!(age(Duration::from_secs(seconds)), text);
        }
    }
}
