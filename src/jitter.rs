//! Spreads repeated work over time.

use std::time::Duration;

/// Returns the duration, increased or reduced by up to a fifth at random, so that processes do not
/// act in step.
pub(crate) fn jittered(duration: Duration) -> Duration {
    duration.mul_f64(rand::random_range(0.8..=1.2))
}
