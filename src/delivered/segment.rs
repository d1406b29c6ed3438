//! A segment: record keys on disk, sorted, written once and then only looked up through a map.
//!
//! ```text
//! [magic 8][version u32][id u64][count u64][bloom blocks u64][newest ms i64][names length u32][crc32 of the rest u32][crc32 of these u32]
//! [entries, 20 bytes each, ascending][bloom filter, blocks of 64 bytes][names of sinks, postcard]
//! ```
//! The names make a segment readable without the rest of the state: an id that another sink bears
//! there would make records pass for delivered that are not.
//!
//! Comes in: sorted entries. Goes out: which sinks have a key. Never changes a file.

use std::collections::BTreeMap;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use super::generation::{ENTRY, Entry, key_of, sinks_of};
use crate::disk::map::Map;
use crate::disk::{self, Fsync};
use crate::record::RecordKey;
use crate::sink::{SinkId, SinkSet};
use crate::state::{StateError, check_version, failed_fsync, failure, temporary};

pub(crate) const VERSION: u32 = 1;
const MAGIC: &[u8; 8] = b"AFKEYS\r\n";
const HEADER: usize = 56;
/// Buffer for writing and for the check at a start.
const BUFFER: usize = 256 * 1024;

/// Ten bits a key, in blocks of one cache line: two keys in a hundred are looked up in vain.
const BLOCK: usize = 64;
const KEYS_PER_BLOCK: u64 = 51;
const PROBES: u32 = 6;

/// A segment that can be looked up.
pub(crate) struct Segment {
    pub(crate) id: u64,
    pub(crate) count: u64,
    /// World time at which its newest key had arrived, milliseconds.
    pub(crate) newest_ms: i64,
    pub(crate) sinks: BTreeMap<SinkId, String>,
    map: Map,
    bloom_blocks: u64,
}

pub(crate) fn path(dir: &Path, id: u64) -> PathBuf {
    dir.join(format!("keys-{id}.seg"))
}

struct Header {
    id: u64,
    count: u64,
    bloom_blocks: u64,
    newest_ms: i64,
    names_length: u32,
    body_crc: u32,
}

