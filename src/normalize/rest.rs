//! `o365.audit`: what of the record has no other place, as it was sent.
//!
//! Comes in: the record, which of its fields were moved, and a draft's arena. Goes out: the members of one object.
//! Most are copied as they are. A few are given one shape each, because Elasticsearch takes a field for what it was
//! first sent as and refuses a document that has it otherwise, and because dashboards and rules look into them by
//! name (ecs-mapping, section 8; detections, section 3.2). Nothing is left out: what has not the shape that is
//! expected stands whole under `_raw`.

use bumpalo::collections::Vec as ArenaVec;

use crate::escape::escape;
use crate::record::view::{Entry, integer};
use crate::record::{Field, FieldSet, View, text};

use super::draft::Draft;
use super::name_value;
use super::{distinct, json, nested};

/// Numbers that are names, not quantities: written as strings, because different workloads send the
/// same field as number and as text (ecs-mapping, section 8).
const NUMBERS: &[Field] = &[
    Field::RecordType,
    Field::UserType,
    Field::Version,
    Field::InternalLogonType,
    Field::LogonType,
    Field::AzureActiveDirectoryEventType,
    Field::ActorYammerUserId,
    Field::YammerNetworkId,
    Field::ListBaseType,
];
const AS_STRINGS: FieldSet = FieldSet::of(NUMBERS);

/// Lists of objects, of each of which an index keeps every member (Management Activity API schema, the collections of
/// complex types that workloads send).
const OBJECT_LISTS: &[Field] = &[
    Field::AffectedItems,
    Field::AlertLinks,
    Field::AttachmentData,
    Field::Attendees,
    Field::AuthDetails,
    Field::DeviceProperties,
    Field::ExtraProperties,
    Field::Folders,
    Field::Members,
    Field::MembershipInformation,
    Field::Messages,
    Field::PolicyDetails,
    Field::PropertyCollection,
    Field::SharingInformation,
    Field::SystemOverrides,
];
const OF_OBJECTS: FieldSet = FieldSet::of(OBJECT_LISTS);

/// What becomes of the fields that are not copied as they are, for people.
pub const SHAPES: &[(&[Field], &str)] = &[
    (
        &[Field::Parameters, Field::ExtendedProperties],
        "a list of `Name` and `Value` as an object, dots in names as `_`; those of one name as a list; the JSON inside of `additionalDetails` as JSON",
    ),
    (
        &[Field::ModifiedProperties],
        "a list of `Name`, `NewValue` and `OldValue` as an object of pairs, dots and blanks in names as `_`: `ModifiedProperties.Role_DisplayName.NewValue`",
    ),
    (&[Field::Actor, Field::Target], "a list of `ID` and `Type`, the type as text; what is no object as its `_raw`"),
    (OBJECT_LISTS, "as sent; what is no object, or in a list is none, as its `_raw`"),
    (
        &[Field::OperationProperties, Field::AdditionalInfo, Field::CopilotEventData],
        "as sent; JSON inside of a text as JSON",
    ),
    (
        &[Field::Data],
        "JSON inside of a text as JSON, below `flattened`, of which an index keeps every member as one kind",
    ),
    (&[Field::ExceptionInfo], "an object, as sent; a text as its `Reason`"),
    (&[Field::Item, Field::Folder], "as sent; what is no object and no list as its `_raw`"),
    (&[Field::Sender], "a text as sent; an object as `SenderEntity`"),
    (&[Field::Message], "a text as sent; an object as `MessageObject`"),
    (&[Field::Location], "a text as sent; an object as `LocationObject`"),
    (NUMBERS, "a number as text: it is a name, not a quantity"),
];

/// Fields that are not copied as they are: all of [`SHAPES`].
const SHAPED: FieldSet = {
    let mut all = FieldSet::EMPTY;
    let mut row = 0;
    while row < SHAPES.len() {
        let mut next = 0;
        while next < SHAPES[row].0.len() {
            all.insert(SHAPES[row].0[next]);
            next += 1;
        }
        row += 1;
    }
    all
};

