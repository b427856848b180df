//! The common parts of the fault tests: managers, workers, and a line of the table for each fault.

use std::cell::Cell;
use std::io::Write;
use std::time::{Duration, Instant};

use alluxio_membership::config::{Config, Properties};
use alluxio_membership::etcd::{Clusters, RegistrationState};
use alluxio_membership::membership::{JoinOptions, Membership};
use alluxio_membership::record;
use alluxio_membership::view::{ClusterView, MemberFilter};
use alluxio_membership::worker::{Worker, WorkerIdentity, WorkerNetAddress};
use etcd_client::{Txn, TxnOp};

use crate::common::{Etcd, EtcdVersion, eventually};

/// The time limit of everything that has no other limit.
pub const LONG: Duration = Duration::from_secs(60);
/// The live keys of the cluster that the managers are in.
pub const LIVE: &str = "/ServiceDiscovery/DefaultAlluxioCluster/";
/// The ring keys of the cluster that the managers are in.
pub const RING: &str = "/DHT/DefaultAlluxioCluster/AUTHORIZED/";

/// Linearizable reads ask etcd every time.
pub const LINEARIZABLE: (&str, &str) = ("alluxio.membership.native.read.mode", "LINEARIZABLE");
/// For operations that take long on a loaded machine, and must not fail for that reason.
pub const PATIENT: [(&str, &str); 2] = [
    ("alluxio.membership.native.operation.timeout", "5min"),
    ("alluxio.membership.native.view.max.staleness", "5min"),
];

/// The configuration of a worker or a reader with a TTL of 5 s, with further properties.
pub fn config(endpoints: &[String], more: &[(&str, &str)]) -> Config {
    let mut properties = Properties::new();
    properties.set("alluxio.worker.membership.manager.type", "ETCD");
    properties.set("alluxio.etcd.endpoints", endpoints.join(","));
    properties.set("alluxio.worker.failure.detection.timeout", "5s");
    for (name, value) in more {
        properties.set(*name, *value);
    }
    Config::from_properties(&properties).expect("a good configuration")
}

/// Opens a manager in a separate "process": it shares nothing with other managers.
pub fn open(endpoints: &[String], more: &[(&str, &str)]) -> Membership {
    let _ = env_logger::builder().is_test(true).try_init();
    Membership::open_in(&config(endpoints, more), &Clusters::default())
        .expect("opening never waits")
}

pub fn worker(number: i64) -> Worker {
    Worker {
        identity: WorkerIdentity::V0(number),
        address: WorkerNetAddress::new(format!("worker{number}")),
    }
}

pub async fn join(membership: &Membership, number: i64) {
    membership
        .join(&worker(number), &JoinOptions::default())
        .await
        .expect("join");
}

/// Puts records of the workers with these numbers.
pub async fn put_workers(etcd: &Etcd, numbers: std::ops::Range<i64>) {
    put_records(etcd, numbers.map(worker)).await;
}

/// Puts records of these workers, ring key and live key, 50 workers a transaction.
pub async fn put_records(etcd: &Etcd, workers: impl Iterator<Item = Worker>) {
    let mut client = etcd.client().await;
    let workers: Vec<Worker> = workers.collect();
    for some in workers.chunks(50) {
        let puts: Vec<TxnOp> = some
            .iter()
            .flat_map(|one| {
                [RING, LIVE].map(|prefix| {
                    let key = format!("{prefix}{}", one.identity);
                    TxnOp::put(key, record::encode(one), None)
                })
            })
            .collect();
        client.txn(Txn::new().and_then(puts)).await.expect("put");
    }
}

pub fn is_registered(membership: &Membership, number: i64) -> bool {
    let state = membership.registration_state(&worker(number).identity);
    state.expect("open") == Some(RegistrationState::Registered)
}

/// The numbers of the live workers.
pub fn live(view: &ClusterView) -> Vec<i64> {
    numbers(view, MemberFilter::Live)
}

/// The numbers of these workers.
pub fn numbers(view: &ClusterView, filter: MemberFilter) -> Vec<i64> {
    view.members(filter)
        .iter()
        .map(|member| match member.worker.identity {
            WorkerIdentity::V0(number) => number,
            other => panic!("an identity of no test: {other}"),
        })
        .collect()
}

/// Whether a manager lists these workers as live.
pub async fn lists(membership: &Membership, numbers: &[i64]) -> bool {
    membership
        .view()
        .await
        .is_ok_and(|view| live(&view) == numbers)
}

/// The numbers of the workers that have keys in etcd.
pub async fn numbers_in(etcd: &Etcd, prefix: &str) -> Vec<i64> {
    let mut numbers: Vec<i64> = etcd
        .keys(prefix)
        .await
        .iter()
        .filter_map(|key| key.rsplit('-').next()?.parse().ok())
        .collect();
    numbers.sort_unstable();
    numbers
}

/// Whether a manager lists exactly the workers in etcd, live and registered.
pub async fn lists_what_etcd_has(membership: &Membership, etcd: &Etcd) -> bool {
    let Ok(view) = membership.view().await else {
        return false;
    };
    let listed = |filter| {
        let mut numbers = numbers(&view, filter);
        numbers.sort_unstable();
        numbers
    };
    listed(MemberFilter::Live) == numbers_in(etcd, LIVE).await
        && listed(MemberFilter::All) == numbers_in(etcd, RING).await
}

/// The lease of a worker's live key; `None` while there is no such key.
pub async fn lease_of(etcd: &Etcd, number: i64) -> Option<i64> {
    let key = format!("{LIVE}{}", worker(number).identity);
    etcd.get(&key).await.map(|kv| kv.lease())
}

/// Waits until a lease is renewed.
pub async fn renewed(etcd: &Etcd, lease: i64) {
    let left = async || {
        let lease = etcd.lease_ttl(lease).await;
        lease.expect("the lease lives").0
    };
    let lowest = Cell::new(left().await);
    eventually("it is renewed", LONG, async || {
        let seconds = left().await;
        seconds > lowest.replace(lowest.get().min(seconds))
    })
    .await;
}

/// One line of the table: the fault and its outcome.
pub struct Fault {
    name: &'static str,
    version: EtcdVersion,
    began: Instant,
}

impl Fault {
    pub fn new(name: &'static str, version: EtcdVersion) -> Fault {
        Fault {
            name,
            version,
            began: Instant::now(),
        }
    }

    /// The time since the fault.
    pub fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    /// Adds the line to the file `$AXM_FAULTS_TABLE`, if that variable is set.
    pub fn outcome(self, outcome: impl AsRef<str>) {
        let Some(file) = std::env::var_os("AXM_FAULTS_TABLE") else {
            return;
        };
        let line = format!(
            "| {} | {} | {:.1} s | {} |\n",
            self.name,
            self.version,
            self.began.elapsed().as_secs_f64(),
            outcome.as_ref()
        );
        let mut table = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(file)
            .expect("open $AXM_FAULTS_TABLE");
        table.write_all(line.as_bytes()).expect("write the table");
    }
}
