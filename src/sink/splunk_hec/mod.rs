//! Splunk's HTTP Event Collector: `POST …/services/collector/event`, one JSON object an event.
//!
//! Comes in: events; goes out: gzipped batches. At least once: an answer of 200 says that the batch
//! was accepted, not that it is indexed; where the receiver acknowledges, a batch counts as taken when
//! its indexers have it ([`pending`]). The record key travels in `fields`, so that a search can remove
//! a duplicate. The record stands verbatim in `event`, never re-serialised.

mod ack;
mod answer;
mod lane;
mod pending;
mod receiver;
#[cfg(feature = "failpoints")]
pub(crate) mod trial;

use std::borrow::Cow;
use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use reqwest::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderValue};
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::line::Written;
use super::template::{Template, escape};
use super::web::{Heard, compress};
use super::{Accepted, EncodedBatch, SendError, Sink, SinkBuildError};
use crate::config::{AckConfig, AckMode, Format, HecConfig, SinkConfig};
use crate::event::Event;
use crate::metrics::Metrics;
use ack::{Offer, Offered};
use answer::{Answer, Asked, classify, classify_empty, classify_health, is_of_a_collector};
use lane::{Lane, Lanes};
use receiver::Receiver;

/// What the Splunk Add-on for Microsoft Office 365 calls these records, so that its searches work.
const RAW_SOURCETYPE: &str = "o365:management:activity";
/// An ECS document is not what that add-on expects, and so has a name of its own.
const ECS_SOURCETYPE: &str = "auditferry:ecs";
const SOURCE: &str = "auditferry";

/// Bytes of an event above which Splunk cuts it unless told otherwise (props.conf, `TRUNCATE`).
const LONG_EVENT: usize = 10_000;

