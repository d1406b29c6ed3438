//! The configuration as meant: one field a room, everything checked, nothing of the file's spelling
//! left. Read from YAML by [`load()`]; all faults are reported at once, each with its place.

mod check;
mod check_auth;
mod check_edit;
mod check_elasticsearch;
mod check_enrich;
mod check_http;
mod check_kafka;
mod check_login;
mod check_sasl;
mod check_sinks;
mod check_state;
mod check_syslog;
mod check_token;
mod check_transactional;
mod condition;
mod credential;
mod dead_letters;
mod elasticsearch;
mod example;
mod faults;
mod file;
mod http;
mod inputs;
mod interpolate;
mod kafka;
mod load;
mod login;
mod parts;
mod proxy;
mod schema;
mod section;
mod snippet;
mod syntax;
mod syslog;
mod templates;
mod tree;
mod values;
mod when;

pub use condition::{Key, Matcher, Network, Test, When};
pub use credential::{
    CertificateConfig, CredentialConfig, ManagedIdentityConfig, TokenConfig, TokenEndpoint, WorkloadIdentityConfig,
};
pub use dead_letters::{DeadLettersConfig, DeadTopicConfig};
pub use elasticsearch::{DataStream, ElasticsearchConfig, IndexTarget, Pipeline};
pub use example::EXAMPLE;
pub use faults::{ConfigFaults, Fault, Place, Severity};
pub use http::{HttpAddress, HttpAddressError, HttpConfig, HttpEncoding, HttpPreset, HttpPresetDefaults};
pub use inputs::Inputs;
pub use kafka::{
    BOOK_MESSAGE_BYTES, DEFAULT_CHECKPOINT_TOPIC, KafkaConfig, MESSAGE_MAX_BYTES, PassedThrough, SaslConfig,
    TOPIC_LENGTH, TRANSACTION_TIMEOUT_MS, TransactionalConfig, is_of_a_topic,
};
pub use load::{Loaded, WrittenCertificate, load, load_str, load_with_inputs, load_with_warnings};
pub use login::{API_KEY, BEARER, LoginConfig, SecretHeader, SignatureAlgorithm, SignatureConfig};
pub use parts::{NamedTenant, Parts, load_parts};
pub use proxy::{ProxyAddress, ProxyConfig};
pub use schema::document as schema;
pub use syslog::{
    DATAGRAM_MAX, FACILITIES, Framing, Oversize, Rfc, SEVERITIES, SeverityRule, SyslogAddress, SyslogConfig, UnixKind,
};
pub use templates::{body_pieces, places as template_places};
pub use values::{is_private, parse_duration};
pub use when::starts_with;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use url::Url;

use crate::clock::Clock;
use crate::edit::FieldPath;
use crate::feed::{ContentType, Tenant};
use crate::normalize::{Form, Profile};
use crate::secret::SecretSource;

/// Everything `run` needs.
#[derive(Clone, Debug)]
pub struct Config {
    pub state: StateConfig,
    /// `None`: `state.dir` lies on a disk.
    pub state_topic: Option<StateTopic>,
    pub admin: AdminConfig,
    pub collect: CollectConfig,
    pub tenants: Vec<TenantConfig>,
    /// Whether ECS documents hold the record once more, as a text.
    pub keep_original: bool,
    pub enrich: EnrichConfig,
    pub dead_letters: DeadLettersConfig,
    pub sinks: Vec<SinkConfig>,
    /// Anything but the system clock is refused unless every endpoint is on loopback.
    pub clock: Clock,
}

#[derive(Clone, Debug, PartialEq)]
pub struct StateConfig {
    pub dir: PathBuf,
    /// Bytes of record keys kept on disk before the oldest day goes.
    pub max_delivered_bytes: u64,
}

/// The state in Kafka instead of on a disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateTopic {
    /// Name of the transactional sink that writes it.
    pub sink: String,
    pub topic: String,
}

