//! Decides when to renew, when to register again, and which state the registration has. It has no
//! I/O and no clock.
//!
//! The task of the registration reports [`Event`]s and performs [`Action`]s. A lease counts as
//! alive until its TTL after the moment at which a renewal was *sent*, because etcd counts from a
//! later moment.

#[cfg(test)]
mod simulation;

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::boottime::BootTime;

/// The state of a registration.
///
/// The numbers are part of the C and Java interfaces: they never change and are never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(i32)]
pub enum RegistrationState {
    /// The first registration is running.
    Joining = 1,
    /// The keys are written and the lease is renewed in time.
    Registered = 2,
    /// No renewal was answered for two thirds of the TTL.
    Suspect = 3,
    /// The lease has ended, or may have ended. Other processes may list the worker as lost.
    Lost = 4,
    /// A key is missing, or the lease is gone. The library registers the worker again.
    Rejoining = 5,
    /// The registration ended on purpose.
    Left = 6,
}

/// A lease that etcd granted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Lease {
    pub(crate) id: i64,
    /// The time to live that etcd granted, which may be more than requested.
    pub(crate) ttl: Duration,
    /// When the request for it was sent.
    pub(crate) sent_at: BootTime,
}

/// An event that the task reports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Event {
    /// A renewal that was sent at `sent_at` was answered.
    Renewed { lease: i64, sent_at: BootTime },
    /// A renewal was not answered within its patience, and its endpoint is quarantined. An answer
    /// may still arrive.
    RenewalSilent { lease: i64 },
    /// A renewal ended without an answer about the lease.
    RenewalFailed { lease: i64, reason: String },
    /// A renewal found that the lease does not exist.
    LeaseGone { lease: i64 },
    /// The lease of a running join or repair was granted. It needs renewals from now on.
    Granted { lease: Lease },
    /// All keys that this worker may write exist, on this lease.
    Registered { lease: Lease },
    /// All keys that this worker may write exist, but the live key is on the lease `holder`.
    Displaced { lease: Lease, holder: i64 },
    /// Registering found that the lease does not exist.
    RegisterFoundLeaseGone { lease: i64 },
    /// Registering failed. `lease` exists or may exist.
    RegisterFailed { lease: Option<Lease> },
    /// The worker's live key is gone, or has a lease that was given up.
    LiveKeyMissing,
    /// The live key has a lease of another process, or no lease (0).
    LiveKeyForeign { holder: i64 },
    /// The worker's ring key is gone.
    RingKeyMissing,
    /// The worker's program gave a sign of life.
    HostAlive { at: BootTime },
}

impl Event {
    /// Whether this event ends a join or repair.
    pub(crate) fn ends_registering(&self) -> bool {
        matches!(
            self,
            Event::Registered { .. }
                | Event::Displaced { .. }
                | Event::RegisterFoundLeaseGone { .. }
                | Event::RegisterFailed { .. }
        )
    }
}

/// The reason why a registration is suspect or lost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Blame {
    /// etcd answered no renewal for this long. The text is the error of the last one.
    Etcd(Duration, Option<String>),
    /// The program gave no sign of life for this long, so the lease was not renewed.
    Host(Duration),
    /// The process or its machine did not run for this long.
    Stopped(Duration),
}

/// An action for the task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Action {
    /// Send a renewal. After `patience`, give up on its endpoint and report that. After `limit`,
    /// give up the renewal.
    Renew {
        lease: Lease,
        patience: Duration,
        limit: Duration,
    },
    /// Write the missing keys on this lease, or on a new lease.
    Register { lease: Option<Lease> },
    /// Publish the new state.
    Report(RegistrationState),
}

