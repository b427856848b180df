//! The host of an endpoint: a literal address or a name. Names are looked up regularly.

use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;

use http::Uri;
use parking_lot::Mutex;
use tokio::sync::{Semaphore, watch};
use tokio::time::Instant;

use crate::aside;
use crate::jitter::jittered;
use crate::log;

/// The age at which an answer of the name service is refreshed.
const REFRESH: Duration = Duration::from_secs(30);
/// The least age of an answer before another lookup, also after a failure.
const SHORTEST_REFRESH: Duration = Duration::from_secs(1);
/// The maximum number of threads of one cluster that wait for the name service.
pub(super) const LOOKUPS_AT_ONCE: usize = 4;

/// A host and its port, shared by the endpoints at its addresses.
pub(super) struct Name {
    host: String,
    port: u16,
    is_literal: bool,
    /// Shared by all names of one cluster, so that a name service that hangs for one cluster does
    /// not affect others.
    permits: Arc<Semaphore>,
    found: watch::Sender<Found>,
    /// Whether the last opened connection used an IPv6 address of this name.
    is_ipv6: Mutex<Option<bool>>,
}

/// The answer of the name service.
#[derive(Default)]
struct Found {
    addresses: Vec<SocketAddr>,
    asked_at: Option<Instant>,
    refresh_after: Duration,
    is_running: bool,
    error: Option<String>,
}

impl Name {
    pub(super) fn new(url: &Uri, permits: Arc<Semaphore>) -> Self {
        let host = url.host().unwrap_or_default().to_owned();
        let port = url.port_u16().unwrap_or_default();
        let literal = host.trim_start_matches('[').trim_end_matches(']');
        let literal: Option<IpAddr> = literal.parse().ok();
        let found = Found {
            addresses: literal
                .iter()
                .map(|ip| SocketAddr::new(*ip, port))
                .collect(),
            ..Found::default()
        };
        Name {
            host,
            port,
            is_literal: literal.is_some(),
            permits,
            found: watch::Sender::new(found),
            is_ipv6: Mutex::default(),
        }
    }

    /// Returns the host as in the URL. A certificate must be valid for it.
    pub(super) fn host(&self) -> &str {
        &self.host
    }

    /// Whether the host is an address, which needs no lookup.
    pub(super) fn is_literal(&self) -> bool {
        self.is_literal
    }

    /// Returns the addresses of the last lookup, of the same family (IPv4 or IPv6) as the last
    /// connection. A name often has addresses of a family that the server does not listen on.
    pub(super) fn usable_addresses(&self) -> Vec<SocketAddr> {
        let addresses = self.found.borrow().addresses.clone();
        let is_ipv6 = *self.is_ipv6.lock();
        let is_usable = |it: &&SocketAddr| is_ipv6.is_none_or(|is_ipv6| is_ipv6 == it.is_ipv6());
        let usable: Vec<SocketAddr> = addresses.iter().filter(is_usable).copied().collect();
        if usable.is_empty() { addresses } else { usable }
    }

    /// Records that a connection to this address was opened.
    pub(super) fn connected(&self, address: &SocketAddr) {
        *self.is_ipv6.lock() = Some(address.is_ipv6());
    }

    /// Records that no address of the family in use works any more.
    pub(super) fn forget_kind(&self) {
        self.is_ipv6.lock().take();
    }

    /// Starts a lookup in the background if the addresses are old, or older than this failure.
    pub(super) fn refresh(self: &Arc<Self>, failed_at: Option<Instant>) {
        let is_due = {
            let found = self.found.borrow();
            let age = found.asked_at.map(|at| at.elapsed());
            let failed_since = failed_at > found.asked_at;
            age.is_none_or(|age| {
                age > found.refresh_after || failed_since && age > SHORTEST_REFRESH
            })
        };
        if is_due {
            self.look_up();
        }
    }

    /// Returns the addresses of the last lookup, or waits for the first lookup. The caller limits
    /// the time.
    pub(super) async fn addresses(self: &Arc<Self>) -> io::Result<Vec<SocketAddr>> {
        let mut found = self.found.subscribe();
        if found.borrow().addresses.is_empty() {
            self.look_up();
        }
        let found = found.wait_for(|found| !found.addresses.is_empty() || !found.is_running);
        let found = found.await.map_err(io::Error::other)?;
        match &found.error {
            Some(error) if found.addresses.is_empty() => Err(io::Error::other(error.clone())),
            _ => Ok(found.addresses.clone()),
        }
    }