#[derive(Clone, Debug, PartialEq)]
pub struct AdminConfig {
    /// `None`: no listener.
    pub listen: Option<SocketAddr>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct CollectConfig {
    /// How far back the first start goes; at most 7 days.
    pub backfill: Duration,
    pub poll_interval: Duration,
    /// Bytes fetched and not yet done, over all tenants.
    pub in_flight: usize,
    /// Bytes of one record; a larger one goes to the dead letters.
    pub max_record: usize,
    /// Requests a minute and tenant, before any throttling is heard.
    pub requests_per_minute: u32,
    /// Blob fetches at once, per tenant and in all.
    pub fetches_per_tenant: usize,
    pub fetches: usize,
    /// A body must bring 16 KiB, or its end, in every stretch of this length.
    pub stall_timeout: Duration,
    /// Towards the service, the token endpoint included.
    pub tls: TlsConfig,
    /// The way to the service.
    pub proxy: ProxyConfig,
}

#[derive(Clone, Debug, PartialEq)]
pub struct TenantConfig {
    pub tenant: Arc<Tenant>,
    /// The application; empty where a managed identity says by itself who it is.
    pub client_id: String,
    /// How the application proves who it is.
    pub credential: CredentialConfig,
    /// Root of the Management Activity API; the only host that is ever sent a token.
    pub api: Url,
    /// Root of the token endpoint.
    pub login: Url,
    pub content_types: Vec<ContentType>,
    /// `PublisherIdentifier` of every request: the tenant's own id unless given.
    pub publisher_id: String,
}

/// What is added to events beside what the records say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnrichConfig {
    /// Databases of cities or countries, in MaxMind's format; the first that knows an address counts.
    pub city: Vec<PathBuf>,
    /// Databases of autonomous systems, likewise.
    pub asn: Vec<PathBuf>,
    /// Whether `user_agent.original` is taken apart.
    pub user_agent: bool,
}

/// What a configuration means that says nothing of it.
impl Default for EnrichConfig {
    fn default() -> EnrichConfig {
        EnrichConfig { city: Vec::new(), asn: Vec::new(), user_agent: true }
    }
}

/// How an event leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Raw,
    Ecs,
    Cef,
    Leef,
}

impl Format {
    /// As the configuration writes it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Format::Raw => "raw",
            Format::Ecs => "ecs",
            Format::Cef => "cef",
            Format::Leef => "leef",
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct SinkConfig {
    pub name: String,
    /// False: a blob does not wait for this sink, and what does not fit its queue is dropped and counted.
    pub required: bool,
    pub format: Format,
    /// Whose habits its ECS documents follow.
    pub ecs_profile: Profile,
    /// `None`: everything.
    pub when: Option<When>,
    pub edit: EditConfig,
    /// `None`: as fast as the receiver takes it.
    pub rate_limit: Option<RateLimitConfig>,
    pub batch: BatchConfig,
    pub retry: RetryConfig,
    pub kind: SinkKind,
}

impl SinkConfig {
    /// What records are written as for this sink; where they are sent as they came, what could not be read.
    pub fn form(&self) -> Form {
        match self.format {
            Format::Raw | Format::Ecs => Form::Ecs(self.ecs_profile),
            Format::Cef => Form::Cef,
            Format::Leef => Form::Leef,
        }
    }

    /// The format for people: `ecs`, or `ecs (elastic)`.
    pub fn format_name(&self) -> String {
        match (self.format, self.ecs_profile) {
            (Format::Ecs, Profile::Elastic) => format!("{} ({})", self.format.as_str(), self.ecs_profile.as_str()),
            (format, _) => format.as_str().to_owned(),
        }
    }

    /// Whether it goes by how grave a record is.
    pub fn grades(&self) -> bool {
        matches!(&self.kind, SinkKind::Syslog(syslog) if syslog.severity == SeverityRule::Outcome)
    }

