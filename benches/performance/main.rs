//! What the library promises about speed: beside Alluxio's own class in a JVM of its own, beside etcd's Go client, and
//! beside the least that anything could cost. What counts are ratios of one run.
//!
//! `make bench` runs this and writes `docs/performance.md`, its plots and `docs/performance.json`. With `BENCH_QUICK=1`
//! everything is tried with small numbers, in `target/bench`: not for the documentation.

mod after_change;
mod beside_go;
mod c_program;
mod cluster;
#[path = "../../tests/common/mod.rs"]
mod common;
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
}

impl Run {
    /// How much of something: less when it is only tried.
    fn scale<T>(&self, full: T, quick: T) -> T {
        if self.is_quick { quick } else { full }
    }

    fn workers(&self) -> &'static [i64] {
        self.scale(&[10, 100, 1_000, 10_000, 100_000], &[10, 100, 1_000])
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
            self.stock.push((workers, stock.seconds()));
            self.stock_garbage.push((workers, stock.garbage));
        }
        self.ours.push((workers, ours.seconds()));
        self.ours_garbage.push((workers, ours.garbage));
        self.empty.push((workers, empty.seconds()));
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    let is_quick = std::env::var_os("BENCH_QUICK").is_some_and(|value| value != "0");
    // `BENCH_ONLY=readers,frozen` measures these parts alone; there is no page then.
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
    if only.is_none() {
        let docs = run.scale("docs", "target/bench");
        page::write(&run, &Path::new(env!("CARGO_MANIFEST_DIR")).join(docs));
    }
    if run.table.is_every_promise_kept() {
        ExitCode::SUCCESS
    } else {
        println!("\nsome of it is slower than promised");
        ExitCode::FAILURE
    }
}

/// Everything about clusters of so many workers. The versions of etcd differ for those who ask etcd alone.
async fn listings(run: &mut Run, version: EtcdVersion, workers: i64) {
    let etcd = Etcd::start(version).await;
    put_workers(&etcd, 1..workers + 1).await;
    beside_go::listings(run, &etcd, version, workers).await;
    if version == EtcdVersion::V3_6 {
        unchanged::from_java(run, &etcd, workers).await;
        if workers == 1_000 {
            unchanged::from_rust_and_c(run, &etcd, workers).await;
        }
    }
}
