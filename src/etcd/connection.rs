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

/// What a connection is used for. Health, quarantine and choice of endpoints are separate for each
/// purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Reads, writes, and other requests with a single answer.
    Requests,
    /// Watches. They share the connection of the requests.
    Watches,
    /// Pages of large listings. Their connection is open only during a listing, so that watches do
    /// not wait behind it.
    Listings,
    /// Renewals of leases. They have their own connection, so that they never wait behind other
    /// traffic.
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

/// One endpoint: a connection for requests and watches, one for listings, one for lease renewals,
/// and one token.
pub(crate) struct Connection {
    url: String,
    name: Arc<Name>,
    login: Arc<Login>,
    transport: Transport,
    /// The connection of requests and watches.
    shared: Arc<Lane>,
    listings: Arc<Lane>,
    renewals: Arc<Lane>,
    clients: OnceCell<Clients>,
}

/// The objects that the endpoints of one etcd share.
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

/// The clients of one endpoint. Each is for one kind of call.
struct Clients {
    requests: Client,
    watches: Client,
    listings: Client,
    renewals: Client,
    /// Authenticates, and carries no token.
    login: Client,
    /// Asks a member for its status. A member without a leader must answer too.
    status: Client,
}

/// The client for one call, and the token that the client carries.
pub(crate) struct Authenticated {
    pub(crate) client: Client,
    /// The token to pass to [`Connection::token_refused`] if etcd refuses it.
    pub(crate) token: u64,
}

impl Connection {
    /// Connects to this address of the name. Without an address, it connects to the first address
    /// that accepts a connection.
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
            shared: Lane::new(way.clone(), true),
            listings: Lane::new(way.clone(), false),
            renewals: Lane::new(way, false),
            clients: OnceCell::new(),
        }
    }

    /// Returns the URL, with the address if the name has several.
    pub(crate) fn shown(&self) -> String {
        match self.transport.address() {
            Some(address) if self.name.usable_addresses().len() > 1 => {
                format!("{} ({})", self.url, address.ip())
            }
            _ => self.url.clone(),
        }
    }

    /// Returns the address, if it is known.
    pub(super) fn address(&self) -> Option<SocketAddr> {
        self.transport.address()
    }

    /// Finds the address, if it is not known. The caller limits the time.
    pub(super) async fn find_address(&self) {
        self.transport.find_address().await;
    }

    /// Sets the address, unless the connection already has one, and returns the address in use.
    pub(super) fn settle(&self, address: SocketAddr) -> SocketAddr {
        self.transport.settle(address)
    }

    /// `http://host:port`, or `https://host:port` with TLS.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// Returns the problem of the connection, if more is known than an error contains.
    pub(crate) fn trouble(&self) -> Option<String> {
        self.transport.trouble()
    }

    /// Returns the TLS session of the last connection, or `None` without TLS.
    pub(crate) fn tls_session(&self) -> Option<TlsSession> {
        self.transport.session()
    }

    /// Returns the authorities of the configured file that may have issued etcd's certificate.
    pub(crate) fn authorities(&self) -> Vec<CertificateInfo> {
        self.transport.authorities()
    }

    /// Returns the configured user.
    pub(crate) fn user(&self) -> Option<&str> {
        self.login.user()
    }

    /// Whether etcd gave a token for the credentials. An etcd without users gives none.
    pub(crate) fn has_token(&self) -> bool {
        self.login.token().is_some()
    }

    /// Returns a transport for a separate connection that does not change the state of this one.
    pub(super) fn transport_apart(&self) -> Transport {
        self.transport.apart()
    }

    /// Returns a client that carries a token if there are credentials. The caller limits the time.
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

    /// Returns a client that carries the present token, if there is one.
    pub(crate) async fn client(&self, purpose: Purpose) -> Result<Client, etcd_client::Error> {
        Ok(self.clients().await?.of(purpose).clone())
    }

    /// Returns a client that asks a member for its status.
    pub(crate) async fn status_client(&self) -> Result<Client, etcd_client::Error> {
        Ok(self.clients().await?.status.clone())
    }

    /// Records that etcd served a request with this token.
    pub(crate) fn token_worked(&self, token: u64) {
        self.login.worked(token);
    }

    /// Forgets the token, unless another caller has already replaced it.
    pub(crate) fn token_refused(&self, token: u64, status: &tonic::Status) {
        self.login.refused(token, status);
    }

    /// Forgets the present token, unless it is too new to have expired.
    pub(crate) fn forget_token(&self) {
        self.login.forget();
    }

    /// Whether credentials are configured.
    pub(crate) fn has_credentials(&self) -> bool {
        self.login.has_credentials()
    }

    /// Makes the next call for this purpose open a new connection. The present connection may be
    /// dead without an error, and its pings notice that too late. Calls that wait on the present
    /// connection continue to wait.
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
