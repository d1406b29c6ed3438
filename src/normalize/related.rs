//! `related.*`: what of the document a person would search for, wherever in it it stands.
//!
//! Comes in: a draft with everything else in it. Goes out: the same, with the lists. Families add what they know of
//! people and addresses that have no other field.

use super::draft::{Draft, Value};
use super::ecs::Ecs;

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
const HOSTS: &[Ecs] = &[Ecs::HostName, Ecs::HostHostname, Ecs::SourceDomain, Ecs::ServerDomain, Ecs::UrlDomain];
const HASHES: &[Ecs] = &[Ecs::FileHashMd5, Ecs::FileHashSha1, Ecs::FileHashSha256];

/// Adds the values of other fields to the lists.
pub fn gather(draft: &mut Draft<'_>) {
    for (list, fields) in [(Ecs::RelatedUser, USERS), (Ecs::RelatedHosts, HOSTS), (Ecs::RelatedHash, HASHES)] {
        for field in fields {
            add_all(draft, list, *field);
        }
    }
}

/// Adds every text of a field to a list.
pub fn add_all(draft: &mut Draft<'_>, list: Ecs, field: Ecs) {
    // By place, because the list grows in the same draft.
    let mut at = draft.first(field);
    while let Some((value, next)) = draft.at(at) {
        if let Value::Text(_) | Value::Lower(_) = value {
            draft.add(list, value);
        }
        at = next;
    }
}
