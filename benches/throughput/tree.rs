//! The same mapping by way of a tree: parse each record into a `serde_json::Value`, take the fields out, build the
//! document as a tree, print it. What one would write without a thought for speed.
//!
//! Comes in: a blob, and what is known beside the records. Goes out: one document a record, profile `auditferry`. It
//! follows the same rules as `normalize` (docs/fields.md), for the record types of the corpus, and shares with it the
//! tables alone (record types, operations, user types, applications) and how a single address, time or user agent is
//! read: that both make the same document says something about both.

mod cmdlet;
mod content;
mod defender;
mod dlp;
mod doc;
mod others;
mod people;
mod place;
mod rest;

use auditferry::enrich::application as well_known;
use auditferry::normalize::operations;
use auditferry::record::address::{self, Address};
use auditferry::record::types;
use serde_json::{Map, Value, json};

use crate::CONTEXT;
use doc::{Doc, is_somebody, last_value, list, member, set_address, set_user, text, texts, whole};
pub use place::Tables;

type Record = Map<String, Value>;

/// Appends the documents of all records of a blob.
pub fn documents(blob: &[u8], tables: &mut Tables, out: &mut Vec<u8>) {
    let records: Vec<Record> = serde_json::from_slice(blob).unwrap();
    for record in records {
        serde_json::to_writer(&mut *out, &document(record, tables)).unwrap();
    }
}

fn document(mut record: Record, tables: &mut Tables) -> Value {
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
        Some(number @ (1 | 10)) => cmdlet::administration(&record, &mut doc, number, &operation),
        Some(2 | 3 | 19 | 29 | 50 | 101) => content::mailbox(&record, &mut doc),
        Some(number @ (4 | 6 | 7 | 14 | 36 | 37 | 54 | 55 | 56 | 102)) => {
            content::sharepoint(&mut record, &mut doc, number);
        }
        Some(25 | 49 | 57 | 59 | 60 | 73 | 92 | 206 | 230 | 293 | 462) => {
            content::teams(&mut record, &mut doc, &operation);
        }
        Some(number @ (11 | 13 | 33 | 63 | 99 | 100 | 107)) => dlp::describe(&record, &mut doc, number, &operation),
        Some(40 | 78 | 98 | 113 | 307) => content::alert(&mut record, &mut doc),
        Some(28) => defender::mail(&record, &mut doc),
        Some(41) => defender::click(&record, &mut doc),
        Some(47) => defender::file(&record, &mut doc),
        Some(64 | 86 | 89) => defender::investigation(&record, &mut doc),
        Some(65) => others::quarantine(&record, &mut doc),
        Some(24 | 261 | 20 | 21 | 22 | 30) => others::describe(&mut record, &mut doc, &operation),
        _ => {
            let url = ["ObjectId", "ResourceUrl"].iter().filter_map(|name| text(&record, name)).find(|url| is_url(url));
            set_url(&mut doc, url);
            doc.set_text("file.name", text(&record, "ResourceTitle").or_else(|| text(&record, "FormName")));
        }
    }
    finish(&mut doc);
    related(&mut doc);
    tables.look_up(&mut doc);
    if record_type == Some(294) && !doc.has("source.geo") {
        people::place_of_risk(&record, &mut doc);
    }
    doc.set("o365.audit", rest::shaped(record));
    Value::Object(doc.root)
}

/// Fields that are lists in ECS and that are moved from somewhere.
const LISTS: [&str; 2] = ["email.from.address", "email.to.address"];

