//! Preset `sentinel`: Azure Monitor's Logs Ingestion API ("Logs Ingestion API in Azure Monitor"). Comes in: an event.
//! Goes out: one row for the stream of a data collection rule, its document under `Event` and what one filters by
//! beside it; docs/http.md has the stream's columns. `TimeGenerated` is the record's own time, and where it has none
//! the time at which it is written: a row without one is refused. Azure Monitor replaces one that is two days old or a
//! day ahead by the time of receipt ("Azure Monitor service limits", log ingestion), so `CreationTime` has it too.

use std::io::Write;

use crate::clock::world_ms;
use crate::escape::escape;
use crate::event::Event;

/// Appends the row.
pub(super) fn push(event: &Event<'_>, document: &[u8], out: &mut Vec<u8>) {
    let time_ms = event.meta.time_ms.unwrap_or_else(world_ms);
    let time = jiff::Timestamp::from_millisecond(time_ms).unwrap_or_default();
    // Writing to memory cannot fail.
    let _ = write!(out, "{{\"TimeGenerated\":\"{time:.3}\",\"Key\":\"");
    out.extend_from_slice(&event.meta.key.to_hex());
    let feed = &event.part.blob.feed;
    let (mut tenant, mut tenant_id) = (Vec::new(), Vec::new());
    escape(&feed.tenant.name, &mut tenant);
    escape(&feed.tenant.id, &mut tenant_id);
    // Those of the event are the inside of a JSON string as Microsoft sent it.
    let columns: [(&str, &[u8]); 6] = [
        ("Tenant", &tenant),
        // `TenantId` is a column that Azure Monitor keeps for itself.
        ("DirectoryId", &tenant_id),
        ("ContentType", feed.content_type.as_str().as_bytes()),
        ("Workload", event.workload()),
        ("Operation", event.operation()),
        ("RecordId", event.id()),
    ];
    for (name, value) in columns {
        let _ = write!(out, "\",\"{name}\":\"");
        out.extend_from_slice(value);
    }
    out.push(b'"');
    if event.meta.time_ms.is_some() {
        let _ = write!(out, ",\"CreationTime\":\"{time:.3}\"");
    }
    out.extend_from_slice(b",\"Event\":");
    out.extend_from_slice(document);
    out.push(b'}');
}
