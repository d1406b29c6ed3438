//! When the configuration is read anew, and how far a reload has got. One at a time: what is asked for meanwhile is
//! done afterwards, several as one.
//!
//! Comes in: requests (a signal, a file that changed). Goes out: steps, for the app to take; what is shown of it in
//! log, metrics and `/status`. Reading, checking and building happen beside the async threads and change nothing: only a
//! configuration that can be run as a whole is handed over.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

use super::all_ended;
use super::change::Change;
use super::graph::{Built, Graph, Known, build};
use crate::admin::{ConfigStatus, ReloadStatus};
use crate::clock::world_ms;
use crate::config::{Config, Inputs, load_with_inputs};
use crate::enrich::Enricher;
use crate::metrics::Metrics;
use crate::state::State;

/// Between two looks at the files. A change is read when two looks found the same: 2 to 6 seconds later.
const LOOK: Duration = Duration::from_secs(2);
/// How often it is read at most, when what was read first has changed before the last was: as when a ConfigMap is
/// swapped just then. A file that never stands still is taken as it is.
const READS: usize = 3;

/// What is read anew, and by whom that may be asked for. Cheap to clone.
#[derive(Clone)]
pub struct Reload {
    path: PathBuf,
    watches: bool,
    asked: watch::Sender<&'static str>,
    inputs: watch::Sender<Inputs>,
}

impl Reload {
    /// For a configuration that was read from `path`; `inputs` is what it was read from. `watches`: look
    /// after those files, and do not only wait to be asked.
    pub fn new(path: &Path, inputs: Inputs, watches: bool) -> Reload {
        let (asked, inputs) = (watch::channel("").0, watch::channel(inputs).0);
        Reload { path: path.to_owned(), watches, asked, inputs }
    }

    /// Asks for a reload, by `cause`. Returns at once.
    pub fn ask(&self, cause: &'static str) {
        self.asked.send_replace(cause);
    }

    /// Looks at the files from time to time, and asks when they changed and stand still again: a file that is just
    /// being written is not read half.
    async fn watch(self) {
        let mut read = self.inputs.subscribe();
        let mut before: Option<Inputs> = None;
        loop {
            tokio::time::sleep(LOOK).await;
            let known = read.borrow_and_update().clone();
            let look = { tokio::task::spawn_blocking(move || (known.look_again(), known)).await };
            let Ok((look, known)) = look else { continue };
            if look != known && before.as_ref() == Some(&look) {
                self.ask("a file changed");
                // The reload looks at them anew, good or bad.
                let _ = read.changed().await;
                before = None;
            } else {
                before = Some(look);
            }
        }
    }
}

/// What the app has to do next.
pub(super) enum Step {
    /// Somebody asked.
    Asked,
    /// The new configuration was read, and can be run or not.
    Read(Result<Box<Prepared>, Refusal>),
    /// What was retired has ended.
    Done,
    Fault,
}

/// A configuration that can be run: every sink that it needs is built.
pub(super) struct Prepared {
    pub config: Config,
    pub change: Change,
    /// Sinks that are new or changed.
    pub built: Vec<Built>,
    pub known: Known,
    /// The running one, unless `enrich` has changed.
    pub enricher: Arc<Enricher>,
}

/// Why the running configuration stays, each with its place where it has one.
pub(super) struct Refusal(pub Vec<String>);

enum Stage {
    Idle,
    Reading(JoinHandle<Result<Box<Prepared>, Refusal>>),
    Retiring(JoinSet<()>),
}

/// See the module's head.
pub(super) struct Reloader {
    reload: Option<Reload>,
    asked: Option<watch::Receiver<&'static str>>,
    cause: &'static str,
    stage: Stage,
    watch: Option<JoinHandle<()>>,
    status: Arc<Mutex<ConfigStatus>>,
    metrics: Arc<Metrics>,
}

impl Reloader {
    pub fn new(reload: Option<Reload>, config: &Config, metrics: Arc<Metrics>) -> Reloader {
        for result in ["ok", "refused"] {
            metrics.config_reloads.with_label_values(&[result]);
        }
        let status = ConfigStatus { fingerprint: fingerprint(config), loaded_at: now(), last_reload: None };
        show_success(&metrics, status.loaded_at);
        let subscribed = |reload: &Reload| {
            let mut asked = reload.asked.subscribe();
            // Somebody asked while the state was being opened.
            if !asked.borrow().is_empty() {
                asked.mark_changed();
            }
            asked
        };
        Reloader {
            asked: reload.as_ref().map(subscribed),
            watch: reload.clone().filter(|reload| reload.watches).map(|reload| tokio::spawn(reload.watch())),
            reload,
            cause: "",
            stage: Stage::Idle,
            status: Arc::new(Mutex::new(status)),
            metrics,
        }
    }

