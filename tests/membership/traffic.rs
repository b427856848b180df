//! What the library sends to etcd and receives from it, in bytes and in requests.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use alluxio_membership::config::{Config, Properties};
use alluxio_membership::etcd::Clusters;
use alluxio_membership::membership::Membership;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::common::{Etcd, EtcdVersion};
use crate::{join, properties, worker};

/// A proxy to an etcd that counts the bytes of both directions. It runs as long as the test.
struct Meter {
    endpoint: String,
    bytes: Arc<AtomicU64>,
}

impl Meter {
    async fn to(etcd: &Etcd) -> Meter {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let (port, bytes) = (etcd.port(), Arc::new(AtomicU64::new(0)));
        let counter = bytes.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let server = TcpStream::connect(("127.0.0.1", port)).await;
                let server = server.expect("etcd runs");
                let ((from_client, to_client), (from_server, to_server)) =
                    (client.into_split(), server.into_split());
                tokio::spawn(carry(from_client, to_server, counter.clone()));
                tokio::spawn(carry(from_server, to_client, counter.clone()));
            }
        });
        Meter {
            endpoint: format!("http://{address}"),
            bytes,
        }
    }
}

/// Carries bytes until one side closes, and counts them.
async fn carry(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    bytes: Arc<AtomicU64>,
) {
    let mut buffer = vec![0; 1 << 16];
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        bytes.fetch_add(count as u64, Ordering::Relaxed);
        if to.write_all(&buffer[..count]).await.is_err() {
            return;
        }
    }
}

/// The bytes in both directions, and the requests, until a moment or within a time.
#[derive(Debug, Clone, Copy)]
struct Traffic {
    bytes: u64,
    /// Messages on streams are requests too.
    requests: u64,
    renewals: u64,
}

impl Traffic {
    fn until_now(etcd: &Etcd, meter: &Meter) -> Traffic {
        let received = |labels: &[&str]| etcd.metric("grpc_server_msg_received_total", labels);
        Traffic {
            bytes: meter.bytes.load(Ordering::Relaxed),
            requests: received(&[]),
            renewals: received(&["grpc_method=\"LeaseKeepAlive\""]),
        }
    }

    fn since(self, earlier: Traffic) -> Traffic {
        Traffic {
            bytes: self.bytes - earlier.bytes,
            requests: self.requests - earlier.requests,
            renewals: self.renewals - earlier.renewals,
        }
    }

    /// Prints what each of `count` things took, and fails if it is more than 5 % above what is
    /// recorded.
    fn check(self, what: &str, count: u64, recorded: Recorded) {
        let of_each = |total: u64| total as f64 / count as f64;
        let (bytes, requests) = (of_each(self.bytes), of_each(self.requests));
        println!("{what}: {bytes:.0} bytes and {requests:.2} requests");
        assert!(
            bytes <= recorded.bytes * 1.05 && requests <= recorded.requests * 1.05,
            "{what}: recorded are {recorded:?}; if {bytes:.0} bytes and {requests:.2} requests are \
             right, record them here"
        );
    }
}

/// What something took when it was recorded.
#[derive(Debug)]
struct Recorded {
    bytes: f64,
    requests: f64,
}

/// Starts an etcd and a manager that reaches it through a proxy.
async fn start(ttl: &str) -> (Etcd, Meter, Membership) {
    let etcd = Etcd::start(EtcdVersion::V3_6).await;
    let meter = Meter::to(&etcd).await;
    let mut properties: Properties = properties(&etcd);
    properties.set("alluxio.etcd.endpoints", &meter.endpoint);
    properties.set("alluxio.worker.failure.detection.timeout", ttl);
    let config = Config::from_properties(&properties).expect("a good configuration");
    let member = Membership::open_in(&config, &Clusters::default());
    (etcd, meter, member.expect("opening never waits"))
}

#[tokio::test]
async fn a_join_sends_little() {
    const JOINS: u128 = 50;
    let (etcd, meter, member) = start("60s").await;
    // Connects and lists.
    join(&member, &worker(1000)).await;
    let before = Traffic::until_now(&etcd, &meter);
    for number in 0..JOINS {
        join(&member, &worker(2000 + number)).await;
    }
    let joins = Traffic::until_now(&etcd, &meter).since(before);
    let recorded = Recorded {
        bytes: 2_930.0,
        requests: 5.0,
    };
    joins.check("a join", JOINS as u64, recorded);
}

#[tokio::test]
async fn a_renewal_sends_little() {
    const WORKERS: u128 = 50;
    let (etcd, meter, member) = start("5s").await;
    for number in 0..WORKERS {
        join(&member, &worker(1000 + number)).await;
    }
    // Until the watches of the workers' own keys are open, and the first renewals are spread.
    tokio::time::sleep(Duration::from_secs(10)).await;
    let before = Traffic::until_now(&etcd, &meter);
    tokio::time::sleep(Duration::from_secs(40)).await;
    let renewals = Traffic::until_now(&etcd, &meter).since(before);
    let recorded = Recorded {
        bytes: 375.0,
        requests: 1.66,
    };
    renewals.check(
        "a renewal, with its part of the checks of keys",
        renewals.renewals,
        recorded,
    );
}

/// Between two checks, which compare the view with etcd, there are at least 1.6 s.
#[tokio::test]
async fn an_idle_minute_sends_little() {
    const MOST_CHECKS: u64 = 38;
    let (etcd, meter, member) = start("60s").await;
    join(&member, &worker(1)).await;
    member.view().await.expect("a view");
    let checks = || {
        let counters = member.status().expect("open").view_counters;
        counters.checks + counters.checks_behind + counters.checks_failed
    };
    let (before, checks_before) = (Traffic::until_now(&etcd, &meter), checks());
    tokio::time::sleep(Duration::from_secs(60)).await;
    let minute = Traffic::until_now(&etcd, &meter).since(before);
    let checks = checks() - checks_before;
    println!("an idle minute of a worker that lists: {minute:?}, {checks} checks");
    assert!(checks <= MOST_CHECKS);
    // The numbers of checks and renewals in a minute are random. The constants are for the new
    // connections and for the first check.
    let (bytes, requests) = (
        245 * checks + 370 * minute.renewals + 500,
        checks + minute.renewals + 10,
    );
    assert!(
        minute.bytes <= bytes && minute.requests <= requests,
        "{minute:?} with {checks} checks; allowed are {bytes} bytes and {requests} requests"
    );
}
