//! `sasl` of a Kafka sink as written → as meant: a name with a password, or where a token comes from. Comes in: the section
//! and the brokers. Goes out: [`SaslConfig`], or faults. Asks nobody.

use url::Url;

use super::check::warn_of_literal;
use super::check_auth;
use super::faults::{Place, Reader};
use super::file::{AuthFile, EntraFile, OidcFile, SaslFile, SaslTokenFile};
use super::kafka::{OAUTHBEARER, SaslConfig, SaslTokenConfig};
use super::section::{Field, Section};
use super::values::{At, Cloud, Guid, is_private};
use super::{CredentialConfig, ProxyConfig, TlsConfig};

/// How the sink logs in. `brokers`: the first names what an Entra token is for, unless a scope is given.
pub(super) fn sasl(file: SaslFile, brokers: Option<&str>, reader: &mut Reader<'_>) -> Option<SaslConfig> {
    let (place, title) = (file.place, SaslFile::TITLE);
    let hint = "one of SCRAM-SHA-512, SCRAM-SHA-256, PLAIN, OAUTHBEARER";
    let mechanism = file.mechanism.required("mechanism", title, &place, hint, reader)?.value.0;
    if mechanism == OAUTHBEARER {
        let given = [
            ("username", file.username.given().map(|at| at.place)),
            ("password", file.password.given().map(|at| at.place)),
        ];
        for (key, at) in given.into_iter().filter_map(|(key, at)| Some((key, at?))) {
            let hint = "remove it: who we are stands in `token`";
            reader.fault(&at, format!("`{key}` says nothing with OAUTHBEARER"), hint);
        }
        let hint = "`token: { entra: { … } }` for Azure Event Hubs, or `token: { oidc: { … } }`";
        let token = file.token.required("token", title, &place, hint, reader)?;
        return Some(SaslConfig::Token(Box::new(self::token(token, brokers, reader)?)));
    }
    if let Field::Given(token) = &file.token {
        reader.fault(
            &token.place,
            format!("`token` goes with OAUTHBEARER, not with {mechanism}"),
            "remove one of them",
        );
    }
    let username = file.username.required("username", title, &place, "the name that the broker knows us by", reader);
    let hint = "best as \"${file:/run/secrets/…}\"";
    let password = file.password.required("password", title, &place, hint, reader);
    if let Some(password) = password.as_ref().filter(|password| password.value.literal) {
        warn_of_literal(&password.place, "password", reader);
    }
    Some(SaslConfig::Password { mechanism, username: username?.value, password: password?.value.source })
}

fn token(written: At<SaslTokenFile>, brokers: Option<&str>, reader: &mut Reader<'_>) -> Option<SaslTokenConfig> {
    let At { value: SaslTokenFile { entra, oidc, .. }, place } = written;
    match (entra, oidc) {
        (Field::Given(entra), Field::Absent) => self::entra(entra.value, &entra.place, brokers?, reader),
        (Field::Absent, Field::Given(oidc)) => self::oidc(oidc.value, &oidc.place, reader),
        (Field::Faulty, _) | (_, Field::Faulty) => None,
        (Field::Given(_), Field::Given(oidc)) => {
            reader.fault(&oidc.place, "`token` has both `entra` and `oidc`", "give one: a token comes from one place");
            None
        }
        (Field::Absent, Field::Absent) => {
            let hint =
                "`entra: { … }` for Azure Event Hubs, or `oidc: { token_url: …, client_id: …, client_secret: … }`";
            reader.fault(&place, "`token` does not say where a token comes from", hint);
            None
        }
    }
}

