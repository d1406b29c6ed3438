//! What is written from the mapping's tables: docs/fields.md, the index templates below deploy/, docs/event.schema.json.
//! Each is exactly what the tables say, and every fixture's document, in both profiles, is one of the schema.
//!
//! After a change of a table: `UPDATE_DOCS=1 cargo test --test it derived`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;

use auditferry::normalize::base;
use auditferry::normalize::ecs::{Ecs, Kind, LOOK_UPS, OF_ERRORS, Origin, Shape, written};
use auditferry::normalize::family::{self, How, Rule};
use auditferry::normalize::profile::{DIFFERENCES, Profile};
use auditferry::normalize::rest::SHAPES;
use auditferry::record::types;
use serde_json::{Map, Value, json};

use crate::mapping::{ALLOWED, CASES};
use crate::schema::judge;

/// Writes the file anew where that is asked for, and holds it against what it should be.
fn hold(path: &str, wanted: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, wanted).unwrap();
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(kept == wanted, "{}: write it anew: UPDATE_DOCS=1 cargo test --test it derived", path.display());
}

// ---- docs/fields.md

fn type_of(kind: Kind) -> &'static str {
    match kind {
        Kind::Keyword => "keyword",
        Kind::Text => "match_only_text",
        Kind::Wildcard => "wildcard",
        Kind::Ip => "ip",
        Kind::Long => "long",
        Kind::Float => "float",
        Kind::Date => "date",
        Kind::Boolean => "boolean",
        Kind::GeoPoint => "geo_point",
        Kind::Nested => "nested",
        Kind::LookUp => "see below",
    }
}

fn type_words(field: Ecs) -> String {
    let list = if field.shape() == Shape::List { ", list" } else { "" };
    let origin = match field.origin() {
        Origin::Ecs => "",
        Origin::Ours => "; ours",
        Origin::ElasticOnly => "; not of ECS",
    };
    format!("{}{list}{origin}", type_of(field.kind()))
}

/// What a cell of a table may hold.
fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}

fn rule_rows(rules: &[Rule]) -> String {
    let mut rules: Vec<&Rule> = rules.iter().collect();
    rules.sort_by_key(|rule| rule.to);
    let mut rows = String::from("| field | type | from | rule |\n|---|---|---|---|\n");
    for rule in rules {
        let (from, how) = match rule.how {
            How::Copied(from) => (format!("`{}`", from.as_str()), "as sent".to_owned()),
            How::Moved(from) => (format!("`{}`", from.as_str()), "as sent; not repeated below `o365.audit`".to_owned()),
            How::Made { of, rule } => (cell(of), cell(rule)),
        };
        writeln!(rows, "| `{}` | {} | {from} | {how} |", rule.to.path(), type_words(rule.to)).unwrap();
    }
    rows
}

