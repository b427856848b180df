//! What the library promises about speed: beside Alluxio's own class in a JVM of its own, beside
//! etcd's Go client, and beside the least that anything could cost. Only ratios of one run count.
//!
//! `make bench` runs this and writes `docs/performance.md`, its plots, `docs/performance.json` and
//! `docs/scaling.md`. With `BENCH_QUICK=1` it tries everything with small numbers and writes to
//! `target/bench`. Those numbers are not for the documentation.

mod after_change;
mod beside_go;
mod c_program;
mod cluster;
#[path = "../../tests/common/mod.rs"]
mod common;
mod crowd;
mod crowds;
mod frozen;
mod go;
mod java;
mod page;
mod plots;
mod process;
mod processes;
mod readers;
mod samples;
#[path = "../../tests/faults/scene.rs"]
#[allow(dead_code)]
mod scene;
mod table;
mod unchanged;

use std::path::Path;
use std::process::ExitCode;

use crate::c_program::CProgram;
use crate::cluster::put_workers;
use crate::common::{Etcd, EtcdVersion};
use crate::crowds::Load;
use crate::frozen::Frozen;
use crate::java::{Java, Rate};
use crate::samples::Samples;
use crate::table::Table;

/// One run: what it needs, and what it has found.
pub struct Run {
    is_quick: bool,
    java: Java,
    c_program: CProgram,
    table: Table,
    curves: Curves,
    /// From a write to its being seen elsewhere: Go's and ours.
    changes: Option<(Samples, Samples)>,
    frozen: Option<Frozen>,
    loads: Vec<Load>,
}

impl Run {
    /// How much of something: less when it is only tried.
    fn scale<T>(&self, full: T, quick: T) -> T {
        if self.is_quick { quick } else { full }
    }

    fn workers(&self) -> &'static [i64] {
        self.scale(&[10, 100, 1_000, 5_000, 10_000, 100_000], &[10, 100])
    }

    /// A number of workers that many clusters have.
    fn usual_workers(&self) -> i64 {
        self.scale(1_000, 100)
    }

    fn most_workers(&self) -> i64 {
        *self.workers().last().expect("some")
    }
}

/// An unchanged listing from Java against the number of workers: seconds, and bytes of garbage.
#[derive(Default)]
pub struct Curves {
    stock: Vec<(i64, f64)>,
    ours: Vec<(i64, f64)>,
    empty: Vec<(i64, f64)>,
    stock_garbage: Vec<(i64, f64)>,
    ours_garbage: Vec<(i64, f64)>,
}

impl Curves {
    fn add(&mut self, workers: i64, stock: Option<Rate>, ours: Rate, empty: Rate) {
        if let Some(stock) = stock {
            self.stock.push((workers, stock.seconds));
            self.stock_garbage.push((workers, stock.garbage));
        }
        self.ours.push((workers, ours.seconds));
        self.ours_garbage.push((workers, ours.garbage));
        self.empty.push((workers, empty.seconds));
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().collect();
    if args.get(1).is_some_and(|first| first == crowd::ARGUMENT) {
        crowd::serve(&args[2..]).await;
        return ExitCode::SUCCESS;
    }
    let is_quick = std::env::var_os("BENCH_QUICK").is_some_and(|value| value != "0");
    // `BENCH_ONLY=readers,frozen` measures these parts alone. The page needs all parts.
    let only = std::env::var("BENCH_ONLY").ok();
    let wanted = |part: &str| {
        only.as_ref()
            .is_none_or(|only| only.split(',').any(|one| one == part))
    };
    let folder = tempfile::tempdir().expect("a folder");
    let mut run = Run {
        is_quick,
        java: Java::new(folder.path()),
        c_program: CProgram::new(folder.path()),
        table: Table::default(),
        curves: Curves::default(),
        changes: None,
        frozen: None,
        loads: Vec::new(),
    };
    if wanted("changes") {
        for version in EtcdVersion::ALL {
            beside_go::changes(&mut run, version).await;
        }
    }
    if wanted("listings") {
        for version in EtcdVersion::ALL {
            for workers in run.workers() {
                listings(&mut run, version, *workers).await;
            }
        }
        unchanged::independence(&mut run);
    }
    if wanted("idle") {
        for version in EtcdVersion::ALL {
            beside_go::idle_reader(&mut run, version).await;
        }
    }
    if wanted("after-change") {
        after_change::lines(&mut run).await;
    }
    if wanted("processes") {
        processes::lines(&mut run).await;
    }
    if wanted("readers") {
        readers::lines(&mut run).await;
    }
    if wanted("frozen") {
        frozen::lines(&mut run).await;
    }
    if wanted("scaling") {
        crowds::scaling(&mut run).await;
    }
    if wanted("storm") {
        crowds::storm(&mut run).await;
    }
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join(run.scale("docs", "target/bench"));
    if only.is_none() {
        page::write(&run, &docs);
    }
    if !run.loads.is_empty() {
        page::write_scaling(&run, &docs);
    }
    if run.table.is_every_promise_kept() {
        ExitCode::SUCCESS
    } else {
        println!("\nsome of it is slower than promised");
        ExitCode::FAILURE
    }
}

/// Everything about clusters of so many workers.
async fn listings(run: &mut Run, version: EtcdVersion, workers: i64) {
    let is_beside_go = ![100, 5_000].contains(&workers);
    // The versions of etcd differ only for those who ask etcd each time.
    let is_in_memory = version == EtcdVersion::V3_6;
    if !is_beside_go && !is_in_memory {
        return;
    }
    let etcd = Etcd::start(version).await;
    put_workers(&etcd, 1..workers + 1).await;
    if is_beside_go {
        beside_go::listings(run, &etcd, version, workers).await;
    }
    if is_in_memory {
        unchanged::from_java(run, &etcd, workers).await;
        if workers == run.usual_workers() {
            unchanged::from_rust_and_c(run, &etcd, workers).await;
        }
    }
}
