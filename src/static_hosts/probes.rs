//! Probes the RPC ports of the workers of a hosts file by TCP connections.

use std::convert::Infallible;
use std::future::pending;
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::net::TcpStream;
use tokio::sync::{Notify, Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout, timeout_at};

use crate::aside;
use crate::error::Error;
use crate::jitter::jittered;
use crate::log;
use crate::view::{Chunks, ClusterView, Member, MemberFilter};
use crate::worker::{Worker, WorkerState};

/// How long the name service may take. After that, its previous answer stays in use.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a worker may take to accept a connection.
const PROBE_TIMEOUT: Duration = Duration::from_secs(2);
/// How many probes in a row a live worker must fail until it is lost. One lost packet is not
/// enough.
const FAILURES_OF_A_LOST_WORKER: u32 = 2;
/// The maximum number of simultaneous probes, so that a long file does not use up the process's
/// sockets.
const PROBES_AT_ONCE: u32 = 256;
/// How many addresses of a host are probed.
const ADDRESSES_OF_A_HOST: u32 = 16;
/// Every view contains all workers, so changes that follow each other closely share one view.
const PAUSE_BETWEEN_VIEWS: Duration = Duration::from_millis(20);

/// How long the first view waits for workers that have not been probed.
const FIRST_VIEW: Duration = LOOKUP_TIMEOUT.saturating_add(PROBE_TIMEOUT);
/// A lookup that takes longer than this is slow.
const SLOW_LOOKUP: Duration = Duration::from_millis(250);

/// The simultaneous lookups of the whole process. Each lookup holds a thread while the name service
/// does not answer. Slow lookups have their own permits, so that names without an answer do not
/// delay other names.
static LOOKUPS: Semaphore = Semaphore::const_new(8);
static SLOW_LOOKUPS: Semaphore = Semaphore::const_new(56);

/// Asks the name service for the addresses of a host. Blocks the thread.
type Resolve = fn(&str, u16) -> io::Result<Vec<SocketAddr>>;

fn ask_system(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    let found = (host, port).to_socket_addrs()?;
    Ok(found.take(ADDRESSES_OF_A_HOST as usize).collect())
}

/// Probes every worker repeatedly. Dropping this stops the probes.
pub(super) struct Probes {
    shared: Arc<Shared>,
    _tasks: JoinSet<()>,
}

struct Shared {
    workers: Vec<Arc<Worker>>,
    results: Mutex<Vec<Health>>,
    /// Notified when a worker was probed for the first time, became live or became lost.
    changed: Notify,
    connections: Semaphore,
    /// Connections to hosts that did not answer the last probe, so that such hosts do not delay
    /// others.
    silent_connections: Semaphore,
    resolve: Resolve,
    /// When the first view stops waiting for workers that have not been probed.
    first_view: Instant,
    /// The view; `None` before the first one.
    view: watch::Sender<Option<Arc<ClusterView>>>,
}

/// The addresses of a host.
struct Addresses {
    /// The addresses of the last successful lookup.
    known: Vec<SocketAddr>,
    /// The running lookup. It cannot be stopped, and no other lookup starts before it has ended.
    lookup: JoinSet<Lookup>,
    /// When the running lookup got its thread.
    asked: Arc<OnceLock<Instant>>,
    /// Whether the last lookup was slow.
    slow: bool,
    /// Whether the host did not answer the last probe.
    silent: bool,
}

enum Lookup {
    Answer(io::Result<Vec<SocketAddr>>),
    /// The lookup got no thread.
    NotAsked(Error),
}

/// The result of the probes of a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Health {
    /// The worker has not been probed.
    Unknown,
    Live {
        failures: u32,
    },
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

    /// Returns the pause before the next probe, which is short after a failure.
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
        Self::start_with(workers, interval, ask_system)
    }

    fn start_with(workers: Vec<Arc<Worker>>, interval: Duration, resolve: Resolve) -> Self {
        let shared = Arc::new(Shared::new(workers, resolve));
        let mut tasks: JoinSet<()> = (0..shared.workers.len())
            .map(|place| shared.clone().probe(place, interval))
            .collect();
        tasks.spawn(shared.clone().publish_changes());
        // Without workers, the first view needs no probes.
        shared.publish();
        Probes {
            shared,
            _tasks: tasks,
        }
    }

    /// Returns the newest view, or `None` until each worker has been probed once.
    pub(super) fn view(&self) -> watch::Receiver<Option<Arc<ClusterView>>> {
        self.shared.view.subscribe()
    }
}

