//! Keeps one worker registered: its ring key, its live key and the lease below it.

mod own_keys;
mod renewal;
mod session;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use etcd_client::{Compare, CompareOp, PutOptions, Txn, TxnOp};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::Instant;

use self::own_keys::OwnKeyEvent;
use self::renewal::{Renewal, RenewalStream};
pub use self::session::RegistrationState;
use self::session::{Action, Event, Lease, Session};
use super::endpoints::{Call, Endpoints};
use super::keys::Keys;
use super::lease;
use super::ring::{self, revision_of};
use super::status;
use crate::error::{Cause, Error, ErrorKind, Result};
use crate::record;
use crate::worker::{Worker, WorkerIdentity};

/// How long the keys of a registration that is being repaired may take to write.
const REPAIR_TIMEOUT: Duration = Duration::from_secs(10);
/// How long ending a registration may take whose owner is gone.
const ORPHAN_TIMEOUT: Duration = Duration::from_secs(2);
/// A lease that runs out before its key is written this often is too short for the way to etcd.
const MAX_LEASES_PER_JOIN: usize = 3;

/// Where and how one worker is registered.
pub(crate) struct Registrar {
    pub(crate) endpoints: Arc<Endpoints>,
    pub(crate) keys: Keys,
    pub(crate) identity: WorkerIdentity,
    /// Whether there is a ring key: not for SERVICE_REGISTRY.
    pub(crate) has_ring: bool,
    pub(crate) ttl: Duration,
}

/// The registration of one worker, kept by a task of its own until [`leave`](Self::leave) or until this is dropped.
pub(crate) struct Registration {
    commands: mpsc::Sender<Command>,
    state: watch::Receiver<RegistrationState>,
    lease: watch::Receiver<LeaseInfo>,
}

/// The lease of a registration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct LeaseInfo {
    /// 0 for none.
    pub(crate) id: i64,
    pub(crate) ends_at: Option<Instant>,
    /// How many leases there have been.
    pub(crate) count: u64,
}

/// At which revisions a worker's keys were last written.
#[derive(Debug, Clone, Copy)]
pub(crate) struct KeyRevisions {
    /// 0 for SERVICE_REGISTRY.
    pub(crate) ring: i64,
    pub(crate) live: i64,
}

/// What a worker asks for that joins.
struct JoinRequest {
    worker: Worker,
    /// Replace a ring record of this identity under another address.
    overwrite: bool,
    deadline: Instant,
    reply: oneshot::Sender<Result<KeyRevisions>>,
}

enum Command {
    Join(JoinRequest),
    Leave {
        deadline: Instant,
        reply: oneshot::Sender<Result<i64>>,
    },
}

/// Signs of life of the program that a worker belongs to.
#[derive(Debug)]
pub struct HostPulse(watch::Sender<Instant>);

/// What a registration knows of its program's life. See [`HostPulse`].
#[derive(Debug, Clone)]
pub struct HostLiveness(watch::Receiver<Instant>);

impl HostPulse {
    /// A pulse and what to give to [`JoinOptions`](crate::membership::JoinOptions). A registration that was given it is
    /// renewed only while [`beat`](Self::beat) is called more often than every third of the TTL.
    pub fn new() -> (HostPulse, HostLiveness) {
        let (sender, receiver) = watch::channel(Instant::now());
        (HostPulse(sender), HostLiveness(receiver))
    }

    /// The program is alive.
    pub fn beat(&self) {
        self.0.send_replace(Instant::now());
    }
}

impl Registration {
    /// Starts the task; nothing is registered before [`join`](Self::join).
    pub(crate) fn start(registrar: Registrar, host: Option<HostLiveness>) -> Self {
        let (commands, receiver) = mpsc::channel(8);
        let (state_sender, state) = watch::channel(RegistrationState::Joining);
        let (lease_sender, lease) = watch::channel(LeaseInfo::default());
        let now = Instant::now();
        let host_alive_at = host.as_ref().map(|host| *host.0.borrow());
        let task = Task {
            registrar: Arc::new(registrar),
            session: Session::new(now, host_alive_at, rand::random()),
            value: Vec::new(),
            stream: None,
            work: JoinSet::new(),
            own_keys: None,
            joins: VecDeque::new(),
            state: state_sender,
            lease: lease_sender,
        };
        tokio::spawn(task.run(receiver, host));
        Registration {
            commands,
            state,
            lease,
        }
    }

