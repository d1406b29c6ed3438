//! How an application proves who it is to the token endpoint, as meant: one of four kinds; and where a sink gets its
//! tokens. Comes in: what `check_auth` and `check_token` found good. Goes out: the source's credential. `Debug` shows
//! paths and never a secret.

use std::path::PathBuf;

use secrecy::{ExposeSecret, SecretString};
use url::Url;

use super::{ProxyConfig, TlsConfig};
use crate::clock::Seconds;
use crate::secret::SecretSource;

/// One of the four kinds.
#[derive(Clone, Debug, PartialEq)]
pub enum CredentialConfig {
    ClientSecret {
        secret: SecretSource,
        /// The start of the day on which it ends, seconds since 1970 UTC; `None`: not known.
        expires: Option<Seconds>,
    },
    Certificate(CertificateConfig),
    WorkloadIdentity(WorkloadIdentityConfig),
    ManagedIdentity(ManagedIdentityConfig),
}

/// A certificate and its key, in PEM or in a PFX file; which of the two is told by what is in it. Read again
/// at each use.
#[derive(Clone, Debug, PartialEq)]
pub struct CertificateConfig {
    pub file: PathBuf,
    /// `None`: the key stands in `file`.
    pub key_file: Option<PathBuf>,
    /// Of the PFX file or of an encrypted key.
    pub password: Option<SecretSource>,
}

/// A token that somebody else signed, whom the application trusts: a Kubernetes cluster, for instance.
#[derive(Clone, Debug, PartialEq)]
pub struct WorkloadIdentityConfig {
    /// Read again at each use.
    pub token_file: PathBuf,
}

/// What the machine in Azure is.
#[derive(Clone, Debug)]
pub struct ManagedIdentityConfig {
    /// Which identity, where there are several; `None`: the one assigned by the system.
    pub client_id: Option<String>,
    /// Where to ask: link-local or loopback, so plain http.
    pub endpoint: Url,
    /// App Service and its relatives: what must be shown there. `None`: a virtual machine's metadata service.
    pub header: Option<SecretString>,
}

/// Where a sink's token comes from, and by what right.
#[derive(Clone, Debug, PartialEq)]
pub struct TokenConfig {
    /// Root of Entra's token endpoint.
    pub login: Url,
    /// The directory id; empty where nobody asks for it.
    pub tenant_id: String,
    pub client_id: String,
    pub credential: CredentialConfig,
    /// For what the token is, as `https://monitor.azure.com/.default`; empty: none is asked for.
    pub scope: String,
    /// In place of Entra's.
    pub endpoint: Option<TokenEndpoint>,
    /// Towards the endpoint.
    pub tls: TlsConfig,
    pub proxy: ProxyConfig,
}

/// Any endpoint that gives tokens for client credentials (RFC 6749, 4.4).
#[derive(Clone, Debug, PartialEq)]
pub struct TokenEndpoint {
    /// The one address that is ever shown the secret.
    pub url: Url,
    /// Further fields of the request: `audience`, `resource`.
    pub parameters: Vec<(String, String)>,
    /// Id and secret go in the header instead of the form.
    pub basic: bool,
}

impl PartialEq for ManagedIdentityConfig {
    fn eq(&self, other: &ManagedIdentityConfig) -> bool {
        let ManagedIdentityConfig { client_id, endpoint, header } = self;
        let shown = |header: &Option<SecretString>| header.as_ref().map(|header| header.expose_secret().to_owned());
        (client_id, endpoint, shown(header)) == (&other.client_id, &other.endpoint, shown(&other.header))
    }
}

impl CredentialConfig {
    /// The key of `auth` in the file, which is also the kind in `/status`.
    pub fn kind(&self) -> &'static str {
        match self {
            CredentialConfig::ClientSecret { .. } => "client_secret",
            CredentialConfig::Certificate(_) => "certificate",
            CredentialConfig::WorkloadIdentity(_) => "workload_identity",
            CredentialConfig::ManagedIdentity(_) => "managed_identity",
        }
    }
}
