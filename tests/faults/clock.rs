//! A wall clock that is set by an hour under a running process.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant, SystemTime};

use crate::child::{ChildProcess, say};
use crate::common::{Etcd, EtcdVersion, eventually, on_every_etcd};
use crate::scene::{Fault, LONG, PATIENT, join, lease_of, lists, live, open};

/// The endpoint, for the process of [`clock_process`].
const ENDPOINT: &str = "AXM_TEST_CLOCK_ENDPOINT";
/// The file with the error of the clock, for the process and the preloaded library.
const CLOCK: &str = "AXM_TEST_CLOCK";

/// Not a test: worker 1, which also lists, in a process whose clock is changed. Prints the error of
/// its clock in hours, the workers that it lists, and each failed call.
#[test]
fn clock_process() {
    let Ok(endpoint) = std::env::var(ENDPOINT) else {
        return;
    };
    let (began, began_at) = (Instant::now(), SystemTime::now());
    let hours = move || {
        let expected = began_at + began.elapsed();
        let seconds = match SystemTime::now().duration_since(expected) {
            Ok(ahead) => ahead.as_secs_f64(),
            Err(behind) => -behind.duration().as_secs_f64(),
        };
        (seconds / 3600.0).round() as i64
    };
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let membership = open(&[endpoint], &PATIENT);
        join(&membership, 1).await;
        let mut said = (Vec::new(), 0);
        let mut oldest = Duration::ZERO;
        loop {
            match membership.view().await {
                Err(error) => say(&format!("failed: {error}")),
                Ok(view) => {
                    let now = (live(&view), hours());
                    oldest = oldest.max(membership.view_age().expect("open").expect("listed"));
                    if now != said {
                        let state = membership.status().expect("open").registrations[0].state;
                        say(&format!("{} h, {:?}, {state:?}", now.1, now.0));
                        say(&format!("oldest {:.1} s", oldest.as_secs_f64()));
                        said = now;
                    }
                }
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
}

/// Compiles the preloaded library.
fn compile(folder: &Path) -> std::path::PathBuf {
    let (source, library) = (folder.join("clock.c"), folder.join("libclock.so"));
    fs::write(&source, include_str!("clock.c")).expect("write clock.c");
    let output = Command::new("gcc")
        .args([
            "-shared", "-fPIC", "-O1", "-Wall", "-Wextra", "-Werror", "-o",
        ])
        .args([&library, &source])
        .output()
        .expect("gcc runs");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    library
}

async fn the_clock_is_set(version: EtcdVersion) {
    let folder = tempfile::tempdir().expect("a folder");
    let shim = compile(folder.path());
    let clock = folder.path().join("clock");
    // Written in place, because the file is mapped.
    fs::write(&clock, [0; 8]).expect("write");
    let set = |hours: i64| {
        let mut file = fs::OpenOptions::new()
            .write(true)
            .open(&clock)
            .expect("open");
        file.write_all(&(hours * 3600).to_ne_bytes())
            .expect("write");
    };
    let etcd = Etcd::start(version).await;
    let (direct, reader) = (
        open(&[etcd.endpoint()], &[]),
        open(&[etcd.endpoint()], &PATIENT),
    );
    let text = |path: &Path| path.to_str().expect("UTF-8").to_owned();
    let process = ChildProcess::start(
        "clock::clock_process",
        &[
            (ENDPOINT, &etcd.endpoint()),
            (CLOCK, &text(&clock)),
            ("LD_PRELOAD", &text(&shim)),
        ],
    );
    let said = |beginning: &str| process.last_said(beginning).is_some();
    eventually("it has joined", LONG, || async {
        said("0 h, [1]") && lists(&reader, &[1]).await
    })
    .await;
    let lease = lease_of(&etcd, 1).await;
    let fault = Fault::new(
        "a worker's clock is set by +1 h, then by -2 h, then right",
        version,
    );
    let mut listed = vec![1];
    for (hours, number) in [(1, 2), (-1, 3), (0, 4)] {
        set(hours);
        let seen = format!("{hours} h, {listed:?}");
        eventually("its clock is wrong", LONG, || async { said(&seen) }).await;
        // Longer than the life of a lease without renewals.
        tokio::time::sleep(Duration::from_secs(7)).await;
        join(&direct, number).await;
        listed.push(number);
        let seen = format!("{hours} h, {listed:?}");
        eventually("its view is etcd's", LONG, || async { said(&seen) }).await;
        assert_eq!(lease_of(&etcd, 1).await, lease);
        assert!(!said("failed"), "{:#?}", process.lines());
    }
    let oldest = process.last_said("oldest").expect("it said how old");
    fault.outcome(format!(
        "same lease, no listing failed, its view followed etcd; {oldest} at most"
    ));
}

on_every_etcd!(
    #[ignore = "slow: run by make test-faults"]
    the_clock_is_set,
);
