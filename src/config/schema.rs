//! The JSON Schema of the file (draft-07, which yaml-language-server and the editors built on it read): made of
//! the same declarations as the reading, so that neither can know a key that the other does not.
//!
//! Comes in: the sections. Goes out: one document. It says less than `validate`: shapes, names, spellings and
//! what must be there, not what contradicts what. Scalars may refer to variables (`${…}`), so every pattern
//! lets that pass; a key without a value is as good as none.

use serde_json::{Value as Json, json};

use super::file::{File, SINK_TYPES};
use super::values::FromNode;
use super::when;

pub(super) type Schema = Json;

/// A scalar that refers to something.
const REFERENCE: &str = r"\$\{";

/// What must be there: where in the document (`sink kafka`: in that type of sink), and which keys. What `tenant_defaults` may give is not among them.
const NEEDED: &[(&str, &[&str])] = &[
    // A workload identity may bring the `tenant_id`.
    ("/properties/tenants/items", &["name"]),
    ("/properties/clock", &["origin_ms", "anchor_ms"]),
    ("/properties/tenants/items/properties/auth/properties/certificate", &["file"]),
    ("/properties/tenant_defaults/properties/auth/properties/certificate", &["file"]),
    ("sink file", &["path"]),
    ("sink splunk_hec", &["url", "token"]),
    ("sink elasticsearch/properties/auth/properties/basic", &["username", "password"]),
    ("sink elasticsearch/properties/auth/properties/header", &["name", "value"]),
    ("sink elasticsearch/properties/auth/properties/oauth2", &["token_url", "client_id", "client_secret"]),
    ("sink elasticsearch/properties/auth/properties/entra", &["scope"]),
    ("sink kafka", &["brokers", "topic"]),
    // With OAUTHBEARER neither name nor password.
    ("sink kafka/properties/sasl", &["mechanism"]),
    ("sink kafka/properties/sasl/properties/token/properties/oidc", &["token_url", "client_id", "client_secret"]),
    ("sink stdout/properties/hash_fields", &["key", "fields"]),
    ("sink file/properties/hash_fields", &["key", "fields"]),
    ("sink splunk_hec/properties/hash_fields", &["key", "fields"]),
    ("sink elasticsearch/properties/hash_fields", &["key", "fields"]),
    ("sink kafka/properties/hash_fields", &["key", "fields"]),
    ("sink syslog", &["address"]),
    ("sink syslog/properties/hash_fields", &["key", "fields"]),
    ("sink http", &["url"]),
    ("sink http/properties/signature", &["secret"]),
    ("sink http/properties/auth/properties/basic", &["username", "password"]),
    ("sink http/properties/auth/properties/header", &["name", "value"]),
    ("sink http/properties/auth/properties/oauth2", &["token_url", "client_id", "client_secret"]),
    ("sink http/properties/hash_fields", &["key", "fields"]),
];
/// What a tenant has for itself.
const OF_ONE_TENANT: [&str; 2] = ["name", "tenant_id"];

/// Where in the document a place of [`NEEDED`] is.
fn pointer(place: &str) -> String {
    let Some((kind, rest)) = place.strip_prefix("sink ").map(|of| of.split_once('/').unwrap_or((of, ""))) else {
        return place.to_owned();
    };
    let number = SINK_TYPES.iter().position(|known| *known == kind).unwrap_or(usize::MAX);
    format!("/properties/sinks/items/allOf/{number}/then{}{rest}", if rest.is_empty() { "" } else { "/" })
}

/// The whole document.
pub fn document() -> Json {
    let mut document = File::schema();
    document["$schema"] = json!("http://json-schema.org/draft-07/schema#");
    document["title"] = json!("auditferry");
    document["required"] = json!(["sinks"]);
    document["anyOf"] = json!([{ "required": ["tenants"] }, { "required": ["tenants_from"] }]);
    for (place, keys) in NEEDED {
        let pointer = pointer(place);
        debug_assert!(document.pointer(&pointer).is_some(), "{place}");
        if let Some(section) = document.pointer_mut(&pointer) {
            section["required"] = json!(keys);
        }
    }
    if let Some(Json::Object(keys)) = document.pointer_mut("/properties/tenant_defaults/properties") {
        keys.retain(|key, _| !OF_ONE_TENANT.contains(&key.as_str()));
    }
    document["definitions"] = when::definitions().into_iter().collect();
    document
}

pub(super) fn text() -> Schema {
    json!({ "type": ["string", "number", "boolean"] })
}

/// A text that is wholly of this shape.
pub(super) fn pattern(shape: &str) -> Schema {
    json!({ "type": "string", "pattern": format!("^({shape})$|{REFERENCE}") })
}

pub(super) fn boolean() -> Schema {
    json!({ "type": ["boolean", "string"], "pattern": format!("^(true|True|TRUE|false|False|FALSE)$|{REFERENCE}") })
}

/// `integer` or `number`.
pub(super) fn number(kind: &str) -> Schema {
    json!({ "type": [kind, "string"], "pattern": format!("^-?[0-9.]+$|{REFERENCE}") })
}

pub(super) fn size() -> Schema {
    let units = "^[0-9]+ *(B|[KMGT]iB|[kKMGT]B)?$";
    json!({ "type": ["string", "integer"], "minimum": 0, "pattern": format!("{units}|{REFERENCE}") })
}

