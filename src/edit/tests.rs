//! Edits over whole records: what is left, byte for byte, and what must not be left.

use std::path::Path;

use proptest::prelude::*;
use serde_json::Value;
use serde_json::value::RawValue;

use super::*;
use crate::normalize::{self, Context, Profile};
use crate::record::{RecordKey, View};

const KEY: &[u8] = b"sixteen bytes!!!";

fn paths(names: &[&str]) -> Vec<FieldPath> {
    names.iter().map(|name| FieldPath::parse(name).unwrap()).collect()
}

fn apply(plan: &Plan, json: &str) -> String {
    let mut out = Vec::new();
    let added = |number: usize, out: &mut Vec<u8>| out.extend_from_slice(format!("\"added-{number}\"").as_bytes());
    plan.apply(json.as_bytes(), &added, &mut out).unwrap_or_else(|error| panic!("{error}: {json}"));
    String::from_utf8(out).unwrap()
}

fn dropped(names: &[&str], json: &str) -> String {
    apply(&Plan::of_record(&paths(names), &[], &[], None), json)
}

fn hashed(names: &[&str], json: &str) -> String {
    apply(&Plan::of_record(&[], &paths(names), &[], Pseudonyms::new(KEY)), json)
}

fn added(names: &[&str], json: &str) -> String {
    apply(&Plan::of_record(&[], &[], &paths(names), None), json)
}

fn pseudonym(value: &str) -> String {
    let mut out = Vec::new();
    Pseudonyms::new(KEY).unwrap().push(value.as_bytes(), &mut out);
    String::from_utf8(out).unwrap()
}

#[test]
fn what_is_not_named_stays_as_it_is_written() {
    let json = r#"{"z":1.0000,"big":123456789012345678901234567890,"e":1E+400,"s":"\u00e9\/","z":-0,"Secret":1,"o":{ "k" : [ 1 ,2 ] }}"#;
    assert_eq!(
        dropped(&["Secret"], json),
        r#"{"z":1.0000,"big":123456789012345678901234567890,"e":1E+400,"s":"\u00e9\/","z":-0,"o":{ "k" : [ 1 ,2 ] }}"#
    );
}

