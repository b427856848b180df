//! Joining, listing and leaving on a real etcd.

mod common;
#[path = "membership/traffic.rs"]
mod traffic;

use std::cell::Cell;
use std::time::Duration;

use alluxio_membership::config::{Config, Properties};
use alluxio_membership::error::ErrorKind;
use alluxio_membership::etcd::{Clusters, RegistrationState, ViewCounters};
use alluxio_membership::membership::{JoinOptions, Membership};
use alluxio_membership::record;
use alluxio_membership::view::{ChangeKind, ClusterView, MemberFilter};
use alluxio_membership::worker::{Worker, WorkerIdentity, WorkerNetAddress, WorkerState};
use common::toxiproxy::{Toxiproxy, Way};
use common::{Etcd, EtcdOptions, EtcdVersion, eventually, on_every_etcd};
use etcd_client::{LeaseGrantOptions, PutOptions};
use futures_util::StreamExt;
use uuid::Uuid;

const LONG: Duration = Duration::from_secs(30);
const RING: &str = "/DHT/test/AUTHORIZED/";
const LIVE: &str = "/ServiceDiscovery/test/";

fn properties(etcd: &Etcd) -> Properties {
    let mut properties = Properties::new();
    properties.set("alluxio.worker.membership.manager.type", "ETCD");
    properties.set("alluxio.cluster.name", "test");
    properties.set("alluxio.etcd.endpoints", etcd.endpoint());
    properties.set("alluxio.worker.failure.detection.timeout", "5s");
    // A healthy etcd always answers, but late on a busy machine.
    properties.set("alluxio.membership.native.operation.timeout", "2min");
    properties
}

fn open_with(properties: &Properties, clusters: &Clusters) -> Membership {
    let config = Config::from_properties(properties).expect("a good configuration");
    Membership::open_in(&config, clusters).expect("opening never waits")
}

/// Opens a manager that shares nothing with the other managers, like one in another process.
fn open(etcd: &Etcd) -> Membership {
    open_with(&properties(etcd), &Clusters::default())
}

fn worker(number: u128) -> Worker {
    Worker {
        identity: WorkerIdentity::V1(Uuid::from_u128(number)),
        address: WorkerNetAddress {
            rpc_port: 29999,
            ..WorkerNetAddress::new(format!("worker{number}"))
        },
    }
}

async fn join(membership: &Membership, worker: &Worker) {
    membership
        .join(worker, &JoinOptions::default())
        .await
        .expect("join");
}

fn hosts(view: &ClusterView, filter: MemberFilter) -> Vec<String> {
    view.members(filter)
        .iter()
        .map(|member| member.worker.address.host.clone().unwrap_or_default())
        .collect()
}

/// Returns whether the manager lists exactly these workers. Listing may fail while etcd is away.
async fn lists(membership: &Membership, filter: MemberFilter, expected: &[&str]) -> bool {
    let view = membership.view().await;
    view.is_ok_and(|view| hosts(&view, filter) == expected)
}

async fn hosts_of(membership: &Membership, filter: MemberFilter) -> Vec<String> {
    hosts(&membership.view().await.expect("view"), filter)
}

async fn a_worker_joins_is_listed_and_leaves(version: EtcdVersion) {
    let etcd = Etcd::start(version).await;
    let (one, two, reader) = (open(&etcd), open(&etcd), open(&etcd));
    assert_eq!(reader.current_version(), 0);
    assert!(hosts_of(&reader, MemberFilter::All).await.is_empty());
    join(&one, &worker(1)).await;
    join(&two, &worker(2)).await;

    let ring_key = format!("{RING}{}", worker(1).identity);
    let live_key = format!("{LIVE}{}", worker(1).identity);
    let ring = etcd.get(&ring_key).await.expect("ring key");
    let live = etcd.get(&live_key).await.expect("live key");
    assert_eq!(ring.value(), record::encode(&worker(1)));
    assert_eq!(live.value(), ring.value());
    assert_eq!(ring.lease(), 0);
    assert_ne!(live.lease(), 0);
    // One transaction wrote both keys, so no reader saw only one of them.
    assert_eq!(live.mod_revision(), ring.mod_revision());
    assert_eq!(etcd.keys("/").await.len(), 4);

    // On a busy machine, a reader may see one of a worker's keys a moment before the other.
    eventually("both are live and registered", LONG, || async {
        lists(&reader, MemberFilter::Live, &["worker1", "worker2"]).await
            && lists(&reader, MemberFilter::All, &["worker1", "worker2"]).await
    })
    .await;
    assert_eq!(
        hosts_of(&reader, MemberFilter::All).await,
        ["worker1", "worker2"]
    );
    let version_before = reader.current_version();
    assert_ne!(version_before, 0);

    one.close().await.expect("leave");
    let changed = reader
        .wait_for_change(version_before, LONG)
        .await
        .expect("open")
        .expect("a change");
    assert_eq!(hosts(&changed, MemberFilter::Live), ["worker2"]);
    assert_eq!(hosts(&changed, MemberFilter::Lost), ["worker1"]);
    assert_eq!(
        changed.members(MemberFilter::All)[0].state,
        WorkerState::Lost
    );
    assert_eq!(
        &*reader.show_all_members().await.unwrap(),
        format!(
            "WorkerId\tAddress\tStatus\n{}\tworker1:29999\tOFFLINE\n{}\tworker2:29999\tONLINE\n",
            worker(1).identity,
            worker(2).identity
        )
    );
    // The ring key stays, and the lease is gone.
    assert_eq!(
        etcd.get(&ring_key).await.expect("ring key").value(),
        record::encode(&worker(1))
    );
    assert!(etcd.get(&live_key).await.is_none());
}

