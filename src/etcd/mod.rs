//! Membership in etcd: the clusters a process is connected to, and what its managers share of them.

mod connection;
mod endpoints;
mod inspect;
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
use tokio::time::Instant;

pub use self::endpoints::EndpointHealth;
use self::endpoints::Endpoints;
pub use self::inspect::{FoundCluster, Inspection, LeaseTime, MemberReport, MemberStatus, Reading};
use self::keys::Keys;
pub use self::registration::{HostLiveness, HostPulse, RegistrationState};
use self::registration::{Registrar, Registration};
pub use self::roster::ViewCounters;
use self::roster::{Range, Roster};
pub use self::tls::{CertificateInfo, TlsSession};
use crate::config::EtcdConfig;
use crate::error::Result;
use crate::worker::{Worker, WorkerIdentity, WorkerState};

/// How long a cluster that no manager uses any more is kept: Alluxio's client closes and reopens its manager on every
/// refresh of its configuration.
const LINGER: Duration = Duration::from_secs(30);

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
        let mut result = Ok(());
        for cluster in clusters {
            let joined: Vec<WorkerIdentity> =
                cluster.registrations.lock().keys().copied().collect();
            for identity in joined {
                let left = cluster.stop_heartbeat(&identity, deadline).await;
                result = result.and(left);
            }
        }
        result
    }

    /// The cluster of this configuration; connects to nothing yet.
    ///
    /// # Errors
    ///
    /// Those of the files that TLS needs.
    pub(crate) fn get(&self, config: &EtcdConfig) -> Result<Arc<Cluster>> {
        let etcd = EtcdKey {
            endpoints: config.endpoints.clone(),
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

/// The live value of this key, or a new one. Dead ones are dropped on the way.
fn get_or_insert<K: Eq + Hash, V>(
    map: &Mutex<HashMap<K, Weak<V>>>,
    key: K,
    make: impl FnOnce() -> Result<V>,
) -> Result<Arc<V>> {
    let mut map = map.lock();
    map.retain(|_, value| value.strong_count() > 0);
    if let Some(value) = map.get(&key).and_then(Weak::upgrade) {
        return Ok(value);
    }
    let value = Arc::new(make()?);
    map.insert(key, Arc::downgrade(&value));
    Ok(value)
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
    registrations: Mutex<HashMap<WorkerIdentity, Arc<tokio::sync::Mutex<Slot>>>>,
}

/// A worker's registration by this process. Locked while one call changes it.
#[derive(Default)]
struct Slot {
    registration: Option<Registration>,
    /// The managers that joined; the last one to leave ends the registration.
    joined_by: HashSet<ManagerId>,
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
        let mut slot = slot.lock().await;
        let registration = match slot.registration.take() {
            Some(registration) if !registration.is_over() => registration,
            _ => Registration::start(
                Registrar {
                    endpoints: self.endpoints.clone(),
                    keys: self.keys.clone(),
                    identity: worker.identity,
                    has_ring: self.has_ring,
                    ttl,
                },
                host,
            ),
        };
        let joined = slot
            .registration
            .insert(registration)
            .join(worker, overwrite, deadline)
            .await;
        let revisions = match joined {
            Ok(revisions) => revisions,
            Err(error) => {
                if slot
                    .registration
                    .as_ref()
                    .is_some_and(Registration::is_over)
                {
                    slot.registration = None;
                }
                return Err(error);
            }
        };
        slot.joined_by.insert(manager);
        drop(slot);
        if let Some(roster) = self.roster.get() {
            roster
                .saw(Range::Ring, &worker.identity, revisions.ring, deadline)
                .await;
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
        self.end(identity, deadline, |slot| {
            slot.joined_by.remove(&manager);
            slot.joined_by.is_empty()
        })
        .await
    }

    /// Ends the registration, whoever joined.
    pub(crate) async fn stop_heartbeat(
        &self,
        identity: &WorkerIdentity,
        deadline: Instant,
    ) -> Result<()> {
        self.end(identity, deadline, |slot| {
            slot.joined_by.clear();
            true
        })
        .await
    }

    async fn end(
        &self,
        identity: &WorkerIdentity,
        deadline: Instant,
        ends: impl FnOnce(&mut Slot) -> bool,
    ) -> Result<()> {
        let Some(shared_slot) = self.registrations.lock().get(identity).cloned() else {
            return Ok(());
        };
        let mut slot = shared_slot.lock().await;
        if !ends(&mut slot) {
            return Ok(());
        }
        let Some(registration) = slot.registration.take() else {
            return Ok(());
        };
        let left = registration.leave(deadline).await;
        drop(slot);
        drop(shared_slot);
        self.registrations
            .lock()
            .retain(|_, slot| Arc::strong_count(slot) > 1 || !slot_is_empty(slot));
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

    /// Every registration of this process, in the order of the identities. One that is being changed is left out.
    pub(crate) fn registrations(&self) -> Vec<RegistrationStatus> {
        let slots: Vec<_> = {
            let registrations = self.registrations.lock();
            let slots = registrations.iter();
            slots
                .map(|(identity, slot)| (*identity, slot.clone()))
                .collect()
        };
        let mut statuses: Vec<RegistrationStatus> = slots
            .into_iter()
            .filter_map(|(identity, slot)| {
                let slot = slot.try_lock().ok()?;
                let registration = slot.registration.as_ref()?;
                let lease = registration.lease();
                Some(RegistrationStatus {
                    identity,
                    state: registration.state(),
                    lease: lease.id,
                    lease_left: lease.ends_at.map_or(Duration::ZERO, |at| {
                        at.saturating_duration_since(Instant::now())
                    }),
                    leases: lease.count,
                })
            })
            .collect();
        statuses.sort_by_key(|status| status.identity);
        statuses
    }

    /// Where this process's registration of the worker stands.
    pub(crate) fn registration_state(
        &self,
        identity: &WorkerIdentity,
    ) -> Option<RegistrationState> {
        let slot = self.registrations.lock().get(identity)?.clone();
        let slot = slot.try_lock().ok()?;
        slot.registration.as_ref().map(Registration::state)
    }
}

/// A locked slot is in use.
fn slot_is_empty(slot: &tokio::sync::Mutex<Slot>) -> bool {
    slot.try_lock()
        .is_ok_and(|slot| slot.registration.is_none())
}
