//! Workers and views when members of a three-member etcd fail.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::common::{Etcd, EtcdCluster, EtcdVersion, eventually, on_every_etcd};
use crate::scene::Fault;
use alluxio_membership::config::{Config, Properties};
use alluxio_membership::error::ErrorKind;
use alluxio_membership::etcd::{Clusters, RegistrationState};
use alluxio_membership::membership::{JoinOptions, Membership};
use alluxio_membership::view::MemberFilter;
use alluxio_membership::worker::{Worker, WorkerIdentity, WorkerNetAddress};
use tokio::task::JoinHandle;

const LONG: Duration = Duration::from_secs(60);
const LIVE: &str = "/ServiceDiscovery/DefaultAlluxioCluster/";
const WORKERS: i64 = 6;

fn open(endpoints: &[String], read_mode: &str) -> Membership {
    let mut properties = Properties::new();
    properties.set("alluxio.worker.membership.manager.type", "ETCD");
    properties.set("alluxio.etcd.endpoints", endpoints.join(","));
    properties.set("alluxio.worker.failure.detection.timeout", "5s");
    properties.set("alluxio.membership.native.view.max.staleness", "1min");
    properties.set("alluxio.membership.native.read.mode", read_mode);
    let config = Config::from_properties(&properties).expect("a good configuration");
    Membership::open_in(&config, &Clusters::default()).expect("opening never waits")
}

fn worker(number: i64) -> Worker {
    Worker {
        identity: WorkerIdentity::V0(number),
        address: WorkerNetAddress::new(format!("worker{number}")),
    }
}

/// Workers in separate "processes", and two readers that list all the time.
struct Scene {
    workers: Vec<Membership>,
    /// The live keys as they were created: their lease and revision.
    created: Vec<(i64, i64)>,
    stop: Arc<AtomicBool>,
    /// The problems that the readers found.
    readers: Vec<JoinHandle<Vec<String>>>,
}

impl Scene {
    async fn start(cluster: &EtcdCluster) -> Scene {
        let _ = env_logger::builder().is_test(true).try_init();
        let endpoints = cluster.endpoints();
        let mut workers = Vec::new();
        for number in 1..=WORKERS {
            let membership = open(&endpoints, "CACHED");
            membership
                .join(&worker(number), &JoinOptions::default())
                .await
                .expect("join");
            workers.push(membership);
        }
        let stop = Arc::new(AtomicBool::new(false));
        let readers = ["CACHED", "LINEARIZABLE"]
            .map(|mode| tokio::spawn(read_on(open(&endpoints, mode), mode, stop.clone())))
            .into();
        Scene {
            created: created(&cluster.members()[0]).await,
            workers,
            stop,
            readers,
        }
    }

    /// Ends the readers. Returns the problems that they found.
    async fn complaints(&mut self) -> Vec<String> {
        self.stop.store(true, Ordering::Relaxed);
        let mut complaints = Vec::new();
        for reader in self.readers.drain(..) {
            complaints.extend(reader.await.expect("reader"));
        }
        complaints
    }

    async fn all_registered(&self) {
        eventually("all workers are registered", LONG, || async {
            self.workers.iter().zip(1..).all(|(membership, number)| {
                membership
                    .registration_state(&worker(number).identity)
                    .unwrap()
                    == Some(RegistrationState::Registered)
            })
        })
        .await;
    }
}

async fn created(member: &Etcd) -> Vec<(i64, i64)> {
    let keys = member.get_prefix(LIVE).await;
    keys.iter()
        .map(|kv| (kv.lease(), kv.create_revision()))
        .collect()
}

