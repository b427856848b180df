//! The requests and replies between Rust and Java as bytes. All numbers are big-endian.
//!
//! - A *text* is an `i32` length and UTF-8 bytes; length -1 stands for null. A *list* is an `i32`
//!   count and the items.
//! - A reply starts with one byte: 0 and the result, or 1 and an error (`i32` kind, `u8` retryable,
//!   `u8` timed out, text message, text cause or null).
//! - A view is its version and revision, the list of its chunks, the list of skipped records (two
//!   texts each) and the `i32` number of further skipped records.
//! - A chunk is its `i64` id, and `u8` 0 if the view that Java knows has the chunk. Otherwise the
//!   id is followed by `u8` 1, the list of the distinct members (a worker and the `i32` state), and
//!   two lists of `i32` positions in that list: of all members and of live members. A member that
//!   is in both lists is written once. Known chunks have the order of the known view.
//! - A status is the text of the cluster, the version, the age in `i64` milliseconds or -1, the
//!   text of the view's error or null, the `i32` numbers of live, lost and skipped workers, six
//!   `i64` counters, the list of endpoints (text URL, `u8` healthy, `i64` answered, `i64` failed,
//!   text last error or null), and the list of registrations (text identity, `i32` state, `i64`
//!   lease, `i64` milliseconds left, `i64` leases, `i64` late renewals, `u8` displaced).
//! - A worker is its identity's text, host, container host, RPC, data, secure RPC, Netty data and
//!   web port, domain socket path and HTTP server port.
//!
//! `alluxio.membership.bridge.internal.Wire` is the Java side of this module.

use std::collections::HashMap;
use std::sync::Arc;

use super::to_millis;
use crate::error::{Error, ErrorKind, Result};
use crate::status::Status;
use crate::view::{Chunk, ClusterView, Member, MemberFilter};
use crate::worker::{Worker, WorkerIdentity, WorkerNetAddress};

/// A reply as bytes, which are shared because many callers may get the same view.
pub(super) type Reply = Arc<[u8]>;

const OK: u8 = 0;
const ERROR: u8 = 1;

/// Returns the reply of an operation without a result.
pub(super) fn nothing() -> Reply {
    Arc::new([OK])
}

/// Returns the text of `showAllMembers` for the view of a version.
pub(super) fn table(version: u64, text: &str) -> Reply {
    let mut out = vec![OK];
    put_i64(&mut out, version as i64);
    put_text(&mut out, Some(text));
    out.into()
}

pub(super) fn session(session: i64, version: &str) -> Reply {
    let mut out = vec![OK];
    put_i64(&mut out, session);
    put_text(&mut out, Some(version));
    out.into()
}

pub(super) fn error(error: &Error) -> Reply {
    let mut out = vec![ERROR];
    put_i32(&mut out, error.kind() as i32);
    out.push(error.kind().is_retryable().into());
    out.push(error.cause().is_some_and(|cause| cause.timed_out).into());
    put_text(&mut out, Some(error.message()));
    put_text(&mut out, error.cause().map(|cause| cause.text.as_str()));
    out.into()
}

/// Returns a view without the chunks of the view that Java knows; `known_version` 0 is none.
pub(super) fn view(view: &ClusterView, known_version: u64) -> Reply {
    let mut out = vec![OK];
    put_i64(&mut out, view.version() as i64);
    put_i64(&mut out, view.revision());
    let chunks = view.chunks.list();
    put_i32(&mut out, chunks.len() as i32);
    for chunk in chunks {
        put_i64(&mut out, chunk.id() as i64);
        let is_new = !chunk.is_known_at(known_version);
        out.push(is_new.into());
        if is_new {
            put_chunk(&mut out, chunk);
        }
    }
    put_i32(&mut out, view.skipped().len() as i32);
    for record in view.skipped() {
        put_text(&mut out, Some(&record.key));
        put_text(&mut out, Some(&record.reason));
    }
    let more = view.skipped_count() - view.skipped().len();
    put_i32(&mut out, to_i32(more));
    out.into()
}

fn put_chunk(out: &mut Vec<u8>, chunk: &Chunk) {
    let lists = [MemberFilter::All, MemberFilter::Live].map(|filter| chunk.members(filter));
    let mut distinct: Vec<&Member> = Vec::with_capacity(lists[0].len());
    let mut known: HashMap<&WorkerIdentity, usize> = HashMap::with_capacity(lists[0].len());
    let positions = lists.map(|members| {
        members
            .iter()
            .map(|member| {
                let identity = &member.worker.identity;
                match known.get(identity) {
                    Some(&position) if distinct[position] == member => position,
                    _ => {
                        distinct.push(member);
                        known.insert(identity, distinct.len() - 1);
                        distinct.len() - 1
                    }
                }
            })
            .collect::<Vec<usize>>()
    });
    out.reserve(distinct.len() * 160);
    put_i32(out, distinct.len() as i32);
    for member in distinct {
        put_worker(out, &member.worker);
        put_i32(out, member.state as i32);
    }
    for list in positions {
        put_i32(out, list.len() as i32);
        for position in list {
            put_i32(out, position as i32);
        }
    }
}

