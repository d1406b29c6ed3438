//! The http sink as written → as meant: addresses that may be secrets, presets, bodies, statuses. Comes in: the
//! sections of one sink. Goes out: [`HttpConfig`], or faults. Asks no receiver.

use std::time::Duration;

use super::check::warn_of_literal;
use super::check_kafka::Pairs;
use super::check_login::{self, LoginFile, SignatureFile};
use super::check_sinks::tls;
use super::faults::{Place, Reader};
use super::file::{BatchFile, SinkCommon, TlsFile};
use super::http::{HttpAddress, HttpAddressError, HttpConfig, HttpEncoding, HttpPreset, SUCCESS};
use super::interpolate::sole_file;
use super::proxy::ProxyFile;
use super::schema::{self, Schema};
use super::section::{Field, Section, entries, field, refuse_unknown, section};
use super::templates;
use super::tree::{Entry, Node, Value};
use super::values::{At, Cloud, Compression, FromNode, Secret};
use crate::config::{BatchConfig, Format, ProxyConfig, RateLimitConfig, SecretHeader};

section! {
    HttpFile in "the http sink" {
        /// Where to send: the whole address, path and query included; best as "${file:/run/secrets/…}" where it is a secret, as of a webhook.
        url: Address,
        /// A receiver that is known: slack, teams, sentinel, otlp. It decides `encoding`, and where the others begin.
        preset: Preset,
        /// POST (the default), PUT or PATCH.
        method: Method,
        /// `ndjson` (the default): one line an event; `json_array`; `single`: one event a request.
        encoding: Encoding,
        /// Of a single event: a text with the places {event}, {event_text} and those of other templates.
        body: BodyText,
        /// Further headers, name to value; a secret best as "${file:/run/secrets/…}".
        headers: Pairs<Secret>,
        /// By what right the sink asks.
        auth: LoginFile,
        /// A keyed signature of each body (HMAC).
        signature: SignatureFile,
        /// Default gzip, and none for single events.
        compression: Compression,
        /// What means "taken": statuses and stretches of them. Default 200-299; of sentinel 204, of teams 202.
        success_codes: Vec<At<Statuses>>,
        /// For one request. Default 60s.
        timeout: Duration,
        /// TLS of the connection.
        tls: TlsFile,
        /// The way out, instead of the `proxy` of the whole.
        proxy: ProxyFile,
    } later {}
}

/// An address, whatever it is made of.
#[derive(Clone, Debug)]
pub(super) struct Address(HttpAddress, bool);

impl FromNode for Address {
    fn from_node(node: &Node, reader: &mut Reader<'_>) -> Option<Address> {
        let is_file = matches!(&node.value, Value::Scalar(written) if sole_file(written).is_some());
        let Secret { source, literal } = Secret::from_node(node, reader)?;
        let address = HttpAddress { source, is_secret: !literal };
        match address.read() {
            Ok(_) => {}
            // That was said where the secret was looked at, and it may be there later.
            Err(HttpAddressError::Secret(_)) if is_file => {}
            Err(error) => {
                let error = error.to_string();
                let (text, hint) = error.split_once("; ").unwrap_or((&error, ""));
                reader.fault(&node.place, text, hint);
                return None;
            }
        }
        Some(Address(address, literal))
    }

    fn schema() -> Schema {
        schema::pattern("https?://.+")
    }
}

/// One of several words.
macro_rules! word {
    ($(#[$doc:meta])* $name:ident($type:ty) = $wanted:literal { $($word:literal => $value:expr),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug)]
        pub(super) struct $name($type);

        impl $name {
            const WORDS: &'static [&'static str] = &[$($word),*];
        }

        impl FromNode for $name {
            fn from_node(node: &Node, reader: &mut Reader<'_>) -> Option<$name> {
                match String::from_node(node, reader)?.as_str() {
                    $($word => Some($name($value)),)*
                    _ => {
                        let hint = format!("one of {}", $name::WORDS.join(", "));
                        reader.fault(&node.place, concat!("this is no ", $wanted), hint);
                        None
                    }
                }
            }

            fn schema() -> Schema {
                schema::one_of($name::WORDS.iter().copied())
            }
        }
    };
}