/// Appends the members, each with a comma behind it. Members that follow one another are one copy.
pub fn write(draft: &Draft<'_>, out: &mut Vec<u8>) {
    let (view, moved, start) = (draft.view(), draft.moved, out.len());
    let mut run: Option<(usize, usize)> = None;
    let flush = |run: &mut Option<(usize, usize)>, out: &mut Vec<u8>| {
        if let Some((from, to)) = run.take() {
            json::one_line(&view.record()[from..to], out);
            out.push(b',');
        }
    };
    for entry in view.entries() {
        let (from, to) = entry.span();
        match entry.field {
            Some(field) if moved.contains(field) => flush(&mut run, out),
            // Elasticsearch takes no name that is empty.
            None if entry.name().is_empty() => {
                flush(&mut run, out);
                renamed(view, &entry, "_", out);
            }
            Some(field)
                if SHAPED.contains(field) && !(OF_OBJECTS.contains(field) && is_of_objects(view, entry.value())) =>
            {
                flush(&mut run, out);
                shaped(draft, field, &entry, out);
            }
            _ => match &mut run {
                Some((_, end)) if !view.has_superseded() => *end = to,
                _ => {
                    flush(&mut run, out);
                    run = Some((from, to));
                }
            },
        }
    }
    flush(&mut run, out);
    if view.may_repeat_inside() {
        distinct::keep_last(out, start);
    }
}

fn shaped<'a>(draft: &Draft<'a>, field: Field, entry: &Entry<'a>, out: &mut Vec<u8>) {
    let view = draft.view();
    let (name, value) = (entry.name(), entry.value());
    if AS_STRINGS.contains(field) {
        if !is_number(value) {
            return verbatim(name, value, out);
        }
        // However it is spelt: `4.0E1` is 40.
        let is_plain = value.bytes().all(|byte| byte.is_ascii_digit());
        let number = if is_plain { None } else { integer(value) };
        return match number {
            Some(number) => json::escaped(name, &number.to_string(), out),
            None => json::escaped(name, value, out),
        };
    }
    match field {
        Field::Data if value.starts_with('"') => data(draft, &value[1..value.len() - 1], out),
        Field::ExceptionInfo if value.starts_with('"') => {
            json::open("ExceptionInfo", out);
            verbatim("Reason", value, out);
            json::close(out);
        }
        Field::Item | Field::Folder if !value.starts_with(['{', '[']) => {
            json::key(name, out);
            other(value, out);
            out.push(b',');
        }
        Field::Sender if value.starts_with('{') => renamed(view, entry, "SenderEntity", out),
        Field::Message if value.starts_with('{') => renamed(view, entry, "MessageObject", out),
        Field::Location if value.starts_with('{') => renamed(view, entry, "LocationObject", out),
        Field::Actor | Field::Target => {
            json::key(name, out);
            objects(value, out, identity);
            out.push(b',');
        }
        _ if OF_OBJECTS.contains(field) => {
            json::key(name, out);
            objects(value, out, json::one_line);
            out.push(b',');
        }
        Field::Parameters | Field::ExtendedProperties => {
            json::key(name, out);
            by_name(draft, value, field, out);
            out.push(b',');
        }
        Field::ModifiedProperties => {
            json::key(name, out);
            old_and_new(draft, value, field, out);
            out.push(b',');
        }
        Field::OperationProperties | Field::AdditionalInfo | Field::CopilotEventData if value.starts_with('"') => {
            json::key(name, out);
            parsed(draft, &value[1..value.len() - 1], out);
            out.push(b',');
        }
        _ => verbatim(name, value, out),
    }
}

fn verbatim(name: &str, value: &str, out: &mut Vec<u8>) {
    json::key(name, out);
    json::one_line(value, out);
    out.push(b',');
}

/// Under another name, unless the record has a member of that one.
fn renamed(view: &View<'_>, entry: &Entry<'_>, name: &str, out: &mut Vec<u8>) {
    let is_taken = view.entries().any(|other| text::unescape(other.name()) == name);
    verbatim(if is_taken { entry.name() } else { name }, entry.value(), out);
}

fn is_number(value: &str) -> bool {
    value.as_bytes().first().is_some_and(|byte| byte.is_ascii_digit() || *byte == b'-')
}

