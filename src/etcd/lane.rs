//! One HTTP/2 connection to an endpoint. It is opened when needed, replaced when it ends, and
//! closed when unused.

use std::io;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use etcd_client::{Client, ConnectOptions, GetOptions};
use http::header::USER_AGENT;
use http::{HeaderValue, Request, Response, Uri};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;
use tower::util::BoxCloneSyncService;

use super::cluster_id::{ClusterId, in_message};
use super::login::Login;
use super::transport::Transport;
use crate::log;

/// The time limit for connecting, with the TLS handshake. Calls do not wait that long; a later call
/// uses the finished connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// HTTP/2 pings notice a peer that disappeared without closing the connection. etcd closes
/// connections that ping more often than every 5 s.
const PING_INTERVAL: Duration = Duration::from_secs(10);
/// The answer to a ping may wait behind a listing on a slow line.
const PING_TIMEOUT: Duration = Duration::from_secs(10);
/// A connection that was unused for this long, or up to twice as long, is closed.
const IDLE: Duration = Duration::from_secs(15);

type TonicBody = tonic::body::Body;
type Sender = SendRequest<TonicBody>;
/// The result of opening a connection; `None` while it is being opened.
type Opening = Option<Result<Sender, Arc<io::Error>>>;
type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// The endpoint of a connection, and the etcd that is expected there.
pub(super) struct Way {
    /// The scheme, host and port of every request.
    pub(super) origin: Uri,
    pub(super) transport: Transport,
    pub(super) login: Arc<Login>,
    pub(super) cluster: Arc<ClusterId>,
    /// Identifies the endpoint.
    pub(super) endpoint: u64,
}

/// A connection and its replacements.
pub(super) struct Lane {
    way: Arc<Way>,
    writes: bool,
    open: Mutex<Option<Arc<Open>>>,
}

/// A connection that is being opened, or is open.
struct Open {
    way: Arc<Way>,
    sender: watch::Receiver<Opening>,
    use_count: Arc<Use>,
    /// Cancelled when the connection is given up.
    given_up: CancellationToken,
}

/// Counts the uses of a connection. Each request holds a use until its answer has ended.
#[derive(Default)]
struct Use {
    requests: AtomicU64,
    /// Whether an answer came from another etcd.
    is_elsewhere: AtomicBool,
}

impl Lane {
    /// `writes`: whether requests may write, so that each new connection first checks which cluster
    /// answers there. Other requests do not wait for this check, because every answer is checked.
    pub(super) fn new(way: Arc<Way>, writes: bool) -> Arc<Self> {
        Arc::new(Lane {
            way,
            writes,
            open: Mutex::default(),
        })
    }

    /// Returns a client on this connection and its replacements.
    pub(super) async fn client(
        self: &Arc<Self>,
        has_token: bool,
        needs_leader: bool,
    ) -> Result<Client, etcd_client::Error> {
        let lane = self.clone();
        let send = move |mut request: Request<TonicBody>| {
            let lane = lane.clone();
            async move {
                if has_token && let Some(token) = lane.way.login.token() {
                    request.headers_mut().insert("token", token);
                }
                lane.send(request).await
            }
        };
        client(send, needs_leader).await
    }

    /// Returns a token that is cancelled when the present connection is given up.
    pub(super) fn given_up(self: &Arc<Self>) -> CancellationToken {
        self.open().given_up.clone()
    }

    /// Makes the next request open another connection. Requests that wait on the present connection
    /// continue to wait.
    pub(super) fn give_up(&self) {
        if let Some(open) = self.open.lock().take() {
            open.given_up.cancel();
        }
    }

    fn open(self: &Arc<Self>) -> Arc<Open> {
        let mut open = self.open.lock();
        let usable = open.as_ref().filter(|open| open.is_usable());
        usable.cloned().unwrap_or_else(|| {
            let new = Open::start(self);
            if let Some(old) = open.replace(new.clone()) {
                old.given_up.cancel();
            }
            new
        })
    }

    /// Stops the use of this connection for new requests.
    fn forget(&self, sender: &watch::Sender<Opening>) {
        let mut open = self.open.lock();
        open.take_if(|open| open.sender.same_channel(&sender.subscribe()));
    }

