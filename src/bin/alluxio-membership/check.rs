//! `check`: what may keep a cluster from working, endpoint by endpoint and record by record.

use std::collections::{BTreeSet, HashMap};
use std::pin::pin;
use std::time::{Duration, SystemTime};

use alluxio_membership::config::{Backend, EtcdConfig};
use alluxio_membership::error::{Error, Result};
use alluxio_membership::etcd::{
    CertificateInfo, FoundCluster, Inspection, MemberReport, MemberStatus, TlsSession,
};
use alluxio_membership::text::Safe;
use alluxio_membership::view::{ClusterView, MemberFilter};
use anstyle::AnsiColor;
use futures_util::future::{Either, select};
use serde_json::{Value, json};

use crate::Context;
use crate::cli::CheckOptions;
use crate::output::{self, Outcome, Stop, reason};

/// Certificates that end within this time should be renewed.
const CERTIFICATE_ENDS_SOON: Duration = Duration::from_secs(14 * 24 * 3600);

/// Replacing an authority takes longer, because every client that trusts it must be updated first.
const AUTHORITY_ENDS_SOON: Duration = Duration::from_secs(30 * 24 * 3600);

/// A greater difference means that a clock is not synchronized.
const CLOCKS_DIFFER: Duration = Duration::from_secs(5);
/// A member that is further behind than etcd's leader keeps its log needs a snapshot to catch up.
/// The members are not asked at exactly the same time, so a few changes mean nothing.
const FAR_BEHIND: u64 = 5_000;

/// The number of named subjects of a repeated finding.
const NAMED: usize = 3;

/// The weight of a finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Ok,
    /// It works, but deserves attention.
    Look,
    /// It does not work.
    Bad(Outcome),
}

struct Finding {
    verdict: Verdict,
    /// The subject of the finding.
    subject: String,
    text: String,
}

#[derive(Default)]
struct Findings(Vec<Finding>);

impl Findings {
    fn add(&mut self, verdict: Verdict, subject: impl Into<String>, text: impl Into<String>) {
        self.0.push(Finding {
            verdict,
            subject: subject.into(),
            text: text.into(),
        });
    }

    fn failed(&mut self, subject: &str, error: &Error) {
        let verdict = Verdict::Bad(output::outcome_of(error.kind()));
        self.add(verdict, subject, reason(error));
    }

    /// Returns the outcome of the first finding that does not work. If everything works, the outcome
    /// says whether something deserves attention.
    fn outcome(&self) -> Outcome {
        let bad = self.0.iter().find_map(|finding| match finding.verdict {
            Verdict::Bad(outcome) => Some(outcome),
            _ => None,
        });
        let look = || {
            self.0
                .iter()
                .any(|finding| finding.verdict == Verdict::Look)
        };
        bad.unwrap_or_else(|| {
            if look() {
                Outcome::Findings
            } else {
                Outcome::Done
            }
        })
    }
}

pub async fn run(context: &Context, options: &CheckOptions) -> std::result::Result<Outcome, Stop> {
    let mut findings = Findings::default();
    let mut facts = json!({});
    // In parallel, so that both end within one operation timeout.
    let mut viewing = pin!(context.membership.view());
    let inspecting = pin!(context.membership.inspect());
    let (inspection, viewed) = match select(inspecting, viewing.as_mut()).await {
        Either::Left((inspection, _)) => (inspection, None),
        Either::Right((view, inspecting)) => (inspecting.await, Some(view)),
    };
    let view = async || match viewed {
        Some(view) => view,
        None => viewing.await,
    };
    match (&context.config.backend, inspection?) {
        (Backend::Etcd(config), Some(inspection)) => {
            endpoints(&mut findings, &inspection.members);
            authorities(&mut findings, &inspection.authorities);
            facts = facts_of(config, &inspection);
            if inspection.members.iter().any(|m| m.reading.is_ok()) {
                facts["workers"] = records(&mut findings, view().await);
                leases(&mut findings, config, &inspection);
                clusters(&mut findings, config, &inspection);
            }
        }
        _ => facts["workers"] = records(&mut findings, view().await),
    }
    let outcome = findings.outcome();
    let printed = if options.json {
        facts["exitStatus"] = json!(outcome as u8);
        facts["findings"] = findings.0.iter().map(row).collect();
        output::print_json(&facts)
    } else {
        output::print(grouped(&findings.0).iter().map(line).collect::<String>())
    };
    match printed {
        // Scripts use the exit status, even if the text was not read.
        Ok(()) | Err(Stop::NobodyReads) => Ok(outcome),
        Err(stop) => Err(stop),
    }
}

fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Ok => "ok",
        Verdict::Look => "LOOK",
        Verdict::Bad(_) => "BAD",
    }
}

/// The findings, and those with the same text in one line, where the first of them stands.
fn grouped(findings: &[Finding]) -> Vec<Finding> {
    let mut subjects: Vec<Vec<&str>> = Vec::new();
    let mut firsts: Vec<&Finding> = Vec::new();
    let mut places = HashMap::new();
    for finding in findings {
        let key = (word(finding.verdict), finding.text.as_str());
        let place = *places.entry(key).or_insert(firsts.len());
        if place == firsts.len() {
            firsts.push(finding);
            subjects.push(Vec::new());
        }
        subjects[place].push(&finding.subject);
    }
    let groups = firsts.into_iter().zip(subjects);
    groups
        .map(|(first, subjects)| {
            let named = subjects[..subjects.len().min(NAMED)].join(", ");
            let subject = match subjects.len().saturating_sub(NAMED) {
                0 => named,
                more => format!("{named} and {more} more"),
            };
            Finding {
                verdict: first.verdict,
                subject,
                text: first.text.clone(),
            }
        })
        .collect()
}

fn line(finding: &Finding) -> String {
    let word = word(finding.verdict);
    let colour = match finding.verdict {
        Verdict::Ok => AnsiColor::Green,
        Verdict::Look => AnsiColor::Yellow,
        Verdict::Bad(_) => AnsiColor::Red,
    };
    format!(
        "{}{:padding$}{}: {}\n",
        output::in_colour(word, colour),
        "",
        Safe(&finding.subject),
        Safe(&finding.text),
        padding = "LOOK  ".len() - word.len(),
    )
}

fn row(finding: &Finding) -> Value {
    json!({
        "verdict": word(finding.verdict).to_ascii_lowercase(),
        "subject": finding.subject,
        "text": finding.text,
    })
}

/// Returns the numbers for programs; unknown numbers are `null`.
fn facts_of(config: &EtcdConfig, inspection: &Inspection) -> Value {
    let clusters = inspection.clusters.as_ref().ok();
    let cluster = |found: &FoundCluster| json!({"name": found.name, "registered": found.registered, "live": found.live});
    json!({
        "endpoints": inspection.members.iter().map(facts_of_member).collect::<Vec<_>>(),
        "lease": {
            "wantedSeconds": config.lease_ttl.as_secs(),
            "grantedSeconds": inspection.granted_ttl.as_ref().ok().map(Duration::as_secs),
        },
        "clusters": clusters.map(|clusters| clusters.iter().map(cluster).collect::<Vec<_>>()),
    })
}

fn facts_of_certificate(certificate: &CertificateInfo) -> Value {
    let expires = humantime::format_rfc3339_seconds(certificate.expires).to_string();
    json!({"subject": certificate.subject, "expires": expires})
}

