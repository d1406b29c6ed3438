//! Which sink has which record: in memory, in segments on disk, and what is in flight.
//!
//! Comes in: claims from the pipeline (who still needs this record?) and verdicts from the return
//! lane. A record in flight suppresses its copies only provisionally: they share its verdict, so if
//! it is lost their blobs stay unsettled too.

use crate::ack::{Finalizer, Outcome};
use crate::record::RecordKey;
use crate::sink::{SinkId, SinkSet};

/// What each sink has.
pub struct Delivered {}

impl Delivered {
    /// For each record, in order: which sinks of `wanted` must now be sent it. The finalizer is
    /// settled when all *required* sinks of that record are done; at once (as `Duplicate`) when they
    /// already are.
    pub fn claim(
        &self,
        _wanted: SinkSet,
        _required: SinkSet,
        _records: impl Iterator<Item = (RecordKey, Finalizer)>,
    ) -> Vec<SinkSet> {
        todo!()
    }

    /// A sink's verdict on some records. `Delivered` and `Rejected` mark them as had by the sink.
    pub fn resolve(&self, _sink: SinkId, _outcome: Outcome, _keys: &[RecordKey]) {
        todo!()
    }
}
