//! The manager: opens, joins, lists, leaves, closes.

#[cfg(test)]
pub(crate) mod cost;

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::stream::{self, Stream};
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use crate::aside;
use crate::config::{Backend, Config, EtcdConfig, ReadMode};
use crate::error::{Error, ErrorKind, Result};
use crate::etcd::{
    Cluster, Clusters, History, HostLiveness, Inspection, Join, LeaseTime, ManagerId,
    RegistrationState, Roster, StoredCluster, StoredWorker, ViewCounters,
};
use crate::static_hosts::StaticHosts;
use crate::status::Status;
use crate::view::{Change, ClusterView};
use crate::worker::{Worker, WorkerIdentity};

/// How many managers of the bindings are opened at the same time. Each opening has a thread while
/// it waits for the file system.
static OPENINGS: Semaphore = Semaphore::const_new(4);

/// The longest wait. Greater times could overflow the clock.
const FOR_EVER: Duration = Duration::from_secs(365 * 24 * 3600);

/// A membership manager: one program's access to one cluster. Clones are cheap and refer to the
/// same manager.
///
/// Open and use it within a Tokio runtime. Close it with [`close`](Self::close). Dropping the last
/// clone also ends the registrations, but does not report whether that succeeded.
#[derive(Clone)]
pub struct Membership {
    inner: Arc<Inner>,
}

struct Inner {
    members: Members,
    leave_on_shutdown: bool,
    closed: CancellationToken,
    /// Equals `closed`, for listings: reading the token takes a lock.
    is_closed: AtomicBool,
}

enum Members {
    Static(StaticMembers),
    Etcd(Box<EtcdMembers>),
}

struct StaticMembers {
    hosts: StaticHosts,
    operation_timeout: Duration,
}

struct EtcdMembers {
    id: ManagerId,
    config: EtcdConfig,
    cluster: Arc<Cluster>,
}

/// The options of a join.
#[derive(Debug, Clone, Default)]
pub struct JoinOptions {
    /// Overrides the configured `alluxio.k8s.env.deployment`. Alluxio reads that property at each
    /// join.
    pub k8s_deployment: Option<bool>,
    /// Renews the lease only while the worker's program gives signs of life.
    pub host: Option<HostLiveness>,
}

impl Membership {
    /// Opens a manager with its own connections.
    ///
    /// Never waits for the network. Reads the files that the configuration names on the calling
    /// thread.
    ///
    /// # Errors
    ///
    /// Fails if a file is unusable, or if this thread has no Tokio runtime.
    pub fn open(config: &Config) -> Result<Membership> {
        Membership::open_in(config, &Clusters::default())
    }

    /// Opens a manager that shares connections, views and registrations with the other managers of
    /// these clusters.
    ///
    /// Apart from that, it works like [`open`](Self::open).
    pub fn open_in(config: &Config, clusters: &Clusters) -> Result<Membership> {
        let members = match &config.backend {
            Backend::Static(config) => {
                // The probes need a runtime.
                current_runtime()?;
                Members::Static(StaticMembers {
                    hosts: StaticHosts::open(config)?,
                    operation_timeout: config.operation_timeout,
                })
            }
            Backend::Etcd(config) => {
                // The roster and the registrations need a runtime.
                current_runtime()?;
                Members::Etcd(Box::new(EtcdMembers {
                    id: rand::random(),
                    config: config.clone(),
                    cluster: clusters.get(config)?,
                }))
            }
        };
        Ok(Membership {
            inner: Arc::new(Inner {
                members,
                leave_on_shutdown: config.leave_on_shutdown,
                closed: CancellationToken::new(),
                is_closed: AtomicBool::new(false),
            }),
        })
    }

    /// Opens a manager for a thread that must not wait for a file system. Reads the files on
    /// another thread, and fails if that takes longer than the operation timeout.
    pub(crate) async fn open_aside(config: Config, clusters: Arc<Clusters>) -> Result<Membership> {
        let files = shown(&config);
        if files.is_empty() {
            return Membership::open_in(&config, &clusters);
        }
        let limit = config.operation_timeout();
        let opening = async move {
            let permit = OPENINGS.acquire().await;
            let runtime = current_runtime()?;
            let opening = aside::start("reading files", move || {
                let _permit = permit;
                let _on_runtime = runtime.enter();
                Membership::open_in(&config, &clusters)
            })?;
            opening.end().await?
        };
        match timeout(limit, opening).await {
            Ok(opened) => opened,
            Err(_) => Err(Error::new(
                ErrorKind::Io,
                format!("Failed to read within {limit:?}: {}", files.join(", ")),
            )),
        }
    }

