//! What must survive a crash: which feed stands where, which record which sink has, where files end.
//! A journal of facts with group commit, compacted into a snapshot; facts are the only way to change
//! what is known, so a start that replays them knows what the process knew.
//!
//! ```text
//! lock                    held while a process has the directory
//! journal-<generation>.log  blocks of facts, one a group commit
//! snapshot-<generation>.bin all that was known when the journal of that generation began
//! keys-<id>.seg             record keys of older journals, sorted
//! ```
//! The files hold no secret and no content of a record. Nothing here talks to the network.

mod book;
mod commit;
mod compact;
mod error;
pub(crate) mod frame;
mod group;
mod journal;
mod load;
mod open;
mod progress;
mod size;
pub(crate) mod snapshot;

pub use error::StateError;
pub(crate) use error::{check_version, failed_fsync, failure};
pub use progress::{
    CELL, Cell, ContentKey, FeedFact, FeedProgress, LEDGER_NAMES, Ledger, ListedBlob, LossReason, LostBlob,
    PendingBlob, Subscription,
};

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::watch;

use crate::ack::Outcome;
use crate::clock::world_ms;
use crate::config::StateConfig;
use crate::delivered::shelf::{self, Limits};
use crate::delivered::{Delivered, FULL, is_had, settle};
use crate::disk::{self, Lock};
use crate::failpoint;
use crate::feed::FeedKey;
use crate::metrics::Metrics;
use crate::record::RecordKey;
use crate::sink::{FilePosition, SinkId};

use book::Book;
use frame::Frame;
use group::{Group, Pace};
use load::Listing;

/// How often [`State::inspect`] looks again when the running process removes files under its eyes.
const INSPECT_TRIES: usize = 10;

/// Suffix of a file that is being written; whatever bears it at a start is rubbish.
pub(crate) const TEMPORARY: &str = ".tmp";

/// Where `path` is written before it is renamed into place.
pub(crate) fn temporary(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(TEMPORARY);
    PathBuf::from(name)
}

/// What a directory rests on that is on no disk: kept as long as the state is, and otherwise none of its business.
pub type Base = Arc<dyn std::any::Any + Send + Sync>;

/// The state directory of the one process that may have it. Cheap to clone.
#[derive(Clone)]
pub struct State {
    handle: Arc<Handle>,
}

/// One feed's part of the state. Cheap to clone.
#[derive(Clone)]
pub struct FeedState {
    handle: Arc<Handle>,
    key: FeedKey,
    progress: Arc<Mutex<FeedProgress>>,
}

/// See [`State::look`].
#[cfg(any(test, feature = "failpoints"))]
#[doc(hidden)]
pub struct Looked {
    pub delivered: Delivered,
    pub feeds: BTreeMap<FeedKey, FeedProgress>,
    /// Labels of `state_recoveries_total`.
    pub findings: Vec<&'static str>,
}

/// Thresholds, apart from the configuration so that tests can make them small.
#[derive(Clone, Copy, Debug)]
struct Options {
    pace: Pace,
    /// A journal is compacted beyond this and twice the last snapshot, bytes.
    journal_bytes: u64,
    /// Keys of a generation in memory.
    generation_keys: usize,
    shelf: Limits,
    /// Wait before a failed compaction is tried again.
    retry_after: Duration,
}

impl Options {
    fn new(config: &StateConfig) -> Options {
        Options {
            // Group commit: DESIGN 2.4.
            pace: Pace {
                interval: Duration::from_secs(1),
                bytes: 1 << 20,
                // Tells how old the state is when a file was changed after it (see `book`).
                heartbeat: Duration::from_secs(30),
                // The keys of a full budget of 32 MiB are a few MiB: beyond, the disk is behind.
                behind: 8 << 20,
                // Listings go on meanwhile, 400 bytes a new blob: 150,000 of them.
                most: 64 << 20,
                retry: Duration::from_secs(1),
            },
            journal_bytes: if disk::is_mirrored(&config.dir) { journal_bytes().min(4 << 20) } else { journal_bytes() },
            // Some room for what is acknowledged until the journal has ended: a table beyond `FULL`
            // keys doubles to 22 MB.
            generation_keys: FULL - (1 << 15),
            shelf: Limits::new(config.max_delivered_bytes),
            // The disk may be full, and somebody may mend it.
            retry_after: Duration::from_secs(60),
        }
    }
}

