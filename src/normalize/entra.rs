//! The directory of Entra ID, and the risks it sees: record types 8 and 294.
//!
//! Comes in: a record. Goes out: facts in a draft. Whom or what an operation was done to stands in `Target`, a list
//! of ids in which one is the kind with the object's id (`User_6f1c…`) and others are names; what changed stands in
//! `ModifiedProperties`, as JSON inside of texts (activity-api, section 5, items 5 to 20).

use serde_json::value::RawValue;

use crate::record::Field;
use crate::record::view::scalar;

use super::draft::{Draft, Value};
use super::ecs::Ecs;
use super::family::{Family, Rule, copied, made};
use super::{base, identity, name_value, nested};

pub static FAMILY: Family = Family { name: "Entra directory", record_types: &[8, 294], rules: RULES, describe };

/// `AadRiskDetection`.
const RISK: i64 = 294;

const RULES: &[Rule] = &[
    made(Ecs::EventKind, "RecordType", "`alert` for a risk (294)"),
    made(Ecs::EventCategory, "RecordType", "`intrusion_detection` for a risk (294)"),
    made(Ecs::EventType, "RecordType", "`info` for a risk (294)"),
    made(Ecs::EventSeverity, "RiskLevel", "of a risk: low 2, medium 3, high 4"),
    copied(Ecs::RuleName, Field::RiskEventType),
    copied(Ecs::EventReason, Field::RiskDetail),
    copied(Ecs::EventStart, Field::ActivityDateTime),
    copied(Ecs::UserFullName, Field::UserDisplayName),
    made(Ecs::UserTargetId, "Target, ObjectId", "of a target that is a user: the id behind `User_`, else ObjectId"),
    made(Ecs::UserTargetEmail, "Target, ObjectId", "its principal name"),
    made(Ecs::UserTargetName, "Target, ObjectId", "of the same"),
    made(Ecs::UserTargetDomain, "Target, ObjectId", "of the same"),
    made(Ecs::UserTargetFullName, "Target", "its display name"),
    made(Ecs::UserTargetRoles, "ModifiedProperties Role.DisplayName", "the role that was given or taken"),
    made(Ecs::UserChangesEmail, "ModifiedProperties UserPrincipalName", "the new one"),
    made(
        Ecs::GroupId,
        "Target; ModifiedProperties Group.ObjectID",
        "of a target that is a group, or of the group that a member was added to or removed from",
    ),
    made(Ecs::GroupName, "Target; ModifiedProperties Group.DisplayName", "of the same"),
    made(Ecs::DeviceId, "Target", "of a target that is a device"),
];

fn describe(draft: &mut Draft<'_>) {
    if draft.record_type == Some(RISK) {
        draft.kind = "alert";
        draft.add(Ecs::EventCategory, Value::Text("intrusion_detection"));
        draft.add(Ecs::EventType, Value::Text("info"));
        if let Some(severity) = draft.said(Field::RiskLevel).and_then(base::severity) {
            draft.set(Ecs::EventSeverity, Value::Number(severity));
        }
        return;
    }
    describe_target(draft);
    describe_changes(draft);
}

fn describe_target(draft: &mut Draft<'_>) {
    let target = draft.raw(Field::Target).unwrap_or_default();
    let name = principal_name(target);
    let object = draft.said(Field::ObjectId).filter(|id| identity::is_known(id));
    match kind_and_id(target) {
        Some(("Group", id)) => {
            draft.set_text(Ecs::GroupId, Some(id));
            draft.set_text(Ecs::GroupName, display_name(target));
        }
        Some(("Device", id)) => draft.set_text(Ecs::DeviceId, Some(id)),
        Some(("User", id)) => {
            draft.set_text(Ecs::UserTargetId, Some(id));
            draft.set_text(Ecs::UserTargetFullName, display_name(target));
            if let Some(name) = name.or(object) {
                identity::set_address(draft, identity::TARGET, name);
            }
        }
        // Without a kind only an address tells that the object is a user.
        None => {
            if let Some(user) = name.or(object).filter(|text| identity::address(text).is_some()) {
                identity::set(draft, identity::TARGET, user);
            }
        }
        Some(_) => {}
    }
}

fn describe_changes(draft: &mut Draft<'_>) {
    let changes = draft.raw(Field::ModifiedProperties).unwrap_or_default();
    for change in name_value::entries(changes) {
        let new = change.new.and_then(|value| inside(draft, value));
        // What was taken away is an old value.
        let either = new.or_else(|| change.old.and_then(|value| inside(draft, value)));
        match change.name {
            "Role.DisplayName" => either.into_iter().for_each(|role| draft.add_text(Ecs::UserTargetRoles, role)),
            "Group.ObjectID" => draft.fill_text(Ecs::GroupId, either),
            "Group.DisplayName" => draft.fill_text(Ecs::GroupName, either),
            "UserPrincipalName" => {
                let new = new.filter(|name| identity::address(name).is_some());
                draft.set_text(Ecs::UserChangesEmail, new);
            }
            _ => {}
        }
    }
}

/// A value of `ModifiedProperties`: text, or JSON inside of a text (`"\"x\""`, `"[\"x\"]"`). Escaped.
fn inside<'a>(draft: &Draft<'a>, value: &'a str) -> Option<&'a str> {
    let escaped = scalar(value).filter(|text| !text.is_empty())?;
    let plain = draft.plain(escaped).trim();
    if plain.starts_with(['"', '[']) && serde_json::from_str::<&RawValue>(plain).is_ok() {
        return nested::texts(plain).next();
    }
    Some(escaped)
}

/// Kinds of objects that `Target` names in front of an id.
const KINDS: [&str; 8] =
    ["User", "Group", "Role", "Device", "ServicePrincipal", "Application", "Policy", "AdministrativeUnit"];

/// The kind of the object and its id: `User_6f1c…`.
fn kind_and_id(target: &str) -> Option<(&str, &str)> {
    identities(target)
        .find_map(|(id, _)| id.split_once('_').filter(|(kind, id)| KINDS.contains(kind) && !id.is_empty()))
}

/// The principal name among the ids (type 5).
pub fn principal_name(identities_: &str) -> Option<&str> {
    let of_type = |wanted| identities(identities_).find(move |(_, kind)| *kind == wanted).map(|(id, _)| id);
    of_type("5").filter(|id| identity::is_known(id))
}

/// The display name among the ids (type 1) of the first object: where a user is given a role, the role's own follow.
pub fn display_name(identities_: &str) -> Option<&str> {
    let is_object = |id: &str| id.split_once('_').is_some_and(|(kind, _)| KINDS.contains(&kind));
    let mut object = None;
    for (id, kind) in identities(identities_) {
        if is_object(id) && *object.get_or_insert(id) != id {
            return None;
        }
        if kind == "1" {
            return Some(id).filter(|id| identity::is_known(id));
        }
    }
    None
}

/// The ids of `Actor` or `Target` and their types, as text.
fn identities(list: &str) -> impl Iterator<Item = (&str, &str)> {
    nested::elements(list).filter_map(|element| {
        let id = nested::text_member(element, "ID")?;
        Some((id, nested::text_member(element, "Type").unwrap_or_default()))
    })
}
