//! Walks over objects and lists inside a record, without building a tree.
//!
//! Comes in: JSON that a parser has accepted (the values of a view, or a text that [`embedded`] let pass). Goes
//! out: its elements or members, borrowed, in order. Anything else than a list has no elements, anything else than
//! an object no members. Never allocates, never recurses, each walk is linear in what it walks over; on what is no
//! JSON it ends early and never panics.

use std::fmt;

use bumpalo::Bump;
use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

use crate::record::{scan, text, view::scalar};

/// The elements of a list.
pub fn elements(list: &str) -> Elements<'_> {
    Elements { rest: inside(list, '[') }
}

/// The members of an object: the name, still escaped, and the value.
pub fn members(object: &str) -> Members<'_> {
    Members { rest: inside(object, '{') }
}

/// The value of the last member of this name.
pub fn member<'a>(object: &'a str, name: &str) -> Option<&'a str> {
    members(object).filter(|(known, _)| *known == name).map(|(_, value)| value).last()
}

/// The same as text, still escaped, where it says something.
pub fn text_member<'a>(object: &'a str, name: &str) -> Option<&'a str> {
    scalar(member(object, name)?).filter(|text| !text.is_empty())
}

/// The same of several names, in one walk.
pub fn text_members<'a, const N: usize>(object: &'a str, names: [&str; N]) -> [Option<&'a str>; N] {
    let mut found = [None; N];
    for (name, value) in members(object) {
        if let Some(place) = names.iter().position(|known| *known == name) {
            found[place] = scalar(value).filter(|text| !text.is_empty());
        }
    }
    found
}

/// Each text of a list of texts, or the one text, still escaped and not empty. Other elements are passed over.
pub fn texts(value: &str) -> impl Iterator<Item = &str> {
    let one = if value.starts_with('[') { None } else { scalar(value) };
    one.into_iter().chain(elements(value).filter_map(scalar)).filter(|text| !text.is_empty())
}

/// The JSON inside of a text (escaped, as the record has it), where it is an object or a list and nothing else, and
/// such that every parser reads it: no half of a surrogate pair, no number too large, not more than 128 levels.
pub fn embedded<'a>(escaped: &str, arena: &'a Bump) -> Option<&'a str> {
    let plain = text::unescape(escaped);
    let json = plain.trim();
    if !json.starts_with(['{', '[']) {
        return None;
    }
    serde_json::from_str::<Readable>(json).ok()?;
    Some(arena.alloc_str(json))
}

/// JSON of which every text and number was read, and nothing kept.
struct Readable;

impl<'de> Deserialize<'de> for Readable {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Readable, D::Error> {
        deserializer.deserialize_any(Readable)
    }
}

impl<'de> Visitor<'de> for Readable {
    type Value = Readable;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E>(self, _: bool) -> Result<Readable, E> {
        Ok(Readable)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Readable, E> {
        Ok(Readable)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Readable, E> {
        Ok(Readable)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Readable, E> {
        Ok(Readable)
    }

    fn visit_str<E>(self, _: &str) -> Result<Readable, E> {
        Ok(Readable)
    }

    fn visit_unit<E>(self) -> Result<Readable, E> {
        Ok(Readable)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Readable, A::Error> {
        while list.next_element::<Readable>()?.is_some() {}
        Ok(Readable)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Readable, A::Error> {
        while map.next_entry::<Readable, Readable>()?.is_some() {}
        Ok(Readable)
    }
}

/// See [`elements`].
#[derive(Clone, Debug)]
pub struct Elements<'a> {
    rest: &'a str,
}

impl<'a> Iterator for Elements<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        let (value, rest) = value(self.rest)?;
        self.rest = after(rest, b',');
        Some(value)
    }
}

/// See [`members`].
#[derive(Clone, Debug)]
pub struct Members<'a> {
    rest: &'a str,
}

impl<'a> Iterator for Members<'a> {
    type Item = (&'a str, &'a str);

