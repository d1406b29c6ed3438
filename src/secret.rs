//! Secrets: where they come from and how they stay out of everything else. A secret is read again
//! each time it is needed, so that rotating a mounted file needs no restart.

use std::borrow::Cow;
use std::fmt;
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
    if secret.is_empty() || memmem::find(said, secret).is_none() {
        return Cow::Borrowed(said);
    }
    let mut clean = Vec::with_capacity(said.len());
    let mut kept = 0;
    for at in memmem::find_iter(said, secret) {
        clean.extend_from_slice(&said[kept..at]);
        clean.extend_from_slice(BLOT);
        kept = at + secret.len();
    }
    clean.extend_from_slice(&said[kept..]);
    Cow::Owned(clean)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_that_is_said_back_is_blotted_out_wherever_it_stands() {
        assert_eq!(&*scrub(b"s3cret, no s3cret: x s3cret", b"s3cret"), b"[redacted], no [redacted]: x [redacted]");
        assert!(matches!(scrub(b"nothing of it", b"s3cret"), Cow::Borrowed(_)));
        assert_eq!(&*scrub(b"abc", b""), b"abc");
    }
}
