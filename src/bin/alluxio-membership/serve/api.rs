//! The answers of `serve`, which `docs/openapi.json` describes.

use std::sync::Arc;

use alluxio_membership::view::MemberFilter;
use alluxio_membership::worker::WorkerIdentity;
use axum::Router;
use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, IF_NONE_MATCH, REFERRER_POLICY,
    X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderMap, HeaderName, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use base64ct::{Base64, Encoding};
use futures_util::stream;
use serde::Deserialize;
use serde_json::json;
use tokio::sync::broadcast::error::RecvError;
use tokio_util::sync::CancellationToken;

use super::details::{Details, NoDetails};
use super::feed::{Feed, Subscription};
use super::metrics;
use crate::describe::{key_json, lease_json};

const PAGE: &str = include_str!("page.html");
/// The place in the page of the nonce, which marks the page's own scripts and styles.
const NONCE: &str = "{nonce}";
const JSON: &str = "application/json";
const EVENTS: &str = "text/event-stream";

#[derive(Clone)]
struct App {
    feed: Arc<Feed>,
    details: Arc<Details>,
    stopping: CancellationToken,
}

pub fn router(feed: Arc<Feed>, details: Arc<Details>, stopping: CancellationToken) -> Router {
    Router::new()
        .route("/", get(page))
        .route("/metrics", get(metrics))
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(ready))
        .route("/api/v1/workers", get(workers))
        .route("/api/v1/workers/{id}", get(worker))
        .route("/api/v1/changes", get(changes))
        .route("/api/v1/status", get(status))
        .fallback(async || (StatusCode::NOT_FOUND, "there is nothing at this path\n"))
        .with_state(App {
            feed,
            details,
            stopping,
        })
}

/// Returns the page. Scripts and styles run only with the nonce of this answer, so a record cannot
/// add any.
async fn page() -> Response {
    let nonce = Base64::encode_string(&rand::random::<[u8; 18]>());
    let policy = format!(
        "default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; \
         connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; \
         frame-ancestors 'none'"
    );
    let headers = [
        (CONTENT_TYPE, "text/html; charset=utf-8".to_owned()),
        (CONTENT_SECURITY_POLICY, policy),
        (REFERRER_POLICY, "no-referrer".to_owned()),
        (X_CONTENT_TYPE_OPTIONS, "nosniff".to_owned()),
        (CACHE_CONTROL, "no-store".to_owned()),
    ];
    (headers, PAGE.replace(NONCE, &nonce)).into_response()
}

