//! What the one-line formats share: values as plain text, cut truthfully and made visible; the severity; where each
//! key comes from.
//!
//! Comes in: a draft. Goes out: text for [`super::cef`] and [`super::leef`], which escape it. A value of the record is
//! JSON-escaped: it is unescaped here, once. Characters that could end a line, hide or turn text around are written as
//! `\u` and their number, so that no value can pass for another field or another message. Never writes a format.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::net::IpAddr;

use crate::record::{Field, RecordKey, text};

use super::draft::{Draft, Outcome, Value};
use super::ecs::Ecs;
use super::{Context, document};

/// What both name in their headers: what is audited, not what carries it.
pub const VENDOR: &str = "Microsoft";
pub const PRODUCT: &str = "Office 365";
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
/// In the headers of what is no record: nothing of Microsoft's may be claimed of it.
pub const OWN: &str = "auditferry";
/// The event of what is no record.
pub const ERROR: &str = "pipeline_error";
/// Its severity: above a failure, below what Microsoft calls high.
pub const ERROR_SEVERITY: u8 = 5;
/// Where the record says nothing: a header has no empty fields.
const UNKNOWN: &str = "unknown";

/// Characters of a value ("CEF Implementation Standard", extension dictionary: most texts).
pub const MAX_TEXT: usize = 1023;
/// Of a custom string there.
pub const MAX_CUSTOM: usize = 4000;
/// Of what is joined from a list, before it is cut: no list makes this work more than linear.
const MAX_LIST: usize = 64 * 1024;

/// One key of a format.
pub struct Key {
    pub name: &'static str,
    /// What a custom key means, where the format wants that said beside it.
    pub label: Option<&'static str>,
    pub from: From,
    /// Characters; longer values are cut.
    pub limit: usize,
}

impl Key {
    pub const fn new(name: &'static str, from: From) -> Key {
        Key { name, label: None, from, limit: MAX_TEXT }
    }

    pub const fn custom(name: &'static str, label: &'static str, from: From) -> Key {
        Key { name, label: Some(label), from, limit: MAX_CUSTOM }
    }
}

/// One key of the message of what is no record, and what it holds, in words for the docs.
pub struct ErrorKey {
    pub name: &'static str,
    pub label: Option<&'static str>,
    pub words: &'static str,
    /// As in [`Key`].
    pub limit: usize,
}

impl ErrorKey {
    pub const fn new(name: &'static str, words: &'static str) -> ErrorKey {
        ErrorKey { name, label: None, words, limit: MAX_TEXT }
    }

    pub const fn custom(name: &'static str, label: &'static str, words: &'static str) -> ErrorKey {
        ErrorKey { name, label: Some(label), words, limit: MAX_CUSTOM }
    }
}

