//! What Microsoft sends: where one record ends and the next begins ([`split`]), a borrowed view of
//! its fields ([`view`]), the table of record types ([`types`]), addresses ([`address`]), and the
//! key by which a record is known ([`key`]).
//!
//! Comes in: bytes of a content blob. Goes out: spans and borrowed views. Nothing here allocates per
//! field, does IO, or re-serialises a record.

mod key;
pub mod salvage;
pub mod split;

pub use key::RecordKey;
