//! What must hold for the document of any record, in both profiles.
//!
//! Comes in: any bytes. Goes out: nothing, or a panic that names what is broken: one line of JSON, no name twice in an
//! object, the Id and every leaf of the record in it, not longer than a multiple of the record.

use std::collections::HashSet;
use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use crate::feed::ContentType;
use crate::normalize::{Context, Profile, Scratch, raw};
use crate::record::{Field, RecordKey, View};

use super::{assert_line, depth};

/// Bytes of a document for each byte of its record, at most: a name stands as id, name, address and domain of a user, and
/// among the related ones; a text may be written inside of another, each sign of it escaped.
const GROWTH: usize = 32;
/// Bytes of a document of an empty record, with much to spare.
const HEAD: usize = 4096;

const CONTEXT: Context<'static> = Context {
    tenant_id: "6f1c0000-0000-4000-8000-000000000001",
    tenant_name: "contoso \"Süd\"",
    content_type: Some(ContentType::General),
    received_ms: Some(1_772_323_200_000),
    original: false,
    enrich: None,
};

/// See the module's head.
pub fn normalized(record: &[u8]) {
    let Ok(view) = View::parse(record) else { return };
    let key = RecordKey::of(CONTEXT.tenant_id, &view);
    // What the parser that judges cannot read is a record all the same: a number of any size, half a surrogate.
    let object: Option<Map<String, Value>> = serde_json::from_slice(record).ok().filter(|_| depth(record) < 100);
    let mut line = Vec::new();
    raw(&view, &mut line);
    if let Some(object) = &object {
        let again: Option<Map<String, Value>> = serde_json::from_slice(&line).ok();
        assert_eq!(again.as_ref(), Some(object), "the raw form is another record");
    }
    // One after the other, as the pipeline does.
    let mut scratch = Scratch::default();
    for profile in Profile::ALL {
        line.clear();
        scratch.document(&CONTEXT, profile, key, &view, &mut line);
        assert_line(&line, object.is_some());
        assert!(line.len() <= GROWTH * record.len() + HEAD, "{} bytes of {}", line.len(), record.len());
        if let Some(object) = &object {
            judge(object, &view, &line);
        }
    }
}

fn judge(record: &Map<String, Value>, view: &View<'_>, line: &[u8]) {
    let document: Value = serde_json::from_slice(line).unwrap_or_default();
    let tree: Tree = serde_json::from_slice(line).unwrap_or(Tree::Leaf);
    tree.assert_distinct("");
    let audit = &document["o365"]["audit"];
    if let Some(id) = view.string(Field::Id).filter(|id| !id.is_empty()) {
        assert!(document["event"]["id"] == *id || audit["Id"] == record["Id"], "the Id `{id}` is gone");
    }
    let (mut wanted, mut found) = (HashSet::new(), HashSet::new());
    for (name, value) in record {
        // A time that was moved is written in another form.
        if name != "CreationTime" || audit.get(name).is_some() {
            leaves(value, &mut wanted);
        }
    }
    leaves(&document, &mut found);
    names(&document, &mut found);
    for leaf in &wanted {
        let is_name =
            || found.contains(leaf.replace(['.', ' '], "_").as_str()) || found.contains(&leaf.replace('.', "_"));
        // A parameter of that name makes room for what is odd.
        let is_name = || is_name() || leaf == "_raw" && found.contains("_raw_");
        assert!(leaf.is_empty() || found.contains(leaf) || is_name(), "`{leaf}` is lost");
    }
}

/// The text of every leaf in lower case (the id of an organization is written so). JSON inside of a text counts by its
/// own leaves, and a number in a text by its value: some texts are read, some numbers are written as texts.
fn leaves(value: &Value, into: &mut HashSet<String>) {
    match value {
        Value::Object(map) => map.values().for_each(|value| leaves(value, into)),
        Value::Array(list) => list.iter().for_each(|value| leaves(value, into)),
        Value::String(text) => {
            match serde_json::from_str(text) {
                Ok(inside @ (Value::Object(_) | Value::Array(_))) => leaves(&inside, into),
                Ok(Value::Number(number)) => _ = into.insert(plain(&number)),
                _ => _ = into.insert(text.to_lowercase()),
            };
        }
        Value::Number(number) => _ = into.insert(plain(number)),
        other => _ = into.insert(other.to_string()),
    }
}

/// A number by its value, as near as a float comes to it: `4`, `4.0` and `4e0` are one, and `-0` is `0`. That each is
/// kept to the last digit is held of the raw form.
fn plain(number: &Number) -> String {
    number.as_f64().map_or_else(|| number.to_string(), |float| (float + 0.0).to_string())
}

/// The names in a list of names and values are names of members in the document.
fn names(value: &Value, into: &mut HashSet<String>) {
    match value {
        Value::Object(map) => {
            for (name, value) in map {
                into.insert(name.to_lowercase());
                // A name that is JSON counts as a text that is.
                leaves(&Value::String(name.clone()), into);
                names(value, into);
            }
        }
        Value::Array(list) => list.iter().for_each(|value| names(value, into)),
        _ => {}
    }
}

/// JSON with every member of every object, also of those that have a name twice.
enum Tree {
    Leaf,
    List(Vec<Tree>),
    Object(Vec<(String, Tree)>),
}

impl Tree {
    /// `path` is that of this value, each name with a dot before it.
    fn assert_distinct(&self, path: &str) {
        match self {
            Tree::Leaf => {}
            Tree::List(list) => list.iter().for_each(|one| one.assert_distinct(path)),
            Tree::Object(members) => {
                let mut known = HashSet::new();
                for (name, value) in members {
                    assert!(known.insert(name), "`{name}` stands twice in `{path}`");
                    value.assert_distinct(&format!("{path}.{name}"));
                }
            }
        }
    }
}

impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Tree, D::Error> {
        deserializer.deserialize_any(TreeVisitor)
    }
}

struct TreeVisitor;

impl<'de> Visitor<'de> for TreeVisitor {
    type Value = Tree;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E>(self, _: bool) -> Result<Tree, E> {
        Ok(Tree::Leaf)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Tree, E> {
        Ok(Tree::Leaf)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Tree, E> {
        Ok(Tree::Leaf)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Tree, E> {
        Ok(Tree::Leaf)
    }

    fn visit_str<E>(self, _: &str) -> Result<Tree, E> {
        Ok(Tree::Leaf)
    }

    fn visit_unit<E>(self) -> Result<Tree, E> {
        Ok(Tree::Leaf)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Tree, A::Error> {
        let mut elements = Vec::new();
        while let Some(element) = list.next_element()? {
            elements.push(element);
        }
        Ok(Tree::List(elements))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Tree, A::Error> {
        let mut members = Vec::new();
        while let Some(member) = map.next_entry()? {
            members.push(member);
        }
        Ok(Tree::Object(members))
    }
}
