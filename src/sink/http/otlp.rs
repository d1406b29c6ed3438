//! Preset `otlp`: OTLP over HTTP, JSON encoding (OpenTelemetry Protocol 1.x, "OTLP/HTTP" and "JSON Protobuf Encoding";
//! logs data model). Comes in: an event. Goes out: one `LogRecord`; [`BEFORE`] and [`AFTER`] make a request of them.
//!
//! The body is the document as a text, as it was written: other numbers or another order would be another record.
//! What is known of it stands beside it as attributes. `severityNumber` 9 (INFO): an audit record is information, and
//! a guess of more is not written.

use std::io::Write;

use crate::clock::world_ms;
use crate::escape::escape;
use crate::event::Event;

pub(super) const BEFORE: &str = concat!(
    "{\"resourceLogs\":[{\"resource\":{\"attributes\":[{\"key\":\"service.name\",\"value\":{\"stringValue\":\"auditferry\"}}]},",
    "\"scopeLogs\":[{\"scope\":{\"name\":\"auditferry\",\"version\":\"",
    env!("CARGO_PKG_VERSION"),
    "\"},\"logRecords\":["
);
pub(super) const AFTER: &[u8] = b"]}]}]}";

/// Appends the event.
pub(super) fn push(event: &Event<'_>, document: &[u8], out: &mut Vec<u8>) {
    out.push(b'{');
    // Writing to memory cannot fail.
    if let Some(time_ms) = event.meta.time_ms.and_then(|ms| u64::try_from(ms).ok()) {
        let _ = write!(out, "\"timeUnixNano\":\"{time_ms}000000\",");
    }
    let _ = write!(out, "\"observedTimeUnixNano\":\"{}000000\",", world_ms().max(0));
    out.extend_from_slice(b"\"severityNumber\":9,\"severityText\":\"INFO\",\"body\":{\"stringValue\":\"");
    escape(&String::from_utf8_lossy(document), out);
    out.extend_from_slice(b"\"},\"attributes\":[{\"key\":\"auditferry_key\",\"value\":{\"stringValue\":\"");
    out.extend_from_slice(&event.meta.key.to_hex());
    out.extend_from_slice(b"\"}}");
    let feed = &event.part.blob.feed;
    let mut tenant = Vec::new();
    escape(&feed.tenant.name, &mut tenant);
    // Those of the event are the inside of a JSON string as Microsoft sent it.
    let attributes: [(&str, &[u8]); 5] = [
        ("tenant", &tenant),
        ("content_type", feed.content_type.as_str().as_bytes()),
        ("workload", event.workload()),
        ("operation", event.operation()),
        ("id", event.id()),
    ];
    for (name, value) in attributes.into_iter().filter(|(_, value)| !value.is_empty()) {
        let _ = write!(out, ",{{\"key\":\"{name}\",\"value\":{{\"stringValue\":\"");
        out.extend_from_slice(value);
        out.extend_from_slice(b"\"}}");
    }
    out.extend_from_slice(b"]}");
}
