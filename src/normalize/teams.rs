//! Microsoft Teams: record types 25, 49, 57, 59, 60, 73, 92, 206, 230, 293.
//!
//! Comes in: a record. Goes out: facts in a draft (activity-api, section 5, item 40).

use crate::record::Field;

use super::draft::Draft;
use super::ecs::Ecs;
use super::family::{Family, Rule, copied, made, moved};
use super::{base, identity, name_value, nested, sharepoint, verb};

pub static FAMILY: Family = Family {
    name: "Microsoft Teams",
    record_types: &[25, 49, 57, 59, 60, 73, 92, 206, 230, 293, 462],
    rules: RULES,
    describe,
};

const RULES: &[Rule] = &[
    moved(Ecs::GroupName, Field::TeamName),
    copied(Ecs::GroupId, Field::TeamGuid),
    copied(Ecs::GroupId, Field::AADGroupId),
    made(
        Ecs::EventCategory,
        "Operation",
        "`configuration` where the table of operations is silent and the name has a verb",
    ),
    made(Ecs::EventType, "Operation", "of the same, by the verb"),
    made(Ecs::EventStart, "StartTime", "of a meeting"),
    made(Ecs::EventEnd, "EndTime", "of a meeting"),
    made(
        Ecs::UserTargetId,
        "Members[].UPN; ObjectId",
        "the one member who is not the actor; of `Delete user.` the object",
    ),
    made(Ecs::UserTargetEmail, "Members[].UPN; ObjectId", "of the same, where it is an address"),
    made(Ecs::UserTargetName, "Members[].UPN; ObjectId", "of the same"),
    made(Ecs::UserTargetDomain, "Members[].UPN; ObjectId", "of the same"),
    made(Ecs::UserTargetFullName, "Members[].DisplayName", "of the one member"),
    made(Ecs::RelatedUser, "Members[].UPN, Attendees[].UPN, Organizer.UPN", "of all"),
    made(Ecs::UserAgentOriginal, "ExtraProperties UserAgent", "where there is no other"),
    made(Ecs::UrlOriginal, "MessageURLs; MeetingURL", "the first"),
    made(Ecs::UrlDomain, "MessageURLs; MeetingURL", "of the same"),
];

fn describe(draft: &mut Draft<'_>) {
    verb::describe(draft, "configuration");
    if draft.operation() == "Delete user."
        && let Some(user) = draft.said(Field::ObjectId).filter(|id| identity::is_known(id))
    {
        identity::set(draft, identity::TARGET, user);
    }
    let actor = draft.said(Field::UserId).unwrap_or_default();
    let (mut one, mut others) = (None, 0);
    for member in nested::elements(draft.raw(Field::Members).unwrap_or_default()) {
        let name = nested::text_member(member, "UPN");
        draft.add_text(Ecs::RelatedUser, name.unwrap_or_default());
        // Who opens a chat is a member of it.
        if !name.is_some_and(|name| name.eq_ignore_ascii_case(actor)) {
            others += 1;
            one = Some(member);
        }
    }
    if let Some(member) = one.filter(|_| others == 1) {
        if let Some(name) = nested::text_member(member, "UPN") {
            identity::set(draft, identity::TARGET, name);
        }
        draft.set_text(Ecs::UserTargetFullName, nested::text_member(member, "DisplayName"));
    }
    if draft.operation().starts_with("Meeting") {
        draft.copy(Ecs::EventStart, Field::StartTime);
        draft.copy(Ecs::EventEnd, Field::EndTime);
    }
    let organizer = draft.raw(Field::Organizer).into_iter();
    for person in nested::elements(draft.raw(Field::Attendees).unwrap_or_default()).chain(organizer) {
        draft.add_text(Ecs::RelatedUser, nested::text_member(person, "UPN").unwrap_or_default());
    }
    let urls = [Field::MessageURLs, Field::MeetingURL].into_iter().filter_map(|field| draft.raw(field));
    if let Some(url) = urls.flat_map(nested::texts).next() {
        sharepoint::set_url(draft, url);
    }
    let properties = draft.raw(Field::ExtraProperties).unwrap_or_default();
    base::fill_user_agent(draft, name_value::last_value(properties, "UserAgent"));
}
