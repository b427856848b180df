//! Lists both key ranges at one revision, in pages whose size fits the network.

use std::time::Duration;

use etcd_client::proto::{PbKeyValue, PbRangeResponse};
use etcd_client::{GetOptions, Txn, TxnOp};
use tokio::time::Instant;

use super::state::Listed;
use super::tables::{Table, Tables};
use super::{MAX_MESSAGE, getting_children};
use crate::aside::{self, Aside};
use crate::boottime::BootTime;
use crate::error::{Cause, Error, ErrorKind, Result};
use crate::etcd::answers::{self, revision_of, term_of};
use crate::etcd::endpoints::{Call, Endpoints, Purpose, TRY_TIMEOUT};
use crate::etcd::keys::{Keys, range_end};
use crate::etcd::status;

/// The number of keys of each range in the first page: about 500 kB of ordinary records for both.
const FIRST_PAGE: i64 = 1_000;
const SMALLEST_PAGE: i64 = 100;
/// About 16 MB of ordinary records of both ranges. etcd walks the whole range for each page, so a
/// few large pages cost etcd less than many small ones.
const LARGEST_PAGE: i64 = 20_000;
/// The target duration of a page. A slow network carries a listing in small pages, while large
/// pages would time out.
const PAGE_TIME: Duration = Duration::from_millis(400);
/// How often a listing is started, if etcd is compacted between two pages each time.
const ROUNDS: usize = 3;

/// Lists both ranges, or only the live keys. Each page may take up to `page_limit`.
pub(super) async fn list(
    endpoints: &Endpoints,
    keys: &Keys,
    has_ring: bool,
    page_limit: Duration,
) -> Result<Listed> {
    let mut pages = Pages::new(endpoints, keys, page_limit);
    for _ in 0..ROUNDS {
        if let Some(listed) = pages.list(has_ring, 0).await? {
            return Ok(listed);
        }
    }
    let path = keys.live_prefix().trim_end_matches('/');
    Err(Error::with_cause(
        ErrorKind::Unavailable,
        format!(
            "Exhausted retry for (Getting children for path:{path}), retries:{ROUNDS}, last \
             exception:"
        ),
        Cause {
            text: format!(
                "etcd at {endpoints} was compacted between two pages of the list, in every attempt"
            ),
            timed_out: false,
        },
    ))
}

/// Lists both ranges, or the live keys alone, as they were at a revision. Returns `None` if the
/// revision was compacted.
pub(super) async fn list_at(
    endpoints: &Endpoints,
    keys: &Keys,
    has_ring: bool,
    revision: i64,
    page_limit: Duration,
) -> Result<Option<Listed>> {
    let mut pages = Pages::new(endpoints, keys, page_limit);
    pages.list(has_ring, revision).await
}

/// Requests the pages of a listing, one after another.
struct Pages<'a> {
    endpoints: &'a Endpoints,
    keys: &'a Keys,
    limit: Duration,
    /// The number of keys in the next page.
    size: i64,
    largest: i64,
}

/// The rest of a range that is being listed.
#[derive(Clone)]
struct Rest {
    prefix: String,
    /// The first key to request.
    start: Vec<u8>,
    /// The number of keys from there on, once etcd has reported it.
    count: Option<i64>,
}

/// etcd's answer to the request for a page.
enum Page {
    /// The next keys of each range that has more, with the revision and the term of the answer.
    Keys(Vec<PbRangeResponse>, i64, u64),
    Compacted,
    /// The page exceeds the size limit of a message.
    TooLarge,
}

