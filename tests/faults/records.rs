//! Unusual records: large ones, and bad ones.

use alluxio_membership::error::ErrorKind;
use alluxio_membership::membership::JoinOptions;
use alluxio_membership::record;
use alluxio_membership::view::MemberFilter;
use alluxio_membership::worker::Worker;

use crate::common::{Etcd, EtcdVersion, eventually, on_every_etcd};
use crate::scene::{Fault, LIVE, LONG, PATIENT, RING, lists, numbers, open, put_workers, worker};

const MIB: usize = 1 << 20;

/// A worker with a record of about this many bytes.
fn large_worker(number: i64, bytes: usize) -> Worker {
    let mut large = worker(number);
    large.address.domain_socket_path = Some("x".repeat(bytes));
    large
}

/// etcd accepts requests of up to 1.5 MiB by default.
async fn records_up_to_the_limit_of_etcd_work_and_larger_ones_are_refused(version: EtcdVersion) {
    let etcd = Etcd::start(version).await;
    let open = || open(&[etcd.endpoint()], &PATIENT);
    let (member, reader) = (open(), open());
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

/// More than the messages of the first page and of the next pages can hold.
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
    // 168 MB.
    let reader = open(&[etcd.endpoint()], &PATIENT);
    let fault = Fault::new("60 records of 1.4 MiB", version);
    let view = reader.view().await.expect("a view");
    assert_eq!(view.members(MemberFilter::Live).len(), COUNT as usize);
    fault.outcome("listed, in pages of few records");
}

/// The library does not keep the earlier record: a bad ring key removes the worker from all
/// workers, and a bad live key removes it from the live workers, as if the key were deleted. The
/// key is listed as skipped until its value is usable again.
async fn a_known_record_becomes_bad(version: EtcdVersion) {
    let etcd = Etcd::start(version).await;
    put_workers(&etcd, 1..4).await;
    let reader = open(&[etcd.endpoint()], &PATIENT);
    eventually("all are listed", LONG, || lists(&reader, &[1, 2, 3])).await;
    let second = worker(2);
    let fault = Fault::new("the record of a known worker becomes bad", version);
    let bad_values: [&[u8]; 4] = [b"", b"{", b"{}", &[0xff, 0x00]];
    for bad in bad_values {
        for (prefix, filter) in [(LIVE, MemberFilter::Live), (RING, MemberFilter::All)] {
            let key = format!("{prefix}{}", second.identity);
            etcd.put(&key, bad).await;
            eventually("the bad record is skipped", LONG, || async {
                let view = reader.view().await;
                view.is_ok_and(|view| !view.skipped().is_empty())
            })
            .await;
            let view = reader.view().await.expect("a view");
            let skipped: Vec<&str> = view.skipped().iter().map(|it| it.key.as_str()).collect();
            assert_eq!(skipped, [key.as_str()]);
            assert!(!view.skipped()[0].reason.is_empty());
            for listed in [MemberFilter::All, MemberFilter::Live] {
                let expected: &[i64] = if listed == filter {
                    &[1, 3]
                } else {
                    &[1, 2, 3]
                };
                assert_eq!(numbers(&view, listed), expected, "{listed:?}");
            }
            let is_lost = filter == MemberFilter::Live;
            let failed: &[i64] = if is_lost { &[2] } else { &[] };
            assert_eq!(numbers(&view, MemberFilter::Lost), failed);

            etcd.put(&key, record::encode(&second)).await;
            eventually("the corrected record is listed", LONG, || async {
                let view = reader.view().await;
                view.is_ok_and(|view| {
                    view.skipped().is_empty() && numbers(&view, filter) == [1, 2, 3]
                })
            })
            .await;
        }
    }
    let counters = reader.status().expect("open").view_counters;
    assert_eq!(counters.listings, 1, "{counters:?}");
    fault.outcome(
        "its key counts as deleted and is listed as skipped, the others are unaffected; listed \
         again when corrected",
    );
}

on_every_etcd!(
    records_up_to_the_limit_of_etcd_work_and_larger_ones_are_refused,
    a_known_record_becomes_bad,
);
on_every_etcd!(
    #[ignore = "slow: run by make test-faults"]
    records_too_large_for_a_page_are_listed_in_smaller_pages,
);
