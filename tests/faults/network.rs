//! Networks that are slow, cut, stalled, half-open or flapping, between the library and etcd.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use alluxio_membership::error::ErrorKind;
use alluxio_membership::etcd::RegistrationState;
use alluxio_membership::membership::{JoinOptions, Membership};

use crate::common::dead::Swallowing;
use crate::common::toxiproxy::{Toxiproxy, Way};
use crate::common::{Etcd, EtcdVersion, eventually, on_every_etcd, spawn};
use crate::recorder::{Observer, Recorder};
use crate::scene::{
    Fault, LINEARIZABLE, LIVE, LONG, PATIENT, join, lease_of, lists, numbers_in, open, put_workers,
    renewed, worker,
};

const TTL_20: (&str, &str) = ("alluxio.worker.failure.detection.timeout", "20s");

async fn a_round_trip_of_half_the_ttl_is_survived(version: EtcdVersion) {
    let etcd = Etcd::start(version).await;
    let toxiproxy = Toxiproxy::start().await;
    let proxy = toxiproxy.to(&etcd);
    // Long, so that the delays of a loaded machine are small in comparison.
    let ttl = ("alluxio.worker.failure.detection.timeout", "10s");
    let member = open(&[proxy.endpoint()], &[ttl]);
    join(&member, 1).await;
    let lease = lease_of(&etcd, 1).await;
    let recorder = Recorder::start(&etcd).await;
    let fault = Fault::new("round trip of half the TTL, for 3 TTLs", version);
    proxy.delay(Duration::from_secs(5));
    // The duration of the fault.
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert_eq!(lease_of(&etcd, 1).await, lease);
    assert_eq!(recorder.changes(), 0);
    fault.outcome("same lease, no reader noticed");
    proxy.heal();
}

async fn a_round_trip_of_most_of_the_ttl_is_survived(version: EtcdVersion) {
    let etcd = Etcd::start(version).await;
    let toxiproxy = Toxiproxy::start().await;
    let proxy = toxiproxy.to(&etcd);
    let ttl = [("alluxio.worker.failure.detection.timeout", "2s")];
    let member = open(&[proxy.endpoint()], &ttl);
    proxy.delay(Duration::from_millis(1400));
    let fault = Fault::new("round trip of 0.7 of a TTL of 2 s, for 7 TTLs", version);
    eventually("it joins", LONG, || async {
        let joined = member.join(&worker(1), &JoinOptions::default()).await;
        joined.is_ok()
    })
    .await;
    let lease = lease_of(&etcd, 1).await;
    let recorder = Recorder::start(&etcd).await;
    // The duration of the fault.
    tokio::time::sleep(Duration::from_secs(15)).await;
    // An answer that took this long still proves that the lease is alive.
    eventually("renewals are answered in time", LONG, || async {
        let status = member.status().expect("open");
        let mut registrations = status.registrations.iter();
        registrations.any(|one| !one.lease_left.is_zero())
    })
    .await;
    assert_eq!(lease_of(&etcd, 1).await, lease);
    assert_eq!(recorder.changes(), 0);
    fault.outcome("joined, same lease, no reader noticed");
    proxy.heal();
}

