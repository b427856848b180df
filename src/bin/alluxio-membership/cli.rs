//! The command line.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use alluxio_membership::config::{Properties, names};
use alluxio_membership::text::is_unsafe;
use alluxio_membership::worker::WorkerIdentity;
use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};
use glob::Pattern;

use crate::output::EXIT_STATUS;

pub const NAME: &str = "alluxio-membership";

pub const CONFIGURATION: &str = "\
The properties are Alluxio's. They come from the file of --conf, else from the
alluxio-site.properties in $ALLUXIO_CONF_DIR, $ALLUXIO_HOME/conf or /opt/alluxio/conf, if that file
exists. -D takes precedence over the file, and --timeout over both.";

pub const OUTPUT: &str = "\
Data goes to standard output, everything else to standard error. If the reader of the output goes
away, the program ends with 0, and check with its result. Terminals get colours, unless NO_COLOR is
set.";

/// Returns the text below the options.
fn after_help() -> String {
    let configuration = CONFIGURATION.replace('\n', "\n  ");
    let mut text = format!("Configuration:\n  {configuration}\n\nExit status:\n");
    for (status, meaning) in EXIT_STATUS {
        text.push_str(&format!("  {status}  {meaning}\n"));
    }
    text + "\n" + OUTPUT
}

const GLOBAL_OPTIONS: &str = "Global options";

/// The commands in the order of the help.
const GROUPS: [(&str, &[&str]); 3] = [
    (
        "Look at a cluster",
        &["nodes", "describe", "history", "check", "serve"],
    ),
    ("Change a cluster", &["join", "remove"]),
    ("Other", &["completions", "help"]),
];

/// The command line, whose help shows the commands in groups.
pub fn command() -> clap::Command {
    let mut command = Cli::command();
    command.build();
    let heading = clap::builder::Styles::styled().get_header().to_owned();
    let name_style = clap::builder::Styles::styled().get_literal().to_owned();
    let mut groups = String::new();
    for (group, names) in GROUPS {
        groups.push_str(&format!("{heading}{group}:{heading:#}\n"));
        for name in names {
            let found = command.find_subcommand(name);
            let about = found.and_then(|it| it.get_about()).cloned();
            let about = about.unwrap_or_default();
            groups.push_str(&format!("  {name_style}{name:<12}{name_style:#} {about}\n"));
        }
        groups.push('\n');
    }
    // {options} alone has no heading.
    groups.push_str(&format!("{heading}{GLOBAL_OPTIONS}:{heading:#}\n"));
    Cli::command().help_template(format!(
        "{{about-with-newline}}\n{{usage-heading}} {{usage}}\n\n{groups}{{options}}{{after-help}}"
    ))
}

/// Lists, watches, registers and removes the workers of an Alluxio cluster.
#[derive(Debug, Parser)]
#[command(
    name = NAME,
    version,
    long_version = crate::version::long(),
    after_help = after_help(),
    max_term_width = 100
)]
pub struct Cli {
    #[command(flatten)]
    pub config: ConfigOptions,
    #[command(subcommand)]
    pub command: Command,
}

impl Cli {
    /// Reads the command line of this process. Ends the process for help and for wrong usage.
    pub fn of_process() -> Cli {
        let matches = command().get_matches();
        Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit())
    }
}

