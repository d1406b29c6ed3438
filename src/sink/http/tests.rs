//! What leaves: each encoding and preset, built from a configuration and read back.

use super::*;
use crate::config::{BatchConfig, LoginConfig, ProxyConfig, RetryConfig, SinkKind, TlsConfig};
use crate::normalize::Profile;
use crate::secret::SecretSource;
use crate::sink::samples;
use serde_json::{Value, json};
use std::time::Duration;

fn http(url: &str, preset: Option<HttpPreset>, encoding: HttpEncoding) -> HttpConfig {
    HttpConfig {
        address: HttpAddress { source: SecretSource::Value(url.to_owned().into()), is_secret: true },
        method: "POST",
        preset,
        encoding,
        body: None,
        headers: Vec::new(),
        login: LoginConfig::None,
        signature: None,
        gzip: false,
        success: vec![(200, 299)],
        tls: TlsConfig::default(),
        proxy: ProxyConfig::Off,
        timeout: Duration::from_secs(5),
    }
}

fn sink(http: HttpConfig) -> HttpSink {
    let config = SinkConfig {
        name: "soc".into(),
        required: true,
        format: Format::Ecs,
        ecs_profile: Profile::Auditferry,
        when: None,
        edit: Default::default(),
        rate_limit: None,
        batch: BatchConfig { max_bytes: 1, max_events: 1, linger: Duration::ZERO, concurrency: 1 },
        retry: RetryConfig { initial: Duration::ZERO, max: Duration::ZERO },
        kind: SinkKind::Http(http.clone()),
    };
    HttpSink::new(&config, &http, Metrics::new()).unwrap()
}

/// The body of a request with these documents.
fn body(sink: &HttpSink, documents: &[&str]) -> Value {
    let part = samples::part(&vec![samples::RECORD; documents.len()]);
    let (mut bytes, mut ends) = (Vec::new(), Vec::new());
    for (index, document) in documents.iter().enumerate() {
        sink.encode(&part.event(index as u32).edited(document.as_bytes()), &mut bytes);
        ends.push(bytes.len());
    }
    let frames = frame::read(&bytes, &ends).unwrap();
    serde_json::from_slice(&sink.envelope.join(&frames)).unwrap()
}

const DOCUMENT: &str = r#"{"@timestamp":"2026-04-02T02:48:20.000Z","event":{"action":"Add <!channel> *x*","outcome":"success","id":"37c3"},"user":{"email":"a&b@[x](https://evil.example)"},"source":{"ip":"198.51.100.17"},"organization":{"name":"northwind"}}"#;

#[test]
fn a_row_of_sentinel_has_its_time_and_its_document() {
    let url = "https://d.ingest.example/dataCollectionRules/dcr-1/streams/Custom-A";
    let sink = sink(http(url, Some(HttpPreset::Sentinel), HttpEncoding::JsonArray));
    assert_eq!(sink.url().query(), Some("api-version=2023-01-01"));
    let body = body(&sink, &[DOCUMENT, "{}"]);
    let row = &body[0];
    assert_eq!(row["TimeGenerated"], "2023-11-14T22:13:20.007Z");
    assert_eq!(row["CreationTime"], row["TimeGenerated"]);
    assert_eq!((&row["Tenant"], &row["Operation"]), (&json!("con\"toso"), &json!("New-\"Rule\"")));
    assert_eq!(row["Event"], serde_json::from_str::<Value>(DOCUMENT).unwrap());
    assert_eq!((row["Key"].as_str().unwrap().len(), body.as_array().unwrap().len()), (32, 2));
}

#[test]
fn a_log_record_of_otlp_has_the_document_as_it_is_and_attributes_beside_it() {
    let sink = sink(http("https://c.example:4318", Some(HttpPreset::Otlp), HttpEncoding::JsonArray));
    assert_eq!(sink.url().path(), "/v1/logs");
    let body = body(&sink, &[DOCUMENT]);
    let log = &body["resourceLogs"][0]["scopeLogs"][0]["logRecords"][0];
    assert_eq!((&log["timeUnixNano"], &log["severityNumber"]), (&json!("1700000000007000000"), &json!(9)));
    assert_eq!(log["body"]["stringValue"], DOCUMENT);
    let attributes = log["attributes"].as_array().unwrap();
    let of = |name: &str| attributes.iter().find(|at| at["key"] == name).unwrap()["value"]["stringValue"].clone();
    assert_eq!((of("tenant"), of("operation"), of("id")), (json!("con\"toso"), json!("New-\"Rule\""), json!("id-1")));
    assert_eq!(of("content_type"), "Audit.Exchange");
}

#[test]
fn nothing_of_a_record_becomes_a_mention_or_a_link_in_slack() {
    let mut config = http("https://hooks.example/T/B/X", Some(HttpPreset::Slack), HttpEncoding::Single);
    let text = body(&sink(config.clone()), &[DOCUMENT])["text"].as_str().unwrap().to_owned();
    assert!(text.starts_with("*Add &lt;!channel&gt;  x  in northwind*\nUser: a&amp;b@["), "{text}");
    assert!(text.contains("From: 198.51.100.17") && !text.contains(['<', '>']), "{text}");
    config.body = Some("{\"text\":\"{tenant} {event_text}\"}".into());
    let text = body(&sink(config), &[DOCUMENT])["text"].as_str().unwrap().to_owned();
    assert!(text.contains("con\"toso") && text.contains("&lt;!channel&gt;") && !text.contains('<'), "{text}");
}

