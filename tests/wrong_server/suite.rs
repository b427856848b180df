//! Runs the trials, many at a time, because they mostly wait.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::common::EtcdVersion;
use crate::expectations::Place;
use crate::server::{Mode, modes};
use crate::trial::{Report, name, run, sample};

/// How many trials run at once.
const AT_ONCE: usize = 32;

/// One of each kind of wrong answer, for `make test`.
const QUICK: [(&str, Place); 24] = [
    ("status/requests/ResourceExhausted", Place::Beside),
    ("status/requests/PermissionDenied", Place::Alone),
    ("status/watches/OutOfRange", Place::Beside),
    ("status/renewals/Unauthenticated", Place::Beside),
    ("etcd/compacted/reads", Place::Alone),
    ("etcd/lease-not-found/writes", Place::Alone),
    ("range/more-without-keys", Place::Alone),
    ("range/fewer-than-count", Place::Beside),
    ("range/foreign-keys", Place::Alone),
    ("range/pages-for-ever", Place::Alone),
    ("header/none", Place::Alone),
    ("txn/no-responses", Place::Alone),
    ("txn/empty-responses", Place::Beside),
    ("watch/canceled-at-once", Place::Alone),
    ("watch/never-opens", Place::Beside),
    ("watch/fragments-for-ever", Place::Alone),
    ("event/reordered", Place::Alone),
    ("grant/ttl-zero", Place::Alone),
    ("grant/ttl-huge", Place::Alone),
    ("renewal/other-lease", Place::Beside),
    ("auth/token-always-refused", Place::Alone),
    ("transport/http1", Place::Beside),
    ("transport/four-megabytes", Place::Alone),
    ("cluster/by-connection", Place::Alone),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn some_modes() {
    let modes = modes();
    let trials = QUICK.iter().enumerate().map(|(number, (name, place))| {
        let mode = modes.iter().find(|mode| mode.name == *name);
        let mode = mode.unwrap_or_else(|| panic!("no mode {name}")).clone();
        (mode, *place, EtcdVersion::ALL[number % 2])
    });
    try_all(trials.collect()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes minutes; make test-faults runs it"]
async fn all_modes() {
    let wanted = std::env::var("AXM_WRONG_MODES").unwrap_or_default();
    let modes = modes();
    assert!(modes.len() >= 100, "{} modes", modes.len());
    let mut trials = Vec::new();
    for mode in modes {
        if !wanted
            .split(',')
            .any(|beginning| mode.name.starts_with(beginning))
        {
            continue;
        }
        let places = [(mode.alone, Place::Alone), (mode.beside, Place::Beside)];
        let places = places.into_iter().filter(|(is_wanted, _)| *is_wanted);
        for (_, place) in places {
            let versions = EtcdVersion::ALL.into_iter().enumerate();
            // Both versions use each mode. Only watches are trusted in one version and not in the
            // other. Elsewhere one version is tried alone, and the other beside a correct endpoint,
            // if both are possible.
            let all = mode.alone != mode.beside || mode.name.starts_with("event/");
            let chosen =
                versions.filter(|(number, _)| all || (*number == 0) == (place == Place::Alone));
            trials.extend(chosen.map(|(_, version)| (mode.clone(), place, version)));
        }
    }
    try_all(trials).await;
}

async fn try_all(trials: Vec<(Mode, Place, EtcdVersion)>) {
    let began = Instant::now();
    let count = trials.len();
    let turns = Arc::new(Semaphore::new(AT_ONCE));
    let mut running = JoinSet::new();
    for (mode, place, version) in trials {
        let turns = turns.clone();
        running.spawn(async move {
            let _turn = turns.acquire_owned().await.expect("open");
            // A failing server or process is one problem among others.
            let trial = {
                let mode = mode.clone();
                tokio::spawn(async move { run(&mode, place, version).await })
            };
            let report = trial.await.map_err(|failed| {
                let name = name(&mode, place, version);
                format!("{name} ({}): {failed}", mode.what)
            });
            (mode, version, report)
        });
    }
    let mut failures = Vec::new();
    let mut groups = BTreeMap::<(String, String), Vec<Report>>::new();
    while let Some(trial) = running.join_next().await {
        let (mode, version, report) = trial.expect("a trial ends");
        match report {
            Ok(report) => {
                if !report.problems.is_empty() {
                    eprintln!("{}", describe(&mode, &report));
                    failures.push(report.name.clone());
                }
                let group = mode.name.split('/').next().unwrap_or_default().to_owned();
                let group = groups.entry((group, version.to_string())).or_default();
                group.push(report);
            }
            Err(failed) => failures.push(failed),
        }
    }
    for ((group, version), reports) in &groups {
        outcome(group, version, reports, began.elapsed());
    }
    failures.sort_unstable();
    assert!(
        failures.is_empty(),
        "{} of {count} trials failed, in {:?}:\n{}",
        failures.len(),
        began.elapsed(),
        failures.join("\n"),
    );
}

fn describe(mode: &Mode, report: &Report) -> String {
    format!(
        "--- {} ({})\n    {}\n    asked: {}\n    logged: {}",
        report.name,
        mode.what,
        report.problems.join("\n    "),
        report.requests,
        sample(&report.log).join("\n            ")
    )
}

/// Adds a line for a group of modes to the file `$AXM_FAULTS_TABLE`, if that variable is set.
fn outcome(group: &str, version: &str, reports: &[Report], took: Duration) {
    let Some(file) = std::env::var_os("AXM_FAULTS_TABLE") else {
        return;
    };
    let longest = |of: fn(&Report) -> Duration| reports.iter().map(of).max().unwrap_or_default();
    let line = format!(
        "| wrong answers: {group} | {version} | {:.1} s | {} trials; at most {} ms of CPU time and \
         {} lines of log in 10 s; right again after at most {:.1} s |\n",
        took.as_secs_f64(),
        reports.len(),
        longest(|it| it.cpu).as_millis(),
        reports.iter().map(|it| it.lines).max().unwrap_or_default(),
        longest(|it| it.recovered).as_secs_f64(),
    );
    let table = std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(file);
    let mut table = table.expect("open $AXM_FAULTS_TABLE");
    table.write_all(line.as_bytes()).expect("write the table");
}
