//! Exactly once: Apache Kafka behind a transactional sink. The process is killed again and again, at steps and at
//! random, its state directory is taken away now and then, the broker is restarted under load, and calls of the
//! transaction protocol fail before and after they took effect. A reader of committed messages must find
//! each record once. And a process that slept while its successor began writes nothing when it wakes.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use auditferry::simulator::{Scenario, SimulatorHandle, WorldConfig};

use super::kafka::{broker, topics};
use crate::hec::{FakeHec, Options, canonical_hash};
use crate::real::kafka::Kafka;
use crate::support::{Place, compare, figure, served, size, world};

/// At this speed a restart of the broker takes a quarter of an hour: what is listed must not lie at the edge of retention.
const COLLECT: &str = "collect: { requests_per_minute: 100000, poll_interval: 5s, backfill: 2d }\n";
/// A journal beyond this is compacted, so that kills strike snapshots too.
const JOURNAL_LIMIT: (&str, &str) = ("AUDITFERRY_JOURNAL_LIMIT", "65536");
/// Of all calls of the transaction protocol, on each side of each.
const FAIL_RATE: (&str, &str) = ("AUDITFERRY_FAIL_RATE", "0.08");
/// Where the process is killed.
const STEPS: [&str; 8] =
    ["txn_commit", "send", "txn_begin", "ack", "journal_append", "txn_init", "journal_fsync", "fetch"];

/// Small batches, so that there are many transactions.
fn bus(kafka: &Kafka) -> String {
    format!(
        "  - {{ name: bus, type: kafka, transactional: true, brokers: {:?}, topic: \"o365.{{content_type}}\", format: raw, batch: {{ max_bytes: 64KiB, linger: 50ms }} }}\n",
        kafka.address("open")
    )
}

async fn busy_world() -> SimulatorHandle {
    let config = WorldConfig::new().tenants(2).records(size(12_000, 150_000)).records_per_blob(2_000).days(1);
    let world = world(config.live_rate(60.0).speed(60.0)).await;
    world.enable(Scenario::ServerError, Some(0.02));
    world
}

/// Kills, restarts and injected errors; then everything must be there once. `more`: further sinks.
async fn strike(name: &str, more: &str, kafka: &Kafka, world: &SimulatorHandle, place: &Place) {
    place.write_config(world, &format!("{}{more}", bus(kafka)), COLLECT);
    strike_with(name, kafka, world, place, true).await;
}

/// The same with the configuration as it is. `has_disk`: the state is in a directory, which is taken away now and then;
/// without, everything is mounted read-only.
async fn strike_with(name: &str, kafka: &Kafka, world: &SimulatorHandle, place: &Place, has_disk: bool) {
    let (kills, restarts) = (size(6, 100), size(1, 10));
    let start = |arguments: &[&str], environment: &[(&str, &str)]| match has_disk {
        true => place.start(arguments, environment),
        false => place.start_read_only(arguments, environment),
    };
    let mut random = fastrand::Rng::with_seed(23);
    let (mut struck, mut bereft, began) = (0, 0, Instant::now());
    for kill in 0..kills {
        let step = STEPS[kill % STEPS.len()];
        let most = if step == "txn_init" { 1 } else { 12 };
        let at = if kill % 4 == 3 { String::new() } else { format!("{step}:{}", 1 + random.u32(0..most)) };
        let mut process = start(&[], &[("AUDITFERRY_KILL_AT", at.as_str()), JOURNAL_LIMIT, FAIL_RATE]);
        let restart = kill * restarts / kills != (kill + 1) * restarts / kills;
        if restart {
            process.wait(Duration::from_millis(1_200)).await;
            tokio::task::block_in_place(|| {
                if kill % 2 == 0 {
                    kafka.stop()
                } else {
                    kafka.kill()
                }
                kafka.start_again();
            });
            process.wait(Duration::from_millis(2_500)).await;
        } else {
            process.wait(Duration::from_millis(random.u64(800..2_500))).await;
        }
        struck += usize::from(process.ended().is_some());
        process.kill();
        // What is known of Kafka is in Kafka: a state that is lost doubles nothing there.
        if has_disk && kill % 5 == 4 {
            std::fs::remove_dir_all(place.state_dir()).unwrap();
            bereft += 1;
        }
    }
    figure(
        name,
        format_args!(
            "{kills} kills ({struck} at a step), {restarts} restarts of the broker, the state taken away {bereft} times, in {} s",
            began.elapsed().as_secs()
        ),
    );
    // The world goes on: what exists now must be there after a run that begins now.
    let truth = served(world);
    let log = place.log();
    let limit = Duration::from_secs(size(180, 400));
    let mut last = start(&["--once", "--once-timeout", &format!("{}s", limit.as_secs())], &[]);
    let ended = last.wait(limit + Duration::from_secs(30)).await.expect("the run ends in time");
    assert_eq!(ended.code(), Some(0), "{}", place.log_tail());
    let topics = topics();
    let topics: Vec<&str> = topics.iter().map(String::as_str).collect();
    let read = tokio::task::block_in_place(|| kafka.read_committed(&topics));
    let hashes = || read.iter().map(|message| canonical_hash(&message.value));
    let lost = compare(&truth, hashes()).lost;
    let found = compare(&served(world), hashes());
    let injected = injected(&log);
    let unsure = log.matches("the end of a transaction is not certain").count();
    figure(
        name,
        format_args!(
            "arrived {}, lost {lost}, duplicates {}; {} errors injected: {injected:?}; {unsure} ends looked up",
            found.arrived,
            found.duplicates,
            injected.values().sum::<usize>()
        ),
    );
    assert_eq!((lost, found.duplicates, found.foreign), (0, 0, 0));
    assert!(found.arrived >= size(12_000, 200_000), "only {} records", found.arrived);
    for call in ["init", "begin", "produce", "commit"] {
        let count = |side: &str| injected.get(&format!("{call}.{side}")).copied().unwrap_or(0);
        assert!(count("before") + count("after") >= size(0, 4), "{call}: {injected:?}");
    }
    assert!(injected.values().sum::<usize>() >= size(1, 50) && unsure >= size(0, 8), "{injected:?}, {unsure}");
}

