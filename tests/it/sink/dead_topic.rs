//! Dead letters in a topic of Apache Kafka: beside the file and alone, while the brokers are away or want the topic, and when a
//! letter is larger than the topic allows.

use std::sync::Arc;
use std::time::Duration;

use auditferry::config::{DeadLettersConfig, DeadTopicConfig, KafkaConfig};
use auditferry::metrics::Metrics;
use auditferry::sink::dead_letters::{DeadLetters, LetterHead};
use serde_json::Value;

use super::kafka::kafka_config;
use super::{Bench, LIMIT, counts, hec_sink, part_of, records};
use crate::hec::FakeHec;
use crate::real::kafka::{Kafka, Read};

fn topic(kafka: &Kafka, name: &str) -> DeadTopicConfig {
    let kafka = KafkaConfig { key: "{key}".into(), ..kafka_config(kafka.address("open"), name) };
    DeadTopicConfig { sink: "bus".into(), kafka }
}

fn letter(message: &Read) -> Value {
    serde_json::from_slice(&message.value).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_letter_lies_in_the_file_and_in_the_topic() {
    let kafka = Kafka::shared();
    kafka.create_topic("dead-both", &[]).await;
    let hec = FakeHec::start().await;
    hec.set(|knobs| knobs.refuse = Some(Arc::new(|offered| offered.event.contains("7\","))));
    let dir = tempfile::tempdir().unwrap();
    let config =
        DeadLettersConfig { file: Some(dir.path().join("dead.ndjson")), topic: Some(topic(&kafka, "dead-both")) };
    let bench = Bench::start_with(dir, hec_sink(&hec), &config);
    let offer = bench.offer(records(0, 300)).await;
    assert_eq!(offer.settled().await, counts(270, 30));
    let mut filed: Vec<String> = bench.dead_letters().iter().map(ToString::to_string).collect();
    bench.stop().await;
    let read = kafka.read_all(&["dead-both"]);
    let mut sent: Vec<String> = read.iter().map(|message| letter(message).to_string()).collect();
    filed.sort();
    sent.sort();
    assert_eq!((filed.len(), &filed), (30, &sent));
    for message in &read {
        let letter = letter(message);
        assert_eq!(letter["key"], String::from_utf8_lossy(&message.key).as_ref());
        assert_eq!(message.headers["auditferry_key"], letter["key"].as_str().unwrap());
        assert_eq!(
            (message.headers["tenant"].as_str(), message.headers["source"].as_str()),
            ("contoso", "o365/Audit.Exchange")
        );
        assert!(letter["record"]["Id"].as_str().unwrap().ends_with('7') && letter["answer"].is_string());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_that_is_missing_holds_the_batch_and_takes_it_once_it_is_there() {
    let kafka = Kafka::shared();
    let hec = FakeHec::start().await;
    hec.set(|knobs| knobs.refuse = Some(Arc::new(|offered| offered.event.contains("7\","))));
    let config = DeadLettersConfig { file: None, topic: Some(topic(&kafka, "dead-later")) };
    let bench = Bench::start_with(tempfile::tempdir().unwrap(), hec_sink(&hec), &config);
    let offer = bench.offer(records(0, 100)).await;
    tokio::time::sleep(Duration::from_secs(7)).await;
    assert!(!offer.is_settled(), "nobody has the letters");
    assert_eq!(bench.metrics.dead_letters.with_label_values(&["splunk"]).get(), 0);
    kafka.create_topic("dead-later", &[]).await;
    let settled = tokio::time::timeout(LIMIT * 2, async {
        while !offer.is_settled() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    settled.await.expect("the letters are kept in time");
    assert_eq!(offer.settled().await, counts(90, 10));
    assert!(!bench.dir.path().join("dead.ndjson").exists(), "nothing touches the disk");
    bench.stop().await;
    assert_eq!(kafka.read_all(&["dead-later"]).len(), 10);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_letter_too_large_for_the_topic_goes_there_without_its_record_and_whole_into_the_file() {
    let kafka = Kafka::shared();
    kafka.create_topic("dead-narrow", &[("max.message.bytes", "20000")]).await;
    kafka.create_topic("dead-alone", &[("max.message.bytes", "20000")]).await;
    let noise: String = std::iter::repeat_with(fastrand::alphanumeric).take(60_000).collect();
    let big = format!("{{\"Id\":\"big\",\"Noise\":\"{noise}\"}}");
    for (name, beside) in [("dead-narrow", true), ("dead-alone", false)] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("dead.ndjson");
        let config = DeadLettersConfig { file: beside.then(|| path.clone()), topic: Some(topic(&kafka, name)) };
        let dead = DeadLetters::of(&config, Metrics::new()).unwrap();
        let (part, keys) = part_of([big.clone(), "{\"Id\":\"small\"}".to_owned()]);
        dead.append("splunk", [(part.event(0), "no"), (part.event(1), "no")], |_| None).await;
        // One that never was in memory as a whole.
        let head = LetterHead {
            sink: "dead_letters".into(),
            reason: "oversized",
            answer: "9 MiB".into(),
            blob: part.blob.clone(),
            key: Some(keys[0]),
            event_id: Vec::new(),
        };
        match beside {
            true => {
                let mut spool = tempfile::tempfile().unwrap();
                std::io::Write::write_all(&mut spool, big.as_bytes()).unwrap();
                dead.append_stream(head, spool, false).await;
            }
            false => dead.append_without_record(head, 9 << 20).await,
        }
        drop(dead);
        let letters: Vec<Value> = kafka.read_all(&[name]).iter().map(letter).collect();
        let of = |wanted: &dyn Fn(&Value) -> bool| letters.iter().find(|letter| wanted(letter)).unwrap();
        assert_eq!(letters.len(), 3);
        assert_eq!(of(&|letter| letter["record"]["Id"] == "small")["answer"], "no");
        let refused = of(&|letter| letter["reason"] == "refused" && letter["record"].is_null());
        let oversized = of(&|letter| letter["reason"] == "oversized");
        assert_eq!((&refused["record_bytes"], &refused["blob"]), (&Value::from(big.len()), &Value::from("blob")));
        let why = |letter: &Value| letter["record_missing"].as_str().unwrap().to_owned();
        if beside {
            assert!(why(refused).contains("`dead_letters.file`") && why(oversized).contains("`dead_letters.file`"));
            let file = std::fs::read_to_string(&path).unwrap();
            assert_eq!(file.lines().filter(|line| line.contains(&noise)).count(), 2);
        } else {
            assert!(
                why(refused).contains("max.message.bytes") && why(refused).contains("activity/feed/audit/blob"),
                "{refused}"
            );
            assert_eq!(oversized["record_bytes"], 9 << 20);
            assert!(why(oversized).contains("activity/feed/audit/blob") && !path.exists());
        }
    }
}
