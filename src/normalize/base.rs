//! The facts that every record shares.
//!
//! Comes in: a view. Goes out: facts in a [`Draft`]. Rules: ecs-mapping, sections 1 and 2; where we
//! leave Elastic's habits: outcome only when the record says one, provider never a user type, an
//! address never hidden by an empty one (section 9).

use std::sync::LazyLock;

use memchr::memmem::Finder;

use crate::record::address::{self, Address};
use crate::record::{Field, View, types};

use super::draft::{Draft, Outcome, User};
use super::name_value;

static USER_AGENT: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new("\"UserAgent\""));

/// Finds what every record shares.
pub fn describe<'a>(view: &View<'a>, draft: &mut Draft<'a>) {
    describe_event(view, draft);
    describe_user(view, draft);
    describe_source(view, draft);
    draft.organization_id = take(view, Field::OrganizationId, draft);
    draft.organization_name = said(view, Field::OrganizationName);
}

fn describe_event<'a>(view: &View<'a>, draft: &mut Draft<'a>) {
    if let Some(time) = said(view, Field::CreationTime) {
        draft.time_ms = view.creation_time_ms();
        // Moved only where `@timestamp` says all of it: zone-less or `Z`, to the millisecond.
        let exact = time.strip_suffix('Z').unwrap_or(time);
        if draft.time_ms.is_some() && matches!(exact.len(), 19 | 23) && exact.as_bytes()[10] == b'T' {
            draft.moved.insert(Field::CreationTime);
        }
    }
    draft.id = take(view, Field::Id, draft);
    draft.action = take(view, Field::Operation, draft);
    draft.provider = take(view, Field::Workload, draft);
    draft.record_type = view.record_type();
    draft.code = draft.record_type.and_then(types::name);
    draft.outcome = outcome(said(view, Field::ResultStatus), draft.action);
}

/// Only what the record says. A failed sign-in is sent with `ResultStatus: Success` as well
/// (activity-api, section 5, item 1), so its operation decides.
pub fn outcome(status: Option<&str>, operation: Option<&str>) -> Option<Outcome> {
    if operation == Some("UserLoginFailed") {
        return Some(Outcome::Failure);
    }
    let status = status?;
    let is_one_of = |names: &[&str]| names.iter().any(|name| status.eq_ignore_ascii_case(name));
    if is_one_of(&["succeeded", "success", "partiallysucceeded", "true"]) {
        Some(Outcome::Success)
    } else if is_one_of(&["failed", "failure", "false"]) {
        Some(Outcome::Failure)
    } else {
        None
    }
}

fn describe_user<'a>(view: &View<'a>, draft: &mut Draft<'a>) {
    if let Some(id) = said(view, Field::UserId) {
        draft.user = user(id);
    }
    draft.user_agent = take(view, Field::UserAgent, draft).or_else(|| {
        let properties = view.raw(Field::ExtendedProperties)?;
        // Most sign-ins have the list, few have the entry: look before reading.
        USER_AGENT.find(properties)?;
        name_value::last_value(std::str::from_utf8(properties).ok()?, "UserAgent").filter(|agent| !agent.is_empty())
    });
}

/// A user out of an escaped text. It is an address when it has exactly one `@` with something on both
/// sides; an escape might hide another, and is then taken for none.
pub fn user(id: &str) -> User<'_> {
    let address = id
        .split_once('@')
        .filter(|(name, domain)| !name.is_empty() && !domain.is_empty() && !domain.contains('@') && !id.contains('\\'));
    User { id: Some(id), address }
}

fn describe_source<'a>(view: &View<'a>, draft: &mut Draft<'a>) {
    draft.addresses = addresses(view);
    draft.source = address::best(draft.addresses);
}

/// All that the record gives for the actor's address.
pub fn addresses<'a>(view: &View<'a>) -> [Option<Address<'a>>; 3] {
    // In Elastic's order, which matters only where they name different hosts.
    [Field::ClientIPAddress, Field::ClientIP, Field::ActorIpAddress].map(|field| {
        // An address has nothing to escape; an escaped text is left alone, under `o365.audit`.
        view.escaped(field).filter(|text| !text.contains('\\')).and_then(Address::parse)
    })
}

/// A scalar field that says something.
pub fn said<'a>(view: &View<'a>, field: Field) -> Option<&'a str> {
    view.escaped(field).filter(|text| !text.is_empty())
}

/// The same, and not repeated under `o365.audit`.
pub fn take<'a>(view: &View<'a>, field: Field, draft: &mut Draft<'a>) -> Option<&'a str> {
    let text = said(view, field)?;
    draft.moved.insert(field);
    Some(text)
}
