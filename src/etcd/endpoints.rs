//! The endpoints of one etcd: which one to ask, and what to do when it does not answer.

use std::fmt;
use std::future::Future;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use backon::BackoffBuilder;
use etcd_client::{Client, GetOptions};
use parking_lot::Mutex;
use tokio::time::{Instant, timeout};

use super::connection::Connection;
use super::status::{self, Failure};
use super::tls::Tls;
use crate::config::EtcdConfig;
use crate::error::{Cause, Error, ErrorKind, Result};

/// How long one endpoint may take to answer a small request before another one is asked.
pub(crate) const TRY_TIMEOUT: Duration = Duration::from_secs(2);

/// How long an endpoint that was set aside may take to answer, after it did not in less.
const LONGEST_PROBE: Duration = Duration::from_secs(30);

/// What a call does, and how long it may take.
pub(crate) struct Call {
    /// In the words of Alluxio's etcd client, e.g. `Getting children for path:/DHT/c/AUTHORIZED/`.
    pub(crate) description: String,
    /// When the call fails for good.
    pub(crate) deadline: Instant,
    /// How long one endpoint may take.
    pub(crate) try_timeout: Duration,
}

impl Call {
    pub(crate) fn new(description: impl Into<String>, deadline: Instant) -> Self {
        Call {
            description: description.into(),
            deadline,
            try_timeout: TRY_TIMEOUT,
        }
    }
}

/// Why one try failed.
pub(crate) struct TryError {
    pub(crate) failure: Failure,
    pub(crate) cause: Cause,
}

/// The endpoints of one etcd, with one sticky choice among the healthy ones.
///
/// An endpoint that failed is set aside and asked again in the background, so that no caller waits for it twice.
pub(crate) struct Endpoints {
    endpoints: Vec<Arc<Endpoint>>,
    preferred: AtomicUsize,
}

/// One endpoint and its health.
pub(crate) struct Endpoint {
    pub(crate) connection: Connection,
    health: Mutex<Health>,
}

#[derive(Default)]
struct Health {
    /// When it last failed; `None` while it is healthy.
    failed_at: Option<Instant>,
    answered: u64,
    failed: u64,
    last_error: Option<String>,
}

/// How one endpoint of etcd has served this process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndpointHealth {
    /// `http://host:port`, or `https://host:port` with TLS.
    pub url: String,
    /// Not set aside. An endpoint that was never asked counts as healthy.
    pub healthy: bool,
    /// Requests it answered.
    pub answered: u64,
    /// Requests that failed: no answer, or an answer that is an error.
    pub failed: u64,
    /// Why the last of these failed. While it is set aside, that a caller's time was over does not replace the reason.
    pub last_error: Option<String>,
}

impl Endpoints {
    /// Connects to none of them yet. Starts with a random one, so that many clients with the same configuration spread
    /// over the members.
    ///
    /// # Errors
    ///
    /// Those of the files that TLS needs.
    pub(crate) fn new(config: &EtcdConfig) -> Result<Self> {
        let tls = config.tls.as_ref().map(Tls::new).transpose()?.map(Arc::new);
        let endpoints = config
            .endpoints
            .iter()
            .map(|url| {
                Arc::new(Endpoint {
                    connection: Connection::new(
                        url.clone(),
                        config.credentials.clone(),
                        tls.clone(),
                    ),
                    health: Mutex::default(),
                })
            })
            .collect::<Vec<_>>();
        Ok(Endpoints {
            preferred: AtomicUsize::new(rand::random_range(0..endpoints.len().max(1))),
            endpoints,
        })
    }

    /// The preferred endpoint while it is healthy, else the next healthy one, else the one that failed longest ago.
    pub(crate) fn pick(&self) -> Arc<Endpoint> {
        let count = self.endpoints.len();
        let start = self.preferred.load(Ordering::Relaxed);
        let order = (0..count).map(|offset| (start + offset) % count);
        // `None`, healthy, is less than any time of failure; the first of equals wins.
        let best = order
            .min_by_key(|index| self.endpoints[*index].health.lock().failed_at)
            .unwrap_or(0);
        self.preferred.store(best, Ordering::Relaxed);
        self.endpoints[best].clone()
    }

    /// Makes this endpoint, which has just answered, the choice while it is healthy.
    pub(crate) fn prefer(&self, index: usize) {
        self.preferred.store(index, Ordering::Relaxed);
    }

