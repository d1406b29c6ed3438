//! The http sink beyond the contract of all sinks: every encoding, login and preset against a receiver that checks what
//! the real ones document, and OTLP against the OpenTelemetry Collector.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use auditferry::config::{
    CredentialConfig, HttpAddress, HttpConfig, HttpEncoding, HttpPreset, LoginConfig, ProxyConfig, SecretHeader,
    SignatureAlgorithm, SignatureConfig, SinkConfig, SinkKind, TlsConfig, TokenConfig, TokenEndpoint,
};
use auditferry::secret::SecretSource;
use auditferry::simulator::WorldConfig;
use serde_json::Value;

use super::contract::http_kind;
use super::{Bench, LIMIT, counts, keys_of, records, sink_config};
use crate::hec::canonical_hash;
use crate::real::collector::Collector;
use crate::support::{Place, world};
use crate::web::{FakeWeb, Kind};

fn sink(http: HttpConfig) -> SinkConfig {
    sink_config("soc", SinkKind::Http(http))
}

fn value(text: &str) -> SecretSource {
    SecretSource::Value(text.to_owned().into())
}

fn without_login(url: &str) -> HttpConfig {
    HttpConfig { login: LoginConfig::None, ..http_kind(url) }
}

/// The records' own JSON, as often as it arrived.
fn hashes(events: impl IntoIterator<Item = Value>) -> Vec<[u8; 32]> {
    let mut hashes: Vec<_> = events.into_iter().map(|event| canonical_hash(event.to_string().as_bytes())).collect();
    hashes.sort_unstable();
    hashes
}