/// Returns a status; `view` is the view in memory, if there is one.
pub(super) fn status(cluster: &str, status: &Status, view: Option<&ClusterView>) -> Reply {
    let mut out = vec![OK];
    put_text(&mut out, Some(cluster));
    put_i64(&mut out, status.version as i64);
    put_i64(&mut out, status.view_age.map_or(-1, to_millis));
    let error = status.view_error.as_ref().map(Error::to_string);
    put_text(&mut out, error.as_deref());
    for count in [
        view.map_or(0, |view| view.members(MemberFilter::Live).len()),
        view.map_or(0, |view| view.members(MemberFilter::Lost).len()),
        view.map_or(0, ClusterView::skipped_count),
    ] {
        put_i32(&mut out, to_i32(count));
    }
    let counters = &status.view_counters;
    for count in [
        counters.listings,
        counters.watches,
        counters.checks,
        counters.checks_behind,
        counters.checks_failed,
        counters.other_histories,
    ] {
        put_i64(&mut out, count as i64);
    }
    put_i32(&mut out, to_i32(status.endpoints.len()));
    for endpoint in &status.endpoints {
        put_text(&mut out, Some(&endpoint.url));
        out.push(endpoint.healthy.into());
        put_i64(&mut out, endpoint.answered as i64);
        put_i64(&mut out, endpoint.failed as i64);
        put_text(&mut out, endpoint.last_error.as_deref());
    }
    put_i32(&mut out, to_i32(status.registrations.len()));
    for registration in &status.registrations {
        put_text(&mut out, Some(&registration.identity.to_string()));
        put_i32(&mut out, registration.state as i32);
        put_i64(&mut out, registration.lease);
        put_i64(&mut out, to_millis(registration.lease_left));
        put_i64(&mut out, registration.leases as i64);
        put_i64(&mut out, registration.late_renewals as i64);
        out.push(registration.displaced_by.is_some().into());
    }
    out.into()
}

fn to_i32(count: usize) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}

pub(super) fn put_i32(out: &mut Vec<u8>, number: i32) {
    out.extend_from_slice(&number.to_be_bytes());
}

fn put_i64(out: &mut Vec<u8>, number: i64) {
    out.extend_from_slice(&number.to_be_bytes());
}

pub(super) fn put_text(out: &mut Vec<u8>, text: Option<&str>) {
    match text {
        Some(text) => {
            put_i32(out, text.len() as i32);
            out.extend_from_slice(text.as_bytes());
        }
        None => put_i32(out, -1),
    }
}

fn put_worker(out: &mut Vec<u8>, worker: &Worker) {
    let address = &worker.address;
    put_text(out, Some(&worker.identity.to_string()));
    put_text(out, address.host.as_deref());
    put_text(out, address.container_host.as_deref());
    put_i32(out, address.rpc_port);
    put_i32(out, address.data_port);
    put_i32(out, address.secure_rpc_port);
    put_i32(out, address.netty_data_port);
    put_i32(out, address.web_port);
    put_text(out, address.domain_socket_path.as_deref());
    put_i32(out, address.http_server_port);
}

/// Reads a request of Java. A request that cannot be read is a bug of the class that writes it.
pub(super) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(super) fn new(request: &'a [u8]) -> Self {
        Reader { rest: request }
    }

    pub(super) fn worker(&mut self) -> Result<Worker> {
        Ok(Worker {
            identity: WorkerIdentity::parse(self.text()?)?,
            address: WorkerNetAddress {
                host: self.optional_text()?,
                container_host: self.optional_text()?,
                rpc_port: self.i32()?,
                data_port: self.i32()?,
                secure_rpc_port: self.i32()?,
                netty_data_port: self.i32()?,
                web_port: self.i32()?,
                domain_socket_path: self.optional_text()?,
                http_server_port: self.i32()?,
            },
        })
    }

    pub(super) fn text(&mut self) -> Result<&'a str> {
        self.nullable_text()?
            .ok_or_else(|| malformed("a text is null"))
    }

    /// Reads the number of items that follow.
    pub(super) fn count(&mut self) -> Result<usize> {
        usize::try_from(self.i32()?).map_err(|_| malformed("a count is negative"))
    }

    fn optional_text(&mut self) -> Result<Option<String>> {
        Ok(self.nullable_text()?.map(str::to_string))
    }

    fn nullable_text(&mut self) -> Result<Option<&'a str>> {
        let length = self.i32()?;
        if length == -1 {
            return Ok(None);
        }
        let length = usize::try_from(length).map_err(|_| malformed("a length is negative"))?;
        std::str::from_utf8(self.bytes(length)?)
            .map(Some)
            .map_err(|_| malformed("a text is not UTF-8"))
    }

    fn i32(&mut self) -> Result<i32> {
        let bytes = self
            .bytes(4)?
            .try_into()
            .map_err(|_| malformed("it ends early"))?;
        Ok(i32::from_be_bytes(bytes))
    }

    fn bytes(&mut self, length: usize) -> Result<&'a [u8]> {
        let (bytes, rest) = self
            .rest
            .split_at_checked(length)
            .ok_or_else(|| malformed("it ends early"))?;
        self.rest = rest;
        Ok(bytes)
    }
}