fn entra(file: EntraFile, place: &Place, brokers: &str, reader: &mut Reader<'_>) -> Option<SaslTokenConfig> {
    let proofs = [
        !matches!(file.client_secret, Field::Absent),
        !matches!(file.certificate, Field::Absent),
        !matches!(file.workload_identity, Field::Absent),
        !matches!(file.managed_identity, Field::Absent),
    ];
    if proofs.iter().filter(|given| **given).count() != 1 {
        reader.fault(
            place,
            "`entra` needs exactly one proof of who we are",
            "one of `client_secret`, `certificate`, `workload_identity: {}`, `managed_identity: {}`",
        );
        return None;
    }
    // The directory does not matter to a managed identity, and the webhook knows that of a workload identity.
    let [_, _, is_workload, is_managed] = proofs;
    let tenant_id = match file.tenant_id {
        Field::Absent if is_managed => Some(String::new()),
        Field::Absent if is_workload && check_auth::has_tenant_id(reader) => {
            check_auth::environments_tenant_id(place, reader)
        }
        written => {
            let hint = "the directory id from the portal's overview page";
            written.required("tenant_id", EntraFile::TITLE, place, hint, reader).map(|at| at.value.0)
        }
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
    let client_id: Field<Guid> = file.client_id;
    let written = check_auth::Written { place, client_id, tenant_id: tenant_id.clone(), auth };
    let identity = check_auth::identity(written, reader);
    let host = identity.as_ref().and_then(|identity| identity.authority_host.clone());
    let host = host.filter(|_| matches!(file.cloud, Field::Absent));
    let login = match (file.login, host) {
        (Field::Absent, Some(host)) => host,
        (Field::Absent, None) => Url::parse(file.cloud.value().unwrap_or(Cloud::Enterprise).roots().1).ok()?,
        (written, _) => written.value()?,
    };
    let first = brokers.split(',').next().unwrap_or(brokers);
    let host = first.rsplit_once(':').map_or(first, |(host, _)| host);
    let scope = file.scope.value();
    let resource = scope
        .as_deref()
        .map_or_else(|| format!("https://{host}"), |scope| scope.strip_suffix("/.default").unwrap_or(scope).to_owned());
    let identity = identity?;
    Some(SaslTokenConfig {
        login,
        tenant_id: tenant_id?,
        client_id: identity.client_id,
        credential: identity.credential,
        resource,
        token_url: None,
        scope,
        tls: TlsConfig::default(),
        proxy: ProxyConfig::Environment,
    })
}

fn oidc(file: OidcFile, place: &Place, reader: &mut Reader<'_>) -> Option<SaslTokenConfig> {
    let title = OidcFile::TITLE;
    let url = file.token_url.required("token_url", title, place, "the token endpoint, with https", reader);
    if let Some(url) = url.as_ref().filter(|url| !is_private(&url.value)) {
        let hint = "use https; plain http only to this machine itself";
        reader.fault(&url.place, "the client secret would go over the network readable", hint);
        return None;
    }
    let client_id =
        file.client_id.required("client_id", title, place, "the name that the endpoint knows us by", reader);
    let hint = "best as \"${file:/run/secrets/…}\"";
    let secret = file.client_secret.required("client_secret", title, place, hint, reader);
    if let Some(secret) = secret.as_ref().filter(|secret| secret.value.literal) {
        warn_of_literal(&secret.place, "client secret", reader);
    }
    let url = url?.value;
    Some(SaslTokenConfig {
        login: url.clone(),
        tenant_id: String::new(),
        client_id: client_id?.value,
        credential: CredentialConfig::ClientSecret { secret: secret?.value.source, expires: None },
        resource: String::new(),
        token_url: Some(url),
        scope: Some(file.scope.value().unwrap_or_default()),
        tls: TlsConfig::default(),
        proxy: ProxyConfig::Environment,
    })
}

#[cfg(test)]
mod tests {
    use crate::config::{SaslConfig, SaslTokenConfig, SinkKind, load_str};

    fn load(sasl: &str) -> Result<SaslTokenConfig, String> {
        let text = format!(
            "proxy: off\ntenants: [{{name: a, tenant_id: 00000000-0000-4000-8000-00000000000a, client_id: 00000000-0000-4000-8000-00000000000b, auth: {{client_secret: x}}}}]\nsinks: [{{name: bus, type: kafka, brokers: 'ns.servicebus.windows.net:9093', topic: t, tls: {{}}, sasl: {sasl}}}]"
        );
        let config = load_str("c.yaml", &text).map_err(|faults| faults.to_string())?;
        let SinkKind::Kafka(kafka) = &config.sinks[0].kind else { panic!() };
        let Some(SaslConfig::Token(token)) = kafka.sasl.clone() else { panic!() };
        assert!(token.tls.with_platform && token.proxy == config.collect.proxy, "as towards the service");
        Ok(*token)
    }

    const IDS: &str =
        "tenant_id: 00000000-0000-4000-8000-0000000000c1, client_id: 00000000-0000-4000-8000-0000000000c2";

    #[test]
    fn a_token_of_entra_is_for_the_namespace_unless_a_scope_is_given() {
        let of = |more: &str| {
            load(&format!("{{mechanism: OAUTHBEARER, token: {{entra: {{{IDS}, client_secret: x{more}}}}}}}"))
        };
        let token = of("").unwrap();
        assert_eq!((token.resource.as_str(), token.scope), ("https://ns.servicebus.windows.net", None));
        assert_eq!(token.login.as_str(), "https://login.microsoftonline.com/");
        let token = of(", scope: 'https://other.example/.default', cloud: gcc_high").unwrap();
        assert_eq!(
            (token.resource.as_str(), token.login.host_str()),
            ("https://other.example", Some("login.microsoftonline.us"))
        );
        let managed = load("{mechanism: oauthbearer, token: {entra: {managed_identity: {}}}}").unwrap();
        assert_eq!((managed.tenant_id.as_str(), managed.credential.kind()), ("", "managed_identity"));
    }

    #[test]
    fn any_other_endpoint_is_asked_as_it_is() {
        let token = load("{mechanism: OAUTHBEARER, token: {oidc: {token_url: 'https://id.example/token', client_id: c, client_secret: s}}}").unwrap();
        assert_eq!(token.token_url.unwrap().as_str(), "https://id.example/token");
        assert_eq!(token.scope.as_deref(), Some(""));
    }

    #[test]
    fn what_cannot_be_meant_is_said() {
        let oidc = "oidc: {token_url: 'https://id.example/token', client_id: c, client_secret: s}";
        for (sasl, said) in [
            ("{mechanism: OAUTHBEARER}".to_owned(), "`token` is missing"),
            ("{mechanism: OAUTHBEARER, token: {}}".to_owned(), "where a token comes from"),
            (format!("{{mechanism: OAUTHBEARER, token: {{entra: {{{IDS}}}}}}}"), "exactly one proof"),
            (format!("{{mechanism: OAUTHBEARER, token: {{entra: {{{IDS}, client_secret: x}}, {oidc}}}}}"), "both `entra` and `oidc`"),
            (format!("{{mechanism: OAUTHBEARER, username: u, token: {{{oidc}}}}}"), "`username` says nothing"),
            (format!("{{mechanism: SCRAM-SHA-512, username: u, password: p, token: {{{oidc}}}}}"), "goes with OAUTHBEARER"),
            ("{mechanism: OAUTHBEARER, token: {oidc: {token_url: 'http://id.example/token', client_id: c, client_secret: s}}}".to_owned(), "https"),
            ("{mechanism: OAUTHBEARER, token: {entra: {client_secret: x}}}".to_owned(), "`tenant_id` is missing"),
        ] {
            let faults = load(&sasl).unwrap_err();
            assert!(faults.contains(said), "{said}: {faults}");
        }
    }
}
