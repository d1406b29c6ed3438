//! Elasticsearch: a real OpenSearch behind the whole process, set up by `setup`. The process is killed again and again:
//! every record is there once, and is what `normalize` makes of it. And what `setup` answers by its exit code.

use std::collections::HashMap;
use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use auditferry::simulator::{Scenario, SimulatorHandle, WorldConfig};
use reqwest::Method;
use serde_json::{Value, json};

use crate::elasticsearch::FakeElasticsearch;
use crate::real::opensearch::OpenSearch;
use crate::support::{Place, figure, size, world};

const STREAM: &str = "logs-o365.audit-default";
/// A journal beyond this is compacted, so that kills strike snapshots too.
const JOURNAL_LIMIT: (&str, &str) = ("AUDITFERRY_JOURNAL_LIMIT", "65536");
/// Where the killed process stands: between an answer and its journal, mostly.
const STEPS: [&str; 6] = ["send", "ack", "journal_append", "journal_fsync", "part", "fetch"];

/// Small batches, so that there are always some on their way.
fn sinks(url: &str) -> String {
    format!("  - {{ name: es, type: elasticsearch, url: {url:?}, batch: {{ max_bytes: 128KiB, linger: 50ms }} }}\n")
}

/// `setup` with these arguments: its exit code, and what it said on both streams.
pub(super) fn set_up(place: &Place, arguments: &[&str]) -> (i32, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_auditferry"));
    let output = command.arg("setup").arg("-c").arg(place.config()).args(arguments).output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.code().unwrap(), String::from_utf8(said).unwrap())
}

