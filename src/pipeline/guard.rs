//! Faults of ours, caught: a panic over one record must not end the process, which would fetch the
//! record again after each restart and end again, for ever. Comes in: work on records. Goes out: its
//! result, or that it panicked; and one line of log a part, without a word of the record.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::feed::BlobId;
use crate::metrics::Metrics;

/// Where a fault can strike, as the label `stage`; at `split` the source catches it.
pub(super) const STAGES: [&str; 3] = ["split", "read", "write"];

/// The work panicked. What the panic said may quote the record, so nobody repeats it.
pub(super) struct Fault;

/// Does `work`. What it was changing when it panicked is the caller's to cut back.
pub(super) fn guarded<T>(work: impl FnOnce() -> T) -> Result<T, Fault> {
    catch_unwind(AssertUnwindSafe(work)).map_err(|_| Fault)
}

/// The faults of a part.
#[derive(Default)]
pub(super) struct Faults {
    counts: [u64; STAGES.len()],
}

impl Faults {
    /// Takes note of one; returns what to write of it into the record's document.
    pub fn note(&mut self, stage: &'static str, _: Fault) -> String {
        if let Some(index) = STAGES.iter().position(|known| *known == stage) {
            self.counts[index] += 1;
        }
        format!("a fault of auditferry: it panicked at this record (stage {stage})")
    }

    /// Counts them, and says once where they struck.
    pub fn report(&self, blob: &BlobId, metrics: &Metrics) {
        for (stage, count) in STAGES.into_iter().zip(self.counts).filter(|(_, count)| *count > 0) {
            metrics.faults.with_label_values(&[stage]).inc_by(count);
            tracing::error!(tenant = %blob.feed.tenant.name, content_type = %blob.feed.content_type, content_id = %blob.content_id,
                stage, records = count, "a fault of ours struck at records of this blob; they go out as event.kind pipeline_error with all their bytes, the others are unharmed; please report it");
        }
    }
}
