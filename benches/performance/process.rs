//! What the kernel counts of a process.

use std::fs;

/// Resources of a process at a moment.
#[derive(Debug, Clone, Copy)]
pub struct Usage {
    /// Resident bytes.
    pub memory: f64,
    pub threads: f64,
    pub descriptors: f64,
    /// How often its threads went to sleep since its start, and so how often they woke up.
    pub wakeups: f64,
    /// Seconds of processor time since its start.
    pub processor: f64,
}

impl Usage {
    pub fn of(pid: u32) -> Usage {
        let status = read(&format!("/proc/{pid}/status"));
        let tasks = fs::read_dir(format!("/proc/{pid}/task")).expect("its threads");
        let wakeups = tasks
            .filter_map(|task| fs::read_to_string(task.ok()?.path().join("status")).ok())
            .map(|status| field(&status, "voluntary_ctxt_switches:"))
            .sum();
        Usage {
            memory: field(&status, "VmRSS:") * 1024.0,
            threads: field(&status, "Threads:"),
            descriptors: fs::read_dir(format!("/proc/{pid}/fd"))
                .expect("its files")
                .count() as f64,
            wakeups,
            processor: processor(pid),
        }
    }
}

/// Seconds of processor time.
fn processor(pid: u32) -> f64 {
    let stat = read(&format!("/proc/{pid}/stat"));
    // The name of the program, in parentheses, may contain spaces.
    let (_, fields) = stat.rsplit_once(')').expect("the name in parentheses");
    let ticks: f64 = fields
        .split_whitespace()
        .skip(11)
        .take(2)
        .map(|ticks| ticks.parse::<f64>().expect("ticks"))
        .sum();
    ticks / ticks_per_second()
}

fn ticks_per_second() -> f64 {
    // SAFETY: sysconf() only returns a number.
    (unsafe { libc::sysconf(libc::_SC_CLK_TCK) }) as f64
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn field(text: &str, name: &str) -> f64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let value = line.unwrap_or_else(|| panic!("no {name} in /proc"));
    value
        .split_whitespace()
        .next()
        .and_then(|number| number.parse().ok())
        .expect("a number")
}