    fn next(&mut self) -> Option<(&'a str, &'a str)> {
        let (name, rest) = value(self.rest)?;
        let name = name.strip_prefix('"')?.strip_suffix('"')?;
        let (value, rest) = value(after(rest, b':'))?;
        self.rest = after(rest, b',');
        Some((name, value))
    }
}

/// What stands behind the opening bracket; nothing where the value does not begin with it.
fn inside(json: &str, bracket: char) -> &str {
    trimmed(json).strip_prefix(bracket).unwrap_or_default()
}

/// White space of JSON's grammar.
const WHITE_SPACE: [char; 4] = [' ', '\t', '\n', '\r'];

/// What stands behind leading blanks: of compact JSON, all.
fn trimmed(text: &str) -> &str {
    match text.as_bytes().first() {
        Some(0..=b' ') => text.trim_start_matches(WHITE_SPACE),
        _ => text,
    }
}

/// Leaves out blanks and one separator; nothing is left where another character stands.
fn after(rest: &str, separator: u8) -> &str {
    let rest = trimmed(rest);
    if rest.as_bytes().first() == Some(&separator) { &rest[1..] } else { "" }
}

/// The value at the start, and what follows it.
fn value(text: &str) -> Option<(&str, &str)> {
    let text = trimmed(text);
    let bytes = text.as_bytes();
    let end = match bytes.first()? {
        b'"' => scan::string(bytes, 0)?,
        b'{' | b'[' => end_of_nest(bytes)?,
        b']' | b'}' | b',' | b':' => return None,
        _ => memchr::memchr3(b',', b']', b'}', bytes).unwrap_or(bytes.len()),
    };
    let (value, rest) = text.split_at_checked(end)?;
    // Only behind a number or a word may blanks be left.
    let is_tight = matches!(bytes[0], b'"' | b'{' | b'[');
    Some((if is_tight { value } else { value.trim_end_matches(WHITE_SPACE) }, rest))
}

/// The end of the object or list that begins here.
fn end_of_nest(bytes: &[u8]) -> Option<usize> {
    let (mut depth, mut at) = (0usize, 0);
    loop {
        match bytes.get(at)? {
            b'"' => {
                at = scan::string(bytes, at)?;
                continue;
            }
            b'{' | b'[' => depth += 1,
            b'}' | b']' => {
                depth -= 1;
                if depth == 0 {
                    return Some(at + 1);
                }
            }
            _ => {}
        }
        at += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::Value;

    #[test]
    fn elements_and_members_come_in_order_with_whatever_stands_between() {
        let list = " [ 1 ,\"a\\\"]\" , {\"x\":[\"}\"]},[ ], null\n]";
        assert_eq!(elements(list).collect::<Vec<_>>(), ["1", "\"a\\\"]\"", "{\"x\":[\"}\"]}", "[ ]", "null"]);
        let object = "{\"a\" : 1.50 , \"b\\\"c\":{\"d\":\"}\"},\"a\":2 }";
        assert_eq!(members(object).collect::<Vec<_>>(), [("a", "1.50"), ("b\\\"c", "{\"d\":\"}\"}"), ("a", "2")]);
        assert_eq!((member(object, "a"), member(object, "z"), member("[1]", "a")), (Some("2"), None, None));
        assert_eq!(texts("[\"a\",\"\",1,null,{}]").collect::<Vec<_>>(), ["a", "1"]);
        assert_eq!(texts("\"a\"").collect::<Vec<_>>(), ["a"]);
        assert_eq!(text_members(r#"{"a":1,"b":"","c":"x","a":"2"}"#, ["c", "a", "b"]), [Some("x"), Some("2"), None]);
    }

    #[test]
    fn only_an_object_or_a_list_counts_as_embedded() {
        let arena = Bump::new();
        assert_eq!(embedded(r#" {\"a\":\"\\\"\"}"#, &arena), Some(r#"{"a":"\""}"#));
        for other in ["1", "true", r#"\"a\""#, "{", "", "{} {}"] {
            assert_eq!(embedded(other, &arena), None, "{other}");
        }
    }

    proptest! {
        #[test]
        fn what_a_parser_finds_is_found(value in proptest::collection::vec(("[a-z\"\\\\{}\\[\\],:é]{0,6}", -5i64..5), 0..8)) {
            let list: Vec<Value> = value.iter().map(|(text, number)| serde_json::json!({text: [text, number]})).collect();
            let spelt = serde_json::to_string_pretty(&list).unwrap();
            let read: Vec<Value> = elements(&spelt).map(|element| serde_json::from_str(element).unwrap()).collect();
            prop_assert_eq!(&read, &list);
            for element in elements(&spelt) {
                prop_assert_eq!(members(element).count(), 1);
            }
        }

        #[test]
        fn anything_else_ends_early(text in r#"[\[\]{}",:\\a1 é]{0,40}"#) {
            elements(&text).for_each(drop);
            members(&text).for_each(drop);
            elements(&format!("[{text}")).for_each(drop);
            members(&format!("{{{text}")).for_each(drop);
        }
    }
}
