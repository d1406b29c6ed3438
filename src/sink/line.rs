//! Newline-delimited JSON: one event, one line, whatever its writer put between tokens.
//!
//! Comes in: an event and a format. Goes out: one line. Never re-serialises: a line break inside valid
//! JSON can only stand between tokens, where a blank means the same.

use crate::config::Format;
use crate::event::Event;

/// Appends the event as one line: the record verbatim or its ECS document. A record that cannot be
/// read leaves as the pipeline-error document in either format.
pub fn push_event(event: &Event<'_>, format: Format, out: &mut Vec<u8>) {
    match format {
        Format::Raw if event.meta.readable => push_flat(event.raw(), out),
        Format::Raw | Format::Ecs => push_flat(event.doc(), out),
    }
    out.push(b'\n');
}

/// Appends JSON with every line break as a blank.
pub fn push_flat(json: &[u8], out: &mut Vec<u8>) {
    let start = out.len();
    out.extend_from_slice(json);
    let mut at = start;
    while let Some(found) = memchr::memchr2(b'\n', b'\r', &out[at..]) {
        at += found;
        out[at] = b' ';
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sink::samples;

    #[test]
    fn line_breaks_between_tokens_become_blanks_and_nothing_else_changes() {
        let mut out = Vec::new();
        push_flat(b"{\r\n\"a\": \"x\\n\",\n\"b\":1.0 }", &mut out);
        assert_eq!(out, b"{  \"a\": \"x\\n\", \"b\":1.0 }");
    }

    #[test]
    fn an_unreadable_record_leaves_as_its_document() {
        let part = samples::part(&["not\njson"]);
        let mut out = Vec::new();
        push_event(&part.event(0), Format::Raw, &mut out);
        assert_eq!(out, [part.event(0).doc(), b"\n"].concat());
        assert_eq!(memchr::memchr_iter(b'\n', &out).count(), 1);
    }
}