fn fields_page() -> String {
    let mut page = String::from(
        "# Fields\n\n\
         What of a record stands where in an ECS document (`format: ecs`, `normalize --format ecs`). Written from the tables of\n\
         `src/normalize` (`UPDATE_DOCS=1 cargo test --test it derived`), which the program maps by.\n\n\
         How to read it: [every record](#every-record) has the first table, and then that of the *family* of its `RecordType`, which\n\
         may say better what the first table said. *From* names fields of the record as Microsoft sends it; `a.b` is a member, `a[]` an\n\
         element. Where the record is silent nothing is written: no field, no empty text, no guess. What has no field in ECS, and\n\
         whatever the tables do not say they have moved, stands below [`o365.audit`](#below-o365audit) by Microsoft's name. Types are those\n\
         of the [index template](../deploy/elasticsearch/index-template.json); the shape of a document is\n\
         [docs/event.schema.json](event.schema.json). Several values of a field that is no list are written as one all the same, which\n\
         Elasticsearch takes for every field.\n\n\
         | family | record types |\n|---|---|\n",
    );
    for family in family::ALL {
        let mut numbers = family.record_types.to_vec();
        numbers.sort_unstable();
        let names: Vec<String> =
            numbers.iter().map(|number| format!("{number} {}", types::name(*number).unwrap_or_default())).collect();
        let names = if names.is_empty() { "all others".to_owned() } else { names.join(", ") };
        writeln!(page, "| [{0}](#{1}) | {names} |", family.name, anchor(family.name)).unwrap();
    }
    writeln!(page, "\n## Every record\n\n{}", rule_rows(base::RULES)).unwrap();
    for family in family::ALL {
        writeln!(page, "## {}\n", family.name).unwrap();
        match family.rules.is_empty() {
            true => page += "Nothing but what every record has.\n\n",
            false => writeln!(page, "{}", rule_rows(family.rules)).unwrap(),
        }
    }
    page += "## Looked up\n\nWhere `enrich` is asked for it.\n\n| field | type | by |\n|---|---|---|\n";
    for member in LOOK_UPS {
        let by = if member.at == Ecs::SourcePlace { "`source.ip`" } else { "`user_agent.original`" };
        writeln!(page, "| `{}` | {} | {by} |", member.path, type_of(member.kind)).unwrap();
    }
    page += "\n## Below o365.audit\n\n\
             A record's own fields, as sent, by Microsoft's names, but for these, which Elasticsearch would otherwise take for what they were\n\
             first sent as, or which rules and dashboards ask for by name. Nothing is left out: what has not the shape that is expected\n\
             stands whole under `_raw`.\n\n| fields | shape |\n|---|---|\n";
    for (fields, shape) in SHAPES {
        let names: Vec<String> = fields.iter().map(|field| format!("`{}`", field.as_str())).collect();
        writeln!(page, "| {} | {shape} |", names.join(", ")).unwrap();
    }
    page += "\n## The two profiles\n\n\
             `auditferry` is the mapping above. `elastic` is the same with the habits of Elastic's o365 integration, for its dashboards and\n\
             rules; these are all of the differences.\n\n| what | fields | `elastic` | why `auditferry` does not |\n|---|---|---|---|\n";
    for row in DIFFERENCES {
        let fields: Vec<String> = row.fields.iter().map(|field| format!("`{field}`")).collect();
        writeln!(page, "| {} | {} | {} | {} |", row.name, fields.join(", "), cell(row.elastic), cell(row.reason))
            .unwrap();
    }
    page += "\n## By field\n\nEvery field, and where its rule stands.\n\n| field | type | families |\n|---|---|---|\n";
    for field in Ecs::ALL {
        let in_base = base::RULES.iter().any(|rule| rule.to == *field).then_some("every record");
        let families = family::ALL.iter().filter(|family| family.rules.iter().any(|rule| rule.to == *field));
        let mut names: Vec<&str> = in_base.into_iter().chain(families.map(|family| family.name)).collect();
        if names.is_empty() {
            names.push("profile `elastic`");
        }
        writeln!(page, "| `{}` | {} | {} |", field.path(), type_words(*field), names.join(", ")).unwrap();
    }
    page
}

/// What a heading is linked by.
fn anchor(heading: &str) -> String {
    let kept = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_' || c == ' ';
    heading.to_ascii_lowercase().chars().filter(|c| kept(*c)).collect::<String>().replace(' ', "-")
}

#[test]
fn the_page_of_fields_is_the_tables() {
    hold("docs/fields.md", &fields_page());
}

/// A field without any rule is one that nobody can find out about.
#[test]
fn every_field_has_a_rule_or_is_of_a_difference() {
    let has_rule = |field: &Ecs| {
        let rules = base::RULES.iter().chain(family::ALL.iter().flat_map(|family| family.rules));
        rules.map(|rule| rule.to).any(|to| to == *field)
    };
    let differs = |field: &Ecs| {
        let covers = |name: &&str| field.path() == *name || field.path().starts_with(&format!("{name}."));
        DIFFERENCES.iter().any(|row| row.fields.iter().any(&covers))
    };
    // Of what nobody could read there is only a pipeline error.
    let of_records = Ecs::ALL.iter().filter(|field| **field != Ecs::ErrorMessage);
    let orphans: Vec<&str> =
        of_records.filter(|field| !has_rule(field) && !differs(field)).map(|field| field.path()).collect();
    assert!(orphans.is_empty(), "no rule writes {orphans:?}");
}

