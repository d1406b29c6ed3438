//! Every sink down for an hour of traffic: a collector that says no, brokers that are away and an optional one beside them.
//! Memory stays flat, nothing is lost, and afterwards it goes on as fast as before.

use std::time::{Duration, Instant};

use auditferry::simulator::WorldConfig;

use crate::hec::{FakeHec, Options, canonical_hash};
use crate::real::kafka::Kafka;
use crate::support::{Place, Process, compare, figure, is_full, served, size, world};

/// How much faster the service's time runs: an hour of it is a minute of ours, or in `make test` fifteen seconds.
fn speed() -> f64 {
    size(240.0, 60.0)
}

async fn broker(topic: &str) -> Kafka {
    let kafka = tokio::task::spawn_blocking(Kafka::start).await.unwrap();
    kafka.create_topic(topic, &[]).await;
    kafka
}

fn rss_mib(process: &Process) -> u64 {
    process.rss_anon_kib().unwrap_or(0) / 1024
}

/// Records a second at the collector.
async fn rate(hec: &FakeHec, over: Duration) -> f64 {
    let (before, began) = (hec.count(), Instant::now());
    tokio::time::sleep(over).await;
    (hec.count() - before) as f64 / began.elapsed().as_secs_f64()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sinks_down() {
    let config = WorldConfig::new().tenants(4).records(size(40_000, 300_000)).records_per_blob(1000).days(1);
    // Some five records a second and feed of the service's time go on being written meanwhile.
    let world = world(config.live_rate(2.0).speed(speed())).await;
    let kafka = broker("down").await;
    let hec = FakeHec::start_with(Options { hash_events: true, ..Options::default() }).await;
    let optional = FakeHec::start().await;
    let place = Place::new();
    let sinks = format!(
        "  - {{ name: splunk, type: splunk_hec, url: {:?}, token: token, retry: {{ initial: 200ms, max: 2s }} }}\n  - {{ name: bus, type: kafka, brokers: {:?}, topic: down, format: raw, retry: {{ initial: 200ms, max: 2s }} }}\n  - {{ name: extra, type: splunk_hec, required: false, url: {:?}, token: token, retry: {{ initial: 200ms, max: 2s }} }}\n{}",
        hec.url(),
        kafka.address("open"),
        optional.url(),
        place.file_sink("out.ndjson"),
    );
    place.write_config(&world, &sinks, "dead_letters: { kafka: { topic: down-dead } }\n");
    let mut process = place.start(&[], &[]);
    let began = Instant::now();
    while hec.count() < 2_000 {
        assert!(began.elapsed() < Duration::from_secs(60) && process.ended().is_none(), "{}", place.log_tail());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let over = Duration::from_millis(size(1_000, 4_000));
    let before = rate(&hec, over).await;

    // Down, each in its own way.
    hec.set(|knobs| knobs.busy = u32::MAX as _);
    optional.set(|knobs| knobs.token = "another".into());
    tokio::task::block_in_place(|| kafka.kill());
    let hour = Duration::from_secs_f64(3600.0 / speed());
    let gone = Instant::now();
    // What fits into `collect.in_flight` still comes; from the first third on it must stand still.
    let (mut at_first, mut most_down) = (0, 0);
    while gone.elapsed() < hour {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let now = rss_mib(&process);
        if gone.elapsed() < hour / 3 {
            at_first = at_first.max(now);
        }
        most_down = most_down.max(now);
        assert!(process.ended().is_none(), "{}", place.log_tail());
    }
    let held = hec.count();

    // Back again.
    let back = Instant::now();
    hec.set(|knobs| knobs.busy = 0);
    optional.set(|knobs| knobs.token = "token".into());
    tokio::task::block_in_place(|| kafka.start_again());
    let there = back.elapsed();
    let before_kafka = tokio::task::block_in_place(|| kafka.count(&["down"]));
    while hec.count() <= held || tokio::task::block_in_place(|| kafka.count(&["down"])) <= before_kafka {
        assert!(back.elapsed() < Duration::from_secs(60) && process.ended().is_none(), "{}", place.log_tail());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let first = back.elapsed() - there;
    let (mut after, mut most) = (0.0_f64, most_down);
    for _ in 0..3 {
        after = after.max(rate(&hec, over).await);
        most = most.max(rss_mib(&process));
    }
    figure(
        "sinks down",
        format_args!(
            "an hour at {} times; RssAnon {at_first} MiB in its first third, {most_down} MiB to its end, at most {most} MiB afterwards; all of them go on {first:.1?} after the broker answered; {before:.0} records a second before, {after:.0} after",
            speed()
        ),
    );
    // The world goes on: what exists now must be there after a run that begins now.
    let truth = served(&world);
    process.terminate();
    assert_eq!(process.wait(Duration::from_secs(20)).await.and_then(|status| status.code()), Some(0));
    let ended = place.run_once(Duration::from_secs(size(90, 300))).await;
    assert_eq!(ended.code(), Some(0), "{}", place.log_tail());
    let read = tokio::task::block_in_place(|| kafka.read_all(&["down"]));
    let kafka_found = compare(&truth, read.iter().map(|message| canonical_hash(&message.value)));
    let hec_found = compare(&truth, hec.received().events.iter().filter_map(|event| event.hash));
    let filed = compare(&truth, crate::support::file_hashes(&place.path("out.ndjson")));
    figure(
        "sinks down",
        format_args!(
            "kafka {} lost {} doubled {}; hec {} lost {}; file {} lost {} doubled {}",
            kafka_found.arrived,
            kafka_found.lost,
            kafka_found.duplicates,
            hec_found.arrived,
            hec_found.lost,
            filed.arrived,
            filed.lost,
            filed.duplicates
        ),
    );
    assert_eq!((kafka_found.lost, kafka_found.duplicates, hec_found.lost), (0, 0, 0));
    assert_eq!((filed.lost, filed.duplicates), (0, 0));
    assert!(!place.state_dir().join("dead.ndjson").exists(), "the letters have a topic");
    assert!(most_down <= at_first + 8, "RssAnon grew from {at_first} to {most_down} MiB");
    assert!(most <= 128, "RssAnon is {most} MiB");
    // A short measure on a machine that does other things too says nothing.
    assert!(!is_full() || after >= before / 2.0, "{after:.0} records a second after, {before:.0} before");
}
