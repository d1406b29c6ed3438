//! Kafka, exactly once for readers of committed messages: a batch is done when the transaction has
//! ended in which its messages are, and with them the keys of their records. Comes in: batches. Goes
//! out: work for the [`Transactor`], and its answers. A frame here has two fields before its headers: the
//! record's key and its feed, by which the checkpoints are parted.

use super::transactor::{Form, Transactor};
use super::*;
use crate::sink::SinkId;
use crate::state::State;

/// How long one `send` waits for the end of its transaction before the driver is told that the brokers are
/// slow or away. A transaction takes some 20 ms; the answer to one that is on its way is not lost: the batch
/// that is sent again is found among what is delivered.
const PATIENCE_TRANSACTION: Duration = Duration::from_secs(2);

/// Where the tickets of a sink begin: two of one producer, before and after a reload, share no ticket.
fn ticket() -> AtomicUsize {
    static SINKS: AtomicUsize = AtomicUsize::new(0);
    AtomicUsize::new(1 + (SINKS.fetch_add(1, Ordering::Relaxed) << 40))
}

/// One cluster, written to in transactions.
pub struct TransactionalSink {
    config: SinkConfig,
    topic: Template,
    key: Template,
    headers: Vec<Template>,
    form: Arc<Form>,
    tickets: AtomicUsize,
    transactor: Arc<Transactor>,
}

impl TransactionalSink {
    /// Checks everything that can be checked without the network; asks no broker before the first batch.
    /// Needs a running tokio runtime.
    pub fn new(
        config: &SinkConfig,
        kafka: &KafkaConfig,
        id: SinkId,
        state: &State,
        metrics: Arc<Metrics>,
    ) -> Result<TransactionalSink, SinkBuildError> {
        let Templates { topic, key, header_names, headers } = Templates::new(config, kafka)?;
        // Where it keeps the state it writes already.
        let running = state.base::<Keeper>().and_then(|keeper| keeper.transactor_of(&config.name));
        let transactor = match running {
            Some(transactor) => transactor,
            None => Transactor::begin(config, kafka, metrics)?,
        };
        transactor.attach(state, id);
        let form = Arc::new(Form { header_names, topic_by_event: kafka.topic.contains('{') });
        Ok(TransactionalSink { config: config.clone(), topic, key, headers, form, tickets: ticket(), transactor })
    }

    /// While one batch is in a transaction that ends, another is gathered for the next.
    pub fn in_the_air(&self, configured: usize) -> usize {
        configured.max(2)
    }
}

impl Sink for TransactionalSink {
    fn encode(&self, event: &Event<'_>, out: &mut Vec<u8>) {
        frame::begin(self.tickets.fetch_add(1, Ordering::Relaxed), world_ms(), out);
        frame::field(out, |out| push_topic(&self.topic, event, out));
        frame::field(out, |out| self.key.render_plain(event, out));
        frame::field(out, |out| out.extend_from_slice(&event.meta.key.0));
        frame::field(out, |out| {
            let feed = &event.part.blob.feed;
            out.extend_from_slice(feed.tenant.id.as_bytes());
            out.push(b'/');
            out.extend_from_slice(feed.content_type.as_str().as_bytes());
        });
        for header in &self.headers {
            frame::field(out, |out| header.render_plain(event, out));
        }
        out.extend_from_slice(Written::of(&self.config).body(event));
    }

    async fn send(&self, batch: &EncodedBatch) -> Result<Accepted, SendError> {
        self.transactor.send(batch, &self.form, PATIENCE_TRANSACTION).await
    }

    async fn probe(&self) -> Result<(), SendError> {
        self.transactor.probe().await
    }
}
