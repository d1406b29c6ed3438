//! Exchange administration, by cmdlet: record type 1, and the cmdlets of the data centre (10).
//!
//! Comes in: a record. Goes out: facts in a draft. What a cmdlet was told stands in `Parameters`, in any order, as a
//! list, as one text, or not at all (activity-api, section 5, items 21 to 28).

use crate::record::Field;
use crate::record::address::Address;

use super::draft::{Draft, Value};
use super::ecs::Ecs;
use super::family::{Family, Rule, made};
use super::{identity, name_value, nested};
use crate::record::view::scalar;

pub static FAMILY: Family = Family { name: "Exchange administration", record_types: &[1, 10], rules: RULES, describe };

const RULES: &[Rule] = &[
    made(Ecs::EventCategory, "Operation", "`configuration` for a cmdlet that the table of operations does not know"),
    made(
        Ecs::EventType,
        "Operation",
        "of such a cmdlet, by its verb: New: creation; Remove: deletion; Get, Search, Test: access; Set, Add, Enable, Disable and the like: change",
    ),
    made(
        Ecs::UserTargetId,
        "Parameters Member, Identity",
        "whom it was done to: the member of a role or group, else the mailbox, where it is an address",
    ),
    made(Ecs::UserTargetName, "Parameters Member, Identity", "of the same"),
    made(Ecs::UserTargetDomain, "Parameters Member, Identity", "of the same"),
    made(Ecs::UserTargetEmail, "Parameters Member, Identity", "of the same"),
    made(Ecs::GroupName, "Parameters Identity", "of a cmdlet about members of a role group or of a distribution group"),
    made(Ecs::ServerDomain, "OriginatingServer", "the name in front of the brackets"),
    made(Ecs::ServerAddress, "OriginatingServer", "what stands in the brackets, or the whole"),
    made(Ecs::ServerIp, "OriginatingServer", "where that is an IP address"),
    made(
        Ecs::RelatedUser,
        "Parameters User, Trustee, Member, Identity, From, ForwardTo, RedirectTo, ForwardingSmtpAddress and the like",
        "every address among them",
    ),
];

/// Parameters whose value is somebody's address, or a list of addresses. Also what takes mail elsewhere.
pub const WITH_ADDRESSES: [&str; 18] = [
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

fn describe(draft: &mut Draft<'_>) {
    describe_cmdlet(draft);
    server(draft);
}

/// What is known of a cmdlet and its parameters; Purview's cmdlets are like Exchange's.
pub fn describe_cmdlet(draft: &mut Draft<'_>) {
    let operation = draft.operation();
    if !draft.has(Ecs::EventCategory)
        && let Some(kind) = kind_of_verb(operation)
    {
        draft.add(Ecs::EventCategory, Value::Text("configuration"));
        draft.add(Ecs::EventType, Value::Text(kind));
    }
    let parameters = draft.raw(Field::Parameters).unwrap_or_default();
    let of_group = operation.ends_with("GroupMember");
    let mut target = None;
    for (name, value) in name_value::entries(parameters).filter_map(|entry| Some((entry.name, scalar(entry.value?)?))) {
        if !WITH_ADDRESSES.contains(&name) {
            continue;
        }
        for text in value.split([';', ',']).map(|text| identity::without_scheme(text.trim())) {
            if identity::address(text).is_some() {
                draft.add_text(Ecs::RelatedUser, text);
            }
        }
        match name {
            "Identity" if of_group => draft.set_text(Ecs::GroupName, Some(value)),
            "Member" if of_group => target = Some(value),
            "Identity" => target = target.or(Some(value)),
            _ => {}
        }
    }
    if let Some(target) = target.filter(|text| identity::address(text).is_some()) {
        identity::set(draft, identity::TARGET, target);
    }
}

/// What the verb of a cmdlet does (Microsoft's approved verbs for PowerShell); `None` for what is no cmdlet.
fn kind_of_verb(operation: &str) -> Option<&'static str> {
    let (verb, noun) = operation.split_once('-')?;
    if noun.is_empty() {
        return None;
    }
    match verb {
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

/// `OriginatingServer`: `NAME (ADDR)`, in brackets or not, perhaps with a line break behind it. What is in the
/// brackets may be the version of the server.
pub fn server(draft: &mut Draft<'_>) {
    let Some(text) = draft.said(Field::OriginatingServer) else { return };
    let Some(server) = Address::parse(draft.plain(text)) else { return };
    draft.set_text(Ecs::ServerDomain, server.domain);
    match server.ip {
        Some(ip) => {
            draft.set(Ecs::ServerIp, Value::Ip(ip));
            draft.set(Ecs::ServerAddress, Value::Ip(ip));
            draft.add(Ecs::RelatedIp, Value::Ip(ip));
        }
        None => draft.set_text(Ecs::ServerAddress, Some(draft.escaped(server.text))),
    }
}

/// The value of a parameter, still escaped; of the last of its name.
pub fn parameter<'a>(draft: &Draft<'a>, name: &str) -> Option<&'a str> {
    let parameters = draft.raw(Field::Parameters)?;
    match parameters.starts_with('{') {
        true => nested::text_member(parameters, name),
        false => name_value::last_value(parameters, name).filter(|value| !value.is_empty()),
    }
}