on_every_etcd!(changes_are_streamed);

async fn changes_are_streamed(version: EtcdVersion) {
    let etcd = Etcd::start(version).await;
    let (member, reader) = (open(&etcd), open(&etcd));
    join(&member, &worker(1)).await;
    let mut changes = std::pin::pin!(reader.changes());
    let mut next = async || {
        let change = tokio::time::timeout(LONG, changes.next())
            .await
            .expect("in time");
        let change = change?;
        Some(change.map(|it| ((it.kind, it.member.worker.identity), it.member.state)))
    };
    let identity = |number| worker(number).identity;
    let (seen, _) = next().await.expect("a change").expect("no error");
    assert_eq!(seen, (ChangeKind::Added, identity(1)));
    join(&member, &worker(2)).await;
    let (seen, state) = next().await.expect("a change").expect("no error");
    assert_eq!(seen, (ChangeKind::Added, identity(2)));
    // Each key range is at a revision of its own, so a reader may see the ring key first,
    if state == WorkerState::Lost {
        let (seen, _) = next().await.expect("a change").expect("no error");
        assert_eq!(seen, (ChangeKind::Live, identity(2)));
    }
    // or the live key. If a worker leaves before its ring key is seen, the reader sees it removed,
    // not lost.
    eventually("both are registered", LONG, || {
        lists(&reader, MemberFilter::All, &["worker1", "worker2"])
    })
    .await;
    member.leave_worker(&identity(2)).await.expect("leave");
    let (seen, _) = next().await.expect("a change").expect("no error");
    assert_eq!(seen, (ChangeKind::Lost, identity(2)));
    reader.close().await.expect("close");
    let error = next().await.expect("a last item").expect_err("closed");
    assert_eq!(error.kind(), ErrorKind::Closed);
    assert!(next().await.is_none());
    member.close().await.expect("close");
}

async fn own_writes_are_in_the_next_view(version: EtcdVersion) {
    let etcd = Etcd::start(version).await;
    let membership = open(&etcd);
    membership.view().await.expect("first listing");
    for number in 1..=20 {
        join(&membership, &worker(number)).await;
        let view = membership.view().await.expect("view");
        assert!(view.is_live(&worker(number).identity), "{number}");
        assert!(view.find(&worker(number).identity).is_some(), "{number}");
    }
    for number in 1..=20 {
        let identity = worker(number).identity;
        membership.leave_worker(&identity).await.expect("stop");
        let view = membership.view().await.expect("view");
        assert!(!view.is_live(&identity), "{number}");
        assert_eq!(
            view.find(&identity).map(|m| m.state),
            Some(WorkerState::Lost)
        );
        membership.remove(&identity).await.expect("remove");
        let view = membership.view().await.expect("view");
        assert!(view.find(&identity).is_none(), "{number}");
    }
    assert!(etcd.keys("/").await.is_empty());
}

async fn another_address_under_one_identity_is_a_conflict_except_on_kubernetes(
    version: EtcdVersion,
) {
    let etcd = Etcd::start(version).await;
    let (first, second) = (open(&etcd), open(&etcd));
    join(&first, &worker(1)).await;
    let mut moved = worker(1);
    moved.address.host = Some("elsewhere".into());
    let error = second
        .join(&moved, &JoinOptions::default())
        .await
        .expect_err("a conflict");
    assert_eq!(error.kind(), ErrorKind::AlreadyExists);
    assert_eq!(
        error.message(),
        "Some other member with same id registered on the ring, bail.Conflicting worker \
         addr:WorkerNetAddress{host=worker1, containerHost=, rpcPort=29999, dataPort=0, webPort=0, \
         domainSocketPath=, secureRpcPort=0, httpServerPort=0}, worker \
         identity:worker-00000000-0000-0000-0000-000000000001.Different workers can't assume same \
         worker identity in non-k8s env,clean local worker identity settings to continue."
    );
    assert_eq!(hosts_of(&second, MemberFilter::Live).await, ["worker1"]);
    assert_eq!(etcd.leases().await.len(), 1, "the owner's and no other");

    let kubernetes = JoinOptions {
        k8s_deployment: Some(true),
        ..Default::default()
    };
    second.join(&moved, &kubernetes).await.expect("overwrites");
    for filter in [MemberFilter::All, MemberFilter::Live] {
        assert_eq!(hosts_of(&second, filter).await, ["elsewhere"]);
    }
    // The second process has replaced the first one's key, so a leave of the first process must not
    // remove the worker.
    first.close().await.expect("leave");
    assert_eq!(hosts_of(&second, MemberFilter::Live).await, ["elsewhere"]);
    assert!(
        etcd.get(&format!("{LIVE}{}", worker(1).identity))
            .await
            .is_some()
    );
}

async fn joining_again_updates_optional_fields(version: EtcdVersion) {
    let etcd = Etcd::start(version).await;
    let membership = open(&etcd);
    join(&membership, &worker(1)).await;
    let lease = etcd
        .get(&format!("{LIVE}{}", worker(1).identity))
        .await
        .unwrap()
        .lease();
    join(&membership, &worker(1)).await;
    let mut with_http = worker(1);
    with_http.address.http_server_port = 28080;
    join(&membership, &with_http).await;
    for prefix in [RING, LIVE] {
        let stored = etcd
            .get(&format!("{prefix}{}", worker(1).identity))
            .await
            .unwrap();
        assert_eq!(stored.value(), record::encode(&with_http));
    }
    let live = etcd
        .get(&format!("{LIVE}{}", worker(1).identity))
        .await
        .unwrap();
    assert_eq!(live.lease(), lease, "one worker, one lease");
    let view = membership.view().await.unwrap();
    assert_eq!(
        view.members(MemberFilter::Live)[0]
            .worker
            .address
            .http_server_port,
        28080
    );
}

