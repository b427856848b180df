//! Keeps one worker registered: its ring key, its live key and its lease.

mod own_keys;
mod registrar;
mod renewal;
mod session;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use ::log::Level;
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::{AbortHandle, Id, JoinError, JoinSet};
use tokio::time::{Instant, timeout_at};

use self::own_keys::OwnKeys;
use self::registrar::Attempt;
pub(crate) use self::registrar::{KeyRevisions, Registrar};
use self::renewal::Renewals;
pub use self::session::RegistrationState;
use self::session::{Action, Blame, Event, Lease, Session};
use super::endpoints::{Endpoints, Purpose};
use crate::boottime::BootTime;
use crate::error::{Cause, Error, ErrorKind, Result};
use crate::log;
use crate::log_limit::LogLimit;
use crate::record;
use crate::worker::{Worker, WorkerIdentity};

/// The time limit for writing the keys in a repair of a registration.
const REPAIR_TIMEOUT: Duration = Duration::from_secs(10);
/// The time limit for ending a registration without an owner.
const ORPHAN_TIMEOUT: Duration = Duration::from_secs(2);
/// The number of lines about one registration that are logged in each [`LOG_WINDOW`].
const LOG_LINES: u32 = 6;
const LOG_WINDOW: Duration = Duration::from_secs(30);
/// How much later than its deadline an operation may answer. The answer is more precise than a
/// timeout.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// The registration of one worker. Its task runs until [`leave`](Self::leave) or until this is
/// dropped.
pub(crate) struct Registration {
    commands: mpsc::UnboundedSender<Command>,
    standing: watch::Receiver<Standing>,
    endpoints: Arc<Endpoints>,
}

/// The state of a registration, with its lease and counters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Standing {
    pub(crate) state: RegistrationState,
    /// The id of the lease, or 0 without a lease.
    pub(crate) lease: i64,
    pub(crate) lease_ends_at: Option<BootTime>,
    /// The number of leases so far.
    pub(crate) leases: u64,
    /// How often two thirds of the TTL passed without an answer to a renewal.
    pub(crate) late_renewals: u64,
    /// The lease of another process that holds the live key, or 0 for a key without a lease.
    pub(crate) displaced_by: Option<i64>,
}

/// The parameters of a join.
struct JoinRequest {
    worker: Worker,
    /// Whether to replace a ring record of this identity with another address.
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

/// The sender of the signs of life of a worker's program.
#[derive(Debug)]
pub struct HostPulse(watch::Sender<BootTime>);

/// The receiver of the signs of life of a worker's program. See [`HostPulse`].
#[derive(Debug, Clone)]
pub struct HostLiveness(watch::Receiver<BootTime>);

impl HostPulse {
    /// Returns a pulse, and the liveness to set in [`JoinOptions`](crate::membership::JoinOptions).
    /// A registration with this liveness is renewed only while [`beat`](Self::beat) is called more
    /// often than every third of the TTL.
    pub fn new() -> (HostPulse, HostLiveness) {
        let (sender, receiver) = watch::channel(BootTime::now());
        (HostPulse(sender), HostLiveness(receiver))
    }

    /// Returns the number of registrations and other holders of a [`HostLiveness`].
    pub(crate) fn listeners(&self) -> usize {
        self.0.receiver_count()
    }

    /// Sends a sign of life.
    pub fn beat(&self) {
        self.0.send_replace(BootTime::now());
    }
}

impl Registration {
    /// Starts the task. It registers nothing before [`join`](Self::join).
    pub(crate) fn start(registrar: Registrar, host: Option<HostLiveness>) -> Self {
        let (commands, receiver) = mpsc::unbounded_channel();
        let endpoints = registrar.endpoints.clone();
        let (task, standing) = Task::new(registrar, host.as_ref());
        // Boxed like other futures below, because the stacks of threads may be small.
        tokio::spawn(Box::pin(task.run(receiver, host)));
        Registration {
            commands,
            standing,
            endpoints,
        }
    }