    /// Writes both keys and keeps them. The live key is taken over from whoever holds it; the ring key, unless
    /// `overwrite` says so, is not.
    pub(crate) async fn join(
        &self,
        worker: &Worker,
        overwrite: bool,
        deadline: Instant,
    ) -> Result<KeyRevisions> {
        let (reply, answer) = oneshot::channel();
        let request = JoinRequest {
            worker: worker.clone(),
            overwrite,
            deadline,
            reply,
        };
        self.send(Command::Join(request)).await?;
        answer.await.map_err(|_| ended())?
    }

    /// Revokes the lease: the worker is lost at once for everyone. Then the task ends. Returns a revision at which the
    /// live key is gone.
    pub(crate) async fn leave(&self, deadline: Instant) -> Result<i64> {
        let (reply, answer) = oneshot::channel();
        if self.send(Command::Leave { deadline, reply }).await.is_err() {
            return Ok(0);
        }
        answer.await.unwrap_or(Ok(0))
    }

    /// Where the registration stands.
    pub(crate) fn state(&self) -> RegistrationState {
        *self.state.borrow()
    }

    /// Its lease.
    pub(crate) fn lease(&self) -> LeaseInfo {
        *self.lease.borrow()
    }

    /// Whether the task has ended: a failed first join ends it.
    pub(crate) fn is_over(&self) -> bool {
        self.commands.is_closed()
    }

    async fn send(&self, command: Command) -> Result<()> {
        self.commands.send(command).await.map_err(|_| ended())
    }
}

fn ended() -> Error {
    Error::new(
        ErrorKind::Closed,
        "The registration was ended while the worker was joining",
    )
}

/// How writing the keys ended.
enum Registered {
    /// Every key is in place.
    InPlace { lease: Lease },
    /// The live key is held by another lease and was left alone.
    Displaced { lease: Lease, holder: i64 },
    /// The lease to be used does not exist.
    LeaseGone { lease: i64 },
    /// `lease` may exist on the server.
    Failed { lease: Option<Lease>, error: Error },
}

/// An error, and the lease that exists or may exist on the server all the same.
type Unfinished = (Option<Lease>, Error);

/// What a piece of work of the task ended with.
enum Done {
    Renewal {
        lease: i64,
        renewal: Renewal,
    },
    Repair(Registered),
    Join {
        outcome: std::result::Result<(Lease, KeyRevisions), Unfinished>,
        value: Vec<u8>,
        reply: oneshot::Sender<Result<KeyRevisions>>,
    },
    OwnKeysWatchEnded,
}

struct Task {
    registrar: Arc<Registrar>,
    session: Session,
    /// The record under both keys.
    value: Vec<u8>,
    /// The stream of the last answered renewal, while no renewal is using it.
    stream: Option<Box<RenewalStream>>,
    work: JoinSet<Done>,
    own_keys: Option<OwnKeys>,
    joins: VecDeque<JoinRequest>,
    state: watch::Sender<RegistrationState>,
    lease: watch::Sender<LeaseInfo>,
}

struct OwnKeys {
    task: AbortHandle,
    events: mpsc::Receiver<OwnKeyEvent>,
}