async fn only_lost_workers_can_be_removed(version: EtcdVersion) {
    let etcd = Etcd::start(version).await;
    let (operator, member) = (open(&etcd), open(&etcd));
    join(&member, &worker(1)).await;
    let identity = worker(1).identity;
    let error = operator.remove(&identity).await.expect_err("live");
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    assert_eq!(
        error.message(),
        format!("Can't remove running worker: {identity}, stop the worker before removing")
    );
    let unknown = worker(9).identity;
    let error = operator.remove(&unknown).await.expect_err("unknown");
    assert_eq!(
        error.message(),
        format!("Unrecognized or non-existing worker: {unknown}")
    );
    member.leave().await.expect("leave");
    operator.remove(&identity).await.expect("lost");
    assert!(etcd.keys("/").await.is_empty());
    // The identity is free again.
    join(
        &member,
        &Worker {
            address: WorkerNetAddress::new("other"),
            ..worker(1)
        },
    )
    .await;
    eventually("it is back", LONG, || async {
        lists(&operator, MemberFilter::Live, &["other"]).await
    })
    .await;
}

async fn keys_deleted_by_hand_come_back(version: EtcdVersion) {
    let etcd = Etcd::start(version).await;
    let member = open(&etcd);
    join(&member, &worker(1)).await;
    let live_key = format!("{LIVE}{}", worker(1).identity);
    let ring_key = format!("{RING}{}", worker(1).identity);
    let lease = etcd.get(&live_key).await.unwrap().lease();
    for key in [&live_key, &ring_key] {
        assert!(etcd.delete(key).await);
        eventually("the key is back", LONG, || async {
            etcd.get(key).await.is_some()
        })
        .await;
        assert_eq!(
            etcd.get(key).await.unwrap().value(),
            record::encode(&worker(1))
        );
    }
    assert_eq!(etcd.get(&live_key).await.unwrap().lease(), lease);
}

async fn records_of_others_under_the_own_key_are_reported_and_not_fought(version: EtcdVersion) {
    let etcd = Etcd::start(version).await;
    let member = open(&etcd);
    join(&member, &worker(1)).await;
    assert!(is_registered(&member));
    let live_key = format!("{LIVE}{}", worker(1).identity);
    let lease = live_lease(&etcd).await;
    let displaced_by = || member.status().unwrap().registrations[0].displaced_by;
    assert_eq!(displaced_by(), None);
    let foreign = etcd.grant_lease(600).await;
    for holder in [0, foreign] {
        etcd.put_on_lease(&live_key, record::encode(&worker(2)), holder)
            .await;
        eventually("it is reported", LONG, || async {
            displaced_by() == Some(holder)
        })
        .await;
        // A join that takes back the key does not repeat the conflict.
        join(&member, &worker(1)).await;
        assert_eq!(live_lease(&etcd).await, lease);
        assert_eq!(displaced_by(), None);

        etcd.put_on_lease(&live_key, record::encode(&worker(2)), holder)
            .await;
        eventually("it is reported again", LONG, || async {
            displaced_by() == Some(holder)
        })
        .await;
        // The missing ring key is written again. The live key exists and is not written.
        assert!(etcd.delete(&format!("{RING}{}", worker(1).identity)).await);
        eventually("the ring key is back", LONG, || async {
            etcd.keys(RING).await.len() == 1
        })
        .await;
        assert_eq!(live_lease(&etcd).await, holder, "nobody fights");
        assert_eq!(displaced_by(), Some(holder));

        if holder == 0 {
            assert!(etcd.delete(&live_key).await);
        } else {
            etcd.revoke_lease(holder).await;
        }
        eventually("ours is back", LONG, || async {
            etcd.get(&live_key)
                .await
                .is_some_and(|kv| kv.lease() == lease)
        })
        .await;
        eventually("and known to be", LONG, || async {
            displaced_by().is_none()
        })
        .await;
    }
}

async fn a_key_on_an_earlier_lease_of_its_own_is_no_other_process(version: EtcdVersion) {
    let etcd = Etcd::start(version).await;
    let member = open(&etcd);
    join(&member, &worker(1)).await;
    let live_key = format!("{LIVE}{}", worker(1).identity);
    let earlier = live_lease(&etcd).await;
    etcd.revoke_lease(earlier).await;
    eventually("a new lease", LONG, || async {
        etcd.get(&live_key).await.is_some() && is_registered(&member)
    })
    .await;
    let lease = live_lease(&etcd).await;
    put_late(&etcd, earlier).await;
    eventually("on the lease that is renewed", LONG, || async {
        live_lease(&etcd).await == lease
    })
    .await;
    assert_eq!(member.status().unwrap().registrations[0].displaced_by, None);
}

/// Writes worker 1's live key on this lease, like a request that arrived late. Returns false if the
/// revocation came between the grant and the put.
async fn put_late(etcd: &Etcd, earlier: i64) -> bool {
    let again = LeaseGrantOptions::new().with_id(earlier);
    let mut client = etcd.client().await;
    client.lease_grant(600, Some(again)).await.expect("grant");
    let live_key = format!("{LIVE}{}", worker(1).identity);
    let on_lease = PutOptions::new().with_lease(earlier);
    let put = client.put(live_key, record::encode(&worker(1)), Some(on_lease));
    match put.await {
        Ok(_) => true,
        Err(error) => {
            let text = error.to_string();
            assert!(text.contains("requested lease not found"), "{text}");
            false
        }
    }
}

