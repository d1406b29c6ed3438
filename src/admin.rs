//! What an operator asks the running process over HTTP: `/metrics` (Prometheus text), `/livez`,
//! `/readyz` and `/status` (JSON). Comes in: a bound listener and shared, read-only views of the
//! process. Goes out: answers. Never changes anything, never shows a secret or a record.

use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde::Serialize;
use tokio::net::TcpListener;

use crate::clock::Seconds;
use crate::metrics::Metrics;

/// A heartbeat older than this means that the process is stuck and should be restarted. Far above
/// any pause that a slow disk or a busy machine brings.
const STUCK_AFTER: Duration = Duration::from_secs(60);

/// What `/status` answers. Times are seconds since 1970 UTC.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Status {
    pub tenants: Vec<TenantStatus>,
    pub sinks: Vec<SinkStatus>,
    pub state: StateStatus,
    pub in_flight: InFlight,
    /// The databases of `enrich.geo`.
    pub enrich: Vec<DatabaseStatus>,
    pub unknown: UnknownStatus,
    pub config: ConfigStatus,
}

/// Names in records that no table of this release has. Such records are sent on like all others.
#[derive(Clone, Debug, Default, Serialize)]
pub struct UnknownStatus {
    pub record_types: UnknownNames,
    pub operations: UnknownNames,
    pub fields: UnknownNames,
}

#[derive(Clone, Debug, Default, Serialize)]
pub struct UnknownNames {
    /// Those seen most, first the most frequent, at most 100; long ones are cut.
    pub names: Vec<UnknownName>,
    /// How often any other was seen.
    pub others: u64,
}

#[derive(Clone, Debug, Default, Serialize)]
pub struct UnknownName {
    pub name: String,
    pub count: u64,
}

/// The running configuration.
#[derive(Clone, Debug, Default, Serialize)]
pub struct ConfigStatus {
    /// Equal for equal configurations of one release, whatever their secrets.
    pub fingerprint: String,
    /// When it was read.
    pub loaded_at: Seconds,
    pub last_reload: Option<ReloadStatus>,
}

#[derive(Clone, Debug, Default, Serialize)]
pub struct ReloadStatus {
    pub at: Seconds,
    /// `applied`, `unchanged`, or `refused`: then the configuration before it runs on.
    pub result: &'static str,
    /// What was asked for by: a signal, a file that changed.
    pub cause: &'static str,
    /// What changed; what is wrong with it.
    pub changes: String,
    pub faults: Vec<String>,
}

#[derive(Clone, Debug, Default, Serialize)]
pub struct TenantStatus {
    pub name: String,
    pub tenant_id: String,
    pub credential: CredentialStatus,
    pub feeds: Vec<FeedStatus>,
}

#[derive(Clone, Debug, Default, Serialize)]
pub struct CredentialStatus {
    /// The key of `auth` in the configuration.
    pub kind: &'static str,
    /// When it ends, if that is known.
    pub expires: Option<Seconds>,
}

#[derive(Clone, Debug, Default, Serialize)]
pub struct FeedStatus {
    pub content_type: String,
    /// The feed is known complete up to here.
    pub complete_until: Option<Seconds>,
    /// Blobs listed and not settled.
    pub pending: u64,
    /// Blobs that will never be had.
    pub lost: u64,
    /// Whether the subscription was last seen enabled.
    pub subscribed: Option<bool>,
    /// What keeps the feed from going on, in the service's words.
    pub trouble: Option<String>,
    /// Sinks that take nothing, and without which nothing of the feed is fetched.
    pub waits_for: Vec<String>,
}

#[derive(Clone, Debug, Default, Serialize)]
pub struct SinkStatus {
    pub name: String,
    pub healthy: bool,
    pub queued: u64,
    pub last_ack: Option<Seconds>,
}

#[derive(Clone, Debug, Default, Serialize)]
pub struct StateStatus {
    pub journal_bytes: u64,
    pub last_commit: Option<Seconds>,
    /// Why acknowledgements wait (a full disk, a slow one); `None` in good order.
    pub trouble: Option<String>,
}

/// A database that `enrich` is to use.
#[derive(Clone, Debug, Default, Serialize)]
pub struct DatabaseStatus {
    /// Its key in `enrich.geo`.
    pub kind: &'static str,
    pub file: String,
    /// What it calls itself; `None` while there is none.
    pub database_type: Option<String>,
    /// When it was built.
    pub built: Option<Seconds>,
    /// Why the file, as it is now, is not used.
    pub trouble: Option<String>,
}

#[derive(Clone, Debug, Default, Serialize)]
pub struct InFlight {
    pub bytes: u64,
    pub limit: u64,
}

/// Takes a fresh look at the process.
pub type StatusSource = Arc<dyn Fn() -> Status + Send + Sync>;

/// Shows that the process still makes progress. Cheap to clone; the application ticks it.
#[derive(Clone)]
pub struct Heartbeat {
    origin: Instant,
    /// Milliseconds from `origin` to the last tick.
    last: Arc<AtomicU64>,
}

impl Default for Heartbeat {
    fn default() -> Heartbeat {
        Heartbeat { origin: Instant::now(), last: Arc::default() }
    }
}

impl Heartbeat {
    /// Says that the process is alive.
    pub fn tick(&self) {
        self.last.store(self.elapsed_ms(), Ordering::Relaxed);
    }

    /// How long ago the last tick was.
    pub fn age(&self) -> Duration {
        Duration::from_millis(self.elapsed_ms().saturating_sub(self.last.load(Ordering::Relaxed)))
    }