    /// Writes both keys and keeps them. The live key is taken over from any other process. The ring
    /// key is taken over only with `overwrite`.
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
        if self.commands.send(Command::Join(request)).is_err() {
            return Err(ended());
        }
        match timeout_at(deadline + LAST_WORDS, answer).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) if self.is_ending() => Err(ended()),
            Ok(Err(_)) => Err(Error::new(
                ErrorKind::Internal,
                format!("A bug ended the join of {}", worker.identity),
            )),
            Err(_) => Err(Error::with_cause(
                ErrorKind::Unavailable,
                format!("Registering {} failed:", worker.identity),
                self.endpoints.no_answer(),
            )),
        }
    }

    /// Asks the task to revoke the lease, so that the worker is lost at once, and then to end. The
    /// answer is a revision at which the live key is gone. It is 0 if the key belongs to another
    /// process, or if the revision is unknown. Without an answer, the registration has ended or is
    /// about to end.
    pub(crate) fn leave(&self, deadline: Instant) -> oneshot::Receiver<Result<i64>> {
        let (reply, answer) = oneshot::channel();
        // Sending fails if the registration is ending.
        let _ = self.commands.send(Command::Leave { deadline, reply });
        answer
    }

    /// Leaves in the background.
    pub(crate) fn abandon(&self) {
        drop(self.leave(Instant::now() + ORPHAN_TIMEOUT));
    }

    /// Returns the state of the registration, or `None` once it ends.
    pub(crate) fn standing(&self) -> Option<Standing> {
        let standing = *self.standing.borrow();
        let is_over = self.is_ending() || standing.state == RegistrationState::Left;
        (!is_over).then_some(standing)
    }

    /// Whether the task accepts no more joins, because it is leaving or has left. A failed first
    /// join also ends the task.
    pub(crate) fn is_ending(&self) -> bool {
        self.commands.is_closed()
    }

    /// Waits for the end of the task.
    pub(crate) async fn ended(&self) {
        let mut standing = self.standing.clone();
        while standing.changed().await.is_ok() {}
    }

    /// Whether the task has ended.
    pub(crate) fn has_ended(&self) -> bool {
        self.standing.has_changed().is_err()
    }
}

/// Returns the limit of log lines about one registration.
pub(crate) fn log_limit() -> LogLimit {
    LogLimit::new(LOG_LINES, LOG_WINDOW)
}

pub(crate) fn ended() -> Error {
    Error::new(
        ErrorKind::Closed,
        "The registration was ended while the worker was joining",
    )
}

/// The error of an operation that timed out because an earlier operation of the same worker is
/// running.
pub(crate) fn busy(identity: &WorkerIdentity) -> Error {
    Error::with_cause(
        ErrorKind::Unavailable,
        format!("Registering {identity} failed:"),
        Cause {
            text: "an earlier join or leave of this worker in this process did not finish in time"
                .into(),
            timed_out: true,
        },
    )
}

/// The result of a piece of work.
struct Done {
    event: Event,
    /// For a join: the answer to its caller.
    joined: Option<Joined>,
}

struct Joined {
    address: String,
    value: Vec<u8>,
    outcome: Result<KeyRevisions>,
    reply: oneshot::Sender<Result<KeyRevisions>>,
}

impl From<Event> for Done {
    fn from(event: Event) -> Self {
        Done {
            event,
            joined: None,
        }
    }
}

struct Task {
    registrar: Arc<Registrar>,
    session: Session,
    /// The record under both keys.
    value: Vec<u8>,
    /// The address of the worker in that record.
    address: String,
    renewals: Renewals,
    work: JoinSet<Done>,
    /// Events that work reports before it ends.
    reports: mpsc::UnboundedReceiver<Event>,
    reporter: mpsc::UnboundedSender<Event>,
    /// The running join or repair. Only one runs at a time, because two could leave the key on the
    /// lease that is not renewed.
    registering: Option<Registering>,
    /// The last lease that a join or repair requested from etcd.
    asked_for: Arc<Mutex<Option<Lease>>>,
    own_keys: Option<OwnKeys>,
    joins: VecDeque<JoinRequest>,
    /// Why the last registration was necessary.
    lost: &'static str,
    standing: watch::Sender<Standing>,
}

struct Registering {
    task: AbortHandle,
    is_join: bool,
}

