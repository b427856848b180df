//! Membership in etcd: the clusters a process is connected to, and what its managers share of them.

mod answers;
mod connection;
mod endpoints;
#[cfg(test)]
mod histories;
mod inspect;
mod keep_running;
mod keys;
mod lease;
mod login;
mod registration;
mod ring;
mod roster;
mod status;
mod tls;
mod transport;

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, Hash, RandomState};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

pub use self::endpoints::EndpointHealth;
use self::endpoints::Endpoints;
pub use self::inspect::{FoundCluster, Inspection, LeaseTime, MemberReport, MemberStatus, Reading};
use self::keys::Keys;
pub use self::registration::{HostLiveness, HostPulse, RegistrationState};
use self::registration::{Leases, OwnLeases, Registrar, Registration, Standing, busy};
pub use self::roster::ViewCounters;
use self::roster::{Range, Roster};
pub use self::tls::{CertificateInfo, TlsSession};
use crate::config::EtcdConfig;
use crate::error::{ErrorKind, Result};
use crate::worker::{Worker, WorkerIdentity, WorkerState};

/// How long a cluster that no manager uses any more is kept: Alluxio's client closes and reopens its manager on every
/// refresh of its configuration.
const LINGER: Duration = Duration::from_secs(30);
/// How many registrations are ended side by side.
const LEAVES_AT_ONCE: usize = 16;

/// The clusters a process is connected to. Managers opened on the same `Clusters` share connections, views and
/// registrations where their configuration names the same etcd and the same cluster.
#[derive(Default)]
pub struct Clusters {
    etcds: Mutex<HashMap<EtcdKey, Weak<Endpoints>>>,
    clusters: Mutex<HashMap<ClusterKey, Weak<Cluster>>>,
    hasher: RandomState,
}

/// Tells one way to reach an etcd from another, without keeping passwords.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct EtcdKey {
    endpoints: Vec<String>,
    /// Of credentials and TLS, keyed anew in each process.
    hash: u64,
}

#[derive(PartialEq, Eq, Hash)]
struct ClusterKey {
    etcd: EtcdKey,
    cluster_name: String,
    service_registry: bool,
}

impl Clusters {
    /// Ends every registration, whichever manager made it.
    pub(crate) async fn leave_all(&self, deadline: Instant) -> Result<()> {
        let clusters: Vec<Arc<Cluster>> = {
            let clusters = self.clusters.lock();
            clusters.values().filter_map(Weak::upgrade).collect()
        };
        let leaves = clusters.into_iter().flat_map(|cluster| {
            let joined: Vec<WorkerIdentity> =
                cluster.registrations.lock().keys().copied().collect();
            joined.into_iter().map(move |identity| {
                let cluster = cluster.clone();
                async move { cluster.stop_heartbeat(&identity, deadline).await }
            })
        });
        side_by_side(leaves).await
    }

    /// Whether a manager or the background still holds a cluster, or its connections.
    pub(crate) fn in_use(&self) -> bool {
        let has_clusters = has_live(&self.clusters);
        has_clusters || has_live(&self.etcds)
    }

    /// The cluster of this configuration; connects to nothing yet.
    ///
    /// # Errors
    ///
    /// Those of the files that TLS needs.
    pub(crate) fn get(&self, config: &EtcdConfig) -> Result<Arc<Cluster>> {
        // In whichever order they are named.
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
            })
        })
    }
}

/// Runs these, some side by side. Returns the first error there was.
pub(crate) async fn side_by_side<F>(leaves: impl Iterator<Item = F>) -> Result<()>
where
    F: Future<Output = Result<()>> + Send + 'static,
{
    let mut running = JoinSet::new();
    let mut result = Ok(());
    for leave in leaves {
        if running.len() >= LEAVES_AT_ONCE
            && let Some(Ok(left)) = running.join_next().await
        {
            result = result.and(left);
        }
        running.spawn(leave);
    }
    while let Some(left) = running.join_next().await {
        if let Ok(left) = left {
            result = result.and(left);
        }
    }
    result
}

/// The live value of this key, or a new one. That is made without the lock, since it may have to read files. Dead ones are
/// dropped on the way.
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
    // Another thread may have been faster.
    let known = map.get(&key).and_then(Weak::upgrade);
    Ok(known.unwrap_or_else(|| {
        map.insert(key, Arc::downgrade(&made));
        made
    }))
}

fn has_live<K, V>(map: &Mutex<HashMap<K, Weak<V>>>) -> bool {
    map.lock().values().any(|value| value.strong_count() > 0)
}

/// Tells one manager from another.
pub(crate) type ManagerId = u64;