fn facts_of_member(member: &MemberReport) -> Value {
    let status = member.status.as_ref().ok();
    let reading = member.reading.as_ref().ok();
    let tls = member.tls.as_ref().map(|session| {
        json!({
            "version": session.version,
            "serverCertificate": session.server.as_ref().map(facts_of_certificate),
            "authority": session.authority.as_ref().map(facts_of_certificate),
            "clientCertificate": session.client.as_ref().map(facts_of_certificate),
            "asksForCertificate": session.asks_for_certificate,
        })
    });
    json!({
        "url": member.url,
        "version": status.map(|status| &status.version),
        "role": status.map(role),
        // In the format of etcdctl, because numbers in JSON are too short for these ids.
        "memberId": status.map(|status| format!("{:x}", status.member_id)),
        "leader": status.filter(|s| s.leader != 0).map(|s| format!("{:x}", s.leader)),
        "clusterId": status.map(|status| format!("{:x}", status.cluster_id)),
        "raftIndex": status.map(|status| status.raft_index),
        "raftAppliedIndex": status.map(|status| status.raft_applied_index),
        "dbSize": status.map(|status| status.db_size),
        "revision": reading.map(|reading| reading.revision),
        "latencyMs": reading.map(|reading| reading.latency.as_secs_f64() * 1000.0),
        "tls": tls,
        "user": member.user,
        "authenticated": member.authenticated,
        "clockSkewMs": member.clock_skew_ms,
        "error": member.reading.as_ref().err().map(|error| reason_at(&member.url, error)),
    })
}

/// Returns the reason without the endpoint, which is already named.
fn reason_at(url: &str, error: &Error) -> String {
    let reason = reason(error);
    let short = reason.strip_prefix(&format!("etcd endpoint {url}: "));
    short.unwrap_or(&reason).to_owned()
}

fn role(status: &MemberStatus) -> &'static str {
    if status.leader == status.member_id {
        "leader"
    } else if status.is_learner {
        "learner"
    } else {
        "follower"
    }
}

/// Returns the protocol and the user of the connection.
fn way(member: &MemberReport) -> String {
    let line = match &member.tls {
        Some(session) => session.version,
        None => "plain text",
    };
    match &member.user {
        None => format!("{line}, no user"),
        Some(user) if !member.authenticated && member.reading.is_ok() => {
            format!("{line}, user {user}, but etcd works without users")
        }
        Some(user) => format!("{line}, as user {user}"),
    }
}

fn endpoints(findings: &mut Findings, members: &[MemberReport]) {
    let none_works = members.iter().all(|member| member.reading.is_err());
    for member in members {
        let subject = format!("endpoint {}", member.url);
        let verdict = |error: &Error| match none_works {
            true => Verdict::Bad(output::outcome_of(error.kind())),
            // The library goes on with the others.
            false => Verdict::Look,
        };
        match (&member.status, &member.reading) {
            (Ok(status), Ok(reading)) => {
                let text = format!(
                    "etcd {}, {}, revision {}, {:.1} ms, {}; {}",
                    status.version,
                    role(status),
                    reading.revision,
                    reading.latency.as_secs_f64() * 1000.0,
                    size(status.db_size),
                    way(member),
                );
                findings.add(Verdict::Ok, &subject, text);
            }
            (Err(error), Ok(reading)) => {
                let text = format!(
                    "reads at revision {} ({}), but no status: {}",
                    reading.revision,
                    way(member),
                    reason_at(&member.url, error)
                );
                findings.add(Verdict::Look, &subject, text);
            }
            (Ok(status), Err(error)) => {
                let text = format!(
                    "etcd {} answers ({}), but: {}",
                    status.version,
                    way(member),
                    reason_at(&member.url, error)
                );
                findings.add(verdict(error), &subject, text);
            }
            (Err(_), Err(error)) => {
                findings.add(verdict(error), &subject, reason_at(&member.url, error))
            }
        }
        if let Some(session) = &member.tls {
            tls(findings, &subject, session);
        }
        if let Some(skew) = member.clock_skew_ms
            && skew.unsigned_abs() > CLOCKS_DIFFER.as_millis() as u64
        {
            let text = format!(
                "its clock is {} s {} this machine's: leases do not depend on it, but certificates \
                 do",
                skew.unsigned_abs() / 1000,
                if skew > 0 { "ahead of" } else { "behind" },
            );
            findings.add(Verdict::Look, &subject, text);
        }
        if let Ok(status) = &member.status {
            if status.leader == 0 {
                findings.add(Verdict::Look, &subject, "it has no leader");
            }
            for complaint in &status.errors {
                findings.add(Verdict::Look, &subject, complaint);
            }
        }
    }
    side_by_side(findings, members);
    let statuses = members.iter().filter_map(|it| it.status.as_ref().ok());
    let old: BTreeSet<&str> = statuses
        .filter(|status| status.loses_changes)
        .map(|status| status.version.as_str())
        .collect();
    for version in old {
        let text = format!(
            "etcd {version} may lose changes of a watch (etcd issues 18089 and 19179), which the \
             library finds within half a minute; update to 3.4.36, 3.5.18, 3.6.0 or later"
        );
        findings.add(Verdict::Ok, "endpoints", text);
    }
}

