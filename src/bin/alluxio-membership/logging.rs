//! Writes the library's log to standard error, on a separate thread. The library's threads renew
//! leases and must not wait for a reader that stalls, such as a stopped terminal.

use std::io::{self, Write};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

use alluxio_membership::text::Safe;
use log::LevelFilter::{self, Warn};

use crate::cli::{self, Cli, Command};
use crate::output;

/// The maximum number of waiting messages. Further messages are dropped.
const WAITING: usize = 1000;
/// The time limit for writing the waiting messages at the end.
const PATIENCE: Duration = Duration::from_secs(1);

pub struct Logging {
    messages: SyncSender<Message>,
    /// Disconnected when the thread has ended.
    ended: Receiver<()>,
}

enum Message {
    Text(Vec<u8>),
    End,
}

/// Long-running commands log everything, with the time.
pub fn start(cli: &Cli) -> io::Result<Logging> {
    let lasts = match &cli.command {
        Command::Nodes(options) => options.watch,
        Command::Join(_) | Command::Serve(_) => true,
        _ => false,
    };
    let level = match (cli.config.verbose, lasts) {
        (0, false) => LevelFilter::Error,
        (0, true) => Warn,
        (1, _) => LevelFilter::Info,
        (_, _) => LevelFilter::Debug,
    };
    let requests = match cli.config.verbose {
        0 => LevelFilter::Off,
        _ => LevelFilter::Debug,
    };
    let logging = Logging::start()?;
    let queue = Queue(logging.messages.clone());
    env_logger::Builder::new()
        .filter_module("alluxio_membership", level)
        .filter_module("alluxio_membership::etcd::requests", level.max(requests))
        // A mistake in the configuration matters to every command.
        .filter_module("alluxio_membership::config", level.max(Warn))
        .filter_module("alluxio_membership::static_hosts", level.max(Warn))
        .target(env_logger::Target::Pipe(Box::new(queue)))
        .format(move |line, record| {
            let level = record.level().as_str().to_ascii_lowercase();
            if lasts {
                let now = output::now();
                writeln!(
                    line,
                    "{now} {}: {level}: {}",
                    cli::NAME,
                    Safe(record.args())
                )
            } else {
                writeln!(line, "{}: {level}: {}", cli::NAME, Safe(record.args()))
            }
        })
        .init();
    Ok(logging)
}

impl Logging {
    fn start() -> io::Result<Logging> {
        let (messages, waiting) = sync_channel(WAITING);
        let (running, ended) = sync_channel(0);
        thread::Builder::new()
            .name("logging".to_owned())
            .spawn(move || {
                let _running: SyncSender<()> = running;
                while let Ok(Message::Text(text)) = waiting.recv() {
                    // The receiver may be gone.
                    let _ = io::stderr().write_all(&text);
                }
            })?;
        Ok(Logging { messages, ended })
    }

    /// Writes the waiting messages, unless the reader stalls. Logs nothing after that.
    pub fn end(self) {
        log::set_max_level(LevelFilter::Off);
        if self.messages.try_send(Message::End).is_ok() {
            let _ = self.ended.recv_timeout(PATIENCE);
        }
    }
}

/// Receives whole messages.
struct Queue(SyncSender<Message>);

impl Write for Queue {
    fn write(&mut self, message: &[u8]) -> io::Result<usize> {
        let _ = self.0.try_send(Message::Text(message.to_owned()));
        Ok(message.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
