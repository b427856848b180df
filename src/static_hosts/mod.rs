//! STATIC membership: the workers of a hosts file.

mod probes;

use std::collections::HashSet;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use self::probes::Probes;

use crate::config::{StaticConfig, names};
use crate::error::{Error, ErrorKind, Result};
use crate::log;
use crate::text::{Quote, is_unsafe};
use crate::view::{self, Chunks, ClusterView, Member, MemberFilter};
use crate::worker::{Worker, WorkerIdentity, WorkerNetAddress, WorkerState};

/// The maximum number of lines of a hosts file that cause a warning each.
const MAX_WARNINGS: usize = 100;

/// The members of a hosts file, which is read once. All of them count as live, unless their ports
/// are probed.
pub struct StaticHosts {
    /// The view; `None` until each worker has been probed once.
    view: watch::Receiver<Option<Arc<ClusterView>>>,
    /// The probes; `None` after they were stopped.
    probes: Mutex<Option<Probes>>,
    status: Status,
}

/// The source of the statuses in the table.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Status {
    NotKnown,
    Probed,
}

impl StaticHosts {
    /// Reads the hosts file, which has one host per line. Skips space around a host, empty lines,
    /// lines that start with `#`, and a byte order mark. Lists repeated hosts once. A line that
    /// cannot be a host is listed with a warning, because Alluxio's class lists it too.
    ///
    /// Starts the probes if they are configured. In that case it must be called within a Tokio
    /// runtime.
    ///
    /// # Errors
    ///
    /// `NotFound` if the file does not exist, `Io` if it cannot be read or is not UTF-8.
    pub fn open(config: &StaticConfig) -> Result<Self> {
        let path = config.hosts_file.display();
        let text =
            std::fs::read_to_string(&config.hosts_file).map_err(|error| match error.kind() {
                io::ErrorKind::NotFound => Error::new(
                    ErrorKind::NotFound,
                    format!("Not found for static worker config file:{path}"),
                ),
                _ => Error::new(
                    ErrorKind::Io,
                    format!("Failed to read the static worker config file {path}: {error}"),
                ),
            })?;
        let mut seen = HashSet::new();
        let mut workers = Vec::new();
        let mut warnings = 0_usize;
        for (host, line) in hosts(&text) {
            let is_new = seen.insert(host);
            if is_new {
                workers.push(Arc::new(worker(host, config)));
            }
            if is_new && is_host(host) {
                continue;
            }
            warnings += 1;
            if warnings > MAX_WARNINGS {
                continue;
            }
            match is_new {
                true => log::warn!(
                    "{path}, line {line}: \"{}\" cannot be a host name or an IP address. A line \
                     holds one host and no port, comment or comma.",
                    Quote(host)
                ),
                false => log::warn!("Duplicate node hostname {} found in {path}", Quote(host)),
            }
        }
        if let Some(more) = warnings.checked_sub(MAX_WARNINGS)
            && more > 0
        {
            log::warn!("{path}: {more} more lines are duplicate or cannot be hosts.");
        }
        Ok(match config.probe_interval {
            None => StaticHosts {
                view: watch::Sender::new(Some(Arc::new(all_live(workers)))).subscribe(),
                probes: Mutex::new(None),
                status: Status::NotKnown,
            },
            Some(interval) => {
                let probes = Probes::start(workers, interval);
                StaticHosts {
                    view: probes.view(),
                    probes: Mutex::new(Some(probes)),
                    status: Status::Probed,
                }
            }
        })
    }

    /// Returns the members in the order of the file, or `None` until each of them has been probed
    /// once.
    pub fn view(&self) -> Option<Arc<ClusterView>> {
        self.view.borrow().clone()
    }

    /// Waits until each worker has been probed once, if they are probed.
    pub(crate) async fn first_view(&self, deadline: Instant) -> Result<Arc<ClusterView>> {
        self.newer_than(0, deadline).await.ok_or_else(|| {
            Error::new(
                ErrorKind::Unavailable,
                format!(
                    "Not every worker of the hosts file has been probed yet; raise {} if the file \
                     is long",
                    names::OPERATION_TIMEOUT
                ),
            )
        })
    }

