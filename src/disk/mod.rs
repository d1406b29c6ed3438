//! The one way to the disk for everything that durability rests on: the state directory with its key
//! segments, the file sink, the dead letters.
//!
//! Comes in: paths and bytes. Goes out: files, what is in them, and the operating system's errors as
//! they are. Retries nothing but a call that a signal interrupted: after a failed fsync the kernel may
//! report the next one as good although the bytes are gone, so what a failure means is the caller's to say.
//!
//! Every fsync bears a name from [`Fsync`]. Tests put [`double`] under a directory, which forgets, tears
//! and reorders what was not fsynced; `bars::power` shows for each name that leaving it out loses something.

use std::fs::{DirBuilder, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, MemfdFlags, OFlags, flock, memfd_create};

#[cfg(any(test, feature = "failpoints"))]
#[doc(hidden)]
pub mod double;
#[cfg(any(test, feature = "failpoints"))]
#[doc(hidden)]
pub mod loss;
pub(crate) mod map;
pub(crate) mod mirror;

use map::Map;

/// Why an fsync is called. Each is needed: without it a power loss at some moment takes something that
/// was promised, or makes the next start take the loss for damage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fsync {
    /// The name of a directory that was just made.
    Directory,
    /// The header of a journal, before blocks follow it.
    JournalHeader,
    /// The name of a journal, before anything in it is called durable.
    JournalName,
    /// A journal cut where it stops being readable, before new blocks lie where old bytes did.
    JournalCut,
    /// A group of facts.
    JournalBlock,
    /// A snapshot, before it gets its name.
    SnapshotBytes,
    /// The name of a snapshot, before what it replaces goes.
    SnapshotName,
    /// A key segment, before it gets its name.
    SegmentBytes,
    /// The name of a key segment, before a snapshot relies on it.
    SegmentName,
    /// The name of an output file, before lines in it count as delivered.
    OutputName,
    /// A name that a rotation moved on, before the next one takes its place.
    OutputRotated,
    /// An output file cut to what is known of it, before it may be moved away by a rotation.
    OutputCut,
    /// A batch in an output file.
    OutputBatch,
    /// The name of the dead-letter file.
    LettersName,
    /// Dead letters.
    Letters,
}

impl Fsync {
    pub const ALL: [Fsync; 15] = [
        Fsync::Directory,
        Fsync::JournalHeader,
        Fsync::JournalName,
        Fsync::JournalCut,
        Fsync::JournalBlock,
        Fsync::SnapshotBytes,
        Fsync::SnapshotName,
        Fsync::SegmentBytes,
        Fsync::SegmentName,
        Fsync::OutputName,
        Fsync::OutputRotated,
        Fsync::OutputCut,
        Fsync::OutputBatch,
        Fsync::LettersName,
        Fsync::Letters,
    ];
}

/// Answers from the mirror or the double when the path lies below one.
macro_rules! doubled {
    ($path:expr, $double:ident => $answer:expr) => {
        if let Some($double) = mirror::at($path) {
            return $answer;
        }
        #[cfg(any(test, feature = "failpoints"))]
        if let Some($double) = double::at($path) {
            return $answer;
        }
    };
}

/// An open file.
#[derive(Debug)]
pub(crate) enum File {
    Real(std::fs::File),
    Mirror(mirror::Handle),
    #[cfg(any(test, feature = "failpoints"))]
    Double(double::Handle),
}

impl From<mirror::Handle> for File {
    fn from(handle: mirror::Handle) -> File {
        File::Mirror(handle)
    }
}

#[cfg(any(test, feature = "failpoints"))]
impl From<double::Handle> for File {
    fn from(handle: double::Handle) -> File {
        File::Double(handle)
    }
}

/// What is to be known of a file beside its bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct About {
    pub(crate) inode: u64,
    /// Bytes.
    pub(crate) length: u64,
    /// Last change, milliseconds since 1970.
    pub(crate) modified_ms: i64,
    pub(crate) is_file: bool,
}

impl From<std::fs::Metadata> for About {
    fn from(metadata: std::fs::Metadata) -> About {
        About {
            inode: metadata.ino(),
            length: metadata.len(),
            modified_ms: metadata.mtime() * 1000 + metadata.mtime_nsec() / 1_000_000,
            is_file: metadata.is_file(),
        }
    }
}

/// Whether `path` lies in a directory that is in memory and on no disk.
pub(crate) fn is_mirrored(path: &Path) -> bool {
    mirror::at(path).is_some()
}

