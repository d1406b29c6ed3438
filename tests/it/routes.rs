//! Which record goes to which sink, end to end, and what a fault of ours over one record costs: the
//! simulator or a little service, the real binary, files.

use std::collections::HashSet;
use std::time::Duration;

use auditferry::simulator::WorldConfig;

use crate::support::{Hash, Place, compare, file_hashes, served, world};

/// No run takes longer; most take a second or two.
const LIMIT: Duration = Duration::from_secs(40);
const COLLECT: &str = "collect: { requests_per_minute: 100000, poll_interval: 5s, backfill: 2d }";

fn file(place: &Place, name: &str, when: &str) -> String {
    format!("  - {{ name: {name}, type: file, format: raw, path: {:?}, when: {when} }}\n", place.path(name))
}

/// The hashes of a file, each once.
fn lines(place: &Place, name: &str) -> HashSet<Hash> {
    let hashes = file_hashes(&place.path(name));
    let distinct: HashSet<Hash> = hashes.iter().copied().collect();
    assert_eq!(distinct.len(), hashes.len(), "{name} has a record twice");
    distinct
}

#[tokio::test(flavor = "multi_thread")]
async fn conditions_part_the_records_and_nothing_falls_between() {
    let world = world(WorldConfig::new().tenants(2).records(2000).days(1).speed(20.0)).await;
    let place = Place::new();
    let name = world.tenants()[0].name.clone();
    let sinks = [
        file(&place, "one", &format!("{{ tenant: {name:?} }}")),
        file(&place, "other", &format!("{{ tenant: {{ not: {name:?} }} }}")),
        file(&place, "exchange", "{ workload: exchange, content_type: Audit.Exchange }"),
        file(&place, "rest", "{ any: [ { workload: { not: exchange } }, { content_type: { not: Audit.Exchange } } ] }"),
    ];
    place.write_config(&world, &sinks.concat(), COLLECT);
    let ended = place.run_once(LIMIT).await;
    assert_eq!(ended.code(), Some(0), "{}", place.log_tail());
    let served = served(&world);
    for (a, b) in [("one", "other"), ("exchange", "rest")] {
        let (first, second) = (lines(&place, a), lines(&place, b));
        assert!(first.len() > 100 && second.len() > 100, "{a} has {}, {b} has {}", first.len(), second.len());
        let said = compare(&served, first.into_iter().chain(second));
        assert_eq!((said.lost, said.duplicates, said.foreign), (0, 0, 0), "{a} and {b}: {said:?}");
    }
    // Each went where it belongs.
    let texts = std::fs::read_to_string(place.path("exchange")).unwrap();
    assert!(texts.lines().all(|line| line.contains("\"Workload\":\"Exchange\"")));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_sink_wants_is_done_and_counted_as_filtered() {
    let world = world(WorldConfig::new().records(1000).days(1).speed(20.0)).await;
    let place = Place::new();
    place.write_config(&world, &file(&place, "few", "{ content_type: Audit.Exchange }"), COLLECT);
    let ended = place.run_once(LIMIT).await;
    assert_eq!(ended.code(), Some(0), "{}", place.log_tail());
    let few = lines(&place, "few").len() as u64;
    let all = served(&world).reachable.len() as u64;
    let ledger = place.ledger();
    let sum = |what: &str| -> u64 {
        let feeds = ledger["feeds"].as_array().unwrap().iter();
        feeds.map(|feed| feed["ledger"][what].as_u64().unwrap_or_else(|| panic!("{feed}"))).sum()
    };
    assert_eq!((sum("delivered"), sum("filtered")), (few, all - few));
    assert!(few > 100 && all - few > 100);
}

/// A panic while a body is split, while a record is read and while its document is written: the process
/// goes on, the neighbours arrive, and all bytes of the record that it struck at are in the output.
#[cfg(feature = "failpoints")]
#[tokio::test(flavor = "multi_thread")]
async fn a_panic_over_one_record_costs_no_record() {
    use crate::bars::little_service::{LittleService, record};
    let struck = |number: usize, stage: &str| {
        record(number).replacen('{', &format!("{{\"Note\":\"auditferry-panics-at-{stage}\","), 1)
    };
    let body = |bad: String| format!("[{},{bad},{}]", record(1), record(2)).into_bytes();
    let other = |bad: String| format!("[{},{bad},{}]", record(3), record(4)).into_bytes();
    let third = |bad: String| format!("[{},{bad},{}]", record(5), record(6)).into_bytes();
    let blobs = vec![
        ("Audit.Exchange", "read", body(struck(10, "read"))),
        ("Audit.SharePoint", "write", other(struck(11, "write"))),
        ("Audit.General", "split", third(struck(12, "split"))),
    ];
    let service = LittleService::start(blobs, 60.0, |_, _| None).await;
    let place = Place::new();
    let path = place.path("out.ndjson");
    let sink = format!("sinks:\n  - {{ name: disk, type: file, format: ecs, path: {path:?} }}\n");
    place.write_text(&format!("{}{sink}", service.config(&place.state_dir(), "secret", "")));
    let ended = place.run_once(LIMIT).await;
    assert_eq!(ended.code(), Some(0), "{}", place.log_tail());
    let out = std::fs::read_to_string(&path).unwrap();
    for number in [1, 2, 3, 4, 5, 6, 12] {
        let id = format!("\"id\":\"00000000-0000-4000-8000-{number:012}\"");
        assert_eq!(out.matches(&id).count(), 1, "{number}\n{out}");
    }
    let errors: Vec<&str> = out.lines().filter(|line| line.contains("\"kind\":\"pipeline_error\"")).collect();
    assert_eq!(errors.len(), 2, "{out}");
    for (number, stage) in [(10, "read"), (11, "write")] {
        let original = serde_json::to_string(&struck(number, stage)).unwrap();
        assert!(
            errors.iter().any(|line| line.contains(&original) && line.contains(&format!("stage {stage}"))),
            "{out}"
        );
    }
    assert_eq!(out.lines().count(), 9);
    let log = std::fs::read_to_string(place.path("log")).unwrap();
    assert!(log.contains("a fault of ours struck"), "{log}");
    assert!(!log.contains("auditferry-panics-at"), "a record stands in the log:\n{log}");
}
