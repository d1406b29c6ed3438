//! The same mapping by way of a tree: parse each record into a `serde_json::Value`, take the fields out, build the
//! document as a tree, print it. What one would write without a thought for speed.
//!
//! Comes in: a blob. Goes out: one document a record, profile `auditferry`. Written from the rules and not from the
//! code of `normalize`, of which it knows the tables alone (record types, operations, user types) and how a single
//! address or time is read: that both make the same document says something about both.

mod content;
mod doc;
mod people;
mod rest;

use std::net::IpAddr;

use auditferry::normalize::operations;
use auditferry::record::address::{self, Address};
use auditferry::record::types;
use serde_json::{Map, Value, json};

use crate::CONTEXT;
use doc::{Doc, last_value, list, member, set_user, text, texts, whole};

type Record = Map<String, Value>;

/// Appends the documents of all records of a blob.
pub fn documents(blob: &[u8], out: &mut Vec<u8>) {
    let records: Vec<Record> = serde_json::from_slice(blob).unwrap();
    for record in records {
        serde_json::to_writer(&mut *out, &document(record)).unwrap();
    }
}

fn document(mut record: Record) -> Value {
    let mut doc = Doc::default();
    doc.set("ecs.version", "8.17.0");
    doc.set("data_stream", json!({"type": "logs", "dataset": "o365.audit", "namespace": "default"}));
    doc.set("event", json!({"kind": "event", "module": "o365", "dataset": "o365.audit"}));
    doc.set("auditferry.content_type", CONTEXT.content_type.unwrap().as_str());
    doc.set("auditferry.key", key(&record));
    let record_type = record.get("RecordType").and_then(whole);
    let operation = text(&record, "Operation").unwrap_or_default();
    event(&mut record, &mut doc, record_type, &operation);
    user(&mut record, &mut doc);
    source(&record, &mut doc);
    organization(&mut record, &mut doc);
    application(&record, &mut doc);
    mail_and_file(&mut record, &mut doc);
    match record_type {
        Some(8) => people::directory(&record, &mut doc),
        Some(294) => people::risk(&record, &mut doc),
        Some(9 | 15 | 275) => people::sign_in(&record, &mut doc, &operation),
        Some(1 | 10) => people::cmdlet(&record, &mut doc, &operation),
        Some(2 | 3 | 19 | 29 | 50 | 101) => content::mailbox(&record, &mut doc),
        Some(4 | 6 | 7 | 14 | 36 | 37 | 54 | 55 | 56 | 102) => content::sharepoint(&mut record, &mut doc),
        Some(25 | 49 | 57 | 59 | 60 | 73 | 92 | 206 | 230 | 293 | 462) => {
            content::teams(&mut record, &mut doc, &operation);
        }
        Some(number @ (11 | 13 | 33 | 63 | 99 | 100 | 107)) => content::dlp(&record, &mut doc, number, &operation),
        Some(40 | 78 | 98 | 113 | 307) => content::alert(&mut record, &mut doc),
        Some(28 | 41 | 47 | 62 | 64 | 86 | 89 | 51 | 65 | 18 | 24 | 20 | 30 | 45 | 46 | 22 | 261) => {}
        _ => set_url(&mut doc, text(&record, "ObjectId")),
    }
    related(&mut doc);
    doc.set("o365.audit", rest::shaped(record));
    Value::Object(doc.root)
}

/// Moves a field: what is placed is not repeated below `o365.audit`.
fn take(record: &mut Record, doc: &mut Doc, path: &str, name: &str) {
    let Some(value) = record.get(name) else { return };
    let is_list = value.as_array().is_some_and(|list| list.iter().all(|one| doc::scalar(one).is_some()));
    if let Some(text) = doc::scalar(value) {
        doc.set(path, text);
    } else if is_list && !texts(value).is_empty() {
        doc.set(path, Value::Null);
        texts(value).into_iter().for_each(|text| doc.add(path, text));
    } else {
        return;
    }
    record.remove(name);
}

