//! The record key: 128 bits by which a record is known everywhere (delivered map, `auditferry.key`,
//! HEC `fields`, `_id`).
//!
//! Two records share a key only if they are the same to Microsoft: same tenant, `Id`, `CreationTime`,
//! `RecordType` and `Operation` (one `Id` may carry a `DlpRuleMatch` and its `DlpRuleUndo`). The
//! spelling does not matter: field order and white space differ between two fetches of the same blob
//! (activity-api 1.8), `Id`s differ in case, `RecordType` comes as `15` and `"15"`.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserializer as _, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::Field;
use super::text::unescape;
use super::view::View;

/// 128-bit hash of (tenant, Id, CreationTime, RecordType, Operation).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RecordKey(pub [u8; 16]);

/// What was hashed, so that no two kinds of key can meet.
const IDENTIFIED: u8 = 1;
const CANONICAL: u8 = 2;
const BYTES: u8 = 3;

/// Deeper than this, a record without an `Id` is hashed as it is spelt: a bound on recursion.
const CANONICAL_DEPTH: u32 = 64;

impl RecordKey {
    /// The key of a record: by its `Id` or, where it has none, by everything in it (members sorted,
    /// strings unescaped, numbers as spelt).
    pub fn of(tenant_id: &str, view: &View<'_>) -> RecordKey {
        let id = view.string(Field::Id).filter(|id| !id.is_empty());
        let mut input = Vec::with_capacity(256);
        match id {
            Some(id) => {
                start(IDENTIFIED, tenant_id, &mut input);
                part(id.as_bytes(), &mut input);
                let from = input.len() - id.len();
                input[from..].make_ascii_lowercase();
                for field in [Field::CreationTime, Field::RecordType, Field::Operation] {
                    part(view.string(field).as_deref().unwrap_or_default().as_bytes(), &mut input);
                }
            }
            None => {
                start(CANONICAL, tenant_id, &mut input);
                canonical(view.record(), CANONICAL_DEPTH, &mut input);
            }
        }
        hash(&input)
    }

    /// The key of bytes that are no record.
    pub fn of_bytes(tenant_id: &str, record: &[u8]) -> RecordKey {
        let mut input = Vec::with_capacity(record.len() + 64);
        start(BYTES, tenant_id, &mut input);
        part(record, &mut input);
        hash(&input)
    }

    /// 32 lower-case hexadecimal digits, as written into events.
    pub fn to_hex(self) -> [u8; 32] {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut hex = [0; 32];
        for (pair, byte) in hex.chunks_exact_mut(2).zip(self.0) {
            pair[0] = DIGITS[usize::from(byte >> 4)];
            pair[1] = DIGITS[usize::from(byte & 15)];
        }
        hex
    }
}

impl fmt::Display for RecordKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.to_hex().iter().try_for_each(|digit| fmt::Write::write_char(f, char::from(*digit)))
    }
}

fn hash(input: &[u8]) -> RecordKey {
    let mut key = [0; 16];
    key.copy_from_slice(&blake3::hash(input).as_bytes()[..16]);
    RecordKey(key)
}

fn start(kind: u8, tenant_id: &str, input: &mut Vec<u8>) {
    input.push(kind);
    part(tenant_id.as_bytes(), input);
}

/// Length first, so that no two lists of parts read the same. One byte where it fits: with a GUID for
/// tenant and `Id` all parts then fit two blocks of the hash.
fn part(bytes: &[u8], input: &mut Vec<u8>) {
    match u8::try_from(bytes.len()) {
        Ok(length) if length < u8::MAX => input.push(length),
        _ => {
            input.push(u8::MAX);
            input.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
        }
    }
    input.extend_from_slice(bytes);
}

