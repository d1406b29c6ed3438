//! Defender, by way of a tree: mail, clicks, files and investigations.

use auditferry::record::address::Address;
use serde_json::{Value, json};

use super::doc::{Doc, elements, embedded, extension, list, member, scalar, text, texts, whole};
use super::{Record, add_ip, host_of, is_url, set_source, set_url};

/// Record type 28.
pub fn mail(record: &Record, doc: &mut Doc) {
    doc.set("event.kind", "alert");
    meaning(doc, &["email", "threat"], &["info", "indicator"]);
    copies(record, doc);
    doc.set_text("rule.name", text(record, "Policy"));
    let direction = match text(record, "Directionality").unwrap_or_default().to_lowercase().as_str() {
        "inbound" => Some("inbound"),
        "outbound" => Some("outbound"),
        "intraorg" => Some("internal"),
        _ => None,
    };
    doc.set_text("email.direction", direction.map(str::to_owned));
    for found in record.get("ThreatsAndDetectionTech").map(texts).unwrap_or_default() {
        doc.add("event.reason", found);
    }
    doc.unlist("event.reason");
    doc.fill_text("event.reason", text(record, "DetectionMethod"));
    for attachment in list(record, "AttachmentData") {
        add_attachment(doc, attachment);
    }
    doc.unlist("threat.indicator.name");
}

/// A file of a mail; a bad one is an indicator of a threat.
fn add_attachment(doc: &mut Doc, attachment: &Value) {
    let name = member(attachment, "FileName");
    let hash = member(attachment, "SHA256").or_else(|| member(attachment, "Sha256"));
    let Some(indicator) = name.clone().or(hash.clone()) else { return };
    let mut file = json!({});
    if let Some(name) = name {
        if let Some(extension) = extension(&name).filter(|extension| !extension.is_empty()) {
            file["extension"] = extension.into();
        }
        file["name"] = name.into();
    }
    if let Some(hash) = hash {
        doc.add("related.hash", hash.clone());
        file["hash"]["sha256"] = hash.into();
    }
    doc.add("email.attachments", json!({"file": file}));
    if member(attachment, "FileVerdict").as_deref() == Some("1") {
        doc.set("threat.indicator.type", "file");
        doc.add("threat.indicator.name", indicator);
    }
}

/// Record type 41.
pub fn click(record: &Record, doc: &mut Doc) {
    meaning(doc, &["threat", "web"], &["indicator", "access"]);
    copies(record, doc);
    if let Some(url) = text(record, "Url").or_else(|| text(record, "URL")) {
        set_url(doc, Some(url.clone()));
        doc.set("threat.indicator.type", "url");
        doc.set("threat.indicator.name", url);
    }
    if let Some(sent) = text(record, "UserIp")
        && let Some(from) = Address::parse(&sent).filter(|from| from.ip.is_some())
    {
        set_source(doc, from);
    }
    let action = text(record, "UrlClickAction").or_else(|| text(record, "URLClickAction")).unwrap_or_default();
    let action = match action.as_str() {
        "2" => Some("BlockPage"),
        "3" => Some("PendingDetonationPage"),
        "4" => Some("BlockPageOverride"),
        "5" => Some("PendingDetonationPageOverride"),
        _ => None,
    };
    doc.set_text("event.reason", action.map(str::to_owned));
    doc.fill_text("auditferry.application.name", text(record, "AppName"));
}

/// Record type 47.
pub fn file(record: &Record, doc: &mut Doc) {
    doc.set("event.kind", "alert");
    meaning(doc, &["file", "malware", "threat"], &["info", "indicator"]);
    copies(record, doc);
    let data = record.get("FileData").unwrap_or(&Value::Null);
    let name = member(data, "FileName");
    let hash = member(data, "SHA256").or_else(|| member(data, "Sha256"));
    doc.set_text("file.name", name.clone());
    doc.set_text("file.hash.sha256", hash.clone());
    doc.set_text("rule.name", member(data, "MalwareFamily"));
    if let Some(size) = data.get("FileSize").and_then(whole) {
        doc.set("file.size", size);
    }
    if let Some(path) = member(data, "FilePath") {
        set_url(doc, Some(path.clone()));
        match name.as_ref().filter(|name| !path.ends_with(*name)) {
            Some(name) => {
                doc.set("file.path", format!("{}/{name}", path.trim_end_matches('/')));
                doc.set("file.directory", path);
            }
            None => doc.set("file.path", path),
        }
    }
    if member(data, "FileVerdict").as_deref() == Some("1")
        && let Some(indicator) = name.or(hash)
    {
        doc.set("threat.indicator.type", "file");
        doc.set("threat.indicator.name", indicator);
    }
    doc.set_text("event.reason", text(record, "DetectionMethod"));
    doc.add_person(&text(record, "LastModifiedBy").unwrap_or_default());
}

