//! The connections to one etcd endpoint.

use std::sync::Arc;
use std::time::Duration;

use etcd_client::{Client, ConnectOptions};
use http::Uri;
use parking_lot::Mutex;
use tokio::sync::OnceCell;
use tonic::transport::{Channel, Endpoint as TonicEndpoint};
use tower::ServiceExt;

use super::login::Login;
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
/// One endpoint: three connections (requests, watches, lease renewals, so that none waits behind another) and one token.
pub(crate) struct Connection {
    url: String,
    login: Arc<Login>,
    transport: Transport,
    client: OnceCell<Client>,
    lanes: Arc<Lanes>,
}

/// The connections, lazily made, and made again when they break.
#[derive(Default)]
struct Lanes {
    requests: Mutex<Option<Channel>>,
    watches: Mutex<Option<Channel>>,
    renewals: Mutex<Option<Channel>>,
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
            login: Login::new(credentials),
            transport: Transport::new(tls),
            client: OnceCell::new(),
            lanes: Arc::default(),
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
        self.login.user()
    }

    /// Whether etcd gave a token for the credentials; it does not where it works without users.
    pub(crate) fn has_token(&self) -> bool {
        self.login.token().is_some()
    }

    /// The way to the endpoint, for a connection beside these that leaves no trace here.
    pub(super) fn transport_apart(&self) -> Transport {
        self.transport.apart()
    }

    /// A client that carries a token if there are credentials. The caller limits the time.
    pub(crate) async fn authenticated(&self) -> Result<Authenticated, etcd_client::Error> {
        let client = self.client().await?;
        let token = self.login.ready(&client).await?;
        Ok(Authenticated { client, token })
    }

    /// Forgets the token, unless another caller already replaced it.
    pub(crate) fn token_refused(&self, token: u64) {
        self.login.refused(token);
    }

    /// Forgets the token, whichever it is.
    pub(crate) fn forget_token(&self) {
        self.login.forget();
    }

    /// Whether there are credentials to authenticate with.
    pub(crate) fn has_credentials(&self) -> bool {
        self.login.has_credentials()
    }

    /// Lets the next renewal make a connection of its own: the present one may be dead without a word, which its pings
    /// notice too late for a short lease. What waits on the present one goes on waiting.
    pub(crate) fn renew_on_another_connection(&self) {
        self.lanes.renewals.lock().take();
    }

    /// Lets the next requests, watches and renewals make connections of their own.
    pub(crate) fn connect_anew(&self) {
        let Lanes {
            requests,
            watches,
            renewals,
        } = &*self.lanes;
        for lane in [requests, watches, renewals] {
            lane.lock().take();
        }
        self.login.connection_is_given_up();
    }

    /// A client that carries whatever token there is.
    pub(crate) async fn client(&self) -> Result<Client, etcd_client::Error> {
        self.client
            .get_or_try_init(|| async {
                let maker = LaneMaker::new(&self.url, &self.transport)?;
                let (login, lanes) = (self.login.clone(), self.lanes.clone());
                let lanes =
                    tower::service_fn(move |mut request: http::Request<tonic::body::Body>| {
                        let path = request.uri().path();
                        let lane = match path {
                            "/etcdserverpb.Watch/Watch" => &lanes.watches,
                            "/etcdserverpb.Lease/LeaseKeepAlive" => &lanes.renewals,
                            _ => &lanes.requests,
                        };
                        let lane = lane.lock().get_or_insert_with(|| maker.lane()).clone();
                        // Of all requests this one is to be answered without a leader: by saying that there is none.
                        let needs_leader = path != "/etcdserverpb.Maintenance/Status";
                        if path != "/etcdserverpb.Auth/Authenticate"
                            && let Some(token) = login.token()
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
}

/// Makes lazy connections to one endpoint.
#[derive(Clone)]
struct LaneMaker {
    endpoint: TonicEndpoint,
    transport: Transport,
}

impl LaneMaker {
    fn new(url: &str, transport: &Transport) -> Result<Self, etcd_client::Error> {
        let origin: Uri = url.parse()?;
        // TLS is not tonic's business here, which it would be with https.
        let url = url.replacen("https://", "http://", 1);
        let endpoint = TonicEndpoint::from_shared(url)?
            .origin(origin)
            .connect_timeout(CONNECT_TIMEOUT)
            .http2_keep_alive_interval(PING_INTERVAL)
            .keep_alive_timeout(PING_TIMEOUT);
        Ok(LaneMaker {
            endpoint,
            transport: transport.clone(),
        })
    }

    fn lane(&self) -> Channel {
        let transport = self.transport.clone();
        let connector = tower::service_fn(move |uri| transport.clone().connect(uri));
        self.endpoint.connect_with_connector_lazy(connector)
    }
}
