//! Record to ECS document, pure: no IO, no state, cannot fail.
//!
//! Comes in: a [`View`] of one record and where it came from. Goes out: one JSON object on one line,
//! appended to the caller's buffer. [`base`] finds the facts every record shares, one file a family
//! adds its own, [`document`](mod@document) writes them; everything without a place in ECS goes out verbatim
//! under `o365.audit`. What the record does not say is not written. Mapping: ecs-mapping, section 1,
//! and docs of ECS 8.17; where we leave Elastic's habits the comment says why.

mod base;
mod document;
mod draft;
pub mod hec;
mod json;
mod name_value;
mod pipeline_error;

use std::net::IpAddr;

use crate::feed::ContentType;
use crate::record::{Field, RecordKey, View, address, types};

use draft::Draft;
pub use draft::Outcome;

/// Where a record came from.
#[derive(Clone, Copy, Debug, Default)]
pub struct Context<'a> {
    /// Directory id of the feed, lower-case GUID; empty if not known.
    pub tenant_id: &'a str,
    /// The configured name, for `organization.name`; empty if not known.
    pub tenant_name: &'a str,
    pub content_type: Option<ContentType>,
    /// When the record reached us, milliseconds since 1970 UTC. ECS has this as `@timestamp` of what
    /// carries no time of its own; `None` leaves it out.
    pub received_ms: Option<i64>,
}

/// Appends the ECS document of a record: one JSON object, no newline.
pub fn document(context: &Context<'_>, key: RecordKey, view: &View<'_>, out: &mut Vec<u8>) {
    let mut draft = Draft::default();
    base::describe(view, &mut draft);
    describe_family(&mut draft);
    document::write(context, key, view, &draft, out);
}

/// Appends the document of something that is no readable record: whole, as a string. `record` is any bytes.
pub fn pipeline_error(context: &Context<'_>, key: RecordKey, record: &[u8], reason: &str, out: &mut Vec<u8>) {
    pipeline_error::write(context, key, record, reason, out);
}

/// Appends a readable record as it was sent, on one line: white space between tokens that would break
/// the line becomes blanks.
pub fn raw(view: &View<'_>, out: &mut Vec<u8>) {
    json::one_line(view.record().trim_ascii(), out);
}

/// What `event.outcome` of the record's document says, without writing one.
pub fn outcome(view: &View<'_>) -> Option<Outcome> {
    base::outcome(base::said(view, Field::ResultStatus), base::said(view, Field::Operation))
}

/// What `source.ip` of the record's document says, without writing one.
pub fn source_ip(view: &View<'_>) -> Option<IpAddr> {
    address::best(base::addresses(view))?.ip
}

/// Where a family adds its facts: one arm, one file.
#[expect(clippy::single_match, reason = "every family becomes an arm")]
fn describe_family(draft: &mut Draft<'_>) {
    match draft.record_type {
        Some(types::SECURITY_COMPLIANCE_ALERTS) => draft.kind = "alert",
        _ => {}
    }
}

#[cfg(test)]
mod tests;