    /// Waits for a view with a greater version.
    pub(crate) async fn newer_than(
        &self,
        version: u64,
        deadline: Instant,
    ) -> Option<Arc<ClusterView>> {
        let mut view = self.view.clone();
        let is_newer = |view: &Option<Arc<ClusterView>>| {
            view.as_ref().is_some_and(|view| view.version() > version)
        };
        let newer = timeout_at(deadline, view.wait_for(is_newer)).await;
        let newer = newer.map(|result| result.map(|view| view.clone()));
        match newer {
            Ok(Ok(view)) => view,
            // Without probes, the view never changes.
            Ok(Err(_)) => {
                tokio::time::sleep_until(deadline).await;
                None
            }
            Err(_) => None,
        }
    }

    /// Stops the probes.
    pub(crate) fn stop(&self) {
        self.probes.lock().take();
    }

    /// Returns the text of `showAllMembers` for a view. Ids are made from addresses. The status of
    /// a host is known if it is probed.
    pub fn table_of(&self, view: &ClusterView) -> Arc<str> {
        view.table_by(|| {
            view::table(view.members(MemberFilter::All).iter().map(|member| {
                let worker = &*member.worker;
                let status = match self.status {
                    Status::NotKnown => "N/A",
                    Status::Probed => member.state.status(),
                };
                (worker.address.main_info_md5(), worker, status)
            }))
        })
    }
}

fn all_live(workers: Vec<Arc<Worker>>) -> ClusterView {
    let members: Vec<Member> = workers
        .into_iter()
        .map(|worker| Member {
            worker,
            state: WorkerState::Live,
        })
        .collect();
    ClusterView {
        version: 1,
        chunks: Chunks::new(1, &members, &members),
        ..ClusterView::default()
    }
}

/// Returns the hosts of a file with their line numbers. A single `\r` also ends a line.
fn hosts(text: &str) -> impl Iterator<Item = (&str, usize)> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    text.split('\n')
        .flat_map(|line| line.strip_suffix('\r').unwrap_or(line).split('\r'))
        .map(|line| line.trim_matches(|c| c <= ' '))
        .zip(1..)
        .filter(|(line, _)| !line.is_empty() && !line.starts_with('#'))
}

/// Whether clients could connect to a host of this name: it is an IP address, or a text without
/// characters that separate hosts, ports and comments.
fn is_host(host: &str) -> bool {
    let is_foreign = |c: char| c.is_whitespace() || is_unsafe(c) || "/:@[],;#".contains(c);
    host.parse::<IpAddr>().is_ok() || !host.contains(is_foreign)
}

