//! Every file system call that durability rests on, in one place: create, write, fsync, rename, fsync
//! of the directory, truncate, remove, lock. Nothing is retried: after a failed fsync the kernel may
//! report the next one as good although the bytes are gone, so a failure here ends the process.
//!
//! Comes in: paths and bytes. Goes out: files, and errors that name the path.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

use super::StateError;

#[cfg(test)]
pub(crate) mod record;

/// Suffix of a file that is being written; whatever bears it at a start is rubbish.
pub(crate) const TEMPORARY: &str = ".tmp";

/// An error of `path`.
pub(crate) fn failure(path: &Path) -> impl Fn(std::io::Error) -> StateError + '_ {
    move |source| StateError::Io { path: path.display().to_string(), source }
}

/// Creates the directory and its parents, readable by the owner only.
pub(crate) fn create_dir(dir: &Path) -> Result<(), StateError> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(failure(dir))
}

/// Takes the directory's lock for as long as the returned file lives.
pub(crate) fn lock(dir: &Path) -> Result<File, StateError> {
    let path = dir.join("lock");
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .read(true)
        .write(true)
        .mode(0o600)
        .open(&path)
        .map_err(failure(&path))?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(StateError::Locked { dir: dir.display().to_string() }),
        Err(error) => Err(failure(&path)(error.into())),
    }
}

/// A new, empty file, readable by the owner only. What was there is gone.
pub(crate) fn create(path: &Path) -> Result<File, StateError> {
    #[cfg(test)]
    record::note(record::Call::Dirty, path);
    let mut options = OpenOptions::new();
    options.create(true).truncate(true).read(true).write(true).mode(0o600).open(path).map_err(failure(path))
}

/// An existing file, to be written at its end.
pub(crate) fn append(path: &Path) -> Result<File, StateError> {
    OpenOptions::new().append(true).read(true).open(path).map_err(failure(path))
}

pub(crate) fn write(file: &mut File, path: &Path, bytes: &[u8]) -> Result<(), StateError> {
    #[cfg(test)]
    record::note(record::Call::Dirty, path);
    file.write_all(bytes).map_err(failure(path))
}

pub(crate) fn fsync(file: &File, path: &Path) -> Result<(), StateError> {
    file.sync_data().map_err(failure(path))?;
    #[cfg(test)]
    record::note(record::Call::Fsync, path);
    Ok(())
}

/// Cuts the file to `length` bytes, durably.
pub(crate) fn truncate(path: &Path, length: u64) -> Result<(), StateError> {
    let file = OpenOptions::new().write(true).open(path).map_err(failure(path))?;
    file.set_len(length).map_err(failure(path))?;
    file.sync_all().map_err(failure(path))
}

pub(crate) fn rename(from: &Path, to: &Path) -> Result<(), StateError> {
    #[cfg(test)]
    record::note(record::Call::Rename(to.to_owned()), from);
    std::fs::rename(from, to).map_err(failure(from))
}

pub(crate) fn fsync_dir(dir: &Path) -> Result<(), StateError> {
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(failure(dir))?;
    #[cfg(test)]
    record::note(record::Call::FsyncDir, dir);
    Ok(())
}

/// Removes a file; one that is not there is as good.
pub(crate) fn remove(path: &Path) -> Result<(), StateError> {
    #[cfg(test)]
    record::note(record::Call::Remove, path);
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(failure(path)(error)),
        _ => Ok(()),
    }
}

/// Where `path` is written before it is renamed into place.
pub(crate) fn temporary(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(TEMPORARY);
    PathBuf::from(name)
}
