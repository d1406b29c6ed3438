//! JSON in which no object has a name twice.
//!
//! Comes in: JSON that a parser has accepted. Goes out: the same without the members that another of their name follows
//! in their object. Strict parsers, Elasticsearch's among them, refuse a document in which an object has a name twice;
//! others take the last, and so does [`crate::record::View`]. Any depth; one walk, linear but for the sorting of names;
//! never recurses. What stays is never spelt otherwise.

use std::borrow::Cow;
use std::ops::Range;

use crate::record::scan;
use crate::record::text::unescape;

use super::json;

/// Appends JSON without the blanks between its tokens; of members of one name in one object the last stands.
pub fn copy(json: &str, out: &mut Vec<u8>) {
    let mut from = 0;
    for gone in superseded(json.as_bytes(), false) {
        out.extend_from_slice(json::compact(&json[from..gone.start]).as_bytes());
        from = gone.end;
    }
    out.extend_from_slice(json::compact(&json[from..]).as_bytes());
}

/// The same of what was written from a place on: members of one object, with commas between and behind them. Nothing
/// is touched where no name stands twice.
pub fn keep_last(out: &mut Vec<u8>, from: usize) {
    let gone = superseded(&out[from..], true);
    let (mut kept, mut next) = (from, from);
    for gone in &gone {
        out.copy_within(next..from + gone.start, kept);
        kept += from + gone.start - next;
        next = from + gone.end;
    }
    let rest = out.len() - next;
    out.copy_within(next.., kept);
    out.truncate(kept + rest);
}

/// An object or a list that is open.
struct Level {
    is_object: bool,
    /// Where its names begin among all that are kept.
    names: usize,
}

/// The members that do not stand, each up to where the next one begins; in order, none inside of another. `is_inside`
/// says that an object is open already.
fn superseded(json: &[u8], is_inside: bool) -> Vec<Range<usize>> {
    let (mut gone, mut names, mut levels) = (Vec::new(), Vec::new(), Vec::new());
    if is_inside {
        levels.push(Level { is_object: true, names: 0 });
    }
    let (mut at, mut is_name) = (0, is_inside);
    while let Some(byte) = json.get(at) {
        let mut end = at + 1;
        match byte {
            b'"' => {
                end = scan::string(json, at).unwrap_or(json.len());
                if is_name {
                    names.push(at..end);
                    is_name = false;
                }
            }
            b'{' | b'[' => {
                is_name = *byte == b'{';
                levels.push(Level { is_object: is_name, names: names.len() });
            }
            b'}' | b']' => {
                is_name = false;
                if let Some(level) = levels.pop() {
                    repeated(json, &names[level.names..], &mut gone);
                    names.truncate(level.names);
                }
            }
            b',' => is_name = levels.last().is_some_and(|level| level.is_object),
            _ => {}
        }
        at = end;
    }
    while let Some(level) = levels.pop() {
        repeated(json, &names[level.names..], &mut gone);
        names.truncate(level.names);
    }
    gone.sort_unstable_by_key(|range: &Range<usize>| range.start);
    let mut end = 0;
    gone.retain(|range| {
        let is_outermost = range.start >= end;
        end = end.max(range.end);
        is_outermost
    });
    gone
}

/// Finds the members of one object whose name comes again. Sorting keeps this bounded for an object of a hundred
/// thousand.
fn repeated(json: &[u8], names: &[Range<usize>], gone: &mut Vec<Range<usize>>) {
    if names.len() < 2 {
        return;
    }
    let name =
        |place: &Range<usize>| unescape(std::str::from_utf8(&json[place.start + 1..place.end - 1]).unwrap_or_default());
    let mut order: Vec<(Cow<'_, str>, usize)> = names.iter().enumerate().map(|(at, place)| (name(place), at)).collect();
    order.sort_unstable();
    for pair in order.windows(2).filter(|pair| pair[0].0 == pair[1].0) {
        let at = pair[0].1;
        gone.push(names[at].start..names[at + 1].start);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn copied(json: &str) -> String {
        let mut out = b"x".to_vec();
        copy(json, &mut out);
        String::from_utf8(out).unwrap()[1..].to_owned()
    }

    fn kept(members: &str) -> String {
        let mut out = format!("{{{members}").into_bytes();
        keep_last(&mut out, 1);
        String::from_utf8(out).unwrap()[1..].to_owned()
    }

    #[test]
    fn the_last_of_a_name_stands_at_every_depth() {
        for (json, expected) in [
            (r#"{"a":1}"#, r#"{"a":1}"#),
            ("{ \"a\" : 1 ,\"b\":[ ],\"\\u0061\":{ }}", r#"{"b":[],"\u0061":{}}"#),
            (r#"[{"a":{"b":1,"b":2},"a":{"b":3,"c":",","b":4}},{"a":5}]"#, r#"[{"a":{"c":",","b":4}},{"a":5}]"#),
            (r#"{"a":1,"a":2,"a":3}"#, r#"{"a":3}"#),
            (r#"{"a":["a","a"],"b":"a"}"#, r#"{"a":["a","a"],"b":"a"}"#),
        ] {
            assert_eq!(copied(json), expected, "{json}");
        }
        let deep = |inside: &str| format!("{}{inside}{}", "{\"a\":[".repeat(5000), "]}".repeat(5000));
        assert_eq!(copied(&deep(r#"{"b":1,"b":2}"#)), deep(r#"{"b":2}"#));
    }

    #[test]
    fn what_was_written_is_mended_in_place() {
        assert_eq!(kept(r#""a":1,"b":{"c" : 1, "c":2},"a":3,"#), r#""b":{"c":2},"a":3,"#);
        assert_eq!(kept("\"a\" : [ {\"b\": 1} ],"), "\"a\" : [ {\"b\": 1} ],");
        assert_eq!(kept(""), "");
    }

    /// JSON whose names are few, so that many stand twice.
    fn repetitive() -> impl Strategy<Value = String> {
        let leaf = prop_oneof![Just("1".to_owned()), "[a-c,{}\\[\\]:]{0,3}".prop_map(|text| format!("\"{text}\""))];
        leaf.prop_recursive(6, 60, 5, |inner| {
            let member = ("[ab]{1}", inner.clone()).prop_map(|(name, value)| format!("\"{name}\" : {value}"));
            prop_oneof![
                proptest::collection::vec(inner, 0..4).prop_map(|list| format!("[{}]", list.join(" ,"))),
                proptest::collection::vec(member, 0..5).prop_map(|members| format!("{{{} }}", members.join(", "))),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_is_left_is_what_a_parser_that_takes_the_last_reads(json in repetitive()) {
            let read: serde_json::Value = serde_json::from_str(&json).unwrap();
            let copied = copied(&json);
            prop_assert_eq!(serde_json::from_str::<serde_json::Value>(&copied).unwrap(), read.clone());
            // As long as the parser's own spelling: nothing stands twice.
            prop_assert_eq!(copied.len(), read.to_string().len());
            if let Some(inside) = json.strip_prefix('{').and_then(|json| json.strip_suffix('}')) {
                let whole = format!("{{{}}}", kept(inside));
                prop_assert_eq!(serde_json::from_str::<serde_json::Value>(&whole).unwrap(), read.clone());
                prop_assert_eq!(json::compact(&whole).len(), read.to_string().len());
            }
        }
    }
}
