//! Dead letters back into the sinks. Comes in: the letters of a file or of a topic, and the configuration that `run` has.
//! Goes out: each letter to the sink that refused it, or to those that are named, through the same drivers; what a sink refuses
//! again becomes a dead letter anew; and a [`Summary`].
//!
//! Runs beside `run`: it takes no state directory and keeps no books but the list of what is done. So a
//! letter may reach a sink twice, when it was killed in between; the record key tells. Never loses a letter: one leaves its
//! place only when it was taken or lies in the dead letters anew.

mod letter;
mod source;
mod targets;

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, MissedTickBehavior};

use crate::ack::{Finalizer, Settlement};
use crate::config::Config;
use crate::metrics::Metrics;
use crate::sink::SinkBuildError;
use crate::sink::dead_letters::{DeadLetterError, DeadLetters, read_topic};
use crate::sink::kafka::reader::{ReadError, TopicReader};

use letter::Letter;
use source::{Letters, Line, PlaceOf};
use targets::Targets;

/// Bytes of letters on their way, in units of [`UNIT`]: as `collect.in_flight` is by default.
const IN_FLIGHT: u32 = 32 * 1024;
const UNIT: u64 = 1024;
/// Letters read at once, in bytes; at least one.
const READ: u64 = 1 << 20;
/// How often sinks are looked at.
const LOOK: Duration = Duration::from_millis(200);
/// How often is said how far it is, and written down what is done.
const PROGRESS: Duration = Duration::from_secs(5);
/// How many letters of the same trouble are named one by one.
const NAMED: usize = 3;

/// Where letters are read from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum From {
    File(PathBuf),
    Topic,
}

/// How to replay.
#[derive(Clone, Debug)]
pub struct Options {
    /// Every letter goes to these sinks; none: to the sink that refused it.
    pub sinks: Vec<String>,
    /// `None`: the file, where the configuration has one, else the topic.
    pub from: Option<From>,
    /// Look and send nothing.
    pub dry_run: bool,
    /// Letters stay where they are, whatever becomes of them.
    pub keep: bool,
    /// How long a sink may take nothing before it is given up.
    pub patience: Duration,
}

/// What became of the letters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Letters that were read.
    pub read: u64,
    /// Taken by every sink that they went to; of a dry run: that would be sent.
    pub taken: u64,
    /// Refused again: they lie in the dead letters anew.
    pub refused: u64,
    /// Not taken by a sink that takes nothing, or by the time that it was stopped.
    pub waiting: u64,
    /// That cannot be sent, by the reason.
    pub unfit: BTreeMap<String, u64>,
    /// Sinks that were given up.
    pub unreachable: Vec<String>,
    /// It was told to stop.
    pub was_stopped: bool,
    /// It went on with a replay that was cut short; what became a dead letter since is for another.
    pub is_more: bool,
}

impl Summary {
    /// Letters that cannot be sent.
    pub fn unfit(&self) -> u64 {
        self.unfit.values().sum()
    }
}