    /// Registers the worker and keeps it registered until [`leave`](Self::leave),
    /// [`close`](Self::close) or the end of the process.
    ///
    /// Joining again updates a record that differs in optional fields. On Kubernetes it updates a
    /// record that differs in any field. Has no effect in a STATIC cluster, where the file defines
    /// the members.
    ///
    /// Takes at most the operation timeout.
    ///
    /// # Errors
    ///
    /// `AlreadyExists` if the identity is registered with another address.
    pub async fn join(&self, worker: &Worker, options: &JoinOptions) -> Result<()> {
        match self.members()? {
            Members::Static(_) => Ok(()),
            Members::Etcd(etcd) => {
                let join = Join {
                    manager: etcd.id,
                    closed: &self.inner.closed,
                    leaves_on_shutdown: self.inner.leave_on_shutdown,
                    worker,
                    overwrite: options.k8s_deployment.unwrap_or(etcd.config.k8s_deployment),
                    ttl: etcd.config.lease_ttl,
                    host: options.host.clone(),
                };
                self.unless_closed(etcd.cluster.join(join, etcd.deadline()))
                    .await
            }
        }
    }

    /// Returns the version of the view that [`view`](Self::view) would return at once from memory.
    /// Returns 0 if `view` would have to ask etcd first, or would fail.
    ///
    /// Never blocks and takes nanoseconds. May be called on any thread.
    pub fn current_version(&self) -> u64 {
        match self.members() {
            Err(_) => 0,
            Ok(Members::Static(fixed)) => fixed.version(),
            Ok(Members::Etcd(etcd)) => etcd.cached_roster().map_or(0, |roster| roster.version()),
        }
    }

    /// Returns the view of the cluster, with everything that this process wrote before.
    ///
    /// The view comes from memory if the configured read mode and the age of the view allow it. If
    /// not, this asks etcd, for at most the operation timeout.
    pub async fn view(&self) -> Result<Arc<ClusterView>> {
        match self.members()? {
            Members::Static(fixed) => {
                let deadline = Instant::now() + fixed.operation_timeout;
                self.unless_closed(fixed.hosts.first_view(deadline)).await
            }
            Members::Etcd(etcd) => {
                // Most calls end here.
                if let Some(view) = etcd.cached_roster().and_then(Roster::view) {
                    return Ok(view);
                }
                let roster = etcd.cluster.roster();
                let deadline = etcd.deadline();
                self.unless_closed(async {
                    match etcd.config.read_mode {
                        ReadMode::Cached => {
                            roster.cached(etcd.config.max_staleness, deadline).await
                        }
                        ReadMode::Linearizable => roster.linearizable(deadline).await,
                    }
                })
                .await
            }
        }
    }

    /// Follows the changes of the cluster. The first changes add every worker of the present view.
    ///
    /// A slow reader receives the difference to the changes that it has read, not each step in
    /// between. The stream ends with an error when the manager is closed. It ignores the configured
    /// read mode and the age of the view, like [`wait_for_change`](Self::wait_for_change).
    pub fn changes(&self) -> impl Stream<Item = Result<Change>> + Send + use<> {
        struct Following {
            membership: Membership,
            known: Arc<ClusterView>,
            unread: VecDeque<Change>,
            has_failed: bool,
        }
        let following = Following {
            membership: self.clone(),
            known: Arc::default(),
            unread: VecDeque::new(),
            has_failed: false,
        };
        stream::unfold(following, |mut following| async move {
            while following.unread.is_empty() && !following.has_failed {
                let version = following.known.version();
                match following
                    .membership
                    .wait_for_change(version, FOR_EVER)
                    .await
                {
                    Ok(Some(view)) => {
                        following
                            .unread
                            .extend(view.changes_since(&following.known));
                        following.known = view;
                    }
                    Ok(None) => {}
                    Err(error) => {
                        following.has_failed = true;
                        return Some((Err(error), following));
                    }
                }
            }
            let change = following.unread.pop_front()?;
            Some((Ok(change), following))
        })
    }

    /// Waits until the version of the view in memory is greater than `version`, and returns that
    /// view. Returns `None` after the timeout.
    ///
    /// Ignores the age of the view and the configured read mode. A STATIC cluster changes only if
    /// its workers are probed.
    pub async fn wait_for_change(
        &self,
        version: u64,
        timeout: Duration,
    ) -> Result<Option<Arc<ClusterView>>> {
        let deadline = Instant::now() + timeout.min(FOR_EVER);
        match self.members()? {
            Members::Static(fixed) => {
                let newer = fixed.hosts.newer_than(version, deadline);
                self.unless_closed(async { Ok(newer.await) }).await
            }
            Members::Etcd(etcd) => {
                let newer = etcd.cluster.roster().newer_than(version, deadline);
                self.unless_closed(async { Ok(newer.await) }).await
            }
        }
    }

