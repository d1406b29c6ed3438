//! A collector that misbehaves in every way it can.

use std::sync::Arc;
use std::time::Duration;

use auditferry::ack::Settlement;
use auditferry::config::{SinkConfig, SinkKind, TlsConfig};
use auditferry::secret::SecretSource;
use tokio::time::Instant;

use super::{Bench, LIMIT, counts, hec_kind, hec_sink, keys_of, records, sink_config};
use crate::hec::{self, FakeHec, Options};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_record_arrives_once_verbatim_and_in_large_batches() {
    let hec = FakeHec::start_with(Options { keep_bodies: true, hash_events: true, ..Options::default() }).await;
    let bench = Bench::start(hec_sink(&hec));
    let offer = bench.offer(records(0, 3000)).await;
    assert_eq!(offer.settled().await, counts(3000, 0));
    let received = hec.received();
    let mut got: Vec<_> = received.by_key().into_keys().map(str::to_owned).collect();
    got.sort();
    assert_eq!(got, keys_of(&offer));
    assert!(received.duplicates().is_empty());
    assert!(received.batches.iter().all(|(_, bytes)| *bytes <= 100_000));
    assert!(received.batches.len() <= 3000 * 480 / 90_000, "{:?}", received.batches);
    let sent: std::collections::HashSet<_> = records(0, 3000).map(|r| hec::canonical_hash(r.as_bytes())).collect();
    assert!(received.events.iter().all(|event| sent.contains(&event.hash.unwrap())));
    assert_eq!(received.events[0].sourcetype.as_deref(), Some("o365:management:activity"));
    assert_eq!(bench.metrics.sink_queued.with_label_values(&["splunk"]).get(), 0);
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refused_events_become_dead_letters_and_all_others_arrive() {
    let hec = FakeHec::start().await;
    hec.set(|knobs| knobs.refuse = Some(Arc::new(|offered| offered.event.contains("7\","))));
    let bench = Bench::start(hec_sink(&hec));
    let offer = bench.offer(records(0, 300)).await;
    assert_eq!(offer.settled().await, counts(270, 30));
    assert!(hec.received().duplicates().is_empty());
    let letters = bench.dead_letters();
    assert_eq!(letters.len(), 30);
    assert!(letters.iter().all(|letter| letter["record"]["Id"].as_str().unwrap().ends_with('7')));
    assert!(letters[0]["answer"].as_str().unwrap().contains("Invalid data format"));
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_letter_has_no_more_than_the_sink_was_shown() {
    let hec = FakeHec::start().await;
    hec.set(|knobs| knobs.refuse = Some(Arc::new(|offered| offered.event.contains("7\"}"))));
    let mut config = hec_sink(&hec);
    config.edit.drop = vec![auditferry::edit::FieldPath::parse("Pad").unwrap()];
    let bench = Bench::start(config);
    let offer = bench.offer(records(0, 100)).await;
    assert_eq!(offer.settled().await, counts(90, 10));
    for letter in bench.dead_letters() {
        let record = &letter["record"];
        assert!(record["Id"].is_string() && record.get("Pad").is_none(), "{letter}");
        assert_eq!(letter["format"], "raw");
    }
    assert_eq!(bench.dead_letters().len(), 10);
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_that_is_refused_unnamed_is_found_by_halving() {
    let hec = FakeHec::start().await;
    hec.set(|knobs| {
        knobs.refuse = Some(Arc::new(|offered| offered.event.contains("\"42\"")));
        knobs.refuse_without_number = true;
    });
    let bench = Bench::start(hec_sink(&hec));
    let offer = bench.offer(records(0, 100)).await;
    assert_eq!(offer.settled().await, counts(99, 1));
    assert_eq!(bench.dead_letters()[0]["record"]["Id"], "42");
    assert!(hec.received().duplicates().is_empty());
    assert!(hec.requests() < 20, "{}", hec.requests());
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_too_large_for_the_receiver_is_halved_until_it_fits() {
    let hec = FakeHec::start().await;
    hec.set(|knobs| knobs.max_body = Some(20_000));
    let bench = Bench::start(hec_sink(&hec));
    let offer = bench.offer(records(0, 200)).await;
    assert_eq!(offer.settled().await, counts(200, 0));
    assert!(hec.received().duplicates().is_empty());
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_busy_receiver_is_tried_again_until_it_takes_everything() {
    let hec = FakeHec::start().await;
    hec.set(|knobs| {
        knobs.busy = 7;
        knobs.throttle = 2;
        knobs.retry_after = Some("0".into());
        knobs.garbage = 2;
    });
    let bench = Bench::start(hec_sink(&hec));
    let offer = bench.offer(records(0, 50)).await;
    assert_eq!(offer.settled().await, counts(50, 0));
    let received = hec.received();
    assert!(received.duplicates().is_empty());
    assert_eq!((received.answers[&503], received.answers[&429]), (7, 2));
    assert!(bench.dead_letters().is_empty());
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_answer_costs_a_duplicate_with_the_same_key_and_never_a_record() {
    let hec = FakeHec::start().await;
    hec.set(|knobs| knobs.hang_up = 1);
    let bench = Bench::start(hec_sink(&hec));
    let offer = bench.offer(records(0, 20)).await;
    assert_eq!(offer.settled().await, counts(20, 0));
    assert_eq!(hec.received().distinct(), 20);
    assert_eq!(hec.count(), 40);
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_token_holds_everything_until_the_file_is_rotated() {
    let hec = FakeHec::start().await;
    hec.set(|knobs| knobs.token = "new".into());
    let secrets = tempfile::tempdir().unwrap();
    let path = secrets.path().join("token");
    std::fs::write(&path, "old\n").unwrap();
    let kind = hec_kind(&hec.url(), SecretSource::File(path.clone()));
    let bench = Bench::start(sink_config("splunk", kind));
    let offer = bench.offer(records(0, 500)).await;
    bench.until_health(false).await;
    assert_eq!(bench.metrics.sink_circuit_open.with_label_values(&["splunk"]).get(), 1);
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(!offer.is_settled() && hec.count() == 0 && bench.dead_letters().is_empty());
    std::fs::write(&path, "new\n").unwrap();
    assert_eq!(offer.settled().await, counts(500, 0));
    bench.until_health(true).await;
    assert!(hec.received().duplicates().is_empty());
    assert_eq!(bench.metrics.sink_circuit_open.with_label_values(&["splunk"]).get(), 0);
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_missing_index_holds_and_never_fills_the_dead_letters() {
    let hec = FakeHec::start().await;
    hec.set(|knobs| knobs.incorrect_index = true);
    let bench = Bench::start(hec_sink(&hec));
    let offer = bench.offer(records(0, 50)).await;
    bench.until_health(false).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(bench.dead_letters().is_empty());
    hec.set(|knobs| knobs.incorrect_index = false);
    assert_eq!(offer.settled().await, counts(50, 0));
    bench.stop().await;
}

/// Each event goes to an index of its own operation.
fn index_by_operation(hec: &FakeHec) -> SinkConfig {
    let mut config = hec_sink(hec);
    if let SinkKind::SplunkHec(hec) = &mut config.kind {
        hec.index = Some("o365_{operation}".into());
    }
    config
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_event_for_a_forbidden_index_goes_alone_and_not_its_neighbour() {
    let hec = FakeHec::start().await;
    hec.set(|knobs| knobs.forbidden_index = Some("o365_secret".into()));
    let bench = Bench::start(index_by_operation(&hec));
    let mut all: Vec<_> = records(0, 40).collect();
    all[17] = "{\"Operation\":\"secret\",\"Id\":\"17\"}".into();
    let offer = bench.offer(all).await;
    assert_eq!(offer.settled().await, counts(39, 1));
    let letters = bench.dead_letters();
    assert_eq!(letters[0]["record"]["Operation"], "secret");
    assert!(letters[0]["answer"].as_str().unwrap().contains("Incorrect index (code 7)"));
    assert!(hec.received().duplicates().is_empty());
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_mostly_for_a_missing_index_is_held_at_once() {
    let hec = FakeHec::start().await;
    hec.set(|knobs| knobs.forbidden_index = Some("o365_secret".into()));
    let bench = Bench::start(index_by_operation(&hec));
    let secret = (0..20).map(|n| format!("{{\"Operation\":\"secret\",\"Id\":\"{n}\"}}"));
    let offer = bench.offer(secret.chain(records(100, 8))).await;
    bench.until_health(false).await;
    tokio::time::sleep(Duration::from_millis(150)).await;
    assert!(!offer.is_settled() && hec.count() == 8 && bench.dead_letters().is_empty());
    hec.set(|knobs| knobs.forbidden_index = None);
    assert_eq!(offer.settled().await, counts(28, 0));
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disabled_token_or_a_maintenance_holds_everything_until_it_ends() {
    let hec = FakeHec::start().await;
    hec.set(|knobs| {
        knobs.disabled = true;
        knobs.health = 503;
    });
    let bench = Bench::start(hec_sink(&hec));
    let offer = bench.offer(records(0, 50)).await;
    bench.until_health(false).await;
    hec.set(|knobs| knobs.disabled = false);
    tokio::time::sleep(Duration::from_millis(150)).await;
    let asked = hec.received().health_asked;
    assert!(asked > 0 && !offer.is_settled() && hec.count() == 0 && bench.dead_letters().is_empty());
    hec.set(|knobs| knobs.health = 200);
    assert_eq!(offer.settled().await, counts(50, 0));
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_above_the_receivers_limit_is_a_dead_letter_that_names_the_limit() {
    let hec = FakeHec::start().await;
    hec.set(|knobs| knobs.max_body = Some(20_000));
    let bench = Bench::start(hec_sink(&hec));
    let long = |id: &str, bytes| format!("{{\"Id\":\"{id}\",\"Pad\":\"{}\"}}", "x".repeat(bytes));
    let offer = bench.offer(records(0, 30).chain([long("cut", 11_000), long("huge", 21_000)])).await;
    assert_eq!(offer.settled().await, counts(31, 1));
    let letters = bench.dead_letters();
    assert_eq!((letters.len(), &letters[0]["record"]["Id"]), (1, &"huge".into()));
    assert!(letters[0]["answer"].as_str().unwrap().contains("max_content_length"));
    assert_eq!(bench.metrics.sink_long_events.with_label_values(&["splunk"]).get(), 1);
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_receiver_that_refuses_most_of_two_batches_is_held_not_drained_into_the_dead_letters() {
    let hec = FakeHec::start().await;
    hec.set(|knobs| knobs.refuse = Some(Arc::new(|offered| !offered.event.contains("0\","))));
    let mut config = hec_sink(&hec);
    config.batch.concurrency = 1;
    let bench = Bench::start(config);
    let first = bench.offer(records(0, 30)).await;
    assert_eq!(first.settled().await, counts(3, 27), "one batch may be bad by itself");
    let second = bench.offer(records(100, 30)).await;
    bench.until_health(false).await;
    let third = bench.offer(records(200, 30)).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(!second.is_settled() && !third.is_settled());
    assert_eq!(bench.dead_letters().len(), 27);
    hec.set(|knobs| knobs.refuse = None);
    assert_eq!((second.settled().await, third.settled().await), (counts(30, 0), counts(30, 0)));
    bench.until_health(true).await;
    assert_eq!(bench.dead_letters().len(), 27);
    assert!(hec.received().duplicates().is_empty());
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_receiver_that_is_down_turns_the_health_and_loses_nothing() {
    let hec = FakeHec::start().await;
    let (address, config) = (hec.address(), hec_sink(&hec));
    drop(hec);
    let bench = Bench::start(config);
    let offer = bench.offer(records(0, 50)).await;
    bench.until_health(false).await;
    let hec = FakeHec::start_with(Options { address: Some(address), ..Options::default() }).await;
    assert_eq!(offer.settled().await, counts(50, 0));
    bench.until_health(true).await;
    assert_eq!(hec.received().distinct(), 50);
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_sent_by_the_deadline_is_lost_and_never_delivered() {
    let hec = FakeHec::start().await;
    hec.set(|knobs| knobs.token = "other".into());
    let bench = Bench::start(hec_sink(&hec));
    let offer = bench.offer(records(0, 2000)).await;
    bench.until_health(false).await;
    bench.driver.close();
    let late = bench.offer(records(5000, 5)).await;
    assert!(!bench.driver.finish(Instant::now() + Duration::from_millis(50)).await);
    for (offer, lost) in [(offer, 2000), (late, 5)] {
        let settlement = offer.settled().await;
        assert_eq!(settlement, Settlement { lost, ..Settlement::default() });
    }
    assert_eq!((bench.events("delivered"), bench.events("lost")), (0, 2005));
    assert_eq!(bench.metrics.sink_queued.with_label_values(&["splunk"]).get(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sink_that_has_everything_is_done_though_another_one_outlasted_the_deadline() {
    let hec = FakeHec::start().await;
    let bench = Bench::start(hec_sink(&hec));
    let offer = bench.offer(records(0, 50)).await;
    assert_eq!(offer.settled().await, counts(50, 0));
    // Not closed before: whoever feeds it is still waiting for the other.
    assert!(bench.driver.finish(Instant::now()).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_in_the_air_at_the_deadline_is_still_heard() {
    let hec = FakeHec::start().await;
    hec.set(|knobs| knobs.answer_delay = Duration::from_millis(400));
    let bench = Bench::start(hec_sink(&hec));
    let offer = bench.offer(records(0, 5000)).await;
    assert!(hec.wait_for(1, LIMIT).await);
    bench.driver.close();
    let finished = bench.driver.finish(Instant::now()).await;
    let taken = hec.count() as u64;
    assert_eq!(finished, taken == 5000);
    assert!(taken < 5000, "all of it was sent before the end");
    assert_eq!((bench.events("delivered"), bench.events("lost")), (taken, 5000 - taken));
    assert!(!offer.settled().await.is_settled());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sink_that_is_not_required_drops_what_does_not_fit_and_holds_no_blob() {
    let hec = FakeHec::start().await;
    hec.set(|knobs| knobs.token = "other".into());
    let mut config = hec_sink(&hec);
    config.required = false;
    let bench = Bench::start(config);
    for blob in 0..10 {
        // About 1 MB each: four or so fit.
        let offer = bench.offer(records(blob * 5000, 5000)).await;
        tokio::time::timeout(LIMIT, offer.settled()).await.unwrap();
    }
    let dropped = bench.events("dropped");
    assert!((25_000..=35_000).contains(&dropped), "{dropped}");
    hec.set(|knobs| knobs.token = "token".into());
    let rest = 50_000 - dropped as usize;
    assert!(hec.wait_for(rest, LIMIT).await);
    assert_eq!(hec.count(), rest);
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_small_budget_has_a_small_backlog_of_what_is_not_required() {
    let hec = FakeHec::start().await;
    hec.set(|knobs| knobs.token = "other".into());
    let bench = Bench::start(SinkConfig { required: false, ..hec_sink(&hec) });
    bench.driver.fit_into(8 << 20, 1);
    for blob in 0..10 {
        // About 1 MB each, and an eighth of the budget is 1 MiB.
        let offer = bench.offer(records(blob * 5000, 5000)).await;
        tokio::time::timeout(LIMIT, offer.settled()).await.unwrap();
    }
    assert_eq!(bench.events("dropped"), 45_000);
    hec.set(|knobs| knobs.token = "token".into());
    bench.stop().await;
}

/// Alerts join on what is said of a sink; over a reload it may become required.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_a_sink_only_what_it_is_now_is_said() {
    let hec = FakeHec::start().await;
    for required in [false, true] {
        let mut config = hec_sink(&hec);
        config.required = false;
        let bench = Bench::start(config.clone());
        config.required = required;
        let sink = auditferry::sink::build(&config, bench.id, &bench.state, Arc::clone(&bench.metrics)).unwrap();
        let dead = auditferry::sink::dead_letters::DeadLetters::open(
            &bench.dir.path().join("dead.ndjson"),
            Arc::clone(&bench.metrics),
        )
        .unwrap();
        let next = auditferry::sink::driver::spawn(
            std::future::ready(()),
            config,
            bench.id,
            sink,
            bench.state.clone(),
            dead,
            Arc::clone(&bench.metrics),
        );
        let pages: String = Arc::clone(&bench.metrics).pages().collect();
        let said: Vec<&str> = pages.lines().filter(|line| line.starts_with("auditferry_sink_info{")).collect();
        assert!(said.len() == 1 && said[0].contains(&format!(r#"required="{required}""#)), "{said:?}");
        next.close();
        bench.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ca_of_ones_own_is_trusted_and_no_other() {
    let signed = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let (certificate, key) = (signed.cert.pem(), signed.signing_key.serialize_pem());
    let hec = FakeHec::start_with(Options { tls: Some((certificate.clone(), key)), ..Options::default() }).await;
    let files = tempfile::tempdir().unwrap();
    let ca_file = files.path().join("ca.pem");
    std::fs::write(&ca_file, certificate).unwrap();
    let with_tls = |tls: TlsConfig| {
        let mut config = hec_sink(&hec);
        if let SinkKind::SplunkHec(hec) = &mut config.kind {
            hec.tls = tls;
        }
        config
    };
    let trusting = Bench::start(with_tls(TlsConfig { ca_file: Some(ca_file), ..TlsConfig::default() }));
    let offer = trusting.offer(records(0, 10)).await;
    assert_eq!(offer.settled().await, counts(10, 0));
    trusting.stop().await;

    let other = Bench::start(with_tls(TlsConfig::default()));
    let offer = other.offer(records(100, 10)).await;
    other.until_health(false).await;
    assert!(!offer.is_settled() && hec.count() == 10);

    let blind = Bench::start(with_tls(TlsConfig { verify: Some(false), ..TlsConfig::default() }));
    let offer = blind.offer(records(200, 10)).await;
    assert_eq!(offer.settled().await, counts(10, 0));
}

/// Everything at once: partial refusals, busy spells, lost answers, large batches refused, token
/// trouble. The books must agree whatever the order.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn under_every_fault_at_once_each_record_gets_its_true_verdict() {
    let hec = FakeHec::start().await;
    hec.set(|knobs| {
        knobs.refuse = Some(Arc::new(|offered| offered.event.contains("13\",")));
        knobs.max_body = Some(60_000);
    });
    let bench = Bench::start(hec_sink(&hec));
    let mut offers = Vec::new();
    let mut hung_up = 0;
    for round in 0..40 {
        offers.push(bench.offer(records(round * 250, 250)).await);
        match round % 5 {
            0 => hec.set(|knobs| knobs.busy += 2),
            1 => {
                hung_up += 1;
                hec.set(|knobs| knobs.hang_up += 1);
            }
            2 => hec.set(|knobs| knobs.token = "other".into()),
            3 => hec.set(|knobs| knobs.garbage += 1),
            _ => hec.set(|knobs| knobs.token = "token".into()),
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let (mut delivered, mut rejected) = (0, 0);
    for offer in &offers {
        let settlement = offer.settled().await;
        assert_eq!(settlement.lost, 0);
        delivered += settlement.delivered;
        rejected += settlement.rejected;
    }
    // 10,000 records, of which those that end in 13 are refused.
    assert_eq!((delivered, rejected), (9900, 100));
    let received = hec.received();
    assert_eq!(received.distinct(), 9900);
    assert_eq!(bench.dead_letters().len(), 100);
    let largest = received.batches.iter().map(|(events, _)| *events).max().unwrap_or(0);
    assert!(received.duplicates().len() <= hung_up * largest, "only what was booked and not answered comes twice");
    bench.stop().await;
}
