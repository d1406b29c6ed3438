//! Faults: every scenario alone, and half of them together in both identity modes. What the simulator
//! made unreachable is lost and ledgered, blob for blob; everything else arrives, once, byte for byte.
//! Each fault must have fired at least 20 times, or the run says nothing.
//!
//! The clock runs [`SPEED`] times as fast, so that an hour of 404 and the pauses a server asks for pass
//! in seconds.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::time::{Duration, Instant};

use auditferry::simulator::{Identity, Scenario, Simulator, SimulatorHandle, WorldConfig};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::hec::{FakeHec, Options};
use crate::support::{Hash, Place, figure, is_full, ledgered_lost, size, world};

/// Calendar seconds a second: the hour after which a blob is given up is one.
const SPEED: f64 = 3600.0;
/// Firings below which a scenario has not been tried. What strikes by time (`late`) strikes seldom where the process is kept
/// waiting for its turn: an hour of the world is a second here.
const FIRINGS: u64 = 10;
/// Scenarios that strike together, of all those in the table's order.
const HALF: usize = 25;
/// Runs until nothing is late or left out any more.
const RUNS: usize = 8;
/// Those that run alone in `make test` too, chosen for being quick and different from each other.
const SMALL: [Scenario; 15] = [
    Scenario::TruncatedBody,
    Scenario::Throttle429,
    Scenario::TokenExpiry,
    Scenario::Duplicates,
    Scenario::Late,
    Scenario::Expired,
    Scenario::Vanished,
    Scenario::Eventual,
    Scenario::SubscriptionDisabled,
    Scenario::InvalidUtf8,
    Scenario::NotObject,
    Scenario::ConnectionReset,
    Scenario::ObjectBody,
    Scenario::WrongDate,
    Scenario::PageLoop,
];

