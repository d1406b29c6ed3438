//! What the name of an operation says was done, where the table of operations does not know it.
//!
//! Comes in: the text of `Operation`, unescaped, and the category of what its record type is about. Goes out: a
//! category and a type in a draft, or nothing. New operations come every month, and nearly all are named by a verb in
//! front (`DeleteEnvironment`) or behind (`SegmentCreated`, `Objective created`). Only whole words at the two ends
//! count; a name with none of them says nothing.

use super::draft::{Draft, Value};
use super::ecs::Ecs;

/// What a word at an end of a name says, and the words, in lower case.
const VERBS: &[(&str, &[&str])] = &[
    ("creation", &["create", "created", "creation", "new", "add", "added", "upload", "uploaded"]),
    ("deletion", &["delete", "deleted", "deletion", "remove", "removed"]),
    (
        "change",
        &[
            "change", "changed", "disable", "disabled", "edit", "edited", "enable", "enabled", "rename", "renamed",
            "set", "update", "updated",
        ],
    ),
    ("access", &["export", "exported", "get", "list", "read", "view", "viewed"]),
];

/// What a verb means in front of the noun of a cmdlet alone, where it is one of PowerShell's approved verbs. `Add` puts
/// something into what is there: what makes is `New`. The others are nouns or states as well in names that are no
/// cmdlets' (`StartPage`, `SearchPreference`).
const VERBS_OF_CMDLETS: &[(&str, &[&str])] = &[
    (
        "change",
        &[
            "add",
            "clear",
            "connect",
            "disconnect",
            "import",
            "install",
            "move",
            "release",
            "restore",
            "resume",
            "start",
            "stop",
            "suspend",
            "undo",
            "uninstall",
        ],
    ),
    ("access", &["search", "test"]),
];

/// Adds the category with the type that the verb of the operation stands for, unless there is a category already.
/// The categories that it is called with (`configuration`, `file`) are allowed with all four types (ECS 8.17).
pub fn describe(draft: &mut Draft<'_>, category: &'static str) {
    describe_by(draft, category, kind_of);
}

/// The same of a cmdlet (`Set-Mailbox`), which is about a configuration; not of what is none.
pub fn describe_cmdlet(draft: &mut Draft<'_>) {
    describe_by(draft, "configuration", kind_of_cmdlet);
}

fn describe_by(draft: &mut Draft<'_>, category: &'static str, kind_of: fn(&str) -> Option<&'static str>) {
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
    meaning(VERBS, first_word(operation)).or_else(|| meaning(VERBS, last_word(operation)))
}

fn kind_of_cmdlet(operation: &str) -> Option<&'static str> {
    let (verb, _) = operation.split_once('-').filter(|(_, noun)| !noun.is_empty())?;
    meaning(VERBS_OF_CMDLETS, verb).or_else(|| meaning(VERBS, verb))
}

fn meaning(verbs: &[(&'static str, &[&str])], word: &str) -> Option<&'static str> {
    let is_one_of = |words: &[&str]| words.iter().any(|known| word.eq_ignore_ascii_case(known));
    verbs.iter().find(|(_, words)| is_one_of(words)).map(|(kind, _)| *kind)
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

    #[test]
    fn a_cmdlet_is_said_by_its_verb_and_add_makes_nothing() {
        for (operation, kind) in [
            ("New-Thing", Some("creation")),
            ("Add-Thing", Some("change")),
            ("AddThing", None),
            ("Delete-Thing", Some("deletion")),
            ("Suspend-Thing", Some("change")),
            ("Search-Thing", Some("access")),
            ("Export-Thing", Some("access")),
            ("Frobnicate-Set", None),
            ("Set-", None),
            ("Set", None),
        ] {
            assert_eq!(kind_of_cmdlet(operation), kind, "{operation}");
        }
        assert_eq!(kind_of("AddThing"), Some("creation"));
        assert_eq!(kind_of("SearchPreference"), None);
        let words =
            |verbs: &[(&str, &'static [&'static str])]| verbs.iter().flat_map(|(_, words)| *words).collect::<Vec<_>>();
        let mut all = words(VERBS);
        all.sort_unstable();
        assert!(all.windows(2).all(|pair| pair[0] != pair[1]), "a word stands twice");
    }
}
