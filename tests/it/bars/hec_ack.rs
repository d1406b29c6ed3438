//! HEC ack: a receiver with indexer acknowledgement, the OpenTelemetry Collector's, is killed and started
//! again under load. It forgets its channels and acknowledgements each time. Nothing may be lost; what is
//! there twice was sent again because no acknowledgement came.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use auditferry::simulator::{Identity, SimulatorHandle, TruthRecord, WorldConfig};
use serde_json::Value;

use crate::hec::canonical_hash;
use crate::real::collector::Collector;
use crate::support::{Hash, Place, Served, compare, figure, size, world};

/// Reads a counter of one sink off the page of metrics.
async fn counter(admin: &str, name: &str, label: &str) -> f64 {
    let page = reqwest::get(format!("http://{admin}/metrics")).await.unwrap().text().await.unwrap();
    let line = page.lines().find(|line| line.starts_with(name) && line.contains(label));
    line.unwrap_or_else(|| panic!("no {name} {label}")).rsplit(' ').next().unwrap().parse().unwrap()
}

/// Hash of a record as this receiver keeps it: every number in it becomes a double.
fn hash(record: &Value) -> Hash {
    fn doubled(value: &Value) -> Value {
        match value {
            Value::Number(number) => Value::from(number.as_f64().unwrap()),
            Value::Array(items) => items.iter().map(doubled).collect(),
            Value::Object(fields) => fields.iter().map(|(name, value)| (name.clone(), doubled(value))).collect(),
            other => other.clone(),
        }
    }
    canonical_hash(doubled(record).to_string().as_bytes())
}

/// What exists now; every record of this world can be had.
fn served(world: &SimulatorHandle) -> Served {
    let record = |record: TruthRecord| {
        assert!(record.reachable);
        hash(&serde_json::from_slice(&record.record).unwrap())
    };
    Served { reachable: world.truth().map(record).collect(), ..Served::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn hec_ack() {
    let mut collector = tokio::task::spawn_blocking(|| Collector::start(true)).await.unwrap();
    let kills = size(3, 20);
    let config = WorldConfig::new().tenants(2).records(size(6_000, 24_000)).records_per_blob(2_000).days(1);
    let world = world(config.identity(Identity::Stable).live_rate(size(20.0, 60.0)).speed(60.0)).await;
    let place = Place::new();
    let sinks = format!(
        "  - {{ name: splunk, type: splunk_hec, url: {:?}, token: token, batch: {{ max_bytes: 64KiB, linger: 50ms }}, \
         retry: {{ initial: 50ms, max: 500ms }}, indexer_acknowledgement: {{ enabled: true, timeout: 2s, query_interval: 200ms }} }}\n",
        collector.url()
    );
    place.write_config(&world, &sinks, "");
    let process = place.start(&[], &[]);
    let admin = process.admin().await.expect("it listens");

    let (mut random, began) = (fastrand::Rng::with_seed(11), Instant::now());
    for _ in 0..kills {
        // Under load: something has arrived since it is up again.
        let (before, up) = (collector.lines(), Instant::now());
        while collector.lines() == before {
            assert!(up.elapsed() < Duration::from_secs(30), "nothing arrives\n{}", place.log_tail());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        tokio::time::sleep(Duration::from_millis(random.u64(100..size(600, 2_000)))).await;
        collector.kill();
        tokio::time::sleep(Duration::from_millis(random.u64(0..400))).await;
        tokio::task::block_in_place(|| collector.restart());
    }
    let seconds = began.elapsed().as_secs_f64();
    // What was in the air at the last kill is sent again before the counters are read.
    tokio::time::sleep(Duration::from_secs(3)).await;
    let mut counts = HashMap::new();
    for label in ["confirmed", "timed_out", "forgotten"] {
        counts.insert(label, counter(&admin, "auditferry_sink_indexer_acks_total", label).await as u64);
    }
    for label in ["ack_timeout", "ack_forgotten", "no_answer"] {
        counts.insert(label, counter(&admin, "auditferry_sink_resent_events_total", label).await as u64);
    }
    let lost_events = counter(&admin, "auditferry_sink_events_total", "result=\"lost\"").await;
    process.terminate();
    let mut process = process;
    let status = process.wait(Duration::from_secs(25)).await.expect("ends in time");
    assert_eq!(status.code(), Some(0), "{}", place.log_tail());

    let truth = served(&world);
    let ended = place.run_once(Duration::from_secs(size(60, 120))).await;
    assert_eq!(ended.code(), Some(0), "{}\n{}", place.log_tail(), collector.log_end());
    let written = collector.written();
    let found = compare(&truth, written.iter().map(|(_, event)| hash(event)));
    let later = compare(&served(&world), written.iter().map(|(_, event)| hash(event)));
    let mut by_key: HashMap<&str, usize> = HashMap::new();
    for (key, _) in &written {
        *by_key.entry(key).or_default() += 1;
    }
    let doubled: usize = by_key.values().map(|count| count - 1).sum();
    let resent: u64 = ["ack_timeout", "ack_forgotten", "no_answer"].iter().map(|reason| counts[reason]).sum();
    figure(
        "hec_ack",
        format_args!(
            "{kills} kills in {seconds:.0} s, each with records arriving; served {}, written {}, lost {}, doubled {doubled}",
            truth.reachable.len(),
            written.len(),
            found.lost
        ),
    );
    figure(
        "hec_ack",
        format_args!(
            "batches acknowledged {}, timed out {}, forgotten {}; events sent again for want of an acknowledgement {}, of an answer {}",
            counts["confirmed"],
            counts["timed_out"],
            counts["forgotten"],
            counts["ack_timeout"] + counts["ack_forgotten"],
            counts["no_answer"]
        ),
    );
    assert_eq!((found.lost, lost_events as u64), (0, 0));
    assert_eq!(later.foreign, 0, "changed on the way");
    assert!(doubled as u64 <= resent, "{doubled} doubled, {resent} sent again");
    assert!(counts["timed_out"] + counts["forgotten"] > 0 || kills < 10, "no kill cost an acknowledgement");
    assert_eq!(world.report().violations.len(), 0, "{:?}", world.report().violations);
}