    /// Files that are read when the sink is built and not again: other content makes another sink of it. Kafka's
    /// are read again while its brokers refuse us, those of syslog for each connection.
    pub fn files(&self) -> Vec<&Path> {
        let mut files = match &self.kind {
            SinkKind::SplunkHec(hec) => hec.tls.files(),
            SinkKind::Elasticsearch(elasticsearch) => elasticsearch.tls.files(),
            SinkKind::Http(http) => http.tls.files(),
            SinkKind::Stdout | SinkKind::File(_) | SinkKind::Kafka(_) | SinkKind::Syslog(_) => Vec::new(),
        };
        if let Some(HashConfig { key: SecretSource::File(path), .. }) = &self.edit.hash {
            files.push(path);
        }
        files
    }
}

/// What a sink is shown of an event.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct EditConfig {
    pub drop: Vec<FieldPath>,
    pub hash: Option<HashConfig>,
    /// Fields put in, each with its template.
    pub add: Vec<(FieldPath, String)>,
}

impl EditConfig {
    /// Whether the sink is shown everything as it is.
    pub fn is_empty(&self) -> bool {
        self.add.is_empty() && !self.takes_away()
    }

    /// Whether something of a record is kept from the sink.
    pub fn takes_away(&self) -> bool {
        !self.drop.is_empty() || self.hash.is_some()
    }
}

/// Fields that leave as pseudonyms.
#[derive(Clone, Debug, PartialEq)]
pub struct HashConfig {
    /// Read once, when the sink is built: another key is another set of pseudonyms, and another sink for a reload.
    pub key: SecretSource,
    pub fields: Vec<FieldPath>,
}

