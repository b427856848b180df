//! `axm_status_t`: how a membership is doing.

use std::ffi::{CString, c_char};
use std::mem::MaybeUninit;
use std::ptr;
use std::time::Duration;

use super::convert::{c_text, milliseconds, required};
use super::error::{axm_error_t, guard};
use super::membership::axm_membership_t;
use crate::etcd::{EndpointHealth, RegistrationState, RegistrationStatus, ViewCounters};
use crate::membership::Status;

/// Where a registration stands.
#[repr(C)]
pub enum axm_registration_state_t {
    /// The first registration is under way.
    AXM_REGISTRATION_JOINING = 1,
    /// The lease is renewed in time.
    AXM_REGISTRATION_REGISTERED = 2,
    /// No renewal was answered for two thirds of the lease.
    AXM_REGISTRATION_SUSPECT = 3,
    /// The lease has run out, or may have: others may list the worker as lost.
    AXM_REGISTRATION_LOST = 4,
    /// The lease has run out or a key is gone; the keys are being written again.
    AXM_REGISTRATION_REJOINING = 5,
    /// Ended on purpose.
    AXM_REGISTRATION_LEFT = 6,
}

impl From<RegistrationState> for axm_registration_state_t {
    fn from(state: RegistrationState) -> Self {
        use axm_registration_state_t::*;
        match state {
            RegistrationState::Joining => AXM_REGISTRATION_JOINING,
            RegistrationState::Registered => AXM_REGISTRATION_REGISTERED,
            RegistrationState::Suspect => AXM_REGISTRATION_SUSPECT,
            RegistrationState::Lost => AXM_REGISTRATION_LOST,
            RegistrationState::Rejoining => AXM_REGISTRATION_REJOINING,
            RegistrationState::Left => AXM_REGISTRATION_LEFT,
        }
    }
}

/// How a membership was doing at one moment, as far as this process knew. Never changes.
pub struct axm_status_t {
    version: u64,
    view_age: Option<Duration>,
    view_error: Option<CString>,
    counters: ViewCounters,
    endpoints: Vec<Endpoint>,
    registrations: Vec<Registration>,
}

struct Endpoint {
    url: CString,
    last_error: Option<CString>,
    health: EndpointHealth,
}

struct Registration {
    identity: CString,
    status: RegistrationStatus,
}

impl From<Status> for axm_status_t {
    fn from(status: Status) -> Self {
        let endpoint = |health: EndpointHealth| Endpoint {
            url: c_text(&health.url),
            last_error: health.last_error.as_deref().map(c_text),
            health,
        };
        let registration = |status: RegistrationStatus| Registration {
            identity: c_text(&status.identity.to_string()),
            status,
        };
        axm_status_t {
            version: status.version,
            view_age: status.view_age,
            view_error: status.view_error.map(|error| c_text(&error.to_string())),
            counters: status.view_counters,
            endpoints: status.endpoints.into_iter().map(endpoint).collect(),
            registrations: status.registrations.into_iter().map(registration).collect(),
        }
    }
}

fn pointer(text: Option<&CString>) -> *const c_char {
    text.map_or(ptr::null(), |text| text.as_ptr())
}

fn endpoint(status: Option<&axm_status_t>, index: usize) -> Option<&Endpoint> {
    status?.endpoints.get(index)
}

fn registration(status: Option<&axm_status_t>, index: usize) -> Option<&Registration> {
    status?.registrations.get(index)
}

/// How the membership is doing, as far as this process knows without asking anybody. Does not block, also while another
/// call changes a registration.
///
/// Errors: INVALID_ARGUMENT, CLOSED, FORKED.
#[must_use]
#[unsafe(no_mangle)]
pub extern "C" fn axm_membership_status(
    membership: Option<&axm_membership_t>,
    out: Option<&mut MaybeUninit<*mut axm_status_t>>,
) -> Option<Box<axm_error_t>> {
    guard(|| {
        let membership = required(membership, "membership")?;
        let out = required(out, "out")?;
        membership.runtime()?;
        let status = axm_status_t::from(membership.core().status()?);
        out.write(Box::into_raw(Box::new(status)));
        Ok(())
    })
}

/// Frees a status.
#[unsafe(no_mangle)]
pub extern "C" fn axm_status_free(status: Option<Box<axm_status_t>>) {
    drop(status);
}

/// The version of the list in memory, which counts its changes; 0 before the first listing.
#[unsafe(no_mangle)]
pub extern "C" fn axm_status_version(status: Option<&axm_status_t>) -> u64 {
    status.map_or(0, |status| status.version)
}

/// For how long the list in memory has not been compared with etcd, in milliseconds; -1 before the first listing.
#[unsafe(no_mangle)]
pub extern "C" fn axm_status_view_age_ms(status: Option<&axm_status_t>) -> i64 {
    status.map_or(-1, |status| status.view_age.map_or(-1, milliseconds))
}

/// Why the list in memory cannot be brought up to date at present; NULL if it can.
#[unsafe(no_mangle)]
pub extern "C" fn axm_status_view_error(status: Option<&axm_status_t>) -> *const c_char {
    pointer(status.and_then(|status| status.view_error.as_ref()))
}

/// How often all workers were listed, since the process first listed the cluster: once at first, and whenever changes may
/// have been missed.
#[unsafe(no_mangle)]
pub extern "C" fn axm_status_listings(status: Option<&axm_status_t>) -> u64 {
    status.map_or(0, |status| status.counters.listings)
}

/// How often etcd opened a watch: once after each listing, and whenever the connection of a watch was lost.
#[unsafe(no_mangle)]
pub extern "C" fn axm_status_watches(status: Option<&axm_status_t>) -> u64 {
    status.map_or(0, |status| status.counters.watches)
}