impl Task {
    async fn run(mut self, mut commands: mpsc::Receiver<Command>, host: Option<HostLiveness>) {
        let mut host = host.map(|host| host.0);
        loop {
            // One at a time: two registrations at once could leave the key on the lease that is not renewed.
            if !self.session.is_registering()
                && let Some(request) = self.joins.pop_front()
            {
                self.start_join(request);
            }
            let now = Instant::now();
            for action in self.session.poll(now) {
                self.carry_out(action);
            }
            self.show_lease();
            let wake_at = self.session.wake_at(now);
            tokio::select! {
                command = commands.recv() => match command {
                    Some(Command::Join(request)) => self.joins.push_back(request),
                    Some(Command::Leave { deadline, reply }) => {
                        let result = self.leave(deadline).await;
                        let _ = reply.send(result);
                        return;
                    }
                    None => {
                        if let Err(error) = self.leave(Instant::now() + ORPHAN_TIMEOUT).await {
                            log::warn!("{error}");
                        }
                        return;
                    }
                },
                Some(done) = self.work.join_next() => match done {
                    Ok(done) => {
                        if let Next::End { error, reply } = self.finished(done) {
                            // First, so that the next join finds this registration to be over.
                            commands.close();
                            let _ = reply.send(Err(error));
                            if let Err(error) = self.leave(Instant::now() + ORPHAN_TIMEOUT).await {
                                log::debug!("{error}");
                            }
                            return;
                        }
                    }
                    Err(error) if error.is_panic() => {
                        log::error!("A defect ended a task of the registration of {}: {error}", self.registrar.identity);
                    }
                    Err(_) => {}
                },
                Some(event) = next_own_key_event(&mut self.own_keys) => self.own_key_changed(event),
                Some(at) = next_beat(&mut host) => self.session.handle(Event::HostAlive { at }, Instant::now()),
                () = tokio::time::sleep_until(wake_at) => {}
            }
        }
    }

    fn show_lease(&self) {
        let id = self.session.lease().map_or(0, |lease| lease.id);
        let ends_at = self.session.lease_ends_at();
        self.lease.send_if_modified(|info| {
            let is_new = id != 0 && id != info.id;
            let new = LeaseInfo {
                id,
                ends_at,
                count: info.count + u64::from(is_new),
            };
            std::mem::replace(info, new) != new
        });
    }

    fn carry_out(&mut self, action: Action) {
        match action {
            Action::Renew {
                lease,
                patience,
                limit,
            } => {
                let endpoints = self.registrar.endpoints.clone();
                let stream = self.stream.take();
                self.work.spawn(async move {
                    let renewal = renewal::renew(endpoints, stream, lease, patience, limit).await;
                    Done::Renewal {
                        lease: lease.id,
                        renewal,
                    }
                });
            }
            Action::Register { lease } => {
                let registrar = self.registrar.clone();
                let value = self.value.clone();
                let deadline = Instant::now() + REPAIR_TIMEOUT;
                self.work.spawn(async move {
                    Done::Repair(registrar.repair(&value, lease, deadline).await)
                });
            }
            Action::Report(state) => self.report(state),
        }
    }

    fn report(&self, state: RegistrationState) {
        let identity = self.registrar.identity;
        match state {
            RegistrationState::Suspect | RegistrationState::Lost => {
                log::warn!(
                    "The registration of {identity} is {state:?}: etcd has not answered its renewals"
                );
            }
            RegistrationState::Rejoining => {
                log::warn!("The lease of {identity} is gone; registering again");
            }
            RegistrationState::Joining
            | RegistrationState::Registered
            | RegistrationState::Left => log::info!("The registration of {identity} is {state:?}"),
        }
        self.state.send_replace(state);
    }

    fn start_join(&mut self, request: JoinRequest) {
        self.session.join_started();
        let registrar = self.registrar.clone();
        let lease = self.session.lease();
        self.work.spawn(async move {
            let JoinRequest {
                worker,
                overwrite,
                deadline,
                reply,
            } = request;
            let value = record::encode(&worker);
            Done::Join {
                outcome: registrar
                    .join(&worker, &value, overwrite, lease, deadline)
                    .await,
                value,
                reply,
            }
        });
    }