/// Where the value of a key comes from.
#[derive(Clone, Copy)]
pub enum From {
    /// The first of these fields that has a value; several values are joined by `, `.
    Ecs(&'static [Ecs]),
    /// A field of the record.
    Record(Field),
    /// Always the same.
    Fixed(&'static str),
    /// In words, and how.
    Made(&'static str, fn(&Facts<'_, '_>, &mut String)),
}

impl From {
    /// In words, for people.
    pub fn words(self) -> String {
        match self {
            From::Ecs(fields) => {
                let names: Vec<String> = fields.iter().map(|field| format!("`{}`", field.path())).collect();
                names.join(", else ")
            }
            From::Record(field) => format!("the record's `{field:?}`"),
            From::Fixed(text) => format!("always `{text}`"),
            From::Made(words, _) => words.to_owned(),
        }
    }
}

/// All that is known of one record.
pub struct Facts<'d, 'a> {
    pub context: &'d Context<'d>,
    pub key: RecordKey,
    pub draft: &'d Draft<'a>,
}

impl Facts<'_, '_> {
    /// Appends the value of a key; nothing where there is none.
    pub fn value(&self, from: From, out: &mut String) {
        match from {
            From::Ecs(fields) => {
                if let Some(field) = fields.iter().find(|field| self.draft.has(**field)) {
                    self.joined(*field, out);
                }
            }
            From::Record(field) => out.push_str(&self.draft.said(field).map(text::unescape).unwrap_or_default()),
            From::Fixed(text) => out.push_str(text),
            From::Made(_, make) => make(self, out),
        }
    }

    fn joined(&self, field: Ecs, out: &mut String) {
        for (place, value) in self.draft.all(field).enumerate() {
            if place > 0 {
                out.push_str(", ");
            }
            if out.len() > MAX_LIST {
                let more = self.draft.count(field) - place;
                _ = write!(out, "… and {more} more");
                return;
            }
            push(value, out);
        }
    }

    /// The name of the record type, or its number.
    pub fn record_type(&self) -> Cow<'static, str> {
        let number = self.draft.record_type;
        match (self.draft.text(Ecs::EventCode), number) {
            (Some(name), _) => Cow::Owned(text::unescape(name).into_owned()),
            (None, Some(number)) => Cow::Owned(number.to_string()),
            (None, None) => Cow::Borrowed(UNKNOWN),
        }
    }

    pub fn operation(&self) -> &str {
        let operation = self.draft.operation();
        if operation.is_empty() { UNKNOWN } else { operation }
    }

    /// `@timestamp` of the document, in milliseconds since 1970 UTC.
    pub fn time_ms(&self) -> Option<i64> {
        self.draft.time_ms.or(self.context.received_ms)
    }

    /// The severity from 0 to 10, as both formats count. docs/formats.md has this table.
    ///
    /// | the record | severity |
    /// |---|---|
    /// | `event.severity` 1 informational, 2 low, 3 medium, 4 high | 1, 3, 6, 8 |
    /// | else `event.kind: alert` | 7 |
    /// | else `event.outcome: failure` | 4 |
    /// | else | 2 |
    pub fn severity(&self) -> u8 {
        let number = match self.draft.get(Ecs::EventSeverity) {
            Some(Value::Number(number)) if number > 0 => Some(number),
            _ => None,
        };
        match (number, self.draft.kind, self.draft.outcome) {
            (Some(1), ..) => 1,
            (Some(2), ..) => 3,
            (Some(3), ..) => 6,
            (Some(_), ..) => 8,
            (None, "alert", _) => 7,
            (None, _, Some(Outcome::Failure)) => 4,
            (None, ..) => 2,
        }
    }

    /// The address in a field, where it is of that version.
    pub fn ip(&self, field: Ecs, is_v6: bool, out: &mut String) {
        if let Some(Value::Ip(ip)) = self.draft.get(field)
            && matches!(ip, IpAddr::V6(_)) == is_v6
        {
            // Writing into a String cannot fail.
            _ = write!(out, "{ip}");
        }
    }

    /// The country of `source.ip`, where `enrich` or the record knows it.
    pub fn source_country(&self, out: &mut String) {
        const NAME: &str = "\"country_iso_code\":\"";
        let mut place = Vec::new();
        document::look_up(self.context, Ecs::SourcePlace, self.draft, &mut place);
        let place = String::from_utf8_lossy(&place);
        let code = place.split_once(NAME).and_then(|(_, rest)| rest.split_once('"'));
        out.push_str(code.map_or("", |(code, _)| code));
    }

    /// The record's own organization; else the tenant whose feed it came by.
    pub fn tenant_id(&self, out: &mut String) {
        self.value(From::Ecs(&[Ecs::OrganizationId]), out);
        if out.is_empty() {
            out.push_str(self.context.tenant_id);
        }
    }

    pub fn content_type(&self, out: &mut String) {
        out.push_str(self.context.content_type.map_or("", |content_type| content_type.as_str()));
    }

    pub fn record_key(&self, out: &mut String) {
        out.push_str(&String::from_utf8_lossy(&self.key.to_hex()));
    }
}

/// Appends a value as plain text.
fn push(value: Value<'_>, out: &mut String) {
    // Writing into a String cannot fail.
    match value {
        Value::Text(escaped) => out.push_str(&text::unescape(escaped)),
        Value::Lower(escaped) => out.push_str(&text::unescape(escaped).to_ascii_lowercase()),
        Value::Json(json) => out.push_str(json),
        Value::Number(number) | Value::Time(number) => _ = write!(out, "{number}"),
        Value::Ip(ip) => _ = write!(out, "{ip}"),
        // No key has the whole record.
        Value::Record => {}
    }
}

/// Cuts what is longer than `limit` characters, and says by how many: `…(+120 characters)`.
pub fn shortened(text: &str, limit: usize) -> Cow<'_, str> {
    /// Room for the words.
    const MARKER: usize = 32;
    if text.len() <= limit || text.chars().nth(limit).is_none() {
        return Cow::Borrowed(text);
    }
    let kept = text.char_indices().nth(limit.saturating_sub(MARKER)).map_or(text.len(), |(at, _)| at);
    let (head, tail) = text.split_at(kept);
    Cow::Owned(format!("{head}…(+{} characters)", tail.chars().count()))
}

/// `\u` and the number of a hidden character.
pub fn made_visible(c: char, backslash: &str, out: &mut Vec<u8>) {
    let number = u32::from(c);
    out.extend_from_slice(format!("{backslash}u{number:04x}").as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::escape::is_hidden;
    use proptest::prelude::*;

    #[test]
    fn a_long_value_says_how_much_of_it_is_not_there() {
        let text = "ä".repeat(100);
        let cut = shortened(&text, 50);
        assert_eq!(cut, format!("{}…(+82 characters)", "ä".repeat(18)));
        assert_eq!(shortened(&text, 100), text);
    }

    #[test]
    fn what_hides_is_seen_and_what_people_write_is_left() {
        for c in "\0\u{1b}\r\n\t\u{7f}\u{85}\u{2028}\u{2029}\u{202e}\u{2066}\u{200f}\u{feff}".chars() {
            assert!(is_hidden(c), "{c:?}");
        }
        // A joiner makes one picture of several.
        for c in "aß 😀\u{200d}|=\\\u{fffd}".chars() {
            assert!(!is_hidden(c), "{c:?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_cut_is_never_longer_than_the_limit(text in "\\PC{0,120}", limit in 40usize..90) {
            let cut = shortened(&text, limit);
            prop_assert!(cut.chars().count() <= limit);
            let head = cut.split("…(+").next().unwrap_or_default();
            prop_assert!(text.starts_with(head));
        }
    }
}
