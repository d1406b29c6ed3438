//! IBM's Log Event Extended Format 2.0, for QRadar: one record, one line.
//!
//! Comes in: a draft. Goes out: `LEEF:2.0|Microsoft|Office 365|version|operation|x09|` and the keys of [`KEYS`], in that
//! order, with tabs between them, those without a value left out; no newline. LEEF has no escaping: what may not stand in
//! a value (the tab, line ends) or in the header (`|`) is written as `\u` and its number. Truth: IBM, "LEEF event
//! components" and "Predefined LEEF event attributes".

use std::fmt::Write as _;

use crate::escape::is_hidden;
use crate::record::{Field, RecordKey, instant};

use super::Context;
use super::draft::Draft;
use super::ecs::Ecs;
use super::flat::{ERROR, ERROR_SEVERITY, ErrorKey, Facts, From, Key, OWN, PRODUCT, VENDOR, VERSION};
use super::flat::{made_visible, shortened};

/// What stands between two keys; the header says it by its number.
const DELIMITER: u8 = b'\t';
/// Characters of a header field.
const MAX_HEADER: usize = 512;
/// How `devTime` is written, as Java's SimpleDateFormat says it.
const TIME_FORMAT: &str = "yyyy-MM-dd'T'HH:mm:ss.SSSZ";

/// The keys, in the order in which they are written. Those of IBM's list have its meaning; the others are ours.
pub static KEYS: &[Key] = &[
    Key::new("devTime", From::Made("`@timestamp`", |facts, out| time(facts.time_ms(), out))),
    Key::new(
        "devTimeFormat",
        From::Made("how devTime is written", |facts, out| {
            out.push_str(facts.time_ms().map_or("", |_| TIME_FORMAT));
        }),
    ),
    Key::new("cat", From::Ecs(&[Ecs::EventProvider])),
    Key::new(
        "sev",
        From::Made("the severity, at least 1", |facts, out| {
            // Writing into a String cannot fail.
            _ = write!(out, "{}", facts.severity().max(1));
        }),
    ),
    Key::new("usrName", From::Ecs(&[Ecs::UserId])),
    Key::new("domain", From::Ecs(&[Ecs::UserDomain])),
    Key::new(
        "accountName",
        From::Ecs(&[
            Ecs::UserTargetEmail,
            Ecs::UserTargetName,
            Ecs::UserTargetId,
            Ecs::DestinationUserEmail,
            Ecs::EmailTo,
        ]),
    ),
    Key::new("groupID", From::Ecs(&[Ecs::GroupName, Ecs::GroupId])),
    Key::new("src", From::Ecs(&[Ecs::SourceIp])),
    Key::new("srcPort", From::Ecs(&[Ecs::SourcePort])),
    Key::new(
        "srcCountry",
        From::Made("`source.geo.country_iso_code`, where `enrich` or the record knows it", |facts, out| {
            facts.source_country(out)
        }),
    ),
    Key::new("identSrc", From::Ecs(&[Ecs::SourceIp])),
    Key::new("identHostName", From::Ecs(&[Ecs::SourceDomain])),
    Key::new(
        "resource",
        From::Ecs(&[Ecs::FilePath, Ecs::FileName, Ecs::UrlOriginal, Ecs::UserTargetId, Ecs::GroupName]),
    ),
    Key::new("url", From::Ecs(&[Ecs::UrlOriginal])),
    Key::new("policy", From::Ecs(&[Ecs::RuleName])),
    Key::new("eventId", From::Ecs(&[Ecs::EventId])),
    Key::new(
        "outcome",
        From::Made("`event.outcome`", |facts, out| {
            out.push_str(facts.draft.outcome.map_or("", |outcome| outcome.as_str()));
        }),
    ),
    Key::new("reason", From::Ecs(&[Ecs::EventReason, Ecs::ErrorMessage, Ecs::ErrorCode])),
    Key::new(
        "recordType",
        From::Made("the name of the record type, or its number", |facts, out| {
            out.push_str(&facts.record_type());
        }),
    ),
    Key::new("userKey", From::Record(Field::UserKey)),
    Key::new("userAgent", From::Ecs(&[Ecs::UserAgentOriginal])),
    Key::new("fileHash", From::Ecs(&[Ecs::FileHashSha256, Ecs::FileHashSha1, Ecs::FileHashMd5])),
    Key::new("appId", From::Ecs(&[Ecs::OurApplicationId])),
    Key::new("clientAppId", From::Record(Field::ClientAppId)),
    Key::new("sessionId", From::Record(Field::SessionId)),
    Key::new("subject", From::Ecs(&[Ecs::EmailSubject])),
    Key::new(
        "tenantId",
        From::Made("`organization.id`; else the tenant of the feed", |facts, out| facts.tenant_id(out)),
    ),
    Key::new("tenant", From::Ecs(&[Ecs::OrganizationName])),
    Key::new("contentType", From::Made("the content type of the feed", |facts, out| facts.content_type(out))),
    Key::new("recordKey", From::Made("`auditferry.key`", |facts, out| facts.record_key(out))),
];