#[test]
fn a_record_cannot_forge_a_line_of_a_chat() {
    let forged = r#"{"event":{"action":"Done\nUser: boss"},"user":{"email":"x\r\nOutcome: success\u2028Id: 1"}}"#;
    let slack = sink(http("https://hooks.example/T/B/X", Some(HttpPreset::Slack), HttpEncoding::Single));
    let message = body(&slack, &[forged]);
    assert_eq!(message["text"], "*Done User: boss*\nUser: x  Outcome: success Id: 1");
    assert_eq!((&message["unfurl_links"], &message["unfurl_media"]), (&json!(false), &json!(false)));
    assert_eq!(slack::plain("a\nb<\u{85}"), "a b&lt; ");
    assert_eq!(slack::plain("x\u{202e}gnp.exe\u{2066}\u{200b}y"), "x gnp.exe  y");
    let teams = sink(http("https://flow.example/x", Some(HttpPreset::Teams), HttpEncoding::Single));
    let card = body(&teams, &[forged]);
    let blocks = &card["attachments"][0]["content"]["body"];
    assert_eq!(blocks[0]["inlines"][0]["text"], "Done User: boss");
}

#[test]
fn an_address_that_is_a_secret_is_not_repeated_in_any_spelling() {
    let url = "https://flow.example/paths/invoke?sp=%2Ftriggers%2Frun&sig=canary%2Bone%3Dtwo";
    let sink = sink(http(url, Some(HttpPreset::Teams), HttpEncoding::Single));
    let said = |text: &str| String::from_utf8(sink.login.scrub(text.as_bytes().to_vec())).unwrap();
    assert_eq!(said("sig=canary%2Bone%3Dtwo"), "sig=[redacted]");
    assert_eq!(said("canary+one=two /triggers/run"), "[redacted] [redacted]");
}

#[tokio::test]
async fn a_text_that_slack_would_cut_is_not_sent() {
    let config = http("http://127.0.0.1:9/x", Some(HttpPreset::Slack), HttpEncoding::Single);
    let sink = sink(HttpConfig { body: Some("{\"text\":\"{event_text}\"}".into()), ..config });
    let part = samples::part(&[samples::RECORD]);
    let send = async |text: String| {
        let mut bytes = Vec::new();
        sink.encode(&part.event(0).edited(text.as_bytes()), &mut bytes);
        sink.send(&EncodedBatch { ends: vec![bytes.len()], bytes }).await.unwrap_err()
    };
    let error = send("x".repeat(40_001)).await;
    assert!(matches!(&error, SendError::Split { reason, .. } if reason.contains("40000")), "{error}");
    // Characters count, not bytes: this one would go.
    let error = send("\u{4e2d}".repeat(30_000)).await;
    assert!(matches!(error, SendError::Retry { .. }), "{error}");
}

#[test]
fn a_card_of_teams_shows_a_record_as_plain_text_within_its_limit() {
    let sink = sink(http("https://flow.example/x", Some(HttpPreset::Teams), HttpEncoding::Single));
    let card = body(&sink, &[DOCUMENT]);
    let content = &card["attachments"][0]["content"];
    assert_eq!(card["attachments"][0]["contentType"], "application/vnd.microsoft.card.adaptive");
    let blocks = content["body"].as_array().unwrap();
    assert!(blocks.iter().all(|block| block["type"] == "RichTextBlock"), "{content}");
    assert_eq!(blocks[1]["inlines"][1]["text"], "a&b@[x](https://evil.example)");
    let long = "\u{1}".repeat(5000);
    let huge = json!({ "event": { "action": long, "id": long, "outcome": long, "provider": long }, "@timestamp": long,
        "user": { "email": long, "target": { "email": long } }, "source": { "ip": long, "geo": { "city_name": long } },
        "organization": { "name": long } });
    assert!(body(&sink, &[&huge.to_string()]).to_string().len() < 28_000);
}

#[tokio::test]
async fn a_body_that_the_receiver_would_drop_later_is_not_sent() {
    let mut config = http("http://127.0.0.1:9/x", Some(HttpPreset::Teams), HttpEncoding::Single);
    config.body = Some("{event}".into());
    let sink = sink(config);
    let part = samples::part(&[samples::RECORD]);
    let mut bytes = Vec::new();
    let large = format!("{{\"a\":\"{}\"}}", "x".repeat(30_000));
    sink.encode(&part.event(0).edited(large.as_bytes()), &mut bytes);
    let error = sink.send(&EncodedBatch { ends: vec![bytes.len()], bytes }).await.unwrap_err();
    assert!(matches!(&error, SendError::Split { reason, .. } if reason.contains("28000")), "{error}");
}

#[test]
fn a_document_that_nobody_can_read_is_a_message_all_the_same() {
    let sink = sink(http("https://hooks.example/T/B/X", Some(HttpPreset::Slack), HttpEncoding::Single));
    for odd in ["", "[]", "{\"event\":7}", "{\"event\":{\"action\":[]}}"] {
        assert!(body(&sink, &[odd])["text"].as_str().unwrap().starts_with("*an audit record"), "{odd}");
    }
}
