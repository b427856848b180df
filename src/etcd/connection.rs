//! The connections to one etcd endpoint.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use etcd_client::Client;
use http::Uri;
use tokio::sync::OnceCell;

use super::cluster_id::ClusterId;
use super::lane::{Lane, Way};
use super::login::Login;
use super::name::Name;
use super::tls::{CertificateInfo, Tls, TlsSession};
use super::transport::Transport;
use crate::config::Credentials;

/// What a connection is for. Health, quarantine and choice are kept per purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Reads, writes, and what else is answered once.
    Requests,
    /// Watches, which share the connection of the requests.
    Watches,
    /// Pages of large listings, on a connection that is open only while they last: watches do not
    /// wait behind them.
    Listings,
    /// Renewals of leases, on a connection of their own: they never wait behind anything else.
    Renewals,
}

impl Purpose {
    pub(crate) const ALL: [Purpose; 4] = [
        Purpose::Requests,
        Purpose::Watches,
        Purpose::Listings,
        Purpose::Renewals,
    ];
}

impl fmt::Display for Purpose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Purpose::Requests => "requests",
            Purpose::Watches => "watches",
            Purpose::Listings => "listings",
            Purpose::Renewals => "renewals",
        })
    }
}

/// One endpoint: a connection for requests and watches, one for lease renewals, and one token.
pub(crate) struct Connection {
    url: String,
    name: Arc<Name>,
    login: Arc<Login>,
    transport: Transport,
    /// Of requests and watches.
    shared: Arc<Lane>,
    listings: Arc<Lane>,
    renewals: Arc<Lane>,
    clients: OnceCell<Clients>,
}

/// What the endpoints of one etcd have in common.
pub(super) struct Shared {
    pub(super) credentials: Option<Credentials>,
    pub(super) tls: Option<Arc<Tls>>,
    pub(super) cluster: Arc<ClusterId>,
}

/// `http://host:port`, or `https://host:port` with TLS.
pub(super) fn url_of(origin: &Uri) -> String {
    let scheme = origin.scheme_str().unwrap_or_default();
    let authority = origin
        .authority()
        .map_or("", |authority| authority.as_str());
    format!("{scheme}://{authority}")
}

/// The clients of one endpoint, each for one kind of call.
struct Clients {
    requests: Client,
    watches: Client,
    listings: Client,
    renewals: Client,
    /// Authenticates: carries no token.
    login: Client,
    /// Asks a member for its status, which it must tell without a leader too: by saying that there
    /// is none.
    status: Client,
}

/// The client to use for one call, and which token it carries.
pub(crate) struct Authenticated {
    pub(crate) client: Client,
    /// To be handed to [`Connection::token_refused`] if etcd refuses the token.
    pub(crate) token: u64,
}

impl Connection {
    /// To this address of the name; without one, to the first of its addresses that can be
    /// connected to.
    pub(super) fn new(
        origin: Uri,
        name: Arc<Name>,
        address: Option<SocketAddr>,
        shared: &Shared,
    ) -> Self {
        let transport = Transport::new(name.clone(), address, shared.tls.clone());
        let login = Login::new(shared.credentials.clone());
        let way = Arc::new(Way {
            origin: origin.clone(),
            transport: transport.clone(),
            login: login.clone(),
            cluster: shared.cluster.clone(),
            endpoint: rand::random(),
        });
        Connection {
            url: url_of(&origin),
            name,
            login,
            transport,
            shared: Lane::new(way.clone()),
            listings: Lane::new(way.clone()),
            renewals: Lane::new(way),
            clients: OnceCell::new(),
        }
    }

    /// The URL, and the address where the name has several.
    pub(crate) fn shown(&self) -> String {
        match self.transport.address() {
            Some(address) if self.name.usable_addresses().len() > 1 => {
                format!("{} ({})", self.url, address.ip())
            }
            _ => self.url.clone(),
        }
    }

    /// The address, if it is known.
    pub(super) fn address(&self) -> Option<SocketAddr> {
        self.transport.address()
    }

    /// Finds out the address, if it is not known. The caller limits the time.
    pub(super) async fn find_address(&self) {
        self.transport.find_address().await;
    }

    /// Makes this the address, unless it has one; returns which it has.
    pub(super) fn settle(&self, address: SocketAddr) -> SocketAddr {
        self.transport.settle(address)
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
        let given_up = || self.shared.given_up();
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

    /// Lets the next call for this purpose make a connection of its own: the present one may be
    /// dead without a word, which its pings notice too late. Calls that wait on the present one go
    /// on waiting.
    pub(crate) fn give_up(&self, purpose: Purpose) {
        match purpose {
            Purpose::Requests | Purpose::Watches => self.shared.give_up(),
            Purpose::Listings => self.listings.give_up(),
            Purpose::Renewals => self.renewals.give_up(),
        }
    }

    async fn clients(&self) -> Result<&Clients, etcd_client::Error> {
        self.clients
            .get_or_try_init(|| async {
                let requests = self.shared.client(true, true).await?;
                Ok(Clients {
                    watches: requests.clone(),
                    requests,
                    listings: self.listings.client(true, true).await?,
                    renewals: self.renewals.client(true, true).await?,
                    login: self.shared.client(false, true).await?,
                    status: self.shared.client(true, false).await?,
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
            Purpose::Listings => &self.listings,
            Purpose::Renewals => &self.renewals,
        }
    }
}
