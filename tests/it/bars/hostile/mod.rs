//! Hostile: what a service may answer that would break a careless client. Each time a hostile tenant
//! stands beside a clean one: memory stays flat, all of the clean tenant's records arrive in time, and
//! every hostile record is accounted for: delivered verbatim, as a pipeline error with its bytes, in
//! the dead letters, or its blob in the ledger.

mod bodies;
mod listings;
mod records;

use std::collections::HashMap;
use std::fmt::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use auditferry::simulator::{SimulatorHandle, WorldConfig};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::little_service::LittleService;
use crate::support::{Place, Process, world};

/// RssAnon that no input may exceed (DESIGN, section 6).
const MEMORY_KIB: u64 = 128 * 1024;
/// Within what the clean tenant's records are all there, whatever becomes of the hostile one; they take
/// about a second alone, and the machine may be busy.
const CLEAN_LIMIT: Duration = Duration::from_secs(15);
/// What the clean tenant of every world here serves.
const CLEAN_RECORDS: u64 = 600;

/// Two worlds, two tenants.
struct Pair {
    hostile: SimulatorHandle,
    clean: SimulatorHandle,
}

impl Pair {
    async fn new(hostile: WorldConfig) -> Pair {
        let clean = WorldConfig::new().seed(77).records(CLEAN_RECORDS).days(2).records_per_blob(20);
        Pair { hostile: world(hostile.days(2).seed(5)).await, clean: world(clean).await }
    }

    fn config(&self, place: &Place, sinks: &str, collect: &str) {
        let mut text = format!("state: {{ dir: {:?} }}\nadmin: {{ listen: 127.0.0.1:0 }}\n", place.state_dir());
        writeln!(text, "collect: {{ requests_per_minute: 100000, poll_interval: 5s{collect} }}\ntenants:").unwrap();
        for (name, world) in [("hostile", &self.hostile), ("clean", &self.clean)] {
            let (tenant, api) = (&world.tenants()[0], world.api_url());
            let (id, client, secret) = (&tenant.tenant_id, &tenant.client_id, &tenant.client_secret);
            writeln!(
                text,
                "  - {{ name: {name}, tenant_id: {id:?}, client_id: {client:?}, auth: {{ client_secret: {secret:?} }}, \
                 endpoints: {{ api: {api:?}, login: {api:?} }} }}"
            )
            .unwrap();
        }
        place.write_text(&format!("{text}sinks:\n{sinks}"));
    }

    /// How many lines the clean tenant's records make, and what is in each of them and in no other.
    fn clean_mark(&self) -> (usize, &str) {
        let id = self.clean.tenants()[0].tenant_id.as_str();
        let marked = |record: &[u8]| memchr::memmem::find(record, id.as_bytes()).is_some();
        (self.clean.truth().filter(|record| marked(&record.record)).count(), id)
    }

    /// How often each record must arrive: once a tenant, since nothing else tells records without an Id apart.
    fn expected(&self) -> HashMap<Vec<u8>, usize> {
        let mut expected = HashMap::new();
        for world in [&self.hostile, &self.clean] {
            let records: std::collections::HashSet<Vec<u8>> = world.truth().map(|r| flat(r.record)).collect();
            records.into_iter().for_each(|record| *expected.entry(record).or_default() += 1);
        }
        expected
    }
}

/// A line break between tokens leaves as a blank (a file has one record a line).
fn flat(mut record: Vec<u8>) -> Vec<u8> {
    record.iter_mut().filter(|byte| matches!(byte, b'\n' | b'\r')).for_each(|byte| *byte = b' ');
    record
}

/// The record in a line of output: the line itself, or what a pipeline error says was received.
fn original(line: &[u8]) -> (Vec<u8>, bool) {
    if memchr::memmem::find(line, b"\"kind\":\"pipeline_error\"").is_none() {
        return (flat(line.to_vec()), false);
    }
    let document: serde_json::Value = serde_json::from_slice(line).unwrap();
    assert_eq!(document["event"]["kind"], "pipeline_error");
    assert!(document["error"]["message"].as_str().is_some_and(|reason| !reason.is_empty()));
    let bytes = match document["auditferry"]["original_base64"].as_str() {
        Some(base64) => STANDARD.decode(base64).unwrap(),
        None => document["event"]["original"].as_str().unwrap().as_bytes().to_vec(),
    };
    (flat(bytes), true)
}

