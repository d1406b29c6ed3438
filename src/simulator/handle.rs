//! Starts the server over a world, on HTTP/1.1 and h2, and hands out a handle on it: addresses, the
//! truth, the report, faults switched while it runs.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::header;
use axum::response::Response;
use tokio::net::TcpListener;
use tokio::sync::watch;

use super::faults::Scenario;
use super::ledger::Ledger;
use super::report::{self, Report};
use super::server::{Shared, answer, handle};
use super::settings::{ContentType, WorldConfig};
use super::stamp::DAY_MS;
use super::subscriptions::Subscriptions;
use super::token::Tokens;
use super::truth::Truth;
use super::world::World;
use crate::clock::Clock;

/// Anybody who comes here followed a forged address.
async fn trap(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let what = format!("{} {}", request.method(), request.uri());
    if request.headers().contains_key(header::AUTHORIZATION) {
        shared.ledger.violation("token_to_foreign_host", || what);
    } else {
        shared.ledger.violation("request_to_foreign_host", || what);
    }
    answer(200, "application/json; charset=utf-8", "[]")
}

/// How a tenant is reached.
#[derive(Clone, Debug)]
pub struct TenantAccess {
    pub name: String,
    pub tenant_id: String,
    pub client_id: String,
    pub client_secret: String,
    /// What the tenant's people have behind the `@`.
    pub domain: String,
}

/// A running simulator. Dropping the handle ends it.
#[derive(Debug)]
pub struct SimulatorHandle {
    shared: Arc<Shared>,
    address: SocketAddr,
    tenants: Vec<TenantAccess>,
    stop: watch::Sender<bool>,
    task: tokio::task::JoinHandle<()>,
}

/// What a client on this machine calls; an unspecified address is no address to call.
fn local_url(address: SocketAddr) -> String {
    match address {
        SocketAddr::V4(v4) if v4.ip().is_unspecified() => format!("http://127.0.0.1:{}", v4.port()),
        SocketAddr::V6(v6) if v6.ip().is_unspecified() => format!("http://[::1]:{}", v6.port()),
        _ => format!("http://{address}"),
    }
}

/// Lays out the world and serves it until the handle is dropped or shut down.
///
/// # Errors
/// The listener has no address, or a second one for the trap could not be had.
pub async fn serve(config: WorldConfig, listener: TcpListener) -> std::io::Result<SimulatorHandle> {
    let address = listener.local_addr()?;
    let trap_listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    let count = config.tenants;
    let world = Arc::new(World::new(config));
    // As if somebody had started them long before the history begins.
    let since = world.config.protocol.subscribed.then(|| world.origin_ms - 30 * DAY_MS);
    let shared = Arc::new(Shared {
        tokens: Tokens::new(world.config.seed, count),
        subscriptions: Subscriptions::new(count, since),
        ledger: Ledger::new(count),
        base: world.config.public_url.clone().unwrap_or_else(|| local_url(address)),
        trap: trap_listener.local_addr()?.to_string(),
        offline: AtomicBool::new(false),
        world,
    });
    let tenants = shared
        .world
        .tenants
        .iter()
        .map(|t| TenantAccess {
            name: t.name.clone(),
            tenant_id: t.id.clone(),
            client_id: shared.world.client_id.clone(),
            client_secret: shared.world.client_secret.clone(),
            domain: t.domain.clone(),
        })
        .collect();
    let (stop, stopped) = watch::channel(false);
    let wait = |mut stopped: watch::Receiver<bool>| async move {
        let _ = stopped.wait_for(|stop| *stop).await;
    };
    let app = Router::new().fallback(handle).with_state(Arc::clone(&shared));
    let trap_app = Router::new().fallback(trap).with_state(Arc::clone(&shared));
    let main = axum::serve(listener, app).with_graceful_shutdown(wait(stopped.clone()));
    let side = axum::serve(trap_listener, trap_app).with_graceful_shutdown(wait(stopped));
    let task = tokio::spawn(async move {
        let (main, side) = tokio::join!(main.into_future(), side.into_future());
        if let Err(error) = main.and(side) {
            tracing::error!(%error, "the simulator stopped serving");
        }
    });
    Ok(SimulatorHandle { shared, address, tenants, stop, task })
}

/// How long open connections may take to end at a shutdown.
const DRAIN: Duration = Duration::from_secs(2);

impl SimulatorHandle {
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Root of the Management Activity API, without a slash at the end.
    pub fn api_url(&self) -> String {
        self.shared.base.clone()
    }

    /// Root of the token endpoint; the same server.
    pub fn login_url(&self) -> String {
        self.shared.base.clone()
    }

    /// `host:port` that forged addresses point to; a request there is a violation in the report.
    pub fn trap_address(&self) -> &str {
        &self.shared.trap
    }

    pub fn tenants(&self) -> &[TenantAccess] {
        &self.tenants
    }

    /// The clock that the world runs on.
    pub fn clock(&self) -> Clock {
        self.shared.world.clock.clone()
    }

    /// `(origin_ms, anchor_ms, speed)` for another process; `None`: the system's clock.
    pub fn clock_setting(&self) -> Option<(i64, i64, f64)> {
        let world = &self.shared.world;
        let system = world.config.speed == 1.0 && world.config.start_ms.is_none();
        (!system).then_some((world.origin_ms, world.anchor_ms, world.config.speed))
    }

    /// Every record that exists now.
    pub fn truth(&self) -> Truth {
        Truth::new(Arc::clone(&self.shared))
    }

    pub fn report(&self) -> Report {
        report::report(&self.shared)
    }

    /// Switches a scenario on. `rate`: the part of objects struck, `None` some 50 in the world.
    /// `duplicates` must be on from the start: its blobs are laid out with the world.
    pub fn enable(&self, scenario: Scenario, rate: Option<f64>) {
        self.shared.world.faults.set(scenario, rate);
    }

    pub fn disable(&self, scenario: Scenario) {
        self.shared.world.faults.clear(scenario);
    }

    /// Ends all tokens that a tenant (by position) was given so far.
    pub fn revoke_tokens(&self, tenant: usize) {
        if tenant < self.tenants.len() {
            self.shared.tokens.revoke(tenant);
        }
    }

    /// Disables a subscription, as an administrator would.
    pub fn disable_subscription(&self, tenant: usize, kind: ContentType) {
        if tenant < self.tenants.len() {
            self.shared.subscriptions.disable(tenant, kind);
        }
    }

    /// Off: everything but `/_sim` answers 503.
    pub fn set_online(&self, online: bool) {
        self.shared.offline.store(!online, Ordering::Relaxed);
    }

    /// Serves until the task ends.
    pub async fn serve_forever(mut self) {
        let _ = (&mut self.task).await;
    }

    /// Stops accepting, gives open connections two seconds, ends.
    pub async fn shutdown(mut self) {
        let _ = self.stop.send(true);
        let _ = tokio::time::timeout(DRAIN, &mut self.task).await;
    }
}

impl Drop for SimulatorHandle {
    fn drop(&mut self) {
        let _ = self.stop.send(true);
        self.task.abort();
    }
}
