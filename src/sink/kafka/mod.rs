//! Kafka: one message a record, done when its delivery report says that every replica in sync has it.
//!
//! Comes in: batches of frames ([`frame`]). Goes out: messages to librdkafka, whose idempotent producer
//! retries by itself and never gives up (`message.timeout.ms=0`); so a batch that is sent again only
//! waits on, by the tickets in the [`ledger`]. At least once: a crash between the broker's word and our
//! journal doubles what was sent; nothing else does. Memory: what librdkafka holds is what the driver's
//! batches hold. Never blocks an async thread, never produces a message that librdkafka still has.

mod frame;
mod ledger;
mod producer;
mod verdict;

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use rdkafka::types::RDKafkaErrorCode as Code;

use super::template::Template;
use super::{Accepted, EncodedBatch, SendError, Sink, SinkBuildError};
use crate::clock::world_ms;
use crate::config::{Format, KafkaConfig, MESSAGE_MAX_BYTES, SinkConfig};
use crate::event::Event;
use crate::metrics::Metrics;
use frame::Frame;
use ledger::{Standing, Wait};
use producer::{Producer, Recipe, Shared};
use verdict::{Class, Trouble, class, held};

/// How long one `send` waits for reports before the driver is told that the brokers are slow or away.
/// The messages stay with librdkafka. Well above a healthy broker's answer, short enough that five in
/// a row stop the fetching within seconds.
const PATIENCE: Duration = Duration::from_secs(2);
/// The same while the brokers say that they throttle us: slow is then no fault.
const PATIENCE_THROTTLED: Duration = Duration::from_secs(30);
/// Between two waits for the same reports. Short: librdkafka itself paces the network.
const WAIT_ON: Duration = Duration::from_millis(50);
/// How long a producer that ended fatally is still heard about what was on its way.
const LAST_REPORTS: Duration = Duration::from_secs(5);
/// One question about one topic in a probe.
const QUESTION: Duration = Duration::from_secs(3);
/// Messages produced between two looks at other work: about a millisecond.
const PRODUCED_AT_ONCE: usize = 256;
/// Topics in trouble that a probe asks for.
const ASKED_AT_ONCE: usize = 4;
/// Headers that every message has; the key is how a consumer tells a duplicate in any format.
const OUR_HEADERS: [(&str, &str); 3] =
    [("auditferry_key", "{key}"), ("tenant", "{tenant}"), ("content_type", "{content_type}")];
/// Kafka's limit of a topic's name (org.apache.kafka.common.internals.Topic).
const TOPIC_LENGTH: usize = 249;

/// One cluster.
pub struct KafkaSink {
    name: String,
    config: SinkConfig,
    kafka: KafkaConfig,
    topic: Template,
    key: Template,
    header_names: Vec<String>,
    headers: Vec<Template>,
    /// The next message's ticket.
    tickets: AtomicUsize,
    shared: Arc<Shared>,
    /// For everything.
    many: Slot,
    /// For messages that were refused in company.
    single: Slot,
    generations: AtomicU64,
    renewing: tokio::sync::Mutex<()>,
    /// Topics that took nothing, and the last one that was written to.
    topics: Mutex<Topics>,
}

#[derive(Default)]
struct Topics {
    troubled: BTreeSet<String>,
    last: Option<String>,
}

/// Where a producer of ours stands; empty until it is needed.
type Slot = RwLock<Option<Arc<Producer>>>;