fn event(record: &mut Record, doc: &mut Doc, record_type: Option<i64>, operation: &str) {
    if let Some(sent) = text(record, "CreationTime") {
        doc.set_time("@timestamp", Some(sent.clone()));
        let exact = sent.trim_end_matches('Z').len();
        if doc.has("@timestamp") && (exact == 19 || exact == 23) && sent.contains('T') {
            record.remove("CreationTime");
        }
    }
    if let Some(name) = record_type.and_then(types::name) {
        doc.set("event.code", name);
    }
    if let Some(row) = operations::find(operation) {
        row.categories.iter().for_each(|category| doc.add("event.category", category.as_str()));
        row.types.iter().for_each(|kind| doc.add("event.type", kind.as_str()));
    }
    let status = text(record, "ResultStatus").unwrap_or_default().to_lowercase();
    let outcome = match status.as_str() {
        _ if operation == "UserLoginFailed" => Some("failure"),
        "succeeded" | "success" | "partiallysucceeded" | "true" => Some("success"),
        "failed" | "failure" | "false" => Some("failure"),
        _ => None,
    };
    doc.set_text("event.outcome", outcome.map(str::to_owned));
    if let Some(severity) = severity(text(record, "Severity")) {
        doc.set("event.severity", severity);
    }
    for (path, name) in [("event.id", "Id"), ("event.action", "Operation"), ("event.provider", "Workload")] {
        take(record, doc, path, name);
    }
}

fn severity(text: Option<String>) -> Option<i64> {
    match text?.to_lowercase().as_str() {
        "informational" => Some(1),
        "low" => Some(2),
        "medium" => Some(3),
        "high" => Some(4),
        _ => None,
    }
}

fn user(record: &mut Record, doc: &mut Doc) {
    if let Some(id) = text(record, "UserId") {
        set_user(doc, "user", &id);
    }
    let user_type = text(record, "UserType").and_then(|number| types::user_type(&number).map(str::to_owned));
    doc.set_text("auditferry.user_type", user_type);
    take(record, doc, "user_agent.original", "UserAgent");
    if !doc.has("user_agent.original") {
        let properties = list(record, "ExtendedProperties");
        let agent = last_value(properties, "UserAgent").or_else(|| {
            let details = last_value(properties, "additionalDetails")?;
            member(&serde_json::from_str(&details).ok()?, "User-Agent")
        });
        doc.set_text("user_agent.original", agent);
    }
}

fn source(record: &Record, doc: &mut Doc) {
    let texts = ["ClientIPAddress", "ClientIP", "ActorIpAddress"].map(|name| text(record, name));
    let addresses = [0, 1, 2].map(|index: usize| texts[index].as_deref().and_then(Address::parse));
    for ip in addresses.iter().flatten().filter_map(|address| address.ip) {
        doc.add("related.ip", ip.to_string());
    }
    let Some(best) = address::best(addresses) else { return };
    for side in ["source", "client"] {
        doc.set(&format!("{side}.address"), best.ip.map_or(best.text.to_owned(), |ip| ip.to_string()));
        if let Some(ip) = best.ip {
            doc.set(&format!("{side}.ip"), ip.to_string());
        }
        if let Some(port) = best.port {
            doc.set(&format!("{side}.port"), port);
        }
        doc.set_text(&format!("{side}.domain"), best.domain.map(str::to_owned));
    }
    if let Some(ip) = best.ip {
        doc.set("network.type", if ip.is_ipv4() { "ipv4" } else { "ipv6" });
        place(ip, doc);
    }
}

/// Where a look-up of `source.geo` and `source.as` belongs: a record of the database into a struct, that into a
/// value, that into the document. Ours has its own in `document::Fields::value`, for `Kind::LookUp`.
fn place(_ip: IpAddr, _doc: &mut Doc) {}

fn organization(record: &mut Record, doc: &mut Doc) {
    let said = text(record, "OrganizationId");
    if said.is_some() {
        record.remove("OrganizationId");
    }
    let id = said.unwrap_or_else(|| CONTEXT.tenant_id.to_owned()).to_lowercase();
    let name = match id == CONTEXT.tenant_id {
        true => Some(CONTEXT.tenant_name.to_owned()),
        false => text(record, "OrganizationName"),
    };
    for path in ["organization.id", "cloud.account.id"] {
        doc.set(path, id.clone());
    }
    for path in ["organization.name", "cloud.account.name"] {
        doc.set_text(path, name.clone());
    }
    doc.set_text("cloud.service.name", doc.text("event.provider"));
}

