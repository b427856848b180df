//! Operations that a Java thread has started and waits for.

use std::collections::HashMap;
use std::future::Future;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::task::AbortHandle;

use super::panic_text;
use super::wire::{self, Reply};
use crate::error::{Error, ErrorKind, Result};
use crate::runtime::runtime;

static OPERATIONS: LazyLock<Mutex<HashMap<i64, Arc<Operation>>>> = LazyLock::new(Mutex::default);
static NEXT_ID: AtomicI64 = AtomicI64::new(1);

struct Operation {
    result: Mutex<Receiver<Reply>>,
    task: Option<AbortHandle>,
}

/// Starts the work on the runtime. Its result, an error, or what a panic said is kept until it is asked for.
pub(super) fn start<F>(work: F) -> i64
where
    F: Future<Output = Result<Reply>> + Send + 'static,
{
    let (sender, result) = sync_channel(1);
    let task = match runtime() {
        Ok(runtime) => {
            let task = runtime.spawn(work);
            let abort = task.abort_handle();
            runtime.spawn(async move {
                let reply = match task.await {
                    Ok(result) => result.unwrap_or_else(|error| wire::error(&error)),
                    Err(ended) => wire::error(&defect(ended)),
                };
                // Nobody listens any more if the operation was abandoned.
                let _ = sender.send(reply);
            });
            Some(abort)
        }
        Err(error) => {
            let _ = sender.send(wire::error(&error));
            None
        }
    };
    let id = NEXT_ID.fetch_add(1, Ordering::Relaxed);
    let operation = Operation {
        result: Mutex::new(result),
        task,
    };
    OPERATIONS.lock().insert(id, Arc::new(operation));
    id
}

/// The result, if there is one within this time; the operation is then over.
pub(super) fn wait(id: i64, timeout: Duration) -> Option<Reply> {
    let operation = OPERATIONS.lock().get(&id).cloned();
    let reply = match operation {
        Some(operation) => match operation.result.lock().recv_timeout(timeout) {
            Ok(reply) => reply,
            Err(RecvTimeoutError::Timeout) => return None,
            Err(RecvTimeoutError::Disconnected) => wire::error(&unknown(id)),
        },
        None => wire::error(&unknown(id)),
    };
    OPERATIONS.lock().remove(&id);
    Some(reply)
}

/// Stops the work where it waits. Nothing happens if it is over.
pub(super) fn abandon(id: i64) {
    let operation = OPERATIONS.lock().remove(&id);
    if let Some(task) = operation.and_then(|operation| operation.task.clone()) {
        task.abort();
    }
}

fn defect(ended: tokio::task::JoinError) -> Error {
    let text = match ended.try_into_panic() {
        Ok(payload) => panic_text(&*payload),
        Err(ended) => ended.to_string(),
    };
    Error::new(
        ErrorKind::Internal,
        format!("A defect in the membership library: {text}"),
    )
}

fn unknown(id: i64) -> Error {
    Error::new(
        ErrorKind::Internal,
        format!("Operation {id} is not under way"),
    )
}
