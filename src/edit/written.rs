//! The names that an ECS document of ours has outside of a record's own fields: a closed list, so that a name
//! which is mistyped can be told from one that takes something away. Comes in: the name of a field. Goes out:
//! whether it can be there, and what it may hold. The list is that of the normalizer ([`ecs`]), and a test over all
//! fixtures holds that no document has another.

use std::sync::LazyLock;

use super::copies;
use super::path::FieldPath;
use crate::normalize::ecs::{self, Kind};

/// Below these any name may stand: the record's own fields, ours, and those of a file that was attached.
const OPEN: [&str; 3] = ["o365.audit", "auditferry", "email.attachments"];

/// Every field that is no object, in the order of the document.
pub static WRITTEN: LazyLock<Vec<&'static str>> =
    LazyLock::new(|| ecs::written().map(|(name, _)| name).filter(|name| !is_open(name)).collect());

/// The first names of a document: of ours, no record has one.
pub static ROOTS: LazyLock<Vec<&'static str>> = LazyLock::new(|| {
    let mut roots: Vec<&str> = ecs::written().filter_map(|(name, _)| name.split('.').next()).collect();
    roots.push("o365");
    // `event.original` is of another table.
    let mut seen = std::collections::HashSet::new();
    roots.retain(|root| seen.insert(*root));
    roots
});

fn is_open(name: &str) -> bool {
    OPEN.iter().any(|open| name == *open || name.strip_prefix(open).is_some_and(|rest| rest.starts_with('.')))
}

/// Whether an ECS document can have the field, or one that lies in it.
pub fn can_be_written(path: &FieldPath) -> bool {
    OPEN.iter().any(|open| path.covers(open) || path.lies_in(open)) || WRITTEN.iter().any(|name| path.covers(name))
}

/// Whether the name is that of an object which lists or texts lie in.
pub fn is_object(path: &FieldPath) -> bool {
    OPEN.iter().chain(WRITTEN.iter()).any(|name| path.covers(name) && !WRITTEN.iter().any(|leaf| path.is(leaf)))
}

/// Whether an IP address may stand at one of the places that the name stands for.
pub fn holds_addresses(path: &FieldPath) -> bool {
    let of_address = |name: &str| ecs::written().any(|(known, kind)| known == name && kind == Kind::Ip);
    !is_object(path) && (of_address(path.as_str()) || copies::of(path).any(of_address))
}

/// Whether the value of the field `name` goes where that of `path` goes.
pub fn reaches(path: &FieldPath, name: &str) -> bool {
    path.covers(name) || copies::of(path).any(|copy| copy == name)
}
