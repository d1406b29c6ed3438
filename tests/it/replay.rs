//! `replay`: what a sink refused goes back to it, once, beside a `run` that goes on; what it refuses again stays; what is
//! killed in between goes on where it was.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use auditferry::simulator::WorldConfig;
use serde_json::Value;

use crate::hec::{FakeHec, Options};
use crate::real::kafka::Kafka;
use crate::support::{Place, compare, served, world};

/// The binary's `replay`; does not hold up what answers it.
async fn replay(place: &Place, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_auditferry"));
    command.arg("replay").arg("-c").arg(place.config()).args(arguments).stdin(Stdio::null());
    tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
}

fn said(output: &Output) -> String {
    format!("{}\n{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn letters(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    assert!(text.is_empty() || text.ends_with('\n'));
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Files of letters beside the main one.
fn aside(place: &Place) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(place.state_dir()).unwrap().map(|entry| entry.unwrap().path());
    entries.filter(|path| path.to_string_lossy().contains(".replaying-")).collect()
}

/// HEC that refuses a quarter of the keys for as long as the switch says.
async fn refusing() -> (FakeHec, Arc<AtomicBool>) {
    let hec = FakeHec::start_with(Options { hash_events: true, ..Options::default() }).await;
    let refuses = Arc::new(AtomicBool::new(true));
    let switch = Arc::clone(&refuses);
    let refuse = move |key: &str| switch.load(Ordering::Acquire) && matches!(key.as_bytes()[0], b'0'..=b'3');
    hec.set(|knobs| knobs.refuse = Some(Arc::new(move |offered| refuse(offered.key))));
    (hec, refuses)
}

fn hec_sink(hec: &FakeHec, more: &str) -> String {
    format!(
        "  - {{ name: splunk, type: splunk_hec, url: {:?}, token: token, batch: {{ max_events: 50 }}, retry: {{ initial: 50ms, max: 200ms }}{more} }}\n",
        hec.url()
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_refused_arrives_once_it_is_taken_and_only_that_leaves_the_file() {
    let world = world(WorldConfig::new().records(1200).records_per_blob(100).days(1)).await;
    let (place, (hec, refuses)) = (Place::new(), refusing().await);
    place.write_config(&world, &hec_sink(&hec, ""), "");
    let ended = place.run_once(Duration::from_secs(60)).await;
    assert_eq!(ended.code(), Some(1), "{}", place.log_tail());
    let path = place.state_dir().join("dead.ndjson");
    let refused = letters(&path).len();
    assert!(refused > 100, "{refused}");

    let dry = replay(&place, &["--dry-run"]).await;
    assert_eq!(dry.status.code(), Some(0), "{}", said(&dry));
    assert!(said(&dry).contains(&format!("{refused} letters, {refused} would be sent")), "{}", said(&dry));
    // Nothing has changed at the receiver: all are refused again, and none is lost or doubled.
    let again = replay(&place, &[]).await;
    assert_eq!(again.status.code(), Some(1), "{}", said(&again));
    assert_eq!((letters(&path).len(), aside(&place).len()), (refused, 0), "{}", said(&again));

    refuses.store(false, Ordering::Release);
    let kept = replay(&place, &["--keep"]).await;
    assert_eq!((kept.status.code(), letters(&path).len()), (Some(0), refused), "{}", said(&kept));
    let taken = replay(&place, &[]).await;
    assert_eq!(taken.status.code(), Some(0), "{}", said(&taken));
    assert!(said(&taken).contains(&format!("{refused} letters: {refused} taken, 0 refused")), "{}", said(&taken));
    assert_eq!((letters(&path).len(), aside(&place).len()), (0, 0));
    let none = replay(&place, &[]).await;
    assert!(none.status.code() == Some(0) && said(&none).contains("there are no dead letters"));

    // `--keep` has sent them once more: the key tells.
    let received = hec.received();
    let doubled = received.duplicates();
    assert!(doubled.len() == refused && doubled.iter().all(|(_, times)| *times == 2));
    let found = compare(&served(&world), received.events.iter().filter_map(|event| event.hash));
    assert_eq!((found.lost, found.foreign), (0, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_sink_was_not_shown_it_is_not_shown_by_a_replay_either() {
    let world = world(WorldConfig::new().records(600).records_per_blob(100).days(1)).await;
    let (place, (hec, refuses)) = (Place::new(), refusing().await);
    let edits = ", drop_fields: [ClientIP], hash_fields: { key: 0123456789abcdef0123456789abcdef, fields: [UserId] }";
    place.write_config(&world, &hec_sink(&hec, edits), "");
    let ended = place.run_once(Duration::from_secs(60)).await;
    assert_eq!(ended.code(), Some(1), "{}", place.log_tail());
    let path = place.state_dir().join("dead.ndjson");
    let shown: Vec<Value> = letters(&path).into_iter().map(|letter| letter["record"].clone()).collect();
    assert!(letters(&path).iter().all(|letter| letter["edited"] == true));
    let again = replay(&place, &[]).await;
    assert_eq!(again.status.code(), Some(1), "{}", said(&again));
    assert!(letters(&path).iter().all(|letter| letter["edited"] == true));
    refuses.store(false, Ordering::Release);
    let before = hec.count();
    let taken = replay(&place, &[]).await;
    assert_eq!(taken.status.code(), Some(0), "{}", said(&taken));
    let wanted: std::collections::HashSet<_> =
        shown.iter().map(|record| crate::hec::canonical_hash(record.to_string().as_bytes())).collect();
    let came = hec.events_since(before);
    assert_eq!(came.len(), shown.len());
    assert!(came.iter().all(|event| wanted.contains(&event.hash.unwrap())), "not hashed or dropped twice");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replay_beside_a_run_that_is_killed_and_begun_again_loses_nothing() {
    let config = WorldConfig::new().records(3000).records_per_blob(100).days(1);
    let world = world(config.live_rate(30.0).speed(60.0)).await;
    let (place, (hec, refuses)) = (Place::new(), refusing().await);
    place.write_config(&world, &hec_sink(&hec, ""), "");
    let mut run = place.start(&[], &[]);
    let path = place.state_dir().join("dead.ndjson");
    let began = std::time::Instant::now();
    while letters_now(&path) < 300 {
        assert!(began.elapsed() < Duration::from_secs(60) && run.ended().is_none(), "{}", place.log_tail());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    // Refused again and again while the other appends; killed in between.
    for life in [40, 150, 300] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_auditferry"));
        command.arg("replay").arg("-c").arg(place.config());
        let mut killed = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        tokio::time::sleep(Duration::from_millis(life)).await;
        let _ = killed.kill();
        killed.wait().unwrap();
    }
    refuses.store(false, Ordering::Release);
    let truth = served(&world);
    run.terminate();
    assert!(run.wait(Duration::from_secs(20)).await.is_some());
    let ended = place.run_once(Duration::from_secs(60)).await;
    assert!(matches!(ended.code(), Some(0 | 1)), "{}", place.log_tail());
    let mut rounds = 0;
    while letters_now(&path) > 0 || !aside(&place).is_empty() {
        let taken = replay(&place, &[]).await;
        // One that goes on with what a killed one left says that there is more.
        let is_more = said(&taken).contains("replay again");
        assert_eq!(taken.status.code(), Some(i32::from(is_more)), "{}", said(&taken));
        rounds += 1;
        assert!(rounds <= 4, "one for what each killed one left, and one for the rest");
    }
    // The world went on: some that came are younger than the truth.
    let found = compare(&truth, hec.received().events.iter().filter_map(|event| event.hash));
    assert_eq!(found.lost, 0);
}

/// Lines of the file at this moment, be one of them half.
fn letters_now(path: &Path) -> usize {
    std::fs::read(path).map_or(0, |bytes| bytes.iter().filter(|byte| **byte == b'\n').count())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sink_that_is_away_is_given_up_and_what_cannot_be_sent_is_named() {
    let world = world(WorldConfig::new().records(10).days(1)).await;
    let (place, (hec, _)) = (Place::new(), refusing().await);
    hec.set(|knobs| (knobs.refuse, knobs.busy) = (None, 1_000_000));
    place.write_config(&world, &hec_sink(&hec, ""), "");
    let tenant = world.tenants()[0].name.clone();
    std::fs::create_dir_all(place.state_dir()).unwrap();
    let path = place.state_dir().join("dead.ndjson");
    let letter = |n: usize, sink: &str, tenant: &str, record: &str| {
        format!(
            "{{\"at\":\"2026-01-01T00:00:00.000Z\",\"sink\":{sink},\"reason\":\"refused\",\"answer\":\"no\",\"tenant\":{tenant:?},\"content_type\":\"Audit.Exchange\",\"blob\":\"b\",\"key\":null,\"event_id\":null,\"format\":\"raw\",{record}}}\n",
        )
        .replace('#', &n.to_string())
    };
    let record = "\"record\":{\"Id\":\"#\",\"Operation\":\"x\"}";
    let all = [
        letter(1, "\"splunk\"", &tenant, record),
        letter(2, "\"splunk\"", &tenant, "\"record\":\"no\\njson #\""),
        letter(3, "\"splunk\"", &tenant, "\"record\":null,\"record_base64\":\"/wAB\""),
        letter(4, "\"gone\"", &tenant, record),
        letter(5, "\"splunk\"", "elsewhere", record),
        letter(6, "\"splunk\"", &tenant, "\"record\":null,\"record_bytes\":9,\"record_missing\":\"large\""),
        "no letter\n".to_owned(),
    ];
    std::fs::write(&path, all.concat()).unwrap();
    let away = replay(&place, &["--patience", "1s"]).await;
    assert_eq!(away.status.code(), Some(3), "{}", said(&away));
    let text = said(&away);
    for part in [
        "3 not taken",
        "sink `splunk` took nothing",
        "of sink `gone`",
        "of tenant `elsewhere`",
        "no dead letter",
        "fetch the blob",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert_eq!(std::fs::read_to_string(&path).unwrap(), all.concat(), "all of it is where it was");
    hec.set(|knobs| knobs.busy = 0);
    let back = replay(&place, &[]).await;
    assert_eq!(back.status.code(), Some(1), "{}", said(&back));
    assert_eq!((hec.count(), letters_now(&path)), (3, 4), "{}", said(&back));
    // Named, the sink takes what another refused.
    let named = replay(&place, &["--sink", "splunk"]).await;
    assert_eq!((hec.count(), letters_now(&path)), (4, 3), "{}", said(&named));
    let unknown = replay(&place, &["--sink", "splnk"]).await;
    assert!(unknown.status.code() == Some(2) && said(&unknown).contains("no sink is called `splnk`"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn letters_of_a_topic_go_back_into_kafka_and_are_offered_once() {
    let kafka = Kafka::shared();
    kafka.create_topic("replay.narrow", &[("max.message.bytes", "3500")]).await;
    kafka.create_topic("replay.wide", &[]).await;
    kafka.create_topic("replay-dead", &[]).await;
    let world = world(WorldConfig::new().records(600).records_per_blob(100).days(1)).await;
    let place = Place::new();
    let config = |topic: &str| {
        let bus = format!(
            "  - {{ name: bus, type: kafka, brokers: {:?}, topic: {topic}, format: raw, compression: none, batch: {{ max_events: 500 }} }}\n",
            kafka.address("open")
        );
        place.write_config(&world, &bus, "dead_letters: { kafka: { topic: replay-dead } }\n");
    };
    config("replay.narrow");
    let ended = place.run_once(Duration::from_secs(90)).await;
    let arrived = kafka.read_all(&["replay.narrow"]).len();
    let dead = kafka.count(&["replay-dead"]);
    println!("{arrived} arrived, {dead} dead, {ended}");
    assert!(dead > 0 && arrived > 0, "{}", place.log_tail());
    assert!(!place.state_dir().join("dead.ndjson").exists());
    config("replay.wide");
    let taken = replay(&place, &[]).await;
    assert_eq!(taken.status.code(), Some(0), "{}", said(&taken));
    assert!(said(&taken).contains(&format!("{dead} letters: {dead} taken")), "{}", said(&taken));
    let none = replay(&place, &[]).await;
    assert!(none.status.code() == Some(0) && said(&none).contains("there are no dead letters"), "{}", said(&none));
    let all = kafka.read_all(&["replay.narrow", "replay.wide"]);
    let found = compare(&served(&world), all.iter().map(|message| crate::hec::canonical_hash(&message.value)));
    assert_eq!((found.lost, found.duplicates, found.foreign), (0, 0, 0));
}
