//! The queue of log records that a Java thread passes to SLF4J.

use std::collections::VecDeque;
use std::sync::LazyLock;
use std::time::Duration;

use log::{Level, LevelFilter, Log, Metadata, Record};
use parking_lot::{Condvar, Mutex};

use super::wire::{put_i32, put_text};

/// The longest burst. Further records are dropped, and their number is logged.
const CAPACITY: usize = 4096;

static QUEUE: LazyLock<Queue> = LazyLock::new(Queue::default);

struct Entry {
    level: Level,
    target: String,
    message: String,
}

#[derive(Default)]
struct Queue {
    entries: Mutex<Entries>,
    added: Condvar,
}

#[derive(Default)]
struct Entries {
    waiting: VecDeque<Entry>,
    lost: u64,
}

/// Makes the queue the logger of this copy of the library. The queue records nothing before
/// [`set_level`].
pub(super) fn install() {
    // Fails only if the process already has a logger, which then gets the records.
    let _ = log::set_logger(&*QUEUE);
}

/// Sets the level: 0 for no records, 1 for errors only, up to 5 for all records.
pub(super) fn set_level(level: i32) {
    log::set_max_level(match level {
        i32::MIN..=0 => LevelFilter::Off,
        1 => LevelFilter::Error,
        2 => LevelFilter::Warn,
        3 => LevelFilter::Info,
        4 => LevelFilter::Debug,
        5.. => LevelFilter::Trace,
    });
}

/// Waits for a record. Returns whether there is one.
pub(super) fn wait(timeout: Duration) -> bool {
    let mut entries = QUEUE.entries.lock();
    if entries.waiting.is_empty() {
        QUEUE.added.wait_for(&mut entries, timeout);
    }
    !entries.waiting.is_empty()
}

/// Takes as many records as fit into this number of bytes. Each is a level, a target and a message.
pub(super) fn next(limit: usize) -> Vec<u8> {
    let mut entries = QUEUE.entries.lock();
    let mut out = Vec::new();
    if entries.lost > 0 {
        let count = std::mem::take(&mut entries.lost);
        entries.waiting.push_front(Entry {
            level: Level::Warn,
            target: module_path!().to_string(),
            message: format!("Java did not take log records in time; {count} were dropped"),
        });
    }
    while let Some(entry) = entries.waiting.front() {
        let length = 3 * size_of::<i32>() + entry.target.len() + entry.message.len();
        if out.len() + length > limit && !out.is_empty() {
            break;
        }
        if length > limit {
            // No message of the library is that long.
            entries.waiting.pop_front();
            entries.lost += 1;
            continue;
        }
        put_i32(&mut out, entry.level as i32);
        put_text(&mut out, Some(&entry.target));
        put_text(&mut out, Some(&entry.message));
        entries.waiting.pop_front();
    }
    out
}

impl Log for Queue {
    /// Records of this library only. Records of its dependencies would mean nothing to its users.
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with(env!("CARGO_CRATE_NAME"))
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let entry = Entry {
            level: record.level(),
            target: record.target().to_string(),
            message: record.args().to_string(),
        };
        let mut entries = self.entries.lock();
        if entries.waiting.len() < CAPACITY {
            entries.waiting.push_back(entry);
            drop(entries);
            self.added.notify_one();
        } else {
            entries.lost += 1;
        }
    }

    fn flush(&self) {}
}