impl Shared {
    fn new(workers: Vec<Arc<Worker>>, resolve: Resolve) -> Self {
        Shared {
            results: Mutex::new(vec![Health::Unknown; workers.len()]),
            changed: Notify::new(),
            connections: Semaphore::new(PROBES_AT_ONCE as usize),
            silent_connections: Semaphore::new(PROBES_AT_ONCE as usize),
            resolve,
            first_view: Instant::now() + FIRST_VIEW,
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
            let pause = match self.look_up(host, port, &mut addresses).await {
                true => {
                    let accepted = self.accepts(host, &mut addresses).await;
                    self.note(place, accepted).pause(interval)
                }
                false => interval,
            };
            tokio::time::sleep_until(began + jittered(pause)).await;
        }
    }

    /// Looks up the addresses of the host, unless a lookup is running. Returns whether the host can
    /// be probed: an address is known, or the name service has used up its time.
    async fn look_up(&self, host: &str, port: u16, addresses: &mut Addresses) -> bool {
        if let Ok(ip) = host.parse::<IpAddr>() {
            addresses.known = vec![(ip, port).into()];
            return true;
        }
        if addresses.lookup.is_empty() {
            addresses.start_lookup(host, port, self.resolve);
        }
        // A lookup that waits for a thread has not used any of its time.
        let asked = addresses.asked.get().copied();
        let until = asked.unwrap_or_else(Instant::now) + LOOKUP_TIMEOUT;
        match timeout_at(until, addresses.lookup.join_next()).await {
            Ok(Some(Ok(Lookup::Answer(answer)))) => {
                let asked = addresses.asked.get();
                addresses.slow = asked.is_some_and(|asked| asked.elapsed() > SLOW_LOOKUP);
                match answer {
                    Ok(found) => addresses.known = found,
                    Err(error) => {
                        log::debug!("The lookup of {host} failed: {error}");
                    }
                }
                return true;
            }
            Ok(Some(Ok(Lookup::NotAsked(error)))) => {
                log::debug!("The lookup of {host} was not started: {error}");
            }
            Ok(Some(Err(error))) => {
                log::warn!("The lookup of {host} ended without a result: {error}")
            }
            Ok(None) => {}
            Err(_) if addresses.asked.get().is_some() => {
                addresses.slow = true;
                log::debug!("The lookup of {host} has no answer within {LOOKUP_TIMEOUT:?}");
                return true;
            }
            Err(_) => log::debug!("The lookup of {host} waits for other lookups"),
        }
        !addresses.known.is_empty()
    }

    async fn accepts(&self, host: &str, addresses: &mut Addresses) -> bool {
        let permits = match addresses.silent {
            true => &self.silent_connections,
            false => &self.connections,
        };
        let known = &addresses.known;
        let sockets = u32::try_from(known.len()).unwrap_or(PROBES_AT_ONCE);
        let Ok(_permits) = permits.acquire_many(sockets).await else {
            return false;
        };
        let connected = timeout(PROBE_TIMEOUT, connect(known)).await;
        addresses.silent = connected.is_err();
        match connected {
            Ok(Ok(())) => true,
            Ok(Err(error)) => {
                log::debug!("{host} {known:?} does not accept a connection: {error}");
                false
            }
            Err(_) => {
                log::debug!(
                    "{host} {known:?} does not accept a connection within {PROBE_TIMEOUT:?}"
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
            let is_first = self.view.borrow().is_none();
            tokio::select! {
                () = self.changed.notified() => {}
                () = tokio::time::sleep_until(self.first_view), if is_first => {}
            }
            self.publish();
            tokio::time::sleep(PAUSE_BETWEEN_VIEWS).await;
        }
    }

    /// Publishes a view of the results if they changed. A worker that has not been probed counts as
    /// live, like all workers without probes.
    fn publish(&self) {
        let results = self.results.lock().clone();
        let waits = self.view.borrow().is_none() && Instant::now() < self.first_view;
        if waits && results.contains(&Health::Unknown) {
            return;
        }
        let all: Vec<Member> = self
            .workers
            .iter()
            .zip(results)
            .map(|(worker, health)| Member {
                worker: worker.clone(),
                state: match health {
                    Health::Unknown | Health::Live { .. } => WorkerState::Live,
                    Health::Lost => WorkerState::Lost,
                },
            })
            .collect();
        let before = self.view.borrow().clone();
        let shown = before.as_ref().map(|view| view.members(MemberFilter::All));
        if shown.is_some_and(|shown| shown.iter().eq(&all)) {
            return;
        }
        let is_live = |member: &&Member| member.state == WorkerState::Live;
        let live: Vec<Member> = all.iter().filter(is_live).cloned().collect();
        let version = before.map_or(0, |view| view.version()) + 1;
        self.view.send_replace(Some(Arc::new(ClusterView {
            version,
            chunks: Chunks::new(version, &all, &live),
            ..ClusterView::default()
        })));
    }
}

impl Addresses {
    fn unknown() -> Self {
        Addresses {
            known: Vec::new(),
            lookup: JoinSet::new(),
            asked: Arc::default(),
            slow: false,
            silent: false,
        }
    }

    fn start_lookup(&mut self, host: &str, port: u16, resolve: Resolve) {
        let host = host.to_owned();
        let slow = self.slow;
        self.asked = Arc::default();
        let asked = self.asked.clone();
        self.lookup.spawn(async move {
            let permits = if slow { &SLOW_LOOKUPS } else { &LOOKUPS };
            // The thread holds the permit, because it continues after its caller has given up.
            let permit = Arc::new(Mutex::new(permits.acquire().await.ok()));
            let held = Arc::downgrade(&permit);
            let _ = asked.set(Instant::now());
            let lookup = aside::start("looking up a name", move || {
                let _permit = permit;
                resolve(&host, port)
            });
            let answer = match lookup {
                Ok(lookup) => lookup.end(),
                Err(error) => return Lookup::NotAsked(error),
            };
            let make_room = async {
                if !slow {
                    tokio::time::sleep(SLOW_LOOKUP).await;
                    let permit = SLOW_LOOKUPS.acquire().await.ok();
                    if let Some(held) = held.upgrade() {
                        *held.lock() = permit;
                    }
                }
                pending::<Infallible>().await
            };
            tokio::select! {
                answer = answer => Lookup::Answer(answer.map_err(io::Error::other).flatten()),
                never = make_room => match never {},
            }
        });
    }
}

/// Connects to all addresses at once, because an address that does not answer must not use up the
/// time of the others.
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
        // A listener with a full queue does not answer.
        let mut queue = Vec::new();
        let limit = Duration::from_millis(500);
        while let Ok(queued) = timeout(limit, TcpStream::connect(silent)).await {
            queue.push(queued.unwrap());
        }
        let good = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let good = good.local_addr().unwrap();
        let shared = Shared::new(Vec::new(), ask_system);
        let mut addresses = Addresses::unknown();
        for (known, accepted) in [
            (vec![silent], false),
            (vec![silent, good], true),
            (vec![], false),
        ] {
            addresses.known = known;
            assert_eq!(shared.accepts("h", &mut addresses).await, accepted);
        }
    }