/// What `normalize` makes of every record that can be had, by key.
fn normalized(world: &SimulatorHandle, place: &Place) -> HashMap<String, Value> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_auditferry"));
    command.args(["normalize", "--format", "ecs", "-c"]).arg(place.config()).arg("-");
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    let records: Vec<_> = world.truth().filter(|record| record.reachable).map(|record| record.record).collect();
    let writing = std::thread::spawn(move || {
        for record in records {
            input.write_all(&record).unwrap();
            input.write_all(b"\n").unwrap();
        }
    });
    let output = child.wait_with_output().unwrap();
    writing.join().unwrap();
    assert!(output.status.success());
    let lines = output.stdout.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    lines
        .map(|line| {
            let document: Value = serde_json::from_slice(line).unwrap();
            (document["auditferry"]["key"].as_str().unwrap().to_owned(), document)
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn elasticsearch_kills() {
    let config = WorldConfig::new().tenants(2).records(size(8_000, 100_000)).records_per_blob(2_000).days(1);
    // An hour in which records keep coming, a minute of ours: there are always some on their way to a kill.
    let world = world(config.live(size(10.0, 60.0), 200, 1).speed(60.0)).await;
    world.enable(Scenario::ServerError, Some(0.02));
    let (engine, place) = (OpenSearch::start().await, Place::new());
    place.write_config(&world, &sinks(&engine.url()), "");
    let (code, said) = tokio::task::block_in_place(|| set_up(&place, &[]));
    assert!(
        code == 0
            && said.contains("OpenSearch 2.19.3")
            && said.contains("`auditferry` for `logs-o365.audit-*` installed"),
        "{said}"
    );

    let kills = size(4, 20);
    let mut random = fastrand::Rng::with_seed(13);
    let (mut struck, began) = (0, Instant::now());
    for kill in 0..kills {
        let step = STEPS[kill % STEPS.len()];
        let at = format!("{step}:{}", 2 + random.u32(0..if step.starts_with("journal") { 2 } else { 12 }));
        let at = if kill % 3 == 2 { String::new() } else { at };
        let mut process = place.start(&[], &[("AUDITFERRY_KILL_AT", at.as_str()), JOURNAL_LIMIT]);
        process.wait(Duration::from_millis(random.u64(500..2_000))).await;
        struck += usize::from(process.ended().is_some());
        process.kill();
    }
    let killing = began.elapsed();
    let before = tokio::task::block_in_place(|| normalized(&world, &place));
    let ended = place.run_once(Duration::from_secs(size(120, 600))).await;
    assert_eq!(ended.code(), Some(0), "{}", place.log_tail());
    assert!(!place.log().contains("no index template"), "{}", place.log_tail());
    let after = tokio::task::block_in_place(|| normalized(&world, &place));

    let documents = engine.documents(STREAM).await;
    let (mut keys, mut other, mut foreign, mut shared) = (HashMap::new(), Vec::new(), 0, HashMap::new());
    for (id, mut source) in documents {
        assert_eq!(source["auditferry"]["key"], id.as_str(), "the key is the id");
        // Of which feed a record came `normalize` does not know.
        source["auditferry"].as_object_mut().unwrap().remove("content_type");
        *shared.entry(source["event"]["id"].to_string()).or_insert(0) += 1;
        match after.get(&id) {
            None => foreign += 1,
            Some(expected) if *expected != source => other.push((expected.clone(), source)),
            Some(_) => {}
        }
        *keys.entry(id).or_insert(0) += 1;
    }
    let lost = before.keys().filter(|key| !keys.contains_key(*key)).count();
    let duplicates: usize = keys.values().map(|count| count - 1).sum();
    let stats = engine.ask(Method::GET, &format!("/{STREAM}/_stats/indexing"), String::new()).await;
    let indexing = &stats["_all"]["primaries"]["indexing"];
    figure(
        "elasticsearch",
        format_args!(
            "{kills} kills ({struck} at a step) in {} s, {} s in all; {} records there, lost {lost}, duplicates {duplicates}, other than normalize {}, foreign {foreign}; {} creates of what was there already",
            killing.as_secs(),
            began.elapsed().as_secs(),
            keys.len(),
            other.len(),
            indexing["index_failed"],
        ),
    );
    assert!(other.is_empty(), "{:#?}", &other[..1]);
    assert_eq!((lost, duplicates, foreign), (0, 0, 0));
    assert!(!before.is_empty() && keys.len() >= before.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn elasticsearch_setup_answers_by_its_exit_code() {
    let world = world(WorldConfig::new().records(10)).await;
    let (fake, place) = (FakeElasticsearch::start().await, Place::new());
    let run = |arguments: &[&str]| tokio::task::block_in_place(|| set_up(&place, arguments));
    place.write_config(&world, "  - { name: out, type: stdout }\n", "");
    assert_eq!(run(&[]).0, 2, "no sink of the type");
    place.write_config(&world, &sinks(&fake.url()), "");
    let once = async || {
        let before = place.log().len();
        assert_eq!(place.run_once(Duration::from_secs(60)).await.code(), Some(0), "{}", place.log_tail());
        place.log()[before..].to_owned()
    };
    assert!(once().await.contains("install it with `auditferry setup -c FILE`"), "{}", place.log_tail());
    let (code, said) = run(&["--dry-run"]);
    assert!(code == 0 && said.contains("--dry-run") && fake.knobs().things.is_empty(), "{said}");
    assert_eq!(run(&["--sink", "other"]).0, 2);
    let (code, said) = run(&["--sink", "es"]);
    assert!(code == 0 && said.contains("Elasticsearch 8.17.3") && said.contains("done"), "{said}");
    std::fs::remove_dir_all(place.state_dir()).unwrap();
    let log = once().await;
    assert!(!log.contains("auditferry setup") && log.contains("Elasticsearch 8.17.3"), "{log}");
    fake.set(|knobs| {
        knobs.things.insert("/_index_template/auditferry".into(), json!({ "_meta": {} }));
    });
    let (code, said) = run(&[]);
    assert!(code == 1 && said.contains("refused"), "{said}");
    assert_eq!(run(&["--force"]).0, 0);
    fake.set(|knobs| knobs.authorization = Some("Basic x".into()));
    let (code, said) = run(&[]);
    assert!(code == 3 && said.contains("check `auth`"), "{said}");
    drop(fake);
    let (code, said) = run(&[]);
    assert!(code == 3 && said.contains("cannot reach"), "{said}");
}
