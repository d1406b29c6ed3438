//! The sinks as written → as meant: defaults of each type, limits, paths that would collide.
//! Comes in: the `sinks` section. Goes out: [`SinkConfig`]s in the order of the file. Opens nothing.

use std::path::PathBuf;
use std::time::Duration;

use super::check::{Seen, warn_of_literal};
use super::check_edit;
use super::check_elasticsearch::{elasticsearch, texts_of};
use super::check_http;
use super::check_kafka::kafka;
use super::check_syslog::{self, syslog};
use super::faults::{Place, Reader};
use super::file::{AckFile, BatchFile, FileSinkFile, HecFile, RetryFile, SinkFile, SinkKindFile, TlsFile};
use super::proxy::ProxyFile;
use super::section::{Field, Section};
use super::templates;
use super::values::{At, Compression, Size};
use super::when;
use crate::config::{
    AckConfig, BatchConfig, FileConfig, Format, HecConfig, ProxyConfig, RetryConfig, SinkConfig, SinkKind, TlsConfig,
};
use crate::normalize::Profile;

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
/// A set of sinks is 32 bits wide (`sink::SinkSet`), and the dead letters count as one.
const MAX_SINKS: usize = 31;

/// What a type of sink starts from.
struct Defaults {
    format: Format,
    linger: Duration,
    concurrency: usize,
    /// More than one batch at once would break the order in which a file or a stream grows.
    max_concurrency: usize,
}

const STREAM: Defaults =
    Defaults { format: Format::Ecs, linger: Duration::from_millis(200), concurrency: 1, max_concurrency: 1 };
const HEC: Defaults =
    Defaults { format: Format::Raw, linger: Duration::from_secs(1), concurrency: 4, max_concurrency: 64 };
const ELASTICSEARCH: Defaults =
    Defaults { format: Format::Ecs, linger: Duration::from_secs(1), concurrency: 4, max_concurrency: 64 };
/// librdkafka makes its own batches out of ours, so ours need not wait long for company; twice as many on their way as
/// elsewhere, since a batch's last report comes some 15 ms after its first message (`make bench`: a fifth more).
const KAFKA: Defaults =
    Defaults { format: Format::Ecs, linger: Duration::from_millis(200), concurrency: 8, max_concurrency: 64 };

/// Batches wait for the peer's kernel, one behind the other; several on their way hide that wait.
const SYSLOG: Defaults =
    Defaults { format: Format::Raw, linger: Duration::from_millis(200), concurrency: 4, max_concurrency: 16 };
const HTTP: Defaults =
    Defaults { format: Format::Ecs, linger: Duration::from_secs(1), concurrency: 4, max_concurrency: 64 };

/// The name of what writes the dead letters, in metrics and in the state.
const DEAD_LETTERS: &str = "dead_letters";

/// Checks every sink; `dead_letters`, and where that was written, must not be written by one of them too.
pub(super) fn sinks(
    files: Vec<SinkFile>,
    dead_letters: Option<&(PathBuf, Option<Place>)>,
    tenants: &[&str],
    profile: Profile,
    proxy: &ProxyConfig,
    reader: &mut Reader<'_>,
) -> Vec<SinkConfig> {
    let mut names = Seen::new("sink name");
    let mut paths = Seen::new("path");
    match dead_letters {
        None => {}
        Some((path, Some(place))) => paths.check(path.clone(), place, reader),
        Some((path, None)) => {
            for at in files.iter().filter_map(|file| match &file.kind {
                SinkKindFile::File(file) => file.path.clone().given().filter(|at| at.value == *path),
                _ => None,
            }) {
                let hint = "give another path, or move the dead letters by `dead_letters: { file: … }`";
                reader.fault(&at.place, "the dead letters are written to this path", hint);
            }
        }
    }
    if let Some(beyond) = files.get(MAX_SINKS) {
        reader.fault(
            &beyond.place,
            format!("more than {MAX_SINKS} sinks"),
            "run a second process with its own state for the others",
        );
    }
    let mut stdout = Seen::new("standard output");
    for file in files.iter().filter(|file| matches!(file.kind, SinkKindFile::Stdout)) {
        stdout.check((), &file.place, reader);
    }
    if let Some(first) = files.first()
        && files.iter().all(|file| matches!(&file.common.required, Field::Given(at) if !at.value))
    {
        reader.warning(
            &first.place,
            "no sink is required: a record that none of them took counts as done",
            "let one sink be `required: true` if nothing may be lost",
        );
    }
    files.into_iter().filter_map(|file| sink(file, &mut names, &mut paths, tenants, profile, proxy, reader)).collect()
}

