//! ArcSight's Common Event Format, version 0: one record, one line.
//!
//! Comes in: a draft. Goes out: `CEF:0|Microsoft|Office 365|version|record type|operation|severity|` and the keys of
//! [`KEYS`], in that order, those without a value left out; no newline. Escaping by the "CEF Implementation Standard":
//! in the header `\` and `|`, in a value `\`, `=`, and line ends as `\n` and `\r`. What is no record becomes a message of
//! auditferry's own, with the beginning of what it was.

use crate::escape::is_hidden;
use crate::record::{Field, RecordKey};

use super::Context;
use super::draft::Draft;
use super::ecs::Ecs;
use super::flat::{ERROR, ERROR_SEVERITY, ErrorKey, Facts, From, Key, OWN, PRODUCT, VENDOR, VERSION};
use super::flat::{made_visible, shortened};

/// Characters of a header field.
const MAX_HEADER: usize = 512;

/// The keys, in the order in which they are written. Those of CEF's dictionary have its meaning; the custom ones say theirs
/// beside them.
pub static KEYS: &[Key] = &[
    Key::new(
        "rt",
        From::Made("`@timestamp`, in milliseconds", |facts, out| {
            out.push_str(&facts.time_ms().map(|ms| ms.to_string()).unwrap_or_default());
        }),
    ),
    Key::new("externalId", From::Ecs(&[Ecs::EventId])),
    Key::new("cat", From::Ecs(&[Ecs::EventProvider])),
    Key::new("act", From::Ecs(&[Ecs::EventAction])),
    Key::new(
        "outcome",
        From::Made("`event.outcome`", |facts, out| {
            out.push_str(facts.draft.outcome.map_or("", |outcome| outcome.as_str()));
        }),
    ),
    Key::new("reason", From::Ecs(&[Ecs::EventReason, Ecs::ErrorMessage, Ecs::ErrorCode])),
    Key::new("start", From::Ecs(&[Ecs::EventStart])),
    Key::new("end", From::Ecs(&[Ecs::EventEnd])),
    Key::new("suser", From::Ecs(&[Ecs::UserId])),
    Key::new("suid", From::Record(Field::UserKey)),
    Key::new(
        "duser",
        From::Ecs(&[
            Ecs::UserTargetEmail,
            Ecs::UserTargetName,
            Ecs::UserTargetId,
            Ecs::DestinationUserEmail,
            Ecs::EmailTo,
        ]),
    ),
    Key::new("src", From::Made("`source.ip`, where it is IPv4", |facts, out| facts.ip(Ecs::SourceIp, false, out))),
    Key::new("spt", From::Ecs(&[Ecs::SourcePort])),
    Key::custom(
        "c6a2",
        "Source IPv6 Address",
        From::Made("`source.ip`, where it is IPv6", |facts, out| {
            facts.ip(Ecs::SourceIp, true, out);
        }),
    ),
    Key::new("shost", From::Ecs(&[Ecs::SourceDomain])),
    Key::new("request", From::Ecs(&[Ecs::UrlOriginal])),
    Key::new("requestClientApplication", From::Ecs(&[Ecs::UserAgentOriginal])),
    Key::new("fname", From::Ecs(&[Ecs::FileName])),
    Key::new("filePath", From::Ecs(&[Ecs::FilePath, Ecs::FileDirectory])),
    Key::new("fsize", From::Ecs(&[Ecs::FileSize])),
    Key::new("fileHash", From::Ecs(&[Ecs::FileHashSha256, Ecs::FileHashSha1, Ecs::FileHashMd5])),
    Key::new("dvchost", From::Ecs(&[Ecs::ServerAddress, Ecs::ServerDomain])),
    Key::new(
        "deviceExternalId",
        From::Made("`organization.id`; else the tenant of the feed", |facts, out| facts.tenant_id(out)),
    ),
    Key::new("destinationServiceName", From::Fixed(PRODUCT)),
    Key::new("msg", From::Ecs(&[Ecs::Message, Ecs::EmailSubject])),
    Key::custom("cs1", "AppId", From::Ecs(&[Ecs::OurApplicationId])),
    Key::custom("cs2", "ClientAppId", From::Record(Field::ClientAppId)),
    Key::custom("cs3", "SessionId", From::Record(Field::SessionId)),
    Key::custom(
        "cs4",
        "SourceCountry",
        From::Made("`source.geo.country_iso_code`, where `enrich` or the record knows it", |facts, out| {
            facts.source_country(out)
        }),
    ),
    Key::custom("cs5", "Rules", From::Ecs(&[Ecs::RuleName])),
    Key::custom("cs6", "ContentType", From::Made("the content type of the feed", |facts, out| facts.content_type(out))),
    Key::custom(
        "cn1",
        "RecordType",
        From::Made("`RecordType`, the number", |facts, out| {
            out.push_str(&facts.draft.record_type.map(|number| number.to_string()).unwrap_or_default());
        }),
    ),
    Key::custom("flexString1", "Tenant", From::Ecs(&[Ecs::OrganizationName])),
    Key::custom("flexString2", "RecordKey", From::Made("`auditferry.key`", |facts, out| facts.record_key(out))),
];

