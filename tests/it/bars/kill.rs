//! Kill: a separate process is killed at every named step, at random, and in the middle of its drain,
//! while records are in flight; receivers outlive it and book before they answer. Nothing may be lost,
//! the file holds every record once, and what HEC has twice was sent and not yet journalled.
//!
//! After each kill the state it left is opened (a copy of it) and asked which of the records that HEC
//! booked it knows as delivered. The others are what a restart may send again, and nothing else.

use std::collections::{BTreeMap, HashSet};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::{Duration, Instant};

use auditferry::ack::Finalizer;
use auditferry::config::StateConfig;
use auditferry::failpoint::STEPS;
use auditferry::metrics::Metrics;
use auditferry::record::RecordKey;
use auditferry::simulator::{Identity, Scenario, SimulatorHandle, WorldConfig};
use auditferry::sink::SinkSet;
use auditferry::state::State;

use crate::hec::{FakeHec, Options};
use crate::support::{Place, Process, compare, figure, file_hashes, served, size, world};

/// A journal beyond this is compacted, so that nearly every life of the process writes a snapshot.
const JOURNAL_LIMIT: (&str, &str) = ("AUDITFERRY_JOURNAL_LIMIT", "32768");
/// How long a step may take to be reached before the process is killed anyway.
const PATIENCE: Duration = Duration::from_secs(8);

/// A world that never falls silent: 600 records a second in 10 feeds, after a short history of which some
/// blobs are so large that they flow part by part; and a download in twenty fails.
async fn busy_world(identity: Identity) -> SimulatorHandle {
    let config = WorldConfig::new().tenants(2).records(24_000).records_per_blob(8_000).days(1).identity(identity);
    let world = world(config.live_rate(60.0).speed(60.0)).await;
    for scenario in [Scenario::TruncatedBody, Scenario::ServerError] {
        world.enable(scenario, Some(0.05));
    }
    world
}

/// Both sinks with small batches, so that there are always some on their way.
fn sinks(place: &Place, hec: &FakeHec) -> String {
    format!(
        "  - {{ name: splunk, type: splunk_hec, url: {:?}, token: token, batch: {{ max_bytes: 64KiB, linger: 50ms }} }}\n  \
           - {{ name: disk, type: file, format: raw, path: {:?}, batch: {{ max_bytes: 64KiB, linger: 50ms }} }}\n",
        hec.url(),
        place.path("out.ndjson")
    )
}

async fn receiver() -> FakeHec {
    let hec = FakeHec::start_with(Options { hash_events: true, ..Options::default() }).await;
    // Time to die between booking and answering.
    hec.set(|knobs| knobs.answer_delay = Duration::from_millis(15));
    hec
}

/// How the process is made to end.
#[derive(Clone, Copy, Debug)]
enum Blow {
    /// By itself, at the n-th passing of a step.
    Step(&'static str, u32),
    /// After so long.
    After(Duration),
    /// Asked to stop after so long, killed so long into its drain.
    Drain(Duration, Duration),
}

/// The blows of the whole run, in an order that mixes them; the same every time.
fn blows() -> Vec<Blow> {
    let mut random = fastrand::Rng::with_seed(7);
    let mut blows = Vec::new();
    for round in 0..size(2, 18) {
        for step in STEPS {
            let most = match step {
                "journal_append" | "journal_fsync" => 1,
                "snapshot_write" | "snapshot_rename" => 0,
                "send" | "ack" => 12,
                _ => 20,
            };
            // The first commit is that of the start, before anything is in flight.
            let least = 1 + u32::from(step.starts_with("journal"));
            blows.push(Blow::Step(step, least + if round == 0 { 0 } else { random.u32(0..=most) }));
        }
    }
    let mut within = |low: u64, high: u64| Duration::from_millis(random.u64(low..high));
    for _ in 0..size(5, 125) {
        blows.push(Blow::After(within(150, 1_300)));
    }
    // A drain takes some ten milliseconds: many end by themselves before the kill.
    for _ in 0..size(3, 60) {
        blows.push(Blow::Drain(within(300, 900), within(0, 12)));
    }
    random.shuffle(&mut blows);
    blows
}

/// Lets the process live until the blow. The status tells whether it was killed.
async fn strike(process: &mut Process, blow: Blow) -> ExitStatus {
    match blow {
        Blow::Step(..) => {
            process.wait(PATIENCE).await;
        }
        Blow::After(life) => {
            process.wait(life).await;
        }
        Blow::Drain(life, drain) => {
            process.wait(life).await;
            process.terminate();
            process.wait(drain).await;
        }
    }
    let by_itself = process.ended();
    process.kill();
    by_itself.unwrap_or_else(|| ExitStatus::from_raw(9))
}

/// Which of these keys the state in `dir` does not know as delivered to the sink of that name. The
/// state is copied first, so that looking changes nothing.
pub(super) fn unknown(dir: &Path, sink: &str, keys: impl Iterator<Item = RecordKey>) -> HashSet<RecordKey> {
    let copy = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), copy.path().join(entry.file_name())).unwrap();
    }
    let config = StateConfig { dir: copy.path().to_owned(), max_delivered_bytes: 1 << 30 };
    let metrics = Metrics::new();
    let state = State::open(&config, Arc::clone(&metrics)).unwrap();
    assert_eq!(metrics.state_recoveries.total(), 0, "what a kill leaves is not damage");
    let only = SinkSet::of(state.sink_id(sink).unwrap());
    let keys: Vec<RecordKey> = keys.collect();
    let wants = state.delivered().claim(only, only, keys.iter().map(|key| (*key, Finalizer::new(|_| {}))));
    keys.into_iter().zip(wants).filter(|(_, wants)| !wants.is_empty()).map(|(key, _)| key).collect()
}

