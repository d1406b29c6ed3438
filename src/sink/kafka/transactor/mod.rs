//! The one owner of a transactional producer. Batches of several couriers go into one transaction, with
//! the keys of their records as messages of the checkpoint topic; each batch has its answer when the
//! transaction has ended. What is known to be delivered is never produced again, whoever sends it.
//!
//! Comes in: batches, and writes of the state. Goes out: answers. Memory: the batches that couriers hold, once
//! more while they wait here: what a courier has given up waiting for is gone with it.
//!
//! Exactly once rests on four things. A new producer is initialised before anything is written, which ends
//! what its predecessor left open; then the checkpoints are read to an end taken afterwards, into the delivered
//! map; whatever the map says that this sink has is not produced; and after any end of a transaction that is not
//! certain all of this is done again. Progress (settled blobs) is journalled only after the answers, so it never runs ahead
//! of the keys, and keys in the transaction are enough. Never: two transactions at once, an answer before the end.

mod call;
pub(super) mod checkpoint;
pub(super) mod reader;
mod round;
mod start;

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::RecvTimeoutError;
use std::sync::{Arc, Mutex, OnceLock, Weak};
use std::time::Duration;

use rdkafka::types::RDKafkaErrorCode as Code;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::clients::Clients;
use super::producer::{Producer, Recipe, Shared};
use super::verdict::{Class, Trouble, class, held};
use super::{ASKED_AT_ONCE, Accepted, QUESTION, SinkBuildError, Topics, WAIT_ON, diagnosis};
use crate::config::{KafkaConfig, SinkConfig, TransactionalConfig};
use crate::metrics::Metrics;
use crate::retry::Backoff;
use crate::sink::{EncodedBatch, SendError, SinkId, locked};
use crate::state::{State, StateError};
use reader::{Positions, Topic};

/// Work that waits for the actor: the batches of all couriers (at most 64, see `concurrency`), writes of the
/// state, of which there is one at a time, and what couriers have given up waiting for while a transaction hung
/// (at most some 75 s, a try every two): empty by then, some hundred bytes each.
const WAITING: usize = 8 * 1024;
/// Bytes after which a transaction takes no further batch: a tenth of a second of a fast broker, and
/// little to do again after an abort.
const TRANSACTION_BYTES: usize = 8 << 20;
/// Where tickets of our own books begin, away from those of records.
const OURS: usize = 1 << (usize::BITS - 2);
/// How many times longer is waited where no connection is in trouble: a topic that is not there is called so after 5 s.
const LONGER: u32 = 4;
/// How long a write of the state may take before nothing new is fetched: a broker that another stands in for takes less.
const PATIENCE_OF_STATE: Duration = Duration::from_secs(5);
/// How often a write looks whether it is still waited for.
const LOOK: Duration = Duration::from_millis(50);
/// Between two tries to begin anew, while nobody's retry does so.
const ANEW: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(5));

/// Hands work to the actor. Ends with its last clone, and the actor with it.
pub struct Transactor {
    sink: String,
    work: mpsc::Sender<Work>,
    shared: Arc<Shared>,
    known: Arc<OnceLock<Known>>,
    topics: Arc<Mutex<Topics>>,
    standstill: Standstill,
    config: SinkConfig,
    kafka: KafkaConfig,
    /// The process ends: nobody waits for a write any more.
    gives_up: AtomicBool,
}

/// Why nothing could be written when it was last tried.
type Standstill = Arc<Mutex<Option<String>>>;

/// Where what the sink has is known.
struct Known {
    state: State,
    sink: SinkId,
    /// Whether the state can make room for keys while they are read: not when it is kept by this very producer.
    makes_room: bool,
}

/// How the messages of a sink are made, which a reload may change.
pub(super) struct Form {
    pub header_names: Vec<String>,
    /// Whether records of one batch may be for different topics.
    pub topic_by_event: bool,
}

