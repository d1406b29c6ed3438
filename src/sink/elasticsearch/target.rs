//! Where a document goes and as what: its index, its `_id`, and what a data stream wants of it. Pure but for the clock,
//! which only a document without any time is given.
//!
//! Comes in: an event. Goes out: the two lines of a bulk request that make it one document. An index's name is what
//! Elasticsearch takes for one ("Create index API", naming), whatever the record says; a document's time never depends
//! on when it is sent, so that what is sent again goes to where it is already.

use jiff::Timestamp;
use jiff::tz::Offset;
use memchr::memmem;

use crate::clock::world_ms;
use crate::config::{DataStream, IndexTarget};
use crate::event::Event;
use crate::sink::line::{Written, push_flat};
use crate::sink::template::{Template, TemplateError};

/// Elasticsearch's limit of an index's name, in bytes.
const NAME_LENGTH: usize = 255;
/// `2026.11.22`.
const DAY_LENGTH: usize = 10;
/// What stands in a name for something that a record does not have.
const NO_PART: &[u8] = b"none";
/// The place of the event's day; no other template has it.
const DAY: &str = "{day}";
/// What every ECS document of ours says of its data stream.
const OWN_STREAM: &[u8] = br#""data_stream":{"type":"logs","dataset":"o365.audit","namespace":"default"}"#;
/// The head of a document: what is said of its data stream stands in it.
const HEAD: usize = 256;
/// What a document with a time begins with.
const TIMED: &[u8] = b"{\"@timestamp\":";

/// Where documents go.
pub(super) struct Target {
    naming: Naming,
    /// What a document says of its data stream, where that is not what ours say anyway; and that it must have a time.
    stream: Option<Option<Vec<u8>>>,
}

enum Naming {
    /// One for all: it stands in the request's path.
    Fixed(String),
    /// By event, in front of each document.
    ByEvent(Vec<Piece>),
}

enum Piece {
    Text(Template),
    Day,
}

impl Target {
    pub fn new(config: &IndexTarget) -> Result<Target, TemplateError> {
        match config {
            IndexTarget::DataStream(stream) => {
                Ok(Target { naming: Naming::Fixed(stream.name()), stream: Some(said_of(stream)) })
            }
            IndexTarget::Index(text) if !text.contains('{') => {
                Ok(Target { naming: Naming::Fixed(text.clone()), stream: None })
            }
            IndexTarget::Index(text) => {
                let mut pieces = Vec::new();
                for (number, between) in text.split(DAY).enumerate() {
                    if number > 0 {
                        pieces.push(Piece::Day);
                    }
                    if !between.is_empty() {
                        pieces.push(Piece::Text(Template::parse(between)?));
                    }
                }
                Ok(Target { naming: Naming::ByEvent(pieces), stream: None })
            }
        }
    }

    /// The one index or data stream of all documents, if there is one.
    pub fn fixed(&self) -> Option<&str> {
        match &self.naming {
            Naming::Fixed(name) => Some(name),
            Naming::ByEvent(_) => None,
        }
    }

    /// Appends what makes the event one document of a bulk request.
    pub fn push(&self, event: &Event<'_>, written: Written, out: &mut Vec<u8>) {
        out.extend_from_slice(b"{\"create\":{");
        if let Naming::ByEvent(pieces) = &self.naming {
            out.extend_from_slice(b"\"_index\":\"");
            push_name(pieces, event, out);
            out.extend_from_slice(b"\",");
        }
        out.extend_from_slice(b"\"_id\":\"");
        out.extend_from_slice(&event.meta.key.to_hex());
        out.extend_from_slice(b"\"}}\n");
        match &self.stream {
            Some(said) => push_streamed(written.body(event), said.as_deref(), event, out),
            None => push_flat(written.body(event), out),
        }
        out.push(b'\n');
    }
}

