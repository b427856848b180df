//! The connection to one endpoint: TCP, and TLS if enabled. It remembers problems of the
//! connection, which the errors of HTTP/2 do not contain.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use rustix::net::sockopt::{set_socket_keepalive, set_tcp_keepidle};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::client::TlsStream;

use super::name::Name;
use super::tls::{CertificateInfo, Tls, TlsSession};
use crate::config::names::ETCD_TLS_ENABLED;
use crate::log;

/// The time limit for connecting by TCP. The addresses of a name share this time equally. If the
/// first of two addresses is dead, the second one is tried while a request still waits.
const TCP_TIMEOUT: Duration = Duration::from_secs(3);
const SHORTEST_TCP_TIMEOUT: Duration = Duration::from_millis(200);
const TCP_KEEPALIVE: Duration = Duration::from_secs(30);

/// Opens the connections to one endpoint.
#[derive(Clone)]
pub(super) struct Transport {
    route: Arc<Route>,
    tls: Option<Arc<Tls>>,
    known: Arc<Mutex<Known>>,
}

/// The destination of the connections.
struct Route {
    name: Arc<Name>,
    /// The address. If it is not given, the first connection determines it.
    address: OnceLock<SocketAddr>,
}

impl Route {
    async fn connect(&self) -> io::Result<TcpStream> {
        if let Some(address) = self.address.get() {
            let tcp = connect(*address, TCP_TIMEOUT).await?;
            self.name.connected(address);
            return Ok(tcp);
        }
        let addresses = self.name.addresses().await?;
        let limit = TCP_TIMEOUT / u32::try_from(addresses.len()).unwrap_or(u32::MAX).max(1);
        let mut last = None;
        for address in addresses {
            match connect(address, limit.max(SHORTEST_TCP_TIMEOUT)).await {
                Ok(tcp) => {
                    self.name.connected(&address);
                    let _ = self.address.set(address);
                    return Ok(tcp);
                }
                Err(error) => last = Some(error),
            }
        }
        Err(last.unwrap_or_else(|| io::ErrorKind::NotFound.into()))
    }
}

async fn connect(address: SocketAddr, limit: Duration) -> io::Result<TcpStream> {
    let tcp = match timeout(limit, TcpStream::connect(address)).await {
        Ok(connected) => connected,
        Err(_) => {
            let text = format!("no connection within {} ms", limit.as_millis());
            Err(io::Error::new(io::ErrorKind::TimedOut, text))
        }
    };
    let tcp = tcp.map_err(|error| {
        io::Error::new(
            error.kind(),
            format!("tcp connect error: {address}: {error}"),
        )
    })?;
    tcp.set_nodelay(true)?;
    set_socket_keepalive(&tcp, true)?;
    set_tcp_keepidle(&tcp, TCP_KEEPALIVE)?;
    Ok(tcp)
}

/// What the last connection showed.
#[derive(Default)]
struct Known {
    trouble: Option<String>,
    session: Option<TlsSession>,
}

impl Transport {
    /// Connects to this address of the name. Without an address, it connects to the first address
    /// that accepts a connection.
    pub(super) fn new(name: Arc<Name>, address: Option<SocketAddr>, tls: Option<Arc<Tls>>) -> Self {
        Transport {
            route: Arc::new(Route {
                name,
                address: address.map(OnceLock::from).unwrap_or_default(),
            }),
            tls,
            known: Arc::default(),
        }
    }

    /// Returns a transport to the same endpoint, with its own memory.
    pub(super) fn apart(&self) -> Self {
        Transport {
            known: Arc::default(),
            ..self.clone()
        }
    }

    /// Whether TLS is enabled.
    pub(super) fn has_tls(&self) -> bool {
        self.tls.is_some()
    }

    /// Returns the known problem of the connection. A missing server at the port is no such
    /// problem.
    pub(super) fn trouble(&self) -> Option<String> {
        self.known.lock().trouble.clone()
    }

    /// Returns the TLS session of the last connection.
    pub(super) fn session(&self) -> Option<TlsSession> {
        self.known.lock().session.clone()
    }

    /// Returns the address of the endpoint, if it is known.
    pub(super) fn address(&self) -> Option<SocketAddr> {
        self.route.address.get().copied()
    }

    /// Sets the address of the endpoint, unless it already has one, and returns the address in use.
    pub(super) fn settle(&self, address: SocketAddr) -> SocketAddr {
        *self.route.address.get_or_init(|| address)
    }

    /// Connects if the address is not known, which determines the address. The caller limits the
    /// time.
    pub(super) async fn find_address(&self) {
        if self.address().is_none()
            && let Err(error) = self.route.connect().await
        {
            log::debug!(
                "Failed to find the address of {}: {error}",
                self.route.name.host()
            );
        }
    }

