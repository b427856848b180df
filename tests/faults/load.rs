//! Many changes without a pause, and many processes at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use alluxio_membership::record;
use etcd_client::{Client, Permission, PermissionType};
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

use crate::common::toxiproxy::Toxiproxy;
use crate::common::{Etcd, EtcdOptions, EtcdVersion, eventually, on_every_etcd};
use crate::recorder::{Observer, Recorder};
use crate::scene::{
    Fault, LINEARIZABLE, LIVE, LONG, PATIENT, RING, is_registered, join, lists_what_etcd_has, open,
    put_workers, worker,
};

/// That many, because each waits for etcd's disk.
const WRITERS: i64 = 16;
/// How many changes of keys the writers aim at per second.
const RATE: i64 = 800;

/// Puts and deletes the live keys and ring keys of its own workers, one key at a time, until it is
/// stopped.
async fn change_keys(mut client: Client, writer: i64, stop: Arc<AtomicBool>, done: Arc<AtomicU64>) {
    let pause = Duration::from_millis((1_000 * WRITERS / RATE) as u64);
    let mut ticks = tokio::time::interval(pause);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut step = 0;
    while !stop.load(Ordering::Relaxed) {
        ticks.tick().await;
        let one = worker(100 * (writer + 1) + step / 4 % 10);
        let [ring, live] = [RING, LIVE].map(|prefix| format!("{prefix}{}", one.identity));
        let value = record::encode(&one);
        // Joins, is lost, is back, is lost and removed; some are only lost.
        let changed = match (step % 4, step / 40 % 3) {
            (0, _) => client.put(ring, value, None).await.map(drop),
            (1, _) => client.put(live, value, None).await.map(drop),
            (2, _) => client.delete(live, None).await.map(drop),
            (_, 0) => client.delete(ring, None).await.map(drop),
            (_, _) => client.put(live, value, None).await.map(drop),
        };
        changed.expect("etcd answers");
        step += 1;
        done.fetch_add(1, Ordering::Relaxed);
    }
}

