//! The bars: what auditferry claims, measured. `make test` runs them small, `make bars` at the size
//! whose figures are quoted. One file a bar.

mod alerts;
mod chaos;
mod chart;
mod chart_values;
mod configuration;
mod corruption;
mod credentials;
mod dashboard;
mod fairness;
mod faults;
mod hec_ack;
mod hostile;
mod identities;
mod idle;
mod image;
mod kafka;
mod kill;
mod latency;
mod lifelike;
pub mod little_service;
mod memory;
mod metrics;
mod outage;
mod picture;
mod pinned;
mod planted;
mod pod;
mod pod_security;
mod power;
mod refusals;
mod reload;
pub mod round_trip;
mod secrets;
mod sinks_down;
mod whole;
