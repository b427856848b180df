//! Reads answers of etcd, and checks them before they are used. An incomplete answer is the fault
//! of its endpoint.

use etcd_client::proto::{PbRangeResponse, PbTxnOpResponse};
use etcd_client::{
    Event, EventType, GetResponse, KeyValue, ResponseHeader, TxnOpResponse, TxnResponse,
};

use super::status::wrong_answer;

/// Returns the answer to a transaction if it has a header and an answer for each operation.
///
/// [`TxnResponse::op_responses`] panics at an operation without an answer.
pub(crate) fn complete(answer: TxnResponse) -> Result<TxnResponse, etcd_client::Error> {
    if answer.header().is_none() {
        return Err(wrong_answer(
            "its answer to a transaction has no header, so it is not etcd",
        ));
    }
    let operations = &answer.0.responses;
    match operations.iter().all(|it| it.response.is_some()) {
        true => Ok(answer),
        false => Err(wrong_answer(
            "its answer to a transaction lacks the answer to an operation",
        )),
    }
}

/// Returns the answer to a transaction with this number of reads, if it has a range for each of
/// them.
pub(crate) fn ranges(answer: TxnResponse, reads: usize) -> Result<TxnResponse, etcd_client::Error> {
    let answer = complete(answer)?;
    let is_range = |it: &Option<_>| matches!(it, Some(PbTxnOpResponse::ResponseRange(_)));
    let ranges = answer
        .0
        .responses
        .iter()
        .filter(|it| is_range(&it.response));
    match ranges.count() == reads && answer.0.responses.len() == reads {
        true => Ok(answer),
        false => Err(wrong_answer("its answer to a transaction lacks a range")),
    }
}

/// Takes the ranges out of such an answer, in the order of the reads, without a copy.
pub(crate) fn take_ranges(
    answer: TxnResponse,
    reads: usize,
) -> Result<Vec<PbRangeResponse>, etcd_client::Error> {
    let operations = ranges(answer, reads)?.0.responses.into_iter();
    let ranges = operations.filter_map(|it| match it.response {
        Some(PbTxnOpResponse::ResponseRange(range)) => Some(range),
        _ => None,
    });
    Ok(ranges.collect())
}

/// Returns the answer to a read of a range of keys, if it contains only keys of the range, in their
/// order.
pub(crate) fn keys_between(
    answer: GetResponse,
    from: &[u8],
    end: &[u8],
) -> Result<GetResponse, etcd_client::Error> {
    let keys = || answer.kvs().iter().map(|kv| kv.key());
    let are_inside = keys().all(|key| key >= from && key < end);
    let are_in_order = keys().zip(keys().skip(1)).all(|(key, next)| key < next);
    match are_inside && are_in_order && answer.count() >= 0 {
        true => Ok(answer),
        false => Err(wrong_answer(
            "its answer has keys that were not requested, or that are not in order",
        )),
    }
}

/// Returns the first key of a get in a transaction's answer.
pub(crate) fn first_key(response: TxnOpResponse) -> Option<KeyValue> {
    match response {
        TxnOpResponse::Get(mut get) => get.take_kvs().into_iter().next(),
        _ => None,
    }
}

/// Returns the revision of an answer, or 0 if the answer has no header.
pub(crate) fn revision_of(header: Option<&ResponseHeader>) -> i64 {
    header.map_or(0, |header| header.revision())
}

/// Returns the term of the leader, as the answering member knew it. The term of a cluster never
/// goes back.
pub(crate) fn term_of(header: Option<&ResponseHeader>) -> u64 {
    header.map_or(0, |header| header.raft_term())
}

/// Returns the kind of an event, or `None` for a kind that no etcd sends. [`Event::event_type`]
/// panics at an unknown kind.
pub(crate) fn kind_of(event: &Event) -> Option<EventType> {
    EventType::try_from(event.0.r#type).ok()
}

#[cfg(test)]
mod tests {
    use etcd_client::proto::{PbEvent, PbKeyValue, PbResponseHeader, PbResponseOp, PbTxnResponse};

    use super::*;

    fn txn(operations: Vec<Option<PbTxnOpResponse>>) -> TxnResponse {
        let responses = operations.into_iter();
        TxnResponse(PbTxnResponse {
            header: Some(PbResponseHeader::default()),
            succeeded: true,
            responses: responses
                .map(|response| PbResponseOp { response })
                .collect(),
        })
    }

    fn range() -> Option<PbTxnOpResponse> {
        Some(PbTxnOpResponse::ResponseRange(PbRangeResponse::default()))
    }

    #[test]
    fn transactions_without_content_are_refused() {
        assert!(complete(txn(vec![range()])).is_ok());
        assert!(complete(txn(vec![range(), None])).is_err());
        assert!(complete(TxnResponse(PbTxnResponse::default())).is_err());
        assert!(ranges(txn(vec![range(), range()]), 2).is_ok());
        assert!(ranges(txn(vec![range()]), 2).is_err());
        assert!(ranges(txn(vec![range(), range(), range()]), 2).is_err());
        let put = Some(PbTxnOpResponse::ResponsePut(Default::default()));
        assert!(ranges(txn(vec![range(), put]), 2).is_err());
    }

    #[test]
    fn keys_outside_the_range_are_refused() {
        let answer = |keys: &[&str]| {
            let kvs = keys.iter().map(|key| PbKeyValue {
                key: key.as_bytes().to_vec(),
                ..PbKeyValue::default()
            });
            GetResponse(PbRangeResponse {
                kvs: kvs.collect(),
                ..PbRangeResponse::default()
            })
        };
        let between = |keys: &[&str]| keys_between(answer(keys), b"/DHT/", b"/DHT0").is_ok();
        assert!(between(&[]) && between(&["/DHT/"]) && between(&["/DHT/a", "/DHT/b"]));
        for keys in [
            &["/"][..],
            &["/DHT0"],
            &["x"],
            &["/DHT/b", "/DHT/a"],
            &["/DHT/a", "/DHT/a"],
        ] {
            assert!(!between(keys), "{keys:?}");
        }
    }

    #[test]
    fn unknown_events_have_no_kind() {
        let kind = |number| {
            kind_of(&Event(PbEvent {
                r#type: number,
                ..PbEvent::default()
            }))
        };
        assert_eq!(kind(0), Some(EventType::Put));
        assert_eq!(kind(1), Some(EventType::Delete));
        assert_eq!(kind(7), None);
    }
}
