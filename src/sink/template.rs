//! Texts with places for what is known of an event: `o365-{tenant}`. Parsed once at the start; filling
//! in is copying bytes.
//!
//! Comes in: the configured text. Goes out: the inside of a JSON string, or plain text. Sees only the
//! plain facts of an event, never a record.

pub use crate::escape::escape;
use crate::event::Event;

/// The names that may stand in braces.
pub const PLACES: [&str; 7] = ["tenant", "tenant_id", "content_type", "workload", "operation", "id", "key"];

/// A parsed text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template(Vec<Piece>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    /// Already escaped.
    Text(Vec<u8>),
    Tenant,
    TenantId,
    ContentType,
    Workload,
    Operation,
    Id,
    Key,
}

/// A template that means nothing.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    #[error(
        "`{{{name}}}` in `{text}` is not known; use {{tenant}}, {{tenant_id}}, {{content_type}}, {{workload}}, {{operation}}, {{id}} or {{key}}"
    )]
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
                "tenant_id" => Piece::TenantId,
                "content_type" => Piece::ContentType,
                "workload" => Piece::Workload,
                "operation" => Piece::Operation,
                "id" => Piece::Id,
                "key" => Piece::Key,
                _ => return Err(TemplateError::UnknownPlace { name: name.to_owned(), text: text.to_owned() }),
            });
        }
        push_text(&mut pieces, rest);
        Ok(Template(pieces))
    }

    /// Appends the text for this event, escaped for the inside of a JSON string.
    pub fn render(&self, event: &Event<'_>, out: &mut Vec<u8>) {
        self.fill(event, b"", out);
    }

    fn fill(&self, event: &Event<'_>, missing: &[u8], out: &mut Vec<u8>) {
        for piece in &self.0 {
            let start = out.len();
            match piece {
                Piece::Text(text) => out.extend_from_slice(text),
                Piece::Tenant => escape(&event.part.blob.feed.tenant.name, out),
                Piece::TenantId => escape(&event.part.blob.feed.tenant.id, out),
                Piece::ContentType => out.extend_from_slice(event.part.blob.feed.content_type.as_str().as_bytes()),
                // Both are the inside of a JSON string as Microsoft sent it.
                Piece::Workload => out.extend_from_slice(event.workload()),
                Piece::Operation => out.extend_from_slice(event.operation()),
                // Something that names the record even where it has no Id.
                Piece::Id if event.id().is_empty() => out.extend_from_slice(&event.meta.key.to_hex()),
                Piece::Id => out.extend_from_slice(event.id()),
                Piece::Key => out.extend_from_slice(&event.meta.key.to_hex()),
            }
            if out.len() == start {
                out.extend_from_slice(missing);
            }
        }
    }

    /// Appends the text for this event as it reads, nothing escaped.
    pub fn render_plain(&self, event: &Event<'_>, out: &mut Vec<u8>) {
        self.render_filled(event, b"", out);
    }

    /// As [`render_plain`](Self::render_plain), with `missing` for a place that the event leaves empty.
    pub fn render_filled(&self, event: &Event<'_>, missing: &[u8], out: &mut Vec<u8>) {
        let start = out.len();
        self.fill(event, missing, out);
        if memchr::memchr(b'\\', &out[start..]).is_some() {
            let quoted = [b"\"", &out[start..], b"\""].concat();
            // A lone surrogate has no plain form and stays escaped.
            if let Ok(plain) = serde_json::from_slice::<String>(&quoted) {
                out.truncate(start);
                out.extend_from_slice(plain.as_bytes());
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
    fn plain_text_is_not_escaped_and_a_record_without_an_id_is_named_by_its_key() {
        let part = samples::part(&[samples::RECORD, "{}"]);
        let plain = |index, text: &str| {
            let mut out = b"before ".to_vec();
            Template::parse(text).unwrap().render_plain(&part.event(index), &mut out);
            String::from_utf8(out).unwrap()
        };
        assert_eq!(plain(0, "{tenant}:{id}"), "before con\"toso:id-1");
        assert_eq!(plain(0, "{operation}\\"), "before New-\"Rule\"\\");
        assert_eq!(plain(1, "{id}"), plain(1, "{key}"));
        assert_eq!(plain(1, "{tenant_id} {key}").len(), "before 6f1c ".len() + 32);
        assert_eq!(plain(1, "o365.{workload}"), "before o365.");
        let mut filled = Vec::new();
        Template::parse("o365.{workload}").unwrap().render_filled(&part.event(1), b"none", &mut filled);
        assert_eq!(filled, b"o365.none");
    }

    #[test]
    fn what_is_not_a_place_is_refused() {
        assert!(matches!(Template::parse("{user}"), Err(TemplateError::UnknownPlace { .. })));
        for text in ["{tenant", "tenant}", "{te{nant}}"] {
            assert!(matches!(Template::parse(text), Err(TemplateError::Brace { .. })), "{text}");
        }
    }
}
