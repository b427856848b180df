//! Compiles each program of `tests/c` and `examples/c` with all warnings as errors, and runs it
//! plainly, with the address and undefined-behaviour sanitizers, and under valgrind.

mod common;

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Seek};
use std::os::unix::fs::{FileExt, symlink};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use alluxio_membership::error::ErrorKind;
use alluxio_membership::record;
use alluxio_membership::worker::{Worker, WorkerIdentity, WorkerNetAddress};
use common::{Etcd, EtcdVersion};
use tempfile::TempDir;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
const WARNINGS: [&str; 4] = ["-Wall", "-Wextra", "-Wpedantic", "-Werror"];

/// The way of running a program.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Mode {
    Plain,
    Sanitized,
    Valgrind,
    /// With the thread sanitizer and a library that was built for it: `make test-tsan`.
    ThreadSanitized,
}

const MODES: [Mode; 3] = [Mode::Plain, Mode::Sanitized, Mode::Valgrind];

/// A folder for compiled programs, with the library under the names that linkers and loaders
/// expect.
struct Workshop {
    folder: TempDir,
}

impl Workshop {
    fn new() -> Workshop {
        // The library beside this test. The copy in the parent folder may be older.
        let test = std::env::current_exe().expect("the path of this test");
        Workshop::of(&test.with_file_name("liballuxio_membership.so"))
    }

