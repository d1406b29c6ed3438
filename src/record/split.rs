//! Where one record ends and the next begins, in a body that is still arriving.
//!
//! Comes in: a growing buffer. Goes out: spans of whole elements of the top-level array. Only the
//! structure is read (strings, escapes, depth): whether an element is a readable record is for
//! [`view`](super::view) to say, one by one, so that one bad record costs one record. Never
//! recurses, so depth costs nothing.

use memchr::memchr2;

use super::Span;

/// Why a body is not an array of elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SplitError {
    #[error("the body does not begin with `[`")]
    NotAnArray,
    #[error("the body has bytes after its closing `]`")]
    Trailing,
    #[error("a closing bracket at byte {0} closes nothing")]
    Unbalanced(usize),
    #[error("reading the body panicked, a fault of ours")]
    Fault,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Before `[`.
    Start,
    /// In the array, between elements.
    Between,
    /// In an element, `depth` brackets deep; 0 for a bare scalar.
    Element { depth: u32, inside: Inside },
    /// After `]`.
    Done,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Inside {
    Structure,
    String,
    /// Right after a backslash in a string.
    Escape,
}

/// Scans a buffer that its owner fills at the end and cuts at the front.
#[derive(Debug)]
pub struct Splitter {
    state: State,
    /// Bytes of the buffer already scanned.
    scanned: usize,
    /// Start of the open element, valid in `Element`.
    open: usize,
    /// Bytes cut off so far, for error positions.
    cut: usize,
}

impl Default for Splitter {
    fn default() -> Self {
        Splitter { state: State::Start, scanned: 0, open: 0, cut: 0 }
    }
}

impl Splitter {
    /// Scans what was added to `buffer` since the last call; appends the span of each element that
    /// became complete (offsets into `buffer`).
    pub fn scan(&mut self, buffer: &[u8], spans: &mut Vec<Span>) -> Result<(), SplitError> {
        while self.scanned < buffer.len() {
            let at = self.scanned;
            self.scanned = match self.state {
                State::Start => self.start(buffer, at)?,
                State::Between => self.between(buffer, at)?,
                State::Element { depth, inside } => self.element(buffer, depth, inside, spans),
                State::Done if buffer[at].is_ascii_whitespace() => at + 1,
                State::Done => return Err(SplitError::Trailing),
            };
        }
        Ok(())
    }

    /// True when the closing `]` has been seen.
    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// True once the opening `[` has been seen.
    pub fn has_begun(&self) -> bool {
        self.state != State::Start
    }

    /// Bytes of the buffer that were scanned: after an error of the structure, where it is.
    pub fn scanned(&self) -> usize {
        self.scanned
    }

    /// Start of the element that has begun and not ended.
    pub fn open_element(&self) -> Option<usize> {
        matches!(self.state, State::Element { .. }).then_some(self.open)
    }

    /// Tells that the first `bytes` of the buffer belong to an earlier body: scanning begins after them.
    pub fn skip(&mut self, bytes: usize) {
        self.scanned = bytes;
    }

    /// Tells that the first `bytes` of the buffer (already scanned) were cut off.
    pub fn cut(&mut self, bytes: usize) {
        self.cut += bytes;
        self.scanned = self.scanned.saturating_sub(bytes);
        self.open = self.open.saturating_sub(bytes);
    }

    fn start(&mut self, buffer: &[u8], at: usize) -> Result<usize, SplitError> {
        const BOM: &[u8] = b"\xEF\xBB\xBF";
        match buffer[at] {
            b'[' => self.state = State::Between,
            byte if byte.is_ascii_whitespace() => {}
            byte if BOM.get(self.cut + at) == Some(&byte) => {}
            _ => return Err(SplitError::NotAnArray),
        }
        Ok(at + 1)
    }

    fn between(&mut self, buffer: &[u8], at: usize) -> Result<usize, SplitError> {
        let blank = buffer[at..].iter().take_while(|byte| **byte == b',' || byte.is_ascii_whitespace()).count();
        let at = at + blank;
        match buffer.get(at) {
            None => return Ok(at),
            Some(b']') => self.state = State::Done,
            Some(b'}') => {
                self.scanned = at;
                return Err(SplitError::Unbalanced(self.cut + at));
            }
            Some(_) => {
                self.open = at;
                self.state = State::Element { depth: 0, inside: Inside::Structure };
                return Ok(at);
            }
        }
        Ok(at + 1)
    }

