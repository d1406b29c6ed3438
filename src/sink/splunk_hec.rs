//! Splunk's HTTP Event Collector: `POST …/services/collector/event`, one JSON object an event.
//!
//! Comes in: events; goes out: gzipped batches. At least once: an answer of 200 says that the batch
//! was accepted, not that it is indexed. The record key travels in `fields`, so that a search can
//! remove a duplicate. The record stands verbatim in `event`, never re-serialised.

use std::io::Write;
use std::sync::{Arc, PoisonError, RwLock};

use flate2::Compression;
use flate2::write::GzEncoder;
use reqwest::header::{AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use reqwest::{Client, RequestBuilder};
use secrecy::{ExposeSecret, SecretString};
use url::Url;

use super::hec_answer::{Answer, classify, classify_empty, classify_health};
use super::template::{Template, escape};
use super::{Accepted, EncodedBatch, SendError, Sink, SinkBuildError};
use crate::clock::world_ms;
use crate::config::{Format, HecConfig, SinkConfig};
use crate::event::Event;
use crate::http;
use crate::metrics::Metrics;
use crate::retry::parse_retry_after;
use crate::secret::{SecretSource, scrub};

/// What the Splunk Add-on for Microsoft Office 365 calls these records, so that its searches work.
const RAW_SOURCETYPE: &str = "o365:management:activity";
/// An ECS document is not what that add-on expects, and so has a name of its own.
const ECS_SOURCETYPE: &str = "auditferry:ecs";
const SOURCE: &str = "auditferry";

/// What stands before the token in the header.
const SCHEME: &str = "Splunk ";

/// Bytes of an answer that are read; a collector's are below 200.
const ANSWER_LIMIT: usize = 64 * 1024;

/// Bytes compressed between two looks at other work: about a millisecond at level 1.
const COMPRESSED_AT_ONCE: usize = 64 * 1024;

/// One collector.
pub struct SplunkHecSink {
    name: String,
    format: Format,
    client: Client,
    events_url: Url,
    health_url: Url,
    token_source: SecretSource,
    authorization: RwLock<HeaderValue>,
    host: Option<Template>,
    source: Template,
    sourcetype: Template,
    /// For what cannot be embedded as the record it should be.
    unreadable_sourcetype: Template,
    index: Option<Template>,
    gzip: bool,
    metrics: Arc<Metrics>,
}

impl SplunkHecSink {
    /// Checks everything that can be checked without the network.
    pub fn new(config: &SinkConfig, hec: &HecConfig, metrics: Arc<Metrics>) -> Result<SplunkHecSink, SinkBuildError> {
        let sink = || config.name.clone();
        let template = |field: &'static str, text: &str| {
            Template::parse(text).map_err(|source| SinkBuildError::Template { sink: sink(), field, source })
        };
        let optional = |field, text: &Option<String>| text.as_deref().map(|text| template(field, text)).transpose();
        let in_http = |source| SinkBuildError::Http { sink: sink(), source };
        http::require_https(&hec.url).map_err(in_http)?;
        let (events_url, health_url) = endpoints(&hec.url)
            .ok_or_else(|| SinkBuildError::Endpoint { sink: sink(), url: hec.url.path().to_owned() })?;
        let token = hec.token.read().map_err(|source| SinkBuildError::Secret { sink: sink(), source })?;
        let authorization = authorization(&token).ok_or_else(|| SinkBuildError::Token { sink: sink() })?;
        let default_sourcetype = match config.format {
            Format::Raw => RAW_SOURCETYPE,
            Format::Ecs => ECS_SOURCETYPE,
        };
        let sourcetype = template("sourcetype", hec.sourcetype.as_deref().unwrap_or(default_sourcetype))?;
        let unreadable_sourcetype = match config.format {
            Format::Raw => template("sourcetype", ECS_SOURCETYPE)?,
            Format::Ecs => sourcetype.clone(),
        };
        for encoding in ["identity", "gzip"] {
            metrics.sink_bytes.with_label_values(&[&config.name, encoding]);
        }
        Ok(SplunkHecSink {
            name: sink(),
            format: config.format,
            client: http::client(&hec.tls, Some(hec.timeout)).map_err(in_http)?,
            events_url,
            health_url,
            token_source: hec.token.clone(),
            authorization: RwLock::new(authorization),
            host: optional("host", &hec.host)?,
            source: template("source", hec.source.as_deref().unwrap_or(SOURCE))?,
            sourcetype,
            unreadable_sourcetype,
            index: optional("index", &hec.index)?,
            gzip: hec.gzip,
            metrics,
        })
    }

    fn authorized(&self, request: RequestBuilder) -> RequestBuilder {
        let authorization = self.authorization.read().unwrap_or_else(PoisonError::into_inner).clone();
        request.header(AUTHORIZATION, authorization)
    }

    /// The token may have been rotated while the circuit was open.
    fn read_token_again(&self) -> Result<(), SendError> {
        let fatal = |reason: String| SendError::Fatal { reason: format!("sink `{}`: {reason}", self.name) };
        let token = self.token_source.read().map_err(|error| fatal(error.to_string()))?;
        let header = authorization(&token)
            .ok_or_else(|| fatal("the token holds characters that no header can carry".to_owned()))?;
        *self.authorization.write().unwrap_or_else(PoisonError::into_inner) = header;
        Ok(())
    }

    /// Sends the request and shows its answer to `judge`. What goes wrong on the way is a retry.
    async fn exchange<T>(&self, request: RequestBuilder, judge: impl FnOnce(&Answer<'_>) -> T) -> Result<T, SendError> {
        let failed = |error: reqwest::Error| SendError::Retry {
            after: None,
            reason: format!(
                "sink `{}`: cannot reach `{}`: {}; sent again",
                self.name,
                self.events_url.origin().ascii_serialization(),
                http::error_chain(&error)
            ),
        };
        let mut response = request.send().await.map_err(failed)?;
        let status = response.status().as_u16();
        let retry_after = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok());
        let retry_after = retry_after.and_then(|value| parse_retry_after(value, world_ms()));
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(failed)? {
            let room = ANSWER_LIMIT - body.len();
            body.extend_from_slice(&chunk[..chunk.len().min(room)]);
            if body.len() == ANSWER_LIMIT {
                break;
            }
        }
        let token = self.authorization.read().unwrap_or_else(PoisonError::into_inner).clone();
        let token = token.as_bytes().strip_prefix(SCHEME.as_bytes()).unwrap_or(token.as_bytes());
        Ok(judge(&Answer { status, retry_after, body: &scrub(&body, token) }))
    }

    async fn compress(&self, bytes: &[u8]) -> std::io::Result<Vec<u8>> {
        let mut encoder = GzEncoder::new(Vec::with_capacity(bytes.len() / 6), Compression::new(1));
        for chunk in bytes.chunks(COMPRESSED_AT_ONCE) {
            encoder.write_all(chunk)?;
            tokio::task::yield_now().await;
        }
        encoder.finish()
    }
}

