//! Why the state cannot be used, and what to do about it. Comes in: errors of the operating system.
//! Goes out: errors that name the path and the way out.

use std::io::{self, ErrorKind};
use std::path::Path;

/// Why the state cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    #[error("`{dir}` is in use by another auditferry process; stop it first, or give this one its own `state.dir`")]
    Locked { dir: String },
    #[error("`{path}`: {source}{}", way_out(source))]
    Io { path: String, source: io::Error },
    /// Never to be tried again: after a failed fsync the kernel may report the next one as good
    /// although the bytes are gone.
    #[error(
        "fsync of `{path}` failed: {source}; what was written is uncertain: look at the disk, or at the brokers where the state is in Kafka, then start again"
    )]
    Fsync { path: String, source: io::Error },
    #[error(
        "`{path}` has format {version} and this auditferry reads up to {supported}; upgrade auditferry, nothing was changed"
    )]
    Newer { path: String, version: u32, supported: u32 },
    #[error(
        "`{path}` has format {version}, which this auditferry no longer reads (it reads from {supported}); start once the release that wrote it and stop it, or move `state.dir` away: the last 7 days are then listed again; nothing was changed"
    )]
    Older { path: String, version: u32, supported: u32 },
    #[error(
        "sink `{name}` would be number 33 in this state directory; reuse the name of a sink that is gone; it knows {known}"
    )]
    TooManySinks { name: String, known: String },
    #[error(
        "the journal in `{dir}` is written too slowly: {bytes} bytes wait for it; nothing of them was called done, they are fetched again after the next start; give `state.dir` a faster disk, or look at the brokers where the state is in Kafka"
    )]
    Stalled { dir: String, bytes: usize },
    #[error(
        "another process has taken over `transactional_id: {id}`; it goes on where this one stood, and this one ends; if both are to run, give each its own `transactional_id`"
    )]
    Superseded { id: String },
    #[error("the state has been closed; nothing more is kept")]
    Closed,
}

/// What a person can do, as the end of a sentence; empty where there is nothing to say.
fn way_out(error: &io::Error) -> &'static str {
    match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
            "; make room (bytes and inodes) or give `state.dir` a larger disk"
        }
        ErrorKind::ReadOnlyFilesystem => "; mount it writable, or give `state.dir` a place that is",
        ErrorKind::PermissionDenied => "; let this user read and write there, or give another `state.dir`",
        ErrorKind::NotADirectory => "; give `state.dir` the path of a directory",
        ErrorKind::NotFound => "; has `run` been started with this `state.dir`, is its disk mounted, can it be made?",
        _ if error.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error()) => {
            "; the disk fails: nothing was changed by reading it, mend or replace it and start again"
        }
        _ => "",
    }
}

/// An error of `path`.
pub(crate) fn failure(path: &Path) -> impl Fn(io::Error) -> StateError + '_ {
    move |source| StateError::Io { path: path.display().to_string(), source }
}

/// A failed fsync of `path`.
pub(crate) fn failed_fsync(path: &Path) -> impl Fn(io::Error) -> StateError + '_ {
    move |source| StateError::Fsync { path: path.display().to_string(), source }
}

/// Refuses a file of a format that is not ours, which is not damage; `Ok` for our own. Older formats are read as
/// long as there are any: the first is 1.
pub(crate) fn check_version(path: &Path, version: u32, supported: u32) -> Result<(), StateError> {
    let path = path.display().to_string();
    match version.cmp(&supported) {
        std::cmp::Ordering::Greater => Err(StateError::Newer { path, version, supported }),
        std::cmp::Ordering::Less => Err(StateError::Older { path, version, supported }),
        std::cmp::Ordering::Equal => Ok(()),
    }
}

impl StateError {
    /// There is no room, and somebody may make some: waiting helps, starting again does not.
    pub(crate) fn is_full(&self) -> bool {
        let full = |error: &io::Error| matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded);
        matches!(self, StateError::Io { source, .. } if full(source))
    }

    /// The same once more, for another who waits for it.
    pub(crate) fn again(&self) -> StateError {
        let same = |error: &io::Error| match error.raw_os_error() {
            Some(number) => io::Error::from_raw_os_error(number),
            None => io::Error::new(error.kind(), error.to_string()),
        };
        match self {
            StateError::Locked { dir } => StateError::Locked { dir: dir.clone() },
            StateError::Io { path, source } => StateError::Io { path: path.clone(), source: same(source) },
            StateError::Fsync { path, source } => StateError::Fsync { path: path.clone(), source: same(source) },
            StateError::Newer { path, version, supported } => {
                StateError::Newer { path: path.clone(), version: *version, supported: *supported }
            }
            StateError::Older { path, version, supported } => {
                StateError::Older { path: path.clone(), version: *version, supported: *supported }
            }
            StateError::TooManySinks { name, known } => {
                StateError::TooManySinks { name: name.clone(), known: known.clone() }
            }
            StateError::Stalled { dir, bytes } => StateError::Stalled { dir: dir.clone(), bytes: *bytes },
            StateError::Superseded { id } => StateError::Superseded { id: id.clone() },
            StateError::Closed => StateError::Closed,
        }
    }
}