/// What documents of this stream say of it; `None` where ours say so by themselves.
fn said_of(stream: &DataStream) -> Option<Vec<u8>> {
    let DataStream { kind, dataset, namespace } = stream;
    // The configuration takes no character for them that would need an escape.
    let text =
        format!("\"data_stream\":{{\"type\":\"{kind}\",\"dataset\":\"{dataset}\",\"namespace\":\"{namespace}\"}}");
    (text.as_bytes() != OWN_STREAM).then(|| text.into_bytes())
}

fn push_streamed(document: &[u8], said: Option<&[u8]>, event: &Event<'_>, out: &mut Vec<u8>) {
    let mut rest = document;
    if !document.starts_with(TIMED)
        && let Some(members) = document.strip_prefix(b"{")
    {
        // A data stream refuses a document without a time.
        out.extend_from_slice(TIMED);
        out.push(b'"');
        push_time(time_ms(event), out);
        out.push(b'"');
        if members != b"}" {
            out.push(b',');
        }
        rest = members;
    }
    let head = &rest[..rest.len().min(HEAD)];
    if let Some(said) = said
        && let Some(at) = memmem::find(head, OWN_STREAM)
    {
        push_flat(&rest[..at], out);
        out.extend_from_slice(said);
        rest = &rest[at + OWN_STREAM.len()..];
    }
    push_flat(rest, out);
}

/// The record's time, or that of its blob: neither changes when it is fetched again.
fn time_ms(event: &Event<'_>) -> i64 {
    let created = Some(event.part.blob.created_ms).filter(|created| *created > 0);
    event.meta.time_ms.or(created).unwrap_or_else(world_ms)
}

fn push_time(ms: i64, out: &mut Vec<u8>) {
    let time = Timestamp::from_millisecond(ms).unwrap_or(Timestamp::UNIX_EPOCH);
    out.extend_from_slice(time.strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string().as_bytes());
}

fn push_day(ms: i64, out: &mut Vec<u8>) {
    let day = Offset::UTC.to_datetime(Timestamp::from_millisecond(ms).unwrap_or(Timestamp::UNIX_EPOCH)).date();
    out.extend_from_slice(day.strftime("%Y.%m.%d").to_string().as_bytes());
}

fn push_name(pieces: &[Piece], event: &Event<'_>, out: &mut Vec<u8>) {
    let texts = pieces.iter().filter(|piece| matches!(piece, Piece::Text(_))).count().max(1);
    // So that what is long is cut and the day is not.
    let room = (NAME_LENGTH - 1 - DAY_LENGTH * (pieces.len() - texts.min(pieces.len()))) / texts;
    let start = out.len();
    let mut plain = Vec::new();
    for piece in pieces {
        match piece {
            Piece::Day => push_day(time_ms(event), out),
            Piece::Text(template) => {
                plain.clear();
                template.render_filled(event, NO_PART, &mut plain);
                push_allowed(&String::from_utf8_lossy(&plain), room, out);
            }
        }
    }
    if matches!(out.get(start), Some(b'-' | b'_' | b'+' | b'.')) {
        out.insert(start, b'x');
    }
}

/// Appends at most `room` bytes of the text in small letters, with `_` for what no index's name may have.
fn push_allowed(text: &str, room: usize, out: &mut Vec<u8>) {
    let end = out.len() + room;
    for character in text.chars() {
        for small in character.to_lowercase() {
            let small = if is_allowed(small) { small } else { '_' };
            if out.len() + small.len_utf8() > end {
                return;
            }
            out.extend_from_slice(small.encode_utf8(&mut [0; 4]).as_bytes());
        }
    }
}

