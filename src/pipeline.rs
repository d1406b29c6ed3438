//! What happens to a part of a blob between the source and the sinks, in order: read each record,
//! ask who still needs it, write its document if a sink wants one, sort it to the sinks. Does no IO
//! and cannot fail: a record that cannot be read goes on as an event that says so, and so does one at which a
//! fault of ours strikes (a panic is caught, and the others of its part do not hear of it).
//!
//! Comes in: a [`RawBatch`]. Goes out: one [`Delivery`] a sink.

mod guard;

use std::sync::Arc;

use crate::ack::Finalizer;
use crate::delivered::Delivered;
use crate::enrich::Enricher;
use crate::event::{Delivery, Docs, Event, EventMeta, Part};
use crate::failpoint;
use crate::feed::BlobId;
use crate::metrics::{Counter, Metrics};
use crate::normalize::{self, Context, Form, Scratch};
use crate::record::{Field, RecordKey, Span, UnreadableRecord, View, ViewBuffer};
use crate::route::{FeedRoute, Routes};
use crate::sink::{SinkId, SinkSet};
use crate::source::RawBatch;
use crate::unknown::{Sighting, Unknown};

use guard::{Faults, guarded};

/// Records handled together: enough to make locking the delivered map cheap, few enough that their views
/// stay small.
const STRIDE: usize = 128;

/// Sees every event on its way to the sinks; must be quick and must not block.
pub trait Observer: Send + Sync {
    fn event(&self, event: &Event<'_>);
}

/// The steps, and what they need to know. One for all workers.
pub struct Pipeline {
    routes: Arc<Routes>,
    /// What is added beside the record.
    enricher: Arc<Enricher>,
    /// Whether documents hold the record once more.
    original: bool,
    metrics: Arc<Metrics>,
    observer: Option<Arc<dyn Observer>>,
    /// What each sink with a condition did not want.
    filtered: Vec<(SinkId, Counter)>,
    /// What records have that no table knows.
    unknown: Arc<Unknown>,
}

impl Pipeline {
    /// `name` gives each sink's name.
    pub fn new(
        routes: Arc<Routes>,
        enricher: Arc<Enricher>,
        original: bool,
        metrics: Arc<Metrics>,
        observer: Option<Arc<dyn Observer>>,
        name: impl Fn(SinkId) -> String,
    ) -> Pipeline {
        let counter = |sink| (sink, metrics.sink_events.with_label_values(&[name(sink).as_str(), "filtered"]));
        let filtered = routes.conditional().map(counter).collect();
        for stage in guard::STAGES {
            metrics.faults.with_label_values(&[stage]);
        }
        let unknown = Unknown::new(&metrics);
        Pipeline { routes, enricher, original, metrics, observer, filtered, unknown }
    }

    /// Counts on where the pipeline before it is.
    pub fn going_on_from(self, before: &Pipeline) -> Pipeline {
        Pipeline { unknown: Arc::clone(&before.unknown), ..self }
    }

    /// What records had so far that no table knows.
    pub fn unknown(&self) -> &Unknown {
        &self.unknown
    }

    /// Takes a part through all steps. Records that no sink needs any more end here.
    pub fn process(&self, batch: RawBatch, delivered: &Delivered) -> Vec<(SinkId, Delivery)> {
        let RawBatch { blob, bytes, spans, ack, charge } = batch;
        let mut sorted = Sorted { events: Vec::with_capacity(spans.len()), ..Sorted::default() };
        let mut work = Work {
            pipeline: self,
            blob: &blob,
            bytes: &bytes,
            route: self.routes.of(&blob.feed),
            faults: Faults::default(),
            buffers: Vec::new(),
            sighting: Sighting::default(),
        };
        for stride in spans.chunks(STRIDE) {
            work.stride(stride, &ack, delivered, &mut sorted);
        }
        ack.release();
        work.faults.report(&blob, &self.metrics);
        self.unknown.note(work.sighting);
        let Sorted { docs, events, wanted, .. } = sorted;
        self.observe(&blob, &events);
        let mut part = Part { blob, raw: bytes, docs, events, charge };
        // The raw bytes were charged when they were read, and something for each record where those are tiny.
        part.charge.add(part.weight().saturating_sub(part.charge.bytes()));
        let part = Arc::new(part);
        if let Some(observer) = &self.observer {
            (0..part.events.len() as u32).for_each(|index| observer.event(&part.event(index)));
        }
        deliveries(&part, &wanted)
    }

