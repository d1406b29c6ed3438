//! One feed while the process runs: what is due, what is in the air, and what each end of a listing
//! or fetch means. Decides and books; the tenant's loop does the spawning.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use super::error::ApiError;
use super::fetch::{FetchError, Fetched, Malformed};
use super::grid::{self, Listing, Next, RETENTION};
use super::listing::Listed;
use super::queue::Queue;
use crate::ack::Settlement;
use crate::clock::Seconds;
use crate::feed::{BlobId, Feed};
use crate::metrics::Metrics;
use crate::record::split::SplitError;
use crate::state::{ContentKey, FeedFact, FeedState, LossReason, PendingBlob};

/// Back-off of a listing or a blob, doubling between these (activity-api 3.3).
const FIRST_RETRY: Seconds = 1;
const LAST_RETRY: Seconds = 600;
/// How long a feed rests after its permission or token was refused, or while the tenant is being set
/// up: doubling from the first to these, since one refusal may be a hiccup and many are a setting.
const FIRST_REST: Seconds = 15;
const UNAUTHORIZED_REST: Seconds = 15 * 60;
const UNPROVISIONED_REST: Seconds = 30 * 60;
/// And after the service said there is no enabled subscription, whatever its list says.
const UNSUBSCRIBED_REST: Seconds = 30;
/// A blob that is "not found" is asked for this long before its absence from a listing counts
/// (activity-api 1.10: retry over an hour or more).
const MISSING_FOR: Seconds = 3600;
/// The same broken body this often is not a broken transfer: take what is in it (activity-api 3.3).
const SAME_BODY_TIMES: u32 = 5;
/// A body that is no array at all (nothing, a page of some gateway) is the same for every blob while an
/// outage lasts, and says nothing about any of them: it must last this long as well.
const FOREIGN_FOR: Seconds = 24 * 3600;

/// How an attempt is going: it is over when both halves are there.
#[derive(Default)]
struct InAir {
    fetched: Option<Result<Fetched, FetchError>>,
    settled: Option<Settlement>,
}

/// What is remembered of a blob between attempts.
#[derive(Clone, Copy, Default)]
struct Trouble {
    attempts: u32,
    /// A broken body's print, and how often it came in a row.
    print: Option<(u64, u32)>,
    same: u32,
    /// Since when the same body came that is not even an array, and so hardly the blob's.
    foreign_since: Option<Seconds>,
    /// The attempt in the air takes what can be read in a broken body.
    salvaging: bool,
    missing_since: Option<Seconds>,
    /// A complete listing of its cell did not name it.
    unlisted: bool,
}

impl Trouble {
    /// Decides whether the attempt that begins now takes what can be read in a broken body.
    fn may_salvage(&mut self, now: Seconds) -> bool {
        let is_patient = self.foreign_since.is_none_or(|since| now - since >= FOREIGN_FOR);
        self.salvaging = self.same + 1 >= SAME_BODY_TIMES && is_patient;
        self.salvaging
    }
}

/// What a feed wants from the subscription side of its tenant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subscribed {
    Unknown,
    Yes,
    No,
}

pub struct FeedRun {
    pub feed: Feed,
    pub state: FeedState,
    pub subscribed: Subscribed,
    pub is_listing: bool,
    metrics: Arc<Metrics>,
    queue: Queue,
    in_air: HashMap<ContentKey, InAir>,
    trouble: HashMap<ContentKey, Trouble>,
    /// Cells held back after a failed listing: until when, and how often it failed.
    held: BTreeMap<Seconds, (Seconds, u32)>,
    /// Cells to list at once because a blob of theirs is missing.
    relist: BTreeSet<Seconds>,
    /// Nothing is asked for the feed before this.
    rest_until: Seconds,
    /// Something changed since the books were last gone through, and when that was.
    is_changed: bool,
    reviewed_at: Seconds,
    /// Refusals of the feed since something last went well.
    refusals: u32,
    /// For a run that ends: cells not yet listed since it began. `None` before the first look.
    once: Option<BTreeSet<Seconds>>,
    is_once: bool,
    /// Why the feed rests or retries, for `/status`.
    pub trouble_text: Option<String>,
}

impl FeedRun {
    pub fn new(feed: Feed, state: FeedState, metrics: Arc<Metrics>, is_once: bool) -> FeedRun {
        let mut queue = Queue::default();
        state.read(|p| p.pending.iter().for_each(|(key, pending)| queue.push(pending.blob.created_ms, *key)));
        FeedRun {
            feed,
            state,
            subscribed: Subscribed::Unknown,
            is_listing: false,
            metrics,
            queue,
            in_air: HashMap::new(),
            trouble: HashMap::new(),
            held: BTreeMap::new(),
            relist: BTreeSet::new(),
            rest_until: Seconds::MIN,
            is_changed: false,
            reviewed_at: Seconds::MIN,
            refusals: 0,
            once: None,
            is_once,
            trouble_text: None,
        }
    }