enum Work {
    Batch(Job),
    Write(Write),
    /// Take over now, though there is nothing to write.
    Begin(oneshot::Sender<Result<(), String>>),
    /// The login may have been mended: begin with a new producer.
    Anew,
}

/// A batch of frames that somebody waits for.
struct Job {
    form: Arc<Form>,
    /// Gone when nobody waits any more.
    batch: Weak<EncodedBatch>,
    answer: oneshot::Sender<Result<Accepted, SendError>>,
}

/// Messages of the state; written again until they are, for the last one of a key counts.
struct Write {
    topic: Arc<str>,
    messages: Vec<(String, Option<Vec<u8>>)>,
    answer: std::sync::mpsc::SyncSender<()>,
}

/// Why nothing can be written now.
#[derive(Clone, Debug)]
enum Stop {
    Later(String),
    Held(String),
    /// For good: another process goes on.
    Superseded,
}

impl Transactor {
    /// Starts the actor, which does nothing before there is work.
    pub(super) fn begin(
        config: &SinkConfig,
        kafka: &KafkaConfig,
        metrics: Arc<Metrics>,
    ) -> Result<Arc<Transactor>, SinkBuildError> {
        let sink = config.name.clone();
        let Some(transactional) = kafka.transactional.clone() else {
            return Err(SinkBuildError::Kafka { sink, reason: "no transactional id".to_owned() });
        };
        // Read again for each producer; what cannot be read is said now.
        Recipe::read(config, kafka).map_err(|error| error.of(&sink))?;
        metrics.sink_bytes.with_label_values(&[&sink, "identity"]);
        for reason in ["fatal", "login", "unsure"] {
            metrics.kafka_renewed.with_label_values(&[&sink, reason]);
        }
        for result in ["committed", "aborted", "unsure"] {
            metrics.kafka_transactions.with_label_values(&[&sink, result]);
        }
        let shared = Arc::new(Shared::new(&sink, metrics));
        let (work, arrivals) = mpsc::channel(WAITING);
        let known = Arc::<OnceLock<Known>>::default();
        let topics = Arc::<Mutex<Topics>>::default();
        let standstill = Standstill::default();
        let actor = Actor {
            checkpoints: checkpoints(&transactional),
            transactional,
            config: config.clone(),
            kafka: kafka.clone(),
            shared: Arc::clone(&shared),
            known: Arc::clone(&known),
            topics: Arc::clone(&topics),
            standstill: Arc::clone(&standstill),
            work: arrivals,
            batches: VecDeque::new(),
            writes: Vec::new(),
            writes_alone: false,
            begins: Vec::new(),
            unsure: Vec::new(),
            suspects: HashSet::new(),
            refused: HashMap::new(),
            producer: None,
            generation: 0,
            tickets: OURS,
            noted: Vec::new(),
            is_prepared: false,
            owns: false,
            fenced: false,
            positions: None,
            keys_known: false,
        };
        tokio::spawn(actor.run());
        let (config, kafka, gives_up) = (config.clone(), kafka.clone(), AtomicBool::new(false));
        Ok(Arc::new(Transactor { sink, work, shared, known, topics, standstill, config, kafka, gives_up }))
    }

    /// Says where what the sink has is known; before the first batch.
    pub(super) fn attach(&self, state: &State, sink: SinkId) {
        let makes_room =
            state.base::<super::keeper::Keeper>().is_none_or(|keeper| keeper.transactor_of(&self.sink).is_none());
        let _ = self.known.set(Known { state: state.clone(), sink, makes_room });
    }

    /// Takes over from whoever wrote before; returns when nobody else can write any more. Why not, where somebody
    /// must mend something; as long as the brokers are away it waits.
    pub(super) async fn take_over(&self) -> Result<(), String> {
        let (answer, told) = oneshot::channel();
        let ended = || "the producer has ended".to_owned();
        self.work.send(Work::Begin(answer)).await.map_err(|_| ended())?;
        told.await.unwrap_or_else(|_| Err(ended()))
    }

