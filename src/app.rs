//! The running process: builds every room from the configuration, wires the two lanes, owns the
//! order of start and drain.
//!
//! Start: state, dead letters, sinks and their drivers, pipeline workers, source loops; so that
//! nothing arrives before what takes it is there. Drain: the source stops reading, the workers run dry,
//! the drivers send what is queued, the journal is closed; a drain cut short loses nothing, because
//! what was not acknowledged is fetched again.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex, mpsc, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::Instant;

use crate::ack::Outcome;
use crate::admin::{FeedStatus, Heartbeat, InFlight, SinkStatus, StateStatus, Status, StatusSource, TenantStatus};
use crate::budget::Budget;
use crate::clock::Clock;
use crate::config::{Config, Format, SinkConfig, TenantConfig, TlsConfig};
use crate::feed::Feed;
use crate::http::{self, HttpError};
use crate::metrics::{Metrics, total};
pub use crate::pipeline::Observer;
use crate::pipeline::Pipeline;
use crate::record::RecordKey;
use crate::route::Routes;
use crate::sink::dead_letters::{DeadLetterError, DeadLetters, LetterHead};
use crate::sink::driver::{self, DriverHandle};
use crate::sink::{self, SinkBuildError, SinkId, SinkSet};
use crate::source::{self, Arrival, OversizedRecord, grid};
use crate::state::{State, StateError};

/// Parts between source and pipeline. Their bytes are bounded by the budget; a handful keeps the workers busy.
const FORWARD: usize = 8;
/// A drain must end within 20 seconds of the signal (Kubernetes gives 30 by default); what the sinks have not
/// taken by then is fetched again.
const DRAIN: Duration = Duration::from_secs(15);
/// How often the process shows that it lives and refreshes its gauges.
const TICK: Duration = Duration::from_secs(1);
/// The name under which the dead letters count as a sink: an oversized record goes to them alone.
const DEAD_LETTERS: &str = "dead_letters";

/// How to run.
#[derive(Clone, Default)]
pub struct RunOptions {
    /// End when everything listed is done, or after this time.
    pub once: Option<Duration>,
    pub observer: Option<Arc<dyn Observer>>,
    /// Ticked by the app while it makes progress.
    pub heartbeat: Heartbeat,
}

/// How a run ended.
#[derive(Debug)]
pub enum Ending {
    Clean,
    /// Everything is done, and some of it is lost or lies in the dead letters.
    LossOrDeadLetters,
    /// The time for `--once` ended before the work did.
    Unreachable,
    StateUnusable(StateError),
    /// A part of the process failed by a fault of ours; nothing it held counts as done.
    Fault,
}