impl Task {
    fn new(registrar: Registrar, host: Option<&HostLiveness>) -> (Self, watch::Receiver<Standing>) {
        let host_alive_at = host.map(|host| *host.0.borrow());
        let (reporter, reports) = mpsc::unbounded_channel();
        let (standing, receiver) = watch::channel(Standing {
            state: RegistrationState::Joining,
            lease: 0,
            lease_ends_at: None,
            leases: 0,
            late_renewals: 0,
            displaced_by: None,
        });
        let task = Task {
            renewals: Renewals::new(registrar.endpoints.clone(), reporter.clone()),
            registrar: Arc::new(registrar),
            session: Session::new(BootTime::now(), host_alive_at, rand::random()),
            value: Vec::new(),
            address: String::new(),
            work: JoinSet::new(),
            reports,
            reporter,
            registering: None,
            asked_for: Arc::default(),
            own_keys: None,
            joins: VecDeque::new(),
            lost: "",
            standing,
        };
        (task, receiver)
    }

    async fn run(self, mut commands: mpsc::UnboundedReceiver<Command>, host: Option<HostLiveness>) {
        Box::pin(self.serve(&mut commands, host)).await;
        // A command that is being sent at this moment would stay in the channel, and its sender
        // would never get an answer.
        commands.close();
        while commands.recv().await.is_some() {}
    }

    async fn serve(
        mut self,
        commands: &mut mpsc::UnboundedReceiver<Command>,
        host: Option<HostLiveness>,
    ) {
        let mut host = host.map(|host| host.0);
        loop {
            let now = BootTime::now();
            self.start_next_join(now);
            self.act(now);
            let turn = Instant::now() + (self.session.wake_at(now) - now);
            let deadlines = self.joins.iter().map(|request| request.deadline);
            let turn = deadlines.fold(turn, Instant::min);
            tokio::select! {
                // The reports of work are handled before its result.
                biased;
                Some(event) = self.reports.recv() => self.session.handle(event, BootTime::now()),
                Some(done) = self.work.join_next_with_id() => match done {
                    Ok((id, done)) => {
                        if let Some(refused) = self.finished(id, done) {
                            // Closed first, so that the next join notices that this registration
                            // ends.
                            commands.close();
                            return Box::pin(self.end_refused(refused)).await;
                        }
                    }
                    Err(error) => self.broken(&error),
                },
                command = commands.recv() => match command {
                    Some(Command::Join(request)) => self.joins.push_back(request),
                    Some(Command::Leave { deadline, reply }) => {
                        commands.close();
                        // The caller may have given up. The result is in the log.
                        let left = Box::pin(self.leave(deadline, Level::Warn)).await;
                        let _ = reply.send(left);
                        return;
                    }
                    None => {
                        let deadline = Instant::now() + ORPHAN_TIMEOUT;
                        let _ = Box::pin(self.leave(deadline, Level::Warn)).await;
                        return;
                    }
                },
                Some(event) = next_own_key_event(&mut self.own_keys) => self.own_key_changed(event),
                Some(at) = next_beat(&mut host) => {
                    self.session.handle(Event::HostAlive { at }, BootTime::now());
                }
                () = tokio::time::sleep_until(turn) => {}
            }
        }
    }

    /// Performs the actions that are due, and publishes the state.
    fn act(&mut self, now: BootTime) {
        // The actions replace what is shown, which the report compares.
        self.report_displacement();
        for action in self.session.poll(now) {
            self.carry_out(action, now);
        }
        let state = self.standing.borrow().state;
        self.show(state);
    }

    fn show(&self, state: RegistrationState) {
        let lease = self.session.lease().map_or(0, |lease| lease.id);
        self.standing.send_if_modified(|standing| {
            let is_new = lease != 0 && lease != standing.lease;
            let is_suspect = state == RegistrationState::Suspect;
            let is_late = is_suspect && standing.state != RegistrationState::Suspect;
            let new = Standing {
                state,
                lease,
                lease_ends_at: self.session.lease_ends_at(),
                leases: standing.leases + u64::from(is_new),
                late_renewals: standing.late_renewals + u64::from(is_late),
                displaced_by: self.session.displaced_by(),
            };
            std::mem::replace(standing, new) != new
        });
    }

    fn carry_out(&mut self, action: Action, now: BootTime) {
        match action {
            Action::Renew {
                lease,
                patience,
                limit,
            } => {
                let renewals = self.renewals.clone();
                self.work.spawn(async move {
                    Box::pin(renewals.renew(lease, patience, limit))
                        .await
                        .into()
                });
            }
            Action::Register { lease } => {
                let attempt = self.attempt(Instant::now() + REPAIR_TIMEOUT);
                let value = self.value.clone();
                let task = self
                    .work
                    .spawn(async move { Box::pin(attempt.repair(&value, lease)).await.into() });
                self.registering = Some(Registering {
                    task,
                    is_join: false,
                });
            }
            Action::Report(state) => {
                self.report(state, now);
                self.show(state);
            }
        }
    }