    fn finished(&mut self, done: Done) -> Next {
        let now = Instant::now();
        match done {
            Done::Renewal { lease, renewal } => {
                let event = match renewal {
                    Renewal::Renewed { sent_at, stream } => {
                        self.stream = Some(stream);
                        Event::Renewed { lease, sent_at }
                    }
                    Renewal::Gone => Event::LeaseGone { lease },
                    Renewal::Failed { reason } => {
                        log::debug!(
                            "Renewing the lease of {}: {reason}",
                            self.registrar.identity
                        );
                        Event::RenewalFailed { lease }
                    }
                };
                self.session.handle(event, now);
            }
            Done::Repair(outcome) => match outcome {
                Registered::InPlace { lease } => self.in_place(lease, now),
                Registered::Displaced { lease, holder } => {
                    self.warn_of_foreign_lease(holder);
                    self.in_place(lease, now);
                }
                Registered::LeaseGone { lease } => {
                    self.session.register_found_lease_gone(lease, now);
                }
                Registered::Failed { lease, error } => {
                    log::warn!("Registering {} again: {error}", self.registrar.identity);
                    self.session.handle(Event::RegisterFailed { lease }, now);
                }
            },
            Done::Join {
                outcome,
                value,
                reply,
            } => match outcome {
                Ok((lease, revisions)) => {
                    self.value = value;
                    self.in_place(lease, now);
                    let _ = reply.send(Ok(revisions));
                }
                Err((lease, error)) => {
                    self.session.handle(Event::RegisterFailed { lease }, now);
                    // Whatever was registered before still is; if nothing was, only the lease is left to be revoked.
                    if self.value.is_empty() {
                        return Next::End { error, reply };
                    }
                    let _ = reply.send(Err(error));
                }
            },
            Done::OwnKeysWatchEnded => {}
        }
        Next::GoOn
    }

    /// The keys were written: watch them from now on.
    fn in_place(&mut self, lease: Lease, now: Instant) {
        self.session.handle(Event::Registered { lease }, now);
        let (sender, events) = mpsc::channel(8);
        let recheck = (lease.ttl * 2).max(Duration::from_secs(10));
        let watch = own_keys::watch_own_keys(self.registrar.clone(), lease.id, recheck, sender);
        let task = self.work.spawn(async move {
            watch.await;
            Done::OwnKeysWatchEnded
        });
        if let Some(old) = self.own_keys.replace(OwnKeys { task, events }) {
            old.task.abort();
        }
    }

    fn own_key_changed(&mut self, event: OwnKeyEvent) {
        let identity = self.registrar.identity;
        let now = Instant::now();
        match event {
            OwnKeyEvent::LiveMissing => {
                log::warn!("The live key of {identity} is gone; writing it again");
                self.session.handle(Event::LiveKeyMissing, now);
            }
            OwnKeyEvent::RingMissing => {
                log::warn!("The ring key of {identity} is gone; writing it again");
                self.session.handle(Event::RingKeyMissing, now);
            }
            // While this process writes the key itself, the new lease is its own.
            OwnKeyEvent::LiveForeign { lease } => {
                if !self.session.is_registering() {
                    self.warn_of_foreign_lease(lease);
                }
            }
        }
    }

    fn warn_of_foreign_lease(&self, holder: i64) {
        log::warn!(
            "Another process has registered {} under lease {holder:x}. Its record stays; this process writes its own \
             again when that one is gone. Give each worker an identity of its own.",
            self.registrar.identity
        );
    }

    /// Ends everything and revokes the lease.
    async fn leave(&mut self, deadline: Instant) -> Result<i64> {
        if let Some(own_keys) = self.own_keys.take() {
            own_keys.task.abort();
        }
        // A join or repair under way may be about to use a new lease: let it end, so that its lease is known.
        while self.session.is_registering() {
            match tokio::time::timeout_at(deadline, self.work.join_next()).await {
                Ok(Some(Ok(Done::OwnKeysWatchEnded))) => {}
                Ok(Some(Ok(done))) => {
                    if let Next::End { error, reply } = self.finished(done) {
                        let _ = reply.send(Err(error));
                    }
                }
                Ok(Some(Err(_))) => {}
                Ok(None) | Err(_) => break,
            }
        }
        self.work.abort_all();
        self.report(RegistrationState::Left);
        match self.session.lease() {
            Some(lease) => self.registrar.revoke(lease.id, deadline).await,
            None => Ok(0),
        }
    }
}

