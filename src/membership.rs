//! What callers do: join a cluster, list it, leave it.

use std::collections::HashSet;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Notify, Semaphore};
use tokio::time::{Instant, timeout};

use crate::aside;
use crate::config::{Backend, Config, EtcdConfig, ReadMode};
use crate::error::{Error, ErrorKind, Result};
use crate::etcd::{
    Cluster, Clusters, EndpointHealth, HostLiveness, Inspection, Join, LeaseTime, ManagerId,
    RegistrationState, RegistrationStatus, ViewCounters, side_by_side,
};
use crate::log;
use crate::static_hosts::StaticHosts;
use crate::view::ClusterView;
use crate::worker::{Worker, WorkerIdentity};

/// How many managers of the bindings are opened at once. Each has a thread for as long as the file system holds it up.
static OPENINGS: Semaphore = Semaphore::const_new(4);

/// A membership manager: one caller's access to one cluster. Cheap to clone; clones are the same manager.
///
/// Open and use it within a Tokio runtime. Close it with [`close`](Self::close): dropping the last clone ends its
/// registrations too, but nobody is told whether that succeeded.
#[derive(Clone)]
pub struct Membership {
    inner: Arc<Inner>,
}

struct Inner {
    members: Members,
    leave_on_shutdown: bool,
    closed: AtomicBool,
    closing: Notify,
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
    /// The workers this manager joined.
    joined: Arc<Mutex<HashSet<WorkerIdentity>>>,
    /// Where to leave when this is dropped without being closed.
    runtime: tokio::runtime::Handle,
}

/// What a join may be told beside the worker.
#[derive(Debug, Clone, Default)]
pub struct JoinOptions {
    /// Overrides the configured `alluxio.k8s.env.deployment`, which Alluxio reads anew at each join.
    pub k8s_deployment: Option<bool>,
    /// Renew the lease only while the program this worker belongs to gives signs of life.
    pub host: Option<HostLiveness>,
}

/// How a manager is doing, as far as this process knows without asking anybody.
#[derive(Debug, Clone)]
pub struct Status {
    /// The version of the view in memory; 0 before the first listing.
    pub version: u64,
    /// Since when the view in memory has not been compared with etcd; `None` before the first listing.
    pub view_age: Option<Duration>,
    /// Why the view cannot be brought up to date at present.
    pub view_error: Option<Error>,
    /// What was done to keep the view up to date, for all managers of the cluster in this process.
    pub view_counters: ViewCounters,
    /// The endpoints of etcd; none for a STATIC cluster.
    pub endpoints: Vec<EndpointHealth>,
    /// The workers that this process keeps registered in the cluster, whichever manager joined them.
    pub registrations: Vec<RegistrationStatus>,
}

impl Membership {
    /// Opens a manager. Never waits for the network, but reads the files that the configuration names, on the calling
    /// thread. Managers opened on the same `clusters` share connections, views and registrations.
    pub fn open(config: &Config, clusters: &Clusters) -> Result<Membership> {
        let members = match &config.backend {
            Backend::Static(config) => {
                // For the probes.
                current_runtime()?;
                Members::Static(StaticMembers {
                    hosts: StaticHosts::open(config)?,
                    operation_timeout: config.operation_timeout,
                })
            }
            Backend::Etcd(config) => Members::Etcd(Box::new(EtcdMembers {
                id: rand::random(),
                config: config.clone(),
                cluster: clusters.get(config)?,
                joined: Arc::default(),
                runtime: current_runtime()?,
            })),
        };
        Ok(Membership {
            inner: Arc::new(Inner {
                members,
                leave_on_shutdown: config.leave_on_shutdown,
                closed: AtomicBool::new(false),
                closing: Notify::new(),
            }),
        })
    }

