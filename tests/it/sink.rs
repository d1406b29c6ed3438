//! The sinks' driver against a collector that misbehaves, with a real state: whatever happens,
//! every record gets exactly one verdict, and it is the true one.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use auditferry::ack::{Finalizer, Settlement};
use auditferry::budget::Budget;
use auditferry::config::{
    BatchConfig, FileConfig, Format, HecConfig, RetryConfig, SinkConfig, SinkKind, StateConfig, TlsConfig,
};
use auditferry::event::{Delivery, EventMeta, Part};
use auditferry::feed::{BlobId, ContentType, Feed, Tenant};
use auditferry::metrics::Metrics;
use auditferry::record::RecordKey;
use auditferry::secret::SecretSource;
use auditferry::sink::dead_letters::DeadLetters;
use auditferry::sink::driver::{self, DriverHandle};
use auditferry::sink::{EncodedBatch, Sink, SinkId, SinkSet, build};
use auditferry::state::State;
use tokio::time::Instant;

use crate::hec::{self, FakeHec, Options};

/// No test waits longer for anything.
const LIMIT: Duration = Duration::from_secs(20);

/// A sink's driver with everything around it.
struct Bench {
    dir: tempfile::TempDir,
    state: State,
    metrics: Arc<Metrics>,
    id: SinkId,
    driver: DriverHandle,
    config: SinkConfig,
}

/// The fate of what one `offer` handed over.
struct Offer {
    keys: Vec<RecordKey>,
    end: Arc<Mutex<Option<Settlement>>>,
}

