//! The configuration as written: one struct a section, one field a key, each with its place. This is
//! the list of everything that may stand in the file; `check.rs` says what it means, and the example
//! is held against it by a test. Never a default, never a rule.

use std::path::PathBuf;
use std::time::Duration;

use url::Url;

use super::check_http::HttpFile;
use super::check_kafka::{KafkaCompression, Mechanism, Pairs};
use super::check_login::LoginFile;
use super::check_syslog::SyslogFile;
use super::check_token::{EntraFile, TokenEndpointFile};
use super::faults::{Place, Reader};
use super::proxy::ProxyFile;
use super::schema::{self, Schema};
use super::section::{Field, Section, entries, field, nearest, refuse_unknown, section};
use super::tree::{Entry, Node};
use super::values::{AckEnabled, At, Cloud, Compression, Date, FromNode, Guid, Listen, Secret, Size};
use super::when::WhenFile;
use crate::config::Format;
use crate::edit::FieldPath;
use crate::feed::ContentType;
use crate::normalize::Profile;

section! {
    /// The whole file.
    File in "the configuration" {
        /// What must survive a restart.
        state: StateFile,
        /// The listener of /metrics, /livez, /readyz and /status.
        admin: AdminFile,
        /// The way out, to Microsoft and to splunk_hec and http sinks: `environment`, `off`, an address, or a mapping. Default environment.
        proxy: ProxyFile,
        /// How content is collected.
        collect: CollectFile,
        /// What all tenants have in common: any key of a tenant but `name` and `tenant_id`.
        tenant_defaults: TenantFile,
        /// A directory of further tenants: files of YAML, each with one tenant or a list of them.
        tenants_from: PathBuf,
        /// The tenants to collect from.
        tenants: Vec<TenantFile>,
        /// How ECS documents are written.
        normalize: NormalizeFile,
        /// What is added beside what the records say.
        enrich: EnrichFile,
        /// What a receiver refused for good.
        dead_letters: DeadLettersFile,
        /// Where records go. Every required sink must have taken a record before its blob counts as done.
        sinks: Vec<SinkFile>,
        /// A clock of its own, for the simulator only.
        clock: ClockFile,
    } later { "detect" }
}

section! {
    StateFile in "`state`" {
        /// Directory of the state, for one process. Default /var/lib/auditferry.
        dir: PathBuf,
        /// Disk for the keys of what was delivered in the last 8 days. Default 512MiB.
        max_delivered: Size,
        /// Instead of a directory: a compacted topic, written by a transactional sink.
        kafka: StateKafkaFile,
    } later {}
}

section! {
    /// The state in Kafka: brokers and login are those of the sink.
    StateKafkaFile in "`state.kafka`" {
        /// Name of the sink that writes it, a transactional one. Default: the only one.
        sink: String,
        /// Made where it is missing. Default auditferry-state.
        topic: String,
        /// Those of the sink, if anything.
        brokers: Vec<String>,
    } later {}
}

section! {
    AdminFile in "`admin`" {
        /// IP address and port, or `off`. Default 127.0.0.1:9464.
        listen: Listen,
    } later {}
}

section! {
    CollectFile in "`collect`" {
        /// How far back the first start goes. Default 7d, which is all that Microsoft keeps.
        backfill: Duration,
        /// Time between two listings of the present. Default 30s.
        poll_interval: Duration,
        /// Bytes fetched and not yet delivered, over all tenants: what bounds the memory. Default 32MiB.
        in_flight: Size,
        /// A larger record goes to the dead letters. Default 8MiB.
        max_record: Size,
        /// Per tenant, before any throttling is heard. Default 1000.
        requests_per_minute: usize,
        /// Downloads at once of one tenant. Default 8.
        fetches_per_tenant: usize,
        /// Downloads at once. Default 16.
        fetches: usize,
        /// A download must bring something in every stretch of this length. Default 60s.
        stall_timeout: Duration,
        /// Authorities and a client certificate towards the service.
        tls: SourceTlsFile,
    } later {}
}

section! {
    /// Towards the service, which is never asked unverified.
    SourceTlsFile in "`collect.tls`" {
        /// Authorities in PEM that are believed beside the platform's.
        ca_file: PathBuf,
        /// Client certificate in PEM.
        cert_file: PathBuf,
        /// Its key in PEM.
        key_file: PathBuf,
    } later {}
}

