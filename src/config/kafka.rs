//! What a Kafka sink is told, and which of librdkafka's settings are whose: ours (the promise rests on
//! them), given by a key of our own, or the user's. Comes in: what the file says, checked. Goes out: the
//! settings of a producer, without addresses, TLS and secrets, which the sink adds. Opens nothing.
//!
//! Names and ranges: librdkafka 2.12, CONFIGURATION.md.

use std::fmt;

use super::{BatchConfig, TlsConfig, TokenConfig};
use crate::secret::SecretSource;

/// A Kafka cluster and what goes where in it.
#[derive(Clone, Debug, PartialEq)]
pub struct KafkaConfig {
    /// `host:port`, separated by commas: where the cluster is asked for its other brokers.
    pub brokers: String,
    /// Templates. A topic's characters that Kafka does not allow become `_`.
    pub topic: String,
    pub key: String,
    pub headers: Vec<(String, String)>,
    /// A value of [`COMPRESSIONS`].
    pub compression: &'static str,
    pub sasl: Option<SaslConfig>,
    /// `None`: plain TCP.
    pub tls: Option<TlsConfig>,
    /// `None`: at least once.
    pub transactional: Option<TransactionalConfig>,
    pub librdkafka: PassedThrough,
}

/// Bytes of the largest message of our own books, with room for its key and head: 512 KiB of the state, or 30,000 keys.
pub const BOOK_MESSAGE_BYTES: u64 = 640 << 10;

/// Exactly once, by transactions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransactionalConfig {
    /// `transactional.id`: one deployment has it, and a second process that takes it ends the first.
    pub id: String,
    /// Where the keys of what is delivered lie.
    pub checkpoint_topic: String,
}

#[derive(Clone, Debug, PartialEq)]
pub enum SaslConfig {
    Password {
        /// A value of [`MECHANISMS`].
        mechanism: &'static str,
        username: String,
        password: SecretSource,
    },
    /// [`OAUTHBEARER`].
    Token(Box<TokenConfig>),
}

impl SaslConfig {
    /// The name of the mechanism.
    pub fn mechanism(&self) -> &'static str {
        match self {
            SaslConfig::Password { mechanism, .. } => mechanism,
            SaslConfig::Token(_) => OAUTHBEARER,
        }
    }
}

/// Settings passed to librdkafka as they are. `Debug` shows names only: a value may be a passphrase.
#[derive(Clone, Default, PartialEq)]
pub struct PassedThrough(pub Vec<(String, String)>);

impl fmt::Debug for PassedThrough {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|(name, _)| name)).finish()
    }
}

/// Kafka's limit of a topic's name (org.apache.kafka.common.internals.Topic).
pub const TOPIC_LENGTH: usize = 249;

/// Whether the name of a topic may have this byte in it (as above).
pub fn is_of_a_topic(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-')
}

/// Whether Kafka takes `text` for the name of a topic.
pub(super) fn is_topic(text: &str) -> bool {
    (1..=TOPIC_LENGTH).contains(&text.len()) && text.bytes().all(is_of_a_topic) && !matches!(text, "." | "..")
}

/// What librdkafka can compress with.
pub const COMPRESSIONS: [&str; 5] = ["zstd", "lz4", "snappy", "gzip", "none"];
/// How it logs in with a token (RFC 7628).
pub const OAUTHBEARER: &str = "OAUTHBEARER";
/// How librdkafka can log in with a name and a password.
pub const MECHANISMS: [&str; 3] = ["SCRAM-SHA-512", "SCRAM-SHA-256", "PLAIN"];

/// The default key of a message: spreads evenly, and is what people search by. Two records may share an Id, so it is
/// not for compacted topics (docs/decisions/003).
pub const DEFAULT_KEY: &str = "{tenant}:{id}";

/// Bytes of the largest message we hand to librdkafka, unless `message.max.bytes` is passed through. Far
/// above what brokers take by default (1 MiB): theirs counts compressed, and they say no by themselves.
const MAX_MESSAGE_BYTES: u64 = 16 * 1024 * 1024;

/// Where the keys of what is delivered lie, unless another topic is given.
pub const DEFAULT_CHECKPOINT_TOPIC: &str = "auditferry-checkpoint";

/// How long the brokers keep a transaction open of which they hear nothing: it hides what others wrote
/// after it. Also the longest that a message of one may be on its way.
pub const TRANSACTION_TIMEOUT_MS: u64 = 60_000;

/// The name of the setting that a dead letter for an oversized message names.
pub const MESSAGE_MAX_BYTES: &str = "message.max.bytes";

