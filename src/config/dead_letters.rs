//! `dead_letters` as written → as meant: a file, a Kafka topic beside it, or the topic alone. The topic lies in
//! the cluster of a Kafka sink, whose brokers, login and TLS it shares. Comes in: the section and the checked sinks.
//! Goes out: [`DeadLettersConfig`], or faults. Opens nothing.

use std::path::{Path, PathBuf};

use super::faults::{Place, Reader};
use super::file::{DeadLettersFile, DeadTopicFile};
use super::kafka::{KafkaConfig, is_topic};
use super::section::{Field, Section, nearest};
use super::values::At;
use super::{SinkConfig, SinkKind, StateTopic};

/// Where records go that a sink refuses for good: at least one of the two.
#[derive(Clone, Debug, PartialEq)]
pub struct DeadLettersConfig {
    /// `None`: nothing of a letter touches the disk.
    pub file: Option<PathBuf>,
    pub topic: Option<DeadTopicConfig>,
}

impl DeadLettersConfig {
    /// A file and no topic.
    pub fn in_file(path: &Path) -> DeadLettersConfig {
        DeadLettersConfig { file: Some(path.to_owned()), topic: None }
    }

    /// Where they go, for a person.
    pub fn target(&self) -> String {
        let file = self.file.as_ref().map(|path| path.display().to_string());
        let topic = self.topic.as_ref().map(|topic| format!("kafka topic {} ({})", topic.kafka.topic, topic.sink));
        file.into_iter().chain(topic).collect::<Vec<_>>().join(" and ")
    }
}

/// A topic of dead letters.
#[derive(Clone, Debug, PartialEq)]
pub struct DeadTopicConfig {
    /// The Kafka sink whose cluster it lies in.
    pub sink: String,
    /// That sink's settings with the topic of the dead letters and their key.
    pub kafka: KafkaConfig,
}

/// Where dead letters lie when nothing is on a disk and nothing else is said.
const DEFAULT_TOPIC: &str = "auditferry-dead";

const OF_THEIR_OWN: &str =
    "give the dead letters a topic of their own: who reads the other messages would take them for some";

/// The key of a letter's message: the record's.
const KEY: &str = "{key}";

/// The file that letters go to, as far as that can be said before the sinks are known: `None` where only a topic is given.
pub(super) fn file(written: &DeadLettersFile, state_dir: &Path) -> Option<(PathBuf, Option<Place>)> {
    match (&written.file, &written.kafka) {
        (Field::Given(at), _) => Some((at.value.clone(), Some(at.place.clone()))),
        (Field::Absent, Field::Given(_) | Field::Faulty) => None,
        (Field::Absent | Field::Faulty, _) => Some((state_dir.join("dead.ndjson"), None)),
    }
}

/// The topic that letters go to.
pub(super) fn topic(
    written: Field<DeadTopicFile>,
    sinks: &[SinkConfig],
    state: Option<&StateTopic>,
    reader: &mut Reader<'_>,
) -> Option<DeadTopicConfig> {
    let At { value: written, place } = written.given()?;
    let hint = "for instance `topic: auditferry-dead`; somebody must have created it";
    let topic = written.topic.required("topic", DeadTopicFile::TITLE, &place, hint, reader);
    let cluster = cluster(written.sink, &place, sinks, reader);
    let (topic, (sink, cluster)) = (topic?, cluster?);
    if !is_topic(&topic.value) {
        reader.fault(
            &topic.place,
            "this is no name of a topic: dead letters lie in one, whatever they are of",
            "letters, digits, `.`, `_` and `-`, at most 249 of them, and no place in braces",
        );
        return None;
    }
    if let Some(other) = already(&topic.value, sinks, state) {
        reader.fault(&topic.place, other, OF_THEIR_OWN);
        return None;
    }
    Some(in_cluster(sink, cluster, &topic.value))
}

