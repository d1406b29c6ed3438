//! The bars: what auditferry claims, measured. `make test` runs them small, `make bars` at the size
//! whose figures are quoted. One file a bar.

mod faults;
mod kill;
mod hostile;
mod little_service;
mod pinned;
mod secrets;
mod idle;
mod latency;
mod memory;
mod planted;
mod whole;
