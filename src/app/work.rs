//! The workers between source and sinks, and the one task beside them that buries oversized records. Comes in:
//! arrivals. Goes out: deliveries to the drivers of the graph that runs at that moment. A worker never waits for
//! a sink.

use std::sync::Arc;

use tokio::sync::{Mutex, mpsc, watch};
use tokio::task::JoinSet;

use super::graph::Graph;
use crate::ack::Outcome;
use crate::record::RecordKey;
use crate::sink::dead_letters::{DeadLetters, LetterHead};
use crate::sink::{SinkId, SinkSet};
use crate::source::{Arrival, OversizedRecord};
use crate::state::State;

/// The name under which the dead letters count as a sink: an oversized record goes to them alone.
pub(super) const DEAD_LETTERS: &str = "dead_letters";

/// Takes arrivals through the pipeline to the drivers.
#[derive(Clone)]
pub(super) struct Worker {
    pub graph: watch::Receiver<Arc<Graph>>,
    pub state: State,
    pub oversized: mpsc::Sender<OversizedRecord>,
    pub arrivals: Arc<Mutex<mpsc::Receiver<Arrival>>>,
}

/// One worker a core: a part is handled by one, blobs run side by side.
pub(super) fn start_workers(worker: Worker) -> JoinSet<()> {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let mut workers = JoinSet::new();
    for _ in 0..cores {
        workers.spawn(worker.clone().run());
    }
    workers
}

impl Worker {
    async fn run(self) {
        loop {
            let arrival = self.arrivals.lock().await.recv().await;
            match arrival {
                Some(Arrival::Batch(batch)) => {
                    // One graph for the whole part: who claims it is who is sent it.
                    let graph = Arc::clone(&self.graph.borrow());
                    let deliveries = graph.pipeline.process(batch, self.state.delivered()).into_iter();
                    for (sink, delivery) in deliveries {
                        if let Some(driver) = graph.drivers.get(&sink) {
                            driver.send(delivery);
                        }
                    }
                }
                Some(Arrival::Oversized(record)) => {
                    if self.oversized.try_send(record).is_err() {
                        tracing::warn!(
                            "too many oversized records wait for the dead letters; one more counts as lost and is fetched again"
                        );
                    }
                }
                None => return,
            }
        }
    }
}

/// Puts oversized records into the dead letters, beside the workers: while their disk is full that takes
/// as long as it is.
pub(super) struct Undertaker {
    pub state: State,
    pub dead: DeadLetters,
    pub dead_id: SinkId,
}

impl Undertaker {
    /// Returns when the last worker is gone and everything is put away. What is dropped before counts as lost.
    pub async fn run(self, mut records: mpsc::Receiver<OversizedRecord>) {
        while let Some(record) = records.recv().await {
            self.bury(record).await;
        }
    }

    /// Puts a record that is too large for memory into the dead letters, once.
    async fn bury(&self, record: OversizedRecord) {
        let OversizedRecord { blob, file, bytes, hash, is_kept, ack } = record;
        let (key, only) = (RecordKey(hash), SinkSet::of(self.dead_id));
        let wanted = self.state.delivered().claim(only, only, std::iter::once((key, ack)));
        if wanted.first().is_none_or(|sinks| sinks.is_empty()) {
            return;
        }
        let head = LetterHead {
            sink: DEAD_LETTERS.to_owned(),
            reason: "oversized",
            answer: if is_kept {
                format!("the record has {bytes} bytes, more than `collect.max_record`")
            } else {
                let hash: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
                format!(
                    "the record has {bytes} bytes, more than `collect.max_record`, and was not kept; 128 bits of the BLAKE3 hash of its bytes: {hash}"
                )
            },
            blob,
            key: Some(key),
            event_id: Vec::new(),
        };
        // Nobody has read it as JSON, so it is kept as a string.
        match file {
            Some(file) if is_kept => self.dead.append_stream(head, file, false).await,
            _ => self.dead.append_without_record(head, bytes).await,
        }
        self.state.acked(self.dead_id, Outcome::Rejected, &[key], None);
    }
}
