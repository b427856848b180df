//! The token of one endpoint: fetched once for all callers, and forgotten when etcd refuses it.

use std::sync::Arc;
use std::time::Duration;

use etcd_client::Client;
use http::HeaderValue;
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};

use super::status::{self, Failure};
use crate::config::Credentials;

/// How long etcd may take to authenticate. Each time costs it 70 ms of computing, one after another: when many processes
/// come at once, the last ones wait for long.
const LIMIT: Duration = Duration::from_secs(30);
/// How long a refusal of the credentials stands before etcd is asked again: at first, and after many refusals.
const REFUSED_FOR: [Duration; 2] = [Duration::from_secs(2), Duration::from_secs(30)];

pub(super) struct Login {
    credentials: Option<Credentials>,
    /// What requests carry.
    token: parking_lot::Mutex<Option<HeaderValue>>,
    /// The lock makes concurrent callers authenticate once.
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Tells one token from another; 0 if there is none.
    token: u64,
    refusal: Option<Refusal>,
}

/// etcd does not accept the credentials.
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
            state: Mutex::default(),
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
        self.token.lock().clone()
    }

    /// Sees to it that there is a token, if there are credentials; returns which one, to be handed to
    /// [`refused`](Self::refused) if etcd refuses it.
    ///
    /// The caller limits its time. What it began goes on without it, for the next one.
    pub(super) async fn ready(
        self: &Arc<Self>,
        client: &Client,
    ) -> Result<u64, etcd_client::Error> {
        if !self.has_credentials() {
            return Ok(0);
        }
        let token = self.state.lock().await.token;
        if token != 0 {
            return Ok(token);
        }
        let (login, client) = (self.clone(), client.clone());
        let task = tokio::spawn(async move { login.fetch(&client).await });
        let interrupted = |error: tokio::task::JoinError| {
            let text = format!("authenticating was interrupted: {error}");
            etcd_client::Error::GRpcStatus(tonic::Status::unavailable(text))
        };
        task.await.map_err(interrupted)?
    }

    /// Credentials that were refused are not shown to etcd again at once: every caller gets the same answer for a while.
    async fn fetch(&self, client: &Client) -> Result<u64, etcd_client::Error> {
        let mut state = self.state.lock().await;
        if state.token != 0 {
            return Ok(state.token);
        }
        let last_refusal = state.refusal.as_ref();
        if let Some(refusal) = last_refusal
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
        let [first, longest] = REFUSED_FOR;
        let stands_for = last_refusal
            .map_or(first, |refusal| (refusal.stands_for * 2).min(longest))
            .mul_f64(rand::random_range(0.8..=1.0));
        let answer = timeout(LIMIT, self.authenticate(client)).await;
        match answer.unwrap_or_else(|_| {
            let text = format!("etcd did not authenticate within {} s", LIMIT.as_secs());
            Err(etcd_client::Error::GRpcStatus(tonic::Status::unavailable(
                text,
            )))
        }) {
            Ok(()) => {
                state.token = rand::random_range(1..=u64::MAX);
                state.refusal = None;
                Ok(state.token)
            }
            Err(etcd_client::Error::GRpcStatus(status))
                if status::classify_status(&status) == Failure::Credentials =>
            {
                state.refusal = Some(Refusal {
                    status: status.clone(),
                    at: Instant::now(),
                    stands_for,
                });
                Err(etcd_client::Error::GRpcStatus(status))
            }
            Err(error) => Err(error),
        }
    }

    /// Not by the client's own means: it would keep a copy of the password.
    async fn authenticate(&self, client: &Client) -> Result<(), etcd_client::Error> {
        let Some(credentials) = &self.credentials else {
            return Ok(());
        };
        let (user, password) = (&credentials.username, credentials.password.expose());
        let answer = client
            .auth_client()
            .authenticate(user.clone(), password.to_owned())
            .await;
        let token = match answer {
            Ok(answer) => {
                let mut token = HeaderValue::from_str(answer.token()).map_err(|_| {
                    etcd_client::Error::InvalidArgs("etcd sent a token that cannot be used".into())
                })?;
                token.set_sensitive(true);
                Some(token)
            }
            // As etcd's own Go client: credentials do not hurt where etcd works without users.
            Err(error) if status::is_auth_not_enabled(&error) => None,
            Err(error) => return Err(error),
        };
        *self.token.lock() = token;
        Ok(())
    }

    /// Forgets the token, unless another caller already replaced it.
    pub(super) async fn refused(&self, token: u64) {
        let mut state = self.state.lock().await;
        if state.token == token {
            state.token = 0;
        }
    }

    /// Forgets the token, whichever it is.
    pub(super) async fn forget(&self) {
        self.state.lock().await.token = 0;
    }
}
