//! Writes JSON by hand into a byte vector: every member ends with a comma, a closing bracket takes the
//! last one back. No tree, no allocation a field.

use super::super::chance::push_guid;
use super::super::stamp;

const HEX: &[u8; 16] = b"0123456789abcdef";

/// Appends `text` as the inside of a JSON string.
pub(crate) fn escape(out: &mut Vec<u8>, text: &str) {
    let bytes = text.as_bytes();
    let mut from = 0;
    for (at, &byte) in bytes.iter().enumerate() {
        if byte >= 0x20 && byte != b'"' && byte != b'\\' {
            continue;
        }
        out.extend_from_slice(&bytes[from..at]);
        from = at + 1;
        match byte {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            _ => {
                let unicode = [b'\\', b'u', b'0', b'0', HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]];
                out.extend_from_slice(&unicode);
            }
        }
    }
    out.extend_from_slice(&bytes[from..]);
}

/// A writer over the output.
#[derive(Debug)]
pub(crate) struct Json<'a> {
    pub out: &'a mut Vec<u8>,
}

impl Json<'_> {
    pub(crate) fn key(&mut self, key: &str) {
        self.out.push(b'"');
        self.out.extend_from_slice(key.as_bytes());
        self.out.extend_from_slice(b"\":");
    }

    /// A text member.
    pub(crate) fn text(&mut self, key: &str, value: &str) {
        self.key(key);
        self.item(value);
    }

    /// A text element.
    pub(crate) fn item(&mut self, value: &str) {
        self.out.push(b'"');
        escape(self.out, value);
        self.out.extend_from_slice(b"\",");
    }

    /// A member whose value is written as it stands: number, literal, ready JSON.
    pub(crate) fn raw(&mut self, key: &str, value: &str) {
        self.key(key);
        self.out.extend_from_slice(value.as_bytes());
        self.out.push(b',');
    }

    pub(crate) fn number(&mut self, key: &str, value: i64) {
        self.key(key);
        push_number(self.out, value);
        self.out.push(b',');
    }

    pub(crate) fn flag(&mut self, key: &str, value: bool) {
        self.raw(key, if value { "true" } else { "false" });
    }

    pub(crate) fn guid(&mut self, key: &str, high: u64, low: u64) {
        self.key(key);
        self.out.push(b'"');
        push_guid(self.out, high, low);
        self.out.extend_from_slice(b"\",");
    }

    /// `YYYY-MM-DDTHH:MM:SS`.
    pub(crate) fn time(&mut self, key: &str, ms: i64) {
        self.key(key);
        self.out.push(b'"');
        stamp::push_seconds(self.out, ms);
        self.out.extend_from_slice(b"\",");
    }

    /// Opens an object or array member.
    pub(crate) fn open(&mut self, key: &str, bracket: u8) {
        self.key(key);
        self.out.push(bracket);
    }

    /// Opens an element, or the root.
    pub(crate) fn begin(&mut self, bracket: u8) {
        self.out.push(bracket);
    }

    pub(crate) fn close(&mut self, bracket: u8) {
        if self.out.last() == Some(&b',') {
            self.out.pop();
        }
        self.out.push(bracket);
        self.out.push(b',');
    }

    /// `[{"Name":…,"Value":…}]`.
    pub(crate) fn name_values(&mut self, key: &str, pairs: &[(&str, &str)]) {
        self.open(key, b'[');
        for (name, value) in pairs {
            self.begin(b'{');
            self.text("Name", name);
            self.text("Value", value);
            self.close(b'}');
        }
        self.close(b']');
    }

    /// `[{"Name":…,"NewValue":…,"OldValue":…}]`.
    pub(crate) fn changes(&mut self, key: &str, changes: &[(&str, &str, &str)]) {
        self.open(key, b'[');
        for (name, new, old) in changes {
            self.begin(b'{');
            self.text("Name", name);
            self.text("NewValue", new);
            self.text("OldValue", old);
            self.close(b'}');
        }
        self.close(b']');
    }

    /// `[{"ID":…,"Type":…}]`, the actors and targets of Entra records.
    pub(crate) fn identities(&mut self, key: &str, list: &[(&str, i64)]) {
        self.open(key, b'[');
        for (id, kind) in list {
            self.begin(b'{');
            self.text("ID", id);
            self.number("Type", *kind);
            self.close(b'}');
        }
        self.close(b']');
    }
}

pub(crate) fn push_number(out: &mut Vec<u8>, value: i64) {
    let mut buffer = [0u8; 20];
    let mut at = buffer.len();
    let mut rest = value.unsigned_abs();
    loop {
        at -= 1;
        buffer[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    if value < 0 {
        out.push(b'-');
    }
    out.extend_from_slice(&buffer[at..]);
}
