//! A look at etcd for operators: endpoint by endpoint, lease by lease.

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use etcd_client::GetOptions;
use http::header::DATE;
use hyper_util::client::legacy::Client as HttpClient;
use hyper_util::rt::TokioExecutor;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use super::answers::revision_of;
use super::connection::Connection;
use super::endpoints::{Call, Endpoint, Purpose, TryError};
use super::keys::range_end;
use super::lease;
use super::roster::progress;
use super::status::wrong_answer;
use super::tls::{CertificateInfo, TlsSession};
use super::{Cluster, answers};
use crate::error::{Error, ErrorKind, Result};
use crate::worker::WorkerIdentity;

/// Keys per page of a listing without values.
const PAGE: i64 = 10_000;
/// How many leases are asked for at a time.
const CONCURRENT: usize = 32;

/// What an inspection found.
#[derive(Debug)]
pub struct Inspection {
    /// Each endpoint, in the order of the configuration.
    pub members: Vec<MemberReport>,
    /// The authorities that etcd's certificates may come from, with TLS. Of those that the system
    /// trusts, the ones that etcd's certificates do come from.
    pub authorities: Vec<CertificateInfo>,
    /// The clusters that have keys in this etcd, by name; an error if the etcd user may not read
    /// beyond its own.
    pub clusters: Result<Vec<FoundCluster>>,
    /// The leases of the live workers.
    pub leases: Result<Vec<(WorkerIdentity, Option<LeaseTime>)>>,
    /// The time to live of a lease that was asked for as a joining worker would. etcd raises what
    /// is too short for it.
    pub granted_ttl: Result<Duration>,
}

/// What one endpoint said.
#[derive(Debug)]
pub struct MemberReport {
    /// `http://host:port`, or `https://host:port` with TLS.
    pub url: String,
    /// What was agreed on when it was connected to; `None` without TLS, or if that failed.
    pub tls: Option<TlsSession>,
    /// The configured user.
    pub user: Option<String>,
    /// The member accepted the user's password. It asks for none where etcd works without users.
    pub authenticated: bool,
    /// By how many milliseconds at least its clock is ahead of this machine's, or behind if
    /// negative; `None` if it did not tell the time.
    pub clock_skew_ms: Option<i64>,
    /// What the member says of itself, for which etcd 3.4 needs no user and 3.6 any user; else why
    /// it did not.
    pub status: Result<MemberStatus>,
    /// Reading the cluster's keys as the configured user; else why that failed.
    pub reading: Result<Reading>,
}

/// What a member of etcd says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberStatus {
    /// etcd's version.
    pub version: String,
    /// Its version has bugs by which watches lose changes: etcd's issues 18089 and 19179. The
    /// library finds lost changes within half a minute, by additional reads.
    pub loses_changes: bool,
    /// The same for all members of one etcd.
    pub cluster_id: u64,
    /// Its own id.
    pub member_id: u64,
    /// The id of the leader; 0 if there is none.
    pub leader: u64,
    /// It does not vote, and answers only some requests.
    pub is_learner: bool,
    /// The newest entry of etcd's log that it knows to be agreed on.
    pub raft_index: u64,
    /// The newest entry of the log that its answers include.
    pub raft_applied_index: u64,
    /// Bytes on disk.
    pub db_size: i64,
    /// What it complains of, such as an alarm.
    pub errors: Vec<String>,
}

/// A linearizable read of the cluster's live keys, which needs a majority of etcd's members.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reading {
    /// etcd's revision.
    pub revision: i64,
    /// How long it took, on an open connection.
    pub latency: Duration,
}

/// A cluster that has keys in etcd.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundCluster {
    /// Its `alluxio.cluster.name`.
    pub name: String,
    /// Ring keys.
    pub registered: i64,
    /// Live keys.
    pub live: i64,
}

/// The lease of a live worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeaseTime {
    /// Its id.
    pub id: i64,
    /// How long it lasts unless it is renewed; whole seconds.
    pub left: Duration,
    /// How long it lasts after each renewal.
    pub granted: Duration,
}

