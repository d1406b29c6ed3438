//! What all sinks share: queue, batching, splitting, retry, circuit, dead letters, acknowledgements.
//!
//! Comes in: [`Delivery`]s. Goes out: verdicts, one for each event, to [`State::acked`]. The driver
//! task fills batches ([`batch`]) and hands each to a courier ([`courier`]) that stays with it until
//! every event of it has a verdict; the couriers share one circuit ([`circuit`]). At most
//! [`Sink::in_the_air`] + 1 encoded batches exist, so memory does not grow with the backlog.
//!
//! Never: a verdict `Delivered` without the receiver's word, a dead letter while the receiver as a
//! whole refuses, an event that is forgotten. What is dropped on any path counts as lost.

mod batch;
mod causes;
mod circuit;
mod courier;
mod limit;
mod queue;
mod turns;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::Instant;

use super::dead_letters::DeadLetters;
use super::{Sink, SinkId};
use crate::config::SinkConfig;
use crate::event::Delivery;
use crate::metrics::Metrics;
use crate::state::State;

use batch::Filling;
use circuit::Circuit;
use courier::Courier;
use limit::Limit;
use queue::{Backlog, Queued, Verdicts};
use turns::Turns;

/// How long a sink may take to end its connection in order, after the last verdict.
pub const FAREWELL: Duration = Duration::from_secs(1);

/// Bytes that a sink with `required: false` may keep waiting or in the air. Beyond, deliveries to it are dropped and
/// counted. What waits here is held back from fetching, so a smaller budget has a smaller backlog: half of what one
/// tenant may hold, for all such sinks together, or several that hang would stop the fetching for the others.
pub const OPTIONAL_BACKLOG: usize = 4 * 1024 * 1024;
const BACKLOG_SHARE: usize = 8;

/// How long an end that was cut short still listens for the answers to what has been sent. A batch whose
/// answer nobody hears is sent again after the next start, and then the receiver has it twice; most
/// receivers answer within this, and with the drain's 15 seconds it stays below the 20 of a stop.
pub const LAST_ANSWERS: Duration = Duration::from_secs(3);

/// Started drivers answer to this. Cheap to clone.
#[derive(Clone)]
pub struct DriverHandle(Arc<Inner>);

struct Inner {
    verdicts: Arc<Verdicts>,
    turns: Arc<Turns>,
    /// `None`: a required sink, whose deliveries wait instead of being dropped.
    backlog: Option<Arc<Backlog>>,
    health: watch::Receiver<bool>,
    stop: watch::Sender<bool>,
    task: tokio::sync::Mutex<Option<JoinHandle<bool>>>,
}

/// Starts the driver of one sink. It sends nothing before `turn`: until then deliveries wait as they do for a slow
/// receiver. Needs a running tokio runtime.
pub fn spawn<S: Sink>(
    turn: impl Future<Output = ()> + Send + 'static,
    config: SinkConfig,
    id: SinkId,
    sink: S,
    state: State,
    dead: DeadLetters,
    metrics: Arc<Metrics>,
) -> DriverHandle {
    start(turn, config, id, sink, state, dead, metrics, false)
}

/// The same for events that the sink refused before: however many it refuses again, they become dead letters again.
pub fn spawn_for_replay<S: Sink>(
    config: SinkConfig,
    id: SinkId,
    sink: S,
    state: State,
    dead: DeadLetters,
    metrics: Arc<Metrics>,
) -> DriverHandle {
    start(std::future::ready(()), config, id, sink, state, dead, metrics, true)
}

