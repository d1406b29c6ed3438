//! Chaos: worlds of seven virtual days, each with at least twenty kinds of faults at 1–5 %, crashes,
//! clean restarts and hours of downtime, through the whole library form (source, pipeline, state, file)
//! in virtual time. At the end nothing is lost but what the simulator made unreachable, that is in the
//! ledger and nothing else is, nothing is in the file twice, and every record is as it was served.
//!
//! Each world is a seed. One that fails prints the command that repeats it; those that once failed are
//! in [`KEPT`] and run every time. Service and collector share one thread and one clock, which stands
//! still while anything is at work and jumps when nothing is, so a day takes what its work takes.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use auditferry::app::{App, Ending, InProcess, RunOptions};
use auditferry::clock::Clock;
use auditferry::config::{Config, load_str};
use auditferry::metrics::Metrics;
use auditferry::simulator::{ContentType, Identity, Scenario, Simulator, Violation, WorldConfig};
use auditferry::state::State;
use tempfile::TempDir;

use super::faults::{Expected, hash, original};
use crate::support::{figure, size};

/// Seeds that once failed, one a line, with what they found.
const KEPT: &str = include_str!("chaos_seeds.txt");
/// What repeats a seed.
const COMMAND: &str = "cargo test --profile bars --features failpoints --test it bars::chaos -- --nocapture";
/// Kinds of faults that strike in each world, at least, and how often they do, together.
const KINDS: usize = 20;
const FIRINGS: u64 = 20;
/// Threads; each has its own worlds and runtimes.
const THREADS: usize = 2;
/// Reasons of the simulator's for which nobody ever saw the blob, so that no ledger can name it.
const UNSEEN: [&str; 3] = ["too_old", "too_late", "before_backfill"];
const HOUR_MS: i64 = 3_600_000;
/// Hours of traffic.
const TRAFFIC: i64 = 7 * 24;
/// Hours after the traffic within which everything must have come to its end.
const PATIENCE: i64 = 8 * 24;

#[test]
fn chaos() {
    let asked = std::env::var("AUDITFERRY_CHAOS_SEED").ok();
    let kept = KEPT.lines().filter_map(|line| line.split_whitespace().next()?.parse().ok());
    // One seed, or `from..to`.
    let seeds: Vec<u64> = match asked.as_deref().map(|seeds| seeds.split_once("..").unwrap_or((seeds, ""))) {
        Some((seed, "")) => vec![seed.parse().expect("a number")],
        Some((from, to)) => (from.parse().expect("a number")..to.parse().expect("a number")).collect(),
        None => kept.chain(1..=size(8, 1000)).collect(),
    };
    let (next, began) = (AtomicU64::new(0), Instant::now());
    let ran: Vec<(u64, Result<Told, String>)> = std::thread::scope(|scope| {
        let work = || {
            let mut told = Vec::new();
            while let Some(seed) = seeds.get(next.fetch_add(1, Ordering::Relaxed) as usize) {
                let ran = run(*seed);
                if let Err(why) = &ran {
                    println!("seed {seed} failed: {why}\n  AUDITFERRY_CHAOS_SEED={seed} {COMMAND}");
                }
                told.push((*seed, ran));
            }
            told
        };
        let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(work)).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    let minutes = began.elapsed().as_secs_f64() / 60.0;
    let mut sum = Told::default();
    let mut failed = Vec::new();
    for (seed, told) in ran {
        match told {
            Ok(told) => sum.add(&told),
            Err(_) => failed.push(seed),
        }
    }
    figure(
        "chaos",
        format_args!(
            "{} seeds in {minutes:.1} minutes ({:.0} a minute), {} failed: {sum:?}",
            seeds.len(),
            seeds.len() as f64 / minutes,
            failed.len()
        ),
    );
    assert_eq!(failed, Vec::<u64>::new());
}

/// What a world was like, or all of them.
#[derive(Debug, Default)]
#[allow(dead_code, reason = "all of it is printed")]
struct Told {
    virtual_days: u64,
    requests: u64,
    records: u64,
    unreachable_blobs: u64,
    too_old_blobs: u64,
    refused_hours: u64,
    crashes: u64,
    restarts: u64,
    /// Kinds of faults that did strike, summed over the worlds.
    kinds: u64,
    fired: BTreeMap<String, u64>,
}

impl Told {
    fn add(&mut self, other: &Told) {
        self.virtual_days += other.virtual_days;
        self.requests += other.requests;
        self.records += other.records;
        self.unreachable_blobs += other.unreachable_blobs;
        self.too_old_blobs += other.too_old_blobs;
        self.refused_hours += other.refused_hours;
        self.crashes += other.crashes;
        self.kinds += other.kinds;
        self.restarts += other.restarts;
        for (name, count) in &other.fired {
            *self.fired.entry(name.clone()).or_default() += count;
        }
    }
}

/// How a life of the process ends.
#[derive(Clone, Copy, Debug, PartialEq)]
enum End {
    Crash,
    Stop,
    /// Stops once everything that was served is done.
    Done,
}

/// A world and the process that collects from it.
struct Chaos {
    seed: u64,
    simulator: Arc<Simulator>,
    clock: Clock,
    /// What the collector takes for the time.
    skewed: Clock,
    now_ms: i64,
    /// When the process was not there, or could not have listed anything: from and to.
    gaps: Vec<(i64, i64)>,
    dir: TempDir,
    yaml: String,
    random: fastrand::Rng,
}

fn run(seed: u64) -> Result<Told, String> {
    fastrand::seed(seed);
    let caught = std::panic::catch_unwind(|| {
        let mut chaos = Chaos::new(seed);
        let mut told = Told::default();
        chaos.live(&mut told)?;
        chaos.judge(&mut told)?;
        Ok(told)
    });
    caught.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        Err(text.or_else(|| panic.downcast_ref::<&str>().map(|&text| text.to_owned())).unwrap_or_default())
    })
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap()
}

