//! The connections to one etcd endpoint.

use std::time::Duration;

use etcd_client::{Client, ConnectOptions};
use hyper_util::client::legacy::connect::HttpConnector;
use tokio::sync::{Mutex, OnceCell};
use tonic::transport::{Channel, Endpoint as TonicEndpoint};
use tower::ServiceExt;

use super::status;
use crate::config::Credentials;

/// How long one attempt to connect may take. Calls do not wait that long for it; a later one finds it done.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// HTTP/2 pings notice a peer that is gone without a word. etcd closes connections that ping more often than every 5 s.
const PING_INTERVAL: Duration = Duration::from_secs(10);
const PING_TIMEOUT: Duration = Duration::from_secs(3);
const TCP_KEEPALIVE: Duration = Duration::from_secs(30);

/// One endpoint: three connections (requests, watches, lease renewals, so that none waits behind another) and one token.
pub(crate) struct Connection {
    url: String,
    credentials: Option<Credentials>,
    client: OnceCell<Client>,
    /// Counts successful authentications; 0 means there is no token. The lock makes concurrent callers authenticate once.
    authenticated: Mutex<u64>,
}

/// The client to use for one call, and which token it carries.
pub(crate) struct Authenticated {
    pub(crate) client: Client,
    /// To be handed to [`Connection::token_refused`] if etcd refuses the token.
    pub(crate) token: u64,
}

impl Connection {
    pub(crate) fn new(url: String, credentials: Option<Credentials>) -> Self {
        Connection {
            url,
            credentials,
            client: OnceCell::new(),
            authenticated: Mutex::new(0),
        }
    }

    /// `http://host:port`.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// A client that carries a token if there are credentials. The caller limits the time.
    pub(crate) async fn authenticated(&self) -> Result<Authenticated, etcd_client::Error> {
        let mut client = self.client().await?;
        let Some(credentials) = &self.credentials else {
            return Ok(Authenticated { client, token: 0 });
        };
        let mut authenticated = self.authenticated.lock().await;
        if *authenticated == 0 {
            let user = (credentials.username.clone(), credentials.password.clone());
            match client.update_user(Some(user)).await {
                Ok(()) => {}
                // As etcd's own Go client: credentials do not hurt where etcd works without users.
                Err(error) if status::is_auth_not_enabled(&error) => {}
                Err(error) => return Err(error),
            }
            *authenticated = rand::random_range(1..=u64::MAX);
        }
        Ok(Authenticated {
            client,
            token: *authenticated,
        })
    }

    /// Forgets the token, unless another caller already replaced it.
    pub(crate) async fn token_refused(&self, token: u64) {
        let mut authenticated = self.authenticated.lock().await;
        if *authenticated == token {
            *authenticated = 0;
        }
    }

    /// Forgets the token, whichever it is.
    pub(crate) async fn forget_token(&self) {
        *self.authenticated.lock().await = 0;
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
                let lanes = tower::service_fn(move |request: http::Request<tonic::body::Body>| {
                    match request.uri().path() {
                        "/etcdserverpb.Watch/Watch" => watches.clone(),
                        "/etcdserverpb.Lease/LeaseKeepAlive" => renewals.clone(),
                        _ => requests.clone(),
                    }
                    .oneshot(request)
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
        let mut connector = HttpConnector::new();
        connector.enforce_http(false);
        connector.set_nodelay(true);
        connector.set_keepalive(Some(TCP_KEEPALIVE));
        let endpoint = TonicEndpoint::from_shared(self.url.clone())?
            .connect_timeout(CONNECT_TIMEOUT)
            .http2_keep_alive_interval(PING_INTERVAL)
            .keep_alive_timeout(PING_TIMEOUT);
        Ok(endpoint.connect_with_connector_lazy(connector))
    }
}
