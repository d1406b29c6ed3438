//! What the token endpoint answers: a token and how long it lives, or a refusal by what to do next. Comes in: status
//! and body. Goes out: a token, or an [`ApiError`] fit for a log: every secret of the request is blotted out of what
//! is repeated, whatever way it was spelled.

use std::fmt;

use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use url::Url;

use super::super::error::{ApiError, printable};
use crate::advice;
use crate::clock::Seconds;
use crate::secret::scrub;

/// No token lives longer than a day (activity-api 1.2: about an hour; a managed identity's, a day); an answer that
/// says more is not believed.
const LONGEST_LIFETIME: Seconds = 24 * 3600;

/// What a token lives that does not say it: RFC 6749 (5.1) lets an endpoint leave it to its documentation.
const UNSAID_LIFETIME: Seconds = 300;
/// Characters that are shown of an answer that is no error of OAuth2.
const SHOWN: usize = 200;

/// Whom a refusal is of.
#[derive(Clone, Copy, Debug)]
pub(super) enum Whom<'a> {
    Entra,
    ManagedIdentity,
    /// Any other endpoint: it may be no token endpoint at all.
    Other(&'a Url),
}

impl fmt::Display for Whom<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Whom::Entra => f.write_str("token endpoint"),
            Whom::ManagedIdentity => f.write_str("managed identity"),
            Whom::Other(url) => write!(f, "token endpoint `{}`", url.origin().ascii_serialization()),
        }
    }
}

#[derive(Deserialize)]
struct Answer {
    access_token: String,
    token_type: Option<String>,
    /// A number in v2, a string in v1 (activity-api 1.2) and of a managed identity.
    #[serde(default)]
    expires_in: serde_json::Value,
    /// Seconds since 1970: all that App Service says.
    #[serde(default)]
    expires_on: serde_json::Value,
}

#[derive(Deserialize)]
struct Denial {
    error: Option<String>,
    #[serde(alias = "message")]
    error_description: Option<String>,
    trace_id: Option<String>,
    #[serde(alias = "correlationId")]
    correlation_id: Option<String>,
}

/// `said` without the secrets that were sent, nor anything that looks like a signed token; fit for a log.
fn clean(said: &str, secrets: &[SecretString]) -> String {
    let said = said.as_bytes().to_vec();
    let cleaned = secrets.iter().fold(said, |said, secret| scrub_sent(&said, secret.expose_secret()));
    // Only then is it cut: half of a secret would not be known again.
    printable(&String::from_utf8_lossy(&without_tokens(&cleaned)))
}

/// `said` without what begins as every JWT does and goes on like one: a piece of an assertion too.
fn without_tokens(said: &[u8]) -> Vec<u8> {
    const SHORTEST: usize = 24;
    let mut clean = Vec::with_capacity(said.len());
    let mut rest = said;
    while let Some(at) = memchr::memmem::find(rest, b"eyJ") {
        let is_of_token = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'=');
        let length = rest[at..].iter().take_while(|byte| is_of_token(byte)).count();
        clean.extend_from_slice(&rest[..at]);
        if length >= SHORTEST {
            clean.extend_from_slice(b"[redacted]");
        } else {
            clean.extend_from_slice(&rest[at..at + length]);
        }
        rest = &rest[at + length..];
    }
    clean.extend_from_slice(rest);
    clean
}

/// `said` without the secret, neither as it is nor as the form spelled it.
pub(super) fn scrub_sent(said: &[u8], secret: &str) -> Vec<u8> {
    let clean = scrub(said, secret.as_bytes());
    let sent: String = url::form_urlencoded::byte_serialize(secret.as_bytes()).collect();
    let clean = scrub(&clean, sent.as_bytes());
    // A gateway may write the hexadecimal digits small.
    let mut small = sent.into_bytes();
    let escapes: Vec<usize> = memchr::memchr_iter(b'%', &small).collect();
    for at in escapes {
        small[at + 1..at + 3].make_ascii_lowercase();
    }
    scrub(&clean, &small).into_owned()
}

/// The token, and the seconds that it lives from `now`. `None`: no bearer token that a header can carry (RFC 6749, A.12).
pub(super) fn read_answer(body: &[u8], now: Seconds) -> Option<(SecretString, Seconds)> {
    let answer: Answer = serde_json::from_slice(body).ok()?;
    let is_bearer = answer.token_type.as_deref().is_none_or(|kind| kind.eq_ignore_ascii_case("bearer"));
    let is_sendable =
        !answer.access_token.is_empty() && answer.access_token.bytes().all(|b| (b' '..=b'~').contains(&b));
    if !is_bearer || !is_sendable {
        return None;
    }
    let number = |value: &serde_json::Value| match value {
        serde_json::Value::Number(seconds) => seconds.as_i64(),
        serde_json::Value::String(seconds) => seconds.parse().ok(),
        _ => None,
    };
    let lifetime = number(&answer.expires_in).or_else(|| Some(number(&answer.expires_on)? - now));
    let lifetime = lifetime.unwrap_or(UNSAID_LIFETIME);
    Some((SecretString::from(answer.access_token), lifetime.clamp(1, LONGEST_LIFETIME)))
}

