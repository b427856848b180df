//! The endpoints of one etcd: chooses the endpoint for a request, and another one if it does not
//! answer.

use std::fmt;
use std::future::Future;
use std::sync::{Arc, Weak};
use std::time::Duration;

use backon::BackoffBuilder;
use etcd_client::{Client, Txn, TxnResponse};
use http::Uri;
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use super::answers;
pub(crate) use super::connection::Purpose;
use super::connection::{Connection, Shared, url_of};
use super::keys::keys_only;
use super::name::{LOOKUPS_AT_ONCE, Name};
use super::requests;
use super::status::{self, Failure};
use super::tls::Tls;
use crate::config::EtcdConfig;
use crate::error::{Cause, Error, ErrorKind, Result};
use crate::log;
use crate::text::Safe;

/// How long one endpoint may take to answer a small request before another endpoint is asked.
pub(crate) const TRY_TIMEOUT: Duration = Duration::from_secs(2);

/// An endpoint needs at least this time to answer.
const TIME_TO_ASK: Duration = Duration::from_millis(20);

/// The longest time for a probe of a quarantined endpoint that did not answer in less.
const LONGEST_PROBE: Duration = Duration::from_secs(30);

/// How long a quarantine that soon follows another one must last until it is logged.
const LASTING: Duration = Duration::from_secs(10);

/// The pause before the first probe of a quarantined endpoint: after its first failure, and the
/// maximum after several failures in a row.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_FIRST_PAUSE: Duration = Duration::from_secs(30);
/// How long an endpoint must serve until its next failure counts as a new one.
const STEADY: Duration = Duration::from_secs(60);

/// A call: its description and its time limits.
pub(crate) struct Call {
    /// The description in the words of Alluxio's etcd client, e.g. `Getting children for
    /// path:/DHT/c/AUTHORIZED/`.
    pub(crate) description: String,
    /// The time at which the call fails.
    pub(crate) deadline: Instant,
    /// The time limit of one endpoint.
    pub(crate) try_timeout: Duration,
    /// [`Purpose::Requests`], or [`Purpose::Listings`] for large answers.
    pub(crate) purpose: Purpose,
}

impl Call {
    pub(crate) fn new(description: impl Into<String>, deadline: Instant) -> Self {
        Call {
            description: description.into(),
            deadline,
            try_timeout: TRY_TIMEOUT,
            purpose: Purpose::Requests,
        }
    }
}

/// The reason for which one try failed.
pub(crate) struct TryError {
    pub(crate) failure: Failure,
    pub(crate) cause: Cause,
}

/// The endpoints of one etcd, with one endpoint in use for each purpose. Each address of a name is
/// an endpoint.
///
/// A failed endpoint is quarantined for the purpose at which it failed. A background task probes it
/// with a request of the same kind, so that no caller waits for it twice.
pub(crate) struct Endpoints {
    names: Vec<(Uri, Arc<Name>)>,
    shared: Shared,
    known: Mutex<Known>,
}

struct Known {
    /// The endpoints of each name.
    by_name: Vec<Vec<Arc<Endpoint>>>,
    /// All endpoints, in the same order.
    endpoints: Vec<Arc<Endpoint>>,
    /// The choice for each [`Purpose`].
    choices: [Option<Choice>; Purpose::ALL.len()],
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
    /// The health for each [`Purpose`].
    purposes: [PurposeHealth; Purpose::ALL.len()],
    answered: u64,
    failed: u64,
    last_error: Option<String>,
}

#[derive(Default)]
struct PurposeHealth {
    /// The quarantine; `None` while the endpoint is healthy.
    quarantine: Option<Quarantine>,
    /// When the endpoint last recovered.
    recovered_at: Option<Instant>,
    /// The number of quarantines in a row, with less than [`STEADY`] between them.
    in_a_row: u32,
}

struct Quarantine {
    failed_at: Instant,
    reason: String,
    began_at: Instant,
    /// Whether the beginning of the quarantine was logged. If so, its end is logged too.
    is_logged: bool,
    /// The earliest time at which an answer to an ordinary request ends the quarantine. An endpoint
    /// that fails repeatedly stays quarantined for longer each time.
    until: Instant,
}