async fn a_key_on_the_lease_of_a_join_that_failed_is_no_other_process(version: EtcdVersion) {
    let etcd = Etcd::start(version).await;
    let toxiproxy = Toxiproxy::start().await;
    let proxy = toxiproxy.to(&etcd);
    let clusters = Clusters::default();
    let mut properties = properties(&etcd);
    properties.set("alluxio.etcd.endpoints", proxy.endpoint());
    let member = open_with(&properties, &clusters);
    properties.set("alluxio.membership.native.operation.timeout", "3s");
    let hasty = open_with(&properties, &clusters);
    proxy.stall(Way::FromEtcd);
    let joining = tokio::spawn({
        let hasty = hasty.clone();
        async move { hasty.join(&worker(1), &JoinOptions::default()).await }
    });
    eventually("a lease", LONG, || async {
        !etcd.leases().await.is_empty()
    })
    .await;
    let earlier = etcd.leases().await[0];
    joining.await.expect("no panic").expect_err("no answer");
    proxy.heal();
    join(&member, &worker(1)).await;
    let lease = live_lease(&etcd).await;
    assert_ne!(lease, earlier);
    eventually("the first is gone", LONG, || async {
        etcd.lease_ttl(earlier).await.is_none()
    })
    .await;
    // The first join's revocation may be late too. In that case this test starts again.
    let live_key = format!("{LIVE}{}", worker(1).identity);
    while etcd.lease_ttl(earlier).await.is_none() {
        if !put_late(&etcd, earlier).await {
            continue;
        }
        eventually("on the lease that is renewed", LONG, || async {
            etcd.get(&live_key)
                .await
                .is_some_and(|kv| kv.lease() == lease)
        })
        .await;
    }
    assert_eq!(member.status().unwrap().registrations[0].displaced_by, None);
}

fn is_registered(membership: &Membership) -> bool {
    let state = membership.registration_state(&worker(1).identity);
    state.unwrap() == Some(RegistrationState::Registered)
}

async fn joins_that_nobody_waits_for_leave_nothing_behind(version: EtcdVersion) {
    let etcd = Etcd::start(version).await;
    let is_empty = || async { etcd.keys(LIVE).await.is_empty() && etcd.leases().await.is_empty() };
    for round in 0..40 {
        let member = open(&etcd);
        let joining = tokio::spawn({
            let member = member.clone();
            async move { member.join(&worker(1), &JoinOptions::default()).await }
        });
        // At a different moment of the join in each round.
        for _ in 0..round / 2 {
            tokio::task::yield_now().await;
        }
        if round % 2 == 0 {
            // The caller cancels the join.
            joining.abort();
            let joined = joining.await;
            if joined.is_err() {
                // That ends the registration, unless it was complete.
                let again = member.join(&worker(1), &JoinOptions::default()).await;
                again.expect("a try of its own");
                assert_eq!(etcd.keys(LIVE).await.len(), 1);
            }
            member.close().await.expect("leave");
        } else {
            member.close().await.expect("leave");
            let joined = joining.await.expect("no panic");
            if let Err(error) = joined {
                assert_eq!(error.kind(), ErrorKind::Closed, "{error}");
            }
        }
        eventually("nothing is left", LONG, is_empty).await;
    }
}

async fn a_registration_nobody_joined_ends_without_a_close(version: EtcdVersion) {
    let etcd = Etcd::start(version).await;
    let member = open(&etcd);
    etcd.pause();
    let joining = tokio::spawn({
        let member = member.clone();
        async move { member.join(&worker(1), &JoinOptions::default()).await }
    });
    eventually("the join has begun", LONG, || async {
        !member.status().unwrap().registrations.is_empty()
    })
    .await;
    joining.abort();
    assert!(joining.await.is_err());
    etcd.resume();
    eventually("nobody is registered", LONG, || async {
        member.status().unwrap().registrations.is_empty()
    })
    .await;
    eventually("nothing is left", LONG, || async {
        etcd.keys(LIVE).await.is_empty() && etcd.leases().await.is_empty()
    })
    .await;
}

async fn calls_that_run_out_of_time_say_what_became_of_the_endpoint(version: EtcdVersion) {
    let etcd = Etcd::start(version).await;
    let mut properties = properties(&etcd);
    properties.set("alluxio.membership.native.operation.timeout", "1500ms");
    // Before the first listing.
    etcd.pause();
    let member = open_with(&properties, &Clusters::default());
    let joined = member.join(&worker(1), &JoinOptions::default()).await;
    // The listing continues for longer than this call.
    let listed = member.view().await;
    for error in [joined.unwrap_err(), listed.unwrap_err()] {
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        let reason = format!("etcd endpoint {}: no answer within", etcd.endpoint());
        assert!(error.to_string().contains(&reason), "{error}");
    }
}

async fn a_registration_is_told_of_while_it_is_changed(version: EtcdVersion) {
    let etcd = Etcd::start(version).await;
    let member = open(&etcd);
    join(&member, &worker(1)).await;
    etcd.pause();
    let again = tokio::spawn({
        let member = member.clone();
        async move { member.join(&worker(1), &JoinOptions::default()).await }
    });
    for _ in 0..100 {
        tokio::task::yield_now().await;
        let state = member.registration_state(&worker(1).identity).unwrap();
        assert!(state.is_some());
        assert_eq!(member.status().unwrap().registrations.len(), 1);
    }
    etcd.resume();
    again.await.expect("no panic").expect("joined");
}

