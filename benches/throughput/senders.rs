//! Rows 4 to 6: what a real server takes of a sink, against the simplest sender of the same bytes. Wall-clock time until
//! the server has said yes to the last record, each round the one and then the other, each into a place of its own.
//!
//! Ours is everything behind the fetch: records found and given their keys, documents made, the delivered map and its
//! journal on a disk, the driver, the sink with its defaults. Theirs sends from memory, or from a file, what ours
//! made before, and keeps no books. The servers share the machine with both, as they would with neither.

use std::io::{BufWriter, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use auditferry::ack::Finalizer;
use auditferry::budget::Budget;
use auditferry::config::{self, Config, StateConfig};
use auditferry::enrich::Enricher;
use auditferry::feed::{BlobId, ContentType, Feed};
use auditferry::metrics::Metrics;
use auditferry::pipeline::Pipeline;
use auditferry::record::{View, ViewBuffer};
use auditferry::route::Routes;
use auditferry::sink::dead_letters::DeadLetters;
use auditferry::sink::{self, Sink as _, driver};
use auditferry::source::RawBatch;
use auditferry::state::State;
use bytes::Bytes;
use tokio::runtime::Runtime;
use tokio::sync::mpsc;

use crate::corpus;
use crate::real::kafka::Kafka;
use crate::real::opensearch::OpenSearch;
use crate::real::syslog::{Kind, Receiver};

/// The same records are of each of them, by as many fetches at once: a run takes seconds, and beginnings do not show.
const TENANTS: usize = 16;
const ROUNDS: usize = 5;
/// Of which row 5 has the twenty-fifth part: indexing is a server's work.
const BLOBS: usize = 50;
const RECORDS: usize = 500;

/// Blobs as the fetch hands them over.
struct Blobs(Vec<(Bytes, Vec<Range<u32>>)>);

impl Blobs {
    fn new(runtime: &Runtime, count: usize) -> Blobs {
        let blobs = corpus::blobs(runtime, count, RECORDS);
        Blobs(blobs.into_iter().map(|blob| (spans(&blob), blob)).map(|(spans, blob)| (blob.into(), spans)).collect())
    }

    /// With all tenants.
    fn records(&self) -> usize {
        TENANTS * self.0.iter().map(|(_, spans)| spans.len()).sum::<usize>()
    }
}

fn spans(blob: &str) -> Vec<Range<u32>> {
    let (mut spans, mut buffer, mut at) = (Vec::new(), ViewBuffer::default(), 1);
    while blob[at..].starts_with('{') {
        let (view, end) = View::read_first(&blob[at..], buffer).unwrap();
        buffer = view.into_buffer();
        spans.push(at as u32..(at + end) as u32);
        at += end;
        at += usize::from(blob[at..].starts_with(','));
    }
    spans
}

/// Tenants of the bench, and one sink, `entry`.
fn configuration(entry: &str) -> Config {
    config::load_str("bench", &text(entry)).unwrap()
}

fn text(entry: &str) -> String {
    let tenant = |n: usize| {
        format!(
            "  - {{ name: t{n}, tenant_id: 00000000-0000-4000-8000-0000000000{n:02}, client_id: 00000000-0000-4000-9000-000000000000, auth: {{ client_secret: none }} }}\n"
        )
    };
    let tenants: String = (0..TENANTS).map(tenant).collect();
    format!("tenants:\n{tenants}sinks:\n  - {entry}\n")
}

fn pipeline(config: &Config, id: sink::SinkId, metrics: &Arc<Metrics>) -> Pipeline {
    let mut routes = Routes::default();
    routes.add(id, &config.sinks[0]);
    let enricher = Enricher::open(&config.enrich, &std::env::temp_dir(), metrics);
    Pipeline::new(Arc::new(routes), enricher, config.keep_original, Arc::clone(metrics), None, |_| "bench".to_owned())
}

fn batch(config: &Config, tenant: usize, number: usize, blobs: &Blobs, budget: &Budget, ack: Finalizer) -> RawBatch {
    let tenant = Arc::clone(&config.tenants[tenant].tenant);
    let (bytes, spans) = blobs.0[number].clone();
    let charge = budget.charge(&Arc::from(tenant.name.as_str()), ContentType::General);
    let feed = Feed { tenant, content_type: ContentType::General };
    let blob = BlobId { feed, content_id: Arc::from(format!("blob-{number}")), created_ms: 0 };
    RawBatch { blob, bytes, spans, ack, charge }
}

/// Delivers all blobs of all tenants to the sink of the configuration; seconds until the last record's verdict, which
/// must be that it is delivered.
async fn ours(config: &Config, blobs: &Arc<Blobs>) -> f64 {
    let dir = tempfile::tempdir().unwrap();
    let metrics = Metrics::new();
    let books = StateConfig { dir: dir.path().to_owned(), max_delivered_bytes: 1 << 30 };
    let state = State::open(&books, Arc::clone(&metrics)).unwrap();
    let id = state.sink_id(&config.sinks[0].name).unwrap();
    let pipeline = Arc::new(pipeline(config, id, &metrics));
    let dead = DeadLetters::nowhere(Arc::clone(&metrics));
    let budget = Budget::new(config.collect.in_flight);
    let began = Instant::now();
    let sink = sink::build(&config.sinks[0], id, &state, Arc::clone(&metrics)).unwrap();
    let driver = driver::spawn(std::future::ready(()), config.sinks[0].clone(), id, sink, state.clone(), dead, metrics);
    let (told, mut settlements) = mpsc::channel(TENANTS * blobs.0.len());
    for tenant in 0..TENANTS {
        let (config, blobs, pipeline, state) =
            (config.clone(), Arc::clone(blobs), Arc::clone(&pipeline), state.clone());
        let (budget, driver, told) = (budget.clone(), driver.clone(), told.clone());
        tokio::spawn(async move {
            for number in 0..blobs.0.len() {
                let told = told.clone();
                let ack = Finalizer::new(move |settlement| _ = told.try_send(settlement));
                let mut batch = batch(&config, tenant, number, &blobs, &budget, ack);
                batch.charge.reserve(batch.bytes.len(), false).await;
                for (_, delivery) in pipeline.process(batch, state.delivered()) {
                    driver.send(delivery);
                }
            }
        });
    }
    drop(told);
    let mut delivered = 0;
    while let Some(settlement) = settlements.recv().await {
        assert!(settlement.is_settled() && settlement.rejected == 0, "{settlement:?}");
        delivered += settlement.delivered as usize;
    }
    let seconds = began.elapsed().as_secs_f64();
    assert_eq!(delivered, blobs.records(), "what was measured is not the whole work");
    driver.close();
    driver.finish(tokio::time::Instant::now() + Duration::from_secs(10)).await;
    state.close().await.unwrap();
    seconds
}

/// Prints a row from the seconds of each round.
fn row(what: &str, other: &str, records: usize, mut ours: Vec<f64>, mut theirs: Vec<f64>) {
    let median = |all: &mut Vec<f64>| {
        all.sort_by(f64::total_cmp);
        records as f64 / all[all.len() / 2]
    };
    let (ours, theirs) = (median(&mut ours), median(&mut theirs));
    println!("{what:28} ours {ours:8.0} records/s  {other:16} {theirs:8.0} records/s  {:5.2} x", ours / theirs);
}

/// Row 4: Apache Kafka, against kcat with the same compression and the same promise.
pub fn kafka(runtime: &Runtime) {
    let kafka = Kafka::start();
    let blobs = Arc::new(Blobs::new(runtime, BLOBS));
    let dir = tempfile::tempdir().unwrap();
    let kcat = kcat();
    for (what, more) in [
        ("Apache Kafka, records", "format: raw"),
        ("Apache Kafka, documents", "format: ecs"),
        ("Apache Kafka, transactions", "format: raw, transactional: true"),
    ] {
        let name = what.replace([' ', ','], "");
        let topic = |side: &str, round: usize| {
            let topic = format!("{name}.{side}.{round}");
            runtime.block_on(kafka.create_topic(&topic, &[]));
            topic
        };
        let file = dir.path().join(&name);
        let (mut all_ours, mut all_theirs, mut headers) = (Vec::new(), Vec::new(), Vec::new());
        for round in 0..ROUNDS {
            let topic_of_ours = topic("ours", round);
            // An id of its own: what another round has delivered would not be sent again.
            let id = more.contains("transactional").then(|| format!(", transactional_id: {topic_of_ours}"));
            let entry = format!(
                "{{ name: bench, type: kafka, brokers: {:?}, topic: {topic_of_ours}, {more}{} }}",
                kafka.address("open"),
                id.unwrap_or_default()
            );
            all_ours.push(runtime.block_on(ours(&configuration(&entry), &blobs)));
            if round == 0 {
                headers = written(&kafka, &topic_of_ours, &file, blobs.records());
            }
            let topic_of_theirs = topic("theirs", round);
            let mut command = kcat(&["-P", "-b", &kafka.address("open"), "-t", &topic_of_theirs, "-K", "\t", "-l"]);
            command.arg(&file).args(&headers);
            for setting in ["acks=all", "enable.idempotence=true", "compression.codec=zstd", "compression.level=1"] {
                command.args(["-X", setting]);
            }
            let began = Instant::now();
            let output = command.stdin(Stdio::null()).output().unwrap();
            all_theirs.push(began.elapsed().as_secs_f64());
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            assert_eq!(kafka.count(&[&topic_of_theirs]), blobs.records() as i64, "kcat sent something else");
        }
        row(what, "kcat", blobs.records(), all_ours, all_theirs);
    }
}

/// Writes what lies in the topic for kcat, a line a message; returns the arguments of the headers of one of them.
fn written(kafka: &Kafka, topic: &str, file: &Path, records: usize) -> Vec<String> {
    let read = kafka.read_committed(&[topic]);
    assert_eq!(read.len(), records);
    let mut out = BufWriter::new(std::fs::File::create(file).unwrap());
    for message in &read {
        assert!(!message.value.contains(&b'\n'));
        for bytes in [message.key.as_slice(), b"\t", &message.value, b"\n"] {
            out.write_all(bytes).unwrap();
        }
    }
    out.flush().unwrap();
    let headers = read[0].headers.iter();
    headers.flat_map(|(name, value)| ["-H".to_owned(), format!("{name}={value}")]).collect()
}

/// Debian's kcat.
fn kcat() -> impl Fn(&[&str]) -> Command {
    let root: PathBuf = crate::real::debian("kcat", &["kcat", "librdkafka1", "libyajl2"]);
    move |arguments| {
        let mut command = Command::new(root.join("usr/bin/kcat"));
        command.env("LD_LIBRARY_PATH", root.join("usr/lib/x86_64-linux-gnu")).args(arguments);
        command
    }
}

/// Row 5: OpenSearch, against the same bulk requests one after the other.
pub fn opensearch(runtime: &Runtime) {
    let engine = runtime.block_on(OpenSearch::start());
    let blobs = Arc::new(Blobs::new(runtime, BLOBS / 25));
    let entry =
        |index: &str| format!("{{ name: bench, type: elasticsearch, url: {:?}, index: {index} }}", engine.url());
    let bodies = bodies(runtime, &configuration(&entry("none")), &blobs);
    let client = reqwest::Client::new();
    let (mut all_ours, mut all_theirs) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        ["ours", "theirs"].iter().for_each(|side| set_up(&entry(&format!("{side}-{round}"))));
        all_ours.push(runtime.block_on(ours(&configuration(&entry(&format!("ours-{round}"))), &blobs)));
        let theirs = async {
            let began = Instant::now();
            for body in &bodies {
                let request = client.post(format!("{}/theirs-{round}/_bulk", engine.url()));
                let request = request.header("content-type", "application/x-ndjson").body(body.clone());
                let answer = request.send().await.unwrap().bytes().await.unwrap();
                let answer: serde_json::Value = serde_json::from_slice(&answer).unwrap();
                assert_eq!(answer["errors"], false, "{answer}");
            }
            began.elapsed().as_secs_f64()
        };
        all_theirs.push(runtime.block_on(theirs));
        for side in ["ours", "theirs"] {
            let count = async {
                let path = format!("/{side}-{round}");
                engine.ask(reqwest::Method::POST, &format!("{path}/_refresh"), String::new()).await;
                engine.ask(reqwest::Method::GET, &format!("{path}/_count"), String::new()).await["count"].as_u64()
            };
            assert_eq!(runtime.block_on(count), Some(blobs.records() as u64), "{side}");
        }
    }
    row("OpenSearch, documents", "one bulk after another", blobs.records(), all_ours, all_theirs);
}

