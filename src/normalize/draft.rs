//! What is known of a record before it is written: values by ECS field, and which of the record's own fields were
//! moved there.
//!
//! Comes in: values, from [`super::base`], a family and a profile. Goes out: the same, by field. Text is borrowed
//! from the record and still escaped, so that writing it is a copy; text that had to be made lies in an arena
//! that lives as long as the draft. What a later step sets stands in place of what an earlier one said.

use std::borrow::Cow;
use std::cell::Cell;
use std::collections::HashSet;
use std::net::IpAddr;

use bumpalo::Bump;
use bumpalo::collections::Vec as ArenaVec;

use crate::escape::escape;
use crate::record::address::Address;
use crate::record::view::{integer, scalar};
use crate::record::{Field, FieldSet, View, instant, text};

use super::ecs::{Ecs, EcsSet, Kind, Shape};
use super::name_value::{self, Element};
use super::nested;

/// `event.outcome`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Success,
    Failure,
    /// The record says that it is neither yet: a sign-in that was interrupted for a second factor.
    Unknown,
}

impl Outcome {
    pub const fn as_str(self) -> &'static str {
        match self {
            Outcome::Success => "success",
            Outcome::Failure => "failure",
            Outcome::Unknown => "unknown",
        }
    }
}

/// One value of a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Value<'a> {
    /// The inside of a JSON string, escaped.
    Text(&'a str),
    /// The same, of what is to be written in lower case (an id whose case means nothing).
    Lower(&'a str),
    /// A JSON value, written as it is.
    Json(&'a str),
    Number(i64),
    Ip(IpAddr),
    /// Milliseconds since 1970 UTC.
    Time(i64),
    /// The whole record, as a text.
    Record,
}

#[derive(Clone, Copy, Debug)]
struct Fact<'a> {
    value: Value<'a>,
    /// Place of the next value of the same field, plus one.
    next: u32,
}

/// The values of one field.
#[derive(Clone, Copy, Debug, Default)]
struct Chain {
    /// Places plus one; 0: none.
    first: u32,
    last: u32,
    length: u32,
}

/// Up to here a list is searched for a value before it is added; beyond, a set remembers.
const SHORT_LIST: u32 = 32;
/// Facts that a record usually has fewer of.
const USUAL_FACTS: usize = 64;
/// The same of fields that are moved.
const USUAL_TAKEN: usize = 16;

/// See the module's head.
pub struct Draft<'a> {
    view: &'a View<'a>,
    arena: &'a Bump,
    /// Fields of the record that are not repeated under `o365.audit`.
    pub moved: FieldSet,
    pub record_type: Option<i64>,
    pub time_ms: Option<i64>,
    /// `event.kind`.
    pub kind: &'static str,
    pub outcome: Option<Outcome>,
    /// The configured name of the tenant, escaped, where the record is of that tenant.
    pub configured_name: Option<&'a str>,
    operation: &'a str,
    /// Where what was moved by [`Draft::take`] stands.
    taken: ArenaVec<'a, (Ecs, Field)>,
    facts: ArenaVec<'a, Fact<'a>>,
    /// In the arena, so that a draft is small where it is handed on.
    chains: &'a mut [Chain],
    present: EcsSet,
    seen: HashSet<(Ecs, Value<'a>)>,
    /// What [`Draft::list`] has read.
    lists: [Cell<Option<&'a [Element<'a>]>>; LISTS.len()],
    /// The text that [`Draft::embedded`] has read last, and what it found.
    embedded: Cell<(&'a str, Option<&'a str>)>,
}

/// Lists of names and values that are looked into and written anew, so that each is read once.
const LISTS: [Field; 3] = [Field::ExtendedProperties, Field::ModifiedProperties, Field::Parameters];

impl<'a> Draft<'a> {
    pub fn new(view: &'a View<'a>, arena: &'a Bump) -> Draft<'a> {
        let operation = view.escaped(Field::Operation).map_or("", |operation| plain(arena, operation));
        Draft {
            view,
            arena,
            operation,
            configured_name: None,
            moved: FieldSet::EMPTY,
            record_type: view.record_type(),
            time_ms: None,
            kind: "event",
            outcome: None,
            taken: ArenaVec::with_capacity_in(USUAL_TAKEN, arena),
            facts: ArenaVec::with_capacity_in(USUAL_FACTS, arena),
            chains: arena.alloc_slice_fill_copy(Ecs::COUNT, Chain::default()),
            present: EcsSet::EMPTY,
            seen: HashSet::new(),
            lists: Default::default(),
            embedded: Cell::default(),
        }
    }

    /// The record that it is drawn from.
    pub fn view(&self) -> &'a View<'a> {
        self.view
    }

    /// A scalar field of the record that says something, still escaped.
    pub fn said(&self, field: Field) -> Option<&'a str> {
        self.view.escaped(field).filter(|text| !text.is_empty())
    }

