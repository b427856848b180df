//! What a process gets with the library: how soon it has a list, and which resources it takes.

use std::io::Write;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::Run;
use crate::cluster::put_workers;
use crate::common::{Etcd, EtcdVersion};
use crate::java::{Probe, Side, which};
use crate::process::Usage;
use crate::samples::Samples;
use crate::scene::RING;
use crate::table::{Line, Target, Unit};

/// The library may have so many bytes.
const MOST_BYTES: f64 = 5e6;

/// Everything here is measured with one cluster.
pub async fn lines(run: &mut Run) {
    let workers = run.usual_workers();
    let etcd = Etcd::start(EtcdVersion::V3_6).await;
    put_workers(&etcd, 1..workers + 1).await;
    first_list_of_a_jvm(run, &etcd, workers);
    footprint_in_a_jvm(run, &etcd, workers).await;
    idle_c_process(run, &etcd).await;
    tool(run, &etcd, workers);
    sizes(run);
}

fn first_list_of_a_jvm(run: &mut Run, etcd: &Etcd, workers: i64) {
    let count = usize::try_from(workers).expect("small");
    let mut samples = [(); 2].map(|()| Samples::default());
    for _ in 0..run.scale(7, 1) {
        for (side, samples) in Side::BOTH.into_iter().zip(&mut samples) {
            samples.add(run.java.probe(side, &[etcd.endpoint()]).open(count));
        }
    }
    let [stock, ours] = samples.map(|samples| samples.median());
    let what = format!(
        "the first list of {workers} workers in a new JVM, once its configuration is loaded"
    );
    let line = Line::new(what, Unit::Seconds, ours, Target::TimesLessThanStock(5.0));
    run.table.add(line.stock(stock).etcd(EtcdVersion::V3_6));
}

/// What a JVM has of something.
struct Footprint {
    classes: f64,
    heap: f64,
    memory: f64,
    threads: f64,
    descriptors: f64,
    /// Per second, while it does nothing.
    wakeups: f64,
    /// Seconds per second.
    processor: f64,
}

/// One number of a footprint.
type Of = fn(&Footprint) -> f64;

/// A JVM that has loaded Alluxio's configuration, and the same JVM with a manager.
async fn footprints(jvm: &mut Probe, idle: Duration, workers: usize) -> [Footprint; 2] {
    let before = rest(jvm, idle).await;
    jvm.open(workers);
    jvm.list(10);
    [before, rest(jvm, idle).await]
}

/// Collects garbage, and looks at a JVM that does nothing for a while.
async fn rest(jvm: &mut Probe, idle: Duration) -> Footprint {
    let [classes, heap] = jvm.ask("memory")[..] else {
        panic!("the JVM tells two numbers");
    };
    // The garbage collector's and the compiler's threads come to rest.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let start = Usage::of(jvm.pid());
    tokio::time::sleep(idle).await;
    let end = Usage::of(jvm.pid());
    let seconds = idle.as_secs_f64();
    Footprint {
        classes: classes as f64,
        heap: heap as f64,
        memory: end.memory,
        threads: end.threads,
        descriptors: end.descriptors,
        wakeups: (end.wakeups - start.wakeups) / seconds,
        processor: (end.processor - start.processor) / seconds,
    }
}

async fn footprint_in_a_jvm(run: &mut Run, etcd: &Etcd, workers: i64) {
    let count = usize::try_from(workers).expect("small");
    let idle = run.scale(Duration::from_secs(15), Duration::from_secs(1));
    let mut jvms = Side::BOTH.map(|side| run.java.probe(side, &[etcd.endpoint()]));
    let [stock, ours] = &mut jvms;
    let (stock, ours) = tokio::join!(
        footprints(stock, idle, count),
        footprints(ours, idle, count)
    );
    let added: [(_, _, Of); 5] = [
        ("resident bytes", Unit::Bytes, |has| has.memory),
        ("bytes of heap", Unit::Bytes, |has| has.heap),
        ("threads", Unit::Count, |has| has.threads),
        ("file descriptors", Unit::Count, |has| has.descriptors),
        ("loaded classes", Unit::Count, |has| has.classes),
    ];
    for (what, unit, of) in added {
        let more = |[before, after]: &[Footprint; 2]| of(after) - of(before);
        let what = format!("{what} that a reader of {workers} workers adds to a JVM");
        let line = Line::new(what, unit, more(&ours), Target::BelowStock).stock(more(&stock));
        run.table.add(line.etcd(EtcdVersion::V3_6));
    }
    let [_, stock] = stock;
    let [_, ours] = ours;
    for (what, unit, stock, ours) in [
        ("wake-ups", Unit::PerSecond, stock.wakeups, ours.wakeups),
        (
            "processor time per second",
            Unit::Seconds,
            stock.processor,
            ours.processor,
        ),
    ] {
        let what = format!("{what} of an idle JVM with a reader of {workers} workers");
        let line = Line::new(what, unit, ours, Target::BelowStock).stock(stock);
        run.table.add(line.etcd(EtcdVersion::V3_6));
    }
}

