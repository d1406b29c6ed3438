//! The segments on disk: which to keep, which to merge, which to let go. Works on a list and returns
//! a new one; files that the new list lacks are removed by the caller once no snapshot names them.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use super::segment::{self, Segment};
use crate::sink::SinkId;
use crate::state::StateError;

/// When segments go. The values of a real process are in [`Limits::new`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// All segments together, bytes.
    pub(crate) max_bytes: u64,
    /// Milliseconds since a segment's newest key arrived.
    pub(crate) retention_ms: i64,
    /// Beyond so many, small ones are merged.
    pub(crate) segments: usize,
    /// Keys of a merged segment: its filter is built in memory.
    pub(crate) merged_keys: u64,
}

impl Limits {
    pub(crate) fn new(max_bytes: u64) -> Limits {
        Limits {
            max_bytes,
            // The service serves content for 7 days (activity-api 1.7); a day for what is in flight at its end.
            retention_ms: 8 * 24 * 3600 * 1000,
            // Each segment is a look-up of every new record.
            segments: 8,
            // A filter of 5 MB while merging.
            merged_keys: 4 << 20,
        }
    }
}

/// The time by which segments age: it goes on from the newest of them while a process runs. A machine's
/// clock that is set weeks ahead, for a moment or for good, must not let go of keys that the service may still
/// serve the records of; so days of standing still do not count, and the cap on bytes bounds what that keeps.
#[derive(Debug)]
pub(crate) struct Running {
    began: Instant,
    at_ms: i64,
}

impl Running {
    /// `world_ms`: where it begins when there are no segments.
    pub(crate) fn after(shelf: &[Arc<Segment>], world_ms: i64) -> Running {
        let at_ms = shelf.iter().map(|segment| segment.newest_ms).max().unwrap_or(world_ms);
        Running { began: Instant::now(), at_ms }
    }

    pub(crate) fn now_ms(&self) -> i64 {
        self.at_ms.saturating_add(i64::try_from(self.began.elapsed().as_millis()).unwrap_or(i64::MAX))
    }
}

/// Lets go what is too old (uncounted) and, oldest first, what is too much. Returns the keys lost to
/// the size cap.
pub(crate) fn evict(shelf: &mut Vec<Arc<Segment>>, limits: &Limits, now_ms: i64) -> u64 {
    shelf.sort_by_key(|segment| (segment.newest_ms, segment.id));
    shelf.retain(|segment| segment.newest_ms.saturating_add(limits.retention_ms) > now_ms);
    let mut evicted = 0;
    let mut total: u64 = shelf.iter().map(|segment| segment.bytes()).sum();
    while total > limits.max_bytes && !shelf.is_empty() {
        let oldest = shelf.remove(0);
        total -= oldest.bytes();
        evicted += oldest.count;
    }
    evicted
}

