//! JSON elements out of a file, however they were written down: one a line, an array, or printed
//! prettily one after the other.
//!
//! Comes in: any reader. Goes out: the bytes of one element after the other, in order, nothing left
//! out: what cannot be an element comes as the bytes it is. Holds one element in memory, not the file.
//!
//! A line that breaks off must not swallow those behind it, yet an element may have many lines. The
//! rule: inside an element, a line that begins with `{` begins a new element, unless the line before
//! it ends such that an object may follow (`[`, `,`, `:`). If that reading proves wrong, the first such
//! line is where the next element begins, and from then on every such line is.

use std::io::{self, Read};

/// Bytes asked of the reader at a time.
const READ: usize = 256 * 1024;
/// An element that is still open after so many bytes is taken for broken: 8 times `collect.max_record`.
const MAX_ELEMENT: usize = 64 * 1024 * 1024;

/// See the module's head.
pub struct Elements<R> {
    reader: R,
    buffer: Vec<u8>,
    /// Where the next element is looked for.
    at: usize,
    ended: bool,
    in_array: bool,
    begun: bool,
    /// A line that begins with `{` always begins an element.
    lines_only: bool,
}

/// What stands where an element is looked for.
enum Found {
    /// `at..end` is an element or something unreadable.
    Element(usize),
    /// Nothing is certain without more bytes.
    More,
    /// Only white space and punctuation between elements up to the end.
    Nothing,
}

impl<R: Read> Elements<R> {
    pub fn new(reader: R) -> Elements<R> {
        Elements { reader, buffer: Vec::new(), at: 0, ended: false, in_array: false, begun: false, lines_only: false }
    }

    /// The next element, `None` at the end.
    ///
    /// # Errors
    /// What the reader answers; UTF-16, which is not JSON (RFC 8259, section 8.1).
    pub fn next_element(&mut self) -> io::Result<Option<&[u8]>> {
        loop {
            self.skip_mark()?;
            match self.find() {
                Found::Element(end) => {
                    let element = self.at..end;
                    self.at = end;
                    return Ok(Some(self.buffer[element].trim_ascii_end()));
                }
                Found::Nothing if self.ended => return Ok(None),
                Found::Nothing | Found::More => self.read_more()?,
            }
        }
    }

    fn skip_mark(&mut self) -> io::Result<()> {
        if self.begun || (self.buffer.len() < 3 && !self.ended) {
            return Ok(());
        }
        self.begun = true;
        if self.buffer.starts_with(b"\xEF\xBB\xBF") {
            self.at = 3;
        } else if self.buffer.starts_with(b"\xFF\xFE") || self.buffer.starts_with(b"\xFE\xFF") {
            let reason = "the input is UTF-16; convert it to UTF-8 first";
            return Err(io::Error::new(io::ErrorKind::InvalidData, reason));
        }
        Ok(())
    }

    fn read_more(&mut self) -> io::Result<()> {
        self.buffer.drain(..self.at);
        self.at = 0;
        let from = self.buffer.len();
        // Doubling, so that a long element is not scanned once for every few bytes.
        let wanted = READ.max(from);
        self.reader.by_ref().take(wanted as u64).read_to_end(&mut self.buffer)?;
        self.ended = self.buffer.len() < from + wanted;
        Ok(())
    }

    fn find(&mut self) -> Found {
        if !self.begun {
            return Found::More;
        }
        while let Some(byte) = self.buffer.get(self.at) {
            match byte {
                b' ' | b'\t' | b'\r' | b'\n' | b',' => self.at += 1,
                b'[' if !self.in_array => {
                    self.in_array = true;
                    self.at += 1;
                }
                b']' if self.in_array => {
                    self.in_array = false;
                    self.at += 1;
                }
                b'{' => return self.object(),
                _ => return self.stray(),
            }
        }
        Found::Nothing
    }

    /// Something that is no object: up to the end of its line, in an array also up to the next element.
    fn stray(&self) -> Found {
        let rest = &self.buffer[self.at..];
        let end = match self.in_array {
            true => memchr::memchr3(b'\n', b',', b']', rest),
            false => memchr::memchr(b'\n', rest),
        };
        match end {
            // `]` or `,` itself can be what is astray.
            Some(length) => Found::Element(self.at + length.max(1)),
            None if self.ended || rest.len() > MAX_ELEMENT => Found::Element(self.buffer.len()),
            None => Found::More,
        }
    }

