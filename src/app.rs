//! The running process: builds every room from the configuration, wires the two lanes, owns the
//! order of start, reload and drain.
//!
//! Start: state, dead letters, sinks and their drivers, pipeline workers, source loops; so that
//! nothing arrives before what takes it is there. Drain: the source stops reading, the workers run dry,
//! the drivers send what is queued, the journal is closed; a drain cut short loses nothing, because
//! what was not acknowledged is fetched again.
//!
//! What outlives a reload is here: state, budget, workers, source. What a reload replaces is in [`graph`]: it is swapped
//! in one step, and only what changed is started or retired. What a retired sink has not taken in time counts as lost, so
//! its blobs are fetched again, for the sinks that there are then.

mod change;
mod graph;
mod health;
mod reload;
mod status;
mod work;

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::sync::{Mutex, mpsc, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::Instant;

use crate::admin::{Heartbeat, StatusSource};
use crate::budget::Budget;
use crate::config::{Config, SinkConfig, TenantConfig};
use crate::enrich::Enricher;
use crate::http::{self, HttpError};
use crate::metrics::Metrics;
pub use crate::pipeline::Observer;
use crate::route::{Down, Intake, Routes};
use crate::sink::dead_letters::{DeadLetterError, DeadLetters};
use crate::sink::driver::{self, DriverHandle};
use crate::sink::{Keeper, KeeperError, SinkBuildError};
pub use crate::source::InProcess;
use crate::source::{self, Source, TenantLoop, Transport, Troubles};
use crate::state::{State, StateError};

use change::Change;
use graph::{Built, Drivers, Graph, Known};
use health::watch_sinks;
pub use reload::Reload;
use reload::{Prepared, Reloader, Step};
use status::Look;
use work::{DEAD_LETTERS, Undertaker, Worker, start_workers};

/// Parts between source and pipeline. Their bytes are bounded by the budget; a handful keeps the workers busy.
const FORWARD: usize = 8;
/// Oversized records that wait to be put into the dead letters, one after the other; each is an open file
/// and some hundred bytes. Beyond, they count as lost and are fetched again: a full disk must not stop the workers.
const BURIALS: usize = 16;
/// A drain must end within 20 seconds of the signal (Kubernetes gives 30 by default); what the sinks have not
/// taken by then is fetched again.
const DRAIN: Duration = Duration::from_secs(15);
/// After the drain, how long the brokers that keep the state may take for the last of it; and how long at least, where a
/// sink was listened to for that long already.
const LAST_COMMIT: Duration = Duration::from_secs(3);
const LEAST_COMMIT: Duration = Duration::from_secs(1);
/// How often the process shows that it lives and refreshes its gauges.
const TICK: Duration = Duration::from_secs(1);
/// The same on a clock that jumps: a week of seconds would be most of what is computed.
const JUMPING_TICK: Duration = Duration::from_secs(600);
/// How long a sink that leaves or changes may go on taking what is queued for it, if it takes anything.
const RETIRE: Duration = Duration::from_secs(15);
/// How long the new loop of a tenant waits for the old one to hear of what it has in the air. Beyond, both look after
/// the tenant's books, which costs a second fetch of those blobs and nothing else.
const SUCCESSION: Duration = Duration::from_secs(5);
/// How long a worker may still be at a part for the graph before. The part's deliveries would be lost, and fetched again.
const LAST_PARTS: Duration = Duration::from_secs(2);

/// How to run.
#[derive(Clone, Default)]
pub struct RunOptions {
    /// End when everything listed is done, or after this time.
    pub once: Option<Duration>,
    pub observer: Option<Arc<dyn Observer>>,
    /// Answers requests to the service in this process, in place of the network.
    pub service: Option<InProcess>,
    /// How the configuration is read anew; `None`: it never is.
    pub reload: Option<Reload>,
    /// Instead of what the configuration says of `enrich`.
    pub enricher: Option<Arc<Enricher>>,
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
    Keeper(#[from] KeeperError),
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
    metrics: Arc<Metrics>,
    budget: Budget,
    dead: DeadLetters,
    observer: Option<Arc<dyn Observer>>,
    graph: watch::Sender<Arc<Graph>>,
    routes: watch::Sender<Arc<Routes>>,
    /// `None` once the process ends.
    source: Option<Source>,
    loops: JoinSet<()>,
    /// By tenant id.
    tenants: HashMap<String, TenantLoop>,
    workers: JoinSet<()>,
    /// The one task that puts oversized records into the dead letters; ends after the workers.
    burial: JoinSet<()>,
    reloader: Reloader,
    /// Drivers of the graph before, while they drain.
    retired: Vec<DriverHandle>,
    /// Wait for tenants that leave, to forget their metrics.
    leaving: JoinSet<()>,
    status: StatusSource,
    once: Option<Duration>,
    pulse: JoinHandle<()>,
    intake: JoinHandle<()>,
    pace: Option<JoinHandle<()>>,
}

impl App {
    /// Builds and starts everything.
    pub async fn start(config: Config, metrics: Arc<Metrics>, options: RunOptions) -> Result<App, AppError> {
        metrics.declare(crate::memory::limit());
        let state = open_state(&config, &metrics).await?;
        let pace = config.clock.may_jump().then(|| tokio::spawn(state.commit_by_jumping_clock()));
        let dead = DeadLetters::of(&config.dead_letters, Arc::clone(&metrics))?;
        let (mut drivers, mut known) = (Drivers::new(), Known::new());
        for built in graph::build(&config.sinks, &state, &metrics)? {
            known.insert(built.config.name.clone(), (built.id, built.files.clone()));
            drivers.insert(built.id, start_driver(std::future::ready(()), built, &state, &dead, &metrics));
        }
        fit_into(config.collect.in_flight, drivers.values());
        let dead_id = state.sink_id(DEAD_LETTERS)?;
        let enricher = match options.enricher {
            Some(enricher) => enricher,
            None => open_enricher(&config, &metrics).await?,
        };
        let reloader = Reloader::new(options.reload, &config, Arc::clone(&metrics));
        let first = Arc::new(Graph::new(config.clone(), known, drivers, enricher, &metrics, options.observer.clone()));
        let (routes, told_routes) = watch::channel(Arc::clone(&first.routes));
        let (graph, told_graph) = watch::channel(first);

        let budget = Budget::new(config.collect.in_flight);
        let (forward, arrivals) = mpsc::channel(FORWARD);
        let (oversized, to_bury) = mpsc::channel(BURIALS);
        let mut burial = JoinSet::new();
        burial.spawn(Undertaker { state: state.clone(), dead: dead.clone(), dead_id }.run(to_bury));
        let arrivals = Arc::new(Mutex::new(arrivals));
        let workers = start_workers(Worker { graph: told_graph.clone(), state: state.clone(), oversized, arrivals });

        let (down, told_down) = watch::channel(Down::default());
        let intake = Intake::new(told_routes, told_down, state.health());
        let intake_task = tokio::spawn(watch_sinks(told_graph.clone(), down));

        let troubles = Troubles::default();
        let context = source::Context {
            state: state.clone(),
            clock: config.clock.clone(),
            budget: budget.clone(),
            metrics: Arc::clone(&metrics),
            forward,
            intake: intake.clone(),
            spool_dir: dead.have_a_file().then(|| config.state.dir.clone()),
            transport: match options.service {
                Some(service) => Transport::InProcess(service),
                None => Transport::Network(http::client(&config.collect.tls, &config.collect.proxy, None)?),
            },
            troubles: troubles.clone(),
        };
        let mut source = Source::new(&config.collect, context, options.once.is_some());
        let mut loops = JoinSet::new();
        let start = |tenant: &TenantConfig| {
            (tenant.tenant.id.clone(), source.start(tenant, std::future::ready(()), &mut loops))
        };
        let tenants = config.tenants.iter().map(start).collect();

        let look = Look {
            graph: told_graph,
            config: reloader.status(),
            state: state.clone(),
            budget: budget.clone(),
            metrics: Arc::clone(&metrics),
            troubles,
            intake,
        };
        let tick = if config.clock.may_jump() { JUMPING_TICK } else { TICK };
        let pulse = tokio::spawn(beat(options.heartbeat, budget.clone(), Arc::clone(&metrics), tick));
        Ok(App {
            state,
            metrics,
            budget,
            dead,
            observer: options.observer,
            graph,
            routes,
            source: Some(source),
            loops,
            tenants,
            workers,
            burial,
            reloader,
            retired: Vec::new(),
            leaving: JoinSet::new(),
            status: look.into_source(),
            once: options.once,
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
        let timeout = tokio::time::sleep(self.once.unwrap_or(Duration::MAX));
        tokio::pin!(stop, timeout);
        let mut ending = loop {
            let step = tokio::select! {
                () = &mut stop => break Ending::Clean,
                // A part that panicked would leave its feeds standing still in silence: rather end and be started anew.
                ended = loops_ended(&mut self.loops, is_once) => match ended {
                    Ok(()) => break Ending::Clean,
                    Err(Panicked) => Step::Fault,
                },
                Err(Panicked) = all_ended(&mut self.workers) => Step::Fault,
                Err(Panicked) = all_ended(&mut self.burial) => Step::Fault,
                () = &mut timeout, if is_once => break Ending::Unreachable,
                error = self.state.failed() => return Ending::StateUnusable(error),
                step = self.reloader.next() => step,
            };
            match step {
                Step::Asked => self.reloader.read(Arc::clone(&self.graph.borrow()), self.state.clone()),
                Step::Read(Ok(prepared)) => self.apply(*prepared),
                Step::Read(Err(refusal)) => self.reloader.refused(refusal),
                Step::Done => self.retired.clear(),
                Step::Fault => {
                    tracing::error!(
                        "a part of the process failed by a fault of ours; the process ends, and what was not acknowledged is fetched again after the next start"
                    );
                    return Ending::Fault;
                }
            }
        };
        if let Err(error) = self.drain().await {
            return Ending::StateUnusable(error);
        }
        if is_once && matches!(ending, Ending::Clean) && (self.lost() || self.has_dead_letters()) {
            ending = Ending::LossOrDeadLetters;
        }
        ending
    }

    /// Puts a new configuration into force. Nothing here waits: what must come after something else waits by itself.
    fn apply(&mut self, prepared: Prepared) {
        let Prepared { config, change, built, known, enricher } = prepared;
        let old = Arc::clone(&self.graph.borrow());
        let is_retired = |name: &String| change.sinks.removed.contains(name) || change.sinks.changed.contains(name);
        let leaving: Vec<Leaving> = old
            .names
            .iter()
            .filter(|(_, name)| is_retired(name))
            .filter_map(|(id, name)| {
                let (end, ended) = watch::channel(());
                let (config, _) = old.sink(name)?;
                let is_removed = change.sinks.removed.contains(name);
                Some(Leaving {
                    config: config.clone(),
                    driver: old.drivers.get(id)?.clone(),
                    id: *id,
                    is_removed,
                    end,
                    ended,
                })
            })
            .collect();

        let mut drivers = old.drivers.clone();
        leaving.iter().for_each(|leaving| drop(drivers.remove(&leaving.id)));
        for built in built {
            let turn = after(leaving.iter().filter(|leaving| leaving.is_before(&built.config)));
            drivers.insert(built.id, start_driver(turn, built, &self.state, &self.dead, &self.metrics));
        }
        if change.enrich {
            enricher.keep_fresh();
            old.enricher.forget_what_is_not_of(&enricher, &self.metrics);
        }
        let new = Graph::new(config, known, drivers, enricher, &self.metrics, self.observer.clone());
        let new = Arc::new(new.going_on_from(&old));
        self.routes.send_replace(Arc::clone(&new.routes));
        self.graph.send_replace(Arc::clone(&new));

        self.budget.set_limit(new.config.collect.in_flight);
        fit_into(new.config.collect.in_flight, new.drivers.values());
        self.metrics.in_flight_limit.set(i64::try_from(self.budget.limit()).unwrap_or(i64::MAX));
        self.apply_tenants(&old, &new, &change);

        let mut retiring = JoinSet::new();
        self.retired = leaving.iter().map(|leaving| leaving.driver.clone()).collect();
        let last = Arc::downgrade(&old);
        for leaving in leaving {
            let told = self.graph.subscribe();
            retiring.spawn(leaving.retire(Weak::clone(&last), told, self.state.clone(), Arc::clone(&self.metrics)));
        }
        self.reloader.applied(&new.config, &change, retiring);
    }

    /// Stops and starts what the change asks for; the others go on with their token and what they know.
    fn apply_tenants(&mut self, old: &Graph, new: &Graph, change: &Change) {
        let Some(source) = &mut self.source else { return };
        if change.collect {
            source.set_collect(&new.config.collect);
        }
        let mut before = HashMap::new();
        for tenant in &old.config.tenants {
            let stays = new.config.tenants.contains(tenant) && !change.collect;
            if let Some(running) = self.tenants.get(&tenant.tenant.id).filter(|_| !stays) {
                running.stop();
                self.leaving.spawn(forget(
                    running.ended(),
                    tenant.clone(),
                    self.graph.subscribe(),
                    Arc::clone(&self.metrics),
                ));
                before.insert(tenant.tenant.id.clone(), running.ended());
                self.tenants.remove(&tenant.tenant.id);
            }
        }
        for tenant in &new.config.tenants {
            let id = &tenant.tenant.id;
            if self.tenants.contains_key(id) {
                continue;
            }
            let before = before.remove(id);
            let turn = async move {
                if let Some(before) = before {
                    let _ = tokio::time::timeout(SUCCESSION, before).await;
                }
            };
            self.tenants.insert(id.clone(), source.start(tenant, turn, &mut self.loops));
        }
        while self.leaving.try_join_next().is_some() {}
    }

    /// Ends everything in the order of the flow, within [`DRAIN`].
    async fn drain(&mut self) -> Result<(), StateError> {
        let deadline = Instant::now() + DRAIN;
        // What a reload retired goes on to its end: what came in its place begins only then, and the source rests only
        // when that has sent all.
        let mut retiring = self.reloader.end();
        self.source = None;
        self.tenants.values().for_each(TenantLoop::stop);
        let at_rest = async {
            while self.loops.join_next().await.is_some() {}
            while self.workers.join_next().await.is_some() {}
        };
        let retired = async { while retiring.join_next().await.is_some() {} };
        if tokio::time::timeout_at(deadline, async { tokio::join!(at_rest, retired) }).await.is_err() {
            tracing::warn!("the drain is cut short; what was not acknowledged is fetched again after the next start");
        }
        retiring.shutdown().await;
        self.loops.shutdown().await;
        self.workers.shutdown().await;
        let mut drivers: Vec<DriverHandle> = self.graph.borrow().drivers.values().cloned().collect();
        drivers.append(&mut self.retired);
        drivers.iter().for_each(DriverHandle::close);
        let sinks = futures_util::future::join_all(drivers.iter().map(|driver| driver.finish(deadline)));
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
        self.leaving.shutdown().await;
        self.pulse.abort();
        self.intake.abort();
        self.pace.iter().for_each(JoinHandle::abort);
        let close = self.state.close();
        tokio::pin!(close);
        let last = (deadline + LAST_COMMIT).max(Instant::now() + LEAST_COMMIT);
        match self.state.base::<Keeper>() {
            None => close.await,
            Some(keeper) => match tokio::time::timeout_at(last, &mut close).await {
                Ok(closed) => closed,
                Err(_) => {
                    tracing::warn!(
                        "the brokers do not take the last of the state; it is fetched again after the next start"
                    );
                    keeper.give_up();
                    close.await
                }
            },
        }
    }

    fn lost(&self) -> bool {
        self.metrics.blobs_lost.total() > 0 || self.metrics.refused_seconds.total() > 0
    }

    fn has_dead_letters(&self) -> bool {
        self.metrics.dead_letters.total() > 0
    }
}

/// A task of the set panicked.
struct Panicked;

/// Returns when all tasks have ended.
async fn all_ended(tasks: &mut JoinSet<()>) -> Result<(), Panicked> {
    while let Some(ended) = tasks.join_next().await {
        ended.map_err(|_| Panicked)?;
    }
    Ok(())
}

/// The same for tenants' loops: unless it is a run that ends, that none is left is no end, for a reload may start one.
async fn loops_ended(loops: &mut JoinSet<()>, is_once: bool) -> Result<(), Panicked> {
    all_ended(loops).await?;
    if !is_once {
        std::future::pending::<()>().await;
    }
    Ok(())
}

/// A driver on its way out.
struct Leaving {
    config: SinkConfig,
    driver: DriverHandle,
    id: crate::sink::SinkId,
    is_removed: bool,
    /// Dropped when the driver has ended.
    end: watch::Sender<()>,
    ended: watch::Receiver<()>,
}

impl Leaving {
    /// Whether `new` must send nothing before this one has ended: they are one sink, or write to one file.
    fn is_before(&self, new: &SinkConfig) -> bool {
        let writes = |sink: &SinkConfig| (sink.kind.type_name(), sink.kind.target());
        self.config.name == new.name || writes(&self.config) == writes(new)
    }

    /// Lets the driver send what is queued, within bounds; what it has not sent then is given back. `last` is the graph
    /// that it is of; `running` the one of the moment.
    async fn retire(
        self,
        last: Weak<Graph>,
        running: watch::Receiver<Arc<Graph>>,
        state: State,
        metrics: Arc<Metrics>,
    ) {
        let Leaving { config: SinkConfig { name, .. }, driver, id, is_removed, end, .. } = self;
        // A worker may be at a part of which this sink is to get something.
        let parts = async {
            while last.strong_count() > 0 {
                tokio::time::sleep(Duration::from_millis(5)).await
            }
        };
        let _ = tokio::time::timeout(LAST_PARTS, parts).await;
        let lost = || metrics.sink_events.with_label_values(&[&name, "lost"]).get();
        let before = lost();
        let took_all = driver.retire(Instant::now() + RETIRE).await;
        state.sink_ended(id);
        let released = lost().saturating_sub(before);
        match (is_removed, took_all) {
            (true, true) => tracing::info!(sink = name, "the removed sink has taken all that was on its way to it"),
            (true, false) => tracing::warn!(
                sink = name,
                events = released,
                "the removed sink has not taken all that was on its way to it; its share is released, the other sinks get what they lack"
            ),
            (false, _) => {
                tracing::info!(sink = name, fetched_again = released, "the sink goes on with its new configuration")
            }
        }
        if is_removed && running.borrow().sink(&name).is_none() {
            metrics.forget(&[("sink", &name)]);
        }
        drop(end);
    }
}

/// Returns when all of these have ended.
fn after<'a>(leaving: impl Iterator<Item = &'a Leaving>) -> Pin<Box<dyn Future<Output = ()> + Send>> {
    let ended: Vec<_> = leaving.map(|leaving| leaving.ended.clone()).collect();
    Box::pin(async move {
        for mut ended in ended {
            while ended.changed().await.is_ok() {}
        }
    })
}

/// Forgets the metrics of a tenant's feeds that are not collected any more, once nobody counts for them.
async fn forget(
    ended: impl Future<Output = ()>,
    tenant: TenantConfig,
    running: watch::Receiver<Arc<Graph>>,
    metrics: Arc<Metrics>,
) {
    ended.await;
    let graph = Arc::clone(&running.borrow());
    let name = tenant.tenant.name.as_str();
    match graph.tenant(name) {
        None => metrics.forget(&[("tenant", name)]),
        Some(now) => {
            for gone in tenant.content_types.iter().filter(|kind| !now.content_types.contains(kind)) {
                metrics.forget(&[("tenant", name), ("content_type", gone.as_str())]);
            }
        }
    }
}

/// What waits for the sinks that are not required, together small within a budget of so many bytes.
fn fit_into<'a>(in_flight: usize, drivers: impl Iterator<Item = &'a DriverHandle> + Clone) {
    let optional = drivers.clone().filter(|driver| driver.is_optional()).count();
    drivers.for_each(|driver| driver.fit_into(in_flight, optional));
}

async fn open_state(config: &Config, metrics: &Arc<Metrics>) -> Result<State, AppError> {
    let (settings, metrics) = (config.state.clone(), Arc::clone(metrics));
    let Some((sink, kafka, topic)) = config.kept_by() else {
        return Ok(tokio::task::spawn_blocking(move || State::open(&settings, metrics)).await??);
    };
    let keeper = Keeper::begin(sink, kafka, topic, &config.state.dir, Arc::clone(&metrics)).await?;
    // Dropped before the state is open, whatever is written then waits no longer.
    let opening = Opening(Some(Arc::new(keeper)));
    let Some(keeper) = opening.0.clone() else { return Err(StateError::Closed.into()) };
    let base = Arc::clone(&keeper);
    let opened = tokio::task::spawn_blocking(move || State::open_on(&settings, metrics, base));
    let opened = tokio::time::timeout(Keeper::PATIENCE, opened).await.map_err(|_| keeper.away())??;
    opening.succeeded();
    Ok(opened?)
}

/// A state in Kafka that is being opened: a start that ends before lets its first commit go.
struct Opening(Option<Arc<Keeper>>);

impl Opening {
    fn succeeded(mut self) {
        self.0 = None;
    }
}

impl Drop for Opening {
    fn drop(&mut self) {
        if let Some(keeper) = &self.0 {
            keeper.give_up();
        }
    }
}

/// What `enrich` asks for; its databases are copied, which takes a moment.
async fn open_enricher(config: &Config, metrics: &Arc<Metrics>) -> Result<Arc<Enricher>, AppError> {
    let (settings, copies, metrics) = (config.enrich.clone(), config.state.dir.clone(), Arc::clone(metrics));
    let enricher = tokio::task::spawn_blocking(move || Enricher::open(&settings, &copies, &metrics)).await?;
    enricher.keep_fresh();
    Ok(enricher)
}

/// Of a sink that belongs to what runs from now on: only here is it named in the state.
fn start_driver(
    turn: impl Future<Output = ()> + Send + 'static,
    built: Built,
    state: &State,
    dead: &DeadLetters,
    metrics: &Arc<Metrics>,
) -> DriverHandle {
    let Built { config, id, sink, .. } = built;
    state.name_sink(id, &config.name);
    driver::spawn(turn, config, id, sink, state.clone(), dead.clone(), Arc::clone(metrics))
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
