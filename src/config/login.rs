//! By what right a sink speaks to an HTTP receiver, as meant. Comes in: what `check_login` found good. Goes out: the
//! sinks' [`LoginConfig`]. `Debug` shows paths and never a secret.

use url::Url;

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
    OAuth2(Box<OAuth2Config>),
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

/// OAuth2 client credentials (RFC 6749, 4.4).
#[derive(Clone, Debug, PartialEq)]
pub struct OAuth2Config {
    /// The one address that is ever shown the secret.
    pub token_url: Url,
    pub client_id: String,
    pub client_secret: SecretSource,
    pub scope: Option<String>,
    /// Further fields of the request: `audience`, `resource`.
    pub parameters: Vec<(String, String)>,
    /// Id and secret go in the header instead of the form.
    pub basic: bool,
    /// The endpoint is Microsoft's: the receiver's own authorities (`ca_file`) are not believed there.
    pub is_public: bool,
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
}
