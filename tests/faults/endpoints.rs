//! Endpoints that cannot serve, beside some that can, and connections that die silently.

use std::time::{Duration, Instant};

use alluxio_membership::membership::Membership;

use crate::common::dead::{DeadEnds, Refusing, Strangers};
use crate::common::toxiproxy::{Toxiproxy, Way};
use crate::common::{Etcd, EtcdCluster, EtcdVersion, eventually, on_every_etcd};
use crate::recorder::{Observer, Recorder};
use crate::scene::{
    Fault, LINEARIZABLE, LONG, PATIENT, is_registered, join, lease_of, lists, open, worker,
};

/// Returns how many requests of this manager the endpoint failed, and whether it ever answered one.
fn asked(membership: &Membership, endpoint: &str) -> (u64, u64) {
    let endpoints = membership.status().expect("open").endpoints;
    let health = endpoints.into_iter().find(|it| it.url == endpoint);
    let health = health.expect("configured");
    (health.failed, health.answered)
}

/// Returns managers whose first endpoint is this one: a member with worker 1, and a reader. The
/// first endpoint is random.
async fn begun_with(bad: &str, endpoints: &[String]) -> (Membership, Membership) {
    for _ in 0..200 {
        let member = open(endpoints, &[]);
        join(&member, 1).await;
        if asked(&member, bad).0 == 0 {
            member.close().await.expect("leave");
            continue;
        }
        for _ in 0..200 {
            let reader = open(endpoints, &[LINEARIZABLE, PATIENT[0]]);
            assert!(lists(&reader, &[1]).await, "the first listing fails");
            if asked(&reader, bad).0 > 0 {
                return (member, reader);
            }
        }
    }
    panic!("no process begins with {bad}");
}

