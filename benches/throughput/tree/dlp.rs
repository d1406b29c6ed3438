//! Data loss prevention, by way of a tree: of mail, of files, of devices.

use auditferry::record::address::Address;
use serde_json::Value;

use super::doc::{Doc, is_known, last_part, list, member, scalar, set_user, text, texts, whole};
use super::{Record, set_source, set_url, severity};

/// Record types 11, 13, 33, 63, 99, 100 and 107.
pub fn describe(record: &Record, doc: &mut Doc, record_type: i64, operation: &str) {
    doc.set_text("process.name", text(record, "Application"));
    if operation == "DlpRuleMatch" {
        doc.set("event.kind", "alert");
    }
    let is_mail = matches!(record_type, 13 | 107);
    // A chat message is matched by the same rules, and described as a mail.
    let is_chat = is_mail && doc.text("event.provider").as_deref() == Some("MicrosoftTeams");
    let (category, kind) = match (is_chat, is_mail) {
        (true, _) => ("web", "info"),
        (false, true) => ("email", "info"),
        (false, false) => ("file", "access"),
    };
    doc.set("event.category", vec![category]);
    doc.set("event.type", vec![kind]);
    let mut highest = None;
    for policy in list(record, "PolicyDetails") {
        doc.add_text("rule.ruleset", member(policy, "PolicyName").unwrap_or_default());
        for rule in policy["Rules"].as_array().into_iter().flatten() {
            doc.add_text("rule.id", member(rule, "RuleId").unwrap_or_default());
            doc.add_text("rule.name", member(rule, "RuleName").unwrap_or_default());
            highest = highest.max(severity(member(rule, "Severity")));
        }
    }
    ["rule.ruleset", "rule.id", "rule.name"].iter().for_each(|path| doc.unlist(path));
    if let Some(severity) = highest {
        doc.set("event.severity", severity);
    }
    if let Some(exception) = record.get("ExceptionInfo") {
        doc.set_text("event.reason", scalar(exception).or_else(|| member(exception, "Reason")));
    }
    if let Some(mail) = record.get("ExchangeMetaData") {
        dlp_mail(doc, mail, is_chat);
    }
    if let Some(file) = record.get("SharePointMetaData") {
        dlp_file(doc, file);
    }
    let endpoint = record.get("EndpointMetaData");
    if record_type == 63 || endpoint.is_some() {
        dlp_endpoint(record, doc, endpoint.unwrap_or(&Value::Null));
    }
}

/// Of a chat message only the people count.
fn dlp_mail(doc: &mut Doc, mail: &Value, is_chat: bool) {
    const PEOPLE: [(&str, &str); 4] = [
        ("From", "email.from.address"),
        ("To", "email.to.address"),
        ("CC", "email.cc.address"),
        ("BCC", "email.bcc.address"),
    ];
    for (name, path) in PEOPLE {
        for person in mail.get(name).map(texts).unwrap_or_default() {
            match is_chat {
                true => doc.add_person(&person),
                false => doc.add(path, person),
            }
        }
    }
    if !is_chat {
        doc.set_text("email.subject", member(mail, "Subject"));
        doc.set_text("email.message_id", member(mail, "MessageID"));
        doc.set_time("email.origination_timestamp", member(mail, "Sent"));
    }
}

fn dlp_file(doc: &mut Doc, file: &Value) {
    doc.set_text("file.name", member(file, "FileName"));
    let owner = member(file, "FileOwner");
    doc.add_person(owner.as_deref().unwrap_or_default());
    doc.set_text("file.owner", owner);
    doc.set_text("url.original", member(file, "FilePathUrl"));
    set_url(doc, member(file, "FilePathUrl"));
    doc.set_time("file.mtime", member(file, "LastModifiedTime"));
    doc.set_time("file.created", member(file, "itemCreationTime").or_else(|| member(file, "ItemCreationTime")));
    if let Some(size) = file.get("FileSize").and_then(whole) {
        doc.set("file.size", size);
    }
    if let Some(from) = member(file, "From").filter(|from| is_known(from)) {
        if !doc.has("user.id") {
            set_user(doc, "user", &from);
        }
        doc.add_person(&from);
    }
}

fn dlp_endpoint(record: &Record, doc: &mut Doc, endpoint: &Value) {
    for (name, path) in [
        ("DeviceName", "host.name"),
        ("TargetFilePath", "file.target_path"),
        ("MDATPDeviceId", "device.id"),
        ("TargetDomain", "destination.domain"),
    ] {
        doc.set_text(path, member(endpoint, name).or_else(|| text(record, name)));
    }
    for (name, path) in [
        ("FileExtension", "file.extension"),
        ("Sha256", "file.hash.sha256"),
        ("Sha1", "file.hash.sha1"),
        ("Application", "process.name"),
        ("OriginatingDomain", "url.domain"),
    ] {
        doc.set_text(path, member(endpoint, name));
    }
    if let Some(size) = endpoint.get("FileSize").and_then(whole) {
        doc.set("file.size", size);
    }
    if !doc.has("source.ip")
        && let Some(sent) = member(endpoint, "ClientIP")
        && let Some(from) = Address::parse(&sent).filter(|from| from.ip.is_some())
    {
        set_source(doc, from);
    }
    if let Some(path) = text(record, "ObjectId") {
        doc.set_text("file.name", last_part(&path));
        doc.set("file.path", path);
    }
    if let Some(sent) = member(endpoint, "Platform").or_else(|| text(record, "Platform")) {
        platform(doc, &sent);
    }
}

/// The system of a device, and its kind where it is one: a name begins with it.
fn platform(doc: &mut Doc, sent: &str) {
    const KINDS: [(&str, &str); 6] = [
        ("win", "windows"),
        ("mac", "macos"),
        ("linux", "linux"),
        ("ios", "ios"),
        ("android", "android"),
        ("unix", "unix"),
    ];
    let name = match sent {
        "0" => "Unknown",
        "1" => "Windows",
        "2" => "MacOS",
        "3" => "iOS",
        "4" => "Android",
        "5" => "Web Browser",
        other => other,
    };
    let lower = name.to_lowercase();
    let kind = KINDS.iter().find(|(start, _)| lower.starts_with(start));
    doc.set("host.os.platform", name);
    doc.set_text("host.os.type", kind.map(|(_, kind)| (*kind).to_owned()));
}
