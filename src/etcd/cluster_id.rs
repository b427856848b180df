//! Checks which etcd an answer comes from. A balancer over two clusters, or a recycled address,
//! leads to another etcd. The library must not list the workers of another etcd, and must not write
//! there.

use std::collections::HashMap;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::log;

/// If every endpoint answers with another id for this long, etcd was restored, and the library
/// accepts the new id.
const FOLLOW_AFTER: Duration = Duration::from_secs(15);
/// How long the last answer counts of an endpoint that does not answer any more.
const COUNTS_FOR: Duration = Duration::from_secs(60);

/// The id of the etcd cluster in use. It is learned from the first answer.
#[derive(Default)]
pub(super) struct ClusterId(Mutex<Known>);

#[derive(Default)]
struct Known {
    id: Option<u64>,
    /// Another id, which all answers since this time have.
    other: Option<(u64, Instant)>,
    /// When each endpoint last answered with the id in use.
    confirmed: HashMap<u64, Instant>,
}

/// An answer came from another etcd.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct OtherCluster {
    pub(super) expected: u64,
    pub(super) found: u64,
}

impl ClusterId {
    /// Whether an id has been learned.
    pub(super) fn is_known(&self) -> bool {
        self.0.lock().id.is_some()
    }

    /// Checks the id in an answer of this endpoint.
    pub(super) fn check(&self, endpoint: u64, found: u64) -> Result<(), OtherCluster> {
        let now = Instant::now();
        let mut known = self.0.lock();
        let expected = *known.id.get_or_insert(found);
        if found == expected {
            known.other = None;
            known.confirmed.insert(endpoint, now);
            return Ok(());
        }
        known.confirmed.remove(&endpoint);
        let since = match known.other {
            Some((other, since)) if other == found => since,
            _ => now,
        };
        known.other = Some((found, since));
        let mut confirmed = known.confirmed.values();
        if now.duration_since(since) < FOLLOW_AFTER
            || confirmed.any(|at| now.duration_since(*at) < COUNTS_FOR)
        {
            return Err(OtherCluster { expected, found });
        }
        log::warn!(
            "etcd has the cluster id {found:x} instead of {expected:x} at every endpoint that \
             answers: it was restored, and stays in use"
        );
        *known = Known {
            id: Some(found),
            ..Known::default()
        };
        Ok(())
    }
}

/// Returns the cluster id in the first message of an answer. Each message of etcd begins with a
/// header, and the header begins with the cluster id.
pub(super) fn in_message(frame: &[u8]) -> Option<u64> {
    // The five bytes of gRPC: a flag for compression, and the length.
    let (0, message) = (*frame.first()?, frame.get(5..)?) else {
        return None;
    };
    let message = message.strip_prefix(&[FIELD_1 | LENGTH_DELIMITED])?;
    let (length, message) = varint(message)?;
    let header = message.get(..usize::try_from(length).ok()?)?;
    let (id, _) = varint(header.strip_prefix(&[FIELD_1])?)?;
    Some(id)
}

const FIELD_1: u8 = 1 << 3;
const LENGTH_DELIMITED: u8 = 2;

fn varint(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut value = 0u64;
    for (index, byte) in bytes.iter().enumerate().take(10) {
        value |= u64::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            return Some((value, &bytes[index + 1..]));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_id_is_found_in_messages_of_etcd() {
        // A RangeResponse of etcd 3.4.
        let message = [
            0, 0, 0, 0, 13, 0x0a, 11, 0x08, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1,
        ];
        assert_eq!(in_message(&message), Some(u64::MAX));
        assert_eq!(in_message(&[0, 0, 0, 0, 4, 0x0a, 2, 0x08, 7]), Some(7));
        for end in 0..message.len() {
            assert_eq!(in_message(&message[..end]), None, "{end}");
        }
        assert_eq!(in_message(&[1, 0, 0, 0, 4, 0x0a, 2, 0x08, 7]), None);
        assert_eq!(in_message(&[0, 0, 0, 0, 4, 0x12, 2, 0x08, 7]), None);
    }

    #[tokio::test(start_paused = true)]
    async fn another_cluster_is_refused_until_every_endpoint_agrees() {
        let id = ClusterId::default();
        let (a, b) = (0, 1);
        let other = Err(OtherCluster {
            expected: 7,
            found: 8,
        });
        assert!(!id.is_known());
        assert_eq!(id.check(a, 7), Ok(()));
        assert_eq!(id.check(b, 7), Ok(()));
        // A balancer over both etcds: each answer of the right etcd restarts the time.
        for _ in 0..30 {
            assert_eq!(id.check(a, 8), other);
            tokio::time::advance(Duration::from_secs(10)).await;
            assert_eq!(id.check(a, 7), Ok(()));
        }
        // One of two endpoints was restored or recycled.
        assert_eq!(id.check(b, 7), Ok(()));
        for _ in 0..5 {
            assert_eq!(id.check(a, 8), other);
            tokio::time::advance(Duration::from_secs(10)).await;
        }
        assert_eq!(id.check(b, 8), Ok(()));
        assert_eq!(id.check(a, 8), Ok(()));
        assert_eq!(id.check(a, 7).unwrap_err().expected, 8);
    }
}
