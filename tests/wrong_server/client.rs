//! The process that uses the wrong server: a reader, and a member that keeps worker 1 registered.
//! It is a separate process, so that its time, memory, files and log can be measured.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use alluxio_membership::config::{Config, Properties};
use alluxio_membership::error::Error;
use alluxio_membership::etcd::Clusters;
use alluxio_membership::membership::{JoinOptions, Membership};
use alluxio_membership::view::{ClusterView, MemberFilter};
use alluxio_membership::worker::{Worker, WorkerIdentity, WorkerNetAddress};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use crate::common::spawn;

/// The endpoints, and whether there is a user. Set only for the processes of [`client_process`].
const ENDPOINTS: &str = "AXM_TEST_WRONG_ENDPOINTS";
const AUTH: &str = "AXM_TEST_WRONG_AUTH";
/// The prefix of the lines for the test.
const MARK: &str = "> ";

/// How long a call may take.
pub const OPERATION_TIMEOUT: Duration = Duration::from_secs(4);
/// The TTL of the leases.
pub const TTL: Duration = Duration::from_secs(6);

/// The output of the process.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Said {
    /// The worker has joined, or has failed to.
    Joined(Option<String>),
    /// A view that was shown for the first time.
    View(Shown),
    /// The latest reading.
    Read(Outcome),
    /// How a call ended.
    Call { name: String, outcome: Outcome },
    /// All calls of a round have ended.
    Round,
    /// All managers were closed.
    Closed(Outcome),
}

/// How a call ended, and how long it took.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Outcome {
    pub milliseconds: u64,
    /// The view, if the call asked for one.
    pub shown: Option<Shown>,
    pub error: Option<String>,
    /// Whether worker 1 is registered, as far as the process knows.
    pub registered: bool,
}

/// A view: the workers it shows, sorted by name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shown {
    pub version: u64,
    pub live_revision: i64,
    pub ring_revision: i64,
    pub live: Vec<String>,
    pub ring: Vec<String>,
}

impl Shown {
    fn of(view: &ClusterView) -> Shown {
        let names = |filter| {
            let members = view.members(filter).iter();
            let mut names: Vec<String> = members
                .map(|member| member.worker.identity.to_string())
                .collect();
            names.sort_unstable();
            names
        };
        Shown {
            version: view.version(),
            live_revision: view.revisions().live,
            ring_revision: view.revisions().ring,
            live: names(MemberFilter::Live),
            ring: names(MemberFilter::All),
        }
    }
}

/// The process, as its test sees it. It ends when this is dropped.
pub struct ClientProcess {
    child: Child,
    commands: ChildStdin,
    heard: Arc<Mutex<Heard>>,
}

/// What the process has said.
#[derive(Debug, Default)]
pub struct Heard {
    pub said: Vec<Said>,
    /// The lines of its log, and of a panic.
    pub log: Vec<String>,
}

/// What a process uses, from `/proc`.
#[derive(Debug, Clone, Copy)]
pub struct Usage {
    pub cpu: Duration,
    pub resident_kb: u64,
    pub files: usize,
    pub threads: u64,
}