    /// For `/status`.
    pub fn status(&self) -> Arc<Mutex<ConfigStatus>> {
        Arc::clone(&self.status)
    }

    /// The next thing to do; never, where nothing is read anew. May be dropped and asked again.
    pub async fn next(&mut self) -> Step {
        match &mut self.stage {
            Stage::Idle => {
                if let Some(asked) = &mut self.asked
                    && asked.changed().await.is_ok()
                {
                    self.cause = *asked.borrow();
                    return Step::Asked;
                }
                std::future::pending().await
            }
            Stage::Reading(read) => {
                let read = read.await;
                self.stage = Stage::Idle;
                Step::Read(read.unwrap_or_else(|_| Err(fault())))
            }
            Stage::Retiring(retiring) => {
                if all_ended(retiring).await.is_err() {
                    return Step::Fault;
                }
                self.stage = Stage::Idle;
                Step::Done
            }
        }
    }

    /// Reads, checks and builds, beside the async threads.
    pub fn read(&mut self, running: Arc<Graph>, state: State) {
        let Some(Reload { path, inputs, .. }) = self.reload.clone() else { return };
        let metrics = Arc::clone(&self.metrics);
        self.stage = Stage::Reading(tokio::task::spawn_blocking(move || {
            survive(&inputs, || {
                let (read, loaded) = steadily(|| load_with_inputs(&path));
                inputs.send_replace(read);
                let loaded = loaded.map_err(|faults| Refusal(faults.0.iter().map(ToString::to_string).collect()))?;
                loaded.log_warnings();
                prepare(loaded.config, &running, &state, &metrics).map(Box::new)
            })
        }));
    }

    /// The graph was swapped; the reload is done when what `retiring` holds has ended.
    pub fn applied(&mut self, config: &Config, change: &Change, retiring: JoinSet<()>) {
        self.stage = Stage::Retiring(retiring);
        self.metrics.config_reloads.with_label_values(&["ok"]).inc();
        let at = now();
        show_success(&self.metrics, at);
        tracing::info!(cause = self.cause, changes = %change, "the configuration was read anew");
        let result = if change.is_empty() { "unchanged" } else { "applied" };
        let mut status = self.lock();
        (status.fingerprint, status.loaded_at) = (fingerprint(config), at);
        status.last_reload =
            Some(ReloadStatus { at, result, cause: self.cause, changes: change.to_string(), faults: Vec::new() });
    }

    /// The running configuration stays.
    pub fn refused(&mut self, Refusal(faults): Refusal) {
        self.metrics.config_reloads.with_label_values(&["refused"]).inc();
        self.metrics.config_last_reload_successful.set(0);
        for fault in &faults {
            tracing::error!(fault, "the new configuration cannot be run");
        }
        tracing::error!(
            cause = self.cause,
            faults = faults.len(),
            "the new configuration is refused, nothing of it is used; the one before runs on"
        );
        let (at, result, cause) = (now(), "refused", self.cause);
        self.lock().last_reload = Some(ReloadStatus { at, result, cause, changes: String::new(), faults });
    }

