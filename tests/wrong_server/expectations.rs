//! What is asked of the library in each mode beyond what is asked in all.

use std::time::Duration;

/// Whether the first endpoint, which is wrong, has a right one beside it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    Alone,
    Beside,
}

/// Which views may be shown while the server is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Views {
    /// Those of the store: its live keys and its ring keys, each as they were at the view's own
    /// revision of them.
    Exact,
    /// Those of the store, its live keys and its ring keys each at some revision: the server lies
    /// about revisions.
    OfSomeRevision,
    /// Any: nothing tells the answers from true ones.
    Any,
}

/// What is asked of the library in a mode.
#[derive(Debug, Clone, Copy)]
pub struct Expectations {
    pub views: Views,
    /// While the server is wrong, a change is shown within this time.
    pub follows: Option<Duration>,
    /// While the server is wrong, worker 1 keeps its lease.
    pub keeps_lease: bool,
    /// While the server is wrong, every call succeeds.
    pub calls_succeed: bool,
    /// Once the server is right, views are right within this time.
    pub recovers: Duration,
}

const SOON: Duration = Duration::from_secs(10);
/// Nothing tells a lost event from one that never was, until the view is proven.
const PROOF: Duration = Duration::from_secs(40);

pub fn of(mode: &str, place: Place) -> Expectations {
    let group = |beginning: &str| mode.starts_with(beginning);
    let is = |names: &[&str]| names.contains(&mode);

    let views = if is(&[
        "range/nothing",
        "range/garbage-values",
        "range/empty-values",
        "range/other-leases",
        "event/puts-as-deletes",
        "event/lost-put",
        "event/lost-delete",
        "event/all-lost",
        "event/progress-lies",
        "event/delayed",
        "event/reordered",
    ]) {
        Views::Any
    } else if group("header/revision") {
        Views::OfSomeRevision
    } else {
        Views::Exact
    };
    let harmless = group("version/");
    let beside = place == Place::Beside && views != Views::Any;
    Expectations {
        views,
        follows: if group("event/") {
            Some(PROOF)
        } else {
            (beside || harmless).then_some(SOON)
        },
        keeps_lease: beside || harmless || group("event/"),
        calls_succeed: beside || harmless || group("event/"),
        recovers: if group("event/") { PROOF } else { SOON },
    }
}

/// Texts that are not true in any mode but those that begin with the given words.
pub const FALSE_TEXTS: [(&str, &[&str]); 2] = [
    (
        "wiped or restored",
        &[
            "cluster/",
            "header/",
            "range/revisions",
            "txn/",
            "range/nothing",
        ],
    ),
    ("the way to etcd takes longer", &["grant/ttl-one"]),
];