impl ClientProcess {
    pub fn start(endpoints: &[String], auth: bool) -> ClientProcess {
        let mut command = Command::new(std::env::current_exe().expect("this program"));
        command
            .args(["--exact", "client::client_process", "--nocapture"])
            .env(ENDPOINTS, endpoints.join(","))
            .env(AUTH, if auth { "yes" } else { "" })
            .env("RUST_LOG", "info")
            .env("RUST_BACKTRACE", "0")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = spawn(command).expect("start a client");
        let commands = child.stdin.take().expect("a pipe");
        let heard = Arc::<Mutex<Heard>>::default();
        let (output, hears) = (child.stdout.take().expect("a pipe"), heard.clone());
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if let Some(said) = line.strip_prefix(MARK) {
                    let said = serde_json::from_str(said).expect("what was said");
                    hears.lock().said.push(said);
                }
            }
        });
        let (output, hears) = (child.stderr.take().expect("a pipe"), heard.clone());
        std::thread::spawn(move || {
            for line in BufReader::new(output).split(b'\n').map_while(Result::ok) {
                let line = String::from_utf8_lossy(&line).into_owned();
                hears.lock().log.push(line);
            }
        });
        ClientProcess {
            child,
            commands,
            heard,
        }
    }

    /// Calls `look` with everything that the process has printed.
    pub fn heard<T>(&self, look: impl FnOnce(&Heard) -> T) -> T {
        look(&self.heard.lock())
    }

    /// The last reading.
    pub fn reading(&self) -> Option<Outcome> {
        self.heard(|heard| {
            heard.said.iter().rev().find_map(|said| match said {
                Said::Read(outcome) => Some(outcome.clone()),
                _ => None,
            })
        })
    }

    pub fn calls(&self) -> Vec<(String, Outcome)> {
        self.heard(|heard| {
            let calls = heard.said.iter().filter_map(|said| match said {
                Said::Call { name, outcome } => Some((name.clone(), outcome.clone())),
                Said::Closed(outcome) => Some(("close".into(), outcome.clone())),
                _ => None,
            });
            calls.collect()
        })
    }

    pub fn rounds(&self) -> usize {
        self.heard(|heard| {
            let rounds = heard.said.iter();
            rounds.filter(|said| matches!(said, Said::Round)).count()
        })
    }

    /// Starts a round of calls.
    pub fn call(&mut self) {
        writeln!(self.commands, "call").expect("the client runs");
    }

    /// Closes its managers.
    pub fn close(&mut self) {
        // The process may have ended, which is checked elsewhere.
        let _ = writeln!(self.commands, "close");
    }

    pub fn status(&mut self) -> Option<std::process::ExitStatus> {
        self.child.try_wait().expect("wait")
    }

    pub fn usage(&self) -> Usage {
        let folder = format!("/proc/{}", self.child.id());
        let stat = std::fs::read_to_string(format!("{folder}/stat")).unwrap_or_default();
        // The name, in parentheses, may have spaces.
        let fields: Vec<&str> = stat
            .rsplit(')')
            .next()
            .unwrap_or_default()
            .split_whitespace()
            .collect();
        let field = |place: usize| fields.get(place).and_then(|it| it.parse::<u64>().ok());
        // Fields 14 and 15 of proc(5), user and system time, in ticks of 10 ms; 20, threads; 24,
        // resident pages.
        let ticks = field(11).unwrap_or(0) + field(12).unwrap_or(0);
        Usage {
            cpu: Duration::from_millis(ticks * 10),
            resident_kb: field(21).unwrap_or(0) * 4,
            files: std::fs::read_dir(format!("{folder}/fd")).map_or(0, Iterator::count),
            threads: field(17).unwrap_or(0),
        }
    }
}

