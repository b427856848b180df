//! One renewal of a lease: a message on a stream that is kept from one renewal to the next.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use etcd_client::{LeaseKeepAliveStream, LeaseKeeper};
use tokio::time::{Instant, timeout};

use super::session::Lease;
use crate::etcd::endpoints::{Endpoint, Endpoints, Purpose};
use crate::etcd::status::{self, Failure};

/// An open stream on which the last renewal was answered.
pub(crate) struct RenewalStream {
    endpoint: Arc<Endpoint>,
    lease: i64,
    keeper: LeaseKeeper,
    answers: LeaseKeepAliveStream,
}

/// What a renewal found out.
pub(crate) enum Renewal {
    /// The lease is alive; its time counts from `sent_at`.
    Renewed {
        sent_at: Instant,
        stream: Box<RenewalStream>,
    },
    /// The lease does not exist.
    Gone,
    /// No answer about the lease.
    Failed { reason: String },
}

/// A renewal up to the time when another one is to be sent.
pub(crate) enum Sent {
    Ended(Renewal),
    /// No answer yet, and the endpoint was quarantined; a late answer still counts.
    Silent(Pin<Box<dyn Future<Output = Renewal> + Send>>),
}

/// Sends one renewal and waits for its answer, for `patience` here and until `limit` in all.
///
/// An endpoint that is silent for `patience` is quarantined, so that the next renewal goes elsewhere. A stream that did not
/// answer is never used again: it may stay silent for good.
pub(crate) async fn renew(
    endpoints: Arc<Endpoints>,
    stream: Option<Box<RenewalStream>>,
    lease: Lease,
    patience: Duration,
    limit: Duration,
) -> Sent {
    let sent_at = Instant::now();
    let stream = stream.filter(|stream| stream.lease == lease.id);
    let endpoint = match &stream {
        Some(stream) => stream.endpoint.clone(),
        None => endpoints.pick(Purpose::Renewals),
    };
    let asked = endpoint.clone();
    let mut exchange = Box::pin(async move {
        match stream {
            Some(stream) => timeout(limit, stream.send(sent_at))
                .await
                .unwrap_or_else(|_| Renewal::Failed {
                    reason: format!("no answer within {} ms", limit.as_millis()),
                }),
            None => open(&asked, lease.id, sent_at, limit).await,
        }
    });
    if let Ok(renewal) = timeout(patience, &mut exchange).await {
        return Sent::Ended(renewal);
    }
    endpoint.connection.give_up(Purpose::Renewals);
    let reason = format!("no answer to a renewal within {} ms", patience.as_millis());
    endpoint.quarantine(Purpose::Renewals, &endpoint.no_answer(reason));
    Sent::Silent(exchange)
}

async fn open(endpoint: &Arc<Endpoint>, lease: i64, sent_at: Instant, limit: Duration) -> Renewal {
    let opened = endpoint
        .attempt(Purpose::Renewals, limit, |client| async move {
            match client.lease_client().keep_alive(lease).await {
                Ok(stream) => Ok(Some(stream)),
                Err(error) if status::is_lease_not_found(&error) => Ok(None),
                Err(error) => Err(error),
            }
        })
        .await;
    match opened {
        Ok(Some((keeper, answers))) => Renewal::Renewed {
            sent_at,
            stream: Box::new(RenewalStream {
                endpoint: endpoint.clone(),
                lease,
                keeper,
                answers,
            }),
        },
        Ok(None) => Renewal::Gone,
        Err(error) => Renewal::Failed {
            reason: error.cause.text,
        },
    }
}

impl RenewalStream {
    async fn send(mut self, sent_at: Instant) -> Renewal {
        let answer = async {
            self.keeper.keep_alive().await?;
            self.answers.message().await
        };
        match answer.await {
            Ok(Some(answer)) if answer.ttl() > 0 => Renewal::Renewed {
                sent_at,
                stream: Box::new(self),
            },
            Ok(Some(_)) => Renewal::Gone,
            Ok(None) => self.failed(&status::wrong_answer("etcd closed the stream of renewals")),
            Err(error) if status::is_lease_not_found(&error) => Renewal::Gone,
            Err(error) => self.failed(&error),
        }
    }

    fn failed(&self, error: &etcd_client::Error) -> Renewal {
        let error = self.endpoint.try_error(error);
        match error.failure {
            Failure::Token => self.endpoint.connection.forget_token(),
            Failure::Endpoint => self.endpoint.quarantine(Purpose::Renewals, &error),
            _ => {}
        }
        Renewal::Failed {
            reason: error.cause.text,
        }
    }
}