/// Why the process could not start.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    #[error(transparent)]
    State(#[from] StateError),
    #[error(transparent)]
    DeadLetters(#[from] DeadLetterError),
    #[error(transparent)]
    Sink(#[from] SinkBuildError),
    #[error(transparent)]
    Http(#[from] HttpError),
    #[error("a start-up task failed: {0}")]
    Task(#[from] tokio::task::JoinError),
}

pub struct App {
    state: State,
    sources: JoinSet<()>,
    stop_sources: watch::Sender<bool>,
    workers: JoinSet<()>,
    drivers: Arc<HashMap<SinkId, DriverHandle>>,
    status: StatusSource,
    metrics: Arc<Metrics>,
    once: Option<Duration>,
    pulse: JoinHandle<()>,
    intake: JoinHandle<()>,
}

impl App {
    /// Builds and starts everything.
    pub async fn start(config: Config, metrics: Arc<Metrics>, options: RunOptions) -> Result<App, AppError> {
        let state = open_state(&config, &metrics).await?;
        let dead = DeadLetters::open(&config.dead_letters, Arc::clone(&metrics))?;
        let (drivers, routes) = start_sinks(&config, &state, &dead, &metrics)?;
        let dead_id = state.sink_id(DEAD_LETTERS)?;

        let budget = Budget::new(config.collect.in_flight);
        let (forward, arrivals) = mpsc::channel(FORWARD);
        let pipeline = Pipeline { routes, metrics: Arc::clone(&metrics), observer: options.observer };
        let worker = Worker {
            pipeline: Arc::new(pipeline),
            state: state.clone(),
            drivers: Arc::clone(&drivers),
            dead,
            dead_id,
            arrivals: Arc::new(Mutex::new(arrivals)),
        };
        let workers = start_workers(&worker);

        let (intake_tx, intake) = watch::channel(true);
        let required = |sink: &&SinkConfig| sink.required;
        let health = config.sinks.iter().filter(required).filter_map(|sink| {
            state.sink_id(&sink.name).ok().and_then(|id| drivers.get(&id)).map(DriverHandle::health)
        });
        let health = health.chain([state.health()]);
        let intake_task = tokio::spawn(watch_intake(health.collect(), intake_tx));

        let (stop_sources, stop) = watch::channel(false);
        let context = source::Context {
            state: state.clone(),
            clock: config.clock.clone(),
            budget: budget.clone(),
            metrics: Arc::clone(&metrics),
            forward,
            intake,
            spool_dir: config.state.dir.clone(),
            http: http::client(&TlsConfig::default(), None)?,
        };
        let sources = source::spawn(&config.collect, &config.tenants, context, options.once.is_some(), &stop);

        let status = status_source(&config, &state, &budget, &drivers, &metrics);
        let pulse = tokio::spawn(beat(options.heartbeat, budget, Arc::clone(&metrics)));
        let once = options.once;
        Ok(App { state, sources, stop_sources, workers, drivers, status, metrics, once, pulse, intake: intake_task })
    }

    /// A look at the running process, for `/status`.
    pub fn status_source(&self) -> StatusSource {
        Arc::clone(&self.status)
    }

    /// Runs until `stop`, until a run that ends is done, or until the state can no longer be kept.
    pub async fn run(mut self, stop: impl Future<Output = ()>) -> Ending {
        let is_once = self.once.is_some();
        let once_timeout = self.once.unwrap_or(Duration::MAX);
        // A part that panicked would leave its feeds standing still in silence: rather end and be started anew.
        let sources = async {
            while let Some(ended) = self.sources.join_next().await {
                if ended.is_err() {
                    return Ending::Fault;
                }
            }
            if !is_once {
                std::future::pending::<()>().await;
            }
            Ending::Clean
        };
        let workers = async {
            while let Some(ended) = self.workers.join_next().await {
                if ended.is_err() {
                    return;
                }
            }
            std::future::pending::<()>().await;
        };
        let mut ending = tokio::select! {
            () = stop => Ending::Clean,
            ending = sources => ending,
            () = workers => Ending::Fault,
            () = tokio::time::sleep(once_timeout), if is_once => Ending::Unreachable,
            error = self.state.failed() => return Ending::StateUnusable(error),
        };
        if matches!(ending, Ending::Fault) {
            tracing::error!(
                "a part of the process failed by a fault of ours; the process ends, and what was not acknowledged is fetched again after the next start"
            );
            return ending;
        }
        if let Err(error) = self.drain().await {
            return Ending::StateUnusable(error);
        }
        if is_once && matches!(ending, Ending::Clean) && (self.lost() || self.has_dead_letters()) {
            ending = Ending::LossOrDeadLetters;
        }
        ending
    }

    /// Ends everything in the order of the flow, within [`DRAIN`].
    async fn drain(&mut self) -> Result<(), StateError> {
        let deadline = Instant::now() + DRAIN;
        self.stop_sources.send_replace(true);
        let at_rest = async {
            while self.sources.join_next().await.is_some() {}
            while self.workers.join_next().await.is_some() {}
        };
        if tokio::time::timeout_at(deadline, at_rest).await.is_err() {
            tracing::warn!("the drain is cut short; what was not acknowledged is fetched again after the next start");
        }
        self.sources.shutdown().await;
        self.workers.shutdown().await;
        for driver in self.drivers.values() {
            driver.close();
        }
        futures_util::future::join_all(self.drivers.values().map(|driver| driver.finish(deadline))).await;
        self.pulse.abort();
        self.intake.abort();
        self.state.close().await
    }

    fn lost(&self) -> bool {
        total(&self.metrics.blobs_lost) > 0 || total(&self.metrics.refused_seconds) > 0
    }

    fn has_dead_letters(&self) -> bool {
        total(&self.metrics.dead_letters) > 0
    }
}

async fn open_state(config: &Config, metrics: &Arc<Metrics>) -> Result<State, AppError> {
    let (settings, metrics) = (config.state.clone(), Arc::clone(metrics));
    Ok(tokio::task::spawn_blocking(move || State::open(&settings, metrics)).await??)
}

/// Builds the sinks and starts their drivers.
fn start_sinks(
    config: &Config,
    state: &State,
    dead: &DeadLetters,
    metrics: &Arc<Metrics>,
) -> Result<(Arc<HashMap<SinkId, DriverHandle>>, Routes), AppError> {
    let mut drivers = HashMap::new();
    let mut routes = Routes::default();
    for sink in &config.sinks {
        let id = state.sink_id(&sink.name)?;
        let built = sink::build(sink, id, state, Arc::clone(metrics))?;
        let driver = driver::spawn(sink.clone(), id, built, state.clone(), dead.clone(), Arc::clone(metrics));
        drivers.insert(id, driver);
        routes.wanted = routes.wanted.union(SinkSet::of(id));
        routes.needs_ecs |= sink.format == Format::Ecs;
        if sink.required {
            routes.required = routes.required.union(SinkSet::of(id));
        }
    }
    Ok((Arc::new(drivers), routes))
}

/// Takes arrivals through the pipeline to the drivers.
#[derive(Clone)]
struct Worker {
    pipeline: Arc<Pipeline>,
    state: State,
    drivers: Arc<HashMap<SinkId, DriverHandle>>,
    dead: DeadLetters,
    dead_id: SinkId,
    arrivals: Arc<Mutex<mpsc::Receiver<Arrival>>>,
}

/// One worker a core: a part is handled by one, blobs run side by side.
fn start_workers(worker: &Worker) -> JoinSet<()> {
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
                    let deliveries = self.pipeline.process(batch, self.state.delivered()).into_iter();
                    // To all at once: a sink whose queue is full must not keep the part from the others.
                    let sends = deliveries
                        .filter_map(|(sink, delivery)| self.drivers.get(&sink).map(|driver| driver.send(delivery)));
                    futures_util::future::join_all(sends).await;
                }
                Some(Arrival::Oversized(record)) => self.bury(record).await,
                None => return,
            }
        }
    }

    /// Puts a record that is too large for memory into the dead letters, once.
    async fn bury(&self, record: OversizedRecord) {
        let OversizedRecord { blob, file, bytes, hash, ack } = record;
        let (key, only) = (RecordKey(hash), SinkSet::of(self.dead_id));
        let wanted = self.state.delivered().claim(only, only, std::iter::once((key, ack)));
        if wanted.first().is_none_or(|sinks| sinks.is_empty()) {
            return;
        }
        let head = LetterHead {
            sink: DEAD_LETTERS.to_owned(),
            reason: "oversized",
            answer: format!("the record has {bytes} bytes, more than `collect.max_record`"),
            blob,
            key: Some(key),
            event_id: Vec::new(),
        };
        // Nobody has read it as JSON, so it is kept as a string.
        self.dead.append_stream(head, file, false).await;
        self.state.acked(self.dead_id, Outcome::Rejected, &[key], None);
    }
}

