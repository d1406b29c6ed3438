//! One librdkafka producer: made, spoken with, and ended. Comes in: settings and secrets. Goes out:
//! messages, and what librdkafka says: delivery reports into the ledger, troubles of the connection,
//! throttle times, its log. librdkafka's callbacks run on its polling thread and never wait. Making and
//! ending a producer block and belong off the async threads; ending sees to that by itself.

use std::collections::BTreeMap;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rdkafka::ClientConfig;
use rdkafka::client::{ClientContext, OAuthToken};
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::message::{DeliveryResult, Header, Message as _, OwnedHeaders};
use rdkafka::producer::{BaseRecord, Producer as _, ProducerContext, ThreadedProducer};
use rdkafka::statistics::Statistics;
use rdkafka::types::RDKafkaErrorCode as Code;
use secrecy::ExposeSecret;

use super::clients::not_made;
use super::frame::Frame;
use super::ledger::{Ledger, Standing};
use super::token::Tokens;
use super::verdict::{Trouble, trouble};
use crate::config::{KafkaConfig, SaslConfig, SinkConfig};
use crate::http::HttpError;
use crate::metrics::Metrics;
use crate::secret::{SecretError, scrub};
use crate::sink::SinkBuildError;

/// The bit of a ticket that says that its message is a checkpoint.
pub(super) const CHECKPOINT: usize = 1 << (usize::BITS - 1);

/// What all producers of a sink share.
pub(super) struct Shared {
    pub sink: String,
    pub ledger: Ledger,
    pub metrics: Arc<Metrics>,
    /// Messages that the brokers have taken so far.
    pub taken: AtomicU64,
    trouble: Mutex<Option<(Trouble, String)>>,
    /// Held while somebody asks what is wrong with TLS.
    pub diagnosing: tokio::sync::Mutex<()>,
    /// Whether it was asked what is wrong with TLS, since the last good word.
    diagnosed: AtomicBool,
    /// Whether `trouble` holds one: asked at each report.
    troubled: AtomicBool,
    /// Milliseconds of throttling that did not make a whole second yet.
    throttled_ms: AtomicU64,
    /// Whether the brokers throttled us in the last round of statistics.
    throttled: AtomicBool,
    /// Broken connections so far.
    breaks: AtomicU64,
    /// Where checkpoints landed since it was last asked: partition → next offset.
    landed: Mutex<BTreeMap<i32, i64>>,
}

impl Shared {
    pub fn new(sink: &str, metrics: Arc<Metrics>) -> Shared {
        metrics.kafka_throttled.with_label_values(&[sink]);
        Shared {
            sink: sink.to_owned(),
            ledger: Ledger::default(),
            metrics,
            taken: AtomicU64::new(0),
            trouble: Mutex::default(),
            diagnosing: tokio::sync::Mutex::default(),
            diagnosed: AtomicBool::new(false),
            troubled: AtomicBool::new(false),
            throttled_ms: AtomicU64::new(0),
            throttled: AtomicBool::new(false),
            breaks: AtomicU64::new(0),
            landed: Mutex::default(),
        }
    }

    /// What is wrong with the connection as a whole, since the last good word.
    pub fn trouble(&self) -> Option<(Trouble, String)> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// A broker has answered well.
    pub fn well(&self) {
        if self.troubled.swap(false, Ordering::AcqRel) {
            self.diagnosed.store(false, Ordering::Release);
            *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = None;
        }
    }

    /// Whether TLS fails and nobody has asked why.
    pub fn wants_diagnosis(&self) -> bool {
        let is_tls = matches!(self.trouble(), Some((Trouble::Tls, _)));
        is_tls && !self.diagnosed.swap(true, Ordering::AcqRel)
    }

    /// What is wrong with TLS, in better words than librdkafka's.
    pub fn diagnosed(&self, found: String) {
        let mut trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((Trouble::Tls, said)) = &mut *trouble {
            *said = format!("{found} ({said})");
        }
    }