async fn a_leave_that_is_cut_short_loses_nobody(version: EtcdVersion) {
    let etcd = Etcd::start(version).await;
    let member = open(&etcd);
    for number in 1..=40 {
        join(&member, &worker(number)).await;
    }
    let leaving = tokio::spawn({
        let member = member.clone();
        async move { member.leave().await }
    });
    eventually("some have left", LONG, || async {
        etcd.keys(LIVE).await.len() < 40
    })
    .await;
    leaving.abort();
    let _ = leaving.await;
    member.leave().await.expect("the others leave");
    eventually("all have left", LONG, || async {
        etcd.keys(LIVE).await.is_empty() && etcd.leases().await.is_empty()
    })
    .await;
}

async fn a_worker_whose_lease_was_gone_is_not_listed_after_it_left(version: EtcdVersion) {
    let etcd = Etcd::start(version).await;
    let member = open(&etcd);
    member.view().await.expect("first listing");
    for _ in 0..10 {
        join(&member, &worker(1)).await;
        etcd.revoke_lease(live_lease(&etcd).await).await;
        member
            .leave_worker(&worker(1).identity)
            .await
            .expect("stop");
        let view = member.view().await.expect("view");
        assert!(!view.is_live(&worker(1).identity));
    }
}

async fn a_cluster_is_kept_for_a_manager_that_is_opened_anew(version: EtcdVersion) {
    let etcd = Etcd::start(version).await;
    let mut properties = properties(&etcd);
    for leaves in ["true", "false"] {
        properties.set("alluxio.membership.native.leave.on.shutdown", leaves);
        let clusters = Clusters::default();
        let reader = open_with(&properties, &clusters);
        reader.view().await.expect("first listing");
        reader.close().await.expect("close");
        drop(reader);
        let reader = open_with(&properties, &clusters);
        assert_ne!(reader.current_version(), 0, "{leaves}");
    }
}

async fn a_revoked_lease_is_replaced(version: EtcdVersion) {
    let etcd = Etcd::start(version).await;
    let (member, reader) = (open(&etcd), open(&etcd));
    join(&member, &worker(1)).await;
    let live_key = format!("{LIVE}{}", worker(1).identity);
    let lease = etcd.get(&live_key).await.unwrap().lease();
    etcd.client().await.lease_revoke(lease).await.unwrap();
    eventually("a new lease", LONG, || async {
        etcd.get(&live_key)
            .await
            .is_some_and(|kv| kv.lease() != lease)
    })
    .await;
    eventually("listed again", LONG, || async {
        lists(&reader, MemberFilter::Live, &["worker1"]).await
    })
    .await;
    eventually("it knows", LONG, || async { is_registered(&member) }).await;
    member.close().await.unwrap();
    eventually("no lease is left", LONG, || async {
        etcd.client()
            .await
            .leases()
            .await
            .unwrap()
            .leases()
            .is_empty()
    })
    .await;
}

async fn a_wiped_etcd_is_filled_again(version: EtcdVersion) {
    let etcd = Etcd::start(version).await;
    let (one, two, reader) = (open(&etcd), open(&etcd), open(&etcd));
    join(&one, &worker(1)).await;
    join(&two, &worker(2)).await;
    // A worker that left must not return.
    let gone = open(&etcd);
    join(&gone, &worker(3)).await;
    gone.close().await.unwrap();
    assert_eq!(hosts_of(&reader, MemberFilter::All).await.len(), 3);
    etcd.wipe_and_restart().await;
    eventually("both keys of both workers are back", LONG, || async {
        etcd.keys("/").await.len() == 4
    })
    .await;
    eventually("the view is etcd's", LONG, || async {
        lists(&reader, MemberFilter::All, &["worker1", "worker2"]).await
            && lists(&reader, MemberFilter::Live, &["worker1", "worker2"]).await
    })
    .await;
}

async fn a_restarted_etcd_is_not_noticed(version: EtcdVersion) {
    let etcd = Etcd::start(version).await;
    let (member, reader) = (open(&etcd), open(&etcd));
    join(&member, &worker(1)).await;
    assert_eq!(hosts_of(&reader, MemberFilter::Live).await, ["worker1"]);
    let live_key = format!("{LIVE}{}", worker(1).identity);
    let lease = etcd.get(&live_key).await.unwrap().lease();
    let view_version = reader.current_version();
    etcd.kill();
    // From memory, although etcd does not answer.
    assert_eq!(hosts_of(&reader, MemberFilter::Live).await, ["worker1"]);
    etcd.restart().await;
    eventually("registered", LONG, || async {
        member.registration_state(&worker(1).identity).unwrap()
            == Some(RegistrationState::Registered)
    })
    .await;
    // The watch continues: a change arrives, and it is the first one.
    let other = open(&etcd);
    join(&other, &worker(2)).await;
    let view = reader
        .wait_for_change(view_version, LONG)
        .await
        .unwrap()
        .expect("a change");
    assert!(view.is_live(&worker(1).identity));
    assert_eq!(etcd.get(&live_key).await.unwrap().lease(), lease);
}

