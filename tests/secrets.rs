//! Passwords and keys appear in no output, and stay in memory only while they are needed.

mod common;

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::fs::FileExt;
use std::process::Command;
use std::sync::{Mutex, PoisonError};

use alluxio_membership::config::{Config, Properties};
use alluxio_membership::etcd::Clusters;
use alluxio_membership::membership::{JoinOptions, Membership};
use alluxio_membership::worker::{Worker, WorkerIdentity, WorkerNetAddress};
use common::tls::Authority;
use common::{Etcd, EtcdOptions, EtcdVersion};
use memchr::memmem;

const PASSWORD: &str = "correct horse battery staple";
const WRONG_PASSWORD: &str = "incorrect horse battery staple";
/// The password of the other test, which searches all memory for it.
const REMEMBERED: &str = "Tr0ub4dor&3, which is a long password, so that parts of it are found as \
                          well: what is left behind where a text grew, or was split";

/// All log records, of every crate and at every level.
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
    // Only records of the library count.
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
        let membership = Membership::open_in(&config, &Clusters::default()).expect("open");
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

/// One test at a time, because a test would find the texts that another test has just read.
static LOOKING: Mutex<()> = Mutex::new(());
const PAGE: u64 = 4096;
/// The length of the part at the start of freed memory that the allocator overwrites.
const PART: usize = 16;
/// The variable that names the files of [`keys_are_cleared_from_memory`] for the process that reads
/// them.
const KEY_FILES: &str = "AXM_TEST_KEY_FILES";

/// Returns how many parts of a text are in the writable memory of the process, over all copies. The
/// first part is not counted.
fn copies_in_memory(text: &str) -> usize {
    let _alone = LOOKING.lock().unwrap_or_else(PoisonError::into_inner);
    let parts: Vec<&[u8]> = text.as_bytes().chunks_exact(PART).skip(1).collect();
    let memory = File::open("/proc/self/mem").expect("open the memory");
    // A buffer so large that the allocator does not take it from freed memory.
    let mut maps = String::with_capacity(1 << 20);
    File::open("/proc/self/maps")
        .and_then(|mut file| file.read_to_string(&mut maps))
        .expect("read the map of the memory");
    let mut copies = 0;
    // One page, and as much of the next page as a part needs. On the stack, far from the text that
    // is searched.
    let mut window = [0; PAGE as usize + PART - 1];
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
            let found = |part: &&[u8]| memmem::find_iter(&window[..length], *part).count();
            copies += parts.iter().map(found).sum::<usize>();
        }
    }
    copies
}

#[test]
fn passwords_are_cleared_from_memory() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("alluxio-site.properties");
    // Characters of two bytes, line ends of two bytes, a value on two lines, a reference:
    // everything that makes a decoded text longer or shorter.
    let template = "# h\u{c4}h\u{c4}\r\nalluxio.worker.membership.manager.type=ETCD\r\n\
                    alluxio.etcd.endpoints=http://127.0.0.1:1\nalluxio.etcd.username=root\n\
                    alluxio.etcd.password=${alluxio.etcd.tls.client.key.password}\n\
                    alluxio.etcd.tls.client.key.password=";
    let (one_line, another) = REMEMBERED.split_at(64);
    let mut written = File::create(&file).expect("create");
    for part in [template, one_line, "\\\r\n  ", another] {
        written.write_all(part.as_bytes()).expect("write");
    }

    let parts = REMEMBERED.len() / PART - 1;
    let properties = Properties::from_site_file(&file).expect("read");
    assert_eq!(copies_in_memory(REMEMBERED), parts, "while it is read");
    let config = Config::from_properties(&properties).expect("a good configuration");
    assert_eq!(
        copies_in_memory(REMEMBERED),
        2 * parts,
        "while it is checked"
    );
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let entered = runtime.enter();
    let clusters = Clusters::default();
    let membership = Membership::open_in(&config, &clusters).expect("open");
    // Each of the four texts differs from the others.
    let copies = copies_in_memory(REMEMBERED);
    assert!(copies >= 3 * parts, "only {copies} parts found");
    drop((membership, clusters, config, properties));
    drop(entered);
    drop(runtime);
    assert_eq!(copies_in_memory(REMEMBERED), 0);
}

/// Another process makes the key, because the freed memory of making it would be counted too.
#[test]
fn keys_are_cleared_from_memory() {
    let Ok(files) = std::env::var(KEY_FILES) else {
        let authority = Authority::new();
        let client = authority.issue("nobody", &[]);
        let files = [&authority.file(), client.certificate(), client.key()];
        let reading = Command::new(std::env::current_exe().expect("this program"))
            .args(["keys_are_cleared_from_memory", "--exact", "--nocapture"])
            .env(KEY_FILES, files.map(|file| file.to_owned()).join(":"))
            .output()
            .expect("start this program");
        assert!(reading.status.success(), "{reading:?}");
        return;
    };
    let [ca, certificate, key] = files.split(':').collect::<Vec<_>>()[..] else {
        panic!("three files: {files}");
    };
    let text = fs::read_to_string(key).expect("read the key");
    // The name of the algorithm comes first, and is in the certificate too. The test searches for
    // one part of what follows.
    let secret = &text.lines().nth(1).expect("a line of the key")[32..];
    let mut properties = Properties::new();
    for (name, value) in [
        ("alluxio.worker.membership.manager.type", "ETCD"),
        ("alluxio.etcd.endpoints", "https://127.0.0.1:1"),
        ("alluxio.etcd.tls.enabled", "true"),
        ("alluxio.etcd.tls.ca.cert", ca),
        ("alluxio.etcd.tls.client.cert", certificate),
        ("alluxio.etcd.tls.client.key", key),
    ] {
        properties.set(name, value);
    }
    let config = Config::from_properties(&properties).expect("a good configuration");
    assert_eq!(copies_in_memory(secret), 1, "the test's own");
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let entered = runtime.enter();
    // Reads the key.
    let membership = Membership::open_in(&config, &Clusters::default()).expect("open");
    assert_eq!(copies_in_memory(secret), 1);
    drop((membership, entered));
}
