//! Log messages, reported to a callback.

use std::cell::Cell;
use std::ffi::{c_char, c_void};

use log::{LevelFilter, Log, Metadata, Record};
use parking_lot::RwLock;

use super::convert::{c_text, invalid};
use super::error::{axm_error_t, guard};
use crate::error::{Error, ErrorKind, Result};
use crate::runtime::check_not_forked;

/// How important a message is.
#[repr(C)]
pub enum axm_log_level_t {
    /// No messages.
    AXM_LOG_OFF = 0,
    /// A bug of the library.
    AXM_LOG_ERROR = 1,
    /// The library lost something, such as a connection or a lease.
    AXM_LOG_WARN = 2,
    /// Something changed as it should.
    AXM_LOG_INFO = 3,
    /// For finding out what goes on.
    AXM_LOG_DEBUG = 4,
    /// Trace-level detail, such as each request.
    AXM_LOG_TRACE = 5,
}

/// Called with the user_data of axm_log_set, an AXM_LOG_* value, the part of the library that speaks, and what it says.
/// The texts live during the call only.
pub type axm_log_callback_t = Option<
    unsafe extern "C" fn(
        user_data: *mut c_void,
        level: i32,
        target: *const c_char,
        message: *const c_char,
    ),
>;

struct Sink {
    callback: unsafe extern "C" fn(*mut c_void, i32, *const c_char, *const c_char),
    user_data: *mut c_void,
}

// SAFETY: the header says that the callback is called, with the user data, on any thread.
unsafe impl Send for Sink {}
// SAFETY: the header says that calls may run at the same time.
unsafe impl Sync for Sink {}

struct Logger {
    sink: RwLock<Option<Sink>>,
}

static LOGGER: Logger = Logger {
    sink: RwLock::new(None),
};

thread_local! {
    static IN_CALLBACK: Cell<bool> = const { Cell::new(false) };
}

/// Whether this thread is inside the callback, or ends and has nothing more to say.
pub(super) fn in_callback() -> bool {
    IN_CALLBACK.try_with(Cell::get).unwrap_or(true)
}

impl Log for Logger {
    fn enabled(&self, metadata: &Metadata) -> bool {
        metadata.target().starts_with("alluxio_membership")
    }

    fn log(&self, record: &Record) {
        // What the callback itself causes would never end. In a forked process it cannot be replaced any more.
        if !self.enabled(record.metadata()) || in_callback() || check_not_forked().is_err() {
            return;
        }
        // Only axm_log_set locks it for itself, and is about to replace it.
        let Some(sink) = self.sink.try_read_recursive() else {
            return;
        };
        let Some(sink) = &*sink else {
            return;
        };
        let (target, message) = (c_text(record.target()), c_text(&record.args().to_string()));
        // These numbers are the same: `to_level` maps them one to one.
        let level = record.level() as i32;
        IN_CALLBACK.set(true);
        // SAFETY: the caller gave a function of this type, and keeps the user data until it has replaced it, which waits
        // for the lock held here; the texts are valid during the call.
        unsafe { (sink.callback)(sink.user_data, level, target.as_ptr(), message.as_ptr()) };
        IN_CALLBACK.set(false);
    }

    fn flush(&self) {}
}

/// The level of a number from C.
fn to_level(number: i32) -> Result<LevelFilter> {
    use axm_log_level_t::*;
    [
        (AXM_LOG_OFF, LevelFilter::Off),
        (AXM_LOG_ERROR, LevelFilter::Error),
        (AXM_LOG_WARN, LevelFilter::Warn),
        (AXM_LOG_INFO, LevelFilter::Info),
        (AXM_LOG_DEBUG, LevelFilter::Debug),
        (AXM_LOG_TRACE, LevelFilter::Trace),
    ]
    .into_iter()
    .find_map(|(code, level)| (code as i32 == number).then_some(level))
    .ok_or_else(|| invalid(format!("level is {number}, expected an AXM_LOG_* value")))
}

/// Reports messages of this level and of more important ones to a callback, for the whole process. NULL ends that. Without
/// a callback the library logs nothing. May be called before a fork, and after axm_shutdown.
///
/// The callback is called on any thread, and on several at a time. It must return soon, since the library waits for it,
/// and should not call the library: functions that use a membership fail with AXM_ERROR_INVALID_ARGUMENT there, as do this
/// one and axm_shutdown; axm_membership_free closes in the background, and axm_subscription_free does not wait for a
/// running call. Blocks until calls of the callback that was set before have returned; after that, there is none.
///
/// Errors: INVALID_ARGUMENT (level, or inside the callback), FORKED, ALREADY_EXISTS (another logger in this process has the
/// messages already: programs in Rust and JVMs).
#[must_use]
#[unsafe(no_mangle)]
pub extern "C" fn axm_log_set(
    callback: axm_log_callback_t,
    user_data: *mut c_void,
    level: i32,
) -> Option<Box<axm_error_t>> {
    guard(|| {
        let level = to_level(level)?;
        if in_callback() {
            return Err(invalid("axm_log_set was called by the log callback"));
        }
        // Not the runtime, which would have to be there for the rest of the process's life, and may have been shut down.
        check_not_forked()?;
        if log::set_logger(&LOGGER).is_err() && !is_installed() {
            return Err(Error::new(
                ErrorKind::AlreadyExists,
                "The messages of the library go to another logger of this process already",
            ));
        }
        let sink = callback.map(|callback| Sink {
            callback,
            user_data,
        });
        log::set_max_level(if sink.is_some() {
            level
        } else {
            LevelFilter::Off
        });
        *LOGGER.sink.write() = sink;
        Ok(())
    })
}

fn is_installed() -> bool {
    std::ptr::addr_eq(std::ptr::from_ref(log::logger()), &raw const LOGGER)
}
