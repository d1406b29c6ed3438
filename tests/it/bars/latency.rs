//! Latency: from the moment a record could first be listed to the moment the collector has it, with
//! the live cells listed every five seconds and a moderate load. p99 below the poll interval and two seconds.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use auditferry::clock::world_ms;
use auditferry::simulator::WorldConfig;

use crate::hec::{FakeHec, Options, canonical_hash};
use crate::support::{Place, figure, size, world};

const POLL_MS: i64 = 5000;

#[tokio::test(flavor = "multi_thread")]
async fn first_listable_to_acknowledged() {
    // 20 tenants with 5 types of 7 records a minute: 12 records a second. At this rate a feed's blobs come every
    // 17.1 s, out of step with the polls, so that they meet them early and late.
    let world = world(WorldConfig::new().tenants(20).records(600).days(1).live_rate(7.0)).await;
    let hec = FakeHec::start_with(Options { hash_events: true, ..Options::default() }).await;
    let place = Place::new();
    let sink = format!("  - {{ name: splunk, type: splunk_hec, url: {:?}, token: token }}\n", hec.url());
    let collect =
        format!("collect: {{ poll_interval: {}s, requests_per_minute: 100000, backfill: 1d }}\n", POLL_MS / 1000);
    place.write_config(&world, &sink, &collect);
    let _process = place.start(&[], &[]);
    // The history is out of the way first: a start is not what is measured.
    assert!(hec.wait_for(600, Duration::from_secs(60)).await, "{}", place.log_tail());
    let from_ms = world_ms();
    tokio::time::sleep(Duration::from_secs(size(24, 90))).await;
    let to_ms = world_ms();

    let due: HashMap<[u8; 32], i64> = world
        .truth()
        .filter(|record| (from_ms..to_ms).contains(&record.listable_ms))
        .map(|record| (canonical_hash(&record.record), record.listable_ms))
        .collect();
    assert!(due.len() > 100, "only {} records became listable", due.len());
    // The last of them may take as long as they like, within reason; a record that never comes fails below.
    let deadline = Instant::now() + Duration::from_secs(30);
    let mut taken = taken_ms(&hec, &due);
    while taken.len() < due.len() && Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(250)).await;
        taken = taken_ms(&hec, &due);
    }
    assert_eq!(taken.len(), due.len(), "records that became listable did not arrive: {}", place.log_tail());
    let mut all: Vec<i64> = taken.into_values().collect();
    all.sort_unstable();
    let at = |percent: usize| all[(all.len() * percent).div_ceil(100) - 1];
    let (p50, p99, most) = (at(50), at(99), at(100));
    figure(
        "latency",
        format_args!("{} live records, poll every {POLL_MS} ms: p50 {p50} ms, p99 {p99} ms, most {most} ms", all.len()),
    );
    assert!(at(1) >= 0, "a record cannot arrive before it can be listed");
    assert!(p99 < POLL_MS + 2000, "p99 {p99} ms");
}

/// How long each of the records took that have arrived: the first arrival counts.
fn taken_ms(hec: &FakeHec, due: &HashMap<[u8; 32], i64>) -> HashMap<[u8; 32], i64> {
    let mut taken = HashMap::new();
    for event in hec.received().events {
        if let Some(hash) = event.hash
            && let Some(listable_ms) = due.get(&hash)
        {
            taken.entry(hash).or_insert(event.booked_ms - listable_ms);
        }
    }
    taken
}
