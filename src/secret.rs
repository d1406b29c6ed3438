//! Secrets: where they come from and how they stay out of everything else. A secret is read again
//! each time it is needed, so that rotating a mounted file needs no restart.

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;
use std::path::PathBuf;

use memchr::memmem;
use secrecy::{ExposeSecret, SecretString};

/// What stands where a secret stood.
const BLOT: &[u8] = b"[redacted]";

/// Where a secret comes from. `Debug` never shows a value.
#[derive(Clone)]
pub enum SecretSource {
    /// Given in the configuration or through a variable.
    Value(SecretString),
    /// A file, read again at each use; one trailing newline is not part of it.
    File(PathBuf),
}

/// A secret could not be read.
#[derive(Debug, thiserror::Error)]
#[error("cannot read the secret in `{path}`: {source}; check that the file is mounted and readable")]
pub struct SecretError {
    path: PathBuf,
    source: std::io::Error,
}

impl SecretSource {
    /// The secret as it stands now.
    pub fn read(&self) -> Result<SecretString, SecretError> {
        match self {
            SecretSource::Value(secret) => Ok(secret.clone()),
            SecretSource::File(path) => {
                let text =
                    std::fs::read_to_string(path).map_err(|source| SecretError { path: path.clone(), source })?;
                Ok(SecretString::from(text.trim_end_matches(['\r', '\n'])))
            }
        }
    }
}

/// By source: two files are the same where their paths are, whatever they hold now.
impl PartialEq for SecretSource {
    fn eq(&self, other: &SecretSource) -> bool {
        match (self, other) {
            (SecretSource::Value(ours), SecretSource::Value(theirs)) => ours.expose_secret() == theirs.expose_secret(),
            (SecretSource::File(ours), SecretSource::File(theirs)) => ours == theirs,
            _ => false,
        }
    }
}

impl fmt::Debug for SecretSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SecretSource::Value(_) => f.write_str("Value([redacted])"),
            SecretSource::File(path) => f.debug_tuple("File").field(path).finish(),
        }
    }
}

/// `said` with every occurrence of `secret` blotted out. For what a service answers: it is repeated in
/// logs and dead letters, and a proxy's error page may show the very header that it was sent.
pub fn scrub<'a>(said: &'a [u8], secret: &[u8]) -> Cow<'a, [u8]> {
    let plain = memmem::find_iter(said, secret).map(|at| at..at + secret.len());
    if secret.is_empty() {
        return Cow::Borrowed(said);
    }
    let clean = without(said, plain);
    // A reader of JSON would make the secret of its escapes.
    match std::str::from_utf8(secret) {
        Ok(secret) if memchr::memchr(b'\\', &clean).is_some() => {
            let escaped = escaped_spans(&clean, secret);
            match escaped.is_empty() {
                true => clean,
                false => Cow::Owned(without(&clean, escaped.into_iter()).into_owned()),
            }
        }
        _ => clean,
    }
}

/// `said` with a blot in place of each of these stretches, which are in order and do not touch one another.
fn without(said: &[u8], spans: impl Iterator<Item = Range<usize>>) -> Cow<'_, [u8]> {
    let (mut clean, mut kept) = (Vec::new(), 0);
    for span in spans {
        clean.extend_from_slice(&said[kept..span.start]);
        clean.extend_from_slice(BLOT);
        kept = span.end;
    }
    if kept == 0 {
        return Cow::Borrowed(said);
    }
    clean.extend_from_slice(&said[kept..]);
    Cow::Owned(clean)
}

/// Where `said` has the secret with some of its characters escaped as in a JSON string (RFC 8259, 7).
fn escaped_spans(said: &[u8], secret: &str) -> Vec<Range<usize>> {
    let first = secret.as_bytes().first().copied().unwrap_or_default();
    let (mut spans, mut from) = (Vec::new(), 0);
    while let Some(at) = memchr::memchr2(first, b'\\', &said[from..]).map(|at| from + at) {
        let length = secret.chars().try_fold(0, |length, c| Some(length + spelled(&said[at + length..], c)?));
        match length {
            Some(length) => {
                spans.push(at..at + length);
                from = at + length;
            }
            None => from = at + 1,
        }
    }
    spans
}

/// How many bytes the character has at the start of `said`, in any spelling that JSON knows.
fn spelled(said: &[u8], c: char) -> Option<usize> {
    let mut plain = [0; 4];
    let plain = c.encode_utf8(&mut plain).as_bytes();
    match said {
        [b'\\', b'u', ..] => {
            let mut units = [0; 2];
            let units = c.encode_utf16(&mut units);
            let is_spelled = units.iter().enumerate().all(|(n, unit)| {
                let unit_said = said.get(6 * n..6 * n + 6).and_then(|said| said.strip_prefix(b"\\u"));
                let digits = unit_said.and_then(|digits| std::str::from_utf8(digits).ok());
                digits.is_some_and(|digits| u16::from_str_radix(digits, 16) == Ok(*unit))
            });
            is_spelled.then_some(6 * units.len())
        }
        [b'\\', short, ..] => {
            let meant = match short {
                b'n' => '\n',
                b'r' => '\r',
                b't' => '\t',
                b'b' => '\u{8}',
                b'f' => '\u{c}',
                other => char::from(*other),
            };
            (meant == c && (b"\"\\/nrtbf".contains(short))).then_some(2)
        }
        said => said.starts_with(plain).then_some(plain.len()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_that_is_said_back_is_blotted_out_wherever_it_stands() {
        assert_eq!(&*scrub(b"s3cret, no s3cret: x s3cret", b"s3cret"), b"[redacted], no [redacted]: x [redacted]");
        assert!(matches!(scrub(b"nothing of it", b"s3cret"), Cow::Borrowed(_)));
        assert_eq!(&*scrub(b"abc", b""), b"abc");
        let secret = "pa\"ss/w\u{f6}rd\u{1f600}\\";
        let json = serde_json::to_string(&format!("no {secret}!")).unwrap();
        for said in [
            json.clone(),
            json.replace('/', "\\/"),
            json.replace('\u{f6}', "\\u00F6").replace('\u{1f600}', "\\ud83d\\uDE00"),
            "\"no \\u0070a\\u0022ss\\u002fw\u{f6}rd\u{1f600}\\u005c!\"".to_owned(),
        ] {
            assert_eq!(scrub(said.as_bytes(), secret.as_bytes()), b"\"no [redacted]!\"".as_slice(), "{said}");
        }
        assert!(matches!(scrub(b"a \\u00 \\", b"s3cret"), Cow::Borrowed(_)));
    }
}
