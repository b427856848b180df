//! The endpoints of one etcd: which one to ask, and what to do when it does not answer.

use std::fmt;
use std::future::Future;
use std::sync::{Arc, Weak};
use std::time::Duration;

use backon::BackoffBuilder;
use etcd_client::{Client, GetOptions};
use parking_lot::Mutex;
use tokio::time::{Instant, timeout};

use super::connection::Connection;
pub(crate) use super::connection::Purpose;
use super::status::{self, Failure};
use super::tls::Tls;
use crate::config::EtcdConfig;
use crate::error::{Cause, Error, ErrorKind, Result};
use crate::log;
use crate::text::Safe;

/// How long one endpoint may take to answer a small request before another one is asked.
pub(crate) const TRY_TIMEOUT: Duration = Duration::from_secs(2);

/// In less time nobody can be asked.
const TIME_TO_ASK: Duration = Duration::from_millis(20);

/// How long a quarantined endpoint may take to answer, after it did not in less.
const LONGEST_PROBE: Duration = Duration::from_secs(30);

/// When a quarantined endpoint is probed first: after its first failure, and at most after several in a row.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_FIRST_PAUSE: Duration = Duration::from_secs(30);
/// How long an endpoint has to serve for its next failure to be a new one.
const STEADY: Duration = Duration::from_secs(60);

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

/// The endpoints of one etcd, with a sticky choice among the healthy ones for each purpose.
///
/// An endpoint that failed is quarantined for what it failed at, and probed in the background by a request of the same
/// kind, so that no caller waits for it twice.
pub(crate) struct Endpoints {
    endpoints: Vec<Arc<Endpoint>>,
    /// Of each [`Purpose`].
    choices: Mutex<[Option<Choice>; 3]>,
}

/// The endpoint in use for one purpose.
struct Choice {
    endpoint: Arc<Endpoint>,
    since: Instant,
}

/// One endpoint and its health.
pub(crate) struct Endpoint {
    pub(crate) connection: Connection,
    health: Mutex<Health>,
}

#[derive(Default)]
struct Health {
    /// Of each [`Purpose`].
    purposes: [PurposeHealth; 3],
    answered: u64,
    failed: u64,
    last_error: Option<String>,
}

#[derive(Default)]
struct PurposeHealth {
    /// `None` while it is healthy.
    quarantine: Option<Quarantine>,
    /// When it answered again for the last time.
    recovered_at: Option<Instant>,
    /// Quarantines without [`STEADY`] good time between them.
    in_a_row: u32,
}

struct Quarantine {
    failed_at: Instant,
    reason: String,
    /// When an ordinary answer ends the quarantine: one that fails again and again stays for longer each time.
    until: Instant,
}

/// How one endpoint of etcd has served this process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndpointHealth {
    /// `http://host:port`, or `https://host:port` with TLS.
    pub url: String,
    /// The endpoint is not quarantined. One that was never asked counts as healthy.
    pub healthy: bool,
    /// Requests it answered.
    pub answered: u64,
    /// Requests that failed: no answer, or an answer that is an error.
    pub failed: u64,
    /// Why the endpoint is quarantined, else why its last failed request failed.
    pub last_error: Option<String>,
}

impl Endpoints {
    /// Connects to none of them yet.
    ///
    /// # Errors
    ///
    /// Those of the files that TLS needs.
    pub(crate) fn new(config: &EtcdConfig) -> Result<Self> {
        let tls = config.tls.as_ref().map(Tls::new).transpose()?.map(Arc::new);
        let endpoint = |url: &String| {
            let (credentials, tls) = (config.credentials.clone(), tls.clone());
            let connection = Connection::new(url.clone(), credentials, tls);
            let connection = connection.map_err(|error| {
                let message = format!("The endpoint {url} cannot be used: {error}");
                Error::new(ErrorKind::InvalidConfig, message)
            })?;
            Ok(Arc::new(Endpoint {
                connection,
                health: Mutex::default(),
            }))
        };
        Ok(Endpoints {
            endpoints: config
                .endpoints
                .iter()
                .map(endpoint)
                .collect::<Result<_>>()?,
            choices: Mutex::default(),
        })
    }

