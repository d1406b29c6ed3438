//! Tokens for brokers: Apache Kafka with a listener that believes what the tests' own endpoint signs, and wants a new token
//! every few seconds.

use std::time::{Duration, Instant};

use auditferry::config::{CredentialConfig, KafkaConfig, ProxyConfig, SaslConfig, SinkKind, TlsConfig, TokenConfig};
use auditferry::secret::SecretSource;
use auditferry::simulator::WorldConfig;
use auditferry::sink::Sink;

use super::kafka::{Bare, kafka_config};
use super::kafka_transactional::transactional;
use super::{Bench, counts, records, sink_config};
use crate::real::kafka::Kafka;
use crate::support::{Place, compare, served, world};
use crate::token::FakeTokens;

fn by_token(kafka: &Kafka, topic: &str, tokens: &FakeTokens, secret: SecretSource) -> KafkaConfig {
    let token = TokenConfig {
        login: tokens.url().parse().unwrap(),
        tenant_id: "directory".into(),
        client_id: format!("client-of-{topic}"),
        credential: CredentialConfig::ClientSecret { secret, expires: None },
        scope: "https://namespace.example/.default".into(),
        endpoint: None,
        tls: TlsConfig { with_platform: true, ..TlsConfig::default() },
        proxy: ProxyConfig::Off,
    };
    KafkaConfig { sasl: Some(SaslConfig::Token(Box::new(token))), ..kafka_config(kafka.address("token"), topic) }
}

