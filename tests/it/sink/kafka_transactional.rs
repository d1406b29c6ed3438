//! The transactional Kafka sink against Apache Kafka, with errors ordered around each call of the protocol,
//! and against librdkafka's mock cluster where the brokers' answers must be made to order.

use std::collections::HashSet;

use auditferry::config::{KafkaConfig, PassedThrough, TransactionalConfig};
use auditferry::failpoint::arm;
use auditferry::sink::{SendError, Sink};
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr as Answer};

use super::kafka::{Bare, kafka_config, login, mock, noise, sink};
use super::{Bench, counts, records};
use crate::real::kafka::Kafka;

/// Each test has an id and a checkpoint topic of its own.
pub(super) fn transactional(name: &str, config: KafkaConfig) -> KafkaConfig {
    let checkpoint_topic = format!("checkpoint-{name}");
    KafkaConfig { transactional: Some(TransactionalConfig { id: name.into(), checkpoint_topic }), ..config }
}

fn values(kafka: &Kafka, topic: &str) -> Vec<Vec<u8>> {
    kafka.read_committed(&[topic]).into_iter().map(|message| message.value).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_brokers_have_is_not_sent_again_whatever_became_of_the_state() {
    let kafka = Kafka::shared();
    kafka.create_topic("txn-once", &[]).await;
    let config = || sink(transactional("once", kafka_config(kafka.address("open"), "txn-once")));
    for life in 0..2 {
        // Each life has a new directory: it knows nothing but what the brokers tell.
        let bench = Bench::start(config());
        let mut offers = Vec::new();
        for part in 0..10 {
            offers.push(bench.offer(records(part * 500, 500)).await);
        }
        for offer in &offers {
            assert_eq!(offer.settled().await, counts(500, 0), "life {life}");
        }
        bench.stop().await;
        assert_eq!(kafka.read_committed(&["txn-once"]).len(), 5_000, "life {life}");
    }
    let read = kafka.read_committed(&["txn-once"]);
    let wanted: HashSet<Vec<u8>> = records(0, 5_000).map(String::into_bytes).collect();
    assert_eq!(read.iter().map(|message| message.value.clone()).collect::<HashSet<_>>(), wanted);
    assert!(read.iter().all(|message| message.headers["auditferry_key"].len() == 32));
    let checkpoints = kafka.read_committed(&["checkpoint-once"]);
    let (owners, keys): (Vec<_>, Vec<_>) = checkpoints.iter().partition(|message| message.key == b"@owner");
    assert_eq!(owners.len(), 2, "one for each life");
    assert!(keys.iter().all(|message| message.key == b"6f1c/Audit.Exchange"), "parted by feed");
    assert_eq!(keys.iter().map(|message| message.partition).collect::<HashSet<_>>().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_writes_is_named_in_one_row_whatever_the_partitioner() {
    let kafka = Kafka::shared();
    kafka.create_topic("txn-random", &[]).await;
    let librdkafka = PassedThrough(vec![("partitioner".into(), "random".into())]);
    let config = || KafkaConfig { librdkafka: librdkafka.clone(), ..kafka_config(kafka.address("open"), "txn-random") };
    for life in 0..4 {
        let bench = Bench::start(sink(transactional("random", config())));
        assert_eq!(bench.offer(records(life * 10, 10)).await.settled().await, counts(10, 0));
        bench.stop().await;
    }
    let checkpoints = kafka.read_committed(&["checkpoint-random"]);
    let owners: Vec<i32> = checkpoints.iter().filter(|one| one.key == b"@owner").map(|one| one.partition).collect();
    assert_eq!(owners, [0; 4], "the last one tells only where all are in one partition");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_before_or_after_each_call_neither_loses_nor_doubles() {
    let kafka = Kafka::shared();
    kafka.create_topic("txn-errors", &[]).await;
    let mut count = 0;
    for call in ["init", "begin", "produce", "commit"] {
        for side in ["before", "after"] {
            let id = format!("errors-{call}-{side}");
            let mut config = transactional(&id, kafka_config(kafka.address("open"), "txn-errors"));
            // One topic for all, as deployments may share it.
            config.transactional.as_mut().unwrap().checkpoint_topic = "checkpoint-errors".into();
            let mut bare = Bare::new(config);
            for n in 0..4 {
                // First where the producer takes over, then in a transaction of records.
                if n % 2 == 0 {
                    arm(&format!("{call}.{side}"), &id);
                    // The abort that may follow fails as well.
                    arm(&format!("abort.{side}"), &id);
                }
                bare.batch = bare.encoded(records(count, 7));
                bare.settled().await.unwrap_or_else(|error| panic!("{id}: {error}"));
                count += 7;
                assert_eq!(values(&kafka, "txn-errors").len(), count, "{id}");
            }
            let unsure = bare.renewed("unsure");
            assert_eq!(unsure > 0, call != "init", "{id}");
        }
    }
    assert_eq!(values(&kafka, "txn-errors").into_iter().collect::<HashSet<_>>().len(), count);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_courier_that_gave_up_waiting_finds_its_batch_delivered() {
    let kafka = Kafka::shared();
    kafka.create_topic("txn-again", &[]).await;
    let bare = Bare::new(transactional("again", kafka_config(kafka.address("open"), "txn-again")));
    bare.settled().await.unwrap();
    for _ in 0..3 {
        bare.sink.send(&bare.batch).await.unwrap();
    }
    // Encoded anew it is the same records still.
    let again = bare.encoded(records(0, 5));
    bare.sink.send(&again).await.unwrap();
    assert_eq!(values(&kafka, "txn-again").len(), 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_large_lies_in_the_dead_letters_and_its_neighbours_arrive_once() {
    let kafka = Kafka::shared();
    kafka.create_topic("txn-narrow", &[("max.message.bytes", "20000")]).await;
    let librdkafka = PassedThrough(vec![("message.max.bytes".into(), "70000".into())]);
    let config = KafkaConfig { librdkafka, ..kafka_config(kafka.address("open"), "txn-narrow") };
    let bench = Bench::start(sink(transactional("narrow", config)));
    let size = |n: usize| match n {
        7 => 80_000,
        n if n.is_multiple_of(20) => 40_000,
        _ => 500,
    };
    let offer = bench.offer((0..40).map(|n| noise(n, size(n)))).await;
    assert_eq!(offer.settled().await, counts(37, 3));
    let reasons = bench.dead_letters().iter().map(|letter| letter["answer"].to_string()).collect::<HashSet<_>>();
    let named = "`max.message.bytes` of the topic `txn-narrow` (20000 bytes)";
    assert!(reasons.iter().any(|reason| reason.contains(named)), "{reasons:?}");
    assert!(reasons.iter().any(|reason| reason.contains("70000 bytes")), "{reasons:?}");
    bench.stop().await;
    let read = values(&kafka, "txn-narrow");
    assert_eq!((read.len(), read.into_iter().collect::<HashSet<_>>().len()), (37, 37));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_topic_holds_and_is_taken_up_when_it_is_made() {
    let kafka = Kafka::shared();
    let bare = Bare::new(transactional("later", kafka_config(kafka.address("open"), "txn-made-later")));
    let reason = bare.held().await;
    assert!(reason.contains("the topic `txn-made-later` does not exist"), "{reason}");
    assert!(bare.sink.probe().await.is_err());
    kafka.create_topic("txn-made-later", &[]).await;
    bare.mended().await;
    bare.settled().await.unwrap();
    assert_eq!(values(&kafka, "txn-made-later").len(), 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_keeps_exactly_once_from_being_true_is_refused_with_its_cause() {
    let kafka = Kafka::shared();
    kafka.create_topic("txn-closed", &[]).await;
    kafka.create_topic("checkpoint-compacted", &[("cleanup.policy", "compact")]).await;
    kafka.create_topic("checkpoint-brief", &[("retention.ms", "86400000")]).await;
    let to = |listener: &str| kafka_config(kafka.address(listener), "txn-closed");
    let bob = KafkaConfig { sasl: login("SCRAM-SHA-512", "bob", "bob-secret"), ..to("login") };
    let wrong = KafkaConfig { sasl: login("SCRAM-SHA-256", "alice", "canary"), ..to("login") };
    let cases = [
        ("compacted", to("open"), "is compacted"),
        ("brief", to("open"), "kafka-configs.sh"),
        ("password", wrong, "refuse our login"),
        ("rights", bob, "not authorised"),
    ];
    for (name, config, wanted) in cases {
        let bare = Bare::new(transactional(name, config));
        let reason = bare.held().await;
        println!("{name}: {reason}");
        assert!(reason.contains(wanted) && !reason.contains("canary"), "{name}: {reason}");
    }
    assert!(values(&kafka, "txn-closed").is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_owner_ends_the_first_and_loses_nothing() {
    let kafka = Kafka::shared();
    kafka.create_topic("txn-owners", &[]).await;
    // Both are of this process, so neither takes the other for a stranger: each takes over in its turn.
    let config = || transactional("owners", kafka_config(kafka.address("open"), "txn-owners"));
    let (first, second) = (Bare::new(config()), Bare::new(config()));
    first.settled().await.unwrap();
    second.settled().await.unwrap();
    assert_eq!(values(&kafka, "txn-owners").len(), 5, "the second knows from the brokers what the first has sent");
    let more = Bare { batch: first.encoded(records(5, 5)), ..first };
    more.settled().await.unwrap();
    assert_eq!(values(&kafka, "txn-owners").len(), 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_answer_of_the_brokers_to_each_call_is_survived() {
    use Answer::*;
    let cases = [
        (RDKafkaApiKey::InitProducerId, RD_KAFKA_RESP_ERR_COORDINATOR_NOT_AVAILABLE),
        (RDKafkaApiKey::InitProducerId, RD_KAFKA_RESP_ERR_CONCURRENT_TRANSACTIONS),
        (RDKafkaApiKey::AddPartitionsToTxn, RD_KAFKA_RESP_ERR_CONCURRENT_TRANSACTIONS),
        (RDKafkaApiKey::AddPartitionsToTxn, RD_KAFKA_RESP_ERR_INVALID_PRODUCER_ID_MAPPING),
        (RDKafkaApiKey::AddPartitionsToTxn, RD_KAFKA_RESP_ERR_PRODUCER_FENCED),
        (RDKafkaApiKey::Produce, RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS),
        (RDKafkaApiKey::Produce, RD_KAFKA_RESP_ERR_OUT_OF_ORDER_SEQUENCE_NUMBER),
        (RDKafkaApiKey::Produce, RD_KAFKA_RESP_ERR_INVALID_PRODUCER_EPOCH),
        (RDKafkaApiKey::EndTxn, RD_KAFKA_RESP_ERR_NOT_COORDINATOR),
        (RDKafkaApiKey::EndTxn, RD_KAFKA_RESP_ERR__TRANSPORT),
        (RDKafkaApiKey::EndTxn, RD_KAFKA_RESP_ERR_INVALID_TXN_STATE),
        (RDKafkaApiKey::EndTxn, RD_KAFKA_RESP_ERR_PRODUCER_FENCED),
    ];
    for (n, (call, answer)) in cases.into_iter().enumerate() {
        let cluster = mock();
        let name = format!("mock-{n}");
        cluster.create_topic(&format!("checkpoint-{name}"), 2, 1).unwrap();
        cluster.request_errors(call, &[answer]);
        let mut bare = Bare::new(transactional(&name, kafka_config(cluster.bootstrap_servers(), "t")));
        bare.settled().await.unwrap_or_else(|error| panic!("{call:?} {answer:?}: {error}"));
        // Again with a producer that has begun.
        cluster.request_errors(call, &[answer]);
        bare.batch = bare.encoded(records(5, 5));
        bare.settled().await.unwrap_or_else(|error| panic!("{call:?} {answer:?}: {error}"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_right_to_the_transactional_id_that_is_missing_is_named() {
    let cluster = mock();
    cluster.create_topic("checkpoint-right", 2, 1).unwrap();
    let refused = [Answer::RD_KAFKA_RESP_ERR_TRANSACTIONAL_ID_AUTHORIZATION_FAILED; 8];
    cluster.request_errors(RDKafkaApiKey::InitProducerId, &refused);
    let bare = Bare::new(transactional("right", kafka_config(cluster.bootstrap_servers(), "t")));
    let reason = bare.held().await;
    assert!(reason.contains("for the transactional id `right`"), "{reason}");
    cluster.clear_request_errors(RDKafkaApiKey::InitProducerId);
    bare.settled().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_brokers_are_away_the_driver_hears_of_it_and_nothing_is_doubled() {
    let kafka = tokio::task::spawn_blocking(Kafka::start).await.unwrap();
    kafka.create_topic("t", &[]).await;
    let bare = Bare::new(transactional("away", kafka_config(kafka.address("open"), "t")));
    bare.settled().await.unwrap();
    tokio::task::block_in_place(|| kafka.kill());
    let bare = Bare { batch: bare.encoded(records(5, 5)), ..bare };
    for _ in 0..2 {
        let Err(SendError::Retry { reason, .. }) = bare.sink.send(&bare.batch).await else { panic!("taken") };
        assert!(reason.contains("no broker can be reached"), "{reason}");
    }
    assert!(bare.sink.probe().await.is_err());
    tokio::task::block_in_place(|| kafka.start_again());
    bare.settled().await.unwrap();
    assert_eq!(values(&kafka, "t").len(), 10);
}
