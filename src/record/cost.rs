//! The cost of one record. `scripts/instructions` counts what the functions `measured_...` execute.

use uuid::Uuid;

use super::{decode, encode};
use crate::worker::{Worker, WorkerIdentity, WorkerNetAddress};

/// A worker with what real workers have. Greater numbers have later keys.
pub(crate) fn worker(number: u32) -> Worker {
    Worker {
        identity: WorkerIdentity::V1(Uuid::from_u64_pair(number.into(), 0x5a5a)),
        address: WorkerNetAddress {
            rpc_port: 29_999,
            data_port: 29_997,
            web_port: 30_000,
            ..WorkerNetAddress::new(format!("alluxio-worker-{number:06}.example.com"))
        },
    }
}

#[inline(never)]
fn measured_decode(record: &[u8]) -> bool {
    decode(record).is_ok_and(|stored| stored.address.is_some())
}

#[inline(never)]
fn measured_encode(worker: &Worker) -> Vec<u8> {
    encode(worker)
}

#[test]
#[ignore = "for scripts/instructions"]
fn decoding() {
    let record = encode(&worker(1));
    for _ in 0..100 {
        assert!(measured_decode(&record));
    }
}

#[test]
#[ignore = "for scripts/instructions"]
fn encoding() {
    let worker = worker(1);
    for _ in 0..100 {
        assert!(!measured_encode(&worker).is_empty());
    }
}
