//! Syslog: rsyslog is ended and started again under load, in order and as a crash, over TLS. The protocol has no
//! acknowledgement; what counts is what rsyslog has written in the end: nothing lost, and what lies there twice is what
//! the ring sent again, no more than that at each break.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use auditferry::simulator::WorldConfig;
use serde_json::Value;

use crate::hec::canonical_hash;
use crate::real::syslog::{Kind, Receiver};
use crate::support::{Place, compare, figure, served, size, world};

/// Bytes that are sent again after a break, and the size of a record with its header in this world at least.
const RING: usize = 1 << 20;
const BATCHES: usize = 128 << 10;
const CONCURRENCY: usize = 4;

fn sinks(receiver: &Receiver) -> String {
    format!(
        "  - {{ name: siem, type: syslog, address: \"tls://localhost:{}\", format: raw, tls: {{ ca_file: {:?} }}, resend: {RING}B, \
         batch: {{ max_bytes: {BATCHES}B, linger: 50ms }}, concurrency: {CONCURRENCY}, retry: {{ initial: 50ms, max: 500ms }} }}\n",
        receiver.port("tls"),
        receiver.file("ca.pem"),
    )
}

/// What rsyslog has written: bytes of each record, and how often.
fn written(receiver: &Receiver) -> (Vec<[u8; 32]>, HashMap<String, (usize, usize)>) {
    let (mut hashes, mut by_key) = (Vec::new(), HashMap::new());
    for line in receiver.lines() {
        // A line that a crash of rsyslog cut in two is no message.
        let Ok(message) = serde_json::from_str::<Value>(&line) else { continue };
        let text = message["msg"].as_str().unwrap();
        hashes.push(canonical_hash(text.as_bytes()));
        let key = message["data"]["auditferry@32473"]["key"].as_str().unwrap().to_owned();
        let seen: &mut (usize, usize) = by_key.entry(key).or_default();
        seen.0 = text.len();
        seen.1 += 1;
    }
    (hashes, by_key)
}

#[tokio::test(flavor = "multi_thread")]
async fn syslog_restarts() {
    let config = WorldConfig::new().tenants(2).records(size(40_000, 300_000)).records_per_blob(2_000).days(1);
    let world = world(config.live_rate(60.0).speed(60.0)).await;
    let receiver = tokio::task::block_in_place(|| Receiver::start(Kind::RsyslogOpenssl));
    let place = Place::new();
    place.write_config(&world, &sinks(&receiver), "");
    let mut process = place.start(&[], &[]);
    let (restarts, mut random, began) = (size(5, 20), fastrand::Rng::with_seed(7), Instant::now());
    for restart in 0..restarts {
        let before = receiver.lines().len();
        let limit = Instant::now() + Duration::from_secs(30);
        // Under load: it is writing when it goes.
        while receiver.lines().len() < before + 500 {
            assert!(Instant::now() < limit && process.ended().is_none(), "{}", place.log_tail());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        tokio::time::sleep(Duration::from_millis(random.u64(0..300))).await;
        tokio::task::block_in_place(|| {
            if restart % 2 == 0 {
                receiver.stop();
            } else {
                receiver.kill();
            }
            receiver.start_again();
        });
    }
    let truth = served(&world);
    process.terminate();
    assert_eq!(process.wait(Duration::from_secs(20)).await.and_then(|status| status.code()), Some(0));
    let ended = place.run_once(Duration::from_secs(size(60, 240))).await;
    assert_eq!(ended.code(), Some(0), "{}", place.log_tail());
    tokio::time::sleep(Duration::from_millis(500)).await;
    let (hashes, by_key) = written(&receiver);
    let lost = compare(&truth, hashes.iter().copied()).lost;
    // The world went on.
    let found = compare(&served(&world), hashes.iter().copied());
    let twice: usize = by_key.values().map(|(bytes, count)| bytes * (count - 1)).sum();
    // At each break: the ring, and the batches that had no answer.
    let bound = (restarts + 1) * (RING + CONCURRENCY * BATCHES);
    figure(
        "syslog",
        format_args!(
            "{restarts} restarts of rsyslog under load (half of them kills) in {} s; arrived {}, lost {lost}, duplicates {} ({} KiB, at most {} KiB by the ring and what was in the air)",
            began.elapsed().as_secs(),
            found.arrived,
            found.duplicates,
            twice >> 10,
            bound >> 10
        ),
    );
    assert_eq!((lost, found.foreign), (0, 0));
    assert!(twice <= bound, "{twice} bytes came twice");
}
