//! One feed while the process runs: what is due, what is in the air, and what each end of a listing
//! or fetch means. Decides; the books write it down, and the tenant's loop does the spawning.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use super::body::BodyError;
use super::books::Books;
use super::error::ApiError;
use super::fetch::{FetchError, Fetched, Malformed};
use super::grid::{self, Listing, Next, RETENTION};
use super::listing::{Found, Listed};
use super::live_edge::may_be_partial;
use super::queue::Queue;
use super::trouble::{LAST_RETRY, Manner, Trouble, Verdict, retry_after};
use super::troubles::{PERMISSION, SUBSCRIPTION, Troubles};
use crate::ack::Settlement;
use crate::clock::Seconds;
use crate::feed::{BlobId, Feed};
use crate::metrics::Metrics;
use crate::record::split::SplitError;
use crate::state::{ContentKey, FeedFact, FeedState, PendingBlob};

use refusal::INVALID_BURST;

/// How an attempt is going: it is over when both halves are there.
#[derive(Default)]
struct InAir {
    /// It was asked for so soon that it may have been partial.
    is_young: bool,
    is_slow: bool,
    fetched: Option<Result<Fetched, FetchError>>,
    settled: Option<Settlement>,
}

/// An attempt to be made.
pub struct Attempt {
    pub key: ContentKey,
    pub blob: BlobId,
    pub uri: String,
    pub manner: Manner,
}

/// What a feed wants from the subscription side of its tenant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subscribed {
    Unknown,
    Yes,
    No,
}

pub struct FeedRun {
    pub books: Books,
    pub subscribed: Subscribed,
    /// A start is on its way, or waits for its turn.
    pub is_starting: bool,
    pub is_listing: bool,
    queue: Queue,
    in_air: HashMap<ContentKey, InAir>,
    trouble: HashMap<ContentKey, Trouble>,
    /// Cells held back after a failed listing: until when, and how often it failed.
    held: BTreeMap<Seconds, (Seconds, u32)>,
    /// Cells to list at once because a blob of theirs is missing.
    relist: BTreeSet<Seconds>,
    /// Nothing is asked for the feed before this, and no blob before that.
    rest_until: Seconds,
    fetch_rest_until: Seconds,
    /// Blobs whose content id was called invalid since a body was last read, at most [`INVALID_BURST`]; and how
    /// often the feed rested for them.
    invalid_ids: HashSet<ContentKey>,
    invalid_rests: u32,
    /// Since when content is refused, or the subscription not enabled, without a listing in between.
    unsubscribed_since: Option<Seconds>,
    /// The content said so, whatever the list says.
    is_denied: bool,
    /// Refusals of the feed since something last went well.
    refusals: u32,
    /// For a run that ends: cells not yet listed since it began. `None` before the first look.
    once: Option<BTreeSet<Seconds>>,
    is_once: bool,
    troubles: Troubles,
}

impl FeedRun {
    pub fn new(feed: Feed, state: FeedState, metrics: Arc<Metrics>, troubles: Troubles, is_once: bool) -> FeedRun {
        let mut queue = Queue::default();
        state.read(|p| {
            for (key, pending) in &p.pending {
                let created_ms = pending.blob.created_ms;
                if p.is_again(key) { queue.push_again(created_ms, *key) } else { queue.push(created_ms, *key) }
            }
        });
        let books = Books::new(feed, state, metrics);
        books.show_known();
        FeedRun {
            books,
            subscribed: Subscribed::Unknown,
            is_starting: false,
            is_listing: false,
            queue,
            in_air: HashMap::new(),
            trouble: HashMap::new(),
            held: BTreeMap::new(),
            relist: BTreeSet::new(),
            rest_until: Seconds::MIN,
            fetch_rest_until: Seconds::MIN,
            invalid_ids: HashSet::new(),
            invalid_rests: 0,
            unsubscribed_since: None,
            is_denied: false,
            refusals: 0,
            once: None,
            is_once,
            troubles,
        }
    }

    pub fn feed(&self) -> &Feed {
        &self.books.feed
    }

    pub fn state(&self) -> &FeedState {
        &self.books.state
    }

    /// Opens the books of a feed that has none, once the server's clock is known.
    pub fn open(&mut self, now: Seconds, backfill: Duration) {
        if self.state().read(|p| p.from.is_none()) {
            let backfill = Seconds::try_from(backfill.as_secs()).unwrap_or(RETENTION);
            self.state().record(FeedFact::Opened { from: grid::first_start(now, backfill) });
        } else if self.state().read(|p| grid::is_ahead(p, now)) {
            let from = grid::first_start(now, RETENTION);
            tracing::warn!(tenant = %self.feed().tenant.name, content_type = %self.feed().content_type,
                "hours that have not come yet are closed: a clock was wrong; the last 7 days are listed again, what is delivered already is not sent twice");
            self.state().record(FeedFact::Reopened { from });
        }
        if self.is_once && self.once.is_none() {
            self.once = Some(self.state().read(|p| grid::open_cells(p, now).collect()));
        }
    }

