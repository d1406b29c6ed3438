//! Fairness: one tenant floods at its quota, with a backlog that the sink is slow to take, and the small
//! ones beside it hardly feel it: their p99 from listable to acknowledged stays within twice what it is
//! without the flood, in the same run. And a tenant whose only sink is down costs the others nothing.

use std::collections::{HashMap, HashSet};
use std::fmt::Write as _;
use std::time::{Duration, Instant};

use auditferry::clock::world_ms;
use auditferry::simulator::{ContentType, SimulatorHandle, WorldConfig};

use crate::hec::{FakeHec, Options, canonical_hash};
use crate::support::{Place, compare, figure, file_hashes, served, size, world};

/// The service's time runs so much faster, for its live blobs are at least 13 seconds apart: here they come
/// every 1.1 (3.4) seconds, out of step with the polls every two.
fn speed() -> f64 {
    size(12.0, 4.0)
}

fn small_tenants() -> usize {
    size(30, 99)
}

/// The small tenants: a few records a minute each, of one type.
async fn small() -> SimulatorHandle {
    let tenants = small_tenants();
    let config = WorldConfig::new().seed(77).tenants(tenants).records(tenants as u64 * 5).days(1);
    // One record a blob.
    world(config.only(ContentType::Exchange).live_rate(4.4).speed(speed()).tune(|p| p.subscribed = true)).await
}

/// More than the sink can take in the time that is measured, and more coming.
async fn flood() -> SimulatorHandle {
    let config = WorldConfig::new().seed(5).records(size(80_000, 400_000)).days(1).records_per_blob(400);
    world(config.live_rate(2000.0).speed(speed()).tune(|p| p.subscribed = true)).await
}

/// A configuration of these worlds' tenants, each world with a prefix for their names and their content types.
/// `collect`: more of its keys.
fn configure(place: &Place, worlds: &[(&str, &SimulatorHandle, &str)], sinks: &str, collect: &str) {
    let mut text = format!("state: {{ dir: {:?} }}\nadmin: {{ listen: 127.0.0.1:0 }}\n", place.state_dir());
    let poll_s = 2 * speed() as u64;
    if let Some((origin_ms, anchor_ms, speed)) = worlds[0].1.clock_setting() {
        writeln!(text, "clock: {{ origin_ms: {origin_ms}, anchor_ms: {anchor_ms}, speed: {speed} }}").unwrap();
    }
    writeln!(text, "collect: {{ poll_interval: {poll_s}s, backfill: 1d{collect} }}\ntenants:").unwrap();
    for (prefix, world, types) in worlds {
        let api = world.api_url();
        for (n, tenant) in world.tenants().iter().enumerate() {
            let (id, client, secret) = (&tenant.tenant_id, &tenant.client_id, &tenant.client_secret);
            writeln!(
                text,
                "  - {{ name: {prefix}-{n}, tenant_id: {id:?}, client_id: {client:?}, auth: {{ client_secret: {secret:?} }}, \
                 endpoints: {{ api: {api:?}, login: {api:?} }}, content_types: [{types}] }}"
            )
            .unwrap();
        }
    }
    place.write_text(&format!("{text}sinks:\n{sinks}"));
}

const ALL_TYPES: &str = "Audit.AzureActiveDirectory, Audit.Exchange, Audit.SharePoint, Audit.General, DLP.All";

/// A collector that takes some 1 MiB a second: four batches of 128 KiB at once, half a second each.
async fn slow_hec() -> FakeHec {
    let hec = FakeHec::start_with(Options { hash_events: true, ..Options::default() }).await;
    hec.set(|knobs| knobs.answer_delay = Duration::from_millis(500));
    hec
}

