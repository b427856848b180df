//! Real etcd servers for the tests. Each owns its ports and its folder, is healthy when it is
//! returned, and ends with the test, however the test ends.

// Every test program compiles this module, but none uses all of it.
#![allow(dead_code)]

pub mod dead;
pub mod names;
pub mod serve;
pub mod tls;
pub mod toxiproxy;

use std::collections::BTreeSet;
use std::fs::{self, OpenOptions};
use std::future::Future;
use std::io;
use std::mem::MaybeUninit;
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use etcd_client::{
    Client, ConnectOptions, DeleteOptions, GetOptions, KeyValue, MemberAddOptions, Permission,
    PutOptions,
};
use tempfile::TempDir;

use self::tls::Issued;

/// Long enough for a loaded machine. Only a server that never becomes healthy uses all of it.
const START_DEADLINE: Duration = Duration::from_secs(60);
const STOP_DEADLINE: Duration = Duration::from_secs(20);
const CALL_DEADLINE: Duration = Duration::from_secs(10);

/// The etcd versions that the library is tested with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EtcdVersion {
    /// Debian's `etcd-server`: `$AXM_ETCD_3_4`, else `etcd` on the `PATH`.
    V3_4,
    /// The server that `make tools` builds: `$AXM_ETCD_3_6`, else `.tools/bin/etcd-3.6` of the
    /// project.
    V3_6,
}

impl EtcdVersion {
    /// All versions, oldest first.
    pub const ALL: [EtcdVersion; 2] = [EtcdVersion::V3_4, EtcdVersion::V3_6];

    /// Returns the server's program. Panics if it is missing, because a test that did not run did
    /// not pass.
    pub fn binary(self) -> PathBuf {
        let (variable, default) = match self {
            EtcdVersion::V3_4 => ("AXM_ETCD_3_4", on_path("etcd")),
            EtcdVersion::V3_6 => (
                "AXM_ETCD_3_6",
                Some(Path::new(env!("CARGO_MANIFEST_DIR")).join(".tools/bin/etcd-3.6")),
            ),
        };
        let set = std::env::var_os(variable).map(PathBuf::from);
        match set.or(default) {
            Some(binary) if binary.is_file() => binary,
            missing => panic!(
                "no etcd server for {self:?} ({missing:?}): run `make tools`, or set ${variable} \
                 to one"
            ),
        }
    }
}

/// The name in tables.
impl std::fmt::Display for EtcdVersion {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            EtcdVersion::V3_4 => "3.4",
            EtcdVersion::V3_6 => "3.6",
        })
    }
}

fn on_path(program: &str) -> Option<PathBuf> {
    std::env::split_paths(&std::env::var_os("PATH")?)
        .map(|folder| folder.join(program))
        .find(|file| file.is_file())
}