section! {
    /// A tenant, or what all tenants have in common.
    TenantFile in "the tenant" {
        /// A short label: it stands in metrics and as organization.name in events.
        name: String,
        /// The directory id.
        tenant_id: Guid,
        /// The id of the app registration.
        client_id: Guid,
        /// How to log in.
        auth: AuthFile,
        /// Which hosts are asked. Default enterprise.
        cloud: Cloud,
        /// Instead of the cloud's hosts; plain http to loopback only.
        endpoints: EndpointsFile,
        /// What is collected. Default: all five.
        content_types: Vec<At<ContentType>>,
        /// What counts as internal.
        domains: Vec<String>,
        /// Sent as PublisherIdentifier with every request. Default: the tenant's own id.
        publisher_id: Guid,
    } later {}
}

section! {
    /// How the application proves who it is: exactly one of the four.
    AuthFile in "`auth`" {
        /// A secret of the app registration, best as "${file:/run/secrets/…}".
        client_secret: Secret,
        /// The day on which it ends, as the portal shows it (`2027-01-31`, UTC): for the metric and the warnings.
        client_secret_expires: Date,
        /// A certificate of the app registration, with its key.
        certificate: CertificateFile,
        /// A token that a Kubernetes cluster signed; `{}` takes all from the environment.
        workload_identity: WorkloadIdentityFile,
        /// What the machine in Azure is; `{}` for the identity that the system assigned.
        managed_identity: ManagedIdentityFile,
    } later {}
}

section! {
    CertificateFile in "`certificate`" {
        /// Certificate in PEM, with its key unless `key_file` says where that is; or a PFX file, which holds both.
        file: PathBuf,
        /// The key in PEM, where `file` does not hold it.
        key_file: PathBuf,
        /// Of the PFX file or of the encrypted key, best as "${file:/run/secrets/…}".
        password: Secret,
    } later {}
}

section! {
    WorkloadIdentityFile in "`workload_identity`" {
        /// The projected token. Default: what AZURE_FEDERATED_TOKEN_FILE says.
        token_file: PathBuf,
        /// The id of the application. Default: the tenant's `client_id`, else what AZURE_CLIENT_ID says.
        client_id: Guid,
        /// The directory id, where the tenant has none. Default: what AZURE_TENANT_ID says.
        tenant_id: Guid,
    } later {}
}

section! {
    ManagedIdentityFile in "`managed_identity`" {
        /// Which identity, where the machine has several of them.
        client_id: Guid,
    } later {}
}

section! {
    EndpointsFile in "`endpoints`" {
        /// Root of the Management Activity API.
        api: Url,
        /// Root of the token endpoint.
        login: Url,
    } later {}
}

section! {
    NormalizeFile in "`normalize`" {
        /// Whose habits ECS documents follow. `auditferry` (the default): ECS 8.17 by its meaning; `elastic`: ECS 8.11 as
        /// Elastic's integration writes it, for its dashboards and rules.
        ecs_profile: Profile,
        /// Keep the whole record in `event.original` of ECS documents as well, as a text. Default false: everything of it
        /// stands in the document anyway.
        original: bool,
    } later {}
}

section! {
    EnrichFile in "`enrich`" {
        /// Where addresses lie, and to whom they belong: databases in MaxMind's format.
        geo: GeoFile,
        /// Take `user_agent.original` apart into browser, system and device. Default true.
        user_agent: bool,
    } later {}
}

section! {
    GeoFile in "`enrich.geo`" {
        /// Database of cities or countries: a path, or a list of them where IPv4 and IPv6 have a file each.
        city: Vec<At<PathBuf>>,
        /// Database of autonomous systems, likewise.
        asn: Vec<At<PathBuf>>,
    } later {}
}

section! {
    DeadLettersFile in "`dead_letters`" {
        /// One JSON line each. Default: dead.ndjson in the state directory, unless there is a topic.
        file: PathBuf,
        /// A topic that has each letter too, or alone.
        kafka: DeadTopicFile,
    } later {}
}

section! {
    DeadTopicFile in "`dead_letters.kafka`" {
        /// The kafka sink whose brokers, login and TLS are used. Not needed where there is one only.
        sink: String,
        /// Its name; no template.
        topic: String,
    } later {}
}

section! {
    /// A clock that runs faster than the world's, for the simulator only.
    ClockFile in "`clock`" {
        /// The simulated time at the anchor, milliseconds since 1970.
        origin_ms: i64,
        /// The world's time at the anchor, milliseconds since 1970.
        anchor_ms: i64,
        /// How many times as fast.
        speed: f64,
    } later {}
}

