//! The contract of a sink: one list of cases, each shown for every type of sink, by a peer that misbehaves on demand.
//!
//! A new type of sink brings a [`Peer`], a line in `contract!` and its rows in [`TABLE`]; a case that a type cannot
//! show says why there, or which test of its own shows it. That no type and no case is missing is a test.

use std::sync::Arc;
use std::time::{Duration, Instant};

use auditferry::config::{
    HttpAddress, HttpConfig, HttpEncoding, LoginConfig, ProxyConfig, SinkConfig, SinkKind, TlsConfig,
};
use auditferry::secret::SecretSource;
use auditferry::simulator::WorldConfig;
use serde_json::Value;

use super::elasticsearch::elasticsearch_kind;
use super::{Bench, LIMIT, counts, hec_kind, records, sink_config};
use crate::elasticsearch::FakeElasticsearch;
use crate::hec::{FakeHec, Options, canonical_hash};
use crate::support::{Place, compare, served, world};
use crate::web::{FakeWeb, Kind};

/// What a peer does from the next batch on, until it is mended.
pub enum Fault {
    /// "Too many": so many times, and not again before so many seconds.
    Throttled(u32, u32),
    /// "Not now", so many times.
    Unavailable(u32),
    /// The connection ends while the batch is on its way, so many times; nothing of it is taken.
    Cut(u32),
    /// The batch is taken and the connection ends before the answer, so many times.
    AnswerLost(u32),
    /// The records whose `Id` ends with a 7 are refused for good.
    RefusesSome,
    RefusesAll,
    WrongCredentials,
    /// From taking to answering.
    Slow(Duration),
}

/// The other end of a sink.
pub trait Peer: Send + Sync {
    fn start() -> impl Future<Output = Self> + Send;
    /// The sink that sends to it, with the credentials that it wants.
    fn kind(&self) -> SinkKind;
    /// The same as lines of a configuration file; format `raw`.
    fn written(&self) -> String;
    fn set(&self, fault: Fault);
    fn mend(&self);
    /// Every record that it has taken, as often as it has.
    fn taken(&self) -> Vec<Value>;

    fn config(&self) -> SinkConfig {
        sink_config("peer", self.kind())
    }

    /// The ids of what it has, sorted.
    fn ids(&self) -> Vec<String> {
        let mut ids: Vec<_> = self.taken().iter().map(|record| record["Id"].as_str().unwrap().to_owned()).collect();
        ids.sort();
        ids
    }
}

