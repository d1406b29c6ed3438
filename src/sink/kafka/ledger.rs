//! What librdkafka holds of ours, and what became of it. Every message has a ticket; between its
//! produce and its delivery report it stands here as queued and is never produced a second time, however
//! often its batch is sent again. That is what keeps a retry of ours from doubling a record.
//!
//! Comes in: tickets as they are produced, reports as they arrive, on librdkafka's polling thread.
//! Goes out: a wake-up for the sender, and each ticket's standing. Bounded by the driver's batches.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hashbrown::HashMap;
use rdkafka::types::RDKafkaErrorCode;
use tokio::sync::Notify;

/// Where a message stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// In the hands of the producer of this generation, without a report.
    Queued { generation: u64 },
    /// The brokers have it.
    Taken,
    /// Reported as failed. `alone`: it had a request of its own, so it is itself that was refused.
    Failed { code: RDKafkaErrorCode, alone: bool },
}

/// How many messages of one sender are queued, and how it hears that none is.
#[derive(Default)]
pub(super) struct Wait {
    open: AtomicUsize,
    ended: Notify,
}

impl Wait {
    /// Returns when no message of this sender is queued any more.
    pub async fn none_queued(&self) {
        while self.open.load(Ordering::Acquire) > 0 {
            self.ended.notified().await;
        }
    }

    fn close_one(&self) {
        if self.open.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.ended.notify_one();
        }
    }
}

struct Entry {
    standing: Standing,
    wait: Arc<Wait>,
}

/// See the module's head.
#[derive(Default)]
pub(super) struct Ledger(Mutex<HashMap<usize, Entry>>);

impl Ledger {
    fn entries(&self) -> MutexGuard<'_, HashMap<usize, Entry>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The standing of each ticket, `None` for one that was not produced; those queued now wake `wait`.
    pub fn adopt(&self, tickets: impl Iterator<Item = usize>, wait: &Arc<Wait>) -> Vec<Option<Standing>> {
        let mut entries = self.entries();
        let adopt = |ticket| {
            let entry: &mut Entry = entries.get_mut(&ticket)?;
            if matches!(entry.standing, Standing::Queued { .. }) && !Arc::ptr_eq(&entry.wait, wait) {
                wait.open.fetch_add(1, Ordering::AcqRel);
                entry.wait = Arc::clone(wait);
            }
            Some(entry.standing)
        };
        tickets.map(adopt).collect()
    }

    /// To be called before the message is produced, since its report may come at once.
    pub fn queue(&self, ticket: usize, generation: u64, wait: &Arc<Wait>) {
        wait.open.fetch_add(1, Ordering::AcqRel);
        self.entries().insert(ticket, Entry { standing: Standing::Queued { generation }, wait: Arc::clone(wait) });
    }

    /// What the producer of `generation` says of a ticket. Anything but the first word on it is ignored.
    pub fn report(&self, ticket: usize, generation: u64, standing: Standing) {
        let mut entries = self.entries();
        if let Some(entry) = entries.get_mut(&ticket)
            && entry.standing == (Standing::Queued { generation })
        {
            entry.standing = standing;
            entry.wait.close_one();
        }
    }

    /// Forgets tickets: those that have a verdict, or that are to be produced anew.
    pub fn forget(&self, tickets: impl Iterator<Item = usize>) {
        let mut entries = self.entries();
        for ticket in tickets {
            entries.remove(&ticket);
        }
    }

    /// The producer of `generation` is gone: what it did not report is taken for unsent.
    pub fn sweep(&self, generation: u64, alone: bool) {
        let left = |entry: &&mut Entry| entry.standing == (Standing::Queued { generation });
        for entry in self.entries().values_mut().filter(left) {
            entry.standing = Standing::Failed { code: RDKafkaErrorCode::PurgeInflight, alone };
            entry.wait.close_one();
        }
    }

    /// Whether the producer of `generation` still owes reports.
    pub fn owes(&self, generation: u64) -> bool {
        self.entries().values().any(|entry| entry.standing == (Standing::Queued { generation }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_message_without_a_report_stays_queued_over_senders_and_the_last_one_hears_of_its_end() {
        let ledger = Ledger::default();
        let (first, second) = (Arc::new(Wait::default()), Arc::new(Wait::default()));
        ledger.queue(1, 7, &first);
        ledger.queue(2, 7, &first);
        ledger.report(2, 7, Standing::Taken);
        let queued = Standing::Queued { generation: 7 };
        assert_eq!(ledger.adopt([1, 2, 3].into_iter(), &second), [Some(queued), Some(Standing::Taken), None]);
        ledger.adopt([1, 2, 3].into_iter(), &second);
        let limit = std::time::Duration::from_millis(20);
        assert!(tokio::time::timeout(limit, second.none_queued()).await.is_err());
        ledger.report(1, 6, Standing::Taken);
        assert!(ledger.owes(7), "a word of another producer does not count");
        ledger.report(1, 7, Standing::Taken);
        second.none_queued().await;
        assert!(!ledger.owes(7));
        ledger.forget([1, 2].into_iter());
        assert_eq!(ledger.adopt([1, 2].into_iter(), &second), [None, None]);
    }

    #[tokio::test]
    async fn what_a_lost_producer_did_not_report_is_unsent_and_its_late_word_is_ignored() {
        let (ledger, wait) = (Ledger::default(), Arc::new(Wait::default()));
        ledger.queue(1, 7, &wait);
        ledger.queue(2, 8, &wait);
        ledger.sweep(7, false);
        ledger.report(1, 7, Standing::Taken);
        ledger.report(2, 8, Standing::Taken);
        wait.none_queued().await;
        let unsent = Standing::Failed { code: RDKafkaErrorCode::PurgeInflight, alone: false };
        assert_eq!(ledger.adopt([1, 2].into_iter(), &wait), [Some(unsent), Some(Standing::Taken)]);
    }
}
