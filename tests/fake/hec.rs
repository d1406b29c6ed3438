//! A Splunk HTTP Event Collector for tests: takes batches on a loopback port, keeps the books, and
//! misbehaves on demand.
//!
//! Comes in: requests. Goes out: answers as Splunk words them, and [`Received`] for the test. What is
//! accepted is booked *before* it is answered, as the real one does, so a lost answer shows as a
//! duplicate. With acknowledgements ([`Knobs::acks`]) it is booked when it is indexed, and what is not yet
//! indexed dies with a [`FakeHec::crash`]. Imports nothing of the project: it must not share its mistakes.

use std::collections::{HashMap, HashSet};
use std::io::Read;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::connect_info::Connected;
use axum::extract::{ConnectInfo, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::serve::IncomingStream;
use futures_util::StreamExt;
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::server::TlsStream;

/// What is fixed at the start.
#[derive(Default)]
pub struct Options {
    /// Keep each event's bytes as sent, beside what is always kept.
    pub keep_bodies: bool,
    /// Keep a hash of each event's canonical JSON ([`canonical_hash`]). Some 10 µs an event.
    pub hash_events: bool,
    /// PEM certificate chain and key; without, plain HTTP.
    pub tls: Option<(String, String)>,
    /// Listen here instead of on a free port, to come back where another one was.
    pub address: Option<SocketAddr>,
}

/// One accepted event.
#[derive(Clone, Debug)]
pub struct Booked {
    /// `fields.auditferry_key`, 32 hexadecimal digits.
    pub key: Box<str>,
    /// As sent: seconds with a fraction.
    pub time: Option<f64>,
    pub sourcetype: Option<Arc<str>>,
    pub index: Option<Arc<str>>,
    pub hash: Option<[u8; 32]>,
    pub body: Option<Bytes>,
    /// When it was booked, milliseconds since 1970.
    pub booked_ms: i64,
}

/// Which event of which batch an [`Knobs::refuse`] is asked about.
pub struct Offered<'a> {
    /// Number within the request, from 0.
    pub number: usize,
    pub key: &'a str,
    /// The `event`, as sent.
    pub event: &'a str,
}

