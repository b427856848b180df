//! Membership in etcd: the clusters of a process, and the state that their managers share.

mod answers;
mod cluster_id;
mod connection;
mod endpoints;
#[cfg(test)]
mod histories;
mod inspect;
mod keep_running;
mod keys;
mod lane;
mod lease;
mod login;
mod name;
mod registration;
mod requests;
mod ring;
mod roster;
mod status;
mod tls;
mod transport;

use std::collections::HashMap;
use std::hash::{BuildHasher, Hash, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

pub use self::endpoints::EndpointHealth;
use self::endpoints::Endpoints;
pub use self::inspect::{FoundCluster, Inspection, LeaseTime, MemberReport, MemberStatus, Reading};
use self::keys::Keys;
use self::lease::LeaseIds;
pub use self::registration::{HostLiveness, HostPulse, RegistrationState};
use self::registration::{Registrar, Registration, busy, ended, log_limit};
pub(crate) use self::roster::Roster;
pub use self::roster::{
    History, KeyRange, PastChange, PastKind, StoredCluster, StoredKey, StoredWorker, ViewCounters,
};
pub use self::tls::{CertificateInfo, TlsSession};
use crate::boottime::BootTime;
use crate::config::EtcdConfig;
use crate::error::{Error, ErrorKind, Result};
use crate::worker::{Worker, WorkerIdentity, WorkerState};

/// How long a cluster is kept after its last manager was closed. Alluxio's client closes and
/// reopens its manager whenever it refreshes its configuration.
const LINGER: Duration = Duration::from_secs(30);
/// How much later than its deadline the end of a registration may answer.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// The clusters whose registrations continue after their managers were closed, until the process
/// ends.
static KEPT: Mutex<Vec<Arc<Cluster>>> = Mutex::new(Vec::new());

/// The clusters that a process is connected to. Managers that are opened on the same `Clusters`
/// share connections, views and registrations, if their configurations name the same etcd and the
/// same cluster.
#[derive(Default)]
pub struct Clusters {
    etcds: Mutex<HashMap<EtcdKey, Weak<Endpoints>>>,
    clusters: Mutex<HashMap<ClusterKey, Weak<Cluster>>>,
    hasher: RandomState,
    process_ends: CancellationToken,
}

/// Identifies the access to an etcd, without passwords.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct EtcdKey {
    endpoints: Vec<String>,
    /// A hash of the credentials and the TLS files, with a key of this process.
    hash: u64,
}

#[derive(PartialEq, Eq, Hash)]
struct ClusterKey {
    etcd: EtcdKey,
    cluster_name: String,
    service_registry: bool,
}

impl Clusters {
    /// Ends all registrations because the process ends, including those whose join is running.
    /// Later joins are refused, and clusters without a manager are dropped. Registrations of
    /// managers with `alluxio.membership.native.leave.on.shutdown=false` stay in etcd until their
    /// lease ends.
    ///
    /// # Errors
    ///
    /// Fails if a lease could not be revoked before the deadline. The text says how long its worker
    /// stays listed.
    pub(crate) async fn process_ends(&self, deadline: Instant) -> Result<()> {
        self.end(deadline, |owner| owner.leaves_on_shutdown).await
    }

    /// Ends all registrations, including those with `leave.on.shutdown=false`.
    pub(crate) async fn leave_all(&self, deadline: Instant) -> Result<()> {
        self.end(deadline, |_| true).await
    }

    async fn end(&self, deadline: Instant, leaves: impl Fn(&Owner) -> bool) -> Result<()> {
        // Cancelled first: a later join is refused, and the owner of an earlier join is found
        // below.
        self.process_ends.cancel();
        let clusters: Vec<Arc<Cluster>> = {
            let clusters = self.clusters.lock();
            clusters.values().filter_map(Weak::upgrade).collect()
        };
        let leaving: Vec<(Arc<Cluster>, Vec<Leaving>)> = clusters
            .into_iter()
            .map(|cluster| {
                let leaving = cluster.start_leaving(None, deadline, &leaves);
                (cluster, leaving)
            })
            .collect();
        let mut result = Ok(());
        for (cluster, leaving) in leaving {
            result = result.and(cluster.finish_leaving(leaving, deadline).await);
        }
        result
    }

    /// Whether a manager or a background task still holds a cluster or its connections.
    pub(crate) fn in_use(&self) -> bool {
        let has_clusters = has_live(&self.clusters);
        has_clusters || has_live(&self.etcds)
    }

