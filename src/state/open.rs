//! A start: takes the directory, loads it, repairs what is damaged, begins to write.
//!
//! After any finding but a plain torn tail a snapshot of what is known is written first and the
//! damaged files are set aside after it, so that a crash in between finds the same damage again and
//! no file of a sink is cut on the word of a state that has lost something.

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, RwLock};

use super::commit::Committer;
use super::error::failure;
use super::group::Group;
use super::journal::{End, Writer};
use super::load::{self, Finding, Listing, Loaded, REASONS};
use super::{Handle, Options, Shared, StateError};
use crate::clock;
use crate::config::StateConfig;
use crate::delivered::segment::Segment;
use crate::delivered::{Delivered, shelf};
use crate::disk;
use crate::metrics::Metrics;

/// Files set aside that are kept for whoever wants to look.
const DAMAGED_KEPT: usize = 16;

pub(super) fn open(config: &StateConfig, metrics: Arc<Metrics>, options: Options) -> Result<Handle, StateError> {
    let dir = config.dir.clone();
    disk::create_dir(&dir).map_err(failure(&dir))?;
    let lock_path = dir.join("lock");
    let lock = disk::lock(&lock_path).map_err(failure(&lock_path))?;
    let lock = lock.ok_or_else(|| StateError::Locked { dir: dir.display().to_string() })?;
    for reason in REASONS {
        metrics.state_recoveries.with_label_values(&[reason]);
    }
    let Read { listing, delivered, mut loaded } = read(&dir, &metrics)?;
    // Only now that all of it could be read: what a later version wrote is left as it is.
    for path in &listing.temporary {
        disk::remove(path).map_err(failure(path))?;
    }
    let newest_at_start = loaded.book.newest_ms;
    loaded.book.run_begins(newest_at_start);
    if loaded.is_damaged() {
        loaded.book.distrust();
    }
    for Finding { reason, path } in &loaded.findings {
        metrics.state_recoveries.with_label_values(&[reason]).inc();
        tracing::warn!(reason, path = %path.display(), "{}", what_it_means(reason));
    }

    let writer = match loaded.journal {
        Some((generation, length, end)) if !loaded.is_damaged() => {
            if end == End::BadTail {
                keep_tail(&dir, generation, length);
            }
            match length {
                0 => Writer::create(&dir, generation)?,
                _ => Writer::resume(&dir, generation, length)?,
            }
        }
        _ => Writer::create(&dir, loaded.next_generation)?,
    };
    let damaged = loaded.is_damaged();
    let next_segment = listing.segments.last().map_or(0, |id| id + 1);
    let running = shelf::Running::after(&delivered.segments(), clock::world_ms());
    let shared = Arc::new(Shared {
        dir,
        options,
        gate: RwLock::new(()),
        feeds: Mutex::new(loaded.feeds.into_iter().map(|(k, p)| (k, Arc::new(Mutex::new(p)))).collect()),
        book: Mutex::new(loaded.book),
        group: Group::new(),
        delivered: Arc::new(delivered),
        metrics,
        next_segment: AtomicU64::new(next_segment),
        newest_at_start,
        running,
    });
    let mut committer = Committer {
        shared: Arc::clone(&shared),
        writer,
        base: loaded.base,
        snapshot_bytes: 0,
        base_segments: loaded.segments,
        running: None,
        failed: None,
        measured: None,
        waits: false,
    };
    shared.append_start(Some(newest_at_start));
    committer.commit()?;
    if damaged {
        let done = committer.rotate()?.run(&shared)?;
        committer.compacted(done);
        set_aside(&loaded.findings, &listing)?;
    }
    committer.waits = true;
    let thread = std::thread::Builder::new().name("state-commit".into()).spawn(move || committer.run());
    let thread = thread.map_err(|source| StateError::Io { path: "a thread".into(), source })?;
    Ok(Handle { shared, base: None, running: Mutex::new(Some((thread, lock))) })
}

/// What a directory says, and nothing in it changed.
pub(super) struct Read {
    listing: Listing,
    pub(super) delivered: Delivered,
    pub(super) loaded: Loaded,
}