/// What lies in this topic already, whatever the brokers: `None`: nothing that the configuration tells of.
pub(super) fn already(topic: &str, sinks: &[SinkConfig], state: Option<&StateTopic>) -> Option<String> {
    if state.is_some_and(|state| state.topic == topic) {
        return Some("the state lies in this topic".to_owned());
    }
    kafka_sinks(sinks).find_map(|(sink, kafka)| {
        let checkpoints = kafka.transactional.as_ref().is_some_and(|known| known.checkpoint_topic == topic);
        match checkpoints {
            true => Some(format!("the checkpoints of the sink `{}` lie in this topic", sink.name)),
            false => {
                (kafka.topic == topic).then(|| format!("the sink `{}` writes its records to this topic", sink.name))
            }
        }
    })
}

/// The topic for a process that has no disk and names none: in the cluster that has the state.
pub(super) fn beside_the_state(
    state: &StateTopic,
    sinks: &[SinkConfig],
    places: &[(String, Place)],
    reader: &mut Reader<'_>,
) -> Option<DeadTopicConfig> {
    let (sink, cluster) = kafka_sinks(sinks).find(|(sink, _)| sink.name == state.sink)?;
    if let Some(other) = already(DEFAULT_TOPIC, sinks, Some(state)) {
        let (_, place) = places.iter().find(|(name, _)| *name == sink.name)?;
        let text = format!("dead letters go to the topic `{DEFAULT_TOPIC}` unless another is given, and {other}");
        reader.fault(place, text, "name another: `dead_letters: { kafka: { topic: … } }`");
        return None;
    }
    Some(in_cluster(sink, cluster, DEFAULT_TOPIC))
}

/// A topic in the cluster of this sink. Its producer is not transactional: it would take the sink's own place.
fn in_cluster(sink: &SinkConfig, cluster: &KafkaConfig, topic: &str) -> DeadTopicConfig {
    let kafka = KafkaConfig { topic: topic.to_owned(), key: KEY.to_owned(), transactional: None, ..cluster.clone() };
    DeadTopicConfig { sink: sink.name.clone(), kafka }
}

fn kafka_sinks(sinks: &[SinkConfig]) -> impl Iterator<Item = (&SinkConfig, &KafkaConfig)> {
    sinks.iter().filter_map(|sink| match &sink.kind {
        SinkKind::Kafka(kafka) => Some((sink, kafka)),
        _ => None,
    })
}

/// The named Kafka sink, or the only one.
fn cluster<'a>(
    named: Field<String>,
    place: &Place,
    sinks: &'a [SinkConfig],
    reader: &mut Reader<'_>,
) -> Option<(&'a SinkConfig, &'a KafkaConfig)> {
    let all: Vec<_> = kafka_sinks(sinks).collect();
    let names = || all.iter().map(|(sink, _)| sink.name.as_str());
    let named = match named {
        Field::Faulty => return None,
        Field::Absent => match all.as_slice() {
            [only] => return Some(*only),
            [] => {
                let hint = "add a sink of type kafka, or keep the dead letters in a file: `dead_letters: { file: … }`";
                reader.fault(place, "there is no sink of type kafka whose brokers could take the dead letters", hint);
                return None;
            }
            _ => {
                let hint = format!("give `sink:` one of {}", names().collect::<Vec<_>>().join(", "));
                reader.fault(place, "there are several sinks of type kafka", hint);
                return None;
            }
        },
        Field::Given(at) => at,
    };
    let found = all.iter().find(|(sink, _)| sink.name == named.value).copied();
    if found.is_none() {
        let hint = nearest(&named.value, names()).map_or_else(
            || format!("it is the name of a sink of type kafka: {}", names().collect::<Vec<_>>().join(", ")),
            |name| format!("did you mean `{name}`?"),
        );
        reader.fault(&named.place, "no sink of type kafka is called so", hint);
    }
    found
}

#[cfg(test)]
mod tests {
    use crate::config::{Config, SinkConfig, SinkKind, load_str};

    fn load(dead_letters: &str, sinks: &str) -> Result<Config, String> {
        load_with(&format!("dead_letters: {dead_letters}\nstate: {{dir: /s}}"), sinks)
    }

    fn load_with(more: &str, sinks: &str) -> Result<Config, String> {
        let text = format!(
            "tenants: [{{name: a, tenant_id: 00000000-0000-4000-8000-00000000000a, client_id: 00000000-0000-4000-8000-00000000000b, auth: {{client_secret: x}}}}]\nsinks: [{sinks}]\n{more}"
        );
        load_str("c.yaml", &text).map_err(|faults| faults.to_string())
    }