    /// What is wrong with the connection, in words.
    pub(super) fn trouble(&self) -> String {
        let found = self.shared.trouble().map(|(trouble, said)| trouble.words(&said));
        let found = found.or_else(|| locked(&self.standstill).clone());
        found.unwrap_or_else(|| "no answer from the brokers".to_owned())
    }

    /// Writes messages of the state; returns when they are committed. Blocks, as long as the brokers are away, or until
    /// [`Transactor::give_up`]. An error: another process has taken over, or this one ends, and nothing must be counted on.
    pub(super) fn write(&self, topic: Arc<str>, messages: Vec<(String, Option<Vec<u8>>)>) -> std::io::Result<()> {
        let (answer, told) = std::sync::mpsc::sync_channel(1);
        let ended = || std::io::Error::other("another process has taken over the transactional id, or this one ends");
        let given_up = || std::io::Error::other("the brokers have not taken it before the process ended");
        let mut work = Work::Write(Write { topic, messages, answer });
        loop {
            match self.work.try_send(work) {
                Ok(()) => break,
                Err(mpsc::error::TrySendError::Closed(_)) => return Err(ended()),
                Err(mpsc::error::TrySendError::Full(_)) if self.gives_up.load(Ordering::Acquire) => {
                    return Err(given_up());
                }
                Err(mpsc::error::TrySendError::Full(back)) => {
                    work = back;
                    std::thread::park_timeout(LOOK);
                }
            }
        }
        let began = std::time::Instant::now();
        let mut waits = None;
        loop {
            match told.recv_timeout(LOOK) {
                Ok(()) => {
                    // Not every write is of the journal, whose next commit would say so.
                    waits.into_iter().for_each(State::goes_on);
                    return Ok(());
                }
                Err(RecvTimeoutError::Disconnected) => return Err(ended()),
                Err(RecvTimeoutError::Timeout) if self.gives_up.load(Ordering::Acquire) => return Err(given_up()),
                Err(RecvTimeoutError::Timeout) => {}
            }
            if began.elapsed() > PATIENCE_OF_STATE
                && let Some(Known { state, .. }) = self.known.get()
            {
                state.waits(self.trouble());
                waits = Some(state);
            }
        }
    }

    /// The process ends: no write waits for the brokers any longer.
    pub(super) fn give_up(&self) {
        self.gives_up.store(true, Ordering::Release);
    }

    /// Hands a batch over and waits for the end of its transaction, at most for `patience`. A batch that is handed over
    /// again is found among what is delivered, if it is.
    pub(super) async fn send(
        &self,
        batch: &EncodedBatch,
        form: &Arc<Form>,
        patience: Duration,
    ) -> Result<Accepted, SendError> {
        let taken_before = self.shared.taken.load(std::sync::atomic::Ordering::Acquire);
        let (answer, told) = oneshot::channel();
        let batch = Arc::new(batch.clone());
        let job = Job { form: Arc::clone(form), batch: Arc::downgrade(&batch), answer };
        let answered = async {
            self.work.send(Work::Batch(job)).await.ok()?;
            told.await.ok()
        };
        tokio::pin!(answered);
        let sink = &self.sink;
        let mut told = tokio::time::timeout(patience, &mut answered).await;
        if told.is_err() && self.shared.trouble().is_none() {
            told = tokio::time::timeout(patience * LONGER, answered).await;
        }
        match told {
            Ok(Some(answer)) => answer,
            Ok(None) => Err(SendError::Fatal { reason: format!("sink `{sink}`: the producer has ended") }),
            Err(_) => {
                diagnosis::learn(&self.shared, &self.kafka).await;
                match self.shared.trouble() {
                    Some((trouble @ (Trouble::Login | Trouble::Tls), said)) => {
                        Err(SendError::Fatal { reason: format!("sink `{sink}`: {}", trouble.words(&said)) })
                    }
                    found => {
                        let words = found.map(|(trouble, said)| trouble.words(&said));
                        let words =
                            words.unwrap_or_else(|| "the brokers have not ended the transaction yet".to_owned());
                        let reason = format!("sink `{sink}`: {words}");
                        let moves = self.shared.taken.load(std::sync::atomic::Ordering::Acquire) > taken_before;
                        Err(if moves || self.shared.is_throttled() {
                            SendError::Slow { after: Some(WAIT_ON), reason }
                        } else {
                            SendError::Retry { after: Some(WAIT_ON), reason }
                        })
                    }
                }
            }
        }
    }