    /// An object from its first brace to the one that closes it.
    fn object(&mut self) -> Found {
        let rest = &self.buffer[self.at..];
        let mut depth = 0u64;
        let mut in_string = false;
        let mut last = 0;
        let mut line_with_brace = None;
        let mut index = 0;
        while let Some(&byte) = rest.get(index) {
            match byte {
                b'\\' if in_string && rest.get(index + 1) != Some(&b'\n') => index += 1,
                b'"' => in_string = !in_string,
                b'\n' => match rest.get(index + 1) {
                    Some(b'{') if in_string || self.lines_only || !matches!(last, b'[' | b',' | b':') => {
                        // Broken for certain, and perhaps since an earlier line already.
                        self.lines_only |= line_with_brace.is_some();
                        return Found::Element(self.at + line_with_brace.unwrap_or(index + 1));
                    }
                    Some(b'{') => _ = line_with_brace.get_or_insert(index + 1),
                    Some(_) => {}
                    None if self.ended => {}
                    None => return Found::More,
                },
                _ if in_string => {}
                b'{' | b'[' => depth += 1,
                b'}' | b']' => {
                    depth -= 1;
                    if depth == 0 {
                        return Found::Element(self.at + index + 1);
                    }
                }
                _ => {}
            }
            if !byte.is_ascii_whitespace() {
                last = byte;
            }
            index += 1;
        }
        if !self.ended && rest.len() <= MAX_ELEMENT {
            return Found::More;
        }
        self.lines_only = true;
        Found::Element(self.at + line_with_brace.unwrap_or(rest.len()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Gives one byte at a time, to find what depends on where a read ends.
    struct Slow<'a>(&'a [u8]);

    impl Read for Slow<'_> {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            let Some((first, rest)) = self.0.split_first() else { return Ok(0) };
            into[0] = *first;
            self.0 = rest;
            Ok(1)
        }
    }

    fn elements(text: &str) -> Vec<String> {
        let mut elements = Elements::new(Slow(text.as_bytes()));
        let mut all = Vec::new();
        while let Some(element) = elements.next_element().unwrap() {
            all.push(String::from_utf8_lossy(element).into_owned());
        }
        all
    }

    #[test]
    fn lines_arrays_and_pretty_prints_are_the_same_elements() {
        let expected = [r#"{"a":"}{["}"#, r#"{"b":[{}]}"#];
        assert_eq!(elements("{\"a\":\"}{[\"}\n\n{\"b\":[{}]}\r\n"), expected);
        assert_eq!(elements("\u{feff} [ {\"a\":\"}{[\"}, {\"b\":[{}]} ]\n"), expected);
        assert_eq!(elements("[\n{\"a\":\"}{[\"},\n{\"b\":[{}]}\n]"), expected);
        assert_eq!(elements("{\"a\":\"}{[\"}{\"b\":[{}]}"), expected);
        assert_eq!(elements("{\n  \"a\": 1\n}\n{\n  \"b\": [\n    {\n    }\n  ]\n}\n").len(), 2);
        assert_eq!(elements("{\n\"b\": [\n{\n},\n{\n}\n]\n}\n{}").len(), 2);
        assert_eq!(elements("[]\n[{}]\n{}").len(), 2);
        assert!(elements("").is_empty() && elements(" \n[ ]").is_empty());
    }

    #[test]
    fn a_line_that_breaks_off_does_not_swallow_the_next() {
        for broken in [r#"{"a":"x"#, r#"{"a":"x","#, r#"{"a":{"b":1}"#, r#"{"a":"#, r#"{"a":["#, r#"{"a":"\"#] {
            let text = format!("{{}}\n{broken}\n{{\"c\":1}}\n{{\"d\":2}}");
            assert_eq!(elements(&text), ["{}", broken, r#"{"c":1}"#, r#"{"d":2}"#], "{broken}");
        }
    }

    #[test]
    fn what_is_no_object_comes_as_it_is() {
        assert_eq!(elements("{}\nhello, you\n{}"), ["{}", "hello, you", "{}"]);
        assert_eq!(elements("[{},1,null,\"x\",{}]"), ["{}", "1", "null", "\"x\"", "{}"]);
        assert_eq!(elements("]\n{}"), ["]", "{}"]);
        assert!(elements("[[1],{}]").contains(&"{}".to_owned()));
        assert_eq!(elements("[{}, {\"a\":\n  \"b"), ["{}", "{\"a\":\n  \"b"]);
    }

    #[test]
    fn utf_16_is_named_and_an_escape_at_the_very_end_is_no_trouble() {
        assert!(Elements::new(&b"\xFF\xFE{\0}\0"[..]).next_element().is_err());
        assert_eq!(elements("{\"a\\"), ["{\"a\\"]);
        assert_eq!(elements("{"), ["{"]);
    }

    proptest! {
        #[test]
        fn no_byte_but_space_and_punctuation_is_lost(text in r#"[{}\[\],:"\\a \n]{0,60}"#) {
            let keep = |text: &str| text.chars().filter(|c| !c.is_whitespace() && !"[],".contains(*c)).collect::<String>();
            prop_assert_eq!(keep(&elements(&text).concat()), keep(&text));
        }
    }
}
