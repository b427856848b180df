//! Many workers and readers, for minutes, while members restart and networks flap: no worker is
//! lost, nothing leaks.
//!
//! `make test-faults` restarts each member ten times. `make soak` continues with restarts and a
//! flapping network for `$AXM_SOAK_MINUTES`. The faults never exceed what etcd itself survives: one
//! member at a time, the next one when the last one is healthy again, and no network fault that is
//! long enough to end leases.

use std::fs;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use alluxio_membership::membership::Membership;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::common::toxiproxy::{Proxy, Toxiproxy, Way};
use crate::common::{Etcd, EtcdCluster, EtcdVersion, eventually, on_every_etcd, spawn};
use crate::recorder::{Observer, Recorder};
use crate::scene::{Fault, LONG, is_registered, join, lease_of, live, open};

/// Set for a process with no other task, because its resources are counted. The value is the
/// minutes of the soak, which begins with the rolling restarts. With 0 it consists of the rolling
/// restarts.
const MINUTES: &str = "AXM_SOAK_MINUTES";
/// Repeats the choices of a soak that failed.
const SEED: &str = "AXM_SOAK_SEED";

/// Never stopped, so they must be in every view.
const STEADY: i64 = 45;
/// Includes the workers that leave and join all the time.
const WORKERS: i64 = 50;
const READERS: usize = 10;
const ROLLING_RESTARTS: usize = 10;
/// etcd is healthy earlier, but a cluster that loses each leader at once answers hardly any
/// renewal.
const BETWEEN_RESTARTS: Duration = Duration::from_secs(3);
const ROUND: Duration = Duration::from_secs(60);

/// A worker has three connections (requests, watches, renewals), a reader two. Connections to a
/// member that was left for another one stay open, so there are at most as many to the other two
/// members.
const MORE_CONNECTIONS: usize = 2 * (3 * WORKERS as usize + 2 * READERS);

static EVERYBODY: LazyLock<Vec<i64>> = LazyLock::new(|| (1..=WORKERS).collect());

async fn fifty_workers_and_ten_readers_outlive_restarts(version: EtcdVersion) {
    let Ok(minutes) = std::env::var(MINUTES) else {
        return in_a_process_of_its_own(version).await;
    };
    let minutes: u64 = minutes.parse().expect("$AXM_SOAK_MINUTES is a number");
    let seed = match std::env::var(SEED) {
        Ok(seed) => seed.parse().expect("$AXM_SOAK_SEED is a number"),
        Err(_) => rand::random_range(0..1_000_000),
    };
    println!("soak on etcd {version:?}: {minutes} minutes, {SEED}={seed}");
    let end = Instant::now() + Duration::from_secs(60 * minutes);
    let soak = Soak::start(version).await;
    let random = |number: u64| StdRng::seed_from_u64(seed + number);

    let fault = Fault::new("each of 3 members is restarted 10 times", version);
    let first = soak
        .round("rolling restarts", random(0), async {
            for kill in [true, false].repeat(ROLLING_RESTARTS / 2) {
                for member in soak.cluster.members() {
                    let next = Instant::now() + BETWEEN_RESTARTS;
                    restart(member, kill).await;
                    tokio::time::sleep_until(next.into()).await;
                }
            }
            3 * ROLLING_RESTARTS
        })
        .await;
    fault.outcome(
        "50 workers kept their leases and were in every view of 10 readers; every view was etcd's \
         at its revision; no more threads or watches than before",
    );

    let mut last = first;
    for number in (1..).step_by(3) {
        let until = end.min(Instant::now() + ROUND);
        if until <= Instant::now() {
            break;
        }
        let harm = async {
            let restarts = soak.restarts(random(number), until);
            let flaps = soak.flaps(random(number + 1), until);
            let (restarts, flaps) = tokio::join!(restarts, flaps);
            restarts + flaps
        };
        last = soak
            .round("restarts and a flapping network", random(number + 2), harm)
            .await;
    }
    // Allocators keep some of what was freed.
    assert!(
        last < first * 5 / 4 + 8_192,
        "memory grew from {first} kB to {last} kB"
    );
    soak.end().await;
}

