//! The cost of a list from C. `scripts/instructions` counts what the function `measured_...`
//! executes.

use super::super::snapshot::{axm_snapshot_count, axm_snapshot_release};
use super::*;
use crate::membership::cost;

#[inline(never)]
fn measured_list(membership: &axm_membership_t) -> usize {
    let mut snapshot = MaybeUninit::uninit();
    let live = MemberFilter::Live as i32;
    let error = axm_membership_list(Some(membership), live, Some(&mut snapshot));
    assert!(error.is_none());
    // SAFETY: the call succeeded, so it wrote the pointer.
    let snapshot = unsafe { snapshot.assume_init() };
    // SAFETY: the call returned the snapshot, and nothing has released it.
    let count = axm_snapshot_count(unsafe { snapshot.as_ref() });
    axm_snapshot_release(snapshot);
    count
}

#[test]
#[ignore = "for scripts/instructions"]
fn an_unchanged_list() {
    let runtime = runtime::runtime().expect("a runtime");
    let membership = runtime.block_on(async { Ok(cost::listed(1_000)) });
    let membership = axm_membership_t {
        membership: membership.expect("it opens"),
        runtime,
        listings: Mutex::default(),
    };
    // The first call makes the snapshot.
    axm_snapshot_release(
        membership
            .list(MemberFilter::Live)
            .expect("a list")
            .into_raw(),
    );
    for _ in 0..100 {
        assert_eq!(measured_list(&membership), 1_000);
    }
}
