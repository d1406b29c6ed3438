//! The directory of Entra ID, and the risks it sees: record types 8 and 294.
//!
//! Comes in: a record. Goes out: facts in a draft. Whom or what an operation was done to stands in `Target`, a list
//! of ids in which one is the kind with the object's id (`User_6f1c…`) and others are names; what changed stands in
//! `ModifiedProperties`, as JSON inside of texts (activity-api, section 5, items 5 to 20).

use std::sync::LazyLock;

use memchr::memmem::Finder;
use serde_json::value::RawValue;

use crate::record::Field;
use crate::record::address::Address;
use crate::record::view::scalar;

use super::draft::{Draft, Value};
use super::ecs::Ecs;
use super::family::{Family, Rule, copied, made};
use super::{base, identity, location, name_value, nested};

pub static FAMILY: Family = Family { name: "Entra directory", record_types: &[8, 294], rules: RULES, describe };

static DEVICE_ID: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new("DeviceId"));

/// `AadRiskDetection`.
const RISK: i64 = 294;

const RULES: &[Rule] = &[
    made(Ecs::EventKind, "RecordType", "`alert` for a risk (294)"),
    made(Ecs::EventCategory, "RecordType", "`intrusion_detection` for a risk (294)"),
    made(Ecs::EventType, "RecordType", "`info` for a risk (294)"),
    made(Ecs::EventSeverity, "RiskLevel", "of a risk: low 2, medium 3, high 4"),
    copied(Ecs::RuleName, Field::RiskEventType),
    made(Ecs::EventReason, "ResultStatusReason; RiskDetail of a risk", "as sent, unless it is `none` or `hidden`"),
    made(Ecs::UserEmail, "UserPrincipalName", "of a risk whose UserId is no address"),
    made(Ecs::UserAgentOriginal, "AdditionalInfo userAgent", "of a risk"),
    made(Ecs::SourceIp, "IpAddress", "of a risk that has no other address"),
    made(
        Ecs::SourcePlace,
        "Location City, State, CountryOrRegion, GeoCoordinates",
        "of a risk: `source.geo`, where no database that is configured gives one for source.ip",
    ),
    copied(Ecs::EventStart, Field::ActivityDateTime),
    copied(Ecs::UserFullName, Field::UserDisplayName),
    made(
        Ecs::UserTargetId,
        "Target, ObjectId",
        "of a target that is a user: its principal name, else the id behind `User_`; of a service principal its id; of a permission ModifiedProperties ServicePrincipal.ObjectID, who was given it",
    ),
    made(Ecs::UserTargetEmail, "Target, ObjectId", "its principal name"),
    made(Ecs::UserTargetName, "Target, ObjectId", "of the same"),
    made(Ecs::UserTargetDomain, "Target, ObjectId", "of the same"),
    made(
        Ecs::UserTargetFullName,
        "Target; ModifiedProperties ServicePrincipal.DisplayName",
        "the display name of whoever is the target",
    ),
    made(Ecs::UserTargetRoles, "ModifiedProperties Role.DisplayName", "the role that was given or taken"),
    made(Ecs::UserChangesEmail, "ModifiedProperties UserPrincipalName", "the new one, where it is another"),
    made(
        Ecs::RelatedUser,
        "Target User_; ModifiedProperties InvitedUserEmailAddress, UserPrincipalName",
        "the id of the user; who was invited; the old name",
    ),
    made(
        Ecs::GroupId,
        "Target; ModifiedProperties Group.ObjectID",
        "of a target that is a group, or of the group that a member was added to or removed from",
    ),
    made(Ecs::GroupName, "Target; ModifiedProperties Group.DisplayName", "of the same"),
    made(
        Ecs::DeviceId,
        "additionalDetails.DeviceId; Target; ModifiedProperties Device.ObjectID",
        "of a target that is a device",
    ),
];

fn describe(draft: &mut Draft<'_>) {
    if draft.record_type == Some(RISK) {
        return describe_risk(draft);
    }
    describe_target(draft);
    describe_changes(draft);
    describe_device(draft);
    draft.set_text(Ecs::EventReason, draft.said(Field::ResultStatusReason));
}

fn describe_risk(draft: &mut Draft<'_>) {
    draft.kind = "alert";
    draft.add(Ecs::EventCategory, Value::Text("intrusion_detection"));
    draft.add(Ecs::EventType, Value::Text("info"));
    if let Some(severity) = draft.said(Field::RiskLevel).and_then(base::severity) {
        draft.set(Ecs::EventSeverity, Value::Number(severity));
    }
    draft.set_text(
        Ecs::EventReason,
        draft.said(Field::RiskDetail).filter(|detail| !["none", "hidden"].contains(detail)),
    );
    if !draft.has(Ecs::UserEmail)
        && let Some(name) = draft.said(Field::UserPrincipalName)
    {
        identity::set_address(draft, identity::USER, name);
    }
    let details = draft.said(Field::AdditionalInfo).and_then(|text| draft.embedded(text));
    let agent = details.and_then(|details| name_value::last_value(details, "userAgent"));
    base::fill_user_agent(draft, agent);
    if !draft.has(Ecs::SourceIp)
        && let Some(address) = draft.said(Field::IpAddress).and_then(Address::parse)
    {
        base::set_source(draft, address);
    }
    location::add_source(draft, draft.raw(Field::Location).unwrap_or_default());
}

