//! The running process: builds every room from the configuration, wires the two lanes, owns the
//! order of start and drain.
//!
//! Start: state, dead letters, sinks and their drivers, pipeline workers, source loops; so that
//! nothing arrives before what takes it is there. Drain: the source stops reading, the workers run dry,
//! the drivers send what is queued, the journal is closed; a drain cut short loses nothing, because
//! what was not acknowledged is fetched again.

mod health;
mod status;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex, mpsc, watch};
use tokio::task::{JoinError, JoinHandle, JoinSet};
use tokio::time::Instant;

use crate::ack::Outcome;
use crate::admin::{Heartbeat, StatusSource};
use crate::budget::Budget;
use crate::config::{Config, TenantConfig, TlsConfig};
use crate::feed::Feed;
use crate::http::{self, HttpError};
use crate::metrics::Metrics;
pub use crate::pipeline::Observer;
use crate::pipeline::Pipeline;
use crate::record::RecordKey;
use crate::route::{Down, Intake, Routes};
use crate::sink::dead_letters::{DeadLetterError, DeadLetters, LetterHead};
use crate::sink::driver::{self, DriverHandle};
use crate::sink::{self, SinkBuildError, SinkId, SinkSet};
pub use crate::source::InProcess;
use crate::source::{self, Arrival, OversizedRecord, Transport, Troubles};
use crate::state::{State, StateError};

use health::{watch_sinks, watched};
use status::Look;

/// Parts between source and pipeline. Their bytes are bounded by the budget; a handful keeps the workers busy.
const FORWARD: usize = 8;
/// Oversized records that wait to be put into the dead letters, one after the other; each is an open file
/// and some hundred bytes. Beyond, they count as lost and are fetched again: a full disk must not stop the workers.
const BURIALS: usize = 16;
/// A drain must end within 20 seconds of the signal (Kubernetes gives 30 by default); what the sinks have not
/// taken by then is fetched again.
const DRAIN: Duration = Duration::from_secs(15);
/// How often the process shows that it lives and refreshes its gauges.
const TICK: Duration = Duration::from_secs(1);
/// The same on a clock that jumps: a week of seconds would be most of what is computed.
const JUMPING_TICK: Duration = Duration::from_secs(600);
/// The name under which the dead letters count as a sink: an oversized record goes to them alone.
const DEAD_LETTERS: &str = "dead_letters";

/// How to run.
#[derive(Clone, Default)]
pub struct RunOptions {
    /// End when everything listed is done, or after this time.
    pub once: Option<Duration>,
    pub observer: Option<Arc<dyn Observer>>,
    /// Answers requests to the service in this process, in place of the network.
    pub service: Option<InProcess>,
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
    Task(#[from] JoinError),
}

type Drivers = Arc<HashMap<SinkId, DriverHandle>>;

pub struct App {
    state: State,
    sources: JoinSet<()>,
    stop_sources: watch::Sender<bool>,
    workers: JoinSet<()>,
    /// The one task that puts oversized records into the dead letters; ends after the workers.
    burial: JoinSet<()>,
    drivers: Drivers,
    status: StatusSource,
    metrics: Arc<Metrics>,
    once: Option<Duration>,
    pulse: JoinHandle<()>,
    intake: JoinHandle<()>,
    pace: Option<JoinHandle<()>>,
}

impl App {
    /// Builds and starts everything.
    pub async fn start(config: Config, metrics: Arc<Metrics>, options: RunOptions) -> Result<App, AppError> {
        let state = open_state(&config, &metrics).await?;
        let pace = config.clock.may_jump().then(|| tokio::spawn(state.commit_by_jumping_clock()));
        let dead = DeadLetters::open(&config.dead_letters, Arc::clone(&metrics))?;
        let (drivers, routes) = start_sinks(&config, &state, &dead, &metrics)?;
        let names = sink_names(&config, &state);
        let dead_id = state.sink_id(DEAD_LETTERS)?;

        let budget = Budget::new(config.collect.in_flight);
        let (forward, arrivals) = mpsc::channel(FORWARD);
        let name = |id| names.get(&id).cloned().unwrap_or_default();
        let pipeline = Pipeline::new(Arc::clone(&routes), Arc::clone(&metrics), options.observer, name);
        let (oversized, to_bury) = mpsc::channel(BURIALS);
        let mut burial = JoinSet::new();
        burial.spawn(Undertaker { state: state.clone(), dead, dead_id }.run(to_bury));
        let worker = Worker {
            pipeline: Arc::new(pipeline),
            state: state.clone(),
            drivers: Arc::clone(&drivers),
            oversized,
            arrivals: Arc::new(Mutex::new(arrivals)),
        };
        let workers = start_workers(worker);

        let (down, told) = watch::channel(Down::default());
        let intake = Intake::new(Arc::clone(&routes), told, state.health());
        let intake_task = tokio::spawn(watch_sinks(watched(&config, &routes, &drivers, &names), down));

        let (stop_sources, stop) = watch::channel(false);
        let troubles = Troubles::default();
        let context = source::Context {
            state: state.clone(),
            clock: config.clock.clone(),
            budget: budget.clone(),
            metrics: Arc::clone(&metrics),
            forward,
            intake: intake.clone(),
            spool_dir: config.state.dir.clone(),
            transport: match options.service {
                Some(service) => Transport::InProcess(service),
                None => Transport::Network(http::client(&TlsConfig::default(), None)?),
            },
            troubles: troubles.clone(),
        };
        let sources = source::spawn(&config.collect, &config.tenants, context, options.once.is_some(), &stop);

        let look = Look {
            tenants: config.tenants.clone(),
            clock: config.clock.clone(),
            sinks: config.sinks.iter().map(|sink| sink.name.clone()).collect(),
            names,
            state: state.clone(),
            budget: budget.clone(),
            drivers: Arc::clone(&drivers),
            metrics: Arc::clone(&metrics),
            troubles,
            intake,
        };
        let status = look.into_source();
        let tick = if config.clock.may_jump() { JUMPING_TICK } else { TICK };
        let pulse = tokio::spawn(beat(options.heartbeat, budget, Arc::clone(&metrics), tick));
        let once = options.once;
        Ok(App {
            state,
            sources,
            stop_sources,
            workers,
            burial,
            drivers,
            status,
            metrics,
            once,
            pulse,
            intake: intake_task,
            pace,
        })
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
            match all_ended(&mut self.sources).await {
                Err(_) => Ending::Fault,
                Ok(()) if is_once => Ending::Clean,
                Ok(()) => std::future::pending().await,
            }
        };
        let mut ending = tokio::select! {
            () = stop => Ending::Clean,
            ending = sources => ending,
            Err(_) = all_ended(&mut self.workers) => Ending::Fault,
            Err(_) = all_ended(&mut self.burial) => Ending::Fault,
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
        let sinks = futures_util::future::join_all(self.drivers.values().map(|driver| driver.finish(deadline)));
        let burial = async {
            let buried = async { while self.burial.join_next().await.is_some() {} };
            if tokio::time::timeout_at(deadline, buried).await.is_err() {
                tracing::warn!(
                    "the dead letters did not take every oversized record in time; the rest is fetched again after the next start"
                );
            }
        };
        tokio::join!(sinks, burial);
        self.burial.shutdown().await;
        self.pulse.abort();
        self.intake.abort();
        self.pace.iter().for_each(JoinHandle::abort);
        self.state.close().await
    }

