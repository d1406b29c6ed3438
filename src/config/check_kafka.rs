//! The Kafka sink as written → as meant. Each setting that is passed through is shown to librdkafka
//! here, and then all of them together with ours, so that a wrong or contradictory one is named with
//! its place before anything runs. Asks no broker.

use rdkafka::ClientConfig;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::KafkaError;
use rdkafka::producer::BaseProducer;

use super::check_sasl::sasl;
use super::check_sinks::tls;
use super::check_transactional;
use super::faults::{Place, Reader};
use super::file::KafkaFile;
use super::kafka::{
    BOOK_MESSAGE_BYTES, COMPRESSIONS, DEFAULT_KEY, KafkaConfig, MECHANISMS, OAUTHBEARER, PassedThrough, refused,
};
use super::schema::{self, Schema};
use super::section::{Field, Section};
use super::tree::{Node, Value};
use super::values::{At, FromNode, is_loopback_host, word};
use crate::config::BatchConfig;

/// A mapping of free names to values, each with its place; to texts, unless it says of what.
#[derive(Clone, Debug)]
pub(super) struct Pairs<T = String>(pub Vec<(String, Place, At<T>)>);

impl<T> Default for Pairs<T> {
    fn default() -> Pairs<T> {
        Pairs(Vec::new())
    }
}

impl<T: FromNode> FromNode for Pairs<T> {
    fn from_node(node: &Node, reader: &mut Reader<'_>) -> Option<Pairs<T>> {
        let entries = super::section::entries(node, "this", &[], reader)?;
        let pairs = entries.iter().filter(|entry| !matches!(entry.node.value, Value::Null)).filter_map(|entry| {
            let value = At::<T>::from_node(&entry.node, reader)?;
            Some((entry.key.clone(), entry.place.clone(), value))
        });
        Some(Pairs(pairs.collect()))
    }

    fn schema() -> Schema {
        schema::pairs()
    }
}

