//! Passwords and keys are in nothing that anybody reads, and not in memory for longer than they are needed.

mod common;

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::sync::Mutex;

use alluxio_membership::config::{Config, Properties};
use alluxio_membership::etcd::Clusters;
use alluxio_membership::membership::{JoinOptions, Membership};
use alluxio_membership::worker::{Worker, WorkerIdentity, WorkerNetAddress};
use common::tls::Authority;
use common::{Etcd, EtcdOptions, EtcdVersion};

const PASSWORD: &str = "correct horse battery staple";
const WRONG_PASSWORD: &str = "incorrect horse battery staple";
/// Of the other test, which looks for it everywhere.
const REMEMBERED: &str = "Tr0ub4dor&3, which is a long password";

/// Everything that is logged, by every crate and at every level.
struct Log(Mutex<String>);

static LOG: Log = Log(Mutex::new(String::new()));

impl log::Log for Log {
    fn enabled(&self, _: &log::Metadata) -> bool {
        true
    }

    fn log(&self, record: &log::Record) {
        let line = format!("{} {} {}\n", record.level(), record.target(), record.args());
        self.0.lock().unwrap().push_str(&line);
    }

    fn flush(&self) {}
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_that_is_read_has_secrets() {
    log::set_logger(&LOG).expect("the first logger");
    log::set_max_level(log::LevelFilter::Trace);
    let authority = Authority::new();
    let trusted = format!("--trusted-ca-file={}", authority.file());
    let options = EtcdOptions::new(EtcdVersion::V3_6)
        .tls(&authority.issue("etcd", &["127.0.0.1"]))
        .args(&["--client-cert-auth", &trusted])
        .root_password(PASSWORD);
    let etcd = Etcd::start_with(options).await;
    let client = authority.issue("nobody", &[]);
    let key = fs::read_to_string(&client.key).expect("read the key");
    let key = key.lines().nth(1).expect("a line of the key");
    // Only what the library logs counts.
    LOG.0.lock().unwrap().clear();

    let mut seen = String::new();
    for password in [PASSWORD, WRONG_PASSWORD] {
        let mut properties = Properties::new();
        for (name, value) in [
            ("alluxio.worker.membership.manager.type", "ETCD"),
            ("alluxio.etcd.endpoints", &etcd.tls_endpoint("127.0.0.1")),
            ("alluxio.etcd.username", "root"),
            ("alluxio.etcd.password", password),
            ("alluxio.etcd.tls.enabled", "true"),
            ("alluxio.etcd.tls.ca.cert", &authority.file()),
            ("alluxio.etcd.tls.client.cert", client.certificate()),
            ("alluxio.etcd.tls.client.key", client.key()),
            ("alluxio.etcd.tls.client.key.password", PASSWORD),
        ] {
            properties.set(name, value);
        }
        let config = Config::from_properties(&properties).expect("a good configuration");
        let membership = Membership::open(&config, &Clusters::default()).expect("open");
        let worker = Worker {
            identity: WorkerIdentity::V0(1),
            address: WorkerNetAddress::new("host".to_owned()),
        };
        let joined = membership.join(&worker, &JoinOptions::default()).await;
        assert_eq!(joined.is_ok(), password == PASSWORD, "{joined:?}");
        let view = membership.view().await;
        assert_eq!(view.is_ok(), password == PASSWORD, "{view:?}");
        let inspection = membership.inspect().await;
        let status = membership.status();
        seen +=
            &format!("{properties:?} {config:#?} {joined:?} {view:?} {inspection:#?} {status:#?}");
        for error in [joined.err(), view.err()].into_iter().flatten() {
            seen += &error.to_string();
        }
        membership.close().await.expect("close");
    }
    let logged = LOG.0.lock().unwrap().clone();
    for part in ["alluxio_membership", "rustls", "TRACE"] {
        assert!(logged.contains(part), "no {part} in the log");
    }
    seen += &logged;
    for secret in [PASSWORD, WRONG_PASSWORD, key] {
        if let Some(at) = seen.find(secret) {
            panic!(
                "{}",
                &seen[seen.floor_char_boundary(at.saturating_sub(200))..at]
            );
        }
    }
}

const PAGE: u64 = 4096;

/// How often the process has a text in the memory it can write to. Only the end is looked for: the allocator makes use
/// of the beginning of what is freed.
fn copies_in_memory(text: &str) -> usize {
    let text = &text[16..];
    let memory = File::open("/proc/self/mem").expect("open the memory");
    let maps = fs::read_to_string("/proc/self/maps").expect("read the map of the memory");
    let mut copies = 0;
    // A page, and as much of the next that a text may end in.
    let mut window = vec![0; PAGE as usize + text.len() - 1];
    let own = window.as_ptr() as u64;
    let own = own..own + window.len() as u64;
    for line in maps.lines().filter(|line| line.contains(" rw")) {
        let (range, _) = line.split_once(' ').expect("a range");
        let (from, to) = range.split_once('-').expect("from and to");
        let address = |text| u64::from_str_radix(text, 16).expect("an address");
        let (from, to) = (address(from), address(to));
        for from in (from..to).step_by(PAGE as usize) {
            let length = window.len().min((to - from) as usize);
            let is_own = from < own.end && own.start < from + length as u64;
            // Some ranges cannot be read.
            if is_own || memory.read_exact_at(&mut window[..length], from).is_err() {
                continue;
            }
            let found = window[..length].windows(text.len());
            copies += found.filter(|part| *part == text.as_bytes()).count();
        }
    }
    copies
}

#[test]
fn passwords_are_cleared_from_memory() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("alluxio-site.properties");
    let template = "alluxio.worker.membership.manager.type=ETCD\nalluxio.etcd.endpoints=http://127.0.0.1:1\n\
                    alluxio.etcd.username=root\nalluxio.etcd.password=";
    fs::write(&file, template).expect("write");
    let end_of_file = fs::OpenOptions::new().append(true).open(&file);
    std::io::Write::write_all(&mut end_of_file.expect("open"), REMEMBERED.as_bytes())
        .expect("write");

    let properties = Properties::from_site_file(&file).expect("read");
    let config = Config::from_properties(&properties).expect("a good configuration");
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let entered = runtime.enter();
    let clusters = Clusters::default();
    let membership = Membership::open(&config, &clusters).expect("open");
    // Each part has its own.
    let copies = copies_in_memory(REMEMBERED);
    assert!(copies >= 3, "only {copies} copies found");
    drop((membership, clusters, config, properties));
    drop(entered);
    drop(runtime);
    assert_eq!(copies_in_memory(REMEMBERED), 0);
}
