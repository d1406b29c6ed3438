//! What the name of an operation says was done, where the table of operations does not know it.
//!
//! Comes in: the text of `Operation`, unescaped, and the category of what its record type is about. Goes out: a
//! category and a type in a draft, or nothing. New operations come every month, and nearly all are named by a verb in
//! front (`DeleteEnvironment`) or behind (`SegmentCreated`, `Objective created`). Only whole words at the two ends
//! count; a name with none of them says nothing.

use super::draft::{Draft, Value};
use super::ecs::Ecs;

/// Adds the category with the type that the verb of the operation stands for, unless there is a category already.
/// The categories that it is called with (`configuration`, `file`) are allowed with all four types (ECS 8.17).
pub fn describe(draft: &mut Draft<'_>, category: &'static str) {
    if draft.has(Ecs::EventCategory) {
        return;
    }
    if let Some(kind) = kind_of(draft.operation()) {
        draft.add(Ecs::EventCategory, Value::Text(category));
        draft.add(Ecs::EventType, Value::Text(kind));
    }
}

/// The `event.type` of the first or else the last word.
fn kind_of(operation: &str) -> Option<&'static str> {
    meaning(first_word(operation)).or_else(|| meaning(last_word(operation)))
}

fn meaning(word: &str) -> Option<&'static str> {
    let is_one_of = |words: &[&str]| words.iter().any(|known| word.eq_ignore_ascii_case(known));
    if is_one_of(&["create", "created", "creation", "new", "add", "added", "upload", "uploaded"]) {
        Some("creation")
    } else if is_one_of(&["delete", "deleted", "deletion", "remove", "removed"]) {
        Some("deletion")
    } else if is_one_of(&[
        "change", "changed", "disable", "disabled", "edit", "edited", "enable", "enabled", "rename", "renamed", "set",
        "update", "updated",
    ]) {
        Some("change")
    } else if is_one_of(&["export", "exported", "get", "list", "read", "view", "viewed"]) {
        Some("access")
    } else {
        None
    }
}

/// `Delete` of `DeleteEnvironment`.
fn first_word(text: &str) -> &str {
    let text = text.trim();
    let is_end = |(at, character): (usize, char)| {
        (!character.is_ascii_alphabetic() || (at > 0 && character.is_ascii_uppercase())).then_some(at)
    };
    &text[..text.char_indices().find_map(is_end).unwrap_or(text.len())]
}

/// `created` of `Objective created`, `Created` of `SegmentCreated`.
fn last_word(text: &str) -> &str {
    let text = text.trim();
    let from = text.char_indices().rev().find(|(_, character)| !character.is_ascii_lowercase());
    match from {
        Some((at, character)) if character.is_ascii_uppercase() => &text[at..],
        Some((at, character)) => &text[at + character.len_utf8()..],
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_words_at_the_ends_count() {
        for (operation, kind) in [
            ("DeleteEnvironment", Some("deletion")),
            ("SegmentCreated", Some("creation")),
            ("Objective created", Some("creation")),
            ("MessageDeletion", Some("deletion")),
            ("StreamInvokeVideoView", Some("access")),
            ("ReadArtifact", Some("access")),
            ("CrossTenantAccessPolicyUpdated", Some("change")),
            ("update", Some("change")),
            ("Settings", None),
            ("Preview", None),
            ("Newsletter", None),
            ("GetawayPlanned", None),
            ("Ändern", None),
            ("", None),
            (" ", None),
        ] {
            assert_eq!(kind_of(operation), kind, "{operation}");
        }
    }
}
