//! Refusals: whatever a server refuses us for, the log names the cause, the feed holds, nothing drains into the dead letters;
//! and once it is mended everything arrives, once. Apache Kafka and OpenSearch with its security plugin behind the whole process.

mod broker;
mod cluster;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use auditferry::simulator::WorldConfig;
use reqwest::Method;
use serde_json::json;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::hec::canonical_hash;
use crate::real::kafka::Kafka;
use crate::real::opensearch::OpenSearch;
use crate::support::{Hash, Place, compare, figure, served, size, world};

/// How long a cause may take to be named, and what was held to arrive.
const LIMIT: Duration = Duration::from_secs(60);
/// What is watched for something that should not happen.
const HELD: Duration = Duration::from_secs(3);
/// How it is said that nothing is taken: refused by word, by most answers to documents, or before a word could be had.
const SAID: [&str; 3] =
    ["the sink refuses everything", "the sink refuses most events", "the sink does not take data; it is tried again"];
/// Stands in a sink's settings for where it writes.
const TARGET: &str = "@target@";
/// Cases at once: most of a case is waiting.
const AT_ONCE: usize = 4;
/// No password that anybody has.
const CANARY: &str = "canary-wrong";

struct Case {
    name: &'static str,
    /// Words of the cause.
    named: &'static [&'static str],
    /// The topic or index.
    target: &'static str,
    /// The sink as it is refused; [`TARGET`] stands for the target.
    wrong: String,
    mend: Mend,
}

/// How it is put right.
enum Mend {
    /// By another configuration, and SIGHUP.
    Sink(String),
    /// The target is made, which is not there before.
    Make,
    /// The broker lets carol write to the target.
    Allow,
}

/// Whose refusals they are.
enum Server {
    Kafka(Arc<Kafka>),
    Search(OpenSearch),
}

impl Server {
    fn name(&self) -> &'static str {
        match self {
            Server::Kafka(_) => "kafka",
            Server::Search(_) => "opensearch",
        }
    }

    /// Before the case: an index comes to be with its first document.
    async fn prepare(&self, case: &Case) {
        match self {
            Server::Kafka(kafka) if !matches!(case.mend, Mend::Make) => kafka.create_topic(case.target, &[]).await,
            Server::Kafka(_) | Server::Search(_) => {}
        }
    }

    /// What the target holds: the hashes of its records.
    async fn records(&self, target: &str) -> Vec<Hash> {
        match self {
            Server::Kafka(kafka) => {
                let read = tokio::task::block_in_place(|| kafka.read_committed(&[target]));
                read.iter().map(|message| canonical_hash(&message.value)).collect()
            }
            Server::Search(engine) => {
                let documents = engine.documents(&target.replace("{day}", "*")).await;
                documents.iter().map(|(_, source)| canonical_hash(source.to_string().as_bytes())).collect()
            }
        }
    }
}

fn tls(ca: &Path) -> String {
    format!("tls: {{ ca_file: {ca:?} }}")
}

