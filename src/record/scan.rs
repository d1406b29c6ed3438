//! Where a JSON value ends, found in one pass and checked on the way.
//!
//! Comes in: text (UTF-8) and a place in it. Goes out: the end of the value that begins there, or nothing where it is
//! not valid JSON. What is accepted here serde_json accepts too (held by tests and a fuzzer); of what is refused
//! serde_json says why, so that this file has no words. Never allocates up to 64 levels, never recurses.

/// The place after white space.
pub fn blanks(bytes: &[u8], mut at: usize) -> usize {
    while matches!(bytes.get(at), Some(b' ' | b'\n' | b'\t' | b'\r')) {
        at += 1;
    }
    at
}

/// The end of the value that begins at `at`.
pub fn value(bytes: &[u8], at: usize) -> Option<usize> {
    value_watched(bytes, at, &mut ())
}

/// The same, watched.
pub fn value_watched(bytes: &[u8], at: usize, watch: &mut impl Watch) -> Option<usize> {
    match *bytes.get(at)? {
        b'"' => string(bytes, at),
        b'{' | b'[' => nest(bytes, at, watch),
        _ => scalar(bytes, at),
    }
}

/// Who is told what the scanner walks over; `()` wants to know nothing, and costs nothing.
pub trait Watch {
    /// An object begins.
    fn open(&mut self) {}
    /// The innermost object ends.
    fn close(&mut self) {}
    /// A name of the innermost object: its place, with its quotes.
    fn name(&mut self, _bytes: &[u8], _from: usize, _end: usize) {}
    /// An element of the outermost list ends.
    fn element(&mut self, _is_object: bool) {}
}

impl Watch for () {}

const ONES: u64 = 0x0101_0101_0101_0101;
const HIGHS: u64 = 0x8080_8080_8080_8080;

/// The high bit of each byte that ends a run of plain characters: a quotation mark, a backslash, a control
/// character. Above the lowest such byte others may be marked falsely.
const fn ends(word: u64) -> u64 {
    let quote = word ^ (ONES * b'"' as u64);
    let backslash = word ^ (ONES * b'\\' as u64);
    (quote.wrapping_sub(ONES) & !quote
        | backslash.wrapping_sub(ONES) & !backslash
        | word.wrapping_sub(ONES * 0x20) & !word)
        & HIGHS
}

/// The end of the string whose opening quote stands at `at`.
#[inline]
pub fn string(bytes: &[u8], at: usize) -> Option<usize> {
    let mut rest = bytes.get(at + 1..)?;
    loop {
        while let Some((chunk, behind)) = rest.split_first_chunk::<8>() {
            let found = ends(u64::from_le_bytes(*chunk));
            if found != 0 {
                rest = &rest[found.trailing_zeros() as usize / 8..];
                break;
            }
            rest = behind;
        }
        match *rest.first()? {
            b'"' => return Some(bytes.len() - rest.len() + 1),
            b'\\' => rest = &rest[escape(rest)?..],
            byte if byte < 0x20 => return None,
            _ => rest = &rest[1..],
        }
    }
}

/// The length of the escape that the text begins with. Apart, because few strings have one.
#[inline(never)]
fn escape(text: &[u8]) -> Option<usize> {
    match *text.get(1)? {
        b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => Some(2),
        b'u' => text.get(2..6)?.iter().all(u8::is_ascii_hexdigit).then_some(6),
        _ => None,
    }
}

/// The end of a number or a word.
fn scalar(bytes: &[u8], at: usize) -> Option<usize> {
    let word: &[u8] = match *bytes.get(at)? {
        b't' => b"true",
        b'f' => b"false",
        b'n' => b"null",
        _ => return number(bytes, at),
    };
    bytes[at..].starts_with(word).then_some(at + word.len())
}

fn number(bytes: &[u8], at: usize) -> Option<usize> {
    let at = if bytes.get(at) == Some(&b'-') { at + 1 } else { at };
    let mut end = match *bytes.get(at)? {
        // A nought leads no other digit.
        b'0' if bytes.get(at + 1).is_some_and(u8::is_ascii_digit) => return None,
        b'0' => at + 1,
        _ => digits(bytes, at)?,
    };
    if bytes.get(end) == Some(&b'.') {
        end = digits(bytes, end + 1)?;
    }
    if matches!(bytes.get(end), Some(b'e' | b'E')) {
        let sign = usize::from(matches!(bytes.get(end + 1), Some(b'+' | b'-')));
        end = digits(bytes, end + 1 + sign)?;
    }
    Some(end)
}

/// The end of one digit or more.
fn digits(bytes: &[u8], at: usize) -> Option<usize> {
    let count = bytes.get(at..)?.iter().take_while(|byte| byte.is_ascii_digit()).count();
    (count > 0).then_some(at + count)
}