impl Offer {
    async fn settled(&self) -> Settlement {
        let wait = async {
            loop {
                if let Some(settlement) = *self.end.lock().unwrap() {
                    return settlement;
                }
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        tokio::time::timeout(LIMIT, wait).await.expect("the records have a verdict in time")
    }

    fn is_settled(&self) -> bool {
        self.end.lock().unwrap().is_some()
    }
}

fn counts(delivered: u32, rejected: u32) -> Settlement {
    Settlement { delivered, rejected, ..Settlement::default() }
}

fn sink_config(name: &str, kind: SinkKind) -> SinkConfig {
    SinkConfig {
        name: name.into(),
        required: true,
        format: Format::Raw,
        batch: BatchConfig { max_bytes: 100_000, max_events: 1000, linger: Duration::from_millis(20), concurrency: 3 },
        retry: RetryConfig { initial: Duration::from_millis(5), max: Duration::from_millis(40) },
        kind,
    }
}

fn hec_kind(url: &str, token: SecretSource) -> SinkKind {
    SinkKind::SplunkHec(HecConfig {
        url: url.parse().unwrap(),
        token,
        index: None,
        source: None,
        sourcetype: None,
        host: None,
        gzip: true,
        tls: TlsConfig::default(),
        timeout: Duration::from_secs(5),
    })
}

fn hec_sink(hec: &FakeHec) -> SinkConfig {
    sink_config("splunk", hec_kind(&hec.url(), SecretSource::Value("token".into())))
}

impl Bench {
    fn start(config: SinkConfig) -> Bench {
        Bench::start_in(tempfile::tempdir().unwrap(), config)
    }

    fn start_in(dir: tempfile::TempDir, config: SinkConfig) -> Bench {
        let metrics = Metrics::new();
        let state_config = StateConfig { dir: dir.path().join("state"), max_delivered_bytes: 1 << 20 };
        std::fs::create_dir_all(&state_config.dir).unwrap();
        let state = State::open(&state_config, Arc::clone(&metrics)).unwrap();
        let id = state.sink_id(&config.name).unwrap();
        let sink = build(&config, id, &state, Arc::clone(&metrics)).unwrap();
        let dead = DeadLetters::open(&dir.path().join("dead.ndjson"), Arc::clone(&metrics)).unwrap();
        let driver = driver::spawn(config.clone(), id, sink, state.clone(), dead, Arc::clone(&metrics));
        Bench { dir, state, metrics, id, driver, config }
    }

    /// Hands over records with these texts as one blob.
    async fn offer(&self, records: impl IntoIterator<Item = String>) -> Offer {
        let (mut raw, mut events) = (Vec::new(), Vec::new());
        for record in records {
            let start = raw.len() as u32;
            raw.extend_from_slice(record.as_bytes());
            let mut key = [0; 16];
            key.copy_from_slice(&blake3::hash(record.as_bytes()).as_bytes()[..16]);
            events.push(EventMeta {
                key: RecordKey(key),
                time_ms: Some(1_700_000_000_000),
                raw: start..raw.len() as u32,
                readable: true,
                ..EventMeta::default()
            });
        }
        let end = Arc::new(Mutex::new(None));
        let told = Arc::clone(&end);
        let body = Finalizer::new(move |settlement| *told.lock().unwrap() = Some(settlement));
        let sinks = SinkSet::of(self.id);
        let keys: Vec<_> = events.iter().map(|event| event.key).collect();
        let shares: Vec<_> = keys.iter().map(|key| (*key, body.share())).collect();
        let required = if self.config.required { sinks } else { SinkSet::EMPTY };
        let wanting = self.state.delivered().claim(sinks, required, shares.into_iter());
        body.release();
        let wanted = (0..events.len() as u32).filter(|index| wanting[*index as usize].contains(self.id)).collect();
        let tenant = Arc::new(Tenant { name: "contoso".into(), id: "6f1c".into(), domains: Vec::new() });
        let feed = Feed { tenant, content_type: ContentType::Exchange };
        let charge = Budget::new(1 << 30).charge(&Arc::from("contoso"));
        let blob = BlobId { feed, content_id: Arc::from("blob") };
        let part = Arc::new(Part { blob, raw: raw.into(), docs: Vec::new(), events, charge });
        self.driver.send(Delivery { part, events: wanted }).await;
        Offer { keys, end }
    }

    fn dead_letters(&self) -> Vec<serde_json::Value> {
        let text = std::fs::read_to_string(self.dir.path().join("dead.ndjson")).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    async fn until_health(&self, healthy: bool) {
        let mut health = self.driver.health();
        let reached = health.wait_for(|now| *now == healthy);
        tokio::time::timeout(LIMIT, reached).await.expect("the circuit changes in time").unwrap();
    }

    fn events(&self, result: &str) -> u64 {
        self.metrics.sink_events.with_label_values(&[self.config.name.as_str(), result]).get()
    }

    /// Ends everything in order and hands the directory over for a next run.
    async fn stop(self) -> tempfile::TempDir {
        self.driver.close();
        assert!(self.driver.finish(Instant::now() + LIMIT).await);
        self.state.close().await.unwrap();
        self.dir
    }
}

/// `count` records of about 200 bytes, `from` on.
fn records(from: usize, count: usize) -> impl Iterator<Item = String> {
    (from..from + count).map(|n| format!("{{\"Id\":\"{n}\",\"Pad\":\"{}\"}}", "x".repeat(180)))
}

fn keys_of(offer: &Offer) -> Vec<String> {
    let mut keys: Vec<_> = offer.keys.iter().map(RecordKey::to_string).collect();
    keys.sort();
    keys
}

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

fn file_sink(path: PathBuf, max_size: Option<u64>) -> SinkConfig {
    sink_config("disk", SinkKind::File(FileConfig { path, max_size, keep: 3 }))
}

fn lines(path: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    assert!(text.is_empty() || text.ends_with('\n'), "{path:?} ends in half a line");
    text.lines().map(str::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_holds_every_record_once_over_restarts() {
    let files = tempfile::tempdir().unwrap();
    let path = files.path().join("audit.ndjson");
    let mut dir = tempfile::tempdir().unwrap();
    for round in 0..3 {
        let bench = Bench::start_in(dir, file_sink(path.clone(), None));
        let offer = bench.offer(records(round * 100, 100)).await;
        assert_eq!(offer.settled().await, counts(100, 0));
        dir = bench.stop().await;
    }
    assert_eq!(lines(&path), records(0, 300).collect::<Vec<_>>());
    use std::os::unix::fs::PermissionsExt;
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640 & !umask());
}

fn umask() -> u32 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("Umask:")).unwrap();
    u32::from_str_radix(line.trim(), 8).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_crash_left_beyond_the_journal_is_cut() {
    let files = tempfile::tempdir().unwrap();
    let path = files.path().join("audit.ndjson");
    let bench = Bench::start(file_sink(path.clone(), None));
    bench.offer(records(0, 10)).await.settled().await;
    let dir = bench.stop().await;
    // As if a batch had been written and the process had died before the journal heard of it.
    let mut tail = std::fs::OpenOptions::new().append(true).open(&path).unwrap();
    std::io::Write::write_all(&mut tail, b"{\"Id\":\"10\"}\n{\"Id\":\"1").unwrap();
    let bench = Bench::start_in(dir, file_sink(path.clone(), None));
    bench.offer(records(10, 10)).await.settled().await;
    assert_eq!(lines(&path), records(0, 20).collect::<Vec<_>>());
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_first_batch_that_the_journal_never_heard_of_is_cut_too() {
    let files = tempfile::tempdir().unwrap();
    let path = files.path().join("audit.ndjson");
    let config = file_sink(path.clone(), None);
    let state_config = StateConfig { dir: files.path().join("state"), max_delivered_bytes: 1 << 20 };
    std::fs::create_dir_all(&state_config.dir).unwrap();
    for line in ["{\"n\":1}\n", "{\"n\":2}\n"] {
        let state = State::open(&state_config, Metrics::new()).unwrap();
        let id = state.sink_id("disk").unwrap();
        let sink = build(&config, id, &state, Metrics::new()).unwrap();
        let batch = EncodedBatch { bytes: line.as_bytes().to_vec(), ends: vec![line.len()] };
        let accepted = sink.send(&batch).await.unwrap();
        assert_eq!(accepted.position.unwrap().length, line.len() as u64);
        // No verdict: the process died in between.
        state.close().await.unwrap();
    }
    assert_eq!(lines(&path), ["{\"n\":2}"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_its_state_a_file_is_never_cut() {
    let files = tempfile::tempdir().unwrap();
    let path = files.path().join("audit.ndjson");
    std::fs::write(&path, "{\"not\":\"ours\"}\n{\"half\":").unwrap();
    let bench = Bench::start(file_sink(path.clone(), None));
    bench.offer(records(0, 5)).await.settled().await;
    let dir = bench.stop().await;
    // Nor is it cut later: what was there before is journalled as the beginning.
    let bench = Bench::start_in(dir, file_sink(path.clone(), None));
    bench.offer(records(5, 5)).await.settled().await;
    bench.stop().await;
    let mut expected = vec!["{\"not\":\"ours\"}".to_owned(), "{\"half\":".to_owned()];
    expected.extend(records(0, 10));
    assert_eq!(lines(&path), expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_file_is_rotated_between_batches_and_the_oldest_goes() {
    let files = tempfile::tempdir().unwrap();
    let path = files.path().join("audit.ndjson");
    let bench = Bench::start(file_sink(path.clone(), Some(5000)));
    for round in 0..6 {
        // Some 4,000 bytes: each batch fills a file.
        bench.offer(records(round * 20, 20)).await.settled().await;
    }
    let numbered = |n: usize| files.path().join(format!("audit.ndjson.{n}"));
    assert_eq!(lines(&path), records(100, 20).collect::<Vec<_>>());
    for n in 1..=3 {
        assert_eq!(lines(&numbered(n)), records((5 - n) * 20, 20).collect::<Vec<_>>(), "{n}");
    }
    assert!(!numbered(4).exists());
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_is_moved_away_is_begun_anew() {
    let files = tempfile::tempdir().unwrap();
    let path = files.path().join("audit.ndjson");
    let moved = files.path().join("moved");
    let bench = Bench::start(file_sink(path.clone(), None));
    bench.offer(records(0, 10)).await.settled().await;
    std::fs::rename(&path, &moved).unwrap();
    bench.offer(records(10, 10)).await.settled().await;
    std::fs::remove_file(&path).unwrap();
    bench.offer(records(20, 10)).await.settled().await;
    assert_eq!(lines(&moved), records(0, 10).collect::<Vec<_>>());
    assert_eq!(lines(&path), records(20, 10).collect::<Vec<_>>());
    // `copytruncate`: the same inode, cut to nothing under us.
    std::fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(0).unwrap();
    bench.offer(records(30, 10)).await.settled().await;
    let dir = bench.stop().await;
    let bench = Bench::start_in(dir, file_sink(path.clone(), None));
    bench.offer(records(40, 10)).await.settled().await;
    bench.stop().await;
    assert_eq!(lines(&path), records(30, 20).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_or_a_missing_directory_holds_until_it_is_mended() {
    let files = tempfile::tempdir().unwrap();
    let target = files.path().join("target");
    std::fs::write(&target, "").unwrap();
    let path = files.path().join("audit.ndjson");
    std::os::unix::fs::symlink(&target, &path).unwrap();
    let bench = Bench::start(file_sink(path.clone(), None));
    let offer = bench.offer(records(0, 10)).await;
    bench.until_health(false).await;
    assert_eq!(lines(&target), Vec::<String>::new());
    std::fs::remove_file(&path).unwrap();
    assert_eq!(offer.settled().await, counts(10, 0));
    assert_eq!(lines(&path).len(), 10);
    bench.stop().await;
}
