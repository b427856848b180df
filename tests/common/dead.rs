//! Endpoints that look like etcd but cannot serve: connections that die silently, and servers that
//! answer nonsense.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;

/// A proxy to a server whose connections can die silently, like behind a firewall that forgot them:
/// they stay open, but deliver nothing more. New connections work.
pub struct DeadEnds {
    address: SocketAddr,
    /// How often the connections died.
    deaths: watch::Sender<u64>,
    /// Whether new connections are dead from the start.
    are_new_ones_dead: Arc<AtomicBool>,
    _tasks: JoinSet<()>,
}

impl DeadEnds {
    /// Starts a proxy to this port, which works at first.
    pub async fn to_port(upstream: u16) -> DeadEnds {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("listen");
        let address = listener.local_addr().expect("an address");
        let (deaths, death) = watch::channel(0);
        let are_new_ones_dead = Arc::new(AtomicBool::new(false));
        let is_dead = are_new_ones_dead.clone();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            let mut dead = Vec::new();
            while let Ok((client, _)) = listener.accept().await {
                if is_dead.load(Ordering::Relaxed) {
                    dead.push(client);
                } else {
                    connections.spawn(carry(client, upstream, death.clone()));
                }
            }
        });
        DeadEnds {
            address,
            deaths,
            are_new_ones_dead,
            _tasks: tasks,
        }
    }

    /// `http://127.0.0.1:<port>`.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Makes the open connections deliver nothing more.
    pub fn kill_connections(&self) {
        self.deaths.send_modify(|deaths| *deaths += 1);
    }

    /// Sets whether new connections are dead from the start.
    pub fn accept_dead(&self, are_dead: bool) {
        self.are_new_ones_dead.store(are_dead, Ordering::Relaxed);
    }
}

async fn carry(mut client: TcpStream, upstream: u16, mut death: watch::Receiver<u64>) {
    // Before it connects, because an earlier death does not concern this connection.
    death.borrow_and_update();
    let Ok(mut server) = TcpStream::connect(("127.0.0.1", upstream)).await else {
        return;
    };
    tokio::select! {
        _ = copy_bidirectional(&mut client, &mut server) => {}
        // Both connections stay open, and nothing reads from them.
        Ok(()) = death.changed() => std::future::pending().await,
    }
}

/// Servers that are not etcd. They end when this is dropped.
#[derive(Default)]
pub struct Strangers(JoinSet<()>);

impl Strangers {
    /// Answers everything with these bytes, and closes the connection or leaves it open. Returns
    /// its endpoint.
    pub async fn saying(&mut self, words: &'static [u8], closes: bool) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("listen");
        let address = listener.local_addr().expect("an address");
        self.0.spawn(async move {
            let mut open = JoinSet::new();
            while let Ok((mut client, _)) = listener.accept().await {
                open.spawn(async move {
                    let mut heard = [0; 4096];
                    while let Ok(1..) = client.read(&mut heard).await {
                        if client.write_all(words).await.is_err() || closes {
                            return;
                        }
                    }
                });
            }
        });
        format!("http://{address}")
    }
}

/// A port of 127.0.0.1 that refuses connections while this lives.
pub struct Refusing(TcpSocket);

impl Refusing {
    pub fn new() -> Refusing {
        let socket = TcpSocket::new_v4().expect("a socket");
        let any = "127.0.0.1:0".parse().expect("an address");
        socket.bind(any).expect("bind");
        Refusing(socket)
    }

    /// `http://127.0.0.1:<port>`.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.0.local_addr().expect("an address"))
    }
}

/// An address that silently drops connection requests: its backlog is full, and nothing accepts.
pub struct Swallowing {
    address: SocketAddr,
    _listener: TcpListener,
    _backlog: Vec<TcpStream>,
}

impl Swallowing {
    pub async fn at(address: &str) -> Swallowing {
        let socket = TcpSocket::new_v4().expect("a socket");
        let address = address.parse().expect("an address");
        socket.bind(address).expect("bind");
        let listener = socket.listen(1).expect("listen");
        let address = listener.local_addr().expect("an address");
        let mut backlog = Vec::new();
        while let Ok(Ok(stream)) =
            timeout(Duration::from_millis(300), TcpStream::connect(address)).await
        {
            backlog.push(stream);
            assert!(backlog.len() < 50, "the backlog does not fill");
        }
        Swallowing {
            address,
            _listener: listener,
            _backlog: backlog,
        }
    }

    /// `http://127.0.0.1:<port>`.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }
}
