//! Refusals: whatever a broker refuses us for, the log names the cause, the feed holds, nothing drains into the dead letters;
//! and once it is mended everything arrives, once. Apache Kafka itself behind the whole process.

use std::time::{Duration, Instant};

use auditferry::simulator::WorldConfig;

use crate::hec::canonical_hash;
use crate::real::kafka::Kafka;
use crate::support::{Place, compare, figure, served, size, world};

/// How long a cause may take to be named, and what was held to arrive.
const LIMIT: Duration = Duration::from_secs(60);
/// What is watched for something that should not happen.
const HELD: Duration = Duration::from_secs(3);

struct Case {
    name: &'static str,
    /// Words of the cause.
    named: &'static [&'static str],
    /// The sink's listener and settings; and what is put right in them.
    wrong: (&'static str, String),
    right: (&'static str, String),
    /// The topic is made later.
    without_topic: bool,
}

fn login(user: &str, password: &str) -> String {
    format!("sasl: {{ mechanism: SCRAM-SHA-512, username: {user}, password: {password} }}")
}

fn cases(kafka: &Kafka) -> Vec<Case> {
    let alice = || login("alice", "alice-secret");
    let over_tls = |ca: &str| format!("{}, tls: {{ ca_file: {:?} }}", alice(), kafka.file(ca));
    let tls = |ca: &str| format!("tls: {{ ca_file: {:?} }}", kafka.file(ca));
    let right_tls = || ("logintls", over_tls("ca.pem"));
    vec![
        Case {
            name: "password",
            named: &["refuse our login", "sasl.password"],
            wrong: ("login", login("alice", "canary-wrong")),
            right: ("login", alice()),
            without_topic: false,
        },
        Case {
            name: "authority",
            named: &["no TLS with the brokers", "UnknownIssuer"],
            wrong: ("logintls", over_tls("other-ca.pem")),
            right: right_tls(),
            without_topic: false,
        },
        Case {
            name: "expired",
            named: &["no TLS with the brokers", "expired"],
            wrong: ("expired", tls("ca.pem")),
            right: right_tls(),
            without_topic: false,
        },
        Case {
            name: "host",
            named: &["no TLS with the brokers", "not valid for name", "elsewhere.example"],
            wrong: ("elsewhere", tls("ca.pem")),
            right: right_tls(),
            without_topic: false,
        },
        Case {
            name: "missing",
            named: &["the topic `refused-missing` does not exist"],
            wrong: ("open", String::new()),
            right: ("open", String::new()),
            without_topic: true,
        },
        Case {
            name: "forbidden",
            // Without any right to write it is refused before the topic is asked for.
            named: &["we are not authorised to write"],
            wrong: ("login", login("bob", "bob-secret")),
            right: ("login", alice()),
            without_topic: false,
        },
    ]
}

fn sink(kafka: &Kafka, topic: &str, (listener, settings): &(&'static str, String)) -> String {
    let settings = if settings.is_empty() { String::new() } else { format!(", {settings}") };
    format!(
        "  - {{ name: bus, type: kafka, brokers: {:?}, topic: {topic}, format: raw, retry: {{ initial: 200ms, max: 2s }}{settings} }}\n",
        kafka.address(listener)
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refusals() {
    let kafka = Kafka::shared();
    for case in cases(&kafka) {
        let topic = format!("refused-{}", case.name);
        if !case.without_topic {
            kafka.create_topic(&topic, &[]).await;
        }
        let world = world(WorldConfig::new().records(size(300, 3000)).records_per_blob(50).days(1)).await;
        let place = Place::new();
        place.write_config(&world, &sink(&kafka, &topic, &case.wrong), "");
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
        assert!(metrics.contains("auditferry_sink_circuit_open{sink=\"bus\"} 1"), "{}: health is told", case.name);
        let dead = std::fs::read(place.state_dir().join("dead.ndjson")).unwrap();
        assert!(dead.is_empty(), "{}: {}", case.name, String::from_utf8_lossy(&dead));
        assert!(!place.log().contains("canary-wrong"), "{}", case.name);
        let warned = place.log().matches("the idempotent producer ended").count();
        assert!(warned == 0, "{}: said {warned} times\n{}", case.name, place.log_tail());
        let said = place.log().matches("the sink refuses everything").count();
        assert_eq!(said, 1, "{}: said once\n{}", case.name, place.log_tail());

        if case.without_topic {
            kafka.create_topic(&topic, &[]).await;
        } else {
            assert_eq!(tokio::task::block_in_place(|| kafka.count(&[&topic])), 0, "{}", case.name);
            place.write_config(&world, &sink(&kafka, &topic, &case.right), "");
            process.hang_up();
        }
        let (truth, began) = (served(&world), Instant::now());
        while (tokio::task::block_in_place(|| kafka.count(&[&topic])) as usize) < size(300, 3000) {
            assert!(began.elapsed() < LIMIT && process.ended().is_none(), "{}: {}", case.name, place.log_tail());
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let mended = began.elapsed();
        process.terminate();
        assert_eq!(process.wait(Duration::from_secs(20)).await.and_then(|status| status.code()), Some(0));
        let read = tokio::task::block_in_place(|| kafka.read_all(&[&topic]));
        let found = compare(&truth, read.iter().map(|message| canonical_hash(&message.value)));
        assert_eq!((found.lost, found.duplicates, found.foreign), (0, 0, 0), "{}", case.name);
        figure(
            "refusals",
            format_args!(
                "kafka, {}: named after {named:.1?}, {} records, mended after {mended:.1?}",
                case.name, found.arrived
            ),
        );
    }
}