enum Next {
    GoOn,
    /// The first join failed: its caller is to be told.
    End {
        error: Error,
        reply: oneshot::Sender<Result<KeyRevisions>>,
    },
}

/// Never resolves while there is no watch.
async fn next_own_key_event(own_keys: &mut Option<OwnKeys>) -> Option<OwnKeyEvent> {
    match own_keys {
        Some(own_keys) => own_keys.events.recv().await,
        None => std::future::pending().await,
    }
}

/// Never resolves for a program that promised no signs of life, or will give none any more.
async fn next_beat(host: &mut Option<watch::Receiver<Instant>>) -> Option<Instant> {
    match host {
        Some(host) => match host.changed().await {
            Ok(()) => Some(*host.borrow_and_update()),
            Err(_) => None,
        },
        None => std::future::pending().await,
    }
}

impl Registrar {
    /// Writes both keys, as a worker that starts does.
    async fn join(
        &self,
        worker: &Worker,
        value: &[u8],
        overwrite: bool,
        lease: Option<Lease>,
        deadline: Instant,
    ) -> std::result::Result<(Lease, KeyRevisions), Unfinished> {
        let on_ring = async {
            if self.has_ring {
                ring::register(&self.endpoints, &self.keys, worker, overwrite, deadline).await
            } else {
                Ok(0)
            }
        };
        let granted = async {
            match lease {
                Some(lease) => Ok(lease),
                None => self.grant(deadline).await,
            }
        };
        // Side by side, since etcd brings each to disk.
        let (on_ring, granted) = tokio::join!(on_ring, granted);
        let ring = match on_ring {
            Ok(revision) => revision,
            Err(error) => {
                let mut left = granted.map_or_else(|(lease, _)| lease, Some);
                // Nobody is to see a lease of a worker that was refused.
                if let Some(new) = left
                    && lease.is_none()
                    && self.revoke(new.id, deadline).await.is_ok()
                {
                    left = None;
                }
                return Err((left, error));
            }
        };
        let (lease, live) = self.take_over(value, granted?, deadline).await?;
        Ok((lease, KeyRevisions { ring, live }))
    }

    /// Writes the live key whoever holds it. Returns its revision, and the lease it is on: a new one if that which was
    /// given has ended.
    async fn take_over(
        &self,
        value: &[u8],
        mut lease: Lease,
        deadline: Instant,
    ) -> std::result::Result<(Lease, i64), Unfinished> {
        for already_gone in 0..MAX_LEASES_PER_JOIN {
            // When the time is over, the lease before is why.
            let explained = |(lease, error): Unfinished| match error.kind().is_retryable() {
                true if already_gone > 0 => (lease, self.lease_too_short()),
                _ => (lease, error),
            };
            if already_gone > 0 {
                lease = self.grant(deadline).await.map_err(explained)?;
            }
            let written = self.try_take_over(value, lease, deadline).await;
            if let Some(revision) = written.map_err(explained)? {
                return Ok((lease, revision));
            }
        }
        Err((None, self.lease_too_short()))
    }

    /// `None`: the lease does not exist.
    async fn try_take_over(
        &self,
        value: &[u8],
        lease: Lease,
        deadline: Instant,
    ) -> std::result::Result<Option<i64>, Unfinished> {
        let put = Txn::new().and_then([self.put_live(value, lease)]);
        match self.commit_live(put, deadline).await {
            Ok(answer) => Ok(answer.map(|answer| revision_of(answer.header()))),
            Err(error) => Err((Some(lease), error)),
        }
    }

    fn lease_too_short(&self) -> Error {
        Error::new(
            ErrorKind::Unavailable,
            format!(
                "The lease of {} ended before its key could be written: the way to etcd takes longer than \
                 alluxio.worker.failure.detection.timeout ({} s). Raise it, or bring etcd closer.",
                self.identity,
                self.ttl.as_secs()
            ),
        )
    }

