//! The steps on parts of a few records: who gets what, what becomes of a fault of ours, what is counted.

use std::sync::Mutex;

use bytes::Bytes;

use super::*;
use crate::ack::Settlement;
use crate::budget::Budget;
use crate::config::{Config, load_str};
use crate::feed::{ContentType, Feed, Tenant};
use crate::normalize::Profile;

const A: SinkId = SinkId(0);
const B: SinkId = SinkId(1);
const ECS: Form = Form::Ecs(Profile::Auditferry);

/// The pipeline of two sinks, `a` (raw) and `b` (ecs), with these further keys each.
fn pipeline(a: &str, b: &str) -> Pipeline {
    let text = format!(
        "tenants: [{{name: contoso, tenant_id: 00000000-0000-4000-8000-00000000000a, client_id: 00000000-0000-4000-8000-00000000000b, auth: {{client_secret: x}}}}]\n\
         sinks:\n  - {{name: a, type: file, path: /tmp/a, format: raw{a}}}\n  - {{name: b, type: stdout, format: ecs{b}}}\n"
    );
    pipeline_of(&text)
}

fn pipeline_of(text: &str) -> Pipeline {
    let config: Config = load_str("c.yaml", text).unwrap_or_else(|faults| panic!("{faults}"));
    let mut routes = Routes::default();
    for (id, sink) in (0..).map(SinkId).zip(&config.sinks) {
        routes.add(id, sink);
    }
    let name = |id: SinkId| config.sinks[usize::from(id.0)].name.clone();
    Pipeline::new(Arc::new(routes), crate::enrich::Enricher::none(), false, Metrics::new(), None, name)
}

struct Went {
    deliveries: Vec<(SinkId, Delivery)>,
    settlement: Arc<Mutex<Option<Settlement>>>,
    delivered: Delivered,
}

impl Went {
    /// What a sink is sent, as raw bytes where it can be read and its document otherwise.
    fn to(&self, sink: SinkId) -> Vec<String> {
        let of = self.deliveries.iter().filter(|(to, _)| *to == sink);
        let events = of.flat_map(|(_, delivery)| delivery.events.iter().map(|index| delivery.part.event(*index)));
        let bytes = events.map(|event| if sink == A && event.meta.readable { event.raw() } else { event.doc(ECS) });
        bytes.map(|bytes| String::from_utf8(bytes.to_vec()).unwrap()).collect()
    }

    /// All sinks take all they are sent.
    fn take(&self) -> Option<Settlement> {
        for (sink, delivery) in &self.deliveries {
            let keys: Vec<_> = delivery.part.events.iter().map(|meta| meta.key).collect();
            let keys: Vec<_> = delivery.events.iter().map(|index| keys[*index as usize]).collect();
            self.delivered.resolve(*sink, crate::ack::Outcome::Delivered, &keys);
        }
        *self.settlement.lock().unwrap()
    }
}

fn process(pipeline: &Pipeline, records: &[&str]) -> Went {
    let mut raw = Vec::new();
    let mut spans = Vec::new();
    for record in records {
        let start = raw.len() as u32;
        raw.extend_from_slice(record.as_bytes());
        spans.push(start..raw.len() as u32);
        raw.push(b',');
    }
    let settlement = Arc::new(Mutex::new(None));
    let heard = Arc::clone(&settlement);
    let ack = Finalizer::new(move |counts| *heard.lock().unwrap() = Some(counts));
    let tenant = Arc::new(Tenant { name: "contoso".into(), id: "a".into(), domains: Vec::new() });
    let feed = Feed { tenant, content_type: ContentType::Exchange };
    let blob = BlobId { feed, content_id: Arc::from("blob-1"), created_ms: 1_000_000 };
    let charge = Budget::new(1 << 20).charge(&Arc::from("a"), ContentType::Exchange);
    let delivered = Delivered::new(&pipeline.metrics);
    let batch = RawBatch { blob, bytes: Bytes::from(raw), spans, ack, charge };
    let deliveries = pipeline.process(batch, &delivered);
    Went { deliveries, settlement, delivered }
}

const LOGIN: &str = r#"{"Id":"1","Operation":"UserLoggedIn","Workload":"AzureActiveDirectory","RecordType":15}"#;
const MAIL: &str = r#"{"Id":"2","Operation":"Send","Workload":"Exchange","RecordType":2}"#;

fn filtered(pipeline: &Pipeline, sink: &str) -> u64 {
    pipeline.metrics.sink_events.with_label_values(&[sink, "filtered"]).get()
}

