//! Watches both ranges on one stream, and changes to another endpoint after an error.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use etcd_client::proto::PbEvent;
use etcd_client::{Client, WatchOptions, WatchResponse, WatchStream};
use tokio::time::Instant;

use super::state::{Kind, Message, Reaction, Relist, State};
use super::tables::{Change, KeyRange};
use super::{MAX_MESSAGE, Shared, progress};
use crate::boottime::BootTime;
use crate::etcd::endpoints::{Endpoint, Purpose, TRY_TIMEOUT, TryError, retry_delays};
use crate::etcd::keys::range_end;
use crate::etcd::requests;
use crate::etcd::status::{self, Failure};
use crate::log;

/// A watch that lasted this long works.
const LASTING: Duration = Duration::from_secs(10);
/// This number of short watches in a row causes a warning.
const SHORT_WATCHES: u64 = 3;
/// How long the view waits for the second key of a new worker. If one transaction wrote both keys,
/// their messages follow each other.
const HALF: Duration = Duration::from_millis(5);

impl Shared {
    /// Watches both ranges, on one endpoint after another, until a listing is needed.
    pub(super) async fn follow(&self) -> Relist {
        let mut delays = retry_delays();
        loop {
            let endpoint = self.endpoints.pick(Purpose::Watches);
            let opened_at = Instant::now();
            let ended = self.watch_on(&endpoint).await;
            self.trust(false);
            let error = match ended {
                Ok(why) => return why,
                Err(error) => error,
            };
            log::debug!("Watching {}: {}", self.keys.live_prefix(), error.cause.text);
            if opened_at.elapsed() >= LASTING {
                delays = retry_delays();
            } else {
                self.was_short(&endpoint, &error);
            }
            tokio::time::sleep(delays.next().unwrap_or_default()).await;
        }
    }

    /// Records that a watch ended soon after it began.
    fn was_short(&self, endpoint: &Arc<Endpoint>, error: &TryError) {
        let has_others = self.endpoints.all().len() > 1;
        if error.failure == Failure::Endpoint && has_others {
            endpoint.quarantine(Purpose::Watches, error);
        }
        let count = self.short_watches.fetch_add(1, Ordering::Relaxed) + 1;
        if count >= SHORT_WATCHES {
            log::limited!(
                self.log_limit,
                "short watches",
                Warn,
                "The workers of {} cannot be watched. The library lists them again after each \
                 change: {}",
                self.keys.live_prefix(),
                error.cause.text
            );
        }
    }

    fn lasts(&self) {
        let before = self.short_watches.swap(0, Ordering::Relaxed);
        if before >= SHORT_WATCHES {
            log::info!(
                "The workers of {} are watched again",
                self.keys.live_prefix()
            );
        }
    }

    /// Handles the messages of the watch until a listing is needed. After an error the watch can be
    /// opened again where it stopped.
    async fn watch_on(&self, endpoint: &Arc<Endpoint>) -> Result<Relist, TryError> {
        let from = self.change(State::watch_opens);
        let asked_at = Instant::now();
        let opened = self.open_watch(endpoint, from).await;
        let what = format!("Watching {}", self.keys.live_prefix());
        requests::log(&what, endpoint, asked_at, &opened);
        let mut stream = opened?;
        // The member of the watch, and the member that reported its version. A balancer may have
        // chosen two.
        let (mut member, mut trusted) = (None, None);
        let asking = progress::trusted_member(endpoint);
        tokio::pin!(asking);
        let mut was_told = false;
        let lasts = tokio::time::sleep(LASTING);
        tokio::pin!(lasts);
        let mut is_open = false;
        // The end of the wait for the second key of a new worker.
        let mut half: Option<Instant> = None;
        let broken = |error: etcd_client::Error| endpoint.try_error(&error);
        let closed = || broken(status::wrong_answer("etcd closed the watch"));
        loop {
            let message = tokio::select! {
                biased;
                message = stream.message() => message.map_err(broken)?.ok_or_else(closed)?,
                () = until(half) => {
                    half = None;
                    self.change(State::show);
                    continue;
                }
                told = &mut asking, if !was_told => {
                    was_told = true;
                    trusted = told;
                    self.trust(trusted.is_some() && trusted == member);
                    continue;
                }
                () = self.ask_progress.notified() => {
                    stream.request_progress().await.map_err(broken)?;
                    continue;
                }
                () = &mut lasts, if is_open && !lasts.is_elapsed() => {
                    self.lasts();
                    continue;
                }
            };
            if message.compact_revision() > 0 {
                return Ok(Relist::Compacted);
            }
            if message.canceled() {
                let reason = message.cancel_reason();
                let failure = status::classify_cancel(reason);
                if let Failure::Token | Failure::Permission = failure {
                    endpoint.connection.forget_token();
                }
                let error = status::wrong_answer(format!("etcd canceled the watch: {reason}"));
                return Err(TryError {
                    failure,
                    ..endpoint.try_error(&error)
                });
            }
            member = message.header().map(|header| header.member_id());
            self.trust(trusted.is_some() && trusted == member);
            let message = self.read(message).map_err(broken)?;
            let now = Instant::now();
            let is_over = half.is_some_and(|until| now >= until);
            let (reaction, opened) = self.change(|state| {
                let reaction = state.message(message, BootTime::now());
                if !reaction.is_half || is_over {
                    state.show();
                }
                (reaction, state.watch_is_open())
            });
            let Reaction {
                check,
                relist,
                is_half,
            } = reaction;
            half = (is_half && !is_over).then(|| half.unwrap_or(now + HALF));
            if opened && !std::mem::replace(&mut is_open, true) {
                self.counters.lock().watches += 1;
            }
            if let Some(why) = relist {
                return Ok(why);
            }
            if check {
                self.check.notify_one();
            }
        }
    }

