//! Etcd's own Go client, doing what the library is compared with.

use std::io::{BufRead, BufReader, Lines, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use crate::common::{self, Etcd};

/// The Go program, which keeps its connections between questions.
pub struct Go {
    process: Child,
    questions: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
}

impl Go {
    pub fn start(etcd: &Etcd) -> Go {
        let program = Path::new(env!("CARGO_MANIFEST_DIR")).join(".tools/bin/go-client");
        let mut command = Command::new(&program);
        command
            .arg(etcd.endpoint())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut process = common::spawn(command)
            .unwrap_or_else(|error| panic!("{}: {error}; run `make bench`", program.display()));
        let questions = process.stdin.take().expect("piped");
        let answers = BufReader::new(process.stdout.take().expect("piped")).lines();
        Go {
            process,
            questions,
            answers,
        }
    }

    pub fn ask(&mut self, command: &str, count: usize, keys: &str) -> Vec<Duration> {
        writeln!(self.questions, "{command} {count} {keys}").expect("the Go client runs");
        self.answer()
    }

    pub fn answer(&mut self) -> Vec<Duration> {
        let line = self
            .answers
            .next()
            .expect("the Go client answers")
            .expect("text");
        let nanos = line
            .split(' ')
            .map(|nanos| nanos.parse().expect("a number"));
        nanos.map(Duration::from_nanos).collect()
    }

    pub fn stop(mut self) {
        drop(self.questions);
        self.process.wait().expect("the Go client ends");
    }
}
