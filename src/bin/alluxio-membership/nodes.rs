//! `nodes`: the list of the workers.

use std::collections::HashMap;
use std::sync::Arc;

use alluxio_membership::config::Backend;
use alluxio_membership::etcd::{KeyRange, LeaseTime};
use alluxio_membership::text::Safe;
use alluxio_membership::view::{ClusterView, Member};
use alluxio_membership::worker::{WorkerIdentity, WorkerState};
use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::{Value, json};

use crate::Context;
use crate::cli::{Column, Format, NodesOptions};
use crate::output::{self, Failure, Outcome, Stop};
use crate::table::{self, Cell, EMPTY, Table};
use crate::{format, selection};

/// The leases of live workers; `None` for a live key without a lease, which never ends.
type Leases = HashMap<WorkerIdentity, Option<LeaseTime>>;

pub async fn run(context: &Context, options: &NodesOptions) -> Result<Outcome, Stop> {
    let listing = Listing::read(context, options).await?;
    match options.format() {
        Format::Json => output::print_json(&listing)?,
        Format::Yaml => format::print_yaml(&listing)?,
        Format::Csv => {
            let workers = listing.members.iter().map(|member| listing.json(member));
            format::print_csv(workers, options.wide)?;
        }
        Format::Name => {
            let ids = listing.members.iter();
            let ids = ids.map(|member| format!("{}\n", member.worker.identity));
            output::print(ids.collect::<String>())?;
        }
        Format::Table if !output::on_terminal() => {
            output::print(output::table(listing.members.iter(), listing.known))?;
        }
        format => {
            output::print(listing.table(format == Format::Wide))?;
            output::note(listing.footer(context));
        }
    }
    let skipped = listing.view.skipped_count();
    if skipped > 0 && !matches!(options.format(), Format::Json | Format::Yaml) {
        output::complain(format_args!(
            "{skipped} {} left out, see {} check",
            plural(skipped, "record was", "records were"),
            crate::cli::NAME
        ));
    }
    Ok(Outcome::Done)
}

/// The selected workers of a view.
struct Listing {
    view: Arc<ClusterView>,
    members: Vec<Member>,
    /// With --wide.
    leases: Option<Leases>,
    /// The revision since which a worker is live: of the creation of its live key. Read where it is
    /// shown.
    since: Option<HashMap<WorkerIdentity, i64>>,
    /// Whether the states are known.
    known: bool,
    /// Whether this is how the workers were once.
    is_past: bool,
}

impl Listing {
    async fn read(context: &Context, options: &NodesOptions) -> Result<Listing, Stop> {
        let membership = &context.membership;
        let format = options.format();
        let is_wide = options.wide || format == Format::Wide;
        let shows_revisions = is_wide
            || options.revision.is_some()
            || options.selection.sort == Some(Column::Age)
            || (format == Format::Table && output::on_terminal());
        let stored = match shows_revisions {
            true => membership.stored(options.revision).await?,
            false => None,
        };
        let (view, since) = match stored {
            Some(stored) => {
                let live = stored.keys.iter().filter(|key| key.range == KeyRange::Live);
                let since = live.filter_map(|key| {
                    let worker = key.worker.as_ref().ok()?;
                    Some((worker.identity, key.created))
                });
                let since: HashMap<WorkerIdentity, i64> = since.collect();
                (Arc::new(stored.view), Some(since))
            }
            None if options.revision.is_some() => {
                let text = "--revision: a hosts file has no revisions";
                return Err(Failure::new(Outcome::Failed, text).into());
            }
            None => (membership.view().await?, None),
        };
        // Leases exist only for the present.
        let leases = match is_wide && options.revision.is_none() {
            true => Some(membership.leases().await?.into_iter().collect()),
            false => None,
        };
        let newest = |member: &Member| since_of(member, since.as_ref());
        let members = selection::select(&view, &options.selection, newest);
        Ok(Listing {
            members: members.into_iter().cloned().collect(),
            leases,
            since,
            known: context.knows_states(),
            is_past: options.revision.is_some(),
            view,
        })
    }

