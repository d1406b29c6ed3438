//! Maps a file read-only, so that millions of record keys, or a database of places, cost page cache and not memory of
//! the process. The only module with `unsafe`: a map is sound only while nobody changes the file, and
//! the compiler cannot know that.
#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::ops::Deref;
use std::path::Path;

use memmap2::{Advice, Mmap};

/// The bytes of a file that is never changed once it bears its name.
pub(crate) enum Map {
    Real(Mmap),
    /// Part of the program.
    Static(&'static [u8]),
    /// In memory already.
    Held(std::sync::Arc<Vec<u8>>),
}

impl Map {
    /// Maps all of `file`, which must lie in the locked state directory and be complete.
    pub(super) fn of(file: &File) -> io::Result<Map> {
        // SAFETY: key segments are written under a temporary name, renamed when complete and never
        // written again; the directory is locked against a second process of ours and readable by
        // the owner only. Unlinking a mapped file leaves the map valid.
        let map = unsafe { Mmap::map(file) }?;
        // Looked up key by key: reading ahead would only fill the cache. A refusal changes nothing.
        let _ = map.advise(Advice::Random);
        Ok(Map::Real(map))
    }

    /// Maps all of `file`, which must be a [`NamelessCopy`].
    fn of_nameless(file: &File) -> io::Result<Map> {
        // SAFETY: the file was created by us, with access for its owner only, lost its name before the first byte was
        // written into it, and its only handle is closed when this has returned: nobody can open it any more.
        let map = unsafe { Mmap::map(file) }?;
        let _ = map.advise(Advice::Random);
        Ok(Map::Real(map))
    }

    /// What needs no map, because it is one already.
    pub(crate) fn of_static(bytes: &'static [u8]) -> Map {
        Map::Static(bytes)
    }

    /// What a mirror or a double hands out in place of a map.
    pub(super) fn of_bytes(bytes: std::sync::Arc<Vec<u8>>) -> Map {
        Map::Held(bytes)
    }
}

/// A copy of somebody else's file, which may be written over at any moment, in a file of our own without a name: it is
/// gone with the process, whatever happens.
pub(crate) struct NamelessCopy(File);

impl NamelessCopy {
    /// Copies all of `source` into a new file below `dir`. Where both lie on a file system that can share blocks, none is copied.
    pub(crate) fn of(source: &mut File, dir: &Path) -> io::Result<NamelessCopy> {
        let mut copy = super::nameless(dir, "copy", "tmp")?;
        io::copy(source, &mut copy)?;
        Ok(NamelessCopy(copy))
    }

    /// Bytes.
    pub(crate) fn length(&self) -> io::Result<u64> {
        self.0.metadata().map(|about| about.len())
    }

    /// The bytes, for reading; the handle is closed.
    pub(crate) fn map(self) -> io::Result<Map> {
        Map::of_nameless(&self.0)
    }
}

impl AsRef<[u8]> for Map {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl Deref for Map {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Map::Real(map) => map,
            Map::Static(bytes) => bytes,
            Map::Held(bytes) => bytes,
        }
    }
}