    /// Returns the cluster of this configuration, without connecting to it.
    ///
    /// # Errors
    ///
    /// Fails if a file for TLS is unusable.
    pub(crate) fn get(&self, config: &EtcdConfig) -> Result<Arc<Cluster>> {
        // The order of the endpoints does not matter.
        let mut endpoints = config.endpoints.clone();
        endpoints.sort();
        let etcd = EtcdKey {
            endpoints,
            hash: self.hasher.hash_one((&config.credentials, &config.tls)),
        };
        let key = ClusterKey {
            etcd: etcd.clone(),
            cluster_name: config.cluster_name.clone(),
            service_registry: config.service_registry,
        };
        get_or_insert(&self.clusters, key, || {
            Ok(Cluster {
                endpoints: get_or_insert(&self.etcds, etcd, || Endpoints::new(config))?,
                keys: Keys::new(&config.cluster_name),
                has_ring: !config.service_registry,
                roster: OnceLock::new(),
                registrations: Mutex::default(),
                lease_ids: Arc::new(LeaseIds::new()),
                process_ends: self.process_ends.clone(),
            })
        })
    }
}

/// Returns the existing value of this key, or a new one. A new value is created without the lock,
/// because that may read files. Removes dropped values.
fn get_or_insert<K: Eq + Hash, V>(
    map: &Mutex<HashMap<K, Weak<V>>>,
    key: K,
    make: impl FnOnce() -> Result<V>,
) -> Result<Arc<V>> {
    let known = map.lock().get(&key).and_then(Weak::upgrade);
    if let Some(value) = known {
        return Ok(value);
    }
    let made = Arc::new(make()?);
    let mut map = map.lock();
    map.retain(|_, value| value.strong_count() > 0);
    // Another thread may have inserted one meanwhile.
    let known = map.get(&key).and_then(Weak::upgrade);
    Ok(known.unwrap_or_else(|| {
        map.insert(key, Arc::downgrade(&made));
        made
    }))
}

fn has_live<K, V>(map: &Mutex<HashMap<K, Weak<V>>>) -> bool {
    map.lock().values().any(|value| value.strong_count() > 0)
}

/// Identifies a manager.
pub(crate) type ManagerId = u64;

/// One cluster, shared by the managers of a process.
pub(crate) struct Cluster {
    endpoints: Arc<Endpoints>,
    keys: Keys,
    has_ring: bool,
    /// The roster, which the first listing starts.
    roster: OnceLock<Roster>,
    /// The workers that this process registers, and their owners.
    registrations: Mutex<HashMap<WorkerIdentity, Joined>>,
    lease_ids: Arc<LeaseIds>,
    process_ends: CancellationToken,
}

/// A worker that this process registers.
struct Joined {
    registration: Arc<Registration>,
    /// The owners. The registration ends when the last owner is removed.
    owners: Vec<Owner>,
}

/// A call that joined the worker, or is joining it.
struct Owner {
    manager: ManagerId,
    call: u64,
    has_joined: bool,
    leaves_on_shutdown: bool,
}

/// A registration that was asked to end.
struct Leaving {
    identity: WorkerIdentity,
    registration: Arc<Registration>,
    answer: oneshot::Receiver<Result<i64>>,
}

/// A running join. If it fails, or its caller drops it, its owner is removed.
struct Joining<'a> {
    cluster: &'a Cluster,
    identity: WorkerIdentity,
    call: u64,
    has_joined: bool,
}

impl Drop for Joining<'_> {
    fn drop(&mut self) {
        let mut registrations = self.cluster.registrations.lock();
        let Some(joined) = registrations.get_mut(&self.identity) else {
            return;
        };
        let is_this = |owner: &Owner| owner.call == self.call;
        let Some(this) = joined.owners.iter().position(is_this) else {
            return;
        };
        if self.has_joined {
            joined.owners[this].has_joined = true;
            let manager = joined.owners[this].manager;
            // Each manager keeps only one owner.
            joined.owners.retain(|owner| {
                owner.call == self.call || owner.manager != manager || !owner.has_joined
            });
        } else {
            joined.owners.remove(this);
            if joined.owners.is_empty() {
                joined.registration.abandon();
            }
        }
    }
}