impl Sink for SplunkHecSink {
    fn encode(&self, event: &Event<'_>, out: &mut Vec<u8>) {
        let verbatim = self.format == Format::Raw && event.meta.readable;
        out.push(b'{');
        if let Some(time_ms) = event.meta.time_ms.and_then(|ms| u64::try_from(ms).ok()) {
            // Writing to memory cannot fail.
            let _ = write!(out, "\"time\":{}.{:03},", time_ms / 1000, time_ms % 1000);
        }
        if let Some(host) = &self.host {
            push_text("host", host, event, out);
        }
        push_text("source", &self.source, event, out);
        let sourcetype = if event.meta.readable { &self.sourcetype } else { &self.unreadable_sourcetype };
        push_text("sourcetype", sourcetype, event, out);
        if let Some(index) = &self.index {
            push_text("index", index, event, out);
        }
        out.extend_from_slice(b"\"event\":");
        out.extend_from_slice(if verbatim { event.raw() } else { event.doc() });
        out.extend_from_slice(b",\"fields\":{\"auditferry_key\":\"");
        out.extend_from_slice(&event.meta.key.to_hex());
        out.extend_from_slice(b"\",\"tenant\":\"");
        escape(&event.part.blob.feed.tenant.name, out);
        out.extend_from_slice(b"\",\"content_type\":\"");
        out.extend_from_slice(event.part.blob.feed.content_type.as_str().as_bytes());
        out.extend_from_slice(b"\"}}\n");
    }