async fn metrics(State(app): State<App>) -> Response {
    match metrics::text(&app.feed) {
        Ok(text) => ([(CONTENT_TYPE, metrics::CONTENT_TYPE)], text).into_response(),
        Err(error) => {
            log::warn!("Failed to write the metrics: {error}");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

/// Whether the view is there and not too old: what a load balancer or Kubernetes wants to know.
async fn ready(State(app): State<App>) -> Response {
    let Some(status) = app.feed.status() else {
        return (StatusCode::SERVICE_UNAVAILABLE, "stopping\n").into_response();
    };
    if app.feed.is_ready(&status) {
        return "ready\n".into_response();
    }
    let reason = status.view_error.as_ref().map(crate::output::reason);
    let reason = reason.unwrap_or_else(|| "the cluster has not been listed yet".to_owned());
    (StatusCode::SERVICE_UNAVAILABLE, reason + "\n").into_response()
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WorkersQuery {
    state: Option<StateQuery>,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum StateQuery {
    All,
    Live,
    Lost,
}

async fn workers(
    State(app): State<App>,
    Query(query): Query<WorkersQuery>,
    headers: HeaderMap,
) -> Response {
    let filter = match query.state {
        None | Some(StateQuery::All) => MemberFilter::All,
        Some(StateQuery::Live) => MemberFilter::Live,
        Some(StateQuery::Lost) => MemberFilter::Lost,
    };
    let Some(shown) = app.feed.shown() else {
        return unavailable(&app.feed);
    };
    let etag = app.feed.etag(&shown, filter);
    let known = headers.get_all(IF_NONE_MATCH).iter();
    let known = known.filter_map(|value| value.to_str().ok());
    let is_known = known
        .flat_map(|value| value.split(','))
        .any(|tag| tag.trim() == "*" || tag.trim() == etag);
    let headers = [(ETAG, etag), (CACHE_CONTROL, "no-cache".to_owned())];
    if is_known {
        return (StatusCode::NOT_MODIFIED, headers).into_response();
    }
    let list = app.feed.list(&shown, filter);
    (headers, [(CONTENT_TYPE, JSON)], list).into_response()
}

/// Returns the keys and the lease of one worker, as etcd has them now.
async fn worker(State(app): State<App>, Path(id): Path<String>) -> Response {
    let identity = match WorkerIdentity::parse(&id) {
        Ok(identity) => identity,
        Err(error) => return refusal(StatusCode::BAD_REQUEST, &error.to_string()),
    };
    match app.details.of(identity).await {
        Ok(stored) if stored.ring.is_none() && stored.live.is_none() => refusal(
            StatusCode::NOT_FOUND,
            &format!("Unrecognized or non-existing worker: {identity}"),
        ),
        Ok(stored) => {
            let text = json!({
                "id": identity.to_string(),
                "revision": stored.revision,
                "ringKey": stored.ring.as_ref().map(key_json),
                "liveKey": stored.live.as_ref().map(key_json),
                "lease": stored.lease.map(lease_json),
            });
            let headers = [(CONTENT_TYPE, JSON), (CACHE_CONTROL, "no-store")];
            (headers, text.to_string()).into_response()
        }
        Err(NoDetails::NothingStored) => {
            refusal(StatusCode::NOT_FOUND, "a hosts file stores no keys")
        }
        Err(NoDetails::TooSlow) => {
            let reason = "etcd is slow, or many clients ask for details: try again later";
            refusal(StatusCode::SERVICE_UNAVAILABLE, reason)
        }
        Err(NoDetails::Failed(error)) => refusal(
            StatusCode::SERVICE_UNAVAILABLE,
            &crate::output::reason(&error),
        ),
    }
}

async fn status(State(app): State<App>) -> Response {
    let Some(status) = app.feed.status() else {
        return unavailable(&app.feed);
    };
    let text = app.feed.status_json(&status).to_string();
    ([(CONTENT_TYPE, JSON), (CACHE_CONTROL, "no-store")], text).into_response()
}

fn unavailable(feed: &Feed) -> Response {
    let reason = feed.status().and_then(|status| status.view_error);
    let reason = reason.as_ref().map(crate::output::reason);
    let reason = reason.unwrap_or_else(|| "the cluster has not been listed yet".to_owned());
    refusal(StatusCode::SERVICE_UNAVAILABLE, &reason)
}

fn refusal(status: StatusCode, reason: &str) -> Response {
    let text = json!({"error": reason}).to_string();
    (status, [(CONTENT_TYPE, JSON)], text).into_response()
}

/// The changes as server-sent events. Ends when the client is too far behind, or with the program.
async fn changes(State(app): State<App>, headers: HeaderMap) -> Response {
    let last_id = headers.get(HeaderName::from_static("last-event-id"));
    let last_id = last_id.and_then(|id| id.to_str().ok());
    let Subscription {
        first,
        updates,
        status,
    } = app.feed.subscribe(last_id);
    let stopped = app.stopping.cancelled_owned();
    let events = stream::unfold(
        (Some(first), updates, status),
        async |(first, mut updates, mut status)| {
            let frame = match first {
                Some(first) => first,
                None => tokio::select! {
                    biased;
                    update = updates.recv() => match update {
                        Ok(update) => update,
                        Err(RecvError::Lagged(_) | RecvError::Closed) => return None,
                    },
                    changed = status.changed() => match changed {
                        Ok(()) => status.borrow_and_update().clone(),
                        Err(_) => return None,
                    },
                },
            };
            Some((
                Ok::<_, std::convert::Infallible>(frame),
                (None, updates, status),
            ))
        },
    );
    let events = stream::StreamExt::take_until(events, stopped);
    let headers = [
        (CONTENT_TYPE, EVENTS),
        (CACHE_CONTROL, "no-store"),
        // Asks proxies to forward each event at once.
        (HeaderName::from_static("x-accel-buffering"), "no"),
    ];
    (headers, Body::from_stream(events)).into_response()
}
