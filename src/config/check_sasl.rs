//! `sasl` of a Kafka sink as written → as meant: a name with a password, or where a token comes from. Comes in: the section
//! and the brokers. Goes out: [`SaslConfig`], or faults. Asks nobody.

use super::TokenConfig;
use super::check::warn_of_literal;
use super::check_token;
use super::faults::Reader;
use super::file::{SaslFile, SaslTokenFile};
use super::kafka::{OAUTHBEARER, SaslConfig};
use super::section::{Field, Section};
use super::values::At;

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

fn token(written: At<SaslTokenFile>, brokers: Option<&str>, reader: &mut Reader<'_>) -> Option<TokenConfig> {
    let At { value: SaslTokenFile { entra, oidc, .. }, place } = written;
    match (entra, oidc) {
        (Field::Given(entra), Field::Absent) => {
            let first = brokers?.split(',').next().unwrap_or_default();
            let host = first.rsplit_once(':').map_or(first, |(host, _)| host);
            let scope = |_| format!("https://{host}/.default");
            check_token::entra(entra.value, &entra.place, Some(&scope), reader)
        }
        (Field::Absent, Field::Given(oidc)) => check_token::token_endpoint(oidc.value, &oidc.place, reader),
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

#[cfg(test)]
mod tests {
    use crate::config::{SaslConfig, SinkKind, TokenConfig, load_str};

    fn load(sasl: &str) -> Result<TokenConfig, String> {
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
        assert_eq!(token.scope, "https://ns.servicebus.windows.net/.default");
        assert_eq!(token.login.as_str(), "https://login.microsoftonline.com/");
        let token = of(", scope: 'https://other.example/.default', cloud: gcc_high").unwrap();
        assert_eq!(
            (token.scope.as_str(), token.login.host_str()),
            ("https://other.example/.default", Some("login.microsoftonline.us"))
        );
        let managed = load("{mechanism: oauthbearer, token: {entra: {managed_identity: {}}}}").unwrap();
        assert_eq!((managed.tenant_id.as_str(), managed.credential.kind()), ("", "managed_identity"));
    }

    #[test]
    fn any_other_endpoint_is_asked_as_it_is() {
        let token = load("{mechanism: OAUTHBEARER, token: {oidc: {token_url: 'https://id.example/token', client_id: c, client_secret: s}}}").unwrap();
        assert_eq!(token.endpoint.unwrap().url.as_str(), "https://id.example/token");
        assert_eq!(token.scope, "");
    }

    #[test]
    fn what_cannot_be_meant_is_said() {
        let oidc = "oidc: {token_url: 'https://id.example/token', client_id: c, client_secret: s}";
        for (sasl, said) in [
            ("{mechanism: OAUTHBEARER}".to_owned(), "`token` is missing"),
            ("{mechanism: OAUTHBEARER, token: {}}".to_owned(), "where a token comes from"),
            (format!("{{mechanism: OAUTHBEARER, token: {{entra: {{{IDS}}}}}}}"), "`entra` names no way to sign in"),
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
