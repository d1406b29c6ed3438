//! Secrets: with every library at its most talkative, everything going wrong and known secrets in use,
//! none of them, in any common spelling, is in the log, the metrics, the status, the state, the dead
//! letters or what a verb prints.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use auditferry::simulator::{ManagedIdentity, Scenario, WorldConfig};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};

use super::credentials::{Certificate, Issuer, trust};
use super::little_service::{LittleService, TOKEN, body};
use crate::hec::{FakeHec, Options};
use crate::real::kafka::Kafka;
use crate::support::{Place, figure, size, world};

const HEC_TOKEN: &str = "canary-hec-7b1f0c55~9d2e+4a/6f83-token";
const PSEUDONYM_KEY: &str = "canary-pseudonym-4d7a19~c02e/+8b";
const WRONG_SECRET: &str = "canary~wrong.client-secret_5c0ffee5/+=";
/// What the simulator's tokens begin with, whatever they say and until when.
const TOKEN_HEAD: &str = r#"{"typ":"JWT","alg":"RS256","kid":"simulator"}"#;

/// A secret in one spelling.
struct Spelling {
    what: String,
    bytes: Vec<u8>,
}

/// How a secret may be spelled: as it is, percent-encoded, in hexadecimal digits, in base64 of either
/// alphabet wherever in a longer text it stands.
fn spellings(name: &str, secret: &str) -> Vec<Spelling> {
    let spelling = |how: &str, text: String| Spelling { what: format!("{name}, {how}"), bytes: text.into_bytes() };
    let percent: String = url::form_urlencoded::byte_serialize(secret.as_bytes()).collect();
    let hex: String = secret.bytes().map(|byte| format!("{byte:02x}")).collect();
    let mut all = vec![
        spelling("plain", secret.to_owned()),
        spelling("upper case", secret.to_uppercase()),
        spelling("percent-encoded", percent),
        spelling("hexadecimal", hex),
        spelling("as a list of bytes", format!("{:?}", secret.as_bytes()).trim_matches(['[', ']']).to_owned()),
    ];
    for before in 0..3 {
        let text = [&vec![b' '; before], secret.as_bytes()].concat();
        for (alphabet, encoded) in [("base64", STANDARD.encode(&text)), ("base64url", URL_SAFE_NO_PAD.encode(&text))] {
            // Characters that depend on what stands before and behind are left out.
            let inner = &encoded[(before * 8).div_ceil(6)..encoded.trim_end_matches('=').len() - 2];
            all.push(spelling(&format!("{alphabet} at {before}"), inner.to_owned()));
        }
    }
    all
}

/// Where any of the spellings stands in any of the files below `root`, other than `but`.
fn hits(root: &Path, but: &[PathBuf], spellings: &[Spelling]) -> Vec<String> {
    let mut found = Vec::new();
    let mut directories = vec![root.to_owned()];
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(directory).unwrap().flatten() {
            let path = entry.path();
            if path.is_dir() {
                directories.push(path);
            } else if !but.contains(&path) {
                let bytes = std::fs::read(&path).unwrap();
                for spelling in spellings {
                    if let Some(at) = memchr::memmem::find(&bytes, &spelling.bytes) {
                        let around = &bytes[at.saturating_sub(120)..(at + 60).min(bytes.len())];
                        let around = String::from_utf8_lossy(around).into_owned();
                        found.push(format!("{} in {}: {around}", spelling.what, path.display()));
                    }
                }
            }
        }
    }
    found
}

/// The grep can find: every spelling, planted in a copy of the log, is a hit.
fn prove(place: &Place, spellings: &[Spelling]) {
    let copy = tempfile::tempdir().unwrap();
    let log = std::fs::read(place.path("log")).unwrap();
    for (number, spelling) in spellings.iter().enumerate() {
        let middle = log.len() / 2;
        let planted = [&log[..middle], &spelling.bytes, &log[middle..]].concat();
        std::fs::write(copy.path().join("log"), planted).unwrap();
        let only = std::slice::from_ref(&spellings[number]);
        assert_eq!(hits(copy.path(), &[], only).len(), 1, "{}", spelling.what);
    }
}