impl Cluster {
    /// Takes until the deadline at most. The endpoints, which are looked at side by side, get half
    /// of the time, so that silent ones leave some for the rest.
    pub(crate) async fn inspect(&self, ttl: Duration, deadline: Instant) -> Inspection {
        let limit = deadline.saturating_duration_since(Instant::now()) / 2;
        let start = Instant::now();
        // A part of the time only: a name service that is silent for one name leaves the other
        // endpoints.
        let _ = timeout(limit / 4, self.endpoints.look_up_names()).await;
        let limit = limit.saturating_sub(start.elapsed());
        let endpoints = self.endpoints.all();
        let mut looks = JoinSet::new();
        for (index, endpoint) in endpoints.iter().cloned().enumerate() {
            let prefix = self.keys.live_prefix().to_owned();
            looks.spawn(async move { (index, look_at(endpoint, prefix, limit).await) });
        }
        let mut members: Vec<(usize, MemberReport)> = Vec::new();
        let mut one_works = false;
        while let Some(look) = looks.join_next().await {
            let (index, member) = look.expect("a look does not panic and is not cancelled");
            one_works = member.reading.is_ok();
            members.push((index, member));
            if one_works {
                // For the rest, also of the caller's questions: others may be silent.
                self.endpoints.prefer(Purpose::Requests, &endpoints[index]);
                break;
            }
        }
        if !one_works {
            // Asking on would only cost time.
            let authorities = self.authorities(&members);
            let members = in_order(members);
            let error = no_endpoint_usable(&members);
            return Inspection {
                clusters: Err(error.clone()),
                leases: Err(error.clone()),
                granted_ttl: Err(error),
                authorities,
                members,
            };
        }
        let (clusters, leases, granted_ttl, others) = tokio::join!(
            self.clusters(deadline),
            self.leases(deadline),
            self.granted_ttl(ttl, deadline),
            looks.join_all(),
        );
        members.extend(others);
        Inspection {
            authorities: self.authorities(&members),
            clusters,
            leases,
            granted_ttl,
            members: in_order(members),
        }
    }

    fn authorities(&self, members: &[(usize, MemberReport)]) -> Vec<CertificateInfo> {
        let endpoints = self.endpoints.all();
        let any = endpoints.first();
        let mut authorities = any.map_or_else(Vec::new, |it| it.connection.authorities());
        for (_, member) in members {
            let used = member.tls.as_ref().and_then(|tls| tls.authority.as_ref());
            if let Some(used) = used
                && !authorities.contains(used)
            {
                authorities.push(used.clone());
            }
        }
        authorities
    }

    /// The leases of the live keys that carry an identity, in the order of the keys.
    pub(crate) async fn leases(
        &self,
        deadline: Instant,
    ) -> Result<Vec<(WorkerIdentity, Option<LeaseTime>)>> {
        let keys = self.live_keys(deadline).await?;
        let mut asked: JoinSet<Result<(usize, Option<LeaseTime>)>> = JoinSet::new();
        let mut found: Vec<Option<Option<LeaseTime>>> = vec![None; keys.len()];
        let mut answered = |answer: std::result::Result<Result<_>, tokio::task::JoinError>| {
            let (index, lease): (usize, Option<LeaseTime>) = answer.map_err(defect)??;
            found[index] = lease.map(Some);
            Ok::<(), Error>(())
        };
        let mut without_lease = Vec::new();
        for (index, (_, lease)) in keys.iter().enumerate() {
            if *lease == 0 {
                without_lease.push(index);
                continue;
            }
            if asked.len() == CONCURRENT
                && let Some(answer) = asked.join_next().await
            {
                answered(answer)?;
            }
            let (endpoints, lease) = (self.endpoints.clone(), *lease);
            asked.spawn(async move {
                let call = Call::new(format!("Getting TTL of Lease:{lease}"), deadline);
                let answer = endpoints
                    .call(&call, |mut client| async move {
                        client.lease_time_to_live(lease, None).await
                    })
                    .await?;
                // A lease that ended meanwhile has -1 seconds left.
                let left = u64::try_from(answer.ttl()).ok().map(Duration::from_secs);
                let granted = Duration::from_secs(u64::try_from(answer.granted_ttl()).unwrap_or(0));
                let time = left.map(|left| LeaseTime {
                    id: lease,
                    left,
                    granted,
                });
                Ok((index, time))
            });
        }
        while let Some(answer) = asked.join_next().await {
            answered(answer)?;
        }
        for index in without_lease {
            found[index] = Some(None);
        }
        Ok(keys
            .into_iter()
            .zip(found)
            .filter_map(|((identity, _), lease)| Some((identity, lease?)))
            .collect())
    }

    /// The live keys' identities and lease ids.
    async fn live_keys(&self, deadline: Instant) -> Result<Vec<(WorkerIdentity, i64)>> {
        let prefix = self.keys.live_prefix();
        let mut walk = Walk::over(prefix);
        let mut from = prefix.as_bytes().to_vec();
        let mut keys = Vec::new();
        loop {
            let answer = self.next(&mut walk, from, PAGE, deadline).await?;
            let identity = |key: &[u8]| {
                let name = std::str::from_utf8(key.get(prefix.len()..)?).ok()?;
                WorkerIdentity::parse(name).ok()
            };
            keys.extend(
                answer
                    .kvs()
                    .iter()
                    .filter_map(|kv| Some((identity(kv.key())?, kv.lease()))),
            );
            match answer.kvs().last() {
                Some(last) if answer.more() => from = [last.key(), &[0]].concat(),
                _ => return Ok(keys),
            }
        }
    }

