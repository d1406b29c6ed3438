//! Sinks only encode, send and classify; one [`driver`] does queueing, batching, splitting, retry,
//! circuit, dead letters and acknowledgements for all of them.
//!
//! Comes in: [`Delivery`](crate::event::Delivery)s. Goes out: batches to the world, and verdicts to
//! the return lane. A sink never retries, never drops, never sees a record type. Adding one: a file
//! here, a variant of [`AnySink`] and of the configuration; the compiler and the contract suite name the rest.

pub mod dead_letters;
pub mod driver;
pub mod elasticsearch;
mod file;
mod http;
pub(crate) mod kafka;
mod line;
#[cfg(test)]
mod samples;
mod shape;
pub(crate) mod splunk_hec;
mod stdout;
mod syslog;
pub mod template;
mod web;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::config::{HttpAddressError, SinkConfig, SinkKind};
use crate::event::Event;
use crate::http::HttpError;
use crate::metrics::Metrics;
use crate::secret::SecretError;
use crate::state::State;
use elasticsearch::ElasticsearchSink;
use file::FileSink;
use http::HttpSink;
use kafka::{KafkaSink, TransactionalSink};
pub use kafka::{Keeper, KeeperError, look_at_kept_state};
pub use shape::{Kept, ShapedSink};
use splunk_hec::SplunkHecSink;
use stdout::StdoutSink;
use syslog::{SyslogSink, TlsError};
use template::TemplateError;

/// What a mutex guards; who panicked before had changed it in one step.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A sink of any kind.
pub enum AnySink {
    Stdout(StdoutSink),
    File(FileSink),
    SplunkHec(Box<SplunkHecSink>),
    Elasticsearch(Box<ElasticsearchSink>),
    Kafka(Box<KafkaSink>),
    KafkaTransactional(Box<TransactionalSink>),
    Syslog(Box<SyslogSink>),
    Http(Box<HttpSink>),
}

/// A sink could not be built from its configuration.
#[derive(Debug, thiserror::Error)]
pub enum SinkBuildError {
    #[error("sink `{sink}`: {source}")]
    Http { sink: String, source: HttpError },
    #[error("sink `{sink}`: {source}")]
    Secret { sink: String, source: SecretError },
    #[error("sink `{sink}`: `{field}`: {source}")]
    Template { sink: String, field: &'static str, source: TemplateError },
    #[error(
        "sink `{sink}`: `{url}` is no event endpoint; give scheme, host and port, or a URL that ends in /services/collector/event"
    )]
    Endpoint { sink: String, url: String },
    #[error(
        "sink `{sink}`: the token holds characters that no header can carry; give it as it was given to you, without line breaks"
    )]
    Token { sink: String },
    #[error("sink `{sink}`: `{name}` is no name of a header; letters, digits and `-` are")]
    HeaderName { sink: String, name: String },
    #[error(
        "sink `{sink}`: the key of `hash_fields` has {bytes} bytes; give at least {least}, for instance from `openssl rand -base64 32`"
    )]
    ShortKey { sink: String, bytes: usize, least: usize },
    #[error("sink `{sink}`: `url`: {source}")]
    Address { sink: String, source: HttpAddressError },
    #[error("sink `{sink}`: `body`: {reason}; `auditferry validate` names the places")]
    Body { sink: String, reason: String },
    #[error("sink `{sink}`: librdkafka makes no producer: {reason}; see `tls`, `sasl` and `librdkafka` of the sink")]
    Kafka { sink: String, reason: String },
    #[error("sink `{sink}`: {source}")]
    SyslogTls { sink: String, source: TlsError },
}

/// Builds the sink; touches no network and no file but the secrets it is made of.
pub fn build(
    config: &SinkConfig,
    id: SinkId,
    state: &State,
    metrics: Arc<Metrics>,
) -> Result<ShapedSink, SinkBuildError> {
    let sink = match &config.kind {
        SinkKind::Stdout => AnySink::Stdout(StdoutSink::new(config, metrics)),
        SinkKind::File(file) => AnySink::File(FileSink::new(config, file, id, state.clone(), metrics)),
        SinkKind::SplunkHec(hec) => AnySink::SplunkHec(Box::new(SplunkHecSink::new(config, hec, metrics)?)),
        SinkKind::Elasticsearch(elasticsearch) => {
            AnySink::Elasticsearch(Box::new(ElasticsearchSink::new(config, elasticsearch, metrics)?))
        }
        SinkKind::Kafka(kafka) if kafka.transactional.is_some() => {
            AnySink::KafkaTransactional(Box::new(TransactionalSink::new(config, kafka, id, state, metrics)?))
        }
        SinkKind::Kafka(kafka) => AnySink::Kafka(Box::new(KafkaSink::new(config, kafka, metrics)?)),
        SinkKind::Syslog(syslog) => AnySink::Syslog(Box::new(SyslogSink::new(config, syslog, metrics)?)),
        SinkKind::Http(http) => AnySink::Http(Box::new(HttpSink::new(config, http, metrics)?)),
    };
    ShapedSink::new(config, sink)
}

