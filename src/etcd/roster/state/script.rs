//! Runs arbitrary messages and answers from a script of bytes, and compares the view with a model.
//!
//! The etcd of the simulation is correct, or loses single changes. Here etcd sends whatever the
//! script contains. The decisions must not panic, and a view must show exactly the complete and
//! fitting messages.

use std::collections::BTreeMap;

use super::*;
use crate::etcd::roster::row::Pair;
use crate::record;
use crate::view::MemberFilter;
use crate::worker::{Worker, WorkerIdentity, WorkerNetAddress};

const RANGES: [KeyRange; 2] = [KeyRange::Ring, KeyRange::Live];
const KEYS: u8 = 4;
/// Limits the length, so that the fuzzer finds short scripts.
const LONGEST: usize = 4096;

/// The bytes of a script, which determine every choice.
struct Script<'a>(std::slice::Iter<'a, u8>);

impl Script<'_> {
    fn next(&mut self) -> Option<u8> {
        self.0.next().copied()
    }

    /// Returns a number below `end`; 0 after the end of the script.
    fn below(&mut self, end: u8) -> u8 {
        self.next().unwrap_or_default() % end
    }

    fn flip(&mut self) -> bool {
        self.below(2) == 1
    }

    /// Returns a revision: usually one near `known`, sometimes any other.
    fn revision(&mut self, known: i64) -> i64 {
        match self.below(16) {
            14 => i64::MAX,
            15 => i64::from(self.below(20)) - 4,
            near => known.saturating_add(i64::from(near) - 3),
        }
    }
}

/// A record, of which only the port varies, and etcd's metadata about its write.
type Written = (u8, Stamp);

type Contents = BTreeMap<u8, Written>;

/// The expected content of one range.
#[derive(Debug, Clone, Default)]
struct Model {
    contents: Contents,
    complete: i64,
    /// The key, the revision and the new value of each change of an incomplete message.
    parts: Vec<(u8, i64, Option<Written>)>,
}

impl Model {
    /// Ends a message. Its new changes are applied, and must fit.
    fn end_message(&mut self) {
        let mut last = 0;
        for (key, modified, written) in std::mem::take(&mut self.parts) {
            if modified > self.complete && modified >= last {
                let known = self.contents.get(&key).map(|(_, stamp)| *stamp);
                match (written, known) {
                    (Some((_, new)), Some(known)) => {
                        assert_eq!(new.created, known.created, "another life of the key");
                        assert_eq!(new.version - 1, known.version, "a write is missing");
                    }
                    (Some((_, new)), None) => assert_eq!(new.version, 1, "its creation is missing"),
                    (None, known) => assert!(known.is_some(), "a key that is not there is deleted"),
                }
                match written {
                    Some(written) => drop(self.contents.insert(key, written)),
                    None => drop(self.contents.remove(&key)),
                }
            }
            last = last.max(modified);
        }
        self.complete = self.complete.max(last);
    }
}

struct World<'a> {
    script: Script<'a>,
    now: BootTime,
    state: State,
    models: [Model; 2],
    /// The expected content of the view.
    shown: [Model; 2],
    version: u64,
    fresh_at: Option<BootTime>,
}

fn prefix(range: KeyRange) -> &'static str {
    match range {
        KeyRange::Ring => "/r/",
        KeyRange::Live => "/l/",
    }
}

fn name(range: KeyRange, key: u8) -> Vec<u8> {
    let identity = WorkerIdentity::V0(key.into());
    format!("{}{identity}", prefix(range)).into_bytes()
}

fn put(range: KeyRange, key: u8, (port, stamp): Written) -> Change {
    let value = record::encode(&Worker {
        identity: WorkerIdentity::V0(key.into()),
        address: WorkerNetAddress {
            rpc_port: port.into(),
            ..WorkerNetAddress::new("h")
        },
    });
    let pair = Pair {
        key: &name(range, key),
        value: &value,
        stamp,
    };
    Change::put(prefix(range), pair)
}

/// Runs a script.
pub(in crate::etcd) fn run(script: &[u8]) {
    let script = Script(script[..script.len().min(LONGEST)].iter());
    let now = BootTime::now();
    let mut world = World {
        script,
        now,
        state: State::new(true, PROOF_AFTER),
        models: Default::default(),
        shown: Default::default(),
        version: 0,
        fresh_at: None,
    };
    world.list();
    while let Some(step) = world.script.next() {
        let relist = world.step(step);
        world.look();
        if relist.is_some() {
            world.list();
        }
    }
}

