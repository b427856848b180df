//! `nodes`: the list of the workers.

use std::collections::HashMap;

use alluxio_membership::config::Backend;
use alluxio_membership::etcd::LeaseTime;
use alluxio_membership::text::Safe;
use alluxio_membership::view::{ClusterView, Member, MemberFilter};
use alluxio_membership::worker::{WorkerIdentity, WorkerState};
use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::json;

use crate::Context;
use crate::cli::NodesOptions;
use crate::output::{self, Outcome, Stop};

/// Of live workers; `None` for a live key on no lease, which nothing will ever take away.
type Leases = HashMap<WorkerIdentity, Option<LeaseTime>>;

pub async fn run(context: &Context, options: &NodesOptions) -> Result<Outcome, Stop> {
    let membership = &context.membership;
    let filter = match (options.live, options.lost) {
        (true, _) => MemberFilter::Live,
        (_, true) => MemberFilter::Lost,
        _ => MemberFilter::All,
    };
    let view = membership.view().await?;
    let leases = match options.wide {
        true => Some(membership.leases().await?.into_iter().collect()),
        false => None,
    };
    let known = context.knows_states();
    if options.json {
        output::print_json(&Listing {
            view: &view,
            filter,
            leases: leases.as_ref(),
            known,
        })?;
        return Ok(Outcome::Done);
    }
    if let Some(leases) = &leases {
        print_wide(context, &view, filter, leases)?;
    } else {
        output::print(output::table(view.members(filter), known))?;
    }
    let skipped = view.skipped_count();
    if skipped > 0 {
        output::complain(format_args!(
            "{skipped} {} left out, see {} check",
            plural(skipped, "record was", "records were"),
            crate::cli::NAME
        ));
    }
    Ok(Outcome::Done)
}

/// The JSON object of a view. A worker becomes JSON when it is written, so that a long list needs
/// little memory.
struct Listing<'a> {
    view: &'a ClusterView,
    filter: MemberFilter,
    leases: Option<&'a Leases>,
    known: bool,
}

impl Serialize for Listing<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let age = u64::try_from(self.view.age().as_millis()).unwrap_or(u64::MAX);
        let mut object = serializer.serialize_map(None)?;
        object.serialize_entry("revision", &self.view.revision())?;
        object.serialize_entry("ageMs", &age)?;
        object.serialize_entry("workers", &Workers(self))?;
        object.serialize_entry("leftOut", &LeftOut(self.view))?;
        object.serialize_entry("leftOutCount", &self.view.skipped_count())?;
        object.end()
    }
}

struct Workers<'a>(&'a Listing<'a>);

impl Serialize for Workers<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let listing = self.0;
        serializer.collect_seq(listing.view.members(listing.filter).iter().map(|member| {
            let mut worker = output::member_json(member, listing.known);
            if let Some(leases) = listing.leases {
                let lease = lease_of(member, leases).flatten();
                worker["lease"] = json!(lease.map(|lease| json!({
                    "leftSeconds": lease.left.as_secs(),
                    "grantedSeconds": lease.granted.as_secs(),
                })));
            }
            worker
        }))
    }
}

struct LeftOut<'a>(&'a ClusterView);

impl Serialize for LeftOut<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let skipped = self.0.skipped().iter();
        serializer
            .collect_seq(skipped.map(|record| json!({"key": record.key, "reason": record.reason})))
    }
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
            .map(|member| wide_row(member, lease_of(member, leases), context.knows_states())),
    );
    let mut text = output::aligned(&rows);
    let live = view.members(MemberFilter::Live).len();
    let lost = view.members(MemberFilter::Lost).len();
    text.push_str(&format!("\n{live} live, {lost} lost"));
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

fn wide_row(member: &Member, lease: Option<Option<LeaseTime>>, known: bool) -> Vec<String> {
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
        output::status(member, known),
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