/// Settings that may not be passed through, each with what to do instead. A name that ends with a dot
/// stands for all that begin so.
const REFUSED: &[(&[&str], &str)] = &[
    (
        &["acks", "request.required.acks", "enable.idempotence", "enable.gapless.guarantee"],
        "it is what makes nothing be lost or doubled: `acks=all` and `enable.idempotence=true` are always on",
    ),
    (
        &["message.timeout.ms", "delivery.timeout.ms", "message.send.max.retries", "retries"],
        "a message is tried until the broker has answered for good; the wait never gives up",
    ),
    (&["transactional.id", "transaction.timeout.ms"], "give `transactional: true` and `transactional_id` of the sink"),
    (&["bootstrap.servers", "metadata.broker.list"], "give `brokers` of the sink"),
    (&["compression.type", "compression.codec"], "give `compression` of the sink"),
    (
        &[
            "sasl.mechanism",
            "sasl.mechanisms",
            "sasl.username",
            "sasl.password",
            "sasl.oauthbearer.",
            "enable.sasl.oauthbearer.",
            "security.protocol",
        ],
        "give `sasl: { mechanism: …, username: …, password: … }` and `tls: {}` of the sink",
    ),
    (
        &[
            "ssl.ca.location",
            "ssl.ca.pem",
            "ssl.certificate.location",
            "ssl.certificate.pem",
            "ssl.key.location",
            "ssl.key.pem",
            "enable.ssl.certificate.verification",
        ],
        "give `tls: { ca_file: …, cert_file: …, key_file: …, verify: … }` of the sink",
    ),
    (
        &["queue.buffering.max.messages", "queue.buffering.max.kbytes"],
        "memory is bounded by `batch.max_bytes` times `concurrency` of the sink",
    ),
    (
        &["statistics.interval.ms", "log_level", "log.queue", "debug", "delivery.report.only.error", "enabled_events"],
        "the sink needs it as it is for metrics, log and acknowledgements",
    ),
    (&["plugin.library.paths"], "no code is loaded from elsewhere"),
    (&["test."], "it is librdkafka's own test"),
];

/// Why `name` may not be passed through, as a hint; `None` when it may.
pub fn refused(name: &str) -> Option<&'static str> {
    let is = |refused: &&str| name == *refused || (refused.ends_with('.') && name.starts_with(*refused));
    let callback = name.ends_with("_cb") || name == "opaque";
    REFUSED
        .iter()
        .find(|(names, _)| names.iter().any(is))
        .map(|(_, hint)| *hint)
        .or(callback.then_some("it is no setting but a part of a program"))
}

impl KafkaConfig {
    /// The settings of a producer but for addresses, TLS and secrets; the user's come last and win.
    pub fn settings(&self, batch: &BatchConfig) -> Vec<(String, String)> {
        let mut settings: Vec<(String, String)> = [
            ("client.id", "auditferry"),
            // The promise: every replica in sync has it, and a retry never doubles it.
            ("acks", "all"),
            ("enable.idempotence", "true"),
            // Never given up inside librdkafka: what fails there would be sent again outside of it, twice.
            ("message.timeout.ms", "0"),
            ("compression.type", self.compression),
            // A topic that is not there is called missing after so long instead of 30 s: it is held, not dropped.
            ("topic.metadata.propagation.max.ms", "5000"),
            // A broker that comes back is found within two seconds instead of ten.
            ("reconnect.backoff.max.ms", "2000"),
            ("socket.keepalive.enable", "true"),
            // The throttle times of the brokers are in the statistics only.
            ("statistics.interval.ms", "5000"),
            // No limit by number; the bytes below are the limit.
            ("queue.buffering.max.messages", "0"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into();
        if self.compression == "zstd" {
            // Level 1: as small as the default level 3 (15 % of the records' size) at 794 instead of 574 MB/s a core.
            settings.push(("compression.level".to_owned(), "1".to_owned()));
        }
        settings.push((MESSAGE_MAX_BYTES.to_owned(), MAX_MESSAGE_BYTES.to_string()));
        if let Some(transactional) = &self.transactional {
            settings.retain(|(name, _)| name != "message.timeout.ms");
            // What is not taken in time is no loss here: the transaction is aborted, and its batches are sent again.
            let limit = TRANSACTION_TIMEOUT_MS.to_string();
            for (name, value) in [
                ("transactional.id", &transactional.id),
                ("transaction.timeout.ms", &limit),
                ("message.timeout.ms", &limit),
            ] {
                settings.push((name.to_owned(), value.clone()));
            }
        }
        let in_flight = batch.concurrency as u64 * (batch.max_bytes as u64).max(self.max_message_bytes());
        settings.push(("queue.buffering.max.kbytes".to_owned(), (2 * in_flight / 1024).min(1 << 21).to_string()));
        for (name, value) in &self.librdkafka.0 {
            settings.retain(|(ours, _)| ours != name);
            settings.push((name.clone(), value.clone()));
        }
        settings
    }

    /// Bytes of the largest message that is handed to librdkafka.
    pub fn max_message_bytes(&self) -> u64 {
        let given = self.librdkafka.0.iter().find(|(name, _)| name == MESSAGE_MAX_BYTES);
        given.and_then(|(_, value)| value.parse().ok()).unwrap_or(MAX_MESSAGE_BYTES)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_promise_rests_on_may_not_be_passed_through() {
        for name in ["acks", "enable.idempotence", "transactional.id", "retries", "dr_msg_cb", "test.mock.num.brokers"]
        {
            assert!(refused(name).is_some(), "{name}");
        }
        for name in ["linger.ms", "client.id", "socket.timeout.ms", "partitioner", "ssl.key.password"] {
            assert_eq!(refused(name), None, "{name}");
        }
    }

    #[test]
    fn a_passed_value_is_not_shown() {
        let passed = PassedThrough(vec![("ssl.key.password".into(), "canary".into())]);
        assert_eq!(format!("{passed:?}"), "[\"ssl.key.password\"]");
    }
}