/// Installs the template of an index, for both sides: without it OpenSearch guesses types, and refuses what differs.
fn set_up(entry: &str) {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), text(entry)).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_auditferry"));
    let output = command.args(["setup", "-c"]).arg(file.path()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&[output.stdout, output.stderr].concat()));
}

/// What the sink would send, in bodies of its batches' size.
fn bodies(runtime: &Runtime, config: &Config, blobs: &Blobs) -> Vec<Bytes> {
    let _inside = runtime.enter();
    let (metrics, limit) = (Metrics::new(), config.sinks[0].batch.max_bytes);
    let (id, budget, dir) = (sink::SinkId(0), Budget::new(usize::MAX), tempfile::tempdir().unwrap());
    let books = StateConfig { dir: dir.path().to_owned(), max_delivered_bytes: 1 << 30 };
    let state = State::open(&books, Arc::clone(&metrics)).unwrap();
    let pipeline = pipeline(config, id, &metrics);
    let sink = sink::build(&config.sinks[0], id, &state, metrics).unwrap();
    let (mut bodies, mut body) = (Vec::new(), Vec::new());
    for tenant in 0..TENANTS {
        for number in 0..blobs.0.len() {
            let batch = batch(config, tenant, number, blobs, &budget, Finalizer::new(drop));
            for (_, delivery) in pipeline.process(batch, state.delivered()) {
                for event in &delivery.events {
                    sink.encode(&delivery.part.event(*event), &mut body);
                    if body.len() >= limit {
                        bodies.push(std::mem::take(&mut body).into());
                    }
                }
            }
        }
    }
    bodies.push(body.into());
    bodies.retain(|body: &Bytes| !body.is_empty());
    bodies
}

