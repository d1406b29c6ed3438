//! YAML text → a tree in which every key and value knows its line and column. Comes in: a file's
//! text. Goes out: [`Node`]s; scalars keep the text as written, whatever type YAML would guess, so
//! that a GUID that looks like a number stays a GUID. A fault of the syntax costs its block of the top level
//! and not the others. Never interpolates, never checks meaning.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::{Location, Spanned};

use super::faults::{Place, Reader};
use super::syntax::{self, Block};

/// A value of the file and where it stands.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub place: Place,
    pub value: Value,
}

#[derive(Clone, Debug)]
pub(super) enum Value {
    Null,
    Scalar(String),
    List(Vec<Node>),
    Map(Vec<Entry>),
    /// There, but not to be read; a fault has been said.
    Broken,
}

#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub key: String,
    pub place: Place,
    pub node: Node,
}

impl Value {
    /// What it is, for a fault about a wrong shape.
    pub fn shape(&self) -> &'static str {
        match self {
            Value::Null => "nothing",
            Value::Scalar(_) => "a plain value",
            Value::List(_) => "a list",
            Value::Map(_) => "a mapping",
            Value::Broken => "something that cannot be read",
        }
    }
}

/// Blocks that may be broken before nothing more is said: nobody mends more in one go.
const MOST_BROKEN: usize = 8;

/// Parses one document. Faults of the syntax are said at the places where the parser stopped.
pub(super) fn parse(order: u32, file: &Arc<str>, text: &str, reader: &mut Reader<'_>) -> Option<Node> {
    let mut left_out: Vec<Block> = Vec::new();
    let source = Source { order, file, text };
    loop {
        let error = match parse_once(&syntax::without(text, &left_out)) {
            Ok(raw) => {
                if order == 0 {
                    reader.of_syntax = reader.faults.len();
                }
                let mut node = source.node(raw, &mut Vec::new(), reader);
                source.mark_broken(&mut node, &left_out);
                return Some(node);
            }
            Err(error) => error,
        };
        let place = error.location().map_or(Place::whole(order, file), |at| source.place(at));
        let line = usize::try_from(place.line).unwrap_or(usize::MAX).saturating_sub(1);
        let (said, hint) = syntax::words(error.without_snippet(), text.lines().nth(line).unwrap_or_default());
        let stops = |text: &str| {
            let error = parse_once(text).err()?;
            let line = error.location().map_or(0, |at| at.line());
            Some(usize::try_from(line).unwrap_or(usize::MAX).saturating_sub(1))
        };
        // A file of `tenants_from` is one block: what is below is not told apart.
        let goes_on = order == 0 && left_out.len() < MOST_BROKEN && !syntax::is_the_end(error.without_snippet());
        let culprit = if goes_on { syntax::culprit(text, &left_out, line, stops) } else { None };
        let hint = match &culprit {
            Some(block) if block.end <= line => format!(
                "something that is not closed, a quote or a bracket, begins above: in `{}`, line {}",
                block.key,
                block.first + 1
            ),
            _ => hint.to_owned(),
        };
        // The key of the block, for no other is known.
        if let Some(block) = syntax::blocks(text).iter().rfind(|block| block.first <= line) {
            reader.name(&place, std::slice::from_ref(&block.key));
        }
        // An anchor that was left out with its block is no fault of whoever refers to it.
        if left_out.is_empty() || !matches!(error.without_snippet(), serde_saphyr::Error::UnknownAnchor { .. }) {
            reader.fault(&place, said, hint);
        }
        left_out.push(culprit?);
    }
}

fn parse_once(text: &str) -> Result<Spanned<Raw>, serde_saphyr::Error> {
    let options = serde_saphyr::options! {
        // The rendered snippet would quote the file, secrets included.
        with_snippet: false,
        non_finite_float_policy: serde_saphyr::NonFiniteFloatPolicy::PassThrough,
        // Said by us, all of them.
        duplicate_keys: serde_saphyr::DuplicateKeyPolicy::PassThrough,
        reject_unsupported_tags: true,
    };
    serde_saphyr::from_str_with_options::<Spanned<Raw>>(text, options)
}

