//! Where a sink's tokens come from, as written → as meant: an application in Microsoft Entra by any of a tenant's proofs, or
//! another token endpoint by a secret. Comes in: the sections of a sink. Goes out: [`TokenConfig`], or faults. Asks nobody.

use url::Url;

use super::check::warn_of_literal;
use super::check_auth;
use super::check_kafka::Pairs;
use super::faults::{Place, Reader};
use super::file::{AuthFile, CertificateFile, ManagedIdentityFile, WorkloadIdentityFile};
use super::schema::{self, Schema};
use super::section::{Field, Section, entries, field, refuse_unknown, section};
use super::tree::{Entry, Node};
use super::values::{At, Cloud, FromNode, Guid, Secret};
use super::{CredentialConfig, ProxyConfig, TlsConfig, TokenConfig, TokenEndpoint};

section! {
    /// Who asks, and by exactly one of the four proofs of a tenant's `auth`.
    EntraFile in "`entra`" {
        /// The directory id.
        tenant_id: Guid,
        /// The id of the app registration.
        client_id: Guid,
        /// A secret of the app registration, best as "${file:/run/secrets/…}".
        client_secret: Secret,
        /// A certificate of the app registration, with its key.
        certificate: CertificateFile,
        /// A token that a Kubernetes cluster signed; `{}` takes all from the environment.
        workload_identity: WorkloadIdentityFile,
        /// What the machine in Azure is; `{}` for the identity that the system assigned.
        managed_identity: ManagedIdentityFile,
        /// Which hosts are asked. Default enterprise.
        cloud: Cloud,
        /// Root of the token endpoint, instead of the cloud's.
        login: Url,
        /// For what the token is. Default: of a kafka sink `https://<host of the first broker>/.default`, of an http sink what its preset needs.
        scope: String,
    } later {}
}

section! {
    TokenEndpointFile in "the section of the token endpoint" {
        /// The token endpoint; plain http to loopback only.
        token_url: Url,
        /// Who asks.
        client_id: String,
        /// Best as "${file:/run/secrets/…}".
        client_secret: Secret,
        /// For what the token is. Default: none is asked for.
        scope: String,
        /// Further fields of the request for a token, as `audience` or `resource`.
        parameters: Pairs,
        /// Where id and secret are shown: in the `form` (the default), or in the `header` Authorization.
        credentials: Credentials,
    } later {}
}

/// Where the credentials of a client are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Credentials {
    basic: bool,
}

impl FromNode for Credentials {
    fn from_node(node: &Node, reader: &mut Reader<'_>) -> Option<Credentials> {
        let value = String::from_node(node, reader)?;
        match value.as_str() {
            "form" => Some(Credentials { basic: false }),
            "header" => Some(Credentials { basic: true }),
            _ => {
                reader.fault(&node.place, "this is no place for credentials", "use `form` or `header`");
                None
            }
        }
    }

    fn schema() -> Schema {
        schema::one_of(["form", "header"])
    }
}
/// The login host of the clouds of the United States' government.
const GOVERNMENT: &str = "login.microsoftonline.us";

/// A token of Entra. `scope`: for what it is where the file does not say.
pub(super) fn entra(
    file: EntraFile,
    place: &Place,
    scope: Option<&dyn Fn(Cloud) -> String>,
    reader: &mut Reader<'_>,
) -> Option<TokenConfig> {
    let title = EntraFile::TITLE;
    // The directory does not matter to a managed identity.
    let tenant_id = match file.tenant_id {
        Field::Absent if !matches!(file.managed_identity, Field::Absent) => Some(String::new()),
        written => check_auth::directory(written, &file.workload_identity, title, place, reader).map(|at| at.value.0),
    };
    let auth = AuthFile {
        place: place.clone(),
        client_secret: file.client_secret,
        client_secret_expires: Field::Absent,
        certificate: file.certificate,
        workload_identity: file.workload_identity,
        managed_identity: file.managed_identity,
    };
    let auth = Field::Given(At { value: auth, place: place.clone() });
    let client_id = file.client_id;
    let written = check_auth::Written { title, place, client_id, tenant_id: tenant_id.clone(), auth };
    let identity = check_auth::identity(written, reader);
    let host = identity.as_ref().and_then(|identity| identity.authority_host.clone());
    let host = host.filter(|_| matches!(file.cloud, Field::Absent));
    let cloud = match &host {
        Some(host) if host.host_str() == Some(GOVERNMENT) => Cloud::GccHigh,
        _ => file.cloud.value().unwrap_or(Cloud::Enterprise),
    };
    let scope = match (file.scope, scope) {
        (Field::Absent, Some(scope)) => Some(scope(cloud)),
        (written, _) => {
            let hint = "for instance `https://monitor.azure.com/.default`";
            written.required("scope", title, place, hint, reader).map(|at| at.value)
        }
    };
    let login = match (file.login, host) {
        (Field::Absent, Some(host)) => host,
        (Field::Absent, None) => Url::parse(cloud.roots().1).ok()?,
        (written, _) => written.value()?,
    };
    let identity = identity?;
    Some(TokenConfig {
        login,
        tenant_id: tenant_id?,
        client_id: identity.client_id,
        credential: identity.credential,
        scope: scope?,
        endpoint: None,
        tls: TlsConfig::default(),
        proxy: ProxyConfig::Environment,
    })
}

/// A token of any other endpoint.
pub(super) fn token_endpoint(file: TokenEndpointFile, place: &Place, reader: &mut Reader<'_>) -> Option<TokenConfig> {
    let title = TokenEndpointFile::TITLE;
    let hint = "for instance `https://login.example/oauth2/token`";
    let url = file.token_url.required("token_url", title, place, hint, reader);
    let hint = "the name that the endpoint knows us by";
    let client_id = file.client_id.required("client_id", title, place, hint, reader);
    let hint = "best as \"${file:/run/secrets/…}\"";
    let secret = file.client_secret.required("client_secret", title, place, hint, reader);
    if let Some(secret) = secret.as_ref().filter(|secret| secret.value.literal) {
        warn_of_literal(&secret.place, "client secret", reader);
    }
    let parameters = file.parameters.value().unwrap_or_default().0;
    for (name, place, _) in &parameters {
        if matches!(name.as_str(), "grant_type" | "client_id" | "client_secret" | "scope") {
            reader.fault(place, format!("`{name}` is no further field"), "it has a key of its own beside `parameters`");
        }
    }
    let url = url?.value;
    Some(TokenConfig {
        login: url.clone(),
        tenant_id: String::new(),
        client_id: client_id?.value,
        credential: CredentialConfig::ClientSecret { secret: secret?.value.source, expires: None },
        scope: file.scope.value().unwrap_or_default(),
        endpoint: Some(TokenEndpoint {
            url,
            parameters: parameters.into_iter().map(|(name, _, value)| (name, value.value)).collect(),
            basic: file.credentials.value().is_some_and(|credentials| credentials.basic),
        }),
        tls: TlsConfig::default(),
        proxy: ProxyConfig::Environment,
    })
}
