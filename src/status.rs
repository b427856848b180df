//! The state of a manager.

use std::time::Duration;

use crate::error::Error;
use crate::etcd::{EndpointHealth, RegistrationState, RegistrationStatus, ViewCounters};
use crate::worker::WorkerIdentity;

/// The state of a manager, as far as this process knows it without a request.
#[derive(Debug, Clone, Default)]
pub struct Status {
    /// The version of the view in memory, or 0 before the first listing.
    pub version: u64,
    /// The time since the view in memory was last compared with etcd; `None` before the first
    /// listing.
    pub view_age: Option<Duration>,
    /// Why the view cannot be updated at present.
    pub view_error: Option<Error>,
    /// Counters of listings, watches and checks, for all managers of the cluster in this process.
    pub view_counters: ViewCounters,
    /// The endpoints of etcd. Empty for a STATIC cluster.
    pub endpoints: Vec<EndpointHealth>,
    /// The workers that this process registers in the cluster, through any manager.
    pub registrations: Vec<RegistrationStatus>,
}

/// The numbers of a [`Status`] that metrics show. Every language has the same names.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// The counters of listings, watches and checks.
    pub view: ViewCounters,
    /// The endpoints of etcd in the configuration.
    pub endpoints: usize,
    /// The endpoints that are not quarantined.
    pub endpoints_up: usize,
    /// The workers that this process keeps registered in the cluster.
    pub registrations: usize,
    /// The registrations that are listed as live: registered or suspect, and not displaced by
    /// another process.
    pub registered: usize,
    /// How often no renewal was answered for two thirds of a lease.
    pub late_renewals: u64,
    /// How often a worker was registered again after its lease had ended.
    pub re_registrations: u64,
    /// The time that is left of the lease that ends first; `None` without a registration.
    pub lease_left: Option<Duration>,
}

impl Status {
    /// Returns the numbers of this status.
    pub fn counters(&self) -> Counters {
        let registrations = &self.registrations;
        Counters {
            view: self.view_counters,
            endpoints: self.endpoints.len(),
            endpoints_up: self.endpoints.iter().filter(|it| it.healthy).count(),
            registrations: registrations.len(),
            registered: registrations.iter().filter(|it| is_registered(it)).count(),
            late_renewals: registrations.iter().map(|it| it.late_renewals).sum(),
            re_registrations: registrations
                .iter()
                .map(|it| it.leases.saturating_sub(1))
                .sum(),
            lease_left: registrations.iter().map(|it| it.lease_left).min(),
        }
    }

    /// Returns the registration of a worker; `None` if this process has not registered the worker.
    pub fn registration(&self, identity: &WorkerIdentity) -> Option<&RegistrationStatus> {
        self.registrations
            .iter()
            .find(|it| it.identity == *identity)
    }
}

fn is_registered(registration: &RegistrationStatus) -> bool {
    registration.displaced_by.is_none()
        && matches!(
            registration.state,
            RegistrationState::Registered | RegistrationState::Suspect
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn registration(id: i64, state: RegistrationState, leases: u64) -> RegistrationStatus {
        RegistrationStatus {
            identity: WorkerIdentity::V0(id),
            state,
            lease: id,
            lease_left: Duration::from_secs(10 * leases),
            leases,
            late_renewals: 2,
            displaced_by: None,
        }
    }

    fn endpoint(healthy: bool) -> EndpointHealth {
        EndpointHealth {
            url: "http://etcd:2379".to_owned(),
            healthy,
            answered: 0,
            failed: 0,
            last_error: None,
        }
    }

    #[test]
    fn counters_sum_up_the_registrations_and_the_endpoints() {
        use RegistrationState::*;
        let displaced = RegistrationStatus {
            displaced_by: Some(7),
            ..registration(4, Registered, 1)
        };
        let status = Status {
            endpoints: vec![endpoint(true), endpoint(false), endpoint(true)],
            registrations: vec![
                registration(1, Joining, 0),
                registration(2, Registered, 3),
                registration(3, Suspect, 2),
                displaced,
                registration(5, Lost, 1),
            ],
            ..Status::default()
        };
        let expected = Counters {
            endpoints: 3,
            endpoints_up: 2,
            registrations: 5,
            registered: 2,
            late_renewals: 10,
            re_registrations: 3,
            lease_left: Some(Duration::ZERO),
            ..Counters::default()
        };
        assert_eq!(status.counters(), expected);
        assert_eq!(Status::default().counters(), Counters::default());
        let found = status.registration(&WorkerIdentity::V0(3));
        assert_eq!(found.map(|it| it.state), Some(Suspect));
        assert_eq!(status.registration(&WorkerIdentity::V0(9)), None);
    }
}
