//! Runs the session's decisions against a simulated etcd and network, on a clock that jumps from
//! event to event.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::*;
use crate::etcd::histories;

/// A simulated worker, network and etcd, on a clock that jumps from event to event.
struct World {
    rng: StdRng,
    ttl: Duration,
    now: BootTime,
    session: Session,
    /// The answers that have not arrived yet.
    answers: BTreeMap<(BootTime, u64), Answer>,
    sequence: u64,
    server: Server,
    /// The network drops everything until this time.
    cut_until: BootTime,
    /// Answers take long until this time, up to more than a TTL.
    slow_until: BootTime,
    /// The program is stopped until this time. It does nothing and gives no signs of life.
    frozen_until: BootTime,
    /// The host is stopped until this time and gives no signs of life.
    silent_until: BootTime,
    beat_at: BootTime,
    renewals_in_flight: usize,
    registering: bool,
    /// The lease that the worker last learned its keys have.
    confirmed: Option<i64>,
    /// The last lease that the worker learned is gone.
    gone: Option<i64>,
    /// Until this time keys are deleted as soon as they are written.
    spoilt_until: BootTime,
    /// When the last registrations started.
    registrations: VecDeque<BootTime>,
    /// The last fault of which the worker learns later.
    last_fault: BootTime,
}

#[derive(Default)]
struct Server {
    /// When each lease ends.
    leases: BTreeMap<i64, BootTime>,
    /// The leases that ended.
    ended: BTreeSet<i64>,
    /// The lease of the live key.
    live: Option<i64>,
    ring: bool,
    last_lease: i64,
}

#[derive(Debug)]
enum Answer {
    Renewed {
        lease: i64,
        sent_at: BootTime,
    },
    RenewalSilent {
        lease: i64,
    },
    RenewalLost {
        lease: i64,
    },
    LeaseGone {
        lease: i64,
    },
    Granted {
        lease: Lease,
    },
    Registered {
        lease: Lease,
    },
    Displaced {
        lease: Lease,
        holder: i64,
    },
    RegisterFailed {
        lease: Option<Lease>,
    },
    RegisterFoundLeaseGone {
        lease: i64,
    },
    /// The watch of the own keys reports their state.
    Look,
}

/// Leases from this number on belong to other processes.
const FOREIGN: i64 = 1_000_000_000;

impl World {
    fn new(seed: u64, ttl: Duration) -> Self {
        let now = BootTime::now();
        let mut world = World {
            rng: StdRng::seed_from_u64(seed),
            ttl,
            now,
            session: Session::new(now, Some(now), seed),
            answers: BTreeMap::new(),
            sequence: 0,
            server: Server::default(),
            cut_until: now,
            slow_until: now,
            frozen_until: now,
            silent_until: now,
            beat_at: now,
            renewals_in_flight: 0,
            registering: true,
            confirmed: None,
            gone: None,
            spoilt_until: now,
            registrations: VecDeque::new(),
            last_fault: now,
        };
        world.session.join_started();
        world.register(None);
        world
    }

    /// Returns how often the host gives a sign of life.
    fn beat(&self) -> Duration {
        (self.ttl / 25).min(Duration::from_secs(1))
    }

    fn chance(&mut self, one_in: u32) -> bool {
        self.rng.random_range(0..one_in) == 0
    }

    fn up_to(&mut self, longest: Duration) -> Duration {
        longest.mul_f64(self.rng.random_range(0.001..1.0))
    }

    fn answer(&mut self, after: Duration, answer: Answer) {
        self.sequence += 1;
        self.answers
            .insert((self.now + after, self.sequence), answer);
    }

    fn expire(&mut self) {
        let now = self.now;
        let ended = &mut self.server.ended;
        self.server.leases.retain(|lease, ends| {
            let lives = *ends > now;
            if !lives {
                ended.insert(*lease);
            }
            lives
        });
        if let Some(lease) = self.server.live
            && lease != 0
            && !self.server.leases.contains_key(&lease)
        {
            self.server.live = None;
            self.look();
        }
    }

    fn round_trip(&mut self) -> Duration {
        if self.now < self.slow_until {
            self.up_to(self.ttl * 3 / 2)
        } else {
            Duration::from_micros(self.rng.random_range(300..50_000))
        }
    }

    fn fault_until(&mut self, until: BootTime) {
        self.last_fault = self.last_fault.max(until);
    }

    /// The watch of the own keys answers, now or when the network works again.
    fn look(&mut self) {
        let delay = self.round_trip() + (self.cut_until - self.now);
        self.answer(delay, Answer::Look);
    }