    /// Scans on inside an element; returns where to go on.
    fn element(&mut self, buffer: &[u8], mut depth: u32, mut inside: Inside, spans: &mut Vec<Span>) -> usize {
        let mut at = self.scanned;
        while at < buffer.len() {
            match inside {
                Inside::Escape => inside = Inside::String,
                Inside::String => match memchr2(b'"', b'\\', &buffer[at..]) {
                    None => at = buffer.len() - 1,
                    Some(found) => {
                        at += found;
                        inside = if buffer[at] == b'"' { Inside::Structure } else { Inside::Escape };
                    }
                },
                Inside::Structure => match buffer[at] {
                    b'"' => inside = Inside::String,
                    b'{' | b'[' => depth += 1,
                    b',' | b']' | b'}' if depth == 0 => return self.end(at, spans),
                    b'}' | b']' => {
                        depth -= 1;
                        if depth == 0 {
                            return self.end(at + 1, spans);
                        }
                    }
                    _ => {}
                },
            }
            at += 1;
        }
        self.state = State::Element { depth, inside };
        at
    }

    #[expect(clippy::cast_possible_truncation, reason = "a part is cut long before 4 GiB")]
    fn end(&mut self, at: usize, spans: &mut Vec<Span>) -> usize {
        spans.push(self.open as u32..at as u32);
        self.state = State::Between;
        at
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Feeds `body` in pieces of `step` bytes, cutting all complete elements off after each.
    fn split(body: &[u8], step: usize) -> Result<(Vec<Vec<u8>>, bool), SplitError> {
        let (mut splitter, mut buffer, mut elements) = (Splitter::default(), Vec::new(), Vec::new());
        for piece in body.chunks(step) {
            buffer.extend_from_slice(piece);
            let mut spans = Vec::new();
            splitter.scan(&buffer, &mut spans)?;
            elements.extend(spans.iter().map(|s| buffer[s.start as usize..s.end as usize].to_vec()));
            if let Some(last) = spans.last() {
                buffer.drain(..last.end as usize);
                splitter.cut(last.end as usize);
            }
        }
        Ok((elements, splitter.is_done()))
    }

    #[test]
    fn finds_elements_of_every_kind_at_every_cut() {
        let body = br#" [ {"a":"}\"]\\"} ,[1,{"b":[]}], 7 ,"x,]" , null,{}] "#;
        let expected: Vec<&[u8]> = vec![br#"{"a":"}\"]\\"}"#, br#"[1,{"b":[]}]"#, b"7 ", br#""x,]" "#, b"null", b"{}"];
        for step in 1..body.len() {
            let (elements, done) = split(body, step).unwrap();
            assert_eq!(elements, expected, "in steps of {step}");
            assert!(done);
        }
    }

    #[test]
    fn an_unfinished_array_is_not_done_and_bytes_after_it_are_an_error() {
        assert!(!split(br#"[{"a":1},{"b":"#, 3).unwrap().1);
        assert_eq!(split(b"[] x", 1), Err(SplitError::Trailing));
        assert_eq!(split(b"null", 4), Err(SplitError::NotAnArray));
        assert_eq!(split(b"[}", 1), Err(SplitError::Unbalanced(1)));
        assert_eq!(split(b"\xEF\xBB\xBF[1]", 1).unwrap().0, vec![b"1".to_vec()]);
    }

    proptest! {
        #[test]
        fn agrees_with_a_json_parser_on_any_array(values in prop::collection::vec("[ -~]{0,20}", 0..8), step in 1usize..40) {
            let records: Vec<serde_json::Value> =
                values.iter().map(|v| serde_json::json!({"k": v, "n": [v, {"d": v}]})).collect();
            let body = serde_json::to_vec(&records).unwrap();
            let (elements, done) = split(&body, step).unwrap();
            prop_assert!(done);
            let parsed: Vec<serde_json::Value> = elements.iter().map(|e| serde_json::from_slice(e).unwrap()).collect();
            prop_assert_eq!(parsed, records);
        }

        #[test]
        fn never_panics(body in prop::collection::vec(any::<u8>(), 0..300), step in 1usize..50) {
            let _ = split(&body, step);
        }
    }
}
