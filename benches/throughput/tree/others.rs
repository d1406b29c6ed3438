//! Quarantine, eDiscovery, Copilot, Engage and the Power Platform, by way of a tree.

use serde_json::Value;

use super::doc::{Doc, address, elements, embedded, extension, list, member, set_address, set_user, text, texts};
use super::{Record, cmdlet, is_url, set_url, take};

/// Record types 20, 21, 22, 24, 30 and 261.
pub fn describe(record: &mut Record, doc: &mut Doc, operation: &str) {
    match text(record, "RecordType").as_deref() {
        Some("24") => ediscovery(record, doc, operation),
        Some("22") => engage(record, doc, operation),
        Some("261") => copilot(record, doc),
        Some("20") => power_bi(record, doc, operation),
        Some("21") => dynamics(record, doc, operation),
        _ => {
            meaning_of_verb(doc, operation, "configuration");
            power_platform(record, doc);
        }
    }
}

/// Record type 65.
pub fn quarantine(record: &Record, doc: &mut Doc) {
    if !doc.has("event.category") {
        doc.add("event.category", "email");
        doc.add("event.type", "info");
    }
    if text(record, "ResultStatus").is_some_and(|status| status.eq_ignore_ascii_case("Successful")) {
        doc.set("event.outcome", "success");
    }
    let reason = match text(record, "RequestType").as_deref() {
        Some("0") => Some("Preview".to_owned()),
        Some("1") => Some("Delete".to_owned()),
        Some("2") => Some("Release".to_owned()),
        Some("3") => Some("Export".to_owned()),
        Some("4") => Some("ViewHeader".to_owned()),
        Some("5") => Some("ReleaseRequest".to_owned()),
        _ => text(record, "Reason"),
    };
    doc.set_text("event.reason", reason);
    for address in text(record, "ReleaseTo").unwrap_or_default().split([';', ',']) {
        doc.add_text("email.to.address", address.trim().to_owned());
    }
}

fn ediscovery(record: &Record, doc: &mut Doc, operation: &str) {
    doc.set_time("event.start", text(record, "StartTime"));
    cmdlet::describe(record, doc, operation);
    for (name, kind) in [("Object2Name", "Object2Type"), ("Object1Name", "Object1Type")] {
        let Some(name) = text(record, name).filter(|name| address(name).is_some()) else { continue };
        match text(record, kind).as_deref() {
            Some("CaseMember" | "Custodian" | "User" | "Member") => set_user(doc, "user.target", &name),
            _ => doc.add_person(&name),
        }
    }
    set_url(doc, text(record, "ObjectId"));
}

fn engage(record: &mut Record, doc: &mut Doc, operation: &str) {
    take(record, doc, "file.name", "FileName");
    take(record, doc, "group.name", "GroupName");
    if operation.starts_with("Message") && !doc.has("event.category") {
        doc.add("event.category", "web");
        doc.add("event.type", "info");
    }
    meaning_of_verb(doc, operation, "configuration");
    let actor = text(record, "ActorUserId");
    doc.fill_text("user.id", text(record, "ActorYammerUserId").or(actor.clone()));
    if let Some(actor) = actor.filter(|_| !doc.has("user.email")) {
        set_address(doc, "user", &actor);
    }
    match text(record, "TargetUserId") {
        Some(target) => set_user(doc, "user.target", &target),
        None => doc.set_text("user.target.id", text(record, "TargetYammerUserId")),
    }
}

fn copilot(record: &Record, doc: &mut Doc) {
    if !doc.has("event.category") {
        doc.add("event.category", "web");
        doc.add("event.type", "access");
    }
    let inside = text(record, "CopilotEventData").and_then(|data| embedded(&data));
    let Some(data) = inside.as_ref().or(record.get("CopilotEventData")) else { return };
    doc.fill_text("auditferry.application.name", member(data, "AppHost"));
    for (list, name) in [("Messages", "JailbreakDetected"), ("AccessedResources", "XPIADetected")] {
        if elements(data, list).iter().any(|one| one[name] == Value::Bool(true)) {
            doc.add("event.reason", name);
        }
    }
    doc.unlist("event.reason");
    // Files have an address of the web; searches and the like have none.
    let is_file = |one: &&Value| member(one, "SiteUrl").is_some_and(|url| is_url(&url));
    if let [file] = elements(data, "AccessedResources").iter().filter(is_file).collect::<Vec<_>>()[..] {
        set_url(doc, member(file, "SiteUrl"));
        let name = member(file, "Name");
        doc.set_text("file.extension", name.as_deref().and_then(extension));
        doc.set_text("file.name", name);
    }
}