/// Merges the pair of neighbours in age that has the fewest keys, if there are too many segments.
/// True when it did; the ones merged have left the list and lie on disk still.
pub(crate) fn merge_once(
    shelf: &mut Vec<Arc<Segment>>,
    limits: &Limits,
    dir: &Path,
    id: impl FnOnce() -> u64,
    sinks: &BTreeMap<SinkId, String>,
) -> Result<bool, StateError> {
    if shelf.len() <= limits.segments {
        return Ok(false);
    }
    let keys = |at: usize| shelf[at].count + shelf[at + 1].count;
    let Some(at) = (0..shelf.len() - 1).filter(|at| keys(*at) <= limits.merged_keys).min_by_key(|at| keys(*at)) else {
        return Ok(false);
    };
    let (one, other) = (&shelf[at], &shelf[at + 1]);
    let newest_ms = one.newest_ms.max(other.newest_ms);
    let merged = segment::write(dir, id(), newest_ms, sinks, keys(at), segment::merged(one, other))?;
    shelf.splice(at..at + 2, [Arc::new(merged)]);
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;
    use crate::delivered::generation::Generation;
    use crate::record::RecordKey;
    use crate::sink::SinkSet;

    fn key(n: u64) -> RecordKey {
        let mut key = RecordKey::default();
        key.0.copy_from_slice(&blake3::hash(&n.to_le_bytes()).as_bytes()[..16]);
        key
    }

    fn write(dir: &Path, id: u64, sink: u8, keys: std::ops::Range<u64>) -> Arc<Segment> {
        let mut generation = Generation::default();
        keys.for_each(|n| generation.mark(&key(n), SinkSet::of(SinkId(sink))));
        let most = generation.len() as u64;
        let names = BTreeMap::from([(SinkId(sink), format!("sink {sink}"))]);
        Arc::new(segment::write(dir, id, id as i64 * 1000, &names, most, generation.sorted()).unwrap())
    }

    #[test]
    fn every_key_is_found_and_no_other() {
        let dir = tempfile::tempdir().unwrap();
        for count in [0, 1, 2, 1000, 5000] {
            write(dir.path(), 1, 3, 0..count);
            let segment = Segment::open(dir.path(), 1).unwrap().unwrap();
            for n in 0..count {
                assert_eq!(segment.get(&key(n)), SinkSet::of(SinkId(3)), "{n} of {count}");
            }
            let found = (10_000..20_000).filter(|n| !segment.get(&key(*n)).is_empty()).count();
            assert_eq!(found, 0);
            for edge in [[0; 16], [255; 16]] {
                assert_eq!(segment.get(&RecordKey(edge)), SinkSet::EMPTY);
            }
            assert_eq!(segment.sinks[&SinkId(3)], "sink 3");
        }
    }

    #[test]
    fn a_changed_segment_is_damaged_at_every_bit() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), 1, 0, 0..10);
        let path = segment::path(dir.path(), 1);
        let bytes = std::fs::read(&path).unwrap();
        for bit in 0..bytes.len() * 8 {
            let mut changed = bytes.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            // A new file under the name: the old one may be mapped.
            std::fs::remove_file(&path).unwrap();
            std::fs::write(&path, &changed).unwrap();
            assert!(Segment::open(dir.path(), 1).unwrap().is_none(), "bit {bit}");
        }
        std::fs::write(&path, &bytes[..bytes.len() - 1]).unwrap();
        assert!(Segment::open(dir.path(), 1).unwrap().is_none());
    }

    #[test]
    fn merging_loses_nothing_and_adds_up_the_sinks() {
        let dir = tempfile::tempdir().unwrap();
        let limits = Limits { segments: 1, ..Limits::new(u64::MAX) };
        let mut shelf = vec![write(dir.path(), 1, 0, 0..300), write(dir.path(), 2, 1, 200..500)];
        assert!(merge_once(&mut shelf, &limits, dir.path(), || 3, &BTreeMap::new()).unwrap());
        assert!(!merge_once(&mut shelf, &limits, dir.path(), || 4, &BTreeMap::new()).unwrap());
        assert_eq!((shelf.len(), shelf[0].count, shelf[0].newest_ms), (1, 500, 2000));
        let expected = |n| u32::from(n < 300) | u32::from(n >= 200) << 1;
        assert!((0..500).all(|n| shelf[0].get(&key(n)).0 == expected(n)));
    }

    #[test]
    fn the_oldest_go_first_by_age_and_by_size() {
        let dir = tempfile::tempdir().unwrap();
        let mut shelf: Vec<_> = (1..=4).rev().map(|id| write(dir.path(), id, 0, id * 100..id * 100 + 100)).collect();
        let room = shelf[0].bytes() * 2;
        let limits = Limits { max_bytes: room, retention_ms: 5000, ..Limits::new(0) };
        assert_eq!(evict(&mut shelf, &limits, 6500), 100, "one too old, uncounted; one too many, counted");
        assert_eq!(shelf.iter().map(|segment| segment.id).collect::<Vec<_>>(), [3, 4]);
    }

    #[test]
    fn a_clock_set_weeks_ahead_lets_no_key_go() {
        let dir = tempfile::tempdir().unwrap();
        let mut shelf: Vec<_> = (1..=4).map(|id| write(dir.path(), id, 0, id * 100..id * 100 + 100)).collect();
        let a_month_ahead = clock::world_ms() + 30 * 24 * 3600 * 1000;
        let running = Running::after(&shelf, a_month_ahead);
        assert_eq!(evict(&mut shelf, &Limits::new(u64::MAX), running.now_ms()), 0);
        assert_eq!(shelf.len(), 4);
        assert!(Running::after(&[], a_month_ahead).now_ms() >= a_month_ahead);
    }
}