    const BUS: &str = "{name: bus, type: kafka, brokers: 'localhost:9092', topic: t, headers: {a: b}}";
    const EXACT: &str = "{name: exact, type: kafka, brokers: 'localhost:9094', topic: e, transactional: true}";
    const OTHER: &str = "{name: other, type: kafka, brokers: 'localhost:9093', topic: 'o.{workload}'}";

    #[test]
    fn a_file_a_topic_or_both() {
        let both = load("{file: /d, kafka: {topic: dead}}", BUS).unwrap().dead_letters;
        assert_eq!(both.target(), "/d and kafka topic dead (bus)");
        let kafka = both.topic.unwrap().kafka;
        assert_eq!((kafka.brokers.as_str(), kafka.key.as_str(), kafka.headers.len()), ("localhost:9092", "{key}", 1));
        let named = load("{kafka: {sink: other, topic: dead}}", &format!("{BUS}, {OTHER}")).unwrap().dead_letters;
        assert_eq!((named.file, named.topic.unwrap().kafka.brokers), (None, "localhost:9093".to_owned()));
        assert_eq!(load("{}", BUS).unwrap().dead_letters.target(), "/s/dead.ndjson");
    }

    #[test]
    fn beside_a_transactional_sink_the_letters_are_not_in_transactions() {
        let both = format!("{BUS}, {EXACT}");
        for more in ["dead_letters: {kafka: {sink: exact, topic: dead}}", "state: {kafka: {}}"] {
            let config = load_with(more, &both).unwrap();
            let topic = config.dead_letters.topic.unwrap();
            assert_eq!((topic.sink.as_str(), topic.kafka.transactional), ("exact", None), "{more}");
            let of_the_sink =
                |sink: &SinkConfig| matches!(&sink.kind, SinkKind::Kafka(kafka) if kafka.transactional.is_some());
            assert!(config.sinks.iter().any(of_the_sink), "{more}");
        }
    }

    #[test]
    fn with_the_state_in_kafka_they_lie_in_a_topic_beside_it() {
        let letters = |more: &str| load_with(more, EXACT).map(|config| config.dead_letters.target());
        assert_eq!(letters("state: {kafka: {}}").unwrap(), "kafka topic auditferry-dead (exact)");
        let named = "state: {kafka: {}}\ndead_letters: {kafka: {topic: dead}}";
        assert_eq!(letters(named).unwrap(), "kafka topic dead (exact)");
        let same = |state: &str, dead: &str| {
            letters(&format!("state: {{kafka: {{topic: {state}}}}}\ndead_letters: {{kafka: {{topic: {dead}}}}}"))
        };
        assert!(same("s", "s").unwrap_err().contains("the state lies in this topic"));
        assert!(same("s", "auditferry-checkpoint").unwrap_err().contains("the checkpoints of the sink `exact`"));
        let unnamed = letters("state: {kafka: {topic: auditferry-dead}}").unwrap_err();
        assert!(unnamed.contains("`auditferry-dead` unless another is given, and the state"), "{unnamed}");
    }

    #[test]
    fn what_cannot_be_meant_is_said() {
        let two = format!("{BUS}, {OTHER}");
        for (dead_letters, sinks, said) in [
            ("{kafka: {topic: dead}}", two.as_str(), "one of bus, other"),
            ("{kafka: {topic: dead, sink: othr}}", &two, "did you mean `other`?"),
            ("{kafka: {topic: dead}}", "{name: out, type: stdout}", "there is no sink of type kafka"),
            ("{kafka: {sink: bus}}", BUS, "`topic` is missing"),
            ("{kafka: {topic: 'dead.{tenant}'}}", BUS, "no name of a topic"),
            ("{kafka: {topic: t}}", BUS, "writes its records to this topic"),
            ("{kafka: {topic: auditferry-checkpoint}}", EXACT, "the checkpoints of the sink `exact` lie in this topic"),
        ] {
            let faults = load(dead_letters, sinks).unwrap_err();
            assert!(faults.contains(said), "{said}: {faults}");
        }
    }
}