pub(super) fn one_of<'a>(names: impl IntoIterator<Item = &'a str>) -> Schema {
    choice(names, json!({ "type": "string", "pattern": REFERENCE }))
}

/// One of these names, or `other`.
pub(super) fn choice<'a>(names: impl IntoIterator<Item = &'a str>, other: Schema) -> Schema {
    any_of([json!({ "enum": names.into_iter().collect::<Vec<_>>() }), other])
}

pub(super) fn any_of(schemas: impl IntoIterator<Item = Schema>) -> Schema {
    json!({ "anyOf": schemas.into_iter().collect::<Vec<_>>() })
}

pub(super) fn items(item: Schema) -> Schema {
    json!({ "type": "array", "items": item })
}

/// A list; a single plain value is a list of one.
pub(super) fn list(item: Schema) -> Schema {
    let is_mapping = item["type"] == "object" || item.get("allOf").is_some();
    if is_mapping { items(item) } else { any_of([items(item.clone()), item]) }
}

pub(super) fn pairs() -> Schema {
    json!({ "type": "object", "additionalProperties": { "type": ["string", "number", "boolean", "null"] } })
}

pub(super) fn reference(definition: &str) -> Schema {
    json!({ "$ref": format!("#/definitions/{definition}") })
}

/// A mapping with these keys and no others.
pub(super) fn mapping(keys: Vec<(&str, Schema)>) -> Schema {
    let keys: serde_json::Map<_, _> =
        keys.into_iter().map(|(key, value)| (key.to_owned(), or_nothing(value))).collect();
    json!({ "type": "object", "properties": keys, "additionalProperties": false })
}

/// With what is said of the key.
pub(super) fn described(schema: Schema, says: &[&str]) -> Schema {
    let says: Vec<&str> = says.iter().map(|line| line.trim()).collect();
    if says.is_empty() {
        return schema;
    }
    // Draft-07 reads nothing beside a reference.
    let mut schema = if schema.get("$ref").is_some() { any_of([schema]) } else { schema };
    schema["description"] = json!(says.join(" "));
    schema
}

/// A mapping whose `type` decides which keys there are beside `common`.
pub(super) fn by_type(common: Vec<(&str, Schema)>, kinds: Vec<(&str, Vec<(&str, Schema)>)>) -> Schema {
    let names: Vec<&str> = kinds.iter().map(|(name, _)| *name).collect();
    let branch = |(name, own): (&str, Vec<(&str, Schema)>)| {
        let mut keys = common.clone();
        keys.extend(own);
        let mut then = mapping(keys);
        then["properties"]["type"] = json!({ "const": name });
        json!({ "if": { "required": ["type"], "properties": { "type": { "const": name } } }, "then": then })
    };
    let branches: Vec<Json> = kinds.into_iter().map(branch).collect();
    json!({
        "type": "object",
        "required": ["name", "type"],
        "properties": { "type": one_of(names) },
        "allOf": branches,
    })
}

/// A key may stand there without a value.
fn or_nothing(mut schema: Schema) -> Schema {
    let nothing = json!("null");
    if let Some(Json::Array(all)) = schema.get_mut("anyOf") {
        all.push(json!({ "type": "null" }));
    } else if let Some(types) = schema.get_mut("type") {
        match types {
            Json::Array(types) => types.push(nothing),
            one => *one = json!([one.take(), nothing]),
        }
    }
    schema
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::file::ALL_KEYS;

    /// Every schema below `properties`, by its key.
    fn properties(schema: &Json, found: &mut Vec<(String, Json)>) {
        match schema {
            Json::Object(members) => {
                for (name, value) in members {
                    if name == "properties"
                        && let Json::Object(keys) = value
                    {
                        found.extend(keys.iter().map(|(key, schema)| (key.clone(), schema.clone())));
                    }
                    properties(value, found);
                }
            }
            Json::Array(items) => items.iter().for_each(|item| properties(item, found)),
            _ => {}
        }
    }

    #[test]
    fn every_key_is_in_the_schema_with_a_shape_and_none_of_a_later_release() {
        let mut found = Vec::new();
        properties(&document(), &mut found);
        for (section, keys) in ALL_KEYS {
            for key in *keys {
                assert!(found.iter().any(|(name, _)| name == key), "`{key}` of {section} is not in the schema");
            }
        }
        let shapes = ["type", "anyOf", "allOf", "$ref", "const"];
        for (key, schema) in &found {
            assert!(shapes.iter().any(|shape| schema.get(shape).is_some()), "`{key}` accepts anything: {schema}");
        }
        assert!(!found.iter().any(|(name, _)| name == "detect"), "`detect` is of a later release");
    }

    #[test]
    fn what_is_needed_is_where_it_is_said_to_be() {
        let document = document();
        for (place, keys) in NEEDED.iter().filter(|(_, keys)| !keys.is_empty()) {
            let section = document.pointer(&pointer(place)).unwrap_or_else(|| panic!("nothing at {place}"));
            assert!(keys.iter().all(|key| section["properties"].get(key).is_some()), "{place}: {section}");
        }
        assert!(document["properties"]["tenant_defaults"]["properties"].get("name").is_none());
    }
}