/// Returns a number of bytes in the unit that needs one to three digits.
fn size(bytes: i64) -> String {
    match bytes {
        ..1_000 => format!("{bytes} B"),
        1_000..1_000_000 => format!("{} kB", bytes / 1_000),
        1_000_000..1_000_000_000 => format!("{} MB", bytes / 1_000_000),
        _ => format!("{:.1} GB", bytes as f64 / 1e9),
    }
}

/// Compares the statuses of the members.
fn side_by_side(findings: &mut Findings, members: &[MemberReport]) {
    let statuses: Vec<(&str, &MemberStatus)> = members
        .iter()
        .filter_map(|member| Some((member.url.as_str(), member.status.as_ref().ok()?)))
        .collect();
    let clusters: BTreeSet<u64> = statuses.iter().map(|(_, s)| s.cluster_id).collect();
    if clusters.len() > 1 {
        let text = format!("they belong to {} different etcd clusters", clusters.len());
        return findings.add(Verdict::Bad(Outcome::Failed), "endpoints", text);
    }
    let leaders: Vec<(&str, String)> = statuses
        .iter()
        .filter(|(_, status)| status.leader != 0)
        .map(|(url, status)| (*url, format!("{:x}", status.leader)))
        .collect();
    let versions: Vec<(&str, String)> = statuses
        .iter()
        .map(|(url, status)| (*url, status.version.clone()))
        .collect();
    for (values, what) in [
        (leaders, "they name different leaders"),
        (versions, "they run different versions of etcd"),
    ] {
        if values.iter().any(|(_, value)| *value != values[0].1) {
            let each: Vec<String> = values
                .iter()
                .map(|(url, v)| format!("{v} at {url}"))
                .collect();
            findings.add(
                Verdict::Look,
                "endpoints",
                format!("{what}: {}", each.join(", ")),
            );
        }
    }
    let newest = statuses
        .iter()
        .map(|(_, s)| s.raft_index)
        .max()
        .unwrap_or(0);
    for (url, status) in statuses {
        let behind = newest.saturating_sub(status.raft_applied_index);
        if behind > FAR_BEHIND {
            let text = format!(
                "it is {behind} changes behind the others (raft index {} of {newest}): what it \
                 serves is old",
                status.raft_applied_index
            );
            findings.add(Verdict::Look, format!("endpoint {url}"), text);
        }
    }
}

fn tls(findings: &mut Findings, subject: &str, session: &TlsSession) {
    if session.server.is_none() {
        let text = format!("{}, its certificate cannot be shown", session.version);
        findings.add(Verdict::Ok, subject, text);
    }
    let server = session.server.iter().map(|it| ("its certificate", it));
    let client = session
        .client
        .iter()
        .map(|client| ("the client certificate", client));
    for (whose, certificate) in server.chain(client) {
        let verdict = ends(certificate, CERTIFICATE_ENDS_SOON);
        let text = format!(
            "{}, {whose} ({}) expires {}",
            session.version,
            certificate.subject,
            humantime::format_rfc3339_seconds(certificate.expires)
        );
        findings.add(verdict, subject, text);
    }
}

/// Whether a certificate should be replaced, since it ends within this time.
fn ends(certificate: &CertificateInfo, soon: Duration) -> Verdict {
    match certificate.expires.duration_since(SystemTime::now()) {
        Ok(left) if left > soon => Verdict::Ok,
        _ => Verdict::Look,
    }
}

