//! A cluster of Elasticsearch for tests: takes bulk requests on a loopback port, keeps the documents, and misbehaves on
//! demand, as a real one cannot be made to.
//!
//! Comes in: requests. Goes out: answers as Elasticsearch words them, and [`Books`] for the test. A document is kept
//! *before* it is answered for, so a lost answer shows as a conflict of the next try. Imports nothing of the project.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::io::Read;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// What one document is refused with: status, exception, reason.
pub type Refusal = (u16, &'static str, &'static str);
type Judge = Arc<dyn Fn(&str, &Value) -> Option<Refusal> + Send + Sync>;

/// What can be changed while it runs. A count goes down by one with each bulk request that it concerns.
#[derive(Clone)]
pub struct Knobs {
    /// The only `Authorization` that is taken; `None`: any.
    pub authorization: Option<String>,
    /// What `GET /` says.
    pub main: Value,
    /// Asked with index and document: why it is not taken.
    pub judge: Option<Judge>,
    /// What `judge` refuses goes to a failure store.
    pub failure_store: bool,
    /// Every second document of so many requests is answered 429.
    pub busy_items: u32,
    /// 429 for so many requests as a whole, with this `Retry-After`.
    pub throttle: u32,
    pub retry_after: Option<String>,
    /// 503, so many times.
    pub unavailable: u32,
    /// Keeps the documents, then ends the connection without a byte of an answer, so many times.
    pub hang_up: u32,
    /// Keeps the documents, then ends the connection in the middle of the answer, so many times.
    pub half: u32,
    /// Ends the connection while the request is on its way, and keeps nothing, so many times.
    pub cut: u32,
    /// Keeps nothing and answers 200 with a page, so many times.
    pub html: u32,
    /// Keeps the documents and answers for one less, so many times.
    pub short: u32,
    /// 413 for a larger decoded body.
    pub max_body: Option<usize>,
    /// Between keeping and answering.
    pub answer_delay: Duration,
    /// What is there beside documents, by path: index templates, policies, data streams.
    pub things: BTreeMap<String, Value>,
    /// Paths that are answered 403.
    pub forbidden: Vec<String>,
}

impl Default for Knobs {
    fn default() -> Knobs {
        Knobs {
            authorization: None,
            main: json!({ "version": { "number": "8.17.3", "build_flavor": "default" }, "tagline": "You Know, for Search" }),
            judge: None,
            failure_store: false,
            busy_items: 0,
            throttle: 0,
            retry_after: None,
            unavailable: 0,
            hang_up: 0,
            half: 0,
            cut: 0,
            html: 0,
            short: 0,
            max_body: None,
            answer_delay: Duration::ZERO,
            things: BTreeMap::new(),
            forbidden: Vec::new(),
        }
    }
}

/// The books.
#[derive(Clone, Default)]
pub struct Books {
    /// By index and `_id`.
    pub documents: HashMap<(String, String), Value>,
    /// Creates of what was there already.
    pub conflicts: u64,
    /// Bulk requests.
    pub bulks: u64,
    /// Documents of each bulk request, taken or not.
    pub sizes: Vec<usize>,
    /// Requests other than bulk: method and path.
    pub asked: Vec<String>,
    /// Query of the last bulk request.
    pub query: String,
}

/// A running cluster of one node; stops when dropped.
pub struct FakeElasticsearch {
    address: SocketAddr,
    shared: Arc<Shared>,
    server: JoinHandle<()>,
}

