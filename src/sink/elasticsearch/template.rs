//! The index template for a sink's target, as the cluster's version takes it. Pure.
//!
//! Comes in: what the cluster is, the target, the format. Goes out: a name and a body. The mapping of ECS documents is that of
//! `deploy/`, which is written from the tables that documents are made by; here it is fitted to names and versions only.

use serde_json::{Value, json};

use super::engine::{Engine, Product};
use crate::config::{Format, IndexTarget};

const FOR_ELASTICSEARCH: &str = include_str!("../../../deploy/elasticsearch/index-template.json");
const FOR_OPENSEARCH: &str = include_str!("../../../deploy/opensearch/index-template.json");
/// What says that a template is ours.
const OURS: &str = "by auditferry";
/// Characters that a pattern must have before its `*`: a shorter one would take other people's indices.
const LEAST_FIXED: usize = 3;
/// The name of ours that are about all of our indices.
const NAME: &str = "auditferry";

/// A template, ready to be installed.
#[derive(Clone, Debug, PartialEq)]
pub struct Template {
    pub name: String,
    /// Of the names it is for.
    pub pattern: String,
    pub body: Value,
    /// Of the body without what says whose it is: the same for the same template.
    pub digest: String,
}

impl Template {
    /// The template of a target; why there can be none. `policy`: the name of a lifecycle policy to put in.
    pub fn of(
        engine: &Engine,
        target: &IndexTarget,
        format: Format,
        policy: Option<&str>,
    ) -> Result<Template, &'static str> {
        let mut body = match format {
            Format::Raw => of_records(),
            _ => of_documents(engine),
        };
        let (name, pattern) = match target {
            IndexTarget::DataStream(stream) => {
                body["data_stream"] = json!({});
                if knows_failure_store(engine) {
                    body["template"]["data_stream_options"] = json!({ "failure_store": { "enabled": false } });
                }
                let of = format!("{}-{}", stream.kind, stream.dataset);
                (if of == "logs-o365.audit" { NAME.to_owned() } else { format!("{NAME}-{of}") }, format!("{of}-*"))
            }
            IndexTarget::Index(text) => {
                if let Some(members) = body.as_object_mut() {
                    members.remove("data_stream");
                }
                let fixed = text.split('{').next().unwrap_or_default();
                if fixed.len() < LEAST_FIXED {
                    return Err(
                        "its name begins with a place, so a template would take other indices too: let `index` begin with three fixed characters at least, or install a template of your own",
                    );
                }
                // The whole pattern is in the name, so two sinks with other patterns have other templates; of two that
                // overlap the narrower wins. All stand between the engine's own (100) and those of data streams (150).
                let is_whole = fixed.len() == text.len();
                let length = fixed.len() + usize::from(is_whole);
                body["priority"] = json!(100 + length.min(49));
                match is_whole {
                    true => (format!("{NAME}-index-{fixed}"), fixed.to_owned()),
                    false => (format!("{NAME}-indices-{fixed}"), format!("{fixed}*")),
                }
            }
        };
        body["index_patterns"] = json!([pattern]);
        let settings = &mut body["template"]["settings"]["index"];
        if let Some(policy) = policy {
            settings["lifecycle"] = json!({ "name": policy });
        }
        if engine.product == Product::Serverless {
            // Nodes, shards and codecs are not ours there; a stream rolls over by itself.
            body["template"]["settings"] = json!({});
            if matches!(target, IndexTarget::DataStream(_)) {
                body["template"]["lifecycle"] = json!({});
            }
        }
        let digest = blake3::hash(body.to_string().as_bytes()).to_hex()[..16].to_owned();
        body["_meta"]["managed_by"] = json!(NAME);
        body["_meta"]["digest"] = json!(digest);
        Ok(Template { name, pattern, body, digest })
    }
}

/// Whether it has failure stores ("Failure store": Elasticsearch 8.19 and 9.1, Serverless). Ours is without one: there what
/// the mapping refuses would be answered as if it were taken, and the dead letters have it anyway.
fn knows_failure_store(engine: &Engine) -> bool {
    match engine.product {
        Product::Elasticsearch => engine.version >= (9, 1) || (engine.version.0 == 8 && engine.version.1 >= 19),
        Product::Serverless => true,
        Product::OpenSearch | Product::Unknown => false,
    }
}

