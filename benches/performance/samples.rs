//! Durations, and what they say together.

use std::time::Duration;

/// Durations in seconds, in order.
#[derive(Debug, Clone, Default)]
pub struct Samples(Vec<f64>);

impl Samples {
    pub fn add(&mut self, duration: Duration) {
        self.extend([duration]);
    }

    pub fn extend(&mut self, durations: impl IntoIterator<Item = Duration>) {
        self.0
            .extend(durations.into_iter().map(|duration| duration.as_secs_f64()));
        self.0.sort_by(f64::total_cmp);
    }

    /// The value that this part of the samples does not exceed.
    pub fn percentile(&self, percent: usize) -> f64 {
        self.0[(self.0.len() - 1) * percent / 100]
    }

    pub fn median(&self) -> f64 {
        self.percentile(50)
    }

    pub fn sorted(&self) -> &[f64] {
        &self.0
    }
}
