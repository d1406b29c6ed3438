//! A Management Activity API of a few blobs that a test answers for as it likes: for what must go
//! wrong for ever, or only once, or in a way that the simulator does not know. Its books say what was
//! asked and whether a token came along.
//!
//! Comes in: blobs and a hook that may answer any request itself. Goes out: answers, and [`Asked`].

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use auditferry::clock::{Clock, world_ms};
use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::{AUTHORIZATION, DATE};
use axum::response::{IntoResponse, Response};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// The one tenant.
pub const TENANT_ID: &str = "11111111-2222-4333-8444-555555555555";
/// What the token endpoint gives out.
pub const TOKEN: &str = "eyJ0eXAiOiJKV1QifQ.canary-token-0a1b2c3d4e5f60718293a4b5.c2lnbmF0dXJl";
/// All five, as the service spells them.
const CONTENT_TYPES: [&str; 5] =
    ["Audit.AzureActiveDirectory", "Audit.Exchange", "Audit.SharePoint", "Audit.General", "DLP.All"];
/// Age of every blob: in a cell that no longer grows, and well within retention.
const AGE_MS: i64 = 90 * 60 * 1000;

/// A request as it came.
#[derive(Clone, Debug)]
pub struct Asked {
    pub path: String,
    pub query: String,
    pub authorization: Option<String>,
    /// How often this path was asked for before.
    pub before: u32,
}

impl Asked {
    /// Whether it asks for the body of this blob.
    pub fn is_blob(&self, id: &str) -> bool {
        self.path.ends_with(&format!("/activity/feed/audit/{id}"))
    }

    /// Whether it asks for a page of this type's listing.
    pub fn is_listing(&self, content_type: &str) -> bool {
        self.path.ends_with("/subscriptions/content") && self.query.contains(content_type)
    }
}

/// A blob to be listed: content type, id, body.
pub type Blob = (&'static str, &'static str, Vec<u8>);
type Hook = Arc<dyn Fn(&Asked, &str) -> Option<Response> + Send + Sync>;

/// A running service; ends when dropped.
pub struct LittleService {
    pub address: SocketAddr,
    shared: Arc<Shared>,
    server: JoinHandle<()>,
}