/// Whether it is nothing, an object or a list of objects: nearly always, and the scanner has seen it.
fn is_of_objects(view: &View<'_>, value: &str) -> bool {
    let is_one = |value: &str| value.starts_with(['{', 'n']);
    let Some(inside) = value.strip_prefix('[') else { return is_one(value) };
    match view.has_mixed_list() {
        false => inside.trim_start().starts_with(['{', ']']),
        true => nested::elements(value).all(is_one),
    }
}

/// A list of objects, of which each is written so; what in it is none stands under `_raw` in its place.
fn objects(value: &str, out: &mut Vec<u8>, write: impl Fn(&str, &mut Vec<u8>)) {
    let one = |value: &str, out: &mut Vec<u8>| match value.as_bytes().first() {
        Some(b'{') => write(value, out),
        _ => other(value, out),
    };
    if !value.starts_with('[') {
        return one(value, out);
    }
    out.push(b'[');
    for element in nested::elements(value) {
        one(element, out);
        out.push(b',');
    }
    json::end(b']', out);
}

/// `{"ID": …, "Type": 5}` with the type as text.
fn identity(object: &str, out: &mut Vec<u8>) {
    out.push(b'{');
    for (name, value) in nested::members(object) {
        match name == "Type" && is_number(value) {
            true => json::escaped(name, value, out),
            false => verbatim(name, value, out),
        }
    }
    json::end(b'}', out);
}

/// `Data` of an alert or an investigation, JSON inside of a text: below `flattened`, as Elastic's mapping of the field
/// has it, which holds any names without a field each.
fn data<'a>(draft: &Draft<'a>, escaped: &'a str, out: &mut Vec<u8>) {
    json::open("Data", out);
    json::key("flattened", out);
    match draft.embedded(escaped).filter(|inside| inside.starts_with('{')) {
        Some(inside) => distinct::copy(inside, out),
        None => raw(|out| json::quoted(escaped, out), out),
    }
    out.push(b',');
    json::close(out);
}

/// `[{"Name": …, "Value": …}]` as an object.
fn by_name<'a>(draft: &Draft<'a>, value: &str, field: Field, out: &mut Vec<u8>) {
    let is_whole = |entry: &name_value::Entry<'_>| entry.value.is_some() && entry.old.is_none() && entry.new.is_none();
    let Some(list) = List::read(draft, value, field, is_whole) else { return other(value, out) };
    list.write(&['.'], out, |entry, out| {
        let value = entry.value.unwrap_or("null");
        match value.as_bytes().first() {
            Some(b'{' | b'[') => json::string_of(value, out),
            Some(b'"') if entry.name == "additionalDetails" => parsed(draft, &value[1..value.len() - 1], out),
            _ => out.extend_from_slice(value.as_bytes()),
        }
    });
}

/// `[{"Name": …, "OldValue": …, "NewValue": …}]` as an object of pairs. Elastic's rules ask for the names with
/// `_` in place of dots and blanks.
fn old_and_new<'a>(draft: &Draft<'a>, value: &str, field: Field, out: &mut Vec<u8>) {
    let Some(list) = List::read(draft, value, field, |entry| entry.value.is_none()) else { return other(value, out) };
    list.write(&['.', ' '], out, |entry, out| {
        out.push(b'{');
        for (name, value) in [("NewValue", entry.new), ("OldValue", entry.old)] {
            match value {
                Some(value) if value.starts_with(['{', '[']) => {
                    json::key(name, out);
                    json::string_of(value, out);
                    out.push(b',');
                }
                Some(value) => verbatim(name, value, out),
                None => {}
            }
        }
        json::end(b'}', out);
    });
}

/// Up to here a list is searched for a name; beyond, the names are sorted.
const SHORT_LIST: usize = 16;

/// A list of names and values; what in it is none stands under `_raw`, and hides nothing of the others.
struct List<'a> {
    entries: ArenaVec<'a, name_value::Entry<'a>>,
    odd: ArenaVec<'a, &'a str>,
}

