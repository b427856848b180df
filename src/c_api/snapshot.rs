//! `axm_snapshot_t` and `axm_member_t`: a listing.

use std::ffi::{CString, c_char};
use std::mem::MaybeUninit;
use std::ptr;
use std::sync::Arc;

use super::convert::{c_text, invalid, milliseconds, required, to_identity};
use super::error::{axm_error_t, guard};
use crate::error::Result;
use crate::view::{ClusterView, Confirmed, Member, MemberFilter};
use crate::worker::{WorkerIdentity, WorkerState};

/// Which workers are asked for.
#[repr(C)]
pub enum axm_filter_t {
    /// Every registered worker, live or lost.
    AXM_FILTER_ALL = 0,
    /// Workers that renew their lease.
    AXM_FILTER_LIVE = 1,
    /// Registered workers whose lease has ended.
    AXM_FILTER_FAILED = 2,
}

/// The state of a worker.
#[repr(C)]
pub enum axm_state_t {
    /// Registered and renewing its lease.
    AXM_STATE_LIVE = 1,
    /// Registered, but its lease has ended.
    AXM_STATE_LOST = 2,
}

/// The filter of a number from C.
pub(super) fn to_filter(number: i32) -> Result<MemberFilter> {
    [
        (axm_filter_t::AXM_FILTER_ALL, MemberFilter::All),
        (axm_filter_t::AXM_FILTER_LIVE, MemberFilter::Live),
        (axm_filter_t::AXM_FILTER_FAILED, MemberFilter::Failed),
    ]
    .into_iter()
    .find_map(|(code, filter)| (code as i32 == number).then_some(filter))
    .ok_or_else(|| {
        invalid(format!(
            "filter is {number}, expected an AXM_FILTER_* value"
        ))
    })
}

/// Some or all workers of a cluster at one moment, in the order of their keys in etcd (of the lines, where they come from
/// a hosts file). Never changes, but for its age. Counted: it lives until every holder has freed it, however many memberships are freed
/// before. The same listing may be handed out many times, and costs nothing then.
pub struct axm_snapshot_t {
    version: u64,
    revision: i64,
    members: Vec<axm_member_t>,
    skipped: Vec<Skipped>,
    confirmed: Confirmed,
}

/// A worker in a listing. Belongs to its snapshot, as do its texts.
pub struct axm_member_t {
    identity: WorkerIdentity,
    identity_text: CString,
    host: CString,
    container_host: CString,
    domain_socket_path: CString,
    rpc_port: i32,
    data_port: i32,
    secure_rpc_port: i32,
    netty_data_port: i32,
    web_port: i32,
    http_server_port: i32,
    state: WorkerState,
}

struct Skipped {
    key: CString,
    reason: CString,
}

impl axm_snapshot_t {
    pub(super) fn new(view: &ClusterView, filter: MemberFilter) -> Self {
        axm_snapshot_t {
            version: view.version(),
            revision: view.revision(),
            members: view.members(filter).iter().map(axm_member_t::new).collect(),
            skipped: view
                .skipped()
                .iter()
                .map(|record| Skipped {
                    key: c_text(&record.key),
                    reason: c_text(&record.reason),
                })
                .collect(),
            confirmed: view.confirmed.clone(),
        }
    }

    /// A pointer that counts as one holder.
    pub(super) fn into_raw(self: Arc<Self>) -> *mut axm_snapshot_t {
        Arc::into_raw(self).cast_mut()
    }
}

impl axm_member_t {
    pub(super) fn new(member: &Member) -> Self {
        let address = &member.worker.address;
        let text = |text: &Option<String>| c_text(text.as_deref().unwrap_or_default());
        axm_member_t {
            identity: member.worker.identity,
            identity_text: c_text(&member.worker.identity.to_string()),
            host: text(&address.host),
            container_host: text(&address.container_host),
            domain_socket_path: text(&address.domain_socket_path),
            rpc_port: address.rpc_port,
            data_port: address.data_port,
            secure_rpc_port: address.secure_rpc_port,
            netty_data_port: address.netty_data_port,
            web_port: address.web_port,
            http_server_port: address.http_server_port,
            state: member.state,
        }
    }
}

/// Another hold on the same snapshot, for another owner, who frees it. Returns the snapshot.
#[unsafe(no_mangle)]
pub extern "C" fn axm_snapshot_retain(snapshot: *const axm_snapshot_t) -> *mut axm_snapshot_t {
    if !snapshot.is_null() {
        // SAFETY: the pointer is from `into_raw`, and the caller holds the snapshot, so it is alive.
        unsafe { Arc::increment_strong_count(snapshot) };
    }
    snapshot.cast_mut()
}

/// Ends one hold on the snapshot; the last one frees it, with its workers and their texts.
#[unsafe(no_mangle)]
pub extern "C" fn axm_snapshot_free(snapshot: *mut axm_snapshot_t) {
    if !snapshot.is_null() {
        // SAFETY: the pointer is from `into_raw`, and the caller gives up one hold on it.
        unsafe { Arc::decrement_strong_count(snapshot) };
    }
}

/// Grows with every change, while the cluster stays open; never 0. May start again from 1 when the cluster is opened again.
#[unsafe(no_mangle)]
pub extern "C" fn axm_snapshot_version(snapshot: Option<&axm_snapshot_t>) -> u64 {
    snapshot.map_or(0, |snapshot| snapshot.version)
}

/// The etcd revision that the snapshot shows; 0 if the workers come from a hosts file.
#[unsafe(no_mangle)]
pub extern "C" fn axm_snapshot_revision(snapshot: Option<&axm_snapshot_t>) -> i64 {
    snapshot.map_or(0, |snapshot| snapshot.revision)
}

