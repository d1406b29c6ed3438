//! JSON elements out of a file, however they were written down: one a line, an array, or printed
//! prettily one after the other.
//!
//! Comes in: any reader. Goes out: the bytes of one element after the other, in order, nothing left
//! out: what cannot be an element comes as the bytes it is. Of an object around a list (`{"value":[…]}`, see
//! [`super::wrapper`]) those in the list. Holds one element in memory, not the file. A list that is not closed at the end
//! is a failure: what follows it is missing.
//!
//! A line that breaks off must not swallow those behind it, yet an element may have many lines. The
//! rule: inside an element, a line that begins with `{` begins a new element, unless the line before
//! it ends such that an object may follow (`[`, `,`, `:`). If that reading proves wrong, the first such
//! line is where the next element begins, and from then on every such line is.

use std::io::{self, Read};

use super::window::{MAX_ELEMENT, Window};
use super::wrapper;

/// See the module's head.
pub struct Elements<R> {
    window: Window<R>,
    /// Arrays that are open here; those in others are blobs in a list.
    arrays: u64,
    /// The line that the outermost of them begins in.
    began: u64,
    /// How many of them were open before the list of an object around it.
    wrapped: Option<u64>,
    /// The list has been closed, and its object not yet.
    at_tail: bool,
    /// The line of the first object around a list that was never closed.
    torn: Option<u64>,
    /// The last element is what the text broke off in.
    is_cut: bool,
    /// Objects around lists, of which nothing goes out but the elements.
    wrappers: u64,
    /// A line that begins with `{` always begins an element.
    lines_only: bool,
}

/// What a text is that ends in the middle of a list.
#[derive(Debug, thiserror::Error)]
#[error("the list that begins in line {0} is not closed: what follows is missing")]
pub struct NotClosed(u64);

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
        Elements {
            window,
            arrays: 0,
            began: 0,
            wrapped: None,
            at_tail: false,
            torn: None,
            is_cut: false,
            wrappers: 0,
            lines_only: false,
        }
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
        let is_open = (self.arrays > 0 || self.at_tail || self.torn.is_some()) && !self.is_cut;
        self.window.failure().or_else(|| {
            let began = self.torn.unwrap_or(self.began);
            let end = self.window.bytes.trim_ascii_end().len().max(self.window.counted());
            is_open.then(|| (self.window.line_at(end), io::Error::new(io::ErrorKind::UnexpectedEof, NotClosed(began))))
        })
    }

    /// How many objects around lists were undone.
    #[cfg(feature = "failpoints")]
    pub fn wrappers(&self) -> u64 {
        self.wrappers
    }

    fn find(&mut self) -> Found {
        loop {
            if self.at_tail {
                match wrapper::object_end(self.window.rest(), self.window.ended) {
                    wrapper::Found::Yes(end) => self.window.at += end,
                    wrapper::Found::No => _ = self.torn.get_or_insert(self.began),
                    wrapper::Found::More => return Found::More,
                }
                self.at_tail = false;
            }
            if !self.window.skip(|byte| matches!(byte, b' ' | b'\t' | b'\r' | b'\n' | b',')) {
                return Found::More;
            }
            match self.window.rest().first() {
                None => return Found::Nothing,
                Some(b'[') => self.open(),
                Some(b']') if self.arrays > 0 => {
                    self.arrays -= 1;
                    self.at_tail = self.wrapped.take_if(|around| *around == self.arrays).is_some();
                }
                Some(b'{') => match wrapper::list_begin(self.window.rest(), self.window.ended) {
                    wrapper::Found::Yes(begin) => {
                        self.enter(begin);
                        continue;
                    }
                    wrapper::Found::No => return self.object(),
                    wrapper::Found::More => return Found::More,
                },
                Some(_) => return self.stray(),
            }
            self.window.at += 1;
        }
    }

    fn open(&mut self) {
        if self.arrays == 0 {
            self.began = self.window.line_at(self.window.at);
        }
        self.arrays += 1;
    }

    /// Goes into the list of an object around it, `begin` bytes from here.
    fn enter(&mut self, begin: usize) {
        if let Some(around) = self.wrapped.take() {
            // No list of records has such objects: the one before broke off.
            self.torn.get_or_insert(self.began);
            self.arrays = around;
        }
        self.wrapped = Some(self.arrays);
        self.wrappers += 1;
        self.open();
        self.window.at += begin;
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
        self.is_cut = self.window.ended && line_with_brace.is_none();
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
    fn the_elements_of_a_list_in_an_object_are_those_of_the_list() {
        let expected = [r#"{"a":1}"#, r#"{"b":2}"#];
        let page = "{\"@odata.context\":\"x\",\"value\":[{\"a\":1},\n{\"b\":2}],\"@odata.nextLink\":\"y\"}";
        assert_eq!(elements(page), expected);
        assert_eq!(elements("{\n  \"value\":  [\n{\n\"a\":1\n}\n  ],\n  \"Count\":  1\n}\n").len(), 1);
        assert_eq!(elements(&format!("{page}\n{page}{page}")).len(), 6);
        assert_eq!(elements(&format!("[{page},{page}]")).len(), 4);
        assert_eq!(elements("{\"value\":[]}\n{\"a\":1}{\"b\":2}"), expected);
        assert_eq!(broken_off(&format!("[{page}]\n{page}")), None);
    }

    /// Where and why a text ends before its end.
    fn broken_off(text: &str) -> Option<(u64, String)> {
        let mut elements = Elements::new(Window::new(Slow(text.as_bytes())));
        while elements.next_element().is_some() {}
        elements.failure().map(|(line, error)| (line, error.to_string()))
    }

    #[test]
    fn a_list_that_is_not_closed_is_a_failure_in_the_line_where_it_ends() {
        for (text, line, began) in [
            ("[{},\n{},", 2, 1),
            ("[{}\n", 1, 1),
            ("\n[\n", 2, 2),
            ("{}\n[[{}]\n,{}\n\n", 3, 2),
            ("{}\n{\"value\":[{},\n{}\n", 3, 2),
            ("{\"value\":[{}]", 1, 1),
            ("{\"value\":[{}],\n\"Count\":", 2, 1),
            ("{\"value\":[{}\n{\"value\":[{}]}\n", 2, 1),
            ("{\"value\":[{}],\n{\"value\":[{}]}\n", 2, 1),
        ] {
            let expected = format!("the list that begins in line {began} is not closed: what follows is missing");
            assert_eq!(broken_off(text), Some((line, expected)), "{text}");
            let kept = text.matches("{}").count();
            assert_eq!(elements(text).iter().filter(|element| *element == "{}").count(), kept, "{text}");
        }
        assert_eq!(broken_off("[{},{\"a\":"), None, "the element says it");
        assert_eq!(broken_off("[{},{}]"), None);
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
