//! `nodes`: selections, formats on terminals and in pipes, and `--watch`.

use super::*;

/// Stores what a worker's registration stores, without a lease.
pub async fn register(etcd: &Etcd, id: i64, host: &str, is_live: bool) {
    let worker = Worker {
        identity: WorkerIdentity::V0(id),
        address: WorkerNetAddress {
            rpc_port: 29999,
            ..WorkerNetAddress::new(host)
        },
    };
    let record = record::encode(&worker);
    etcd.put(&format!("/DHT/c/AUTHORIZED/worker-{id}"), record.clone())
        .await;
    if is_live {
        etcd.put(&format!("/ServiceDiscovery/c/worker-{id}"), record)
            .await;
    }
}

on_every_etcd!(nodes_selects_sorts_and_formats);

async fn nodes_selects_sorts_and_formats(version: EtcdVersion) {
    let etcd = Etcd::start(version).await;
    register(&etcd, 1, "rack2-b", true).await;
    register(&etcd, 2, "Rack1-a", false).await;
    register(&etcd, 3, "rack1-c", true).await;
    let endpoint = etcd.endpoint();
    let nodes = |arguments: &[&str]| ok(on_etcd(&endpoint).arg("nodes").args(arguments));
    let names = |arguments: &[&str]| -> Vec<String> {
        let output = nodes(&[&["-o", "name"], arguments].concat());
        output.lines().map(str::to_owned).collect()
    };
    let (one, two, three) = ("worker-1", "worker-2", "worker-3");
    assert_eq!(names(&[]), [one, two, three]);
    assert_eq!(names(&["--state", "live"]), [one, three]);
    assert_eq!(names(&["--state", "offline"]), [two]);
    assert_eq!(names(&["--host", "rack1-*"]), [two, three]);
    assert_eq!(names(&["--host", "rack1-*", "--live"]), [three]);
    assert_eq!(names(&["--sort", "address"]), [two, three, one]);
    assert_eq!(names(&["--sort", "status"]), [two, one, three]);
    assert_eq!(names(&["--sort", "age"]), [three, one, two]);
    fails(
        on_etcd(&endpoint).args(["nodes", "--host", "["]),
        2,
        "--host",
    );

    let rows = nodes(&["--host", "rack1-*", "-o", "table"]);
    let expected = "worker-2\tRack1-a:29999\tOFFLINE\nworker-3\track1-c:29999\tONLINE\n";
    assert_eq!(rows, format!("{HEADER}{expected}"));
    assert_eq!(
        nodes(&["-o", "csv", "--host", "rack1-a"]),
        "id,status,host,rpcPort,dataPort,secureRpcPort,nettyDataPort,webPort,httpServerPort,\
         containerHost,domainSocketPath\nworker-2,OFFLINE,Rack1-a,29999,0,0,0,0,0,,\n"
    );
    let wide = nodes(&["-o", "csv", "--wide", "--live"]);
    let live_key = etcd
        .get("/ServiceDiscovery/c/worker-3")
        .await
        .expect("a key");
    let last = format!(",,,{}", live_key.create_revision());
    assert!(
        wide.lines().last().expect("a row").ends_with(&last),
        "{wide}"
    );

    let json: Value = serde_json::from_str(&nodes(&["-o", "json"])).expect("JSON");
    let yaml = nodes(&["-o", "yaml"]);
    for line in [
        "revision: 6",
        "leftOut: []",
        "host: Rack1-a",
        "rpcPort: 29999",
    ] {
        assert!(yaml.contains(line), "{line}: {yaml}");
    }
    assert_eq!(json["revision"], 6);
    assert_eq!(json["workers"], {
        let json: Value = serde_json::from_str(&nodes(&["--json"])).expect("JSON");
        json["workers"].clone()
    });
}

on_every_etcd!(nodes_of_a_revision_are_as_they_were);

async fn nodes_of_a_revision_are_as_they_were(version: EtcdVersion) {
    let etcd = Etcd::start(version).await;
    register(&etcd, 1, "h1", true).await;
    let before = etcd.revision().await;
    etcd.delete("/ServiceDiscovery/c/worker-1").await;
    register(&etcd, 2, "h2", true).await;
    let endpoint = etcd.endpoint();
    let at = |revision: i64| {
        let mut command = on_etcd(&endpoint);
        command.args(["nodes", "--revision", &revision.to_string()]);
        command
    };
    assert_eq!(
        ok(&mut at(before)),
        format!("{HEADER}worker-1\th1:29999\tONLINE\n")
    );
    assert_eq!(ok(&mut at(1)), HEADER);
    let json: Value = serde_json::from_str(&ok(at(before).arg("--json"))).expect("JSON");
    assert_eq!(
        (&json["revision"], &json["ageMs"]),
        (&before.into(), &Value::Null)
    );
    let newest = etcd.revision().await;
    let text = format!(
        "has not reached revision {}: its newest is {newest}",
        newest + 1
    );
    fails(&mut at(newest + 1), 1, &text);
    fails(&mut at(0), 1, "0 is no revision of etcd");
    etcd.compact(before + 1).await;
    let text = format!("etcd has compacted revision {before}");
    fails(&mut at(before), 1, &text);
    assert!(ok(&mut at(before + 1)).contains("worker-1\th1:29999\tOFFLINE"));
}

on_every_etcd!(terminals_get_aligned_columns_and_a_footer);

