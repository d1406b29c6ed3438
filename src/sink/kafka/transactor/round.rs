//! One transaction: what goes into it, its end, and the answers. Comes in: batches and writes that wait, and a
//! producer that may write. Goes out: an answer for each batch that was in it; what could not be begun
//! waits on.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use rdkafka::types::RDKafkaErrorCode as Code;

use super::call::{Call, Failure, injected};
use super::checkpoint::{self, KEYS_IN_A_MESSAGE};
use super::{Actor, Form, Job, Known, Stop, TRANSACTION_BYTES, Write};
use crate::sink::kafka::frame::{self, Frame};
use crate::sink::kafka::ledger::{Standing, Wait};
use crate::sink::kafka::producer::{CHECKPOINT, Producer};
use crate::sink::kafka::verdict::{Class, class, held, is_of_topic, refusal};
use crate::sink::kafka::{PRODUCED_AT_ONCE, QUESTION, WAIT_ON, limit};
use crate::sink::{Accepted, EncodedBatch, SendError, locked};

/// How long messages may be on their way before their transaction is given up. Below its time-out (60 s), so that it is
/// we who abort.
const ON_THE_WAY: Duration = Duration::from_secs(45);
/// Fields of a frame before its headers: the record's key and its feed.
const FIELDS: usize = 2;

/// A batch in a transaction.
struct Open {
    job: Job,
    batch: Arc<EncodedBatch>,
    /// Of every message, in order.
    tickets: Vec<usize>,
    /// 16 bytes a record.
    keys: Vec<u8>,
    /// Whether the brokers have it already.
    had: Vec<bool>,
}

impl Open {
    fn frames(&self) -> Option<Vec<Message<'_>>> {
        frames(&self.batch, &self.job.form)
    }
}

/// A batch of a transaction whose end is not certain: its keys tell.
pub(super) struct Unsure {
    keys: Vec<u8>,
    answer: tokio::sync::oneshot::Sender<Result<Accepted, SendError>>,
}

/// A message that was not taken.
struct Refused {
    ticket: usize,
    code: Code,
}

impl Actor {
    /// Does one transaction with what waits. An error: nothing can be written now.
    pub(super) async fn round(&mut self) -> Result<(), Stop> {
        let producer = self.ready().await?;
        for begin in self.begins.drain(..) {
            let _ = begin.send(Ok(()));
        }
        // A topic of records that is stuck must not hold the state up for good.
        let writes_alone = std::mem::take(&mut self.writes_alone) && !self.writes.is_empty();
        let (opens, is_alone) = if writes_alone { (Vec::new(), false) } else { self.choose() };
        if opens.is_empty() && self.writes.is_empty() {
            return Ok(());
        }
        let breaks = self.shared.breaks();
        let done = self.transaction(&producer, &opens, is_alone).await;
        let ours: Vec<usize> = opens.iter().flat_map(|open| &open.tickets).copied().collect();
        let (refused, noted) = (self.refused_of(&ours), std::mem::take(&mut self.noted));
        let books = self.refused_of(&noted);
        self.shared.ledger.forget(ours.iter().chain(&noted).copied());
        match done {
            Ok(()) => {
                self.count("committed");
                self.landed();
                for open in opens {
                    self.is_had(&open.keys);
                    if !self.suspects.is_empty() {
                        self.suspects.retain(|ticket| !open.tickets.contains(ticket));
                    }
                    let _ = open.job.answer.send(Ok(Accepted::default()));
                }
                for write in self.writes.drain(..) {
                    let _ = write.answer.send(());
                }
                if self.shared.breaks() != breaks {
                    // A request that was repeated inside librdkafka may still arrive, and would end a later
                    // transaction of the same producer.
                    self.let_go("unsure");
                }
                Ok(())
            }
            Err(end) => {
                self.writes_alone = !opens.is_empty();
                let done = self.came_to_nothing(&producer, opens, is_alone, refused, breaks, end).await;
                match books.first() {
                    Some(one) => {
                        let of_state = self.writes.first().filter(|_| one.ticket & CHECKPOINT == 0);
                        let topic = of_state.map_or(self.checkpoints.name.as_str(), |write| &write.topic);
                        Err(Stop::Held(held(one.code, topic)))
                    }
                    None => done,
                }
            }
        }
    }

