//! `axm_snapshot_t` and `axm_member_t`: a listing.

use std::collections::HashMap;
use std::ffi::{CString, c_char};
use std::mem::MaybeUninit;
use std::ptr;
use std::sync::Arc;

use super::convert::{c_text, invalid, milliseconds, required, to_identity, without_nul};
use super::error::{axm_error_t, guard};
use super::numbers;
use super::worker::axm_worker_t;
use crate::error::Result;
use crate::view::{ClusterView, Confirmed, Member, MemberFilter};
use crate::worker::WorkerState;

/// Which workers a caller asks for.
#[repr(i32)]
pub enum axm_filter_t {
    /// Every registered worker, live or lost.
    AXM_FILTER_ALL = 0,
    /// The workers that renew their lease.
    AXM_FILTER_LIVE = 1,
    /// The registered workers whose lease has ended.
    AXM_FILTER_LOST = 2,
}

/// The state of a worker.
#[repr(i32)]
pub enum axm_state_t {
    /// The worker renews its lease.
    AXM_STATE_LIVE = 1,
    /// The worker is registered, but its lease has ended.
    AXM_STATE_LOST = 2,
}

/// The filter of a number from C.
pub(super) fn to_filter(number: numbers::axm_filter_t) -> Result<MemberFilter> {
    [
        (axm_filter_t::AXM_FILTER_ALL, MemberFilter::All),
        (axm_filter_t::AXM_FILTER_LIVE, MemberFilter::Live),
        (axm_filter_t::AXM_FILTER_LOST, MemberFilter::Lost),
    ]
    .into_iter()
    .find_map(|(code, filter)| (code as i32 == number).then_some(filter))
    .ok_or_else(|| {
        invalid(format!(
            "filter is {number}, expected an AXM_FILTER_* value"
        ))
    })
}

/// Workers of a cluster at one moment, in the order of their keys in etcd or of the lines of the
/// hosts file.
///
/// Only the age of a snapshot changes. A snapshot lives until each of its owners has released it,
/// also after its membership is freed. The library hands out the same snapshot again while nothing
/// changes. Any number of threads may use a snapshot at the same time.
pub struct axm_snapshot_t {
    version: u64,
    revision: i64,
    parts: Vec<Arc<Part>>,
    /// The index of the first member behind each part.
    ends: Vec<usize>,
    skipped: Vec<Skipped>,
    skipped_total: usize,
    confirmed: Confirmed,
}

/// The members of one chunk of a view. Snapshots of views that share the chunk share it too.
struct Part {
    source: Arc<[Member]>,
    members: Box<[axm_member_t]>,
}

/// A worker in a snapshot, and its state. Lives as long as the snapshot.
pub struct axm_member_t {
    /// Points into `_texts`.
    worker: axm_worker_t,
    /// All texts, each with a NUL: one allocation, because each listed worker has a member.
    _texts: Box<[u8]>,
    state: WorkerState,
}

// SAFETY: the pointers in `worker` lead to texts that the member owns and nothing changes.
unsafe impl Send for axm_member_t {}
// SAFETY: as above.
unsafe impl Sync for axm_member_t {}

struct Skipped {
    key: CString,
    reason: CString,
}

impl axm_snapshot_t {
    /// Takes over from other snapshots what they have of the view.
    pub(super) fn new<'a>(
        view: &ClusterView,
        filter: MemberFilter,
        others: impl IntoIterator<Item = &'a Arc<axm_snapshot_t>>,
    ) -> Self {
        let known = others.into_iter().flat_map(|it| &it.parts);
        let known: HashMap<*const Member, &Arc<Part>> =
            known.map(|part| (part.source.as_ptr(), part)).collect();
        let sources = view.chunks.list().iter().map(|it| it.members(filter));
        let parts: Vec<Arc<Part>> = sources
            .filter(|source| !source.is_empty())
            .map(|source| match known.get(&source.as_ptr()) {
                Some(part) => Arc::clone(part),
                None => Arc::new(Part {
                    source: source.clone(),
                    members: source.iter().map(axm_member_t::new).collect(),
                }),
            })
            .collect();
        let mut end = 0;
        let ends = parts.iter().map(|part| {
            end += part.members.len();
            end
        });
        axm_snapshot_t {
            version: view.version(),
            revision: view.revision(),
            ends: ends.collect(),
            parts,
            skipped: view
                .skipped()
                .iter()
                .map(|record| Skipped {
                    key: c_text(&record.key),
                    reason: c_text(&record.reason),
                })
                .collect(),
            skipped_total: view.skipped_count(),
            confirmed: view.confirmed.clone(),
        }
    }

    fn member(&self, index: usize) -> Option<&axm_member_t> {
        let part = self.ends.partition_point(|end| *end <= index);
        let before = part.checked_sub(1).map_or(0, |before| self.ends[before]);
        self.parts.get(part)?.members.get(index - before)
    }

    /// A pointer that counts as one holder.
    pub(super) fn into_raw(self: Arc<Self>) -> *mut axm_snapshot_t {
        Arc::into_raw(self).cast_mut()
    }
}

