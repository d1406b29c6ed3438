//! The return lane's verdicts. A [`Finalizer`] is a share in the fate of one blob attempt: the fetch
//! holds one until the body is complete, every record in flight holds one. When the last share is
//! gone the blob hears the worst verdict and the counts.
//!
//! A share dropped without a verdict counts as [`Outcome::Lost`]: a panic, a cancelled task or a
//! forgotten path makes the blob be fetched again, never be forgotten.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU32, Ordering};

/// What became of one record (or of the body as a whole). Ordered: the greater is the worse.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Outcome {
    /// Every sink that must have it has taken it.
    Delivered = 0,
    /// Every sink already had it, or another copy in flight was delivered.
    Duplicate = 1,
    /// No sink wanted it.
    Filtered = 2,
    /// Some sink refused it for good and it lies in the dead letters.
    Rejected = 3,
    /// Not done. The blob stays unsettled and is fetched again.
    Lost = 4,
}

impl Outcome {
    const COUNT: usize = 5;
}

/// The sum over all shares of a blob attempt.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Settlement {
    pub delivered: u32,
    pub duplicate: u32,
    pub filtered: u32,
    pub rejected: u32,
    pub lost: u32,
}

impl Settlement {
    /// True when nothing of the attempt was lost, so the blob need not be fetched again.
    pub fn is_settled(&self) -> bool {
        self.lost == 0
    }
}

struct Shared {
    worst: AtomicU8,
    counts: [AtomicU32; Outcome::COUNT],
    on_end: Option<Box<dyn FnOnce(Settlement) + Send + Sync>>,
}

impl Drop for Shared {
    fn drop(&mut self) {
        let count = |o: Outcome| self.counts[o as usize].load(Ordering::Acquire);
        let mut settlement = Settlement {
            delivered: count(Outcome::Delivered),
            duplicate: count(Outcome::Duplicate),
            filtered: count(Outcome::Filtered),
            rejected: count(Outcome::Rejected),
            lost: count(Outcome::Lost),
        };
        if self.worst.load(Ordering::Acquire) == Outcome::Lost as u8 {
            settlement.lost = settlement.lost.max(1);
        }
        if let Some(on_end) = self.on_end.take() {
            on_end(settlement);
        }
    }
}

/// A share in the fate of a blob attempt. See the module's head.
#[must_use = "a finalizer dropped without a verdict counts as lost"]
pub struct Finalizer {
    shared: Arc<Shared>,
    settled: bool,
}

impl Finalizer {
    /// The first share of a new attempt. `on_end` runs once, on whatever thread gives the last
    /// verdict, so it must not block.
    pub fn new(on_end: impl FnOnce(Settlement) + Send + Sync + 'static) -> Finalizer {
        let shared = Shared { worst: AtomicU8::new(0), counts: Default::default(), on_end: Some(Box::new(on_end)) };
        Finalizer { shared: Arc::new(shared), settled: false }
    }

    /// One more share of the same attempt.
    pub fn share(&self) -> Finalizer {
        Finalizer { shared: Arc::clone(&self.shared), settled: false }
    }

    /// Gives this share's verdict for one record.
    pub fn settle(mut self, outcome: Outcome) {
        self.shared.counts[outcome as usize].fetch_add(1, Ordering::AcqRel);
        self.shared.worst.fetch_max(outcome as u8, Ordering::AcqRel);
        self.settled = true;
    }

    /// Gives this share back without counting a record: its holder's part is complete.
    pub fn release(mut self) {
        self.settled = true;
    }
}

impl Drop for Finalizer {
    fn drop(&mut self) {
        if !self.settled {
            self.shared.worst.fetch_max(Outcome::Lost as u8, Ordering::AcqRel);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    fn attempt() -> (Finalizer, Arc<Mutex<Option<Settlement>>>) {
        let seen = Arc::new(Mutex::new(None));
        let sink = Arc::clone(&seen);
        (Finalizer::new(move |s| *sink.lock().unwrap() = Some(s)), seen)
    }

    #[test]
    fn ends_once_with_the_counts_when_the_last_share_is_gone() {
        let (body, seen) = attempt();
        let shares: Vec<_> = [Outcome::Delivered, Outcome::Duplicate, Outcome::Filtered, Outcome::Rejected]
            .map(|o| (body.share(), o))
            .into_iter()
            .collect();
        body.release();
        assert_eq!(*seen.lock().unwrap(), None);
        for (share, outcome) in shares {
            share.settle(outcome);
        }
        let expected = Settlement { delivered: 1, duplicate: 1, filtered: 1, rejected: 1, lost: 0 };
        assert_eq!(*seen.lock().unwrap(), Some(expected));
        assert!(expected.is_settled());
    }

    #[test]
    fn a_share_dropped_without_a_verdict_is_lost() {
        let (body, seen) = attempt();
        drop(body.share());
        body.release();
        assert!(!seen.lock().unwrap().unwrap().is_settled());
    }
}
