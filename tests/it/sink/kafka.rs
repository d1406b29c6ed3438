//! The Kafka sink against Apache Kafka, and against librdkafka's mock cluster where errors must be
//! made to order.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use auditferry::config::{KafkaConfig, PassedThrough, SaslConfig, SinkConfig, SinkKind, StateConfig, TlsConfig};
use auditferry::metrics::Metrics;
use auditferry::secret::SecretSource;
use auditferry::sink::{EncodedBatch, SendError, ShapedSink, Sink, build};
use auditferry::state::State;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr as Answer};

use super::{Bench, LIMIT, counts, part_of, records, sink_config};
use crate::real::kafka::Kafka;

pub(super) fn kafka_config(brokers: String, topic: &str) -> KafkaConfig {
    KafkaConfig {
        brokers,
        topic: topic.into(),
        key: "{tenant}:{id}".into(),
        headers: vec![("source".into(), "o365/{content_type}".into())],
        compression: "zstd",
        sasl: None,
        tls: None,
        transactional: None,
        librdkafka: PassedThrough::default(),
    }
}

pub(super) fn sink(kafka: KafkaConfig) -> SinkConfig {
    sink_config("bus", SinkKind::Kafka(kafka))
}

pub(super) fn login(mechanism: &'static str, user: &str, password: &str) -> Option<SaslConfig> {
    Some(SaslConfig::Password { mechanism, username: user.into(), password: SecretSource::Value(password.into()) })
}

