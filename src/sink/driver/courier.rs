//! The life of one batch: sent, and sent again, until every event of it has a verdict. The one retry
//! loop for all kinds of sinks.

use std::collections::VecDeque;
use std::sync::Arc;

use tokio::sync::watch;
use tokio::time::Instant;

use super::batch::Batch;
use super::causes::Causes;
use super::circuit::{Circuit, Turn};
use super::limit::Limit;
use super::queue::{Item, Unsettled, Verdicts};
use super::told_to_stop;
use crate::config::RetryConfig;
use crate::failpoint;
use crate::retry::Backoff;
use crate::sink::dead_letters::DeadLetters;
use crate::sink::{Partial, SendError, Sink};

/// Refusals of single events in one piece before it is halved. Each refusal sends all the others
/// again: with many, halving costs far fewer bytes (n log n instead of n²).
const REFUSALS_BEFORE_HALVING: usize = 8;

/// Carries batches to one sink.
pub(super) struct Courier<S> {
    pub sink: S,
    pub circuit: Circuit,
    pub verdicts: Arc<Verdicts>,
    pub dead: DeadLetters,
    pub retry: RetryConfig,
    pub limit: Option<Limit>,
    /// Told when nothing more is to be sent.
    pub stopped: watch::Receiver<bool>,
}

/// What was refused of a batch so far, with the answers, in step.
struct Refused {
    events: Unsettled,
    answers: Vec<String>,
    /// Why, in words that stay the same from answer to answer.
    causes: Causes,
    /// Some of it for a place that the receiver does not have or allow.
    misplaced: bool,
}

impl Refused {
    fn push(&mut self, items: Vec<Item>, answer: &str, cause: &str) {
        self.causes.add(cause, items.len());
        self.answers.resize(self.answers.len() + items.len(), answer.to_owned());
        self.events.items.extend(items);
    }

    fn len(&self) -> usize {
        self.answers.len()
    }
}

impl<S: Sink> Courier<S> {
    /// Returns when every event of the batch has a verdict. A batch that has not been sent when the driver is
    /// told to stop is lost: it must not begin what nobody would wait for.
    pub async fn carry(&self, batch: Batch) {
        if let Some(limit) = &self.limit {
            let mut stopped = self.stopped.clone();
            tokio::select! {
                biased;
                () = told_to_stop(&mut stopped) => return,
                () = limit.wait(batch.len(), batch.encoded.bytes.len()) => {}
            }
        }
        let mut batch = Some(batch);
        while let Some(whole) = batch.take() {
            let events = whole.len();
            let mut refused = self.nothing_refused();
            let mut pieces = vec![whole];
            while let Some(piece) = pieces.pop() {
                self.carry_piece(piece, events, &mut pieces, &mut refused).await;
            }
            batch = self.judge(events, refused).await;
        }
    }

    fn nothing_refused(&self) -> Refused {
        Refused {
            events: Unsettled::new(Vec::new(), Arc::clone(&self.verdicts)),
            answers: Vec::new(),
            causes: Causes::default(),
            misplaced: false,
        }
    }