impl<'a> List<'a> {
    /// `None` where the value is no list.
    fn read(
        draft: &Draft<'a>,
        value: &str,
        field: Field,
        is_whole: impl Fn(&name_value::Entry<'a>) -> bool,
    ) -> Option<List<'a>> {
        if !value.starts_with('[') {
            return None;
        }
        let (elements, arena) = (draft.list(field), draft.arena());
        let mut list =
            List { entries: ArenaVec::with_capacity_in(elements.len(), arena), odd: ArenaVec::new_in(arena) };
        for element in elements {
            match element.entry.filter(|entry| !entry.has_more && is_whole(entry)) {
                Some(entry) => list.entries.push(entry),
                None => list.odd.push(element.raw),
            }
        }
        Some(list)
    }

    /// Writes the entries as the members of an object; those of one name as a list. What of `replaced` is in a name
    /// becomes `_`.
    fn write(&self, replaced: &[char], out: &mut Vec<u8>, write: impl Fn(&name_value::Entry<'a>, &mut Vec<u8>)) {
        let is_plain = |entry: &name_value::Entry<'_>| !entry.name.contains('\\') && !matches!(entry.name, "" | "_raw");
        if self.entries.len() > SHORT_LIST || !self.entries.iter().all(is_plain) {
            return self.write_long(replaced, out, write);
        }
        let written = |byte: u8| if replaced.contains(&char::from(byte)) { b'_' } else { byte };
        out.push(b'{');
        for (at, entry) in self.entries.iter().enumerate() {
            let is_same = |other: &&name_value::Entry<'a>| {
                other.name.len() == entry.name.len()
                    && other.name.bytes().map(written).eq(entry.name.bytes().map(written))
            };
            if self.entries[..at].iter().any(|other| is_same(&other)) {
                continue;
            }
            let from = out.len() + 1;
            json::key(entry.name, out);
            out[from..].iter_mut().for_each(|byte| *byte = written(*byte));
            let mut others = self.entries[at + 1..].iter().filter(is_same).peekable();
            if others.peek().is_none() {
                write(entry, out);
            } else {
                out.push(b'[');
                for entry in std::iter::once(entry).chain(others) {
                    write(entry, out);
                    out.push(b',');
                }
                json::end(b']', out);
            }
            out.push(b',');
        }
        self.write_odd(out);
        json::end(b'}', out);
    }

    /// The same of any list; a record may have one of a hundred thousand entries.
    fn write_long(&self, replaced: &[char], out: &mut Vec<u8>, write: impl Fn(&name_value::Entry<'a>, &mut Vec<u8>)) {
        // Sorted by name to find what stands twice.
        let named = |(at, entry): (usize, &name_value::Entry<'a>)| (member_name(entry.name, replaced), at);
        let mut order: Vec<(String, usize)> = self.entries.iter().enumerate().map(named).collect();
        order.sort_unstable();
        let mut groups: Vec<&[(String, usize)]> = order.chunk_by(|one, other| one.0 == other.0).collect();
        groups.sort_unstable_by_key(|group| group[0].1);
        out.push(b'{');
        for group in groups {
            json::key(&group[0].0, out);
            if let [(_, at)] = group {
                write(&self.entries[*at], out);
            } else {
                out.push(b'[');
                for (_, at) in group {
                    write(&self.entries[*at], out);
                    out.push(b',');
                }
                json::end(b']', out);
            }
            out.push(b',');
        }
        self.write_odd(out);
        json::end(b'}', out);
    }

    fn write_odd(&self, out: &mut Vec<u8>) {
        if self.odd.is_empty() {
            return;
        }
        out.extend_from_slice(b"\"_raw\":[");
        for element in &self.odd {
            match element.starts_with('"') {
                true => out.extend_from_slice(element.as_bytes()),
                false => {
                    // Without the blanks between its tokens, which say nothing.
                    json::string_of(&json::compact(element), out);
                }
            }
            out.push(b',');
        }
        json::end(b']', out);
    }
}

/// A name as that of a member. Elasticsearch reads a dot in a name as an object, which another record's value of
/// the name before the dot would contradict.
fn member_name(escaped: &str, replaced: &[char]) -> String {
    match escaped {
        "" => return "_".to_owned(),
        // What is odd stands there.
        "_raw" => return "_raw_".to_owned(),
        _ => {}
    }
    if !escaped.contains('\\') {
        return escaped.replace(replaced, "_");
    }
    let mut name = Vec::new();
    escape(&text::unescape(escaped).replace(replaced, "_"), &mut name);
    String::from_utf8_lossy(&name).into_owned()
}

/// What has not the shape that is expected: an object as it is, nothing as nothing, all else under `_raw`.
fn other(value: &str, out: &mut Vec<u8>) {
    match value.as_bytes().first() {
        Some(b'{' | b'n') => json::one_line(value, out),
        Some(b'"') => raw(|out| out.extend_from_slice(value.as_bytes()), out),
        _ => raw(|out| json::string_of(value, out), out),
    }
}

fn raw(write: impl FnOnce(&mut Vec<u8>), out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"_raw\":");
    write(out);
    out.push(b'}');
}

/// The JSON inside of a text, or the text under `_raw`.
fn parsed<'a>(draft: &Draft<'a>, escaped: &'a str, out: &mut Vec<u8>) {
    match draft.embedded(escaped) {
        Some(inside) => distinct::copy(inside, out),
        None => raw(|out| json::quoted(escaped, out), out),
    }
}

