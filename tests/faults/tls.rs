//! TLS: certificates that are wrong, missing, expired and replaced.

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::time::Duration;

use alluxio_membership::error::ErrorKind;
use alluxio_membership::etcd::CertificateInfo;
use alluxio_membership::membership::{JoinOptions, Membership};
use etcd_client::{Permission, PermissionType};

use crate::common::tls::{Authority, Issued, made_by_openssl};
use crate::common::toxiproxy::Toxiproxy;
use crate::common::{Etcd, EtcdOptions, EtcdVersion, eventually, on_every_etcd};
use crate::scene::{Fault, LONG, is_registered, join, lease_of, lists, open, worker};

const ENABLED: &str = "alluxio.etcd.tls.enabled";
const CA: &str = "alluxio.etcd.tls.ca.cert";
const CERTIFICATE: &str = "alluxio.etcd.tls.client.cert";
const KEY: &str = "alluxio.etcd.tls.client.key";
const KEY_PASSWORD: &str = "alluxio.etcd.tls.client.key.password";
const NO_NAME_CHECK: &str = "alluxio.etcd.tls.client.no.endpoint.identification";
const TIMEOUT: (&str, &str) = ("alluxio.membership.native.operation.timeout", "4s");

/// Returns the error of a join, which must fail within its time.
async fn refusal(endpoint: &str, properties: &[(&str, &str)]) -> String {
    let member = open(&[endpoint.to_owned()], &[&[TIMEOUT], properties].concat());
    // Boxed, because several at once would not fit on the stack of a test.
    let joined = Box::pin(async { member.join(&worker(9), &JoinOptions::default()).await });
    let error = tokio::time::timeout(LONG, joined)
        .await
        .expect("long after the operation timeout")
        .expect_err("cannot be joined");
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    let text = error.to_string();
    assert!(text.starts_with("Exhausted retry for ("), "{text}");
    assert!(text.contains(endpoint), "{text}");
    text
}

#[track_caller]
fn says(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "not \"{part}\" in: {text}");
    }
}

/// Returns the properties, and the properties of a client certificate.
fn showing<'a>(basic: &[(&'a str, &'a str)], client: &'a Issued) -> Vec<(&'a str, &'a str)> {
    let client = [(CERTIFICATE, client.certificate()), (KEY, client.key())];
    [basic, &client].concat()
}

async fn works(
    etcd: &Etcd,
    endpoint: String,
    properties: &[(&str, &str)],
    number: i64,
) -> Membership {
    let member = open(&[endpoint], properties);
    join(&member, number).await;
    assert!(lease_of(etcd, number).await.is_some());
    eventually("listed", LONG, || async {
        let view = member.view().await.expect("a view");
        view.is_live(&worker(number).identity)
    })
    .await;
    member
}

async fn certificates_of_etcd_are_checked(version: EtcdVersion) {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let certificate = authority.issue("etcd", &["127.0.0.1"]);
    let etcd = Etcd::start_with(EtcdOptions::new(version).tls(&certificate)).await;
    let (url, by_name) = (
        etcd.tls_endpoint("127.0.0.1"),
        etcd.tls_endpoint("localhost"),
    );
    let (ca, other_ca) = (authority.file(), stranger.file());
    let on = (ENABLED, "true");
    let trusts = [on, (CA, ca.as_str())];

    let fault = Fault::new(
        "TLS: wrong authority, no authority, wrong name, plain text",
        version,
    );
    let member = works(&etcd, url.clone(), &trusts, 1).await;
    // Several authorities in one file, and a URL that says http.
    let both = stranger.issue("both", &[]).certificate;
    let file = |file: &str| fs::read_to_string(file).expect("read");
    fs::write(&both, file(&other_ca) + &file(&ca)).expect("write");
    let trusts_both = [on, (CA, both.to_str().expect("UTF-8"))];
    works(&etcd, url.replace("https", "http"), &trusts_both, 2).await;
    let unchecked = [on, (CA, ca.as_str()), (NO_NAME_CHECK, "true")];
    works(&etcd, by_name.clone(), &unchecked, 3).await;

    let wrong_ca = [on, (CA, other_ca.as_str())];
    let wrong_ca_unchecked = [on, (CA, other_ca.as_str()), (NO_NAME_CHECK, "true")];
    let plain_url = url.replace("https", "http");
    let system = [on];
    let (a, b, c, d, e) = tokio::join!(
        refusal(&url, &wrong_ca),
        refusal(&by_name, &wrong_ca_unchecked),
        refusal(&url, &system),
        refusal(&by_name, &trusts),
        refusal(&plain_url, &[]),
    );
    says(&a, &["invalid peer certificate", &other_ca, CA]);
    says(&b, &["invalid peer certificate", &other_ca, CA]);
    says(&c, &["invalid peer certificate", "this system trusts", CA]);
    says(&d, &["localhost", "127.0.0.1", NO_NAME_CHECK]);
    says(&e, &["closed the connection", ENABLED]);
    let plaintext_etcd = etcd.endpoint().replace("http", "https");
    says(
        &refusal(&plaintext_etcd, &trusts).await,
        &["does not speak TLS", ENABLED],
    );
    fault.outcome("each is refused within the operation timeout, and the error says which it is");

    let fault = Fault::new("TLS: etcd's certificate expires, then is renewed", version);
    let lease = lease_of(&etcd, 1).await;
    let renewed = authority.issue("etcd", &["127.0.0.1"]);
    certificate.replace_by(&authority.issue_expired("etcd", &["127.0.0.1"]));
    says(&refusal(&url, &trusts).await, &["expired", "renew"]);
    // The open connections continue.
    assert!(lists(&member, &[1]).await || is_registered(&member, 1));
    certificate.replace_by(&renewed);
    let newcomer = works(&etcd, url, &trusts, 4).await;
    assert!(is_registered(&newcomer, 4));
    assert_eq!(lease_of(&etcd, 1).await, lease);
    fault.outcome("new connections are refused meanwhile, old ones continue; same lease");
}

