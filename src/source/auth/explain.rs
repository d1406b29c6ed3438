//! What to do about a refusal, with what only we know: which certificate signed, until when it holds, what the
//! projected token says of itself, whose clock is wrong. Comes in: the refusal and the credential. Goes out: the same
//! error with a longer text. Never a key, a token or a secret. Numbers are hints (operations 6): the endpoint's own
//! words stand before ours.

use super::super::connections::TransportError;
use super::super::error::{ApiError, printable};
use super::credential::Credential;
use super::expiry::day;
use super::federated;
use super::leaf::Leaf;
use crate::clock::Seconds;
use crate::config::CredentialConfig;

/// What each refusal of an assertion means for whom made it. Texts and numbers: the identity platform's list of
/// error codes, and what its users report of it.
const OF_CERTIFICATE: [(&str, &str); 5] = [
    (
        "AADSTS700027",
        "upload this certificate to the app registration, or put the one that is registered into the file",
    ),
    ("AADSTS700024", "our clock and the service's differ: set this machine's clock"),
    (
        "AADSTS700023",
        "the assertion is made for another endpoint: give `cloud` or `endpoints.login` the host that signs this tenant in",
    ),
    ("AADSTS700021", "`client_id` is not that of the assertion"),
    ("AADSTS50027", "the service cannot read the assertion"),
];
const OF_FEDERATED: [(&str, &str); 8] = [
    ("AADSTS700211", "no federated credential of the application has this issuer"),
    (
        "AADSTS700212",
        "the audience is not that of the federated credential, which is `api://AzureADTokenExchange` unless changed",
    ),
    ("AADSTS7002138", "the subject differs in upper and lower case from that of the federated credential"),
    (
        "AADSTS700213",
        "no federated credential of the application has this subject: is it this namespace and ServiceAccount?",
    ),
    ("AADSTS70021", "no federated credential of the application has this issuer, subject and audience"),
    ("AADSTS700024", "the projected token is past its time: the kubelet renews it, a copy of it is not renewed"),
    (
        "AADSTS700027",
        "the issuer's keys did not sign this token: is the cluster's issuer URL still that of the federated credential?",
    ),
    ("AADSTS50027", "what is in the file is not a token that the service can read"),
];

/// The same refusal, with what we know of the credential.
pub(super) fn explained(error: ApiError, credential: &Credential, leaf: Option<&Leaf>, now: Seconds) -> ApiError {
    let ApiError::Unauthorized { text } = error else { return error };
    let more = match &credential.kind {
        CredentialConfig::ClientSecret { expires, .. } => match expires.filter(|ends| *ends <= now) {
            Some(ends) => format!("; `client_secret_expires` says that it ended on {}", day(ends)),
            None => String::new(),
        },
        CredentialConfig::Certificate(config) => {
            let way_out = way_out(&OF_CERTIFICATE, &text);
            let about = leaf.map(|leaf| about(leaf, now)).unwrap_or_default();
            format!("{way_out}; signed with the certificate in `{}`{about}", config.file.display())
        }
        CredentialConfig::WorkloadIdentity(config) => {
            let said = federated::read(&config.token_file).ok().and_then(|token| federated::said(&token));
            let said = said.map(|said| about_token(&said, now)).unwrap_or_default();
            format!("{}; the token in `{}`{said}", way_out(&OF_FEDERATED, &text), config.token_file.display())
        }
        CredentialConfig::ManagedIdentity(config) => match &config.client_id {
            Some(id) => format!("; is the identity `{id}` assigned to this machine?"),
            None => "; has this machine an identity assigned by the system? name another one in `managed_identity.client_id`".to_owned(),
        },
    };
    ApiError::Unauthorized { text: text + &more }
}

fn way_out(table: &[(&str, &str)], text: &str) -> String {
    // The longer number first: one may begin with the other.
    let found = table.iter().filter(|(code, _)| text.contains(code)).max_by_key(|(code, _)| code.len());
    found.map_or_else(String::new, |(_, advice)| format!("; {advice}"))
}

fn about(leaf: &Leaf, now: Seconds) -> String {
    let thumbprint = leaf.thumbprint();
    let (from, until) = (day(leaf.not_before), day(leaf.not_after));
    match now {
        now if now > leaf.not_after => {
            format!(" (thumbprint {thumbprint}), which expired on {until}: make a new one and upload it")
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
    match kind {
        CredentialConfig::ManagedIdentity(config) => {
            let host = config.endpoint.host_str().unwrap_or("");
            format!(
                "nobody answers at `{host}` ({error}); is this a machine in Azure, and may the pod reach its metadata service?"
            )
        }
        _ => error.to_string(),
    }
}
