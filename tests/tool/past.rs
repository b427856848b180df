//! `describe` and `history`: the keys of a worker, and the changes that etcd remembers.

use super::nodes::register;
use super::*;

on_every_etcd!(describe_shows_both_records_and_other_claims);

async fn describe_shows_both_records_and_other_claims(version: EtcdVersion) {
    let etcd = Etcd::start(version).await;
    let endpoint = etcd.endpoint();
    let worker = join(&endpoint, ID1, "host1");
    let describe = |arguments: &[&str]| ok(on_etcd(&endpoint).arg("describe").args(arguments));
    let text = describe(&[ID1]);
    let live_key = format!("/ServiceDiscovery/c/{ID1}");
    let live = etcd.get(&live_key).await.expect("joined");
    for line in [
        format!("Worker        {ID1}"),
        "Status        ONLINE".to_owned(),
        format!("Ring key      /DHT/c/AUTHORIZED/{ID1}"),
        "  lease       none, as intended".to_owned(),
        format!("Live key      {live_key}"),
        format!("  written     once, at revision {}", live.create_revision()),
        "  host        host1".to_owned(),
        "  RPC port    29999".to_owned(),
        "Claims        none by other keys".to_owned(),
    ] {
        assert!(text.lines().any(|it| it == line), "{line}: {text}");
    }
    assert!(!text.contains("web port"), "it has none: {text}");
    let lease = format!("  lease       {:x}, ", live.lease());
    assert!(
        text.contains(&lease) && text.contains(" of 120 s left\n"),
        "{text}"
    );

    // Another record of the identity, another worker at the address, and a ring key that was
    // written again.
    let ring_key = format!("/DHT/c/AUTHORIZED/{ID1}");
    let record = etcd.get(&ring_key).await.expect("joined");
    etcd.put("/DHT/c/AUTHORIZED/copy\u{1b}", record.value())
        .await;
    etcd.put(&ring_key, record.value()).await;
    register(&etcd, 7, "host1", false).await;
    let text = describe(&[ID1]);
    for line in [
        "Claims        2 by other keys",
        "  key         /DHT/c/AUTHORIZED/copy\\u{1b}: the same identity under another key",
        "  key         /DHT/c/AUTHORIZED/worker-7: another worker at the same address",
    ] {
        assert!(text.lines().any(|it| it == line), "{line}: {text}");
    }
    assert!(
        text.contains("  written     2 times, at revision "),
        "{text}"
    );
    let json: Value = serde_json::from_str(&describe(&[ID1, "--json"])).expect("JSON");
    assert_eq!(json["status"], "ONLINE");
    assert_eq!(json["ringKey"]["version"], 2);
    assert_eq!(json["ringKey"]["lease"], Value::Null);
    assert_eq!(json["liveKey"]["lease"], format!("{:x}", live.lease()));
    assert_eq!(json["liveKey"]["worker"]["host"], "host1");
    assert_eq!(json["lease"]["grantedSeconds"], 120);
    assert_eq!(json["claims"].as_array().map(Vec::len), Some(2));
    drop(worker);

    etcd.put_on_lease(&ring_key, "{", etcd.grant_lease(60).await)
        .await;
    let text = describe(&[ID1]);
    assert!(text.contains("  record      cannot be used: "), "{text}");
    assert!(
        text.contains(": the worker disappears with its lease\n"),
        "{text}"
    );
    let unknown = "Unrecognized or non-existing worker: worker-9";
    fails(
        on_etcd(&endpoint).args(["describe", "worker-9"]),
        1,
        unknown,
    );
}

on_every_etcd!(history_is_what_etcd_remembers);

