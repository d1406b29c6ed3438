//! What a sink is shown: a part of a blob after the pipeline, and the events in it. A sink sees
//! bytes and a few plain facts; it never sees a record type.
//!
//! One allocation a part: the raw records stay in the buffer they were fetched into, what they are written
//! as lies in one buffer beside it, an event is a handful of ranges into both.

use std::sync::Arc;

use bytes::Bytes;

use crate::budget::{Budget, Charge};
use crate::feed::BlobId;
use crate::normalize::Form;
use crate::record::{RecordKey, Span};

/// What the pipeline knows of one event.
#[derive(Clone, Debug, Default)]
pub struct EventMeta {
    pub key: RecordKey,
    /// `CreationTime` in milliseconds since 1970 UTC, where the record has a readable one.
    pub time_ms: Option<i64>,
    /// The record, whole and verbatim, in the raw buffer.
    pub raw: Span,
    /// What the record is written as, in the document buffer.
    pub docs: Docs,
    /// The inside of the JSON string `Id` / `Workload` / `Operation` (still escaped), or empty.
    pub id: Span,
    pub workload: Span,
    pub operation: Span,
    /// How grave it is, 1 to 10 as CEF counts; 0 where no sink asked, and where it could not be read.
    pub severity: u8,
    /// False for a record that could not be read as a JSON object: `raw` is then any bytes, and a
    /// sink that embeds it as JSON must embed the pipeline-error document instead.
    pub readable: bool,
}

/// Where the forms of one event lie in its part's document buffer, one behind the other; a form that no sink asked
/// for is empty.
#[derive(Clone, Copy, Debug, Default)]
pub struct Docs {
    from: u32,
    ends: [u32; Form::COUNT],
}

impl Docs {
    /// Writes the forms, in their order, behind what stands in `docs`; `write` appends one, or nothing.
    pub fn write(docs: &mut Vec<u8>, mut write: impl FnMut(Form, &mut Vec<u8>)) -> Docs {
        let from = docs.len() as u32;
        let ends = Form::ALL.map(|form| {
            write(form, docs);
            docs.len() as u32
        });
        Docs { from, ends }
    }

    pub fn of(&self, form: Form) -> Span {
        let place = form.place();
        let from = place.checked_sub(1).map_or(self.from, |before| self.ends[before]);
        from..self.ends[place]
    }

    /// Bytes of all forms together.
    pub fn len(&self) -> usize {
        (self.ends[Form::COUNT - 1] - self.from) as usize
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
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

    /// A part whose bytes are counted elsewhere.
    pub fn bare(blob: BlobId, raw: Bytes, docs: Vec<u8>, events: Vec<EventMeta>) -> Part {
        let charge = Budget::new(0).charge(&Arc::from(blob.feed.tenant.name.as_str()), blob.feed.content_type);
        Part { blob, raw, docs, events, charge }
    }

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

    /// The record in a form that a sink of the event has (one line, no newline); of an unreadable record what says
    /// so, which exists in the form of each of its sinks, those that are sent records as they came too.
    pub fn doc(&self, form: Form) -> &'a [u8] {
        let span = self.meta.docs.of(form);
        let doc = || &self.part.docs[span.start as usize..span.end as usize];
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