    /// What was not committed, or not certainly.
    async fn came_to_nothing(
        &mut self,
        producer: &Arc<Producer>,
        opens: Vec<Open>,
        is_alone: bool,
        refused: Vec<Refused>,
        breaks: u64,
        end: End,
    ) -> Result<(), Stop> {
        drop(self.shared.take_landed());
        let id = self.transactional.id.clone();
        if let End::Unsure(reason) = end {
            self.count("unsure");
            self.let_go("unsure");
            tracing::warn!(sink = %self.shared.sink, reason, "the end of a transaction is not certain; a new producer looks what the brokers have");
            let unsure = opens.into_iter().map(|open| Unsure { keys: open.keys, answer: open.job.answer });
            self.unsure.extend(unsure);
            return Ok(());
        }
        self.count("aborted");
        let (reason, fenced) = match end {
            End::Nothing(Failure::Abort(reason)) => match Call::Abort.on(producer, &id).await {
                Ok(()) => {
                    if self.shared.breaks() != breaks {
                        self.let_go("unsure");
                    }
                    (reason, false)
                }
                Err(failure) => {
                    let is_fenced = matches!(failure, Failure::Fenced(_));
                    self.let_go("unsure");
                    (reason, is_fenced)
                }
            },
            End::Nothing(Failure::Fenced(reason)) => (reason, true),
            End::Nothing(Failure::Held(reason)) => {
                self.let_go("fatal");
                self.answer_opens(opens, |actor| actor.fatal(&reason));
                return Err(Stop::Held(reason));
            }
            // Not committed, since nobody asked for it; the next producer aborts it.
            End::Nothing(Failure::Unsure(reason)) | End::Unsure(reason) => {
                self.let_go("unsure");
                (reason, false)
            }
        };
        if fenced {
            self.let_go("fatal");
            self.fenced = true;
        }
        tracing::debug!(sink = %self.shared.sink, reason, "a transaction came to nothing");
        if refused.is_empty() {
            let words = match self.shared.trouble() {
                Some((trouble, said)) => trouble.words(&said),
                None => format!("the transaction came to nothing: {reason}"),
            };
            self.answer_opens(opens, |actor| actor.retry(&words));
            // Writes of the state are still there, and wait a moment.
            return if self.writes.is_empty() { Ok(()) } else { Err(Stop::Later(words)) };
        }
        self.answer_refused(opens, is_alone, &refused).await;
        Ok(())
    }

    fn count(&self, result: &str) {
        self.shared.metrics.kafka_transactions.with_label_values(&[self.shared.sink.as_str(), result]).inc();
    }

    /// Marks records as had, before their courier hears of it and even where none does.
    fn is_had(&self, keys: &[u8]) {
        if let Some(Known { state, sink, .. }) = self.known.get() {
            state.restored(*sink, keys);
        }
    }

    /// A new producer has read what the brokers have: what became of the batches whose transaction had no certain end.
    pub(super) fn resolve(&mut self) {
        let Some(Known { state, sink, .. }) = self.known.get() else { return };
        for Unsure { keys, answer } in std::mem::take(&mut self.unsure) {
            let there = state.delivered().had(*sink, &keys).iter().all(|had| *had);
            let word = if there {
                Ok(Accepted::default())
            } else {
                let reason = format!("sink `{}`: the transaction did not take effect; sent again", self.shared.sink);
                Err(SendError::Slow { after: Some(Duration::ZERO), reason })
            };
            let _ = answer.send(word);
        }
    }