async fn views_tell_their_age_and_what_keeps_them_young_is_counted(version: EtcdVersion) {
    let etcd = Etcd::start(version).await;
    let (member, reader) = (open(&etcd), open(&etcd));
    let counters = || reader.status().unwrap().view_counters;
    assert_eq!(counters(), ViewCounters::default());
    let old = reader.view().await.unwrap();
    let seen = Cell::new(Duration::ZERO);
    eventually("etcd has confirmed the view", LONG, || async {
        old.age() < seen.replace(old.age())
    })
    .await;
    assert!(counters().checks > 0);

    join(&member, &worker(1)).await;
    eventually("the worker is live", LONG, || async {
        lists(&reader, MemberFilter::Live, &["worker1"]).await
    })
    .await;
    let new = reader.view().await.unwrap();
    seen.set(Duration::ZERO);
    eventually("etcd has confirmed the new view", LONG, || async {
        assert!(old.age() >= seen.get(), "what is outdated only grows older");
        seen.set(old.age());
        new.age() + Duration::from_secs(1) < old.age()
    })
    .await;

    etcd.kill();
    eventually("a check has failed", LONG, || async {
        counters().checks_failed > 0
    })
    .await;
    let before = counters();
    etcd.wipe_and_restart().await;
    eventually("everything was listed anew", LONG, || async {
        counters().listings > before.listings && counters().watches > before.watches
    })
    .await;
}

async fn bad_records_are_skipped(version: EtcdVersion) {
    let etcd = Etcd::start(version).await;
    let (member, reader) = (open(&etcd), open(&etcd));
    join(&member, &worker(1)).await;
    for prefix in [RING, LIVE] {
        etcd.put(&format!("{prefix}worker-2"), "").await;
        etcd.put(&format!("{prefix}worker-3"), "{}").await;
        etcd.put(&format!("{prefix}worker-4"), vec![0xff, 0x00])
            .await;
        // Claims the identity of another worker.
        etcd.put(&format!("{prefix}a-copy"), record::encode(&worker(1)))
            .await;
    }
    let view = reader
        .view()
        .await
        .expect("the broken record does not matter");
    for filter in [MemberFilter::All, MemberFilter::Live] {
        assert_eq!(hosts(&view, filter), ["worker1"]);
    }
    assert_eq!(view.skipped().len(), 8, "{:?}", view.skipped());
    // A corrected record appears.
    etcd.put(
        &format!("{RING}worker-2"),
        record::encode(&Worker {
            identity: WorkerIdentity::V0(2),
            address: WorkerNetAddress::new("mended"),
        }),
    )
    .await;
    eventually("it is listed", LONG, || async {
        lists(&reader, MemberFilter::Lost, &["mended"]).await
    })
    .await;
}

async fn clusters_whose_names_begin_alike_are_apart(version: EtcdVersion) {
    let etcd = Etcd::start(version).await;
    let clusters = Clusters::default();
    let mut managers = Vec::new();
    for (number, name) in [(1, "a"), (2, "ab"), (3, "a-2"), (4, "a/b")] {
        let mut properties = properties(&etcd);
        properties.set("alluxio.cluster.name", name);
        let manager = open_with(&properties, &clusters);
        join(&manager, &worker(number)).await;
        managers.push(manager);
    }
    for (manager, number) in managers.iter().zip(1..) {
        for filter in [MemberFilter::All, MemberFilter::Live] {
            assert_eq!(hosts_of(manager, filter).await, [format!("worker{number}")]);
        }
    }
}

async fn service_registry_has_live_keys_only(version: EtcdVersion) {
    let etcd = Etcd::start(version).await;
    let mut properties = properties(&etcd);
    properties.set("alluxio.worker.membership.manager.type", "SERVICE_REGISTRY");
    let (member, reader) = (
        open_with(&properties, &Clusters::default()),
        open_with(&properties, &Clusters::default()),
    );
    for number in 1..=2 {
        join(&member, &worker(number)).await;
    }
    member.view().await.expect("a listing");
    // A caller that has listed waits until the view has its own write. It must not wait the 2 min
    // of an operation if the call wrote nothing.
    tokio::time::timeout(LONG, join(&member, &worker(3)))
        .await
        .expect("at once");
    assert!(member.view().await.unwrap().is_live(&worker(3).identity));
    assert_eq!(etcd.keys("/").await.len(), 3);
    let view = reader.view().await.unwrap();
    assert_eq!(
        view.members(MemberFilter::All),
        view.members(MemberFilter::Live)
    );
    assert_eq!(view.members(MemberFilter::All).len(), 3);
    assert!(view.members(MemberFilter::Lost).is_empty());
    reader
        .remove(&worker(9).identity)
        .await
        .expect("nothing to do");
    member.close().await.unwrap();
    eventually("nobody is left", LONG, || async {
        lists(&reader, MemberFilter::All, &[]).await
    })
    .await;
}

async fn a_silent_worker_is_lost_after_its_ttl(version: EtcdVersion) {
    let etcd = Etcd::start(version).await;
    let reader = open(&etcd);
    // A runtime that is shut down behaves like a killed process: no lease is revoked.
    let endpoint_properties = properties(&etcd);
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let membership = runtime.block_on(async {
            let membership = open_with(&endpoint_properties, &Clusters::default());
            join(&membership, &worker(1)).await;
            membership
        });
        runtime.shutdown_background();
        std::mem::forget(membership);
    })
    .join()
    .unwrap();
    assert_eq!(hosts_of(&reader, MemberFilter::Live).await, ["worker1"]);
    eventually("it is lost", LONG, || async {
        lists(&reader, MemberFilter::Lost, &["worker1"]).await
    })
    .await;
}