    async fn send(
        self: &Arc<Self>,
        mut request: Request<TonicBody>,
    ) -> Result<Response<TonicBody>, BoxError> {
        for _ in 0..2 {
            let open = self.open();
            let sender = open.opened().await.map_err(|error| {
                let text = format!("transport error: {error}");
                BoxError::from(tonic::Status::unavailable(text))
            })?;
            match open.send(sender, request).await {
                Ok(answer) => return Ok(answer),
                // The connection was closed meanwhile, and the request was not sent.
                Err((_, Some(back))) => request = back,
                Err((error, None)) => return Err(error.into()),
            }
        }
        Err("the connection closed as soon as it was open".into())
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        self.give_up();
    }
}

impl Open {
    /// Opens a connection in the background, independently of its first user.
    fn start(lane: &Arc<Lane>) -> Arc<Self> {
        let (sender, receiver) = watch::channel(None);
        let open = Arc::new(Open {
            way: lane.way.clone(),
            sender: receiver,
            use_count: Arc::default(),
            given_up: CancellationToken::new(),
        });
        let (weak, way, use_count) = (
            Arc::downgrade(lane),
            lane.way.clone(),
            open.use_count.clone(),
        );
        let given_up = open.given_up.clone();
        tokio::spawn(carry(weak, way, lane.writes, use_count, given_up, sender));
        open
    }

    fn is_usable(&self) -> bool {
        !self.use_count.is_elsewhere.load(Ordering::Acquire)
            && match &*self.sender.borrow() {
                None => self.sender.has_changed().is_ok(),
                Some(Ok(sender)) => !sender.is_closed(),
                Some(Err(_)) => false,
            }
    }

    async fn opened(&self) -> Result<Sender, io::Error> {
        let mut sender = self.sender.clone();
        let opened = sender.wait_for(Option::is_some).await;
        match opened.as_deref() {
            Ok(Some(Ok(sender))) => Ok(sender.clone()),
            Ok(Some(Err(error))) => Err(io::Error::new(error.kind(), error.to_string())),
            Ok(None) | Err(_) => Err(io::Error::other("the connection was given up")),
        }
    }

    async fn send(
        &self,
        mut sender: Sender,
        request: Request<TonicBody>,
    ) -> Result<Response<TonicBody>, (hyper::Error, Option<Request<TonicBody>>)> {
        send(&self.way, &self.use_count, &mut sender, request).await
    }
}

/// Opens a connection and drives it until it ends or is unused.
async fn carry(
    lane: Weak<Lane>,
    way: Arc<Way>,
    writes: bool,
    use_count: Arc<Use>,
    given_up: CancellationToken,
    opened: watch::Sender<Opening>,
) {
    let connecting = async {
        let stream = way.transport.clone().connect().await?;
        let (sender, connection) = Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .keep_alive_interval(PING_INTERVAL)
            .keep_alive_timeout(PING_TIMEOUT)
            .handshake::<_, TonicBody>(stream)
            .await
            .map_err(io::Error::other)?;
        Ok::<_, io::Error>((sender, connection))
    };
    let connected = timeout(CONNECT_TIMEOUT, connecting);
    let connected = connected.await.unwrap_or_else(|_| {
        let text = format!("not connected within {} s", CONNECT_TIMEOUT.as_secs());
        Err(io::Error::new(io::ErrorKind::TimedOut, text))
    });
    let forget = || {
        if let Some(lane) = lane.upgrade() {
            lane.forget(&opened);
        }
    };
    let (sender, connection) = match connected {
        Ok(connected) => connected,
        Err(error) => {
            forget();
            opened.send_replace(Some(Err(Arc::new(error))));
            return;
        }
    };
    let mut connection = pin!(connection);
    // The cluster id is checked before the first write.
    let check = async {
        match writes {
            true => verify(&way, &use_count, sender.clone()).await,
            false => Ok(()),
        }
    };
    let verified = tokio::select! {
        verified = check => verified,
        ended = &mut connection => Err(match ended {
            Ok(()) => io::Error::from(io::ErrorKind::ConnectionAborted),
            Err(error) => io::Error::other(error),
        }),
    };
    if let Err(error) = verified {
        forget();
        opened.send_replace(Some(Err(Arc::new(error))));
        return;
    }
    opened.send_replace(Some(Ok(sender)));
    let mut ticks = interval(IDLE);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks.tick().await;
    let mut requests_before = None;
    loop {
        tokio::select! {
            ended = &mut connection => {
                if let Err(error) = ended {
                    log::debug!("The connection to {} ended: {error}", way.origin);
                }
                forget();
                return;
            }
            () = given_up.cancelled() => break,
            _ = ticks.tick() => {
                let requests = use_count.requests.load(Ordering::Relaxed);
                // The two counted uses are this task and the lane.
                let is_idle = Arc::strong_count(&use_count) <= 2;
                if is_idle && requests_before == Some(requests) {
                    break;
                }
                requests_before = is_idle.then_some(requests);
            }
        }
    }
    // Running requests finish, and then the connection ends.
    forget();
    drop(opened);
    let _ = connection.await;
}

