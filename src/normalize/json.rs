//! JSON written by hand into one buffer.
//!
//! Comes in: text, either raw or the inside of a JSON string (escaped). Goes out: bytes. Members are
//! written with a comma behind each; closing an object or list takes the last comma back.

use crate::escape::escape;
use crate::record::scan;

/// Opens a member that is an object: `"name":{`.
pub fn open(name: &str, out: &mut Vec<u8>) {
    key(name, out);
    out.push(b'{');
}

/// Closes an object and puts the comma behind it.
pub fn close(out: &mut Vec<u8>) {
    end(b'}', out);
    out.push(b',');
}

/// Takes back the last comma, if there is one, and writes the closing bracket.
pub fn end(bracket: u8, out: &mut Vec<u8>) {
    if out.last() == Some(&b',') {
        out.pop();
    }
    out.push(bracket);
}

/// `"name":`, for a name that needs no escaping.
pub fn key(name: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\":");
}

/// A string member whose value is already escaped.
pub fn escaped(name: &str, value: &str, out: &mut Vec<u8>) {
    key(name, out);
    quoted(value, out);
    out.push(b',');
}

/// A string in quotes, already escaped.
pub fn quoted(value: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    out.extend_from_slice(value.as_bytes());
    out.push(b'"');
}

/// A string member whose value is plain text.
pub fn text(name: &str, value: &str, out: &mut Vec<u8>) {
    key(name, out);
    out.push(b'"');
    escape(value, out);
    out.extend_from_slice(b"\",");
}

/// A member whose value is a number.
pub fn number(name: &str, value: impl Into<i64>, out: &mut Vec<u8>) {
    key(name, out);
    decimal(value.into(), out);
    out.push(b',');
}

/// A number.
pub fn decimal(value: i64, out: &mut Vec<u8>) {
    let mut digits = [0; 20];
    let mut from = digits.len();
    let mut rest = value.unsigned_abs();
    loop {
        from -= 1;
        digits[from] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    if value < 0 {
        out.push(b'-');
    }
    out.extend_from_slice(&digits[from..]);
}

/// Copies JSON onto one line. A line break in valid JSON can only stand between tokens.
pub fn one_line(json: &str, out: &mut Vec<u8>) {
    let from = out.len();
    out.extend_from_slice(json.as_bytes());
    for at in memchr::memchr2_iter(b'\n', b'\r', json.as_bytes()) {
        out[from + at] = b' ';
    }
}

/// A JSON value as a string: its text in quotes, escaped.
pub fn string_of(json: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    escape(json, out);
    out.push(b'"');
}

/// JSON without the blanks between its tokens.
pub fn compact(json: &str) -> String {
    let (bytes, mut out) = (json.as_bytes(), String::with_capacity(json.len()));
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        let end = match byte {
            b'"' => scan::string(bytes, at).unwrap_or(bytes.len()),
            b' ' | b'\n' | b'\t' | b'\r' => {
                at += 1;
                continue;
            }
            // All that stands outside of strings is ASCII.
            _ => at + 1,
        };
        out.push_str(json.get(at..end).unwrap_or_default());
        at = end;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_lists_and_empty_objects_close_well() {
        let mut out = b"{".to_vec();
        open("a", &mut out);
        close(&mut out);
        open("b", &mut out);
        number("n", i64::MIN, &mut out);
        number("m", 0u8, &mut out);
        text("t", "\u{1}\"\\\n\r\tä\u{1f}", &mut out);
        close(&mut out);
        end(b'}', &mut out);
        let value: serde_json::Value = serde_json::from_slice(&out).unwrap();
        assert_eq!(value["b"]["n"], i64::MIN);
        assert_eq!(value["b"]["t"], "\u{1}\"\\\n\r\tä\u{1f}");
        assert_eq!(value["a"], serde_json::json!({}));
    }

    #[test]
    fn blanks_between_tokens_go_and_nothing_else() {
        assert_eq!(
            compact("{ \"a b\" : [ 1.50 ,\n\"\\\" ä\" ],\t\"a b\":null }"),
            "{\"a b\":[1.50,\"\\\" ä\"],\"a b\":null}"
        );
    }

    #[test]
    fn pretty_json_becomes_one_line() {
        let mut out = b"x\n".to_vec();
        one_line("{\r\n \"a\":\n1}", &mut out);
        assert_eq!(out, b"x\n{   \"a\": 1}");
    }
}