pub(super) fn read(dir: &Path, metrics: &Metrics) -> Result<Read, StateError> {
    let listing = Listing::of(dir)?;
    let delivered = Delivered::new(metrics);
    let mut loaded = load::load(dir, &listing, &mut |sink, keys| delivered.restore(sink, keys))?;
    let segments = open_segments(dir, &listing, &mut loaded)?;
    delivered.set_segments(segments);
    Ok(Read { listing, delivered, loaded })
}

fn what_it_means(reason: &str) -> &'static str {
    match reason {
        "snapshot" => "a snapshot is damaged and set aside; the previous one and its journals are used",
        "tail" => {
            "the newest group of the journal is damaged, as a power loss leaves it; a copy is set aside, what precedes it is kept"
        }
        "segment" => "a file of record keys is damaged and set aside; duplicates are possible",
        "journal" => "a journal is damaged or missing; what precedes it is kept, duplicates are possible",
        _ => "the state is lost; the last 7 days are listed again, duplicates are possible",
    }
}

/// Copies what is about to be cut from the end of a journal, for whoever wants to look. A disk without room for
/// it is no reason not to start.
fn keep_tail(dir: &Path, generation: u64, length: u64) {
    let path = super::journal::path(dir, generation);
    let copy = damaged_name(&path);
    let kept = disk::read(&path).and_then(|bytes| {
        let tail = usize::try_from(length).ok().and_then(|length| bytes.get(length..)).unwrap_or_default();
        disk::create(&copy)?.write_all_at(tail, 0)
    });
    if let Err(error) = kept {
        tracing::warn!(path = %copy.display(), %error, "no copy of the damaged end of the journal was kept");
    }
}

fn damaged_name(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".damaged-{}", clock::world_ms()));
    name.into()
}

/// Opens the key segments: those the snapshot names, or after damage all there are, since what they
/// say stays true. One in which an id bears another name than now is not used.
fn open_segments(dir: &Path, listing: &Listing, loaded: &mut Loaded) -> Result<Vec<Arc<Segment>>, StateError> {
    let mut ids: HashSet<u64> = loaded.segments.iter().copied().collect();
    if loaded.is_damaged() || loaded.base.is_none() {
        ids.extend(&listing.segments);
    }
    let mut ids: Vec<u64> = ids.into_iter().collect();
    ids.sort_unstable();
    let mut segments = Vec::new();
    for id in ids {
        let there = listing.segments.contains(&id);
        let segment = if there { Segment::open(dir, id)? } else { None };
        let usable = |segment: &Segment| names_agree(&segment.sinks, &mut loaded.book);
        match segment.filter(usable) {
            Some(segment) => segments.push(Arc::new(segment)),
            None => {
                let path = crate::delivered::segment::path(dir, id);
                loaded.findings.push(Finding { reason: "segment", path });
            }
        }
    }
    segments.sort_by_key(|segment| (segment.newest_ms, segment.id));
    Ok(segments)
}

fn names_agree(names: &BTreeMap<crate::sink::SinkId, String>, book: &mut super::book::Book) -> bool {
    let agree = names.iter().all(|(id, name)| book.sinks.get(id).is_none_or(|known| known == name));
    if agree {
        for (id, name) in names {
            book.name(*id, name);
        }
    }
    agree
}

/// Renames what was found damaged, for whoever wants to look, and lets the oldest of these go. Needs no fsync:
/// the new snapshot is durable, and nothing that it replaces is read again, whatever it is called.
fn set_aside(findings: &[Finding], listing: &Listing) -> Result<(), StateError> {
    for Finding { reason, path } in findings {
        if *reason == "lost" || disk::about(path).is_err() {
            continue;
        }
        disk::rename(path, &damaged_name(path)).map_err(failure(path))?;
    }
    let surplus = (listing.damaged.len() + findings.len()).saturating_sub(DAMAGED_KEPT);
    for path in listing.damaged.iter().take(surplus) {
        disk::remove(path).map_err(failure(path))?;
    }
    Ok(())
}