/// Runs a verb and keeps all that it prints.
fn verb(place: &Place, name: &str, arguments: &[&str]) {
    let output =
        Command::new(env!("CARGO_BIN_EXE_auditferry")).args(arguments).env("AUDITFERRY_LOG", "trace").output().unwrap();
    std::fs::write(place.path(&format!("{name}.stdout")), output.stdout).unwrap();
    std::fs::write(place.path(&format!("{name}.stderr")), output.stderr).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn secrets_are_in_nothing_that_is_written_at_trace() {
    const FAULTS: [Scenario; 10] = [
        Scenario::TokenEndpointError,
        Scenario::TokenExpiry,
        Scenario::Throttle429,
        Scenario::Throttle403,
        Scenario::ServerError,
        Scenario::HtmlError,
        Scenario::GarbageError,
        Scenario::TruncatedBody,
        Scenario::PageError,
        Scenario::ForgedUrls,
    ];
    let records = size(2000, 6000);
    let world = world(WorldConfig::new().tenants(2).records(records).days(2).speed(60.0)).await;
    for fault in FAULTS {
        // Throttling pauses a whole tenant, so there is little of it.
        let throttles = matches!(fault, Scenario::Throttle429 | Scenario::Throttle403);
        world.enable(fault, Some(if throttles { 0.01 } else { 0.04 }));
    }
    let place = Place::new();
    // Over TLS, so that what rustls says is in it too.
    let signed = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let (certificate, key) = (signed.cert.pem(), signed.signing_key.serialize_pem());
    std::fs::write(place.path("ca.pem"), &certificate).unwrap();
    let hec = FakeHec::start_with(Options { tls: Some((certificate, key)), ..Options::default() }).await;
    hec.set(|knobs| {
        knobs.token = "another".into();
        knobs.refuse = Some(std::sync::Arc::new(|offered| offered.key.starts_with('0')));
    });
    let sinks = format!(
        "  - {{ name: splunk, type: splunk_hec, url: {:?}, token: {HEC_TOKEN:?}, hash_fields: {{ key: {PSEUDONYM_KEY:?}, fields: [UserId] }}, tls: {{ ca_file: {:?} }}, retry: {{ initial: 100ms, max: 1s }} }}\n",
        hec.url(),
        place.path("ca.pem"),
    );
    place.write_config(&world, &sinks, "");
    // The second tenant's secret is one that the token endpoint refuses.
    let second = world.tenants()[1].name.clone();
    let right = format!("{:?}", world.tenants()[1].client_secret);
    let text = std::fs::read_to_string(place.config()).unwrap();
    let lines = text.lines().map(|line| match line.contains(&format!("name: {second:?}")) {
        true => line.replace(&right, &format!("{WRONG_SECRET:?}")),
        false => line.to_owned(),
    });
    place.write_text(&lines.collect::<Vec<_>>().join("\n"));

    let mut process = place.start(&[], &[("AUDITFERRY_LOG", "trace")]);
    let admin = process.admin().await.unwrap();
    let refused = async {
        while hec.received().answers.get(&403).is_none_or(|count| *count < 2) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), refused).await.expect("the wrong token is refused");
    hec.set(|knobs| knobs.token = HEC_TOKEN.into());
    let enough = records as usize / 10;
    let all_there = hec.wait_for(enough, Duration::from_secs(size(30, 120))).await;
    for page in ["metrics", "status", "readyz", "livez"] {
        let answer = reqwest::get(format!("http://{admin}/{page}")).await.unwrap().text().await.unwrap();
        std::fs::write(place.path(page), answer).unwrap();
    }
    process.terminate();
    assert!(process.wait(Duration::from_secs(30)).await.is_some());
    let config = place.config();
    let config = config.to_str().unwrap();
    verb(&place, "validate", &["validate", "-c", config]);
    let state = place.state_dir();
    verb(&place, "show", &["state", "show", "--dir", state.to_str().unwrap()]);
    verb(&place, "show-json", &["state", "show", "--json", "--dir", state.to_str().unwrap()]);

    let mut secrets = spellings("client secret", &world.tenants()[0].client_secret);
    secrets.extend(spellings("refused client secret", WRONG_SECRET));
    secrets.extend(spellings("collector token", HEC_TOKEN));
    secrets.extend(spellings("key of the pseudonyms", PSEUDONYM_KEY));
    // A token is base64 of its head, and whatever spells a token spells that.
    secrets.extend(spellings("access token", &URL_SAFE_NO_PAD.encode(TOKEN_HEAD)));
    let log = std::fs::read_to_string(place.path("log")).unwrap();
    let letters = std::fs::read_to_string(state.join("dead.ndjson")).unwrap().lines().count();
    let found = hits(place.path("x").parent().unwrap(), &[place.config()], &secrets);
    figure(
        "secrets",
        format_args!(
            "{} hits of {} spellings; {} bytes of log, {letters} dead letters, {} events, faults {:?}",
            found.len(),
            secrets.len(),
            log.len(),
            hec.count(),
            world.report().faults
        ),
    );
    assert!(all_there, "{} of {enough}: {}", hec.count(), place.log_tail());
    assert!(letters > 0);
    for library in ["hyper", "h2", "reqwest", "rustls"] {
        assert!(log.contains(&format!("\"target\":\"{library}")), "{library} was not heard");
    }
    for said in ["AADSTS7000215", "Invalid token"] {
        assert!(log.contains(said), "{said}");
    }
    assert_eq!(found, [""; 0]);
    prove(&place, &secrets);
}