    fn elapsed_ms(&self) -> u64 {
        u64::try_from(self.origin.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

/// What the listener shows. Cheap to clone; made before the application, which is added once it runs.
#[derive(Clone)]
pub struct Admin(Arc<Inner>);

struct Inner {
    metrics: Arc<Metrics>,
    heartbeat: Heartbeat,
    started: Instant,
    ready: AtomicBool,
    status: OnceLock<StatusSource>,
    stuck_after: Duration,
}

impl Admin {
    /// Alive, and not ready until [`Admin::ready`].
    pub fn new(metrics: Arc<Metrics>, heartbeat: Heartbeat) -> Admin {
        Admin::with_stuck_after(metrics, heartbeat, STUCK_AFTER)
    }

    fn with_stuck_after(metrics: Arc<Metrics>, heartbeat: Heartbeat, stuck_after: Duration) -> Admin {
        let (started, ready, status) = (Instant::now(), AtomicBool::new(false), OnceLock::new());
        Admin(Arc::new(Inner { metrics, heartbeat, started, ready, status, stuck_after }))
    }

    /// Says that the application runs; from now on `/readyz` answers 200 and `/status` shows it.
    pub fn ready(&self, status: StatusSource) {
        let _ = self.0.status.set(status);
        self.0.ready.store(true, Ordering::Release);
    }

    /// Answers requests until `stop`.
    pub async fn serve(
        self,
        listener: TcpListener,
        stop: impl Future<Output = ()> + Send + 'static,
    ) -> std::io::Result<()> {
        let router = Router::new()
            .route("/metrics", get(metrics))
            .route("/livez", get(livez))
            .route("/readyz", get(readyz))
            .route("/status", get(status))
            .with_state(self);
        axum::serve(listener, router).with_graceful_shutdown(stop).await
    }
}

async fn metrics(State(admin): State<Admin>) -> Response {
    let pages = Arc::clone(&admin.0.metrics).pages().filter(|page| !page.is_empty()).map(Ok::<_, Infallible>);
    let body = Body::from_stream(futures_util::stream::iter(pages));
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], body).into_response()
}

async fn livez(State(admin): State<Admin>) -> Response {
    let age = admin.0.heartbeat.age();
    // Before the application runs nobody ticks: a long recovery of the state is not a stuck process.
    if admin.0.ready.load(Ordering::Acquire) && age > admin.0.stuck_after {
        return (StatusCode::SERVICE_UNAVAILABLE, format!("no progress for {} s\n", age.as_secs())).into_response();
    }
    "ok\n".into_response()
}

async fn readyz(State(admin): State<Admin>) -> Response {
    if admin.0.ready.load(Ordering::Acquire) {
        return "ok\n".into_response();
    }
    (StatusCode::SERVICE_UNAVAILABLE, "starting\n").into_response()
}

#[derive(Serialize)]
struct Answer {
    version: &'static str,
    uptime_seconds: u64,
    ready: bool,
    #[serde(flatten)]
    status: Option<Status>,
}

async fn status(State(admin): State<Admin>) -> Response {
    let answer = Answer {
        version: env!("CARGO_PKG_VERSION"),
        uptime_seconds: admin.0.started.elapsed().as_secs(),
        ready: admin.0.ready.load(Ordering::Acquire),
        status: admin.0.status.get().map(|look| look()),
    };
    match serde_json::to_string_pretty(&answer) {
        Ok(body) => ([(header::CONTENT_TYPE, "application/json")], body + "\n").into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    async fn serve(admin: &Admin) -> std::net::SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(admin.clone().serve(listener, std::future::pending()));
        address
    }

    async fn ask(address: std::net::SocketAddr, path: &str) -> String {
        let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        tokio::time::timeout(Duration::from_secs(5), stream.read_to_string(&mut answer)).await.unwrap().unwrap();
        answer
    }

    #[tokio::test]
    async fn is_ready_only_once_the_application_runs_and_dead_when_it_stops_ticking() {
        let heartbeat = Heartbeat::default();
        let admin = Admin::with_stuck_after(Metrics::new(), heartbeat.clone(), Duration::from_millis(50));
        let address = serve(&admin).await;
        tokio::time::sleep(Duration::from_millis(80)).await;
        assert!(ask(address, "/readyz").await.starts_with("HTTP/1.1 503"));
        assert!(ask(address, "/livez").await.starts_with("HTTP/1.1 200"), "a long start is not a stuck process");
        admin.ready(Arc::new(Status::default));
        assert!(ask(address, "/readyz").await.starts_with("HTTP/1.1 200"));
        assert!(ask(address, "/livez").await.starts_with("HTTP/1.1 503"));
        heartbeat.tick();
        assert!(ask(address, "/livez").await.starts_with("HTTP/1.1 200"));
    }

    #[tokio::test]
    async fn shows_metrics_and_status() {
        let metrics = Metrics::new();
        metrics.in_flight_limit.set(7);
        let admin = Admin::new(metrics, Heartbeat::default());
        let address = serve(&admin).await;
        assert!(ask(address, "/metrics").await.contains("auditferry_in_flight_limit_bytes 7"));
        assert!(ask(address, "/status").await.contains("\"ready\": false"));
        let sink = SinkStatus { name: "splunk".into(), healthy: true, ..SinkStatus::default() };
        admin.ready(Arc::new(move || Status { sinks: vec![sink.clone()], ..Status::default() }));
        let answer = ask(address, "/status").await;
        let body: serde_json::Value = serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap();
        assert_eq!(body["sinks"][0]["name"], "splunk");
        assert_eq!(body["version"], env!("CARGO_PKG_VERSION"));
    }
}