/// Runs the short form in a separate process, as its only test.
async fn in_a_process_of_its_own(version: EtcdVersion) {
    let version = match version {
        EtcdVersion::V3_4 => "etcd_3_4",
        EtcdVersion::V3_6 => "etcd_3_6",
    };
    let test = format!("soak::fifty_workers_and_ten_readers_outlive_restarts::{version}");
    let mut command = Command::new(std::env::current_exe().expect("this program"));
    command
        .args(["--exact", &test, "--ignored", "--nocapture"])
        .env(MINUTES, "0")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let process = spawn(command).expect("start a process");
    let output = tokio::task::spawn_blocking(|| process.wait_with_output()).await;
    let output = output.expect("no panic").expect("wait for the process");
    let said = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}\n{errors}");
    assert!(said.contains("1 passed"), "{said}");
}

/// Ends a member and starts it again; healthy on return.
async fn restart(member: &Etcd, kill: bool) {
    if !kill {
        member.stop().await;
    }
    member.restart().await;
}

struct Soak {
    cluster: EtcdCluster,
    /// Owns the proxies.
    _toxiproxy: Toxiproxy,
    /// The only connections of workers and readers to etcd, one proxy for each member.
    proxies: Vec<Proxy>,
    workers: Vec<Membership>,
    readers: Vec<Membership>,
    /// The leases of the steady workers.
    leases: Vec<Option<i64>>,
    before: Process,
    base: Used,
}

impl Soak {
    async fn start(version: EtcdVersion) -> Soak {
        let cluster = EtcdCluster::start(version, 3).await;
        let toxiproxy = Toxiproxy::start().await;
        let members = cluster.members().iter();
        let proxies: Vec<Proxy> = members.map(|member| toxiproxy.to(member)).collect();
        let endpoints: Vec<String> = proxies.iter().map(Proxy::endpoint).collect();
        let before = Process::now();
        let common = [
            ("alluxio.worker.failure.detection.timeout", "10s"),
            ("alluxio.membership.native.operation.timeout", "20s"),
            ("alluxio.membership.native.view.max.staleness", "1min"),
        ];
        let mut workers = Vec::new();
        for number in EVERYBODY.iter() {
            let worker = open(&endpoints, &common);
            join(&worker, *number).await;
            workers.push(worker);
        }
        let modes = ["CACHED", "LINEARIZABLE"].into_iter().cycle();
        let readers: Vec<Membership> = modes
            .take(READERS)
            .map(|mode| {
                let mode = [("alluxio.membership.native.read.mode", mode)];
                open(&endpoints, &[&common[..], &mode].concat())
            })
            .collect();
        let mut soak = Soak {
            leases: leases_of_steady(&cluster).await,
            base: Used::of(&cluster).await,
            cluster,
            _toxiproxy: toxiproxy,
            proxies,
            workers,
            readers,
            before,
        };
        soak.all_listed().await;
        soak.base = soak.steady_use().await;
        println!("at first: {:?}", soak.base);
        // A worker watches its own keys and all keys, a reader all keys. Each stream watches live
        // keys and ring keys.
        let streams = 2 * soak.workers.len() + soak.readers.len();
        let (leases, watchers) = (soak.base.leases, soak.base.watchers);
        assert_eq!(leases, soak.workers.len());
        assert_eq!(soak.base.watch_streams, streams as u64);
        assert_eq!(watchers, 2 * streams as u64);
        soak
    }

    async fn all_listed(&self) {
        eventually("all workers are registered", LONG, || async {
            let mut workers = self.workers.iter().zip(1..);
            workers.all(|(worker, number)| is_registered(worker, number))
        })
        .await;
        for (place, one) in self.workers.iter().chain(&self.readers).enumerate() {
            let what = format!("manager {place} lists all workers");
            eventually(&what, LONG, || lists_everybody(one)).await;
        }
    }

    /// Returns the resources in use when nothing has changed for some seconds.
    async fn steady_use(&self) -> Used {
        let began = Instant::now();
        let mut used = Used::of(&self.cluster).await;
        let mut since = Instant::now();
        while since.elapsed() < Duration::from_secs(5) {
            tokio::time::sleep(Duration::from_millis(200)).await;
            let now = Used::of(&self.cluster).await;
            if !now.is_no_more_than(&used) || now.process.files != used.process.files {
                (used, since) = (now, Instant::now());
            }
            assert!(began.elapsed() < LONG, "no rest: {used:?}");
        }
        used
    }

