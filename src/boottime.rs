//! A clock that includes the time during which the machine is suspended, like the clock of etcd's
//! leases.

use std::ops::{Add, AddAssign, Sub};
use std::time::Duration;

/// Added to every reading of the clock, so that a moment before the start of the machine can be
/// expressed.
const EPOCH: Duration = Duration::from_secs(365 * 24 * 3600);

/// A moment on the clock that includes suspensions (`CLOCK_BOOTTIME`). Sums and differences
/// saturate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct BootTime(Duration);

impl BootTime {
    /// Reads the clock.
    pub(crate) fn now() -> Self {
        BootTime(EPOCH + since_start())
    }

    /// Returns how long ago this was, or zero for a moment in the future.
    pub(crate) fn elapsed(self) -> Duration {
        BootTime::now() - self
    }
}

impl Add<Duration> for BootTime {
    type Output = BootTime;

    fn add(self, duration: Duration) -> BootTime {
        BootTime(self.0.saturating_add(duration))
    }
}

impl AddAssign<Duration> for BootTime {
    fn add_assign(&mut self, duration: Duration) {
        *self = *self + duration;
    }
}

impl Sub<Duration> for BootTime {
    type Output = BootTime;

    fn sub(self, duration: Duration) -> BootTime {
        BootTime(self.0.saturating_sub(duration))
    }
}

impl Sub for BootTime {
    type Output = Duration;

    /// Returns zero if `earlier` is later.
    fn sub(self, earlier: BootTime) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

#[cfg(target_os = "linux")]
fn since_start() -> Duration {
    use rustix::time::{ClockId, clock_gettime};

    Duration::try_from(clock_gettime(ClockId::Boottime)).unwrap_or_default()
}

/// Systems without such a clock count from the first reading.
#[cfg(not(target_os = "linux"))]
fn since_start() -> Duration {
    use std::sync::LazyLock;
    use std::time::Instant;

    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    START.elapsed()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_are_those_of_the_clock() {
        let now = BootTime::now();
        let second = Duration::from_secs(1);
        assert_eq!((now + second) - now, second);
        assert_eq!(now - (now + second), Duration::ZERO);
        assert!(now - second < now && now < now + second);
        assert_eq!(now + second - second, now);
        assert_eq!((now + second).elapsed(), Duration::ZERO);
    }

    #[test]
    fn no_duration_is_too_long() {
        let now = BootTime::now();
        assert!(now + Duration::MAX > now);
        assert!(now - Duration::MAX < now);
    }
}