    /// Returns the time since the view in memory was last compared with etcd. Returns `None` before
    /// the first listing, and zero for a STATIC cluster.
    pub fn view_age(&self) -> Result<Option<Duration>> {
        Ok(match self.members()? {
            Members::Static(fixed) => fixed.hosts.view().map(|_| Duration::ZERO),
            Members::Etcd(etcd) => etcd
                .cluster
                .started_roster()
                .and_then(|roster| roster.age()),
        })
    }

    /// Returns the text of `showAllMembers`, which `alluxio info nodes` prints. Each view makes its
    /// text once.
    pub async fn show_all_members(&self) -> Result<Arc<str>> {
        self.table_of(&*self.view().await?)
    }

    /// Returns the text of `showAllMembers` for a view of this manager.
    pub(crate) fn table_of(&self, view: &ClusterView) -> Result<Arc<str>> {
        Ok(match self.members()? {
            Members::Static(fixed) => fixed.hosts.table_of(view),
            Members::Etcd(_) => view.to_table(),
        })
    }

    /// Returns the state of this process's registration of the worker, or `None` if this process
    /// has not registered the worker.
    pub fn registration_state(
        &self,
        identity: &WorkerIdentity,
    ) -> Result<Option<RegistrationState>> {
        Ok(match self.members()? {
            Members::Static(_) => None,
            Members::Etcd(etcd) => etcd.cluster.registration_state(identity),
        })
    }

    /// Returns the view in memory, whatever its age, or `None` before the first listing. Never
    /// blocks.
    pub(crate) fn latest_view(&self) -> Result<Option<Arc<ClusterView>>> {
        Ok(match self.members()? {
            Members::Static(fixed) => fixed.hosts.view(),
            Members::Etcd(etcd) => etcd
                .cluster
                .started_roster()
                .and_then(|roster| roster.view()),
        })
    }

    /// Returns the state of this manager. Never blocks.
    pub fn status(&self) -> Result<Status> {
        Ok(match self.members()? {
            Members::Static(fixed) => Status {
                version: fixed.version(),
                view_age: self.view_age()?,
                ..Status::default()
            },
            Members::Etcd(etcd) => {
                let roster = etcd.cluster.started_roster();
                Status {
                    version: roster.map_or(0, |roster| roster.version()),
                    view_age: roster.and_then(|roster| roster.age()),
                    view_error: roster.and_then(|roster| roster.last_error()),
                    view_counters: roster
                        .map_or_else(ViewCounters::default, |roster| roster.counters()),
                    endpoints: etcd.cluster.endpoint_health(),
                    registrations: etcd.cluster.registrations(),
                }
            }
        })
    }

    /// Asks etcd for the lease of each live worker. The lease is `None` for a worker whose key has
    /// no lease; such a worker never becomes lost. Empty for a STATIC cluster.
    pub async fn leases(&self) -> Result<Vec<(WorkerIdentity, Option<LeaseTime>)>> {
        match self.members()? {
            Members::Static(_) => Ok(Vec::new()),
            Members::Etcd(etcd) => {
                self.unless_closed(etcd.cluster.leases(etcd.deadline()))
                    .await
            }
        }
    }

    /// Reads the time that a lease has left; `None` if it has ended, and for a STATIC cluster.
    pub async fn lease(&self, id: i64) -> Result<Option<LeaseTime>> {
        match self.members()? {
            Members::Static(_) => Ok(None),
            Members::Etcd(etcd) => {
                self.unless_closed(etcd.cluster.lease(id, etcd.deadline()))
                    .await
            }
        }
    }

    /// Reads the keys of the cluster and what etcd notes about each, as they are or as they were at
    /// a revision. `None` for a STATIC cluster.
    ///
    /// # Errors
    ///
    /// A revision that etcd has compacted, or has not reached, is an error of kind
    /// `InvalidArgument`.
    pub async fn stored(&self, revision: Option<i64>) -> Result<Option<StoredCluster>> {
        match self.members()? {
            Members::Static(_) => Ok(None),
            Members::Etcd(etcd) => {
                let stored = etcd.cluster.stored(revision, etcd.deadline());
                self.unless_closed(async { stored.await.map(Some) }).await
            }
        }
    }

