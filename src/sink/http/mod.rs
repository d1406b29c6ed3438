//! Any receiver that speaks HTTP: lines, an array or single events, by POST, PUT or PATCH; and some that are known
//! (presets: `slack`, `teams`, `sentinel`, `otlp`).
//!
//! Comes in: events, framed with their record keys ([`frame`]). Goes out: one request a batch. At least once: a batch
//! is done when the receiver says so ([`answer`]); `Idempotency-Key` is made of the record keys, so that a receiver
//! can tell a batch that is sent again. The address may be a secret and is then never shown but for its host.

mod answer;
mod body;
mod frame;
mod otlp;
mod sentinel;
mod slack;
mod summary;
mod teams;

use std::borrow::Cow;
use std::sync::{Arc, PoisonError, RwLock};

use reqwest::Method;
use reqwest::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderName, HeaderValue};
use secrecy::SecretString;
use url::Url;

use super::line::{Written, push_flat};
use super::web::{ANSWER_LIMIT, Exchange, Login, compress};
use super::{Accepted, EncodedBatch, SendError, Sink, SinkBuildError};
use crate::config::{Format, HttpAddress, HttpConfig, HttpEncoding, HttpPreset, SinkConfig};
use crate::event::Event;
use crate::http::{self, HttpClient};
use crate::metrics::Metrics;
use answer::{Asked, classify};
use body::{BodyTemplate, Envelope, Escaping};

/// "The Idempotency-Key HTTP Header Field" (IETF draft), as Stripe and others know it.
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// Parts of a secret address that are blotted out of answers by themselves; shorter ones are words.
const LEAST_SECRET_PART: usize = 8;

/// One receiver.
pub struct HttpSink {
    name: String,
    written: Written,
    writer: Writer,
    envelope: Envelope,
    address: HttpAddress,
    preset: Option<HttpPreset>,
    url: RwLock<Url>,
    method: Method,
    content_type: HeaderValue,
    client: HttpClient,
    login: Login,
    gzip: bool,
    success: Vec<(u16, u16)>,
    /// What of a body the receiver takes, where it is known: bytes, of Slack characters.
    max_body: Option<usize>,
    metrics: Arc<Metrics>,
}

/// What one event is written as.
enum Writer {
    Document,
    Template(BodyTemplate),
    Slack,
    Teams,
    Sentinel,
    Otlp,
}

impl HttpSink {
    /// Checks everything that can be checked without the network.
    pub fn new(config: &SinkConfig, http: &HttpConfig, metrics: Arc<Metrics>) -> Result<HttpSink, SinkBuildError> {
        let sink = || config.name.clone();
        let in_http = |source| SinkBuildError::Http { sink: sink(), source };
        let url = http.address.read().map_err(|source| SinkBuildError::Address { sink: sink(), source })?;
        let login = Login::new(&config.name, &http.login)?;
        let login = login.with_headers(&http.headers)?.with_signature(http.signature.as_ref())?;
        let client = http::client(&http.tls, &http.proxy, Some(http.timeout)).map_err(in_http)?;
        let writer = match (&http.body, http.preset) {
            (Some(text), preset) => {
                let escaping = if preset == Some(HttpPreset::Slack) { Escaping::Slack } else { Escaping::Json };
                let template = BodyTemplate::parse(text, escaping);
                Writer::Template(template.map_err(|reason| SinkBuildError::Body { sink: sink(), reason })?)
            }
            (None, Some(HttpPreset::Slack)) => Writer::Slack,
            (None, Some(HttpPreset::Teams)) => Writer::Teams,
            (None, Some(HttpPreset::Sentinel)) => Writer::Sentinel,
            (None, Some(HttpPreset::Otlp)) => Writer::Otlp,
            (None, None) => Writer::Document,
        };
        let envelope = match (http.preset, http.encoding) {
            (Some(HttpPreset::Otlp), _) => Envelope::Otlp,
            (_, HttpEncoding::Ndjson) => Envelope::Lines,
            (_, HttpEncoding::JsonArray) => Envelope::Array,
            (_, HttpEncoding::Single) => Envelope::Single,
        };
        let content_type = match (envelope, config.format) {
            (Envelope::Lines, Format::Cef | Format::Leef) => "text/plain; charset=utf-8",
            (Envelope::Lines, Format::Raw | Format::Ecs) => "application/x-ndjson",
            _ => "application/json",
        };
        compress::declare(&config.name, &metrics);
        metrics.sink_resent.with_label_values(&[config.name.as_str(), "no_answer"]);
        let sink = HttpSink {
            name: sink(),
            written: Written::of(config),
            writer,
            envelope,
            address: http.address.clone(),
            preset: http.preset,
            url: RwLock::new(url.clone()),
            method: Method::from_bytes(http.method.as_bytes()).unwrap_or(Method::POST),
            content_type: HeaderValue::from_static(content_type),
            client,
            login,
            gzip: http.gzip,
            success: http.success.clone(),
            max_body: http.preset.and_then(|preset| preset.defaults().max_body),
            metrics,
        };
        sink.use_url(url);
        Ok(sink)
    }