/// Uses the managers for longer than the life of a lease. Returns the number of listings, all of
/// which succeeded.
async fn use_them(etcd: &Etcd, member: &Membership, reader: &Membership) -> usize {
    let lease = lease_of(etcd, 1).await;
    let recorder = Recorder::start(etcd).await;
    let observer = Observer::start(reader.clone());
    let began = Instant::now();
    let mut listings = 0;
    while began.elapsed() < Duration::from_secs(8) {
        let view = reader.view().await.expect("others can serve");
        assert!(view.is_live(&worker(1).identity));
        listings += 1;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    join(member, 2).await;
    assert!(lists(reader, &[1, 2]).await);
    assert_eq!(lease_of(etcd, 1).await, lease);
    assert!(is_registered(member, 1));
    let wrong = recorder.compare(etcd, &observer.views().await, LONG).await;
    assert!(wrong.is_empty(), "{wrong:#?}");
    listings
}

async fn a_learner_among_the_endpoints(version: EtcdVersion) {
    let cluster = EtcdCluster::start(version, 3).await;
    let learner = cluster.add_learner().await;
    let mut endpoints = cluster.endpoints();
    endpoints.insert(0, learner.endpoint());
    let fault = Fault::new("the first of 4 endpoints is a learner", version);
    let (member, reader) = begun_with(&learner.endpoint(), &endpoints).await;
    let listings = use_them(&cluster.members()[0], &member, &reader).await;
    for one in [&member, &reader] {
        let (failed, answered) = asked(one, &learner.endpoint());
        assert_eq!(answered, 0, "a learner serves no client");
        assert!(failed > 0);
    }
    fault.outcome(format!(
        "same lease; 0 of {listings} linearizable listings failed; the learner received {} and {} \
         requests",
        asked(&member, &learner.endpoint()).0,
        asked(&reader, &learner.endpoint()).0
    ));
}

async fn strangers_among_the_endpoints(version: EtcdVersion) {
    let etcd = Etcd::start(version).await;
    let mut strangers = Strangers::default();
    let not_found: &[u8] = b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n";
    let nonsense: &[u8] = b"\x16\x00SSH-2.0-nothing of this is HTTP/2\r\n";
    // Settings of HTTP/2, as of a server that speaks it, and then an answer without gRPC: the
    // status 404 to the first request, in the static table of HPACK.
    let no_grpc: &[u8] = b"\0\0\0\x04\0\0\0\0\0\0\0\x01\x01\x05\0\0\0\x01\x8d";
    let kinds = [
        ("an endpoint is a plain web server", not_found, true),
        (
            "an endpoint answers nonsense and stays connected",
            nonsense,
            false,
        ),
        ("an endpoint speaks HTTP/2 and no gRPC", no_grpc, false),
    ];
    for (name, words, closes) in kinds {
        let bad = strangers.saying(words, closes).await;
        let fault = Fault::new(name, version);
        let endpoints = [bad.clone(), etcd.endpoint()];
        let (member, reader) = begun_with(&bad, &endpoints).await;
        let listings = use_them(&etcd, &member, &reader).await;
        fault.outcome(format!(
            "same lease; 0 of {listings} linearizable listings failed; it received {} and {} \
             requests",
            asked(&member, &bad).0,
            asked(&reader, &bad).0
        ));
        member.close().await.expect("leave");
    }
}

async fn dead_endpoints_first(version: EtcdVersion) {
    let etcd = Etcd::start(version).await;
    let dead = [Refusing::new(), Refusing::new()];
    let [first, second] = dead.each_ref().map(Refusing::endpoint);
    let endpoints = [first.clone(), second.clone(), etcd.endpoint()];
    let fault = Fault::new("2 of 3 endpoints refuse connections", version);
    let (mut calls, mut failed, mut tries) = (0, 0, 0);
    for number in 1..=6 {
        let member = open(&endpoints, &[LINEARIZABLE]);
        join(&member, number).await;
        for _ in 0..50 {
            calls += 1;
            failed += usize::from(member.view().await.is_err());
        }
        tries += asked(&member, &first).0 + asked(&member, &second).0;
        member.close().await.expect("leave");
    }
    assert_eq!(failed, 0, "of {calls} calls");
    fault.outcome(format!(
        "{failed} of {calls} calls failed after the join; 6 processes chose them {tries} times"
    ));
}

async fn connections_die_without_a_word(version: EtcdVersion) {
    let etcd = Etcd::start(version).await;
    let way = DeadEnds::to_port(etcd.port()).await;
    let direct = open(&[etcd.endpoint()], &[]);
    let member = open(&[way.endpoint()], &[]);
    let reader = open(&[way.endpoint()], &PATIENT);
    join(&member, 1).await;
    assert!(lists(&reader, &[1]).await);
    let lease = lease_of(&etcd, 1).await;
    let recorder = Recorder::start(&etcd).await;
    let observer = Observer::start(reader.clone());
    let fault = Fault::new("all connections to the only endpoint die silently", version);
    let mut slowest = Duration::ZERO;
    for number in [2, 3] {
        way.kill_connections();
        let died = Instant::now();
        join(&direct, number).await;
        let all: Vec<i64> = (1..=number).collect();
        eventually("the view is etcd's", LONG, || lists(&reader, &all)).await;
        slowest = slowest.max(died.elapsed());
        // Next time, all endpoints are old enough to be trusted again, and a lease without renewals
        // would have ended.
        tokio::time::sleep(Duration::from_secs(7).saturating_sub(died.elapsed())).await;
        assert_eq!(lease_of(&etcd, 1).await, lease);
    }
    eventually("registered", LONG, || async { is_registered(&member, 1) }).await;
    join(&member, 4).await;
    eventually("all is well", LONG, || lists(&reader, &[1, 2, 3, 4])).await;
    assert_eq!(lease_of(&etcd, 1).await, lease);
    let wrong = recorder.compare(&etcd, &observer.views().await, LONG).await;
    assert!(wrong.is_empty(), "{wrong:#?}");
    fault.outcome(format!(
        "twice; same lease with a TTL of 5 s, the view was etcd's after {:.1} s at most",
        slowest.as_secs_f64()
    ));
}

async fn the_renewal_after_a_silent_one_goes_elsewhere(version: EtcdVersion) {
    let etcd = Etcd::start(version).await;
    let toxiproxy = Toxiproxy::start().await;
    let proxies = [(); 3].map(|()| toxiproxy.to(&etcd));
    let endpoints: Vec<String> = proxies.iter().map(|proxy| proxy.endpoint()).collect();
    let sick = &endpoints[0];
    // The first endpoint is the faulty one. No reader beside it notices the silence first.
    let member = loop {
        let member = open(&endpoints, &[]);
        join(&member, 1).await;
        if asked(&member, sick).1 > 0 {
            break member;
        }
        member.close().await.expect("leave");
    };
    Way::BOTH.iter().for_each(|way| proxies[0].stall(*way));
    let why_aside = || {
        let endpoints = member.status().expect("open").endpoints;
        let health = endpoints.into_iter().find(|it| it.url == *sick);
        health.and_then(|it| (!it.healthy).then_some(it.last_error)?)
    };
    eventually("the sick endpoint is quarantined", LONG, || async {
        why_aside().is_some()
    })
    .await;
    let first = why_aside();
    eventually("another one has answered", LONG, || async {
        endpoints[1..].iter().any(|it| asked(&member, it).1 > 0)
    })
    .await;
    // It would name the longer wait of the second renewal.
    assert_eq!(why_aside(), first);
}

on_every_etcd!(
    dead_endpoints_first,
    the_renewal_after_a_silent_one_goes_elsewhere,
);

on_every_etcd!(
    #[ignore = "slow: run by make test-faults"]
    a_learner_among_the_endpoints,
    strangers_among_the_endpoints,
    connections_die_without_a_word,
);