    /// The next listing, or when there will be one.
    pub fn next_listing(&mut self, now: Seconds, poll: Seconds) -> Next {
        if self.is_listing || self.subscribed != Subscribed::Yes {
            return Next::At(Seconds::MAX);
        }
        if self.rest_until > now {
            return Next::At(self.rest_until);
        }
        if let Some(cell) = self.relist.pop_first() {
            if now < cell + RETENTION {
                return Next::Now(Listing { cell, from: cell, to: cell + crate::state::CELL, last: false });
            }
            self.judge_missing(cell, &Listed::default());
        }
        let held = |cell| self.held.get(&cell).map_or(Seconds::MIN, |(until, _)| *until);
        match &self.once {
            Some(once) => self.state().read(|p| grid::next_of(p, once, now, held)),
            None => self.state().read(|p| grid::next(p, now, poll, held)),
        }
    }

    /// Blobs of a page, whatever becomes of the listing.
    pub fn found(&mut self, found: &Found) {
        for (key, created_ms) in &found.new {
            if !self.in_air.contains_key(key) {
                self.queue.push(*created_ms, *key);
            }
        }
        found.again.iter().for_each(|(key, created_ms)| self.queue.push_again(*created_ms, *key));
        let listed = &self.books.metrics.blobs_listed;
        listed.with_label_values(&self.books.labels()).inc_by(found.new.len() as u64);
    }

    /// A listing ended. Returns true when the subscription must be looked after.
    pub fn listed(&mut self, listing: &Listing, result: Result<Listed, ApiError>, now: Seconds) -> bool {
        self.is_listing = false;
        match result {
            Ok(listed) => {
                self.held.remove(&listing.cell);
                self.refusals = 0;
                (self.is_denied, self.unsubscribed_since) = (false, None);
                self.books.subscription(true, false, now);
                self.show(PERMISSION, false);
                self.show(SUBSCRIPTION, false);
                if self.invalid_ids.len() < INVALID_BURST {
                    self.note_trouble(None);
                }
                if let Some(once) = &mut self.once {
                    once.remove(&listing.cell);
                }
                self.books.listed(listing, listed.refused_seconds);
                self.judge_missing(listing.cell, &listed);
                false
            }
            Err(error) => {
                let tries = self.held.get(&listing.cell).map_or(0, |(_, tries)| *tries) + 1;
                self.held.insert(listing.cell, (now + retry_after(tries), tries));
                if tries == 3 {
                    tracing::warn!(tenant = %self.feed().tenant.name, content_type = %self.feed().content_type, cell = listing.cell,
                        error = %error, "listing keeps failing, trying on with back-off; nothing is lost by it");
                }
                if tries >= 3 {
                    self.note_trouble(Some(error.to_string()));
                }
                self.react(&error, now)
            }
        }
    }

    /// The next blob to fetch and where from.
    pub fn next_fetch(&mut self, now: Seconds) -> Option<Attempt> {
        if self.rest_until.max(self.fetch_rest_until) > now {
            return None;
        }
        loop {
            let key = self.queue.pop(now)?;
            let Some(PendingBlob { blob, .. }) = self.books.pending(&key) else { continue };
            if self.in_air.contains_key(&key) {
                continue;
            }
            let manner = self.trouble.get_mut(&key).map_or(Manner::default(), |trouble| trouble.manner(now));
            if manner.slow && self.in_air.values().any(|other| other.is_slow) {
                self.push_delayed(now + LAST_RETRY, blob.created_ms, key);
                continue;
            }
            let is_young = may_be_partial(&blob.content_id, blob.created_ms, now);
            self.in_air.insert(key, InAir { is_young, is_slow: manner.slow, ..InAir::default() });
            let id = BlobId {
                feed: self.feed().clone(),
                content_id: Arc::from(blob.content_id.as_str()),
                created_ms: blob.created_ms,
            };
            return Some(Attempt { key, blob: id, uri: blob.content_uri, manner });
        }
    }

    /// When a blob may next be fetched.
    pub fn next_fetch_at(&self, now: Seconds) -> Option<Seconds> {
        self.queue.next_due(now).map(|due| due.max(self.rest_until).max(self.fetch_rest_until))
    }

    /// The body was read to its end or not. Returns true when the subscription must be looked after.
    pub fn fetched(&mut self, key: ContentKey, result: Result<Fetched, FetchError>, now: Seconds) -> bool {
        let attention = match &result {
            Ok(_) => {
                self.books.metrics.blobs_fetched.with_label_values(&self.books.labels()).inc();
                if let Some(trouble) = self.trouble.get_mut(&key) {
                    trouble.good_read();
                }
                self.ids_are_good();
                false
            }
            Err(FetchError::Api(error @ ApiError::InvalidContent { .. })) => {
                self.invalid_id(key, error, now);
                false
            }
            Err(FetchError::Api(error)) => self.react(error, now),
            Err(_) => false,
        };
        self.in_air.entry(key).or_default().fetched = Some(result);
        self.conclude(key, now);
        attention
    }

    /// All shares of the attempt are gone.
    pub fn settled(&mut self, key: ContentKey, settlement: Settlement, now: Seconds) {
        self.in_air.entry(key).or_default().settled = Some(settlement);
        self.conclude(key, now);
    }

