//! Lists the workers of an Alluxio cluster: the Rust program of the README.

use alluxio_membership::config::{Config, Properties};
use alluxio_membership::error::Result;
use alluxio_membership::etcd::Clusters;
use alluxio_membership::membership::Membership;
use alluxio_membership::view::MemberFilter;

#[tokio::main]
async fn main() -> Result<()> {
    let file = std::env::args().nth(1);
    let file = file.unwrap_or("conf/alluxio-site.properties".into());
    let config = Config::from_properties(&Properties::from_site_file(file.as_ref())?)?;

    let membership = Membership::open(&config, &Clusters::default())?;
    for member in membership.view().await?.members(MemberFilter::All) {
        println!("{} {:?}", member.worker.identity, member.state);
    }
    membership.close().await
}
