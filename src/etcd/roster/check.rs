//! Compares the tables with etcd repeatedly, at a cost that does not depend on the number of
//! workers.

use std::sync::atomic::Ordering;
use std::time::Duration;

use etcd_client::proto::PbKeyValue;
use etcd_client::{GetOptions, Txn, TxnOp};
use tokio::time::Instant;

use super::state::{Claim, FreshnessProbe, Judgement, ProbeReply, Relist, Step, Verdict};
use super::{LONGEST_PAGE_LIMIT, Shared, getting_children, progress, stamp};
use crate::boottime::BootTime;
use crate::error::Result;
use crate::etcd::answers::{self, revision_of, term_of};
use crate::etcd::endpoints::{Call, TRY_TIMEOUT};
use crate::etcd::keys::{keys_only, range_end};
use crate::etcd::status;
use crate::jitter::jittered;

/// The shortest pause between two checks.
const SHORTEST_PAUSE: Duration = Duration::from_millis(20);

impl Shared {
    /// Compares with etcd repeatedly. Returns when a listing is needed.
    pub(super) async fn keep_checking(&self) -> Relist {
        let mut last = None;
        let mut limit = TRY_TIMEOUT * 2;
        loop {
            let pause = self.state.lock().check_in();
            tokio::select! {
                () = tokio::time::sleep(jittered(pause)) => {}
                () = async {
                    if let Some(last) = last {
                        tokio::time::sleep_until(last + SHORTEST_PAUSE).await;
                    }
                    self.check.notified().await;
                } => {}
            }
            last = Some(Instant::now());
            let deadline = Instant::now() + limit;
            match self.check(deadline).await {
                Ok(None) => limit = TRY_TIMEOUT * 2,
                Ok(Some(why)) => return why,
                // This process was stopped meanwhile, so the timeout says nothing about etcd.
                Err(_) if Instant::now() > deadline + TRY_TIMEOUT => self.check.notify_one(),
                Err(error) => {
                    self.counters.lock().checks_failed += 1;
                    // For networks that are slow but work.
                    limit = (limit * 2).min(LONGEST_PAGE_LIMIT);
                    self.failed(error);
                }
            }
        }
    }

    async fn check(&self, deadline: Instant) -> Result<Option<Relist>> {
        let verdict = self.verify(deadline).await?;
        self.counters.lock().count(verdict);
        let relist = self.change(|state| state.checked(verdict, BootTime::now()));
        match relist {
            Some(why) => Ok(Some(why)),
            None => self.prove(deadline).await,
        }
    }

    /// Asks etcd whether the tables are complete. Costs one read of one key while nothing in etcd
    /// changes, and one more small answer after a change.
    pub(super) async fn verify(&self, deadline: Instant) -> Result<Verdict> {
        let call = getting_children(&self.keys, deadline);
        let probe = self.state.lock().probe(BootTime::now());
        let key = self.keys.live_prefix();
        let answer = self
            .endpoints
            .call(&call, |mut client| async move {
                client.get(key, keys_only()).await
            })
            .await?;
        let revision = revision_of(answer.header());
        let past = if probe.is_of_the_past(revision) {
            Judgement::Unknown
        } else {
            let (_, judgements) = self.ask(&call, &probe.past).await?;
            judgements.into_iter().max().unwrap_or(Judgement::Unknown)
        };
        let reply = ProbeReply {
            revision,
            term: term_of(answer.header()),
            past,
        };
        let verdict = match self.change(|state| state.answered(&probe, reply)) {
            Step::Done(verdict) => verdict,
            Step::Compare if self.progresses(&probe, deadline).await => Verdict::Fresh,
            Step::Compare => {
                let claims = self.state.lock().claims();
                let (revision, judgements) = self.ask(&call, &claims).await?;
                self.change(|state| state.judged(&probe, &claims, &judgements, revision))
            }
        };
        self.worked();
        Ok(verdict)
    }

    /// Whether the watch reports, on request, progress up to the probe.
    async fn progresses(&self, probe: &FreshnessProbe, deadline: Instant) -> bool {
        if !self.tells_progress.load(Ordering::Acquire) {
            return false;
        }
        self.ask_progress.notify_one();
        let patience = deadline.min(Instant::now() + progress::PATIENCE);
        self.settles(probe, patience).await
    }

    /// Lets etcd prove the changes from the watch, if the proof is due.
    async fn prove(&self, deadline: Instant) -> Result<Option<Relist>> {
        let proofs = self.state.lock().proofs(BootTime::now());
        if proofs.claims.is_empty() {
            return Ok(None);
        }
        let call = getting_children(&self.keys, deadline);
        let (_, mut judgements) = self.ask(&call, &proofs.claims).await?;
        if judgements.contains(&Judgement::Unknown) {
            let present: Vec<Claim> = proofs.claims.iter().map(Claim::of_the_present).collect();
            let (_, of_present) = self.ask(&call, &present).await?;
            for (judgement, of_present) in judgements.iter_mut().zip(of_present) {
                // Other keys may have been written since.
                if *judgement == Judgement::Unknown && of_present == Judgement::Holds {
                    *judgement = Judgement::Holds;
                }
            }
        }
        Ok(self.change(|state| state.proven(&proofs, &judgements)))
    }

    /// Lets etcd judge these claims in one transaction. Returns the revision of its answer.
    async fn ask(&self, call: &Call, claims: &[Claim]) -> Result<(i64, Vec<Judgement>)> {
        if claims.is_empty() {
            return Ok((0, Vec::new()));
        }
        let read = |claim: &Claim| {
            let prefix = self.prefix(claim.range);
            let options = GetOptions::new()
                .with_range(range_end(prefix))
                .with_revision(claim.at.unwrap_or(0))
                .with_min_mod_revision(claim.since.saturating_add(1))
                .with_limit(claim.limit)
                .with_keys_only();
            TxnOp::get(prefix, Some(options))
        };
        let reads: Vec<TxnOp> = claims.iter().map(read).collect();
        let answer = self.endpoints.call(call, |mut client| {
            let txn = Txn::new().and_then(reads.clone());
            let count = claims.len();
            async move {
                match client.txn(txn).await {
                    Ok(answer) => {
                        let revision = revision_of(answer.header());
                        let ranges = answers::take_ranges(answer, count)?;
                        for (claim, range) in claims.iter().zip(&ranges) {
                            let prefix = self.prefix(claim.range).as_bytes();
                            let is_inside = |kv: &PbKeyValue| kv.key.starts_with(prefix);
                            let has_all = usize::try_from(range.count)
                                .is_ok_and(|count| count >= range.kvs.len());
                            if !has_all || !range.kvs.iter().all(is_inside) {
                                return Err(status::wrong_answer(
                                    "its answer has keys that were not requested, or a wrong count",
                                ));
                            }
                        }
                        Ok(Some((revision, ranges)))
                    }
                    Err(error) if status::is_compacted(&error) => Ok(None),
                    Err(error) => Err(error),
                }
            }
        });
        let Some((revision, ranges)) = answer.await? else {
            return Ok((0, vec![Judgement::Unknown; claims.len()]));
        };
        let judgements = claims.iter().zip(&ranges).map(|(claim, range)| {
            let later: Vec<_> = range.kvs.iter().map(|kv| (&*kv.key, stamp(kv))).collect();
            claim.judge(range.count, &later, range.more)
        });
        Ok((revision, judgements.collect()))
    }
}
