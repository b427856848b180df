//! What the library promises about speed, beside etcd's own Go client on the same etcd.
//!
//! Both sides take turns, so that what slows the machine slows both.

use std::time::{Duration, Instant};

use alluxio_membership::view::MemberFilter;

use crate::Run;
use crate::cluster::{self, change, is_live, next, put_workers, until, worker};
use crate::common::{Etcd, EtcdVersion};
use crate::go::Go;
use crate::samples::Samples;
use crate::scene::{LINEARIZABLE, LIVE, PATIENT, RING, open};
use crate::table::{Line, Target, Unit};

/// A change, a join or a leave may take so many times as long as with the Go client. The run
/// fails if one takes longer.
const CHANGE_PROMISE: f64 = 2.0;
/// The same for a listing.
const LISTING_PROMISE: f64 = 1.5;
/// The part of a listing that an idle reader may receive while others list once.
const IDLE_PROMISE: f64 = 0.01;

/// From a write by one client to its being visible to another.
pub async fn changes(run: &mut Run, version: EtcdVersion) {
    let (turns, each) = (run.scale(10, 2), run.scale(50, 10));
    let etcd = Etcd::start(version).await;
    put_workers(&etcd, 1..100).await;
    let mut go = Go::start(&etcd);
    let (reader, writer) = (open(&[etcd.endpoint()], &[]), open(&[etcd.endpoint()], &[]));
    let mut view = reader.view().await.expect("a first view");
    let mut client = etcd.client().await;
    let [mut event, mut join, mut rejoin, mut leave] = [(); 4].map(|()| Pairs::default());
    for turn in 0..turns {
        event.go.extend(go.ask("event", each, "/go/event"));
        for sample in 0..each {
            let start = Instant::now();
            change(&mut client, 1, 1 + turn * each + sample).await;
            view = next(&reader, &view).await;
            event.ours.add(start.elapsed());
        }

        let joins = go.ask("join", each, "/go/join");
        join.go.extend(joins.clone());
        rejoin.go.extend(joins);
        leave.go.extend(go.answer());
        for sample in 0..each {
            let number = i64::try_from(1_000 + turn * each + sample).expect("small");
            for joins in [&mut join.ours, &mut rejoin.ours] {
                let start = Instant::now();
                cluster::join(&writer, number).await;
                view = until(&reader, view, |view| is_live(view, number)).await;
                joins.add(start.elapsed());

                let start = Instant::now();
                let identity = worker(number).identity;
                writer.leave_worker(&identity).await.expect("leave");
                view = until(&reader, view, |view| !is_live(view, number)).await;
                leave.ours.add(start.elapsed());
            }
        }
    }
    go.stop();
    event.report(
        run,
        "a change, until another process has it",
        version,
        1.1,
        Promise::Both,
    );
    let first = "a worker's first join, until another process lists it";
    join.report(run, first, version, 1.2, Promise::Median);
    let known = "a known worker's join, until another process lists it";
    rejoin.report(run, known, version, 1.2, Promise::Median);
    let left = "a leave, until another process lists it as lost";
    leave.report(run, left, version, 1.1, Promise::Median);
    if version == EtcdVersion::V3_6 {
        run.changes = Some((event.go, event.ours));
    }
}

/// Listings that ask etcd: linearizable ones, and the first one of a new process.
pub async fn listings(run: &mut Run, etcd: &Etcd, version: EtcdVersion, workers: i64) {
    let turns = run.scale(10, 2);
    let count = usize::try_from(workers).expect("small");
    let mut go = Go::start(etcd);

    let reader = open(&[etcd.endpoint()], &[PATIENT[0], LINEARIZABLE]);
    reader.view().await.expect("a first view");
    let mut linearizable = Pairs::default();
    for _ in 0..turns {
        linearizable.go.extend(go.ask("get", 100, "/go/get"));
        for _ in 0..100 {
            let start = Instant::now();
            let view = reader.view().await.expect("a linearizable view");
            linearizable.ours.add(start.elapsed());
            assert_eq!(view.members(MemberFilter::Live).len(), count);
        }
    }
    reader.close().await.expect("close");
    drop(reader);
    let what = format!("a linearizable listing of {workers} workers; Go reads one key");
    let line = Line::new(
        what,
        Unit::Seconds,
        linearizable.ours.median(),
        Target::TimesBound(1.15),
    );
    let line = line.bound(linearizable.go.median()).etcd(version);
    run.table.add(line.promise(LISTING_PROMISE));

    let mut first = Pairs::default();
    for _ in 0..turns {
        first
            .go
            .extend(go.ask("range", 1, &format!("{RING} {LIVE}")));
        first
            .ours
            .add(run.c_program.first(&etcd.endpoint(), workers));
    }
    go.stop();
    let what =
        format!("the first listing of {workers} workers by a new C process; Go reads both ranges");
    let line = Line::new(
        what,
        Unit::Seconds,
        first.ours.median(),
        Target::TimesBound(1.1),
    );
    let line = line.bound(first.go.median()).etcd(version);
    // Starting and connecting are a part of it, which count where there is little to list.
    run.table.add(if workers < 1_000 {
        line
    } else {
        line.promise(LISTING_PROMISE)
    });
}

/// What etcd sends to a reader while nothing changes.
pub async fn idle_reader(run: &mut Run, version: EtcdVersion) {
    let interval = run.scale(Duration::from_secs(10), Duration::from_secs(1));
    let workers = run.usual_workers();
    let etcd = Etcd::start(version).await;
    put_workers(&etcd, 1..workers + 1).await;
    let sent = || etcd.metric("etcd_network_client_grpc_sent_bytes_total", &[]) as f64;

    let mut go = Go::start(&etcd);
    let before = sent();
    go.ask("range", 1, &format!("{RING} {LIVE}"));
    let listing = sent() - before;
    go.stop();

    let reader = open(&[etcd.endpoint()], &[]);
    reader.view().await.expect("a first view");
    // The first comparison belongs to the first listing. All workers were written by few
    // transactions here, so its answer has many keys.
    while reader.status().expect("open").view_counters.checks == 0 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let before = sent();
    tokio::time::sleep(interval).await;
    let idle = sent() - before;
    let what = format!(
        "bytes to an idle reader of {workers} workers in {} s; Go lists once",
        interval.as_secs()
    );
    let line = Line::new(what, Unit::Bytes, idle, Target::TimesBound(IDLE_PROMISE));
    run.table
        .add(line.bound(listing).promise(IDLE_PROMISE).etcd(version));
}

/// Which values a promise is about.
#[derive(PartialEq)]
enum Promise {
    Median,
    Both,
}

/// The durations of both sides.
#[derive(Default)]
struct Pairs {
    go: Samples,
    ours: Samples,
}

impl Pairs {
    /// Adds a line for the median and one for the slowest hundredth.
    fn report(
        &self,
        run: &mut Run,
        what: &str,
        version: EtcdVersion,
        limit: f64,
        promise: Promise,
    ) {
        let line = |percent, what: String, limit, promised| {
            let ours = self.ours.percentile(percent);
            let line = Line::new(what, Unit::Seconds, ours, Target::TimesBound(limit));
            let line = line.bound(self.go.percentile(percent)).etcd(version);
            if promised {
                line.promise(CHANGE_PROMISE)
            } else {
                line
            }
        };
        run.table.add(line(50, what.to_string(), limit, true));
        let slowest = format!("{what}, 99th percentile");
        run.table
            .add(line(99, slowest, 1.2, promise == Promise::Both));
    }
}
