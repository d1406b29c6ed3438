//! Secrets: where they come from and how they stay out of everything else. A secret is read again
//! each time it is needed, so that rotating a mounted file needs no restart.

use std::fmt;
use std::path::PathBuf;

use secrecy::SecretString;

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

impl fmt::Debug for SecretSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SecretSource::Value(_) => f.write_str("Value([redacted])"),
            SecretSource::File(path) => f.debug_tuple("File").field(path).finish(),
        }
    }
}
