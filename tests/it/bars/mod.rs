//! The bars: what auditferry claims, measured. `make test` runs them small, `make bars` at the size
//! whose figures are quoted. One file a bar.

mod chaos;
mod configuration;
mod corruption;
mod fairness;
mod faults;
mod hec_ack;
mod hostile;
mod idle;
mod kafka;
mod kill;
mod latency;
mod lifelike;
pub mod little_service;
mod memory;
mod outage;
mod pinned;
mod planted;
mod power;
mod secrets;
mod whole;
