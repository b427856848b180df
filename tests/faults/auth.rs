//! Tokens that expire, users that come and go.

use std::time::Duration;

use alluxio_membership::error::ErrorKind;
use alluxio_membership::membership::{JoinOptions, Membership};
use etcd_client::{Permission, PermissionType};

use crate::common::toxiproxy::Toxiproxy;
use crate::common::{Etcd, EtcdOptions, EtcdVersion, eventually, on_every_etcd};
use crate::scene::{Fault, LONG, is_registered, join, lease_of, lists, open, worker};

const USER: &str = "alluxio";
const CREDENTIALS: [(&str, &str); 2] = [
    ("alluxio.etcd.username", USER),
    ("alluxio.etcd.password", "password"),
];
const PREFIXES: [&str; 2] = ["/DHT/", "/ServiceDiscovery/"];
/// How long requests are counted where nobody is let in.
const COUNTED: Duration = Duration::from_secs(5);

/// The least that the documentation says a user needs.
fn least_role() -> Vec<Permission> {
    PREFIXES
        .map(|prefix| Permission::new(PermissionType::Readwrite, prefix).with_prefix())
        .into()
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
    // The fault itself takes this long: more than the life of a token, less than that of the lease.
    tokio::time::sleep(Duration::from_secs(6)).await;
    proxy.heal();
    join(&other, 2).await;
    eventually("the watch goes on", LONG, || lists(&reader, &[1, 2])).await;
    eventually("renewed", LONG, || async { is_registered(&member, 1) }).await;
    let spent = authentications(&etcd) - before;
    // One for each of the three processes, and one more where two of its calls were refused the same token.
    assert!(spent <= 6, "{spent} authentications");
    assert_eq!(lease_of(&etcd, 1).await, lease);
    fault.outcome(format!(
        "same lease, the watch went on; {spent} authentications of 3 processes"
    ));

    let fault = Fault::new("etcd with users is killed and restarted", version);
    etcd.restart().await;
    join(&other, 3).await;
    eventually("the watch goes on", LONG, || lists(&reader, &[1, 2, 3])).await;
    assert_eq!(lease_of(&etcd, 1).await, lease);
    fault.outcome("same leases, the watch went on");
}

async fn authentication_is_switched_on_and_off_under_way(version: EtcdVersion) {
    let etcd = Etcd::start(version).await;
    etcd.add_user(USER, "password", least_role()).await;
    let with = || with_credentials(etcd.endpoint(), &[]);
    let without = || open(&[etcd.endpoint()], &[]);
    let (good_member, good_reader) = (with(), with());
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
    let before = requests(&etcd);
    tokio::time::sleep(COUNTED).await;
    let spent = requests(&etcd) - before;
    // Four processes.
    assert!(spent < 150, "{spent} requests in {COUNTED:?}");
    // Those with credentials have not noticed.
    let newcomer = with();
    join(&newcomer, 4).await;
    eventually("the new worker is listed", LONG, || async {
        good_reader
            .view()
            .await
            .expect("users do not matter to it")
            .is_live(&worker(4).identity)
    })
    .await;
    assert!(is_registered(&good_member, 1));
    assert_eq!(lease_of(&etcd, 1).await, lease);
    fault.outcome(format!(
        "with credentials unnoticed; without refused after {:.1} s, {spent} requests of 4 processes in 5 s",
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

/// Takes the user's access away under a worker and a reader, then gives it back.
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
    tokio::time::sleep(COUNTED).await;
    let (all_spent, spent) = (
        requests(&etcd) - all_before,
        authentications(&etcd) - before,
    );
    assert!(all_spent < 100, "{all_spent} requests in {COUNTED:?}");
    // Each costs etcd 70 ms of computing.
    assert!(spent <= 20, "{spent} authentications in {COUNTED:?}");

    let mended = std::time::Instant::now();
    mend(etcd.client().await)
        .await
        .expect("give the access back");
    eventually("listed again", LONG, || lists(&reader, &[1])).await;
    eventually("registered", LONG, || async { is_registered(&member, 1) }).await;
    let back = mended.elapsed();
    join(&member, 2).await;
    eventually("both are listed", LONG, || lists(&reader, &[1, 2])).await;
    eventually("one lease each", LONG, || async {
        etcd.leases().await.len() == 2
    })
    .await;
    fault.outcome(format!(
        "refused after {:.1} s, {all_spent} requests and {spent} authentications of 2 processes in 5 s, back {:.1} s \
         after it was mended",
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

on_every_etcd!(
    a_token_that_expired_is_replaced_unnoticed,
    authentication_is_switched_on_and_off_under_way,
    the_user_is_removed,
);

on_every_etcd!(
    #[ignore = "slow: run by make test-faults"]
    the_role_is_taken_away,
    the_permissions_are_taken_away,
    the_password_is_changed,
);
