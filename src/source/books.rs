//! The books of one feed: what became of its blobs and cells, written into the state, the metrics and
//! the log. Decides nothing about what to ask for next.

use std::sync::Arc;

use super::grid::{self, Listing, RETENTION};
use crate::ack::Settlement;
use crate::clock::Seconds;
use crate::feed::Feed;
use crate::metrics::Metrics;
use crate::state::{ContentKey, FeedFact, FeedProgress, FeedState, LossReason, PendingBlob};

/// Cells whose empty listings are not journalled as they happen: the live one and three hours.
const YOUNG_CELLS: usize = 4;

pub struct Books {
    pub feed: Feed,
    pub state: FeedState,
    pub metrics: Arc<Metrics>,
    /// Something changed since the books were last gone through, and when that was.
    is_changed: bool,
    reviewed_at: Seconds,
}

impl Books {
    pub fn new(feed: Feed, state: FeedState, metrics: Arc<Metrics>) -> Books {
        Books { feed, state, metrics, is_changed: false, reviewed_at: Seconds::MIN }
    }

    /// Tenant and content type, as most metrics are labelled.
    pub fn labels(&self) -> [&str; 2] {
        [&self.feed.tenant.name, self.feed.content_type.as_str()]
    }

    /// The blob, while it is pending.
    pub fn pending(&self, key: &ContentKey) -> Option<PendingBlob> {
        self.state.read(|p| p.pending.get(key).cloned())
    }

    /// A listing was complete.
    pub fn listed(&mut self, listing: &Listing, refused_seconds: u64) {
        self.is_changed = true;
        if refused_seconds == 0 {
            return;
        }
        self.metrics.refused_seconds.with_label_values(&self.labels()).inc_by(refused_seconds);
        tracing::error!(tenant = %self.feed.tenant.name, content_type = %self.feed.content_type, cell = listing.cell, seconds = refused_seconds,
            "the service no longer lists this time: lost to retention; it is in the ledger");
    }

    /// Everything in the blob is done. `is_young`: its body was read when it may still have been partial.
    pub fn settled(&mut self, key: ContentKey, counts: Settlement, bytes: u64, is_young: bool, now: Seconds) {
        let looked = self.state.read(|p| {
            let pending = p.pending.get(&key)?;
            Some((pending.blob.created_ms, p.is_again(&key), p.ledger.blobs_lost))
        });
        let Some((created_ms, is_again, lost)) = looked else { return };
        let fact = if is_young && !is_again {
            FeedFact::SettledYoung { content: key, counts, bytes }
        } else {
            FeedFact::Settled { content: key, counts, bytes }
        };
        self.state.record(fact);
        self.is_changed = true;
        let labels = self.labels();
        if is_again {
            let result = if counts.delivered > 0 { "grown" } else { "same" };
            self.metrics.blobs_again.with_label_values(&[labels[0], labels[1], result]).inc();
            return;
        }
        self.metrics.blobs_settled.with_label_values(&labels).inc();
        if self.state.read(|p| p.ledger.blobs_lost) < lost {
            self.metrics.blobs_returned.with_label_values(&labels).inc();
            tracing::info!(
                tenant = labels[0],
                content_type = labels[1],
                "a blob that had been given up as gone came back and is delivered"
            );
        }
        if created_ms > 0 {
            let latency = (now - created_ms.div_euclid(1000)).max(0) as f64;
            self.metrics.pipeline_latency.with_label_values(&[self.feed.content_type.as_str()]).observe(latency);
        }
    }

    /// What was read once cannot be read again: what came the first time is all there is.
    pub fn not_again(&mut self, key: ContentKey) -> bool {
        let is_again = self.state.read(|p| p.is_again(&key));
        if is_again {
            self.state.record(FeedFact::Settled { content: key, counts: Settlement::default(), bytes: 0 });
            self.is_changed = true;
        }
        is_again
    }

    /// The subscription was seen enabled or not; `started`: a start is about to be sent.
    pub fn subscription(&mut self, enabled: bool, started: bool, now: Seconds) {
        if started || self.state.read(|p| p.subscription.enabled != Some(enabled)) {
            self.state.record(FeedFact::Subscription { at: now, enabled, started });
        }
        self.metrics.subscription_enabled.with_label_values(&self.labels()).set(i64::from(enabled));
    }

    /// The blob will never be had.
    pub fn lost(&mut self, key: ContentKey, reason: LossReason, now: Seconds) {
        let blob = self.state.read(|p| p.pending.get(&key).map(|pending| pending.blob.content_id.clone()));
        tracing::error!(tenant = %self.feed.tenant.name, content_type = %self.feed.content_type,
            content_id = blob.unwrap_or_default(), reason = reason.as_str(), "blob lost: it will not be asked for again; it is in the ledger");
        self.state.record(FeedFact::Lost { content: key, at: now, reason });
        let [tenant, content_type] = self.labels();
        self.metrics.blobs_lost.with_label_values(&[tenant, content_type, reason.as_str()]).inc();
        self.is_changed = true;
    }

    /// What became of the records of an attempt.
    pub fn count(&self, counts: &Settlement) {
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

    /// The process stops in order: how far the youngest hours were listed is written down, which while it runs
    /// only what was found in them is.
    pub fn put_down_listings(&self) {
        let is_noted = |cell: &crate::state::Cell| cell.listed_at.is_some() && !cell.swept;
        let young = self.state.read(|p| {
            let cells = p.cells.iter().rev().filter(|(_, cell)| is_noted(cell)).take(YOUNG_CELLS);
            cells.filter_map(|(start, cell)| Some((*start, cell.listed_at?))).collect::<Vec<_>>()
        });
        for (cell, at) in young {
            self.state.record(FeedFact::Listed { cell, at, complete: true, last: false, blobs: Vec::new() });
        }
    }

    fn close_cells(&self) {
        for cell in self.state.read(grid::closable) {
            self.state.record(FeedFact::Closed { cell });
        }
    }

    fn show_watermark(&self, now: Seconds) {
        self.state.read(|progress| self.show(progress, now));
    }

    /// Shows what is known from before, as it was at the last listing: a process that cannot reach the service
    /// must not look like one that has nothing to do.
    pub fn show_known(&self) {
        self.state.read(|progress| {
            if let Some(enabled) = progress.subscription.enabled {
                self.metrics.subscription_enabled.with_label_values(&self.labels()).set(i64::from(enabled));
            }
            if let Some(listed_at) = progress.cells.values().filter_map(|cell| cell.listed_at).max() {
                self.show(progress, listed_at);
            }
        });
    }

    fn show(&self, progress: &FeedProgress, listed_at: Seconds) {
        let blobs = || progress.pending.values().map(|pending| &pending.blob);
        let created = blobs().map(|blob| blob.created_ms.div_euclid(1000)).min();
        // The service keeps content for a week (activity-api 1.7), whether it says so or not.
        let expires = blobs().map(|b| b.expires.unwrap_or(b.created_ms.div_euclid(1000) + RETENTION)).min();
        let labels = self.labels();
        self.metrics.feed_watermark.with_label_values(&labels).set(grid::complete_until(progress, listed_at));
        self.metrics.feed_last_success.with_label_values(&labels).set(listed_at);
        self.metrics.oldest_pending.with_label_values(&labels).set(created.unwrap_or(0));
        self.metrics.oldest_expiration.with_label_values(&labels).set(expires.unwrap_or(0));
        let pending = i64::try_from(progress.pending.len()).unwrap_or(i64::MAX);
        self.metrics.blobs_pending.with_label_values(&labels).set(pending);
    }
}