    /// The endpoint in use for this purpose while it is healthy, else the next healthy one, else the one that failed
    /// longest ago.
    ///
    /// Starts with a random one, so that many clients with the same configuration spread over the members. The three
    /// purposes start together. Requests follow the watches, with which they share a connection.
    pub(crate) fn pick(&self, purpose: Purpose) -> Arc<Endpoint> {
        let mut choices = self.choices.lock();
        let choice = |purpose: Purpose| choices[purpose as usize].as_ref();
        let mut start = choice(purpose)
            .or_else(|| Purpose::ALL.into_iter().find_map(choice))
            .map(|choice| self.position(&choice.endpoint))
            .unwrap_or_else(|| rand::random_range(0..self.endpoints.len()));
        if let (Purpose::Requests, Some(watches), Some(requests)) =
            (purpose, choice(Purpose::Watches), choice(purpose))
            && watches.endpoint.recovered_at(purpose) > Some(requests.since)
        {
            start = self.position(&watches.endpoint);
        }
        let count = self.endpoints.len();
        let order = (0..count).map(|offset| &self.endpoints[(start + offset) % count]);
        // The first of equals wins.
        let best = order
            .min_by_key(|endpoint| endpoint.rank(purpose))
            .unwrap_or(&self.endpoints[start])
            .clone();
        let is_new = choice(purpose).is_none_or(|choice| !Arc::ptr_eq(&choice.endpoint, &best));
        if is_new {
            choices[purpose as usize] = Some(Choice::of(&best));
            if purpose == Purpose::Watches && best.is_healthy(Purpose::Requests) {
                choices[Purpose::Requests as usize] = Some(Choice::of(&best));
            }
        }
        best
    }

    /// Makes this endpoint, which has just answered, the choice while it is healthy.
    pub(crate) fn prefer(&self, purpose: Purpose, endpoint: &Arc<Endpoint>) {
        self.choices.lock()[purpose as usize] = Some(Choice::of(endpoint));
    }

    /// Makes the next one the choice, if it is still this one: it may have had too little time to be blamed.
    fn move_on_from(&self, purpose: Purpose, endpoint: &Arc<Endpoint>) {
        let choice = &mut self.choices.lock()[purpose as usize];
        if choice
            .as_ref()
            .is_some_and(|choice| Arc::ptr_eq(&choice.endpoint, endpoint))
        {
            let next = (self.position(endpoint) + 1) % self.endpoints.len();
            *choice = Some(Choice::of(&self.endpoints[next]));
        }
    }

    fn position(&self, endpoint: &Arc<Endpoint>) -> usize {
        let mut endpoints = self.endpoints.iter();
        endpoints
            .position(|it| Arc::ptr_eq(it, endpoint))
            .unwrap_or(0)
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
        const PURPOSE: Purpose = Purpose::Requests;
        let mut backoff = retry_delays();
        let mut tries: u32 = 0;
        let mut last: Option<TryError> = None;
        let mut refused_tokens: Vec<Arc<Endpoint>> = Vec::new();
        loop {
            let endpoint = self.pick(PURPOSE);
            // Longer with each round, for networks that are slow but work.
            let round = tries / u32::try_from(self.endpoints.len()).unwrap_or(1).max(1);
            let left = call.deadline.saturating_duration_since(Instant::now());
            let others_may_serve = round == 0 && self.is_another_healthy(PURPOSE, &endpoint);
            let limit = (call.try_timeout * 2u32.pow(round.min(4))).min(if others_may_serve {
                left / 2
            } else {
                left
            });
            tries += 1;
            let error = match endpoint.attempt(PURPOSE, limit, &request).await {
                Ok(value) => return Ok(value),
                Err(error) => error,
            };
            // A last try without the time for an answer says less than the one before it.
            let error = match last.take() {
                Some(last) if error.cause.timed_out && limit < TIME_TO_ASK => last,
                _ => error,
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
                    self.move_on_from(PURPOSE, &endpoint);
                    self.all_failed(PURPOSE)
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
            last = Some(error);
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
            if let Some(reason) = endpoint.health.lock().quarantine_reason() {
                text = text + "; " + reason;
            }
        }
        Cause {
            text,
            timed_out: true,
        }
    }

    fn is_another_healthy(&self, purpose: Purpose, than: &Arc<Endpoint>) -> bool {
        let mut endpoints = self.endpoints.iter();
        endpoints.any(|endpoint| !Arc::ptr_eq(endpoint, than) && endpoint.is_healthy(purpose))
    }

    fn all_failed(&self, purpose: Purpose) -> bool {
        let mut endpoints = self.endpoints.iter();
        !endpoints.any(|endpoint| endpoint.is_healthy(purpose))
    }
}

impl Choice {
    fn of(endpoint: &Arc<Endpoint>) -> Self {
        Choice {
            endpoint: endpoint.clone(),
            since: Instant::now(),
        }
    }
}

impl Health {
    fn quarantine_reason(&self) -> Option<&str> {
        let quarantines = self.purposes.iter().filter_map(|it| it.quarantine.as_ref());
        let latest = quarantines.max_by_key(|quarantine| quarantine.failed_at)?;
        Some(&latest.reason)
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
        let quarantined = health.quarantine_reason();
        EndpointHealth {
            url: self.connection.url().to_owned(),
            healthy: quarantined.is_none(),
            answered: health.answered,
            failed: health.failed,
            last_error: quarantined
                .or(health.last_error.as_deref())
                .map(|error| Safe(error).to_string()),
        }
    }