/// Whether an installed template (the object with `_meta` in it) is of ours, installed by `setup` or by hand.
pub(super) fn is_ours(installed: &Value) -> bool {
    let said = |key: &str| installed["_meta"][key].as_str().unwrap_or_default();
    said("managed_by") == NAME || said("description").contains(OURS)
}

/// What a template of ours says it holds.
pub(super) fn digest_of(installed: &Value) -> &str {
    installed["_meta"]["digest"].as_str().unwrap_or_default()
}

fn of_documents(engine: &Engine) -> Value {
    let is_open = engine.product == Product::OpenSearch;
    // Both are read by tests; null would be refused by any cluster.
    let mut body: Value =
        serde_json::from_str(if is_open { FOR_OPENSEARCH } else { FOR_ELASTICSEARCH }).unwrap_or(Value::Null);
    let mut replace = |kind: &str, by: Value| {
        replace_kind(&mut body["template"]["mappings"]["properties"], kind, &by);
    };
    let keyword = json!({ "type": "keyword", "ignore_above": 1024 });
    // From which version each kind of field is known. With its compatibility override OpenSearch hides its version.
    let version = if is_open && engine.version.0 > 3 { (1, 0) } else { engine.version };
    match engine.product {
        Product::OpenSearch => {
            if version < (2, 7) {
                replace("flat_object", json!({ "type": "object", "enabled": false }));
            }
            if version < (2, 12) {
                replace("match_only_text", json!({ "type": "text" }));
            }
            if version < (2, 15) {
                replace("wildcard", keyword);
            }
        }
        Product::Elasticsearch => {
            if version < (7, 9) {
                replace("wildcard", keyword);
            }
            if version < (7, 14) {
                replace("match_only_text", json!({ "type": "text" }));
            }
        }
        Product::Serverless | Product::Unknown => {}
    }
    if version < (8, 14)
        && let Some(limits) = body["template"]["settings"]["index"]["mapping"]["total_fields"].as_object_mut()
    {
        limits.remove("ignore_dynamic_beyond_limit");
    }
    body
}

/// Replaces each field of one kind, wherever it stands.
fn replace_kind(properties: &mut Value, kind: &str, by: &Value) {
    let Some(fields) = properties.as_object_mut() else { return };
    for field in fields.values_mut() {
        if field["type"] == kind {
            *field = by.clone();
        } else if !field["properties"].is_null() {
            replace_kind(&mut field["properties"], kind, by);
        }
    }
}

