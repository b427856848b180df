//! When to renew, when to register again, and what state the registration is in: decisions only, no I/O, no clock.
//!
//! Whoever drives it reports [`Event`]s and carries out [`Action`]s. A lease counts as alive until its TTL after the
//! moment a renewal was *sent*, since etcd counts from a later moment.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::time::Instant;

/// Where a registration stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RegistrationState {
    /// The first registration is under way.
    Joining,
    /// The lease is renewed in time.
    Registered,
    /// No renewal was answered for two thirds of the TTL.
    Suspect,
    /// The lease has run out, or may have: others may list the worker as lost.
    Lost,
    /// The lease has run out; a new one is being fetched.
    Rejoining,
    /// Ended on purpose.
    Left,
}

/// A lease that etcd granted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Lease {
    pub(crate) id: i64,
    /// What etcd granted, which may be more than was asked for.
    pub(crate) ttl: Duration,
    /// When the request was sent.
    pub(crate) sent_at: Instant,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Event {
    /// A renewal sent at `sent_at` was answered.
    Renewed { lease: i64, sent_at: Instant },
    /// A renewal ended without an answer about the lease.
    RenewalFailed { lease: i64 },
    /// etcd says that the lease does not exist.
    LeaseGone { lease: i64 },
    /// All keys that this worker may write are in place, on this lease.
    Registered { lease: Lease },
    /// Registering failed; `lease` was granted or may have been.
    RegisterFailed { lease: Option<Lease> },
    /// The own live key is gone.
    LiveKeyMissing,
    /// The own ring key is gone.
    RingKeyMissing,
    /// The program this worker belongs to gave a sign of life.
    HostAlive { at: Instant },
}

/// What to do now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Action {
    /// Send a renewal; give up on it after `limit`, and on its endpoint after `patience`.
    Renew {
        lease: Lease,
        patience: Duration,
        limit: Duration,
    },
    /// Write the keys that are missing, under this lease or, if there is none, a new one.
    Register { lease: Option<Lease> },
    /// Tell whoever wants to know.
    Report(RegistrationState),
}

/// At most this many renewals wait for an answer at once, each on a stream of its own.
const MAX_RENEWALS: usize = 3;
/// Workers that lost their leases at the same moment come back spread over this time, or a fifth of the TTL if less.
const REJOIN_SPREAD: Duration = Duration::from_secs(1);
const LONGEST_PATIENCE: Duration = Duration::from_secs(2);
const FIRST_RETRY: Duration = Duration::from_millis(100);
const LONGEST_RETRY: Duration = Duration::from_secs(2);

/// The decisions of one registration.
pub(crate) struct Session {
    state: RegistrationState,
    lease: Option<Lease>,
    /// When the lease was last known to be renewed: the time that request was sent.
    renewed_at: Instant,
    renewals_in_flight: usize,
    /// Tries since the last answer.
    renewal_tries: u32,
    renew_at: Instant,
    register_needed: bool,
    register_in_flight: bool,
    register_tries: u32,
    register_at: Instant,
    /// When the program last gave a sign of life, if it has promised to.
    host_alive_at: Option<Instant>,
    rng: StdRng,
}

impl Session {
    /// A session without a lease. `host_alive_at`: renew only while [`Event::HostAlive`] comes in.
    pub(crate) fn new(now: Instant, host_alive_at: Option<Instant>, seed: u64) -> Self {
        Session {
            state: RegistrationState::Joining,
            lease: None,
            renewed_at: now,
            renewals_in_flight: 0,
            renewal_tries: 0,
            renew_at: now,
            register_needed: false,
            register_in_flight: false,
            register_tries: 0,
            register_at: now,
            host_alive_at,
            rng: StdRng::seed_from_u64(seed),
        }
    }

    /// Whether a registration or join is under way.
    pub(crate) fn is_registering(&self) -> bool {
        self.register_in_flight
    }

    /// The lease the keys are on, or will be.
    pub(crate) fn lease(&self) -> Option<Lease> {
        self.lease
    }

    /// When the lease ends unless it is renewed.
    pub(crate) fn lease_ends_at(&self) -> Option<Instant> {
        self.lease.map(|lease| self.lost_at(lease))
    }