    /// A field of the record as it came, whatever it is.
    pub fn raw(&self, field: Field) -> Option<&'a str> {
        self.view.raw_text(field)
    }

    /// The elements of one of the fields that are lists of names and values; none where it is no list.
    pub fn list(&self, field: Field) -> &'a [Element<'a>] {
        let read = || name_value::read(self.raw(field).unwrap_or_default(), self.arena);
        let Some(kept) = LISTS.iter().position(|list| *list == field).map(|place| &self.lists[place]) else {
            return read();
        };
        let list = kept.get().unwrap_or_else(read);
        kept.set(Some(list));
        list
    }

    /// The JSON inside of a text of the record; see [`nested::embedded`]. The same text is asked for more than once,
    /// and read once.
    pub fn embedded(&self, escaped: &'a str) -> Option<&'a str> {
        let (known, inside) = self.embedded.get();
        if std::ptr::eq(known, escaped) {
            return inside;
        }
        let inside = nested::embedded(escaped, self.arena);
        self.embedded.set((escaped, inside));
        inside
    }

    /// The operation, unescaped; empty where there is none.
    pub fn operation(&self) -> &'a str {
        self.operation
    }

    // ---- values out

    pub fn has(&self, to: Ecs) -> bool {
        self.present.contains(to)
    }

    /// Every field that has a value, in the order in which they are written.
    pub fn fields(&self) -> impl Iterator<Item = Ecs> + use<> {
        self.present.iter()
    }

    /// The first value.
    pub fn get(&self, to: Ecs) -> Option<Value<'a>> {
        self.all(to).next()
    }

    /// The first value, where it is text; still escaped.
    pub fn text(&self, to: Ecs) -> Option<&'a str> {
        match self.get(to)? {
            Value::Text(text) | Value::Lower(text) => Some(text),
            _ => None,
        }
    }

    pub fn all(&self, to: Ecs) -> impl Iterator<Item = Value<'a>> + '_ {
        let mut at = self.first(to);
        std::iter::from_fn(move || {
            let (value, next) = self.at(at)?;
            at = next;
            Some(value)
        })
    }

    /// Where the values of a field begin, for [`Draft::at`].
    pub fn first(&self, to: Ecs) -> u32 {
        self.chains[to as usize].first
    }

    /// A value, and where the next of its field stands.
    pub fn at(&self, place: u32) -> Option<(Value<'a>, u32)> {
        let fact = self.facts.get((place as usize).checked_sub(1)?)?;
        Some((fact.value, fact.next))
    }

    pub fn count(&self, to: Ecs) -> usize {
        self.chains[to as usize].length as usize
    }

    // ---- values in

    /// Sets the value in place of any other.
    pub fn set(&mut self, to: Ecs, value: Value<'a>) {
        self.clear(to);
        self.push(to, value);
    }

    /// Sets a text (escaped), if there is one that says something.
    pub fn set_text(&mut self, to: Ecs, text: Option<&'a str>) {
        if let Some(text) = text.filter(|text| !text.is_empty()) {
            self.set(to, Value::Text(text));
        }
    }

    /// Sets a text where the field has no value yet.
    pub fn fill_text(&mut self, to: Ecs, text: Option<&'a str>) {
        if !self.has(to) {
            self.set_text(to, text);
        }
    }

    /// Sets a JSON value of the record, where it is one of this field.
    pub fn set_raw(&mut self, to: Ecs, raw: &'a str) {
        if let Some(value) = self.read(to, raw) {
            self.set(to, value);
        }
    }

    /// Adds a value to the field's list, none twice.
    pub fn add(&mut self, to: Ecs, value: Value<'a>) {
        let length = self.chains[to as usize].length;
        if length < SHORT_LIST {
            if self.all(to).any(|known| known == value) {
                return;
            }
        } else {
            if length == SHORT_LIST {
                let known: Vec<_> = self.all(to).collect();
                self.seen.retain(|(field, _)| *field != to);
                self.seen.extend(known.into_iter().map(|value| (to, value)));
            }
            if !self.seen.insert((to, value)) {
                return;
            }
        }
        self.push(to, value);
    }

    /// Adds a text (escaped) that says something.
    pub fn add_text(&mut self, to: Ecs, text: &'a str) {
        if !text.is_empty() {
            self.add(to, Value::Text(text));
        }
    }

    /// Takes all values of a field away. What was moved there is repeated under `o365.audit` after all.
    pub fn clear(&mut self, to: Ecs) {
        if !self.has(to) {
            return;
        }
        for (_, from) in self.taken.iter().filter(|(taken, _)| *taken == to) {
            self.moved.remove(*from);
        }
        self.chains[to as usize] = Chain::default();
        self.present.remove(to);
    }

    fn push(&mut self, to: Ecs, value: Value<'a>) {
        self.facts.push(Fact { value, next: 0 });
        let place = self.facts.len() as u32;
        let chain = &mut self.chains[to as usize];
        match chain.last {
            0 => chain.first = place,
            last => self.facts[last as usize - 1].next = place,
        }
        chain.last = place;
        chain.length += 1;
        self.present.insert(to);
    }

    // ---- values out of the record

    /// Copies a field of the record; it stays under `o365.audit` as well. Says whether it could be placed.
    pub fn copy(&mut self, to: Ecs, from: Field) -> bool {
        match self.raw(from).and_then(|raw| self.read(to, raw)) {
            Some(value) => {
                self.set(to, value);
                true
            }
            None => self.copy_list(to, from),
        }
    }

    /// Moves a field of the record: it is not repeated under `o365.audit`, unless it could not be placed.
    pub fn take(&mut self, to: Ecs, from: Field) -> bool {
        let placed = self.copy(to, from);
        if placed {
            self.moved.insert(from);
            self.taken.push((to, from));
        }
        placed
    }

    /// A list of texts becomes a list of values, where the field is one; a list with anything else in it is left
    /// alone. Says whether all of it could be placed.
    fn copy_list(&mut self, to: Ecs, from: Field) -> bool {
        let is_list = |raw: &&str| raw.starts_with('[') && to.shape() == Shape::List;
        let Some(list) = self.raw(from).filter(is_list) else { return false };
        let (mut values, mut all) = (Vec::new(), true);
        for element in nested::elements(list) {
            match self.read(to, element) {
                Some(value) => values.push(value),
                // It says nothing, but it was sent: the field is not moved.
                None if matches!(element, "null" | "\"\"") => all = false,
                None => return false,
            }
        }
        if values.is_empty() {
            return false;
        }
        self.clear(to);
        values.into_iter().for_each(|value| self.add(to, value));
        all
    }

    /// A JSON value as a value of this field, where it is one.
    pub fn read(&self, to: Ecs, raw: &'a str) -> Option<Value<'a>> {
        let text = scalar(raw).filter(|text| !text.is_empty())?;
        match to.kind() {
            Kind::Keyword | Kind::Text | Kind::Wildcard => Some(Value::Text(text)),
            Kind::Long => integer(text).map(Value::Number),
            Kind::Date => instant::parse_ms(text).map(Value::Time),
            Kind::Ip => Address::parse(text)?.ip.map(Value::Ip),
            Kind::Boolean => matches!(text, "true" | "false").then_some(Value::Json(text)),
            Kind::Float | Kind::GeoPoint | Kind::Nested | Kind::LookUp => None,
        }
    }

    // ---- text that is made

    /// A text of the record, unescaped.
    pub fn plain(&self, escaped: &'a str) -> &'a str {
        plain(self.arena, escaped)
    }

    /// Plain text, escaped.
    pub fn escaped(&self, plain: &'a str) -> &'a str {
        if plain.bytes().all(|byte| byte >= b' ' && byte != b'"' && byte != b'\\') {
            return plain;
        }
        let mut out = Vec::with_capacity(plain.len() + 8);
        escape(plain, &mut out);
        self.keep(&String::from_utf8_lossy(&out))
    }

    /// A text of the record, escaped in the one usual way: `\u0040` is `@` again. The service escapes little, but who
    /// chooses a name may write it so that what searches for it does not find it.
    pub fn canonical(&self, escaped: &'a str) -> &'a str {
        if escaped.contains('\\') { self.escaped(self.plain(escaped)) } else { escaped }
    }

    /// Where text is kept.
    pub fn arena(&self) -> &'a Bump {
        self.arena
    }

    /// A text that lives as long as the draft.
    pub fn keep(&self, text: &str) -> &'a str {
        self.arena.alloc_str(text)
    }
}

fn plain<'a>(arena: &'a Bump, escaped: &'a str) -> &'a str {
    match text::unescape(escaped) {
        Cow::Borrowed(text) => text,
        Cow::Owned(text) => arena.alloc_str(&text),
    }
}
