//! Batches: filled event by event, taken apart when the receiver refuses some of one.
//!
//! An event is encoded when it enters a batch, never earlier, and never again unless its batch was
//! refused as a whole. An event larger than `max_bytes` goes alone.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::queue::{Item, Queued, Unsettled, Verdicts};
use crate::config::BatchConfig;
use crate::sink::{EncodedBatch, Sink};

/// Events and their encoding, in step.
pub(super) struct Batch {
    pub events: Unsettled,
    pub encoded: EncodedBatch,
}

impl Batch {
    /// Encodes these events as one batch.
    pub fn of(events: Unsettled, sink: &impl Sink) -> Batch {
        let mut encoded = EncodedBatch::default();
        for item in &events.items {
            sink.encode(&item.event(), &mut encoded.bytes);
            encoded.ends.push(encoded.bytes.len());
        }
        Batch { events, encoded }
    }

    pub fn len(&self) -> usize {
        self.encoded.ends.len()
    }

    /// Takes out the events at these indices (ascending, in range); they are returned in that order.
    pub fn remove(&mut self, indices: &[usize]) -> Vec<Item> {
        let mut removed = Vec::with_capacity(indices.len());
        let mut kept = Vec::with_capacity(self.len().saturating_sub(indices.len()));
        let mut ends = Vec::with_capacity(kept.capacity());
        let (mut from, mut to) = (0, 0);
        let mut indices = indices.iter().copied().peekable();
        for (index, item) in self.events.take().into_iter().enumerate() {
            let end = self.encoded.ends[index];
            if indices.next_if_eq(&index).is_some() {
                removed.push(item);
            } else {
                self.encoded.bytes.copy_within(from..end, to);
                to += end - from;
                ends.push(to);
                kept.push(item);
            }
            from = end;
        }
        self.encoded.bytes.truncate(to);
        self.encoded.ends = ends;
        self.events.items = kept;
        removed
    }

    /// Cuts the batch in two; the second half is returned.
    pub fn split_off_half(&mut self) -> Batch {
        let half = self.len() / 2;
        let items = self.events.items.split_off(half);
        let mut ends = self.encoded.ends.split_off(half);
        let cut = self.encoded.ends.last().copied().unwrap_or(0);
        let bytes = self.encoded.bytes.split_off(cut);
        ends.iter_mut().for_each(|end| *end -= cut);
        Batch {
            events: Unsettled::new(items, Arc::clone(self.events.verdicts())),
            encoded: EncodedBatch { bytes, ends },
        }
    }
}

/// The batch that is being filled.
pub(super) struct Filling {
    max_bytes: usize,
    max_events: usize,
    batch: Batch,
    deadline: Instant,
    full: bool,
    verdicts: Arc<Verdicts>,
}

impl Filling {
    pub fn new(limits: &BatchConfig, verdicts: Arc<Verdicts>) -> Filling {
        Filling {
            max_bytes: limits.max_bytes,
            max_events: limits.max_events.max(1),
            batch: empty(&verdicts),
            deadline: Instant::now(),
            full: false,
            verdicts,
        }
    }

    /// Fills the batch from the delivery until one of them ends.
    pub fn take_from(&mut self, delivery: &mut Queued, sink: &impl Sink, linger: Duration) {
        while !self.full {
            let start = self.batch.encoded.bytes.len();
            let Some(event) = delivery.peek() else { return };
            sink.encode(&event, &mut self.batch.encoded.bytes);
            let end = self.batch.encoded.bytes.len();
            if end > self.max_bytes && start > 0 {
                // It stays in the delivery and is encoded again for the next batch: one event a batch.
                self.batch.encoded.bytes.truncate(start);
                self.full = true;
                return;
            }
            let Some(item) = delivery.take() else { return };
            if self.batch.len() == 0 {
                self.deadline = Instant::now() + linger;
            }
            self.batch.events.items.push(item);
            self.batch.encoded.ends.push(end);
            self.full = end >= self.max_bytes || self.batch.len() >= self.max_events;
        }
    }

    pub fn is_empty(&self) -> bool {
        self.batch.len() == 0
    }

    /// Whether the batch should leave: full, old enough, or nothing more will come.
    pub fn is_due(&self, nothing_follows: bool) -> bool {
        !self.is_empty() && (self.full || nothing_follows || Instant::now() >= self.deadline)
    }

    /// Returns when the first event has waited long enough.
    pub async fn linger(&self) {
        tokio::time::sleep_until(self.deadline).await;
    }

    /// Hands the batch out and begins the next.
    pub fn finish(&mut self) -> Batch {
        self.full = false;
        std::mem::replace(&mut self.batch, empty(&self.verdicts))
    }
}

fn empty(verdicts: &Arc<Verdicts>) -> Batch {
    Batch { events: Unsettled::new(Vec::new(), Arc::clone(verdicts)), encoded: EncodedBatch::default() }
}