    /// Returns the authorities of the configured file that may have issued the endpoint's
    /// certificate.
    pub(super) fn authorities(&self) -> Vec<CertificateInfo> {
        let tls = self.tls.as_ref();
        tls.map_or_else(Vec::new, |tls| tls.authorities())
    }

    /// Connects. The caller limits the time.
    pub(super) async fn connect(self) -> io::Result<TokioIo<Stream>> {
        let host = self.route.name.host().to_owned();
        let tcp = match self.route.connect().await {
            Ok(tcp) => tcp,
            Err(error) => {
                self.set_trouble(None);
                return Err(error);
            }
        };
        let line = match &self.tls {
            None => {
                self.set_trouble(None);
                Line::Plain(tcp)
            }
            Some(tls) => {
                let before = self.trouble();
                // The end of an earlier handshake is a more precise reason.
                if before.is_none() {
                    self.set_trouble(Some("the TLS handshake does not finish".into()));
                }
                match tls.connect(tcp, &host).await {
                    Ok((stream, session)) => {
                        let mut known = self.known.lock();
                        known.session = Some(session);
                        // The problem remains until etcd sends something.
                        known.trouble = before;
                        drop(known);
                        Line::Tls(Box::new(stream))
                    }
                    Err(failed) => {
                        log::debug!("TLS handshake with {host}: {}", failed.error);
                        self.set_trouble(Some(failed.explanation));
                        return Err(failed.error);
                    }
                }
            }
        };
        Ok(TokioIo::new(Stream {
            line,
            transport: self,
            has_answered: false,
        }))
    }

    fn set_trouble(&self, trouble: Option<String>) {
        self.known.lock().trouble = trouble;
    }

    /// The connection ended before the first byte arrived.
    fn ended_early(&self, error: Option<&io::Error>) {
        let trouble = match &self.tls {
            Some(tls) => tls.explain_early_end(error, self.session().as_ref()),
            None => format!(
                "it closed the connection without an answer; if it speaks TLS, set \
                 {ETCD_TLS_ENABLED} to true"
            ),
        };
        self.set_trouble(Some(trouble));
    }
}

enum Line {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// An open connection. It inspects the first bytes, because a server only then shows whether it
/// accepts the client's certificate.
pub(super) struct Stream {
    line: Line,
    transport: Transport,
    has_answered: bool,
}

impl Stream {
    /// A server that refuses a client may close the connection before the client has written
    /// everything. The server's message can still be read.
    fn after_write<T>(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        written: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if let Poll::Ready(Err(_)) = &written
            && !self.has_answered
        {
            let mut answer = [0; 64];
            let mut answer = ReadBuf::new(&mut answer);
            if self.as_mut().poll_read(cx, &mut answer).is_pending() {
                self.transport.ended_early(None);
            }
        }
        written
    }
}

/// HTTP clients ask for the kind of the connection. This connection has nothing special.
impl Connection for Stream {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let filled = buf.filled().len();
        let read = ready!(match &mut self.line {
            Line::Plain(tcp) => Pin::new(tcp).poll_read(cx, buf),
            Line::Tls(tls) => Pin::new(tls).poll_read(cx, buf),
        });
        if !self.has_answered {
            match &read {
                Ok(()) if buf.filled().len() > filled => {
                    self.has_answered = true;
                    // An HTTP/2 server begins with a frame, and an HTTP/1 server with these words.
                    let is_http1 = buf.filled()[filled..].starts_with(b"HTTP/1");
                    self.transport.set_trouble(is_http1.then(|| {
                        "it answers in HTTP/1, not HTTP/2: it is not etcd, or it is a proxy \
                         without HTTP/2"
                            .to_owned()
                    }));
                }
                Ok(()) => self.transport.ended_early(None),
                Err(error) => self.transport.ended_early(Some(error)),
            }
        }
        Poll::Ready(read)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = match &mut self.line {
            Line::Plain(tcp) => Pin::new(tcp).poll_write(cx, buf),
            Line::Tls(tls) => Pin::new(tls).poll_write(cx, buf),
        };
        self.after_write(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = match &mut self.line {
            Line::Plain(tcp) => Pin::new(tcp).poll_write_vectored(cx, bufs),
            Line::Tls(tls) => Pin::new(tls).poll_write_vectored(cx, bufs),
        };
        self.after_write(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        match &self.line {
            Line::Plain(tcp) => tcp.is_write_vectored(),
            Line::Tls(tls) => tls.is_write_vectored(),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = match &mut self.line {
            Line::Plain(tcp) => Pin::new(tcp).poll_flush(cx),
            Line::Tls(tls) => Pin::new(tls).poll_flush(cx),
        };
        self.after_write(cx, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.line {
            Line::Plain(tcp) => Pin::new(tcp).poll_shutdown(cx),
            Line::Tls(tls) => Pin::new(tls).poll_shutdown(cx),
        }
    }
}
