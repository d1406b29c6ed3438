//! Kafka: one message a record, done when its delivery report says that every replica in sync has it.
//!
//! Comes in: batches of frames ([`frame`]). Goes out: messages to librdkafka, whose idempotent producer
//! retries by itself and never gives up (`message.timeout.ms=0`); so a batch that is sent again only
//! waits on, by the tickets in the [`ledger`]. At least once: a crash between the broker's word and our
//! journal doubles what was sent, and so does an end in good order that slow brokers outlast. Memory: what librdkafka holds is what the driver's
//! batches hold. Never blocks an async thread, never produces a message that librdkafka still has.

mod clients;
mod delivery;
mod diagnosis;
mod frame;
mod keeper;
mod ledger;
mod letters;
mod limit;
mod producer;
pub mod reader;
mod slots;
mod templates;
mod token;
mod transactional;
mod transactor;
mod verdict;

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use rdkafka::types::RDKafkaErrorCode as Code;
use tokio::time::Instant;

use super::line::Written;
use super::template::Template;
use super::{Accepted, EncodedBatch, SendError, Sink, SinkBuildError, locked};
use crate::clock::world_ms;
use crate::config::{KafkaConfig, SinkConfig};
use crate::event::Event;
use crate::metrics::Metrics;
use frame::Frame;
pub use keeper::{Keeper, KeeperError, look_at_kept_state};
use ledger::{Standing, Wait};
use producer::{Producer, Recipe, Shared};
use templates::{Templates, push_topic};
pub use transactional::TransactionalSink;
use verdict::{Class, Trouble, class, held, is_of_topic, refusal};

/// How long one `send` waits for reports before the driver is told that the brokers are slow or away.
/// The messages stay with librdkafka. Well above a healthy broker's answer, short enough that five in
/// a row stop the fetching within seconds.
const PATIENCE: Duration = Duration::from_secs(2);
/// The same while the brokers say that they throttle us: slow is then no fault.
const PATIENCE_THROTTLED: Duration = Duration::from_secs(30);
/// Between two waits for the same reports. Short: librdkafka itself paces the network.
const WAIT_ON: Duration = Duration::from_millis(50);
/// How long a producer that ends is still heard about what was on its way.
const LAST_REPORTS: Duration = Duration::from_secs(5);
/// One question about one topic in a probe.
const QUESTION: Duration = Duration::from_secs(3);
/// Messages produced between two looks at other work: about a millisecond.
const PRODUCED_AT_ONCE: usize = 256;
/// Topics in trouble that a probe asks for.
const ASKED_AT_ONCE: usize = 4;

/// One cluster.
pub struct KafkaSink {
    name: String,
    config: SinkConfig,
    kafka: KafkaConfig,
    topic: Template,
    /// Whether records of one batch may be for different topics.
    topic_by_event: bool,
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
    /// `max.message.bytes` of topics that found a message too large; `None` where we may not ask.
    limits: HashMap<String, Option<u64>>,
}

/// Where a producer of ours stands; empty until it is needed.
type Slot = RwLock<Option<Arc<Producer>>>;

impl KafkaSink {
    /// Checks everything that can be checked without the network, and makes the producer, which begins
    /// to look for the brokers.
    pub fn new(config: &SinkConfig, kafka: &KafkaConfig, metrics: Arc<Metrics>) -> Result<KafkaSink, SinkBuildError> {
        let name = config.name.clone();
        let Templates { topic, key, header_names, headers } = Templates::new(config, kafka)?;
        metrics.sink_bytes.with_label_values(&[&name, "identity"]);
        for reason in ["fatal", "login"] {
            metrics.kafka_renewed.with_label_values(&[&name, reason]);
        }
        let shared = Arc::new(Shared::new(&name, metrics));
        let recipe = Recipe::read(config, kafka).map_err(|error| error.of(&name))?;
        let producer = Producer::make(recipe, &shared, 0, false)
            .map_err(|reason| SinkBuildError::Kafka { sink: name.clone(), reason })?;
        Ok(KafkaSink {
            topic,
            topic_by_event: kafka.topic.contains('{'),
            key,
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
        locked(&self.topics)
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
        out.extend_from_slice(Written::of(&self.config).body(event));
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
        let taken_before = self.shared.taken.load(Ordering::Acquire);
        self.produce(&frames, &wait, Instant::now() + patience).await?;
        let _ = tokio::time::timeout(patience, wait.none_queued()).await;
        // What was refused in company is tried alone at once.
        if self.produce(&frames, &wait, Instant::now() + patience).await? > 0 {
            let _ = tokio::time::timeout(patience, wait.none_queued()).await;
        }
        self.learn_limits(&frames, &wait).await;
        diagnosis::learn(&self.shared, &self.kafka).await;
        self.judge(&frames, &wait, taken_before)
    }

    /// Reads the login again, and asks for the topics that were in trouble, or one that is in use.
    async fn probe(&self) -> Result<(), SendError> {
        let (config, kafka) = (self.config.clone(), self.kafka.clone());
        if matches!(self.shared.trouble(), Some((Trouble::Login, _))) {
            let there = self.many.read().unwrap_or_else(PoisonError::into_inner).clone();
            if let Some(producer) = there {
                producer.renew_token().await;
            }
        }
        let recipe = tokio::task::spawn_blocking(move || Recipe::read(&config, &kafka)).await;
        let print = match recipe {
            Ok(Ok(recipe)) => recipe.print,
            Ok(Err(error)) => return Err(self.fatal(error)),
            Err(join) => return Err(self.retry(join)),
        };
        let producer = self.producer(false).await?;
        // A connection that works keeps its old login; a new producer would give up what is in flight.
        let refused = matches!(self.shared.trouble(), Some((Trouble::Login | Trouble::Tls, _)));
        if refused && producer.print != print {
            let single = self.single.read().unwrap_or_else(PoisonError::into_inner).clone();
            let both: Vec<u64> = std::iter::once(&producer).chain(&single).map(|one| one.generation).collect();
            self.last_reports(&both).await;
            tracing::info!(sink = %self.name, "the login or a certificate has changed; a new producer takes over");
            self.discard(&producer, "login");
            if let Some(single) = single {
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
