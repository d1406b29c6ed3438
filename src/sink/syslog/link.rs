//! One connection at work, in a task of its own: writes batches in order, hears the peer hang up, and tells each
//! batch once the peer's kernel has acknowledged it.
//!
//! Comes in: batches as they are to stand on the wire. Goes out: for each whether it has been taken, then to the
//! [`Ring`]; and how the connection ended. Never writes a batch twice, never half a batch but where the
//! connection breaks in it.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::io::ErrorKind::{BrokenPipe, ConnectionReset};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::{Buf, Bytes};
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::dial::{Meter, Stream, Trouble};
use super::ring::{Ring, Sent};
use crate::sink::locked;

/// Batches that wait for the connection; more than a sink has on its way at once, with those that were given up.
const QUEUED: usize = 64;
/// Between two looks at what the peer has not acknowledged: short at first, since a peer near by answers in less.
const LOOK: Duration = Duration::from_millis(1);
const LONGEST_LOOK: Duration = Duration::from_millis(25);
/// How long the last words of a peer are waited for that hung up on us, and its end after ours.
const LAST_WORDS: Duration = Duration::from_millis(100);
const GOODBYE: Duration = Duration::from_secs(5);
/// Bytes that are read at once of what a receiver should not say.
const READ: usize = 512;

/// Why receivers hang up; they do not say.
const IF_IT_LASTS: &str = "if it lasts, see its log: so does one that is restarted, has too many connections, does not like our certificate, or is sent a longer message than it takes (then set `max_size` to its limit)";

/// A batch's way over one connection.
pub(super) struct Entry {
    /// The peer's kernel has it.
    pub done: watch::Sender<bool>,
    /// Some of it was written.
    pub begun: AtomicBool,
    /// The peer hung up before it had acknowledged this one, and had acknowledged all before it, on a connection that
    /// began with nothing to be sent again.
    pub broke: AtomicBool,
    pub events: usize,
}

/// How a connection ended.
#[derive(Clone, Debug)]
pub(super) struct End {
    pub trouble: Trouble,
    /// The peer closed it in order, after it had acknowledged everything.
    pub in_order: bool,
    /// Since when everything had been acknowledged.
    pub quiet_since: Instant,
    pub lived: Duration,
}

struct Work {
    entry: Arc<Entry>,
    sent: Sent,
}

/// A handle to the task.
pub(super) struct Link {
    work: Mutex<Option<mpsc::Sender<Work>>>,
    entries: Mutex<HashMap<[u8; 32], Arc<Entry>>>,
    pub ended: watch::Receiver<Option<End>>,
    /// Batches done so far.
    pub progress: Arc<AtomicU64>,
}

/// What became of an offer.
pub(super) enum Offered {
    Taken(Arc<Entry>),
    /// The connection has too much before it.
    NoRoom,
    /// It takes nothing any more.
    Ended,
}

impl Link {
    /// Begins on a new connection with what is to be sent again. `dead_after`: how long a peer may acknowledge nothing.
    pub fn start(
        stream: Box<dyn Stream>,
        meter: Option<Meter>,
        again: Vec<Sent>,
        ring: Arc<Mutex<Ring>>,
        dead_after: Duration,
    ) -> Link {
        let (work, queue) = mpsc::channel(QUEUED);
        let (tell, ended) = watch::channel(None);
        let progress = Arc::<AtomicU64>::default();
        let (read, write) = tokio::io::split(stream);
        let task = Task {
            began: Instant::now(),
            is_fresh: again.is_empty(),
            read,
            write,
            meter,
            queue,
            out: again.into_iter().map(|sent| Out { rest: sent.wire, work: None }).collect(),
            is_unflushed: false,
            waiting: VecDeque::new(),
            acknowledged: 0,
            ring,
            progress: Arc::clone(&progress),
            dead_after,
            moved: Instant::now(),
        };
        tokio::spawn(async move {
            let end = task.run().await;
            tell.send_replace(Some(end));
        });
        Link { work: Mutex::new(Some(work)), entries: Mutex::default(), ended, progress }
    }

    pub fn has_ended(&self) -> bool {
        self.ended.borrow().is_some()
    }