type Refuse = Arc<dyn Fn(&Offered<'_>) -> bool + Send + Sync>;

/// What can be changed while it runs. A count goes down by one with each request that it concerns.
#[derive(Clone)]
pub struct Knobs {
    /// The only token that is taken.
    pub token: String,
    /// Between booking and answering.
    pub answer_delay: Duration,
    /// Reads request bodies no faster than this.
    pub read_bytes_per_second: Option<u64>,
    /// Any event for which it says true makes the whole batch refused (400, code 6, with the number
    /// of the first); nothing of it is taken.
    pub refuse: Option<Refuse>,
    /// Refuses as `refuse` does, but does not say which (no `invalid-event-number`).
    pub refuse_without_number: bool,
    /// 503 "Server is busy", so many times.
    pub busy: u32,
    /// 429, so many times, with this `Retry-After`.
    pub throttle: u32,
    pub retry_after: Option<String>,
    /// Books, then closes the connection without an answer, so many times.
    pub hang_up: u32,
    /// Reads a piece of the body and closes the connection, so many times.
    pub cut: u32,
    /// Takes nothing and answers 200 with a page that is no collector's, so many times.
    pub garbage: u32,
    /// 413 for a larger decoded body.
    pub max_body: Option<usize>,
    /// 400 "Incorrect index" for everything.
    pub incorrect_index: bool,
    /// Status of `GET …/health`.
    pub health: u16,
    /// Gives an `ackId` for each batch; then a channel is required.
    pub acks: bool,
    /// From taking a batch to having it indexed.
    pub ack_after: Duration,
    /// Indexes so many batches and never says so.
    pub lost_acks: u32,
    /// Loses so many batches between taking and indexing them, and never says so.
    pub lost_batches: u32,
    /// Answers a question after acknowledgements so, instead of truthfully: status, code.
    pub ack_answer: Option<(u16, u32)>,
    /// Gives no `ackId` for what it takes and indexes, although it answers questions.
    pub ack_ids_withheld: bool,
    /// As behind a proxy that strips the header of the channel.
    pub channel_header_stripped: bool,
    /// Sets a cookie where a request brings none, as a load balancer with sticky sessions does.
    pub cookies: bool,
    /// 400 "Incorrect index" for a batch with an event for this index, with Splunk's number.
    pub forbidden_index: Option<String>,
    /// 403 "Token disabled" for everything.
    pub disabled: bool,
}

impl Default for Knobs {
    fn default() -> Knobs {
        Knobs {
            token: "token".to_owned(),
            answer_delay: Duration::ZERO,
            read_bytes_per_second: None,
            refuse: None,
            refuse_without_number: false,
            busy: 0,
            throttle: 0,
            retry_after: None,
            hang_up: 0,
            cut: 0,
            garbage: 0,
            max_body: None,
            incorrect_index: false,
            health: 200,
            acks: false,
            ack_after: Duration::ZERO,
            lost_acks: 0,
            lost_batches: 0,
            ack_answer: None,
            ack_ids_withheld: false,
            channel_header_stripped: false,
            cookies: false,
            forbidden_index: None,
            disabled: false,
        }
    }
}

/// A request that named a channel, for what must stay together.
#[derive(Clone, Debug)]
pub struct OnChannel {
    pub channel: String,
    /// `event` or `ack`.
    pub endpoint: &'static str,
    pub peer: SocketAddr,
    pub cookie: Option<String>,
}

/// Taken and not yet indexed.
struct Unindexed {
    channel: String,
    id: u64,
    due: Instant,
    events: Vec<Booked>,
    bytes: usize,
    fate: Fate,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    Indexed,
    IndexedUnsaid,
    Lost,
}

/// All that a restart forgets.
#[derive(Default)]
struct Memory {
    next_id: HashMap<String, u64>,
    unindexed: Vec<Unindexed>,
    /// Channel and id of what is indexed and was not yet asked for.
    indexed: HashSet<(String, u64)>,
}

/// The books.
#[derive(Clone, Default)]
pub struct Received {
    /// POSTs, whatever became of them.
    pub requests: u64,
    /// Accepted batches: events and decoded bytes of each.
    pub batches: Vec<(usize, usize)>,
    pub events: Vec<Booked>,
    /// Answers by status, those of `health` not counted.
    pub answers: HashMap<u16, u64>,
    pub health_asked: u64,
    /// Questions after acknowledgements.
    pub acks_asked: u64,
    pub on_channels: Vec<OnChannel>,
}

impl Received {
    /// How often each key was accepted.
    pub fn by_key(&self) -> HashMap<&str, usize> {
        let mut counts = HashMap::with_capacity(self.events.len());
        for event in &self.events {
            *counts.entry(event.key.as_ref()).or_default() += 1;
        }
        counts
    }

    /// Distinct keys.
    pub fn distinct(&self) -> usize {
        self.by_key().len()
    }

    /// Keys accepted more than once.
    pub fn duplicates(&self) -> Vec<(String, usize)> {
        self.by_key().into_iter().filter(|(_, count)| *count > 1).map(|(key, count)| (key.to_owned(), count)).collect()
    }
}

/// A running collector; stops when dropped.
pub struct FakeHec {
    address: SocketAddr,
    scheme: &'static str,
    shared: Arc<Shared>,
    server: JoinHandle<()>,
}

struct Shared {
    keep_bodies: bool,
    hash_events: bool,
    /// Requests that are being worked on.
    busy: AtomicUsize,
    knobs: Mutex<Knobs>,
    books: Mutex<Received>,
    memory: Mutex<Memory>,
    names: Mutex<HashMap<String, Arc<str>>>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl FakeHec {
    /// Starts on a free loopback port.
    pub async fn start() -> FakeHec {
        FakeHec::start_with(Options::default()).await
    }

    /// Starts as the options say.
    pub async fn start_with(options: Options) -> FakeHec {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let listener = TcpListener::bind(options.address.unwrap_or(any)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            keep_bodies: options.keep_bodies,
            hash_events: options.hash_events,
            busy: AtomicUsize::new(0),
            knobs: Mutex::default(),
            books: Mutex::default(),
            memory: Mutex::default(),
            names: Mutex::default(),
        });
        let app = Router::new()
            .route("/services/collector/event", post(take))
            .route("/services/collector/ack", post(acknowledge))
            .route("/services/collector/health", get(health))
            .with_state(Arc::clone(&shared))
            .into_make_service_with_connect_info::<Peer>();
        let (scheme, server) = match options.tls {
            None => ("http", tokio::spawn(async move { axum::serve(listener, app).await.unwrap() })),
            Some((certificate, key)) => {
                let listener = TlsListener { listener, acceptor: acceptor(&certificate, &key) };
                ("https", tokio::spawn(async move { axum::serve(listener, app).await.unwrap() }))
            }
        };
        FakeHec { address, scheme, shared, server }
    }

    /// What to configure as `url`.
    pub fn url(&self) -> String {
        format!("{}://localhost:{}", self.scheme, self.address.port())
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Changes how it behaves from the next request on.
    pub fn set(&self, change: impl FnOnce(&mut Knobs)) {
        change(&mut locked(&self.shared.knobs));
    }

    /// A copy of the books.
    pub fn received(&self) -> Received {
        self.shared.books().clone()
    }

    /// Accepted events so far, duplicates included; cheap.
    pub fn count(&self) -> usize {
        self.shared.books().events.len()
    }

    /// The accepted events from number `first` on.
    pub fn events_since(&self, first: usize) -> Vec<Booked> {
        self.shared.books().events[first..].to_vec()
    }

    /// Waits until nothing is being worked on and nothing more arrives: for a sender that is dead, whose
    /// last words may still lie in the socket. Returns the number of accepted events.
    pub async fn quiet(&self) -> usize {
        let mut before = (self.requests(), self.count());
        let mut still = 0;
        while still < 4 {
            tokio::time::sleep(Duration::from_millis(8)).await;
            let now = (self.requests(), self.count());
            let is_still = now == before && self.shared.busy.load(Ordering::SeqCst) == 0;
            still = if is_still { still + 1 } else { 0 };
            before = now;
        }
        before.1
    }

    /// Distinct keys so far, without a copy of the books.
    pub fn distinct(&self) -> usize {
        self.shared.books().distinct()
    }

    /// POSTs so far; cheap.
    pub fn requests(&self) -> u64 {
        self.shared.books().requests
    }

    /// Restarts: forgets every channel, and loses what was taken and not yet indexed.
    pub fn crash(&self) {
        drop(self.shared.books());
        *locked(&self.shared.memory) = Memory::default();
    }

    /// Waits until at least `events` are accepted; false when that takes longer than `limit`.
    pub async fn wait_for(&self, events: usize, limit: Duration) -> bool {
        let enough = async {
            while self.count() < events {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(limit, enough).await.is_ok()
    }
}

impl Drop for FakeHec {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// Hash of an event's JSON with sorted keys and no blanks: equal for equal JSON.
pub fn canonical_hash(json: &[u8]) -> [u8; 32] {
    let value: serde_json::Value = serde_json::from_slice(json).unwrap();
    *blake3::hash(value.to_string().as_bytes()).as_bytes()
}

#[derive(Deserialize)]
struct Envelope<'a> {
    time: Option<f64>,
    sourcetype: Option<String>,
    index: Option<String>,
    #[serde(borrow)]
    event: Option<&'a RawValue>,
    #[serde(default)]
    fields: HashMap<String, String>,
}

async fn health(State(shared): State<Arc<Shared>>) -> Response {
    shared.books().health_asked += 1;
    let status = locked(&shared.knobs).health;
    let text =
        if status == 200 { "{\"text\":\"HEC is healthy\",\"code\":17}" } else { "{\"text\":\"no\",\"code\":18}" };
    (StatusCode::from_u16(status).unwrap(), text).into_response()
}

/// Counted while it lives, however it ends.
struct Busy(Arc<Shared>);

impl Busy {
    fn new(shared: &Arc<Shared>) -> Busy {
        shared.busy.fetch_add(1, Ordering::SeqCst);
        Busy(Arc::clone(shared))
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.busy.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Who asks.
#[derive(Clone, Copy)]
struct Peer(SocketAddr);

impl Connected<IncomingStream<'_, TcpListener>> for Peer {
    fn connect_info(stream: IncomingStream<'_, TcpListener>) -> Peer {
        Peer(*stream.remote_addr())
    }
}

impl Connected<IncomingStream<'_, TlsListener>> for Peer {
    fn connect_info(stream: IncomingStream<'_, TlsListener>) -> Peer {
        Peer(*stream.remote_addr())
    }
}

async fn take(
    State(shared): State<Arc<Shared>>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    Query(query): Query<HashMap<String, String>>,
    mut headers: HeaderMap,
    body: Body,
) -> Response {
    let _busy = Busy::new(&shared);
    shared.books().requests += 1;
    if locked(&shared.knobs).channel_header_stripped {
        headers.remove("x-splunk-request-channel");
        if let Some(channel) = query.get("channel") {
            headers.insert("x-splunk-request-channel", channel.parse().unwrap());
        }
    }
    note_channel(&shared, &headers, peer, "event");
    let response = answer(&shared, &headers, body).await;
    *shared.books().answers.entry(response.status().as_u16()).or_default() += 1;
    with_cookie(&shared, &headers, response)
}

fn channel_of(headers: &HeaderMap) -> Option<&str> {
    headers.get("x-splunk-request-channel").and_then(|value| value.to_str().ok())
}

fn cookie_of(headers: &HeaderMap) -> Option<&str> {
    headers.get(header::COOKIE).and_then(|value| value.to_str().ok())
}

fn note_channel(shared: &Shared, headers: &HeaderMap, peer: Peer, endpoint: &'static str) {
    if let Some(channel) = channel_of(headers) {
        let cookie = cookie_of(headers).map(str::to_owned);
        let request = OnChannel { channel: channel.to_owned(), endpoint, peer: peer.0, cookie };
        shared.books().on_channels.push(request);
    }
}

fn with_cookie(shared: &Shared, headers: &HeaderMap, mut response: Response) -> Response {
    if locked(&shared.knobs).cookies && cookie_of(headers).is_none() {
        let number = shared.books().on_channels.len();
        response.headers_mut().insert(header::SET_COOKIE, format!("node={number}; Path=/; HttpOnly").parse().unwrap());
    }
    response
}

#[derive(Deserialize)]
struct Question {
    acks: Vec<u64>,
}

/// As Splunk does: true once, of what is indexed; false of everything else.
async fn acknowledge(
    State(shared): State<Arc<Shared>>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    Query(query): Query<HashMap<String, String>>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let _busy = Busy::new(&shared);
    shared.books().acks_asked += 1;
    note_channel(&shared, &headers, peer, "ack");
    let knobs = locked(&shared.knobs).clone();
    if let Some(refusal) = unauthorized(&headers, &knobs) {
        return *refusal;
    }
    if let Some((status, code)) = knobs.ack_answer {
        return said(status, code, "as told", None);
    }
    if !knobs.acks {
        return said(400, 14, "ACK is disabled", None);
    }
    let Some(channel) = query.get("channel") else { return said(400, 10, "Data channel is missing", None) };
    let Ok(question) = serde_json::from_slice::<Question>(&body) else {
        return said(400, 6, "Invalid data format", None);
    };
    drop(shared.books());
    let mut memory = locked(&shared.memory);
    let mut said = |id: &u64| memory.indexed.remove(&(channel.clone(), *id));
    let acks: HashMap<String, bool> = question.acks.iter().map(|id| (id.to_string(), said(id))).collect();
    drop(memory);
    let body = serde_json::json!({ "acks": acks }).to_string();
    with_cookie(&shared, &headers, (StatusCode::OK, body).into_response())
}

fn unauthorized(headers: &HeaderMap, knobs: &Knobs) -> Option<Box<Response>> {
    let authorization = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    match authorization {
        None => Some(said(401, 2, "Token is required", None).into()),
        Some(value) if value != format!("Splunk {}", knobs.token) => Some(said(403, 4, "Invalid token", None).into()),
        Some(_) if knobs.disabled => Some(said(403, 1, "Token disabled", None).into()),
        Some(_) => None,
    }
}

async fn answer(shared: &Shared, headers: &HeaderMap, body: Body) -> Response {
    let rate = locked(&shared.knobs).read_bytes_per_second;
    let is_cut = {
        let mut knobs = locked(&shared.knobs);
        let is_cut = knobs.cut > 0;
        knobs.cut = knobs.cut.saturating_sub(1);
        is_cut
    };
    if is_cut {
        let _ = body.into_data_stream().next().await;
        std::panic::resume_unwind(Box::new("cut off"));
    }
    let Some(body) = read(body, rate).await else { return said(400, 6, "Invalid data format", None) };
    let knobs = {
        let mut knobs = locked(&shared.knobs);
        let before = knobs.clone();
        let Knobs { busy, throttle, garbage, .. } = &mut *knobs;
        let counts = [busy, throttle, garbage];
        if let Some(count) = counts.into_iter().find(|count| **count > 0) {
            *count -= 1;
        }
        before
    };
    if let Some(refusal) = unauthorized(headers, &knobs) {
        return *refusal;
    }
    let channel = channel_of(headers);
    if knobs.acks {
        match channel {
            None => return said(400, 10, "Data channel is missing", None),
            Some(channel) if channel.split('-').map(str::len).ne([8, 4, 4, 4, 12]) => {
                return said(400, 11, "Invalid data channel", None);
            }
            Some(_) => {}
        }
    }
    if knobs.busy > 0 {
        return said(503, 9, "Server is busy", None);
    }
    if knobs.throttle > 0 {
        let mut response = said(429, 26, "Queue at capacity", None);
        if let Some(seconds) = &knobs.retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, seconds.parse().unwrap());
        }
        return response;
    }
    if knobs.garbage > 0 {
        return (StatusCode::OK, "<html>please log in</html>").into_response();
    }
    if knobs.incorrect_index {
        return said(400, 7, "Incorrect index", Some(0));
    }
    let Some(body) = decoded(headers, body) else { return said(400, 6, "Invalid data format", None) };
    if knobs.max_body.is_some_and(|max| body.len() > max) {
        return (StatusCode::PAYLOAD_TOO_LARGE, "too large").into_response();
    }
    let mut success = "{\"text\":\"Success\",\"code\":0}".to_owned();
    match booked(shared, &knobs, &body) {
        Err(response) => return *response,
        Ok(events) if events.is_empty() => return said(400, 5, "No data", None),
        Ok(events) if knobs.acks && !knobs.ack_ids_withheld => {
            let id = shared.take_for_indexing(channel.unwrap_or_default(), events, body.len());
            success = format!("{{\"text\":\"Success\",\"code\":0,\"ackId\":{id}}}");
        }
        Ok(events) => {
            let mut books = shared.books();
            books.batches.push((events.len(), body.len()));
            books.events.extend(events);
        }
    }
    let hang_up = {
        let mut knobs = locked(&shared.knobs);
        let hang_up = knobs.hang_up > 0;
        knobs.hang_up = knobs.hang_up.saturating_sub(1);
        hang_up
    };
    if hang_up {
        // Ends the connection's task, and so the connection, without a word on stderr.
        std::panic::resume_unwind(Box::new("hung up"));
    }
    tokio::time::sleep(knobs.answer_delay).await;
    (StatusCode::OK, [(header::CONTENT_TYPE, "application/json")], success).into_response()
}

fn booked(shared: &Shared, knobs: &Knobs, body: &[u8]) -> Result<Vec<Booked>, Box<Response>> {
    let mut events = Vec::new();
    let booked_ms = auditferry::clock::world_ms();
    for (number, envelope) in serde_json::Deserializer::from_slice(body).into_iter::<Envelope<'_>>().enumerate() {
        let number_said = (!knobs.refuse_without_number).then_some(number);
        let Ok(envelope) = envelope else {
            return Err(said(400, 6, "Invalid data format", number_said).into());
        };
        let Some(event) = envelope.event else {
            return Err(said(400, 12, "Event field is required", number_said).into());
        };
        let key = envelope.fields.get("auditferry_key").map_or("", String::as_str);
        if knobs.refuse.as_ref().is_some_and(|refuse| refuse(&Offered { number, key, event: event.get() })) {
            return Err(said(400, 6, "Invalid data format", number_said).into());
        }
        if envelope.index.is_some() && envelope.index == knobs.forbidden_index {
            // Counted from 1 here, and from 0 in the other answers.
            return Err(said(400, 7, "Incorrect index", Some(number + 1)).into());
        }
        events.push(Booked {
            key: key.into(),
            time: envelope.time,
            sourcetype: envelope.sourcetype.map(|name| shared.name(name)),
            index: envelope.index.map(|name| shared.name(name)),
            hash: shared.hash_events.then(|| canonical_hash(event.get().as_bytes())),
            body: shared.keep_bodies.then(|| Bytes::copy_from_slice(event.get().as_bytes())),
            booked_ms,
        });
    }
    Ok(events)
}

impl Shared {
    /// The books, with everything in them that is indexed by now.
    fn books(&self) -> MutexGuard<'_, Received> {
        let (mut memory, now) = (locked(&self.memory), Instant::now());
        let mut books = locked(&self.books);
        let (due, later) = std::mem::take(&mut memory.unindexed).into_iter().partition(|batch| batch.due <= now);
        memory.unindexed = later;
        for batch in due {
            let Unindexed { channel, id, events, bytes, fate, .. } = batch;
            if fate == Fate::Indexed {
                memory.indexed.insert((channel, id));
            }
            if fate != Fate::Lost {
                books.batches.push((events.len(), bytes));
                books.events.extend(events);
            }
        }
        books
    }

    /// Takes a batch of which the indexers will have word later. Returns its `ackId`.
    fn take_for_indexing(&self, channel: &str, events: Vec<Booked>, bytes: usize) -> u64 {
        let fate = {
            let mut knobs = locked(&self.knobs);
            let Knobs { lost_acks, lost_batches, .. } = &mut *knobs;
            match (lost_acks, lost_batches) {
                (count, _) if *count > 0 => {
                    *count -= 1;
                    Fate::IndexedUnsaid
                }
                (_, count) if *count > 0 => {
                    *count -= 1;
                    Fate::Lost
                }
                _ => Fate::Indexed,
            }
        };
        let due = Instant::now() + locked(&self.knobs).ack_after;
        let mut memory = locked(&self.memory);
        let next = memory.next_id.entry(channel.to_owned()).or_default();
        let id = *next;
        *next += 1;
        memory.unindexed.push(Unindexed { channel: channel.to_owned(), id, due, events, bytes, fate });
        id
    }

    /// One copy of each name, for hundreds of thousands of events.
    fn name(&self, name: String) -> Arc<str> {
        let mut names = locked(&self.names);
        Arc::clone(names.entry(name).or_insert_with_key(|name| Arc::from(name.as_str())))
    }
}

