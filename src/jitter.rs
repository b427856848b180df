//! Spreads what is done again and again over time.

use std::time::Duration;

/// Up to a fifth more or less, so that nobody asks in step with others.
pub(crate) fn jittered(duration: Duration) -> Duration {
    duration.mul_f64(rand::random_range(0.8..=1.2))
}
