//! The C API as C programs meet it: each program of `tests/c` and `examples/c` is compiled with all warnings as errors
//! and run plainly, with the address and the undefined-behaviour sanitizer, and under valgrind.

mod common;

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::symlink;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use alluxio_membership::error::ErrorKind;
use alluxio_membership::worker::{WorkerIdentity, WorkerNetAddress};
use common::{Etcd, EtcdVersion};
use tempfile::TempDir;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
const WARNINGS: [&str; 4] = ["-Wall", "-Wextra", "-Wpedantic", "-Werror"];

/// How a program is run.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Mode {
    Plain,
    Sanitized,
    Valgrind,
}

const MODES: [Mode; 3] = [Mode::Plain, Mode::Sanitized, Mode::Valgrind];

/// A folder with the library under the names that linkers and loaders look for, and with what is compiled.
struct Workshop {
    folder: TempDir,
}

impl Workshop {
    fn new() -> Workshop {
        let folder = tempfile::tempdir().expect("a temporary folder");
        // The copy beside this test; the one a folder up may be older.
        let test = std::env::current_exe().expect("the path of this test");
        let library = test.with_file_name("liballuxio_membership.so");
        assert!(library.exists(), "{} is missing", library.display());
        for name in ["liballuxio_membership.so", "liballuxio_membership.so.0"] {
            symlink(&library, folder.path().join(name)).expect("a link to the library");
        }
        Workshop { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, text).expect("a file in a temporary folder");
        path
    }

    /// Two hosts, one of them not ASCII.
    fn hosts_file(&self) -> PathBuf {
        self.write("workers", "# two workers\nhost1\n\n  host-ü  \n")
    }

    /// Compiles a source file of the project and returns the program.
    fn compile(&self, compiler: &str, source: &str, options: &[&str]) -> PathBuf {
        let program = self.path("program");
        let output = Command::new(compiler)
            .args(WARNINGS)
            .args(options)
            .args(["-g", "-pthread", "-I", "include"])
            .arg(source)
            .arg("-o")
            .arg(&program)
            .arg("-L")
            .arg(self.folder.path())
            .arg("-lalluxio_membership")
            .arg(format!("-Wl,-rpath,{}", self.folder.path().display()))
            .current_dir(ROOT)
            .output()
            .unwrap_or_else(|error| panic!("{compiler}: {error}"));
        assert_success(&format!("{compiler} {options:?} {source}"), &output);
        program
    }

    fn compile_for(&self, source: &str, mode: Mode) -> PathBuf {
        let sanitizers = [
            "-std=c11",
            "-fsanitize=address,undefined",
            "-fno-sanitize-recover=all",
        ];
        let options = match mode {
            Mode::Sanitized => &sanitizers[..],
            Mode::Plain | Mode::Valgrind => &sanitizers[..1],
        };
        self.compile("cc", source, options)
    }

    /// Runs a program and checks that it, and whatever watches it, is content.
    fn check(&self, source: &str, mode: Mode, arguments: &[&OsStr]) {
        let program = self.compile_for(source, mode);
        let output = run(&program, mode, arguments);
        assert_success(&format!("{source} ({mode:?})"), &output);
    }
}

/// What valgrind's own findings make a program exit with.
const VALGRIND_ERROR: i32 = 99;

fn run(program: &Path, mode: Mode, arguments: &[&OsStr]) -> Output {
    let mut command = match mode {
        Mode::Plain | Mode::Sanitized => Command::new(program),
        Mode::Valgrind => {
            // The runtime lives as long as the process: what it holds is no leak.
            let mut command = Command::new("valgrind");
            command
                .args([
                    "--quiet",
                    "--leak-check=full",
                    "--errors-for-leak-kinds=definite",
                ])
                .args(["--show-leak-kinds=definite", "--num-callers=30"])
                .arg(format!("--error-exitcode={VALGRIND_ERROR}"))
                .arg(program);
            command
        }
    };
    command
        .args(arguments)
        .env_remove("ASAN_OPTIONS")
        .env_remove("LD_LIBRARY_PATH")
        .output()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"))
}