/// One cluster, shared by the managers of a process.
pub(crate) struct Cluster {
    endpoints: Arc<Endpoints>,
    keys: Keys,
    has_ring: bool,
    /// Started by the first listing.
    roster: OnceLock<Roster>,
    registrations: Mutex<HashMap<WorkerIdentity, Arc<Slot>>>,
}

/// A worker's registration by this process.
#[derive(Default)]
struct Slot {
    /// Locked while one call changes it.
    kept: tokio::sync::Mutex<Kept>,
    /// How it stands, without that lock.
    standing: Mutex<Option<Standing>>,
    /// Of all its registrations: what an earlier one had begun may end late.
    leases: Arc<OwnLeases>,
}

#[derive(Default)]
struct Kept {
    registration: Option<Registration>,
    /// The managers that joined; the last one to leave ends the registration.
    joined_by: HashSet<ManagerId>,
}

impl Kept {
    /// The registration, unless it has ended by itself.
    fn running(&self) -> Option<&Registration> {
        self.registration
            .as_ref()
            .filter(|registration| !registration.is_over())
    }
}

/// A registration while a manager joins. Nobody's in the end, because the join failed or its caller went away: it ends.
struct Joining<'a>(tokio::sync::MutexGuard<'a, Kept>);

impl Drop for Joining<'_> {
    fn drop(&mut self) {
        if self.0.joined_by.is_empty()
            && let Some(registration) = self.0.running()
        {
            registration.abandon();
        }
    }
}

/// A registration of this process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegistrationStatus {
    /// Whose.
    pub identity: WorkerIdentity,
    /// Where it stands.
    pub state: RegistrationState,
    /// The id of its lease; 0 while there is none.
    pub lease: i64,
    /// How long the lease lasts unless it is renewed.
    pub lease_left: Duration,
    /// How many leases it has had: more than one if it was lost in between.
    pub leases: u64,
    /// Another process has registered the same identity under this lease, 0 for none, and is listed instead. This
    /// process does not fight for it, and is listed again when the other record is gone.
    pub displaced_by: Option<i64>,
}

/// What a join needs beside the worker.
pub(crate) struct Join<'a> {
    pub(crate) manager: ManagerId,
    pub(crate) worker: &'a Worker,
    /// Replace a record of this identity under another address, as on Kubernetes.
    pub(crate) overwrite: bool,
    pub(crate) ttl: Duration,
    pub(crate) host: Option<HostLiveness>,
}

impl Cluster {
    pub(crate) fn roster(&self) -> &Roster {
        self.roster
            .get_or_init(|| Roster::start(self.endpoints.clone(), self.keys.clone(), self.has_ring))
    }

    /// The roster, if anything has been listed; unlike [`roster`](Self::roster) also for threads outside the runtime.
    pub(crate) fn started_roster(&self) -> Option<&Roster> {
        self.roster.get()
    }

    /// Keeps the cluster for a while after its last manager is closed.
    pub(crate) fn linger(self: Arc<Self>) {
        tokio::spawn(async move {
            tokio::time::sleep(LINGER).await;
            drop(self);
        });
    }

    /// Keeps the cluster, with its registrations, for as long as the runtime goes on.
    pub(crate) fn keep(self: Arc<Self>) {
        tokio::spawn(async move {
            std::future::pending::<()>().await;
            drop(self);
        });
    }

    pub(crate) async fn join(&self, join: Join<'_>, deadline: Instant) -> Result<()> {
        let Join {
            manager,
            worker,
            overwrite,
            ttl,
            host,
        } = join;
        let slot = self
            .registrations
            .lock()
            .entry(worker.identity)
            .or_default()
            .clone();
        let kept = timeout_at(deadline, slot.kept.lock());
        let mut kept = Joining(kept.await.map_err(|_| busy(&worker.identity))?);
        let revisions = loop {
            let is_new = kept.0.running().is_none();
            if is_new {
                kept.0.registration = None;
            }
            let registration = kept.0.registration.get_or_insert_with(|| {
                Registration::start(
                    Registrar {
                        endpoints: self.endpoints.clone(),
                        keys: self.keys.clone(),
                        identity: worker.identity,
                        has_ring: self.has_ring,
                        ttl,
                        leases: Leases::new(slot.leases.clone()),
                    },
                    host.clone(),
                )
            });
            *slot.standing.lock() = Some(registration.standing());
            match registration.join(worker, overwrite, deadline).await {
                // It was about to end: an earlier join failed or was given up. That is no answer to this one.
                Err(error) if !is_new && error.kind() == ErrorKind::Closed => {}
                joined => break joined?,
            }
        };
        kept.0.joined_by.insert(manager);
        drop(kept);
        if let Some(roster) = self.roster.get() {
            if self.has_ring {
                roster
                    .saw(Range::Ring, &worker.identity, revisions.ring, deadline)
                    .await;
            }
            roster
                .saw(Range::Live, &worker.identity, revisions.live, deadline)
                .await;
        }
        Ok(())
    }

