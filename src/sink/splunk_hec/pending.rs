//! Waiting until the indexers have a batch. Comes in: an accepted batch, its `ackId`, the lane it went
//! by. Goes out: acknowledged, or an error by which the driver sends the batch again. Never forgets a
//! batch: every wait has an end. Never takes anything for an acknowledgement but `true` for this batch
//! on the channel that carried it.

use std::sync::atomic::Ordering;
use std::sync::{MutexGuard, PoisonError};
use std::time::Duration;

use reqwest::header::{CONTENT_TYPE, HeaderValue};
use tokio::time::Instant;

use super::SplunkHecSink;
use super::ack::{Indexed, Offered, classify_ack, question};
use super::answer::Answer;
use super::lane::Lane;
use crate::config::AckMode;
use crate::metrics::Metrics;
use crate::sink::SendError;

/// The first question comes after so long, each later one after twice as long, up to `query_interval`:
/// a receiver that acknowledges at once is not waited for, a slow one not pestered.
const FIRST_QUESTION: Duration = Duration::from_millis(100);

/// A receiver that could not be reached has probably restarted, and then it says `false` of this batch
/// for ever. One that did not gets so long to acknowledge before the batch is sent again.
const AFTER_A_BREAK: Duration = Duration::from_secs(30);

/// A receiver that took a batch without the `ackId` that must be is offered the next one after so long. Its
/// answers to questions prove nothing then, and each trial costs a batch that is there twice.
const AFTER_WITHHOLDING: Duration = Duration::from_secs(600);

/// Values of the label `result` of `sink_indexer_acks_total`.
const ACK_RESULTS: [&str; 3] = ["confirmed", "timed_out", "forgotten"];
/// Values of the label `reason` of `sink_resent_events_total`.
const RESENT_REASONS: [&str; 3] = ["ack_timeout", "ack_forgotten", "no_answer"];

/// Makes all label combinations exist.
pub(super) fn declare(sink: &str, metrics: &Metrics) {
    metrics.sink_acks_waiting.with_label_values(&[sink]);
    for result in ACK_RESULTS {
        metrics.sink_acks.with_label_values(&[sink, result]);
    }
    for reason in RESENT_REASONS {
        metrics.sink_resent.with_label_values(&[sink, reason]);
    }
}

/// Counts one batch as waiting while it lives, however the wait ends.
struct Waiting(crate::metrics::Gauge);

