//! Memory for bodies and their parts: mappings of their own, given back to the system when they are done.
//!
//! They are large, of any size, live as long as the sinks are slow and end in any order. From the heap that
//! leaves holes which nothing fits: a backlog of 2 M records then held 185 MiB for 32 MiB in flight.
//!
//! Comes in: bytes. Goes out: [`Bytes`], each free of all others. Never touches a page that nothing was
//! written to, so room that is not used costs no memory.

use std::io::{self, Write};
use std::ops::Deref;

use bytes::Bytes;
use memmap2::{MmapMut, MmapOptions};

/// Below this the heap's holes are small, and a mapping (system calls, whole pages) costs more than a copy.
const FROM: usize = 128 * 1024;
/// First size of a [`Room`]: most blobs fit.
const FIRST: usize = 1024 * 1024;

/// A copy of `bytes` that is let go alone.
pub fn copy(bytes: &[u8]) -> Bytes {
    if bytes.len() < FROM {
        return Bytes::copy_from_slice(bytes);
    }
    // All pages are written at once, so they are asked for at once.
    match MmapOptions::new().len(bytes.len()).populate().map_anon() {
        Ok(mut map) => {
            map.copy_from_slice(bytes);
            Bytes::from_owner(Block(map))
        }
        // The number of mappings is limited (65,530 by default); a part is worth some holes.
        Err(_) => Bytes::copy_from_slice(bytes),
    }
}

struct Block(MmapMut);

impl AsRef<[u8]> for Block {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

/// Bytes that grow at the back and are taken from the front. Holds no memory before the first.
#[derive(Default)]
pub struct Room {
    map: Option<MmapMut>,
    start: usize,
    end: usize,
}

impl Room {
    /// Drops the first `count` bytes, at most all.
    pub fn advance(&mut self, count: usize) {
        self.start = (self.start + count).min(self.end);
    }

    /// Drops all but the first `count` bytes.
    pub fn truncate(&mut self, count: usize) {
        self.end = self.end.min(self.start + count);
    }

    /// The first `count` bytes; the rest is dropped.
    pub fn into_first(self, count: usize) -> Bytes {
        let (from, to) = (self.start, (self.start + count).min(self.end));
        match self.map {
            Some(map) if to - from >= FROM => Bytes::from_owner(Block(map)).slice(from..to),
            Some(map) => Bytes::copy_from_slice(&map[from..to]),
            None => Bytes::new(),
        }
    }

    /// Gives back what was only needed while more was held.
    pub fn shrink(&mut self) -> io::Result<()> {
        self.map_anew(self.len().next_power_of_two().max(FIRST))
    }

    /// Makes sure that `more` bytes fit behind the end.
    fn reserve(&mut self, more: usize) -> io::Result<()> {
        let capacity = self.map.as_ref().map_or(0, |map| map.len());
        let needed = self.len() + more;
        if self.end + more <= capacity {
            return Ok(());
        }
        match &mut self.map {
            Some(map) if needed <= capacity => {
                map.copy_within(self.start..self.end, 0);
                (self.start, self.end) = (0, self.end - self.start);
                Ok(())
            }
            _ => self.map_anew(needed.next_power_of_two().max(FIRST)),
        }
    }

    fn map_anew(&mut self, capacity: usize) -> io::Result<()> {
        let mut map = MmapMut::map_anon(capacity)?;
        let held = self.len();
        map[..held].copy_from_slice(self);
        (self.map, self.start, self.end) = (Some(map), 0, held);
        Ok(())
    }
}

impl Deref for Room {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.map.as_ref().map_or(&[], |map| &map[self.start..self.end])
    }
}

impl Write for Room {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.reserve(bytes.len())?;
        if let Some(map) = &mut self.map {
            map[self.end..self.end + bytes.len()].copy_from_slice(bytes);
            self.end += bytes.len();
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(length: usize) -> Vec<u8> {
        (0..length).map(|n| (n % 251) as u8).collect()
    }

    #[test]
    fn a_copy_is_equal_whatever_its_size_and_outlives_its_source() {
        for length in [0, 1, FROM - 1, FROM, FROM + 1, 3 * FROM + 77] {
            let bytes = pattern(length);
            let copied = copy(&bytes);
            let part = copied.slice(length / 2..);
            assert_eq!(copied, bytes);
            drop(copied);
            assert_eq!(part, bytes[length / 2..]);
        }
    }

    #[test]
    fn a_room_holds_what_was_written_and_not_taken() {
        let all = pattern(5 * FIRST);
        let mut room = Room::default();
        let (mut written, mut taken) = (0, 0);
        let mut random = fastrand::Rng::with_seed(3);
        while written < all.len() {
            let more = random.usize(0..FIRST).min(all.len() - written);
            room.write_all(&all[written..written + more]).unwrap();
            written += more;
            assert_eq!(*room, all[taken..written]);
            let less = random.usize(0..=room.len());
            room.advance(less);
            taken += less;
            if random.bool() {
                room.shrink().unwrap();
            }
            assert_eq!(*room, all[taken..written]);
        }
        let count = room.len() / 2;
        assert_eq!(room.into_first(count), all[taken..taken + count]);
        assert!(Room::default().into_first(3).is_empty());
    }
}
