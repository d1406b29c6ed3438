//! Mail, files, Teams, DLP and alerts, by way of a tree.

use serde_json::{Value, json};

use super::doc::{Doc, address, is_known, list, member, scalar, set_address, set_user, text, texts, whole};
use super::{Record, people, set_url, severity, take};

/// Record types 2, 3, 19, 29, 50 and 101.
pub fn mailbox(record: &Record, doc: &mut Doc) {
    doc.set_text("user.full_name", text(record, "LogonUserDisplayName"));
    doc.set_text("process.name", text(record, "ClientProcessName"));
    doc.add("event.category", "email");
    if !doc.has("event.type") {
        doc.add("event.type", "info");
    }
    if !doc.has("user.id") {
        doc.set_text("user.id", text(record, "LogonUserSid"));
    }
    if let Some(owner) = text(record, "MailboxOwnerUPN") {
        set_address(doc, "user.target", &owner);
        doc.set("user.target.id", owner);
    }
    doc.set_text("user.target.id", text(record, "MailboxOwnerSid"));
    if !doc.has("user_agent.original") {
        doc.set_text("user_agent.original", text(record, "ClientInfoString"));
    }
    let item = match list(record, "AffectedItems") {
        [] => record.get("Item").filter(|item| item.is_object()),
        [item] => Some(item),
        _ => None,
    };
    if let Some(item) = item {
        doc.set_text("email.subject", member(item, "Subject").or_else(|| doc.text("email.subject")));
        doc.set_text("email.message_id", member(item, "InternetMessageId").or_else(|| doc.text("email.message_id")));
        attachments(doc, &member(item, "Attachments").unwrap_or_default());
    }
    people::server(record, doc);
}

/// `name.ext (123b); other (4b)`.
fn attachments(doc: &mut Doc, sent: &str) {
    for one in sent.split(';').map(str::trim).filter(|one| !one.is_empty()) {
        let sized = one.rsplit_once(" (").and_then(|(name, size)| {
            let size = size.strip_suffix("b)")?.parse::<i64>().ok()?;
            Some((name, size))
        });
        let name = sized.map_or(one, |(name, _)| name);
        let mut file = json!({"name": name});
        if let Some((_, extension)) = name.rsplit_once('.').filter(|(_, extension)| !extension.is_empty()) {
            file["extension"] = extension.into();
        }
        if let Some((_, size)) = sized {
            file["size"] = size.into();
        }
        doc.add("email.attachments", json!({"file": file}));
    }
}

/// SharePoint and OneDrive.
pub fn sharepoint(record: &mut Record, doc: &mut Doc) {
    let joined = |directory: Option<String>, name: Option<String>| {
        let (directory, name) = (directory.unwrap_or_default(), name?);
        let directory = directory.trim_end_matches('/');
        Some(if directory.is_empty() { name } else { format!("{directory}/{name}") })
    };
    let path = joined(text(record, "SourceRelativeUrl"), text(record, "SourceFileName"));
    doc.set_text("file.path", path);
    let path = joined(text(record, "DestinationRelativeUrl"), text(record, "DestinationFileName"));
    doc.set_text("file.target_path", path);
    for (path, name) in [
        ("file.directory", "SourceRelativeUrl"),
        ("file.name", "SourceFileName"),
        ("file.extension", "SourceFileExtension"),
    ] {
        take(record, doc, path, name);
    }
    set_url(doc, text(record, "ObjectId"));
    match text(record, "ItemType").as_deref() {
        Some("File") => doc.set("file.type", "file"),
        Some("Folder") => doc.set("file.type", "dir"),
        _ => {}
    }
    let Some(name) = text(record, "TargetUserOrGroupName") else { return };
    match text(record, "TargetUserOrGroupType").unwrap_or_default().as_str() {
        "Member" | "Guest" | "Partner" | "" => set_user(doc, "user.target", &name),
        "SecurityGroup" | "SharePointGroup" => doc.set("group.name", name),
        _ => {}
    }
}

/// Teams.
pub fn teams(record: &mut Record, doc: &mut Doc, operation: &str) {
    take(record, doc, "group.name", "TeamName");
    take(record, doc, "group.id", "TeamGuid");
    if operation == "Delete user."
        && let Some(user) = text(record, "ObjectId").filter(|id| is_known(id))
    {
        set_user(doc, "user.target", &user);
    }
    let members = list(record, "Members");
    members.iter().filter_map(|one| member(one, "UPN")).for_each(|name| doc.add_text("related.user", name));
    if let [one] = members {
        if let Some(name) = member(one, "UPN") {
            set_user(doc, "user.target", &name);
        }
        doc.set_text("user.target.full_name", member(one, "DisplayName"));
    }
    set_url(doc, record.get("MessageURLs").and_then(|urls| texts(urls).first().cloned()));
}

/// Data loss prevention.
pub fn dlp(record: &Record, doc: &mut Doc, record_type: i64, operation: &str) {
    doc.set_text("process.name", text(record, "Application"));
    if operation == "DlpRuleMatch" {
        doc.set("event.kind", "alert");
    }
    let (category, kind) = if matches!(record_type, 13 | 107) { ("email", "info") } else { ("file", "access") };
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
        dlp_mail(doc, mail);
    }
    if let Some(file) = record.get("SharePointMetaData") {
        dlp_file(doc, file);
    }
    let endpoint = record.get("EndpointMetaData");
    if record_type == 63 || endpoint.is_some() {
        dlp_endpoint(record, doc, endpoint.unwrap_or(&Value::Null));
    }
}

