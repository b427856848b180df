//! The keys of a cluster's workers in etcd.

use etcd_client::GetOptions;

use crate::worker::WorkerIdentity;

/// The two key ranges of one cluster.
///
/// Both prefixes end in `/`, so that a cluster `a` never contains the workers of a cluster `a-2`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Keys {
    ring_prefix: String,
    live_prefix: String,
}

impl Keys {
    pub(crate) fn new(cluster_name: &str) -> Self {
        Keys {
            ring_prefix: format!("/DHT/{cluster_name}/AUTHORIZED/"),
            live_prefix: format!("/ServiceDiscovery/{cluster_name}/"),
        }
    }

    /// Returns the prefix of the ring keys. Every registered worker has a ring key, which has no
    /// lease.
    pub(crate) fn ring_prefix(&self) -> &str {
        &self.ring_prefix
    }

    /// Returns the prefix of the live keys. Every live worker has a live key, which has the
    /// worker's lease.
    pub(crate) fn live_prefix(&self) -> &str {
        &self.live_prefix
    }

    pub(crate) fn ring_key(&self, identity: &WorkerIdentity) -> String {
        format!("{}{identity}", self.ring_prefix)
    }

    pub(crate) fn live_key(&self, identity: &WorkerIdentity) -> String {
        format!("{}{identity}", self.live_prefix)
    }
}

/// Returns the end of the range of all keys that start with `prefix`, which must end in `/`.
pub(crate) fn range_end(prefix: &str) -> Vec<u8> {
    let mut end = prefix.as_bytes().to_vec();
    debug_assert_eq!(end.last(), Some(&b'/'));
    if let Some(last) = end.last_mut() {
        *last += 1;
    }
    end
}

/// Returns the options of a get without values.
pub(crate) fn keys_only() -> Option<GetOptions> {
    Some(GetOptions::new().with_keys_only())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_alluxios() {
        let keys = Keys::new("ns-alluxio");
        let identity = WorkerIdentity::V0(7);
        assert_eq!(
            keys.ring_key(&identity),
            "/DHT/ns-alluxio/AUTHORIZED/worker-7"
        );
        assert_eq!(
            keys.live_key(&identity),
            "/ServiceDiscovery/ns-alluxio/worker-7"
        );
    }

    #[test]
    fn a_range_ends_before_the_next_cluster() {
        let end = range_end(Keys::new("a").live_prefix());
        assert_eq!(end, b"/ServiceDiscovery/a0");
        assert!(Keys::new("a-2").live_prefix().as_bytes() < b"/ServiceDiscovery/a/".as_slice());
        assert!(Keys::new("ab").live_prefix().as_bytes() > end.as_slice());
    }
}
