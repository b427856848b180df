//! Connections and their destinations: pings, and names whose addresses change or cannot be found.

use std::collections::HashSet;
use std::fs;
use std::net::UdpSocket;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use alluxio_membership::config::{Config, Properties};
use alluxio_membership::etcd::Clusters;
use alluxio_membership::membership::Membership;
use alluxio_membership::view::MemberFilter;
use tokio::net::TcpListener;

use crate::common::dead::Swallowing;
use crate::common::names::{Name, with_own_names};
use crate::common::toxiproxy::{Toxiproxy, Way};
use crate::common::{Etcd, EtcdCluster, EtcdVersion, eventually, free_ports, on_every_etcd, spawn};
use crate::recorder::Recorder;
use crate::scene::{Fault, LINEARIZABLE, LONG, PATIENT, join, lease_of, lists, open};

const TOOL: &str = env!("CARGO_BIN_EXE_alluxio-membership");
const IDENTITY: &str = "worker-1";
/// Set for the processes of [`lookup_process`] and [`probe_process`].
const LOOKUP: &str = "AXM_TEST_LOOKUP";

/// The local ports of all open connections to this port.
fn connections_to(port: u16) -> HashSet<String> {
    connected("tcp", port)
}

fn connected(protocol: &str, port: u16) -> HashSet<String> {
    let remote = format!(":{port:04X}");
    let table = format!("/proc/self/net/{protocol}");
    let table = fs::read_to_string(table).expect("read the connections");
    let rows = table
        .lines()
        .map(|row| row.split_whitespace().collect::<Vec<_>>());
    rows.filter(|row| row.len() > 3 && row[2].ends_with(&remote) && row[3] == "01")
        .map(|row| row[1].to_owned())
        .collect()
}

