//! Watches the two keys of a worker, so that a deleted or overwritten key is noticed at once.

use std::sync::Arc;
use std::time::Duration;

use etcd_client::{Client, EventType, Txn, TxnOp, WatchOptions};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

use super::Registrar;
use super::session::Event;
use crate::etcd::answers::{self, first_key, revision_of};
use crate::etcd::endpoints::{Purpose, TRY_TIMEOUT, retry_delays};
use crate::etcd::keep_running::keep_running;
use crate::etcd::status::{self, Failure};
use crate::log;

/// The longest time for reading the keys and opening their watches.
const LONGEST_OPENING: Duration = Duration::from_secs(30);

/// The watch of a worker's own keys. Dropping this stops it.
pub(super) struct OwnKeys {
    events: mpsc::Receiver<Event>,
    /// The task ends when this is dropped.
    _task: JoinSet<()>,
}

impl OwnKeys {
    /// Watches the keys, with the live key on this lease. Also reads the keys every `recheck`.
    pub(super) fn watch(registrar: Arc<Registrar>, lease: i64, recheck: Duration) -> Self {
        let (sender, events) = mpsc::channel(8);
        let mut task = JoinSet::new();
        task.spawn(async move {
            let watch = || watch_own_keys(registrar.clone(), lease, recheck, sender.clone());
            let what = format!("the watching of the keys of {}", registrar.identity);
            keep_running(what, watch).await;
        });
        OwnKeys {
            events,
            _task: task,
        }
    }

    pub(super) async fn next(&mut self) -> Option<Event> {
        self.events.recv().await
    }
}

/// Reads both keys, then watches them. Restarts when the watch breaks, and every `recheck`, because
/// etcd has lost watch events before.
async fn watch_own_keys(
    registrar: Arc<Registrar>,
    lease: i64,
    recheck: Duration,
    events: mpsc::Sender<Event>,
) {
    let mut delays = retry_delays();
    // The limit grows after each failure, for networks that are slow but work.
    let mut limit = TRY_TIMEOUT * 2;
    loop {
        match check_and_watch(&registrar, lease, recheck, limit, &events).await {
            // The watch worked for a while, so the next failure counts as a new one.
            Ok(()) => delays = retry_delays(),
            Err(reason) => {
                log::debug!("Watching the keys of {}: {reason}", registrar.identity);
                limit = (limit * 2).min(LONGEST_OPENING);
            }
        }
        tokio::time::sleep(delays.next().unwrap_or_default()).await;
    }
}

async fn check_and_watch(
    registrar: &Registrar,
    lease: i64,
    recheck: Duration,
    limit: Duration,
    events: &mpsc::Sender<Event>,
) -> Result<(), String> {
    let live_key = registrar.keys.live_key(&registrar.identity);
    let ring_key = registrar.keys.ring_key(&registrar.identity);
    let has_ring = registrar.has_ring;
    let until = Instant::now() + recheck;
    // Only the required keys, so that a user without permission for the ring can watch the live
    // key.
    let keys = [Some(&live_key), has_ring.then_some(&ring_key)];
    let gets = keys.into_iter().flatten();
    let read = Txn::new().and_then(
        gets.map(|key| TxnOp::get(key.as_str(), None))
            .collect::<Vec<_>>(),
    );
    let endpoint = registrar.endpoints.pick(Purpose::Watches);
    let (answer, mut stream) = endpoint
        .attempt(Purpose::Watches, limit, |mut client: Client| {
            let (live_key, ring_key) = (live_key.clone(), ring_key.clone());
            async move {
                let answer = client.txn(read).await?;
                let answer = answers::ranges(answer, 1 + usize::from(has_ring))?;
                let from = |revision: i64| Some(WatchOptions::new().with_start_revision(revision));
                let next = revision_of(answer.header()).saturating_add(1);
                let mut stream = client.watch(live_key, from(next)).await?;
                if has_ring {
                    stream.watch(ring_key, from(next)).await?;
                }
                Ok((answer, stream))
            }
        })
        .await
        .map_err(|error| error.cause.text)?;
    let mut found = answer.op_responses().into_iter().map(first_key);
    match found.next().flatten() {
        None => report(events, Event::LiveKeyMissing).await,
        Some(live) if live.lease() != lease => {
            report(
                events,
                Event::LiveKeyForeign {
                    holder: live.lease(),
                },
            )
            .await;
        }
        Some(_) => {}
    }
    if has_ring && found.next().flatten().is_none() {
        report(events, Event::RingKeyMissing).await;
    }
    loop {
        let Ok(message) = timeout_at(until, stream.message()).await else {
            return Ok(());
        };
        let message = message
            .map_err(|error| status::describe(&error))?
            .ok_or("etcd closed the watch")?;
        if message.canceled() {
            if matches!(
                status::classify_cancel(message.cancel_reason()),
                Failure::Token | Failure::Permission
            ) {
                endpoint.connection.forget_token();
            }
            return Err(format!("canceled: {}", message.cancel_reason()));
        }
        for event in message.events() {
            let Some(kv) = event.kv() else { continue };
            let deleted = answers::kind_of(event) == Some(EventType::Delete);
            let is_live = kv.key() == live_key.as_bytes();
            let is_ring = kv.key() == ring_key.as_bytes();
            if is_live && deleted {
                report(events, Event::LiveKeyMissing).await;
            } else if is_live && kv.lease() != lease {
                report(events, Event::LiveKeyForeign { holder: kv.lease() }).await;
            } else if is_ring && deleted {
                report(events, Event::RingKeyMissing).await;
            }
        }
    }
}

/// A closed channel means that the watch is about to end.
async fn report(events: &mpsc::Sender<Event>, event: Event) {
    let _ = events.send(event).await;
}