    fn is_healthy(&self, purpose: Purpose) -> bool {
        self.health.lock().purposes[purpose as usize]
            .quarantine
            .is_none()
    }

    fn recovered_at(&self, purpose: Purpose) -> Option<Instant> {
        let health = self.health.lock();
        let health = &health.purposes[purpose as usize];
        health.recovered_at.filter(|_| health.quarantine.is_none())
    }

    /// The least is the best to use: healthy ones, those that are healthy for the other purposes first, then the one
    /// that failed longest ago.
    fn rank(&self, purpose: Purpose) -> (Option<Instant>, bool) {
        let health = self.health.lock();
        let quarantine = health.purposes[purpose as usize].quarantine.as_ref();
        let failed_at = quarantine.map(|quarantine| quarantine.failed_at);
        (failed_at, health.quarantine_reason().is_some())
    }

    /// One try on this endpoint, by the client for this purpose. Records the health for that purpose.
    pub(crate) async fn attempt<T, F, Fut>(
        self: &Arc<Self>,
        purpose: Purpose,
        limit: Duration,
        request: F,
    ) -> std::result::Result<T, TryError>
    where
        F: FnOnce(Client) -> Fut,
        Fut: Future<Output = std::result::Result<T, etcd_client::Error>>,
    {
        // Boxed: it is large, and so would be whatever awaits a call.
        let asked = Box::pin(async {
            let authenticated = self.connection.authenticated(purpose).await?;
            let result = request(authenticated.client).await;
            match &result {
                Ok(_) => self.connection.token_worked(authenticated.token),
                Err(etcd_client::Error::GRpcStatus(status))
                    if status::classify_status(status) == Failure::Token =>
                {
                    self.connection.token_refused(authenticated.token, status);
                }
                Err(_) => {}
            }
            result
        });
        let outcome = timeout(limit, asked).await;
        let (error, is_to_blame) = match outcome {
            Ok(Ok(value)) => {
                self.health.lock().answered += 1;
                self.answered(purpose, Instant::now());
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
                let reason = match limit.as_millis() {
                    // The time went into what the caller did before.
                    limit if limit < TIME_TO_ASK.as_millis() => {
                        "no time was left to ask it".to_owned()
                    }
                    limit if hurried => {
                        format!("no answer within the {limit} ms that were left for it")
                    }
                    limit => format!("no answer within {limit} ms"),
                };
                (self.no_answer(reason), !hurried)
            }
        };
        if is_to_blame {
            self.quarantine(purpose, &error);
        }
        let mut health = self.health.lock();
        health.failed += 1;
        health.last_error = Some(error.cause.text.clone());
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

    /// Quarantines the endpoint for this purpose and this reason, and probes it in the background until it answers again.
    pub(crate) fn quarantine(self: &Arc<Self>, purpose: Purpose, error: &TryError) {
        let now = Instant::now();
        let first_pause = {
            let mut health = self.health.lock();
            let health = &mut health.purposes[purpose as usize];
            let reason = error.cause.text.clone();
            if let Some(quarantine) = &mut health.quarantine {
                quarantine.failed_at = now;
                quarantine.reason = reason;
                return;
            }
            let was_steady = |at: Instant| now.duration_since(at) > STEADY;
            health.in_a_row = match health.recovered_at.is_none_or(was_steady) {
                true => 0,
                false => health.in_a_row.saturating_add(1),
            };
            let pause = first_pause(health.in_a_row);
            health.quarantine = Some(Quarantine {
                failed_at: now,
                reason,
                until: now + pause,
            });
            pause
        };
        log::warn!(
            "{}; it is quarantined for {purpose} until it answers again",
            error.cause.text
        );
        tokio::spawn(probe_until_healthy(
            Arc::downgrade(self),
            purpose,
            first_pause,
        ));
    }

    /// Ends the quarantine for this purpose, if it has lasted long enough.
    fn answered(&self, purpose: Purpose, now: Instant) {
        {
            let mut health = self.health.lock();
            let health = &mut health.purposes[purpose as usize];
            if health.quarantine.take_if(|it| it.until <= now).is_none() {
                return;
            }
            health.recovered_at = Some(now);
        }
        log::info!(
            "etcd endpoint {} answers again: it is used for {purpose}",
            self.connection.url()
        );
    }

    /// Asks what shows whether the endpoint can serve this purpose. No token is needed, since a refusal is an answer too.
    async fn probe(&self, purpose: Purpose) -> std::result::Result<(), etcd_client::Error> {
        let mut client = self.connection.client(purpose).await?;
        match purpose {
            // A linearizable read: a member that is cut off from the others must not count as healthy.
            Purpose::Requests => {
                let keys_only = GetOptions::new().with_keys_only();
                client.get("/", Some(keys_only)).await.map(drop)
            }
            // Answered when the watch is open, or by a refusal to open it.
            Purpose::Watches => match client.watch("/", None).await?.message().await? {
                Some(_) => Ok(()),
                None => Err(status::wrong_answer("etcd closed the watch")),
            },
            // No lease has this id.
            Purpose::Renewals => match client.lease_keep_alive(i64::MAX).await {
                Err(error) if status::is_lease_not_found(&error) => Ok(()),
                answer => answer.map(drop),
            },
        }
    }
}

/// How long an endpoint stays quarantined at least that has failed this many times in a row.
fn first_pause(in_a_row: u32) -> Duration {
    (FIRST_PAUSE * 4u32.saturating_pow(in_a_row.min(8)))
        .min(LONGEST_FIRST_PAUSE)
        .mul_f64(rand::random_range(0.5..=1.0))
}

/// Ends when the endpoint answered or is no longer used.
async fn probe_until_healthy(endpoint: Weak<Endpoint>, purpose: Purpose, first_pause: Duration) {
    let mut limit = TRY_TIMEOUT;
    for pause in std::iter::once(first_pause).chain(retry_delays()) {
        tokio::time::sleep(pause).await;
        let Some(endpoint) = endpoint.upgrade() else {
            return;
        };
        if endpoint.is_healthy(purpose) {
            return;
        }
        let healthy = match timeout(limit, endpoint.probe(purpose)).await {
            Ok(Ok(())) => true,
            Ok(Err(error)) => status::classify(&error) != Failure::Endpoint,
            Err(_) => {
                // The connection may be dead without a word, or the network slow.
                endpoint.connection.give_up(purpose);
                limit = (limit * 2).min(LONGEST_PROBE);
                false
            }
        };
        if healthy {
            endpoint.answered(purpose, Instant::now());
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
            let silent = endpoints.pick(Purpose::Requests);
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
            assert!(
                !Arc::ptr_eq(&endpoints.pick(Purpose::Requests), &silent),
                "{time} ms"
            );
        }
    }

    #[tokio::test]
    async fn trouble_with_a_connection_replaces_no_answer_of_etcd() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        // Closes all connections.
        tokio::spawn(async move { while listener.accept().await.is_ok() {} });
        let endpoint = endpoints(&url).pick(Purpose::Requests);
        let mut client = endpoint.connection.client(Purpose::Requests).await.unwrap();
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