#[test]
fn a_sink_with_a_condition_gets_what_it_wants_and_the_rest_is_counted() {
    let pipeline = pipeline(", when: {workload: exchange}", ", when: {operation: {prefix: UserLog}}");
    let went = process(
        &pipeline,
        &[LOGIN, MAIL, r#"{"Id":"3","Operation":"FileAccessed","Workload":"SharePoint"}"#, "nonsense"],
    );
    assert_eq!(went.to(A).len(), 2, "the mail and what nobody could read");
    assert_eq!(went.to(A)[0], MAIL);
    assert!(went.to(B)[0].contains("UserLoggedIn") && went.to(B)[1].contains("pipeline_error"));
    assert_eq!((filtered(&pipeline, "a"), filtered(&pipeline, "b")), (2, 2));
    let settlement = went.take().expect("everything is done");
    assert_eq!((settlement.delivered, settlement.filtered, settlement.lost), (3, 1, 0));
}

#[test]
fn a_document_is_written_only_for_a_sink_that_is_sent_it() {
    let pipeline = pipeline("", ", when: {workload: Exchange}");
    let went = process(&pipeline, &[LOGIN, MAIL]);
    let part = &went.deliveries[0].1.part;
    let docs: Vec<bool> = part.events.iter().map(|meta| meta.docs.is_empty()).collect();
    assert_eq!(docs, [true, false]);
}

#[test]
fn each_sink_has_its_form_of_a_record_and_of_what_is_none() {
    let head = "tenants: [{name: contoso, tenant_id: 00000000-0000-4000-8000-00000000000a, client_id: 00000000-0000-4000-8000-00000000000b, auth: {client_secret: x}}]\nnormalize: {ecs_profile: elastic}\nsinks:\n";
    let sinks = ["format: raw", "format: ecs", "format: ecs, ecs_profile: auditferry", "format: cef", "format: leef"];
    let sink = |(n, keys): (usize, &&str)| format!("  - {{name: s{n}, type: file, path: /tmp/{n}, {keys}}}\n");
    let sinks: String = sinks.iter().enumerate().map(sink).collect();
    let went = process(&pipeline_of(&format!("{head}{sinks}")), &[LOGIN, "nonsense"]);
    let part = &went.deliveries[0].1.part;
    let elastic = Form::Ecs(Profile::Elastic);
    let starts = |index: u32, form: Form, start: &str| {
        let doc = String::from_utf8(part.event(index).doc(form).to_vec()).unwrap();
        assert!(doc.contains(start), "{doc}");
    };
    starts(0, elastic, "\"ecs\":{\"version\":\"8.11.0\"}");
    starts(0, ECS, "\"ecs\":{\"version\":\"8.17.0\"}");
    starts(0, Form::Cef, "CEF:0|Microsoft|Office 365|");
    starts(0, Form::Leef, "LEEF:2.0|Microsoft|Office 365|");
    starts(1, elastic, "\"kind\":\"pipeline_error\"");
    starts(1, Form::Cef, "CEF:0|auditferry|auditferry|");
    starts(1, Form::Leef, "LEEF:2.0|auditferry|auditferry|");
    assert_eq!(went.take().map(|settlement| (settlement.delivered, settlement.lost)), Some((2, 0)));
}

#[test]
fn what_no_sink_has_is_not_written_and_what_is_sent_as_it_came_only_where_it_cannot_be_read() {
    let pipeline = pipeline(", when: {workload: Exchange}", "");
    let went = process(&pipeline, &[LOGIN, MAIL, "nonsense"]);
    let part = &went.deliveries[0].1.part;
    for form in [Form::Ecs(Profile::Elastic), Form::Cef, Form::Leef] {
        assert!((0..3).all(|index| part.event(index).doc(form).is_empty()), "{form:?}");
    }
    assert!((0..3).all(|index| !part.event(index).doc(ECS).is_empty()));
}

#[cfg(feature = "failpoints")]
#[test]
fn a_panic_while_reading_costs_no_record_and_none_of_its_neighbours() {
    let pipeline = pipeline("", "");
    let bad = r#"{"Id":"9","Note":"auditferry-panics-at-read"}"#;
    let went = process(&pipeline, &[LOGIN, bad, MAIL]);
    let (raw, ecs) = (went.to(A), went.to(B));
    assert_eq!((raw[0].as_str(), raw[2].as_str()), (LOGIN, MAIL));
    for said in [&raw[1], &ecs[1]] {
        assert!(said.contains("\"kind\":\"pipeline_error\"") && said.contains("auditferry-panics-at-read"), "{said}");
    }
    assert!(ecs[0].contains("UserLoggedIn") && ecs[2].contains("\"Send\""));
    let settlement = went.take().expect("everything is done");
    assert_eq!((settlement.delivered, settlement.lost), (3, 0));
    assert_eq!(pipeline.metrics.faults.with_label_values(&["read"]).get(), 1);
}

#[cfg(feature = "failpoints")]
#[test]
fn a_panic_while_writing_a_document_leaves_the_raw_record_as_it_is() {
    let pipeline = pipeline("", "");
    let bad = r#"{"Id":"9","Note":"auditferry-panics-at-write"}"#;
    let went = process(&pipeline, &[LOGIN, bad, MAIL]);
    let (raw, ecs) = (went.to(A), went.to(B));
    assert_eq!(raw, [LOGIN, bad, MAIL]);
    assert!(ecs[1].contains("\"kind\":\"pipeline_error\"") && ecs[1].contains("stage write"), "{}", ecs[1]);
    assert!(ecs[0].contains("UserLoggedIn") && ecs[2].contains("\"Send\""));
    assert_eq!(went.take().map(|settlement| settlement.lost), Some(0));
    assert_eq!(pipeline.metrics.faults.with_label_values(&["write"]).get(), 1);
}
