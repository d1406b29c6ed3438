//! The bars: what auditferry claims, measured. `make test` runs them small, `make bars` at the size
//! whose figures are quoted. One file a bar.

mod corruption;
mod faults;
mod hostile;
mod idle;
mod kill;
mod latency;
mod little_service;
mod memory;
mod pinned;
mod planted;
mod power;
mod secrets;
mod whole;
