//! The Management Activity API, served from a seed: a world of tenants whose records, blobs and faults
//! are the same for the same seed, over real HTTP, with a clock that may run fast, and books in which
//! everything served, refused and done wrong is written.
//!
//! It is the judge of everything else and shares nothing with it but the clock: what it knows of the
//! service comes from the reference (activity-api 1, 4, 5), never from the code under test.
//!
//! ```text
//! settings ─▶ world (blobs as index ranges) ─▶ listing, download ─▶ server
//!                 ▲            records/ (bytes on demand)   ▲
//!              chance                                     faults, ledger ─▶ report, truth
//! ```

mod api;
mod blobs;
mod chance;
mod download;
mod faults;
mod forged;
mod handle;
mod ledger;
mod line;
mod listing;
mod login;
mod quota;
mod records;
mod report;
mod server;
mod service;
mod settings;
mod stamp;
mod subscriptions;
mod token;
mod truth;
mod world;
mod worlds;

#[cfg(test)]
mod tests;

pub use faults::{SCENARIOS, Scenario};
pub use forged::FORGED_FORMS;
pub use handle::{SimulatorHandle, serve};
pub use login::{FederatedCredential, IssuerKey, ManagedIdentity, RegisteredCertificate};
pub use report::{Fetches, Forged, Report, UnreachableBlob, UnreachableRecord, Violation};

pub use service::{Simulator, TenantAccess};
pub use settings::{ContentType, Identity, Protocol, WorldConfig};
pub use truth::{Truth, TruthRecord};
pub use world::World;
pub use worlds::WORLDS;
