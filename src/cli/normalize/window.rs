//! A piece of a long text: what was read and not yet taken, and which line it begins in.
//!
//! Comes in: any reader. Goes out: bytes, for whoever looks for elements in them. Holds what lies
//! between `at` and the end, never the whole text. A reader that fails ends the text: what came before
//! is still there, and the failure is kept for whoever asks.

use std::io::{self, Read};

/// Bytes asked of the reader at a time.
const READ: usize = 256 * 1024;
/// An element that is still open after so many bytes is taken for broken: 8 times `collect.max_record`.
pub const MAX_ELEMENT: usize = 64 * 1024 * 1024;
/// UTF-8's byte order mark: programs of Windows begin a file with it, and it stands in the middle of joined ones.
pub const MARK: &[u8] = b"\xEF\xBB\xBF";

/// See the module's head.
pub struct Window<R> {
    reader: R,
    pub bytes: Vec<u8>,
    /// Where the next element is looked for.
    pub at: usize,
    /// Nothing comes after `bytes`.
    pub ended: bool,
    failure: Option<io::Error>,
    /// The line, from 1, in which `bytes[counted]` lies.
    line: u64,
    counted: usize,
}

impl<R: Read> Window<R> {
    pub fn new(reader: R) -> Window<R> {
        Window { reader, bytes: Vec::new(), at: 0, ended: false, failure: None, line: 1, counted: 0 }
    }

    /// What has been read and not yet taken.
    pub fn rest(&self) -> &[u8] {
        &self.bytes[self.at..]
    }

    /// Forgets what was taken and reads on. An interrupted or failed read ends the text.
    pub fn read_more(&mut self) {
        self.line_at(self.at);
        self.bytes.drain(..self.at);
        (self.at, self.counted) = (0, 0);
        let from = self.bytes.len();
        // Doubling, so that a long element is not scanned once for every few bytes.
        let wanted = READ.max(from);
        match self.reader.by_ref().take(wanted as u64).read_to_end(&mut self.bytes) {
            Ok(read) => self.ended = read < wanted,
            Err(error) => {
                self.failure = Some(error);
                self.ended = true;
            }
        }
    }

    /// The line of a place that is not before the one asked for last.
    pub fn line_at(&mut self, place: usize) -> u64 {
        self.line += memchr::memchr_iter(b'\n', &self.bytes[self.counted..place]).count() as u64;
        self.counted = place;
        self.line
    }

    /// The last place whose line was asked for.
    pub fn counted(&self) -> usize {
        self.counted
    }

    /// Why the text ended before its end, with the line that it ended in.
    pub fn failure(&mut self) -> Option<(u64, io::Error)> {
        let error = self.failure.take()?;
        Some((self.line_at(self.bytes.len()), error))
    }

    /// Skips byte order marks and what `skip` says. False where that cannot be known without more bytes.
    pub fn skip(&mut self, skip: impl Fn(u8) -> bool) -> bool {
        loop {
            let rest = self.rest();
            match rest.first() {
                Some(byte) if skip(*byte) => self.at += 1,
                Some(byte) if *byte == MARK[0] && rest.len() < MARK.len() && !self.ended => return false,
                Some(_) if rest.starts_with(MARK) => self.at += MARK.len(),
                Some(_) => return true,
                None => return self.ended,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Fails;

    impl Read for Fails {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::other("gone"))
        }
    }

    #[test]
    fn lines_are_counted_over_what_was_forgotten() {
        let text = "a\n".repeat(READ);
        let mut window = Window::new(text.as_bytes());
        window.read_more();
        window.at = READ - 1;
        assert_eq!(window.line_at(2), 2);
        window.read_more();
        assert_eq!((window.rest()[0], window.line_at(1)), (b'\n', (READ / 2) as u64 + 1 - 1 + 1));
        assert!(window.bytes.len() <= READ + 1, "what was taken is kept");
    }

    #[test]
    fn what_came_before_a_failure_is_there_and_the_failure_has_its_line() {
        let mut window = Window::new(b"a\nb".chain(Fails));
        window.read_more();
        assert_eq!((window.rest(), window.ended), (&b"a\nb"[..], true));
        let (line, error) = window.failure().unwrap();
        assert_eq!((line, error.to_string().as_str()), (2, "gone"));
        assert!(window.failure().is_none());
    }
}