struct Source<'a> {
    order: u32,
    file: &'a Arc<str>,
    text: &'a str,
}

impl Source<'_> {
    fn place(&self, at: Location) -> Place {
        Place { order: self.order, file: Arc::clone(self.file), line: at.line(), column: at.column() }
    }

    /// `way`: the keys down to here. What came by an alias stands where its anchor is, so that a fault is said
    /// once and where it can be mended.
    fn node(&self, raw: Spanned<Raw>, way: &mut Vec<String>, reader: &mut Reader<'_>) -> Node {
        let place = self.place(raw.defined);
        reader.name(&place, way);
        let value = match raw.value {
            Raw::Null => Value::Null,
            Raw::Text(text) => Value::Scalar(text),
            Raw::Typed(as_read) => Value::Scalar(self.written(raw.defined).map_or(as_read, str::to_owned)),
            Raw::List(items) => {
                let item = |(index, item): (usize, Spanned<Raw>)| {
                    let last = way.pop().unwrap_or_default();
                    way.push(format!("{last}[{index}]"));
                    let node = self.node(item, way, reader);
                    way.pop();
                    way.push(last);
                    node
                };
                Value::List(items.into_iter().enumerate().map(item).collect())
            }
            Raw::Map(entries) => Value::Map(self.entries(entries, way, reader)),
        };
        Node { place, value }
    }

    fn entries(
        &self,
        raw: Vec<(Spanned<String>, Spanned<Raw>)>,
        way: &mut Vec<String>,
        reader: &mut Reader<'_>,
    ) -> Vec<Entry> {
        let mut entries: Vec<Entry> = Vec::with_capacity(raw.len());
        let mut first: HashMap<String, Place> = HashMap::new();
        for (key, value) in raw {
            let place = self.place(key.defined);
            way.push(key.value.clone());
            reader.name(&place, way);
            if let Some(first) = first.get(&key.value) {
                let text =
                    format!("`{}` is there twice in one mapping; the first is in line {}", key.value, first.line);
                reader.fault(&place, text, "keep one of them: which one counts would be a matter of luck");
            }
            let node = self.node(value, way, reader);
            way.pop();
            if first.insert(key.value.clone(), place.clone()).is_none() {
                entries.push(Entry { key: key.value, place, node });
            }
        }
        entries
    }

    /// Puts the keys of blocks that were left out where they would have been.
    fn mark_broken(&self, root: &mut Node, left_out: &[Block]) {
        if left_out.is_empty() {
            return;
        }
        if matches!(root.value, Value::Null) {
            root.value = Value::Map(Vec::new());
        }
        let Value::Map(entries) = &mut root.value else { return };
        for block in left_out {
            let place =
                Place { order: self.order, file: Arc::clone(self.file), line: block.first as u64 + 1, column: 1 };
            let node = Node { place: place.clone(), value: Value::Broken };
            entries.push(Entry { key: block.key.clone(), place, node });
        }
    }

    /// The characters of a plain scalar, as they stand in the file.
    fn written(&self, at: Location) -> Option<&str> {
        let span = at.span();
        let start = usize::try_from(span.byte_offset()?).ok()?;
        let end = start.checked_add(usize::try_from(span.byte_len()?).ok()?)?;
        self.text.get(start..end).map(str::trim)
    }
}

/// A value as the parser hands it over.
enum Raw {
    Null,
    Text(String),
    /// A number or a boolean: what matters is how it was written, this is only a stand-in.
    Typed(String),
    List(Vec<Spanned<Raw>>),
    Map(Vec<(Spanned<String>, Spanned<Raw>)>),
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Raw, D::Error> {
        deserializer.deserialize_any(RawVisitor)
    }
}

struct RawVisitor;