    /// Sends one piece of a batch of `events` until all its events are delivered or refused; what it
    /// is cut into is left in `pieces`.
    async fn carry_piece(&self, mut piece: Batch, events: usize, pieces: &mut Vec<Batch>, refused: &mut Refused) {
        let mut backoff = Backoff::new(self.retry.initial, self.retry.max);
        // Taken of the piece by answers that judged each event by itself.
        let (mut refusals, mut taken) = (0, 0);
        while piece.len() > 0 {
            self.verdicts.room().await;
            let turn = self.circuit.turn(&self.sink).await;
            let (began, in_flight) = (Instant::now(), self.verdicts.in_flight());
            let result = self.sink.send(&piece.encoded).await;
            drop(in_flight);
            let seconds = began.elapsed().as_secs_f64();
            self.verdicts.metrics.sink_send_seconds.with_label_values(&[&self.verdicts.name]).observe(seconds);
            let (indices, reason, cause) = match result {
                Ok(accepted) => {
                    failpoint::pass("send");
                    self.verdicts.batch("delivered");
                    self.circuit.taken(turn, refused.len() == 0 && taken + piece.len() == events);
                    piece.events.delivered(accepted.position.as_ref());
                    return;
                }
                Err(SendError::Retry { after, reason }) => {
                    drop(turn);
                    self.verdicts.batch("retried");
                    self.verdicts.retry(if after.is_some() { "told_to_wait" } else { "failed" });
                    self.circuit.failed(&reason);
                    tracing::debug!(sink = %self.verdicts.name, reason, "a batch is sent again");
                    tokio::time::sleep(backoff.next_delay(after)).await;
                    continue;
                }
                Err(SendError::Slow { after, reason }) => {
                    drop(turn);
                    self.verdicts.batch("retried");
                    self.verdicts.retry("slow");
                    self.circuit.slow();
                    tracing::debug!(sink = %self.verdicts.name, reason, "a batch is waited for");
                    backoff.reset();
                    tokio::time::sleep(backoff.next_delay(after)).await;
                    continue;
                }
                Err(SendError::Fatal { reason }) => {
                    self.verdicts.batch("refused");
                    self.verdicts.retry("refused");
                    self.circuit.refused(&reason);
                    drop(turn);
                    continue;
                }
                Err(SendError::Reject { events: indices, reason }) if is_ascending_within(&indices, piece.len()) => {
                    (indices, reason.clone(), reason)
                }
                Err(SendError::Partial(partial)) if is_of_batch(&partial, piece.len()) => {
                    let refusals_now = partial.refused.len();
                    let (after, reason) = (partial.after, partial.reason.clone());
                    taken += partial.taken.len();
                    self.settle(&mut piece, *partial, refused);
                    self.circuit.answered(turn);
                    if piece.len() == 0 {
                        self.verdicts.batch(if refusals_now == 0 { "delivered" } else { "rejected" });
                        return;
                    }
                    // The receiver took or judged others meanwhile: no failure of it as a whole.
                    self.verdicts.batch("retried");
                    self.verdicts.retry(if after.is_some() { "told_to_wait" } else { "slow" });
                    tracing::debug!(sink = %self.verdicts.name, reason, events = piece.len(), "a part of a batch is sent again");
                    tokio::time::sleep(backoff.next_delay(after)).await;
                    continue;
                }
                // An answer that names no event of this batch says as much as one that names none.
                Err(
                    error @ (SendError::Split { .. }
                    | SendError::Misplaced { .. }
                    | SendError::Partial(_)
                    | SendError::Reject { .. }),
                ) => {
                    if piece.len() > 1 {
                        self.verdicts.batch("split");
                        self.circuit.answered(turn);
                        pieces.push(piece.split_off_half());
                        backoff.reset();
                        continue;
                    }
                    refused.misplaced |= matches!(error, SendError::Misplaced { .. });
                    let reason = error.to_string();
                    let cause = if let SendError::Split { cause, .. } = error { cause } else { reason.clone() };
                    (vec![0], reason, cause)
                }
            };
            self.verdicts.batch("rejected");
            refusals += indices.len();
            refused.push(piece.remove(&indices), &reason, &cause);
            self.circuit.answered(turn);
            if refusals >= REFUSALS_BEFORE_HALVING && piece.len() > 1 {
                pieces.push(piece.split_off_half());
                refusals = 0;
            }
            backoff.reset();
        }
    }

    /// Takes out of `piece` what has a verdict: delivered now, or refused until the whole batch is judged.
    fn settle(&self, piece: &mut Batch, partial: Partial, refused: &mut Refused) {
        let mut gone: Vec<usize> =
            partial.taken.iter().copied().chain(partial.refused.iter().map(|refusal| refusal.event)).collect();
        gone.sort_unstable();
        let (mut taken, mut refusals) =
            (Vec::with_capacity(partial.taken.len()), partial.refused.into_iter().peekable());
        for (index, item) in gone.iter().zip(piece.remove(&gone)) {
            match refusals.next_if(|refusal| refusal.event == *index) {
                Some(refusal) => {
                    refused.misplaced |= refusal.misplaced;
                    refused.push(vec![item], &refusal.reason, &refusal.cause);
                }
                None => taken.push(item),
            }
        }
        if !taken.is_empty() {
            failpoint::pass("send");
            Unsettled::new(taken, Arc::clone(&self.verdicts)).delivered(None);
        }
    }