    async fn send(&self, batch: &EncodedBatch) -> Result<Accepted, SendError> {
        let request = self.authorized(self.client.post(self.events_url.clone()));
        let request = request.header(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let plain = batch.bytes.len() as u64;
        let (request, encoded) = if self.gzip {
            let body = self.compress(&batch.bytes).await.map_err(|error| SendError::Retry {
                after: None,
                reason: format!("sink `{}`: cannot compress a batch: {error}", self.name),
            })?;
            let length = body.len() as u64;
            (request.header(CONTENT_ENCODING, HeaderValue::from_static("gzip")).body(body), length)
        } else {
            (request.body(batch.bytes.clone()), 0)
        };
        let bytes = |encoding| self.metrics.sink_bytes.with_label_values(&[self.name.as_str(), encoding]);
        bytes("identity").inc_by(plain);
        bytes("gzip").inc_by(encoded);
        self.exchange(request, |answer| classify(&self.name, answer, batch.ends.len())).await??;
        Ok(Accepted::default())
    }

    async fn probe(&self) -> Result<(), SendError> {
        self.read_token_again()?;
        let health = self.authorized(self.client.get(self.health_url.clone()));
        if let Some(verdict) = self.exchange(health, |answer| classify_health(&self.name, answer)).await? {
            return verdict;
        }
        let empty = self.authorized(self.client.post(self.events_url.clone()));
        self.exchange(empty, |answer| classify_empty(&self.name, answer)).await?
    }
}

fn push_text(name: &str, template: &Template, event: &Event<'_>, out: &mut Vec<u8>) {
    out.push(b'"');
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\":\"");
    template.render(event, out);
    out.extend_from_slice(b"\",");
}

fn authorization(token: &SecretString) -> Option<HeaderValue> {
    let mut header = HeaderValue::from_str(&format!("{SCHEME}{}", token.expose_secret())).ok()?;
    header.set_sensitive(true);
    Some(header)
}

