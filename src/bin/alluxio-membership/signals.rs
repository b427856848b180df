//! The signals that ask a program to end.

use std::future::poll_fn;
use std::task::Poll;

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::output::{Failure, Outcome, Stop};

/// SIGINT, SIGTERM and SIGHUP, without those that whoever started the program wants ignored: `nohup` the SIGHUP of the
/// terminal that goes away, shells the SIGINT of the terminal for what runs in the background.
pub struct Signals(Vec<(&'static str, Signal)>);

impl Signals {
    pub fn new() -> Result<Self, Stop> {
        let ignored = ignored(&std::fs::read_to_string("/proc/self/status").unwrap_or_default());
        [
            ("SIGINT", SignalKind::interrupt()),
            ("SIGTERM", SignalKind::terminate()),
            ("SIGHUP", SignalKind::hangup()),
        ]
        .into_iter()
        .filter(|(_, kind)| ignored >> (kind.as_raw_value() - 1) & 1 == 0)
        .map(|(name, kind)| Ok((name, signal(kind)?)))
        .collect::<std::io::Result<_>>()
        .map(Signals)
        .map_err(|error| Failure::new(Outcome::Failed, format!("signals: {error}")).into())
    }

    /// Waits for one, and returns its name.
    pub async fn next(&mut self) -> &'static str {
        poll_fn(|cx| {
            let mut signals = self.0.iter_mut();
            let came =
                signals.find_map(|(name, signal)| signal.poll_recv(cx).is_ready().then_some(*name));
            came.map_or(Poll::Pending, Poll::Ready)
        })
        .await
    }
}

/// The ignored signals of a process, the lowest bit for signal 1. None where the kernel does not tell.
fn ignored(status: &str) -> u64 {
    status
        .lines()
        .find_map(|line| line.strip_prefix("SigIgn:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ignored_signals_are_read_from_the_kernels_mask() {
        let status =
            "SigBlk:\t0000000000000000\nSigIgn:\t0000000000001001\nSigCgt:\t0000000000000440\n";
        assert_eq!(ignored(status), 1 | 1 << 12, "SIGHUP and SIGPIPE");
        assert_eq!(ignored(""), 0);
    }
}
