//! Records that hurt: unreadable ones, odd ones, and one too large for memory.

use std::time::Duration;

use auditferry::simulator::{ContentType, Scenario, WorldConfig};

use super::{CLEAN_LIMIT, MEMORY_KIB, Pair, arrived, differences, lines, start, watch};
use crate::hec::{FakeHec, Options};
use crate::support::{Place, figure, size};

#[tokio::test(flavor = "multi_thread")]
async fn hostile_records_are_delivered_verbatim_or_as_pipeline_errors() {
    const KINDS: [Scenario; 8] = [
        Scenario::InvalidUtf8,
        Scenario::Nul,
        Scenario::Deep,
        Scenario::BadEscape,
        Scenario::NotObject,
        Scenario::DupKeys,
        Scenario::BigIntegers,
        Scenario::MissingId,
    ];
    let pair = Pair::new(WorldConfig::new().records(size(3000, 60_000)).scenarios(&KINDS)).await;
    let hec = FakeHec::start_with(Options { keep_bodies: true, ..Options::default() }).await;
    let place = Place::new();
    let sinks = format!(
        "  - {{ name: splunk, type: splunk_hec, url: {:?}, token: token }}\n{}",
        hec.url(),
        place.file_sink("out")
    );
    pair.config(&place, &sinks, "");
    let limit = Duration::from_secs(size(60, 200));
    let output = place.path("out");
    let watched = watch(start(&place, limit), limit, &output, pair.clean_mark()).await;
    assert_eq!(watched.code, Some(0), "{}", place.log_tail());

    let expected = pair.expected();
    let (in_file, errors) = arrived(lines(&output));
    let received = hec.received();
    let (at_hec, _) = arrived(received.events.iter().map(|event| event.body.as_ref().unwrap().to_vec()));
    let struck = pair.hostile.report().faults;
    figure(
        "hostile",
        format_args!(
            "records: {} distinct of {} served, {errors} as pipeline errors, struck {struck:?}, peak {} KiB",
            in_file.len(),
            expected.len(),
            watched.peak_kib
        ),
    );
    KINDS.iter().for_each(|kind| assert!(struck.get(kind.name()).is_some_and(|count| *count > 0), "{kind:?}"));
    assert!(errors > 0);
    assert_eq!(differences(&expected, &in_file), [""; 0]);
    assert_eq!(differences(&expected, &at_hec), [""; 0]);
    let of_errors = received.events.iter().filter(|e| e.sourcetype.as_deref() != Some("o365:management:activity"));
    assert_eq!(of_errors.count(), errors);
    assert!(watched.peak_kib <= MEMORY_KIB, "{} KiB", watched.peak_kib);

    // Nothing of it comes a second time.
    let again = place.run_once(limit).await;
    assert_eq!(again.code(), Some(0), "{}", place.log_tail());
    assert_eq!((lines(&output).count(), hec.count()), (in_file.values().sum(), received.events.len()));
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_a_huge_record_goes_to_the_dead_letters_whole() {
    let bytes = size(20, 50) * 1024 * 1024;
    let huge = WorldConfig::new().only(ContentType::Exchange).records(300).scenario(Scenario::HugeRecord);
    let pair = Pair::new(huge.tune(|protocol| protocol.huge_record_bytes = bytes)).await;
    let place = Place::new();
    pair.config(&place, &place.file_sink("out"), "");
    let (limit, output) = (Duration::from_secs(size(90, 240)), place.path("out"));
    let watched = watch(start(&place, limit), limit, &output, pair.clean_mark()).await;
    assert_eq!(watched.code, Some(1), "{}", place.log_tail());

    let mut expected = pair.expected();
    let huge: Vec<Vec<u8>> = expected.keys().filter(|record| record.len() > bytes).cloned().collect();
    assert!(!huge.is_empty());
    expected.retain(|record, _| record.len() <= bytes);
    let (in_file, _) = arrived(lines(&output));
    let letters: Vec<serde_json::Value> =
        lines(&place.state_dir().join("dead.ndjson")).map(|line| serde_json::from_slice(&line).unwrap()).collect();
    figure(
        "hostile",
        format_args!("{} records of {bytes} bytes, {} dead letters, {watched:?}", huge.len(), letters.len()),
    );
    assert_eq!(differences(&expected, &in_file), [""; 0]);
    assert_eq!(letters.len(), huge.len());
    assert!(watched.enough_after.is_some_and(|after| after < CLEAN_LIMIT), "{watched:?}");
    for letter in &letters {
        assert_eq!((&letter["reason"], &letter["tenant"]), (&"oversized".into(), &"hostile".into()));
        let record = letter["record"].as_str().unwrap().as_bytes();
        assert!(huge.iter().any(|huge| huge == record), "{} bytes", record.len());
    }
    assert!(watched.peak_kib <= MEMORY_KIB, "{} KiB", watched.peak_kib);
}
