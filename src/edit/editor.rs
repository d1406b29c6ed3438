//! One pass over one object, along a [`Plan`]. Keeps a level for each container on the way to a named field
//! and nothing for any other: those are skipped over and copied whole.

use std::borrow::Cow;

use super::{Action, Node, Plan, scan};

/// See the module's head.
pub(super) struct Editor<'a> {
    json: &'a [u8],
    at: usize,
    plan: &'a Plan,
    added: &'a dyn Fn(usize, &mut Vec<u8>),
    out: &'a mut Vec<u8>,
    levels: Vec<Level<'a>>,
}

/// A container that is written member by member.
struct Level<'a> {
    node: &'a Node,
    is_object: bool,
    /// Something was written into it: the next needs a comma.
    begun: bool,
    /// Children below which something is put in, and that are there already.
    seen: Vec<usize>,
}

impl<'a> Editor<'a> {
    pub fn new(
        json: &'a [u8],
        plan: &'a Plan,
        added: &'a dyn Fn(usize, &mut Vec<u8>),
        out: &'a mut Vec<u8>,
    ) -> Editor<'a> {
        Editor { json, at: scan::blank(json, 0), plan, added, out, levels: Vec::new() }
    }

    /// `None`: the bytes are no JSON object.
    pub fn run(mut self) -> Option<()> {
        if self.json.get(self.at) != Some(&b'{') {
            return None;
        }
        self.enter(&self.plan.root);
        while let Some(level) = self.levels.last() {
            let is_object = level.is_object;
            self.at = scan::blank(self.json, self.at);
            match (*self.json.get(self.at)?, is_object) {
                (b',', _) => self.at += 1,
                (b'}', true) | (b']', false) => self.leave(),
                (_, true) => self.member()?,
                (_, false) => {
                    let node = self.levels.last()?.node;
                    self.comma();
                    self.value(node)?;
                }
            }
        }
        (scan::blank(self.json, self.at) == self.json.len()).then_some(())
    }

    fn enter(&mut self, node: &'a Node) {
        let is_object = self.json[self.at] == b'{';
        self.out.push(self.json[self.at]);
        self.at += 1;
        self.levels.push(Level { node, is_object, begun: false, seen: Vec::new() });
    }

    fn leave(&mut self) {
        if let Some(level) = self.levels.pop() {
            if level.is_object && level.node.adds {
                self.put_in(level.node, level.begun, &level.seen);
            }
            self.out.push(if level.is_object { b'}' } else { b']' });
        }
        self.at += 1;
    }

    /// Writes what the plan puts in at this place and is not there. Recurses over the plan only.
    fn put_in(&mut self, node: &Node, mut begun: bool, seen: &[usize]) {
        for (index, (name, child)) in node.children.iter().enumerate() {
            if !(child.adds || matches!(child.action, Action::Add(_))) || seen.contains(&index) {
                continue;
            }
            if begun {
                self.out.push(b',');
            }
            begun = true;
            self.out.push(b'"');
            crate::escape::escape(name, self.out);
            self.out.extend_from_slice(b"\":");
            if let Action::Add(number) = child.action {
                (self.added)(number, self.out);
            } else {
                self.out.push(b'{');
                self.put_in(child, false, &[]);
                self.out.push(b'}');
            }
        }
    }

    fn comma(&mut self) {
        if let Some(level) = self.levels.last_mut() {
            if level.begun {
                self.out.push(b',');
            }
            level.begun = true;
        }
    }

    fn member(&mut self) -> Option<()> {
        let from = self.at;
        let name_end = scan::string(self.json, from)?;
        let colon = scan::blank(self.json, name_end);
        if self.json.get(colon) != Some(&b':') {
            return None;
        }
        self.at = scan::blank(self.json, colon + 1);
        let level_node = self.levels.last()?.node;
        let name = unescaped(&self.json[from..name_end]);
        let found = level_node.descend(&String::from_utf8_lossy(&name));
        let Some((index, node)) = found else {
            self.comma();
            let end = scan::value(self.json, self.at)?;
            self.out.extend_from_slice(&self.json[from..end]);
            self.at = end;
            return Some(());
        };
        let is_container = matches!(self.json.get(self.at)?, b'{' | b'[');
        if matches!(node.action, Action::Drop | Action::Add(_)) || (node.adds && !is_container) {
            self.at = scan::value(self.json, self.at)?;
            return Some(());
        }
        if node.adds {
            self.levels.last_mut()?.seen.push(index);
        }
        self.comma();
        self.out.extend_from_slice(&self.json[from..name_end]);
        self.out.push(b':');
        self.value(node)
    }

    /// Writes the value at `at`, of which `node` says what becomes of it; `at` is then behind it, or inside
    /// where it is walked through.
    fn value(&mut self, node: &'a Node) -> Option<()> {
        let first = *self.json.get(self.at)?;
        if first == b'[' || (first == b'{' && node.action != Action::Hash) {
            self.enter(node);
            return Some(());
        }
        let end = scan::value(self.json, self.at)?;
        let value = &self.json[self.at..end];
        self.at = end;
        match (&self.plan.pseudonyms, node.action) {
            (_, Action::Keep) => self.out.extend_from_slice(value),
            // Nothing is no value.
            (_, Action::Hash) if value == b"null" => self.out.extend_from_slice(value),
            (Some(pseudonyms), Action::Hash) => {
                self.out.push(b'"');
                pseudonyms.push(&unescaped(value), self.out);
                self.out.push(b'"');
            }
            // A plan that hashes without a key shows nothing.
            _ => self.out.extend_from_slice(b"null"),
        }
        Some(())
    }
}

/// The text of a JSON string; of any other value, and of a string that has no text (a lone surrogate), the
/// bytes as they stand.
fn unescaped(value: &[u8]) -> Cow<'_, [u8]> {
    let Some(inside) = value.strip_prefix(b"\"").and_then(|rest| rest.strip_suffix(b"\"")) else {
        return Cow::Borrowed(value);
    };
    if memchr::memchr(b'\\', inside).is_none() {
        return Cow::Borrowed(inside);
    }
    serde_json::from_slice::<String>(value).map_or(Cow::Borrowed(inside), |text| Cow::Owned(text.into_bytes()))
}
