//! Inspects etcd for operators: its endpoints and the leases of workers.

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
use super::endpoints::{Call, Endpoint, Endpoints, Purpose, TryError};
use super::keys::range_end;
use super::lease;
use super::requests;
use super::roster::progress;
use super::status::wrong_answer;
use super::tls::{CertificateInfo, TlsSession};
use super::{Cluster, answers};
use crate::error::{Error, ErrorKind, Result};
use crate::worker::WorkerIdentity;

/// Keys per page of a listing without values.
const PAGE: i64 = 10_000;
/// The number of simultaneous requests for leases.
const CONCURRENT: usize = 32;

/// The result of an inspection.
#[derive(Debug)]
pub struct Inspection {
    /// The result for each endpoint, in the order of the configuration.
    pub members: Vec<MemberReport>,
    /// With TLS, the authorities that may have issued etcd's certificates. For the system's
    /// authorities, only those that did issue one.
    pub authorities: Vec<CertificateInfo>,
    /// The clusters that have keys in this etcd, by name. An error if the etcd user may read only
    /// its own cluster.
    pub clusters: Result<Vec<FoundCluster>>,
    /// The leases of the live workers.
    pub leases: Result<Vec<(WorkerIdentity, Option<LeaseTime>)>>,
    /// The time to live of a lease that was requested like a joining worker does. etcd raises a
    /// value that is too short for it.
    pub granted_ttl: Result<Duration>,
}

/// The result for one endpoint.
#[derive(Debug)]
pub struct MemberReport {
    /// `http://host:port`, or `https://host:port` with TLS.
    pub url: String,
    /// The TLS session; `None` without TLS, or if connecting failed.
    pub tls: Option<TlsSession>,
    /// The configured user.
    pub user: Option<String>,
    /// Whether the member accepted the user's password. An etcd without users asks for none.
    pub authenticated: bool,
    /// By how many milliseconds at least the clock is ahead of this machine's clock; negative if it
    /// is behind. `None` if the member did not send its time.
    pub clock_skew_ms: Option<i64>,
    /// The member's status, or the reason why it is missing. etcd 3.4 needs no user for it, and
    /// etcd 3.6 accepts any user.
    pub status: Result<MemberStatus>,
    /// The result of reading the cluster's keys as the configured user, or the reason why that
    /// failed.
    pub reading: Result<Reading>,
}

/// The status of a member of etcd.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberStatus {
    /// The version of etcd.
    pub version: String,
    /// Whether this version of etcd has the bugs 18089 and 19179, by which watches lose changes.
    /// The library finds lost changes within half a minute, by additional reads.
    pub loses_changes: bool,
    /// The id of the cluster, which all members share.
    pub cluster_id: u64,
    /// The id of the member.
    pub member_id: u64,
    /// The id of the leader, or 0 without a leader.
    pub leader: u64,
    /// Whether the member is a learner, which does not vote and answers only some requests.
    pub is_learner: bool,
    /// The newest entry of etcd's log that the member knows to be committed.
    pub raft_index: u64,
    /// The newest entry of the log that the member has applied.
    pub raft_applied_index: u64,
    /// The size of the database on disk, in bytes.
    pub db_size: i64,
    /// The problems that the member reports, such as an alarm.
    pub errors: Vec<String>,
}

/// A linearizable read of the cluster's live keys, which needs a majority of etcd's members.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reading {
    /// The revision of etcd.
    pub revision: i64,
    /// The duration of the read on an open connection.
    pub latency: Duration,
}

/// A cluster that has keys in etcd.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundCluster {
    /// Its `alluxio.cluster.name`.
    pub name: String,
    /// The number of ring keys.
    pub registered: i64,
    /// The number of live keys.
    pub live: i64,
}

/// The lease of a live worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeaseTime {
    /// The id of the lease.
    pub id: i64,
    /// The time until it ends unless it is renewed, in whole seconds.
    pub left: Duration,
    /// The time to live after each renewal.
    pub granted: Duration,
}