    /// Hands over a batch, or finds it where it was handed over before. `id`: its hash.
    pub fn offer(&self, id: [u8; 32], events: usize, sent: impl FnOnce() -> Sent) -> Offered {
        let mut entries = locked(&self.entries);
        if let Some(entry) = entries.get(&id) {
            return Offered::Taken(Arc::clone(entry));
        }
        let entry = Arc::new(Entry {
            done: watch::channel(false).0,
            begun: AtomicBool::new(false),
            broke: AtomicBool::new(false),
            events,
        });
        let place = match locked(&self.work).as_ref().map(|work| work.clone().try_reserve_owned()) {
            Some(Ok(place)) => place,
            Some(Err(mpsc::error::TrySendError::Full(_))) => return Offered::NoRoom,
            Some(Err(mpsc::error::TrySendError::Closed(_))) | None => return Offered::Ended,
        };
        place.send(Work { entry: Arc::clone(&entry), sent: sent() });
        entries.insert(id, Arc::clone(&entry));
        Offered::Taken(entry)
    }

    /// The batch has its verdict.
    pub fn forget(&self, id: &[u8; 32]) {
        locked(&self.entries).remove(id);
    }

    /// Takes nothing more: what is queued is written, and the connection closed in order.
    pub fn close(&self) {
        locked(&self.work).take();
    }
}

/// Bytes on their way out; `work` where they are not sent again.
struct Out {
    rest: Bytes,
    work: Option<Work>,
}

struct Task {
    began: Instant,
    /// It began with nothing to be sent again.
    is_fresh: bool,
    read: ReadHalf<Box<dyn Stream>>,
    write: WriteHalf<Box<dyn Stream>>,
    meter: Option<Meter>,
    queue: mpsc::Receiver<Work>,
    out: VecDeque<Out>,
    /// What the front of `out` was before it was written whole.
    is_unflushed: bool,
    /// Written whole: up to which byte of the connection, and what.
    waiting: VecDeque<(u64, Option<Work>)>,
    acknowledged: u64,
    ring: Arc<Mutex<Ring>>,
    progress: Arc<AtomicU64>,
    dead_after: Duration,
    /// When something was last acknowledged, or there was nothing to acknowledge.
    moved: Instant,
}

impl Task {
    async fn run(mut self) -> End {
        let (trouble, closed) = match self.work().await {
            Ok(()) => match timeout(GOODBYE, self.say_goodbye()).await {
                Ok(Ok(())) => (Trouble::passing("it was closed in order"), true),
                Ok(Err(error)) => (Trouble::of(&error), false),
                Err(_) => (Trouble::passing("the receiver did not close it in time"), false),
            },
            Err(Hung::Up) => {
                self.blame();
                (Trouble::passing(format!("the receiver closed the connection; {IF_IT_LASTS}")), true)
            }
            // What was sent and not read when the receiver closed it (RFC 2525, 2.17).
            Err(Hung::Broken(error)) if matches!(error.kind(), ConnectionReset | BrokenPipe) => {
                self.blame();
                let Trouble { reason, is_final } = Trouble::of(&error);
                (Trouble { reason: format!("{reason}; {IF_IT_LASTS}"), is_final }, false)
            }
            Err(Hung::Broken(error)) => (Trouble::of(&error), false),
        };
        // What was acknowledged up to the end counts; after it nothing is told of a connection.
        let in_order = closed && self.out.is_empty() && self.waiting.is_empty();
        End { trouble, in_order, quiet_since: self.moved, lived: self.began.elapsed() }
    }

    /// The first batch that was not acknowledged is what a receiver hung up on that did so because of what it was sent.
    /// What was sent again before it may be that as well: then nothing is said of the batch.
    fn blame(&self) {
        let waiting = self.waiting.front().map(|(_, work)| work);
        let first = waiting.or_else(|| self.out.front().map(|out| &out.work));
        if let (true, Some(Some(work))) = (self.is_fresh, first) {
            work.entry.broke.store(true, Ordering::Release);
        }
    }

    /// Returns when nothing more will come and everything is acknowledged.
    async fn work(&mut self) -> Result<(), Hung> {
        let (mut open, mut look, mut next_look) = (true, LOOK, Instant::now());
        let mut heard = [0; READ];
        loop {
            if !open && self.out.is_empty() && self.waiting.is_empty() {
                return Ok(());
            }
            if self.out.is_empty() && self.waiting.is_empty() {
                self.moved = Instant::now();
            }
            let is_full = self.out.len() > 1;
            let rest = self.out.front().map(|out| out.rest.clone()).unwrap_or_default();
            tokio::select! {
                biased;
                read = self.read.read(&mut heard) => match read {
                    Ok(0) => return Err(Hung::Up),
                    // What a receiver says is nothing to us.
                    Ok(_) => {}
                    Err(error) => return Err(Hung::of(error)),
                },
                () = sleep_until(next_look), if !self.waiting.is_empty() || !self.out.is_empty() => {
                    let before = self.acknowledged;
                    self.look()?;
                    look = if self.acknowledged > before { LOOK } else { (look * 2).min(LONGEST_LOOK) };
                    next_look = Instant::now() + look;
                }
                pushed = push(&mut self.write, &rest), if !rest.is_empty() || self.is_unflushed => match pushed {
                    Ok(Some(bytes)) => self.wrote(bytes),
                    Ok(None) => self.flushed(),
                    Err(error) => return Err(self.last_words(error).await),
                },
                work = self.queue.recv(), if open && !is_full => match work {
                    Some(work) => self.take(work),
                    None => open = false,
                },
            }
        }
    }

