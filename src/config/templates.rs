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

/// The places of a body, which is full of braces of its own.
pub const BODY_PLACES: [&str; 9] =
    ["event", "event_text", "tenant", "tenant_id", "content_type", "workload", "operation", "id", "key"];

/// A piece of a body: text, or the name of a place.
pub fn body_pieces(text: &str) -> Result<Vec<Result<&str, &str>>, String> {
    let mut pieces = Vec::new();
    let (mut kept, mut at) = (0, 0);
    while let Some(open) = text[at..].find('{').map(|found| at + found) {
        at = open + 1;
        let length = text[at..].bytes().take_while(|byte| byte.is_ascii_lowercase() || *byte == b'_').count();
        if length == 0 || text.as_bytes().get(at + length) != Some(&b'}') {
            continue;
        }
        let name = &text[at..at + length];
        if !BODY_PLACES.contains(&name) {
            return Err(format!("`{{{name}}}` is not known here"));
        }
        pieces.extend([Ok(&text[kept..open]), Err(name)]);
        at += length + 1;
        kept = at;
    }
    pieces.push(Ok(&text[kept..]));
    Ok(pieces)
}

/// The body with something in each place.
pub(super) fn body_sample(text: &str) -> Result<String, String> {
    let pieces = body_pieces(text)?;
    Ok(pieces.into_iter().map(|piece| piece.unwrap_or_else(|name| if name == "event" { "{}" } else { "x" })).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_braces_of_json_are_no_places() {
        let sample = body_sample("{\"text\": \"{operation} {}\", \"event\": {event}, \"a\": {\"b\": {}}}").unwrap();
        assert_eq!(sample, "{\"text\": \"x {}\", \"event\": {}, \"a\": {\"b\": {}}}");
        assert!(body_sample("{\"text\": \"{opration}\"}").is_err());
        assert_eq!(body_sample("{").unwrap(), "{");
    }
}