fn malformed(what: &str) -> Error {
    Error::new(
        ErrorKind::Internal,
        format!("Malformed request from Java: {what}"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Cause;
    use crate::view::{Chunks, MAX_SKIPPED, RangeRevisions, SkippedRecord};
    use crate::worker::WorkerState;

    fn worker(id: i64, host: &str) -> Arc<Worker> {
        Arc::new(Worker {
            identity: WorkerIdentity::V0(id),
            address: WorkerNetAddress::new(host),
        })
    }

    #[test]
    fn a_worker_survives_the_way_there() {
        let worker = Worker {
            identity: WorkerIdentity::V0(-7),
            address: WorkerNetAddress {
                host: Some("h\u{1f600}\0".into()),
                container_host: None,
                rpc_port: 1,
                data_port: 2,
                secure_rpc_port: 3,
                netty_data_port: 4,
                web_port: -5,
                domain_socket_path: Some(String::new()),
                http_server_port: i32::MAX,
            },
        };
        let mut bytes = Vec::new();
        put_worker(&mut bytes, &worker);
        assert_eq!(Reader::new(&bytes).worker().unwrap(), worker);
        for length in 0..bytes.len() {
            let error = Reader::new(&bytes[..length]).worker().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Internal, "{length}");
        }
    }

    #[test]
    fn a_request_with_nonsense_in_it_is_refused() {
        assert!(Reader::new(&[0, 0, 0, 1, 0xff]).text().is_err());
        assert!(Reader::new(&(-1i32).to_be_bytes()).text().is_err());
        assert!(Reader::new(&(-2i32).to_be_bytes()).nullable_text().is_err());
        assert!(Reader::new(&i32::MAX.to_be_bytes()).text().is_err());
        assert!(Reader::new(&i32::MIN.to_be_bytes()).count().is_err());
    }

    #[test]
    fn an_error_carries_its_cause() {
        let plain = error(&Error::new(ErrorKind::AlreadyExists, "m"));
        assert_eq!(
            &plain[..],
            [&[1, 0, 0, 0, 5, 0, 0, 0, 0, 0, 1][..], b"m", &[255; 4]].concat()
        );
        let cause = Cause {
            text: "c".into(),
            timed_out: true,
        };
        let late = error(&Error::with_cause(ErrorKind::Unavailable, "m", cause));
        assert_eq!(
            &late[..],
            [
                &[1, 0, 0, 0, 7, 1, 1, 0, 0, 0, 1][..],
                b"m",
                &[0, 0, 0, 1],
                b"c"
            ]
            .concat()
        );
    }

    #[test]
    fn a_view_holds_each_member_once_unless_its_lists_differ() {
        let member = |worker: &Arc<Worker>, state| Member {
            worker: worker.clone(),
            state,
        };
        let (a, b, moved) = (worker(1, "a"), worker(2, "b"), worker(2, "elsewhere"));
        let lost = worker(3, "c");
        let all = [
            member(&a, WorkerState::Live),
            member(&b, WorkerState::Live),
            member(&lost, WorkerState::Lost),
        ];
        let live = [
            member(&a, WorkerState::Live),
            member(&moved, WorkerState::Live),
        ];
        let skipped = SkippedRecord {
            key: "k".into(),
            reason: "r".into(),
        };
        let shown = ClusterView {
            version: 9,
            revisions: RangeRevisions { ring: 5, live: 4 },
            chunks: Chunks::new(9, &all, &live),
            skipped: vec![skipped; MAX_SKIPPED + 7].into(),
            ..ClusterView::default()
        };
        let id = shown.chunks.list()[0].id() as i64;
        let expected = |put_members: &dyn Fn(&mut Vec<u8>)| {
            let mut expected = vec![0];
            put_i64(&mut expected, 9);
            put_i64(&mut expected, 4);
            put_i32(&mut expected, 1);
            put_i64(&mut expected, id);
            put_members(&mut expected);
            put_i32(&mut expected, MAX_SKIPPED as i32);
            for text in ["k", "r"].repeat(MAX_SKIPPED) {
                put_text(&mut expected, Some(text));
            }
            put_i32(&mut expected, 7);
            expected
        };
        let whole = expected(&|out| {
            out.push(1);
            put_i32(out, 4);
            for (worker, state) in [(&a, 1), (&b, 1), (&lost, 2), (&moved, 1)] {
                put_worker(out, worker);
                put_i32(out, state);
            }
            for number in [3, 0, 1, 2, 2, 0, 3] {
                put_i32(out, number);
            }
        });
        assert_eq!(&view(&shown, 0)[..], whole);
        assert_eq!(&view(&shown, 8)[..], whole);
        // The view of version 10 has the chunk of version 9, which Java knows.
        let later = ClusterView {
            chunks: shown.chunks.updated(10, &[]).expect("ordered"),
            ..shown.clone()
        };
        assert_eq!(&view(&later, 9)[..], expected(&|out| out.push(0)));
    }
}
