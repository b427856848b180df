//! The fuzz targets: texts and bytes that come from other programs and from people. No input may
//! cause a panic. Accepted input must mean the same after it is written and read again.
//!
//! The targets are functions, so that the library's tests run them too, on the corpora and on
//! changes of the corpora.

// Modules of the tool, which is not a library.
#[path = "../../src/bin/alluxio-membership/identity_file.rs"]
mod identity_file;

use std::cell::RefCell;
use std::fs;
use std::path::PathBuf;

use alluxio_membership::config::{Config, Properties};
use alluxio_membership::etcd::Clusters;
use alluxio_membership::membership::Membership;
use alluxio_membership::record;
use alluxio_membership::worker::{Worker, WorkerIdentity};

/// A target: its name, and its function of some bytes.
pub type Target = (&'static str, fn(&[u8]));

/// All targets.
pub const TARGETS: &[Target] = &[
    ("records", records),
    ("site_files", site_files),
    ("endpoints", endpoints),
    ("durations", durations),
    ("hosts", hosts),
    ("identities", identities),
    ("identity_files", identity_files),
];

/// The value of a key in etcd.
pub fn records(data: &[u8]) {
    let worker = |data: &[u8]| {
        let stored = record::decode(data).ok()?;
        Some(Worker {
            identity: stored.identity?,
            address: stored.address?,
        })
    };
    if let Some(read) = worker(data) {
        let written = record::encode(&read);
        let again = worker(&written).expect("what was written can be read");
        assert_eq!(again.identity, read.identity);
        assert_eq!(record::encode(&again), written);
    }
}

/// An `alluxio-site.properties` file.
pub fn site_files(data: &[u8]) {
    let path = file(data);
    if let Ok(properties) = Properties::from_site_file(&path) {
        let _ = Config::from_properties(&properties);
    }
}

/// The text of `alluxio.etcd.endpoints`.
pub fn endpoints(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    for tls in ["false", "true"] {
        let mut properties = etcd();
        properties.set("alluxio.etcd.endpoints", text);
        properties.set("alluxio.etcd.tls.enabled", tls);
        let _ = Config::from_properties(&properties);
    }
}

/// The text of a duration.
pub fn durations(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    for name in [
        "alluxio.worker.failure.detection.timeout",
        "alluxio.membership.native.operation.timeout",
        "alluxio.membership.native.view.max.staleness",
    ] {
        let mut properties = etcd();
        properties.set("alluxio.etcd.endpoints", "http://localhost:2379");
        properties.set(name, text);
        let _ = Config::from_properties(&properties);
    }
}

/// A hosts file of a STATIC cluster.
pub fn hosts(data: &[u8]) {
    let path = file(data);
    let mut properties = Properties::new();
    properties.set("alluxio.worker.membership.manager.type", "STATIC");
    properties.set(
        "alluxio.worker.static.membership.manager.config.file",
        path.display().to_string(),
    );
    let config = Config::from_properties(&properties).expect("a good configuration");
    let runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = { runtime }.enable_time().build().expect("a runtime");
    runtime.block_on(async {
        let Ok(membership) = Membership::open_in(&config, &Clusters::default()) else {
            return;
        };
        let table = membership.show_all_members().await.expect("a table");
        assert!(table.lines().count() > 0);
        membership.close().await.expect("nothing to end");
    });
}

/// The name of a worker's identity, as in its key, and the bytes of an identity, as in its record.
pub fn identities(data: &[u8]) {
    if let Ok(text) = std::str::from_utf8(data)
        && let Ok(identity) = WorkerIdentity::parse(text)
    {
        let again = WorkerIdentity::parse(&identity.to_string());
        assert_eq!(again.expect("what was written can be read"), identity);
    }
    let (version, bytes) = match data {
        [version, bytes @ ..] => (i32::from(*version), bytes),
        [] => (0, data),
    };
    if let Ok(identity) = WorkerIdentity::from_parts(version, bytes) {
        let again = WorkerIdentity::from_parts(identity.version(), &identity.identifier());
        assert_eq!(again.expect("what was written can be read"), identity);
    }
}

/// The `worker_identity` file of an Alluxio worker.
pub fn identity_files(data: &[u8]) {
    if let Ok(identity) = identity_file::read_or_create(&file(data)) {
        assert!(matches!(identity, WorkerIdentity::V1(_)));
    }
}

/// Messages of etcd about its keys, of any kind and in any order, against a model of the views. See
/// the library's `script.rs`, which is built only for the fuzzers and the library's own tests.
#[cfg(fuzzing)]
pub fn watches(data: &[u8]) {
    alluxio_membership::etcd::fuzz_watch(data);
}

fn etcd() -> Properties {
    let mut properties = Properties::new();
    properties.set("alluxio.worker.membership.manager.type", "ETCD");
    properties
}

/// Returns a file with these bytes. Each thread has one file.
fn file(data: &[u8]) -> PathBuf {
    thread_local! {
        static FILE: RefCell<Option<tempfile::NamedTempFile>> = const { RefCell::new(None) };
    }
    FILE.with_borrow_mut(|file| {
        let file = file.get_or_insert_with(|| tempfile::NamedTempFile::new().expect("a file"));
        fs::write(file.path(), data).expect("write");
        file.path().to_owned()
    })
}

/// The names that the tool's modules need.
#[cfg(not(test))]
mod output {
    pub fn now() -> String {
        String::new()
    }
}
