//! Keyed pseudonyms: the same value under the same key is always the same text, and without the key nobody
//! finds the value by trying all that it could be.
//!
//! Comes in: a value's text and a key. Goes out: `pseudonym:` and the HMAC-SHA-256 (RFC 2104, FIPS 180-4) of the
//! value in base64url without padding (RFC 4648, section 5), 43 characters. Never shows the key.

use std::fmt;

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// What every pseudonym begins with, so that nobody takes one for a value.
pub const PREFIX: &str = "pseudonym:";

/// The least length of a key: below, trying all keys is cheaper than trying all names (NIST SP 800-107, 5.3.2).
pub const KEY_BYTES: usize = 16;

/// Makes pseudonyms under one key.
pub struct Pseudonyms(hmac::Key);

impl Pseudonyms {
    /// `None`: the key is shorter than [`KEY_BYTES`].
    pub fn new(key: &[u8]) -> Option<Pseudonyms> {
        (key.len() >= KEY_BYTES).then(|| Pseudonyms(hmac::Key::new(hmac::HMAC_SHA256, key)))
    }

    /// Appends the pseudonym of a value; no character of it needs to be escaped in JSON.
    pub fn push(&self, value: &[u8], out: &mut Vec<u8>) {
        out.extend_from_slice(PREFIX.as_bytes());
        let tag = hmac::sign(&self.0, value);
        out.extend_from_slice(URL_SAFE_NO_PAD.encode(tag).as_bytes());
    }
}

impl fmt::Debug for Pseudonyms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pseudonyms([redacted])")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 4231, test case 3: twenty bytes 0xaa over fifty bytes 0xdd.
    #[test]
    fn it_is_the_hmac_of_the_standard() {
        let mut out = Vec::new();
        Pseudonyms::new(&[0xaa; 20]).unwrap().push(&[0xdd; 50], &mut out);
        let encoded = out.strip_prefix(PREFIX.as_bytes()).unwrap();
        let tag = URL_SAFE_NO_PAD.decode(encoded).unwrap();
        let hex: String = tag.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, "773ea91e36800e46854db8ebd09181a72959098b3ef8c122d9635514ced565fe");
    }

    #[test]
    fn a_short_key_is_none_and_a_key_is_never_shown() {
        assert!(Pseudonyms::new(b"fifteen bytes..").is_none());
        assert_eq!(format!("{:?}", Pseudonyms::new(b"canary canary canary").unwrap()), "Pseudonyms([redacted])");
    }
}
