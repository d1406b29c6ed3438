//! What is known beside the feeds: the names of sinks, the ends of their files, the newest world time
//! journalled. Pure: changed by facts only, no clock, no IO.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::StateError;
use crate::sink::{FilePosition, SinkId};

/// Sinks that can ever be named in one state directory: the bits of a `SinkSet`.
const SINKS: u8 = 32;

/// Files remembered per sink: the current one and far more rotated ones than are usually kept.
const FILES_PER_SINK: usize = 64;

/// How much newer than the last frame of the run a file's modification time may be and the state
/// still count as current, milliseconds. A frame is written every 30 seconds at least; ten minutes
/// leave room for a disk that stalls.
const REWOUND_AFTER_MS: i64 = 10 * 60 * 1000;

/// A file of a sink, by inode.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct KnownFile {
    pub(crate) sink: SinkId,
    pub(crate) position: FilePosition,
    /// False when facts about it may be missing.
    pub(crate) trusted: bool,
    /// The newest frame of the run that wrote about it last; `None`: the current run. A later run
    /// cannot have written to the file, because it would have journalled that it opened it.
    pub(crate) run_end_ms: Option<i64>,
}

/// See the module's head.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Book {
    pub(crate) sinks: BTreeMap<SinkId, String>,
    /// Oldest first by last change.
    pub(crate) files: Vec<KnownFile>,
    /// World time of the newest frame, milliseconds since 1970.
    pub(crate) newest_ms: i64,
}

impl Book {
    /// A process begins with what is known so far; the one before had last written at `ended_ms`.
    pub(crate) fn run_begins(&mut self, ended_ms: i64) {
        for file in &mut self.files {
            file.run_end_ms.get_or_insert(ended_ms);
        }
    }

    /// A frame of this world time was written. Not the greatest but the last: a clock that was once
    /// far ahead must not make old state look new for ever.
    pub(crate) fn saw(&mut self, world_ms: i64) {
        self.newest_ms = world_ms;
    }

    /// The id of a sink's name, as it was or else the first that is free and not in `taken`.
    pub(crate) fn choose(&self, name: &str, taken: &[SinkId]) -> Result<SinkId, StateError> {
        if let Some((id, _)) = self.sinks.iter().find(|(_, known)| *known == name) {
            return Ok(*id);
        }
        let mut free = (0..SINKS).map(SinkId).filter(|id| !self.sinks.contains_key(id) && !taken.contains(id));
        free.next().ok_or_else(|| {
            let known: Vec<String> = self.sinks.values().map(|name| format!("`{name}`")).collect();
            StateError::TooManySinks { name: name.to_owned(), known: known.join(", ") }
        })
    }

    /// The name of an id, unless the id already has another.
    pub(crate) fn name(&mut self, id: SinkId, name: &str) -> bool {
        self.sinks.entry(id).or_insert_with(|| name.to_owned()) == name
    }

    pub(crate) fn file_at(&mut self, sink: SinkId, position: &FilePosition) {
        self.files.retain(|file| !(file.sink == sink && file.position.inode == position.inode));
        if self.files.iter().filter(|file| file.sink == sink).count() >= FILES_PER_SINK
            && let Some(oldest) = self.files.iter().position(|file| file.sink == sink)
        {
            self.files.remove(oldest);
        }
        self.files.push(KnownFile { sink, position: position.clone(), trusted: true, run_end_ms: None });
    }

    /// The sink writes nothing more for now: what others do to its files after `at_ms` is theirs.
    pub(crate) fn sink_ended(&mut self, sink: SinkId, at_ms: i64) {
        for file in self.files.iter_mut().filter(|file| file.sink == sink) {
            file.run_end_ms.get_or_insert(at_ms);
        }
    }

    pub(crate) fn distrust(&mut self) {
        for file in &mut self.files {
            file.trusted = false;
        }
    }

    pub(crate) fn file(&self, sink: SinkId, inode: u64) -> Option<&KnownFile> {
        self.files.iter().find(|file| file.sink == sink && file.position.inode == inode)
    }
}

impl KnownFile {
    /// Whether a file last changed at `modified_ms` can be the one the state knows, with nothing in
    /// it beyond what one crash leaves.
    pub(crate) fn may_be_cut(&self, modified_ms: i64) -> bool {
        self.trusted && self.run_end_ms.is_none_or(|end| modified_ms <= end.saturating_add(REWOUND_AFTER_MS))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rewound_state_never_cuts_however_many_runs_later() {
        let mut book = Book::default();
        let sink = SinkId(0);
        book.saw(1000);
        book.file_at(sink, &FilePosition { path: "f".into(), inode: 1, length: 10 });
        book.run_begins(book.newest_ms);
        book.saw(90_000_000);
        book.run_begins(book.newest_ms);
        let file = book.file(sink, 1).unwrap();
        assert!(file.may_be_cut(1000 + REWOUND_AFTER_MS));
        assert!(!file.may_be_cut(1001 + REWOUND_AFTER_MS));
    }

    #[test]
    fn what_others_write_while_a_sink_is_away_is_not_cut() {
        let mut book = Book::default();
        book.file_at(SinkId(0), &FilePosition { path: "f".into(), inode: 1, length: 10 });
        assert!(book.file(SinkId(0), 1).unwrap().may_be_cut(i64::MAX));
        book.sink_ended(SinkId(0), 5000);
        assert!(book.file(SinkId(0), 1).unwrap().may_be_cut(5000 + REWOUND_AFTER_MS));
        assert!(!book.file(SinkId(0), 1).unwrap().may_be_cut(5001 + REWOUND_AFTER_MS));
    }

    #[test]
    fn only_the_newest_files_of_a_sink_are_remembered() {
        let mut book = Book::default();
        for inode in 0..100 {
            book.file_at(SinkId(0), &FilePosition { path: "f".into(), inode, length: 0 });
            book.file_at(SinkId(1), &FilePosition { path: "g".into(), inode: 5, length: inode });
        }
        assert_eq!(book.files.len(), FILES_PER_SINK + 1);
        assert!(book.file(SinkId(0), 99).is_some() && book.file(SinkId(0), 0).is_none());
        assert_eq!(book.file(SinkId(1), 5).unwrap().position.length, 99);
    }
}
