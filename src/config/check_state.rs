//! The state in Kafka as written → as meant, and everything beside it that would still need a disk. Comes in: the
//! section, and the sinks as they are meant. Goes out: sink, topic and mount point, and the faults. Asks no broker.

use std::path::PathBuf;

use super::dead_letters;
use super::faults::{Place, Reader};
use super::file::{SinkFile, StateFile, StateKafkaFile};
use super::kafka::is_topic;
use super::section::Field;
use super::values::At;
use crate::config::{KafkaConfig, SinkConfig, SinkKind, StateTopic};

/// Where the state lies in Kafka, unless another topic is given.
const DEFAULT_TOPIC: &str = "auditferry-state";

/// Where each sink is written, by name.
pub(super) fn places(sinks: &Field<Vec<SinkFile>>) -> Vec<(String, Place)> {
    let Field::Given(sinks) = sinks else { return Vec::new() };
    let named = |sink: &SinkFile| Some((sink.common.name.clone().value()?, sink.place.clone()));
    sinks.value.iter().filter_map(named).collect()
}

/// The topic and where its state is mounted; `None` where the state lies on a disk, or a fault has been said.
pub(super) fn topic(
    state: StateFile,
    sinks: &[SinkConfig],
    places: &[(String, Place)],
    letters: Option<&Place>,
    reader: &mut Reader<'_>,
) -> Option<(StateTopic, PathBuf)> {
    let At { value: file, place } = state.kafka.given()?;
    if let Field::Given(dir) = &state.dir {
        let hint = "leave one of the two out";
        reader.fault(&dir.place, "the state cannot be in a directory and in Kafka", hint);
        return None;
    }
    let found = keeper(&file, sinks, &place, reader)?;
    let topic = match file.topic.clone() {
        Field::Faulty => return None,
        Field::Absent => DEFAULT_TOPIC.to_owned(),
        Field::Given(at) if !is_topic(&at.value) => {
            reader.fault(&at.place, "this is no name of a topic", "up to 249 letters, digits, `.`, `_` and `-`");
            return None;
        }
        Field::Given(at) => at.value,
    };
    let (sink, kafka) = found;
    // Compaction keeps one record of a key: whatever else is written there would be lost.
    if let Some(other) = dead_letters::already(&topic, sinks, None) {
        let hint = "give the state a topic of its own";
        reader.fault(&place, format!("the state is in the topic `{topic}`, and {other}"), hint);
        return None;
    }
    if let Field::Given(brokers) = &file.brokers {
        let written: Vec<&str> = brokers.value.iter().flat_map(|text| text.split(',')).map(str::trim).collect();
        if written.join(",") != kafka.brokers {
            let text = format!("these are not the brokers of sink `{}`, which writes the state", sink.name);
            reader.fault(&brokers.place, text, "leave them out: a transaction is of one cluster");
            return None;
        }
    }
    needs_no_disk(sinks, places, letters, &place, reader);
    let dir = mount_point(kafka, &topic);
    Some((StateTopic { sink: sink.name.clone(), topic }, dir))
}

/// Where the state of this topic is mounted: a path that is on no disk.
fn mount_point(kafka: &KafkaConfig, topic: &str) -> PathBuf {
    let id = kafka.transactional.as_ref().map_or("", |transactional| transactional.id.as_str());
    PathBuf::from(format!("kafka:{topic}")).join(id)
}

/// The sink that writes the state.
fn keeper<'a>(
    file: &StateKafkaFile,
    sinks: &'a [SinkConfig],
    place: &Place,
    reader: &mut Reader<'_>,
) -> Option<(&'a SinkConfig, &'a KafkaConfig)> {
    let transactional = |sink: &'a SinkConfig| match &sink.kind {
        SinkKind::Kafka(kafka) if kafka.transactional.is_some() => Some((sink, kafka)),
        _ => None,
    };
    match &file.sink {
        Field::Faulty => None,
        Field::Given(at) => {
            let found = sinks.iter().find(|sink| sink.name == at.value).and_then(transactional);
            if found.is_none() {
                let hint = "name a sink of `type: kafka` with `transactional: true`";
                reader.fault(&at.place, format!("there is no transactional sink `{}`", at.value), hint);
            }
            found
        }
        Field::Absent => {
            let mut all = sinks.iter().filter_map(transactional);
            match (all.next(), all.next()) {
                (Some(only), None) => Some(only),
                (None, _) => {
                    let hint = "add `transactional: true` to a sink of `type: kafka`, or give `state.dir` a disk";
                    reader.fault(
                        place,
                        "the state in Kafka is written by a transactional sink, and there is none",
                        hint,
                    );
                    None
                }
                (Some(_), Some(_)) => {
                    reader.fault(place, "there are several transactional sinks", "say which one by `sink:`");
                    None
                }
            }
        }
    }
}

