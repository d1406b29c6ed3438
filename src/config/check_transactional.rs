//! Transactions of a Kafka sink as written → as meant. Comes in: the section of the sink. Goes out: what
//! exactly once needs to know, and a fault for each thing that would undo it. Asks no broker.

use super::check::Seen;
use super::faults::{Place, Reader};
use super::file::KafkaFile;
use super::kafka::{DEFAULT_CHECKPOINT_TOPIC, TransactionalConfig, is_of_a_topic, is_topic};
use super::section::Field;
use crate::config::{SinkConfig, SinkKind};

/// Bytes of a transactional id: what brokers and their tools show on a line. Kafka itself takes 32,767.
const ID_LENGTH: usize = 200;

/// `Some(None)`: not asked for. `None`: a fault has been said.
pub(super) fn transactional(
    file: &KafkaFile,
    name: Option<&str>,
    reader: &mut Reader<'_>,
) -> Option<Option<TransactionalConfig>> {
    let wanted = match &file.transactional {
        Field::Faulty => return None,
        Field::Absent => false,
        Field::Given(at) => at.value,
    };
    let mut good = true;
    let ids = [("transactional_id", &file.transactional_id), ("checkpoint_topic", &file.checkpoint_topic)];
    for (key, field) in ids {
        match field {
            Field::Faulty => good = false,
            Field::Given(at) if !wanted => {
                good = false;
                let hint = "add `transactional: true`, or leave it out";
                reader.fault(&at.place, format!("`{key}` says nothing without transactions"), hint);
            }
            Field::Given(_) | Field::Absent => {}
        }
    }
    if let Field::Given(at) = &file.transactional_id
        && wanted
        && !is_id(&at.value)
    {
        good = false;
        let hint = "up to 200 letters, digits, `.`, `_` and `-`; one id for each sink of each deployment";
        reader.fault(&at.place, "this is no transactional id", hint);
    }
    if let Field::Given(at) = &file.checkpoint_topic
        && wanted
    {
        if !is_topic(&at.value) {
            good = false;
            let hint = "up to 249 letters, digits, `.`, `_` and `-`; no template: all feeds share it";
            reader.fault(&at.place, "this is no name of a topic", hint);
        } else if file.topic.clone().value().is_some_and(|topic| topic == at.value) {
            good = false;
            let hint = "give the checkpoints a topic of their own";
            reader.fault(&at.place, "the records are written to this topic", hint);
        }
    }
    if !good {
        return None;
    }
    if !wanted {
        return Some(None);
    }
    let id = file.transactional_id.clone().value().or_else(|| name.map(|name| format!("auditferry-{name}")))?;
    let topic = file.checkpoint_topic.clone().value();
    let checkpoint_topic = topic.unwrap_or_else(|| DEFAULT_CHECKPOINT_TOPIC.to_owned());
    Some(Some(TransactionalConfig { id, checkpoint_topic }))
}

/// Sinks with one id would end each other for ever; and keys among the records of any sink would be read as damage.
pub(super) fn ids_differ(sinks: &[SinkConfig], places: &[(String, Place)], reader: &mut Reader<'_>) {
    let mut ids = Seen::new("`transactional_id`");
    for sink in sinks {
        let SinkKind::Kafka(kafka) = &sink.kind else { continue };
        let place = places.iter().find(|(name, _)| *name == sink.name).map(|(_, place)| place);
        let (Some(transactional), Some(place)) = (&kafka.transactional, place) else { continue };
        ids.check(transactional.id.clone(), place, reader);
        let topic = &transactional.checkpoint_topic;
        let writes_there = |other: &&SinkConfig| matches!(&other.kind, SinkKind::Kafka(other) if other.topic == *topic);
        if let Some(other) = sinks.iter().find(writes_there) {
            let text = format!(
                "the checkpoints are in the topic `{topic}`, and the sink `{}` writes its records to it",
                other.name
            );
            reader.fault(place, text, "give the checkpoints a topic of their own: `checkpoint_topic: …`");
        }
    }
}

fn is_id(text: &str) -> bool {
    (1..=ID_LENGTH).contains(&text.len()) && text.bytes().all(is_of_a_topic)
}

#[cfg(test)]
mod tests {
    use crate::config::load::load_text;
    use crate::config::{SinkKind, TransactionalConfig};

    fn load(sink: &str) -> Result<Option<TransactionalConfig>, String> {
        let text = format!(
            "tenants: [{{name: a, tenant_id: 00000000-0000-4000-8000-00000000000a, client_id: 00000000-0000-4000-8000-00000000000b, auth: {{client_secret: x}}}}]\nsinks:\n  - {{ name: bus, type: kafka, brokers: 'localhost:9092', topic: t, {sink} }}"
        );
        let loaded = load_text("c.yaml", &text, &|_| None).map_err(|faults| faults.to_string())?;
        match &loaded.config.sinks[0].kind {
            SinkKind::Kafka(kafka) => Ok(kafka.transactional.clone()),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn it_is_off_unless_asked_for_and_has_names_of_its_own() {
        assert_eq!(load("key: x"), Ok(None));
        assert_eq!(load("transactional: false"), Ok(None));
        let meant = |id: &str, topic: &str| TransactionalConfig { id: id.into(), checkpoint_topic: topic.into() };
        assert_eq!(load("transactional: true"), Ok(Some(meant("auditferry-bus", "auditferry-checkpoint"))));
        let both = "transactional: true, transactional_id: a.b, checkpoint_topic: c-d";
        assert_eq!(load(both), Ok(Some(meant("a.b", "c-d"))));
    }

    #[test]
    fn two_sinks_may_not_have_one_id() {
        let second = |id: &str| {
            format!(
                "transactional: true }}\n  - {{ name: other, type: kafka, brokers: 'localhost:9092', topic: u, transactional: true, transactional_id: {id}"
            )
        };
        assert!(load(&second("auditferry-two")).is_ok());
        let said = load(&second("auditferry-bus")).expect_err("one id for two sinks");
        assert!(said.contains("the `transactional_id` is already used at"), "{said}");
        let beside = "transactional: true }\n  - { name: other, type: kafka, brokers: 'localhost:9092', topic: auditferry-checkpoint";
        let said = load(beside).expect_err("records among the checkpoints");
        assert!(said.contains("the sink `other` writes its records to it"), "{said}");
    }

    #[test]
    fn what_would_undo_it_is_a_fault_with_a_way_out() {
        for (sink, wanted) in [
            ("transactional_id: x", "says nothing without transactions"),
            ("transactional: false, checkpoint_topic: x", "says nothing without transactions"),
            ("transactional: true, transactional_id: 'a b'", "no transactional id"),
            ("transactional: true, checkpoint_topic: 'c.{tenant}'", "no name of a topic"),
            ("transactional: true, checkpoint_topic: t", "the records are written to this topic"),
            ("transactional: true, librdkafka: {enable.idempotence: 'false'}", "may not be passed through"),
            ("transactional: true, librdkafka: {message.max.bytes: '500000'}", "a message of our own books"),
            ("librdkafka: {transactional.id: x}", "give `transactional: true`"),
            ("transactional: true, librdkafka: {message.timeout.ms: '5'}", "may not be passed through"),
        ] {
            let said = load(sink).expect_err(sink);
            assert!(said.contains(wanted), "{sink}: {said}");
        }
    }
}