#[track_caller]
fn assert_success(what: &str, output: &Output) {
    assert!(
        output.status.success(),
        "{what}: {}{}\n{}\n{}",
        output.status,
        if output.status.signal() == Some(libc::SIGPIPE) {
            " (SIGPIPE)"
        } else {
            ""
        },
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
}

#[test]
fn the_header_is_c99_c11_and_cpp11() {
    let workshop = Workshop::new();
    for (compiler, options) in [
        ("gcc", &["-std=c99"][..]),
        ("gcc", &["-std=c11"]),
        ("clang", &["-std=c99"]),
        ("clang", &["-std=c11"]),
        ("g++", &["-std=c++11", "-x", "c++"]),
        ("clang++", &["-std=c++11", "-x", "c++"]),
    ] {
        let program = workshop.compile(compiler, "tests/c/header.c", options);
        assert_success(compiler, &run(&program, Mode::Plain, &[]));
    }
}

/// `InvalidArgument` as `AXM_ERROR_INVALID_ARGUMENT`.
fn c_name(kind: ErrorKind) -> String {
    let mut name = "AXM_ERROR".to_owned();
    for letter in format!("{kind:?}").chars() {
        if letter.is_ascii_uppercase() {
            name.push('_');
        }
        name.push(letter.to_ascii_uppercase());
    }
    name
}

#[test]
fn the_headers_error_codes_are_the_numbers_of_the_kinds() {
    use ErrorKind::*;
    let kinds = [
        InvalidArgument,
        InvalidConfig,
        MissingConfig,
        NotFound,
        AlreadyExists,
        Corrupt,
        Unavailable,
        Unauthenticated,
        PermissionDenied,
        Io,
        Closed,
        Forked,
        Internal,
    ];
    let expected: Vec<String> = kinds
        .iter()
        .map(|&kind| format!("{} = {},", c_name(kind), kind as i32))
        .collect();
    let header = fs::read_to_string(Path::new(ROOT).join("include/alluxio_membership.h"))
        .expect("the header");
    let found: Vec<&str> = header
        .lines()
        .map(str::trim)
        .filter(|line| line.starts_with("AXM_ERROR_"))
        .collect();
    assert_eq!(found, expected);
}

/// What the library offers to the linker is what the header declares: no more, no less.
#[test]
fn exported_symbols_are_the_declared_functions() {
    let workshop = Workshop::new();
    let output = Command::new("nm")
        .args(["--dynamic", "--defined-only", "--format=posix"])
        .arg(workshop.path("liballuxio_membership.so"))
        .output()
        .expect("nm");
    assert_success("nm", &output);
    let mut exported: Vec<String> = String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(|line| line.split(' ').next())
        .filter(|symbol| symbol.starts_with("axm_"))
        .map(str::to_owned)
        .collect();
    exported.sort();

    let preprocessed = Command::new("cc")
        .args(["-E", "-P", "include/alluxio_membership.h"])
        .current_dir(ROOT)
        .output()
        .expect("cc");
    assert_success("cc -E", &preprocessed);
    let text = String::from_utf8_lossy(&preprocessed.stdout).into_owned();
    let mut declared: Vec<String> = text
        .split(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != '(')
        .filter_map(|word| word.split_once('('))
        .map(|(name, _)| name.to_owned())
        .filter(|name| name.starts_with("axm_"))
        .collect();
    declared.sort();
    assert!(declared.len() > 40, "{declared:?}");
    assert_eq!(exported, declared);
}

#[test]
fn misuse_is_an_error() {
    let workshop = Workshop::new();
    let hosts = workshop.hosts_file();
    for mode in MODES {
        workshop.check("tests/c/misuse.c", mode, &[hosts.as_ref()]);
    }
}

#[test]
fn static_cluster() {
    let workshop = Workshop::new();
    let hosts = workshop.hosts_file();
    let site = workshop.write("alluxio-site.properties", "alluxio.worker.rpc.port=12345\n");
    for mode in MODES {
        workshop.check("tests/c/static.c", mode, &[hosts.as_ref(), site.as_ref()]);
    }
}

#[test]
fn fork_after_open() {
    let workshop = Workshop::new();
    let hosts = workshop.hosts_file();
    for mode in MODES {
        workshop.check("tests/c/fork.c", mode, &[hosts.as_ref()]);
    }
}

#[test]
fn small_stacks_and_a_plain_exit() {
    let workshop = Workshop::new();
    let hosts = workshop.hosts_file();
    for mode in MODES {
        workshop.check("tests/c/threads.c", mode, &[hosts.as_ref()]);
    }
}

#[test]
fn the_library_stays_after_dlclose() {
    let workshop = Workshop::new();
    let hosts = workshop.hosts_file();
    let library = workshop.path("liballuxio_membership.so.0");
    let arguments = [library.as_ref(), hosts.as_ref()];
    for mode in MODES {
        workshop.check("tests/c/unload.c", mode, &arguments);
    }
}

/// Not under valgrind, which delivers signals to threads as it likes.
#[test]
fn signals_are_the_hosts() {
    let workshop = Workshop::new();
    let hosts = workshop.hosts_file();
    for mode in [Mode::Plain, Mode::Sanitized] {
        workshop.check("tests/c/signals.c", mode, &[hosts.as_ref()]);
    }
}

#[tokio::test]
async fn workers_in_etcd() {
    let workshop = Workshop::new();
    for mode in MODES {
        let etcd = Etcd::start(EtcdVersion::V3_4).await;
        etcd.put("/DHT/c/AUTHORIZED/broken", "{").await;
        etcd.put("/ServiceDiscovery/c/broken", "no JSON").await;
        workshop.check("tests/c/etcd.c", mode, &[etcd.endpoint().as_ref()]);
    }
}

#[tokio::test]
async fn callbacks_and_the_end() {
    let workshop = Workshop::new();
    for mode in MODES {
        let etcd = Etcd::start(EtcdVersion::V3_4).await;
        workshop.check("tests/c/callbacks.c", mode, &[etcd.endpoint().as_ref()]);
    }
}

#[tokio::test]
async fn fork_while_registered() {
    let workshop = Workshop::new();
    let hosts = workshop.hosts_file();
    for mode in MODES {
        let etcd = Etcd::start(EtcdVersion::V3_4).await;
        let endpoint = etcd.endpoint();
        workshop.check("tests/c/fork.c", mode, &[hosts.as_ref(), endpoint.as_ref()]);
    }
}

#[tokio::test]
async fn etcd_dies() {
    let workshop = Workshop::new();
    for mode in MODES {
        let etcd = Etcd::start(EtcdVersion::V3_4).await;
        let pid = etcd.pid().expect("etcd runs").to_string();
        workshop.check(
            "tests/c/etcd_dies.c",
            mode,
            &[
                etcd.endpoint().as_ref(),
                pid.as_ref(),
                "http://127.0.0.1:1".as_ref(),
            ],
        );
    }
}

/// Runs the example and returns its exit status and what it printed.
fn nodes(program: &Path, mode: Mode, arguments: &[&str]) -> (Option<i32>, String, String) {
    let arguments: Vec<&OsStr> = arguments.iter().map(OsStr::new).collect();
    let output = run(program, mode, &arguments);
    (
        output.status.code(),
        String::from_utf8(output.stdout).expect("UTF-8"),
        String::from_utf8(output.stderr).expect("UTF-8"),
    )
}

#[test]
fn example_nodes_lists_a_static_cluster() {
    let workshop = Workshop::new();
    let site = workshop.write(
        "alluxio-site.properties",
        &format!(
            "alluxio.worker.membership.manager.type=STATIC\n\
             alluxio.worker.static.membership.manager.config.file={}\n",
            workshop.hosts_file().display()
        ),
    );
    let site = site.to_str().expect("UTF-8");
    let address = |host: &str| WorkerNetAddress {
        rpc_port: 7,
        data_port: 29997,
        netty_data_port: 29997,
        web_port: 30000,
        http_server_port: 28080,
        ..WorkerNetAddress::new(host)
    };
    let header = "WorkerId\tAddress\tStatus\n";
    let all = format!(
        "{header}{}\thost1:7\tN/A\n{}\thost-ü:7\tN/A\n",
        address("host1").main_info_md5(),
        address("host-ü").main_info_md5()
    );
    let live = format!(
        "{header}{}\thost1:7\tONLINE\n{}\thost-ü:7\tONLINE\n",
        WorkerIdentity::of_static_host("host1"),
        WorkerIdentity::of_static_host("host-ü")
    );
    let port = "alluxio.worker.rpc.port=7";
    let ok = |text: &str| (Some(0), text.to_owned(), String::new());
    for mode in MODES {
        let program = workshop.compile_for("examples/c/nodes.c", mode);
        let nodes = |arguments: &[&str]| nodes(&program, mode, arguments);
        assert_eq!(nodes(&["-c", site, "-D", port]), ok(&all));
        assert_eq!(nodes(&["-c", site, "-D", port, "--all"]), ok(&all));
        assert_eq!(nodes(&["-D", port, "--live", "-c", site]), ok(&live));
        assert_eq!(nodes(&["--failed", "-c", site]), ok(header));
        assert_eq!(nodes(&["--help"]).0, Some(0));
        for wrong in [
            &["--alive"][..],
            &["-c"],
            &["-D"],
            &["-D", "key"],
            &["-D", "=value"],
        ] {
            let (status, output, error) = nodes(wrong);
            assert_eq!(
                (status, output.as_str()),
                (Some(2), ""),
                "{wrong:?}: {error}"
            );
            assert!(error.starts_with("nodes: "), "{error}");
        }
        let (status, output, error) = nodes(&["-c", "/does/not/exist"]);
        assert_eq!((status, output.as_str()), (Some(1), ""));
        assert!(error.contains("/does/not/exist"), "{error}");
        let (status, _, error) =
            nodes(&["-c", site, "-D", "alluxio.worker.membership.manager.type=X"]);
        assert_eq!(status, Some(1));
        assert!(
            error.contains("alluxio.worker.membership.manager.type"),
            "{error}"
        );
        let full = fs::File::create("/dev/full").expect("/dev/full");
        let output = Command::new(&program)
            .args(["-c", site])
            .stdout(full)
            .output()
            .expect("the example");
        assert_eq!(
            output.status.code(),
            Some(1),
            "what cannot be printed is a failure"
        );
    }
}

#[tokio::test]
async fn examples_worker_and_watch_work_together() {
    use std::io::{BufRead, BufReader};
    use std::process::Stdio;
    const ID: &str = "worker-6f8e7f2c-8f0e-4a53-a8ff-f37d8e2d4f0d";
    let etcd = Etcd::start(EtcdVersion::V3_4).await;
    let (worker_shop, watch_shop) = (Workshop::new(), Workshop::new());
    let site = worker_shop.write(
        "alluxio-site.properties",
        &format!(
            "alluxio.worker.membership.manager.type=ETCD\nalluxio.etcd.endpoints={}\n",
            etcd.endpoint()
        ),
    );
    let worker = worker_shop.compile_for("examples/c/worker.c", Mode::Sanitized);
    let watch = watch_shop.compile_for("examples/c/watch.c", Mode::Sanitized);
    let mut worker = Command::new(worker)
        .arg(&site)
        .args([ID, "host1", "29999"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("the worker");
    let mut line = String::new();
    let mut output = BufReader::new(worker.stdout.take().expect("a pipe"));
    output.read_line(&mut line).expect("a line");
    assert_eq!(line, format!("registered {ID}\n"));

    let mut watch = Command::new(watch)
        .arg(&site)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the watcher");
    let mut events = BufReader::new(watch.stdout.take().expect("a pipe"));
    line.clear();
    events.read_line(&mut line).expect("an event");
    assert_eq!(line, format!("added\t{ID}\thost1:29999\tONLINE\tof 1\n"));
    // SAFETY: kill() takes numbers only; the child is not reaped yet, so its id is still its own.
    unsafe { libc::kill(worker.id() as libc::pid_t, libc::SIGTERM) };
    assert!(worker.wait().expect("wait").success());
    line.clear();
    events.read_line(&mut line).expect("an event");
    assert_eq!(line, format!("lost\t{ID}\thost1:29999\tOFFLINE\tof 1\n"));
    drop(watch.stdin.take());
    assert!(watch.wait().expect("wait").success());
}
