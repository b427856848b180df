//! Records of a size that nobody expects.

use alluxio_membership::error::ErrorKind;
use alluxio_membership::membership::JoinOptions;
use alluxio_membership::record;
use alluxio_membership::view::MemberFilter;
use alluxio_membership::worker::Worker;

use crate::common::{Etcd, EtcdVersion, eventually, on_every_etcd};
use crate::scene::{Fault, LIVE, LONG, RING, lists, open, worker};

const MIB: usize = 1 << 20;

/// A worker whose record has about this many bytes.
fn large_worker(number: i64, bytes: usize) -> Worker {
    let mut large = worker(number);
    large.address.domain_socket_path = Some("x".repeat(bytes));
    large
}

/// etcd takes requests of up to 1.5 MiB unless it is told otherwise.
async fn records_up_to_the_limit_of_etcd_work_and_larger_ones_are_refused(version: EtcdVersion) {
    let etcd = Etcd::start(version).await;
    let (member, reader) = (open(&[etcd.endpoint()], &[]), open(&[etcd.endpoint()], &[]));
    let options = JoinOptions::default();
    let fault = Fault::new("records of 1.4, 1.6 and 3 MiB", version);
    let fits = large_worker(1, 14 * MIB / 10);
    member.join(&fits, &options).await.expect("1.4 MiB fit");
    eventually("the large record is listed", LONG, || lists(&reader, &[1])).await;
    for bytes in [16 * MIB / 10, 3 * MIB] {
        let refused = member.join(&large_worker(2, bytes), &options).await;
        let error = refused.expect_err("too large");
        assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error}");
        let text = error.to_string();
        assert!(
            text.contains("--max-request-bytes (1.5 MiB by default)"),
            "{text}"
        );
    }
    let small = worker(2);
    member.join(&small, &options).await.expect("still usable");
    eventually("both are listed", LONG, || lists(&reader, &[1, 2])).await;
    fault.outcome(
        "joined and listed; refused with the limit and how to raise it; the next join works",
    );
}

/// More than fits in the first page's message, and in the next ones.
async fn records_too_large_for_a_page_are_listed_in_smaller_pages(version: EtcdVersion) {
    const COUNT: i64 = 60;
    let etcd = Etcd::start(version).await;
    let path = format!("\"DomainSocketPath\":\"{}\"", "x".repeat(14 * MIB / 10));
    for number in 1..=COUNT {
        let one = worker(number);
        let record = String::from_utf8(record::encode(&one)).expect("text");
        let large = record.replace("\"DomainSocketPath\":\"\"", &path);
        for prefix in [RING, LIVE] {
            let key = format!("{prefix}{}", one.identity);
            etcd.put(&key, large.clone()).await;
        }
    }
    let reader = open(&[etcd.endpoint()], &[]);
    let fault = Fault::new("60 records of 1.4 MiB", version);
    let view = reader.view().await.expect("a view");
    assert_eq!(view.members(MemberFilter::Live).len(), COUNT as usize);
    fault.outcome("listed, in pages of few records");
}

on_every_etcd!(records_up_to_the_limit_of_etcd_work_and_larger_ones_are_refused);
on_every_etcd!(
    #[ignore = "slow: run by make test-faults"]
    records_too_large_for_a_page_are_listed_in_smaller_pages,
);
