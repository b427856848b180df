//! Reads everything once: both key ranges at one revision, in pages that suit the line.

use std::time::Duration;

use etcd_client::{
    Client, GetOptions, GetResponse, KeyValue, Txn, TxnOp, TxnOpResponse, TxnResponse,
};
use tokio::time::Instant;

use super::state::Listed;
use super::tables::{Table, Tables};
use super::{MAX_MESSAGE, getting_children};
use crate::aside::{self, Aside};
use crate::error::{Error, ErrorKind, Result};
use crate::etcd::answers;
use crate::etcd::endpoints::{Call, Endpoints, TRY_TIMEOUT};
use crate::etcd::keys::{Keys, range_end};
use crate::etcd::ring::{revision_of, term_of};
use crate::etcd::status;
use crate::log;

/// Keys of each range in the first page: about 500 kB of ordinary records for both.
const FIRST_PAGE: i64 = 1_000;
const SMALLEST_PAGE: i64 = 100;
/// About 16 MB of ordinary records of both. etcd walks the whole range for each page, so that few large ones cost it less
/// than many small ones.
const LARGEST_PAGE: i64 = 20_000;
/// What a page should take: a slow line carries a listing in small pages, where large ones would be given up and begun
/// again and again.
const PAGE_TIME: Duration = Duration::from_millis(400);

/// Lists both ranges, or the live keys alone. Each page may take up to `page_limit`.
pub(super) async fn list(
    endpoints: &Endpoints,
    keys: &Keys,
    has_ring: bool,
    page_limit: Duration,
) -> Result<Listed> {
    let pages = Pages {
        endpoints,
        keys,
        limit: page_limit,
        size: FIRST_PAGE,
        largest: LARGEST_PAGE,
    };
    loop {
        match pages.list(has_ring).await {
            Ok(listed) => return Ok(listed),
            Err(Stop::Failed(error)) => return Err(error),
            Err(Stop::Compacted) => log::info!(
                "Listing {} again: etcd was compacted between two pages",
                keys.live_prefix()
            ),
        }
    }
}

/// Why a listing ended early.
enum Stop {
    /// The revision of the first page is gone.
    Compacted,
    Failed(Error),
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Stop::Failed(error)
    }
}

/// Asks for the pages of a listing, one after another.
#[derive(Clone, Copy)]
struct Pages<'a> {
    endpoints: &'a Endpoints,
    keys: &'a Keys,
    limit: Duration,
    /// Keys in the next page.
    size: i64,
    largest: i64,
}

/// What etcd said when it was asked for a page.
enum Answer<T> {
    Page(T),
    Compacted,
    /// More than we accept in one message.
    TooLarge,
}