/// A new, empty file without a name: it is gone with the process, whatever happens. Below `dir`, or in memory where that is
/// on no disk.
pub(crate) fn nameless(dir: &Path, what: &str, suffix: &str) -> io::Result<std::fs::File> {
    if is_mirrored(dir) {
        return Ok(memfd_create(what, MemfdFlags::CLOEXEC)?.into());
    }
    let path = dir.join(format!("{what}-{:016x}.{suffix}", fastrand::u64(..)));
    let file = std::fs::File::options().read(true).write(true).create_new(true).mode(0o600).open(&path)?;
    std::fs::remove_file(&path).map(|()| file)
}

/// A new, empty file, readable by the owner only. What was there is gone.
pub(crate) fn create(path: &Path) -> io::Result<File> {
    doubled!(path, double => double.create(path).map(File::from));
    let mut options = OpenOptions::new();
    options.create(true).truncate(true).read(true).write(true).mode(0o600).open(path).map(File::Real)
}

/// An existing file, to be read only.
pub(crate) fn open(path: &Path) -> io::Result<File> {
    doubled!(path, double => double.open(path).map(File::from));
    std::fs::File::open(path).map(File::Real)
}

/// An existing file, to be read and written at given places.
pub(crate) fn open_to_write(path: &Path) -> io::Result<File> {
    doubled!(path, double => double.open(path).map(File::from));
    OpenOptions::new().read(true).write(true).open(path).map(File::Real)
}

/// A file to be written at its end, created with `mode` where it is missing, and whether it was. A
/// symbolic link is not followed; a named pipe without a reader does not make the caller wait.
pub(crate) fn append(path: &Path, mode: u32) -> io::Result<(File, bool)> {
    doubled!(path, double => double.append(path).map(|(file, created)| (File::from(file), created)));
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits() as i32;
    let mut options = OpenOptions::new();
    options.read(true).append(true).mode(mode).custom_flags(flags);
    match options.clone().create_new(true).open(path) {
        Ok(file) => Ok((File::Real(file), true)),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok((File::Real(options.open(path)?), false)),
        Err(error) => Err(error),
    }
}

impl File {
    /// Takes the file for this handle alone; false when another has it. Where the file system knows no locks, nobody has.
    pub(crate) fn try_own(&self) -> bool {
        match self {
            File::Real(file) => {
                !matches!(flock(file, FlockOperation::NonBlockingLockExclusive), Err(rustix::io::Errno::WOULDBLOCK))
            }
            File::Mirror(_) => true,
            // The double knows one process at a time.
            #[cfg(any(test, feature = "failpoints"))]
            File::Double(_) => true,
        }
    }

    pub(crate) fn about(&self) -> io::Result<About> {
        match self {
            File::Real(file) => file.metadata().map(About::from),
            File::Mirror(file) => file.about(),
            #[cfg(any(test, feature = "failpoints"))]
            File::Double(file) => file.about(),
        }
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        match self {
            File::Real(file) => file.read_at(buffer, offset),
            File::Mirror(file) => file.read_at(buffer, offset),
            #[cfg(any(test, feature = "failpoints"))]
            File::Double(file) => file.read_at(buffer, offset),
        }
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        match self {
            File::Real(file) => file.write_at(bytes, offset),
            File::Mirror(file) => file.write_at(bytes, offset),
            #[cfg(any(test, feature = "failpoints"))]
            File::Double(file) => file.write_at(bytes, offset),
        }
    }

