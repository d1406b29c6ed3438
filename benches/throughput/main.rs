//! What is claimed about speed, as ratios within one run on one machine (docs: "Speed and size").
//!
//! Comes in: the simulator's records, the same in every run. Goes out: a table. The first two rows
//! check that both sides do the same work, then time them in turn, in CPU time of this thread, and give
//! the median; the third measures the whole process from outside (process.rs); the others race sinks against the
//! simplest senders into real servers (senders.rs). Run it with `make bench`, or one row with its name
//! (`cargo bench -- kafka`). Never a test: nothing here passes or fails by a time.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, clippy::print_stderr)]

mod corpus;
mod families;
mod process;
mod senders;
mod shares;
mod tree;

#[path = "../../tests/real/mod.rs"]
#[allow(dead_code, reason = "not every server is raced against")]
mod real;
#[path = "../../tests/fake/token.rs"]
#[allow(dead_code, reason = "a broker of the tests believes tokens, which nobody asks for here")]
mod token;

use std::collections::{BTreeMap, BTreeSet};
use std::hint::black_box;
use std::io::Write as _;
use std::sync::Arc;

use auditferry::enrich::Enricher;
use auditferry::feed::ContentType;
use auditferry::metrics::Metrics;
use auditferry::normalize::{Context, Profile, Scratch, hec};
use auditferry::record::{RecordKey, View, ViewBuffer};
use flate2::Compression;
use flate2::write::GzEncoder;
use rustix::time::{ClockId, clock_gettime};
use serde_json::Value;

const BLOBS: usize = 20;
const RECORDS: usize = 500;
const ROUNDS: usize = 9;
/// Bytes of a body before it is compressed.
const BODY: usize = 1024 * 1024;

/// Of both sides; ours with an enricher besides.
pub const CONTEXT: Context<'static> = Context {
    tenant_id: corpus::TENANT,
    tenant_name: "northwind",
    content_type: Some(ContentType::General),
    received_ms: None,
    original: false,
    enrich: None,
};

fn main() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let blobs = corpus::blobs(&runtime, BLOBS, RECORDS);
    let bytes: usize = blobs.iter().map(String::len).sum();
    let records = BLOBS * RECORDS;
    println!(
        "rows 1, 2: {records} records in {BLOBS} blobs, {} bytes a record; CPU time of one thread",
        bytes / records
    );
    println!("           row 1: higher is better, aim >= 6 x less; row 2: lower is better, aim <= 1.7 x");
    println!("row 3:     the release binary, HTTP and gzip in and out; CPU time of its whole process, lower is better");
    println!("rows 4 to 6: wall-clock time until a real server has everything; higher is better, aim >= 0.7 x kcat");
    println!("           the ratios hold on any machine, the seconds on this one\n");
    let only: Option<String> = std::env::args().skip(1).find(|argument| !argument.starts_with('-'));
    let is_wanted = |row: &str| only.as_deref().is_none_or(|only| row.starts_with(only));
    if is_wanted("documents") {
        let enricher = Enricher::invented(&Metrics::new()).unwrap();
        documents(&blobs, records, &enricher);
        shares::print(&blobs, records, &enricher);
    }
    if is_wanted("bodies") {
        bodies(&blobs, records);
    }
    if is_wanted("process") {
        process::whole_process(&runtime);
    }
    if is_wanted("kafka") {
        senders::kafka(&runtime);
    }
    if is_wanted("opensearch") {
        senders::opensearch(&runtime);
    }
    if is_wanted("syslog") {
        senders::syslog(&runtime);
    }
}

/// Row 1: blob bytes to ECS documents with the places of addresses and the parts of user agents, against a
/// `serde_json::Value` build of the same mapping.
fn documents(blobs: &[String], records: usize, enricher: &Arc<Enricher>) {
    let context = Context { enrich: Some(enricher), ..CONTEXT };
    let mut tables = tree::Tables::new(Arc::clone(enricher));
    let mut found = BTreeMap::new();
    for blob in blobs {
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        ours_documents(&context, blob.as_bytes(), &mut ours);
        tree::documents(blob.as_bytes(), &mut tables, &mut theirs);
        let read = |bytes: &[u8]| -> Vec<Value> {
            serde_json::Deserializer::from_slice(bytes).into_iter().collect::<Result<_, _>>().unwrap()
        };
        let (ours, theirs) = (read(&ours), read(&theirs));
        assert_eq!(ours.len(), theirs.len());
        for (one, other) in ours.iter().zip(&theirs) {
            differences("", one, other, one, &mut found);
        }
    }
    assert!(found.is_empty(), "the two builds make different documents: {found:#?}");
    let mut out = Vec::new();
    let mut out_tree = Vec::new();
    let (ours, theirs) = interleaved(
        || each(blobs, |blob| ours_documents(&context, blob, fresh(&mut out))),
        || each(blobs, |blob| tree::documents(blob, &mut tables, fresh(&mut out_tree))),
    );
    println!(
        "blob -> ECS documents        ours {:6.0} ns/record  Value tree {:6.0} ns/record  {:4.1} x less",
        ours / records as f64,
        theirs / records as f64,
        theirs / ours
    );
}