/// How many milliseconds ago etcd was last known to have exactly these workers; -1 for NULL. A few thousand at most while
/// they are the newest and etcd answers; from then on it grows. 0 if the workers come from a hosts file.
#[unsafe(no_mangle)]
pub extern "C" fn axm_snapshot_age_ms(snapshot: Option<&axm_snapshot_t>) -> i64 {
    snapshot.map_or(-1, |snapshot| milliseconds(snapshot.confirmed.age()))
}

/// The number of workers.
#[unsafe(no_mangle)]
pub extern "C" fn axm_snapshot_count(snapshot: Option<&axm_snapshot_t>) -> usize {
    snapshot.map_or(0, |snapshot| snapshot.members.len())
}

/// The worker at an index; NULL if the index is not below axm_snapshot_count.
#[unsafe(no_mangle)]
pub extern "C" fn axm_snapshot_member(
    snapshot: Option<&axm_snapshot_t>,
    index: usize,
) -> Option<&axm_member_t> {
    snapshot?.members.get(index)
}

/// The worker of an identity such as "worker-<uuid>": *out is NULL if the snapshot does not contain it.
///
/// Errors: INVALID_ARGUMENT.
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
        let found = snapshot
            .members
            .iter()
            .find(|member| member.identity == wanted);
        required(out, "out")?.write(found.map_or(ptr::null(), ptr::from_ref));
        Ok(())
    })
}

/// The number of keys that belong to the cluster but are not listed, because their records cannot be understood.
#[unsafe(no_mangle)]
pub extern "C" fn axm_snapshot_skipped_count(snapshot: Option<&axm_snapshot_t>) -> usize {
    snapshot.map_or(0, |snapshot| snapshot.skipped.len())
}

/// The etcd key of a record that is not listed; NULL if the index is not below axm_snapshot_skipped_count.
#[unsafe(no_mangle)]
pub extern "C" fn axm_snapshot_skipped_key(
    snapshot: Option<&axm_snapshot_t>,
    index: usize,
) -> *const c_char {
    snapshot
        .and_then(|snapshot| snapshot.skipped.get(index))
        .map_or(ptr::null(), |skipped| skipped.key.as_ptr())
}

/// Why that record is not listed.
#[unsafe(no_mangle)]
pub extern "C" fn axm_snapshot_skipped_reason(
    snapshot: Option<&axm_snapshot_t>,
    index: usize,
) -> *const c_char {
    snapshot
        .and_then(|snapshot| snapshot.skipped.get(index))
        .map_or(ptr::null(), |skipped| skipped.reason.as_ptr())
}

/// The identity: "worker-<uuid>", or "worker-<number>" for workers of old releases.
#[unsafe(no_mangle)]
pub extern "C" fn axm_member_identity(member: Option<&axm_member_t>) -> *const c_char {
    member.map_or(ptr::null(), |member| member.identity_text.as_ptr())
}

/// One of the AXM_STATE_* values.
#[unsafe(no_mangle)]
pub extern "C" fn axm_member_state(member: Option<&axm_member_t>) -> i32 {
    member.map_or(0, |member| match member.state {
        WorkerState::Live => axm_state_t::AXM_STATE_LIVE as i32,
        WorkerState::Lost => axm_state_t::AXM_STATE_LOST as i32,
    })
}

/// The host name or IP address of the worker's services.
#[unsafe(no_mangle)]
pub extern "C" fn axm_member_host(member: Option<&axm_member_t>) -> *const c_char {
    member.map_or(ptr::null(), |member| member.host.as_ptr())
}

/// The host name of the worker's container; empty if there is none.
#[unsafe(no_mangle)]
pub extern "C" fn axm_member_container_host(member: Option<&axm_member_t>) -> *const c_char {
    member.map_or(ptr::null(), |member| member.container_host.as_ptr())
}

/// The path of the domain socket for short-circuit reads; empty if there is none.
#[unsafe(no_mangle)]
pub extern "C" fn axm_member_domain_socket_path(member: Option<&axm_member_t>) -> *const c_char {
    member.map_or(ptr::null(), |member| member.domain_socket_path.as_ptr())
}

/// The port of the RPC service; 0, as for all ports, if there is none.
#[unsafe(no_mangle)]
pub extern "C" fn axm_member_rpc_port(member: Option<&axm_member_t>) -> i32 {
    member.map_or(0, |member| member.rpc_port)
}

/// The port of the data service.
#[unsafe(no_mangle)]
pub extern "C" fn axm_member_data_port(member: Option<&axm_member_t>) -> i32 {
    member.map_or(0, |member| member.data_port)
}

/// The port of the secure RPC service.
#[unsafe(no_mangle)]
pub extern "C" fn axm_member_secure_rpc_port(member: Option<&axm_member_t>) -> i32 {
    member.map_or(0, |member| member.secure_rpc_port)
}

/// The port of the Netty data service.
#[unsafe(no_mangle)]
pub extern "C" fn axm_member_netty_data_port(member: Option<&axm_member_t>) -> i32 {
    member.map_or(0, |member| member.netty_data_port)
}

/// The port of the web server.
#[unsafe(no_mangle)]
pub extern "C" fn axm_member_web_port(member: Option<&axm_member_t>) -> i32 {
    member.map_or(0, |member| member.web_port)
}

/// The port of the HTTP server.
#[unsafe(no_mangle)]
pub extern "C" fn axm_member_http_server_port(member: Option<&axm_member_t>) -> i32 {
    member.map_or(0, |member| member.http_server_port)
}
