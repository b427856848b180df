//! Listings while one member of etcd's cluster after the other is frozen.

use std::time::Duration;

use crate::Run;
use crate::cluster::put_workers;
use crate::common::{EtcdCluster, EtcdVersion};
use crate::java::Side;
use crate::table::{Line, Target, Unit};

const WORKERS: i64 = 100;
const PAUSE_MILLIS: u64 = 50;

/// When a call began and how long it took, in seconds.
pub type Call = (f64, f64);

/// What happened to the calls of both sides.
pub struct Frozen {
    pub stock: Vec<Call>,
    pub ours: Vec<Call>,
    /// From when to when a member was frozen.
    pub times: Vec<(f64, f64)>,
    /// How long all of it took.
    pub end: f64,
}

/// Lists all the time, in a JVM of each side, while the members are frozen in turn.
pub async fn lines(run: &mut Run) {
    let (frozen_for, between) = run.scale((10, 5), (2, 1));
    let cluster = EtcdCluster::start(EtcdVersion::V3_6, 3).await;
    put_workers(&cluster.members()[0], 1..WORKERS + 1).await;
    let mut jvms = Side::BOTH.map(|side| run.java.probe(side, &cluster.endpoints()));
    for jvm in &mut jvms {
        jvm.open(usize::try_from(WORKERS).expect("small"));
        // Most of it is compiled then.
        jvm.list(200);
    }
    let end = between + 3 * (frozen_for + between);
    jvms.iter_mut()
        .for_each(|jvm| jvm.tell(&format!("during {PAUSE_MILLIS} {}", end * 1_000)));
    let mut times = Vec::new();
    let mut now = 0;
    for member in cluster.members() {
        tokio::time::sleep(Duration::from_secs(between)).await;
        member.pause();
        tokio::time::sleep(Duration::from_secs(frozen_for)).await;
        member.resume();
        now += between;
        times.push((now as f64, (now + frozen_for) as f64));
        now += frozen_for;
    }
    let [stock, ours] = jvms.each_mut().map(|jvm| seconds(&jvm.answer()));
    let worst = |calls: &[Call]| calls.iter().map(|call| call.1).fold(0.0, f64::max);
    let what = "the slowest list while one of three etcd members is frozen";
    let line = Line::new(what, Unit::Seconds, worst(&ours), Target::BelowStock);
    run.table
        .add(line.stock(worst(&stock)).etcd(EtcdVersion::V3_6));
    run.frozen = Some(Frozen {
        stock,
        ours,
        times,
        end: end as f64,
    });
}

fn seconds(answer: &[i64]) -> Vec<Call> {
    let seconds = |nanos: i64| nanos as f64 / 1e9;
    // The time of a call that failed is negative.
    answer
        .chunks(2)
        .map(|call| (seconds(call[0]), seconds(call[1].abs())))
        .collect()
}
