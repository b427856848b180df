//! One mode, tried on one process. These rules must hold:
//!
//! - It does not panic.
//! - No call takes longer than the operation timeout.
//! - It takes less than 5 % of a processor (10 % in a debug build), and logs less than 10 lines, in
//!   10 s. The lines for joins and leaves of the test do not count.
//! - Its memory and its number of open files are bounded.
//! - No view shows a state that the store never had, if that can be noticed.
//! - With a correct endpoint beside the wrong one, views follow the store, calls succeed, and the
//!   worker keeps its lease.
//! - Within 10 s after the server is correct, the views are correct, and the worker is registered.
//! - Every error names an endpoint, and no text is untrue or has characters that control a
//!   terminal.

use std::collections::{BTreeMap, HashSet};
use std::fmt::Write as _;
use std::time::{Duration, Instant};

use alluxio_membership::record;

use crate::client::{ClientProcess, OPERATION_TIMEOUT, Said, Shown, Usage, ended, worker};
use crate::common::EtcdVersion;
use crate::expectations::{self, Expectations, FALSE_TEXTS, Place, Views};
use crate::server::{LIVE, LiveKey, Members, Mode, RING, WrongEtcd};

/// How long the server is wrong.
const WINDOW: Duration = Duration::from_secs(10);
/// The CPU time that a process may use in this time: 5 %. A debug build decodes several times more
/// slowly.
const MOST_CPU: Duration = Duration::from_millis(if cfg!(debug_assertions) { 1_000 } else { 500 });
const MOST_LINES: usize = 9;
const MOST_MEMORY_KB: u64 = 100_000;
const MOST_GROWTH_KB: u64 = 30_000;
const MOST_FILES: usize = 40;
const MOST_THREADS: u64 = 24;
const LONGEST_LINE: usize = 5_000;
/// The time limit of steps that are not measured, on a loaded machine.
const LONG: Duration = Duration::from_secs(60);
/// How much later than its limit a call may end on a loaded machine.
const SLACK: Duration = Duration::from_millis(2_500);

/// The result of a trial.
pub struct Report {
    pub name: String,
    pub problems: Vec<String>,
    pub cpu: Duration,
    pub lines: usize,
    pub recovered: Duration,
    /// What the process logged while the server was wrong.
    pub log: Vec<String>,
    /// The requests that the wrong endpoint received meanwhile.
    pub requests: String,
}

/// Returns the name of a trial.
pub fn name(mode: &Mode, place: Place, version: EtcdVersion) -> String {
    let place = match place {
        Place::Alone => "alone",
        Place::Beside => "beside a right one",
    };
    format!("{} {place}, {version}", mode.name)
}

struct Trial {
    server: WrongEtcd,
    client: ClientProcess,
    expected: Expectations,
    problems: Vec<String>,
}

/// Tries one mode.
pub async fn run(mode: &Mode, place: Place, version: EtcdVersion) -> Report {
    let count = if place == Place::Alone { 1 } else { 2 };
    let server = WrongEtcd::start(version, count, mode.auth).await;
    for number in 3..9 {
        put(&server, number).await;
    }
    let client = ClientProcess::start(&server.endpoints, mode.auth);
    let mut trial = Trial {
        server,
        client,
        expected: expectations::of(&mode.name, place),
        problems: Vec::new(),
    };
    let mut report = Report {
        name: name(mode, place, version),
        problems: Vec::new(),
        cpu: Duration::ZERO,
        lines: 0,
        recovered: Duration::ZERO,
        log: Vec::new(),
        requests: String::new(),
    };
    if trial.reads_what_is_stored(LONG).await.is_some() && trial.is_registered(LONG).await {
        trial.meet(mode, &mut report).await;
    } else {
        let heard = trial.client.heard(|heard| format!("{heard:?}"));
        trial
            .problems
            .push(format!("not ready before the mode: {heard}"));
    }
    report.problems = distinct(trial.problems);
    report
}

async fn put(server: &WrongEtcd, number: i64) {
    let one = worker(number);
    for prefix in [RING, LIVE] {
        let key = format!("{prefix}{}", one.identity);
        server.put(&key, record::encode(&one).as_ref()).await;
    }
}