impl Chaos {
    fn new(seed: u64) -> Chaos {
        let mut random = fastrand::Rng::with_seed(seed);
        // 2026-03-01, and some hours: where hours and days end is part of the draw.
        let now_ms = 1_772_323_200_000 + random.i64(0..48 * HOUR_MS);
        let clock = runtime().block_on(async { Clock::following(now_ms) });
        let mut scenarios = Scenario::chaos();
        random.shuffle(&mut scenarios);
        scenarios.truncate(random.usize(KINDS + 2..=scenarios.len()));
        // These two take a further week, so they are in one world of eight.
        let takes_weeks = |scenario: &Scenario| matches!(scenario, Scenario::Absent | Scenario::VeryLate);
        if seed.is_multiple_of(8) {
            scenarios.extend(Scenario::chaos().into_iter().filter(takes_weeks));
        } else {
            scenarios.retain(|scenario| !takes_weeks(scenario));
        }
        let kinds: Vec<ContentType> = random.choose_multiple(ContentType::ALL.iter().copied(), random_feeds(seed));
        let mut world = WorldConfig::new()
            .seed(seed)
            .records(random.u64(100..400))
            .records_per_blob(random.u32(1..16))
            .live(1.0 / random.u32(8..30) as f64, random.u32(1..4), TRAFFIC as u32)
            .identity(if random.bool() { Identity::Stable } else { Identity::Windowed })
            .scenarios(&scenarios)
            .rates(0.01, 0.05)
            .clock(clock.clone())
            .tune(|protocol| protocol.page_size = random.usize(2..30));
        world.shares = [0; 5];
        kinds.iter().for_each(|kind| world.shares[ContentType::ALL.iter().position(|k| k == kind).unwrap()] = 1);
        let simulator = {
            let runtime = runtime();
            runtime.block_on(async {
                clock.set(now_ms);
                Arc::new(Simulator::in_process(world))
            })
        };
        let dir = tempfile::tempdir_in(if Path::new("/dev/shm").is_dir() { "/dev/shm" } else { "/tmp" }).unwrap();
        let yaml = configuration(&simulator, dir.path(), &kinds, random.u32(5..30));
        let skew_ms = if random.u8(0..4) == 0 { random.i64(-10 * 60_000..10 * 60_000) } else { 0 };
        let skewed = clock.ahead_by(skew_ms);
        // Half a day of faults may go by before the first listing succeeds.
        let gaps = vec![(i64::MIN, now_ms + 12 * HOUR_MS)];
        Chaos { seed, simulator, clock, skewed, now_ms, gaps, dir, yaml, random }
    }

