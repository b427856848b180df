//! `nodes`: the list of the workers.

use std::collections::HashMap;

use alluxio_membership::config::Backend;
use alluxio_membership::etcd::LeaseTime;
use alluxio_membership::text::Safe;
use alluxio_membership::view::{ClusterView, Member, MemberFilter};
use alluxio_membership::worker::{WorkerIdentity, WorkerState};
use serde_json::json;

use crate::Context;
use crate::cli::NodesOptions;
use crate::output::{self, Outcome, Stop};

/// Of live workers; `None` for a live key on no lease, which nothing will ever take away.
type Leases = HashMap<WorkerIdentity, Option<LeaseTime>>;

pub async fn run(context: &Context, options: &NodesOptions) -> Result<Outcome, Stop> {
    let membership = &context.membership;
    let filter = match (options.live, options.failed) {
        (true, _) => MemberFilter::Live,
        (_, true) => MemberFilter::Failed,
        _ => MemberFilter::All,
    };
    let view = membership.view().await?;
    let leases = match options.wide {
        true => Some(membership.leases().await?.into_iter().collect()),
        false => None,
    };
    if options.json {
        print_json(&view, filter, leases.as_ref())?;
        return Ok(Outcome::Done);
    }
    if let Some(leases) = &leases {
        print_wide(context, &view, filter, leases)?;
    } else if filter == MemberFilter::All {
        output::print_table(&membership.show_all_members().await?)?;
    } else {
        output::print_table(&view.table_of(filter))?;
    }
    let skipped = view.skipped().len();
    if skipped > 0 {
        output::complain(format_args!(
            "{skipped} {} left out, see {} check",
            plural(skipped, "record was", "records were"),
            crate::cli::NAME
        ));
    }
    Ok(Outcome::Done)
}

fn print_json(
    view: &ClusterView,
    filter: MemberFilter,
    leases: Option<&Leases>,
) -> Result<(), Stop> {
    let members = view.members(filter);
    let worker = |member: &Member| {
        let mut worker = output::member_json(member);
        if let Some(leases) = leases {
            let lease = lease_of(member, leases).flatten();
            worker["lease"] = json!(lease.map(|lease| json!({
                "leftSeconds": lease.left.as_secs(),
                "grantedSeconds": lease.granted.as_secs(),
            })));
        }
        worker
    };
    let skipped: Vec<_> = view
        .skipped()
        .iter()
        .map(|record| json!({"key": record.key, "reason": record.reason}))
        .collect();
    output::print_json(&json!({
        "revision": view.revision(),
        "ageMs": u64::try_from(view.age().as_millis()).unwrap_or(u64::MAX),
        "workers": members.iter().map(worker).collect::<Vec<_>>(),
        "leftOut": skipped,
    }))
}

fn print_wide(
    context: &Context,
    view: &ClusterView,
    filter: MemberFilter,
    leases: &Leases,
) -> Result<(), Stop> {
    let header = [
        "WorkerId",
        "Address",
        "Status",
        "Lease",
        "Data",
        "Netty",
        "Secure",
        "Web",
        "HTTP",
        "Container",
        "Socket",
    ];
    let mut rows = vec![header.map(str::to_owned).to_vec()];
    rows.extend(
        view.members(filter)
            .iter()
            .map(|member| wide_row(member, lease_of(member, leases))),
    );
    let mut text = output::aligned(&rows);
    let live = view.members(MemberFilter::Live).len();
    let failed = view.members(MemberFilter::Failed).len();
    text.push_str(&format!("\n{live} live, {failed} lost"));
    if let Backend::Etcd(_) = context.config.backend {
        let (revision, age) = (view.revision(), view.age().as_millis());
        text.push_str(&format!(", at revision {revision}, {age} ms old"));
    }
    text.push('\n');
    output::print(text)
}

/// A lost worker may have come back since it was listed.
fn lease_of(member: &Member, leases: &Leases) -> Option<Option<LeaseTime>> {
    match member.state {
        WorkerState::Live => leases.get(&member.worker.identity).copied(),
        _ => None,
    }
}

fn wide_row(member: &Member, lease: Option<Option<LeaseTime>>) -> Vec<String> {
    let address = &member.worker.address;
    let port = |port: i32| match port {
        0 => "-".to_owned(),
        port => port.to_string(),
    };
    let text = |text: &Option<String>| match text.as_deref() {
        None | Some("") => "-".to_owned(),
        Some(text) => Safe(text).to_string(),
    };
    let lease = match lease {
        Some(Some(lease)) => format!("{}/{}s", lease.left.as_secs(), lease.granted.as_secs()),
        Some(None) => "none".to_owned(),
        None => "-".to_owned(),
    };
    vec![
        member.worker.identity.to_string(),
        output::address(member),
        output::status(member.state),
        lease,
        port(address.data_port),
        port(address.netty_data_port),
        port(address.secure_rpc_port),
        port(address.web_port),
        port(address.http_server_port),
        text(&address.container_host),
        text(&address.domain_socket_path),
    ]
}

pub fn plural<'a>(count: usize, one: &'a str, many: &'a str) -> &'a str {
    if count == 1 { one } else { many }
}
