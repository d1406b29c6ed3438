//! Clients of a sink beside its producers: consumers that read and ask, and one that asks about topics. Comes in: what the
//! sink's producers are made of. Goes out: clients with the same login, and what they say of the connection. All of it
//! blocks and belongs on a thread of its own. Writes no record.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::admin::AdminClient;
use rdkafka::client::{ClientContext, OAuthToken};
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext};
use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaErrorCode as Code;

use super::producer::{Login, Recipe, RecipeError};
use super::verdict::{Trouble, trouble};
use crate::config::{KafkaConfig, SinkConfig};

/// How long librdkafka is given to ask for the first token; it does so when it begins.
const FIRST: Duration = Duration::from_secs(1);
/// Serves what waits: longer than nothing, after which only the first thing would be served.
const AT_ONCE: Duration = Duration::from_millis(1);
/// How long a cause is waited for.
const CAUSE: Duration = Duration::from_millis(500);
/// Errors heard at once; a few for each broker.
const MOST: usize = 64;
/// What only a producer has.
const OF_PRODUCERS: [&str; 11] = [
    "transactional.id",
    "transaction.timeout.ms",
    "enable.idempotence",
    "acks",
    "message.timeout.ms",
    "compression.type",
    "compression.level",
    "statistics.interval.ms",
    "queue.buffering.max.messages",
    "queue.buffering.max.kbytes",
    "linger.ms",
];

/// What librdkafka speaks to.
pub(super) struct Quiet {
    sink: String,
    login: Login,
    trouble: Mutex<Option<(Trouble, String)>>,
    /// Whether it has asked for a token.
    has_asked: AtomicBool,
}

impl Quiet {
    /// What is wrong with the connection, as far as was heard.
    pub fn trouble(&self) -> Option<(Trouble, String)> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl ClientContext for Quiet {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    fn generate_oauth_token(&self, _: Option<&str>) -> Result<OAuthToken, Box<dyn std::error::Error>> {
        self.has_asked.store(true, Ordering::Release);
        self.login.token()
    }

    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        let message = self.login.clean(message);
        tracing::debug!(target: "auditferry::librdkafka", sink = %self.sink, ?level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        let Some(found) = error.rdkafka_error_code().and_then(|code| trouble(code, reason)) else { return };
        let mut known = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        // Everything ends in "all brokers down", which says less than what came before it.
        if found.weight() >= known.as_ref().map_or(0, |(known, _)| known.weight()) {
            *known = Some((found, self.login.clean(reason)));
        }
    }
}

impl ConsumerContext for Quiet {}

/// A consumer of a sink.
pub(super) type Reader = BaseConsumer<Quiet>;

/// Makes them.
pub(super) struct Clients {
    config: ClientConfig,
    login: Login,
    sink: String,
}

impl Clients {
    /// With what a producer is made of.
    pub fn of(recipe: &Recipe, sink: &str) -> Clients {
        let mut config = recipe.client.clone();
        for name in OF_PRODUCERS {
            config.remove(name);
        }
        Clients { config, login: recipe.login.clone(), sink: sink.to_owned() }
    }

    /// Reads the password and the certificates.
    pub fn read(config: &SinkConfig, kafka: &KafkaConfig) -> Result<Clients, RecipeError> {
        Recipe::read(config, kafka).map(|recipe| Clients::of(&recipe, &config.name))
    }

    fn context(&self) -> Quiet {
        let (sink, login) = (self.sink.clone(), self.login.clone());
        Quiet { sink, login, trouble: Mutex::default(), has_asked: AtomicBool::new(false) }
    }

    /// A consumer that commits nothing by itself, with a token where it needs one. The error is for a person.
    pub fn consumer(&self, settings: &[(&str, &str)]) -> Result<Reader, String> {
        let mut config = self.config.clone();
        config.set("enable.auto.commit", "false").set("auto.offset.reset", "earliest");
        for (name, value) in settings {
            config.set(*name, *value);
        }
        let consumer: Reader = config.create_with_context(self.context()).map_err(not_made)?;
        // librdkafka asks for one through the polls, which questions are not: they would wait in vain.
        let began = Instant::now();
        while self.login.is_by_token()
            && !consumer.context().has_asked.load(Ordering::Acquire)
            && began.elapsed() < FIRST
        {
            serve(&consumer);
        }
        Ok(consumer)
    }

    /// A client that asks about topics and makes them; `None` where the login is by token: rdkafka polls nothing
    /// for it through which librdkafka could ask for one (rust-rdkafka, issue 757), and it would wait in vain.
    pub fn admin(&self) -> Option<Result<AdminClient<Quiet>, String>> {
        (!self.login.is_by_token()).then(|| self.config.create_with_context(self.context()).map_err(not_made))
    }

    /// Fetches another token, where the login is by one.
    pub async fn renew_token(&self) {
        self.login.renew().await;
    }
}

/// Why librdkafka makes no client, without the value, which may be a secret.
pub(super) fn not_made(error: KafkaError) -> String {
    match error {
        KafkaError::ClientCreation(reason) => reason,
        KafkaError::ClientConfig(_, _, name, _) => format!("the setting `{name}` is refused"),
        other => other.to_string(),
    }
}

/// Hears what librdkafka has to say or to ask, all that waits; a poll ends with each error. Only of a consumer without
/// partitions, or a message would be lost.
pub(super) fn serve(consumer: &Reader) {
    for _ in 0..MOST {
        if consumer.poll(AT_ONCE).is_none() {
            break;
        }
    }
}

/// What is wrong with the connection, after a question without an answer. The cause may come a moment after the answer,
/// and after "all brokers down", which says nothing of it.
pub(super) fn cause(consumer: &Reader) -> Option<(Trouble, String)> {
    let began = Instant::now();
    loop {
        serve(consumer);
        let heard = consumer.context().trouble();
        let is_cause = heard.as_ref().is_some_and(|(trouble, _)| *trouble != Trouble::AllAway);
        if is_cause || began.elapsed() >= CAUSE {
            return heard;
        }
    }
}

/// The partitions of a topic.
pub(super) fn partitions(consumer: &Reader, topic: &str, limit: Duration) -> Result<Vec<i32>, Code> {
    serve(consumer);
    let metadata = consumer.fetch_metadata(Some(topic), limit);
    let metadata = metadata.map_err(|error| error.rdkafka_error_code().unwrap_or(Code::Fail))?;
    let topic = metadata.topics().first().ok_or(Code::UnknownTopic)?;
    match topic.error() {
        Some(error) => Err(Code::from(error)),
        None if topic.partitions().is_empty() => Err(Code::UnknownTopic),
        None => Ok(topic.partitions().iter().map(|partition| partition.id()).collect()),
    }
}