/// The end of the object or list that begins at `at`.
fn nest(bytes: &[u8], at: usize, watch: &mut impl Watch) -> Option<usize> {
    let mut open = Levels::default();
    let mut at = at;
    // A value is due.
    'value: loop {
        match *bytes.get(at)? {
            bracket @ (b'{' | b'[') => {
                let is_object = bracket == b'{';
                let inside = blanks(bytes, at + 1);
                if bytes.get(inside) == Some(if is_object { &b'}' } else { &b']' }) {
                    at = inside + 1;
                } else {
                    open.push(is_object);
                    at = inside;
                    if is_object {
                        watch.open();
                        at = name(bytes, inside, watch)?;
                    }
                    continue 'value;
                }
            }
            b'"' => at = string(bytes, at)?,
            _ => at = scalar(bytes, at)?,
        }
        // A value has ended.
        while let Some(is_object) = open.last() {
            if !is_object && open.depth == 1 {
                watch.element(bytes[at - 1] == b'}');
            }
            at = blanks(bytes, at);
            match (*bytes.get(at)?, is_object) {
                (b',', true) => {
                    at = name(bytes, blanks(bytes, at + 1), watch)?;
                    continue 'value;
                }
                (b',', false) => {
                    at = blanks(bytes, at + 1);
                    continue 'value;
                }
                (b'}', true) | (b']', false) => {
                    open.pop();
                    at += 1;
                    if is_object {
                        watch.close();
                    }
                }
                _ => return None,
            }
        }
        return Some(at);
    }
}

/// The place of the value behind a name and its colon.
#[inline(always)]
fn name(bytes: &[u8], at: usize, watch: &mut impl Watch) -> Option<usize> {
    if bytes.get(at) != Some(&b'"') {
        return None;
    }
    let end = string(bytes, at)?;
    watch.name(bytes, at, end);
    let colon = blanks(bytes, end);
    (bytes.get(colon) == Some(&b':')).then(|| blanks(bytes, colon + 1))
}

/// Which of the open levels are objects: the innermost 64 as bits, the others in words behind them.
#[derive(Default)]
struct Levels {
    bits: u64,
    depth: usize,
    outer: Vec<u64>,
}

impl Levels {
    fn push(&mut self, is_object: bool) {
        if self.depth > 0 && self.depth.is_multiple_of(64) {
            self.outer.push(self.bits);
        }
        self.bits = self.bits << 1 | u64::from(is_object);
        self.depth += 1;
    }

    fn last(&self) -> Option<bool> {
        (self.depth > 0).then_some(self.bits & 1 == 1)
    }

    fn pop(&mut self) {
        self.bits >>= 1;
        self.depth -= 1;
        if self.depth > 0 && self.depth.is_multiple_of(64) {
            self.bits = self.outer.pop().unwrap_or_default();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::value::RawValue;

    /// What serde_json says of the value that the text begins with.
    fn judged(text: &str) -> Option<usize> {
        let mut read = serde_json::Deserializer::from_str(text).into_iter::<&RawValue>();
        let value = read.next()?.ok()?;
        Some(value.get().as_ptr() as usize - text.as_ptr() as usize + value.get().len())
    }

    fn agree(text: &str) {
        let found = value(text.as_bytes(), blanks(text.as_bytes(), 0));
        let whole = found.filter(|end| blanks(text.as_bytes(), *end) == text.len());
        let expected = serde_json::from_str::<&RawValue>(text).ok().and_then(|_| judged(text));
        assert_eq!(whole, expected, "{text}");
    }

    #[test]
    fn the_end_is_where_a_parser_finds_it() {
        for text in [
            "0",
            "-0",
            "01",
            "1.",
            "1.5e+3",
            "1e",
            "-",
            ".5",
            "1E5",
            "true",
            "tru",
            "null",
            "nulls",
            "\"\"",
            "\"a\\u00e4\"",
            "\"\\ud800\"",
            "\"\\u12g4\"",
            "\"\\x\"",
            "\"a\n\"",
            "\"unfinished",
            "\"12345678\"",
            "\"1234567\\\"89\"",
            "[]",
            "[ ]",
            "[1,]",
            "[,]",
            "[1 2]",
            "{}",
            "{ }",
            "{\"a\":1}",
            "{\"a\":}",
            "{\"a\" : [ {\"b\":\"}\"} , 1 ] }",
            "{a:1}",
            "{\"a\",1}",
            "[1}",
            "{\"a\":1]",
            "[[[]]",
            "[\u{7f}]",
            "[\"ä\u{2028}\"]",
            " 1 ",
            "",
        ] {
            agree(text);
        }
        for depth in [63, 64, 65, 128, 129, 1000] {
            let mixed: String = (0..depth).map(|n| if n % 3 == 0 { "{\"a\":" } else { "[" }).collect();
            let closing: String = (0..depth).rev().map(|n| if n % 3 == 0 { "}" } else { "]" }).collect();
            agree(&format!("{mixed}1{closing}"));
            agree(&format!("{mixed}1{}", closing.replacen('}', "]", 1)));
            let wrong = closing.chars().rev().collect::<String>().replacen('}', "]", 1);
            agree(&format!("{mixed}1{}", wrong.chars().rev().collect::<String>()));
        }
    }

    proptest! {
        #[test]
        fn what_looks_like_json_is_judged_alike(text in r#"[{}\[\]",:\\ua0-9dIe.\-+ \ntrufalsn]{0,60}"#) {
            agree(&text);
            agree(&format!("[{text}]"));
            agree(&format!("\"{text}\""));
        }

        #[test]
        fn what_is_json_is_read_to_its_end(
            list in proptest::collection::vec((any::<String>(), any::<f64>(), any::<bool>()), 0..6), pretty in any::<bool>(),
        ) {
            let value = serde_json::json!({"a": list, "b": {"c": list}});
            agree(&if pretty { serde_json::to_string_pretty(&value) } else { serde_json::to_string(&value) }.unwrap());
        }
    }
}
