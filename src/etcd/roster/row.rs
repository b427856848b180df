//! A key of a cluster and its decoded value.

use std::cmp::Ordering;
use std::sync::Arc;

use uuid::Uuid;

use crate::record;
use crate::worker::{Worker, WorkerIdentity};

/// What etcd notes about the last write of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    /// The revision of the last write.
    pub(super) modified: i64,
    /// The revision of the first write since the key was last absent.
    pub(super) created: i64,
    /// The number of writes since then, the first one included.
    pub(super) version: i64,
    /// The lease of the key; 0 for none.
    pub(super) lease: i64,
}

/// A key, its value, and what etcd notes about both, as etcd sends them.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pair<'a> {
    pub(super) key: &'a [u8],
    pub(super) value: &'a [u8],
    pub(super) stamp: Stamp,
}

/// A key and its decoded value.
#[derive(Debug, Clone)]
pub(super) struct Row {
    pub(super) stamp: Stamp,
    content: Content,
}

#[derive(Debug, Clone)]
enum Content {
    /// The record of a worker under the name of its own identity, which gives the name.
    Own(Arc<Worker>),
    Odd(Arc<Odd>),
}

/// A key that differs from what a worker writes.
#[derive(Debug)]
struct Odd {
    name: Box<[u8]>,
    record: Record,
}

/// A decoded value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Record {
    Worker {
        worker: Arc<Worker>,
        /// Records of Alluxio 304 have no identity and are listed under the number 0, never as
        /// live.
        has_identity: bool,
    },
    Unusable {
        reason: String,
    },
}

/// What a row lists.
pub(super) enum Lists<'a> {
    /// A worker under the name of its own identity.
    Own(&'a Arc<Worker>),
    /// A worker under another name, or without an identity in its record.
    Foreign {
        worker: &'a Arc<Worker>,
        has_identity: bool,
    },
    /// Nothing, for this reason.
    Nothing(&'a str),
}

/// The part of a key after the prefix of its range.
pub(super) struct Name<'a> {
    bytes: &'a [u8],
    /// The UUID in a name that is an identity with a UUID.
    uuid: Option<Uuid>,
}

impl<'a> From<&'a [u8]> for Name<'a> {
    fn from(bytes: &'a [u8]) -> Self {
        let uuid = bytes.strip_prefix(b"worker-");
        let uuid = uuid.and_then(|text| Uuid::try_parse_ascii(text).ok());
        let is_canonical = |uuid: &Uuid| WorkerIdentity::V1(*uuid).text().as_bytes() == bytes;
        Name {
            bytes,
            uuid: uuid.filter(is_canonical),
        }
    }
}

impl Row {
    /// `prefix_len` is the length of the prefix of the key's range.
    pub(super) fn decode(pair: Pair<'_>, prefix_len: usize) -> Self {
        let name = pair.key.get(prefix_len..).unwrap_or_default();
        Row::new(pair.stamp, name, Record::decode(name, pair.value))
    }

    pub(super) fn new(stamp: Stamp, name: &[u8], record: Record) -> Self {
        let content = match record {
            Record::Worker {
                worker,
                has_identity: true,
            } if worker.identity.text().as_bytes() == name => Content::Own(worker),
            record => Content::Odd(Arc::new(Odd {
                name: name.into(),
                record,
            })),
        };
        Row { stamp, content }
    }