fn describe_target(draft: &mut Draft<'_>) {
    let target = draft.raw(Field::Target).unwrap_or_default();
    let objects = objects(target);
    let of_kind = |kind: &str| objects.iter().find(|object| object.kind == kind);
    let object_id = draft.said(Field::ObjectId).filter(|id| identity::is_known(id));
    if let Some(group) = of_kind("Group") {
        draft.set_text(Ecs::GroupId, Some(group.id));
        draft.set_text(Ecs::GroupName, group.display_name);
    }
    if let Some(device) = of_kind("Device") {
        draft.set_text(Ecs::DeviceId, Some(device.id));
    }
    let name = principal_name(target).or(object_id).filter(|text| identity::address(draft.canonical(text)).is_some());
    if let Some(user) = of_kind("User") {
        // The name says who it is, as it does of the actor; the id is kept where a search finds it.
        identity::set(draft, identity::TARGET, name.unwrap_or(user.id));
        draft.add_text(Ecs::RelatedUser, user.id);
        draft.set_text(Ecs::UserTargetFullName, user.display_name);
    } else if let Some(service) = of_kind("ServicePrincipal") {
        draft.set_text(Ecs::UserTargetId, Some(service.id));
        draft.set_text(Ecs::UserTargetFullName, service.display_name);
    } else if let Some(name) = name.filter(|_| objects.is_empty()) {
        // Without a kind only an address tells that the object is a user.
        identity::set(draft, identity::TARGET, name);
    }
}

fn describe_changes(draft: &mut Draft<'_>) {
    let mut service = None;
    for change in draft.list(Field::ModifiedProperties).iter().filter_map(|element| element.entry) {
        let new = change.new.and_then(|value| inside(draft, value));
        let old = change.old.and_then(|value| inside(draft, value));
        // What was taken away is an old value.
        let either = new.or(old);
        match change.name {
            "Role.DisplayName" => either.into_iter().for_each(|role| draft.add_text(Ecs::UserTargetRoles, role)),
            "Group.ObjectID" => draft.fill_text(Ecs::GroupId, either),
            "Group.DisplayName" => draft.fill_text(Ecs::GroupName, either),
            // Who was given the permission; the object of the operation is the API that it is for.
            "ServicePrincipal.ObjectID" if !draft.has(Ecs::UserTargetName) => {
                if let Some(grantee) = either {
                    add_target_to_related(draft);
                    draft.set_text(Ecs::UserTargetId, Some(grantee));
                    draft.clear(Ecs::UserTargetFullName);
                }
            }
            "ServicePrincipal.DisplayName" if !draft.has(Ecs::UserTargetName) => service = either,
            "Device.ObjectID" => draft.fill_text(Ecs::DeviceId, either),
            "UserPrincipalName" => {
                if let (Some(new), Some(old)) = (new, old)
                    && new != old
                    && identity::address(draft.canonical(new)).is_some()
                {
                    draft.set_text(Ecs::UserChangesEmail, Some(draft.canonical(new)));
                    identity::add_related(draft, old);
                }
            }
            "InvitedUserEmailAddress" => identity::add_related(draft, either.unwrap_or_default()),
            _ => {}
        }
    }
    draft.fill_text(Ecs::UserTargetFullName, service);
}

/// A target that gives way to another is found by its id all the same.
fn add_target_to_related(draft: &mut Draft<'_>) {
    if let Some(target) = draft.text(Ecs::UserTargetId) {
        draft.add_text(Ecs::RelatedUser, target);
    }
}

/// The device's own id stands in the details; the one of `Target` is that of its object in the directory.
fn describe_device(draft: &mut Draft<'_>) {
    let properties = draft.raw(Field::ExtendedProperties).unwrap_or_default();
    if DEVICE_ID.find(properties.as_bytes()).is_none() {
        return;
    }
    let details = name_value::last_of(draft.list(Field::ExtendedProperties), "additionalDetails");
    let details = details.and_then(|text| draft.embedded(text)).unwrap_or_default();
    draft.set_text(Ecs::DeviceId, nested::text_member(details, "DeviceId"));
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

/// An object that `Target` names.
struct Object<'a> {
    kind: &'a str,
    id: &'a str,
    /// Of the entries behind it, up to the next object.
    display_name: Option<&'a str>,
}

/// The objects of `Target`, each by its `Kind_id`.
fn objects(target: &str) -> Vec<Object<'_>> {
    let mut objects: Vec<Object<'_>> = Vec::new();
    let mut before = None;
    for (id, of_type) in identities(target) {
        let name = (of_type == "1" && identity::is_known(id)).then_some(id);
        match id.split_once('_').filter(|(kind, id)| KINDS.contains(kind) && !id.is_empty()) {
            Some((kind, id)) => objects.push(Object { kind, id, display_name: None }),
            None => match objects.last_mut() {
                Some(object) => object.display_name = object.display_name.or(name),
                None => before = before.or(name),
            },
        }
    }
    // A name in front of the only object is its own.
    if let [object] = &mut objects[..] {
        object.display_name = object.display_name.or(before);
    }
    objects
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
    let mut elements = nested::elements(list);
    let said = |value| scalar(value).filter(|text| !text.is_empty());
    std::iter::from_fn(move || {
        let (mut id, mut kind) = (None, None);
        elements.next_with(|name, value| match name {
            "ID" => id = said(value),
            "Type" => kind = said(value),
            _ => {}
        })?;
        Some(id.map(|id| (id, kind.unwrap_or_default())))
    })
    .flatten()
}