word! {
    /// What is known of the receiver.
    Preset(HttpPreset) = "preset of the http sink" {
        "slack" => HttpPreset::Slack,
        "teams" => HttpPreset::Teams,
        "sentinel" => HttpPreset::Sentinel,
        "otlp" => HttpPreset::Otlp,
    }
}
word! {
    /// What the request does there.
    Method(&'static str) = "method that sends something" { "POST" => "POST", "PUT" => "PUT", "PATCH" => "PATCH" }
}
word! {
    /// How events stand in a body.
    Encoding(HttpEncoding) = "encoding" {
        "ndjson" => HttpEncoding::Ndjson,
        "json_array" => HttpEncoding::JsonArray,
        "single" => HttpEncoding::Single,
    }
}

/// A body; it may have several lines.
#[derive(Clone, Debug)]
pub(super) struct BodyText(String);

impl FromNode for BodyText {
    fn from_node(node: &Node, reader: &mut Reader<'_>) -> Option<BodyText> {
        match &node.value {
            Value::Scalar(written) => super::interpolate::interpolate(written, &node.place, reader).map(BodyText),
            other => {
                let hint =
                    "write it in quotes, or behind `|` on lines of its own: `body: '{\"text\": \"{operation}\"}'`";
                reader.fault(&node.place, format!("here stands {}, the text of a body is wanted", other.shape()), hint);
                None
            }
        }
    }

    fn schema() -> Schema {
        schema::text()
    }
}

/// A status, or a stretch of them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Statuses(u16, u16);

impl FromNode for Statuses {
    fn from_node(node: &Node, reader: &mut Reader<'_>) -> Option<Statuses> {
        let text = String::from_node(node, reader)?;
        let (from, to) = text.split_once('-').unwrap_or((&text, &text));
        let number = |text: &str| text.trim().parse().ok().filter(|status| (100..=599).contains(status));
        match (number(from), number(to)) {
            (Some(from), Some(to)) if from <= to => Some(Statuses(from, to)),
            _ => {
                reader.fault(&node.place, "this is no status of HTTP", "write `204`, or `200-299`");
                None
            }
        }
    }

    fn schema() -> Schema {
        schema::any_of([serde_json::json!({ "type": "integer" }), schema::pattern("[1-5][0-9]{2}(-[1-5][0-9]{2})?")])
    }
}

/// What is shown of an event beside its document, as a template.
pub(super) fn shown(file: &HttpFile) -> Option<At<String>> {
    if let Field::Given(At { value: BodyText(text), place }) = &file.body {
        let pieces = templates::body_pieces(text).ok()?;
        let places = pieces.into_iter().filter_map(Result::err).filter(|name| !name.starts_with("event"));
        return Some(At { value: places.map(|name| format!("{{{name}}}")).collect(), place: place.clone() });
    }
    match &file.preset {
        Field::Given(At { value: Preset(HttpPreset::Sentinel | HttpPreset::Otlp), place }) => {
            Some(At { value: "{workload}{operation}".to_owned(), place: place.clone() })
        }
        _ => None,
    }
}

/// What batches and speed are where the file does not say, and what they cannot be.
pub(super) fn fit(
    file: &HttpFile,
    common: &SinkCommon,
    batch: &mut BatchConfig,
    rate_limit: &mut Option<RateLimitConfig>,
    reader: &mut Reader<'_>,
) {
    let preset = file.preset.clone().value().map(|preset| preset.0);
    let written: BatchFile = common.batch.clone().value().unwrap_or_default();
    if encoding_of(file) == HttpEncoding::Single {
        if let Field::Given(most) = &written.max_events
            && most.value != 1
        {
            reader.fault(&most.place, "one event a request is sent, so a batch has one", "leave `max_events` out");
        }
        (batch.max_events, batch.linger) = (1, Duration::ZERO);
    }
    let Some(defaults) = preset.map(HttpPreset::defaults) else { return };
    if let Some(most) = defaults.max_body {
        // Some bytes around each event come and go.
        let most = most - most / 50;
        match &written.max_bytes {
            Field::Given(bytes) if batch.max_bytes > most => {
                let text = format!("the receiver of preset `{}` takes {most} bytes a request", defaults.name);
                reader.fault(&bytes.place, text, "leave `max_bytes` out, or give less");
            }
            _ => batch.max_bytes = batch.max_bytes.min(most),
        }
    }
    if matches!(common.rate_limit, Field::Absent)
        && let Some(events) = defaults.events_per_second
    {
        *rate_limit = Some(RateLimitConfig {
            events_per_second: Some(events),
            bytes_per_second: None,
            burst: Duration::from_secs(1),
        });
    }
}

fn encoding_of(file: &HttpFile) -> HttpEncoding {
    let preset = file.preset.clone().value().map(|preset| preset.0.defaults().encoding);
    preset.or(file.encoding.clone().value().map(|encoding| encoding.0)).unwrap_or(HttpEncoding::Ndjson)
}

/// Checks everything of the sink but its batches.
pub(super) fn http(
    file: HttpFile,
    common: &SinkCommon,
    format: Format,
    proxy: &ProxyConfig,
    reader: &mut Reader<'_>,
) -> Option<HttpConfig> {
    let (place, title) = (file.place.clone(), HttpFile::TITLE);
    let encoding = encoding_of(&file);
    let preset = file.preset.clone().value().map(|preset| preset.0);
    let defaults = preset.map(HttpPreset::defaults);
    check_preset(&file, common, preset, format, reader);
    check_body(&file, preset, encoding, format, reader);
    let hint = "the whole address, for instance `https://soc.example/in`";
    let url = file.url.required("url", title, &place, hint, reader);
    if let Some(At { value: Address(address, _), place }) = &url
        && preset == Some(HttpPreset::Teams)
        && address.read().is_ok_and(|url| url.host_str().is_some_and(is_of_connectors))
    {
        let text = "this is an Office 365 connector, which Microsoft retires and which says 200 to messages that it does not post too";
        reader.fault(
            place,
            text,
            "make a webhook with the Workflows app (\"When a Teams webhook request is received\")",
        );
    }
    if let Some(At { value: Address(address, true), place }) = &url {
        if defaults.is_some_and(|defaults| defaults.is_secret_address) {
            warn_of_literal(place, "webhook's address, which is a secret,", reader);
        }
        if preset == Some(HttpPreset::Sentinel)
            && let Ok(url) = address.read()
            && !(url.path().contains("/dataCollectionRules/") && url.path().contains("/streams/"))
        {
            let hint = "`https://<endpoint>/dataCollectionRules/<dcr-immutable-id>/streams/<Custom-stream>`";
            reader.fault(place, "this is no address of a stream of the Logs Ingestion API", hint);
        }
    }
    let written = file.headers.value().unwrap_or_default().0;
    let places: Vec<At<String>> =
        written.iter().map(|(name, place, _)| At { value: name.clone(), place: place.clone() }).collect();
    let headers = written.into_iter().filter_map(|(name, place, value)| {
        let name = check_login::header_name(At { value: name, place }, reader)?;
        Some(SecretHeader { name, value: value.value.source, is_secret: !value.value.literal })
    });
    let headers: Vec<SecretHeader> = headers.collect();
    let scope: Option<&dyn Fn(Cloud) -> String> =
        if preset == Some(HttpPreset::Sentinel) { Some(&monitor_scope) } else { None };
    let has_auth = !matches!(file.auth, Field::Absent);
    if preset == Some(HttpPreset::Sentinel) && !has_auth {
        let hint = "`auth: { entra: { tenant_id: …, client_id: …, client_secret: \"${file:…}\" } }`, or `workload_identity: {}` in it";
        reader.fault(&place, "`auth` is missing: the Logs Ingestion API takes nothing without a token of Entra", hint);
    }
    let login = check_login::login(file.auth, scope, reader);
    let signature = check_login::signature(file.signature, reader);
    check_login::refuse_twice(&places, login.as_ref(), signature.as_ref().and_then(Option::as_ref), reader);
    let success: Vec<(u16, u16)> =
        file.success_codes.value().unwrap_or_default().into_iter().map(|at| (at.value.0, at.value.1)).collect();
    let seconds = Duration::from_secs;
    let timeout = file.timeout.within(reader, (seconds(1), seconds(3600)), "between 1s and 1h", seconds(60), |d| *d);
    let gzip = file.compression.value().map_or_else(
        || defaults.map_or(encoding != HttpEncoding::Single, |defaults| defaults.gzip),
        |compression| compression == Compression::Gzip,
    );
    let tls = tls(file.tls.value().unwrap_or_default(), reader);
    let proxy = file.proxy.value().map_or_else(|| proxy.clone(), |ProxyFile(own)| own);
    let Address(mut address, _) = url?.value;
    address.is_secret |= defaults.is_some_and(|defaults| defaults.is_secret_address);
    Some(HttpConfig {
        address,
        method: file.method.value().map_or("POST", |method| method.0),
        preset,
        encoding,
        body: file.body.value().map(|body| body.0),
        headers,
        login: login?.beside(&tls, &proxy),
        signature: signature?,
        gzip,
        success: if success.is_empty() { vec![defaults.map_or(SUCCESS, |defaults| defaults.success)] } else { success },
        tls,
        proxy,
        timeout,
    })
}

/// Whether it is where the incoming webhooks of Teams were before Workflows ("Create incoming webhooks").
fn is_of_connectors(host: &str) -> bool {
    host == "outlook.office.com" || host.ends_with(".webhook.office.com")
}

/// What a token of Entra must be for, by cloud (Azure Monitor, "Logs Ingestion API": authentication).
fn monitor_scope(cloud: Cloud) -> String {
    let resource = match cloud {
        Cloud::Enterprise | Cloud::Gcc => "https://monitor.azure.com",
        Cloud::GccHigh | Cloud::Dod => "https://monitor.azure.us",
    };
    format!("{resource}/.default")
}

fn check_preset(
    file: &HttpFile,
    common: &SinkCommon,
    preset: Option<HttpPreset>,
    format: Format,
    reader: &mut Reader<'_>,
) {
    let Some(preset) = preset else { return };
    let name = preset.defaults().name;
    if let Field::Given(encoding) = &file.encoding {
        reader.fault(&encoding.place, format!("preset `{name}` has an encoding of its own"), "leave `encoding` out");
    }
    if let Field::Given(method) = &file.method {
        reader.fault(&method.place, format!("preset `{name}` has a method of its own"), "leave `method` out");
    }
    if preset.is_chat() {
        if format != Format::Ecs
            && matches!(file.body, Field::Absent)
            && let Field::Given(written) = &common.format
        {
            let text = format!("preset `{name}` makes its messages of ECS documents");
            reader.fault(&written.place, text, "leave `format` out");
        }
        let is_required = !matches!(&common.required, Field::Given(at) if !at.value);
        if is_required && let Field::Given(at) = &file.preset {
            reader.warning(
                &at.place,
                "a chat takes about one message a second, and blobs wait for a sink that is required",
                "add `required: false`, and `when:` for what is worth a message",
            );
        }
    }
}

fn check_body(
    file: &HttpFile,
    preset: Option<HttpPreset>,
    encoding: HttpEncoding,
    format: Format,
    reader: &mut Reader<'_>,
) {
    if matches!(format, Format::Cef | Format::Leef) && (encoding != HttpEncoding::Ndjson || preset.is_some()) {
        let text = format!("`{}` is no JSON, and this body is", format.as_str());
        reader.fault(&file.place, text, "use `format: raw` or `ecs`, or `encoding: ndjson`, which is any lines");
    }
    let Field::Given(At { value: BodyText(text), place }) = &file.body else { return };
    if encoding != HttpEncoding::Single {
        let hint = "add `encoding: single`, or leave `body` out";
        reader.fault(place, "`body` is of one event, and here several share one", hint);
        return;
    }
    match templates::body_sample(text) {
        Err(error) => {
            let known: Vec<String> = templates::BODY_PLACES.iter().map(|name| format!("{{{name}}}")).collect();
            reader.fault(place, error, format!("places are {}", known.join(", ")));
        }
        Ok(sample) => {
            let headers = file.headers.clone().value().unwrap_or_default().0;
            let is_typed = headers.iter().any(|(name, ..)| name.eq_ignore_ascii_case("content-type"));
            if !is_typed && let Err(error) = serde_json::from_str::<serde::de::IgnoredAny>(&sample) {
                let hint = "{event} stands by itself, all other places inside of quotes; for what is no JSON give `headers: { Content-Type: … }`";
                let at = format!("line {} column {}", error.line(), error.column());
                reader.fault(place, format!("with its places filled this body is no JSON ({at})"), hint);
            }
        }
    }
}
