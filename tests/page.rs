//! The page of `serve` in a real Chromium: it shows workers and their changes, and an etcd that
//! goes away and returns.

mod common;

use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use alluxio_membership::record;
use alluxio_membership::worker::{Worker, WorkerIdentity, WorkerNetAddress};
use common::serve::Serve;
use common::{Etcd, EtcdVersion, eventually};
use fantoccini::wd::Capabilities;
use fantoccini::{Client, ClientBuilder, Locator};
use hyper_util::client::legacy::connect::HttpConnector;
use serde_json::{Value, json};
use tempfile::TempDir;

const LIMIT: Duration = Duration::from_secs(60);
const MANY: u64 = 10_000;

/// A browser that ends with the test.
struct Browser {
    driver: Child,
    client: Client,
    _folder: TempDir,
}

impl Browser {
    async fn start(width: u32, height: u32, dark: bool) -> Browser {
        let folder = tempfile::tempdir().expect("a folder");
        let port = common::free_ports(1)[0];
        let driver = Command::new("chromedriver")
            .arg(format!("--port={port}"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .expect("chromedriver, of Debian's package chromium-driver");
        let mut arguments = vec![
            "--headless".to_owned(),
            "--no-sandbox".to_owned(),
            "--disable-gpu".to_owned(),
            "--disable-dev-shm-usage".to_owned(),
            "--no-first-run".to_owned(),
            "--disable-background-networking".to_owned(),
            "--disable-component-update".to_owned(),
            "--disable-sync".to_owned(),
            "--hide-scrollbars".to_owned(),
            format!("--window-size={width},{height}"),
            format!("--user-data-dir={}", folder.path().display()),
        ];
        if dark {
            arguments.push("--force-dark-mode".to_owned());
            arguments.push("--blink-settings=preferredColorScheme=0".to_owned());
        }
        let mut capabilities = Capabilities::new();
        capabilities.insert(
            "goog:chromeOptions".to_owned(),
            json!({
                "args": arguments,
                "mobileEmulation": (width < 500).then(|| json!({
                    "deviceMetrics": {"width": width, "height": height, "pixelRatio": 1.0},
                })),
            }),
        );
        if width >= 500 {
            let options = capabilities.get_mut("goog:chromeOptions");
            options
                .and_then(Value::as_object_mut)
                .map(|it| it.remove("mobileEmulation"));
        }
        capabilities.insert("goog:loggingPrefs".to_owned(), json!({"browser": "ALL"}));
        let url = format!("http://127.0.0.1:{port}");
        let builder = ClientBuilder::new(HttpConnector::new());
        let client = std::cell::RefCell::new(None);
        eventually("a browser", LIMIT, async || {
            let mut builder = builder.clone();
            builder.capabilities(capabilities.clone());
            let connected = builder.connect(&url).await.ok();
            let is_connected = connected.is_some();
            client.replace(connected);
            is_connected
        })
        .await;
        Browser {
            driver,
            client: client.take().expect("a browser"),
            _folder: folder,
        }
    }

    async fn text(&self, selector: &str) -> String {
        let element = self.client.find(Locator::Css(selector)).await;
        element.expect(selector).text().await.expect(selector)
    }

    async fn script(&self, script: &str) -> Value {
        self.client.execute(script, Vec::new()).await.expect(script)
    }

    async fn shows(&self, selector: &str, text: &str) {
        eventually(&format!("{selector} shows {text}"), LIMIT, async || {
            self.text(selector).await.contains(text)
        })
        .await;
    }

    /// Stores a picture in the folder that `AXM_SCREENSHOTS` names.
    async fn picture(&self, name: &str) {
        if let Some(folder) = std::env::var_os("AXM_SCREENSHOTS") {
            let picture = self.client.screenshot().await.expect("a picture");
            let file = std::path::Path::new(&folder).join(format!("{name}.png"));
            std::fs::write(file, picture).expect("a file");
        }
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // The browser belongs to the process group of the driver.
        unsafe { libc::kill(-(self.driver.id() as libc::pid_t), libc::SIGKILL) };
        let _ = self.driver.wait();
    }
}

fn worker(number: u64, host: &str) -> Worker {
    Worker {
        identity: WorkerIdentity::parse(&format!("worker-00000000-0000-4000-8000-{number:012}"))
            .expect("an identity"),
        address: WorkerNetAddress {
            rpc_port: 29999,
            data_port: 29997,
            web_port: 30000,
            ..WorkerNetAddress::new(host)
        },
    }
}

async fn put(etcd: &Etcd, worker: &Worker, live: bool) {
    let value = record::encode(worker);
    let identity = worker.identity;
    if live {
        etcd.put(&format!("/ServiceDiscovery/c/{identity}"), value.clone())
            .await;
    }
    etcd.put(&format!("/DHT/c/AUTHORIZED/{identity}"), value)
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_page_shows_no_state_where_none_is_known() {
    let folder = tempfile::tempdir().expect("a folder");
    let hosts = folder.path().join("workers");
    std::fs::write(&hosts, "first\nsecond\n").expect("the file");
    let serve = Serve::start_static(&hosts);
    let browser = Browser::start(1280, 1000, false).await;
    let page = browser.client.goto(&serve.url("/")).await;
    page.expect("the page");
    browser.shows("#n-all", "2").await;
    browser.shows("#rows .worker td", "unknown").await;
    browser.shows("#n-live", "–").await;
    browser.shows("#n-lost", "–").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_page_shows_what_happens_as_it_happens() {
    let etcd = Etcd::start(EtcdVersion::V3_6).await;
    for number in 1..=6 {
        put(
            &etcd,
            &worker(number, &format!("host{number}.example")),
            number != 4,
        )
        .await;
    }
    let serve = Serve::start(&etcd.endpoint());
    let browser = Browser::start(1280, 1000, false).await;
    browser
        .client
        .goto(&serve.url("/"))
        .await
        .expect("the page");
    browser.shows("#n-all", "6").await;
    browser.shows("#n-live", "5").await;
    browser.shows("#n-lost", "1").await;
    browser.shows("#cluster", "c").await;
    browser.shows("#age", "As of").await;
    // No worker has changed since the server started.
    browser.shows("#rows .worker .since", "> ").await;

    put(&etcd, &worker(7, "host7.example"), true).await;
    browser.shows("#n-all", "7").await;
    browser.shows("#changes li:first-child", "added").await;
    let identity = worker(1, "").identity;
    etcd.delete(&format!("/ServiceDiscovery/c/{identity}"))
        .await;
    browser.shows("#n-lost", "2").await;
    browser.shows("#changes li:first-child", "lost").await;
    browser.picture("serve").await;

    let hostile = "<img src=x onerror=document.title='broken'>\u{202e}<script>alert(1)</script>";
    put(&etcd, &worker(8, hostile), true).await;
    browser.shows("#n-all", "8").await;
    browser.shows("#rows", "<img src=x onerror").await;
    browser
        .shows("#changes li:first-child bdi", "alert(1)")
        .await;
    let elements = "return document.querySelectorAll('#rows img, #rows script').length";
    assert_eq!(browser.script(elements).await, 0);
    let title = browser.script("return document.title").await;
    assert_eq!(title, "c: Alluxio workers", "no record runs a script");

    // Search, filter, sort, keyboard.
    let search = browser
        .client
        .find(Locator::Css("#search"))
        .await
        .expect("a field");
    search.send_keys("host3").await.expect("keys");
    browser.shows("#matches", "1 shown").await;
    search.clear().await.expect("no keys");
    browser
        .script("document.querySelector('#search').dispatchEvent(new Event('input'))")
        .await;
    let lost = browser
        .client
        .find(Locator::Css("input[value=OFFLINE]"))
        .await
        .expect("a button");
    lost.click().await.expect("a click");
    browser.shows("#matches", "2 shown").await;
    let all = browser
        .client
        .find(Locator::Css("input[value=all]"))
        .await
        .expect("a button");
    all.click().await.expect("a click");
    let head = browser
        .client
        .find(Locator::Css("[data-key=id]"))
        .await
        .expect("a head");
    head.click().await.expect("a click");
    eventually("sorted by identity", LIMIT, async || {
        browser.text("#rows tr.worker:first-child .id").await == identity.to_string()
    })
    .await;
    let table = browser
        .client
        .find(Locator::Css("#scroll"))
        .await
        .expect("a table");
    table
        .send_keys("\u{e015}\u{e015}\u{e007}")
        .await
        .expect("keys");
    browser.shows("#details", "host2.example").await;
    browser
        .shows("#d-etcd", "none: the worker never becomes lost")
        .await;
    // The dialog follows the lease while it is open.
    let lease = etcd.grant_lease(600).await;
    let second = worker(2, "host2.example");
    let live_key = format!("/ServiceDiscovery/c/{}", second.identity);
    etcd.put_on_lease(&live_key, record::encode(&second), lease)
        .await;
    browser.shows("#d-etcd", "of 600 s left").await;
    browser.shows("#d-etcd", &format!("id {lease:x}")).await;
    browser.shows("#d-etcd", "created at revision").await;
    browser.picture("page-details").await;
    browser
        .script("document.querySelector('#details').close()")
        .await;

    // etcd goes away and returns.
    etcd.pause();
    browser
        .script("window.before = document.querySelector('#age').className")
        .await;
    eventually("it says that the list is old", LIMIT, async || {
        browser
            .script("return document.querySelector('#age').className")
            .await
            != ""
    })
    .await;
    browser.picture("page-old").await;
    etcd.resume();
    eventually("it is up to date again", LIMIT, async || {
        browser
            .script("return document.querySelector('#age').className")
            .await
            == ""
    })
    .await;

    // The server goes away.
    serve.terminate();
    browser.shows("#age", "No connection to this server").await;
    let errors = browser
        .script(
            "return performance.getEntriesByType('resource').map(it => it.name).filter(it => \
                 !it.startsWith(location.origin))",
        )
        .await;
    assert_eq!(errors, json!([]), "the page asks no other server");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_workers_scroll_and_small_screens_fit() {
    let etcd = Etcd::start(EtcdVersion::V3_6).await;
    let client = etcd.client().await;
    let numbers: Vec<u64> = (1..=MANY).collect();
    for some in numbers.chunks(50) {
        let puts = some.iter().flat_map(|number| {
            let worker = worker(*number, &format!("host{number:05}"));
            let value = record::encode(&worker);
            ["/DHT/c/AUTHORIZED", "/ServiceDiscovery/c"].map(|prefix| {
                let key = format!("{prefix}/{}", worker.identity);
                etcd_client::TxnOp::put(key, value.clone(), None)
            })
        });
        let puts = etcd_client::Txn::new().and_then(puts.collect::<Vec<_>>());
        client.kv_client().txn(puts).await.expect("workers");
    }
    let serve = Serve::start(&etcd.endpoint());
    serve.ready();
    let browser = Browser::start(360, 740, true).await;
    browser
        .client
        .goto(&serve.url("/"))
        .await
        .expect("the page");
    browser.shows("#n-all", &MANY.to_string()).await;
    let width = browser
        .script("return document.documentElement.scrollWidth")
        .await;
    assert!(width.as_u64().is_some_and(|width| width <= 360), "{width}");
    let rows = browser
        .script("return document.querySelectorAll('tr.worker').length")
        .await;
    assert!(
        rows.as_u64().is_some_and(|rows| (5..100).contains(&rows)),
        "{rows}"
    );
    browser.picture("page-dark-small").await;
    browser
        .script("const box = document.querySelector('#scroll'); box.scrollTop = box.scrollHeight")
        .await;
    browser.shows("#rows", &format!("host{MANY:05}")).await;
    serve.terminate();
}