/// Errors that were injected, by step.
fn injected(log: &str) -> BTreeMap<String, usize> {
    let mut found = BTreeMap::new();
    for line in log.lines().filter(|line| line.contains("an error is injected")) {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        *found.entry(line["step"].as_str().unwrap().to_owned()).or_default() += 1;
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn every_record_once_over_kills_restarts_and_lost_answers() {
    let (world, kafka, place) = (busy_world().await, broker().await, Place::new());
    strike("exactly once", "", &kafka, &world, &place).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_record_once_beside_a_second_required_sink() {
    let (world, kafka, place) = (busy_world().await, broker().await, Place::new());
    let hec = FakeHec::start_with(Options { hash_events: true, ..Options::default() }).await;
    let splunk = format!(
        "  - {{ name: splunk, type: splunk_hec, url: {:?}, token: token, batch: {{ linger: 50ms }} }}\n",
        hec.url()
    );
    strike("exactly once with a second sink", &splunk, &kafka, &world, &place).await;
    let at_hec: Vec<_> = hec.received().events.iter().filter_map(|event| event.hash).collect();
    let found = compare(&served(&world), at_hec);
    figure(
        "exactly once with a second sink",
        format_args!("HEC: arrived {}, duplicates {}", found.arrived, found.duplicates),
    );
    assert_eq!(found.foreign, 0);
}

/// The state lies in Kafka too, and every file system is mounted read-only.
#[tokio::test(flavor = "multi_thread")]
async fn every_record_once_without_a_disk() {
    let (world, kafka, place) = (busy_world().await, broker().await, Place::new());
    place.write_config(&world, &bus(&kafka), COLLECT);
    let text = std::fs::read_to_string(place.config()).unwrap();
    let dir = format!("state: {{ dir: {:?} }}", place.state_dir());
    assert!(text.contains(&dir));
    place.write_text(&text.replace(&dir, "state: { kafka: {} }"));
    strike_with("no disk", &kafka, &world, &place, false).await;
    assert!(!place.state_dir().exists());
    // What a successor would know: every feed, and nothing pending in what was settled.
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_auditferry"));
    let output = command.args(["state", "show", "--json", "-c"]).arg(place.config()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let shown: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(shown["feeds"].as_array().map(Vec::len), Some(10));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_slept_over_its_successor_writes_nothing_when_it_wakes() {
    let (world, kafka) = (busy_world().await, broker().await);
    let (sleeper, successor) = (Place::new(), Place::new());
    let topics = topics();
    let mut all: Vec<&str> = topics.iter().map(String::as_str).collect();
    for place in [&sleeper, &successor] {
        place.write_config(&world, &bus(&kafka), "");
    }
    let count = || tokio::task::block_in_place(|| kafka.count(&all));
    let until_more = async |least: i64, place: &Place| {
        let began = Instant::now();
        while count() <= least {
            assert!(began.elapsed() < Duration::from_secs(60), "{}", place.log_tail());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let mut first = sleeper.start(&[], &[]);
    until_more(500, &sleeper).await;
    first.pause();
    let asleep = count();
    let mut second = successor.start(&[], &[]);
    until_more(asleep + 2_000, &successor).await;
    second.terminate();
    let ended = second.wait(Duration::from_secs(20)).await.expect("ends in time");
    assert_eq!(ended.code(), Some(0), "{}", successor.log_tail());
    all.push("auditferry-checkpoint");
    let before = tokio::task::block_in_place(|| kafka.ends(&all));
    assert!(first.ended().is_none());
    first.resume();
    let ended = first.wait(Duration::from_secs(30)).await.expect("ends in time");
    let after = tokio::task::block_in_place(|| kafka.ends(&all));
    assert_eq!(ended.code(), Some(4), "{}", sleeper.log_tail());
    assert!(sleeper.log().contains("another process has taken over"), "{}", sleeper.log_tail());
    assert_eq!(before, after, "it has written something");
    all.pop();
    let truth = served(&world);
    let ended = successor.run_once(Duration::from_secs(90)).await;
    assert_eq!(ended.code(), Some(0), "{}", successor.log_tail());
    let read = tokio::task::block_in_place(|| kafka.read_committed(&all));
    let found = compare(&truth, read.iter().map(|message| canonical_hash(&message.value)));
    figure(
        "zombie",
        format_args!(
            "slept at {asleep}; arrived {}, lost {}, duplicates {}",
            found.arrived, found.lost, found.duplicates
        ),
    );
    assert_eq!((found.lost, found.duplicates), (0, 0));
}
