//! How the cost of reading a configuration grows with its size, for tests.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// Asserts that the cost of `read` is proportional to the size of its input. Eight times the input
/// costs 8 times as much if the cost is linear, and 64 times as much if it is quadratic.
///
/// The cost is the CPU time of this thread, so that the load of the machine does not count.
pub(super) fn assert_linear<I>(size: usize, input: impl Fn(usize) -> I, read: impl Fn(&I)) {
    let cost = |size| {
        let input = input(size);
        let once = || {
            let began = cpu_time();
            read(&input);
            cpu_time() - began
        };
        // The cheapest run, because interrupts and page faults add to a cost.
        (0..5).map(|_| once()).min().unwrap_or_default()
    };
    let (small, large) = (cost(size), cost(8 * size));
    assert!(
        large < small * 24,
        "size {size} costs {small:?}, eight times the size costs {large:?}"
    );
}

fn cpu_time() -> Duration {
    Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).unwrap()
}
