//! The way to one endpoint: TCP, then TLS if it is switched on. Remembers what is wrong with it, which the errors of
//! HTTP/2 do not tell.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use http::Uri;
use hyper_util::client::legacy::connect::{Connected, Connection, HttpConnector};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use tower::{Service, ServiceExt};

use super::tls::{CertificateInfo, Tls, TlsSession};
use crate::config::names::ETCD_TLS_ENABLED;
use crate::log;

/// How long connecting by TCP may take. The addresses of a name have equal parts of it: where the first of two is dead,
/// the second is asked while a request still waits.
const TCP_TIMEOUT: Duration = Duration::from_secs(3);
const TCP_KEEPALIVE: Duration = Duration::from_secs(30);

/// Makes the connections to one endpoint.
#[derive(Clone)]
pub(super) struct Transport {
    tls: Option<Arc<Tls>>,
    known: Arc<Mutex<Known>>,
}

/// What the last connection told.
#[derive(Default)]
struct Known {
    trouble: Option<String>,
    session: Option<TlsSession>,
}

impl Transport {
    pub(super) fn new(tls: Option<Arc<Tls>>) -> Self {
        Transport {
            tls,
            known: Arc::default(),
        }
    }

    /// The same way, with a memory of its own.
    pub(super) fn apart(&self) -> Self {
        Transport::new(self.tls.clone())
    }

    /// Whether TLS is switched on.
    pub(super) fn has_tls(&self) -> bool {
        self.tls.is_some()
    }

    /// What is wrong with the way to the endpoint, if it is known; not that nobody listens there.
    pub(super) fn trouble(&self) -> Option<String> {
        self.known.lock().trouble.clone()
    }

    /// What was agreed on with the endpoint when it was last connected to.
    pub(super) fn session(&self) -> Option<TlsSession> {
        self.known.lock().session.clone()
    }

    /// The authorities of the configured file that the endpoint's certificate may come from.
    pub(super) fn authorities(&self) -> Vec<CertificateInfo> {
        let tls = self.tls.as_ref();
        tls.map_or_else(Vec::new, |tls| tls.authorities())
    }

    /// The caller limits the time.
    pub(super) async fn connect(self, uri: Uri) -> io::Result<TokioIo<Stream>> {
        let mut connector = HttpConnector::new();
        connector.enforce_http(false);
        connector.set_connect_timeout(Some(TCP_TIMEOUT));
        connector.set_nodelay(true);
        connector.set_keepalive(Some(TCP_KEEPALIVE));
        let host = uri.host().unwrap_or_default().to_owned();
        let tcp = connector.ready().await.map_err(io::Error::other)?.call(uri);
        let tcp = match tcp.await {
            Ok(tcp) => tcp.into_inner(),
            Err(error) => {
                self.set_trouble(None);
                return Err(io::Error::other(error));
            }
        };
        let line = match &self.tls {
            None => {
                self.set_trouble(None);
                Line::Plain(tcp)
            }
            Some(tls) => {
                let before = self.trouble();
                // What an earlier handshake ended with says more.
                if before.is_none() {
                    self.set_trouble(Some("the TLS handshake does not end".into()));
                }
                match tls.connect(tcp, &host).await {
                    Ok((stream, session)) => {
                        let mut known = self.known.lock();
                        known.session = Some(session);
                        // Not over before etcd says something.
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

    /// The connection ended before the first byte came.
    fn ended_early(&self, error: Option<&io::Error>) {
        let trouble = match &self.tls {
            Some(tls) => tls.explain_early_end(error, self.session().as_ref()),
            None => format!(
                "it closed the connection without an answer; if it speaks TLS, set {ETCD_TLS_ENABLED} to true"
            ),
        };
        self.set_trouble(Some(trouble));
    }
}

enum Line {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// An open connection. Looks at how it begins: a server tells only then whether it accepts the client's certificate.
pub(super) struct Stream {
    line: Line,
    transport: Transport,
    has_answered: bool,
}

impl Stream {
    /// A server that refuses a client may have closed the connection before the client has written everything. What it
    /// said is still to be read.
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

/// For HTTP clients, which want to know what kind of connection it is: nothing special.
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
                    self.transport.set_trouble(None);
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
