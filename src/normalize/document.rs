//! The ECS document, written in one go.
//!
//! Comes in: a draft. Goes out: one JSON object on one line. Always valid JSON for a readable record: what is copied
//! was accepted by the parser, what is made is escaped. Knows no field by name but those of the head.

use std::io::Write as _;
use std::net::IpAddr;
use std::ops::Range;

use crate::record::{RecordKey, instant};

use super::draft::{Draft, Value};
use super::ecs::{Ecs, Kind, LAYOUT, Layout, Shape};
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

/// Objects within one another, at most; the table of fields has three.
const DEPTH: usize = 8;

/// The fields of a draft while they are written: which objects are open.
struct Fields<'l> {
    layout: &'l Layout,
    /// The innermost object that is open, and all around it.
    open: [u8; DEPTH],
    depth: usize,
    /// The address that was written last, and where: most documents have the same one five times.
    address: Option<(IpAddr, Range<usize>)>,
}

impl Fields<'_> {
    fn write(context: &Context<'_>, draft: &Draft<'_>, out: &mut Vec<u8>) {
        let layout = &*LAYOUT;
        let mut fields = Fields { layout, open: [0; DEPTH], depth: 0, address: None };
        // The head has left it open.
        if let Some(event) = layout.object_of[Ecs::EventId as usize] {
            (fields.open[0], fields.depth) = (event, 1);
        }
        for field in draft.fields() {
            fields.go_to(layout.object_of[field as usize], out);
            match field.kind() {
                Kind::LookUp => look_up(context, field, draft, out),
                _ => fields.value(draft, field, out),
            }
        }
        fields.go_to(None, out);
    }

    /// Closes and opens objects until the one that is asked for is the innermost.
    fn go_to(&mut self, object: Option<u8>, out: &mut Vec<u8>) {
        if self.open[..self.depth].last().copied() == object {
            return;
        }
        let lineage: &[u8] = object.map_or(&[], |object| &self.layout.objects[object as usize].lineage);
        let shared = self.open[..self.depth].iter().zip(lineage).take_while(|(open, wanted)| open == wanted).count();
        for _ in shared..self.depth {
            json::close(out);
        }
        for object in &lineage[shared..] {
            out.extend_from_slice(&self.layout.objects[*object as usize].open);
        }
        self.open[shared..lineage.len()].copy_from_slice(&lineage[shared..]);
        self.depth = lineage.len();
    }

    fn value(&mut self, draft: &Draft<'_>, field: Ecs, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.layout.keys[field as usize]);
        let is_list = field.shape() == Shape::List || draft.count(field) > 1;
        if is_list {
            out.push(b'[');
            for value in draft.all(field) {
                self.write_value(draft, value, out);
                out.push(b',');
            }
            json::end(b']', out);
        } else if let Some(value) = draft.get(field) {
            self.write_value(draft, value, out);
        }
        out.push(b',');
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
        match &self.address {
            Some((known, place)) if *known == ip => out.extend_from_within(place.clone()),
            // Writing into a Vec cannot fail.
            _ => _ = write!(out, "\"{ip}\""),
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
