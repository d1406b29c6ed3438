//! The journal file: a header, then blocks, one a group commit. A block's header is bound to its
//! file's generation and to its place, so a block that lies elsewhere than it was written is as bad
//! as one that was changed.
//!
//! ```text
//! file:  [magic 8][version u32][generation u64][crc32 of these u32]
//! block: [magic u32][payload length u32][crc32 of payload u32][crc32 of these, version, generation, offset u32][payload]
//! ```
//! Numbers are little-endian. Comes in: groups of frames. Goes out: groups that are whole, and where
//! and how the file stops being readable. Never changes a file while reading it.

use std::path::{Path, PathBuf};

use super::error::{failed_fsync, failure};
use super::{StateError, frame};
use crate::disk::{self, File, Fsync};
use crate::failpoint;

pub(crate) const VERSION: u32 = 1;
const FILE_MAGIC: &[u8; 8] = b"AFJRNL\r\n";
/// Bytes before the first block.
pub(crate) const FILE_HEADER: usize = 24;
const BLOCK_MAGIC: u32 = 0x4b4c_4241;
pub(crate) const BLOCK_HEADER: usize = 16;

/// The journal that is being written.
pub(crate) struct Writer {
    file: File,
    path: PathBuf,
    pub(crate) generation: u64,
    /// Bytes in the file.
    pub(crate) length: u64,
}

impl Writer {
    /// Begins the journal of a generation; it and its name are durable when this returns.
    pub(crate) fn create(dir: &Path, generation: u64) -> Result<Writer, StateError> {
        let path = path(dir, generation);
        let file = disk::create(&path).map_err(failure(&path))?;
        file.write_all_at(&file_header(generation), 0).map_err(failure(&path))?;
        file.fsync(Fsync::JournalHeader).map_err(failed_fsync(&path))?;
        disk::fsync_dir(dir, Fsync::JournalName).map_err(failed_fsync(dir))?;
        Ok(Writer { file, path, generation, length: FILE_HEADER as u64 })
    }

    /// Goes on with a journal whose readable part is `length` bytes; what follows is cut, durably, or else half of
    /// the next block over old bytes would look like damage.
    pub(crate) fn resume(dir: &Path, generation: u64, length: u64) -> Result<Writer, StateError> {
        let path = path(dir, generation);
        let file = disk::open_to_write(&path).map_err(failure(&path))?;
        if file.about().map_err(failure(&path))?.length != length {
            file.set_len(length).map_err(failure(&path))?;
            file.fsync(Fsync::JournalCut).map_err(failed_fsync(&path))?;
        }
        // A process that was killed may have made the name and not its fsync.
        disk::fsync_dir(dir, Fsync::JournalName).map_err(failed_fsync(dir))?;
        Ok(Writer { file, path, generation, length })
    }

    /// Writes `first` and `frames` as one block and fsyncs it. After an error that is no
    /// [`StateError::Fsync`] the journal is as it was, and the same block may be written again.
    pub(crate) fn commit(&mut self, first: &[u8], frames: &[u8]) -> Result<(), StateError> {
        let mut crc = crc32fast::Hasher::new();
        crc.update(first);
        crc.update(frames);
        let length = u32::try_from(first.len() + frames.len())
            .map_err(|_| failure(&self.path)(std::io::Error::other("a group of more than 4 GiB")))?;
        let mut head = block_header(self.generation, self.length, length, crc.finalize()).to_vec();
        head.extend_from_slice(first);
        let body = self.length + head.len() as u64;
        let written = self.file.write_all_at(&head, self.length).and_then(|()| self.file.write_all_at(frames, body));
        if let Err(error) = written {
            // Half a block with a whole one behind it would be damage.
            self.file.set_len(self.length).map_err(failure(&self.path))?;
            self.file.fsync(Fsync::JournalCut).map_err(failed_fsync(&self.path))?;
            return Err(failure(&self.path)(error));
        }
        failpoint::pass("journal_append");
        self.file.fsync(Fsync::JournalBlock).map_err(failed_fsync(&self.path))?;
        failpoint::pass("journal_fsync");
        self.length += (head.len() + frames.len()) as u64;
        Ok(())
    }
}

pub(crate) fn path(dir: &Path, generation: u64) -> PathBuf {
    dir.join(format!("journal-{generation}.log"))
}

