//! The token of one endpoint: fetched once for all callers, and forgotten when etcd refuses it.

use std::sync::Arc;
use std::time::Duration;

use etcd_client::Client;
use http::HeaderValue;
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use super::status::{self, Failure};
use crate::config::Credentials;

/// How long etcd may take to authenticate. Each time costs it 70 ms of computing, one after
/// another: when many processes come at once, the last ones wait for long.
const LIMIT: Duration = Duration::from_secs(30);
/// How long a refusal of the credentials, or of token after token, stands before etcd is asked
/// again: at first, and after many refusals.
const REFUSED_FOR: [Duration; 2] = [Duration::from_secs(2), Duration::from_secs(30)];

pub(super) struct Login {
    credentials: Option<Credentials>,
    /// A lock of its own: a caller that has a token does not wait for one that is being fetched.
    token: parking_lot::Mutex<Option<Token>>,
    /// Makes concurrent callers authenticate once.
    fetching: Arc<Mutex<()>>,
    refusal: parking_lot::Mutex<Option<Refusal>>,
}

struct Token {
    /// Identifies the token; never 0.
    id: u64,
    /// What requests carry: nothing where etcd works without users.
    header: Option<HeaderValue>,
    fetched_at: Instant,
    /// A request with it was served.
    has_worked: bool,
}

/// etcd does not accept the credentials, or not the tokens that it gives for them.
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

    /// Whether there are credentials to authenticate with.
    pub(super) fn has_credentials(&self) -> bool {
        self.credentials.is_some()
    }

    pub(super) fn user(&self) -> Option<&str> {
        let credentials = self.credentials.as_ref()?;
        Some(&credentials.username)
    }

    /// What requests carry.
    pub(super) fn token(&self) -> Option<HeaderValue> {
        self.token.lock().as_ref()?.header.clone()
    }

    fn token_id(&self) -> Option<u64> {
        self.token.lock().as_ref().map(|token| token.id)
    }

    /// Sees to it that there is a token, if there are credentials; returns which one, to be handed
    /// to [`refused`](Self::refused) if etcd refuses it.
    ///
    /// The caller limits its time. The task it started goes on without it, for the next caller,
    /// until the connection that the client uses is given up.
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
        // Fetched meanwhile.
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

    /// Credentials that were refused are not shown to etcd again at once: every caller gets the
    /// same answer for a while.
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
            () = given_up.cancelled() => "etcd did not authenticate before the connection was given up".into(),
        };
        let status = tonic::Status::unavailable(reason);
        Err(etcd_client::Error::GRpcStatus(status))
    }

    /// Not by the client's own means: it would keep a copy of the password.
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
                    etcd_client::Error::InvalidArgs("etcd sent a token that cannot be used".into())
                })?;
                token.set_sensitive(true);
                Ok(Some(token))
            }
            // As etcd's own Go client: credentials do not hurt where etcd works without users.
            Err(error) if status::is_auth_not_enabled(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// A request with this token was served: etcd accepts the credentials.
    pub(super) fn worked(&self, token: u64) {
        let mut known = self.token.lock();
        if let Some(known) = known.as_mut().filter(|known| known.id == token)
            && !std::mem::replace(&mut known.has_worked, true)
        {
            self.refusal.lock().take();
        }
    }

    /// Forgets the token, unless another caller already replaced it.
    ///
    /// The next token is fetched at once, also after one token that never worked: etcd's users may
    /// just have been changed. After more of those etcd is left in peace for a while, as after a
    /// refusal of the credentials.
    pub(super) fn refused(&self, token: u64, status: &tonic::Status) {
        let refused = self.token.lock().take_if(|known| known.id == token);
        if refused.is_some_and(|token| !token.has_worked) {
            self.remember_refusal(status, Duration::ZERO);
        }
    }

    /// Forgets the token, whichever it is, unless it is so new that it cannot have expired.
    pub(super) fn forget(&self) {
        let [first, _] = REFUSED_FOR;
        self.token
            .lock()
            .take_if(|token| token.fetched_at.elapsed() >= first);
    }

    /// Lets the refusal stand for longer than the one before it; the first one for this long.
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
