//! One renewal of a lease: a message on a stream, which is kept for the next renewal.

use std::sync::Arc;
use std::time::Duration;

use etcd_client::{LeaseKeepAliveStream, LeaseKeeper};
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::session::{Event, Lease};
use crate::boottime::BootTime;
use crate::etcd::endpoints::{Endpoint, Endpoints, Purpose};
use crate::etcd::status::{self, Failure};

/// An open stream that answered the last renewal.
struct RenewalStream {
    endpoint: Arc<Endpoint>,
    lease: i64,
    keeper: LeaseKeeper,
    answers: LeaseKeepAliveStream,
}

/// Sends the renewals of one registration.
#[derive(Clone)]
pub(super) struct Renewals {
    endpoints: Arc<Endpoints>,
    /// The stream of the last answered renewal, while it is unused.
    idle: Arc<Mutex<Option<Box<RenewalStream>>>>,
    /// The channel for [`Event::RenewalSilent`].
    events: mpsc::UnboundedSender<Event>,
}

/// Why a renewal did not succeed.
enum Problem {
    /// The lease does not exist.
    Gone,
    /// No answer about the lease, with the reason.
    Failed(String),
}

impl Renewals {
    pub(super) fn new(endpoints: Arc<Endpoints>, events: mpsc::UnboundedSender<Event>) -> Self {
        Renewals {
            endpoints,
            idle: Arc::default(),
            events,
        }
    }

    /// Sends one renewal and waits for its answer until `limit`. Reports if there is no answer
    /// after `patience`.
    ///
    /// An endpoint that is silent for `patience` is quarantined, so that the next renewal uses
    /// another endpoint. A stream without an answer is never used again, because it may stay
    /// silent.
    pub(super) async fn renew(self, lease: Lease, patience: Duration, limit: Duration) -> Event {
        let sent_at = BootTime::now();
        let lease = lease.id;
        let stream = self.idle.lock().take();
        let stream = stream.filter(|stream| stream.lease == lease);
        let endpoint = match &stream {
            Some(stream) => stream.endpoint.clone(),
            None => self.endpoints.pick(Purpose::Renewals),
        };
        let asked = endpoint.clone();
        let mut exchange = Box::pin(async move {
            match stream {
                Some(stream) => timeout(limit, stream.send()).await.unwrap_or_else(|_| {
                    let limit = limit.as_millis();
                    Err(Problem::Failed(format!("no answer within {limit} ms")))
                }),
                None => open(&asked, lease, limit).await,
            }
        });
        let answered = match timeout(patience, &mut exchange).await {
            Ok(answered) => answered,
            Err(_) => {
                endpoint.connection.give_up(Purpose::Renewals);
                let reason = format!("no answer to a renewal within {} ms", patience.as_millis());
                endpoint.quarantine(Purpose::Renewals, &endpoint.no_answer(reason));
                // The receiver is gone when the registration ends, which also ends this renewal.
                let _ = self.events.send(Event::RenewalSilent { lease });
                exchange.await
            }
        };
        match answered {
            Ok(stream) => {
                self.idle.lock().replace(stream);
                Event::Renewed { lease, sent_at }
            }
            Err(Problem::Gone) => Event::LeaseGone { lease },
            Err(Problem::Failed(reason)) => Event::RenewalFailed { lease, reason },
        }
    }
}

async fn open(
    endpoint: &Arc<Endpoint>,
    lease: i64,
    limit: Duration,
) -> Result<Box<RenewalStream>, Problem> {
    let opened = endpoint
        .attempt(Purpose::Renewals, limit, |client| async move {
            match client.lease_client().keep_alive(lease).await {
                Ok((keeper, _)) if keeper.id() != lease => Err(another_lease()),
                Ok(stream) => Ok(Some(stream)),
                Err(error) if status::is_lease_not_found(&error) => Ok(None),
                Err(error) => Err(error),
            }
        })
        .await;
    match opened {
        Ok(Some((keeper, answers))) => Ok(Box::new(RenewalStream {
            endpoint: endpoint.clone(),
            lease,
            keeper,
            answers,
        })),
        Ok(None) => Err(Problem::Gone),
        Err(error) => Err(Problem::Failed(error.cause.text)),
    }
}

fn another_lease() -> etcd_client::Error {
    status::wrong_answer("its answer to a renewal is about another lease")
}

impl RenewalStream {
    /// Returns the stream after it has answered.
    async fn send(mut self: Box<Self>) -> Result<Box<Self>, Problem> {
        let answer = async {
            self.keeper.keep_alive().await?;
            self.answers.message().await
        };
        match answer.await {
            Ok(Some(answer)) if answer.id() != self.lease => Err(self.failed(&another_lease())),
            Ok(Some(answer)) if answer.ttl() > 0 => Ok(self),
            Ok(Some(_)) => Err(Problem::Gone),
            Ok(None) => {
                Err(self.failed(&status::wrong_answer("etcd closed the stream of renewals")))
            }
            Err(error) if status::is_lease_not_found(&error) => Err(Problem::Gone),
            Err(error) => Err(self.failed(&error)),
        }
    }

    fn failed(&self, error: &etcd_client::Error) -> Problem {
        let error = self.endpoint.try_error(error);
        match error.failure {
            Failure::Token => self.endpoint.connection.forget_token(),
            Failure::Endpoint => self.endpoint.quarantine(Purpose::Renewals, &error),
            _ => {}
        }
        Problem::Failed(error.cause.text)
    }
}
