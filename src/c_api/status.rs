//! `axm_status_t`: how a membership is doing.

use std::ffi::{CString, c_char};
use std::mem::MaybeUninit;
use std::ptr;
use std::time::Duration;

use super::convert::{SizedStruct, c_text, milliseconds, required, to_identity, write_struct};
use super::error::{axm_error_t, guard};
use super::membership::axm_membership_t;
use super::numbers;
use crate::etcd::{EndpointHealth, RegistrationState, RegistrationStatus};
use crate::status::{Counters, Status};
use crate::worker::WorkerIdentity;

/// The state of a registration.
#[repr(i32)]
pub enum axm_registration_state_t {
    /// The first registration is running.
    AXM_REGISTRATION_JOINING = 1,
    /// The lease is renewed in time.
    AXM_REGISTRATION_REGISTERED = 2,
    /// No renewal was answered for two thirds of the lease.
    AXM_REGISTRATION_SUSPECT = 3,
    /// The lease has ended, or may have ended. Others may list the worker as lost.
    AXM_REGISTRATION_LOST = 4,
    /// The lease has ended or a key is gone. The library writes the keys again.
    AXM_REGISTRATION_REJOINING = 5,
    /// The registration ended on purpose.
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

/// The status of a membership at one moment, as far as this process knew.
///
/// A status never changes. Any number of threads may use it at the same time.
pub struct axm_status_t {
    version: u64,
    view_age: Option<Duration>,
    view_error: Option<CString>,
    counters: Counters,
    endpoints: Vec<Endpoint>,
    registrations: Vec<Registration>,
}

/// One server of etcd. Lives as long as its status. Later versions may add fields at the end.
#[repr(C)]
pub struct axm_endpoint_t {
    /// sizeof(axm_endpoint_t) in the library.
    pub struct_size: usize,
    /// "http://host:port", or "https://host:port" with TLS.
    pub url: *const c_char,
    /// Why the endpoint is quarantined, else why its last failed request failed. NULL if no request
    /// has failed.
    pub last_error: *const c_char,
    /// The number of requests that the endpoint answered.
    pub answered: u64,
    /// The number of requests to the endpoint that failed.
    pub failed: u64,
    /// False while the endpoint is quarantined: it did not answer, and is not used until it answers
    /// again. True for an endpoint that was never asked.
    pub is_healthy: bool,
}

/// The registration of a worker. Lives as long as its status. Later versions may add fields at the
/// end.
#[repr(C)]
pub struct axm_registration_t {
    /// sizeof(axm_registration_t) in the library.
    pub struct_size: usize,
    /// The identity of the worker.
    pub identity: *const c_char,
    /// The id of the lease in etcd; 0 without a lease.
    pub lease: i64,
    /// The time until the lease ends unless it is renewed, in milliseconds.
    pub lease_left_ms: i64,
    /// The number of leases that the registration has had; more than 1 if the worker was registered
    /// again.
    pub leases: u64,
    /// How often no renewal was answered for two thirds of the lease.
    pub late_renewals: u64,
    /// The state.
    pub state: numbers::axm_registration_state_t,
    /// True if another process has registered the same identity, so that its record is the live
    /// one. This process writes its own record again when the other one is gone.
    pub is_displaced: bool,
}

/// The counters of a status, under the names that they have in metrics.
///
/// Start with #AXM_COUNTERS_INIT. Later versions may add fields at the end. The first six count for
/// all memberships of the cluster in this process, since its first list.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct axm_counters_t {
    /// sizeof(axm_counters_t), which #AXM_COUNTERS_INIT sets.
    pub struct_size: usize,
    /// How often all workers were listed: once at first, and whenever changes may have been missed.
    pub listings: u64,
    /// How often etcd opened a watch: after each listing, and after each watch that broke.
    pub watches: u64,
    /// How often a comparison of the list with etcd showed that the list is complete.
    pub checks: u64,
    /// How often a comparison found changes that the watch had not delivered yet. A few are normal.
    pub checks_behind: u64,
    /// How often etcd did not answer a comparison.
    pub checks_failed: u64,
    /// How many listings showed that etcd had lost data: it was wiped, or restored from a backup.
    pub other_histories: u64,
    /// The number of etcd's endpoints in the configuration.
    pub endpoints: u64,
    /// The number of endpoints that are not quarantined.
    pub endpoints_up: u64,
    /// The number of workers that this process keeps registered in the cluster.
    pub registrations: u64,
    /// The number of registrations that are listed as live: registered or suspect, and not
    /// displaced by another process.
    pub registered: u64,
    /// How often no renewal was answered for two thirds of a lease.
    pub late_renewals: u64,
    /// How often a worker was registered again after its lease had ended.
    pub re_registrations: u64,
    /// The time that is left of the lease that ends first, in milliseconds; -1 without a
    /// registration.
    pub lease_left_ms: i64,
}