    /// The same for threads that must not wait for a file system: reads the files on another one, and fails if that takes
    /// longer than the operation timeout.
    pub(crate) async fn open_aside(config: Config, clusters: Arc<Clusters>) -> Result<Membership> {
        let files = config.files();
        if files.is_empty() {
            return Membership::open(&config, &clusters);
        }
        let limit = config.operation_timeout();
        let opening = async move {
            let permit = OPENINGS.acquire().await;
            let runtime = current_runtime()?;
            let opening = aside::start("reading files", move || {
                let _permit = permit;
                let _on_runtime = runtime.enter();
                Membership::open(&config, &clusters)
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

    /// Registers the worker and keeps it registered until [`leave`](Self::leave), [`close`](Self::close) or the end of
    /// the process. Joining again updates the record where the address differs in optional fields (on Kubernetes: in
    /// any); elsewhere another address under the same identity is an error of kind `AlreadyExists`. Nothing happens
    /// for a STATIC cluster, whose members are those of the file.
    ///
    /// Takes at most the operation timeout.
    pub async fn join(&self, worker: &Worker, options: &JoinOptions) -> Result<()> {
        match self.members()? {
            Members::Static(_) => Ok(()),
            Members::Etcd(etcd) => {
                // Before the join: a manager that is closed meanwhile ends what the join has begun.
                etcd.joined.lock().insert(worker.identity);
                let join = Join {
                    manager: etcd.id,
                    worker,
                    overwrite: options.k8s_deployment.unwrap_or(etcd.config.k8s_deployment),
                    ttl: etcd.config.lease_ttl,
                    host: options.host.clone(),
                };
                let join = etcd.cluster.join(join, etcd.deadline());
                self.unless_closed(join).await?;
                // Again: a leave at the same time may have found nothing to leave yet.
                etcd.joined.lock().insert(worker.identity);
                if let Err(closed) = self.members() {
                    // And so may a close.
                    self.let_go(etcd).await?;
                    return Err(closed);
                }
                Ok(())
            }
        }
    }

    /// The version of the view that [`view`](Self::view) would return at once from memory; 0 if it would have to ask
    /// etcd first, or would fail. Never blocks; takes nanoseconds; any thread.
    pub fn current_version(&self) -> u64 {
        match self.members() {
            Err(_) => 0,
            Ok(Members::Static(fixed)) => fixed.version(),
            Ok(Members::Etcd(etcd)) => match etcd.config.read_mode {
                ReadMode::Cached => etcd.cluster.started_roster().map_or(0, |roster| {
                    roster.current_version(etcd.config.max_staleness)
                }),
                ReadMode::Linearizable => 0,
            },
        }
    }

    /// The view of the cluster, from memory where the configured read mode and the age of the view allow; else asks
    /// etcd, for at most the operation timeout. Shows everything this process wrote before.
    pub async fn view(&self) -> Result<Arc<ClusterView>> {
        match self.members()? {
            Members::Static(fixed) => {
                let deadline = Instant::now() + fixed.operation_timeout;
                self.unless_closed(fixed.hosts.first_view(deadline)).await
            }
            Members::Etcd(etcd) => {
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

    /// Waits until the version of the view in memory is greater than `version`, then returns it, whatever its age and the
    /// configured read mode; `None` when the time is over. A STATIC cluster never changes, unless its workers are probed.
    pub async fn wait_for_change(
        &self,
        version: u64,
        timeout: Duration,
    ) -> Result<Option<Arc<ClusterView>>> {
        let deadline = Instant::now() + timeout.min(Duration::from_secs(365 * 24 * 3600));
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

    /// How old the view in memory may be: since when it has not been compared with etcd. `None` before the first
    /// listing, and zero for a STATIC cluster.
    pub fn view_age(&self) -> Result<Option<Duration>> {
        Ok(match self.members()? {
            Members::Static(fixed) => fixed.hosts.view().map(|_| Duration::ZERO),
            Members::Etcd(etcd) => etcd
                .cluster
                .started_roster()
                .and_then(|roster| roster.age()),
        })
    }

    /// The text of `showAllMembers`, which `alluxio info nodes` prints.
    pub async fn show_all_members(&self) -> Result<String> {
        match self.members()? {
            Members::Static(fixed) => Ok(fixed.hosts.table_of(&*self.view().await?)),
            Members::Etcd(_) => Ok(self.view().await?.to_table()),
        }
    }

    /// Where this process's registration of the worker stands; `None` if it has not registered it.
    pub fn registration_state(
        &self,
        identity: &WorkerIdentity,
    ) -> Result<Option<RegistrationState>> {
        Ok(match self.members()? {
            Members::Static(_) => None,
            Members::Etcd(etcd) => etcd.cluster.registration_state(identity),
        })
    }

    /// How this manager is doing. Never blocks.
    pub fn status(&self) -> Result<Status> {
        Ok(match self.members()? {
            Members::Static(fixed) => Status {
                version: fixed.version(),
                view_age: self.view_age()?,
                view_error: None,
                view_counters: ViewCounters::default(),
                endpoints: Vec::new(),
                registrations: Vec::new(),
            },
            Members::Etcd(etcd) => {
                let roster = etcd.cluster.started_roster();
                Status {
                    version: roster.map_or(0, |roster| roster.current_version(Duration::MAX)),
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

    /// The leases of the live workers, by asking etcd for each; `None` for a worker whose key is on no lease and would
    /// stay for ever. Empty for a STATIC cluster.
    pub async fn leases(&self) -> Result<Vec<(WorkerIdentity, Option<LeaseTime>)>> {
        match self.members()? {
            Members::Static(_) => Ok(Vec::new()),
            Members::Etcd(etcd) => {
                self.unless_closed(etcd.cluster.leases(etcd.deadline()))
                    .await
            }
        }
    }

    /// Looks at each endpoint of etcd, and at what else may keep a cluster from working. Writes no key, but grants a
    /// lease for a moment. Problems are part of the answer. `None` for a STATIC cluster.
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

    /// Ends the registration of this worker, whichever manager of the process joined it: its lease is revoked, so that
    /// it is listed as lost at once. Nothing happens if the process has not registered it.
    pub async fn stop_heartbeat(&self, identity: &WorkerIdentity) -> Result<()> {
        match self.members()? {
            Members::Static(_) => Ok(()),
            Members::Etcd(etcd) => {
                etcd.joined.lock().remove(identity);
                etcd.cluster.stop_heartbeat(identity, etcd.deadline()).await
            }
        }
    }

    /// Removes a lost worker from the cluster. A live or unknown worker is an error of kind `InvalidArgument`. Nothing
    /// happens for STATIC and SERVICE_REGISTRY.
    pub async fn decommission(&self, identity: &WorkerIdentity) -> Result<()> {
        match self.members()? {
            Members::Static(_) => Ok(()),
            Members::Etcd(etcd) => {
                let decommission = etcd.cluster.decommission(identity, etcd.deadline());
                self.unless_closed(decommission).await
            }
        }
    }

    /// Ends every registration that this manager made and no other manager of the process shares.
    pub async fn leave(&self) -> Result<()> {
        match self.members()? {
            Members::Static(_) => Ok(()),
            Members::Etcd(etcd) => etcd.leave_all().await,
        }
    }

    /// Whether the end of the program should [`leave`](Self::leave): `alluxio.membership.native.leave.on.shutdown`.
    pub fn leaves_on_shutdown(&self) -> bool {
        self.inner.leave_on_shutdown
    }

    /// Closes the manager: every later call fails with kind `Closed`, and closing again does nothing. Leaves too, unless
    /// `alluxio.membership.native.leave.on.shutdown` is false: then the registrations it made go on until the process
    /// ends, as with Alluxio's own class. An error says that a lease could not be revoked; the manager is closed all the
    /// same. The cluster is followed on until the last clone is dropped, and for a while after that.
    pub async fn close(&self) -> Result<()> {
        if self.inner.closed.swap(true, Ordering::AcqRel) {
            return Ok(());
        }
        self.inner.closing.notify_waiters();
        match &self.inner.members {
            Members::Static(fixed) => {
                fixed.hosts.stop();
                Ok(())
            }
            Members::Etcd(etcd) => {
                etcd.cluster.clone().linger();
                self.let_go(etcd).await
            }
        }
    }

    /// What becomes of the workers that a closed manager has joined.
    async fn let_go(&self, etcd: &EtcdMembers) -> Result<()> {
        if self.inner.leave_on_shutdown {
            return etcd.leave_all().await;
        }
        if !std::mem::take(&mut *etcd.joined.lock()).is_empty() {
            // The registrations end with the runtime, and so must the cluster.
            etcd.cluster.clone().keep();
        }
        Ok(())
    }

    /// Ends a call early when the manager is closed meanwhile. Boxed, since calls are large and threads' stacks may be
    /// small.
    fn unless_closed<'a, T>(
        &'a self,
        call: impl Future<Output = Result<T>> + Send + 'a,
    ) -> Pin<Box<dyn Future<Output = Result<T>> + Send + 'a>> {
        Box::pin(async move {
            let closing = self.inner.closing.notified();
            // A close before `notified` was called is seen here, a later one there.
            self.members()?;
            tokio::select! {
                // First, so that no call begins anything after the close.
                biased;
                () = closing => Err(closed()),
                result = call => result,
            }
        })
    }

    fn members(&self) -> Result<&Members> {
        if self.inner.closed.load(Ordering::Acquire) {
            Err(closed())
        } else {
            Ok(&self.inner.members)
        }
    }
}

impl StaticMembers {
    /// 0 before the first view.
    fn version(&self) -> u64 {
        self.hosts.view().map_or(0, |view| view.version())
    }
}

impl EtcdMembers {
    fn deadline(&self) -> Instant {
        Instant::now() + self.config.operation_timeout
    }

    async fn leave_all(&self) -> Result<()> {
        side_by_side(self.leaves()).await
    }

    /// One for each worker that this manager joined. Who was not left, because the caller went away, is left later.
    fn leaves(
        &self,
    ) -> impl Iterator<Item = impl Future<Output = Result<()>> + Send + use<>> + use<> {
        let joined: Vec<WorkerIdentity> = self.joined.lock().iter().copied().collect();
        let (id, deadline) = (self.id, self.deadline());
        let (cluster, still_joined) = (self.cluster.clone(), self.joined.clone());
        joined.into_iter().map(move |identity| {
            let (cluster, still_joined) = (cluster.clone(), still_joined.clone());
            async move {
                let left = cluster.leave(id, &identity, deadline).await;
                still_joined.lock().remove(&identity);
                left
            }
        })
    }
}

/// Not closed: the registrations end all the same, in the background.
impl Drop for EtcdMembers {
    fn drop(&mut self) {
        let leaves = self.leaves();
        if self.joined.lock().is_empty() {
            return;
        }
        self.runtime.spawn(async move {
            if let Err(error) = side_by_side(leaves).await {
                log::warn!("{error}");
            }
        });
    }
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
        // Whoever reads it waits for the writer.
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
        // The second one is still being opened, and has locked nothing.
        let opened = Membership::open_aside(config(&[]), clusters.clone()).await;
        assert!(opened.is_ok());
        assert!(clusters.leave_all(Instant::now()).await.is_ok());
        // A test waits for its threads.
        std::fs::remove_file(&pipe).unwrap();
        drop(writer);
    }
}