/// Appends the message of a record.
pub fn write(context: &Context<'_>, key: RecordKey, draft: &Draft<'_>, out: &mut Vec<u8>) {
    let facts = Facts { context, key, draft };
    write_header([VENDOR, PRODUCT, VERSION, &facts.record_type(), facts.operation()], facts.severity(), out);
    let first = out.len();
    let mut text = String::new();
    for key in KEYS {
        text.clear();
        facts.value(key.from, &mut text);
        if !text.is_empty() {
            write_key(key.name, &shortened(&text, key.limit), out.len() == first, out);
            if let Some(label) = key.label {
                write_label(key.name, label, out);
            }
        }
    }
}

/// The keys of what is no readable record, in their order.
pub static ERROR_KEYS: [ErrorKey; 6] = [
    ErrorKey::new("rt", "when it reached us, in milliseconds; `normalize` cannot know it"),
    ErrorKey::new("reason", "why it cannot be read"),
    ErrorKey::new("deviceExternalId", "the tenant of the feed"),
    ErrorKey::new("msg", "the beginning of what it was"),
    ErrorKey::custom("flexString1", "Tenant", "the name of the tenant"),
    ErrorKey::custom("flexString2", "RecordKey", "the key of these bytes"),
];

/// Appends the message of something that is no readable record.
pub fn write_error(context: &Context<'_>, key: RecordKey, record: &[u8], reason: &str, out: &mut Vec<u8>) {
    write_header([OWN, OWN, VERSION, ERROR, "Unreadable record"], ERROR_SEVERITY, out);
    let first = out.len();
    let received = context.received_ms.map(|ms| ms.to_string()).unwrap_or_default();
    let (hex, record) = (key.to_hex(), String::from_utf8_lossy(record));
    let hex = String::from_utf8_lossy(&hex);
    let values = [received.as_str(), reason, context.tenant_id, &record, context.tenant_name, &hex];
    for (key, value) in ERROR_KEYS.iter().zip(values).filter(|(_, value)| !value.is_empty()) {
        write_key(key.name, &shortened(value, key.limit), out.len() == first, out);
        if let Some(label) = key.label {
            write_label(key.name, label, out);
        }
    }
}

fn write_header(fields: [&str; 5], severity: u8, out: &mut Vec<u8>) {
    out.extend_from_slice(b"CEF:0|");
    for field in fields {
        escape_header(&shortened(field, MAX_HEADER), out);
        out.push(b'|');
    }
    out.extend_from_slice(severity.to_string().as_bytes());
    out.push(b'|');
}

fn write_key(name: &str, value: &str, is_first: bool, out: &mut Vec<u8>) {
    if !is_first {
        out.push(b' ');
    }
    out.extend_from_slice(name.as_bytes());
    out.push(b'=');
    escape_value(value, out);
}

fn write_label(name: &str, label: &str, out: &mut Vec<u8>) {
    out.push(b' ');
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"Label=");
    escape_value(label, out);
}

fn escape_header(text: &str, out: &mut Vec<u8>) {
    for c in text.chars() {
        match c {
            '\\' | '|' => out.extend_from_slice(&[b'\\', c as u8]),
            c if is_hidden(c) => made_visible(c, "\\\\", out),
            c => out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    // Readers that look only one character back would take the delimiter for escaped.
    if text.ends_with('\\') {
        out.push(b' ');
    }
}

fn escape_value(text: &str, out: &mut Vec<u8>) {
    for c in text.chars() {
        match c {
            '\\' | '=' => out.extend_from_slice(&[b'\\', c as u8]),
            '\n' => out.extend_from_slice(b"\\n"),
            '\r' => out.extend_from_slice(b"\\r"),
            c if is_hidden(c) => made_visible(c, "\\\\", out),
            c => out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
}