// ---- the index templates

/// Puts `leaf` at a dotted name, through objects of `inside` (`properties`).
fn put(into: &mut Map<String, Value>, path: &str, leaf: Value) {
    let (mut object, mut names) = (into, path.split('.').peekable());
    while let Some(name) = names.next() {
        if names.peek().is_none() {
            object.insert(name.to_owned(), leaf);
            return;
        }
        let below = object.entry(name).or_insert_with(|| json!({ "properties": {} }));
        object = below["properties"].as_object_mut().unwrap();
    }
}

/// Who reads the template.
#[derive(Clone, Copy, PartialEq)]
enum Engine {
    Elasticsearch,
    OpenSearch,
}

/// A keyword as ECS maps it.
fn keyword() -> Value {
    json!({ "type": "keyword", "ignore_above": 1024 })
}

fn mapping_of(path: &str, kind: Kind, engine: Engine) -> Value {
    // Whole records, as long as they come: kept, and not looked into.
    if path == Ecs::EventOriginal.path() || OF_ERRORS.iter().any(|(name, _)| *name == path) {
        return json!({ "type": "keyword", "index": false, "doc_values": false });
    }
    match kind {
        // Elasticsearch gives these three to every data stream.
        Kind::Keyword if path.starts_with("data_stream.") && engine == Engine::Elasticsearch => {
            json!({ "type": "constant_keyword" })
        }
        Kind::Keyword => keyword(),
        Kind::Nested => json!({ "type": "nested", "properties": { "file": { "properties": {
            "extension": keyword(), "name": keyword(), "size": { "type": "long" },
            "hash": { "properties": { "md5": keyword(), "sha1": keyword(), "sha256": keyword() } },
        } } } }),
        _ => json!({ "type": type_of(kind) }),
    }
}

fn index_template(engine: Engine) -> Value {
    let mut properties = Map::new();
    for (path, kind) in written() {
        put(&mut properties, path, mapping_of(path, kind, engine));
    }
    let flattened = if engine == Engine::Elasticsearch { "flattened" } else { "flat_object" };
    let mut data = json!({ "type": flattened });
    if engine == Engine::Elasticsearch {
        // A leaf longer than Lucene's longest term would refuse the document. OpenSearch's kind has no such setting.
        data["ignore_above"] = json!(8191);
    }
    put(&mut properties, "o365.audit.Data.flattened", data);
    // Whatever one workload sends as a number another sends as text. By kind, because `*` would take objects too.
    let of_record = ["string", "long", "double", "boolean"].map(|kind| {
        let rule = json!({ "path_match": "o365.audit.*", "match_mapping_type": kind, "mapping": keyword() });
        json!({ format!("o365_audit_{kind}"): rule })
    });
    let others = json!({ "others": { "match_mapping_type": "string", "mapping": keyword() } });
    let templates: Vec<Value> = of_record.into_iter().chain([others]).collect();
    let mut limit = json!({ "total_fields": { "limit": 5000 } });
    if engine == Engine::Elasticsearch {
        // Elasticsearch 8.14: a field beyond the limit is kept without an index, and the document is not refused.
        limit["total_fields"]["ignore_dynamic_beyond_limit"] = true.into();
    }
    json!({
        "index_patterns": ["logs-o365.audit-*"],
        "data_stream": {},
        // Above the engine's own `logs-*-*` (100), below Elastic's o365 integration (200), whose assets win where they are.
        "priority": 150,
        "_meta": {
            "description": "Microsoft 365 audit records by auditferry; written from the tables of its mapping (docs/fields.md)",
            "ecs_version": Profile::Auditferry.ecs_version(),
        },
        "template": {
            "settings": { "index": { "mapping": limit, "codec": "best_compression" } },
            "mappings": {
                "dynamic": true,
                "date_detection": false,
                "numeric_detection": false,
                "dynamic_templates": templates,
                "properties": properties,
            },
        },
    })
}

fn pretty(value: &Value) -> String {
    serde_json::to_string_pretty(value).unwrap() + "\n"
}

