//! UTF-16 as UTF-8, while it is read.
//!
//! Comes in: UTF-16 of either order, as Excel and Windows PowerShell save text (Excel: "Unicode Text").
//! Goes out: UTF-8. What is no character (a lone surrogate, an odd byte at the end) becomes U+FFFD. Holds one
//! block.

use std::io::{self, Read};

/// Bytes taken from the reader at a time.
const BLOCK: usize = 64 * 1024;

/// See the module's head.
pub struct Utf16<R> {
    reader: R,
    unit: fn([u8; 2]) -> u16,
    /// Bytes that are not yet text: an odd one, or the first half of a pair.
    left: Vec<u8>,
    text: Vec<u8>,
    given: usize,
    ended: bool,
}

impl<R: Read> Utf16<R> {
    /// Reads on behind a byte order mark, which `FF FE` (little) and `FE FF` (big) are.
    pub fn new(reader: R, is_little: bool) -> Utf16<R> {
        let unit = if is_little { u16::from_le_bytes } else { u16::from_be_bytes };
        Utf16 { reader, unit, left: Vec::new(), text: Vec::new(), given: 0, ended: false }
    }

    fn read_block(&mut self) -> io::Result<()> {
        let from = self.left.len();
        self.left.resize(from + BLOCK, 0);
        let read = self.reader.read(&mut self.left[from..]);
        self.left.truncate(from + *read.as_ref().unwrap_or(&0));
        self.ended = read? == 0;
        let mut whole = self.left.len() / 2 * 2;
        let units = self.left.chunks_exact(2).map(|pair| (self.unit)([pair[0], pair[1]]));
        if !self.ended && units.clone().next_back().is_some_and(|unit| (0xD800..0xDC00).contains(&unit)) {
            whole -= 2;
        }
        self.text.clear();
        self.given = 0;
        for character in char::decode_utf16(units.take(whole / 2)) {
            let character = character.unwrap_or(char::REPLACEMENT_CHARACTER);
            self.text.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
        }
        self.left.drain(..whole);
        if self.ended && !self.left.is_empty() {
            self.left.clear();
            self.text.extend_from_slice("\u{fffd}".as_bytes());
        }
        Ok(())
    }
}

impl<R: Read> Read for Utf16<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while self.given == self.text.len() && !self.ended {
            self.read_block()?;
        }
        let rest = &self.text[self.given..];
        let length = rest.len().min(into.len());
        into[..length].copy_from_slice(&rest[..length]);
        self.given += length;
        Ok(length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Gives so many bytes at a time.
    struct By<'a>(usize, &'a [u8]);

    impl Read for By<'_> {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            let length = self.0.min(self.1.len()).min(into.len());
            let (now, rest) = self.1.split_at(length);
            into[..length].copy_from_slice(now);
            self.1 = rest;
            Ok(length)
        }
    }

    fn text(bytes: &[u8], by: usize, is_little: bool) -> String {
        let mut text = String::new();
        Utf16::new(By(by, bytes), is_little).read_to_string(&mut text).unwrap();
        text
    }

    proptest! {
        #[test]
        fn any_text_comes_back_however_it_is_read(given in r"(\PC|[\x00-\x1f😀\u{10ffff}])*", by in 1usize..9) {
            let units: Vec<u16> = given.encode_utf16().collect();
            let little: Vec<u8> = units.iter().flat_map(|unit| unit.to_le_bytes()).collect();
            let big: Vec<u8> = units.iter().flat_map(|unit| unit.to_be_bytes()).collect();
            prop_assert_eq!(&text(&little, by, true), &given);
            prop_assert_eq!(&text(&big, by, false), &given);
        }
    }

    #[test]
    fn what_is_no_character_is_replaced() {
        assert_eq!(text(b"\x00\xD8a\x00\x00\xDCb", 1, true), "\u{fffd}a\u{fffd}\u{fffd}");
        assert_eq!(text(b"a\x00\x00\xD8", 3, true), "a\u{fffd}");
    }
}