/// Row 6: rsyslog over TCP, against one write of the same bytes.
pub fn syslog(runtime: &Runtime) {
    let receiver = Receiver::start(Kind::RsyslogOpenssl);
    let blobs = Arc::new(Blobs::new(runtime, BLOBS));
    let entry =
        |port: u16| format!("{{ name: bench, type: syslog, address: \"tcp://127.0.0.1:{port}\", format: raw }}");
    let bytes = recorded(runtime, &entry, &blobs);
    let mut lines = Lines::new(receiver.file("out.json"));
    let (mut all_ours, mut all_theirs) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let began = Instant::now();
        runtime.block_on(ours(&configuration(&entry(receiver.port("tcp"))), &blobs));
        lines.wait_for(blobs.records());
        all_ours.push(began.elapsed().as_secs_f64());
        let began = Instant::now();
        let mut stream = TcpStream::connect(("127.0.0.1", receiver.port("tcp"))).unwrap();
        stream.write_all(&bytes).unwrap();
        lines.wait_for(blobs.records());
        all_theirs.push(began.elapsed().as_secs_f64());
    }
    row("rsyslog over TCP, records", "one write", blobs.records(), all_ours, all_theirs);
}

/// What the sink writes to a stream.
fn recorded(runtime: &Runtime, entry: &impl Fn(u16) -> String, blobs: &Arc<Blobs>) -> Vec<u8> {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let reading = std::thread::spawn(move || {
        let mut bytes = Vec::new();
        listener.accept().unwrap().0.read_to_end(&mut bytes).unwrap();
        bytes
    });
    runtime.block_on(ours(&configuration(&entry(port)), blobs));
    reading.join().unwrap()
}

/// Lines that are appended to a file.
struct Lines {
    file: std::fs::File,
    left: Vec<u8>,
    count: usize,
}

impl Lines {
    fn new(path: PathBuf) -> Lines {
        let file = std::fs::File::options().append(true).create(true).read(true).open(path).unwrap();
        Lines { file, left: vec![0; 1 << 20], count: 0 }
    }

    /// Waits for so many more.
    fn wait_for(&mut self, more: usize) {
        let (wanted, mut last) = (self.count + more, Instant::now());
        while self.count < wanted {
            let read = self.file.read(&mut self.left).unwrap();
            self.count += memchr::memchr_iter(b'\n', &self.left[..read]).count();
            if read > 0 {
                last = Instant::now();
            } else {
                assert!(last.elapsed() < Duration::from_secs(30), "{} of {wanted} lines", self.count);
                std::thread::park_timeout(Duration::from_millis(2));
            }
        }
        assert_eq!(self.count, wanted);
    }
}
