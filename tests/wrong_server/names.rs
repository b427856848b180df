//! One name for an endpoint that cannot serve and one that can.

use crate::common::names::Name;
use crate::common::toxiproxy::Toxiproxy;
use crate::common::{EtcdVersion, free_ports, on_every_etcd};
use crate::server::WrongEtcd;

async fn the_first_address_of_a_name_has_no_leader(version: EtcdVersion) {
    let mut etcd = WrongEtcd::start(version, 2, false).await;
    let toxiproxy = Toxiproxy::start().await;
    let port = free_ports(1)[0];
    let upstream = |endpoint: &str| -> u16 {
        let port = endpoint.rsplit(':').next().expect("a port");
        port.parse().expect("a port")
    };
    let [first, second] = [0, 1].map(|place| upstream(&etcd.endpoints[place]));
    let _first = toxiproxy.between(&format!("127.0.0.1:{port}"), first);
    let _second = toxiproxy.between(&format!("127.0.0.2:{port}"), second);
    let name = Name::new(port, &["127.0.0.1", "127.0.0.2"]);
    etcd.set("etcd/no-leader/requests");
    // A process begins with either of them.
    (0..8).for_each(|_| name.lists());
    let asked: u64 = etcd.counts().values().sum();
    assert!(asked > 0, "no process begins with the first");
}

on_every_etcd!(
    #[ignore = "slow: run by make test-faults"]
    the_first_address_of_a_name_has_no_leader,
);
