//! The output and the exit status of the program.

use std::fmt::{self, Display};
use std::io::{self, BufWriter, IsTerminal, Write};
use std::time::SystemTime;

use alluxio_membership::error::{Error, ErrorKind};
use alluxio_membership::text::{Safe, is_unsafe};
use alluxio_membership::view::{ChangeKind, ClusterView, Member, MemberFilter};
use alluxio_membership::worker::{Worker, WorkerState};
use anstream::{AutoStream, ColorChoice};
use anstyle::{AnsiColor, Style};
use serde::Serialize;
use serde_json::ser::{Formatter, Serializer};
use serde_json::{Value, json};

use crate::aside::aside;
use crate::cli::NAME;

/// The exit statuses, with the words of the help and the manual. The numbers never change.
pub const EXIT_STATUS: [(u8, &str); 7] = [
    (0, "done; check: all is well"),
    (
        1,
        "refused or failed: an unknown or a live worker, an identity that is taken",
    ),
    (2, "wrong usage"),
    (
        3,
        "the configuration cannot be used, or its file cannot be read",
    ),
    (4, "etcd does not answer, or not in time; it may work later"),
    (5, "etcd refuses the user, the password or the permission"),
    (6, "check: it works, but something should be looked at"),
];

/// The exit status, but for the 2 of the command line's parser.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Outcome {
    Done = 0,
    Failed = 1,
    ConfigUnusable = 3,
    Unavailable = 4,
    Denied = 5,
    Findings = 6,
}

/// The reason for which a command ends early.
#[derive(Debug)]
pub enum Stop {
    /// Standard output was closed by its reader.
    NobodyReads,
    Failed(Failure),
}

/// A failure to report on standard error.
#[derive(Debug)]
pub struct Failure {
    pub outcome: Outcome,
    /// Each line is safe to show.
    lines: Vec<String>,
}

impl Failure {
    /// Returns a failure with its first line.
    pub fn new(outcome: Outcome, text: impl Display) -> Self {
        Failure {
            outcome,
            lines: vec![Safe(text).to_string()],
        }
    }

    /// Adds a line, unless the failure contains it.
    pub fn add(&mut self, text: impl Display) {
        let line = Safe(text).to_string();
        if !self.lines.iter().any(|said| said.contains(&line)) {
            self.lines.push(line);
        }
    }

    /// Writes the failure to standard error.
    pub fn report(&self) {
        // The reader of standard error may be gone.
        let _ = writeln!(io::stderr(), "{NAME}: {}", self.lines.join("\n"));
    }
}

impl Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.lines.join("; "))
    }
}

/// Returns the exit status for an error.
pub fn outcome_of(kind: ErrorKind) -> Outcome {
    match kind {
        ErrorKind::InvalidConfig | ErrorKind::MissingConfig => Outcome::ConfigUnusable,
        ErrorKind::NotFound | ErrorKind::Io => Outcome::ConfigUnusable,
        ErrorKind::Unavailable => Outcome::Unavailable,
        ErrorKind::Unauthenticated | ErrorKind::PermissionDenied => Outcome::Denied,
        ErrorKind::InvalidArgument
        | ErrorKind::AlreadyExists
        | ErrorKind::Corrupt
        | ErrorKind::Closed
        | ErrorKind::Forked
        | ErrorKind::Internal
        | ErrorKind::ResourceExhausted => Outcome::Failed,
    }
}

/// Returns why something failed, without the text of Alluxio's etcd client that names the library's
/// request.
pub fn reason(error: &Error) -> String {
    match error.cause() {
        Some(cause) if error.message().starts_with("Exhausted retry for (") => cause.text.clone(),
        _ => error.to_string(),
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Failure::new(outcome_of(error.kind()), reason(&error))
    }
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Failure::from(error).into()
    }
}

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Self {
        Stop::Failed(failure)
    }
}

/// Writes to standard output, at once.
pub fn print(bytes: impl AsRef<[u8]>) -> Result<(), Stop> {
    let mut stdout = io::stdout().lock();
    written(
        stdout
            .write_all(bytes.as_ref())
            .and_then(|()| stdout.flush()),
    )
}

/// Converts the result of a write to standard output.
fn written(written: io::Result<()>) -> Result<(), Stop> {
    written.map_err(|error| match error.kind() {
        io::ErrorKind::BrokenPipe => Stop::NobodyReads,
        _ => Failure::new(Outcome::Failed, format!("standard output: {error}")).into(),
    })
}

/// Prints a text on a separate thread, for commands that must notice a signal while the reader
/// stalls. If the caller stops waiting, the write continues until the program ends.
pub async fn print_aside(text: String) -> Result<(), Stop> {
    match aside(move || print(text)).await {
        Ok(printed) => printed,
        Err(error) => {
            Err(Failure::new(Outcome::Failed, format!("standard output: {error}")).into())
        }
    }
}

/// Prints a JSON value as one line.
pub fn print_json(value: &impl Serialize) -> Result<(), Stop> {
    let stdout = BufWriter::new(io::stdout().lock());
    written(write_json(stdout, value))
}

/// Writes a JSON value while it is created, so that a long list is not in memory as JSON.
fn write_json(mut out: impl Write, value: &impl Serialize) -> io::Result<()> {
    value.serialize(&mut Serializer::with_formatter(&mut out, SafeJson))?;
    out.write_all(b"\n")?;
    out.flush()
}

/// Writes texts completely, with JSON escapes for characters that act on a terminal.
struct SafeJson;