    fn take(&mut self, work: Work) {
        if self.out.is_empty() && self.waiting.is_empty() {
            // It may have been idle for long.
            self.moved = Instant::now();
        }
        self.out.push_back(Out { rest: work.sent.wire.clone(), work: Some(work) });
    }

    fn wrote(&mut self, bytes: usize) {
        let Some(out) = self.out.front_mut() else { return };
        out.rest.advance(bytes);
        self.is_unflushed = true;
        if let Some(work) = &out.work {
            work.entry.begun.store(true, Ordering::Release);
        }
    }

    /// The front of `out` has left for our kernel.
    fn flushed(&mut self) {
        self.is_unflushed = false;
        let Some(out) = self.out.pop_front() else { return };
        match &self.meter {
            Some(meter) => self.waiting.push_back((meter.written.load(Ordering::Acquire), out.work)),
            None => self.done(out.work),
        }
    }

    /// Asks what the peer has acknowledged.
    fn look(&mut self) -> Result<(), Hung> {
        let Some(meter) = &self.meter else { return Ok(()) };
        // Before the question: what is written after it is not in its answer.
        let written = meter.written.load(Ordering::Acquire);
        let queue = match meter.queue.now() {
            Ok(Some(queue)) => queue,
            Ok(None) => return Err(Hung::Broken(io::ErrorKind::ConnectionReset.into())),
            Err(error) => return Err(Hung::Broken(error)),
        };
        let acknowledged = written.saturating_sub(queue.bytes);
        if acknowledged > self.acknowledged || queue.is_full {
            self.moved = Instant::now();
        }
        self.acknowledged = self.acknowledged.max(acknowledged);
        while self.waiting.front().is_some_and(|(end, _)| *end <= self.acknowledged) {
            if let Some((_, work)) = self.waiting.pop_front() {
                self.done(work);
            }
        }
        if self.moved.elapsed() > self.dead_after {
            let text = format!("the receiver acknowledged nothing within {:?}: timed out", self.dead_after);
            return Err(Hung::Broken(io::Error::new(io::ErrorKind::TimedOut, text)));
        }
        Ok(())
    }

    fn done(&mut self, work: Option<Work>) {
        self.progress.fetch_add(1, Ordering::AcqRel);
        self.moved = Instant::now();
        if let Some(Work { entry, sent }) = work {
            locked(&self.ring).push(sent);
            entry.done.send_replace(true);
        }
    }

    /// Why the peer hung up, where it said so before (an alert of TLS).
    async fn last_words(&mut self, error: io::Error) -> Hung {
        let mut heard = [0; READ];
        let listen = async {
            loop {
                match self.read.read(&mut heard).await {
                    Ok(0) => return None,
                    Ok(_) => {}
                    Err(said) => return Some(said),
                }
            }
        };
        match timeout(LAST_WORDS, listen).await {
            Ok(Some(said)) if said.kind() == io::ErrorKind::InvalidData => Hung::Broken(said),
            _ => Hung::Broken(error),
        }
    }

    /// Ends our side and waits for the peer to end its own: a process that does so in order has read everything.
    async fn say_goodbye(&mut self) -> io::Result<()> {
        self.write.shutdown().await?;
        let mut heard = [0; READ];
        loop {
            match self.read.read(&mut heard).await {
                Ok(0) => return Ok(()),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
                Err(error) => return Err(error),
            }
            sleep(LOOK).await;
        }
    }
}

/// Writes some of it, or makes all leave that was written. Nothing is lost where it is dropped.
async fn push(write: &mut WriteHalf<Box<dyn Stream>>, rest: &[u8]) -> io::Result<Option<usize>> {
    match rest.is_empty() {
        true => write.flush().await.map(|()| None),
        false => write.write(rest).await.map(Some),
    }
}

/// How the peer ended it.
enum Hung {
    /// In order.
    Up,
    Broken(io::Error),
}

impl Hung {
    /// An end without `close_notify` is an end all the same.
    fn of(error: io::Error) -> Hung {
        if error.kind() == io::ErrorKind::UnexpectedEof { Hung::Up } else { Hung::Broken(error) }
    }
}
