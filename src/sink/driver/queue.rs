//! Events on their way through a driver, and the one place where verdicts are given. Every holder of
//! events here gives them up as lost when it is dropped, so no path can forget one.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use crate::ack::Outcome;
use crate::clock::world_ms;
use crate::event::{Delivery, Event, Part};
use crate::feed::Tenant;
use crate::metrics::{Metrics, Raised};
use crate::record::RecordKey;
use crate::sink::{FilePosition, SinkId};
use crate::state::State;

/// Values of the label `result` of `sink_events_total`.
pub(super) const EVENT_RESULTS: [&str; 5] = ["delivered", "rejected", "lost", "dropped", "filtered"];

/// Values of the label `result` of `sink_batches_total`.
pub(super) const BATCH_RESULTS: [&str; 5] = ["delivered", "retried", "rejected", "split", "refused"];

/// Values of the label `reason` of `sink_retries_total`.
pub(super) const RETRY_REASONS: [&str; 4] = ["failed", "told_to_wait", "slow", "refused"];

/// Between two lines about what a sink skipped.
const SKIPPED_SAID: Duration = Duration::from_secs(60);

/// What a sink that is not required skipped and nobody was told of yet.
#[derive(Default)]
pub(super) struct Skipped {
    events: AtomicU64,
    some: Notify,
}

impl Skipped {
    fn add(&self, events: u64) {
        if self.events.fetch_add(events, Ordering::AcqRel) == 0 {
            self.some.notify_one();
        }
    }

    /// Returns when there is something to say, at once for the first time and then not before a minute after the last
    /// time, `said`. May be dropped and asked again.
    pub async fn due(&self, said: Option<Instant>) {
        while self.events.load(Ordering::Acquire) == 0 {
            self.some.notified().await;
        }
        if let Some(said) = said {
            tokio::time::sleep_until(said + SKIPPED_SAID).await;
        }
    }

    /// Says it in one line, if there is anything.
    pub fn say(&self, sink: &str) {
        let events = self.events.swap(0, Ordering::AcqRel);
        if events > 0 {
            tracing::warn!(
                sink,
                events,
                "the sink does not keep up and is not required: it skipped these events, and nobody waited for it; counted as `dropped` in sink_events_total"
            );
        }
    }
}

/// Where verdicts go.
pub(super) struct Verdicts {
    pub name: String,
    pub metrics: Arc<Metrics>,
    pub skipped: Skipped,
    id: SinkId,
    state: State,
}

impl Verdicts {
    pub fn new(name: &str, id: SinkId, state: State, metrics: Arc<Metrics>) -> Verdicts {
        for result in EVENT_RESULTS {
            metrics.sink_events.with_label_values(&[name, result]);
        }
        for result in BATCH_RESULTS {
            metrics.sink_batches.with_label_values(&[name, result]);
        }
        metrics.sink_send_seconds.with_label_values(&[name]);
        metrics.sink_last_ack.with_label_values(&[name]);
        metrics.sink_queued.with_label_values(&[name]);
        metrics.sink_in_flight.with_label_values(&[name]);
        for reason in RETRY_REASONS {
            metrics.sink_retries.with_label_values(&[name, reason]);
        }
        metrics.dead_letters.with_label_values(&[name]);
        Verdicts { name: name.to_owned(), metrics, skipped: Skipped::default(), id, state }
    }

    /// Waits while the journal cannot take more: see [`State::room`].
    pub async fn room(&self) {
        self.metrics.wait_for("journal", self.state.room()).await;
    }

    /// The receiver has these events.
    pub fn delivered(&self, items: &[Item], position: Option<&FilePosition>) {
        self.metrics.sink_last_ack.with_label_values(&[&self.name]).set(world_ms() / 1000);
        self.give(Outcome::Delivered, "delivered", &keys(items), position);
    }

    /// These events lie in the dead letters.
    pub fn rejected(&self, items: &[Item]) {
        self.give(Outcome::Rejected, "rejected", &keys(items), None);
    }

    fn lost(&self, keys: &[RecordKey]) {
        self.give(Outcome::Lost, "lost", keys, None);
    }

    fn give(&self, outcome: Outcome, result: &str, keys: &[RecordKey], position: Option<&FilePosition>) {
        if keys.is_empty() {
            return;
        }
        self.state.acked(self.id, outcome, keys, position);
        self.metrics.sink_events.with_label_values(&[&self.name, result]).inc_by(keys.len() as u64);
        self.metrics.sink_queued.with_label_values(&[&self.name]).sub(keys.len() as i64);
    }

    /// A delivery that never entered the queue of a sink that is not required.
    pub fn drop_delivery(&self, delivery: &Delivery) {
        let keys: Vec<_> = delivery.events.iter().map(|index| delivery.part.event(*index).meta.key).collect();
        self.state.acked(self.id, Outcome::Lost, &keys, None);
        self.metrics.sink_events.with_label_values(&[&self.name, "dropped"]).inc_by(keys.len() as u64);
        self.skipped.add(keys.len() as u64);
    }

    /// A send will be repeated.
    pub fn retry(&self, reason: &'static str) {
        debug_assert!(RETRY_REASONS.contains(&reason));
        self.metrics.sink_retries.with_label_values(&[self.name.as_str(), reason]).inc();
    }

    /// A batch is on its way for as long as this is held.
    pub fn in_flight(&self) -> Raised {
        Raised::new(self.metrics.sink_in_flight.with_label_values(&[&self.name]))
    }

    pub fn batch(&self, result: &str) {
        self.metrics.sink_batches.with_label_values(&[&self.name, result]).inc();
    }
}

