//! The token of somebody whom the application trusts: what Kubernetes projects into a pod and renews within the hour.
//! Comes in: a path. Goes out: the token, read anew at each call. Its signature is not ours to check; its times are
//! looked at only to explain a refusal.

use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;

use crate::clock::Seconds;

/// Longest token that is read, bytes: real ones have about 1 KiB.
const LONGEST: usize = 64 * 1024;

/// There is no token.
#[derive(Debug, thiserror::Error)]
pub enum FederatedError {
    #[error(
        "cannot read the federated token in `{path}`: {source}; the pod needs the label `azure.workload.identity/use: \"true\"` and the ServiceAccount its annotation, or `token_file` another path"
    )]
    Read { path: PathBuf, source: std::io::Error },
    #[error("what is in `{path}` is no token: three parts with dots between them are wanted; name the projected token")]
    NoToken { path: PathBuf },
}

/// The token as it stands in the file now.
pub fn read(path: &Path) -> Result<SecretString, FederatedError> {
    let text = std::fs::read_to_string(path);
    let text = text.map_err(|source| FederatedError::Read { path: path.to_owned(), source })?;
    let text = zeroize::Zeroizing::new(text);
    let token = text.trim();
    let is_part = |part: &str| {
        !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'='))
    };
    let parts: Vec<&str> = token.split('.').collect();
    if token.len() > LONGEST || parts.len() != 3 || !parts.into_iter().all(is_part) {
        return Err(FederatedError::NoToken { path: path.to_owned() });
    }
    Ok(SecretString::from(token))
}

/// What a token says of itself, for a person: never the token.
#[derive(Debug, Deserialize)]
pub struct Said {
    #[serde(default)]
    pub iss: String,
    #[serde(default)]
    pub sub: String,
    /// One or several.
    #[serde(default)]
    pub aud: serde_json::Value,
    #[serde(default)]
    pub exp: Option<Seconds>,
}

/// Reads the middle of a token.
pub fn said(token: &SecretString) -> Option<Said> {
    let claims = token.expose_secret().split('.').nth(1)?;
    let claims = URL_SAFE_NO_PAD.decode(claims.trim_end_matches('=')).ok()?;
    serde_json::from_slice(&claims).ok()
}
