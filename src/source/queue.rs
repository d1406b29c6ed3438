//! The order in which a feed's listed blobs are fetched: the oldest first, because they expire first,
//! with every fourth turn for the newest, so that a backlog does not hide what happens now. What is only
//! read once more comes last, when nothing else is ready.

use std::collections::BTreeSet;

use crate::clock::Seconds;
use crate::state::ContentKey;

/// Every so many turns the newest blob is taken instead of the oldest.
const NEWEST_EVERY: u32 = 4;

/// Blobs that wait for their (next) fetch. Those in the air are not in it.
#[derive(Debug, Default)]
pub struct Queue {
    ready: BTreeSet<(i64, ContentKey)>,
    /// The last: it is only to be read once more.
    delayed: BTreeSet<(Seconds, i64, ContentKey, bool)>,
    again: BTreeSet<(i64, ContentKey)>,
    turn: u32,
}

impl Queue {
    /// A blob that may be fetched now. `created_ms` orders it.
    pub fn push(&mut self, created_ms: i64, content: ContentKey) {
        self.ready.insert((created_ms, content));
    }

    /// A blob that may be fetched from `due` on; `is_again`: and then only when nothing else is ready.
    pub fn push_delayed(&mut self, due: Seconds, created_ms: i64, content: ContentKey, is_again: bool) {
        self.delayed.insert((due, created_ms, content, is_again));
    }

    /// A blob to be read once more, when nothing else is ready.
    pub fn push_again(&mut self, created_ms: i64, content: ContentKey) {
        self.again.insert((created_ms, content));
    }

    /// The time was set back to `now`: nothing waits for longer than `longest`.
    pub fn rewind(&mut self, now: Seconds, longest: Seconds) {
        let delayed = std::mem::take(&mut self.delayed);
        self.delayed =
            delayed.into_iter().map(|(due, at, key, again)| (due.min(now + longest), at, key, again)).collect();
    }

    /// The next blob.
    pub fn pop(&mut self, now: Seconds) -> Option<ContentKey> {
        while let Some(first) = self.delayed.first().copied()
            && first.0 <= now
        {
            self.delayed.pop_first();
            let (_, created_ms, content, is_again) = first;
            let ready = if is_again { &mut self.again } else { &mut self.ready };
            ready.insert((created_ms, content));
        }
        self.turn = self.turn.wrapping_add(1);
        let next = if self.turn.is_multiple_of(NEWEST_EVERY) { self.ready.pop_last() } else { self.ready.pop_first() };
        next.or_else(|| self.again.pop_first()).map(|(_, content)| content)
    }

    /// When the next delayed blob is due; `now` when one is ready.
    pub fn next_due(&self, now: Seconds) -> Option<Seconds> {
        if !self.ready.is_empty() || !self.again.is_empty() {
            return Some(now);
        }
        self.delayed.first().map(|(due, ..)| *due)
    }

    /// Blobs waiting.
    pub fn len(&self) -> usize {
        self.ready.len() + self.delayed.len() + self.again.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn oldest_first_every_fourth_the_newest_and_the_delayed_when_due() {
        let key = |n: u8| ContentKey([n; 16]);
        let mut queue = Queue::default();
        for n in 0..6 {
            queue.push(i64::from(n), key(n));
        }
        queue.push_delayed(100, -1, key(9), false);
        queue.push_again(-5, key(7));
        let order: Vec<u8> = std::iter::from_fn(|| queue.pop(0)).map(|k| k.0[0]).collect();
        assert_eq!(order, [0, 1, 2, 5, 3, 4, 7]);
        assert_eq!(queue.next_due(50), Some(100));
        queue.rewind(-1000, 10);
        assert_eq!(queue.next_due(-1000), Some(-990));
        assert_eq!(queue.pop(100), Some(key(9)));
        assert!(queue.is_empty());
    }
}
