//! `describe`: the keys of one worker in etcd, and other claims to its identity or address.

use alluxio_membership::etcd::{KeyRange, LeaseTime, StoredCluster, StoredKey};
use alluxio_membership::text::Safe;
use alluxio_membership::worker::{Worker, WorkerIdentity, WorkerNetAddress};
use serde_json::{Value, json};

use crate::Context;
use crate::cli::DescribeOptions;
use crate::output::{self, Failure, Outcome, Stop};

/// The keys of one worker among those of its cluster.
struct Description<'a> {
    identity: WorkerIdentity,
    stored: &'a StoredCluster,
    ring: Option<&'a StoredKey>,
    live: Option<&'a StoredKey>,
    /// The lease of the live key; `None` if there is none, or if it has ended since.
    lease: Option<LeaseTime>,
    claims: Vec<Claim<'a>>,
}

/// Another key with the identity or the address of the worker.
struct Claim<'a> {
    key: &'a StoredKey,
    what: &'static str,
}

pub async fn run(context: &Context, options: &DescribeOptions) -> Result<Outcome, Stop> {
    let identity = options.identity;
    let Some(stored) = context.membership.stored(None).await? else {
        let text = "There is nothing to describe: a hosts file has only the names of hosts.";
        return Err(Failure::new(Outcome::Failed, text).into());
    };
    let own = |range| {
        let keys = stored.keys.iter().filter(move |key| key.range == range);
        let mut keys = keys.filter(|key| has_name(key, &identity));
        keys.next()
    };
    let (ring, live) = (own(KeyRange::Ring), own(KeyRange::Live));
    let lease = match live {
        Some(key) if key.lease != 0 => context.membership.lease(key.lease).await?,
        _ => None,
    };
    let claims = claims(&stored, &identity, [ring, live]);
    if ring.is_none() && live.is_none() && claims.is_empty() {
        let text = format!("Unrecognized or non-existing worker: {identity}");
        return Err(Failure::new(Outcome::Failed, text).into());
    }
    let description = Description {
        identity,
        stored: &stored,
        ring,
        live,
        lease,
        claims,
    };
    match options.json {
        true => output::print_json(&description.json())?,
        false => output::print(description.text())?,
    }
    Ok(Outcome::Done)
}

/// Whether a key is named after this identity.
fn has_name(key: &StoredKey, identity: &WorkerIdentity) -> bool {
    let name = key.key.rsplit('/').next();
    name == Some(identity.to_string().as_str())
}

/// The other keys with the identity or with the address of the worker.
fn claims<'a>(
    stored: &'a StoredCluster,
    identity: &WorkerIdentity,
    own: [Option<&StoredKey>; 2],
) -> Vec<Claim<'a>> {
    let place = |address: &WorkerNetAddress| (address.host.clone(), address.rpc_port);
    let places: Vec<_> = own
        .iter()
        .flatten()
        .filter_map(|key| Some(place(&key.worker.as_ref().ok()?.address)))
        .collect();
    let claim = |key: &'a StoredKey| {
        let worker = key.worker.as_ref().ok()?;
        let is_own = has_name(key, identity);
        let what = if worker.identity == *identity && !is_own {
            "the same identity under another key"
        } else if is_own && worker.identity != *identity {
            "another identity under this worker's key"
        } else if !is_own && places.contains(&place(&worker.address)) {
            "another worker at the same address"
        } else {
            return None;
        };
        Some(Claim { key, what })
    };
    stored.keys.iter().filter_map(claim).collect()
}

