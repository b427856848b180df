//! Keeps one worker registered: its ring key, its live key and the lease below it.

mod own_keys;
mod registrar;
mod renewal;
mod session;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::{AbortHandle, Id, JoinError, JoinSet};
use tokio::time::{Instant, timeout_at};

use self::own_keys::{OwnKeyEvent, OwnKeys};
pub(crate) use self::registrar::{KeyRevisions, Leases, OwnLeases, Registrar};
use self::registrar::{Registered, Unfinished};
use self::renewal::{Renewal, RenewalStream, Sent};
pub use self::session::RegistrationState;
use self::session::{Action, Event, Lease, Session};
use super::endpoints::Endpoints;
use crate::error::{Cause, Error, ErrorKind, Result};
use crate::log;
use crate::record;
use crate::suspend::Sleeps;
use crate::worker::{Worker, WorkerIdentity};

/// How long the keys of a registration that is being repaired may take to write.
const REPAIR_TIMEOUT: Duration = Duration::from_secs(10);
/// How long ending a registration may take whose owner is gone.
const ORPHAN_TIMEOUT: Duration = Duration::from_secs(2);
/// How much later than the deadline of a join its answer may come: it says more than that the time is over.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// How often to look whether the machine was suspended.
const SLEEP_CHECK: Duration = Duration::from_secs(1);

/// The registration of one worker, kept by a task of its own until [`leave`](Self::leave) or until this is dropped.
pub(crate) struct Registration {
    commands: mpsc::Sender<Command>,
    standing: Standing,
    endpoints: Arc<Endpoints>,
}

/// Where a registration stands, for whoever looks.
#[derive(Clone)]
pub(crate) struct Standing {
    state: watch::Receiver<RegistrationState>,
    lease: watch::Receiver<LeaseInfo>,
}

impl Standing {
    /// `None` once the registration is ended.
    pub(crate) fn state(&self) -> Option<RegistrationState> {
        let is_over = self.state.has_changed().is_err();
        let state = *self.state.borrow();
        (!is_over && state != RegistrationState::Left).then_some(state)
    }

    /// Its lease.
    pub(crate) fn lease(&self) -> LeaseInfo {
        *self.lease.borrow()
    }
}

