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

#[cfg(test)]
mod tests {
    use super::super::load::load_text;
    use crate::config::{LoginConfig, ProxyConfig, SinkKind, TlsConfig, TokenConfig};

    const IDS: &str =
        "tenant_id: 00000000-0000-4000-8000-0000000000c1, client_id: 00000000-0000-4000-8000-0000000000c2";
    const STREAM: &str = "https://dce.example/dataCollectionRules/dcr-1/streams/Custom-A_CL";

    /// The token of a sink, whose proxy is one and whose TLS is its receiver's own.
    fn load(sink: &str, variables: &[(&str, &str)]) -> Result<TokenConfig, String> {
        let text = format!(
            "tenants: [{{name: a, tenant_id: 00000000-0000-4000-8000-00000000000a, client_id: 00000000-0000-4000-8000-00000000000b, auth: {{client_secret: x}}}}]\nsinks: [{{name: s, tls: {{ca_file: /ca.pem, verify: false}}, proxy: off, {sink}}}]"
        );
        let lookup = |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, to)| (*to).to_owned());
        let loaded = load_text("c.yaml", &text, &lookup).map_err(|faults| faults.to_string())?;
        let login = match &loaded.config.sinks[0].kind {
            SinkKind::Http(http) => http.login.clone(),
            SinkKind::Elasticsearch(elasticsearch) => elasticsearch.login.clone(),
            _ => panic!(),
        };
        let LoginConfig::OAuth2(token) = login else { panic!() };
        assert_eq!(token.proxy, ProxyConfig::Off, "as the receiver");
        Ok(*token)
    }

    fn sentinel(entra: &str, variables: &[(&str, &str)]) -> Result<TokenConfig, String> {
        load(&format!("type: http, preset: sentinel, url: '{STREAM}', auth: {{entra: {entra}}}"), variables)
    }

    #[test]
    fn a_sink_has_every_proof_that_a_tenant_has() {
        for (proof, kind) in [
            ("client_secret: x", "client_secret"),
            ("certificate: {file: /app.pem}", "certificate"),
            ("workload_identity: {token_file: /t}", "workload_identity"),
            ("managed_identity: {}", "managed_identity"),
        ] {
            let token = sentinel(&format!("{{{IDS}, {proof}}}"), &[]).unwrap_or_else(|faults| panic!("{faults}"));
            assert_eq!(token.credential.kind(), kind);
            assert_eq!(token.scope, "https://monitor.azure.com/.default");
            assert_eq!(token.login.as_str(), "https://login.microsoftonline.com/");
        }
        let managed = sentinel("{managed_identity: {}}", &[]).unwrap();
        assert_eq!((managed.tenant_id.as_str(), managed.client_id.as_str()), ("", ""));
        let directory = "{workload_identity: {token_file: /t, client_id: 00000000-0000-4000-8000-0000000000c2, tenant_id: 00000000-0000-4000-8000-0000000000c1}}";
        assert_eq!(sentinel(directory, &[]).unwrap().tenant_id, "00000000-0000-4000-8000-0000000000c1");
    }

    #[test]
    fn the_scope_is_of_the_cloud_also_where_a_pod_says_which() {
        let of = |more: &str| sentinel(&format!("{{{IDS}, client_secret: x, {more}}}"), &[]).unwrap();
        for (cloud, scope, login) in [
            ("gcc", "https://monitor.azure.com/.default", "login.microsoftonline.com"),
            ("gcc_high", "https://monitor.azure.us/.default", "login.microsoftonline.us"),
            ("dod", "https://monitor.azure.us/.default", "login.microsoftonline.us"),
        ] {
            let token = of(&format!("cloud: {cloud}"));
            assert_eq!((token.scope.as_str(), token.login.host_str()), (scope, Some(login)), "{cloud}");
        }
        let token = of("scope: 'api://x/.default', login: 'https://login.example/a'");
        assert_eq!((token.scope.as_str(), token.login.as_str()), ("api://x/.default", "https://login.example/a"));
        let pod = [
            ("AZURE_FEDERATED_TOKEN_FILE", "/t"),
            ("AZURE_CLIENT_ID", "00000000-0000-4000-8000-0000000000c2"),
            ("AZURE_TENANT_ID", "00000000-0000-4000-8000-0000000000c1"),
            ("AZURE_AUTHORITY_HOST", "https://login.microsoftonline.us/"),
        ];
        let token = sentinel("{workload_identity: {}}", &pod).unwrap();
        assert_eq!(token.tenant_id, "00000000-0000-4000-8000-0000000000c1");
        assert_eq!(
            (token.scope.as_str(), token.login.host_str()),
            ("https://monitor.azure.us/.default", Some("login.microsoftonline.us"))
        );
    }

    /// What proves who we are goes to nobody unverified, and Microsoft is nobody but whom the world's authorities say.
    #[test]
    fn a_receivers_authorities_are_its_own_and_never_microsofts() {
        let entra = sentinel(&format!("{{{IDS}, client_secret: x}}"), &[]).unwrap();
        assert_eq!(entra.tls, TlsConfig { with_platform: true, ..TlsConfig::default() });
        let own = "type: elasticsearch, url: 'https://es.example', auth: {oauth2: {token_url: 'https://id.example/t', client_id: c, client_secret: s, parameters: {audience: a}, credentials: header}}";
        let own = load(own, &[]).unwrap();
        let tls = TlsConfig { ca_file: Some("/ca.pem".into()), with_platform: true, ..TlsConfig::default() };
        assert_eq!((own.tls, own.scope.as_str()), (tls, ""));
        let endpoint = own.endpoint.unwrap();
        assert_eq!((endpoint.parameters, endpoint.basic), (vec![("audience".into(), "a".into())], true));
    }

    #[test]
    fn what_cannot_be_meant_is_said() {
        for (entra, said) in [
            (format!("{{{IDS}}}"), "`entra` names no way to sign in"),
            (
                format!("{{{IDS}, client_secret: x, managed_identity: {{}}}}"),
                "`entra` has both `client_secret` and `managed_identity`",
            ),
            (format!("{{{IDS}, certificate: {{}}}}"), "`file` is missing"),
            ("{client_secret: x}".to_owned(), "`client_id` is missing in `entra`"),
            ("{client_secret: x}".to_owned(), "`tenant_id` is missing in `entra`"),
            ("{workload_identity: {}}".to_owned(), "`token_file` is missing"),
        ] {
            let faults = sentinel(&entra, &[]).unwrap_err();
            assert!(faults.contains(said), "{said}: {faults}");
        }
        let bare = format!("type: http, url: 'https://soc.example', auth: {{entra: {{{IDS}, client_secret: x}}}}");
        assert!(load(&bare, &[]).unwrap_err().contains("`scope` is missing in `entra`"));
        let twice = "type: http, url: 'https://soc.example', auth: {oauth2: {token_url: 'https://id.example/t', client_id: c, client_secret: s, parameters: {scope: a}}}";
        assert!(load(twice, &[]).unwrap_err().contains("`scope` is no further field"));
    }
}
