//! The heap that a membership needs for each worker. This program has one test only, because it
//! counts what the whole process allocates.

mod common;
#[path = "faults/scene.rs"]
#[allow(dead_code)]
mod scene;

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use alluxio_membership::view::MemberFilter;
use alluxio_membership::worker::{Worker, WorkerIdentity, WorkerNetAddress};
use uuid::Uuid;

use crate::common::{Etcd, EtcdVersion};
use crate::scene::{LONG, PATIENT, open, put_records};

/// The recorded bytes of heap for each worker. The test fails above 105 % of it.
const RECORDED: usize = 290;
/// The bytes that the project promises.
const PROMISED: usize = 400;

/// The allocated bytes.
static HELD: AtomicUsize = AtomicUsize::new(0);

struct Counting;

// SAFETY: each method passes its arguments on to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        HELD.fetch_add(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promises are those of `System`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        HELD.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promises are those of `System`.
        unsafe { System.dealloc(memory, layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        HELD.fetch_add(size, Ordering::Relaxed);
        HELD.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promises are those of `System`.
        unsafe { System.realloc(memory, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// A worker with what real workers have.
fn worker(number: usize, rpc_port: i32) -> Worker {
    Worker {
        identity: WorkerIdentity::V1(Uuid::from_u128(number as u128)),
        address: WorkerNetAddress {
            rpc_port,
            data_port: 29_997,
            web_port: 30_000,
            ..WorkerNetAddress::new(format!("alluxio-worker-{number:06}.example.com"))
        },
    }
}

async fn put(etcd: &Etcd, workers: usize, rpc_port: i32) {
    let workers = (0..workers).map(|number| worker(number, rpc_port));
    put_records(etcd, workers).await;
}

/// The allocated bytes, once they stay the same for a while.
async fn held() -> usize {
    let mut held = HELD.load(Ordering::Relaxed);
    loop {
        tokio::time::sleep(Duration::from_millis(500)).await;
        let before = std::mem::replace(&mut held, HELD.load(Ordering::Relaxed));
        if before.abs_diff(held) < 10_000 {
            return held;
        }
    }
}

/// What a reader of this many workers allocates: after the listing, and after each worker was
/// changed.
async fn reader_of(workers: usize) -> [usize; 2] {
    let etcd = Etcd::start(EtcdVersion::V3_6).await;
    put(&etcd, workers, 1).await;
    let nothing = held().await;
    let reader = open(&[etcd.endpoint()], &PATIENT);
    let mut view = reader.view().await.expect("a view");
    assert_eq!(view.members(MemberFilter::Live).len(), workers);
    let listed = held().await;

    put(&etcd, workers, 2).await;
    let is_new = |port: &Worker| port.address.rpc_port == 2;
    while !view
        .members(MemberFilter::All)
        .iter()
        .all(|it| is_new(&it.worker))
    {
        let next = reader.wait_for_change(view.version(), LONG).await;
        view = next.expect("open").expect("in time");
    }
    [listed, held().await].map(|held| held.saturating_sub(nothing))
}

#[tokio::test]
async fn a_worker_takes_few_bytes() {
    const FEW: usize = 1_000;
    const MANY: usize = 11_000;
    let (few, many) = (reader_of(FEW).await, reader_of(MANY).await);
    for (when, few, many) in [("listed", few[0], many[0]), ("changed", few[1], many[1])] {
        let bytes = many.saturating_sub(few) / (MANY - FEW);
        println!("{bytes} bytes of heap for each {when} worker; {FEW} workers take {few}");
        assert!(bytes <= PROMISED, "the promise is {PROMISED}");
        assert!(
            bytes * 100 <= RECORDED * 105,
            "recorded are {RECORDED}; if the new number is right, write it into RECORDED"
        );
    }
}
