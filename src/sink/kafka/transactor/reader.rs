//! Reads a topic of ours to its end, committed messages only, and makes it where it is missing. Comes
//! in: where to begin. Goes out: every message to there, and where that is. All of it blocks and
//! belongs on a thread of its own. Joins no consumer group and commits no offset.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::consumer::Consumer;
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Message};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use rdkafka::types::RDKafkaErrorCode as Code;

use crate::sink::kafka::clients::{Clients, Quiet, Reader, cause, partitions, serve};
use crate::sink::kafka::verdict::{Class, Trouble, class};

/// One question to the brokers.
const QUESTION: Duration = Duration::from_secs(5);
/// How long another's open transaction may hide what is ours: the brokers end one after its time-out, 60 s.
const HIDDEN: Duration = Duration::from_secs(90);
/// How long a new leader may know less of a topic than the one before.
const LAGGING: Duration = Duration::from_secs(10);
/// Without any message for so long, reading has failed.
const SILENCE: Duration = Duration::from_secs(30);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(20);

/// Partition → next offset.
pub(in crate::sink::kafka) type Positions = BTreeMap<i32, i64>;

/// Asks for a setting of a topic by name.
pub(in crate::sink::kafka) type Setting<'a> = &'a dyn Fn(&str) -> Option<String>;

/// What a topic of ours takes at most when we make it: the brokers' own default.
pub(in crate::sink::kafka) const MESSAGE_BYTES: u64 = 1_048_588;
/// What is wrong with a topic that [`is_narrow`].
pub(in crate::sink::kafka) const NARROW: &str = "takes no message as large as ours (`max.message.bytes`)";

/// Whether a topic of these settings would refuse messages of our own books.
pub(in crate::sink::kafka) fn is_narrow(setting: Setting<'_>) -> bool {
    let most = setting("max.message.bytes").and_then(|most| most.parse::<u64>().ok());
    most.is_some_and(|most| most < crate::config::BOOK_MESSAGE_BYTES)
}