/// Not in the order of the mail, so that the people are told in that order.
fn dlp_mail(doc: &mut Doc, mail: &Value) {
    const PEOPLE: [(&str, &str); 4] = [
        ("From", "email.from.address"),
        ("To", "email.to.address"),
        ("CC", "email.cc.address"),
        ("BCC", "email.bcc.address"),
    ];
    for (name, path) in PEOPLE {
        for person in mail.get(name).map(texts).unwrap_or_default() {
            if address(&person).is_some() {
                doc.add("related.user", person.clone());
            }
            doc.add(path, person);
        }
    }
    doc.set_text("email.subject", member(mail, "Subject"));
    doc.set_text("email.message_id", member(mail, "MessageID"));
    doc.set_time("email.origination_timestamp", member(mail, "Sent"));
}

fn dlp_file(doc: &mut Doc, file: &Value) {
    doc.set_text("file.name", member(file, "FileName"));
    let owner = member(file, "FileOwner");
    if let Some(owner) = owner.clone().filter(|owner| address(owner).is_some()) {
        doc.add("related.user", owner);
    }
    doc.set_text("file.owner", owner);
    doc.set_text("url.original", member(file, "FilePathUrl"));
    set_url(doc, member(file, "FilePathUrl"));
    doc.set_time("file.mtime", member(file, "LastModifiedTime"));
    doc.set_time("file.created", member(file, "itemCreationTime").or_else(|| member(file, "ItemCreationTime")));
    if let Some(size) = file.get("FileSize").and_then(whole) {
        doc.set("file.size", size);
    }
    if !doc.has("user.id")
        && let Some(from) = member(file, "From").filter(|from| is_known(from))
    {
        set_user(doc, "user", &from);
    }
}

fn dlp_endpoint(record: &Record, doc: &mut Doc, endpoint: &Value) {
    doc.set_text("host.name", member(endpoint, "DeviceName").or_else(|| text(record, "DeviceName")));
    for (name, path) in [
        ("FileExtension", "file.extension"),
        ("Sha256", "file.hash.sha256"),
        ("Sha1", "file.hash.sha1"),
        ("Application", "process.name"),
    ] {
        doc.set_text(path, member(endpoint, name));
    }
    if let Some(size) = endpoint.get("FileSize").and_then(whole) {
        doc.set("file.size", size);
    }
    if let Some(path) = text(record, "ObjectId") {
        doc.set_text("file.name", path.rsplit(['\\', '/']).next().map(str::to_owned));
        doc.set("file.path", path);
    }
    let platform = text(record, "Platform").unwrap_or_default();
    let (platform, kind) = match platform.as_str() {
        "0" => ("Unknown", None),
        "1" => ("Windows", Some("windows")),
        "2" => ("MacOS", Some("macos")),
        "3" => ("iOS", Some("ios")),
        "4" => ("Android", Some("android")),
        "5" => ("Web Browser", None),
        other => (other, None),
    };
    doc.set_text("host.os.platform", Some(platform.to_owned()));
    doc.set_text("host.os.type", kind.map(str::to_owned));
}

/// Alerts.
pub fn alert(record: &mut Record, doc: &mut Doc) {
    doc.set("event.kind", "alert");
    let meaning = match text(record, "Category").as_deref() {
        Some("ThreatManagement") => Some(("threat", "indicator")),
        Some("AccessGovernance") => Some(("iam", "info")),
        Some("MailFlow") => Some(("email", "info")),
        _ => None,
    };
    if let Some((category, kind)) = meaning {
        doc.add("event.category", category);
        doc.add("event.type", kind);
    }
    for (path, name) in [("rule.name", "Name"), ("rule.id", "PolicyId"), ("rule.category", "Category")] {
        take(record, doc, path, name);
    }
    doc.set_text("message", doc.text("rule.name"));
    links(record, doc);
    if let Some(entity) = text(record, "AlertEntityId") {
        if text(record, "EntityType").as_deref() == Some("User") {
            set_user(doc, "user.target", &entity);
        }
        person(doc, entity);
    }
    let data: Value = text(record, "Data").and_then(|data| serde_json::from_str(&data).ok()).unwrap_or_default();
    if let Some(user) = member(&data, "f3u") {
        if !doc.has("user.target.id") && address(&user).is_some() {
            set_user(doc, "user.target", &user);
        }
        person(doc, user);
    }
    member(&data, "suid").into_iter().for_each(|user| person(doc, user));
    if let Some(sender) = member(&data, "tsd") {
        doc.set("email.sender.address", sender.clone());
        person(doc, sender);
    }
    if let Some(recipient) = member(&data, "trc") {
        doc.set("email.to.address", vec![recipient.clone()]);
        person(doc, recipient);
    }
    for (name, path) in [("ms", "email.subject"), ("imsgid", "email.message_id"), ("aii", "email.local_id")] {
        doc.set_text(path, member(&data, name));
    }
}

/// The links are moved where every one is a link and nothing else.
fn links(record: &mut Record, doc: &mut Doc) {
    let mut only_links = record.get("AlertLinks").is_some_and(Value::is_array);
    for link in list(record, "AlertLinks") {
        let href = member(link, "AlertLinkHref");
        only_links &= href.is_some() && link.as_object().is_some_and(|link| link.len() == 1);
        doc.add_text("rule.reference", href.unwrap_or_default());
    }
    doc.unlist("rule.reference");
    if only_links {
        record.remove("AlertLinks");
    }
}

fn person(doc: &mut Doc, text: String) {
    if address(&text).is_some() {
        doc.add("related.user", text);
    }
}
