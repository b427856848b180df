//! Limits log lines that can repeat while a problem lasts.

use std::collections::HashMap;
use std::fmt::Display;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// Admits a number of lines of each kind in a window of time, and counts the other lines.
///
/// The macro [`limited!`](crate::log::limited) logs with such a limit.
#[derive(Debug)]
pub(crate) struct LogLimit {
    lines: u32,
    window: Duration,
    kinds: Mutex<HashMap<String, Window>>,
}

#[derive(Debug)]
struct Window {
    began_at: Instant,
    lines: u32,
}

impl LogLimit {
    pub(crate) fn new(lines: u32, window: Duration) -> Self {
        LogLimit {
            lines,
            window,
            kinds: Mutex::default(),
        }
    }

    /// Returns the text to append to a line of this kind, or `None` if the line is withheld.
    pub(crate) fn admit(&self, kind: impl Display) -> Option<String> {
        let now = Instant::now();
        let mut kinds = self.kinds.lock();
        let window = kinds.entry(kind.to_string()).or_insert(Window {
            began_at: now,
            lines: 0,
        });
        let mut withheld = 0;
        if now >= window.began_at + self.window {
            withheld = window.lines.saturating_sub(self.lines);
            *window = Window {
                began_at: now,
                lines: 0,
            };
        }
        window.lines = window.lines.saturating_add(1);
        (window.lines <= self.lines).then(|| match withheld {
            0 => String::new(),
            _ => format!(" ({withheld} lines like this were withheld)"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn lines_beyond_the_limit_are_withheld_and_counted() {
        const MINUTE: Duration = Duration::from_secs(60);
        let limit = LogLimit::new(2, MINUTE);
        let admitted = (0..100).filter_map(|_| limit.admit("a")).count();
        assert_eq!(admitted, 2);
        assert_eq!(limit.admit("b").as_deref(), Some(""));
        tokio::time::advance(MINUTE).await;
        let withheld = " (98 lines like this were withheld)";
        assert_eq!(limit.admit("a").as_deref(), Some(withheld));
        tokio::time::advance(MINUTE).await;
        assert_eq!(limit.admit("a").as_deref(), Some(""));
    }
}
