//! What waits for a driver, a line for each tenant; the lines take turns by bytes (deficit round robin,
//! Shreedhar and Varghese 1995), so that one tenant's flood does not stand before another's few events.
//!
//! Comes in: deliveries, from any thread, which never wait here: their bytes are bounded before they are made
//! (`collect.in_flight`, with a least charge for each part; or the backlog of a sink that is not
//! required). Goes out: one delivery at a time. What is dropped here counts as lost, as everywhere.

use std::collections::{HashMap, VecDeque};
use std::hash::{Hash, Hasher};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::queue::Queued;
use crate::feed::Tenant;

/// Bytes that a line may pass at its turn: small beside a batch (1 MiB), large beside a part of a quiet
/// tenant, which so passes at its first turn.
const QUANTUM: usize = 64 * 1024;

/// The lines. One driver takes, any number give.
#[derive(Default)]
pub(super) struct Turns {
    lines: Mutex<Lines>,
    changed: Notify,
}

/// A tenant, told from others by its id.
#[derive(Clone)]
struct Turn(Arc<Tenant>);

impl PartialEq for Turn {
    fn eq(&self, other: &Turn) -> bool {
        self.0.id == other.0.id
    }
}

impl Eq for Turn {}

impl Hash for Turn {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.id.hash(state);
    }
}

#[derive(Default)]
struct Lines {
    by_tenant: HashMap<Turn, Line>,
    /// Whose turn is next; a tenant stands here once while it has a line.
    ring: VecDeque<Turn>,
    closed: bool,
    /// What comes is given back at once: the sink is down and others need the memory.
    giving_back: bool,
}

#[derive(Default)]
struct Line {
    waiting: VecDeque<Queued>,
    /// Bytes it may still pass at this turn.
    credit: usize,
}

impl Lines {
    fn push(&mut self, queued: Queued) {
        let tenant = Turn(Arc::clone(queued.tenant()));
        let line = self.by_tenant.entry(tenant.clone()).or_default();
        if line.waiting.is_empty() {
            self.ring.push_back(tenant);
        }
        line.waiting.push_back(queued);
    }

    /// Each round gives the first line credit; it goes to the end of the ring when that is not enough.
    fn pop(&mut self) -> Option<Queued> {
        loop {
            let tenant = self.ring.front()?;
            let Some(line) = self.by_tenant.get_mut(tenant) else {
                self.ring.pop_front();
                continue;
            };
            let size = line.waiting.front().map_or(0, Queued::bytes);
            if line.credit < size {
                line.credit += QUANTUM;
                self.ring.rotate_left(1);
                continue;
            }
            line.credit -= size;
            let next = line.waiting.pop_front();
            if line.waiting.is_empty() {
                self.by_tenant.remove(tenant);
                self.ring.pop_front();
            }
            return next;
        }
    }

    fn take(&mut self) -> Vec<Queued> {
        self.ring.clear();
        self.by_tenant.drain().flat_map(|(_, line)| line.waiting).collect()
    }
}

impl Turns {
    fn lines(&self) -> MutexGuard<'_, Lines> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a delivery into its tenant's line; given back where nothing is taken any more.
    pub fn push(&self, queued: Queued) {
        let mut lines = self.lines();
        if lines.closed || lines.giving_back {
            drop(lines);
            drop(queued);
            return;
        }
        lines.push(queued);
        drop(lines);
        self.changed.notify_one();
    }

    /// The next delivery; waits for one, and ends with `None` once closed and empty.
    pub async fn pop(&self) -> Option<Queued> {
        loop {
            let changed = self.changed.notified();
            {
                let mut lines = self.lines();
                if let Some(next) = lines.pop() {
                    return Some(next);
                }
                if lines.closed {
                    return None;
                }
            }
            changed.await;
        }
    }

    /// Nothing waits.
    pub fn is_empty(&self) -> bool {
        self.lines().ring.is_empty()
    }

    /// Takes nothing more; what waits still comes out.
    pub fn close(&self) {
        self.lines().closed = true;
        self.changed.notify_one();
    }

    /// While `on`, what waits and what comes counts as lost, to be fetched again later.
    pub fn give_back(&self, on: bool) {
        let mut lines = self.lines();
        lines.giving_back = on;
        let waiting = if on { lines.take() } else { Vec::new() };
        // Their verdicts may come back here: no lock may be held.
        drop(lines);
        drop(waiting);
    }