    fn labels(&self) -> [&str; 2] {
        [&self.feed.tenant.name, self.feed.content_type.as_str()]
    }

    /// Opens the books of a feed that has none, once the server's clock is known.
    pub fn open(&mut self, now: Seconds, backfill: Duration) {
        if self.state.read(|p| p.from.is_none()) {
            let backfill = Seconds::try_from(backfill.as_secs()).unwrap_or(RETENTION);
            self.state.record(FeedFact::Opened { from: grid::first_start(now, backfill) });
        }
        if self.is_once && self.once.is_none() {
            self.once = Some(self.state.read(|p| grid::open_cells(p, now).collect()));
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
            self.judge_missing(cell, None);
        }
        let held = |cell| self.held.get(&cell).map_or(Seconds::MIN, |(until, _)| *until);
        match &self.once {
            Some(once) => self.state.read(|p| grid::next_of(p, once, now, held)),
            None => self.state.read(|p| grid::next(p, now, poll, held)),
        }
    }

    /// New blobs of a listing, whatever becomes of the listing.
    pub fn found(&mut self, new: &[(ContentKey, i64)]) {
        for (key, created_ms) in new {
            if !self.in_air.contains_key(key) {
                self.queue.push(*created_ms, *key);
            }
        }
        self.metrics.blobs_listed.with_label_values(&self.labels()).inc_by(new.len() as u64);
    }

    /// A listing ended. Returns true when the subscription must be looked after.
    pub fn listed(&mut self, listing: &Listing, result: Result<Listed, ApiError>, now: Seconds) -> bool {
        self.is_listing = false;
        match result {
            Ok(listed) => {
                self.held.remove(&listing.cell);
                self.trouble_text = None;
                self.refusals = 0;
                if let Some(once) = &mut self.once {
                    once.remove(&listing.cell);
                }
                self.refused(listing, listed.refused_seconds);
                self.judge_missing(listing.cell, Some(&listed.seen));
                self.is_changed = true;
                false
            }
            Err(error) => {
                let tries = self.held.get(&listing.cell).map_or(0, |(_, tries)| *tries) + 1;
                self.held.insert(listing.cell, (now + retry_after(tries), tries));
                if tries == 3 {
                    tracing::warn!(tenant = %self.feed.tenant.name, content_type = %self.feed.content_type, cell = listing.cell,
                        error = %error, "listing keeps failing, trying on with back-off; nothing is lost by it");
                }
                self.react(&error, now)
            }
        }
    }

    /// The next blob to fetch and where from.
    pub fn next_fetch(&mut self, now: Seconds) -> Option<(ContentKey, BlobId, String, bool)> {
        if self.rest_until > now {
            return None;
        }
        loop {
            let key = self.queue.pop(now)?;
            let pending: Option<PendingBlob> = self.state.read(|p| p.pending.get(&key).cloned());
            let Some(PendingBlob { blob, .. }) = pending else { continue };
            if self.in_air.contains_key(&key) {
                continue;
            }
            self.in_air.insert(key, InAir::default());
            let salvage_it = self.trouble.get_mut(&key).is_some_and(|t| t.may_salvage(now));
            let id = BlobId {
                feed: self.feed.clone(),
                content_id: Arc::from(blob.content_id.as_str()),
                created_ms: blob.created_ms,
            };
            return Some((key, id, blob.content_uri, salvage_it));
        }
    }

    /// When a blob may next be fetched.
    pub fn next_fetch_at(&self, now: Seconds) -> Option<Seconds> {
        self.queue.next_due(now).map(|due| due.max(self.rest_until))
    }

