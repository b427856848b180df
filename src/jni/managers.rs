//! The open managers, by the ids that Java holds.

use std::collections::HashMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, LazyLock};

use arc_swap::ArcSwap;
use parking_lot::Mutex;

use super::wire::{self, Reply};
use crate::config::Config;
use crate::error::Result;
use crate::etcd::Clusters;
use crate::membership::Membership;
use crate::view::ClusterView;

/// Read for every listing, without a lock; written when a manager is opened or closed.
static MANAGERS: LazyLock<ArcSwap<HashMap<i64, Arc<Manager>>>> = LazyLock::new(ArcSwap::default);
static NEXT_ID: AtomicI64 = AtomicI64::new(1);

/// An open manager and the bytes of its latest view.
pub(super) struct Manager {
    pub(super) membership: Membership,
    encoded: Mutex<Option<(Arc<ClusterView>, Reply)>>,
}

impl Manager {
    pub(super) async fn open(config: Config, clusters: &'static Clusters) -> Result<Manager> {
        Ok(Manager {
            membership: Membership::open_aside(config, clusters).await?,
            encoded: Mutex::new(None),
        })
    }

    /// The view for Java, encoded once per change; nothing if Java has it already.
    pub(super) fn encoded(&self, view: &Arc<ClusterView>, known_version: u64) -> Reply {
        if view.version() == known_version {
            return wire::nothing();
        }
        let mut encoded = self.encoded.lock();
        match &*encoded {
            Some((of, bytes)) if Arc::ptr_eq(of, view) => bytes.clone(),
            _ => {
                let bytes = wire::view(view);
                *encoded = Some((view.clone(), bytes.clone()));
                bytes
            }
        }
    }
}

/// Ids are never used again.
pub(super) fn add(manager: Manager) -> i64 {
    let id = NEXT_ID.fetch_add(1, Ordering::Relaxed);
    let manager = Arc::new(manager);
    MANAGERS.rcu(|managers| {
        let mut managers = HashMap::clone(managers);
        managers.insert(id, manager.clone());
        managers
    });
    id
}

pub(super) fn find(id: i64) -> Option<Arc<Manager>> {
    MANAGERS.load().get(&id).cloned()
}

/// Only one caller gets the manager.
pub(super) fn remove(id: i64) -> Option<Arc<Manager>> {
    let before = MANAGERS.rcu(|managers| {
        let mut managers = HashMap::clone(managers);
        managers.remove(&id);
        managers
    });
    before.get(&id).cloned()
}

pub(super) fn all() -> Vec<Arc<Manager>> {
    MANAGERS.load().values().cloned().collect()
}