/// A registration of this process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegistrationStatus {
    /// The identity of the worker.
    pub identity: WorkerIdentity,
    /// The state of the registration.
    pub state: RegistrationState,
    /// The id of the lease, or 0 without a lease.
    pub lease: i64,
    /// The time until the lease ends unless it is renewed.
    pub lease_left: Duration,
    /// The number of leases so far. More than one means that a lease was lost.
    pub leases: u64,
    /// How often two thirds of the TTL passed without an answer to a renewal.
    pub late_renewals: u64,
    /// The lease under which another process has registered the same identity, or 0 for a key
    /// without a lease. That process is listed instead. This process does not overwrite its key,
    /// and is listed again when that key is gone.
    pub displaced_by: Option<i64>,
}

/// The parameters of a join, in addition to the worker.
pub(crate) struct Join<'a> {
    pub(crate) manager: ManagerId,
    /// Cancelled when that manager is closed.
    pub(crate) closed: &'a CancellationToken,
    pub(crate) leaves_on_shutdown: bool,
    pub(crate) worker: &'a Worker,
    /// Whether to replace a record of this identity with another address, as on Kubernetes.
    pub(crate) overwrite: bool,
    pub(crate) ttl: Duration,
    pub(crate) host: Option<HostLiveness>,
}

impl Cluster {
    pub(crate) fn roster(&self) -> &Roster {
        self.roster
            .get_or_init(|| Roster::start(self.endpoints.clone(), self.keys.clone(), self.has_ring))
    }

    /// Returns the roster if it was started. Unlike [`roster`](Self::roster), this also works on
    /// threads outside the runtime.
    pub(crate) fn started_roster(&self) -> Option<&Roster> {
        self.roster.get()
    }

    /// Keeps the cluster for a while after a manager was closed, unless the process ends.
    pub(crate) fn linger(self: Arc<Self>) {
        tokio::spawn(async move {
            let process_ends = self.process_ends.clone();
            let _ = tokio::time::timeout(LINGER, process_ends.cancelled()).await;
            drop(self);
        });
    }

    pub(crate) async fn join(&self, join: Join<'_>, deadline: Instant) -> Result<()> {
        static CALLS: AtomicU64 = AtomicU64::new(0);

        let identity = join.worker.identity;
        let mut joining = Joining {
            cluster: self,
            identity,
            call: CALLS.fetch_add(1, Ordering::Relaxed),
            has_joined: false,
        };
        let mut is_owner = false;
        let revisions = loop {
            let registration = self.own(&join, joining.call, is_owner)?;
            is_owner = true;
            match registration
                .join(join.worker, join.overwrite, deadline)
                .await
            {
                // Another call's failed join, or an earlier leave, has ended it. That is no result
                // of this call.
                Err(error) if error.kind() == ErrorKind::Closed => {
                    let ended = timeout_at(deadline, registration.ended()).await;
                    ended.map_err(|_| busy(&identity))?;
                }
                joined => break joined?,
            }
        };
        joining.has_joined = true;
        drop(joining);
        if let Some(roster) = self.roster.get() {
            if self.has_ring {
                roster
                    .saw(KeyRange::Ring, &identity, revisions.ring, deadline)
                    .await;
            }
            roster
                .saw(KeyRange::Live, &identity, revisions.live, deadline)
                .await;
        }
        Ok(())
    }

    /// Makes the call an owner of the worker's registration, and starts the registration if there
    /// is none. Fails if the manager is closed, if the process ends, or if the call was an owner
    /// before and its registration was ended on purpose.
    fn own(&self, join: &Join<'_>, call: u64, was_owner: bool) -> Result<Arc<Registration>> {
        let identity = join.worker.identity;
        // Checked under the lock, so that a later leave finds this owner.
        let mut registrations = self.registrations.lock();
        if join.closed.is_cancelled() {
            return Err(ended());
        }
        if self.process_ends.is_cancelled() {
            return Err(Error::new(
                ErrorKind::Closed,
                format!("{identity} cannot join: this process is about to end"),
            ));
        }
        let start = || {
            let registrar = Registrar {
                endpoints: self.endpoints.clone(),
                keys: self.keys.clone(),
                identity,
                has_ring: self.has_ring,
                ttl: join.ttl,
                lease_ids: self.lease_ids.clone(),
                log_limit: log_limit(),
            };
            Arc::new(Registration::start(registrar, join.host.clone()))
        };
        let joined = registrations.entry(identity).or_insert_with(|| Joined {
            registration: start(),
            owners: Vec::new(),
        });
        let is_owner = joined.owners.iter().any(|owner| owner.call == call);
        if was_owner && !is_owner {
            return Err(ended());
        }
        if !is_owner {
            joined.owners.push(Owner {
                manager: join.manager,
                call,
                has_joined: false,
                leaves_on_shutdown: join.leaves_on_shutdown,
            });
        }
        if joined.registration.has_ended() {
            joined.registration = start();
        }
        Ok(joined.registration.clone())
    }

