//! The tool `alluxio-membership`, as operators and scripts use it.

mod common;
#[path = "tool/nodes.rs"]
mod nodes;
#[path = "tool/operations.rs"]
mod operations;
#[path = "tool/past.rs"]
mod past;

use std::fs;
use std::io::{BufRead, BufReader, PipeReader, PipeWriter, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use alluxio_membership::record;
use alluxio_membership::worker::{Worker, WorkerIdentity, WorkerNetAddress};
use common::tls::Authority;
use common::toxiproxy::{Proxy, Toxiproxy};
use common::{Etcd, EtcdCluster, EtcdOptions, EtcdVersion, eventually, on_every_etcd};
use serde_json::Value;

const TOOL: &str = env!("CARGO_BIN_EXE_alluxio-membership");
const ID1: &str = "worker-00000000-0000-4000-8000-000000000001";
const ID2: &str = "worker-00000000-0000-4000-8000-000000000002";
const HEADER: &str = "WorkerId\tAddress\tStatus\n";
/// The longest wait for something that happens.
const LIMIT: Duration = Duration::from_secs(60);

fn tool() -> Command {
    let mut command = Command::new(TOOL);
    command
        .env_remove("ALLUXIO_HOME")
        .env_remove("ALLUXIO_CONF_DIR")
        .env_remove("CLICOLOR_FORCE")
        .stdin(Stdio::null());
    // The tool inherits the signals that the shell of these tests ignores, such as SIGINT in the
    // background or SIGHUP under nohup.
    // SAFETY: between fork and exec the closure makes only three system calls.
    unsafe {
        command.pre_exec(|| {
            for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP] {
                libc::signal(signal, libc::SIG_DFL);
            }
            Ok(())
        });
    }
    command
}

/// The tool with the properties of the cluster "c" in this etcd.
fn on_etcd(endpoint: &str) -> Command {
    let mut command = tool();
    command.args(options(endpoint));
    command
}

fn options(endpoint: &str) -> Vec<String> {
    [
        "alluxio.worker.membership.manager.type=ETCD".to_owned(),
        format!("alluxio.etcd.endpoints={endpoint}"),
        "alluxio.cluster.name=c".to_owned(),
        // For slow machines. --timeout takes precedence.
        "alluxio.membership.native.operation.timeout=60s".to_owned(),
    ]
    .into_iter()
    .flat_map(|property| ["-D".to_owned(), property])
    .collect()
}

/// Exit status, standard output, standard error.
type Result = (Option<i32>, String, String);

fn run(command: &mut Command) -> Result {
    let output = command.output().expect("the tool runs");
    assert_eq!(output.status.signal(), None, "{command:?}");
    (
        output.status.code(),
        String::from_utf8(output.stdout).expect("UTF-8"),
        String::from_utf8(output.stderr).expect("UTF-8"),
    )
}

#[track_caller]
fn ok(command: &mut Command) -> String {
    let (status, output, error) = run(command);
    assert_eq!(
        (status, error.as_str()),
        (Some(0), ""),
        "{command:?}: {output}"
    );
    output
}

#[track_caller]
fn fails(command: &mut Command, status: i32, text: &str) {
    let (actual, output, error) = run(command);
    assert_eq!(actual, Some(status), "{command:?}: {output}{error}");
    assert!(error.contains(text), "{command:?}: {error}");
    assert_eq!(
        output, "",
        "{command:?}: nothing but data goes to standard output"
    );
}

/// A running tool, which is killed if the test does not end it.
struct Running {
    child: Child,
    lines: mpsc::Receiver<String>,
}