impl Rest {
    /// Checks that this can be a page with this maximum number of keys: its keys belong to the
    /// range and are in order, and their number fits the page's own count. The count also limits
    /// the number of pages.
    fn check(
        &self,
        page: &PbRangeResponse,
        size: i64,
        revision: i64,
    ) -> std::result::Result<(), String> {
        let len = i64::try_from(page.kvs.len()).unwrap_or(i64::MAX);
        let count = self.count.unwrap_or(page.count);
        // A gateway may ignore the limit, but then the page has all keys.
        let expected = if len == count { count } else { count.min(size) };
        if page.count != count || len != expected || page.more != (count > len) {
            return Err(format!(
                "a page of {} has {len} keys where it should have {expected} of {count}, by its \
                 count {} (more: {})",
                self.prefix, page.count, page.more
            ));
        }
        let mut least = self.start.as_slice();
        for (place, kv) in page.kvs.iter().enumerate() {
            let is_next = if place == 0 {
                *kv.key >= *least
            } else {
                *kv.key > *least
            };
            let key = || String::from_utf8_lossy(&kv.key);
            if !is_next || !kv.key.starts_with(self.prefix.as_bytes()) {
                return Err(format!("a page of {} has the key {:?}", self.prefix, key()));
            }
            if kv.create_revision > kv.mod_revision || kv.mod_revision > revision {
                return Err(format!(
                    "the key {:?} was created at revision {} and written at {}, in an answer of \
                     {revision}",
                    key(),
                    kv.create_revision,
                    kv.mod_revision
                ));
            }
            least = &kv.key;
        }
        Ok(())
    }

    /// Returns the rest after this page, or nothing after the last page.
    fn after(&self, page: &PbRangeResponse) -> Option<Rest> {
        let last = page.kvs.last().filter(|_| page.more)?;
        let len = i64::try_from(page.kvs.len()).unwrap_or(i64::MAX);
        Some(Rest {
            prefix: self.prefix.clone(),
            start: [&*last.key, &[0]].concat(),
            count: Some(page.count - len),
        })
    }
}

impl<'a> Pages<'a> {
    fn new(endpoints: &'a Endpoints, keys: &'a Keys, limit: Duration) -> Self {
        Pages {
            endpoints,
            keys,
            limit,
            size: FIRST_PAGE,
            largest: LARGEST_PAGE,
        }
    }

    /// Lists the ranges at a revision, or as they are with 0. Returns `None` if etcd compacted the
    /// revision.
    async fn list(&mut self, has_ring: bool, at: i64) -> Result<Option<Listed>> {
        let asked_at = BootTime::now();
        let rest = |prefix: &str| {
            Some(Rest {
                prefix: prefix.into(),
                start: prefix.into(),
                count: None,
            })
        };
        let mut left = [
            has_ring.then(|| rest(self.keys.ring_prefix())).flatten(),
            rest(self.keys.live_prefix()),
        ];
        let mut tables = Tables {
            ring: has_ring.then(|| Table::new(self.keys.ring_prefix())),
            live: Table::new(self.keys.live_prefix()),
        };
        let Some((mut answers, newest, term)) = self.page(&left, at).await? else {
            return Ok(None);
        };
        let revision = if at == 0 { newest } else { at };
        loop {
            let mut pairs = [Vec::new(), Vec::new()];
            let mut pages = answers.into_iter();
            for (pairs, left) in pairs.iter_mut().zip(&mut left) {
                if let Some(rest) = left
                    && let Some(page) = pages.next()
                {
                    *left = rest.after(&page);
                    *pairs = page.kvs;
                }
            }
            // Decodes while the next page is read.
            let decoding = Decoding::start(tables, pairs)?;
            if left.iter().all(Option::is_none) {
                return Ok(Some(Listed {
                    tables: decoding.end().await?,
                    revision,
                    term,
                    asked_at,
                }));
            }
            let Some((next, ..)) = self.page(&left, revision).await? else {
                return Ok(None);
            };
            answers = next;
            tables = decoding.end().await?;
        }
    }

    /// Requests the next page of the ranges, at a revision, or now with 0. Requests smaller pages
    /// while the message is too large. Returns `None` if the revision was compacted.
    async fn page(
        &mut self,
        left: &[Option<Rest>; 2],
        revision: i64,
    ) -> Result<Option<(Vec<PbRangeResponse>, i64, u64)>> {
        loop {
            let (size, asked_at) = (self.size, Instant::now());
            let call = Call {
                try_timeout: TRY_TIMEOUT * 2,
                // Pages after the first may be large, and watches must not wait behind them.
                purpose: match revision {
                    0 => Purpose::Requests,
                    _ => Purpose::Listings,
                },
                ..getting_children(self.keys, asked_at + self.limit)
            };
            let page = self
                .endpoints
                .call(&call, |client| ask(client, left, size, revision))
                .await?;
            match page {
                Page::Keys(pages, revision, term) => {
                    self.size = next_size(size, asked_at.elapsed()).min(self.largest);
                    return Ok(Some((pages, revision, term)));
                }
                Page::Compacted => return Ok(None),
                Page::TooLarge => {
                    self.size = (size / 4).max(1);
                    self.largest = self.size * 2;
                }
            }
        }
    }
}