#[derive(Debug, Args)]
#[command(next_help_heading = GLOBAL_OPTIONS)]
pub struct ConfigOptions {
    /// The configuration file, in the format of alluxio-site.properties
    #[arg(short, long, value_name = "FILE", global = true, value_hint = clap::ValueHint::FilePath)]
    pub conf: Option<PathBuf>,
    /// Set a property; may be repeated
    ///
    /// Spaces around the key and the value are ignored, as in a file.
    #[arg(short = 'D', value_name = "KEY=VALUE", value_parser = property, global = true)]
    pub properties: Vec<(String, String)>,
    /// The time limit of one operation, such as 500ms or 5s
    ///
    /// Without this option "nodes", "describe", "history" and "remove" end when every endpoint of
    /// etcd has been failing at once for 2 s.
    #[arg(long, value_name = "TIME", value_parser = timeout, global = true)]
    pub timeout: Option<String>,
    /// Log more on standard error, such as each request with its endpoint and duration; repeat for
    /// much more
    #[arg(short, long, action = clap::ArgAction::Count, global = true)]
    pub verbose: u8,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// List the workers, as "alluxio info nodes" does
    Nodes(NodesOptions),
    /// Show both records of a worker, its lease, and other claims to its identity or address
    Describe(DescribeOptions),
    /// Show the changes that etcd remembers: joins, losses, removals, new addresses
    ///
    /// etcd remembers the changes since it was last compacted. It stores no times, so only the
    /// revisions show the order. "rejoined" means that a new registration moved the worker's live
    /// key to another lease.
    History(HistoryOptions),
    /// Remove a lost worker, or all lost workers, from the cluster
    ///
    /// Asks on the terminal if standard input is a terminal, wherever the output goes.
    Remove(RemoveOptions),
    /// Register a worker and keep it registered until SIGTERM, SIGINT or SIGHUP
    ///
    /// The signal ends the registration. A second signal ends the program without waiting for etcd.
    /// A signal that is ignored when the program starts stays ignored, such as SIGHUP under nohup.
    Join(JoinOptions),
    /// Inspect etcd and the records of the cluster
    ///
    /// Inspects all endpoints in parallel, for at most half of --timeout. Writes no key, but grants
    /// a lease for a moment.
    Check(CheckOptions),
    /// Show the cluster over HTTP: a page, JSON, server-sent events and metrics
    ///
    /// Read-only, and without users: everyone who can reach the address sees the cluster. Ends with
    /// SIGTERM, SIGINT or SIGHUP.
    Serve(ServeOptions),
    /// Print the completions for a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Write the manual pages
    #[command(hide = true)]
    Man {
        /// The folder
        #[arg(value_hint = clap::ValueHint::DirPath)]
        folder: PathBuf,
    },
}

#[derive(Debug, Args)]
pub struct NodesOptions {
    #[command(flatten)]
    pub selection: SelectionOptions,
    /// The format
    ///
    /// "table" is aligned on a terminal, and separated by tabs in a pipe, as "alluxio info nodes"
    /// prints it. "csv" and "yaml" escape characters that act on terminals; "json" has the whole
    /// text.
    #[arg(
        short,
        long,
        value_name = "FORMAT",
        value_enum,
        conflicts_with = "json"
    )]
    output: Option<Format>,
    /// The same as -o json; with --watch one object in each line
    #[arg(long)]
    json: bool,
    /// Show all ports, the time left of each lease, and the age of the list; like -o wide
    ///
    /// Adds the leases and the revisions to json, yaml and csv.
    #[arg(long, conflicts_with = "watch")]
    pub wide: bool,
    /// Follow the changes until SIGINT, SIGTERM or SIGHUP
    ///
    /// Draws a table on a terminal. In a pipe, prints the present workers and then each change.
    #[arg(long)]
    pub watch: bool,
    /// The workers as they were at this revision of etcd
    #[arg(long, value_name = "REVISION", conflicts_with = "watch")]
    pub revision: Option<i64>,
}