impl Description<'_> {
    fn status(&self) -> &'static str {
        let view = &self.stored.view;
        match (view.is_live(&self.identity), view.find(&self.identity)) {
            (true, Some(_)) => "ONLINE",
            (true, None) => "ONLINE, but not registered",
            (false, Some(_)) => "OFFLINE",
            (false, None) => "not listed",
        }
    }

    fn text(&self) -> String {
        let mut text = String::new();
        let mut line = |name: &str, value: String| {
            text.push_str(format!("{name:<14}{}", Safe(value)).trim_end());
            text.push('\n');
        };
        line("Worker", self.identity.to_string());
        line("Status", self.status().to_owned());
        line("Revision", self.stored.view.revision().to_string());
        for (name, key) in [("Ring key", self.ring), ("Live key", self.live)] {
            let Some(key) = key else {
                line(name, "none".to_owned());
                continue;
            };
            line(name, key.key.clone());
            line("  written", written(key));
            line("  lease", self.lease_text(key));
            match &key.worker {
                Err(reason) => line("  record", format!("cannot be used: {reason}")),
                Ok(worker) => {
                    for (name, value) in fields(worker) {
                        line(&format!("  {name}"), value);
                    }
                }
            }
        }
        if let (Some(Ok(ring)), Some(Ok(live))) = (
            self.ring.map(|key| &key.worker),
            self.live.map(|key| &key.worker),
        ) && ring.address != live.address
        {
            line(
                "Differs",
                "the two records have different addresses".to_owned(),
            );
        }
        match self.claims.is_empty() {
            true => line("Claims", "none by other keys".to_owned()),
            false => line("Claims", format!("{} by other keys", self.claims.len())),
        }
        for Claim { key, what } in &self.claims {
            line("  key", format!("{}: {what}", key.key));
        }
        text
    }

    fn lease_text(&self, key: &StoredKey) -> String {
        match (key.range, key.lease, self.lease) {
            (KeyRange::Ring, 0, _) => "none, as intended".to_owned(),
            (KeyRange::Live, 0, _) => "none: the worker never becomes lost".to_owned(),
            (KeyRange::Live, _, Some(lease)) => format!(
                "{:x}, {} of {} s left",
                lease.id,
                lease.left.as_secs(),
                lease.granted.as_secs()
            ),
            (KeyRange::Live, id, None) => format!("{id:x}, which has ended since"),
            (KeyRange::Ring, id, _) => {
                format!("{id:x}: the worker disappears with its lease")
            }
        }
    }

    fn json(&self) -> Value {
        let claims = self.claims.iter();
        let claim = |claim: &Claim| json!({"key": claim.key.key, "what": claim.what});
        json!({
            "id": self.identity.to_string(),
            "status": self.status(),
            "revision": self.stored.view.revision(),
            "ringKey": self.ring.map(key_json),
            "liveKey": self.live.map(key_json),
            "lease": self.lease.map(lease_json),
            "claims": claims.map(claim).collect::<Vec<_>>(),
        })
    }
}

fn written(key: &StoredKey) -> String {
    match key.version {
        1 => format!("once, at revision {}", key.created),
        version => format!(
            "{version} times, at revision {} first and at {} last",
            key.created, key.modified
        ),
    }
}

/// The fields of a record that have something.
fn fields(worker: &Worker) -> Vec<(&'static str, String)> {
    let address = &worker.address;
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    let port = |port: i32| match port {
        0 => String::new(),
        port => port.to_string(),
    };
    let mut fields = vec![
        ("identity", worker.identity.to_string()),
        ("host", text(&address.host)),
        ("container", text(&address.container_host)),
        ("RPC port", port(address.rpc_port)),
        ("data port", port(address.data_port)),
        ("Netty port", port(address.netty_data_port)),
        ("secure port", port(address.secure_rpc_port)),
        ("web port", port(address.web_port)),
        ("HTTP port", port(address.http_server_port)),
        ("socket", text(&address.domain_socket_path)),
    ];
    fields.retain(|(_, value)| !value.is_empty());
    fields
}

/// Returns a lease as JSON.
pub fn lease_json(lease: LeaseTime) -> Value {
    json!({
        "id": format!("{:x}", lease.id),
        "leftSeconds": lease.left.as_secs(),
        "grantedSeconds": lease.granted.as_secs(),
    })
}

/// Returns a key as JSON, with what etcd notes about it.
pub fn key_json(key: &StoredKey) -> Value {
    json!({
        "key": key.key,
        "createRevision": key.created,
        "modRevision": key.modified,
        "version": key.version,
        "lease": (key.lease != 0).then(|| format!("{:x}", key.lease)),
        "worker": key.worker.as_ref().ok().map(|worker| output::worker_json(worker)),
        "unusable": key.worker.as_ref().err(),
    })
}