fn file_header(generation: u64) -> [u8; FILE_HEADER] {
    let mut header = [0; FILE_HEADER];
    header[..8].copy_from_slice(FILE_MAGIC);
    header[8..12].copy_from_slice(&VERSION.to_le_bytes());
    header[12..20].copy_from_slice(&generation.to_le_bytes());
    let crc = crc32fast::hash(&header[..20]);
    header[20..].copy_from_slice(&crc.to_le_bytes());
    header
}

fn block_header(generation: u64, offset: u64, length: u32, payload_crc: u32) -> [u8; BLOCK_HEADER] {
    let mut header = [0; BLOCK_HEADER];
    header[..4].copy_from_slice(&BLOCK_MAGIC.to_le_bytes());
    header[4..8].copy_from_slice(&length.to_le_bytes());
    header[8..12].copy_from_slice(&payload_crc.to_le_bytes());
    let mut crc = crc32fast::Hasher::new();
    crc.update(&header[..12]);
    crc.update(&VERSION.to_le_bytes());
    crc.update(&generation.to_le_bytes());
    crc.update(&offset.to_le_bytes());
    header[12..].copy_from_slice(&crc.finalize().to_le_bytes());
    header
}

/// How a journal stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// After a whole block.
    Clean,
    /// The file ends inside its last block, as a crash leaves it.
    Torn,
    /// What follows is of no use and nothing whole comes after it.
    BadTail,
    /// Something unreadable with more behind it, or a file that is none of ours.
    Damaged,
}

