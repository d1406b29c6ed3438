//! An HTTP receiver for tests, with a token endpoint beside it: takes requests on a loopback port, checks what each
//! kind of receiver documents about them, keeps the books, and misbehaves on demand.
//!
//! Comes in: requests to any path but `/token`. Goes out: answers, and [`Request`]s for the test. What is taken is
//! booked *before* it is answered, so a lost answer shows as a duplicate. Imports nothing of the project.

use std::io::Read;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use futures_util::StreamExt;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// A request that was taken.
#[derive(Clone)]
pub struct Request {
    pub method: Method,
    /// With the query.
    pub path: String,
    pub headers: HeaderMap,
    /// As sent.
    pub raw: Vec<u8>,
    /// Without compression.
    pub body: Vec<u8>,
    pub events: Vec<Value>,
    pub at: Instant,
}

impl Request {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

/// What the receiver is: how it reads a body, and what it answers where it takes one.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Ndjson,
    JsonArray,
    Single,
    Slack,
    Teams,
    Sentinel,
    Otlp,
}

type Refuse = Arc<dyn Fn(&Value) -> bool + Send + Sync>;

/// What can be changed while it runs. A count goes down by one with each request that it concerns.
#[derive(Clone, Default)]
pub struct Knobs {
    /// The only `Authorization` that is taken; `oauth`: the newest token of the endpoint.
    pub authorization: Option<String>,
    /// Whom a token must be for (`aud` of a JWT).
    pub audience: Option<String>,
    /// 401, so many times.
    pub unauthorized: u32,
    /// 429, so many times, with this `Retry-After`.
    pub throttle: u32,
    pub retry_after: Option<String>,
    /// 503, so many times.
    pub busy: u32,
    /// Reads a piece of the body and closes the connection, so many times.
    pub cut: u32,
    /// Books, then closes the connection without an answer, so many times.
    pub hang_up: u32,
    /// Any event for which it says true makes the whole request refused (400).
    pub refuse: Option<Refuse>,
    /// As OTLP has it: takes the others, and says how many it refused.
    pub refuse_partially: bool,
    /// 413 for a larger body.
    pub max_body: Option<usize>,
    /// Between booking and answering.
    pub answer_delay: Duration,
    /// This status and body to everything, taking nothing.
    pub status: Option<(u16, String)>,
    /// Messages a second that a chat takes; more is 429 with `Retry-After: 1`.
    pub per_second: Option<usize>,
    /// What the token endpoint wants, and whether it is well.
    pub client_secret: String,
    pub token_status: Option<(u16, String)>,
}

#[derive(Default)]
struct Books {
    taken: Vec<Request>,
    requests: u64,
    answers: Vec<u16>,
    tokens: u64,
    arrivals: Vec<Instant>,
}

struct Shared {
    kind: Kind,
    knobs: Mutex<Knobs>,
    books: Mutex<Books>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A running receiver; stops when dropped.
pub struct FakeWeb {
    address: SocketAddr,
    shared: Arc<Shared>,
    server: JoinHandle<()>,
}

impl FakeWeb {
    pub async fn start(kind: Kind) -> FakeWeb {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared { kind, knobs: Mutex::default(), books: Mutex::default() });
        let app = Router::new().route("/token", post(token)).fallback(take).with_state(Arc::clone(&shared));
        let server = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        FakeWeb { address, shared, server }
    }

    /// Of a path that begins with a slash.
    pub fn url(&self, path: &str) -> String {
        format!("http://localhost:{}{path}", self.address.port())
    }

    pub fn set(&self, change: impl FnOnce(&mut Knobs)) {
        change(&mut locked(&self.shared.knobs));
    }

    /// The requests that were taken.
    pub fn taken(&self) -> Vec<Request> {
        locked(&self.shared.books).taken.clone()
    }

    /// The events of all of them, in order of arrival.
    pub fn events(&self) -> Vec<Value> {
        locked(&self.shared.books).taken.iter().flat_map(|request| request.events.clone()).collect()
    }

    pub fn count(&self) -> usize {
        locked(&self.shared.books).taken.iter().map(|request| request.events.len()).sum()
    }

    /// Requests so far, whatever became of them; those for tokens not counted.
    pub fn requests(&self) -> u64 {
        locked(&self.shared.books).requests
    }

    /// Statuses in order.
    pub fn answers(&self) -> Vec<u16> {
        locked(&self.shared.books).answers.clone()
    }

    /// Tokens that were given.
    pub fn tokens(&self) -> u64 {
        locked(&self.shared.books).tokens
    }

