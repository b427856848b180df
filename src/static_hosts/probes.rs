//! Which workers of a hosts file accept connections: TCP probes of their RPC ports.

use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::net::TcpStream;
use tokio::sync::{Notify, Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout, timeout_at};

use crate::aside;
use crate::jitter::jittered;
use crate::log;
use crate::view::{ClusterView, Member};
use crate::worker::{Worker, WorkerState};

/// How long the name service may take; what it said before counts on if it takes longer.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a worker may take to accept a connection.
const PROBE_TIMEOUT: Duration = Duration::from_secs(2);
/// A live worker is lost when it fails this often in a row: one lost packet says nothing about it.
const FAILURES_OF_A_LOST_WORKER: u32 = 2;
/// Probes that are on their way at once, so that a long file does not use up the process's sockets.
const PROBES_AT_ONCE: u32 = 256;
/// How many addresses of a host are tried.
const ADDRESSES_OF_A_HOST: u32 = 16;
/// A view has all workers, so changes that follow each other closely share one.
const PAUSE_BETWEEN_VIEWS: Duration = Duration::from_millis(20);

/// Lookups of the whole process that are under way at once. Each holds a thread for as long as the name service lets it,
/// and etcd's names and files need such threads too: the runtime of the doors has 16.
static LOOKUPS: Semaphore = Semaphore::const_new(8);

/// Probes every worker again and again; ends when dropped.
pub(super) struct Probes {
    shared: Arc<Shared>,
    _tasks: JoinSet<()>,
}

struct Shared {
    workers: Vec<Arc<Worker>>,
    results: Mutex<Vec<Health>>,
    /// A worker was probed for the first time, became live or lost.
    changed: Notify,
    /// For hosts that wait for the name service, apart from those that are connected to.
    lookups: Semaphore,
    connections: Semaphore,
    /// `None` before each worker has been probed once.
    view: watch::Sender<Option<Arc<ClusterView>>>,
}

/// Where a host is.
struct Addresses {
    /// The last ones that are known.
    known: Vec<SocketAddr>,
    /// What asks the name service. It cannot be stopped, and so is asked nothing else before it has answered.
    lookup: JoinSet<io::Result<Vec<SocketAddr>>>,
    /// Until when that is waited for.
    until: Instant,
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
        let shared = Arc::new(Shared::new(workers));
        let mut tasks: JoinSet<()> = (0..shared.workers.len())
            .map(|place| shared.clone().probe(place, interval))
            .collect();
        tasks.spawn(shared.clone().publish_changes());
        // Without workers there is nothing to wait for.
        shared.publish();
        Probes {
            shared,
            _tasks: tasks,
        }
    }

    /// The newest view, `None` before each worker has been probed once.
    pub(super) fn view(&self) -> watch::Receiver<Option<Arc<ClusterView>>> {
        self.shared.view.subscribe()
    }
}

impl Shared {
    fn new(workers: Vec<Arc<Worker>>) -> Self {
        Shared {
            results: Mutex::new(vec![Health::Unknown; workers.len()]),
            changed: Notify::new(),
            lookups: Semaphore::new(PROBES_AT_ONCE as usize),
            connections: Semaphore::new(PROBES_AT_ONCE as usize),
            view: watch::Sender::new(None),
            workers,
        }
    }

    async fn probe(self: Arc<Self>, place: usize, interval: Duration) {
        let address = &self.workers[place].address;
        let host = address.host.as_deref().unwrap_or_default();
        let port = u16::try_from(address.rpc_port).unwrap_or_default();
        let mut addresses = Addresses::unknown();
        loop {
            let began = Instant::now();
            self.look_up(host, port, &mut addresses).await;
            let accepted = self.accepts(host, &addresses.known).await;
            let pause = self.note(place, accepted).pause(interval);
            tokio::time::sleep_until(began + jittered(pause)).await;
        }
    }

    /// Asks where the host is now, unless it is still being asked.
    async fn look_up(&self, host: &str, port: u16, addresses: &mut Addresses) {
        if let Ok(ip) = host.parse::<IpAddr>() {
            addresses.known = vec![(ip, port).into()];
            return;
        }
        let _permit = if addresses.lookup.is_empty() {
            let permit = self.lookups.acquire().await;
            addresses.start_lookup(host, port);
            permit.ok()
        } else {
            None
        };
        match timeout_at(addresses.until, addresses.lookup.join_next()).await {
            Ok(Some(Ok(Ok(found)))) => addresses.known = found,
            Ok(Some(Ok(Err(error)))) => {
                log::debug!("The address of {host} cannot be looked up: {error}");
            }
            Ok(Some(Err(error))) => log::warn!("The lookup of {host} ended early: {error}"),
            Ok(None) => {}
            Err(_) => log::debug!("The address of {host} is not found within {LOOKUP_TIMEOUT:?}"),
        }
    }