impl Cluster {
    /// Takes at most until the deadline. The endpoints are inspected in parallel and get half of
    /// the time, so that silent endpoints leave time for the rest.
    pub(crate) async fn inspect(&self, ttl: Duration, deadline: Instant) -> Inspection {
        let limit = deadline.saturating_duration_since(Instant::now()) / 2;
        let start = Instant::now();
        // Only a part of the time, so that a silent name service delays other endpoints less.
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
                // Used for the other requests, including the caller's, because other endpoints may
                // be silent.
                self.endpoints.prefer(Purpose::Requests, &endpoints[index]);
                break;
            }
        }
        if !one_works {
            // No endpoint answered, so further requests would only take time.
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

    /// Returns the leases of the live keys that have an identity, in the order of the keys.
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
            asked.spawn(async move { Ok((index, lease_time(&endpoints, lease, deadline).await?)) });
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

    /// Reads the time that a lease has left; `None` if it has ended.
    pub(crate) async fn lease(&self, id: i64, deadline: Instant) -> Result<Option<LeaseTime>> {
        lease_time(&self.endpoints, id, deadline).await
    }

    /// Returns the identities and lease ids of the live keys.
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

    /// Finds the clusters by a jump from the first key of a cluster to the first key after the
    /// cluster.
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

    /// Reads the next keys of a walk, with a maximum number.
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

    /// Reads keys of a range. A count that is not lower than `fewer_than` is the fault of the
    /// endpoint.
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
                        false => Err(wrong_answer(
                            "its count of keys does not decrease from page to page",
                        )),
                    }
                }
            })
            .await
    }

    /// Reads etcd's newest revision.
    pub(crate) async fn newest_revision(&self, deadline: Instant) -> Result<i64> {
        let prefix = self.keys.live_prefix();
        let options = GetOptions::new().with_count_only();
        let end = range_end(prefix);
        let answer = self
            .get(prefix.into(), &end, options, i64::MAX, deadline)
            .await?;
        Ok(revision_of(answer.header()))
    }

    /// Grants a lease like a join does, and revokes it.
    async fn granted_ttl(&self, ttl: Duration, deadline: Instant) -> Result<Duration> {
        let call = Call::new(lease::granting(ttl), deadline);
        let id = self.lease_ids.next();
        let granted = lease::grant(&self.endpoints, &call, id, ttl).await?;
        lease::revoke(&self.endpoints, id, deadline).await?;
        Ok(granted)
    }
}

async fn lease_time(
    endpoints: &Endpoints,
    id: i64,
    deadline: Instant,
) -> Result<Option<LeaseTime>> {
    let call = Call::new(format!("Getting TTL of Lease:{id}"), deadline);
    let answer = endpoints
        .call(&call, |mut client| async move {
            client.lease_time_to_live(id, None).await
        })
        .await?;
    // A lease that has just ended has -1 seconds left.
    let left = u64::try_from(answer.ttl()).ok().map(Duration::from_secs);
    let granted = Duration::from_secs(u64::try_from(answer.granted_ttl()).unwrap_or(0));
    Ok(left.map(|left| LeaseTime { id, left, granted }))
}

/// A range that is read in pieces, all at the revision of the first piece.
struct Walk {
    end: Vec<u8>,
    /// The revision of the first piece, or 0 before it.
    revision: i64,
    /// The number of keys in the last piece and after it. The next pieces have fewer, so a walk
    /// ends.
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

/// Inspects one endpoint, independently of the others.
async fn look_at(endpoint: Arc<Endpoint>, prefix: String, limit: Duration) -> MemberReport {
    let connection = &endpoint.connection;
    let url = connection.shown();
    let call = Call::new(format!("Getting status of {url}"), Instant::now());
    let asked_at = Instant::now();
    let ((reading, status), clock_skew_ms) =
        tokio::join!(read_and_status(&endpoint, &prefix, limit), async {
            timeout(limit, clock_skew_ms(connection)).await.ok()?
        },);
    requests::log(
        "Reading as a client, and the status",
        &endpoint,
        asked_at,
        &reading,
    );
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
    // The read comes first, because it authenticates, which etcd 3.6 needs for the status too. A
    // member without a majority cannot serve the read but has a status.
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
    // `attempt` would authenticate first, but a member may work although it refuses the user.
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
    // The first read connects and authenticates, so its time does not count.
    count(limit).await?;
    let start = Instant::now();
    let answer = count(deadline.saturating_duration_since(start)).await?;
    Ok(Reading {
        revision: revision_of(answer.header()),
        latency: start.elapsed(),
    })
}

/// Compares the clocks. The result is the least possible difference, because the answer takes some
/// time and the member's time has whole seconds.
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

/// Returns the time in an answer of etcd's HTTP server, which shares the port of its gRPC server.
async fn date(connection: &Connection) -> Option<SystemTime> {
    let transport = connection.transport_apart();
    // With TLS, etcd negotiates HTTP/2 for all requests. Without TLS, HTTP/1 selects its HTTP
    // server.
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