/// Reads the journal of `generation` at `path`, calls `see` for every frame of every whole block up
/// to the first that is not. Returns how many bytes are good, and how they end.
pub(crate) fn read(
    path: &Path,
    generation: u64,
    see: &mut dyn FnMut(frame::Frame<'_>),
) -> Result<(u64, End), StateError> {
    let file = disk::open(path).map_err(failure(path))?;
    let size = file.about().map_err(failure(path))?.length;
    let mut header = [0; FILE_HEADER];
    // Up to a bare header nothing can have been committed: a crash while the file was begun.
    let bare = if size <= FILE_HEADER as u64 { End::Torn } else { End::Damaged };
    if size < FILE_HEADER as u64 {
        return Ok((0, bare));
    }
    file.read_exact_at(&mut header, 0).map_err(failure(path))?;
    if header != file_header(generation) {
        refuse_other_version(path, &header)?;
        return Ok((0, bare));
    }
    let mut offset = FILE_HEADER as u64;
    let mut payload = Vec::new();
    loop {
        if offset == size {
            return Ok((offset, End::Clean));
        }
        let Some(found) = read_block_header(&file, path, generation, offset, size)? else {
            if size - offset < BLOCK_HEADER as u64 {
                return Ok((offset, End::Torn));
            }
            let whole_behind = any_block_behind(&file, path, generation, offset, size)?;
            return Ok((offset, if whole_behind { End::Damaged } else { End::BadTail }));
        };
        let start = offset + BLOCK_HEADER as u64;
        let end = start + u64::from(found.length);
        if end > size {
            return Ok((offset, End::Torn));
        }
        payload.resize(found.length as usize, 0);
        file.read_exact_at(&mut payload, start).map_err(failure(path))?;
        if crc32fast::hash(&payload) != found.payload_crc || !frame::decode_all(&payload, see) {
            // A block is written only after the one before it was fsynced.
            return Ok((offset, if end < size { End::Damaged } else { End::BadTail }));
        }
        offset = end;
    }
}

struct BlockHeader {
    length: u32,
    payload_crc: u32,
}

fn parse_block_header(header: &[u8; BLOCK_HEADER], generation: u64, offset: u64) -> Option<BlockHeader> {
    let number = |at: usize| u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
    let found = BlockHeader { length: number(4), payload_crc: number(8) };
    (*header == block_header(generation, offset, found.length, found.payload_crc)).then_some(found)
}

fn read_block_header(
    file: &File,
    path: &Path,
    generation: u64,
    offset: u64,
    size: u64,
) -> Result<Option<BlockHeader>, StateError> {
    if size - offset < BLOCK_HEADER as u64 {
        return Ok(None);
    }
    let mut header = [0; BLOCK_HEADER];
    file.read_exact_at(&mut header, offset).map_err(failure(path))?;
    Ok(parse_block_header(&header, generation, offset))
}

/// Whether a block header that is right for its place lies anywhere behind `offset`.
fn any_block_behind(file: &File, path: &Path, generation: u64, offset: u64, size: u64) -> Result<bool, StateError> {
    let mut rest = vec![0; usize::try_from(size - offset).unwrap_or(0)];
    file.read_exact_at(&mut rest, offset).map_err(failure(path))?;
    let found = memchr::memmem::find_iter(&rest, &BLOCK_MAGIC.to_le_bytes()).any(|at| {
        rest[at..]
            .first_chunk::<BLOCK_HEADER>()
            .is_some_and(|header| parse_block_header(header, generation, offset + at as u64).is_some())
    });
    Ok(found)
}

/// A whole header of another version is not damage.
fn refuse_other_version(path: &Path, header: &[u8; FILE_HEADER]) -> Result<(), StateError> {
    let version = u32::from_le_bytes([header[8], header[9], header[10], header[11]]);
    let whole = crc32fast::hash(&header[..20]).to_le_bytes() == header[20..];
    if whole && header.starts_with(FILE_MAGIC) { super::error::check_version(path, version, VERSION) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::frame::Frame;

    /// A journal of four blocks; returns its bytes and the offsets at which blocks end.
    fn sample(dir: &Path) -> (Vec<u8>, Vec<usize>) {
        let mut writer = Writer::create(dir, 3).unwrap();
        let mut ends = vec![FILE_HEADER];
        for n in 0..4 {
            let mut first = Vec::new();
            Frame::Time { world_ms: n }.encode(&mut first).unwrap();
            writer.commit(&first, &[]).unwrap();
            ends.push(writer.length as usize);
        }
        (std::fs::read(path(dir, 3)).unwrap(), ends)
    }

    fn times(path: &Path) -> (Vec<i64>, u64, End) {
        let mut seen = Vec::new();
        let (length, end) = read(path, 3, &mut |frame| match frame {
            Frame::Time { world_ms } => seen.push(world_ms),
            other => panic!("{other:?}"),
        })
        .unwrap();
        (seen, length, end)
    }

    #[test]
    fn every_truncation_keeps_the_whole_blocks_and_is_torn() {
        let dir = tempfile::tempdir().unwrap();
        let (bytes, ends) = sample(dir.path());
        let file = path(dir.path(), 3);
        for length in 0..=bytes.len() {
            std::fs::write(&file, &bytes[..length]).unwrap();
            let (seen, good, end) = times(&file);
            let whole = ends.iter().filter(|end| **end <= length).count().saturating_sub(1);
            assert_eq!(seen, (0..whole as i64).collect::<Vec<_>>(), "cut at {length}");
            let at_a_border = ends.contains(&length);
            assert_eq!(end, if at_a_border { End::Clean } else { End::Torn }, "cut at {length}");
            assert_eq!(good as usize, if length < FILE_HEADER { 0 } else { ends[whole] });
        }
    }

    #[test]
    fn every_flipped_bit_is_seen_and_what_precedes_it_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let (bytes, ends) = sample(dir.path());
        let file = path(dir.path(), 3);
        for bit in 0..bytes.len() * 8 {
            let mut changed = bytes.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            std::fs::write(&file, &changed).unwrap();
            let (seen, _, end) = times(&file);
            let whole = ends.iter().filter(|end| **end <= bit / 8).count().saturating_sub(1);
            assert_eq!(seen, (0..whole as i64).collect::<Vec<_>>(), "bit {bit}");
            let in_last = bit / 8 >= ends[3];
            assert_eq!(end, if in_last { End::BadTail } else { End::Damaged }, "bit {bit}");
        }
    }

    #[test]
    fn a_block_that_lies_elsewhere_than_it_was_written_is_damage() {
        let dir = tempfile::tempdir().unwrap();
        let (mut bytes, ends) = sample(dir.path());
        bytes.copy_within(ends[0]..ends[1], ends[1]);
        let file = path(dir.path(), 3);
        std::fs::write(&file, &bytes).unwrap();
        assert_eq!(times(&file), (vec![0], ends[1] as u64, End::Damaged));
        std::fs::rename(&file, path(dir.path(), 4)).unwrap();
        let (good, end) = read(&path(dir.path(), 4), 4, &mut |_| panic!("another generation's")).unwrap();
        assert_eq!((good, end), (0, End::Damaged));
    }

    #[test]
    fn a_later_version_is_refused_and_not_called_damage() {
        let dir = tempfile::tempdir().unwrap();
        let (mut bytes, _) = sample(dir.path());
        bytes[8] = 2;
        let crc = crc32fast::hash(&bytes[..20]);
        bytes[20..24].copy_from_slice(&crc.to_le_bytes());
        let file = path(dir.path(), 3);
        std::fs::write(&file, &bytes).unwrap();
        assert!(matches!(read(&file, 3, &mut |_| {}), Err(StateError::Newer { version: 2, .. })));
    }
}