    /// Decides about what was refused of a batch of `events`: dead letters, or, when the receiver
    /// refuses most of everything, back to it. Returns what must be carried again.
    async fn judge(&self, events: usize, refused: Refused) -> Option<Batch> {
        let reason = refused.answers.last().cloned();
        let count = refused.len();
        if let Some(reason) = &reason
            && self.circuit.is_mass_refusal(events, &refused.causes, reason, refused.misplaced)
        {
            return self.wait_for_one_taken(refused.events).await;
        }
        self.circuit.finished(events, &refused.causes);
        if count > 0 {
            let letters = refused.events.items.iter().zip(&refused.answers);
            let letters = letters.map(|(item, answer)| (item.event(), answer.as_str()));
            self.dead.append(&self.verdicts.name, letters, |event| self.sink.kept(event)).await;
            tracing::warn!(sink = %self.verdicts.name, events = count, reason = reason.as_deref().unwrap_or_default(),
                "events were refused for good and lie in the dead letters");
            refused.events.rejected();
        }
        None
    }

    /// Offers the refused events one by one, each after a wait and a probe, round and round, until
    /// the receiver takes one: a single event that is truly bad must not keep a mended receiver shut.
    /// Returns the others. Each is encoded once, whatever the rounds: a sink may still hold the copy that
    /// it was given before, and knows it by its encoding.
    async fn wait_for_one_taken(&self, mut refused: Unsettled) -> Option<Batch> {
        let alone = |item| Batch::of(Unsettled::new(vec![item], Arc::clone(&self.verdicts)), &self.sink);
        let mut waiting: VecDeque<Batch> = refused.take().into_iter().map(alone).collect();
        while let Some(sample) = waiting.pop_front() {
            let turn = self.circuit.turn(&self.sink).await;
            match self.sink.send(&sample.encoded).await {
                Ok(accepted) => {
                    failpoint::pass("send");
                    self.verdicts.batch("delivered");
                    self.circuit.taken(turn, true);
                    sample.events.delivered(accepted.position.as_ref());
                    break;
                }
                Err(error) => {
                    let freed = matches!(turn, Turn::Free);
                    drop(turn);
                    tracing::debug!(sink = %self.verdicts.name, %error, "a held event is still refused");
                    waiting.push_back(sample);
                    if freed {
                        // Another courier's batch was taken, so the receiver works again.
                        break;
                    }
                }
            }
        }
        Batch::joined(waiting)
    }
}

fn is_ascending_within(indices: &[usize], len: usize) -> bool {
    !indices.is_empty() && indices.is_sorted_by(|a, b| a < b) && indices.last().is_some_and(|last| *last < len)
}

