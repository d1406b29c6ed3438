//! Tokens: one per tenant, fetched once however many ask at the same time, renewed at three
//! quarters of its life, dropped when the service says it is not good. The secret is read again at
//! each renewal, so rotation needs no restart. A token lives in memory only and is never printed.

use std::sync::Arc;
use std::time::Duration;

use reqwest::header::{CONTENT_TYPE, HeaderValue};
use reqwest::{Method, Request};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use tokio::sync::Mutex;
use url::Url;

use super::body::Body;
use super::connections::Connections;
use super::error::{ApiError, printable, request_ids};
use super::steady::Steady;
use crate::advice;
use crate::clock::{Clock, Seconds};
use crate::metrics::Metrics;
use crate::secret::{SecretSource, scrub};

/// How long a refusal of the token endpoint is believed before it is asked again: long enough not to
/// hammer it for every feed, short enough for a consent to be noticed.
const REFUSAL_BELIEVED: Seconds = 60;
/// The same after an error that is not about the credential.
const FAILURE_BELIEVED: Seconds = 5;
/// Longest answer of the token endpoint, bytes; real ones are about 2 KiB.
const MAX_ANSWER: usize = 256 * 1024;
/// No token lives longer than a day (activity-api 1.2: about an hour); an answer that says more is not believed.
const LONGEST_LIFETIME: Seconds = 24 * 3600;
/// Time for one token request.
const TIMEOUT: Duration = Duration::from_secs(30);

/// What a token request needs.
pub struct Credential {
    pub login: Url,
    pub tenant_id: String,
    pub client_id: String,
    pub client_secret: SecretSource,
    /// `{api root}/.default` (activity-api 1.2).
    pub scope: String,
}

/// A token and which one it is, so that an old one's refusal does not drop its successor.
#[derive(Clone)]
pub struct Token {
    pub secret: SecretString,
    serial: u64,
}

/// The token of one tenant.
pub struct TokenSource {
    connections: Connections,
    clock: Clock,
    steady: Steady,
    credential: Credential,
    tenant: String,
    metrics: Arc<Metrics>,
    held: Mutex<Held>,
}

#[derive(Default)]
struct Held {
    token: Option<Kept>,
    serial: u64,
    refusal: Option<(ApiError, Seconds)>,
}

/// A token and its times.
struct Kept {
    token: Token,
    made_at: Seconds,
    renew_at: Seconds,
}

#[derive(Deserialize)]
struct Answer {
    access_token: String,
    /// A number in v2, a string in v1 (activity-api 1.2).
    expires_in: serde_json::Value,
}

#[derive(Deserialize)]
struct Denial {
    #[serde(default)]
    error: String,
    #[serde(default)]
    error_description: String,
    #[serde(default)]
    trace_id: String,
    #[serde(default)]
    correlation_id: String,
}

impl TokenSource {
    pub fn new(
        connections: Connections,
        clock: Clock,
        credential: Credential,
        tenant: &str,
        metrics: Arc<Metrics>,
    ) -> TokenSource {
        let steady = Steady::of(&clock);
        TokenSource {
            connections,
            clock,
            steady,
            credential,
            tenant: tenant.to_owned(),
            metrics,
            held: Mutex::default(),
        }
    }

    /// A token with life left; waits for the one request in the air if there is one.
    pub async fn get(&self) -> Result<Token, ApiError> {
        let mut held = self.held.lock().await;
        let now = self.steady.now();
        if let Some(kept) = &held.token
            && now < kept.renew_at
        {
            return Ok(kept.token.clone());
        }
        if let Some((error, until)) = &held.refusal
            && now < *until
        {
            return Err(error.clone());
        }
        match self.request().await {
            Ok((secret, lifetime)) => {
                held.serial += 1;
                let token = Token { secret, serial: held.serial };
                held.token = Some(Kept { token: token.clone(), made_at: now, renew_at: now + lifetime * 3 / 4 });
                held.refusal = None;
                self.count("ok");
                self.metrics.token_expiry.with_label_values(&[&self.tenant]).set(self.clock.now() + lifetime);
                Ok(token)
            }
            Err(error) => {
                let refused = matches!(error, ApiError::Unauthorized { .. });
                self.count(if refused { "refused" } else { "failed" });
                let believed = if refused { REFUSAL_BELIEVED } else { FAILURE_BELIEVED };
                held.refusal = Some((error.clone(), now + believed));
                Err(error)
            }
        }
    }

    /// The service did not take `token`: the next call gets a fresh one.
    pub async fn invalidate(&self, token: &Token) {
        let mut held = self.held.lock().await;
        if held.token.as_ref().is_some_and(|kept| kept.token.serial == token.serial) {
            held.token = None;
        }
    }

    /// The next call gets a token that is not older than `age` seconds.
    pub async fn renew_if_older(&self, age: Seconds) {
        let mut held = self.held.lock().await;
        if held.token.as_ref().is_some_and(|kept| self.steady.now() - kept.made_at > age) {
            held.token = None;
        }
    }

    fn count(&self, result: &str) {
        self.metrics.token_refreshes.with_label_values(&[self.tenant.as_str(), result]).inc();
    }