    async fn accepts(&self, host: &str, addresses: &[SocketAddr]) -> bool {
        let sockets = u32::try_from(addresses.len()).unwrap_or(PROBES_AT_ONCE);
        let Ok(_permits) = self.connections.acquire_many(sockets).await else {
            return false;
        };
        match timeout(PROBE_TIMEOUT, connect(addresses)).await {
            Ok(Ok(())) => true,
            Ok(Err(error)) => {
                log::debug!("{host} {addresses:?} does not accept a connection: {error}");
                false
            }
            Err(_) => {
                log::debug!(
                    "{host} {addresses:?} does not accept a connection within {PROBE_TIMEOUT:?}"
                );
                false
            }
        }
    }

    fn note(&self, place: usize, accepted: bool) -> Health {
        let mut results = self.results.lock();
        let before = results[place];
        let now = before.after(accepted);
        results[place] = now;
        if before == Health::Unknown || before.is_live() != now.is_live() {
            self.changed.notify_one();
        }
        now
    }

    async fn publish_changes(self: Arc<Self>) {
        loop {
            self.changed.notified().await;
            self.publish();
            tokio::time::sleep(PAUSE_BETWEEN_VIEWS).await;
        }
    }

    /// Makes a view of the results, if it says anything new.
    fn publish(&self) {
        let results = self.results.lock().clone();
        if results.contains(&Health::Unknown) {
            return;
        }
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
        let before = self.view.borrow().clone();
        if before.as_ref().is_some_and(|before| before.all == all) {
            return;
        }
        let of = |state| all.iter().filter(move |member| member.state == state);
        self.view.send_replace(Some(Arc::new(ClusterView {
            version: before.map_or(0, |view| view.version()) + 1,
            live: of(WorkerState::Live).cloned().collect(),
            failed: of(WorkerState::Lost).cloned().collect(),
            all,
            ..ClusterView::default()
        })));
    }
}

impl Addresses {
    fn unknown() -> Self {
        Addresses {
            known: Vec::new(),
            lookup: JoinSet::new(),
            until: Instant::now(),
        }
    }

    fn start_lookup(&mut self, host: &str, port: u16) {
        let host = host.to_owned();
        self.until = Instant::now() + LOOKUP_TIMEOUT;
        self.lookup.spawn(async move {
            let permit = LOOKUPS.acquire().await.map_err(io::Error::other)?;
            let lookup = aside::start("looking up a name", move || {
                let _permit = permit;
                let found = (host.as_str(), port).to_socket_addrs()?;
                Ok(found.take(ADDRESSES_OF_A_HOST as usize).collect())
            });
            let found = lookup.map_err(io::Error::other)?.end().await;
            found.map_err(io::Error::other)?
        });
    }
}

/// Tries all addresses at once: one that does not answer must not use up the time of the others.
async fn connect(addresses: &[SocketAddr]) -> io::Result<()> {
    let mut tries: JoinSet<_> = addresses
        .iter()
        .map(|address| TcpStream::connect(*address))
        .collect();
    let mut refused = io::Error::other("it has no known address");
    while let Some(tried) = tries.join_next().await {
        match tried.map_err(io::Error::other).flatten() {
            Ok(_) => return Ok(()),
            Err(error) => refused = error,
        }
    }
    Err(refused)
}

#[cfg(test)]
mod tests {
    use tokio::net::{TcpListener, TcpSocket};

    use super::*;
    use crate::view::MemberFilter;
    use crate::worker::{WorkerIdentity, WorkerNetAddress};

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

    #[tokio::test]
    async fn an_address_that_does_not_answer_hides_no_other() {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let silent = socket.listen(0).unwrap();
        let silent = silent.local_addr().unwrap();
        // A listener whose queue is full does not answer.
        let mut queue = Vec::new();
        let limit = Duration::from_millis(500);
        while let Ok(queued) = timeout(limit, TcpStream::connect(silent)).await {
            queue.push(queued.unwrap());
        }
        let good = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let good = good.local_addr().unwrap();
        let shared = Shared::new(Vec::new());
        assert!(!shared.accepts("h", &[silent]).await);
        assert!(shared.accepts("h", &[silent, good]).await);
        assert!(!shared.accepts("h", &[]).await);
    }

    #[tokio::test(start_paused = true)]
    async fn changes_at_the_same_time_are_one_view() {
        let workers = ["h1", "h2", "h3"].map(|host| {
            Arc::new(Worker {
                identity: WorkerIdentity::of_static_host(host),
                address: WorkerNetAddress::new(host),
            })
        });
        let shared = Arc::new(Shared::new(workers.to_vec()));
        let mut view = shared.view.subscribe();
        let publisher = tokio::spawn(shared.clone().publish_changes());
        shared.note(0, true);
        shared.note(1, true);
        tokio::time::sleep(PAUSE_BETWEEN_VIEWS * 10).await;
        assert!(view.borrow().is_none(), "the third is not known yet");
        for (version, accepted, live) in [(1, true, 3), (2, false, 0), (3, true, 3)] {
            for place in 0..3 {
                shared.note(place, accepted);
                shared.note(place, accepted);
            }
            view.changed().await.unwrap();
            let view = view.borrow_and_update().clone().unwrap();
            assert_eq!(view.version(), version);
            assert_eq!(view.members(MemberFilter::Live).len(), live);
        }
        publisher.abort();
    }
}