// SAFETY: the fields are numbers.
unsafe impl SizedStruct for axm_counters_t {
    const NAME: &str = "counters";
    const INIT: &str = "AXM_COUNTERS_INIT";
}

impl From<Counters> for axm_counters_t {
    fn from(counters: Counters) -> Self {
        let view = counters.view;
        axm_counters_t {
            struct_size: size_of::<axm_counters_t>(),
            listings: view.listings,
            watches: view.watches,
            checks: view.checks,
            checks_behind: view.checks_behind,
            checks_failed: view.checks_failed,
            other_histories: view.other_histories,
            endpoints: counters.endpoints as u64,
            endpoints_up: counters.endpoints_up as u64,
            registrations: counters.registrations as u64,
            registered: counters.registered as u64,
            late_renewals: counters.late_renewals,
            re_registrations: counters.re_registrations,
            lease_left_ms: counters.lease_left.map_or(-1, milliseconds),
        }
    }
}

/// An endpoint and the texts that it points to.
struct Endpoint {
    shown: axm_endpoint_t,
    _url: CString,
    _last_error: Option<CString>,
}

/// A registration and the text that it points to.
struct Registration {
    identity: WorkerIdentity,
    shown: axm_registration_t,
    _identity: CString,
}

// SAFETY: the pointers lead to texts that the status owns and nothing changes.
unsafe impl Send for axm_status_t {}
// SAFETY: as above.
unsafe impl Sync for axm_status_t {}

impl From<EndpointHealth> for Endpoint {
    fn from(health: EndpointHealth) -> Self {
        let url = c_text(&health.url);
        let last_error = health.last_error.as_deref().map(c_text);
        Endpoint {
            shown: axm_endpoint_t {
                struct_size: size_of::<axm_endpoint_t>(),
                url: url.as_ptr(),
                last_error: pointer(last_error.as_ref()),
                answered: health.answered,
                failed: health.failed,
                is_healthy: health.healthy,
            },
            _url: url,
            _last_error: last_error,
        }
    }
}

impl From<RegistrationStatus> for Registration {
    fn from(status: RegistrationStatus) -> Self {
        let identity = c_text(&status.identity.to_string());
        Registration {
            identity: status.identity,
            shown: axm_registration_t {
                struct_size: size_of::<axm_registration_t>(),
                identity: identity.as_ptr(),
                lease: status.lease,
                lease_left_ms: milliseconds(status.lease_left),
                leases: status.leases,
                late_renewals: status.late_renewals,
                state: axm_registration_state_t::from(status.state) as i32,
                is_displaced: status.displaced_by.is_some(),
            },
            _identity: identity,
        }
    }
}

impl From<Status> for axm_status_t {
    fn from(status: Status) -> Self {
        axm_status_t {
            version: status.version,
            view_age: status.view_age,
            view_error: status
                .view_error
                .as_ref()
                .map(|error| c_text(&error.to_string())),
            counters: status.counters(),
            endpoints: status.endpoints.into_iter().map(Endpoint::from).collect(),
            registrations: status
                .registrations
                .into_iter()
                .map(Registration::from)
                .collect(),
        }
    }
}

fn pointer(text: Option<&CString>) -> *const c_char {
    text.map_or(ptr::null(), |text| text.as_ptr())
}

/// Returns the status of a membership, as far as this process knows without asking etcd.
///
/// Does not block, also while another call changes a registration.
///
/// \param membership A membership.
/// \param[out] out The status, for axm_status_free.
/// \return NULL, or an error: AXM_ERROR_INVALID_ARGUMENT, AXM_ERROR_CLOSED, AXM_ERROR_FORKED.
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
///
/// \param status A status, or NULL.
#[unsafe(no_mangle)]
pub extern "C" fn axm_status_free(status: Option<Box<axm_status_t>>) {
    drop(status);
}

