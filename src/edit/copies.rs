//! Where an ECS document of ours holds one value more than once. ECS asks for `related.*` to repeat what
//! stands elsewhere, and a record's own field stays below `o365.audit` where its spelling may say more than
//! the ECS field does. Whoever drops `source.ip` means the address, so the name of an ECS field stands for
//! the value at each of these places; a name below `related` or `o365.audit` for that field alone.
//!
//! Comes in: the name of a field. Goes out: the names of the others. The table is held against what the
//! normalizer writes by a test over all fixtures, in both profiles.

use super::path::FieldPath;

/// The same thing by several names.
struct Group {
    /// The names that stand for it.
    names: &'static [&'static str],
    /// Everywhere that it stands: lists of places, because one thing may stand where another does.
    places: &'static [&'static [&'static str]],
}

/// The address that a request came from.
const SOURCE: &[&str] = &[
    "source.ip",
    "source.address",
    "source.domain",
    "client.ip",
    "client.address",
    "client.domain",
    "related.ip",
    "related.hosts",
    "o365.audit.ClientIP",
    "o365.audit.ClientIPAddress",
    "o365.audit.ActorIpAddress",
];

/// Who did it.
const ACTOR: &[&str] = &[
    "user.id",
    "user.name",
    "user.email",
    "user.full_name",
    "related.user",
    "o365.audit.UserId",
    "o365.audit.UserKey",
];

const GROUPS: &[Group] = &[
    Group {
        names: &[
            "source",
            "source.ip",
            "source.address",
            "source.domain",
            "client",
            "client.ip",
            "client.address",
            "client.domain",
        ],
        places: &[SOURCE],
    },
    Group { names: &["user", "user.id", "user.name", "user.email", "user.full_name"], places: &[ACTOR] },
    Group {
        names: &["organization", "organization.name"],
        places: &[&["organization.name", "o365.audit.OrganizationName"]],
    },
];

/// Every place of the value that `path` names; nothing for a field that stands for itself alone.
pub(super) fn of(path: &FieldPath) -> impl Iterator<Item = &'static str> {
    let group = GROUPS.iter().find(|group| group.names.iter().any(|name| path.is(name)));
    group.into_iter().flat_map(|group| group.places).flat_map(|places| places.iter().copied())
}
