//! How long the machine was suspended. Tokio's clock stands still meanwhile; the leases of etcd run on.

use std::time::Duration;

/// The time that the machine has been suspended since it was started: for comparing with an earlier answer. Zero where
/// the system does not tell.
#[cfg(target_os = "linux")]
pub(crate) fn asleep() -> Duration {
    use rustix::time::{ClockId, Timespec, clock_gettime};

    /// What the three readings may take at most; they are repeated when the program was interrupted between them.
    const AT_ONCE: Duration = Duration::from_millis(1);
    const TRIES: usize = 10;

    let since_boot = |time: Timespec| Duration::try_from(time).unwrap_or_default();
    let mut least = Duration::MAX;
    for _ in 0..TRIES {
        let before = since_boot(clock_gettime(ClockId::Monotonic));
        let with_sleep = since_boot(clock_gettime(ClockId::Boottime));
        let after = since_boot(clock_gettime(ClockId::Monotonic));
        // Too long by what passed before the second reading, at most; never too short.
        least = least.min(with_sleep.saturating_sub(before));
        if after.saturating_sub(before) <= AT_ONCE {
            break;
        }
    }
    least
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn asleep() -> Duration {
    Duration::ZERO
}

/// Notices that the machine was suspended.
pub(crate) struct Sleeps {
    seen: Duration,
}

impl Sleeps {
    /// What the readings of the clocks differ by anyway.
    const NOISE: Duration = Duration::from_millis(100);

    /// Counts from now on.
    pub(crate) fn new() -> Self {
        Sleeps { seen: asleep() }
    }

    /// How long the machine was suspended since this was last asked; `None` if it was not.
    pub(crate) fn last(&mut self) -> Option<Duration> {
        self.compare(asleep())
    }

    fn compare(&mut self, asleep: Duration) -> Option<Duration> {
        let by = asleep.saturating_sub(self.seen);
        if by < Self::NOISE {
            return None;
        }
        self.seen = asleep;
        Some(by)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_that_is_awake_does_not_sleep() {
        let mut sleeps = Sleeps::new();
        for _ in 0..1_000 {
            assert_eq!(sleeps.last(), None);
        }
    }

    #[test]
    fn each_sleep_is_told_once() {
        let second = Duration::from_secs(1);
        let mut sleeps = Sleeps { seen: second };
        assert_eq!(sleeps.compare(second * 4), Some(second * 3));
        assert_eq!(sleeps.compare(second * 4), None);
        assert_eq!(
            sleeps.compare(second * 4 + Duration::from_millis(1)),
            None,
            "noise"
        );
        assert_eq!(sleeps.compare(second * 6), Some(second * 2));
    }
}
