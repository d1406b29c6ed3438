//! A borrowed view of one record: where its top-level fields lie, found in one pass.
//!
//! Comes in: the bytes of one record. Goes out: a [`View`] of offsets into them, or [`UnreadableRecord`].
//! Tolerant of what the service sends (activity-api 1.8): any value under any name, a number where
//! text is declared, a field given twice (the last stands), any depth. Numbers are never computed
//! with: what leaves is the text that came in. Never allocates a field, never re-serialises.

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;

use serde::de::{Deserializer as _, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::field::{self, Field};
use super::oddity::Oddities;
use super::{instant, scan, text};

/// A record that is not a JSON object in UTF-8.
#[derive(Debug, thiserror::Error)]
pub enum UnreadableRecord {
    #[error("not UTF-8: {0}")]
    Encoding(#[from] std::str::Utf8Error),
    #[error("not a JSON object: {0}")]
    Syntax(#[from] serde_json::Error),
    #[error("longer than 4 GiB")]
    TooLong,
}

/// One member of the record: ranges of the name (inside of its quotes, still escaped) and the value.
#[derive(Clone, Copy, Debug)]
struct Member {
    name: (u32, u32),
    value: (u32, u32),
    field: Option<Field>,
    /// False where a later member has the same name.
    stands: bool,
}

/// The allocations of a view, to be used again for the next record.
#[derive(Debug)]
pub struct ViewBuffer {
    members: Vec<Member>,
    /// Place in `members`, plus one, of each known field. Zero for all but the fields of `members`, so
    /// that only those are cleared for the next record, and not all that are known.
    slots: Box<[u32; Field::COUNT]>,
}

impl Default for ViewBuffer {
    fn default() -> Self {
        ViewBuffer { members: Vec::with_capacity(USUAL_MEMBERS), slots: Box::new([0; Field::COUNT]) }
    }
}

impl ViewBuffer {
    fn clear(&mut self) {
        for field in self.members.drain(..).filter_map(|member| member.field) {
            self.slots[field as usize] = 0;
        }
    }
}

/// One member as others see it.
#[derive(Clone, Copy, Debug)]
pub struct Entry<'a> {
    record: &'a str,
    name: (u32, u32),
    value: (u32, u32),
    pub field: Option<Field>,
}

impl<'a> Entry<'a> {
    /// The name, inside of its quotes, still escaped.
    pub fn name(&self) -> &'a str {
        slice(self.record, self.name)
    }

    /// The value, as sent.
    pub fn value(&self) -> &'a str {
        slice(self.record, self.value)
    }

    /// Offset of the name's opening quote, and of the end of the value, in the record.
    pub fn span(&self) -> (usize, usize) {
        (self.name.0 as usize - 1, self.value.1 as usize)
    }
}

/// See the module's head.
#[derive(Debug)]
pub struct View<'a> {
    record: &'a str,
    members: Vec<Member>,
    slots: Box<[u32; Field::COUNT]>,
    superseded: bool,
    may_repeat: bool,
    is_mixed: bool,
}

/// Members that a record usually has fewer of.
const USUAL_MEMBERS: usize = 48;

impl<'a> View<'a> {
    /// Reads a record, which must be one JSON object and nothing else.
    pub fn parse(record: &'a [u8]) -> Result<View<'a>, UnreadableRecord> {
        View::parse_in(record, ViewBuffer::default())
    }

    /// The same, into an allocation that [`View::into_buffer`] gave back.
    pub fn parse_in(record: &'a [u8], buffer: ViewBuffer) -> Result<View<'a>, UnreadableRecord> {
        let record = std::str::from_utf8(record)?;
        let (view, end) = View::read_first(record, buffer)?;
        match serde_json::Deserializer::from_str(&record[end..]).end() {
            Ok(()) => Ok(View { record, ..view }),
            Err(error) => Err(error.into()),
        }
    }

    /// Reads the record that `text` begins with, and says where it ends: to split and to read in one
    /// pass. What follows the record is not looked at.
    pub fn read_first(text: &'a str, mut buffer: ViewBuffer) -> Result<(View<'a>, usize), UnreadableRecord> {
        buffer.clear();
        let mut view = View::empty(text, buffer);
        let (mut names, mut odd) = (NameFilter::new(), Oddities::new());
        if view.scan(text, &mut names, &mut odd).is_none() {
            // It says why not.
            let mut buffer = view.into_buffer();
            buffer.clear();
            view = View::empty(text, buffer);
            (names, odd) = (NameFilter::new(), Oddities::unknown());
            serde_json::Deserializer::from_str(text)
                .deserialize_map(MemberVisitor { view: &mut view, names: &mut names })?;
        }
        // Only white space lies between the last value (or the opening brace) and the closing brace.
        let last = view.members.last().map_or(0, |member| member.value.1 as usize);
        let end = last + memchr::memchr(b'}', &text.as_bytes()[last..]).map_or(0, |brace| brace + 1);
        if u32::try_from(end).is_err() {
            return Err(UnreadableRecord::TooLong);
        }
        view.record = &text[..end];
        if names.repeated {
            view.supersede();
        }
        (view.may_repeat, view.is_mixed) = (odd.may_repeat, odd.is_mixed);
        Ok((view, end))
    }

    fn empty(record: &'a str, buffer: ViewBuffer) -> View<'a> {
        let ViewBuffer { members, slots } = buffer;
        View { record, members, slots, superseded: false, may_repeat: false, is_mixed: false }
    }

    /// Gives the allocations back.
    pub fn into_buffer(self) -> ViewBuffer {
        ViewBuffer { members: self.members, slots: self.slots }
    }

    /// The record as it came.
    pub fn record(&self) -> &'a str {
        self.record
    }

    /// The value of a field, as sent. `None` where the record lacks it.
    pub fn raw(&self, field: Field) -> Option<&'a [u8]> {
        self.value(field).map(str::as_bytes)
    }

    /// The same, as text.
    pub fn raw_text(&self, field: Field) -> Option<&'a str> {
        self.value(field)
    }

