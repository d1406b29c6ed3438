//! Microsoft Teams: record types 25, 49, 57, 59, 60, 73, 92, 206, 230, 293.
//!
//! Comes in: a record. Goes out: facts in a draft (activity-api, section 5, item 40).

use crate::record::Field;

use super::draft::Draft;
use super::ecs::Ecs;
use super::family::{Family, Rule, made, moved};
use super::{identity, nested, sharepoint};

pub static FAMILY: Family = Family {
    name: "Microsoft Teams",
    record_types: &[25, 49, 57, 59, 60, 73, 92, 206, 230, 293, 462],
    rules: RULES,
    describe,
};

const RULES: &[Rule] = &[
    moved(Ecs::GroupName, Field::TeamName),
    moved(Ecs::GroupId, Field::TeamGuid),
    made(Ecs::UserTargetId, "Members[].UPN; ObjectId", "the one member; of `Delete user.` the object"),
    made(Ecs::UserTargetEmail, "Members[].UPN; ObjectId", "of the same, where it is an address"),
    made(Ecs::UserTargetName, "Members[].UPN; ObjectId", "of the same"),
    made(Ecs::UserTargetDomain, "Members[].UPN; ObjectId", "of the same"),
    made(Ecs::UserTargetFullName, "Members[].DisplayName", "of the one member"),
    made(Ecs::RelatedUser, "Members[].UPN", "of all members"),
    made(Ecs::UrlOriginal, "MessageURLs", "the first"),
    made(Ecs::UrlDomain, "MessageURLs", "of the same"),
];

fn describe(draft: &mut Draft<'_>) {
    if draft.operation() == "Delete user."
        && let Some(user) = draft.said(Field::ObjectId).filter(|id| identity::is_known(id))
    {
        identity::set(draft, identity::TARGET, user);
    }
    let members = draft.raw(Field::Members).unwrap_or_default();
    let mut one = None;
    for (place, member) in nested::elements(members).enumerate() {
        one = (place == 0).then_some(member);
        if let Some(name) = nested::text_member(member, "UPN") {
            draft.add_text(Ecs::RelatedUser, name);
        }
    }
    if let Some(member) = one {
        if let Some(name) = nested::text_member(member, "UPN") {
            identity::set(draft, identity::TARGET, name);
        }
        draft.set_text(Ecs::UserTargetFullName, nested::text_member(member, "DisplayName"));
    }
    if let Some(url) = draft.raw(Field::MessageURLs).and_then(|list| nested::texts(list).next()) {
        sharepoint::set_url(draft, url);
    }
}
