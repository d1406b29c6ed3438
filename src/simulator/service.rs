//! The simulator without a server: the truth, the report, faults switched while it runs, and answers
//! to requests that never see a socket.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::body::Bytes;
use axum::extract::State;
use axum::http::{Request, Response, header};
use futures_util::{Stream, StreamExt};

use super::faults::Scenario;
use super::ledger::Ledger;
use super::login::{FederatedCredential, Identities, IssuerKey, ManagedIdentity, RegisteredCertificate};
use super::quota::Quota;
use super::report::{self, Report};
use super::server::{Broken, Shared, handle, trap};
use super::settings::{ContentType, WorldConfig};
use super::stamp::DAY_MS;
use super::subscriptions::Subscriptions;
use super::token::Tokens;
use super::truth::Truth;
use super::world::World;
use crate::clock::Clock;

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

/// A world and all that happens in it.
#[derive(Debug)]
pub struct Simulator {
    pub(super) shared: Arc<Shared>,
    tenants: Vec<TenantAccess>,
}

/// Where nobody listens: what a simulator without a server names itself by, and its trap.
const NOWHERE: &str = "http://127.0.0.1:9";
const TRAP: &str = "127.0.0.1:10";

impl Simulator {
    /// A world that is asked by [`Simulator::answer`] alone.
    pub fn in_process(config: WorldConfig) -> Simulator {
        let base = config.public_url.clone().unwrap_or_else(|| NOWHERE.to_owned());
        Simulator::new(config, base, TRAP.to_owned())
    }

    /// `base`: the root that it names itself by. `trap`: `host:port` of forged addresses.
    pub(super) fn new(config: WorldConfig, base: String, trap: String) -> Simulator {
        let count = config.tenants;
        let world = Arc::new(World::new(config));
        // As if somebody had started them long before the history begins.
        let since = world.config.protocol.subscribed.then(|| world.origin_ms - 30 * DAY_MS);
        let shared = Arc::new(Shared {
            tokens: Tokens::new(world.config.seed, count),
            identities: Identities::new(&world.client_secret),
            subscriptions: Subscriptions::new(count, since),
            ledger: Ledger::new(count),
            quota: Quota::new(count),
            base,
            trap,
            offline: AtomicBool::new(false),
            world,
        });
        let access = |t: &super::world::TenantWorld| TenantAccess {
            name: t.name.clone(),
            tenant_id: t.id.clone(),
            client_id: shared.world.client_id.clone(),
            client_secret: shared.world.client_secret.clone(),
            domain: t.domain.clone(),
        };
        let tenants = shared.world.tenants.iter().map(access).collect();
        Simulator { shared, tenants }
    }

    /// Answers a request in this process, as the server would over a socket.
    ///
    /// # Errors
    /// What a client would see as a connection that broke before the head of an answer.
    pub async fn answer(
        &self,
        request: Request<axum::body::Body>,
    ) -> io::Result<Response<impl Stream<Item = io::Result<Bytes>> + Send + use<>>> {
        let shared = State(Arc::clone(&self.shared));
        let is_trap = request.uri().authority().is_some_and(|authority| authority.as_str() == self.shared.trap);
        let response = if is_trap { trap(shared, request).await } else { handle(shared, request).await };
        if response.extensions().get::<Broken>().is_some() {
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        let (parts, body) = response.into_parts();
        let announced = parts.headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
        Ok(Response::from_parts(parts, checked(body, announced)))
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
        (!system).then_some((world.origin_ms - world.config.skew_ms, world.anchor_ms, world.config.speed))
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

    /// A further secret of the application, from now on and until `expires` (seconds since 1970 UTC).
    pub fn add_secret(&self, value: &str, expires: Option<i64>) {
        self.shared.identities.add_secret(value, expires);
    }

    pub fn withdraw_secret(&self, value: &str) {
        self.shared.identities.withdraw_secret(value);
    }

    /// A further certificate of the application.
    pub fn add_certificate(&self, certificate: RegisteredCertificate) {
        self.shared.identities.add_certificate(certificate);
    }

    pub fn withdraw_certificate(&self, der: &[u8]) {
        self.shared.identities.withdraw_certificate(der);
    }

    /// Somebody more whom the application trusts to sign for it.
    pub fn federate(&self, credential: FederatedCredential) {
        self.shared.identities.federate(credential);
    }

    /// A key that an issuer publishes from now on.
    pub fn publish_key(&self, key: IssuerKey) {
        self.shared.identities.publish_key(key);
    }

    pub fn withdraw_key(&self, kid: &str) {
        self.shared.identities.withdraw_key(kid);
    }

    /// An identity of the machine that the simulator stands for.
    pub fn assign_identity(&self, identity: ManagedIdentity) {
        self.shared.identities.assign(identity);
    }

    /// How often each proof was taken: `secret 1`, `certificate <thumbprint>`, `federated <subject>`,
    /// `managed <client id>`.
    pub fn sign_ins(&self) -> BTreeMap<String, u64> {
        self.shared.identities.sign_ins()
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
}

/// A body as a client reads it from a socket: one that does not have its announced length is an error.
fn checked(body: axum::body::Body, announced: Option<u64>) -> impl Stream<Item = io::Result<Bytes>> + Send {
    let pieces = body.into_data_stream().map(|piece| piece.map_err(io::Error::other));
    let checked = futures_util::stream::unfold((pieces, announced, false), |(mut pieces, left, over)| async move {
        if over {
            return None;
        }
        match pieces.next().await {
            Some(Ok(piece)) => {
                let left = left.map(|left| left.saturating_sub(piece.len() as u64));
                Some((Ok(piece), (pieces, left, false)))
            }
            Some(Err(error)) => Some((Err(error), (pieces, left, true))),
            None if left.is_some_and(|left| left > 0) => {
                let short = io::Error::new(io::ErrorKind::UnexpectedEof, "the body is shorter than announced");
                Some((Err(short), (pieces, left, true)))
            }
            None => None,
        }
    });
    checked.fuse()
}