    /// Starts a lookup on its own thread, because the name service may not answer for a long time.
    /// At most one lookup runs at a time.
    fn look_up(self: &Arc<Self>) {
        if self.is_literal {
            return;
        }
        let begins = self.found.send_if_modified(|found| {
            let begins = !std::mem::replace(&mut found.is_running, true);
            if begins {
                found.asked_at = Some(Instant::now());
                found.refresh_after = jittered(REFRESH);
            }
            begins
        });
        if !begins {
            return;
        }
        let Ok(permit) = self.permits.clone().try_acquire_owned() else {
            self.ended(Err(format!(
                "{LOOKUPS_AT_ONCE} other lookups of names have not ended yet"
            )));
            return;
        };
        let name = self.clone();
        let started = aside::start("looking a name up", move || {
            let _permit = permit;
            let host = name.host.as_str();
            let found = (host, name.port).to_socket_addrs();
            name.ended(found.map(Vec::from_iter).map_err(|error| error.to_string()));
        });
        if let Err(error) = started {
            self.ended(Err(error.to_string()));
        }
    }

    fn ended(&self, result: Result<Vec<SocketAddr>, String>) {
        let result = result.and_then(|found| match found.is_empty() {
            true => Err("the name has no address".to_owned()),
            false => Ok(found),
        });
        self.found.send_modify(|found| {
            found.is_running = false;
            match result {
                Ok(mut addresses) => {
                    found.error = None;
                    let mut known = Vec::new();
                    addresses.retain(|address| {
                        let is_new = !known.contains(address);
                        known.push(*address);
                        is_new
                    });
                    let is_same = addresses.len() == found.addresses.len()
                        && addresses.iter().all(|it| found.addresses.contains(it));
                    if !is_same {
                        found.addresses = addresses;
                    }
                }
                // Old addresses are better than none.
                Err(error) => {
                    log::debug!("Looking {} up: {error}", self.host);
                    found.error = Some(format!(
                        "the name {} cannot be looked up: {error}",
                        self.host
                    ));
                }
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(url: &str, permits: usize) -> Arc<Name> {
        let url = url.parse().unwrap();
        Arc::new(Name::new(&url, Arc::new(Semaphore::new(permits))))
    }

    #[tokio::test]
    async fn literal_addresses_need_no_thread() {
        for (url, address) in [
            ("http://127.0.0.1:2379", "127.0.0.1:2379"),
            ("https://[::1]:1", "[::1]:1"),
        ] {
            let addresses = name(url, 0).addresses().await.unwrap();
            assert_eq!(addresses, [address.parse().unwrap()]);
        }
    }

    #[tokio::test]
    async fn names_are_looked_up_within_the_permits() {
        let found = name("http://localhost:7", 1).addresses().await.unwrap();
        assert!(
            found
                .iter()
                .all(|it| it.ip().is_loopback() && it.port() == 7)
        );
        let error = name("http://localhost:7", 0).addresses().await.unwrap_err();
        assert!(error.to_string().contains("have not ended"), "{error}");
        let error = name("http://etcd.invalid:7", 1)
            .addresses()
            .await
            .unwrap_err();
        assert!(error.to_string().contains("etcd.invalid"), "{error}");
    }

    #[tokio::test]
    async fn addresses_of_the_kind_that_works_are_used() {
        let name = name("http://etcd.test:7", 0);
        let (v4, v6) = (
            "10.0.0.1:7".parse().unwrap(),
            "[fd00::1]:7".parse().unwrap(),
        );
        name.ended(Ok(vec![v6, v4, v6]));
        assert_eq!(name.usable_addresses(), [v6, v4]);
        name.connected(&v4);
        assert_eq!(name.usable_addresses(), [v4]);
        name.ended(Err("no answer".into()));
        assert_eq!(name.usable_addresses(), [v4]);
        name.forget_kind();
        assert_eq!(name.usable_addresses(), [v6, v4]);
        name.connected(&v4);
        name.ended(Ok(vec![v6]));
        assert_eq!(name.usable_addresses(), [v6]);
    }
}
