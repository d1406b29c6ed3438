//! How large the state directory is, for a gauge. Comes in: the directory. Goes out: bytes by what they are. Changes
//! nothing, and decides nothing: a file that cannot be looked at counts as none.

use std::path::Path;

use super::load::Listing;
use super::{journal, snapshot};
use crate::delivered::segment;
use crate::disk;
use crate::metrics::Metrics;

/// Measures `dir` and shows it.
pub(super) fn show(dir: &Path, metrics: &Metrics) {
    let Ok(listing) = Listing::of(dir) else { return };
    let bytes = |path: &Path| disk::about(path).map_or(0, |about| about.length);
    let sum = |numbers: &[u64], path: fn(&Path, u64) -> std::path::PathBuf| -> u64 {
        numbers.iter().map(|number| bytes(&path(dir, *number))).sum()
    };
    let parts = [
        ("journals", sum(&listing.journals, journal::path)),
        ("snapshots", sum(&listing.snapshots, snapshot::path)),
        ("keys", sum(&listing.segments, segment::path)),
        ("set_aside", listing.damaged.iter().map(|path| bytes(path)).sum()),
    ];
    for (part, bytes) in parts {
        metrics.state_bytes.with_label_values(&[part]).set(i64::try_from(bytes).unwrap_or(i64::MAX));
    }
}
