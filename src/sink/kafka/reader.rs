//! Reads a topic from where a group left it to where it ends now: how dead letters come back out of theirs. Comes in: the
//! settings of a Kafka sink. Goes out: messages with their places, and what of them is done as the group's offsets.
//! Joins no group, waits for nothing that comes later. Blocking.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rdkafka::consumer::{CommitMode, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::Message;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use super::clients::{Clients, Reader, partitions, serve};
use super::verdict::{Class, class, held};
use super::{Code, SinkBuildError};
use crate::config::{KafkaConfig, SinkConfig};

/// One question.
const QUESTION: Duration = Duration::from_secs(10);
/// How long the brokers may be silent or away before that is an error.
const PATIENCE: Duration = Duration::from_secs(30);
/// Between two looks.
const POLL: Duration = Duration::from_millis(100);

/// The topic cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    #[error(transparent)]
    Build(#[from] SinkBuildError),
    #[error("cannot read the topic `{topic}`: {reason}")]
    Read { topic: String, reason: String },
}

/// A message.
pub struct Stored {
    pub partition: i32,
    pub offset: i64,
    pub value: Vec<u8>,
}

/// See the module's head.
pub struct TopicReader {
    consumer: Reader,
    topic: String,
    /// The next offset and the end, of partitions that have something left.
    left: BTreeMap<i32, (i64, i64)>,
}

impl TopicReader {
    /// Of the topic that `kafka` names, in the name of `group`; `everything`: from its beginning, whatever is done.
    pub fn open(
        config: &SinkConfig,
        kafka: &KafkaConfig,
        group: &str,
        everything: bool,
    ) -> Result<TopicReader, ReadError> {
        let clients = Clients::read(config, kafka).map_err(|error| error.of(&config.name))?;
        let largest = kafka.max_message_bytes().to_string();
        let consumer = clients.consumer(&[("group.id", group), ("fetch.message.max.bytes", &largest)]);
        let consumer = consumer.map_err(|reason| SinkBuildError::Kafka { sink: config.name.clone(), reason })?;
        let mut reader = TopicReader { consumer, topic: kafka.topic.clone(), left: BTreeMap::new() };
        reader.look(everything)?;
        Ok(reader)
    }

    fn error(&self, error: &KafkaError) -> ReadError {
        let known = self.consumer.context().trouble().map(|(trouble, said)| trouble.words(&said));
        let reason = match (error.rdkafka_error_code(), known) {
            (Some(code), _) if class(code) == Class::Held => held(code, &self.topic),
            (Some(Code::GroupAuthorizationFailed), _) => {
                "we are not authorised for the group `auditferry-replay`; allow our user READ on it".to_owned()
            }
            (_, Some(said)) => said,
            (_, None) => error.to_string(),
        };
        ReadError::Read { topic: self.topic.clone(), reason }
    }

    /// Asks until there is an answer or patience ends.
    fn ask<T>(&self, question: impl Fn(&Reader) -> Result<T, KafkaError>) -> Result<T, ReadError> {
        let began = Instant::now();
        loop {
            serve(&self.consumer);
            match question(&self.consumer) {
                Ok(answer) => return Ok(answer),
                Err(error) => {
                    let is_held = error.rdkafka_error_code().is_some_and(|code| class(code) == Class::Held);
                    if is_held || began.elapsed() >= PATIENCE {
                        return Err(self.error(&error));
                    }
                    let _ = self.consumer.poll(POLL);
                }
            }
        }
    }

    fn look(&mut self, everything: bool) -> Result<(), ReadError> {
        let topic = self.topic.clone();
        let partitions =
            self.ask(|consumer| partitions(consumer, &topic, QUESTION).map_err(KafkaError::MetadataFetch))?;
        let mut asked = TopicPartitionList::new();
        partitions.iter().for_each(|id| {
            asked.add_partition(&topic, *id);
        });
        let committed = match everything {
            true => TopicPartitionList::new(),
            false => self.ask(|consumer| consumer.committed_offsets(asked.clone(), QUESTION))?,
        };
        let mut assigned = TopicPartitionList::new();
        for id in partitions {
            let (low, high) = self.ask(|consumer| consumer.fetch_watermarks(&topic, id, QUESTION))?;
            let done = match committed.find_partition(&topic, id).map(|found| found.offset()) {
                Some(Offset::Offset(offset)) => offset,
                _ => low,
            };
            let from = done.max(low);
            if from < high {
                self.left.insert(id, (from, high));
                let added = assigned.add_partition_offset(&topic, id, Offset::Offset(from));
                added.map_err(|error| self.error(&error))?;
            }
        }
        if !self.left.is_empty() {
            self.consumer.assign(&assigned).map_err(|error| self.error(&error))?;
        }
        Ok(())
    }

    /// The next message; `None` at the end that there was when it was opened.
    pub fn next(&mut self) -> Result<Option<Stored>, ReadError> {
        let mut silent = Instant::now();
        while !self.left.is_empty() {
            let message = match self.consumer.poll(POLL) {
                None if silent.elapsed() >= PATIENCE => {
                    // A compacted or aborted end has no message: where the reader stands is what counts.
                    if !self.pass_ends() {
                        return Err(self.error(&KafkaError::MessageConsumption(Code::OperationTimedOut)));
                    }
                    continue;
                }
                None => {
                    self.pass_ends();
                    continue;
                }
                Some(Ok(message)) => message,
                Some(Err(error)) => {
                    let is_held = error.rdkafka_error_code().is_some_and(|code| class(code) == Class::Held);
                    if is_held || silent.elapsed() >= PATIENCE {
                        return Err(self.error(&error));
                    }
                    continue;
                }
            };
            silent = Instant::now();
            let (partition, offset) = (message.partition(), message.offset());
            let Some((next, end)) = self.left.get_mut(&partition) else { continue };
            if offset >= *end {
                self.left.remove(&partition);
                continue;
            }
            *next = offset + 1;
            let value = message.payload().unwrap_or_default().to_vec();
            if offset + 1 == *end {
                self.left.remove(&partition);
            }
            return Ok(Some(Stored { partition, offset, value }));
        }
        Ok(None)
    }

    /// Lets go of partitions whose reader has come to the end without a message there; true if there was one.
    fn pass_ends(&mut self) -> bool {
        let Ok(position) = self.consumer.position() else { return false };
        let before = self.left.len();
        let topic = &self.topic;
        self.left.retain(|id, (_, end)| {
            let at = position.find_partition(topic, *id).map(|found| found.offset());
            !matches!(at, Some(Offset::Offset(at)) if at >= *end)
        });
        self.left.len() < before
    }

    /// What is done: everything before these offsets.
    pub fn commit(&self, done: &BTreeMap<i32, i64>) -> Result<(), ReadError> {
        if done.is_empty() {
            return Ok(());
        }
        let mut offsets = TopicPartitionList::new();
        for (partition, offset) in done {
            let added = offsets.add_partition_offset(&self.topic, *partition, Offset::Offset(*offset));
            added.map_err(|error| self.error(&error))?;
        }
        // No poll: it could bring a message.
        self.consumer.commit(&offsets, CommitMode::Sync).map_err(|error| self.error(&error))
    }
}
