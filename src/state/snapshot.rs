//! The snapshot: all that is known at the moment a journal generation begins, in one checked file.
//! Written under a temporary name and renamed; the previous generation is kept.
//!
//! ```text
//! [magic 8][version u32][generation u64][payload length u64][crc32 of payload u32][crc32 of these u32][payload]
//! payload: book, number of feeds, each (key, progress), ids of key segments; postcard
//! ```

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::book::Book;
use super::error::{failed_fsync, failure};
use super::{FeedProgress, StateError, temporary};
use crate::disk::{self, Fsync};
use crate::failpoint;
use crate::feed::FeedKey;

pub(crate) const VERSION: u32 = 1;
const MAGIC: &[u8; 8] = b"AFSNAP\r\n";
const HEADER: usize = 36;

/// What a snapshot says.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Snapshot {
    pub(crate) book: Book,
    pub(crate) feeds: BTreeMap<FeedKey, FeedProgress>,
    pub(crate) segments: Vec<u64>,
}

/// A snapshot being put together: all but the segments, which are known only once they are written.
pub(crate) struct Encoder(Vec<u8>);

impl Encoder {
    pub(crate) fn new(book: &Book, feeds: usize) -> Result<Encoder, postcard::Error> {
        let mut encoder = Encoder(Vec::new());
        encoder.push(book)?;
        encoder.push(&(feeds as u64))?;
        Ok(encoder)
    }

    /// Exactly as many as were announced.
    pub(crate) fn feed(&mut self, key: &FeedKey, progress: &FeedProgress) -> Result<(), postcard::Error> {
        self.push(&(key, progress))
    }

    fn push(&mut self, value: &impl Serialize) -> Result<(), postcard::Error> {
        postcard::to_io(value, &mut self.0).map(|_| ())
    }

    /// Writes the snapshot of `generation` and renames it into place. Returns its size in bytes.
    pub(crate) fn write(&self, dir: &Path, generation: u64, segments: &[u64]) -> Result<u64, StateError> {
        let path = path(dir, generation);
        let temporary = temporary(&path);
        let segments = postcard::to_stdvec(segments).map_err(|e| failure(&path)(std::io::Error::other(e)))?;
        let mut crc = crc32fast::Hasher::new();
        crc.update(&self.0);
        crc.update(&segments);
        let length = (self.0.len() + segments.len()) as u64;
        let mut file = disk::create(&temporary).map_err(failure(&temporary))?;
        for bytes in [&header(generation, length, crc.finalize())[..], &self.0, &segments] {
            file.write_all(bytes).map_err(failure(&temporary))?;
        }
        file.fsync(Fsync::SnapshotBytes).map_err(failed_fsync(&temporary))?;
        failpoint::pass("snapshot_write");
        disk::rename(&temporary, &path).map_err(failure(&temporary))?;
        disk::fsync_dir(dir, Fsync::SnapshotName).map_err(failed_fsync(dir))?;
        failpoint::pass("snapshot_rename");
        Ok(HEADER as u64 + length)
    }
}

pub(crate) fn path(dir: &Path, generation: u64) -> PathBuf {
    dir.join(format!("snapshot-{generation}.bin"))
}

fn header(generation: u64, length: u64, payload_crc: u32) -> [u8; HEADER] {
    let mut header = [0; HEADER];
    header[..8].copy_from_slice(MAGIC);
    header[8..12].copy_from_slice(&VERSION.to_le_bytes());
    header[12..20].copy_from_slice(&generation.to_le_bytes());
    header[20..28].copy_from_slice(&length.to_le_bytes());
    header[28..32].copy_from_slice(&payload_crc.to_le_bytes());
    let crc = crc32fast::hash(&header[..32]);
    header[32..].copy_from_slice(&crc.to_le_bytes());
    header
}

/// Reads the snapshot of `generation`; `None` when it is damaged.
pub(crate) fn read(path: &Path, generation: u64) -> Result<Option<Snapshot>, StateError> {
    let bytes = disk::read(path).map_err(failure(path))?;
    let Some((head, payload)) = bytes.split_first_chunk::<HEADER>() else { return Ok(None) };
    if *head != header(generation, payload.len() as u64, crc32fast::hash(payload)) {
        let version = u32::from_le_bytes([head[8], head[9], head[10], head[11]]);
        let whole = crc32fast::hash(&head[..32]).to_le_bytes() == head[32..];
        if whole && head.starts_with(MAGIC) {
            super::error::check_version(path, version, VERSION)?;
        }
        return Ok(None);
    }
    Ok(decode(payload).ok())
}

/// Reads what stands behind a snapshot's header.
pub(crate) fn decode(payload: &[u8]) -> Result<Snapshot, postcard::Error> {
    let (book, rest) = postcard::take_from_bytes(payload)?;
    let (feeds, mut rest) = postcard::take_from_bytes::<u64>(rest)?;
    let mut snapshot = Snapshot { book, ..Snapshot::default() };
    for _ in 0..feeds {
        let ((key, progress), tail) = postcard::take_from_bytes(rest)?;
        snapshot.feeds.insert(key, progress);
        rest = tail;
    }
    let (segments, rest) = postcard::take_from_bytes(rest)?;
    snapshot.segments = segments;
    if rest.is_empty() { Ok(snapshot) } else { Err(postcard::Error::DeserializeBadEncoding) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::feed::ContentType;
    use crate::sink::SinkId;
    use crate::state::FeedFact;

    #[test]
    fn it_comes_back_and_every_flipped_bit_or_missing_byte_is_seen() {
        let dir = tempfile::tempdir().unwrap();
        let mut expected = Snapshot { segments: vec![4, 9], ..Snapshot::default() };
        expected.book.name(SinkId(0), "disk");
        let key = FeedKey { tenant_id: "t".into(), content_type: ContentType::Dlp };
        expected.feeds.entry(key).or_default().apply(&FeedFact::Opened { from: 7200 });
        let mut encoder = Encoder::new(&expected.book, 1).unwrap();
        for (key, progress) in &expected.feeds {
            encoder.feed(key, progress).unwrap();
        }
        let size = encoder.write(dir.path(), 5, &expected.segments).unwrap();
        let file = path(dir.path(), 5);
        assert_eq!(read(&file, 5).unwrap().as_ref(), Some(&expected));
        assert_eq!(read(&file, 6).unwrap(), None, "another generation's file under this name");

        let bytes = std::fs::read(&file).unwrap();
        assert_eq!(size, bytes.len() as u64);
        for bit in 0..bytes.len() * 8 {
            let mut changed = bytes.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            std::fs::write(&file, &changed).unwrap();
            assert_eq!(read(&file, 5).unwrap(), None, "bit {bit}");
        }
        for length in 0..bytes.len() {
            std::fs::write(&file, &bytes[..length]).unwrap();
            assert_eq!(read(&file, 5).unwrap(), None, "cut at {length}");
        }
    }
}
