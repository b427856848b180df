//! Worker membership of an Alluxio 3xx (DORA) cluster, kept in etcd or in a static hosts file.

#![deny(unsafe_code)]
#![warn(missing_docs)]

mod aside;
mod boottime;
#[allow(unsafe_code)]
mod c_api;
pub mod config;
pub mod error;
pub mod etcd;
mod jitter;
#[allow(unsafe_code)]
mod jni;
mod log;
mod log_limit;
pub mod membership;
pub mod record;
mod runtime;
mod static_hosts;
pub mod text;
pub mod view;
pub mod worker;

/// The Rust program of the README compiles.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