/// The maximum number of renewals that wait for an answer, each on its own stream. It allows a
/// renewal after each patience while the first one may still be answered.
const MAX_RENEWALS: usize = 5;
/// How long to wait for an answer. After a TTL the answer would be useless.
const LONGEST_RENEWAL: Duration = Duration::from_secs(16);
/// Workers that lost their leases at the same moment are registered again at random times within
/// this duration, or within a fifth of the TTL if that is less.
const REJOIN_SPREAD: Duration = Duration::from_secs(1);
/// Keys that were deleted together are written again at random times within this duration.
const RESTORE_SPREAD: Duration = Duration::from_millis(300);
const LONGEST_PATIENCE: Duration = Duration::from_secs(2);
const FIRST_RETRY: Duration = Duration::from_millis(100);
const LONGEST_RETRY: Duration = Duration::from_secs(2);
/// A registration that lasts for less counts as failed, and the pause before the next one grows.
const STEADY: Duration = Duration::from_secs(10);
/// The longest pause between registrations that do not last.
const LONGEST_RESTORE: Duration = Duration::from_secs(5);
/// The longest time between two turns of the task.
const TICK: Duration = Duration::from_secs(1);
/// A longer time between two turns shows that the process did not run.
const LONGEST_TURN: Duration = Duration::from_millis(1500);

/// The decisions of one registration.
pub(crate) struct Session {
    state: RegistrationState,
    lease: Option<Lease>,
    /// The last lease that was found to be gone. A late answer may still name it.
    gone: Option<i64>,
    /// When the last answered renewal was sent.
    renewed_at: BootTime,
    renewals_in_flight: usize,
    /// The number of renewals since the last answer.
    renewal_tries: u32,
    /// Why the last of these renewals failed.
    renewal_failure: Option<String>,
    renew_at: BootTime,
    /// Whether the keys have ever been written.
    joined: bool,
    /// The lease of the other process that holds the live key.
    displaced_by: Option<i64>,
    register_needed: bool,
    register_in_flight: bool,
    /// The number of registrations since the last one that lasted.
    register_tries: u32,
    register_at: BootTime,
    registered_at: BootTime,
    /// When the program last gave a sign of life, if it promised to.
    host_alive_at: Option<BootTime>,
    polled_at: BootTime,
    /// How long the process has not run since the last answer of etcd.
    stopped: Duration,
    rng: StdRng,
}

impl Session {
    /// Creates a session without a lease. With `host_alive_at` it renews only while
    /// [`Event::HostAlive`] arrives.
    pub(crate) fn new(now: BootTime, host_alive_at: Option<BootTime>, seed: u64) -> Self {
        Session {
            state: RegistrationState::Joining,
            lease: None,
            gone: None,
            renewed_at: now,
            renewals_in_flight: 0,
            renewal_tries: 0,
            renewal_failure: None,
            renew_at: now,
            joined: false,
            displaced_by: None,
            register_needed: false,
            register_in_flight: false,
            register_tries: 0,
            register_at: now,
            registered_at: now,
            host_alive_at,
            polled_at: now,
            stopped: Duration::ZERO,
            rng: StdRng::seed_from_u64(seed),
        }
    }

    /// Whether a registration or join is running.
    pub(crate) fn is_registering(&self) -> bool {
        self.register_in_flight
    }

    /// Whether the keys have ever been written.
    pub(crate) fn has_joined(&self) -> bool {
        self.joined
    }

    /// Returns the lease of the keys.
    pub(crate) fn lease(&self) -> Option<Lease> {
        self.lease
    }

    /// Returns the lease of the other process that holds the live key, or 0 for a key without a
    /// lease. Returns `None` if the key belongs to this process.
    pub(crate) fn displaced_by(&self) -> Option<i64> {
        self.displaced_by
    }

    /// Returns when the lease ends unless it is renewed.
    pub(crate) fn lease_ends_at(&self) -> Option<BootTime> {
        self.lease.map(|lease| self.lost_at(lease))
    }