    fn attempt(&self, deadline: Instant) -> Attempt {
        Attempt {
            registrar: self.registrar.clone(),
            events: self.reporter.clone(),
            asked_for: self.asked_for.clone(),
            deadline,
        }
    }

    fn report(&self, state: RegistrationState, now: BootTime) {
        let Registrar {
            identity,
            log_limit: limit,
            ..
        } = &*self.registrar;
        let before = self.standing.borrow().state;
        match state {
            RegistrationState::Suspect | RegistrationState::Lost => {
                let reason = match self.session.blame(now) {
                    Blame::Stopped(long) => format!(
                        "this process or its machine did not run for {:.1} s; the lease is being \
                         renewed",
                        long.as_secs_f64()
                    ),
                    Blame::Host(long) => format!(
                        "the program gave no sign of life for {:.1} s, and the lease is renewed \
                         only while it does",
                        long.as_secs_f64()
                    ),
                    Blame::Etcd(long, None) => format!(
                        "etcd has answered no renewal for {:.1} s",
                        long.as_secs_f64()
                    ),
                    Blame::Etcd(long, Some(failure)) => format!(
                        "etcd has answered no renewal for {:.1} s; the last renewal failed: \
                         {failure}",
                        long.as_secs_f64()
                    ),
                };
                let what = match state {
                    RegistrationState::Suspect => "ends soon",
                    _ => "may have ended",
                };
                log::limited!(
                    limit,
                    identity,
                    Warn,
                    "The lease of {identity} {what}: {reason}"
                );
            }
            RegistrationState::Rejoining => {
                let lost = self.lost;
                log::limited!(
                    limit,
                    identity,
                    Warn,
                    "{lost} of {identity} is gone; registering again"
                );
            }
            RegistrationState::Registered
                if matches!(before, RegistrationState::Suspect | RegistrationState::Lost) =>
            {
                log::limited!(
                    limit,
                    identity,
                    Info,
                    "The lease of {identity} is renewed again"
                );
            }
            // The writer of the keys, or the caller of a leave, has logged these states.
            RegistrationState::Joining
            | RegistrationState::Registered
            | RegistrationState::Left => {}
        }
    }

    /// Logs that another process has taken the live key. [`Task::in_place`] logs that this process
    /// has written it again.
    fn report_displacement(&self) {
        let Registrar {
            identity,
            log_limit: limit,
            ..
        } = &*self.registrar;
        let holder = self.session.displaced_by();
        if let Some(holder) = holder
            && Some(holder) != self.standing.borrow().displaced_by
        {
            log::limited!(
                limit,
                identity,
                Warn,
                "Another process has registered {identity} under lease {holder:x}. Its record \
                 stays. This process writes its own record again when the other record is gone. \
                 Give each worker its own identity."
            );
        }
    }

    fn start_next_join(&mut self, now: BootTime) {
        // If the caller has given up, the worker is not registered.
        self.joins.retain(|request| !request.reply.is_closed());
        if self.joins.is_empty() {
            return;
        }
        // A join writes everything that a repair would write, so it does not wait for the repair.
        // An aborted repair has not overwritten the keys of others, and its late requests will not
        // either.
        if let Some(repair) = self.registering.take_if(|registering| !registering.is_join) {
            repair.task.abort();
            self.interrupted(now);
        }
        if self.registering.is_none()
            && let Some(request) = self.joins.pop_front()
        {
            self.start_join(request);
        }
        let now = Instant::now();
        while let Some(late) = self
            .joins
            .iter()
            .position(|request| request.deadline <= now)
            && let Some(request) = self.joins.remove(late)
        {
            let _ = request.reply.send(Err(busy(&self.registrar.identity)));
        }
    }

    /// The running join or repair ends without a result.
    fn interrupted(&mut self, now: BootTime) {
        let lease = self.session.lease().or(*self.asked_for.lock());
        self.session.handle(Event::RegisterFailed { lease }, now);
    }

