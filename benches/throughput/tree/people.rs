//! Entra, by way of a tree: who did what to whom, and who signed in.

use auditferry::record::address::Address;
use serde_json::{Value, json};

use super::doc::{Doc, address, embedded, is_known, last_value, list, member, scalar, set_address, set_user, text};
use super::{Record, set_source, severity};

/// Record type 8.
pub fn directory(record: &Record, doc: &mut Doc) {
    full_name(record, doc);
    let target = list(record, "Target");
    let objects = objects(target);
    let of_kind = |kind: &str| objects.iter().find(|object| object.kind == kind);
    if let Some(group) = of_kind("Group") {
        doc.set("group.id", group.id.clone());
        doc.set_text("group.name", group.display_name.clone());
    }
    if let Some(device) = of_kind("Device") {
        doc.set("device.id", device.id.clone());
    }
    let object_id = text(record, "ObjectId").filter(|id| is_known(id));
    let name = of_type(target, "5").filter(|name| is_known(name)).or(object_id);
    let name = name.filter(|name| address(name).is_some());
    if let Some(user) = of_kind("User") {
        set_user(doc, "user.target", name.as_ref().unwrap_or(&user.id));
        doc.add("related.user", user.id.clone());
        doc.set_text("user.target.full_name", user.display_name.clone());
    } else if let Some(service) = of_kind("ServicePrincipal") {
        doc.set("user.target.id", service.id.clone());
    } else if let Some(name) = name.filter(|_| objects.is_empty()) {
        set_user(doc, "user.target", &name);
    }
    for change in list(record, "ModifiedProperties") {
        let (new, old) = (change.get("NewValue").and_then(inside), change.get("OldValue").and_then(inside));
        let either = new.clone().or(old.clone());
        match change["Name"].as_str() {
            Some("Role.DisplayName") => doc.add_text("user.target.roles", either.unwrap_or_default()),
            Some("Group.ObjectID") => doc.fill_text("group.id", either),
            Some("Group.DisplayName") => doc.fill_text("group.name", either),
            Some("Device.ObjectID") => doc.fill_text("device.id", either),
            Some("UserPrincipalName") => {
                if let (Some(new), Some(old)) = (new, old)
                    && new != old
                    && address(&new).is_some()
                {
                    doc.set("user.changes.email", new);
                    doc.add_person(&old);
                }
            }
            Some("InvitedUserEmailAddress") => doc.add_person(&either.unwrap_or_default()),
            _ => {}
        }
    }
    let details = last_value(list(record, "ExtendedProperties"), "additionalDetails");
    doc.set_text("device.id", details.and_then(|details| member(&embedded(&details)?, "DeviceId")));
    doc.set_text("event.reason", text(record, "ResultStatusReason"));
}

/// An object that `Target` names, by its `Kind_id`.
struct Object {
    kind: String,
    id: String,
    /// Of the entries behind it, up to the next object.
    display_name: Option<String>,
}

fn objects(target: &[Value]) -> Vec<Object> {
    let mut objects: Vec<Object> = Vec::new();
    let mut before = None;
    for identity in target {
        let Some(id) = member(identity, "ID") else { continue };
        if let Some((kind, id)) = kind_and_id(&id) {
            objects.push(Object { kind: kind.to_owned(), id: id.to_owned(), display_name: None });
            continue;
        }
        if member(identity, "Type").as_deref() != Some("1") || !is_known(&id) {
            continue;
        }
        match objects.last_mut() {
            Some(object) => _ = object.display_name.get_or_insert(id),
            None => _ = before.get_or_insert(id),
        }
    }
    // A name in front of the only object is its own.
    if let [object] = &mut objects[..] {
        object.display_name = object.display_name.take().or(before);
    }
    objects
}

/// Record type 294.
pub fn risk(record: &Record, doc: &mut Doc) {
    full_name(record, doc);
    doc.set_text("rule.name", text(record, "RiskEventType"));
    let reason = text(record, "RiskDetail").filter(|detail| detail != "none" && detail != "hidden");
    doc.set_text("event.reason", reason);
    doc.set_time("event.start", text(record, "ActivityDateTime"));
    doc.set("event.kind", "alert");
    doc.add("event.category", "intrusion_detection");
    doc.add("event.type", "info");
    if let Some(severity) = severity(text(record, "RiskLevel")) {
        doc.set("event.severity", severity);
    }
    if !doc.has("user.email")
        && let Some(name) = text(record, "UserPrincipalName")
    {
        set_address(doc, "user", &name);
    }
    let details = text(record, "AdditionalInfo").and_then(|details| embedded(&details));
    let agent = last_value(details.as_ref().and_then(Value::as_array).map_or(&[], Vec::as_slice), "userAgent");
    doc.fill_text("user_agent.original", agent);
    if !doc.has("source.ip")
        && let Some(sent) = text(record, "IpAddress")
        && let Some(from) = Address::parse(&sent)
    {
        set_source(doc, from);
    }
}

/// Where it says that it happened, where no table does.
pub fn place_of_risk(record: &Record, doc: &mut Doc) {
    let Some(place) = record.get("Location") else { return };
    doc.set_text("source.geo.city_name", member(place, "City"));
    doc.set_text("source.geo.country_iso_code", member(place, "CountryOrRegion"));
    doc.set_text("source.geo.region_name", member(place, "State"));
    if let Some(at) = place.get("GeoCoordinates")
        && let (Some(lat), Some(lon)) = (at["Latitude"].as_f64(), at["Longitude"].as_f64())
    {
        doc.set("source.geo.location", json!({"lat": lat, "lon": lon}));
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

fn kind_and_id(id: &str) -> Option<(&str, &str)> {
    const KINDS: [&str; 8] =
        ["User", "Group", "Role", "Device", "ServicePrincipal", "Application", "Policy", "AdministrativeUnit"];
    id.split_once('_').filter(|(kind, id)| KINDS.contains(kind) && !id.is_empty())
}

/// The display name of the first object: where a user is given a role, the role's own follow.
fn display_name(identities: &[Value]) -> Option<String> {
    let mut object: Option<String> = None;
    for identity in identities {
        let Some(id) = member(identity, "ID") else { continue };
        if kind_and_id(&id).is_some() && *object.get_or_insert(id.clone()) != id {
            return None;
        }
        if member(identity, "Type").as_deref() == Some("1") {
            return Some(id).filter(|id| is_known(id));
        }
    }
    None
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
        // An error without a number: left over, or the reason; the record does not say which.
        (None, Some(_)) if doc.text("event.outcome").as_deref() != Some("failure") => Some("unknown".to_owned()),
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
    doc.set_text("user.full_name", display_name(actor));
}
