//! Mail, files, Teams, DLP and alerts, by way of a tree.

use auditferry::record::address::Address;
use serde_json::{Value, json};

use super::doc::{
    Doc, address, elements, embedded, is_known, last_part, last_value, list, member, scalar, set_user, text, texts,
    whole,
};
use super::{Record, add_ip, others, people, set_source, set_url, severity, take};

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
        set_user(doc, "user.target", &owner);
    }
    doc.fill_text("user.target.id", text(record, "MailboxOwnerSid"));
    doc.add_person(&text(record, "DestMailboxOwnerUPN").unwrap_or_default());
    for name in ["SendAsUserSmtp", "SendOnBehalfOfUserSmtp"] {
        if let Some(from) = text(record, name) {
            doc.set_text("email.sender.address", doc.text("user.email"));
            doc.add_person(&from);
            doc.set("email.from.address", vec![from]);
        }
    }
    let actions = last_value(list(record, "OperationProperties"), "RuleActions").and_then(|text| embedded(&text));
    for action in actions.as_ref().and_then(Value::as_array).into_iter().flatten() {
        for recipient in action.get("Recipients").map(texts).unwrap_or_default() {
            doc.add_person(&recipient);
        }
    }
    doc.fill_text("user_agent.original", text(record, "ClientInfoString"));
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
pub fn sharepoint(record: &mut Record, doc: &mut Doc, record_type: i64) {
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
    // Of a search or a block the item is said to be a file though it is a site.
    let has_item = doc.has("file.name") || record_type == 14;
    match text(record, "ItemType").as_deref().filter(|_| has_item) {
        Some("File") => doc.set("file.type", "file"),
        Some("Folder") => doc.set("file.type", "dir"),
        _ => {}
    }
    // The group that was changed stands in the event's data; the target is who came or went.
    let data = text(record, "EventData").unwrap_or_default();
    let group = data.split_once("<Group>").and_then(|(_, rest)| rest.split_once("</Group>"));
    doc.set_text("group.name", group.map(|(group, _)| group.to_owned()));
    let Some(name) = text(record, "TargetUserOrGroupName") else { return };
    match text(record, "TargetUserOrGroupType").unwrap_or_default().as_str() {
        "Member" | "Guest" | "Partner" | "" => set_user(doc, "user.target", &name),
        "SecurityGroup" | "SharePointGroup" => doc.fill_text("group.name", Some(name)),
        _ => {}
    }
}

/// Teams.
pub fn teams(record: &mut Record, doc: &mut Doc, operation: &str) {
    take(record, doc, "group.name", "TeamName");
    doc.set_text("group.id", text(record, "AADGroupId").or_else(|| text(record, "TeamGuid")));
    others::meaning_of_verb(doc, operation, "configuration");
    if operation == "Delete user."
        && let Some(user) = text(record, "ObjectId").filter(|id| is_known(id))
    {
        set_user(doc, "user.target", &user);
    }
    let members = list(record, "Members");
    members.iter().filter_map(|one| member(one, "UPN")).for_each(|name| doc.add_text("related.user", name));
    // Who opens a chat is a member of it.
    let actor = text(record, "UserId").unwrap_or_default();
    let others: Vec<&Value> = members.iter().filter(|one| member(one, "UPN").as_ref() != Some(&actor)).collect();
    if let [one] = others[..] {
        if let Some(name) = member(one, "UPN") {
            set_user(doc, "user.target", &name);
        }
        doc.set_text("user.target.full_name", member(one, "DisplayName"));
    }
    if operation.starts_with("Meeting") {
        doc.set_time("event.start", text(record, "StartTime"));
        doc.set_time("event.end", text(record, "EndTime"));
    }
    for person in list(record, "Attendees").iter().chain(record.get("Organizer")) {
        doc.add_text("related.user", member(person, "UPN").unwrap_or_default());
    }
    let urls = ["MessageURLs", "MeetingURL"].iter().filter_map(|name| record.get(*name));
    set_url(doc, urls.flat_map(texts).next());
    doc.fill_text("user_agent.original", last_value(list(record, "ExtraProperties"), "UserAgent"));
}

/// Data loss prevention.
pub fn dlp(record: &Record, doc: &mut Doc, record_type: i64, operation: &str) {
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
            doc.add_person(&person);
            if !is_chat {
                doc.add(path, person);
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

/// Alerts.
pub fn alert(record: &mut Record, doc: &mut Doc) {
    doc.set("event.kind", "alert");
    let category = match text(record, "Category").as_deref() {
        Some("AccessGovernance") => "iam",
        Some("MailFlow") => "email",
        _ => "intrusion_detection",
    };
    // The operation only says that there is an alert.
    doc.set("event.category", vec![category]);
    doc.set("event.type", vec!["info"]);
    doc.set_text("host.name", text(record, "DeviceName"));
    doc.set_text("message", text(record, "Name"));
    doc.set_text("rule.name", text(record, "PolicyName"));
    for (path, name) in [("rule.name", "Name"), ("rule.id", "PolicyId"), ("rule.category", "Category")] {
        take(record, doc, path, name);
    }
    links(record, doc);
    let data = text(record, "Data").and_then(|data| embedded(&data)).unwrap_or_default();
    if let Some(entity) = text(record, "AlertEntityId") {
        // Of what somebody did (`suid`) the entity is who did it.
        let is_actor = member(&data, "suid").is_some_and(|actor| actor.eq_ignore_ascii_case(&entity));
        if text(record, "EntityType").as_deref() == Some("User") && !is_actor {
            set_user(doc, "user.target", &entity);
        }
        doc.add_person(&entity);
    }
    if let Some(target) = text(record, "TargetUser").filter(|_| !doc.has("user.target.id")) {
        set_user(doc, "user.target", &target);
    }
    for name in ["f3u", "rcpt"] {
        if let Some(user) = member(&data, name) {
            if !doc.has("user.target.id") && address(&user).is_some() {
                set_user(doc, "user.target", &user);
            }
            doc.add_person(&user);
        }
    }
    for name in ["suid", "user", "tsd", "trc"] {
        doc.add_person(&member(&data, name).unwrap_or_default());
    }
    if let Some(recipient) = member(&data, "trc") {
        doc.set("email.to.address", vec![recipient]);
    }
    for (name, path) in [
        ("tsd", "email.sender.address"),
        ("ms", "email.subject"),
        ("imsgid", "email.message_id"),
        ("aii", "email.local_id"),
    ] {
        doc.set_text(path, member(&data, name));
    }
    add_ip(doc, member(&data, "sip"));
    for ip in elements(&data, "ips") {
        add_ip(doc, scalar(ip));
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