    /// Handles an event.
    pub(crate) fn handle(&mut self, event: Event, now: BootTime) {
        match event {
            Event::Renewed { lease, sent_at } => {
                self.renewals_in_flight = self.renewals_in_flight.saturating_sub(1);
                if let Some(current) = self.lease.filter(|current| current.id == lease)
                    && sent_at >= self.renewed_at
                {
                    self.renewed_at = sent_at;
                    self.answered();
                    self.renew_at = sent_at + self.vary(current.ttl / 3);
                }
            }
            // Another renewal may have been answered meanwhile.
            Event::RenewalSilent { lease } => {
                if self.renewal_tries > 0 && self.lease.is_some_and(|current| current.id == lease) {
                    self.renew_at = now;
                }
            }
            Event::RenewalFailed { lease, reason } => {
                self.renewals_in_flight = self.renewals_in_flight.saturating_sub(1);
                if let Some(current) = self.lease.filter(|current| current.id == lease) {
                    self.renewal_failure = Some(reason);
                    let longest = LONGEST_RETRY.min(current.ttl / 10);
                    let retry = now + self.retry_delay(self.renewal_tries, longest);
                    self.renew_at = self.renew_at.min(retry).max(now);
                }
            }
            Event::LeaseGone { lease } => {
                self.renewals_in_flight = self.renewals_in_flight.saturating_sub(1);
                self.lose_lease(lease, now);
            }
            Event::Granted { lease } => self.hold(Some(lease), now),
            Event::Registered { lease } => self.registered(lease, None, now),
            Event::Displaced { lease, holder } => self.registered(lease, Some(holder), now),
            Event::RegisterFoundLeaseGone { lease } => {
                self.register_in_flight = false;
                self.lose_lease(lease, now);
            }
            Event::RegisterFailed { lease } => {
                self.register_in_flight = false;
                // The lease may exist on the server. The next try uses it again instead of
                // abandoning it.
                self.hold(lease, now);
                self.register_at = now + self.retry_delay(self.register_tries, LONGEST_RETRY);
            }
            Event::LiveKeyForeign { holder } => self.displaced_by = Some(holder),
            Event::LiveKeyMissing | Event::RingKeyMissing => self.need_register(now),
            Event::HostAlive { at } => self.host_alive_at = Some(at),
        }
    }

    /// Records that the caller started a join outside of [`poll`](Self::poll). No other
    /// registration may start meanwhile.
    pub(crate) fn join_started(&mut self) {
        self.register_in_flight = true;
    }

    /// Returns the actions that are due at `now`.
    pub(crate) fn poll(&mut self, now: BootTime) -> Vec<Action> {
        let since = now - self.polled_at;
        self.polled_at = now;
        if since > LONGEST_TURN {
            self.stopped += since;
        }
        let mut actions = Vec::new();
        if let Some(lease) = self.lease
            && self.renewal_due(lease, now)
        {
            self.renewals_in_flight += 1;
            self.renewal_tries = self.renewal_tries.saturating_add(1);
            let patience = self.patience(lease);
            let limit = lease.ttl.min(LONGEST_RENEWAL);
            // The next renewal is sent earlier if this one fails, or when its endpoint is
            // quarantined. A fixed time could send it to the same endpoint.
            self.renew_at = now + limit;
            actions.push(Action::Renew {
                lease,
                patience,
                limit,
            });
        }
        if self.register_due(now) {
            self.register_in_flight = true;
            self.register_tries = self.register_tries.saturating_add(1);
            actions.push(Action::Register { lease: self.lease });
        }
        let state = self.state_at(now);
        if state != self.state {
            self.state = state;
            actions.push(Action::Report(state));
        }
        actions
    }

    /// Returns when [`poll`](Self::poll) may have an action without an event.
    pub(crate) fn wake_at(&self, now: BootTime) -> BootTime {
        let mut wake = now + TICK;
        if let Some(lease) = self.lease {
            if self.renewals_in_flight < MAX_RENEWALS && self.host_is_alive(lease.ttl, now) {
                wake = wake.min(self.renew_at);
            }
            for moment in [self.suspect_at(lease), self.lost_at(lease)] {
                if moment > now {
                    wake = wake.min(moment);
                }
            }
        }
        if self.may_register() && self.host_is_near(now) {
            wake = wake.min(self.register_at);
        }
        wake.max(now)
    }

    fn registered(&mut self, lease: Lease, displaced_by: Option<i64>, now: BootTime) {
        self.register_in_flight = false;
        self.joined = true;
        self.registered_at = now;
        self.displaced_by = displaced_by;
        if self.gone == Some(lease.id) {
            // The keys were deleted together with the lease.
            return;
        }
        self.hold(Some(lease), now);
        self.register_needed = false;
    }

