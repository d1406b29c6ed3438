//! By what right a sink speaks to an HTTP receiver, as meant. Comes in: what `check_login` found good. Goes out: the
//! sinks' [`LoginConfig`]. `Debug` shows paths and never a secret.

use super::{ProxyConfig, TlsConfig, TokenConfig};
use crate::secret::SecretSource;

/// One way to log in.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum LoginConfig {
    #[default]
    None,
    /// `Authorization: <scheme><token>`; the scheme ends with a blank: [`BEARER`], [`API_KEY`] or a sink's own.
    Token {
        scheme: &'static str,
        token: SecretSource,
    },
    Basic {
        username: String,
        password: SecretSource,
    },
    /// A header of any name.
    Header(SecretHeader),
    /// A token that is fetched (OAuth2).
    OAuth2(Box<TokenConfig>),
}

/// RFC 6750.
pub const BEARER: &str = "Bearer ";
/// Elasticsearch's; the key is its base64 form.
pub const API_KEY: &str = "ApiKey ";

/// A header and its value.
#[derive(Clone, Debug, PartialEq)]
pub struct SecretHeader {
    pub name: String,
    pub value: SecretSource,
    /// Whether the value is blotted out of what a receiver answers: not where it stands in the file for all to see.
    pub is_secret: bool,
}

/// A keyed signature of each body.
#[derive(Clone, Debug, PartialEq)]
pub struct SignatureConfig {
    pub header: String,
    pub algorithm: SignatureAlgorithm,
    pub secret: SecretSource,
    /// `None`: the body alone is signed.
    pub timestamp_header: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SignatureAlgorithm {
    Sha256,
    Sha512,
}

impl SignatureAlgorithm {
    pub const ALL: [SignatureAlgorithm; 2] = [SignatureAlgorithm::Sha256, SignatureAlgorithm::Sha512];

    /// As the configuration and the header write it.
    pub const fn as_str(self) -> &'static str {
        match self {
            SignatureAlgorithm::Sha256 => "sha256",
            SignatureAlgorithm::Sha512 => "sha512",
        }
    }
}

impl LoginConfig {
    /// Whether nobody logs in.
    pub fn is_none(&self) -> bool {
        *self == LoginConfig::None
    }

    /// How a token endpoint is reached beside a receiver that is reached so. The client certificate is for the
    /// receiver, and so is leave not to verify it: what proves who we are goes to nobody unverified. An endpoint of
    /// one's own may be behind the receiver's authorities or the world's; Microsoft's is behind the world's alone.
    pub(super) fn beside(mut self, tls: &TlsConfig, proxy: &ProxyConfig) -> LoginConfig {
        if let LoginConfig::OAuth2(token) = &mut self {
            let ca_file = tls.ca_file.clone().filter(|_| token.endpoint.is_some());
            token.tls = TlsConfig { ca_file, with_platform: true, ..TlsConfig::default() };
            token.proxy = proxy.clone();
        }
        self
    }
}
