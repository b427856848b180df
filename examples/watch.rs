//! Prints the changes of an Alluxio cluster as they happen, until it is interrupted.
//!
//! `cargo run --example watch -- http://127.0.0.1:2379`

use std::pin::pin;

use alluxio_membership::{Config, Membership, Result};
use futures_util::StreamExt;

#[tokio::main]
async fn main() -> Result<()> {
    let config = Config::etcd(std::env::args().skip(1)).build()?;
    let membership = Membership::open(&config)?;
    let mut changes = pin!(membership.changes());
    while let Some(change) = changes.next().await {
        let change = change?;
        println!("{} {:?}", change.member.worker.identity, change.kind);
    }
    Ok(())
}
