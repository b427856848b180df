//! The ring keys, which list the workers of the cluster, live or not.

use etcd_client::{Compare, CompareOp, DeleteOptions, Txn, TxnOp};
use tokio::time::Instant;

use super::answers::revision_of;
use super::endpoints::{Call, Endpoints};
use super::keys::Keys;
use crate::error::{Cause, Error, ErrorKind, Result};
use crate::record::{self, StoredRecord};
use crate::worker::{Worker, WorkerIdentity, WorkerNetAddress};

/// Fails unless the record under the worker's ring key equals the worker's record, apart from
/// optional fields.
pub(crate) fn check_same_worker(key: &str, existing: &[u8], worker: &Worker) -> Result<()> {
    let StoredRecord {
        identity,
        address,
        service_entity_name,
    } = record::decode(existing).map_err(|reason| {
        Error::with_cause(
            ErrorKind::Corrupt,
            format!("Existing WorkerServiceEntity for path:{key} corrupted"),
            Cause {
                text: format!("({reason}); remove the key, then join again"),
                timed_out: false,
            },
        )
    })?;
    let same_address =
        |existing: &WorkerNetAddress| existing.equals_ignoring_optional_fields(&worker.address);
    if identity == Some(worker.identity)
        && service_entity_name.as_deref() == Some(worker.identity.to_string().as_str())
        && address.as_ref().is_some_and(same_address)
    {
        return Ok(());
    }
    let shown = |text: Option<String>| text.unwrap_or_else(|| "null".into());
    Err(Error::new(
        ErrorKind::AlreadyExists,
        format!(
            "Some other member with same id registered on the ring, bail.\
             Conflicting worker addr:{}, worker identity:{}.\
             Different workers can't assume same worker identity in non-k8s env,\
             clean local worker identity settings to continue.",
            shown(address.map(|address| address.to_string())),
            shown(identity.map(|identity| identity.to_string())),
        ),
    ))
}

/// Removes a lost worker from the ring, in one transaction. A worker that came back meanwhile keeps
/// its key. Returns a revision at which the key is gone.
pub(crate) async fn remove(
    endpoints: &Endpoints,
    keys: &Keys,
    identity: &WorkerIdentity,
    deadline: Instant,
) -> Result<i64> {
    let ring_key = keys.ring_key(identity);
    let live_key = keys.live_key(identity);
    let call = Call::new(format!("Delete for path:{ring_key}"), deadline);
    let txn = Txn::new()
        .when([Compare::version(live_key.as_str(), CompareOp::Equal, 0)])
        .and_then([TxnOp::delete(ring_key.as_str(), Some(DeleteOptions::new()))]);
    let answer = endpoints.commit(&call, txn).await?;
    if answer.succeeded() {
        Ok(revision_of(answer.header()))
    } else {
        Err(running_worker(identity))
    }
}

/// The error for removing a live worker, in Alluxio's words.
pub(crate) fn running_worker(identity: &WorkerIdentity) -> Error {
    Error::new(
        ErrorKind::InvalidArgument,
        format!("Can't remove running worker: {identity}, stop the worker before removing"),
    )
}

/// The error for removing a worker that is not on the ring, in Alluxio's words.
pub(crate) fn unknown_worker(identity: &WorkerIdentity) -> Error {
    Error::new(
        ErrorKind::InvalidArgument,
        format!("Unrecognized or non-existing worker: {identity}"),
    )
}