fn worker(host: &str, config: &StaticConfig) -> Worker {
    Worker {
        identity: WorkerIdentity::of_static_host(host),
        address: WorkerNetAddress {
            container_host: Some(config.container_host.clone()),
            rpc_port: config.rpc_port,
            data_port: config.data_port,
            netty_data_port: config.netty_data_port,
            web_port: config.web_port,
            http_server_port: config.http_server_port,
            ..WorkerNetAddress::new(host)
        },
    }
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};
    use std::time::Duration;

    use super::*;
    use crate::record::golden::vectors;

    fn config(hosts_file: &Path) -> StaticConfig {
        StaticConfig {
            hosts_file: hosts_file.to_owned(),
            container_host: "c".to_owned(),
            rpc_port: 29999,
            data_port: 29997,
            netty_data_port: 29997,
            web_port: 30000,
            http_server_port: 28080,
            probe_interval: None,
            operation_timeout: Duration::from_secs(10),
        }
    }

    fn open(text: impl AsRef<[u8]>) -> Result<StaticHosts> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        StaticHosts::open(&config(file.path()))
    }

    fn view_of(static_hosts: &StaticHosts) -> Arc<ClusterView> {
        static_hosts.view().expect("nothing is probed")
    }

    fn hosts_of(view: &ClusterView) -> Vec<&str> {
        let members = view.members(MemberFilter::All);
        members
            .iter()
            .map(|member| member.worker.address.host.as_deref().unwrap())
            .collect()
    }

    #[test]
    fn the_file_decides_who_and_in_which_order() {
        let opened = open(
            "# comment\n\n  worker2  \nworker1\r\n\tworker2\n#worker3\nh1 # \
             x\nh:123\n::1\nw\u{f6}rker",
        )
        .unwrap();
        let view = view_of(&opened);
        assert_eq!(
            hosts_of(&view),
            [
                "worker2",
                "worker1",
                "h1 # x",
                "h:123",
                "::1",
                "w\u{f6}rker"
            ]
        );
        assert_eq!(view.version(), 1);
        assert_eq!(view.revision(), 0);
        assert_eq!(
            view.members(MemberFilter::Live),
            view.members(MemberFilter::All)
        );
        assert!(view.members(MemberFilter::Lost).is_empty());
        assert!(view.skipped().is_empty());
        assert!(
            view.members(MemberFilter::All)
                .iter()
                .all(|m| m.state == WorkerState::Live)
        );
        assert!(view.is_live(&WorkerIdentity::of_static_host("worker1")));
    }

    #[test]
    fn lines_that_cannot_be_hosts_are_known() {
        let text = "\u{feff}h1\r\n\r# x\nh2 # x\rh3:1\r\n::1";
        let found: Vec<_> = hosts(text).collect();
        assert_eq!(found, [("h1", 1), ("h2 # x", 4), ("h3:1", 5), ("::1", 6)]);
        for good in ["h1", "::1", "127.0.0.1", "w\u{f6}rker", "my_host.x"] {
            assert!(is_host(good), "{good}");
        }
        for bad in [
            "h2 # x",
            "h3:1",
            "a,b",
            "a b",
            "[::1]",
            "http://h",
            "\u{200b}h",
        ] {
            assert!(!is_host(bad), "{bad}");
        }
    }

    #[test]
    fn workers_are_those_of_the_real_class() {
        let config = config(Path::new(""));
        let rows = vectors("static.jsonl");
        assert!(rows.len() >= 39);
        for row in rows {
            let worker = worker(row["host"].as_str().unwrap(), &config);
            assert_eq!(
                worker.identity.to_string(),
                row["identity"].as_str().unwrap()
            );
            assert_eq!(worker.address.main_info_md5(), row["id"].as_str().unwrap());
            assert_eq!(worker.address.secure_rpc_port, 0);
        }
    }

    #[test]
    fn the_table_has_stock_ids_and_no_status() {
        let opened = open("worker1\n").unwrap();
        let id = view_of(&opened).members(MemberFilter::All)[0]
            .worker
            .address
            .main_info_md5();
        assert_eq!(
            &*opened.table_of(&view_of(&opened)),
            format!("WorkerId\tAddress\tStatus\n{id}\tworker1:29999\tN/A\n")
        );
        let empty = open("").unwrap();
        assert_eq!(
            &*empty.table_of(&view_of(&empty)),
            "WorkerId\tAddress\tStatus\n"
        );
    }

    #[test]
    fn a_missing_file_is_reported_as_alluxio_does() {
        let error = StaticHosts::open(&config(Path::new("/no/such/workers")))
            .err()
            .unwrap();
        assert_eq!(error.kind(), ErrorKind::NotFound);
        assert_eq!(
            error.message(),
            "Not found for static worker config file:/no/such/workers"
        );
    }

    #[test]
    fn an_unreadable_file_is_an_error_that_names_it() {
        let folder = tempfile::tempdir().unwrap();
        let not_utf8: PathBuf = folder.path().join("workers");
        std::fs::write(&not_utf8, b"w\xf6rker\n").unwrap();
        for path in [folder.path(), &not_utf8] {
            let error = StaticHosts::open(&config(path)).err().unwrap();
            assert_eq!(error.kind(), ErrorKind::Io);
            assert!(
                error.message().contains(&*path.to_string_lossy()),
                "{error}"
            );
        }
    }
}
