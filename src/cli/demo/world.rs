//! The simulated Microsoft 365 of the demo, and the configuration that goes with it. The only file of
//! the demo that knows the simulator.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use secrecy::SecretString;
use tokio::net::TcpListener;
use url::Url;

use super::scratch::Scratch;
use crate::config::{
    AdminConfig, BatchConfig, CollectConfig, Config, CredentialConfig, DeadLettersConfig, EnrichConfig, FileConfig,
    Format, ProxyConfig, RetryConfig, SinkConfig, SinkKind, StateConfig, TenantConfig, TlsConfig,
};
use crate::feed::{ContentType, Tenant};
use crate::normalize::Profile;
use crate::secret::SecretSource;
use crate::simulator::{Scenario, SimulatorHandle, TenantAccess, WorldConfig, serve};

/// A minute of the simulated world takes a second, so that a pause that the service asks for ends
/// while somebody looks.
const SPEED: f64 = 60.0;
/// New records a (simulated) minute and feed: some 400 a second of ours with two tenants.
const LIVE_RATE: f64 = 40.0;
/// The faults that are thrown: everything that heals within the demo's time.
const FAULTS: &[&str] = &[
    "truncated_body",
    "half_json",
    "throttle_429",
    "throttle_403",
    "server_error",
    "html_error",
    "garbage_error",
    "token_expiry",
    "out_of_order",
    "eventual",
    "page_error",
];
/// The part of requests or blobs that each fault strikes: together a bad day of the real service.
const RATE: f64 = 0.02;

/// A running simulator.
pub(super) struct World {
    simulator: SimulatorHandle,
}

impl World {
    /// Starts the simulator on a free port of loopback.
    pub async fn start() -> anyhow::Result<World> {
        // Copies are laid out with the world; the other faults are switched on later.
        let duplicates = scenario("duplicates")?;
        let config = WorldConfig::demo().speed(SPEED).live_rate(LIVE_RATE).scenarios(&duplicates);
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.context("cannot listen on loopback")?;
        let simulator = serve(config, listener).await.context("cannot start the simulator")?;
        Ok(World { simulator })
    }

    /// Begins to throw faults: after the first events, so that a reader sees the calm before.
    pub fn throw_faults(&self) -> anyhow::Result<()> {
        for name in FAULTS {
            scenario(name)?.into_iter().for_each(|scenario| self.simulator.enable(scenario, Some(RATE)));
        }
        Ok(())
    }

    /// How often each fault was thrown so far.
    pub fn faults(&self) -> BTreeMap<String, u64> {
        let mut faults = self.simulator.report().faults;
        faults.retain(|_, count| *count > 0);
        faults
    }

    /// Every record that can be had now: its `Id`, where it has one.
    pub fn owed(&self) -> Vec<Option<String>> {
        self.simulator.truth().filter(|record| record.reachable).map(|record| record.id).collect()
    }

    /// How many times as fast as the world's the simulated clock runs.
    pub fn speed(&self) -> f64 {
        self.simulator.clock().speed()
    }

    /// A configuration that collects all tenants of this world into the scratch file, and to stdout
    /// where that is a pipe.
    pub fn config(&self, scratch: &Scratch, piped: Option<Format>) -> anyhow::Result<Config> {
        let file = SinkKind::File(FileConfig { path: scratch.file(), max_size: None, keep: 1 });
        let mut sinks = vec![sink(file, Format::Ecs)];
        sinks.extend(piped.map(|format| sink(SinkKind::Stdout, format)));
        let tenants: anyhow::Result<Vec<_>> =
            self.simulator.tenants().iter().map(|tenant| self.tenant(tenant)).collect();
        Ok(Config {
            state_topic: None,
            state: StateConfig { dir: scratch.path().join("state"), max_delivered_bytes: 64 << 20 },
            admin: AdminConfig { listen: None },
            collect: CollectConfig {
                backfill: Duration::from_secs(86_400),
                // Simulated time: half a second of ours.
                poll_interval: Duration::from_secs(30),
                in_flight: 32 << 20,
                max_record: 8 << 20,
                requests_per_minute: 1000,
                fetches_per_tenant: 8,
                fetches: 16,
                stall_timeout: Duration::from_secs(5),
                tls: TlsConfig::default(),
                proxy: ProxyConfig::Off,
            },
            tenants: tenants?,
            // Invented ones are in the program.
            keep_original: false,
            enrich: EnrichConfig::default(),
            dead_letters: DeadLettersConfig::in_file(&scratch.path().join("dead.ndjson")),
            sinks,
            clock: self.simulator.clock(),
        })
    }

    fn tenant(&self, access: &TenantAccess) -> anyhow::Result<TenantConfig> {
        Ok(TenantConfig {
            tenant: Arc::new(Tenant {
                name: access.name.clone(),
                id: access.tenant_id.clone(),
                domains: vec![access.domain.clone()],
            }),
            client_id: access.client_id.clone(),
            credential: CredentialConfig::ClientSecret {
                secret: SecretSource::Value(SecretString::from(access.client_secret.clone())),
                expires: None,
            },
            api: Url::parse(&self.simulator.api_url())?,
            login: Url::parse(&self.simulator.login_url())?,
            content_types: ContentType::ALL.to_vec(),
            publisher_id: access.tenant_id.clone(),
        })
    }
}

fn scenario(name: &str) -> anyhow::Result<Vec<Scenario>> {
    Scenario::parse(name).with_context(|| format!("the simulator knows no `{name}`"))
}

fn sink(kind: SinkKind, format: Format) -> SinkConfig {
    SinkConfig {
        name: kind.type_name().to_owned(),
        required: true,
        format,
        ecs_profile: Profile::Auditferry,
        when: None,
        edit: Default::default(),
        rate_limit: None,
        batch: BatchConfig { max_bytes: 1 << 20, max_events: 1000, linger: Duration::from_millis(100), concurrency: 1 },
        retry: RetryConfig { initial: Duration::from_millis(100), max: Duration::from_secs(2) },
        kind,
    }
}