    pub(crate) fn read_exact_at(&self, mut buffer: &mut [u8], mut offset: u64) -> io::Result<()> {
        while !buffer.is_empty() {
            match self.read_at(buffer, offset) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(n) => {
                    buffer = &mut buffer[n..];
                    offset += n as u64;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    pub(crate) fn write_all_at(&self, mut bytes: &[u8], mut offset: u64) -> io::Result<()> {
        while !bytes.is_empty() {
            match self.write_at(bytes, offset) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(n) => {
                    bytes = &bytes[n..];
                    offset += n as u64;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Makes the file `length` bytes long. Durable with the next fsync of the file.
    pub(crate) fn set_len(&self, length: u64) -> io::Result<()> {
        match self {
            File::Real(file) => file.set_len(length),
            File::Mirror(file) => file.set_len(length),
            #[cfg(any(test, feature = "failpoints"))]
            File::Double(file) => file.set_len(length),
        }
    }

    /// When this returns, the bytes are on the disk, and as much of the rest as is needed to read them.
    pub(crate) fn fsync(&self, why: Fsync) -> io::Result<()> {
        match self {
            File::Real(file) => file.sync_data(),
            File::Mirror(file) => file.fsync(why),
            #[cfg(any(test, feature = "failpoints"))]
            File::Double(file) => file.fsync(why),
        }
        .map_err(|error| interrupted_fsync(error, why))
    }

    /// Maps a file that is complete and never changed again, read-only.
    pub(crate) fn map(&self) -> io::Result<Map> {
        match self {
            File::Real(file) => Map::of(file),
            File::Mirror(file) => file.map(),
            #[cfg(any(test, feature = "failpoints"))]
            File::Double(file) => file.bytes().map(Map::of_bytes),
        }
    }

    /// Reads from `offset` to the end.
    pub(crate) fn reader_at(&self, offset: u64) -> impl Read + '_ {
        ReaderAt { file: self, offset }
    }
}

/// No caller may take an fsync for a call that can be repeated.
fn interrupted_fsync(error: io::Error, why: Fsync) -> io::Error {
    match error.kind() {
        ErrorKind::Interrupted => io::Error::other(format!("interrupted fsync ({why:?})")),
        _ => error,
    }
}

impl Write for File {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            File::Real(file) => file.write(bytes),
            File::Mirror(file) => file.write(bytes),
            #[cfg(any(test, feature = "failpoints"))]
            File::Double(file) => file.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct ReaderAt<'a> {
    file: &'a File,
    offset: u64,
}

impl Read for ReaderAt<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.file.read_at(buffer, self.offset)?;
        self.offset += n as u64;
        Ok(n)
    }
}

/// All of a file.
pub(crate) fn read(path: &Path) -> io::Result<Vec<u8>> {
    let file = open(path)?;
    let mut bytes = vec![0; usize::try_from(file.about()?.length).map_err(io::Error::other)?];
    file.read_exact_at(&mut bytes, 0)?;
    Ok(bytes)
}

/// About what `path` names; a symbolic link is not followed.
pub(crate) fn about(path: &Path) -> io::Result<About> {
    doubled!(path, double => double.about(path));
    std::fs::symlink_metadata(path).map(About::from)
}

/// The paths in a directory, in no order.
pub(crate) fn list(dir: &Path) -> io::Result<Vec<PathBuf>> {
    doubled!(dir, double => double.list(dir));
    std::fs::read_dir(dir)?.map(|entry| Ok(entry?.path())).collect()
}

/// Renames; what bore the name `to` is gone. Durable with the next fsync of the directory.
pub(crate) fn rename(from: &Path, to: &Path) -> io::Result<()> {
    doubled!(from, double => double.rename(from, to));
    std::fs::rename(from, to)
}

/// Removes a file; one that is not there is as good.
pub(crate) fn remove(path: &Path) -> io::Result<()> {
    let removed = remove_entry(path);
    if removed.as_ref().is_err_and(|error| error.kind() == ErrorKind::NotFound) { Ok(()) } else { removed }
}

fn remove_entry(path: &Path) -> io::Result<()> {
    doubled!(path, double => double.remove(path));
    std::fs::remove_file(path)
}

/// When this returns, the names in the directory are on the disk.
pub(crate) fn fsync_dir(dir: &Path, why: Fsync) -> io::Result<()> {
    let dir = if dir.as_os_str().is_empty() { Path::new(".") } else { dir };
    doubled!(dir, double => double.fsync_dir(dir, why));
    std::fs::File::open(dir)?.sync_all().map_err(|error| interrupted_fsync(error, why))
}

/// Creates the directory and its parents, readable by the owner only; their names are durable when
/// this returns.
pub(crate) fn create_dir(dir: &Path) -> io::Result<()> {
    if about(dir).is_ok() || dir.as_os_str().is_empty() {
        // A symbolic link to a directory is one; anything else fails where it is used.
        return Ok(());
    }
    let parent = dir.parent().unwrap_or(Path::new("/"));
    create_dir(parent)?;
    match create_one_dir(dir) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(error),
        _ => fsync_dir(parent, Fsync::Directory),
    }
}

fn create_one_dir(dir: &Path) -> io::Result<()> {
    doubled!(dir, double => double.create_dir(dir));
    DirBuilder::new().mode(0o700).create(dir)
}

/// Holds a lock for as long as it lives.
#[derive(Debug)]
pub(crate) struct Lock {
    #[expect(dead_code, reason = "held, not read")]
    file: File,
}

/// Takes the lock file at `path`, creating it where it is missing; `None` when somebody has it.
pub(crate) fn lock(path: &Path) -> io::Result<Option<Lock>> {
    doubled!(path, double => Ok(double.lock(path)?.map(|file| Lock { file: File::from(file) })));
    let mut options = OpenOptions::new();
    let file = options.create(true).truncate(false).read(true).write(true).mode(0o600).open(path)?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Some(Lock { file: File::Real(file) })),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
        Err(error) => Err(error.into()),
    }
}