    /// Finds the clusters by jumping from the first key of one to the first key after it.
    async fn clusters(&self, deadline: Instant) -> Result<Vec<FoundCluster>> {
        let mut clusters = BTreeMap::<String, FoundCluster>::new();
        for (prefix, is_ring) in [("/DHT/", true), ("/ServiceDiscovery/", false)] {
            let mut walk = Walk::over(prefix);
            let mut from = prefix.as_bytes().to_vec();
            loop {
                let answer = self.next(&mut walk, from, 1, deadline).await?;
                let Some(first) = answer.kvs().first() else {
                    break;
                };
                let rest = first.key().get(prefix.len()..).unwrap_or_default();
                let Some(length) = rest.iter().position(|&byte| byte == b'/') else {
                    from = [first.key(), &[0]].concat();
                    continue;
                };
                let name = String::from_utf8_lossy(&rest[..length]).into_owned();
                let whole = [prefix.as_bytes(), &rest[..length], b"/"].concat();
                let end = [prefix.as_bytes(), &rest[..length], b"0"].concat();
                let options = GetOptions::new().with_count_only();
                let count = self
                    .get(whole, &end, options, i64::MAX, deadline)
                    .await?
                    .count();
                let cluster = clusters.entry(name.clone()).or_insert(FoundCluster {
                    name,
                    registered: 0,
                    live: 0,
                });
                if is_ring {
                    cluster.registered = cluster.registered.saturating_add(count);
                } else {
                    cluster.live = cluster.live.saturating_add(count);
                }
                from = end;
            }
        }
        Ok(clusters.into_values().collect())
    }

    /// Reads the next keys of a walk, at most so many.
    async fn next(
        &self,
        walk: &mut Walk,
        from: Vec<u8>,
        limit: i64,
        deadline: Instant,
    ) -> Result<etcd_client::GetResponse> {
        let options = GetOptions::new()
            .with_keys_only()
            .with_limit(limit)
            .with_revision(walk.revision);
        let answer = self
            .get(from, &walk.end, options, walk.fewer_than, deadline)
            .await?;
        walk.revision = revision_of(answer.header());
        walk.fewer_than = answer.count();
        Ok(answer)
    }

    /// Reads keys from one up to another. A count that is not lower than `fewer_than` is the
    /// endpoint's fault.
    async fn get(
        &self,
        key: Vec<u8>,
        end: &[u8],
        options: GetOptions,
        fewer_than: i64,
        deadline: Instant,
    ) -> Result<etcd_client::GetResponse> {
        let path = String::from_utf8_lossy(&key).into_owned();
        let call = Call::new(format!("Getting children for path:{path}"), deadline);
        let options = options.with_range(end);
        self.endpoints
            .call(&call, |mut client| {
                let (key, options) = (key.clone(), options.clone());
                async move {
                    let answer = client.get(key.clone(), Some(options)).await?;
                    let answer = answers::keys_between(answer, &key, end)?;
                    match answer.count() < fewer_than {
                        true => Ok(answer),
                        false => Err(wrong_answer("its keys do not become fewer, page by page")),
                    }
                }
            })
            .await
    }

    /// Grants a lease as a join would, and revokes it.
    async fn granted_ttl(&self, ttl: Duration, deadline: Instant) -> Result<Duration> {
        let call = Call::new(lease::granting(ttl), deadline);
        let id = self.lease_ids.next();
        let granted = lease::grant(&self.endpoints, &call, id, ttl).await?;
        lease::revoke(&self.endpoints, id, deadline).await?;
        Ok(granted)
    }
}

/// A range that is read in pieces, all of them at the revision of the first.
struct Walk {
    end: Vec<u8>,
    /// 0 before the first piece.
    revision: i64,
    /// How many keys there were in the last piece and after it. The next pieces have fewer, so a
    /// walk ends.
    fewer_than: i64,
}

impl Walk {
    fn over(prefix: &str) -> Self {
        Walk {
            end: range_end(prefix),
            revision: 0,
            fewer_than: i64::MAX,
        }
    }
}

fn in_order(mut members: Vec<(usize, MemberReport)>) -> Vec<MemberReport> {
    members.sort_by_key(|(index, _)| *index);
    members.into_iter().map(|(_, member)| member).collect()
}

/// Asks one endpoint, whatever the others say.
async fn look_at(endpoint: Arc<Endpoint>, prefix: String, limit: Duration) -> MemberReport {
    let connection = &endpoint.connection;
    let url = connection.shown();
    let call = Call::new(format!("Getting status of {url}"), Instant::now());
    let ((reading, status), clock_skew_ms) =
        tokio::join!(read_and_status(&endpoint, &prefix, limit), async {
            timeout(limit, clock_skew_ms(connection)).await.ok()?
        },);
    MemberReport {
        url,
        tls: connection.tls_session(),
        user: connection.user().map(str::to_owned),
        authenticated: connection.has_token(),
        clock_skew_ms,
        status: status.map_err(|error| call.failed(1, error)),
        reading: reading.map_err(|error| call.failed(1, error)),
    }
}