/// Tells the source whether every required sink takes data.
async fn watch_intake(mut health: Vec<watch::Receiver<bool>>, intake: watch::Sender<bool>) {
    loop {
        let is_open = health.iter().all(|sink| *sink.borrow());
        if intake.send_if_modified(|open| std::mem::replace(open, is_open) != is_open) {
            if is_open {
                tracing::info!("all required sinks take data again, fetching goes on");
            } else {
                tracing::warn!("a required sink takes nothing; nothing new is fetched until it does, listing goes on");
            }
        }
        let changes = health.iter_mut().map(|sink| Box::pin(sink.changed()));
        let (change, ..) = match changes.collect::<Vec<_>>() {
            none if none.is_empty() => return,
            some => futures_util::future::select_all(some).await,
        };
        if change.is_err() {
            return;
        }
    }
}

async fn beat(heartbeat: Heartbeat, budget: Budget, metrics: Arc<Metrics>) {
    let as_gauge = |bytes: usize| i64::try_from(bytes).unwrap_or(i64::MAX);
    metrics.in_flight_limit.set(as_gauge(budget.limit()));
    loop {
        heartbeat.tick();
        metrics.in_flight_bytes.set(as_gauge(budget.used()));
        tokio::time::sleep(TICK).await;
    }
}

/// What `/status` shows, looked up anew at each request.
fn status_source(
    config: &Config,
    state: &State,
    budget: &Budget,
    drivers: &Arc<HashMap<SinkId, DriverHandle>>,
    metrics: &Arc<Metrics>,
) -> StatusSource {
    let (state, budget, drivers, metrics) = (state.clone(), budget.clone(), Arc::clone(drivers), Arc::clone(metrics));
    let (tenants, clock) = (config.tenants.clone(), config.clock.clone());
    let sinks: Vec<String> = config.sinks.iter().map(|sink| sink.name.clone()).collect();
    Arc::new(move || Status {
        tenants: tenants.iter().map(|tenant| tenant_status(tenant, &state, &clock)).collect(),
        sinks: sinks.iter().map(|name| sink_status(name, &state, &drivers, &metrics)).collect(),
        state: StateStatus {
            journal_bytes: u64::try_from(metrics.journal_bytes.get()).unwrap_or(0),
            last_commit: Some(metrics.checkpoint_last_success.get()).filter(|at| *at > 0),
            trouble: state.trouble(),
        },
        in_flight: InFlight { bytes: budget.used() as u64, limit: budget.limit() as u64 },
    })
}