impl Drop for ClientProcess {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn say(said: &Said) {
    // The test harness captures println!.
    let mut output = std::io::stdout().lock();
    let line = serde_json::to_string(said).expect("JSON");
    // A test that has ended needs nothing.
    let _ = writeln!(output, "\n{MARK}{line}").and_then(|()| output.flush());
}

pub fn worker(number: i64) -> Worker {
    Worker {
        identity: WorkerIdentity::V0(number),
        address: WorkerNetAddress::new(format!("worker{number}")),
    }
}

fn config(endpoints: &str, auth: bool, mode: &str) -> Config {
    let mut properties = Properties::new();
    properties.set("alluxio.worker.membership.manager.type", "ETCD");
    properties.set("alluxio.etcd.endpoints", endpoints);
    if auth {
        properties.set("alluxio.etcd.username", "user");
        properties.set("alluxio.etcd.password", "password");
    }
    let timeout = format!("{}s", OPERATION_TIMEOUT.as_secs());
    let ttl = format!("{}s", TTL.as_secs());
    properties.set("alluxio.worker.failure.detection.timeout", ttl);
    properties.set("alluxio.membership.native.operation.timeout", timeout);
    properties.set("alluxio.membership.native.read.mode", mode);
    Config::from_properties(&properties).expect("a good configuration")
}

async fn timed<T>(
    call: impl Future<Output = Result<T, Error>>,
    shown: impl FnOnce(T) -> Option<Shown>,
    member: &Membership,
) -> Outcome {
    let began = Instant::now();
    let result = call.await;
    let took = began.elapsed();
    let state = member.registration_state(&worker(1).identity);
    let (shown, error) = match result {
        Ok(value) => (shown(value), None),
        Err(error) => (None, Some(error.to_string())),
    };
    Outcome {
        milliseconds: took.as_millis() as u64,
        shown,
        error,
        registered: state
            .is_ok_and(|it| it == Some(alluxio_membership::etcd::RegistrationState::Registered)),
    }
}

/// Not a test: [`ClientProcess`] runs this function.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn client_process() {
    let Ok(endpoints) = std::env::var(ENDPOINTS) else {
        return;
    };
    let auth = std::env::var(AUTH).is_ok_and(|it| !it.is_empty());
    env_logger::init();
    let clusters = Clusters::default();
    let open = |mode| {
        Membership::open_in(&config(&endpoints, auth, mode), &clusters)
            .expect("opening never waits")
    };
    let (reader, strict) = (open("CACHED"), open("LINEARIZABLE"));
    let (member, second) = (open("CACHED"), open("CACHED"));

    let joined = member.join(&worker(1), &JoinOptions::default()).await;
    say(&Said::Joined(joined.err().map(|error| error.to_string())));

    let watching = tokio::spawn({
        let reader = reader.clone();
        async move {
            let mut version = 0;
            loop {
                let changed = reader
                    .wait_for_change(version, Duration::from_secs(3))
                    .await;
                if let Ok(Some(view)) = changed {
                    version = view.version();
                    say(&Said::View(Shown::of(&view)));
                } else {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        }
    });
    let reading = tokio::spawn({
        let (reader, member) = (reader.clone(), member.clone());
        async move {
            loop {
                let shown = |view: Arc<ClusterView>| Some(Shown::of(&view));
                say(&Said::Read(timed(reader.view(), shown, &member).await));
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        }
    });

    let (sender, mut commands) = mpsc::unbounded_channel();
    std::thread::spawn(move || {
        for line in std::io::stdin().lines().map_while(Result::ok) {
            // A test that has ended needs no more lines.
            let _ = sender.send(line);
        }
    });
    while let Some(command) = commands.recv().await {
        if command != "call" {
            break;
        }
        let call = |name: &str, outcome| {
            let name = name.to_owned();
            say(&Said::Call { name, outcome });
        };
        let shown = |view: Arc<ClusterView>| Some(Shown::of(&view));
        call(
            "linearizable view",
            timed(strict.view(), shown, &member).await,
        );
        let (other, options) = (worker(2), JoinOptions::default());
        let join = second.join(&other, &options);
        call("join", timed(join, |()| None, &member).await);
        call("leave", timed(second.leave(), |()| None, &member).await);
        let inspect = timed(reader.inspect(), |_| None, &member).await;
        call("inspect", inspect);
        say(&Said::Round);
    }
    for task in [watching, reading] {
        task.abort();
        // It must print nothing about the closed managers.
        let _ = task.await;
    }
    let close = async {
        let results = tokio::join!(
            reader.close(),
            strict.close(),
            member.close(),
            second.close()
        );
        results.0.and(results.1).and(results.2).and(results.3)
    };
    say(&Said::Closed(timed(close, |()| None, &member).await));
}

/// Waits until the process has ended by itself.
pub async fn ended(client: &mut ClientProcess, deadline: Duration) -> bool {
    let begin = Instant::now();
    while client.status().is_none() {
        if begin.elapsed() > deadline {
            return false;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // Its last output, unless it was killed.
    let all_heard = |client: &ClientProcess| {
        client.heard(|heard| matches!(heard.said.last(), Some(Said::Closed(_))))
    };
    while !all_heard(client) && begin.elapsed() < deadline {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    true
}