    /// Causes a fault while some workers leave and join, and checks everything meanwhile and
    /// afterwards. Returns the memory of the process.
    async fn round(&self, name: &str, random: StdRng, harm: impl Future<Output = usize>) -> u64 {
        let began = Instant::now();
        let truth = &self.cluster.members()[0];
        let recorder = Recorder::start(truth).await;
        let observers: Vec<Observer> = self.readers.iter().cloned().map(Observer::start).collect();
        let stop = Arc::new(AtomicBool::new(false));
        let looking: Vec<_> = self
            .readers
            .iter()
            .map(|reader| tokio::spawn(look(reader.clone(), stop.clone())))
            .collect();
        let (harms, changes) = tokio::join!(
            async {
                let harms = harm.await;
                stop.store(true, Ordering::Relaxed);
                harms
            },
            self.churn(random, &stop)
        );
        let (mut looks, mut wrong) = (0, Vec::new());
        for one in looking {
            let (count, complaints) = one.await.expect("a reader");
            looks += count;
            wrong.extend(complaints);
        }
        self.all_listed().await;
        let mut views = 0;
        for observer in observers {
            let seen = observer.views().await;
            views += seen.len();
            wrong.extend(recorder.compare(truth, &seen, LONG).await);
        }
        let leases = leases_of_steady(&self.cluster).await;
        for (number, (now, before)) in (1..).zip(leases.iter().zip(&self.leases)) {
            if now != before {
                wrong.push(format!("worker {number} had lease {before:?}, now {now:?}"));
            }
        }
        drop(recorder);
        let mut used = Used::of(&self.cluster).await;
        let rest = Instant::now();
        while !used.is_no_more_than(&self.base) && rest.elapsed() < LONG {
            tokio::time::sleep(Duration::from_millis(200)).await;
            used = Used::of(&self.cluster).await;
        }
        if !used.is_no_more_than(&self.base) {
            wrong.push(format!("a leak: {used:?}, at first {:?}", self.base));
        }
        println!(
            "{:.0} s of {name}: {harms} faults, {changes} joins and leaves, {looks} listings, \
             {views} views, {} wrong; {:.1} s later {used:?}",
            (rest - began).as_secs_f64(),
            wrong.len(),
            rest.elapsed().as_secs_f64(),
        );
        assert!(wrong.is_empty(), "{wrong:#?}");
        used.kilobytes
    }

    /// The others leave and join; all are members at the end.
    async fn churn(&self, mut random: StdRng, stop: &AtomicBool) -> usize {
        let mut changes = 0;
        while !stop.load(Ordering::Relaxed) {
            let number = random.random_range(STEADY + 1..=WORKERS);
            let worker = &self.workers[number as usize - 1];
            worker.leave().await.expect("leave");
            pause(&mut random, 0..500).await;
            join(worker, number).await;
            changes += 2;
            pause(&mut random, 0..1_000).await;
        }
        changes
    }

    async fn restarts(&self, mut random: StdRng, until: Instant) -> usize {
        let mut count = 0;
        while Instant::now() < until {
            let member = random.random_range(0..self.proxies.len());
            restart(&self.cluster.members()[member], random.random()).await;
            count += 1;
            pause(&mut random, 1_000..4_000).await;
        }
        count
    }

    async fn flaps(&self, mut random: StdRng, until: Instant) -> usize {
        let mut count = 0;
        while Instant::now() < until {
            let one = &self.proxies[random.random_range(0..self.proxies.len())];
            match random.random_range(0..6) {
                0 => one.cut(),
                1 => one.delay(Duration::from_millis(random.random_range(50..1_500))),
                2 => Way::BOTH.iter().for_each(|way| one.stall(*way)),
                3 => one.stall(Way::FromEtcd),
                4 => one.reset_connections(),
                _ => self.proxies.iter().for_each(Proxy::cut),
            }
            pause(&mut random, 300..1_500).await;
            self.proxies.iter().for_each(Proxy::heal);
            count += 1;
            pause(&mut random, 0..2_000).await;
        }
        count
    }

    /// Closes everything: nothing is left on either side.
    async fn end(self) {
        for one in self.workers.iter().chain(&self.readers) {
            one.close().await.expect("leave");
        }
        drop((self.workers, self.readers));
        let mut used = Used::of(&self.cluster).await;
        let began = Instant::now();
        while (used.leases, used.watchers) != (0, 0) || !used.process.is_no_more_than(&self.before)
        {
            let (before, limit) = (&self.before, LONG);
            assert!(
                began.elapsed() < limit,
                "left: {used:?}, before: {before:?}"
            );
            tokio::time::sleep(Duration::from_millis(200)).await;
            used = Used::of(&self.cluster).await;
        }
        println!(
            "after the end: {used:?}, before the beginning: {:?}",
            self.before
        );
    }
}