section! {
    /// What every sink has.
    SinkCommon in "the sink" {
        /// A short label: it stands in metrics and in the state.
        name: String,
        /// `false`: blobs do not wait for this sink, and what does not fit its queue is dropped and counted. Default true.
        required: bool,
        /// `raw`: the record as Microsoft sent it; `ecs`: an ECS document; `cef`: ArcSight's Common Event Format; `leef`: IBM's
        /// Log Event Extended Format.
        format: Format,
        /// In place of `normalize.ecs_profile`, where the format is `ecs`.
        ecs_profile: Profile,
        /// Which events the sink gets. Without it, all.
        when: WhenFile,
        /// How batches are filled.
        batch: BatchFile,
        /// How long to wait between two tries.
        retry: RetryFile,
        /// Batches on their way at once.
        concurrency: usize,
        /// Fields that the sink is not shown, by dotted name.
        drop_fields: Vec<At<FieldPath>>,
        /// Fields that the sink is shown as keyed pseudonyms.
        hash_fields: HashFile,
        /// Fields that the sink is shown besides: dotted name to text, with the places {tenant} {tenant_id} {content_type} {workload} {operation} {id} {key}.
        add_fields: Pairs,
        /// How fast the sink is sent to. What goes beyond waits, and the source with it.
        rate_limit: RateLimitFile,
    } later {}
}

section! {
    HashFile in "`hash_fields`" {
        /// At least 16 bytes, best as "${file:/run/secrets/…}". Read when the sink is built; another key is another set of pseudonyms.
        key: Secret,
        /// The fields, by dotted name.
        fields: Vec<At<FieldPath>>,
    } later {}
}

section! {
    RateLimitFile in "`rate_limit`" {
        /// Events a second.
        events_per_second: usize,
        /// Bytes a second, before compression.
        bytes_per_second: Size,
        /// How long unused allowance is saved up. Default 1s.
        burst: Duration,
    } later {}
}

section! {
    BatchFile in "`batch`" {
        /// Default 1MiB.
        max_bytes: Size,
        /// Default 10000.
        max_events: usize,
        /// How long the first event may wait for company.
        linger: Duration,
    } later {}
}

section! {
    RetryFile in "`retry`" {
        /// Default 500ms.
        initial: Duration,
        /// Default 30s.
        max: Duration,
    } later {}
}

section! {
    StdoutFile in "the stdout sink" {} later {}
}

section! {
    FileSinkFile in "the file sink" {
        /// Where to write.
        path: PathBuf,
        /// When to begin a new file.
        rotate: RotateFile,
    } later { "compression" }
}

section! {
    RotateFile in "`rotate`" {
        /// Begin a new file when this one would pass the size.
        max_size: Size,
        /// Files kept beside the present one. Default 10.
        keep: usize,
    } later { "max_age" }
}

section! {
    HecFile in "the splunk_hec sink" {
        /// Scheme, host and port of the collector.
        url: Url,
        /// The HEC token, best as "${file:/run/secrets/…}".
        token: Secret,
        /// A template; unset means the token's own default.
        index: String,
        /// A template. Default auditferry.
        source: String,
        /// A template. Default o365:management:activity for `raw`, auditferry:ecs for `ecs`.
        sourcetype: String,
        /// A template.
        host: String,
        /// Default gzip.
        compression: Compression,
        /// TLS of the connection.
        tls: TlsFile,
        /// For one request. Default 60s.
        timeout: Duration,
        /// Whether a batch waits for the indexers' acknowledgement.
        indexer_acknowledgement: AckFile,
        /// The way out, instead of the `proxy` of the whole.
        proxy: ProxyFile,
    } later {}
}

section! {
    AckFile in "`indexer_acknowledgement`" {
        /// `auto`: where the receiver gives an ackId; `true`: nothing less; `false`: ask for none.
        enabled: AckEnabled,
        /// A batch without its acknowledgement for so long is sent again. Default 5m.
        timeout: Duration,
        /// The longest time between two questions. Default 2s.
        query_interval: Duration,
        /// Batches that may wait at once. Default 16.
        max_pending: usize,
    } later {}
}