    /// Takes note of what happened.
    pub(crate) fn handle(&mut self, event: Event, now: Instant) {
        match event {
            Event::Renewed { lease, sent_at } => {
                self.renewals_in_flight = self.renewals_in_flight.saturating_sub(1);
                if let Some(current) = self.lease.filter(|current| current.id == lease)
                    && sent_at >= self.renewed_at
                {
                    self.renewed_at = sent_at;
                    self.renewal_tries = 0;
                    self.renew_at = sent_at + self.vary(current.ttl / 3);
                }
            }
            Event::RenewalFailed { lease } => {
                self.renewals_in_flight = self.renewals_in_flight.saturating_sub(1);
                if self.lease.is_some_and(|current| current.id == lease) {
                    let retry = now + self.retry_delay(self.renewal_tries);
                    self.renew_at = self.renew_at.min(retry).max(now);
                }
            }
            Event::LeaseGone { lease } => {
                self.renewals_in_flight = self.renewals_in_flight.saturating_sub(1);
                self.lose_lease(lease, now);
            }
            Event::Registered { lease } => self.registered(lease, now),
            Event::RegisterFailed { lease } => {
                self.register_in_flight = false;
                // The lease may exist on the server: the next try uses it again instead of leaving it behind.
                if self.lease.is_none()
                    && let Some(lease) = lease
                {
                    self.adopt(lease);
                }
                self.register_at = now + self.retry_delay(self.register_tries);
            }
            Event::LiveKeyMissing | Event::RingKeyMissing => self.need_register(now),
            Event::HostAlive { at } => self.host_alive_at = Some(at),
        }
    }

    /// The lease named by a registration attempt turned out to be gone.
    pub(crate) fn register_found_lease_gone(&mut self, lease: i64, now: Instant) {
        self.register_in_flight = false;
        self.lose_lease(lease, now);
    }

    /// A join by the caller is under way outside of [`poll`](Self::poll): nothing else is to be registered meanwhile.
    pub(crate) fn join_started(&mut self) {
        self.register_in_flight = true;
    }

