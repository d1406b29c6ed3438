//! Parts for the sinks' own tests.

use std::sync::Arc;

use bytes::Bytes;

use crate::budget::Budget;
use crate::event::{Docs, EventMeta, Part};
use crate::feed::{BlobId, ContentType, Feed, Tenant};
use crate::normalize::Form;
use crate::record::RecordKey;
use crate::record::Span;

pub(crate) const RECORD: &str = "{\"Id\":\"id-1\",\r\n\"Workload\":\"Exchange\",\"Operation\":\"New-\\\"Rule\\\"\"}";

/// A part of tenant `con"toso` with these records; what does not begin with a brace is unreadable.
pub(crate) fn part(records: &[&str]) -> Arc<Part> {
    let (mut raw, mut docs, mut events) = (Vec::new(), Vec::new(), Vec::new());
    for (n, record) in records.iter().enumerate() {
        let base = raw.len();
        let inside = |name: &str| -> Span {
            let Some(at) = record.find(&format!("\"{name}\":\"")) else { return Span::default() };
            let start = at + name.len() + 4;
            let bytes = record.as_bytes();
            let end = (start..bytes.len()).find(|i| bytes[*i] == b'"' && bytes[i - 1] != b'\\').unwrap();
            (base + start) as u32..(base + end) as u32
        };
        let (id, workload, operation) = (inside("Id"), inside("Workload"), inside("Operation"));
        raw.extend_from_slice(record.as_bytes());
        let forms = Docs::write(&mut docs, |form, docs| {
            if form != Form::Leef {
                docs.extend_from_slice(format!("{{\"doc\":{}}}", n + 10 * form.place()).as_bytes());
            }
        });
        let mut key = [0; 16];
        key.copy_from_slice(&blake3::hash(record.as_bytes()).as_bytes()[..16]);
        events.push(EventMeta {
            key: RecordKey(key),
            time_ms: Some(1_700_000_000_007 + n as i64),
            raw: base as u32..raw.len() as u32,
            docs: forms,
            id,
            workload,
            operation,
            severity: 0,
            readable: record.starts_with('{'),
        });
    }
    let tenant = Arc::new(Tenant { name: "con\"toso".into(), id: "6f1c".into(), domains: Vec::new() });
    let feed = Feed { tenant, content_type: ContentType::Exchange };
    let charge = Budget::new(1 << 20).charge(&Arc::from("t"), ContentType::Exchange);
    Arc::new(Part {
        blob: BlobId { feed, content_id: Arc::from("blob-1"), created_ms: 0 },
        raw: Bytes::from(raw),
        docs,
        events,
        charge,
    })
}