    /// A piece of work ended without an answer: it was aborted, or a bug ended it.
    fn broken(&mut self, error: &JoinError) {
        if error.is_cancelled() {
            return;
        }
        let identity = self.registrar.identity;
        let now = BootTime::now();
        log::limited!(
            self.registrar.log_limit,
            identity,
            Error,
            "A bug ended a task of the registration of {identity}: {error}"
        );
        let of_registering = |registering: &mut Registering| registering.task.id() == error.id();
        if self.registering.take_if(of_registering).is_some() {
            self.interrupted(now);
        } else {
            let lease = self.session.lease().map_or(0, |lease| lease.id);
            let reason = error.to_string();
            let failed = Event::RenewalFailed { lease, reason };
            self.session.handle(failed, now);
        }
    }

    fn start_join(&mut self, request: JoinRequest) {
        self.session.join_started();
        let JoinRequest {
            worker,
            overwrite,
            deadline,
            reply,
        } = request;
        let attempt = self.attempt(deadline);
        let lease = self.session.lease();
        let task = self.work.spawn(async move {
            let value = record::encode(&worker);
            let joined = Box::pin(attempt.join(&worker, &value, overwrite, lease)).await;
            let (event, outcome) = match joined {
                Ok((lease, revisions)) => (Event::Registered { lease }, Ok(revisions)),
                Err((lease, error)) => (Event::RegisterFailed { lease }, Err(error)),
            };
            let host = worker.address.host.as_deref().unwrap_or_default();
            let address = format!("{}:{}", host.escape_debug(), worker.address.rpc_port);
            let joined = Some(Joined {
                address,
                value,
                outcome,
                reply,
            });
            Done { event, joined }
        });
        self.registering = Some(Registering {
            task,
            is_join: true,
        });
    }

    /// Returns the first join if it failed. In that case nothing is registered.
    fn finished(&mut self, id: Id, Done { event, joined }: Done) -> Option<Joined> {
        let now = BootTime::now();
        let of_registering = |registering: &mut Registering| registering.task.id() == id;
        if self.registering.take_if(of_registering).is_none() && event.ends_registering() {
            // This repair ended just before it was aborted for a join. The join finds the keys that
            // the repair wrote.
            return None;
        }
        if let Some(joined) = &joined
            && joined.outcome.is_ok()
        {
            self.value = joined.value.clone();
            self.address = joined.address.clone();
        }
        if let Event::LeaseGone { .. } | Event::RegisterFoundLeaseGone { .. } = event {
            self.lost = "The lease";
        }
        let in_place = match event {
            Event::Registered { lease } | Event::Displaced { lease, .. } => Some(lease),
            _ => None,
        };
        let is_ours = matches!(event, Event::Registered { .. });
        self.session.handle(event, now);
        if let Some(lease) = in_place {
            self.in_place(lease, is_ours);
        }
        let joined = joined?;
        if joined.outcome.is_err() && self.value.is_empty() {
            return Some(joined);
        }
        // Called first, so that a caller that has joined sees the worker as registered.
        self.act(now);
        let _ = joined.reply.send(joined.outcome);
        None
    }

    /// Ends this registration, whose first join failed, and answers that join.
    async fn end_refused(&mut self, refused: Joined) {
        let deadline = Instant::now() + ORPHAN_TIMEOUT;
        let is_answer = |error: &Error| !error.kind().is_retryable();
        if refused.outcome.as_ref().is_err_and(is_answer) {
            // etcd has just answered. Its lease is revoked before the caller can see it.
            let _ = Box::pin(self.leave(deadline, Level::Debug)).await;
            let _ = refused.reply.send(refused.outcome);
        } else {
            let _ = refused.reply.send(refused.outcome);
            let _ = Box::pin(self.leave(deadline, Level::Debug)).await;
        }
    }

    /// Handles that the keys were written: watches them from now on.
    fn in_place(&mut self, lease: Lease, is_ours: bool) {
        let identity = self.registrar.identity;
        // A first join that is ended at once has stored no record.
        if is_ours && !self.value.is_empty() {
            let endpoint = self.registrar.endpoints.pick(Purpose::Requests);
            log::limited!(
                self.registrar.log_limit,
                identity,
                Info,
                "Registered {identity} at {}: lease {:x} with a TTL of {} s, through etcd endpoint \
                 {}",
                self.address,
                lease.id,
                lease.ttl.as_secs(),
                endpoint.connection.url()
            );
        }
        let recheck = (lease.ttl * 2).max(Duration::from_secs(10));
        let watch = OwnKeys::watch(self.registrar.clone(), lease.id, recheck);
        self.own_keys = Some(watch);
    }

