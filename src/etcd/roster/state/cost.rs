//! The cost of one change. `scripts/instructions` counts what the function `measured_...` executes.

use etcd_client::proto::PbKeyValue;

use super::*;
use crate::record::{self, cost::worker};
use crate::view::MemberFilter;

fn prefix(range: KeyRange) -> &'static str {
    match range {
        KeyRange::Ring => "/DHT/cluster/AUTHORIZED/",
        KeyRange::Live => "/ServiceDiscovery/cluster/",
    }
}

/// The key of a worker that was created at this revision.
fn key(range: KeyRange, number: u32, revision: i64) -> PbKeyValue {
    let worker = worker(number);
    PbKeyValue {
        key: format!("{}{}", prefix(range), worker.identity).into(),
        value: record::encode(&worker),
        create_revision: revision,
        mod_revision: revision,
        version: 1,
        lease: 7,
    }
}

/// A state that follows a cluster of this many workers and has a view of them.
pub(in crate::etcd::roster) fn following(workers: u32) -> State {
    let [ring, live] = [KeyRange::Ring, KeyRange::Live].map(|range| {
        let keys = (0..workers).map(|number| key(range, number, 1));
        keys.collect::<Vec<_>>()
    });
    let mut tables = Tables {
        ring: Some(Table::new(prefix(KeyRange::Ring))),
        live: Table::new(prefix(KeyRange::Live)),
    };
    tables.add_page(&ring, &live);
    let mut state = State::new(true, PROOF_AFTER);
    state.listed(Listed {
        tables,
        revision: 1,
        term: 1,
        asked_at: BootTime::now(),
    });
    state.phase = Phase::Following;
    state.view();
    state
}

/// From an event of the watch to what a subscriber and the next list receive. Returns the number of
/// changes and of live workers.
#[inline(never)]
fn measured_change(state: &mut State, event: (i64, Change), now: BootTime) -> (usize, usize) {
    let known = state.view().expect("listed");
    let (revision, change) = event;
    let kind = Kind::Changes {
        range: KeyRange::Live,
        changes: vec![change],
        is_fragment: false,
    };
    state.message(Message { revision, kind }, now);
    state.show();
    let view = state.view().expect("listed");
    let live = view.members(MemberFilter::Live).len();
    (view.changes_since(&known).len(), live)
}

/// A worker in the middle is lost and comes back, a few times.
fn change_one_of(workers: u32) {
    let mut state = following(workers);
    let now = BootTime::now();
    let live = workers as usize;
    for revision in 2..12 {
        let is_lost = revision % 2 == 0;
        let key = key(KeyRange::Live, workers / 2, revision);
        let change = match is_lost {
            true => Change::delete(&key.key, revision),
            false => Change::put(prefix(KeyRange::Live), (&key).into()),
        };
        let expected = (1, live - usize::from(is_lost));
        assert_eq!(
            measured_change(&mut state, (revision, change), now),
            expected
        );
    }
}

#[test]
#[ignore = "for scripts/instructions"]
fn one_change_of_1000() {
    change_one_of(1_000);
}

#[test]
#[ignore = "for scripts/instructions"]
fn one_change_of_100000() {
    change_one_of(100_000);
}
