//! A request's body: how events stand beside each other in it, and the text that a single event fills. Comes in:
//! frames, or a configured text and an event. Goes out: bytes. Never re-serialises a record.

use super::frame::Frame;
use super::otlp;
use super::slack;
use crate::config::body_pieces;
use crate::escape::escape;
use crate::event::Event;
use crate::sink::template::Template;

/// How events stand in a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Envelope {
    /// One line each.
    Lines,
    Array,
    /// One event a request.
    Single,
    /// `ExportLogsServiceRequest` of OTLP.
    Otlp,
}

impl Envelope {
    pub fn join(self, frames: &[Frame<'_>]) -> Vec<u8> {
        let (before, between, after): (&[u8], &[u8], &[u8]) = match self {
            Envelope::Lines => (b"", b"\n", b"\n"),
            Envelope::Array => (b"[", b",", b"]"),
            Envelope::Single => (b"", b"", b""),
            Envelope::Otlp => (otlp::BEFORE.as_bytes(), b",", otlp::AFTER),
        };
        let length: usize = frames.iter().map(|frame| frame.body.len() + between.len()).sum();
        let mut body = Vec::with_capacity(before.len() + length + after.len());
        body.extend_from_slice(before);
        for (number, frame) in frames.iter().enumerate() {
            if number > 0 {
                body.extend_from_slice(between);
            }
            body.extend_from_slice(frame.body);
        }
        body.extend_from_slice(after);
        body
    }
}

/// What a place's text must not do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Escaping {
    /// End its string.
    Json,
    /// Nor be a link or a mention.
    Slack,
}

/// The text of a single event.
pub(super) struct BodyTemplate {
    pieces: Vec<Piece>,
    escaping: Escaping,
}

enum Piece {
    Text(Vec<u8>),
    /// The document as JSON.
    Event,
    /// The document as the inside of a JSON string.
    EventText,
    Place(Template),
}

impl BodyTemplate {
    /// Reads the configured text. The error says what is no place.
    pub fn parse(text: &str, escaping: Escaping) -> Result<BodyTemplate, String> {
        let pieces = body_pieces(text)?.into_iter().map(|piece| match piece {
            Ok(text) => Ok(Piece::Text(text.as_bytes().to_vec())),
            Err("event") => Ok(Piece::Event),
            Err("event_text") => Ok(Piece::EventText),
            Err(name) => Template::parse(&format!("{{{name}}}")).map(Piece::Place).map_err(|error| error.to_string()),
        });
        Ok(BodyTemplate { pieces: pieces.collect::<Result<_, _>>()?, escaping })
    }

    pub fn render(&self, event: &Event<'_>, document: &[u8], out: &mut Vec<u8>) {
        for piece in &self.pieces {
            let mut text = Vec::new();
            match piece {
                Piece::Text(text) => out.extend_from_slice(text),
                Piece::Event => out.extend_from_slice(document),
                Piece::EventText => text = document.to_vec(),
                Piece::Place(template) => template.render_plain(event, &mut text),
            }
            let text = String::from_utf8_lossy(&text);
            match self.escaping {
                Escaping::Json => escape(&text, out),
                Escaping::Slack => escape(&slack::plain(&text), out),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sink::samples;
    use serde_json::{Value, json};

    fn rendered(text: &str, escaping: Escaping) -> Value {
        let part = samples::part(&[samples::RECORD]);
        let mut out = Vec::new();
        let event = part.event(0);
        BodyTemplate::parse(text, escaping).unwrap().render(&event, event.raw(), &mut out);
        serde_json::from_slice(&out).unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&out)))
    }

    #[test]
    fn the_places_of_a_body_are_filled_and_cannot_break_it() {
        let body = rendered(
            "{\"text\":\"{operation} by {tenant} {}\",\"event\":{event},\"as_text\":\"{event_text}\"}",
            Escaping::Json,
        );
        assert_eq!(body["text"], "New-\"Rule\" by con\"toso {}");
        assert_eq!(body["event"], serde_json::from_str::<Value>(samples::RECORD).unwrap());
        assert_eq!(body["as_text"], samples::RECORD);
        assert!(BodyTemplate::parse("{opration}", Escaping::Json).is_err());
    }

    #[test]
    fn envelopes_join_events_and_nothing_else() {
        let frames = [b"{\"a\":1}", b"{\"b\":2}"].map(|body| Frame { key: b"", body });
        let text = |envelope: Envelope| String::from_utf8(envelope.join(&frames)).unwrap();
        assert_eq!(text(Envelope::Lines), "{\"a\":1}\n{\"b\":2}\n");
        assert_eq!(serde_json::from_str::<Value>(&text(Envelope::Array)).unwrap(), json!([{"a": 1}, {"b": 2}]));
        let otlp: Value = serde_json::from_str(&text(Envelope::Otlp)).unwrap();
        assert_eq!(otlp["resourceLogs"][0]["scopeLogs"][0]["logRecords"], json!([{"a": 1}, {"b": 2}]));
        assert_eq!(Envelope::Single.join(&frames[..1]), b"{\"a\":1}");
    }
}