/// Whether the name of an index may have it, small letters given.
fn is_allowed(character: char) -> bool {
    !(character.is_control() || character.is_whitespace() || r#"\/*?"<>|,#:"#.contains(character))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::config::Format;
    use crate::normalize::{Form, Profile};
    use crate::sink::samples;

    const ECS: Written = Written::new(Format::Ecs, Form::Ecs(Profile::Auditferry));

    fn index(text: &str) -> IndexTarget {
        IndexTarget::Index(text.to_owned())
    }

    fn lines(target: &IndexTarget, written: Written, record: &str) -> (Value, String) {
        let target = Target::new(target).unwrap();
        let part = samples::part(&[record]);
        let mut out = Vec::new();
        target.push(&part.event(0), written, &mut out);
        let text = String::from_utf8(out).unwrap();
        let (action, document) = text.strip_suffix('\n').unwrap().split_once('\n').unwrap();
        assert!(!document.contains(['\n', '\r']), "{document}");
        (serde_json::from_str(action).unwrap(), document.to_owned())
    }

    fn name(text: &str, record: &str) -> String {
        let (action, _) = lines(&index(text), ECS, record);
        action["create"]["_index"].as_str().unwrap().to_owned()
    }

    #[test]
    fn a_document_is_created_under_the_key_of_its_record() {
        let (action, document) = lines(&index("o365"), Written::new(Format::Raw, Form::Cef), samples::RECORD);
        let key = samples::part(&[samples::RECORD]).events[0].key.to_string();
        assert_eq!(action, json!({ "create": { "_id": key } }), "a fixed index stands in the path");
        assert_eq!(document, samples::RECORD.replace("\r\n", "  "));
    }

    #[test]
    fn an_index_has_the_day_of_its_event_and_a_name_that_is_allowed() {
        assert_eq!(name("o365-{content_type}-{day}", samples::RECORD), "o365-audit.exchange-2023.11.14");
        assert_eq!(name("o365-{tenant}", samples::RECORD), "o365-con_toso");
        assert_eq!(name("o365-{workload}", "{}"), "o365-none", "what a record does not have");
        assert_eq!(name("o365-{workload}", r#"{"Workload":"A B/C\\D*É+"}"#), "o365-a_b_c_d_é+");
        assert_eq!(name("{workload}-x", r#"{"Workload":".-hidden"}"#), "x.-hidden-x");
        let long = format!(r#"{{"Workload":"{}"}}"#, "Ä".repeat(400));
        let cut = name("o365-{workload}-{day}", &long);
        assert!(cut.len() <= 255 && cut.ends_with("ä2023.11.14"), "{cut}");
    }

    #[test]
    fn a_document_says_of_its_stream_what_is_configured() {
        let stream = |text: &str| IndexTarget::DataStream(DataStream::parse(text).unwrap());
        let head = format!("{{\"@timestamp\":\"t\",\"ecs\":{{}},{},\"x\":1}}", String::from_utf8_lossy(OWN_STREAM));
        let part = samples::part(&["{}"]);
        let pushed = |text: &str, document: &str| {
            let target = Target::new(&stream(text)).unwrap();
            let mut out = Vec::new();
            push_streamed(document.as_bytes(), target.stream.unwrap().as_deref(), &part.event(0), &mut out);
            serde_json::from_slice::<Value>(&out).unwrap()
        };
        assert_eq!(pushed("logs-o365.audit-default", &head), serde_json::from_str::<Value>(&head).unwrap());
        let other = pushed("logs-o365.audit-prod", &head);
        assert_eq!(other["data_stream"], json!({ "type": "logs", "dataset": "o365.audit", "namespace": "prod" }));
        assert_eq!((&other["x"], &other["@timestamp"]), (&json!(1), &json!("t")));
        // What has no time is given that of its record.
        let timed = json!("2023-11-14T22:13:20.007Z");
        assert_eq!(pushed("logs-o365.audit-prod", "{\"a\":1}"), json!({ "@timestamp": timed, "a": 1 }));
        assert_eq!(pushed("logs-o365.audit-prod", "{}"), json!({ "@timestamp": timed }));
    }

    #[test]
    fn what_has_no_time_goes_to_the_day_of_its_blob() {
        let mut part = std::sync::Arc::into_inner(samples::part(&["{}"])).unwrap();
        part.events[0].time_ms = None;
        part.blob.created_ms = 1_700_086_400_000;
        assert_eq!(time_ms(&part.event(0)), 1_700_086_400_000);
        part.blob.created_ms = 0;
        assert!(time_ms(&part.event(0)) > 1_700_086_400_000, "of receipt");
    }
}