/// Reads ten times a second and notes every failed call, every missing worker and every step back.
async fn read_on(reader: Membership, mode: &str, stop: Arc<AtomicBool>) -> Vec<String> {
    let mut complaints = Vec::new();
    let mut revision = 0;
    while !stop.load(Ordering::Relaxed) {
        match reader.view().await {
            Err(error) => complaints.push(format!("{mode}: {error}")),
            Ok(view) => {
                let live = view.members(MemberFilter::Live).len();
                if live != WORKERS as usize {
                    complaints.push(format!("{mode}: {live} live at {}", view.revision()));
                }
                if view.revision() < revision {
                    complaints.push(format!("{mode}: {} after {revision}", view.revision()));
                }
                revision = view.revision();
            }
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    complaints
}

/// Makes one member fail for longer than the TTL: no worker is lost, no call fails, no view goes
/// back.
async fn one_member(name: &'static str, version: EtcdVersion, leader: bool, harm: fn(&Etcd)) {
    let cluster = EtcdCluster::start(version, 3).await;
    let mut scene = Scene::start(&cluster).await;
    let place = (cluster.leader().await + usize::from(!leader)) % 3;
    let harmed = &cluster.members()[place];
    let fault = Fault::new(name, version);
    harm(harmed);
    // The duration of the fault: more than a TTL of 5 s.
    tokio::time::sleep(Duration::from_secs(8)).await;
    let healthy = &cluster.members()[(place + 1) % 3];
    assert_eq!(
        created(healthy).await,
        scene.created,
        "no worker joined again"
    );
    scene.all_registered().await;
    let complaints = scene.complaints().await;
    assert!(complaints.is_empty(), "{complaints:#?}");
    fault.outcome(
        "same leases; no failed call, no missing worker, no step back in 2 readers' views",
    );

    // A leader that was frozen may revoke every lease when it continues, before it learns that it
    // was replaced (etcd issue 15247). In that case all workers come back, and nothing else is
    // left.
    if harmed.pid().is_some() {
        harmed.resume();
    } else {
        harmed.restart().await;
    }
    let reader = open(&cluster.endpoints(), "LINEARIZABLE");
    eventually("all are live, on one lease each", LONG, || async {
        let view = reader.view().await;
        view.is_ok_and(|view| view.members(MemberFilter::Live).len() == WORKERS as usize)
            && healthy.leases().await.len() == WORKERS as usize
    })
    .await;
    scene.all_registered().await;
}

async fn a_killed_leader_is_not_noticed(version: EtcdVersion) {
    one_member("the leader of 3 is killed", version, true, Etcd::kill).await;
}

async fn a_frozen_leader_is_not_noticed(version: EtcdVersion) {
    one_member(
        "the leader of 3 freezes for 8 s",
        version,
        true,
        Etcd::pause,
    )
    .await;
}

async fn a_frozen_follower_is_not_noticed(version: EtcdVersion) {
    one_member(
        "a follower of 3 freezes for 8 s",
        version,
        false,
        Etcd::pause,
    )
    .await;
}

async fn without_a_quorum_joins_fail_in_time_and_listings_come_from_memory(version: EtcdVersion) {
    let cluster = EtcdCluster::start(version, 3).await;
    let reader = open(&cluster.endpoints(), "CACHED");
    let member = open(&cluster.endpoints(), "CACHED");
    member
        .join(&worker(1), &JoinOptions::default())
        .await
        .expect("join");
    assert!(
        reader
            .view()
            .await
            .expect("view")
            .is_live(&worker(1).identity)
    );
    let leader = cluster.leader().await;
    let fault = Fault::new("no quorum: 2 of 3 frozen", version);
    for offset in [0, 1] {
        cluster.members()[(leader + offset) % 3].pause();
    }
    let started = Instant::now();
    let error = member
        .join(&worker(2), &JoinOptions::default())
        .await
        .expect_err("no quorum");
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    assert!(started.elapsed() < Duration::from_secs(60));
    assert!(
        reader
            .view()
            .await
            .expect("from memory")
            .is_live(&worker(1).identity)
    );
    for offset in [0, 1] {
        cluster.members()[(leader + offset) % 3].resume();
    }
    eventually("workers can join again", LONG, || async {
        member
            .join(&worker(2), &JoinOptions::default())
            .await
            .is_ok()
    })
    .await;
    eventually("both are listed", LONG, || async {
        let view = reader.view().await;
        view.is_ok_and(|view| view.members(MemberFilter::Live).len() == 2)
    })
    .await;
    fault.outcome(
        "listings from memory, a join fails in time; all work afterwards without a restart",
    );
}

async fn when_all_leases_die_everybody_comes_back(version: EtcdVersion) {
    let cluster = EtcdCluster::start(version, 3).await;
    let mut scene = Scene::start(&cluster).await;
    scene.complaints().await;
    let fault = Fault::new("all members freeze for 8 s: every lease dies", version);
    cluster.members().iter().for_each(Etcd::pause);
    tokio::time::sleep(Duration::from_secs(8)).await;
    cluster.members().iter().for_each(Etcd::resume);
    let reader = open(&cluster.endpoints(), "CACHED");
    eventually("all are listed as live again", LONG, || async {
        let view = reader.view().await;
        view.is_ok_and(|view| view.members(MemberFilter::Live).len() == WORKERS as usize)
    })
    .await;
    scene.all_registered().await;
    fault.outcome("all 6 workers are back on new leases, and listed");
    for membership in &scene.workers {
        membership.close().await.expect("leave");
    }
    eventually("no lease is left behind", LONG, || async {
        cluster.members()[0].leases().await.is_empty()
    })
    .await;
}

on_every_etcd!(
    a_killed_leader_is_not_noticed,
    a_frozen_leader_is_not_noticed,
    a_frozen_follower_is_not_noticed,
    without_a_quorum_joins_fail_in_time_and_listings_come_from_memory,
    when_all_leases_die_everybody_comes_back,
);
