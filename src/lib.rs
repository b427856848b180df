//! Worker membership of an Alluxio 3xx (DORA) cluster, in etcd or in a static hosts file.
//!
//! A [`Membership`] is a manager: one program's access to one cluster. It lists the workers from
//! memory, follows their changes by a watch, and registers workers. [`Config`] says where the
//! cluster is. A builder or Alluxio's own properties make a `Config`.
//!
//! ```no_run
//! use alluxio_membership::{Config, MemberFilter, Membership, Result};
//!
//! #[tokio::main]
//! async fn main() -> Result<()> {
//!     let config = Config::etcd(["http://127.0.0.1:2379"])
//!         .cluster("DefaultAlluxioCluster")
//!         .build()?;
//!     let membership = Membership::open(&config)?;
//!     for member in membership.view().await?.members(MemberFilter::Live) {
//!         println!("{} {:?}", member.worker.identity, member.state);
//!     }
//!     membership.close().await
//! }
//! ```
//!
//! A program that follows changes reads [`Membership::changes`]. A worker calls
//! [`Membership::join`], keeps the `Membership` while it serves, and closes it when it stops.
//! Managers that are opened by [`Membership::open_in`] with the same [`Clusters`](etcd::Clusters)
//! share connections and views.
//!
//! Every call ends within the operation timeout of its configuration. The [`ErrorKind`] of an error
//! tells a caller how to react.
//!
//! # Building
//!
//! The build needs `protoc` and Google's well-known `.proto` files. Debian has them in the packages
//! `protobuf-compiler` and `libprotobuf-dev`.
//!
//! The cargo features `c-api` and `jni` add the functions of the C header and the native methods of
//! the jar. The feature `tool` adds the command-line tool. No feature is enabled by default.

#![deny(unsafe_code)]
// Some of the core serves only the bindings. The build with all features finds code without a use.
#![cfg_attr(not(feature = "_bindings"), allow(dead_code))]

mod aside;
mod boottime;
#[cfg(feature = "c-api")]
#[allow(unsafe_code)]
mod c_api;
pub mod config;
pub mod error;
pub mod etcd;
mod jitter;
#[cfg(feature = "jni")]
#[allow(unsafe_code)]
mod jni;
mod log;
mod log_limit;
pub mod membership;
pub mod record;
#[cfg(feature = "_bindings")]
mod runtime;
mod static_hosts;
pub mod status;
pub mod text;
pub mod view;
pub mod worker;

pub use config::{Config, ConfigBuilder, Properties};
pub use error::{Error, ErrorKind, Result};
pub use membership::{JoinOptions, Membership};
pub use status::{Counters, Status};
pub use view::{Change, ChangeKind, ClusterView, Member, MemberFilter};
pub use worker::{Worker, WorkerIdentity, WorkerNetAddress, WorkerState};

/// Compiles the Rust program of the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