    /// Makes the next one the choice, if it is still this one: it may have had too little time to be blamed.
    fn move_on_from(&self, endpoint: &Arc<Endpoint>) {
        let preferred = self.preferred.load(Ordering::Relaxed);
        if Arc::ptr_eq(&self.endpoints[preferred], endpoint) {
            self.prefer((preferred + 1) % self.endpoints.len());
        }
    }

    /// Runs one request, on one endpoint after another until one answers or the call's time is over.
    ///
    /// `request` must be safe to repeat: a try that timed out may still have been carried out. It turns the answers of
    /// etcd that it expects into `Ok`.
    pub(crate) async fn call<T, F, Fut>(&self, call: &Call, request: F) -> Result<T>
    where
        F: Fn(Client) -> Fut,
        Fut: Future<Output = std::result::Result<T, etcd_client::Error>>,
    {
        let mut backoff = retry_delays();
        let mut tries: u32 = 0;
        let mut refused_tokens: Vec<Arc<Endpoint>> = Vec::new();
        loop {
            let endpoint = self.pick();
            // Longer with each round, for networks that are slow but work.
            let round = tries / u32::try_from(self.endpoints.len()).unwrap_or(1).max(1);
            let left = call.deadline.saturating_duration_since(Instant::now());
            let others_may_serve = round == 0 && self.is_another_healthy(&endpoint);
            let limit = (call.try_timeout * 2u32.pow(round.min(4))).min(if others_may_serve {
                left / 2
            } else {
                left
            });
            tries += 1;
            let error = match endpoint.attempt(limit, &request).await {
                Ok(value) => return Ok(value),
                Err(error) => error,
            };
            log::debug!(
                "{} (attempt {tries}): {}",
                call.description,
                error.cause.text
            );
            let pause = match error.failure {
                // A new token is fetched by the next try; a second refusal is an answer.
                Failure::Token
                    if endpoint.connection.has_credentials()
                        && !refused_tokens.iter().any(|it| Arc::ptr_eq(it, &endpoint)) =>
                {
                    refused_tokens.push(endpoint);
                    false
                }
                Failure::Endpoint => {
                    self.move_on_from(&endpoint);
                    self.all_failed()
                }
                Failure::Busy => true,
                Failure::Token
                | Failure::Credentials
                | Failure::Permission
                | Failure::NoSpace
                | Failure::TooLarge
                | Failure::Request => return Err(call.failed(tries, error)),
            };
            let delay = if pause {
                backoff.next().unwrap_or_default()
            } else {
                Duration::ZERO
            };
            if Instant::now() + delay >= call.deadline {
                return Err(call.failed(tries, error));
            }
            tokio::time::sleep(delay).await;
        }
    }

    /// All endpoints, in the order of the configuration.
    pub(crate) fn all(&self) -> &[Arc<Endpoint>] {
        &self.endpoints
    }

    /// Why a wait for etcd was in vain, with what is known of the endpoints that do not answer.
    pub(crate) fn no_answer(&self) -> Cause {
        let mut text = format!("no answer in time from etcd at {self}");
        for endpoint in &self.endpoints {
            let health = endpoint.health.lock();
            if let (Some(_), Some(error)) = (health.failed_at, &health.last_error) {
                text = text + "; " + error;
            }
        }
        Cause {
            text,
            timed_out: true,
        }
    }

    fn is_another_healthy(&self, than: &Arc<Endpoint>) -> bool {
        self.endpoints.iter().any(|endpoint| {
            !Arc::ptr_eq(endpoint, than) && endpoint.health.lock().failed_at.is_none()
        })
    }

    fn all_failed(&self) -> bool {
        self.endpoints
            .iter()
            .all(|endpoint| endpoint.health.lock().failed_at.is_some())
    }
}

impl fmt::Display for Endpoints {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let urls: Vec<&str> = self
            .endpoints
            .iter()
            .map(|endpoint| endpoint.connection.url())
            .collect();
        f.write_str(&urls.join(","))
    }
}

impl Endpoint {
    /// How it has served so far.
    pub(crate) fn health(&self) -> EndpointHealth {
        let health = self.health.lock();
        EndpointHealth {
            url: self.connection.url().to_owned(),
            healthy: health.failed_at.is_none(),
            answered: health.answered,
            failed: health.failed,
            last_error: health.last_error.clone(),
        }
    }