    /// Ends the registration if no other manager has joined this worker.
    pub(crate) async fn leave(
        &self,
        manager: ManagerId,
        identity: &WorkerIdentity,
        deadline: Instant,
    ) -> Result<()> {
        self.end(identity, deadline, |kept| {
            kept.joined_by.remove(&manager);
            kept.joined_by.is_empty()
        })
        .await
    }

    /// Ends the registration, whoever joined.
    pub(crate) async fn stop_heartbeat(
        &self,
        identity: &WorkerIdentity,
        deadline: Instant,
    ) -> Result<()> {
        self.end(identity, deadline, |kept| {
            kept.joined_by.clear();
            true
        })
        .await
    }

    async fn end(
        &self,
        identity: &WorkerIdentity,
        deadline: Instant,
        ends: impl FnOnce(&mut Kept) -> bool,
    ) -> Result<()> {
        let Some(slot) = self.registrations.lock().get(identity).cloned() else {
            return Ok(());
        };
        let kept = timeout_at(deadline, slot.kept.lock());
        let mut kept = kept.await.map_err(|_| busy(identity))?;
        if !ends(&mut kept) {
            return Ok(());
        }
        let Some(registration) = kept.registration.take() else {
            return Ok(());
        };
        let left = registration.leave(deadline).await;
        drop(kept);
        drop(slot);
        self.registrations
            .lock()
            .retain(|_, slot| Arc::strong_count(slot) > 1 || !slot.is_empty());
        let revision = left?;
        if let Some(roster) = self.roster.get() {
            roster
                .saw_gone(Range::Live, identity, revision, deadline)
                .await;
        }
        Ok(())
    }

    /// Takes a lost worker off the ring.
    pub(crate) async fn decommission(
        &self,
        identity: &WorkerIdentity,
        deadline: Instant,
    ) -> Result<()> {
        if !self.has_ring {
            return Ok(());
        }
        let view = self.roster().linearizable(deadline).await?;
        match view.find(identity).map(|member| member.state) {
            None => return Err(ring::unknown_worker(identity)),
            Some(WorkerState::Live) => return Err(ring::running_worker(identity)),
            Some(WorkerState::Lost) => {}
        }
        self.stop_heartbeat(identity, deadline).await?;
        let revision = ring::remove(&self.endpoints, &self.keys, identity, deadline).await?;
        self.roster()
            .saw_gone(Range::Ring, identity, revision, deadline)
            .await;
        Ok(())
    }

    /// How each endpoint has served so far, in the order of the configuration.
    pub(crate) fn endpoint_health(&self) -> Vec<EndpointHealth> {
        let endpoints = self.endpoints.all().iter();
        endpoints.map(|endpoint| endpoint.health()).collect()
    }

    /// Every registration of this process, in the order of the identities.
    pub(crate) fn registrations(&self) -> Vec<RegistrationStatus> {
        let mut statuses: Vec<RegistrationStatus> = {
            let slots = self.registrations.lock();
            let slots = slots.iter();
            slots
                .filter_map(|(identity, slot)| slot.status(*identity))
                .collect()
        };
        statuses.sort_by_key(|status| status.identity);
        statuses
    }

    /// Where this process's registration of the worker stands.
    pub(crate) fn registration_state(
        &self,
        identity: &WorkerIdentity,
    ) -> Option<RegistrationState> {
        let slots = self.registrations.lock();
        let standing = slots.get(identity)?.standing.lock();
        standing.as_ref()?.state()
    }
}

impl Slot {
    fn status(&self, identity: WorkerIdentity) -> Option<RegistrationStatus> {
        let standing = self.standing.lock();
        let standing = standing.as_ref()?;
        let state = standing.state()?;
        let lease = standing.lease();
        let left = |at: Instant| at.saturating_duration_since(Instant::now());
        Some(RegistrationStatus {
            identity,
            state,
            lease: lease.id,
            lease_left: lease.ends_at.map_or(Duration::ZERO, left),
            leases: lease.count,
            displaced_by: lease.displaced_by,
        })
    }

    /// A locked one is in use.
    fn is_empty(&self) -> bool {
        let kept = self.kept.try_lock();
        kept.is_ok_and(|kept| kept.running().is_none())
    }
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
}