/// A case of the contract that a type of sink shows here, or why not.
enum Stand {
    Here,
    /// This test of its own shows it.
    By(&'static str),
    Never(&'static str),
}
use Stand::{By, Here, Never};

macro_rules! contract {
    (cases $cases:tt, peers { $($peer:ident: $type:ty),* $(,)? }) => {
        const SHOWN: &[&str] = &[$(stringify!($peer)),*];
        $(contract!(@ $peer, $type, $cases);)*
        contract!(@names $cases);
    };
    (@names { $($case:ident),* $(,)? }) => {
        const CASES: &[&str] = &[$(stringify!($case)),*];
    };
    (@ $peer:ident, $type:ty, { $($case:ident),* $(,)? }) => {
        mod $peer {
            use super::*;
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $case() {
                    super::$case::<$type>().await;
                }
            )*
        }
    };
}

contract! {
    cases {
        accepted,
        throttled_and_then_fine,
        unavailable_and_then_fine,
        cut_in_the_middle,
        answer_lost_after_the_commit,
        some_of_a_bulk_refused,
        all_refused,
        wrong_credentials,
        slow_peer,
        drained_on_sigterm,
        acknowledged_once_and_only_after_the_yes,
    },
    peers { splunk_hec: FakeHec, elasticsearch: FakeElasticsearch, http: FakeWeb }
}

const NO_LOGIN: &str = "whoever may open it has logged in";
const NO_RECEIPT: &str = "the reader of a pipe says nothing";
const NOTHING_BACK: &str = "a receiver of syslog says nothing of a message, neither yes nor no";

/// Every type of sink × every case.
const TABLE: &[(&str, [Stand; 11])] = &[
    (
        "stdout",
        [
            By("what_is_read_from_a_pipe_is_every_record_once"),
            Never(NO_RECEIPT),
            Never(NO_RECEIPT),
            Never(NO_RECEIPT),
            Never(NO_RECEIPT),
            Never(NO_RECEIPT),
            Never(NO_RECEIPT),
            Never(NO_LOGIN),
            Never("a full pipe makes the writer wait"),
            Never(NO_RECEIPT),
            Never(NO_RECEIPT),
        ],
    ),
    (
        "file",
        [
            By("a_file_holds_every_record_once_over_restarts"),
            Never("a disk asks nobody to wait"),
            By("a_link_or_a_missing_directory_holds_until_it_is_mended"),
            By("what_a_crash_left_beyond_the_journal_is_cut"),
            By("a_first_batch_that_the_journal_never_heard_of_is_cut_too"),
            Never("a disk refuses no record"),
            Never("a disk refuses no record"),
            By("a_link_or_a_missing_directory_holds_until_it_is_mended"),
            Never("a write that takes long is waited for"),
            By("drain"),
            By("power_everything_promised_survives_every_loss"),
        ],
    ),
    ("splunk_hec", [Here, Here, Here, Here, Here, Here, Here, Here, Here, Here, Here]),
    ("elasticsearch", [Here, Here, Here, Here, Here, Here, Here, Here, Here, Here, Here]),
    (
        "kafka",
        [
            By("every_record_arrives_once_with_its_key_headers_and_time"),
            By("a_quota_slows_us_down_and_is_counted"),
            By("errors_that_pass_are_retried_inside_the_producer"),
            By("while_the_brokers_are_away_nothing_is_handed_over_twice"),
            By("errors_that_pass_are_retried_inside_the_producer"),
            By("what_is_too_large_lies_in_the_dead_letters_and_its_neighbours_arrive"),
            By("a_record_for_a_missing_topic_does_not_hold_its_neighbours_and_a_whole_batch_is_held"),
            By("a_password_that_was_put_right_is_read_again"),
            By("a_quota_slows_us_down_and_is_counted"),
            By("kafka_away"),
            By("while_the_brokers_are_away_nothing_is_handed_over_twice"),
        ],
    ),
    (
        "syslog",
        [
            By("each_header_field_and_parameter_is_read_back"),
            Never(NOTHING_BACK),
            By("nobody_there_is_named_and_waited_for"),
            By("a_batch_that_is_cut_in_the_middle_is_sent_again_whole"),
            By("what_a_dying_receiver_had_not_read_is_sent_again_first_and_counted"),
            By("what_is_too_long_goes_to_the_dead_letters_or_is_cut_and_says_so"),
            Never(NOTHING_BACK),
            By("a_handshake_that_fails_names_its_cause_and_holds"),
            By("nothing_is_acknowledged_that_the_receivers_kernel_does_not_have"),
            By("an_end_in_order_waits_until_everything_is_read"),
            By("nothing_is_acknowledged_that_the_receivers_kernel_does_not_have"),
        ],
    ),
    ("http", [Here, Here, Here, Here, Here, Here, Here, Here, Here, Here, Here]),
];

#[test]
fn every_type_of_sink_stands_in_the_table_with_every_case() {
    let schema = auditferry::config::schema();
    let types = schema.pointer("/properties/sinks/items/properties/type/anyOf/0/enum").unwrap().as_array().unwrap();
    let types: Vec<&str> = types.iter().map(|name| name.as_str().unwrap()).collect();
    let listed: Vec<&str> = TABLE.iter().map(|(name, _)| *name).collect();
    assert_eq!(listed, types, "the table of tests/it/sink/contract.rs lacks a type of sink");
    let tests = source_of_tests();
    for (sink, stands) in TABLE {
        assert_eq!(stands.len(), CASES.len());
        assert_eq!(SHOWN.contains(sink), stands.iter().all(|stand| matches!(stand, Here)), "{sink} and `contract!`");
        for (stand, case) in stands.iter().zip(CASES) {
            match stand {
                By(test) => assert!(tests.contains(&format!("fn {test}()")), "{sink}, {case}: there is no test {test}"),
                Never(why) => assert!(!why.is_empty()),
                Here => {}
            }
        }
    }
}

fn source_of_tests() -> String {
    fn walk(dir: &std::path::Path, text: &mut String) {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, text);
            } else if path.extension().is_some_and(|end| end == "rs") {
                text.push_str(&std::fs::read_to_string(&path).unwrap());
            }
        }
    }
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut text = String::new();
    ["src", "tests/it"].iter().for_each(|dir| walk(&root.join(dir), &mut text));
    text
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_read_from_a_pipe_is_every_record_once() {
    let world = world(WorldConfig::new().records(2000).days(1).speed(20.0)).await;
    let place = Place::new();
    let collect = "collect: { requests_per_minute: 100000, poll_interval: 5s, backfill: 2d }";
    place.write_config(&world, "  - { name: out, type: stdout, format: raw }\n", collect);
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_auditferry"));
    command.args(["run", "--once", "--once-timeout", "60s", "-c"]).arg(place.config()).kill_on_drop(true);
    let ended = tokio::time::timeout(Duration::from_secs(90), command.output()).await.unwrap().unwrap();
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
    let lines = ended.stdout.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    let found = compare(&served(&world), lines.map(canonical_hash));
    assert!(found.arrived > 1000 && (found.lost, found.duplicates, found.foreign) == (0, 0, 0), "{found:?}");
}

