//! Listings of a cluster in which nothing changes: what most calls are.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use crate::Run;
use crate::common::{Etcd, EtcdVersion};
use crate::java::Side;
use crate::scene::{PATIENT, open};
use crate::table::{Line, Target, Unit};

/// An unchanged listing from Java may take so many times as long as a native method that does nothing.
const OF_AN_EMPTY_CALL: f64 = 3.0;
/// In C and Rust, so many times as long as copying and dropping an `Arc`.
const OF_A_CLONE: f64 = 5.0;
const THREADS: usize = 8;

/// One number of workers: times and garbage from Java, both classes in turn.
pub async fn from_java(run: &mut Run, etcd: &Etcd, workers: i64) {
    let endpoint = etcd.endpoint();
    let empty = run.java.empty_call_rate(1);
    let stock = run.java.listing(Side::Stock, &endpoint, workers, "all", 1);
    let ours = run.java.listing(Side::Ours, &endpoint, workers, "all", 1);
    let ours = ours.expect("a listing never fails here");
    run.curves.add(workers, stock, ours, empty);

    let what =
        format!("an unchanged list of all of {workers} workers from Java; an empty native call");
    time_line(
        run,
        what,
        stock.map(|rate| rate.seconds()),
        ours.seconds(),
        empty.seconds(),
    );
    let what = format!("bytes of garbage per unchanged list of {workers} workers");
    garbage_line(run, what, stock.map(|rate| rate.garbage), ours.garbage);

    // The ends and the middle say what there is to say about the rest.
    if workers == 1_000 || workers == run.most_workers() {
        for (method, name) in [
            ("live", "the live"),
            ("failed", "the lost"),
            ("show", "the table"),
        ] {
            let stock = (workers == 1_000)
                .then(|| run.java.listing(Side::Stock, &endpoint, workers, method, 1))
                .flatten();
            let ours = run.java.listing(Side::Ours, &endpoint, workers, method, 1);
            let ours = ours.expect("a listing never fails here");
            let what = format!(
                "an unchanged list of {name} of {workers} workers from Java; an empty native call"
            );
            time_line(
                run,
                what,
                stock.map(|rate| rate.seconds()),
                ours.seconds(),
                empty.seconds(),
            );
            if method == "show" {
                let what = format!("bytes of garbage per unchanged table of {workers} workers");
                garbage_line(run, what, stock.map(|rate| rate.garbage), ours.garbage);
            }
        }
    }
    if workers == 1_000 || workers == run.most_workers() {
        let empty = run.java.empty_call_rate(THREADS);
        let many = run
            .java
            .listing(Side::Ours, &endpoint, workers, "all", THREADS);
        let many = many.expect("a listing never fails here");
        let what = format!("unchanged lists of {workers} workers by {THREADS} threads; by one");
        let line = Line::new(what, Unit::Calls, many.per_second, Target::AtLeastBound);
        run.table.add(line.bound(ours.per_second));
        let what = format!(
            "an unchanged list of {workers} workers in each of {THREADS} threads; empty native calls"
        );
        time_line(run, what, None, many.seconds(), empty.seconds());
    }
}

/// Whether the cost of an unchanged list depends on the number of workers.
pub fn independence(run: &mut Run) {
    let (Some(few), Some(many)) = (run.curves.ours.first(), run.curves.ours.last()) else {
        return;
    };
    let what = format!(
        "an unchanged list of {} workers from Java; of {}",
        many.0, few.0
    );
    let line = Line::new(what, Unit::Seconds, many.1, Target::TimesBound(1.2)).bound(few.1);
    run.table.add(line);
}

fn time_line(run: &mut Run, what: String, stock: Option<f64>, ours: f64, empty: f64) {
    let line = Line::new(
        what,
        Unit::Seconds,
        ours,
        Target::TimesBound(OF_AN_EMPTY_CALL),
    )
    .bound(empty);
    run.table
        .add(with_stock(line, stock).etcd(EtcdVersion::V3_6));
}

fn garbage_line(run: &mut Run, what: String, stock: Option<f64>, ours: f64) {
    // JMH counts what its own threads allocate too.
    let line = Line::new(what, Unit::Bytes, ours, Target::AtMost(1.0));
    run.table
        .add(with_stock(line, stock).etcd(EtcdVersion::V3_6));
}

fn with_stock(line: Line, stock: Option<f64>) -> Line {
    match stock {
        Some(stock) => line.stock(stock),
        None => line,
    }
}

/// The same in Rust and in C.
pub async fn from_rust_and_c(run: &mut Run, etcd: &Etcd, workers: i64) {
    let calls = run.scale(2_000_000, 20_000);
    let reader = open(&[etcd.endpoint()], &[PATIENT[0]]);
    let view = reader.view().await.expect("a first view");
    let start = Instant::now();
    for _ in 0..calls {
        drop(black_box(Arc::clone(black_box(&view))));
    }
    let clone = start.elapsed().as_secs_f64() / calls as f64;
    let start = Instant::now();
    for _ in 0..calls {
        black_box(reader.view().await.expect("a view"));
    }
    let rust = start.elapsed().as_secs_f64() / calls as f64;
    let c = run
        .c_program
        .unchanged(&etcd.endpoint(), u32::try_from(calls).expect("small"));
    for (language, seconds) in [("Rust", rust), ("C", c)] {
        let what = format!(
            "an unchanged list of {workers} workers in {language}, with its release; an Arc's clone"
        );
        let line = Line::new(what, Unit::Seconds, seconds, Target::TimesBound(OF_A_CLONE));
        run.table.add(line.bound(clone).etcd(EtcdVersion::V3_6));
    }
}