/// What would still need a disk.
fn needs_no_disk(
    sinks: &[SinkConfig],
    places: &[(String, Place)],
    letters: Option<&Place>,
    place: &Place,
    reader: &mut Reader<'_>,
) {
    for sink in sinks.iter().filter(|sink| matches!(sink.kind, SinkKind::File(_))) {
        let at = places.iter().find(|(name, _)| *name == sink.name).map_or(place, |(_, at)| at);
        let text = format!("sink `{}` writes to a disk, and the state is in Kafka to need none", sink.name);
        reader.fault(at, text, "leave the sink out, or give the state a directory: `state: { dir: … }`");
    }
    if let Some(at) = letters {
        let text = "the dead letters would need a disk, and the state is in Kafka to need none";
        let hint = "put them into a topic: `dead_letters: { kafka: { topic: auditferry-dead } }`";
        reader.fault(at, text, hint);
    }
}

#[cfg(test)]
mod tests {
    use crate::config::StateTopic;
    use crate::config::load::load_text;

    fn load(state: &str, sinks: &str, more: &str) -> Result<(Option<StateTopic>, String), String> {
        let text = format!(
            "state: {state}\n{more}\ntenants: [{{name: a, tenant_id: 00000000-0000-4000-8000-00000000000a, client_id: 00000000-0000-4000-8000-00000000000b, auth: {{client_secret: x}}}}]\nsinks: [{sinks}]"
        );
        let loaded = load_text("c.yaml", &text, &|_| None).map_err(|faults| faults.to_string())?;
        Ok((loaded.config.state_topic, loaded.config.state.dir.display().to_string()))
    }

    const BUS: &str = "{name: bus, type: kafka, brokers: 'localhost:9092', topic: t, transactional: true}";

    #[test]
    fn it_is_written_by_the_only_transactional_sink_or_the_one_that_is_named() {
        let topic = |sink: &str, topic: &str| Some(StateTopic { sink: sink.into(), topic: topic.into() });
        assert_eq!(load("{}", BUS, "").unwrap().0, None);
        let (found, dir) = load("{kafka: {}}", BUS, "").unwrap();
        assert_eq!((found, dir.as_str()), (topic("bus", "auditferry-state"), "kafka:auditferry-state/auditferry-bus"));
        let two = format!("{BUS}, {}", BUS.replace("name: bus", "name: other"));
        let named = "{kafka: {sink: other, topic: s, brokers: ['localhost:9092']}}";
        assert_eq!(load(named, &two, "").unwrap().0, topic("other", "s"));
    }

    #[test]
    fn what_would_still_need_a_disk_is_a_fault_with_a_way_out() {
        let two = format!("{BUS}, {}", BUS.replace("name: bus", "name: other"));
        let disk = format!("{BUS}, {{name: disk, type: file, path: /x}}");
        let beside = format!("{BUS}, {{name: more, type: kafka, brokers: 'localhost:9092', topic: auditferry-state}}");
        for (state, sinks, more, wanted) in [
            ("{kafka: {}}", "{name: out, type: stdout}", "", "and there is none"),
            ("{kafka: {}}", "{name: bus, type: kafka, brokers: 'localhost:9092', topic: t}", "", "and there is none"),
            ("{kafka: {}}", two.as_str(), "", "say which one"),
            ("{kafka: {sink: bys}}", BUS, "", "no transactional sink `bys`"),
            ("{kafka: {}, dir: /x}", BUS, "", "in a directory and in Kafka"),
            ("{kafka: {topic: t}}", BUS, "", "sink `bus` writes its records"),
            ("{kafka: {topic: auditferry-checkpoint}}", BUS, "", "checkpoints of the sink `bus`"),
            ("{kafka: {}}", beside.as_str(), "", "sink `more` writes its records"),
            ("{kafka: {brokers: 'elsewhere:9092'}}", BUS, "", "not the brokers of sink `bus`"),
            ("{kafka: {}}", disk.as_str(), "", "sink `disk` writes to a disk"),
            ("{kafka: {}}", BUS, "dead_letters: {file: /x}", "dead letters would need a disk"),
            ("{kafka: {}, max_delivered: 2GiB}", BUS, "", "between 8MiB and 1GiB"),
        ] {
            let said = load(state, sinks, more).expect_err(state);
            assert!(said.contains(wanted), "{state}: {said}");
        }
    }
}
