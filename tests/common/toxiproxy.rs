//! A network that fails as it is told: toxiproxy between the library and etcd.

use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{Etcd, free_ports, spawn};

const START_DEADLINE: Duration = Duration::from_secs(60);

/// One toxiproxy server; ends with its owner.
pub struct Toxiproxy {
    child: Child,
    api: String,
}

/// Which way through a proxy.
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
        let port = free_ports(1)[0];
        let mut command = Command::new(&binary);
        command
            .args(["-host", "127.0.0.1", "-port", &port.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let child = spawn(command).unwrap_or_else(|error| {
            panic!("no toxiproxy ({binary:?}: {error}): run `make tools`, or set $AXM_TOXIPROXY")
        });
        let start = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(
                start.elapsed() < START_DEADLINE,
                "toxiproxy does not answer"
            );
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Toxiproxy {
            child,
            api: format!("http://127.0.0.1:{port}"),
        }
    }

    /// A way to this server that works for now.
    pub fn to(&self, etcd: &Etcd) -> Proxy {
        self.to_port(etcd.port())
    }

    /// A way to this port that works for now.
    pub fn to_port(&self, upstream: u16) -> Proxy {
        self.between(&format!("127.0.0.1:{}", free_ports(1)[0]), upstream)
    }

    /// The same, from this address.
    pub fn between(&self, listen: &str, upstream: u16) -> Proxy {
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
        send(minreq::post(format!("{}/proxies", self.api)), &settings);
        proxy
    }
}

impl Drop for Toxiproxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// One port that leads to one etcd server, and what is wrong with the way.
pub struct Proxy {
    url: String,
    address: String,
}

impl Proxy {
    /// `http://127.0.0.1:<port>`.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Adds half of this to each way.
    pub fn delay(&self, round_trip: Duration) {
        let attributes = json!({ "latency": (round_trip / 2).as_millis() as u64 });
        for way in Way::BOTH {
            self.harm(way, "latency", &attributes);
        }
    }

    /// Connections stay open, new ones are accepted, and nothing comes through this way.
    pub fn stall(&self, way: Way) {
        self.harm(way, "timeout", &json!({ "timeout": 0 }));
    }

    /// Lets this many kilobytes through per second.
    pub fn throttle(&self, way: Way, kilobytes_per_second: u64) {
        self.harm(way, "bandwidth", &json!({ "rate": kilobytes_per_second }));
    }

    /// Resets every connection as soon as something comes through it.
    pub fn reset_connections(&self) {
        for way in Way::BOTH {
            self.harm(way, "reset_peer", &json!({ "timeout": 0 }));
        }
    }

    /// Ends all connections; new ones are refused.
    pub fn cut(&self) {
        send(minreq::post(&self.url), &json!({ "enabled": false }));
    }

    /// Ends whatever is wrong. Connections that were stalled are closed.
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
    let response = request
        .with_timeout(10)
        .with_json(body)
        .and_then(minreq::Request::send)
        .expect("toxiproxy answers");
    let text = response.as_str().unwrap_or_default();
    assert!(
        (200..300).contains(&response.status_code),
        "toxiproxy refuses {body}: {text}"
    );
    response.json().unwrap_or_default()
}