/// One collector.
pub struct SplunkHecSink {
    name: String,
    written: Written,
    receiver: Receiver,
    lanes: Lanes,
    ack: AckConfig,
    offer: Offer,
    /// An acknowledgement was forgotten since the receiver last answered for any.
    doubtful: AtomicBool,
    /// Until when no batch is sent, after one was taken without the `ackId` that it needs.
    withheld: Mutex<Option<Instant>>,
    /// Batches that are being sent; those that wait for their acknowledgement are not.
    sending: Semaphore,
    host: Option<Template>,
    source: Template,
    sourcetype: Template,
    /// For what cannot be embedded as the record it should be.
    unreadable_sourcetype: Template,
    index: Option<Template>,
    index_by_event: bool,
    gzip: bool,
    warned_of_long_events: AtomicBool,
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
        let receiver = Receiver::new(&config.name, &hec.url, &hec.token)?;
        let default_sourcetype = match config.format {
            Format::Raw => RAW_SOURCETYPE,
            // Messages that are no JSON are refused where the configuration is read.
            Format::Ecs | Format::Cef | Format::Leef => ECS_SOURCETYPE,
        };
        let sourcetype = template("sourcetype", hec.sourcetype.as_deref().unwrap_or(default_sourcetype))?;
        let unreadable_sourcetype = match config.format {
            Format::Raw => template("sourcetype", ECS_SOURCETYPE)?,
            Format::Ecs | Format::Cef | Format::Leef => sourcetype.clone(),
        };
        compress::declare(&config.name, &metrics);
        metrics.sink_long_events.with_label_values(&[&config.name]);
        pending::declare(&config.name, &metrics);
        Ok(SplunkHecSink {
            name: sink(),
            written: Written::of(config),
            receiver,
            lanes: Lanes::new(&hec.tls, &hec.proxy, hec.timeout, hec.ack.mode != AckMode::Off).map_err(in_http)?,
            ack: hec.ack,
            offer: Offer::default(),
            doubtful: AtomicBool::new(false),
            withheld: Mutex::default(),
            sending: Semaphore::new(config.batch.concurrency.max(1)),
            host: optional("host", &hec.host)?,
            source: template("source", hec.source.as_deref().unwrap_or(SOURCE))?,
            sourcetype,
            unreadable_sourcetype,
            index: optional("index", &hec.index)?,
            index_by_event: hec.index.as_ref().is_some_and(|index| index.contains('{')),
            gzip: hec.gzip,
            warned_of_long_events: AtomicBool::new(false),
            metrics,
        })
    }

    fn asked(&self, events: usize) -> Asked<'_> {
        Asked {
            sink: &self.name,
            events,
            with_channel: self.ack.mode != AckMode::Off,
            index_by_event: self.index_by_event,
        }
    }

    async fn lane(&self) -> Result<Lane, SendError> {
        // One was built of the same at the start, so this passes.
        self.lanes.take().await.map_err(|error| SendError::Retry {
            after: None,
            reason: format!("sink `{}`: cannot open another connection: {error}", self.name),
        })
    }

    /// Sends the batch and returns the answer, whatever it is.
    async fn post(&self, batch: &EncodedBatch, lane: &mut Lane) -> Result<Heard, SendError> {
        // Never closed.
        let _permit = self.sending.acquire().await;
        let request = lane.dress(self.receiver.events(lane));
        let request = request.header(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let body = compress::packed(&self.name, Cow::Borrowed(&batch.bytes), self.gzip, &self.metrics).await?;
        let mut request = request.body(body);
        if self.gzip {
            request = request.header(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        self.receiver.exchange(request, lane).await.map_err(|error| {
            if error.may_have_arrived {
                self.count_resent("no_answer", batch.ends.len());
            }
            error.into()
        })
    }

    /// Splunk takes a long event and cuts it without a word, so it is said here.
    fn count_long_events(&self, batch: &EncodedBatch) {
        let starts = std::iter::once(&0).chain(&batch.ends);
        let long = batch.ends.iter().zip(starts).filter(|(end, start)| **end - **start > LONG_EVENT).count();
        if long == 0 {
            return;
        }
        self.metrics.sink_long_events.with_label_values(&[&self.name]).inc_by(long as u64);
        if !self.warned_of_long_events.swap(true, Ordering::Relaxed) {
            tracing::warn!(sink = %self.name, bytes = LONG_EVENT,
                "events longer than Splunk's usual limit were delivered: it cuts them unless `TRUNCATE` of their sourcetype in props.conf allows more; this is said once and counted in sink_long_events_total");
        }
    }
}

impl Sink for SplunkHecSink {
    fn encode(&self, event: &Event<'_>, out: &mut Vec<u8>) {
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
        out.extend_from_slice(self.written.body(event));
        out.extend_from_slice(b",\"fields\":{\"auditferry_key\":\"");
        out.extend_from_slice(&event.meta.key.to_hex());
        out.extend_from_slice(b"\",\"tenant\":\"");
        escape(&event.part.blob.feed.tenant.name, out);
        out.extend_from_slice(b"\",\"content_type\":\"");
        out.extend_from_slice(event.part.blob.feed.content_type.as_str().as_bytes());
        out.extend_from_slice(b"\"}}\n");
    }

    fn in_the_air(&self, configured: usize) -> usize {
        match self.offer.get() {
            // Those that wait for their acknowledgement cost memory only.
            Offered::Yes => configured + self.ack.max_pending,
            Offered::Unknown | Offered::No => configured,
        }
    }

    async fn send(&self, batch: &EncodedBatch) -> Result<Accepted, SendError> {
        if self.must_ask_first() {
            self.ask_whether_it_acknowledges().await?;
        }
        self.is_worth_a_batch()?;
        let mut lane = self.lane().await?;
        // On an error nobody knows what became of the batch: the lane goes, and its channel with it.
        let heard = self.post(batch, &mut lane).await?;
        let taken = match classify(&self.asked(batch.ends.len()), &Answer::of(&heard)) {
            Ok(taken) => taken,
            Err(error) => {
                // A proxy's own answer says nothing of what the collector did: an answer was lost.
                if is_of_a_collector(&Answer::of(&heard)) {
                    self.lanes.put(lane);
                }
                return Err(error);
            }
        };
        match taken.ack_id.filter(|_| self.ack.mode != AckMode::Off) {
            Some(id) => {
                self.note(Offered::Yes);
                self.until_indexed(lane, id, batch.ends.len()).await?;
            }
            None => {
                self.lanes.put(lane);
                self.taken_without_acknowledgement()?;
            }
        }
        self.count_long_events(batch);
        Ok(Accepted::default())
    }

    async fn probe(&self) -> Result<(), SendError> {
        if self.receiver.read_token_again().await? {
            *self.withheld() = None;
        }
        self.is_worth_a_batch()?;
        let (mut lane, asked) = (self.lane().await?, self.asked(0));
        let heard = self.receiver.exchange(self.receiver.health(&lane.client), &mut lane).await?;
        if let Some(Err(error)) = classify_health(&asked, &Answer::of(&heard)) {
            return Err(error);
        }
        if classify_health(&asked, &Answer::of(&heard)).is_none() {
            let empty = lane.dress(self.receiver.events(&lane));
            let heard = self.receiver.exchange(empty, &mut lane).await?;
            classify_empty(&asked, &Answer::of(&heard))?;
        }
        self.lanes.put(lane);
        match self.ack.mode == AckMode::Required || self.must_ask_first() {
            true => self.ask_whether_it_acknowledges().await,
            false => Ok(()),
        }
    }
}

fn push_text(name: &str, template: &Template, event: &Event<'_>, out: &mut Vec<u8>) {
    out.push(b'"');
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\":\"");
    template.render(event, out);
    out.extend_from_slice(b"\",");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{BatchConfig, ProxyConfig, RetryConfig, SinkKind, TlsConfig};
    use crate::normalize::Profile;
    use crate::secret::SecretSource;
    use crate::sink::samples;
    use serde_json::{Value, json};
    use std::time::Duration;
    use url::Url;

    fn config(format: Format, hec: HecConfig) -> SinkConfig {
        SinkConfig {
            name: "splunk".into(),
            required: true,
            format,
            ecs_profile: Profile::Auditferry,
            when: None,
            edit: Default::default(),
            rate_limit: None,
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
            proxy: ProxyConfig::Off,
            timeout: Duration::from_secs(5),
            ack: AckConfig::default(),
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
    fn plain_http_to_another_machine_is_refused_and_the_token_is_never_shown() {
        let hec = hec("http://splunk:8088");
        let error = SplunkHecSink::new(&config(Format::Raw, hec.clone()), &hec, Metrics::new()).err().unwrap();
        assert!(matches!(error, SinkBuildError::Http { .. }));
        assert!(!format!("{hec:?} {error}").contains("canary"));
    }
}