/// What differs, by field, each with the first document that has it. The order of a list below `related` means
/// nothing.
fn differences(path: &str, ours: &Value, theirs: &Value, document: &Value, found: &mut BTreeMap<String, String>) {
    let is_same = match (ours, theirs) {
        (Value::Object(one), Value::Object(other)) => {
            let names: BTreeSet<&String> = one.keys().chain(other.keys()).collect();
            for name in names {
                let (one, other) = (one.get(name).unwrap_or(&Value::Null), other.get(name).unwrap_or(&Value::Null));
                differences(&format!("{path}.{name}"), one, other, document, found);
            }
            return;
        }
        (Value::Array(one), Value::Array(other)) if path.starts_with(".related.") => {
            one.len() == other.len() && one.iter().all(|value| other.contains(value))
        }
        _ => ours == theirs,
    };
    if !is_same {
        let differ = || format!("ours {ours}, the tree's {theirs}, of {document}");
        found.entry(path.to_owned()).or_insert_with(differ);
    }
}

/// Row 2: blob bytes to gzipped HEC bodies with the raw record in them, against gzip alone.
fn bodies(blobs: &[String], records: usize) {
    let mut plain: Vec<Vec<u8>> = Vec::new();
    each(blobs, |blob| ours_bodies(blob, |body| plain.push(body.to_vec())));
    let expected: usize = plain.iter().map(|body| gzip(body, &mut Vec::new())).sum();
    let mut compressed = Vec::new();
    let mut total = 0;
    each(blobs, |blob| ours_bodies(blob, |body| total += gzip(body, &mut compressed)));
    assert_eq!(total, expected, "the two sides do not compress the same bytes");
    let mut alone = Vec::new();
    let (ours, theirs) = interleaved(
        || each(blobs, |blob| ours_bodies(blob, |body| _ = black_box(gzip(body, &mut compressed)))),
        || plain.iter().for_each(|body| _ = black_box(gzip(body, &mut alone))),
    );
    println!(
        "blob -> gzipped HEC bodies   ours {:6.0} ns/record  gzip alone {:6.0} ns/record  {:4.2} x",
        ours / records as f64,
        theirs / records as f64,
        ours / theirs
    );
}

fn each(blobs: &[String], work: impl FnMut(&[u8])) {
    blobs.iter().map(String::as_bytes).for_each(work);
}

fn fresh(out: &mut Vec<u8>) -> &mut Vec<u8> {
    out.clear();
    out
}

/// Splits a blob and reads its records, in one pass. Here alone, so that another way can be put in its place.
fn each_record(blob: &str, mut take: impl FnMut(&View<'_>)) {
    let mut buffer = ViewBuffer::default();
    let mut rest = blob.strip_prefix('[').unwrap();
    while rest.starts_with('{') {
        let (view, end) = View::read_first(rest, buffer).unwrap();
        take(&view);
        buffer = view.into_buffer();
        rest = &rest[end..];
        rest = rest.strip_prefix(',').unwrap_or(rest);
    }
    assert_eq!(rest, "]");
}

fn ours_documents(context: &Context<'_>, blob: &[u8], out: &mut Vec<u8>) {
    let mut scratch = Scratch::default();
    each_record(std::str::from_utf8(blob).unwrap(), |view| {
        let key = RecordKey::of(CONTEXT.tenant_id, view);
        scratch.document(context, Profile::Auditferry, key, view, out);
    });
    black_box(&out);
}

fn ours_bodies(blob: &[u8], mut take: impl FnMut(&[u8])) {
    let mut body = Vec::with_capacity(BODY + BODY / 4);
    each_record(std::str::from_utf8(blob).unwrap(), |view| {
        let envelope = hec::Envelope {
            time_ms: view.creation_time_ms(),
            source: hec::SOURCE,
            sourcetype: hec::SOURCETYPE,
            key: RecordKey::of(CONTEXT.tenant_id, view),
            tenant_name: CONTEXT.tenant_name,
            content_type: CONTEXT.content_type,
            ..hec::Envelope::default()
        };
        envelope.write(view.record().as_bytes(), &mut body);
        if body.len() >= BODY {
            take(&body);
            body.clear();
        }
    });
    take(&body);
}

fn gzip(body: &[u8], into: &mut Vec<u8>) -> usize {
    into.clear();
    let mut encoder = GzEncoder::new(into, Compression::new(1));
    encoder.write_all(body).unwrap();
    encoder.finish().unwrap().len()
}

/// Medians of both, in nanoseconds, each round one after the other so that both meet the same noise.
fn interleaved(mut ours: impl FnMut(), mut theirs: impl FnMut()) -> (f64, f64) {
    let (mut all_ours, mut all_theirs) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        all_ours.push(timed(&mut ours));
        all_theirs.push(timed(&mut theirs));
    }
    (median(all_ours), median(all_theirs))
}

fn timed(work: &mut impl FnMut()) -> f64 {
    let now = || {
        let time = clock_gettime(ClockId::ThreadCPUTime);
        time.tv_sec as f64 * 1e9 + time.tv_nsec as f64
    };
    let before = now();
    work();
    now() - before
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