/// Checks the cluster id on a new connection, once an id is known. Any other failure of this check
/// is ignored.
async fn verify(way: &Arc<Way>, use_count: &Arc<Use>, sender: Sender) -> io::Result<()> {
    if !way.cluster.is_known() {
        return Ok(());
    }
    let send = {
        let (way, use_count) = (way.clone(), use_count.clone());
        move |mut request: Request<TonicBody>| {
            let (way, use_count, mut sender) = (way.clone(), use_count.clone(), sender.clone());
            async move {
                if let Some(token) = way.login.token() {
                    request.headers_mut().insert("token", token);
                }
                let answer = send(&way, &use_count, &mut sender, request).await;
                answer.map_err(|(error, _)| BoxError::from(error))
            }
        }
    };
    let options = GetOptions::new().with_serializable().with_keys_only();
    let read = async { client(send, false).await?.get("/", Some(options)).await };
    let answer = timeout(CONNECT_TIMEOUT, read).await;
    match answer {
        Ok(Err(etcd_client::Error::GRpcStatus(status)))
            if use_count.is_elsewhere.load(Ordering::Acquire) =>
        {
            Err(io::Error::other(status.message().to_owned()))
        }
        Ok(_) => Ok(()),
        Err(_) => Err(io::ErrorKind::TimedOut.into()),
    }
}

async fn client<F, Fut>(send: F, needs_leader: bool) -> Result<Client, etcd_client::Error>
where
    F: Fn(Request<TonicBody>) -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = Result<Response<TonicBody>, BoxError>> + Send + 'static,
{
    let service = BoxCloneSyncService::new(tower::service_fn(send));
    // A member without a leader must answer with an error, not with silence.
    let options = ConnectOptions::new().with_require_leader(needs_leader);
    Client::from_channel(etcd_client::Channel::Custom(service), Some(options)).await
}

/// Sends a request. If no part of it was sent, the error contains the request.
async fn send(
    way: &Arc<Way>,
    use_count: &Arc<Use>,
    sender: &mut Sender,
    mut request: Request<TonicBody>,
) -> Result<Response<TonicBody>, (hyper::Error, Option<Request<TonicBody>>)> {
    let path = request.uri().path_and_query().cloned();
    let mut parts = way.origin.clone().into_parts();
    parts.path_and_query = path;
    if let Ok(uri) = Uri::from_parts(parts) {
        *request.uri_mut() = uri;
    }
    let agent = concat!(env!("CARGO_PKG_NAME"), "/", env!("CARGO_PKG_VERSION"));
    request
        .headers_mut()
        .insert(USER_AGENT, HeaderValue::from_static(agent));
    use_count.requests.fetch_add(1, Ordering::Relaxed);
    let use_count = use_count.clone();
    let answer = sender
        .try_send_request(request)
        .await
        .map_err(|mut error| {
            let request = error.take_message();
            (error.into_error(), request)
        })?;
    let answer = answer.map(|incoming| {
        TonicBody::new(Answer {
            incoming,
            way: way.clone(),
            use_count,
            is_checked: false,
        })
    });
    Ok(answer)
}

/// The body of an answer. Its first message has the cluster id.
struct Answer {
    incoming: Incoming,
    way: Arc<Way>,
    /// Keeps the connection in use until this is dropped.
    use_count: Arc<Use>,
    is_checked: bool,
}

impl Body for Answer {
    type Data = Bytes;
    type Error = tonic::Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, tonic::Status>>> {
        let frame = std::task::ready!(Pin::new(&mut self.incoming).poll_frame(cx));
        if !self.is_checked
            && let Some(Ok(frame)) = &frame
            && let Some(data) = frame.data_ref()
            && !data.is_empty()
        {
            self.is_checked = true;
            let way = &self.way;
            if let Some(id) = in_message(data)
                && let Err(other) = way.cluster.check(way.endpoint, id)
            {
                self.use_count.is_elsewhere.store(true, Ordering::Release);
                return Poll::Ready(Some(Err(tonic::Status::unavailable(format!(
                    "another etcd answers there: its cluster id is {:x} instead of {:x}",
                    other.found, other.expected
                )))));
            }
        }
        Poll::Ready(
            frame.map(|frame| frame.map_err(|error| tonic::Status::from_error(Box::new(error)))),
        )
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}