    /// Reads the login again, and asks for the topics that were in trouble.
    pub(super) async fn probe(&self) -> Result<(), SendError> {
        let fatal = |reason: String| SendError::Fatal { reason: format!("sink `{}`: {reason}", self.sink) };
        let retry =
            |reason: String| SendError::Retry { after: None, reason: format!("sink `{}`: {reason}", self.sink) };
        if self.work.is_closed() {
            return Err(fatal("the producer has ended".to_owned()));
        }
        let (config, kafka) = (self.config.clone(), self.kafka.clone());
        let asked: Vec<String> = {
            let topics = locked(&self.topics);
            topics.troubled.iter().chain(topics.last.as_ref()).take(ASKED_AT_ONCE).cloned().collect()
        };
        // A client of its own: it shows whether the login is good now, whatever the producer thinks of it.
        let clients = tokio::task::spawn_blocking(move || Clients::read(&config, &kafka)).await;
        let clients = clients.map_err(|join| retry(join.to_string()))?.map_err(|error| fatal(error.to_string()))?;
        if matches!(self.shared.trouble(), Some((Trouble::Login, _))) {
            clients.renew_token().await;
        }
        let ask = move || {
            let mut answers = Vec::new();
            for topic in &asked {
                let answer = reader::ask(&clients, Some(topic), QUESTION);
                answer.map_err(|(code, heard)| (code, heard, topic.clone()))?;
                answers.push(topic.clone());
            }
            if asked.is_empty() {
                let answer = reader::ask(&clients, None, QUESTION);
                answer.map_err(|(code, heard)| (code, heard, String::new()))?;
            }
            Ok::<_, (Code, Option<(Trouble, String)>, String)>(answers)
        };
        match tokio::task::spawn_blocking(ask).await {
            Err(join) => Err(retry(join.to_string())),
            Ok(Err((code, _, topic))) if class(code) == Class::Held => Err(fatal(held(code, &topic))),
            Ok(Err((code, heard, _))) => match self.shared.trouble().or(heard) {
                Some((trouble @ (Trouble::Login | Trouble::Tls), said)) => Err(fatal(trouble.words(&said))),
                found => {
                    let words = found.map(|(trouble, said)| trouble.words(&said));
                    Err(retry(words.unwrap_or_else(|| format!("no answer from the brokers: {code:?}"))))
                }
            },
            Ok(Ok(answered)) => {
                let mut topics = locked(&self.topics);
                let before = topics.troubled.len();
                topics.troubled.retain(|topic| !answered.contains(topic));
                // The producer still believes that a topic is not there.
                let is_mended = topics.troubled.len() < before;
                drop(topics);
                if is_mended {
                    let _ = self.work.try_send(Work::Anew);
                }
                if matches!(self.shared.trouble(), Some((Trouble::Login | Trouble::Tls, _))) {
                    self.shared.well();
                    let _ = self.work.try_send(Work::Anew);
                }
                Ok(())
            }
        }
    }
}