    /// Drops what waits and takes nothing more: nobody will come for it.
    pub fn abandon(&self) {
        self.lines().closed = true;
        self.give_back(true);
    }
}

#[cfg(test)]
mod tests {
    use super::super::queue::{Queued, Verdicts};
    use super::*;
    use crate::config::StateConfig;
    use crate::event::{Delivery, Part};
    use crate::metrics::Metrics;
    use crate::sink::{SinkId, samples};
    use crate::state::State;

    struct Bench {
        _dir: tempfile::TempDir,
        metrics: Arc<Metrics>,
        verdicts: Arc<Verdicts>,
        turns: Turns,
    }

    impl Bench {
        fn new() -> Bench {
            let dir = tempfile::tempdir().unwrap();
            let metrics = Metrics::new();
            let config = StateConfig { dir: dir.path().to_owned(), max_delivered_bytes: 1 << 20 };
            let state = State::open(&config, Arc::clone(&metrics)).unwrap();
            let verdicts = Arc::new(Verdicts::new("sink", SinkId(0), state, Arc::clone(&metrics)));
            Bench { _dir: dir, metrics, verdicts, turns: Turns::default() }
        }

        /// A delivery of one record of about `bytes`.
        fn push(&self, tenant: &str, bytes: usize) {
            let record = format!("{{\"t\":\"{tenant}\",\"p\":\"{}\"}}", "x".repeat(bytes));
            let mut part: Part = Arc::into_inner(samples::part(&[&record])).unwrap();
            part.blob.feed.tenant = Arc::new(Tenant { name: tenant.into(), id: tenant.into(), domains: Vec::new() });
            let delivery = Delivery { part: Arc::new(part), events: vec![0] };
            self.turns.push(Queued::new(delivery, Arc::clone(&self.verdicts), None));
        }

        fn pop(&self) -> Option<String> {
            self.turns.lines().pop().map(|queued| queued.tenant().name.clone())
        }

        fn lost(&self) -> u64 {
            self.metrics.sink_events.with_label_values(&["sink", "lost"]).get()
        }
    }

    #[tokio::test]
    async fn a_flood_stands_behind_nobody_and_takes_its_turns_by_bytes() {
        let bench = Bench::new();
        for _ in 0..8 {
            bench.push("flood", 1 << 20);
        }
        for n in 0..20 {
            bench.push(&format!("small-{n}"), 2000);
        }
        let order: Vec<String> = std::iter::from_fn(|| bench.pop()).collect();
        assert_eq!(order.len(), 28);
        assert!(order[..20].iter().all(|tenant| tenant.starts_with("small")), "{order:?}");
    }

    #[tokio::test]
    async fn lines_share_by_bytes_whatever_the_size_of_their_parts() {
        let bench = Bench::new();
        for _ in 0..20 {
            bench.push("large", 200_000);
        }
        for _ in 0..400 {
            bench.push("little", 10_000);
        }
        let order: Vec<String> = std::iter::from_fn(|| bench.pop()).take(210).collect();
        let large = order.iter().filter(|tenant| *tenant == "large").count();
        assert!((8..=12).contains(&large), "2 MB each should be 10 large among 210, are {large}");
    }

    #[tokio::test]
    async fn what_is_given_back_is_lost_until_it_is_taken_again() {
        let bench = Bench::new();
        bench.push("a", 10);
        bench.turns.give_back(true);
        assert_eq!((bench.pop(), bench.lost()), (None, 1));
        bench.push("a", 20);
        assert_eq!((bench.pop(), bench.lost()), (None, 2));
        bench.turns.give_back(false);
        bench.push("a", 30);
        assert_eq!((bench.pop().as_deref(), bench.lost()), (Some("a"), 3), "the popped one is dropped here");
    }

    #[tokio::test]
    async fn after_the_close_what_waits_comes_out_and_then_the_end() {
        let bench = Bench::new();
        bench.push("a", 10);
        bench.turns.close();
        bench.push("a", 20);
        assert_eq!(bench.lost(), 1);
        assert!(bench.turns.pop().await.is_some());
        assert!(bench.turns.pop().await.is_none());
    }
}
