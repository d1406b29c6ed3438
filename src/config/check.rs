//! The configuration as written → as meant: defaults, limits, what must not be there twice, what
//! contradicts. Comes in: the sections and every tenant, from whatever file. Goes out: [`Config`], or
//! faults at the places that caused them. Touches nothing outside: whether a directory can be made
//! or a server answers is said when `run` starts.

use std::collections::HashMap;
use std::hash::Hash;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use url::Url;

use super::check_auth;
use super::check_enrich::enrich;
use super::check_sinks::{sinks, tls};
use super::check_state;
use super::check_transactional;
use super::dead_letters;
use super::faults::{Place, Reader};
use super::file::{CollectFile, EndpointsFile, File, SourceTlsFile, StateFile, TenantFile, TlsFile};
use super::proxy::ProxyFile;
use super::section::{Field, Section};
use super::values::{Cloud, Listen, Size, is_loopback};
use crate::clock::Clock;
use crate::config::{
    AdminConfig, CollectConfig, Config, DeadLettersConfig, KafkaConfig, ProxyConfig, SaslConfig, SinkKind, StateConfig,
    TenantConfig, TlsConfig,
};
use crate::feed::{ContentType, Tenant};

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
/// How long Microsoft keeps content listable (activity-api 1.7).
const RETENTION: Duration = Duration::from_secs(7 * 86_400);
const DEFAULT_STATE_DIR: &str = "/var/lib/auditferry";

/// Checks everything; `None` when a required part is missing (faults then say which).
pub(super) fn check(file: File, tenants: Vec<TenantFile>, reader: &mut Reader<'_>) -> Option<Config> {
    let place = file.place;
    let written_state = file.state.value().unwrap_or_default();
    let (mut state, is_kept) = (state(written_state.clone(), reader), !matches!(written_state.kafka, Field::Absent));
    let dead_letters = file.dead_letters.value().unwrap_or_default();
    let defaults = match file.tenant_defaults {
        // What it would have given is not missing.
        Field::Faulty => TenantFile { client_id: Field::Faulty, auth: Field::Faulty, ..TenantFile::default() },
        written => written.value().unwrap_or_default(),
    };
    let normalize = file.normalize.value().unwrap_or_default();
    let profile = normalize.ecs_profile.value().unwrap_or_default();
    let keep_original = normalize.original.value().unwrap_or_default();
    let enrich = enrich(file.enrich.value().unwrap_or_default(), reader);

    let clock = file.clock.given();
    if tenants.is_empty() && !matches!(file.tenants, Field::Faulty) && !matches!(file.tenants_from, Field::Faulty) {
        reader.fault(
            &place,
            "there is no tenant",
            "list at least one below `tenants:`, or name a directory in `tenants_from:`",
        );
    }
    let names: Vec<String> = tenants.iter().filter_map(|tenant| tenant.name.clone().value()).collect();
    let tenants = self::tenants(tenants, &defaults, reader);
    let clock = match clock {
        None => Clock::system(),
        Some(written) => {
            let outside = tenants.iter().any(|tenant| !is_loopback(&tenant.api) || !is_loopback(&tenant.login));
            if outside {
                reader.fault(
                    &written.place,
                    "a clock of its own would make the real service be asked for the wrong days",
                    "remove `clock`: it is for the simulator, with every tenant's endpoints on loopback",
                );
            }
            let title = "`clock`";
            let hint = "the simulator prints a configuration that has it";
            let at = written.place;
            let origin = written.value.origin_ms.required("origin_ms", title, &at, hint, reader);
            let anchor = written.value.anchor_ms.required("anchor_ms", title, &at, hint, reader);
            let speed =
                written.value.speed.within(reader, (0.001, 1e6), "between 0.001 and 1000000", 1.0, |speed| *speed);
            // A fault has been said where one is missing; the others are still to be found.
            origin
                .zip(anchor)
                .map_or_else(Clock::system, |(origin, anchor)| Clock::scaled(origin.value, anchor.value, speed))
        }
    };
    let admin = AdminConfig {
        listen: file
            .admin
            .value()
            .unwrap_or_default()
            .listen
            .value()
            .unwrap_or(Listen(Some(([127, 0, 0, 1], 9464).into())))
            .0,
    };
    let ProxyFile(proxy) = file.proxy.value().unwrap_or(ProxyFile(ProxyConfig::Environment));
    let collect = collect(file.collect.value().unwrap_or_default(), &proxy, reader);
    let none = match &file.sinks {
        Field::Absent => true,
        Field::Faulty => false,
        Field::Given(sinks) => sinks.value.is_empty(),
    };
    if none {
        reader.fault(
            &place,
            "there is no sink",
            "list at least one below `sinks:`, for instance `- { name: out, type: stdout }`",
        );
    }
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let letters = dead_letters::file(&dead_letters, &state.dir);
    let places = check_state::places(&file.sinks);
    let mut sinks = sinks(file.sinks.value().unwrap_or_default(), letters.as_ref(), &names, profile, &proxy, reader);
    check_transactional::ids_differ(&sinks, &places, reader);
    let tokens = sinks.iter_mut().filter_map(|sink| match &mut sink.kind {
        SinkKind::Kafka(KafkaConfig { sasl: Some(SaslConfig::Token(token)), .. }) => Some(token),
        _ => None,
    });
    // A token endpoint is reached as the service's is.
    tokens.for_each(|token| (token.tls, token.proxy) = (collect.tls.clone(), proxy.clone()));
    let (letters, letters_at) = letters.map_or((None, None), |(path, place)| (Some(path), place));
    let state_topic = check_state::topic(written_state, &sinks, &places, letters_at.as_ref(), reader);
    let kept = state_topic.as_ref().map(|(kept, _)| kept);
    let is_said = !matches!(dead_letters.kafka, Field::Absent);
    let topic = dead_letters::topic(dead_letters.kafka, &sinks, kept, reader);
    let mut dead_letters = DeadLettersConfig { file: letters, topic };
    if let Some((kept, dir)) = &state_topic {
        state.dir = dir.clone();
        dead_letters.file = None;
        if !is_said {
            dead_letters.topic = dead_letters::beside_the_state(kept, &sinks, &places, reader);
        }
    }
    if is_kept && state_topic.is_none() {
        return None;
    }
    let state_topic = state_topic.map(|(topic, _)| topic);
    Some(Config { state, state_topic, admin, collect, tenants, keep_original, enrich, dead_letters, sinks, clock })
}