async fn terminals_get_aligned_columns_and_a_footer(version: EtcdVersion) {
    let etcd = Etcd::start(version).await;
    register(&etcd, 1, "h", true).await;
    register(&etcd, 22, "\u{6f22}\u{5b57}", false).await;
    let endpoint = etcd.endpoint();
    let plain = |arguments: &[&str]| {
        let line = line_of(on_etcd(&endpoint).args(arguments));
        let (status, output) = line_on_terminal(&format!("NO_COLOR=1 {line}"), "");
        assert_eq!(status, Some(0), "{output}");
        output.replace("\r\n", "\n")
    };
    let shown = plain(&["nodes"]);
    let table = "WorkerId   Address     Status   SinceRev\n\
                 worker-1   h:29999     ONLINE   3\n\
                 worker-22  \u{6f22}\u{5b57}:29999  OFFLINE  -\n\
                 1 live, 1 lost, at revision 4, ";
    assert!(shown.starts_with(table), "{shown}");
    let wide = plain(&["nodes", "--wide"]);
    let table = "WorkerId   Address     Status   Lease  SinceRev\n\
                 worker-1   h:29999     ONLINE   none   3\n";
    assert!(wide.starts_with(table), "no port but one: {wide}");
    let (_, data, footer) = run(on_etcd(&endpoint).args(["nodes", "--wide"]));
    assert_eq!(data.lines().count(), 3, "data alone: {data}");
    assert!(
        data.starts_with("WorkerId   Address     Status   Lease  Data  Netty"),
        "{data}"
    );
    assert!(
        footer.starts_with("1 live, 1 lost, at revision 4, "),
        "{footer}"
    );
}

/// Starts the tool on a separate terminal.
fn start_on_terminal(command: &Command) -> Running {
    // Without a shell in between, because a shell replaces the status of a signal.
    let line = format!("NO_COLOR=1 exec {}", line_of(command));
    // A job in the background of a script ignores the signal of Ctrl-C, and so would its children.
    let mut script = Command::new("env");
    script
        .args(["--default-signal=INT", "script"])
        .args(["--quiet", "--return", "--command", &line, "/dev/null"])
        .env("SHELL", "/bin/sh")
        .env("TERM", "xterm")
        .stdin(Stdio::piped());
    Running::start(&mut script)
}

on_every_etcd!(watch_draws_a_table_on_a_terminal);

async fn watch_draws_a_table_on_a_terminal(version: EtcdVersion) {
    let etcd = Etcd::start(version).await;
    register(&etcd, 1, "host1", true).await;
    register(&etcd, 2, "evil\u{1b}[2J", true).await;
    let mut watch = start_on_terminal(on_etcd(&etcd.endpoint()).args(["nodes", "--watch"]));
    let line_with = |texts: &[&str]| {
        let began = std::time::Instant::now();
        loop {
            let line = watch.line();
            if texts.iter().all(|text| line.contains(text)) {
                return line;
            }
            assert!(began.elapsed() < LIMIT, "no line with {texts:?}: {line}");
        }
    };
    let title = line_with(&["Cluster c: 2 live, 0 lost; "]);
    assert!(title.starts_with("\u{1b}[2J\u{1b}[H"), "{title:?}");
    line_with(&["WorkerId  Address", "Status  Age"]);
    line_with(&["worker-1  host1:29999", "ONLINE  >"]);
    line_with(&["worker-2  evil\\u{1b}[2J:29999  ONLINE"]);
    etcd.delete("/ServiceDiscovery/c/worker-1").await;
    line_with(&["Cluster c: 1 live, 1 lost; "]);
    line_with(&["worker-1  host1:29999", "OFFLINE  0s\u{1b}[K"]);
    line_with(&["Last changes:"]);
    line_with(&["Z  lost     worker-1  host1:29999"]);
    etcd.pause();
    line_with(&["OLD, as of "]);
    etcd.resume();
    line_with(&["\u{1b}[HCluster c: 1 live, 1 lost"]);
    watch
        .child
        .stdin
        .as_mut()
        .expect("a pipe")
        .write_all(b"\x03")
        .expect("write");
    assert_eq!(watch.end().code(), Some(0));
}

on_every_etcd!(watch_in_a_pipe_prints_the_selected);

async fn watch_in_a_pipe_prints_the_selected(version: EtcdVersion) {
    let etcd = Etcd::start(version).await;
    register(&etcd, 1, "rack1-a", true).await;
    register(&etcd, 2, "rack2-a", true).await;
    let arguments = ["nodes", "--watch", "--host", "rack1-*", "--state", "lost"];
    let watch = Running::start(on_etcd(&etcd.endpoint()).args(arguments));
    // Listed at the start, so the changes come after this line.
    let mut all = Running::start(on_etcd(&etcd.endpoint()).args(["nodes", "--watch"]));
    assert!(all.line().contains("present\tworker-1"));
    let (_, _, error) = run(on_etcd(&etcd.endpoint()).args(["nodes", "--watch", "-o", "csv"]));
    assert!(
        error.contains("--watch has the formats table and json only"),
        "{error}"
    );
    eventually("the change is printed", LIMIT, || async {
        for id in [2, 1] {
            etcd.delete(&format!("/ServiceDiscovery/c/worker-{id}"))
                .await;
            register(&etcd, id, &format!("rack{id}-a"), true).await;
        }
        watch
            .lines
            .recv_timeout(Duration::from_millis(100))
            .is_ok_and(|line| {
                assert!(
                    line.contains("\tlost\tworker-1\track1-a:29999\tOFFLINE"),
                    "{line}"
                );
                true
            })
    })
    .await;
    all.signal(libc::SIGTERM);
    assert_eq!(all.end().code(), Some(0));
}
