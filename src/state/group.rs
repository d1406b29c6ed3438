//! Frames waiting for the next group commit. Appending is a copy into memory and never waits for the
//! disk; one thread takes what has gathered, and says here how far it is durable.

use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
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
    /// Bytes waiting beyond which nothing new should be begun.
    pub(crate) behind: usize,
    /// Bytes waiting beyond which the process ends rather than grow.
    pub(crate) most: usize,
    /// Between two tries to write to a full disk.
    pub(crate) retry: Duration,
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
    failure: Option<Arc<StateError>>,
    over: bool,
}

impl Progress {
    fn failure(&self) -> Option<StateError> {
        self.failure.as_deref().map(StateError::again)
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
    /// False while nothing new should be begun.
    health: watch::Sender<bool>,
    /// Why the journal waits.
    trouble: Mutex<Option<String>>,
}

impl Group {
    pub(crate) fn new() -> Group {
        Group {
            pending: Mutex::default(),
            wake: Condvar::new(),
            begun: Notify::new(),
            progress: watch::Sender::new(Progress::default()),
            health: watch::Sender::new(true),
            trouble: Mutex::default(),
        }
    }

    fn pending(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a frame. After a failure or a close it is dropped: nothing later will be durable. Too much waiting
    /// is a failure: whoever acknowledges cannot wait, and memory must not grow with a disk that stands still.
    pub(crate) fn append(&self, frame: &Frame<'_>, pace: &Pace, dir: &Path) {
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
        let bytes = pending.bytes.len();
        if first || bytes >= pace.bytes {
            self.wake.notify_all();
        }
        drop(pending);
        if bytes > pace.most {
            return self.fail(&StateError::Stalled { dir: dir.display().to_string(), bytes });
        }
        if bytes > pace.behind {
            self.waits(format!("{bytes} bytes wait for the journal"));
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

    /// Whether anything new should be begun.
    pub(crate) fn health(&self) -> watch::Receiver<bool> {
        self.health.subscribe()
    }

    pub(crate) fn trouble(&self) -> Option<String> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The journal is behind, for this reason. True when it was not before.
    pub(crate) fn waits(&self, why: String) -> bool {
        let mut trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        let is_new = trouble.is_none();
        if is_new {
            tracing::warn!(why, "the journal waits; nothing new is fetched until it is written");
        }
        *trouble = Some(why);
        drop(trouble);
        self.health.send_if_modified(|health| std::mem::replace(health, false));
        is_new
    }

    /// The journal is written again.
    pub(crate) fn goes_on(&self) {
        if self.trouble.lock().unwrap_or_else(PoisonError::into_inner).take().is_some() {
            tracing::info!("the journal is written again");
        }
        self.health.send_if_modified(|health| !std::mem::replace(health, true));
    }

    /// Blocks for a while, or until the group is closed or has failed; false then.
    pub(crate) fn pause(&self, length: Duration) -> bool {
        let until = Instant::now() + length;
        let mut pending = self.pending();
        while !(pending.closing || pending.over) {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return true;
            }
            pending = self.wake.wait_timeout(pending, left).map_or_else(|e| e.into_inner().0, |(guard, _)| guard);
        }
        false
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
        let mut pending = self.pending();
        pending.over = true;
        pending.bytes = Vec::new();
        drop(pending);
        self.progress.send_modify(|progress| {
            progress.failure.get_or_insert_with(|| Arc::new(error.again()));
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

    /// Returns while the journal keeps up, or once nothing will be written any more.
    pub(crate) async fn room(&self) {
        let (mut health, mut progress) = (self.health.subscribe(), self.progress.subscribe());
        let ended = progress.wait_for(|progress| progress.failure.is_some() || progress.over);
        tokio::select! {
            _ = health.wait_for(|health| *health) => {}
            _ = ended => {}
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn while_the_disk_stalls_new_work_waits_and_goes_on_after_a_commit_or_a_failure() {
        let (behind, keys) = (1 << 20, vec![0; 16 * 4096]);
        let long = Duration::from_secs(60);
        let pace = Pace { interval: long, bytes: 1 << 20, heartbeat: long, behind, most: usize::MAX, retry: long };
        let frame = Frame::Acked { sink: crate::sink::SinkId(0), keys: &keys, position: None };
        let (group, dir) = (Group::new(), Path::new("state"));
        let waits = async || tokio::time::timeout(Duration::from_millis(20), group.room()).await.is_err();
        let mut appended = 0;
        while !waits().await {
            group.append(&frame, &pace, dir);
            appended += keys.len();
            assert!(appended <= behind + keys.len(), "no bound");
        }
        let (bytes, number) = group.take();
        assert!(bytes.len() >= behind);
        group.committed(number, bytes);
        group.goes_on();
        assert!(!waits().await);
        while !waits().await {
            group.append(&frame, &pace, dir);
        }
        let waiting = group.room();
        tokio::pin!(waiting);
        assert!(tokio::time::timeout(Duration::from_millis(5), &mut waiting).await.is_err());
        group.ended();
        waiting.await;
    }
}