async fn a_worker_that_is_not_to_leave_stays_registered_when_its_manager_is_closed(
    version: EtcdVersion,
) {
    let etcd = Etcd::start(version).await;
    let mut properties = properties(&etcd);
    properties.set("alluxio.membership.native.leave.on.shutdown", "false");
    let member = open_with(&properties, &Clusters::default());
    join(&member, &worker(1)).await;
    let lease = live_lease(&etcd).await;
    member.close().await.expect("close");
    drop(member);
    // The lease is still renewed: the time left grows again.
    let left = std::cell::RefCell::new(Vec::new());
    eventually("a renewal after the close", LONG, || async {
        let (seconds, _) = etcd.lease_ttl(lease).await.expect("the lease lives");
        left.borrow_mut().push(seconds);
        left.borrow().windows(2).any(|pair| pair[0] < pair[1])
    })
    .await;
    assert_eq!(live_lease(&etcd).await, lease);
}

async fn live_lease(etcd: &Etcd) -> i64 {
    let key = format!("{LIVE}{}", worker(1).identity);
    etcd.get(&key).await.expect("the live key").lease()
}

async fn credentials_are_used_and_their_errors_are_clear(version: EtcdVersion) {
    let etcd = Etcd::start_with(EtcdOptions::new(version).root_password("secret")).await;
    let with = |user: &str, password: &str| {
        let mut properties = properties(&etcd);
        properties.set("alluxio.etcd.username", user);
        properties.set("alluxio.etcd.password", password);
        open_with(&properties, &Clusters::default())
    };
    let good = with("root", "secret");
    join(&good, &worker(1)).await;
    assert_eq!(hosts_of(&good, MemberFilter::Live).await, ["worker1"]);
    for bad in [
        with("root", "wrong-pw"),
        with("nobody", "wrong-pw"),
        open(&etcd),
    ] {
        let joined = bad.join(&worker(2), &JoinOptions::default()).await;
        let listed = bad.view().await;
        for error in [joined.unwrap_err(), listed.unwrap_err()] {
            assert_eq!(error.kind(), ErrorKind::Unauthenticated, "{error}");
            let text = error.to_string();
            assert!(
                text.contains(&etcd.endpoint()) && text.contains("alluxio.etcd.username"),
                "{text}"
            );
            assert!(!text.contains("wrong-pw"), "{text}");
        }
    }
}

async fn several_endpoints_with_dead_ones_first(version: EtcdVersion) {
    let etcd = Etcd::start(version).await;
    let mut properties = properties(&etcd);
    let dead = dead_endpoints();
    properties.set(
        "alluxio.etcd.endpoints",
        format!("{},{},{}", dead[0], dead[1], etcd.endpoint()),
    );
    for number in 1..=5 {
        // Each starts with a random endpoint.
        let member = open_with(&properties, &Clusters::default());
        join(&member, &worker(number)).await;
        assert!(
            member
                .view()
                .await
                .unwrap()
                .is_live(&worker(number).identity)
        );
        member.close().await.unwrap();
    }
}

fn dead_endpoints() -> Vec<String> {
    let listeners: Vec<_> = (0..2)
        .map(|_| std::net::TcpListener::bind("127.0.0.1:0").unwrap())
        .collect();
    listeners
        .iter()
        .map(|listener| format!("http://{}", listener.local_addr().unwrap()))
        .collect()
}

async fn views_show_each_key_of_a_worker_from_its_revision_on(version: EtcdVersion) {
    let etcd = Etcd::start(version).await;
    // Writes of other keys make etcd treat new watches as late. They catch up one after another.
    let noise = async {
        let mut client = etcd.client().await;
        loop {
            client.put("/elsewhere", "noise", None).await.expect("put");
        }
    };
    let rounds = async {
        let mut writer = etcd.client().await;
        for number in 0..60 {
            let identity = WorkerIdentity::V0(number);
            let record = record::encode(&Worker {
                identity,
                ..worker(1)
            });
            let keys = [RING, LIVE].map(|prefix| format!("{prefix}{identity}"));
            // The process opens its watches while the worker joins.
            let reader = open(&etcd);
            let mut view = reader.view().await.expect("first listing");
            let mut revisions = Vec::new();
            for key in &keys {
                let put = writer.put(key.as_str(), record.clone(), None);
                let answer = put.await.expect("put");
                revisions.push(answer.header().expect("a header").revision());
            }
            let [ring, live] = revisions[..] else {
                unreachable!("two puts");
            };
            loop {
                let shown = view.revisions();
                let registered = view.find(&identity).is_some();
                assert_eq!(registered, shown.ring >= ring, "{number}: {view:?}");
                let is_live = view.is_live(&identity);
                assert_eq!(is_live, shown.live >= live, "{number}: {view:?}");
                if registered && is_live {
                    break;
                }
                view = reader
                    .wait_for_change(view.version(), LONG)
                    .await
                    .expect("open")
                    .expect("a change");
            }
        }
    };
    tokio::select! {
        () = noise => {}
        () = rounds => {}
    }
}

async fn linearizable_reads_see_every_write(version: EtcdVersion) {
    let etcd = Etcd::start(version).await;
    let mut properties = properties(&etcd);
    properties.set("alluxio.membership.native.read.mode", "LINEARIZABLE");
    let reader = open_with(&properties, &Clusters::default());
    reader.view().await.unwrap();
    for number in 1..=50 {
        let one = Worker {
            identity: WorkerIdentity::V0(number),
            ..worker(1)
        };
        // Writes of other keys increase the revision too.
        etcd.put("/elsewhere", number.to_string()).await;
        etcd.put(&format!("{RING}{}", one.identity), record::encode(&one))
            .await;
        assert!(
            reader.view().await.unwrap().find(&one.identity).is_some(),
            "{number}"
        );
        etcd.delete(&format!("{RING}{}", one.identity)).await;
        assert!(
            reader.view().await.unwrap().find(&one.identity).is_none(),
            "{number}"
        );
    }
}

