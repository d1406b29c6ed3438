//! The committing thread: takes what has gathered, writes it as one block, fsyncs it, says so. Begins
//! the next journal when this one is large or the key generation full, and lets a second thread
//! compact meanwhile. A failed write or fsync of the journal is final; a failed compaction is
//! repeated, since all it would have saved is still in the journals.

use std::borrow::Cow;
use std::sync::{Arc, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::compact::{Done, Job};
use super::frame::Frame;
use super::group::{Due, Group};
use super::journal::Writer;
use super::snapshot::Encoder;
use super::{Shared, StateError, size};
use crate::clock;

/// How often the directory is measured: it is for a graph, and looks at a dozen files.
const MEASURE: Duration = Duration::from_secs(30);

type Compaction = Result<Done, Box<(Job, StateError)>>;

/// The state of the committing thread.
pub(crate) struct Committer {
    pub(crate) shared: Arc<Shared>,
    pub(crate) writer: Writer,
    /// The newest snapshot, its size, the segments it names.
    pub(crate) base: Option<u64>,
    pub(crate) snapshot_bytes: u64,
    pub(crate) base_segments: Vec<u64>,
    pub(crate) running: Option<JoinHandle<Compaction>>,
    pub(crate) failed: Option<(Instant, Job)>,
    /// When the directory was last measured.
    pub(crate) measured: Option<Instant>,
    /// Whether a full disk is waited for: not during the start, which nobody could look at meanwhile.
    pub(crate) waits: bool,
}

impl Committer {
    /// Runs until the group is closed or the journal fails.
    pub(crate) fn run(mut self) {
        let shared = Arc::clone(&self.shared);
        let _end = End(&shared.group);
        let mut idle_since = Instant::now();
        loop {
            let due = shared.group.wait(&shared.options.pace, idle_since);
            idle_since = Instant::now();
            let step = match due {
                Due::Commit => self.look_after_compaction().and_then(|()| self.commit_or_rotate()),
                Due::Close => self.commit(),
            };
            if let Err(error) = step {
                tracing::error!(%error, "the journal cannot be written; the process must end");
                shared.group.fail(&error);
                break;
            }
            if due == Due::Close {
                break;
            }
        }
        if let Some(running) = self.running.take() {
            let _ = running.join();
        }
    }

    fn commit_or_rotate(&mut self) -> Result<(), StateError> {
        let options = &self.shared.options;
        let large = self.writer.length > options.journal_bytes.max(2 * self.snapshot_bytes);
        let full = self.shared.delivered.current_len() >= options.generation_keys;
        if (large || full) && self.running.is_none() && self.failed.is_none() {
            let job = self.rotate()?;
            return self.compact_beside(job);
        }
        self.commit()
    }

    /// Commits what has gathered.
    pub(crate) fn commit(&mut self) -> Result<(), StateError> {
        let (frames, number) = self.shared.group.take();
        self.write(frames, number)
    }

    fn write(&mut self, frames: Vec<u8>, number: u64) -> Result<(), StateError> {
        let metrics = &self.shared.metrics;
        let began = Instant::now();
        let world_ms = clock::world_ms();
        let mut first = Vec::with_capacity(32);
        let committed = Frame::Time { world_ms }.encode(&mut first).map_err(bad_encoding);
        committed?;
        let shared = Arc::clone(&self.shared);
        shared.hold_while_full(self.waits, || {
            let committed = self.writer.commit(&first, &frames);
            let word = if committed.is_ok() { "ok" } else { "error" };
            metrics.journal_commits.with_label_values(&[word]).inc();
            committed
        })?;
        metrics.journal_commit_seconds.observe(began.elapsed().as_secs_f64());
        metrics.journal_bytes.set(i64::try_from(self.writer.length).unwrap_or(i64::MAX));
        metrics.checkpoint_last_success.set(world_ms / 1000);
        metrics.state_generation.set(i64::try_from(self.writer.generation).unwrap_or(i64::MAX));
        if self.measured.is_none_or(|at| at.elapsed() >= MEASURE) {
            self.measured = Some(Instant::now());
            size::show(&self.shared.dir, metrics);
        }
        self.shared.book().saw(world_ms);
        metrics.journal_stalled.set(0);
        self.shared.group.committed(number, frames);
        self.shared.group.goes_on();
        Ok(())
    }

    /// Ends this journal and begins the next; returns what turns the ended one into a snapshot.
    pub(crate) fn rotate(&mut self) -> Result<Job, StateError> {
        let generation = self.writer.generation + 1;
        let shared = Arc::clone(&self.shared);
        let (frames, number, job) = {
            let _gate = shared.gate.write().unwrap_or_else(PoisonError::into_inner);
            let (frames, number) = shared.group.take();
            let control = shared.encode().map_err(bad_encoding)?;
            let frozen = shared.delivered.freeze().map(|keys| (shared.next_segment(), keys));
            shared.append_start(None);
            let sinks = shared.book().sinks.clone();
            let previous_segments = self.base_segments.clone();
            (frames, number, Job { generation, control, frozen, sinks, previous: self.base, previous_segments })
        };
        self.write(frames, number)?;
        self.writer = shared.hold_while_full(self.waits, || Writer::create(&shared.dir, generation))?;
        Ok(job)
    }

    /// Takes note of a finished compaction.
    pub(crate) fn compacted(&mut self, done: Done) {
        self.base = Some(done.generation);
        self.snapshot_bytes = done.snapshot_bytes;
        self.base_segments = done.segments;
    }

    fn compact_beside(&mut self, mut job: Job) -> Result<(), StateError> {
        let shared = Arc::clone(&self.shared);
        let work = move || {
            let result = job.run(&shared).map_err(|error| Box::new((job, error)));
            shared.group.hurry();
            result
        };
        let thread = std::thread::Builder::new().name("state-compact".into()).spawn(work);
        self.running = Some(thread.map_err(|source| StateError::Io { path: "a thread".into(), source })?);
        Ok(())
    }

    fn look_after_compaction(&mut self) -> Result<(), StateError> {
        if let Some(running) = self.running.take_if(|running| running.is_finished()) {
            match running.join() {
                Ok(Ok(done)) => self.compacted(done),
                Ok(Err(failed)) => {
                    let (job, error) = *failed;
                    if matches!(error, StateError::Fsync { .. }) {
                        return Err(error);
                    }
                    tracing::warn!(%error, "compaction failed; the journals keep everything, another try follows");
                    self.failed = Some((Instant::now(), job));
                }
                Err(_) => {
                    let source = std::io::Error::other("compaction panicked");
                    return Err(StateError::Io { path: self.shared.dir.display().to_string(), source });
                }
            }
        }
        match self.failed.take_if(|(at, _)| at.elapsed() >= self.shared.options.retry_after) {
            Some((_, job)) => self.compact_beside(job),
            None => Ok(()),
        }
    }
}

/// Tells those who wait that the thread is over, however it ended.
struct End<'a>(&'a Group);