fn keys(items: &[Item]) -> Vec<RecordKey> {
    items.iter().map(|item| item.event().meta.key).collect()
}

/// Bytes that wait for a sink that is not required.
pub(super) struct Backlog {
    limit: AtomicUsize,
    held: AtomicUsize,
}

/// A share of a [`Backlog`]; given back on drop.
pub(super) struct Held {
    backlog: Arc<Backlog>,
    bytes: usize,
}

impl Backlog {
    pub fn new(limit: usize) -> Backlog {
        Backlog { limit: AtomicUsize::new(limit), held: AtomicUsize::new(0) }
    }

    /// Another limit from now on; what is held stays.
    pub fn set_limit(&self, limit: usize) {
        self.limit.store(limit, Ordering::Relaxed);
    }

    /// Holds what the delivery keeps in memory: its whole part, for a part is freed as a whole. A
    /// part above the limit passes alone. `None` when there is no room.
    pub fn hold(self: &Arc<Backlog>, delivery: &Delivery) -> Option<Held> {
        let bytes = delivery.part.raw.len() + delivery.part.docs.len() + Part::OVERHEAD;
        let limit = self.limit.load(Ordering::Relaxed);
        let fits = |held: usize| (held == 0 || held + bytes <= limit).then_some(held + bytes);
        self.held.fetch_update(Ordering::AcqRel, Ordering::Acquire, fits).ok()?;
        Some(Held { backlog: Arc::clone(self), bytes })
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.backlog.held.fetch_sub(self.bytes, Ordering::AcqRel);
    }
}

/// A part and what it holds of a backlog.
struct Lease {
    part: Arc<Part>,
    _held: Option<Held>,
}

/// One event without a verdict. Keeps its part alive: a dead letter needs the record.
#[derive(Clone)]
pub(super) struct Item {
    lease: Arc<Lease>,
    index: u32,
}

impl Item {
    pub fn event(&self) -> Event<'_> {
        self.lease.part.event(self.index)
    }
}

/// A delivery in the queue, taken from event by event.
pub(super) struct Queued {
    lease: Arc<Lease>,
    events: Vec<u32>,
    taken: usize,
    bytes: usize,
    verdicts: Arc<Verdicts>,
}

impl Queued {
    pub fn new(delivery: Delivery, verdicts: Arc<Verdicts>, held: Option<Held>) -> Queued {
        verdicts.metrics.sink_queued.with_label_values(&[&verdicts.name]).add(delivery.events.len() as i64);
        let size = |index: &u32| {
            let meta = delivery.part.event(*index).meta;
            meta.raw.len() + meta.docs.len()
        };
        let bytes = delivery.events.iter().map(size).sum();
        let lease = Arc::new(Lease { part: delivery.part, _held: held });
        Queued { lease, events: delivery.events, taken: 0, bytes, verdicts }
    }

    /// Whose it is.
    pub fn tenant(&self) -> &Arc<Tenant> {
        &self.lease.part.blob.feed.tenant
    }

    /// Bytes of its records and documents.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    pub fn is_empty(&self) -> bool {
        self.taken == self.events.len()
    }

    /// The next event, which stays here until [`take`](Self::take).
    pub fn peek(&self) -> Option<Event<'_>> {
        self.events.get(self.taken).map(|index| self.lease.part.event(*index))
    }

    pub fn take(&mut self) -> Option<Item> {
        let index = *self.events.get(self.taken)?;
        self.taken += 1;
        Some(Item { lease: Arc::clone(&self.lease), index })
    }

    fn rest(&mut self) -> Vec<RecordKey> {
        let rest = self.events[self.taken..].iter().map(|index| self.lease.part.event(*index).meta.key).collect();
        self.taken = self.events.len();
        rest
    }
}

impl Drop for Queued {
    fn drop(&mut self) {
        let rest = self.rest();
        self.verdicts.lost(&rest);
    }
}

/// Events without a verdict, lost when dropped.
pub(super) struct Unsettled {
    pub items: Vec<Item>,
    verdicts: Arc<Verdicts>,
}

impl Unsettled {
    pub fn new(items: Vec<Item>, verdicts: Arc<Verdicts>) -> Unsettled {
        Unsettled { items, verdicts }
    }

    /// The events, now in the caller's care.
    pub fn take(&mut self) -> Vec<Item> {
        std::mem::take(&mut self.items)
    }

    pub fn delivered(mut self, position: Option<&FilePosition>) {
        self.verdicts.delivered(&self.items, position);
        self.items.clear();
    }

    pub fn rejected(mut self) {
        self.verdicts.rejected(&self.items);
        self.items.clear();
    }

    pub fn verdicts(&self) -> &Arc<Verdicts> {
        &self.verdicts
    }
}

impl Drop for Unsettled {
    fn drop(&mut self) {
        if !self.items.is_empty() {
            self.verdicts.lost(&keys(&self.items));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_is_skipped_is_due_at_once_and_then_once_a_minute() {
        let skipped = Skipped::default();
        let soon = Duration::from_secs(1);
        assert!(tokio::time::timeout(soon, skipped.due(None)).await.is_err(), "nothing was skipped");
        skipped.add(3);
        let began = Instant::now();
        skipped.due(None).await;
        assert_eq!((began.elapsed(), skipped.events.load(Ordering::Acquire)), (Duration::ZERO, 3));
        skipped.say("s");
        let said = Some(Instant::now());
        assert!(tokio::time::timeout(2 * SKIPPED_SAID, skipped.due(said)).await.is_err(), "nothing new was skipped");
        let said = Instant::now();
        skipped.add(1);
        skipped.add(1);
        skipped.due(Some(said)).await;
        assert_eq!(said.elapsed(), SKIPPED_SAID);
    }
}