fn authorities(findings: &mut Findings, authorities: &[CertificateInfo]) {
    for authority in authorities {
        let expires = humantime::format_rfc3339_seconds(authority.expires);
        let text = match ends(authority, AUTHORITY_ENDS_SOON) {
            Verdict::Ok => format!("expires {expires}"),
            _ if authority.expires < SystemTime::now() => {
                format!("expired {expires}: no certificate of etcd counts that comes from it")
            }
            _ => format!("expires {expires}, within 30 days: it should be replaced"),
        };
        findings.add(
            ends(authority, AUTHORITY_ENDS_SOON),
            format!("authority {}", authority.subject),
            text,
        );
    }
}

/// Returns how many there are.
fn records(findings: &mut Findings, view: Result<std::sync::Arc<ClusterView>>) -> Value {
    let view = match view {
        Ok(view) => view,
        Err(error) => {
            findings.failed("workers", &error);
            return Value::Null;
        }
    };
    let count = |filter| view.members(filter).len();
    let (live, lost) = (count(MemberFilter::Live), count(MemberFilter::Lost));
    findings.add(Verdict::Ok, "workers", output::live_and_lost(&view));
    for record in view.skipped() {
        let subject = format!("record {}", record.key);
        findings.add(
            Verdict::Look,
            subject,
            format!("left out: {}", record.reason),
        );
    }
    let more = view.skipped_count() - view.skipped().len();
    if more > 0 {
        findings.add(
            Verdict::Look,
            "records",
            format!("{more} more records are left out"),
        );
    }
    for member in view.members(MemberFilter::Live) {
        let identity = &member.worker.identity;
        if view.find(identity).is_none() {
            findings.add(
                Verdict::Look,
                identity.to_string(),
                "live, but not registered",
            );
        }
    }
    json!({"live": live, "lost": lost})
}

fn leases(findings: &mut Findings, config: &EtcdConfig, inspection: &Inspection) {
    let wanted = config.lease_ttl;
    match &inspection.granted_ttl {
        Err(error) => findings.failed("lease", error),
        Ok(granted) if *granted == wanted => {
            findings.add(
                Verdict::Ok,
                "lease",
                format!("{} s, as configured", wanted.as_secs()),
            );
        }
        Ok(granted) => {
            let text = format!(
                "etcd grants {} s instead of the {} s of alluxio.worker.failure.detection.timeout",
                granted.as_secs(),
                wanted.as_secs()
            );
            findings.add(Verdict::Look, "lease", text);
        }
    }
    if config.operation_timeout >= wanted {
        let text = format!(
            "the operation timeout ({} ms) is not shorter than the lease ({} s): one slow call may \
             cost a worker its lease",
            config.operation_timeout.as_millis(),
            wanted.as_secs()
        );
        findings.add(Verdict::Look, "lease", text);
    }
    let leases = match &inspection.leases {
        Ok(leases) => leases,
        Err(error) => return findings.failed("leases of live workers", error),
    };
    for (identity, lease) in leases {
        match lease {
            None => {
                let text = "its live key is on no lease: it never becomes lost";
                findings.add(Verdict::Look, identity.to_string(), text);
            }
            Some(lease)
                if inspection
                    .granted_ttl
                    .as_ref()
                    .is_ok_and(|granted| lease.granted != *granted) =>
            {
                let text = format!(
                    "its lease is of {} s: another alluxio.worker.failure.detection.timeout than \
                     here",
                    lease.granted.as_secs()
                );
                findings.add(Verdict::Look, identity.to_string(), text);
            }
            Some(_) => {}
        }
    }
}