    /// Ends the registrations that this manager joined and no other manager shares.
    pub(crate) async fn leave(&self, manager: ManagerId, deadline: Instant) -> Result<()> {
        let leaving = self.start_leave(manager, deadline);
        self.finish_leaving(leaving, deadline).await
    }

    /// Ends the same registrations without waiting.
    pub(crate) fn abandon(&self, manager: ManagerId, deadline: Instant) {
        drop(self.start_leave(manager, deadline));
    }

    /// Ends the registration of this worker, whichever managers joined it.
    pub(crate) async fn leave_worker(
        &self,
        identity: &WorkerIdentity,
        deadline: Instant,
    ) -> Result<()> {
        let leaving = self.start_leaving(Some(identity), deadline, |_| true);
        self.finish_leaving(leaving, deadline).await
    }

    fn start_leave(&self, manager: ManagerId, deadline: Instant) -> Vec<Leaving> {
        self.start_leaving(None, deadline, |owner| owner.manager == manager)
    }

    /// Asks the registrations that lose their last owner to end. They then end even if no caller
    /// waits.
    fn start_leaving(
        &self,
        only: Option<&WorkerIdentity>,
        deadline: Instant,
        leaves: impl Fn(&Owner) -> bool,
    ) -> Vec<Leaving> {
        let mut leaving = Vec::new();
        for (identity, joined) in self.registrations.lock().iter_mut() {
            if only.is_some_and(|only| only != identity) {
                continue;
            }
            let had_owners = !joined.owners.is_empty();
            joined.owners.retain(|owner| !leaves(owner));
            // A registration without owners is already ending. A call that stops one worker waits
            // for that end.
            if joined.owners.is_empty() && (had_owners || only.is_some()) {
                leaving.push(Leaving {
                    identity: *identity,
                    registration: joined.registration.clone(),
                    answer: joined.registration.leave(deadline),
                });
            }
        }
        leaving
    }

    /// Waits until the registrations have ended, and until the view shows that. Returns the first
    /// error.
    async fn finish_leaving(&self, leaving: Vec<Leaving>, deadline: Instant) -> Result<()> {
        let mut result = Ok(());
        for Leaving {
            identity,
            registration,
            answer,
        } in leaving
        {
            let end = async {
                // Without an answer, another call has ended it.
                let left = answer.await.unwrap_or(Ok(0));
                registration.ended().await;
                left
            };
            let left = timeout_at(deadline + LAST_WORDS, end).await;
            let left = left.unwrap_or_else(|_| Err(busy(&identity)));
            if let (Ok(revision), Some(roster)) = (&left, self.roster.get()) {
                roster
                    .saw_gone(KeyRange::Live, &identity, *revision, deadline)
                    .await;
            }
            result = result.and(left.map(drop));
        }
        self.registrations
            .lock()
            .retain(|_, joined| !joined.owners.is_empty() || !joined.registration.has_ended());
        KEPT.lock()
            .retain(|cluster| !cluster.registrations.lock().is_empty());
        result
    }

    /// Keeps the registrations of this closed manager until the process ends.
    pub(crate) fn keep_until_exit(self: &Arc<Self>, manager: ManagerId) {
        let is_joined = |joined: &Joined| {
            let mut owners = joined.owners.iter();
            owners.any(|owner| owner.manager == manager && owner.has_joined)
        };
        if !self.registrations.lock().values().any(is_joined) {
            return;
        }
        let mut kept = KEPT.lock();
        if !kept.iter().any(|cluster| Arc::ptr_eq(cluster, self)) {
            kept.push(self.clone());
        }
    }

    /// Removes a lost worker from the ring.
    pub(crate) async fn remove(&self, identity: &WorkerIdentity, deadline: Instant) -> Result<()> {
        if !self.has_ring {
            return Ok(());
        }
        let view = self.roster().linearizable(deadline).await?;
        match view.find(identity).map(|member| member.state) {
            None => return Err(ring::unknown_worker(identity)),
            Some(WorkerState::Live) => return Err(ring::running_worker(identity)),
            Some(WorkerState::Lost) => {}
        }
        self.leave_worker(identity, deadline).await?;
        let revision = ring::remove(&self.endpoints, &self.keys, identity, deadline).await?;
        self.roster()
            .saw_gone(KeyRange::Ring, identity, revision, deadline)
            .await;
        Ok(())
    }