pub(super) fn parse_key(key: &str) -> RecordKey {
    RecordKey(u128::from_str_radix(key, 16).unwrap().to_be_bytes())
}

/// What HEC booked, against what the state knew at each start.
#[derive(Default)]
pub(super) struct Bookings {
    seen: usize,
    all: HashSet<RecordKey>,
    /// Booked, and not known as delivered at the last start: these may come again, once a start.
    may_come_again: HashSet<RecordKey>,
    pub duplicates: usize,
    /// Sum of the sizes of `may_come_again` over all starts.
    pub bound: usize,
    /// Duplicates that were none of these.
    pub unexplained: usize,
}

impl Bookings {
    /// Takes stock after a life of the process. Returns how many records it had sent without knowing.
    pub fn after_life(&mut self, hec: &FakeHec, state: &Path) -> usize {
        let new = hec.events_since(self.seen);
        self.seen += new.len();
        let mut open = self.may_come_again.clone();
        for event in &new {
            let key = parse_key(&event.key);
            if !self.all.insert(key) {
                self.duplicates += 1;
                self.unexplained += usize::from(!self.may_come_again.remove(&key));
            }
            open.insert(key);
        }
        self.may_come_again = unknown(state, "splunk", open.into_iter());
        self.bound += self.may_come_again.len();
        let sent: HashSet<RecordKey> = new.iter().map(|event| parse_key(&event.key)).collect();
        self.may_come_again.intersection(&sent).count()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn kill() {
    let (world, hec, place) = (busy_world(Identity::Stable).await, receiver().await, Place::new());
    place.write_config(&world, &sinks(&place, &hec), "");
    let mut bookings = Bookings::default();
    let mut kills: BTreeMap<&str, u32> = STEPS.into_iter().map(|step| (step, 0)).collect();
    let (mut in_flight, mut drained) = (0, 0);
    let began = Instant::now();
    for blow in blows() {
        let at = match blow {
            Blow::Step(step, n) => format!("{step}:{n}"),
            _ => String::new(),
        };
        let mut process = place.start(&[], &[("AUDITFERRY_KILL_AT", at.as_str()), JOURNAL_LIMIT]);
        let asked_to_die = matches!(blow, Blow::Step(..)).then(Instant::now);
        let status = strike(&mut process, blow).await;
        hec.quiet().await;
        let sent_unknown = tokio::task::block_in_place(|| bookings.after_life(&hec, &place.state_dir()));
        if status.code() == Some(0) {
            assert_eq!(sent_unknown, 0, "a whole drain leaves nothing that was sent and not journalled");
            drained += 1;
            continue;
        }
        assert_eq!(status.signal(), Some(9), "{blow:?} ended with {status}\n{}", place.log_tail());
        let reached = asked_to_die.is_some_and(|at| at.elapsed() < PATIENCE);
        let step = match blow {
            Blow::Step(step, _) if reached => step,
            Blow::Drain(..) => "drain",
            _ => "random",
        };
        *kills.entry(step).or_default() += 1;
        in_flight += u32::from(matches!(step, "part" | "send" | "ack") || sent_unknown > 0);
    }
    let seconds = began.elapsed().as_secs();
    let total: u32 = kills.values().sum();
    figure(
        "kill",
        format_args!(
            "{total} kills in {seconds} s, {in_flight} with records in flight: {kills:?}; {drained} whole drains"
        ),
    );

    // The world goes on, so what exists now must be there after a run that begins now.
    let truth = served(&world);
    let ended = place.run_once(Duration::from_secs(size(60, 120))).await;
    assert_eq!(ended.code(), Some(0), "{}", place.log_tail());
    bookings.after_life(&hec, &place.state_dir());
    let later = served(&world);
    let at_hec: Vec<_> = hec.received().events.iter().filter_map(|event| event.hash).collect();
    let in_file = file_hashes(&place.path("out.ndjson"));
    for (name, arrived) in [("HEC", &at_hec), ("file", &in_file)] {
        let lost = compare(&truth, arrived.iter().copied()).lost;
        let found = compare(&later, arrived.iter().copied());
        figure("kill", format_args!("{name}: arrived {}, lost {lost}, duplicates {}", found.arrived, found.duplicates));
        assert_eq!((lost, found.foreign), (0, 0), "{name}");
        assert!(name == "HEC" || found.duplicates == 0, "the file holds {} records twice", found.duplicates);
    }
    let Bookings { duplicates, bound, unexplained, .. } = bookings;
    figure(
        "kill",
        format_args!("HEC duplicates {duplicates}, sent and not journalled at the kills {bound}, others {unexplained}"),
    );
    assert_eq!(unexplained, 0, "doubled although the state knew them as delivered, or within one life");
    assert!((1..=bound).contains(&duplicates), "{duplicates} of {bound}");
    for (step, count) in &kills {
        assert!(*count >= size(1, 10), "only {count} kills at `{step}`");
    }
    assert!(total >= size(22, 300) && in_flight >= size(12, 200), "{total} kills, {in_flight} in flight");
    assert_eq!(world.report().violations.len(), 0, "{:?}", world.report().violations);
}

/// SIGTERM under load: ends in time and well, and leaves nothing to be sent again.
#[tokio::test(flavor = "multi_thread")]
async fn drain() {
    let (world, hec, place) = (busy_world(Identity::Windowed).await, receiver().await, Place::new());
    place.write_config(&world, &sinks(&place, &hec), "");
    let (mut slowest, mut finished) = (Duration::ZERO, 0);
    for round in 0..size(3, 9) {
        // Every other drain has a receiver so slow that it may be cut short; what is in the air is heard all the same.
        hec.set(|knobs| knobs.answer_delay = Duration::from_millis([15, 700][round % 2]));
        let mut process = place.start(&[], &[]);
        let before = hec.count();
        assert!(hec.wait_for(before + 100 + 40 * round, Duration::from_secs(20)).await, "{}", place.log_tail());
        let (asked, taken) = (Instant::now(), hec.count());
        process.terminate();
        let status = process.wait(Duration::from_secs(20)).await.expect("ends within 20 s");
        slowest = slowest.max(asked.elapsed());
        finished += hec.count() - taken;
        assert_eq!(status.code(), Some(0), "{}", place.log_tail());
    }
    assert!(finished > 0, "nothing was in flight at any SIGTERM");
    hec.set(|knobs| knobs.answer_delay = Duration::ZERO);
    let truth = served(&world);
    let ended = place.run_once(Duration::from_secs(size(60, 120))).await;
    assert_eq!(ended.code(), Some(0), "{}", place.log_tail());
    let at_hec: Vec<_> = hec.received().events.iter().filter_map(|event| event.hash).collect();
    figure("drain", format_args!("slowest {slowest:?}, {finished} events taken while draining"));
    for (name, arrived) in [("HEC", at_hec), ("file", file_hashes(&place.path("out.ndjson")))] {
        let found = compare(&truth, arrived);
        figure("drain", format_args!("{name}: lost {}, duplicates {}", found.lost, found.duplicates));
        assert_eq!((found.lost, found.duplicates), (0, 0), "{name}");
    }
}