    async fn request(&self) -> Result<(SecretString, Seconds), ApiError> {
        let credential = &self.credential;
        let secret = credential.client_secret.read().map_err(|e| ApiError::Unauthorized { text: e.to_string() })?;
        let mut url = credential.login.clone();
        url.set_path(&format!("{}/{}/oauth2/v2.0/token", url.path().trim_end_matches('/'), credential.tenant_id));
        let form = [
            ("grant_type", "client_credentials"),
            ("client_id", &credential.client_id),
            ("client_secret", secret.expose_secret()),
            ("scope", &credential.scope),
        ];
        let transient = |text: String| ApiError::Transient { text: format!("token endpoint: {text}") };
        let mut request = Request::new(Method::POST, url);
        let form = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(form).finish();
        *request.body_mut() = Some(form.into());
        *request.timeout_mut() = Some(TIMEOUT);
        request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
        let turn = self.connections.turn().await;
        let response = self.connections.send(request).await.map_err(|e| transient(e.to_string()))?;
        drop(turn);
        let status = response.status();
        let ids = request_ids(response.headers());
        let body = Body::new(response, TIMEOUT).collect(MAX_ANSWER).await.map_err(|e| transient(e.to_string()))?;
        if status.is_success() {
            return read_answer(&body).ok_or_else(|| transient("an answer without a token".into()));
        }
        Err(read_denial(status.as_u16(), &scrub_sent(&body, secret.expose_secret()), &ids))
    }
}

/// `said` without the secret, neither as it is nor as the form spelled it.
fn scrub_sent(said: &[u8], secret: &str) -> Vec<u8> {
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

fn read_answer(body: &[u8]) -> Option<(SecretString, Seconds)> {
    let answer: Answer = serde_json::from_slice(body).ok()?;
    let lifetime = match &answer.expires_in {
        serde_json::Value::Number(seconds) => seconds.as_i64()?,
        serde_json::Value::String(seconds) => seconds.parse().ok()?,
        _ => return None,
    };
    Some((SecretString::from(answer.access_token), lifetime.clamp(1, LONGEST_LIFETIME)))
}

/// 429 and 5xx are the endpoint's trouble; anything else is about our credential. Clients are told to
/// go by `error`, not by the AADSTS number in the text, which only chooses the advice (operations 6).
/// Everything that the endpoint said stays, ids included: without them Microsoft cannot find the request.
fn read_denial(status: u16, body: &[u8], ids: &str) -> ApiError {
    let denial = serde_json::from_slice::<Denial>(body).ok();
    let text = match &denial {
        Some(denial) => {
            let mut said = printable(denial.error_description.trim());
            for (name, id) in [("trace id", &denial.trace_id), ("correlation id", &denial.correlation_id)] {
                if !id.is_empty() && !denial.error_description.contains(id.as_str()) {
                    said = format!("{said}; {name} {}", printable(id));
                }
            }
            let error = printable(&denial.error);
            format!("token endpoint: status {status}, `{error}`: {said}{}{ids}", advice::hint(&said))
        }
        None => format!("token endpoint: status {status} without a readable error{ids}"),
    };
    let temporary = denial.as_ref().is_some_and(|d| d.error == "temporarily_unavailable");
    match status {
        429 | 500.. | 408 => ApiError::Transient { text },
        _ if temporary || denial.is_none() => ApiError::Transient { text },
        _ => ApiError::Unauthorized { text },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lifetime_is_a_number_or_a_string() {
        for body in [r#"{"access_token":"t","expires_in":3599}"#, r#"{"access_token":"t","expires_in":"3599"}"#] {
            assert_eq!(read_answer(body.as_bytes()).unwrap().1, 3599);
        }
        let endless = format!(r#"{{"access_token":"t","expires_in":{}}}"#, i64::MAX);
        assert_eq!(read_answer(endless.as_bytes()).unwrap().1, LONGEST_LIFETIME);
        assert!(read_answer(b"<html>").is_none());
    }

    #[test]
    fn the_secret_is_blotted_out_as_it_is_and_as_the_form_spelled_it() {
        let said = b"raw a~b+c/d, sent a%7Eb%2Bc%2Fd, lower a%7eb%2bc%2fd";
        assert_eq!(scrub_sent(said, "a~b+c/d"), b"raw [redacted], sent [redacted], lower [redacted]");
        assert_eq!(scrub_sent(b"plain", "plain"), b"[redacted]");
    }

    #[test]
    fn a_refusal_names_the_way_out_and_an_outage_is_no_refusal() {
        let body = br#"{"error":"invalid_client","error_description":"AADSTS7000215: Invalid client secret provided.\r\nTrace"}"#;
        let ApiError::Unauthorized { text } = read_denial(401, body, "") else { panic!() };
        assert!(text.contains("value was pasted and not its id"), "{text}");
        assert!(matches!(read_denial(503, b"<html>", ""), ApiError::Transient { .. }));
        assert!(matches!(read_denial(400, b"<html>", ""), ApiError::Transient { .. }));
    }

    #[test]
    fn all_that_the_endpoint_said_is_shown_with_the_ids_that_support_asks_for() {
        let said = |description: &str| {
            let body = format!(
                r#"{{"error":"unauthorized_client","error_description":"{description}","trace_id":"7aa1-trace","correlation_id":"9bb2-correlation"}}"#
            );
            read_denial(400, body.as_bytes(), " (x-ms-request-id 5cc3)").to_string()
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
        assert!(lines.contains("Timestamp: 2026") && lines.contains("explain AADSTS700016"), "{lines}");
        assert!(fields.contains("error?code=99999991"), "{fields}");
    }
}