section! {
    ElasticsearchFile in "the elasticsearch sink" {
        /// Scheme, host and port of the cluster or of a load balancer in front of it.
        url: At<Url>,
        /// Several addresses of one cluster, in place of `url`.
        urls: Vec<At<Url>>,
        /// An Elastic Cloud deployment, in place of `url`.
        cloud_id: String,
        /// By what right.
        auth: LoginFile,
        /// `type-dataset-namespace`. Default logs-o365.audit-default.
        data_stream: String,
        /// A template in place of `data_stream`: {tenant} {tenant_id} {content_type} {workload} {day}.
        index: String,
        /// `_none` (the default): no ingest pipeline; `_default`: the index's own; or the name of one.
        pipeline: String,
        /// Default gzip.
        compression: Compression,
        /// TLS of the connection.
        tls: TlsFile,
        /// For one request. Default 60s.
        timeout: Duration,
        /// The way out, instead of the `proxy` of the whole.
        proxy: ProxyFile,
    } later {}
}

section! {
    KafkaFile in "the kafka sink" {
        /// host:port of some of the cluster's brokers.
        brokers: Vec<String>,
        /// A template: {tenant} {tenant_id} {content_type} {workload}.
        topic: String,
        /// A template. Default {tenant}:{id}.
        key: String,
        /// Name to template.
        headers: Pairs,
        /// Default zstd.
        compression: KafkaCompression,
        /// How to log in.
        sasl: SaslFile,
        /// TLS of the connections; `{}` for the platform's authorities.
        tls: TlsFile,
        /// `true`: exactly once for readers with isolation.level=read_committed. Default false.
        transactional: bool,
        /// One deployment has it; a second process with it ends the first. Default auditferry-<name of the sink>.
        transactional_id: String,
        /// Where the keys of what is delivered lie; made where it is missing. Default auditferry-checkpoint.
        checkpoint_topic: String,
        /// Any other setting of librdkafka's producer.
        librdkafka: Pairs,
    } later {}
}

section! {
    SaslFile in "`sasl`" {
        /// How the password, or with OAUTHBEARER the token, is shown to the broker.
        mechanism: Mechanism,
        /// The name that the broker knows us by.
        username: String,
        /// Best as "${file:/run/secrets/…}".
        password: Secret,
        /// With OAUTHBEARER: where the token comes from.
        token: SaslTokenFile,
    } later {}
}

section! {
    /// Exactly one of the two.
    SaslTokenFile in "`sasl.token`" {
        /// Microsoft Entra, for Azure Event Hubs.
        entra: EntraFile,
        /// Any other endpoint that gives tokens for client credentials.
        oidc: TokenEndpointFile,
    } later {}
}

section! {
    TlsFile in "`tls`" {
        /// Authorities in PEM, instead of the platform's.
        ca_file: PathBuf,
        /// Client certificate in PEM.
        cert_file: PathBuf,
        /// Its key in PEM.
        key_file: PathBuf,
        /// `false`: anybody on the way can read everything.
        verify: bool,
    } later {}
}

/// A sink: what all have, and what its type has.
#[derive(Clone, Debug)]
pub(super) struct SinkFile {
    pub place: Place,
    pub common: SinkCommon,
    pub kind: SinkKindFile,
}

#[derive(Clone, Debug)]
pub(super) enum SinkKindFile {
    Stdout,
    File(Box<FileSinkFile>),
    SplunkHec(Box<HecFile>),
    Elasticsearch(Box<ElasticsearchFile>),
    Kafka(Box<KafkaFile>),
    Syslog(Box<SyslogFile>),
    Http(Box<HttpFile>),
}

/// The values of `type`, as written.
pub(super) const SINK_TYPES: &[&str] = &["stdout", "file", "splunk_hec", "elasticsearch", "kafka", "syslog", "http"];

impl FromNode for SinkFile {
    fn from_node(node: &Node, reader: &mut Reader<'_>) -> Option<SinkFile> {
        let entries = entries(node, "a sink", &[], reader)?;
        let common = SinkCommon::fields(&node.place, entries, reader);
        let known = || SINK_TYPES.join(", ");
        let written = field::<String>(entries, "type", reader);
        let written = written.required("type", "the sink", &node.place, &format!("one of {}", known()), reader)?;
        let kind = match written.value.as_str() {
            "stdout" => {
                kind::<StdoutFile>(node, entries, reader);
                SinkKindFile::Stdout
            }
            "file" => SinkKindFile::File(Box::new(kind(node, entries, reader))),
            "splunk_hec" => SinkKindFile::SplunkHec(Box::new(kind(node, entries, reader))),
            "elasticsearch" => SinkKindFile::Elasticsearch(Box::new(kind(node, entries, reader))),
            "kafka" => SinkKindFile::Kafka(Box::new(kind(node, entries, reader))),
            "syslog" => SinkKindFile::Syslog(Box::new(kind(node, entries, reader))),
            "http" => SinkKindFile::Http(Box::new(kind(node, entries, reader))),
            other => {
                let hint = nearest(other, SINK_TYPES.iter().copied())
                    .map_or_else(|| format!("one of {}", known()), |name| format!("did you mean `{name}`?"));
                reader.fault(&written.place, "unknown sink type", hint);
                return None;
            }
        };
        Some(SinkFile { place: node.place.clone(), common, kind })
    }