    fn own_key_changed(&mut self, event: Event) {
        let event = match event {
            // While this process writes the key itself, the new lease may be its own.
            Event::LiveKeyForeign { .. } if self.session.is_registering() => return,
            // A late request of this process wrote the key. It would be lost together with that
            // lease.
            Event::LiveKeyForeign { holder } if self.registrar.lease_ids.contain(holder) => {
                Event::LiveKeyMissing
            }
            event => event,
        };
        match event {
            Event::LiveKeyMissing => self.lost = "The live key",
            Event::RingKeyMissing => self.lost = "The ring key",
            _ => {}
        }
        self.session.handle(event, BootTime::now());
    }

    /// Ends everything and revokes the lease. If the revocation fails and nothing was registered,
    /// this only logs at `level`.
    async fn leave(&mut self, deadline: Instant, level: Level) -> Result<i64> {
        self.own_keys = None;
        self.joins.clear();
        // A running join or repair may be about to use a new lease. Waits for its end, so that no
        // lease is granted later. Half of the time is reserved for the revocation.
        let now = Instant::now();
        let mut left = deadline.saturating_duration_since(now);
        if !self.session.has_joined() {
            left = left.min(ORPHAN_TIMEOUT);
        }
        let (patience, deadline) = (now + left / 2, now + left);
        while self.registering.is_some() {
            match timeout_at(patience, self.work.join_next_with_id()).await {
                Ok(Some(Ok((id, mut done)))) => {
                    // The caller of this join gets an error, because the registration ends at once.
                    if let Some(joined) = &mut done.joined
                        && joined.outcome.is_ok()
                    {
                        joined.outcome = Err(ended());
                    }
                    if let Some(joined) = self.finished(id, done) {
                        let _ = joined.reply.send(joined.outcome);
                    }
                }
                Ok(Some(Err(error))) => self.broken(&error),
                Ok(None) | Err(_) => break,
            }
        }
        let unfinished = match self.registering {
            Some(_) => *self.asked_for.lock(),
            None => None,
        };
        self.work.abort_all();
        self.own_keys = None;
        let held = self.session.lease();
        let other = unfinished.filter(|lease| held.is_none_or(|held| held.id != lease.id));
        let revoke = async |lease: Option<Lease>| match lease {
            Some(lease) => self.registrar.revoke(lease.id, deadline).await,
            None => Ok(0),
        };
        let (other, left) = tokio::join!(revoke(other), revoke(held));
        let left = other.and_then(|other| Ok(other.max(left?)));
        let left = self.say_how_it_left(left, held, level);
        self.show(RegistrationState::Left);
        // The key is gone at the later of both revisions. Another process's key stays.
        match self.session.displaced_by() {
            Some(_) => left.map(|_| 0),
            None => left,
        }
    }

    fn say_how_it_left(
        &self,
        left: Result<i64>,
        lease: Option<Lease>,
        level: Level,
    ) -> Result<i64> {
        let identity = self.registrar.identity;
        match left {
            Err(error) => {
                let ends_at = self.session.lease_ends_at();
                let until_end = ends_at.map_or(self.registrar.ttl, |at| at - BootTime::now());
                let has_joined = self.session.has_joined();
                let error = registrar::stays_listed(&error, identity, has_joined, until_end);
                let text =
                    format!("Failed to revoke the lease of {identity}, which leaves: {error}");
                if has_joined || level == Level::Warn {
                    log::warn!("{text}");
                } else {
                    log::debug!("{text}");
                }
                return if has_joined { Err(error) } else { Ok(0) };
            }
            Ok(_) if !self.session.has_joined() => {
                log::debug!("{identity} was not registered, and has no keys left in etcd");
            }
            Ok(_) => match lease {
                Some(lease) => {
                    log::info!("{identity} has left: its lease {:x} is revoked", lease.id)
                }
                None => log::info!("{identity} has left; its lease had ended before"),
            },
        }
        left
    }
}

/// Never resolves without a watch.
async fn next_own_key_event(own_keys: &mut Option<OwnKeys>) -> Option<Event> {
    match own_keys {
        Some(own_keys) => own_keys.next().await,
        None => std::future::pending().await,
    }
}