    /// Takes batches for a transaction: all that fit, or one that may hold what is refused, alone. Answers those
    /// of which everything is delivered already, and those that hold what is too large for ourselves.
    fn choose(&mut self) -> (Vec<Open>, bool) {
        let (mut opens, mut bytes) = (Vec::new(), 0);
        while bytes < TRANSACTION_BYTES
            && let Some(job) = self.batches.pop_front()
        {
            if job.answer.is_closed() {
                continue;
            }
            let Some(open) = self.open(job) else { continue };
            if open.tickets.iter().any(|ticket| self.suspects.contains(ticket)) {
                if opens.is_empty() {
                    return (vec![open], true);
                }
                self.batches.push_front(open.job);
                break;
            }
            bytes += open.batch.bytes.len();
            opens.push(open);
        }
        (opens, false)
    }

    /// Looks into a batch; `None` when it has its answer.
    fn open(&mut self, job: Job) -> Option<Open> {
        // Nobody waits for it any more.
        let batch = job.batch.upgrade()?;
        let Some(frames) = frames(&batch, &job.form) else {
            let _ = job.answer.send(Err(self.fatal("a batch of ours is broken; this is a fault of auditferry")));
            return None;
        };
        if let Some(first) = frames.iter().find_map(|message| self.refused.get(&message.frame.ticket)) {
            let reason = first.clone();
            let alike = |index: &usize| self.refused.get(&frames[*index].frame.ticket) == Some(&reason);
            let events: Vec<usize> = (0..frames.len()).filter(alike).collect();
            let tickets: Vec<usize> = events.iter().map(|index| frames[*index].frame.ticket).collect();
            drop(frames);
            let reason = format!("sink `{}`: {reason}", self.shared.sink);
            if job.answer.send(Err(SendError::Reject { events, reason })).is_ok() {
                for ticket in tickets {
                    self.refused.remove(&ticket);
                    self.suspects.remove(&ticket);
                }
            }
            return None;
        }
        let ours = self.kafka.max_message_bytes();
        let size = |frame: &Frame<'_>| frame.value.len() as u64 + frame.key.len() as u64;
        let large: Vec<usize> = (0..frames.len()).filter(|index| size(&frames[*index].frame) >= ours).collect();
        if let Some(first) = large.first() {
            let frame = &frames[*first].frame;
            let reason = refusal(size(frame), frame.topic, Code::MessageSizeTooLarge, ours, None);
            let reason = format!("sink `{}`: {reason}", self.shared.sink);
            drop(frames);
            let _ = job.answer.send(Err(SendError::Reject { events: large, reason }));
            return None;
        }
        let keys: Vec<u8> = frames.iter().flat_map(|frame| frame.key).copied().collect();
        let tickets = frames.iter().map(|frame| frame.frame.ticket).collect();
        if let Some(frame) = frames.first() {
            let mut topics = locked(&self.topics);
            if topics.last.as_deref() != Some(frame.frame.topic) {
                topics.last = Some(frame.frame.topic.to_owned());
            }
        }
        let had = match self.known.get() {
            Some(Known { state, sink, .. }) => state.delivered().had(*sink, &keys),
            None => vec![false; frames.len()],
        };
        drop(frames);
        if had.iter().all(|had| *had) {
            let _ = job.answer.send(Ok(Accepted::default()));
            return None;
        }
        Some(Open { job, batch, tickets, keys, had })
    }

