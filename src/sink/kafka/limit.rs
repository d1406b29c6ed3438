//! What a topic takes at most, asked of the brokers when a message was too large for it: a dead letter
//! then names the limit that must be raised. Comes in: a topic. Goes out: bytes, or nothing where our
//! user may not read a topic's settings (DESCRIBE_CONFIGS). Blocks nobody: the client that asks is made
//! and ended on threads of its own.

use std::time::Duration;

use rdkafka::admin::{AdminClient, AdminOptions, ResourceSpecifier};
use rdkafka::client::DefaultClientContext;

use super::producer::Recipe;
use crate::config::{KafkaConfig, SaslConfig, SinkConfig};

/// The setting of a topic.
const SETTING: &str = "max.message.bytes";

/// Asks once, at most for `limit`.
pub(super) async fn of_topic(config: &SinkConfig, kafka: &KafkaConfig, topic: &str, limit: Duration) -> Option<u64> {
    if matches!(kafka.sasl, Some(SaslConfig::Token(_))) {
        // rdkafka's admin client hears of no question for a token, and would wait in vain.
        return None;
    }
    let (config, kafka) = (config.clone(), kafka.clone());
    let make = move || {
        let mut client = Recipe::read(&config, &kafka).ok()?.client;
        // It asks a question and writes nothing.
        client.remove("enable.idempotence").remove("statistics.interval.ms");
        client.create::<AdminClient<DefaultClientContext>>().ok()
    };
    let admin = tokio::task::spawn_blocking(make).await.ok()??;
    let options = AdminOptions::new().request_timeout(Some(limit));
    let topic = ResourceSpecifier::Topic(topic);
    let answer = admin.describe_configs([&topic], &options);
    let answer = tokio::time::timeout(limit, answer).await;
    drop(tokio::task::spawn_blocking(move || drop(admin)));
    let resource = answer.ok()?.ok()?.into_iter().next()?.ok()?;
    resource.get(SETTING)?.value.as_ref()?.parse().ok()
}