    /// One try on this endpoint. Records its health.
    pub(crate) async fn attempt<T, F, Fut>(
        self: &Arc<Self>,
        limit: Duration,
        request: F,
    ) -> std::result::Result<T, TryError>
    where
        F: FnOnce(Client) -> Fut,
        Fut: Future<Output = std::result::Result<T, etcd_client::Error>>,
    {
        let outcome = timeout(limit, async {
            let authenticated = self.connection.authenticated().await?;
            let result = request(authenticated.client).await;
            if let Err(error) = &result
                && status::classify(error) == Failure::Token
            {
                self.connection.token_refused(authenticated.token);
            }
            result
        })
        .await;
        let (error, is_to_blame) = match outcome {
            Ok(Ok(value)) => {
                let mut health = self.health.lock();
                health.failed_at = None;
                health.answered += 1;
                return Ok(value);
            }
            Ok(Err(error)) => {
                let error = self.try_error(&error);
                let is_to_blame = error.failure == Failure::Endpoint;
                (error, is_to_blame)
            }
            Err(_) => {
                // Too little time to blame the endpoint for.
                let hurried = limit < TRY_TIMEOUT / 2;
                let limit = limit.as_millis();
                let reason = if hurried {
                    format!("no answer within the {limit} ms that were left for it")
                } else {
                    format!("no answer within {limit} ms")
                };
                (self.no_answer(reason), !hurried)
            }
        };
        if is_to_blame {
            self.set_aside(&error);
        }
        let mut health = self.health.lock();
        health.failed += 1;
        // Why an endpoint was set aside says more than that a hurried try got no answer either.
        if !is_to_blame && (!error.cause.timed_out || health.failed_at.is_none()) {
            health.last_error = Some(error.cause.text.clone());
        }
        Err(error)
    }

    /// What an error of a request to this endpoint means.
    pub(crate) fn try_error(&self, error: &etcd_client::Error) -> TryError {
        let failure = status::classify(error);
        let text = status::describe(error);
        let text = match self.connection.trouble() {
            Some(trouble) if failure == Failure::Endpoint && !status::is_answer(error) => {
                log::debug!("etcd endpoint {}: {text}", self.connection.url());
                trouble
            }
            _ => text,
        };
        TryError {
            failure,
            cause: Cause {
                text: format!("etcd endpoint {}: {text}", self.connection.url()),
                timed_out: false,
            },
        }
    }

    /// No answer came in time.
    pub(crate) fn no_answer(&self, reason: String) -> TryError {
        let trouble = self.connection.trouble();
        let trouble = trouble.map_or_else(String::new, |trouble| format!("; {trouble}"));
        TryError {
            failure: Failure::Endpoint,
            cause: Cause {
                text: format!("etcd endpoint {}: {reason}{trouble}", self.connection.url()),
                timed_out: true,
            },
        }
    }

    /// Marks the endpoint as failed, for this reason, and asks it in the background until it answers again.
    pub(crate) fn set_aside(self: &Arc<Self>, error: &TryError) {
        let was_healthy = {
            let mut health = self.health.lock();
            health.last_error = Some(error.cause.text.clone());
            health.failed_at.replace(Instant::now()).is_none()
        };
        if was_healthy {
            log::warn!("{}; it is set aside until it answers", error.cause.text);
            tokio::spawn(probe_until_healthy(Arc::downgrade(self)));
        }
    }
}

/// Ends when the endpoint answered or is no longer used.
async fn probe_until_healthy(endpoint: Weak<Endpoint>) {
    let mut limit = TRY_TIMEOUT;
    for delay in retry_delays() {
        tokio::time::sleep(delay).await;
        let Some(endpoint) = endpoint.upgrade() else {
            return;
        };
        if endpoint.health.lock().failed_at.is_none() {
            return;
        }
        // A linearizable read: a member that is cut off from the others must not count as healthy. No token is
        // needed, since a refusal is an answer too.
        let answered = timeout(limit, async {
            let mut client = endpoint.connection.client().await?;
            client
                .get("/", Some(GetOptions::new().with_keys_only()))
                .await
        })
        .await;
        let healthy = match answered {
            Ok(Ok(_)) => true,
            Ok(Err(error)) => status::classify(&error) != Failure::Endpoint,
            Err(_) => {
                // The connection may be dead without a word, or the network slow.
                endpoint.connection.connect_anew();
                limit = (limit * 2).min(LONGEST_PROBE);
                false
            }
        };
        if healthy {
            endpoint.health.lock().failed_at = None;
            log::info!("etcd endpoint {} answers again", endpoint.connection.url());
            return;
        }
    }
}