/// For records as Microsoft sends them. What one workload sends as a number another sends as text, so all of it is text.
fn of_records() -> Value {
    let rules: Vec<Value> = ["string", "long", "double", "boolean"]
        .map(|kind| {
            let mapping = json!({ "type": "keyword", "ignore_above": 1024 });
            json!({ format!("o365_{kind}"): { "match_mapping_type": kind, "mapping": mapping } })
        })
        .into();
    json!({
        "priority": 150,
        "_meta": { "description": "Microsoft 365 audit records as sent by Microsoft, by auditferry" },
        "template": {
            "settings": { "index": { "mapping": { "total_fields": { "limit": 5000 } }, "codec": "best_compression" } },
            "mappings": {
                "date_detection": false, "numeric_detection": false, "dynamic_templates": rules,
                "properties": { "CreationTime": { "type": "date" } },
            },
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::DataStream;

    fn engine(product: Product, version: (u32, u32)) -> Engine {
        Engine { product, version, ..Engine::unknown() }
    }

    fn stream(name: &str) -> IndexTarget {
        IndexTarget::DataStream(DataStream::parse(name).unwrap())
    }

    fn kinds(value: &Value, found: &mut std::collections::BTreeSet<String>) {
        if let Value::Object(members) = value {
            for (name, value) in members {
                match value.as_str().filter(|_| name == "type") {
                    Some(kind) => _ = found.insert(kind.to_owned()),
                    None => kinds(value, found),
                }
            }
        }
    }

    fn of(product: Product, version: (u32, u32)) -> (Value, std::collections::BTreeSet<String>) {
        let engine = engine(product, version);
        let template = Template::of(&engine, &stream("logs-o365.audit-default"), Format::Ecs, None).unwrap();
        let mut found = std::collections::BTreeSet::new();
        kinds(&template.body["template"]["mappings"]["properties"], &mut found);
        (template.body, found)
    }

    #[test]
    fn a_version_is_given_no_kind_of_field_and_no_setting_that_it_does_not_know() {
        let has = |product, version, kind: &str| of(product, version).1.contains(kind);
        assert!(has(Product::OpenSearch, (2, 19), "flat_object") && has(Product::OpenSearch, (3, 0), "wildcard"));
        for kind in ["flat_object", "match_only_text", "wildcard", "flattened", "constant_keyword"] {
            assert!(!has(Product::OpenSearch, (1, 3), kind) && !has(Product::OpenSearch, (7, 10), kind), "{kind}");
        }
        assert!(
            !has(Product::OpenSearch, (2, 11), "match_only_text") && has(Product::OpenSearch, (2, 11), "flat_object")
        );
        assert!(has(Product::Elasticsearch, (8, 17), "flattened") && has(Product::Elasticsearch, (7, 17), "wildcard"));
        assert!(!has(Product::Elasticsearch, (7, 13), "match_only_text"));
        let limit = |version| {
            of(Product::Elasticsearch, version).0["template"]["settings"]["index"]["mapping"]["total_fields"].clone()
        };
        assert_eq!(limit((8, 13)), json!({ "limit": 5000 }));
        assert_eq!(limit((8, 14)), json!({ "limit": 5000, "ignore_dynamic_beyond_limit": true }));
        let serverless = of(Product::Serverless, (8, 11)).0;
        assert_eq!(serverless["template"]["settings"], json!({}));
        assert_eq!(serverless["template"]["lifecycle"], json!({}));
    }

    #[test]
    fn a_stream_has_no_failure_store_where_the_version_knows_one() {
        let enabled = |product, version| of(product, version).0["template"]["data_stream_options"].clone();
        let off = json!({ "failure_store": { "enabled": false } });
        for (version, expected) in [((8, 18), &Value::Null), ((8, 19), &off), ((9, 0), &Value::Null), ((9, 1), &off)] {
            assert_eq!(&enabled(Product::Elasticsearch, version), expected, "{version:?}");
        }
        assert_eq!(enabled(Product::Serverless, (8, 11)), off);
        assert!(enabled(Product::OpenSearch, (2, 19)).is_null());
    }

    #[test]
    fn a_template_is_for_the_names_of_its_target_and_says_whose_it_is() {
        let elastic = engine(Product::Elasticsearch, (9, 0));
        let of = |target: IndexTarget, format| Template::of(&elastic, &target, format, Some("auditferry"));
        let main = of(stream("logs-o365.audit-prod"), Format::Ecs).unwrap();
        assert_eq!((main.name.as_str(), main.pattern.as_str()), ("auditferry", "logs-o365.audit-*"));
        assert_eq!(main.body["template"]["settings"]["index"]["lifecycle"]["name"], "auditferry");
        assert!(is_ours(&main.body) && digest_of(&main.body) == main.digest);
        let by_hand: Value = serde_json::from_str(FOR_OPENSEARCH).unwrap();
        assert!(is_ours(&by_hand), "installed by hand");
        assert!(!is_ours(&json!({ "_meta": { "description": "o365 of a package" } })) && !is_ours(&json!({})));
        let other = of(stream("logs-m365-prod"), Format::Ecs).unwrap();
        assert_eq!((other.name.as_str(), other.pattern.as_str()), ("auditferry-logs-m365", "logs-m365-*"));
        let index = |text: &str| IndexTarget::Index(text.to_owned());
        let daily = of(index("o365-{content_type}-{day}"), Format::Raw).unwrap();
        assert_eq!((daily.name.as_str(), daily.pattern.as_str()), ("auditferry-indices-o365-", "o365-*"));
        assert!(daily.body.get("data_stream").is_none() && is_ours(&daily.body));
        assert_eq!(of(index("audit"), Format::Ecs).unwrap().pattern, "audit");
        let templates = ["audit", "audit{day}", "audit-{day}"].map(|text| of(index(text), Format::Ecs).unwrap());
        let names: std::collections::BTreeSet<&str> = templates.iter().map(|template| template.name.as_str()).collect();
        let priorities: std::collections::BTreeSet<i64> =
            templates.iter().filter_map(|template| template.body["priority"].as_i64()).collect();
        assert_eq!((names.len(), templates[1].pattern.as_str()), (3, "audit*"));
        assert!(priorities.iter().all(|priority| (101..150).contains(priority)), "{priorities:?}");
        let priority = |number: usize| templates[number].body["priority"].as_i64();
        assert!(priority(1) < priority(0) && priority(1) < priority(2), "the narrower wins: {priorities:?}");
        assert!(of(index("{tenant}-o365"), Format::Ecs).unwrap_err().contains("fixed characters"));
    }
}
