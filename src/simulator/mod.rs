//! simulator (a stand-in with the signatures that the command line uses; the real one is written elsewhere)

use std::collections::BTreeMap;

use serde::Serialize;
use tokio::net::TcpListener;

use crate::clock::Clock;

/// Every scenario: name and what it does.
pub const SCENARIOS: &[(&str, &str)] = &[];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scenario {}

impl Scenario {
    pub fn parse(name: &str) -> Option<Vec<Scenario>> {
        matches!(name, "none" | "").then(Vec::new)
    }
}

#[derive(Clone, Debug, Default)]
pub struct WorldConfig {}

impl WorldConfig {
    pub fn new() -> WorldConfig {
        WorldConfig {}
    }
    pub fn demo() -> WorldConfig {
        WorldConfig {}
    }
    #[must_use]
    pub fn seed(self, _value: u64) -> Self {
        self
    }
    #[must_use]
    pub fn tenants(self, _value: usize) -> Self {
        self
    }
    #[must_use]
    pub fn records(self, _value: u64) -> Self {
        self
    }
    #[must_use]
    pub fn live_rate(self, _value: f64) -> Self {
        self
    }
    #[must_use]
    pub fn speed(self, _value: f64) -> Self {
        self
    }
    #[must_use]
    pub fn scenarios(self, _value: &[Scenario]) -> Self {
        self
    }
}

#[derive(Clone, Debug)]
pub struct TenantAccess {
    pub name: String,
    pub tenant_id: String,
    pub client_id: String,
    pub client_secret: String,
    pub domain: String,
}

#[derive(Clone, Debug)]
pub struct TruthRecord {
    pub id: Option<String>,
    pub reachable: bool,
}

#[derive(Clone, Debug, Serialize)]
pub struct Report {
    pub faults: BTreeMap<String, u64>,
}

#[derive(Debug)]
pub struct SimulatorHandle {}

/// Serves a world until the handle is dropped.
pub async fn serve(_config: WorldConfig, _listener: TcpListener) -> std::io::Result<SimulatorHandle> {
    Err(std::io::Error::other("the simulator is not in this tree"))
}

impl SimulatorHandle {
    pub fn api_url(&self) -> String {
        String::new()
    }
    pub fn login_url(&self) -> String {
        String::new()
    }
    pub fn tenants(&self) -> &[TenantAccess] {
        &[]
    }
    pub fn clock(&self) -> Clock {
        Clock::system()
    }
    pub fn clock_setting(&self) -> Option<(i64, i64, f64)> {
        None
    }
    pub fn truth(&self) -> impl Iterator<Item = TruthRecord> {
        std::iter::empty()
    }
    pub fn report(&self) -> Report {
        Report { faults: BTreeMap::new() }
    }
    pub fn enable(&self, _scenario: Scenario, _rate: Option<f64>) {}
    pub async fn shutdown(self) {}
}