async fn pause(random: &mut StdRng, milliseconds: std::ops::Range<u64>) {
    tokio::time::sleep(Duration::from_millis(random.random_range(milliseconds))).await;
}

async fn lists_everybody(manager: &Membership) -> bool {
    let view = manager.view().await;
    view.is_ok_and(|view| {
        // Listings are in the order of the names.
        let mut live = live(&view);
        live.sort_unstable();
        live == *EVERYBODY
    })
}

async fn leases_of_steady(cluster: &EtcdCluster) -> Vec<Option<i64>> {
    let mut leases = Vec::new();
    for number in 1..=STEADY {
        leases.push(lease_of(&cluster.members()[0], number).await);
    }
    leases
}

/// Lists all the time. Returns the number of listings, and every failed call, missing worker and
/// step back.
async fn look(reader: Membership, stop: Arc<AtomicBool>) -> (usize, Vec<String>) {
    let (mut count, mut complaints) = (0, Vec::new());
    let (mut version, mut revision) = (0, 0);
    let began = Instant::now();
    while !stop.load(Ordering::Relaxed) {
        match reader.view().await {
            Err(error) => complaints.push(format!("{:.1?}: {error}", began.elapsed())),
            Ok(view) => {
                let live = live(&view);
                let missing: Vec<i64> = (1..=STEADY).filter(|one| !live.contains(one)).collect();
                if !missing.is_empty() {
                    let (at, age) = (began.elapsed(), view.age());
                    let revision = view.revision();
                    complaints.push(format!(
                        "{at:.1?}: {missing:?} missing at {revision}, {age:.1?} old"
                    ));
                }
                if view.version() < version || view.revision() < revision {
                    complaints.push(format!("{} after {revision}", view.revision()));
                }
                (version, revision) = (view.version(), view.revision());
            }
        }
        count += 1;
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    (count, complaints)
}

/// The resources of this process.
#[derive(Debug)]
struct Process {
    threads: usize,
    files: usize,
}

impl Process {
    fn now() -> Process {
        let count = |what: &str| fs::read_dir(what).expect("proc").count();
        Process {
            threads: count("/proc/self/task"),
            files: count("/proc/self/fd"),
        }
    }

    fn is_no_more_than(&self, other: &Process) -> bool {
        self.threads <= other.threads && self.files <= other.files
    }
}

/// The resources of this process and all members together.
#[derive(Debug)]
struct Used {
    process: Process,
    kilobytes: u64,
    leases: usize,
    watchers: u64,
    watch_streams: u64,
    etcd_files: u64,
    goroutines: u64,
}

impl Used {
    async fn of(cluster: &EtcdCluster) -> Used {
        let members = cluster.members();
        let sum = |metric| {
            members
                .iter()
                .map(|member| member.metric(metric, &[]))
                .sum()
        };
        Used {
            leases: members[0].leases().await.len(),
            watchers: sum("etcd_debugging_mvcc_watcher_total"),
            watch_streams: sum("etcd_debugging_mvcc_watch_stream_total"),
            etcd_files: sum("process_open_fds"),
            goroutines: sum("go_goroutines"),
            kilobytes: resident_kilobytes(),
            process: Process::now(),
        }
    }

    /// Whether nothing leaked since `first`, except memory. Each additional connection is a file on
    /// either side and some goroutines. etcd's own numbers vary a little.
    fn is_no_more_than(&self, first: &Used) -> bool {
        let connections = self.process.files.saturating_sub(first.process.files);
        self.process.threads <= first.process.threads
            && connections <= MORE_CONNECTIONS
            && self.leases <= first.leases
            && self.watchers <= first.watchers
            && self.watch_streams <= first.watch_streams
            && self.etcd_files <= first.etcd_files + connections as u64 + 20
            && self.goroutines <= first.goroutines + 4 * connections as u64 + 100
    }
}

fn resident_kilobytes() -> u64 {
    let status = fs::read_to_string("/proc/self/status").expect("proc");
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    let size = line.and_then(|line| line.split_whitespace().nth(1));
    size.and_then(|size| size.parse().ok()).expect("a size")
}

on_every_etcd!(
    #[ignore = "slow: run by make test-faults and make soak"]
    fifty_workers_and_ten_readers_outlive_restarts,
);
