//! Whether the receiver takes data, shared by all couriers of a sink.
//!
//! *Held* (open circuit): the receiver as a whole refuses. Nothing is sent but by one courier at a
//! time, after a back-off and a good answer to a probe; the first batch that is taken closes the
//! circuit. *Failing*: several tries in a row went wrong; each batch goes on trying by itself, but the
//! source is told to fetch nothing new. Each change is logged once, never each try.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use super::causes::Causes;
use crate::config::RetryConfig;
use crate::metrics::Metrics;
use crate::retry::Backoff;
use crate::sink::Sink;

/// Tries in a row that must fail before the source is told. Five: with the usual back-off some
/// seconds, more than a receiver's restart of one node, less than a poll interval.
const FAILURES: u32 = 5;

/// Fewer events than this say nothing about the receiver; smaller batches are judged together.
const JUDGED_EVENTS: usize = 10;

/// Why the circuit is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cause {
    /// The receiver said that it takes nothing.
    Fatal,
    /// It refuses most events of batch after batch, for the same reasons.
    MassRefusal,
}

#[derive(Default)]
struct Known {
    held: Option<(Cause, String)>,
    failures: u32,
    /// Events and refusals of finished batches that were too small to judge.
    small: (usize, Causes),
    /// What most events of the last judged batch were refused for.
    refused_before: Option<Causes>,
}

impl Known {
    /// A batch together with those before it that were too small.
    fn with_the_small(&self, events: usize, refused: &Causes) -> (usize, Causes) {
        let (before, mut causes) = self.small.clone();
        causes.join(refused);
        (before + events, causes)
    }
}

/// See the module's head.
pub(super) struct Circuit {
    name: String,
    known: Mutex<Known>,
    /// Held by the one courier that may try; its back-off is reset when the circuit closes.
    probing: tokio::sync::Mutex<Backoff>,
    closed: watch::Sender<bool>,
    health: watch::Sender<bool>,
    metrics: Arc<Metrics>,
    /// Whether refusals are never taken for the receiver's as a whole.
    believes: bool,
}

/// Permission to send once.
pub(super) enum Turn<'a> {
    /// The circuit is closed.
    Free,
    /// The circuit is open and this courier tries alone.
    Probe(tokio::sync::MutexGuard<'a, Backoff>),
}

impl Circuit {
    /// A closed circuit, and where its health is told.
    pub fn new(name: &str, retry: RetryConfig, metrics: Arc<Metrics>) -> (Circuit, watch::Receiver<bool>) {
        let (health, told) = watch::channel(true);
        metrics.sink_circuit_open.with_label_values(&[name]).set(0);
        let circuit = Circuit {
            name: name.to_owned(),
            known: Mutex::default(),
            probing: tokio::sync::Mutex::new(Backoff::new(retry.initial, retry.max)),
            closed: watch::channel(true).0,
            health,
            metrics,
            believes: false,
        };
        (circuit, told)
    }

    /// The same for events that were refused before: that most of them are refused again says nothing.
    pub fn believing(self) -> Circuit {
        Circuit { believes: true, ..self }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Shows its health anew: the circuit before it may have had the last word.
    pub fn show(&self) {
        self.tell(&self.known());
    }

    /// Waits until this courier may send: at once while the circuit is closed.
    pub async fn turn<S: Sink>(&self, sink: &S) -> Turn<'_> {
        let mut closed = self.closed.subscribe();
        if *closed.borrow_and_update() {
            return Turn::Free;
        }
        tokio::select! {
            biased;
            _ = closed.wait_for(|closed| *closed) => Turn::Free,
            turn = self.probe(sink) => turn,
        }
    }

