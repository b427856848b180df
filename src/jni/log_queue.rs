//! Log records on their way to SLF4J: queued here, fetched by a Java thread.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use log::{Level, LevelFilter, Log, Metadata, Record};
use parking_lot::Mutex;

use super::wire::{put_i32, put_text};

/// A burst longer than this loses its end; how many records were lost is then logged.
const CAPACITY: usize = 4096;
/// Records in one answer.
const BATCH: usize = 512;

static QUEUE: OnceLock<Queue> = OnceLock::new();

struct Entry {
    level: Level,
    target: String,
    message: String,
}

struct Queue {
    sender: SyncSender<Entry>,
    receiver: Mutex<Receiver<Entry>>,
    lost: AtomicU64,
}

/// Makes the queue the logger of this copy of the library. Nothing is recorded before [`set_level`] says so.
pub(super) fn install() {
    let queue = QUEUE.get_or_init(|| {
        let (sender, receiver) = sync_channel(CAPACITY);
        Queue {
            sender,
            receiver: Mutex::new(receiver),
            lost: AtomicU64::new(0),
        }
    });
    // Refused only if there is a logger already, in a host that logs this library's records its own way.
    let _ = log::set_logger(queue);
}

/// 0 is off, 1 errors only, to 5 for everything.
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

/// A list of records: level, target, message.
pub(super) fn next(timeout: Duration) -> Option<Vec<u8>> {
    let queue = QUEUE.get()?;
    let receiver = queue.receiver.lock();
    let mut entries = vec![receiver.recv_timeout(timeout).ok()?];
    entries.extend(receiver.try_iter().take(BATCH - 1));
    drop(receiver);
    let lost = queue.lost.swap(0, Ordering::Relaxed);
    if lost > 0 {
        entries.push(Entry {
            level: Level::Warn,
            target: module_path!().to_string(),
            message: format!(
                "{lost} log records were lost, because more came than could be written"
            ),
        });
    }
    let mut out = Vec::new();
    put_i32(&mut out, entries.len() as i32);
    for entry in entries {
        put_i32(&mut out, entry.level as i32);
        put_text(&mut out, Some(&entry.target));
        put_text(&mut out, Some(&entry.message));
    }
    Some(out)
}

impl Log for Queue {
    /// Only this library's own records; the crates below it speak about things that its users do not know.
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
        if self.sender.try_send(entry).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn flush(&self) {}
}