fn state(file: StateFile, reader: &mut Reader<'_>) -> StateConfig {
    let dir = file.dir.value().unwrap_or_else(|| PathBuf::from(DEFAULT_STATE_DIR));
    let bytes = |size: &Size| size.0;
    let max_delivered_bytes = match file.kafka {
        Field::Absent => {
            file.max_delivered.within(reader, (16 * MIB, 1024 * GIB), "between 16MiB and 1TiB", 512 * MIB, bytes)
        }
        // In memory.
        _ => file.max_delivered.within(reader, (8 * MIB, GIB), "between 8MiB and 1GiB with `kafka`", 64 * MIB, bytes),
    };
    StateConfig { dir, max_delivered_bytes }
}

fn collect(file: CollectFile, proxy: &ProxyConfig, reader: &mut Reader<'_>) -> CollectConfig {
    let seconds = Duration::from_secs;
    let bytes = |size: &Size| size.0;
    let as_usize = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX);
    let same = |duration: &Duration| *duration;
    let count = |number: &usize| *number;
    CollectConfig {
        backfill: file.backfill.within(
            reader,
            (Duration::ZERO, RETENTION),
            "of at most 7d: Microsoft keeps no more",
            RETENTION,
            same,
        ),
        poll_interval: file.poll_interval.within(
            reader,
            (seconds(1), seconds(3600)),
            "between 1s and 1h",
            seconds(30),
            same,
        ),
        in_flight: as_usize(file.in_flight.within(
            reader,
            (4 * MIB, 64 * GIB),
            "between 4MiB and 64GiB",
            32 * MIB,
            bytes,
        )),
        // Spans inside a part are 32 bits wide; 256 MiB leaves room for a part beside the record.
        max_record: as_usize(file.max_record.within(
            reader,
            (64 * KIB, 256 * MIB),
            "between 64KiB and 256MiB",
            8 * MIB,
            bytes,
        )),
        requests_per_minute: u32::try_from(file.requests_per_minute.within(
            reader,
            (1, 100_000),
            "between 1 and 100000",
            1000,
            count,
        ))
        .unwrap_or(u32::MAX),
        fetches_per_tenant: file.fetches_per_tenant.within(reader, (1, 256), "between 1 and 256", 8, count),
        fetches: file.fetches.within(reader, (1, 1024), "between 1 and 1024", 16, count),
        stall_timeout: file.stall_timeout.within(
            reader,
            (seconds(1), seconds(3600)),
            "between 1s and 1h",
            seconds(60),
            same,
        ),
        tls: source_tls(file.tls.value().unwrap_or_default(), reader),
        proxy: proxy.clone(),
    }
}

/// An authority of one's own is mostly that of a proxy that opens TLS, which leaves some hosts alone: so it is
/// believed beside the platform's. Verification cannot be switched off: a token would go to anybody.
fn source_tls(file: SourceTlsFile, reader: &mut Reader<'_>) -> TlsConfig {
    let SourceTlsFile { place, ca_file, cert_file, key_file } = file;
    let written = TlsFile { place, ca_file, cert_file, key_file, verify: Field::Absent };
    TlsConfig { with_platform: true, ..tls(written, reader) }
}

fn tenants(files: Vec<TenantFile>, defaults: &TenantFile, reader: &mut Reader<'_>) -> Vec<TenantConfig> {
    for (key, place) in [
        ("name", defaults.name.clone().given().map(|at| at.place)),
        ("tenant_id", defaults.tenant_id.clone().given().map(|at| at.place)),
    ] {
        if let Some(place) = place {
            reader.fault(
                &place,
                format!("`{key}` in `tenant_defaults` would be the same for all tenants"),
                "give it to each tenant",
            );
        }
    }
    let mut names = Seen::new("tenant name");
    let mut ids = Seen::new("tenant_id");
    files.into_iter().filter_map(|file| tenant(file, defaults, &mut names, &mut ids, reader)).collect()
}

