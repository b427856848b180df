//! The cost of calls that need no answer of etcd. `scripts/instructions` counts what the functions
//! `measured_...` execute.

use futures_util::FutureExt;

use super::*;
use crate::view::MemberFilter;

fn config() -> Config {
    let config = Config::etcd(["http://127.0.0.1:1"]).build();
    config.expect("a good configuration")
}

/// Opens a manager that has listed this many workers and asks etcd nothing.
pub(crate) fn listed(workers: u32) -> Membership {
    let membership = Membership::open(&config()).expect("opening never waits");
    let Members::Etcd(etcd) = &membership.inner.members else {
        unreachable!("the configuration names an etcd");
    };
    etcd.cluster.roster().list_generated(workers);
    membership
}

#[inline(never)]
fn measured_list(membership: &Membership) -> usize {
    let view = membership.view().now_or_never().expect("in memory");
    view.expect("a view").members(MemberFilter::Live).len()
}

#[inline(never)]
fn measured_open(config: &Config) -> Membership {
    Membership::open(config).expect("opening never waits")
}

#[tokio::test]
#[ignore = "for scripts/instructions"]
async fn an_unchanged_list() {
    let membership = listed(1_000);
    membership.view().await.expect("a view");
    for _ in 0..100 {
        assert_eq!(measured_list(&membership), 1_000);
    }
}

#[tokio::test]
#[ignore = "for scripts/instructions"]
async fn opening() {
    let config = config();
    for _ in 0..10 {
        drop(measured_open(&config));
    }
}
