//! The connections to one etcd endpoint.

use std::sync::Arc;
use std::time::Duration;

use etcd_client::{Client, ConnectOptions};
use http::{HeaderValue, Uri};
use tokio::sync::{Mutex, OnceCell};
use tokio::time::Instant;
use tonic::transport::{Channel, Endpoint as TonicEndpoint};
use tower::ServiceExt;

use super::status::{self, Failure};
use super::tls::{Tls, TlsSession};
use super::transport::Transport;
use crate::config::Credentials;

/// How long one attempt to connect may take, with the TLS handshake. Calls do not wait that long for it; a later one
/// finds it done.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// HTTP/2 pings notice a peer that is gone without a word. etcd closes connections that ping more often than every 5 s.
const PING_INTERVAL: Duration = Duration::from_secs(10);
/// The answer may have to wait behind a listing on a slow line.
const PING_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a refusal of the credentials stands before etcd is asked again: at first, and after many refusals. Each
/// costs etcd 70 ms of computing.
const REFUSED_FOR: [Duration; 2] = [Duration::from_secs(2), Duration::from_secs(30)];

/// One endpoint: three connections (requests, watches, lease renewals, so that none waits behind another) and one token.
pub(crate) struct Connection {
    url: String,
    credentials: Option<Credentials>,
    transport: Transport,
    client: OnceCell<Client>,
    /// What requests carry.
    token: Arc<parking_lot::Mutex<Option<HeaderValue>>>,
    /// The lock makes concurrent callers authenticate once.
    authentication: Mutex<Authentication>,
}

#[derive(Default)]
struct Authentication {
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

/// The client to use for one call, and which token it carries.
pub(crate) struct Authenticated {
    pub(crate) client: Client,
    /// To be handed to [`Connection::token_refused`] if etcd refuses the token.
    pub(crate) token: u64,
}

impl Connection {
    pub(crate) fn new(
        url: String,
        credentials: Option<Credentials>,
        tls: Option<Arc<Tls>>,
    ) -> Self {
        Connection {
            url,
            credentials,
            transport: Transport::new(tls),
            client: OnceCell::new(),
            token: Arc::default(),
            authentication: Mutex::default(),
        }
    }

    /// `http://host:port`, or `https://host:port` with TLS.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// What is wrong with the way to the endpoint, if more is known than an error says.
    pub(crate) fn trouble(&self) -> Option<String> {
        self.transport.trouble()
    }

    /// What was agreed on with the endpoint when it was last connected to; `None` without TLS.
    pub(crate) fn tls_session(&self) -> Option<TlsSession> {
        self.transport.session()
    }

    /// The configured user.
    pub(crate) fn user(&self) -> Option<&str> {
        let credentials = self.credentials.as_ref()?;
        Some(&credentials.username)
    }

    /// Whether etcd gave a token for the credentials; it does not where it works without users.
    pub(crate) fn has_token(&self) -> bool {
        self.token.lock().is_some()
    }

    /// The way to the endpoint, for a connection beside these that leaves no trace here.
    pub(super) fn transport_apart(&self) -> Transport {
        self.transport.apart()
    }

    /// A client that carries a token if there are credentials. The caller limits the time.
    ///
    /// Credentials that were refused are not shown to etcd again at once: every caller gets the same answer for a
    /// while.
    pub(crate) async fn authenticated(&self) -> Result<Authenticated, etcd_client::Error> {
        let client = self.client().await?;
        let Some(credentials) = &self.credentials else {
            return Ok(Authenticated { client, token: 0 });
        };
        let mut authentication = self.authentication.lock().await;
        if authentication.token == 0 {
            let last_refusal = authentication.refusal.as_ref();
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
            match self.authenticate(&client, credentials).await {
                Ok(()) => {
                    authentication.token = rand::random_range(1..=u64::MAX);
                    authentication.refusal = None;
                }
                Err(etcd_client::Error::GRpcStatus(status))
                    if status::classify_status(&status) == Failure::Credentials =>
                {
                    authentication.refusal = Some(Refusal {
                        status: status.clone(),
                        at: Instant::now(),
                        stands_for,
                    });
                    return Err(etcd_client::Error::GRpcStatus(status));
                }
                Err(error) => return Err(error),
            }
        }
        Ok(Authenticated {
            client,
            token: authentication.token,
        })
    }

    /// Not by the client's own means: it would keep a copy of the password.
    async fn authenticate(
        &self,
        client: &Client,
        credentials: &Credentials,
    ) -> Result<(), etcd_client::Error> {
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
    pub(crate) async fn token_refused(&self, token: u64) {
        let mut authentication = self.authentication.lock().await;
        if authentication.token == token {
            authentication.token = 0;
        }
    }

    /// Forgets the token, whichever it is.
    pub(crate) async fn forget_token(&self) {
        self.authentication.lock().await.token = 0;
    }

    /// Whether there are credentials to authenticate with.
    pub(crate) fn has_credentials(&self) -> bool {
        self.credentials.is_some()
    }

    /// A client that carries whatever token there is.
    pub(crate) async fn client(&self) -> Result<Client, etcd_client::Error> {
        self.client
            .get_or_try_init(|| async {
                let requests = self.lane()?;
                let watches = self.lane()?;
                let renewals = self.lane()?;
                let token = self.token.clone();
                let lanes =
                    tower::service_fn(move |mut request: http::Request<tonic::body::Body>| {
                        let path = request.uri().path();
                        let lane = match path {
                            "/etcdserverpb.Watch/Watch" => watches.clone(),
                            "/etcdserverpb.Lease/LeaseKeepAlive" => renewals.clone(),
                            _ => requests.clone(),
                        };
                        // Of all requests this one is to be answered without a leader: by saying that there is none.
                        let needs_leader = path != "/etcdserverpb.Maintenance/Status";
                        if path != "/etcdserverpb.Auth/Authenticate"
                            && let Some(token) = token.lock().clone()
                        {
                            request.headers_mut().insert("token", token);
                        }
                        if !needs_leader {
                            request.headers_mut().remove("hasleader");
                        }
                        lane.oneshot(request)
                    });
                let lanes = tower::util::BoxCloneSyncService::new(lanes.map_err(Into::into));
                // A member without a leader must say so instead of being silent.
                let options = ConnectOptions::new().with_require_leader(true);
                Client::from_channel(etcd_client::Channel::Custom(lanes), Some(options)).await
            })
            .await
            .cloned()
    }

    /// One lazy connection; it is made at the first request, and again after it broke.
    fn lane(&self) -> Result<Channel, etcd_client::Error> {
        let origin: Uri = self.url.parse()?;
        // TLS is not tonic's business here, which it would be with https.
        let url = self.url.replacen("https://", "http://", 1);
        let endpoint = TonicEndpoint::from_shared(url)?
            .origin(origin)
            .connect_timeout(CONNECT_TIMEOUT)
            .http2_keep_alive_interval(PING_INTERVAL)
            .keep_alive_timeout(PING_TIMEOUT);
        let transport = self.transport.clone();
        let connector = tower::service_fn(move |uri| transport.clone().connect(uri));
        Ok(endpoint.connect_with_connector_lazy(connector))
    }
}
