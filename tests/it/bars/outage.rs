//! Outage: the process is down for days of virtual time and comes back. Down for less than retention,
//! nothing is lost. Down for longer, every lost record lies in an interval that the ledger names as
//! refused, the service refused every such interval up to its last minute, nothing that it still listed is
//! named or lost, nothing is doubled, and the way back costs a bounded number of requests.
//!
//! Service and collector share one thread and one paused clock, as in the bar chaos.

use std::collections::{BTreeMap, HashSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use auditferry::app::{App, Ending, InProcess, RunOptions};
use auditferry::clock::Clock;
use auditferry::config::load_str;
use auditferry::metrics::Metrics;
use auditferry::simulator::{Identity, Simulator, WorldConfig};
use auditferry::state::{FeedProgress, State};
use tempfile::TempDir;

use crate::hec::canonical_hash;
use crate::support::{figure, is_full, size};

const HOUR: i64 = 3600;
const DAY: i64 = 24 * HOUR;
/// Before and after the outage.
const AROUND: i64 = DAY;
/// The step by which the edge of retention is looked for.
const STEP: i64 = 60;

#[test]
fn outage() {
    let seeds = size(1, 8);
    for (name, down) in [("6 d 23 h", 7 * DAY - HOUR), ("8 d", 8 * DAY), ("25 d", 25 * DAY)] {
        for identity in [Identity::Stable, Identity::Windowed] {
            // In `make test` one of them each.
            if !is_full() && (identity == Identity::Stable) != (down == 8 * DAY) {
                continue;
            }
            let began = Instant::now();
            let mut sum = Told::default();
            for seed in 1..=seeds {
                sum.add(&run(seed, identity, down));
            }
            figure("outage", format_args!("{name}, {identity:?}, {seeds} seeds, {:.1?}: {sum:?}", began.elapsed()));
        }
    }
}

/// What came out, over all seeds.
#[derive(Debug, Default)]
#[allow(dead_code, reason = "all of it is printed")]
struct Told {
    records: usize,
    arrived: usize,
    /// All of them in intervals that the ledger calls refused.
    lost: usize,
    refused_hours: i64,
    listed_but_not_swept_hours: i64,
    /// Listings after the outage, and those that the service refused.
    listings: usize,
    refusals: usize,
}

impl Told {
    fn add(&mut self, other: &Told) {
        self.records += other.records;
        self.arrived += other.arrived;
        self.lost += other.lost;
        self.refused_hours += other.refused_hours;
        self.listed_but_not_swept_hours += other.listed_but_not_swept_hours;
        self.listings += other.listings;
        self.refusals += other.refusals;
    }
}

/// A listing that was asked for: content type, start, and whether the range was refused.
type Asked = Arc<Mutex<Vec<(String, i64, bool)>>>;

struct World {
    simulator: Arc<Simulator>,
    asked: Asked,
    clock: Clock,
    now_ms: i64,
    dir: TempDir,
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap()
}

fn run(seed: u64, identity: Identity, down: i64) -> Told {
    let mut world = World::new(seed, identity, down);
    let stopped = world.now_ms / 1000 + AROUND;
    world.life(AROUND);
    world.asked.lock().unwrap().clear();
    world.now_ms += down * 1000;
    let back = world.now_ms / 1000;
    // A second life, and then a third one that finds nothing more to do about it.
    world.life(AROUND / 2);
    let listings = world.asked.lock().unwrap().len();
    let told = world.judge(stopped, back, down);
    world.life(AROUND / 2);
    let later = world.asked.lock().unwrap()[listings..].iter().filter(|(.., is_refused)| *is_refused).count();
    assert_eq!(later, 0, "the edge is asked for again and again");
    told
}

impl World {
    fn new(seed: u64, identity: Identity, down: i64) -> World {
        // 2026-03-01 and some minutes: where in an hour it happens is part of the draw.
        let mut random = fastrand::Rng::with_seed(seed);
        let now_ms = 1_772_323_200_000 + random.i64(0..3 * HOUR) * 1000;
        let clock = runtime().block_on(async { Clock::following(now_ms) });
        let hours = (down + 2 * AROUND) / HOUR - 2;
        let config = WorldConfig::new()
            .seed(seed)
            .records(500)
            .records_per_blob(10)
            .live(1.0 / 20.0, 2, u32::try_from(hours).unwrap())
            .identity(identity)
            .clock(clock.clone());
        let runtime = runtime();
        let simulator = runtime.block_on(async {
            clock.set(now_ms);
            Arc::new(Simulator::in_process(config))
        });
        World { simulator, asked: Asked::default(), clock, now_ms, dir: tempfile::tempdir().unwrap() }
    }

    /// One life of the process, of so many seconds.
    fn life(&mut self, seconds: i64) {
        let runtime = runtime();
        runtime.block_on(async {
            self.clock.set(self.now_ms);
            let options = RunOptions { service: Some(self.service()), ..RunOptions::default() };
            let mut config = load_str("outage.yaml", &self.yaml()).unwrap_or_else(|faults| panic!("{faults}"));
            config.clock = self.clock.clone();
            let app = App::start(config, Metrics::new(), options).await.unwrap();
            let ending = app.run(tokio::time::sleep(Duration::from_secs(seconds as u64))).await;
            assert!(matches!(ending, Ending::Clean), "{ending:?}");
            self.now_ms = self.clock.now_ms();
        });
    }

    /// The simulator, and a note of each listing.
    fn service(&self) -> InProcess {
        let (simulator, asked) = (Arc::clone(&self.simulator), Arc::clone(&self.asked));
        Arc::new(move |request| {
            let (simulator, asked) = (Arc::clone(&simulator), Arc::clone(&asked));
            Box::pin(async move {
                let query = request.uri().query().unwrap_or("").to_owned();
                let is_first_page =
                    request.uri().path().ends_with("/subscriptions/content") && !query.contains("nextPage");
                let response = simulator.answer(request.map(axum::body::Body::new)).await?;
                if is_first_page
                    && let (Some(kind), Some(from)) = (part(&query, "contentType="), part(&query, "startTime="))
                {
                    let from = format!("{}Z", from.replace("%3A", ":")).parse::<jiff::Timestamp>().unwrap();
                    asked.lock().unwrap().push((kind, from.as_second(), response.status() == 400));
                }
                Ok(response.map(reqwest::Body::wrap_stream))
            })
        })
    }

    fn yaml(&self) -> String {
        let tenant = &self.simulator.tenants()[0];
        format!(
            "state: {{ dir: {:?} }}\ncollect: {{ poll_interval: 10m }}\ntenants:\n  - {{ name: {:?}, tenant_id: {:?}, client_id: {:?}, auth: {{ client_secret: {:?} }}, endpoints: {{ api: {:?}, login: {:?} }} }}\nsinks:\n  - {{ name: disk, type: file, format: raw, path: {:?} }}\n",
            self.dir.path().join("state"),
            tenant.name,
            tenant.tenant_id,
            tenant.client_id,
            tenant.client_secret,
            self.simulator.api_url(),
            self.simulator.login_url(),
            self.output(),
        )
    }

    fn output(&self) -> PathBuf {
        self.dir.path().join("out.ndjson")
    }

    fn judge(&self, stopped: i64, back: i64, down: i64) -> Told {
        let feeds: BTreeMap<String, FeedProgress> = State::inspect(&self.dir.path().join("state"))
            .unwrap()
            .into_iter()
            .map(|(key, progress)| (key.content_type.to_string(), progress))
            .collect();
        let asked = self.asked.lock().unwrap();
        let mut told = Told::default();
        let lines = std::fs::read(self.output()).unwrap();
        let mut have = HashSet::new();
        for line in lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            assert!(have.insert(canonical_hash(line)), "a record is there twice");
        }
        told.arrived = have.len();
        let runtime = runtime();
        let truth: Vec<_> = runtime.block_on(async {
            self.clock.set(self.now_ms);
            // What came in the last minutes is for the next life.
            let listable = |ms: i64| ms < self.now_ms - 2 * HOUR * 1000;
            self.simulator.truth().filter(|record| listable(record.listable_ms)).collect()
        });
        told.records = truth.len();
        for record in truth.iter().filter(|record| !have.contains(&canonical_hash(&record.record))) {
            told.lost += 1;
            let refused = &feeds[record.content_type.as_str()].ledger.refused;
            let is_named = record.content_ids.iter().any(|id| refused.iter().any(|interval| touches(*interval, id)));
            assert!(is_named, "lost and not in the ledger: {:?}, {refused:?}", record.content_ids);
        }
        for (kind, progress) in &feeds {
            let refusals: Vec<i64> = asked.iter().filter(|a| a.0 == *kind && a.2).map(|a| a.1).collect();
            told.listings += asked.iter().filter(|a| a.0 == *kind).count();
            told.refusals += refusals.len();
            let hours = |intervals: &[(i64, i64)]| intervals.iter().map(|(from, to)| to - from).sum::<i64>() / HOUR;
            told.refused_hours += hours(&progress.ledger.refused);
            told.listed_but_not_swept_hours += hours(&progress.ledger.suspected);
            for (from, to) in &progress.ledger.refused {
                // Each of its hours up to its last minute, by the service's own word.
                let ends = (from / HOUR + 1..=to / HOUR).map(|hour| hour * HOUR).chain([*to]);
                for end in ends.filter(|end| end > from) {
                    let is_refused = refusals.iter().any(|start| (end - STEP..end).contains(start));
                    assert!(is_refused, "{kind}: [{from}, {end}) is in the ledger and was not refused: {refusals:?}");
                }
                // Between the last listing and the edge of retention on the return, give or take.
                assert!(
                    *from >= stopped - HOUR && *to <= back - 7 * DAY + HOUR,
                    "{kind}: {from}..{to}, {stopped}, {back}"
                );
            }
            // Two questions an hour that is gone, some more at the edge.
            let gone = (back - 7 * DAY - (stopped - 7 * DAY)).max(0) / HOUR + 2;
            assert!(refusals.len() <= 2 * gone as usize + 20, "{} refusals for {gone} hours", refusals.len());
        }
        if down < 7 * DAY {
            assert_eq!((told.lost, told.refused_hours), (0, 0));
        } else {
            assert!(told.lost > 0, "an outage of {down} s lost nothing: the world is too quiet");
            // All that could still be had is there: nothing of the last 7 days is missing.
            let expected = (down - 7 * DAY) / HOUR * feeds.len() as i64;
            assert!((told.refused_hours - expected).abs() <= 2 * feeds.len() as i64, "{told:?}");
        }
        told
    }
}

/// A parameter's value.
fn part(query: &str, name: &str) -> Option<String> {
    Some(query.split_once(name)?.1.split('&').next()?.to_owned())
}

/// Whether a part of the blob became available in the interval, by the stamps of its id.
fn touches((from, to): (i64, i64), id: &str) -> bool {
    let stamp = |at: i64| jiff::Timestamp::from_second(at).unwrap().strftime("%Y%m%d%H%M%S").to_string();
    let mut stamps = id.split('$').map(|stamp| stamp.chars().take(14).collect::<String>());
    let (first, second) = (stamps.next().unwrap(), stamps.next().unwrap());
    first < stamp(to) && second.max(first.clone()) >= stamp(from)
}
