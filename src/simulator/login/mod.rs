//! The token endpoint, v1 and v2, and the place where a machine in Azure gets its identity's tokens. Whoever asks is
//! verified for real: secrets by value and end, assertions by signature, audience, times and use (activity-api 1.2).
//! Comes in: a request. Goes out: a token, or a refusal with the number and the words of the identity platform.

mod assertion;
mod federated;
mod identities;
mod managed;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::response::Response;

use super::faults::{Object, Scenario};
use super::server::{Call, Shared, answer};
use super::{chance, stamp};
pub(super) use identities::Identities;
pub use identities::{FederatedCredential, IssuerKey, ManagedIdentity, RegisteredCertificate};
pub(super) use managed::token as managed;

/// Why somebody gets no token.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Denial {
    status: u16,
    error: &'static str,
    code: u32,
    text: String,
}

impl Denial {
    /// A proof that proves nothing.
    fn client(code: u32, text: impl Into<String>) -> Denial {
        Denial { status: 401, error: "invalid_client", code, text: text.into() }
    }

    fn response(&self, shared: &Shared) -> Response {
        refuse(shared, self.status, self.error, self.code, &self.text)
    }
}

/// Which of the two endpoints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Version {
    V1,
    V2,
}

/// An error in the form of the identity platform.
fn refuse(shared: &Shared, status: u16, error: &str, code: u32, text: &str) -> Response {
    let now_ms = shared.world.clock.now_ms();
    let now = stamp::seconds(now_ms).replace('T', " ");
    let id = |which: u64| chance::guid(now_ms as u64 ^ u64::from(code) << 42, which);
    let (trace, correlation) = (id(1), id(2));
    let ids = format!("Trace ID: {trace}\r\nCorrelation ID: {correlation}\r\nTimestamp: {now}Z");
    let body = serde_json::json!({
        "error": error,
        "error_description": format!("AADSTS{code}: {text}\r\n{ids}"),
        "error_codes": [code],
        "timestamp": format!("{now}Z"),
        "trace_id": trace,
        "correlation_id": correlation,
        "error_uri": format!("https://login.example/error?code={code}"),
    });
    answer(status, "application/json; charset=utf-8", body.to_string())
}

pub(super) fn token(shared: &Arc<Shared>, call: &Call, tenant_id: &str, version: Version) -> Response {
    shared.ledger.request("token");
    let world = &shared.world;
    let form: Vec<(String, String)> = url::form_urlencoded::parse(&call.body).into_owned().collect();
    let field = |name: &str| form.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
    let Some(tenant) = world.tenants.iter().position(|t| t.id == tenant_id || t.domain == tenant_id) else {
        return refuse(shared, 400, "invalid_request", 90_002, "Tenant not found.");
    };
    if call.method != axum::http::Method::POST || field("grant_type") != Some("client_credentials") {
        return refuse(shared, 400, "unsupported_grant_type", 70_003, "The grant type is not supported.");
    }
    if let Some(fault) = fault(shared, call, tenant) {
        return fault;
    }
    if field("client_id") != Some(&world.client_id) {
        return refuse(shared, 400, "unauthorized_client", 700_016, "Application was not found in the directory.");
    }
    if let Err(denial) = shared.identities.prove(shared, tenant, &field) {
        return denial.response(shared);
    }
    let audience = match version {
        Version::V2 => field("scope").and_then(|scope| scope.strip_suffix("/.default")),
        Version::V1 => field("resource"),
    };
    let Some(audience) = audience else {
        return refuse(shared, 400, "invalid_scope", 70_011, "The provided value for scope is not valid.");
    };
    let (token, now, lifetime_s) = issue(shared, tenant, &world.client_id, audience);
    let body = match version {
        Version::V2 => format!(
            r#"{{"token_type":"Bearer","expires_in":{lifetime_s},"ext_expires_in":{lifetime_s},"access_token":"{token}"}}"#
        ),
        // Numbers in strings, as v1 has them (activity-api 1.2).
        Version::V1 => format!(
            r#"{{"token_type":"Bearer","expires_in":"{lifetime_s}","ext_expires_in":"{lifetime_s}","expires_on":"{}","not_before":"{now}","resource":"{audience}","access_token":"{token}"}}"#,
            now + lifetime_s
        ),
    };
    answer(200, "application/json; charset=utf-8", body)
}

/// A token of the tenant, when it was made, and how many seconds it lives.
fn issue(shared: &Shared, tenant: usize, client_id: &str, audience: &str) -> (String, i64, i64) {
    let world = &shared.world;
    let (now, lifetime_s) = (world.clock.now(), world.config.token_lifetime_s());
    let id = &world.tenants[tenant].id;
    let may_read_dlp = !world.config.protocol.without_dlp.contains(&tenant);
    let audience = audience.trim_end_matches('/');
    (shared.tokens.issue(tenant, id, client_id, audience, now, lifetime_s, may_read_dlp), now, lifetime_s)
}

/// Scenarios of the token endpoint: one to three failures of each kind in front of most tokens.
fn fault(shared: &Shared, call: &Call, tenant: usize) -> Option<Response> {
    let faults = &shared.world.faults;
    // The next token's serial names the object, so that each one fails a bounded number of times.
    let key = chance::hash(&[tenant as u64, shared.tokens.next_serial(tenant), 0x109]);
    let object = Object::Listing(key);
    if faults.strikes_most(Scenario::SlowToken, object) {
        let delay_s = 5 + faults.variant(Scenario::SlowToken, key) % 60;
        call.delay_s.store(delay_s, Ordering::Relaxed);
    }
    if faults.strikes_most(Scenario::InvalidClient, object) {
        return Some(refuse(shared, 401, "invalid_client", 7_000_215, "Invalid client secret provided."));
    }
    if !faults.strikes_most(Scenario::TokenEndpointError, object) {
        return None;
    }
    Some(match faults.variant(Scenario::TokenEndpointError, key) % 4 {
        0 => {
            refuse(shared, 400, "temporarily_unavailable", 90_033, "A transient error has occurred. Please try again.")
        }
        1 => {
            let mut response = refuse(shared, 429, "throttled", 90_025, "Request timed out within the service.");
            response.headers_mut().insert("retry-after", axum::http::HeaderValue::from_static("1"));
            response
        }
        2 => answer(500, "text/html", "<html><body>Server Error</body></html>"),
        _ => answer(503, "application/json", ""),
    })
}