#[expect(clippy::too_many_arguments, reason = "what a driver is made of")]
fn start<S: Sink>(
    turn: impl Future<Output = ()> + Send + 'static,
    config: SinkConfig,
    id: SinkId,
    sink: S,
    state: State,
    dead: DeadLetters,
    metrics: Arc<Metrics>,
    were_refused: bool,
) -> DriverHandle {
    let serial = sink.serial();
    let required = if config.required { "true" } else { "false" };
    // Before a reload it may have been of another type, or required: alerts join on what is said here.
    metrics.sink_info.forget(&[("sink", &config.name)]);
    metrics.sink_info.with_label_values(&[config.name.as_str(), config.kind.type_name(), required]).set(1);
    let verdicts = Arc::new(Verdicts::new(&config.name, id, state, metrics));
    let (circuit, health) = Circuit::new(&config.name, config.retry, Arc::clone(&verdicts.metrics));
    let circuit = if were_refused { circuit.believing() } else { circuit };
    let limit = Limit::new(&config.name, config.rate_limit.as_ref(), &verdicts.metrics);
    let (stop, stopped) = watch::channel(false);
    let courier = Courier {
        sink,
        circuit,
        verdicts: Arc::clone(&verdicts),
        dead,
        retry: config.retry,
        limit,
        stopped: stopped.clone(),
    };
    let turns = Arc::<Turns>::default();
    let filling = Filling::new(&limit::fitting(&config.batch, config.rate_limit.as_ref()), Arc::clone(&verdicts));
    let driver = Driver {
        courier: Arc::new(courier),
        filling,
        turns: Arc::clone(&turns),
        waiting: None,
        linger: config.batch.linger,
        concurrency: config.batch.concurrency.max(1),
        serial,
        couriers: JoinSet::new(),
    };
    let task = tokio::spawn(driver.run(turn, stopped));
    let backlog = (!config.required).then(|| Arc::new(Backlog::new(OPTIONAL_BACKLOG)));
    DriverHandle(Arc::new(Inner { verdicts, turns, backlog, health, stop, task: tokio::sync::Mutex::new(Some(task)) }))
}

impl DriverHandle {
    /// Hands over a delivery, and never makes the caller wait: what a required sink has waiting is bounded by
    /// `collect.in_flight`, and one that is not required drops what does not fit and counts it. After
    /// [`close`](Self::close), or when the driver is gone, the delivery counts as lost.
    pub fn send(&self, delivery: Delivery) {
        let inner = &self.0;
        let held = match &inner.backlog {
            None => None,
            Some(backlog) => match backlog.hold(&delivery) {
                Some(held) => {
                    // It may hang as long as it likes with what its backlog bounds; the next body of this feed may not.
                    delivery.part.charge.pay_back();
                    Some(held)
                }
                None => return inner.verdicts.drop_delivery(&delivery),
            },
        };
        inner.turns.push(Queued::new(delivery, Arc::clone(&inner.verdicts), held));
    }

    /// Whether what does not fit is dropped.
    pub fn is_optional(&self) -> bool {
        self.0.backlog.is_some()
    }

    /// Keeps what waits for a sink that is not required small within a budget (`collect.in_flight`) of so many bytes,
    /// of which there are `optional`.
    pub fn fit_into(&self, in_flight: usize, optional: usize) {
        if let Some(backlog) = &self.0.backlog {
            backlog.set_limit(OPTIONAL_BACKLOG.min(in_flight / BACKLOG_SHARE / optional.max(1)));
        }
    }

    /// While `on`, what waits for the sink and what is handed over counts as lost, and is fetched again
    /// when the sink is back: for a sink that is down while others need the memory.
    pub fn give_back(&self, on: bool) {
        self.0.turns.give_back(on);
    }

    /// Whether the sink takes data: false while its circuit is open, or after several failures in a row.
    pub fn health(&self) -> watch::Receiver<bool> {
        self.0.health.clone()
    }

    /// Takes nothing more; what is queued is still sent.
    pub fn close(&self) {
        self.0.turns.close();
    }

    /// Waits for what is queued, at most until `deadline`; then sends nothing more, hears the answers to
    /// what is in the air for at most [`LAST_ANSWERS`], and gives up the rest as lost. True when
    /// everything has a verdict of the receiver. Call [`close`](Self::close) first.
    pub async fn finish(&self, deadline: Instant) -> bool {
        self.finish_before(tokio::time::sleep_until(deadline)).await
    }

    /// As [`close`](Self::close) and [`finish`](Self::finish), and does not wait for a receiver that takes nothing:
    /// for a sink that leaves a process which goes on.
    pub async fn retire(&self, deadline: Instant) -> bool {
        self.close();
        let mut health = self.health();
        let cut = async {
            tokio::select! {
                () = tokio::time::sleep_until(deadline) => {}
                // Its sender is gone when the driver is.
                _ = health.wait_for(|healthy| !*healthy) => {}
            }
        };
        self.finish_before(cut).await
    }