    /// Begins, produces, waits for the reports, commits.
    async fn transaction(&mut self, producer: &Arc<Producer>, opens: &[Open], is_alone: bool) -> Result<(), End> {
        let (id, breaks) = (self.transactional.id.clone(), self.shared.breaks());
        Call::Begin.on(producer, &id).await.map_err(End::Nothing)?;
        let wait = Arc::new(Wait::default());
        let produced = async {
            injected("produce", "before", &id).map_err(End::Nothing)?;
            self.produce(producer, opens, is_alone, &wait).await?;
            if tokio::time::timeout(ON_THE_WAY, wait.none_queued()).await.is_err() {
                return Err(End::Nothing(Failure::Unsure("the brokers did not take all messages in time".to_owned())));
            }
            injected("produce", "after", &id).map_err(End::Nothing)
        };
        produced.await?;
        // Not every message that fails makes librdkafka refuse the commit (one for a topic that is not there does
        // not), and keys without their records would be records lost.
        if !self.are_taken(opens) {
            return Err(End::Nothing(Failure::Abort("a message was not taken".to_owned())));
        }
        match Call::Commit.on(producer, &id).await {
            Ok(()) => Ok(()),
            // librdkafka says of an abort that is needed only where the commit was not sent, or refused.
            Err(failure @ (Failure::Abort(_) | Failure::Held(_))) if self.shared.breaks() == breaks => {
                Err(End::Nothing(failure))
            }
            // The brokers had ended it before the commit came, or somebody did at the same moment.
            Err(Failure::Fenced(reason)) => {
                self.fenced = true;
                Err(End::Unsure(reason))
            }
            Err(Failure::Unsure(reason) | Failure::Abort(reason) | Failure::Held(reason)) => Err(End::Unsure(reason)),
        }
    }

    /// `is_alone`: what was refused in company goes last, one by one, up to the first that is refused again.
    async fn produce(
        &mut self,
        producer: &Arc<Producer>,
        opens: &[Open],
        is_alone: bool,
        wait: &Arc<Wait>,
    ) -> Result<(), End> {
        let mut by_feed: BTreeMap<&str, Vec<u8>> = BTreeMap::new();
        let (mut count, mut bytes) = (0, 0);
        for open in opens {
            let messages = open.frames().unwrap_or_default();
            let wanted = messages.iter().zip(&open.had).filter(|(_, had)| !**had).map(|(message, _)| message);
            let is_suspect = |message: &&Message<'_>| is_alone && self.suspects.contains(&message.frame.ticket);
            let (suspects, others): (Vec<_>, Vec<_>) = wanted.partition(is_suspect);
            let several = others.len();
            for (place, message) in others.into_iter().chain(suspects).enumerate() {
                let ticket = message.frame.ticket;
                if place == several && several > 0 {
                    // What went before has its reports, so that this one has a request of its own.
                    flush(producer).await;
                }
                self.shared.ledger.queue(ticket, producer.generation, wait);
                loop {
                    match producer.produce(&message.frame, &open.job.form.header_names) {
                        Ok(()) => break,
                        Err(Code::QueueFull) => tokio::time::sleep(WAIT_ON).await,
                        Err(code) => {
                            // Refused by librdkafka; the report says so to the rest.
                            let standing = Standing::Failed { code, alone: false };
                            self.shared.ledger.report(ticket, producer.generation, standing);
                            break;
                        }
                    }
                }
                if place >= several {
                    flush(producer).await;
                    if !self.refused_of(&[ticket]).is_empty() {
                        return Err(End::Nothing(Failure::Abort("a message was refused".to_owned())));
                    }
                    self.suspects.remove(&ticket);
                }
                by_feed.entry(message.feed).or_default().extend_from_slice(message.key);
                bytes += message.frame.value.len() as u64;
                count += 1;
                if count % PRODUCED_AT_ONCE == 0 {
                    tokio::task::yield_now().await;
                }
            }
        }
        for (feed, keys) in by_feed {
            for keys in keys.chunks(16 * KEYS_IN_A_MESSAGE) {
                let value = checkpoint::keys(&self.transactional.id, &self.shared.sink, keys);
                self.note(producer, &self.checkpoints.name.clone(), feed, Some(&value), None, CHECKPOINT, wait).await?;
            }
        }
        let writes = std::mem::take(&mut self.writes);
        let noted = self.note_all(producer, &writes, wait).await;
        // All of them, whatever came of it: one that was dropped would tell its caller that another process goes on.
        self.writes = writes;
        noted?;
        self.shared.metrics.sink_bytes.with_label_values(&[self.shared.sink.as_str(), "identity"]).inc_by(bytes);
        Ok(())
    }