/// What a service says is repeated in logs and dead letters; if it says our own secret, that is not.
#[tokio::test(flavor = "multi_thread")]
async fn secrets_that_a_service_echoes_are_not_repeated() {
    const SECRET: &str = "canary~client/secret+8e51d0";
    let escaped = SECRET.replace('/', "\\/").replace('+', "\\u002B");
    let answer = |status: u16, text: String| -> Option<Response> {
        Some((StatusCode::from_u16(status).unwrap(), text).into_response())
    };
    let service = LittleService::start(vec![("Audit.SharePoint", "blob", body(0..10))], 60.0, move |asked, _| {
        if asked.path.contains("/collector") {
            let authorization = asked.authorization.as_deref().unwrap_or("");
            return match asked.before {
                0 => answer(503, format!(r#"{{"text":"busy, {authorization}","code":9}}"#)),
                1 => answer(502, format!("<html>{authorization}</html>")),
                2 => answer(403, format!(r#"{{"text":"no: {authorization}","code":4}}"#)),
                _ => answer(400, format!(r#"{{"text":"bad: {authorization}","code":6,"invalid-event-number":0}}"#)),
            };
        }
        if asked.path.ends_with("/token") && asked.before < 2 {
            let error = ["temporarily_unavailable", "invalid_client"][asked.before as usize];
            let text =
                format!(r#"{{"error":"{error}","error_description":"AADSTS7000215: not {SECRET} ({escaped})"}}"#);
            return answer(400, text);
        }
        let token = asked.authorization.as_deref()?;
        if asked.before < 2 {
            return answer(500, format!(r#"{{"error":{{"code":"AF50000","message":"{token}"}}}}"#));
        }
        (asked.before == 2).then(|| answer(400, format!(r#"{{"error":{{"code":"{token}","message":"x"}}}}"#)))?
    })
    .await;
    let place = Place::new();
    let sink = format!(
        "  - {{ name: splunk, type: splunk_hec, url: {:?}, token: {HEC_TOKEN:?}, retry: {{ initial: 100ms, max: 1s }} }}\n",
        service.root()
    );
    place.write_text(&format!("{}sinks:\n{sink}", service.config(&place.state_dir(), SECRET, "")));
    let mut process = place.start(&["--once", "--once-timeout", "25s"], &[("AUDITFERRY_LOG", "trace")]);
    let status = process.wait(Duration::from_secs(60)).await;
    let mut secrets = spellings("client secret", SECRET);
    secrets.extend(spellings("collector token", HEC_TOKEN));
    secrets.extend(spellings("access token", TOKEN));
    let found = hits(place.path("x").parent().unwrap(), &[place.config()], &secrets);
    let log = std::fs::read_to_string(place.path("log")).unwrap();
    let echoed = service.asked().iter().filter(|asked| asked.before < 3).count();
    figure("secrets", format_args!("{} hits after {echoed} answers that say a secret, {status:?}", found.len()));
    assert_eq!(found, [""; 0]);
    for said in ["AADSTS7000215", "AF50000", "busy, "] {
        assert!(log.contains(said), "{said}");
    }
    prove(&place, &secrets);
}

/// A password that Kafka refuses, and one of a key, with librdkafka heard through our log.
#[tokio::test(flavor = "multi_thread")]
async fn secrets_of_a_refused_login_to_kafka_are_in_nothing_that_is_written() {
    const PASSWORD: &str = "canary~kafka.password-7d20b3/+=";
    const KEY_PASSWORD: &str = "canary~kafka.key.password-91ce";
    const SECRET: &str = "canary~client.secret-77a1c2";
    let kafka = Kafka::shared();
    let blobs = vec![("Audit.SharePoint", "blob", body(0..10))];
    let service = LittleService::start(blobs, 60.0, |_, _| None).await;
    let place = Place::new();
    let sinks: String = ["PLAIN", "SCRAM-SHA-512"]
        .map(|mechanism| {
            format!(
                "  - {{ name: {}, type: kafka, brokers: {:?}, topic: secret, sasl: {{ mechanism: {mechanism}, username: alice, password: {PASSWORD:?} }}, librdkafka: {{ ssl.key.password: {KEY_PASSWORD:?} }} }}\n",
                mechanism.to_lowercase(),
                kafka.address("login")
            )
        })
        .concat();
    place.write_text(&format!("{}sinks:\n{sinks}", service.config(&place.state_dir(), SECRET, "")));
    let mut process = place.start(&["--once", "--once-timeout", "6s"], &[("AUDITFERRY_LOG", "trace")]);
    let status = process.wait(Duration::from_secs(60)).await;
    let config = place.config();
    verb(&place, "validate", &["validate", "-c", config.to_str().unwrap()]);
    let mut secrets = spellings("password", PASSWORD);
    secrets.extend(spellings("password of the key", KEY_PASSWORD));
    secrets.extend(spellings("client secret", SECRET));
    let found = hits(place.path("x").parent().unwrap(), &[place.config()], &secrets);
    let log = std::fs::read_to_string(place.path("log")).unwrap();
    figure("secrets", format_args!("{} hits after refused logins to Kafka, {status:?}", found.len()));
    assert_eq!(found, [""; 0]);
    for said in ["refuse our login", "auditferry::librdkafka"] {
        assert!(log.contains(said), "{said}: {}", place.log_tail());
    }
    prove(&place, &secrets);
}

/// Keys, passwords and tokens of every way to sign in, taken and refused, with every library at its most talkative.
#[tokio::test(flavor = "multi_thread")]
async fn secrets_of_every_identity_are_in_nothing_that_is_written() {
    const PASSWORD: &str = "canary~pfx pass.word-51d0c7";
    const WRONG_PASSWORD: &str = "canary~wrong pfx pass.word-77";
    const HEADER: &str = "canary~identity.header-90fe12";
    let world = world(WorldConfig::new().tenants(7).records(700).days(1)).await;
    let place = Place::new();
    let (good, stranger) = (Certificate::new(-1, 90), Certificate::new(-1, 90));
    let issuer = Issuer::new("one");
    world.add_certificate(good.registered.clone());
    world.publish_key(issuer.published());
    world.federate(trust());
    world.assign_identity(ManagedIdentity { tenant: 6, client_id: None, header: Some(HEADER.into()) });
    let token = issuer.token("system:serviceaccount:audit:auditferry", "api://AzureADTokenExchange", 3600);
    let refused = issuer.token("system:serviceaccount:audit:default", "api://AzureADTokenExchange", 3600);
    let files = ["good.pem", "stranger.pem", "good.pfx", "token", "refused"].map(|name| place.path(name));
    std::fs::write(&files[0], good.pem()).unwrap();
    std::fs::write(&files[1], stranger.pem()).unwrap();
    good.write_pfx(&files[2], PASSWORD, false);
    std::fs::write(&files[3], &token).unwrap();
    std::fs::write(&files[4], &refused).unwrap();
    let auth = [
        format!("{{ certificate: {{ file: {:?} }} }}", files[0]),
        format!("{{ certificate: {{ file: {:?} }} }}", files[1]),
        format!("{{ certificate: {{ file: {:?}, password: {PASSWORD:?} }} }}", files[2]),
        format!("{{ certificate: {{ file: {:?}, password: {WRONG_PASSWORD:?} }} }}", files[2]),
        format!("{{ workload_identity: {{ token_file: {:?} }} }}", files[3]),
        format!("{{ workload_identity: {{ token_file: {:?} }} }}", files[4]),
        "{ managed_identity: {} }".to_owned(),
    ];
    place.write_config(&world, &place.file_sink("out.ndjson"), "");
    let mut text = std::fs::read_to_string(place.config()).unwrap();
    for (tenant, auth) in world.tenants().iter().zip(&auth) {
        let name = format!("name: {:?}", tenant.name);
        let old = format!("{{ client_secret: {:?} }}", tenant.client_secret);
        let lines =
            text.lines().map(|line| if line.contains(&name) { line.replace(&old, auth) } else { line.to_owned() });
        text = lines.collect::<Vec<_>>().join("\n");
    }
    place.write_text(&text);
    let endpoint = format!("{}/msi/token", world.login_url());
    let environment =
        [("AUDITFERRY_LOG", "trace"), ("IDENTITY_ENDPOINT", endpoint.as_str()), ("IDENTITY_HEADER", HEADER)];
    let mut process = place.start(&[], &environment);
    let admin = process.admin().await.unwrap();
    let words = ["AADSTS700027", "AADSTS700213", "cannot be opened with this password"];
    let waiting = async {
        let log = || std::fs::read_to_string(place.path("log")).unwrap_or_default();
        while world.sign_ins().values().sum::<u64>() < 4 || !words.iter().all(|word| log().contains(word)) {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    let heard = tokio::time::timeout(Duration::from_secs(60), waiting).await;
    assert!(heard.is_ok(), "{:?} {}", world.sign_ins(), place.log_tail());
    for page in ["metrics", "status"] {
        let answer = reqwest::get(format!("http://{admin}/{page}")).await.unwrap().text().await.unwrap();
        std::fs::write(place.path(page), answer).unwrap();
    }
    process.terminate();
    assert!(process.wait(Duration::from_secs(30)).await.is_some());
    verb(&place, "validate", &["validate", "-c", place.config().to_str().unwrap()]);

    // A line from the middle of a key's PEM, where nothing but the key is.
    let line = |pem: &str| pem.lines().nth(12).unwrap().to_owned();
    let part = |token: &str, part: usize| token.split('.').nth(part).unwrap().to_owned();
    let mut secrets = spellings("private key", &line(&good.key));
    secrets.extend(spellings("private key of a stranger", &line(&stranger.key)));
    secrets.extend(spellings("password of the PFX file", PASSWORD));
    secrets.extend(spellings("wrong password", WRONG_PASSWORD));
    secrets.extend(spellings("header of the managed identity", HEADER));
    for (name, token) in [("federated token", &token), ("refused federated token", &refused)] {
        secrets.extend(spellings(&format!("{name}, claims"), &part(token, 1)[..40]));
        secrets.extend(spellings(&format!("{name}, signature"), &part(token, 2)[..40]));
    }
    secrets.extend(spellings("client assertion", &URL_SAFE_NO_PAD.encode(r#"{"alg":"PS256","typ":"JWT","x5t":"#)));
    secrets.extend(spellings("access token", &URL_SAFE_NO_PAD.encode(TOKEN_HEAD)));
    let but = [files.to_vec(), vec![place.config()]].concat();
    let found = hits(place.path("x").parent().unwrap(), &but, &secrets);
    figure(
        "secrets",
        format_args!(
            "{} hits of {} spellings of keys, passwords and tokens; signed in: {:?}",
            found.len(),
            secrets.len(),
            world.sign_ins().len()
        ),
    );
    assert_eq!(found, [""; 0]);
    prove(&place, &secrets);
}

/// A configuration that is wrong is explained without its secrets.
#[test]
fn secrets_in_a_wrong_configuration_are_not_shown() {
    const SECRET: &str = "canary~client.secret-4f20aa";
    let tenant = |auth: &str| {
        format!(
            "state: {{ dir: /tmp/x }}\ntenants:\n  - {{ name: a, tenant_id: 11111111-2222-4333-8444-555555555555, client_id: 11111111-2222-4333-8444-555555555555, auth: {auth} }}\nsinks:\n  - {{ name: out, type: stdout }}\n"
        )
    };
    let wrong = [
        tenant(&format!("{{ client_secret: {SECRET:?}, zebra: 1 }}")),
        tenant(&format!("{{ client_secret: [{SECRET:?}] }}")),
        tenant(&format!("{{ client_secret: {{ {SECRET:?}: 1 }} }}")),
        tenant(&format!("{SECRET:?}")),
        tenant(&format!("{{ client_secret: \"${{{SECRET}\" }}")),
        tenant(&format!("{{ certificate: {SECRET:?} }}")),
        tenant(&format!("{{ certificate: {{ file: /nowhere, password: {SECRET:?}, zebra: 1 }} }}")),
        tenant(&format!("{{ certificate: {{ file: /nowhere, password: [{SECRET:?}] }} }}")),
        tenant(&format!("{{ client_secret: {SECRET:?}, client_secret: {SECRET:?} }}")),
        tenant(&format!("{{ client_secret: {SECRET:?} }}")).replace("type: stdout", "type: stdout, zebra: 1"),
        tenant(&format!("{{ client_secret: {SECRET:?} }}"))
            + "  - { name: s, type: splunk_hec, url: \"https://h:1\", token: [canary~client.secret-4f20aa] }\n",
        tenant(&format!("{{ client_secret: \"{SECRET}\" }} }} }}")),
    ];
    let place = Place::new();
    for (number, text) in wrong.iter().enumerate() {
        place.write_text(text);
        let config = place.config();
        verb(&place, &format!("validate-{number}"), &["validate", "-c", config.to_str().unwrap()]);
        verb(&place, &format!("run-{number}"), &["run", "--once", "-c", config.to_str().unwrap()]);
        let said = std::fs::read(place.path(&format!("validate-{number}.stderr"))).unwrap();
        let printed = std::fs::read(place.path(&format!("validate-{number}.stdout"))).unwrap();
        assert!(!said.is_empty() || !printed.is_empty(), "{text}");
    }
    let found = hits(place.path("x").parent().unwrap(), &[place.config()], &spellings("client secret", SECRET));
    figure("secrets", format_args!("{} hits in what is said of {} wrong configurations", found.len(), wrong.len()));
    assert_eq!(found, [""; 0]);
}