#[derive(Default)]
struct Shared {
    knobs: Mutex<Knobs>,
    books: Mutex<Books>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl FakeElasticsearch {
    pub async fn start() -> FakeElasticsearch {
        FakeElasticsearch::start_at(SocketAddr::from(([127, 0, 0, 1], 0))).await
    }

    pub async fn start_at(address: SocketAddr) -> FakeElasticsearch {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::<Shared>::default();
        let app = Router::new().fallback(answer).with_state(Arc::clone(&shared));
        let server = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        FakeElasticsearch { address, shared, server }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Changes how it behaves from the next request on.
    pub fn set(&self, change: impl FnOnce(&mut Knobs)) {
        change(&mut locked(&self.shared.knobs));
    }

    pub fn knobs(&self) -> Knobs {
        locked(&self.shared.knobs).clone()
    }

    /// A copy of the books.
    pub fn books(&self) -> Books {
        locked(&self.shared.books).clone()
    }

    /// Documents so far; cheap.
    pub fn count(&self) -> usize {
        locked(&self.shared.books).documents.len()
    }
}

impl Drop for FakeElasticsearch {
    fn drop(&mut self) {
        self.server.abort();
    }
}

fn failure(status: u16, name: &str, reason: &str) -> Response {
    let error = json!({ "root_cause": [], "type": name, "reason": reason });
    (StatusCode::from_u16(status).unwrap(), json!({ "error": error, "status": status }).to_string()).into_response()
}

/// Counts down; false at its end.
fn take_one(count: &mut u32) -> bool {
    let any = *count > 0;
    *count = count.saturating_sub(1);
    any
}

/// Ends the connection after `start` of an answer.
fn broken(start: Vec<u8>) -> Response {
    let pieces = [Ok(Bytes::from(start)), Err(std::io::Error::other("cut"))];
    Response::new(Body::from_stream(futures_util::stream::iter(pieces)))
}

async fn answer(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let path = head.uri.path().to_owned();
    let knobs = locked(&shared.knobs).clone();
    let shown = head.headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    if knobs.authorization.is_some() && knobs.authorization.as_deref() != shown {
        let reason = format!("unable to authenticate with provided credentials {}", shown.unwrap_or("none"));
        return failure(401, "security_exception", &reason);
    }
    if knobs.forbidden.iter().any(|forbidden| path.starts_with(forbidden.as_str())) {
        return failure(403, "security_exception", &format!("action is unauthorized for user [u] on [{path}]"));
    }
    if path.ends_with("/_bulk") && take_one(&mut locked(&shared.knobs).cut) {
        return broken(Vec::new());
    }
    let Ok(body) = axum::body::to_bytes(body, 64 * 1024 * 1024).await else {
        return failure(400, "parse_exception", "the body broke off");
    };
    if path.ends_with("/_bulk") {
        locked(&shared.books).query = head.uri.query().unwrap_or_default().to_owned();
        return bulk(&shared, path.trim_end_matches("/_bulk").trim_start_matches('/'), &head.headers, &body).await;
    }
    locked(&shared.books).asked.push(format!("{} {path}", head.method));
    thing(&shared, &knobs, &head.method, &path, &body)
}

/// Templates, policies, data streams: kept by path.
fn thing(shared: &Shared, knobs: &Knobs, method: &Method, path: &str, body: &[u8]) -> Response {
    let known = knobs.things.get(path);
    if path == "/" {
        return knobs.main.to_string().into_response();
    }
    if path.contains("/_simulate_index/") {
        let of =
            |(path, body): (&String, &Value)| path.starts_with("/_index_template/").then(|| body["template"].clone());
        let template = knobs.things.iter().find_map(of).unwrap_or_else(|| json!({ "mappings": {} }));
        return json!({ "template": template, "overlapping": [] }).to_string().into_response();
    }
    match (method, known) {
        (&Method::PUT, _) => {
            let body = serde_json::from_slice(body).unwrap_or(Value::Null);
            locked(&shared.knobs).things.insert(path.to_owned(), body);
            json!({ "acknowledged": true }).to_string().into_response()
        }
        (_, Some(body)) if path.starts_with("/_index_template/") => {
            json!({ "index_templates": [{ "name": "x", "index_template": body }] }).to_string().into_response()
        }
        (_, Some(body)) => body.to_string().into_response(),
        (_, None) => failure(404, "resource_not_found_exception", "nothing of that name"),
    }
}

async fn bulk(shared: &Shared, index: &str, headers: &HeaderMap, body: &[u8]) -> Response {
    let knobs = {
        let mut guard = locked(&shared.knobs);
        let knobs = &mut *guard;
        let before = knobs.clone();
        let counts = [
            &mut knobs.busy_items,
            &mut knobs.throttle,
            &mut knobs.unavailable,
            &mut knobs.hang_up,
            &mut knobs.half,
            &mut knobs.html,
            &mut knobs.short,
        ];
        // One fault at a time, in this order.
        if let Some(count) = counts.into_iter().find(|count| **count > 0) {
            *count -= 1;
        }
        before
    };
    locked(&shared.books).bulks += 1;
    let gzipped = headers.get(header::CONTENT_ENCODING).is_some_and(|value| value == "gzip");
    let mut plain = Vec::new();
    match gzipped {
        true => _ = flate2::read::GzDecoder::new(body).read_to_end(&mut plain).unwrap(),
        false => plain = body.to_vec(),
    }
    if knobs.max_body.is_some_and(|most| plain.len() > most) {
        return (StatusCode::PAYLOAD_TOO_LARGE, "<html>413</html>").into_response();
    }
    let busy = knobs.busy_items > 0;
    if !busy && knobs.throttle > 0 {
        let mut response =
            failure(429, "es_rejected_execution_exception", "rejected execution of coordinating operation");
        if let Some(after) = &knobs.retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, after.parse().unwrap());
        }
        return response;
    }
    if !busy && knobs.unavailable > 0 {
        return (StatusCode::SERVICE_UNAVAILABLE, "no healthy upstream").into_response();
    }
    let fault = !busy;
    if fault && knobs.hang_up == 0 && knobs.half == 0 && knobs.html > 0 {
        return "<html>log in</html>".into_response();
    }
    assert!(plain.ends_with(b"\n"), "a bulk request ends with a line break");
    let lines: Vec<&[u8]> = plain[..plain.len() - 1].split(|byte| *byte == b'\n').collect();
    assert_eq!(lines.len() % 2, 0, "an action for each document");
    let mut items = Vec::with_capacity(lines.len() / 2);
    {
        let mut books = locked(&shared.books);
        books.sizes.push(lines.len() / 2);
        for (number, pair) in lines.chunks(2).enumerate() {
            let action: Value = serde_json::from_slice(pair[0]).unwrap();
            let action = &action["create"];
            let index = action["_index"].as_str().unwrap_or(index).to_owned();
            let document: Value = serde_json::from_slice(pair[1]).unwrap();
            // As clusters with a failure store say it: 201, and no error.
            let stored =
                || json!({ "create": { "_index": format!(".fs-{index}"), "status": 201, "failure_store": "used" } });
            let refused = |(status, name, reason): Refusal| json!({ "create": { "_index": index, "status": status, "error": { "type": name, "reason": reason } } });
            if busy && number % 2 == 1 {
                items.push(refused((
                    429,
                    "es_rejected_execution_exception",
                    "rejected execution of primary operation",
                )));
            } else if let Some(refusal) = knobs.judge.as_ref().and_then(|judge| judge(&index, &document)) {
                items.push(if knobs.failure_store { stored() } else { refused(refusal) });
            } else {
                let key = (index.clone(), action["_id"].as_str().unwrap().to_owned());
                match books.documents.entry(key) {
                    Entry::Occupied(_) => {
                        books.conflicts += 1;
                        let reason = "[x]: version conflict, document already exists (current version [1])";
                        items.push(refused((409, "version_conflict_engine_exception", reason)));
                    }
                    Entry::Vacant(place) => {
                        place.insert(document);
                        items.push(json!({ "create": { "_index": index, "status": 201 } }));
                    }
                }
            }
        }
    }
    tokio::time::sleep(knobs.answer_delay).await;
    if fault && knobs.hang_up > 0 {
        return broken(Vec::new());
    }
    if fault && knobs.hang_up == 0 && knobs.half == 0 && knobs.short > 0 {
        items.pop();
    }
    let errors = items.iter().any(|item| !item["create"]["error"].is_null());
    let text = json!({ "took": 1, "errors": errors, "items": items }).to_string();
    if fault && knobs.half > 0 {
        return broken(text.as_bytes()[..text.len() / 2].to_vec());
    }
    text.into_response()
}
