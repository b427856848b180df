//! Log lines that can repeat for as long as something is wrong.

use std::collections::HashMap;
use std::fmt::Display;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// How long a line is only counted after it was logged.
const QUIET: Duration = Duration::from_secs(60);

/// Lets each line through once a minute, and counts it in between.
#[derive(Default)]
pub(super) struct Repeats(Mutex<HashMap<String, Repeat>>);

struct Repeat {
    logged_at: Instant,
    since: u64,
}

impl Repeats {
    /// Returns what to add to the line if it is to be logged now. `line` tells one line from another.
    pub(super) fn note(&self, line: impl Display) -> Option<String> {
        let now = Instant::now();
        let mut repeats = self.0.lock();
        let Some(repeat) = repeats.get_mut(&line.to_string()) else {
            let first = Repeat {
                logged_at: now,
                since: 0,
            };
            repeats.insert(line.to_string(), first);
            return Some(String::new());
        };
        if now < repeat.logged_at + QUIET {
            repeat.since += 1;
            return None;
        }
        repeat.logged_at = now;
        Some(match std::mem::take(&mut repeat.since) {
            0 => String::new(),
            times => format!(" (and {times} times since this was last logged)"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_line_is_logged_once_a_minute_and_counted_in_between() {
        let repeats = Repeats::default();
        assert_eq!(repeats.note("a").as_deref(), Some(""));
        assert_eq!(repeats.note("a"), None);
        assert_eq!(repeats.note("b").as_deref(), Some(""));
        assert_eq!(repeats.note("a"), None);
        tokio::time::advance(QUIET).await;
        let times = " (and 2 times since this was last logged)";
        assert_eq!(repeats.note("a").as_deref(), Some(times));
        tokio::time::advance(QUIET).await;
        assert_eq!(repeats.note("a").as_deref(), Some(""));
    }
}
