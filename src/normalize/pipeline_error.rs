//! The document of something that is no readable record.
//!
//! Comes in: any bytes and why they could not be read. Goes out: one JSON object on one line with all
//! of them in it, so that nothing is lost: as a string and, where they are not UTF-8, also as base64.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::record::RecordKey;

use super::{Context, document, json};

/// Appends the document.
pub fn write(context: &Context<'_>, key: RecordKey, record: &[u8], reason: &str, out: &mut Vec<u8>) {
    document::write_head(context.received_ms, "pipeline_error", super::Profile::default().ecs_version(), out);
    let text = String::from_utf8_lossy(record);
    json::text("original", &text, out);
    json::close(out);
    json::open("error", out);
    json::text("message", reason, out);
    json::close(out);
    if !context.tenant_id.is_empty() || !context.tenant_name.is_empty() {
        json::open("organization", out);
        for (name, value) in [("id", context.tenant_id), ("name", context.tenant_name)] {
            if !value.is_empty() {
                json::text(name, value, out);
            }
        }
        json::close(out);
    }
    document::write_own(context, key, out);
    if std::str::from_utf8(record).is_err() {
        json::escaped("original_base64", &STANDARD.encode(record), out);
    }
    json::end(b'}', out);
    json::end(b'}', out);
}