    fn trouble_is(&self, found: Trouble, said: String) {
        let mut trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        if matches!(*trouble, Some((Trouble::Tls, _)))
            && found == Trouble::Tls
            && self.diagnosed.load(Ordering::Acquire)
        {
            // It is said again and again, and not as well.
            return;
        }
        // Refused logins and handshakes also end in a broken connection, and everything in "all brokers
        // down"; each says less than what came before it.
        let known = trouble.as_ref().map(|(known, _)| *known);
        if found.weight() >= known.map_or(0, Trouble::weight) {
            *trouble = Some((found, said));
        }
        self.troubled.store(true, Ordering::Release);
    }

    /// How often a connection has broken: after one, a request of ours may still be on its way somewhere.
    pub fn breaks(&self) -> u64 {
        self.breaks.load(Ordering::Acquire)
    }

    /// Where the checkpoints landed that were reported since the last call.
    pub fn take_landed(&self) -> BTreeMap<i32, i64> {
        std::mem::take(&mut *self.landed.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub fn is_throttled(&self) -> bool {
        self.throttled.load(Ordering::Acquire)
    }
}

/// What is known of a client's login beside its settings.
#[derive(Clone, Default)]
pub(super) struct Login {
    password: Vec<u8>,
    tokens: Option<Arc<Tokens>>,
}

impl Login {
    /// librdkafka's words without the password or the token, on one line.
    pub fn clean(&self, said: &str) -> String {
        let clean = scrub(said.as_bytes(), &self.password);
        let clean = self.tokens.as_ref().map_or_else(|| clean.to_vec(), |tokens| tokens.scrub(&clean));
        String::from_utf8_lossy(&clean).replace(char::is_control, " ")
    }

    /// For librdkafka, which asks when it needs one and when four fifths of the last one's life are over.
    pub fn token(&self) -> Result<OAuthToken, Box<dyn std::error::Error>> {
        let tokens = self.tokens.as_ref().ok_or("the sink has no `sasl.token`")?;
        Ok(tokens.token()?)
    }

    /// Whether librdkafka must be given tokens.
    pub fn is_by_token(&self) -> bool {
        self.tokens.is_some()
    }

    /// Fetches another token where the brokers refuse the one that there is.
    pub async fn renew(&self) {
        if let Some(tokens) = &self.tokens {
            tokens.renew().await;
        }
    }
}

/// What a client is made of could not be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum RecipeError {
    #[error(transparent)]
    Secret(#[from] SecretError),
    #[error("no client for the token endpoint: {0}")]
    Http(#[from] HttpError),
}

impl RecipeError {
    /// As an error of the sink.
    pub fn of(self, sink: &str) -> SinkBuildError {
        let sink = sink.to_owned();
        match self {
            RecipeError::Secret(source) => SinkBuildError::Secret { sink, source },
            RecipeError::Http(source) => SinkBuildError::Http { sink, source },
        }
    }
}

/// What a producer is made of: settings with every secret as it stands now.
pub(super) struct Recipe {
    pub client: ClientConfig,
    pub login: Login,
    /// Changes when the login or a certificate does.
    pub print: u64,
}

impl Recipe {
    /// Reads the password and the certificates.
    pub fn read(config: &SinkConfig, kafka: &KafkaConfig) -> Result<Recipe, RecipeError> {
        let mut client: ClientConfig = kafka.settings(&config.batch).into_iter().collect();
        // Everything that is said goes through `log` below.
        client.set_log_level(RDKafkaLogLevel::Info).set("bootstrap.servers", &kafka.brokers);
        let mut print = DefaultHasher::new();
        let mut login = Login::default();
        if let Some(sasl) = &kafka.sasl {
            client.set("sasl.mechanism", sasl.mechanism());
            match sasl {
                SaslConfig::Password { username, password, .. } => {
                    let secret = password.read()?;
                    client.set("sasl.username", username).set("sasl.password", secret.expose_secret());
                    login.password = secret.expose_secret().as_bytes().to_vec();
                    login.password.hash(&mut print);
                }
                SaslConfig::Token(token) => {
                    let tokens = Tokens::of(&config.name, token)?;
                    tokens.serial().hash(&mut print);
                    login.tokens = Some(tokens);
                }
            }
        }
        let protocol = match (&kafka.sasl, &kafka.tls) {
            (None, None) => "plaintext",
            (None, Some(_)) => "ssl",
            (Some(_), None) => "sasl_plaintext",
            (Some(_), Some(_)) => "sasl_ssl",
        };
        client.set("security.protocol", protocol);
        if let Some(tls) = &kafka.tls {
            // `probe`: where the distributions keep their authorities.
            let ca = tls.ca_file.as_ref().map_or("probe".into(), |path| path.to_string_lossy());
            client.set("ssl.ca.location", ca);
            if let (Some(cert), Some(key)) = (&tls.cert_file, &tls.key_file) {
                client.set("ssl.certificate.location", cert.to_string_lossy());
                client.set("ssl.key.location", key.to_string_lossy());
            }
            if tls.verify == Some(false) {
                client.set("enable.ssl.certificate.verification", "false");
            }
            for path in [&tls.ca_file, &tls.cert_file, &tls.key_file].into_iter().flatten() {
                std::fs::read(path).unwrap_or_default().hash(&mut print);
            }
        }
        Ok(Recipe { client, login, print: print.finish() })
    }
}

/// What librdkafka speaks to.
pub(super) struct Context {
    shared: Arc<Shared>,
    generation: u64,
    alone: bool,
    login: Login,
}

impl ClientContext for Context {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    fn generate_oauth_token(&self, _: Option<&str>) -> Result<OAuthToken, Box<dyn std::error::Error>> {
        self.login.token()
    }

    /// At debug: librdkafka repeats itself while a broker is away. What matters is said once by the
    /// circuit, in the words of `error`.
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        let message = self.login.clean(message);
        tracing::debug!(target: "auditferry::librdkafka", sink = %self.shared.sink, ?level, facility, message);
    }

    fn stats(&self, statistics: Statistics) {
        let sums = statistics.brokers.values().filter_map(|broker| Some(broker.throttle.as_ref()?.sum));
        let ms = u64::try_from(sums.sum::<i64>()).unwrap_or(0);
        let before = self.shared.throttled_ms.fetch_add(ms, Ordering::AcqRel);
        let seconds = (before + ms) / 1000 - before / 1000;
        self.shared.metrics.kafka_throttled.with_label_values(&[&self.shared.sink]).inc_by(seconds);
        let was = self.shared.throttled.swap(ms > 0, Ordering::AcqRel);
        if ms > 0 && !was {
            tracing::warn!(sink = %self.shared.sink, waited_ms = ms, "the brokers throttle us because of a quota; records go out more slowly, none is lost");
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        if let Some(found) = error.rdkafka_error_code().and_then(|code| trouble(code, reason)) {
            self.shared.trouble_is(found, self.login.clean(reason));
            self.shared.breaks.fetch_add(1, Ordering::AcqRel);
        }
    }
}

impl ProducerContext for Context {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, ticket: usize) {
        let standing = match result {
            Ok(message) => {
                if ticket & CHECKPOINT != 0 {
                    let next = message.offset() + 1;
                    let mut landed = self.shared.landed.lock().unwrap_or_else(PoisonError::into_inner);
                    landed.entry(message.partition()).and_modify(|at| *at = next.max(*at)).or_insert(next);
                }
                self.shared.taken.fetch_add(1, Ordering::AcqRel);
                self.shared.well();
                Standing::Taken
            }
            Err((error, _)) => {
                let code = error.rdkafka_error_code().unwrap_or(Code::Fail);
                Standing::Failed { code, alone: self.alone }
            }
        };
        self.shared.ledger.report(ticket, self.generation, standing);
    }
}

/// A producer that ends on a thread of its own, wherever it is let go.
pub(super) struct Producer {
    inner: Option<ThreadedProducer<Context>>,
    shared: Arc<Shared>,
    pub generation: u64,
    alone: bool,
    pub print: u64,
}

impl Producer {
    /// Makes a producer; blocks for reading certificates and starting threads. `alone`: each message
    /// goes in a request of its own, so that a refusal is about it and no other.
    pub fn make(recipe: Recipe, shared: &Arc<Shared>, generation: u64, alone: bool) -> Result<Producer, String> {
        let mut client = recipe.client;
        if alone {
            // The other producer's statistics tell of throttling already.
            client.set("batch.num.messages", "1").set("statistics.interval.ms", "0");
        }
        let context = Context { shared: Arc::clone(shared), generation, alone, login: recipe.login };
        let inner: ThreadedProducer<Context> = client.create_with_context(context).map_err(not_made)?;
        let shared = Arc::clone(shared);
        Ok(Producer { inner: Some(inner), shared, generation, alone, print: recipe.print })
    }

    /// Hands a message over; its report goes to the ledger, where it must stand as queued. An error
    /// means that librdkafka did not take it.
    pub fn produce(&self, frame: &Frame<'_>, names: &[String]) -> Result<(), Code> {
        let Some(inner) = &self.inner else { return Err(Code::BrokerDestroy) };
        let mut headers = OwnedHeaders::new_with_capacity(names.len());
        for (key, value) in names.iter().zip(&frame.headers) {
            headers = headers.insert(Header { key, value: Some(*value) });
        }
        let mut record = BaseRecord::with_opaque_to(frame.topic, frame.ticket)
            .payload(frame.value)
            .timestamp(frame.timestamp_ms)
            .headers(headers);
        if !frame.key.is_empty() {
            record = record.key(frame.key);
        }
        inner.send(record).map_err(|(error, _)| error.rdkafka_error_code().unwrap_or(Code::InvalidArgument))
    }

    /// Hands over a message of our own books; as [`produce`](Self::produce). `partition`: this one, else by the key.
    pub fn note(
        &self,
        topic: &str,
        ticket: usize,
        key: &str,
        value: Option<&[u8]>,
        partition: Option<i32>,
    ) -> Result<(), Code> {
        let Some(inner) = &self.inner else { return Err(Code::BrokerDestroy) };
        let mut record = BaseRecord::<str, [u8], usize>::with_opaque_to(topic, ticket).key(key);
        record.payload = value;
        record.partition = partition;
        inner.send(record).map_err(|(error, _)| error.rdkafka_error_code().unwrap_or(Code::InvalidArgument))
    }

    /// One call of the transaction protocol; blocks.
    pub fn call(&self, call: impl FnOnce(&ThreadedProducer<Context>) -> KafkaResult<()>) -> KafkaResult<()> {
        self.inner.as_ref().map_or(Err(KafkaError::Canceled), call)
    }

    /// Fetches another token, where it logs in by one.
    pub async fn renew_token(&self) {
        if let Some(inner) = &self.inner {
            let context = Arc::clone(inner.client().context());
            context.login.renew().await;
        }
    }

    /// Why this producer will never send again; `None` while it can.
    pub fn fatal(&self) -> Option<(Code, String)> {
        self.inner.as_ref()?.client().fatal_error()
    }

    /// Asks the brokers about a topic; blocks up to `limit`.
    pub fn ask(&self, topic: &str, limit: std::time::Duration) -> Result<(), Code> {
        let Some(inner) = &self.inner else { return Err(Code::BrokerDestroy) };
        let metadata = inner.client().fetch_metadata(Some(topic), limit);
        let metadata = metadata.map_err(|error| error.rdkafka_error_code().unwrap_or(Code::Fail))?;
        match metadata.topics().iter().find_map(|topic| topic.error()) {
            Some(error) => Err(Code::from(error)),
            None => Ok(()),
        }
    }
}

impl Drop for Producer {
    fn drop(&mut self) {
        let Some(inner) = self.inner.take() else { return };
        let (shared, generation, alone) = (Arc::clone(&self.shared), self.generation, self.alone);
        let end = move || {
            // Purges what is queued and in flight, hears of it, and joins librdkafka's threads.
            drop(inner);
            shared.ledger.sweep(generation, alone);
        };
        match tokio::runtime::Handle::try_current() {
            // The runtime's end waits for it.
            Ok(runtime) => drop(runtime.spawn_blocking(end)),
            Err(_) => drop(std::thread::spawn(end)),
        }
    }
}
