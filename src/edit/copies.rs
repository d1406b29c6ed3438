//! Where an ECS document of ours holds one value more than once. ECS asks for `related.*` to repeat what
//! stands elsewhere, and a record's own field stays below `o365.audit` where its spelling may say more than
//! the ECS field does. Whoever drops `source.ip` means the address, so the name of an ECS field stands for
//! the value at each of these places; a name below `related` or `o365.audit` for that field alone.
//!
//! Comes in: the name of a field. Goes out: the names of the others. The table is held against what the
//! normalizer writes by a test over all fixtures.

use super::path::FieldPath;

/// The names that stand for a value, and everywhere that it stands.
const GROUPS: &[(&[&str], &[&str])] = &[
    (
        &["source", "source.ip", "source.address", "source.domain"],
        &[
            "source.ip",
            "source.address",
            "source.domain",
            "related.ip",
            "o365.audit.ClientIP",
            "o365.audit.ClientIPAddress",
            "o365.audit.ActorIpAddress",
        ],
    ),
    (
        &["user", "user.id", "user.name", "user.email"],
        &["user.id", "user.name", "user.email", "related.user", "o365.audit.UserId", "o365.audit.UserKey"],
    ),
    (&["organization", "organization.name"], &["organization.name", "o365.audit.OrganizationName"]),
];

/// Every place of the value that `path` names; nothing for a field that stands for itself alone.
pub(super) fn of(path: &FieldPath) -> &'static [&'static str] {
    let named = |(names, _): &&(&[&str], &[&str])| names.iter().any(|name| path.is(name));
    GROUPS.iter().find(named).map_or(&[], |(_, places)| places)
}
