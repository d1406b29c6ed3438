//! Where a record that has outgrown `max_record` goes while it arrives: a file without a name.
//!
//! Comes in: the record's bytes, in order. Goes out: the file, their number and hash. Nothing here waits for the disk on a
//! thread that others need, and nothing is left behind when the attempt is dropped. Where there is no place for files the
//! bytes go nowhere, and number and hash are all that stays.

use std::fs::File;
use std::io;
use std::path::Path;

use tokio::io::AsyncWriteExt;

use crate::disk;

/// Largest record that is kept on the disk, bytes: five times the 50 MB of the largest seen in the field
/// (activity-api 4.2), and with 16 fetches no more than 4 GiB of spool. What is larger is read to its end, so
/// that what stands behind it is had, and leaves its size and hash in the dead letters.
const SPOOL: u64 = 256 * 1024 * 1024;

pub(super) struct Spool {
    file: Option<tokio::fs::File>,
    hasher: blake3::Hasher,
    bytes: u64,
    is_kept: bool,
}

/// A whole record; the file is empty if it is not kept, and missing where there is no place for it.
pub(super) struct Spooled {
    pub file: Option<File>,
    pub bytes: u64,
    pub hash: [u8; 16],
    pub is_kept: bool,
}

impl Spool {
    /// An empty one below `dir`; without, nothing is kept.
    pub async fn create(dir: Option<&Path>) -> io::Result<Spool> {
        let empty = |file: Option<tokio::fs::File>| Spool {
            is_kept: file.is_some(),
            file,
            hasher: blake3::Hasher::new(),
            bytes: 0,
        };
        let Some(dir) = dir else { return Ok(empty(None)) };
        let dir = dir.to_owned();
        let create = move || disk::nameless(&dir, "oversized", "spool");
        let file = tokio::task::spawn_blocking(create).await.map_err(io::Error::other)??;
        Ok(empty(Some(tokio::fs::File::from_std(file))))
    }

    /// Appends to the record.
    pub async fn write(&mut self, more: &[u8]) -> io::Result<()> {
        self.hasher.update(more);
        self.bytes += more.len() as u64;
        let Some(file) = &mut self.file else { return Ok(()) };
        if self.is_kept && self.bytes > SPOOL {
            self.is_kept = false;
            return file.set_len(0).await;
        }
        if self.is_kept { file.write_all(more).await } else { Ok(()) }
    }

    /// The record has ended.
    pub async fn end(mut self) -> io::Result<Spooled> {
        if let Some(file) = &mut self.file {
            // An error of the last write shows here.
            file.flush().await?;
        }
        let mut hash = [0; 16];
        hash.copy_from_slice(&self.hasher.finalize().as_bytes()[..16]);
        let file = match self.file {
            Some(file) => Some(file.into_std().await),
            None => None,
        };
        Ok(Spooled { file, bytes: self.bytes, hash, is_kept: self.is_kept })
    }
}