fn application(record: &Record, doc: &mut Doc) {
    let context = record.get("AppAccessContext").unwrap_or(&Value::Null);
    let said = |names: &[&str]| names.iter().find_map(|name| text(record, name));
    let id = said(&["AppId", "ApplicationId", "ClientAppId"]).or_else(|| member(context, "ClientAppId"));
    doc.set_text("auditferry.application.id", id);
    let name = said(&["ApplicationDisplayName"]).or_else(|| member(context, "ClientAppName"));
    doc.set_text("auditferry.application.name", name);
    doc.set_text("device.id", member(context, "DeviceId").or_else(|| said(&["DeviceId"])));
}

fn mail_and_file(record: &mut Record, doc: &mut Doc) {
    for (path, name) in [
        ("email.message_id", "InternetMessageId"),
        ("email.local_id", "NetworkMessageId"),
        ("email.sender.address", "P1Sender"),
        ("email.from.address", "P2Sender"),
        ("email.subject", "Subject"),
    ] {
        take(record, doc, path, name);
    }
    if let Some(from) = doc.text("email.from.address") {
        doc.set("email.from.address", vec![from]);
    }
    doc.set_text("file.extension", text(record, "FileExtension"));
    doc.set_text("file.path", text(record, "FilePath").or_else(|| text(record, "TargetFilePath")));
    doc.set_text("url.domain", text(record, "OriginatingDomain"));
    doc.set_text("file.hash.sha1", text(record, "Sha1"));
    doc.set_text("file.hash.sha256", text(record, "Sha256"));
    let size = ["FileSizeBytes", "FileSize"].iter().find_map(|name| record.get(*name).and_then(whole));
    if let Some(size) = size {
        doc.set("file.size", size);
    }
    match record.get("Recipients").cloned() {
        Some(Value::Array(_)) => take(record, doc, "email.to.address", "Recipients"),
        Some(Value::String(written)) => {
            let inside = written.trim_start_matches('[').trim_end_matches(']');
            inside.split([',', ';']).for_each(|one| doc.add_text("email.to.address", one.trim().to_owned()));
        }
        _ => {}
    }
    for name in ["SenderIp", "SenderIP"] {
        let sender = text(record, name);
        if let Some(ip) = sender.as_deref().and_then(Address::parse).and_then(|address| address.ip) {
            doc.add("related.ip", ip.to_string());
        }
    }
}

/// The address of something on the web, and its host.
fn set_url(doc: &mut Doc, url: Option<String>) {
    let Some(url) = url.filter(|url| url.starts_with("https://") || url.starts_with("http://")) else { return };
    let (_, rest) = url.split_once("://").unwrap();
    let authority = rest.split(['/', '?', '#', '\\']).next().unwrap_or_default();
    let host = authority.rsplit('@').next().and_then(|host| host.split(':').next());
    doc.set_text("url.domain", host.map(str::to_owned));
    doc.set("url.original", url);
}

/// What a person would search for, from wherever it stands.
fn related(doc: &mut Doc) {
    const USERS: &[&str] = &[
        "user.name",
        "user.id",
        "user.email",
        "user.target.name",
        "user.target.id",
        "user.target.email",
        "user.changes.email",
        "file.owner",
    ];
    const HOSTS: &[&str] = &["host.name", "host.hostname", "source.domain", "server.domain", "url.domain"];
    const HASHES: &[&str] = &["file.hash.md5", "file.hash.sha1", "file.hash.sha256"];
    for (list, fields) in [("related.user", USERS), ("related.hosts", HOSTS), ("related.hash", HASHES)] {
        for text in fields.iter().filter_map(|field| doc.text(field)).collect::<Vec<_>>() {
            doc.add(list, text);
        }
    }
}

/// The record key, spelt out once more (record/key.rs); every record of the corpus has an `Id`.
fn key(record: &Record) -> String {
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
