//! Preset `teams`: a webhook of the Workflows app ("When a Teams webhook request is received"; Adaptive Cards 1.4).
//! Comes in: an ECS document. Goes out: a message with one card: a headline, and a line for each fact. Everything
//! of a record stands in `TextRun`s, which know no Markdown, so nothing of it can become a link.

use super::summary::Summary;
use crate::escape::escape;

const BEFORE: &str = "{\"type\":\"message\",\"attachments\":[{\"contentType\":\"application/vnd.microsoft.card.adaptive\",\"contentUrl\":null,\"content\":{\"$schema\":\"http://adaptivecards.io/schemas/adaptive-card.json\",\"type\":\"AdaptiveCard\",\"version\":\"1.4\",\"body\":[";
const AFTER: &str = "]}}]}";

/// Appends the message.
pub(super) fn push(document: &[u8], out: &mut Vec<u8>) {
    let summary = Summary::of(document);
    out.extend_from_slice(BEFORE.as_bytes());
    paragraph(&[(&summary.headline, ",\"weight\":\"bolder\",\"size\":\"medium\"")], out);
    for (name, value) in &summary.facts {
        out.push(b',');
        paragraph(&[(&format!("{name}: "), ",\"weight\":\"bolder\""), (value, "")], out);
    }
    out.extend_from_slice(AFTER.as_bytes());
}

/// Pieces of text on one line, each with how it looks.
fn paragraph(runs: &[(&str, &str)], out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"type\":\"RichTextBlock\",\"spacing\":\"small\",\"inlines\":[");
    for (number, (text, look)) in runs.iter().enumerate() {
        if number > 0 {
            out.push(b',');
        }
        out.extend_from_slice(b"{\"type\":\"TextRun\",\"text\":\"");
        escape(text, out);
        out.push(b'"');
        out.extend_from_slice(look.as_bytes());
        out.push(b'}');
    }
    out.extend_from_slice(b"]}");
}