/// Never resolves for a program that promised no signs of life, or whose sender was dropped.
async fn next_beat(host: &mut Option<watch::Receiver<BootTime>>) -> Option<BootTime> {
    match host {
        Some(host) => match host.changed().await {
            Ok(()) => Some(*host.borrow_and_update()),
            Err(_) => None,
        },
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Backend, Config, Properties};
    use crate::etcd::keys::Keys;
    use crate::etcd::lease::LeaseIds;

    /// Returns the task of a worker without an etcd. Nothing runs the task.
    fn idle_task() -> Task {
        let mut properties = Properties::new();
        properties.set("alluxio.worker.membership.manager.type", "ETCD");
        properties.set("alluxio.etcd.endpoints", "http://127.0.0.1:1");
        let config = Config::from_properties(&properties).expect("a good configuration");
        let Backend::Etcd(config) = config.backend else {
            panic!("a cluster in etcd");
        };
        let registrar = Registrar {
            endpoints: Arc::new(Endpoints::new(&config).expect("no files")),
            keys: Keys::new("test"),
            identity: WorkerIdentity::V0(1),
            has_ring: true,
            ttl: Duration::from_secs(5),
            lease_ids: Arc::new(LeaseIds::new()),
            log_limit: log_limit(),
        };
        Task::new(registrar, None).0
    }

    fn request() -> (JoinRequest, oneshot::Receiver<Result<KeyRevisions>>) {
        let (reply, answer) = oneshot::channel();
        let worker = Worker {
            identity: WorkerIdentity::V0(1),
            address: crate::worker::WorkerNetAddress::new("host"),
        };
        let request = JoinRequest {
            worker,
            overwrite: false,
            deadline: Instant::now() + Duration::from_secs(60),
            reply,
        };
        (request, answer)
    }

    fn ask_to_join(task: &mut Task) -> oneshot::Receiver<Result<KeyRevisions>> {
        let (request, answer) = request();
        task.joins.push_back(request);
        answer
    }

    fn under_way(
        task: &mut Task,
        is_join: bool,
        work: impl Future<Output = Done> + Send + 'static,
    ) {
        task.session.join_started();
        let work = task.work.spawn(work);
        task.registering = Some(Registering {
            task: work,
            is_join,
        });
    }

    #[tokio::test]
    async fn a_bug_in_a_join_does_not_keep_others_waiting() {
        let mut task = idle_task();
        under_way(&mut task, true, async { panic!("a bug of a test") });
        let _answer = ask_to_join(&mut task);
        task.start_next_join(BootTime::now());
        assert_eq!(task.joins.len(), 1, "one at a time");
        let Some(Err(error)) = task.work.join_next_with_id().await else {
            panic!("it broke");
        };
        task.broken(&error);
        assert!(!task.session.is_registering());
        task.start_next_join(BootTime::now());
        assert!(task.joins.is_empty() && task.session.is_registering());
    }

    #[tokio::test]
    async fn a_join_that_is_sent_at_the_end_is_answered() {
        let (commands, receiver) = mpsc::unbounded_channel();
        let task = tokio::spawn(idle_task().run(receiver, None));
        let (reply, _) = oneshot::channel();
        let deadline = Instant::now();
        let leave = Command::Leave { deadline, reply };
        assert!(commands.send(leave).is_ok());
        let (request, answer) = request();
        assert!(commands.send(Command::Join(request)).is_ok());
        task.await.expect("no bug");
        let answer = timeout_at(Instant::now() + Duration::from_secs(60), answer).await;
        assert!(answer.expect("it is answered").is_err());
    }

    #[tokio::test]
    async fn a_join_does_not_wait_for_a_repair() {
        let mut task = idle_task();
        under_way(&mut task, false, std::future::pending());
        let _answer = ask_to_join(&mut task);
        task.start_next_join(BootTime::now());
        assert!(task.joins.is_empty());
        assert!(task.registering.as_ref().is_some_and(|now| now.is_join));
        // The repair was aborted, which ends nothing else.
        let Some(Err(error)) = task.work.join_next_with_id().await else {
            panic!("it was cut short");
        };
        task.broken(&error);
        assert!(task.session.is_registering());
    }

    #[tokio::test]
    async fn who_has_gone_away_is_not_registered() {
        let mut task = idle_task();
        drop(ask_to_join(&mut task));
        task.start_next_join(BootTime::now());
        assert!(task.joins.is_empty() && !task.session.is_registering());
    }
}