    /// Nothing is read any more. Returns what is being retired, the caller's to end.
    pub fn end(&mut self) -> JoinSet<()> {
        self.watch.iter().for_each(JoinHandle::abort);
        self.asked = None;
        match std::mem::replace(&mut self.stage, Stage::Idle) {
            Stage::Retiring(retiring) => retiring,
            Stage::Idle | Stage::Reading(_) => JoinSet::new(),
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, ConfigStatus> {
        self.status.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn fault() -> Refusal {
    Refusal(vec!["reading it failed by a fault of auditferry; please report it".to_owned()])
}

/// What `read` brings. A parser that panics is no reason to stop what runs: the files that it read count as seen, so that
/// the next change of them is noticed, and not this one again.
fn survive<T>(inputs: &watch::Sender<Inputs>, read: impl FnOnce() -> Result<T, Refusal>) -> Result<T, Refusal> {
    catch_unwind(AssertUnwindSafe(read)).unwrap_or_else(|_| {
        inputs.send_modify(|seen| *seen = seen.look_again());
        Err(fault())
    })
}

/// Reads until everything looks as it did when it was read, so that no half of a change is taken.
fn steadily<T>(mut read: impl FnMut() -> (Inputs, T)) -> (Inputs, T) {
    let mut tries = 1;
    loop {
        let (inputs, read) = read();
        if tries == READS || inputs.look_again() == inputs {
            return (inputs, read);
        }
        tries += 1;
    }
}

/// Compares with what runs and builds what that lacks. Blocking.
fn prepare(config: Config, running: &Graph, state: &State, metrics: &Arc<Metrics>) -> Result<Prepared, Refusal> {
    let mut change = Change::between(&running.config, &config);
    if !change.needs_restart.is_empty() {
        let fault = |key| format!("`{key}` has changed, which needs a restart: restart to change it, or put it back");
        return Err(Refusal(change.needs_restart.iter().map(fault).collect()));
    }
    for sink in config
        .sinks
        .iter()
        .filter(|sink| running.known.get(&sink.name).is_some_and(|(_, files)| *files != Inputs::of(sink.files())))
    {
        // A certificate that was rotated, of a sink that is the same otherwise.
        if !change.sinks.changed.contains(&sink.name) {
            change.sinks.changed.push(sink.name.clone());
        }
    }
    let is_new = |name: &String| change.sinks.added.contains(name) || change.sinks.changed.contains(name);
    let built = build(config.sinks.iter().filter(|sink| is_new(&sink.name)), state, metrics);
    let built = built.map_err(|error| {
        // What building declared of sinks that will not be.
        change.sinks.added.iter().for_each(|name| metrics.forget(&[("sink", name)]));
        Refusal(vec![error.to_string()])
    })?;
    let mut known = running.known.clone();
    known.extend(built.iter().map(|built| (built.config.name.clone(), (built.id, built.files.clone()))));
    let enricher = match change.enrich {
        true => Enricher::open(&config.enrich, &config.state.dir, metrics),
        false => Arc::clone(&running.enricher),
    };
    Ok(Prepared { config, change, built, known, enricher })
}

fn now() -> i64 {
    world_ms() / 1000
}

fn show_success(metrics: &Metrics, at: i64) {
    metrics.config_last_reload_successful.set(1);
    metrics.config_last_reload_success.set(at);
}

/// Of what the configuration says where secrets are blotted out, as its `Debug` has it: nobody can try secrets against it.
fn fingerprint(config: &Config) -> String {
    blake3::hash(format!("{config:?}").as_bytes()).to_hex()[..16].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whoever looks after the files waits for what was read.
    #[test]
    fn a_panic_at_reading_is_a_refusal_and_the_files_are_looked_after_further() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("main");
        std::fs::write(&path, "good").unwrap();
        let inputs = watch::Sender::new(Inputs::of([path.as_path()]));
        let read = inputs.subscribe();
        std::fs::write(&path, "of another length").unwrap();
        let outcome: Result<(), _> = survive(&inputs, || panic!("planted"));
        assert!(outcome.is_err_and(|refusal| refusal.0[0].contains("report it")));
        assert!(read.has_changed().unwrap());
        assert!(*read.borrow() == Inputs::of([path.as_path()]), "or it would be read again for ever");
    }

    /// Two files that belong together, changed between the reading of the one and of the other.
    #[test]
    fn what_changes_while_it_is_read_is_read_again_and_not_for_ever() {
        let dir = tempfile::tempdir().unwrap();
        let at = ["main", "more"].map(|name| dir.path().join(name));
        for (changes, expected, tries) in [(0, ["0", "0"], 1), (1, ["1", "1"], 2), (9, ["2", "3"], READS)] {
            let write = |n: usize| at.iter().for_each(|path| std::fs::write(path, n.to_string()).unwrap());
            write(0);
            let mut reads = 0;
            let (_, read) = steadily(|| {
                reads += 1;
                let inputs = Inputs::of(at.iter().map(PathBuf::as_path));
                let first = std::fs::read_to_string(&at[0]).unwrap();
                // A clock tick of the file system.
                std::thread::park_timeout(Duration::from_millis(20));
                if reads <= changes {
                    write(reads);
                }
                (inputs, [first, std::fs::read_to_string(&at[1]).unwrap()])
            });
            assert_eq!((read.each_ref().map(String::as_str), reads), (expected, tries), "{changes} changes");
        }
    }
}