impl Header {
    fn to_bytes(&self) -> [u8; HEADER] {
        let mut bytes = [0; HEADER];
        bytes[..8].copy_from_slice(MAGIC);
        bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
        bytes[12..20].copy_from_slice(&self.id.to_le_bytes());
        bytes[20..28].copy_from_slice(&self.count.to_le_bytes());
        bytes[28..36].copy_from_slice(&self.bloom_blocks.to_le_bytes());
        bytes[36..44].copy_from_slice(&self.newest_ms.to_le_bytes());
        bytes[44..48].copy_from_slice(&self.names_length.to_le_bytes());
        bytes[48..52].copy_from_slice(&self.body_crc.to_le_bytes());
        let crc = crc32fast::hash(&bytes[..52]);
        bytes[52..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    fn parse(bytes: &[u8; HEADER]) -> Header {
        let long = |at: usize| bytes[at..].first_chunk().map_or(0, |b| u64::from_le_bytes(*b));
        let short = |at: usize| bytes[at..].first_chunk().map_or(0, |b| u32::from_le_bytes(*b));
        Header {
            id: long(12),
            count: long(20),
            bloom_blocks: long(28),
            newest_ms: long(36) as i64,
            names_length: short(44),
            body_crc: short(48),
        }
    }

    /// Bytes of the file, or `None` when they could not be counted.
    fn size(&self) -> Option<u64> {
        let entries = self.count.checked_mul(ENTRY as u64)?;
        let bloom = self.bloom_blocks.checked_mul(BLOCK as u64)?;
        entries.checked_add(bloom)?.checked_add(u64::from(self.names_length))?.checked_add(HEADER as u64)
    }
}

/// The block of a key and the bits in it. The first half of the key places it in the order, the
/// second half in the filter.
fn bloom_place(key: &[u8], blocks: u64) -> (usize, u64) {
    let half = |at: usize| key[at..].first_chunk().map_or(0, |b| u64::from_le_bytes(*b));
    let block = (u128::from(half(8)) * u128::from(blocks)) >> 64;
    (block as usize * BLOCK, half(0) ^ half(8).rotate_left(32))
}

fn bloom_bits(bits: u64) -> impl Iterator<Item = (usize, u8)> {
    (0..PROBES).map(move |probe| {
        let bit = (bits >> (probe * 9)) as usize % (BLOCK * 8);
        (bit / 8, 1 << (bit % 8))
    })
}

/// Writes a segment of `entries` (ascending, at most `most` of them) and opens it. It and its name
/// are durable when this returns.
pub(crate) fn write(
    dir: &Path,
    id: u64,
    newest_ms: i64,
    sinks: &BTreeMap<SinkId, String>,
    most: u64,
    entries: impl Iterator<Item = Entry>,
) -> Result<Segment, StateError> {
    let path = path(dir, id);
    let temporary = temporary(&path);
    let fail = failure(&temporary);
    let bloom_blocks = most.div_ceil(KEYS_PER_BLOCK).max(1);
    let mut bloom = vec![0u8; usize::try_from(bloom_blocks).unwrap_or(usize::MAX).saturating_mul(BLOCK)];
    let names = postcard::to_stdvec(sinks).map_err(|error| fail(std::io::Error::other(error)))?;
    let mut crc = crc32fast::Hasher::new();
    let mut count = 0;
    let mut file = BufWriter::with_capacity(BUFFER, disk::create(&temporary).map_err(&fail)?);
    file.write_all(&[0; HEADER]).map_err(&fail)?;
    for entry in entries {
        let (block, bits) = bloom_place(&entry, bloom_blocks);
        bloom_bits(bits).for_each(|(byte, bit)| bloom[block + byte] |= bit);
        crc.update(&entry);
        file.write_all(&entry).map_err(&fail)?;
        count += 1;
    }
    crc.update(&bloom);
    crc.update(&names);
    file.write_all(&bloom).and_then(|()| file.write_all(&names)).map_err(&fail)?;
    let names_length = u32::try_from(names.len()).unwrap_or(u32::MAX);
    let header = Header { id, count, bloom_blocks, newest_ms, names_length, body_crc: crc.finalize() };
    let file = file.into_inner().map_err(|error| fail(error.into_error()))?;
    file.write_all_at(&header.to_bytes(), 0).map_err(&fail)?;
    file.fsync(Fsync::SegmentBytes).map_err(failed_fsync(&temporary))?;
    disk::rename(&temporary, &path).map_err(&fail)?;
    disk::fsync_dir(dir, Fsync::SegmentName).map_err(failed_fsync(dir))?;
    let map = file.map().map_err(failure(&path))?;
    Ok(Segment { id, count, newest_ms, sinks: sinks.clone(), map, bloom_blocks })
}

impl Segment {
    /// Opens the segment `id` and checks all of it; `None` when it is damaged.
    pub(crate) fn open(dir: &Path, id: u64) -> Result<Option<Segment>, StateError> {
        let path = path(dir, id);
        let fail = failure(&path);
        let file = disk::open(&path).map_err(&fail)?;
        let size = file.about().map_err(&fail)?.length;
        if size < HEADER as u64 {
            return Ok(None);
        }
        let mut head = [0; HEADER];
        file.read_exact_at(&mut head, 0).map_err(&fail)?;
        let header = Header::parse(&head);
        let version = u32::from_le_bytes([head[8], head[9], head[10], head[11]]);
        let whole = crc32fast::hash(&head[..52]).to_le_bytes() == head[52..];
        if whole && head.starts_with(MAGIC) {
            check_version(&path, version, VERSION)?;
        }
        if head != header.to_bytes() || header.id != id || header.size() != Some(size) || header.bloom_blocks == 0 {
            return Ok(None);
        }
        // Read and not mapped, so that the check does not pass for memory in use.
        let (mut crc, mut buffer, mut at) = (crc32fast::Hasher::new(), vec![0; BUFFER], HEADER as u64);
        let mut names = Vec::new();
        let names_at = size - u64::from(header.names_length);
        while at < size {
            let border = if at < names_at { names_at } else { size };
            let length = usize::try_from(border - at).unwrap_or(BUFFER).min(BUFFER);
            file.read_exact_at(&mut buffer[..length], at).map_err(&fail)?;
            crc.update(&buffer[..length]);
            if at >= names_at {
                names.extend_from_slice(&buffer[..length]);
            }
            at += length as u64;
        }
        if crc.finalize() != header.body_crc {
            return Ok(None);
        }
        let Ok(sinks) = postcard::from_bytes(&names) else { return Ok(None) };
        let map = file.map().map_err(&fail)?;
        let Header { count, bloom_blocks, newest_ms, .. } = header;
        Ok(Some(Segment { id, count, newest_ms, sinks, map, bloom_blocks }))
    }

    /// Bytes of the file.
    pub(crate) fn bytes(&self) -> u64 {
        self.map.len() as u64
    }

    pub(crate) fn entry(&self, index: u64) -> Option<&Entry> {
        let index = usize::try_from(index).ok().filter(|_| index < self.count)?;
        self.map[HEADER + index * ENTRY..].first_chunk()
    }

    /// All entries, ascending.
    pub(crate) fn entries(&self) -> impl Iterator<Item = Entry> + '_ {
        (0..self.count).filter_map(|index| self.entry(index).copied())
    }

    /// The sinks that have the record, as far as this segment knows.
    pub(crate) fn get(&self, key: &RecordKey) -> SinkSet {
        if !self.may_have(key) {
            return SinkSet::EMPTY;
        }
        let (mut low, mut high) = self.bracket(key);
        while low < high {
            let middle = low + (high - low) / 2;
            let Some(entry) = self.entry(middle) else { return SinkSet::EMPTY };
            match key_of(entry).cmp(&key.0) {
                std::cmp::Ordering::Equal => return sinks_of(entry),
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Greater => high = middle,
            }
        }
        SinkSet::EMPTY
    }

    fn may_have(&self, key: &RecordKey) -> bool {
        let (block, bits) = bloom_place(&key.0, self.bloom_blocks);
        let start = HEADER + self.count as usize * ENTRY + block;
        self.map
            .get(start..start + BLOCK)
            .is_some_and(|block| bloom_bits(bits).all(|(byte, bit)| block[byte] & bit != 0))
    }

    /// A range of indices that holds the key if anything does. Keys are hashes, so a key's value says
    /// about where it lies; from there outwards in doubling steps, which stays within a page or two.
    fn bracket(&self, key: &RecordKey) -> (u64, u64) {
        let value = u64::from_be_bytes(key.0.first_chunk().copied().unwrap_or_default());
        let guess = ((u128::from(value) * u128::from(self.count)) >> 64) as u64;
        let less = |index: u64| self.entry(index).is_some_and(|entry| key_of(entry) < &key.0[..]);
        let mut step = 32;
        let mut low = guess;
        while low > 0 && !less(low) {
            low = low.saturating_sub(step);
            step *= 2;
        }
        let mut high = guess.max(low);
        step = 32;
        while high < self.count && less(high) {
            high = high.saturating_add(step);
            step *= 2;
        }
        (low, high.saturating_add(1).min(self.count))
    }
}

/// The entries of two segments in one order, the sinks of a key that both have added up.
pub(crate) fn merged<'a>(one: &'a Segment, other: &'a Segment) -> impl Iterator<Item = Entry> + 'a {
    let (mut left, mut right) = (one.entries().peekable(), other.entries().peekable());
    std::iter::from_fn(move || {
        let order = match (left.peek(), right.peek()) {
            (Some(a), Some(b)) => key_of(a).cmp(key_of(b)),
            (Some(_), None) => std::cmp::Ordering::Less,
            (None, _) => std::cmp::Ordering::Greater,
        };
        match order {
            std::cmp::Ordering::Less => left.next(),
            std::cmp::Ordering::Greater => right.next(),
            std::cmp::Ordering::Equal => {
                let (mut entry, also) = (left.next()?, right.next()?);
                let all = sinks_of(&entry).union(sinks_of(&also));
                entry[16..].copy_from_slice(&all.0.to_le_bytes());
                Some(entry)
            }
        }
    })
}
