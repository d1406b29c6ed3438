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

    /// All of these as one, encoded as they are; `None` for none.
    pub fn joined(batches: impl IntoIterator<Item = Batch>) -> Option<Batch> {
        batches.into_iter().reduce(|mut all, mut next| {
            let before = all.encoded.bytes.len();
            all.encoded.bytes.append(&mut next.encoded.bytes);
            all.encoded.ends.extend(next.encoded.ends.iter().map(|end| before + end));
            all.events.items.append(&mut next.events.items);
            all
        })
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::config::Format;
    use crate::event::{Delivery, Event};
    use crate::metrics::Metrics;
    use crate::normalize::Form;
    use crate::sink::line::Written;
    use crate::sink::{Accepted, SendError, SinkId, line, samples};

    /// Encodes as the file sink does.
    struct Lines;
    impl Sink for Lines {
        fn encode(&self, event: &Event<'_>, out: &mut Vec<u8>) {
            line::push_event(event, Written::new(Format::Raw, Form::Cef), out);
        }
        async fn send(&self, _: &EncodedBatch) -> Result<Accepted, SendError> {
            Ok(Accepted::default())
        }
        async fn probe(&self) -> Result<(), SendError> {
            Ok(())
        }
    }

    fn verdicts() -> (tempfile::TempDir, Arc<Verdicts>) {
        let dir = tempfile::tempdir().unwrap();
        let config = crate::config::StateConfig { dir: dir.path().to_owned(), max_delivered_bytes: 1 << 20 };
        let metrics = Metrics::new();
        let state = crate::state::State::open(&config, Arc::clone(&metrics)).unwrap();
        (dir, Arc::new(Verdicts::new("sink", SinkId(0), state, metrics)))
    }

    fn queued(records: &[String], verdicts: &Arc<Verdicts>) -> Queued {
        let records: Vec<_> = records.iter().map(String::as_str).collect();
        let part = samples::part(&records);
        let events = (0..records.len() as u32).collect();
        Queued::new(Delivery { part, events }, Arc::clone(verdicts), None)
    }

    fn filling(max_bytes: usize, max_events: usize, verdicts: &Arc<Verdicts>) -> Filling {
        let limits = BatchConfig { max_bytes, max_events, linger: Duration::ZERO, concurrency: 1 };
        Filling::new(&limits, Arc::clone(verdicts))
    }

    /// The batch's events one by one, as its encoding has them and as its items have them.
    fn contents(batch: &Batch) -> Vec<String> {
        let mut from = 0;
        let encoded: Vec<_> = batch
            .encoded
            .ends
            .iter()
            .map(|end| {
                let text = String::from_utf8(batch.encoded.bytes[from..*end].to_vec()).unwrap();
                from = *end;
                text.trim_end().to_owned()
            })
            .collect();
        assert_eq!(from, batch.encoded.bytes.len());
        let items: Vec<_> = batch.events.items.iter().map(|item| item.event().raw().to_vec()).collect();
        assert_eq!(items, encoded.iter().map(|text| text.as_bytes().to_vec()).collect::<Vec<_>>());
        encoded
    }

    #[tokio::test]
    async fn batches_keep_their_limits_and_an_oversized_event_goes_alone() {
        let (_dir, verdicts) = verdicts();
        let record = |n: usize, pad: usize| format!("{{\"n\":{n},\"p\":\"{}\"}}", "x".repeat(pad));
        let records: Vec<_> =
            [10, 10, 500, 10, 10, 10, 10].iter().enumerate().map(|(n, pad)| record(n, *pad)).collect();
        let mut delivery = queued(&records, &verdicts);
        let mut filling = filling(100, 3, &verdicts);
        let mut batches = Vec::new();
        while !delivery.is_empty() {
            filling.take_from(&mut delivery, &Lines, Duration::ZERO);
            batches.push(contents(&filling.finish()));
        }
        let sizes: Vec<_> = batches.iter().map(Vec::len).collect();
        assert_eq!(sizes, [2, 1, 3, 1]);
        assert_eq!(batches.concat(), records);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        /// Whatever is taken out or cut off, items and encoding stay in step and nothing is lost.
        #[test]
        fn removing_and_halving_keep_items_and_encoding_in_step(
            pads in prop::collection::vec(0_usize..20, 1..30),
            picks in prop::collection::vec(any::<bool>(), 30),
        ) {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let _inside = runtime.enter();
            let (_dir, verdicts) = verdicts();
            let records: Vec<_> =
                pads.iter().enumerate().map(|(n, pad)| format!("{{\"n\":{n},\"p\":\"{}\"}}", "x".repeat(*pad))).collect();
            let mut delivery = queued(&records, &verdicts);
            let mut filling = filling(usize::MAX, usize::MAX, &verdicts);
            filling.take_from(&mut delivery, &Lines, Duration::ZERO);
            let mut batch = filling.finish();
            let indices: Vec<_> = (0..records.len()).filter(|n| picks[*n]).collect();
            let removed = batch.remove(&indices);
            let removed: Vec<_> = removed.iter().map(|item| String::from_utf8(item.event().raw().to_vec()).unwrap()).collect();
            prop_assert_eq!(removed, indices.iter().map(|n| records[*n].clone()).collect::<Vec<_>>());
            let kept: Vec<_> = (0..records.len()).filter(|n| !picks[*n]).map(|n| records[n].clone()).collect();
            prop_assert_eq!(contents(&batch), kept.clone());
            let second = batch.split_off_half();
            prop_assert_eq!([contents(&batch), contents(&second)].concat(), kept);
        }
    }
}
