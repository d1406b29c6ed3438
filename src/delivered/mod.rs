//! Which sink has which record: in memory, in segments on disk, and what is in flight.
//!
//! Comes in: claims from the pipeline (who still needs this record?) and verdicts from the return
//! lane. A record in flight suppresses its copies only provisionally: they share its verdict, so if
//! it is lost their blobs stay unsettled too.

mod flight;
mod generation;
pub(crate) mod segment;
pub(crate) mod shelf;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::ack::{Finalizer, Outcome};
use crate::metrics::{Gauge, Metrics};
use crate::record::RecordKey;
use crate::sink::{SinkId, SinkSet};

use flight::Flight;
pub(crate) use flight::Verdicts;
pub(crate) use generation::{FULL, Generation};
use segment::Segment;

/// What each sink has.
pub struct Delivered {
    known: Mutex<Known>,
    in_memory: Gauge,
    on_disk: Gauge,
    in_flight: Gauge,
}

#[derive(Default)]
struct Known {
    /// Keys of the journal that is being written.
    current: Generation,
    /// Keys before those: in a segment already, or about to be.
    previous: Arc<Generation>,
    /// Newest last.
    segments: Vec<Arc<Segment>>,
    flight: Flight,
}

impl Known {
    fn sinks(&self, key: &RecordKey) -> SinkSet {
        let in_memory = self.current.get(key).union(self.previous.get(key));
        self.segments.iter().rev().fold(in_memory, |sinks, segment| sinks.union(segment.get(key)))
    }
}

impl Delivered {
    pub(crate) fn new(metrics: &Metrics) -> Delivered {
        let tier = |tier: &str| metrics.delivered_keys.with_label_values(&[tier]);
        Delivered {
            known: Mutex::default(),
            in_memory: tier("memory"),
            on_disk: tier("disk"),
            in_flight: tier("in_flight"),
        }
    }

    /// Nothing panics while holding it, and what a panic could leave behind is still true.
    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn measure(&self, known: &Known) {
        let number = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
        self.in_memory.set(number(known.current.len() + known.previous.len()));
        self.in_flight.set(number(known.flight.len()));
    }

    /// For each record, in order: which sinks of `wanted` must now be sent it. The finalizer is
    /// settled when all *required* sinks of that record are done; at once (as `Duplicate`) when they
    /// already are, and as `Filtered` when no sink wants it.
    pub fn claim(
        &self,
        wanted: SinkSet,
        required: SinkSet,
        records: impl Iterator<Item = (RecordKey, Finalizer)>,
    ) -> Vec<SinkSet> {
        self.claim_each(required, records.map(|(key, finalizer)| (key, wanted, finalizer)))
    }

    /// As [`Delivered::claim`], where each record is wanted by sinks of its own.
    pub fn claim_each(
        &self,
        required: SinkSet,
        records: impl Iterator<Item = (RecordKey, SinkSet, Finalizer)>,
    ) -> Vec<SinkSet> {
        let mut verdicts = Verdicts::new();
        let sends = {
            let mut known = self.known();
            let claim = |(key, wanted, finalizer)| {
                let had = known.sinks(&key);
                let required = required.intersection(wanted);
                known.flight.claim(key, had, wanted, required, finalizer, &mut verdicts)
            };
            let sends = records.map(claim).collect();
            self.measure(&known);
            sends
        };
        settle(verdicts);
        sends
    }

    /// A sink's verdict on some records. `Delivered` and `Rejected` mark them as had by the sink.
    pub fn resolve(&self, sink: SinkId, outcome: Outcome, keys: &[RecordKey]) {
        settle(self.resolve_later(sink, outcome, keys));
    }

    /// As [`Delivered::resolve`], but leaves the settling to the caller, who may hold a lock now.
    #[must_use]
    pub(crate) fn resolve_later(&self, sink: SinkId, outcome: Outcome, keys: &[RecordKey]) -> Verdicts {
        let mut verdicts = Verdicts::new();
        let mut known = self.known();
        for key in keys {
            if is_had(outcome) {
                known.current.mark(key, SinkSet::of(sink));
            }
            known.flight.resolve(key, sink, outcome, &mut verdicts);
        }
        self.measure(&known);
        verdicts
    }

    /// The sink is gone (removed, or its driver ended): all that waits for it is lost.
    pub fn abandon(&self, sink: SinkId) {
        let waiting = self.known().flight.waiting_for(sink);
        self.resolve(sink, Outcome::Lost, &waiting);
    }

    /// The process ends: everything in flight is lost.
    pub(crate) fn abandon_all(&self) {
        let flight = self.known().flight.take();
        self.in_flight.set(0);
        drop(flight);
    }

    /// What a journal says a sink has; for the start.
    pub(crate) fn restore(&self, sink: SinkId, keys: &[u8]) {
        let mut known = self.known();
        for key in keys.as_chunks::<16>().0 {
            known.current.mark(&RecordKey(*key), SinkSet::of(sink));
        }
        self.measure(&known);
    }

    /// Which of these records (16 bytes a key) the sink has, in order.
    pub(crate) fn had(&self, sink: SinkId, keys: &[u8]) -> Vec<bool> {
        let known = self.known();
        keys.as_chunks::<16>().0.iter().map(|key| known.sinks(&RecordKey(*key)).contains(sink)).collect()
    }

    /// Keys that lie in no frozen generation yet.
    pub(crate) fn current_len(&self) -> usize {
        self.known().current.len()
    }

    /// Ends the current generation and returns it, to be written as a segment. What was frozen
    /// before must lie in one by now. `None` when there are no keys.
    pub(crate) fn freeze(&self) -> Option<Arc<Generation>> {
        let mut known = self.known();
        if known.current.len() == 0 {
            return None;
        }
        // Its memory serves the next keys, so that 11 MB tables do not come and go.
        let mut spare = std::mem::take(&mut known.previous);
        let next = match Arc::get_mut(&mut spare) {
            Some(generation) => {
                generation.clear();
                std::mem::take(generation)
            }
            None => Generation::default(),
        };
        known.previous = Arc::new(std::mem::replace(&mut known.current, next));
        self.measure(&known);
        Some(Arc::clone(&known.previous))
    }

    pub(crate) fn segments(&self) -> Vec<Arc<Segment>> {
        self.known().segments.clone()
    }

    pub(crate) fn set_segments(&self, segments: Vec<Arc<Segment>>) {
        let keys = segments.iter().map(|segment| segment.count).sum::<u64>();
        self.on_disk.set(i64::try_from(keys).unwrap_or(i64::MAX));
        self.known().segments = segments;
    }
}

/// Whether a sink that says so need not be sent the record again.
pub(crate) fn is_had(outcome: Outcome) -> bool {
    matches!(outcome, Outcome::Delivered | Outcome::Duplicate | Outcome::Rejected)
}

/// Gives the verdicts. No lock may be held: what hears them may come back here.
pub(crate) fn settle(verdicts: Verdicts) {
    for (finalizer, outcome) in verdicts {
        finalizer.settle(outcome);
    }
}

#[cfg(test)]
mod tests;