fn sink(
    file: SinkFile,
    names: &mut Seen<String>,
    paths: &mut Seen<PathBuf>,
    tenants: &[&str],
    profile: Profile,
    proxy: &ProxyConfig,
    reader: &mut Reader<'_>,
) -> Option<SinkConfig> {
    let name = file.common.name.clone().required(
        "name",
        "the sink",
        &file.place,
        "a short label: it stands in metrics and in the state",
        reader,
    );
    if let Some(name) = &name {
        names.check(name.value.clone(), &name.place, reader);
        if name.value == DEAD_LETTERS {
            let text = format!("`{DEAD_LETTERS}` is what the dead letters are called in metrics and in the state");
            reader.fault(&name.place, text, "call the sink something else");
        }
    }
    let defaults = match file.kind {
        SinkKindFile::Stdout | SinkKindFile::File(_) => STREAM,
        SinkKindFile::SplunkHec(_) => HEC,
        SinkKindFile::Elasticsearch(_) => ELASTICSEARCH,
        SinkKindFile::Kafka(_) => KAFKA,
        SinkKindFile::Syslog(_) => SYSLOG,
        SinkKindFile::Http(_) => HTTP,
    };
    let ends = match defaults.max_concurrency {
        1 => "of 1: this sink keeps an order",
        16 => "between 1 and 16",
        _ => "between 1 and 64",
    };
    let concurrency = file.common.concurrency.clone().within(
        reader,
        (1, defaults.max_concurrency),
        ends,
        defaults.concurrency,
        |number| *number,
    );
    let when = file.common.when.clone().value();
    if let Some(when) = &when {
        when::check(when, tenants, reader);
    }
    let mut batch = batch(file.common.batch.clone().value().unwrap_or_default(), defaults.linger, concurrency, reader);
    check_format(&file, reader);
    let common = file.common;
    let format_place = common.format.clone().given().map(|at| at.place);
    let format = common.format.clone().value().unwrap_or(defaults.format);
    let texts = texts(&file.kind);
    texts.iter().for_each(|text| templates::check(text, reader));
    let edit = check_edit::Written {
        drop: common.drop_fields.clone(),
        hash: common.hash_fields.clone(),
        add: common.add_fields.clone(),
        format,
        templates: texts,
    };
    let edit = check_edit::edit(edit, reader);
    let mut rate_limit = common.rate_limit.clone().given().and_then(|at| check_edit::rate_limit(at, reader));
    if let SinkKindFile::Http(file) = &file.kind {
        check_http::fit(file, &common, &mut batch, &mut rate_limit, reader);
    }
    let kind = match file.kind {
        SinkKindFile::Stdout => Some(SinkKind::Stdout),
        SinkKindFile::File(file) => self::file(*file, paths, reader).map(SinkKind::File),
        SinkKindFile::SplunkHec(file) => hec(*file, proxy, reader).map(SinkKind::SplunkHec),
        SinkKindFile::Elasticsearch(file) => {
            elasticsearch(*file, (format, format_place.as_ref()), proxy, reader).map(SinkKind::Elasticsearch)
        }
        SinkKindFile::Kafka(file) => {
            kafka(*file, name.as_ref().map(|name| name.value.as_str()), &batch, reader).map(SinkKind::Kafka)
        }
        SinkKindFile::Syslog(file) => syslog(*file, reader).map(SinkKind::Syslog),
        SinkKindFile::Http(file) => check_http::http(*file, &common, format, proxy, reader).map(SinkKind::Http),
    };
    Some(SinkConfig {
        required: common.required.value().unwrap_or(true),
        when: when.map(|file| file.when),
        format,
        ecs_profile: common.ecs_profile.value().unwrap_or(profile),
        edit,
        rate_limit,
        batch,
        retry: retry(common.retry.value().unwrap_or_default(), reader),
        name: name?.value,
        kind: kind?,
    })
}

