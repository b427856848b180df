//! Keeps a worker registered until a line or the end of the standard input.
//!
//! `cargo run --example worker -- http://127.0.0.1:2379 worker-11111111-aaaa-4aaa-8aaa-111111111111
//! host1`

use std::time::Duration;

use alluxio_membership::{Config, JoinOptions, Membership, Result, Worker, WorkerNetAddress};

#[tokio::main]
async fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let mut next = || arguments.next().expect("arguments: ENDPOINT IDENTITY HOST");
    let config = Config::etcd([next()])
        .lease_ttl(Duration::from_secs(30))
        .build()?;
    let worker = Worker {
        identity: next().parse()?,
        address: WorkerNetAddress {
            rpc_port: 29999,
            ..WorkerNetAddress::new(next())
        },
    };

    let membership = Membership::open(&config)?;
    membership.join(&worker, &JoinOptions::default()).await?;
    println!("{} is registered; enter ends it", worker.identity);
    // The other threads of the runtime keep it registered.
    let _ = std::io::stdin().read_line(&mut String::new());
    // Ends the registration at once.
    membership.close().await
}