    /// The body was read to its end or not. Returns true when the subscription must be looked after.
    pub fn fetched(&mut self, key: ContentKey, result: Result<Fetched, FetchError>, now: Seconds) -> bool {
        let attention = match &result {
            Ok(_) => {
                self.metrics.blobs_fetched.with_label_values(&self.labels()).inc();
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
        let Some(InAir { fetched: Some(fetched), settled: Some(counts) }) = self.in_air.remove(&key) else { return };
        match fetched {
            Ok(fetched) if counts.is_settled() => self.settle(key, counts, fetched.bytes, now),
            Ok(_) => self.retry(key, now, "a sink did not take all of it"),
            // At a stop a body may be complete and done though its fetch never came to say so; not
            // knowing, the next start fetches it again and finds everything delivered.
            Err(FetchError::Closed) => {}
            Err(error) => self.failed(key, error, now),
        }
        self.count(&counts);
    }

    fn settle(&mut self, key: ContentKey, counts: Settlement, bytes: u64, now: Seconds) {
        let created_ms = self.state.read(|p| p.pending.get(&key).map(|pending| pending.blob.created_ms));
        let Some(created_ms) = created_ms else { return };
        self.state.record(FeedFact::Settled { content: key, counts, bytes });
        self.trouble.remove(&key);
        self.metrics.blobs_settled.with_label_values(&self.labels()).inc();
        if created_ms > 0 {
            let latency = (now - created_ms.div_euclid(1000)).max(0) as f64;
            self.metrics.pipeline_latency.with_label_values(&[self.feed.content_type.as_str()]).observe(latency);
        }
        self.is_changed = true;
    }

    fn count(&self, counts: &Settlement) {
        let [tenant, content_type] = self.labels();
        let outcomes = [
            ("delivered", counts.delivered),
            ("duplicate", counts.duplicate),
            ("filtered", counts.filtered),
            ("rejected", counts.rejected),
            ("lost", counts.lost),
        ];
        for (outcome, count) in outcomes {
            let counter = self.metrics.events.with_label_values(&[tenant, content_type, outcome]);
            counter.inc_by(u64::from(count));
        }
    }

    /// What a failed attempt means for its blob.
    fn failed(&mut self, key: ContentKey, error: FetchError, now: Seconds) {
        let text = error.to_string();
        match error {
            FetchError::Api(ApiError::Expired { .. }) => self.lose(key, LossReason::Expired, now),
            FetchError::Api(ApiError::NotFound { .. }) => self.missing(key, now),
            FetchError::Malformed { print, error } => {
                self.malformed(key, print, error == Malformed::Structure(SplitError::NotAnArray), &text, now);
            }
            FetchError::Body(super::body::BodyError::Bomb) => self.malformed(key, (0, 0), false, &text, now),
            _ => self.retry(key, now, &text),
        }
    }

    fn malformed(&mut self, key: ContentKey, print: (u64, u32), is_foreign: bool, text: &str, now: Seconds) {
        let trouble = self.trouble.entry(key).or_default();
        let is_same = trouble.print == Some(print);
        trouble.same = if is_same { trouble.same + 1 } else { 1 };
        trouble.print = Some(print);
        let since = trouble.foreign_since.filter(|_| is_same).unwrap_or(now);
        trouble.foreign_since = is_foreign.then_some(since);
        // The attempt after the last but one salvages; if that was not possible, nothing can read it.
        if trouble.salvaging && is_same {
            self.lose(key, LossReason::Unreadable, now);
        } else {
            self.retry(key, now, text);
        }
    }

    /// "Not found": given up only after an hour of asking and once a complete listing no longer names it.
    fn missing(&mut self, key: ContentKey, now: Seconds) {
        let cell = self.state.read(|p| p.pending.get(&key).map(|pending| pending.cell));
        let trouble = self.trouble.entry(key).or_default();
        let since = *trouble.missing_since.get_or_insert(now);
        let is_due = now - since >= MISSING_FOR;
        if is_due && trouble.unlisted {
            self.lose(key, LossReason::Gone, now);
            return;
        }
        if is_due && let Some(cell) = cell {
            self.relist.insert(cell);
        }
        self.retry(key, now, "the service says it does not exist");
    }

    /// Notes which missing blobs of a cell a complete listing did not name. `None`: the cell can no longer be listed.
    fn judge_missing(&mut self, cell: Seconds, seen: Option<&HashSet<ContentKey>>) {
        if self.trouble.is_empty() {
            return;
        }
        let of_cell: Vec<ContentKey> = self.state.read(|p| {
            self.trouble.keys().filter(|k| p.pending.get(k).is_some_and(|b| b.cell == cell)).copied().collect()
        });
        for key in of_cell {
            if let Some(trouble) = self.trouble.get_mut(&key) {
                trouble.unlisted = trouble.missing_since.is_some() && seen.is_none_or(|seen| !seen.contains(&key));
            }
        }
    }

    fn lose(&mut self, key: ContentKey, reason: LossReason, now: Seconds) {
        let blob = self.state.read(|p| p.pending.get(&key).map(|pending| pending.blob.content_id.clone()));
        tracing::error!(tenant = %self.feed.tenant.name, content_type = %self.feed.content_type,
            content_id = blob.unwrap_or_default(), reason = reason.as_str(), "blob lost: it will not be asked for again; it is in the ledger");
        self.state.record(FeedFact::Lost { content: key, at: now, reason });
        self.trouble.remove(&key);
        let [tenant, content_type] = self.labels();
        self.metrics.blobs_lost.with_label_values(&[tenant, content_type, reason.as_str()]).inc();
        self.is_changed = true;
    }

    fn retry(&mut self, key: ContentKey, now: Seconds, why: &str) {
        let created_ms = self.state.read(|p| p.pending.get(&key).map(|pending| pending.blob.created_ms));
        let Some(created_ms) = created_ms else { return };
        let trouble = self.trouble.entry(key).or_default();
        trouble.attempts += 1;
        let wait = retry_after(trouble.attempts);
        tracing::debug!(tenant = %self.feed.tenant.name, content_type = %self.feed.content_type,
            attempt = trouble.attempts, wait, why, "blob will be fetched again");
        self.queue.push_delayed(now + wait, created_ms, key);
        self.metrics.blobs_retried.with_label_values(&self.labels()).inc();
    }

    /// What a refusal means for the feed as a whole. Returns true when the subscription must be looked after.
    fn react(&mut self, error: &ApiError, now: Seconds) -> bool {
        let longest = match error {
            ApiError::Unauthorized { .. } => UNAUTHORIZED_REST,
            ApiError::Unprovisioned { .. } => UNPROVISIONED_REST,
            ApiError::NotSubscribed { .. } => {
                self.subscribed = Subscribed::No;
                self.rest_until = now + UNSUBSCRIBED_REST;
                return true;
            }
            ApiError::ForbiddenUrl { url, reason } => {
                self.metrics.api_refused_urls.with_label_values(&[&self.feed.tenant.name]).inc();
                tracing::error!(tenant = %self.feed.tenant.name, url, reason,
                    "the service named a URL outside the pinned host; no request was sent, it will be listed again");
                return false;
            }
            _ => return false,
        };
        // Several requests in the air are refused together; that is one refusal.
        if self.rest_until > now {
            return false;
        }
        let rest = FIRST_REST.saturating_mul(1 << self.refusals.min(10)).min(longest);
        self.refusals += 1;
        if self.refusals >= 3 {
            tracing::error!(tenant = %self.feed.tenant.name, content_type = %self.feed.content_type, error = %error, rest,
                "the service refuses this feed; it rests and is tried again, its cells stay open");
        }
        self.rest_until = now + rest;
        self.trouble_text = Some(error.to_string());
        false
    }

    fn refused(&self, listing: &Listing, seconds: u64) {
        if seconds == 0 {
            return;
        }
        self.metrics.refused_seconds.with_label_values(&self.labels()).inc_by(seconds);
        tracing::error!(tenant = %self.feed.tenant.name, content_type = %self.feed.content_type, cell = listing.cell, seconds,
            "the service no longer lists this time: lost to retention; it is in the ledger");
    }

    /// Closes what may close and shows how far the feed is, at most once a second: both look at all
    /// pending blobs, and at each settled blob of a large backlog that would take for ever. Returns when
    /// to come again.
    pub fn review(&mut self, now: Seconds) -> Seconds {
        if !self.is_changed {
            return Seconds::MAX;
        }
        if self.reviewed_at == now {
            return now + 1;
        }
        self.reviewed_at = now;
        self.end(now);
        Seconds::MAX
    }

    /// The same without waiting, when nothing is in the air any more.
    pub fn end(&mut self, now: Seconds) {
        if std::mem::take(&mut self.is_changed) {
            self.close_cells();
            self.show_watermark(now);
        }
    }

    fn close_cells(&mut self) {
        for cell in self.state.read(grid::closable) {
            self.state.record(FeedFact::Closed { cell });
            self.held.remove(&cell);
        }
    }

    fn show_watermark(&self, now: Seconds) {
        let (until, oldest, pending) = self.state.read(|p| {
            let oldest = p.pending.values().map(|b| b.blob.created_ms.div_euclid(1000)).min().unwrap_or(0);
            (grid::complete_until(p, now), oldest, p.pending.len())
        });
        let labels = self.labels();
        self.metrics.feed_watermark.with_label_values(&labels).set(until);
        self.metrics.feed_last_success.with_label_values(&labels).set(now);
        self.metrics.oldest_pending.with_label_values(&labels).set(oldest);
        self.metrics.blobs_pending.with_label_values(&labels).set(i64::try_from(pending).unwrap_or(i64::MAX));
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
            && self.state.read(|p| p.pending.is_empty())
    }
}

/// Doubling, with full jitter in the upper half so that many failures do not come back together.
fn retry_after(tries: u32) -> Seconds {
    let ceiling = FIRST_RETRY.saturating_mul(1 << tries.min(12)).min(LAST_RETRY);
    ceiling / 2 + fastrand::i64(0..=ceiling / 2).max(1)
}

#[cfg(test)]
mod tests;
