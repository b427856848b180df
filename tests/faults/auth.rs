//! Expiring tokens, and changing users.

use std::time::{Duration, Instant};

use alluxio_membership::error::ErrorKind;
use alluxio_membership::membership::{JoinOptions, Membership};
use etcd_client::{Permission, PermissionType};

use crate::common::dead::DeadEnds;
use crate::common::toxiproxy::Toxiproxy;
use crate::common::{Etcd, EtcdOptions, EtcdVersion, eventually, on_every_etcd};
use crate::scene::{
    Fault, LINEARIZABLE, LIVE, LONG, PATIENT, is_registered, join, lease_of, lists, open, worker,
};

const USER: &str = "alluxio";
const CREDENTIALS: [(&str, &str); 2] = [
    ("alluxio.etcd.username", USER),
    ("alluxio.etcd.password", "password"),
];
const PREFIXES: [&str; 2] = [
    "/DHT/DefaultAlluxioCluster/",
    "/ServiceDiscovery/DefaultAlluxioCluster/",
];
/// How long requests are counted while all are refused.
const COUNTED: Duration = Duration::from_secs(5);

/// The minimal permissions of a worker, as documented in docs/security.md.
fn least_role() -> Vec<Permission> {
    role(PermissionType::Readwrite)
}

fn role(kind: PermissionType) -> Vec<Permission> {
    let permission = |prefix| Permission::new(kind, prefix).with_prefix();
    PREFIXES.map(permission).into()
}

async fn start(version: EtcdVersion) -> Etcd {
    let options = EtcdOptions::new(version)
        .root_password("secret")
        .args(&["--auth-token-ttl=4"]);
    let etcd = Etcd::start_with(options).await;
    etcd.add_user(USER, "password", least_role()).await;
    etcd
}

fn with_credentials(endpoint: String, more: &[(&str, &str)]) -> Membership {
    open(&[endpoint], &[&CREDENTIALS, more].concat())
}

fn authentications(etcd: &Etcd) -> u64 {
    etcd.metric(
        "grpc_server_started_total",
        &["grpc_method=\"Authenticate\""],
    )
}

/// Returns how many times [`COUNTED`] has begun since. On a loaded machine it may be more than one.
fn periods(since: Instant) -> u64 {
    1 + since.elapsed().as_secs() / COUNTED.as_secs()
}

fn requests(etcd: &Etcd) -> u64 {
    etcd.metric("grpc_server_started_total", &[])
}

async fn a_token_that_expired_is_replaced_unnoticed(version: EtcdVersion) {
    let etcd = start(version).await;
    let toxiproxy = Toxiproxy::start().await;
    let proxy = toxiproxy.to(&etcd);
    let ttl = [("alluxio.worker.failure.detection.timeout", "20s")];
    let member = with_credentials(proxy.endpoint(), &ttl);
    let reader = with_credentials(proxy.endpoint(), &ttl);
    let other = with_credentials(etcd.endpoint(), &ttl);
    join(&member, 1).await;
    assert!(lists(&reader, &[1]).await);
    let lease = lease_of(&etcd, 1).await;

    let fault = Fault::new("token expires while cut off", version);
    let before = authentications(&etcd);
    proxy.cut();
    // The duration of the fault: longer than the life of a token, shorter than the life of the
    // lease.
    tokio::time::sleep(Duration::from_secs(6)).await;
    proxy.heal();
    join(&other, 2).await;
    eventually("the watch goes on", LONG, || lists(&reader, &[1, 2])).await;
    eventually("renewed", LONG, || async { is_registered(&member, 1) }).await;
    let spent = authentications(&etcd) - before;
    // One for each of the three processes, and one more if two of its calls had the same refused
    // token, for each time that a token may have expired.
    let expired = 1 + fault.elapsed().as_secs() / 4;
    assert!(spent <= 6 * expired, "{spent} authentications");
    assert_eq!(lease_of(&etcd, 1).await, lease);
    fault.outcome(format!(
        "same lease, the watch continued; {spent} authentications of 3 processes"
    ));

    let fault = Fault::new("etcd with users is killed and restarted", version);
    etcd.restart().await;
    join(&other, 3).await;
    eventually("the watch goes on", LONG, || lists(&reader, &[1, 2, 3])).await;
    assert_eq!(lease_of(&etcd, 1).await, lease);
    fault.outcome("same leases, the watch continued");
}

