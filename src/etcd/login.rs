//! The token of one endpoint. It is fetched once for all callers, and dropped when etcd refuses it.

use std::sync::Arc;
use std::time::Duration;

use etcd_client::Client;
use http::HeaderValue;
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use super::status::{self, Failure};
use crate::config::Credentials;

/// The time limit of an authentication. Each one takes etcd 70 ms of computing, and they run one
/// after another, so the last of many processes wait long.
const LIMIT: Duration = Duration::from_secs(30);
/// How long a refusal of the credentials, or of several tokens, counts before the library asks etcd
/// again: after the first refusal, and the maximum.
const REFUSED_FOR: [Duration; 2] = [Duration::from_secs(2), Duration::from_secs(30)];

pub(super) struct Login {
    credentials: Option<Credentials>,
    /// A separate lock, so that a caller with a token does not wait for the fetch of another one.
    token: parking_lot::Mutex<Option<Token>>,
    /// Makes concurrent callers authenticate once.
    fetching: Arc<Mutex<()>>,
    refusal: parking_lot::Mutex<Option<Refusal>>,
}

struct Token {
    /// Identifies the token; never 0.
    id: u64,
    /// The header that requests carry; `None` if etcd works without users.
    header: Option<HeaderValue>,
    fetched_at: Instant,
    /// Whether etcd has served a request with this token.
    has_worked: bool,
}

/// etcd refused the credentials, or refused the tokens that it gave for them.
struct Refusal {
    status: tonic::Status,
    at: Instant,
    stands_for: Duration,
}

impl Login {
    pub(super) fn new(credentials: Option<Credentials>) -> Arc<Self> {
        Arc::new(Login {
            credentials,
            token: parking_lot::Mutex::default(),
            fetching: Arc::default(),
            refusal: parking_lot::Mutex::default(),
        })
    }

    /// Whether credentials are configured.
    pub(super) fn has_credentials(&self) -> bool {
        self.credentials.is_some()
    }

    pub(super) fn user(&self) -> Option<&str> {
        let credentials = self.credentials.as_ref()?;
        Some(&credentials.username)
    }

    /// Returns the header that requests carry.
    pub(super) fn token(&self) -> Option<HeaderValue> {
        self.token.lock().as_ref()?.header.clone()
    }

    fn token_id(&self) -> Option<u64> {
        self.token.lock().as_ref().map(|token| token.id)
    }

    /// Fetches a token if credentials are configured and there is no token. Returns the id of the
    /// token, for [`refused`](Self::refused).
    ///
    /// The caller limits its own time. The task that it started continues for the next caller,
    /// until the connection of the client is given up.
    pub(super) async fn ready(
        self: &Arc<Self>,
        client: &Client,
        given_up: impl FnOnce() -> CancellationToken,
    ) -> Result<u64, etcd_client::Error> {
        if !self.has_credentials() {
            return Ok(0);
        }
        if let Some(token) = self.token_id() {
            return Ok(token);
        }
        let fetching = self.fetching.clone().lock_owned().await;
        // Another caller has fetched it meanwhile.
        if let Some(token) = self.token_id() {
            return Ok(token);
        }
        let (login, client, given_up) = (self.clone(), client.clone(), given_up());
        let task = tokio::spawn(async move {
            let _fetching = fetching;
            login.fetch(&client, &given_up).await
        });
        let interrupted = |error: tokio::task::JoinError| {
            let text = format!("authenticating was interrupted: {error}");
            etcd_client::Error::GRpcStatus(tonic::Status::unavailable(text))
        };
        task.await.map_err(interrupted)?
    }