    fn value(&self, field: Field) -> Option<&'a str> {
        let index = self.slots[field as usize].checked_sub(1)?;
        Some(self.slice(self.members[index as usize].value))
    }

    /// A field as the inside of a JSON string, still escaped: a string's own inside, or the text of a
    /// number, `true` or `false`. `None` where it is absent, null, an object or an array.
    pub fn escaped(&self, field: Field) -> Option<&'a str> {
        scalar(self.value(field)?)
    }

    /// A field as text, unescaped; for what [`View::escaped`] gives.
    pub fn string(&self, field: Field) -> Option<Cow<'a, str>> {
        self.escaped(field).map(text::unescape)
    }

    /// Where the inside of a string field (still escaped) lies in the record. `None` where the field
    /// is absent or no string.
    pub fn span_of_string(&self, field: Field) -> Option<Range<u32>> {
        let index = self.slots[field as usize].checked_sub(1)?;
        let (start, end) = self.members[index as usize].value;
        self.slice((start, end)).starts_with('"').then(|| start + 1..end - 1)
    }

    /// `CreationTime` in milliseconds since 1970 UTC.
    pub fn creation_time_ms(&self) -> Option<i64> {
        instant::parse_ms(self.escaped(Field::CreationTime)?)
    }

    /// `RecordType`, sent as a number, as text (`"15"`) or with an exponent (`1.5E1`).
    pub fn record_type(&self) -> Option<i64> {
        integer(self.escaped(Field::RecordType)?)
    }

    /// All members that stand, in the order of the record.
    pub fn entries(&self) -> impl Iterator<Item = Entry<'a>> {
        self.members.iter().filter(|member| member.stands).map(|member| Entry {
            record: self.record,
            name: member.name,
            value: member.value,
            field: member.field,
        })
    }

    /// Finds the members of the object that the text begins with; `None` where it is none.
    fn scan(&mut self, text: &'a str, names: &mut NameFilter, odd: &mut Oddities) -> Option<()> {
        let bytes = text.as_bytes();
        let mut at = scan::blanks(bytes, 0);
        if bytes.get(at) != Some(&b'{') {
            return None;
        }
        at = scan::blanks(bytes, at + 1);
        if bytes.get(at) == Some(&b'}') {
            return Some(());
        }
        loop {
            if bytes.get(at) != Some(&b'"') {
                return None;
            }
            let end_of_name = scan::string(bytes, at)?;
            let colon = scan::blanks(bytes, end_of_name);
            if bytes.get(colon) != Some(&b':') {
                return None;
            }
            let start = scan::blanks(bytes, colon + 1);
            odd.next();
            let end = scan::value_watched(bytes, start, odd)?;
            self.add((at + 1, end_of_name - 1), (start, end), names);
            at = scan::blanks(bytes, end);
            match bytes.get(at)? {
                b',' => at = scan::blanks(bytes, at + 1),
                b'}' => return Some(()),
                _ => return None,
            }
        }
    }

    fn slice(&self, range: (u32, u32)) -> &'a str {
        slice(self.record, range)
    }

    /// Where a part that is borrowed from the record stands in it.
    fn place(&self, part: &str) -> (usize, usize) {
        let start = part.as_ptr() as usize - self.record.as_ptr() as usize;
        (start, start + part.len())
    }

    fn add(&mut self, name: (usize, usize), value: (usize, usize), names: &mut NameFilter) {
        let spelt = &self.record.as_bytes()[name.0..name.1];
        // A name that is known as it is spelt has no escape in it: most names.
        let known = Field::of(spelt);
        let escaped = known.is_none() && memchr::memchr(b'\\', spelt).is_some();
        let field = if escaped { Field::of(text::unescape(&self.record[name.0..name.1]).as_bytes()) } else { known };
        // Whether the record is too long for these is seen when its end is known.
        let narrow = |(from, to): (usize, usize)| (from as u32, to as u32);
        self.members.push(Member { name: narrow(name), value: narrow(value), field, stands: true });
        match field {
            Some(field) => {
                let slot = &mut self.slots[field as usize];
                let earlier = std::mem::replace(slot, u32::try_from(self.members.len()).unwrap_or(u32::MAX));
                if earlier != 0 {
                    self.members[earlier as usize - 1].stands = false;
                    self.superseded = true;
                }
            }
            None => names.add(spelt, escaped),
        }
    }

    /// Takes out members whose name comes again. Sorting keeps this bounded for a record of a
    /// hundred thousand members.
    fn supersede(&mut self) {
        let record = self.record;
        let name = |member: &Member| text::unescape(&record[member.name.0 as usize..member.name.1 as usize]);
        let mut order: Vec<(Cow<'_, str>, usize)> =
            self.members.iter().enumerate().map(|(index, member)| (name(member), index)).collect();
        order.sort_unstable();
        for pair in order.windows(2) {
            if pair[0].0 == pair[1].0 {
                self.members[pair[0].1].stands = false;
                self.superseded = true;
            }
        }
    }

    /// True where some field was given twice, so that not everything between two members stands.
    pub fn has_superseded(&self) -> bool {
        self.superseded
    }

    /// True where a name may stand twice in an object inside of the record; never false where one does.
    pub fn may_repeat_inside(&self) -> bool {
        self.may_repeat
    }

    /// True where a list of the record has objects and other things in it.
    pub fn has_mixed_list(&self) -> bool {
        self.is_mixed
    }
}

