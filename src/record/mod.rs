//! What Microsoft sends: where one record ends and the next begins (`split`), a borrowed view of
//! its fields ([`view`]), the table of record types ([`types`]), addresses ([`address`]), times
//! ([`instant`]), and the key by which a record is known ([`RecordKey`]).
//!
//! Comes in: bytes of a content blob. Goes out: spans and borrowed views. Nothing here allocates per
//! field, does IO, or re-serialises a record.

pub mod address;
pub mod field;
pub mod instant;
mod key;
mod oddity;
pub mod salvage;
pub mod scan;
pub mod split;
pub mod text;
pub mod types;
pub mod view;

pub use field::{Field, FieldSet};
pub use key::RecordKey;
pub use view::{UnreadableRecord, View, ViewBuffer};

/// Where something lies in a buffer of at most 4 GiB (a part is about 1 MiB, a record at most `collect.max_record`).
pub type Span = std::ops::Range<u32>;
