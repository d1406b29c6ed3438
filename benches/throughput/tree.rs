//! The same mapping by way of a tree: parse each record into a `serde_json::Value`, take the fields
//! out, build the document with `json!`, print it. What one would write without a thought for speed.

use auditferry::record::address::{self, Address};
use auditferry::record::{instant, types};
use serde_json::{Map, Value, json};

use crate::CONTEXT;

/// Appends the documents of all records of a blob.
pub fn documents(blob: &[u8], out: &mut Vec<u8>) {
    let records: Vec<Map<String, Value>> = serde_json::from_slice(blob).unwrap();
    for record in records {
        serde_json::to_writer(&mut *out, &document(record)).unwrap();
    }
}

fn text(record: &Map<String, Value>, name: &str) -> Option<String> {
    match record.get(name)? {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(value) => Some(value.to_string()),
        _ => None,
    }
    .filter(|text| !text.is_empty())
}

fn document(mut record: Map<String, Value>) -> Value {
    let key = key(&record);
    let mut event = json!({"kind": "event", "module": "o365", "dataset": "o365.audit"});
    let mut doc = json!({
        "ecs": {"version": "8.17.0"},
        "data_stream": {"type": "logs", "dataset": "o365.audit", "namespace": "default"},
        "auditferry": {"key": key, "content_type": CONTEXT.content_type.unwrap().as_str()},
    });
    let record_type = text(&record, "RecordType").and_then(|number| number.parse().ok());
    if record_type == Some(40) {
        event["kind"] = "alert".into();
    }
    if let Some(name) = record_type.and_then(types::name) {
        event["code"] = name.into();
    }
    let operation = text(&record, "Operation");
    let outcome = match text(&record, "ResultStatus").map(|status| status.to_lowercase()).as_deref() {
        _ if operation.as_deref() == Some("UserLoginFailed") => Some("failure"),
        Some("succeeded" | "success" | "partiallysucceeded" | "true") => Some("success"),
        Some("failed" | "failure" | "false") => Some("failure"),
        _ => None,
    };
    if let Some(outcome) = outcome {
        event["outcome"] = outcome.into();
    }
    for (field, name) in [("Id", "id"), ("Operation", "action"), ("Workload", "provider")] {
        if let Some(value) = text(&record, field) {
            event[name] = value.into();
            record.remove(field);
        }
    }
    doc["event"] = event;
    if let Some(ms) = text(&record, "CreationTime").and_then(|time| instant::parse_ms(&time)) {
        let mut time = Vec::new();
        instant::write_ms(ms, &mut time);
        doc["@timestamp"] = String::from_utf8(time).unwrap().into();
        record.remove("CreationTime");
    }
    organization(&mut record, &mut doc);
    user(&mut record, &mut doc);
    source(&record, &mut doc);
    for name in [
        "RecordType",
        "UserType",
        "Version",
        "InternalLogonType",
        "LogonType",
        "AzureActiveDirectoryEventType",
        "ActorYammerUserId",
        "YammerNetworkId",
        "ListBaseType",
    ] {
        if let Some(value) = record.get_mut(name)
            && value.is_number()
        {
            *value = value.to_string().into();
        }
    }
    doc["o365"] = json!({"audit": record});
    doc
}

fn organization(record: &mut Map<String, Value>, doc: &mut Value) {
    let id = text(record, "OrganizationId").unwrap_or_else(|| CONTEXT.tenant_id.to_owned()).to_lowercase();
    let name = match id == CONTEXT.tenant_id {
        true => Some(CONTEXT.tenant_name.to_owned()),
        false => text(record, "OrganizationName"),
    };
    record.remove("OrganizationId");
    doc["organization"] = json!({"id": id});
    if let Some(name) = name {
        doc["organization"]["name"] = name.into();
    }
}

fn user(record: &mut Map<String, Value>, doc: &mut Value) {
    if let Some(id) = text(record, "UserId") {
        let mut related = vec![id.clone()];
        let mut user = json!({"id": id});
        let parts: Vec<&str> = id.split('@').collect();
        if let [name, domain] = parts[..]
            && !name.is_empty()
            && !domain.is_empty()
        {
            user["name"] = name.into();
            user["domain"] = domain.into();
            user["email"] = id.clone().into();
            related.push(name.to_owned());
        }
        doc["user"] = user;
        doc["related"]["user"] = related.into();
    }
    let agent = text(record, "UserAgent").or_else(|| {
        let properties = record.get("ExtendedProperties")?.as_array()?;
        let entry = properties.iter().rfind(|entry| entry["Name"] == "UserAgent")?;
        Some(entry["Value"].as_str()?.to_owned()).filter(|agent| !agent.is_empty())
    });
    if let Some(agent) = agent {
        doc["user_agent"] = json!({"original": agent});
        record.remove("UserAgent");
    }
}

fn source(record: &Map<String, Value>, doc: &mut Value) {
    let texts = ["ClientIPAddress", "ClientIP", "ActorIpAddress"].map(|name| text(record, name));
    let addresses = [0, 1, 2].map(|index: usize| texts[index].as_deref().and_then(Address::parse));
    let Some(best) = address::best(addresses) else { return };
    let mut source = json!({"address": best.ip.map_or(best.text.to_owned(), |ip| ip.to_string())});
    if let Some(ip) = best.ip {
        source["ip"] = ip.to_string().into();
        let mut related: Vec<String> = Vec::new();
        for ip in addresses.iter().flatten().filter_map(|address| address.ip) {
            if !related.contains(&ip.to_string()) {
                related.push(ip.to_string());
            }
        }
        doc["related"]["ip"] = related.into();
    }
    if let Some(port) = best.port {
        source["port"] = port.into();
    }
    if let Some(domain) = best.domain {
        source["domain"] = domain.into();
    }
    doc["source"] = source;
}

/// The record key, spelt out once more (record/key.rs); every record of the corpus has an `Id`.
fn key(record: &Map<String, Value>) -> String {
    let mut input = vec![1];
    let mut part = |text: &str| {
        input.push(text.len() as u8);
        input.extend_from_slice(text.as_bytes());
    };
    part(CONTEXT.tenant_id);
    part(&text(record, "Id").unwrap().to_lowercase());
    for name in ["CreationTime", "RecordType", "Operation"] {
        part(&text(record, name).unwrap_or_default());
    }
    blake3::hash(&input).to_hex()[..32].to_owned()
}