fn clusters(findings: &mut Findings, config: &EtcdConfig, inspection: &Inspection) {
    match &inspection.clusters {
        // A user who may read only its own cluster is correctly configured.
        Err(error) => findings.add(
            Verdict::Ok,
            "clusters",
            format!("not known: {}", reason(error)),
        ),
        Ok(clusters) => {
            for found in clusters {
                let subject = format!("cluster {}", found.name);
                let text = format!("{} registered, {} live", found.registered, found.live);
                findings.add(Verdict::Ok, subject, text);
            }
            let own = &config.cluster_name;
            if !clusters.is_empty() && !clusters.iter().any(|found| found.name == *own) {
                let text = "nothing is stored under this alluxio.cluster.name, but there are other \
                            clusters";
                findings.add(Verdict::Look, format!("cluster {own}"), text);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alluxio_membership::etcd::Reading;

    fn member(place: u64) -> MemberReport {
        MemberReport {
            url: format!("http://etcd-{place}:2379"),
            tls: None,
            user: None,
            authenticated: false,
            clock_skew_ms: None,
            status: Ok(MemberStatus {
                loses_changes: false,
                version: "3.6.1".to_owned(),
                cluster_id: 1,
                member_id: 10 + place,
                leader: 10,
                is_learner: false,
                raft_index: 1_000_000,
                raft_applied_index: 1_000_000,
                db_size: 0,
                errors: Vec::new(),
            }),
            reading: Ok(Reading {
                revision: 1,
                latency: Duration::from_millis(1),
            }),
        }
    }

    /// Returns the findings about three members after this change of the last member.
    fn complaints(change: impl FnOnce(&mut MemberStatus)) -> Vec<String> {
        let mut members: Vec<MemberReport> = (0..3).map(member).collect();
        change(members[2].status.as_mut().unwrap());
        let mut findings = Findings::default();
        endpoints(&mut findings, &members);
        let wrong = findings.0.into_iter().filter(|f| f.verdict != Verdict::Ok);
        wrong
            .map(|f| format!("{} {}: {}", word(f.verdict), f.subject, f.text))
            .collect()
    }

    #[test]
    fn members_that_do_not_fit_together_are_looked_at() {
        let none: [&str; 0] = [];
        assert_eq!(complaints(|_| {}), none);
        assert_eq!(
            complaints(|status| status.leader = 12),
            [
                "LOOK endpoints: they name different leaders: a at http://etcd-0:2379, \
                 a at http://etcd-1:2379, c at http://etcd-2:2379"
            ]
        );
        assert_eq!(
            complaints(|status| status.leader = 0),
            ["LOOK endpoint http://etcd-2:2379: it has no leader"]
        );
        assert_eq!(
            complaints(|status| status.version = "3.5.9".to_owned()),
            [
                "LOOK endpoints: they run different versions of etcd: 3.6.1 at http://etcd-0:2379, \
                 3.6.1 at http://etcd-1:2379, 3.5.9 at http://etcd-2:2379"
            ]
        );
        assert_eq!(
            complaints(|status| status.cluster_id = 2),
            ["BAD endpoints: they belong to 2 different etcd clusters"]
        );
    }

    #[test]
    fn equal_findings_are_one_line() {
        let mut findings = Findings::default();
        findings.add(Verdict::Ok, "workers", "5 live");
        for worker in 1..=5 {
            findings.add(Verdict::Look, format!("worker-{worker}"), "on no lease");
        }
        findings.add(Verdict::Ok, "worker-6", "on no lease");
        findings.add(Verdict::Look, "worker-7", "another lease");
        let lines = grouped(&findings.0).into_iter();
        let lines: Vec<String> = lines
            .map(|f| format!("{} {}: {}", word(f.verdict), f.subject, f.text))
            .collect();
        assert_eq!(
            lines,
            [
                "ok workers: 5 live",
                "LOOK worker-1, worker-2, worker-3 and 2 more: on no lease",
                "ok worker-6: on no lease",
                "LOOK worker-7: another lease",
            ]
        );
    }

    #[test]
    fn a_member_may_be_a_little_behind() {
        let behind = |changes| {
            complaints(move |status| {
                status.raft_index -= changes;
                status.raft_applied_index -= changes;
            })
        };
        let none: [&str; 0] = [];
        assert_eq!(behind(5_000), none);
        assert_eq!(
            behind(6_000),
            [
                "LOOK endpoint http://etcd-2:2379: it is 6000 changes behind the others (raft index \
                 994000 of 1000000): what it serves is old"
            ]
        );
    }
}
