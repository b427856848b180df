//! The stored record: `alluxio.membership.WorkerServiceEntity` as JSON.

#[cfg(test)]
pub(crate) mod cost;
mod decode;
mod encode;
#[cfg(test)]
pub(crate) mod golden;
mod lenient_json;

pub use decode::{StoredRecord, decode};
pub use encode::encode;