impl World<'_> {
    fn step(&mut self, step: u8) -> Option<Relist> {
        let pause = Duration::from_millis(u64::from(self.script.below(8)).pow(5));
        self.now += pause;
        match step % 8 {
            0 => {
                self.show();
                self.state.watch_opens();
                self.models.iter_mut().for_each(|model| model.parts.clear());
                // Usually both watches open, and etcd confirms its history.
                match self.script.below(4) {
                    0 => None,
                    _ => self
                        .message(Kind::Created)
                        .or_else(|| self.message(Kind::Created)),
                }
            }
            1 => self.message(Kind::Created),
            2..=4 => self.changes(),
            5 => self.message(Kind::Progress),
            6 => self.check(),
            _ => self.prove(),
        }
    }

    /// Lists any keys that were last written up to the listing's revision.
    fn list(&mut self) {
        let revision = self.script.revision(self.seen()).max(1);
        let mut tables = [
            Table::new(prefix(KeyRange::Ring)),
            Table::new(prefix(KeyRange::Live)),
        ];
        for (place, range) in RANGES.into_iter().enumerate() {
            let mut contents = Contents::new();
            for key in 1..=KEYS {
                if self.script.flip() {
                    let modified = revision.saturating_sub(self.script.below(8).into()).max(1);
                    let version = i64::from(self.script.below(3)) + 1;
                    let stamp = Stamp {
                        modified,
                        created: modified.saturating_sub(version - 1),
                        version,
                        lease: self.script.below(3).into(),
                    };
                    let written = (self.script.below(3), stamp);
                    contents.insert(key, written);
                    tables[place].apply(put(range, key, written));
                }
            }
            self.models[place] = Model {
                contents,
                complete: revision,
                parts: Vec::new(),
            };
        }
        let [ring, live] = tables;
        self.state.listed(Listed {
            tables: Tables {
                ring: Some(ring),
                live,
            },
            revision,
            term: self.script.below(3).into(),
            asked_at: self.now,
        });
        self.shown = self.models.clone();
        // The versions of a view continue, but its revisions may belong to another history.
        self.look();
    }

    fn seen(&self) -> i64 {
        self.models
            .iter()
            .map(|model| model.complete)
            .max()
            .unwrap_or_default()
    }

    fn message(&mut self, kind: Kind) -> Option<Relist> {
        let revision = self.script.revision(self.seen());
        if let (Kind::Progress, Phase::Following) = (&kind, &self.state.phase) {
            for model in self
                .models
                .iter_mut()
                .filter(|model| model.parts.is_empty())
            {
                model.complete = model.complete.max(revision);
            }
        }
        let reaction = self.state.message(Message { revision, kind }, self.now);
        self.show();
        reaction.relist
    }

    fn changes(&mut self) -> Option<Relist> {
        let place = usize::from(self.script.below(2));
        let (range, is_fragment) = (RANGES[place], self.script.below(8) == 0);
        let mut changes = Vec::new();
        // The expected content after the message, if all of it is correct.
        let mut after = self.models[place].contents.clone();
        let mut modified = self.models[place].complete;
        for _ in 0..=self.script.below(3) {
            let key = self.script.below(KEYS) + 1;
            modified = match self.script.below(8) {
                0 => self.script.revision(modified),
                more => modified.saturating_add(more.into()),
            };
            let known = after.get(&key).map(|(_, stamp)| *stamp);
            let written = self.script.flip().then(|| {
                let mut stamp = Stamp {
                    modified,
                    created: known.map_or(modified, |known| known.created),
                    version: known.map_or(1, |known| known.version.saturating_add(1)),
                    lease: self.script.below(3).into(),
                };
                match self.script.below(16) {
                    0 => stamp.version = self.script.revision(1),
                    1 => stamp.created = self.script.revision(modified),
                    _ => {}
                }
                (self.script.below(3), stamp)
            });
            match written {
                Some(written) => drop(after.insert(key, written)),
                None => drop(after.remove(&key)),
            }
            self.models[place].parts.push((key, modified, written));
            changes.push(match written {
                Some(written) => put(range, key, written),
                None => Change::delete(&name(range, key), modified),
            });
        }
        let newest = changes.iter().map(|change| change.modified).max();
        let revision = match self.script.below(16) {
            0 => self.script.revision(modified),
            _ => newest.unwrap_or_default(),
        };
        let kind = Kind::Changes {
            range,
            changes,
            is_fragment,
        };
        let reaction = self.state.message(Message { revision, kind }, self.now);
        // A message that does not fit changes nothing, and causes a listing.
        if reaction.relist.is_none() && !is_fragment {
            self.models[place].end_message();
        }
        self.show();
        reaction.relist
    }

    fn judgement(&mut self) -> Judgement {
        match self.script.below(12) {
            0 => Judgement::Unknown,
            1 => Judgement::Differs,
            2 => Judgement::OtherHistory,
            _ => Judgement::Holds,
        }
    }

    fn check(&mut self) -> Option<Relist> {
        let probe = self.state.probe(self.now);
        let reply = ProbeReply {
            revision: self.script.revision(self.seen()),
            term: 2,
            past: self.judgement(),
        };
        let verdict = match self.state.answered(&probe, reply) {
            Step::Done(verdict) => verdict,
            Step::Compare => {
                let claims = self.state.claims();
                // Something may arrive meanwhile.
                let relist = if self.script.flip() {
                    self.changes()
                } else {
                    None
                };
                if relist.is_some() {
                    return relist;
                }
                let judgements: Vec<_> = claims.iter().map(|_| self.judgement()).collect();
                let revision = self.script.revision(self.seen());
                for (claim, judgement) in claims.iter().zip(&judgements) {
                    let place = usize::from(claim.range == KeyRange::Live);
                    let model = &mut self.models[place];
                    if *judgement == Judgement::Holds && model.complete == claim.complete {
                        model.complete = model.complete.max(revision);
                    }
                }
                self.state.judged(&probe, &claims, &judgements, revision)
            }
        };
        self.show();
        self.state.checked(verdict, self.now)
    }

    fn prove(&mut self) -> Option<Relist> {
        let proofs = self.state.proofs(self.now);
        let judgements: Vec<_> = proofs.claims.iter().map(|_| self.judgement()).collect();
        self.state.proven(&proofs, &judgements)
    }

    /// Shows the delivered changes, in the state and in the model.
    fn show(&mut self) {
        self.state.show();
        if matches!(self.state.phase, Phase::Following) {
            self.shown = self.models.clone();
        }
    }

    fn look(&mut self) {
        for (range, model) in RANGES.into_iter().zip(&self.shown) {
            for key in 1..=KEYS {
                let expected = model.contents.get(&key).map(|(_, stamp)| stamp.modified);
                let shown = self.state.shown(range, &name(range, key));
                assert_eq!(shown, expected, "key {key} of {range:?}");
            }
        }
        let view = self.state.view().expect("it was listed");
        let ports = |model: &Model| {
            let ports = model.contents.iter();
            ports
                .map(|(key, (port, _))| (i64::from(*key), i32::from(*port)))
                .collect::<Vec<_>>()
        };
        let shown = |filter| {
            let shown = view
                .members(filter)
                .iter()
                .map(|member| match member.worker.identity {
                    WorkerIdentity::V0(id) => (id, member.worker.address.rpc_port),
                    WorkerIdentity::V1(_) => unreachable!("no such worker is written"),
                });
            let mut shown: Vec<_> = shown.collect();
            shown.sort_unstable();
            shown
        };
        let [ring, live] = &self.shown;
        assert_eq!(shown(MemberFilter::All), ports(ring));
        assert_eq!(shown(MemberFilter::Live), ports(live));
        assert!(view.version() >= self.version, "the version went back");
        self.version = view.version();
        assert!(self.state.fresh_at() >= self.fresh_at, "it grew older");
        self.fresh_at = self.state.fresh_at();
    }
}

#[cfg(test)]
mod tests {
    use rand::rngs::StdRng;
    use rand::{RngExt, SeedableRng};

    use super::*;
    use crate::etcd::histories;

    #[test]
    fn scripts_that_the_fuzzers_found_are_shown_as_delivered() {
        let corpus = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/corpus/watches");
        for file in std::fs::read_dir(corpus).expect("a folder") {
            let file = file.expect("a file").path();
            let script = std::fs::read(&file).expect("read");
            histories::run(&file.display().to_string(), || run(&script));
        }
    }

    #[test]
    fn views_of_any_messages_show_what_was_delivered() {
        for seed in 0..2_000 * histories::times() {
            let mut rng = StdRng::seed_from_u64(seed);
            let script: Vec<u8> = (0..rng.random_range(0..1_000))
                .map(|_| rng.random())
                .collect();
            histories::run(&format!("script {seed}"), || run(&script));
        }
    }
}