fn slice(record: &str, (start, end): (u32, u32)) -> &str {
    &record[start as usize..end as usize]
}

/// The inside of a JSON string, or the text of a number or a truth value.
pub fn scalar(value: &str) -> Option<&str> {
    match value.as_bytes().first()? {
        b'"' => value.get(1..value.len() - 1),
        b'n' | b'{' | b'[' => None,
        _ => Some(value),
    }
}

/// An integer out of a decimal text such as `40`, `40.0` or `4.0E1`, without floating point.
pub fn integer(text: &str) -> Option<i64> {
    if let Ok(value) = text.parse() {
        return Some(value);
    }
    let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let fraction = fraction.trim_end_matches('0');
    let shift = exponent.parse::<i32>().ok()?.checked_sub(i32::try_from(fraction.len()).ok()?)?;
    let digits: i64 = format!("{whole}{fraction}").parse().ok()?;
    digits.checked_mul(10i64.checked_pow(u32::try_from(shift).ok()?)?)
}

/// Says whether some unknown name may have come twice: one bit a name. A false alarm costs a sort;
/// with 10 names that we do not know, which few have, in 2,048 bits it is one record in forty.
struct NameFilter {
    bits: [u64; NameFilter::WORDS],
    repeated: bool,
}

impl NameFilter {
    const WORDS: usize = 32;

    fn new() -> NameFilter {
        NameFilter { bits: [0; Self::WORDS], repeated: false }
    }

    fn add(&mut self, name: &[u8], escaped: bool) {
        let hash = hash_of_ends(name);
        let word = &mut self.bits[(hash >> 6) as usize % Self::WORDS];
        let bit = 1u64 << (hash & 63);
        self.repeated |= escaped || *word & bit != 0;
        *word |= bit;
    }
}

/// A hash of the first and the last eight bytes and the length: enough for a filter.
fn hash_of_ends(name: &[u8]) -> u64 {
    const ODD: u64 = 0x9E37_79B9_7F4A_7C15;
    let (first, last) = field::ends(name);
    let mixed = (first ^ name.len() as u64).wrapping_mul(ODD) ^ last;
    mixed.wrapping_mul(ODD) >> 32
}

struct MemberVisitor<'v, 'a> {
    view: &'v mut View<'a>,
    names: &'v mut NameFilter,
}