    /// Continues with this lease. Keys on another lease have to be written again.
    fn hold(&mut self, lease: Option<Lease>, now: BootTime) {
        let before = self.lease.map(|lease| lease.id);
        match lease {
            Some(lease) if before != Some(lease.id) && self.gone != Some(lease.id) => {
                self.lease = Some(lease);
                self.renewed_at = lease.sent_at;
                self.answered();
                self.renew_at = (lease.sent_at + self.vary(lease.ttl / 3)).max(now);
                self.register_needed |= before.is_some();
            }
            Some(_) => {}
            None => {
                if let Some(gone) = before {
                    self.lose_lease(gone, now);
                }
            }
        }
    }

    fn answered(&mut self) {
        self.renewal_tries = 0;
        self.renewal_failure = None;
        self.stopped = Duration::ZERO;
    }

    fn lose_lease(&mut self, lease: i64, now: BootTime) {
        if let Some(current) = self.lease.filter(|current| current.id == lease) {
            self.lease = None;
            self.gone = Some(lease);
            self.register_needed = true;
            self.register_soon(REJOIN_SPREAD.min(current.ttl / 5), now);
        }
    }

    fn need_register(&mut self, now: BootTime) {
        if self.lease.is_some() && !self.register_needed {
            self.register_needed = true;
            self.register_soon(RESTORE_SPREAD, now);
        }
    }

    /// Registers again within `spread`, or later if the last registration did not last.
    fn register_soon(&mut self, spread: Duration, now: BootTime) {
        if now - self.registered_at > STEADY {
            self.register_tries = 0;
        }
        let pause = match self.register_tries {
            0 | 1 => Duration::ZERO,
            tries => self.retry_delay(tries, LONGEST_RESTORE),
        };
        self.register_at = now + self.part_of(spread) + pause;
    }

    fn renewal_due(&self, lease: Lease, now: BootTime) -> bool {
        now >= self.renew_at
            && self.renewals_in_flight < MAX_RENEWALS
            && self.host_is_alive(lease.ttl, now)
    }

    fn register_due(&self, now: BootTime) -> bool {
        self.may_register() && now >= self.register_at && self.host_is_near(now)
    }

    /// Only the caller may start the first registration. The record is known after that.
    fn may_register(&self) -> bool {
        self.joined && self.register_needed && !self.register_in_flight
    }

    /// Without a lease to measure by, a program that was silent for this long is registered again
    /// only after its next sign of life.
    fn host_is_near(&self, now: BootTime) -> bool {
        self.host_alive_at.is_none_or(|at| now < at + LONGEST_RETRY)
    }

    /// A program that has stopped running must lose its lease about a TTL later, as if it renewed
    /// the lease itself. The last renewal is sent at most 0.4 TTL after the last sign of life. This
    /// keeps the lease alive during a pause of up to a TTL.
    fn host_is_alive(&self, ttl: Duration, now: BootTime) -> bool {
        self.host_alive_at
            .is_none_or(|at| now < at + ttl.mul_f64(0.4))
    }

    /// Returns why the lease was not renewed in time.
    pub(crate) fn blame(&self, now: BootTime) -> Blame {
        let is_alive = |lease: Lease| self.host_is_alive(lease.ttl, now);
        match self.host_alive_at {
            _ if !self.stopped.is_zero() => Blame::Stopped(self.stopped),
            Some(at) if !self.lease.is_none_or(is_alive) => Blame::Host(now - at),
            _ => Blame::Etcd(now - self.renewed_at, self.renewal_failure.clone()),
        }
    }

    fn state_at(&self, now: BootTime) -> RegistrationState {
        match self.lease {
            _ if !self.joined => RegistrationState::Joining,
            None => RegistrationState::Rejoining,
            Some(lease) if now >= self.lost_at(lease) => RegistrationState::Lost,
            Some(_) if self.register_needed => RegistrationState::Rejoining,
            Some(lease) if now >= self.suspect_at(lease) => RegistrationState::Suspect,
            Some(_) => RegistrationState::Registered,
        }
    }

    fn suspect_at(&self, lease: Lease) -> BootTime {
        self.renewed_at + lease.ttl * 2 / 3
    }

