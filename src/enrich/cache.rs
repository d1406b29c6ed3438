//! What was found out lately, by what it was asked for; bounded. Comes in: keys and bytes. Goes out: the bytes again. Two
//! generations: when the young one is full it becomes the old one, and the old one goes; what is asked for again moves to
//! the young one. So what is in use stays, without a list that every look would have to move things in.

use std::hash::{BuildHasher, Hash};
use std::sync::{Mutex, PoisonError};

use hashbrown::{DefaultHashBuilder, Equivalent, HashMap};

/// Parts with a lock each: more than there are cores in most machines, so that workers seldom meet.
const PARTS: usize = 16;

/// See the module's head.
pub(super) struct Cache<K> {
    hasher: DefaultHashBuilder,
    parts: [Mutex<Part<K>>; PARTS],
    /// Entries of a generation of a part.
    most: usize,
}

struct Part<K> {
    young: HashMap<K, Box<[u8]>, DefaultHashBuilder>,
    old: HashMap<K, Box<[u8]>, DefaultHashBuilder>,
}

impl<K: Hash + Eq> Cache<K> {
    /// Holds at most `entries`, and at least half as many of the latest.
    pub fn new(entries: usize) -> Cache<K> {
        let hasher = DefaultHashBuilder::default();
        let part = || {
            Mutex::new(Part { young: HashMap::with_hasher(hasher.clone()), old: HashMap::with_hasher(hasher.clone()) })
        };
        Cache { parts: std::array::from_fn(|_| part()), most: (entries / PARTS / 2).max(1), hasher }
    }

    /// Appends what is known for `key` to `out`; false if nothing is.
    pub fn get<Q>(&self, key: &Q, out: &mut Vec<u8>) -> bool
    where
        Q: Hash + Equivalent<K> + ?Sized,
    {
        let mut part = self.part(key).lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(bytes) = part.young.get(key) {
            out.extend_from_slice(bytes);
            return true;
        }
        let Some((key, bytes)) = part.old.remove_entry(key) else { return false };
        out.extend_from_slice(&bytes);
        part.insert(key, bytes, self.most);
        true
    }

    /// Keeps `bytes` for `key`.
    pub fn insert(&self, key: K, bytes: &[u8]) {
        self.part(&key).lock().unwrap_or_else(PoisonError::into_inner).insert(key, bytes.into(), self.most);
    }

    fn part<Q: Hash + ?Sized>(&self, key: &Q) -> &Mutex<Part<K>> {
        // The low bits choose the place within the part.
        &self.parts[(self.hasher.hash_one(key) >> 40) as usize % PARTS]
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        let of = |part: &Mutex<Part<K>>| {
            let part = part.lock().unwrap();
            part.young.len() + part.old.len()
        };
        self.parts.iter().map(of).sum()
    }
}

impl<K: Hash + Eq> Part<K> {
    fn insert(&mut self, key: K, bytes: Box<[u8]>, most: usize) {
        if self.young.len() >= most {
            std::mem::swap(&mut self.young, &mut self.old);
            self.young.clear();
        }
        self.young.insert(key, bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_stays_and_the_rest_goes() {
        let cache = Cache::<u32>::new(320);
        let mut out = Vec::new();
        cache.insert(0, b"zero");
        for key in 1..10_000 {
            cache.insert(key, b"other");
            out.clear();
            assert!(cache.get(&0, &mut out), "after {key}");
            assert_eq!(out, b"zero");
            assert!(cache.len() <= 320);
        }
        assert!(!cache.get(&1, &mut out));
        assert!(cache.len() > 160);
    }

    #[test]
    fn a_text_is_found_by_what_it_borrows() {
        let cache = Cache::<Box<str>>::new(64);
        cache.insert("a".into(), b"1");
        let mut out = b"x".to_vec();
        assert!(cache.get("a", &mut out) && !cache.get("b", &mut out));
        assert_eq!(out, b"x1");
    }
}