#[tokio::test(flavor = "multi_thread")]
async fn faults_alone() {
    for scenario in Scenario::all() {
        if is_full() || SMALL.contains(&scenario) {
            let config = WorldConfig::new().records(size(2_000, 20_000));
            bar(scenario.name(), config, &[scenario], Identity::Stable).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn faults_together() {
    let modes: &[Identity] = if is_full() { &[Identity::Stable, Identity::Windowed] } else { &[Identity::Windowed] };
    for identity in modes {
        // In two halves: with everything at once hardly a blob is asked for before it is no longer late.
        let all = Scenario::all();
        for (half, scenarios) in [all.split_at(HALF).0, all.split_at(HALF).1].into_iter().enumerate() {
            // Half a minute of waiting; `chaos` has them in a small run.
            if half == 1 && !is_full() {
                continue;
            }
            let config = WorldConfig::new().tenants(3).records(size(6_000, 60_000));
            bar(&format!("half {half} of all, {identity:?}"), config, scenarios, *identity).await;
        }
    }
}

async fn bar(name: &str, config: WorldConfig, scenarios: &[Scenario], identity: Identity) {
    let config = config.days(2).speed(SPEED).identity(identity).scenarios(scenarios);
    // Half the documented pause: with a fast clock the way of a request is many seconds long.
    let world = world(config.tune(|p| p.start_cooldown_s = 450)).await;
    // These two strike only what is listed early enough, or again; with everything else going wrong most
    // late blobs are due before they are first asked for, so that more of them have to be late.
    for (scenario, alone, together) in [(Scenario::Late, 0.6, 0.9), (Scenario::OutOfOrder, 0.5, 0.25)] {
        if scenarios.contains(&scenario) {
            world.enable(scenario, Some(if scenarios.len() == 1 { alone } else { together }));
        }
    }
    let hec = FakeHec::start_with(Options { keep_bodies: true, ..Options::default() }).await;
    let place = Place::new();
    let sinks = format!(
        "  - {{ name: splunk, type: splunk_hec, url: {:?}, token: token, batch: {{ linger: 50ms }} }}\n{}",
        hec.url(),
        place.file_sink("out.ndjson")
    );
    place.write_config(&world, &sinks, "collect: { requests_per_minute: 100000, poll_interval: 5s, backfill: 3d }\n");

    let began = Instant::now();
    let codes = run_until_nothing_is_late(name, &world, &place).await;
    let seconds = began.elapsed().as_secs_f64();
    let report = world.report();
    let gone: BTreeSet<String> = match identity {
        Identity::Stable => report.unreachable.iter().map(|blob| blob.content_id.clone()).collect(),
        Identity::Windowed => report.unreachable.iter().flat_map(|blob| blob.refused.clone()).collect(),
    };
    let ledger: BTreeSet<String> = ledgered_lost(&place.ledger()).into_keys().collect();

    let truth = Expected::of(&world);
    let at_hec = hec.received().events;
    let at_hec = truth.judge(at_hec.iter().map(|event| original(event.body.as_ref().unwrap())));
    let file = std::fs::read(place.path("out.ndjson")).unwrap_or_default();
    let in_file = truth.judge(file.split(|b| *b == b'\n').filter(|line| !line.is_empty()).map(original));
    let fired: Vec<String> = scenarios
        .iter()
        .map(|s| (s.name(), report.faults.get(s.name()).copied().unwrap_or(0)))
        .map(|(name, count)| format!("{name} {count}"))
        .collect();
    figure(
        "faults",
        format_args!(
            "{name}: {} records, {} unreachable blobs, {} ledgered, HEC {at_hec:?}, file {in_file:?}, {} runs, {seconds:.1} s; fired: {}",
            report.records,
            gone.len(),
            ledger.len(),
            codes.len(),
            fired.join(", ")
        ),
    );
    for scenario in scenarios {
        let fired = report.faults.get(scenario.name()).copied().unwrap_or(0);
        // Of a spoilt record, only one that could be had says anything.
        let count = truth.spoilt.get(scenario.name()).map_or(fired, |records| fired.min(*records));
        assert!(count >= FIRINGS, "{} fired only {count} times", scenario.name());
    }
    assert_eq!(gone.difference(&ledger).collect::<Vec<_>>(), Vec::<&String>::new(), "{name}: lost and not ledgered");
    assert_eq!(ledger.difference(&gone).collect::<Vec<_>>(), Vec::<&String>::new(), "{name}: ledgered and to be had");
    for (sink, judged) in [("HEC", &at_hec), ("file", &in_file)] {
        let Judged { lost, duplicates, foreign, .. } = *judged;
        assert_eq!((lost, duplicates, foreign), (0, 0, 0), "{name}, {sink}\n{}", place.log_tail());
    }
    assert!(codes.iter().all(|code| matches!(code, 0 | 1)), "{name}: {codes:?}\n{}", place.log_tail());
    assert_eq!(codes.contains(&1), !ledger.is_empty(), "{name}: {codes:?}\n{}", place.log_tail());
    assert_eq!(report.violations.len(), 0, "{name}: {:?}", report.violations);
}

/// Runs with `--once` until a run began when nothing was late or missing from a listing. Returns the exit codes.
async fn run_until_nothing_is_late(name: &str, world: &SimulatorHandle, place: &Place) -> Vec<i32> {
    let mut codes = Vec::new();
    loop {
        let late = world.report().pending_records;
        let status = place.run_once(Duration::from_secs(60)).await;
        codes.push(status.code().unwrap_or(-1));
        if late == 0 && world.report().pending_records == 0 {
            return codes;
        }
        assert!(codes.len() < RUNS, "{name}: {late} records are still not listed after {codes:?}");
        // An hour of the world's.
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

/// The bytes of the record that an event or a line holds: itself, or what a pipeline error was made of.
pub(super) fn original(event: &[u8]) -> Vec<u8> {
    if memchr::memmem::find(event, b"pipeline_error").is_none() {
        return flat(event.to_vec());
    }
    let document: serde_json::Value = serde_json::from_slice(event).unwrap();
    assert_eq!(document["event"]["kind"], "pipeline_error");
    let base64 = document["auditferry"]["original_base64"].as_str().map(|text| STANDARD.decode(text).unwrap());
    flat(base64.unwrap_or_else(|| document["event"]["original"].as_str().unwrap().as_bytes().to_vec()))
}

/// With line breaks as blanks, since an event may have to be one line, and the Id in small letters, since a
/// copy may come with it in capitals and be the one that is kept.
fn flat(mut record: Vec<u8>) -> Vec<u8> {
    const ID: &[u8] = b"\"Id\":\"";
    let id = memchr::memmem::find(&record, ID).map(|at| at + ID.len());
    if let Some(id) = id.and_then(|at| record.get_mut(at..at + 36)) {
        id.make_ascii_lowercase();
    }
    record.iter_mut().filter(|b| matches!(b, b'\n' | b'\r')).for_each(|b| *b = b' ');
    record
}

pub(super) fn hash(record: &[u8]) -> Hash {
    *blake3::hash(record).as_bytes()
}

/// What was served. Two elements of a tenant that are the same bytes (`null`, say) are one record.
#[derive(Default)]
pub(super) struct Expected {
    /// Hash → tenants that have it where it can be had.
    reachable: HashMap<Hash, HashSet<String>>,
    /// Hash → tenants that have it at all.
    all: HashMap<Hash, HashSet<String>>,
    /// Scenario → records that it spoilt and that can be had.
    spoilt: HashMap<&'static str, u64>,
}

#[derive(Debug, Default)]
#[allow(dead_code, reason = "all of it is printed")]
pub(super) struct Judged {
    pub arrived: usize,
    pub lost: usize,
    pub duplicates: usize,
    pub foreign: usize,
    /// Not to be had any more, and here all the same.
    pub lucky: usize,
}

impl Expected {
    pub(super) fn of(world: &Simulator) -> Expected {
        let mut expected = Expected::default();
        for record in world.truth() {
            let hash = hash(&flat(record.record));
            if record.reachable {
                record.hostile.into_iter().for_each(|scenario| *expected.spoilt.entry(scenario).or_default() += 1);
                expected.reachable.entry(hash).or_default().insert(record.tenant_id.clone());
            }
            expected.all.entry(hash).or_default().insert(record.tenant_id);
        }
        expected
    }

    pub(super) fn judge(&self, arrived: impl Iterator<Item = Vec<u8>>) -> Judged {
        let mut counts: HashMap<Hash, usize> = HashMap::new();
        arrived.for_each(|record| *counts.entry(hash(&record)).or_default() += 1);
        let of = |known: &HashMap<Hash, HashSet<String>>, hash| known.get(hash).map_or(0, HashSet::len);
        let mut judged = Judged { arrived: counts.values().sum(), ..Judged::default() };
        for (hash, count) in &counts {
            let all = of(&self.all, hash);
            judged.foreign += usize::from(all == 0);
            judged.duplicates += count.saturating_sub(all.max(1));
            judged.lucky += count.min(&all).saturating_sub(of(&self.reachable, hash));
        }
        for (hash, tenants) in &self.reachable {
            judged.lost += tenants.len().saturating_sub(counts.get(hash).copied().unwrap_or(0));
        }
        judged
    }
}
