//! Texts with places (`o365-{tenant}`), looked at where they are written, so that `validate` names what `run`
//! would stumble over. Comes in: a text and its place. Goes out: a fault, or the places that it has. What a place
//! becomes is the sinks' matter; a test there holds both readings together.

use super::faults::Reader;
use super::values::At;

/// The names that may stand in braces.
pub const PLACES: [&str; 7] = ["tenant", "tenant_id", "content_type", "workload", "operation", "id", "key"];

/// The places in the text; `None` where it is no template.
pub fn places(text: &str) -> Result<Vec<&str>, String> {
    let mut found = Vec::new();
    let mut rest = text;
    while let Some(open) = rest.find(['{', '}']) {
        let inside = rest[open..].strip_prefix('{').ok_or("a `}` has no `{` before it")?;
        let close = inside.find(['{', '}']).filter(|at| inside[*at..].starts_with('}'));
        let close = close.ok_or("a `{` has no `}` behind it")?;
        let name = &inside[..close];
        if !PLACES.contains(&name) {
            return Err(format!("`{{{name}}}` is not known here"));
        }
        found.push(name);
        rest = &inside[close + 1..];
    }
    Ok(found)
}

/// Says what is wrong with a template.
pub(super) fn check(text: &At<String>, reader: &mut Reader<'_>) {
    if let Err(mut error) = places(&text.value) {
        if !reader.is_literal(&text.place) {
            "a place in braces is not known here, or a brace has no partner".clone_into(&mut error);
        }
        let known: Vec<String> = PLACES.iter().map(|name| format!("{{{name}}}")).collect();
        reader.fault(&text.place, error, format!("places are {}", known.join(", ")));
    }
}