struct Shared {
    blobs: Vec<Blob>,
    hook: Hook,
    root: String,
    created_ms: i64,
    origin_ms: i64,
    speed: f64,
    clock: Clock,
    asked: Mutex<Vec<Asked>>,
    counts: Mutex<HashMap<String, u32>>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl LittleService {
    /// Serves `blobs`; `hook` is asked first, with the service's own root. Calendar time runs `speed`
    /// times as fast, so that back-off takes that much less of the test's.
    pub async fn start(
        blobs: Vec<Blob>,
        speed: f64,
        hook: impl Fn(&Asked, &str) -> Option<Response> + Send + Sync + 'static,
    ) -> LittleService {
        LittleService::start_as(None, blobs, speed, hook).await
    }

    /// The same, which calls itself `root` where something stands before it.
    pub async fn start_as(
        root: Option<&str>,
        blobs: Vec<Blob>,
        speed: f64,
        hook: impl Fn(&Asked, &str) -> Option<Response> + Send + Sync + 'static,
    ) -> LittleService {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let root = root.map_or_else(|| format!("http://{address}"), str::to_owned);
        let origin_ms = world_ms();
        let shared = Arc::new(Shared {
            blobs,
            hook: Arc::new(hook),
            root,
            created_ms: origin_ms - AGE_MS,
            origin_ms,
            speed,
            clock: Clock::scaled(origin_ms, origin_ms, speed),
            asked: Mutex::default(),
            counts: Mutex::default(),
        });
        let app = Router::new().fallback(answer).with_state(Arc::clone(&shared));
        let server = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        LittleService { address, shared, server }
    }

    pub fn root(&self) -> &str {
        &self.shared.root
    }

    /// Calendar milliseconds since the start.
    pub fn age_ms(&self) -> i64 {
        self.shared.clock.now_ms() - self.shared.origin_ms
    }

    /// Everything asked so far.
    pub fn asked(&self) -> Vec<Asked> {
        locked(&self.shared.asked).clone()
    }

    /// The configuration that collects from here: everything but sinks. `collect`: more of its keys.
    pub fn config(&self, state_dir: &std::path::Path, secret: &str, collect: &str) -> String {
        let Shared { root, origin_ms, speed, .. } = &*self.shared;
        format!(
            "state: {{ dir: {state_dir:?} }}\nadmin: {{ listen: 127.0.0.1:0 }}\n\
             clock: {{ origin_ms: {origin_ms}, anchor_ms: {origin_ms}, speed: {speed:?} }}\n\
             collect: {{ backfill: 6h, requests_per_minute: 100000, poll_interval: 5s{collect} }}\n\
             tenants:\n  - {{ name: little, tenant_id: {TENANT_ID:?}, client_id: {TENANT_ID:?}, \
             auth: {{ client_secret: {secret:?} }}, endpoints: {{ api: {root:?}, login: {root:?} }} }}\n"
        )
    }
}

impl Drop for LittleService {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn answer(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let before = {
        let mut counts = locked(&shared.counts);
        let count = counts.entry(request.uri().path().to_owned()).or_default();
        *count += 1;
        *count - 1
    };
    let authorization = request.headers().get(AUTHORIZATION).map(|value| String::from_utf8_lossy(value.as_bytes()));
    let asked = Asked {
        path: request.uri().path().to_owned(),
        query: request.uri().query().unwrap_or("").to_owned(),
        authorization: authorization.map(|value| value.into_owned()),
        before,
    };
    locked(&shared.asked).push(asked.clone());
    let mut response = (shared.hook)(&asked, &shared.root).unwrap_or_else(|| plain(&shared, &asked));
    let now = jiff::Timestamp::from_millisecond(shared.clock.now_ms()).unwrap();
    let date = now.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string();
    response.headers_mut().insert(DATE, date.parse().unwrap());
    response
}

fn plain(shared: &Shared, asked: &Asked) -> Response {
    if asked.path.ends_with("/oauth2/v2.0/token") {
        return json(format!(r#"{{"token_type":"Bearer","expires_in":3599,"access_token":"{TOKEN}"}}"#));
    }
    if asked.path.ends_with("/subscriptions/list") {
        let all = CONTENT_TYPES.map(|name| format!(r#"{{"contentType":"{name}","status":"enabled","webhook":null}}"#));
        return json(format!("[{}]", all.join(",")));
    }
    if asked.path.ends_with("/subscriptions/content") {
        return json(format!("[{}]", listed(shared, asked).join(",")));
    }
    match shared.blobs.iter().find(|(_, id, _)| asked.is_blob(id)) {
        Some((_, _, body)) => json(body.clone()),
        None => (axum::http::StatusCode::NOT_FOUND, "").into_response(),
    }
}

fn listed(shared: &Shared, asked: &Asked) -> Vec<String> {
    let time = |name: &str| {
        let (_, rest) = asked.query.split_once(name)?;
        let text = rest.split('&').next()?.replace("%3A", ":");
        Some(format!("{text}Z").parse::<jiff::Timestamp>().ok()?.as_millisecond())
    };
    let (Some(from), Some(to)) = (time("startTime="), time("endTime=")) else { return Vec::new() };
    if !(from..to).contains(&shared.created_ms) {
        return Vec::new();
    }
    let of_type = shared.blobs.iter().filter(|(content_type, ..)| asked.is_listing(content_type));
    of_type.map(|(content_type, id, _)| entry(&shared.root, content_type, id, shared.created_ms)).collect()
}

/// A line of a listing.
pub fn entry(root: &str, content_type: &str, id: &str, created_ms: i64) -> String {
    let created = jiff::Timestamp::from_millisecond(created_ms).unwrap();
    let uri = format!("{root}/api/v1.0/{TENANT_ID}/activity/feed/audit/{id}");
    format!(
        r#"{{"contentType":"{content_type}","contentId":"{id}","contentUri":"{uri}","contentCreated":"{created}"}}"#
    )
}

/// A good answer.
pub fn json(body: impl Into<Body>) -> Response {
    ([("content-type", "application/json; charset=utf-8")], body.into()).into_response()
}

/// A record of this number, which nothing is wrong with.
pub fn record(number: usize) -> String {
    format!(
        r#"{{"CreationTime":"2026-01-02T03:04:05","Id":"00000000-0000-4000-8000-{number:012}","Operation":"FileAccessed","OrganizationId":"{TENANT_ID}","RecordType":6,"UserKey":"u","UserType":0,"Version":1,"Workload":"SharePoint","UserId":"ann@contoso.example"}}"#
    )
}

/// An array of the records of these numbers.
pub fn body(numbers: std::ops::Range<usize>) -> Vec<u8> {
    format!("[{}]", numbers.map(record).collect::<Vec<_>>().join(",")).into_bytes()
}

/// A body that drips or floods: the pieces as they come.
pub fn streamed(pieces: impl Iterator<Item = Vec<u8>> + Send + 'static, pause: Duration) -> Response {
    let stream = futures_util::stream::unfold(pieces, move |mut pieces| async move {
        let piece = pieces.next()?;
        if !pause.is_zero() {
            tokio::time::sleep(pause).await;
        }
        Some((Ok::<_, std::io::Error>(piece), pieces))
    });
    json(Body::from_stream(stream))
}