    /// Runs the process through the days: a few lives, the last of which ends when all is done.
    fn live(&mut self, told: &mut Told) -> Result<(), String> {
        let began_ms = self.now_ms;
        let mut ends: Vec<i64> = (0..self.random.usize(2..6)).map(|_| self.random.i64(1..TRAFFIC * 60)).collect();
        ends.sort_unstable();
        for minute in ends {
            let until_ms = began_ms + minute * 60_000 + self.random.i64(0..60_000);
            if until_ms <= self.now_ms {
                continue;
            }
            let end = if self.random.u8(0..3) == 0 { End::Stop } else { End::Crash };
            self.life(end, until_ms)?;
            match end {
                End::Crash => told.crashes += 1,
                _ => told.restarts += 1,
            }
            // Mostly seconds, sometimes hours.
            let down_s = if self.random.bool() { self.random.i64(1..60) } else { self.random.i64(60..12 * 3600) };
            // After which the backlog of listings takes its time, too.
            self.gaps.push((self.now_ms, self.now_ms + down_s * 1000 + 3 * HOUR_MS));
            self.now_ms += down_s * 1000;
        }
        self.life(End::Done, began_ms + (TRAFFIC + PATIENCE) * HOUR_MS)?;
        told.virtual_days = ((self.now_ms - began_ms) / (24 * HOUR_MS)) as u64;
        Ok(())
    }

    fn config(&self) -> Config {
        let mut config = load_str("chaos.yaml", &self.yaml).unwrap_or_else(|faults| panic!("{faults}"));
        config.clock = self.skewed.clone();
        config
    }

    /// One life of the process on a runtime of its own, so that a crash ends every task of it.
    fn life(&mut self, end: End, until_ms: i64) -> Result<(), String> {
        let runtime = runtime();
        let ended = runtime.block_on(async {
            self.clock.set(self.now_ms);
            let options = RunOptions { service: Some(service(&self.simulator)), ..RunOptions::default() };
            let app = App::start(self.config(), Metrics::new(), options).await.map_err(|error| error.to_string())?;
            let left = Duration::from_millis(u64::try_from(until_ms - self.now_ms).unwrap_or(0));
            let ending = match end {
                End::Crash => tokio::time::timeout(left, app.run(std::future::pending())).await.ok(),
                End::Stop => Some(app.run(tokio::time::sleep(left)).await),
                End::Done => Some(app.run(self.done(until_ms)).await),
            };
            self.now_ms = self.clock.now_ms();
            match ending {
                None | Some(Ending::Clean) => Ok(()),
                Some(other) => Err(format!("a life ended with {other:?}")),
            }
        });
        if end != End::Crash {
            return ended;
        }
        // What a killed process leaves: the state as it is on the disk now, and files no older than it.
        let image = Image::take(self.dir.path());
        drop(runtime);
        image.restore(self.dir.path());
        ended
    }

    /// Resolves when the traffic is over and everything served has come to an end, or nothing did for too long.
    async fn done(&self, until_ms: i64) {
        let over_ms = until_ms - PATIENCE * HOUR_MS;
        while self.clock.now_ms() < until_ms {
            let wait_ms = (over_ms - self.clock.now_ms()).max(6 * HOUR_MS);
            self.clock.sleep(Duration::from_millis(wait_ms as u64)).await;
            let is_done = || self.feeds().iter().all(|(_, feed)| feed.pending.is_empty());
            if is_done() && self.simulator.report().pending_records == 0 {
                // An old hour is listed every six.
                self.clock.sleep(Duration::from_secs(7 * 3600)).await;
                if is_done() {
                    return;
                }
            }
        }
    }

    fn feeds(&self) -> Vec<(auditferry::feed::FeedKey, auditferry::state::FeedProgress)> {
        State::inspect(&self.dir.path().join("state")).unwrap()
    }