async fn client_certificates(version: EtcdVersion) {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let certificate = authority.issue("etcd", &["127.0.0.1"]);
    let trusted = authority.issue("trusted", &[]).certificate;
    fs::copy(authority.file(), &trusted).expect("copy");
    let trusted_file = format!("--trusted-ca-file={}", trusted.display());
    let options = EtcdOptions::new(version)
        .tls(&certificate)
        .args(&["--client-cert-auth", &trusted_file]);
    let etcd = Etcd::start_with(options).await;
    let url = etcd.tls_endpoint("127.0.0.1");
    let ca = authority.file();
    let basic = [(ENABLED, "true"), (CA, ca.as_str())];
    let fault = Fault::new(
        "mutual TLS: no client certificate, a wrong one, an expired one",
        version,
    );
    let good = authority.issue("alluxio", &[]);
    let wrong = stranger.issue("alluxio", &[]);
    let expired = authority.issue_expired("alluxio", &[]);
    let member = works(&etcd, url.clone(), &showing(&basic, &good), 1).await;
    let (wrong, expired) = (showing(&basic, &wrong), showing(&basic, &expired));
    let (none, wrong, expired) = tokio::join!(
        refusal(&url, &basic),
        refusal(&url, &wrong),
        refusal(&url, &expired),
    );
    says(&none, &["asks for a client certificate", CERTIFICATE, KEY]);
    says(&wrong, &["client certificate", CERTIFICATE, "revoked"]);
    says(
        &expired,
        &["client certificate", CERTIFICATE, "has expired"],
    );
    fault.outcome("each is refused within the operation timeout, and the error says where to look");

    let encrypted = authority.issue("alluxio", &[]);
    encrypted.encrypt_key("key password");
    let mut with_password = showing(&basic, &encrypted);
    with_password.push((KEY_PASSWORD, "key password"));
    works(&etcd, url.clone(), &with_password, 2).await;

    let fault = Fault::new(
        "mutual TLS: all certificates are exchanged, etcd is restarted",
        version,
    );
    let lease = lease_of(&etcd, 1).await;
    fs::copy(stranger.file(), &trusted).expect("copy");
    good.replace_by(&stranger.issue("alluxio", &[]));
    etcd.restart().await;
    join(&member, 3).await;
    eventually("registered", LONG, || async { is_registered(&member, 1) }).await;
    assert_eq!(lease_of(&etcd, 1).await, lease);
    fault.outcome("the new ones are used without a restart; same lease");
}

