//! The syslog sink against rsyslog and syslog-ng: what they read back, what they refuse, what a record cannot forge,
//! and what a break costs.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use auditferry::budget::Budget;
use auditferry::config::{
    Format, Framing, Oversize, Rfc, SeverityRule, SinkConfig, SinkKind, StateConfig, SyslogAddress, SyslogConfig,
    TlsConfig, UnixKind,
};
use auditferry::event::{Docs, EventMeta, Part};
use auditferry::feed::{BlobId, ContentType, Feed, Tenant};
use auditferry::metrics::Metrics;
use auditferry::normalize::{self, Context, Form};
use auditferry::record::{Field, RecordKey, View};
use auditferry::sink::{EncodedBatch, SendError, ShapedSink, Sink, build};
use auditferry::state::State;
use serde_json::{Value, json};
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};

use super::{Bench, LIMIT, counts, records, sink_config};
use crate::real::syslog::{Kind, Receiver};

const ALL: [Kind; 3] = [Kind::RsyslogGnutls, Kind::RsyslogOpenssl, Kind::SyslogNg];
/// What would end a message, a header, a parameter, a field of CEF, a string of C, or the sight of it.
const HOSTILE: &str =
    "x\r\n<134>1 2023-11-14T22:13:20Z evil evil - - - forged\0|=\\]\" \t9 <1>y\u{202e}gnp.exe\u{1f600}\u{85}\u{2028}";

fn tcp(port: u16) -> SyslogAddress {
    SyslogAddress::Tcp { host: "127.0.0.1".into(), port }
}

fn config(address: SyslogAddress) -> SyslogConfig {
    SyslogConfig {
        address,
        rfc: Rfc::Rfc5424,
        framing: Framing::OctetCounting,
        facility: 17,
        severity: SeverityRule::Outcome,
        app_name: "o365".into(),
        hostname: None,
        proc_id: Some("{content_type}".into()),
        msg_id: "{operation}".into(),
        sd_id: Some("auditferry@32473".into()),
        structured_data: Vec::new(),
        bom: false,
        max_size: None,
        oversize: Oversize::DeadLetter,
        tls: TlsConfig::default(),
        connect_timeout: Duration::from_secs(5),
        timeout: Duration::from_secs(30),
        keepalive: Some(Duration::from_secs(30)),
        resend: 4 << 20,
    }
}

fn tls(receiver: &Receiver, listener: &str) -> SyslogConfig {
    let tls = TlsConfig { ca_file: Some(receiver.file("ca.pem")), ..TlsConfig::default() };
    SyslogConfig { tls, ..config(SyslogAddress::Tls { host: "localhost".into(), port: receiver.port(listener) }) }
}

fn mtls(receiver: &Receiver, certificate: &str) -> SyslogConfig {
    let mut config = tls(receiver, "mtls");
    config.tls.cert_file = Some(receiver.file(certificate));
    config.tls.key_file = Some(receiver.file("client.key"));
    config
}

fn sink(syslog: SyslogConfig) -> SinkConfig {
    sink_config("siem", SinkKind::Syslog(syslog))
}

fn start(kind: Kind) -> Receiver {
    tokio::task::block_in_place(|| Receiver::start(kind))
}

fn messages(receiver: &Receiver, count: usize) -> Vec<Value> {
    tokio::task::block_in_place(|| receiver.await_messages(count))
}

/// A sink without its driver.
struct Bare {
    _dir: tempfile::TempDir,
    sink: ShapedSink,
    config: SinkConfig,
    metrics: Arc<Metrics>,
}

impl Bare {
    fn new(format: Format, syslog: SyslogConfig) -> Bare {
        let config = SinkConfig { format, ..sink(syslog) };
        let (dir, metrics) = (tempfile::tempdir().unwrap(), Metrics::new());
        let state = StateConfig { dir: dir.path().to_owned(), max_delivered_bytes: 1 << 20 };
        let state = State::open(&state, Arc::clone(&metrics)).unwrap();
        let sink = build(&config, state.sink_id("siem").unwrap(), &state, Arc::clone(&metrics)).unwrap();
        Bare { _dir: dir, sink, config, metrics }
    }

