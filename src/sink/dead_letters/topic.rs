//! The topic of dead letters: each letter a message, with the record's key as key and the headers of the sink's
//! messages. Comes in: letters. Goes out: messages, by a producer of its own with the settings of a Kafka sink. Returns
//! when every replica in sync has them; while the brokers take nothing it waits, says so once, and goes on by itself.
//!
//! A letter that is larger than the topic allows goes without its record: with its length, and with where it can be had.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::Mutex;

use super::super::kafka::KafkaSink;
use super::super::kafka::reader::{ReadError, TopicReader};
use super::super::{EncodedBatch, SendError, Sink, SinkBuildError};
use super::letter::{LetterHead, Missing};
use super::{FIRST_WAIT, LONGEST_WAIT};
use crate::config::{BatchConfig, DeadTopicConfig, Format, RetryConfig, SinkConfig, SinkKind};
use crate::event::Event;
use crate::metrics::Metrics;
use crate::normalize::Profile;
use crate::retry::Backoff;

/// What the topic's producer is called in metrics and messages.
const NAME: &str = "dead_letters";
/// In whose name the topic is read: its offsets are what is done.
const GROUP: &str = "auditferry-replay";
/// As a sink's: it bounds librdkafka's queue.
const BATCH: usize = 1 << 20;

/// See the module's head.
pub(super) struct LetterTopic {
    sink: KafkaSink,
    topic: String,
    /// Whether the whole letter lies in a file too.
    beside_file: bool,
    /// One sender at a time: the others wait where their memory is counted.
    sending: Mutex<()>,
    /// Whether it was said that nothing is taken.
    told: AtomicBool,
}

/// A letter on its way.
pub(super) struct Message {
    frame: Vec<u8>,
    head: LetterHead,
    /// Bytes of the record; `None`: it does not go along.
    bytes: Option<u64>,
    /// What fills the headers.
    headers: Vec<Vec<u8>>,
}

impl Message {
    pub fn new(topic: &LetterTopic, event: Event<'_>, head: LetterHead, letter: Vec<u8>, bytes: u64) -> Message {
        let headers = topic.sink.rendered_headers(&event);
        let frame = topic.sink.letter(&topic.topic, &key(&head), &headers, &letter);
        Message { frame, head, bytes: Some(bytes), headers }
    }

    /// A letter whose record is larger than any message.
    pub fn without_record(topic: &LetterTopic, event: Event<'_>, head: LetterHead, missing: &Missing) -> Message {
        let headers = topic.sink.rendered_headers(&event);
        let frame = topic.sink.letter(&topic.topic, &key(&head), &headers, &missing.letter(&head));
        Message { frame, head, bytes: None, headers }
    }

    /// The letter again without its record; false when it had none before.
    fn leave_out(&mut self, topic: &LetterTopic, why: &str) -> bool {
        let Some(bytes) = self.bytes.take() else { return false };
        let missing =
            if topic.beside_file { Missing::in_file(bytes) } else { Missing::refused(&self.head, bytes, why) };
        let letter = missing.letter(&self.head);
        self.frame = topic.sink.letter(&topic.topic, &key(&self.head), &self.headers, &letter);
        tracing::warn!(
            topic = topic.topic,
            sink = self.head.sink,
            bytes,
            reason = why,
            "a dead letter is too large for its topic and lies there without its record"
        );
        true
    }
}

/// Reads the letters of the topic that `replay` has not done; with `everything` from the beginning. Blocking.
///
/// # Errors
/// It cannot be read: the reason is for a person.
pub fn read(config: &DeadTopicConfig, everything: bool) -> Result<TopicReader, ReadError> {
    TopicReader::open(&sink_config(config), &config.kafka, GROUP, everything)
}

/// The topic as a sink of its own.
fn sink_config(config: &DeadTopicConfig) -> SinkConfig {
    SinkConfig {
        name: NAME.to_owned(),
        required: true,
        format: Format::Raw,
        ecs_profile: Profile::default(),
        when: None,
        edit: Default::default(),
        rate_limit: None,
        batch: BatchConfig { max_bytes: BATCH, max_events: usize::MAX, linger: Duration::ZERO, concurrency: 1 },
        retry: RetryConfig { initial: FIRST_WAIT, max: LONGEST_WAIT },
        kind: SinkKind::Kafka(config.kafka.clone()),
    }
}

fn key(head: &LetterHead) -> String {
    head.key.map(|key| key.to_string()).unwrap_or_default()
}

impl LetterTopic {
    pub fn new(
        config: &DeadTopicConfig,
        beside_file: bool,
        metrics: &Arc<Metrics>,
    ) -> Result<LetterTopic, SinkBuildError> {
        let sink = sink_config(config);
        let producer = KafkaSink::new(&sink, &config.kafka, Arc::clone(metrics))?;
        Ok(LetterTopic {
            sink: producer,
            topic: config.kafka.topic.clone(),
            beside_file,
            sending: Mutex::default(),
            told: AtomicBool::new(false),
        })
    }

    /// Returns when the brokers have all of them. `of`: the sink that refused them.
    pub async fn keep(&self, of: &str, mut messages: Vec<Message>) {
        let _turn = self.sending.lock().await;
        let mut backoff = Backoff::new(FIRST_WAIT, LONGEST_WAIT);
        while !messages.is_empty() {
            let after = match self.sink.send(&batch(&messages)).await {
                Ok(_) => break,
                Err(SendError::Reject { events, reason }) => {
                    let mut is_stuck = false;
                    for index in events {
                        is_stuck |= !messages.get_mut(index).is_some_and(|message| message.leave_out(self, &reason));
                    }
                    if !is_stuck {
                        continue;
                    }
                    self.tell(of, messages.len(), &reason);
                    None
                }
                Err(SendError::Slow { after, .. }) => after,
                // Which a topic never says: all are sent again.
                Err(SendError::Partial(partial)) => {
                    self.tell(of, messages.len(), &partial.reason);
                    partial.after
                }
                Err(SendError::Retry { after, reason }) => {
                    self.tell(of, messages.len(), &reason);
                    after
                }
                Err(
                    SendError::Fatal { reason } | SendError::Split { reason, .. } | SendError::Misplaced { reason },
                ) => {
                    self.tell(of, messages.len(), &reason);
                    while let Err(error) = self.sink.probe().await {
                        tracing::debug!(topic = self.topic, %error, "the topic of the dead letters still takes nothing");
                        tokio::time::sleep(backoff.next_delay(None)).await;
                    }
                    None
                }
            };
            tokio::time::sleep(backoff.next_delay(after)).await;
        }
        if self.told.swap(false, Ordering::AcqRel) {
            tracing::info!(topic = self.topic, "the topic of the dead letters takes them again");
        }
    }

    /// Once for each time that it takes nothing.
    fn tell(&self, sink: &str, letters: usize, reason: &str) {
        if !self.told.swap(true, Ordering::AcqRel) {
            tracing::error!(
                topic = self.topic,
                reason,
                sink,
                letters,
                "cannot write the dead letters to their topic; the batch is held and it is tried again until the brokers take it"
            );
        }
    }
}

fn batch(messages: &[Message]) -> EncodedBatch {
    let mut batch = EncodedBatch::default();
    for message in messages {
        batch.bytes.extend_from_slice(&message.frame);
        batch.ends.push(batch.bytes.len());
    }
    batch
}