fn tenant_status(config: &TenantConfig, state: &State, clock: &Clock) -> TenantStatus {
    let feed_status = |content_type| {
        let feed = Feed { tenant: Arc::clone(&config.tenant), content_type };
        state.feed(&feed.key()).read(|progress| FeedStatus {
            content_type: feed.content_type.to_string(),
            complete_until: progress.from.map(|_| grid::complete_until(progress, clock.now())),
            pending: progress.pending.len() as u64,
            lost: progress.ledger.blobs_lost,
            subscribed: progress.subscription.enabled,
        })
    };
    TenantStatus {
        name: config.tenant.name.clone(),
        tenant_id: config.tenant.id.clone(),
        feeds: config.content_types.iter().copied().map(feed_status).collect(),
    }
}

fn sink_status(name: &str, state: &State, drivers: &HashMap<SinkId, DriverHandle>, metrics: &Metrics) -> SinkStatus {
    let driver = state.sink_id(name).ok().and_then(|id| drivers.get(&id));
    SinkStatus {
        name: name.to_owned(),
        healthy: driver.is_some_and(|driver| *driver.health().borrow()),
        queued: u64::try_from(metrics.sink_queued.with_label_values(&[name]).get()).unwrap_or(0),
        last_ack: Some(metrics.sink_last_ack.with_label_values(&[name]).get()).filter(|at| *at > 0),
    }
}
