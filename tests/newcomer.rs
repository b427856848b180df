//! The programs that the README shows or names list, watch and join on a real etcd. They are built
//! in a fresh folder: C and C++ programs with an installed library, Rust programs as a new crate.

mod common;

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use common::{Etcd, EtcdVersion};
use tempfile::TempDir;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
const README: &str = include_str!("../README.md");
const WORKER: &str = "worker-11111111-aaaa-4aaa-8aaa-111111111111";
/// The longest wait for a line of a program, for slow machines.
const PATIENCE: Duration = Duration::from_secs(120);

/// Returns the first block of this language in the README.
fn block(language: &str) -> &'static str {
    let start = format!("\n```{language}\n");
    let (_, rest) = README.split_once(&start).expect("a block of the language");
    rest.split_once("```").expect("the block ends").0
}

/// Returns the text of an example that the README links to.
fn example(path: &str) -> String {
    assert!(README.contains(&format!("({path})")), "{path} is not named");
    fs::read_to_string(Path::new(ROOT).join(path)).expect("an example")
}

/// Returns the command that compiles a file, from the README or from the comment of an example.
fn command_for<'a>(text: &'a str, file: &str) -> &'a str {
    let lines = text.lines().map(|line| line.trim_start_matches([' ', '*']));
    lines
        .filter(|line| line.starts_with("cc ") || line.starts_with("c++ "))
        .find(|line| line.split(' ').any(|word| word == file))
        .unwrap_or_else(|| panic!("nothing says how {file} is compiled"))
}

fn succeeds(command: &mut Command) -> String {
    let output = command.output().expect("the command starts");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {errors}");
    String::from_utf8(output.stdout).expect("UTF-8")
}

/// The folder of a newcomer, with the README's configuration for an etcd of its own.
struct Folder {
    folder: TempDir,
    etcd: Etcd,
}

impl Folder {
    async fn new() -> Folder {
        let folder = tempfile::tempdir().expect("a folder");
        let etcd = Etcd::start(EtcdVersion::V3_4).await;
        let site = block("properties").replace("http://127.0.0.1:2379", &etcd.endpoint());
        assert!(site.contains(&etcd.endpoint()));
        fs::write(folder.path().join("alluxio-site.properties"), site).expect("write a file");
        Folder { folder, etcd }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().expect("a folder")).expect("make a folder");
        fs::write(path, text).expect("write a file");
    }

    /// Installs the library of this test with the script of `make install`.
    fn install(&self) {
        let test = std::env::current_exe().expect("the path of this test");
        let built = self.path("built");
        fs::create_dir_all(built.join("static")).expect("make a folder");
        let library = "liballuxio_membership.so";
        symlink(test.with_file_name(library), built.join(library)).expect("a link");
        let tool = env!("CARGO_BIN_EXE_alluxio-membership");
        symlink(tool, built.join("alluxio-membership")).expect("a link");
        // These programs use the shared library. scripts/test-install tries the static one.
        let archive = built.join("static/liballuxio_membership.a");
        succeeds(Command::new("ar").arg("rcs").arg(archive));
        fs::write(built.join("native-static-libs"), "").expect("write a file");
        let mut install = Command::new(Path::new(ROOT).join("scripts/install"));
        for name in [
            "DESTDIR",
            "BINDIR",
            "LIBDIR",
            "INCLUDEDIR",
            "DATADIR",
            "MANDIR",
        ] {
            install.env_remove(name);
        }
        let prefix = self.path("prefix");
        succeeds(
            install
                .arg("install")
                .env("PREFIX", prefix)
                .env("BUILT", built),
        );
    }

    /// Returns one of the README's shell commands, with the variables that the README sets.
    fn shell(&self, line: &str) -> Command {
        let variables = "export PKG_CONFIG_PATH=$HOME/.local/lib/pkgconfig \
                         LD_LIBRARY_PATH=$HOME/.local/lib";
        assert!(README.contains(variables));
        let variables = variables.replace("$HOME/.local", &self.path("prefix").to_string_lossy());
        let mut command = Command::new("sh");
        command
            .args(["-c", &format!("{variables}; {line}")])
            .current_dir(&self.folder);
        command
    }

    fn compile(&self, file: &str, text: &str, how: &str) {
        self.write(file, text);
        succeeds(&mut self.shell(command_for(how, file)));
    }

    fn start(&self, line: &str) -> Running {
        let mut command = self.shell(&format!("exec {line}"));
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the program starts");
        let (sender, lines) = channel();
        let output = BufReader::new(child.stdout.take().expect("a pipe"));
        std::thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Running { child, lines }
    }

    /// Runs the three programs. The worker prints a line when it is registered, and the watch
    /// prints a line for each change.
    fn try_programs(&self, programs: &Programs) {
        let worker = self.start(&programs.worker);
        let registered = worker.line();
        assert!(registered.contains(WORKER), "{registered}");
        let listed = succeeds(&mut self.shell(&programs.list));
        assert!(listed.contains(programs.listed), "{listed}");
        let mut watch = self.start(&programs.watch);
        let added = watch.line();
        assert!(
            added.contains(WORKER) && added.contains(programs.added),
            "{added}"
        );
        worker.end();
        let lost = watch.line();
        assert!(
            lost.contains(WORKER) && lost.contains(programs.lost),
            "{lost}"
        );
        // Not every watch ends at the end of its input.
        watch.child.kill().expect("the watch runs");
        watch.child.wait().expect("the watch ends");
    }
}