#[tokio::test(flavor = "multi_thread")]
async fn every_record_arrives_once_with_its_key_headers_and_time() {
    let kafka = Kafka::shared();
    kafka.create_topic("once.Audit.Exchange", &[]).await;
    let before = auditferry::clock::world_ms();
    let bench = Bench::start(sink(kafka_config(kafka.address("open"), "once.{content_type}")));
    let mut offers = Vec::new();
    for part in 0..10 {
        offers.push(bench.offer(records(part * 500, 500)).await);
    }
    for offer in &offers {
        assert_eq!(offer.settled().await, counts(500, 0));
    }
    let after = auditferry::clock::world_ms();
    bench.stop().await;
    let read = kafka.read_all(&["once.Audit.Exchange"]);
    let wanted: HashSet<Vec<u8>> = records(0, 5000).map(String::into_bytes).collect();
    assert_eq!(read.len(), 5000);
    assert_eq!(read.iter().map(|message| message.value.clone()).collect::<HashSet<_>>(), wanted);
    assert_eq!(read.iter().map(|message| message.partition).collect::<HashSet<_>>().len(), 3);
    for message in &read {
        assert!((before..=after).contains(&message.timestamp_ms), "{before} {} {after}", message.timestamp_ms);
        let key = &message.headers["auditferry_key"];
        assert_eq!(String::from_utf8_lossy(&message.key), format!("contoso:{key}"), "the bench's records have no Id");
        assert_eq!(
            (message.headers["tenant"].as_str(), message.headers["source"].as_str()),
            ("contoso", "o365/Audit.Exchange")
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_way_to_log_in_is_taken() {
    let kafka = Kafka::shared();
    kafka.create_topic("login", &[]).await;
    let ca = || TlsConfig { ca_file: Some(kafka.file("ca.pem")), ..TlsConfig::default() };
    let ours =
        || TlsConfig { cert_file: Some(kafka.file("client.pem")), key_file: Some(kafka.file("client.key")), ..ca() };
    let ways = [
        ("login", login("PLAIN", "alice", "alice-secret"), None),
        ("login", login("SCRAM-SHA-256", "alice", "alice-secret"), None),
        ("logintls", login("SCRAM-SHA-512", "alice", "alice-secret"), Some(ca())),
        ("certificate", None, Some(ours())),
    ];
    for (n, (listener, sasl, tls)) in ways.into_iter().enumerate() {
        let config = KafkaConfig { sasl, tls, ..kafka_config(kafka.address(listener), "login") };
        let bench = Bench::start(sink(config));
        assert_eq!(bench.offer(records(n * 10, 10)).await.settled().await, counts(10, 0), "{listener}");
        bench.stop().await;
    }
    assert_eq!(kafka.read_all(&["login"]).len(), 40);
}

/// A sink without its driver, so that its own words can be heard, and a batch for it.
pub(super) struct Bare {
    pub(super) _dir: tempfile::TempDir,
    pub(super) metrics: Arc<Metrics>,
    pub(super) sink: ShapedSink,
    pub(super) batch: EncodedBatch,
}

impl Bare {
    pub(super) fn new(kafka: KafkaConfig) -> Bare {
        let (dir, metrics, config) = (tempfile::tempdir().unwrap(), Metrics::new(), sink(kafka));
        let state = StateConfig { dir: dir.path().to_owned(), max_delivered_bytes: 1 << 20 };
        let state = State::open(&state, Arc::clone(&metrics)).unwrap();
        let id = state.sink_id("bus").unwrap();
        let sink = build(&config, id, &state, Arc::clone(&metrics)).unwrap();
        let mut bare = Bare { _dir: dir, metrics, sink, batch: EncodedBatch::default() };
        bare.batch = bare.encoded(records(0, 5));
        bare
    }

    pub(super) fn encoded(&self, records: impl IntoIterator<Item = String>) -> EncodedBatch {
        let (part, _) = part_of(records);
        let mut batch = EncodedBatch::default();
        for index in 0..part.events.len() as u32 {
            self.sink.encode(&part.event(index), &mut batch.bytes);
            batch.ends.push(batch.bytes.len());
        }
        batch
    }

    /// Sends the batch until the sink says something else than "later".
    pub(super) async fn settled(&self) -> Result<(), SendError> {
        let tries = async {
            loop {
                match self.sink.send(&self.batch).await {
                    Err(SendError::Retry { after, reason } | SendError::Slow { after, reason }) => {
                        println!("later: {reason}");
                        tokio::time::sleep(after.unwrap_or(Duration::from_millis(20))).await;
                    }
                    other => return other.map(|_| ()),
                }
            }
        };
        tokio::time::timeout(LIMIT, tries).await.expect("an answer in time")
    }

    /// The reason why everything is held.
    pub(super) async fn held(&self) -> String {
        match self.settled().await {
            Err(SendError::Fatal { reason }) => reason,
            other => panic!("{other:?}"),
        }
    }

    /// Probes until the answer is good.
    pub(super) async fn mended(&self) {
        let probes = async {
            while self.sink.probe().await.is_err() {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(LIMIT, probes).await.expect("a good answer in time");
    }

    pub(super) fn renewed(&self, reason: &str) -> u64 {
        self.metrics.kafka_renewed.with_label_values(&["bus", reason]).get()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn refused_logins_handshakes_and_rights_are_told_apart() {
    let kafka = Kafka::shared();
    kafka.create_topic("closed", &[]).await;
    let tls = |ca: &str| Some(TlsConfig { ca_file: Some(kafka.file(ca)), ..TlsConfig::default() });
    let to = |listener: &str| kafka_config(kafka.address(listener), "closed");
    let cases = [
        (
            "the password",
            KafkaConfig { sasl: login("SCRAM-SHA-256", "alice", "canary"), ..to("login") },
            "refuse our login",
        ),
        ("PLAIN", KafkaConfig { sasl: login("PLAIN", "alice", "canary"), ..to("login") }, "refuse our login"),
        ("the authority", KafkaConfig { tls: tls("other-ca.pem"), ..to("certificate") }, "no TLS with the brokers"),
        ("no certificate", KafkaConfig { tls: tls("ca.pem"), ..to("certificate") }, "no TLS with the brokers"),
        ("rights", KafkaConfig { sasl: login("SCRAM-SHA-512", "bob", "bob-secret"), ..to("login") }, "not authorised"),
    ];
    for (case, config, wanted) in cases {
        let bare = Bare::new(config);
        let reason = bare.held().await;
        println!("{case}: {reason}");
        assert!(reason.contains(wanted) && !reason.contains("canary"), "{case}: {reason}");
        assert!(bare.sink.probe().await.is_err(), "{case}: nobody has mended it");
    }
    assert!(kafka.read_all(&["closed"]).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_topic_holds_and_is_taken_up_when_it_is_made() {
    let kafka = Kafka::shared();
    let bare = Bare::new(kafka_config(kafka.address("open"), "made-later"));
    let reason = bare.held().await;
    assert!(reason.contains("the topic `made-later` does not exist"), "{reason}");
    assert!(bare.sink.probe().await.is_err());
    kafka.create_topic("made-later", &[]).await;
    bare.mended().await;
    bare.settled().await.unwrap();
    assert_eq!(kafka.read_all(&["made-later"]).len(), 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_that_was_put_right_is_read_again() {
    let kafka = Kafka::shared();
    kafka.create_topic("rotated", &[]).await;
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(&file, "wrong").unwrap();
    let password = SecretSource::File(file.path().to_owned());
    let sasl = Some(SaslConfig::Password { mechanism: "SCRAM-SHA-512", username: "alice".into(), password });
    let bare = Bare::new(KafkaConfig { sasl, ..kafka_config(kafka.address("login"), "rotated") });
    assert!(bare.held().await.contains("refuse our login"));
    std::fs::write(&file, "alice-secret\n").unwrap();
    bare.mended().await;
    bare.settled().await.unwrap();
    assert_eq!(bare.renewed("login"), 1);
    assert_eq!(kafka.read_all(&["rotated"]).len(), 5, "what the first producer held is sent by the second, once");
}

/// A record that does not compress.
pub(super) fn noise(n: usize, bytes: usize) -> String {
    let mut random = fastrand::Rng::with_seed(n as u64);
    let text: String = std::iter::repeat_with(|| random.alphanumeric()).take(bytes).collect();
    format!("{{\"Id\":\"{n}\",\"Noise\":\"{text}\"}}")
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_large_lies_in_the_dead_letters_and_its_neighbours_arrive() {
    let kafka = Kafka::shared();
    kafka.create_topic("narrow", &[("max.message.bytes", "20000")]).await;
    let librdkafka = PassedThrough(vec![("message.max.bytes".into(), "70000".into())]);
    let bench = Bench::start(sink(KafkaConfig { librdkafka, ..kafka_config(kafka.address("open"), "narrow") }));
    // Every fifth too large for the topic, one too large for ourselves.
    let size = |n: usize| {
        if n == 33 {
            80_000
        } else if n.is_multiple_of(5) {
            40_000
        } else {
            500
        }
    };
    let offer = bench.offer((0..100).map(|n| noise(n, size(n)))).await;
    assert_eq!(offer.settled().await, counts(79, 21));
    let reasons = bench.dead_letters().iter().map(|letter| letter["answer"].to_string()).collect::<HashSet<_>>();
    assert_eq!(reasons.len(), 2, "{reasons:?}");
    let named = "`max.message.bytes` of the topic `narrow` (20000 bytes)";
    assert!(reasons.iter().any(|reason| reason.contains(named)), "{reasons:?}");
    assert!(reasons.iter().any(|reason| reason.contains("70000 bytes")), "{reasons:?}");
    bench.stop().await;
    let read = kafka.read_all(&["narrow"]);
    assert_eq!(read.len(), 79);
    assert_eq!(read.into_iter().map(|message| message.value).collect::<HashSet<_>>().len(), 79);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quota_slows_us_down_and_is_counted() {
    let kafka = Kafka::shared();
    kafka.create_topic("quota", &[]).await;
    tokio::task::block_in_place(|| kafka.throttle("slow", 50_000));
    let librdkafka = PassedThrough(vec![("client.id".into(), "slow".into())]);
    let config = KafkaConfig { librdkafka, compression: "none", ..kafka_config(kafka.address("open"), "quota") };
    let bench = Bench::start(sink(config));
    let offer = bench.offer(records(0, 3000)).await;
    assert_eq!(offer.settled().await, counts(3000, 0));
    let throttled = || bench.metrics.kafka_throttled.with_label_values(&["bus"]).get();
    let counted = async {
        while throttled() == 0 {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(LIMIT, counted).await.expect("throttling is counted");
    bench.stop().await;
    assert_eq!(kafka.read_all(&["quota"]).len(), 3000);
}

/// A cluster of librdkafka's, whose answers can be made to order. It keeps no books: only verdicts are judged.
pub(super) fn mock() -> MockCluster<'static, DefaultProducerContext> {
    let cluster = MockCluster::new(1).unwrap();
    cluster.create_topic("t", 3, 1).unwrap();
    cluster
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_that_pass_are_retried_inside_the_producer() {
    let cluster = mock();
    let errors = [
        Answer::RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS,
        Answer::RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION,
        Answer::RD_KAFKA_RESP_ERR__TRANSPORT,
    ];
    cluster.request_errors(RDKafkaApiKey::Produce, &errors);
    let bare = Bare::new(kafka_config(cluster.bootstrap_servers(), "t"));
    bare.settled().await.unwrap();
    assert_eq!(bare.renewed("fatal"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_right_that_is_taken_away_and_given_back() {
    let cluster = mock();
    let bare = Bare::new(kafka_config(cluster.bootstrap_servers(), "t"));
    bare.settled().await.unwrap();
    cluster.request_errors(RDKafkaApiKey::Produce, &[Answer::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED; 3]);
    let bare = Bare::new(kafka_config(cluster.bootstrap_servers(), "t"));
    let reason = bare.held().await;
    assert!(reason.contains("not authorised for the topic `t`"), "{reason}");
    cluster.clear_request_errors(RDKafkaApiKey::Produce);
    bare.mended().await;
    bare.settled().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_producer_that_ended_fatally_is_replaced_and_the_batch_arrives() {
    let cluster = mock();
    let bare = Bare::new(kafka_config(cluster.bootstrap_servers(), "t"));
    bare.settled().await.unwrap();
    let mut bare = bare;
    bare.batch = bare.encoded(records(5, 5));
    cluster.request_errors(RDKafkaApiKey::Produce, &[Answer::RD_KAFKA_RESP_ERR_OUT_OF_ORDER_SEQUENCE_NUMBER; 8]);
    let cleared = async {
        tokio::time::sleep(Duration::from_millis(1500)).await;
        cluster.clear_request_errors(RDKafkaApiKey::Produce);
    };
    let (settled, ()) = tokio::join!(bare.settled(), cleared);
    settled.unwrap();
    assert!(bare.renewed("fatal") >= 1, "{}", bare.renewed("fatal"));
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_brokers_are_away_nothing_is_handed_over_twice() {
    let cluster = mock();
    let bare = Bare::new(kafka_config(cluster.bootstrap_servers(), "t"));
    bare.settled().await.unwrap();
    cluster.broker_down(1).unwrap();
    let bare = Bare { batch: bare.encoded(records(5, 5)), ..bare };
    let bytes = || bare.metrics.sink_bytes.with_label_values(&["bus", "identity"]).get();
    let (before, values) = (bytes(), records(5, 5).map(|record| record.len() as u64).sum::<u64>());
    for _ in 0..3 {
        let Err(SendError::Retry { reason, .. }) = bare.sink.send(&bare.batch).await else { panic!("taken") };
        assert!(reason.contains("5 messages wait inside librdkafka"), "{reason}");
    }
    assert_eq!(bytes() - before, values, "handed over once, waited for three times");
    assert!(bare.sink.probe().await.is_err());
    cluster.broker_up(1).unwrap();
    bare.settled().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_for_a_missing_topic_does_not_hold_its_neighbours_and_a_whole_batch_is_held() {
    let cluster = mock();
    cluster.create_topic("t.there", 1, 1).unwrap();
    for missing in ["t.gone", "t.none"] {
        cluster.topic_error(missing, Answer::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART).unwrap();
    }
    let record = |n: usize, operation: &str| format!("{{\"Id\":\"{n}\",\"Operation\":\"{operation}\"}}");
    let bench = Bench::start(sink(kafka_config(cluster.bootstrap_servers(), "t.{operation}")));
    let mixed = (0..20).map(|n| match n {
        3 => record(n, ""),
        7 | 8 => record(n, "gone"),
        _ => record(n, "there"),
    });
    assert_eq!(bench.offer(mixed).await.settled().await, counts(17, 3));
    let answers: Vec<_> = bench.dead_letters().iter().map(|letter| letter["answer"].to_string()).collect();
    let named = |topic: &str| answers.iter().filter(|answer| answer.contains(topic)).count();
    assert_eq!((named("`t.none` does not exist"), named("`t.gone` does not exist")), (1, 2), "{answers:?}");
    assert!(*bench.driver.health().borrow());
    let whole = bench.offer((30..50).map(|n| record(n, "gone"))).await;
    bench.until_health(false).await;
    assert!(!whole.is_settled());
    assert_eq!(bench.dead_letters().len(), 3);
}
