//! What a message is made of: the texts of the configuration, parsed once. Comes in: texts. Goes out:
//! templates, and a topic's name for an event.

use super::*;
use crate::config::{TOPIC_LENGTH, is_of_a_topic};

/// Headers that every message has; the key is how a consumer tells a duplicate in any format.
const OUR_HEADERS: [(&str, &str); 3] =
    [("auditferry_key", "{key}"), ("tenant", "{tenant}"), ("content_type", "{content_type}")];
/// What stands in a topic's name for something that a record does not have.
const NO_PART: &[u8] = b"none";

/// See the module's head.
pub(super) struct Templates {
    pub topic: Template,
    pub key: Template,
    pub header_names: Vec<String>,
    /// As many as names.
    pub headers: Vec<Template>,
}

impl Templates {
    pub fn new(config: &SinkConfig, kafka: &KafkaConfig) -> Result<Templates, SinkBuildError> {
        let sink = &config.name;
        let template = |field: &'static str, text: &str| {
            Template::parse(text).map_err(|source| SinkBuildError::Template { sink: sink.clone(), field, source })
        };
        let (mut header_names, mut headers) = (Vec::new(), Vec::new());
        let given = kafka.headers.iter().map(|(name, text)| (name.as_str(), text.as_str()));
        for (header, text) in OUR_HEADERS
            .into_iter()
            .filter(|(ours, _)| given.clone().all(|(name, _)| name != *ours))
            .chain(given.clone())
        {
            header_names.push(header.to_owned());
            headers.push(template("headers", text)?);
        }
        let (topic, key) = (template("topic", &kafka.topic)?, template("key", &kafka.key)?);
        Ok(Templates { topic, key, header_names, headers })
    }
}

/// The topic's name; what Kafka does not allow in one becomes `_`.
pub(super) fn push_topic(template: &Template, event: &Event<'_>, out: &mut Vec<u8>) {
    let start = out.len();
    template.render_filled(event, NO_PART, out);
    out.truncate(start + TOPIC_LENGTH);
    for byte in &mut out[start..] {
        if !is_of_a_topic(*byte) {
            *byte = b'_';
        }
    }
}