    fn register(&mut self, lease: Option<Lease>) {
        let mut delay = self.round_trip();
        if self.now < self.cut_until {
            // The answer is lost, but etcd may have carried out the request.
            let lease = lease.or_else(|| self.chance(2).then(|| self.grant()));
            if let Some(lease) = lease
                && self.chance(2)
            {
                self.write(lease.id);
            }
            self.answer(Duration::from_secs(2), Answer::RegisterFailed { lease });
            return;
        }
        let lease = match lease {
            Some(lease) if self.server.leases.contains_key(&lease.id) => lease,
            Some(Lease { id: lease, .. }) => {
                self.answer(delay, Answer::RegisterFoundLeaseGone { lease });
                return;
            }
            None => {
                let lease = self.grant();
                self.answer(delay, Answer::Granted { lease });
                delay += self.round_trip();
                if self.chance(100) {
                    let lease = Some(lease);
                    self.answer(delay, Answer::RegisterFailed { lease });
                    return;
                }
                lease
            }
        };
        let answer = match self.write(lease.id) {
            holder if holder == lease.id => Answer::Registered { lease },
            holder => Answer::Displaced { lease, holder },
        };
        self.answer(delay, answer);
    }

    fn grant(&mut self) -> Lease {
        self.server.last_lease += 1;
        let ends = self.now + self.ttl;
        self.server.leases.insert(self.server.last_lease, ends);
        Lease {
            id: self.server.last_lease,
            ttl: self.ttl,
            sent_at: self.now,
        }
    }

    /// Writes the keys, except over another process's key. Returns the holder of the live key after
    /// that.
    fn write(&mut self, lease: i64) -> i64 {
        self.server.ring = true;
        match self.server.live {
            Some(holder) if holder == 0 || holder >= FOREIGN => holder,
            _ if !self.server.leases.contains_key(&lease) => lease,
            _ => *self.server.live.insert(lease),
        }
    }

    fn carry_out(&mut self, action: Action) {
        match action {
            Action::Report(_) => {}
            Action::Renew {
                lease,
                patience,
                limit,
            } => {
                self.renewals_in_flight += 1;
                assert!(self.renewals_in_flight <= MAX_RENEWALS);
                assert!(limit <= self.ttl, "an answer of no use");
                assert!(self.now < self.beat_at + self.ttl.mul_f64(0.4));
                let lease = lease.id;
                let delay = self.round_trip();
                let is_lost = self.now < self.cut_until || delay > limit;
                if is_lost || delay > patience {
                    self.answer(patience, Answer::RenewalSilent { lease });
                }
                if is_lost {
                    self.answer(limit, Answer::RenewalLost { lease });
                    return;
                }
                let sent_at = self.now;
                let ends = self.now + self.ttl;
                match self.server.leases.get_mut(&lease) {
                    Some(end) => {
                        *end = (*end).max(ends);
                        self.answer(delay, Answer::Renewed { lease, sent_at });
                    }
                    None => self.answer(delay, Answer::LeaseGone { lease }),
                }
            }
            Action::Register { lease } => {
                assert!(!self.registering, "two registrations at once");
                assert!(self.now < self.beat_at + LONGEST_RETRY);
                self.registering = true;
                self.registrations.push_back(self.now);
                let since = self.now - Duration::from_secs(20);
                self.registrations.retain(|at| *at > since);
                assert!(self.registrations.len() <= 20, "registers in a loop");
                self.register(lease);
            }
        }
    }

    fn deliver(&mut self, answer: Answer) {
        let now = self.now;
        let event = match answer {
            Answer::Renewed { lease, sent_at } => {
                self.renewals_in_flight -= 1;
                Event::Renewed { lease, sent_at }
            }
            Answer::RenewalSilent { lease } => Event::RenewalSilent { lease },
            Answer::RenewalLost { lease } => {
                self.renewals_in_flight -= 1;
                Event::RenewalFailed {
                    lease,
                    reason: "lost".into(),
                }
            }
            Answer::LeaseGone { lease } => {
                self.renewals_in_flight -= 1;
                self.confirmed.take_if(|confirmed| *confirmed == lease);
                Event::LeaseGone { lease }
            }
            Answer::Granted { lease } => Event::Granted { lease },
            Answer::Registered { lease } => {
                self.registering = false;
                self.confirmed = Some(lease.id);
                if now < self.spoilt_until {
                    self.server.live = None;
                }
                // The keys are read again after each registration.
                self.look();
                Event::Registered { lease }
            }
            Answer::Displaced { lease, holder } => {
                self.registering = false;
                self.confirmed = Some(lease.id);
                self.look();
                Event::Displaced { lease, holder }
            }
            Answer::RegisterFailed { lease } => {
                self.registering = false;
                // The caller of a failed first join tries again.
                if self.confirmed.is_none() && self.session.state == RegistrationState::Joining {
                    self.session.handle(Event::RegisterFailed { lease }, now);
                    self.session.join_started();
                    self.registering = true;
                    self.register(self.session.lease());
                    return;
                }
                Event::RegisterFailed { lease }
            }
            Answer::RegisterFoundLeaseGone { lease } => {
                self.registering = false;
                self.confirmed.take_if(|confirmed| *confirmed == lease);
                Event::RegisterFoundLeaseGone { lease }
            }
            Answer::Look if now < self.cut_until => return self.look(),
            // The keys are read again after a registration.
            Answer::Look if self.registering => return,
            Answer::Look => {
                if !self.server.ring {
                    self.confirmed = None;
                    self.session.handle(Event::RingKeyMissing, now);
                }
                let ours = self.session.lease().map(|lease| lease.id);
                match self.server.live {
                    Some(holder) if holder == 0 || holder >= FOREIGN => {
                        Event::LiveKeyForeign { holder }
                    }
                    live if live.is_none() || live != ours => {
                        self.confirmed = None;
                        Event::LiveKeyMissing
                    }
                    _ => return,
                }
            }
        };
        let gone = match event {
            Event::LeaseGone { lease } | Event::RegisterFoundLeaseGone { lease } => Some(lease),
            _ => None,
        };
        let held = |session: &Session| session.lease().map(|lease| lease.id);
        let before = held(&self.session);
        self.session.handle(event, now);
        if gone.is_some() && gone != before {
            assert_eq!(held(&self.session), before, "another lease is gone");
        }
        self.gone = gone.or(self.gone);
        assert!(
            self.gone.is_none() || held(&self.session) != self.gone,
            "a lease that is gone is held again"
        );
    }