/// Moves a field: what is placed is not repeated below `o365.audit`.
fn take(record: &mut Record, doc: &mut Doc, path: &str, name: &str) {
    let Some(value) = record.get(name) else { return };
    let is_list =
        LISTS.contains(&path) && value.as_array().is_some_and(|list| list.iter().all(|one| doc::scalar(one).is_some()));
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

/// Operations that say by their name that something did not happen.
const FAILED: [&str; 6] = [
    "UserLoginFailed",
    "SharingInvitationBlocked",
    "UnmanagedSyncClientBlocked",
    "FileAccessFailure",
    "MessageAccessFailure",
    "CommunityAccessFailure",
];

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
        _ if FAILED.contains(&operation) => Some("failure"),
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
        // A guest who came by a link has the address behind the number sign; SharePoint's own account is nobody.
        match id.strip_prefix("urn:spo:guest#") {
            Some(guest) => set_address(doc, "user", guest),
            None if id.eq_ignore_ascii_case("app@sharepoint") => {}
            None => set_address(doc, "user", &id),
        }
        doc.set("user.id", id);
    }
    for name in ["TargetUserId", "TargetUser", "RecipientUPN"] {
        if let Some(target) = text(record, name).filter(|target| doc::address(target).is_some()) {
            set_user(doc, "user.target", &target);
        }
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
    // A number is no address, and a text with a backslash in it is none of the forms that are sent.
    let sent = |name| record.get(name).and_then(Value::as_str).filter(|text| !text.contains('\\'));
    let addresses = ["ClientIPAddress", "ClientIP", "ActorIpAddress"].map(|name| sent(name).and_then(Address::parse));
    for ip in addresses.iter().flatten().filter_map(|address| address.ip) {
        doc.add("related.ip", ip.to_string());
    }
    if let Some(best) = address::best(addresses) {
        set_source(doc, best);
    }
}

/// Says where the actor was.
fn set_source(doc: &mut Doc, from: Address) {
    for side in ["source", "client"] {
        let mut place = json!({"address": from.ip.map_or(from.text.to_owned(), |ip| ip.to_string())});
        if let Some(ip) = from.ip {
            place["ip"] = ip.to_string().into();
        }
        if let Some(port) = from.port {
            place["port"] = port.into();
        }
        if let Some(domain) = from.domain {
            place["domain"] = domain.into();
        }
        doc.set(side, place);
    }
    if let Some(ip) = from.ip {
        doc.set("network.type", if ip.is_ipv4() { "ipv4" } else { "ipv6" });
        doc.add("related.ip", ip.to_string());
    }
}

/// The address that a text is, where it is one.
fn add_ip(doc: &mut Doc, text: Option<String>) {
    if let Some(ip) = text.as_deref().and_then(Address::parse).and_then(|address| address.ip) {
        doc.add("related.ip", ip.to_string());
    }
}

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
    let id = said(&["AppId", "ApplicationId", "ClientAppId", "AADAppId"]).or_else(|| member(context, "ClientAppId"));
    let name = said(&["ApplicationDisplayName"]).or_else(|| member(context, "ClientAppName"));
    let name = name.or_else(|| well_known(id.as_deref()?).map(str::to_owned));
    doc.set_text("auditferry.application.id", id);
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
        add_ip(doc, text(record, name));
    }
}

fn is_url(text: &str) -> bool {
    text.starts_with("https://") || text.starts_with("http://")
}

fn host_of(url: &str) -> Option<String> {
    let (_, rest) = url.split_once("://")?;
    let authority = rest.split(['/', '?', '#', '\\']).next()?;
    let host = authority.rsplit('@').next()?.split(':').next()?;
    Some(host.to_owned())
}

/// The address of something on the web, and its host.
fn set_url(doc: &mut Doc, url: Option<String>) {
    let Some(url) = url.filter(|url| is_url(url)) else { return };
    doc.set_text("url.domain", host_of(&url));
    doc.set("url.original", url);
}

/// What follows from the facts of a family.
fn finish(doc: &mut Doc) {
    if let Some(name) = doc.text("file.name")
        && let Some((stem, extension)) = name.rsplit_once('.')
        && !stem.is_empty()
    {
        doc.fill_text("file.extension", Some(extension.to_owned()));
    }
    const PEOPLE: [&str; 5] =
        ["email.sender.address", "email.from.address", "email.to.address", "email.cc.address", "email.bcc.address"];
    for path in PEOPLE {
        for person in doc.get(path).map(texts).unwrap_or_default() {
            doc.add_person(&person);
        }
    }
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
    const HOSTS: &[&str] = &["host.name", "source.domain", "server.domain", "destination.domain", "url.domain"];
    const HASHES: &[&str] = &["file.hash.md5", "file.hash.sha1", "file.hash.sha256"];
    for (list, fields) in [("related.user", USERS), ("related.hosts", HOSTS), ("related.hash", HASHES)] {
        for text in fields.iter().filter_map(|field| doc.get(field)).flat_map(texts).collect::<Vec<_>>() {
            if is_somebody(&text) {
                doc.add(list, text);
            }
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