fn sorted_ids(from: usize, count: usize) -> Vec<String> {
    let mut ids: Vec<String> = (from..from + count).map(|n| n.to_string()).collect();
    ids.sort();
    ids
}

async fn accepted<P: Peer>() {
    let peer = P::start().await;
    let bench = Bench::start(peer.config());
    let offer = bench.offer(records(0, 1500)).await;
    assert_eq!(offer.settled().await, counts(1500, 0));
    assert_eq!(peer.ids(), sorted_ids(0, 1500));
    let sent: std::collections::HashSet<_> = records(0, 1500).map(|r| canonical_hash(r.as_bytes())).collect();
    assert!(peer.taken().iter().all(|record| sent.contains(&canonical_hash(record.to_string().as_bytes()))));
    assert!(bench.dead_letters().is_empty());
    bench.stop().await;
}

async fn throttled_and_then_fine<P: Peer>() {
    let peer = P::start().await;
    peer.set(Fault::Throttled(1, 1));
    let bench = Bench::start(peer.config());
    let began = Instant::now();
    let offer = bench.offer(records(0, 50)).await;
    assert_eq!(offer.settled().await, counts(50, 0));
    assert!(began.elapsed() >= Duration::from_secs(1), "sent again after {:?}", began.elapsed());
    assert_eq!(peer.ids(), sorted_ids(0, 50));
    assert_eq!(bench.metrics.sink_retries.with_label_values(&["peer", "told_to_wait"]).get(), 1);
    bench.stop().await;
}

async fn unavailable_and_then_fine<P: Peer>() {
    let peer = P::start().await;
    peer.set(Fault::Unavailable(3));
    let bench = Bench::start(peer.config());
    let offer = bench.offer(records(0, 50)).await;
    assert_eq!(offer.settled().await, counts(50, 0));
    assert_eq!(peer.ids(), sorted_ids(0, 50));
    assert!(bench.dead_letters().is_empty());
    bench.stop().await;
}

async fn cut_in_the_middle<P: Peer>() {
    let peer = P::start().await;
    peer.set(Fault::Cut(3));
    let bench = Bench::start(peer.config());
    let offer = bench.offer(records(0, 1500)).await;
    assert_eq!(offer.settled().await, counts(1500, 0));
    assert_eq!(peer.ids(), sorted_ids(0, 1500), "what was cut was not taken, so nothing is there twice");
    bench.stop().await;
}