    /// Returns the health of each endpoint, in the order of the configuration.
    pub(crate) fn endpoint_health(&self) -> Vec<EndpointHealth> {
        let endpoints = self.endpoints.all().into_iter();
        endpoints.map(|endpoint| endpoint.health()).collect()
    }

    /// Returns every registration of this process, in the order of the identities.
    pub(crate) fn registrations(&self) -> Vec<RegistrationStatus> {
        let registrations = self.registrations.lock();
        let mut statuses: Vec<RegistrationStatus> = registrations
            .iter()
            .filter_map(|(identity, joined)| joined.status(*identity))
            .collect();
        drop(registrations);
        statuses.sort_by_key(|status| status.identity);
        statuses
    }

    /// Returns the state of this process's registration of the worker.
    pub(crate) fn registration_state(
        &self,
        identity: &WorkerIdentity,
    ) -> Option<RegistrationState> {
        let registrations = self.registrations.lock();
        let standing = registrations.get(identity)?.registration.standing()?;
        Some(standing.state)
    }
}

impl Joined {
    fn status(&self, identity: WorkerIdentity) -> Option<RegistrationStatus> {
        let standing = self.registration.standing()?;
        let left = |at: BootTime| at - BootTime::now();
        Some(RegistrationStatus {
            identity,
            state: standing.state,
            lease: standing.lease,
            lease_left: standing.lease_ends_at.map_or(Duration::ZERO, left),
            leases: standing.leases,
            late_renewals: standing.late_renewals,
            displaced_by: standing.displaced_by,
        })
    }
}

/// Runs a script of the fuzzers, with messages of a watch and answers about it. Compares the views
/// with a model.
#[cfg(fuzzing)]
#[doc(hidden)]
pub fn fuzz_watch(script: &[u8]) {
    roster::run_script(script);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Backend, Config, Properties};

    #[test]
    fn the_order_of_endpoints_makes_no_other_cluster() {
        let clusters = Clusters::default();
        let cluster = |endpoints: &str| {
            let mut properties = Properties::new();
            properties.set("alluxio.worker.membership.manager.type", "ETCD");
            properties.set("alluxio.etcd.endpoints", endpoints);
            let config = Config::from_properties(&properties).unwrap();
            let Backend::Etcd(config) = config.backend else {
                panic!("not in etcd");
            };
            clusters.get(&config).unwrap()
        };
        let cluster_of_both = cluster("http://a:1,http://b:1");
        let again = cluster("http://b:1,http://a:1,http://b:1");
        assert!(Arc::ptr_eq(&cluster_of_both, &again));
        assert!(!Arc::ptr_eq(&cluster_of_both, &cluster("http://a:1")));
    }

    #[tokio::test]
    async fn the_end_of_the_process_ends_a_join_under_way_and_refuses_later_ones() {
        use crate::membership::{JoinOptions, Membership};
        use crate::worker::WorkerNetAddress;

        let mut properties = Properties::new();
        properties.set("alluxio.worker.membership.manager.type", "ETCD");
        // No server listens at this port.
        properties.set("alluxio.etcd.endpoints", "http://127.0.0.1:1");
        properties.set("alluxio.membership.native.operation.timeout", "5min");
        let config = Config::from_properties(&properties).unwrap();
        let clusters = Clusters::default();
        let membership = Membership::open_in(&config, &clusters).unwrap();
        let worker = Worker {
            identity: WorkerIdentity::V0(1),
            address: WorkerNetAddress::new("host"),
        };
        let (joining, joined) = (membership.clone(), worker.clone());
        let joining =
            tokio::spawn(async move { joining.join(&joined, &JoinOptions::default()).await });
        while membership.status().unwrap().registrations.is_empty() {
            tokio::task::yield_now().await;
        }
        let began = Instant::now();
        let deadline = began + Duration::from_millis(400);
        let left = clusters.process_ends(deadline).await;
        assert!(left.is_ok(), "nothing was registered: {left:?}");
        assert!(
            began.elapsed() < Duration::from_secs(60),
            "{:?}",
            began.elapsed()
        );
        let error = joining.await.unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Closed, "{error}");
        let error = membership.join(&worker, &JoinOptions::default()).await;
        assert_eq!(error.unwrap_err().kind(), ErrorKind::Closed);
    }
}