#[test]
fn the_index_templates_are_the_tables() {
    hold("deploy/elasticsearch/index-template.json", &pretty(&index_template(Engine::Elasticsearch)));
    hold("deploy/opensearch/index-template.json", &pretty(&index_template(Engine::OpenSearch)));
}

/// What a mapping makes of each name below `o365.audit`: a value, or an object with members. No index takes both.
fn shapes(value: &Value, path: &str, found: &mut BTreeMap<String, BTreeSet<&'static str>>) {
    match value {
        // One field, whatever it holds.
        _ if path == "o365.audit.Data.flattened" => {}
        Value::Object(members) => {
            found.entry(path.to_owned()).or_default().insert("object");
            for (name, value) in members {
                shapes(value, &format!("{path}.{name}"), found);
            }
        }
        Value::Array(all) => all.iter().for_each(|one| shapes(one, path, found)),
        Value::Null => {}
        _ => _ = found.entry(path.to_owned()).or_default().insert("value"),
    }
}

/// Records that have an object where the schema has a text, or the other way around: an index refuses those, as it should,
/// and the dead letters keep them.
pub const HOSTILE: &[&str] = &[
    "generic/text-fields-as-objects",
    "generic/no-id-and-nothing-where-text-belongs",
    "generic/record-type-of-the-future",
    // More levels than an index has.
    "generic/deep-nesting",
];

#[test]
fn no_field_below_o365_audit_is_both_a_value_and_an_object() {
    let mut found = BTreeMap::new();
    for case in CASES.iter().filter(|case| !HOSTILE.contains(&case.name.as_str())) {
        shapes(&case.auditferry["o365"]["audit"], "o365.audit", &mut found);
    }
    let both: Vec<&String> = found.iter().filter(|(_, kinds)| kinds.len() > 1).map(|(path, _)| path).collect();
    assert!(both.is_empty(), "an index would refuse documents: {both:#?}");
    let bad: Vec<&String> = found.keys().filter(|path| path.split('.').any(|name| name.trim().is_empty())).collect();
    assert!(bad.is_empty(), "an index would refuse these names: {bad:#?}");
}

// ---- docs/event.schema.json

fn value_schema(path: &str, kind: Kind) -> Value {
    match (path, kind) {
        ("event.kind", _) => json!({ "enum": ["event", "alert", "pipeline_error"] }),
        ("event.outcome", _) => json!({ "enum": ["success", "failure", "unknown"] }),
        ("event.category", _) => json!({ "enum": ALLOWED.iter().map(|(category, _)| *category).collect::<Vec<_>>() }),
        ("event.type", _) => json!({ "enum": ALLOWED.iter().flat_map(|(_, types)| *types).collect::<BTreeSet<_>>() }),
        ("ecs.version", _) => json!({ "enum": Profile::ALL.map(Profile::ecs_version) }),
        ("auditferry.key", _) => json!({ "type": "string", "pattern": "^[0-9a-f]{32}$" }),
        (_, Kind::Keyword | Kind::Text | Kind::Wildcard) => json!({ "type": "string" }),
        (_, Kind::Ip) => json!({ "type": "string", "pattern": "^[0-9A-Fa-f:.]+$" }),
        (_, Kind::Long) => json!({ "type": "integer" }),
        (_, Kind::Float) => json!({ "type": "number" }),
        (_, Kind::Boolean) => json!({ "type": "boolean" }),
        (_, Kind::Date) => json!({
            "type": "string", "format": "date-time",
            "pattern": "^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}([.][0-9]+)?Z$",
        }),
        (_, Kind::GeoPoint) => json!({
            "type": "object", "required": ["lat", "lon"], "additionalProperties": false,
            "properties": { "lat": { "type": "number" }, "lon": { "type": "number" } },
        }),
        (_, Kind::Nested) => json!({
            "type": "object", "additionalProperties": false,
            "properties": { "file": { "type": "object", "additionalProperties": false, "properties": {
                "extension": { "type": "string" }, "name": { "type": "string" }, "size": { "type": "integer" },
                "hash": { "type": "object", "additionalProperties": false, "properties": {
                    "md5": { "type": "string" }, "sha1": { "type": "string" }, "sha256": { "type": "string" },
                } },
            } } },
        }),
        (_, Kind::LookUp) => unreachable!("its members are looked up"),
    }
}

