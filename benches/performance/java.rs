//! JVMs with Alluxio's own classes, or with the drop-in classes in front of them. Both have the
//! same flags and run the same programs.

use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader, Lines, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::common;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
const PROGRAMS: &str = "alluxio.membership.bench";
/// What a line of an answer begins with; everything else is a log of Alluxio.
const ANSWER: &str = "answer:";

/// Which `EtcdMembershipManager` a JVM has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    Stock,
    Ours,
}

impl Side {
    pub const BOTH: [Side; 2] = [Side::Stock, Side::Ours];
}

/// How to start JVMs.
pub struct Java {
    java: PathBuf,
    stock: String,
    jar: PathBuf,
    folder: PathBuf,
}

impl Java {
    /// Compiles the native method of the empty call, and finds what `make bench` has built.
    pub fn new(folder: &Path) -> Java {
        let programs = Path::new(ROOT).join("tools/bench-java/target");
        let dependencies = fs::read_to_string(programs.join("dependencies.classpath"))
            .expect("the class path of tools/bench-java: run `make bench`");
        let jar = newest_jar(&Path::new(ROOT).join("java/target"));
        let java = Java {
            java: home().map_or("java".into(), |home| home.join("bin/java")),
            stock: format!(
                "{}:{}",
                programs.join("classes").display(),
                dependencies.trim()
            ),
            jar,
            folder: folder.to_path_buf(),
        };
        java.compile_empty_call();
        java
    }

    /// The jar with the drop-in classes.
    pub fn jar(&self) -> &Path {
        &self.jar
    }

    fn empty_call(&self) -> PathBuf {
        self.folder.join("libempty.so")
    }

    fn compile_empty_call(&self) {
        let home = home().unwrap_or_else(|| {
            let java = fs::canonicalize(which("java", "openjdk-17-jdk-headless"))
                .expect("the path of java");
            java.ancestors()
                .nth(2)
                .expect("java is in bin/")
                .to_path_buf()
        });
        let status = Command::new("gcc")
            .args([
                "-O2", "-shared", "-fPIC", "-Wall", "-Wextra", "-Werror", "-o",
            ])
            .arg(self.empty_call())
            .arg(format!("-I{}", home.join("include").display()))
            .arg(format!("-I{}", home.join("include/linux").display()))
            .arg(Path::new(ROOT).join("tools/bench-java/src/main/c/empty.c"))
            .status()
            .expect("gcc");
        assert!(
            status.success(),
            "gcc failed; does {} have jni.h?",
            home.display()
        );
    }

