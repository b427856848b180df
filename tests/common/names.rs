//! Names whose addresses a test chooses, for processes of the tool.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;

const TOOL: &str = env!("CARGO_BIN_EXE_alluxio-membership");
/// Runs a program with a separate hosts file, for [`with_own_names`].
const OWN_HOSTS: &str = "mount --bind \"$1\" /etc/hosts && shift && exec \"$@\"";

/// Runs a shell command and then a program, with a separate name service.
pub fn with_own_names(script: &str, network: bool, file: &Path, program: &[&str]) -> Command {
    let mut command = Command::new("unshare");
    command.args(["--map-root-user", "--mount"]);
    if network {
        command.arg("--net");
    }
    command
        .args(["sh", "-c", script, "sh"])
        .arg(file)
        .args(program);
    command.stdin(Stdio::null()).stdout(Stdio::null());
    command
}

/// The name `etcd.test`, which only processes of the tool from here know.
pub struct Name {
    hosts: PathBuf,
    endpoint: String,
    _folder: TempDir,
}

impl Name {
    /// Returns the name of etcd at this port of these addresses.
    pub fn new(port: u16, addresses: &[&str]) -> Name {
        let folder = tempfile::tempdir().expect("a folder");
        let name = Name {
            hosts: folder.path().join("hosts"),
            endpoint: format!("alluxio.etcd.endpoints=http://etcd.test:{port}"),
            _folder: folder,
        };
        name.lead_to(addresses);
        name
    }

    /// Gives the name these addresses, also for running processes.
    pub fn lead_to(&self, addresses: &[&str]) {
        let lines = addresses.iter().map(|it| format!("{it} etcd.test\n"));
        // Written in place, because the file is mounted.
        fs::write(&self.hosts, lines.collect::<String>()).expect("write hosts");
    }

    /// The tool, with a lease of 8 s.
    pub fn tool(&self, arguments: &[&str]) -> Command {
        let properties = [
            "-D",
            "alluxio.worker.membership.manager.type=ETCD",
            "-D",
            "alluxio.worker.failure.detection.timeout=8s",
            "-D",
            &self.endpoint,
        ];
        let program = [&[TOOL], &properties[..], arguments].concat();
        with_own_names(OWN_HOSTS, false, &self.hosts, &program)
    }

    /// The tool that joins a worker and keeps it registered.
    pub fn joins(&self, identity: &str) -> Command {
        self.tool(&["join", "--id", identity, "--host", "h", "--rpc-port", "1"])
    }

    /// Lists the workers in a separate process, which must succeed.
    pub fn lists(&self) {
        let status = self.tool(&["--timeout", "30s", "nodes"]).status();
        let status = status.expect("unshare runs");
        assert!(status.success(), "{status}");
    }
}