    fn use_url(&self, url: Url) {
        if self.address.is_secret {
            let whole = match url.query() {
                Some(query) => format!("{}?{query}", url.path()),
                None => url.path().to_owned(),
            };
            let parts = url.path().split('/').map(str::to_owned);
            let values = url.query_pairs().map(|(_, value)| value.into_owned());
            // And as they stand in the address, should it be repeated.
            let raw = url.query().unwrap_or_default().split('&').filter_map(|pair| pair.split_once('='));
            let raw = raw.map(|(_, value)| value.to_owned());
            let parts = std::iter::once(whole).chain(parts).chain(values).chain(raw);
            for part in parts.filter(|part| part.len() >= LEAST_SECRET_PART) {
                self.login.blot_out(SecretString::from(part));
            }
        }
        let url = self.preset.map_or(url.clone(), |preset| preset.complete(url));
        *self.url.write().unwrap_or_else(PoisonError::into_inner) = url;
    }

    fn url(&self) -> Url {
        self.url.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn fatal(&self, reason: impl std::fmt::Display) -> SendError {
        SendError::Fatal { reason: format!("sink `{}`: {reason}", self.name) }
    }

    /// A body that the receiver is known not to take is not shown to it: some say yes and drop it later.
    fn too_large(&self, body: &[u8], events: usize) -> Option<SendError> {
        let (size, unit) = match self.preset {
            Some(HttpPreset::Slack) => (body.iter().filter(|byte| **byte & 0xC0 != 0x80).count(), "characters"),
            _ => (body.len(), "bytes"),
        };
        let most = self.max_body.filter(|most| size > *most)?;
        let reason = format!(
            "sink `{}`: a body of {size} {unit} for {events} events, and the receiver takes {most}; see the event in the dead letters",
            self.name
        );
        Some(SendError::Split { cause: "too large a body".to_owned(), reason })
    }
}

impl Sink for HttpSink {
    fn encode(&self, event: &Event<'_>, out: &mut Vec<u8>) {
        frame::begin(&event.meta.key, out);
        match &self.writer {
            Writer::Document => push_flat(self.written.body(event), out),
            Writer::Template(template) => template.render(event, self.written.body(event), out),
            Writer::Slack => slack::push(self.written.body(event), out),
            Writer::Teams => teams::push(self.written.body(event), out),
            Writer::Sentinel => sentinel::push(event, self.written.body(event), out),
            Writer::Otlp => otlp::push(event, self.written.body(event), out),
        }
    }

    async fn send(&self, batch: &EncodedBatch) -> Result<Accepted, SendError> {
        let Some(frames) = frame::read(&batch.bytes, &batch.ends) else {
            return Err(self.fatal("a batch of ours is broken; this is a fault of auditferry"));
        };
        let body = self.envelope.join(&frames);
        if let Some(error) = self.too_large(&body, frames.len()) {
            return Err(error);
        }
        let request = self.client.request(self.method.clone(), self.url());
        let request = request.header(CONTENT_TYPE, self.content_type.clone());
        let request = request.header(IDEMPOTENCY_KEY, frame::batch_key(&frames));
        let mut request = request.body(compress::packed(&self.name, Cow::Owned(body), self.gzip, &self.metrics).await?);
        if self.gzip {
            request = request.header(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        let exchange = Exchange { sink: &self.name, client: &self.client, login: &self.login, limit: ANSWER_LIMIT };
        let heard = exchange.ask(request).await.map_err(|error| {
            if error.may_have_arrived {
                let resent = self.metrics.sink_resent.with_label_values(&[self.name.as_str(), "no_answer"]);
                resent.inc_by(frames.len() as u64);
            }
            SendError::from(error)
        })?;
        let asked = Asked { sink: &self.name, preset: self.preset, success: &self.success };
        classify(&asked, &heard).map(|()| Accepted::default())
    }

    /// There is no question that any receiver would answer without taking something for an event: so what may have
    /// been mended is read again, a token is fetched, and the next batch is the trial.
    async fn probe(&self) -> Result<(), SendError> {
        let url = self.address.read().map_err(|error| self.fatal(error))?;
        self.use_url(url);
        self.login.read_again().await?;
        self.login.prepare().await
    }
}

#[cfg(test)]
mod tests;
