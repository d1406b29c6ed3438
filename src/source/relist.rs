//! Lists again what the service still has, for `verify`, and compares it with the books.
//!
//! Through the same listing as a run: the same bounds of cells, the same check of addresses, the same idea of
//! when a listing is whole. Comes in: a tenant and what the state knows of it. Goes out: an account. Writes
//! nothing: the listing keeps its notes in a state that is in memory only. Starts no subscription, fetches no blob.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::connections::{Connections, Transport};
use super::grid::{FIRST_START_MARGIN, Listing, RETENTION, cell_of};
use super::listing::list;
use crate::clock::{Clock, Seconds};
use crate::config::{CollectConfig, TenantConfig};
use crate::feed::{ContentType, Feed, FeedKey};
use crate::http::HttpClient;
use crate::metrics::Metrics;
use crate::state::{CELL, ContentKey, FeedProgress, ListedBlob, State};

/// A blob that was listed so long ago and is still not known will not come by itself.
const OVERDUE: Seconds = 3600;

/// One cell as the service lists it now.
#[derive(Clone, Debug)]
pub struct Relisted {
    pub cell: Seconds,
    pub blobs: Vec<ListedBlob>,
}

/// All cells of a feed, or why they could not be listed.
#[derive(Debug)]
pub struct RelistedFeed {
    pub content_type: ContentType,
    /// Server time of the listing.
    pub at: Seconds,
    pub cells: Result<Vec<Relisted>, String>,
}

/// What became of the blobs that the service lists, by the books.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Account {
    /// Blobs the service lists now.
    pub listed: u64,
    pub settled: u64,
    pub pending: u64,
    /// Given up, named in the ledger.
    pub lost: u64,
    /// Of hours that are closed: all their blobs were done then, and are no longer known one by one.
    pub closed: u64,
    /// Newer than our last listing of their hour: the next one names them.
    pub not_yet_listed: u64,
    /// Listed, and not in our books.
    pub unknown: u64,
    /// The unknown ones by name, at most [`Account::NAMED`].
    pub unknown_blobs: Vec<UnknownBlob>,
    /// In our books of hours that are open, and no longer listed.
    pub no_longer_listed: u64,
    /// Seconds of these days that the service refused to list as too old.
    pub refused_seconds: u64,
}

/// A blob that is listed and not known.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct UnknownBlob {
    pub content_id: String,
    pub created_ms: i64,
    pub cell: Seconds,
}

impl Account {
    pub const NAMED: usize = 1000;

    /// Whether something of these days is missing.
    pub fn has_gap(&self) -> bool {
        self.unknown > 0 || self.lost > 0 || self.refused_seconds > 0
    }
}

/// Lists the last 7 days of all feeds of a tenant again; `from`: where collection of a feed began.
pub async fn relist(
    collect: &CollectConfig,
    config: &TenantConfig,
    clock: &Clock,
    http: HttpClient,
    metrics: &Arc<Metrics>,
    from: &HashMap<ContentType, Seconds>,
) -> Vec<RelistedFeed> {
    let client = super::client(collect, config, clock, &Connections::new(Transport::Network(http)), metrics);
    // Also teaches the server's clock before the first hour is chosen.
    let reached = client.subscriptions().await.map(drop).map_err(|error| error.to_string());
    let feeds = config.content_types.iter().map(|content_type| {
        let (client, reached) = (&client, reached.clone());
        async move {
            let at = client.server_clock.now();
            let feed = Feed { tenant: Arc::clone(&config.tenant), content_type: *content_type };
            let begun = from.get(content_type).copied().unwrap_or(Seconds::MIN);
            let cells = match reached {
                Ok(()) => relist_feed(client, &feed, begun, at, metrics).await,
                Err(text) => Err(text),
            };
            RelistedFeed { content_type: *content_type, at, cells }
        }
    });
    futures_util::future::join_all(feeds).await
}

async fn relist_feed(
    client: &super::client::Client,
    feed: &Feed,
    begun: Seconds,
    now: Seconds,
    metrics: &Arc<Metrics>,
) -> Result<Vec<Relisted>, String> {
    // Whole cells only: with other bounds the service would cut other blobs.
    let edge = cell_of(now - RETENTION + FIRST_START_MARGIN) + CELL;
    let mut cell = edge.max(if begun == Seconds::MIN { edge } else { cell_of(begun) });
    let mut cells = Vec::new();
    while cell <= now {
        let scratch = State::detached(Arc::clone(metrics)).feed(&feed.key());
        let listing = Listing { cell, from: cell, to: cell + CELL, last: false };
        list(client, &scratch, feed.content_type, listing, |_| {}).await.map_err(|error| error.to_string())?;
        let blobs = scratch.read(|seen| seen.pending.values().map(|pending| pending.blob.clone()).collect());
        cells.push(Relisted { cell, blobs });
        cell += CELL;
    }
    Ok(cells)
}

