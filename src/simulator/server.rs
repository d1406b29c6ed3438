//! One request: taken apart, routed to its operation, answered with the service's headers; and what
//! the simulator says of itself under `/_sim`.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use super::chance::hash_text;
use super::faults::{Object, Scenario};
use super::ledger::Ledger;
use super::quota::Quota;
use super::report;
use super::stamp::{self, DAY_MS, MINUTE_MS, SECOND_MS};
use super::subscriptions::Subscriptions;
use super::token::Tokens;
use super::truth::Truth;
use super::world::World;
use super::{api, login};
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::response::Response;

/// What all requests share.
#[derive(Debug)]
pub(super) struct Shared {
    pub world: Arc<World>,
    pub tokens: Tokens,
    pub identities: login::Identities,
    pub subscriptions: Subscriptions,
    pub ledger: Ledger,
    pub quota: Quota,
    /// `http://host:port` of this server.
    pub base: String,
    /// `host:port` of the listener that nobody should call.
    pub trap: String,
    /// Everything but `/_sim` answers 503.
    pub offline: AtomicBool,
}

/// A refusal in the service's form (activity-api 1.10).
#[derive(Clone, Debug)]
pub(super) struct Refusal {
    pub status: u16,
    pub code: String,
    pub message: String,
}

impl Refusal {
    pub(super) fn new(status: u16, code: &str, message: impl Into<String>) -> Refusal {
        Refusal { status, code: code.to_owned(), message: message.into() }
    }

    pub(super) fn response(&self) -> Response {
        let mut out = Vec::new();
        let mut json = super::records::json::Json { out: &mut out };
        json.begin(b'{');
        json.open("error", b'{');
        json.text("code", &self.code);
        json.text("message", &self.message);
        json.close(b'}');
        json.close(b'}');
        out.pop();
        answer(self.status, "application/json; charset=utf-8", out)
    }
}

