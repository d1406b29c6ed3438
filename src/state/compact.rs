//! Compaction: what the old journal said becomes a key segment and a snapshot, then files that only
//! older generations need go. Each step leaves a directory that loads to the same knowledge: the
//! snapshot is renamed into place last, and nothing is removed before it.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;
use std::sync::Arc;

use super::error::failure;
use super::load::Listing;
use super::snapshot::Encoder;
use super::{Shared, StateError, journal, snapshot};
use crate::delivered::{Generation, segment, shelf};
use crate::disk;
use crate::sink::SinkId;

/// One compaction, repeatable until it succeeds.
pub(crate) struct Job {
    /// Of the snapshot to write; its journal has begun.
    pub(crate) generation: u64,
    pub(crate) control: Encoder,
    /// Keys of the journals before, and the id of the segment to hold them.
    pub(crate) frozen: Option<(u64, Arc<Generation>)>,
    pub(crate) sinks: BTreeMap<SinkId, String>,
    /// The snapshot before (`None`: there was none, and everything begins at generation 0) and the
    /// segments it names: they stay.
    pub(crate) previous: Option<u64>,
    pub(crate) previous_segments: Vec<u64>,
}

/// What a compaction has brought about.
pub(crate) struct Done {
    pub(crate) generation: u64,
    pub(crate) snapshot_bytes: u64,
    pub(crate) segments: Vec<u64>,
}

impl Job {
    pub(crate) fn run(&mut self, shared: &Shared) -> Result<Done, StateError> {
        let result = self.try_run(shared);
        let word = if result.is_ok() { "ok" } else { "error" };
        shared.metrics.snapshots.with_label_values(&[word]).inc();
        result
    }

    fn try_run(&mut self, shared: &Shared) -> Result<Done, StateError> {
        let dir = &shared.dir;
        let now = shared.running_ms();
        let mut segments = shared.delivered.segments();
        if let Some((id, keys)) = &self.frozen {
            let segment = segment::write(dir, *id, now, &self.sinks, keys.len() as u64, keys.sorted())?;
            segments.push(Arc::new(segment));
            shared.delivered.set_segments(segments.clone());
        }
        self.frozen = None;
        let limits = &shared.options.shelf;
        let evicted = shelf::evict(&mut segments, limits, now);
        while shelf::merge_once(&mut segments, limits, dir, || shared.next_segment(), &self.sinks)? {}
        shared.delivered.set_segments(segments.clone());
        shared.metrics.delivered_evicted.inc_by(evicted);
        let ids: Vec<u64> = segments.iter().map(|segment| segment.id).collect();
        let snapshot_bytes = self.control.write(dir, self.generation, &ids)?;
        if let Err(error) = self.clean(dir, &ids) {
            tracing::warn!(%error, "older state files were not removed; the next compaction tries again");
        }
        Ok(Done { generation: self.generation, snapshot_bytes, segments: ids })
    }

    fn clean(&self, dir: &Path, segments: &[u64]) -> Result<(), StateError> {
        let listing = Listing::of(dir)?;
        let oldest = self.previous.unwrap_or(0);
        for generation in listing.journals.into_iter().filter(|generation| *generation < oldest) {
            remove(&journal::path(dir, generation))?;
        }
        for generation in listing.snapshots.into_iter().filter(|generation| *generation < oldest) {
            remove(&snapshot::path(dir, generation))?;
        }
        let kept: HashSet<&u64> = segments.iter().chain(&self.previous_segments).collect();
        for id in listing.segments.into_iter().filter(|id| !kept.contains(id)) {
            remove(&segment::path(dir, id))?;
        }
        Ok(())
    }
}

fn remove(path: &Path) -> Result<(), StateError> {
    disk::remove(path).map_err(failure(path))
}
