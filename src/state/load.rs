//! Reads a state directory: newest whole snapshot, then the journals from its generation on. Says
//! what it found damaged and changes nothing; [`super::open`] repairs.
//!
//! What follows a gap is used only as far as it cannot hide a blob: that a sink has a record stays
//! true whatever is missing before it, that a cell is closed does not.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::book::Book;
use super::error::failure;
use super::frame::Frame;
use super::journal::{self, End};
use super::snapshot::{self, Snapshot};
use super::{FeedProgress, StateError};
use crate::disk;
use crate::feed::FeedKey;
use crate::sink::SinkId;

/// What is wrong with the directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Finding {
    /// `snapshot`, `journal`, `tail`, `segment` or `lost`: the label of the metric.
    pub(crate) reason: &'static str,
    pub(crate) path: PathBuf,
}

/// Every value of [`Finding::reason`].
pub(crate) const REASONS: [&str; 5] = ["snapshot", "journal", "tail", "segment", "lost"];

/// The names in a state directory, by what they are.
#[derive(Debug, Default)]
pub(crate) struct Listing {
    pub(crate) snapshots: Vec<u64>,
    pub(crate) journals: Vec<u64>,
    pub(crate) segments: Vec<u64>,
    pub(crate) temporary: Vec<PathBuf>,
    /// Set aside earlier; oldest first.
    pub(crate) damaged: Vec<PathBuf>,
}

impl Listing {
    pub(crate) fn of(dir: &Path) -> Result<Listing, StateError> {
        let mut listing = Listing::default();
        for path in disk::list(dir).map_err(failure(dir))? {
            let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
            let number = |before: &str, after: &str| name.strip_prefix(before)?.strip_suffix(after)?.parse().ok();
            if let Some(generation) = number("snapshot-", ".bin") {
                listing.snapshots.push(generation);
            } else if let Some(generation) = number("journal-", ".log") {
                listing.journals.push(generation);
            } else if let Some(id) = number("keys-", ".seg") {
                listing.segments.push(id);
            } else if name.ends_with(super::TEMPORARY) {
                listing.temporary.push(path);
            } else if name.contains(".damaged-") {
                listing.damaged.push(path);
            }
        }
        listing.snapshots.sort_unstable();
        listing.journals.sort_unstable();
        listing.segments.sort_unstable();
        listing.damaged.sort_by_key(|path| disk::about(path).map(|about| about.modified_ms).ok());
        Ok(listing)
    }
}

/// What a directory says.
#[derive(Debug, Default)]
pub(crate) struct Loaded {
    pub(crate) book: Book,
    pub(crate) feeds: BTreeMap<FeedKey, FeedProgress>,
    /// Key segments that the snapshot names.
    pub(crate) segments: Vec<u64>,
    /// Generation of the snapshot used.
    pub(crate) base: Option<u64>,
    /// The last journal, its good bytes and how they end.
    pub(crate) journal: Option<(u64, u64, End)>,
    /// Above every generation in the directory.
    pub(crate) next_generation: u64,
    pub(crate) findings: Vec<Finding>,
    /// Something before what was read last is missing.
    broken: bool,
}

/// Reads `dir`. `had` is told, in order, which records which sink has by the journals.
pub(crate) fn load(dir: &Path, listing: &Listing, had: &mut dyn FnMut(SinkId, &[u8])) -> Result<Loaded, StateError> {
    let mut loaded = Loaded::default();
    let newest = listing.snapshots.last().into_iter().chain(listing.journals.last()).max();
    loaded.next_generation = newest.map_or(0, |newest| newest.saturating_add(1));
    for generation in listing.snapshots.iter().rev() {
        let path = snapshot::path(dir, *generation);
        match snapshot::read(&path, *generation)? {
            Some(Snapshot { book, feeds, segments }) => {
                loaded = Loaded { book, feeds, segments, base: Some(*generation), ..loaded };
                break;
            }
            None => loaded.found("snapshot", path),
        }
    }
    // Generation 0 begins with nothing and so has no snapshot.
    let first = loaded.base.unwrap_or(0);
    let journals = || listing.journals.iter().copied().filter(|generation| *generation >= first);
    let nothing = listing.journals.is_empty() && listing.snapshots.is_empty();
    let used_before = !(listing.segments.is_empty() && listing.damaged.is_empty());
    if journals().next() != Some(first) && (!nothing || used_before) {
        let reason = if loaded.base.is_some() { "journal" } else { "lost" };
        let missing = if reason == "lost" { dir.to_owned() } else { journal::path(dir, first) };
        loaded.missing(reason, missing);
    }
    let mut expected = journals().next().unwrap_or(first);
    for generation in journals() {
        if generation != expected {
            loaded.missing("journal", journal::path(dir, expected));
        }
        expected = generation.saturating_add(1);
        let path = journal::path(dir, generation);
        let (length, end) = journal::read(&path, generation, &mut |frame| loaded.apply(&frame, had))?;
        let last = Some(&generation) == listing.journals.last();
        match end {
            End::Clean => {}
            End::Torn if last => {}
            End::BadTail if last => loaded.found("tail", path),
            _ => loaded.missing("journal", path),
        }
        loaded.journal = Some((generation, length, end));
    }
    Ok(loaded)
}

impl Loaded {
    /// Whether more is wrong than an end that a crash may leave: everything that was ever called durable lies
    /// before that, so facts and the ends of files agree.
    pub(crate) fn is_damaged(&self) -> bool {
        self.findings.iter().any(|finding| finding.reason != "tail")
    }

    fn found(&mut self, reason: &'static str, path: PathBuf) {
        self.findings.push(Finding { reason, path });
    }

    fn missing(&mut self, reason: &'static str, path: PathBuf) {
        self.found(reason, path);
        self.broken = true;
    }

    fn apply(&mut self, frame: &Frame<'_>, had: &mut dyn FnMut(SinkId, &[u8])) {
        match frame {
            Frame::Start { last_run_ended_ms, sinks } => {
                if let Some(ended_ms) = last_run_ended_ms {
                    self.book.run_begins(*ended_ms);
                }
                for (id, name) in sinks {
                    self.book.name(*id, name);
                }
            }
            Frame::Time { world_ms } => self.book.saw(*world_ms),
            Frame::Sink { id, name } => {
                self.book.name(*id, name);
            }
            Frame::Acked { sink, keys, position } => {
                // An id without a name could be given to another sink tomorrow.
                if self.book.sinks.contains_key(sink) {
                    had(*sink, keys);
                }
                if let Some(position) = position {
                    self.book.file_at(*sink, position);
                }
            }
            Frame::FileOpened { sink, position } => self.book.file_at(*sink, position),
            Frame::Feed { key, fact } if !self.broken => {
                self.feeds.entry(key.as_ref().clone()).or_default().apply(fact);
            }
            Frame::Feed { .. } => {}
            Frame::Distrust => self.book.distrust(),
        }
    }
}