/// A response with a status, a type and a body.
pub(super) fn answer(status: u16, content_type: &'static str, body: impl Into<Body>) -> Response {
    let mut response = Response::new(body.into());
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// A request, taken apart as far as every operation needs it.
#[derive(Debug)]
pub(super) struct Call {
    pub method: Method,
    /// As sent, still percent-encoded.
    pub path: String,
    /// Decoded pairs in order, names in lower case.
    pub query: Vec<(String, String)>,
    pub headers: HeaderMap,
    pub body: Bytes,
    /// Virtual seconds that the answer takes.
    pub delay_s: AtomicU64,
}

/// Marks a response that is not to be sent: the connection breaks instead.
#[derive(Clone, Copy, Debug)]
pub(super) struct Broken;

/// The response that stands for a broken connection.
pub(super) fn broken() -> Response {
    let mut response = answer(500, "text/plain", "");
    response.extensions_mut().insert(Broken);
    response
}

impl Call {
    pub(super) fn param(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    pub(super) fn accepts_gzip(&self) -> bool {
        let accept = self.headers.get(header::ACCEPT_ENCODING).and_then(|v| v.to_str().ok()).unwrap_or("");
        accept.split(',').any(|part| {
            let mut part = part.split(';').map(str::trim);
            part.next() == Some("gzip") && part.next() != Some("q=0")
        })
    }
}

/// Decodes `%xx`.
pub(super) fn percent_decode(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let bytes = text.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        let hex = (bytes[at] == b'%').then(|| text.get(at + 1..at + 3)).flatten();
        match hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => {
                out.push(byte);
                at += 3;
            }
            None => {
                out.push(bytes[at]);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// Anybody who comes here followed a forged address.
pub(super) async fn trap(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let what = format!("{} {}", request.method(), request.uri());
    if request.headers().contains_key(header::AUTHORIZATION) {
        shared.ledger.violation("token_to_foreign_host", || what);
    } else {
        shared.ledger.violation("request_to_foreign_host", || what);
    }
    answer(200, "application/json; charset=utf-8", "[]")
}

/// The largest request body that is read.
const MAX_REQUEST_BYTES: usize = 1 << 20;

pub(super) async fn handle(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let Ok(body) = axum::body::to_bytes(body, MAX_REQUEST_BYTES).await else {
        return answer(413, "text/plain", "request too large");
    };
    let query = parts.uri.query().unwrap_or("");
    let call = Call {
        method: parts.method,
        path: parts.uri.path().to_owned(),
        query: url::form_urlencoded::parse(query.as_bytes())
            .map(|(key, value)| (key.to_ascii_lowercase(), value.into_owned()))
            .collect(),
        headers: parts.headers,
        body,
        delay_s: AtomicU64::new(0),
    };
    let mut response = if call.path == "/_sim/report" { stock(&shared).await } else { route(&shared, &call) };
    let delay_s = call.delay_s.load(Ordering::Relaxed);
    if delay_s > 0 {
        shared.world.clock.sleep(Duration::from_secs(delay_s)).await;
    }
    let now_ms = shared.world.clock.now_ms() + wrong_by_ms(&shared, &call);
    let headers = response.headers_mut();
    // The headers of the real thing (activity-api 1.4).
    for (name, value) in [
        ("cache-control", "no-cache"),
        ("pragma", "no-cache"),
        ("expires", "-1"),
        ("server", "Microsoft-IIS/10.0"),
        ("x-aspnet-version", "4.0.30319"),
        ("x-powered-by", "ASP.NET"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    if let Ok(date) = HeaderValue::from_str(&stamp::http_date(now_ms)) {
        headers.insert(header::DATE, date);
    }
    response
}

/// Scenario `wrong_date`: by how much the `Date` of this answer is wrong.
fn wrong_by_ms(shared: &Shared, call: &Call) -> i64 {
    let faults = &shared.world.faults;
    if !faults.is_on(Scenario::WrongDate) || !call.path.starts_with("/api/") {
        return 0;
    }
    let key = hash_text(hash_text(1, &call.path), &format!("{:?}", call.query));
    if !faults.strikes(Scenario::WrongDate, Object::Listing(key)) {
        return 0;
    }
    let variant = faults.variant(Scenario::WrongDate, key);
    // Each by another time, so that two of them do not confirm each other.
    let most = if variant.is_multiple_of(5) { 3 * DAY_MS } else { 10 * MINUTE_MS };
    ((variant >> 3) % (2 * most as u64)) as i64 - most
}

fn route(shared: &Arc<Shared>, call: &Call) -> Response {
    let segments: Vec<&str> = call.path.split('/').filter(|s| !s.is_empty()).collect();
    let lower: Vec<String> = segments.iter().map(|s| s.to_ascii_lowercase()).collect();
    let lower: Vec<&str> = lower.iter().map(String::as_str).collect();
    if lower.first() == Some(&"_sim") {
        return own(shared, call, &lower[1..]);
    }
    if shared.offline.load(Ordering::Relaxed) {
        return answer(503, "text/html", "<html><body>Service Unavailable</body></html>");
    }
    match lower.as_slice() {
        [tenant, "oauth2", "v2.0", "token"] => login::token(shared, call, tenant, login::Version::V2),
        [tenant, "oauth2", "token"] => login::token(shared, call, tenant, login::Version::V1),
        ["metadata", "identity", "oauth2", "token"] => login::managed(shared, call, false),
        ["msi", "token"] => login::managed(shared, call, true),
        ["api", "v1.0" | "v1", tenant, "activity", "feed", rest @ ..] => {
            let last = segments.last().copied().unwrap_or("");
            api::operation(shared, call, tenant, rest, last)
        }
        _ => answer(404, "text/html", "<html><body>404 - File or directory not found.</body></html>"),
    }
}

/// `/_sim/report`, off the threads that serve: it may have to look at every record.
async fn stock(shared: &Arc<Shared>) -> Response {
    let shared = Arc::clone(shared);
    let made = tokio::task::spawn_blocking(move || serde_json::to_vec(&report::report(&shared))).await;
    match made {
        Ok(Ok(body)) => answer(200, "application/json", body),
        _ => answer(500, "text/plain", "no report could be made"),
    }
}

/// `/_sim/…`: the simulator speaks for itself.
fn own(shared: &Arc<Shared>, call: &Call, path: &[&str]) -> Response {
    match path {
        ["truth"] => {
            let with_record = call.param("ids").is_none_or(|v| v == "0" || v == "false");
            let lines = futures_util::stream::unfold(Truth::new(Arc::clone(shared)), move |mut truth| async move {
                /// Bytes handed over at once.
                const PIECE: usize = 256 * 1024;
                let mut out = Vec::with_capacity(PIECE + 8192);
                while out.len() < PIECE
                    && let Some(record) = truth.next()
                {
                    record.write_line(with_record, &mut out);
                }
                tokio::task::yield_now().await;
                (!out.is_empty()).then(|| (Ok::<_, Infallible>(Bytes::from(out)), truth))
            });
            answer(200, "application/x-ndjson", Body::from_stream(lines))
        }
        // The handle's setters, for another process.
        [what @ ("enable" | "disable")] if call.method == Method::POST => {
            let scenarios = call.param("scenario").and_then(Scenario::parse).unwrap_or_default();
            let rate = call.param("rate").and_then(|rate| rate.parse().ok());
            for scenario in &scenarios {
                match *what {
                    "enable" => shared.world.faults.set(*scenario, rate),
                    _ => shared.world.faults.clear(*scenario),
                }
            }
            answer(if scenarios.is_empty() { 400 } else { 200 }, "text/plain", format!("{} scenarios", scenarios.len()))
        }
        [what @ ("online" | "offline")] if call.method == Method::POST => {
            shared.offline.store(*what == "offline", Ordering::Relaxed);
            answer(200, "text/plain", (*what).to_owned())
        }
        ["revoke"] if call.method == Method::POST => {
            (0..shared.world.tenants.len()).for_each(|tenant| shared.tokens.revoke(tenant));
            answer(200, "text/plain", "revoked")
        }
        _ => answer(404, "text/plain", "GET report, truth; POST enable, disable, online, offline, revoke"),
    }
}

/// The oldest `contentCreated` that can be listed now.
pub(super) fn window_start_ms(shared: &Shared, now_ms: i64) -> i64 {
    now_ms - 7 * DAY_MS - shared.world.config.protocol.window_tolerance_s * SECOND_MS
}
