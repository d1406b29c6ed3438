//! Kafka: Apache Kafka itself behind the whole process. Both are killed and started again under load:
//! nothing may be lost, and what lies in the topics twice was sent and not yet journalled at a kill.
//! And the broker is away for long: memory stays flat, nothing is lost or doubled, and afterwards it
//! goes on as fast as before.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use auditferry::feed::ContentType;
use auditferry::record::RecordKey;
use auditferry::simulator::{Scenario, SimulatorHandle, WorldConfig};

use super::kill::{parse_key, unknown};
use crate::hec::canonical_hash;
use crate::real::kafka::Kafka;
use crate::support::{Hash, Place, Process, compare, figure, is_full, served, size, world};

/// A journal beyond this is compacted, so that kills strike snapshots too.
const JOURNAL_LIMIT: (&str, &str) = ("AUDITFERRY_JOURNAL_LIMIT", "65536");
/// Where the killed process stands: between a delivery report and its journal, mostly.
const STEPS: [&str; 6] = ["send", "ack", "journal_append", "journal_fsync", "part", "fetch"];

pub(super) fn topics() -> Vec<String> {
    ContentType::ALL.iter().map(|content_type| format!("o365.{content_type}")).collect()
}

pub(super) async fn broker() -> Kafka {
    let kafka = tokio::task::spawn_blocking(Kafka::start).await.unwrap();
    for topic in topics() {
        kafka.create_topic(&topic, &[]).await;
    }
    kafka
}

/// Small batches over an open listener, so that there are always some on their way.
fn sinks(kafka: &Kafka) -> String {
    format!(
        "  - {{ name: bus, type: kafka, brokers: {:?}, topic: \"o365.{{content_type}}\", format: raw, batch: {{ max_bytes: 128KiB, linger: 50ms }} }}\n",
        kafka.address("open")
    )
}

/// What lies in the topics, against what the state knew at each start.
struct Books<'a> {
    kafka: &'a Kafka,
    seen: HashMap<(String, i32), i64>,
    hashes: Vec<Hash>,
    all: HashSet<RecordKey>,
    may_come_again: HashSet<RecordKey>,
    bound: usize,
    duplicates: usize,
    unexplained: usize,
}

