//! `related.*`: what of the document a person would search for, wherever in it it stands.
//!
//! Comes in: a draft with everything else in it. Goes out: the same, with the lists. Families add what they know of
//! people and addresses that have no other field.

use super::draft::{Draft, Value};
use super::ecs::Ecs;
use super::identity;

/// Fields whose values are people.
const USERS: &[Ecs] = &[
    Ecs::UserName,
    Ecs::UserId,
    Ecs::UserEmail,
    Ecs::UserTargetName,
    Ecs::UserTargetId,
    Ecs::UserTargetEmail,
    Ecs::UserChangesEmail,
    Ecs::FileOwner,
];
const HOSTS: &[Ecs] = &[Ecs::HostName, Ecs::SourceDomain, Ecs::ServerDomain, Ecs::DestinationDomain, Ecs::UrlDomain];
const HASHES: &[Ecs] = &[Ecs::FileHashMd5, Ecs::FileHashSha1, Ecs::FileHashSha256];

/// Adds the values of other fields to the lists.
///
/// `services` says whether accounts of the service itself are people too, as Elastic's integration has it.
pub fn gather(draft: &mut Draft<'_>, services: bool) {
    for (list, fields) in [(Ecs::RelatedUser, USERS), (Ecs::RelatedHosts, HOSTS), (Ecs::RelatedHash, HASHES)] {
        for field in fields {
            add_all(draft, list, *field, services);
        }
    }
}

/// Adds every text of a field to a list.
pub fn add_all(draft: &mut Draft<'_>, list: Ecs, field: Ecs, services: bool) {
    // By place, because the list grows in the same draft.
    let mut at = draft.first(field);
    while let Some((value, next)) = draft.at(at) {
        if let Value::Text(text) | Value::Lower(text) = value
            && (services || identity::is_somebody(text))
        {
            draft.add(list, value);
        }
        at = next;
    }
}