    /// Refused credentials are not sent again at once. For a while every caller gets the same
    /// error.
    async fn fetch(
        &self,
        client: &Client,
        given_up: &CancellationToken,
    ) -> Result<u64, etcd_client::Error> {
        if let Some(refusal) = &*self.refusal.lock()
            && let Some(left) = refusal.stands_for.checked_sub(refusal.at.elapsed())
        {
            let text = format!(
                "{}, asked {:.0} s ago, and again in {:.0} s",
                refusal.status.message(),
                refusal.at.elapsed().as_secs_f64(),
                left.as_secs_f64().ceil()
            );
            let status = tonic::Status::new(refusal.status.code(), text);
            return Err(etcd_client::Error::GRpcStatus(status));
        }
        match self.authenticate_in_time(client, given_up).await {
            Ok(header) => {
                let id = rand::random_range(1..=u64::MAX);
                *self.token.lock() = Some(Token {
                    id,
                    header,
                    fetched_at: Instant::now(),
                    has_worked: false,
                });
                Ok(id)
            }
            Err(etcd_client::Error::GRpcStatus(status))
                if status::classify_status(&status) == Failure::Credentials =>
            {
                self.remember_refusal(&status, REFUSED_FOR[0]);
                Err(etcd_client::Error::GRpcStatus(status))
            }
            Err(error) => Err(error),
        }
    }

    async fn authenticate_in_time(
        &self,
        client: &Client,
        given_up: &CancellationToken,
    ) -> Result<Option<HeaderValue>, etcd_client::Error> {
        let reason = tokio::select! {
            answer = timeout(LIMIT, self.authenticate(client)) => match answer {
                Ok(answer) => return answer,
                Err(_) => format!("etcd did not authenticate within {} s", LIMIT.as_secs()),
            },
            () = given_up.cancelled() => "etcd did not authenticate before the connection was \
                                          given up".into(),
        };
        let status = tonic::Status::unavailable(reason);
        Err(etcd_client::Error::GRpcStatus(status))
    }

    /// The client's own authentication would keep a copy of the password.
    async fn authenticate(
        &self,
        client: &Client,
    ) -> Result<Option<HeaderValue>, etcd_client::Error> {
        let Some(credentials) = &self.credentials else {
            return Ok(None);
        };
        let (user, password) = (&credentials.username, credentials.password.expose());
        let answer = client
            .auth_client()
            .authenticate(user.clone(), password.to_owned())
            .await;
        match answer {
            Ok(answer) => {
                let mut token = HeaderValue::from_str(answer.token()).map_err(|_| {
                    etcd_client::Error::InvalidArgs("etcd sent an unusable token".into())
                })?;
                token.set_sensitive(true);
                Ok(Some(token))
            }
            // Like etcd's own Go client, this accepts credentials for an etcd without users.
            Err(error) if status::is_auth_not_enabled(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Records that etcd served a request with this token, and so accepts the credentials.
    pub(super) fn worked(&self, token: u64) {
        let mut known = self.token.lock();
        if let Some(known) = known.as_mut().filter(|known| known.id == token)
            && !std::mem::replace(&mut known.has_worked, true)
        {
            self.refusal.lock().take();
        }
    }

    /// Drops the token, unless another caller has already replaced it.
    ///
    /// The next token is fetched at once, even after one token that never worked, because etcd's
    /// users may just have changed. After several tokens that never worked, the library pauses as
    /// after a refusal of the credentials.
    pub(super) fn refused(&self, token: u64, status: &tonic::Status) {
        let refused = self.token.lock().take_if(|known| known.id == token);
        if refused.is_some_and(|token| !token.has_worked) {
            self.remember_refusal(status, Duration::ZERO);
        }
    }

    /// Drops the present token, unless it is too new to have expired.
    pub(super) fn forget(&self) {
        let [first, _] = REFUSED_FOR;
        self.token
            .lock()
            .take_if(|token| token.fetched_at.elapsed() >= first);
    }

    /// Makes the refusal count for longer than the one before it. `first` is the time of the first
    /// refusal.
    fn remember_refusal(&self, status: &tonic::Status, first: Duration) {
        let [shortest, longest] = REFUSED_FOR;
        let mut refusal = self.refusal.lock();
        let stands_for = refusal.as_ref().map_or(first, |before| {
            (before.stands_for * 2)
                .clamp(shortest, longest)
                .mul_f64(rand::random_range(0.8..=1.0))
        });
        *refusal = Some(Refusal {
            status: status.clone(),
            at: Instant::now(),
            stands_for,
        });
    }
}
