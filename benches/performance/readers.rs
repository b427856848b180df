//! Ten JVMs that list the workers each second: what that costs etcd.

use std::time::Duration;

use crate::Run;
use crate::cluster::put_workers;
use crate::common::{Etcd, EtcdVersion};
use crate::java::Side;
use crate::process::Usage;
use crate::table::{Line, Target, Unit};

const READERS: usize = 10;

/// What an etcd has done until a moment.
struct Work {
    sent: f64,
    requests: f64,
    processor: f64,
}

impl Work {
    fn of(etcd: &Etcd) -> Work {
        let count = |name: &str| etcd.metric(name, &[]) as f64;
        Work {
            sent: count("etcd_network_client_grpc_sent_bytes_total"),
            // Messages on streams are requests too.
            requests: count("grpc_server_msg_received_total"),
            processor: Usage::of(etcd.pid().expect("etcd runs")).processor,
        }
    }

    fn since(&self, earlier: &Work) -> Work {
        Work {
            sent: self.sent - earlier.sent,
            requests: self.requests - earlier.requests,
            processor: self.processor - earlier.processor,
        }
    }
}

/// Both sides at a time, each with an etcd of its own: nothing here is a duration.
pub async fn lines(run: &mut Run) {
    let workers = run.usual_workers();
    let readers = run.scale(READERS, 2);
    let seconds = run.scale(60, 3);
    let mut sides = Vec::new();
    for side in Side::BOTH {
        let etcd = Etcd::start(EtcdVersion::V3_6).await;
        put_workers(&etcd, 1..workers + 1).await;
        let mut jvms: Vec<_> = (0..readers)
            .map(|_| run.java.probe(side, &[etcd.endpoint()]))
            .collect();
        // All start at a time.
        jvms.iter_mut().for_each(|jvm| jvm.tell("open"));
        jvms.iter_mut().for_each(|jvm| drop(jvm.answer()));
        sides.push((etcd, jvms));
    }
    let mut before: Vec<Work> = Vec::new();
    for (etcd, jvms) in &mut sides {
        before.push(Work::of(etcd));
        jvms.iter_mut()
            .for_each(|jvm| jvm.tell(&format!("during 1000 {}", seconds * 1_000)));
    }
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    let mut work = Vec::new();
    for ((etcd, jvms), before) in sides.iter_mut().zip(&before) {
        work.push(Work::of(etcd).since(before));
        for jvm in jvms {
            let calls = jvm.answer();
            assert!(
                calls.iter().all(|number| *number >= 0),
                "a listing failed: {calls:?}"
            );
        }
    }
    let [stock, ours] = &work[..] else {
        unreachable!("two sides");
    };
    let doing = format!(
        "{readers} JVMs, one list of the live of {workers} workers a second for {seconds} s"
    );
    let share = Target::PercentOfStock(0.1);
    for (what, unit, target, stock, ours) in [
        ("bytes from etcd", Unit::Bytes, share, stock.sent, ours.sent),
        (
            "requests to etcd",
            Unit::Count,
            Target::BelowStock,
            stock.requests,
            ours.requests,
        ),
        (
            "processor time of etcd",
            Unit::Seconds,
            Target::BelowStock,
            stock.processor,
            ours.processor,
        ),
    ] {
        let line = Line::new(format!("{what}: {doing}"), unit, ours, target);
        run.table.add(line.stock(stock).etcd(EtcdVersion::V3_6));
    }
}
