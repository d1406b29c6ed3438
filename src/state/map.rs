//! Maps a file of record keys read-only, so that millions of keys cost page cache and not memory of
//! the process. The only module with `unsafe`: a map is sound only while nobody changes the file, and
//! the compiler cannot know that.
#![allow(unsafe_code)]

use std::fs::File;
use std::ops::Deref;
use std::path::Path;

use memmap2::{Advice, Mmap};

use super::StateError;
use super::disk::failure;

/// The bytes of a file that is never changed once it bears its name.
pub(crate) struct Map(Mmap);

impl Map {
    /// Maps all of `file`, which must lie in the locked state directory and be complete.
    pub(crate) fn of(file: &File, path: &Path) -> Result<Map, StateError> {
        // SAFETY: key segments are written under a temporary name, renamed when complete and never
        // written again; the directory is locked against a second process of ours and readable by
        // the owner only. Unlinking a mapped file leaves the map valid.
        let map = unsafe { Mmap::map(file) }.map_err(failure(path))?;
        // Looked up key by key: reading ahead would only fill the cache. A refusal changes nothing.
        let _ = map.advise(Advice::Random);
        Ok(Map(map))
    }
}

impl Deref for Map {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}