impl<'de> Visitor<'de> for RawVisitor {
    type Value = Raw;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value, a list or a mapping")
    }

    fn visit_unit<E>(self) -> Result<Raw, E> {
        Ok(Raw::Null)
    }

    fn visit_str<E>(self, text: &str) -> Result<Raw, E> {
        Ok(Raw::Text(text.to_owned()))
    }

    fn visit_bool<E>(self, value: bool) -> Result<Raw, E> {
        Ok(Raw::Typed(value.to_string()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Raw, E> {
        Ok(Raw::Typed(value.to_string()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Raw, E> {
        Ok(Raw::Typed(value.to_string()))
    }

    fn visit_i128<E>(self, value: i128) -> Result<Raw, E> {
        Ok(Raw::Typed(value.to_string()))
    }

    fn visit_u128<E>(self, value: u128) -> Result<Raw, E> {
        Ok(Raw::Typed(value.to_string()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Raw, E> {
        Ok(Raw::Typed(value.to_string()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Raw, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = access.next_element()? {
            items.push(item);
        }
        Ok(Raw::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Raw, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = access.next_entry()? {
            entries.push(entry);
        }
        Ok(Raw::Map(entries))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(text: &str) -> Node {
        let mut reader = Reader::new(&|_| None);
        let node = parse(0, &Arc::from("c.yaml"), text, &mut reader);
        node.unwrap_or_else(|| panic!("{:?}", reader.faults))
    }

    fn scalars(node: &Node, into: &mut Vec<(String, u64, u64)>) {
        match &node.value {
            Value::Broken => into.push(("broken".into(), node.place.line, node.place.column)),
            Value::Null => into.push(("null".into(), node.place.line, node.place.column)),
            Value::Scalar(text) => into.push((text.clone(), node.place.line, node.place.column)),
            Value::List(items) => items.iter().for_each(|item| scalars(item, into)),
            Value::Map(entries) => entries.iter().for_each(|entry| {
                into.push((entry.key.clone(), entry.place.line, entry.place.column));
                scalars(&entry.node, into);
            }),
        }
    }

    #[test]
    fn scalars_keep_what_was_written_and_where() {
        let mut seen = Vec::new();
        scalars(
            &tree("a: 00123e4\nbé: [yes, 1e999, \"ü x\"]   # note\n c: ~\n".replace(" c", "c").as_str()),
            &mut seen,
        );
        let expected: Vec<(String, u64, u64)> = [
            ("a", 1, 1),
            ("00123e4", 1, 4),
            ("bé", 2, 1),
            ("yes", 2, 6),
            ("1e999", 2, 11),
            ("ü x", 2, 18),
            ("c", 3, 1),
            ("null", 3, 4),
        ]
        .into_iter()
        .map(|(text, line, column)| (text.to_owned(), line, column))
        .collect();
        assert_eq!(seen, expected);
    }

    #[test]
    fn an_alias_brings_the_text_of_its_anchor() {
        let mut seen = Vec::new();
        scalars(&tree("a: &x 007\nb: *x\n"), &mut seen);
        assert_eq!(seen[3].0, "007");
        assert_eq!(seen[3].1, 1, "where it can be mended");
    }

    #[test]
    fn a_fault_of_the_syntax_has_a_place_and_shows_no_line_of_the_file() {
        let mut reader = Reader::new(&|_| None);
        let root = parse(0, &Arc::from("c.yaml"), "token: canary\n  bad: [canary\n", &mut reader).unwrap();
        assert!(matches!(&root.value, Value::Map(entries) if matches!(entries[0].node.value, Value::Broken)));
        let fault = &reader.faults[0];
        assert!(fault.place.line >= 1, "{fault}");
        assert!(!fault.to_string().contains("canary"), "{fault}");
    }

    #[test]
    fn json_is_yaml() {
        let mut seen = Vec::new();
        scalars(&tree("{\"a\": {\"b\": [1, true, null]}}"), &mut seen);
        assert_eq!(seen.len(), 5);
    }
}