/// Creates one test per etcd version from an `async fn name(version: EtcdVersion)`:
/// `name::etcd_3_4` and `name::etcd_3_6`. An attribute before it applies to each of them.
#[allow(unused_macros)]
macro_rules! on_every_etcd {
    (#[$attribute:meta] $($name:ident),+ $(,)?) => {
        $(on_every_etcd!(@ [#[$attribute]] $name);)+
    };
    ($($name:ident),+ $(,)?) => {
        $(on_every_etcd!(@ [] $name);)+
    };
    (@ [$($attribute:tt)*] $name:ident) => {
        mod $name {
            use crate::common::EtcdVersion;

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            $($attribute)*
            async fn etcd_3_4() {
                super::$name(EtcdVersion::V3_4).await
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            $($attribute)*
            async fn etcd_3_6() {
                super::$name(EtcdVersion::V3_6).await
            }
        }
    };
}
#[allow(unused_imports)]
pub(crate) use on_every_etcd;

/// Waits until `condition` is true, and fails the test with the text `what` after `deadline`.
pub async fn eventually<F, Fut>(what: &str, deadline: Duration, mut condition: F)
where
    F: FnMut() -> Fut,
    Fut: Future<Output = bool>,
{
    let start = Instant::now();
    while !condition().await {
        assert!(
            start.elapsed() < deadline,
            "not within {deadline:?}: {what}"
        );
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// How to start a server.
#[derive(Debug, Clone)]
pub struct EtcdOptions {
    /// Which server.
    pub version: EtcdVersion,
    /// Further arguments of `etcd`. They come last, so they override the others.
    pub args: Vec<String>,
    /// Switches authentication on, with the user `root` and this password.
    pub root_password: Option<String>,
    /// Listens with TLS too, on a separate port.
    pub tls: Option<ServerTls>,
}

/// The certificate of an etcd server.
#[derive(Debug, Clone)]
pub enum ServerTls {
    /// From these files.
    Files(Issued),
    /// The server creates one itself.
    Auto,
}

impl EtcdOptions {
    /// Options of a server with default settings.
    pub fn new(version: EtcdVersion) -> Self {
        EtcdOptions {
            version,
            args: Vec::new(),
            root_password: None,
            tls: None,
        }
    }

    /// Adds arguments of `etcd`.
    pub fn args(mut self, args: &[&str]) -> Self {
        self.args.extend(args.iter().map(|arg| arg.to_string()));
        self
    }

    /// Listens with TLS too, on a separate port. etcd reads the files for each connection.
    pub fn tls(mut self, certificate: &Issued) -> Self {
        self.tls = Some(ServerTls::Files(certificate.clone()));
        self
    }

    /// Listens with TLS too, with a certificate that etcd creates itself.
    pub fn auto_tls(mut self) -> Self {
        self.tls = Some(ServerTls::Auto);
        self
    }

    /// Switches authentication on, with the user `root` and this password.
    pub fn root_password(mut self, password: &str) -> Self {
        self.root_password = Some(password.to_string());
        self
    }
}

struct PortTaken;

/// One etcd server process.
///
/// The key helpers are the tests' reference. They use plain `etcd_client`, and nothing of the
/// library under test. They panic if etcd does not answer.
pub struct Etcd {
    binary: PathBuf,
    args: Vec<String>,
    client_port: u16,
    tls_port: u16,
    root_password: Mutex<Option<String>>,
    child: Mutex<Option<Child>>,
    /// Where in the log file the present run begins.
    run_in_log: AtomicU64,
    folder: TempDir,
}

impl Etcd {
    /// Starts a single server and waits until it is healthy.
    pub async fn start(version: EtcdVersion) -> Etcd {
        Etcd::start_with(EtcdOptions::new(version)).await
    }

    /// Starts a single server with options and waits until it is healthy.
    pub async fn start_with(options: EtcdOptions) -> Etcd {
        let mut members = start_members(options, 1).await;
        members.remove(0)
    }

    /// `http://127.0.0.1:<port>`.
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.client_port)
    }

    /// `https://<host>:<port>`, for servers that have a certificate.
    pub fn tls_endpoint(&self, host: &str) -> String {
        format!("https://{host}:{}", self.tls_port)
    }

    /// Returns the port of the TLS endpoint.
    pub fn tls_port(&self) -> u16 {
        self.tls_port
    }

    /// Returns the certificate that a server with [`EtcdOptions::auto_tls`] has created.
    pub fn auto_tls_certificate(&self) -> PathBuf {
        self.data_folder().join("fixtures/client/cert.pem")
    }

    /// The client port.
    pub fn port(&self) -> u16 {
        self.client_port
    }

    /// The process id, while the server runs or is paused.
    pub fn pid(&self) -> Option<u32> {
        self.child.lock().unwrap().as_ref().map(Child::id)
    }

    /// Returns everything that the server has logged since its first start.
    pub fn log(&self) -> String {
        fs::read(self.log_file())
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .unwrap_or_default()
    }

    fn log_file(&self) -> PathBuf {
        self.folder.path().join("etcd.log")
    }

    fn data_folder(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// Asks the server to end (SIGTERM) and waits for it.
    pub async fn stop(&self) {
        self.signal(libc::SIGCONT);
        self.signal(libc::SIGTERM);
        let start = Instant::now();
        while self.exit_status().is_none() {
            if start.elapsed() > STOP_DEADLINE {
                self.kill();
                panic!("etcd did not end within {STOP_DEADLINE:?} of SIGTERM");
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        self.child.lock().unwrap().take();
    }

    /// Ends the server like a power cut (SIGKILL) and reaps it. Its data stays.
    pub fn kill(&self) {
        if let Some(mut child) = self.child.lock().unwrap().take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Freezes the server (SIGSTOP). Its connections stay open, and nothing answers after this
    /// returns.
    pub fn pause(&self) {
        let id = self.signal(libc::SIGSTOP);
        // A thread on another processor may answer for some milliseconds more. This waits until all
        // threads have stopped.
        let mut ignored = MaybeUninit::<libc::siginfo_t>::uninit();
        let options = libc::WSTOPPED | libc::WEXITED | libc::WNOWAIT;
        // SAFETY: waitid() writes the given siginfo_t. WNOWAIT leaves the child to be reaped
        // elsewhere.
        let result = unsafe { libc::waitid(libc::P_PID, id, ignored.as_mut_ptr(), options) };
        assert_eq!(result, 0, "wait for etcd: {}", io::Error::last_os_error());
    }

    /// Continues a paused server.
    pub fn resume(&self) {
        self.signal(libc::SIGCONT);
    }

    /// Kills the server if it runs, and starts it again with its data, ports and flags. Healthy on
    /// return.
    pub async fn restart(&self) {
        self.kill();
        self.run_again();
        self.wait_until_running_again().await;
    }

    /// Kills the server, deletes its data and starts it again with its ports and flags. It has the
    /// same cluster id, and its revisions restart. Authentication is off afterwards. For a single
    /// server; a cluster has its own function.
    pub async fn wipe_and_restart(&self) {
        self.kill();
        self.wipe();
        self.restart().await;
    }

    /// Ends the server, copies its data and starts it again.
    pub async fn back_up(&self) -> Backup {
        self.stop().await;
        let backup = Backup(tempfile::tempdir().expect("a folder"));
        copy_folder(&self.data_folder(), backup.0.path()).expect("copy etcd's data");
        self.restart().await;
        backup
    }

    /// Kills the server and starts it again with the data of the backup. Its revisions go back to
    /// those of the backup.
    pub async fn restore(&self, backup: &Backup) {
        self.kill();
        fs::remove_dir_all(self.data_folder()).expect("delete etcd's data");
        copy_folder(backup.0.path(), &self.data_folder()).expect("copy the backup");
        self.restart().await;
    }

    fn wipe(&self) {
        fs::remove_dir_all(self.data_folder()).expect("delete etcd's data");
        self.root_password.lock().unwrap().take();
    }

    /// Returns the id of the process.
    fn signal(&self, signal: libc::c_int) -> u32 {
        let child = self.child.lock().unwrap();
        let id = child.as_ref().expect("etcd runs").id();
        // SAFETY: kill() takes only numbers. The child is not reaped yet, so the id is still its
        // own.
        let result = unsafe { libc::kill(id as libc::pid_t, signal) };
        assert_eq!(result, 0, "signal etcd: {}", io::Error::last_os_error());
        id
    }

    fn exit_status(&self) -> Option<ExitStatus> {
        let mut child = self.child.lock().unwrap();
        child
            .as_mut()
            .and_then(|child| child.try_wait().expect("wait for etcd"))
    }

    fn run(&self) -> io::Result<()> {
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.log_file())?;
        self.run_in_log
            .store(log.metadata()?.len(), Ordering::Relaxed);
        let mut command = Command::new(&self.binary);
        command
            .args(&self.args)
            .env_clear() // ETCD_* variables are options too
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        *self.child.lock().unwrap() = Some(spawn(command)?);
        Ok(())
    }

    fn run_again(&self) {
        self.run().expect("start etcd again");
    }

    /// The server owned these ports, so another process uses them only for a moment.
    async fn wait_until_running_again(&self) {
        let start = Instant::now();
        while let Err(PortTaken) = self.wait_until_healthy().await {
            assert!(start.elapsed() < START_DEADLINE, "etcd's port stays taken");
            tokio::time::sleep(Duration::from_millis(50)).await;
            self.run_again();
        }
    }

    async fn wait_until_healthy(&self) -> Result<(), PortTaken> {
        let start = Instant::now();
        while !self.is_healthy().await {
            if let Some(status) = self.exit_status() {
                self.child.lock().unwrap().take();
                let log = fs::read(self.log_file()).expect("read etcd's log");
                let run_in_log = self.run_in_log.load(Ordering::Relaxed) as usize;
                let log = String::from_utf8_lossy(&log[run_in_log..]);
                if log.contains("address already in use") {
                    return Err(PortTaken);
                }
                panic!("etcd ended with {status}:\n{log}");
            }
            assert!(
                start.elapsed() < START_DEADLINE,
                "etcd is not healthy after {START_DEADLINE:?}:\n{}",
                self.log()
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }
    async fn is_healthy(&self) -> bool {
        let read = async { self.connect().await?.get("health", None).await };
        match tokio::time::timeout(Duration::from_secs(2), read).await {
            Ok(Ok(_)) => true,
            // A learner has joined its cluster, and can do more only after its promotion.
            Ok(Err(error)) => error.to_string().contains("not supported for learner"),
            Err(_) => false,
        }
    }

    async fn connect(&self) -> Result<Client, etcd_client::Error> {
        let root_password = self.root_password.lock().unwrap().clone();
        let options =
            root_password.map(|password| ConnectOptions::new().with_user("root", password));
        Client::connect([self.endpoint()], options).await
    }

    /// Returns a plain client of this server (as `root` if authentication is on).
    pub async fn client(&self) -> Client {
        answer("connect", self.connect()).await
    }

    /// Returns the key in etcd.
    pub async fn get(&self, key: &str) -> Option<KeyValue> {
        let mut client = self.client().await;
        let mut response = answer("get", client.get(key, None)).await;
        response.take_kvs().pop()
    }

    /// Returns all keys with this prefix, in order.
    pub async fn get_prefix(&self, prefix: &str) -> Vec<KeyValue> {
        let mut client = self.client().await;
        let options = GetOptions::new().with_prefix();
        answer("get", client.get(prefix, Some(options)))
            .await
            .take_kvs()
    }

    /// Returns the names of all keys with this prefix, in order.
    pub async fn keys(&self, prefix: &str) -> Vec<String> {
        let kvs = self.get_prefix(prefix).await;
        kvs.iter()
            .map(|kv| String::from_utf8_lossy(kv.key()).into_owned())
            .collect()
    }

    /// Writes a key without a lease.
    pub async fn put(&self, key: &str, value: impl Into<Vec<u8>>) {
        let mut client = self.client().await;
        answer("put", client.put(key, value, None)).await;
    }

    /// Writes a key on a lease.
    pub async fn put_on_lease(&self, key: &str, value: impl Into<Vec<u8>>, lease: i64) {
        let mut client = self.client().await;
        let options = PutOptions::new().with_lease(lease);
        answer("put", client.put(key, value, Some(options))).await;
    }

    /// Deletes a key. Returns whether it existed.
    pub async fn delete(&self, key: &str) -> bool {
        let mut client = self.client().await;
        answer("delete", client.delete(key, None)).await.deleted() > 0
    }

    /// Deletes every key with this prefix. Returns their number.
    pub async fn delete_prefix(&self, prefix: &str) -> i64 {
        let mut client = self.client().await;
        let options = DeleteOptions::new().with_prefix();
        answer("delete", client.delete(prefix, Some(options)))
            .await
            .deleted()
    }

    /// etcd's current revision.
    pub async fn revision(&self) -> i64 {
        let mut client = self.client().await;
        let response = answer("get", client.get("revision", None)).await;
        response.header().expect("etcd sends a header").revision()
    }

    /// Compacts the history below `revision`.
    pub async fn compact(&self, revision: i64) {
        let mut client = self.client().await;
        answer("compact", client.compact(revision, None)).await;
    }

    /// The ids of all leases.
    pub async fn leases(&self) -> Vec<i64> {
        let mut client = self.client().await;
        let response = answer("list leases", client.leases()).await;
        response.leases().iter().map(|lease| lease.id()).collect()
    }

    /// Grants a lease and returns its id.
    pub async fn grant_lease(&self, ttl_seconds: i64) -> i64 {
        let mut client = self.client().await;
        answer("grant a lease", client.lease_grant(ttl_seconds, None))
            .await
            .id()
    }

    /// Returns the seconds left and the seconds granted of a lease; `None` if etcd does not have
    /// it.
    pub async fn lease_ttl(&self, lease: i64) -> Option<(i64, i64)> {
        let mut client = self.client().await;
        let response = answer("look at a lease", client.lease_time_to_live(lease, None)).await;
        (response.ttl() >= 0).then(|| (response.ttl(), response.granted_ttl()))
    }

    /// Revokes a lease.
    pub async fn revoke_lease(&self, lease: i64) {
        let mut client = self.client().await;
        answer("revoke a lease", client.lease_revoke(lease)).await;
    }

    /// Switches authentication on, with the user `root` and this password. The helpers here
    /// continue as `root`.
    pub async fn enable_auth(&self, root_password: &str) {
        let mut client = self.client().await;
        answer("add the root role", client.role_add("root")).await;
        answer("add root", client.user_add("root", root_password, None)).await;
        answer("make root root", client.user_grant_role("root", "root")).await;
        answer("enable authentication", client.auth_enable()).await;
        *self.root_password.lock().unwrap() = Some(root_password.to_string());
    }

    /// Switches authentication off; users and roles stay.
    pub async fn disable_auth(&self) {
        let mut client = self.client().await;
        answer("disable authentication", client.auth_disable()).await;
        self.root_password.lock().unwrap().take();
    }

    /// Returns the sum of a counter of the server over its variants that have all these labels.
    pub fn metric(&self, name: &str, labels: &[&str]) -> u64 {
        let url = format!("{}/metrics", self.endpoint());
        let answer = minreq::get(url).with_timeout(60).send().expect("metrics");
        answer
            .as_str()
            .expect("text")
            .lines()
            .filter(|line| {
                line.starts_with(name) && labels.iter().all(|label| line.contains(label))
            })
            .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
            .sum::<f64>() as u64
    }

    /// Adds a user with a new role that has exactly these permissions.
    pub async fn add_user(&self, name: &str, password: &str, permissions: Vec<Permission>) {
        let mut client = self.client().await;
        answer("add a role", client.role_add(name)).await;
        for permission in permissions {
            let granted = client.role_grant_permission(name, permission);
            answer("grant a permission", granted).await;
        }
        answer("add a user", client.user_add(name, password, None)).await;
        answer("grant a role", client.user_grant_role(name, name)).await;
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        self.kill();
        if thread::panicking() {
            eprintln!("--- log of etcd at {}\n{}", self.endpoint(), self.log());
        }
    }
}

async fn answer<T>(what: &str, call: impl Future<Output = Result<T, etcd_client::Error>>) -> T {
    match tokio::time::timeout(CALL_DEADLINE, call).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(error)) => panic!("etcd did not {what}: {error}"),
        Err(_) => panic!("etcd did not {what} within {CALL_DEADLINE:?}"),
    }
}

/// A copy of a server's data.
pub struct Backup(TempDir);

fn copy_folder(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    // etcd refuses data that others may read.
    fs::set_permissions(to, fs::metadata(from)?.permissions())?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_folder(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}

/// Several etcd servers that form one cluster.
pub struct EtcdCluster {
    members: Vec<Etcd>,
}

impl EtcdCluster {
    /// Starts `size` servers and waits until each of them is healthy.
    pub async fn start(version: EtcdVersion, size: usize) -> EtcdCluster {
        EtcdCluster::start_with(EtcdOptions::new(version), size).await
    }

    /// Starts `size` servers with options and waits until each of them is healthy.
    pub async fn start_with(options: EtcdOptions, size: usize) -> EtcdCluster {
        EtcdCluster {
            members: start_members(options, size).await,
        }
    }

    /// Returns the servers, for inspection and for faults. A stopped server returns with
    /// `restart()`, which waits for a quorum.
    pub fn members(&self) -> &[Etcd] {
        &self.members
    }

    /// All endpoints, in the order of [`members`](Self::members).
    pub fn endpoints(&self) -> Vec<String> {
        self.members.iter().map(Etcd::endpoint).collect()
    }

    /// Returns the index in [`members`](Self::members) of the leader, as soon as an answering
    /// member knows one.
    pub async fn leader(&self) -> usize {
        let start = Instant::now();
        loop {
            for (place, member) in self.members.iter().enumerate() {
                let status = async { member.connect().await?.status().await };
                let status = tokio::time::timeout(Duration::from_millis(500), status).await;
                if let Ok(Ok(status)) = status
                    && status
                        .header()
                        .is_some_and(|h| h.member_id() == status.leader())
                {
                    return place;
                }
            }
            assert!(
                start.elapsed() < START_DEADLINE,
                "the cluster has no leader"
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Kills all members (SIGKILL) and starts them again with their data.
    pub async fn restart(&self) {
        self.members.iter().for_each(Etcd::kill);
        self.run_again().await;
    }

    /// Kills all members, deletes their data and starts them again with their flags. They have the
    /// same cluster id and member ids, and their revisions restart. Authentication is off
    /// afterwards.
    pub async fn wipe_and_restart(&self) {
        self.members.iter().for_each(Etcd::kill);
        self.members.iter().for_each(Etcd::wipe);
        self.run_again().await;
    }

    /// Adds a server that has the data of the others but neither votes nor serves clients.
    pub async fn add_learner(&self) -> Etcd {
        let template = &self.members[0];
        let [client_port, peer_port] = free_ports(2)[..] else {
            unreachable!("as many as were asked for");
        };
        let client_url = format!("http://127.0.0.1:{client_port}");
        let peer_url = format!("http://127.0.0.1:{peer_port}");
        eventually("a learner is added", START_DEADLINE, || async {
            // Refused until the members have been connected for some seconds.
            let options = MemberAddOptions::new().with_is_learner();
            let mut client = template.client().await;
            let added = client.member_add([&peer_url], Some(options)).await;
            match added {
                Ok(_) => true,
                Err(error) => error.to_string().contains("Peer URLs already exists"),
            }
        })
        .await;
        let initial = template.args.iter();
        let initial = initial
            .filter_map(|arg| arg.strip_prefix("--initial-cluster="))
            .next_back()
            .expect("members know their cluster");
        let folder = tempfile::tempdir().expect("make a folder for etcd");
        let learner = Etcd {
            binary: template.binary.clone(),
            args: vec![
                "--name=learner".to_string(),
                format!("--data-dir={}", folder.path().join("data").display()),
                format!("--listen-client-urls={client_url}"),
                format!("--advertise-client-urls={client_url}"),
                format!("--listen-peer-urls={peer_url}"),
                format!("--initial-advertise-peer-urls={peer_url}"),
                format!("--initial-cluster={initial},learner={peer_url}"),
                "--initial-cluster-state=existing".to_string(),
                "--logger=zap".to_string(),
                "--log-outputs=stderr".to_string(),
            ],
            client_port,
            tls_port: 0,
            root_password: Mutex::new(None),
            child: Mutex::new(None),
            run_in_log: AtomicU64::new(0),
            folder,
        };
        learner.run().expect("start etcd");
        learner.wait_until_running_again().await;
        learner
    }

    async fn run_again(&self) {
        self.members.iter().for_each(Etcd::run_again);
        for member in &self.members {
            member.wait_until_running_again().await;
        }
    }
}

async fn start_members(options: EtcdOptions, size: usize) -> Vec<Etcd> {
    let start = Instant::now();
    loop {
        match try_start_members(&options, size).await {
            Ok(members) => {
                if let Some(password) = &options.root_password {
                    members[0].enable_auth(password).await;
                    for member in &members[1..] {
                        *member.root_password.lock().unwrap() = Some(password.clone());
                    }
                }
                return members;
            }
            Err(PortTaken) => {
                assert!(start.elapsed() < START_DEADLINE, "no free ports for etcd")
            }
        }
    }
}

async fn try_start_members(options: &EtcdOptions, size: usize) -> Result<Vec<Etcd>, PortTaken> {
    let ports = free_ports(3 * size);
    let (client_ports, ports) = ports.split_at(size);
    let (peer_ports, tls_ports) = ports.split_at(size);
    let peer_url = |place: usize| format!("http://127.0.0.1:{}", peer_ports[place]);
    let cluster = (0..size)
        .map(|place| format!("member{place}={}", peer_url(place)))
        .collect::<Vec<_>>()
        .join(",");
    let members: Vec<Etcd> = (0..size)
        .map(|place| {
            let folder = tempfile::Builder::new()
                .prefix("etcd-")
                .tempdir()
                .expect("make a folder for etcd");
            let client_url = format!("http://127.0.0.1:{}", client_ports[place]);
            let mut args = vec![
                format!("--name=member{place}"),
                format!("--data-dir={}", folder.path().join("data").display()),
                format!("--listen-client-urls={client_url}"),
                format!("--advertise-client-urls={client_url}"),
                format!("--listen-peer-urls={}", peer_url(place)),
                format!("--initial-advertise-peer-urls={}", peer_url(place)),
                format!("--initial-cluster={cluster}"),
                "--initial-cluster-state=new".to_string(),
                "--logger=zap".to_string(),
                "--log-outputs=stderr".to_string(),
            ];
            if let Some(tls) = &options.tls {
                let tls_url = format!("https://127.0.0.1:{}", tls_ports[place]);
                args.push(format!("--listen-client-urls={client_url},{tls_url}"));
                match tls {
                    ServerTls::Files(issued) => args.extend([
                        format!("--cert-file={}", issued.certificate()),
                        format!("--key-file={}", issued.key()),
                    ]),
                    ServerTls::Auto => args.push("--auto-tls".to_string()),
                }
            }
            args.extend(options.args.iter().cloned());
            Etcd {
                binary: options.version.binary(),
                args,
                client_port: client_ports[place],
                tls_port: tls_ports[place],
                root_password: Mutex::new(None),
                child: Mutex::new(None),
                run_in_log: AtomicU64::new(0),
                folder,
            }
        })
        .collect();
    members
        .iter()
        .for_each(|member| member.run().expect("start etcd"));
    for member in &members {
        member.wait_until_healthy().await?;
    }
    Ok(members)
}

/// Returns ports that nothing listens on, at any address of this machine. Each port is returned
/// once, because its server may be stopped for a while. The ports are below the range of outgoing
/// connections. Otherwise a client that retries a stopped server on such a port could connect to
/// itself, and hold the port.
pub fn free_ports(count: usize) -> Vec<u16> {
    static GIVEN_OUT: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());
    let mut given_out = GIVEN_OUT.lock().unwrap();
    let mut ports = Vec::new();
    while ports.len() < count {
        let port = rand::random_range(12_000..32_000);
        if TcpListener::bind(("0.0.0.0", port)).is_ok() && given_out.insert(port) {
            ports.push(port);
        }
    }
    ports
}

/// Starts a process that the kernel kills when this process ends, even by SIGKILL.
///
/// The kernel watches the *thread* that started the process, and the threads of tests end early.
/// Therefore one thread that never ends starts all processes.
pub fn spawn(command: Command) -> io::Result<Child> {
    type Request = (Command, mpsc::Sender<io::Result<Child>>);
    static STARTER: OnceLock<Mutex<mpsc::Sender<Request>>> = OnceLock::new();
    let starter = STARTER.get_or_init(|| {
        let (sender, requests) = mpsc::channel::<Request>();
        thread::spawn(move || {
            for (mut command, reply) in requests {
                let parent = std::process::id();
                // SAFETY: between fork and exec the closure makes only two system calls.
                unsafe {
                    command.pre_exec(move || {
                        if libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) != 0 {
                            return Err(io::Error::last_os_error());
                        }
                        if libc::getppid() as u32 != parent {
                            return Err(io::ErrorKind::BrokenPipe.into()); // it ended just before
                        }
                        Ok(())
                    });
                }
                let _ = reply.send(command.spawn());
            }
        });
        Mutex::new(sender)
    });
    let (reply, answer) = mpsc::channel();
    let sent = starter.lock().unwrap().send((command, reply));
    sent.expect("the starter thread runs");
    answer.recv().expect("the starter thread answers")
}
