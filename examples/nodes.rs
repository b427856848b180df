//! Lists the workers of an Alluxio cluster: the Rust program of the README.

use alluxio_membership::{Config, MemberFilter, Membership, Properties, Result};

#[tokio::main]
async fn main() -> Result<()> {
    let file = std::env::args().nth(1);
    let file = file.unwrap_or("conf/alluxio-site.properties".into());
    let config = Config::from_properties(&Properties::from_site_file(file.as_ref())?)?;

    let membership = Membership::open(&config)?;
    for member in membership.view().await?.members(MemberFilter::All) {
        println!("{} {:?}", member.worker.identity, member.state);
    }
    membership.close().await
}
