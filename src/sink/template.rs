//! Texts with places for what is known of an event: `o365-{tenant}`. Parsed once at the start; filling
//! in is copying bytes.
//!
//! Comes in: the configured text. Goes out: the inside of a JSON string. Sees only the plain facts of
//! an event, never a record.

pub use crate::escape::escape;
use crate::event::Event;

/// The names that may stand in braces.
pub const PLACES: [&str; 4] = ["tenant", "content_type", "workload", "operation"];

/// A parsed text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template(Vec<Piece>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    /// Already escaped.
    Text(Vec<u8>),
    Tenant,
    ContentType,
    Workload,
    Operation,
}

/// A template that means nothing.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    #[error("`{{{name}}}` in `{text}` is not known; use {{tenant}}, {{content_type}}, {{workload}} or {{operation}}")]
    UnknownPlace { name: String, text: String },
    #[error("a brace in `{text}` has no partner; write a place as {{tenant}}")]
    Brace { text: String },
}

impl Template {
    /// Reads the configured text.
    pub fn parse(text: &str) -> Result<Template, TemplateError> {
        let brace = || TemplateError::Brace { text: text.to_owned() };
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some(open) = rest.find(['{', '}']) {
            let (before, from) = rest.split_at(open);
            push_text(&mut pieces, before);
            let inside = from.strip_prefix('{').ok_or_else(brace)?;
            let close = inside.find(['{', '}']).ok_or_else(brace)?;
            let (name, after) = inside.split_at(close);
            rest = after.strip_prefix('}').ok_or_else(brace)?;
            pieces.push(match name {
                "tenant" => Piece::Tenant,
                "content_type" => Piece::ContentType,
                "workload" => Piece::Workload,
                "operation" => Piece::Operation,
                _ => return Err(TemplateError::UnknownPlace { name: name.to_owned(), text: text.to_owned() }),
            });
        }
        push_text(&mut pieces, rest);
        Ok(Template(pieces))
    }

    /// Appends the text for this event, escaped for the inside of a JSON string.
    pub fn render(&self, event: &Event<'_>, out: &mut Vec<u8>) {
        for piece in &self.0 {
            match piece {
                Piece::Text(text) => out.extend_from_slice(text),
                Piece::Tenant => escape(&event.part.blob.feed.tenant.name, out),
                Piece::ContentType => out.extend_from_slice(event.part.blob.feed.content_type.as_str().as_bytes()),
                // Both are the inside of a JSON string as Microsoft sent it.
                Piece::Workload => out.extend_from_slice(event.workload()),
                Piece::Operation => out.extend_from_slice(event.operation()),
            }
        }
    }
}

fn push_text(pieces: &mut Vec<Piece>, text: &str) {
    if !text.is_empty() {
        let mut escaped = Vec::new();
        escape(text, &mut escaped);
        pieces.push(Piece::Text(escaped));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sink::samples;

    fn rendered(text: &str) -> String {
        let part = samples::part(&[samples::RECORD]);
        let mut out = Vec::new();
        Template::parse(text).unwrap().render(&part.event(0), &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn places_are_filled_and_everything_is_fit_for_a_json_string() {
        assert_eq!(rendered("plain"), "plain");
        assert_eq!(rendered("o365-{content_type}"), "o365-Audit.Exchange");
        assert_eq!(rendered("{workload}/{operation}!"), "Exchange/New-\\\"Rule\\\"!");
        let text: String = serde_json::from_str(&format!("\"{}\"", rendered("a\"b\\\u{1}{tenant}"))).unwrap();
        assert_eq!(text, "a\"b\\\u{1}con\"toso");
    }

    #[test]
    fn what_is_not_a_place_is_refused() {
        assert!(matches!(Template::parse("{user}"), Err(TemplateError::UnknownPlace { .. })));
        for text in ["{tenant", "tenant}", "{te{nant}}"] {
            assert!(matches!(Template::parse(text), Err(TemplateError::Brace { .. })), "{text}");
        }
    }
}