/// What does not go with the format.
fn check_format(file: &SinkFile, reader: &mut Reader<'_>) {
    let common = &file.common;
    let Field::Given(At { value: format, place }) = &common.format else { return };
    if *format != Format::Ecs
        && let Field::Given(profile) = &common.ecs_profile
    {
        let text = format!("`ecs_profile` changes nothing where the format is `{}`", format.as_str());
        reader.fault(&profile.place, text, "leave it out, or use `format: ecs`");
    }
    if !matches!(format, Format::Cef | Format::Leef) {
        return;
    }
    let of_json = match file.kind {
        SinkKindFile::SplunkHec(_) => Some("a `splunk_hec`"),
        SinkKindFile::Elasticsearch(_) => Some("an `elasticsearch`"),
        _ => None,
    };
    if let Some(kind) = of_json {
        let text = format!("{kind} sink sends JSON, and `{}` is none", format.as_str());
        reader.fault(place, text, "use `raw` or `ecs`");
    }
    let edits = [
        ("drop_fields", common.drop_fields.clone().given().map(|at| at.place)),
        ("hash_fields", common.hash_fields.clone().given().map(|at| at.place)),
        ("add_fields", common.add_fields.clone().given().map(|at| at.place)),
    ];
    for (name, place) in edits.into_iter().filter_map(|(name, place)| Some((name, place?))) {
        let text = format!("`{name}` does not go with format `{}`: its keys are made of many fields", format.as_str());
        reader.fault(&place, text, "leave it out, or use `ecs` or `raw`");
    }
}

/// The templates of a sink, where they are written.
fn texts(kind: &SinkKindFile) -> Vec<At<String>> {
    let given = |fields: &[&Field<String>]| fields.iter().filter_map(|field| (*field).clone().given()).collect();
    match kind {
        SinkKindFile::Stdout | SinkKindFile::File(_) => Vec::new(),
        SinkKindFile::SplunkHec(hec) => given(&[&hec.index, &hec.source, &hec.sourcetype, &hec.host]),
        SinkKindFile::Elasticsearch(file) => texts_of(file),
        SinkKindFile::Kafka(kafka) => {
            let mut texts: Vec<At<String>> = given(&[&kafka.topic, &kafka.key]);
            texts.extend(kafka.headers.clone().value().unwrap_or_default().0.into_iter().map(|(_, _, text)| text));
            texts
        }
        SinkKindFile::Syslog(syslog) => check_syslog::texts(syslog),
        SinkKindFile::Http(http) => check_http::shown(http).into_iter().collect(),
    }
}

/// 1 MiB: the body size at which gzip has nothing more to gain and a receiver's limits are far (performance reference, batches).
fn batch(file: BatchFile, linger: Duration, concurrency: usize, reader: &mut Reader<'_>) -> BatchConfig {
    let bytes = file.max_bytes.within(reader, (4 * KIB, 64 * MIB), "between 4KiB and 64MiB", MIB, |size: &Size| size.0);
    BatchConfig {
        max_bytes: usize::try_from(bytes).unwrap_or(usize::MAX),
        max_events: file.max_events.within(reader, (1, 1_000_000), "between 1 and 1000000", 10_000, |number| *number),
        linger: file.linger.within(reader, (Duration::ZERO, Duration::from_secs(60)), "of at most 1m", linger, |d| *d),
        concurrency,
    }
}

fn retry(file: RetryFile, reader: &mut Reader<'_>) -> RetryConfig {
    let (millis, hour) = (Duration::from_millis, Duration::from_secs(3600));
    let initial = file.initial.within(reader, (millis(10), hour), "between 10ms and 1h", millis(500), |d| *d);
    let place = file.place;
    let max = file.max.within(reader, (millis(10), hour), "between 10ms and 1h", millis(30_000).max(initial), |d| *d);
    if max < initial {
        reader.fault(
            &place,
            "`retry.max` is shorter than `retry.initial`",
            "the wait grows from `initial` up to `max`",
        );
    }
    RetryConfig { initial, max }
}

