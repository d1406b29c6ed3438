//! Maps a file of record keys read-only, so that millions of keys cost page cache and not memory of
//! the process. The only module with `unsafe`: a map is sound only while nobody changes the file, and
//! the compiler cannot know that.
#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::ops::Deref;

use memmap2::{Advice, Mmap};

/// The bytes of a file that is never changed once it bears its name.
pub(crate) enum Map {
    Real(Mmap),
    #[cfg(any(test, feature = "failpoints"))]
    Double(std::sync::Arc<Vec<u8>>),
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

    /// What a double hands out in place of a map.
    #[cfg(any(test, feature = "failpoints"))]
    pub(super) fn of_bytes(bytes: std::sync::Arc<Vec<u8>>) -> Map {
        Map::Double(bytes)
    }
}

impl Deref for Map {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Map::Real(map) => map,
            #[cfg(any(test, feature = "failpoints"))]
            Map::Double(bytes) => bytes,
        }
    }
}