async fn pings_are_not_too_many(version: EtcdVersion) {
    let etcd = Etcd::start(version).await;
    // Renewals of a short lease look for another connection soon.
    let ttl = ("alluxio.worker.failure.detection.timeout", "20s");
    let member = open(&[etcd.endpoint()], &[ttl]);
    let reader = open(&[etcd.endpoint()], &[LINEARIZABLE, PATIENT[0]]);
    let unanswered = || -> u64 {
        let statuses = [&member, &reader].map(|it| it.status().expect("open"));
        statuses.iter().map(|it| it.endpoints[0].failed).sum()
    };
    join(&member, 1).await;
    assert!(lists(&member, &[1]).await && lists(&reader, &[1]).await);
    let lease = lease_of(&etcd, 1).await;
    let fault = Fault::new("1 min of idleness, 1 min of listings", version);
    // The member's connections, one of them for renewals, and the reader's. The fixture keeps none
    // open.
    let mut before = HashSet::new();
    eventually("all are connected", LONG, || {
        before = connections_to(etcd.port());
        let connected = before.len() == 3;
        async move { connected }
    })
    .await;
    let unanswered_before = unanswered();
    tokio::time::sleep(Duration::from_secs(60)).await;
    let active = Instant::now();
    let mut listings = 0;
    while active.elapsed() < Duration::from_secs(60) {
        assert!(lists(&reader, &[1]).await);
        listings += 1;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let after = connections_to(etcd.port());
    // On a loaded machine, a connection without an answer in time is replaced. This test is about
    // connections that etcd closes, and etcd does that to all that ping alike.
    let left = before.difference(&after).count() as u64;
    let allowed = 3 * (unanswered() - unanswered_before);
    assert!(left <= allowed, "{before:?} {after:?}");
    assert_eq!(lease_of(&etcd, 1).await, lease);
    fault.outcome(format!("the same connections after {listings} listings"));
}

/// The tool as a worker, registered through the name. Killed when it is dropped.
struct NamedWorker {
    process: Child,
    lease: i64,
}

impl NamedWorker {
    async fn join(name: &Name, etcd: &Etcd) -> NamedWorker {
        let process = spawn(name.joins(IDENTITY)).expect("unshare runs");
        eventually("joined", LONG, async || lease_of(etcd, 1).await.is_some()).await;
        NamedWorker {
            process,
            lease: lease_of(etcd, 1).await.expect("joined"),
        }
    }

    /// Waits for longer than the life of a lease without renewals.
    async fn stays(&self, etcd: &Etcd) {
        tokio::time::sleep(Duration::from_secs(12)).await;
        assert_eq!(lease_of(etcd, 1).await, Some(self.lease));
    }
}

impl Drop for NamedWorker {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

async fn a_name_gets_another_address(version: EtcdVersion) {
    let etcd = Etcd::start(version).await;
    let toxiproxy = Toxiproxy::start().await;
    let port = free_ports(1)[0];
    let old = toxiproxy.between(&format!("127.0.0.2:{port}"), etcd.port());
    let name = Name::new(port, &["127.0.0.2"]);
    let worker = NamedWorker::join(&name, &etcd).await;
    let recorder = Recorder::start(&etcd).await;

    let fault = Fault::new(
        "etcd's name gets another address, the old one is dead",
        version,
    );
    let _new = toxiproxy.between(&format!("127.0.0.3:{port}"), etcd.port());
    name.lead_to(&["127.0.0.3"]);
    old.cut();
    worker.stays(&etcd).await;
    assert_eq!(recorder.changes(), 0);
    fault.outcome("followed; same lease");
}

async fn the_first_address_of_a_name_is_dead(version: EtcdVersion) {
    let etcd = Etcd::start(version).await;
    let toxiproxy = Toxiproxy::start().await;
    let port = free_ports(1)[0];
    // The name service has 127.0.0.1 first.
    let _dead = Swallowing::at(&format!("127.0.0.1:{port}")).await;
    let _works = toxiproxy.between(&format!("127.0.0.2:{port}"), etcd.port());
    let name = Name::new(port, &["127.0.0.1", "127.0.0.2"]);
    let fault = Fault::new("the first of a name's 2 addresses is dead", version);
    name.lists();
    fault.outcome("listed, through the other address");
}

async fn the_first_address_of_a_name_is_a_learner(version: EtcdVersion) {
    let cluster = EtcdCluster::start(version, 3).await;
    let learner = cluster.add_learner().await;
    let member = &cluster.members()[0];
    let toxiproxy = Toxiproxy::start().await;
    let port = free_ports(1)[0];
    let _first = toxiproxy.between(&format!("127.0.0.1:{port}"), learner.port());
    let _second = toxiproxy.between(&format!("127.0.0.2:{port}"), member.port());
    let name = Name::new(port, &["127.0.0.1", "127.0.0.2"]);
    let fault = Fault::new("the first of a name's 2 addresses is a learner", version);
    let worker = NamedWorker::join(&name, member).await;
    // A process begins with either of them.
    (0..8).for_each(|_| name.lists());
    worker.stays(member).await;
    fault.outcome("joined, listed 8 times and same lease, through the other address");
}

async fn one_of_the_addresses_of_a_name_freezes(version: EtcdVersion) {
    let etcd = Etcd::start(version).await;
    let toxiproxy = Toxiproxy::start().await;
    let port = free_ports(1)[0];
    let addresses = ["127.0.0.2", "127.0.0.3", "127.0.0.4"];
    let proxies = addresses.map(|it| toxiproxy.between(&format!("{it}:{port}"), etcd.port()));
    let name = Name::new(port, &addresses);
    let worker = NamedWorker::join(&name, &etcd).await;
    let recorder = Recorder::start(&etcd).await;

    let fault = Fault::new("each of a name's 3 addresses freezes in turn", version);
    for frozen in &proxies {
        Way::BOTH.iter().for_each(|way| frozen.stall(*way));
        worker.stays(&etcd).await;
        name.lists();
        frozen.heal();
    }
    assert_eq!(recorder.changes(), 0);
    fault.outcome("same lease; every listing succeeded, through the others");
}

on_every_etcd!(
    #[ignore = "slow: run by make test-faults"]
    one_of_the_addresses_of_a_name_freezes,
    pings_are_not_too_many,
    a_name_gets_another_address,
    the_first_address_of_a_name_is_dead,
    the_first_address_of_a_name_is_a_learner,
);

#[test]
#[ignore = "slow: run by make test-faults"]
fn a_name_server_that_does_not_answer() {
    without_answers(
        "connections::lookup_process",
        "options timeout:15 attempts:5\n",
    );
}

#[test]
#[ignore = "slow: run by make test-faults"]
fn probes_do_not_pile_up_lookups() {
    without_answers("connections::probe_process", "");
}

/// Runs a test of this program in a network whose only name server never answers, with further lines
/// in resolv.conf.
fn without_answers(test: &str, more: &str) {
    let folder = tempfile::tempdir().expect("a folder");
    let resolver = folder.path().join("resolv.conf");
    let text = format!("nameserver 127.0.0.1\n{more}");
    fs::write(&resolver, text).expect("write resolv.conf");
    let script =
        "ip link set lo up && mount --bind \"$1\" /etc/resolv.conf && shift && exec \"$@\"";
    let this = std::env::current_exe().expect("this program");
    let this = this.to_str().expect("UTF-8");
    let program = [this, "--exact", test, "--nocapture"];
    let status = with_own_names(script, true, &resolver, &program)
        .env(LOOKUP, "1")
        .status()
        .expect("unshare runs");
    assert!(status.success(), "{status}");
}

#[test]
fn lookup_process() {
    if std::env::var_os(LOOKUP).is_none() {
        return;
    }
    let _silent = UdpSocket::bind("127.0.0.1:53").expect("the port of name servers");
    let start = Instant::now();
    let output = Command::new(TOOL)
        .args(["-D", "alluxio.worker.membership.manager.type=ETCD"])
        .args(["-D", "alluxio.etcd.endpoints=http://etcd.test:2379"])
        .args(["--timeout", "3s", "nodes"])
        .output()
        .expect("the tool runs");
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(4), "{error}");
    assert!(error.contains("etcd.test:2379"), "{error}");
    // The C library alone would wait for 75 s.
    assert!(start.elapsed() < LONG, "{:?}", start.elapsed());
}

#[tokio::test]
async fn probe_process() {
    if std::env::var_os(LOOKUP).is_none() {
        return;
    }
    let _silent = UdpSocket::bind("127.0.0.1:53").expect("the port of name servers");
    let worker = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = worker.local_addr().expect("an address").port();
    let hosts = tempfile::NamedTempFile::new().expect("a file");
    // More than the lookups that may run at once.
    let mut names: String = (0..80).map(|it| format!("worker{it}.test\n")).collect();
    names += "127.0.0.1\n";
    fs::write(hosts.path(), names).expect("write the hosts");
    let mut properties = Properties::new();
    for (name, value) in [
        ("alluxio.worker.membership.manager.type", "STATIC"),
        (
            "alluxio.worker.static.membership.manager.config.file",
            hosts.path().to_str().expect("UTF-8"),
        ),
        ("alluxio.worker.rpc.port", &port.to_string()),
        ("alluxio.membership.native.static.probe.interval", "100ms"),
        PATIENT[0],
    ] {
        properties.set(name, value);
    }
    let config = Config::from_properties(&properties).expect("a good configuration");
    let membership = Membership::open_in(&config, &Clusters::default()).expect("open");
    eventually("every worker has been probed", LONG * 2, || async {
        let view = membership.view().await.expect("a view");
        let counts = [MemberFilter::Lost, MemberFilter::Live].map(|it| view.members(it).len());
        counts == [80, 1]
    })
    .await;
    // Longer than a lookup without an answer takes.
    let end = Instant::now() + Duration::from_secs(15);
    let mut most = 0;
    let mut probes = 0;
    while Instant::now() < end {
        most = most.max(connected("udp", 53).len());
        let probe = tokio::time::timeout(LONG, worker.accept()).await;
        probe.expect("in time").expect("a probe");
        probes += 1;
    }
    eprintln!("{most} lookups at once, {probes} probes");
    // Eight, and 56 of names that have been slow.
    assert!((1..=64).contains(&most), "{most} lookups at once");
}
