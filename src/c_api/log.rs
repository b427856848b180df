//! Log messages, reported to a callback.

use std::cell::Cell;
use std::ffi::{c_char, c_void};

use log::{LevelFilter, Log, Metadata, Record};
use parking_lot::RwLock;

use super::convert::{c_text, invalid};
use super::error::{axm_error_t, guard};
use super::numbers;
use crate::error::{Error, ErrorKind, Result};
use crate::runtime::check_not_forked;

/// How important a message is.
#[repr(i32)]
pub enum axm_log_level_t {
    /// No messages.
    AXM_LOG_OFF = 0,
    /// A bug of the library.
    AXM_LOG_ERROR = 1,
    /// The library lost something, such as a connection or a lease.
    AXM_LOG_WARN = 2,
    /// Something changed as expected.
    AXM_LOG_INFO = 3,
    /// Detail for debugging.
    AXM_LOG_DEBUG = 4,
    /// Trace-level detail, such as each request.
    AXM_LOG_TRACE = 5,
}

/// Called for each message.
///
/// \param user_data The user_data of axm_log_set.
/// \param level How important the message is.
/// \param target The module of the library that logs. Lives during the call only.
/// \param message The message. Lives during the call only.
pub type axm_log_callback_t = Option<
    unsafe extern "C" fn(
        user_data: *mut c_void,
        level: numbers::axm_log_level_t,
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
        // A message that the callback causes would cause another one. A forked process cannot
        // replace the callback.
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
        // SAFETY: the caller passed a function of this type, and keeps the user data until it has
        // replaced the callback, which waits for the lock held here. The texts are valid during the
        // call.
        unsafe { (sink.callback)(sink.user_data, level, target.as_ptr(), message.as_ptr()) };
        IN_CALLBACK.set(false);
    }

    fn flush(&self) {}
}

/// The level of a number from C.
fn to_level(number: numbers::axm_log_level_t) -> Result<LevelFilter> {
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

/// Passes messages to a callback, for the whole process.
///
/// Without a callback the library logs nothing. May be called before a fork, and after
/// axm_shutdown.
///
/// The callback runs on any thread, and on several threads at the same time. It must return soon,
/// because the library waits for it. It should not call the library: functions that use a
/// membership, axm_log_set and axm_shutdown fail there with AXM_ERROR_INVALID_ARGUMENT,
/// axm_membership_free closes in the background, and axm_subscription_free does not wait for a
/// running call. Blocks until running calls of the previous callback have returned. No call of the
/// previous callback starts after that.
///
/// \param callback The callback; NULL to stop.
/// \param user_data For the callback. Must live until another axm_log_set has returned.
/// \param level Messages of this level, and more important ones, are passed.
/// \return NULL, or an error: AXM_ERROR_INVALID_ARGUMENT for the level, or inside the callback;
/// AXM_ERROR_ALREADY_EXISTS if another logger of this process gets the messages already, as in JVMs
/// and in programs in Rust; AXM_ERROR_FORKED.
#[must_use]
#[unsafe(no_mangle)]
pub extern "C" fn axm_log_set(
    callback: axm_log_callback_t,
    user_data: *mut c_void,
    level: numbers::axm_log_level_t,
) -> Option<Box<axm_error_t>> {
    guard(|| {
        let level = to_level(level)?;
        if in_callback() {
            return Err(invalid("axm_log_set was called by the log callback"));
        }
        // Without the runtime, which may have been shut down.
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