    fn batch(&self, part: &Part) -> EncodedBatch {
        let mut batch = EncodedBatch::default();
        for index in 0..part.events.len() as u32 {
            self.sink.encode(&part.event(index), &mut batch.bytes);
            batch.ends.push(batch.bytes.len());
        }
        batch
    }

    /// Sends until it is taken; what comes before that may be "later".
    async fn deliver(&self, batch: &EncodedBatch) {
        let tries = async {
            while let Err(error) = self.sink.send(batch).await {
                assert!(matches!(error, SendError::Retry { .. } | SendError::Slow { .. }), "{error}");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(LIMIT, tries).await.expect("the batch is taken in time");
    }
}

/// A part with these records and their documents, as the pipeline makes it.
fn part(records: &[String], form: Form) -> Part {
    let (mut raw, mut docs, mut events) = (Vec::new(), Vec::new(), Vec::new());
    let context = Context {
        tenant_id: "6f1c",
        tenant_name: "con\"to]so\\",
        content_type: Some(ContentType::Exchange),
        received_ms: None,
        original: false,
        enrich: None,
    };
    for record in records {
        let view = View::parse(record.as_bytes()).unwrap();
        let start = raw.len() as u32;
        raw.extend_from_slice(record.as_bytes());
        let key = RecordKey::of("6f1c", &view);
        let place = |field| {
            let inside = view.span_of_string(field).unwrap_or(0..0);
            start + inside.start..start + inside.end
        };
        events.push(EventMeta {
            key,
            time_ms: view.creation_time_ms(),
            raw: start..raw.len() as u32,
            docs: Docs::write(&mut docs, |wanted, docs| {
                if wanted == form {
                    normalize::write(form, &context, key, &view, docs);
                }
            }),
            id: place(Field::Id),
            workload: place(Field::Workload),
            operation: place(Field::Operation),
            severity: normalize::severity(&view),
            readable: true,
        });
    }
    let domains = vec!["contoso.com".to_owned()];
    let tenant = Arc::new(Tenant { name: "con\"to]so\\".into(), id: "6f1c".into(), domains });
    let feed = Feed { tenant, content_type: ContentType::Exchange };
    let charge = Budget::new(1 << 30).charge(&Arc::from("contoso"), ContentType::Exchange);
    let blob = BlobId { feed, content_id: Arc::from("blob"), created_ms: 0 };
    Part { blob, raw: raw.into(), docs, events, charge }
}

fn record(n: usize, operation: &str, result: &str) -> String {
    json!({
        "Id": format!("id-{n}"), "CreationTime": "2023-11-14T22:13:20", "RecordType": 1, "Workload": "Exchange",
        "Operation": operation, "ResultStatus": result, "UserId": "mallory@contoso.com", "ObjectId": HOSTILE,
    })
    .to_string()
}

/// A body as it must arrive: the one control beyond ASCII in [`HOSTILE`] is escaped in JSON and a blank elsewhere.
fn without_c1(body: &[u8], is_json: bool) -> String {
    std::str::from_utf8(body).unwrap().replace('\u{85}', if is_json { "\\u0085" } else { " " })
}

/// The parameters of our element, however the receiver writes them.
fn parameters(message: &Value) -> HashMap<String, String> {
    let element = message["data"]["auditferry@32473"].as_object();
    let element = element.or_else(|| message["_SDATA"]["auditferry@32473"].as_object());
    let element = element.unwrap_or_else(|| panic!("no structured data: {message}"));
    element.iter().map(|(name, value)| (name.clone(), value.as_str().unwrap().to_owned())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_header_field_and_parameter_is_read_back() {
    for kind in ALL {
        let receiver = start(kind);
        let part = part(&[record(1, "Add member to role.", "Failed"), record(2, "Set-Mailbox", "True")], Form::Cef);
        let udp = SyslogAddress::Udp { host: "127.0.0.1".into(), port: receiver.port("udp") };
        let ways =
            [config(udp), config(tcp(receiver.port("tcp"))), tls(&receiver, "tls"), mtls(&receiver, "client.pem")];
        for (way, mut syslog) in ways.into_iter().enumerate() {
            syslog.structured_data = vec![("site".into(), "a\"b]c\\d ü {id}".into())];
            let bare = Bare::new(Format::Raw, syslog);
            bare.deliver(&bare.batch(&part)).await;
            let read = messages(&receiver, 2 * way + 2);
            assert_eq!(read.len(), 2 * way + 2, "{kind:?} {way}");
            let [first, second] = &read[2 * way..] else { panic!("{read:?}") };
            // local1, and a failure is a warning.
            assert_eq!((&first["pri"], &second["pri"]), (&json!("140"), &json!("142")), "{kind:?} {way}");
            let time = first["time"].as_str().unwrap();
            let time: jiff::Timestamp = time.parse().unwrap_or_else(|error| panic!("{error}: {time}"));
            assert_eq!(time.as_millisecond(), 1_700_000_000_000);
            assert_eq!((&first["host"], &first["app"]), (&json!("contoso.com"), &json!("o365")));
            assert_eq!((&first["process"], &first["id"]), (&json!("Audit.Exchange"), &json!("Add_member_to_role.")));
            for (message, event) in [first, second].into_iter().zip(&part.events) {
                let parameters = parameters(message);
                assert_eq!(parameters["tenant"], "con\"to]so\\");
                assert_eq!(parameters["content_type"], "Audit.Exchange");
                assert_eq!(parameters["key"], event.key.to_string());
                let site = format!("a\"b]c\\d ü id-{}", if message == first { 1 } else { 2 });
                assert_eq!((&parameters["site"], parameters.len()), (&site, 4));
                let raw = &part.raw[event.raw.start as usize..event.raw.end as usize];
                let text = message["msg"].as_str().unwrap();
                assert_eq!(text, without_c1(raw, true), "{kind:?} {way}: the record is as it was");
            }
            bare.sink.close().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_in_a_record_forges_a_message_or_a_field() {
    for kind in [Kind::RsyslogGnutls, Kind::SyslogNg] {
        let receiver = start(kind);
        let newline = if kind == Kind::SyslogNg { "newline" } else { "tcp" };
        let mut expected = 0;
        for format in [Format::Raw, Format::Ecs, Format::Cef, Format::Leef] {
            let framed = SyslogConfig { framing: Framing::Newline, ..config(tcp(receiver.port(newline))) };
            let udp = SyslogAddress::Udp { host: "127.0.0.1".into(), port: receiver.port("udp") };
            for mut syslog in [config(tcp(receiver.port("tcp"))), framed, config(udp)] {
                syslog.structured_data = vec![("operation".into(), "{operation}".into())];
                let bare = Bare::new(format, syslog);
                let part = part(&[record(1, HOSTILE, "True"), record(2, "<0>1", "\n\n<0>")], bare.config.form());
                bare.deliver(&bare.batch(&part)).await;
                bare.sink.close().await;
                expected += 2;
                let read = messages(&receiver, expected);
                assert_eq!(read.len(), expected, "{kind:?} {format:?}");
                for (message, index) in read[expected - 2..].iter().zip(0..) {
                    let event = part.event(index);
                    let body = if format == Format::Raw { event.raw() } else { event.doc(bare.config.form()) };
                    let text = message["msg"].as_str().unwrap();
                    let is_json = matches!(format, Format::Raw | Format::Ecs);
                    assert_eq!(text, without_c1(body, is_json), "{kind:?} {format:?}");
                    assert_eq!((&message["host"], &message["app"]), (&json!("contoso.com"), &json!("o365")));
                    if index == 0 {
                        let seen: String = HOSTILE.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
                        assert_eq!(parameters(message)["operation"], seen, "{kind:?} {format:?}");
                        let id = message["id"].as_str().unwrap();
                        assert_eq!((id, id.len()), ("x__<134>1_2023-11-14T22:13:20Z_e", 32));
                    }
                }
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_of_900_kb_arrives_whole() {
    for kind in ALL {
        let receiver = start(kind);
        let large = |n: usize| json!({ "Id": n.to_string(), "Operation": "x", "Pad": "ü".repeat(450_000) }).to_string();
        let bench = Bench::start(sink(config(tcp(receiver.port("tcp")))));
        let secure = Bench::start(sink(tls(&receiver, "tls")));
        assert_eq!(bench.offer((0..4).map(large)).await.settled().await, counts(4, 0));
        assert_eq!(secure.offer((4..8).map(large)).await.settled().await, counts(4, 0));
        bench.stop().await;
        secure.stop().await;
        let read = messages(&receiver, 8);
        let mut ids: Vec<String> = Vec::new();
        for message in &read {
            let text = message["msg"].as_str().unwrap();
            let value: Value = serde_json::from_str(text).unwrap();
            assert_eq!((text.len() / 1000, value["Pad"].as_str().unwrap().chars().count()), (900, 450_000), "{kind:?}");
            ids.push(value["Id"].as_str().unwrap().to_owned());
        }
        ids.sort();
        assert_eq!(ids, (0..8).map(|n| n.to_string()).collect::<Vec<_>>(), "{kind:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_syslog_ng_hangs_up_on_is_a_dead_letter_and_stops_nothing() {
    let receiver = start(Kind::SyslogNg);
    // Its `log-msg-size` is 2 MiB; so long a message its kernel does not take unread.
    let large = json!({ "Id": "large", "Pad": "x".repeat(8 << 20) }).to_string();
    let bench = Bench::start(sink(config(tcp(receiver.port("tcp")))));
    let offer = bench.offer(records(0, 20).chain([large]).chain(records(20, 20))).await;
    assert_eq!(offer.settled().await, counts(40, 1), "{}", receiver.log_end());
    let answer = bench.dead_letters()[0]["answer"].as_str().unwrap().to_owned();
    assert!(answer.contains("hung up") && answer.contains("`max_size`"), "{answer}");
    assert_eq!(bench.offer(records(100, 20)).await.settled().await, counts(20, 0));
    bench.stop().await;
    let read = messages(&receiver, 60);
    let id = |message: &Value| {
        let record: Value = serde_json::from_str(message["msg"].as_str().unwrap()).unwrap();
        record["Id"].as_str().unwrap().to_owned()
    };
    let ids: std::collections::BTreeSet<String> = read.iter().map(id).collect();
    assert_eq!(ids, (0..40).chain(100..120).map(|n| n.to_string()).collect(), "every other one is there");
}

#[tokio::test(flavor = "multi_thread")]
async fn rfc_3164_is_read_back() {
    for kind in [Kind::RsyslogGnutls, Kind::SyslogNg] {
        let receiver = start(kind);
        let port = receiver.port(if kind == Kind::SyslogNg { "old" } else { "tcp" });
        let framing = if kind == Kind::SyslogNg { Framing::Newline } else { Framing::OctetCounting };
        let bare = Bare::new(Format::Cef, SyslogConfig { rfc: Rfc::Rfc3164, framing, ..config(tcp(port)) });
        let part = part(&[record(1, "Set-Mailbox", "Failed")], Form::Cef);
        bare.deliver(&bare.batch(&part)).await;
        bare.sink.close().await;
        let read = messages(&receiver, 1);
        assert_eq!((&read[0]["pri"], &read[0]["host"]), (&json!("140"), &json!("contoso.com")), "{kind:?}");
        assert_eq!((&read[0]["app"], &read[0]["process"]), (&json!("o365"), &json!("Audit.Exchange")), "{kind:?}");
        let text = read[0]["msg"].as_str().unwrap().trim_start();
        assert_eq!(text.as_bytes(), part.event(0).doc(Form::Cef), "{kind:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn unix_sockets_of_both_kinds() {
    let receiver = start(Kind::SyslogNg);
    let unix = |name: &str, kind| SyslogAddress::Unix { path: receiver.file(name), kind };
    let ways = [
        ("datagrams", UnixKind::Either),
        ("datagrams", UnixKind::Datagram),
        ("stream", UnixKind::Either),
        ("stream", UnixKind::Stream),
    ];
    for (n, (name, kind)) in ways.into_iter().enumerate() {
        let syslog = SyslogConfig { framing: Framing::Newline, ..config(unix(name, kind)) };
        let bench = Bench::start(sink(syslog));
        assert_eq!(bench.offer(records(n * 10, 10)).await.settled().await, counts(10, 0), "{name}");
        bench.stop().await;
        assert_eq!(messages(&receiver, n * 10 + 10).len(), n * 10 + 10);
    }
    let rsyslog = start(Kind::RsyslogGnutls);
    let address = SyslogAddress::Unix { path: rsyslog.file("socket"), kind: UnixKind::Either };
    let bench = Bench::start(sink(config(address)));
    assert_eq!(bench.offer(records(0, 10)).await.settled().await, counts(10, 0));
    let large = bench.offer([json!({ "Pad": "x".repeat(2 << 20) }).to_string()]).await;
    assert_eq!(large.settled().await, counts(0, 1), "more than a datagram can be");
    assert!(bench.dead_letters()[0]["answer"].to_string().contains("more than a datagram"));
    bench.stop().await;
    assert_eq!(messages(&rsyslog, 10).len(), 10);
}

/// The sink's words about what it cannot send to.
async fn refusal(syslog: SyslogConfig) -> (bool, String) {
    let bare = Bare::new(Format::Raw, syslog);
    let batch = bare.batch(&part(&[record(1, "x", "True")], Form::Cef));
    let error = bare.sink.send(&batch).await.expect_err("it is refused");
    assert!(!matches!(error, SendError::Reject { .. } | SendError::Split { .. }), "{error}");
    (matches!(error, SendError::Fatal { .. }), error.to_string())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handshake_that_fails_names_its_cause_and_holds() {
    for kind in ALL {
        let receiver = start(kind);
        let wrong_ca = |mut config: SyslogConfig| {
            config.tls.ca_file = Some(receiver.file("other-ca.pem"));
            config
        };
        let mut cases = vec![(wrong_ca(tls(&receiver, "tls")), "tls-unknown-authority")];
        if kind != Kind::SyslogNg {
            cases.push((tls(&receiver, "expired"), "tls-expired"));
            cases.push((tls(&receiver, "elsewhere"), "tls-wrong-name"));
        }
        for (config, cause) in cases {
            let (is_final, said) = refusal(config).await;
            assert!(is_final && said.contains(cause), "{kind:?}: {said}");
            assert!(said.starts_with("sink `siem`: `tls://localhost:"), "{said}");
        }
        for certificate in [tls(&receiver, "mtls"), mtls(&receiver, "stranger.pem")] {
            let (is_final, said) = refusal(certificate).await;
            match kind {
                // It hangs up and says nothing.
                Kind::RsyslogGnutls => assert!(said.contains("certificate") || said.contains("broke off"), "{said}"),
                _ => assert!(is_final && said.contains("tls-client-certificate"), "{kind:?}: {said}"),
            }
        }
        // Held, not drained, and mended without a restart of ours.
        let bench = Bench::start(sink(wrong_ca(tls(&receiver, "tls"))));
        let held = bench.offer(records(0, 20)).await;
        bench.until_health(false).await;
        assert!(!held.is_settled() && bench.dead_letters().is_empty());
        std::fs::copy(receiver.file("ca.pem"), receiver.file("other-ca.pem")).unwrap();
        assert_eq!(held.settled().await, counts(20, 0), "{kind:?}");
        bench.stop().await;
        assert_eq!(messages(&receiver, 20).len(), 20, "{kind:?}: a refused connection wrote nothing");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_there_is_named_and_waited_for() {
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    let (is_final, said) = refusal(config(tcp(free))).await;
    assert!(!is_final && said.contains("nothing listens") | said.contains("connection-refused"), "{said}");
    let name = SyslogAddress::Tcp { host: "nobody.invalid".into(), port: 514 };
    let (is_final, said) = refusal(config(name)).await;
    assert!(!is_final && said.contains("explain dns"), "{said}");
    let path = SyslogAddress::Unix { path: "/nowhere/log".into(), kind: UnixKind::Either };
    let (is_final, said) = refusal(config(path)).await;
    assert!(!is_final && said.contains("No such file"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_long_goes_to_the_dead_letters_or_is_cut_and_says_so() {
    let receiver = start(Kind::RsyslogGnutls);
    let long = |n: usize| {
        let pad = if n.is_multiple_of(5) { 70_000 } else { 100 };
        json!({ "Id": n.to_string(), "Operation": "x", "Pad": "ü".repeat(pad / 2) }).to_string()
    };
    let udp = SyslogAddress::Udp { host: "127.0.0.1".into(), port: receiver.port("udp") };
    let ways = [
        SyslogConfig { max_size: Some(65_507), ..config(udp) },
        SyslogConfig { max_size: Some(2_000), ..config(tcp(receiver.port("tcp"))) },
    ];
    for (n, syslog) in ways.into_iter().enumerate() {
        let most = syslog.max_size.unwrap();
        let bench = Bench::start(sink(syslog));
        assert_eq!(bench.offer((0..20).map(long)).await.settled().await, counts(16, 4));
        let letters = bench.dead_letters();
        let answer = letters[0]["answer"].as_str().unwrap();
        assert!(letters.len() == 4 && answer.contains(&format!("above `max_size` ({most} bytes)")), "{answer}");
        bench.stop().await;
        assert_eq!(messages(&receiver, 16 * (n + 1)).len(), 16 * (n + 1), "neighbours arrive once");
    }
    let cut = SyslogConfig { max_size: Some(2_000), oversize: Oversize::Truncate, ..config(tcp(receiver.port("tcp"))) };
    let bench = Bench::start(sink(cut));
    assert_eq!(bench.offer((0..20).map(long)).await.settled().await, counts(20, 0));
    assert_eq!(bench.metrics.syslog_truncated.with_label_values(&["siem"]).get(), 4);
    bench.stop().await;
    let read = messages(&receiver, 52);
    let marked = read[32..].iter().filter(|message| parameters(message).get("truncated").is_some_and(|one| one == "1"));
    assert_eq!((read.len(), marked.count()), (52, 4));
}

/// Reads what comes until the end of the connection.
async fn read_all(mut stream: TcpStream) -> String {
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    text
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_dying_receiver_had_not_read_is_sent_again_first_and_counted() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let syslog = SyslogConfig { framing: Framing::Newline, ..config(tcp(listener.local_addr().unwrap().port())) };
    let bare = Bare::new(Format::Raw, syslog);
    let batch = |n| bare.batch(&part(&[record(n, "x", "True"), record(n + 1, "y", "True")], Form::Cef));
    let (first, second) = (batch(1), batch(3));
    let (taken, accepted) = tokio::join!(bare.sink.send(&first), listener.accept());
    taken.unwrap();
    // Its kernel has the batch, its process reads nothing of it: the connection is reset.
    drop(accepted.unwrap());
    let reading = async { read_all(listener.accept().await.unwrap().0).await };
    let (text, ()) = tokio::join!(reading, async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        bare.deliver(&second).await;
        bare.sink.close().await;
    });
    let ids: Vec<usize> = (1..5).map(|n| text.matches(&format!("\"id-{n}\"")).count()).collect();
    assert_eq!(ids, [1, 1, 1, 1], "{text}");
    assert!(text.find("\"id-1\"").unwrap() < text.find("\"id-3\"").unwrap(), "in order");
    let resent = |reason| bare.metrics.sink_resent.with_label_values(&["siem", reason]).get();
    assert_eq!(resent("connection_broke"), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_is_cut_in_the_middle_is_sent_again_whole() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let bare = Bare::new(Format::Raw, config(tcp(listener.local_addr().unwrap().port())));
    // More than a kernel takes for a process that does not read.
    let all: Vec<String> = (0..20_000).map(|n| record(n, "x", "True")).collect();
    let batch = bare.batch(&part(&all, Form::Cef));
    let receiving = async {
        let (mut first, _) = listener.accept().await.unwrap();
        first.read_exact(&mut [0; 500]).await.unwrap();
        drop(first);
        read_all(listener.accept().await.unwrap().0).await
    };
    let (text, ()) = tokio::join!(receiving, async {
        bare.deliver(&batch).await;
        bare.sink.close().await;
    });
    let (mut rest, mut messages) = (text.as_str(), 0);
    while let Some((length, after)) = rest.split_once(' ') {
        let (message, next) = after.split_at(length.parse().unwrap());
        assert!(message.contains(&format!("\"id-{messages}\"")), "{message}");
        (rest, messages) = (next, messages + 1);
    }
    assert_eq!((messages, rest), (20_000, ""), "each once and in order, framed from the beginning");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_may_be_lost_is_sent_again_even_if_nothing_new_comes() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let bare = Bare::new(Format::Raw, config(tcp(listener.local_addr().unwrap().port())));
    let batch = bare.batch(&part(&[record(1, "x", "True")], Form::Cef));
    let (taken, accepted) = tokio::join!(bare.sink.send(&batch), listener.accept());
    taken.unwrap();
    drop(accepted.unwrap());
    let (mut stream, _) =
        tokio::time::timeout(LIMIT, listener.accept()).await.expect("it comes back by itself").unwrap();
    let mut buffer = [0; 4096];
    let length = stream.read(&mut buffer).await.unwrap();
    assert!(String::from_utf8_lossy(&buffer[..length]).contains("\"id-1\""));
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_acknowledged_that_the_receivers_kernel_does_not_have() {
    let receiver = start(Kind::RsyslogGnutls);
    let bench = Bench::start(sink(config(tcp(receiver.port("tcp")))));
    assert_eq!(bench.offer(records(0, 100)).await.settled().await, counts(100, 0));
    receiver.freeze(true);
    // More than its kernel takes for a process that reads nothing.
    let waiting = bench.offer(records(100, 60_000)).await;
    bench.until_health(false).await;
    assert!(!waiting.is_settled() && bench.dead_letters().is_empty());
    let delivered = bench.events("delivered");
    assert!(delivered < 40_000, "{delivered} of 60,100 acknowledged");
    receiver.freeze(false);
    assert_eq!(waiting.settled().await, counts(60_000, 0));
    bench.stop().await;
    assert_eq!(messages(&receiver, 60_100).len(), 60_100, "a slow receiver gets nothing twice");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_connection_is_not_taken_for_dead() {
    let receiver = start(Kind::RsyslogGnutls);
    let syslog = SyslogConfig { timeout: Duration::from_secs(1), ..config(tcp(receiver.port("tcp"))) };
    let bench = Bench::start(sink(syslog));
    for n in 0..3 {
        assert_eq!(bench.offer(records(n * 10, 10)).await.settled().await, counts(10, 0));
        tokio::time::sleep(Duration::from_millis(1_300)).await;
    }
    // No room is no death either.
    receiver.freeze(true);
    let waiting = bench.offer(records(100, 60_000)).await;
    tokio::time::sleep(Duration::from_secs(4)).await;
    receiver.freeze(false);
    assert_eq!(waiting.settled().await, counts(60_000, 0));
    bench.stop().await;
    assert_eq!(messages(&receiver, 60_030).len(), 60_030, "one connection, and nothing twice");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_end_in_order_waits_until_everything_is_read() {
    for kind in ALL {
        let receiver = start(kind);
        let bench = Bench::start(sink(tls(&receiver, "tls")));
        let offer = bench.offer(records(0, 5_000)).await;
        bench.driver.close();
        assert!(bench.driver.finish(tokio::time::Instant::now() + LIMIT).await);
        assert_eq!(offer.settled().await, counts(5_000, 0));
        assert_eq!(messages(&receiver, 5_000).len(), 5_000);
        let resent = bench.metrics.sink_resent.with_label_values(&["siem", "connection_broke"]).get();
        assert_eq!(resent, 0, "{kind:?}");
    }
}
