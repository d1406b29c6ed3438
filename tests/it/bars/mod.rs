//! The bars: what auditferry claims, measured. `make test` runs them small, `make bars` at the size
//! whose figures are quoted. One file a bar.

mod planted;
mod whole;