/// The configuration of the sink, and what it writes to.
fn sinks(sink: &str, target: &str) -> String {
    let sink = sink.replace(TARGET, target);
    format!("  - {{ name: out, format: raw, retry: {{ initial: 200ms, max: 2s }}, {sink} }}\n")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refusals() {
    let kafka = Kafka::shared();
    let prefixed = ["--resource-pattern-type", "prefixed"];
    let topics = |prefix| [&["--topic", prefix], prefixed.as_slice()].concat();
    tokio::task::block_in_place(|| {
        kafka.allow("carol", &["Read", "Write", "Describe", "DescribeConfigs"], &topics("allowed-"));
        kafka.allow("carol", &["Describe"], &topics("visible-"));
        let ids = [&["--transactional-id", "allowed-"], prefixed.as_slice()].concat();
        kafka.allow("carol", &["Write", "Describe"], &ids);
    });
    for topic in broker::CHECKPOINTS {
        kafka.create_topic(topic, &[("retention.ms", "777600000")]).await;
    }
    let cases = broker::cases(&kafka);
    all(Server::Kafka(kafka), cases).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refusals_of_a_secured_cluster() {
    let engine = OpenSearch::start_secured().await;
    // Records of all kinds, as they come: no field is to be in another's way.
    let template = json!({ "index_patterns": ["refused-*"], "template": { "mappings": { "dynamic": false } } });
    engine.ask(Method::PUT, "/_index_template/refused", template.to_string()).await;
    cluster::set_up_and_run(&engine).await;
    let cases = cluster::cases(&engine);
    all(Server::Search(engine), cases).await;
}

async fn all(server: Server, cases: Vec<Case>) {
    let (server, at_once, mut running) = (Arc::new(server), Arc::new(Semaphore::new(AT_ONCE)), JoinSet::new());
    for case in cases {
        let (server, at_once) = (Arc::clone(&server), Arc::clone(&at_once));
        running.spawn(async move {
            let _turn = at_once.acquire().await.unwrap();
            refused_then_mended(&server, case).await;
        });
    }
    running.join_all().await;
}

async fn refused_then_mended(server: &Server, case: Case) {
    server.prepare(&case).await;
    let world = world(WorldConfig::new().records(size(300, 3000)).records_per_blob(50).days(1)).await;
    let place = Place::new();
    place.write_config(&world, &sinks(&case.wrong, case.target), "");
    let mut process = place.start(&[], &[]);
    let began = Instant::now();
    let is_named = |log: &str| case.named.iter().all(|words| log.contains(words));
    while !is_named(&place.log()) {
        let (log, gone) = (place.log_tail(), process.ended());
        assert!(began.elapsed() < LIMIT && gone.is_none(), "{}: {gone:?}\n{log}", case.name);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let named = began.elapsed();
    tokio::time::sleep(HELD).await;
    let admin = process.admin().await.unwrap();
    let metrics = reqwest::get(format!("http://{admin}/metrics")).await.unwrap().text().await.unwrap();
    assert!(metrics.contains("auditferry_sink_circuit_open{sink=\"out\"} 1"), "{}: health is told", case.name);
    let dead = std::fs::read(place.state_dir().join("dead.ndjson")).unwrap();
    assert!(dead.is_empty(), "{}: {}", case.name, String::from_utf8_lossy(&dead));
    let log = place.log();
    for secret in [CANARY, "alice-secret", "bob-secret", "carol-secret", "ferry-secret", "stranger-secret"] {
        assert!(!log.contains(secret), "{}: `{secret}` is shown", case.name);
    }
    let warned = log.matches("the idempotent producer ended").count();
    assert!(warned == 0, "{}: said {warned} times\n{}", case.name, place.log_tail());
    let said: usize = SAID.iter().map(|words| log.matches(words).count()).sum();
    // Of a topic that is missing librdkafka says nothing for 5 s; before that many batches have waited in vain, which is said.
    let most = 1 + usize::from(matches!(case.mend, Mend::Make));
    assert!((1..=most).contains(&said), "{}: said {said} times\n{}", case.name, place.log_tail());
    let cause = log.lines().rfind(|line| SAID.iter().any(|words| line.contains(words))).unwrap();
    assert!(is_named(cause), "{}: {cause}", case.name);

    if !matches!(case.mend, Mend::Make) {
        assert!(server.records(case.target).await.is_empty(), "{}", case.name);
    }
    match (&case.mend, server) {
        (Mend::Sink(right), _) => {
            place.write_config(&world, &sinks(right, case.target), "");
            process.hang_up();
        }
        (Mend::Make, Server::Kafka(kafka)) => kafka.create_topic(case.target, &[]).await,
        (Mend::Allow, Server::Kafka(kafka)) => tokio::task::block_in_place(|| {
            kafka.allow("carol", &["Write", "Describe"], &["--topic", case.target]);
        }),
        (_, Server::Search(_)) => unreachable!(),
    }
    let (truth, began) = (served(&world), Instant::now());
    while server.records(case.target).await.len() < size(300, 3000) {
        assert!(began.elapsed() < LIMIT && process.ended().is_none(), "{}: {}", case.name, place.log_tail());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let mended = began.elapsed();
    process.terminate();
    assert_eq!(process.wait(Duration::from_secs(20)).await.and_then(|status| status.code()), Some(0));
    let found = compare(&truth, server.records(case.target).await);
    assert_eq!((found.lost, found.duplicates, found.foreign), (0, 0, 0), "{}", case.name);
    figure(
        "refusals",
        format_args!(
            "{}, {}: named after {named:.1?}, {} records, mended after {mended:.1?}",
            server.name(),
            case.name,
            found.arrived
        ),
    );
}