    /// A call that is dropped leaves the driver to the next one.
    async fn finish_before(&self, cut: impl Future<Output = ()>) -> bool {
        let mut slot = self.0.task.lock().await;
        let Some(task) = slot.as_mut() else { return true };
        let ended = tokio::select! {
            biased;
            ended = &mut *task => Some(ended),
            () = cut => None,
        };
        let finished = match ended {
            Some(ended) => ended.unwrap_or(false),
            None => {
                self.0.stop.send_replace(true);
                let finished = task.await.unwrap_or(false);
                if !finished {
                    tracing::warn!(sink = %self.0.verdicts.name, "the sink did not take everything in time; the rest is fetched again");
                }
                finished
            }
        };
        *slot = None;
        finished
    }
}

struct Driver<S> {
    courier: Arc<Courier<S>>,
    filling: Filling,
    turns: Arc<Turns>,
    /// A delivery of which a part is in a full batch already.
    waiting: Option<Queued>,
    linger: Duration,
    concurrency: usize,
    serial: bool,
    couriers: JoinSet<()>,
}

impl<S: Sink> Driver<S> {
    /// True when it ended because everything was done.
    async fn run(mut self, turn: impl Future<Output = ()>, stopped: watch::Receiver<bool>) -> bool {
        let is_done = self.work(turn, stopped).await;
        _ = tokio::time::timeout(FAREWELL, self.courier.sink.close()).await;
        is_done
    }

    async fn work(&mut self, turn: impl Future<Output = ()>, mut stopped: watch::Receiver<bool>) -> bool {
        tokio::select! {
            biased;
            () = told_to_stop(&mut stopped) => return false,
            () = turn => self.courier.circuit.show(),
        }
        let (mut open, mut said) = (true, None);
        let verdicts = Arc::clone(&self.courier.verdicts);
        loop {
            if let Some(delivery) = &mut self.waiting {
                self.filling.take_from(delivery, &self.courier.sink, self.linger);
                if delivery.is_empty() {
                    self.waiting = None;
                }
            }
            let drained = !open && self.waiting.is_none();
            let due = self.filling.is_due(drained);
            let most = if self.serial { 1 } else { self.courier.sink.in_the_air(self.concurrency) };
            let room = self.couriers.len() < most;
            if due && room {
                let batch = self.filling.finish();
                let courier = Arc::clone(&self.courier);
                self.couriers.spawn(async move { courier.carry(batch).await });
                continue;
            }
            if drained && self.filling.is_empty() && self.couriers.is_empty() {
                return true;
            }
            tokio::select! {
                biased;
                () = told_to_stop(&mut stopped) => {
                    let answers = async { while self.couriers.join_next().await.is_some() {} };
                    let _ = tokio::time::timeout(LAST_ANSWERS, answers).await;
                    // Told to stop for another sink's sake, it may have had nothing left to do.
                    let is_done = self.couriers.is_empty() && self.waiting.is_none() && self.filling.is_empty();
                    let is_done = is_done && self.turns.is_empty();
                    // Waited for, so that every event is given up before the state is closed.
                    self.couriers.shutdown().await;
                    return is_done;
                }
                Some(ended) = self.couriers.join_next() => {
                    if let Err(error) = ended {
                        tracing::error!(sink = %self.courier.verdicts.name, %error, "a batch was given up by a fault of ours; its records are fetched again");
                    }
                }
                delivery = self.turns.pop(), if open && self.waiting.is_none() => match delivery {
                    Some(delivery) => self.waiting = Some(delivery),
                    None => open = false,
                },
                () = self.filling.linger(), if !due && !self.filling.is_empty() => {}
                () = verdicts.skipped.due(said) => {
                    verdicts.skipped.say(&verdicts.name);
                    said = Some(Instant::now());
                }
            }
        }
    }
}

impl<S> Drop for Driver<S> {
    fn drop(&mut self) {
        self.courier.verdicts.skipped.say(&self.courier.verdicts.name);
        self.turns.abandon();
    }
}

/// Also returns when every handle is gone: nobody is left who would hear of an end.
async fn told_to_stop(stopped: &mut watch::Receiver<bool>) {
    let _ = stopped.wait_for(|stop| *stop).await;
}
