//! A network that fails on request: toxiproxy between the library and etcd.

use std::fs;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{Etcd, free_ports, spawn};

const START_DEADLINE: Duration = Duration::from_secs(60);

/// One toxiproxy server. It ends when this is dropped.
pub struct Toxiproxy {
    child: Child,
    api: String,
}

/// The direction through a proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// From the library to etcd.
    ToEtcd,
    /// From etcd to the library.
    FromEtcd,
}

impl Way {
    pub const BOTH: [Way; 2] = [Way::ToEtcd, Way::FromEtcd];

    fn stream(self) -> &'static str {
        match self {
            Way::ToEtcd => "upstream",
            Way::FromEtcd => "downstream",
        }
    }
}

impl Toxiproxy {
    /// Starts the server and waits until it answers.
    pub async fn start() -> Toxiproxy {
        let binary = std::env::var_os("AXM_TOXIPROXY")
            .unwrap_or_else(|| concat!(env!("CARGO_MANIFEST_DIR"), "/.tools/bin/toxiproxy").into());
        let start = Instant::now();
        loop {
            let port = free_ports(1)[0];
            let mut command = Command::new(&binary);
            command
                .args(["-host", "127.0.0.1", "-port", &port.to_string()])
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null());
            let child = spawn(command).unwrap_or_else(|error| {
                panic!(
                    "no toxiproxy ({binary:?}: {error}): run `make tools`, or set $AXM_TOXIPROXY"
                )
            });
            let mut toxiproxy = Toxiproxy {
                child,
                api: format!("http://127.0.0.1:{port}"),
            };
            // Another program may have taken the port meanwhile, and would answer instead.
            while toxiproxy.child.try_wait().expect("wait").is_none() {
                if listens(toxiproxy.child.id(), port) {
                    return toxiproxy;
                }
                assert!(
                    start.elapsed() < START_DEADLINE,
                    "toxiproxy does not answer"
                );
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            assert!(start.elapsed() < START_DEADLINE, "toxiproxy ends");
        }
    }

    /// Starts a proxy to this server, which works at first.
    pub fn to(&self, etcd: &Etcd) -> Proxy {
        self.to_port(etcd.port())
    }

    /// Starts a proxy to this port, which works at first.
    pub fn to_port(&self, upstream: u16) -> Proxy {
        for _ in 0..100 {
            let listen = format!("127.0.0.1:{}", free_ports(1)[0]);
            match self.try_between(&listen, upstream) {
                // Another process has taken the port.
                Err(text) if text.contains("address already in use") => {}
                proxy => return proxy.unwrap_or_else(|text| panic!("toxiproxy refuses: {text}")),
            }
        }
        panic!("no free port for a proxy");
    }

    /// Starts a proxy from this address to this port.
    pub fn between(&self, listen: &str, upstream: u16) -> Proxy {
        self.try_between(listen, upstream)
            .unwrap_or_else(|text| panic!("toxiproxy refuses {listen}: {text}"))
    }

    fn try_between(&self, listen: &str, upstream: u16) -> Result<Proxy, String> {
        let proxy = Proxy {
            url: format!("{}/proxies/{listen}", self.api),
            address: listen.to_owned(),
        };
        let settings = json!({
            "name": listen,
            "listen": listen,
            "upstream": format!("127.0.0.1:{upstream}"),
            "enabled": true,
        });
        try_send(minreq::post(format!("{}/proxies", self.api)), &settings)?;
        Ok(proxy)
    }
}

impl Drop for Toxiproxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// One port that leads to one etcd server, with the faults of the network.
pub struct Proxy {
    url: String,
    address: String,
}

impl Proxy {
    /// `http://127.0.0.1:<port>`.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Adds half of this round trip to each direction.
    pub fn delay(&self, round_trip: Duration) {
        let attributes = json!({ "latency": (round_trip / 2).as_millis() as u64 });
        for way in Way::BOTH {
            self.harm(way, "latency", &attributes);
        }
    }

    /// Stalls a direction: connections stay open, new ones are accepted, but nothing passes.
    pub fn stall(&self, way: Way) {
        self.harm(way, "timeout", &json!({ "timeout": 0 }));
    }

    /// Lets this many kilobytes through per second.
    pub fn throttle(&self, way: Way, kilobytes_per_second: u64) {
        self.harm(way, "bandwidth", &json!({ "rate": kilobytes_per_second }));
    }

    /// Resets every connection as soon as data passes.
    pub fn reset_connections(&self) {
        for way in Way::BOTH {
            self.harm(way, "reset_peer", &json!({ "timeout": 0 }));
        }
    }

    /// Ends all connections, and refuses new ones.
    pub fn cut(&self) {
        send(minreq::post(&self.url), &json!({ "enabled": false }));
    }

    /// Ends all faults. Stalled connections are closed.
    pub fn heal(&self) {
        let proxy = send(minreq::post(&self.url), &json!({ "enabled": true }));
        let toxics = proxy["toxics"].as_array().cloned().unwrap_or_default();
        for toxic in toxics {
            let name = toxic["name"].as_str().expect("toxics have names");
            let removed = minreq::delete(format!("{}/toxics/{name}", self.url)).send();
            let status = removed.expect("toxiproxy answers").status_code;
            assert_eq!(status, 204, "remove {name}");
        }
    }

    fn harm(&self, way: Way, kind: &str, attributes: &Value) {
        let toxic = json!({
            "name": format!("{kind}_{}", way.stream()),
            "type": kind,
            "stream": way.stream(),
            "attributes": attributes,
        });
        send(minreq::post(format!("{}/toxics", self.url)), &toxic);
    }
}

fn send(request: minreq::Request, body: &Value) -> Value {
    try_send(request, body).unwrap_or_else(|text| panic!("toxiproxy refuses {body}: {text}"))
}

fn try_send(request: minreq::Request, body: &Value) -> Result<Value, String> {
    let response = request
        .with_timeout(10)
        .with_json(body)
        .and_then(minreq::Request::send)
        .expect("toxiproxy answers");
    if (200..300).contains(&response.status_code) {
        Ok(response.json().unwrap_or_default())
    } else {
        Err(response.as_str().unwrap_or_default().to_owned())
    }
}

/// Whether this process, and no other, listens on the port of 127.0.0.1.
fn listens(process: u32, port: u16) -> bool {
    let address = format!("0100007F:{port:04X}");
    let table = fs::read_to_string("/proc/net/tcp").expect("read the connections");
    let socket = table.lines().find_map(|row| {
        let row: Vec<&str> = row.split_whitespace().collect();
        let is_it = row.get(1) == Some(&address.as_str()) && row.get(3) == Some(&"0A");
        is_it.then(|| format!("socket:[{}]", row[9]))
    });
    let Some(socket) = socket else { return false };
    let files = fs::read_dir(format!("/proc/{process}/fd"));
    files.is_ok_and(|files| {
        files
            .filter_map(|file| fs::read_link(file.ok()?.path()).ok())
            .any(|link| link.as_os_str() == socket.as_str())
    })
}