    fn lost(&self) -> bool {
        self.metrics.blobs_lost.total() > 0 || self.metrics.refused_seconds.total() > 0
    }

    fn has_dead_letters(&self) -> bool {
        self.metrics.dead_letters.total() > 0
    }
}

/// Returns when all tasks have ended, or the first has panicked.
async fn all_ended(tasks: &mut JoinSet<()>) -> Result<(), JoinError> {
    while let Some(ended) = tasks.join_next().await {
        ended?;
    }
    Ok(())
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
) -> Result<(Drivers, Arc<Routes>), AppError> {
    let mut drivers = HashMap::new();
    let mut routes = Routes::default();
    for sink in &config.sinks {
        let id = state.sink_id(&sink.name)?;
        let built = sink::build(sink, id, state, Arc::clone(metrics))?;
        let driver = driver::spawn(sink.clone(), id, built, state.clone(), dead.clone(), Arc::clone(metrics));
        drivers.insert(id, driver);
        routes.add(id, sink);
    }
    warn_of_unwanted(config, &routes);
    Ok((Arc::new(drivers), Arc::new(routes)))
}

fn sink_names(config: &Config, state: &State) -> HashMap<SinkId, String> {
    config.sinks.iter().filter_map(|sink| Some((state.sink_id(&sink.name).ok()?, sink.name.clone()))).collect()
}

fn feeds(config: &Config) -> impl Iterator<Item = Feed> {
    let of = |tenant: &TenantConfig, content_type| Feed { tenant: Arc::clone(&tenant.tenant), content_type };
    config.tenants.iter().flat_map(move |tenant| tenant.content_types.iter().map(move |kind| of(tenant, *kind)))
}

/// A feed that no sink's condition lets through is fetched for nothing: hardly what was meant.
fn warn_of_unwanted(config: &Config, routes: &Routes) {
    for feed in feeds(config).filter(|feed| routes.of(feed).possible().is_empty()) {
        tracing::warn!(tenant = %feed.tenant.name, content_type = %feed.content_type,
            "no sink's `when` lets anything of this feed through; its records are fetched, counted as filtered, and go nowhere");
    }
}

/// Takes arrivals through the pipeline to the drivers.
#[derive(Clone)]
struct Worker {
    pipeline: Arc<Pipeline>,
    state: State,
    drivers: Drivers,
    oversized: mpsc::Sender<OversizedRecord>,
    arrivals: Arc<Mutex<mpsc::Receiver<Arrival>>>,
}

/// One worker a core: a part is handled by one, blobs run side by side.
fn start_workers(worker: Worker) -> JoinSet<()> {
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
                    for (sink, delivery) in deliveries {
                        if let Some(driver) = self.drivers.get(&sink) {
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
struct Undertaker {
    state: State,
    dead: DeadLetters,
    dead_id: SinkId,
}

impl Undertaker {
    /// Returns when the last worker is gone and everything is put away. What is dropped before counts as lost.
    async fn run(self, mut records: mpsc::Receiver<OversizedRecord>) {
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
                    "the record has {bytes} bytes, too many to keep; 128 bits of the BLAKE3 hash of its bytes: {hash}"
                )
            },
            blob,
            key: Some(key),
            event_id: Vec::new(),
        };
        // Nobody has read it as JSON, so it is kept as a string.
        self.dead.append_stream(head, file, false).await;
        self.state.acked(self.dead_id, Outcome::Rejected, &[key], None);
    }
}

async fn beat(heartbeat: Heartbeat, budget: Budget, metrics: Arc<Metrics>, tick: Duration) {
    let as_gauge = |bytes: usize| i64::try_from(bytes).unwrap_or(i64::MAX);
    metrics.in_flight_limit.set(as_gauge(budget.limit()));
    loop {
        heartbeat.tick();
        metrics.in_flight_bytes.set(as_gauge(budget.used()));
        tokio::time::sleep(tick).await;
    }
}