/// Appends a JSON value such that two spellings of the same value append the same bytes.
fn canonical(value: &str, depth: u32, input: &mut Vec<u8>) {
    let value = value.trim_ascii();
    match value.as_bytes().first() {
        Some(b'"') if value.len() >= 2 => {
            input.push(b'"');
            part(unescape(&value[1..value.len() - 1]).as_bytes(), input);
        }
        Some(b'{') if depth > 0 => {
            let mut members = Members::default();
            if serde_json::Deserializer::from_str(value).deserialize_map(&mut members).is_err() {
                return part(value.as_bytes(), input);
            }
            // Stable: of members with one name the last stays last, and only it counts.
            members.0.sort_by(|one, other| one.0.cmp(&other.0));
            input.push(b'{');
            let mut rest = members.0.iter().peekable();
            while let Some((name, member)) = rest.next() {
                if rest.peek().is_some_and(|next| next.0 == *name) {
                    continue;
                }
                part(name.as_bytes(), input);
                canonical(member, depth - 1, input);
            }
            input.push(b'}');
        }
        Some(b'[') if depth > 0 => {
            let Ok(elements) = serde_json::from_str::<Vec<&RawValue>>(value) else {
                return part(value.as_bytes(), input);
            };
            input.push(b'[');
            for element in elements {
                canonical(element.get(), depth - 1, input);
            }
            input.push(b']');
        }
        _ => {
            input.push(b'=');
            part(value.as_bytes(), input);
        }
    }
}

/// Name (unescaped) and value of each member.
#[derive(Default)]
struct Members<'a>(Vec<(Cow<'a, str>, &'a str)>);

impl<'a> Visitor<'a> for &mut Members<'a> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'a>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some((name, value)) = map.next_entry::<&'a RawValue, &'a RawValue>()? {
            let quoted = name.get();
            self.0.push((unescape(&quoted[1..quoted.len() - 1]), value.get()));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(record: &str) -> RecordKey {
        RecordKey::of("t", &View::parse(record.as_bytes()).unwrap())
    }

    #[test]
    fn spelling_does_not_matter() {
        let one = key(r#"{"Id":"6F1C","CreationTime":"2026-01-01T00:00:00","RecordType":15,"Operation":"A","X":1}"#);
        let other =
            key(r#"{ "X":2,"Operation":"\u0041","RecordType":"15","Id":"6f1c","CreationTime":"2026-01-01T00:00:00"}"#);
        assert_eq!(one, other);
    }

    #[test]
    fn each_part_matters() {
        let parts = |id: &str, time: &str, kind: u32, operation: &str| {
            key(&format!(r#"{{"Id":"{id}","CreationTime":"{time}","RecordType":{kind},"Operation":"{operation}"}}"#))
        };
        let keys = [
            parts("1", "t", 13, "DlpRuleMatch"),
            parts("1", "t", 13, "DlpRuleUndo"),
            parts("1", "t", 11, "DlpRuleMatch"),
            parts("1", "u", 13, "DlpRuleMatch"),
            parts("2", "t", 13, "DlpRuleMatch"),
        ];
        let distinct: std::collections::HashSet<_> = keys.into_iter().collect();
        assert_eq!(distinct.len(), keys.len());
        let record = View::parse(br#"{"Id":"1"}"#).unwrap();
        assert_ne!(RecordKey::of("a", &record), RecordKey::of("b", &record));
    }

    #[test]
    fn without_an_id_the_whole_record_counts_however_it_is_spelt() {
        let one = key(r#"{"a":{"x":1.0,"y":["\u00e4",null]},"b":"2"}"#);
        assert_eq!(one, key("{ \"b\" : \"2\",\n\"a\":{\"y\":[ \"ä\", null ],\"x\":1.0}}"));
        assert_eq!(
            one,
            key(r#"{"Id":"","a":0,"a":{"x":1.0,"y":["ä",null]},"b":"2"}"#.replace(r#""Id":"","#, "").as_str())
        );
        for other in [
            r#"{"a":{"x":1.00,"y":["ä",null]},"b":"2"}"#,
            r#"{"a":{"x":1.0,"y":[null,"ä"]},"b":"2"}"#,
            r#"{"a":{"x":1.0,"y":["ä",null]},"b":2}"#,
        ] {
            assert_ne!(one, key(other), "{other}");
        }
        assert_ne!(key(r#"{"Id":"","a":1}"#), key(r#"{"Id":"","a":2}"#));
    }

    #[test]
    fn a_million_brackets_do_not_exhaust_the_stack() {
        let deep = format!(r#"{{"a":{}{}}}"#, "[".repeat(1_000_000), "]".repeat(1_000_000));
        assert_eq!(key(&deep), key(&deep));
    }

    #[test]
    fn bytes_and_records_never_share_a_key() {
        assert_ne!(RecordKey::of_bytes("t", b"{}"), key("{}"));
    }
}