impl NodesOptions {
    pub fn format(&self) -> Format {
        match self.output {
            _ if self.json => Format::Json,
            Some(Format::Table) | None if self.wide => Format::Wide,
            Some(format) => format,
            None => Format::Table,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Ids, addresses and states
    Table,
    /// All fields of each worker
    Wide,
    /// One JSON object
    Json,
    /// The same as YAML
    Yaml,
    /// A header and a row for each worker
    Csv,
    /// Only ids
    Name,
}

/// The selected workers and their order.
#[derive(Debug, Args)]
pub struct SelectionOptions {
    /// Only workers that are live
    #[arg(long, conflicts_with_all = ["lost", "state", "watch"])]
    live: bool,
    /// Only workers that are lost
    #[arg(long, conflicts_with_all = ["state", "watch"])]
    lost: bool,
    /// Only workers in this state
    #[arg(long, value_enum)]
    state: Option<State>,
    /// Only workers whose host matches, such as 'rack1-*'; upper and lower case are equal
    #[arg(long, value_name = "GLOB", value_parser = Pattern::new)]
    pub host: Option<Pattern>,
    /// Sort by this column; "age": the newest first
    #[arg(long, value_name = "COLUMN", value_enum)]
    pub sort: Option<Column>,
}

impl SelectionOptions {
    pub fn state(&self) -> Option<State> {
        match (self.live, self.lost) {
            (true, _) => Some(State::Live),
            (_, true) => Some(State::Lost),
            _ => self.state,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum State {
    /// Registered, and renewing its lease
    #[value(alias = "online")]
    Live,
    /// Registered, but its lease has ended
    #[value(aliases = ["failed", "offline"])]
    Lost,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Column {
    Id,
    Address,
    Status,
    Age,
}

#[derive(Debug, Args)]
pub struct DescribeOptions {
    /// The worker's id, as "nodes" prints it
    #[arg(value_name = "WORKER_ID", value_parser = identity)]
    pub identity: WorkerIdentity,
    /// One JSON object
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct HistoryOptions {
    /// Only the changes of this worker
    #[arg(value_name = "WORKER_ID", value_parser = identity)]
    pub identity: Option<WorkerIdentity>,
    /// Only the changes after this revision of etcd
    ///
    /// etcd looks through the changes of all its keys since then.
    #[arg(long, value_name = "REVISION")]
    pub after: Option<i64>,
    /// One JSON object
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct RemoveOptions {
    /// The worker's id, as "nodes" prints it
    #[arg(value_name = "WORKER_ID", value_parser = identity)]
    #[arg(required_unless_present = "lost", conflicts_with = "lost")]
    pub identity: Option<WorkerIdentity>,
    /// All lost workers: lists them and asks on a terminal; needs --yes without one
    #[arg(long)]
    pub lost: bool,
    /// Only lost workers whose host matches, such as 'rack1-*'
    #[arg(long, value_name = "GLOB", value_parser = Pattern::new, requires = "lost")]
    pub host: Option<Pattern>,
    /// Watch for this long first, such as 10m, and keep the workers that return in this time
    ///
    /// etcd does not store since when a worker is lost, so the time starts with the command.
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration, requires = "lost")]
    pub lost_for: Option<Duration>,
    /// Do not ask, even on a terminal
    #[arg(short, long)]
    pub yes: bool,
}

#[derive(Debug, Args)]
pub struct JoinOptions {
    #[command(flatten)]
    pub identity: IdentityOptions,
    /// Host name or IP address of the worker's services
    #[arg(long, value_parser = host)]
    pub host: String,
    /// Port of the RPC service
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    pub rpc_port: u16,
    /// Port of the data service
    #[arg(long, value_name = "PORT", default_value_t = 0)]
    pub data_port: u16,
    /// Port of the secure RPC service
    #[arg(long, value_name = "PORT", default_value_t = 0)]
    pub secure_rpc_port: u16,
    /// Port of the Netty data service
    #[arg(long, value_name = "PORT", default_value_t = 0)]
    pub netty_data_port: u16,
    /// Port of the web server
    #[arg(long, value_name = "PORT", default_value_t = 0)]
    pub web_port: u16,
    /// Port of the HTTP server
    #[arg(long, value_name = "PORT", default_value_t = 0)]
    pub http_server_port: u16,
    /// Host name of the worker's container
    #[arg(long, value_name = "HOST", default_value = "")]
    pub container_host: String,
    /// Path of the domain socket for short-circuit reads
    #[arg(long, value_name = "PATH", default_value = "")]
    pub domain_socket_path: String,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub struct IdentityOptions {
    /// The worker's id, worker-<uuid>: the same whenever this worker starts, and no other worker's
    #[arg(long, value_name = "WORKER_ID", value_parser = identity)]
    pub id: Option<WorkerIdentity>,
    /// A worker_identity file of an Alluxio worker; written if it does not exist
    #[arg(long, value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    pub identity_file: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct ServeOptions {
    /// The address and port to listen on
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:9180")]
    pub listen: std::net::SocketAddr,
    /// The number of workers with a worker_up metric of their own
    #[arg(long, value_name = "COUNT", default_value_t = 1000)]
    pub worker_series: usize,
}

#[derive(Debug, Args)]
pub struct CheckOptions {
    /// One JSON object
    #[arg(long)]
    pub json: bool,
}

fn property(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        // As in a file: spaces around a key and a value are ignored.
        Some((key, value)) if !key.trim().is_empty() => {
            Ok((key.trim().to_owned(), value.trim().to_owned()))
        }
        _ => Err("expected KEY=VALUE".to_owned()),
    }
}

/// Reads a duration for the property. A number without a unit would be milliseconds, which is
/// hardly what a person means.
fn timeout(text: &str) -> Result<String, String> {
    let mut properties = Properties::new();
    properties.set(names::OPERATION_TIMEOUT, text);
    match properties.positive_duration(names::OPERATION_TIMEOUT) {
        Ok(_) if text.contains(|c: char| c.is_ascii_alphabetic()) => Ok(text.to_owned()),
        _ => Err("expected a whole number and ms, s, min or h, such as 5s".to_owned()),
    }
}

fn identity(text: &str) -> Result<WorkerIdentity, String> {
    WorkerIdentity::parse(text.trim()).map_err(|error| error.to_string())
}

/// Reads a host that clients can connect to.
fn host(text: &str) -> Result<String, String> {
    let host = text.trim();
    let is_foreign = |c: char| c.is_whitespace() || is_unsafe(c) || "/:@[],#".contains(c);
    if host.parse::<IpAddr>().is_ok() || (!host.is_empty() && !host.contains(is_foreign)) {
        return Ok(host.to_owned());
    }
    let mut expected = "expected a host name or an IP address".to_owned();
    if host.contains([':', '[']) {
        expected += " alone; --rpc-port takes the port";
    }
    Err(expected)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_hosts_only() {
        for good in [
            "h",
            " host-1.x ",
            "127.0.0.1",
            "::1",
            "fe80::1",
            "w\u{f6}rker",
            "my_host",
        ] {
            assert_eq!(host(good).unwrap(), good.trim());
        }
        for bad in ["h:29999", "[::1]:29999", "[::1]", "127.0.0.1:1"] {
            assert!(host(bad).unwrap_err().contains("--rpc-port"), "{bad}");
        }
        for bad in ["", " ", "a b", "http//h", "h\u{202e}", "a,b", "h#c"] {
            assert!(host(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_time_needs_a_unit() {
        for good in ["5s", "500ms", "1min", "2h"] {
            assert_eq!(timeout(good).unwrap(), good);
        }
        for bad in ["2", "0s", "-1s", "s", "2 x", ""] {
            assert!(timeout(bad).unwrap_err().contains("5s"), "{bad}");
        }
    }

    #[test]
    fn the_command_line_is_consistent() {
        command().debug_assert();
    }

    #[test]
    fn the_help_shows_every_command_once() {
        let mut all = command();
        all.build();
        let visible = all.get_subcommands().filter(|it| !it.is_hide_set());
        let mut visible: Vec<&str> = visible.map(|it| it.get_name()).collect();
        let mut grouped: Vec<&str> = GROUPS
            .iter()
            .flat_map(|(_, names)| *names)
            .copied()
            .collect();
        visible.sort_unstable();
        grouped.sort_unstable();
        assert_eq!(grouped, visible);
    }
}