    fn judge(&self, told: &mut Told) -> Result<(), String> {
        let runtime = runtime();
        let (report, expected) = runtime.block_on(async {
            self.clock.set(self.now_ms);
            (self.simulator.report(), Expected::of(&self.simulator))
        });
        let feeds = self.feeds();
        let mut gone: BTreeSet<String> = BTreeSet::new();
        for blob in report.unreachable.iter().filter(|blob| !UNSEEN.contains(&blob.reason)) {
            match blob.refused.is_empty() {
                true => gone.insert(blob.content_id.clone()),
                false => blob.refused.iter().fold(false, |_, id| gone.insert(id.clone())),
            };
        }
        let lost = feeds.iter().flat_map(|(_, feed)| &feed.ledger.lost);
        let ledgered: BTreeSet<String> = lost.map(|blob| blob.content_id.clone()).collect();
        let file = std::fs::read(self.output()).unwrap_or_default();
        let judged = expected.judge(file.split(|b| *b == b'\n').filter(|line| !line.is_empty()).map(original));
        told.requests = report.requests.values().sum();
        told.records = report.records;
        told.unreachable_blobs = gone.len() as u64;
        told.fired = report.faults.clone();
        let fired: u64 = report.faults.values().sum();
        let kinds = report.faults.values().filter(|count| **count > 0).count();
        told.kinds = kinds as u64;
        let refused: Vec<(i64, i64)> = feeds.iter().flat_map(|(_, feed)| feed.ledger.refused.clone()).collect();
        // Retention passed over them while nobody could list them.
        let unexplained = refused.iter().filter(|(from, to)| !self.was_away(*from, *to)).count();
        let too_old = report.unreachable.iter().filter(|blob| blob.reason == "too_old");
        let too_old: Vec<&String> = too_old.map(|blob| &blob.content_id).collect();
        let suspected = feeds.iter().flat_map(|(_, feed)| feed.ledger.suspected.clone());
        let ledger: Vec<(i64, i64)> = refused.iter().copied().chain(suspected).collect();
        let unledgered = too_old.iter().filter(|id| !ledger.iter().any(|named| holds(*named, id))).count();
        told.refused_hours = refused.iter().map(|(from, to)| to - from).sum::<i64>() as u64 / 3600;
        told.too_old_blobs = too_old.len() as u64;
        let pending: usize = feeds.iter().map(|(_, feed)| feed.pending.len()).sum();
        let mut wrong = Vec::new();
        let mut check = |is_well: bool, what: String| {
            if !is_well {
                wrong.push(what);
            }
        };
        let missing = if judged.lost > 0 { self.missing(&file) } else { Vec::new() };
        check(
            (judged.lost, judged.duplicates, judged.foreign) == (0, 0, 0),
            format!("{judged:?}, missing: {missing:?}"),
        );
        let unledgered_blobs: Vec<&String> = gone.difference(&ledgered).collect();
        let invented: Vec<&String> = ledgered.difference(&gone).collect();
        check(
            gone == ledgered,
            format!("unreachable and not ledgered {unledgered_blobs:?}, or the other way {invented:?}"),
        );
        check(
            unexplained == 0,
            format!("{unexplained} refused intervals without a reason: {refused:?}, {:?}", self.gaps),
        );
        check(
            unledgered == 0,
            format!("{unledgered} blobs too old and in no refused interval: {too_old:?}, {refused:?}"),
        );
        check(
            pending == 0 && report.pending_records == 0,
            format!("{pending} blobs pending, {} late", report.pending_records),
        );
        check(
            fired >= FIRINGS && report.faults.len() >= KINDS && kinds >= KINDS / 2,
            format!("{kinds} kinds of faults fired {fired} times"),
        );
        // Starts on their way in a crash may be sent again where the list lags.
        let is_grave =
            |violation: &&Violation| violation.kind != "start_within_cooldown" || violation.count > told.crashes;
        let grave: Vec<&Violation> = report.violations.iter().filter(is_grave).collect();
        check(grave.is_empty(), format!("{grave:?}"));
        if wrong.is_empty() { Ok(()) } else { Err(format!("(seed {}) {}", self.seed, wrong.join("; "))) }
    }

    /// The blobs of the records that are not in the file and could be.
    fn missing(&self, file: &[u8]) -> Vec<Vec<String>> {
        let have: HashSet<_> =
            file.split(|b| *b == b'\n').filter(|line| !line.is_empty()).map(|line| hash(&original(line))).collect();
        let truth = self.simulator.truth().filter(|record| record.reachable && !have.contains(&hash(&record.record)));
        truth.map(|record| record.content_ids).collect()
    }

    /// Whether the last sweep of `[from, to)`, between 4 hours before the end of its retention and that end, fell
    /// into a gap at least in part.
    fn was_away(&self, from: i64, to: i64) -> bool {
        let (from_ms, to_ms) = (from * 1000 + 7 * 24 * HOUR_MS - 4 * HOUR_MS, to * 1000 + 7 * 24 * HOUR_MS);
        self.gaps.iter().any(|(gone, back)| *gone < to_ms && from_ms < *back)
    }