/// One of librdkafka's compressions.
#[derive(Clone, Copy, Debug)]
pub(super) struct KafkaCompression(&'static str);

impl FromNode for KafkaCompression {
    fn from_node(node: &Node, reader: &mut Reader<'_>) -> Option<KafkaCompression> {
        one_of(node, "a compression of Kafka's", &COMPRESSIONS, reader).map(KafkaCompression)
    }

    fn schema() -> Schema {
        schema::one_of(COMPRESSIONS)
    }
}

/// With a name and a password, or with a token.
const ALL_MECHANISMS: [&str; 4] = [MECHANISMS[0], MECHANISMS[1], MECHANISMS[2], OAUTHBEARER];

/// One of the mechanisms of SASL that we support.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mechanism(pub &'static str);

impl FromNode for Mechanism {
    fn from_node(node: &Node, reader: &mut Reader<'_>) -> Option<Mechanism> {
        one_of(node, "a mechanism of SASL that is supported", &ALL_MECHANISMS, reader).map(Mechanism)
    }

    fn schema() -> Schema {
        schema::one_of(ALL_MECHANISMS)
    }
}

fn one_of(node: &Node, wanted: &str, known: &[&'static str], reader: &mut Reader<'_>) -> Option<&'static str> {
    let hint = format!("one of {}", known.join(", "));
    word(node, wanted, &hint, reader, |text| known.iter().copied().find(|name| name.eq_ignore_ascii_case(text)))
}

/// Checks everything of the sink but its batches, which bound librdkafka's queue.
pub(super) fn kafka(
    file: KafkaFile,
    name: Option<&str>,
    batch: &BatchConfig,
    reader: &mut Reader<'_>,
) -> Option<KafkaConfig> {
    let (place, title) = (file.place.clone(), KafkaFile::TITLE);
    let transactional = check_transactional::transactional(&file, name, reader);
    let written = file.brokers.required("brokers", title, &place, "`host:port`, some of the cluster's brokers", reader);
    let brokers = written.as_ref().and_then(|at| brokers(at, reader));
    let hint = "for instance `o365.{content_type}`";
    let topic = file.topic.required("topic", title, &place, hint, reader);
    if let Some(at) = topic.as_ref().filter(|at| ["{operation}", "{id}", "{key}"].iter().any(|p| at.value.contains(p)))
    {
        reader.fault(
            &at.place,
            "this would make a topic for each operation or record",
            "use {tenant}, {tenant_id}, {content_type} or {workload} in `topic`; the others fit in `key` and `headers`",
        );
    }
    let tls_given = file.tls.given();
    let tls = tls_given.map(|at| tls(at.value, reader));
    let outside = brokers.as_ref().filter(|brokers| !brokers.split(',').all(is_loopback));
    let sasl_place = file.sasl.clone().given().map(|at| at.place);
    // The outer is `None` where it is faulty.
    let sasl = match file.sasl {
        Field::Absent => Some(None),
        Field::Faulty => None,
        Field::Given(at) => sasl(at.value, brokers.as_deref(), reader).map(Some),
    };
    if let (Some(_), None) = (outside, &tls) {
        match (&sasl, sasl_place) {
            (Some(Some(sasl)), Some(place)) if matches!(sasl.mechanism(), "PLAIN" | OAUTHBEARER) => reader.fault(
                &place,
                format!("{} without TLS would carry the secret readable over the network", sasl.mechanism()),
                "add `tls: {}`, or use SCRAM-SHA-512",
            ),
            _ => reader.warning(
                &place,
                "audit records go to the brokers without encryption",
                "add `tls: {}` where the brokers have a TLS listener",
            ),
        }
    }
    let passed_place = file.librdkafka.clone().given().map(|at| at.place);
    let librdkafka = passed_through(file.librdkafka.value().unwrap_or_default(), reader);
    let headers = file.headers.value().unwrap_or_default().0;
    let config = KafkaConfig {
        brokers: brokers?,
        topic: topic?.value,
        key: file.key.value().unwrap_or_else(|| DEFAULT_KEY.to_owned()),
        headers: headers.into_iter().map(|(name, _, value)| (name, value.value)).collect(),
        compression: file.compression.value().map_or(COMPRESSIONS[0], |compression| compression.0),
        sasl: sasl?,
        tls,
        transactional: transactional?,
        librdkafka: librdkafka?,
    };
    if let Some(place) = &passed_place
        && config.transactional.is_some()
        && config.max_message_bytes() < BOOK_MESSAGE_BYTES
    {
        let text =
            format!("`message.max.bytes` is less than the {BOOK_MESSAGE_BYTES} bytes of a message of our own books");
        reader.fault(place, text, "leave it out, or give more");
    }
    if let Some(place) = passed_place {
        contradictions(&config, batch, &place, reader);
    }
    Some(config)
}

/// `host:port` each, joined by commas.
fn brokers(written: &At<Vec<String>>, reader: &mut Reader<'_>) -> Option<String> {
    let all: Vec<&str> = written.value.iter().flat_map(|text| text.split(',')).map(str::trim).collect();
    let good = |broker: &&str| {
        let (host, port) = broker.rsplit_once(':').unwrap_or((broker, "9092"));
        let port = port.parse::<u16>().is_ok_and(|port| port > 0);
        port && !host.is_empty() && !host.contains(['/', ' ', '@', ','])
    };
    if all.is_empty() || !all.iter().all(good) {
        let hint = "write `host:port`, several separated by commas; TLS and SASL have keys of their own";
        reader.fault(&written.place, "these are no addresses of brokers", hint);
        return None;
    }
    Some(all.join(","))
}

fn is_loopback(broker: &str) -> bool {
    is_loopback_host(broker.rsplit_once(':').map_or(broker, |(host, _)| host))
}

/// Each setting by itself; `None` when one is wrong. What is said shows the name, never the value.
fn passed_through(pairs: Pairs, reader: &mut Reader<'_>) -> Option<PassedThrough> {
    let mut good = true;
    let mut passed = Vec::new();
    for (name, place, value) in pairs.0 {
        if let Some(hint) = refused(&name) {
            reader.fault(&place, format!("`{name}` may not be passed through"), hint);
            good = false;
            continue;
        }
        match ClientConfig::new().set(&name, &value.value).create_native_config() {
            Ok(_) => passed.push((name, value.value)),
            Err(KafkaError::ClientConfig(result, ..)) if format!("{result:?}").contains("UNKNOWN") => {
                let hint = "see the names marked P or * in CONFIGURATION.md of librdkafka 2.12";
                reader.fault(&place, format!("librdkafka has no setting `{name}`"), hint);
                good = false;
            }
            Err(_) => {
                let hint = "see its range in CONFIGURATION.md of librdkafka 2.12";
                reader.fault(&value.place, format!("librdkafka does not take this value for `{name}`"), hint);
                good = false;
            }
        }
    }
    good.then_some(PassedThrough(passed))
}

/// All settings together, with ours: librdkafka says what contradicts when a producer is made. It is
/// given no address, so it asks nobody.
fn contradictions(config: &KafkaConfig, batch: &BatchConfig, place: &Place, reader: &mut Reader<'_>) {
    let mut client: ClientConfig = config.settings(batch).into_iter().collect();
    client.set_log_level(RDKafkaLogLevel::Emerg);
    if let Err(error) = client.create::<BaseProducer>() {
        let reason = match error {
            KafkaError::ClientCreation(reason) => reason,
            other => other.to_string(),
        };
        reader.fault(
            place,
            format!("librdkafka refuses these settings together with `acks=all` and idempotence: {reason}"),
            "remove or change the one it names",
        );
    }
}