    /// Returns one worker as JSON.
    fn json(&self, member: &Member) -> Value {
        let mut worker = output::member_json(member, self.known);
        if let Some(leases) = &self.leases {
            let lease = lease_of(member, leases).flatten();
            worker["lease"] = json!(lease.map(|lease| json!({
                "leftSeconds": lease.left.as_secs(),
                "grantedSeconds": lease.granted.as_secs(),
            })));
            worker["sinceRevision"] = json!(since_of(member, self.since.as_ref()));
        }
        worker
    }

    fn table(&self, wide: bool) -> String {
        let on_terminal = output::on_terminal();
        let mut header = vec!["WorkerId", "Address", "Status"];
        if wide {
            header.extend([
                "Lease",
                "Data",
                "Netty",
                "Secure",
                "Web",
                "HTTP",
                "Container",
                "Socket",
            ]);
        }
        if on_terminal {
            header.push("SinceRev");
        }
        let mut table = Table::new(&header);
        for member in &self.members {
            let mut row = Vec::from(table::member_cells(member, self.known));
            if wide {
                row.extend(self.wide_cells(member).map(Cell::from));
            }
            if on_terminal {
                let since = since_of(member, self.since.as_ref());
                row.push(since.map_or(EMPTY.to_owned(), |it| it.to_string()).into());
            }
            table.push(row);
        }
        if on_terminal {
            table.hide_empty_columns();
        }
        table.text()
    }

    fn wide_cells(&self, member: &Member) -> [String; 8] {
        let address = &member.worker.address;
        let port = |port: i32| match port {
            0 => EMPTY.to_owned(),
            port => port.to_string(),
        };
        let text = |text: &Option<String>| match text.as_deref() {
            None | Some("") => EMPTY.to_owned(),
            Some(text) => Safe(text).to_string(),
        };
        let leases = self.leases.as_ref();
        let lease = match leases.and_then(|leases| lease_of(member, leases)) {
            Some(Some(lease)) => format!("{}/{}s", lease.left.as_secs(), lease.granted.as_secs()),
            Some(None) => "none".to_owned(),
            None => EMPTY.to_owned(),
        };
        [
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

    fn footer(&self, context: &Context) -> String {
        let view = &self.view;
        let mut text = output::live_and_lost(view);
        if let Backend::Etcd(_) = context.config.backend {
            text.push_str(&format!(", at revision {}", view.revision()));
            if !self.is_past {
                text.push_str(&format!(", {} ms old", view.age().as_millis()));
            }
        }
        text
    }
}

/// The JSON object of the list. A worker becomes JSON when it is written, so that a long list needs
/// little memory.
impl Serialize for Listing {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let view = &*self.view;
        let age = u64::try_from(view.age().as_millis()).unwrap_or(u64::MAX);
        let mut object = serializer.serialize_map(None)?;
        object.serialize_entry("revision", &view.revision())?;
        object.serialize_entry("ageMs", &(!self.is_past).then_some(age))?;
        object.serialize_entry("workers", &Workers(self))?;
        object.serialize_entry("leftOut", &LeftOut(view))?;
        object.serialize_entry("leftOutCount", &view.skipped_count())?;
        object.end()
    }
}

struct Workers<'a>(&'a Listing);

impl Serialize for Workers<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Workers(listing) = self;
        serializer.collect_seq(listing.members.iter().map(|member| listing.json(member)))
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

/// A lost worker may have returned since the listing.
fn lease_of(member: &Member, leases: &Leases) -> Option<Option<LeaseTime>> {
    match member.state {
        WorkerState::Live => leases.get(&member.worker.identity).copied(),
        _ => None,
    }
}

fn since_of(member: &Member, since: Option<&HashMap<WorkerIdentity, i64>>) -> Option<i64> {
    match member.state {
        WorkerState::Live => since?.get(&member.worker.identity).copied(),
        _ => None,
    }
}

pub fn plural<'a>(count: usize, one: &'a str, many: &'a str) -> &'a str {
    if count == 1 { one } else { many }
}