    /// Writes the keys that are missing, and no other.
    async fn repair(&self, value: &[u8], lease: Option<Lease>, deadline: Instant) -> Registered {
        let lease = match lease {
            Some(lease) => lease,
            None => match self.grant(deadline).await {
                Ok(lease) => lease,
                Err((lease, error)) => return Registered::Failed { lease, error },
            },
        };
        let failed = |error| Registered::Failed {
            lease: Some(lease),
            error,
        };
        if self.has_ring {
            let key = self.keys.ring_key(&self.identity);
            let call = Call::new(
                format!("Create for path:{key}, value bytes len:{}", value.len()),
                deadline,
            );
            let put = Txn::new()
                .when([Compare::version(key.as_str(), CompareOp::Equal, 0)])
                .and_then([TxnOp::put(key.as_str(), value, None)]);
            if let Err(error) = ring::commit(&self.endpoints, &call, put).await {
                return failed(error);
            }
        }
        let key = self.keys.live_key(&self.identity);
        let put = Txn::new()
            .when([Compare::version(key.as_str(), CompareOp::Equal, 0)])
            .and_then([self.put_live(value, lease)])
            .or_else([TxnOp::get(key.as_str(), None)]);
        let answer = match self.commit_live(put, deadline).await {
            Ok(Some(answer)) => answer,
            Ok(None) => return Registered::LeaseGone { lease: lease.id },
            Err(error) => return failed(error),
        };
        let holder = if answer.succeeded() {
            lease.id
        } else {
            answer
                .op_responses()
                .into_iter()
                .next()
                .and_then(ring::first_key)
                .map_or(lease.id, |kv| kv.lease())
        };
        if holder == lease.id {
            Registered::InPlace { lease }
        } else {
            Registered::Displaced { lease, holder }
        }
    }

    fn put_live(&self, value: &[u8], lease: Lease) -> TxnOp {
        TxnOp::put(
            self.keys.live_key(&self.identity),
            value,
            Some(PutOptions::new().with_lease(lease.id)),
        )
    }

    /// `None`: the lease does not exist.
    async fn commit_live(
        &self,
        txn: Txn,
        deadline: Instant,
    ) -> Result<Option<etcd_client::TxnResponse>> {
        let call = Call::new(
            format!(
                "Adding child for parentPath:{}, childPath:{}",
                self.keys.live_prefix(),
                self.identity
            ),
            deadline,
        );
        self.endpoints
            .call(&call, |mut client| {
                let txn = txn.clone();
                async move {
                    match client.txn(txn).await {
                        Ok(answer) => Ok(Some(answer)),
                        Err(error) if status::is_lease_not_found(&error) => Ok(None),
                        Err(error) => Err(error),
                    }
                }
            })
            .await
    }

    /// Grants a lease of an id of our own choice, so that a try whose answer was lost can be repeated.
    async fn grant(&self, deadline: Instant) -> std::result::Result<Lease, Unfinished> {
        let asked_for = Lease {
            id: lease::new_id(),
            ttl: self.ttl,
            sent_at: Instant::now(),
        };
        match lease::grant(&self.endpoints, asked_for.id, self.ttl, deadline).await {
            Ok(ttl) => Ok(Lease { ttl, ..asked_for }),
            Err(error) if error.kind() == ErrorKind::Unavailable => Err((Some(asked_for), error)),
            Err(error) => Err((None, error)),
        }
    }

    async fn revoke(&self, lease: i64, deadline: Instant) -> Result<i64> {
        lease::revoke(&self.endpoints, lease, deadline)
            .await
            .map_err(|error| {
                let text = error.cause().map_or("", |cause| cause.text.as_str());
                Error::with_cause(
                    error.kind(),
                    error.message(),
                    Cause {
                        text: format!(
                            "{text}; {} stays listed as live until its lease ends by itself, within {} s",
                            self.identity,
                            self.ttl.as_secs()
                        ),
                        timed_out: error.cause().is_some_and(|cause| cause.timed_out),
                    },
                )
            })
    }
}
