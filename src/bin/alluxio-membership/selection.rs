//! Which workers a listing shows, and in which order.

use std::cmp::Reverse;

use alluxio_membership::view::{ClusterView, Member, MemberFilter};
use alluxio_membership::worker::WorkerState;
use glob::{MatchOptions, Pattern};

use crate::cli::{Column, SelectionOptions, State};
use crate::output;

/// The selected workers of a view, in the order of `--sort`; else in the order of the view.
/// `newest` says when a worker appeared, by any measure that grows.
pub fn select<'a, T: Ord>(
    view: &'a ClusterView,
    options: &SelectionOptions,
    newest: impl Fn(&Member) -> T,
) -> Vec<&'a Member> {
    let filter = match options.state() {
        Some(State::Live) => MemberFilter::Live,
        Some(State::Lost) => MemberFilter::Lost,
        None => MemberFilter::All,
    };
    let members = view.members(filter).iter();
    let host = options.host.as_ref();
    let mut members: Vec<&Member> = members.filter(|it| has_host(it, host)).collect();
    match options.sort {
        None => {}
        Some(Column::Id) => members.sort_by_key(|member| member.worker.identity),
        Some(Column::Address) => members.sort_by_cached_key(|member| {
            let address = &member.worker.address;
            (address.host.clone(), address.rpc_port)
        }),
        Some(Column::Status) => members.sort_by_key(|member| member.state.status()),
        Some(Column::Age) => members.sort_by_cached_key(|member| Reverse(newest(member))),
    }
    members
}

/// Whether a change is of a selected worker, and to the selected state.
pub fn is_selected(member: &Member, options: &SelectionOptions) -> bool {
    let has_state = match options.state() {
        Some(State::Live) => member.state == WorkerState::Live,
        Some(State::Lost) => member.state == WorkerState::Lost,
        None => true,
    };
    has_state && has_host(member, options.host.as_ref())
}

/// Whether the worker's host matches, if there is a pattern.
pub fn has_host(member: &Member, pattern: Option<&Pattern>) -> bool {
    let Some(pattern) = pattern else {
        return true;
    };
    let ignoring_case = MatchOptions {
        case_sensitive: false,
        ..MatchOptions::new()
    };
    // As in the table, so that a user can type the shown text.
    pattern.matches_with(&output::host_of(&member.worker), ignoring_case)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use alluxio_membership::worker::{Worker, WorkerIdentity, WorkerNetAddress};
    use clap::Parser;

    use super::*;
    use crate::cli::{Cli, Command};

    #[test]
    fn hosts_match_in_any_case() {
        let matches = |pattern: &str, host: &str| {
            let arguments = ["tool", "nodes", "--host", pattern];
            let Command::Nodes(options) = Cli::parse_from(arguments).command else {
                panic!("not nodes");
            };
            let worker = Worker {
                identity: WorkerIdentity::V0(1),
                address: WorkerNetAddress::new(host),
            };
            let member = Member {
                worker: Arc::new(worker),
                state: WorkerState::Live,
            };
            is_selected(&member, &options.selection)
        };
        assert!(matches("rack1-*", "Rack1-7.example"));
        assert!(matches("*.?xample", "a/b.example"));
        assert!(matches("10.0.[0-3].*", "10.0.2.1"));
        assert!(!matches("rack1-*", "rack2-7"));
        assert!(!matches("rack1", "rack1-7"), "all of the host");
    }
}