    async fn probe<S: Sink>(&self, sink: &S) -> Turn<'_> {
        let mut backoff = self.probing.lock().await;
        loop {
            tokio::time::sleep(backoff.next_delay(None)).await;
            match sink.probe().await {
                Ok(()) => return Turn::Probe(backoff),
                Err(error) => tracing::debug!(sink = %self.name, %error, "the sink still takes nothing"),
            }
        }
    }

    /// Something was taken; `whole`: a batch as it was, of which nothing had been refused before.
    /// Closes the circuit where this courier was the one to try: what was in the air when the circuit
    /// opened proves nothing. A mass refusal is ended by a whole batch only.
    pub fn taken(&self, turn: Turn<'_>, whole: bool) {
        let mut known = self.known();
        known.failures = 0;
        if let Turn::Probe(mut backoff) = turn {
            let mass = matches!(known.held, Some((Cause::MassRefusal, _)));
            if whole || !mass {
                known.held = None;
                backoff.reset();
            }
            if whole && mass {
                known.small = (0, Causes::default());
                known.refused_before = None;
            }
        }
        self.tell(&known);
    }

    /// The receiver refused something of a batch: it speaks to us, so it does not refuse as a whole.
    pub fn answered(&self, turn: Turn<'_>) {
        self.taken(turn, false);
    }

    /// A try went wrong and will be repeated.
    pub fn failed(&self, reason: &str) {
        let mut known = self.known();
        known.failures = known.failures.saturating_add(1);
        if known.failures == FAILURES && known.held.is_none() {
            tracing::warn!(sink = %self.name, failures = FAILURES, reason, "the sink does not take data; it is tried again and nothing new is fetched for it");
        }
        self.tell(&known);
    }

    /// A try ended without an answer while the receiver took other things: failures are no longer in a row.
    pub fn slow(&self) {
        let mut known = self.known();
        known.failures = 0;
        self.tell(&known);
    }

    /// The receiver takes nothing until somebody mends it.
    pub fn refused(&self, reason: &str) {
        self.hold(&mut self.known(), Cause::Fatal, reason);
    }

    /// A batch of `events` is done, with these refusals, the last of which the receiver told as `reason`: opens the
    /// circuit when of this and the batch before it more than half was refused, and alike; for what is `misplaced`, this
    /// one is enough.
    /// True when the refused events must be kept for the receiver instead of becoming dead letters.
    pub fn is_mass_refusal(&self, events: usize, refused: &Causes, reason: &str, misplaced: bool) -> bool {
        if self.believes {
            return false;
        }
        let mut known = self.known();
        let (events, refused) = known.with_the_small(events, refused);
        let alike = misplaced || known.refused_before.as_ref().is_some_and(|before| before.are_alike(&refused));
        let mass = alike && events >= JUDGED_EVENTS && refused.total() * 2 > events;
        if mass {
            self.hold(&mut known, Cause::MassRefusal, reason);
        }
        mass
    }

    /// A batch is done, and was not held: remembers how much of it was refused.
    pub fn finished(&self, events: usize, refused: &Causes) {
        let mut known = self.known();
        let (events, refused) = known.with_the_small(events, refused);
        if events < JUDGED_EVENTS {
            known.small = (events, refused);
            return;
        }
        known.small = (0, Causes::default());
        known.refused_before = (refused.total() * 2 > events).then_some(refused);
    }

    fn hold(&self, known: &mut Known, cause: Cause, reason: &str) {
        let changed = known.held.as_ref().is_none_or(|(before, _)| *before != cause);
        if changed {
            match cause {
                Cause::Fatal => {
                    tracing::error!(sink = %self.name, reason, "the sink refuses everything; all events are held and it is probed until it takes them")
                }
                Cause::MassRefusal => {
                    tracing::error!(sink = %self.name, reason, "the sink refuses most events, batch after batch for the same reasons; they are held instead of filling the dead letters, and single events are tried until one is taken; mend the receiver, or restart to let one more batch go to the dead letters")
                }
            }
        }
        known.held = Some((cause, reason.to_owned()));
        self.tell(known);
    }

    fn tell(&self, known: &Known) {
        let held = known.held.is_some();
        let healthy = !held && known.failures < FAILURES;
        self.closed.send_replace(!held);
        self.metrics.sink_circuit_open.with_label_values(&[&self.name]).set(i64::from(!healthy));
        let was_healthy = self.health.send_replace(healthy);
        if healthy && !was_healthy {
            tracing::info!(sink = %self.name, "the sink takes data again");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::event::Event;
    use crate::sink::{Accepted, EncodedBatch, SendError};

    struct Willing;
    impl Sink for Willing {
        fn encode(&self, _: &Event<'_>, _: &mut Vec<u8>) {}
        async fn send(&self, _: &EncodedBatch) -> Result<Accepted, SendError> {
            Ok(Accepted::default())
        }
        async fn probe(&self) -> Result<(), SendError> {
            Ok(())
        }
    }

    fn circuit() -> (Circuit, watch::Receiver<bool>) {
        let retry = RetryConfig { initial: Duration::from_millis(1), max: Duration::from_millis(2) };
        Circuit::new("sink", retry, Metrics::new())
    }

    /// A batch of which so many are refused; true when it is held.
    fn batch(circuit: &Circuit, events: usize, refused: usize, reason: &str) -> bool {
        let mut causes = Causes::default();
        if refused > 0 {
            causes.add(reason, refused);
        }
        if refused > 0 && circuit.is_mass_refusal(events, &causes, reason, false) {
            return true;
        }
        circuit.finished(events, &causes);
        false
    }

    #[test]
    fn two_batches_mostly_refused_alike_are_a_mass_refusal() {
        let (circuit, health) = circuit();
        assert!(!batch(&circuit, 20, 11, "bad"));
        assert!(batch(&circuit, 20, 11, "bad"));
        assert!(!*health.borrow());
    }

    #[test]
    fn events_that_were_refused_before_may_all_be_refused_again() {
        let (circuit, health) = circuit();
        let circuit = circuit.believing();
        assert!((0..5).all(|_| !batch(&circuit, 20, 20, "bad")) && *health.borrow());
        circuit.refused("no");
        assert!(!*health.borrow());
    }

    #[test]
    fn half_or_another_reason_or_a_good_batch_between_is_none() {
        for between in [(20, 10, "bad"), (20, 20, "other"), (20, 0, "")] {
            let (circuit, health) = circuit();
            assert!(!batch(&circuit, 20, 20, "bad"));
            assert!(!batch(&circuit, between.0, between.1, between.2));
            assert!(!batch(&circuit, 20, 20, "bad"), "{between:?}");
            assert!(*health.borrow());
        }
    }

    #[test]
    fn small_batches_are_judged_together() {
        let (circuit, _health) = circuit();
        // A slow feed with two bad records in a row goes on.
        assert!(!batch(&circuit, 1, 1, "bad") && !batch(&circuit, 1, 1, "bad"));
        // One in which everything is refused stops at the twentieth.
        let held = (3..=30).find(|_| batch(&circuit, 1, 1, "bad"));
        assert_eq!(held, Some(20));
    }

    #[tokio::test]
    async fn only_a_whole_batch_ends_a_mass_refusal_and_any_word_ends_a_fatal_one() {
        let (circuit, health) = circuit();
        batch(&circuit, 20, 20, "bad");
        assert!(batch(&circuit, 20, 20, "bad"));
        circuit.answered(circuit.turn(&Willing).await);
        circuit.taken(circuit.turn(&Willing).await, false);
        assert!(!*health.borrow());
        circuit.taken(circuit.turn(&Willing).await, true);
        assert!(*health.borrow());
        circuit.refused("no");
        assert!(!*health.borrow());
        circuit.answered(circuit.turn(&Willing).await);
        assert!(*health.borrow());
    }

    #[tokio::test]
    async fn what_was_in_the_air_when_the_circuit_opened_does_not_close_it() {
        let (circuit, health) = circuit();
        let before = circuit.turn(&Willing).await;
        circuit.refused("no");
        circuit.taken(before, true);
        assert!(!*health.borrow());
    }

    #[tokio::test]
    async fn the_fifth_failure_in_a_row_turns_the_health_and_one_success_turns_it_back() {
        let (circuit, health) = circuit();
        for failure in 1..=FAILURES {
            assert!(*health.borrow(), "{failure}");
            circuit.failed("down");
        }
        assert!(!*health.borrow());
        circuit.slow();
        assert!(*health.borrow(), "a slow one is not a dead one");
        (1..=FAILURES).for_each(|_| circuit.failed("down"));
        assert!(!*health.borrow());
        let turn = circuit.turn(&Willing).await;
        assert!(matches!(turn, Turn::Free), "it goes on trying");
        circuit.taken(turn, false);
        assert!(*health.borrow());
    }
}