async fn authentication_is_switched_on_and_off_under_way(version: EtcdVersion) {
    let etcd = Etcd::start(version).await;
    etcd.add_user(USER, "password", least_role()).await;
    let with = || with_credentials(etcd.endpoint(), &[]);
    let without = || open(&[etcd.endpoint()], &[]);
    // Its view in memory does not depend on users, and may be old on a loaded machine.
    let good_reader = with_credentials(etcd.endpoint(), &PATIENT);
    let good_member = with();
    let (bad_member, bad_reader) = (without(), without());
    join(&good_member, 1).await;
    join(&bad_member, 2).await;
    for reader in [&good_reader, &bad_reader] {
        eventually("both are listed", LONG, || lists(reader, &[1, 2])).await;
    }
    let lease = lease_of(&etcd, 1).await;

    let fault = Fault::new("authentication is switched on", version);
    etcd.enable_auth("secret").await;
    eventually("a listing without credentials fails", LONG, || async {
        match bad_reader.view().await {
            Ok(_) => false,
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Unauthenticated, "{error}");
                assert!(error.to_string().contains("alluxio.etcd.username"));
                true
            }
        }
    })
    .await;
    let refused = fault.elapsed();
    let joined = bad_member.join(&worker(3), &JoinOptions::default()).await;
    assert_eq!(joined.unwrap_err().kind(), ErrorKind::Unauthenticated);
    let (before, counting) = (requests(&etcd), Instant::now());
    tokio::time::sleep(COUNTED).await;
    let spent = requests(&etcd) - before;
    // Four processes.
    assert!(spent < 150 * periods(counting), "{spent} requests");
    // Processes with credentials are not affected.
    let newcomer = with();
    join(&newcomer, 4).await;
    eventually("the new worker is listed", LONG, || async {
        let view = good_reader.view().await;
        view.is_ok_and(|view| view.is_live(&worker(4).identity))
    })
    .await;
    assert!(is_registered(&good_member, 1));
    assert_eq!(lease_of(&etcd, 1).await, lease);
    fault.outcome(format!(
        "with credentials no effect; without them refused after {:.1} s, {spent} requests of 4 \
         processes in 5 s",
        refused.as_secs_f64()
    ));

    let fault = Fault::new("authentication is switched off again", version);
    etcd.disable_auth().await;
    for reader in [&good_reader, &bad_reader] {
        eventually("all are listed", LONG, || lists(reader, &[1, 2, 4])).await;
    }
    eventually("registered", LONG, || async {
        is_registered(&bad_member, 2)
    })
    .await;
    assert_eq!(lease_of(&etcd, 1).await, lease);
    eventually("one lease each", LONG, || async {
        etcd.leases().await.len() == 3
    })
    .await;
    fault.outcome("all are back without a restart, one lease each");
}