fn power_bi(record: &Record, doc: &mut Doc, operation: &str) {
    meaning_of_verb(doc, operation, "file");
    if doc.get("event.category").is_some_and(|categories| texts(categories).iter().any(|one| one == "file")) {
        doc.fill_text("file.name", text(record, "ItemName").or_else(|| text(record, "ObjectDisplayName")));
    }
    power_platform(record, doc);
}

fn dynamics(record: &Record, doc: &mut Doc, operation: &str) {
    let message = text(record, "Message").unwrap_or_else(|| operation.to_owned());
    let meaning = match message.as_str() {
        "UserSignIn" => Some(("authentication", "start")),
        "Create" | "Update" | "Delete" | "Upsert" | "Assign" | "Merge" | "SetState" | "Associate" | "Disassociate"
        | "GrantAccess" | "ModifyAccess" | "RevokeAccess" | "BulkDelete" => Some(("database", "change")),
        "Retrieve" | "RetrieveMultiple" | "ExportToExcel" | "ReportExport" => Some(("database", "access")),
        _ => None,
    };
    if let Some((category, kind)) = meaning.filter(|_| !doc.has("event.category")) {
        doc.add("event.category", category);
        doc.add("event.type", kind);
    }
    power_platform(record, doc);
}

fn power_platform(record: &Record, doc: &mut Doc) {
    let outcome = match text(record, "IsSuccess").as_deref() {
        Some("true") => Some("success"),
        Some("false") => Some("failure"),
        _ => None,
    };
    doc.fill_text("event.outcome", outcome.map(str::to_owned));
    for name in ["InstanceUrl", "FlowDetailsUrl", "ItemUrl"] {
        set_url(doc, text(record, name));
    }
    if let Some(user) = text(record, "UserUPN").or_else(|| text(record, "UserUpn")) {
        doc.fill_text("user.id", Some(user.clone()));
        if !doc.has("user.email") {
            set_address(doc, "user", &user);
        }
    }
    let mut targets: Vec<(String, Option<String>)> = Vec::new();
    targets.extend(text(record, "RecipientUPN").map(|address| (address, None)));
    for (list_, name) in [("SharingInformation", "RecipientEmail"), ("MembershipInformation", "MemberEmail")] {
        for one in list(record, list_) {
            let Some(person) = member(one, name) else { continue };
            if address(&person).is_some() {
                doc.add("related.user", person.clone());
            }
            targets.push((person, member(one, "RecipientName")));
        }
    }
    if let [(address, name)] = &targets[..] {
        set_user(doc, "user.target", address);
        doc.set_text("user.target.full_name", name.clone());
    }
}

/// The category with what the verb in front or behind says was done, where the table of operations is silent.
pub fn meaning_of_verb(doc: &mut Doc, operation: &str, category: &str) {
    if doc.has("event.category") {
        return;
    }
    let words = words(operation);
    let kind = words.first().and_then(|word| kind_of(word)).or_else(|| words.last().and_then(|word| kind_of(word)));
    if let Some(kind) = kind {
        doc.add("event.category", category);
        doc.add("event.type", kind);
    }
}

/// The words of `DeleteEnvironment` or `Objective created`.
fn words(operation: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    for character in operation.trim().chars() {
        if !character.is_ascii_alphabetic() || character.is_ascii_uppercase() {
            words.push(String::new());
        }
        if character.is_ascii_alphabetic() {
            words.last_mut().unwrap().push(character);
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

fn kind_of(word: &str) -> Option<&'static str> {
    match word.to_lowercase().as_str() {
        "create" | "created" | "creation" | "new" | "add" | "added" | "upload" | "uploaded" => Some("creation"),
        "delete" | "deleted" | "deletion" | "remove" | "removed" => Some("deletion"),
        "change" | "changed" | "disable" | "disabled" | "edit" | "edited" | "enable" | "enabled" | "rename"
        | "renamed" | "set" | "update" | "updated" => Some("change"),
        "export" | "exported" | "get" | "list" | "read" | "view" | "viewed" => Some("access"),
        _ => None,
    }
}
