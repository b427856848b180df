//! An etcd with another history than before: wiped, or restored from a backup.

use alluxio_membership::membership::Membership;
use alluxio_membership::record;
use alluxio_membership::view::MemberFilter;

use crate::common::toxiproxy::Toxiproxy;
use crate::common::{Etcd, EtcdCluster, EtcdVersion, eventually, on_every_etcd};
use crate::scene::{
    Fault, LIVE, LONG, PATIENT, RING, is_registered, join, lease_of, lists, lists_what_etcd_has,
    numbers, open, worker,
};

/// Both keys of a worker that this process does not keep registered.
async fn put_on_lease(etcd: &Etcd, number: i64) {
    let lease = etcd.grant_lease(600).await;
    let one = worker(number);
    let value = record::encode(&one);
    etcd.put(&format!("{RING}{}", one.identity), value.clone())
        .await;
    etcd.put_on_lease(&format!("{LIVE}{}", one.identity), value, lease)
        .await;
}

/// Writes other keys until etcd is beyond this revision.
async fn grow_beyond(etcd: &Etcd, revision: i64) {
    let mut client = etcd.client().await;
    loop {
        let put = client.put("/elsewhere", "", None).await.expect("put");
        if put.header().expect("a header").revision() > revision {
            return;
        }
    }
}

/// Waits until the reader lists etcd's workers and follows etcd again. Returns the reader's
/// counters about it.
async fn catches_up(reader: &Membership, etcd: &Etcd, fault: &Fault, number: i64) -> String {
    let began = fault.elapsed();
    let counters = || reader.status().expect("open").view_counters;
    eventually("the view is etcd's", LONG, || {
        lists_what_etcd_has(reader, etcd)
    })
    .await;
    let took = fault.elapsed() - began;
    let then = counters();
    put_on_lease(etcd, number).await;
    eventually("the watch goes on", LONG, || {
        lists_what_etcd_has(reader, etcd)
    })
    .await;
    format!(
        "etcd's view after {:.1} s, {} listings, {} times another history",
        took.as_secs_f64(),
        then.listings,
        then.other_histories
    )
}

async fn a_wiped_etcd_that_grew_beyond_its_old_revision(version: EtcdVersion) {
    let etcd = Etcd::start(version).await;
    let toxiproxy = Toxiproxy::start().await;
    let proxy = toxiproxy.to(&etcd);
    let (member, reader) = (
        open(&[etcd.endpoint()], &[]),
        open(&[proxy.endpoint()], &PATIENT),
    );
    put_on_lease(&etcd, 1).await;
    join(&member, 2).await;
    put_on_lease(&etcd, 3).await;
    let before = etcd.revision().await + 20;
    grow_beyond(&etcd, before).await;
    eventually("all are listed", LONG, || lists(&reader, &[1, 2, 3])).await;

    let fault = Fault::new(
        "etcd is wiped, and is beyond its old revision at the next request",
        version,
    );
    proxy.cut();
    etcd.wipe_and_restart().await;
    // The number of keys and workers is the same as before, but the first worker is gone for good,
    // and the fourth is new.
    put_on_lease(&etcd, 3).await;
    put_on_lease(&etcd, 4).await;
    eventually("the worker of this process is back", LONG, || async {
        etcd.keys("/").await.len() == 6 && is_registered(&member, 2)
    })
    .await;
    grow_beyond(&etcd, before + 100).await;
    let listings = reader.status().expect("open").view_counters.listings;
    proxy.heal();
    let outcome = catches_up(&reader, &etcd, &fault, 5).await;
    let after = reader.status().expect("open").view_counters;
    assert!(after.listings > listings, "{after:?}");
    let view = reader.view().await.expect("a view");
    for filter in [MemberFilter::All, MemberFilter::Live] {
        assert_eq!(numbers(&view, filter), [2, 3, 4, 5]);
    }
    fault.outcome(format!("{outcome}; the worker is back"));
}