    /// Reads the keys of one worker, with what etcd notes about them, and its lease. Sends two
    /// requests to etcd. `None` for a STATIC cluster.
    pub async fn stored_worker(&self, identity: &WorkerIdentity) -> Result<Option<StoredWorker>> {
        match self.members()? {
            Members::Static(_) => Ok(None),
            Members::Etcd(etcd) => {
                let stored = etcd.cluster.stored_worker(identity, etcd.deadline());
                self.unless_closed(async { stored.await.map(Some) }).await
            }
        }
    }

    /// Reads the changes of the cluster after a revision, or all that etcd remembers: those since
    /// it was last compacted. `None` for a STATIC cluster.
    ///
    /// etcd looks through all changes since then, of every key. The answer has the newest 100,000
    /// changes.
    ///
    /// # Errors
    ///
    /// A revision that etcd has compacted is an error of kind `InvalidArgument`.
    pub async fn history(&self, after: Option<i64>) -> Result<Option<History>> {
        match self.members()? {
            Members::Static(_) => Ok(None),
            Members::Etcd(etcd) => {
                let history = etcd.cluster.history(after, etcd.deadline());
                self.unless_closed(async { history.await.map(Some) }).await
            }
        }
    }

    /// Inspects each endpoint of etcd, and other things that may keep a cluster from working.
    /// Problems are part of the result. Returns `None` for a STATIC cluster.
    ///
    /// Writes no key, but grants a lease for a moment.
    pub async fn inspect(&self) -> Result<Option<Inspection>> {
        match self.members()? {
            Members::Static(_) => Ok(None),
            Members::Etcd(etcd) => {
                let inspection = async {
                    let ttl = etcd.config.lease_ttl;
                    Ok(Some(etcd.cluster.inspect(ttl, etcd.deadline()).await))
                };
                self.unless_closed(inspection).await
            }
        }
    }

    /// Ends the registration of this worker, whichever manager of the process joined it. Revokes
    /// its lease, so that the worker is lost at once. Has no effect if this process has not
    /// registered the worker.
    pub async fn leave_worker(&self, identity: &WorkerIdentity) -> Result<()> {
        match self.members()? {
            Members::Static(_) => Ok(()),
            Members::Etcd(etcd) => etcd.cluster.leave_worker(identity, etcd.deadline()).await,
        }
    }

    /// Removes a lost worker from the cluster. Has no effect for STATIC and SERVICE_REGISTRY.
    ///
    /// # Errors
    ///
    /// `InvalidArgument` for a live or unknown worker.
    pub async fn remove(&self, identity: &WorkerIdentity) -> Result<()> {
        match self.members()? {
            Members::Static(_) => Ok(()),
            Members::Etcd(etcd) => {
                let removal = etcd.cluster.remove(identity, etcd.deadline());
                self.unless_closed(removal).await
            }
        }
    }

    /// Ends every registration that this manager made and no other manager of the process shares.
    pub async fn leave(&self) -> Result<()> {
        match self.members()? {
            Members::Static(_) => Ok(()),
            Members::Etcd(etcd) => etcd.cluster.leave(etcd.id, etcd.deadline()).await,
        }
    }

    /// Whether the end of the program should [`leave`](Self::leave):
    /// `alluxio.membership.native.leave.on.shutdown`.
    pub fn leaves_on_shutdown(&self) -> bool {
        self.inner.leave_on_shutdown
    }

    /// Closes the manager. Every later call fails with kind `Closed`, and closing again has no
    /// effect.
    ///
    /// Also leaves, unless `alluxio.membership.native.leave.on.shutdown` is false. In that case the
    /// registrations continue until the process ends, as with Alluxio's own class.
    ///
    /// The library follows the cluster until the last clone is dropped, and for 30 s after that. A
    /// manager that is opened again in this time lists at once.
    ///
    /// # Errors
    ///
    /// Fails if a lease could not be revoked. The manager is closed nevertheless.
    pub async fn close(&self) -> Result<()> {
        // Set first: a later join is refused, and a running join already has its owner in the
        // cluster.
        if self.inner.is_closed.swap(true, Ordering::AcqRel) {
            return Ok(());
        }
        self.inner.closed.cancel();
        match &self.inner.members {
            Members::Static(fixed) => {
                fixed.hosts.stop();
                Ok(())
            }
            Members::Etcd(etcd) => {
                etcd.cluster.clone().linger();
                if self.inner.leave_on_shutdown {
                    return etcd.cluster.leave(etcd.id, etcd.deadline()).await;
                }
                etcd.cluster.keep_until_exit(etcd.id);
                Ok(())
            }
        }
    }