#[cfg(any(test, feature = "failpoints"))]
impl Options {
    /// Compacts after every few hundred bytes.
    fn small(config: &StateConfig) -> Options {
        let options = Options::new(config);
        let millis = Duration::from_millis;
        let pace = Pace { interval: millis(5), retry: millis(10), ..options.pace };
        let shelf = Limits { segments: 2, ..options.shelf };
        Options { journal_bytes: 1, generation_keys: 10, pace, shelf, retry_after: millis(20) }
    }
}

/// Beyond how many bytes a journal is compacted: 16 MiB are read at a start in well under a second. The
/// tests that kill the process make it small by `AUDITFERRY_JOURNAL_LIMIT`, so that every run compacts.
fn journal_bytes() -> u64 {
    #[cfg(feature = "failpoints")]
    if let Some(bytes) = std::env::var("AUDITFERRY_JOURNAL_LIMIT").ok().and_then(|bytes| bytes.parse().ok()) {
        return bytes;
    }
    16 << 20
}

/// What the process and the committing thread share.
pub(crate) struct Shared {
    dir: PathBuf,
    options: Options,
    /// Held for reading while something is changed and journalled, for writing while a journal ends:
    /// so that a snapshot holds exactly what its older journals say.
    gate: RwLock<()>,
    feeds: Mutex<BTreeMap<FeedKey, Arc<Mutex<FeedProgress>>>>,
    book: Mutex<Book>,
    group: Group,
    delivered: Arc<Delivered>,
    metrics: Arc<Metrics>,
    next_segment: AtomicU64,
    newest_at_start: i64,
    /// By which key segments age.
    running: shelf::Running,
}

impl Shared {
    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn feeds(&self) -> MutexGuard<'_, BTreeMap<FeedKey, Arc<Mutex<FeedProgress>>>> {
        self.feeds.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn changing(&self) -> RwLockReadGuard<'_, ()> {
        self.gate.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn name_sink(&self, book: &mut Book, id: SinkId, name: &str) {
        if !book.sinks.contains_key(&id) {
            book.name(id, name);
            self.append(&Frame::Sink { id, name: Cow::Borrowed(name) });
        }
    }

    fn append(&self, frame: &Frame<'_>) {
        self.group.append(frame, &self.options.pace, &self.dir);
    }

    fn next_segment(&self) -> u64 {
        self.next_segment.fetch_add(1, Ordering::Relaxed)
    }
}

/// The last clone to go commits what is pending and lets the directory go.
struct Handle {
    shared: Arc<Shared>,
    /// What the directory itself rests on, where that is no disk.
    base: Option<Base>,
    running: Mutex<Option<(JoinHandle<()>, Lock)>>,
}

impl Handle {
    fn close(&self) {
        self.shared.group.close();
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some((thread, lock)) = running {
            let _ = thread.join();
            drop(lock);
        }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.close();
    }
}

impl State {
    /// Takes the directory, loads what is there, recovers what is damaged. Blocking.
    pub fn open(config: &StateConfig, metrics: Arc<Metrics>) -> Result<State, StateError> {
        State::open_with(config, metrics, Options::new(config))
    }

    /// As [`State::open`], of a directory that `base` has mounted.
    pub fn open_on(config: &StateConfig, metrics: Arc<Metrics>, base: Base) -> Result<State, StateError> {
        let mut handle = open::open(config, metrics, Options::new(config))?;
        handle.base = Some(base);
        Ok(State { handle: Arc::new(handle) })
    }

