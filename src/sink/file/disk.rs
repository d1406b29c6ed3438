//! The file itself: opening, appending, cutting, rotating. Blocking; knows nothing of the state.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::disk::{self, File, Fsync};

/// Owner writes, group reads (a log shipper), nobody else: the records are about people.
const MODE: u32 = 0o640;

/// An open output file of which every byte is fsynced between two calls.
#[derive(Debug)]
pub(super) struct OutputFile {
    file: File,
    pub inode: u64,
    pub length: u64,
    /// False when the last line of a file that others wrote to has no newline.
    pub ends_a_line: bool,
    /// A write failed and what it left could not be cut away.
    pub unknown: bool,
}

/// What was found at a path.
#[derive(Debug)]
pub(super) struct Opened {
    pub file: OutputFile,
    /// It did not exist: whatever is known of its inode is about another file.
    pub created: bool,
    pub modified_ms: i64,
}

/// Opens the file, creating it where it is missing. A symbolic link is not followed; what is no
/// regular file is refused.
pub(super) fn open(path: &Path) -> io::Result<Opened> {
    let (file, created) = disk::append(path, MODE)?;
    let about = file.about()?;
    if !about.is_file {
        return Err(rustix::io::Errno::NXIO.into());
    }
    // A write that was given up may still hang on the disk: whoever comes after must not find half of it.
    if !file.try_own() {
        return Err(rustix::io::Errno::WOULDBLOCK.into());
    }
    // Not only of a new file: a process that was killed may have made the name and not its fsync.
    disk::fsync_dir(path.parent().unwrap_or(Path::new("")), Fsync::OutputName)?;
    let mut last = [b'\n'];
    if about.length > 0 {
        file.read_exact_at(&mut last, about.length - 1)?;
    }
    let (inode, length) = (about.inode, about.length);
    let file = OutputFile { file, inode, length, ends_a_line: last == [b'\n'], unknown: false };
    Ok(Opened { file, created, modified_ms: about.modified_ms })
}

impl OutputFile {
    /// Appends and fsyncs. After a failure the file is as it was, or `unknown` is set.
    pub fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let written = self.file.write_all(bytes).and_then(|()| self.file.fsync(Fsync::OutputBatch));
        match written {
            Ok(()) => self.length += bytes.len() as u64,
            // Half a batch must not stay: it is written again.
            Err(_) => self.unknown = self.cut_to(self.length).is_err(),
        }
        written
    }

    /// Cuts the file to `length` bytes, durably: a rotation may be next, and moved away it is not cut again.
    pub fn cut_to(&mut self, length: u64) -> io::Result<()> {
        self.file.set_len(length)?;
        self.file.fsync(Fsync::OutputCut)?;
        self.length = length;
        self.ends_a_line = true;
        Ok(())
    }

    /// Ends a line that somebody else left open, so that ours does not run into it.
    pub fn end_line(&mut self) -> io::Result<()> {
        self.append(b"\n")?;
        self.ends_a_line = true;
        Ok(())
    }

    /// Whether `path` still names this file, at the length it should have. False after logrotate
    /// moved it, somebody removed it, or somebody cut it (`copytruncate`).
    pub fn is_at(&self, path: &Path) -> io::Result<bool> {
        match disk::about(path) {
            Ok(about) => Ok(about.inode == self.inode && about.is_file && about.length >= self.length),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// Moves `path` to `path.1`, `path.1` to `path.2` and so on; what would become `path.{keep+1}` goes. Each
/// name is durable before another takes its place: a power loss in between must not put one file over another.
pub(super) fn rotate(path: &Path, keep: usize) -> io::Result<()> {
    let numbered = |n: usize| {
        let mut name = path.as_os_str().to_owned();
        name.push(format!(".{n}"));
        PathBuf::from(name)
    };
    let dir = path.parent().unwrap_or(Path::new(""));
    if keep == 0 {
        // Whatever is left of the old name, the next file takes it.
        return disk::remove(path);
    }
    // Renaming onto the oldest removes it, in one step.
    for n in (1..keep).rev() {
        match disk::rename(&numbered(n), &numbered(n + 1)) {
            Ok(()) => disk::fsync_dir(dir, Fsync::OutputRotated)?,
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Err(_) => {}
        }
    }
    disk::rename(path, &numbered(1))?;
    disk::fsync_dir(dir, Fsync::OutputRotated)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_write_is_cut_away_or_the_length_is_given_up() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        let mut file = open(&path).unwrap().file;
        file.append(b"{}\n").unwrap();
        // Half a batch, as a full disk leaves it.
        std::fs::write(&path, b"{}\n{\"half").unwrap();
        file.cut_to(file.length).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"{}\n");
        file.file = disk::open(&path).unwrap();
        assert!(file.append(b"{}\n").is_err());
        assert!(file.unknown && file.length == 3);
    }

    /// A pipe takes bytes and cannot be fsynced.
    #[test]
    fn a_batch_that_was_not_fsynced_is_not_written() {
        let dir = tempfile::tempdir().unwrap();
        let mut file = open(&dir.path().join("f")).unwrap().file;
        let (_reader, writer) = io::pipe().unwrap();
        file.file = File::Real(std::fs::File::from(std::os::fd::OwnedFd::from(writer)));
        assert!(file.append(b"{}\n").is_err());
        assert!(file.unknown && file.length == 0);
    }

    #[test]
    fn what_is_no_regular_file_is_refused_without_waiting() {
        let dir = tempfile::tempdir().unwrap();
        let pipe = dir.path().join("pipe");
        rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, rustix::fs::Mode::from_raw_mode(0o600)).unwrap();
        assert!(open(&pipe).is_err());
        assert!(open(dir.path()).is_err());
        std::os::unix::fs::symlink(dir.path().join("target"), dir.path().join("link")).unwrap();
        assert!(open(&dir.path().join("link")).is_err());
        assert!(!dir.path().join("target").exists());
    }

    #[test]
    fn a_file_that_somebody_still_writes_to_is_not_opened() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        let first = open(&path).unwrap();
        assert_eq!(open(&path).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        drop(first);
        open(&path).unwrap();
    }

    #[test]
    fn rotation_without_predecessors_removes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        open(&path).unwrap();
        rotate(&path, 0).unwrap();
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