/// Appends the message of a record.
pub fn write(context: &Context<'_>, key: RecordKey, draft: &Draft<'_>, out: &mut Vec<u8>) {
    let facts = Facts { context, key, draft };
    write_header([VENDOR, PRODUCT, VERSION, facts.operation()], out);
    let first = out.len();
    let mut text = String::new();
    for key in KEYS {
        text.clear();
        facts.value(key.from, &mut text);
        write_key(key.name, &shortened(&text, key.limit), out.len() == first, out);
    }
}

/// The keys of what is no readable record, in their order.
pub static ERROR_KEYS: [ErrorKey; 8] = [
    ErrorKey::new("devTime", "when it reached us; `normalize` cannot know it"),
    ErrorKey::new("devTimeFormat", "how devTime is written"),
    ErrorKey::new("sev", "the severity"),
    ErrorKey::new("reason", "why it cannot be read"),
    ErrorKey::new("tenantId", "the tenant of the feed"),
    ErrorKey::new("tenant", "the name of the tenant"),
    ErrorKey::new("recordKey", "the key of these bytes"),
    ErrorKey::new("record", "the beginning of what it was"),
];

/// Appends the message of something that is no readable record.
pub fn write_error(context: &Context<'_>, key: RecordKey, record: &[u8], reason: &str, out: &mut Vec<u8>) {
    write_header([OWN, OWN, VERSION, ERROR], out);
    let first = out.len();
    let mut received = String::new();
    time(context.received_ms, &mut received);
    let format = if received.is_empty() { "" } else { TIME_FORMAT };
    let (severity, hex) = (ERROR_SEVERITY.to_string(), key.to_hex());
    let (hex, record) = (String::from_utf8_lossy(&hex), String::from_utf8_lossy(record));
    let values = [received.as_str(), format, &severity, reason, context.tenant_id, context.tenant_name, &hex, &record];
    for (key, value) in ERROR_KEYS.iter().zip(values) {
        write_key(key.name, &shortened(value, key.limit), out.len() == first, out);
    }
}

/// `2026-01-02T03:04:05.000+0000`.
fn time(ms: Option<i64>, out: &mut String) {
    let Some(ms) = ms else { return };
    let mut text = Vec::new();
    instant::write_ms(ms, &mut text);
    if let Some(text) = text.strip_suffix(b"Z") {
        out.push_str(&String::from_utf8_lossy(text));
        out.push_str("+0000");
    }
}

fn write_header(fields: [&str; 4], out: &mut Vec<u8>) {
    out.extend_from_slice(b"LEEF:2.0|");
    for field in fields {
        for c in shortened(field, MAX_HEADER).chars() {
            match c {
                '|' => made_visible(c, "\\", out),
                c => write_char(c, out),
            }
        }
        out.push(b'|');
    }
    _ = std::io::Write::write_fmt(out, format_args!("x{DELIMITER:02x}|"));
}

fn write_key(name: &str, value: &str, is_first: bool, out: &mut Vec<u8>) {
    if value.is_empty() {
        return;
    }
    if !is_first {
        out.push(DELIMITER);
    }
    out.extend_from_slice(name.as_bytes());
    out.push(b'=');
    value.chars().for_each(|c| write_char(c, out));
}

fn write_char(c: char, out: &mut Vec<u8>) {
    if is_hidden(c) {
        made_visible(c, "\\", out);
    } else {
        out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
    }
}