/// The commands, and the texts that their lines contain.
struct Programs {
    list: String,
    watch: String,
    worker: String,
    listed: &'static str,
    added: &'static str,
    lost: &'static str,
}

struct Running {
    child: Child,
    lines: Receiver<String>,
}

impl Running {
    fn line(&self) -> String {
        self.lines.recv_timeout(PATIENCE).expect("a line")
    }

    /// Ends the standard input, then sends SIGTERM to a program that still runs. The program must
    /// end with success.
    fn end(mut self) {
        drop(self.child.stdin.take());
        let has_ended = |child: &mut Child| child.try_wait().expect("a child").is_some();
        for _ in 0..20 {
            if has_ended(&mut self.child) {
                break;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        if !has_ended(&mut self.child) {
            // SAFETY: kill() takes numbers only; the child is not reaped yet, so its id is its own.
            unsafe { libc::kill(self.child.id() as libc::pid_t, libc::SIGTERM) };
        }
        assert!(self.child.wait().expect("the program ends").success());
    }
}

#[tokio::test]
async fn programs_in_c() {
    let folder = Folder::new().await;
    folder.install();
    folder.compile("list.c", block("c"), README);
    for name in ["watch", "worker"] {
        let text = example(&format!("examples/c/{name}.c"));
        folder.compile(&format!("{name}.c"), &text, &text);
    }
    folder.try_programs(&Programs {
        list: "./list alluxio-site.properties".into(),
        watch: "./watch alluxio-site.properties".into(),
        worker: format!("./worker alluxio-site.properties {WORKER} host1 29999"),
        listed: "host1\n",
        added: "added",
        lost: "lost",
    });
}

#[tokio::test]
async fn programs_in_cpp() {
    let folder = Folder::new().await;
    folder.install();
    folder.compile("list.cpp", block("cpp"), README);
    for name in ["watch", "worker"] {
        let text = example(&format!("examples/cpp/{name}.cpp"));
        folder.compile(&format!("{name}.cpp"), &text, &text);
    }
    folder.try_programs(&Programs {
        list: "./list alluxio-site.properties".into(),
        watch: "./watch alluxio-site.properties".into(),
        worker: format!("./worker alluxio-site.properties {WORKER} host1 29999"),
        listed: "worker-11111111-aaaa-4aaa-8aaa-111111111111 live\n",
        added: "added",
        lost: "lost",
    });
}

/// Builds a new crate with the README's dependencies. Its programs contain no function of the C API
/// and no native method, because the crate does not enable these features.
#[tokio::test]
async fn programs_in_rust() {
    let folder = Folder::new().await;
    let path = r#"path = "../alluxio-membership""#;
    let dependencies = block("toml");
    assert!(dependencies.contains(path), "{dependencies}");
    let dependencies = dependencies.replace(path, &format!("path = {ROOT:?}"));
    let manifest = "[package]\nname = \"newcomer\"\nversion = \"0.0.0\"\nedition = \"2024\"\n";
    folder.write("Cargo.toml", &format!("{manifest}\n{dependencies}"));
    folder.write("src/bin/list.rs", block("rust,no_run"));
    for name in ["watch", "worker"] {
        let text = example(&format!("examples/{name}.rs"));
        folder.write(&format!("src/bin/{name}.rs"), &text);
    }
    // The versions that the library is tested with, and a folder that the next run finds again.
    let lock = fs::copy(
        Path::new(ROOT).join("Cargo.lock"),
        folder.path("Cargo.lock"),
    );
    lock.expect("copy a file");
    let target = Path::new(ROOT).join("target/newcomer");
    let mut cargo = Command::new(env!("CARGO"));
    cargo
        .args(["build", "--quiet", "--target-dir"])
        .arg(&target)
        .current_dir(&folder.folder);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("CARGO_") && name != "CARGO_HOME" {
            cargo.env_remove(name);
        }
    }
    succeeds(&mut cargo);

    let built = |name: &str| target.join("debug").join(name).display().to_string();
    for name in ["list", "watch", "worker"] {
        let symbols = succeeds(Command::new("nm").arg(built(name)));
        let foreign = |name: &&str| name.starts_with("axm_") || name.starts_with("Java_");
        let names = symbols.lines().filter_map(|line| line.rsplit(' ').next());
        assert_eq!(names.filter(foreign).count(), 0, "{name}");
        assert!(symbols.contains("alluxio_membership"), "{name}");
    }
    let endpoint = folder.etcd.endpoint();
    folder.try_programs(&Programs {
        list: format!("{} alluxio-site.properties", built("list")),
        watch: format!("{} {endpoint}", built("watch")),
        worker: format!("{} {endpoint} {WORKER} host1", built("worker")),
        listed: "worker-11111111-aaaa-4aaa-8aaa-111111111111 Live\n",
        added: "Added",
        lost: "Lost",
    });
}
