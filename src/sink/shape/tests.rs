//! What a sink is shown: the same for every kind, since the edit lies around them.

use super::*;
use crate::config::{BatchConfig, EditConfig, HashConfig, RetryConfig, SinkKind};
use crate::metrics::Metrics;
use crate::normalize::Profile;
use crate::secret::SecretSource;
use crate::sink::samples;
use crate::sink::stdout::StdoutSink;
use serde_json::{Value, json};
use std::time::Duration;

const KEY: &str = "sixteen bytes!!!";

fn path(name: &str) -> FieldPath {
    FieldPath::parse(name).unwrap()
}

fn config(format: Format, edit: EditConfig) -> SinkConfig {
    SinkConfig {
        name: "out".into(),
        required: true,
        format,
        ecs_profile: Profile::Auditferry,
        when: None,
        edit,
        rate_limit: None,
        batch: BatchConfig { max_bytes: 1, max_events: 1, linger: Duration::ZERO, concurrency: 1 },
        retry: RetryConfig { initial: Duration::ZERO, max: Duration::ZERO },
        kind: SinkKind::Stdout,
    }
}

fn shaped(format: Format, edit: EditConfig) -> Result<ShapedSink, SinkBuildError> {
    let config = config(format, edit);
    let sink = AnySink::Stdout(StdoutSink::new(&config, Metrics::new()));
    ShapedSink::new(&config, sink)
}

fn encoded(sink: &ShapedSink, record: &str) -> String {
    let part = samples::part(&[record]);
    let mut out = Vec::new();
    sink.encode(&part.event(0), &mut out);
    String::from_utf8(out).unwrap()
}

fn hash(key: &str, fields: &[&str]) -> Option<HashConfig> {
    Some(HashConfig { key: SecretSource::Value(key.into()), fields: fields.iter().map(|name| path(name)).collect() })
}

#[test]
fn a_sink_sees_the_edited_record_and_so_does_its_dead_letter() {
    let edit = EditConfig {
        drop: vec![path("Workload")],
        hash: hash(KEY, &["Operation"]),
        add: vec![(path("site"), "{tenant}/{content_type}".into())],
    };
    let sink = shaped(Format::Raw, edit).unwrap();
    let line = encoded(&sink, samples::RECORD);
    let value: Value = serde_json::from_str(&line).unwrap();
    assert_eq!((&value["Id"], &value["site"]), (&json!("id-1"), &json!("con\"toso/Audit.Exchange")));
    assert!(value.get("Workload").is_none(), "{line}");
    assert!(value["Operation"].as_str().unwrap().starts_with("pseudonym:") && !line.contains("New-"), "{line}");
    let part = samples::part(&[samples::RECORD]);
    let kept = sink.kept(&part.event(0)).unwrap();
    assert_eq!((String::from_utf8(kept.json).unwrap(), kept.format), (line.trim_end().to_owned(), Format::Raw));
}

#[test]
fn without_edits_nothing_is_touched_and_a_letter_keeps_the_record() {
    let sink = shaped(Format::Raw, EditConfig::default()).unwrap();
    assert_eq!(encoded(&sink, "{\"a\" :1.00 }"), "{\"a\" :1.00 }\n");
    let part = samples::part(&["{}"]);
    assert!(sink.kept(&part.event(0)).is_none());
}

#[test]
fn a_record_that_cannot_be_edited_shows_its_key_alone() {
    let sink = shaped(Format::Raw, EditConfig { drop: vec![path("a")], ..EditConfig::default() }).unwrap();
    let line = encoded(&sink, "{\"a\":\"canary\",\"b\":canary}x");
    assert!(line.contains("\"key\":\"") && line.contains("could not be edited") && !line.contains("canary"), "{line}");
}

#[test]
fn pseudonyms_need_a_key_that_cannot_be_guessed() {
    let edit = EditConfig { hash: hash("short", &["a"]), ..EditConfig::default() };
    let error = shaped(Format::Raw, edit).err().unwrap();
    assert!(
        matches!(error, SinkBuildError::ShortKey { bytes: 5, .. }) && !error.to_string().contains("short,"),
        "{error}"
    );
    let gone = HashConfig { key: SecretSource::File("/nowhere/key".into()), fields: vec![path("a")] };
    let edit = EditConfig { hash: Some(gone), ..EditConfig::default() };
    assert!(matches!(shaped(Format::Raw, edit), Err(SinkBuildError::Secret { .. })));
}

/// `config` reads templates too, to name their faults; both must mean the same.
#[test]
fn the_configuration_and_the_sinks_read_templates_alike() {
    for text in [
        "",
        "plain",
        "{tenant}",
        "{tenant}{id}x",
        "{user}",
        "{tenant",
        "tenant}",
        "{te{nant}}",
        "{}",
        "}{",
        "{ tenant}",
    ] {
        assert_eq!(crate::config::template_places(text).is_ok(), Template::parse(text).is_ok(), "{text}");
    }
    let all = super::super::template::PLACES;
    assert_eq!(crate::config::template_places(&all.map(|name| format!("{{{name}}}")).concat()).unwrap(), all);
}