    /// Lookups of these names do not end while the lock is held.
    static NAME_SERVICE: std::sync::Mutex<()> = std::sync::Mutex::new(());

    fn answer_good_names(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        match host.strip_prefix("good-") {
            Some(address) => ask_system(address, port),
            None => {
                drop(NAME_SERVICE.lock());
                Err(io::Error::other("dead"))
            }
        }
    }

    #[tokio::test]
    #[expect(
        clippy::await_holding_lock,
        reason = "the name service hangs meanwhile"
    )]
    async fn names_without_an_answer_hold_up_no_good_host() {
        let good = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = good.local_addr().unwrap().port();
        let (before, after) = (0..10, 40..50);
        let worker = |place| {
            let host = match before.contains(&place) || after.contains(&place) {
                true => "good-127.0.0.1".to_owned(),
                false => format!("dead-{place}"),
            };
            Arc::new(Worker {
                identity: WorkerIdentity::V0(place),
                address: WorkerNetAddress {
                    rpc_port: port.into(),
                    ..WorkerNetAddress::new(host)
                },
            })
        };
        let workers: Vec<_> = (0..50).map(worker).collect();
        let hanging = NAME_SERVICE.lock().unwrap();
        let began = Instant::now();
        let interval = Duration::from_secs(60);
        let probes = Probes::start_with(workers, interval, answer_good_names);
        let is_live = |place: i64| probes.shared.results.lock()[place as usize].is_live();
        while !(before.clone().all(is_live) && after.clone().all(is_live)) {
            assert!(began.elapsed() < interval, "good hosts wait for dead ones");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        // No good host is lost in the first view, whatever is not known yet.
        let mut views = probes.view();
        let first = views
            .wait_for(Option::is_some)
            .await
            .unwrap()
            .clone()
            .unwrap();
        assert_eq!(first.members(MemberFilter::All).len(), 50);
        assert!(first.members(MemberFilter::Live).len() >= 20);
        for place in before.chain(after) {
            assert!(first.is_live(&WorkerIdentity::V0(place)), "{place}");
        }
        drop(hanging);
    }

    #[tokio::test(start_paused = true)]
    async fn changes_at_the_same_time_are_one_view() {
        let workers = ["h1", "h2", "h3"].map(|host| {
            Arc::new(Worker {
                identity: WorkerIdentity::of_static_host(host),
                address: WorkerNetAddress::new(host),
            })
        });
        let shared = Arc::new(Shared::new(workers.to_vec(), ask_system));
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