/// Pauses between rounds of tries: short at first, at most 2 s, each a random part of its limit, without end.
pub(crate) fn retry_delays() -> impl Iterator<Item = Duration> {
    const FIRST: Duration = Duration::from_millis(50);
    const LONGEST: Duration = Duration::from_secs(2);
    backon::ExponentialBuilder::new()
        .with_min_delay(FIRST)
        .with_max_delay(LONGEST)
        .without_max_times()
        .build()
        .map(|limit| limit.mul_f64(rand::random_range(0.5..=1.0)))
}

impl Call {
    /// The error of a call after its last try.
    pub(crate) fn failed(&self, tries: u32, error: TryError) -> Error {
        let kind = match error.failure {
            Failure::Endpoint | Failure::Busy | Failure::NoSpace | Failure::Request => {
                ErrorKind::Unavailable
            }
            Failure::Token | Failure::Credentials => ErrorKind::Unauthenticated,
            Failure::Permission => ErrorKind::PermissionDenied,
            Failure::TooLarge => ErrorKind::InvalidArgument,
        };
        let advice = match error.failure {
            Failure::Token | Failure::Credentials => {
                "; check alluxio.etcd.username and alluxio.etcd.password"
            }
            Failure::Permission => {
                "; grant the etcd user of alluxio.etcd.username read and write access to the prefixes \
                 /DHT/<alluxio.cluster.name>/ and /ServiceDiscovery/<alluxio.cluster.name>/"
            }
            Failure::TooLarge => {
                "; shorten the worker's texts, or raise etcd's --max-request-bytes (1.5 MiB by default)"
            }
            Failure::NoSpace => "; free space in etcd (compact, defragment), then disarm its alarm",
            Failure::Endpoint | Failure::Busy | Failure::Request => "",
        };
        Error::with_cause(
            kind,
            format!(
                "Exhausted retry for ({}), retries:{tries}, last exception:",
                self.description
            ),
            Cause {
                text: error.cause.text + advice,
                timed_out: error.cause.timed_out,
            },
        )
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::future::pending;

    use tokio::net::TcpListener;

    use super::*;
    use crate::config::{Backend, Config, Properties};

    fn endpoints(urls: &str) -> Endpoints {
        let mut properties = Properties::new();
        properties.set("alluxio.worker.membership.manager.type", "ETCD");
        properties.set("alluxio.etcd.endpoints", urls);
        let config = Config::from_properties(&properties).unwrap();
        let Backend::Etcd(config) = &config.backend else {
            panic!("{config:?}");
        };
        Endpoints::new(config).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_endpoint_leaves_time_for_another_one() {
        for time in [500, 2_000, 10_000] {
            let endpoints = endpoints("http://127.0.0.1:1,http://127.0.0.1:2");
            let silent = endpoints.pick();
            let call = Call::new("a test", Instant::now() + Duration::from_millis(time));
            let tries = Cell::new(0);
            let answer = endpoints.call(&call, |_| {
                tries.set(tries.get() + 1);
                let is_silent = tries.get() == 1;
                async move {
                    if is_silent {
                        pending::<()>().await;
                    }
                    Ok(())
                }
            });
            assert!(answer.await.is_ok(), "{time} ms");
            assert!(!Arc::ptr_eq(&endpoints.pick(), &silent), "{time} ms");
        }
    }

    #[tokio::test]
    async fn trouble_with_a_connection_replaces_no_answer_of_etcd() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        // Closes all connections.
        tokio::spawn(async move { while listener.accept().await.is_ok() {} });
        let endpoint = endpoints(&url).pick();
        let mut client = endpoint.connection.client().await.unwrap();
        assert!(client.status().await.is_err());

        let text = |message| {
            let status = tonic::Status::unavailable(message);
            let error = endpoint.try_error(&etcd_client::Error::GRpcStatus(status));
            error.cause.text
        };
        assert!(text("broken pipe").contains("closed the connection"));
        assert!(text("etcdserver: no leader").contains("etcdserver: no leader"));
    }
}