impl Sink for AnySink {
    fn encode(&self, event: &Event<'_>, out: &mut Vec<u8>) {
        match self {
            AnySink::Stdout(sink) => sink.encode(event, out),
            AnySink::File(sink) => sink.encode(event, out),
            AnySink::SplunkHec(sink) => sink.encode(event, out),
            AnySink::Elasticsearch(sink) => sink.encode(event, out),
            AnySink::Kafka(sink) => sink.encode(event, out),
            AnySink::KafkaTransactional(sink) => sink.encode(event, out),
            AnySink::Syslog(sink) => sink.encode(event, out),
            AnySink::Http(sink) => sink.encode(event, out),
        }
    }

    async fn send(&self, batch: &EncodedBatch) -> Result<Accepted, SendError> {
        match self {
            AnySink::Stdout(sink) => sink.send(batch).await,
            AnySink::File(sink) => sink.send(batch).await,
            AnySink::SplunkHec(sink) => sink.send(batch).await,
            AnySink::Elasticsearch(sink) => sink.send(batch).await,
            AnySink::Kafka(sink) => sink.send(batch).await,
            AnySink::KafkaTransactional(sink) => sink.send(batch).await,
            AnySink::Syslog(sink) => sink.send(batch).await,
            AnySink::Http(sink) => sink.send(batch).await,
        }
    }

    async fn probe(&self) -> Result<(), SendError> {
        match self {
            AnySink::Stdout(sink) => sink.probe().await,
            AnySink::File(sink) => sink.probe().await,
            AnySink::SplunkHec(sink) => sink.probe().await,
            AnySink::Elasticsearch(sink) => sink.probe().await,
            AnySink::Kafka(sink) => sink.probe().await,
            AnySink::KafkaTransactional(sink) => sink.probe().await,
            AnySink::Syslog(sink) => sink.probe().await,
            AnySink::Http(sink) => sink.probe().await,
        }
    }

    async fn close(&self) {
        if let AnySink::Syslog(sink) = self {
            sink.close().await;
        }
    }

    fn serial(&self) -> bool {
        matches!(self, AnySink::Stdout(_) | AnySink::File(_))
    }

    fn in_the_air(&self, configured: usize) -> usize {
        match self {
            AnySink::SplunkHec(sink) => sink.in_the_air(configured),
            AnySink::KafkaTransactional(sink) => sink.in_the_air(configured),
            AnySink::Stdout(_)
            | AnySink::File(_)
            | AnySink::Elasticsearch(_)
            | AnySink::Kafka(_)
            | AnySink::Syslog(_)
            | AnySink::Http(_) => configured,
        }
    }
}

/// A sink's place in a [`SinkSet`]; given once to a sink's name and kept in the state for good.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub struct SinkId(pub u8);

/// A set of sinks, one bit each. 32: more sinks than any deployment seen; refused beyond, never wrapped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SinkSet(pub u32);

impl SinkSet {
    pub const EMPTY: SinkSet = SinkSet(0);

    pub fn of(sink: SinkId) -> SinkSet {
        SinkSet(1 << sink.0)
    }
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }
    pub fn contains(self, sink: SinkId) -> bool {
        self.0 & (1 << sink.0) != 0
    }
    pub fn union(self, other: SinkSet) -> SinkSet {
        SinkSet(self.0 | other.0)
    }
    pub fn minus(self, other: SinkSet) -> SinkSet {
        SinkSet(self.0 & !other.0)
    }
    pub fn intersection(self, other: SinkSet) -> SinkSet {
        SinkSet(self.0 & other.0)
    }
    pub fn iter(self) -> impl Iterator<Item = SinkId> {
        (0..32).map(SinkId).filter(move |sink| self.contains(*sink))
    }
}

