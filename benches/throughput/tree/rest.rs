//! `o365.audit` of the tree: what of the record has no other place, in shapes that Elasticsearch can keep.

use serde_json::{Map, Value, json};

use super::doc::{embedded, whole};

/// Numbers that are names.
const AS_STRINGS: [&str; 9] = [
    "RecordType",
    "UserType",
    "Version",
    "InternalLogonType",
    "LogonType",
    "AzureActiveDirectoryEventType",
    "ActorYammerUserId",
    "YammerNetworkId",
    "ListBaseType",
];

/// Lists of objects.
const OF_OBJECTS: [&str; 17] = [
    "Actor",
    "AffectedItems",
    "AlertLinks",
    "AttachmentData",
    "Attendees",
    "AuthDetails",
    "DeviceProperties",
    "ExtraProperties",
    "Folders",
    "Members",
    "MembershipInformation",
    "Messages",
    "PolicyDetails",
    "PropertyCollection",
    "SharingInformation",
    "SystemOverrides",
    "Target",
];

/// Gives the fields that need one their shape.
pub fn shaped(mut record: Map<String, Value>) -> Value {
    for name in AS_STRINGS {
        if let Some(value) = record.get_mut(name).filter(|value| value.is_number()) {
            // However it is spelt: `4.0E1` is 40.
            *value = whole(value).map_or(value.to_string(), |number| number.to_string()).into();
        }
    }
    for name in ["Parameters", "ExtendedProperties"] {
        if let Some(value) = record.get_mut(name) {
            *value = by_name(value.take());
        }
    }
    if let Some(value) = record.get_mut("ModifiedProperties") {
        *value = old_and_new(value.take());
    }
    for name in ["Actor", "Target"] {
        for identity in record.get_mut(name).and_then(Value::as_array_mut).into_iter().flatten() {
            if let Some(kind) = identity.get_mut("Type").filter(|kind| kind.is_number()) {
                *kind = kind.to_string().into();
            }
        }
    }
    for name in OF_OBJECTS {
        match record.get_mut(name) {
            Some(Value::Array(list)) => list.iter_mut().for_each(|one| *one = other(one.take())),
            Some(value) => *value = other(value.take()),
            None => {}
        }
    }
    for name in ["OperationProperties", "AdditionalInfo", "CopilotEventData"] {
        if let Some(value) = record.get_mut(name)
            && let Value::String(text) = value
        {
            *value = parsed(text);
        }
    }
    if let Some(Value::String(text)) = record.get("Data") {
        let inside = embedded(text).filter(Value::is_object).unwrap_or_else(|| json!({"_raw": text}));
        record.insert("Data".to_owned(), json!({"flattened": inside}));
    }
    if let Some(value) = record.get_mut("ExceptionInfo").filter(|value| value.is_string()) {
        *value = json!({"Reason": value.take()});
    }
    for name in ["Item", "Folder"] {
        if let Some(value) = record.get_mut(name).filter(|value| !value.is_array()) {
            *value = other(value.take());
        }
    }
    // Elasticsearch takes no name that is empty.
    if !record.contains_key("_")
        && let Some(value) = record.remove("")
    {
        record.insert("_".to_owned(), value);
    }
    for (name, instead) in [("Sender", "SenderEntity"), ("Message", "MessageObject"), ("Location", "LocationObject")] {
        if record.get(name).is_some_and(Value::is_object) && !record.contains_key(instead) {
            let value = record.remove(name).unwrap();
            record.insert(instead.to_owned(), value);
        }
    }
    Value::Object(record)
}

/// The JSON inside of a text.
fn parsed(text: &str) -> Value {
    embedded(text).unwrap_or_else(|| json!({"_raw": text}))
}

/// A value that is an object or a list becomes a text.
fn flat(value: &Value) -> Value {
    match value {
        Value::Object(_) | Value::Array(_) => value.to_string().into(),
        other => other.clone(),
    }
}

fn name_of<'a>(entry: &'a Value, known: &[&str]) -> Option<&'a str> {
    let is_known = |name: &String| name == "Name" || name == "Key" || known.contains(&name.as_str());
    if !entry.as_object()?.keys().all(is_known) {
        return None;
    }
    entry.get("Name").or(entry.get("Key"))?.as_str()
}

fn insert(object: &mut Map<String, Value>, lists: &mut Vec<String>, name: &str, value: Value) {
    let name = match name {
        "" => "_",
        // What is odd stands there.
        "_raw" => "_raw_",
        name => name,
    };
    match object.get_mut(name) {
        None => _ = object.insert(name.to_owned(), value),
        Some(Value::Array(list)) if lists.iter().any(|known| known == name) => list.push(value),
        Some(first) => {
            *first = Value::Array(vec![first.take(), value]);
            lists.push(name.to_owned());
        }
    }
}

fn by_name(value: Value) -> Value {
    let Value::Array(list) = value else { return other(value) };
    let (mut object, mut lists, mut odd) = (Map::new(), Vec::new(), Vec::new());
    for entry in list {
        let (Some(name), Some(value)) = (name_of(&entry, &["Value"]), entry.get("Value")) else {
            odd.push(entry);
            continue;
        };
        let value = match value {
            Value::String(text) if name == "additionalDetails" => parsed(text),
            value => flat(value),
        };
        insert(&mut object, &mut lists, &name.replace('.', "_"), value);
    }
    with_odd(object, odd)
}

fn old_and_new(value: Value) -> Value {
    let Value::Array(list) = value else { return other(value) };
    let (mut object, mut lists, mut odd) = (Map::new(), Vec::new(), Vec::new());
    for entry in list {
        let Some(name) = name_of(&entry, &["OldValue", "NewValue"]) else {
            odd.push(entry);
            continue;
        };
        let mut pair = Map::new();
        for side in ["NewValue", "OldValue"] {
            if let Some(value) = entry.get(side) {
                pair.insert(side.to_owned(), flat(value));
            }
        }
        insert(&mut object, &mut lists, &name.replace(['.', ' '], "_"), Value::Object(pair));
    }
    with_odd(object, odd)
}

/// What of a list has no name stands below `_raw`, as texts.
fn with_odd(mut object: Map<String, Value>, odd: Vec<Value>) -> Value {
    if !odd.is_empty() {
        let texts = odd.into_iter().map(|one| if one.is_string() { one } else { one.to_string().into() });
        object.insert("_raw".to_owned(), texts.collect());
    }
    Value::Object(object)
}

/// What has another shape than is expected.
fn other(value: Value) -> Value {
    match value {
        Value::Object(_) | Value::Null => value,
        Value::String(_) => json!({"_raw": value}),
        _ => json!({"_raw": value.to_string()}),
    }
}
