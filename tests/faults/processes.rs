//! Worker processes that are frozen, killed or closed, two with one identity, and an etcd that is
//! full.

use std::fs;
use std::time::{Duration, Instant};

use alluxio_membership::error::ErrorKind;
use alluxio_membership::membership::{JoinOptions, Membership};
use etcd_client::{AlarmAction, AlarmOptions, AlarmType};

use crate::child::{ChildProcess, say};
use crate::common::{Etcd, EtcdOptions, EtcdVersion, eventually, on_every_etcd};
use crate::recorder::{Observer, Recorder};
use crate::scene::{
    Fault, LIVE, LONG, PATIENT, is_registered, join, lease_of, lists, live, open, renewed, worker,
};

/// The endpoint and the number of the worker, for a process of [`worker_process`].
const WORKER: &str = "AXM_TEST_WORKER";
/// An endpoint that does not answer, for a process of [`closing_process`].
const CLOSING: &str = "AXM_TEST_CLOSING";

fn start_worker(etcd: &Etcd, number: i64) -> ChildProcess {
    let what = format!("{} {number}", etcd.endpoint());
    ChildProcess::start("processes::worker_process", &[(WORKER, &what)])
}

/// Not a test: the worker of the tests below, in a separate process. Prints each of its states.
#[test]
fn worker_process() {
    let Ok(what) = std::env::var(WORKER) else {
        return;
    };
    let (endpoint, number) = what.split_once(' ').expect("an endpoint and a number");
    let number: i64 = number.parse().expect("a number");
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let membership = open(&[endpoint.to_string()], &[]);
        join(&membership, number).await;
        let (mut last, mut leases) = (None, 0);
        loop {
            let state = membership.registration_state(&worker(number).identity);
            let state = state.expect("open");
            let status = membership.status().expect("open");
            if status
                .registrations
                .iter()
                .any(|one| one.displaced_by.is_some())
            {
                say("displaced");
            }
            if state != last {
                say(&format!("{state:?}"));
                last = state;
            }
            for registration in status.registrations {
                if registration.leases != leases {
                    leases = registration.leases;
                    say(&format!("leases {leases}"));
                }
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
}

/// Worker 1 is live, and there is no other worker. A loaded machine may have no listing in time,
/// which says nothing about workers.
async fn assert_lists(reader: &Membership) {
    match reader.view().await {
        Ok(view) => assert_eq!(live(&view), [1]),
        Err(error) => assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}"),
    }
}

async fn a_frozen_worker_comes_back(version: EtcdVersion) {
    let etcd = Etcd::start(version).await;
    let reader = open(&[etcd.endpoint()], &[]);
    let process = start_worker(&etcd, 1);
    eventually("it has joined", LONG, || lists(&reader, &[1])).await;
    let lease = lease_of(&etcd, 1).await;
    let recorder = Recorder::start(&etcd).await;
    let observer = Observer::start(reader.clone());

    let fault = Fault::new("worker frozen for less than its TTL", version);
    for _ in 0..3 {
        process.signal(libc::SIGSTOP);
        // The duration of the fault. The last renewal is at most 1.8 s old.
        tokio::time::sleep(Duration::from_millis(2_000)).await;
        process.signal(libc::SIGCONT);
        // Waits for a renewal, so that the pauses are apart.
        renewed(&etcd, lease.expect("a lease")).await;
    }
    assert_eq!(lease_of(&etcd, 1).await, lease);
    assert_eq!(recorder.changes(), 0);
    fault.outcome("3 times 2 s with a TTL of 5 s: same lease, no reader noticed");

    let fault = Fault::new("worker frozen for longer than its TTL", version);
    process.signal(libc::SIGSTOP);
    eventually("it is lost", LONG, || lists(&reader, &[])).await;
    let lost = fault.elapsed();
    process.signal(libc::SIGCONT);
    let resumed = Instant::now();
    eventually("it is back", LONG, || lists(&reader, &[1])).await;
    let back = resumed.elapsed();
    let new_lease = lease_of(&etcd, 1).await;
    assert!(new_lease.is_some() && new_lease != lease);
    eventually("it says so", LONG, || async { process.said("leases 2") }).await;
    eventually("one lease", LONG, || async {
        etcd.leases().await.len() == 1
    })
    .await;
    let wrong = recorder.compare(&etcd, &observer.views().await, LONG).await;
    assert!(wrong.is_empty(), "{wrong:#?}");
    fault.outcome(format!(
        "lost after {:.1} s, back on a new lease {:.1} s after it continued",
        lost.as_secs_f64(),
        back.as_secs_f64()
    ));
}

async fn a_frozen_worker_whose_identity_was_taken_does_not_take_it_back(version: EtcdVersion) {
    let etcd = Etcd::start(version).await;
    let process = start_worker(&etcd, 1);
    eventually("it has joined", LONG, || async {
        process.times_said("Some(Registered)") == 1
    })
    .await;
    let lease = lease_of(&etcd, 1).await.expect("joined");
    let fault = Fault::new(
        "worker frozen for longer than its TTL, another takes its identity",
        version,
    );
    process.signal(libc::SIGSTOP);
    eventually("its lease is gone", LONG, || async {
        etcd.lease_ttl(lease).await.is_none()
    })
    .await;
    let second = open(&[etcd.endpoint()], &[]);
    join(&second, 1).await;
    let taken = lease_of(&etcd, 1).await;
    process.signal(libc::SIGCONT);
    eventually("it has a lease again", LONG, || async {
        process.times_said("Some(Registered)") == 2
    })
    .await;
    eventually("it says so", LONG, || async { process.said("displaced") }).await;
    assert_eq!(lease_of(&etcd, 1).await, taken, "it takes nothing back");
    second.close().await.expect("leave");
    eventually("it is listed again", LONG, || async {
        lease_of(&etcd, 1)
            .await
            .is_some_and(|new| Some(new) != taken)
    })
    .await;
    fault
        .outcome("it logs this, does not overwrite the other, and is back when the other has left");
}

async fn a_killed_worker_is_lost_and_its_successor_is_not(version: EtcdVersion) {
    let etcd = Etcd::start(version).await;
    let reader = open(&[etcd.endpoint()], &[]);
    let process = start_worker(&etcd, 1);
    eventually("it has joined", LONG, || lists(&reader, &[1])).await;
    let lease = lease_of(&etcd, 1).await;
    let fault = Fault::new("worker killed and started again at once", version);
    drop(process);
    let process = start_worker(&etcd, 1);
    eventually("it has joined again", LONG, || async {
        lease_of(&etcd, 1).await != lease
    })
    .await;
    let rejoined = fault.elapsed();
    eventually("the old lease is over", LONG, || async {
        etcd.leases().await.len() == 1
    })
    .await;
    assert_lists(&reader).await;
    fault.outcome(format!(
        "joined again after {:.1} s; the end of the old lease did not harm it",
        rejoined.as_secs_f64()
    ));

    let fault = Fault::new("worker killed", version);
    drop(process);
    eventually("it is lost", LONG, || lists(&reader, &[])).await;
    fault.outcome("lost when its TTL of 5 s was over");
}

async fn of_two_workers_with_one_identity_the_last_owns_it(version: EtcdVersion) {
    let etcd = Etcd::start(version).await;
    let reader = open(&[etcd.endpoint()], &[]);
    let first = open(&[etcd.endpoint()], &[]);
    join(&first, 1).await;
    let lease = lease_of(&etcd, 1).await;
    let fault = Fault::new("two processes with one identity", version);
    let second = start_worker(&etcd, 1);
    eventually("the second has taken over", LONG, || async {
        lease_of(&etcd, 1).await != lease
    })
    .await;
    let taken_over = lease_of(&etcd, 1).await;
    // Longer than a lease and than the interval of checking the own keys, so that the process would
    // have had the time to overwrite the key.
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(12) {
        assert_eq!(lease_of(&etcd, 1).await, taken_over, "the first fights");
        assert_lists(&reader).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    drop(second);
    let died = Instant::now();
    eventually("the first is back", LONG, || async {
        lease_of(&etcd, 1).await == lease
    })
    .await;
    // etcd has the key before the process has etcd's answer.
    eventually("and knows it", LONG, || async { is_registered(&first, 1) }).await;
    fault.outcome(format!(
        "the last owns it, the first does not overwrite it and is back {:.1} s after the other was \
         killed",
        died.elapsed().as_secs_f64()
    ));
}

async fn a_full_etcd_keeps_its_members(version: EtcdVersion) {
    let options = EtcdOptions::new(version).args(&["--quota-backend-bytes=16777216"]);
    let etcd = Etcd::start_with(options).await;
    let (member, reader) = (open(&[etcd.endpoint()], &[]), open(&[etcd.endpoint()], &[]));
    join(&member, 1).await;
    assert!(lists(&reader, &[1]).await);
    let lease = lease_of(&etcd, 1).await;
    let mut client = etcd.client().await;
    let fault = Fault::new("etcd is full (NOSPACE)", version);
    let mut number = 0;
    while client
        .put(format!("/full/{number}"), vec![b'x'; 1 << 20], None)
        .await
        .is_ok()
    {
        number += 1;
        assert!(number < 100, "etcd does not get full");
    }
    let began = Instant::now();
    // The duration of the fault: more than a TTL.
    while began.elapsed() < Duration::from_secs(7) {
        assert_lists(&reader).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(lease_of(&etcd, 1).await, lease);
    let newcomer = open(&[etcd.endpoint()], &[]);
    let error = newcomer.join(&worker(2), &JoinOptions::default()).await;
    let error = error.expect_err("no space");
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.to_string().contains("space"), "{error}");

    etcd.delete_prefix("/full/").await;
    etcd.compact(etcd.revision().await).await;
    client.defragment().await.expect("defragment");
    let alarms = client.alarm(AlarmAction::Get, AlarmType::Nospace, None);
    for alarm in alarms.await.expect("the alarm").alarms() {
        let mut of_member = AlarmOptions::new();
        of_member.with_member(alarm.member_id());
        client
            .alarm(AlarmAction::Deactivate, AlarmType::Nospace, Some(of_member))
            .await
            .expect("disarm");
    }
    eventually("it can join again", LONG, || async {
        newcomer
            .join(&worker(2), &JoinOptions::default())
            .await
            .is_ok()
    })
    .await;
    eventually("both are listed", LONG, || lists(&reader, &[1, 2])).await;
    eventually("one lease each", LONG, || async {
        etcd.leases().await.len() == 2
    })
    .await;
    fault.outcome(
        "the member stays, a join is refused with \"space exceeded\", all work after the \
                   alarm is disarmed",
    );
}

/// Not a test: opens managers on an etcd that does not answer and closes them, in a separate
/// process. Prints what is left.
#[test]
fn closing_process() {
    let Ok(endpoint) = std::env::var(CLOSING) else {
        return;
    };
    let count = |what: &str| fs::read_dir(what).expect("proc").count();
    let used = || (count("/proc/self/task"), count("/proc/self/fd"));
    // Tokio keeps two files for signals from its first runtime on.
    drop(tokio::runtime::Runtime::new().expect("a runtime"));
    // The kernel may still count a thread that was joined.
    let mut before = used();
    loop {
        std::thread::sleep(Duration::from_millis(100));
        match used() {
            same if same == before => break,
            other => before = other,
        }
    }
    let mut slowest = Duration::ZERO;
    {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .expect("a runtime");
        for close_after in [0, 1, 50, 500, 3_000] {
            runtime.block_on(async {
                let membership = open(std::slice::from_ref(&endpoint), &PATIENT);
                let (joining, listing) = (membership.clone(), membership.clone());
                let joining =
                    tokio::spawn(
                        async move { joining.join(&worker(1), &JoinOptions::default()).await },
                    );
                let listing = tokio::spawn(async move { listing.view().await.map(drop) });
                tokio::time::sleep(Duration::from_millis(close_after)).await;
                let began = Instant::now();
                let _ = membership.close().await;
                for call in [joining, listing] {
                    assert!(call.await.expect("no panic").is_err());
                }
                slowest = slowest.max(began.elapsed());
            });
        }
        runtime.shutdown_timeout(Duration::from_secs(10));
    }
    let began = Instant::now();
    while used() != before && began.elapsed() < LONG {
        std::thread::sleep(Duration::from_millis(10));
    }
    say(&format!(
        "slowest {} ms; threads and files {before:?} before, {:?} after",
        slowest.as_millis(),
        used()
    ));
    // Long before the timeout of the calls.
    assert!(slowest < LONG, "{slowest:?}");
    assert_eq!(used(), before);
    say("closed well");
}

async fn closing_leaves_nothing_behind(version: EtcdVersion) {
    let etcd = Etcd::start(version).await;
    for (name, frozen) in [
        ("close() during a join, etcd frozen", true),
        ("close() during a join, etcd dead", false),
    ] {
        if frozen {
            etcd.pause();
        } else {
            etcd.kill();
        }
        let fault = Fault::new(name, version);
        let variables = [(CLOSING, &*etcd.endpoint())];
        let mut process = ChildProcess::start("processes::closing_process", &variables);
        let exited = eventually("the process ends", LONG * 5, || {
            let ended = process.has_ended();
            async move { ended }
        });
        exited.await;
        eventually("its last words", LONG, || async {
            process.said("closed well") || process.lines().iter().any(|l| l.contains("FAILED"))
        })
        .await;
        assert!(process.said("closed well"), "{:#?}", process.lines());
        fault.outcome(process.last_said("slowest").expect("it said how slow"));
    }
    etcd.restart().await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(etcd.keys(LIVE).await.is_empty());
}

on_every_etcd!(
    a_frozen_worker_comes_back,
    a_full_etcd_keeps_its_members,
    closing_leaves_nothing_behind,
);

on_every_etcd!(
    #[ignore = "slow: run by make test-faults"]
    a_killed_worker_is_lost_and_its_successor_is_not,
    a_frozen_worker_whose_identity_was_taken_does_not_take_it_back,
    of_two_workers_with_one_identity_the_last_owns_it,
);
