//! The newest record keys, in memory: a table of packed 20-byte entries, key and the sinks that have
//! it. Keys are hashes already, so their own bytes place them.

use hashbrown::HashTable;

use crate::record::RecordKey;
use crate::sink::SinkSet;

/// Bytes of an entry, in memory and in a segment: 16 of key, 4 of sink bits (little-endian).
pub(crate) const ENTRY: usize = 20;
pub(crate) type Entry = [u8; ENTRY];

/// Keys of a table of 2^19 places before it doubles: 11 MB.
pub(crate) const FULL: usize = (1 << 19) / 8 * 7;

/// From so many keys on a table takes its full size at once (1.4 MB before): tables that double and
/// are freed on the way leave holes that the allocator keeps.
const SMALL: usize = (1 << 16) / 8 * 7;

/// Slices of the key space in which a table is sorted, so that sorting needs a sixteenth of its size.
const SLICES: u8 = 16;

/// See the module's head. Allocates nothing before the first key.
#[derive(Default)]
pub(crate) struct Generation(HashTable<Entry>);

fn place(key: &[u8]) -> u64 {
    key.first_chunk().map_or(0, |first| u64::from_le_bytes(*first))
}

pub(crate) fn key_of(entry: &Entry) -> &[u8] {
    &entry[..16]
}

pub(crate) fn sinks_of(entry: &Entry) -> SinkSet {
    SinkSet(u32::from_le_bytes([entry[16], entry[17], entry[18], entry[19]]))
}

impl Generation {
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn get(&self, key: &RecordKey) -> SinkSet {
        self.0.find(place(&key.0), |entry| key_of(entry) == key.0).map_or(SinkSet::EMPTY, sinks_of)
    }

    /// Adds the sinks to those that have the record.
    pub(crate) fn mark(&mut self, key: &RecordKey, sinks: SinkSet) {
        if self.0.len() == SMALL && self.0.capacity() < FULL {
            self.0.reserve(FULL - SMALL, |entry| place(entry));
        }
        let known =
            self.0.entry(place(&key.0), |entry| key_of(entry) == key.0, |entry| place(entry)).or_insert_with(|| {
                let mut entry = [0; ENTRY];
                entry[..16].copy_from_slice(&key.0);
                entry
            });
        let entry = known.into_mut();
        let all = sinks_of(entry).union(sinks);
        entry[16..].copy_from_slice(&all.0.to_le_bytes());
    }

    /// Forgets everything and keeps the memory for the next keys, unless it is more than they need.
    pub(crate) fn clear(&mut self) {
        if self.0.capacity() > FULL {
            self.0 = HashTable::new();
        }
        self.0.clear();
    }

    /// All entries in ascending order of their keys, a slice of the key space at a time.
    pub(crate) fn sorted(&self) -> impl Iterator<Item = Entry> + '_ {
        (0..SLICES).flat_map(move |slice| {
            let of_slice = |entry: &&Entry| entry[0] / (u8::MAX / SLICES + 1) == slice;
            let mut entries: Vec<Entry> = self.0.iter().filter(of_slice).copied().collect();
            entries.sort_unstable();
            entries
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sink::SinkId;

    #[test]
    fn a_table_grows_to_its_full_size_at_once_and_no_further_when_used_again() {
        let mut generation = Generation::default();
        let key = |n: usize| {
            let mut key = RecordKey::default();
            key.0.copy_from_slice(&blake3::hash(&n.to_le_bytes()).as_bytes()[..16]);
            key
        };
        (0..=SMALL).for_each(|n| generation.mark(&key(n), SinkSet(1)));
        assert_eq!(generation.0.capacity(), FULL);
        generation.clear();
        assert_eq!((generation.len(), generation.0.capacity()), (0, FULL));
        generation.0.reserve(FULL + 1, |entry| place(entry));
        generation.clear();
        assert_eq!(generation.0.capacity(), 0);
    }

    #[test]
    fn sinks_of_a_key_add_up_and_keys_come_out_sorted() {
        let mut generation = Generation::default();
        for n in (0..=255).rev() {
            generation.mark(&RecordKey([n; 16]), SinkSet::of(SinkId(n % 3)));
        }
        generation.mark(&RecordKey([5; 16]), SinkSet::of(SinkId(31)));
        assert_eq!(generation.get(&RecordKey([5; 16])), SinkSet(1 << 2 | 1 << 31));
        assert_eq!(generation.get(&RecordKey([5; 16].map(|b: u8| b + 1))), SinkSet(1));
        let keys: Vec<u8> = generation.sorted().map(|entry| entry[0]).collect();
        assert_eq!(keys, (0..=255).collect::<Vec<u8>>());
    }
}
