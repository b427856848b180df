//! The first listing from Java after a change.

use std::time::Duration;

use crate::Run;
use crate::cluster::{change, next, put_workers};
use crate::common::{Etcd, EtcdVersion};
use crate::java::Side;
use crate::samples::Samples;
use crate::scene::open;
use crate::table::{Line, Target, Unit};

/// The listing after a change takes at least so many times less than with the stock class.
const LESS_THAN_STOCK: f64 = 200.0;
/// A view of our own shows when the change is everywhere; the one of the JVM may be a moment later.
const LATER: Duration = Duration::from_millis(10);

/// Both numbers of workers, and that the greater one costs no more.
pub async fn lines(run: &mut Run) {
    let mut medians = Vec::new();
    for workers in run.scale([1_000, 5_000], [50, 100]) {
        let [stock, ours] = measure(run, workers).await;
        let what = format!("a list of {workers} workers from Java after one change");
        let target = Target::TimesLessThanStock(LESS_THAN_STOCK);
        let line = Line::new(what, Unit::Seconds, ours, target);
        run.table.add(line.stock(stock).etcd(EtcdVersion::V3_6));
        medians.push((workers, ours));
    }
    let [(few, of_few), (many, of_many)] = medians[..] else {
        unreachable!("two numbers of workers");
    };
    let what = format!("a list of {many} workers from Java after one change; of {few}");
    let line = Line::new(what, Unit::Seconds, of_many, Target::TimesBound(1.5));
    run.table.add(line.bound(of_few).etcd(EtcdVersion::V3_6));
}

/// The medians of the stock class and of ours.
async fn measure(run: &Run, workers: i64) -> [f64; 2] {
    let etcd = Etcd::start(EtcdVersion::V3_6).await;
    put_workers(&etcd, 1..workers + 1).await;
    let mut client = etcd.client().await;
    let reader = open(&[etcd.endpoint()], &[]);
    let mut view = reader.view().await.expect("a first view");
    let mut jvms = Side::BOTH.map(|side| {
        let mut jvm = run.java.probe(side, &[etcd.endpoint()]);
        jvm.open(usize::try_from(workers).expect("small"));
        jvm
    });
    let mut samples = [(); 2].map(|()| Samples::default());
    // The first ones are the compiler's.
    let (warm_up, measured) = run.scale((150, 100), (10, 10));
    // The stock class takes so long that one in ten is enough.
    for sample in 0..warm_up + measured {
        change(&mut client, 1, 1 + sample).await;
        view = next(&reader, &view).await;
        tokio::time::sleep(LATER).await;
        for ((jvm, samples), every) in jvms.iter_mut().zip(&mut samples).zip([10, 1]) {
            if sample % every == 0 {
                let listing = jvm.list(1);
                if sample >= warm_up {
                    samples.extend(listing);
                }
            }
        }
    }
    samples.map(|samples| samples.median())
}
