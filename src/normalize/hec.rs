//! The envelope of Splunk's HTTP Event Collector around one event.
//!
//! Comes in: the event as JSON and a few plain facts. Goes out: one JSON object, no newline. The event
//! goes in as it is, so that Splunk's add-on and searches work unchanged; what we add stands in
//! `fields`, which Splunk indexes beside it. Never sends anything.

use std::io::Write as _;

use crate::feed::ContentType;
use crate::record::RecordKey;

use super::json;

/// What the Splunk add-on for Microsoft Office 365 and Splunk's own searches look for.
pub const SOURCETYPE: &str = "o365:management:activity";
/// ECS documents and pipeline errors must not be taken for records of Microsoft's.
pub const ECS_SOURCETYPE: &str = "auditferry:ecs";
/// `source` unless configured.
pub const SOURCE: &str = "auditferry";

/// One event and what stands around it. Empty texts are left out.
#[derive(Clone, Copy, Debug, Default)]
pub struct Envelope<'a> {
    /// Milliseconds since 1970 UTC; without it Splunk takes the time of arrival.
    pub time_ms: Option<i64>,
    pub host: &'a str,
    pub source: &'a str,
    pub sourcetype: &'a str,
    pub index: &'a str,
    pub key: RecordKey,
    pub tenant_name: &'a str,
    pub content_type: Option<ContentType>,
}

impl Envelope<'_> {
    /// Appends the envelope with `event`, which must be one JSON value, inside it.
    pub fn write(&self, event: &[u8], out: &mut Vec<u8>) {
        out.push(b'{');
        if let Some(ms) = self.time_ms {
            // Seconds with milliseconds; writing into a Vec cannot fail.
            let sign = if ms < 0 { "-" } else { "" };
            let ms = ms.unsigned_abs();
            _ = write!(out, "\"time\":{sign}{}.{:03},", ms / 1000, ms % 1000);
        }
        for (name, value) in
            [("host", self.host), ("source", self.source), ("sourcetype", self.sourcetype), ("index", self.index)]
        {
            if !value.is_empty() {
                json::text(name, value, out);
            }
        }
        json::key("event", out);
        out.extend_from_slice(event);
        out.extend_from_slice(br#","fields":{"auditferry_key":""#);
        out.extend_from_slice(&self.key.to_hex());
        out.extend_from_slice(b"\",");
        if !self.tenant_name.is_empty() {
            json::text("tenant", self.tenant_name, out);
        }
        if let Some(content_type) = self.content_type {
            json::escaped("content_type", content_type.as_str(), out);
        }
        json::end(b'}', out);
        out.push(b'}');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_event_stands_in_it_as_it_is() {
        let mut out = Vec::new();
        let envelope = Envelope {
            time_ms: Some(1_700_000_000_007),
            source: SOURCE,
            sourcetype: SOURCETYPE,
            tenant_name: "con\"toso",
            content_type: Some(ContentType::Dlp),
            ..Envelope::default()
        };
        envelope.write(br#"{"Size":1.00}"#, &mut out);
        let expected = r#"{"time":1700000000.007,"source":"auditferry","sourcetype":"o365:management:activity","event":{"Size":1.00},"fields":{"auditferry_key":"00000000000000000000000000000000","tenant":"con\"toso","content_type":"DLP.All"}}"#;
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    #[test]
    fn a_time_before_1970_is_negative_and_no_time_is_left_out() {
        let mut out = Vec::new();
        Envelope { time_ms: Some(-1), ..Envelope::default() }.write(b"1", &mut out);
        assert!(out.starts_with(br#"{"time":-0.001,"event":1"#));
        out.clear();
        Envelope::default().write(b"1", &mut out);
        assert!(out.starts_with(br#"{"event":1"#));
    }
}