impl axm_member_t {
    pub(super) fn new(member: &Member) -> Self {
        let address = &member.worker.address;
        let texts = [
            &Some(member.worker.identity.to_string()),
            &address.host,
            &address.container_host,
            &address.domain_socket_path,
        ];
        let texts = texts.map(|text| without_nul(text.as_deref().unwrap_or_default()));
        let mut bytes = Vec::with_capacity(texts.iter().map(|text| text.len() + 1).sum());
        let starts = texts.map(|text| {
            let start = bytes.len();
            bytes.extend_from_slice(text.as_bytes());
            bytes.push(0);
            start
        });
        let texts = bytes.into_boxed_slice();
        let [identity, host, container_host, domain_socket_path] =
            starts.map(|start| texts[start..].as_ptr().cast());
        axm_member_t {
            worker: axm_worker_t {
                struct_size: size_of::<axm_worker_t>(),
                identity,
                host,
                container_host,
                domain_socket_path,
                rpc_port: address.rpc_port,
                data_port: address.data_port,
                secure_rpc_port: address.secure_rpc_port,
                netty_data_port: address.netty_data_port,
                web_port: address.web_port,
                http_server_port: address.http_server_port,
            },
            _texts: texts,
            state: member.state,
        }
    }
}

/// Adds an owner to a snapshot.
///
/// \param snapshot A snapshot, or NULL. Const, because no function shows the number of owners.
/// \return The same snapshot, for another axm_snapshot_release.
#[unsafe(no_mangle)]
pub extern "C" fn axm_snapshot_retain(snapshot: *const axm_snapshot_t) -> *mut axm_snapshot_t {
    if !snapshot.is_null() {
        // SAFETY: the pointer is from `into_raw`, and the caller holds the snapshot, so it is
        // alive.
        unsafe { Arc::increment_strong_count(snapshot) };
    }
    snapshot.cast_mut()
}

/// Ends the ownership of one owner. The last one frees the snapshot, its workers and their texts.
///
/// \param snapshot A snapshot, or NULL.
#[unsafe(no_mangle)]
pub extern "C" fn axm_snapshot_release(snapshot: *mut axm_snapshot_t) {
    if !snapshot.is_null() {
        // SAFETY: the pointer is from `into_raw`, and the caller gives up one hold on it.
        unsafe { Arc::decrement_strong_count(snapshot) };
    }
}

/// Returns the version of a snapshot.
///
/// The version grows with every change while the cluster is open. It may start again from 1 when
/// the cluster is opened again.
///
/// \param snapshot A snapshot, or NULL.
/// \return The version, which is never 0; 0 for NULL.
#[unsafe(no_mangle)]
pub extern "C" fn axm_snapshot_version(snapshot: Option<&axm_snapshot_t>) -> u64 {
    snapshot.map_or(0, |snapshot| snapshot.version)
}

/// Returns the revision of etcd that a snapshot shows.
///
/// \param snapshot A snapshot, or NULL.
/// \return The revision; 0 if the workers come from a hosts file, and for NULL.
#[unsafe(no_mangle)]
pub extern "C" fn axm_snapshot_revision(snapshot: Option<&axm_snapshot_t>) -> i64 {
    snapshot.map_or(0, |snapshot| snapshot.revision)
}

/// Returns the time since etcd was last known to have exactly these workers.
///
/// The age of the newest snapshot stays below a few thousand while etcd answers.
///
/// \param snapshot A snapshot, or NULL.
/// \return The age in milliseconds; 0 if the workers come from a hosts file; -1 for NULL.
#[unsafe(no_mangle)]
pub extern "C" fn axm_snapshot_age_ms(snapshot: Option<&axm_snapshot_t>) -> i64 {
    snapshot.map_or(-1, |snapshot| milliseconds(snapshot.confirmed.age()))
}

/// Returns the number of workers.
///
/// \param snapshot A snapshot, or NULL.
/// \return The number; 0 for NULL.
#[unsafe(no_mangle)]
pub extern "C" fn axm_snapshot_count(snapshot: Option<&axm_snapshot_t>) -> usize {
    snapshot.map_or(0, |snapshot| snapshot.ends.last().copied().unwrap_or(0))
}

