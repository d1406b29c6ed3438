//! Records on their way: who is sending them where, and who waits for the verdict. One entry a key;
//! copies of a record in flight wait beside it and share its fate. Pure bookkeeping: says which
//! finalizers to settle and never settles one itself, because their callbacks may come back.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use crate::ack::{Finalizer, Outcome};
use crate::record::RecordKey;
use crate::sink::{SinkId, SinkSet};

/// Verdicts to be given once no lock is held.
pub(crate) type Verdicts = Vec<(Finalizer, Outcome)>;

/// Places a key by its own first bytes: it is a hash already.
#[derive(Default)]
pub(crate) struct KeyHasher(u64);

impl Hasher for KeyHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        if let Some(first) = bytes.first_chunk() {
            self.0 = u64::from_le_bytes(*first);
        }
    }

    fn write_usize(&mut self, _: usize) {}
}

type ByKey<T> = HashMap<RecordKey, T, BuildHasherDefault<KeyHasher>>;

struct InFlight {
    required_pending: SinkSet,
    optional_pending: SinkSet,
    /// Of the required sinks, so far.
    worst: Outcome,
    /// Gone once settled; the entry may live on for sinks nobody waits for.
    owner: Option<Finalizer>,
}

/// See the module's head. Never forgets a key before its sinks have spoken.
#[derive(Default)]
pub(crate) struct Flight {
    records: ByKey<InFlight>,
    /// Kept apart: most records have none.
    copies: ByKey<Vec<Finalizer>>,
}

impl Flight {
    pub(crate) fn len(&self) -> usize {
        self.records.len()
    }

    /// One record comes in, `had` by some sinks already. Returns the sinks it must be sent now.
    pub(crate) fn claim(
        &mut self,
        key: RecordKey,
        had: SinkSet,
        wanted: SinkSet,
        required: SinkSet,
        finalizer: Finalizer,
        verdicts: &mut Verdicts,
    ) -> SinkSet {
        let missing = wanted.minus(had);
        let must = required.intersection(missing);
        if missing.is_empty() {
            let outcome = if wanted.is_empty() { Outcome::Filtered } else { Outcome::Duplicate };
            verdicts.push((finalizer, outcome));
            return SinkSet::EMPTY;
        }
        let Some(known) = self.records.get_mut(&key) else {
            let owner = if must.is_empty() {
                verdicts.push((finalizer, Outcome::Duplicate));
                None
            } else {
                Some(finalizer)
            };
            let optional_pending = missing.minus(must);
            let record = InFlight { required_pending: must, optional_pending, worst: Outcome::Delivered, owner };
            self.records.insert(key, record);
            return missing;
        };
        let sending = known.required_pending.union(known.optional_pending);
        let send = missing.minus(sending);
        // A sink that nobody waited for may be one this copy waits for.
        known.required_pending = known.required_pending.union(must);
        known.optional_pending = known.optional_pending.union(missing).minus(known.required_pending);
        if must.is_empty() {
            verdicts.push((finalizer, Outcome::Duplicate));
        } else {
            self.copies.entry(key).or_default().push(finalizer);
        }
        send
    }

    /// A sink has spoken on one record.
    pub(crate) fn resolve(&mut self, key: &RecordKey, sink: SinkId, outcome: Outcome, verdicts: &mut Verdicts) {
        let Some(known) = self.records.get_mut(key) else { return };
        let sink = SinkSet::of(sink);
        known.optional_pending = known.optional_pending.minus(sink);
        if !known.required_pending.intersection(sink).is_empty() {
            known.required_pending = known.required_pending.minus(sink);
            known.worst = known.worst.max(outcome);
        }
        if !known.required_pending.is_empty() {
            return;
        }
        let worst = known.worst;
        known.worst = Outcome::Delivered;
        verdicts.extend(known.owner.take().map(|owner| (owner, worst)));
        let of_copies = if worst == Outcome::Lost { Outcome::Lost } else { Outcome::Duplicate };
        let copies = self.copies.remove(key).unwrap_or_default();
        verdicts.extend(copies.into_iter().map(|copy| (copy, of_copies)));
        if known.optional_pending.is_empty() {
            self.records.remove(key);
        }
    }

    /// All keys that wait for `sink`.
    pub(crate) fn waiting_for(&self, sink: SinkId) -> Vec<RecordKey> {
        let waits = |record: &InFlight| record.required_pending.union(record.optional_pending).contains(sink);
        self.records.iter().filter(|(_, record)| waits(record)).map(|(key, _)| *key).collect()
    }

    /// Forgets everything; the finalizers say lost as they drop.
    pub(crate) fn take(&mut self) -> Flight {
        std::mem::take(self)
    }
}
