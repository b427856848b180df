//! Log lines of a registration that may repeat without end, since etcd or its operators may.

use std::time::Duration;

use ::log::Level;
use parking_lot::Mutex;

use crate::boottime::BootTime;
use crate::log;

/// How many lines are logged in each such time. More are counted.
const MAX_LINES: u32 = 6;
const WINDOW: Duration = Duration::from_secs(30);

/// Logs up to [`MAX_LINES`] lines in each [`WINDOW`], and how many it withheld.
#[derive(Debug, Default)]
pub(crate) struct BoundedLog(Mutex<Window>);

#[derive(Debug, Default)]
struct Window {
    began_at: Option<BootTime>,
    lines: u32,
}

impl BoundedLog {
    pub(super) fn say(&self, level: Level, now: BootTime, text: &str) {
        let admitted = self.0.lock().admit(now);
        let Some(withheld) = admitted else {
            return log::debug!("{text}");
        };
        let more = match withheld {
            0 => String::new(),
            _ => format!(" ({withheld} lines about this registration before were withheld)"),
        };
        match level {
            Level::Error => log::error!("{text}{more}"),
            Level::Warn => log::warn!("{text}{more}"),
            _ => log::info!("{text}{more}"),
        }
    }
}

impl Window {
    /// Returns how many lines were withheld before, or `None` to withhold this one too.
    fn admit(&mut self, now: BootTime) -> Option<u32> {
        let mut withheld = 0;
        if self.began_at.is_none_or(|began| now - began > WINDOW) {
            withheld = self.lines.saturating_sub(MAX_LINES);
            *self = Window {
                began_at: Some(now),
                lines: 0,
            };
        }
        self.lines = self.lines.saturating_add(1);
        (self.lines <= MAX_LINES).then_some(withheld)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_that_repeat_are_counted() {
        let now = BootTime::now();
        let mut window = Window::default();
        let logged = (0..100).filter(|_| window.admit(now).is_some()).count();
        assert_eq!(logged, MAX_LINES as usize);
        let later = now + WINDOW + Duration::from_millis(1);
        assert_eq!(window.admit(later), Some(100 - MAX_LINES));
        assert_eq!(window.admit(later), Some(0));
    }
}
