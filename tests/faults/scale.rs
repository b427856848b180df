//! Tens of thousands of workers.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use alluxio_membership::etcd::RegistrationState;
use alluxio_membership::membership::Membership;
use alluxio_membership::view::MemberFilter;

use crate::common::toxiproxy::Toxiproxy;
use crate::common::{Etcd, EtcdVersion, eventually, on_every_etcd};
use crate::scene::{Fault, LIVE, PATIENT, join, lease_of, open, put_workers, worker};

/// Such a listing may take longer than a short lease, and may use the processor of a small machine
/// for all that time.
const TTL_60: (&str, &str) = ("alluxio.worker.failure.detection.timeout", "60s");
/// How long a listing of tens of thousands may take on a loaded machine.
const VERY_LONG: Duration = Duration::from_secs(300);

async fn lists_this_many(reader: &Membership, count: usize) -> bool {
    let view = reader.view().await;
    view.is_ok_and(|view| view.members(MemberFilter::Live).len() == count)
}

async fn twenty_thousand_workers_are_listed_and_followed(version: EtcdVersion) {
    let etcd = Etcd::start(version).await;
    let toxiproxy = Toxiproxy::start().await;
    let proxy = toxiproxy.to(&etcd);
    put_workers(&etcd, 1..20_001).await;
    let reader = open(&[proxy.endpoint()], &PATIENT);
    let fault = Fault::new("20,000 workers", version);
    eventually("all are listed", VERY_LONG, || {
        lists_this_many(&reader, 20_000)
    })
    .await;
    let listed = fault.elapsed();
    proxy.cut();
    // About 8 MB of events are waiting when the watch is opened again.
    put_workers(&etcd, 10_001..30_001).await;
    let deleted = etcd.delete_prefix(&format!("{LIVE}worker-1")).await;
    let expected = usize::try_from(30_000 - deleted).expect("some are left");
    proxy.heal();
    let healed = fault.elapsed();
    eventually("all changes are seen", VERY_LONG, || {
        lists_this_many(&reader, expected)
    })
    .await;
    let caught_up = fault.elapsed() - healed;
    fault.outcome(format!(
        "listed in {:.1} s; {} changes while cut off are listed after {:.1} s",
        listed.as_secs_f64(),
        40_000 + deleted,
        caught_up.as_secs_f64()
    ));
}

async fn a_listing_of_a_hundred_thousand_never_delays_a_renewal(version: EtcdVersion) {
    let etcd = Etcd::start(version).await;
    put_workers(&etcd, 1..100_000).await;
    let both = open(&[etcd.endpoint()], &[&PATIENT[..], &[TTL_60]].concat());
    join(&both, 100_000).await;
    let lease = lease_of(&etcd, 100_000).await.expect("joined");
    let fault = Fault::new("100,000 workers listed by a worker", version);
    let done = Arc::new(AtomicBool::new(false));
    let (member, stop) = (both.clone(), done.clone());
    let watching = tokio::spawn(async move {
        let mut states = Vec::new();
        while !stop.load(Ordering::Relaxed) {
            let state = member.registration_state(&worker(100_000).identity);
            let state = state.expect("open");
            if states.last() != Some(&state) {
                states.push(state);
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        states
    });
    eventually("all are listed", VERY_LONG, || {
        lists_this_many(&both, 100_000)
    })
    .await;
    let listed = fault.elapsed();
    done.store(true, Ordering::Relaxed);
    let states = watching.await.expect("watching");
    // A slow machine may make it suspect: two thirds of the TTL without processor time.
    let harmless = [RegistrationState::Registered, RegistrationState::Suspect];
    assert!(
        states
            .iter()
            .flatten()
            .all(|state| harmless.contains(state)),
        "{states:?}"
    );
    assert_eq!(lease_of(&etcd, 100_000).await, Some(lease));
    fault.outcome(format!(
        "listed in {:.1} s (debug build); same lease, renewed {}",
        listed.as_secs_f64(),
        if states.len() == 1 {
            "in time"
        } else {
            "late, but not too late"
        }
    ));
}

on_every_etcd!(
    #[ignore = "slow: run by make test-faults"]
    twenty_thousand_workers_are_listed_and_followed,
    a_listing_of_a_hundred_thousand_never_delays_a_renewal,
);
