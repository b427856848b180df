//! The metrics of `serve` in the OpenMetrics format, from the state of the feed at each scrape.

use std::fmt;
use std::sync::Arc;

use alluxio_membership::etcd::EndpointHealth;
use alluxio_membership::status::Status;
use alluxio_membership::view::{Member, MemberFilter};
use alluxio_membership::worker::WorkerState;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

use super::feed::{Feed, Shown};

pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

pub fn text(feed: &Feed) -> Result<String, fmt::Error> {
    let mut registry = Registry::with_prefix("alluxio_membership");
    let info = Info::new(vec![
        ("version", env!("CARGO_PKG_VERSION").to_owned()),
        ("cluster", feed.cluster.clone()),
    ]);
    registry.register(
        "build",
        "The version of this program, and the cluster",
        info,
    );
    let status = feed.status();
    registry.register_collector(Box::new(Scrape {
        is_ready: status.as_ref().is_some_and(|status| feed.is_ready(status)),
        status,
        shown: feed.shown(),
        worker_series: feed.worker_series,
    }));
    let mut text = String::new();
    encode(&mut text, &registry)?;
    Ok(text)
}

/// The state at one scrape.
struct Scrape {
    is_ready: bool,
    status: Option<Status>,
    shown: Option<Arc<Shown>>,
    worker_series: usize,
}

impl fmt::Debug for Scrape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scrape").finish_non_exhaustive()
    }
}

impl Collector for Scrape {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        let ready = i64::from(self.is_ready);
        let help = "Whether the view is known and not too old";
        single(&mut encoder, "ready", help, None, &ConstGauge::new(ready))?;
        if let Some(shown) = &self.shown {
            self.encode_workers(shown, &mut encoder)?;
        }
        if let Some(status) = &self.status {
            encode_status(status, &mut encoder)?;
        }
        Ok(())
    }
}

impl Scrape {
    fn encode_workers(&self, shown: &Shown, encoder: &mut DescriptorEncoder) -> fmt::Result {
        let view = &shown.view;
        let count = |filter| view.members(filter).len();
        let states = match shown.knows_states {
            true => vec![
                ("live", count(MemberFilter::Live)),
                ("lost", count(MemberFilter::Lost)),
            ],
            false => vec![("unknown", count(MemberFilter::All))],
        };
        family(
            encoder,
            "workers",
            "Registered workers, by state",
            states
                .into_iter()
                .map(|(state, count)| (vec![("state", state.to_owned())], gauge(count))),
        )?;
        let help = "Records that cannot be read and are not listed";
        let skipped = gauge(view.skipped_count());
        single(encoder, "skipped_records", help, None, &skipped)?;
        let help = "The etcd revision that the view shows";
        let revision = ConstGauge::new(view.revision());
        single(encoder, "view_revision", help, None, &revision)?;
        if !shown.knows_states {
            return Ok(());
        }
        let members = view.members(MemberFilter::All);
        let left_out = members.len().saturating_sub(self.worker_series);
        let help =
            "Workers without a worker_up series, because there are more than --worker-series";
        single(
            encoder,
            "workers_without_series",
            help,
            None,
            &gauge(left_out),
        )?;
        let series = members.iter().take(self.worker_series).map(worker_up);
        family(
            encoder,
            "worker_up",
            "1 for a live worker, 0 for a lost one",
            series,
        )
    }
}

fn worker_up(member: &Member) -> (Labels, ConstGauge<i64>) {
    let worker = &member.worker;
    let labels = vec![
        ("host", worker.address.host.clone().unwrap_or_default()),
        ("identity", worker.identity.to_string()),
    ];
    let is_up = member.state == WorkerState::Live;
    (labels, ConstGauge::new(i64::from(is_up)))
}

fn encode_status(status: &Status, encoder: &mut DescriptorEncoder) -> fmt::Result {
    let help = "The version of the view, which counts its changes";
    let version = gauge(status.version);
    single(encoder, "view_version", help, None, &version)?;
    if let Some(age) = status.view_age {
        let help = "How long ago etcd was last known to have exactly these workers";
        let age = ConstGauge::new(age.as_secs_f64());
        single(encoder, "view_age", help, Some(&Unit::Seconds), &age)?;
    }
    let counters = &status.view_counters;
    for (name, help, count) in [
        (
            "listings",
            "Complete listings of the cluster",
            counters.listings,
        ),
        ("watches", "Watches that etcd opened", counters.watches),
        (
            "checks",
            "Comparisons that showed the view to be complete",
            counters.checks,
        ),
        (
            "checks_behind",
            "Comparisons that found changes on their way",
            counters.checks_behind,
        ),
        (
            "checks_failed",
            "Comparisons that etcd did not answer",
            counters.checks_failed,
        ),
        (
            "other_histories",
            "Times that etcd was wiped or restored",
            counters.other_histories,
        ),
    ] {
        single(encoder, name, help, None, &ConstCounter::new(count))?;
    }
    let endpoints = &status.endpoints;
    let of = |endpoint: &EndpointHealth| vec![("endpoint", endpoint.url.clone())];
    family(
        encoder,
        "endpoint_up",
        "0 for an endpoint of etcd that is quarantined until it answers again",
        endpoints
            .iter()
            .map(|it| (of(it), gauge(usize::from(it.healthy)))),
    )?;
    family(
        encoder,
        "endpoint_answers",
        "Requests that an endpoint of etcd answered",
        endpoints
            .iter()
            .map(|it| (of(it), ConstCounter::new(it.answered))),
    )?;
    family(
        encoder,
        "endpoint_failures",
        "Requests to an endpoint of etcd that failed",
        endpoints
            .iter()
            .map(|it| (of(it), ConstCounter::new(it.failed))),
    )
}

type Labels = Vec<(&'static str, String)>;

fn gauge(count: impl TryInto<i64>) -> ConstGauge<i64> {
    ConstGauge::new(count.try_into().unwrap_or(i64::MAX))
}

fn single(
    encoder: &mut DescriptorEncoder,
    name: &str,
    help: &str,
    unit: Option<&Unit>,
    metric: &impl EncodeMetric,
) -> fmt::Result {
    metric.encode(encoder.encode_descriptor(name, help, unit, metric.metric_type())?)
}

fn family<M: EncodeMetric>(
    encoder: &mut DescriptorEncoder,
    name: &str,
    help: &str,
    metrics: impl IntoIterator<Item = (Labels, M)>,
) -> fmt::Result {
    let mut metrics = metrics.into_iter().peekable();
    let metric_type = metrics
        .peek()
        .map_or(MetricType::Unknown, |(_, it)| it.metric_type());
    if metrics.peek().is_none() {
        return Ok(());
    }
    let mut encoder = encoder.encode_descriptor(name, help, None, metric_type)?;
    for (labels, metric) in metrics {
        metric.encode(encoder.encode_family(&labels)?)?;
    }
    Ok(())
}
