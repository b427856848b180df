//! `alluxio-membership serve` for scripts of browsers, Prometheus, load balancers and systemd.

mod common;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixDatagram;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use alluxio_membership::record;
use alluxio_membership::worker::{Worker, WorkerIdentity, WorkerNetAddress};
use common::serve::Serve;
use common::{Etcd, EtcdVersion, eventually, on_every_etcd};
use serde_json::Value;

/// The longest wait for something that happens.
const LIMIT: Duration = Duration::from_secs(60);
const CLIENTS: usize = 1000;

on_every_etcd!(
    workers_are_listed_with_entity_tags_and_filters,
    a_worker_has_its_keys_and_the_time_left_of_its_lease,
    changes_are_sent_as_they_come_and_again_to_clients_that_come_back,
    readiness_and_metrics_show_an_etcd_that_is_silent,
);

/// Writes a worker's keys as a worker does, live or lost.
async fn put_worker(etcd: &Etcd, number: u64, host: &str, live: bool) -> String {
    let text = format!("worker-00000000-0000-4000-8000-{number:012}");
    let worker = Worker {
        identity: WorkerIdentity::parse(&text).expect("an identity"),
        address: WorkerNetAddress::new(host),
    };
    let value = record::encode(&worker);
    etcd.put(&format!("/DHT/c/AUTHORIZED/{text}"), value.clone())
        .await;
    if live {
        etcd.put(&format!("/ServiceDiscovery/c/{text}"), value)
            .await;
    }
    text
}