    /// What is to be done at `now`.
    pub(crate) fn poll(&mut self, now: Instant) -> Vec<Action> {
        let mut actions = Vec::new();
        if let Some(lease) = self.lease
            && self.renewal_due(lease, now)
        {
            self.renewals_in_flight += 1;
            self.renewal_tries = self.renewal_tries.saturating_add(1);
            let patience = self.patience(lease);
            self.renew_at = now + patience;
            actions.push(Action::Renew {
                lease,
                patience,
                limit: (patience * 4).min(lease.ttl * 3 / 5),
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

    /// When [`poll`](Self::poll) may have something to do without any event.
    pub(crate) fn wake_at(&self, now: Instant) -> Instant {
        let mut wake = now + Duration::from_secs(3600);
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
        if self.register_needed && !self.register_in_flight && self.host_is_near(now) {
            wake = wake.min(self.register_at);
        }
        wake.max(now)
    }

    fn registered(&mut self, lease: Lease, now: Instant) {
        self.register_in_flight = false;
        self.register_needed = false;
        self.register_tries = 0;
        if self.lease.is_none_or(|current| current.id != lease.id) {
            self.adopt(lease);
            self.renew_at = self.renew_at.max(now);
        }
    }

    fn adopt(&mut self, lease: Lease) {
        self.lease = Some(lease);
        self.renewed_at = lease.sent_at;
        self.renewal_tries = 0;
        self.renew_at = lease.sent_at + self.vary(lease.ttl / 3);
    }

    fn lose_lease(&mut self, lease: i64, now: Instant) {
        if let Some(current) = self.lease.filter(|current| current.id == lease) {
            self.lease = None;
            self.register_needed = true;
            let spread = REJOIN_SPREAD.min(current.ttl / 5);
            self.register_at = now + spread.mul_f64(self.rng.random_range(0.0..1.0));
        }
    }

    fn need_register(&mut self, now: Instant) {
        if self.lease.is_some() && !self.register_needed {
            self.register_needed = true;
            self.register_at = now;
        }
    }

    fn renewal_due(&self, lease: Lease, now: Instant) -> bool {
        now >= self.renew_at
            && self.renewals_in_flight < MAX_RENEWALS
            && self.host_is_alive(lease.ttl, now)
    }

    fn register_due(&self, now: Instant) -> bool {
        self.register_needed
            && !self.register_in_flight
            && now >= self.register_at
            && self.host_is_near(now)
    }

    /// Without a lease to measure by, a program that was silent for this long is not registered again until it speaks.
    fn host_is_near(&self, now: Instant) -> bool {
        self.host_alive_at.is_none_or(|at| now < at + LONGEST_RETRY)
    }

    /// A program that has stopped running must lose its lease about a TTL later, as it would if it renewed by itself;
    /// renewing at most 0.4 TTL after its last sign of life leaves the lease alive through any pause of up to a TTL.
    fn host_is_alive(&self, ttl: Duration, now: Instant) -> bool {
        self.host_alive_at
            .is_none_or(|at| now < at + ttl.mul_f64(0.4))
    }

    fn state_at(&self, now: Instant) -> RegistrationState {
        match self.lease {
            None if self.register_needed => RegistrationState::Rejoining,
            None => RegistrationState::Joining,
            Some(lease) if now >= self.lost_at(lease) => RegistrationState::Lost,
            Some(lease) if now >= self.suspect_at(lease) => RegistrationState::Suspect,
            Some(_) => RegistrationState::Registered,
        }
    }

    fn suspect_at(&self, lease: Lease) -> Instant {
        self.renewed_at + lease.ttl * 2 / 3
    }

    fn lost_at(&self, lease: Lease) -> Instant {
        self.renewed_at + lease.ttl
    }

    /// How long to wait for an answer before the next try: longer after the first, for networks that are slow but work.
    fn patience(&mut self, lease: Lease) -> Duration {
        let first = (lease.ttl / 6).min(LONGEST_PATIENCE);
        self.vary(if self.renewal_tries > 1 {
            first * 2
        } else {
            first
        })
    }

    fn retry_delay(&mut self, tries: u32) -> Duration {
        let limit = (FIRST_RETRY * 2u32.pow(tries.min(5))).min(LONGEST_RETRY);
        limit.mul_f64(self.rng.random_range(0.5..=1.0))
    }

    /// Up to 10 % more or less, so that many workers do not act in step.
    fn vary(&mut self, duration: Duration) -> Duration {
        duration.mul_f64(self.rng.random_range(0.9..=1.1))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BinaryHeap;

    use super::*;

    /// A worker, a network and an etcd, all made up, on a clock that jumps from event to event.
    struct World {
        rng: StdRng,
        now: Instant,
        session: Session,
        /// What is under way: answers on their way back.
        answers: BinaryHeap<std::cmp::Reverse<(Instant, u64, Answer)>>,
        sequence: u64,
        server: Server,
        /// Until when the network swallows everything.
        cut_until: Instant,
        /// Until when the program is stopped: it neither acts nor gives signs of life.
        frozen_until: Instant,
        renewals_in_flight: usize,
        registering: bool,
        /// When something last went wrong that the worker is not told of at once.
        last_fault: Instant,
    }

    #[derive(Default)]
    struct Server {
        /// The lease the live key is on, when it ends, and whether the key is there.
        lease: Option<(i64, Instant)>,
        key: bool,
        next_lease: i64,
    }

    #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
    enum Answer {
        Renewed { lease: i64, sent_at: Instant },
        RenewalLost { lease: i64 },
        LeaseGone { lease: i64 },
        Registered { lease: i64, sent_at: Instant },
        RegisterFailed,
        RegisterFoundLeaseGone { lease: i64 },
        LiveKeyMissing,
    }

    const TTL: Duration = Duration::from_secs(5);

    impl World {
        fn new(seed: u64) -> Self {
            let now = Instant::now();
            let mut world = World {
                rng: StdRng::seed_from_u64(seed),
                now,
                session: Session::new(now, Some(now), seed),
                answers: BinaryHeap::new(),
                sequence: 0,
                server: Server::default(),
                cut_until: now,
                frozen_until: now,
                renewals_in_flight: 0,
                registering: true,
                last_fault: now,
            };
            world.session.join_started();
            let lease = world.grant();
            world.answer(
                Duration::from_millis(3),
                Answer::Registered {
                    lease,
                    sent_at: now,
                },
            );
            world
        }

        fn grant(&mut self) -> i64 {
            self.server.next_lease += 1;
            self.server.lease = Some((self.server.next_lease, self.now + TTL));
            self.server.key = true;
            self.server.next_lease
        }

        fn answer(&mut self, after: Duration, answer: Answer) {
            self.sequence += 1;
            self.answers
                .push(std::cmp::Reverse((self.now + after, self.sequence, answer)));
        }

        fn expire(&mut self) {
            if self.server.lease.is_some_and(|(_, ends)| ends <= self.now) {
                self.server.lease = None;
                self.server.key = false;
            }
        }

        fn round_trip(&mut self) -> Duration {
            Duration::from_micros(self.rng.random_range(300..50_000))
        }

        fn carry_out(&mut self, action: Action) {
            let cut = self.now < self.cut_until;
            let delay = self.round_trip();
            match action {
                Action::Report(_) => {}
                Action::Renew { lease, limit, .. } => {
                    self.renewals_in_flight += 1;
                    assert!(self.renewals_in_flight <= MAX_RENEWALS);
                    let lease = lease.id;
                    if cut {
                        self.answer(limit, Answer::RenewalLost { lease });
                        return;
                    }
                    match &mut self.server.lease {
                        Some((id, ends)) if *id == lease => {
                            *ends = self.now + TTL;
                            let sent_at = self.now;
                            self.answer(delay, Answer::Renewed { lease, sent_at });
                        }
                        _ => self.answer(delay, Answer::LeaseGone { lease }),
                    }
                }
                Action::Register { lease } => {
                    assert!(!self.registering, "two registrations at once");
                    self.registering = true;
                    let sent_at = self.now;
                    if cut {
                        self.answer(Duration::from_secs(2), Answer::RegisterFailed);
                        return;
                    }
                    match lease.map(|lease| lease.id) {
                        Some(id) if self.server.lease.is_some_and(|(held, _)| held == id) => {
                            self.server.key = true;
                            self.answer(delay, Answer::Registered { lease: id, sent_at });
                        }
                        Some(id) => {
                            self.answer(delay, Answer::RegisterFoundLeaseGone { lease: id })
                        }
                        None => {
                            let lease = self.grant();
                            self.answer(delay, Answer::Registered { lease, sent_at });
                        }
                    }
                }
            }
        }

        fn deliver(&mut self, answer: Answer) {
            if matches!(
                answer,
                Answer::Renewed { .. } | Answer::RenewalLost { .. } | Answer::LeaseGone { .. }
            ) {
                self.renewals_in_flight -= 1;
            }
            if matches!(
                answer,
                Answer::Registered { .. }
                    | Answer::RegisterFailed
                    | Answer::RegisterFoundLeaseGone { .. }
            ) {
                self.registering = false;
            }
            let now = self.now;
            match answer {
                Answer::Renewed { lease, sent_at } => {
                    self.session.handle(Event::Renewed { lease, sent_at }, now);
                }
                Answer::RenewalLost { lease } => {
                    self.session.handle(Event::RenewalFailed { lease }, now);
                }
                Answer::LeaseGone { lease } => {
                    self.session.handle(Event::LeaseGone { lease }, now);
                }
                Answer::Registered { lease, sent_at } => {
                    let lease = Lease {
                        id: lease,
                        ttl: TTL,
                        sent_at,
                    };
                    self.session.handle(Event::Registered { lease }, now);
                    // The keys are read again after each registration.
                    if !self.server.key {
                        let delay = self.round_trip();
                        self.answer(delay, Answer::LiveKeyMissing);
                    }
                }
                Answer::RegisterFailed => {
                    self.session
                        .handle(Event::RegisterFailed { lease: None }, now);
                }
                Answer::RegisterFoundLeaseGone { lease } => {
                    self.session.register_found_lease_gone(lease, now);
                }
                Answer::LiveKeyMissing => self.session.handle(Event::LiveKeyMissing, now),
            }
        }

        /// Something bad, now and then.
        fn misfortune(&mut self) {
            match self.rng.random_range(0..2_000) {
                0 => {
                    let length = Duration::from_millis(self.rng.random_range(10..12_000));
                    self.cut_until = self.now + length;
                    self.last_fault = self.last_fault.max(self.cut_until);
                }
                1 => {
                    self.server.lease = None;
                    self.server.key = false;
                    self.last_fault = self.last_fault.max(self.now);
                }
                2 if self.server.key => {
                    self.server.key = false;
                    self.last_fault = self.last_fault.max(self.now);
                    let delay = self.round_trip();
                    self.answer(delay, Answer::LiveKeyMissing);
                }
                3 => {
                    let length = Duration::from_millis(self.rng.random_range(10..12_000));
                    self.frozen_until = self.now + length;
                    self.last_fault = self.last_fault.max(self.frozen_until);
                }
                _ => {}
            }
        }

        fn step(&mut self) {
            let beat_at = self.now + Duration::from_millis(200);
            let answer_at = self.answers.peek().map(|next| next.0.0);
            let mut next = beat_at.min(self.session.wake_at(self.now));
            if let Some(at) = answer_at {
                next = next.min(at);
            }
            self.now = next.max(self.now + Duration::from_nanos(1));
            if self.now < self.frozen_until {
                // Nothing runs; the server's clock goes on.
                self.now = self.frozen_until;
                self.expire();
            } else {
                self.expire();
            }
            let at = self.now;
            self.session.handle(Event::HostAlive { at }, at);
            while let Some(std::cmp::Reverse((at, ..))) = self.answers.peek()
                && *at <= self.now
            {
                let Some(std::cmp::Reverse((.., answer))) = self.answers.pop() else {
                    break;
                };
                self.deliver(answer);
            }
            for action in self.session.poll(self.now) {
                self.carry_out(action);
            }
            self.misfortune();
            self.check();
        }

        fn check(&mut self) {
            let now = self.now;
            // No wait of zero length follows a poll: that would be a busy loop.
            assert!(self.session.wake_at(now) > now, "spins");
            if let Some((id, ends)) = self.server.lease
                && self.session.lease().is_some_and(|lease| lease.id == id)
                && matches!(
                    self.session.state,
                    RegistrationState::Registered | RegistrationState::Suspect
                )
            {
                assert!(now < ends, "taken for alive after its end");
            }
            // Whatever happened: 6 s after the last fault the worker is registered.
            if now > self.last_fault + Duration::from_secs(6) {
                assert!(
                    self.server.key,
                    "not listed {:?} after the last fault",
                    now - self.last_fault
                );
                assert_eq!(self.session.state, RegistrationState::Registered);
            }
        }
    }

    #[test]
    fn recovers_from_every_generated_history() {
        for seed in 0..100 {
            let mut world = World::new(seed);
            for _ in 0..20_000 {
                world.step();
            }
        }
    }

    /// A session with a lease granted at `now`.
    fn registered(now: Instant, host_alive_at: Option<Instant>) -> Session {
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
        let now = Instant::now();
        let mut session = registered(now, None);
        let sent_at = now + Duration::from_secs(1);
        let answered_at = sent_at + Duration::from_secs(3);
        session.handle(Event::Renewed { lease: 1, sent_at }, answered_at);
        let state = |session: &mut Session, at: Instant| {
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
    fn a_program_that_stopped_is_not_renewed_but_a_pause_shorter_than_the_ttl_is_survived() {
        let now = Instant::now();
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

    #[test]
    fn leases_lost_together_are_replaced_apart() {
        let now = Instant::now();
        let times: Vec<Duration> = (0..50)
            .map(|seed| {
                let mut session = Session::new(now, None, seed);
                session.join_started();
                let lease = Lease {
                    id: 1,
                    ttl: TTL,
                    sent_at: now,
                };
                session.handle(Event::Registered { lease }, now);
                session.handle(Event::LeaseGone { lease: 1 }, now);
                session.wake_at(now) - now
            })
            .collect();
        let latest = times.iter().max().copied().unwrap_or_default();
        assert!(latest <= REJOIN_SPREAD);
        assert!(times.iter().filter(|time| **time < latest / 2).count() > 10);
    }
}