fn hec_sink(name: &str, hec: &FakeHec, more: &str) -> String {
    let url = hec.url();
    format!(
        "  - {{ name: {name}, type: splunk_hec, url: {url:?}, token: token, batch: {{ max_bytes: 128KiB }}, \
         retry: {{ initial: 50ms, max: 500ms }}{more} }}\n"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_beside_small_tenants() {
    let (small, flood) = (small().await, flood().await);
    let history = small_tenants() * 5;
    let mut p99 = Vec::new();
    for flooded in [false, true] {
        let (hec, place) = (slow_hec().await, Place::new());
        let mut worlds = vec![("small", &small, "Audit.Exchange")];
        if flooded {
            worlds.push(("flood", &flood, ALL_TYPES));
        }
        configure(&place, &worlds, &hec_sink("splunk", &hec, ""), ", requests_per_minute: 1000");
        let _process = place.start(&[], &[]);
        // The first start lists a day of every tenant and is no measure of what comes after it.
        until_caught_up(&small, &hec, &place).await;
        assert!(!flooded || hec.wait_for(history + 1000, Duration::from_secs(60)).await, "{}", place.log_tail());
        let before = hec.count();
        let latencies = latencies(&small, &hec, &place).await;
        let at = |percent: usize| latencies[(latencies.len() * percent).div_ceil(100) - 1];
        let others = hec.count() - before - latencies.len();
        let name = if flooded { "flooded" } else { "quiet" };
        figure(
            "fairness",
            format_args!(
                "{name}: {} small tenants, {} records: p50 {} ms, p99 {} ms; {others} other events meanwhile",
                small_tenants(),
                latencies.len(),
                at(50),
                at(99)
            ),
        );
        if flooded {
            assert!(others > 1500, "there was no flood: {others}");
            let backlog = flood.truth().count() - (hec.count() - latencies.len());
            assert!(backlog > 10_000, "the flood ended before the measuring");
        }
        p99.push(at(99));
    }
    assert!(p99[1] <= 2 * p99[0], "p99 {} ms under the flood, {} ms without", p99[1], p99[0]);
}

/// Returns when everything is booked that was listable when this began.
async fn until_caught_up(world: &SimulatorHandle, hec: &FakeHec, place: &Place) {
    let now_ms = in_its_time(world)(world_ms());
    let due: HashSet<[u8; 32]> =
        world.truth().filter(|r| r.listable_ms <= now_ms).map(|r| canonical_hash(&r.record)).collect();
    let deadline = Instant::now() + Duration::from_secs(120);
    loop {
        let booked: HashSet<_> = hec.received().events.iter().filter_map(|event| event.hash).collect();
        if due.is_subset(&booked) {
            return;
        }
        assert!(Instant::now() < deadline, "the first start takes too long; {}", place.log_tail());
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
}

/// The world's time of a moment of ours, milliseconds.
fn in_its_time(world: &SimulatorHandle) -> impl Fn(i64) -> i64 {
    let (origin_ms, anchor_ms, speed) = world.clock_setting().expect("a clock of its own");
    move |ms| origin_ms + ((ms - anchor_ms) as f64 * speed) as i64
}

/// From listable to booked, sorted, of all records that become listable in a while from now.
async fn latencies(world: &SimulatorHandle, hec: &FakeHec, place: &Place) -> Vec<i64> {
    let (in_its_time, speed) = (in_its_time(world), speed());
    let from_ms = in_its_time(world_ms());
    tokio::time::sleep(Duration::from_millis(size(6000, 60_000))).await;
    let to_ms = in_its_time(world_ms());
    let due: HashMap<[u8; 32], i64> = world
        .truth()
        .filter(|record| (from_ms..to_ms).contains(&record.listable_ms))
        .map(|record| (canonical_hash(&record.record), record.listable_ms))
        .collect();
    assert!(due.len() >= small_tenants(), "only {} records became listable", due.len());
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let mut taken = HashMap::new();
        for event in hec.received().events {
            if let Some(hash) = event.hash
                && let Some(listable_ms) = due.get(&hash)
            {
                let late_ms = (in_its_time(event.booked_ms) - listable_ms) as f64 / speed;
                taken.entry(hash).or_insert(late_ms as i64);
            }
        }
        if taken.len() == due.len() {
            let mut all: Vec<i64> = taken.into_values().collect();
            all.sort_unstable();
            return all;
        }
        assert!(Instant::now() < deadline, "{} of {} arrived; {}", taken.len(), due.len(), place.log_tail());
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
}

/// Several tenants' only sink takes nothing while they have far more than the memory holds; another
/// tenant's history goes through as if they were not there, and theirs once the sink is back.
#[tokio::test(flavor = "multi_thread")]
async fn a_sink_that_is_down_costs_only_those_that_need_it() {
    let records = size(6000, 60_000);
    let stuck_world = WorldConfig::new().seed(5).tenants(6).records(records * 3).days(1).records_per_blob(200);
    let stuck = world(stuck_world.speed(speed()).tune(|p| p.subscribed = true)).await;
    let free_world = WorldConfig::new().seed(77).records(records).days(1).records_per_blob(200);
    let free = world(free_world.speed(speed()).tune(|p| p.subscribed = true)).await;
    let hec = FakeHec::start_with(Options { hash_events: true, ..Options::default() }).await;
    hec.set(|knobs| knobs.token = "another".into());
    let place = Place::new();
    let only = |tenants: &str| format!(", when: {{ tenant: {{ prefix: {tenants} }} }}");
    let path = place.path("out.ndjson");
    let file = format!("  - {{ name: disk, type: file, format: raw, path: {path:?}{} }}\n", only("free"));
    configure(
        &place,
        &[("stuck", &stuck, ALL_TYPES), ("free", &free, ALL_TYPES)],
        &format!("{}{file}", hec_sink("splunk", &hec, &only("stuck"))),
        // Little memory: four of the six could fill it.
        ", requests_per_minute: 100000, in_flight: 4MiB",
    );
    let process = place.start(&[], &[]);

    let (all_free, start) = (served(&free), Instant::now());
    let limit = Duration::from_secs(size(20, 120));
    while file_hashes(&path).len() < all_free.reachable.len() {
        assert!(start.elapsed() < limit, "{} of {}; {}", file_hashes(&path).len(), records, place.log_tail());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    figure("fairness", format_args!("beside a sink that is down: {records} records in {:?}", start.elapsed()));
    let said = compare(&all_free, file_hashes(&path));
    assert_eq!((said.lost, said.duplicates, said.foreign), (0, 0, 0), "{said:?}");
    assert_eq!(hec.count(), 0);

    // Nothing more is fetched for the one that is down; that the others are there proves the process lives.
    let before = stuck.report().fetches.total;
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(stuck.report().fetches.total, before, "fetched though its sink is down");
    let all_stuck = served(&stuck);
    let fetched = stuck.report().fetches.distinct as f64 / stuck.report().blobs as f64;
    assert!(fetched < 0.9, "nothing was held back: {fetched}");

    // `/status` says why.
    let admin = process.admin().await.expect("the admin listener");
    let status = reqwest::get(format!("http://{admin}/status")).await.unwrap().text().await.unwrap();
    let status: serde_json::Value = serde_json::from_str(&status).unwrap();
    for tenant in status["tenants"].as_array().unwrap() {
        let is_stuck = tenant["name"].as_str().unwrap().starts_with("stuck");
        let expected = if is_stuck { serde_json::json!(["splunk"]) } else { serde_json::json!([]) };
        assert!(tenant["feeds"].as_array().unwrap().iter().all(|feed| feed["waits_for"] == expected), "{tenant}");
    }

    hec.set(|knobs| knobs.token = "token".into());
    let back = Instant::now();
    assert!(hec.wait_for(all_stuck.reachable.len(), Duration::from_secs(size(60, 300))).await, "{}", place.log_tail());
    let said = compare(&all_stuck, hec.received().events.iter().filter_map(|event| event.hash));
    figure("fairness", format_args!("the sink is back: {} records in {:?}, {said:?}", said.arrived, back.elapsed()));
    assert_eq!((said.lost, said.duplicates, said.foreign), (0, 0, 0), "{said:?}");
    drop(process);
}