/// etcd checks its revocation list only after the handshake, and closes the connection silently.
async fn a_client_certificate_that_is_revoked(version: EtcdVersion) {
    let authority = Authority::new();
    let certificate = authority.issue("etcd", &["127.0.0.1"]);
    let (revoked, list) = authority.issue_revoked("alluxio");
    let ca = authority.file();
    let list = list.to_str().expect("UTF-8");
    let options = EtcdOptions::new(version).tls(&certificate).args(&[
        "--client-cert-auth",
        "--trusted-ca-file",
        &ca,
        "--client-crl-file",
        list,
    ]);
    let etcd = Etcd::start_with(options).await;
    let url = etcd.tls_endpoint("127.0.0.1");
    let basic = [(ENABLED, "true"), (CA, ca.as_str())];
    let fault = Fault::new("mutual TLS: a revoked client certificate", version);
    let good = authority.issue("alluxio", &[]);
    works(&etcd, url.clone(), &showing(&basic, &good), 1).await;
    let text = refusal(&url, &showing(&basic, &revoked)).await;
    says(&text, &[revoked.certificate(), CERTIFICATE, "revoked"]);
    assert!(etcd.log().contains("revoked"), "{}", etcd.log());
    fault.outcome("refused within the operation timeout, and the error says where to look");
}

/// etcd uses the common name of the client's certificate as the user.
async fn a_client_certificate_can_be_the_user(version: EtcdVersion) {
    let authority = Authority::new();
    let trusted_file = format!("--trusted-ca-file={}", authority.file());
    let options = EtcdOptions::new(version)
        .tls(&authority.issue("etcd", &["127.0.0.1"]))
        .args(&["--client-cert-auth", &trusted_file])
        .root_password("secret");
    let etcd = Etcd::start_with(options).await;
    let permissions = ["/DHT/", "/ServiceDiscovery/"]
        .map(|prefix| Permission::new(PermissionType::Readwrite, prefix).with_prefix());
    etcd.add_user("alluxio", "unused", permissions.into()).await;
    let ca = authority.file();
    let client = authority.issue("alluxio", &[]);
    let properties = showing(&[(ENABLED, "true"), (CA, ca.as_str())], &client);
    works(&etcd, etcd.tls_endpoint("127.0.0.1"), &properties, 1).await;
}

async fn a_handshake_that_does_not_end(version: EtcdVersion) {
    let authority = Authority::new();
    let certificate = authority.issue("etcd", &["127.0.0.1"]);
    let etcd = Etcd::start_with(EtcdOptions::new(version).tls(&certificate)).await;
    let ca = authority.file();
    let trusts = [(ENABLED, "true"), (CA, ca.as_str())];

    let fault = Fault::new("an endpoint stops in the TLS handshake", version);
    let silent = TcpListener::bind("127.0.0.1:0").expect("listen");
    let silent = format!("https://{}", silent.local_addr().expect("an address"));
    says(
        &refusal(&silent, &trusts).await,
        &["the TLS handshake does not finish"],
    );
    // With another endpoint that works, it costs at most one try, and no operation times out.
    let endpoints = [silent, etcd.tls_endpoint("127.0.0.1")];
    let member = open(&endpoints, &trusts);
    join(&member, 1).await;
    fault
        .outcome("alone: refused in time, and the error says it; with another endpoint: no effect");

    let fault = Fault::new("TLS connections are cut and reset", version);
    let toxiproxy = Toxiproxy::start().await;
    let proxy = toxiproxy.to_port(etcd.tls_port());
    // A slow machine must not end the lease.
    let ttl = ("alluxio.worker.failure.detection.timeout", "20s");
    let member = open(&[proxy.endpoint()], &[&trusts[..], &[ttl]].concat());
    join(&member, 2).await;
    let lease = lease_of(&etcd, 2).await;
    proxy.reset_connections();
    tokio::time::sleep(Duration::from_secs(1)).await;
    proxy.cut();
    tokio::time::sleep(Duration::from_secs(1)).await;
    proxy.heal();
    join(&member, 3).await;
    eventually("all are listed", LONG, || lists(&member, &[1, 2, 3])).await;
    assert_eq!(lease_of(&etcd, 2).await, lease);
    fault.outcome("same lease, the watch continued");
}