/// Takes the user's access away from a worker and a reader, then restores it.
async fn access_is_lost_and_restored<Harmed, Mended>(
    name: &'static str,
    version: EtcdVersion,
    kind: ErrorKind,
    harm: impl FnOnce(etcd_client::Client) -> Harmed,
    mend: impl FnOnce(etcd_client::Client) -> Mended,
) where
    Harmed: Future<Output = Result<(), etcd_client::Error>>,
    Mended: Future<Output = Result<(), etcd_client::Error>>,
{
    let etcd = start(version).await;
    let member = with_credentials(etcd.endpoint(), &[]);
    let reader = with_credentials(etcd.endpoint(), &[]);
    join(&member, 1).await;
    assert!(lists(&reader, &[1]).await);

    let fault = Fault::new(name, version);
    harm(etcd.client().await)
        .await
        .expect("take the access away");
    eventually("listings fail", LONG, || async {
        match reader.view().await {
            Ok(_) => false,
            Err(error) => {
                assert_eq!(error.kind(), kind, "{error}");
                true
            }
        }
    })
    .await;
    let refused = fault.elapsed();
    let joined = member.join(&worker(2), &JoinOptions::default()).await;
    assert_eq!(joined.unwrap_err().kind(), kind);
    let (all_before, before) = (requests(&etcd), authentications(&etcd));
    let counting = Instant::now();
    tokio::time::sleep(COUNTED).await;
    let (all_spent, spent) = (
        requests(&etcd) - all_before,
        authentications(&etcd) - before,
    );
    let periods = periods(counting);
    assert!(all_spent < 100 * periods, "{all_spent} requests");
    // Each costs etcd 70 ms of computing.
    assert!(spent <= 8 * periods, "{spent} authentications");

    let mended = Instant::now();
    mend(etcd.client().await)
        .await
        .expect("give the access back");
    eventually("listed again", LONG, || lists(&reader, &[1])).await;
    eventually("registered", LONG, || async { is_registered(&member, 1) }).await;
    let back = mended.elapsed();
    // Its lease may never have been in danger, and it may not know yet that it has access again.
    eventually("joined", LONG, || async {
        let joined = member.join(&worker(2), &JoinOptions::default()).await;
        joined.is_ok()
    })
    .await;
    eventually("both are listed", LONG, || lists(&reader, &[1, 2])).await;
    eventually("one lease each", LONG, || async {
        etcd.leases().await.len() == 2
    })
    .await;
    fault.outcome(format!(
        "refused after {:.1} s, {all_spent} requests and {spent} authentications of 2 processes in \
         5 s, back {:.1} s after it was repaired",
        refused.as_secs_f64(),
        back.as_secs_f64()
    ));
}

async fn the_role_is_taken_away(version: EtcdVersion) {
    access_is_lost_and_restored(
        "the user's role is revoked",
        version,
        ErrorKind::PermissionDenied,
        |mut root| async move { root.user_revoke_role(USER, USER).await.map(drop) },
        |mut root| async move { root.user_grant_role(USER, USER).await.map(drop) },
    )
    .await;
}

async fn the_permissions_are_taken_away(version: EtcdVersion) {
    access_is_lost_and_restored(
        "the role's permissions are revoked",
        version,
        ErrorKind::PermissionDenied,
        |mut root| async move {
            for prefix in PREFIXES {
                let options = etcd_client::RoleRevokePermissionOptions::new().with_prefix();
                root.role_revoke_permission(USER, prefix, Some(options))
                    .await?;
            }
            Ok(())
        },
        |mut root| async move {
            for permission in least_role() {
                root.role_grant_permission(USER, permission).await?;
            }
            Ok(())
        },
    )
    .await;
}

async fn the_password_is_changed(version: EtcdVersion) {
    access_is_lost_and_restored(
        "the user's password is changed",
        version,
        ErrorKind::Unauthenticated,
        |mut root| async move { root.user_change_password(USER, "other").await.map(drop) },
        |mut root| async move { root.user_change_password(USER, "password").await.map(drop) },
    )
    .await;
}

async fn the_user_is_removed(version: EtcdVersion) {
    access_is_lost_and_restored(
        "the user is removed",
        version,
        ErrorKind::Unauthenticated,
        |mut root| async move { root.user_delete(USER).await.map(drop) },
        |mut root| async move {
            root.user_add(USER, "password", None).await?;
            root.user_grant_role(USER, USER).await.map(drop)
        },
    )
    .await;
}

