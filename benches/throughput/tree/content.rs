//! Mail, files, Teams and alerts, by way of a tree.

use serde_json::{Value, json};

use super::doc::{Doc, address, elements, embedded, is_known, last_value, list, member, scalar, set_user, text, texts};
use super::{Record, add_ip, cmdlet, others, set_url, take};

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
    }
    let single = record.get("Item").filter(|item| item.is_object());
    for item in list(record, "AffectedItems").iter().chain(single) {
        attachments(doc, &member(item, "Attachments").unwrap_or_default());
    }
    cmdlet::server(record, doc);
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
    doc.set_text("event.reason", text(record, "SensitivityLabelJustificationText"));
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
    for name in ["suid", "user"] {
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