    pub(super) fn lists(&self) -> Lists<'_> {
        match &self.content {
            Content::Own(worker) => Lists::Own(worker),
            Content::Odd(odd) => match &odd.record {
                Record::Worker {
                    worker,
                    has_identity,
                } => Lists::Foreign {
                    worker,
                    has_identity: *has_identity,
                },
                Record::Unusable { reason } => Lists::Nothing(reason),
            },
        }
    }

    /// Returns the record's worker, or why the record cannot be used.
    pub(super) fn worker(&self) -> Result<&Arc<Worker>, &str> {
        match self.lists() {
            Lists::Own(worker) | Lists::Foreign { worker, .. } => Ok(worker),
            Lists::Nothing(reason) => Err(reason),
        }
    }

    /// The worker that is listed under its own name.
    pub(super) fn own_worker(&self) -> Option<&Arc<Worker>> {
        match &self.content {
            Content::Own(worker) => Some(worker),
            Content::Odd(_) => None,
        }
    }

    /// Whether the row lists an identity that is not its name.
    pub(super) fn is_foreign(&self) -> bool {
        matches!(self.lists(), Lists::Foreign { .. })
    }

    /// Whether the key is named after the identity in its record. A record without an identity
    /// counts with the identity that it is listed under.
    pub(super) fn has_own_name(&self) -> bool {
        match &self.content {
            Content::Own(_) => true,
            Content::Odd(odd) => match &odd.record {
                Record::Worker { worker, .. } => worker.identity.text().as_bytes() == &*odd.name,
                Record::Unusable { .. } => false,
            },
        }
    }

    pub(super) fn record(&self) -> Record {
        match &self.content {
            Content::Own(worker) => Record::Worker {
                worker: worker.clone(),
                has_identity: true,
            },
            Content::Odd(odd) => odd.record.clone(),
        }
    }

    /// Whether both rows have the same value, whatever their stamps.
    pub(super) fn has_record_of(&self, other: &Row) -> bool {
        match (&self.content, &other.content) {
            (Content::Own(a), Content::Own(b)) => a == b,
            (Content::Odd(a), Content::Odd(b)) => a.record == b.record,
            _ => false,
        }
    }

    /// Shares the value of another row of the same name if both values are equal, so that the value
    /// is in memory once. Returns whether they are equal.
    pub(super) fn share(&mut self, other: &Row) -> bool {
        let is_same = self.has_record_of(other);
        if is_same {
            self.content = other.content.clone();
        }
        is_same
    }

    pub(super) fn name(&self) -> Vec<u8> {
        match &self.content {
            Content::Own(worker) => worker.identity.text().as_bytes().to_vec(),
            Content::Odd(odd) => odd.name.to_vec(),
        }
    }

    /// Compares the names of two keys of one range.
    pub(super) fn cmp_row(&self, other: &Row) -> Ordering {
        match (&self.content, &other.content) {
            (Content::Own(a), Content::Own(b)) => a.identity.cmp_keys(&b.identity),
            (_, Content::Odd(odd)) => self.cmp_bytes(&odd.name),
            (Content::Odd(_), _) => other.cmp_row(self).reverse(),
        }
    }

    pub(super) fn cmp_name(&self, name: &Name<'_>) -> Ordering {
        match (&self.content, name.uuid) {
            (Content::Own(worker), Some(uuid)) => match worker.identity {
                WorkerIdentity::V1(own) => own.cmp(&uuid),
                WorkerIdentity::V0(_) => self.cmp_bytes(name.bytes),
            },
            _ => self.cmp_bytes(name.bytes),
        }
    }

    fn cmp_bytes(&self, name: &[u8]) -> Ordering {
        match &self.content {
            Content::Own(worker) => worker.identity.text().as_bytes().cmp(name),
            Content::Odd(odd) => (*odd.name).cmp(name),
        }
    }
}

impl Record {
    /// `name` is the part of the key after the prefix.
    pub(super) fn decode(name: &[u8], value: &[u8]) -> Self {
        if name.contains(&b'/') {
            let reason = "the key belongs to another cluster, whose name continues this one's";
            return Record::Unusable {
                reason: reason.into(),
            };
        }
        match record::decode(value) {
            Err(reason) => Record::Unusable { reason },
            Ok(stored) => match stored.address {
                None => Record::Unusable {
                    reason: "the record has no WorkerNetAddress".into(),
                },
                Some(address) => Record::Worker {
                    has_identity: stored.identity.is_some(),
                    worker: Arc::new(Worker {
                        identity: stored.identity.unwrap_or(WorkerIdentity::V0(0)),
                        address,
                    }),
                },
            },
        }
    }
}
