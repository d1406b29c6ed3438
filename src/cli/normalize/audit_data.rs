//! Records inside of what a search for them answers: an object with the record in its member `AuditData`.
//!
//! Comes in: an element. Goes out: the record in it. Two tools write such objects: `Search-UnifiedAuditLog | ConvertTo-Json`
//! (`AuditData` is the record as a text) and the audit search of Microsoft Graph (`auditData` is the record as an object). The
//! other members only repeat parts of it. An element with a `CreationTime` is a record itself, whatever else it has.

use std::fmt;

use memchr::memmem;
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

/// What an element is.
#[derive(Debug, PartialEq, Eq)]
pub enum Inside<'a> {
    /// No such object.
    Itself,
    /// The record.
    Record(&'a [u8]),
    /// Such an object, with no record in it.
    Nothing,
}

/// Looks into an element; a text is unescaped into `buffer`.
pub fn inside<'a>(element: &'a [u8], buffer: &'a mut String) -> Inside<'a> {
    // What both names have in common: nearly every record stops here.
    if memmem::find(element, b"uditData\"").is_none() {
        return Inside::Itself;
    }
    let Ok(Members { audit_data: Some(value), is_record: false }) = serde_json::from_slice(element) else {
        return Inside::Itself;
    };
    if value.get().starts_with('{') {
        return Inside::Record(value.get().as_bytes());
    }
    buffer.clear();
    match serde_json::from_str(value.get()) {
        Ok(text) => *buffer = text,
        Err(_) => return Inside::Nothing,
    }
    match buffer.trim_ascii() {
        text if text.starts_with('{') => Inside::Record(text.as_bytes()),
        _ => Inside::Nothing,
    }
}

/// The members that tell.
#[derive(Default)]
struct Members<'a> {
    audit_data: Option<&'a RawValue>,
    is_record: bool,
}

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Members<'de>, D::Error> {
        deserializer.deserialize_map(MembersVisitor)
    }
}

struct MembersVisitor;

impl<'de> Visitor<'de> for MembersVisitor {
    type Value = Members<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members<'de>, A::Error> {
        let mut members = Members::default();
        while let Some(name) = map.next_key::<std::borrow::Cow<'de, str>>()? {
            match &*name {
                "AuditData" | "auditData" => members.audit_data = Some(map.next_value()?),
                name => {
                    members.is_record |= name == "CreationTime";
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(members)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(element: &str) -> String {
        let mut buffer = "before".to_owned();
        match inside(element.as_bytes(), &mut buffer) {
            Inside::Itself => "itself".to_owned(),
            Inside::Nothing => "nothing".to_owned(),
            Inside::Record(record) => String::from_utf8(record.to_vec()).unwrap(),
        }
    }

    #[test]
    fn the_record_of_a_search_is_found() {
        let record = r#"{"Id":"1","a":"\u00fc\n"}"#;
        let text = serde_json::to_string(record).unwrap();
        assert_eq!(
            found(&format!(r#"{{"RecordType":15,"CreationDate":"x","AuditData":{text},"Identity":"1"}}"#)),
            record
        );
        assert_eq!(found(&format!(r#"{{"id":"1","createdDateTime":"x","auditData":{record}}}"#)), record);
        assert_eq!(found(r#"{"AuditData":" {\"Id\":\"1\""}"#), r#"{"Id":"1""#, "what was cut is the reader's to say");
    }

    #[test]
    fn a_search_without_a_record_is_said() {
        for value in ["null", "\"\"", "5", "[]", r#""Microsoft.Graph.Models.AuditData""#] {
            assert_eq!(found(&format!(r#"{{"AuditData":{value}}}"#)), "nothing", "{value}");
        }
    }

    #[test]
    fn all_else_is_itself() {
        for element in [
            r#"{"Id":"1"}"#,
            r#"{"CreationTime":"x","AuditData":"{}"}"#,
            r#"{"a":{"AuditData":"{}"}}"#,
            r#"{"x":"AuditData"}"#,
            r#"{"AuditData":"{}""#,
            "AuditData\"",
        ] {
            assert_eq!(found(element), "itself", "{element}");
        }
    }
}