fn sent(from: usize, count: usize) -> Vec<[u8; 32]> {
    hashes(records(from, count).map(|record| serde_json::from_str(&record).unwrap()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn arrays_and_single_events_arrive_whole_and_each_batch_is_known_by_its_keys() {
    for (kind, encoding) in [
        (Kind::Ndjson, HttpEncoding::Ndjson),
        (Kind::JsonArray, HttpEncoding::JsonArray),
        (Kind::Single, HttpEncoding::Single),
    ] {
        let web = FakeWeb::start(kind).await;
        let gzip = encoding != HttpEncoding::Single;
        let mut config = sink(HttpConfig { encoding, gzip, method: "PUT", ..without_login(&web.url("/a/b?c=d")) });
        if encoding == HttpEncoding::Single {
            config.batch.max_events = 1;
        }
        let bench = Bench::start(config);
        let offer = bench.offer(records(0, 300)).await;
        assert_eq!(offer.settled().await, counts(300, 0));
        assert_eq!(hashes(web.events()), sent(0, 300));
        let taken = web.taken();
        let keys: HashSet<_> =
            taken.iter().map(|request| request.header("idempotency-key").unwrap().to_owned()).collect();
        assert_eq!(keys.len(), taken.len());
        if encoding == HttpEncoding::Single {
            let mut keys: Vec<_> = keys.into_iter().collect();
            keys.sort();
            assert_eq!(keys, keys_of(&offer), "a single event is known by its own key");
        }
        let first = &taken[0];
        assert_eq!((first.method.as_str(), first.path.as_str()), ("PUT", "/a/b?c=d"));
        assert_eq!(first.header("content-encoding").is_some(), gzip);
        bench.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_that_is_sent_again_has_the_same_idempotency_key() {
    let web = FakeWeb::start(Kind::Ndjson).await;
    web.set(|knobs| knobs.hang_up = 2);
    let bench = Bench::start(sink(without_login(&web.url("/"))));
    let offer = bench.offer(records(0, 20)).await;
    assert_eq!(offer.settled().await, counts(20, 0));
    let keys: Vec<_> =
        web.taken().iter().map(|request| request.header("idempotency-key").unwrap().to_owned()).collect();
    assert!(keys.len() == 3 && keys.iter().all(|key| *key == keys[0]), "{keys:?}");
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn headers_and_a_signature_of_what_was_sent_and_what_is_too_large_is_halved() {
    let web = FakeWeb::start(Kind::JsonArray).await;
    web.set(|knobs| knobs.max_body = Some(20_000));
    let mut http = HttpConfig { encoding: HttpEncoding::JsonArray, ..without_login(&web.url("/")) };
    http.headers = vec![SecretHeader { name: "X-Route".into(), value: value("soc"), is_secret: false }];
    http.signature = Some(SignatureConfig {
        header: "X-Signature".into(),
        algorithm: SignatureAlgorithm::Sha256,
        secret: value("key"),
        timestamp_header: Some("X-Timestamp".into()),
    });
    let bench = Bench::start(sink(http));
    let offer = bench.offer(records(0, 400)).await;
    assert_eq!(offer.settled().await, counts(400, 0));
    assert_eq!(hashes(web.events()), sent(0, 400));
    assert!(web.answers().contains(&413));
    for request in web.taken() {
        assert_eq!(request.header("x-route"), Some("soc"));
        let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, b"key");
        let signed = [request.header("x-timestamp").unwrap().as_bytes(), b".", &request.raw].concat();
        let tag = aws_lc_rs::hmac::sign(&key, &signed);
        let hex: String = tag.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(request.header("x-signature"), Some(format!("sha256={hex}").as_str()));
    }
    bench.stop().await;
}

fn oauth(web: &FakeWeb, secret: SecretSource) -> LoginConfig {
    let url: url::Url = web.url("/token").parse().unwrap();
    LoginConfig::OAuth2(Box::new(TokenConfig {
        login: url.clone(),
        tenant_id: String::new(),
        client_id: "client".into(),
        credential: CredentialConfig::ClientSecret { secret, expires: None },
        scope: "https://monitor.azure.com/.default".into(),
        endpoint: Some(TokenEndpoint { url, parameters: Vec::new(), basic: false }),
        tls: TlsConfig::default(),
        proxy: ProxyConfig::Off,
    }))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_is_fetched_renewed_when_it_is_refused_and_a_wrong_secret_holds_until_it_is_mended() {
    let web = FakeWeb::start(Kind::Ndjson).await;
    web.set(|knobs| {
        knobs.authorization = Some("oauth".into());
        knobs.client_secret = "right".into();
    });
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("secret");
    std::fs::write(&path, "wrong").unwrap();
    let login = oauth(&web, SecretSource::File(path.clone()));
    let bench = Bench::start(sink(HttpConfig { login, ..without_login(&web.url("/")) }));
    let offer = bench.offer(records(0, 200)).await;
    bench.until_health(false).await;
    assert_eq!((web.requests(), bench.dead_letters().len()), (0, 0), "nothing is sent without a token");
    std::fs::write(&path, "right").unwrap();
    assert_eq!(offer.settled().await, counts(200, 0));
    bench.until_health(true).await;
    let tokens = web.tokens();
    let again = bench.offer(records(1000, 200)).await;
    assert_eq!(again.settled().await, counts(200, 0));
    assert_eq!(web.tokens(), tokens, "one token serves many requests");
    // Somebody else is given the next one, and ours is good no more: renewed without a hold.
    let mut answer = reqwest::Client::builder().no_proxy().build().unwrap().post(web.url("/token"));
    answer = answer.body("grant_type=client_credentials&client_secret=right");
    assert!(answer.send().await.unwrap().status().is_success());
    let third = bench.offer(records(2000, 200)).await;
    assert_eq!(third.settled().await, counts(200, 0));
    assert!(*bench.driver.health().borrow());
    assert_eq!(hashes(web.events()).len(), 600);
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_refusal_names_its_cause_and_holds_and_drains_nothing() {
    let refusals = [
        (301, "redirects are not followed"),
        (401, "check `auth`"),
        (403, "check `auth`"),
        (404, "check `url`"),
        (405, "`method`"),
        (407, "`proxy`"),
        (410, "check `url`"),
        (415, "`encoding`"),
    ];
    for (status, cause) in refusals {
        let web = FakeWeb::start(Kind::Ndjson).await;
        web.set(|knobs| knobs.status = Some((status, "no token-canary".into())));
        let login = LoginConfig::Token { scheme: auditferry::config::BEARER, token: value("token-canary") };
        let config = sink(HttpConfig { login, ..without_login(&web.url("/")) });
        // What the sink says is what the driver logs.
        let metrics = auditferry::metrics::Metrics::new();
        let dir = tempfile::tempdir().unwrap();
        let state = auditferry::config::StateConfig { dir: dir.path().into(), max_delivered_bytes: 1 << 20 };
        let state = auditferry::state::State::open(&state, Arc::clone(&metrics)).unwrap();
        let sink = auditferry::sink::build(&config, auditferry::sink::SinkId(0), &state, metrics).unwrap();
        let bytes = [[0u8; 16].as_slice(), b"{}"].concat();
        let batch = auditferry::sink::EncodedBatch { ends: vec![bytes.len()], bytes };
        let error = auditferry::sink::Sink::send(&sink, &batch).await.unwrap_err();
        let said = error.to_string();
        assert!(matches!(error, auditferry::sink::SendError::Fatal { .. }), "{status}: {said}");
        assert!(said.contains("sink `soc`") && said.contains(cause) && !said.contains("canary"), "{status}: {said}");

        let bench = Bench::start(config);
        let offer = bench.offer(records(0, 50)).await;
        bench.until_health(false).await;
        assert!(!offer.is_settled() && bench.dead_letters().is_empty(), "{status}");
        web.set(|knobs| knobs.status = None);
        assert_eq!(offer.settled().await, counts(50, 0), "{status}");
        bench.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_in_a_file_is_read_again_and_is_in_no_text() {
    let web = FakeWeb::start(Kind::Ndjson).await;
    web.set(|knobs| knobs.status = Some((404, "no_service: /services/T000canary/B000canary is gone".into())));
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("address");
    std::fs::write(&path, web.url("/services/T000canary/B000canary\n")).unwrap();
    let mut http = without_login("https://unused.example");
    http.address = HttpAddress { source: SecretSource::File(path.clone()), is_secret: true };
    assert!(!http.address.shown().contains("canary") && http.address.shown().contains("localhost"));
    let bench = Bench::start(sink(http));
    let offer = bench.offer(records(0, 20)).await;
    bench.until_health(false).await;
    web.set(|knobs| knobs.status = None);
    std::fs::write(&path, web.url("/services/T000canary/B111canary")).unwrap();
    assert_eq!(offer.settled().await, counts(20, 0));
    assert_eq!(web.taken()[0].path, "/services/T000canary/B111canary");
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sentinel_is_sent_rows_with_their_time_in_bodies_within_its_limit() {
    let web = FakeWeb::start(Kind::Sentinel).await;
    web.set(|knobs| {
        knobs.authorization = Some("oauth".into());
        knobs.client_secret = "right".into();
        knobs.throttle = 1;
        knobs.retry_after = Some("1".into());
    });
    let url = web.url("/dataCollectionRules/dcr-0123456789abcdef/streams/Custom-Audit_CL");
    let mut config = sink(HttpConfig {
        preset: Some(HttpPreset::Sentinel),
        encoding: HttpEncoding::JsonArray,
        login: oauth(&web, value("right")),
        ..without_login(&url)
    });
    config.batch.max_bytes = 980_000;
    config.batch.max_events = 100_000;
    let bench = Bench::start(config);
    let began = Instant::now();
    // One is too large for any call: a dead letter, and its neighbours arrive.
    let huge = format!("{{\"Id\":\"huge\",\"Pad\":\"{}\"}}", "x".repeat(1_100_000));
    let offer = bench.offer(records(0, 12_000).chain([huge])).await;
    assert_eq!(offer.settled().await, counts(12_000, 1));
    assert!(began.elapsed() >= Duration::from_secs(1));
    let rows = web.events();
    assert_eq!(hashes(rows.iter().map(|row| row["Event"].clone())), sent(0, 12_000));
    assert!(rows.iter().all(|row| row["TimeGenerated"] == "2023-11-14T22:13:20.000Z" && row["Tenant"] == "contoso"));
    let largest = web.taken().iter().map(|request| request.body.len()).max().unwrap();
    assert!((500_000..=1_000_000).contains(&largest), "{largest}");
    assert!(web.taken().iter().all(|request| request.header("content-encoding") == Some("gzip")));
    assert!(!web.answers().contains(&413), "what is too large is not even sent");
    let letters = bench.dead_letters();
    assert!(letters[0]["answer"].as_str().unwrap().contains("takes 1000000"), "{}", letters[0]["answer"]);
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_receiver_of_otlp_refused_is_found_and_the_rest_is_there() {
    let web = FakeWeb::start(Kind::Otlp).await;
    let is_bad = |event: &Value| event["body"]["stringValue"].as_str().unwrap().contains("7\",");
    web.set(|knobs| {
        knobs.refuse = Some(Arc::new(is_bad));
        knobs.refuse_partially = true;
    });
    let config = sink(HttpConfig { preset: Some(HttpPreset::Otlp), ..without_login(&web.url("")) });
    let bench = Bench::start(config);
    let offer = bench.offer(records(0, 40)).await;
    assert_eq!(offer.settled().await, counts(36, 4));
    let ids: HashSet<_> = web.events().iter().map(|event| event["body"]["stringValue"].to_string()).collect();
    assert_eq!(ids.len(), 36);
    assert!(bench.dead_letters()[0]["answer"].as_str().unwrap().contains("too old"));
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_collectors_receiver_of_otlp_reads_back_every_record() {
    let collector = tokio::task::spawn_blocking(Collector::start_otlp).await.unwrap();
    let config = sink(HttpConfig { preset: Some(HttpPreset::Otlp), ..without_login(&collector.url()) });
    let bench = Bench::start(config);
    let odd = "{\"Id\":\"odd\",\"Operation\":\"A \\u00e9 \\ud83d\\ude00\",\"Pad\":\"\\u0000\\n\u{202e}\"}".to_owned();
    let offer = bench.offer(records(0, 2000).chain([odd.clone()])).await;
    assert_eq!(offer.settled().await, counts(2001, 0), "{}", collector.log_end());
    let written = async {
        while collector.lines() < 2001 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(LIMIT, written).await.expect("what it accepted it writes");
    let read = collector.read();
    let mut keys: Vec<_> = read.iter().map(|line| line["key"].as_str().unwrap().to_owned()).collect();
    keys.sort();
    assert_eq!(keys, keys_of(&offer), "once each");
    let texts: HashSet<&str> = read.iter().map(|line| line["event"].as_str().unwrap()).collect();
    assert!(records(0, 2000).chain([odd]).all(|record| texts.contains(record.as_str())), "verbatim");
    let one = read.iter().find(|line| line["event"].as_str().unwrap().contains("\"odd\"")).unwrap();
    assert_eq!(one["attributes"]["operation"], "A é 😀");
    assert_eq!(
        (&one["attributes"]["tenant"], &one["attributes"]["content_type"]),
        (&"contoso".into(), &"Audit.Exchange".into())
    );
    assert_eq!((&one["time"], &one["severity"]), (&1_700_000_000_000_u64.into(), &"Info".into()));
    assert_eq!((&one["resource"]["service.name"], &one["scope"]), (&"auditferry".into(), &"auditferry".into()));
    bench.stop().await;
}

/// The real program with a chat of each kind: messages of real documents, at the speed that a chat takes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn chats_are_told_of_records_in_words_at_the_speed_that_they_take() {
    let world = world(WorldConfig::new().records(400).days(1).speed(20.0)).await;
    for (kind, preset) in [(Kind::Slack, "slack"), (Kind::Teams, "teams")] {
        let web = FakeWeb::start(kind).await;
        web.set(|knobs| knobs.per_second = Some(2));
        let place = Place::new();
        std::fs::write(place.path("hook"), web.url("/hooks/T0000000/canary-hook")).unwrap();
        let sinks = format!(
            "{}  - {{ name: chat, type: http, preset: {preset}, url: \"${{file:{}}}\", required: false, when: {{ content_type: DLP.All }} }}\n",
            place.file_sink("out.ndjson"),
            place.path("hook").display()
        );
        place.write_config(&world, &sinks, "collect: { requests_per_minute: 100000, poll_interval: 5s, backfill: 2d }");
        let began = Instant::now();
        let mut process = place.start(&[], &[]);
        assert!(web.wait_for(4, LIMIT).await, "{}", place.log_tail());
        assert!(began.elapsed() >= Duration::from_secs(2), "four messages in {:?}", began.elapsed());
        process.terminate();
        assert!(process.wait(LIMIT).await.is_some());
        assert!(web.answers().iter().all(|status| *status / 100 == 2), "{:?}", web.answers());
        let said = web.events()[0].to_string();
        assert!(said.contains(" in ") && said.contains("User"), "{said}");
        assert!(!place.log().contains("canary-hook"), "{}", place.log());
    }
}

/// The real program while everything refuses it: nothing that it shows holds a secret.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refusals_bring_no_secret_into_log_status_or_metrics() {
    let world = world(WorldConfig::new().records(200).days(1).speed(20.0)).await;
    let (web, place) = (FakeWeb::start(Kind::Ndjson).await, Place::new());
    web.set(|knobs| {
        knobs.client_secret = "another".into();
        knobs.status = Some((404, "no canary-hook here, nor canary-header, canary-bearer".into()));
    });
    for (name, text) in [
        ("hook", web.url("/hooks/canary-hook?sig=canary-query")),
        ("header", "canary-header".into()),
        ("bearer", "canary-bearer".into()),
        ("client", "canary-client".into()),
    ] {
        std::fs::write(place.path(name), text).unwrap();
    }
    let file = |name: &str| format!("\"${{file:{}}}\"", place.path(name).display());
    let sinks = format!(
        "  - {{ name: hook, type: http, url: {}, headers: {{ X-Key: {} }}, auth: {{ bearer: {} }} }}\n  - {{ name: granted, type: http, url: {:?}, auth: {{ oauth2: {{ token_url: {:?}, client_id: c, client_secret: {} }} }} }}\n",
        file("hook"),
        file("header"),
        file("bearer"),
        web.url("/in"),
        web.url("/token"),
        file("client")
    );
    place.write_config(&world, &sinks, "collect: { requests_per_minute: 100000, poll_interval: 5s, backfill: 2d }");
    let mut process = place.start(&["-v"], &[("AUDITFERRY_LOG", "debug")]);
    let deadline = Instant::now() + LIMIT;
    while place.log().matches("the sink refuses everything").count() < 2 {
        assert!(Instant::now() < deadline, "{}", place.log_tail());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let admin = process.admin().await.unwrap();
    let mut shown = place.log();
    for page in ["metrics", "status"] {
        shown += &reqwest::get(format!("http://{admin}/{page}")).await.unwrap().text().await.unwrap();
    }
    assert!(shown.contains("nobody takes events at this address") && shown.contains("invalid_client"), "{shown}");
    let at = shown.find("canary");
    assert!(at.is_none(), "{}", &shown[at.unwrap().saturating_sub(300)..at.unwrap() + 20]);
    process.terminate();
    assert!(process.wait(LIMIT).await.is_some());
}