async fn a_round_trip_longer_than_the_ttl_is_a_clear_error(version: EtcdVersion) {
    let etcd = Etcd::start(version).await;
    let toxiproxy = Toxiproxy::start().await;
    let proxy = toxiproxy.to(&etcd);
    let times = [
        ("alluxio.worker.failure.detection.timeout", "2s"),
        ("alluxio.membership.native.operation.timeout", "20s"),
    ];
    let member = open(&[proxy.endpoint()], &times);
    proxy.delay(Duration::from_millis(3600));
    let fault = Fault::new("round trip longer than the TTL", version);
    let (joined, most_leases) = tokio::join!(
        async {
            let joined = member.join(&worker(1), &JoinOptions::default()).await;
            (joined.expect_err("too slow"), fault.elapsed())
        },
        async {
            let mut most = 0;
            for _ in 0..100 {
                most = most.max(etcd.leases().await.len());
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
            most
        }
    );
    let (error, took) = joined;
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    let text = error.to_string();
    assert!(
        text.contains("alluxio.worker.failure.detection.timeout"),
        "{text}"
    );
    assert!(most_leases <= 2, "{most_leases} leases at once");
    eventually("no lease is left", LONG, || async {
        etcd.leases().await.is_empty()
    })
    .await;
    fault.outcome(format!(
        "join refused after {:.1} s, naming the property; at most {most_leases} leases, none left",
        took.as_secs_f64()
    ));
}

/// A worker that was registered before the round trip became too long logs it too, not only a
/// worker that joins.
async fn a_round_trip_that_becomes_longer_than_the_ttl_is_told(version: EtcdVersion) {
    let etcd = Etcd::start(version).await;
    let toxiproxy = Toxiproxy::start().await;
    let proxy = toxiproxy.to(&etcd);
    let mut command = Command::new(env!("CARGO_BIN_EXE_alluxio-membership"));
    for property in [
        "alluxio.worker.membership.manager.type=SERVICE_REGISTRY",
        "alluxio.worker.failure.detection.timeout=2s",
        &format!("alluxio.etcd.endpoints={}", proxy.endpoint()),
    ] {
        command.args(["-D", property]);
    }
    command.args(["join", "--id", "worker-1", "--host", "h", "--rpc-port", "1"]);
    command.stdin(Stdio::null()).stdout(Stdio::null());
    command.stderr(Stdio::piped());
    let mut worker = spawn(command).expect("the tool runs");
    eventually("joined", LONG, || async {
        lease_of(&etcd, 1).await.is_some()
    })
    .await;
    // More than a try takes at first, so that a lease is granted by the second one.
    proxy.delay(Duration::from_millis(2300));
    // Otherwise, renewals that are on their way would keep the lease alive.
    etcd.revoke_lease(lease_of(&etcd, 1).await.expect("registered"))
        .await;
    let (sender, is_told) = tokio::sync::oneshot::channel();
    let log = worker.stderr.take().expect("a pipe");
    std::thread::spawn(move || {
        let mut lines = BufReader::new(log).lines().map_while(Result::ok);
        let told = lines.find(|line| line.contains("alluxio.worker.failure.detection.timeout"));
        let _ = sender.send(told);
    });
    let told = tokio::time::timeout(LONG, is_told).await;
    worker.kill().expect("kill the worker");
    worker.wait().expect("reap the worker");
    let told = told.expect("in time").expect("no panic").expect("told");
    assert!(told.contains("Registering worker-1 again"), "{told}");
}

/// Stalls one endpoint after another while a worker is registered and a reader reads.
async fn one_endpoint_stalls(name: &'static str, version: EtcdVersion, ways: &[Way]) {
    let etcd = Etcd::start(version).await;
    let toxiproxy = Toxiproxy::start().await;
    let proxies = [
        toxiproxy.to(&etcd),
        toxiproxy.to(&etcd),
        toxiproxy.to(&etcd),
    ];
    let endpoints: Vec<String> = proxies.iter().map(|proxy| proxy.endpoint()).collect();
    let member = open(&endpoints, &[]);
    let reader = open(&endpoints, &[LINEARIZABLE]);
    join(&member, 1).await;
    assert!(lists(&reader, &[1]).await);
    let lease = lease_of(&etcd, 1).await;
    let recorder = Recorder::start(&etcd).await;
    let observer = Observer::start(reader.clone());
    let fault = Fault::new(name, version);
    let (mut calls, mut slow, mut slowest) = (0, 0, Duration::ZERO);
    for proxy in &proxies {
        ways.iter().for_each(|way| proxy.stall(*way));
        let began = Instant::now();
        while began.elapsed() < Duration::from_secs(4) {
            let asked = Instant::now();
            let view = reader.view().await.expect("two endpoints work");
            assert!(view.is_live(&worker(1).identity));
            calls += 1;
            slow += i32::from(asked.elapsed() > Duration::from_secs(1));
            slowest = slowest.max(asked.elapsed());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        proxy.heal();
    }
    assert_eq!(lease_of(&etcd, 1).await, lease);
    // Every endpoint fails once. Each time at most one call notices it, and others may wait for the
    // machine.
    join(&member, 2).await;
    eventually("the watch goes on", LONG, || lists(&reader, &[1, 2])).await;
    let wrong = recorder.compare(&etcd, &observer.views().await, LONG).await;
    assert!(wrong.is_empty(), "{wrong:#?}");
    fault.outcome(format!(
        "same lease; 0 of {calls} linearizable listings failed, {slow} took more than 1 s, the \
         slowest {:.1} s",
        slowest.as_secs_f64()
    ));
}

async fn one_of_three_endpoints_stalls(version: EtcdVersion) {
    one_endpoint_stalls("each of 3 endpoints stalls in turn", version, &Way::BOTH).await;
}

async fn one_of_three_endpoints_is_half_open(version: EtcdVersion) {
    one_endpoint_stalls(
        "each of 3 endpoints is half-open in turn",
        version,
        &[Way::FromEtcd],
    )
    .await;
}

async fn the_only_endpoint_stalls(version: EtcdVersion) {
    let etcd = Etcd::start(version).await;
    let toxiproxy = Toxiproxy::start().await;
    let proxy = toxiproxy.to(&etcd);
    let direct = open(&[etcd.endpoint()], &[]);
    let member = open(&[proxy.endpoint()], &[TTL_20]);
    let reader = open(&[proxy.endpoint()], &[TTL_20]);
    join(&member, 1).await;
    assert!(lists(&reader, &[1]).await);
    let lease = lease_of(&etcd, 1).await;
    let recorder = Recorder::start(&etcd).await;
    let observer = Observer::start(reader.clone());
    let fault = Fault::new("the only endpoint stalls for 8 s", version);
    Way::BOTH.iter().for_each(|way| proxy.stall(*way));
    join(&direct, 2).await;
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(8) {
        // Without waiting: the change must be listed at once.
        let at_once = tokio::time::timeout(Duration::ZERO, lists(&reader, &[1]));
        assert_eq!(at_once.await, Ok(true), "from memory");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    proxy.heal();
    let healed = Instant::now();
    eventually("the view is etcd's", LONG, || lists(&reader, &[1, 2])).await;
    let back = healed.elapsed();
    assert_eq!(lease_of(&etcd, 1).await, lease);
    let wrong = recorder.compare(&etcd, &observer.views().await, LONG).await;
    assert!(wrong.is_empty(), "{wrong:#?}");
    fault.outcome(format!(
        "same lease, listings from memory, up to date {:.1} s after it was repaired",
        back.as_secs_f64()
    ));
}

async fn views_are_refused_when_they_are_too_old(version: EtcdVersion) {
    const LIMIT: Duration = Duration::from_secs(8);
    let etcd = Etcd::start(version).await;
    let member = open(&[etcd.endpoint()], &[TTL_20]);
    let limits = [
        ("alluxio.membership.native.view.max.staleness", "8s"),
        PATIENT[0],
    ];
    let reader = open(&[etcd.endpoint()], &limits);
    join(&member, 1).await;
    eventually("listed", LONG, || lists(&reader, &[1])).await;
    let fault = Fault::new("etcd is away for longer than a view may be old", version);
    etcd.kill();
    let age = || reader.view_age().expect("open").expect("listed");
    let (mut served, mut refused) = (0, 0);
    while refused < 20 {
        let before = age();
        let view = tokio::time::timeout(LONG, reader.view()).await;
        match view.expect("at once, long before the operation timeout") {
            Ok(view) => {
                assert!(before <= LIMIT, "{before:?}");
                assert!(view.is_live(&worker(1).identity));
                assert_eq!(refused, 0, "nothing makes it younger");
                served += 1;
            }
            Err(error) => {
                assert!(age() > LIMIT, "{:?}: {error}", age());
                assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
                let text = error.to_string();
                assert!(
                    text.starts_with("Exhausted retry for (") && text.contains(&etcd.endpoint()),
                    "{text}"
                );
                assert_eq!(reader.current_version(), 0);
                refused += 1;
                // Without waiting, because etcd is known to be unreachable.
                let at_once = tokio::time::timeout(Duration::ZERO, reader.view()).await;
                assert!(matches!(at_once, Ok(Err(_))), "{at_once:?}");
            }
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    etcd.restart().await;
    let mended = Instant::now();
    eventually("listed again", LONG, || lists(&reader, &[1])).await;
    let back = mended.elapsed();
    assert!(served > 0);
    fault.outcome(format!(
        "{served} listings from memory, none older than the {} s that are allowed; then refused at \
         once, naming etcd; back {:.1} s after etcd",
        LIMIT.as_secs(),
        back.as_secs_f64()
    ));
}

async fn an_endpoint_that_accepts_no_connection_costs_one_wait(version: EtcdVersion) {
    let etcd = Etcd::start(version).await;
    let swallowing = Swallowing::at("127.0.0.1:0").await;
    let endpoints = [swallowing.endpoint(), etcd.endpoint()];
    let fault = Fault::new("an endpoint swallows connection requests", version);
    let mut slowest = Duration::ZERO;
    for number in 1..=6 {
        // Each starts with a random endpoint.
        let member = open(&endpoints, &[]);
        let began = Instant::now();
        join(&member, number).await;
        assert!(
            member
                .view()
                .await
                .expect("view")
                .is_live(&worker(number).identity)
        );
        slowest = slowest.max(began.elapsed());
        member.close().await.expect("leave");
    }
    fault.outcome(format!(
        "0 of 6 joins failed, join and listing took at most {:.1} s",
        slowest.as_secs_f64()
    ));
}

/// Joins and leaves of other workers, over a network that works.
async fn churn(direct: &Membership, until: impl Future<Output = ()>) -> usize {
    let (mut changes, mut number) = (0, 100);
    tokio::pin!(until);
    loop {
        number = 100 + (number + 1) % 7;
        join(direct, number).await;
        let left = (number + 3) % 7 + 100;
        let stopped = direct.leave_worker(&worker(left).identity).await;
        stopped.expect("leave");
        changes += 1;
        tokio::select! {
            () = &mut until => return changes,
            () = tokio::time::sleep(Duration::from_millis(50)) => {}
        }
    }
}

async fn a_flapping_network_loses_nothing(version: EtcdVersion) {
    let etcd = Etcd::start(version).await;
    let toxiproxy = Toxiproxy::start().await;
    let proxy = toxiproxy.to(&etcd);
    let direct = open(&[etcd.endpoint()], &[]);
    let member = open(&[proxy.endpoint()], &[]);
    let reader = open(&[proxy.endpoint()], &[]);
    join(&member, 1).await;
    assert!(lists(&reader, &[1]).await);
    let lease = lease_of(&etcd, 1).await;
    let recorder = Recorder::start(&etcd).await;
    let observer = Observer::start(reader.clone());
    let fault = Fault::new("the network flaps: 5 cuts, 5 resets", version);
    let flapping = async {
        for _ in 0..5 {
            proxy.cut();
            tokio::time::sleep(Duration::from_millis(400)).await;
            proxy.heal();
            renewed(&etcd, lease.expect("a lease")).await;
            proxy.reset_connections();
            tokio::time::sleep(Duration::from_millis(300)).await;
            proxy.heal();
            renewed(&etcd, lease.expect("a lease")).await;
        }
    };
    let changes = churn(&direct, flapping).await;
    assert_eq!(lease_of(&etcd, 1).await, lease);
    let expected: Vec<i64> = numbers_in(&etcd, LIVE).await;
    eventually("the view is etcd's", LONG, || lists(&reader, &expected)).await;
    let wrong = recorder.compare(&etcd, &observer.views().await, LONG).await;
    assert!(wrong.is_empty(), "{wrong:#?}");
    fault.outcome(format!(
        "same lease; every view was etcd's at its revision, through {changes} joins and leaves"
    ));
}

async fn what_a_cut_watch_missed_is_compacted(version: EtcdVersion) {
    let etcd = Etcd::start(version).await;
    let toxiproxy = Toxiproxy::start().await;
    let proxy = toxiproxy.to(&etcd);
    let direct = open(&[etcd.endpoint()], &[]);
    let member = open(&[etcd.endpoint()], &[]);
    let reader = open(&[proxy.endpoint()], &[TTL_20]);
    join(&member, 1).await;
    assert!(lists(&reader, &[1]).await);
    let recorder = Recorder::start(&etcd).await;
    let observer = Observer::start(reader.clone());
    let fault = Fault::new("the watch is cut and its place compacted", version);
    for compacts in [true, false, true] {
        proxy.cut();
        churn(&direct, tokio::time::sleep(Duration::from_secs(1))).await;
        if compacts {
            etcd.compact(etcd.revision().await).await;
        }
        proxy.heal();
        let expected = numbers_in(&etcd, LIVE).await;
        eventually("the view is etcd's", LONG, || lists(&reader, &expected)).await;
    }
    let views = observer.views().await;
    let wrong = recorder.compare(&etcd, &views, LONG).await;
    assert!(wrong.is_empty(), "{wrong:#?}");
    fault.outcome(format!(
        "listed again; {} views, each was etcd's at its revision, none went back",
        views.len()
    ));
}

async fn a_listing_in_pages_is_compacted_half_way(version: EtcdVersion) {
    let etcd = Etcd::start(version).await;
    let toxiproxy = Toxiproxy::start().await;
    let proxy = toxiproxy.to(&etcd);
    put_workers(&etcd, 1..9_000).await;
    let reader = open(&[proxy.endpoint()], &[]);
    let bytes = || etcd.metric("etcd_network_client_grpc_sent_bytes_total", &[]);
    proxy.throttle(Way::FromEtcd, 1_000);
    let fault = Fault::new("compaction between two pages of a listing", version);
    let sent_before = bytes();
    let compact = async {
        eventually("the first page is under way", LONG, || async {
            bytes() > sent_before + 100_000
        })
        .await;
        etcd.put("/elsewhere", "").await;
        etcd.compact(etcd.revision().await).await;
        proxy.heal();
    };
    let (view, ()) = tokio::join!(reader.view(), compact);
    let mut listed = view;
    let began = Instant::now();
    while let Err(error) = &listed {
        // A slow machine may take longer than one operation. No other error is correct.
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
        assert!(began.elapsed() < LONG, "{error}");
        listed = reader.view().await;
    }
    let view = listed.expect("listed");
    assert_eq!(
        view.members(alluxio_membership::view::MemberFilter::Live)
            .len(),
        8_999
    );
    fault.outcome("restarted, all 8,999 listed");
}

async fn a_big_listing_over_a_slow_line_disturbs_no_registration(version: EtcdVersion) {
    let etcd = Etcd::start(version).await;
    let toxiproxy = Toxiproxy::start().await;
    let proxy = toxiproxy.to(&etcd);
    put_workers(&etcd, 1..10_000).await;
    proxy.throttle(Way::FromEtcd, 250);
    let both = open(&[proxy.endpoint()], &[]);
    join(&both, 20_000).await;
    let lease = lease_of(&etcd, 20_000).await;
    let fault = Fault::new("a listing of 10,000 workers over 250 kB/s", version);
    eventually("all are listed", LONG * 3, || {
        let both = both.clone();
        let state = both.registration_state(&worker(20_000).identity);
        assert_eq!(state.unwrap(), Some(RegistrationState::Registered));
        async move {
            both.view().await.is_ok_and(|view| {
                view.members(alluxio_membership::view::MemberFilter::Live)
                    .len()
                    == 10_000
            })
        }
    })
    .await;
    assert_eq!(lease_of(&etcd, 20_000).await, lease);
    fault.outcome("listed; the registration of the same process was never late");
}

on_every_etcd!(
    the_only_endpoint_stalls,
    views_are_refused_when_they_are_too_old,
    an_endpoint_that_accepts_no_connection_costs_one_wait,
    a_flapping_network_loses_nothing,
    what_a_cut_watch_missed_is_compacted,
    a_listing_in_pages_is_compacted_half_way,
);

on_every_etcd!(
    #[ignore = "slow: run by make test-faults"]
    a_round_trip_of_half_the_ttl_is_survived,
    a_round_trip_of_most_of_the_ttl_is_survived,
    a_round_trip_longer_than_the_ttl_is_a_clear_error,
    a_round_trip_that_becomes_longer_than_the_ttl_is_told,
    one_of_three_endpoints_stalls,
    one_of_three_endpoints_is_half_open,
    a_big_listing_over_a_slow_line_disturbs_no_registration,
);