    /// Counts what could not be read, and how long Microsoft took to make the others available.
    fn observe(&self, blob: &BlobId, events: &[EventMeta]) {
        let labels = [blob.feed.tenant.name.as_str(), blob.feed.content_type.as_str()];
        let latency = self.metrics.source_latency.with_label_values(&labels[1..]);
        for time_ms in events.iter().filter_map(|event| event.time_ms) {
            latency.observe((blob.created_ms - time_ms).max(0) as f64 / 1000.0);
        }
        let unreadable = events.iter().filter(|event| !event.readable).count();
        if unreadable > 0 {
            self.metrics.unreadable.with_label_values(&labels).inc_by(unreadable as u64);
        }
    }
}

/// A part while it is worked on.
struct Work<'a> {
    pipeline: &'a Pipeline,
    blob: &'a BlobId,
    bytes: &'a [u8],
    route: FeedRoute,
    faults: Faults,
    /// What the views of records that are done with have left, at most [`STRIDE`] of them.
    buffers: Vec<ViewBuffer>,
    sighting: Sighting,
}

impl<'a> Work<'a> {
    /// Reads, claims and writes some records.
    fn stride(&mut self, spans: &[Span], ack: &Finalizer, delivered: &Delivered, sorted: &mut Sorted) {
        let read = self.read_all(spans);
        for (sink, filtered) in &self.pipeline.filtered {
            filtered.inc_by(read.iter().filter(|read| !read.wanted.contains(*sink)).count() as u64);
        }
        let claims = read.iter().map(|read| (read.key, read.wanted, ack.share()));
        let sinks = delivered.claim_each(self.pipeline.routes.required(), claims);
        let (needed, done): (Vec<_>, Vec<_>) = read.into_iter().zip(sinks).partition(|(_, sinks)| !sinks.is_empty());
        for view in needed.iter().filter_map(|(read, _)| read.view.as_ref().ok()) {
            self.sighting.look(view);
        }
        self.write_all(&needed, sorted);
        let views = needed.into_iter().chain(done).filter_map(|(read, _)| read.view.ok());
        self.buffers.extend(views.map(View::into_buffer));
    }

