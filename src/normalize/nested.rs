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
    Elements { json: list, at: inside(list, b'[') }
}

/// The members of an object: the name, still escaped, and the value.
pub fn members(object: &str) -> Members<'_> {
    Members { json: object, at: inside(object, b'{') }
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
    json: &'a str,
    /// Where the next one is due.
    at: usize,
}

impl<'a> Elements<'a> {
    /// The next element. Where it is an object, `take` gets its members: they are found in the same walk as its end.
    pub fn next_with(&mut self, mut take: impl FnMut(&'a str, &'a str)) -> Option<&'a str> {
        let bytes = self.json.as_bytes();
        let start = scan::blanks(bytes, self.at);
        let end = if bytes.get(start) == Some(&b'{') {
            let mut members = Members { json: self.json, at: start + 1 };
            members.by_ref().for_each(|(name, value)| take(name, value));
            members.end()?
        } else {
            scan::value(bytes, start)?
        };
        self.at = behind_comma(bytes, end, b']');
        Some(&self.json[start..end])
    }
}

impl<'a> Iterator for Elements<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        let bytes = self.json.as_bytes();
        let start = scan::blanks(bytes, self.at);
        let end = scan::value(bytes, start)?;
        self.at = behind_comma(bytes, end, b']');
        Some(&self.json[start..end])
    }
}

/// See [`members`].
#[derive(Clone, Debug)]
pub struct Members<'a> {
    json: &'a str,
    /// Where the next one is due.
    at: usize,
}

impl Members<'_> {
    /// The place behind the object, where all its members have been walked over.
    fn end(&self) -> Option<usize> {
        let bytes = self.json.as_bytes();
        let brace = scan::blanks(bytes, self.at);
        (bytes.get(brace) == Some(&b'}')).then_some(brace + 1)
    }
}

impl<'a> Iterator for Members<'a> {
    type Item = (&'a str, &'a str);

    fn next(&mut self) -> Option<(&'a str, &'a str)> {
        let bytes = self.json.as_bytes();
        let start = scan::blanks(bytes, self.at);
        if bytes.get(start) != Some(&b'"') {
            return None;
        }
        let end_of_name = scan::string(bytes, start)?;
        let colon = scan::blanks(bytes, end_of_name);
        if bytes.get(colon) != Some(&b':') {
            return None;
        }
        let value = scan::blanks(bytes, colon + 1);
        let end = scan::value(bytes, value)?;
        self.at = behind_comma(bytes, end, b'}');
        Some((&self.json[start + 1..end_of_name - 1], &self.json[value..end]))
    }
}

/// The place behind the opening bracket; the end where the value does not begin with it.
fn inside(json: &str, bracket: u8) -> usize {
    let bytes = json.as_bytes();
    let at = scan::blanks(bytes, 0);
    if bytes.get(at) == Some(&bracket) { at + 1 } else { bytes.len() }
}

/// The place behind the comma that follows a value, or of the bracket that does; the end where it is neither.
fn behind_comma(bytes: &[u8], end: usize, bracket: u8) -> usize {
    let at = scan::blanks(bytes, end);
    match bytes.get(at) {
        Some(b',') => at + 1,
        Some(byte) if *byte == bracket => at,
        _ => bytes.len(),
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