/// Restores etcd from a backup. After the backup, one worker stays, one leaves, one joins, and one
/// is removed from the ring. The reader is cut off until etcd has written more than it lost, or
/// stays connected.
async fn restored(name: &'static str, version: EtcdVersion, grows: bool) {
    let etcd = Etcd::start(version).await;
    let toxiproxy = Toxiproxy::start().await;
    let proxy = toxiproxy.to(&etcd);
    // Patient, because etcd is unreachable for a while, and the workers must learn about the
    // history from etcd itself.
    let steady = [("alluxio.worker.failure.detection.timeout", "8s")];
    let here = || open(&[etcd.endpoint()], &steady);
    let (stays, leaves, joins, goes) = (here(), here(), here(), here());
    let reader = open(&[proxy.endpoint()], &PATIENT);
    join(&stays, 1).await;
    join(&leaves, 2).await;
    join(&goes, 4).await;
    goes.leave().await.expect("leave");
    let backup = etcd.back_up().await;
    eventually("it goes on", LONG, || async {
        is_registered(&stays, 1) && lists(&reader, &[1, 2]).await
    })
    .await;
    let lease = lease_of(&etcd, 1).await;
    leaves.close().await.expect("leave");
    goes.remove(&worker(4).identity)
        .await
        .expect("decommission");
    join(&joins, 3).await;
    for _ in 0..20 {
        etcd.put("/elsewhere", "").await;
    }
    eventually("the lost time is seen", LONG, || lists(&reader, &[1, 3])).await;
    let lost = etcd.revision().await;

    let fault = Fault::new(name, version);
    if grows {
        proxy.cut();
    }
    etcd.restore(&backup).await;
    if grows {
        grow_beyond(&etcd, lost + 100).await;
        proxy.heal();
    }
    let outcome = catches_up(&reader, &etcd, &fault, 5).await;
    // etcd has the worker that left, with its lease, and no process renews it.
    eventually("the workers are right", LONG, || async {
        is_registered(&stays, 1)
            && is_registered(&joins, 3)
            && lease_of(&etcd, 2).await.is_none()
            && lease_of(&etcd, 3).await.is_some()
    })
    .await;
    eventually("the view is right", LONG, || lists(&reader, &[1, 3, 5])).await;
    let view = reader.view().await.expect("a view");
    assert_eq!(numbers(&view, MemberFilter::Lost), [2, 4]);
    assert_eq!(lease_of(&etcd, 1).await, lease);
    eventually("one lease each", LONG, || async {
        etcd.leases().await.len() == 3
    })
    .await;
    fault.outcome(format!(
        "workers that joined since are back, workers that left end with their old lease, removed \
         workers are lost; {outcome}"
    ));
}

async fn an_etcd_restored_from_a_backup(version: EtcdVersion) {
    restored("etcd is restored from a backup", version, false).await;
}

async fn an_etcd_restored_from_a_backup_that_grew_beyond_its_old_revision(version: EtcdVersion) {
    restored(
        "etcd is restored, and is beyond its old revision at the next request",
        version,
        true,
    )
    .await;
}

async fn all_members_are_wiped(version: EtcdVersion) {
    const WORKERS: i64 = 5;
    let cluster = EtcdCluster::start(version, 3).await;
    let endpoints = cluster.endpoints();
    let reader = open(&endpoints, &PATIENT);
    let mut workers = Vec::new();
    for number in 1..=WORKERS {
        let member = open(&endpoints, &[]);
        join(&member, number).await;
        workers.push(member);
    }
    let gone = open(&endpoints, &[]);
    join(&gone, 9).await;
    gone.close().await.expect("leave");
    let all: Vec<i64> = (1..=WORKERS).collect();
    eventually("all are listed", LONG, || lists(&reader, &all)).await;
    assert_eq!(
        numbers(&reader.view().await.expect("a view"), MemberFilter::Lost),
        [9]
    );

    let fault = Fault::new("all 3 members are killed and wiped", version);
    cluster.wipe_and_restart().await;
    let etcd = &cluster.members()[0];
    eventually("all are registered", LONG, || async {
        let known = workers.iter().zip(1..);
        let known = known.fold(true, |all, (it, number)| all & is_registered(it, number));
        known && etcd.keys("/").await.len() == 2 * WORKERS as usize
    })
    .await;
    let back = fault.elapsed();
    let outcome = catches_up(&reader, etcd, &fault, 6).await;
    let view = reader.view().await.expect("a view");
    for filter in [MemberFilter::All, MemberFilter::Live] {
        assert_eq!(numbers(&view, filter), [1, 2, 3, 4, 5, 6]);
    }
    eventually("one lease each", LONG, || async {
        etcd.leases().await.len() == WORKERS as usize + 1
    })
    .await;
    // The watches of the members continue too.
    join(&workers[0], 7).await;
    eventually("listed", LONG, || {
        lists(&workers[1], &[1, 2, 3, 4, 5, 6, 7])
    })
    .await;
    fault.outcome(format!(
        "all {WORKERS} workers are back {:.1} s after the kill, and no others; {outcome}",
        back.as_secs_f64()
    ));
}

on_every_etcd!(
    a_wiped_etcd_that_grew_beyond_its_old_revision,
    all_members_are_wiped,
);

on_every_etcd!(
    #[ignore = "slow: run by make test-faults"]
    an_etcd_restored_from_a_backup,
    an_etcd_restored_from_a_backup_that_grew_beyond_its_old_revision,
);
