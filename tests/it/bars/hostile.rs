//! Hostile: what a service may answer that would break a careless client. Each time a hostile tenant
//! stands beside a clean one: memory stays flat, all of the clean tenant's records arrive in time, and
//! every hostile record is accounted for: delivered verbatim, as a pipeline error with its bytes, in
//! the dead letters, or its blob in the ledger.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use auditferry::simulator::{ContentType, Scenario, SimulatorHandle, WorldConfig};
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use flate2::Compression;
use flate2::write::GzEncoder;

use super::little_service::{self as little, LittleService};
use crate::hec::{FakeHec, Options};
use crate::support::{Place, Process, figure, ledgered_lost, size, world};

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

#[tokio::test(flavor = "multi_thread")]
async fn hostile_records_are_delivered_verbatim_or_as_pipeline_errors() {
    const KINDS: [Scenario; 8] = [
        Scenario::InvalidUtf8,
        Scenario::Nul,
        Scenario::Deep,
        Scenario::BadEscape,
        Scenario::NotObject,
        Scenario::DupKeys,
        Scenario::BigIntegers,
        Scenario::MissingId,
    ];
    let pair = Pair::new(WorldConfig::new().records(size(3000, 60_000)).scenarios(&KINDS)).await;
    let hec = FakeHec::start_with(Options { keep_bodies: true, ..Options::default() }).await;
    let place = Place::new();
    let sinks = format!(
        "  - {{ name: splunk, type: splunk_hec, url: {:?}, token: token }}\n{}",
        hec.url(),
        place.file_sink("out")
    );
    pair.config(&place, &sinks, "");
    let limit = Duration::from_secs(size(60, 200));
    let output = place.path("out");
    let watched = watch(start(&place, limit), limit, &output, pair.clean_mark()).await;
    assert_eq!(watched.code, Some(0), "{}", place.log_tail());

    let expected = pair.expected();
    let (in_file, errors) = arrived(lines(&output));
    let received = hec.received();
    let (at_hec, _) = arrived(received.events.iter().map(|event| event.body.as_ref().unwrap().to_vec()));
    let struck = pair.hostile.report().faults;
    figure(
        "hostile",
        format_args!(
            "records: {} distinct of {} served, {errors} as pipeline errors, struck {struck:?}, peak {} KiB",
            in_file.len(),
            expected.len(),
            watched.peak_kib
        ),
    );
    KINDS.iter().for_each(|kind| assert!(struck.get(kind.name()).is_some_and(|count| *count > 0), "{kind:?}"));
    assert!(errors > 0);
    assert_eq!(differences(&expected, &in_file), [""; 0]);
    assert_eq!(differences(&expected, &at_hec), [""; 0]);
    let of_errors = received.events.iter().filter(|e| e.sourcetype.as_deref() != Some("o365:management:activity"));
    assert_eq!(of_errors.count(), errors);
    assert!(watched.peak_kib <= MEMORY_KIB, "{} KiB", watched.peak_kib);

    // Nothing of it comes a second time.
    let again = place.run_once(limit).await;
    assert_eq!(again.code(), Some(0), "{}", place.log_tail());
    assert_eq!((lines(&output).count(), hec.count()), (in_file.values().sum(), received.events.len()));
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_a_huge_record_goes_to_the_dead_letters_whole() {
    let bytes = size(20, 50) * 1024 * 1024;
    let huge = WorldConfig::new().only(ContentType::Exchange).records(300).scenario(Scenario::HugeRecord);
    let pair = Pair::new(huge.tune(|protocol| protocol.huge_record_bytes = bytes)).await;
    let place = Place::new();
    pair.config(&place, &place.file_sink("out"), "");
    let (limit, output) = (Duration::from_secs(size(90, 240)), place.path("out"));
    let watched = watch(start(&place, limit), limit, &output, pair.clean_mark()).await;
    assert_eq!(watched.code, Some(1), "{}", place.log_tail());

    let mut expected = pair.expected();
    let huge: Vec<Vec<u8>> = expected.keys().filter(|record| record.len() > bytes).cloned().collect();
    assert!(!huge.is_empty());
    expected.retain(|record, _| record.len() <= bytes);
    let (in_file, _) = arrived(lines(&output));
    let letters: Vec<serde_json::Value> =
        lines(&place.state_dir().join("dead.ndjson")).map(|line| serde_json::from_slice(&line).unwrap()).collect();
    figure(
        "hostile",
        format_args!("{} records of {bytes} bytes, {} dead letters, {watched:?}", huge.len(), letters.len()),
    );
    assert_eq!(differences(&expected, &in_file), [""; 0]);
    assert_eq!(letters.len(), huge.len());
    assert!(watched.enough_after.is_some_and(|after| after < CLEAN_LIMIT), "{watched:?}");
    for letter in &letters {
        assert_eq!((&letter["reason"], &letter["tenant"]), (&"oversized".into(), &"hostile".into()));
        let record = letter["record"].as_str().unwrap().as_bytes();
        assert!(huge.iter().any(|huge| huge == record), "{} bytes", record.len());
    }
    assert!(watched.peak_kib <= MEMORY_KIB, "{} KiB", watched.peak_kib);
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_bombs_that_end_are_waited_out() {
    let pair = Pair::new(WorldConfig::new().only(ContentType::SharePoint).records(400)).await;
    pair.hostile.enable(Scenario::Bomb, Some(size(0.1, 0.5)));
    let place = Place::new();
    pair.config(&place, &place.file_sink("out"), "");
    let (limit, output) = (Duration::from_secs(size(90, 240)), place.path("out"));
    let watched = watch(start(&place, limit), limit, &output, pair.clean_mark()).await;
    let bombs = pair.hostile.report().faults["bomb"];
    figure("hostile", format_args!("{bombs} bombs, {watched:?}"));
    assert_eq!(watched.code, Some(0), "{}", place.log_tail());
    assert!(bombs > 0);
    assert_eq!(differences(&pair.expected(), &arrived(lines(&output)).0), [""; 0]);
    assert!(watched.enough_after.is_some_and(|after| after < CLEAN_LIMIT), "{watched:?}");
    assert!(watched.peak_kib <= MEMORY_KIB, "{} KiB", watched.peak_kib);
}

fn gzipped(plain: &[u8]) -> Vec<u8> {
    use std::io::Write as _;
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(plain).unwrap();
    encoder.finish().unwrap()
}

fn with_gzip(mut response: Response) -> Response {
    response.headers_mut().insert("content-encoding", "gzip".parse().unwrap());
    response
}

/// The Ids of [`little::record`]s in the output, sorted.
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

#[tokio::test(flavor = "multi_thread")]
async fn hostile_what_stays_a_bomb_ends_in_the_ledger() {
    let blobs = vec![
        ("Audit.SharePoint", "bomb", Vec::new()),
        ("Audit.SharePoint", "beside", little::body(0..50)),
        ("Audit.Exchange", "elsewhere", little::body(50..100)),
    ];
    let service = LittleService::start(blobs, 30.0, |asked, _| {
        asked.is_blob("bomb").then(|| {
            let first = std::iter::once(gzipped(b"["));
            let next = gzipped(&vec![b' '; 8 << 20]);
            with_gzip(little::streamed(first.chain(std::iter::repeat_n(next, 200)), Duration::ZERO))
        })
    })
    .await;
    let place = Place::new();
    configure(&place, &service, "");
    let (limit, output) = (Duration::from_secs(90), place.path("out"));
    let watched = watch(start(&place, limit), limit, &output, (100, "")).await;
    let tries = service.asked().iter().filter(|asked| asked.is_blob("bomb")).count();
    figure("hostile", format_args!("a bomb for ever: {tries} tries, {watched:?}"));
    assert_eq!(watched.code, Some(1), "{}", place.log_tail());
    assert_eq!(numbers(&output), (0..100).collect::<Vec<_>>());
    let lost = ledgered_lost(&place.ledger());
    assert_eq!(lost.into_iter().collect::<Vec<_>>(), [("bomb".to_owned(), "unreadable".to_owned())]);
    assert_eq!(tries, 5);
    assert!(watched.peak_kib <= MEMORY_KIB, "{} KiB", watched.peak_kib);
}

/// White space is no bomb where it is not packed, and no record anywhere: it is let go as it comes.
#[tokio::test(flavor = "multi_thread")]
async fn hostile_floods_of_white_space_are_not_held() {
    let blobs = vec![("Audit.SharePoint", "flood", Vec::new()), ("Audit.Exchange", "other", little::body(10..20))];
    let service = LittleService::start(blobs, 1.0, |asked, _| {
        asked.is_blob("flood").then(|| {
            let space = || std::iter::repeat_n(vec![b' '; 1 << 20], size(300, 1000));
            let text = |text: String| std::iter::once(text.into_bytes());
            let body = text(String::new()).chain(space()).chain(text(format!("[{}", little::record(0))));
            let body = body.chain(space()).chain(text(format!(",{}", little::record(1))));
            little::streamed(body.chain(space()).chain(text("]".to_owned())), Duration::ZERO)
        })
    })
    .await;
    let place = Place::new();
    configure(&place, &service, "");
    let (limit, output) = (Duration::from_secs(size(60, 200)), place.path("out"));
    let watched = watch(start(&place, limit), limit, &output, (12, "")).await;
    figure("hostile", format_args!("three floods of white space: {watched:?}"));
    assert_eq!(watched.code, Some(0), "{}", place.log_tail());
    assert_eq!(numbers(&output), [0, 1].into_iter().chain(10..20).collect::<Vec<_>>());
    assert!(watched.peak_kib <= MEMORY_KIB, "{} KiB", watched.peak_kib);
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_bodies_that_drip_are_given_up_and_asked_for_again() {
    let pair = Pair::new(WorldConfig::new().only(ContentType::General).records(2000).records_per_blob(100)).await;
    pair.hostile.enable(Scenario::SlowBody, Some(size(0.5, 1.0)));
    let place = Place::new();
    pair.config(&place, &place.file_sink("out"), ", stall_timeout: 2s");
    let (limit, output) = (Duration::from_secs(size(90, 240)), place.path("out"));
    let watched = watch(start(&place, limit), limit, &output, pair.clean_mark()).await;
    let drips = pair.hostile.report().faults["slow_body"];
    figure(
        "hostile",
        format_args!("{drips} dripping bodies, clean tenant done after {:?}, {watched:?}", watched.enough_after),
    );
    assert_eq!(watched.code, Some(0), "{}", place.log_tail());
    assert!(drips > 0);
    assert_eq!(differences(&pair.expected(), &arrived(lines(&output)).0), [""; 0]);
    assert!(watched.enough_after.is_some_and(|after| after < CLEAN_LIMIT), "{watched:?}");
    assert!(watched.peak_kib <= MEMORY_KIB, "{} KiB", watched.peak_kib);
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_a_listing_that_ends_late_is_listed_again() {
    let pair = Pair::new(WorldConfig::new().only(ContentType::General).records(300)).await;
    pair.hostile.enable(Scenario::EndlessPages, Some(size(0.005, 0.05)));
    let place = Place::new();
    pair.config(&place, &place.file_sink("out"), "");
    let (limit, output) = (Duration::from_secs(size(90, 240)), place.path("out"));
    let watched = watch(start(&place, limit), limit, &output, pair.clean_mark()).await;
    let pages = pair.hostile.report().faults["endless_pages"];
    figure("hostile", format_args!("{pages} endless pages, {watched:?}"));
    assert_eq!(watched.code, Some(0), "{}", place.log_tail());
    assert!(pages > 1000);
    assert_eq!(differences(&pair.expected(), &arrived(lines(&output)).0), [""; 0]);
    assert!(watched.enough_after.is_some_and(|after| after < CLEAN_LIMIT), "{watched:?}");
    assert!(watched.peak_kib <= MEMORY_KIB, "{} KiB", watched.peak_kib);
}

/// One listing never ends and names something new ever so often; what it names is fetched, the other
/// feeds are whole, and neither memory nor journal grows with the pages.
#[tokio::test(flavor = "multi_thread")]
async fn hostile_a_listing_without_an_end_ends_the_run_as_unreachable() {
    let blobs =
        vec![("Audit.SharePoint", "named", little::body(0..20)), ("Audit.Exchange", "other", little::body(20..40))];
    let service = LittleService::start(blobs, 1.0, |asked, root| {
        let is_page = asked.is_listing("Audit.SharePoint") && asked.query.contains("nextPage");
        let is_first = asked.is_listing("Audit.SharePoint") && !is_page;
        let next = format!(
            "{root}/api/v1.0/{}/activity/feed/subscriptions/content?contentType=Audit.SharePoint&nextPage={}",
            little::TENANT_ID,
            asked.before
        );
        let created_ms = auditferry::clock::world_ms() - 90 * 60 * 1000;
        let entry = little::entry(root, "Audit.SharePoint", "named", created_ms);
        let page = if is_first { "[]".to_owned() } else { format!("[{entry}]") };
        (is_page || is_first).then(|| {
            let mut response = little::json(page);
            response.headers_mut().insert("nextpageuri", next.parse().unwrap());
            response
        })
    })
    .await;
    let place = Place::new();
    configure(&place, &service, "");
    let (limit, output) = (Duration::from_secs(size(15, 60)), place.path("out"));
    let watched = watch(start(&place, limit), limit, &output, (40, "")).await;
    let pages = service.asked().iter().filter(|asked| asked.query.contains("nextPage")).count();
    let files = std::fs::read_dir(place.state_dir()).unwrap().flatten();
    let state: u64 = files.filter_map(|file| Some(file.metadata().ok()?.len())).sum();
    figure("hostile", format_args!("no last page: {pages} pages, {state} bytes of state, {watched:?}"));
    assert_eq!(watched.code, Some(3), "{}", place.log_tail());
    assert_eq!(numbers(&output), (0..40).collect::<Vec<_>>());
    assert!(pages > 1000);
    assert!(state < 1024 * 1024, "{state} bytes");
    assert!(watched.peak_kib <= MEMORY_KIB, "{} KiB", watched.peak_kib);
}

/// The same broken body, five times over, is all there is to have: what can be read in it is delivered.
#[tokio::test(flavor = "multi_thread")]
async fn hostile_a_body_broken_for_good_is_salvaged() {
    const BROKEN: &str = r#"{"Id":"x","Operation":"no end,"#;
    let salvageable = format!("[{},{},{BROKEN}{}]", little::record(0), little::record(1), little::record(2));
    let cut = format!("[{},{}", little::record(3), &little::record(4)[..60]);
    let blobs = vec![
        ("Audit.SharePoint", "broken", salvageable.into_bytes()),
        ("Audit.SharePoint", "cut", cut.into_bytes()),
        ("Audit.Exchange", "whole", little::body(10..20)),
    ];
    let service = LittleService::start(blobs, 30.0, |_, _| None).await;
    let place = Place::new();
    configure(&place, &service, "");
    let (limit, output) = (Duration::from_secs(60), place.path("out"));
    let watched = watch(start(&place, limit), limit, &output, (16, "")).await;
    let tries = |id: &str| service.asked().iter().filter(|asked| asked.is_blob(id)).count();
    let (found, errors) = arrived(lines(&output));
    figure("hostile", format_args!("broken for good: {errors} pieces kept as pipeline errors, {watched:?}"));
    assert_eq!(watched.code, Some(0), "{}", place.log_tail());
    assert_eq!((tries("broken"), tries("cut"), tries("whole")), (5, 5, 1));
    for number in (0..4).chain(10..20) {
        assert_eq!(found.get(little::record(number).as_bytes()), Some(&1), "record {number}");
    }
    assert_eq!(errors, 2);
    assert_eq!(found.len(), 14 + errors);
    let pieces = [BROKEN.as_bytes().to_vec(), little::record(4).as_bytes()[..60].to_vec()];
    pieces.iter().for_each(|piece| assert_eq!(found.get(piece), Some(&1), "{}", String::from_utf8_lossy(piece)));
}
