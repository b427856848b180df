//! Many workers and readers. Each has connections of its own, as if it had a process of its own,
//! but many share a process.

use std::io::{BufRead, BufReader, Lines, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use alluxio_membership::etcd::RegistrationState;
use alluxio_membership::membership::Membership;
use futures_util::{StreamExt, stream};

use crate::cluster::{is_live, join, worker};
use crate::common;
use crate::scene::open;

/// The first argument of a process of a crowd.
pub const ARGUMENT: &str = "crowd";
const PATIENCE: Duration = Duration::from_secs(120);

/// Processes with workers and readers. Killed when dropped.
pub struct Crowd {
    processes: Vec<Process>,
}

struct Process {
    child: Child,
    commands: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Crowd {
    /// Starts the processes, and waits until all workers have joined and all readers have listed.
    pub fn start(endpoint: &str, processes: i64, workers: i64, readers: i64, ttl: &str) -> Crowd {
        let program = std::env::current_exe().expect("the path of this program");
        let processes = (0..processes).map(|number| {
            let mut command = Command::new(&program);
            command
                .args([ARGUMENT, endpoint, ttl])
                .args([1 + number * workers, workers, readers].map(|number| number.to_string()))
                .stdin(Stdio::piped())
                .stdout(Stdio::piped());
            let mut child = common::spawn(command).expect("start a process");
            Process {
                commands: child.stdin.take().expect("piped"),
                lines: BufReader::new(child.stdout.take().expect("piped")).lines(),
                child,
            }
        });
        let mut crowd = Crowd {
            processes: processes.collect(),
        };
        crowd.wait();
        crowd
    }

    /// Waits until all workers are registered, and all readers list this further worker.
    pub fn wait_until_back(&mut self, newcomer: i64) {
        for process in &mut self.processes {
            writeln!(process.commands, "{newcomer}").expect("the process runs");
        }
        self.wait();
    }

    fn wait(&mut self) {
        for process in &mut self.processes {
            process
                .lines
                .next()
                .expect("the process answers")
                .expect("text");
        }
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        for process in &mut self.processes {
            let _ = process.child.kill();
            let _ = process.child.wait();
        }
    }
}

/// What such a process does.
pub async fn serve(args: &[String]) {
    let [endpoint, ttl, numbers @ ..] = args else {
        panic!("an endpoint and a TTL");
    };
    let numbers: Vec<i64> = numbers
        .iter()
        .map(|number| number.parse().expect("a number"))
        .collect();
    let [first, workers, readers] = numbers[..] else {
        panic!("three numbers");
    };
    let properties = [("alluxio.worker.failure.detection.timeout", ttl.as_str())];
    let new = || open(std::slice::from_ref(endpoint), &properties);
    let joined: Vec<(i64, Membership)> = stream::iter(first..first + workers)
        .map(|number| {
            let membership = new();
            async move {
                join(&membership, number).await;
                (number, membership)
            }
        })
        .buffer_unordered(16)
        .collect()
        .await;
    let readers: Vec<Membership> = (0..readers).map(|_| new()).collect();
    for reader in &readers {
        reader.view().await.expect("a first view");
    }
    println!("ready");
    for line in std::io::stdin().lines() {
        let newcomer = line.expect("text").parse().expect("a number");
        let is_registered = |(number, membership): &(i64, Membership)| {
            let state = membership.registration_state(&worker(*number).identity);
            state.expect("open") == Some(RegistrationState::Registered)
        };
        common::eventually("all workers are registered", PATIENCE, || async {
            joined.iter().all(is_registered)
        })
        .await;
        for reader in &readers {
            common::eventually("a reader lists the newcomer", PATIENCE, || async {
                reader
                    .view()
                    .await
                    .is_ok_and(|view| is_live(&view, newcomer))
            })
            .await;
        }
        println!("back");
    }
}
