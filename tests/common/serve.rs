//! A running `alluxio-membership serve`, killed when the test ends.

use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

pub const TOOL: &str = env!("CARGO_BIN_EXE_alluxio-membership");
/// The longest wait for something that happens.
const LIMIT: Duration = Duration::from_secs(60);

pub struct Serve {
    child: Child,
    address: String,
}

/// Returns the command `serve` for the cluster "c" in this etcd, on a free port.
pub fn command(endpoint: &str, properties: &[&str], options: &[&str]) -> Command {
    let mut command = Command::new(TOOL);
    command
        .env_remove("ALLUXIO_HOME")
        .env_remove("ALLUXIO_CONF_DIR")
        .env_remove("NOTIFY_SOCKET")
        .args(["-D", "alluxio.worker.membership.manager.type=ETCD"])
        .args(["-D", &format!("alluxio.etcd.endpoints={endpoint}")])
        .args(["-D", "alluxio.cluster.name=c"])
        .args(properties)
        .arg("serve")
        .args(options)
        .stdin(Stdio::null());
    // A shell in the background ignores SIGINT, and its children would inherit that. SAFETY:
    // between fork and exec the closure makes only two system calls.
    unsafe {
        command.pre_exec(|| {
            libc::signal(libc::SIGTERM, libc::SIG_DFL);
            libc::signal(libc::SIGINT, libc::SIG_DFL);
            Ok(())
        });
    }
    command
}

impl Serve {
    pub fn start(endpoint: &str) -> Serve {
        Serve::start_with(endpoint, &[], &[])
    }

    pub fn start_with(endpoint: &str, properties: &[&str], options: &[&str]) -> Serve {
        Serve::spawn(&mut command(endpoint, properties, options))
    }

    /// Starts `serve` for a hosts file without probes.
    pub fn start_static(hosts: &Path) -> Serve {
        let hosts = format!(
            "alluxio.worker.static.membership.manager.config.file={}",
            hosts.display()
        );
        let kind = "alluxio.worker.membership.manager.type=STATIC";
        Serve::start_with("http://127.0.0.1:1", &["-D", kind, "-D", &hosts], &[])
    }

    /// Starts the command, and returns when it listens.
    pub fn spawn(command: &mut Command) -> Serve {
        let child = command.args(["--listen", "127.0.0.1:0"]);
        let mut child = child.stdout(Stdio::piped()).spawn().expect("the tool runs");
        let mut line = String::new();
        let mut stdout = BufReader::new(child.stdout.take().expect("a pipe"));
        stdout.read_line(&mut line).expect("a line");
        let url = line.trim().rsplit(' ').next().unwrap_or_default();
        let address = url.trim_start_matches("http://").trim_end_matches('/');
        assert!(address.starts_with("127.0.0.1:"), "{line}");
        let address = address.to_owned();
        Serve { child, address }
    }

    /// `host:port`.
    pub fn address(&self) -> &str {
        &self.address
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub fn get(&self, path: &str) -> minreq::Response {
        let request = minreq::get(self.url(path)).with_timeout(LIMIT.as_secs());
        request.send().expect("an answer")
    }

    /// Waits until `serve` has listed the cluster.
    pub fn ready(&self) {
        let deadline = std::time::Instant::now() + LIMIT;
        while self.get("/readyz").status_code != 200 {
            assert!(std::time::Instant::now() < deadline, "it is not ready");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Returns the number of TCP connections between the port and clients.
    pub fn connections(&self) -> usize {
        let port = self.address.rsplit(':').next().expect("a port");
        let port: u16 = port.parse().expect("a port");
        let local = format!("0100007F:{port:04X}");
        let table = std::fs::read_to_string("/proc/net/tcp").expect("Linux");
        let rows = table.lines().map(|row| row.split_whitespace());
        // The second column is the own address; the fourth is the state, where 1 is an open
        // connection.
        rows.filter(|row| {
            let row: Vec<&str> = row.clone().take(4).collect();
            row.get(1) == Some(&local.as_str()) && row.get(3) == Some(&"01")
        })
        .count()
    }

    /// Sends SIGTERM and waits for the end.
    pub fn terminate(mut self) -> ExitStatus {
        // SAFETY: kill() takes only numbers. The child is not reaped, so the id is its own.
        unsafe { libc::kill(self.child.id() as libc::pid_t, libc::SIGTERM) };
        let deadline = std::time::Instant::now() + LIMIT;
        loop {
            if let Some(status) = self.child.try_wait().expect("wait") {
                return status;
            }
            assert!(std::time::Instant::now() < deadline, "it does not end");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Serve {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Raises the limit of open files to the maximum, for tests with many clients.
pub fn raise_file_limit() {
    // SAFETY: both calls read and write only the given struct.
    unsafe {
        let mut limit: libc::rlimit = std::mem::zeroed();
        libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit);
        limit.rlim_cur = limit.rlim_max;
        assert_eq!(libc::setrlimit(libc::RLIMIT_NOFILE, &limit), 0);
    }
}
