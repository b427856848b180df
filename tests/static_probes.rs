//! Workers of a hosts file whose ports are probed.

mod common;

use std::time::Duration;

use alluxio_membership::config::{Config, Properties};
use alluxio_membership::error::ErrorKind;
use alluxio_membership::etcd::Clusters;
use alluxio_membership::membership::Membership;
use alluxio_membership::view::{ChangeKind, ClusterView, MemberFilter};
use tokio::net::{TcpListener, TcpSocket};

const LONG: Duration = Duration::from_secs(30);
const INTERVAL: Duration = Duration::from_millis(100);

fn open(hosts: &str, port: u16, interval: &str) -> Membership {
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), hosts).expect("write the hosts");
    let mut properties = Properties::new();
    properties.set("alluxio.worker.membership.manager.type", "STATIC");
    properties.set(
        "alluxio.worker.static.membership.manager.config.file",
        file.path().to_str().expect("UTF-8"),
    );
    properties.set("alluxio.worker.rpc.port", port.to_string());
    properties.set(
        "alluxio.membership.native.static.probe.interval",
        interval.to_owned(),
    );
    let config = Config::from_properties(&properties).expect("a good configuration");
    Membership::open_in(&config, &Clusters::default()).expect("open")
}

fn hosts(view: &ClusterView, filter: MemberFilter) -> Vec<&str> {
    let members = view.members(filter).iter();
    members
        .map(|member| member.worker.address.host.as_deref().expect("a host"))
        .collect()
}

/// The RPC ports of three workers. All have one number, and none accepts connections yet.
fn rpc_ports() -> (u16, [TcpSocket; 3]) {
    let hold = |host: &str, port: u16| {
        let socket = TcpSocket::new_v4()?;
        socket.set_reuseaddr(true)?;
        socket.bind(
            (
                host.parse::<std::net::Ipv4Addr>().expect("an address"),
                port,
            )
                .into(),
        )?;
        Ok::<_, std::io::Error>(socket)
    };
    for _ in 0..100 {
        let port = common::free_ports(1)[0];
        let held = ["127.0.0.1", "127.0.0.2", "127.0.0.3"].map(|host| hold(host, port));
        // In the other case, another program took the port first.
        if let [Ok(first), Ok(second), Ok(third)] = held {
            return (port, [first, second, third]);
        }
    }
    panic!("no port is free under three addresses");
}

/// One process of a worker, which listens on the RPC port.
fn listen(port: TcpSocket) -> TcpListener {
    port.listen(128).expect("listen")
}

#[tokio::test]
async fn workers_are_live_while_they_accept_connections() {
    let (port, [first, second, third]) = rpc_ports();
    let (first, second) = (listen(first), listen(second));
    let membership = open("127.0.0.1\n127.0.0.2\n127.0.0.3\n", port, "100ms");

    let view = membership.view().await.expect("probed");
    assert_eq!(
        hosts(&view, MemberFilter::All),
        ["127.0.0.1", "127.0.0.2", "127.0.0.3"]
    );
    assert_eq!(hosts(&view, MemberFilter::Live), ["127.0.0.1", "127.0.0.2"]);
    assert_eq!(hosts(&view, MemberFilter::Lost), ["127.0.0.3"]);
    assert_eq!(membership.current_version(), view.version());
    let table = membership.show_all_members().await.expect("a table");
    let statuses: Vec<&str> = table
        .lines()
        .filter_map(|line| line.rsplit('\t').next())
        .collect();
    assert_eq!(statuses, ["Status", "ONLINE", "ONLINE", "OFFLINE"]);

    drop(second);
    let lost = next(&membership, &view).await;
    assert_eq!(hosts(&lost, MemberFilter::Live), ["127.0.0.1"]);
    let changes = lost.changes_since(&view);
    assert_eq!(changes.len(), 1);
    assert_eq!(changes[0].kind, ChangeKind::Lost);

    let third = listen(third);
    let returned = next(&membership, &lost).await;
    assert_eq!(
        hosts(&returned, MemberFilter::Live),
        ["127.0.0.1", "127.0.0.3"]
    );
    drop(third);

    membership.close().await.expect("close");
    let closed = membership.view().await.expect_err("closed");
    assert_eq!(closed.kind(), ErrorKind::Closed);
    // Probes in progress may still arrive. After that, none does.
    while tokio::time::timeout(INTERVAL * 5, first.accept())
        .await
        .is_ok()
    {}
}

async fn next(membership: &Membership, view: &ClusterView) -> std::sync::Arc<ClusterView> {
    let next = membership.wait_for_change(view.version(), LONG).await;
    next.expect("open").expect("a change")
}

#[tokio::test]
async fn without_probes_everybody_is_live_and_nothing_changes() {
    let membership = open("127.0.0.1\n127.0.0.2\n", 1, "0");
    let view = membership.view().await.expect("a view");
    assert_eq!(hosts(&view, MemberFilter::Live), ["127.0.0.1", "127.0.0.2"]);
    let change = membership.wait_for_change(view.version(), INTERVAL).await;
    assert!(change.expect("open").is_none());
    let table = membership.show_all_members().await.expect("a table");
    assert!(table.ends_with("\tN/A\n"), "{table}");
}

#[tokio::test]
async fn an_empty_file_needs_no_probe() {
    let membership = open("# nobody\n", 1, "100ms");
    let view = membership.view().await.expect("a view");
    assert!(view.members(MemberFilter::All).is_empty());
}

#[test]
fn an_interval_that_is_too_short_is_refused() {
    let mut properties = Properties::new();
    properties.set("alluxio.worker.membership.manager.type", "STATIC");
    properties.set("alluxio.membership.native.static.probe.interval", "5ms");
    let error = Config::from_properties(&properties).expect_err("too short");
    assert_eq!(error.kind(), ErrorKind::InvalidConfig);
    let text = error.to_string();
    assert!(
        text.contains("alluxio.membership.native.static.probe.interval")
            && text.contains("at least 100ms"),
        "{text}"
    );
}
