//! Clusters of workers as Alluxio registers them, and readers that follow them.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use alluxio_membership::membership::{JoinOptions, Membership};
use alluxio_membership::record;
use alluxio_membership::view::ClusterView;
use alluxio_membership::worker::{Worker, WorkerIdentity, WorkerNetAddress};
use etcd_client::Client;
use uuid::Uuid;

use crate::common::Etcd;
use crate::scene::{self, LIVE};

const LONG: Duration = Duration::from_secs(60);

pub type View = Arc<ClusterView>;

/// A worker with a name and ports like those of real ones.
pub fn worker(number: i64) -> Worker {
    // As different as random ones, because Alluxio's class keeps identities in hash tables.
    let uuid = Uuid::new_v3(&Uuid::NAMESPACE_OID, &number.to_be_bytes());
    Worker {
        identity: WorkerIdentity::V1(uuid),
        address: WorkerNetAddress {
            rpc_port: 29999,
            data_port: 29997,
            web_port: 30000,
            netty_data_port: 29997,
            http_server_port: 28080,
            ..WorkerNetAddress::new(format!("worker{number}.example.com"))
        },
    }
}

/// Writes the ring key and the live key of the workers with these numbers.
pub async fn put_workers(etcd: &Etcd, numbers: Range<i64>) {
    scene::put_records(etcd, numbers.map(worker)).await;
}

/// Writes another live record of a worker: another port each time.
pub async fn change(client: &mut Client, number: i64, port: usize) {
    let mut changed = worker(number);
    changed.address.rpc_port = i32::try_from(port).expect("a port");
    let key = format!("{LIVE}{}", changed.identity);
    let put = client.put(key, record::encode(&changed), None);
    put.await.expect("put");
}

pub async fn join(membership: &Membership, number: i64) {
    membership
        .join(&worker(number), &JoinOptions::default())
        .await
        .expect("join");
}

pub fn is_live(view: &ClusterView, number: i64) -> bool {
    view.is_live(&worker(number).identity)
}

/// The next view.
pub async fn next(reader: &Membership, view: &ClusterView) -> View {
    let next = reader.wait_for_change(view.version(), LONG).await;
    next.expect("open").expect("a newer view")
}

/// The first view from this one on in which something is seen.
pub async fn until(
    reader: &Membership,
    mut view: View,
    seen: impl Fn(&ClusterView) -> bool,
) -> View {
    while !seen(&view) {
        view = next(reader, &view).await;
    }
    view
}