async fn idle_c_process(run: &mut Run, etcd: &Etcd) {
    let idle = run.scale(Duration::from_secs(20), Duration::from_secs(1));
    let process = run.c_program.idle(&etcd.endpoint());
    tokio::time::sleep(Duration::from_secs(2)).await;
    let before = Usage::of(process.pid());
    tokio::time::sleep(idle).await;
    let wakeups = Usage::of(process.pid()).wakeups - before.wakeups;
    let per_second = wakeups / idle.as_secs_f64();
    let line = Line::new(
        "wake-ups of an idle reader in C",
        Unit::PerSecond,
        per_second,
        Target::AtMost(5.0),
    );
    run.table.add(line.etcd(EtcdVersion::V3_6));
}

/// The tool, a JVM that prints the same table, and a bare range.
fn tool(run: &mut Run, etcd: &Etcd, workers: i64) {
    let tool = env!("CARGO_BIN_EXE_alluxio-membership");
    let endpoint = etcd.endpoint();
    let [mut stock, mut ours, mut bare] = [(); 3].map(|()| Samples::default());
    let etcdctl = which("etcdctl", "etcd-client");
    for turn in 0..run.scale(21, 2) {
        let mut nodes = Command::new(tool);
        nodes.args([
            "nodes",
            "-D",
            "alluxio.worker.membership.manager.type=ETCD",
            "-D",
        ]);
        nodes.arg(format!("alluxio.etcd.endpoints={endpoint}"));
        ours.add(took(&mut nodes, workers));
        let mut get = Command::new(&etcdctl);
        get.env("ETCDCTL_API", "3");
        get.args([
            "--endpoints",
            &endpoint,
            "get",
            "--prefix",
            RING,
            "--print-value-only",
        ]);
        bare.add(took(&mut get, workers));
        // A JVM takes long enough to be sure sooner.
        if turn % 5 == 0 {
            stock.add(show(run, &endpoint));
        }
    }
    let what = format!("alluxio-membership nodes, {workers} workers; etcdctl get of one range");
    let line = Line::new(what, Unit::Seconds, ours.median(), Target::TimesBound(1.3));
    let line = line.stock(stock.median()).bound(bare.median());
    run.table.add(line.etcd(EtcdVersion::V3_6));
}

/// How long a process takes that prints a line for each worker at least.
fn took(command: &mut Command, workers: i64) -> Duration {
    let start = Instant::now();
    let output = command.output().expect("run the program");
    let took = start.elapsed();
    let lines = output.stdout.iter().filter(|byte| **byte == b'\n').count();
    let enough = usize::try_from(workers).expect("small");
    assert!(
        output.status.success() && lines >= enough,
        "{command:?}: {output:?}"
    );
    took
}

fn show(run: &Run, endpoint: &str) -> Duration {
    let start = Instant::now();
    let mut process = run
        .java
        .show(endpoint)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .expect("start a JVM");
    process
        .stdin
        .take()
        .expect("piped")
        .write_all(b"show\n")
        .expect("the JVM runs");
    assert!(process.wait().expect("the JVM ends").success());
    start.elapsed()
}

fn sizes(run: &mut Run) {
    let size = |path: &std::path::Path| path.metadata().expect("built by make").len() as f64;
    let library = Line::new(
        "the library, as it is released",
        Unit::Bytes,
        size(run.c_program.library()),
        Target::AtMost(MOST_BYTES),
    );
    let jar = Line::new(
        "the jar with the library for one platform",
        Unit::Bytes,
        size(run.java.jar()),
        Target::AtMost(MOST_BYTES),
    );
    run.table.add(library);
    run.table.add(jar);
}
