//! The signals that ask a program to end.

use std::future::poll_fn;
use std::io;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::task::{Context, Poll};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::low_level::pipe;
use tokio::net::UnixStream;

use crate::output::{Failure, Outcome, Stop};

/// Receives SIGINT, SIGTERM and SIGHUP, except those that the parent process set to be ignored:
/// `nohup` ignores SIGHUP, and shells ignore SIGINT for background jobs.
pub struct Signals(Vec<(&'static str, UnixStream)>);

impl Signals {
    pub fn new() -> Result<Self, Stop> {
        let ignored = ignored(&std::fs::read_to_string("/proc/self/status").unwrap_or_default());
        [("SIGINT", SIGINT), ("SIGTERM", SIGTERM), ("SIGHUP", SIGHUP)]
            .into_iter()
            .filter(|(_, number)| ignored >> (number - 1) & 1 == 0)
            .map(|(name, number)| Ok((name, listen(number)?)))
            .collect::<io::Result<_>>()
            .map(Signals)
            .map_err(|error| Failure::new(Outcome::Failed, format!("signals: {error}")).into())
    }

    /// Waits for a signal, and returns its name.
    pub async fn next(&mut self) -> &'static str {
        poll_fn(|cx| {
            let mut signals = self.0.iter();
            let came = signals.find_map(|(name, stream)| has_come(stream, cx).then_some(*name));
            came.map_or(Poll::Pending, Poll::Ready)
        })
        .await
    }
}

/// Returns a stream that gets a byte with each signal. The handler keeps its other end until the
/// program ends.
fn listen(signal: i32) -> io::Result<UnixStream> {
    let (reader, writer) = StdUnixStream::pair()?;
    reader.set_nonblocking(true)?;
    let reader = UnixStream::from_std(reader)?;
    pipe::register(signal, writer)?;
    Ok(reader)
}

fn has_come(stream: &UnixStream, cx: &mut Context<'_>) -> bool {
    while let Poll::Ready(Ok(())) = stream.poll_read_ready(cx) {
        match stream.try_read(&mut [0; 64]) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            read => return read.is_ok_and(|bytes| bytes > 0),
        }
    }
    false
}

/// Returns the ignored signals of a process, with the lowest bit for signal 1, or 0 if the kernel
/// does not show them.
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