    /// Ends a call early if the manager is closed meanwhile. Boxed, because calls are large and the
    /// stacks of threads may be small.
    fn unless_closed<'a, T>(
        &'a self,
        call: impl Future<Output = Result<T>> + Send + 'a,
    ) -> Pin<Box<dyn Future<Output = Result<T>> + Send + 'a>> {
        Box::pin(async move {
            let call = self.inner.closed.run_until_cancelled(call);
            call.await.unwrap_or_else(|| Err(closed()))
        })
    }

    fn members(&self) -> Result<&Members> {
        if self.inner.is_closed.load(Ordering::Acquire) {
            Err(closed())
        } else {
            Ok(&self.inner.members)
        }
    }
}

impl StaticMembers {
    /// The version of the view, or 0 before the first view.
    fn version(&self) -> u64 {
        self.hosts.view().map_or(0, |view| view.version())
    }
}

impl EtcdMembers {
    fn deadline(&self) -> Instant {
        Instant::now() + self.config.operation_timeout
    }

    /// Returns the roster if its view in memory is what the configured read mode and age allow.
    fn cached_roster(&self) -> Option<&Roster> {
        match self.config.read_mode {
            ReadMode::Cached => {
                let roster = self.cluster.started_roster()?;
                let version = roster.version_within(self.config.max_staleness);
                version.map(|_| roster)
            }
            ReadMode::Linearizable => None,
        }
    }
}

impl Drop for Inner {
    /// Without a close, the registrations end in the background.
    fn drop(&mut self) {
        if let Members::Etcd(etcd) = &self.members
            && !*self.is_closed.get_mut()
        {
            etcd.cluster.abandon(etcd.id, etcd.deadline());
        }
    }
}

/// The files that opening reads, for messages.
fn shown(config: &Config) -> Vec<String> {
    let files = config.files();
    let mut shown: Vec<String> = files.iter().map(|it| it.display().to_string()).collect();
    if let Backend::Etcd(config) = &config.backend
        && config.tls.as_ref().is_some_and(|tls| tls.ca_file.is_none())
    {
        shown.insert(0, "the authorities that this system trusts".into());
    }
    shown
}

fn current_runtime() -> Result<tokio::runtime::Handle> {
    tokio::runtime::Handle::try_current().map_err(|error| {
        Error::new(
            ErrorKind::Internal,
            format!("A membership manager must be opened within a Tokio runtime: {error}"),
        )
    })
}

fn closed() -> Error {
    Error::new(
        ErrorKind::Closed,
        "This membership manager is closed; open another one",
    )
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::process::Command;

    use super::*;
    use crate::config::Properties;

    fn config(more: &[(&str, &str)]) -> Config {
        let mut properties = Properties::new();
        properties.set("alluxio.worker.membership.manager.type", "ETCD");
        properties.set("alluxio.etcd.endpoints", "http://localhost:1");
        for (name, value) in more {
            properties.set(*name, *value);
        }
        Config::from_properties(&properties).unwrap()
    }

    #[tokio::test]
    async fn files_that_cannot_be_read_hold_up_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        // A reader waits until the pipe has a writer.
        let pipe = folder.path().join("pipe");
        let made = Command::new("mkfifo").arg(&pipe).status().unwrap();
        assert!(made.success());
        let writer = File::options().read(true).write(true).open(&pipe);
        let name = pipe.to_str().unwrap();
        let clusters: Arc<Clusters> = Arc::default();
        let timeout = ("alluxio.membership.native.operation.timeout", "100ms");
        let hosts = "alluxio.worker.static.membership.manager.config.file";
        for config in [
            config(&[
                ("alluxio.worker.membership.manager.type", "STATIC"),
                (hosts, name),
                timeout,
            ]),
            config(&[
                ("alluxio.etcd.tls.enabled", "true"),
                ("alluxio.etcd.tls.ca.cert", name),
                timeout,
            ]),
        ] {
            let error = Membership::open_aside(config, clusters.clone()).await.err();
            let error = error.expect("nobody writes");
            assert_eq!(error.kind(), ErrorKind::Io);
            let expected = format!("Failed to read within 100ms: {name}");
            assert_eq!(error.message(), expected);
        }
        // The opening of the second manager still waits, and holds no lock.
        let opened = Membership::open_aside(config(&[]), clusters.clone()).await;
        assert!(opened.is_ok());
        assert!(clusters.leave_all(Instant::now()).await.is_ok());
        // Lets the thread end, because a test waits for its threads.
        std::fs::remove_file(&pipe).unwrap();
        drop(writer);
    }
}