    async fn note_all(&mut self, producer: &Arc<Producer>, writes: &[Write], wait: &Arc<Wait>) -> Result<(), End> {
        for write in writes {
            for (key, value) in &write.messages {
                self.note(producer, &write.topic, key, value.as_deref(), Some(0), 0, wait).await?;
            }
        }
        Ok(())
    }

    /// Produces a message of our own books.
    #[expect(clippy::too_many_arguments, reason = "one message, named where it is called")]
    async fn note(
        &mut self,
        producer: &Arc<Producer>,
        topic: &str,
        key: &str,
        value: Option<&[u8]>,
        partition: Option<i32>,
        flag: usize,
        wait: &Arc<Wait>,
    ) -> Result<(), End> {
        self.tickets += 1;
        let ticket = self.tickets | flag;
        self.noted.push(ticket);
        self.shared.ledger.queue(ticket, producer.generation, wait);
        loop {
            match producer.note(topic, ticket, key, value, partition) {
                Ok(()) => return Ok(()),
                Err(Code::QueueFull) => tokio::time::sleep(WAIT_ON).await,
                Err(code) => {
                    self.shared.ledger.report(ticket, producer.generation, Standing::Failed { code, alone: true });
                    let text = format!("the topic `{topic}` takes no message of ours: {code:?}");
                    return Err(End::Nothing(Failure::Abort(text)));
                }
            }
        }
    }

    /// Whether the brokers have taken every message of the transaction.
    fn are_taken(&self, opens: &[Open]) -> bool {
        let ours = opens.iter().flat_map(|open| open.tickets.iter().zip(&open.had));
        let ours = ours.filter(|(_, had)| !**had).map(|(ticket, _)| *ticket).chain(self.noted.iter().copied());
        let nobody = Arc::new(Wait::default());
        self.shared.ledger.adopt(ours, &nobody).iter().all(|standing| *standing == Some(Standing::Taken))
    }

    /// Which of these messages were refused for themselves or for their topic.
    fn refused_of(&self, tickets: &[usize]) -> Vec<Refused> {
        let nobody = Arc::new(Wait::default());
        let standings = self.shared.ledger.adopt(tickets.iter().copied(), &nobody);
        let refused = |(ticket, standing): (&usize, Option<Standing>)| match standing {
            Some(Standing::Failed { code, .. }) if class(code) != Class::Again => {
                Some(Refused { ticket: *ticket, code })
            }
            _ => None,
        };
        tickets.iter().zip(standings).filter_map(refused).collect()
    }

    fn answer_opens(&self, opens: Vec<Open>, word: impl Fn(&Actor) -> SendError) {
        for open in opens {
            let _ = open.job.answer.send(Err(word(self)));
        }
    }

    /// Something in a transaction was refused: what was in company goes alone; what was alone has its answer.
    async fn answer_refused(&mut self, opens: Vec<Open>, is_alone: bool, refused: &[Refused]) {
        let by_event = opens.iter().any(|open| open.job.form.topic_by_event);
        let held_topic = |code: Code| class(code) == Class::Held && !(by_event && is_of_topic(code));
        if let Some(one) = refused.iter().find(|one| held_topic(one.code)) {
            let topic = opens.iter().find_map(|open| topic_of(open, one.ticket));
            let topic = topic.unwrap_or_default();
            locked(&self.topics).troubled.insert(topic.clone());
            let reason = held(one.code, &topic);
            return self.answer_opens(opens, |actor| actor.fatal(&reason));
        }
        for open in opens {
            let ours: Vec<&Refused> = refused.iter().filter(|one| open.tickets.contains(&one.ticket)).collect();
            // Refused before, it went by itself this time.
            let single = ours.iter().find(|one| is_alone && self.suspects.contains(&one.ticket)).copied();
            self.suspects.extend(ours.iter().map(|one| one.ticket));
            match single {
                Some(one) => self.judge(open, one).await,
                None if ours.is_empty() => self.try_again(open, "another batch was refused; sent again"),
                None => self.try_again(open, "something was refused; tried alone"),
            }
        }
    }