/// Of a field: a value, or a list.
fn field_schema(path: &str, kind: Kind, shape: Shape) -> Value {
    let one = value_schema(path, kind);
    let fixed = ["@timestamp", "ecs.", "data_stream.", "event.kind", "event.outcome", "event.id", "auditferry."];
    match shape {
        Shape::List => json!({ "type": "array", "minItems": 1, "uniqueItems": true, "items": one }),
        Shape::One if fixed.iter().any(|start| path.starts_with(start)) => one,
        Shape::One => json!({ "anyOf": [one, { "type": "array", "minItems": 2, "items": one }] }),
    }
}

fn event_schema() -> Value {
    let mut properties = Map::new();
    for (path, kind) in written() {
        let shape = Ecs::of(path).map_or(Shape::One, Ecs::shape);
        put(&mut properties, path, field_schema(path, kind, shape));
    }
    let of_record = |kinds: &[&str]| json!({ "type": kinds });
    let mut audit = Map::new();
    for name in ["Parameters", "ExtendedProperties", "ModifiedProperties"] {
        audit.insert(name.to_owned(), of_record(&["object", "null"]));
    }
    for name in ["RecordType", "UserType", "Version", "LogonType", "InternalLogonType", "AzureActiveDirectoryEventType"]
    {
        audit.insert(name.to_owned(), json!({ "not": { "type": ["number"] } }));
    }
    put(
        &mut properties,
        "o365.audit",
        json!({
            "description": "the record's own fields, by Microsoft's names, but for those that moved", "type": "object", "properties": audit,
        }),
    );
    let mut schema = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "An audit record as an ECS document of auditferry",
        "description": "Of either profile, before a sink's drop_fields, hash_fields and add_fields. Written from the tables of the mapping (docs/fields.md).",
        "type": "object",
        "required": ["ecs", "data_stream", "event", "auditferry"],
        "properties": properties,
    });
    close(&mut schema);
    schema["properties"]["event"]["required"] = json!(["kind", "module", "dataset"]);
    schema["properties"]["auditferry"]["required"] = json!(["key"]);
    schema["properties"]["o365"]["properties"]["audit"].as_object_mut().unwrap().remove("additionalProperties");
    schema
}

/// Objects of the tables have the members of the tables and no other.
fn close(value: &mut Value) {
    let Value::Object(members) = value else { return };
    if members.contains_key("properties") {
        members.entry("type").or_insert_with(|| "object".into());
        members.entry("additionalProperties").or_insert(false.into());
    }
    if let Some(Value::Object(properties)) = members.get_mut("properties") {
        properties.values_mut().for_each(close);
    }
}

#[test]
fn the_schema_of_the_event_is_the_tables() {
    hold("docs/event.schema.json", &pretty(&event_schema()));
}

#[test]
fn every_document_is_one_of_the_schema_and_what_is_not_is_refused() {
    let mut documents: Vec<Value> = CASES.iter().flat_map(|case| [&case.auditferry, &case.elastic]).cloned().collect();
    let good = documents.len();
    let mut broken = |pointer: &str, value: Value| {
        let mut document = documents[0].clone();
        let (parent, name) = pointer.rsplit_once('/').unwrap();
        document.pointer_mut(parent).unwrap()[name] = value;
        documents.push(document);
    };
    broken("/event/kind", "surprise".into());
    broken("/event/category", "iam".into());
    broken("/user", json!({ "nmae": "x" }));
    broken("/nothing", json!({}));
    broken("/auditferry/key", "x".into());
    broken("/file", json!({ "size": "12" }));
    broken("/o365/audit/UserType", 0.into());
    let said = judge("Draft202012Validator", &event_schema(), &documents);
    let wrong: Vec<_> = said[..good]
        .iter()
        .zip(&documents)
        .filter_map(|(fault, document)| Some((fault.as_ref()?, &document["event"]["action"])))
        .collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(said[good..].iter().all(Option::is_some), "a broken one was taken: {:?}", &said[good..]);
}
