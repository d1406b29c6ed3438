#![cfg_attr(
    test,
    allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, clippy::print_stderr)
)]
//! auditferry carries Microsoft 365 audit records from the Office 365 Management Activity API
//! into the SIEM that a security team already runs, and keeps a ledger that shows nothing was lost.
//!
//! ```text
//!             forward lane: data                                  bounded by bytes = backpressure
//!  source ──RawBatch──▶ [ split ─▶ dedupe ─▶ normalize ─▶ route ] ──Delivery──▶ sink drivers ──▶ HEC, file, …
//!    ▲                        pipeline: no IO, cannot fail                        │
//!    └──── journal, ledger ◀───── (blob, part, sink, outcome) ◀────── ack ◀───────┘
//!             return lane: one small message type
//! ```
//!
//! The modules below stand in the order of the flow. ARCHITECTURE.md has the map and the invariants.

pub mod config;

pub mod ack;
pub mod app;
pub mod delivered;
pub mod edit;
pub mod enrich;
pub mod event;
pub mod normalize;
pub mod pipeline;
pub mod record;
pub mod replay;
pub mod route;
pub mod sink;
pub mod source;
pub mod state;
pub mod unknown;

pub mod simulator;

pub mod admin;
pub mod advice;
pub mod budget;
pub mod clock;
pub mod disk;
pub mod escape;
pub mod failpoint;
pub mod feed;
#[cfg(feature = "failpoints")]
#[doc(hidden)]
pub mod fuzzing;
pub mod http;
pub mod memory;
pub mod metrics;
pub mod retry;
pub mod secret;

pub mod cli;