    /// Reads all at once; only after a fault one by one, to find the record that it strikes at.
    fn read_all(&mut self, spans: &[Span]) -> Vec<Read<'a>> {
        let together = guarded(|| spans.iter().map(|span| self.read(span)).collect());
        together.unwrap_or_else(|_| spans.iter().map(|span| self.read_alone(span)).collect())
    }

    fn read_alone(&mut self, span: &Span) -> Read<'a> {
        guarded(|| self.read(span)).unwrap_or_else(|fault| {
            let reason = Unreadable::Fault(self.faults.note("read", fault));
            let key = RecordKey::of_bytes(&self.blob.feed.tenant.id, self.record(span));
            Read { key, span: span.clone(), wanted: self.route.possible(), view: Err(reason) }
        })
    }

    fn read(&mut self, span: &Span) -> Read<'a> {
        let (record, feed) = (self.record(span), &self.blob.feed);
        failpoint::panic_at("read", record);
        let (key, view) = match View::parse_in(record, self.buffers.pop().unwrap_or_default()) {
            Ok(view) => (RecordKey::of(&feed.tenant.id, &view), Ok(view)),
            Err(reason) => (RecordKey::of_bytes(&feed.tenant.id, record), Err(Unreadable::Record(reason))),
        };
        let wanted = self.pipeline.routes.wanted(feed, self.route, view.as_ref().ok());
        Read { key, span: span.clone(), wanted, view }
    }

    fn record(&self, span: &Span) -> &'a [u8] {
        &self.bytes[span.start as usize..span.end as usize]
    }

    /// Writes all at once; only after a fault one by one.
    fn write_all(&mut self, needed: &[(Read<'a>, SinkSet)], sorted: &mut Sorted) {
        let (docs, events) = (sorted.docs.len(), sorted.events.len());
        let together = guarded(|| {
            for (read, sinks) in needed {
                let meta = self.meta(read);
                sorted.push(meta, *sinks, |form, scratch, docs| self.document(read, *sinks, form, scratch, docs));
            }
        });
        if together.is_ok() {
            return;
        }
        sorted.cut(docs, events);
        for (read, sinks) in needed {
            self.write_alone(read, *sinks, sorted);
        }
    }

    /// Where the document cannot be written, a document that says so stands in for it; a sink that is sent
    /// the record as it came is still sent that.
    fn write_alone(&mut self, read: &Read<'a>, sinks: SinkSet, sorted: &mut Sorted) {
        let unread = EventMeta { key: read.key, raw: read.span.clone(), ..EventMeta::default() };
        let meta = guarded(|| self.meta(read)).unwrap_or_else(|fault| {
            self.faults.note("write", fault);
            unread
        });
        let (docs, events) = (sorted.docs.len(), sorted.events.len());
        let pushed = guarded(|| {
            sorted.push(meta.clone(), sinks, |form, scratch, docs| self.document(read, sinks, form, scratch, docs))
        });
        if let Err(fault) = pushed {
            sorted.cut(docs, events);
            let reason = self.faults.note("write", fault);
            sorted.push(meta, sinks, |form, _, docs| self.error_document(read, sinks, &reason, form, docs));
        }
    }

    fn meta(&self, read: &Read<'_>) -> EventMeta {
        let Read { key, span, .. } = read;
        let mut meta = EventMeta { key: *key, raw: span.clone(), ..EventMeta::default() };
        if let Ok(view) = &read.view {
            let place = |field| {
                let inside = view.span_of_string(field).unwrap_or(0..0);
                span.start + inside.start..span.start + inside.end
            };
            meta.readable = true;
            meta.time_ms = view.creation_time_ms();
            meta.id = place(Field::Id);
            meta.workload = place(Field::Workload);
            meta.operation = place(Field::Operation);
            if self.pipeline.routes.grades() {
                meta.severity = normalize::severity(view);
            }
        }
        meta
    }

    /// Appends the record in a form, where one of `sinks` is sent it in that.
    fn document(&self, read: &Read<'_>, sinks: SinkSet, form: Form, scratch: &mut Scratch, docs: &mut Vec<u8>) {
        match &read.view {
            Ok(_) if sinks.intersection(self.pipeline.routes.written(form)).is_empty() => {}
            Ok(view) => {
                failpoint::panic_at("write", self.record(&read.span));
                scratch.write(form, &self.context(), read.key, view, docs);
            }
            Err(Unreadable::Record(reason)) => self.error_document(read, sinks, &reason.to_string(), form, docs),
            Err(Unreadable::Fault(reason)) => self.error_document(read, sinks, reason, form, docs),
        }
    }

    /// What says that a record could not be read goes to every sink, in the form that it has.
    fn error_document(&self, read: &Read<'_>, sinks: SinkSet, reason: &str, form: Form, docs: &mut Vec<u8>) {
        if !sinks.intersection(self.pipeline.routes.of_form(form)).is_empty() {
            normalize::write_error(form, &self.context(), read.key, self.record(&read.span), reason, docs);
        }
    }

    fn context(&self) -> Context<'a> {
        let tenant = &self.blob.feed.tenant;
        Context {
            tenant_id: &tenant.id,
            tenant_name: &tenant.name,
            content_type: Some(self.blob.feed.content_type),
            received_ms: Some(self.blob.created_ms).filter(|created| *created > 0),
            original: self.pipeline.original,
            enrich: Some(&self.pipeline.enricher),
        }
    }
}

/// What the steps have made of a part so far.
#[derive(Default)]
struct Sorted {
    docs: Vec<u8>,
    events: Vec<EventMeta>,
    /// The sinks each event goes to.
    wanted: Vec<SinkSet>,
    /// What documents are made in.
    scratch: Scratch,
}

impl Sorted {
    fn push(
        &mut self,
        mut meta: EventMeta,
        sinks: SinkSet,
        mut document: impl FnMut(Form, &mut Scratch, &mut Vec<u8>),
    ) {
        let Sorted { docs, scratch, .. } = self;
        meta.docs = Docs::write(docs, |form, docs| document(form, scratch, docs));
        self.events.push(meta);
        self.wanted.push(sinks);
    }

    /// Takes back what a fault left half done.
    fn cut(&mut self, docs: usize, events: usize) {
        self.docs.truncate(docs);
        self.events.truncate(events);
        self.wanted.truncate(events);
    }
}

/// One record, read or not.
struct Read<'a> {
    key: RecordKey,
    span: Span,
    wanted: SinkSet,
    view: Result<View<'a>, Unreadable>,
}

enum Unreadable {
    /// It is no JSON object in UTF-8.
    Record(UnreadableRecord),
    /// Reading it panicked.
    Fault(String),
}

/// The events of a part by sink.
fn deliveries(part: &Arc<Part>, wanted: &[SinkSet]) -> Vec<(SinkId, Delivery)> {
    let all = wanted.iter().fold(SinkSet::EMPTY, |all, sinks| all.union(*sinks));
    let of = |sink: SinkId| {
        let events = (0u32..).zip(wanted).filter(|(_, sinks)| sinks.contains(sink)).map(|(index, _)| index).collect();
        (sink, Delivery { part: Arc::clone(part), events })
    };
    all.iter().map(of).collect()
}

#[cfg(test)]
mod tests;