on_every_etcd!(
    a_worker_joins_is_listed_and_leaves,
    own_writes_are_in_the_next_view,
    another_address_under_one_identity_is_a_conflict_except_on_kubernetes,
    joining_again_updates_optional_fields,
    only_lost_workers_can_be_removed,
    keys_deleted_by_hand_come_back,
    records_of_others_under_the_own_key_are_reported_and_not_fought,
    a_key_on_an_earlier_lease_of_its_own_is_no_other_process,
    a_key_on_the_lease_of_a_join_that_failed_is_no_other_process,
    joins_that_nobody_waits_for_leave_nothing_behind,
    a_registration_nobody_joined_ends_without_a_close,
    calls_that_run_out_of_time_say_what_became_of_the_endpoint,
    a_registration_is_told_of_while_it_is_changed,
    a_leave_that_is_cut_short_loses_nobody,
    a_worker_whose_lease_was_gone_is_not_listed_after_it_left,
    a_cluster_is_kept_for_a_manager_that_is_opened_anew,
    a_revoked_lease_is_replaced,
    a_wiped_etcd_is_filled_again,
    a_restarted_etcd_is_not_noticed,
    views_tell_their_age_and_what_keeps_them_young_is_counted,
    bad_records_are_skipped,
    clusters_whose_names_begin_alike_are_apart,
    service_registry_has_live_keys_only,
    a_silent_worker_is_lost_after_its_ttl,
    a_worker_that_is_not_to_leave_stays_registered_when_its_manager_is_closed,
    credentials_are_used_and_their_errors_are_clear,
    several_endpoints_with_dead_ones_first,
    views_show_each_key_of_a_worker_from_its_revision_on,
    linearizable_reads_see_every_write,
);

#[tokio::test]
async fn without_etcd_calls_fail_within_the_operation_timeout_and_say_why() {
    let endpoint = dead_endpoints().remove(0);
    let mut properties = Properties::new();
    properties.set("alluxio.worker.membership.manager.type", "ETCD");
    properties.set("alluxio.etcd.endpoints", &endpoint);
    properties.set("alluxio.membership.native.operation.timeout", "2s");
    let membership = open_with(&properties, &Clusters::default());
    let started = std::time::Instant::now();
    let joined = membership.join(&worker(1), &JoinOptions::default()).await;
    let listed = membership.view().await;
    for error in [joined.unwrap_err(), listed.unwrap_err()] {
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        assert!(
            error.message().starts_with("Exhausted retry for ("),
            "{error}"
        );
        assert!(error.to_string().contains(&endpoint), "{error}");
    }
    assert!(started.elapsed() < Duration::from_secs(30));
    membership.close().await.expect("nothing was registered");
    assert_eq!(
        membership.view().await.unwrap_err().kind(),
        ErrorKind::Closed
    );
    let again = membership.join(&worker(1), &JoinOptions::default()).await;
    assert_eq!(again.unwrap_err().kind(), ErrorKind::Closed);
    membership
        .close()
        .await
        .expect("closing twice does nothing");
}

#[tokio::test]
async fn closing_ends_waiting_calls() {
    let endpoint = dead_endpoints().remove(0);
    let mut properties = Properties::new();
    properties.set("alluxio.worker.membership.manager.type", "ETCD");
    properties.set("alluxio.etcd.endpoints", &endpoint);
    properties.set("alluxio.membership.native.operation.timeout", "1h");
    let membership = open_with(&properties, &Clusters::default());
    let (reading, waiting) = (membership.clone(), membership.clone());
    let reading = tokio::spawn(async move { reading.view().await });
    let waiting =
        tokio::spawn(async move { waiting.wait_for_change(0, Duration::from_secs(3600)).await });
    tokio::task::yield_now().await;
    membership.close().await.unwrap();
    assert_eq!(
        reading.await.unwrap().unwrap_err().kind(),
        ErrorKind::Closed
    );
    assert_eq!(
        waiting.await.unwrap().unwrap_err().kind(),
        ErrorKind::Closed
    );
}

#[tokio::test]
async fn a_join_waits_for_another_one_no_longer_than_its_own_time() {
    let endpoint = dead_endpoints().remove(0);
    let clusters = Clusters::default();
    let with_timeout = |timeout: &str| {
        let mut properties = Properties::new();
        properties.set("alluxio.worker.membership.manager.type", "ETCD");
        properties.set("alluxio.etcd.endpoints", &endpoint);
        properties.set("alluxio.membership.native.operation.timeout", timeout);
        open_with(&properties, &clusters)
    };
    let (patient, hasty) = (with_timeout("1h"), with_timeout("1s"));
    let joining = tokio::spawn({
        let patient = patient.clone();
        async move { patient.join(&worker(1), &JoinOptions::default()).await }
    });
    eventually("the first has begun", LONG, || async {
        !patient.status().unwrap().registrations.is_empty()
    })
    .await;
    let error = hasty.join(&worker(1), &JoinOptions::default()).await;
    let error = error.expect_err("etcd is away");
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    assert!(error.to_string().contains("an earlier join"), "{error}");
    patient.close().await.expect("nothing was registered");
    let error = joining.await.expect("no panic").expect_err("closed");
    assert_eq!(error.kind(), ErrorKind::Closed, "{error}");
}