/// What arrived: how often each record, and how many as pipeline errors.
fn arrived(lines: impl Iterator<Item = Vec<u8>>) -> (HashMap<Vec<u8>, usize>, usize) {
    let (mut counts, mut errors) = (HashMap::new(), 0);
    for line in lines {
        let (record, is_error) = original(&line);
        errors += usize::from(is_error);
        *counts.entry(record).or_default() += 1;
    }
    (counts, errors)
}

fn lines(path: &Path) -> impl Iterator<Item = Vec<u8>> {
    let bytes = std::fs::read(path).unwrap_or_default();
    let lines: Vec<Vec<u8>> = bytes.split(|b| *b == b'\n').filter(|l| !l.is_empty()).map(<[u8]>::to_vec).collect();
    lines.into_iter()
}

/// Records that arrived other than often enough, as text.
fn differences(expected: &HashMap<Vec<u8>, usize>, arrived: &HashMap<Vec<u8>, usize>) -> Vec<String> {
    let shown = |record: &[u8]| String::from_utf8_lossy(&record[..record.len().min(160)]).into_owned();
    let wrong = |(record, count): (&Vec<u8>, &usize)| {
        let found = arrived.get(record).copied().unwrap_or(0);
        (found != *count).then(|| format!("{found} for {count}: {}", shown(record)))
    };
    let foreign = arrived.keys().filter(|r| !expected.contains_key(*r)).map(|r| format!("foreign: {}", shown(r)));
    expected.iter().filter_map(wrong).chain(foreign).collect()
}

/// How a run went, as seen from outside.
#[derive(Debug)]
struct Watched {
    code: Option<i32>,
    peak_kib: u64,
    took: Duration,
    /// When the output first held all that was waited for.
    enough_after: Option<Duration>,
}

/// Watches a run to its end: memory, and when `path` holds `enough` lines with `mark` in them.
async fn watch(mut process: Process, limit: Duration, path: &Path, (enough, mark): (usize, &str)) -> Watched {
    let started = Instant::now();
    let mut watched = Watched { code: None, peak_kib: 0, took: limit, enough_after: None };
    let mut looked = Instant::now();
    while started.elapsed() < limit + Duration::from_secs(30) {
        if let Some(status) = process.ended() {
            watched.code = status.code();
            break;
        }
        watched.peak_kib = watched.peak_kib.max(process.rss_anon_kib().unwrap_or(0));
        if watched.enough_after.is_none() && looked.elapsed() > Duration::from_millis(200) {
            looked = Instant::now();
            let found = lines(path).filter(|line| memchr::memmem::find(line, mark.as_bytes()).is_some()).count();
            watched.enough_after = (found >= enough).then(|| started.elapsed());
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    watched.took = started.elapsed();
    watched
}

fn start(place: &Place, limit: Duration) -> Process {
    place.start(&["--once", "--once-timeout", &format!("{}s", limit.as_secs())], &[])
}

/// The Ids of `little_service::record`s in the output, sorted.
fn numbers(path: &Path) -> Vec<usize> {
    let id = |line: Vec<u8>| {
        let record: serde_json::Value = serde_json::from_slice(&line).unwrap();
        record["Id"].as_str().and_then(|id| id.rsplit('-').next()?.parse().ok())
    };
    let mut numbers: Vec<usize> = lines(path).filter_map(id).collect();
    numbers.sort_unstable();
    numbers
}

fn configure(place: &Place, service: &LittleService, collect: &str) {
    let sinks = place.file_sink("out");
    place.write_text(&format!("{}sinks:\n{sinks}", service.config(&place.state_dir(), "secret", collect)));
}
