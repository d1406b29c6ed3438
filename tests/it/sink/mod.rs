//! The sinks and their driver with a real state: whatever happens, every record gets exactly one
//! verdict, and it is the true one. This is the bench; the tests are in [`collector`], [`acknowledged`], [`real_collector`],
//! [`elasticsearch`] and [`file`].

mod acknowledged;
mod collector;
mod contract;
mod dead_topic;
mod elasticsearch;
mod entra;
mod file;
mod http;
mod kafka;
mod kafka_transactional;
mod oauth;
mod real_collector;
mod syslog;
mod together;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use auditferry::ack::{Finalizer, Settlement};
use auditferry::budget::Budget;
use auditferry::config::{
    AckConfig, BatchConfig, DeadLettersConfig, Format, HecConfig, ProxyConfig, RetryConfig, SinkConfig, SinkKind,
    StateConfig, TlsConfig,
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

use crate::hec::FakeHec;

/// No test waits longer for anything.
const LIMIT: Duration = Duration::from_secs(60);

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
        ecs_profile: auditferry::normalize::Profile::Auditferry,
        when: None,
        edit: Default::default(),
        rate_limit: None,
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
        proxy: ProxyConfig::Off,
        timeout: Duration::from_secs(5),
        ack: AckConfig::default(),
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
        let dead = DeadLettersConfig::in_file(&dir.path().join("dead.ndjson"));
        Bench::start_with(dir, config, &dead)
    }

    fn start_with(dir: tempfile::TempDir, config: SinkConfig, dead: &DeadLettersConfig) -> Bench {
        let metrics = Metrics::new();
        let state_config = StateConfig { dir: dir.path().join("state"), max_delivered_bytes: 1 << 20 };
        std::fs::create_dir_all(&state_config.dir).unwrap();
        let state = State::open(&state_config, Arc::clone(&metrics)).unwrap();
        let id = state.sink_id(&config.name).unwrap();
        let sink = build(&config, id, &state, Arc::clone(&metrics)).unwrap();
        let dead = DeadLetters::of(dead, Arc::clone(&metrics)).unwrap();
        let driver =
            driver::spawn(std::future::ready(()), config.clone(), id, sink, state.clone(), dead, Arc::clone(&metrics));
        Bench { dir, state, metrics, id, driver, config }
    }

    /// Hands over records with these texts as one blob.
    async fn offer(&self, records: impl IntoIterator<Item = String>) -> Offer {
        self.offer_part(part_of(records))
    }

    fn offer_part(&self, (part, keys): (Arc<Part>, Vec<RecordKey>)) -> Offer {
        let end = Arc::new(Mutex::new(None));
        let told = Arc::clone(&end);
        let body = Finalizer::new(move |settlement| *told.lock().unwrap() = Some(settlement));
        let sinks = SinkSet::of(self.id);
        let shares: Vec<_> = keys.iter().map(|key| (*key, body.share())).collect();
        let required = if self.config.required { sinks } else { SinkSet::EMPTY };
        let wanting = self.state.delivered().claim(sinks, required, shares.into_iter());
        body.release();
        let wanted = (0..part.events.len() as u32).filter(|index| wanting[*index as usize].contains(self.id)).collect();
        self.driver.send(Delivery { part, events: wanted });
        Offer { keys, end }
    }

    /// What a sink of this configuration says to these records, sent once beside the driver.
    async fn refusal(&self, records: impl IntoIterator<Item = String>) -> String {
        let sink = build(&self.config, self.id, &self.state, Arc::clone(&self.metrics)).unwrap();
        let (part, _) = part_of(records);
        let mut batch = EncodedBatch::default();
        for index in 0..part.events.len() as u32 {
            sink.encode(&part.event(index), &mut batch.bytes);
            batch.ends.push(batch.bytes.len());
        }
        sink.send(&batch).await.unwrap_err().to_string()
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

/// Where the record's operation stands, for templates.
fn operation(record: &str, start: u32) -> std::ops::Range<u32> {
    let Some((before, after)) = record.split_once("\"Operation\":\"") else { return 0..0 };
    let from = start + (before.len() + "\"Operation\":\"".len()) as u32;
    from..from + after.find('"').unwrap() as u32
}

fn key_of_text(record: &str) -> RecordKey {
    let mut key = [0; 16];
    key.copy_from_slice(&blake3::hash(record.as_bytes()).as_bytes()[..16]);
    RecordKey(key)
}

/// A part of one blob with records of these texts, and their keys.
fn part_of(records: impl IntoIterator<Item = String>) -> (Arc<Part>, Vec<RecordKey>) {
    part_with(records, key_of_text)
}

/// The same, with keys made so.
fn part_with(
    records: impl IntoIterator<Item = String>,
    key_of: impl Fn(&str) -> RecordKey,
) -> (Arc<Part>, Vec<RecordKey>) {
    let (mut raw, mut events) = (Vec::new(), Vec::new());
    for record in records {
        let start = raw.len() as u32;
        raw.extend_from_slice(record.as_bytes());
        events.push(EventMeta {
            key: key_of(&record),
            time_ms: Some(1_700_000_000_000),
            raw: start..raw.len() as u32,
            operation: operation(&record, start),
            readable: true,
            ..EventMeta::default()
        });
    }
    let keys = events.iter().map(|event| event.key).collect();
    let tenant = Arc::new(Tenant { name: "contoso".into(), id: "6f1c".into(), domains: Vec::new() });
    let feed = Feed { tenant, content_type: ContentType::Exchange };
    let charge = Budget::new(1 << 30).charge(&Arc::from("contoso"), ContentType::Exchange);
    let blob = BlobId { feed, content_id: Arc::from("blob"), created_ms: 0 };
    (Arc::new(Part { blob, raw: raw.into(), docs: Vec::new(), events, charge }), keys)
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