/// It could not be begun, or not be brought to an end.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    #[error("no sink is called `{name}`; there are: {known}")]
    UnknownSink { name: String, known: String },
    #[error("the configuration has no `dead_letters.kafka` to read from")]
    NoTopic,
    #[error("another replay is at work on `{path}`; wait for its end")]
    Busy { path: PathBuf },
    #[error("cannot work on the dead letters in `{path}`: {source}")]
    File { path: PathBuf, source: io::Error },
    #[error(transparent)]
    Topic(#[from] ReadError),
    #[error(transparent)]
    DeadLetters(#[from] DeadLetterError),
    #[error(transparent)]
    Sink(#[from] SinkBuildError),
    #[error("a task failed: {0}")]
    Task(#[from] tokio::task::JoinError),
}

/// What the finalizers say, until it is looked at.
#[derive(Default)]
struct Ends {
    settled: Mutex<Vec<(PlaceOf, Settlement)>>,
    told: Notify,
}

impl Ends {
    fn take(&self) -> Vec<(PlaceOf, Settlement)> {
        std::mem::take(&mut *self.settled.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The verdict on a letter; its bytes are free with it.
    fn of(self: &Arc<Ends>, place: PlaceOf, room: OwnedSemaphorePermit) -> Finalizer {
        let ends = Arc::clone(self);
        Finalizer::new(move |settlement| {
            drop(room);
            ends.settled.lock().unwrap_or_else(PoisonError::into_inner).push((place, settlement));
            ends.told.notify_one();
        })
    }
}

/// Where letters come from.
enum Source {
    File(Box<Letters>),
    Topic(TopicLetters),
}

/// Letters of a topic, and which of them are done.
struct TopicLetters {
    reader: TopicReader,
    keep: bool,
    /// By partition: what was read and is not done, and the offset behind the last that was read.
    open: BTreeMap<i32, std::collections::BTreeSet<i64>>,
    ends: BTreeMap<i32, i64>,
}

impl Source {
    fn next(&mut self) -> Result<Option<Line>, ReplayError> {
        match self {
            Source::File(letters) => letters.next().map_err(|source| letters.error(source)),
            Source::Topic(topic) => {
                let Some(stored) = topic.reader.next()? else { return Ok(None) };
                let place = PlaceOf { partition: stored.partition, offset: stored.offset };
                topic.open.entry(place.partition).or_default().insert(place.offset);
                topic.ends.insert(place.partition, place.offset + 1);
                let bytes = stored.value.len() as u64;
                Ok(Some(Line { place, text: Some(stored.value), bytes }))
            }
        }
    }

    fn done(&mut self, place: PlaceOf) -> Result<(), ReplayError> {
        match self {
            Source::File(letters) => letters.done(place).map_err(|source| letters.error(source)),
            Source::Topic(topic) => {
                if let Some(open) = topic.open.get_mut(&place.partition) {
                    open.remove(&place.offset);
                }
                Ok(())
            }
        }
    }

    /// A letter that can never be sent: a topic keeps it anyway, and need not offer it again.
    fn passed(&mut self, place: PlaceOf) -> Result<(), ReplayError> {
        match self {
            Source::File(_) => Ok(()),
            Source::Topic(_) => self.done(place),
        }
    }

    /// Writes down what is done.
    fn note(&mut self) -> Result<(), ReplayError> {
        match self {
            Source::File(letters) => letters.note().map_err(|source| letters.error(source)),
            Source::Topic(topic) if topic.keep => Ok(()),
            Source::Topic(topic) => {
                let first_open = |partition| topic.open.get(partition).and_then(|open| open.first().copied());
                let upto = topic.ends.iter().map(|(id, end)| (*id, first_open(id).unwrap_or(*end))).collect();
                Ok(topic.reader.commit(&upto)?)
            }
        }
    }

    /// True where there are letters that were not looked at.
    fn finish(mut self) -> Result<bool, ReplayError> {
        self.note()?;
        match self {
            Source::File(letters) => {
                let path = letters.path().to_owned();
                letters.finish().map_err(|source| ReplayError::File { path, source })
            }
            Source::Topic(_) => Ok(false),
        }
    }
}

/// Replays until every letter is done, every sink is given up, or `stop`.
///
/// # Errors
/// Nothing was sent, or what is done could not be written down; no letter is lost.
pub async fn replay(config: Config, options: Options, stop: impl Future<Output = ()>) -> Result<Summary, ReplayError> {
    if let Some(name) = options.sinks.iter().find(|name| config.sinks.iter().all(|sink| sink.name != **name)) {
        let known = config.sinks.iter().map(|sink| sink.name.as_str()).collect::<Vec<_>>().join(", ");
        return Err(ReplayError::UnknownSink { name: name.clone(), known });
    }
    let keep = options.keep || options.dry_run;
    let Some(source) = open(&config, &options, keep).await? else { return Ok(Summary::default()) };
    let metrics = Metrics::new();
    let dead = match keep {
        // They lie where they are.
        true => DeadLetters::nowhere(Arc::clone(&metrics)),
        false => {
            let (letters, metrics) = (config.dead_letters.clone(), Arc::clone(&metrics));
            tokio::task::spawn_blocking(move || DeadLetters::of(&letters, metrics)).await??
        }
    };
    let named = options.sinks.clone();
    let targets = tokio::task::spawn_blocking(move || Targets::new(config, named, dead, metrics)).await?;
    let replay = Replay {
        options,
        source: Some(source),
        targets,
        ends: Arc::default(),
        room: Arc::new(Semaphore::new(IN_FLIGHT as usize)),
        in_the_air: 0,
        summary: Summary::default(),
        told: BTreeMap::new(),
    };
    replay.run(stop).await
}

async fn open(config: &Config, options: &Options, keep: bool) -> Result<Option<Source>, ReplayError> {
    let letters = config.dead_letters.clone();
    let from = match (&options.from, &letters.file) {
        (Some(from), _) => from.clone(),
        (None, Some(path)) => From::File(path.clone()),
        (None, None) => From::Topic,
    };
    let open = move || match from {
        From::File(path) => match Letters::open(&path, keep) {
            Ok(found) => Ok(found.map(|letters| Source::File(Box::new(letters)))),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(ReplayError::Busy { path }),
            Err(source) => Err(ReplayError::File { path, source }),
        },
        From::Topic => {
            let topic = letters.topic.as_ref().ok_or(ReplayError::NoTopic)?;
            let reader = read_topic(topic, false)?;
            Ok(Some(Source::Topic(TopicLetters { reader, keep, open: BTreeMap::new(), ends: BTreeMap::new() })))
        }
    };
    tokio::task::spawn_blocking(open).await?
}

struct Replay {
    options: Options,
    /// `None` while a thread has it.
    source: Option<Source>,
    targets: Targets,
    ends: Arc<Ends>,
    room: Arc<Semaphore>,
    in_the_air: u64,
    summary: Summary,
    told: BTreeMap<String, usize>,
}

impl Replay {
    async fn run(mut self, stop: impl Future<Output = ()>) -> Result<Summary, ReplayError> {
        if let Some(Source::File(letters)) = &self.source
            && letters.done_before() > 0
        {
            tracing::info!(done = letters.done_before(), "going on with a replay that was cut short");
        }
        let worked = self.work(stop).await;
        // Whatever happened: what has an end is written down, what has none goes back.
        self.targets.end(true).await;
        self.hear()?;
        if let Some(source) = self.source.take() {
            self.summary.is_more = tokio::task::spawn_blocking(move || source.finish()).await??;
        }
        worked.map(|()| self.summary)
    }

    async fn work(&mut self, stop: impl Future<Output = ()>) -> Result<(), ReplayError> {
        tokio::pin!(stop);
        let mut look = tokio::time::interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let mut said = Instant::now();
        let mut waiting: std::collections::VecDeque<Line> = Default::default();
        let mut is_read = false;
        while !(is_read && waiting.is_empty() && self.in_the_air == 0) {
            if waiting.is_empty() && !is_read {
                let (source, lines) = self.beside(read_some).await?;
                self.source = source;
                waiting.extend(lines);
                is_read = waiting.is_empty();
                continue;
            }
            let units = waiting.front().map(|line| line.bytes.div_ceil(UNIT).clamp(1, u64::from(IN_FLIGHT)));
            let room = Arc::clone(&self.room);
            let ends = Arc::clone(&self.ends);
            tokio::select! {
                biased;
                () = &mut stop => {
                    self.summary.was_stopped = true;
                    return Ok(());
                }
                _ = look.tick() => {
                    for sink in self.targets.give_up(self.options.patience) {
                        tracing::error!(sink, "the sink takes nothing; its letters stay where they are");
                        self.summary.unreachable.push(sink);
                    }
                    self.targets.end(false).await;
                    if said.elapsed() >= PROGRESS {
                        said = Instant::now();
                        let Summary { read, taken, refused, .. } = self.summary;
                        tracing::info!(read, taken, refused, in_the_air = self.in_the_air, "replaying");
                        let (source, ()) = self.beside(|source| source.note()).await?;
                        self.source = source;
                    }
                }
                () = ends.told.notified() => {}
                permit = room.acquire_many_owned(units.and_then(|units| u32::try_from(units).ok()).unwrap_or(1)), if units.is_some() => {
                    if let (Some(line), Ok(permit)) = (waiting.pop_front(), permit) {
                        self.send(line, permit)?;
                    }
                }
            }
            self.hear()?;
        }
        Ok(())
    }

    /// What reads or writes, on a thread that may wait.
    async fn beside<T>(
        &mut self,
        work: impl FnOnce(&mut Source) -> Result<T, ReplayError> + Send + 'static,
    ) -> Result<(Option<Source>, T), ReplayError>
    where
        T: Default + Send + 'static,
    {
        let Some(mut source) = self.source.take() else { return Ok((None, T::default())) };
        let (source, done) = tokio::task::spawn_blocking(move || {
            let done = work(&mut source);
            (source, done)
        })
        .await?;
        match done {
            Ok(done) => Ok((Some(source), done)),
            Err(error) => {
                self.source = Some(source);
                Err(error)
            }
        }
    }

    fn send(&mut self, line: Line, room: OwnedSemaphorePermit) -> Result<(), ReplayError> {
        self.summary.read += 1;
        let judged = match &line.text {
            None => Err("too long to be sent".to_owned()),
            Some(text) => Letter::read(text).and_then(|letter| Ok((self.targets.of(&letter)?, letter))),
        };
        let (targets, letter) = match judged {
            Ok(judged) => judged,
            Err(why) => return self.unfit(&line, why),
        };
        if self.options.dry_run {
            self.summary.taken += 1;
            return Ok(());
        }
        let ack = self.ends.of(line.place, room);
        self.in_the_air += 1;
        Ok(self.targets.deliver(&letter, &targets, ack)?)
    }

    fn unfit(&mut self, line: &Line, why: String) -> Result<(), ReplayError> {
        let told = self.told.entry(why.clone()).or_default();
        *told += 1;
        if *told <= NAMED {
            tracing::warn!(partition = line.place.partition, offset = line.place.offset, "a letter stays: {why}");
        }
        let can_never = why.starts_with("without its record");
        *self.summary.unfit.entry(why).or_default() += 1;
        match &mut self.source {
            Some(source) if can_never => source.passed(line.place),
            _ => Ok(()),
        }
    }

    /// What became of letters since it was last heard.
    fn hear(&mut self) -> Result<(), ReplayError> {
        for (place, settlement) in self.ends.take() {
            self.in_the_air -= 1;
            if !settlement.is_settled() {
                self.summary.waiting += 1;
                continue;
            }
            if settlement.rejected > 0 {
                self.summary.refused += 1;
            } else {
                self.summary.taken += 1;
            }
            if let Some(source) = &mut self.source {
                source.done(place)?;
            }
        }
        Ok(())
    }
}

/// Some letters; none at the end.
fn read_some(source: &mut Source) -> Result<Vec<Line>, ReplayError> {
    let (mut lines, mut bytes) = (Vec::new(), 0);
    while bytes < READ {
        let Some(line) = source.next()? else { break };
        bytes += line.bytes.max(1);
        lines.push(line);
    }
    Ok(lines)
}
