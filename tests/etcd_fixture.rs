//! The etcd servers that the other tests use.

mod common;

use std::time::Duration;

use common::{Etcd, EtcdCluster, EtcdOptions, EtcdVersion, eventually, on_every_etcd};
use etcd_client::{Permission, PermissionType};

on_every_etcd!(
    serves_and_survives,
    wipe_begins_anew,
    pause_silences,
    authenticates,
    cluster_loses_its_leader,
    waits_for_its_port,
    leaves_no_process,
);

async fn serves_and_survives(version: EtcdVersion) {
    let etcd = Etcd::start(version).await;
    etcd.put("/a/1", "one").await;
    let lease = etcd.grant_lease(60).await;
    etcd.put_on_lease("/a/2", "two", lease).await;
    assert_eq!(etcd.keys("/a/").await, ["/a/1", "/a/2"]);
    assert_eq!(etcd.leases().await, [lease]);
    assert_eq!(etcd.lease_ttl(lease).await.unwrap().1, 60);

    etcd.restart().await;
    let stored = etcd.get("/a/2").await.expect("the data survives");
    assert_eq!((stored.value(), stored.lease()), (&b"two"[..], lease));

    etcd.stop().await;
    etcd.restart().await;
    etcd.revoke_lease(lease).await;
    assert_eq!(etcd.keys("/a/").await, ["/a/1"]);
    assert_eq!(etcd.lease_ttl(lease).await, None);
    assert!(etcd.delete("/a/1").await);
    assert!(!etcd.delete("/a/1").await);
}

async fn wipe_begins_anew(version: EtcdVersion) {
    let etcd = Etcd::start(version).await;
    for _ in 0..5 {
        etcd.put("/a", "x").await;
    }
    let endpoint = etcd.endpoint();
    etcd.wipe_and_restart().await;
    assert_eq!(etcd.endpoint(), endpoint);
    assert!(etcd.get("/a").await.is_none());
    assert_eq!(etcd.revision().await, 1);
}

async fn pause_silences(version: EtcdVersion) {
    let etcd = Etcd::start(version).await;
    let mut client = etcd.client().await;
    client.get("/a", None).await.expect("etcd answers");
    etcd.pause();
    let silence = tokio::time::timeout(Duration::from_millis(300), client.get("/a", None)).await;
    assert!(silence.is_err(), "a paused server answered: {silence:?}");
    etcd.resume();
    etcd.put("/a", "awake").await;
}

async fn authenticates(version: EtcdVersion) {
    let options = EtcdOptions::new(version).root_password("secret");
    let etcd = Etcd::start_with(options).await;
    etcd.put("/a", "as root").await;
    let anonymous = etcd_client::Client::connect([etcd.endpoint()], None).await;
    assert!(anonymous.unwrap().get("/a", None).await.is_err());

    let readable = Permission::new(PermissionType::Read, "/a");
    etcd.add_user("reader", "pass", vec![readable]).await;
    let options = etcd_client::ConnectOptions::new().with_user("reader", "pass");
    let mut reader = etcd_client::Client::connect([etcd.endpoint()], Some(options))
        .await
        .unwrap();
    reader.get("/a", None).await.expect("may read");
    assert!(reader.put("/a", "", None).await.is_err(), "may not write");

    etcd.restart().await;
    assert!(etcd.get("/a").await.is_some());
}

async fn cluster_loses_its_leader(version: EtcdVersion) {
    let cluster = EtcdCluster::start(version, 3).await;
    let members = cluster.members();
    members[0].put("/a", "x").await;
    let leader = cluster.leader().await;
    members[leader].kill();
    assert_ne!(cluster.leader().await, leader);
    members[(leader + 1) % 3].put("/a", "y").await;
    members[leader].restart().await;
    assert_eq!(members[leader].get("/a").await.unwrap().value(), b"y");

    cluster.restart().await;
    assert_eq!(members[leader].get("/a").await.unwrap().value(), b"y");
    cluster.wipe_and_restart().await;
    assert!(members[leader].get("/a").await.is_none());
}

async fn waits_for_its_port(version: EtcdVersion) {
    let etcd = Etcd::start(version).await;
    etcd.put("/a", "x").await;
    etcd.kill();
    let stranger = std::net::TcpListener::bind(("127.0.0.1", etcd.port())).expect("a free port");
    let restart = async {
        etcd.restart().await;
        assert!(etcd.get("/a").await.is_some());
    };
    let release = async {
        eventually(
            "etcd finds its port taken",
            Duration::from_secs(30),
            || async { etcd.log().contains("address already in use") },
        )
        .await;
        drop(stranger);
    };
    tokio::join!(restart, release);
}

async fn leaves_no_process(version: EtcdVersion) {
    let runs = |pid: u32| std::path::Path::new(&format!("/proc/{pid}")).exists();
    let etcd = Etcd::start(version).await;
    let pid = etcd.pid().expect("runs");
    etcd.pause();
    drop(etcd);
    assert!(!runs(pid), "a paused server survived its owner");

    let etcd = Etcd::start(version).await;
    let pid = etcd.pid().expect("runs");
    let test = tokio::spawn(async move {
        let _etcd = etcd;
        panic!("as a failing test does");
    });
    assert!(test.await.unwrap_err().is_panic());
    eventually("the server is gone", Duration::from_secs(5), || async {
        !runs(pid)
    })
    .await;
}
