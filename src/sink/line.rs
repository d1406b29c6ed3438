//! One event, one line, whatever its writer put between tokens.
//!
//! Comes in: an event and a format. Goes out: one line. Never re-serialises: a line break inside valid
//! JSON can only stand between tokens, where a blank means the same.

use crate::config::{Format, SinkConfig};
use crate::event::Event;
use crate::normalize::Form;

/// How a sink has its events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Written {
    format: Format,
    form: Form,
}

impl Written {
    pub const fn new(format: Format, form: Form) -> Written {
        Written { format, form }
    }

    pub fn of(config: &SinkConfig) -> Written {
        Written::new(config.format, config.form())
    }

    /// Whether records leave as they came.
    pub fn is_raw(&self) -> bool {
        self.format == Format::Raw
    }

    /// The record as it came where the format is that; else, and where it cannot be read, what it is written as.
    pub fn body<'e>(&self, event: &Event<'e>) -> &'e [u8] {
        match self.format {
            Format::Raw if event.meta.readable => event.raw(),
            Format::Raw | Format::Ecs | Format::Cef | Format::Leef => event.doc(self.form),
        }
    }
}

/// Appends the event as one line.
pub fn push_event(event: &Event<'_>, written: Written, out: &mut Vec<u8>) {
    push_flat(written.body(event), out);
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
        push_event(&part.event(0), Written { format: Format::Raw, form: Form::Cef }, &mut out);
        assert_eq!(out, [part.event(0).doc(Form::Cef), b"\n"].concat());
        assert_eq!(memchr::memchr_iter(b'\n', &out).count(), 1);
    }
}