    fn schema() -> Schema {
        let kinds = [
            ("stdout", StdoutFile::properties()),
            ("file", FileSinkFile::properties()),
            ("splunk_hec", HecFile::properties()),
            ("elasticsearch", ElasticsearchFile::properties()),
            ("kafka", KafkaFile::properties()),
            ("syslog", SyslogFile::properties()),
            ("http", HttpFile::properties()),
        ];
        debug_assert!(SINK_TYPES.iter().eq(kinds.iter().map(|(name, _)| name)));
        schema::by_type(SinkCommon::properties(), kinds.into())
    }
}

fn kind<T: Section>(node: &Node, entries: &[Entry], reader: &mut Reader<'_>) -> T {
    refuse_unknown(entries, &[SinkCommon::KEYS, T::KEYS, &["type"]], &[SinkCommon::LATER, T::LATER], T::TITLE, reader);
    T::fields(&node.place, entries, reader)
}

/// Every section with its keys: for the test that holds the example against them, and for snippets, which
/// show no other words of a line.
pub(super) const ALL_KEYS: &[(&str, &[&str])] = &[
    (File::TITLE, File::KEYS),
    (StateFile::TITLE, StateFile::KEYS),
    (StateKafkaFile::TITLE, StateKafkaFile::KEYS),
    (AdminFile::TITLE, AdminFile::KEYS),
    (CollectFile::TITLE, CollectFile::KEYS),
    (SourceTlsFile::TITLE, SourceTlsFile::KEYS),
    super::proxy::SECTION,
    (TenantFile::TITLE, TenantFile::KEYS),
    (AuthFile::TITLE, AuthFile::KEYS),
    (CertificateFile::TITLE, CertificateFile::KEYS),
    (WorkloadIdentityFile::TITLE, WorkloadIdentityFile::KEYS),
    (ManagedIdentityFile::TITLE, ManagedIdentityFile::KEYS),
    (EndpointsFile::TITLE, EndpointsFile::KEYS),
    (NormalizeFile::TITLE, NormalizeFile::KEYS),
    (EnrichFile::TITLE, EnrichFile::KEYS),
    (GeoFile::TITLE, GeoFile::KEYS),
    (DeadLettersFile::TITLE, DeadLettersFile::KEYS),
    (DeadTopicFile::TITLE, DeadTopicFile::KEYS),
    (ClockFile::TITLE, ClockFile::KEYS),
    (SinkCommon::TITLE, SinkCommon::KEYS),
    ("`when`", super::when::KEYS),
    ("the value", super::when::FORMS),
    (HashFile::TITLE, HashFile::KEYS),
    (RateLimitFile::TITLE, RateLimitFile::KEYS),
    (BatchFile::TITLE, BatchFile::KEYS),
    (RetryFile::TITLE, RetryFile::KEYS),
    (FileSinkFile::TITLE, FileSinkFile::KEYS),
    (RotateFile::TITLE, RotateFile::KEYS),
    (HecFile::TITLE, HecFile::KEYS),
    (AckFile::TITLE, AckFile::KEYS),
    (ElasticsearchFile::TITLE, ElasticsearchFile::KEYS),
    (KafkaFile::TITLE, KafkaFile::KEYS),
    (SaslFile::TITLE, SaslFile::KEYS),
    (SaslTokenFile::TITLE, SaslTokenFile::KEYS),
    (EntraFile::TITLE, EntraFile::KEYS),
    (TokenEndpointFile::TITLE, TokenEndpointFile::KEYS),
    (SyslogFile::TITLE, SyslogFile::KEYS),
    (HttpFile::TITLE, HttpFile::KEYS),
    super::check_login::SECTIONS[0],
    super::check_login::SECTIONS[1],
    super::check_login::SECTIONS[2],
    super::check_login::SECTIONS[3],
    (TlsFile::TITLE, TlsFile::KEYS),
    ("the sink", &["type"]),
];