/// How fast a sink may be sent to; at least one of the two is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateLimitConfig {
    pub events_per_second: Option<u64>,
    /// Bytes as encoded, before compression.
    pub bytes_per_second: Option<u64>,
    /// How long unused allowance is saved up.
    pub burst: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BatchConfig {
    pub max_bytes: usize,
    pub max_events: usize,
    /// How long the first event of a batch may wait for company.
    pub linger: Duration,
    /// Batches in the air at once.
    pub concurrency: usize,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RetryConfig {
    pub initial: Duration,
    pub max: Duration,
}

#[derive(Clone, Debug, PartialEq)]
#[allow(clippy::large_enum_variant, reason = "a handful of them exist, made once")]
pub enum SinkKind {
    Stdout,
    File(FileConfig),
    SplunkHec(HecConfig),
    Elasticsearch(ElasticsearchConfig),
    Kafka(KafkaConfig),
    Syslog(SyslogConfig),
    Http(HttpConfig),
}

impl Config {
    /// The sink that keeps the state, and where, if it is not on a disk.
    pub fn kept_by(&self) -> Option<(&SinkConfig, &KafkaConfig, &StateTopic)> {
        let topic = self.state_topic.as_ref()?;
        let sink = self.sinks.iter().find(|sink| sink.name == topic.sink)?;
        match &sink.kind {
            SinkKind::Kafka(kafka) => Some((sink, kafka, topic)),
            _ => None,
        }
    }
}

impl SinkKind {
    /// The value of `type` in the file.
    pub fn type_name(&self) -> &'static str {
        match self {
            SinkKind::Stdout => "stdout",
            SinkKind::File(_) => "file",
            SinkKind::SplunkHec(_) => "splunk_hec",
            SinkKind::Elasticsearch(_) => "elasticsearch",
            SinkKind::Kafka(_) => "kafka",
            SinkKind::Syslog(_) => "syslog",
            SinkKind::Http(_) => "http",
        }
    }

    /// Where it writes, for a person.
    pub fn target(&self) -> String {
        match self {
            SinkKind::Stdout => "standard output".to_owned(),
            SinkKind::File(file) => file.path.display().to_string(),
            SinkKind::SplunkHec(hec) => hec.url.to_string(),
            SinkKind::Elasticsearch(elasticsearch) => elasticsearch.target(),
            SinkKind::Kafka(kafka) => format!("{} {}", kafka.brokers, kafka.topic),
            SinkKind::Syslog(syslog) => syslog.address.to_string(),
            SinkKind::Http(http) => http.address.shown(),
        }
    }

    /// What is promised of it, in one sentence (DESIGN 1).
    pub fn guarantee(&self) -> &'static str {
        match self {
            SinkKind::Stdout => "best effort: the reader's end of the pipe gives no receipt",
            SinkKind::File(_) => {
                "exactly once on one host: each fsynced batch is journalled with the length of the file"
            }
            SinkKind::SplunkHec(hec) => match hec.ack.mode {
                AckMode::Required => {
                    "at least once: a batch is done when the indexers acknowledge it; the record key in `fields` tells duplicates"
                }
                AckMode::Auto => {
                    "at least once: with indexer acknowledgement where the receiver gives it, else accepted, not indexed; the record key in `fields` tells duplicates"
                }
                AckMode::Off => {
                    "at least once; without indexer acknowledgement a batch is accepted, not indexed; the record key in `fields` tells duplicates"
                }
            },
            SinkKind::Elasticsearch(_) => {
                "effectively once per backing index: the record key is the document's `_id`, created once; after a rollover a record that is sent again may be there twice"
            }
            SinkKind::Kafka(kafka) if kafka.transactional.is_some() => {
                "exactly once for read_committed readers: records and their keys in one transaction; a start reads the keys back"
            }
            SinkKind::Kafka(_) => {
                "at least once, twice only after a crash of ours or an end that slow brokers outlast: acks=all, idempotent, a message is done with its delivery report; order is not promised; the record key in the header `auditferry_key` tells duplicates"
            }
            SinkKind::Syslog(syslog) => syslog.guarantee(),
            SinkKind::Http(_) => {
                "at least once: a batch is done with the receiver's success; `Idempotency-Key`, made of the record keys, tells a batch that is sent again"
            }
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct FileConfig {
    pub path: PathBuf,
    /// Rotate when the file would pass this size; `None`: never.
    pub max_size: Option<u64>,
    /// Rotated files kept (`audit.ndjson.1` is the newest).
    pub keep: usize,
}

#[derive(Clone, Debug, PartialEq)]
pub struct HecConfig {
    /// Scheme, host, port; a path is appended unless it already names a collector endpoint.
    pub url: Url,
    pub token: SecretSource,
    /// Templates: `{tenant}`, `{content_type}`, `{workload}`, `{operation}`.
    pub index: Option<String>,
    pub source: Option<String>,
    pub sourcetype: Option<String>,
    pub host: Option<String>,
    pub gzip: bool,
    pub tls: TlsConfig,
    pub proxy: ProxyConfig,
    pub timeout: Duration,
    pub ack: AckConfig,
}

/// Indexer acknowledgement of a HEC sink.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AckConfig {
    pub mode: AckMode,
    /// A batch without its acknowledgement for so long is sent again.
    pub timeout: Duration,
    /// The longest time between two questions after one batch.
    pub query_interval: Duration,
    /// Batches that may wait for their acknowledgement at once.
    pub max_pending: usize,
}

impl Default for AckConfig {
    fn default() -> AckConfig {
        AckConfig {
            mode: AckMode::Auto,
            timeout: Duration::from_secs(300),
            query_interval: Duration::from_secs(2),
            max_pending: 16,
        }
    }
}

/// Whether a batch must be acknowledged by the indexers before it counts as taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AckMode {
    /// Where the receiver gives an `ackId`, wait for it.
    Auto,
    /// Take nothing else for an answer.
    Required,
    /// Ask for none: no channel is sent.
    Off,
}

/// TLS of a sink or of the source: the platform's authorities unless some of one's own are given.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TlsConfig {
    pub ca_file: Option<PathBuf>,
    /// `ca_file` is believed beside the platform's authorities, not instead of them.
    pub with_platform: bool,
    pub cert_file: Option<PathBuf>,
    pub key_file: Option<PathBuf>,
    /// Off switches verification off, loudly.
    pub verify: Option<bool>,
}

impl TlsConfig {
    /// The files it names.
    pub fn files(&self) -> Vec<&Path> {
        [&self.ca_file, &self.cert_file, &self.key_file].into_iter().flatten().map(PathBuf::as_path).collect()
    }
}