    /// Records whether the watch reports its progress on request.
    fn trust(&self, tells_progress: bool) {
        self.tells_progress.store(tells_progress, Ordering::Release);
    }

    /// Decodes a message. Its values are decoded here, without the lock of the state.
    fn read(&self, message: WatchResponse) -> Result<Message, etcd_client::Error> {
        let message = message.0;
        let revision = message.header.map_or(0, |header| header.revision);
        let is_progress = message.watch_id == progress::OF_ALL_WATCHES
            && self.tells_progress.load(Ordering::Acquire);
        let kind = if message.created {
            Kind::Created
        } else if let Some(first) = message.events.first() {
            let range = self.range_of(first)?;
            let prefix = self.prefix(range);
            let changes = message.events.iter();
            let newest = changes
                .clone()
                .filter_map(|event| Some(event.kv.as_ref()?.mod_revision));
            if let Some(newest) = newest.max().filter(|newest| *newest > revision) {
                return Err(status::wrong_answer(format!(
                    "the watch sent an event of revision {newest} in a message of revision \
                     {revision}"
                )));
            }
            Kind::Changes {
                range,
                changes: changes
                    .map(|event| change(event, prefix))
                    .collect::<Result<_, _>>()?,
                is_fragment: message.fragment,
            }
        } else if is_progress {
            Kind::Progress
        } else {
            Kind::Other
        };
        Ok(Message { revision, kind })
    }

    fn range_of(&self, event: &PbEvent) -> Result<KeyRange, etcd_client::Error> {
        let key = event.kv.as_ref().map_or(&[][..], |kv| &kv.key);
        let of_range = |range: &KeyRange| key.starts_with(self.prefix(*range).as_bytes());
        let ranges = [KeyRange::Live, KeyRange::Ring].into_iter();
        ranges.clone().find(of_range).ok_or_else(|| foreign(key))
    }

    async fn open_watch(
        &self,
        endpoint: &Arc<Endpoint>,
        from: Vec<(KeyRange, i64)>,
    ) -> Result<WatchStream, TryError> {
        let options = |prefix: &str, from: i64| {
            Some(
                WatchOptions::new()
                    .with_range(range_end(prefix))
                    .with_start_revision(from)
                    .with_fragment(),
            )
        };
        let ranges = from.into_iter().map(|(range, from)| {
            let prefix = self.prefix(range);
            (prefix, options(prefix, from))
        });
        let mut ranges: Vec<_> = ranges.collect();
        endpoint
            .attempt(
                Purpose::Watches,
                TRY_TIMEOUT * 2,
                |client: Client| async move {
                    let (first, options) = ranges.remove(0);
                    let mut stream = client
                        .watch_client()
                        .max_decoding_message_size(MAX_MESSAGE)
                        .watch(first, options)
                        .await?;
                    for (prefix, options) in ranges {
                        stream.watch(prefix, options).await?;
                    }
                    Ok(stream)
                },
            )
            .await
    }
}

/// Decodes a change of a key with this prefix.
pub(super) fn change(event: &PbEvent, prefix: &str) -> Result<Change, etcd_client::Error> {
    const PUT: i32 = 0;
    const DELETE: i32 = 1;
    let kv = event
        .kv
        .as_ref()
        .filter(|kv| kv.key.starts_with(prefix.as_bytes()));
    let kv = kv.ok_or_else(|| foreign(event.kv.as_ref().map_or(&[], |kv| &kv.key)))?;
    match event.r#type {
        PUT => Ok(Change::put(prefix, kv.into())),
        DELETE => Ok(Change::delete(&kv.key, kv.mod_revision)),
        other => Err(status::wrong_answer(format!(
            "the watch sent an event of the unknown type {other}"
        ))),
    }
}

fn foreign(key: &[u8]) -> etcd_client::Error {
    let key = String::from_utf8_lossy(key);
    status::wrong_answer(format!(
        "the watch sent an event of {key:?}, which is not watched"
    ))
}

/// Never resolves without a time.
async fn until(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time).await,
        None => std::future::pending().await,
    }
}
