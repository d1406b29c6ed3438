//! Entra and the cmdlets of Exchange, by way of a tree: who did what to whom.

use auditferry::record::address::Address;
use serde_json::Value;

use super::doc::{Doc, address, is_known, last_value, list, member, scalar, set_address, set_user, text};
use super::{Record, severity};

/// Record type 8.
pub fn directory(record: &Record, doc: &mut Doc) {
    full_name(record, doc);
    let target = list(record, "Target");
    let name = of_type(target, "5").filter(|name| is_known(name));
    let display_name = of_type(target, "1").filter(|name| is_known(name));
    let object = text(record, "ObjectId").filter(|id| is_known(id));
    match kind_and_id(target) {
        Some((kind, id)) if kind == "Group" => {
            doc.set("group.id", id);
            doc.set_text("group.name", display_name);
        }
        Some((kind, id)) if kind == "Device" => doc.set("device.id", id),
        Some((kind, id)) if kind == "User" => {
            doc.set("user.target.id", id);
            doc.set_text("user.target.full_name", display_name);
            if let Some(name) = name.or(object) {
                set_address(doc, "user.target", &name);
            }
        }
        Some(_) => {}
        None => {
            if let Some(user) = name.or(object).filter(|user| address(user).is_some()) {
                set_user(doc, "user.target", &user);
            }
        }
    }
    for change in list(record, "ModifiedProperties") {
        let new = change.get("NewValue").and_then(inside);
        let either = new.clone().or_else(|| change.get("OldValue").and_then(inside));
        match change["Name"].as_str() {
            Some("Role.DisplayName") => doc.add_text("user.target.roles", either.unwrap_or_default()),
            Some("Group.ObjectID") if !doc.has("group.id") => doc.set_text("group.id", either),
            Some("Group.DisplayName") if !doc.has("group.name") => doc.set_text("group.name", either),
            Some("UserPrincipalName") => {
                doc.set_text("user.changes.email", new.filter(|new| address(new).is_some()));
            }
            _ => {}
        }
    }
}

/// Record type 294.
pub fn risk(record: &Record, doc: &mut Doc) {
    full_name(record, doc);
    doc.set_text("rule.name", text(record, "RiskEventType"));
    doc.set_text("event.reason", text(record, "RiskDetail"));
    doc.set_time("event.start", text(record, "ActivityDateTime"));
    doc.set("event.kind", "alert");
    doc.add("event.category", "intrusion_detection");
    doc.add("event.type", "info");
    if let Some(severity) = severity(text(record, "RiskLevel")) {
        doc.set("event.severity", severity);
    }
}

fn full_name(record: &Record, doc: &mut Doc) {
    doc.set_text("user.full_name", text(record, "UserDisplayName"));
}

/// A value of `ModifiedProperties`: a text, or JSON inside of one.
fn inside(value: &Value) -> Option<String> {
    let text = scalar(value)?;
    match serde_json::from_str::<Value>(text.trim()) {
        Ok(Value::Array(list)) => list.iter().find_map(scalar),
        Ok(Value::String(text)) => Some(text).filter(|text| !text.is_empty()),
        _ => Some(text),
    }
}

fn of_type(identities: &[Value], kind: &str) -> Option<String> {
    let identity = identities.iter().find(|one| member(one, "Type").as_deref() == Some(kind))?;
    member(identity, "ID")
}

fn kind_and_id(identities: &[Value]) -> Option<(String, String)> {
    const KINDS: [&str; 8] =
        ["User", "Group", "Role", "Device", "ServicePrincipal", "Application", "Policy", "AdministrativeUnit"];
    identities.iter().find_map(|identity| {
        let id = member(identity, "ID")?;
        let (kind, id) = id.split_once('_')?;
        (KINDS.contains(&kind) && !id.is_empty()).then(|| (kind.to_owned(), id.to_owned()))
    })
}