    /// Causes a fault now and then.
    fn misfortune(&mut self) {
        let length = self.up_to(self.ttl * 5 / 2);
        let until = self.now + length;
        // About once in eight TTLs.
        let steps = self.ttl.div_duration_f64(self.beat());
        match self.rng.random_range(0..80 * steps as u32) {
            0 => {
                self.cut_until = until;
                self.fault_until(until);
            }
            1 => {
                self.slow_until = until;
                // A registration takes two round trips.
                self.fault_until(until + self.ttl * 3);
            }
            2 => {
                self.frozen_until = until;
                self.fault_until(until);
            }
            3 => {
                self.silent_until = until;
                self.fault_until(until);
            }
            4 => {
                // An administrator revokes every lease.
                self.server.leases.clear();
                self.fault_until(self.now);
                self.expire();
            }
            5 => {
                self.server.live = None;
                self.fault_until(self.now);
                self.look();
            }
            6 => {
                self.server.ring = false;
                self.fault_until(self.now);
                self.look();
            }
            7 => {
                // A new leader gives every lease its full time again, and another second.
                let ends = self.now + self.ttl + Duration::from_secs(1);
                self.server.leases.values_mut().for_each(|end| *end = ends);
                if self.server.live >= Some(FOREIGN) {
                    self.fault_until(ends);
                }
            }
            8 => {
                // Another process takes the identity for a while.
                self.server.last_lease += 1;
                let lease = FOREIGN + self.server.last_lease;
                self.server.leases.insert(lease, until);
                self.server.live = Some(lease);
                self.fault_until(until);
                self.look();
            }
            9 => {
                // Something deletes each key as soon as it is written.
                self.spoilt_until = until;
                self.fault_until(until);
            }
            _ => {}
        }
    }

    fn step(&mut self) {
        let mut next = self.now + self.beat();
        next = next.min(self.session.wake_at(self.now));
        if let Some(((at, _), _)) = self.answers.first_key_value() {
            next = next.min(*at);
        }
        self.now = next.max(self.now + Duration::from_nanos(1));
        if self.now < self.frozen_until {
            // Nothing runs, but the server's clock continues.
            self.now = self.frozen_until;
        }
        self.expire();
        if self.now >= self.silent_until {
            self.beat_at = self.now;
            let at = self.now;
            self.session.handle(Event::HostAlive { at }, at);
        }
        while let Some(answer) = self.answers.first_entry()
            && answer.key().0 <= self.now
        {
            let answer = answer.remove();
            self.deliver(answer);
        }
        self.misfortune();
        for action in self.session.poll(self.now) {
            self.carry_out(action);
        }
        self.check();
    }

    fn check(&mut self) {
        let now = self.now;
        // A wait of zero length after a poll would be a busy loop.
        assert!(self.session.wake_at(now) > now, "spins");
        let lease = self.session.lease().map(|lease| lease.id);
        let alive = [RegistrationState::Registered, RegistrationState::Suspect];
        if alive.contains(&self.session.state) {
            assert_eq!(lease, self.confirmed, "registered before the keys are");
            let has_ended = lease.is_some_and(|lease| self.server.ended.contains(&lease));
            assert!(!has_ended, "taken for alive after its end");
        }
        // Whatever happened, the worker is registered soon after the last fault.
        let since = now - self.last_fault;
        if since > Duration::from_secs(7) {
            assert_eq!(self.server.live, lease, "not listed {since:?} later");
            assert!(self.server.ring, "not on the ring {since:?} later");
            assert_eq!(self.session.displaced_by(), None);
            assert_eq!(
                self.session.state,
                RegistrationState::Registered,
                "{since:?} later, {} renewals under way",
                self.renewals_in_flight
            );
        }
    }
}

#[test]
fn recovers_from_every_generated_history() {
    for (seconds, usual) in [(2, 30), (5, 50), (120, 20)] {
        for seed in 0..usual * histories::times() {
            let mut world = World::new(seed, Duration::from_secs(seconds));
            histories::run(&format!("seed {seed}, with a TTL of {seconds} s"), || {
                for _ in 0..20_000 {
                    world.step();
                }
            });
        }
    }
}