/// The checkpoint topic as it must be: nothing forgotten before the service forgets it (7 days, activity-api 1.7), with a
/// day for what is in flight and one more, since the brokers forget whole segments.
fn checkpoints(transactional: &TransactionalConfig) -> Topic {
    const DAY_MS: i64 = 24 * 3600 * 1000;
    let settings = [
        ("cleanup.policy", "delete".to_owned()),
        ("retention.ms", (9 * DAY_MS).to_string()),
        // A limit by size would forget early where much comes.
        ("retention.bytes", "-1".to_owned()),
        // By the brokers' clock: one of ours that is wrong would let them forget at once.
        ("message.timestamp.type", "LogAppendTime".to_owned()),
        ("segment.ms", DAY_MS.to_string()),
        ("max.message.bytes", reader::MESSAGE_BYTES.to_string()),
    ];
    Topic {
        name: transactional.checkpoint_topic.clone(),
        // By tenant and content type; enough for replicas that share them some day (operations 2.3).
        partitions: 16,
        settings: settings.into(),
        fault: |setting| {
            if setting("cleanup.policy").is_some_and(|policy| policy.contains("compact")) {
                return Some("is compacted, and would forget all keys of a feed but the newest");
            }
            if setting("retention.bytes").and_then(|kept| kept.parse::<i64>().ok()).is_some_and(|kept| kept >= 0) {
                return Some("forgets by size (`retention.bytes`), however young the keys are");
            }
            if reader::is_narrow(setting) {
                return Some(reader::NARROW);
            }
            let kept = setting("retention.ms").and_then(|kept| kept.parse::<i64>().ok());
            let least = kept.is_some_and(|kept| (0..8 * DAY_MS).contains(&kept));
            least.then_some("forgets before the 8 days after which nothing can come again")
        },
    }
}

/// See the module's head.
struct Actor {
    transactional: TransactionalConfig,
    checkpoints: Topic,
    config: SinkConfig,
    kafka: KafkaConfig,
    shared: Arc<Shared>,
    known: Arc<OnceLock<Known>>,
    topics: Arc<Mutex<Topics>>,
    standstill: Standstill,
    work: mpsc::Receiver<Work>,
    /// Not in a transaction yet.
    batches: VecDeque<Job>,
    writes: Vec<Write>,
    /// The next transaction is of writes only, because the one before came to nothing.
    writes_alone: bool,
    begins: Vec<oneshot::Sender<Result<(), String>>>,
    /// Of a transaction whose end is not certain.
    unsure: Vec<round::Unsure>,
    /// Messages that were refused in company: their batches go alone.
    suspects: HashSet<usize>,
    /// Refused for good, and why, until their batch has heard it.
    refused: HashMap<usize, String>,
    producer: Option<Arc<Producer>>,
    generation: u64,
    /// Of messages of our own books.
    tickets: usize,
    /// Those of them in the transaction.
    noted: Vec<usize>,
    /// The topics have been looked at.
    is_prepared: bool,
    /// We have said that this process writes.
    owns: bool,
    /// Our epoch is over; why is to be found out before anything is begun.
    fenced: bool,
    /// How far the checkpoints have been read.
    positions: Option<Positions>,
    /// What they say is in the delivered map.
    keys_known: bool,
}

impl Actor {
    async fn run(mut self) {
        let mut backoff = Backoff::new(ANEW.0, ANEW.1);
        loop {
            let nothing = self.batches.is_empty() && self.writes.is_empty() && self.begins.is_empty();
            if nothing && self.unsure.is_empty() {
                let Some(work) = self.work.recv().await else { break };
                self.take(work);
            }
            self.take_what_waits();
            // Its courier has given up waiting, or is gone; where it waits, it sends the batch again.
            self.batches.retain(|job| !job.answer.is_closed());
            match self.round().await {
                Ok(()) => {
                    backoff.reset();
                    *locked(&self.standstill) = None;
                }
                Err(Stop::Superseded) => return self.superseded().await,
                Err(stop) => {
                    let stop = self.in_better_words(stop).await;
                    if let Stop::Later(reason) | Stop::Held(reason) = &stop {
                        *locked(&self.standstill) = Some(reason.clone());
                    }
                    self.answer_all(&stop);
                    if self.work.is_closed() && self.work.is_empty() {
                        break;
                    }
                    let until = Instant::now() + backoff.next_delay(None).max(ANEW.0);
                    tokio::time::sleep_until(until).await;
                }
            }
        }
    }