impl Drop for End<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let source = std::io::Error::other("the committing thread panicked");
            self.0.fail(&StateError::Io { path: "journal".into(), source });
        }
        self.0.ended();
    }
}

fn bad_encoding(error: postcard::Error) -> StateError {
    StateError::Io { path: "journal".into(), source: std::io::Error::other(error) }
}

impl Shared {
    /// Does `work` again and again while there is no room for it: acknowledgements wait, nothing new is begun,
    /// and nothing is lost. Ending would only begin again on the same full disk. At the close it is tried once.
    fn hold_while_full<T>(
        &self,
        waits: bool,
        mut work: impl FnMut() -> Result<T, StateError>,
    ) -> Result<T, StateError> {
        loop {
            match work() {
                Err(error) if waits && error.is_full() => {
                    self.metrics.journal_stalled.set(1);
                    if self.group.waits(error.to_string()) {
                        tracing::error!(%error, "the disk of the state is full; waiting until there is room");
                    }
                    if !self.group.pause(self.options.pace.retry) {
                        return Err(error);
                    }
                }
                done => return done,
            }
        }
    }

    /// All that is known, but for the segments. Call with the gate held for writing.
    fn encode(&self) -> Result<Encoder, postcard::Error> {
        let feeds = self.feeds();
        let mut encoder = Encoder::new(&self.book(), feeds.len())?;
        for (key, progress) in feeds.iter() {
            encoder.feed(key, &progress.lock().unwrap_or_else(PoisonError::into_inner))?;
        }
        Ok(encoder)
    }

    /// The frame that begins a journal or a run.
    pub(crate) fn append_start(&self, last_run_ended_ms: Option<i64>) {
        let book = self.book();
        let sinks = book.sinks.iter().map(|(id, name)| (*id, Cow::Borrowed(name.as_str()))).collect();
        self.append(&Frame::Start { last_run_ended_ms, sinks });
    }
}