async fn answer_lost_after_the_commit<P: Peer>() {
    let peer = P::start().await;
    peer.set(Fault::AnswerLost(1));
    let bench = Bench::start(peer.config());
    let offer = bench.offer(records(0, 20)).await;
    assert_eq!(offer.settled().await, counts(20, 0), "each is delivered once, whatever the peer has");
    let mut ids = peer.ids();
    assert!(ids.len() <= 40, "{}", ids.len());
    ids.dedup();
    assert_eq!(ids, sorted_ids(0, 20), "nothing is lost");
    bench.stop().await;
}

async fn some_of_a_bulk_refused<P: Peer>() {
    let peer = P::start().await;
    peer.set(Fault::RefusesSome);
    let bench = Bench::start(peer.config());
    let offer = bench.offer(records(0, 100)).await;
    assert_eq!(offer.settled().await, counts(90, 10));
    let letters = bench.dead_letters();
    let mut dead: Vec<_> = letters.iter().map(|letter| letter["record"]["Id"].as_str().unwrap()).collect();
    dead.sort_unstable();
    assert_eq!(dead, ["17", "27", "37", "47", "57", "67", "7", "77", "87", "97"]);
    assert!(letters.iter().all(|letter| letter["answer"].as_str().unwrap().contains("sink `peer`")));
    let mut ids = peer.ids();
    let all = ids.len();
    ids.dedup();
    assert_eq!((ids.len(), all), (90, 90), "its neighbours are there, and once");
    bench.stop().await;
}

async fn all_refused<P: Peer>() {
    let peer = P::start().await;
    peer.set(Fault::RefusesAll);
    let mut config = peer.config();
    config.batch.concurrency = 1;
    let bench = Bench::start(config);
    let first = bench.offer(records(0, 30)).await;
    assert_eq!(first.settled().await, counts(0, 30), "one batch may be bad by itself");
    let second = bench.offer(records(100, 30)).await;
    bench.until_health(false).await;
    let third = bench.offer(records(200, 30)).await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(!second.is_settled() && !third.is_settled());
    assert_eq!(bench.dead_letters().len(), 30, "a peer that refuses everything does not fill the dead letters");
    peer.mend();
    assert_eq!((second.settled().await, third.settled().await), (counts(30, 0), counts(30, 0)));
    bench.until_health(true).await;
    assert_eq!(peer.ids().len(), 60);
    bench.stop().await;
}

async fn wrong_credentials<P: Peer>() {
    let peer = P::start().await;
    peer.set(Fault::WrongCredentials);
    let bench = Bench::start(peer.config());
    let offer = bench.offer(records(0, 500)).await;
    bench.until_health(false).await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(!offer.is_settled() && peer.taken().is_empty() && bench.dead_letters().is_empty());
    peer.mend();
    assert_eq!(offer.settled().await, counts(500, 0));
    bench.until_health(true).await;
    assert_eq!(peer.ids(), sorted_ids(0, 500));
    bench.stop().await;
}