async fn read_and_status(
    endpoint: &Arc<Endpoint>,
    prefix: &str,
    limit: Duration,
) -> (
    std::result::Result<Reading, TryError>,
    std::result::Result<MemberStatus, TryError>,
) {
    let start = Instant::now();
    let mut reading = pin!(read(endpoint, prefix, limit));
    // Reading first: it authenticates, which etcd 3.6 wants for the status too. But a member
    // without a majority does not read, and has a status.
    let early = timeout(limit / 2, &mut reading).await;
    let status = member_status(endpoint, limit.saturating_sub(start.elapsed()));
    match early {
        Ok(reading) => (reading, status.await),
        Err(_) => tokio::join!(reading, status),
    }
}

async fn member_status(
    endpoint: &Endpoint,
    limit: Duration,
) -> std::result::Result<MemberStatus, TryError> {
    // Not `attempt`, which authenticates first: a member may be well although it refuses the user.
    let answer = timeout(limit, async {
        let mut client = endpoint.connection.status_client().await?;
        client.status().await
    })
    .await;
    match answer {
        Ok(Ok(answer)) => Ok(MemberStatus {
            version: answer.version().to_owned(),
            loses_changes: !progress::can_be_trusted(answer.version()),
            cluster_id: answer.header().map_or(0, |header| header.cluster_id()),
            member_id: answer.header().map_or(0, |header| header.member_id()),
            leader: answer.leader(),
            is_learner: answer.is_learner(),
            raft_index: answer.raft_index(),
            raft_applied_index: answer.raft_applied_index(),
            db_size: answer.db_size(),
            errors: answer.errors().to_vec(),
        }),
        Ok(Err(error)) => Err(endpoint.try_error(&error)),
        Err(_) => Err(endpoint.no_answer(format!("no answer within {} ms", limit.as_millis()))),
    }
}

async fn read(
    endpoint: &Arc<Endpoint>,
    prefix: &str,
    limit: Duration,
) -> std::result::Result<Reading, TryError> {
    let deadline = Instant::now() + limit;
    let count = |limit| {
        endpoint.attempt(Purpose::Requests, limit, |mut client| {
            let options = GetOptions::new()
                .with_range(range_end(prefix))
                .with_count_only();
            let prefix = prefix.to_owned();
            async move { client.get(prefix, Some(options)).await }
        })
    };
    // The first one connects and authenticates.
    count(limit).await?;
    let start = Instant::now();
    let answer = count(deadline.saturating_duration_since(start)).await?;
    Ok(Reading {
        revision: revision_of(answer.header()),
        latency: start.elapsed(),
    })
}

/// Compares the clocks. The answer took some time and has whole seconds, so this is the least
/// difference.
async fn clock_skew_ms(connection: &Connection) -> Option<i64> {
    let before = SystemTime::now();
    let theirs = date(connection).await?;
    let after = SystemTime::now();
    let milliseconds = |time: Duration| i64::try_from(time.as_millis()).ok();
    if let Ok(ahead) = theirs.duration_since(after) {
        return milliseconds(ahead);
    }
    match before.duration_since(theirs + Duration::from_secs(1)) {
        Ok(behind) => milliseconds(behind).map(|behind| -behind),
        Err(_) => Some(0),
    }
}

/// The time that etcd's HTTP server, on the same port as its gRPC server, says with every answer.
async fn date(connection: &Connection) -> Option<SystemTime> {
    let transport = connection.transport_apart();
    // With TLS etcd agrees on HTTP/2 for everything. Without, it tells its HTTP server's requests
    // by HTTP/1.
    let http2_only = transport.has_tls();
    let connector = tower::service_fn(move |_: http::Uri| Box::pin(transport.clone().connect()));
    let client = HttpClient::builder(TokioExecutor::new())
        .http2_only(http2_only)
        .build(connector);
    let request = http::Request::get(format!("{}/version", connection.url())).body(String::new());
    let answer = client.request(request.ok()?).await.ok()?;
    let date = answer.headers().get(DATE)?;
    httpdate::parse_http_date(date.to_str().ok()?).ok()
}

fn no_endpoint_usable(members: &[MemberReport]) -> Error {
    let worst = members
        .iter()
        .find_map(|member| member.reading.as_ref().err());
    worst
        .cloned()
        .unwrap_or_else(|| Error::new(ErrorKind::Unavailable, "no endpoint is configured"))
}

fn defect(error: tokio::task::JoinError) -> Error {
    Error::new(
        ErrorKind::Internal,
        format!("A task of the membership library ended early: {error}"),
    )
}
