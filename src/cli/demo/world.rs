//! The simulated Microsoft 365 of the demo, and the configuration that goes with it. The only file of
//! the demo that knows the simulator.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use secrecy::SecretString;
use url::Url;

use super::scratch::Scratch;
use crate::clock::Clock;
use crate::config::{
    AdminConfig, BatchConfig, CollectConfig, Config, FileConfig, Format, RetryConfig, SinkConfig, SinkKind,
    StateConfig, TenantConfig,
};
use crate::feed::{ContentType, Tenant};
use crate::secret::SecretSource;

/// What the simulator has handed out so far.
#[derive(Clone, Debug, Default)]
pub(super) struct Served {
    /// Different records in bodies that were sent whole.
    pub records: u64,
    /// How often each fault was thrown.
    pub faults: BTreeMap<String, u64>,
}

impl Served {
    pub fn faults_in_all(&self) -> u64 {
        self.faults.values().sum()
    }
}

/// A running simulator.
pub(super) struct World {
    api: Url,
    login: Url,
    client_id: String,
    client_secret: SecretString,
    /// Name, directory id and domain of each tenant.
    tenants: Vec<(String, String, String)>,
    clock: Clock,
    served: Box<dyn Fn() -> Served + Send + Sync>,
}

impl World {
    /// Starts the simulator on a free port of loopback, with the faults that a client can live with.
    pub async fn start() -> anyhow::Result<World> {
        // SEAM simulator: serve `WorldConfig::demo()` in this process and fill in the fields below.
        anyhow::bail!("the simulator is not in this tree")
    }

    /// What the simulator's books say now.
    pub fn served(&self) -> Served {
        (self.served)()
    }

    /// A configuration that collects all tenants of this world.
    pub fn config(&self, scratch: &Scratch, piped: bool, format: Format) -> Config {
        let kind = if piped {
            SinkKind::Stdout
        } else {
            SinkKind::File(FileConfig { path: scratch.file(), max_size: None, keep: 1 })
        };
        let sink = SinkConfig {
            name: kind.type_name().to_owned(),
            required: true,
            format,
            batch: BatchConfig {
                max_bytes: 1 << 20,
                max_events: 1000,
                linger: Duration::from_millis(100),
                concurrency: 1,
            },
            retry: RetryConfig { initial: Duration::from_millis(100), max: Duration::from_secs(2) },
            kind,
        };
        Config {
            state: StateConfig { dir: scratch.path().join("state"), max_delivered_bytes: 64 << 20 },
            admin: AdminConfig { listen: None },
            collect: CollectConfig {
                backfill: Duration::from_secs(86_400),
                poll_interval: Duration::from_secs(1),
                in_flight: 32 << 20,
                max_record: 8 << 20,
                requests_per_minute: 6000,
                fetches_per_tenant: 8,
                fetches: 16,
                stall_timeout: Duration::from_secs(5),
            },
            tenants: self.tenants.iter().map(|tenant| self.tenant(tenant)).collect(),
            dead_letters: scratch.path().join("dead.ndjson"),
            sinks: vec![sink],
            clock: self.clock.clone(),
        }
    }

    fn tenant(&self, (name, id, domain): &(String, String, String)) -> TenantConfig {
        TenantConfig {
            tenant: Arc::new(Tenant { name: name.clone(), id: id.clone(), domains: vec![domain.clone()] }),
            client_id: self.client_id.clone(),
            client_secret: SecretSource::Value(self.client_secret.clone()),
            api: self.api.clone(),
            login: self.login.clone(),
            content_types: ContentType::ALL.to_vec(),
            publisher_id: id.clone(),
        }
    }
}
