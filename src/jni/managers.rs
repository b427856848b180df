//! The open managers, by the ids that Java gave them.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use arc_swap::ArcSwap;
use parking_lot::Mutex;

use super::session_of;
use super::wire::{self, Reply};
use crate::membership::Membership;
use crate::runtime::Runtime;
use crate::view::ClusterView;

/// The managers by id; `None` for a manager that is being opened. Each listing reads the map, so
/// reading takes no lock.
static MANAGERS: LazyLock<ArcSwap<BTreeMap<i64, Option<Arc<Manager>>>>> =
    LazyLock::new(ArcSwap::default);

/// An open manager and the bytes of the view that was encoded last.
pub(super) struct Manager {
    pub(super) membership: Membership,
    /// The name of the cluster, or the path of the hosts file.
    pub(super) cluster: String,
    /// Keeps the runtime running while the manager is open.
    _runtime: Runtime,
    /// The time limit of one operation.
    pub(super) limit: Duration,
    encoded: Mutex<Option<Encoded>>,
}

/// A view as bytes, for callers that know the view of `known_version`.
struct Encoded {
    view: Arc<ClusterView>,
    known_version: u64,
    bytes: Reply,
}

impl Manager {
    pub(super) fn new(
        membership: Membership,
        cluster: String,
        runtime: Runtime,
        limit: Duration,
    ) -> Manager {
        Manager {
            membership,
            cluster,
            _runtime: runtime,
            limit,
            encoded: Mutex::new(None),
        }
    }

    /// Returns the view as bytes, without the members that Java knows. Usually encodes a view once.
    pub(super) fn encoded(&self, view: &Arc<ClusterView>, known_version: u64) -> Reply {
        let mut encoded = self.encoded.lock();
        match &*encoded {
            Some(it) if Arc::ptr_eq(&it.view, view) && it.known_version == known_version => {
                it.bytes.clone()
            }
            _ => {
                let bytes = wire::view(view, known_version);
                *encoded = Some(Encoded {
                    view: view.clone(),
                    known_version,
                    bytes: bytes.clone(),
                });
                bytes
            }
        }
    }
}

/// Marks a manager as being opened.
pub(super) fn reserve(id: i64) {
    MANAGERS.rcu(|managers| {
        let mut managers = BTreeMap::clone(managers);
        managers.insert(id, None);
        managers
    });
}

/// Adds an opened manager. Returns false if its id was removed while the manager was being opened.
pub(super) fn add(id: i64, manager: Manager) -> bool {
    let manager = Arc::new(manager);
    let before = MANAGERS.rcu(|managers| {
        let mut managers = BTreeMap::clone(managers);
        if let Some(reserved) = managers.get_mut(&id) {
            *reserved = Some(manager.clone());
        }
        managers
    });
    before.contains_key(&id)
}

pub(super) fn find(id: i64) -> Option<Arc<Manager>> {
    MANAGERS.load().get(&id).cloned().flatten()
}

/// Returns the version of the manager's view, or 0 if a listing would wait. Takes nanoseconds.
pub(super) fn current_version(id: i64) -> u64 {
    let managers = MANAGERS.load();
    let manager = managers.get(&id).and_then(Option::as_ref);
    manager.map_or(0, |manager| manager.membership.current_version())
}

/// Removes a manager. If several callers remove one manager, one of them gets it.
pub(super) fn remove(id: i64) -> Option<Arc<Manager>> {
    let before = MANAGERS.rcu(|managers| {
        let mut managers = BTreeMap::clone(managers);
        managers.remove(&id);
        managers
    });
    before.get(&id).cloned().flatten()
}

pub(super) fn all() -> Vec<Arc<Manager>> {
    MANAGERS.load().values().flatten().cloned().collect()
}

/// Returns whether the session has managers that are open or being opened.
pub(super) fn any(session: i64) -> bool {
    let managers = MANAGERS.load();
    let mut ids = managers.keys();
    ids.any(|&id| session_of(id) == session)
}