/// A topic that we read back, and how it must be.
#[derive(Clone, Debug)]
pub(in crate::sink::kafka) struct Topic {
    pub name: String,
    pub partitions: i32,
    /// Settings that it is made with.
    pub settings: Vec<(&'static str, String)>,
    /// What is wrong with a topic of these settings, and what would put it right.
    pub fault: fn(Setting<'_>) -> Option<&'static str>,
}

/// Why a topic could not be read.
#[derive(Debug, thiserror::Error)]
pub(in crate::sink::kafka) enum ReadError {
    /// Passes by itself.
    #[error("{0}")]
    Later(String),
    /// Somebody must mend something.
    #[error("{0}")]
    Held(String),
    /// The same, of the topic itself: it is not what we need.
    #[error("{0}")]
    Unfit(String),
}

impl Topic {
    /// The command that makes it.
    fn command(&self) -> String {
        let settings: String = self.settings.iter().map(|(name, value)| format!(" --config {name}={value}")).collect();
        format!(
            "kafka-topics.sh --bootstrap-server … --create --topic {} --partitions {}{settings}",
            self.name, self.partitions
        )
    }

    /// Makes the topic where it is missing and looks whether it keeps what it must keep.
    pub fn prepare(&self, clients: &Clients) -> Result<(), ReadError> {
        let consumer = consumer(clients, "read_uncommitted")?;
        let is_missing = match partitions(&consumer, &self.name, QUESTION) {
            Ok(_) => false,
            Err(Code::UnknownTopic | Code::UnknownTopicOrPartition) => true,
            Err(code) => return Err(self.failed(code, &consumer)),
        };
        match admin(clients)? {
            Some(admin) if is_missing => self.make(&admin, &consumer),
            Some(admin) => self.look_at_settings(&admin),
            None if is_missing => Err(ReadError::Held(format!(
                "the topic `{}` is missing, and cannot be made with a login by token; make it: {}",
                self.name,
                self.command()
            ))),
            None => {
                let (topic, settings) = (&self.name, self.wanted());
                tracing::info!(
                    topic,
                    settings,
                    "the settings of the topic cannot be looked at with a login by token; it must have these"
                );
                Ok(())
            }
        }
    }

    /// Its settings, as Kafka's tools take them.
    fn wanted(&self) -> String {
        let wanted: Vec<String> = self.settings.iter().map(|(name, value)| format!("{name}={value}")).collect();
        wanted.join(",")
    }

    /// Why it cannot be read; what is wrong with the connection says more than that nothing came.
    fn failed(&self, code: Code, consumer: &Reader) -> ReadError {
        if code == Code::TopicAuthorizationFailed {
            return ReadError::Held(format!(
                "we are not authorised for the topic `{}`; allow our user READ, WRITE and DESCRIBE on it",
                self.name
            ));
        }
        match (code, cause(consumer)) {
            (_, Some((trouble @ (Trouble::Login | Trouble::Tls), said))) => ReadError::Held(trouble.words(&said)),
            (_, Some((trouble, said))) => ReadError::Later(trouble.words(&said)),
            (code, None) => ReadError::Later(format!("the topic `{}` is not read: {code:?}; tried again", self.name)),
        }
    }

    fn make(&self, admin: &AdminClient<Quiet>, consumer: &Reader) -> Result<(), ReadError> {
        // -1: as many copies as the brokers think right (KIP-464).
        let topic = NewTopic::new(&self.name, self.partitions, TopicReplication::Fixed(-1));
        let topic = self.settings.iter().fold(topic, |topic, (name, value)| topic.set(name, value));
        let options = AdminOptions::new().operation_timeout(Some(QUESTION)).request_timeout(Some(2 * QUESTION));
        let made = block_on(admin.create_topics([&topic], &options));
        let made = made.map_err(|error| ReadError::Later(format!("the topic `{}` is not made: {error}", self.name)))?;
        match made.into_iter().next() {
            Some(Ok(_) | Err((_, Code::TopicAlreadyExists))) => {}
            Some(Err((_, code))) => {
                return Err(ReadError::Held(format!(
                    "the topic `{}` is missing, and the brokers do not let us make it ({code:?}); make it: {}",
                    self.name,
                    self.command()
                )));
            }
            None => return Err(ReadError::Later(format!("the topic `{}` is not made yet", self.name))),
        }
        tracing::info!(topic = self.name, partitions = self.partitions, "made the topic");
        let began = Instant::now();
        while let Err(code) = partitions(consumer, &self.name, QUESTION) {
            if began.elapsed() > 2 * QUESTION {
                return Err(self.failed(code, consumer));
            }
            pause(consumer);
        }
        Ok(())
    }

    /// Refuses a topic that forgets too early. Where we may not ask, it is taken as it is.
    fn look_at_settings(&self, admin: &AdminClient<Quiet>) -> Result<(), ReadError> {
        let options = AdminOptions::new().request_timeout(Some(QUESTION));
        let asked = ResourceSpecifier::Topic(&self.name);
        let answer = block_on(admin.describe_configs([&asked], &options));
        let Some(resource) = answer.ok().and_then(|answer| answer.into_iter().next()?.ok()) else { return Ok(()) };
        let setting = |name: &str| resource.get(name)?.value.clone();
        match (self.fault)(&setting) {
            None => Ok(()),
            Some(fault) => Err(ReadError::Unfit(format!(
                "the topic `{name}` {fault}; change it: kafka-configs.sh --bootstrap-server … --alter --entity-type topics --entity-name {name} --add-config {}",
                self.wanted(),
                name = self.name
            ))),
        }
    }

    /// Calls `see` for every committed message from `from` on to the end that the topic has now, and says
    /// where that is. What an aborted transaction left is passed over, and so are the marks of transactions.
    pub fn read(
        &self,
        clients: &Clients,
        from: &Positions,
        see: &mut dyn FnMut(&BorrowedMessage<'_>) -> Result<(), ReadError>,
    ) -> Result<Positions, ReadError> {
        let all = consumer(clients, "read_uncommitted")?;
        let committed = consumer(clients, "read_committed")?;
        let (mut ends, mut assigned) = (Positions::new(), TopicPartitionList::new());
        let mut left = BTreeSet::new();
        for partition in partitions(&all, &self.name, QUESTION).map_err(|code| self.failed(code, &all))? {
            let bounds = |consumer: &Reader| {
                serve(consumer);
                let bounds = consumer.fetch_watermarks(&self.name, partition, QUESTION);
                bounds.map_err(|error| self.failed(error.rdkafka_error_code().unwrap_or(Code::Fail), consumer))
            };
            let (mut low, mut end) = bounds(&all)?;
            let mut from = from.get(&partition).copied().unwrap_or(0).max(low);
            let began = Instant::now();
            // The leader of today may know less than the one before for a moment.
            while end < from && began.elapsed() < LAGGING {
                pause(&all);
                (low, end) = bounds(&all)?;
            }
            if end < from {
                // Made anew, or its newest part lost with a broker: what is there now was not read yet.
                tracing::warn!(
                    topic = self.name,
                    partition,
                    end,
                    read = from,
                    "the topic ends before what was read of it; it is read again from its beginning"
                );
                from = low;
            }
            ends.insert(partition, end);
            if from >= end {
                continue;
            }
            let began = Instant::now();
            // A reader sees nothing behind the beginning of the oldest open transaction.
            while bounds(&committed)?.1 < end {
                if began.elapsed() > HIDDEN {
                    return Err(ReadError::Later(format!(
                        "another producer's open transaction hides the end of the topic `{}`; give each deployment its own",
                        self.name
                    )));
                }
                pause(&committed);
            }
            left.insert(partition);
            let placed = assigned.add_partition_offset(&self.name, partition, Offset::Offset(from));
            placed.map_err(|error| ReadError::Later(error.to_string()))?;
        }
        committed.assign(&assigned).map_err(|error| ReadError::Later(error.to_string()))?;
        let mut heard = Instant::now();
        while !left.is_empty() {
            match committed.poll(Duration::from_millis(100)) {
                Some(Ok(message)) => {
                    heard = Instant::now();
                    let end = ends.get(&message.partition()).copied().unwrap_or_default();
                    if message.offset() < end {
                        see(&message)?;
                    }
                    if message.offset() + 1 >= end {
                        left.remove(&message.partition());
                    }
                }
                // A leader of today may know less than the one that named the end; it will know as much, for what was
                // committed stays. So the end of what it has is not the end of the topic before we have passed that.
                Some(Err(KafkaError::PartitionEOF(partition))) => {
                    heard = Instant::now();
                    let end = ends.get(&partition).copied().unwrap_or_default();
                    if position(&committed, &self.name, partition).is_some_and(|at| at >= end) {
                        left.remove(&partition);
                    }
                }
                // Of connections, and of the group that we do not join.
                Some(Err(_)) | None if heard.elapsed() > SILENCE => {
                    return Err(ReadError::Later(format!("the topic `{}` cannot be read to its end", self.name)));
                }
                Some(Err(_)) | None => {}
            }
        }
        Ok(ends)
    }
}

/// The offset after the last message that was read of a partition, marks of transactions among them.
fn position(consumer: &Reader, topic: &str, partition: i32) -> Option<i64> {
    match consumer.position().ok()?.find_partition(topic, partition)?.offset() {
        Offset::Offset(at) => Some(at),
        _ => None,
    }
}

/// Asks about a topic, or about the cluster. Why there is no answer, and what was heard of the connection.
pub(in crate::sink::kafka) fn ask(
    clients: &Clients,
    topic: Option<&str>,
    limit: Duration,
) -> Result<(), (Code, Option<(Trouble, String)>)> {
    let consumer = clients.consumer(&[]).map_err(|_| (Code::Fail, None))?;
    serve(&consumer);
    let failed = |code: Code| match class(code) {
        Class::Held => (code, None),
        Class::Again | Class::Refused => (code, cause(&consumer)),
    };
    let metadata = consumer.fetch_metadata(topic, limit);
    let metadata = metadata.map_err(|error| failed(error.rdkafka_error_code().unwrap_or(Code::Fail)))?;
    match metadata.topics().iter().filter(|_| topic.is_some()).find_map(|topic| topic.error()) {
        Some(error) => Err(failed(Code::from(error))),
        None => Ok(()),
    }
}

fn consumer(clients: &Clients, isolation: &str) -> Result<Reader, ReadError> {
    // The group is named because librdkafka assigns no partition without one; it is never joined.
    let settings = [("isolation.level", isolation), ("enable.partition.eof", "true"), ("group.id", "auditferry")];
    clients.consumer(&settings).map_err(|error| ReadError::Held(format!("librdkafka makes no consumer: {error}")))
}

/// `None`: see [`Clients::admin`].
fn admin(clients: &Clients) -> Result<Option<AdminClient<Quiet>>, ReadError> {
    let made = clients.admin().transpose();
    made.map_err(|error| ReadError::Held(format!("librdkafka makes no client: {error}")))
}

fn block_on<T>(answer: impl Future<Output = T>) -> T {
    tokio::runtime::Handle::current().block_on(answer)
}

/// Waits a little; a consumer without partitions brings nothing but its troubles.
fn pause(consumer: &Reader) {
    let until = Instant::now() + LOOK;
    while Instant::now() < until {
        let _ = consumer.poll(LOOK);
    }
}