    /// A JVM whose Alluxio is configured for an etcd. The caller adds the class to run.
    fn command(&self, side: Side, endpoints: &[String]) -> Command {
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.folder.join("jvm.log"));
        let mut command = Command::new(&self.java);
        command
            .args(["-Xmx2g", "-Dfile.encoding=UTF-8"])
            .arg("-Dalluxio.worker.membership.manager.type=ETCD")
            .arg(format!("-Dalluxio.etcd.endpoints={}", endpoints.join(",")))
            .arg(format!(
                "-Dvertx.cacheDirBase={}",
                self.folder.join("vertx").display()
            ))
            .arg("-cp")
            .arg(match side {
                Side::Stock => self.stock.clone(),
                Side::Ours => format!("{}:{}", self.jar.display(), self.stock),
            })
            .stderr(log.expect("a log of the JVMs"));
        command
    }

    /// Starts a process that waits for commands.
    pub fn probe(&self, side: Side, endpoints: &[String]) -> Probe {
        let mut command = self.command(side, endpoints);
        command
            .arg(format!("{PROGRAMS}.Probe"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut process = common::spawn(command).expect("start a JVM");
        Probe {
            commands: process.stdin.take().expect("piped"),
            lines: BufReader::new(process.stdout.take().expect("piped")).lines(),
            process,
        }
    }

    /// A whole process that prints the table of all workers.
    pub fn show(&self, endpoint: &str) -> Command {
        let mut command = self.command(Side::Stock, &[endpoint.to_string()]);
        command.arg(format!("{PROGRAMS}.Probe"));
        command
    }

    /// Runs a benchmark of `Listing` in a JVM of its own. Returns `None` if the benchmark fails, as
    /// the stock class does with many workers.
    pub fn listing(&self, side: Side, endpoint: &str, case: Case) -> Option<Rate> {
        let mut command = self.command(side, &[endpoint.to_string()]);
        command.arg(format!("-Dbench.workers={}", case.workers));
        self.jmh(
            command,
            &format!("Listing.{}", case.method),
            case.threads,
            case.effort,
        )
    }

    /// Runs the benchmark of a native method that does nothing.
    pub fn empty_call_rate(&self, threads: usize, effort: Effort) -> Rate {
        let mut command = self.command(Side::Stock, &["http://127.0.0.1:1".to_string()]);
        command.arg(format!("-Dbench.empty={}", self.empty_call().display()));
        self.jmh(command, "EmptyCall.call", threads, effort)
            .expect("an empty call never fails")
    }

    fn jmh(
        &self,
        mut command: Command,
        benchmark: &str,
        threads: usize,
        effort: Effort,
    ) -> Option<Rate> {
        let results = self.folder.join("jmh.json");
        let _ = fs::remove_file(&results);
        let log = File::create(self.folder.join("jmh.log")).expect("a log of JMH");
        let status = command
            .args(["org.openjdk.jmh.Main", "-tu", "s", "-prof", "gc", "-f", "1"])
            .args(effort.options())
            .args(["-foe", "true", "-rf", "json"])
            .args(["-t", &threads.to_string(), "-rff"])
            .arg(&results)
            .arg(format!("{PROGRAMS}.{benchmark}$"))
            .stdin(Stdio::null())
            .stdout(log)
            .status()
            .expect("start JMH");
        if !status.success() {
            return None;
        }
        let text = fs::read_to_string(&results).ok()?;
        let all: Value = serde_json::from_str(&text).expect("JMH writes JSON");
        let result = all.get(0)?;
        let garbage = result["secondaryMetrics"]
            .as_object()
            .and_then(|metrics| {
                metrics
                    .iter()
                    .find(|(name, _)| name.ends_with("gc.alloc.rate.norm"))
            })
            .expect("JMH counts garbage");
        let score = result["primaryMetric"]["score"].as_f64()?;
        Some(Rate {
            seconds: match effort {
                Effort::Once => score,
                _ => threads as f64 / score,
            },
            garbage: garbage.1["score"].as_f64()?,
            threads,
        })
    }
}

/// Which listing, of how many workers.
#[derive(Debug, Clone, Copy)]
pub struct Case {
    pub method: &'static str,
    pub workers: i64,
    pub threads: usize,
    pub effort: Effort,
}

/// How long a benchmark runs.
#[derive(Debug, Clone, Copy)]
pub enum Effort {
    /// Until everything is compiled, and then as long as it takes to measure well.
    Full,
    /// Only to see that it works.
    Quick,
    /// One call, of something that takes long.
    Once,
}

impl Effort {
    /// The options of JMH.
    fn options(self) -> [&'static str; 10] {
        match self {
            Effort::Full => [
                "-bm", "thrpt", "-wi", "3", "-w", "500ms", "-i", "5", "-r", "300ms",
            ],
            Effort::Quick => [
                "-bm", "thrpt", "-wi", "1", "-w", "100ms", "-i", "1", "-r", "100ms",
            ],
            Effort::Once => ["-bm", "ss", "-wi", "1", "-w", "1ms", "-i", "1", "-r", "1ms"],
        }
    }
}

/// What a benchmark gave.
#[derive(Debug, Clone, Copy)]
pub struct Rate {
    /// Seconds per call of one thread.
    pub seconds: f64,
    /// Allocated bytes per call.
    pub garbage: f64,
    threads: usize,
}

impl Rate {
    /// Calls a second, of all threads.
    pub fn per_second(&self) -> f64 {
        self.threads as f64 / self.seconds
    }
}

/// A JVM that waits for commands. Killed when dropped.
pub struct Probe {
    commands: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
    process: Child,
}

impl Probe {
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Sends a command; the numbers come with [`answer`](Self::answer).
    pub fn tell(&mut self, command: &str) {
        writeln!(self.commands, "{command}").expect("the JVM runs");
    }

    pub fn answer(&mut self) -> Vec<i64> {
        loop {
            let line = self
                .lines
                .next()
                .expect("the JVM answers; see jvm.log")
                .expect("text");
            if let Some(numbers) = line.strip_prefix(ANSWER) {
                let numbers = numbers.split_whitespace();
                return numbers
                    .map(|number| number.parse().expect("a number"))
                    .collect();
            }
        }
    }

    pub fn ask(&mut self, command: &str) -> Vec<i64> {
        self.tell(command);
        self.answer()
    }

    /// Opens a manager and lists these workers; returns how long that took.
    pub fn open(&mut self, workers: usize) -> Duration {
        let answer = self.ask("open");
        assert_eq!(usize::try_from(answer[1]), Ok(workers));
        nanos(answer[0])
    }

    /// Lists so often; returns how long each listing took.
    pub fn list(&mut self, count: usize) -> Vec<Duration> {
        self.ask(&format!("list {count}"))
            .into_iter()
            .map(nanos)
            .collect()
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn nanos(count: i64) -> Duration {
    Duration::from_nanos(count.try_into().expect("time goes on"))
}

fn home() -> Option<PathBuf> {
    std::env::var_os("JAVA_HOME")
        .filter(|home| !home.is_empty())
        .map(PathBuf::from)
}

/// The path of a program, which a package of Debian has.
pub fn which(program: &str, package: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .map(|folder| folder.join(program))
        .find(|file| file.is_file())
        .unwrap_or_else(|| panic!("{program} is missing: install {package}"))
}

fn newest_jar(folder: &Path) -> PathBuf {
    let is_ours = |path: &PathBuf| {
        let name = path
            .file_name()
            .and_then(|name| name.to_str())
            .unwrap_or_default();
        name.starts_with("alluxio-membership-native-")
            && name.ends_with(".jar")
            && !name.contains("bridge")
    };
    let files = fs::read_dir(folder).expect("java/target: run `make bench`");
    files
        .map(|file| file.expect("a file").path())
        .filter(is_ours)
        .max_by_key(|path| {
            path.metadata()
                .and_then(|data| data.modified())
                .expect("its time")
        })
        .expect("the jar: run `make bench`")
}