async fn workers_are_listed_with_entity_tags_and_filters(version: EtcdVersion) {
    let etcd = Etcd::start(version).await;
    put_worker(&etcd, 1, "live", true).await;
    put_worker(&etcd, 2, "lost", false).await;
    etcd.put("/DHT/c/AUTHORIZED/worker-broken", "{").await;
    let serve = Serve::start(&etcd.endpoint());
    serve.ready();

    let hosts = |path: &str| -> Vec<String> {
        let answer = serve.get(path);
        assert_eq!(answer.status_code, 200, "{path}");
        let list: Value = answer.json().expect("JSON");
        assert_eq!(list["leftOut"][0]["key"], "/DHT/c/AUTHORIZED/worker-broken");
        let workers = list["workers"].as_array().expect("workers").iter();
        workers
            .map(|worker| worker["host"].as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(hosts("/api/v1/workers"), ["live", "lost"]);
    assert_eq!(hosts("/api/v1/workers?state=all"), ["live", "lost"]);
    assert_eq!(hosts("/api/v1/workers?state=live"), ["live"]);
    assert_eq!(hosts("/api/v1/workers?state=lost"), ["lost"]);
    for path in ["/api/v1/workers?state=dead", "/api/v1/workers?stat=live"] {
        assert_eq!(serve.get(path).status_code, 400, "{path}");
    }
    assert_eq!(serve.get("/nothing").status_code, 404);

    let tag = header(&serve.get("/api/v1/workers"), "etag");
    let again = |tag: &str| {
        let request = minreq::get(serve.url("/api/v1/workers")).with_header("if-none-match", tag);
        request.send().expect("an answer")
    };
    let unchanged = again(&format!("\"other\", {tag}"));
    assert_eq!(
        (unchanged.status_code, unchanged.as_bytes().len()),
        (304, 0)
    );
    put_worker(&etcd, 3, "new", true).await;
    eventually("another tag", LIMIT, async || {
        again(&tag).status_code == 200
    })
    .await;
    assert_eq!(hosts("/api/v1/workers?state=live"), ["live", "new"]);

    let post = minreq::post(serve.url("/api/v1/workers")).send();
    assert_eq!(post.expect("an answer").status_code, 405, "it is read-only");
    let page = serve.get("/");
    let policy = header(&page, "content-security-policy");
    assert!(policy.contains("default-src 'none'"), "{policy}");
    assert!(!policy.contains("unsafe"), "{policy}");
    assert_eq!(serve.terminate().code(), Some(0));
}

async fn a_worker_has_its_keys_and_the_time_left_of_its_lease(version: EtcdVersion) {
    let etcd = Etcd::start(version).await;
    let live = put_worker(&etcd, 1, "live", false).await;
    let (ring_key, live_key) = (
        format!("/DHT/c/AUTHORIZED/{live}"),
        format!("/ServiceDiscovery/c/{live}"),
    );
    let lease = etcd.grant_lease(300).await;
    let value = etcd.get(&ring_key).await.expect("a key").value().to_vec();
    etcd.put_on_lease(&live_key, value, lease).await;
    let revision = etcd.revision().await;
    let lost = put_worker(&etcd, 2, "lost", false).await;
    let broken = "worker-00000000-0000-4000-8000-000000000003";
    etcd.put(&format!("/DHT/c/AUTHORIZED/{broken}"), "{").await;
    let serve = Serve::start(&etcd.endpoint());
    serve.ready();
    let get = |id: &str, status: u16, schema: &str| -> Value {
        let answer = serve.get(&format!("/api/v1/workers/{id}"));
        let text = answer.as_str().expect("text");
        assert_eq!(answer.status_code, status, "{id}: {text}");
        let value = answer.json().expect("JSON");
        conforms(&value, schema);
        value
    };

    let details = get(&live, 200, "WorkerDetails");
    assert_eq!(details["id"], live);
    assert_eq!(details["liveKey"]["key"], live_key);
    assert_eq!(details["liveKey"]["createRevision"], revision);
    assert_eq!(details["ringKey"]["key"], ring_key);
    assert_eq!(details["ringKey"]["worker"]["host"], "live");
    assert_eq!(details["lease"]["id"], format!("{lease:x}"));
    assert_eq!(details["liveKey"]["lease"], details["lease"]["id"]);
    assert_eq!(details["lease"]["grantedSeconds"], 300);
    let left = details["lease"]["leftSeconds"].as_u64().expect("a number");
    assert!((200..=300).contains(&left), "{left}");

    let details = get(&lost, 200, "WorkerDetails");
    assert_eq!(details["ringKey"]["worker"]["id"], lost);
    assert_eq!(
        (&details["liveKey"], &details["lease"]),
        (&Value::Null, &Value::Null)
    );
    let details = get(broken, 200, "WorkerDetails");
    assert!(details["ringKey"]["unusable"].is_string(), "{details}");
    let unknown = "worker-00000000-0000-4000-8000-000000000009";
    get(unknown, 404, "Error");
    get("nobody", 400, "Error");

    etcd.pause();
    let error = get("worker-9", 503, "Error");
    etcd.resume();
    assert!(error["error"].as_str().is_some_and(|text| !text.is_empty()));
    assert_eq!(serve.terminate().code(), Some(0));
}

/// Many clients that ask for details cost etcd no more than ten reads a second.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_that_ask_for_details_do_not_load_etcd() {
    const READERS: u64 = 12;
    let etcd = Etcd::start(EtcdVersion::V3_6).await;
    let lease = etcd.grant_lease(300).await;
    for number in 0..READERS {
        let id = put_worker(&etcd, number, "host", false).await;
        let key = format!("/DHT/c/AUTHORIZED/{id}");
        let value = etcd.get(&key).await.expect("a key").value().to_vec();
        etcd.put_on_lease(&format!("/ServiceDiscovery/c/{id}"), value, lease)
            .await;
    }
    let serve = Serve::start(&etcd.endpoint());
    serve.ready();
    let requests = || {
        etcd.metric(
            "grpc_server_started_total",
            &["grpc_method=\"LeaseTimeToLive\""],
        )
    };
    // All clients at once: for one worker, and for one worker each.
    let ask = |id: &(dyn Fn(u64) -> u64 + Sync)| {
        let (before, start) = (requests(), Instant::now());
        std::thread::scope(|scope| {
            for number in 0..READERS {
                let path = format!(
                    "/api/v1/workers/worker-00000000-0000-4000-8000-{:012}",
                    id(number)
                );
                let serve = &serve;
                scope.spawn(move || assert_eq!(serve.get(&path).status_code, 200));
            }
        });
        (requests() - before, start.elapsed())
    };
    let (reads, took) = ask(&|_| 0);
    assert!(reads <= 1 + took.as_secs(), "{reads} in {took:?}");
    let (reads, took) = ask(&|number| number);
    let most = 1 + took.as_millis() as u64 / 100;
    assert!(reads >= READERS - 1 && reads <= most, "{reads} in {took:?}");
    assert_eq!(serve.terminate().code(), Some(0));
}

fn header(answer: &minreq::Response, name: &str) -> String {
    let header = answer.headers.iter().find(|(known, _)| known == name);
    header.expect("the header is there").1.clone()
}

const OPENAPI: &str = include_str!("../docs/openapi.json");

/// Fails if a value differs from its schema in `docs/openapi.json`.
#[track_caller]
fn conforms(value: &Value, schema: &str) {
    let description: Value = serde_json::from_str(OPENAPI).expect("JSON");
    let mut root = description["components"].clone();
    root["components"] = description["components"].clone();
    root["$ref"] = format!("#/components/schemas/{schema}").into();
    let validator = jsonschema::validator_for(&root).expect("a schema");
    let errors: Vec<String> = validator
        .iter_errors(value)
        .map(|it| it.to_string())
        .collect();
    assert!(errors.is_empty(), "{schema}: {errors:?}: {value}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_answers_are_what_their_description_says() {
    let etcd = Etcd::start(EtcdVersion::V3_6).await;
    put_worker(&etcd, 1, "first", true).await;
    etcd.put("/DHT/c/AUTHORIZED/worker-broken", "{").await;
    let serve = Serve::start(&etcd.endpoint());
    serve.ready();
    let json = |path| serve.get(path).json::<Value>().expect("JSON");
    conforms(&json("/api/v1/workers"), "WorkerList");
    conforms(&json("/api/v1/status"), "Status");
    let mut events = Events::open(&serve, None);
    conforms(&events.next().data, "WorkerList");
    put_worker(&etcd, 2, "second", true).await;
    conforms(&events.next().data, "Change");
    // The list now has a time for the worker that joined.
    conforms(&json("/api/v1/workers"), "WorkerList");

    for number in 0..102 {
        etcd.put(&format!("/DHT/c/AUTHORIZED/worker-x{number}"), "{")
            .await;
    }
    eventually("all broken records are counted", LIMIT, async || {
        json("/api/v1/status")["leftOut"] == 103
    })
    .await;
    let list = json("/api/v1/workers");
    let left_out = list["leftOut"].as_array().expect("records").len();
    assert_eq!((left_out, &list["leftOutCount"]), (100, &103.into()));
    let metrics = serve.get("/metrics");
    let metrics = metrics.as_str().expect("text");
    assert!(
        metrics.contains("alluxio_membership_skipped_records 103\n"),
        "{metrics}"
    );

    let dead = Serve::start("http://127.0.0.1:1");
    let answer = dead.get("/api/v1/workers");
    assert_eq!(answer.status_code, 503);
    conforms(&answer.json().expect("JSON"), "Error");
    conforms(&dead.get("/api/v1/status").json().expect("JSON"), "Status");

    let description: Value = serde_json::from_str(OPENAPI).expect("JSON");
    for path in description["paths"].as_object().expect("paths").keys() {
        let path = path.replace("{id}", "worker-00000000-0000-4000-8000-000000000001");
        // The changes do not end.
        if path != "/api/v1/changes" {
            assert_eq!(serve.get(&path).status_code, 200, "{path}");
        }
    }
}

/// Reads server-sent events.
struct Events {
    reader: BufReader<TcpStream>,
}

struct Event {
    name: String,
    id: String,
    data: Value,
}

impl Events {
    fn open(serve: &Serve, last_id: Option<&str>) -> Events {
        let mut stream = TcpStream::connect(serve.address()).expect("a connection");
        stream.set_read_timeout(Some(LIMIT)).expect("a limit");
        let last_id = last_id.map_or_else(String::new, |id| format!("Last-Event-ID: {id}\r\n"));
        let head = format!("GET /api/v1/changes HTTP/1.0\r\nHost: test\r\n{last_id}\r\n");
        stream.write_all(head.as_bytes()).expect("a request");
        let mut reader = BufReader::new(stream);
        let mut line = String::new();
        while line != "\r\n" {
            line.clear();
            assert_ne!(reader.read_line(&mut line).expect("a head"), 0);
        }
        Events { reader }
    }

    /// Returns the next event that is not a status.
    fn next(&mut self) -> Event {
        loop {
            let (mut name, mut id, mut data) = (String::new(), String::new(), Value::Null);
            loop {
                let mut line = String::new();
                assert_ne!(self.reader.read_line(&mut line).expect("an event"), 0);
                match line.trim_end().split_once(": ") {
                    Some(("event", text)) => name = text.to_owned(),
                    Some(("id", text)) => id = text.to_owned(),
                    Some(("data", text)) => data = serde_json::from_str(text).expect("JSON"),
                    _ => break,
                }
            }
            if name != "status" {
                return Event { name, id, data };
            }
        }
    }

    fn change(&mut self) -> (String, String) {
        let event = self.next();
        assert_eq!(event.name, "change", "{}", event.data);
        let text = |value: &Value| value.as_str().expect("a text").to_owned();
        (
            text(&event.data["change"]),
            text(&event.data["worker"]["host"]),
        )
    }
}

fn pair(change: &str, host: &str) -> (String, String) {
    (change.to_owned(), host.to_owned())
}

async fn changes_are_sent_as_they_come_and_again_to_clients_that_come_back(version: EtcdVersion) {
    let etcd = Etcd::start(version).await;
    put_worker(&etcd, 1, "first", true).await;
    let serve = Serve::start(&etcd.endpoint());
    serve.ready();
    let mut events = Events::open(&serve, None);
    let list = events.next();
    assert_eq!(
        (list.name.as_str(), &list.data["workers"][0]["host"]),
        ("list", &"first".into())
    );

    let second = put_worker(&etcd, 2, "second", false).await;
    assert_eq!(events.change(), pair("added", "second"));
    put_worker(&etcd, 2, "second", true).await;
    assert_eq!(events.change(), pair("live", "second"));
    etcd.delete(&format!("/ServiceDiscovery/c/{second}")).await;
    assert_eq!(events.change(), pair("lost", "second"));
    drop(events);
    etcd.delete(&format!("/DHT/c/AUTHORIZED/{second}")).await;
    let mut other = Events::open(&serve, None);
    let current = other.next();
    assert_eq!(current.name, "list");

    // A client that knows the id of the list gets each change that it missed, in order.
    let mut returned = Events::open(&serve, Some(&list.id));
    for change in ["added", "live", "lost", "removed"] {
        assert_eq!(returned.change(), pair(change, "second"));
    }
    // A client with an id of another process, or with an impossible id, gets the whole list.
    for id in ["0-1", "x", &list.id.replace("-0", "-999")] {
        let mut stranger = Events::open(&serve, Some(id));
        assert_eq!(stranger.next().name, "list", "{id}");
    }
    // Listening clients notice the end.
    assert_eq!(serve.terminate().code(), Some(0));
    let mut rest = Vec::new();
    assert!(other.reader.read_to_end(&mut rest).is_ok());
}

async fn readiness_and_metrics_show_an_etcd_that_is_silent(version: EtcdVersion) {
    let etcd = Etcd::start(version).await;
    put_worker(&etcd, 1, "a\"b\\c\nd", true).await;
    put_worker(&etcd, 2, "lost", false).await;
    let serve = Serve::start_with(
        &etcd.endpoint(),
        &["-D", "alluxio.membership.native.view.max.staleness=3s"],
        &["--worker-series", "1"],
    );
    serve.ready();
    let metrics = || {
        let answer = serve.get("/metrics");
        answer.as_str().expect("text").to_owned()
    };
    let text = metrics();
    for line in [
        "alluxio_membership_workers{state=\"live\"} 1\n",
        "alluxio_membership_workers{state=\"lost\"} 1\n",
        "alluxio_membership_workers_without_series 1\n",
        "alluxio_membership_worker_up{host=\"a\\\"b\\\\c\\nd\",\
         identity=\"worker-00000000-0000-4000-8000-000000000001\"} 1\n",
        "alluxio_membership_ready 1\n",
        "alluxio_membership_listings_total 1\n",
    ] {
        assert!(text.contains(line), "{line}: {text}");
    }
    assert!(!text.contains("host=\"lost\""), "{text}");
    etcd.pause();
    eventually("not ready", LIMIT, async || {
        serve.get("/readyz").status_code == 503
    })
    .await;
    assert!(metrics().contains("alluxio_membership_ready 0\n"));
    assert_eq!(
        serve.get("/healthz").status_code,
        200,
        "the process still runs"
    );
    let status: Value = serve.get("/api/v1/status").json().expect("JSON");
    assert_eq!(status["ready"], false);
    assert_eq!(
        serve.get("/api/v1/workers").status_code,
        200,
        "the old list, with its age"
    );
    etcd.resume();
    eventually("ready again", LIMIT, async || {
        serve.get("/readyz").status_code == 200
    })
    .await;
    assert_eq!(serve.terminate().code(), Some(0));
}

#[test]
fn the_state_of_a_worker_without_probes_is_unknown() {
    let folder = tempfile::tempdir().expect("a folder");
    let hosts = folder.path().join("workers");
    std::fs::write(&hosts, "first\nsecond\n").expect("the file");
    let serve = Serve::start_static(&hosts);
    serve.ready();
    let json = |path| serve.get(path).json::<Value>().expect("JSON");
    let list = json("/api/v1/workers");
    conforms(&list, "WorkerList");
    let workers = list["workers"].as_array().expect("workers").iter();
    let statuses: Vec<&Value> = workers.map(|worker| &worker["status"]).collect();
    assert_eq!(statuses, ["N/A", "N/A"]);
    assert_eq!(
        Events::open(&serve, None).next().data["workers"],
        list["workers"]
    );
    let status = json("/api/v1/status");
    conforms(&status, "Status");
    assert_eq!(
        (&status["live"], &status["lost"]),
        (&Value::Null, &Value::Null)
    );
    let id = list["workers"][0]["id"].as_str().expect("an id");
    let details = serve.get(&format!("/api/v1/workers/{id}"));
    assert_eq!(details.status_code, 404);
    conforms(&details.json().expect("JSON"), "Error");
    let metrics = serve.get("/metrics");
    let metrics = metrics.as_str().expect("text");
    assert!(
        metrics.contains("alluxio_membership_workers{state=\"unknown\"} 2\n"),
        "{metrics}"
    );
    for wrong in ["state=\"live\"", "state=\"lost\"", "worker_up"] {
        assert!(!metrics.contains(wrong), "{metrics}");
    }
}

/// A real Prometheus that scrapes one server every second, with the rules of `docs/alerts.yml`.
struct Prometheus {
    server: Child,
    url: String,
    _folder: tempfile::TempDir,
}

impl Prometheus {
    fn start(target: &str) -> Prometheus {
        let folder = tempfile::tempdir().expect("a folder");
        let rules = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/alerts.yml");
        let config = format!(
            "global: {{scrape_interval: 1s, evaluation_interval: 1s}}\n\
             rule_files: ['{rules}']\n\
             scrape_configs:\n\
             - job_name: alluxio-membership\n  \
               static_configs: [{{targets: ['{target}']}}]\n"
        );
        let file = folder.path().join("prometheus.yml");
        std::fs::write(&file, config).expect("a file");
        let port = common::free_ports(1)[0];
        let server = Command::new("prometheus")
            .arg(format!("--config.file={}", file.display()))
            .arg(format!("--storage.tsdb.path={}", folder.path().display()))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .stderr(Stdio::null())
            .spawn()
            .expect("prometheus, of Debian's package of this name");
        Prometheus {
            server,
            url: format!("http://127.0.0.1:{port}"),
            _folder: folder,
        }
    }

    /// Returns an answer of its API, or `None` while it starts.
    fn api(&self, path: &str) -> Option<Value> {
        let request = minreq::get(format!("{}{path}", self.url)).with_timeout(LIMIT.as_secs());
        request.send().ok()?.json().ok()
    }

    /// Returns the values of an expression, with their labels.
    fn query(&self, expression: &str) -> Vec<Value> {
        let answer = self.api(&format!("/api/v1/query?query={expression}"));
        let result = answer.map(|answer| answer["data"]["result"].clone());
        result
            .and_then(|it| it.as_array().cloned())
            .unwrap_or_default()
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn prometheus_reads_the_metrics_and_the_alerts() {
    let etcd = Etcd::start(EtcdVersion::V3_6).await;
    let hostile = "a\"b\\c\nd";
    put_worker(&etcd, 1, hostile, true).await;
    let serve = Serve::start(&etcd.endpoint());
    serve.ready();
    let prometheus = Prometheus::start(serve.address());
    eventually("a scrape", LIMIT, async || {
        let workers = prometheus.query("alluxio_membership_worker_up");
        workers.len() == 1 && workers[0]["metric"]["host"] == hostile
    })
    .await;
    for (expression, value) in [
        ("up", "1"),
        ("alluxio_membership_ready", "1"),
        ("alluxio_membership_workers{state=\"live\"}", "1"),
        ("alluxio_membership_listings_total", "1"),
        ("alluxio_membership_endpoint_up", "1"),
    ] {
        let found = prometheus.query(expression);
        assert_eq!(found.len(), 1, "{expression}");
        assert_eq!(found[0]["value"][1], value, "{expression}");
    }
    let rules = prometheus.api("/api/v1/rules").expect("rules");
    let rules = rules["data"]["groups"][0]["rules"]
        .as_array()
        .expect("rules")
        .clone();
    assert!(rules.len() >= 7, "{rules:?}");
    eventually("every rule is evaluated", LIMIT, async || {
        let rules = prometheus.api("/api/v1/rules").unwrap_or_default();
        let rules = rules["data"]["groups"][0]["rules"].as_array().cloned();
        rules.is_some_and(|rules| rules.iter().all(|rule| rule["health"] == "ok"))
    })
    .await;
}

/// `serve` has each metric that the alerts and the dashboard name.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn alerts_and_dashboard_name_metrics_that_are_there() {
    let etcd = Etcd::start(EtcdVersion::V3_6).await;
    put_worker(&etcd, 1, "host", true).await;
    let serve = Serve::start(&etcd.endpoint());
    serve.ready();
    let metrics = serve.get("/metrics");
    let metrics = metrics.as_str().expect("text");
    for file in ["docs/alerts.yml", "packaging/grafana/alluxio-workers.json"] {
        let path = format!("{}/{file}", env!("CARGO_MANIFEST_DIR"));
        let text = std::fs::read_to_string(path).expect(file);
        let names = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        let names: Vec<_> = names
            .filter(|it| it.starts_with("alluxio_membership_"))
            .collect();
        assert!(names.len() > 5, "{file}");
        for name in names {
            let sample = |line: &str| line.starts_with(name) && !line.starts_with('#');
            assert!(metrics.lines().any(sample), "{file}: {name}");
        }
    }
}

#[test]
fn the_systemd_units_are_valid() {
    let folder = tempfile::tempdir().expect("a folder");
    let packaging = concat!(env!("CARGO_MANIFEST_DIR"), "/packaging/systemd");
    for unit in [
        "alluxio-membership-serve.service",
        "alluxio-membership-join@.service",
    ] {
        let text = std::fs::read_to_string(format!("{packaging}/{unit}.in")).expect(unit);
        let binaries = std::path::Path::new(common::serve::TOOL)
            .parent()
            .expect("a folder");
        let text = text.replace("@BINDIR@", &binaries.display().to_string());
        let instance = unit.replace("@.", "@host1.");
        let file = folder.path().join(instance);
        std::fs::write(&file, text).expect("a file");
        let mut verify = Command::new("systemd-analyze");
        let output = verify.args(["verify", "--man=no"]).arg(&file).output();
        let output = output.expect("systemd-analyze, of Debian's package systemd");
        let complaints = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success() && complaints.is_empty(),
            "{unit}: {complaints}"
        );
    }
}

#[test]
fn the_alerts_fire_when_they_should() {
    let tests = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/monitoring/alerts.test.yml"
    );
    let output = Command::new("promtool")
        .args(["test", "rules", tests])
        .output();
    let output = output.expect("promtool, of Debian's package prometheus");
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_clients_get_a_change() {
    common::serve::raise_file_limit();
    let etcd = Etcd::start(EtcdVersion::V3_6).await;
    let serve = Serve::start(&etcd.endpoint());
    serve.ready();
    let mut clients: Vec<Events> = (0..CLIENTS).map(|_| Events::open(&serve, None)).collect();
    for client in &mut clients {
        assert_eq!(client.next().name, "list");
    }
    put_worker(&etcd, 1, "new", true).await;
    for client in &mut clients {
        assert_eq!(client.change(), pair("added", "new"));
    }
    let start = Instant::now();
    assert_eq!(serve.terminate().code(), Some(0));
    assert!(start.elapsed() < LIMIT / 2, "{:?}", start.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_does_not_read_is_dropped() {
    let etcd = Etcd::start(EtcdVersion::V3_6).await;
    let serve = Serve::start(&etcd.endpoint());
    serve.ready();
    let mut reader = Events::open(&serve, None);
    assert_eq!(reader.next().name, "list");
    let before = serve.connections();
    let stalled = Events::open(&serve, None);
    eventually("one more client", LIMIT, async || {
        serve.connections() == before + 1
    })
    .await;
    // More than the buffers of a connection hold.
    let host = "h".repeat(1_000_000);
    for number in 0..30 {
        put_worker(&etcd, number, &host, false).await;
        assert_eq!(reader.change().1, host);
    }
    eventually("the stalled client is dropped", LIMIT, async || {
        serve.connections() == before
    })
    .await;
    put_worker(&etcd, 90, "after", true).await;
    assert_eq!(reader.change(), pair("added", "after"));
    drop(stalled);
    assert_eq!(serve.terminate().code(), Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn systemd_is_notified_when_it_serves_and_when_it_stops() {
    let etcd = Etcd::start(EtcdVersion::V3_6).await;
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("notify");
    let socket = UnixDatagram::bind(&path).expect("a socket");
    socket.set_read_timeout(Some(LIMIT)).expect("a limit");
    let received = || {
        let mut message = [0; 256];
        let length = socket.recv(&mut message).expect("a message");
        String::from_utf8_lossy(&message[..length])
            .trim()
            .to_owned()
    };
    let mut command = common::serve::command(&etcd.endpoint(), &[], &[]);
    let serve = Serve::spawn(command.env("NOTIFY_SOCKET", &path));
    assert_eq!(received(), "READY=1");
    assert_eq!(serve.terminate().code(), Some(0));
    assert_eq!(received(), "STOPPING=1");
}

#[test]
fn an_address_that_is_taken_is_an_error() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("an address").to_string();
    let mut command = common::serve::command("http://127.0.0.1:1", &[], &[]);
    let output = command.args(["--listen", &address]).output();
    let output = output.expect("the tool runs");
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(
        error.contains(&format!("cannot listen on {address}: ")),
        "{error}"
    );
}
