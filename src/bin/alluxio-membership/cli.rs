//! The command line.

use std::net::IpAddr;
use std::path::PathBuf;

use alluxio_membership::config::{Properties, names};
use alluxio_membership::text::is_unsafe;
use alluxio_membership::worker::WorkerIdentity;
use clap::{Args, Parser, Subcommand};

use crate::output::EXIT_STATUS;

pub const NAME: &str = "alluxio-membership";

pub const CONFIGURATION: &str = "\
The properties are Alluxio's. They come from the file of --conf, else from the
alluxio-site.properties in $ALLUXIO_CONF_DIR, $ALLUXIO_HOME/conf or /opt/alluxio/conf, if it is
there. -D wins over the file, and --timeout over both.";

pub const OUTPUT: &str = "\
Data goes to standard output, everything else to standard error. A reader that goes away ends the
program quietly, with 0, and check with what it found. Terminals get colours, unless NO_COLOR is
set.";

/// What stands below the options.
fn after_help() -> String {
    let configuration = CONFIGURATION.replace('\n', "\n  ");
    let mut text = format!("Configuration:\n  {configuration}\n\nExit status:\n");
    for (status, meaning) in EXIT_STATUS {
        text.push_str(&format!("  {status}  {meaning}\n"));
    }
    text + "\n" + OUTPUT
}

/// Lists, watches, registers and removes the workers of an Alluxio cluster.
#[derive(Debug, Parser)]
#[command(name = NAME, version, long_version = crate::version::long(), after_help = after_help(), max_term_width = 100)]
pub struct Cli {
    #[command(flatten)]
    pub config: ConfigOptions,
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Args)]
pub struct ConfigOptions {
    /// The configuration file, in the format of alluxio-site.properties
    #[arg(short, long, value_name = "FILE", global = true, value_hint = clap::ValueHint::FilePath)]
    pub conf: Option<PathBuf>,
    /// Set a property; may be repeated
    ///
    /// Space around the key and the value belongs to neither, as in a file.
    #[arg(short = 'D', value_name = "KEY=VALUE", value_parser = property, global = true)]
    pub properties: Vec<(String, String)>,
    /// How long one operation may take, such as 500ms or 5s
    ///
    /// Without this option "nodes" and "remove" end as soon as every endpoint of etcd has failed at
    /// once for 2 s.
    #[arg(long, value_name = "TIME", value_parser = timeout, global = true)]
    pub timeout: Option<String>,
    /// Say more on standard error; twice: much more
    #[arg(short, long, action = clap::ArgAction::Count, global = true)]
    pub verbose: u8,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// List the workers, as "alluxio info nodes" does
    Nodes(NodesOptions),
    /// Remove a lost worker from the cluster
    ///
    /// Asks on the terminal if standard input is one, wherever the output goes.
    Remove(RemoveOptions),
    /// Register a worker and keep it registered until SIGTERM, SIGINT or SIGHUP
    ///
    /// The signal ends the registration; a second one ends the program although etcd has not answered yet. A signal that is
    /// ignored when the program starts stays ignored, as SIGHUP under nohup.
    Join(JoinOptions),
    /// Look at etcd and at the records of the cluster
    ///
    /// Endpoints are looked at side by side, for half of --timeout at most. Writes no key, but grants a lease for a moment.
    Check(CheckOptions),
    /// Show the cluster over HTTP: a page, JSON, server-sent events and metrics
    ///
    /// Read-only, and without users: whoever reaches the address sees the cluster. Ends with SIGTERM, SIGINT or SIGHUP.
    Serve(ServeOptions),
    /// Print the completions for a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Write the manual pages
    #[command(hide = true)]
    Man {
        /// Where to
        #[arg(value_hint = clap::ValueHint::DirPath)]
        folder: PathBuf,
    },
}

#[derive(Debug, Args)]
pub struct NodesOptions {
    /// Only workers that are live
    #[arg(long, conflicts_with_all = ["lost", "watch"])]
    pub live: bool,
    /// Only workers that are lost
    #[arg(long, conflicts_with = "watch")]
    pub lost: bool,
    /// One JSON object, with --wide with the leases; with --watch, one in each line
    #[arg(long)]
    pub json: bool,
    /// All ports, the time left of each lease, and how old the list is
    #[arg(long, conflicts_with = "watch")]
    pub wide: bool,
    /// Print the workers that are there, then every change as it comes, until SIGINT, SIGTERM or SIGHUP
    #[arg(long)]
    pub watch: bool,
}

#[derive(Debug, Args)]
pub struct RemoveOptions {
    /// The worker's id, as "nodes" prints it
    #[arg(value_name = "WORKER_ID", value_parser = identity)]
    pub identity: WorkerIdentity,
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
    /// A worker_identity file as Alluxio's workers have it; written if it does not exist
    #[arg(long, value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    pub identity_file: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct ServeOptions {
    /// The address and port to listen on
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:9180")]
    pub listen: std::net::SocketAddr,
    /// How many workers get a worker_up metric of their own
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
        // As in a file: space around a name and a value belongs to neither.
        Some((key, value)) if !key.trim().is_empty() => {
            Ok((key.trim().to_owned(), value.trim().to_owned()))
        }
        _ => Err("expected KEY=VALUE".to_owned()),
    }
}

/// Reads a duration as the property that it sets. A number without a unit would be milliseconds
/// there, which a person who types it hardly means.
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
    use clap::CommandFactory;

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
        Cli::command().debug_assert();
    }
}
