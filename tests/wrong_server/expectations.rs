//! The requirements of each mode, in addition to those of all modes.

use std::time::Duration;

/// Whether the first endpoint, which is wrong, has a correct endpoint beside it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    Alone,
    Beside,
}

/// Which views may be shown while the server is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Views {
    /// Views of the store: its live keys and its ring keys, each at the view's revision of that
    /// range.
    Exact,
    /// Views of the store: its live keys and its ring keys, each at some revision, because the
    /// server sends wrong revisions.
    OfSomeRevision,
    /// Any view, because the wrong answers cannot be distinguished from correct ones.
    Any,
}

/// The requirements of a mode.
#[derive(Debug, Clone, Copy)]
pub struct Expectations {
    pub views: Views,
    /// While the server is wrong, a change is shown within this time.
    pub follows: Option<Duration>,
    /// While the server is wrong, worker 1 keeps its lease.
    pub keeps_lease: bool,
    /// While the server is wrong, every call succeeds.
    pub calls_succeed: bool,
    /// Once the server is correct, views are correct within this time.
    pub recovers: Duration,
}

const SOON: Duration = Duration::from_secs(10);
/// A lost event cannot be noticed until the view is proven.
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

/// Texts that are only true in modes that begin with the given words.
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
    ("the round trip to etcd takes longer", &["grant/ttl-one"]),
];