async fn slow_peer<P: Peer>() {
    let peer = P::start().await;
    peer.set(Fault::Slow(Duration::from_millis(250)));
    let config = peer.config();
    let most = i64::try_from(config.batch.concurrency).unwrap();
    let bench = Bench::start(config);
    let offer = bench.offer(records(0, 3000)).await;
    while !offer.is_settled() {
        let in_flight = bench.metrics.sink_in_flight.with_label_values(&["peer"]).get();
        assert!(in_flight <= most, "{in_flight} at once");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(offer.settled().await, counts(3000, 0));
    assert_eq!(peer.ids(), sorted_ids(0, 3000), "slow is not lost, so nothing is sent twice");
    bench.stop().await;
}

/// The real program, from its configuration file.
async fn drained_on_sigterm<P: Peer>() {
    let peer = P::start().await;
    peer.set(Fault::Slow(Duration::from_millis(300)));
    let world = world(WorldConfig::new().records(3000).days(1).speed(20.0)).await;
    let place = Place::new();
    let collect = "collect: { requests_per_minute: 100000, poll_interval: 5s, backfill: 2d }";
    place.write_config(&world, &peer.written(), collect);
    let mut process = place.start(&[], &[]);
    let deadline = Instant::now() + LIMIT;
    while peer.taken().len() < 200 {
        assert!(Instant::now() < deadline, "{}", place.log_tail());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    process.terminate();
    let status = process.wait(Duration::from_secs(20)).await.expect("ends within 20 s");
    assert_eq!(status.code(), Some(0), "{}", place.log_tail());
    peer.mend();
    let ended = place.run_once(Duration::from_secs(60)).await;
    assert_eq!(ended.code(), Some(0), "{}", place.log_tail());
    let arrived = peer.taken().into_iter().map(|record| canonical_hash(record.to_string().as_bytes()));
    let found = compare(&served(&world), arrived);
    assert!(found.arrived > 1000, "{found:?}");
    assert_eq!((found.lost, found.duplicates, found.foreign), (0, 0, 0), "{found:?}");
}

async fn acknowledged_once_and_only_after_the_yes<P: Peer>() {
    let peer = P::start().await;
    peer.set(Fault::Slow(Duration::from_millis(600)));
    let bench = Bench::start(peer.config());
    let offer = bench.offer(records(0, 100)).await;
    let deadline = Instant::now() + LIMIT;
    while peer.taken().is_empty() {
        assert!(Instant::now() < deadline);
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    assert!(!offer.is_settled() && bench.events("delivered") == 0, "acknowledged before the peer's yes");
    assert_eq!(offer.settled().await, counts(100, 0));
    peer.mend();
    // What is acknowledged is not sent again, and not acknowledged again.
    let again = bench.offer(records(0, 100)).await;
    again.settled().await;
    let metrics = Arc::clone(&bench.metrics);
    bench.stop().await;
    assert_eq!(metrics.sink_events.with_label_values(&["peer", "delivered"]).get(), 100);
    assert_eq!(peer.ids(), sorted_ids(0, 100));
}

fn ends_with_a_seven(event: &str) -> bool {
    event.contains("7\",")
}

impl Peer for FakeHec {
    async fn start() -> FakeHec {
        FakeHec::start_with(Options { keep_bodies: true, ..Options::default() }).await
    }

    fn kind(&self) -> SinkKind {
        hec_kind(&self.url(), SecretSource::Value("token".into()))
    }

    fn written(&self) -> String {
        format!(
            "  - {{ name: peer, type: splunk_hec, url: {:?}, token: token, batch: {{ max_events: 100 }} }}\n",
            self.url()
        )
    }

    fn set(&self, fault: Fault) {
        self.set(|knobs| match fault {
            Fault::Throttled(times, seconds) => {
                (knobs.throttle, knobs.retry_after) = (times, Some(seconds.to_string()));
            }
            Fault::Unavailable(times) => knobs.busy = times,
            Fault::Cut(times) => knobs.cut = times,
            Fault::AnswerLost(times) => knobs.hang_up = times,
            Fault::RefusesSome => knobs.refuse = Some(Arc::new(|offered| ends_with_a_seven(offered.event))),
            Fault::RefusesAll => knobs.refuse = Some(Arc::new(|_| true)),
            Fault::WrongCredentials => knobs.token = "another".into(),
            Fault::Slow(delay) => knobs.answer_delay = delay,
        });
    }

    fn mend(&self) {
        self.set(|knobs| *knobs = Default::default());
    }

    fn taken(&self) -> Vec<Value> {
        let events = self.received().events;
        events.iter().map(|event| serde_json::from_slice(event.body.as_ref().unwrap()).unwrap()).collect()
    }
}

impl Peer for FakeElasticsearch {
    async fn start() -> FakeElasticsearch {
        let cluster = FakeElasticsearch::start().await;
        cluster.mend();
        cluster
    }

    fn kind(&self) -> SinkKind {
        let token = SecretSource::Value("token".into());
        let login = LoginConfig::Token { scheme: auditferry::config::API_KEY, token };
        SinkKind::Elasticsearch(elasticsearch_kind(&[self.url()], "o365", login))
    }

    fn written(&self) -> String {
        format!(
            "  - {{ name: peer, type: elasticsearch, url: {:?}, index: o365, auth: {{ api_key: token }}, format: raw, batch: {{ max_events: 100 }} }}\n",
            self.url()
        )
    }

    fn set(&self, fault: Fault) {
        let too_long = ("mapper_parsing_exception", "failed to parse field [Id] of type [long]");
        self.set(|knobs| match fault {
            Fault::Throttled(times, seconds) => {
                (knobs.throttle, knobs.retry_after) = (times, Some(seconds.to_string()));
            }
            Fault::Unavailable(times) => knobs.unavailable = times,
            Fault::Cut(times) => knobs.cut = times,
            Fault::AnswerLost(times) => knobs.hang_up = times,
            Fault::RefusesSome => {
                knobs.judge = Some(Arc::new(move |_, document| {
                    let refused = document["Id"].as_str().unwrap().ends_with('7');
                    refused.then_some((400, too_long.0, too_long.1))
                }));
            }
            Fault::RefusesAll => knobs.judge = Some(Arc::new(move |_, _| Some((400, too_long.0, too_long.1)))),
            Fault::WrongCredentials => knobs.authorization = Some("ApiKey another".into()),
            Fault::Slow(delay) => knobs.answer_delay = delay,
        });
    }

    fn mend(&self) {
        self.set(|knobs| {
            *knobs = Default::default();
            knobs.authorization = Some("ApiKey token".into());
        });
    }

    fn taken(&self) -> Vec<Value> {
        self.books().documents.into_values().collect()
    }
}

/// An HTTP sink of the default encoding; the others are in `http.rs`.
pub fn http_kind(url: &str) -> HttpConfig {
    HttpConfig {
        address: HttpAddress { source: SecretSource::Value(url.to_owned().into()), is_secret: false },
        method: "POST",
        preset: None,
        encoding: HttpEncoding::Ndjson,
        body: None,
        headers: Vec::new(),
        login: LoginConfig::Token { scheme: auditferry::config::BEARER, token: SecretSource::Value("token".into()) },
        signature: None,
        gzip: true,
        success: vec![(200, 299)],
        tls: TlsConfig::default(),
        proxy: ProxyConfig::Off,
        timeout: Duration::from_secs(5),
    }
}

impl Peer for FakeWeb {
    async fn start() -> FakeWeb {
        let web = FakeWeb::start(Kind::Ndjson).await;
        web.mend();
        web
    }

    fn kind(&self) -> SinkKind {
        SinkKind::Http(http_kind(&self.url("/in?from=audit")))
    }

    fn written(&self) -> String {
        format!(
            "  - {{ name: peer, type: http, url: {:?}, auth: {{ bearer: token }}, format: raw, batch: {{ max_events: 100 }} }}\n",
            self.url("/in?from=audit")
        )
    }

    fn set(&self, fault: Fault) {
        self.set(|knobs| match fault {
            Fault::Throttled(times, seconds) => {
                (knobs.throttle, knobs.retry_after) = (times, Some(seconds.to_string()));
            }
            Fault::Unavailable(times) => knobs.busy = times,
            Fault::Cut(times) => knobs.cut = times,
            Fault::AnswerLost(times) => knobs.hang_up = times,
            Fault::RefusesSome => {
                knobs.refuse = Some(Arc::new(|event| event["Id"].as_str().unwrap().ends_with('7')));
            }
            Fault::RefusesAll => knobs.refuse = Some(Arc::new(|_| true)),
            Fault::WrongCredentials => knobs.authorization = Some("Bearer another".into()),
            Fault::Slow(delay) => knobs.answer_delay = delay,
        });
    }

    fn mend(&self) {
        self.set(|knobs| {
            *knobs = Default::default();
            knobs.authorization = Some("Bearer token".into());
        });
    }

    fn taken(&self) -> Vec<Value> {
        self.events()
    }
}
