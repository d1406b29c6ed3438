//! Fields of a record taken out, replaced by a pseudonym, or put in, on the record's own bytes.
//!
//! Comes in: one JSON object, valid (a readable record, or a document of ours), and a [`Plan`]. Goes out:
//! the same object without what was dropped. What the plan does not name is copied as it stands: big
//! numbers, key order, spelling of floats, members given twice. Never builds a tree of the record, never
//! recurses over its depth, and where it does not understand a byte it gives nothing instead of a guess.
//!
//! A field is named by the names on the way to it, joined by dots, without regard to ASCII case; arrays on
//! the way are walked through, so that a name means the field in each of their elements.

mod copies;
mod editor;
mod path;
mod pseudonym;
mod scan;
mod written;

pub use path::{FieldPath, PathError};
pub use pseudonym::{KEY_BYTES, PREFIX, Pseudonyms};
pub use written::{ROOTS, WRITTEN, can_be_written, holds_addresses, is_object, reaches};

use editor::Editor;

/// Copies of a whole record inside a document of ours; they go where anything of the record is to go.
const WHOLE_COPIES: [&str; 2] = ["event.original", "auditferry.original_base64"];

/// What is done to an object: a tree of names.
#[derive(Debug, Default)]
pub struct Plan {
    root: Node,
    pseudonyms: Option<Pseudonyms>,
}

/// What is done to one field, and to those below it.
#[derive(Debug, Default)]
struct Node {
    action: Action,
    children: Vec<(String, Node)>,
    /// Something is put in at or below this field.
    adds: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Action {
    #[default]
    Keep,
    Drop,
    Hash,
    /// Whatever is there is replaced by the value of this number.
    Add(usize),
}

/// The bytes are not the valid JSON that they should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the record could not be edited: it is no valid JSON object")]
pub struct Broken;

impl Plan {
    /// For a record as it came.
    pub fn of_record(
        drop: &[FieldPath],
        hash: &[FieldPath],
        add: &[FieldPath],
        pseudonyms: Option<Pseudonyms>,
    ) -> Plan {
        let mut root = Node::default();
        for (paths, action) in [(drop, Action::Drop), (hash, Action::Hash)] {
            paths.iter().for_each(|path| root.put(path.segments(), action));
        }
        for (index, path) in add.iter().enumerate() {
            root.put(path.segments(), Action::Add(index));
        }
        Plan { root, pseudonyms }
    }

    /// For an ECS document of ours: a value that stands in it more than once is treated wherever it stands
    /// ([`copies`]), and so are copies of the whole record.
    pub fn of_document(
        drop: &[FieldPath],
        hash: &[FieldPath],
        add: &[FieldPath],
        pseudonyms: Option<Pseudonyms>,
    ) -> Plan {
        let mut plan = Plan::of_record(drop, hash, add, pseudonyms);
        for (paths, action) in [(drop, Action::Drop), (hash, Action::Hash)] {
            for copy in paths.iter().flat_map(copies::of) {
                plan.root.put(copy.split('.'), action);
            }
        }
        plan.without_whole_copies(drop.len() + hash.len() > 0)
    }

    /// For the document of a record that nobody could read: its fields cannot be found, so all of it goes
    /// where any field was to go.
    pub fn of_unreadable(edits: bool, add: &[FieldPath]) -> Plan {
        Plan::of_record(&[], &[], add, None).without_whole_copies(edits)
    }

    fn without_whole_copies(mut self, edits: bool) -> Plan {
        if edits {
            WHOLE_COPIES.iter().for_each(|copy| self.root.put(copy.split('.'), Action::Drop));
        }
        self
    }

    /// Appends the edited object; `added` appends the JSON value of an addition. On an error `out` holds
    /// nothing new.
    pub fn apply(&self, json: &[u8], added: &dyn Fn(usize, &mut Vec<u8>), out: &mut Vec<u8>) -> Result<(), Broken> {
        let start = out.len();
        out.reserve(json.len() + 128);
        let edited = Editor::new(json, self, added, out).run();
        if edited.is_none() {
            out.truncate(start);
        }
        edited.ok_or(Broken)
    }
}

impl Node {
    /// The first word said of a field stands, and what is said of one covers those below it.
    fn put<'a>(&mut self, segments: impl IntoIterator<Item = &'a str>, action: Action) {
        let mut node = self;
        for segment in segments {
            if node.action != Action::Keep {
                return;
            }
            node.adds |= matches!(action, Action::Add(_));
            let known = node.children.iter().position(|(name, _)| name.eq_ignore_ascii_case(segment));
            let index = known.unwrap_or_else(|| {
                node.children.push((segment.to_owned(), Node::default()));
                node.children.len() - 1
            });
            node = &mut node.children[index].1;
        }
        if node.action == Action::Keep {
            node.action = action;
        }
    }

    /// Where a member of this name is led to; a name with dots in it walks several steps at once.
    fn descend(&self, name: &str) -> Option<(usize, &Node)> {
        let step = |node: &Node, segment: &str| {
            node.children.iter().position(|(known, _)| known.eq_ignore_ascii_case(segment))
        };
        let mut segments = name.split('.');
        let first = step(self, segments.next()?)?;
        let mut node = &self.children[first].1;
        for segment in segments {
            if node.action != Action::Keep {
                break;
            }
            node = &node.children[step(node, segment)?].1;
        }
        Some((first, node))
    }
}

#[cfg(test)]
mod tests;
