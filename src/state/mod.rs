//! What must survive a crash: which feed stands where, which record which sink has, where files end.
//! A journal of facts with group commit, compacted into a snapshot; facts are the only way to change
//! what is known, so a start that replays them knows what the process knew.

mod progress;

pub use progress::{
    CELL, Cell, ContentKey, FeedFact, FeedProgress, LEDGER_NAMES, Ledger, ListedBlob, LossReason, LostBlob,
    PendingBlob, Subscription,
};

use std::path::Path;
use std::sync::Arc;

use crate::ack::Outcome;
use crate::config::StateConfig;
use crate::delivered::Delivered;
use crate::feed::FeedKey;
use crate::metrics::Metrics;
use crate::record::RecordKey;
use crate::sink::{FilePosition, SinkId};

/// The state directory of the one process that may have it. Cheap to clone.
#[derive(Clone)]
pub struct State {}

/// One feed's part of the state. Cheap to clone.
#[derive(Clone)]
pub struct FeedState {}

/// Why the state cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    #[error("`{dir}` is in use by another auditferry process; stop it first, or give this one its own `state.dir`")]
    Locked { dir: String },
    #[error("`{path}`: {source}")]
    Io { path: String, source: std::io::Error },
}

impl State {
    /// Takes the directory, loads what is there, recovers what is damaged. Blocking.
    pub fn open(_config: &StateConfig, _metrics: Arc<Metrics>) -> Result<State, StateError> {
        todo!()
    }

    /// Reads what is there without taking the directory, for `state show`.
    pub fn inspect(_dir: &Path) -> Result<Vec<(FeedKey, FeedProgress)>, StateError> {
        todo!()
    }

    /// The id of a sink's name, new or as it was.
    pub fn sink_id(&self, _name: &str) -> Result<SinkId, StateError> {
        todo!()
    }

    /// The part of one feed.
    pub fn feed(&self, _key: &FeedKey) -> FeedState {
        todo!()
    }

    /// What each sink has.
    pub fn delivered(&self) -> &Delivered {
        todo!()
    }

    /// A sink's verdict on some records: journalled, then told to the delivered map, which tells the blobs.
    /// Never blocks; durable at the next group commit.
    pub fn acked(&self, _sink: SinkId, _outcome: Outcome, _keys: &[RecordKey], _position: Option<&FilePosition>) {
        todo!()
    }

    /// Journals where a file begins, before the first byte is written to it.
    pub fn file_opened(&self, _sink: SinkId, _position: &FilePosition) {
        todo!()
    }

    /// The newest journalled length of a sink's file by inode, and whether the state may be trusted
    /// to cut what lies beyond it (false after lost, damaged or older state).
    pub fn file_length(&self, _sink: SinkId, _inode: u64) -> Option<(u64, bool)> {
        todo!()
    }

    /// Returns when everything appended so far is fsynced.
    pub async fn durable(&self) -> Result<(), StateError> {
        todo!()
    }

    /// Resolves when the journal can no longer be written: the process must end.
    pub async fn failed(&self) -> StateError {
        todo!()
    }

    /// Commits what is pending and lets the directory go.
    pub async fn close(&self) -> Result<(), StateError> {
        todo!()
    }
}

impl FeedState {
    /// Changes what is known by one fact and journals it, in one order for both.
    pub fn record(&self, _fact: FeedFact) {
        todo!()
    }

    /// Changes what is known by a fact that is cheap to lose (it is not journalled).
    pub fn note(&self, _fact: FeedFact) {
        todo!()
    }

    /// Looks at what is known. Short: the lock is held meanwhile.
    pub fn read<T>(&self, _look: impl FnOnce(&FeedProgress) -> T) -> T {
        todo!()
    }
}
