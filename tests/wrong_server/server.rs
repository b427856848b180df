//! The server that answers wrongly, and the content of its store.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use etcd_client::{Client, EventType, GetOptions, PutOptions, WatchOptions};
use serde::Deserialize;
use serde_json::Value;

use crate::common::{EtcdVersion, spawn};

/// The live keys of the cluster that the managers are in.
pub const LIVE: &str = "/ServiceDiscovery/DefaultAlluxioCluster/";
/// The ring keys of the cluster that the managers are in.
pub const RING: &str = "/DHT/DefaultAlluxioCluster/AUTHORIZED/";

/// A mode of the server, as the server describes it.
#[derive(Debug, Clone, Deserialize)]
pub struct Mode {
    pub name: String,
    /// What happens to a client.
    pub what: String,
    /// Whether to try it with one endpoint, which is wrong.
    pub alone: bool,
    /// Whether to try it with two endpoints, one of which is correct.
    pub beside: bool,
    /// Whether the server demands a user.
    pub auth: bool,
}

/// A server process. It ends when this is dropped.
pub struct WrongEtcd {
    child: Child,
    commands: ChildStdin,
    answers: BufReader<ChildStdout>,
    /// `http://127.0.0.1:<port>` of each endpoint.
    pub endpoints: Vec<String>,
    /// A client of an endpoint that is always correct.
    judge: Client,
}

/// Sorted names of the workers that have a live key, and of those that have a ring key.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Members {
    pub live: Vec<String>,
    pub ring: Vec<String>,
}

/// The own key of a worker in the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LiveKey {
    pub lease: i64,
    pub create_revision: i64,
}

fn binary() -> PathBuf {
    let set = std::env::var_os("AXM_WRONG_ETCD").map(PathBuf::from);
    let built = Path::new(env!("CARGO_MANIFEST_DIR")).join(".tools/bin/wrong-etcd");
    let binary = set.unwrap_or(built);
    assert!(
        binary.is_file(),
        "no {}: run `make tools`, or set $AXM_WRONG_ETCD",
        binary.display()
    );
    binary
}

/// All modes of the server.
pub fn modes() -> Vec<Mode> {
    let output = Command::new(binary()).arg("--modes").output();
    let output = output.expect("run wrong-etcd").stdout;
    let lines = String::from_utf8(output).expect("text");
    let modes = lines.lines().map(serde_json::from_str);
    modes.collect::<Result<_, _>>().expect("one mode a line")
}

/// The version that the server reports. Versions of 3.6 are trusted like newer servers.
fn reported(version: EtcdVersion) -> &'static str {
    match version {
        EtcdVersion::V3_4 => "3.4.23",
        EtcdVersion::V3_6 => "3.6.16",
    }
}

impl WrongEtcd {
    pub async fn start(version: EtcdVersion, endpoints: usize, auth: bool) -> WrongEtcd {
        let mut command = Command::new(binary());
        command
            .args(["--version", reported(version)])
            .args(["--endpoints", &endpoints.to_string()])
            .arg(format!("--auth={auth}"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut child = spawn(command).expect("start wrong-etcd");
        let commands = child.stdin.take().expect("a pipe");
        let mut answers = BufReader::new(child.stdout.take().expect("a pipe"));
        let mut line = String::new();
        answers.read_line(&mut line).expect("the addresses");
        let addresses: Value = serde_json::from_str(&line).expect("JSON");
        let urls = addresses["endpoints"].as_array().expect("a list").iter();
        let url = |address: &Value| format!("http://{}", address.as_str().expect("text"));
        let judge = Client::connect([url(&addresses["right"])], None).await;
        WrongEtcd {
            child,
            commands,
            answers,
            endpoints: urls.map(url).collect(),
            judge: judge.expect("connect"),
        }
    }

    fn ask(&mut self, command: &str) -> Value {
        writeln!(self.commands, "{command}").expect("wrong-etcd runs");
        let mut line = String::new();
        self.answers.read_line(&mut line).expect("an answer");
        let answer: Value = serde_json::from_str(&line).expect("JSON");
        assert!(answer.get("error").is_none(), "{command}: {answer}");
        answer
    }

    /// Makes the first endpoint wrong.
    pub fn set(&mut self, mode: &str) {
        self.ask(&format!("set {mode} 0"));
    }

    /// Makes all endpoints correct again.
    pub fn clear(&mut self) {
        self.ask("clear");
    }

    /// Returns how many requests of each kind the first endpoint has received.
    pub fn counts(&mut self) -> BTreeMap<String, u64> {
        serde_json::from_value(self.ask("counts 0")).expect("numbers")
    }

    pub async fn put(&self, key: &str, value: &[u8]) {
        let put = self.judge.clone().put(key, value, None::<PutOptions>).await;
        put.expect("put");
    }

    pub async fn delete(&self, key: &str) {
        self.judge.clone().delete(key, None).await.expect("delete");
    }

    /// The workers that have keys now.
    pub async fn members(&self) -> Members {
        let mut names = Vec::new();
        for prefix in [LIVE, RING] {
            let options = GetOptions::new().with_prefix().with_keys_only();
            let answer = self.judge.clone().get(prefix, Some(options)).await;
            let kvs = answer.expect("get").take_kvs();
            names.push(kvs.iter().map(|kv| name(kv.key())).collect());
        }
        let ring = names.pop().expect("two");
        let live = names.pop().expect("two");
        Members { live, ring }
    }

    pub async fn live_key(&self, name: &str) -> Option<LiveKey> {
        let answer = self.judge.clone().get(format!("{LIVE}{name}"), None).await;
        let kv = answer.expect("get").take_kvs().pop()?;
        Some(LiveKey {
            lease: kv.lease(),
            create_revision: kv.create_revision(),
        })
    }

    /// The workers that had keys at each revision.
    pub async fn history(&self) -> BTreeMap<i64, Members> {
        let mut judge = self.judge.clone();
        let now = judge.get("x", None).await.expect("get");
        let last = now.header().expect("a header").revision();
        let options = WatchOptions::new().with_range("\0").with_start_revision(1);
        let mut events = judge.watch("\0", Some(options)).await.expect("watch");
        let mut states = BTreeMap::from([(1, Members::default())]);
        let mut members = Members::default();
        while *states.keys().next_back().expect("the first") < last {
            let message = events.message().await.expect("events").expect("open");
            for event in message.events() {
                let kv = event.kv().expect("a key");
                let key = String::from_utf8_lossy(kv.key());
                let names = match key.starts_with(LIVE) {
                    true => &mut members.live,
                    false if key.starts_with(RING) => &mut members.ring,
                    false => continue,
                };
                names.retain(|known| *known != name(kv.key()));
                if event.event_type() == EventType::Put {
                    names.push(name(kv.key()));
                    names.sort_unstable();
                }
                states.insert(kv.mod_revision(), members.clone());
            }
        }
        states
    }
}

impl Drop for WrongEtcd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn name(key: &[u8]) -> String {
    let key = String::from_utf8_lossy(key);
    key.rsplit('/').next().unwrap_or_default().to_owned()
}