async fn ask(
    client: etcd_client::Client,
    left: &[Option<Rest>; 2],
    size: i64,
    revision: i64,
) -> std::result::Result<Page, etcd_client::Error> {
    let left: Vec<&Rest> = left.iter().flatten().collect();
    let get = |rest: &&Rest| {
        let options = GetOptions::new()
            .with_range(range_end(&rest.prefix))
            .with_limit(size)
            .with_revision(revision);
        TxnOp::get(rest.start.clone(), Some(options))
    };
    let txn = Txn::new().and_then(left.iter().map(get).collect::<Vec<_>>());
    let mut client = client.kv_client().max_decoding_message_size(MAX_MESSAGE);
    let answer = match client.txn(txn).await {
        Ok(answer) => answer,
        Err(error) if status::is_compacted(&error) => return Ok(Page::Compacted),
        Err(error) if size > 1 && status::is_answer_too_large(&error) => return Ok(Page::TooLarge),
        Err(error) => return Err(error),
    };
    let (revision, term) = (revision_of(answer.header()), term_of(answer.header()));
    let pages = answers::take_ranges(answer, left.len())?;
    for (rest, page) in left.iter().zip(&pages) {
        rest.check(page, size, revision)
            .map_err(status::wrong_answer)?;
    }
    Ok(Page::Keys(pages, revision, term))
}

/// The decoding of a page into the tables.
enum Decoding {
    Done(Tables),
    /// On its own thread, so that it does not delay the renewals of this process.
    Beside(Aside<Tables>),
}

impl Decoding {
    fn start(mut tables: Tables, [ring, live]: [Vec<PbKeyValue>; 2]) -> Result<Self> {
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

/// Returns the number of keys for the next page, after a page of this size took this long. It grows
/// at most eight times.
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

    fn page(keys: &[&str], count: i64, more: bool) -> PbRangeResponse {
        let kv = |key: &&str| PbKeyValue {
            key: key.as_bytes().to_vec(),
            ..PbKeyValue::default()
        };
        PbRangeResponse {
            header: None,
            kvs: keys.iter().map(kv).collect(),
            more,
            count,
        }
    }

    #[test]
    fn a_page_that_contradicts_itself_is_not_believed() {
        let first = Rest {
            prefix: "/l/".into(),
            start: b"/l/".to_vec(),
            count: None,
        };
        let whole = page(&["/l/a", "/l/b"], 2, false);
        assert_eq!(first.check(&whole, 2, 10), Ok(()));
        assert!(first.after(&whole).is_none());
        let more_than_asked_for = page(&["/l/a", "/l/b", "/l/c"], 3, false);
        assert_eq!(first.check(&more_than_asked_for, 2, 10), Ok(()));
        let half = page(&["/l/a", "/l/b"], 3, true);
        assert_eq!(first.check(&half, 2, 10), Ok(()));
        let second = first.after(&half).expect("another page");
        assert_eq!(second.check(&page(&["/l/c"], 1, false), 2, 10), Ok(()));
        for (wrong, what) in [
            (page(&[], 7, true), "more without keys"),
            (page(&["/l/a", "/l/b"], 7, false), "fewer than the count"),
            (page(&["/l/a"], 7, true), "fewer than asked for"),
            (
                page(&["/l/a", "/l/b", "/l/c"], 4, true),
                "more than asked for, and not all",
            ),
            (page(&["/l/a", "/x"], 2, false), "a key of another range"),
            (page(&["/l/b", "/l/a"], 2, false), "no order"),
            (page(&["/l/a"], 0, false), "more than the count"),
        ] {
            assert!(first.check(&wrong, 2, 10).is_err(), "{what}");
        }
        for (wrong, what) in [
            (page(&["/l/a", "/l/b"], 3, true), "the same page again"),
            (page(&["/l/c", "/l/d"], 3, true), "a range that grows"),
        ] {
            assert!(second.check(&wrong, 2, 10).is_err(), "{what}");
        }
    }
}
