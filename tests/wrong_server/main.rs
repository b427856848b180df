//! What the library does when etcd, or what lies before it, answers wrongly.
//!
//! `tools/wrong-etcd` is an etcd that distorts one kind of answer on request; each distortion is a
//! mode. A process with a member and a reader of its own meets each mode, and the same questions
//! are asked each time: see [`trial`]. What a real etcd does is tested on real ones.
//!
//! `make test` tries a part of the modes; `make test-faults` tries all.
//! `AXM_WRONG_MODES=watch/,grant/` names those to try, by the beginnings of their names.

#[path = "../common/mod.rs"]
mod common;

mod client;
mod expectations;
mod names;
mod server;
mod suite;
mod trial;