async fn refused_credentials_are_not_shown_again_at_once(version: EtcdVersion) {
    let etcd = start(version).await;
    let wrong = [(CREDENTIALS[0].0, USER), (CREDENTIALS[1].0, "changed")];
    let member = open(&[etcd.endpoint()], &wrong);

    let fault = Fault::new("50 callers with a wrong password", version);
    let before = authentications(&etcd);
    let mut callers = tokio::task::JoinSet::new();
    for number in 0..50 {
        let member = member.clone();
        callers.spawn(async move { member.join(&worker(number), &JoinOptions::default()).await });
    }
    while let Some(joined) = callers.join_next().await {
        let error = joined.expect("no panic").expect_err("refused");
        assert_eq!(error.kind(), ErrorKind::Unauthenticated, "{error}");
        assert!(
            error.to_string().contains("alluxio.etcd.password"),
            "{error}"
        );
    }
    let spent = authentications(&etcd) - before;
    // A refusal counts for at least 1.6 s, and for longer after that.
    let allowed = 3 + fault.elapsed().as_secs();
    assert!(spent <= allowed, "{spent} authentications");
    let changed = etcd
        .client()
        .await
        .user_change_password(USER, "changed")
        .await;
    changed.expect("change the password");
    eventually("joined", LONG, || async {
        let joined = member.join(&worker(1), &JoinOptions::default()).await;
        joined.is_ok()
    })
    .await;
    fault.outcome(format!(
        "all refused, {spent} authentications; accepted after the password was changed"
    ));
}

async fn the_least_role_is_enough(version: EtcdVersion) {
    let etcd = start(version).await;
    etcd.add_user("reader", "password", role(PermissionType::Read))
        .await;
    let linearizable = [("alluxio.membership.native.read.mode", "LINEARIZABLE")];
    let as_reader = [&linearizable[..], &[("alluxio.etcd.username", "reader")]].concat();
    let endpoint = || etcd.endpoint();
    let member = with_credentials(endpoint(), &[]);
    let fresh = with_credentials(endpoint(), &linearizable);
    let reader = with_credentials(endpoint(), &as_reader);

    join(&member, 1).await;
    join(&member, 2).await;
    for lister in [&member, &fresh, &reader] {
        assert!(lists(lister, &[1, 2]).await);
    }
    etcd.revoke_lease(lease_of(&etcd, 1).await.expect("a lease"))
        .await;
    eventually("back", LONG, || lists(&fresh, &[1, 2])).await;
    member
        .leave_worker(&worker(2).identity)
        .await
        .expect("leave");
    assert!(lists(&fresh, &[1]).await && lists(&reader, &[1]).await);
    member
        .remove(&worker(2).identity)
        .await
        .expect("decommission");
    let view = reader.view().await.expect("a view");
    assert!(view.find(&worker(2).identity).is_none());

    let denied = [
        reader.join(&worker(3), &JoinOptions::default()).await,
        with_credentials(endpoint(), &[("alluxio.cluster.name", "other")])
            .join(&worker(3), &JoinOptions::default())
            .await,
    ];
    for denied in denied {
        let error = denied.expect_err("not permitted");
        assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{error}");
        assert!(error.to_string().contains("/ServiceDiscovery/<"), "{error}");
    }
    let found = member.inspect().await.expect("etcd answers").expect("etcd");
    assert!(found.members[0].reading.is_ok() && found.leases.is_ok() && found.granted_ttl.is_ok());
}