fn right() -> SecretSource {
    SecretSource::Value("right".into())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_is_renewed_while_records_flow_and_no_connection_notices() {
    let kafka = Kafka::shared();
    kafka.create_topic("by-token", &[]).await;
    let tokens = FakeTokens::start(&kafka.signer).await;
    tokens.set(|knobs| (knobs.lives, knobs.said) = (8, 8));
    let bench = Bench::start(sink_config("bus", SinkKind::Kafka(by_token(&kafka, "by-token", &tokens, right()))));
    let (began, mut sent) = (Instant::now(), 0);
    while began.elapsed() < Duration::from_secs(20) {
        assert_eq!(bench.offer(records(sent, 20)).await.settled().await, counts(20, 0));
        sent += 20;
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let (path, form) = tokens.asked().remove(0);
    assert_eq!(path, "/directory/oauth2/v2.0/token");
    assert!(form.contains("scope=https%3A%2F%2Fnamespace.example%2F.default"), "{form}");
    let issued = tokens.issued().len();
    assert!((3..=8).contains(&issued), "{issued} tokens in {:?}", began.elapsed());
    assert_eq!(bench.metrics.kafka_renewed.total(), 0, "by the same producer");
    assert!(bench.dead_letters().is_empty());
    bench.stop().await;
    assert_eq!(kafka.read_all(&["by-token"]).len(), sent);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_that_the_brokers_refuse_holds_everything_until_a_better_one_is_had() {
    let kafka = Kafka::shared();
    for (topic, forged) in [("token-forged", true), ("token-ended", false)] {
        kafka.create_topic(topic, &[]).await;
        let tokens = FakeTokens::start(&kafka.signer).await;
        tokens.set(|knobs| (knobs.forged, knobs.lives) = (forged, if forged { 3600 } else { -60 }));
        let bare = Bare::new(by_token(&kafka, topic, &tokens, right()));
        let reason = bare.held().await;
        println!("{topic}: {reason}");
        assert!(reason.contains("the brokers refuse our token"), "{reason}");
        assert!(tokens.issued().iter().all(|token| !reason.contains(token.as_str())), "{reason}");
        assert!(bare.sink.probe().await.is_err(), "nobody has mended it");
        tokens.set(|knobs| (knobs.forged, knobs.lives) = (false, 3600));
        bare.mended().await;
        bare.settled().await.unwrap();
        assert_eq!(kafka.read_all(&[topic]).len(), 5);
        assert!(tokens.issued().len() < 10, "{} tokens", tokens.issued().len());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_there_is_no_token_the_message_says_what_the_endpoint_says() {
    let kafka = Kafka::shared();
    kafka.create_topic("token-none", &[]).await;
    let tokens = FakeTokens::start(&kafka.signer).await;
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(&file, "wrong-canary").unwrap();
    let bare = Bare::new(by_token(&kafka, "token-none", &tokens, SecretSource::File(file.path().to_owned())));
    let reason = bare.held().await;
    println!("{reason}");
    assert!(reason.contains("there is no token") && reason.contains("AADSTS7000215"), "{reason}");
    assert!(!reason.contains("canary"), "{reason}");
    std::fs::write(&file, "right").unwrap();
    bare.mended().await;
    bare.settled().await.unwrap();
    assert_eq!(kafka.read_all(&["token-none"]).len(), 5);
}

/// The whole process, with an endpoint that is not Entra's, and everything that it says.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_token_and_no_secret_is_in_the_log_at_trace() {
    let kafka = Kafka::shared();
    kafka.create_topic("token-run", &[]).await;
    let tokens = FakeTokens::start(&kafka.signer).await;
    tokens.set(|knobs| (knobs.secret, knobs.lives, knobs.said) = ("canary-secret-of-the-endpoint".into(), 6, 6));
    let world = world(WorldConfig::new().records(500).records_per_blob(100).days(1)).await;
    let place = Place::new();
    let sink = format!(
        "  - {{ name: bus, type: kafka, brokers: {:?}, topic: token-run, format: raw, sasl: {{ mechanism: OAUTHBEARER, token: {{ oidc: {{ token_url: {:?}, client_id: us, client_secret: canary-secret-of-the-endpoint, scope: write }} }} }} }}\n",
        kafka.address("token"),
        format!("{}token", tokens.url()),
    );
    place.write_config(&world, &sink, "");
    let mut process = place.start(&["--once", "--once-timeout", "60s"], &[("AUDITFERRY_LOG", "trace")]);
    let ended = process.wait(Duration::from_secs(90)).await;
    assert_eq!(ended.and_then(|ended| ended.code()), Some(0), "{}", place.log_tail());
    let read = kafka.read_all(&["token-run"]);
    let found = compare(&served(&world), read.iter().map(|message| crate::hec::canonical_hash(&message.value)));
    assert_eq!((found.lost, found.duplicates), (0, 0));
    let log = place.log();
    let issued = tokens.issued();
    assert!(!issued.is_empty() && log.contains("librdkafka"), "{} tokens", issued.len());
    for secret in issued.iter().map(String::as_str).chain(["canary-secret-of-the-endpoint"]) {
        assert!(!log.contains(secret), "{secret}");
    }
    assert!(tokens.asked()[0].1.contains("scope=write"));
}

/// Settings of a topic that keeps checkpoints long enough: with a login by token we cannot make it.
const KEPT: [(&str, &str); 2] = [("cleanup.policy", "delete"), ("retention.ms", "777600000")];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn transactions_and_what_is_read_back_for_them_log_in_by_token_too() {
    let kafka = Kafka::shared();
    kafka.create_topic("token-exact", &[]).await;
    kafka.create_topic("checkpoint-token-exact", &KEPT).await;
    let tokens = FakeTokens::start(&kafka.signer).await;
    let config = || transactional("token-exact", by_token(&kafka, "token-exact", &tokens, right()));
    for life in 0..2 {
        // Each life has a new directory: what it knows, it has from the checkpoints.
        let bench = Bench::start(sink_config("bus", SinkKind::Kafka(config())));
        for part in 0..4 {
            let offer = bench.offer(records(part * 100, 100)).await;
            let settled = offer.settled().await;
            assert_eq!((settled.delivered + settled.duplicate, settled.rejected), (100, 0), "life {life}");
        }
        assert!(bench.dead_letters().is_empty());
        bench.stop().await;
        assert_eq!(kafka.read_committed(&["token-exact"]).len(), 400, "life {life}");
    }
    let issued = tokens.issued().len();
    assert!((1..=4).contains(&issued), "{issued}: for each life, not for each client");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transactional_sink_names_the_topic_that_it_cannot_make_with_a_token() {
    let kafka = Kafka::shared();
    kafka.create_topic("token-held", &[]).await;
    let tokens = FakeTokens::start(&kafka.signer).await;
    let bare = Bare::new(transactional("token-held", by_token(&kafka, "token-held", &tokens, right())));
    let reason = bare.held().await;
    assert!(tokens.issued().iter().all(|token| !reason.contains(token.as_str())), "{reason}");
    let wanted =
        "`checkpoint-token-held` is missing, and cannot be made with a login by token; make it: kafka-topics.sh";
    assert!(reason.contains(wanted), "{reason}");
    kafka.create_topic("checkpoint-token-held", &KEPT).await;
    bare.settled().await.unwrap();
    assert_eq!(kafka.read_committed(&["token-held"]).len(), 5);
}

/// State, checkpoints and dead letters of a process without a disk, all behind one login.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_disk_everything_is_read_back_by_token() {
    let kafka = Kafka::shared();
    for (topic, settings) in [
        ("token-disk", [].as_slice()),
        ("token-disk-dead", &[]),
        ("token-disk-checkpoint", &KEPT),
        ("token-disk-state", &[("cleanup.policy", "compact")]),
    ] {
        kafka.create_topic(topic, settings).await;
    }
    let tokens = FakeTokens::start(&kafka.signer).await;
    let (world, place) = (world(WorldConfig::new().records(500).records_per_blob(100).days(1)).await, Place::new());
    let sink = format!(
        "  - {{ name: bus, type: kafka, brokers: {:?}, topic: token-disk, format: raw, transactional: true, checkpoint_topic: token-disk-checkpoint, sasl: {{ mechanism: OAUTHBEARER, token: {{ oidc: {{ token_url: {:?}, client_id: us, client_secret: right }} }} }} }}\n",
        kafka.address("token"),
        format!("{}token", tokens.url()),
    );
    place.write_config(&world, &sink, "dead_letters: { kafka: { topic: token-disk-dead } }");
    let text = std::fs::read_to_string(place.config()).unwrap();
    let dir = format!("state: {{ dir: {:?} }}", place.state_dir());
    place.write_text(&text.replace(&dir, "state: { kafka: { topic: token-disk-state } }"));
    for life in 0..2 {
        let ended = place.run_once(Duration::from_secs(90)).await;
        assert_eq!(ended.code(), Some(0), "life {life}: {}", place.log_tail());
        let read = kafka.read_committed(&["token-disk"]);
        let found = compare(&served(&world), read.iter().map(|message| crate::hec::canonical_hash(&message.value)));
        assert_eq!((found.lost, found.duplicates), (0, 0), "life {life}");
    }
    let ask = |arguments: &[&str]| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_auditferry"));
        let output = command.args(arguments).arg("-c").arg(place.config()).output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let shown: serde_json::Value = serde_json::from_str(&ask(&["state", "show", "--json"])).unwrap();
    assert!(shown["feeds"].as_array().is_some_and(|feeds| !feeds.is_empty()), "{shown}");
    ask(&["replay", "--from", "topic", "--dry-run"]);
}