/// What the books say of what was listed at `now`. Pure.
pub fn reconcile(books: &FeedProgress, cells: &[Relisted], now: Seconds) -> Account {
    let mut account = Account::default();
    let lost: HashSet<ContentKey> = books.ledger.lost.iter().map(|lost| ContentKey::of(&lost.content_id)).collect();
    let mut listed = HashSet::new();
    for Relisted { cell, blobs } in cells {
        let known = books.cells.get(cell);
        for blob in blobs {
            let content = ContentKey::of(&blob.content_id);
            if !listed.insert(content) {
                continue;
            }
            account.listed += 1;
            listed.insert(content.young());
            let is_settled = !books.is_new(*cell, &content);
            let created = blob.created_ms.div_euclid(1000);
            let listed_at = known.and_then(|known| known.listed_at);
            let count = if books.pending.contains_key(&content) {
                &mut account.pending
            } else if lost.contains(&content) {
                &mut account.lost
            } else if is_settled {
                &mut account.settled
            } else if known.is_none() && *cell < books.closed_before {
                &mut account.closed
            } else if listed_at.is_none_or(|at| created > at) && now - created < OVERDUE {
                &mut account.not_yet_listed
            } else {
                if account.unknown_blobs.len() < Account::NAMED {
                    let content_id = blob.content_id.clone();
                    account.unknown_blobs.push(UnknownBlob { content_id, created_ms: blob.created_ms, cell: *cell });
                }
                &mut account.unknown
            };
            *count += 1;
        }
    }
    let first = cells.first().map_or(Seconds::MAX, |relisted| relisted.cell);
    let of_open = books.cells.range(first..).flat_map(|(_, cell)| cell.settled.iter().flat_map(|all| all.iter()));
    let pending = books.pending.iter().filter(|(_, pending)| pending.cell >= first).map(|(content, _)| content);
    account.no_longer_listed = of_open.chain(pending).filter(|content| !listed.contains(*content)).count() as u64;
    let overlap = |(from, to): &(Seconds, Seconds)| u64::try_from(to - (*from).max(now - RETENTION)).unwrap_or(0);
    account.refused_seconds = books.ledger.refused.iter().map(overlap).sum();
    account
}

/// The books of a feed among those of a state directory.
pub fn books_of<'a>(
    books: &'a [(FeedKey, FeedProgress)],
    tenant_id: &str,
    content: ContentType,
) -> Option<&'a FeedProgress> {
    let is_it = |key: &FeedKey| &*key.tenant_id == tenant_id && key.content_type == content;
    books.iter().find(|(key, _)| is_it(key)).map(|(_, progress)| progress)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ack::Settlement;
    use crate::state::{FeedFact, LossReason};

    fn blob(id: &str, created: Seconds) -> ListedBlob {
        ListedBlob { content_id: id.into(), content_uri: String::new(), created_ms: created * 1000, expires: None }
    }

    #[test]
    fn a_blob_that_the_books_lack_is_a_gap_and_one_that_is_new_is_not() {
        let mut books = FeedProgress::default();
        let now = 3 * CELL;
        let ids = ["settled", "pending", "lost", "away"];
        let blobs = ids.map(|id| blob(id, 10)).to_vec();
        books.apply(&FeedFact::Opened { from: 0 });
        books.apply(&FeedFact::Closed { cell: 0 });
        books.apply(&FeedFact::Listed { cell: CELL, at: now - 60, complete: true, last: false, blobs });
        let counts = Settlement::default();
        books.apply(&FeedFact::Settled { content: ContentKey::of("away"), counts, bytes: 1 });
        books.apply(&FeedFact::SettledYoung { content: ContentKey::of("settled"), counts, bytes: 1 });
        books.apply(&FeedFact::Lost { content: ContentKey::of("lost"), at: now, reason: LossReason::Expired });
        let listed = ["settled", "pending", "lost"].map(|id| blob(id, 10));
        let mut second = listed.to_vec();
        second.extend([blob("new", now - 30), blob("missing", now - 120)]);
        let cells = [Relisted { cell: 0, blobs: vec![blob("old", 5)] }, Relisted { cell: CELL, blobs: second }];
        let account = reconcile(&books, &cells, now);
        let missing = UnknownBlob { content_id: "missing".into(), created_ms: (now - 120) * 1000, cell: CELL };
        let expected = Account {
            listed: 6,
            settled: 1,
            pending: 1,
            lost: 1,
            closed: 1,
            not_yet_listed: 1,
            unknown: 1,
            unknown_blobs: vec![missing],
            no_longer_listed: 1,
            refused_seconds: 0,
        };
        assert_eq!(account, expected);
        assert!(account.has_gap() && !Account { unknown: 0, lost: 0, ..account }.has_gap());
    }

    #[test]
    fn what_was_never_listed_is_a_gap_once_it_should_have_been() {
        let cells = [Relisted { cell: 0, blobs: vec![blob("a", 10)] }];
        assert_eq!(reconcile(&FeedProgress::default(), &cells, 60).not_yet_listed, 1);
        assert_eq!(reconcile(&FeedProgress::default(), &cells, 10 + OVERDUE).unknown, 1);
    }
}