async fn authenticating_on_a_dead_connection_holds_up_nobody(version: EtcdVersion) {
    let etcd = start(version).await;
    let way = DeadEnds::to_port(etcd.port()).await;
    way.accept_dead(true);
    let reader = with_credentials(way.endpoint(), &[LINEARIZABLE, PATIENT[0]]);
    let fault = Fault::new("the connection of an authentication is dead", version);
    let asking = reader.clone();
    let asking = tokio::spawn(async move { asking.view().await });
    eventually("it is quarantined", LONG, || async {
        !reader.status().expect("open").endpoints[0].healthy
    })
    .await;
    way.accept_dead(false);
    let mended = Instant::now();
    asking.await.expect("no panic").expect("listed");
    // HTTP/2 takes 20 s to notice.
    let back = mended.elapsed();
    assert!(back < Duration::from_secs(15), "{back:?}");
    fault.outcome(format!(
        "listed {:.1} s after others work again",
        back.as_secs_f64()
    ));
}

/// SERVICE_REGISTRY has no ring, and its users may have no permission for it.
async fn a_service_registry_needs_its_live_keys_only(version: EtcdVersion) {
    let etcd = start(version).await;
    let live_only = Permission::new(PermissionType::Readwrite, PREFIXES[1]).with_prefix();
    etcd.add_user("live", "password", vec![live_only]).await;
    let more = [
        ("alluxio.worker.membership.manager.type", "SERVICE_REGISTRY"),
        ("alluxio.etcd.username", "live"),
    ];
    let member = with_credentials(etcd.endpoint(), &more);
    join(&member, 1).await;
    let lease = lease_of(&etcd, 1).await;
    // Only the watch of its own key can notice this.
    assert!(etcd.delete(&format!("{LIVE}{}", worker(1).identity)).await);
    eventually("written again", LONG, || async {
        lease_of(&etcd, 1).await == lease
    })
    .await;
}

/// Signed tokens contain the revision of etcd's users, and etcd refuses them after any change of
/// users.
async fn signed_tokens_outlive_changes_of_users(version: EtcdVersion) {
    let folder = tempfile::tempdir().expect("a folder");
    let key = folder.path().join("key");
    std::fs::write(&key, "a secret of etcd that is long enough").expect("write the key");
    let signed = format!(
        "--auth-token=jwt,sign-method=HS256,priv-key={0},ttl=3s",
        key.display()
    );
    let options = EtcdOptions::new(version)
        .root_password("secret")
        .args(&[&signed]);
    let etcd = Etcd::start_with(options).await;
    etcd.add_user(USER, "password", least_role()).await;
    let member = with_credentials(etcd.endpoint(), &[]);
    let reader = with_credentials(etcd.endpoint(), &[]);
    join(&member, 1).await;
    assert!(lists(&reader, &[1]).await);
    let lease = lease_of(&etcd, 1).await;

    let fault = Fault::new(
        "users change under signed tokens, which expire after 3 s",
        version,
    );
    let before = authentications(&etcd);
    let until = Instant::now() + Duration::from_secs(5);
    let mut number = 1;
    while Instant::now() < until {
        number += 1;
        // A single request, because further ones could be refused.
        let added = etcd.client().await.role_add(format!("role{number}")).await;
        added.expect("add a role");
        join(&member, number).await;
        let all: Vec<i64> = (1..=number).collect();
        eventually("listed", LONG, || lists(&reader, &all)).await;
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    assert_eq!(lease_of(&etcd, 1).await, lease);
    let spent = authentications(&etcd) - before;
    fault.outcome(format!(
        "same lease, every join and listing works; {spent} authentications for {} changes",
        number - 1
    ));
}

on_every_etcd!(
    the_least_role_is_enough,
    a_service_registry_needs_its_live_keys_only,
    signed_tokens_outlive_changes_of_users,
    refused_credentials_are_not_shown_again_at_once,
    a_token_that_expired_is_replaced_unnoticed,
    authentication_is_switched_on_and_off_under_way,
    authenticating_on_a_dead_connection_holds_up_nobody,
    the_user_is_removed,
);

on_every_etcd!(
    #[ignore = "slow: run by make test-faults"]
    the_role_is_taken_away,
    the_permissions_are_taken_away,
    the_password_is_changed,
);
