//! `remove --lost`, the log of requests, and the help.

use super::nodes::register;
use super::*;

on_every_etcd!(remove_lost_removes_what_is_lost);

async fn remove_lost_removes_what_is_lost(version: EtcdVersion) {
    let etcd = Etcd::start(version).await;
    let endpoint = etcd.endpoint();
    for (id, host, is_live) in [(1, "a1", false), (2, "a2", true), (3, "b1", false)] {
        register(&etcd, id, host, is_live).await;
    }
    let remove = |arguments: &[&str]| {
        let mut command = on_etcd(&endpoint);
        command.args(["remove", "--lost"]).args(arguments);
        command
    };
    let registered = async || etcd.keys("/DHT/c/AUTHORIZED/").await.len();
    // Without a terminal, the tool cannot ask.
    fails(
        &mut remove(&[]),
        1,
        "Nothing was removed: --lost asks on a terminal",
    );
    fails(&mut remove(&["worker-1"]), 2, "cannot be used with");
    fails(on_etcd(&endpoint).arg("remove"), 2, "WORKER_ID");
    let (status, output) = on_terminal(&remove(&[]), "n\n");
    assert_eq!(status, Some(1), "{output}");
    let question = "  worker-1  a1:29999\r\n  worker-3  b1:29999\r\n\
                    Remove these 2 workers from cluster c? [y/N] ";
    assert!(output.contains(question), "{output}");
    assert!(output.contains("Nothing was removed."), "{output}");
    assert_eq!(registered().await, 3);
    let (status, output) = on_terminal(&remove(&["--host", "B*"]), "y\n");
    assert_eq!(status, Some(0), "{output}");
    assert!(
        output.contains("Remove this worker from cluster c? [y/N] "),
        "{output}"
    );
    assert_eq!(registered().await, 2);
    assert_eq!(
        ok(&mut remove(&["--yes"])),
        "Successfully removed worker: worker-1\n"
    );
    let (status, output, note) = run(&mut remove(&["--yes"]));
    assert_eq!((status, output.as_str()), (Some(0), ""));
    assert_eq!(note, "No worker is to be removed.\n");
    assert_eq!(
        etcd.keys("/DHT/c/AUTHORIZED/").await,
        ["/DHT/c/AUTHORIZED/worker-2"]
    );
}

on_every_etcd!(workers_that_come_back_meanwhile_are_not_removed);

async fn workers_that_come_back_meanwhile_are_not_removed(version: EtcdVersion) {
    let etcd = Etcd::start(version).await;
    for id in [1, 2] {
        register(&etcd, id, "h", false).await;
    }
    let mut command = on_etcd(&etcd.endpoint());
    command.args(["remove", "--lost", "--yes", "--lost-for", "3s"]);
    let mut remove = Running::start(command.stderr(Stdio::piped()));
    let mut notes = BufReader::new(remove.child.stderr.take().expect("a pipe"));
    let mut note = String::new();
    notes.read_line(&mut note).expect("UTF-8");
    assert_eq!(note, "2 workers are lost. Watching for 3s.\n");
    // The worker is live only for a moment.
    register(&etcd, 1, "h", true).await;
    std::thread::sleep(Duration::from_secs(1));
    etcd.delete("/ServiceDiscovery/c/worker-1").await;
    assert_eq!(remove.line(), "Successfully removed worker: worker-2");
    assert_eq!(remove.end().code(), Some(0));
    assert_eq!(
        etcd.keys("/DHT/c/AUTHORIZED/").await,
        ["/DHT/c/AUTHORIZED/worker-1"]
    );
}

on_every_etcd!(verbose_names_endpoint_request_and_time);

async fn verbose_names_endpoint_request_and_time(version: EtcdVersion) {
    let etcd = Etcd::start(version).await;
    let endpoint = etcd.endpoint();
    for (arguments, what) in [
        (
            &["nodes"][..],
            "Getting children for path:/ServiceDiscovery/c",
        ),
        (&["check"], "Reading as a client, and the status"),
        (&["check"], "Creating Lease with ttl:120"),
    ] {
        let (_, _, log) = run(on_etcd(&endpoint).arg("-v").args(arguments));
        let start = format!("alluxio-membership: debug: {what}: {endpoint} answered in ");
        let line = log.lines().find_map(|line| line.strip_prefix(&start));
        let time = line.and_then(|rest| rest.strip_suffix(" ms"));
        let time = time.unwrap_or_else(|| panic!("{start}: {log}"));
        assert!(time.parse::<f64>().is_ok_and(|it| it > 0.0), "{time}");
    }
    let (_, _, log) = run(on_etcd(&endpoint).arg("nodes"));
    assert_eq!(log, "", "not unless it is asked for");
    etcd.stop().await;
    let (_, _, log) = run(on_etcd(&endpoint).args(["-v", "nodes"]));
    let failed = format!("path:/ServiceDiscovery/c: etcd endpoint {endpoint}: ");
    assert!(log.contains(&failed) && log.contains(" ms\n"), "{log}");
}

#[test]
fn the_help_groups_commands_and_options() {
    let help = ok(tool().arg("--help"));
    let places: Vec<usize> = [
        "Usage: alluxio-membership",
        "\nLook at a cluster:\n  nodes        List the workers",
        "\n  history      Show the changes that etcd remembers",
        "\nChange a cluster:\n  join         Register a worker",
        "\nOther:\n  completions  ",
        "\nGlobal options:\n",
        "\nConfiguration:\n",
    ]
    .iter()
    .map(|text| help.find(text).unwrap_or_else(|| panic!("{text}: {help}")))
    .collect();
    assert!(places.is_sorted(), "{help}");
    let help = ok(tool().args(["nodes", "--help"]));
    let (own, global) = help.split_once("\nGlobal options:\n").expect("both");
    assert!(
        own.contains("--sort") && !own.contains("--timeout"),
        "{help}"
    );
    assert!(
        global.contains("--timeout") && !global.contains("--sort"),
        "{help}"
    );
}

#[test]
fn manual_pages_have_examples_and_files() {
    let folder = tempfile::tempdir().expect("a folder");
    ok(tool().arg("man").arg(folder.path()));
    let page = |name: &str| {
        let file = folder.path().join(format!("alluxio-membership{name}.1"));
        fs::read_to_string(file).expect("a page")
    };
    assert!(page("").contains(".SH FILES\n.TP\n\\fBalluxio\\-site.properties\\fR\n"));
    assert!(page("-join").contains(".SH FILES\n.TP\n\\fBworker_identity\\fR\n"));
    let example = ".SH EXAMPLES\n.TP\n\\fBalluxio\\-membership history \\-\\-after 1000\\fR\n";
    assert!(page("-history").contains(example));
}