async fn changes_without_a_pause(version: EtcdVersion) {
    for (name, round_trip) in [
        ("hundreds of changes per second for 10 s", Duration::ZERO),
        (
            "hundreds of changes per second, round trip 20 ms",
            Duration::from_millis(20),
        ),
    ] {
        let etcd = Etcd::start(version).await;
        let toxiproxy = Toxiproxy::start().await;
        let proxy = toxiproxy.to(&etcd);
        put_workers(&etcd, 1..21).await;
        let follower = open(&[proxy.endpoint()], &PATIENT);
        let asker = open(&[proxy.endpoint()], &[LINEARIZABLE, PATIENT[0]]);
        for reader in [&follower, &asker] {
            eventually("all are listed", LONG, || {
                lists_what_etcd_has(reader, &etcd)
            })
            .await;
        }
        if round_trip > Duration::ZERO {
            proxy.delay(round_trip);
        }
        let recorder = Recorder::start(&etcd).await;
        let observers = [&follower, &asker].map(|reader| Observer::start(reader.clone()));
        let fault = Fault::new(name, version);
        let (stop, done) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let writing = async {
            let mut writers = JoinSet::new();
            for writer in 0..WRITERS {
                let client = etcd.client().await;
                writers.spawn(change_keys(client, writer, stop.clone(), done.clone()));
            }
            writers.join_all().await;
        };
        let reading = async {
            let (mut listings, mut confirmed, mut oldest) = (0, 0, Duration::ZERO);
            let mut last = Duration::ZERO;
            // A reader that completes no comparison meanwhile only grows older.
            while fault.elapsed() < Duration::from_secs(10) || confirmed < 2 {
                assert!(
                    fault.elapsed() < LONG,
                    "confirmed {confirmed} times, {last:?} old"
                );
                asker.view().await.expect("a linearizable listing");
                listings += 1;
                let age = follower.view_age().expect("open").expect("listed");
                confirmed += i32::from(age < last);
                last = age;
                oldest = oldest.max(age);
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            stop.store(true, Ordering::Relaxed);
            (listings, oldest)
        };
        let ((), (listings, oldest)) = tokio::join!(writing, reading);
        for reader in [&follower, &asker] {
            eventually("the view is etcd's", LONG, || {
                lists_what_etcd_has(reader, &etcd)
            })
            .await;
        }
        let mut views = Vec::new();
        for observer in observers {
            let seen = observer.views().await;
            let wrong = recorder.compare(&etcd, &seen, LONG).await;
            assert!(
                wrong.is_empty(),
                "{} wrong: {:#?}",
                wrong.len(),
                &wrong[..wrong.len().min(5)]
            );
            views.push(seen.len());
        }
        let counters = [&follower, &asker].map(|it| it.status().expect("open").view_counters);
        for counters in &counters {
            assert_eq!(
                (counters.listings, counters.watches),
                (1, 1),
                "{counters:?}"
            );
        }
        fault.outcome(format!(
            "{} changes, {} and {} views, each range was etcd's at its revision; listed once, \
             never older than {:.1} s; 0 of {listings} linearizable listings failed",
            done.load(Ordering::Relaxed),
            views[0],
            views[1],
            oldest.as_secs_f64()
        ));
    }
}

/// Returns how many authentications one process may start in this time.
///
/// A process gives an authentication up together with its connection. It does so when a probe has
/// no answer: at first 2 s after a request that had no answer for 2 s, and each further time after
/// twice as long. Requests and watches are probed separately.
fn most_authentications(took: Duration) -> u64 {
    let first = Duration::from_secs(2);
    let given_up = (took.as_secs() / first.as_secs()).checked_ilog2();
    1 + 2 * u64::from(given_up.unwrap_or_default())
}

/// Each authentication costs etcd 70 ms of computing.
async fn many_processes_authenticate_at_once(version: EtcdVersion) {
    const PROCESSES: i64 = 40;
    let options = EtcdOptions::new(version).root_password("secret");
    let etcd = Etcd::start_with(options).await;
    let permissions = ["/DHT/", "/ServiceDiscovery/"]
        .map(|prefix| Permission::new(PermissionType::Readwrite, prefix).with_prefix());
    etcd.add_user("alluxio", "password", permissions.into())
        .await;
    let authentications = || {
        let method = ["grpc_method=\"Authenticate\""];
        etcd.metric("grpc_server_started_total", &method)
    };
    let properties = [
        ("alluxio.etcd.username", "alluxio"),
        ("alluxio.etcd.password", "password"),
        // Longer than a slow machine takes from the grant of a lease to the keys.
        ("alluxio.worker.failure.detection.timeout", "5min"),
    ];
    let properties = [&properties[..], &PATIENT].concat();
    let members: Vec<_> = (0..PROCESSES)
        .map(|_| open(&[etcd.endpoint()], &properties))
        .collect();
    let before = authentications();
    let fault = Fault::new("40 processes authenticate at once", version);
    let mut joining = JoinSet::new();
    for (member, number) in members.iter().cloned().zip(1..) {
        joining.spawn(async move {
            join(&member, number).await;
            let view = member.view().await.expect("a view");
            assert!(view.is_live(&worker(number).identity));
        });
    }
    while let Some(joined) = joining.join_next().await {
        joined.expect("it gets in");
    }
    let took = fault.elapsed();
    let spent = authentications() - before;
    let most = PROCESSES as u64 * most_authentications(took);
    assert!(
        (PROCESSES as u64..=most).contains(&spent),
        "{spent} authentications in {took:?}"
    );
    let settled = Instant::now();
    for (member, number) in members.iter().zip(1..) {
        eventually("its endpoint is usable", LONG, || async {
            member.status().expect("open").endpoints[0].healthy && is_registered(member, number)
        })
        .await;
    }
    eventually("one lease each", LONG, || async {
        etcd.leases().await.len() == PROCESSES as usize
    })
    .await;
    fault.outcome(format!(
        "all have joined after {:.1} s, with {spent} authentications; every endpoint was usable \
         {:.1} s later",
        took.as_secs_f64(),
        settled.elapsed().as_secs_f64()
    ));
}

on_every_etcd!(many_processes_authenticate_at_once);

on_every_etcd!(
    #[ignore = "slow: run by make test-faults"]
    changes_without_a_pause,
);