impl Books<'_> {
    /// Takes stock after a life of the process, whose last requests may still be on their way.
    fn after_life(&mut self, place: &Place) {
        let topics = topics();
        let topics: Vec<&str> = topics.iter().map(String::as_str).collect();
        let mut open = self.may_come_again.clone();
        let mut quiet = 0;
        while quiet < 2 {
            let new = self.kafka.read(&topics, &mut self.seen);
            quiet = if new.is_empty() { quiet + 1 } else { 0 };
            for message in new {
                let key = parse_key(&message.headers["auditferry_key"]);
                self.hashes.push(canonical_hash(&message.value));
                if !self.all.insert(key) {
                    self.duplicates += 1;
                    self.unexplained += usize::from(!self.may_come_again.remove(&key));
                }
                open.insert(key);
            }
            crate::real::pause();
        }
        self.may_come_again = unknown(&place.state_dir(), "bus", open.into_iter());
        self.bound += self.may_come_again.len();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn kafka_kills() {
    let config = WorldConfig::new().tenants(2).records(size(12_000, 150_000)).records_per_blob(2_000).days(1);
    let world = world(config.live_rate(60.0).speed(60.0)).await;
    world.enable(Scenario::ServerError, Some(0.02));
    let (kafka, place) = (broker().await, Place::new());
    place.write_config(&world, &sinks(&kafka), "");
    let mut books = Books {
        kafka: &kafka,
        seen: HashMap::new(),
        hashes: Vec::new(),
        all: HashSet::new(),
        may_come_again: HashSet::new(),
        bound: 0,
        duplicates: 0,
        unexplained: 0,
    };
    let (kills, restarts) = (size(8, 100), size(1, 10));
    let mut random = fastrand::Rng::with_seed(11);
    let (mut struck, began) = (0, Instant::now());
    for kill in 0..kills {
        let step = STEPS[kill % STEPS.len()];
        let at = format!("{step}:{}", 2 + random.u32(0..if step.starts_with("journal") { 2 } else { 12 }));
        let at = if kill % 3 == 2 { String::new() } else { at };
        let mut process = place.start(&[], &[("AUDITFERRY_KILL_AT", at.as_str()), JOURNAL_LIMIT]);
        let life = Duration::from_millis(random.u64(400..1_500));
        let restart = kill * restarts / kills != (kill + 1) * restarts / kills;
        if restart {
            // The broker goes while we send; we go on, or die of the step, while it is away.
            process.wait(Duration::from_millis(600)).await;
            tokio::task::block_in_place(|| {
                if kill % 2 == 0 {
                    kafka.stop()
                } else {
                    kafka.kill()
                }
                kafka.start_again();
            });
            process.wait(Duration::from_millis(1_500)).await;
        } else {
            process.wait(life).await;
        }
        struck += usize::from(process.ended().is_some());
        process.kill();
        tokio::task::block_in_place(|| books.after_life(&place));
    }
    figure(
        "kafka",
        format_args!(
            "{kills} kills ({struck} at a step), {restarts} restarts of the broker in {} s; {} records in the topics",
            began.elapsed().as_secs(),
            books.all.len()
        ),
    );
    let truth = served(&world);
    let ended = place.run_once(Duration::from_secs(size(60, 240))).await;
    assert_eq!(ended.code(), Some(0), "{}", place.log_tail());
    tokio::task::block_in_place(|| books.after_life(&place));
    let lost = compare(&truth, books.hashes.iter().copied()).lost;
    let found = compare(&served(&world), books.hashes.iter().copied());
    let Books { duplicates, bound, unexplained, .. } = books;
    figure(
        "kafka",
        format_args!(
            "arrived {}, lost {lost}, duplicates {duplicates}, sent and not journalled at the kills {bound}, others {unexplained}",
            found.arrived
        ),
    );
    assert_eq!((lost, found.foreign, unexplained), (0, 0, 0));
    assert!(duplicates <= bound, "{duplicates} of {bound}");
    assert!(found.arrived >= size(12_000, 200_000), "only {} records", found.arrived);
}

/// Messages in the topics.
fn count(kafka: &Kafka) -> i64 {
    let topics = topics();
    tokio::task::block_in_place(|| kafka.count(&topics.iter().map(String::as_str).collect::<Vec<_>>()))
}

/// Messages a second from now on.
async fn rate(kafka: &Kafka, over: Duration) -> f64 {
    let (before, began) = (count(kafka), Instant::now());
    tokio::time::sleep(over).await;
    (count(kafka) - before) as f64 / began.elapsed().as_secs_f64()
}

/// Waits until the topics hold more than `least`.
async fn until_more_than(least: i64, kafka: &Kafka, process: &mut Process, place: &Place) {
    let began = Instant::now();
    while count(kafka) <= least {
        assert!(began.elapsed() < Duration::from_secs(60) && process.ended().is_none(), "{}", place.log_tail());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn backlog() -> SimulatorHandle {
    let config = WorldConfig::new().tenants(4).records(size(60_000, 500_000)).records_per_blob(2_000).days(1);
    world(config.live_rate(20.0).speed(60.0)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn kafka_away() {
    let (world, kafka, place) = (backlog().await, broker().await, Place::new());
    // As it is out there: with TLS and a login.
    let secure = format!(
        "  - {{ name: bus, type: kafka, brokers: {:?}, topic: \"o365.{{content_type}}\", format: raw, batch: {{ linger: 50ms }}, \
         sasl: {{ mechanism: SCRAM-SHA-512, username: alice, password: alice-secret }}, tls: {{ ca_file: {:?} }} }}\n",
        kafka.address("logintls"),
        kafka.file("ca.pem")
    );
    place.write_config(&world, &secure, "");
    let mut process = place.start(&[], &[]);
    until_more_than(1_000, &kafka, &mut process, &place).await;
    let over = Duration::from_millis(size(1_000, 4_000));
    let before = rate(&kafka, over).await;
    tokio::task::block_in_place(|| kafka.kill());
    let at_first = process.rss_anon_kib().unwrap() / 1024;
    let (mut most, gone) = (at_first, Instant::now());
    while gone.elapsed() < Duration::from_secs(size(8, 60)) {
        tokio::time::sleep(Duration::from_millis(100)).await;
        most = most.max(process.rss_anon_kib().unwrap() / 1024);
    }
    let admin = process.admin().await.unwrap();
    let metrics = reqwest::get(format!("http://{admin}/metrics")).await.unwrap().text().await.unwrap();
    assert!(metrics.contains("auditferry_sink_circuit_open{sink=\"bus\"} 1"), "health is told");
    tokio::task::block_in_place(|| kafka.start_again());
    let back = Instant::now();
    let held = count(&kafka);
    until_more_than(held, &kafka, &mut process, &place).await;
    let first = back.elapsed();
    // The best of three: the first has the reconnecting and the first fetches in it.
    let mut after = 0.0_f64;
    for _ in 0..3 {
        after = after.max(rate(&kafka, over).await);
    }
    figure(
        "kafka away",
        format_args!(
            "{:.0} s away, {} records in the topics before; RssAnon {at_first} MiB, at most {most} MiB; first record {first:?} after the broker answered; {before:.0} records a second before, {after:.0} after",
            gone.elapsed().as_secs_f64(),
            held
        ),
    );
    // The world goes on: what exists now must be there after a run that begins now, once.
    let truth = served(&world);
    process.terminate();
    assert_eq!(process.wait(Duration::from_secs(20)).await.and_then(|status| status.code()), Some(0));
    let ended = place.run_once(Duration::from_secs(size(60, 240))).await;
    assert_eq!(ended.code(), Some(0), "{}", place.log_tail());
    let topics = topics();
    let topics: Vec<&str> = topics.iter().map(String::as_str).collect();
    let read = tokio::task::block_in_place(|| kafka.read_all(&topics));
    let found = compare(&truth, read.iter().map(|message| canonical_hash(&message.value)));
    figure(
        "kafka away",
        format_args!("arrived {}, lost {}, duplicates {}", found.arrived, found.lost, found.duplicates),
    );
    assert_eq!((found.lost, found.duplicates), (0, 0));
    assert!(most <= at_first + 16 && most <= 128, "RssAnon grew from {at_first} to {most} MiB");
    // A short measure on a machine that does other things too says nothing; of a long one half still tells a
    // recovery from a crawl.
    assert!(!is_full() || after >= before / 2.0, "{after:.0} records a second after, {before:.0} before");
}
