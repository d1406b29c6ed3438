//! Syslog: rsyslog is ended and started again under load, in order and as a crash, over TLS. The protocol has no
//! acknowledgement; what counts is what rsyslog has written in the end: lost is only what lay unread in its kernel beyond
//! the ring, which the harness measures, and what lies there twice is what was sent again, no more than the ring and what
//! was in the air at each break.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use auditferry::simulator::WorldConfig;
use serde_json::Value;

use crate::hec::canonical_hash;
use crate::real::syslog::{Kind, Receiver};
use crate::support::{Place, compare, figure, served, size, world};

/// Bytes that are sent again after a break: the default.
const RING: usize = 8 << 20;
/// Bytes that rsyslog writes between its start and its next end, at least.
const UNDER_LOAD: u64 = 1 << 20;
/// Bytes that rsyslog may have read and not written, and what comes while it is being ended.
const ALSO_UNREAD: usize = 1 << 20;
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

/// Bytes that lie unread in the kernel for rsyslog's listener of TLS, as /proc/net/tcp tells.
fn unread(receiver: &Receiver) -> usize {
    let port = format!(":{:04X}", receiver.port("tls"));
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let of_ours = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let is_open = fields.get(1)?.ends_with(&port) && *fields.get(3)? == "01";
        is_open.then(|| usize::from_str_radix(fields.get(4)?.split_once(':')?.1, 16).ok()).flatten()
    };
    table.lines().filter_map(of_ours).sum()
}

/// How much rsyslog has written.
fn written_bytes(receiver: &Receiver) -> u64 {
    std::fs::metadata(receiver.file("out.json")).map_or(0, |file| file.len())
}

/// By record key: bytes, and how often.
type ByKey = HashMap<String, (usize, usize)>;

/// What rsyslog has written: bytes of each record, and how often.
fn written(receiver: &Receiver) -> (Vec<[u8; 32]>, ByKey) {
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
    let (mut most_unread, mut beyond) = (0, 0);
    for restart in 0..restarts {
        let before = written_bytes(&receiver);
        let limit = Instant::now() + Duration::from_secs(30);
        // Under load: it is writing when it goes.
        while written_bytes(&receiver) < before + UNDER_LOAD {
            assert!(Instant::now() < limit && process.ended().is_none(), "{}", place.log_tail());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        tokio::time::sleep(Duration::from_millis(random.u64(0..300))).await;
        tokio::task::block_in_place(|| {
            let now = unread(&receiver);
            most_unread = now.max(most_unread);
            // More may come while it ends.
            beyond += (now + ALSO_UNREAD).saturating_sub(RING);
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
    let bytes = by_key.values().map(|(bytes, _)| bytes).sum::<usize>() / by_key.len();
    figure(
        "syslog",
        format_args!(
            "{restarts} restarts of rsyslog under load (half of them kills) in {} s; at most {} KiB unread at an end; arrived {}, lost {lost} (at most {} KiB beyond the ring), duplicates {} ({} KiB, at most {} KiB by the ring and what was in the air)",
            began.elapsed().as_secs(),
            most_unread >> 10,
            found.arrived,
            beyond >> 10,
            found.duplicates,
            twice >> 10,
            bound >> 10
        ),
    );
    assert_eq!(found.foreign, 0);
    assert!(
        lost * bytes <= beyond,
        "{lost} records lost of {bytes} bytes each, and {beyond} bytes were beyond the ring"
    );
    assert!(twice <= bound, "{twice} bytes came twice");
}
