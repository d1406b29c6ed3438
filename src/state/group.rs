//! Frames waiting for the next group commit. Appending is a copy into memory and never waits for the
//! disk; one thread takes what has gathered, and says here how far it is durable.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, watch};

use super::StateError;
use super::frame::Frame;

/// A buffer that grew beyond this is not kept for the next group, bytes.
const KEEP: usize = 2 << 20;

/// When a group is committed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    /// Longest wait of a frame nobody asks about.
    pub(crate) interval: Duration,
    /// Bytes that are not waited with.
    pub(crate) bytes: usize,
    /// An empty group is committed when nothing else was for so long, to say that we live.
    pub(crate) heartbeat: Duration,
}

#[derive(Default)]
struct Pending {
    bytes: Vec<u8>,
    /// Frames appended since the start.
    appended: u64,
    /// When the oldest frame in `bytes` came.
    since: Option<Instant>,
    urgent: bool,
    closing: bool,
    /// Nothing is accepted any more.
    over: bool,
}

/// How far the journal is durable, and whether it still can be.
#[derive(Clone, Debug, Default)]
struct Progress {
    durable: u64,
    failure: Option<(String, std::io::ErrorKind, String)>,
    over: bool,
}

impl Progress {
    fn failure(&self) -> Option<StateError> {
        let (path, kind, text) = self.failure.clone()?;
        Some(StateError::Io { path, source: std::io::Error::new(kind, text) })
    }
}

/// What the committing thread is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Due {
    Commit,
    /// The last commit.
    Close,
}

/// See the module's head.
pub(crate) struct Group {
    pending: Mutex<Pending>,
    wake: Condvar,
    /// Told of the first frame of a group.
    begun: Notify,
    progress: watch::Sender<Progress>,
}

impl Group {
    pub(crate) fn new() -> Group {
        Group {
            pending: Mutex::default(),
            wake: Condvar::new(),
            begun: Notify::new(),
            progress: watch::Sender::new(Progress::default()),
        }
    }

    fn pending(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a frame. After a failure or a close it is dropped: nothing later will be durable.
    pub(crate) fn append(&self, frame: &Frame<'_>, pace: &Pace) {
        let mut pending = self.pending();
        if pending.over {
            // Counted, so that `durable` does not say yes.
            pending.appended += 1;
            return;
        }
        if let Err(error) = frame.encode(&mut pending.bytes) {
            drop(pending);
            return self.fail(&StateError::Io { path: "journal".into(), source: std::io::Error::other(error) });
        }
        pending.appended += 1;
        let first = pending.since.is_none();
        pending.since.get_or_insert_with(Instant::now);
        if first {
            self.begun.notify_one();
        }
        if first || pending.bytes.len() >= pace.bytes {
            self.wake.notify_all();
        }
    }

    /// Waits for the first frame of a group. For one waiter.
    pub(crate) async fn begun(&self) {
        self.begun.notified().await;
    }

    /// Takes what has gathered, and the number of the newest frame in it.
    pub(crate) fn take(&self) -> (Vec<u8>, u64) {
        let mut pending = self.pending();
        pending.since = None;
        pending.urgent = false;
        (std::mem::take(&mut pending.bytes), pending.appended)
    }

    /// Everything up to frame `number` is durable; `buffer` may be used again.
    pub(crate) fn committed(&self, number: u64, mut buffer: Vec<u8>) {
        self.progress.send_modify(|progress| progress.durable = progress.durable.max(number));
        let mut pending = self.pending();
        if pending.bytes.capacity() == 0 && buffer.capacity() <= KEEP {
            buffer.clear();
            pending.bytes = buffer;
        }
    }

    /// Blocks until a group is due, or a moment later than `no_later`.
    pub(crate) fn wait(&self, pace: &Pace, idle_since: Instant) -> Due {
        let mut pending = self.pending();
        loop {
            if pending.closing {
                return Due::Close;
            }
            let due = pending.since.map_or(idle_since + pace.heartbeat, |since| since + pace.interval);
            let left = due.saturating_duration_since(Instant::now());
            if pending.urgent || pending.bytes.len() >= pace.bytes || left.is_zero() {
                return Due::Commit;
            }
            pending = self.wake.wait_timeout(pending, left).map_or_else(|e| e.into_inner().0, |(guard, _)| guard);
        }
    }

    /// Commits soon, whether or not anything waits.
    pub(crate) fn hurry(&self) {
        self.pending().urgent = true;
        self.wake.notify_all();
    }

    /// Lets the committing thread end after one more commit.
    pub(crate) fn close(&self) {
        self.pending().closing = true;
        self.wake.notify_all();
    }

    /// The committing thread has ended.
    pub(crate) fn ended(&self) {
        self.pending().over = true;
        self.progress.send_modify(|progress| progress.over = true);
    }

    /// The journal cannot be written any more. What is not durable now never will be.
    pub(crate) fn fail(&self, error: &StateError) {
        let failure = match error {
            StateError::Io { path, source } => (path.clone(), source.kind(), source.to_string()),
            other => ("state".to_owned(), std::io::ErrorKind::Other, other.to_string()),
        };
        let mut pending = self.pending();
        pending.over = true;
        pending.bytes = Vec::new();
        drop(pending);
        self.progress.send_modify(|progress| {
            progress.failure.get_or_insert(failure);
        });
    }

    /// Returns when everything appended before the call is durable.
    pub(crate) async fn durable(&self) -> Result<(), StateError> {
        let mut progress = self.progress.subscribe();
        let wanted = {
            let mut pending = self.pending();
            if progress.borrow().durable < pending.appended {
                pending.urgent = true;
                self.wake.notify_all();
            }
            pending.appended
        };
        let ended = progress.wait_for(|p| p.durable >= wanted || p.failure.is_some() || p.over).await;
        match ended {
            Ok(progress) => match progress.failure() {
                Some(error) => Err(error),
                None if progress.durable >= wanted => Ok(()),
                None => Err(StateError::Closed),
            },
            Err(_) => Err(StateError::Closed),
        }
    }

    /// Resolves at the first failure; never without one.
    pub(crate) async fn failed(&self) -> StateError {
        let mut progress = self.progress.subscribe();
        if let Ok(progress) = progress.wait_for(|progress| progress.failure.is_some()).await
            && let Some(error) = progress.failure()
        {
            return error;
        }
        std::future::pending().await
    }
}
