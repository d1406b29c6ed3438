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

use super::window::{MAX_ELEMENT, Window};

/// See the module's head.
pub struct Elements<R> {
    window: Window<R>,
    /// Arrays that are open here; those in others are blobs in a list.
    arrays: u64,
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
    /// Looks for elements from the window's place on.
    pub fn new(window: Window<R>) -> Elements<R> {
        Elements { window, arrays: 0, lines_only: false }
    }

    /// The line that the next element begins in, and its bytes; `None` at the end.
    pub fn next_element(&mut self) -> Option<(u64, &[u8])> {
        loop {
            match self.find() {
                Found::Element(end) => {
                    let from = self.window.at;
                    let line = self.window.line_at(from);
                    self.window.at = end;
                    return Some((line, self.window.bytes[from..end].trim_ascii_end()));
                }
                Found::Nothing if self.window.ended => return None,
                Found::Nothing | Found::More => self.window.read_more(),
            }
        }
    }

    /// Why the text ended before its end, with the line.
    pub fn failure(&mut self) -> Option<(u64, io::Error)> {
        self.window.failure()
    }

    fn find(&mut self) -> Found {
        loop {
            if !self.window.skip(|byte| matches!(byte, b' ' | b'\t' | b'\r' | b'\n' | b',')) {
                return Found::More;
            }
            match self.window.rest().first() {
                None => return Found::Nothing,
                Some(b'[') => self.arrays += 1,
                Some(b']') if self.arrays > 0 => self.arrays -= 1,
                Some(b'{') => return self.object(),
                Some(_) => return self.stray(),
            }
            self.window.at += 1;
        }
    }

    /// Something that is no object: up to the end of its line, in an array also up to the next element.
    fn stray(&self) -> Found {
        let (at, rest) = (self.window.at, self.window.rest());
        let end = match self.arrays > 0 {
            true => memchr::memchr3(b'\n', b',', b']', rest),
            false => memchr::memchr(b'\n', rest),
        };
        match end {
            // `]` or `,` itself can be what is astray.
            Some(length) => Found::Element(at + length.max(1)),
            None if self.window.ended || rest.len() > MAX_ELEMENT => Found::Element(self.window.bytes.len()),
            None => Found::More,
        }
    }

    /// An object from its first brace to the one that closes it.
    fn object(&mut self) -> Found {
        let (at, rest) = (self.window.at, self.window.rest());
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
                        return Found::Element(at + line_with_brace.unwrap_or(index + 1));
                    }
                    Some(b'{') => _ = line_with_brace.get_or_insert(index + 1),
                    Some(_) => {}
                    None if self.window.ended => {}
                    None => return Found::More,
                },
                _ if in_string => {}
                b'{' | b'[' => depth += 1,
                b'}' | b']' => {
                    depth -= 1;
                    if depth == 0 {
                        return Found::Element(at + index + 1);
                    }
                }
                _ => {}
            }
            if !byte.is_ascii_whitespace() {
                last = byte;
            }
            index += 1;
        }
        if !self.window.ended && rest.len() <= MAX_ELEMENT {
            return Found::More;
        }
        self.lines_only = true;
        Found::Element(at + line_with_brace.unwrap_or(rest.len()))
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
        let mut elements = Elements::new(Window::new(Slow(text.as_bytes())));
        let mut all = Vec::new();
        while let Some((_, element)) = elements.next_element() {
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
        assert_eq!(elements("[[1],{}]"), ["1", "{}"]);
        assert_eq!(elements("[[{},{\"a\":[]}],[]]\n]{}"), ["{}", "{\"a\":[]}", "]{}"]);
        assert_eq!(elements("[{}, {\"a\":\n  \"b"), ["{}", "{\"a\":\n  \"b"]);
    }

    #[test]
    fn each_element_has_the_line_that_it_begins_in() {
        let text = "\u{feff}\n{\n\"a\":1}\n\n[{},\n{}]\nhello\n\u{feff}{}";
        let mut elements = Elements::new(Window::new(Slow(text.as_bytes())));
        let lines: Vec<u64> = std::iter::from_fn(|| elements.next_element().map(|(line, _)| line)).collect();
        assert_eq!(lines, [2, 5, 6, 7, 8]);
    }

    #[test]
    fn an_escape_at_the_very_end_is_no_trouble() {
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
