//! The connections to one etcd endpoint.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use etcd_client::{Client, ConnectOptions};
use http::Uri;
use parking_lot::Mutex;
use tokio::sync::OnceCell;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Channel, Endpoint as TonicEndpoint};
use tower::ServiceExt;

use super::login::Login;
use super::tls::{CertificateInfo, Tls, TlsSession};
use super::transport::Transport;
use crate::config::Credentials;

/// How long one attempt to connect may take, with the TLS handshake. Calls do not wait that long for it; a later one
/// finds it done.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// HTTP/2 pings notice a peer that is gone without a word. etcd closes connections that ping more often than every 5 s.
const PING_INTERVAL: Duration = Duration::from_secs(10);
/// The answer may have to wait behind a listing on a slow line.
const PING_TIMEOUT: Duration = Duration::from_secs(10);

/// What a connection is for. Health, quarantine and choice are kept per purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Reads, writes, and what else is answered once.
    Requests,
    /// Watches, which share the connection of the requests.
    Watches,
    /// Renewals of leases, on a connection of their own: they never wait behind anything else.
    Renewals,
}

impl Purpose {
    pub(crate) const ALL: [Purpose; 3] = [Purpose::Requests, Purpose::Watches, Purpose::Renewals];
}

impl fmt::Display for Purpose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Purpose::Requests => "requests",
            Purpose::Watches => "watches",
            Purpose::Renewals => "renewals",
        })
    }
}

/// One endpoint: a connection for requests and watches, one for lease renewals, and one token.
pub(crate) struct Connection {
    url: String,
    login: Arc<Login>,
    transport: Transport,
    /// Of requests and watches.
    shared: Arc<Lane>,
    renewals: Arc<Lane>,
    clients: OnceCell<Clients>,
}

/// The clients of one endpoint, each for one kind of call.
struct Clients {
    requests: Client,
    watches: Client,
    renewals: Client,
    /// Authenticates: carries no token.
    login: Client,
    /// Asks a member for its status, which it must tell without a leader too: by saying that there is none.
    status: Client,
}

/// A connection, lazily made, and made again when it breaks.
struct Lane {
    maker: LaneMaker,
    open: Mutex<Option<Open>>,
}

struct Open {
    channel: Channel,
    /// Cancelled when the connection is given up.
    given_up: CancellationToken,
}

/// The client to use for one call, and which token it carries.
pub(crate) struct Authenticated {
    pub(crate) client: Client,
    /// To be handed to [`Connection::token_refused`] if etcd refuses the token.
    pub(crate) token: u64,
}

impl Connection {
    /// # Errors
    ///
    /// The URL is not one.
    pub(crate) fn new(
        url: String,
        credentials: Option<Credentials>,
        tls: Option<Arc<Tls>>,
    ) -> Result<Self, etcd_client::Error> {
        let transport = Transport::new(tls);
        let maker = LaneMaker::new(&url, &transport)?;
        let lane = || {
            Arc::new(Lane {
                maker: maker.clone(),
                open: Mutex::default(),
            })
        };
        Ok(Connection {
            login: Login::new(credentials),
            shared: lane(),
            renewals: lane(),
            url,
            transport,
            clients: OnceCell::new(),
        })
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

    /// The authorities of the configured file that etcd's certificate may come from.
    pub(crate) fn authorities(&self) -> Vec<CertificateInfo> {
        self.transport.authorities()
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
    pub(crate) async fn authenticated(
        &self,
        purpose: Purpose,
    ) -> Result<Authenticated, etcd_client::Error> {
        let clients = self.clients().await?;
        let given_up = self.shared.given_up();
        let token = self.login.ready(&clients.login, given_up).await?;
        Ok(Authenticated {
            client: clients.of(purpose).clone(),
            token,
        })
    }

    /// A client that carries whatever token there is.
    pub(crate) async fn client(&self, purpose: Purpose) -> Result<Client, etcd_client::Error> {
        Ok(self.clients().await?.of(purpose).clone())
    }

    /// A client to ask a member for its status with.
    pub(crate) async fn status_client(&self) -> Result<Client, etcd_client::Error> {
        Ok(self.clients().await?.status.clone())
    }

    /// A request with this token was served.
    pub(crate) fn token_worked(&self, token: u64) {
        self.login.worked(token);
    }

    /// Forgets the token, unless another caller already replaced it.
    pub(crate) fn token_refused(&self, token: u64, status: &tonic::Status) {
        self.login.refused(token, status);
    }

    /// Forgets the token, whichever it is, unless it is too new to have expired.
    pub(crate) fn forget_token(&self) {
        self.login.forget();
    }

    /// Whether there are credentials to authenticate with.
    pub(crate) fn has_credentials(&self) -> bool {
        self.login.has_credentials()
    }

    /// Lets the next call for this purpose make a connection of its own: the present one may be dead without a word,
    /// which its pings notice too late. Calls that wait on the present one go on waiting.
    pub(crate) fn give_up(&self, purpose: Purpose) {
        match purpose {
            Purpose::Requests | Purpose::Watches => self.shared.give_up(),
            Purpose::Renewals => self.renewals.give_up(),
        }
    }

    async fn clients(&self) -> Result<&Clients, etcd_client::Error> {
        self.clients
            .get_or_try_init(|| async {
                let (shared, login) = (&self.shared, &self.login);
                let requests = shared.client(Some(login), true).await?;
                Ok(Clients {
                    watches: requests.clone(),
                    requests,
                    renewals: self.renewals.client(Some(login), true).await?,
                    login: shared.client(None, true).await?,
                    status: shared.client(Some(login), false).await?,
                })
            })
            .await
    }
}

impl Clients {
    fn of(&self, purpose: Purpose) -> &Client {
        match purpose {
            Purpose::Requests => &self.requests,
            Purpose::Watches => &self.watches,
            Purpose::Renewals => &self.renewals,
        }
    }
}

impl Lane {
    /// A client on this connection, and on those that replace it. Its requests carry the token of the login.
    async fn client(
        self: &Arc<Self>,
        login: Option<&Arc<Login>>,
        needs_leader: bool,
    ) -> Result<Client, etcd_client::Error> {
        let (lane, login) = (self.clone(), login.cloned());
        let send = tower::service_fn(move |mut request: http::Request<tonic::body::Body>| {
            if let Some(token) = login.as_ref().and_then(|login| login.token()) {
                request.headers_mut().insert("token", token);
            }
            lane.open(|open| open.channel.clone()).oneshot(request)
        });
        let send = tower::util::BoxCloneSyncService::new(send.map_err(Into::into));
        // A member without a leader must say so instead of being silent.
        let options = ConnectOptions::new().with_require_leader(needs_leader);
        Client::from_channel(etcd_client::Channel::Custom(send), Some(options)).await
    }

    fn open<T>(&self, with: impl FnOnce(&Open) -> T) -> T {
        with(self.open.lock().get_or_insert_with(|| Open {
            channel: self.maker.channel(),
            given_up: CancellationToken::new(),
        }))
    }

    fn given_up(&self) -> CancellationToken {
        self.open(|open| open.given_up.clone())
    }

    fn give_up(&self) {
        if let Some(open) = self.open.lock().take() {
            open.given_up.cancel();
        }
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

    fn channel(&self) -> Channel {
        let transport = self.transport.clone();
        let connector = tower::service_fn(move |uri| transport.clone().connect(uri));
        self.endpoint.connect_with_connector_lazy(connector)
    }
}