/// A batch ready to leave: the encoded events back to back, and where each ends.
#[derive(Clone, Debug, Default)]
pub struct EncodedBatch {
    pub bytes: Vec<u8>,
    /// End offset of each event in `bytes`, ascending.
    pub ends: Vec<usize>,
}

/// A batch was taken.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Accepted {
    /// Where a file stands after this batch, to be journalled with its keys.
    pub position: Option<FilePosition>,
}

/// How far a file is known to be ours.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct FilePosition {
    pub path: String,
    pub inode: u64,
    /// Bytes, all fsynced.
    pub length: u64,
}

/// Why a batch was not taken, by what the driver does next.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// Send the same batch again, after `after` if the receiver named a time, else after the driver's back-off.
    #[error("{reason}")]
    Retry { after: Option<Duration>, reason: String },
    /// As `Retry`, and other messages were taken meanwhile: the receiver is slow, which is no failure.
    #[error("{reason}")]
    Slow { after: Option<Duration>, reason: String },
    /// These events (indices into the batch, ascending, not empty) are refused for good: dead-letter
    /// them, send all others again. `reason` is the same for every event that is refused for the same reason.
    #[error("{reason}")]
    Reject { events: Vec<usize>, reason: String },
    /// Something in the batch is refused and the receiver does not say what: halve it, try again;
    /// a single event is then rejected.
    #[error("{reason}")]
    Split {
        /// What of `reason` stays the same from answer to answer (status and advice, no number of a request):
        /// by it the driver tells that batch after batch is refused alike.
        cause: String,
        reason: String,
    },
    /// The receiver judged each event by itself: settle those it took, dead-letter those it refused, send the others
    /// again.
    #[error("{}", .0.reason)]
    Partial(Box<Partial>),
    /// As `Split`, and somebody could mend the receiver so that it takes it (a missing index): where
    /// most of a batch is refused so, it is held at once.
    #[error("{reason}")]
    Misplaced { reason: String },
    /// Nothing will be taken until somebody mends the receiver or the configuration: hold
    /// everything, probe, never dead-letter.
    #[error("{reason}")]
    Fatal { reason: String },
}

/// What became of a batch of which the receiver judged each event by itself. Indices into the batch, ascending, none
/// in both lists; at least one in one of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Partial {
    /// Taken: never sent again.
    pub taken: Vec<usize>,
    /// Refused for good.
    pub refused: Vec<Refusal>,
    /// When to send all others again, if the receiver named a time.
    pub after: Option<Duration>,
    /// Why all others are sent again; where there are none, why the last one was refused.
    pub reason: String,
}

/// One event that is refused for good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub event: usize,
    pub reason: String,
    /// What of `reason` stays the same from event to event, as in [`SendError::Split`].
    pub cause: String,
    /// As in [`SendError::Misplaced`].
    pub misplaced: bool,
}

/// What a kind of sink is. `send` may run several times at once, as often as [`in_the_air`](Self::in_the_air)
/// says.
pub trait Sink: Send + Sync + 'static {
    /// Appends one event, framed as this sink frames it.
    fn encode(&self, event: &Event<'_>, out: &mut Vec<u8>);

    /// What a dead letter keeps of the event; `None`: the record as it came.
    fn kept(&self, _event: &Event<'_>) -> Option<Kept> {
        None
    }

    /// True when batches must leave one after the other, whatever `concurrency` says: where order or
    /// a position in a file matters.
    fn serial(&self) -> bool {
        false
    }

    /// How many batches may be without the receiver's last word at once, of a sink that is not
    /// [`serial`](Self::serial), where `concurrency` says `configured`. Asked again and again: it may change while it runs.
    fn in_the_air(&self, configured: usize) -> usize {
        configured
    }

    /// Sends one batch and waits for the receiver's word.
    fn send(&self, batch: &EncodedBatch) -> impl Future<Output = Result<Accepted, SendError>> + Send;

    /// Asks whether the receiver would take something, without sending any: `Ok` closes the circuit.
    fn probe(&self) -> impl Future<Output = Result<(), SendError>> + Send;

    /// Nothing more will be sent: ends what stands between it and the receiver, in order. Cut short after
    /// [`driver::FAREWELL`].
    fn close(&self) -> impl Future<Output = ()> + Send {
        async {}
    }
}
