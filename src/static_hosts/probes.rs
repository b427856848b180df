//! Which workers of a hosts file accept connections: TCP probes of their RPC ports.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::net::{TcpStream, lookup_host};
use tokio::sync::{Semaphore, watch};
use tokio::task::AbortHandle;
use tokio::time::{Instant, timeout};

use crate::jitter::jittered;
use crate::view::{ClusterView, Member};
use crate::worker::{Worker, WorkerState};

/// How long the name service may take; what it said before counts on if it takes longer.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a worker may take to accept a connection.
const PROBE_TIMEOUT: Duration = Duration::from_secs(2);
/// A live worker is lost when it fails this often in a row: one lost packet says nothing about it.
const FAILURES_OF_A_LOST_WORKER: u32 = 2;
/// Probes that are on their way at once, so that a long file does not use up the process's sockets.
const PROBES_AT_ONCE: usize = 256;

/// Probes every worker again and again; ends when dropped.
pub(super) struct Probes {
    shared: Arc<Shared>,
    tasks: Vec<AbortHandle>,
}

struct Shared {
    workers: Vec<Arc<Worker>>,
    results: Mutex<Vec<Health>>,
    permits: Semaphore,
    /// `None` before each worker has been probed once.
    view: watch::Sender<Option<Arc<ClusterView>>>,
}

/// What the probes of a worker say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Health {
    Unknown,
    Live { failures: u32 },
    Lost,
}

impl Health {
    fn after(self, accepted: bool) -> Health {
        match self {
            _ if accepted => Health::Live { failures: 0 },
            Health::Live { failures } if failures + 1 < FAILURES_OF_A_LOST_WORKER => Health::Live {
                failures: failures + 1,
            },
            _ => Health::Lost,
        }
    }

    fn is_live(self) -> bool {
        matches!(self, Health::Live { .. })
    }

    /// When to probe the next time: a failure is looked at again soon.
    fn pause(self, interval: Duration) -> Duration {
        match self {
            Health::Live { failures: 1.. } => interval.min(Duration::from_secs(1)),
            _ => interval,
        }
    }
}

impl Probes {
    /// Must be called within a Tokio runtime.
    pub(super) fn start(workers: Vec<Arc<Worker>>, interval: Duration) -> Self {
        let shared = Arc::new(Shared {
            results: Mutex::new(vec![Health::Unknown; workers.len()]),
            permits: Semaphore::new(PROBES_AT_ONCE),
            view: watch::Sender::new(None),
            workers,
        });
        if shared.workers.is_empty() {
            shared.publish(&[]);
        }
        let tasks = (0..shared.workers.len())
            .map(|place| tokio::spawn(shared.clone().probe(place, interval)).abort_handle())
            .collect();
        Probes { shared, tasks }
    }

    /// The newest view, `None` before each worker has been probed once.
    pub(super) fn view(&self) -> watch::Receiver<Option<Arc<ClusterView>>> {
        self.shared.view.subscribe()
    }
}

impl Drop for Probes {
    fn drop(&mut self) {
        self.tasks.iter().for_each(AbortHandle::abort);
    }
}

impl Shared {
    async fn probe(self: Arc<Self>, place: usize, interval: Duration) {
        let mut addresses = Vec::new();
        loop {
            let began = Instant::now();
            let accepted = self.accepts(&self.workers[place], &mut addresses).await;
            let pause = self.note(place, accepted).pause(interval);
            tokio::time::sleep_until(began + jittered(pause)).await;
        }
    }

    /// `addresses`: the last ones of the host that are known.
    async fn accepts(&self, worker: &Worker, addresses: &mut Vec<SocketAddr>) -> bool {
        let Ok(_permit) = self.permits.acquire().await else {
            return false;
        };
        let (Some(host), Ok(port)) = (
            worker.address.host.as_deref(),
            u16::try_from(worker.address.rpc_port),
        ) else {
            return false;
        };
        match timeout(LOOKUP_TIMEOUT, lookup_host((host, port))).await {
            Ok(Ok(found)) => *addresses = found.collect(),
            Ok(Err(error)) => log::debug!("The address of {host} cannot be looked up: {error}"),
            Err(_) => log::debug!("The address of {host} is not found within {LOOKUP_TIMEOUT:?}"),
        }
        match timeout(PROBE_TIMEOUT, TcpStream::connect(addresses.as_slice())).await {
            Ok(Ok(_)) => true,
            Ok(Err(error)) => {
                log::debug!("{host}:{port} does not accept a connection: {error}");
                false
            }
            Err(_) => {
                log::debug!("{host}:{port} does not accept a connection within {PROBE_TIMEOUT:?}");
                false
            }
        }
    }

    fn note(&self, place: usize, accepted: bool) -> Health {
        let mut results = self.results.lock();
        let before = results[place];
        let now = before.after(accepted);
        results[place] = now;
        let changed = before == Health::Unknown || before.is_live() != now.is_live();
        if changed && !results.contains(&Health::Unknown) {
            self.publish(&results);
        }
        now
    }

    fn publish(&self, results: &[Health]) {
        let all: Vec<Member> = self
            .workers
            .iter()
            .zip(results)
            .map(|(worker, health)| Member {
                worker: worker.clone(),
                state: match health.is_live() {
                    true => WorkerState::Live,
                    false => WorkerState::Lost,
                },
            })
            .collect();
        let of = |state| all.iter().filter(move |member| member.state == state);
        let version = self.view.borrow().as_ref().map_or(0, |view| view.version());
        self.view.send_replace(Some(Arc::new(ClusterView {
            version: version + 1,
            live: of(WorkerState::Live).cloned().collect(),
            failed: of(WorkerState::Lost).cloned().collect(),
            all,
            ..ClusterView::default()
        })));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_failure_loses_nobody_that_was_live() {
        let live = Health::Live { failures: 0 };
        assert_eq!(Health::Unknown.after(true), live);
        assert_eq!(Health::Unknown.after(false), Health::Lost);
        let once = live.after(false);
        assert!(once.is_live());
        assert_eq!(once.after(true), live);
        assert_eq!(once.after(false), Health::Lost);
        assert_eq!(Health::Lost.after(true), live);
    }

    #[test]
    fn a_failure_is_looked_at_again_soon() {
        let minute = Duration::from_secs(60);
        assert_eq!(Health::Live { failures: 0 }.pause(minute), minute);
        assert_eq!(Health::Lost.pause(minute), minute);
        let once = Health::Live { failures: 1 };
        assert_eq!(once.pause(minute), Duration::from_secs(1));
        let short = Duration::from_millis(200);
        assert_eq!(once.pause(short), short);
    }
}