/// The health of one endpoint of etcd, as this process has seen it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndpointHealth {
    /// `http://host:port`, or `https://host:port` with TLS.
    pub url: String,
    /// Whether the endpoint is not quarantined. An endpoint that was never asked is healthy.
    pub healthy: bool,
    /// The number of requests that it answered.
    pub answered: u64,
    /// The number of requests that failed: without an answer, or with an error as the answer.
    pub failed: u64,
    /// The reason for the quarantine, or the reason why the last failed request failed.
    pub last_error: Option<String>,
}

impl Endpoints {
    /// Makes no connection and looks up no name.
    ///
    /// # Errors
    ///
    /// Fails if a file for TLS is unusable.
    pub(crate) fn new(config: &EtcdConfig) -> Result<Self> {
        let shared = Shared {
            credentials: config.credentials.clone(),
            tls: config.tls.as_ref().map(Tls::new).transpose()?.map(Arc::new),
            cluster: Arc::default(),
        };
        let lookups = Arc::new(Semaphore::new(LOOKUPS_AT_ONCE));
        let name = |url: &String| {
            let origin: Uri = url.parse().map_err(|error| {
                let message = format!("The endpoint {url} is unusable: {error}");
                Error::new(ErrorKind::InvalidConfig, message)
            })?;
            let name = Arc::new(Name::new(&origin, lookups.clone()));
            Ok((origin, name))
        };
        let names: Vec<_> = config.endpoints.iter().map(name).collect::<Result<_>>()?;
        let endpoint = |(origin, name): &(Uri, Arc<Name>)| {
            let literal = name.usable_addresses().first().copied();
            Endpoint::new(Connection::new(
                origin.clone(),
                name.clone(),
                literal,
                &shared,
            ))
        };
        let endpoints: Vec<_> = names.iter().map(endpoint).collect();
        let known = Known {
            by_name: endpoints.iter().map(|it| vec![it.clone()]).collect(),
            endpoints,
            choices: Default::default(),
        };
        Ok(Endpoints {
            names,
            shared,
            known: Mutex::new(known),
        })
    }