#[cfg(test)]
mod tests {
    use bumpalo::Bump;

    use super::*;

    fn rest(record: &str) -> String {
        let view = View::parse(record.as_bytes()).unwrap();
        let mut out = vec![b'{'];
        let arena = Bump::new();
        write(&Draft::new(&view, &arena), &mut out);
        json::end(b'}', &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn lists_of_names_and_values_become_objects() {
        for (sent, written) in [
            (r#"[{"Name":"A.B","Value":"1"},{"Name":"C d","Value":null}]"#, r#"{"A_B":"1","C d":null}"#),
            (
                r#"[{"Name":"A","Value":"1"},{"Name":"B","Value":2},{"Name":"A","Value":"3"}]"#,
                r#"{"A":["1","3"],"B":2}"#,
            ),
            (r#"[{"Name":"","Value":{"x":"y"}}]"#, r#"{"_":"{\"x\":\"y\"}"}"#),
            (r#""-Identity \"x\"""#, r#"{"_raw":"-Identity \"x\""}"#),
            (
                r#"[{"Name":"A","Value":"1","More":2},{"Name":"B","Value":"2"}]"#,
                r#"{"B":"2","_raw":["{\"Name\":\"A\",\"Value\":\"1\",\"More\":2}"]}"#,
            ),
            (r#"["a","b"]"#, r#"{"_raw":["a","b"]}"#),
            ("[]", "{}"),
            ("null", "null"),
            ("7", r#"{"_raw":"7"}"#),
            (r#"{"A":"1"}"#, r#"{"A":"1"}"#),
        ] {
            assert_eq!(rest(&format!(r#"{{"Parameters":{sent}}}"#)), format!(r#"{{"Parameters":{written}}}"#));
        }
    }

    #[test]
    fn old_and_new_values_stand_in_pairs() {
        for (sent, written) in [
            (
                r#"[{"Name":"Role.DisplayName","OldValue":"","NewValue":"\"x\""},{"Name":"A B","NewValue":null,"OldValue":[1]}]"#,
                r#"{"Role_DisplayName":{"NewValue":"\"x\"","OldValue":""},"A_B":{"NewValue":null,"OldValue":"[1]"}}"#,
            ),
            (r#"["Subject","ItemClass"]"#, r#"{"_raw":["Subject","ItemClass"]}"#),
            (
                r#"[{"Name":"A","NewValue":"1"},{"Name":"A","NewValue":"2"}]"#,
                r#"{"A":[{"NewValue":"1"},{"NewValue":"2"}]}"#,
            ),
        ] {
            let expected = format!(r#"{{"ModifiedProperties":{written}}}"#);
            assert_eq!(rest(&format!(r#"{{"ModifiedProperties":{sent}}}"#)), expected);
        }
    }

    #[test]
    fn json_in_a_text_is_read_and_a_key_given_twice_keeps_its_last_value() {
        assert_eq!(
            rest(r#"{"OperationProperties":"[{\"a\":1,\"a\":2}]","AdditionalInfo":"free text"}"#),
            r#"{"OperationProperties":[{"a":2}],"AdditionalInfo":{"_raw":"free text"}}"#
        );
        assert_eq!(
            rest(r#"{"ExtendedProperties":[{"Name":"additionalDetails","Value":"{\"User-Agent\":\"x\"}"}]}"#),
            r#"{"ExtendedProperties":{"additionalDetails":{"User-Agent":"x"}}}"#
        );
        assert_eq!(
            rest(r#"{"OperationProperties":[{"Name":"a","Value":"b"}]}"#),
            r#"{"OperationProperties":[{"Name":"a","Value":"b"}]}"#
        );
    }

    #[test]
    fn every_field_that_has_a_shape_of_its_own_is_told_of() {
        let told: Vec<Field> = SHAPES.iter().flat_map(|(fields, _)| fields.iter().copied()).collect();
        for field in Field::ALL {
            assert_eq!(told.contains(field), SHAPED.contains(*field), "{}", field.as_str());
        }
    }

    #[test]
    fn data_of_an_alert_and_reasons_have_one_type() {
        assert_eq!(
            rest(r#"{"Data":"{\"a\":1}","ExceptionInfo":"late","Item":"none","RecordType":4.0E1,"":1}"#),
            r#"{"Data":{"flattened":{"a":1}},"ExceptionInfo":{"Reason":"late"},"Item":{"_raw":"none"},"RecordType":"40","_":1}"#
        );
        assert_eq!(
            rest(r#"{"Data":"x","ExceptionInfo":{"a":1}}"#),
            r#"{"Data":{"flattened":{"_raw":"x"}},"ExceptionInfo":{"a":1}}"#
        );
    }

    #[test]
    fn what_no_strict_parser_reads_stays_a_text() {
        for inside in [r#"{\"a\":\"\\ud800\"}"#, "[1e999]", &"[".repeat(200)] {
            let expected = format!(r#"{{"AdditionalInfo":{{"_raw":"{inside}"}}}}"#);
            assert_eq!(rest(&format!(r#"{{"AdditionalInfo":"{inside}"}}"#)), expected);
        }
    }

    #[test]
    fn no_name_is_given_away_twice() {
        assert_eq!(rest(r#"{"Sender":{"a":1},"SenderEntity":2}"#), r#"{"Sender":{"a":1},"SenderEntity":2}"#);
    }

    #[test]
    fn what_is_no_object_in_a_list_of_objects_stands_under_a_name() {
        assert_eq!(
            rest(
                r#"{"Members":["a\"",{"UPN":"x"},1,null,[ {"b" : 2} ]],"AlertLinks":"y","Folders":[1],"Messages":null}"#
            ),
            r#"{"Members":[{"_raw":"a\""},{"UPN":"x"},{"_raw":"1"},null,{"_raw":"[ {\"b\" : 2} ]"}],"AlertLinks":{"_raw":"y"},"Folders":[{"_raw":"1"}],"Messages":null}"#
        );
        let good = r#"{"Actions":["a",{"b":1}],"Members":[ {"UPN":"x"} ],"Folders":{"a":1},"Attendees":[],"MessageURLs":["u"]}"#;
        assert_eq!(rest(good), good);
    }

    #[test]
    fn names_that_come_as_two_types_have_two_names_and_types_of_identities_are_texts() {
        assert_eq!(rest(r#"{"Sender":{"a":1},"Message":"m"}"#), r#"{"SenderEntity":{"a":1},"Message":"m"}"#);
        assert_eq!(
            rest(r#"{"Location":{"City":"y"},"CopilotEventData":"{\"AppHost\":\"z\"}"}"#),
            r#"{"LocationObject":{"City":"y"},"CopilotEventData":{"AppHost":"z"}}"#
        );
        assert_eq!(
            rest(r#"{"ExceptionInfo":{"Reason":"x"},"Location":"y"}"#),
            r#"{"ExceptionInfo":{"Reason":"x"},"Location":"y"}"#
        );
        assert_eq!(
            rest(r#"{"Actor":[{"ID":"x","Type":5},"odd"],"Target":"y","UserType":0}"#),
            r#"{"Actor":[{"ID":"x","Type":"5"},{"_raw":"odd"}],"Target":{"_raw":"y"},"UserType":"0"}"#
        );
    }
}