    fn try_again(&self, open: Open, reason: &str) {
        let reason = format!("sink `{}`: {reason}", self.shared.sink);
        let _ = open.job.answer.send(Err(SendError::Slow { after: Some(Duration::ZERO), reason }));
    }

    /// A message was refused that had a request of its own. What is said of it is kept until its batch has heard it.
    async fn judge(&mut self, open: Open, one: &Refused) {
        let Some(frames) = open.frames() else { return };
        let Some(at) = frames.iter().position(|message| message.frame.ticket == one.ticket) else { return };
        let frame = &frames[at].frame;
        let topic = frame.topic.to_owned();
        let bytes = (frame.value.len() + frame.key.len()) as u64;
        let is_misplaced = class(one.code) == Class::Held;
        let alike = |message: &Message<'_>| is_misplaced && message.frame.topic == topic;
        let tickets: Vec<usize> = frames
            .iter()
            .filter(|message| message.frame.ticket == one.ticket || alike(message))
            .map(|message| message.frame.ticket)
            .collect();
        let is_most = is_misplaced && 2 * tickets.len() > frames.len();
        drop(frames);
        if is_most {
            locked(&self.topics).troubled.insert(topic.clone());
            let _ = open.job.answer.send(Err(self.fatal(&held(one.code, &topic))));
            return;
        }
        let reason = if is_misplaced {
            format!("{}; then replay the record", held(one.code, &topic))
        } else {
            let theirs = match one.code {
                Code::MessageSizeTooLarge => self.limit_of(&topic).await,
                _ => None,
            };
            refusal(bytes, &topic, one.code, self.kafka.max_message_bytes(), theirs)
        };
        for ticket in tickets {
            self.refused.insert(ticket, reason.clone());
        }
        // Looked at again, it has its answer, whoever listens by then.
        let Open { job, batch, .. } = open;
        drop(self.open(job));
        drop(batch);
    }

    /// What the topic takes at most, asked once.
    async fn limit_of(&self, topic: &str) -> Option<u64> {
        let known = locked(&self.topics).limits.get(topic).copied();
        if let Some(known) = known {
            return known;
        }
        let bytes = limit::of_topic(&self.config, &self.kafka, topic, QUESTION).await;
        locked(&self.topics).limits.insert(topic.to_owned(), bytes);
        bytes
    }
}

/// Sends what is queued and waits for its reports.
async fn flush(producer: &Arc<Producer>) {
    let producer = Arc::clone(producer);
    let flush = move || producer.call(|inner| rdkafka::producer::Producer::flush(inner, ON_THE_WAY));
    // What has no report yet is seen by the ledger.
    let _ = tokio::task::spawn_blocking(flush).await;
}

/// How a transaction ended that did not end well.
enum End {
    /// It did not take effect.
    Nothing(Failure),
    /// It may have.
    Unsure(String),
}

/// A message, its record's key and its feed.
struct Message<'a> {
    frame: Frame<'a>,
    key: &'a [u8],
    feed: &'a str,
}

fn frames<'b>(batch: &'b EncodedBatch, form: &Form) -> Option<Vec<Message<'b>>> {
    let frames = frame::read(&batch.bytes, &batch.ends, form.header_names.len() + FIELDS)?;
    let mut parted = Vec::with_capacity(frames.len());
    for mut frame in frames {
        let headers = frame.headers.split_off(FIELDS);
        let fields = std::mem::replace(&mut frame.headers, headers);
        let (key, feed) = (*fields.first()?, *fields.get(1)?);
        parted.push(Message { frame, key, feed: std::str::from_utf8(feed).ok()? });
    }
    Some(parted)
}

fn topic_of(open: &Open, ticket: usize) -> Option<String> {
    let frames = open.frames()?;
    frames.iter().find(|message| message.frame.ticket == ticket).map(|message| message.frame.topic.to_owned())
}