/// Whether a judgement by event is one of a batch of `len`, as its lists promise.
fn is_of_batch(partial: &Partial, len: usize) -> bool {
    let refused: Vec<usize> = partial.refused.iter().map(|refusal| refusal.event).collect();
    let good = |indices: &[usize]| indices.is_empty() || is_ascending_within(indices, len);
    let in_both = || partial.taken.iter().any(|taken| refused.binary_search(taken).is_ok());
    let any = !(partial.taken.is_empty() && refused.is_empty());
    any && good(&partial.taken) && good(&refused) && !in_both()
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use super::*;
    use crate::event::{Delivery, Event};
    use crate::metrics::Metrics;
    use crate::sink::driver::queue::Queued;
    use crate::sink::{Accepted, EncodedBatch, Refusal, SinkId, samples};

    /// Refuses everything but in its willing moments, each time in other words for the same cause.
    struct Chatty {
        sent: AtomicUsize,
        unwilling: usize,
    }

    impl Sink for Chatty {
        fn encode(&self, _: &Event<'_>, out: &mut Vec<u8>) {
            out.push(b'x');
        }
        async fn send(&self, _: &EncodedBatch) -> Result<Accepted, SendError> {
            match self.sent.fetch_add(1, Ordering::AcqRel) {
                n if n >= self.unwilling => Ok(Accepted::default()),
                n => Err(SendError::Split { cause: "400".into(), reason: format!("400 `request {n}`") }),
            }
        }
        async fn probe(&self) -> Result<(), SendError> {
            Ok(())
        }
    }

    #[tokio::test]
    async fn answers_that_differ_in_a_number_are_one_cause_and_the_second_batch_is_held() {
        let dir = tempfile::tempdir().unwrap();
        // A batch of twelve is refused in 23 halves and single events.
        let (courier, _stop) = courier(&dir, Chatty { sent: AtomicUsize::new(0), unwilling: 2 * 23 + 3 });
        for _ in 0..2 {
            let batch = batch(&courier, 12);
            tokio::time::timeout(Duration::from_secs(10), courier.carry(batch)).await.unwrap();
        }
        let events = |result| courier.verdicts.metrics.sink_events.with_label_values(&["sink", result]).get();
        assert_eq!((events("rejected"), events("delivered")), (12, 12));
    }

    /// Gives each encoding a number, as Kafka does; has no place for anything but in its willing moments.
    #[derive(Default)]
    struct Numbering {
        encoded: AtomicUsize,
        sent: Mutex<Vec<Vec<u8>>>,
        /// Sends of single events after which everything is taken.
        unwilling: usize,
    }

    impl Sink for Numbering {
        fn encode(&self, _: &Event<'_>, out: &mut Vec<u8>) {
            out.push(self.encoded.fetch_add(1, Ordering::AcqRel) as u8);
        }
        async fn send(&self, batch: &EncodedBatch) -> Result<Accepted, SendError> {
            let mut sent = self.sent.lock().unwrap();
            sent.push(batch.bytes.clone());
            match sent.len() {
                n if n > self.unwilling => Ok(Accepted::default()),
                _ => Err(SendError::Misplaced { reason: "no such place".into() }),
            }
        }
        async fn probe(&self) -> Result<(), SendError> {
            Ok(())
        }
    }

    fn courier<S: Sink>(dir: &tempfile::TempDir, sink: S) -> (Courier<S>, watch::Sender<bool>) {
        let config = crate::config::StateConfig { dir: dir.path().to_owned(), max_delivered_bytes: 1 << 20 };
        let metrics = Metrics::new();
        let state = crate::state::State::open(&config, Arc::clone(&metrics)).unwrap();
        let verdicts = Arc::new(Verdicts::new("sink", SinkId(0), state, Arc::clone(&metrics)));
        let retry = RetryConfig { initial: Duration::from_millis(1), max: Duration::from_millis(2) };
        let dead = DeadLetters::open(&dir.path().join("dead.ndjson"), Arc::clone(&metrics)).unwrap();
        let (circuit, _health) = Circuit::new("sink", retry, metrics);
        let (stop, stopped) = watch::channel(false);
        (Courier { sink, circuit, verdicts, dead, retry, limit: None, stopped }, stop)
    }

    fn batch<S: Sink>(courier: &Courier<S>, count: u32) -> Batch {
        let records: Vec<_> = (0..count).map(|n| format!("{{\"n\":{n}}}")).collect();
        let part = samples::part(&records.iter().map(String::as_str).collect::<Vec<_>>());
        let delivery = Delivery { part, events: (0..count).collect() };
        let mut queued = Queued::new(delivery, Arc::clone(&courier.verdicts), None);
        let items = std::iter::from_fn(|| queued.take()).collect();
        Batch::of(Unsettled::new(items, Arc::clone(&courier.verdicts)), &courier.sink)
    }

    #[tokio::test]
    async fn a_batch_that_waits_for_its_limit_is_given_up_at_a_stop_and_not_sent() {
        let dir = tempfile::tempdir().unwrap();
        let (mut courier, stop) = courier(&dir, Numbering::default());
        let limit = crate::config::RateLimitConfig {
            events_per_second: Some(2),
            bytes_per_second: None,
            burst: Duration::from_secs(1),
        };
        courier.limit = Limit::new("sink", Some(&limit), &courier.verdicts.metrics);
        let (first, second) = (batch(&courier, 4), batch(&courier, 2));
        courier.carry(first).await;
        // It would be free after two seconds.
        let waiting = courier.carry(second);
        let stopping = async {
            tokio::time::sleep(Duration::from_millis(100)).await;
            stop.send_replace(true);
        };
        let both = async { tokio::join!(waiting, stopping) };
        tokio::time::timeout(Duration::from_secs(10), both).await.unwrap();
        assert_eq!(courier.sink.sent.lock().unwrap().len(), 1, "the first only");
        let events = |result| courier.verdicts.metrics.sink_events.with_label_values(&["sink", result]).get();
        assert_eq!((events("delivered"), events("lost")), (4, 2));
    }

    #[tokio::test]
    async fn held_events_keep_their_encoding_over_all_rounds() {
        let dir = tempfile::tempdir().unwrap();
        let (courier, _stop) = courier(&dir, Numbering { unwilling: 100, ..Numbering::default() });
        let batch = batch(&courier, 12);
        tokio::time::timeout(Duration::from_secs(10), courier.carry(batch)).await.unwrap();
        let verdicts = &courier.verdicts;

        assert_eq!(courier.sink.encoded.load(Ordering::Acquire), 24, "once in the batch, and once when it was held");
        let sent = courier.sink.sent.lock().unwrap();
        let (rest, taken) = (sent.last().unwrap(), &sent[sent.len() - 2]);
        let mut all = [rest.as_slice(), taken].concat();
        all.sort_unstable();
        assert_eq!(all, (12..24).collect::<Vec<u8>>(), "{sent:?}");
        assert_eq!(verdicts.metrics.sink_events.with_label_values(&["sink", "delivered"]).get(), 12);
    }

    /// Judges each event by itself, by the number that it was encoded as, once; then takes everything.
    struct Judging {
        encoded: AtomicUsize,
        sent: Mutex<Vec<Vec<u8>>>,
        judgements: Mutex<VecDeque<Partial>>,
    }

    impl Judging {
        fn new(judgements: impl IntoIterator<Item = Partial>) -> Judging {
            let judgements = Mutex::new(judgements.into_iter().collect());
            Judging { encoded: AtomicUsize::new(0), sent: Mutex::default(), judgements }
        }
    }

    impl Sink for Judging {
        fn encode(&self, _: &Event<'_>, out: &mut Vec<u8>) {
            out.push(self.encoded.fetch_add(1, Ordering::AcqRel) as u8);
        }
        async fn send(&self, batch: &EncodedBatch) -> Result<Accepted, SendError> {
            self.sent.lock().unwrap().push(batch.bytes.clone());
            match self.judgements.lock().unwrap().pop_front() {
                Some(partial) => Err(SendError::Partial(Box::new(partial))),
                None => Ok(Accepted::default()),
            }
        }
        async fn probe(&self) -> Result<(), SendError> {
            Ok(())
        }
    }

    fn partial(taken: &[usize], refused: &[usize], misplaced: bool) -> Partial {
        let refusal = |event: &usize| {
            let reason = format!("bad, as number {event} of {}", refused.len());
            Refusal { event: *event, reason, cause: "bad".into(), misplaced }
        };
        let refused = refused.iter().map(refusal).collect::<Vec<_>>();
        Partial { taken: taken.to_vec(), refused, after: None, reason: "busy".into() }
    }

    /// What was sent, and how many events were delivered and rejected, after a batch of `count` was judged so.
    async fn carried(count: u32, judgements: impl IntoIterator<Item = Partial>) -> (Vec<Vec<u8>>, u64, u64) {
        let dir = tempfile::tempdir().unwrap();
        let (courier, _stop) = courier(&dir, Judging::new(judgements));
        let batch = batch(&courier, count);
        tokio::time::timeout(Duration::from_secs(10), courier.carry(batch)).await.unwrap();
        let events = |result| courier.verdicts.metrics.sink_events.with_label_values(&["sink", result]).get();
        assert_eq!((events("lost"), courier.verdicts.metrics.sink_queued.with_label_values(&["sink"]).get()), (0, 0));
        let counts = (events("delivered"), events("rejected"));
        let sent = courier.sink.sent.lock().unwrap().clone();
        (sent, counts.0, counts.1)
    }

    #[tokio::test]
    async fn what_was_taken_or_refused_by_itself_is_settled_and_only_the_others_are_sent_again() {
        let judgements = [partial(&[0, 3], &[1], false), partial(&[1, 2], &[0], false)];
        let (sent, delivered, rejected) = carried(7, judgements).await;
        assert_eq!(sent, [vec![0, 1, 2, 3, 4, 5, 6], vec![2, 4, 5, 6], vec![6]]);
        assert_eq!((delivered, rejected), (5, 2));
        let (sent, delivered, rejected) = carried(3, [partial(&[0, 2], &[1], false)]).await;
        assert_eq!((sent.len(), delivered, rejected), (1, 2, 1), "nothing is left to send");
    }

    #[tokio::test]
    async fn a_judgement_that_is_not_of_the_batch_settles_nothing() {
        for wrong in [partial(&[0, 9], &[], false), partial(&[0], &[0], false), partial(&[], &[], false)] {
            let (sent, delivered, rejected) = carried(4, [wrong]).await;
            assert_eq!(sent, [vec![0, 1, 2, 3], vec![0, 1], vec![2, 3]], "the batch is halved instead");
            assert_eq!((delivered, rejected), (4, 0));
        }
    }

    #[tokio::test]
    async fn two_batches_mostly_refused_for_one_cause_in_other_words_are_a_mass_refusal() {
        let dir = tempfile::tempdir().unwrap();
        let judgements = [11, 10].map(|count| partial(&[0], &(1..=count).collect::<Vec<_>>(), false));
        let (courier, _stop) = courier(&dir, Judging::new(judgements));
        for events in [12, 11] {
            let batch = batch(&courier, events);
            tokio::time::timeout(Duration::from_secs(10), courier.carry(batch)).await.unwrap();
        }
        let events = |result| courier.verdicts.metrics.sink_events.with_label_values(&["sink", result]).get();
        assert_eq!((events("rejected"), events("delivered")), (11, 12), "the second is held until it is taken");
    }

    #[tokio::test]
    async fn two_causes_that_take_turns_in_being_the_last_are_a_mass_refusal_all_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let of = |last: usize| {
            let mut judgement = partial(&[0], &(1..12).collect::<Vec<_>>(), false);
            judgement
                .refused
                .iter_mut()
                .for_each(|refusal| refusal.cause = format!("kind {}", (refusal.event + last) % 2));
            judgement
        };
        let (courier, _stop) = courier(&dir, Judging::new([of(0), of(1)]));
        for _ in 0..2 {
            let batch = batch(&courier, 12);
            tokio::time::timeout(Duration::from_secs(10), courier.carry(batch)).await.unwrap();
        }
        let events = |result| courier.verdicts.metrics.sink_events.with_label_values(&["sink", result]).get();
        assert_eq!((events("rejected"), events("delivered")), (11, 13), "the second is held until it is taken");
    }

    #[tokio::test]
    async fn events_that_are_mostly_misplaced_are_held_and_not_buried() {
        let misplaced: Vec<usize> = (1..12).collect();
        let (sent, delivered, rejected) = carried(12, [partial(&[0], &misplaced, true)]).await;
        assert_eq!((delivered, rejected), (12, 0));
        assert_eq!(sent.len(), 3, "one alone as a trial, then the rest: {sent:?}");
    }
}