/// Record types 64, 86 and 89.
pub fn investigation(record: &Record, doc: &mut Doc) {
    meaning(doc, &["intrusion_detection"], &["info"]);
    copies(record, doc);
    let outcome = match text(record, "Status").as_deref() {
        Some("Failed") => Some("failure"),
        Some("Completed" | "Remediated") => Some("success"),
        _ => None,
    };
    doc.fill_text("event.outcome", outcome.map(str::to_owned));
    let inside = text(record, "Data").and_then(|data| embedded(&data));
    let Some(data) = inside.as_ref().or(record.get("Data")) else { return };
    for entity in elements(data, "Entities") {
        add_entity(doc, entity);
    }
    for path in ["email.message_id", "email.local_id", "email.sender.address", "email.subject"] {
        doc.unlist(path);
    }
    for path in ["file.name", "file.hash.sha256", "file.hash.sha1", "file.hash.md5", "url.original", "url.domain"] {
        doc.unlist(path);
    }
}

fn add_entity(doc: &mut Doc, entity: &Value) {
    for (name, path) in [
        ("InternetMessageId", "email.message_id"),
        ("NetworkMessageId", "email.local_id"),
        ("P1Sender", "email.sender.address"),
        ("P2Sender", "email.from.address"),
        ("Subject", "email.subject"),
        ("Recipient", "email.to.address"),
    ] {
        doc.add_text(path, member(entity, name).unwrap_or_default());
    }
    for name in ["Upn", "UserPrincipalName", "MailboxPrimaryAddress"] {
        doc.add_person(&member(entity, name).unwrap_or_default());
    }
    for name in ["SenderIP", "Address"] {
        add_ip(doc, member(entity, name));
    }
    let urls = elements(entity, "Urls").iter().chain(entity.get("Url")).filter_map(scalar);
    for url in urls.filter(|url| is_url(url)) {
        doc.add_text("url.domain", host_of(&url).unwrap_or_default());
        doc.add("url.original", url);
    }
    for hash in elements(entity, "FileHashes") {
        let path = match hash["Algorithm"].as_str() {
            Some("SHA256") => "file.hash.sha256",
            Some("SHA1") => "file.hash.sha1",
            Some("MD5") => "file.hash.md5",
            _ => continue,
        };
        doc.add_text(path, member(hash, "Value").unwrap_or_default());
    }
    if member(entity, "Type").is_some_and(|kind| kind.eq_ignore_ascii_case("file")) {
        doc.add_text("file.name", member(entity, "Name").unwrap_or_default());
    }
}

/// What all of them have.
fn copies(record: &Record, doc: &mut Doc) {
    for name in ["EventDeepLink", "DeeplinkURL", "DeepLinkUrl"] {
        doc.set_text("event.url", text(record, name));
    }
    for (name, path) in [
        ("StartTimeUtc", "event.start"),
        ("TimeOfClick", "event.start"),
        ("EndTimeUtc", "event.end"),
        ("MessageTime", "email.delivery_timestamp"),
        ("LastModifiedDate", "file.mtime"),
    ] {
        doc.set_time(path, text(record, name));
    }
    doc.set_text("message", text(record, "InvestigationName"));
}

fn meaning(doc: &mut Doc, categories: &[&str], kinds: &[&str]) {
    if !doc.has("event.category") {
        categories.iter().for_each(|category| doc.add("event.category", *category));
        kinds.iter().for_each(|kind| doc.add("event.type", *kind));
    }
}
