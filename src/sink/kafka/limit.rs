//! What a topic takes at most, asked of the brokers when a message was too large for it: a dead letter
//! then names the limit that must be raised. Comes in: a topic. Goes out: bytes, or nothing where our
//! user may not read a topic's settings (DESCRIBE_CONFIGS) or logs in by a token. Blocks nobody: the client that asks is made
//! and ended on threads of its own.

use std::time::Duration;

use rdkafka::admin::{AdminOptions, ResourceSpecifier};

use super::clients::Clients;
use crate::config::{KafkaConfig, SinkConfig};

/// The setting of a topic.
const SETTING: &str = "max.message.bytes";

/// Asks once, at most for `limit`.
pub(super) async fn of_topic(config: &SinkConfig, kafka: &KafkaConfig, topic: &str, limit: Duration) -> Option<u64> {
    let (config, kafka) = (config.clone(), kafka.clone());
    let make = move || Clients::read(&config, &kafka).ok()?.admin()?.ok();
    let admin = tokio::task::spawn_blocking(make).await.ok()??;
    let options = AdminOptions::new().request_timeout(Some(limit));
    let topic = ResourceSpecifier::Topic(topic);
    let answer = admin.describe_configs([&topic], &options);
    let answer = tokio::time::timeout(limit, answer).await;
    drop(tokio::task::spawn_blocking(move || drop(admin)));
    let resource = answer.ok()?.ok()?.into_iter().next()?.ok()?;
    resource.get(SETTING)?.value.as_ref()?.parse().ok()
}