impl Pages<'_> {
    async fn list(mut self, has_ring: bool) -> std::result::Result<Listed, Stop> {
        let asked_at = Instant::now();
        let prefixes = [
            has_ring.then(|| self.keys.ring_prefix()),
            Some(self.keys.live_prefix()),
        ];
        // Where the next page of each range begins; `None` at its end.
        let mut next = prefixes.map(|prefix| prefix.map(|it| it.as_bytes().to_vec()));
        let mut page = self.page(prefixes, &next, 0).await?;
        let (revision, term) = (revision_of(page.header()), term_of(page.header()));
        let mut tables = Tables {
            ring: prefixes[0].map(|prefix| Table::new(prefix, revision)),
            live: Table::new(self.keys.live_prefix(), revision),
        };
        loop {
            let mut answers = page.op_responses().into_iter();
            let mut pairs = [Vec::new(), Vec::new()];
            for (pairs, next) in pairs.iter_mut().zip(&mut next) {
                if next.is_some() {
                    let mut range = page_in(answers.next())?;
                    let more = range.more();
                    *pairs = range.take_kvs();
                    *next = pairs.last().filter(|_| more).map(key_after);
                }
            }
            // Beside the reading of the next page.
            let decoding = Decoding::start(tables, pairs)?;
            if next.iter().all(Option::is_none) {
                return Ok(Listed {
                    tables: decoding.end().await?,
                    revision,
                    term,
                    asked_at,
                });
            }
            page = self.page(prefixes, &next, revision).await?;
            tables = decoding.end().await?;
        }
    }

    /// The next page of both ranges, as they were at a revision; 0 for now.
    async fn page(
        &mut self,
        prefixes: [Option<&str>; 2],
        next: &[Option<Vec<u8>>; 2],
        revision: i64,
    ) -> std::result::Result<TxnResponse, Stop> {
        self.ask(|client, size| {
            let gets = prefixes.into_iter().zip(next).filter_map(|(prefix, next)| {
                let options = GetOptions::new()
                    .with_range(range_end(prefix?))
                    .with_limit(size)
                    .with_revision(revision);
                Some(TxnOp::get(next.clone()?, Some(options)))
            });
            let gets = gets.collect::<Vec<_>>();
            let reads = gets.len();
            let txn = Txn::new().and_then(gets);
            let mut client = client.kv_client().max_decoding_message_size(MAX_MESSAGE);
            async move { answers::ranges(client.txn(txn).await?, reads) }
        })
        .await
    }

    /// Asks for a page, for smaller and smaller ones while its message is too large.
    async fn ask<T, F, Fut>(&mut self, request: F) -> std::result::Result<T, Stop>
    where
        F: Fn(Client, i64) -> Fut,
        Fut: Future<Output = std::result::Result<T, etcd_client::Error>>,
    {
        loop {
            let asked_at = Instant::now();
            let size = self.size;
            let call = Call {
                try_timeout: TRY_TIMEOUT * 2,
                ..getting_children(self.keys, asked_at + self.limit)
            };
            let answer = self
                .endpoints
                .call(&call, |client| {
                    let answer = request(client, size);
                    async move {
                        match answer.await {
                            Ok(page) => Ok(Answer::Page(page)),
                            Err(error) if status::is_compacted(&error) => Ok(Answer::Compacted),
                            Err(error) if size > 1 && status::is_answer_too_large(&error) => {
                                Ok(Answer::TooLarge)
                            }
                            Err(error) => Err(error),
                        }
                    }
                })
                .await?;
            match answer {
                Answer::Page(page) => {
                    self.size = next_size(size, asked_at.elapsed()).min(self.largest);
                    return Ok(page);
                }
                Answer::Compacted => return Err(Stop::Compacted),
                Answer::TooLarge => {
                    self.size = (size / 4).max(1);
                    self.largest = self.size * 2;
                }
            }
        }
    }
}

/// A page on its way into the tables.
enum Decoding {
    Done(Tables),
    /// On a thread of its own, where it never delays the renewals of this process.
    Beside(Aside<Tables>),
}

impl Decoding {
    fn start(mut tables: Tables, [ring, live]: [Vec<KeyValue>; 2]) -> Result<Self> {
        let is_small = ring.len() + live.len() <= 2 * FIRST_PAGE as usize;
        let add = move || {
            tables.add_page(&ring, &live);
            tables
        };
        Ok(if is_small {
            Decoding::Done(add())
        } else {
            Decoding::Beside(aside::start("reading a page of workers", add)?)
        })
    }

    async fn end(self) -> Result<Tables> {
        match self {
            Decoding::Done(tables) => Ok(tables),
            Decoding::Beside(work) => work.end().await,
        }
    }
}

fn page_in(answer: Option<TxnOpResponse>) -> Result<GetResponse> {
    match answer {
        Some(TxnOpResponse::Get(page)) => Ok(page),
        _ => Err(Error::new(
            ErrorKind::Internal,
            "etcd left a range out of its answer to a transaction",
        )),
    }
}

fn key_after(last: &KeyValue) -> Vec<u8> {
    let mut key = last.key().to_vec();
    key.push(0);
    key
}

/// How many keys the next page should have after one of this size took this long: at most eight times as many.
fn next_size(size: i64, took: Duration) -> i64 {
    let factor = (PAGE_TIME.as_secs_f64() / took.as_secs_f64()).clamp(0.25, 8.0);
    ((size as f64 * factor) as i64).clamp(SMALLEST_PAGE, LARGEST_PAGE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_suit_the_line() {
        let millis = Duration::from_millis;
        assert_eq!(next_size(500, Duration::ZERO), 4_000);
        assert_eq!(next_size(10_000, millis(20)), LARGEST_PAGE);
        assert_eq!(next_size(1_000, millis(400)), 1_000);
        assert_eq!(next_size(1_000, millis(800)), 500);
        assert_eq!(next_size(1_000, millis(10_000)), 250);
        assert_eq!(next_size(200, millis(10_000)), SMALLEST_PAGE);
    }
}
