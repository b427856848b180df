//! A process that runs one function of this test program, and its output.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use parking_lot::Mutex;

use crate::common::spawn;

/// The process ends when this is dropped.
pub struct ChildProcess {
    child: Child,
    lines: Arc<Mutex<Vec<String>>>,
}

impl ChildProcess {
    /// Runs a function that looks like a test, e.g. `processes::worker_process`, with these
    /// variables. Without them the function must do nothing, because it also runs with the tests.
    pub fn start(function: &str, variables: &[(&str, &str)]) -> ChildProcess {
        let mut command = Command::new(std::env::current_exe().expect("this program"));
        command
            .args(["--exact", function, "--nocapture"])
            .envs(variables.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        let mut child = spawn(command).expect("start a process");
        let lines = Arc::<Mutex<Vec<String>>>::default();
        let (output, said) = (child.stdout.take().expect("a pipe"), lines.clone());
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                said.lock().push(line);
            }
        });
        ChildProcess { child, lines }
    }

    /// All lines so far.
    pub fn lines(&self) -> Vec<String> {
        self.lines.lock().clone()
    }

    pub fn said(&self, line: &str) -> bool {
        self.times_said(line) > 0
    }

    pub fn times_said(&self, line: &str) -> usize {
        let lines = self.lines.lock();
        lines.iter().filter(|said| *said == line).count()
    }

    /// The last line that begins like this.
    pub fn last_said(&self, beginning: &str) -> Option<String> {
        let lines = self.lines.lock();
        let last = lines.iter().rfind(|line| line.starts_with(beginning));
        last.cloned()
    }

    pub fn signal(&self, signal: libc::c_int) {
        // SAFETY: kill() takes only numbers. The child is not reaped yet, so the id is still its
        // own.
        let result = unsafe { libc::kill(self.child.id() as libc::pid_t, signal) };
        assert_eq!(result, 0);
    }

    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().expect("wait").is_some()
    }
}

impl Drop for ChildProcess {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Prints a line of a child process for the test that started it.
pub fn say(line: &str) {
    // The test harness captures println!.
    let mut output = std::io::stdout().lock();
    let _ = writeln!(output, "\n{line}").and_then(|()| output.flush());
}
