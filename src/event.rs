//! What a sink is shown: a part of a blob after the pipeline, and the events in it. A sink sees
//! bytes and a few plain facts; it never sees a record type.
//!
//! One allocation a part: the raw records stay in the buffer they were fetched into, the ECS
//! documents lie in one buffer beside it, an event is a handful of ranges into both.

use std::sync::Arc;

use bytes::Bytes;

use crate::budget::Charge;
use crate::feed::BlobId;
use crate::record::{RecordKey, Span};

/// What the pipeline knows of one event.
#[derive(Clone, Debug, Default)]
pub struct EventMeta {
    pub key: RecordKey,
    /// `CreationTime` in milliseconds since 1970 UTC, where the record has a readable one.
    pub time_ms: Option<i64>,
    /// The record, whole and verbatim, in the raw buffer.
    pub raw: Span,
    /// The ECS document in the document buffer; empty when no sink asked for one.
    pub doc: Span,
    /// The inside of the JSON string `Id` / `Workload` / `Operation` (still escaped), or empty.
    pub id: Span,
    pub workload: Span,
    pub operation: Span,
    /// False for a record that could not be read as a JSON object: `raw` is then any bytes, and a
    /// sink that embeds it as JSON must embed the pipeline-error document instead.
    pub readable: bool,
}

/// A part of a blob on its way to the sinks.
pub struct Part {
    pub blob: BlobId,
    pub raw: Bytes,
    pub docs: Vec<u8>,
    pub events: Vec<EventMeta>,
    /// The part's share of `collect.in_flight`, given back when the last sink lets the part go.
    pub charge: Charge,
}

impl Part {
    /// What a part costs beside its bytes, so that tiny ones are not free: the part itself, its deliveries and
    /// their places in queues.
    pub const OVERHEAD: usize = 1024;

    /// Bytes that are held as long as the part is.
    pub fn weight(&self) -> usize {
        self.raw.len() + self.docs.len() + self.events.len() * size_of::<EventMeta>() + Part::OVERHEAD
    }

    /// The event at `index` (must be below `self.events.len()`).
    pub fn event(&self, index: u32) -> Event<'_> {
        Event { part: self, meta: &self.events[index as usize], edited: None }
    }
}

/// One event, borrowed from its part.
#[derive(Clone, Copy)]
pub struct Event<'a> {
    pub part: &'a Part,
    pub meta: &'a EventMeta,
    /// What a sink is shown in place of the record and of its document.
    edited: Option<&'a [u8]>,
}

impl<'a> Event<'a> {
    /// The same event with `body` (one JSON object) in place of the record and of its document, so that a
    /// sink cannot send anything else whatever its format.
    pub fn edited<'b>(&self, body: &'b [u8]) -> Event<'b>
    where
        'a: 'b,
    {
        Event { part: self.part, meta: self.meta, edited: Some(body) }
    }

    fn raw_span(&self, span: &Span) -> &'a [u8] {
        &self.part.raw[span.start as usize..span.end as usize]
    }

    /// The record as Microsoft sent it. JSON when `meta.readable`.
    pub fn raw(&self) -> &'a [u8] {
        self.edited.unwrap_or_else(|| self.raw_span(&self.meta.raw))
    }

    /// The ECS document (one JSON object, no newline); for an unreadable record the pipeline-error
    /// document, which always exists.
    pub fn doc(&self) -> &'a [u8] {
        let doc = || &self.part.docs[self.meta.doc.start as usize..self.meta.doc.end as usize];
        self.edited.unwrap_or_else(doc)
    }

    /// The record's `Id`, JSON-escaped as sent; empty when it has none.
    pub fn id(&self) -> &'a [u8] {
        self.raw_span(&self.meta.id)
    }

    /// The record's `Workload`, JSON-escaped as sent; empty when it has none.
    pub fn workload(&self) -> &'a [u8] {
        self.raw_span(&self.meta.workload)
    }

    /// The record's `Operation`, JSON-escaped as sent; empty when it has none.
    pub fn operation(&self) -> &'a [u8] {
        self.raw_span(&self.meta.operation)
    }
}

/// What a driver is handed: some events of a part. The part is freed when the last delivery is done.
pub struct Delivery {
    pub part: Arc<Part>,
    /// Indices into `part.events`, ascending.
    pub events: Vec<u32>,
}
