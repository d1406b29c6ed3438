//! What only we know of a refused credential: which certificate signed, until when it holds, what the projected token
//! says of itself. Comes in: the refusal and the credential. Goes out: the same error with a longer text. Never a key, a
//! token or a secret, and no advice: what a number means and what to do is in the catalogue ([`crate::advice`]) alone,
//! and stands in the refusal already.

use super::super::connections::TransportError;
use super::super::error::{ApiError, printable};
use super::credential::Credential;
use super::expiry::day;
use super::federated;
use super::leaf::Leaf;
use crate::advice::hint;
use crate::clock::Seconds;
use crate::config::CredentialConfig;

/// The same refusal, with what we know of the credential.
pub(super) fn explained(error: ApiError, credential: &Credential, leaf: Option<&Leaf>, now: Seconds) -> ApiError {
    let ApiError::Unauthorized { text } = error else { return error };
    let more = match &credential.kind {
        CredentialConfig::ClientSecret { expires, .. } => match expires.filter(|ends| *ends <= now) {
            Some(ends) => format!("; `client_secret_expires` says that it ended on {}", day(ends)),
            None => String::new(),
        },
        CredentialConfig::Certificate(config) => {
            let about = leaf.map(|leaf| about(leaf, now)).unwrap_or_default();
            format!("; signed with the certificate in `{}`{about}", config.file.display())
        }
        CredentialConfig::WorkloadIdentity(config) => {
            let said = federated::read(&config.token_file).ok().and_then(|token| federated::said(&token));
            let said = said.map(|said| about_token(&said, now)).unwrap_or_default();
            format!("; the token in `{}`{said}", config.token_file.display())
        }
        CredentialConfig::ManagedIdentity(config) => match &config.client_id {
            Some(id) => format!("; asked for the identity `{id}`"),
            None => "; asked for the identity that the system assigned".to_owned(),
        },
    };
    ApiError::Unauthorized { text: text + &more }
}

fn about(leaf: &Leaf, now: Seconds) -> String {
    let thumbprint = leaf.thumbprint();
    let (from, until) = (day(leaf.not_before), day(leaf.not_after));
    match now {
        now if now > leaf.not_after => {
            format!(" (thumbprint {thumbprint}), which expired on {until}")
        }
        now if now < leaf.not_before => format!(" (thumbprint {thumbprint}), which is not valid before {from}"),
        _ => format!(" (thumbprint {thumbprint}, valid until {until})"),
    }
}

fn about_token(said: &federated::Said, now: Seconds) -> String {
    let audience = match &said.aud {
        serde_json::Value::String(one) => one.clone(),
        several => several.to_string(),
    };
    let ended = match said.exp {
        Some(exp) if exp <= now => format!(" and ended {} seconds ago", now - exp),
        _ => String::new(),
    };
    format!(
        " says issuer `{}`, subject `{}`, audience `{}`{ended}",
        printable(&said.iss),
        printable(&said.sub),
        printable(&audience)
    )
}

/// No answer came.
pub(super) fn unreachable(kind: &CredentialConfig, error: &TransportError) -> String {
    let is_managed = matches!(kind, CredentialConfig::ManagedIdentity(_));
    let TransportError::Network(failure) = error else { return error.to_string() };
    if !is_managed {
        return failure.to_string();
    }
    // What is to be done about other hosts helps nobody here.
    let text = format!("{METADATA}: {}", failure.without_advice());
    let hint = hint(&text);
    text + &hint
}

/// By which the catalogue knows it.
const METADATA: &str = "this machine's metadata service does not answer";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::advice;
    use crate::config::{CertificateConfig, ManagedIdentityConfig, WorkloadIdentityConfig};
    use crate::secret::SecretSource;

    /// Of every kind of credential, whatever number the endpoint named: its words, one advice, the catalogue's, and what
    /// only we know.
    #[test]
    fn a_refusal_has_one_advice_and_it_is_the_catalogues() {
        let dir = tempfile::tempdir().unwrap();
        let token_file = dir.path().join("token");
        std::fs::write(&token_file, "e30.eyJpc3MiOiJpc3N1ZXIiLCJzdWIiOiJ1cyJ9.c2ln").unwrap();
        let leaf = Leaf { der: vec![], public_key: vec![], not_before: 0, not_after: 86_400 };
        let kinds = [
            (
                CredentialConfig::ClientSecret { secret: SecretSource::Value("x".into()), expires: Some(86_400) },
                "1970-01-02",
            ),
            (
                CredentialConfig::Certificate(CertificateConfig {
                    file: "/run/app.pem".into(),
                    key_file: None,
                    password: None,
                }),
                "`/run/app.pem` (thumbprint",
            ),
            (
                CredentialConfig::WorkloadIdentity(WorkloadIdentityConfig { token_file }),
                "issuer `issuer`, subject `us`",
            ),
            (
                CredentialConfig::ManagedIdentity(ManagedIdentityConfig {
                    client_id: Some("id-7".into()),
                    endpoint: "http://169.254.169.254/".parse().unwrap(),
                    header: None,
                }),
                "`id-7`",
            ),
        ];
        for (kind, known) in kinds {
            let credential = Credential {
                login: "https://login.example".parse().unwrap(),
                tenant_id: "t".into(),
                client_id: "c".into(),
                kind,
                resource: "https://manage.office.com".into(),
                endpoint: None,
                scope: None,
            };
            for entry in advice::all().filter(|entry| entry.code.starts_with("AADSTS")) {
                let body = format!(
                    r#"{{"error":"invalid_client","error_description":"{}: its words.","correlation_id":"9bb2"}}"#,
                    entry.code
                );
                let error =
                    super::super::answer::read_denial(super::super::answer::Whom::Entra, 401, body.as_bytes(), "", &[]);
                let said = explained(error, &credential, Some(&leaf), 2 * 86_400).to_string();
                for part in [entry.code, ": its words.", "correlation id 9bb2", entry.action, known] {
                    assert!(said.contains(part), "{part}: {said}");
                }
                let is_other = |other: &&advice::Advice| !entry.action.contains(other.action);
                let others = advice::all().filter(is_other).filter(|other| said.contains(other.action));
                assert_eq!((said.matches("what to do").count(), others.count()), (1, 0), "{said}");
                assert!(!said.contains('?'), "advice as a question: {said}");
            }
        }
    }
}
