//! Listings of a cluster in which nothing changes: what most calls are.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use crate::Run;
use crate::common::{Etcd, EtcdVersion};
use crate::java::{Case, Effort, Rate, Side};
use crate::scene::{PATIENT, open};
use crate::table::{Line, Target, Unit};

/// An unchanged list from Java may take so many times as long as an empty native method.
const OF_AN_EMPTY_CALL: f64 = 3.0;
/// In C and Rust, so many times as long as copying and dropping an `Arc`.
const OF_A_CLONE: f64 = 5.0;
const THREADS: usize = 8;

/// One number of workers: times and garbage from Java, both classes in turn.
pub async fn from_java(run: &mut Run, etcd: &Etcd, workers: i64) {
    let endpoint = etcd.endpoint();
    let effort = run.scale(Effort::Full, Effort::Quick);
    let case = Case {
        method: "all",
        workers,
        threads: 1,
        effort,
    };
    let empty = run.java.empty_call_rate(1, effort);
    // With more workers than this the stock class takes too long to be measured often.
    let stock_effort = if workers > 1_000 {
        Effort::Once
    } else {
        effort
    };
    let stock_case = Case {
        effort: stock_effort,
        ..case
    };
    let stock = run.java.listing(Side::Stock, &endpoint, stock_case);
    let ours = run.java.listing(Side::Ours, &endpoint, case);
    let ours = ours.expect("a listing never fails here");
    run.curves.add(workers, stock, ours, empty);
    lines(run, "list of all of", case, stock, ours, empty);

    // A usual number of workers and the greatest say what there is to say about the rest.
    if workers != run.usual_workers() && workers != run.most_workers() {
        return;
    }
    for (method, name) in [
        ("live", "list of the live of"),
        ("failed", "list of the lost of"),
        ("show", "table of"),
    ] {
        let case = Case { method, ..case };
        let stock = (workers == run.usual_workers())
            .then(|| run.java.listing(Side::Stock, &endpoint, case))
            .flatten();
        let ours = run.java.listing(Side::Ours, &endpoint, case);
        let ours = ours.expect("a listing never fails here");
        lines(run, name, case, stock, ours, empty);
    }
    let empty = run.java.empty_call_rate(THREADS, effort);
    let case = Case {
        threads: THREADS,
        ..case
    };
    let many = run.java.listing(Side::Ours, &endpoint, case);
    let many = many.expect("a listing never fails here");
    let what = format!("unchanged lists of {workers} workers by {THREADS} threads; by one");
    let line = Line::new(what, Unit::Calls, many.per_second(), Target::AtLeastBound);
    run.table
        .add(line.bound(ours.per_second()).etcd(EtcdVersion::V3_6));
    let what = format!(
        "an unchanged list of {workers} workers in each of {THREADS} threads; empty native calls"
    );
    let line = Line::new(
        what,
        Unit::Seconds,
        many.seconds,
        Target::TimesBound(OF_AN_EMPTY_CALL),
    );
    run.table
        .add(line.bound(empty.seconds).etcd(EtcdVersion::V3_6));
}

/// The time and the garbage of a listing.
fn lines(run: &mut Run, name: &str, case: Case, stock: Option<Rate>, ours: Rate, empty: Rate) {
    let workers = case.workers;
    let with_stock = |line: Line, stock: Option<f64>| match stock {
        Some(stock) => line.stock(stock),
        None => line,
    };
    let what = format!("an unchanged {name} {workers} workers from Java; an empty native call");
    let line = Line::new(
        what,
        Unit::Seconds,
        ours.seconds,
        Target::TimesBound(OF_AN_EMPTY_CALL),
    );
    let line = with_stock(line, stock.map(|rate| rate.seconds)).bound(empty.seconds);
    run.table.add(line.etcd(EtcdVersion::V3_6));
    let what = format!("garbage of an unchanged {name} {workers} workers from Java");
    // JMH counts what its own threads allocate too.
    let line = Line::new(what, Unit::Bytes, ours.garbage, Target::AtMost(1.0));
    let line = with_stock(line, stock.map(|rate| rate.garbage));
    run.table.add(line.etcd(EtcdVersion::V3_6));
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