/// Certificates as etcd, OpenSSL and their users make them.
async fn certificates_of_every_usual_shape(version: EtcdVersion) {
    let on = (ENABLED, "true");
    let fault = Fault::new(
        "TLS: self-signed authority as server, --auto-tls, P-521, RSA 8192",
        version,
    );
    let (both, files) = Authority::that_serves(&["127.0.0.1"]);
    let etcd = Etcd::start_with(EtcdOptions::new(version).tls(&files)).await;
    let ca = both.file();
    let trusts = [on, (CA, ca.as_str())];
    works(&etcd, etcd.tls_endpoint("127.0.0.1"), &trusts, 1).await;
    let by_name = refusal(&etcd.tls_endpoint("localhost"), &trusts).await;
    says(&by_name, &["localhost", "127.0.0.1", NO_NAME_CHECK]);

    let etcd = Etcd::start_with(EtcdOptions::new(version).auto_tls()).await;
    let ca = etcd.auto_tls_certificate();
    let trusts = [on, (CA, ca.to_str().expect("UTF-8"))];
    works(&etcd, etcd.tls_endpoint("127.0.0.1"), &trusts, 1).await;

    let authority = Authority::new();
    let server = authority.issue_p_521("etcd", &["127.0.0.1"]);
    let by_openssl = made_by_openssl("authority").certificate;
    let file = |file: &Path| fs::read_to_string(file).expect("read");
    let trusted = authority.issue("trusted", &[]).certificate;
    let all = file(authority.file().as_ref()) + &file(&by_openssl);
    fs::write(&trusted, all).expect("write");
    let asks = ["--client-cert-auth", "--trusted-ca-file"];
    let options = EtcdOptions::new(version).tls(&server).args(&[
        asks[0],
        asks[1],
        trusted.to_str().expect("UTF-8"),
    ]);
    let etcd = Etcd::start_with(options).await;
    let url = etcd.tls_endpoint("127.0.0.1");
    let ca = authority.file();
    let trusts = [on, (CA, ca.as_str())];
    let p_521 = authority.issue_p_521("alluxio", &[]);
    works(&etcd, url.clone(), &showing(&trusts, &p_521), 1).await;
    let rsa = made_by_openssl("rsa-8192");
    works(&etcd, url, &showing(&trusts, &rsa), 2).await;
    fault.outcome("each works, and the name still counts");

    let fault = Fault::new("TLS: RSA 1024, an authority that has expired", version);
    let weak = Etcd::start_with(EtcdOptions::new(version).tls(&made_by_openssl("rsa-1024"))).await;
    let trusts = [on, (CA, by_openssl.to_str().expect("UTF-8"))];
    let weak = refusal(&weak.tls_endpoint("127.0.0.1"), &trusts).await;
    says(&weak, &["RSA keys of 1024 bits", "2048"]);
    assert!(!weak.contains("authority"), "{weak}");
    let expired = Authority::expired();
    let server = expired.issue("etcd", &["127.0.0.1"]);
    let etcd = Etcd::start_with(EtcdOptions::new(version).tls(&server)).await;
    let ca = expired.file();
    let trusts = [on, (CA, ca.as_str())];
    let expired = refusal(&etcd.tls_endpoint("127.0.0.1"), &trusts).await;
    says(
        &expired,
        &["CN=authority", "expired at 2021-12-31", &ca, CA],
    );
    fault.outcome("each is refused within the operation timeout, and the error says which it is");
}

async fn certificates_with_long_numbers_are_good(version: EtcdVersion) {
    let authority = Authority::new();
    let certificate = authority.issue_with_long_number("etcd", &["127.0.0.1"]);
    let ca = authority.file();
    let asks = ["--client-cert-auth", "--trusted-ca-file", &ca];
    let options = EtcdOptions::new(version).tls(&certificate).args(&asks);
    let etcd = Etcd::start_with(options).await;
    let client = authority.issue_with_long_number("worker", &[]);
    let trusts = [(ENABLED, "true"), (CA, ca.as_str())];
    let member = works(
        &etcd,
        etcd.tls_endpoint("127.0.0.1"),
        &showing(&trusts, &client),
        1,
    )
    .await;
    let found = member.inspect().await.expect("etcd answers").expect("etcd");
    let session = found.members[0].tls.as_ref().expect("TLS");
    let subject = |shown: &Option<CertificateInfo>| shown.as_ref().map(|it| it.subject.clone());
    let subjects = [&session.server, &session.client, &session.authority].map(subject);
    assert_eq!(
        subjects,
        ["CN=etcd", "CN=worker", "CN=authority"].map(|name| Some(name.to_owned()))
    );
    assert!(session.asks_for_certificate);
}

on_every_etcd!(
    certificates_of_etcd_are_checked,
    client_certificates,
    a_client_certificate_that_is_revoked,
    a_client_certificate_can_be_the_user,
    a_handshake_that_does_not_end,
    certificates_of_every_usual_shape,
    certificates_with_long_numbers_are_good,
);