/// Returns the worker at an index.
///
/// \param snapshot A snapshot, or NULL.
/// \param index An index.
/// \return The member; NULL if the index is not below axm_snapshot_count.
#[unsafe(no_mangle)]
pub extern "C" fn axm_snapshot_member(
    snapshot: Option<&axm_snapshot_t>,
    index: usize,
) -> Option<&axm_member_t> {
    snapshot?.member(index)
}

/// Finds the worker of an identity.
///
/// \param snapshot A snapshot.
/// \param identity An identity, such as "worker-<uuid>".
/// \param[out] out The member; NULL if the snapshot does not contain the worker.
/// \return NULL, or an error: AXM_ERROR_INVALID_ARGUMENT.
#[must_use]
#[unsafe(no_mangle)]
pub extern "C" fn axm_snapshot_find(
    snapshot: Option<&axm_snapshot_t>,
    identity: *const c_char,
    out: Option<&mut MaybeUninit<*const axm_member_t>>,
) -> Option<Box<axm_error_t>> {
    guard(|| {
        let snapshot = required(snapshot, "snapshot")?;
        let wanted = to_identity(identity, "identity")?;
        let found = snapshot.parts.iter().find_map(|part| {
            let mut sources = part.source.iter();
            let place = sources.position(|member| member.worker.identity == wanted)?;
            part.members.get(place)
        });
        required(out, "out")?.write(found.map_or(ptr::null(), ptr::from_ref));
        Ok(())
    })
}

/// Returns the number of skipped records that a snapshot carries, at most 100.
///
/// A skipped record has a key of the cluster, but cannot be read, so its worker is not listed.
///
/// \param snapshot A snapshot, or NULL.
/// \return The number; 0 for NULL.
#[unsafe(no_mangle)]
pub extern "C" fn axm_snapshot_skipped_count(snapshot: Option<&axm_snapshot_t>) -> usize {
    snapshot.map_or(0, |snapshot| snapshot.skipped.len())
}

/// Returns the number of all skipped records, also of those beyond the 100 that a snapshot carries.
///
/// \param snapshot A snapshot, or NULL.
/// \return The number; 0 for NULL.
#[unsafe(no_mangle)]
pub extern "C" fn axm_snapshot_skipped_total(snapshot: Option<&axm_snapshot_t>) -> usize {
    snapshot.map_or(0, |snapshot| snapshot.skipped_total)
}

/// Returns the key in etcd of a skipped record.
///
/// \param snapshot A snapshot, or NULL.
/// \param index An index.
/// \return The key; NULL if the index is not below axm_snapshot_skipped_count.
#[unsafe(no_mangle)]
pub extern "C" fn axm_snapshot_skipped_key(
    snapshot: Option<&axm_snapshot_t>,
    index: usize,
) -> *const c_char {
    snapshot
        .and_then(|snapshot| snapshot.skipped.get(index))
        .map_or(ptr::null(), |skipped| skipped.key.as_ptr())
}

/// Returns why a skipped record is not listed.
///
/// \param snapshot A snapshot, or NULL.
/// \param index An index.
/// \return The reason; NULL if the index is not below axm_snapshot_skipped_count.
#[unsafe(no_mangle)]
pub extern "C" fn axm_snapshot_skipped_reason(
    snapshot: Option<&axm_snapshot_t>,
    index: usize,
) -> *const c_char {
    snapshot
        .and_then(|snapshot| snapshot.skipped.get(index))
        .map_or(ptr::null(), |skipped| skipped.reason.as_ptr())
}

/// Returns the worker of a member.
///
/// \param member A member, or NULL.
/// \return The worker, which lives as long as the member; NULL for NULL. No text in it is NULL.
#[unsafe(no_mangle)]
pub extern "C" fn axm_member_worker(member: Option<&axm_member_t>) -> Option<&axm_worker_t> {
    member.map(|member| &member.worker)
}

/// Returns the state of a member.
///
/// \param member A member, or NULL.
/// \return The state; 0 for NULL.
#[unsafe(no_mangle)]
pub extern "C" fn axm_member_state(member: Option<&axm_member_t>) -> numbers::axm_state_t {
    member.map_or(0, |member| match member.state {
        WorkerState::Live => axm_state_t::AXM_STATE_LIVE as i32,
        WorkerState::Lost => axm_state_t::AXM_STATE_LOST as i32,
    })
}
