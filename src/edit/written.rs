//! The names that an ECS document of ours has outside of a record's own fields: a closed list, so that a name
//! which is mistyped can be told from one that takes something away. Comes in: the name of a field. Goes out:
//! whether it can be there. Held against what the normalizer writes by a test over all fixtures.

use super::path::FieldPath;

/// Every field that is no object.
pub const WRITTEN: &[&str] = &[
    "@timestamp",
    "ecs.version",
    "data_stream.type",
    "data_stream.dataset",
    "data_stream.namespace",
    "event.module",
    "event.dataset",
    "event.kind",
    "event.id",
    "event.action",
    "event.provider",
    "event.code",
    "event.outcome",
    "event.original",
    "error.message",
    "organization.id",
    "organization.name",
    "user.id",
    "user.name",
    "user.domain",
    "user.email",
    "user_agent.original",
    "source.address",
    "source.ip",
    "source.port",
    "source.domain",
    "related.ip",
    "related.user",
];
/// Below these any name may stand: the record's own fields, and ours.
const OPEN: [&str; 2] = ["o365.audit", "auditferry"];

/// Whether an ECS document can have the field, or one that lies in it.
pub fn can_be_written(path: &FieldPath) -> bool {
    OPEN.iter().any(|open| path.covers(open) || path.lies_in(open)) || WRITTEN.iter().any(|name| path.covers(name))
}

/// Whether the name is that of an object which lists or texts lie in.
pub fn is_object(path: &FieldPath) -> bool {
    OPEN.iter().chain(WRITTEN).any(|name| path.covers(name) && !WRITTEN.iter().any(|leaf| path.is(leaf)))
}