fn tenant(
    file: TenantFile,
    defaults: &TenantFile,
    names: &mut Seen<String>,
    ids: &mut Seen<String>,
    reader: &mut Reader<'_>,
) -> Option<TenantConfig> {
    let (place, title) = (file.place.clone(), TenantFile::TITLE);
    let tenant_id = check_auth::tenant_id(&file, &defaults.auth, reader);
    let name = file.name.required("name", title, &place, "a short label: it stands in metrics and events", reader);
    let written = check_auth::Written {
        title: TenantFile::TITLE,
        place: &place,
        client_id: file.client_id.or(&defaults.client_id),
        tenant_id: tenant_id.as_ref().map(|id| id.value.0.clone()),
        auth: file.auth.or(&defaults.auth),
    };
    let identity = check_auth::identity(written, reader);
    let host = identity.as_ref().and_then(|identity| identity.authority_host.clone());
    let (api, login) = roots(file.cloud.or(&defaults.cloud), file.endpoints.or(&defaults.endpoints), host);
    let content_types = content_types(file.content_types.or(&defaults.content_types), reader);
    let domains = file.domains.or(&defaults.domains).value().unwrap_or_default();
    let publisher_id = file.publisher_id.or(&defaults.publisher_id).value();

    let (name, tenant_id) = (name?, tenant_id?);
    names.check(name.value.clone(), &name.place, reader);
    ids.check(tenant_id.value.0.clone(), &tenant_id.place, reader);
    let domains = domains.into_iter().map(|domain| domain.to_ascii_lowercase()).collect();
    let id = tenant_id.value.0;
    Some(TenantConfig {
        publisher_id: publisher_id.map_or_else(|| id.clone(), |publisher| publisher.0),
        tenant: Arc::new(Tenant { name: name.value, id, domains }),
        client_id: identity.as_ref()?.client_id.clone(),
        credential: identity?.credential,
        api,
        login,
        content_types,
    })
}

/// Roots of the API and of the token endpoint: the cloud's, each overridden by `endpoints`. Where neither says
/// where to sign in, `host` does: what the workload identity webhook put into the environment.
#[expect(clippy::expect_used, reason = "the presets are literals and a test reads them all")]
fn roots(cloud: Field<Cloud>, endpoints: Field<EndpointsFile>, host: Option<Url>) -> (Url, Url) {
    let host = host.filter(|_| matches!(cloud, Field::Absent));
    let (api, login) = cloud.value().unwrap_or(Cloud::Enterprise).roots();
    let endpoints = endpoints.value().unwrap_or_default();
    let root = |given: Field<Url>, preset: &str| {
        given.value().unwrap_or_else(|| Url::parse(preset).expect("a preset is a URL"))
    };
    let login = match (&endpoints.login, host) {
        (Field::Absent, Some(host)) => host,
        _ => root(endpoints.login, login),
    };
    (root(endpoints.api, api), login)
}

fn content_types(field: Field<Vec<super::values::At<ContentType>>>, reader: &mut Reader<'_>) -> Vec<ContentType> {
    let Some(written) = field.given() else { return ContentType::ALL.to_vec() };
    if written.value.is_empty() {
        reader.fault(
            &written.place,
            "no content type is left to collect",
            "leave `content_types` out to collect all five",
        );
    }
    let mut seen = Seen::new("content type");
    for at in &written.value {
        seen.check(at.value, &at.place, reader);
    }
    written.value.into_iter().map(|at| at.value).collect()
}

/// A secret that stands in a file that everybody may read deserves a word.
pub(super) fn warn_of_literal(place: &Place, what: &str, reader: &mut Reader<'_>) {
    use std::os::unix::fs::MetadataExt;
    if std::fs::metadata(&*place.file).is_ok_and(|found| found.mode() & 0o004 != 0) {
        reader.warning(
            place,
            format!("the {what} stands in a file that everybody on this machine can read"),
            format!("move it: \"${{file:/run/secrets/…}}\", or chmod o-r {}", place.file),
        );
    }
}

/// What must be there once only.
pub(super) struct Seen<T> {
    what: &'static str,
    first: HashMap<T, Place>,
}

impl<T: Eq + Hash> Seen<T> {
    pub fn new(what: &'static str) -> Seen<T> {
        Seen { what, first: HashMap::new() }
    }

    /// A fault when `value` was there before.
    pub fn check(&mut self, value: T, place: &Place, reader: &mut Reader<'_>) {
        match self.first.entry(value) {
            std::collections::hash_map::Entry::Occupied(first) => {
                reader.fault(
                    place,
                    format!("the {} is already used at {}", self.what, first.get()),
                    "give each its own",
                );
            }
            std::collections::hash_map::Entry::Vacant(vacant) => {
                vacant.insert(place.clone());
            }
        }
    }
}