    /// Waits until at least `events` are taken; false when that takes longer than `limit`.
    pub async fn wait_for(&self, events: usize, limit: Duration) -> bool {
        let enough = async {
            while self.count() < events {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(limit, enough).await.is_ok()
    }
}

impl Drop for FakeWeb {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn token(State(shared): State<Arc<Shared>>, body: String) -> Response {
    let knobs = locked(&shared.knobs).clone();
    if let Some((status, body)) = knobs.token_status {
        return (StatusCode::from_u16(status).unwrap(), body).into_response();
    }
    let fields: Vec<(String, String)> = url::form_urlencoded::parse(body.as_bytes()).into_owned().collect();
    let of = |name: &str| fields.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
    if of("grant_type") != Some("client_credentials") || of("client_secret") != Some(&knobs.client_secret) {
        let body = r#"{"error":"invalid_client","error_description":"AADSTS7000215: Invalid client secret provided."}"#;
        return (StatusCode::UNAUTHORIZED, body).into_response();
    }
    let mut books = locked(&shared.books);
    books.tokens += 1;
    let body = format!(r#"{{"token_type":"Bearer","expires_in":3599,"access_token":"token-{}"}}"#, books.tokens);
    (StatusCode::OK, body).into_response()
}

async fn take(State(shared): State<Arc<Shared>>, method: Method, uri: Uri, headers: HeaderMap, body: Body) -> Response {
    locked(&shared.books).requests += 1;
    let response = answer(&shared, method, uri, headers, body).await;
    locked(&shared.books).answers.push(response.status().as_u16());
    response
}

fn hang_up() -> ! {
    // Ends the connection's task, and so the connection, without a word on stderr.
    std::panic::resume_unwind(Box::new("hung up"))
}

fn down(count: &mut u32) -> bool {
    let is_due = *count > 0;
    *count = count.saturating_sub(1);
    is_due
}

fn said(status: u16, text: impl Into<String>) -> Response {
    (StatusCode::from_u16(status).unwrap(), text.into()).into_response()
}

async fn answer(shared: &Shared, method: Method, uri: Uri, headers: HeaderMap, body: Body) -> Response {
    let mut stream = body.into_data_stream();
    let mut raw = Vec::new();
    let cut = down(&mut locked(&shared.knobs).cut);
    while let Some(chunk) = stream.next().await {
        let Ok(chunk) = chunk else { return said(400, "the body broke off") };
        raw.extend_from_slice(&chunk);
        if cut {
            hang_up();
        }
    }
    let (unauthorized, busy, throttled, knobs) = {
        let mut knobs = locked(&shared.knobs);
        let unauthorized = down(&mut knobs.unauthorized);
        let busy = down(&mut knobs.busy);
        let throttled = !busy && down(&mut knobs.throttle);
        (unauthorized, busy, throttled, knobs.clone())
    };
    if let Some(wanted) = &knobs.authorization {
        let newest = format!("Bearer token-{}", locked(&shared.books).tokens);
        let wanted = if wanted == "oauth" { &newest } else { wanted };
        if headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()) != Some(wanted) {
            return said(401, "who are you");
        }
    }
    let is_for = |audience: &String| audience_of(&headers).is_some_and(|found| found == *audience);
    if knobs.audience.as_ref().is_some_and(|audience| !is_for(audience)) || unauthorized {
        return said(401, "who are you");
    }
    if let Some((status, body)) = &knobs.status {
        return said(*status, body.clone());
    }
    if busy {
        return said(503, "busy");
    }
    if throttled {
        let after = knobs.retry_after.unwrap_or_else(|| "0".into());
        return (StatusCode::TOO_MANY_REQUESTS, [(header::RETRY_AFTER, after)], "slow down").into_response();
    }
    if let Some(most) = knobs.per_second {
        let mut books = locked(&shared.books);
        let now = Instant::now();
        books.arrivals.retain(|at| now.duration_since(*at) < Duration::from_millis(900));
        if books.arrivals.len() >= most {
            return (StatusCode::TOO_MANY_REQUESTS, [(header::RETRY_AFTER, "1")], "rate_limited").into_response();
        }
        books.arrivals.push(now);
    }
    let Some(body) = decoded(&headers, &raw) else { return said(415, "what is this") };
    if knobs.max_body.is_some_and(|most| body.len() > most) {
        return said(413, "too large");
    }
    let path = uri.path_and_query().map(|path| path.as_str().to_owned()).unwrap_or_default();
    let events = match read(shared.kind, &method, &path, &headers, &body) {
        Ok(events) => events,
        Err((status, text)) => return said(status, text),
    };
    let (bad, good): (Vec<Value>, Vec<Value>) =
        events.into_iter().partition(|event| knobs.refuse.as_ref().is_some_and(|refuse| refuse(event)));
    if !bad.is_empty() && !knobs.refuse_partially {
        // As gateways do: no two answers are alike.
        return said(400, format!("an event that nobody can use (request {})", locked(&shared.books).requests));
    }
    let (at, refused) = (Instant::now(), bad.len());
    locked(&shared.books).taken.push(Request { method, path, headers, raw, body, events: good, at });
    if down(&mut locked(&shared.knobs).hang_up) {
        hang_up();
    }
    tokio::time::sleep(knobs.answer_delay).await;
    match shared.kind {
        Kind::Slack => said(200, "ok"),
        Kind::Teams => said(202, ""),
        Kind::Sentinel => said(204, ""),
        Kind::Otlp if refused > 0 => {
            let body = format!(r#"{{"partialSuccess":{{"rejectedLogRecords":"{refused}","errorMessage":"too old"}}}}"#);
            ([(header::CONTENT_TYPE, "application/json")], body).into_response()
        }
        Kind::Otlp => ([(header::CONTENT_TYPE, "application/json")], r#"{"partialSuccess":{}}"#).into_response(),
        Kind::Ndjson | Kind::JsonArray | Kind::Single => said(200, "thanks"),
    }
}

/// Whom the token of a request is for, as it says itself.
fn audience_of(headers: &HeaderMap) -> Option<String> {
    let token = headers.get(header::AUTHORIZATION)?.to_str().ok()?.strip_prefix("Bearer ")?;
    let claims = URL_SAFE_NO_PAD.decode(token.split('.').nth(1)?).ok()?;
    serde_json::from_slice::<Value>(&claims).ok()?["aud"].as_str().map(str::to_owned)
}

fn decoded(headers: &HeaderMap, body: &[u8]) -> Option<Vec<u8>> {
    match headers.get(header::CONTENT_ENCODING).map(|value| value.as_bytes()) {
        None => Some(body.to_vec()),
        Some(b"gzip") => {
            let mut plain = Vec::new();
            flate2::read::MultiGzDecoder::new(body).read_to_end(&mut plain).ok()?;
            Some(plain)
        }
        Some(_) => None,
    }
}

/// The events of a body, checked as the receiver documents it.
fn read(
    kind: Kind,
    method: &Method,
    path: &str,
    headers: &HeaderMap,
    body: &[u8],
) -> Result<Vec<Value>, (u16, &'static str)> {
    let typed = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let json = || serde_json::from_slice::<Value>(body).map_err(|_| (400, "invalid_payload"));
    let array = |value: Value| match value {
        Value::Array(events) => Ok(events),
        _ => Err((400, "no array")),
    };
    if kind != Kind::Ndjson && typed != "application/json" {
        return Err((415, "not JSON"));
    }
    match kind {
        Kind::Ndjson => {
            let lines = body.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
            lines.map(|line| serde_json::from_slice(line).map_err(|_| (400, "no line of JSON"))).collect()
        }
        Kind::JsonArray => array(json()?),
        Kind::Single => Ok(vec![json()?]),
        // Incoming webhooks: a text, in which these characters are control characters unless escaped.
        Kind::Slack => {
            let message = json()?;
            let text = message["text"].as_str().filter(|text| !text.is_empty()).ok_or((400, "no_text"))?;
            let is_plain = !text.contains(['<', '>'])
                && text.replace("&amp;", "").replace("&lt;", "").replace("&gt;", "").find('&').is_none();
            if method != Method::POST || !is_plain || text.chars().count() > 40_000 {
                return Err((400, "invalid_payload"));
            }
            Ok(vec![message])
        }
        Kind::Teams => {
            let message = json()?;
            let card = &message["attachments"][0];
            let is_card = message["type"] == "message"
                && card["contentType"] == "application/vnd.microsoft.card.adaptive"
                && card["content"]["type"] == "AdaptiveCard"
                && card["content"]["body"].as_array().is_some_and(|body| !body.is_empty());
            if !is_card || body.len() > 28_000 {
                return Err((400, "no card"));
            }
            Ok(vec![message])
        }
        // 1 MB a call, compressed or not; the stream stands in the path; each row needs its time.
        Kind::Sentinel => {
            if !path.contains("/dataCollectionRules/dcr-") || !path.ends_with("?api-version=2023-01-01") {
                return Err((404, "no such rule"));
            }
            if body.len() > 1_000_000 {
                return Err((413, "ContentLengthLimitExceeded"));
            }
            let rows = array(json()?)?;
            let has_time =
                |row: &Value| row["TimeGenerated"].as_str().is_some_and(|time| time.parse::<jiff::Timestamp>().is_ok());
            if rows.is_empty() || !rows.iter().all(has_time) {
                return Err((400, "InvalidRow"));
            }
            Ok(rows)
        }
        Kind::Otlp => {
            if path != "/v1/logs" {
                return Err((404, "nothing here"));
            }
            let request = json()?;
            let all = |value: &Value, name: &str| value[name].as_array().cloned().unwrap_or_default();
            let scopes = all(&request, "resourceLogs").into_iter().flat_map(|resource| all(&resource, "scopeLogs"));
            Ok(scopes.flat_map(|scope| all(&scope, "logRecords")).collect())
        }
    }
}