impl Waiting {
    fn new(gauge: crate::metrics::Gauge) -> Waiting {
        gauge.inc();
        Waiting(gauge)
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl SplunkHecSink {
    /// Returns when the batch `id` of `events` events, which went by this lane, is indexed.
    pub(super) async fn until_indexed(&self, mut lane: Lane, id: u64, events: usize) -> Result<(), SendError> {
        let _waiting = Waiting::new(self.metrics.sink_acks_waiting.with_label_values(&[&self.name]));
        let mut deadline = Instant::now() + self.ack.timeout;
        let mut pause = FIRST_QUESTION.min(self.ack.query_interval);
        let mut last_word = "it was not yet indexed".to_owned();
        loop {
            tokio::time::sleep_until((Instant::now() + pause).min(deadline)).await;
            pause = (pause * 2).min(self.ack.query_interval);
            match self.ask(&mut lane, id).await {
                Indexed::Yes => {
                    self.count_ack("confirmed");
                    self.lanes.put(lane);
                    return Ok(());
                }
                Indexed::NotYet => {}
                Indexed::Unreached { reason } => {
                    deadline = deadline.min(Instant::now() + AFTER_A_BREAK);
                    last_word = reason;
                }
                Indexed::Later { after, reason } => {
                    pause = after.unwrap_or(pause);
                    last_word = reason;
                }
                Indexed::Forgotten { reason, .. } => {
                    self.count_ack("forgotten");
                    self.count_resent("ack_forgotten", events);
                    self.doubtful.store(true, Ordering::Release);
                    return Err(self.again(&reason));
                }
                Indexed::Refused(error) => {
                    self.count_ack("forgotten");
                    self.count_resent("ack_forgotten", events);
                    return Err(error);
                }
            }
            if Instant::now() >= deadline {
                self.count_ack("timed_out");
                self.count_resent("ack_timeout", events);
                return Err(self.again(&last_word));
            }
        }
    }

    fn again(&self, reason: &str) -> SendError {
        SendError::Retry {
            after: None,
            reason: format!(
                "sink `{}`: a batch was accepted and not acknowledged by the indexers in time: {reason}; sent again, and what was indexed all the same is there twice",
                self.name
            ),
        }
    }

    async fn ask(&self, lane: &mut Lane, id: u64) -> Indexed {
        let request = lane.dress(self.receiver.acknowledgements(lane));
        let request = request.header(CONTENT_TYPE, HeaderValue::from_static("application/json")).body(question(id));
        match self.receiver.exchange(request, lane).await {
            Ok(heard) => classify_ack(&self.asked(0), &Answer::of(&heard), id),
            Err(error) => Indexed::Unreached { reason: error.reason },
        }
    }

    /// Whether to ask for acknowledgements before anything is sent: where nothing less is taken, and
    /// after one was forgotten, so that a receiver that never answers for its `ackId`s is not sent the same
    /// batch for ever.
    pub(super) fn must_ask_first(&self) -> bool {
        let unknown = self.ack.mode == AckMode::Required && self.offer.get() != Offered::Yes;
        unknown || self.doubtful.load(Ordering::Acquire)
    }

    /// Asks without sending anything.
    pub(super) async fn ask_whether_it_acknowledges(&self) -> Result<(), SendError> {
        let mut lane = self.lane().await?;
        match self.ask(&mut lane, 0).await {
            Indexed::Yes | Indexed::NotYet => {
                self.lanes.put(lane);
                self.note(Offered::Yes);
                self.doubtful.store(false, Ordering::Release);
                Ok(())
            }
            // The token was changed meanwhile, and without acknowledgement is well enough.
            Indexed::Forgotten { code: Some(14), .. } if self.ack.mode == AckMode::Auto => {
                self.note(Offered::No);
                self.doubtful.store(false, Ordering::Release);
                Ok(())
            }
            Indexed::Later { after, reason } => Err(SendError::Retry { after, reason }),
            Indexed::Unreached { reason } => Err(SendError::Retry { after: None, reason }),
            Indexed::Refused(error) => Err(error),
            Indexed::Forgotten { reason, .. } if self.ack.mode == AckMode::Required => Err(SendError::Fatal {
                reason: format!(
                    "{reason}; `indexer_acknowledgement.enabled` is true: enable it for the token in Splunk, or set `auto`"
                ),
            }),
            Indexed::Forgotten { reason, .. } => Err(SendError::Fatal {
                reason: format!(
                    "{reason}; it gives `ackId`s and does not answer for them: let what stands between pass `/services/collector/ack`, or use a token without indexer acknowledgement"
                ),
            }),
        }
    }

    pub(super) fn withheld(&self) -> MutexGuard<'_, Option<Instant>> {
        self.withheld.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `Err` for a while after a batch was taken without the `ackId` that must be.
    pub(super) fn is_worth_a_batch(&self) -> Result<(), SendError> {
        match *self.withheld() {
            Some(until) if Instant::now() < until => Err(SendError::Fatal {
                reason: format!(
                    "sink `{}`: the receiver takes batches without an `ackId`, although `indexer_acknowledgement.enabled` is true",
                    self.name
                ),
            }),
            _ => Ok(()),
        }
    }

    /// The receiver took a batch and gave nothing to ask by.
    pub(super) fn taken_without_acknowledgement(&self) -> Result<(), SendError> {
        match self.ack.mode {
            AckMode::Off => Ok(()),
            AckMode::Auto => {
                self.note(Offered::No);
                Ok(())
            }
            AckMode::Required => {
                self.note(Offered::Unknown);
                *self.withheld() = Some(Instant::now() + AFTER_WITHHOLDING);
                Err(SendError::Fatal {
                    reason: format!(
                        "sink `{}`: the receiver took a batch without an `ackId`, although `indexer_acknowledgement.enabled` is true: enable it for the token in Splunk, let what stands between pass the channel, or set `auto`; a batch is tried again every {} minutes, with a new token at once",
                        self.name,
                        AFTER_WITHHOLDING.as_secs() / 60
                    ),
                })
            }
        }
    }

    /// Remembers whether the receiver acknowledges, and says so when that changes.
    pub(super) fn note(&self, offered: Offered) {
        let before = self.offer.set(offered);
        if before == offered {
            return;
        }
        match (before, offered) {
            (_, Offered::Yes) => {
                self.lanes.separate();
                tracing::info!(sink = %self.name, timeout = ?self.ack.timeout, "the receiver acknowledges: a batch is done when its indexers have it");
            }
            (Offered::Yes, Offered::No) => {
                tracing::warn!(sink = %self.name, "the receiver no longer acknowledges: from now on a batch is done when it is accepted");
            }
            (_, Offered::No) => {
                tracing::info!(sink = %self.name, "the receiver gives no indexer acknowledgement: a batch is done when it is accepted, which is before it is indexed");
            }
            (_, Offered::Unknown) => {}
        }
    }

    fn count_ack(&self, result: &str) {
        self.metrics.sink_acks.with_label_values(&[self.name.as_str(), result]).inc();
    }

    pub(super) fn count_resent(&self, reason: &str, events: usize) {
        self.metrics.sink_resent.with_label_values(&[self.name.as_str(), reason]).inc_by(events as u64);
    }
}