#[test]
fn a_dropped_field_is_gone_wherever_it_lies_and_however_it_is_spelled() {
    for (name, json, left) in [
        ("a", r#"{"a":1}"#, "{}"),
        ("a", r#"{"a":{"x":"}"},"b":2}"#, r#"{"b":2}"#),
        ("a", r#"{"b":2,"a":[1,"]"]}"#, r#"{"b":2}"#),
        ("a", r#"{"a":1,"b":2,"a":3}"#, r#"{"b":2}"#),
        ("ClientIP", r#"{"clientip":1,"\u0043lientIP":2,"ClientIPx":3}"#, r#"{"ClientIPx":3}"#),
        ("a.b", r#"{"a":{"b":1,"c":2},"a":{"b":3}}"#, r#"{"a":{"c":2},"a":{}}"#),
        ("a.b", r#"{"a.b":1,"a.c":2}"#, r#"{"a.c":2}"#),
        ("a.b", r#"{"a":[{"b":1,"c":2},[{"b":3}],4]}"#, r#"{"a":[{"c":2},[{}],4]}"#),
        ("a[].b", r#"{"a":[{"b":"\"b\":1"}]}"#, r#"{"a":[{}]}"#),
        ("a.b", r#"{"a":"b"}"#, r#"{"a":"b"}"#),
    ] {
        assert_eq!(dropped(&[name], json), left, "{name} of {json}");
    }
    assert_eq!(dropped(&["a", "b"], "{ \"a\" : 1 ,\r\n\t\"b\" : 2 , \"c\" : 3 }"), r#"{"c" : 3}"#);
}

#[test]
fn a_pseudonym_is_the_same_for_the_same_text_however_it_is_escaped() {
    let (alice, seven) = (pseudonym("Alice"), pseudonym("7"));
    assert_eq!(hashed(&["a"], r#"{"a":"Alice"}"#), format!(r#"{{"a":"{alice}"}}"#));
    assert_eq!(hashed(&["a"], r#"{"a":"\u0041lice","b":"Alice"}"#), format!(r#"{{"a":"{alice}","b":"Alice"}}"#));
    assert_eq!(
        hashed(&["a"], r#"{"a":["Alice",["Alice"],null,7]}"#),
        format!(r#"{{"a":["{alice}",["{alice}"],null,"{seven}"]}}"#)
    );
    assert_eq!(hashed(&["a"], r#"{"a":{"b":"c"}}"#), format!(r#"{{"a":"{}"}}"#, pseudonym(r#"{"b":"c"}"#)));
    assert_ne!(alice, pseudonym("alice"));
    let other = Plan::of_record(&[], &paths(&["a"]), &[], Pseudonyms::new(b"another key, as long"));
    assert!(!apply(&other, r#"{"a":"Alice"}"#).contains(&alice), "another key is another pseudonym");
}

#[test]
fn a_plan_that_hashes_without_a_key_shows_nothing() {
    let plan = Plan::of_record(&[], &paths(&["a"]), &[], None);
    assert_eq!(apply(&plan, r#"{"a":"Alice"}"#), r#"{"a":null}"#);
}

#[test]
fn what_is_added_stands_once_whatever_was_there() {
    for (name, json, left) in [
        ("site", "{}", r#"{"site":"added-0"}"#),
        ("site", r#"{"site":1,"b":2,"Site":3}"#, r#"{"b":2,"site":"added-0"}"#),
        ("labels.site", r#"{"b":2}"#, r#"{"b":2,"labels":{"site":"added-0"}}"#),
        ("labels.site", r#"{"labels":{"env":1}}"#, r#"{"labels":{"env":1,"site":"added-0"}}"#),
        ("labels.site", r#"{"labels":"text"}"#, r#"{"labels":{"site":"added-0"}}"#),
        ("a.b.c", r#"{"a":{"b":{}}}"#, r#"{"a":{"b":{"c":"added-0"}}}"#),
        ("a.b", r#"{"a":[{"x":1},2]}"#, r#"{"a":[{"x":1,"b":"added-0"},2]}"#),
    ] {
        assert_eq!(added(&[name], json), left, "{name} of {json}");
    }
    let two = added(&["labels.site", "labels.env"], r#"{"labels":{}}"#);
    assert_eq!(two, r#"{"labels":{"site":"added-0","env":"added-1"}}"#);
}

#[test]
fn what_is_no_object_is_refused_and_leaves_nothing() {
    let plan = Plan::of_record(&paths(&["a"]), &[], &[], None);
    for broken in
        ["", "[]", "1", "{", r#"{"a""#, r#"{"a":}"#, r#"{"b":"x}"#, r#"{"b":1} x"#, r#"{"a":[1}"#, r#"{"a" 1}"#]
    {
        let mut out = b"before".to_vec();
        assert_eq!(plan.apply(broken.as_bytes(), &|_, _| (), &mut out), Err(Broken), "{broken}");
        assert_eq!(out, b"before");
    }
}

#[test]
fn a_million_brackets_do_not_exhaust_the_stack() {
    let deep =
        format!(r#"{{"a":{}"x"{},"b":{}{}}}"#, "[".repeat(1 << 20), "]".repeat(1 << 20), "[".repeat(9), "]".repeat(9));
    assert!(!hashed(&["a"], &deep).contains("\"x\""));
    assert!(dropped(&["a.b"], &deep).contains("\"x\""));
}

#[test]
fn a_document_of_an_unreadable_record_keeps_no_copy_of_it() {
    let json = r#"{"event":{"kind":"pipeline_error","original":"canary"},"auditferry":{"key":"k","original_base64":"canary"}}"#;
    let left = apply(&Plan::of_unreadable(true, &paths(&["site"])), json);
    assert_eq!(left, r#"{"event":{"kind":"pipeline_error"},"auditferry":{"key":"k"},"site":"added-0"}"#);
    assert!(apply(&Plan::of_unreadable(false, &[]), json).contains("canary"), "without edits it stays");
    let document = Plan::of_document(&paths(&["labels"]), &[], &[], None);
    assert!(!apply(&document, json).contains("canary"), "in any document");
}

/// The document of every readable record among the fixtures, in each profile.
fn documents() -> Vec<(String, String)> {
    let tenant = "5a1e0000-0000-4000-8000-00000000c0de";
    let context = Context { tenant_id: tenant, tenant_name: "northwind", ..Context::default() };
    let mut found = Vec::new();
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.display().to_string();
            if path.is_dir() {
                folders.push(path);
            } else if name.ends_with(".json") && !name.ends_with(".expected.json") {
                let text = std::fs::read_to_string(&path).unwrap();
                let records: Vec<&RawValue> = match text.trim_start().starts_with('[') {
                    true => serde_json::from_str(&text).unwrap(),
                    false => vec![serde_json::from_str(&text).unwrap()],
                };
                for record in records {
                    let view = View::parse(record.get().as_bytes()).unwrap();
                    for profile in Profile::ALL {
                        let mut document = Vec::new();
                        normalize::document(&context, profile, RecordKey::of(tenant, &view), &view, &mut document);
                        let name = format!("{name}, {}", profile.as_str());
                        found.push((name, String::from_utf8(document).unwrap()));
                    }
                }
            }
        }
    }
    found.sort();
    assert!(found.len() > 800, "{} documents were found", found.len());
    found
}

/// Every text in the document that is `wanted`, by the way to it.
fn places(value: &Value, wanted: &str, way: &str, found: &mut Vec<String>) {
    match value {
        Value::String(text) if text == wanted => found.push(way.to_owned()),
        Value::Array(items) => items.iter().for_each(|item| places(item, wanted, way, found)),
        Value::Object(members) => members.iter().for_each(|(name, value)| {
            let way = if way.is_empty() { name.clone() } else { format!("{way}.{name}") };
            places(value, wanted, &way, found);
        }),
        _ => {}
    }
}

/// Where anything may still stand by its name: what a record has in structures that speak of all and sundry, of which
/// whoever drops a field is told (docs/configuration.md).
const TOLD: &[&str] =
    &["o365.audit.ExtendedProperties", "o365.audit.ModifiedProperties", "o365.audit.PropertyCollection"];
/// Where the service gives itself, or a kind of user, as the user.
const NO_PERSON: &[&str] = &["event.code", "event.provider", "cloud.service.name", "auditferry.user_type"];
/// A tenant may be what something was done to, and in profile `elastic` it is the host.
const TENANT: &[&str] = &[
    "organization",
    "cloud.account",
    "host",
    "related.hosts",
    "o365.audit.ActorContextId",
    "o365.audit.TargetContextId",
];
const AS_TARGET: &[&str] = &["user.target", "related.user", "o365.audit.ObjectId", "o365.audit.Target.ID"];
const AS_HOST: &[&str] = &[
    "organization",
    "cloud.account",
    "user.domain",
    "user.target.domain",
    "o365.audit.OrganizationName",
    "o365.audit.TenantName",
    "o365.audit.ObjectId",
    "o365.audit.UserDomain",
    "url.domain",
];

/// The fields that say who somebody is or where, and where else the value may stay.
const SECRETS: &[(&str, &[&[&str]])] = &[
    ("source.ip", &[]),
    ("source.address", &[]),
    ("client.ip", &[]),
    ("user.id", &[NO_PERSON]),
    ("user.name", &[]),
    ("user.email", &[]),
    ("user.full_name", &[]),
    ("user.target.id", &[copies::ACTOR, TENANT]),
    ("user.target.name", &[copies::ACTOR]),
    ("user.target.email", &[copies::ACTOR]),
    ("user.target.full_name", &[copies::ACTOR]),
    ("user.changes.email", &[copies::ACTOR]),
    ("source.user.email", &[copies::ACTOR]),
    ("destination.user.email", &[copies::ACTOR]),
    ("email.from.address", &[copies::ACTOR]),
    ("email.sender.address", &[copies::ACTOR]),
    ("email.to.address", &[copies::ACTOR]),
    ("email.cc.address", &[copies::ACTOR]),
    ("email.bcc.address", &[copies::ACTOR]),
    ("file.owner", &[copies::ACTOR]),
    ("organization.id", &[AS_TARGET]),
    ("organization.name", &[AS_TARGET]),
    ("cloud.account.id", &[AS_TARGET]),
    ("cloud.account.name", &[AS_TARGET]),
    ("host.name", &[AS_HOST]),
    ("server.ip", &[]),
];

/// The values of a field: one, or a list.
fn values<'a>(document: &'a Value, field: &str) -> Vec<&'a str> {
    match document.pointer(&format!("/{}", field.replace('.', "/"))) {
        Some(Value::String(text)) => vec![text],
        Some(Value::Array(all)) => all.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    }
}

#[test]
fn the_value_of_a_dropped_field_stands_nowhere_else_among_the_ecs_fields() {
    let is_in = |way: &str, names: &[&str]| names.iter().any(|name| FieldPath::parse(name).unwrap().covers(way));
    let mut seen = std::collections::BTreeMap::new();
    let mut wrong = std::collections::BTreeMap::new();
    for (name, text) in documents() {
        let value: Value = serde_json::from_str(&text).unwrap();
        for (field, kept) in SECRETS {
            let secrets = values(&value, field);
            if secrets.is_empty() {
                continue;
            }
            *seen.entry(*field).or_insert(0) += 1;
            for plan in [
                Plan::of_document(&paths(&[field]), &[], &[], None),
                Plan::of_document(&[], &paths(&[field]), &[], Pseudonyms::new(KEY)),
            ] {
                let left: Value = serde_json::from_str(&apply(&plan, &text)).unwrap();
                for secret in &secrets {
                    let mut found = Vec::new();
                    places(&left, secret, "", &mut found);
                    found.retain(|way| !is_in(way, TOLD) && !kept.iter().any(|kept| is_in(way, kept)));
                    for way in found {
                        wrong.entry(format!("`{field}` still stands in `{way}`")).or_insert(name.clone());
                    }
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    let unseen: Vec<_> = SECRETS.iter().filter(|(field, _)| !seen.contains_key(field)).collect();
    assert!(unseen.is_empty(), "no fixture has {unseen:?}");
}

/// The ways to everything that is no object, but for the record's own fields and ours.
fn ends(value: &Value, way: &str, found: &mut std::collections::BTreeSet<String>) {
    match value {
        Value::Object(members) if !["o365.audit", "auditferry", "email.attachments"].contains(&way) => {
            for (name, value) in members {
                ends(value, &if way.is_empty() { name.clone() } else { format!("{way}.{name}") }, found);
            }
        }
        Value::Object(_) => {}
        _ if way == "email.attachments" => {}
        _ => _ = found.insert(way.to_owned()),
    }
}

#[test]
fn no_document_has_a_name_that_is_not_in_the_list() {
    let mut found = std::collections::BTreeSet::new();
    for (_, text) in documents() {
        let value: Value = serde_json::from_str(&text).unwrap();
        ends(&value, "", &mut found);
    }
    // The two ends of a point on the earth are one value.
    let whole =
        |name: &str| if name.starts_with("source.geo.location.") { "source.geo.location" } else { name }.to_owned();
    let strange: Vec<_> = found.iter().filter(|name| !WRITTEN.contains(&whole(name).as_str())).collect();
    assert!(strange.is_empty(), "{strange:?}");

    let is = |test: fn(&FieldPath) -> bool, name: &str| test(&FieldPath::parse(name).unwrap());
    for name in ["o365", "O365.Audit.ClientIP", "auditferry.content_type", "user", "User.Name", "@timestamp"] {
        assert!(is(can_be_written, name), "{name}");
    }
    for name in ["user.nmae", "o365.ClientIP", "client.ipx", "user.name.x", "sources"] {
        assert!(!is(can_be_written, name), "{name}");
    }
    for name in ["user", "source", "organization", "related", "user_agent", "o365", "o365.audit", "data_stream"] {
        assert!(is(is_object, name), "{name}");
    }
    assert!(!is(is_object, "user.name") && !is(is_object, "o365.audit.Actor"));
}

/// What a careful program would make of it, on a tree.
fn without(value: &Value, names: &[&str]) -> Value {
    match value {
        Value::Array(items) => items.iter().map(|item| without(item, names)).collect(),
        Value::Object(members) if !names.is_empty() => {
            let mut left = serde_json::Map::new();
            for (name, value) in members {
                match (name.eq_ignore_ascii_case(names[0]), names.len()) {
                    (true, 1) => {}
                    (true, _) => _ = left.insert(name.clone(), without(value, &names[1..])),
                    (false, _) => _ = left.insert(name.clone(), value.clone()),
                }
            }
            Value::Object(left)
        }
        other => other.clone(),
    }
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        "[a-c\"\\\\{}\\[\\],: é\u{1}]{0,6}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 32, 5, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map("[a-cA-C]", inner, 0..4)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

/// Any JSON in which no object has a key twice.
struct Unique;

impl<'de> serde::Deserialize<'de> for Unique {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Unique, D::Error> {
        deserializer.deserialize_any(Unique)
    }
}

impl<'de> serde::de::Visitor<'de> for Unique {
    type Value = Unique;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("JSON")
    }
    fn visit_unit<E>(self) -> Result<Unique, E> {
        Ok(Unique)
    }
    fn visit_bool<E>(self, _: bool) -> Result<Unique, E> {
        Ok(Unique)
    }
    fn visit_i64<E>(self, _: i64) -> Result<Unique, E> {
        Ok(Unique)
    }
    fn visit_u64<E>(self, _: u64) -> Result<Unique, E> {
        Ok(Unique)
    }
    fn visit_f64<E>(self, _: f64) -> Result<Unique, E> {
        Ok(Unique)
    }
    fn visit_str<E>(self, _: &str) -> Result<Unique, E> {
        Ok(Unique)
    }
    fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut items: A) -> Result<Unique, A::Error> {
        while items.next_element::<Unique>()?.is_some() {}
        Ok(Unique)
    }
    fn visit_map<A: serde::de::MapAccess<'de>>(self, mut members: A) -> Result<Unique, A::Error> {
        let mut keys = std::collections::HashSet::new();
        while let Some((key, _)) = members.next_entry::<String, Unique>()? {
            if !keys.insert(key.clone()) {
                return Err(serde::de::Error::custom(format!("`{key}` is there twice")));
            }
        }
        Ok(Unique)
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]
    #[test]
    fn hashing_and_adding_leave_valid_json_without_a_key_twice_and_the_rest_as_it_was(
        value in any_json(), pretty in any::<bool>(), name in "[a-c](\\.[a-c]){0,2}", other in "[a-c](\\.[d-f]){0,2}",
    ) {
        prop_assume!(value.is_object());
        let text = if pretty { serde_json::to_string_pretty(&value).unwrap() } else { value.to_string() };
        let segments: Vec<&str> = name.split('.').collect();
        let (hidden, shown) = (hashed(&[&name], &text), added(&[&name], &text));
        for left in [&hidden, &shown, &added(&[&name, &other], &text)] {
            prop_assert!(serde_json::from_str::<Unique>(left).is_ok(), "{}: {:?}", left, serde_json::from_str::<Unique>(left).err());
        }
        let left: Value = serde_json::from_str(&hidden).unwrap();
        prop_assert_eq!(without(&left, &segments), without(&value, &segments));
        let left: Value = serde_json::from_str(&shown).unwrap();
        prop_assert_eq!(without(&left, &segments[..1]), without(&value, &segments[..1]));
        if segments.len() == 1 {
            prop_assert_eq!(&left[&name], &Value::from("added-0"));
        }
    }

    #[test]
    fn dropping_does_what_it_would_on_a_tree(value in any_json(), pretty in any::<bool>(), name in "[a-c](\\.[a-c]){0,2}") {
        prop_assume!(value.is_object());
        let text = if pretty { serde_json::to_string_pretty(&value).unwrap() } else { value.to_string() };
        let left: Value = serde_json::from_str(&dropped(&[&name], &text)).unwrap();
        prop_assert_eq!(left, without(&value, &name.split('.').collect::<Vec<_>>()));
    }
}
