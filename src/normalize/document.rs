//! The ECS document, written in one go.
//!
//! Comes in: a draft. Goes out: one JSON object on one line. Always valid JSON for a readable record: what is copied
//! was accepted by the parser, what is made is escaped. Knows no field by name but those of the head.

use std::io::Write as _;
use std::net::IpAddr;
use std::ops::Range;

use crate::record::{RecordKey, instant};

use super::draft::{Draft, Value};
use super::ecs::{Ecs, LAYOUT, Layout, Slot};
use super::{Context, Step, json, rest};

/// What every document of ours begins with, audit record or pipeline error; leaves `event` open.
pub fn write_head(time_ms: Option<i64>, kind: &str, ecs_version: &str, out: &mut Vec<u8>) {
    out.push(b'{');
    if let Some(ms) = time_ms {
        out.extend_from_slice(br#""@timestamp":""#);
        instant::write_ms(ms, out);
        out.extend_from_slice(b"\",");
    }
    json::open("ecs", out);
    json::escaped("version", ecs_version, out);
    json::close(out);
    out.extend_from_slice(
        br#""data_stream":{"type":"logs","dataset":"o365.audit","namespace":"default"},"event":{"module":"o365","dataset":"o365.audit","kind":""#,
    );
    out.extend_from_slice(kind.as_bytes());
    out.extend_from_slice(b"\",");
}

/// `auditferry.*` of a document that has no draft, left open for more.
pub fn write_own(context: &Context<'_>, key: RecordKey, out: &mut Vec<u8>) {
    out.extend_from_slice(br#""auditferry":{"key":""#);
    out.extend_from_slice(&key.to_hex());
    out.extend_from_slice(b"\",");
    if let Some(content_type) = context.content_type {
        json::escaped("content_type", content_type.as_str(), out);
    }
}

/// Appends the document.
pub fn write(context: &Context<'_>, draft: &Draft<'_>, ecs_version: &str, step: Step, out: &mut Vec<u8>) {
    // Nearly always enough, so that the buffer grows once for a record and not while it is written.
    out.reserve(draft.view().record().len() + 2048);
    write_head(draft.time_ms.or(context.received_ms), draft.kind, ecs_version, out);
    Fields::write(context, draft, out);
    out.extend_from_slice(br#""o365":{"audit":{"#);
    if step == Step::Whole {
        rest::write(draft, out);
    }
    json::end(b'}', out);
    out.extend_from_slice(b"}}");
}

/// The fields of a draft while they are written.
struct Fields<'l> {
    layout: &'l Layout,
    /// The innermost object that is open.
    open: u8,
    /// The address that was written last, and where: most documents have the same one five times.
    address: Option<(IpAddr, Range<usize>)>,
}

impl Fields<'_> {
    fn write(context: &Context<'_>, draft: &Draft<'_>, out: &mut Vec<u8>) {
        let layout = &*LAYOUT;
        // The head has left it open.
        let event = layout.slots[Ecs::EventId as usize].object;
        let mut fields = Fields { layout, open: event, address: None };
        for field in draft.fields() {
            let slot = &layout.slots[field as usize];
            fields.go_to(slot.object, out);
            match slot.is_look_up {
                true => look_up(context, field, draft, out),
                false => fields.write_field(draft, field, slot, out),
            }
        }
        fields.go_to(Layout::TOP, out);
    }

    /// Closes and opens objects until the one that is asked for is the innermost.
    fn go_to(&mut self, object: u8, out: &mut Vec<u8>) {
        if self.open == object {
            return;
        }
        let between = self.layout.between(self.open, object);
        // What closes takes the comma behind the last member back.
        if between.first() == Some(&b'}') && out.last() == Some(&b',') {
            out.pop();
        }
        out.extend_from_slice(between);
        self.open = object;
    }

    fn write_field(&mut self, draft: &Draft<'_>, field: Ecs, slot: &Slot, out: &mut Vec<u8>) {
        if slot.is_list || draft.count(field) > 1 {
            out.extend_from_slice(slot.key());
            out.push(b'[');
            for value in draft.all(field) {
                self.write_value(draft, value, out);
                out.push(b',');
            }
            json::end(b']', out);
            out.push(b',');
            return;
        }
        match draft.get(field) {
            // Most fields; their key and the opening quote are one copy.
            Some(Value::Text(text)) => {
                out.extend_from_slice(&slot.key_and_quote);
                out.extend_from_slice(text.as_bytes());
                out.extend_from_slice(b"\",");
            }
            Some(value) => {
                out.extend_from_slice(slot.key());
                self.write_value(draft, value, out);
                out.push(b',');
            }
            None => {}
        }
    }

    fn write_value(&mut self, draft: &Draft<'_>, value: Value<'_>, out: &mut Vec<u8>) {
        match value {
            Value::Text(text) => json::quoted(text, out),
            Value::Lower(text) => {
                let from = out.len();
                json::quoted(text, out);
                // Escapes survive: their letters are lower case, their digits have no case.
                out[from..].make_ascii_lowercase();
            }
            Value::Json(json) => json::one_line(json, out),
            Value::Record => json::string_of(draft.view().record(), out),
            Value::Number(number) => json::decimal(number, out),
            Value::Ip(ip) => self.write_address(ip, out),
            Value::Time(ms) => {
                out.push(b'"');
                instant::write_ms(ms, out);
                out.push(b'"');
            }
        }
    }

    fn write_address(&mut self, ip: IpAddr, out: &mut Vec<u8>) {
        let from = out.len();
        match (&self.address, ip) {
            (Some((known, place)), _) if *known == ip => out.extend_from_within(place.clone()),
            (_, IpAddr::V4(v4)) => {
                for (place, octet) in v4.octets().into_iter().enumerate() {
                    out.push(if place == 0 { b'"' } else { b'.' });
                    json::decimal(octet.into(), out);
                }
                out.push(b'"');
            }
            // Writing into a Vec cannot fail.
            (_, IpAddr::V6(v6)) => _ = write!(out, "\"{v6}\""),
        }
        self.address = Some((ip, from..out.len()));
    }
}

/// Appends what the tables outside of the record have of a value: members, each with a comma behind it, or nothing. What
/// the record itself says of the place stands where they have none.
pub fn look_up(context: &Context<'_>, field: Ecs, draft: &Draft<'_>, out: &mut Vec<u8>) {
    let from = out.len();
    for value in draft.all(field) {
        match (context.enrich, value) {
            (Some(enricher), Value::Ip(ip)) => enricher.place(ip, out),
            (Some(enricher), Value::Text(agent)) => enricher.user_agent(draft.plain(agent), out),
            (_, Value::Json(place)) if memchr::memmem::find(&out[from..], b"\"geo\":{").is_none() => {
                out.extend_from_slice(place.as_bytes());
            }
            _ => {}
        }
    }
}