    /// A handshake that is refused has a reason that librdkafka does not tell.
    async fn in_better_words(&self, stop: Stop) -> Stop {
        diagnosis::learn(&self.shared, &self.kafka).await;
        match self.shared.trouble() {
            Some((trouble @ Trouble::Tls, said)) => Stop::Held(trouble.words(&said)),
            _ => stop,
        }
    }

    fn take(&mut self, work: Work) {
        match work {
            Work::Batch(job) => self.batches.push_back(job),
            Work::Write(write) => self.writes.push(write),
            Work::Begin(answer) => self.begins.push(answer),
            Work::Anew => self.let_go("login"),
        }
    }

    fn take_what_waits(&mut self) {
        while let Ok(work) = self.work.try_recv() {
            self.take(work);
        }
    }

    /// The next round begins with a new producer.
    fn let_go(&mut self, reason: &str) {
        if self.producer.take().is_some() {
            self.shared.metrics.kafka_renewed.with_label_values(&[self.shared.sink.as_str(), reason]).inc();
        }
    }

    fn retry(&self, reason: &str) -> SendError {
        SendError::Retry { after: None, reason: format!("sink `{}`: {reason}", self.shared.sink) }
    }

    fn fatal(&self, reason: &str) -> SendError {
        SendError::Fatal { reason: format!("sink `{}`: {reason}", self.shared.sink) }
    }

    fn answer_all(&mut self, stop: &Stop) {
        if let Stop::Held(reason) = stop {
            for begin in self.begins.drain(..) {
                let _ = begin.send(Err(reason.clone()));
            }
        }
        self.begins.retain(|begin| !begin.is_closed());
        for job in std::mem::take(&mut self.batches) {
            let error = match stop {
                Stop::Later(reason) => self.retry(reason),
                Stop::Held(reason) => self.fatal(reason),
                Stop::Superseded => self.fatal("another process has taken over"),
            };
            let _ = job.answer.send(Err(error));
        }
    }

    /// Writes nothing more, ever, and lets the process end.
    async fn superseded(mut self) {
        let id = self.transactional.id.clone();
        tracing::error!(sink = %self.shared.sink, transactional_id = id, "another process has taken over; this one writes nothing more and ends");
        self.producer = None;
        if let Some(known) = self.known.get() {
            known.state.fail(&StateError::Superseded { id });
        }
        self.unsure.clear();
        loop {
            self.answer_all(&Stop::Superseded);
            // Without an answer: whoever waits for it is told so by its end.
            self.writes.clear();
            self.begins.clear();
            let Some(work) = self.work.recv().await else { break };
            self.take(work);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checkpoints_that_forget_too_early_are_refused() {
        let transactional = TransactionalConfig { id: "x".into(), checkpoint_topic: "c".into() };
        let topic = checkpoints(&transactional);
        let fault = |name: &str, value: &str| {
            let setting = |asked: &str| {
                let ours = topic.settings.iter().find(|(name, _)| *name == asked).map(|(_, value)| value.clone());
                if asked == name { Some(value.to_owned()) } else { ours }
            };
            (topic.fault)(&setting).is_some()
        };
        assert!(!fault("", ""), "as we make it");
        assert!(!fault("retention.ms", "-1"));
        assert!(fault("retention.ms", "86400000"));
        assert!(fault("retention.bytes", "1073741824"));
        assert!(fault("max.message.bytes", "500000"));
        assert!(fault("cleanup.policy", "compact,delete"));
        assert!(topic.settings.contains(&("message.timestamp.type", "LogAppendTime".to_owned())));
    }
}
