//! The index template against the engine that is to take it: a real OpenSearch is given the template and the document of
//! every fixture, in both profiles, as a data stream. It refuses none, and finds them by what they mean.

use std::path::Path;

use auditferry::normalize::Profile;
use reqwest::Method;
use serde_json::{Value, json};

use crate::derived::HOSTILE;
use crate::mapping::CASES;
use crate::real::opensearch::OpenSearch;

/// Documents of one request: together far below what the engine takes (100 MB).
const BULK: usize = 200;

#[tokio::test(flavor = "multi_thread")]
async fn opensearch_takes_the_template_and_every_document() {
    let engine = OpenSearch::start().await;
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/opensearch/index-template.json");
    let template = std::fs::read_to_string(path).unwrap();
    engine.ask(Method::PUT, "/_index_template/auditferry", template.clone()).await;
    let cases = CASES.iter().filter(|case| !HOSTILE.contains(&case.name.as_str()));
    let documents: Vec<(&str, Profile, &Value)> = cases
        .flat_map(|case| Profile::ALL.map(|profile| (case.name.as_str(), profile, case.document(profile))))
        .collect();
    let mut refused = Vec::new();
    for some in documents.chunks(BULK) {
        let lines: String = some
            .iter()
            .map(|(_, profile, document)| {
                let stream = format!("logs-o365.audit-{}", profile.as_str());
                format!("{}\n{document}\n", json!({ "create": { "_index": stream } }))
            })
            .collect();
        let said = engine.ask(Method::POST, "/_bulk?refresh=true", lines).await;
        let items = said["items"].as_array().unwrap();
        assert_eq!(items.len(), some.len());
        for (item, (name, profile, _)) in items.iter().zip(some) {
            if let Some(error) = item["create"].get("error") {
                refused.push(format!(
                    "{name}, {}: {} {}",
                    profile.as_str(),
                    error["reason"],
                    error["caused_by"]["reason"]
                ));
            }
        }
    }
    assert!(refused.is_empty(), "{refused:#?}");
    let count = async |query: Value| {
        let body = json!({ "query": query }).to_string();
        engine.ask(Method::POST, "/logs-o365.audit-*/_count", body).await["count"].as_u64().unwrap()
    };
    assert_eq!(count(json!({ "match_all": {} })).await, documents.len() as u64);
    for query in [
        json!({ "term": { "source.ip": "203.0.113.0/24" } }),
        json!({ "term": { "event.category": "iam" } }),
        json!({ "range": { "file.size": { "gt": 1 } } }),
        json!({ "range": { "event.severity": { "gte": 3 } } }),
        json!({ "exists": { "field": "o365.audit.Parameters.ForwardTo" } }),
        json!({ "term": { "o365.audit.UserType": "2" } }),
        json!({ "nested": { "path": "email.attachments", "query": { "exists": { "field": "email.attachments.file.name" } } } }),
    ] {
        assert!(count(query.clone()).await > 0, "nothing is found by {query}");
    }
    // What the template does not name lies below `o365.audit`.
    let mappings = engine.ask(Method::GET, "/logs-o365.audit-*/_mapping", String::new()).await;
    let known: Value = serde_json::from_str(&template).unwrap();
    for (index, mapping) in mappings.as_object().unwrap() {
        for (name, _) in mapping["mappings"]["properties"].as_object().unwrap() {
            let is_named = !known["template"]["mappings"]["properties"][name].is_null();
            assert!(is_named, "{index}: `{name}` is not of the template");
        }
    }
}
