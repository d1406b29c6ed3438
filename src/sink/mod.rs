//! Sinks only encode, send and classify; one [`driver`] does queueing, batching, splitting, retry,
//! circuit, dead letters and acknowledgements for all of them.
//!
//! Comes in: [`Delivery`](crate::event::Delivery)s. Goes out: batches to the world, and verdicts to
//! the return lane. A sink never retries, never drops, never sees a record type. Adding one: a file
//! here, a variant of [`AnySink`] and of the configuration; the compiler and the contract suite name the rest.

use std::time::Duration;

use crate::event::Event;

/// A sink's place in a [`SinkSet`]; given once to a sink's name and kept in the state for good.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub struct SinkId(pub u8);

/// A set of sinks, one bit each. 32: more sinks than any deployment seen; refused beyond, never wrapped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SinkSet(pub u32);

impl SinkSet {
    pub const EMPTY: SinkSet = SinkSet(0);

    pub fn of(sink: SinkId) -> SinkSet {
        SinkSet(1 << sink.0)
    }
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }
    pub fn contains(self, sink: SinkId) -> bool {
        self.0 & (1 << sink.0) != 0
    }
    pub fn union(self, other: SinkSet) -> SinkSet {
        SinkSet(self.0 | other.0)
    }
    pub fn minus(self, other: SinkSet) -> SinkSet {
        SinkSet(self.0 & !other.0)
    }
    pub fn intersection(self, other: SinkSet) -> SinkSet {
        SinkSet(self.0 & other.0)
    }
    pub fn iter(self) -> impl Iterator<Item = SinkId> {
        (0..32).map(SinkId).filter(move |sink| self.contains(*sink))
    }
}

/// A batch ready to leave: the encoded events back to back, and where each ends.
#[derive(Clone, Debug, Default)]
pub struct EncodedBatch {
    pub bytes: Vec<u8>,
    /// End offset of each event in `bytes`, ascending.
    pub ends: Vec<usize>,
}

/// A batch was taken.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Accepted {
    /// Where a file stands after this batch, to be journalled with its keys.
    pub position: Option<FilePosition>,
}

/// How far a file is known to be ours.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct FilePosition {
    pub path: String,
    pub inode: u64,
    /// Bytes, all fsynced.
    pub length: u64,
}

/// Why a batch was not taken, by what the driver does next.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// Send the same batch again, after `after` if the receiver named a time, else after the driver's back-off.
    #[error("{reason}")]
    Retry { after: Option<Duration>, reason: String },
    /// These events (indices into the batch, ascending, not empty) are refused for good: dead-letter
    /// them, send all others again.
    #[error("{reason}")]
    Reject { events: Vec<usize>, reason: String },
    /// Something in the batch is refused and the receiver does not say what: halve it, try again;
    /// a single event is then rejected.
    #[error("{reason}")]
    Split { reason: String },
    /// Nothing will be taken until somebody mends the receiver or the configuration: hold
    /// everything, probe, never dead-letter.
    #[error("{reason}")]
    Fatal { reason: String },
}

/// What a kind of sink is. `send` may run several times at once where `CONCURRENCY` allows.
pub trait Sink: Send + Sync + 'static {
    /// Appends one event, framed as this sink frames it.
    fn encode(&self, event: &Event<'_>, out: &mut Vec<u8>);

    /// Sends one batch and waits for the receiver's word.
    fn send(&self, batch: &EncodedBatch) -> impl Future<Output = Result<Accepted, SendError>> + Send;

    /// Asks whether the receiver would take something, without sending any: `Ok` closes the circuit.
    fn probe(&self) -> impl Future<Output = Result<(), SendError>> + Send;
}
