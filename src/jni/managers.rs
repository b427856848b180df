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

/// Read for every listing, without a lock; written when a manager is opened or closed. `None` while
/// it is being opened.
static MANAGERS: LazyLock<ArcSwap<BTreeMap<i64, Option<Arc<Manager>>>>> =
    LazyLock::new(ArcSwap::default);

/// An open manager and the bytes of the view that was encoded last.
pub(super) struct Manager {
    pub(super) membership: Membership,
    /// The name of the cluster, or the path of the hosts file.
    pub(super) cluster: String,
    /// The runtime goes on while the manager is open.
    _runtime: Runtime,
    /// How long one operation may take.
    pub(super) limit: Duration,
    encoded: Mutex<Option<Encoded>>,
}

/// The bytes of a view for callers that know the view of a version.
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

    /// The view for Java, without the members that Java knows, usually encoded once per change.
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

/// Makes the manager known, unless it was removed while it was being opened.
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

/// The version of the manager's view if it can be listed at once, else 0. Takes nanoseconds.
pub(super) fn current_version(id: i64) -> u64 {
    let managers = MANAGERS.load();
    let manager = managers.get(&id).and_then(Option::as_ref);
    manager.map_or(0, |manager| manager.membership.current_version())
}

/// Only one caller gets the manager.
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

/// Whether the session has managers, open ones or such as are being opened.
pub(super) fn any(session: i64) -> bool {
    let managers = MANAGERS.load();
    let mut ids = managers.keys();
    ids.any(|&id| session_of(id) == session)
}