    fn output(&self) -> PathBuf {
        self.dir.path().join("out.ndjson")
    }
}

/// Whether the blob became available in the interval, by the first stamp of its id.
fn holds((from, to): (i64, i64), id: &str) -> bool {
    let stamp = |at: i64| jiff::Timestamp::from_second(at).unwrap().strftime("%Y%m%d%H%M%S").to_string();
    let first: String = id.chars().take(14).collect();
    (stamp(from)..stamp(to)).contains(&first)
}

/// One content type in most worlds, two in some.
fn random_feeds(seed: u64) -> usize {
    if seed.is_multiple_of(3) { 2 } else { 1 }
}

fn service(simulator: &Arc<Simulator>) -> InProcess {
    let simulator = Arc::clone(simulator);
    Arc::new(move |request| {
        let simulator = Arc::clone(&simulator);
        Box::pin(async move {
            let asked =
                std::env::var("AUDITFERRY_CHAOS_WATCH").ok().map(|watched| (watched, request.uri().to_string()));
            let response = simulator.answer(request.map(axum::body::Body::new)).await?;
            if let Some((_, uri)) = asked.filter(|(watched, uri)| uri.contains(watched)) {
                println!("{} {} {uri}", simulator.clock().now_ms() / 1000, response.status());
            }
            Ok(response.map(reqwest::Body::wrap_stream))
        })
    })
}

fn configuration(simulator: &Simulator, dir: &Path, kinds: &[ContentType], poll_minutes: u32) -> String {
    let kinds: Vec<&str> = kinds.iter().map(|kind| kind.as_str()).collect();
    let tenants: String = simulator
        .tenants()
        .iter()
        .map(|tenant| {
            format!(
                "  - {{ name: {:?}, tenant_id: {:?}, client_id: {:?}, auth: {{ client_secret: {:?} }}, endpoints: {{ api: {:?}, login: {:?} }}, content_types: {kinds:?} }}\n",
                tenant.name,
                tenant.tenant_id,
                tenant.client_id,
                tenant.client_secret,
                simulator.api_url(),
                simulator.login_url(),
            )
        })
        .collect();
    format!(
        "state: {{ dir: {:?} }}\ncollect: {{ poll_interval: {poll_minutes}m }}\ntenants:\n{tenants}sinks:\n  - {{ name: disk, type: file, format: raw, path: {:?} }}\n",
        dir.join("state"),
        dir.join("out.ndjson"),
    )
}

/// The bytes on the disk at a crash.
struct Image {
    state: Vec<(PathBuf, Vec<u8>)>,
    /// Length of each file that is only ever appended to.
    appended: Vec<(PathBuf, u64)>,
}

impl Image {
    fn take(dir: &Path) -> Image {
        let state = files(&dir.join("state"));
        let state = state.into_iter().map(|path| (std::fs::read(&path).unwrap_or_default(), path));
        let state = state.map(|(bytes, path)| (path, bytes)).collect::<Vec<_>>();
        let (appended, state) = state.into_iter().partition::<Vec<_>, _>(|(path, _)| path.ends_with("dead.ndjson"));
        let appended = appended.into_iter().map(|(path, _)| path).chain(files(dir));
        let length = |path: PathBuf| (std::fs::metadata(&path).map_or(0, |meta| meta.len()), path);
        Image { state, appended: appended.map(length).map(|(length, path)| (path, length)).collect() }
    }

    /// Files that are appended to keep their inode, as they would.
    fn restore(self, dir: &Path) {
        for path in files(&dir.join("state")) {
            if !self.appended.iter().any(|(kept, _)| *kept == path) {
                std::fs::remove_file(path).unwrap();
            }
        }
        for (path, bytes) in self.state {
            std::fs::write(path, bytes).unwrap();
        }
        for path in files(dir) {
            let length = self.appended.iter().find(|(kept, _)| *kept == path).map_or(0, |(_, length)| *length);
            std::fs::File::options().write(true).open(&path).unwrap().set_len(length).unwrap();
        }
    }
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).map(|entries| entries.map(|entry| entry.unwrap().path()).collect());
    let paths: Vec<PathBuf> = entries.unwrap_or_default();
    paths.into_iter().filter(|path| path.is_file()).collect()
}
