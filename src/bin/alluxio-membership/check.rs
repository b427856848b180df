//! `check`: what may keep a cluster from working, endpoint by endpoint and record by record.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime};

use alluxio_membership::config::{Backend, EtcdConfig};
use alluxio_membership::error::{Error, Result};
use alluxio_membership::etcd::{Inspection, MemberReport, TlsSession};
use alluxio_membership::view::{ClusterView, MemberFilter};
use serde_json::json;

use crate::Context;
use crate::cli::CheckOptions;
use crate::output::{self, Outcome, Stop};

/// Certificates that end within this time should be renewed.
const CERTIFICATE_ENDS_SOON: Duration = Duration::from_secs(14 * 24 * 3600);

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Ok,
    /// It works, but should be looked at.
    Look,
    /// It does not work.
    Bad(Outcome),
}

struct Finding {
    verdict: Verdict,
    /// What was looked at.
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

    /// What does not work counts more than what does; of several, the first.
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
    match (&context.config.backend, context.membership.inspect().await?) {
        (Backend::Etcd(config), Some(inspection)) => {
            endpoints(&mut findings, &inspection.members);
            if inspection.members.iter().any(|m| m.reading.is_ok()) {
                records(&mut findings, context.membership.view().await);
                leases(&mut findings, config, &inspection);
                clusters(&mut findings, config, &inspection);
            }
        }
        _ => records(&mut findings, context.membership.view().await),
    }
    let outcome = findings.outcome();
    if options.json {
        let rows: Vec<_> = findings.0.iter().map(row).collect();
        output::print_json(&json!({"exitStatus": outcome as u8, "findings": rows}))?;
    } else {
        let lines: String = findings
            .0
            .iter()
            .map(|finding| {
                format!(
                    "{:<4}  {}: {}\n",
                    word(finding.verdict),
                    output::visible(&finding.subject, &[]),
                    output::visible(&finding.text, &[])
                )
            })
            .collect();
        output::print(lines)?;
    }
    Ok(outcome)
}

fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Ok => "ok",
        Verdict::Look => "LOOK",
        Verdict::Bad(_) => "BAD",
    }
}

fn row(finding: &Finding) -> serde_json::Value {
    json!({
        "verdict": word(finding.verdict).to_ascii_lowercase(),
        "subject": finding.subject,
        "text": finding.text,
    })
}

/// The cause says it; the rest is how the library came to ask.
fn reason(error: &Error) -> String {
    match error.cause() {
        Some(cause) => cause.text.clone(),
        None => error.to_string(),
    }
}

/// The same, where the endpoint is named already.
fn reason_at(url: &str, error: &Error) -> String {
    let reason = reason(error);
    let short = reason.strip_prefix(&format!("etcd endpoint {url}: "));
    short.unwrap_or(&reason).to_owned()
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
                let role = if status.leader == status.member_id {
                    "leader"
                } else if status.is_learner {
                    "learner"
                } else {
                    "follower"
                };
                let text = format!(
                    "etcd {}, {role}, revision {}, {:.1} ms, {} MB",
                    status.version,
                    reading.revision,
                    reading.latency.as_secs_f64() * 1000.0,
                    status.db_size / 1_000_000,
                );
                findings.add(Verdict::Ok, &subject, text);
            }
            (Err(error), Ok(reading)) => {
                let text = format!(
                    "reads at revision {}, but no status: {}",
                    reading.revision,
                    reason_at(&member.url, error)
                );
                findings.add(Verdict::Look, &subject, text);
            }
            (Ok(status), Err(error)) => {
                let text = format!(
                    "etcd {} answers, but: {}",
                    status.version,
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
        if let Ok(status) = &member.status {
            if status.leader == 0 {
                findings.add(Verdict::Look, &subject, "it has no leader");
            }
            for complaint in &status.errors {
                findings.add(Verdict::Look, &subject, complaint);
            }
        }
    }
    let ids: BTreeSet<u64> = members
        .iter()
        .filter_map(|member| member.status.as_ref().ok())
        .map(|status| status.cluster_id)
        .collect();
    if ids.len() > 1 {
        let text = format!("they belong to {} different etcd clusters", ids.len());
        findings.add(Verdict::Bad(Outcome::Failed), "endpoints", text);
    }
}

fn tls(findings: &mut Findings, subject: &str, session: &TlsSession) {
    let server = [("its certificate", &session.server)];
    let client = session
        .client
        .iter()
        .map(|client| ("the client certificate", client));
    for (whose, certificate) in server.into_iter().chain(client) {
        let left = certificate.expires.duration_since(SystemTime::now());
        let verdict = match left {
            Ok(left) if left > CERTIFICATE_ENDS_SOON => Verdict::Ok,
            _ => Verdict::Look,
        };
        let text = format!(
            "{}, {whose} ({}) expires {}",
            session.version,
            certificate.subject,
            humantime::format_rfc3339_seconds(certificate.expires)
        );
        findings.add(verdict, subject, text);
    }
}

fn records(findings: &mut Findings, view: Result<std::sync::Arc<ClusterView>>) {
    let view = match view {
        Ok(view) => view,
        Err(error) => return findings.failed("workers", &error),
    };
    let count = |filter| view.members(filter).len();
    let text = format!(
        "{} live, {} lost",
        count(MemberFilter::Live),
        count(MemberFilter::Failed)
    );
    findings.add(Verdict::Ok, "workers", text);
    for record in view.skipped() {
        let subject = format!("record {}", record.key);
        findings.add(
            Verdict::Look,
            subject,
            format!("left out: {}", record.reason),
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
            "the operation timeout ({} ms) is not shorter than the lease ({} s): one slow call may cost a worker its lease",
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
                let text = "its live key is on no lease: it is listed as live for ever";
                findings.add(Verdict::Look, identity.to_string(), text);
            }
            Some(lease)
                if inspection
                    .granted_ttl
                    .as_ref()
                    .is_ok_and(|granted| lease.granted != *granted) =>
            {
                let text = format!(
                    "its lease is of {} s: another alluxio.worker.failure.detection.timeout than here",
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
        // A user who may read its own cluster only is a good thing.
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
                let text = "nothing is stored under this alluxio.cluster.name, but there are other clusters";
                findings.add(Verdict::Look, format!("cluster {own}"), text);
            }
        }
    }
}
