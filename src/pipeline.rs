//! What happens to a part of a blob between the source and the sinks, in order: read each record,
//! ask who still needs it, write its document if a sink wants one, sort it to the sinks. Does no IO
//! and cannot fail: a record that cannot be read goes on as an event that says so.
//!
//! Comes in: a [`RawBatch`]. Goes out: one [`Delivery`] a sink.

use std::sync::Arc;

use crate::ack::Finalizer;
use crate::delivered::Delivered;
use crate::event::{Delivery, Event, EventMeta, Part};
use crate::feed::BlobId;
use crate::metrics::Metrics;
use crate::normalize::{self, Context};
use crate::record::{Field, RecordKey, Span, UnreadableRecord, View, ViewBuffer};
use crate::route::Routes;
use crate::sink::{SinkId, SinkSet};
use crate::source::RawBatch;

/// Records handled together: enough to make locking the delivered map cheap, few enough that their views
/// stay small.
const STRIDE: usize = 128;

/// Sees every event on its way to the sinks; must be quick and must not block.
pub trait Observer: Send + Sync {
    fn event(&self, event: &Event<'_>);
}

/// The steps, and what they need to know. One for all workers.
pub struct Pipeline {
    pub routes: Routes,
    pub metrics: Arc<Metrics>,
    pub observer: Option<Arc<dyn Observer>>,
}

impl Pipeline {
    /// Takes a part through all steps. Records that no sink needs any more end here.
    pub fn process(&self, batch: RawBatch, delivered: &Delivered) -> Vec<(SinkId, Delivery)> {
        let RawBatch { blob, bytes, spans, ack, mut charge, .. } = batch;
        let mut sorted = Sorted { docs: Vec::new(), events: Vec::with_capacity(spans.len()), wanted: Vec::new() };
        for stride in spans.chunks(STRIDE) {
            self.stride(&blob, &bytes, stride, &ack, delivered, &mut sorted);
        }
        ack.release();
        let Sorted { docs, events, wanted } = sorted;
        charge.add(docs.len());
        let part = Arc::new(Part { blob, raw: bytes, docs, events, charge });
        if let Some(observer) = &self.observer {
            (0..part.events.len() as u32).for_each(|index| observer.event(&part.event(index)));
        }
        deliveries(&part, &wanted)
    }

    /// Reads, claims and writes some records.
    fn stride(
        &self,
        blob: &BlobId,
        bytes: &[u8],
        spans: &[Span],
        ack: &Finalizer,
        delivered: &Delivered,
        sorted: &mut Sorted,
    ) {
        let read: Vec<Read<'_>> = spans.iter().map(|span| Read::of(blob, bytes, span)).collect();
        let claims = read.iter().map(|read| (read.key, ack.share()));
        let sinks = delivered.claim(self.routes.wanted, self.routes.required, claims);
        for (read, sinks) in read.into_iter().zip(sinks) {
            if !sinks.is_empty() {
                let meta = self.write(blob, &read, &mut sorted.docs);
                sorted.events.push(meta);
                sorted.wanted.push(sinks);
            }
        }
    }

    fn write(&self, blob: &BlobId, read: &Read<'_>, docs: &mut Vec<u8>) -> EventMeta {
        let Read { key, span, view } = read;
        let start = docs.len() as u32;
        let tenant = &blob.feed.tenant;
        let context = Context {
            tenant_id: &tenant.id,
            tenant_name: &tenant.name,
            content_type: Some(blob.feed.content_type),
            received_ms: Some(blob.created_ms).filter(|created| *created > 0),
        };
        let mut meta = EventMeta { key: *key, raw: span.clone(), ..EventMeta::default() };
        match view {
            Ok(view) => {
                let place = |field| {
                    let inside = view.span_of_string(field).unwrap_or(0..0);
                    span.start + inside.start..span.start + inside.end
                };
                meta.readable = true;
                meta.time_ms = view.creation_time_ms();
                meta.id = place(Field::Id);
                meta.workload = place(Field::Workload);
                meta.operation = place(Field::Operation);
                if self.routes.needs_ecs {
                    normalize::document(&context, *key, view, docs);
                }
                self.observe_latency(blob, meta.time_ms);
            }
            Err(unreadable) => {
                normalize::pipeline_error(&context, *key, unreadable.record, &unreadable.reason.to_string(), docs);
                let labels = [tenant.name.as_str(), blob.feed.content_type.as_str()];
                self.metrics.unreadable.with_label_values(&labels).inc();
            }
        }
        meta.doc = start..docs.len() as u32;
        meta
    }

    /// How long Microsoft took to make the record available.
    fn observe_latency(&self, blob: &BlobId, time_ms: Option<i64>) {
        if let Some(time_ms) = time_ms {
            let seconds = (blob.created_ms - time_ms).max(0) as f64 / 1000.0;
            self.metrics.source_latency.with_label_values(&[blob.feed.content_type.as_str()]).observe(seconds);
        }
    }
}

/// What the steps have made of a part so far.
struct Sorted {
    docs: Vec<u8>,
    events: Vec<EventMeta>,
    /// The sinks each event goes to.
    wanted: Vec<SinkSet>,
}

/// One record, read or not.
struct Read<'a> {
    key: RecordKey,
    span: Span,
    view: Result<View<'a>, Unreadable<'a>>,
}

struct Unreadable<'a> {
    record: &'a [u8],
    reason: UnreadableRecord,
}

impl<'a> Read<'a> {
    fn of(blob: &BlobId, bytes: &'a [u8], span: &Span) -> Read<'a> {
        let record = &bytes[span.start as usize..span.end as usize];
        let tenant_id = &blob.feed.tenant.id;
        match View::parse_in(record, ViewBuffer::default()) {
            Ok(view) => Read { key: RecordKey::of(tenant_id, &view), span: span.clone(), view: Ok(view) },
            Err(reason) => Read {
                key: RecordKey::of_bytes(tenant_id, record),
                span: span.clone(),
                view: Err(Unreadable { record, reason }),
            },
        }
    }
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
