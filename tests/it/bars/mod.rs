//! The bars: what auditferry claims, measured. `make test` runs them small, `make bars` at the size
//! whose figures are quoted. One file a bar.

mod chaos;
mod faults;
mod hostile;
mod idle;
mod kill;
mod latency;
mod lifelike;
mod little_service;
mod memory;
mod outage;
mod pinned;
mod planted;
mod secrets;
mod whole;