/// 429 and 5xx are the endpoint's trouble; anything else is about our credential. Clients are told to
/// go by `error`, not by the AADSTS number in the text, which only chooses the advice (operations 6).
/// Everything that the endpoint said stays, ids included (`ids`: those of the head): without them Microsoft cannot
/// find the request. A machine's metadata service says 404 and 410 while it is being updated (Microsoft's page on managed
/// identities on a virtual machine, "Retry guidance").
/// What is shown is cleaned of `secrets` as it reads, whatever escapes it was written with. Where another endpoint than
/// Microsoft's was configured, the status decides: it may be none, and somebody must mend that.
pub(super) fn read_denial(whom: Whom<'_>, status: u16, body: &[u8], ids: &str, secrets: &[SecretString]) -> ApiError {
    let denial = serde_json::from_slice::<Denial>(body).ok();
    let clean = |said: &str| clean(said, secrets);
    let ids = clean(ids);
    let is_other = matches!(whom, Whom::Other(_));
    let text = match &denial {
        Some(denial) => {
            let mut said = clean(denial.error_description.as_deref().unwrap_or_default().trim());
            for (name, id) in [("trace id", &denial.trace_id), ("correlation id", &denial.correlation_id)] {
                // In what is shown: a long description loses its end, where the ids are.
                if let Some(id) = id.as_deref().filter(|id| !id.is_empty() && !said.contains(id)) {
                    said = format!("{said}; {name} {}", clean(id));
                }
            }
            let error = clean(denial.error.as_deref().unwrap_or_default());
            format!("{whom}: status {status}, `{error}`: {said}{}{ids}", advice::hint_of_answer(&said))
        }
        None if is_other && !body.trim_ascii().is_empty() => {
            let said: String = clean(&String::from_utf8_lossy(body)).trim().chars().take(SHOWN).collect();
            format!("{whom}: status {status} `{said}`{ids}")
        }
        None => format!("{whom}: status {status} without a readable error{ids}"),
    };
    let refused = |text: String| match (is_other, status) {
        (true, 300..=399) => {
            let hint = "redirects are not followed: put the final address into `token_url`";
            ApiError::Unauthorized { text: format!("{text}; {hint}") }
        }
        (true, _) => {
            let hint = "check the client's id, secret and scope; a changed secret file is read again by itself";
            ApiError::Unauthorized { text: format!("{text}; {hint}") }
        }
        _ => ApiError::Unauthorized { text },
    };
    let temporary = denial.as_ref().is_some_and(|d| d.error.as_deref() == Some("temporarily_unavailable"));
    match status {
        404 if matches!(whom, Whom::ManagedIdentity) => ApiError::Transient { text },
        429 | 500.. | 408 | 410 => ApiError::Transient { text },
        _ if temporary || denial.is_none() && !is_other => ApiError::Transient { text },
        _ => refused(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lifetime_is_a_number_or_a_string() {
        for body in [r#"{"access_token":"t","expires_in":3599}"#, r#"{"access_token":"t","expires_in":"3599"}"#] {
            assert_eq!(read_answer(body.as_bytes(), 0).unwrap().1, 3599);
        }
        let endless = format!(r#"{{"access_token":"t","expires_in":{}}}"#, i64::MAX);
        assert_eq!(read_answer(endless.as_bytes(), 0).unwrap().1, LONGEST_LIFETIME);
        assert!(read_answer(b"<html>", 0).is_none());
    }

    #[test]
    fn the_secret_is_blotted_out_as_it_is_and_as_the_form_spelled_it() {
        let said = b"raw a~b+c/d, sent a%7Eb%2Bc%2Fd, lower a%7eb%2bc%2fd";
        assert_eq!(scrub_sent(said, "a~b+c/d"), b"raw [redacted], sent [redacted], lower [redacted]");
        assert_eq!(scrub_sent(b"plain", "plain"), b"[redacted]");
    }

    #[test]
    fn a_secret_is_blotted_out_whatever_escapes_it_is_repeated_with() {
        let secrets = ["S3~ca/na+ry/x".into()];
        let body = r#"{"error":"S3~ca\/na\u002Bry\/x","error_description":"AADSTS7000215: 'S3~ca\/na\u002bry\/x', S3~ca/na+ry/x","trace_id":"\u00533~ca/na+ry/x"}"#;
        let said = read_denial(Whom::Entra, 401, body.as_bytes(), " (request-id S3~ca/na+ry/x)", &secrets);
        let said = said.to_string();
        assert!(!said.contains("ry/x") && said.matches("[redacted]").count() == 5, "{said}");
        // One that the cut would halve.
        let body = format!(r#"{{"error":"e","error_description":"{}S3~ca\/na+ry\/x"}}"#, "x".repeat(690));
        let said = read_denial(Whom::Entra, 401, body.as_bytes(), "", &secrets).to_string();
        assert!(!said.contains("S3~"), "{said}");
    }

    #[test]
    fn a_refusal_names_the_way_out_and_an_outage_is_no_refusal() {
        let body = br#"{"error":"invalid_client","error_description":"AADSTS7000215: Invalid client secret provided.\r\nTrace"}"#;
        let ApiError::Unauthorized { text } = read_denial(Whom::Entra, 401, body, "", &[]) else { panic!() };
        assert!(text.contains("value was pasted and not its id"), "{text}");
        assert!(matches!(read_denial(Whom::Entra, 503, b"<html>", "", &[]), ApiError::Transient { .. }));
        assert!(matches!(read_denial(Whom::Entra, 400, b"<html>", "", &[]), ApiError::Transient { .. }));
        let body = br#"{"error":"not_found","error_description":"being updated"}"#;
        assert!(matches!(read_denial(Whom::ManagedIdentity, 404, body, "", &[]), ApiError::Transient { .. }));
        assert!(matches!(read_denial(Whom::Entra, 404, body, "", &[]), ApiError::Unauthorized { .. }));
    }

    #[test]
    fn all_that_the_endpoint_said_is_shown_with_the_ids_that_support_asks_for() {
        let said = |description: &str| {
            let body = format!(
                r#"{{"error":"unauthorized_client","error_description":"{description}","trace_id":"7aa1-trace","correlation_id":"9bb2-correlation"}}"#
            );
            read_denial(Whom::Entra, 400, body.as_bytes(), " (x-ms-request-id 5cc3)", &[]).to_string()
        };
        let lines = said(
            "AADSTS700016: Not found.\\r\\nTrace ID: 7aa1-trace\\r\\nCorrelation ID: 9bb2-correlation\\r\\nTimestamp: 2026-11-22 03:00:00Z",
        );
        let fields = said("AADSTS99999991: new");
        for text in [&lines, &fields] {
            for part in ["`unauthorized_client`", "7aa1-trace", "9bb2-correlation", "x-ms-request-id 5cc3"] {
                assert!(text.contains(part), "{part}: {text}");
            }
            assert!(!text.contains(['\r', '\n']), "{text:?}");
        }
        assert_eq!(lines.matches("7aa1-trace").count(), 1, "{lines}");
        let body = br#"{"error":"invalid_client","error_description":"AADSTS7000215: no","trace_id":null,"correlationId":"8cc3"}"#;
        let said_less = read_denial(Whom::Entra, 401, body, "", &[]);
        assert!(
            matches!(&said_less, ApiError::Unauthorized { text } if text.contains("correlation id 8cc3")),
            "{said_less}"
        );
        let long = said(&format!("AADSTS700027: {}Correlation ID: 9bb2-correlation", "long ".repeat(200)));
        assert!(long.contains("9bb2-correlation") && long.contains("7aa1-trace"), "{long}");
        assert!(lines.contains("Timestamp: 2026") && lines.contains("explain AADSTS700016"), "{lines}");
        assert!(fields.contains("error?code=99999991"), "{fields}");
    }

    #[test]
    fn app_service_says_only_when_a_token_ends() {
        let body = br#"{"access_token":"t","expires_on":"1600000600","resource":"r"}"#;
        assert_eq!(read_answer(body, 1_600_000_000).unwrap().1, 600);
        let unsaid = read_answer(br#"{"access_token":"t"}"#, 0).unwrap();
        assert_eq!(unsaid.1, UNSAID_LIFETIME);
    }

    #[test]
    fn what_no_header_can_carry_and_what_is_no_bearer_token_is_none() {
        for odd in
            [r#"{"access_token":"a\nb"}"#, r#"{"access_token":""}"#, r#"{"access_token":"t","token_type":"mac"}"#]
        {
            assert!(read_answer(odd.as_bytes(), 0).is_none(), "{odd}");
        }
    }

    /// It may be a page, or another address.
    #[test]
    fn an_endpoint_that_is_not_microsofts_is_judged_by_its_status() {
        let url = "https://id.example/token".parse().unwrap();
        let said = |status, body: &str| read_denial(Whom::Other(&url), status, body.as_bytes(), "", &["canary".into()]);
        for (status, hint) in [(302, "redirects are not followed"), (404, "check the client's id"), (401, "check the")]
        {
            let ApiError::Unauthorized { text } = said(status, "<p>canary</p>") else { panic!("{status}") };
            assert!(text.contains(hint) && text.contains("`https://id.example`"), "{text}");
            assert!(text.contains("`<p>[redacted]</p>`"), "{text}");
        }
        assert!(matches!(said(503, "busy"), ApiError::Transient { .. }));
        let temporary = r#"{"error":"temporarily_unavailable"}"#;
        assert!(matches!(said(400, temporary), ApiError::Transient { .. }));
    }

    #[test]
    fn what_looks_like_a_signed_token_is_not_repeated_not_even_a_piece_of_it() {
        let said =
            "assertion 'eyJhbGciOiJQUzI1NiJ9.eyJhdWQiOiJ4In0.c2ln' and eyJhbGciOiJQUzI1NiIsIng1d, not eyJ or eyJhbGci.";
        assert_eq!(clean(said, &[]), "assertion '[redacted]' and [redacted], not eyJ or eyJhbGci.");
    }
}