impl Formatter for SafeJson {
    fn write_string_fragment<W>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()>
    where
        W: ?Sized + Write,
    {
        let mut rest = fragment;
        while let Some((at, c)) = rest.char_indices().find(|(_, c)| is_unsafe(*c)) {
            writer.write_all(&rest.as_bytes()[..at])?;
            for unit in c.encode_utf16(&mut [0; 2]) {
                write!(writer, "\\u{unit:04x}")?;
            }
            rest = &rest[at + c.len_utf8()..];
        }
        writer.write_all(rest.as_bytes())
    }
}

/// Returns a JSON value as one line.
pub fn json_line(value: &Value) -> String {
    let mut line = Vec::new();
    // Writing to memory cannot fail.
    let _ = write_json(&mut line, value);
    String::from_utf8_lossy(&line).into_owned()
}

/// Returns the table of "alluxio info nodes", separated by tabs.
pub fn table<'a>(members: impl IntoIterator<Item = &'a Member>, known: bool) -> String {
    let mut text = String::from("WorkerId\tAddress\tStatus\n");
    for member in members {
        let (id, address) = (member.worker.identity, address(member));
        text.push_str(&format!("{id}\t{address}\t{}\n", status(member, known)));
    }
    text
}

/// Returns the numbers of the live and of the lost workers, in words.
pub fn live_and_lost(view: &ClusterView) -> String {
    let [live, lost] =
        [MemberFilter::Live, MemberFilter::Lost].map(|filter| view.members(filter).len());
    format!("{live} live, {lost} lost")
}

/// Returns a worker's status. `known`: the list distinguishes live workers.
pub fn status_word(member: &Member, known: bool) -> &'static str {
    match known {
        true => member.state.status(),
        false => "N/A",
    }
}

/// Returns a worker's status in its colour.
pub fn status(member: &Member, known: bool) -> String {
    let word = status_word(member, known);
    match status_colour(member, known) {
        Some(colour) => in_colour(word, colour),
        None => word.to_owned(),
    }
}

pub fn status_colour(member: &Member, known: bool) -> Option<AnsiColor> {
    match (known, member.state) {
        (false, _) => None,
        (true, WorkerState::Live) => Some(AnsiColor::Green),
        (true, WorkerState::Lost) => Some(AnsiColor::Red),
    }
}

/// Returns a word for standard output, in a colour if standard output shows colours.
pub fn in_colour(word: &str, colour: AnsiColor) -> String {
    if AutoStream::choice(&io::stdout()) == ColorChoice::Never {
        return word.to_owned();
    }
    let style = Style::new().fg_color(Some(colour.into()));
    format!("{style}{word}{style:#}")
}

/// Writes a line for people to standard error.
pub fn complain(text: impl Display) {
    // The reader of standard error may be gone.
    let _ = writeln!(io::stderr(), "{NAME}: {}", Safe(text));
}

/// Writes a line about the data to standard error, so that the data stays clean.
pub fn note(text: impl Display) {
    let _ = writeln!(io::stderr(), "{}", Safe(text));
}

/// Whether standard output is a terminal.
pub fn on_terminal() -> bool {
    io::stdout().is_terminal()
}

/// Whether standard output is a terminal on which text can be drawn over.
pub fn terminal_moves_cursor() -> bool {
    let is_dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
    on_terminal() && !is_dumb
}

/// Resolves when the reader of standard output is gone, which a program that writes nothing would
/// not notice.
pub async fn reader_gone() {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let mut ticks = tokio::time::interval(std::time::Duration::from_millis(500));
    loop {
        ticks.tick().await;
        let stdout = rustix::stdio::stdout();
        let mut fds = [PollFd::new(&stdout, PollFlags::empty())];
        let at_once = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        if poll(&mut fds, Some(&at_once)).is_ok()
            && fds[0].revents().intersects(PollFlags::ERR | PollFlags::HUP)
        {
            return;
        }
    }
}

/// The time, in UTC.
pub fn now() -> String {
    humantime::format_rfc3339_millis(SystemTime::now()).to_string()
}

/// Returns a change as one word.
pub fn change_name(kind: ChangeKind) -> &'static str {
    match kind {
        ChangeKind::Added => "added",
        ChangeKind::Removed => "removed",
        ChangeKind::Live => "live",
        ChangeKind::Lost => "lost",
        ChangeKind::Moved => "moved",
    }
}

/// Returns a worker as JSON, with its status.
pub fn member_json(member: &Member, known: bool) -> Value {
    let mut worker = worker_json(&member.worker);
    worker["status"] = json!(status_word(member, known));
    worker
}

/// Returns a worker as JSON.
pub fn worker_json(worker: &Worker) -> Value {
    let address = &worker.address;
    json!({
        "id": worker.identity.to_string(),
        "host": address.host,
        "containerHost": address.container_host,
        "rpcPort": address.rpc_port,
        "dataPort": address.data_port,
        "secureRpcPort": address.secure_rpc_port,
        "nettyDataPort": address.netty_data_port,
        "webPort": address.web_port,
        "httpServerPort": address.http_server_port,
        "domainSocketPath": address.domain_socket_path,
    })
}

/// Returns `host:port` in one line, as in the table of workers.
pub fn address(member: &Member) -> String {
    address_of(&member.worker)
}

/// Returns `host:port` of a worker in one line.
pub fn address_of(worker: &Worker) -> String {
    format!("{}:{}", host_of(worker), worker.address.rpc_port)
}

/// The host as the table of workers shows it.
pub fn host_of(worker: &Worker) -> String {
    let host = worker.address.host.as_deref();
    Safe(host.unwrap_or("null")).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_whole_and_safe() {
        let value = json!({"host": "a\tb\u{1b}\u{9b}\u{202e}\u{e0041}ü"});
        let text = json_line(&value);
        let escaped = r#"{"host":"a\tb\u001b\u009b\u202e\udb40\udc41ü"}"#;
        assert_eq!(text, format!("{escaped}\n"));
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), value);
    }
}