impl KafkaSink {
    /// Checks everything that can be checked without the network, and makes the producer, which begins
    /// to look for the brokers.
    pub fn new(config: &SinkConfig, kafka: &KafkaConfig, metrics: Arc<Metrics>) -> Result<KafkaSink, SinkBuildError> {
        let name = config.name.clone();
        let template = |field: &'static str, text: &str| {
            Template::parse(text).map_err(|source| SinkBuildError::Template { sink: name.clone(), field, source })
        };
        let (mut header_names, mut headers) = (Vec::new(), Vec::new());
        let given = kafka.headers.iter().map(|(name, text)| (name.as_str(), text.as_str()));
        for (header, text) in OUR_HEADERS
            .into_iter()
            .filter(|(ours, _)| given.clone().all(|(name, _)| name != *ours))
            .chain(given.clone())
        {
            header_names.push(header.to_owned());
            headers.push(template("headers", text)?);
        }
        metrics.sink_bytes.with_label_values(&[&name, "identity"]);
        for reason in ["fatal", "login"] {
            metrics.kafka_renewed.with_label_values(&[&name, reason]);
        }
        let shared = Arc::new(Shared::new(&name, metrics));
        let recipe =
            Recipe::read(config, kafka).map_err(|source| SinkBuildError::Secret { sink: name.clone(), source })?;
        let producer = Producer::make(recipe, &shared, 0, false)
            .map_err(|reason| SinkBuildError::Kafka { sink: name.clone(), reason })?;
        Ok(KafkaSink {
            topic: template("topic", &kafka.topic)?,
            key: template("key", &kafka.key)?,
            header_names,
            headers,
            tickets: AtomicUsize::new(1),
            shared,
            many: RwLock::new(Some(Arc::new(producer))),
            single: RwLock::default(),
            generations: AtomicU64::new(1),
            renewing: tokio::sync::Mutex::default(),
            topics: Mutex::default(),
            config: config.clone(),
            kafka: kafka.clone(),
            name,
        })
    }

    fn retry(&self, reason: impl std::fmt::Display) -> SendError {
        SendError::Retry { after: None, reason: format!("sink `{}`: {reason}", self.name) }
    }

    fn fatal(&self, reason: impl std::fmt::Display) -> SendError {
        SendError::Fatal { reason: format!("sink `{}`: {reason}", self.name) }
    }

    fn topics(&self) -> std::sync::MutexGuard<'_, Topics> {
        self.topics.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The producer of a slot, made where there is none yet.
    async fn producer(&self, alone: bool) -> Result<Arc<Producer>, SendError> {
        let slot = if alone { &self.single } else { &self.many };
        let there = || slot.read().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(producer) = there() {
            return Ok(producer);
        }
        let _one_makes_it = self.renewing.lock().await;
        if let Some(producer) = there() {
            return Ok(producer);
        }
        let generation = self.generations.fetch_add(1, Ordering::AcqRel);
        let (config, kafka, shared) = (self.config.clone(), self.kafka.clone(), Arc::clone(&self.shared));
        let make = move || {
            let recipe = Recipe::read(&config, &kafka).map_err(|error| error.to_string())?;
            Producer::make(recipe, &shared, generation, alone)
        };
        let made = tokio::task::spawn_blocking(make).await.unwrap_or_else(|join| Err(join.to_string()));
        let producer = Arc::new(made.map_err(|reason| self.fatal(format!("librdkafka makes no producer: {reason}")))?);
        *slot.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&producer));
        Ok(producer)
    }

    /// Lets go of a producer, if it is still the one in its slot; the next send makes a new one. False
    /// when somebody else did so before.
    fn discard(&self, producer: &Producer, reason: &str) -> bool {
        let mut was_there = false;
        for slot in [&self.many, &self.single] {
            let mut slot = slot.write().unwrap_or_else(PoisonError::into_inner);
            if slot.as_ref().is_some_and(|there| there.generation == producer.generation) {
                *slot = None;
                self.shared.metrics.kafka_renewed.with_label_values(&[self.name.as_str(), reason]).inc();
                was_there = true;
            }
        }
        was_there
    }

    /// `Err` when a producer had ended fatally; the next try makes a new one.
    async fn bury_the_dead(&self) -> Result<(), SendError> {
        for slot in [&self.many, &self.single] {
            let there = slot.read().unwrap_or_else(PoisonError::into_inner).clone();
            if let Some(producer) = there
                && let Some((code, said)) = producer.fatal()
            {
                return Err(self.bury(&producer, code, &said).await);
            }
        }
        Ok(())
    }

    /// Ends a producer that librdkafka has declared dead, after what it still reports.
    async fn bury(&self, producer: &Producer, code: Code, said: &str) -> SendError {
        let began = tokio::time::Instant::now();
        while self.shared.ledger.owes(producer.generation) && began.elapsed() < LAST_REPORTS {
            tokio::time::sleep(WAIT_ON).await;
        }
        let unreported = self.shared.ledger.owes(producer.generation);
        if self.discard(producer, "fatal") {
            tracing::warn!(sink = %self.name, ?code, reason = said, unreported,
                "the idempotent producer ended; a new one takes over, and what has no report is sent again");
        }
        match class(code) {
            Class::Held => self.fatal(held(code, "")),
            _ => self.retry(format!("the idempotent producer ended: {said}")),
        }
    }

    /// Produces what of `frames` is neither queued nor answered, and says how many that were.
    async fn produce(&self, frames: &[Frame<'_>], wait: &Arc<Wait>) -> Result<usize, SendError> {
        let ledger = &self.shared.ledger;
        let standings = ledger.adopt(frames.iter().map(|frame| frame.ticket), wait);
        let (mut taken_up, mut bytes) = (0, 0);
        for (frame, standing) in frames.iter().zip(standings) {
            let alone = match standing {
                None => false,
                Some(Standing::Failed { code, alone: false }) if class(code) == Class::Refused => true,
                Some(_) => continue,
            };
            let producer = self.producer(alone).await?;
            loop {
                ledger.queue(frame.ticket, producer.generation, wait);
                let Err(code) = producer.produce(frame, &self.header_names) else { break };
                match code {
                    Code::QueueFull => {
                        // Cannot be while the bound is the driver's; it passes with the next report.
                        ledger.report(frame.ticket, producer.generation, Standing::Failed { code, alone });
                        ledger.forget(std::iter::once(frame.ticket));
                        tokio::time::sleep(WAIT_ON).await;
                    }
                    // What librdkafka refuses by itself is about this message alone.
                    code => {
                        let standing = Standing::Failed { code, alone: true };
                        ledger.report(frame.ticket, producer.generation, standing);
                        break;
                    }
                }
            }
            taken_up += 1;
            bytes += frame.value.len() as u64;
            if taken_up % PRODUCED_AT_ONCE == 0 {
                tokio::task::yield_now().await;
            }
        }
        self.shared.metrics.sink_bytes.with_label_values(&[self.name.as_str(), "identity"]).inc_by(bytes);
        Ok(taken_up)
    }

    /// What the reports mean for the batch as a whole; forgets the tickets that have a verdict.
    fn judge(&self, frames: &[Frame<'_>], wait: &Arc<Wait>) -> Result<Accepted, SendError> {
        let ledger = &self.shared.ledger;
        let standings = ledger.adopt(frames.iter().map(|frame| frame.ticket), wait);
        let (mut queued, mut again, mut hold, mut refused) = (0, None, None, Vec::new());
        for (index, (frame, standing)) in frames.iter().zip(&standings).enumerate() {
            match standing {
                Some(Standing::Taken) => {}
                Some(Standing::Queued { .. }) => queued += 1,
                None => again = again.or(Some(Code::PurgeQueue)),
                Some(Standing::Failed { code, .. }) => match class(*code) {
                    Class::Refused => refused.push((index, *code)),
                    kind => {
                        if kind == Class::Held {
                            self.topics().troubled.insert(frame.topic.to_owned());
                            hold = hold.or(Some(held(*code, frame.topic)));
                        } else {
                            again = again.or(Some(*code));
                        }
                        // To be produced anew: librdkafka has let go of it.
                        ledger.forget(std::iter::once(frame.ticket));
                    }
                },
            }
        }
        if let Some(reason) = hold {
            return Err(self.fatal(reason));
        }
        if queued > 0 {
            return Err(self.still_queued(queued));
        }
        if let Some(code) = again {
            return Err(self.retry(format!("the brokers did not take a message: {code:?}; sent again")));
        }
        let Some((first, code)) = refused.first().copied() else {
            ledger.forget(frames.iter().map(|frame| frame.ticket));
            return Ok(Accepted::default());
        };
        // One answer has one reason; the others follow with the next send, which produces nothing.
        let reason = self.refusal(&frames[first], code);
        let alike = |(index, other): &&(usize, Code)| *other == code && self.refusal(&frames[*index], code) == reason;
        let events: Vec<usize> = refused.iter().filter(alike).map(|(index, _)| *index).collect();
        ledger.forget(events.iter().map(|index| frames[*index].ticket));
        Err(SendError::Reject { events, reason })
    }

    /// Reports are overdue.
    fn still_queued(&self, queued: usize) -> SendError {
        match self.shared.trouble() {
            Some((trouble @ (Trouble::Login | Trouble::Tls), said)) => self.fatal(trouble.words(&said)),
            found => {
                let reason = match found {
                    Some((trouble, said)) => trouble.words(&said),
                    None if self.shared.is_throttled() => "the brokers throttle us because of a quota".to_owned(),
                    None => "the brokers have not answered yet (too few replicas in sync, or slow)".to_owned(),
                };
                let reason = format!("sink `{}`: {queued} messages wait inside librdkafka: {reason}", self.name);
                SendError::Retry { after: Some(WAIT_ON), reason }
            }
        }
    }

    /// Why a message is refused for good, with the limit.
    fn refusal(&self, frame: &Frame<'_>, code: Code) -> String {
        let ours = self.kafka.max_message_bytes();
        let reason = match code {
            Code::MessageSizeTooLarge if frame.value.len() as u64 + frame.key.len() as u64 >= ours => {
                format!(
                    "the message is larger than `{MESSAGE_MAX_BYTES}` of the sink ({ours} bytes); raise it under `librdkafka`"
                )
            }
            Code::MessageSizeTooLarge => format!(
                "the message is larger, compressed, than the topic `{}` takes; raise its `max.message.bytes` (or `message.max.bytes` of the brokers)",
                frame.topic
            ),
            other => format!("the brokers refuse the message for topic `{}`: {other:?}", frame.topic),
        };
        format!("sink `{}`: {reason}", self.name)
    }
}

impl Sink for KafkaSink {
    fn encode(&self, event: &Event<'_>, out: &mut Vec<u8>) {
        frame::begin(self.tickets.fetch_add(1, Ordering::Relaxed), world_ms(), out);
        frame::field(out, |out| push_topic(&self.topic, event, out));
        frame::field(out, |out| self.key.render_plain(event, out));
        for header in &self.headers {
            frame::field(out, |out| header.render_plain(event, out));
        }
        let verbatim = self.config.format == Format::Raw && event.meta.readable;
        out.extend_from_slice(if verbatim { event.raw() } else { event.doc() });
    }

    async fn send(&self, batch: &EncodedBatch) -> Result<Accepted, SendError> {
        let Some(frames) = frame::read(&batch.bytes, &batch.ends, self.headers.len()) else {
            return Err(self.fatal("a batch of ours is broken; this is a fault of auditferry"));
        };
        if let Some(frame) = frames.first() {
            let mut topics = self.topics();
            if topics.last.as_deref() != Some(frame.topic) {
                topics.last = Some(frame.topic.to_owned());
            }
        }
        self.bury_the_dead().await?;
        let patience = if self.shared.is_throttled() { PATIENCE_THROTTLED } else { PATIENCE };
        let wait = Arc::new(Wait::default());
        self.produce(&frames, &wait).await?;
        let _ = tokio::time::timeout(patience, wait.none_queued()).await;
        // What was refused in company is tried alone at once.
        if self.produce(&frames, &wait).await? > 0 {
            let _ = tokio::time::timeout(patience, wait.none_queued()).await;
        }
        self.judge(&frames, &wait)
    }

    /// Reads the login again, and asks for the topics that were in trouble, or one that is in use.
    async fn probe(&self) -> Result<(), SendError> {
        let (config, kafka) = (self.config.clone(), self.kafka.clone());
        let recipe = tokio::task::spawn_blocking(move || Recipe::read(&config, &kafka)).await;
        let print = match recipe {
            Ok(Ok(recipe)) => recipe.print,
            Ok(Err(error)) => return Err(self.fatal(error)),
            Err(join) => return Err(self.retry(join)),
        };
        let producer = self.producer(false).await?;
        if producer.print != print {
            tracing::info!(sink = %self.name, "the login or a certificate has changed; a new producer takes over");
            self.discard(&producer, "login");
            if let Some(single) = self.single.read().unwrap_or_else(PoisonError::into_inner).clone() {
                self.discard(&single, "login");
            }
            self.shared.well();
        }
        drop(producer);
        self.bury_the_dead().await?;
        let producer = self.producer(false).await?;
        let asked: Vec<String> = {
            let topics = self.topics();
            topics.troubled.iter().chain(topics.last.as_ref()).take(ASKED_AT_ONCE).cloned().collect()
        };
        for topic in asked {
            let (producer, name) = (Arc::clone(&producer), topic.clone());
            let answer = tokio::task::spawn_blocking(move || producer.ask(&name, QUESTION)).await;
            match answer.unwrap_or(Err(Code::Fail)) {
                Ok(()) => self.topics().troubled.remove(&topic),
                Err(code) if class(code) == Class::Held => return Err(self.fatal(held(code, &topic))),
                Err(code) => {
                    let words = self.shared.trouble().map(|(trouble, said)| trouble.words(&said));
                    return Err(self.retry(words.unwrap_or_else(|| format!("no answer from the brokers: {code:?}"))));
                }
            };
        }
        self.shared.well();
        Ok(())
    }
}

/// The topic's name; what Kafka does not allow in one becomes `_`.
fn push_topic(template: &Template, event: &Event<'_>, out: &mut Vec<u8>) {
    let start = out.len();
    template.render_plain(event, out);
    out.truncate(start + TOPIC_LENGTH);
    for byte in &mut out[start..] {
        if !byte.is_ascii_alphanumeric() && !matches!(byte, b'.' | b'_' | b'-') {
            *byte = b'_';
        }
    }
}
