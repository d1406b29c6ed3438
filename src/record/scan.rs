//! Where JSON values begin and end, checked in the same pass.
//!
//! Comes in: JSON text. Goes out: offsets. Accepts exactly what the grammar of RFC 8259 accepts (a
//! property test holds it to `serde_json`), any depth, without recursion. Never builds a value. It
//! exists because a string here is skipped eight bytes at a time: finding the members of a record is
//! half of what a record costs (the benchmark's first row).

/// The JSON is broken off or wrong at this offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Broken {
    pub at: usize,
}

/// Walks over JSON text. The caller has checked that it is UTF-8 where that matters.
#[derive(Debug)]
pub struct Scanner<'a> {
    json: &'a [u8],
    at: usize,
    /// Brackets that close the containers we are in.
    open: Vec<u8>,
}

impl<'a> Scanner<'a> {
    pub fn new(json: &'a [u8]) -> Scanner<'a> {
        Scanner { json, at: 0, open: Vec::new() }
    }

    /// Where the scanner stands.
    pub fn position(&self) -> usize {
        self.at
    }

    /// The byte it stands at, `None` at the end.
    #[inline]
    pub fn peek(&self) -> Option<u8> {
        self.json.get(self.at).copied()
    }

    /// Skips white space.
    #[inline]
    pub fn space(&mut self) {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.peek() {
            self.at += 1;
        }
    }

    /// Takes this byte if it stands here.
    #[inline]
    pub fn take(&mut self, byte: u8) -> bool {
        let here = self.peek() == Some(byte);
        self.at += usize::from(here);
        here
    }

    /// Takes this byte.
    ///
    /// # Errors
    /// Another one stands here.
    #[inline]
    pub fn expect(&mut self, byte: u8) -> Result<(), Broken> {
        if self.take(byte) { Ok(()) } else { Err(self.broken()) }
    }

    fn broken(&self) -> Broken {
        Broken { at: self.at.min(self.json.len()) }
    }

    /// Skips one value, without white space around it.
    ///
    /// # Errors
    /// What stands here is no JSON value.
    pub fn value(&mut self) -> Result<(), Broken> {
        self.open.clear();
        loop {
            match self.peek() {
                Some(b'"') => self.string()?,
                Some(b'{') => {
                    self.at += 1;
                    self.space();
                    if !self.take(b'}') {
                        self.open.push(b'}');
                        self.name()?;
                        continue;
                    }
                }
                Some(b'[') => {
                    self.at += 1;
                    self.space();
                    if !self.take(b']') {
                        self.open.push(b']');
                        continue;
                    }
                }
                Some(b'-' | b'0'..=b'9') => self.number()?,
                Some(b't') => self.literal(b"true")?,
                Some(b'f') => self.literal(b"false")?,
                Some(b'n') => self.literal(b"null")?,
                _ => return Err(self.broken()),
            }
            if self.close()? {
                return Ok(());
            }
        }
    }

    /// After a value: closes what closes here. True when that was the outermost.
    fn close(&mut self) -> Result<bool, Broken> {
        while let Some(&bracket) = self.open.last() {
            self.space();
            if self.take(b',') {
                self.space();
                if bracket == b'}' {
                    self.name()?;
                }
                return Ok(false);
            }
            self.expect(bracket)?;
            self.open.pop();
        }
        Ok(true)
    }

    /// A member's name, the colon, and the white space around it.
    fn name(&mut self) -> Result<(), Broken> {
        self.string()?;
        self.space();
        self.expect(b':')?;
        self.space();
        Ok(())
    }

    /// Skips a string, quotes included.
    ///
    /// # Errors
    /// What stands here is no JSON string.
    #[inline]
    pub fn string(&mut self) -> Result<(), Broken> {
        self.expect(b'"')?;
        loop {
            self.plain();
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(());
                }
                Some(b'\\') => self.escape()?,
                _ => return Err(self.broken()),
            }
        }
    }

    /// Skips to the next quote, backslash, control character, or the end. Eight bytes at a time by
    /// Mycroft's test for a small byte in a word; the lowest bit that it sets is exact.
    #[inline]
    fn plain(&mut self) {
        const ONES: u64 = u64::MAX / 255;
        const HIGH: u64 = ONES << 7;
        while let Some(chunk) = self.json.get(self.at..).and_then(|rest| rest.first_chunk::<8>()) {
            let word = u64::from_le_bytes(*chunk);
            let quote = word ^ (ONES * b'"' as u64);
            let backslash = word ^ (ONES * b'\\' as u64);
            let found = (quote.wrapping_sub(ONES) & !quote
                | backslash.wrapping_sub(ONES) & !backslash
                | word.wrapping_sub(ONES * 0x20) & !word)
                & HIGH;
            if found != 0 {
                self.at += found.trailing_zeros() as usize / 8;
                return;
            }
            self.at += 8;
        }
        while self.peek().is_some_and(|byte| byte >= 0x20 && byte != b'"' && byte != b'\\') {
            self.at += 1;
        }
    }

    fn escape(&mut self) -> Result<(), Broken> {
        self.at += 1;
        match self.peek() {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => self.at += 1,
            Some(b'u') => {
                let digits = self.json.get(self.at + 1..self.at + 5);
                if !digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit)) {
                    return Err(self.broken());
                }
                self.at += 5;
            }
            _ => return Err(self.broken()),
        }
        Ok(())
    }

    fn literal(&mut self, word: &[u8]) -> Result<(), Broken> {
        if !self.json[self.at..].starts_with(word) {
            return Err(self.broken());
        }
        self.at += word.len();
        Ok(())
    }

    fn number(&mut self) -> Result<(), Broken> {
        self.take(b'-');
        if !self.take(b'0') {
            self.digits()?;
        }
        if self.take(b'.') {
            self.digits()?;
        }
        if self.take(b'e') || self.take(b'E') {
            _ = self.take(b'+') || self.take(b'-');
            self.digits()?;
        }
        Ok(())
    }

    /// One digit at least.
    fn digits(&mut self) -> Result<(), Broken> {
        let from = self.at;
        while self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            self.at += 1;
        }
        if self.at == from { Err(self.broken()) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde::de::IgnoredAny;

    fn accepts(json: &str) -> bool {
        let mut scanner = Scanner::new(json.as_bytes());
        scanner.space();
        scanner.value().is_ok() && {
            scanner.space();
            scanner.position() == json.len()
        }
    }

    #[track_caller]
    fn agree(json: &str) {
        assert_eq!(accepts(json), serde_json::from_str::<IgnoredAny>(json).is_ok(), "{json:?}");
    }

    #[test]
    fn agrees_with_the_parser_on_the_edges() {
        for json in [
            "",
            " ",
            "null",
            "nul",
            "nulll",
            "true",
            "false ",
            "0",
            "-0",
            "-",
            "01",
            "1.",
            ".1",
            "1.0e",
            "1e+",
            "1E-07",
            "-1.50e3",
            "\"\"",
            "\"",
            "\"\\\"",
            "\"\\u12\"",
            "\"\\uD800\"",
            "\"\\x\"",
            "\"a\tb\"",
            "\"\u{7f}\u{80}é😀\"",
            "\"1234567\\\"8\"",
            "[]",
            "[ ]",
            "[,]",
            "[1,]",
            "[1 2]",
            "[1,2",
            "{}",
            "{ }",
            "{,}",
            "{\"a\"}",
            "{\"a\":}",
            "{\"a\":1,}",
            "{\"a\":1 \"b\":2}",
            "{a:1}",
            "{\"a\" : [ { } , [ ] ] }",
            "[}",
            "{]",
            "[[]]]",
            "1 2",
            "\u{feff}1",
            "{\"a\":1}x",
            "[1}",
            "{\"a\":[1}",
            "NaN",
        ] {
            agree(json);
        }
        agree(&format!("{}{}", "[".repeat(300), "]".repeat(300)));
        assert!(accepts(&format!("{}{}", "[".repeat(1_000_000), "]".repeat(1_000_000))));
    }

    #[test]
    fn every_byte_is_judged_alike_wherever_it_stands_in_a_word() {
        for byte in 0..0x80u8 {
            for before in 0..17 {
                agree(&format!("\"{}{}{}\"", "x".repeat(before), char::from(byte), "é".repeat(5)));
            }
        }
    }

    proptest! {
        #[test]
        fn agrees_with_the_parser(json in r#"[{}\[\]",:\\/u0-9aeE.\-+ \n\u{1}éntrl]{0,60}"#) {
            agree(&json);
            agree(&format!("[\"{json}\"]"));
        }

        #[test]
        fn agrees_with_the_parser_on_what_is_nearly_json(
            tokens in proptest::collection::vec(proptest::sample::select(vec!["{", "}", "[", "]", ",", ":", "\"a\"", "1", "null", " "]), 0..12)
        ) {
            agree(&tokens.concat());
        }
    }
}