impl<'a> Visitor<'a> for MemberVisitor<'_, 'a> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'a>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some((name, value)) = map.next_entry::<&'a RawValue, &'a RawValue>()? {
            let (start, end) = self.view.place(name.get());
            let value = self.view.place(value.get());
            self.view.add((start + 1, end - 1), value, self.names);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn view(record: &str) -> View<'_> {
        View::parse(record.as_bytes()).unwrap()
    }

    #[test]
    fn fields_are_found_whatever_their_type() {
        let read = view(
            r#" { "Id" : "a\u0041", "RecordType":15, "UserType" :"0","ResultStatus":true,"UserId":null,"Workload":{"x":[1]} } "#,
        );
        assert_eq!(read.string(Field::Id).as_deref(), Some("aA"));
        assert_eq!(read.record_type(), Some(15));
        assert_eq!(read.string(Field::UserType).as_deref(), Some("0"));
        assert_eq!(read.string(Field::ResultStatus).as_deref(), Some("true"));
        assert_eq!((read.string(Field::UserId), read.string(Field::Workload)), (None, None));
        assert_eq!(read.raw(Field::Workload), Some(&br#"{"x":[1]}"#[..]));
        let span = read.span_of_string(Field::Id).unwrap();
        assert_eq!(&read.record()[span.start as usize..span.end as usize], r"a\u0041");
        assert_eq!(read.span_of_string(Field::RecordType), None);
    }

    #[test]
    fn a_field_given_twice_keeps_the_last_even_if_it_is_escaped() {
        let read = view(r#"{"Id":"1","Other":1,"\u0049d":"2","O\u0074her":2,"Third":3}"#);
        assert_eq!(read.string(Field::Id).as_deref(), Some("2"));
        let left: Vec<_> = read.entries().map(|entry| entry.value()).collect();
        assert_eq!(left, [r#""2""#, "2", "3"]);
        assert!(read.has_superseded());
    }

    #[test]
    fn a_used_buffer_remembers_no_field() {
        let first = r#"{"Id":"1","UserId":"a","Other":1,"Workload":"Exchange","Id":"2"}"#;
        let buffer = View::parse(first.as_bytes()).unwrap().into_buffer();
        let read = View::parse_in(br#"{"Other":2,"Id":"3"}"#, buffer).unwrap();
        let said = |field: Field| read.string(field);
        assert_eq!(said(Field::Id).as_deref(), Some("3"));
        assert!(Field::ALL.iter().filter(|&&field| field != Field::Id).all(|&field| said(field).is_none()));
        assert!(!read.has_superseded());
    }

    #[test]
    fn depth_and_odd_numbers_are_no_trouble() {
        let deep = format!(
            r#"{{"Deep":{}{},"Size":1156492.00,"Big":123456789012345678901234567890}}"#,
            "[".repeat(300),
            "]".repeat(300)
        );
        let read = view(&deep);
        let values: Vec<_> = read.entries().map(|entry| entry.value()).collect();
        assert_eq!(values[1..], ["1156492.00", "123456789012345678901234567890"]);
    }

    #[test]
    fn numbers_with_exponents_are_integers_where_they_mean_one() {
        let of = |text: &str| integer(text);
        assert_eq!(
            [of("40"), of("40.00"), of("4.0E1"), of("4e1"), of("-1")],
            [Some(40), Some(40), Some(40), Some(40), Some(-1)]
        );
        assert_eq!([of("4.5"), of("x"), of("1e99"), of("1e999999999999"), of(""), of("1e-1")], [None; 6]);
    }

    #[test]
    fn the_first_record_ends_where_it_ends() {
        for record in ["{}", " { } ", r#"{"a":"}"}"#, "{\"a\":{} \n}"] {
            let text = format!("{record}, {{\"Id\":\"2\"}}]");
            let (read, end) = View::read_first(&text, ViewBuffer::default()).unwrap();
            assert_eq!((read.record(), end), (record.trim_end(), record.trim_end().len()));
        }
        assert!(View::read_first(r#"{"a":1"#, ViewBuffer::default()).is_err());
    }

    #[test]
    fn what_is_no_object_in_utf8_is_unreadable() {
        for bad in ["", "[]", "1", "null", "{", "{} x", r#"{"a":NaN}"#, "{\"a\":\"\n\"}", "\u{feff}{}", r#"{"a":1,}"#] {
            assert!(View::parse(bad.as_bytes()).is_err(), "{bad}");
        }
        assert!(matches!(View::parse(b"{\"a\":\"\xff\"}"), Err(UnreadableRecord::Encoding(_))));
    }

    proptest! {
        #[test]
        fn never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = View::parse(&bytes);
        }

        #[test]
        fn never_panics_on_what_looks_like_json(text in r#"[{}\[\]",:\\ua0-9dIe.\-+ \n]{0,80}"#) {
            let _ = View::parse(text.as_bytes());
            let _ = View::parse(format!("{{{text}}}").as_bytes());
        }
    }
}
