//! The C program, linked with the library of releases.

use std::io::{BufRead, BufReader};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::common;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// The compiled program.
pub struct CProgram {
    program: PathBuf,
    library: PathBuf,
}

impl CProgram {
    /// Compiles it. The folder must outlive it.
    pub fn new(folder: &Path) -> CProgram {
        let platform = format!("linux-{}", std::env::consts::ARCH);
        let library = Path::new(ROOT)
            .join("target/native")
            .join(platform)
            .join("liballuxio_membership.so");
        assert!(library.is_file(), "{}: run `make bench`", library.display());
        for name in ["liballuxio_membership.so", "liballuxio_membership.so.0"] {
            symlink(&library, folder.join(name)).expect("a link to the library");
        }
        let program = folder.join("probe");
        let status = Command::new("gcc")
            .args(["-std=c11", "-D_POSIX_C_SOURCE=200809L", "-O2"])
            .args(["-Wall", "-Wextra", "-Wpedantic", "-Werror"])
            .arg(format!("-I{ROOT}/include"))
            .arg(Path::new(ROOT).join("benches/performance/probe.c"))
            .arg(format!("-L{}", folder.display()))
            .arg(format!("-Wl,-rpath,{}", folder.display()))
            .args(["-lalluxio_membership", "-o"])
            .arg(&program)
            .status()
            .expect("gcc");
        assert!(status.success(), "gcc failed");
        CProgram { program, library }
    }

    /// The library that it is linked with.
    pub fn library(&self) -> &Path {
        &self.library
    }

    /// The first listing of a new process: from the start of `main` to a list of so many workers.
    pub fn first(&self, endpoint: &str, workers: i64) -> Duration {
        Duration::from_secs_f64(self.run(endpoint, &["first", &workers.to_string()]) / 1e9)
    }

    /// Seconds per list and free when nothing changes.
    pub fn unchanged(&self, endpoint: &str, calls: u32) -> f64 {
        self.run(endpoint, &["unchanged", &calls.to_string()]) / 1e9
    }

    fn run(&self, endpoint: &str, args: &[&str]) -> f64 {
        let output = Command::new(&self.program)
            .arg(endpoint)
            .args(args)
            .output();
        let output = output.expect("run the C program");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "the C program failed: {errors}");
        let text = String::from_utf8(output.stdout).expect("text");
        text.trim().parse().expect("a number")
    }

    /// A process that has listed once and waits.
    pub fn idle(&self, endpoint: &str) -> Idle {
        let mut command = Command::new(&self.program);
        command
            .args([endpoint, "idle"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut process = common::spawn(command).expect("start the C program");
        let mut lines = BufReader::new(process.stdout.take().expect("piped")).lines();
        let line = lines.next().expect("a line").expect("text");
        assert_eq!(line, "idle");
        Idle(process)
    }
}

/// A process that waits. Killed when dropped.
pub struct Idle(Child);

impl Idle {
    pub fn pid(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Idle {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
