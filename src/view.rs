//! What a listing returns: all workers of a cluster at one revision.

use std::collections::HashSet;
use std::sync::Arc;

use crate::worker::{Worker, WorkerIdentity, WorkerState};

/// Which members of a view are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(i32)]
pub enum MemberFilter {
    /// Every registered worker, live or lost.
    All = 0,
    /// Workers that renew their lease.
    Live = 1,
    /// Registered workers whose lease has ended.
    Failed = 2,
}

/// One worker in a view.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Who and where.
    pub worker: Arc<Worker>,
    /// Live or lost, at the view's revision.
    pub state: WorkerState,
}

/// A key under the cluster's prefixes that is not listed, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SkippedRecord {
    /// The etcd key; bytes that are not UTF-8 are replaced.
    pub key: String,
    /// Why its value could not be used.
    pub reason: String,
}

/// All workers of a cluster at one revision. Immutable; `all`, `live` and `failed` never contradict one another.
#[derive(Debug, Clone, Default)]
pub struct ClusterView {
    pub(crate) version: u64,
    pub(crate) revision: i64,
    pub(crate) all: Vec<Member>,
    pub(crate) live: Vec<Member>,
    pub(crate) failed: Vec<Member>,
    pub(crate) skipped: Vec<SkippedRecord>,
}

impl ClusterView {
    /// Grows by at least one with each change, within this process; never 0.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// The etcd revision this view shows; 0 for a STATIC cluster.
    pub fn revision(&self) -> i64 {
        self.revision
    }

    /// The members asked for, in the order of their keys (STATIC: in the order of the file).
    pub fn members(&self, filter: MemberFilter) -> &[Member] {
        match filter {
            MemberFilter::All => &self.all,
            MemberFilter::Live => &self.live,
            MemberFilter::Failed => &self.failed,
        }
    }

    /// The registered worker of this identity.
    pub fn find(&self, identity: &WorkerIdentity) -> Option<&Member> {
        self.all
            .iter()
            .find(|member| member.worker.identity == *identity)
    }

    /// Whether a worker of this identity is live.
    pub fn is_live(&self, identity: &WorkerIdentity) -> bool {
        self.live
            .iter()
            .any(|member| member.worker.identity == *identity)
    }

    /// Records that are not listed.
    pub fn skipped(&self) -> &[SkippedRecord] {
        &self.skipped
    }

    /// The text of `showAllMembers` for a cluster in etcd: what `alluxio info nodes` prints.
    pub fn to_table(&self) -> String {
        let live: HashSet<&WorkerIdentity> = self.live.iter().map(|m| &m.worker.identity).collect();
        table(self.all.iter().map(|member| {
            let worker = &member.worker;
            let status = if live.contains(&worker.identity) {
                "ONLINE"
            } else {
                "OFFLINE"
            };
            (worker.identity.to_string(), &**worker, status)
        }))
    }
}

/// The rows of `showAllMembers`: id, address and status, each row ended by a newline.
pub(crate) fn table<'a>(rows: impl Iterator<Item = (String, &'a Worker, &'static str)>) -> String {
    let mut text = String::from("WorkerId\tAddress\tStatus\n");
    for (id, worker, status) in rows {
        let host = worker.address.host.as_deref().unwrap_or("null");
        text.push_str(&format!(
            "{id}\t{host}:{}\t{status}\n",
            worker.address.rpc_port
        ));
    }
    text
}