/// How often a comparison of the list in memory with etcd found nothing missing.
#[unsafe(no_mangle)]
pub extern "C" fn axm_status_checks(status: Option<&axm_status_t>) -> u64 {
    status.map_or(0, |status| status.counters.checks)
}

/// How often such a comparison found changes that the watch had not brought yet. Some are normal: the changes are on
/// their way. What does not come within seconds is listed anew.
#[unsafe(no_mangle)]
pub extern "C" fn axm_status_checks_behind(status: Option<&axm_status_t>) -> u64 {
    status.map_or(0, |status| status.counters.checks_behind)
}

/// How often etcd did not answer such a comparison.
#[unsafe(no_mangle)]
pub extern "C" fn axm_status_checks_failed(status: Option<&axm_status_t>) -> u64 {
    status.map_or(0, |status| status.counters.checks_failed)
}

/// How many listings showed that etcd had lost data: it was wiped, or restored from a backup.
#[unsafe(no_mangle)]
pub extern "C" fn axm_status_other_histories(status: Option<&axm_status_t>) -> u64 {
    status.map_or(0, |status| status.counters.other_histories)
}

/// The number of etcd's endpoints in the configuration; 0 if the workers come from a hosts file.
#[unsafe(no_mangle)]
pub extern "C" fn axm_status_endpoint_count(status: Option<&axm_status_t>) -> usize {
    status.map_or(0, |status| status.endpoints.len())
}

/// "http://host:port", "https://host:port" with TLS; NULL if the index is not below axm_status_endpoint_count.
#[unsafe(no_mangle)]
pub extern "C" fn axm_status_endpoint_url(
    status: Option<&axm_status_t>,
    index: usize,
) -> *const c_char {
    pointer(endpoint(status, index).map(|endpoint| &endpoint.url))
}

/// Whether the endpoint is used. One that did not answer is quarantined until it answers again. One that was never
/// asked counts as healthy.
#[unsafe(no_mangle)]
pub extern "C" fn axm_status_endpoint_is_healthy(
    status: Option<&axm_status_t>,
    index: usize,
) -> bool {
    endpoint(status, index).is_some_and(|endpoint| endpoint.health.healthy)
}

/// The number of requests that the endpoint answered.
#[unsafe(no_mangle)]
pub extern "C" fn axm_status_endpoint_answered(status: Option<&axm_status_t>, index: usize) -> u64 {
    endpoint(status, index).map_or(0, |endpoint| endpoint.health.answered)
}

/// The number of requests to the endpoint that failed.
#[unsafe(no_mangle)]
pub extern "C" fn axm_status_endpoint_failed(status: Option<&axm_status_t>, index: usize) -> u64 {
    endpoint(status, index).map_or(0, |endpoint| endpoint.health.failed)
}

/// Why the last of these failed; NULL if none has.
///
/// While the endpoint is quarantined, this is the reason of that.
#[unsafe(no_mangle)]
pub extern "C" fn axm_status_endpoint_last_error(
    status: Option<&axm_status_t>,
    index: usize,
) -> *const c_char {
    pointer(endpoint(status, index).and_then(|endpoint| endpoint.last_error.as_ref()))
}

/// The number of workers of this cluster that the process keeps registered, through this membership or another; 0 for a
/// STATIC cluster.
#[unsafe(no_mangle)]
pub extern "C" fn axm_status_registration_count(status: Option<&axm_status_t>) -> usize {
    status.map_or(0, |status| status.registrations.len())
}

/// Whose registration it is; NULL if the index is not below axm_status_registration_count.
#[unsafe(no_mangle)]
pub extern "C" fn axm_status_registration_identity(
    status: Option<&axm_status_t>,
    index: usize,
) -> *const c_char {
    pointer(registration(status, index).map(|registration| &registration.identity))
}

/// One of the AXM_REGISTRATION_* values.
#[unsafe(no_mangle)]
pub extern "C" fn axm_status_registration_state(
    status: Option<&axm_status_t>,
    index: usize,
) -> i32 {
    registration(status, index).map_or(0, |registration| {
        axm_registration_state_t::from(registration.status.state) as i32
    })
}

/// The id of the registration's lease in etcd; 0 while there is none.
#[unsafe(no_mangle)]
pub extern "C" fn axm_status_registration_lease(
    status: Option<&axm_status_t>,
    index: usize,
) -> i64 {
    registration(status, index).map_or(0, |registration| registration.status.lease)
}

/// How long that lease lasts unless it is renewed, in milliseconds.
#[unsafe(no_mangle)]
pub extern "C" fn axm_status_registration_lease_left_ms(
    status: Option<&axm_status_t>,
    index: usize,
) -> i64 {
    registration(status, index).map_or(0, |registration| {
        milliseconds(registration.status.lease_left)
    })
}

/// Whether another process has registered the same identity: then its record is the live one, and this process writes its
/// own again when that one is gone. False if the index is not below axm_status_registration_count.
#[unsafe(no_mangle)]
pub extern "C" fn axm_status_registration_is_displaced(
    status: Option<&axm_status_t>,
    index: usize,
) -> bool {
    registration(status, index)
        .is_some_and(|registration| registration.status.displaced_by.is_some())
}

/// How many leases the registration has had: more than one if it was lost in between.
#[unsafe(no_mangle)]
pub extern "C" fn axm_status_registration_leases(
    status: Option<&axm_status_t>,
    index: usize,
) -> u64 {
    registration(status, index).map_or(0, |registration| registration.status.leases)
}