async fn history_is_what_etcd_remembers(version: EtcdVersion) {
    let etcd = Etcd::start(version).await;
    let endpoint = etcd.endpoint();
    let live_key = |id: i64| format!("/ServiceDiscovery/c/worker-{id}");
    let history = |arguments: &[&str]| -> (Vec<String>, String) {
        let mut command = on_etcd(&endpoint);
        let (status, output, notes) = run(command.arg("history").args(arguments));
        assert_eq!(status, Some(0), "{output}{notes}");
        let mut rows = output.lines().map(str::to_owned);
        let header = rows.next().expect("a header");
        assert_eq!(header, "Revision\tChange\tWorkerId\tAddress\tStatus\tWas");
        (rows.collect(), notes)
    };
    assert_eq!(
        history(&[]),
        (
            vec![],
            "0 changes after revision 1, until 1; etcd stores no times\n".to_owned()
        )
    );
    // Revisions 2 and 3, 4 and 5. Keys of other clusters are ignored.
    register(&etcd, 1, "h1", true).await;
    register(&etcd, 2, "h2", true).await;
    etcd.put("/DHT/c-2/AUTHORIZED/worker-1", "{").await;
    etcd.delete(&live_key(1)).await;
    let record = etcd.get(&live_key(2)).await.expect("a key");
    let lease = etcd.grant_lease(60).await;
    etcd.put_on_lease(&live_key(2), record.value(), lease).await;
    register(&etcd, 1, "h1:new", true).await;
    etcd.revoke_lease(lease).await;
    etcd.delete("/DHT/c/AUTHORIZED/worker-2").await;
    let all = [
        "2\tadded\tworker-1\th1:29999\tOFFLINE\t-",
        "3\tlive\tworker-1\th1:29999\tONLINE\t-",
        "4\tadded\tworker-2\th2:29999\tOFFLINE\t-",
        "5\tlive\tworker-2\th2:29999\tONLINE\t-",
        "7\tlost\tworker-1\th1:29999\tOFFLINE\t-",
        "8\trejoined\tworker-2\th2:29999\tONLINE\t-",
        "9\tmoved\tworker-1\th1:new:29999\tOFFLINE\th1:29999",
        "10\tlive\tworker-1\th1:new:29999\tONLINE\t-",
        "11\tlost\tworker-2\th2:29999\tOFFLINE\t-",
        "12\tremoved\tworker-2\th2:29999\tOFFLINE\t-",
    ];
    let (rows, notes) = history(&[]);
    assert_eq!(rows, all);
    assert_eq!(
        notes,
        "10 changes after revision 1, until 12; etcd stores no times\n"
    );
    assert_eq!(history(&["worker-1", "--after", "7"]).0, all[6..8]);
    assert_eq!(history(&["--after", "12"]).0, [""; 0]);
    let json = ok(on_etcd(&endpoint).args(["history", "--json", "--after", "8"]));
    let json: Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!((&json["after"], &json["until"]), (&8.into(), &12.into()));
    assert_eq!(json["changes"][0]["change"], "moved");
    assert_eq!(json["changes"][0]["was"]["host"], "h1");
    assert_eq!(json["incomplete"], false);

    // A worker that joined and left leaves no key.
    register(&etcd, 3, "h3", false).await;
    etcd.delete("/DHT/c/AUTHORIZED/worker-3").await;
    let gone = [
        "13\tadded\tworker-3\th3:29999\tOFFLINE\t-",
        "14\tremoved\tworker-3\th3:29999\tOFFLINE\t-",
    ];
    assert_eq!(history(&["--after", "12"]).0, gone);

    etcd.compact(8).await;
    let (rows, notes) = history(&[]);
    assert_eq!(rows, [&all[6..], &gone].concat());
    assert_eq!(
        notes,
        "6 changes after revision 8, until 14; etcd stores no times\n"
    );
    let text = "etcd has compacted revision 7, and remembers later ones only";
    fails(
        on_etcd(&endpoint).args(["history", "--after", "7"]),
        1,
        text,
    );
    let text = "etcd has not reached revision 99: its newest is 14";
    fails(
        on_etcd(&endpoint).args(["history", "--after", "99"]),
        1,
        text,
    );
}