/// The lease of a registration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct LeaseInfo {
    /// 0 for none.
    pub(crate) id: i64,
    pub(crate) ends_at: Option<Instant>,
    /// How many leases there have been.
    pub(crate) count: u64,
    /// The lease of another process that holds the live key instead, 0 for a key without a lease.
    pub(crate) displaced_by: Option<i64>,
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

    /// How many registrations and other holders of a [`HostLiveness`] there are.
    pub(crate) fn listeners(&self) -> usize {
        self.0.receiver_count()
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
        let endpoints = registrar.endpoints.clone();
        let task = Task::new(registrar, host.as_ref(), state_sender, lease_sender);
        tokio::spawn(task.run(receiver, host));
        Registration {
            commands,
            standing: Standing { state, lease },
            endpoints,
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
        let exchange = async {
            self.send(Command::Join(request)).await?;
            Ok(answer.await)
        };
        match timeout_at(deadline + LAST_WORDS, exchange).await {
            Ok(Ok(Ok(answer))) => answer,
            Ok(Err(ended)) => Err(ended),
            Ok(Ok(Err(_))) if self.is_over() => Err(ended()),
            Ok(Ok(Err(_))) => Err(Error::new(
                ErrorKind::Internal,
                format!("A defect ended the joining of {}", worker.identity),
            )),
            Err(_) => Err(Error::with_cause(
                ErrorKind::Unavailable,
                format!("Registering {} failed:", worker.identity),
                self.endpoints.no_answer(),
            )),
        }
    }

    /// Revokes the lease: the worker is lost at once for everyone. Then the task ends. Returns a revision at which the
    /// live key is gone; 0 if it is another process's, or nobody can tell.
    pub(crate) async fn leave(&self, deadline: Instant) -> Result<i64> {
        let (reply, answer) = oneshot::channel();
        if self.send(Command::Leave { deadline, reply }).await.is_err() {
            return Ok(0);
        }
        answer.await.unwrap_or(Ok(0))
    }

    /// Leaves in the background. A later join finds this registration ended.
    pub(crate) fn abandon(&self) {
        let (reply, _) = oneshot::channel();
        let deadline = Instant::now() + ORPHAN_TIMEOUT;
        // Full or closed: others have asked for the end already.
        let _ = self.commands.try_send(Command::Leave { deadline, reply });
    }

    /// Where the registration stands, also after this is dropped.
    pub(crate) fn standing(&self) -> Standing {
        self.standing.clone()
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

/// The time of a call is over while another one has the registration of this worker to itself.
pub(crate) fn busy(identity: &WorkerIdentity) -> Error {
    Error::with_cause(
        ErrorKind::Unavailable,
        format!("Registering {identity} failed:"),
        Cause {
            text:
                "an earlier join or leave of this worker by this process was not finished in time"
                    .into(),
            timed_out: true,
        },
    )
}

/// What a piece of work of the task ended with.
enum Done {
    Renewal {
        lease: i64,
        sent: Sent,
    },
    Repair(Registered),
    Join {
        outcome: std::result::Result<(Lease, KeyRevisions), Unfinished>,
        value: Vec<u8>,
        reply: oneshot::Sender<Result<KeyRevisions>>,
    },
}

struct Task {
    registrar: Arc<Registrar>,
    session: Session,
    /// The record under both keys.
    value: Vec<u8>,
    /// The stream of the last answered renewal, while no renewal is using it.
    stream: Option<Box<RenewalStream>>,
    work: JoinSet<Done>,
    /// The join or repair under way: one at a time, since two could leave the key on the lease that is not renewed.
    registering: Option<Registering>,
    own_keys: Option<OwnKeys>,
    joins: VecDeque<JoinRequest>,
    state: watch::Sender<RegistrationState>,
    lease: watch::Sender<LeaseInfo>,
}

struct Registering {
    task: AbortHandle,
    is_join: bool,
}

impl Task {
    fn new(
        registrar: Registrar,
        host: Option<&HostLiveness>,
        state: watch::Sender<RegistrationState>,
        lease: watch::Sender<LeaseInfo>,
    ) -> Self {
        let host_alive_at = host.map(|host| *host.0.borrow());
        Task {
            registrar: Arc::new(registrar),
            session: Session::new(Instant::now(), host_alive_at, rand::random()),
            value: Vec::new(),
            stream: None,
            work: JoinSet::new(),
            registering: None,
            own_keys: None,
            joins: VecDeque::new(),
            state,
            lease,
        }
    }

    async fn run(self, mut commands: mpsc::Receiver<Command>, host: Option<HostLiveness>) {
        self.serve(&mut commands, host).await;
        // A command that was just being sent would stay in the channel, and its sender wait for an answer in vain.
        commands.close();
        while commands.recv().await.is_some() {}
    }

    async fn serve(mut self, commands: &mut mpsc::Receiver<Command>, host: Option<HostLiveness>) {
        let mut host = host.map(|host| host.0);
        let mut granted = self.registrar.leases.granted.subscribe();
        let mut sleeps = Sleeps::new();
        loop {
            let now = Instant::now();
            if let Some(by) = sleeps.last() {
                log::warn!(
                    "The machine was suspended for {} s; renewing the lease of {}",
                    by.as_secs(),
                    self.registrar.identity
                );
                self.session.handle(Event::Slept { by }, now);
            }
            self.start_next_join(now);
            self.act(now);
            let wake_at = self.session.wake_at(now).min(now + SLEEP_CHECK);
            tokio::select! {
                command = commands.recv() => match command {
                    Some(Command::Join(request)) => self.joins.push_back(request),
                    Some(Command::Leave { deadline, reply }) => {
                        let result = self.leave(deadline).await;
                        if let Err(Err(error)) = reply.send(result) {
                            log::warn!("{error}");
                        }
                        return;
                    }
                    None => {
                        if let Err(error) = self.leave(Instant::now() + ORPHAN_TIMEOUT).await {
                            log::warn!("{error}");
                        }
                        return;
                    }
                },
                Some(done) = self.work.join_next_with_id() => match done {
                    Ok((id, done)) => {
                        if let Next::End { error, reply } = self.finished(id, done) {
                            // First, so that the next join finds this registration to be over.
                            commands.close();
                            let _ = reply.send(Err(error));
                            if let Err(error) = self.leave(Instant::now() + ORPHAN_TIMEOUT).await {
                                log::debug!("{error}");
                            }
                            return;
                        }
                    }
                    Err(error) => self.broken(&error),
                },
                Ok(()) = granted.changed() => self.granted(*granted.borrow_and_update()),
                Some(event) = next_own_key_event(&mut self.own_keys) => self.own_key_changed(event),
                Some(at) = next_beat(&mut host) => self.session.handle(Event::HostAlive { at }, Instant::now()),
                () = tokio::time::sleep_until(wake_at) => {}
            }
        }
    }

    /// Does what is due, and shows how things stand.
    fn act(&mut self, now: Instant) {
        for action in self.session.poll(now) {
            self.carry_out(action);
        }
        self.report_displacement();
        self.show_lease();
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
                displaced_by: self.session.displaced_by(),
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
                    let sent = renewal::renew(endpoints, stream, lease, patience, limit).await;
                    Done::Renewal {
                        lease: lease.id,
                        sent,
                    }
                });
            }
            Action::Register { lease } => {
                let registrar = self.registrar.clone();
                let value = self.value.clone();
                let deadline = Instant::now() + REPAIR_TIMEOUT;
                let task = self.work.spawn(async move {
                    Done::Repair(registrar.repair(&value, lease, deadline).await)
                });
                self.registering = Some(Registering {
                    task,
                    is_join: false,
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
                log::warn!("A key or the lease of {identity} is gone; registering again");
            }
            RegistrationState::Joining
            | RegistrationState::Registered
            | RegistrationState::Left => log::info!("The registration of {identity} is {state:?}"),
        }
        self.state.send_replace(state);
    }

    /// Says once that another process has the live key, however often it is found there, and once that it has not.
    fn report_displacement(&self) {
        let identity = self.registrar.identity;
        let shown = self.lease.borrow().displaced_by;
        match self.session.displaced_by() {
            holder if holder == shown => {}
            Some(holder) => log::warn!(
                "Another process has registered {identity} under lease {holder:x}. Its record stays; this process \
                 writes its own again when that one is gone. Give each worker an identity of its own."
            ),
            None => log::info!("The live key of {identity} is this process's own again"),
        }
    }

    fn start_next_join(&mut self, now: Instant) {
        // Who no longer waits is not to be registered.
        self.joins.retain(|request| !request.reply.is_closed());
        if self.joins.is_empty() {
            return;
        }
        // A join writes all that a repair would, and need not wait for it: a repair that is cut short has written
        // nothing over what others wrote, and its late requests will not either.
        if let Some(repair) = self.registering.take_if(|registering| !registering.is_join) {
            repair.task.abort();
            self.interrupted(now);
        }
        if !self.session.is_registering()
            && let Some(request) = self.joins.pop_front()
        {
            self.start_join(request);
        }
    }

    /// The join or repair under way ends without an outcome.
    fn interrupted(&mut self, now: Instant) {
        let lease = self.session.lease().or(self.registrar.leases.last());
        self.session.handle(Event::RegisterFailed { lease }, now);
    }

    fn granted(&mut self, lease: Option<Lease>) {
        if self.session.is_registering()
            && let Some(lease) = lease
        {
            self.session
                .handle(Event::Granted { lease }, Instant::now());
        }
    }

    /// A piece of work ended without an answer: it was aborted, or broke.
    fn broken(&mut self, error: &JoinError) {
        if error.is_cancelled() {
            return;
        }
        log::error!(
            "A defect ended a task of the registration of {}: {error}",
            self.registrar.identity
        );
        let now = Instant::now();
        let of_registering = |registering: &mut Registering| registering.task.id() == error.id();
        if self.registering.take_if(of_registering).is_some() {
            self.interrupted(now);
        } else {
            let lease = self.session.lease().map_or(0, |lease| lease.id);
            self.session.handle(Event::RenewalFailed { lease }, now);
        }
    }

    fn start_join(&mut self, request: JoinRequest) {
        self.session.join_started();
        let registrar = self.registrar.clone();
        let lease = self.session.lease();
        let task = self.work.spawn(async move {
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
        self.registering = Some(Registering {
            task,
            is_join: true,
        });
    }

    fn finished(&mut self, id: Id, done: Done) -> Next {
        let now = Instant::now();
        let of_registering = |registering: &mut Registering| registering.task.id() == id;
        if self.registering.take_if(of_registering).is_none() && matches!(done, Done::Repair(_)) {
            // It ended just before it was cut short for a join, which finds what it wrote.
            return Next::GoOn;
        }
        match done {
            Done::Renewal { lease, sent } => {
                let event = self.renewal_event(lease, sent);
                self.session.handle(event, now);
            }
            Done::Repair(outcome) => match outcome {
                Registered::InPlace { lease } => {
                    self.in_place(Event::Registered { lease }, lease, now)
                }
                Registered::Displaced { lease, holder } => {
                    self.in_place(Event::Displaced { lease, holder }, lease, now);
                }
                Registered::LeaseGone { lease } => {
                    let event = Event::RegisterFoundLeaseGone { lease };
                    self.session.handle(event, now);
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
                    self.in_place(Event::Registered { lease }, lease, now);
                    // First, so that whoever has joined finds itself registered.
                    self.act(now);
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
        }
        Next::GoOn
    }

    fn renewal_event(&mut self, lease: i64, sent: Sent) -> Event {
        match sent {
            Sent::Silent(late) => {
                self.work.spawn(async move {
                    let sent = Sent::Ended(late.await);
                    Done::Renewal { lease, sent }
                });
                Event::RenewalSilent { lease }
            }
            Sent::Ended(Renewal::Renewed { sent_at, stream }) => {
                self.stream = Some(stream);
                Event::Renewed { lease, sent_at }
            }
            Sent::Ended(Renewal::Gone) => Event::LeaseGone { lease },
            Sent::Ended(Renewal::Failed { reason }) => {
                log::debug!(
                    "Renewing the lease of {}: {reason}",
                    self.registrar.identity
                );
                Event::RenewalFailed { lease }
            }
        }
    }

    /// The keys were written: watch them from now on.
    fn in_place(&mut self, event: Event, lease: Lease, now: Instant) {
        self.session.handle(event, now);
        let recheck = (lease.ttl * 2).max(Duration::from_secs(10));
        let watch = OwnKeys::watch(self.registrar.clone(), lease.id, recheck);
        self.own_keys = Some(watch);
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
            OwnKeyEvent::LiveForeign { .. } if self.session.is_registering() => {}
            OwnKeyEvent::LiveForeign { lease } if self.registrar.leases.own.contain(lease) => {
                // Written by a request of ours that came late. It would go with that lease.
                log::info!("The live key of {identity} is on an earlier lease; writing it again");
                self.session.handle(Event::LiveKeyMissing, now);
            }
            OwnKeyEvent::LiveForeign { lease } => {
                self.session
                    .handle(Event::LiveKeyForeign { holder: lease }, now);
            }
        }
    }

    /// Ends everything and revokes the lease.
    async fn leave(&mut self, deadline: Instant) -> Result<i64> {
        self.own_keys = None;
        // A join or repair under way may be about to use a new lease: let it end, so that no lease is granted after
        // all is over. Half of the time is for the revocation.
        let now = Instant::now();
        let patience = now + deadline.saturating_duration_since(now) / 2;
        while self.session.is_registering() {
            match timeout_at(patience, self.work.join_next_with_id()).await {
                Ok(Some(Ok((id, done)))) => {
                    if let Next::End { error, reply } = self.finished(id, done) {
                        let _ = reply.send(Err(error));
                    }
                }
                Ok(Some(Err(error))) => self.broken(&error),
                Ok(None) | Err(_) => break,
            }
        }
        let unfinished = match self.session.is_registering() {
            true => self.registrar.leases.last(),
            false => None,
        };
        self.work.abort_all();
        self.report(RegistrationState::Left);
        let held = self.session.lease();
        let is_displaced = self.session.displaced_by().is_some();
        // By their ids: the time to live that etcd granted may be another than the one that was asked for.
        let other = unfinished.filter(|lease| held.is_none_or(|held| held.id != lease.id));
        let revoke = async |lease: Option<Lease>| match lease {
            Some(lease) => self.registrar.revoke(lease.id, deadline).await,
            None => Ok(0),
        };
        let (other, held) = tokio::join!(revoke(other), revoke(held));
        // At the later of both the key is gone. That of another process stays.
        let revision = other?.max(held?);
        Ok(if is_displaced { 0 } else { revision })
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
        Some(own_keys) => own_keys.next().await,
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Backend, Config, Properties};
    use crate::etcd::keys::Keys;

    /// A task that nothing drives, of a worker whose etcd is away.
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
            leases: Leases::default(),
        };
        let (state, _) = watch::channel(RegistrationState::Joining);
        let (lease, _) = watch::channel(LeaseInfo::default());
        Task::new(registrar, None, state, lease)
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
    async fn a_defect_in_a_join_does_not_keep_others_waiting() {
        let mut task = idle_task();
        under_way(&mut task, true, async { panic!("a defect of a test") });
        let _answer = ask_to_join(&mut task);
        task.start_next_join(Instant::now());
        assert_eq!(task.joins.len(), 1, "one at a time");
        let Some(Err(error)) = task.work.join_next_with_id().await else {
            panic!("it broke");
        };
        task.broken(&error);
        assert!(!task.session.is_registering());
        task.start_next_join(Instant::now());
        assert!(task.joins.is_empty() && task.session.is_registering());
    }

    #[tokio::test]
    async fn a_join_that_is_being_sent_at_the_end_is_told() {
        let (commands, receiver) = mpsc::channel(8);
        let task = tokio::spawn(idle_task().run(receiver, None));
        let sending = commands.reserve().await.expect("open");
        let (reply, _) = oneshot::channel();
        let deadline = Instant::now();
        let leave = Command::Leave { deadline, reply };
        assert!(commands.try_send(leave).is_ok());
        commands.closed().await;
        let (request, answer) = request();
        sending.send(Command::Join(request));
        task.await.expect("no defect");
        let answer = timeout_at(Instant::now() + Duration::from_secs(10), answer).await;
        assert!(answer.expect("it is told").is_err());
    }

    #[tokio::test]
    async fn a_join_does_not_wait_for_a_repair() {
        let mut task = idle_task();
        under_way(&mut task, false, std::future::pending());
        let _answer = ask_to_join(&mut task);
        task.start_next_join(Instant::now());
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
        task.start_next_join(Instant::now());
        assert!(task.joins.is_empty() && !task.session.is_registering());
    }
}
