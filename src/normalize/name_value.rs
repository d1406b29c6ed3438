//! Lists of names and values, `[{"Name": …, "Value": …}]`, as in `ExtendedProperties` and `Parameters`.
//!
//! Comes in: the list as sent. Goes out: its entries, borrowed, or one value. A list of another form has no
//! entries; nothing here fails.

use bumpalo::Bump;
use bumpalo::collections::Vec as ArenaVec;

use crate::record::view::scalar;

use super::nested;

/// One entry. What it lacks is `None`; the values are JSON, as sent.
#[derive(Clone, Copy, Debug, Default)]
pub struct Entry<'a> {
    /// Still escaped.
    pub name: &'a str,
    pub value: Option<&'a str>,
    pub old: Option<&'a str>,
    pub new: Option<&'a str>,
    /// Members that are none of these, so that the entry cannot be written by its name without a loss.
    pub has_more: bool,
}

/// An entry whose members are being read.
#[derive(Default)]
struct Reading<'a> {
    entry: Entry<'a>,
    is_named: bool,
    /// Its name is no text.
    is_odd: bool,
}

impl<'a> Reading<'a> {
    fn take(&mut self, name: &str, value: &'a str) {
        let entry = &mut self.entry;
        match name {
            "Name" | "Key" => {
                // Of two names one would be lost.
                entry.has_more |= self.is_named;
                self.is_named = true;
                match value.strip_prefix('"').and_then(|value| value.strip_suffix('"')) {
                    Some(text) => entry.name = text,
                    None => self.is_odd = true,
                }
            }
            "Value" => entry.value = Some(value),
            "OldValue" => entry.old = Some(value),
            "NewValue" => entry.new = Some(value),
            _ => entry.has_more = true,
        }
    }

    /// The entry, where it has a name.
    fn done(self) -> Option<Entry<'a>> {
        (self.is_named && !self.is_odd).then_some(self.entry)
    }
}

/// An element of such a list as sent, and as an entry where it is one.
#[derive(Clone, Copy, Debug)]
pub struct Element<'a> {
    pub raw: &'a str,
    pub entry: Option<Entry<'a>>,
}

/// All elements of a list.
pub fn read<'a>(list: &'a str, arena: &'a Bump) -> &'a [Element<'a>] {
    let mut read = ArenaVec::with_capacity_in(USUAL_ENTRIES, arena);
    read.extend(walk(list));
    read.into_bump_slice()
}

fn walk(list: &str) -> impl Iterator<Item = Element<'_>> {
    let mut elements = nested::elements(list);
    std::iter::from_fn(move || {
        let mut reading = Reading::default();
        let raw = elements.next_with(|name, value| reading.take(name, value))?;
        Some(Element { raw, entry: reading.done() })
    })
}

/// Entries that a list usually has fewer of.
const USUAL_ENTRIES: usize = 16;

/// The value of the last entry of this name, as the inside of a JSON string.
pub fn last_of<'a>(list: &[Element<'a>], name: &str) -> Option<&'a str> {
    let entry = list.iter().rev().filter_map(|element| element.entry).find(|entry| entry.name == name)?;
    scalar(entry.value?)
}

/// The entries of a list; what is no entry is passed over.
fn entries(list: &str) -> impl Iterator<Item = Entry<'_>> {
    walk(list).filter_map(|element| element.entry)
}

/// The value of the last entry of this name, as the inside of a JSON string.
pub fn last_value<'a>(list: &'a str, name: &str) -> Option<&'a str> {
    // Most lists lack the name, and looking for it costs less than walking over them.
    let (bytes, quoted) = (list.as_bytes(), |at: usize| list.as_bytes().get(at) == Some(&b'"'));
    memchr::memmem::find_iter(bytes, name).find(|at| *at > 0 && quoted(at - 1) && quoted(at + name.len()))?;
    scalar(entries(list).filter(|entry| entry.name == name).last()?.value?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_of_a_name_counts_and_odd_lists_have_none() {
        let list = r#"[{"Name":"A","Value":"1"},{"Value":"2","Name":"B"},{"Name":"A","Value":"x\ty","More":[]},{"Name":null}]"#;
        assert_eq!(last_value(list, "A"), Some(r"x\ty"));
        assert_eq!(last_value(list, "C"), None);
        for odd in ["\"A\"", "{}", "[1]", "[[]]", "null", r#"[{"Name":"A","Value":{}}]"#] {
            assert_eq!(last_value(odd, "A"), None, "{odd}");
        }
    }

    #[test]
    fn old_and_new_values_and_what_is_too_much_are_seen() {
        let list = r#"[{"Name":"A","OldValue":null,"NewValue":"[true]"},{"Name":"B","X":1},{"Value":"2"}]"#;
        let read: Vec<_> = entries(list).map(|e| (e.name, e.old, e.new, e.has_more)).collect();
        assert_eq!(read, [("A", Some("null"), Some("\"[true]\""), false), ("B", None, None, true)]);
    }
}