/// Where events go and where health is asked. A URL that names the collector already is kept (a
/// prefix of a reverse proxy too); `…/raw` and the like are refused, for they take another format.
fn endpoints(url: &Url) -> Option<(Url, Url)> {
    const COLLECTOR: &str = "/services/collector";
    let path = url.path().trim_end_matches('/');
    let (base, events) = match path.find(COLLECTOR) {
        None => (path, "/event"),
        Some(at) => match &path[at + COLLECTOR.len()..] {
            "" | "/event" => (&path[..at], "/event"),
            "/event/1.0" => (&path[..at], "/event/1.0"),
            _ => return None,
        },
    };
    let with = |end: &str| {
        let mut url = url.clone();
        url.set_path(&format!("{base}{COLLECTOR}{end}"));
        url.set_fragment(None);
        url
    };
    Some((with(events), with("/health")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{BatchConfig, RetryConfig, SinkKind, TlsConfig};
    use crate::sink::samples;
    use serde_json::{Value, json};
    use std::time::Duration;

    fn config(format: Format, hec: HecConfig) -> SinkConfig {
        SinkConfig {
            name: "splunk".into(),
            required: true,
            format,
            when: None,
            batch: BatchConfig { max_bytes: 1, max_events: 1, linger: Duration::ZERO, concurrency: 1 },
            retry: RetryConfig { initial: Duration::ZERO, max: Duration::ZERO },
            kind: SinkKind::SplunkHec(hec),
        }
    }

    fn hec(url: &str) -> HecConfig {
        HecConfig {
            url: Url::parse(url).unwrap(),
            token: SecretSource::Value("canary-token".into()),
            index: None,
            source: None,
            sourcetype: None,
            host: None,
            gzip: true,
            tls: TlsConfig::default(),
            timeout: Duration::from_secs(5),
        }
    }

    fn encoded(format: Format, hec: HecConfig, record: &str) -> (Value, String) {
        let sink = SplunkHecSink::new(&config(format, hec.clone()), &hec, Metrics::new()).unwrap();
        let part = samples::part(&[record]);
        let mut out = Vec::new();
        sink.encode(&part.event(0), &mut out);
        (serde_json::from_slice(&out).unwrap(), String::from_utf8(out).unwrap())
    }

    #[test]
    fn a_record_stands_verbatim_in_its_event() {
        let (value, text) = encoded(Format::Raw, hec("https://splunk"), samples::RECORD);
        assert!(
            text.contains(samples::RECORD) && text.starts_with("{\"time\":1700000000.007,") && text.ends_with("}\n")
        );
        assert_eq!(
            (&value["sourcetype"], &value["source"]),
            (&json!("o365:management:activity"), &json!("auditferry"))
        );
        assert_eq!(value["fields"]["tenant"], "con\"toso");
        assert_eq!(value["fields"]["content_type"], "Audit.Exchange");
        assert_eq!(value["fields"]["auditferry_key"].as_str().unwrap().len(), 32);
        assert!(value.get("index").is_none() && value.get("host").is_none());
    }

    #[test]
    fn templates_and_the_ecs_document_fill_the_rest() {
        let mut hec = hec("https://splunk");
        hec.index = Some("o365_{content_type}".into());
        hec.host = Some("{tenant}".into());
        let (value, _) = encoded(Format::Ecs, hec, samples::RECORD);
        assert_eq!((&value["index"], &value["host"]), (&json!("o365_Audit.Exchange"), &json!("con\"toso")));
        assert_eq!((&value["event"], &value["sourcetype"]), (&json!({"doc": 0}), &json!("auditferry:ecs")));
    }

    #[test]
    fn an_unreadable_record_leaves_as_its_document_under_another_sourcetype() {
        let mut hec = hec("https://splunk");
        hec.sourcetype = Some("mine".into());
        let (value, _) = encoded(Format::Raw, hec, "broken");
        assert_eq!((&value["event"], &value["sourcetype"]), (&json!({"doc": 0}), &json!("auditferry:ecs")));
    }

    #[test]
    fn the_endpoint_is_appended_unless_it_is_there() {
        let cases = [
            ("https://s:8088", Some("https://s:8088/services/collector/event")),
            ("https://s:8088/", Some("https://s:8088/services/collector/event")),
            ("https://s/prefix/", Some("https://s/prefix/services/collector/event")),
            ("https://s/services/collector", Some("https://s/services/collector/event")),
            ("https://s/services/collector/event", Some("https://s/services/collector/event")),
            ("https://s/services/collector/event/1.0", Some("https://s/services/collector/event/1.0")),
            ("https://s/services/collector/raw", None),
        ];
        for (given, expected) in cases {
            let found = endpoints(&Url::parse(given).unwrap());
            assert_eq!(found.as_ref().map(|(events, _)| events.as_str()), expected, "{given}");
            assert!(found.is_none_or(|(_, health)| health.path().ends_with("/services/collector/health")));
        }
    }

    #[test]
    fn plain_http_to_another_machine_is_refused_and_the_token_is_never_shown() {
        let hec = hec("http://splunk:8088");
        let error = SplunkHecSink::new(&config(Format::Raw, hec.clone()), &hec, Metrics::new()).err().unwrap();
        assert!(matches!(error, SinkBuildError::Http { .. }));
        let header = authorization(&"canary-token".into()).unwrap();
        assert!(!format!("{header:?} {hec:?}").contains("canary"));
    }
}
