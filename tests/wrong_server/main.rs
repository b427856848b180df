//! The library when etcd, or a proxy before it, answers wrongly.
//!
//! `tools/wrong-etcd` is an etcd that falsifies one kind of answer on request; each kind is a mode.
//! A process with its own member and reader uses each mode, and the same rules must hold each time:
//! see [`trial`]. Other tests use real etcd servers.
//!
//! `make test` tries a part of the modes, and `make test-faults` tries all.
//! `AXM_WRONG_MODES=watch/,grant/` selects modes by the beginnings of their names.

#[path = "../common/mod.rs"]
mod common;

mod client;
mod expectations;
mod names;
mod server;
mod suite;
mod trial;
