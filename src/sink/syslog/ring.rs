//! The last messages that the receiver's kernel took: its process may never have read them, so they are sent again
//! when the connection breaks.
//!
//! Comes in: batches as they were sent, in order. Goes out: the newest of them, whole messages, of at most so
//! many bytes. What it forgets the receiver is taken to have read.

use std::collections::VecDeque;

use bytes::Bytes;

/// Some messages as they were sent, and where each ends.
#[derive(Clone, Debug, Default)]
pub(super) struct Sent {
    pub wire: Bytes,
    pub ends: Vec<usize>,
}

impl Sent {
    /// Without its first messages, of which it has more; how many bytes those were.
    fn cut(&mut self, messages: usize) -> usize {
        let cut = self.ends[messages - 1];
        self.wire = self.wire.slice(cut..);
        self.ends.drain(..messages);
        self.ends.iter_mut().for_each(|end| *end -= cut);
        cut
    }
}

/// See the module's head.
#[derive(Debug)]
pub(super) struct Ring {
    most: usize,
    bytes: usize,
    kept: VecDeque<Sent>,
}

impl Ring {
    pub fn new(most: usize) -> Ring {
        Ring { most, bytes: 0, kept: VecDeque::new() }
    }

    /// Keeps these as the newest, and forgets the oldest beyond the limit.
    pub fn push(&mut self, sent: Sent) {
        self.bytes += sent.wire.len();
        self.kept.push_back(sent);
        while self.bytes > self.most {
            let Some(oldest) = self.kept.front_mut() else { return };
            let over = self.bytes - self.most;
            // The first messages that are enough; a message is kept whole or not at all.
            let gone = oldest.ends.partition_point(|end| *end < over) + 1;
            if gone >= oldest.ends.len() {
                self.bytes -= oldest.wire.len();
                self.kept.pop_front();
                continue;
            }
            self.bytes -= oldest.cut(gone);
        }
    }

    /// Everything, oldest first.
    pub fn all(&self) -> Vec<Sent> {
        self.kept.iter().cloned().collect()
    }

    /// Messages that it keeps.
    pub fn messages(&self) -> usize {
        self.kept.iter().map(|sent| sent.ends.len()).sum()
    }

    /// Forgets the older half, and says how many messages that were; the last one too, where there is but one.
    pub fn forget_older_half(&mut self) -> usize {
        let before = self.messages();
        let mut gone = before.div_ceil(2);
        while let Some(oldest) = self.kept.front_mut().filter(|_| gone > 0) {
            if gone >= oldest.ends.len() {
                gone -= oldest.ends.len();
                self.bytes -= oldest.wire.len();
                self.kept.pop_front();
                continue;
            }
            oldest.cut(gone);
            self.bytes = self.kept.iter().map(|sent| sent.wire.len()).sum();
            break;
        }
        before - self.messages()
    }

    pub fn clear(&mut self) {
        self.kept.clear();
        self.bytes = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn halves_become_smaller_until_nothing_is_left() {
        let mut ring = Ring::new(1000);
        for batch in [3, 1, 4] {
            ring.push(Sent { wire: vec![b'x'; batch * 10].into(), ends: (1..=batch).map(|n| n * 10).collect() });
        }
        for (gone, left) in [(4, 4), (2, 2), (1, 1), (1, 0), (0, 0)] {
            assert_eq!((ring.forget_older_half(), ring.messages(), ring.bytes), (gone, left, left * 10));
        }
    }

    proptest! {
        #[test]
        fn it_keeps_the_newest_whole_messages_and_never_more_than_its_limit(
            batches in prop::collection::vec(prop::collection::vec(1_usize..40, 1..8), 0..12),
            most in 0_usize..200,
        ) {
            let (mut ring, mut all) = (Ring::new(most), Vec::new());
            for (n, lengths) in batches.iter().enumerate() {
                let (mut wire, mut ends) = (Vec::new(), Vec::new());
                for (m, length) in lengths.iter().enumerate() {
                    let message = vec![(n * 8 + m) as u8; *length];
                    wire.extend_from_slice(&message);
                    ends.push(wire.len());
                    all.push(message);
                }
                ring.push(Sent { wire: wire.into(), ends });
            }
            let mut kept = Vec::new();
            for sent in ring.all() {
                let mut from = 0;
                for end in &sent.ends {
                    kept.push(sent.wire[from..*end].to_vec());
                    from = *end;
                }
                prop_assert_eq!(from, sent.wire.len());
            }
            prop_assert_eq!(kept.len(), ring.messages());
            prop_assert!(all.ends_with(&kept));
            let bytes: usize = kept.iter().map(Vec::len).sum();
            prop_assert!(bytes <= most);
            if let Some(before) = all.len().checked_sub(kept.len() + 1) {
                prop_assert!(bytes + all[before].len() > most, "one more would have fitted");
            }
        }
    }
}