fn said(status: u16, code: u32, text: &str, number: Option<usize>) -> Response {
    let number = number.map_or(String::new(), |number| format!(",\"invalid-event-number\":{number}"));
    let body = format!("{{\"text\":\"{text}\",\"code\":{code}{number}}}");
    (StatusCode::from_u16(status).unwrap(), [(header::CONTENT_TYPE, "application/json")], body).into_response()
}

async fn read(body: Body, bytes_per_second: Option<u64>) -> Option<Vec<u8>> {
    let mut stream = body.into_data_stream();
    let mut bytes = Vec::new();
    while let Some(chunk) = stream.next().await {
        let chunk = chunk.ok()?;
        bytes.extend_from_slice(&chunk);
        if let Some(rate) = bytes_per_second {
            tokio::time::sleep(Duration::from_secs_f64(chunk.len() as f64 / rate as f64)).await;
        }
    }
    Some(bytes)
}

fn decoded(headers: &HeaderMap, body: Vec<u8>) -> Option<Vec<u8>> {
    match headers.get(header::CONTENT_ENCODING).map(|value| value.as_bytes()) {
        None => Some(body),
        Some(b"gzip") => {
            let mut plain = Vec::new();
            flate2::read::MultiGzDecoder::new(body.as_slice()).read_to_end(&mut plain).ok()?;
            Some(plain)
        }
        Some(_) => None,
    }
}

struct TlsListener {
    listener: TcpListener,
    acceptor: TlsAcceptor,
}

impl axum::serve::Listener for TlsListener {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    /// A failed handshake only ends its own connection.
    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            if let Ok((stream, address)) = self.listener.accept().await
                && let Ok(stream) = self.acceptor.accept(stream).await
            {
                return (stream, address);
            }
        }
    }

    fn local_addr(&self) -> std::io::Result<Self::Addr> {
        self.listener.local_addr()
    }
}

fn acceptor(certificate: &str, key: &str) -> TlsAcceptor {
    let chain = CertificateDer::pem_slice_iter(certificate.as_bytes()).collect::<Result<Vec<_>, _>>().unwrap();
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
    let provider = Arc::new(tokio_rustls::rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let mut config = config.with_no_client_auth().with_single_cert(chain, key).unwrap();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    TlsAcceptor::from(Arc::new(config))
}
