//! The state of a process without a disk, kept in a compacted topic by the transactional producer of a sink.
//! Comes in: the sink and the topic. Goes out: a directory that [`crate::state`] opens like any other; what is
//! fsynced there is a message in a transaction, so that whoever was superseded cannot write it.
//!
//! Begun in this order: the producer is initialised, which ends what a predecessor left open and stops it; then the topic
//! is read to its end. That takes the place of the lock.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::clients::Clients;
use super::transactor::Transactor;
use super::transactor::reader::{self, Positions, ReadError, Topic};
use crate::config::{KafkaConfig, SinkConfig, StateTopic};
use crate::disk::mirror::{Found, Log, Message, Mirror, Mounted};
use crate::metrics::Metrics;
use rdkafka::message::Message as _;

/// The state cannot be read from its topic.
#[derive(Debug, thiserror::Error)]
pub enum KeeperError {
    #[error("the state in the topic `{topic}` of sink `{sink}`: {reason}")]
    Unusable { topic: String, sink: String, reason: String },
    #[error("the state in the topic `{topic}` of sink `{sink}` cannot be reached: {reason}")]
    Refused { topic: String, sink: String, reason: String },
    #[error("the state in the topic `{topic}` of sink `{sink}` could not be read in time: {reason}")]
    Away { topic: String, sink: String, reason: String },
}

impl KeeperError {
    fn of(error: ReadError, sink: &SinkConfig, topic: &StateTopic) -> KeeperError {
        let (topic, sink) = (topic.topic.clone(), sink.name.clone());
        match error {
            ReadError::Unfit(reason) => KeeperError::Unusable { topic, sink, reason },
            ReadError::Held(reason) => KeeperError::Refused { topic, sink, reason },
            ReadError::Later(reason) => KeeperError::Away { topic, sink, reason },
        }
    }
}

/// What keeps the state as long as it lives.
pub struct Keeper {
    sink: String,
    topic: String,
    transactor: Arc<Transactor>,
    _mounted: Mounted,
}

impl Keeper {
    /// How long a start waits for the brokers before it says why and ends, to be begun anew.
    pub const PATIENCE: Duration = Duration::from_secs(60);

    /// Takes the state over, and mounts it at `dir`.
    pub async fn begin(
        sink: &SinkConfig,
        kafka: &KafkaConfig,
        topic: &StateTopic,
        dir: &Path,
        metrics: Arc<Metrics>,
    ) -> Result<Keeper, KeeperError> {
        let failed = |error| KeeperError::of(error, sink, topic);
        let transactor =
            Transactor::begin(sink, kafka, metrics).map_err(|error| failed(ReadError::Held(error.to_string())))?;
        match tokio::time::timeout(Self::PATIENCE, transactor.take_over()).await {
            Ok(Ok(())) => {}
            Ok(Err(reason)) => return Err(failed(ReadError::Held(reason))),
            Err(_) => return Err(failed(ReadError::Later(transactor.trouble()))),
        }
        let found = read(sink, kafka, topic, true).await.map_err(failed)?;
        let log = KafkaLog {
            transactor: Arc::clone(&transactor),
            topic: Arc::from(topic.topic.as_str()),
            prefix: prefix(kafka),
        };
        let mounted = Mirror::mount(dir, found, Arc::new(log));
        let mounted = mounted.map_err(|error| failed(ReadError::Unfit(format!("the topic {error}"))))?;
        Ok(Keeper { sink: sink.name.clone(), topic: topic.topic.clone(), transactor, _mounted: mounted })
    }

    /// The process ends, or its start does: nothing waits for the brokers any longer, and what they have not taken is
    /// not kept.
    pub fn give_up(&self) {
        self.transactor.give_up();
    }

    /// The state could not be opened in this time.
    pub fn away(&self) -> KeeperError {
        let (topic, sink) = (self.topic.clone(), self.sink.clone());
        KeeperError::Away { topic, sink, reason: self.transactor.trouble() }
    }

    /// The producer of this sink, if it is the one that keeps the state.
    pub(super) fn transactor_of(&self, sink: &str) -> Option<Arc<Transactor>> {
        (self.sink == sink).then(|| Arc::clone(&self.transactor))
    }
}

/// The state as it lies in its topic, mounted at `dir` to be looked at; nothing is taken over or written.
pub async fn look_at_kept_state(
    sink: &SinkConfig,
    kafka: &KafkaConfig,
    topic: &StateTopic,
    dir: &Path,
) -> Result<impl Sized + use<>, KeeperError> {
    let found = read(sink, kafka, topic, false).await.map_err(|error| KeeperError::of(error, sink, topic))?;
    let mounted = Mirror::mount(dir, found, Arc::new(ReadOnly));
    mounted.map_err(|error| KeeperError::of(ReadError::Unfit(format!("the topic {error}")), sink, topic))
}

/// Several deployments may share a topic.
fn prefix(kafka: &KafkaConfig) -> String {
    let id = kafka.transactional.as_ref().map_or("", |transactional| transactional.id.as_str());
    format!("{id}/")
}

/// The topic as it must be: the last message of a key stays.
fn kept_in(topic: &StateTopic) -> Topic {
    let settings = [
        ("cleanup.policy", "compact".to_owned()),
        // So that a start reads little that is superseded: the brokers compact closed segments only.
        ("segment.ms", (3_600_000).to_string()),
        ("segment.bytes", (64 << 20).to_string()),
        ("min.cleanable.dirty.ratio", "0.2".to_owned()),
        ("max.message.bytes", reader::MESSAGE_BYTES.to_string()),
    ];
    Topic {
        name: topic.topic.clone(),
        // One, for the order of messages is the order of changes.
        partitions: 1,
        settings: settings.into(),
        fault: |setting| {
            if reader::is_narrow(setting) {
                return Some(reader::NARROW);
            }
            let policy = setting("cleanup.policy")?;
            (policy.trim() != "compact").then_some("is not compacted, and would forget the state")
        },
    }
}

async fn read(sink: &SinkConfig, kafka: &KafkaConfig, topic: &StateTopic, make: bool) -> Result<Found, ReadError> {
    let (sink, kafka, topic, prefix) = (sink.clone(), kafka.clone(), kept_in(topic), prefix(kafka));
    let read = move || {
        let clients = Clients::read(&sink, &kafka).map_err(|error| ReadError::Held(error.to_string()))?;
        if make {
            topic.prepare(&clients)?;
        }
        let mut found = Found::default();
        topic.read(&clients, &Positions::new(), &mut |message| {
            let key = message.key().and_then(|key| std::str::from_utf8(key).ok());
            if let Some(key) = key.and_then(|key| key.strip_prefix(&prefix)) {
                found.see(key, message.payload());
            }
            Ok(())
        })?;
        Ok(found)
    };
    tokio::task::spawn_blocking(read).await.unwrap_or_else(|join| Err(ReadError::Later(join.to_string())))
}

/// Keeps messages in the topic.
struct KafkaLog {
    transactor: Arc<Transactor>,
    topic: Arc<str>,
    prefix: String,
}

impl Log for KafkaLog {
    fn write(&self, messages: Vec<Message>) -> io::Result<()> {
        let messages = messages.into_iter().map(|(key, value)| (format!("{}{key}", self.prefix), value)).collect();
        self.transactor.write(Arc::clone(&self.topic), messages)
    }
}

/// Keeps nothing.
struct ReadOnly;

impl Log for ReadOnly {
    fn write(&self, _: Vec<Message>) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }
}