    /// Returns the endpoints: one for each known address of a name, and one for a name without
    /// known addresses.
    fn known(&self) -> MutexGuard<'_, Known> {
        let mut known = self.known.lock();
        let mut changed = false;
        for ((origin, name), endpoints) in self.names.iter().zip(&mut known.by_name) {
            // The first connection determines an address that accepts connections.
            let is_settling = |it: &Arc<Endpoint>| {
                it.connection.address().is_none() && it.quarantined_at().is_none()
            };
            if name.is_literal() || endpoints.iter().any(is_settling) {
                continue;
            }
            if endpoints.iter().all(|it| it.quarantined_at().is_some()) {
                name.forget_kind();
            }
            let addresses = name.usable_addresses();
            let are_known = endpoints.iter().map(|it| it.connection.address());
            if addresses.is_empty() || are_known.eq(addresses.iter().copied().map(Some)) {
                continue;
            }
            changed = true;
            let mut old = std::mem::take(endpoints);
            for address in addresses {
                let at_it = |it: &Arc<Endpoint>| it.connection.address() == Some(address);
                let unsettled = |it: &Arc<Endpoint>| it.connection.address().is_none();
                let same = old.iter().position(at_it);
                let same = same.or_else(|| {
                    let first = old.iter().position(unsettled)?;
                    // The endpoint may determine another address at this moment.
                    (old[first].connection.settle(address) == address).then_some(first)
                });
                endpoints.push(match same {
                    Some(index) => old.swap_remove(index),
                    None => Endpoint::new(Connection::new(
                        origin.clone(),
                        name.clone(),
                        Some(address),
                        &self.shared,
                    )),
                });
            }
        }
        if changed {
            known.endpoints = known.by_name.iter().flatten().cloned().collect();
        }
        known
    }

    /// Looks up names again whose addresses are old, or that have an endpoint that failed since.
    fn refresh_names(&self, known: &Known) {
        for ((_, name), endpoints) in self.names.iter().zip(&known.by_name) {
            if !name.is_literal() {
                name.refresh(endpoints.iter().filter_map(|it| it.quarantined_at()).max());
            }
        }
    }

    /// Returns the endpoint in use for this purpose if it is healthy. If not, it returns the next
    /// healthy endpoint, or else the one whose last failure is the oldest.
    ///
    /// The first choice is random, so that clients with the same configuration spread over the
    /// members. All purposes start with the same endpoint. Requests follow the watches, because
    /// both share a connection.
    pub(crate) fn pick(&self, purpose: Purpose) -> Arc<Endpoint> {
        let mut known = self.known();
        self.refresh_names(&known);
        let Known {
            endpoints, choices, ..
        } = &mut *known;
        let position = |endpoint: &Arc<Endpoint>| position(endpoints, endpoint);
        let choice = |purpose: Purpose| choices[purpose as usize].as_ref();
        let mut start = choice(purpose)
            .or_else(|| Purpose::ALL.into_iter().find_map(choice))
            .map(|choice| position(&choice.endpoint))
            .unwrap_or_else(|| rand::random_range(0..endpoints.len()));
        if let (Purpose::Requests, Some(watches), Some(requests)) =
            (purpose, choice(Purpose::Watches), choice(purpose))
            && watches.endpoint.recovered_at(purpose) > Some(requests.since)
        {
            start = position(&watches.endpoint);
        }
        let count = endpoints.len();
        let order = (0..count).map(|offset| &endpoints[(start + offset) % count]);
        // The first of equal endpoints is chosen.
        let best = order
            .min_by_key(|endpoint| endpoint.rank(purpose))
            .unwrap_or(&endpoints[start])
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

    /// Chooses this endpoint, which has just answered, while it is healthy.
    pub(crate) fn prefer(&self, purpose: Purpose, endpoint: &Arc<Endpoint>) {
        self.known.lock().choices[purpose as usize] = Some(Choice::of(endpoint));
    }

    /// Chooses the next endpoint if this one is still the choice. This endpoint is not blamed,
    /// because it may have had too little time.
    fn move_on_from(&self, purpose: Purpose, endpoint: &Arc<Endpoint>) {
        let mut known = self.known();
        let Known {
            endpoints, choices, ..
        } = &mut *known;
        let choice = &mut choices[purpose as usize];
        let is_choice = |choice: &Choice| Arc::ptr_eq(&choice.endpoint, endpoint);
        if choice.as_ref().is_some_and(is_choice) {
            let next = (position(endpoints, endpoint) + 1) % endpoints.len();
            *choice = Some(Choice::of(&endpoints[next]));
        }
    }

    /// Finds the addresses of all names, so that [`all`](Self::all) has each of them. The caller
    /// limits the time.
    pub(crate) async fn look_up_names(&self) {
        let mut lookups = JoinSet::new();
        for endpoint in self.all() {
            lookups.spawn(async move { endpoint.connection.find_address().await });
        }
        lookups.join_all().await;
    }

    /// Runs one request on one endpoint after another, until one answers or the time of the call is
    /// over.
    ///
    /// `request` must be safe to repeat, because etcd may have carried out a try that timed out. It
    /// returns the expected answers of etcd as `Ok`.
    pub(crate) async fn call<T, F, Fut>(&self, call: &Call, request: F) -> Result<T>
    where
        F: Fn(Client) -> Fut,
        Fut: Future<Output = std::result::Result<T, etcd_client::Error>>,
    {
        let purpose = call.purpose;
        let mut backoff = retry_delays();
        let mut tries: u32 = 0;
        let mut last: Option<TryError> = None;
        let mut refused_tokens: Vec<Arc<Endpoint>> = Vec::new();
        loop {
            let endpoint = self.pick(purpose);
            // The limit grows with each round, for networks that are slow but work.
            let round = tries / u32::try_from(self.all().len()).unwrap_or(1).max(1);
            let left = call.deadline.saturating_duration_since(Instant::now());
            let others_may_serve = round == 0 && self.is_another_healthy(purpose, &endpoint);
            let limit = (call.try_timeout * 2u32.pow(round.min(4))).min(if others_may_serve {
                left / 2
            } else {
                left
            });
            tries += 1;
            let asked_at = Instant::now();
            let answer = endpoint.attempt(purpose, limit, &request).await;
            requests::log(&call.description, &endpoint, asked_at, &answer);
            let error = match answer {
                Ok(value) => return Ok(value),
                Err(error) => error,
            };
            // A last try without enough time for an answer has a less useful error than the try
            // before it.
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
                // The next try fetches a new token. A second refusal is final.
                Failure::Token
                    if endpoint.connection.has_credentials()
                        && !refused_tokens.iter().any(|it| Arc::ptr_eq(it, &endpoint)) =>
                {
                    refused_tokens.push(endpoint);
                    false
                }
                Failure::Endpoint => {
                    self.move_on_from(purpose, &endpoint);
                    self.all_failed(purpose)
                }
                // A busy member says nothing about other members.
                Failure::Busy => {
                    self.move_on_from(purpose, &endpoint);
                    true
                }
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

    /// Commits a transaction that is safe to repeat.
    pub(crate) async fn commit(&self, call: &Call, txn: Txn) -> Result<TxnResponse> {
        let commit = |mut client: Client| {
            let txn = txn.clone();
            async move { client.txn(txn).await.and_then(answers::complete) }
        };
        self.call(call, commit).await
    }

    /// Returns all known endpoints, in the order of the configuration.
    pub(crate) fn all(&self) -> Vec<Arc<Endpoint>> {
        self.known().endpoints.clone()
    }

    /// Returns why a wait for etcd failed, with the problems of the endpoints that do not answer.
    pub(crate) fn no_answer(&self) -> Cause {
        let mut text = format!("no answer in time from etcd at {self}");
        for endpoint in self.all() {
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
        let is_another = |it: &Arc<Endpoint>| !Arc::ptr_eq(it, than) && it.is_healthy(purpose);
        self.known().endpoints.iter().any(is_another)
    }

    fn all_failed(&self, purpose: Purpose) -> bool {
        !self
            .known()
            .endpoints
            .iter()
            .any(|it| it.is_healthy(purpose))
    }
}

fn position(endpoints: &[Arc<Endpoint>], endpoint: &Arc<Endpoint>) -> usize {
    let mut endpoints = endpoints.iter();
    // The address may no longer belong to the name.
    endpoints
        .position(|it| Arc::ptr_eq(it, endpoint))
        .unwrap_or(0)
}

impl fmt::Display for Endpoints {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (origin, _)) in self.names.iter().enumerate() {
            let comma = if index > 0 { "," } else { "" };
            write!(f, "{comma}{}", url_of(origin))?;
        }
        Ok(())
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

impl Endpoint {
    fn new(connection: Connection) -> Arc<Self> {
        Arc::new(Endpoint {
            connection,
            health: Mutex::default(),
        })
    }

    /// Returns when it last failed, if it is quarantined for any purpose.
    fn quarantined_at(&self) -> Option<Instant> {
        let health = self.health.lock();
        let quarantines = health
            .purposes
            .iter()
            .filter_map(|it| it.quarantine.as_ref());
        quarantines.map(|quarantine| quarantine.failed_at).max()
    }

    /// Returns the health of this endpoint.
    pub(crate) fn health(&self) -> EndpointHealth {
        let health = self.health.lock();
        let quarantined = health.quarantine_reason();
        EndpointHealth {
            url: self.connection.shown(),
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

    /// The sort key of an endpoint, of which the lowest is the best: healthy endpoints first, and
    /// among these the ones that are healthy for the other purposes. Then the endpoint whose last
    /// failure is the oldest.
    fn rank(&self, purpose: Purpose) -> (Option<Instant>, bool) {
        let health = self.health.lock();
        let quarantine = health.purposes[purpose as usize].quarantine.as_ref();
        let failed_at = quarantine.map(|quarantine| quarantine.failed_at);
        (failed_at, health.quarantine_reason().is_some())
    }

    /// Tries one request on this endpoint, with the client for this purpose. Records the health for
    /// that purpose.
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
        // Boxed, because requests are large and the stacks of threads may be small.
        let exchange = Box::pin(async {
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
        let (error, is_to_blame) = match timeout(limit, exchange).await {
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
                // This is too little time to blame the endpoint.
                let hurried = limit < TRY_TIMEOUT / 2;
                let reason = match limit.as_millis() {
                    // The caller used up the time before this try.
                    limit if limit < TIME_TO_ASK.as_millis() => {
                        "there was no time left to ask it".to_owned()
                    }
                    limit if hurried => {
                        format!("no answer within the remaining {limit} ms")
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

    /// Classifies the error of a request to this endpoint.
    pub(crate) fn try_error(&self, error: &etcd_client::Error) -> TryError {
        let failure = status::classify(error);
        let text = status::describe(error);
        let text = match self.connection.trouble() {
            Some(trouble) if failure == Failure::Endpoint && !status::is_answer(error) => {
                log::debug!("etcd endpoint {}: {text}", self.connection.shown());
                trouble
            }
            _ => text,
        };
        TryError {
            failure,
            cause: Cause {
                text: format!("etcd endpoint {}: {text}", self.connection.shown()),
                timed_out: false,
            },
        }
    }

    /// Returns the error for a missing answer.
    pub(crate) fn no_answer(&self, reason: String) -> TryError {
        let trouble = self.connection.trouble();
        let trouble = trouble.map_or_else(String::new, |trouble| format!("; {trouble}"));
        TryError {
            failure: Failure::Endpoint,
            cause: Cause {
                text: format!(
                    "etcd endpoint {}: {reason}{trouble}",
                    self.connection.shown()
                ),
                timed_out: true,
            },
        }
    }

    /// Quarantines the endpoint for this purpose, and probes it in the background until it answers
    /// again.
    pub(crate) fn quarantine(self: &Arc<Self>, purpose: Purpose, error: &TryError) {
        let now = Instant::now();
        let (first_pause, is_logged) = {
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
            // A further quarantine in a row is logged only if it lasts.
            let is_logged = health.in_a_row == 0;
            health.quarantine = Some(Quarantine {
                failed_at: now,
                reason,
                began_at: now,
                is_logged,
                until: now + pause,
            });
            (pause, is_logged)
        };
        if is_logged {
            log::warn!(
                "{}; it is quarantined for {purpose} until it answers again",
                error.cause.text
            );
        }
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
            let Some(ended) = health.quarantine.take_if(|it| it.until <= now) else {
                return;
            };
            health.recovered_at = Some(now);
            if !ended.is_logged {
                return;
            }
        }
        log::info!(
            "etcd endpoint {} answers again: it is used for {purpose}",
            self.connection.shown()
        );
    }

    /// Logs a lasting quarantine that was not logged at its beginning, because the endpoint fails
    /// repeatedly.
    fn log_if_it_lasts(&self, purpose: Purpose) {
        let (reason, in_a_row) = {
            let mut health = self.health.lock();
            let health = &mut health.purposes[purpose as usize];
            let Some(quarantine) = &mut health.quarantine else {
                return;
            };
            if quarantine.is_logged || quarantine.began_at.elapsed() < LASTING {
                return;
            }
            quarantine.is_logged = true;
            (quarantine.reason.clone(), health.in_a_row + 1)
        };
        log::warn!(
            "{reason}; it is quarantined for {purpose} for the {in_a_row}. time in a row, until it \
             answers again"
        );
    }

    /// Sends a request that shows whether the endpoint can serve this purpose. It needs no token,
    /// because a refusal is an answer too.
    async fn probe(&self, purpose: Purpose) -> std::result::Result<(), etcd_client::Error> {
        let mut client = self.connection.client(purpose).await?;
        match purpose {
            // A linearizable read, because a member that is cut off from the others must not count
            // as healthy.
            Purpose::Requests | Purpose::Listings => client.get("/", keys_only()).await.map(drop),
            // The answer is an open watch, or the refusal of the watch.
            Purpose::Watches => match client.watch("/", None).await?.message().await? {
                Some(_) => Ok(()),
                None => Err(status::wrong_answer("etcd closed the watch")),
            },
            // A lease with this id does not exist.
            Purpose::Renewals => match client.lease_keep_alive(i64::MAX).await {
                Err(error) if status::is_lease_not_found(&error) => Ok(()),
                answer => answer.map(drop),
            },
        }
    }
}

/// Returns the shortest quarantine of an endpoint that has failed this number of times in a row.
fn first_pause(in_a_row: u32) -> Duration {
    (FIRST_PAUSE * 4u32.saturating_pow(in_a_row.min(8)))
        .min(LONGEST_FIRST_PAUSE)
        .mul_f64(rand::random_range(0.5..=1.0))
}

/// Returns when the endpoint has answered or is no longer in use.
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
        endpoint.log_if_it_lasts(purpose);
        let healthy = match timeout(limit, endpoint.probe(purpose)).await {
            Ok(Ok(())) => true,
            Ok(Err(error)) => status::classify(&error) != Failure::Endpoint,
            Err(_) => {
                // The connection may be dead without an error, or the network may be slow.
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

/// Returns the pauses between rounds of tries, without end. They grow to at most 2 s, and each is a
/// random part of its limit.
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
    /// Returns the error of a call after its last try.
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
                "; grant the etcd user of alluxio.etcd.username read and write access to the \
                 prefixes /DHT/<alluxio.cluster.name>/ and \
                 /ServiceDiscovery/<alluxio.cluster.name>/"
            }
            Failure::TooLarge => {
                "; shorten the worker's texts, or raise etcd's --max-request-bytes (1.5 MiB by \
                 default)"
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

    fn failed() -> TryError {
        TryError {
            failure: Failure::Endpoint,
            cause: Cause {
                text: "a test".into(),
                timed_out: false,
            },
        }
    }

    #[tokio::test(start_paused = true)]
    async fn health_is_kept_per_purpose() {
        let endpoints = endpoints("http://127.0.0.1:1,http://127.0.0.1:2");
        let bad = endpoints.pick(Purpose::Renewals);
        bad.quarantine(Purpose::Renewals, &failed());
        let good = endpoints.pick(Purpose::Renewals);
        assert!(!Arc::ptr_eq(&good, &bad));
        // Answers to requests say nothing about renewals.
        endpoints.prefer(Purpose::Requests, &bad);
        tokio::time::advance(STEADY).await;
        bad.answered(Purpose::Requests, Instant::now());
        assert!(!bad.is_healthy(Purpose::Renewals) && bad.is_healthy(Purpose::Requests));
        assert!(Arc::ptr_eq(&endpoints.pick(Purpose::Renewals), &good));
        bad.answered(Purpose::Renewals, Instant::now());
        assert!(bad.is_healthy(Purpose::Renewals) && bad.health().healthy);
    }

    #[tokio::test(start_paused = true)]
    async fn an_ordinary_answer_ends_a_quarantine_in_the_log_too() {
        let endpoints = endpoints("http://127.0.0.1:1");
        log::captured::start();
        let endpoint = endpoints.pick(Purpose::Requests);
        endpoint.quarantine(Purpose::Requests, &failed());
        tokio::time::advance(FIRST_PAUSE).await;
        let call = Call::new("a test", Instant::now() + TRY_TIMEOUT);
        let answer = endpoints.call(&call, |_| async { Ok(()) }).await;
        assert!(answer.is_ok() && endpoint.is_healthy(Purpose::Requests));
        let lines = log::captured::end();
        let [began, ended] = lines.as_slice() else {
            panic!("{lines:?}");
        };
        assert!(began.ends_with("until it answers again"), "{began}");
        assert!(ended.contains("answers again: it is used for"), "{ended}");
    }

    #[tokio::test(start_paused = true)]
    async fn an_endpoint_that_fails_again_and_again_stays_quarantined_for_longer() {
        let endpoint = endpoints("http://127.0.0.1:1").pick(Purpose::Watches);
        let is_healthy = || endpoint.is_healthy(Purpose::Watches);
        let fail_and_recover = |after: Duration| {
            endpoint.quarantine(Purpose::Watches, &failed());
            endpoint.answered(Purpose::Watches, Instant::now() + after);
        };
        fail_and_recover(FIRST_PAUSE);
        assert!(is_healthy());
        for _ in 0..8 {
            fail_and_recover(LONGEST_FIRST_PAUSE);
        }
        fail_and_recover(LONGEST_FIRST_PAUSE / 3);
        assert!(!is_healthy());
        endpoint.answered(Purpose::Watches, Instant::now() + LONGEST_FIRST_PAUSE);
        tokio::time::advance(LONGEST_FIRST_PAUSE + STEADY * 2).await;
        fail_and_recover(FIRST_PAUSE);
        assert!(is_healthy());
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