fn file(file: FileSinkFile, paths: &mut Seen<PathBuf>, reader: &mut Reader<'_>) -> Option<FileConfig> {
    let path = file.path.required(
        "path",
        FileSinkFile::TITLE,
        &file.place,
        "where to write, for instance /var/log/auditferry/audit.ndjson",
        reader,
    );
    let rotate = file.rotate.value().unwrap_or_default();
    let max_size = match rotate.max_size {
        Field::Absent => None,
        written => Some(written.within(reader, (64 * KIB, 1 << 50), "of at least 64KiB", 0, |size| size.0)),
    };
    let keep = rotate.keep.within(reader, (1, 10_000), "between 1 and 10000", 10, |number| *number);
    let path = path?;
    paths.check(path.value.clone(), &path.place, reader);
    Some(FileConfig { path: path.value, max_size, keep })
}

fn hec(file: HecFile, proxy: &ProxyConfig, reader: &mut Reader<'_>) -> Option<HecConfig> {
    let (place, title) = (file.place, HecFile::TITLE);
    let url = file.url.required("url", title, &place, "the collector's address: `https://splunk:8088`", reader);
    let token =
        file.token.required("token", title, &place, "the HEC token, best as \"${file:/run/secrets/…}\"", reader);
    if let Some(token) = token.as_ref().filter(|token| token.value.literal) {
        warn_of_literal(&token.place, "HEC token", reader);
    }
    let tls = tls(file.tls.value().unwrap_or_default(), reader);
    let seconds = Duration::from_secs;
    let timeout = file.timeout.within(reader, (seconds(1), seconds(3600)), "between 1s and 1h", seconds(60), |d| *d);
    let ack = acknowledgement(file.indexer_acknowledgement.value().unwrap_or_default(), reader);
    Some(HecConfig {
        url: url?.value,
        token: token?.value.source,
        index: file.index.value(),
        source: file.source.value(),
        sourcetype: file.sourcetype.value(),
        host: file.host.value(),
        gzip: file.compression.value().unwrap_or(Compression::Gzip) == Compression::Gzip,
        tls,
        proxy: file.proxy.value().map_or_else(|| proxy.clone(), |ProxyFile(own)| own),
        timeout,
        ack,
    })
}

/// 5 minutes: what Splunk's own Kafka connector waits; 64 pending batches of 1 MiB are twice the usual `collect.in_flight`.
fn acknowledgement(file: AckFile, reader: &mut Reader<'_>) -> AckConfig {
    let (seconds, day, default) = (Duration::from_secs, Duration::from_secs(86_400), AckConfig::default());
    let timeout = file.timeout.within(reader, (seconds(1), day), "between 1s and 1d", default.timeout, |d| *d);
    let least = Duration::from_millis(100);
    let query_interval = file.query_interval.within(
        reader,
        (least, seconds(3600)),
        "between 100ms and 1h",
        default.query_interval.min(timeout),
        |d| *d,
    );
    if query_interval > timeout {
        reader.fault(
            &file.place,
            "`query_interval` is longer than `timeout`",
            "an acknowledgement must be asked for before the batch is sent again",
        );
    }
    AckConfig {
        mode: file.enabled.value().map_or(default.mode, |enabled| enabled.0),
        timeout,
        query_interval,
        max_pending: file.max_pending.within(reader, (1, 64), "between 1 and 64", default.max_pending, |n| *n),
    }
}

pub(super) fn tls(file: TlsFile, reader: &mut Reader<'_>) -> TlsConfig {
    let verify = file.verify.given();
    if let Some(off) = verify.as_ref().filter(|verify| !verify.value) {
        reader.warning(
            &off.place,
            "TLS verification is off: anybody on the way can read the records and the token",
            "give the receiver's authority as `ca_file` instead",
        );
    }
    let halves = [(&file.cert_file, &file.key_file), (&file.key_file, &file.cert_file)];
    for (half, _) in halves.iter().filter(|(_, other)| matches!(other, Field::Absent)) {
        let Field::Given(half) = half else { continue };
        let text = "a client certificate needs both `cert_file` and `key_file`";
        reader.fault(&half.place, text, "give both, or neither");
    }
    let mut path = |written: Field<PathBuf>| {
        let at = written.given()?;
        if let Err(error) = std::fs::metadata(&at.value) {
            reader.warning(
                &at.place,
                format!("cannot see `{}` from here: {error}", at.value.display()),
                "it must be there when `run` starts",
            );
        }
        Some(at.value)
    };
    let (ca_file, cert_file, key_file) = (path(file.ca_file), path(file.cert_file), path(file.key_file));
    TlsConfig { ca_file, with_platform: false, cert_file, key_file, verify: verify.map(|at| at.value) }
}