/// Record types 9, 15 and 275.
pub fn sign_in(record: &Record, doc: &mut Doc, operation: &str) {
    const INTERRUPTS: [&str; 14] = [
        "50058", "50072", "50074", "50076", "50079", "50097", "50125", "50127", "50129", "50140", "50144", "50203",
        "51006", "65001",
    ];
    doc.add("event.category", "authentication");
    if !doc.has("event.type") {
        doc.add("event.type", "start");
    }
    let code = ["ErrorNumber", "ErrorCode", "LoginStatus"].iter().find_map(|name| text(record, name));
    let error = text(record, "LogonError").or_else(|| last_value(list(record, "ExtendedProperties"), "LoginError"));
    let outcome = match (code.as_deref(), error.as_deref()) {
        _ if operation == "UserLoginFailed" => Some("failure".to_owned()),
        (Some("0"), _) => Some("success".to_owned()),
        (Some(code), _) if INTERRUPTS.contains(&code) => Some("unknown".to_owned()),
        (Some(_), _) => Some("failure".to_owned()),
        (None, Some(error)) if error.ends_with("Interrupt") => Some("unknown".to_owned()),
        (None, _) => doc.text("event.outcome"),
    };
    if outcome.as_deref() != Some("success") {
        doc.set_text("event.reason", error);
        doc.set_text("error.code", code.filter(|code| code != "0"));
    }
    doc.set_text("event.outcome", outcome);
    doc.set_text("device.id", last_value(list(record, "DeviceProperties"), "Id"));
    let actor = list(record, "Actor");
    if !doc.has("user.email")
        && let Some(name) = of_type(actor, "5").filter(|name| is_known(name))
    {
        set_address(doc, "user", &name);
    }
    doc.set_text("user.full_name", of_type(actor, "1").filter(|name| is_known(name)));
}

/// Record types 1 and 10.
pub fn cmdlet(record: &Record, doc: &mut Doc, operation: &str) {
    const WITH_ADDRESSES: [&str; 18] = [
        "User",
        "Trustee",
        "Member",
        "Members",
        "Identity",
        "Mailbox",
        "Owner",
        "From",
        "ForwardTo",
        "ForwardAsAttachmentTo",
        "RedirectTo",
        "ForwardingAddress",
        "ForwardingSmtpAddress",
        "RedirectMessageTo",
        "BlindCopyTo",
        "CopyTo",
        "AddToRecipients",
        "GrantSendOnBehalfTo",
    ];
    if !doc.has("event.category")
        && let Some(kind) = kind_of_verb(operation)
    {
        doc.add("event.category", "configuration");
        doc.add("event.type", kind);
    }
    let of_group = operation.ends_with("GroupMember");
    let (mut member_, mut identity) = (None, None);
    for parameter in list(record, "Parameters") {
        let (Some(name), Some(value)) = (member(parameter, "Name"), member(parameter, "Value")) else { continue };
        if !WITH_ADDRESSES.contains(&name.as_str()) {
            continue;
        }
        for one in value.split([';', ',']).map(str::trim) {
            let one = match one.split_once(':') {
                Some((scheme, rest)) if scheme.eq_ignore_ascii_case("smtp") => rest,
                _ => one,
            };
            if address(one).is_some() {
                doc.add_text("related.user", one.to_owned());
            }
        }
        match name.as_str() {
            "Identity" if of_group => doc.set("group.name", value),
            "Member" if of_group => member_ = Some(value),
            "Identity" => identity = identity.or(Some(value)),
            _ => {}
        }
    }
    if let Some(target) = member_.or(identity).filter(|target| address(target).is_some()) {
        set_user(doc, "user.target", &target);
    }
    server(record, doc);
}

fn kind_of_verb(operation: &str) -> Option<&'static str> {
    let (verb, noun) = operation.split_once('-')?;
    match verb {
        _ if noun.is_empty() => None,
        "New" => Some("creation"),
        "Remove" | "Delete" => Some("deletion"),
        "Get" | "Search" | "Test" | "Export" => Some("access"),
        "Set" | "Add" | "Enable" | "Disable" | "Update" | "Install" | "Uninstall" | "Start" | "Stop" | "Move"
        | "Undo" | "Clear" | "Restore" | "Import" | "Connect" | "Disconnect" | "Release" | "Suspend" | "Resume" => {
            Some("change")
        }
        _ => None,
    }
}

/// `OriginatingServer`.
pub fn server(record: &Record, doc: &mut Doc) {
    let sent = text(record, "OriginatingServer").unwrap_or_default();
    let Some(server) = Address::parse(&sent) else { return };
    doc.set_text("server.domain", server.domain.map(str::to_owned));
    match server.ip {
        Some(ip) => {
            doc.set("server.ip", ip.to_string());
            doc.set("server.address", ip.to_string());
            doc.add("related.ip", ip.to_string());
        }
        None => doc.set_text("server.address", Some(server.text.to_owned())),
    }
}
