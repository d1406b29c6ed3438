//! Sign-ins of Entra ID: record types 9 and 15.
//!
//! Comes in: a record. Goes out: facts in a draft. The outcome is what the error says: a failed sign-in is sent
//! with `ResultStatus: Success` as well, and a good one with a `LogonError` that is left over (activity-api,
//! section 5, items 1 to 4).

use crate::record::Field;

use super::draft::{Draft, Outcome, Value};
use super::ecs::Ecs;
use super::family::{Family, Rule, made};
use super::{entra, identity, name_value};

pub static FAMILY: Family = Family { name: "Entra sign-ins", record_types: &[9, 15, 275], rules: RULES, describe };

const RULES: &[Rule] = &[
    made(Ecs::EventCategory, "RecordType", "`authentication`, whatever the operation"),
    made(Ecs::EventType, "RecordType", "`start`, unless the operation says more"),
    made(
        Ecs::EventOutcome,
        "Operation, ErrorNumber, ErrorCode, LoginStatus, LogonError",
        "UserLoginFailed: failure; error 0: success; an error that asks for one more step, or one without a number whose status is no failure: unknown; any other: failure",
    ),
    made(Ecs::EventReason, "LogonError; ExtendedProperties.LoginError", "as sent, unless the sign-in succeeded"),
    made(Ecs::ErrorCode, "ErrorNumber, ErrorCode, LoginStatus", "unless it is 0"),
    made(Ecs::DeviceId, "DeviceProperties.Id", "the device that signed in"),
    made(Ecs::UserFullName, "Actor", "the entry that is a display name"),
    made(Ecs::UserEmail, "Actor", "the principal name, where UserId is none"),
    made(Ecs::UserName, "Actor", "of the same"),
    made(Ecs::UserDomain, "Actor", "of the same"),
];

/// Codes with which Entra stops a sign-in to ask for one more step, and which say nothing about how it ends: a
/// second factor is due (50072, 50074, 50076, 50079), a choice is offered (50058, 50125, 50127, 50129, 50140, 50144,
/// 50203, 65001), the device must be known (50097, 51006). Source: Microsoft's list of AADSTS codes.
const INTERRUPTS: [&str; 14] = [
    "50058", "50072", "50074", "50076", "50079", "50097", "50125", "50127", "50129", "50140", "50144", "50203",
    "51006", "65001",
];

fn describe(draft: &mut Draft<'_>) {
    draft.add(Ecs::EventCategory, Value::Text("authentication"));
    if !draft.has(Ecs::EventType) {
        draft.add(Ecs::EventType, Value::Text("start"));
    }
    let code =
        [Field::ErrorNumber, Field::ErrorCode, Field::LoginStatus].into_iter().find_map(|field| draft.said(field));
    let error = draft.said(Field::LogonError).or_else(|| {
        name_value::last_of(draft.list(Field::ExtendedProperties), "LoginError").filter(|text| !text.is_empty())
    });
    draft.outcome = outcome(draft.operation(), code, error, draft.outcome);
    if draft.outcome != Some(Outcome::Success) {
        draft.set_text(Ecs::EventReason, error);
        draft.set_text(Ecs::ErrorCode, code.filter(|code| *code != "0"));
    }
    if let Some(properties) = draft.raw(Field::DeviceProperties) {
        draft.set_text(Ecs::DeviceId, name_value::last_value(properties, "Id"));
    }
    if let Some(actor) = draft.raw(Field::Actor) {
        if !draft.has(Ecs::UserEmail)
            && let Some(name) = entra::principal_name(actor)
        {
            identity::set_address(draft, identity::USER, name);
        }
        draft.set_text(Ecs::UserFullName, entra::display_name(actor));
    }
}

fn outcome(operation: &str, code: Option<&str>, error: Option<&str>, status: Option<Outcome>) -> Option<Outcome> {
    match (code, error) {
        _ if operation == "UserLoginFailed" => Some(Outcome::Failure),
        (Some("0"), _) => Some(Outcome::Success),
        (Some(code), _) if INTERRUPTS.contains(&code) => Some(Outcome::Unknown),
        (Some(_), _) => Some(Outcome::Failure),
        // An error without a number: left over, or the reason; the record does not say which.
        (None, Some(_)) if status != Some(Outcome::Failure) => Some(Outcome::Unknown),
        (None, _) => status,
    }
}