/// Returns the version of the list in memory, which grows with each change.
///
/// \param status A status, or NULL.
/// \return The version; 0 before the first listing, and for NULL.
#[unsafe(no_mangle)]
pub extern "C" fn axm_status_version(status: Option<&axm_status_t>) -> u64 {
    status.map_or(0, |status| status.version)
}

/// Returns for how long the list in memory has not been compared with etcd.
///
/// \param status A status, or NULL.
/// \return The age in milliseconds; -1 before the first listing, and for NULL.
#[unsafe(no_mangle)]
pub extern "C" fn axm_status_view_age_ms(status: Option<&axm_status_t>) -> i64 {
    status.map_or(-1, |status| status.view_age.map_or(-1, milliseconds))
}

/// Returns why the list in memory cannot be updated at present.
///
/// \param status A status, or NULL.
/// \return The reason, which lives as long as the status; NULL if the list is updated, and for
/// NULL.
#[unsafe(no_mangle)]
pub extern "C" fn axm_status_view_error(status: Option<&axm_status_t>) -> *const c_char {
    pointer(status.and_then(|status| status.view_error.as_ref()))
}

/// Copies the counters of a status.
///
/// \param status A status.
/// \param[in,out] counters Counters, which start as #AXM_COUNTERS_INIT. A field that this library
/// does not know stays 0.
/// \return NULL, or an error: AXM_ERROR_INVALID_ARGUMENT.
#[must_use]
#[unsafe(no_mangle)]
pub extern "C" fn axm_status_counters(
    status: Option<&axm_status_t>,
    counters: *mut axm_counters_t,
) -> Option<Box<axm_error_t>> {
    guard(|| {
        let status = required(status, "status")?;
        write_struct(counters, status.counters.into())
    })
}

/// Returns the number of etcd's endpoints in the configuration.
///
/// \param status A status, or NULL.
/// \return The number; 0 if the workers come from a hosts file, and for NULL.
#[unsafe(no_mangle)]
pub extern "C" fn axm_status_endpoint_count(status: Option<&axm_status_t>) -> usize {
    status.map_or(0, |status| status.endpoints.len())
}

/// Returns the endpoint at an index.
///
/// \param status A status, or NULL.
/// \param index An index.
/// \return The endpoint; NULL if the index is not below axm_status_endpoint_count.
#[unsafe(no_mangle)]
pub extern "C" fn axm_status_endpoint(
    status: Option<&axm_status_t>,
    index: usize,
) -> Option<&axm_endpoint_t> {
    Some(&status?.endpoints.get(index)?.shown)
}

/// Returns the number of workers of the cluster that this process keeps registered.
///
/// They may have joined through any membership of this process.
///
/// \param status A status, or NULL.
/// \return The number; 0 for a STATIC cluster, and for NULL.
#[unsafe(no_mangle)]
pub extern "C" fn axm_status_registration_count(status: Option<&axm_status_t>) -> usize {
    status.map_or(0, |status| status.registrations.len())
}

/// Returns the registration at an index.
///
/// \param status A status, or NULL.
/// \param index An index.
/// \return The registration; NULL if the index is not below axm_status_registration_count.
#[unsafe(no_mangle)]
pub extern "C" fn axm_status_registration(
    status: Option<&axm_status_t>,
    index: usize,
) -> Option<&axm_registration_t> {
    Some(&status?.registrations.get(index)?.shown)
}

/// Finds the registration of a worker.
///
/// \param status A status.
/// \param identity The identity of the worker, such as "worker-<uuid>".
/// \param[out] out The registration; NULL if this process has not registered the worker.
/// \return NULL, or an error: AXM_ERROR_INVALID_ARGUMENT.
#[must_use]
#[unsafe(no_mangle)]
pub extern "C" fn axm_status_find_registration(
    status: Option<&axm_status_t>,
    identity: *const c_char,
    out: Option<&mut MaybeUninit<*const axm_registration_t>>,
) -> Option<Box<axm_error_t>> {
    guard(|| {
        let status = required(status, "status")?;
        let wanted = to_identity(identity, "identity")?;
        let found = status
            .registrations
            .iter()
            .find(|registration| registration.identity == wanted);
        required(out, "out")?.write(found.map_or(ptr::null(), |it| ptr::from_ref(&it.shown)));
        Ok(())
    })
}