    /// Ends an attempt of which both halves are known.
    fn conclude(&mut self, key: ContentKey, now: Seconds) {
        if !self.in_air.get(&key).is_some_and(|a| a.fetched.is_some() && a.settled.is_some()) {
            return;
        }
        let Some(InAir { fetched: Some(fetched), settled: Some(counts), is_young, .. }) = self.in_air.remove(&key)
        else {
            return;
        };
        match fetched {
            Ok(fetched) if counts.is_settled() => {
                self.books.settled(key, counts, fetched.bytes, is_young, now);
                self.trouble.remove(&key);
            }
            Ok(_) => self.retry(key, now, "a sink did not take all of it"),
            // At a stop a body may be complete and done though its fetch never came to say so; not
            // knowing, the next start fetches it again and finds everything delivered.
            Err(FetchError::Closed) => {}
            Err(error) => self.failed(key, error, now),
        }
        self.books.count(&counts);
    }

    /// What a failed attempt means for its blob.
    fn failed(&mut self, key: ContentKey, error: FetchError, now: Seconds) {
        let text = error.to_string();
        let trouble = self.trouble.entry(key).or_default();
        let verdict = match error {
            FetchError::Api(ApiError::Expired { .. }) => trouble.expired(now),
            FetchError::Api(ApiError::NotFound { .. }) => trouble.missing(true, now),
            FetchError::Api(ApiError::InvalidContent { .. }) => trouble.missing(false, now),
            FetchError::Malformed { print, error } => {
                trouble.malformed(print, error == Malformed::Structure(SplitError::NotAnArray), now)
            }
            FetchError::Body(BodyError::Bomb) => trouble.malformed((0, 0), false, now),
            FetchError::Body(BodyError::Slow) => trouble.slow(),
            _ => Verdict::Retry,
        };
        match verdict {
            Verdict::Lost(reason) => {
                if !self.books.not_again(key) {
                    self.books.lost(key, reason, now);
                }
                self.trouble.remove(&key);
                return;
            }
            Verdict::Relist => {
                if let Some(pending) = self.books.pending(&key) {
                    self.relist.insert(pending.cell);
                }
            }
            Verdict::Retry => {}
        }
        self.retry(key, now, &text);
    }

    /// Notes which missing blobs of a cell a listing named, and of a whole one which it did not: of a cell that is
    /// listed in part or not at all any more nobody knows.
    fn judge_missing(&mut self, cell: Seconds, listed: &Listed) {
        if self.trouble.is_empty() {
            return;
        }
        let of_cell: Vec<ContentKey> = self.state().read(|p| {
            self.trouble.keys().filter(|k| p.pending.get(k).is_some_and(|b| b.cell == cell)).copied().collect()
        });
        for key in of_cell {
            if let Some(trouble) = self.trouble.get_mut(&key) {
                let is_named = listed.seen.contains(&key);
                trouble.judge((is_named || listed.is_whole).then_some(is_named));
            }
        }
    }

    fn retry(&mut self, key: ContentKey, now: Seconds, why: &str) {
        let Some(pending) = self.books.pending(&key) else { return };
        let trouble = self.trouble.entry(key).or_default();
        let wait = trouble.wait();
        let attempt = trouble.attempts;
        tracing::debug!(tenant = %self.feed().tenant.name, content_type = %self.feed().content_type,
            attempt, wait, why, "blob will be fetched again");
        self.push_delayed(now + wait, pending.blob.created_ms, key);
        self.books.metrics.blobs_retried.with_label_values(&self.books.labels()).inc();
    }

    fn push_delayed(&mut self, due: Seconds, created_ms: i64, key: ContentKey) {
        let is_again = self.state().read(|p| p.is_again(&key));
        self.queue.push_delayed(due, created_ms, key, is_again);
    }

    /// The service's time was set back to `now`: nothing may wait for what would come only much later.
    pub fn rewind(&mut self, now: Seconds) {
        self.queue.rewind(now, LAST_RETRY);
        self.held.clear();
        (self.rest_until, self.fetch_rest_until) = (Seconds::MIN, Seconds::MIN);
        self.unsubscribed_since = self.unsubscribed_since.map(|since| since.min(now));
        self.trouble.values_mut().for_each(|trouble| trouble.rewind(now));
    }

    /// The process is ending: what is not read to its end yet never will be.
    pub fn drain(&mut self, now: Seconds) {
        let keys: Vec<ContentKey> = self.in_air.keys().copied().collect();
        for key in keys {
            self.in_air.entry(key).or_default().fetched.get_or_insert(Err(FetchError::Closed));
            self.conclude(key, now);
        }
    }

    /// Nothing of the feed is in the air.
    pub fn is_at_rest(&self) -> bool {
        self.in_air.is_empty()
    }

    /// For a run that ends: every cell that was open has been listed and everything listed is done.
    pub fn is_done_once(&self) -> bool {
        self.once.as_ref().is_some_and(BTreeSet::is_empty)
            && self.in_air.is_empty()
            && self.state().read(|p| p.pending.is_empty())
    }
}

mod refusal;
#[cfg(test)]
mod tests;