impl Running {
    fn start(command: &mut Command) -> Running {
        let mut child = command
            .stdout(Stdio::piped())
            .spawn()
            .expect("the tool runs");
        let stdout = BufReader::new(child.stdout.take().expect("a pipe"));
        let (sender, lines) = mpsc::channel();
        std::thread::spawn(move || {
            for line in stdout.lines() {
                let Ok(line) = line else { return };
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Running { child, lines }
    }

    fn line(&self) -> String {
        self.lines.recv_timeout(LIMIT).expect("a line of output")
    }

    fn signal(&self, signal: libc::c_int) {
        // SAFETY: kill() takes numbers only; the child is not reaped, so its id is its own.
        unsafe { libc::kill(self.child.id() as libc::pid_t, signal) };
    }

    fn end(&mut self) -> ExitStatus {
        let start = std::time::Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("wait") {
                return status;
            }
            assert!(start.elapsed() < LIMIT, "the tool does not end");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn join(endpoint: &str, id: &str, host: &str) -> Running {
    let mut command = on_etcd(endpoint);
    command.args(["join", "--id", id, "--host", host, "--rpc-port", "29999"]);
    let running = Running::start(&mut command);
    assert_eq!(running.line(), format!("Joined c: {id} at {host}:29999"));
    running
}

on_every_etcd!(a_worker_joins_is_listed_leaves_and_is_removed);

async fn a_worker_joins_is_listed_leaves_and_is_removed(version: EtcdVersion) {
    let etcd = Etcd::start(version).await;
    let endpoint = etcd.endpoint();
    let nodes = |arguments: &[&str]| ok(on_etcd(&endpoint).arg("nodes").args(arguments));
    assert_eq!(nodes(&[]), HEADER);

    let mut one = join(&endpoint, ID1, "host1");
    let mut two = join(&endpoint, ID2, "host2");
    let online = |id: &str, host: &str| format!("{id}\t{host}:29999\tONLINE\n");
    let offline = |id: &str, host: &str| format!("{id}\t{host}:29999\tOFFLINE\n");
    let both = format!("{HEADER}{}{}", online(ID1, "host1"), online(ID2, "host2"));
    assert_eq!(nodes(&[]), both);
    assert_eq!(nodes(&["--live"]), both);
    assert_eq!(nodes(&["--lost"]), HEADER);

    let remove = || {
        let mut command = on_etcd(&endpoint);
        command.arg("remove");
        command
    };
    let running = format!("Can't remove running worker: {ID1}, stop the worker before removing");
    fails(remove().arg(ID1), 1, &running);
    fails(
        remove().arg("worker-7"),
        1,
        "Unrecognized or non-existing worker: worker-7",
    );
    fails(
        remove().arg("seven"),
        2,
        "Unrecognized worker identity string: seven",
    );

    one.signal(libc::SIGTERM);
    assert_eq!(
        one.line(),
        format!("Left after SIGTERM: {ID1} at host1:29999")
    );
    assert_eq!(one.end().code(), Some(0));
    two.signal(libc::SIGINT);
    assert_eq!(two.end().code(), Some(0));
    assert!(etcd.keys("/ServiceDiscovery/").await.is_empty());
    assert!(etcd.leases().await.is_empty());
    let none = format!("{HEADER}{}{}", offline(ID1, "host1"), offline(ID2, "host2"));
    assert_eq!(nodes(&["--lost"]), none);

    // Without a terminal there is no question.
    let removed = ok(remove().arg(format!(" {ID1} ")));
    assert_eq!(removed, format!("Successfully removed worker: {ID1}\n"));
    assert_eq!(nodes(&[]), format!("{HEADER}{}", offline(ID2, "host2")));
}

on_every_etcd!(wide_and_json_show_what_there_is);

async fn wide_and_json_show_what_there_is(version: EtcdVersion) {
    let etcd = Etcd::start(version).await;
    let endpoint = etcd.endpoint();
    let mut command = on_etcd(&endpoint);
    command.args([
        "join",
        "--id",
        ID1,
        "--host",
        "h",
        "--rpc-port",
        "1",
        "--data-port",
        "2",
    ]);
    command.args([
        "--secure-rpc-port",
        "3",
        "--netty-data-port",
        "4",
        "--web-port",
        "5",
    ]);
    command.args([
        "--http-server-port",
        "6",
        "--container-host",
        "k",
        "--domain-socket-path",
        "/s",
    ]);
    let worker = Running::start(&mut command);
    worker.line();

    let (_, wide, footer) = run(on_etcd(&endpoint).args(["nodes", "--wide"]));
    let row: Vec<&str> = wide
        .lines()
        .nth(1)
        .expect("a row")
        .split_whitespace()
        .collect();
    assert_eq!(row[..3], [ID1, "h:1", "ONLINE"]);
    assert_eq!(row[4..], ["2", "4", "3", "5", "6", "k", "/s"]);
    let (left, granted) = row[3].split_once('/').expect("a lease");
    assert_eq!(granted, "120s");
    assert!((1..=120).contains(&left.parse::<i32>().unwrap()), "{wide}");
    let revision = etcd.revision().await;
    assert!(
        footer.contains(&format!("1 live, 0 lost, at revision {revision}, ")),
        "{footer}"
    );

    etcd.put("/DHT/c/AUTHORIZED/broken", "{").await;
    let json = |arguments: &[&str]| -> Value {
        let output = ok(on_etcd(&endpoint).args(arguments));
        serde_json::from_str(&output).expect("JSON")
    };
    let lease = &json(&["nodes", "--json", "--wide"])["workers"][0]["lease"];
    assert_eq!(lease["grantedSeconds"], 120);
    let left = lease["leftSeconds"].as_i64().expect("a number");
    assert!((1..=120).contains(&left), "{left}");
    let json = json(&["nodes", "--json"]);
    assert!(json["ageMs"].is_u64(), "{json}");
    let worker = &json["workers"][0];
    assert!(worker.get("lease").is_none(), "each would cost a request");
    assert_eq!(worker["id"], ID1);
    assert_eq!(worker["status"], "ONLINE");
    let ports = [
        "rpcPort",
        "dataPort",
        "secureRpcPort",
        "nettyDataPort",
        "webPort",
        "httpServerPort",
    ];
    for (port, number) in ports.into_iter().zip(1..) {
        assert_eq!(worker[port], number, "{port}");
    }
    assert_eq!(json["leftOut"][0]["key"], "/DHT/c/AUTHORIZED/broken");
    assert_eq!(json["revision"], etcd.revision().await);

    let (status, output, error) = run(on_etcd(&endpoint).arg("nodes"));
    assert_eq!((status, output.lines().count()), (Some(0), 2));
    assert_eq!(
        error,
        "alluxio-membership: 1 record was left out, see alluxio-membership check\n"
    );
}

#[tokio::test]
async fn watch_prints_changes_and_ends_cleanly() {
    let etcd = Etcd::start(EtcdVersion::V3_4).await;
    let endpoint = etcd.endpoint();
    let mut one = join(&endpoint, ID1, "host1");
    let mut watch = Running::start(on_etcd(&endpoint).args(["nodes", "--watch"]));
    let fields = |line: String| -> Vec<String> { line.split('\t').map(str::to_owned).collect() };
    let present = fields(watch.line());
    assert_eq!(present[1..], ["present", ID1, "host1:29999", "ONLINE"]);
    assert_eq!(
        present[0].len(),
        "2026-01-01T00:00:00.000Z".len(),
        "{present:?}"
    );
    let two = join(&endpoint, ID2, "host2");
    // The worker's two keys are written one after the other.
    let mut added = fields(watch.line());
    assert_eq!(added[1..4], ["added", ID2, "host2:29999"]);
    if added[4] == "OFFLINE" {
        added = fields(watch.line());
        assert_eq!(added[1], "live");
    }
    assert_eq!(added[4], "ONLINE");
    one.signal(libc::SIGTERM);
    one.end();
    assert_eq!(
        fields(watch.line())[1..],
        ["lost", ID1, "host1:29999", "OFFLINE"]
    );

    let mut json = Running::start(on_etcd(&endpoint).args(["nodes", "--watch", "--json"]));
    let line: Value = serde_json::from_str(&json.line()).expect("JSON");
    assert_eq!(
        (&line["change"], &line["worker"]["id"]),
        (&"present".into(), &ID1.into())
    );
    json.signal(libc::SIGTERM);
    assert_eq!(json.end().code(), Some(0));

    ok(on_etcd(&endpoint).args(["remove", ID1]));
    assert_eq!(fields(watch.line())[1..3], ["removed", ID1]);
    watch.signal(libc::SIGINT);
    assert_eq!(watch.end().code(), Some(0));
    drop(two);
}

#[tokio::test]
async fn a_reader_that_goes_away_ends_it_quietly() {
    let etcd = Etcd::start(EtcdVersion::V3_4).await;
    // Nothing changes, so the tool writes nothing.
    for arguments in [&["nodes", "--watch"][..], &["nodes"], &["--help"]] {
        let mut child = on_etcd(&etcd.endpoint())
            .args(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the tool runs");
        drop(child.stdout.take());
        let mut errors = String::new();
        let mut stderr = child.stderr.take().expect("a pipe");
        stderr.read_to_string(&mut errors).expect("UTF-8");
        assert_eq!(
            child.wait().expect("wait").code(),
            Some(0),
            "{arguments:?}: {errors}"
        );
        // On a slow machine the result is a warning.
        let unexpected = errors.lines().find(|line| !line.contains(": warn: "));
        assert_eq!(unexpected, None, "{arguments:?}");
    }
    // The exit status shows the findings, even if no reader gets them.
    for (endpoint, status) in [(etcd.endpoint().as_str(), 0), ("http://127.0.0.1:1", 4)] {
        let mut child = on_etcd(endpoint)
            .arg("check")
            .stdout(Stdio::piped())
            .spawn()
            .expect("the tool runs");
        drop(child.stdout.take());
        assert_eq!(child.wait().expect("wait").code(), Some(status));
    }
    let full = fs::File::create("/dev/full").expect("/dev/full");
    let status = on_etcd(&etcd.endpoint())
        .arg("nodes")
        .stdout(full)
        .stderr(Stdio::null())
        .status();
    assert_eq!(status.expect("the tool runs").code(), Some(1));
}

/// A stored text must not move a cursor, or forge a row or a log line, on terminals, in pipes and
/// in logs. JSON has the whole text.
#[tokio::test]
async fn stored_texts_forge_nothing() {
    let etcd = Etcd::start(EtcdVersion::V3_4).await;
    let hosts = [
        "evil\u{1b}[2J\u{9b}2J",
        "x:1\tONLINE\nworker-9\tfake",
        "\u{202e}txet\u{2028}",
    ];
    for (id, host) in (1..).zip(hosts) {
        let worker = Worker {
            identity: WorkerIdentity::V0(id),
            address: WorkerNetAddress::new(host),
        };
        etcd.put(
            &format!("/DHT/c/AUTHORIZED/worker-{id}"),
            record::encode(&worker),
        )
        .await;
    }
    let forged = "\n2026-01-01T00:00:00Z alluxio-membership: error: FORGED\u{1b}[31m";
    etcd.put(&format!("/ServiceDiscovery/c/worker-7{forged}"), "{")
        .await;
    let tool = |arguments: &[&str]| {
        let mut command = on_etcd(&etcd.endpoint());
        command.args(arguments);
        command
    };
    let rows = [
        "worker-1\tevil\\u{1b}[2J\\u{9b}2J:0\tOFFLINE\n",
        "worker-2\tx:1\\tONLINE\\nworker-9\\tfake:0\tOFFLINE\n",
        "worker-3\t\\u{202e}txet\\u{2028}:0\tOFFLINE\n",
    ];
    let (status, output, _) = run(&mut tool(&["nodes"]));
    assert_eq!(status, Some(0));
    assert_eq!(output, format!("{HEADER}{}", rows.concat()));
    let (_, output) = on_terminal(&tool(&["nodes"]), "");
    assert_eq!(output.matches("OFFLINE").count(), 3, "{output:?}");
    assert!(!output.contains("ONLINE\u{1b}"), "{output:?}");
    for arguments in [
        &["nodes"][..],
        &["nodes", "--wide"],
        &["nodes", "--json"],
        &["nodes", "-vv"],
        &["check"],
        &["check", "--json"],
    ] {
        let (_, output, error) = run(&mut tool(arguments));
        let text = output + &error;
        let acts =
            |c: char| c != '\n' && c != '\t' && (c.is_control() || "\u{202e}\u{2028}".contains(c));
        assert!(!text.contains(acts), "{arguments:?}: {text:?}");
        assert!(
            !text.lines().any(|line| line.starts_with("2026")),
            "{arguments:?}: {text:?}"
        );
    }
    let (_, _, log) = run(&mut tool(&["nodes", "-v"]));
    assert!(
        log.contains("error: FORGED\\u{1b}[31m is not listed"),
        "{log:?}"
    );
    let json: Value = serde_json::from_str(&run(&mut tool(&["nodes", "--json"])).1).expect("JSON");
    for (worker, host) in hosts.iter().enumerate() {
        assert_eq!(json["workers"][worker]["host"], *host);
    }
    let key = format!("/ServiceDiscovery/c/worker-7{forged}");
    assert_eq!(json["leftOut"][0]["key"], key);
}

/// Broken records are shortened, and only counted beyond a hundred.
#[tokio::test]
async fn many_large_broken_records_stay_small() {
    let etcd = Etcd::start(EtcdVersion::V3_4).await;
    let broken = format!(
        "{{WorkerNetAddress:{{RpcPort:'{}'}}}}",
        "\u{1b}".repeat(20_000)
    );
    for record in 0..105 {
        let key = format!("/DHT/c/AUTHORIZED/worker-{record}");
        etcd.put(&key, broken.as_bytes()).await;
    }
    let endpoint = etcd.endpoint();
    let (status, output, error) = run(on_etcd(&endpoint).args(["nodes", "--json"]));
    assert_eq!((status, error.as_str()), (Some(0), ""));
    let json: Value = serde_json::from_str(&output).expect("JSON");
    assert_eq!(json["leftOut"].as_array().map(Vec::len), Some(100));
    assert_eq!(json["leftOutCount"], 105);
    assert!(output.len() < 50_000, "{}", output.len());
    let (_, _, error) = run(on_etcd(&endpoint).args(["nodes"]));
    assert!(error.contains("105 records were left out"), "{error}");
    let (_, output, error) = run(on_etcd(&endpoint).args(["check", "-v"]));
    assert!(output.contains("5 more records are left out"), "{output}");
    assert!(
        output.len() + error.len() < 100_000,
        "{}",
        output.len() + error.len()
    );
}

/// Runs the tool on a separate terminal and types this text.
fn on_terminal(command: &Command, input: &str) -> (Option<i32>, String) {
    line_on_terminal(&line_of(command), input)
}

/// The command for a shell.
fn line_of(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let quoted = words.map(|word| format!("'{}'", word.to_str().expect("UTF-8")));
    quoted.collect::<Vec<_>>().join(" ")
}

fn line_on_terminal(line: &str, input: &str) -> (Option<i32>, String) {
    let mut script = Command::new("script")
        .args(["--quiet", "--return", "--command", line, "/dev/null"])
        .env("SHELL", "/bin/sh")
        .env("TERM", "xterm")
        // CI systems show colours without a terminal.
        .env_remove("CI")
        .env_remove("NO_COLOR")
        .env_remove("CLICOLOR")
        .env_remove("CLICOLOR_FORCE")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("script");
    script
        .stdin
        .take()
        .expect("a pipe")
        .write_all(input.as_bytes())
        .expect("write");
    let output = script.wait_with_output().expect("wait");
    (
        output.status.code(),
        String::from_utf8(output.stdout).expect("UTF-8"),
    )
}

#[tokio::test]
async fn only_terminals_get_colours() {
    let etcd = Etcd::start(EtcdVersion::V3_4).await;
    let endpoint = etcd.endpoint();
    let worker = Worker {
        identity: WorkerIdentity::V0(1),
        address: WorkerNetAddress::new("host1"),
    };
    etcd.put("/DHT/c/AUTHORIZED/worker-1", record::encode(&worker))
        .await;
    let lost = "\u{1b}[31mOFFLINE\u{1b}[0m";
    let ok = "\u{1b}[32mok\u{1b}[0m    workers: 0 live, 1 lost";
    for (arguments, coloured) in [
        (&["nodes"][..], lost),
        (&["nodes", "--wide"], lost),
        (&["check"], ok),
        (&["nodes", "--help"], "\u{1b}["),
    ] {
        let mut tool = on_etcd(&endpoint);
        let line = line_of(tool.args(arguments));
        let (_, output) = line_on_terminal(&line, "");
        assert!(output.contains(coloured), "{arguments:?}: {output:?}");
        for line in [
            format!("NO_COLOR=1 {line}"),
            format!("TERM=dumb {line}"),
            format!("{line} | cat"),
        ] {
            let (_, output) = line_on_terminal(&line, "");
            assert!(!output.contains('\u{1b}'), "{line}: {output:?}");
            assert!(!output.is_empty(), "{line}");
        }
    }
}

#[tokio::test]
async fn remove_asks_on_a_terminal() {
    let etcd = Etcd::start(EtcdVersion::V3_4).await;
    let endpoint = etcd.endpoint();
    let mut one = join(&endpoint, ID1, "host1");
    let mut remove = on_etcd(&endpoint);
    remove.args(["remove", ID1]);
    // A live worker cannot be removed, so the tool does not ask.
    let (status, output) = on_terminal(&remove, "y\n");
    assert_eq!(status, Some(1));
    assert!(
        output.contains("Can't remove running worker") && !output.contains("[y/N]"),
        "{output}"
    );

    one.signal(libc::SIGTERM);
    one.end();
    let question = format!("Remove {ID1} (host1:29999, OFFLINE) from cluster c? [y/N] ");
    for answer in ["n\n", "\n", "\u{4}"] {
        let (status, output) = on_terminal(&remove, answer);
        assert_eq!(status, Some(1), "{output}");
        assert!(
            output.contains(&question) && output.contains("Nothing was removed."),
            "{output}"
        );
    }
    // The question goes to the terminal, wherever the output goes.
    for elsewhere in ["2>/dev/null", ">/dev/null 2>&1"] {
        let line = format!("{} {elsewhere}", line_of(&remove));
        let (status, output) = line_on_terminal(&line, "n\n");
        assert_eq!(status, Some(1), "{output}");
        assert!(output.contains(&question), "{output}");
    }
    let (status, output) = on_terminal(&remove, "y\n");
    assert_eq!(status, Some(0), "{output}");
    assert!(output.contains(&question), "{output}");
    assert!(
        output.contains(&format!("Successfully removed worker: {ID1}")),
        "{output}"
    );

    let mut two = join(&endpoint, ID2, "host2");
    two.signal(libc::SIGTERM);
    two.end();
    let mut remove = on_etcd(&endpoint);
    remove.args(["remove", "--yes", ID2]);
    let (status, output) = on_terminal(&remove, "");
    assert_eq!(
        (status, output.contains("[y/N]")),
        (Some(0), false),
        "{output}"
    );
    assert!(!output.contains('\u{1b}'), "no colours");
}

#[tokio::test]
async fn a_hangup_is_a_signal_unless_it_is_ignored() {
    let etcd = Etcd::start(EtcdVersion::V3_4).await;
    let endpoint = etcd.endpoint();
    let mut worker = join(&endpoint, ID1, "host1");
    worker.signal(libc::SIGHUP);
    assert_eq!(
        worker.line(),
        format!("Left after SIGHUP: {ID1} at host1:29999")
    );
    assert_eq!(worker.end().code(), Some(0));

    let mut nohup = Command::new("nohup");
    nohup.arg(TOOL).args(options(&endpoint));
    nohup.args([
        "join",
        "--id",
        ID1,
        "--host",
        "host1",
        "--rpc-port",
        "29999",
    ]);
    let mut worker = Running::start(nohup.stdin(Stdio::null()));
    worker.line();
    worker.signal(libc::SIGHUP);
    worker.signal(libc::SIGTERM);
    assert_eq!(
        worker.line(),
        format!("Left after SIGTERM: {ID1} at host1:29999")
    );
    assert_eq!(worker.end().code(), Some(0));
}

#[tokio::test]
async fn a_second_signal_does_not_wait_for_a_slow_etcd() {
    let etcd = Etcd::start(EtcdVersion::V3_4).await;
    let mut command = on_etcd(&etcd.endpoint());
    command.args(["join", "--id", ID1, "--host", "h", "--rpc-port", "1"]);
    command.args(["--timeout", "1h"]);
    let mut worker = Running::start(command.stderr(Stdio::piped()));
    worker.line();
    etcd.pause();
    worker.signal(libc::SIGTERM);
    // Whichever of the two processes joins second. etcd would take an hour.
    worker.signal(libc::SIGINT);
    assert_eq!(worker.end().code(), Some(1));
    let mut errors = String::new();
    let mut stderr = worker.child.stderr.take().expect("a pipe");
    stderr.read_to_string(&mut errors).expect("UTF-8");
    assert!(errors.contains(" while leaving: "), "{errors}");
}

#[tokio::test]
async fn another_process_with_the_same_identity_is_told_of_once() {
    let etcd = Etcd::start(EtcdVersion::V3_4).await;
    let mut command = on_etcd(&etcd.endpoint());
    command.args(["-v", "join", "--id", ID1, "--host", "h", "--rpc-port", "1"]);
    let folder = tempfile::tempdir().expect("a folder");
    let log = folder.path().join("log");
    let mut worker = Running::start(command.stderr(fs::File::create(&log).expect("a file")));
    worker.line();
    let (ring_key, live_key) = (
        format!("/DHT/c/AUTHORIZED/{ID1}"),
        format!("/ServiceDiscovery/c/{ID1}"),
    );
    let record = etcd.get(&live_key).await.expect("joined");
    let foreign = etcd.grant_lease(600).await;
    // The tool notices each deletion before the next one: the restored ring key shows it.
    for _ in 0..2 {
        etcd.put_on_lease(&live_key, record.value(), foreign).await;
        assert!(etcd.delete(&ring_key).await);
        eventually("the ring key is back", LIMIT, || async {
            etcd.get(&ring_key).await.is_some()
        })
        .await;
    }
    etcd.revoke_lease(foreign).await;
    let count = |text| {
        let log = fs::read_to_string(&log).expect("UTF-8");
        log.matches(text).count()
    };
    eventually("registered again", LIMIT, || async {
        count("Registered worker-") > 1
    })
    .await;
    worker.signal(libc::SIGTERM);
    assert_eq!(worker.end().code(), Some(0));
    assert_eq!(count("Another process has registered"), 1);
}

/// A join that etcd refused does not leave, and reports nothing about the worker that has the
/// identity.
#[tokio::test]
async fn a_refused_join_does_not_say_that_it_left() {
    let etcd = Etcd::start(EtcdVersion::V3_6).await;
    let join = |host: &str| {
        let mut command = on_etcd(&etcd.endpoint());
        command.args(["-v", "join", "--id", ID1, "--host", host, "--rpc-port", "1"]);
        command
    };
    let mut healthy = join("healthy");
    let healthy = Running::start(healthy.stderr(Stdio::null()));
    healthy.line();
    let (status, _, error) = run(&mut join("other"));
    assert_eq!(status, Some(1), "{error}");
    assert!(error.contains("healthy"), "{error}");
    for wrong in ["has left", "is Left"] {
        assert!(!error.contains(wrong), "{error}");
    }
}

#[tokio::test]
async fn each_quarantine_that_is_logged_is_followed_by_its_end() {
    let etcd = Etcd::start(EtcdVersion::V3_6).await;
    let toxiproxy = Toxiproxy::start().await;
    let proxies = [toxiproxy.to(&etcd), toxiproxy.to(&etcd)];
    let folder = tempfile::tempdir().expect("a folder");
    let log = folder.path().join("log");
    let endpoints = proxies.each_ref().map(|proxy| proxy.endpoint()).join(",");
    let mut command = on_etcd(&endpoints);
    command.args(["-v", "join", "--id", ID1, "--host", "h", "--rpc-port", "1"]);
    let worker = Running::start(command.stderr(fs::File::create(&log).expect("a file")));
    worker.line();
    let count = |text: &str| {
        let log = fs::read_to_string(&log).expect("UTF-8");
        log.matches(text).count()
    };
    proxies.iter().for_each(Proxy::cut);
    eventually("both are quarantined", LIMIT, async || {
        let is_quarantined = |proxy: &Proxy| {
            count(&format!("{}: ", proxy.endpoint())) > 0 && count("quarantined") > 1
        };
        proxies.iter().all(is_quarantined)
    })
    .await;
    proxies.iter().for_each(Proxy::heal);
    for purpose in ["requests", "watches", "listings", "renewals"] {
        eventually(
            &format!("quarantine for {purpose} ends"),
            LIMIT,
            async || {
                count(&format!("quarantined for {purpose} until"))
                    == count(&format!("answers again: it is used for {purpose}"))
            },
        )
        .await;
    }
}

#[tokio::test]
async fn watching_ends_on_a_signal_while_its_reader_stalls() {
    let etcd = Etcd::start(EtcdVersion::V3_4).await;
    for number in 0..50 {
        let worker = Worker {
            identity: WorkerIdentity::V0(number),
            address: WorkerNetAddress::new("h".repeat(2_000)),
        };
        let key = format!("/DHT/c/AUTHORIZED/{}", worker.identity);
        etcd.put(&key, record::encode(&worker)).await;
    }
    let mut command = on_etcd(&etcd.endpoint());
    command.args(["nodes", "--watch"]).stdout(Stdio::piped());
    let mut child = command.spawn().expect("the tool runs");
    let pipe = child.stdout.take().expect("a pipe");
    let (_, lines) = mpsc::channel();
    let mut watch = Running { child, lines };
    eventually("the pipe is full", LIMIT, || async {
        let mut waiting: libc::c_int = 0;
        // SAFETY: the pipe is open, and FIONREAD writes one int.
        let (size, told) = unsafe {
            (
                libc::fcntl(pipe.as_raw_fd(), libc::F_GETPIPE_SZ),
                libc::ioctl(pipe.as_raw_fd(), libc::FIONREAD, &mut waiting),
            )
        };
        assert_eq!(told, 0);
        waiting == size
    })
    .await;
    watch.signal(libc::SIGTERM);
    assert_eq!(watch.end().code(), Some(0));
}

/// A full pipe, until someone reads it.
fn full_pipe() -> (PipeReader, PipeWriter) {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    let set_flags = |flags: libc::c_int| {
        // SAFETY: the pipe is open, and F_SETFL takes a number.
        let set = unsafe { libc::fcntl(writer.as_raw_fd(), libc::F_SETFL, flags) };
        assert_eq!(set, 0);
    };
    set_flags(libc::O_NONBLOCK);
    while (&writer).write(b"x").is_ok() {}
    set_flags(0);
    (reader, writer)
}

#[tokio::test]
async fn a_worker_stays_while_nobody_reads_its_messages() {
    let etcd = Etcd::start(EtcdVersion::V3_4).await;
    let (_stalled, stderr) = full_pipe();
    let mut command = on_etcd(&etcd.endpoint());
    command.args(["-v", "-D", "alluxio.worker.failure.detection.timeout=5s"]);
    command.args(["join", "--host", "h", "--rpc-port", "1", "--id", ID1]);
    let mut worker = Running::start(command.stderr(stderr));
    worker.line();
    eventually("the lease is renewed", LIMIT, || async {
        let renewals = "grpc_server_msg_received_total";
        etcd.metric(renewals, &["LeaseKeepAlive"]) >= 5
    })
    .await;
    assert_eq!(etcd.keys("/ServiceDiscovery/").await.len(), 1);
    worker.signal(libc::SIGTERM);
    assert_eq!(worker.end().code(), Some(0));
    assert!(etcd.keys("/ServiceDiscovery/").await.is_empty());
}

#[tokio::test]
async fn identity_files_are_alluxios() {
    let etcd = Etcd::start(EtcdVersion::V3_4).await;
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("worker_identity");
    let mut ids = Vec::new();
    for _ in 0..2 {
        let mut command = on_etcd(&etcd.endpoint());
        command
            .args(["join", "--host", "h", "--rpc-port", "1", "--identity-file"])
            .arg(&file);
        let mut worker = Running::start(&mut command);
        ids.push(worker.line());
        worker.signal(libc::SIGTERM);
        assert_eq!(worker.end().code(), Some(0));
    }
    assert_eq!(ids[0], ids[1], "the file keeps the identity");
    let text = fs::read_to_string(&file).expect("the file");
    assert!(
        text.starts_with("# Worker identity automatically generated at "),
        "{text}"
    );
    let uuid = text.lines().nth(1).expect("a line");
    assert!(ids[0].contains(&format!("worker-{uuid} at")), "{ids:?}");

    // Another worker takes the identity, so another address is refused.
    let mut command = on_etcd(&etcd.endpoint());
    command
        .args([
            "join",
            "--host",
            "other",
            "--rpc-port",
            "1",
            "--identity-file",
        ])
        .arg(&file);
    fails(
        &mut command,
        1,
        "Some other member with same id registered on the ring, bail.",
    );
    fails(
        on_etcd(&etcd.endpoint()).args([
            "join",
            "--host",
            "h",
            "--rpc-port",
            "1",
            "--identity-file",
            "/dev/null",
        ]),
        1,
        "/dev/null: the file has no line with a UUID",
    );
}

#[tokio::test]
async fn leaving_can_be_left_out() {
    let etcd = Etcd::start(EtcdVersion::V3_4).await;
    let mut command = on_etcd(&etcd.endpoint());
    command.args(["-D", "alluxio.membership.native.leave.on.shutdown=false"]);
    command.args(["join", "--host", "h", "--rpc-port", "1", "--id", ID1]);
    let mut worker = Running::start(&mut command);
    worker.line();
    worker.signal(libc::SIGTERM);
    assert_eq!(worker.end().code(), Some(0));
    assert_eq!(etcd.keys("/ServiceDiscovery/").await.len(), 1);
}

/// Returns the exit status and the output of `check --json`.
fn check_json(command: &mut Command) -> (i32, Value) {
    let (status, output, error) = run(command.args(["check", "--json"]));
    assert_eq!(error, "");
    let json: Value = serde_json::from_str(&output).expect("JSON");
    assert_eq!(json["exitStatus"], status.expect("a status"));
    (status.expect("a status"), json)
}

/// Returns the exit status, and the verdict, subject and text of each finding.
fn check(command: &mut Command) -> (i32, Vec<(String, String, String)>) {
    let (status, json) = check_json(command);
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    let findings = json["findings"].as_array().expect("findings").iter();
    let findings = findings
        .map(|row| {
            (
                text(&row["verdict"]),
                text(&row["subject"]),
                text(&row["text"]),
            )
        })
        .collect();
    (status, findings)
}

on_every_etcd!(check_finds_what_is_wrong);

async fn check_finds_what_is_wrong(version: EtcdVersion) {
    let etcd = Etcd::start(version).await;
    let endpoint = etcd.endpoint();
    let (status, findings) = check(&mut on_etcd(&endpoint));
    assert_eq!(status, 0, "{findings:?}");
    let about = &findings[0];
    assert_eq!(about.1, format!("endpoint {endpoint}"));
    assert!(
        about.2.starts_with("etcd 3.") && about.2.contains(", leader, revision "),
        "{about:?}"
    );
    assert!(about.2.ends_with("; plain text, no user"), "{about:?}");
    assert!(
        etcd.leases().await.is_empty(),
        "the lease of the check is gone"
    );

    let worker = join(&endpoint, ID1, "host1");
    etcd.put("/ServiceDiscovery/c/broken", "no JSON").await;
    etcd.put("/DHT/other/AUTHORIZED/x", "{}").await;
    etcd.put(&format!("/ServiceDiscovery/c/{ID2}"), "{}").await;
    let dead = "http://127.0.0.1:1";
    let (status, findings) = check(&mut on_etcd(&format!("{endpoint},{dead}")));
    assert_eq!(status, 6, "{findings:?}");
    let found = |verdict: &str, subject: &str, text: &str| {
        let found = findings
            .iter()
            .any(|(v, s, t)| v == verdict && s == subject && t.contains(text));
        assert!(found, "{verdict} {subject} {text}: {findings:?}");
    };
    found("look", &format!("endpoint {dead}"), "refused");
    found("look", "record /ServiceDiscovery/c/broken", "left out: ");
    found("look", ID2, "on no lease");
    found("ok", "cluster c", "1 registered, 3 live");
    found("ok", "cluster other", "1 registered, 0 live");
    found("ok", "workers", "1 live, 0 lost");
    drop(worker);

    let (status, findings) =
        check(on_etcd(&endpoint).args(["-D", "alluxio.worker.failure.detection.timeout=1s"]));
    assert_eq!(status, 6);
    assert!(
        findings
            .iter()
            .any(|(_, s, t)| s == "lease" && t.starts_with("etcd grants 2 s instead of the 1 s")),
        "{findings:?}"
    );

    let (status, findings) = check(on_etcd(dead).args(["--timeout", "3s"]));
    assert_eq!((status, findings.len()), (4, 1), "{findings:?}");
    let (status, output, _) = run(on_etcd(dead).arg("check"));
    assert_eq!(status, Some(4));
    assert!(
        output.starts_with("BAD   endpoint http://127.0.0.1:1: "),
        "{output}"
    );
}

on_every_etcd!(check_tells_programs_in_numbers);

async fn check_tells_programs_in_numbers(version: EtcdVersion) {
    let etcd = Etcd::start(version).await;
    let endpoint = etcd.endpoint();
    let worker = join(&endpoint, ID1, "host1");
    let (status, json) = check_json(&mut on_etcd(&format!("{endpoint},http://127.0.0.1:1")));
    assert_eq!(status, 6, "{json}");
    let member = &json["endpoints"][0];
    assert_eq!(member["url"], endpoint);
    let text = |name: &str| {
        member[name]
            .as_str()
            .unwrap_or_else(|| panic!("{name}: {json}"))
    };
    assert!(text("version").starts_with("3."), "{json}");
    assert_eq!(text("role"), "leader");
    assert_eq!(text("leader"), text("memberId"));
    assert_eq!(member["revision"], etcd.revision().await);
    assert!(member["latencyMs"].as_f64().expect("a number") > 0.0);
    assert!(member["dbSize"].as_u64().expect("a number") > 0);
    assert!(member["raftIndex"].as_u64().expect("a number") > 0);
    assert_eq!(member["clockSkewMs"], 0, "the same machine");
    for nothing in ["tls", "user", "error"] {
        assert_eq!(member[nothing], Value::Null, "{nothing}");
    }
    let dead = &json["endpoints"][1];
    assert_eq!(dead["version"], Value::Null);
    assert!(dead["error"].as_str().expect("a text").contains("refused"));
    assert_eq!(json["lease"]["wantedSeconds"], 120);
    assert_eq!(json["lease"]["grantedSeconds"], 120);
    assert_eq!(json["workers"]["live"], 1);
    assert_eq!(json["clusters"][0]["name"], "c");
    // Debian's etcd 3.4 is old enough to lose changes.
    let mut findings = json["findings"].as_array().expect("findings").iter();
    let advises = findings.any(|finding| finding["text"].to_string().contains("18089"));
    assert_eq!(advises, version == EtcdVersion::V3_4, "{json}");
    drop(worker);
}

/// A silent endpoint must not change the results for the others.
#[tokio::test]
async fn check_keeps_its_time_when_an_endpoint_is_silent() {
    let etcd = Etcd::start(EtcdVersion::V3_4).await;
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let silent = format!("http://{}", silent.local_addr().expect("a port"));
    let endpoint = etcd.endpoint();
    // One success is enough: on a busy machine etcd itself may be too slow.
    eventually(
        "only the silent endpoint is complained of",
        LIMIT,
        || async {
            let mut command = on_etcd(&format!("{silent},{endpoint}"));
            let (status, findings) = check(command.args(["--timeout", "3s"]));
            let complaints: Vec<_> = findings.iter().filter(|(v, _, _)| v != "ok").collect();
            let [(verdict, subject, text)] = complaints[..] else {
                return false;
            };
            let is_of_silent =
                (verdict.as_str(), subject) == ("look", &format!("endpoint {silent}"));
            is_of_silent && text.starts_with("no answer within 1") && status == 6
        },
    )
    .await;
}

/// The endpoint answers, but no worker can join and no client can list.
#[tokio::test]
async fn check_tells_a_lost_majority_from_a_dead_etcd() {
    let etcd = EtcdCluster::start(EtcdVersion::V3_4, 3).await;
    let endpoints = etcd.endpoints();
    etcd.members()[1..].iter().for_each(Etcd::kill);
    let (status, findings) = check(&mut on_etcd(&endpoints.join(",")));
    assert_eq!(status, 4, "{findings:?}");
    let texts = |endpoint: &str| -> Vec<&str> {
        let about = findings.iter().filter(|(verdict, subject, _)| {
            verdict == "bad" && *subject == format!("endpoint {endpoint}")
        });
        about.map(|(_, _, text)| text.as_str()).collect()
    };
    let alone = texts(&endpoints[0]);
    assert!(
        alone[0].starts_with("etcd 3.4.")
            && alone[0].contains(" answers (plain text, no user), but: "),
        "{findings:?}"
    );
    assert!(
        findings
            .iter()
            .any(|(_, _, text)| text == "it has no leader"),
        "{findings:?}"
    );
    for dead in &endpoints[1..] {
        assert!(texts(dead)[0].contains("refused"), "{findings:?}");
    }
}

/// Passes every connection to etcd, but answers HTTP requests itself.
fn with_the_time_of(etcd: u16, date: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("a port"));
    let serve = move |mut client: TcpStream| -> std::io::Result<()> {
        let mut first = [0; 3];
        while client.peek(&mut first)? < first.len() {}
        if &first == b"GET" {
            write!(
                client,
                "HTTP/1.1 200 OK\r\nDate: {date}\r\nContent-Length: 0\r\n\r\n"
            )?;
            // Until the client has read the answer and closes.
            return std::io::copy(&mut client, &mut std::io::sink()).map(|_| ());
        }
        let server = TcpStream::connect(("127.0.0.1", etcd))?;
        let (mut from_server, mut to_client) = (server.try_clone()?, client.try_clone()?);
        std::thread::spawn(move || std::io::copy(&mut from_server, &mut to_client));
        std::io::copy(&mut client, &mut &server).map(|_| ())
    };
    std::thread::spawn(move || {
        for client in listener.incoming().map_while(std::io::Result::ok) {
            std::thread::spawn(move || serve(client));
        }
    });
    url
}

#[tokio::test]
async fn check_compares_clocks() {
    let etcd = Etcd::start(EtcdVersion::V3_4).await;
    for (date, which, sign) in [
        ("Mon, 01 Jan 2001 00:00:00 GMT", "behind", -1),
        ("Fri, 01 Jan 2100 00:00:00 GMT", "ahead of", 1),
    ] {
        let endpoint = with_the_time_of(etcd.port(), date);
        let (status, json) = check_json(&mut on_etcd(&endpoint));
        assert_eq!(status, 6, "{json}");
        let skew = json["endpoints"][0]["clockSkewMs"].as_i64();
        assert_eq!(skew.expect("a number").signum(), sign);
        let text = json["findings"][1]["text"].as_str().expect("a text");
        assert!(
            text.starts_with("its clock is ")
                && text.contains(&format!(" s {which} this machine's: ")),
            "{text}"
        );
    }
    // A server that does not send its time is not asked for it.
    let endpoint = with_the_time_of(etcd.port(), "who knows");
    let (status, json) = check_json(&mut on_etcd(&endpoint));
    assert_eq!(status, 0, "{json}");
    assert_eq!(json["endpoints"][0]["clockSkewMs"], Value::Null);
}

on_every_etcd!(check_shows_tls);

async fn check_shows_tls(version: EtcdVersion) {
    let authority = Authority::new();
    let certificate = authority.issue("etcd-0", &["127.0.0.1"]);
    let etcd = Etcd::start_with(EtcdOptions::new(version).tls(&certificate)).await;
    let endpoint = etcd.tls_endpoint("127.0.0.1");
    let with_tls = |endpoint: &str| {
        let mut command = on_etcd(endpoint);
        command.args(["-D", "alluxio.etcd.tls.enabled=true", "-D"]);
        command.arg(format!("alluxio.etcd.tls.ca.cert={}", authority.file()));
        command
    };
    let (status, findings) = check(&mut with_tls(&endpoint));
    assert_eq!(status, 0, "{findings:?}");
    let subject = format!("endpoint {endpoint}");
    let text = "TLS 1.3, its certificate (CN=etcd-0) expires 2099-12-31T00:00:00Z";
    let shown = ("ok".to_owned(), subject, text.to_owned());
    assert!(findings.contains(&shown), "{findings:?}");
    let authority_ends = (
        "ok",
        "authority CN=authority",
        "expires 2099-12-31T00:00:00Z",
    );
    let is_authority = |(verdict, subject, text): &(String, String, String)| {
        (verdict.as_str(), subject.as_str(), text.as_str()) == authority_ends
    };
    assert!(findings.iter().any(is_authority), "{findings:?}");
    let about = &findings[0].2;
    assert!(about.ends_with("; TLS 1.3, no user"), "{about}");
    let member = &check_json(&mut with_tls(&endpoint)).1["endpoints"][0];
    assert_eq!(member["tls"]["version"], "TLS 1.3");
    assert_eq!(member["tls"]["serverCertificate"]["subject"], "CN=etcd-0");
    assert_eq!(member["clockSkewMs"], 0, "{member}");

    // The library continues with the other endpoint.
    let by_name = etcd.tls_endpoint("localhost");
    let (status, findings) = check(&mut with_tls(&format!("{endpoint},{by_name}")));
    assert_eq!(status, 6, "{findings:?}");
    let wrong_name = |(verdict, subject, text): &(String, String, String)| {
        verdict == "look"
            && *subject == format!("endpoint {by_name}")
            && text.contains("not valid for name")
    };
    assert!(findings.iter().any(wrong_name), "{findings:?}");

    let plain = endpoint.replace("https:", "http:");
    let (status, findings) = check(on_etcd(&plain).args(["--timeout", "3s"]));
    assert_eq!(status, 4, "{findings:?}");
    assert!(
        findings[0].2.contains("alluxio.etcd.tls.enabled"),
        "{findings:?}"
    );
    let no_file = ["-D", "alluxio.etcd.tls.ca.cert=/no/such/file", "nodes"];
    fails(
        with_tls(&endpoint).args(no_file),
        3,
        "alluxio.etcd.tls.ca.cert",
    );
}

on_every_etcd!(every_command_warns_about_safety);

async fn every_command_warns_about_safety(version: EtcdVersion) {
    let authority = Authority::new();
    let certificate = authority.issue("etcd-0", &["127.0.0.1"]);
    let etcd = Etcd::start_with(EtcdOptions::new(version).tls(&certificate)).await;
    let ca = format!("alluxio.etcd.tls.ca.cert={}", authority.file());
    let https = etcd.endpoint().replace("http:", "https:");
    let (on, off) = (
        "alluxio.etcd.tls.enabled=true",
        "alluxio.etcd.tls.enabled=false",
    );
    let unchecked = "alluxio.etcd.tls.client.no.endpoint.identification=true";
    let tls = etcd.tls_endpoint("127.0.0.1");
    for (endpoint, properties, warning) in [
        (&https, vec![], "in plain text"),
        (
            &https,
            vec![ca.as_str(), off],
            "alluxio.etcd.tls.ca.cert has no effect",
        ),
        (&tls, vec![ca.as_str(), on, unchecked], "may be etcd, since"),
    ] {
        for command in [
            vec!["nodes"],
            vec!["check"],
            vec!["remove", "--yes", "worker-1"],
        ] {
            let mut tool = on_etcd(endpoint);
            for property in &properties {
                tool.args(["-D", property]);
            }
            let output = tool.args(&command).output().expect("run the tool");
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(said.contains(warning), "{command:?}: {said}");
        }
    }
    // A password is not sent in plain text unless the configuration demands it.
    let user = ["alluxio.etcd.username=u", "-D", "alluxio.etcd.password=p"];
    let asked_for = "alluxio.etcd.tls.enabled is not set";
    fails(
        on_etcd(&https).arg("-D").args(user).arg("nodes"),
        3,
        asked_for,
    );
}

on_every_etcd!(credentials_are_told_apart);

async fn credentials_are_told_apart(version: EtcdVersion) {
    let etcd = Etcd::start_with(EtcdOptions::new(version).root_password("secret")).await;
    let as_root = |password: &str| {
        let mut command = on_etcd(&etcd.endpoint());
        command.args(["-D", "alluxio.etcd.username=root", "-D"]);
        command.arg(format!("alluxio.etcd.password={password}"));
        command
    };
    assert_eq!(ok(as_root("secret").arg("nodes")), HEADER);
    let (status, findings) = check(&mut as_root("secret"));
    assert_eq!(status, 0, "{findings:?}");
    let about = &findings[0].2;
    assert!(about.ends_with("; plain text, as user root"), "{about}");
    fails(as_root("wrong").arg("nodes"), 5, "alluxio.etcd.password");
    let (status, findings) = check(&mut as_root("wrong"));
    assert_eq!(status, 5, "{findings:?}");
    assert!(!format!("{findings:?}").contains("wrong"), "no passwords");
    fails(
        on_etcd(&etcd.endpoint()).arg("nodes"),
        5,
        "check alluxio.etcd.username",
    );
    assert_eq!(check(&mut on_etcd(&etcd.endpoint())).0, 5);

    etcd.disable_auth().await;
    let (status, findings) = check(&mut as_root("secret"));
    assert_eq!(status, 0, "{findings:?}");
    let about = &findings[0].2;
    assert!(
        about.ends_with("; plain text, user root, but etcd works without users"),
        "{about}"
    );
}

fn static_site(folder: &Path) {
    fs::create_dir_all(folder.join("conf")).expect("a folder");
    fs::write(folder.join("workers"), "host1\n").expect("a file");
    let site = format!(
        "alluxio.worker.membership.manager.type=STATIC\n\
         alluxio.worker.static.membership.manager.config.file={}\n\
         alluxio.worker.rpc.port=7\n",
        folder.join("workers").display()
    );
    fs::write(folder.join("conf/alluxio-site.properties"), site).expect("a file");
}

#[test]
fn the_configuration_comes_from_where_alluxio_has_it() {
    let folder = tempfile::tempdir().expect("a folder");
    static_site(folder.path());
    let conf = folder.path().join("conf");
    let site = conf.join("alluxio-site.properties");
    let rows = ok(tool().args(["nodes", "--conf"]).arg(&site));
    assert!(
        rows.starts_with(HEADER) && rows.ends_with("\thost1:7\tN/A\n"),
        "{rows}"
    );
    assert_eq!(ok(tool().arg("--conf").arg(&site).arg("nodes")), rows);
    assert_eq!(
        ok(tool().arg("nodes").env("ALLUXIO_HOME", folder.path())),
        rows
    );
    assert_eq!(ok(tool().arg("nodes").env("ALLUXIO_CONF_DIR", &conf)), rows);
    let by_option = format!("alluxio.conf.dir={}", conf.display());
    assert_eq!(ok(tool().args(["nodes", "-D", &by_option])), rows);
    let eight = ok(tool()
        .args(["nodes", "--live", "-D", "alluxio.worker.rpc.port=8", "-c"])
        .arg(&site));
    assert!(eight.ends_with("\thost1:8\tN/A\n"), "{eight}");

    let spaced = ["nodes", "-D", " alluxio.worker.rpc.port = 9 ", "-c"];
    let nine = ok(tool().args(spaced).arg(&site));
    assert!(nine.ends_with("\thost1:9\tN/A\n"), "{nine}");

    let nowhere = folder.path().join("nowhere");
    let mut command = tool();
    command.arg("nodes").env("ALLUXIO_HOME", &nowhere);
    fails(&mut command, 3, "nowhere/conf/alluxio-site.properties");
    fails(tool().args(["nodes", "--conf"]).arg(&nowhere), 3, "nowhere");
    fails(tool().args(["nodes", "-D", "key"]), 2, "expected KEY=VALUE");
    fails(
        tool()
            .args(["nodes", "--timeout", "soon", "--conf"])
            .arg(&site)
            .args([
                "-D",
                "alluxio.worker.membership.manager.type=ETCD",
                "-D",
                "alluxio.etcd.endpoints=http://h",
            ]),
        2,
        "'soon' for '--timeout <TIME>': expected a whole number",
    );
    let unreadable = conf.join("a-folder");
    fs::create_dir(&unreadable).expect("a folder");
    fails(
        tool().args(["nodes", "--conf"]).arg(&unreadable),
        3,
        "a-folder",
    );
    let identity = ["join", "--host", "h", "--rpc-port", "1", "--identity-file"];
    let mut command = on_etcd("http://127.0.0.1:1");
    fails(command.args(identity).arg(&unreadable), 1, "a-folder");
    fails(tool().args(["nodes", "--live", "--lost"]), 2, "--lost");
    fails(tool().args(["nodes", "--all"]), 2, "--all");
    fails(&mut tool(), 2, "Usage:");
    fails(
        tool().args(["join", "--host", "h", "--rpc-port", "1"]),
        2,
        "--id",
    );
    fails(
        tool().args(["join", "--host", "h", "--rpc-port", "1", "--id", "me"]),
        2,
        "Unrecognized worker identity string: me",
    );
    fails(tool().args(["nodes", "--timeout", "2"]), 2, "such as 5s");
    for wrong in ["--host=", "--host= ", "--host=h:29999", "--rpc-port=0"] {
        let mut command = tool();
        command.args(["join", "--id", ID1, wrong]);
        let other = match wrong {
            "--rpc-port=0" => "--host=h",
            _ => "--rpc-port=1",
        };
        let option = wrong.split('=').next().expect("an option");
        fails(command.arg(other), 2, option);
    }

    let on_static = |arguments: &[&str]| run(tool().args(arguments).arg("--conf").arg(&site));
    assert_eq!(on_static(&["remove", "worker-1"]).0, Some(1));
    assert_eq!(
        on_static(&["join", "--host", "h", "--rpc-port", "1", "--id", ID1]).0,
        Some(1)
    );
    assert_eq!(
        on_static(&["check"]),
        (
            Some(0),
            "ok    workers: 1 live, 0 lost\n".to_owned(),
            String::new()
        )
    );
    assert_eq!(on_static(&["nodes", "--wide"]).0, Some(0));
}

/// All forms show one identity and one state of a worker, and `remove` accepts that identity.
#[test]
fn a_worker_of_a_hosts_file_has_one_identity_and_one_state() {
    let folder = tempfile::tempdir().expect("a folder");
    static_site(folder.path());
    let site = folder.path().join("conf/alluxio-site.properties");
    let nodes =
        |arguments: &[&str]| ok(tool().args(["nodes", "--conf"]).arg(&site).args(arguments));
    let json: Value = serde_json::from_str(&nodes(&["--json"])).expect("JSON");
    let id = json["workers"][0]["id"].as_str().expect("an id");
    assert_eq!(id, WorkerIdentity::of_static_host("host1").to_string());
    assert_eq!(json["workers"][0]["status"], "N/A");
    let row = format!("{HEADER}{id}\thost1:7\tN/A\n");
    assert_eq!(nodes(&[]), row);
    assert_eq!(nodes(&["--live"]), row);
    let (_, wide, _) = run(tool().args(["nodes", "--wide", "--conf"]).arg(&site));
    assert!(wide.contains(id) && wide.contains("N/A"), "{wide}");
    let mut remove = tool();
    remove.args(["remove", id, "--conf"]).arg(&site);
    fails(&mut remove, 1, "There is nothing to remove");
}

#[test]
fn a_hosts_file_is_sought_beside_the_configuration() {
    let folder = tempfile::tempdir().expect("a folder");
    let site = folder.path().join("alluxio-site.properties");
    fs::write(&site, "alluxio.worker.membership.manager.type=STATIC\n").expect("a file");
    fs::write(folder.path().join("workers"), "beside\n").expect("a file");
    let list = |command: &mut Command| ok(command.args(["nodes", "--conf"]).arg(&site));
    assert!(list(&mut tool()).contains("\tbeside:29999\t"));
    // The path may be relative.
    let mut relative = tool();
    relative
        .current_dir(folder.path())
        .args(["nodes", "--conf", "alluxio-site.properties"]);
    assert!(ok(&mut relative).contains("\tbeside:29999\t"));

    // A property names another folder.
    let other = folder.path().join("other");
    fs::create_dir(&other).expect("a folder");
    fs::write(other.join("workers"), "elsewhere\n").expect("a file");
    let by_option = format!("alluxio.conf.dir={}", other.display());
    assert!(list(tool().args(["-D", &by_option])).contains("\telsewhere:29999\t"));

    // Without a file there, the default folder counts.
    fs::remove_file(folder.path().join("workers")).expect("remove");
    let mut default = tool();
    default
        .args(["nodes", "--conf"])
        .arg(&site)
        .env("ALLUXIO_CONF_DIR", &other);
    assert!(ok(&mut default).contains("\telsewhere:29999\t"));
}

#[test]
fn lines_that_cannot_be_hosts_are_warned_of() {
    let folder = tempfile::tempdir().expect("a folder");
    static_site(folder.path());
    let site = folder.path().join("conf/alluxio-site.properties");
    let text = "\u{feff}host1\nhost2:29999\n# comment\nhost3 # here\nhost4,host5\n";
    fs::write(folder.path().join("workers"), text).expect("a file");
    let (status, output, error) = run(tool().args(["nodes", "--conf"]).arg(&site));
    assert_eq!(status, Some(0));
    assert!(output.contains("\thost1:7\t"), "{output}");
    for (line, host) in [(2, "host2:29999"), (4, "host3 # here"), (5, "host4,host5")] {
        let warning = format!("workers, line {line}: \"{host}\" cannot be a host name");
        assert!(error.contains(&warning), "{error}");
    }
    assert_eq!(error.lines().count(), 3, "{error}");
}

#[test]
fn unknown_properties_are_warned_of() {
    let folder = tempfile::tempdir().expect("a folder");
    static_site(folder.path());
    let site = folder.path().join("conf/alluxio-site.properties");
    let mut text = fs::read_to_string(&site).expect("a file");
    text.push_str("alluxio.etcd.endpoint=http://h\nalluxio.worker.identity.uuid=x\n");
    fs::write(&site, text).expect("a file");
    let mut nodes = tool();
    nodes.args(["-D", "alluxio.clustername=other", "nodes", "--conf"]);
    let (status, _, error) = run(nodes.arg(&site));
    assert_eq!(status, Some(0));
    for (name, known) in [
        ("alluxio.etcd.endpoint", "alluxio.etcd.endpoints"),
        ("alluxio.clustername", "alluxio.cluster.name"),
    ] {
        let warning = format!("{name} is unknown and has no effect. Did you mean {known}?");
        assert!(error.contains(&warning), "{error}");
    }
    assert_eq!(error.lines().count(), 2, "{error}");
}

#[test]
fn space_around_a_property_on_the_command_line_is_none_of_it() {
    let folder = tempfile::tempdir().expect("a folder");
    static_site(folder.path());
    let site = folder.path().join("conf/alluxio-site.properties");
    let mut nodes = tool();
    nodes.args(["-D", " alluxio.worker.rpc.port = 8 ", "nodes", "--conf"]);
    let table = ok(nodes.arg(&site));
    assert!(table.contains(":8\t"), "{table}");
}

#[test]
fn a_user_in_an_endpoint_is_warned_of() {
    let mut nodes = on_etcd("http://root:s3cret@127.0.0.1:1");
    let (status, _, error) = run(nodes.args(["--timeout", "1s", "nodes"]));
    assert_eq!(status, Some(4), "{error}");
    let warning = "The user in alluxio.etcd.endpoints for 127.0.0.1:1 has no effect";
    for text in [warning, "alluxio.etcd.username"] {
        assert!(error.contains(text), "{error}");
    }
    assert!(!error.contains("s3cret"), "{error}");
}

/// Without any listening endpoint, a command ends after 2 s, not after the operation timeout of a
/// minute.
#[test]
fn endpoints_that_refuse_are_reported_early() {
    let ports = common::free_ports(2);
    let endpoints = format!(
        "http://127.0.0.1:{},http://127.0.0.1:{}",
        ports[0], ports[1]
    );
    for arguments in [&["nodes"][..], &["remove", ID1]] {
        let began = std::time::Instant::now();
        let mut command = on_etcd(&endpoints);
        fails(command.args(arguments), 4, "fails at once");
        assert!(began.elapsed() < Duration::from_secs(30), "{arguments:?}");
    }
}

/// An earlier version took 2.4 GB for a million lines.
#[test]
fn a_long_list_as_json_needs_little_memory() {
    let folder = tempfile::tempdir().expect("a folder");
    static_site(folder.path());
    let site = folder.path().join("conf/alluxio-site.properties");
    let hosts: String = (0..100_000).map(|host| format!("host{host}\n")).collect();
    fs::write(folder.path().join("workers"), hosts).expect("a file");
    let mut nodes = tool();
    nodes.args(["nodes", "--json", "--conf"]).arg(&site);
    // SAFETY: between fork and exec the closure makes one system call and nothing else.
    unsafe {
        nodes.pre_exec(|| {
            let limit = libc::rlimit {
                rlim_cur: 150 << 20,
                rlim_max: 150 << 20,
            };
            match libc::setrlimit(libc::RLIMIT_DATA, &limit) {
                0 => Ok(()),
                _ => Err(std::io::Error::last_os_error()),
            }
        });
    }
    let json: Value = serde_json::from_str(&ok(&mut nodes)).expect("JSON");
    assert_eq!(json["workers"].as_array().map(Vec::len), Some(100_000));
}

#[tokio::test]
async fn waiting_has_a_limit() {
    let dead = "http://127.0.0.1:1";
    for arguments in [
        &["nodes"][..],
        &["nodes", "--json", "--wide"],
        &["remove", ID1],
        &["join", "--id", ID1, "--host", "h", "--rpc-port", "1"],
    ] {
        let mut command = on_etcd(dead);
        command.args(["-D", "alluxio.membership.native.operation.timeout=1h"]);
        command.args(["--timeout", "1s"]).args(arguments);
        let mut running = Running::start(command.stderr(Stdio::piped()));
        assert_eq!(running.end().code(), Some(4), "{arguments:?}");
        let mut errors = String::new();
        let mut stderr = running.child.stderr.take().expect("a pipe");
        stderr.read_to_string(&mut errors).expect("UTF-8");
        // The error has the place, the reason and the remedy, and no details of the request.
        for text in [dead, "refused", "alluxio-membership check"] {
            assert!(errors.contains(text), "{arguments:?}: {errors}");
        }
        assert!(
            !errors.contains("Exhausted retry"),
            "{arguments:?}: {errors}"
        );
    }
}

#[test]
fn bash_completes() {
    let folder = tempfile::tempdir().expect("a folder");
    let script = folder.path().join("completions");
    fs::write(&script, ok(tool().args(["completions", "bash"]))).expect("a file");
    let complete = |words: &str| {
        let program = format!(
            "source \"$1\"; read -ra registered < <(complete -p alluxio-membership)
             COMP_WORDS=({words}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))
             \"${{registered[-2]}}\" alluxio-membership \
                \"${{COMP_WORDS[-1]}}\" \"${{COMP_WORDS[-2]}}\"
             echo \"${{COMPREPLY[@]}}\""
        );
        let output = Command::new("bash")
            .args(["--norc", "-c", &program, "bash"])
            .arg(&script)
            .output()
            .expect("bash");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert_eq!(errors, "", "{words}");
        String::from_utf8(output.stdout).expect("UTF-8")
    };
    assert_eq!(complete("alluxio-membership no"), "nodes\n");
    assert_eq!(complete("alluxio-membership nodes --wa"), "--watch\n");
    assert_eq!(complete("alluxio-membership remove --y"), "--yes\n");
}

#[test]
fn completions_and_manual_pages_name_every_command() {
    let folder = tempfile::tempdir().expect("a folder");
    for shell in ["bash", "zsh", "fish"] {
        let script = ok(tool().args(["completions", shell]));
        for word in ["nodes", "remove", "join", "check", "--watch"] {
            assert!(
                script.contains(word.trim_start_matches('-')),
                "{shell}: {word}"
            );
        }
    }
    ok(tool().arg("man").arg(folder.path()));
    for page in ["", "-nodes", "-remove", "-join", "-check", "-completions"] {
        let file = folder.path().join(format!("alluxio-membership{page}.1"));
        let text = fs::read_to_string(&file).unwrap_or_else(|error| panic!("{file:?}: {error}"));
        assert!(text.contains(".SH NAME"), "{text}");
        for (status, meaning) in exit_statuses(&ok(tool().arg("--help"))) {
            let entry = format!("\n.TP\n{status}\n{}\n", meaning.replace('-', "\\-"));
            assert!(text.contains(&entry), "{entry} in {text}");
        }
    }
}

/// Returns the rows of the help about exit statuses.
fn exit_statuses(help: &str) -> Vec<(String, String)> {
    let (_, rows) = help.split_once("Exit status:\n").expect("the statuses");
    rows.lines()
        .map_while(|row| row.strip_prefix("  ")?.split_once("  "))
        .map(|(status, meaning)| (status.to_owned(), meaning.to_owned()))
        .collect()
}

#[test]
fn help_and_docs_describe_the_same_exit_statuses() {
    let page = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/tool.md"));
    let page = page.expect("the page");
    let (_, table) = page
        .split_once("| status | |\n|---|---|\n")
        .expect("the table");
    let rows: Vec<(String, String)> = table
        .lines()
        .map_while(|row| {
            row.strip_prefix("| ")?
                .strip_suffix(" |")?
                .split_once(" | ")
        })
        .map(|(status, meaning)| (status.to_owned(), meaning.replace('`', "")))
        .collect();
    assert_eq!(rows.len(), 7);
    assert_eq!(rows, exit_statuses(&ok(tool().arg("--help"))));
}
