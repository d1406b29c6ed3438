//! The configuration as written: one struct a section, one field a key, each with its place. This is
//! the list of everything that may stand in the file; `check.rs` says what it means, and the example
//! is held against it by a test. Never a default, never a rule.

use std::path::PathBuf;
use std::time::Duration;

use url::Url;

use super::check_kafka::{KafkaCompression, Mechanism, Pairs};
use super::faults::{Place, Reader};
use super::section::{Field, Section, entries, field, nearest, refuse_unknown, section};
use super::tree::{Entry, Node};
use super::values::{AckEnabled, At, Cloud, Compression, FromNode, Guid, Listen, Secret, Size};
use super::when::WhenFile;
use crate::config::Format;
use crate::edit::FieldPath;
use crate::feed::ContentType;

section! {
    /// The whole file.
    File in "the configuration" {
        state: StateFile,
        admin: AdminFile,
        collect: CollectFile,
        tenant_defaults: TenantFile,
        tenants_from: PathBuf,
        tenants: Vec<TenantFile>,
        normalize: NormalizeFile,
        dead_letters: DeadLettersFile,
        sinks: Vec<SinkFile>,
        clock: ClockFile,
    } later { "enrich", "detect" }
}

section! {
    StateFile in "`state`" { dir: PathBuf, max_delivered: Size } later { "kafka" }
}

section! {
    AdminFile in "`admin`" { listen: Listen } later {}
}

section! {
    CollectFile in "`collect`" {
        backfill: Duration,
        poll_interval: Duration,
        in_flight: Size,
        max_record: Size,
        requests_per_minute: usize,
        fetches_per_tenant: usize,
        fetches: usize,
        stall_timeout: Duration,
    } later {}
}

section! {
    /// A tenant, or what all tenants have in common.
    TenantFile in "the tenant" {
        name: String,
        tenant_id: Guid,
        client_id: Guid,
        auth: AuthFile,
        cloud: Cloud,
        endpoints: EndpointsFile,
        content_types: Vec<At<ContentType>>,
        domains: Vec<String>,
        publisher_id: Guid,
    } later {}
}

section! {
    AuthFile in "`auth`" { client_secret: Secret } later { "certificate", "workload_identity" }
}

section! {
    EndpointsFile in "`endpoints`" { api: Url, login: Url } later {}
}

section! {
    NormalizeFile in "`normalize`" { ecs_profile: String } later {}
}

section! {
    DeadLettersFile in "`dead_letters`" { file: PathBuf } later { "kafka", "topic" }
}

section! {
    /// A clock that runs faster than the world's, for the simulator only.
    ClockFile in "`clock`" { origin_ms: i64, anchor_ms: i64, speed: f64 } later {}
}

section! {
    /// What every sink has.
    SinkCommon in "the sink" {
        name: String,
        required: bool,
        format: Format,
        when: WhenFile,
        batch: BatchFile,
        retry: RetryFile,
        concurrency: usize,
        drop_fields: Vec<At<FieldPath>>,
        hash_fields: HashFile,
        add_fields: Pairs,
        rate_limit: RateLimitFile,
    } later { "ecs_profile" }
}

section! {
    HashFile in "`hash_fields`" { key: Secret, fields: Vec<At<FieldPath>> } later {}
}

section! {
    RateLimitFile in "`rate_limit`" { events_per_second: usize, bytes_per_second: Size, burst: Duration } later {}
}

section! {
    BatchFile in "`batch`" { max_bytes: Size, max_events: usize, linger: Duration } later {}
}

section! {
    RetryFile in "`retry`" { initial: Duration, max: Duration } later {}
}

section! {
    StdoutFile in "the stdout sink" {} later {}
}

section! {
    FileSinkFile in "the file sink" { path: PathBuf, rotate: RotateFile } later { "compression" }
}

section! {
    RotateFile in "`rotate`" { max_size: Size, keep: usize } later { "max_age" }
}

section! {
    HecFile in "the splunk_hec sink" {
        url: Url,
        token: Secret,
        index: String,
        source: String,
        sourcetype: String,
        host: String,
        compression: Compression,
        tls: TlsFile,
        timeout: Duration,
        indexer_acknowledgement: AckFile,
    } later { "proxy" }
}

section! {
    AckFile in "`indexer_acknowledgement`" {
        enabled: AckEnabled,
        timeout: Duration,
        query_interval: Duration,
        max_pending: usize,
    } later {}
}

section! {
    KafkaFile in "the kafka sink" {
        brokers: Vec<String>,
        topic: String,
        key: String,
        headers: Pairs,
        compression: KafkaCompression,
        sasl: SaslFile,
        tls: TlsFile,
        librdkafka: Pairs,
    } later { "transactional", "transactional_id" }
}

section! {
    SaslFile in "`sasl`" { mechanism: Mechanism, username: String, password: Secret } later {}
}

section! {
    TlsFile in "`tls`" { ca_file: PathBuf, cert_file: PathBuf, key_file: PathBuf, verify: bool } later {}
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
    Kafka(Box<KafkaFile>),
}

/// The values of `type`, as written.
const SINK_TYPES: &[&str] = &["stdout", "file", "splunk_hec", "kafka"];
/// Those of later releases.
const LATER_SINK_TYPES: &[&str] = &["elasticsearch", "syslog", "http"];

impl FromNode for SinkFile {
    fn from_node(node: &Node, reader: &mut Reader<'_>) -> Option<SinkFile> {
        let entries = entries(node, "a sink", reader)?;
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
            "kafka" => SinkKindFile::Kafka(Box::new(kind(node, entries, reader))),
            later if LATER_SINK_TYPES.contains(&later) => {
                reader.fault(
                    &written.place,
                    format!("sink type `{later}` is not in this release yet"),
                    format!("this release has {}", known()),
                );
                return None;
            }
            other => {
                let hint = nearest(other, SINK_TYPES.iter().copied())
                    .map_or_else(|| format!("one of {}", known()), |name| format!("did you mean `{name}`?"));
                reader.fault(&written.place, "unknown sink type", hint);
                return None;
            }
        };
        Some(SinkFile { place: node.place.clone(), common, kind })
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
    (AdminFile::TITLE, AdminFile::KEYS),
    (CollectFile::TITLE, CollectFile::KEYS),
    (TenantFile::TITLE, TenantFile::KEYS),
    (AuthFile::TITLE, AuthFile::KEYS),
    (EndpointsFile::TITLE, EndpointsFile::KEYS),
    (NormalizeFile::TITLE, NormalizeFile::KEYS),
    (DeadLettersFile::TITLE, DeadLettersFile::KEYS),
    (ClockFile::TITLE, ClockFile::KEYS),
    (SinkCommon::TITLE, SinkCommon::KEYS),
    ("`when`", super::when::KEYS),
    (HashFile::TITLE, HashFile::KEYS),
    (RateLimitFile::TITLE, RateLimitFile::KEYS),
    (BatchFile::TITLE, BatchFile::KEYS),
    (RetryFile::TITLE, RetryFile::KEYS),
    (FileSinkFile::TITLE, FileSinkFile::KEYS),
    (RotateFile::TITLE, RotateFile::KEYS),
    (HecFile::TITLE, HecFile::KEYS),
    (AckFile::TITLE, AckFile::KEYS),
    (KafkaFile::TITLE, KafkaFile::KEYS),
    (SaslFile::TITLE, SaslFile::KEYS),
    (TlsFile::TITLE, TlsFile::KEYS),
    ("the sink", &["type"]),
];