impl Trial {
    async fn meet(&mut self, mode: &Mode, report: &mut Report) {
        let own_key = self.server.live_key("worker-1").await;
        let requests_before = self.server.counts();
        let log_before = self.client.heard(|heard| heard.log.len());
        let before = self.client.usage();
        let said_before = self.client.heard(|heard| heard.said.len());
        let began = Instant::now();
        self.server.set(&mode.name);

        tokio::time::sleep(Duration::from_secs(1)).await;
        self.server.delete(&format!("{LIVE}worker-4")).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        put(&self.server, 9).await;
        self.client.call();
        if let Some(within) = self.expected.follows
            && self.reads_what_is_stored(within).await.is_none()
        {
            self.wrong_view(&format!("{within:?} after a change")).await;
        }
        tokio::time::sleep(WINDOW.saturating_sub(began.elapsed())).await;

        let window = began.elapsed();
        let after = self.client.usage();
        let log = self.client.heard(|heard| heard.log[log_before..].to_vec());
        let requests_after = self.server.counts();
        report.cpu = after.cpu.saturating_sub(before.cpu);
        report.lines = log.iter().filter(|line| !is_of_a_call(line)).count();
        for (what, count) in requests_after {
            let more = count - requests_before.get(&what).copied().unwrap_or(0);
            if more > 0 {
                let _ = write!(report.requests, "{what} {more}, ");
            }
        }
        report.log = log;
        self.check_use(before, after, report, window);
        if self.expected.keeps_lease {
            let now = self.server.live_key("worker-1").await;
            // On a new lease if the wrong server reports that the old one is gone, but never
            // without its key.
            let created = |key: Option<LiveKey>| key.map(|key| key.create_revision);
            if created(now) != created(own_key) {
                let problem = format!("the worker's key was {own_key:?} and is {now:?}");
                self.problems.push(problem);
            }
        }

        self.server.clear();
        let cleared = Instant::now();
        let deadline = self.expected.recovers;
        if self.reads_what_is_stored(deadline).await.is_none() {
            self.wrong_view(&format!("{deadline:?} after the server is right"))
                .await;
        }
        if !self
            .is_registered(deadline.saturating_sub(cleared.elapsed()))
            .await
        {
            self.problems.push(format!(
                "the worker is not registered {deadline:?} after the server is right: {:?}, {:?}",
                self.server.live_key("worker-1").await,
                self.client.reading(),
            ));
        }
        report.recovered = cleared.elapsed();

        let rounds = Instant::now();
        while self.client.rounds() == 0 && rounds.elapsed() < LONG {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        self.client.close();
        if !ended(&mut self.client, LONG).await {
            self.problems.push("the process does not end".into());
        }
        self.check_calls();
        self.check_texts(mode);
        self.check_views(said_before).await;
    }

    /// Waits until the reader shows the store's content. Returns how long that took.
    async fn reads_what_is_stored(&mut self, within: Duration) -> Option<Duration> {
        let began = Instant::now();
        loop {
            let stored = self.server.members().await;
            if let Some(shown) = self.client.reading().and_then(|it| it.shown)
                && is_same(&shown, &stored)
            {
                return Some(began.elapsed());
            }
            if began.elapsed() > within || self.client.status().is_some() {
                return None;
            }
            tokio::time::sleep(Duration::from_millis(150)).await;
        }
    }

    /// Waits until worker 1 is registered, according to its process and the store.
    async fn is_registered(&mut self, within: Duration) -> bool {
        let began = Instant::now();
        loop {
            let key = self.server.live_key("worker-1").await;
            let is_known = self.client.reading().is_some_and(|it| it.registered);
            if is_known && key.is_some_and(|key| key.lease != 0) {
                return true;
            }
            if began.elapsed() > within || self.client.status().is_some() {
                return false;
            }
            tokio::time::sleep(Duration::from_millis(150)).await;
        }
    }

    async fn wrong_view(&mut self, when: &str) {
        let stored = self.server.members().await;
        let problem = match self.client.reading() {
            Some(it) => match (it.shown, it.error) {
                (Some(shown), _) => format!(
                    "{when} the reader shows live {:?}, all {:?}, the store has live {:?}, all \
                     {:?}",
                    shown.live, shown.ring, stored.live, stored.ring
                ),
                (None, error) => format!("{when} the reader shows nothing: {error:?}"),
            },
            None => format!("{when} the reader has read nothing"),
        };
        self.problems.push(problem);
    }

    fn check_use(&mut self, before: Usage, after: Usage, report: &Report, window: Duration) {
        let windows = window.as_secs_f64() / WINDOW.as_secs_f64();
        let mut must = |fine: bool, problem: String| {
            if !fine {
                self.problems.push(problem);
            }
        };
        let (cpu, lines) = (report.cpu, report.lines);
        must(
            cpu < MOST_CPU.mul_f64(windows),
            format!("{cpu:?} of CPU time in {window:?}"),
        );
        must(
            lines as f64 <= MOST_LINES as f64 * windows,
            format!("{lines} lines of log in {window:?}"),
        );
        let resident = after.resident_kb;
        must(
            resident < MOST_MEMORY_KB && resident < before.resident_kb + MOST_GROWTH_KB,
            format!("{} kB of memory became {resident} kB", before.resident_kb),
        );
        let (files, threads) = (after.files, after.threads);
        must(files < MOST_FILES, format!("{files} files are open"));
        must(threads < MOST_THREADS, format!("{threads} threads run"));
    }

    fn check_calls(&mut self) {
        let readings = self.client.heard(|heard| {
            let readings = heard.said.iter().filter_map(|said| match said {
                Said::Read(outcome) => Some(("view".to_owned(), outcome.clone())),
                _ => None,
            });
            readings.collect::<Vec<_>>()
        });
        let mut unnamed = Vec::new();
        for (name, outcome) in readings.into_iter().chain(self.client.calls()) {
            let took = Duration::from_millis(outcome.milliseconds);
            if took > OPERATION_TIMEOUT + SLACK {
                self.problems.push(format!("{name} took {took:?}"));
            }
            let Some(error) = outcome.error else {
                continue;
            };
            let names_one = self.server.endpoints.iter().any(|url| error.contains(url));
            // Dozens of readings may fail for one reason.
            if !names_one && !unnamed.contains(&error) {
                self.problems
                    .push(format!("{name} names no endpoint: {error}"));
                unnamed.push(error.clone());
            }
            if self.expected.calls_succeed && name != "view" {
                self.problems.push(format!("{name} failed: {error}"));
            }
        }
    }

    fn check_texts(&mut self, mode: &Mode) {
        let mut texts = self.client.heard(|heard| heard.log.clone());
        texts.extend(
            self.client
                .calls()
                .into_iter()
                .filter_map(|(_, it)| it.error),
        );
        for text in texts {
            if text.contains("panicked at") {
                self.problems.push(format!("a panic: {text}"));
            }
            if text.len() > LONGEST_LINE {
                self.problems
                    .push(format!("{} bytes of text: {:.200}", text.len(), text));
            }
            if text
                .chars()
                .any(|it| it.is_control() || matches!(it, '\u{202a}'..='\u{202e}'))
            {
                self.problems.push(format!("control characters: {text:?}"));
            }
            for (untrue, unless) in FALSE_TEXTS {
                let is_true = unless.iter().any(|it| mode.name.starts_with(it));
                if !is_true && text.contains(untrue) {
                    self.problems.push(format!("this is not so: {text}"));
                }
            }
        }
        let status = self.client.status();
        if status.is_none_or(|status| !status.success()) {
            self.problems
                .push(format!("the process ended with {status:?}"));
        }
    }

    /// Checks that every view was the store's.
    async fn check_views(&mut self, since: usize) {
        if self.expected.views == Views::Any {
            return;
        }
        let history = self.server.history().await;
        let shown: Vec<Shown> = self.client.heard(|heard| {
            let views = heard.said[since..].iter().filter_map(|said| match said {
                Said::View(shown) => Some(shown.clone()),
                Said::Read(outcome) => outcome.shown.clone(),
                _ => None,
            });
            views.collect()
        });
        let mut last = None;
        for shown in shown {
            if last.as_ref() == Some(&shown) {
                continue;
            }
            let at = |revision| history.range(..=revision).next_back().map(|(_, it)| it);
            let (live, ring) = (at(shown.live_revision), at(shown.ring_revision));
            let is_right = match self.expected.views {
                Views::Exact => {
                    live.is_some_and(|stored| shown.live == stored.live)
                        && ring.is_some_and(|stored| shown.ring == stored.ring)
                }
                _ => {
                    history.values().any(|stored| shown.live == stored.live)
                        && history.values().any(|stored| shown.ring == stored.ring)
                }
            };
            if !is_right {
                self.problems.push(format!(
                    "a view that the store never had: {shown:?}, at its revisions {live:?}, \
                     {ring:?}"
                ));
            }
            last = Some(shown);
        }
    }
}

fn is_same(shown: &Shown, stored: &Members) -> bool {
    shown.live == stored.live && shown.ring == stored.ring
}

/// Whether this line of the log reports a join or a leave that the test asked for.
fn is_of_a_call(line: &str) -> bool {
    line.contains("Registered worker-2 at") || line.contains("worker-2 has left")
}

/// Returns the problems, at most three of a kind. Problems of a kind begin alike.
fn distinct(problems: Vec<String>) -> Vec<String> {
    let mut kinds = BTreeMap::<String, usize>::new();
    let mut few = Vec::new();
    for problem in problems {
        let kind = problem
            .chars()
            .take(30)
            .filter(|it| !it.is_numeric())
            .collect();
        let count = kinds.entry(kind).or_default();
        *count += 1;
        if *count <= 3 {
            few.push(problem);
        }
    }
    let more = kinds.iter().filter(|(_, count)| **count > 3);
    few.extend(more.map(|(kind, count)| format!("... {} more like: {kind}", count - 3)));
    few
}

/// Lines of a log without their times, each once.
pub fn sample(log: &[String]) -> Vec<&str> {
    let texts = log
        .iter()
        .map(|line| line.split_once(' ').map_or(line.as_str(), |it| it.1));
    let mut seen = HashSet::new();
    texts.filter(|text| seen.insert(*text)).take(10).collect()
}
