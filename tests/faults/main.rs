//! Workers and views when etcd, the network, the credentials or the processes fail.
//!
//! `make test` runs the quick half. `make test-faults` runs all tests and prints one line per
//! fault.

#[path = "../common/mod.rs"]
mod common;

mod auth;
mod child;
mod clock;
mod connections;
mod endpoints;
mod history;
mod load;
mod members;
mod network;
mod processes;
mod recorder;
mod records;
mod scale;
mod scene;
mod soak;
mod tls;
