//! JSON strings as text: what stands between two quotes, unescaped.
//!
//! Comes in: the inside of a JSON string that a parser has accepted. Goes out: the text, borrowed
//! where nothing was escaped. A lone surrogate (`\ud800`, which the grammar allows) becomes U+FFFD.

use std::borrow::Cow;

/// Unescapes the inside of a JSON string.
pub fn unescape(inside: &str) -> Cow<'_, str> {
    let Some(first) = memchr::memchr(b'\\', inside.as_bytes()) else { return Cow::Borrowed(inside) };
    let mut text = String::with_capacity(inside.len());
    text.push_str(&inside[..first]);
    let mut rest = &inside[first..];
    while let Some(at) = memchr::memchr(b'\\', rest.as_bytes()) {
        text.push_str(&rest[..at]);
        let (character, length) = escape(&rest[at..]);
        text.push(character);
        rest = rest.get(at + length..).unwrap_or_default();
    }
    text.push_str(rest);
    Cow::Owned(text)
}

/// The character that an escape sequence at the start of `text` means, and its length in bytes.
fn escape(text: &str) -> (char, usize) {
    let bytes = text.as_bytes();
    let simple = |character| (character, 2);
    match bytes.get(1) {
        Some(b'n') => simple('\n'),
        Some(b'r') => simple('\r'),
        Some(b't') => simple('\t'),
        Some(b'b') => simple('\u{8}'),
        Some(b'f') => simple('\u{c}'),
        Some(b'u') => unicode(bytes),
        Some(other) if other.is_ascii() => simple(char::from(*other)),
        _ => (char::REPLACEMENT_CHARACTER, 1),
    }
}

fn unicode(bytes: &[u8]) -> (char, usize) {
    let Some(high) = code_unit(bytes) else { return (char::REPLACEMENT_CHARACTER, 2) };
    if let Some(character) = char::from_u32(high) {
        return (character, 6);
    }
    match bytes.get(6..).and_then(code_unit) {
        Some(low) if (0xD800..0xDC00).contains(&high) && (0xDC00..0xE000).contains(&low) => {
            let code = 0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00);
            (char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER), 12)
        }
        _ => (char::REPLACEMENT_CHARACTER, 6),
    }
}

/// The value of a `\uXXXX` at the start of `bytes`.
fn code_unit(bytes: &[u8]) -> Option<u32> {
    let digits = bytes.strip_prefix(b"\\u")?.get(..4)?;
    digits.iter().try_fold(0, |value, digit| Some(value * 16 + char::from(*digit).to_digit(16)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_text_is_borrowed() {
        assert!(matches!(unescape("Füße"), Cow::Borrowed("Füße")));
    }

    #[test]
    fn every_escape_is_undone_and_a_lone_surrogate_is_replaced() {
        assert_eq!(unescape(r#"a\"\\\/\b\f\n\r\t\u00e4z"#), "a\"\\/\u{8}\u{c}\n\r\täz");
        assert_eq!(unescape(r"\ud83d\ude00!"), "😀!");
        assert_eq!(unescape(r"\ud83dx\ude00\ud83d\ud83d"), "\u{fffd}x\u{fffd}\u{fffd}\u{fffd}");
    }

    #[test]
    fn what_no_parser_would_accept_does_not_panic() {
        for bad in ["\\", "\\u12", "\\uzzzz", "\\é", "a\\ud83d\\"] {
            let _ = unescape(bad);
        }
    }
}
