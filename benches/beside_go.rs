//! What the library promises about speed, beside etcd's own Go client on the same etcd, in one run.
//!
//! Both sides take turns, so that what slows the machine slows both; what counts is the ratio. `make bench` runs this.

#[path = "../tests/common/mod.rs"]
mod common;
#[path = "../tests/faults/scene.rs"]
#[allow(dead_code)]
mod scene;

use std::io::{BufRead, BufReader, Lines, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use alluxio_membership::membership::Membership;
use alluxio_membership::record;
use alluxio_membership::view::ClusterView;

use crate::common::{Etcd, EtcdVersion};
use crate::scene::{LIVE, RING, open, put_workers, worker};

/// Listings of 100,000 workers must not fail for want of time on a slow machine.
const PATIENT: (&str, &str) = ("alluxio.membership.native.operation.timeout", "60s");
const LINEARIZABLE: (&str, &str) = ("alluxio.membership.native.read.mode", "LINEARIZABLE");
const TURNS: usize = 10;
const LONG: Duration = Duration::from_secs(60);

#[tokio::main]
async fn main() -> ExitCode {
    println!("| measured | etcd | Go p50 | p99 | ours p50 | p99 | ratio p50 | p99 | at most | |");
    println!("|---|---|--:|--:|--:|--:|--:|--:|--:|---|");
    let mut kept = true;
    for version in EtcdVersion::ALL {
        kept &= changes(version).await;
        for workers in [10, 1_000, 10_000, 100_000] {
            kept &= listings(version, workers).await;
        }
        kept &= idle_reader(version).await;
    }
    if kept {
        ExitCode::SUCCESS
    } else {
        println!("\nsome of it is slower than promised");
        ExitCode::FAILURE
    }
}

/// From a write by one client to its being visible to another.
async fn changes(version: EtcdVersion) -> bool {
    const EACH: usize = 50;
    let etcd = Etcd::start(version).await;
    put_workers(&etcd, 1..100).await;
    let mut go = Go::start(&etcd);
    let (reader, writer) = (open(&[etcd.endpoint()], &[]), open(&[etcd.endpoint()], &[]));
    let mut view = reader.view().await.expect("a first view");
    let mut client = etcd.client().await;
    let [mut event, mut join, mut rejoin, mut leave] = [(); 4].map(|()| Pairs::default());
    for turn in 0..TURNS {
        event.go.extend(go.ask("event", EACH, "/go/event"));
        for sample in 0..EACH {
            let mut changed = worker(1);
            changed.address.rpc_port = i32::try_from(1 + turn * EACH + sample).expect("small");
            let key = format!("{LIVE}{}", changed.identity);
            let start = Instant::now();
            client
                .put(key, record::encode(&changed), None)
                .await
                .expect("put");
            view = next(&reader, &view).await;
            event.ours.push(start.elapsed());
        }

        let joins = go.ask("join", EACH, "/go/join");
        join.go.extend(&joins);
        rejoin.go.extend(&joins);
        leave.go.extend(go.answer());
        for sample in 0..EACH {
            let number = i64::try_from(1_000 + turn * EACH + sample).expect("small");
            for joins in [&mut join.ours, &mut rejoin.ours] {
                let start = Instant::now();
                scene::join(&writer, number).await;
                view = until(&reader, view, |view| is_live(view, number)).await;
                joins.push(start.elapsed());

                let start = Instant::now();
                let identity = worker(number).identity;
                writer.stop_heartbeat(&identity).await.expect("leave");
                view = until(&reader, view, |view| !is_live(view, number)).await;
                leave.ours.push(start.elapsed());
            }
        }
    }
    go.stop();
    event.report(
        "a change, until another process has it",
        version,
        2.0,
        Judged::Both,
    ) & join.report(
        "a worker's first join, until another process lists it",
        version,
        2.0,
        Judged::Median,
    ) & rejoin.report(
        "a known worker's join, until another process lists it",
        version,
        2.0,
        Judged::Median,
    ) & leave.report(
        "a leave, until another process lists it as lost",
        version,
        2.0,
        Judged::Median,
    )
}

/// Lists of many workers.
async fn listings(version: EtcdVersion, workers: i64) -> bool {
    let etcd = Etcd::start(version).await;
    put_workers(&etcd, 1..workers + 1).await;
    let count = usize::try_from(workers).expect("small");
    let mut go = Go::start(&etcd);

    let reader = open(&[etcd.endpoint()], &[PATIENT, LINEARIZABLE]);
    reader.view().await.expect("a first view");
    let mut linearizable = Pairs::default();
    for _ in 0..TURNS {
        linearizable.go.extend(go.ask("get", 100, "/go/get"));
        for _ in 0..100 {
            let start = Instant::now();
            let view = reader.view().await.expect("a linearizable view");
            linearizable.ours.push(start.elapsed());
            assert_eq!(
                view.members(alluxio_membership::view::MemberFilter::Live)
                    .len(),
                count
            );
        }
    }
    reader.close().await.expect("close");
    drop(reader);

    let mut first = Pairs::default();
    for _ in 0..TURNS {
        first
            .go
            .extend(go.ask("range", 1, &format!("{RING} {LIVE}")));
        let start = Instant::now();
        let reader = open(&[etcd.endpoint()], &[PATIENT]);
        let view = reader.view().await.expect("a first view");
        first.ours.push(start.elapsed());
        assert_eq!(
            view.members(alluxio_membership::view::MemberFilter::Live)
                .len(),
            count
        );
        reader.close().await.expect("close");
    }
    go.stop();
    let what = format!("a linearizable listing of {workers} workers; Go reads one key");
    let kept = linearizable.report(&what, version, 1.5, Judged::Median);
    let what = format!("the first listing of {workers} workers; Go reads both ranges");
    // Connecting is a part of it, which counts where there is little to list.
    let judged = if workers < 1_000 {
        Judged::Not
    } else {
        Judged::Median
    };
    first.report(&what, version, 1.5, judged) & kept
}

/// What etcd sends to a reader of 1,000 workers while nothing changes.
async fn idle_reader(version: EtcdVersion) -> bool {
    const STOCK_INTERVAL: Duration = Duration::from_secs(10);
    let etcd = Etcd::start(version).await;
    put_workers(&etcd, 1..1_001).await;
    let sent = || etcd.metric("etcd_network_client_grpc_sent_bytes_total", &[]);

    let mut go = Go::start(&etcd);
    let before = sent();
    go.ask("range", 1, &format!("{RING} {LIVE}"));
    let stock = sent() - before;
    go.stop();

    let reader = open(&[etcd.endpoint()], &[]);
    reader.view().await.expect("a first view");
    let before = sent();
    // Bytes are counted over time.
    tokio::time::sleep(STOCK_INTERVAL * 2).await;
    let ours = (sent() - before) / 2;
    let percent = 100.0 * ours as f64 / stock as f64;
    let kept = percent < 1.0;
    println!(
        "| bytes from etcd to an idle reader of 1000 workers in 10 s; Go lists once | {version} | {stock} | | {ours} | | {percent:.2} % | | 1 % | {} |",
        verdict(kept)
    );
    kept
}

fn is_live(view: &ClusterView, number: i64) -> bool {
    view.is_live(&worker(number).identity)
}

type View = std::sync::Arc<ClusterView>;

async fn next(reader: &Membership, view: &ClusterView) -> View {
    let next = reader.wait_for_change(view.version(), LONG).await;
    next.expect("open").expect("a newer view")
}

async fn until(reader: &Membership, mut view: View, seen: impl Fn(&ClusterView) -> bool) -> View {
    while !seen(&view) {
        view = next(reader, &view).await;
    }
    view
}

/// The Go program, which keeps its connections between questions.
struct Go {
    process: Child,
    questions: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
}

impl Go {
    fn start(etcd: &Etcd) -> Go {
        let program = Path::new(env!("CARGO_MANIFEST_DIR")).join(".tools/bin/go-client");
        let mut command = Command::new(&program);
        command
            .arg(etcd.endpoint())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut process = common::spawn(command)
            .unwrap_or_else(|error| panic!("{}: {error}; run `make bench`", program.display()));
        let questions = process.stdin.take().expect("piped");
        let answers = BufReader::new(process.stdout.take().expect("piped")).lines();
        Go {
            process,
            questions,
            answers,
        }
    }

    fn ask(&mut self, command: &str, count: usize, keys: &str) -> Vec<Duration> {
        writeln!(self.questions, "{command} {count} {keys}").expect("the Go client runs");
        self.answer()
    }

    fn answer(&mut self) -> Vec<Duration> {
        let line = self
            .answers
            .next()
            .expect("the Go client answers")
            .expect("text");
        let nanos = line
            .split(' ')
            .map(|nanos| nanos.parse().expect("a number"));
        nanos.map(Duration::from_nanos).collect()
    }

    fn stop(mut self) {
        drop(self.questions);
        self.process.wait().expect("the Go client ends");
    }
}

/// What a promise is about.
enum Judged {
    Not,
    Median,
    Both,
}

/// The durations of both sides.
#[derive(Default)]
struct Pairs {
    go: Vec<Duration>,
    ours: Vec<Duration>,
}

impl Pairs {
    /// Prints a row; false if what is judged of ours took more than `limit` times as long.
    fn report(self, what: &str, version: EtcdVersion, limit: f64, judged: Judged) -> bool {
        let [go, ours] = [self.go, self.ours].map(|mut durations| {
            durations.sort();
            [50, 99]
                .map(|percent| durations[(durations.len() - 1) * percent / 100].as_secs_f64() * 1e3)
        });
        let ratios = [0, 1].map(|which| ours[which] / go[which]);
        let kept = match judged {
            Judged::Not => true,
            Judged::Median => ratios[0] <= limit,
            Judged::Both => ratios.iter().all(|ratio| *ratio <= limit),
        };
        println!(
            "| {what} | {version} | {:.2} ms | {:.2} ms | {:.2} ms | {:.2} ms | {:.2} | {:.2} | {limit} | {} |",
            go[0],
            go[1],
            ours[0],
            ours[1],
            ratios[0],
            ratios[1],
            match judged {
                Judged::Not => "",
                _ => verdict(kept),
            }
        );
        kept
    }
}

fn verdict(kept: bool) -> &'static str {
    if kept { "kept" } else { "**missed**" }
}