    /// What the directory rests on, if it is a `T`.
    pub(crate) fn base<T: Send + Sync + 'static>(&self) -> Option<Arc<T>> {
        Arc::clone(self.handle.base.as_ref()?).downcast().ok()
    }

    /// As [`State::open`], but ends its journal at every chance, so that a short test goes through every step.
    #[cfg(any(test, feature = "failpoints"))]
    #[doc(hidden)]
    pub fn open_small(config: &StateConfig, metrics: Arc<Metrics>) -> Result<State, StateError> {
        State::open_with(config, metrics, Options::small(config))
    }

    /// What a start would know of `dir`, and what it would call damaged; nothing is changed or begun.
    #[cfg(any(test, feature = "failpoints"))]
    #[doc(hidden)]
    pub fn look(dir: &Path, metrics: &Metrics) -> Result<Looked, StateError> {
        let open::Read { delivered, loaded, .. } = open::read(dir, metrics)?;
        let findings = loaded.findings.iter().map(|finding| finding.reason).collect();
        Ok(Looked { delivered, feeds: loaded.feeds, findings })
    }

    fn open_with(config: &StateConfig, metrics: Arc<Metrics>, options: Options) -> Result<State, StateError> {
        Ok(State { handle: Arc::new(open::open(config, metrics, options)?) })
    }

    /// A state in memory only that keeps nothing, for whoever lists without keeping books.
    pub(crate) fn detached(metrics: Arc<Metrics>) -> State {
        let config = StateConfig { dir: PathBuf::new(), max_delivered_bytes: 0 };
        let group = Group::new();
        group.ended();
        let shared = Shared {
            dir: config.dir.clone(),
            options: Options::new(&config),
            gate: RwLock::new(()),
            feeds: Mutex::default(),
            book: Mutex::default(),
            group,
            delivered: Arc::new(Delivered::new(&metrics)),
            metrics,
            next_segment: AtomicU64::new(0),
            newest_at_start: 0,
            running: shelf::Running::after(&[], 0),
        };
        State { handle: Arc::new(Handle { shared: Arc::new(shared), base: None, running: Mutex::new(None) }) }
    }

    /// Reads what is there without taking the directory, for `state show`. A running process may
    /// have committed more by the time it returns.
    pub fn inspect(dir: &Path) -> Result<Vec<(FeedKey, FeedProgress)>, StateError> {
        let mut tries = 0;
        loop {
            let loaded = Listing::of(dir).and_then(|listing| load::load(dir, &listing, &mut |_, _| {}));
            tries += 1;
            match loaded {
                // Compacted meanwhile: what was listed is gone, newer files are there.
                Err(StateError::Io { path, source })
                    if source.kind() == std::io::ErrorKind::NotFound
                        && tries < INSPECT_TRIES
                        && Path::new(&path) != dir => {}
                loaded => {
                    let loaded = loaded?;
                    for load::Finding { reason, path } in &loaded.findings {
                        tracing::warn!(reason, path = %path.display(), "damaged state; the next start repairs it");
                    }
                    return Ok(loaded.feeds.into_iter().collect());
                }
            }
        }
    }

    /// The id of a sink's name, new or as it was.
    pub fn sink_id(&self, name: &str) -> Result<SinkId, StateError> {
        let shared = &self.handle.shared;
        let _gate = shared.changing();
        let mut book = shared.book();
        let id = book.choose(name, &[])?;
        shared.name_sink(&mut book, id, name);
        Ok(id)
    }

    /// The ids that sinks of these names have, or would get if they were named now. Names none: what is built may still
    /// be refused, and an id that was given stays given.
    pub fn sink_ids<'a>(&self, names: impl IntoIterator<Item = &'a str>) -> Result<Vec<SinkId>, StateError> {
        let book = self.handle.shared.book();
        let mut chosen = Vec::new();
        for name in names {
            chosen.push(book.choose(name, &chosen)?);
        }
        Ok(chosen)
    }

    /// Gives the id that [`sink_ids`](Self::sink_ids) chose its name, for good.
    pub fn name_sink(&self, id: SinkId, name: &str) {
        let shared = &self.handle.shared;
        let _gate = shared.changing();
        shared.name_sink(&mut shared.book(), id, name);
    }

    /// The part of one feed.
    pub fn feed(&self, key: &FeedKey) -> FeedState {
        let progress = Arc::clone(self.handle.shared.feeds().entry(key.clone()).or_default());
        FeedState { handle: Arc::clone(&self.handle), key: key.clone(), progress }
    }

    /// What each sink has.
    pub fn delivered(&self) -> &Delivered {
        &self.handle.shared.delivered
    }

    /// A sink's verdict on some records: journalled, then told to the delivered map, which tells the blobs.
    /// Never blocks on the disk; durable at the next group commit. A loss is not journalled.
    pub fn acked(&self, sink: SinkId, outcome: Outcome, keys: &[RecordKey], position: Option<&FilePosition>) {
        let shared = &self.handle.shared;
        let verdicts = {
            let _gate = shared.changing();
            if is_had(outcome) {
                let bytes = keys.iter().map(|key| key.0).collect::<Vec<_>>();
                let mut book = shared.book();
                if let Some(position) = position {
                    book.file_at(sink, position);
                }
                let position = position.map(Cow::Borrowed);
                shared.append(&Frame::Acked { sink, keys: bytes.as_flattened(), position });
            }
            failpoint::pass("ack");
            let full = || shared.delivered.current_len() >= shared.options.generation_keys;
            let was_full = full();
            let verdicts = shared.delivered.resolve_later(sink, outcome, keys);
            if !was_full && full() {
                shared.group.hurry();
            }
            verdicts
        };
        // Without the gate: whoever hears a verdict may record it, and a journal may be about to end.
        settle(verdicts);
    }

    /// What the receiver itself says that a sink has (16 bytes a key), beside what the journal knows. It is
    /// not journalled: the receiver is asked again at each start. True while there is room for more keys.
    pub(crate) fn restored(&self, sink: SinkId, keys: &[u8]) -> bool {
        let shared = &self.handle.shared;
        let _gate = shared.changing();
        let had = shared.delivered.had(sink, keys);
        let new = keys.as_chunks::<16>().0.iter().zip(had).filter(|(_, had)| !had);
        let new: Vec<[u8; 16]> = new.map(|(key, _)| *key).collect();
        shared.delivered.restore(sink, new.as_flattened());
        let is_full = shared.delivered.current_len() >= shared.options.generation_keys;
        if is_full {
            shared.group.hurry();
        }
        !is_full
    }

    /// Lets the process end because of `error`, as if the journal could not be written: nothing more is kept.
    pub(crate) fn fail(&self, error: &StateError) {
        self.handle.shared.group.fail(error);
    }

    /// Returns when the journal can take more: at once, unless the disk stalls. Whoever will bring
    /// verdicts waits here before the work that leads to them, so that they cannot pile up in memory.
    pub async fn room(&self) {
        self.handle.shared.group.room().await;
    }

    /// Journals where a file begins, before the first byte is written to it.
    pub fn file_opened(&self, sink: SinkId, position: &FilePosition) {
        let shared = &self.handle.shared;
        let _gate = shared.changing();
        let mut book = shared.book();
        book.file_at(sink, position);
        shared.append(&Frame::FileOpened { sink, position: Cow::Borrowed(position) });
    }

    /// The newest journalled length of a sink's file by inode, and whether the state may be trusted
    /// to cut what lies beyond it (false after lost, damaged or older state). Older state shows only
    /// by the file's time as well: ask [`State::may_cut`] before cutting.
    pub fn file_length(&self, sink: SinkId, inode: u64) -> Option<(u64, bool)> {
        let book = self.handle.shared.book();
        book.file(sink, inode).map(|file| (file.position.length, file.trusted))
    }

    /// Whether what lies beyond the journalled length of the file can only be what a crash left. The
    /// tail of a crash was written within moments of the newest journalled frame of the run that
    /// had the file; a file last modified (world time, milliseconds since 1970) more than 10 minutes
    /// later was written by a process this state knows nothing of.
    pub fn may_cut(&self, sink: SinkId, inode: u64, modified_world_ms: i64) -> bool {
        self.handle.shared.book().file(sink, inode).is_some_and(|file| file.may_be_cut(modified_world_ms))
    }

    /// The sink's driver has ended: what is written to its files from now on is not what it left. For the process
    /// only; a start knows it by the end of the run.
    pub fn sink_ended(&self, sink: SinkId) {
        self.handle.shared.book().sink_ended(sink, world_ms());
    }

    /// World time of the newest frame found at the start, milliseconds since 1970; 0 for new state.
    pub fn newest_frame_world_ms(&self) -> i64 {
        self.handle.shared.newest_at_start
    }

    /// Returns when everything appended so far is fsynced.
    pub async fn durable(&self) -> Result<(), StateError> {
        self.handle.shared.group.durable().await
    }

    /// Commits by a clock that may jump ahead whenever no task has anything to do: within a second of
    /// *that* clock, and without letting it jump while the disk works. Ends with the journal.
    pub fn commit_by_jumping_clock(&self) -> impl Future<Output = ()> + Send + 'static {
        let shared = Arc::clone(&self.handle.shared);
        async move {
            loop {
                shared.group.begun().await;
                tokio::time::sleep(shared.options.pace.interval).await;
                let (shared, runtime) = (Arc::clone(&shared), tokio::runtime::Handle::current());
                // Tokio's clock stands still while a blocking task runs.
                let commit = tokio::task::spawn_blocking(move || runtime.block_on(shared.group.durable()));
                if !matches!(commit.await, Ok(Ok(()))) {
                    return;
                }
            }
        }
    }

    /// False while the journal cannot keep up or the disk is full: nothing new should be begun.
    pub fn health(&self) -> watch::Receiver<bool> {
        self.handle.shared.group.health()
    }

    /// What keeps the journal from being written, if anything does; for `/status`.
    pub fn trouble(&self) -> Option<String> {
        self.handle.shared.group.trouble()
    }

    /// What keeps the journal takes nothing just now, for this reason: nothing new is to be begun until it is written.
    pub(crate) fn waits(&self, why: String) {
        self.handle.shared.metrics.journal_stalled.set(1);
        self.handle.shared.group.waits(why);
    }

    /// It takes something again.
    pub(crate) fn goes_on(&self) {
        self.handle.shared.metrics.journal_stalled.set(0);
        self.handle.shared.group.goes_on();
    }

    /// Resolves when the journal can no longer be written: the process must end.
    pub async fn failed(&self) -> StateError {
        self.handle.shared.group.failed().await
    }

    /// Commits what is pending and lets the directory go. What is in flight is lost, so end the
    /// sinks first; later changes are not kept.
    pub async fn close(&self) -> Result<(), StateError> {
        self.handle.shared.delivered.abandon_all();
        let result = self.durable().await;
        let handle = Arc::clone(&self.handle);
        let joined = tokio::task::spawn_blocking(move || handle.close()).await;
        joined.map_err(|error| StateError::Io { path: "state".into(), source: std::io::Error::other(error) })?;
        match result {
            // Closed twice.
            Err(StateError::Closed) => Ok(()),
            result => result,
        }
    }
}

impl FeedState {
    /// Changes what is known by one fact and journals it, in one order for both.
    pub fn record(&self, fact: FeedFact) {
        let shared = &self.handle.shared;
        let _gate = shared.changing();
        let mut progress = self.progress.lock().unwrap_or_else(PoisonError::into_inner);
        progress.apply(&fact);
        shared.append(&Frame::Feed { key: Cow::Borrowed(&self.key), fact: Cow::Owned(fact) });
    }

    /// Changes what is known by a fact that is cheap to lose (it is not journalled).
    pub fn note(&self, fact: FeedFact) {
        let _gate = self.handle.shared.changing();
        self.progress.lock().unwrap_or_else(PoisonError::into_inner).apply(&fact);
    }

    /// Lets what was recorded be committed now instead of within a second. Does not wait for it.
    pub fn hurry(&self) {
        self.handle.shared.group.hurry();
    }

    /// Looks at what is known. Short: the lock is held meanwhile.
    pub fn read<T>(&self, look: impl FnOnce(&FeedProgress) -> T) -> T {
        look(&self.progress.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests;