    fn of(library: &Path) -> Workshop {
        let folder = tempfile::tempdir().expect("a temporary folder");
        assert!(library.exists(), "{} is missing", library.display());
        for name in ["liballuxio_membership.so", "liballuxio_membership.so.0"] {
            symlink(library, folder.path().join(name)).expect("a link to the library");
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

    /// The additional names that `tests/c/static.c` expects.
    fn static_site_file(&self) -> PathBuf {
        self.write("alluxio-site.properties", "alluxio.worker.rpc.port=12345\n")
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
        if mode == Mode::ThreadSanitized {
            // The sanitizer runtime of Rust, which has the functions that Rust's compiler calls.
            let runtime = variable("AXM_TSAN_RUNTIME");
            let mut options = vec!["-std=c11", "-fsanitize=thread"];
            options.push("-fno-sanitize-link-runtime");
            options.extend(["-Wl,--whole-archive", &runtime, "-Wl,--no-whole-archive"]);
            options.extend(["-Wl,--export-dynamic", "-ldl", "-lm", "-lrt", "-lresolv"]);
            return self.compile("clang", source, &options);
        }
        let sanitizers = [
            "-std=c11",
            "-fsanitize=address,undefined",
            "-fno-sanitize-recover=all",
        ];
        let options = match mode {
            Mode::Sanitized => &sanitizers[..],
            _ => &sanitizers[..1],
        };
        self.compile("cc", source, options)
    }

    /// Runs a program and checks that the program, and the sanitizer or valgrind around it, report
    /// nothing.
    fn check(&self, source: &str, mode: Mode, arguments: &[&OsStr]) {
        let program = self.compile_for(source, mode);
        let output = run(&program, mode, arguments);
        assert_success(&format!("{source} ({mode:?})"), &output);
    }
}

/// The exit status with which valgrind reports findings of its own.
const VALGRIND_ERROR: i32 = 99;

/// The time limit of a program. No program takes that long, even under valgrind on a busy machine,
/// unless it hangs.
const TIME_LIMIT: Duration = Duration::from_secs(600);

/// A running program. It is killed when its time is over, and when the test fails.
struct Running {
    what: String,
    child: Child,
    until: Instant,
}

impl Running {
    fn start(command: &mut Command) -> Running {
        let what = format!("{command:?}");
        let child = command
            .spawn()
            .unwrap_or_else(|error| panic!("{what}: {error}"));
        Running {
            what,
            child,
            until: Instant::now() + TIME_LIMIT,
        }
    }

    fn has_ended(&mut self) -> bool {
        let status = self.child.try_wait().expect("the program is a child");
        status.is_some()
    }

    /// Waits for the end of the program.
    #[track_caller]
    fn wait(&mut self) -> std::process::ExitStatus {
        loop {
            if let Some(status) = self.child.try_wait().expect("the program is a child") {
                return status;
            }
            self.check_time();
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    #[track_caller]
    fn check_time(&self) {
        assert!(
            Instant::now() < self.until,
            "{} has not ended after {TIME_LIMIT:?}",
            self.what
        );
    }

    /// Returns the program's output, line by line.
    fn lines(&mut self) -> Receiver<String> {
        let output = self.child.stdout.take().expect("a pipe");
        let (sender, receiver) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        receiver
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Both calls have no effect after the program's end.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The command that runs a program in this mode.
fn command(program: &Path, mode: Mode) -> Command {
    let mut command = match mode {
        Mode::Plain | Mode::Sanitized => Command::new(program),
        Mode::ThreadSanitized => {
            let mut command = Command::new(program);
            let options = format!("suppressions={ROOT}/tests/c/tsan.supp:print_suppressions=0");
            command.env("TSAN_OPTIONS", options);
            command
        }
        Mode::Valgrind => {
            // The runtime lives as long as the process, so its memory is not leaked.
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
        .env_remove("ASAN_OPTIONS")
        .env_remove("LD_LIBRARY_PATH");
    command
}

fn run(program: &Path, mode: Mode, arguments: &[&OsStr]) -> Output {
    output_of(command(program, mode).args(arguments))
}

/// Runs a program to its end.
fn output_of(command: &mut Command) -> Output {
    output_when(command, |_, _, _| {})
}

/// Runs a program to its end, which `end` may cause. `end` gets the program, its standard output
/// and its standard error.
fn output_when(command: &mut Command, end: impl FnOnce(&mut Running, &File, &File)) -> Output {
    // Files, because a pipe ends only when the last forked process ends.
    let mut stdout = tempfile::tempfile().expect("a temporary file");
    let mut stderr = tempfile::tempfile().expect("a temporary file");
    let copy = |file: &File| file.try_clone().expect("a file");
    let mut running = Running::start(
        command
            .stdin(Stdio::null())
            .stdout(copy(&stdout))
            .stderr(copy(&stderr)),
    );
    end(&mut running, &stdout, &stderr);
    let contents = |file: &mut File| {
        let mut contents = Vec::new();
        file.rewind().expect("a file");
        file.read_to_end(&mut contents).expect("a file");
        contents
    };
    let status = running.wait();
    Output {
        status,
        stdout: contents(&mut stdout),
        stderr: contents(&mut stderr),
    }
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
fn the_header_is_c90_c99_c11_and_cpp11() {
    let workshop = Workshop::new();
    for (compiler, options) in [
        ("gcc", &["-std=c90", "-pedantic-errors"][..]),
        ("gcc", &["-std=c99"]),
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

#[test]
fn no_line_of_the_headers_is_longer_than_100_columns() {
    for name in ["alluxio_membership.h", "alluxio_membership.hpp"] {
        let header = fs::read_to_string(Path::new(ROOT).join("include").join(name));
        for line in header.expect("the header").lines() {
            assert!(line.chars().count() <= 100, "{name}: {line}");
        }
    }
}

/// Returns `AXM_ERROR_INVALID_ARGUMENT` for `InvalidArgument`.
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
    let expected: Vec<String> = ErrorKind::ALL
        .into_iter()
        .map(|kind| format!("{} = {}", c_name(kind), kind as i32))
        .collect();
    let header = fs::read_to_string(Path::new(ROOT).join("include/alluxio_membership.h"))
        .expect("the header");
    let found: Vec<&str> = header
        .lines()
        .map(|line| line.trim().trim_end_matches(','))
        .filter(|line| line.starts_with("AXM_ERROR_"))
        .collect();
    assert_eq!(found, expected);
}

/// The library exports the functions of the header and the symbols that JVMs look for, and nothing
/// else.
#[test]
fn exported_symbols_are_the_declared_functions() {
    const FOR_JVMS: &str = "Java_alluxio_membership_bridge_internal_Natives_register__I_3B";
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
        .map(str::to_owned)
        .collect();
    exported.sort();
    let mut expected = declared_functions();
    assert!(expected.len() > 40, "{expected:?}");
    expected.push(FOR_JVMS.to_owned());
    expected.sort();
    assert_eq!(exported, expected);
}

/// The functions of the header, in alphabetical order.
fn declared_functions() -> Vec<String> {
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
    declared
}

/// Compares a header with the recorded interface, and returns the differences.
fn differences_from_the_record(header: &Path) -> Option<String> {
    let output = Command::new("scripts/abi")
        .arg("check")
        .arg(header)
        .current_dir(ROOT)
        .output()
        .expect("scripts/abi");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let error = String::from_utf8_lossy(&output.stderr);
    match output.status.code() {
        Some(0) => None,
        Some(1) if error.is_empty() => Some(text),
        _ => panic!("scripts/abi: {}\n{text}\n{error}", output.status),
    }
}

#[test]
fn the_interface_is_the_recorded_one() {
    let header = Path::new(ROOT).join("include/alluxio_membership.h");
    if let Some(differences) = differences_from_the_record(&header) {
        panic!("{differences}");
    }
    let record = fs::read_to_string(Path::new(ROOT).join("abi/alluxio_membership.abi"));
    let record = record.expect("the record");
    for function in declared_functions() {
        let symbol = format!("elf-symbol name='{function}' type='func-type'");
        assert!(record.contains(&symbol), "{function} is not recorded");
    }
}

#[test]
fn a_changed_interface_is_noticed() {
    let workshop = Workshop::new();
    let header = fs::read_to_string(Path::new(ROOT).join("include/alluxio_membership.h"))
        .expect("the header");
    for (before, after, noticed) in [
        // Another type of an argument, another constness, an additional argument, another return
        // type.
        (
            "axm_shutdown(int64_t timeout_ms)",
            "axm_shutdown(int32_t timeout_ms)",
            "axm_shutdown",
        ),
        (
            "axm_string_free(char *text)",
            "axm_string_free(const char *text)",
            "axm_string_free",
        ),
        (
            "axm_abi_version(void)",
            "axm_abi_version(int which)",
            "axm_abi_version",
        ),
        (
            "int64_t axm_snapshot_revision(",
            "int32_t axm_snapshot_revision(",
            "axm_snapshot_revision",
        ),
        // A removed function, an added function, another name.
        ("void axm_string_free(char *text);", "", "axm_string_free"),
        (
            "axm_config_t *axm_config_new(void);",
            "axm_config_t *axm_config_new(void);\nvoid axm_new(void);",
            "axm_new",
        ),
        // The arguments of a callback.
        (
            "axm_change_kind_t kind,\n",
            "int64_t kind,\n",
            "axm_change_callback_t",
        ),
        // Another value of an enum, an added value, another name.
        (
            "AXM_CHANGE_LOST = 4",
            "AXM_CHANGE_LOST = 6",
            "AXM_CHANGE_LOST",
        ),
        (
            "    AXM_STATE_LOST = 2",
            "    AXM_STATE_LOST = 2,\n    AXM_STATE_NEW = 3",
            "AXM_STATE_NEW",
        ),
        ("AXM_ERROR_IO = 10", "AXM_ERROR_FILE = 10", "AXM_ERROR_FILE"),
        // Another type of a struct's field, an added field, a removed field, another order.
        ("    int32_t web_port;", "    int64_t web_port;", "web_port"),
        (
            "    int32_t http_server_port;",
            "    int32_t http_server_port;\n    int32_t new_port;",
            "new_port",
        ),
        ("    int32_t data_port;", "", "data_port"),
        (
            "    const char *host;",
            "    const char *rack;\n    const char *host;",
            "rack",
        ),
    ] {
        assert_eq!(header.matches(before).count(), 1, "{before}");
        let changed = workshop.write("changed.h", &header.replace(before, after));
        let differences = differences_from_the_record(&changed)
            .unwrap_or_else(|| panic!("{after} instead of {before} was not noticed"));
        assert!(differences.contains(noticed), "{after}: {differences}");
    }
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
    let site = workshop.static_site_file();
    for mode in MODES {
        workshop.check("tests/c/static.c", mode, &[hosts.as_ref(), site.as_ref()]);
    }
}

#[tokio::test]
async fn the_cpp_header() {
    let workshop = Workshop::new();
    let hosts = workshop.hosts_file();
    let etcd = Etcd::start(EtcdVersion::V3_4).await;
    put_strange_records(&etcd).await;
    let endpoint = etcd.endpoint();
    let arguments: [&OsStr; 2] = [hosts.as_ref(), endpoint.as_ref()];
    for compiler in ["g++", "clang++"] {
        let sanitizers = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"];
        let options = ["-std=c++17", sanitizers[0], sanitizers[1]];
        let program = workshop.compile(compiler, "tests/c/header.cpp", &options);
        let output = run(&program, Mode::Sanitized, &arguments);
        assert_success(compiler, &output);
        let program = workshop.compile(compiler, "tests/c/header.cpp", &options[..1]);
        let output = run(&program, Mode::Valgrind, &arguments);
        assert_success(compiler, &output);
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

/// Not under valgrind, which delivers signals to any thread.
#[test]
fn signals_are_the_hosts() {
    let workshop = Workshop::new();
    let hosts = workshop.hosts_file();
    for mode in [Mode::Plain, Mode::Sanitized] {
        workshop.check("tests/c/signals.c", mode, &[hosts.as_ref()]);
    }
}

/// Only plainly: sanitizers start a thread of their own, and a cluster lingers for half a minute.
#[tokio::test]
async fn what_is_not_used_ends() {
    let workshop = Workshop::new();
    let hosts = workshop.hosts_file();
    let etcd = Etcd::start(EtcdVersion::V3_4).await;
    let endpoint = etcd.endpoint();
    let arguments = [hosts.as_ref(), endpoint.as_ref()];
    workshop.check("tests/c/unused.c", Mode::Plain, &arguments);
}

/// A failure of allocations in one run of a program: the resource, the number of the first failing
/// allocation, and whether all later allocations fail too.
#[derive(Debug, Clone, Copy)]
struct Failing {
    resource: &'static str,
    from: u32,
    all: bool,
}

impl Failing {
    /// The resources, and whether a single allocation can fail. `limit` is the process's limit of
    /// descriptors, which also applies to allocations of the C library, above all in name look-ups.
    const WAYS: [(&str, bool); 5] = [
        ("threads", true),
        ("threads", false),
        ("descriptors", true),
        ("descriptors", false),
        ("limit", true),
    ];

    /// Runs a program once for each of its allocations: with only this allocation failing, and with
    /// all allocations from this one on failing.
    fn each(run: impl Fn(Failing) -> Output + Sync) {
        // A program with more allocations retries without end.
        const TOO_MANY: u32 = 200;
        std::thread::scope(|scope| {
            for (resource, all) in Failing::WAYS {
                let run = &run;
                scope.spawn(move || {
                    for from in 1..TOO_MANY {
                        let failing = Failing {
                            resource,
                            from,
                            all,
                        };
                        let output = run(failing);
                        let error = String::from_utf8_lossy(&output.stderr);
                        for wrong in ["panicked", "bug in the membership library"] {
                            assert!(!error.contains(wrong), "{failing:?}: {error}");
                        }
                        if !error.contains("failing: ") {
                            assert!(from > 1, "{failing:?}: nothing failed");
                            return;
                        }
                    }
                    panic!("{resource}: more than {TOO_MANY} allocations");
                });
            }
        });
    }

    /// Loads the compiled failing.c before every other library.
    fn preload(self, command: &mut Command, library: &Path) {
        command
            .env("LD_PRELOAD", library)
            .env("FAILING", self.resource)
            .env("FAILING_FROM", self.from.to_string());
        if self.all {
            command.env("FAILING_ALL", "1");
        }
    }
}

fn compile_failing(workshop: &Workshop) -> PathBuf {
    let library = workshop.path("failing.so");
    let output = Command::new("cc")
        .args(WARNINGS)
        .args([
            "-std=c11",
            "-shared",
            "-fPIC",
            "tests/c/failing.c",
            "-ldl",
            "-o",
        ])
        .arg(&library)
        .current_dir(ROOT)
        .output()
        .expect("cc");
    assert_success("cc tests/c/failing.c", &output);
    library
}

/// The endpoint as an address, and as a name that needs a look-up.
fn by_address_and_name(etcd: &Etcd) -> [(&'static str, String); 2] {
    let by_name = etcd.endpoint().replace("127.0.0.1", "localhost");
    [("address", etcd.endpoint()), ("name", by_name)]
}

#[tokio::test]
async fn threads_and_descriptors_run_out() {
    let etcd = Etcd::start(EtcdVersion::V3_4).await;
    let workshop = Workshop::new();
    let hosts = workshop.hosts_file();
    let failing_library = compile_failing(&workshop);
    let program = workshop.compile("cc", "tests/c/exhausted.c", &["-std=c11", "-ldl"]);
    for (by, endpoint) in by_address_and_name(&etcd) {
        Failing::each(|failing| {
            let mut command = command(&program, Mode::Plain);
            // A separate cluster.
            let Failing {
                resource,
                from,
                all,
            } = failing;
            let cluster = format!("{by}-{resource}-{from}-{all}");
            command.arg(&hosts).arg(&endpoint).arg(&cluster);
            failing.preload(&mut command, &failing_library);
            let output = output_of(&mut command);
            assert_success(&format!("{by} {failing:?}"), &output);
            output
        });
    }
}

#[tokio::test]
async fn the_tool_without_threads_and_descriptors() {
    const TOOL: &str = env!("CARGO_BIN_EXE_alluxio-membership");
    let etcd = Etcd::start(EtcdVersion::V3_4).await;
    let workshop = Workshop::new();
    let failing_library = compile_failing(&workshop);
    // The first program leaves workers that the other programs list.
    for name in ["join", "nodes", "check", "watch"] {
        for (place, (by, endpoint)) in by_address_and_name(&etcd).into_iter().enumerate() {
            let endpoint = format!("alluxio.etcd.endpoints={endpoint}");
            Failing::each(|failing| {
                let mut command = Command::new(TOOL);
                command
                    .args(["--timeout", "1s", "--conf", "/dev/null", "-D", &endpoint])
                    .args(["-D", "alluxio.worker.membership.manager.type=ETCD"]);
                match name {
                    "join" => {
                        let number = 2 * failing.from + u32::from(failing.all);
                        let resource = failing.resource.len();
                        let id = format!(
                            "worker-00000000-0000-4000-8{place:03}-{resource:04}{number:08}"
                        );
                        command.args(["join", "--id", &id, "--host", "host", "--rpc-port", "1"])
                    }
                    "watch" => command.args(["nodes", "--watch"]),
                    _ => command.arg(name),
                };
                failing.preload(&mut command, &failing_library);
                let output = if matches!(name, "join" | "watch") {
                    output_when(&mut command, end_after_first_line)
                } else {
                    output_of(&mut command)
                };
                // The statuses in the tool's table, without "wrong usage".
                let status = output.status.code();
                let is_known = matches!(status, Some(0 | 1 | 3..=6));
                assert!(is_known, "{name} by {by} {failing:?}: {output:?}");
                output
            });
        }
    }
}

/// Sends SIGTERM to a program that prints its first line or logs that it failed. Sends nothing to a
/// program that ends earlier.
fn end_after_first_line(running: &mut Running, stdout: &File, stderr: &File) {
    let says = |text: &str| {
        let mut bytes = vec![0; stderr.metadata().expect("a file").len() as usize];
        let read = stderr.read_at(&mut bytes, 0).expect("a file");
        String::from_utf8_lossy(&bytes[..read]).contains(text)
    };
    while stdout.metadata().expect("a file").len() == 0 && !says("standard output: ") {
        if running.has_ended() {
            return;
        }
        running.check_time();
        std::thread::sleep(Duration::from_millis(10));
    }
    // SAFETY: kill() takes numbers only; the child is not reaped yet, so its id is still its own.
    unsafe { libc::kill(running.child.id() as libc::pid_t, libc::SIGTERM) };
}

/// The workers that `tests/c/etcd.c` and `tests/c/header.cpp` expect.
async fn put_strange_records(etcd: &Etcd) {
    etcd.put("/DHT/c/AUTHORIZED/broken", "{").await;
    etcd.put("/ServiceDiscovery/c/broken", "no JSON").await;
    let worker = Worker {
        identity: WorkerIdentity::V0(1),
        address: WorkerNetAddress::new("a\0b"),
    };
    etcd.put("/DHT/strange/AUTHORIZED/worker-1", record::encode(&worker))
        .await;
    for number in 0..101 {
        etcd.put(&format!("/DHT/strange/AUTHORIZED/broken-{number}"), "{")
            .await;
    }
}

#[tokio::test]
async fn workers_in_etcd() {
    let workshop = Workshop::new();
    for mode in MODES {
        let etcd = Etcd::start(EtcdVersion::V3_4).await;
        put_strange_records(&etcd).await;
        workshop.check("tests/c/etcd.c", mode, &[etcd.endpoint().as_ref()]);
    }
}

/// The number of memberships that are closed while they are used. valgrind runs only one thread at
/// a time.
fn rounds(mode: Mode) -> &'static str {
    if mode == Mode::Valgrind { "5" } else { "20" }
}

#[test]
fn closed_while_in_use() {
    let workshop = Workshop::new();
    let hosts = workshop.hosts_file();
    for mode in MODES {
        let arguments = [hosts.as_ref(), rounds(mode).as_ref()];
        workshop.check("tests/c/closing.c", mode, &arguments);
    }
}

#[tokio::test]
async fn closed_while_in_use_with_etcd() {
    let workshop = Workshop::new();
    let hosts = workshop.hosts_file();
    for mode in MODES {
        let etcd = Etcd::start(EtcdVersion::V3_4).await;
        let endpoint = etcd.endpoint();
        let arguments = [hosts.as_ref(), rounds(mode).as_ref(), endpoint.as_ref()];
        workshop.check("tests/c/closing.c", mode, &arguments);
    }
}

#[tokio::test]
async fn calls_inside_callbacks() {
    let workshop = Workshop::new();
    for mode in MODES {
        let etcd = Etcd::start(EtcdVersion::V3_4).await;
        let endpoint = etcd.endpoint();
        workshop.check("tests/c/inside_callbacks.c", mode, &[endpoint.as_ref()]);
    }
}

/// No server listens at this port.
const NOWHERE: &str = "http://127.0.0.1:1";

#[test]
fn shutdown_during_a_long_call() {
    let workshop = Workshop::new();
    for mode in MODES {
        workshop.check("tests/c/shutdown.c", mode, &[NOWHERE.as_ref()]);
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
async fn fork_while_subscribed() {
    let workshop = Workshop::new();
    for mode in MODES {
        let etcd = Etcd::start(EtcdVersion::V3_4).await;
        let endpoint = etcd.endpoint();
        workshop.check("tests/c/fork_subscribed.c", mode, &[endpoint.as_ref()]);
    }
}

#[tokio::test]
async fn fork_before_open() {
    let workshop = Workshop::new();
    for mode in MODES {
        let etcd = Etcd::start(EtcdVersion::V3_4).await;
        let endpoint = etcd.endpoint();
        workshop.check("tests/c/fork_before_open.c", mode, &[endpoint.as_ref()]);
    }
}

#[tokio::test]
async fn etcd_dies() {
    let workshop = Workshop::new();
    for mode in MODES {
        let etcd = Etcd::start(EtcdVersion::V3_4).await;
        etcd_dies_in(&workshop, mode, &etcd);
    }
}

fn etcd_dies_in(workshop: &Workshop, mode: Mode, etcd: &Etcd) {
    let endpoint = etcd.endpoint();
    let pid = etcd.pid().expect("etcd runs").to_string();
    let arguments = [endpoint.as_ref(), pid.as_ref(), NOWHERE.as_ref()];
    workshop.check("tests/c/etcd_dies.c", mode, &arguments);
}

fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set: use make test-tsan"))
}

#[tokio::test]
#[ignore = "needs a library that is built for it: make test-tsan"]
async fn thread_sanitizer() {
    let workshop = Workshop::of(variable("AXM_TSAN_LIBRARY").as_ref());
    let mode = Mode::ThreadSanitized;
    let hosts = workshop.hosts_file();
    let site = workshop.static_site_file();
    for source in ["misuse", "threads"] {
        let source = format!("tests/c/{source}.c");
        workshop.check(&source, mode, &[hosts.as_ref()]);
    }
    workshop.check("tests/c/static.c", mode, &[hosts.as_ref(), site.as_ref()]);
    workshop.check("tests/c/shutdown.c", mode, &[NOWHERE.as_ref()]);
    let closing = [hosts.as_ref(), rounds(mode).as_ref()];
    workshop.check("tests/c/closing.c", mode, &closing);
    for source in ["etcd", "callbacks", "inside_callbacks"] {
        let etcd = Etcd::start(EtcdVersion::V3_4).await;
        put_strange_records(&etcd).await;
        let source = format!("tests/c/{source}.c");
        workshop.check(&source, mode, &[etcd.endpoint().as_ref()]);
    }
    let etcd = Etcd::start(EtcdVersion::V3_4).await;
    let endpoint = etcd.endpoint();
    let closing = [closing[0], closing[1], endpoint.as_ref()];
    workshop.check("tests/c/closing.c", mode, &closing);
    let etcd = Etcd::start(EtcdVersion::V3_4).await;
    etcd_dies_in(&workshop, mode, &etcd);
}

/// Runs the example and returns its exit status and its output.
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
        assert_eq!(nodes(&["--lost", "-c", site]), ok(header));
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
        let full = File::create("/dev/full").expect("/dev/full");
        let mut command = command(&program, mode);
        let status = Running::start(command.args(["-c", site]).stdout(full)).wait();
        assert_eq!(
            status.code(),
            Some(1),
            "what cannot be printed is a failure"
        );
    }
}

#[tokio::test]
async fn examples_worker_and_watch_work_together() {
    const ID: &str = "worker-6f8e7f2c-8f0e-4a53-a8ff-f37d8e2d4f0d";
    for mode in [Mode::Sanitized, Mode::Valgrind] {
        let etcd = Etcd::start(EtcdVersion::V3_4).await;
        let (worker_shop, watch_shop) = (Workshop::new(), Workshop::new());
        let site = worker_shop.write(
            "alluxio-site.properties",
            &format!(
                "alluxio.worker.membership.manager.type=ETCD\nalluxio.etcd.endpoints={}\n\
                 alluxio.membership.native.operation.timeout=2min\n",
                etcd.endpoint()
            ),
        );
        let worker = worker_shop.compile_for("examples/c/worker.c", mode);
        let watch = watch_shop.compile_for("examples/c/watch.c", mode);
        let start = |program: &Path, arguments: &[&str]| {
            let mut command = command(program, mode);
            command.arg(&site).args(arguments);
            Running::start(command.stdin(Stdio::piped()).stdout(Stdio::piped()))
        };
        let next = |lines: &Receiver<String>| lines.recv_timeout(TIME_LIMIT).expect("a line");

        let mut worker = start(&worker, &[ID, "host1", "29999"]);
        let printed = worker.lines();
        assert_eq!(next(&printed), format!("registered {ID}"));
        let mut watch = start(&watch, &[]);
        let events = watch.lines();
        let event = |event, state| format!("{event}\t{ID}\thost1:29999\t{state}\tof 1");
        assert_eq!(next(&events), event("added", "ONLINE"));
        // SAFETY: kill() takes numbers only; the child is not reaped yet, so its id is still its
        // own.
        unsafe { libc::kill(worker.child.id() as libc::pid_t, libc::SIGTERM) };
        assert!(worker.wait().success(), "{mode:?}");
        assert_eq!(next(&events), event("lost", "OFFLINE"));
        drop(watch.child.stdin.take());
        assert!(watch.wait().success(), "{mode:?}");
    }
}
