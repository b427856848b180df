//! What many registered workers cost an etcd, and how soon they are back after an outage.

use std::fmt::Write;
use std::time::{Duration, Instant};

use crate::Run;
use crate::cluster::put_workers;
use crate::common::{Etcd, EtcdVersion};
use crate::crowd::Crowd;
use crate::process::Usage;
use crate::table::{Line, Target, Unit, amount};

/// The TTL that Alluxio's properties have at first.
const USUAL_TTL: &str = "1min";
const PROCESSES: i64 = 10;

/// What an etcd has to do with so many workers.
pub struct Load {
    workers: i64,
    connections: f64,
    streams: f64,
    requests: f64,
    processor: f64,
    memory: f64,
}

/// The streams that are open: of watches and of renewals.
fn streams(etcd: &Etcd) -> f64 {
    let stream = [r#"grpc_type="bidi_stream""#];
    let count = |name| etcd.metric(name, &stream) as f64;
    count("grpc_server_started_total") - count("grpc_server_handled_total")
}

fn requests(etcd: &Etcd) -> f64 {
    etcd.metric("grpc_server_msg_received_total", &[]) as f64
}

/// Waits until the workers that have just joined have opened all their streams.
async fn settled(etcd: &Etcd) {
    let mut before = f64::NAN;
    while before != streams(etcd) {
        before = streams(etcd);
        tokio::time::sleep(Duration::from_secs(5)).await;
    }
}

fn usage(etcd: &Etcd) -> Usage {
    Usage::of(etcd.pid().expect("etcd runs"))
}

/// A curve over the number of workers, of which none lists.
pub async fn scaling(run: &mut Run) {
    let time = run.scale(Duration::from_secs(20), Duration::from_secs(2));
    for workers in run.scale([1_000, 3_000, 10_000], [10, 20, 50]) {
        let etcd = Etcd::start(EtcdVersion::V3_6).await;
        let alone = usage(&etcd);
        let crowd = Crowd::start(
            &etcd.endpoint(),
            PROCESSES,
            workers / PROCESSES,
            0,
            USUAL_TTL,
        );
        if !run.is_quick {
            settled(&etcd).await;
        }
        let (before, asked) = (usage(&etcd), requests(&etcd));
        tokio::time::sleep(time).await;
        let (after, seconds) = (usage(&etcd), time.as_secs_f64());
        let load = Load {
            workers,
            connections: after.descriptors - alone.descriptors,
            streams: streams(&etcd),
            requests: (requests(&etcd) - asked) / seconds,
            processor: (after.processor - before.processor) / seconds,
            memory: after.memory,
        };
        println!("{}", load.row());
        run.loads.push(load);
        drop(crowd);
    }
}

impl Load {
    fn row(&self) -> String {
        format!(
            "| {} | {} | {} | {:.0}/s | {:.1} % | {} |",
            self.workers,
            self.connections,
            self.streams,
            self.requests,
            self.processor * 100.0,
            amount(Unit::Bytes, self.memory)
        )
    }
}

/// The table for `scaling.md`.
pub fn table(loads: &[Load]) -> String {
    let mut text = String::from(
        "| workers | connections | open streams | requests | of one processor | memory |\n\
         |--:|--:|--:|--:|--:|--:|\n",
    );
    for load in loads {
        writeln!(text, "{}", load.row()).expect("a text");
    }
    text
}

/// All workers and readers lose their etcd for a while.
pub async fn storm(run: &mut Run) {
    let (workers, readers) = run.scale((1_000, 100), (50, 10));
    let outage = run.scale(Duration::from_secs(10), Duration::from_secs(6));
    let etcd = Etcd::start(EtcdVersion::V3_6).await;
    let mut crowd = Crowd::start(
        &etcd.endpoint(),
        PROCESSES,
        workers / PROCESSES,
        readers / PROCESSES,
        "5s",
    );
    etcd.kill();
    tokio::time::sleep(outage).await;
    etcd.restart().await;
    let start = Instant::now();
    let newcomer = workers + 1;
    put_workers(&etcd, newcomer..newcomer + 1).await;
    crowd.wait_until_back(newcomer);
    let back = start.elapsed().as_secs_f64();
    let load = usage(&etcd);
    let of = format!(
        "after etcd was away for {} s: {workers} workers and {readers} readers",
        outage.as_secs()
    );
    let version = EtcdVersion::V3_6;
    let line = Line::new(
        format!("until all are back {of}"),
        Unit::Seconds,
        back,
        Target::AtMost(5.0),
    );
    run.table.add(line.etcd(version));
    let all = back.max(f64::MIN_POSITIVE);
    for (what, unit, value) in [
        (
            "requests a second to etcd",
            Unit::PerSecond,
            requests(&etcd) / all,
        ),
        (
            "processors that etcd uses",
            Unit::Count,
            load.processor / all,
        ),
        ("memory of etcd", Unit::Bytes, load.memory),
    ] {
        let line = Line::new(format!("{what} {of}"), unit, value, Target::None);
        run.table.add(line.etcd(version));
    }
}