    fn lost_at(&self, lease: Lease) -> BootTime {
        self.renewed_at + lease.ttl
    }

    /// Returns how long to wait for an answer before the next try. It grows after the first try,
    /// for networks that are slow but work.
    fn patience(&mut self, lease: Lease) -> Duration {
        let first = (lease.ttl / 6).min(LONGEST_PATIENCE);
        self.vary(if self.renewal_tries > 1 {
            first * 2
        } else {
            first
        })
    }

    fn retry_delay(&mut self, tries: u32, longest: Duration) -> Duration {
        let limit = (FIRST_RETRY * 2u32.pow(tries.min(6))).min(longest);
        limit.mul_f64(self.rng.random_range(0.5..=1.0))
    }

    fn part_of(&mut self, spread: Duration) -> Duration {
        spread.mul_f64(self.rng.random_range(0.0..1.0))
    }

    /// Varies by up to 10 %, so that many workers do not act in step.
    fn vary(&mut self, duration: Duration) -> Duration {
        duration.mul_f64(self.rng.random_range(0.9..=1.1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TTL: Duration = Duration::from_secs(5);

    /// A session with a lease granted at `now`.
    fn registered(now: BootTime, host_alive_at: Option<BootTime>) -> Session {
        let mut session = Session::new(now, host_alive_at, 1);
        session.join_started();
        let lease = Lease {
            id: 1,
            ttl: TTL,
            sent_at: now,
        };
        session.handle(Event::Registered { lease }, now);
        session.poll(now);
        session
    }

    #[test]
    fn a_lease_counts_from_the_time_of_sending() {
        let now = BootTime::now();
        let mut session = registered(now, None);
        let sent_at = now + Duration::from_secs(1);
        let answered_at = sent_at + Duration::from_secs(3);
        session.handle(Event::Renewed { lease: 1, sent_at }, answered_at);
        let state = |session: &mut Session, at: BootTime| {
            session.poll(at);
            session.state
        };
        assert_eq!(
            state(
                &mut session,
                sent_at + TTL * 2 / 3 - Duration::from_millis(1)
            ),
            RegistrationState::Registered
        );
        assert_eq!(
            state(&mut session, sent_at + TTL * 2 / 3),
            RegistrationState::Suspect
        );
        assert_eq!(state(&mut session, sent_at + TTL), RegistrationState::Lost);
    }

    #[test]
    fn the_next_renewal_waits_until_the_silent_endpoint_is_quarantined() {
        let now = BootTime::now();
        let mut session = registered(now, None);
        let renewal = |session: &mut Session, at: BootTime| {
            let actions = session.poll(at);
            actions.into_iter().find_map(|action| match action {
                Action::Renew { patience, .. } => Some(patience),
                _ => None,
            })
        };
        let at = now + TTL / 2;
        let patience = renewal(&mut session, at).expect("due");
        // The task is a little late.
        let at = at + patience + Duration::from_millis(1);
        assert_eq!(renewal(&mut session, at), None);
        session.handle(Event::RenewalSilent { lease: 1 }, at);
        assert!(renewal(&mut session, at).is_some());
        // The first renewal is answered, so the silence of the second one no longer matters.
        session.handle(
            Event::Renewed {
                lease: 1,
                sent_at: at,
            },
            at,
        );
        session.handle(Event::RenewalSilent { lease: 1 }, at);
        assert_eq!(renewal(&mut session, at), None);
    }

    #[test]
    fn a_short_lease_is_tried_to_be_renewed_often() {
        let mut now = BootTime::now() + TTL / 3;
        let mut session = registered(now, None);
        for tries in 0..8 {
            session.handle(
                Event::RenewalFailed {
                    lease: 1,
                    reason: "a test".into(),
                },
                now,
            );
            let wait = session.wake_at(now) - now;
            assert!(wait <= TTL / 10, "{wait:?} after {tries} tries");
            now += wait;
            session.poll(now);
        }
    }

    #[test]
    fn a_program_that_stopped_is_not_renewed_but_a_pause_shorter_than_the_ttl_is_survived() {
        let now = BootTime::now();
        let mut session = registered(now, Some(now));
        let mut last_renewal = now;
        let mut at = now;
        while at < now + TTL * 2 {
            at += Duration::from_millis(10);
            for action in session.poll(at) {
                if matches!(action, Action::Renew { .. }) {
                    session.handle(
                        Event::Renewed {
                            lease: 1,
                            sent_at: at,
                        },
                        at,
                    );
                    last_renewal = at;
                }
            }
        }
        // The last sign of life was at `now`.
        assert!(
            last_renewal + TTL > now + TTL,
            "a pause of one TTL is survived"
        );
        assert!(
            last_renewal + TTL < now + TTL.mul_f64(1.5),
            "but not much more"
        );
        session.handle(Event::HostAlive { at }, at);
        assert!(
            session
                .poll(at)
                .iter()
                .any(|action| matches!(action, Action::Renew { .. }))
        );
    }

    fn state_at(session: &mut Session, at: BootTime) -> RegistrationState {
        session.poll(at);
        session.state
    }

    fn lease(id: i64, sent_at: BootTime) -> Lease {
        Lease {
            id,
            ttl: TTL,
            sent_at,
        }
    }

    #[test]
    fn a_lease_without_keys_is_no_registration() {
        let now = BootTime::now();
        let mut session = Session::new(now, None, 1);
        session.join_started();
        let first = lease(1, now);
        session.handle(Event::Granted { lease: first }, now);
        assert_eq!(state_at(&mut session, now), RegistrationState::Joining);
        session.handle(Event::Registered { lease: first }, now);
        assert_eq!(state_at(&mut session, now), RegistrationState::Registered);

        session.handle(Event::LeaseGone { lease: 1 }, now);
        let later = now + REJOIN_SPREAD;
        let actions = session.poll(later);
        assert!(actions.contains(&Action::Register { lease: None }));
        let second = Some(lease(2, later));
        session.handle(Event::RegisterFailed { lease: second }, later);
        assert_eq!(state_at(&mut session, later), RegistrationState::Rejoining);
        let later = later + LONGEST_RETRY;
        let actions = session.poll(later);
        assert!(actions.contains(&Action::Register { lease: second }));
        let lease = lease(2, later);
        session.handle(Event::Registered { lease }, later);
        assert_eq!(state_at(&mut session, later), RegistrationState::Registered);

        session.handle(Event::RingKeyMissing, later);
        assert_eq!(state_at(&mut session, later), RegistrationState::Rejoining);
    }

    #[test]
    fn a_lease_is_renewed_before_its_key_is_written() {
        let now = BootTime::now();
        let mut session = Session::new(now, None, 1);
        session.join_started();
        let lease = lease(1, now);
        session.handle(Event::Granted { lease }, now + TTL * 4 / 5);
        let actions = session.poll(now + TTL * 4 / 5);
        assert!(
            actions
                .iter()
                .any(|action| matches!(action, Action::Renew { limit, .. } if *limit == TTL))
        );
    }

    #[test]
    fn a_join_that_found_the_lease_gone_is_followed_by_another_registration() {
        let now = BootTime::now();
        let mut session = registered(now, None);
        session.join_started();
        let second = Some(lease(2, now));
        session.handle(Event::RegisterFailed { lease: second }, now);
        let actions = session.poll(now + LONGEST_RETRY);
        assert!(actions.contains(&Action::Register { lease: second }));
    }

    /// As after SIGSTOP or a suspension: the task has no turn for longer than the lease.
    #[test]
    fn etcd_is_not_blamed_for_a_process_that_was_stopped() {
        let now = BootTime::now();
        let mut session = registered(now, None);
        let at = now + TTL * 2;
        let actions = session.poll(at);
        assert!(
            actions
                .iter()
                .any(|action| matches!(action, Action::Renew { .. })),
            "renewed at once"
        );
        assert_eq!(session.state, RegistrationState::Lost);
        assert_eq!(session.blame(at), Blame::Stopped(TTL * 2));
        session.handle(
            Event::Renewed {
                lease: 1,
                sent_at: at,
            },
            at,
        );
        assert_eq!(state_at(&mut session, at), RegistrationState::Registered);
        // The task has turns, but no answer arrives.
        let mut later = at;
        while later < at + TTL {
            later += TICK / 2;
            session.poll(later);
        }
        assert_eq!(session.blame(later), Blame::Etcd(later - at, None));
    }

    #[test]
    fn registrations_that_do_not_last_are_repeated_ever_more_slowly() {
        let mut now = BootTime::now();
        let mut session = registered(now, None);
        let began = now;
        let mut registrations = 0;
        while now < began + Duration::from_secs(60) {
            // The key is deleted as soon as it is written.
            session.handle(Event::LiveKeyMissing, now);
            let current = session.lease().expect("it is renewed");
            for action in session.poll(now) {
                let event = match action {
                    Action::Register { .. } => {
                        registrations += 1;
                        Event::Registered { lease: current }
                    }
                    Action::Renew { lease, .. } => Event::Renewed {
                        lease: lease.id,
                        sent_at: now,
                    },
                    Action::Report(_) => continue,
                };
                session.handle(event, now);
            }
            now += Duration::from_millis(10);
        }
        assert!((10..40).contains(&registrations), "{registrations}");
    }

    #[test]
    fn a_late_answer_does_not_bring_back_a_lease_that_is_gone() {
        let now = BootTime::now();
        let mut session = registered(now, None);
        session.handle(Event::LiveKeyMissing, now);
        let first = lease(1, now);
        let now = now + RESTORE_SPREAD;
        let actions = session.poll(now);
        assert!(actions.contains(&Action::Register { lease: Some(first) }));
        session.handle(Event::LeaseGone { lease: 1 }, now);
        // The keys were written just before the lease ended.
        session.handle(Event::Registered { lease: first }, now);
        assert_eq!(session.lease(), None);
        let later = now + REJOIN_SPREAD;
        let actions = session.poll(later);
        assert!(actions.contains(&Action::Register { lease: None }));
        assert_eq!(session.state, RegistrationState::Rejoining);
        session.handle(Event::RegisterFailed { lease: Some(first) }, later);
        assert_eq!(session.lease(), None);
    }

    #[test]
    fn who_holds_the_key_instead_is_told_until_it_is_ours_again() {
        let now = BootTime::now();
        let mut session = registered(now, None);
        session.handle(Event::LiveKeyForeign { holder: 9 }, now);
        assert_eq!(session.displaced_by(), Some(9));
        assert!(session.poll(now).is_empty(), "it does not fight");
        session.handle(Event::LiveKeyMissing, now);
        let ours = lease(1, now);
        let now = now + RESTORE_SPREAD;
        let actions = session.poll(now);
        assert!(actions.contains(&Action::Register { lease: Some(ours) }));
        let (lease, holder) = (ours, 0);
        session.handle(Event::Displaced { lease, holder }, now);
        assert_eq!(session.displaced_by(), Some(0));
        session.handle(Event::LiveKeyMissing, now);
        session.poll(now + RESTORE_SPREAD);
        session.handle(Event::Registered { lease }, now + RESTORE_SPREAD);
        assert_eq!(session.displaced_by(), None);
    }

    /// All 50 workers react by then, but not all of them at once.
    fn apart(event: &Event, latest: Duration) {
        let now = BootTime::now();
        let times: Vec<Duration> = (0..50)
            .map(|seed| {
                let mut session = Session::new(now, None, seed);
                session.join_started();
                let lease = lease(1, now);
                session.handle(Event::Registered { lease }, now);
                session.handle(event.clone(), now);
                session.wake_at(now) - now
            })
            .collect();
        assert!(times.iter().all(|time| *time <= latest));
        let early = times.iter().filter(|time| **time < latest / 2).count();
        assert!((10..40).contains(&early), "{early} of 50");
    }

    #[test]
    fn leases_lost_together_are_replaced_apart() {
        apart(&Event::LeaseGone { lease: 1 }, REJOIN_SPREAD);
    }

    #[test]
    fn keys_deleted_together_are_written_again_apart() {
        apart(&Event::LiveKeyMissing, RESTORE_SPREAD);
        apart(&Event::RingKeyMissing, RESTORE_SPREAD);
    }
}
