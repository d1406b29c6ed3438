//! Sinks that show a token of Microsoft Entra: each of a tenant's proofs, against the simulator's real verification, at a
//! receiver that takes what Microsoft Sentinel takes and nothing that is for anybody else.

use std::sync::Arc;
use std::time::Duration;

use auditferry::config::{
    CredentialConfig, HttpConfig, HttpEncoding, HttpPreset, LoginConfig, ProxyConfig, SinkConfig, SinkKind,
    StateConfig, TlsConfig, TokenConfig, WorkloadIdentityConfig,
};
use auditferry::metrics::Metrics;
use auditferry::simulator::{ManagedIdentity, SimulatorHandle, WorldConfig};
use auditferry::sink::{EncodedBatch, SendError, Sink, SinkId};

use super::contract::http_kind;
use super::{Bench, counts, records, sink_config};
use crate::bars::credentials::{AUDIENCE, Certificate, Issuer, SUBJECT, trust};
use crate::hec::canonical_hash;
use crate::support::{Place, compare, served, world};
use crate::web::{FakeWeb, Kind};

const STREAM: &str = "/dataCollectionRules/dcr-0123456789abcdef/streams/Custom-Audit_CL";
const MONITOR: &str = "https://monitor.azure.com";

async fn sentinel() -> FakeWeb {
    let web = FakeWeb::start(Kind::Sentinel).await;
    web.set(|knobs| knobs.audience = Some(MONITOR.into()));
    web
}

/// The process as it stands in a pod and on a machine in Azure: what the file does not say, the environment says.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sentinel_is_reached_by_every_proof_that_a_tenant_may_have() {
    let world = world(WorldConfig::new().records(300).records_per_blob(50).days(1)).await;
    let place = Place::new();
    let (certificate, issuer) = (Certificate::new(-1, 90), Issuer::new("one"));
    world.add_certificate(certificate.registered.clone());
    world.publish_key(issuer.published());
    world.federate(trust());
    world.assign_identity(ManagedIdentity { tenant: 0, client_id: None, header: None });
    certificate.write_pfx(&place.path("app.pfx"), "canary-password", false);
    std::fs::write(place.path("token"), issuer.token(SUBJECT, AUDIENCE, 3600)).unwrap();
    let tenant = world.tenants()[0].clone();
    let login = world.login_url();
    let of_app = format!("tenant_id: {}, client_id: {}, login: {login:?}", tenant.tenant_id, tenant.client_id);
    let ways = [
        ("secret", format!("{{ {of_app}, client_secret: {:?} }}", tenant.client_secret)),
        (
            "certificate",
            format!("{{ {of_app}, certificate: {{ file: {:?}, password: canary-password }} }}", place.path("app.pfx")),
        ),
        ("workload", "{ workload_identity: {} }".to_owned()),
        ("managed", "{ managed_identity: {} }".to_owned()),
    ];
    let (mut webs, mut sinks) = (Vec::new(), String::new());
    for (name, entra) in &ways {
        let web = sentinel().await;
        let url = web.url(STREAM);
        sinks += &format!(
            "  - {{ name: {name}, type: http, preset: sentinel, format: raw, url: {url:?}, auth: {{ entra: {entra} }} }}\n"
        );
        webs.push(web);
    }
    place.write_config(&world, &sinks, "");
    let token_file = place.path("token");
    let pod = [
        ("AZURE_FEDERATED_TOKEN_FILE", token_file.to_str().unwrap()),
        ("AZURE_CLIENT_ID", &tenant.client_id),
        ("AZURE_TENANT_ID", &tenant.tenant_id),
        ("AZURE_AUTHORITY_HOST", &login),
        ("AZURE_POD_IDENTITY_AUTHORITY_HOST", &login),
        // Nobody listens there: what went through it would fail.
        ("HTTP_PROXY", "http://127.0.0.1:9"),
        ("NO_PROXY", ""),
    ];
    let mut process = place.start(&["--once", "--once-timeout", "60s"], &pod);
    let ended = process.wait(Duration::from_secs(90)).await;
    assert_eq!(ended.and_then(|ended| ended.code()), Some(0), "{}", place.log_tail());
    for (web, (name, _)) in webs.iter().zip(&ways) {
        let rows = web.events().into_iter().map(|row| canonical_hash(row["Event"].to_string().as_bytes()));
        let found = compare(&served(&world), rows);
        assert_eq!((found.lost, found.duplicates, found.foreign), (0, 0, 0), "{name}");
    }
    let sign_ins = world.sign_ins();
    for by in ["secret", "certificate", "federated", "managed"] {
        let count: u64 = sign_ins.iter().filter(|(proof, _)| proof.contains(by)).map(|(_, count)| count).sum();
        // The tenant has its secret too.
        assert_eq!(count, if by == "secret" { 2 } else { 1 }, "{by}: {sign_ins:?}");
    }
    assert!(world.report().violations.is_empty(), "{:?}", world.report().violations);
    assert!(!place.log().contains("canary"), "{}", place.log_tail());
}

/// A sink that is let in by what stands in `token`.
fn by_token_of(world: &SimulatorHandle, token: &std::path::Path, web: &FakeWeb) -> SinkConfig {
    let tenant = &world.tenants()[0];
    let login = LoginConfig::OAuth2(Box::new(TokenConfig {
        login: world.login_url().parse().unwrap(),
        tenant_id: tenant.tenant_id.clone(),
        client_id: tenant.client_id.clone(),
        credential: CredentialConfig::WorkloadIdentity(WorkloadIdentityConfig { token_file: token.to_owned() }),
        scope: format!("{MONITOR}/.default"),
        endpoint: None,
        tls: TlsConfig::default(),
        proxy: ProxyConfig::Off,
    }));
    let (preset, encoding) = (Some(HttpPreset::Sentinel), HttpEncoding::JsonArray);
    sink_config("soc", SinkKind::Http(HttpConfig { preset, encoding, login, ..http_kind(&web.url(STREAM)) }))
}

/// What the sink says of its first batch: that is what the driver logs.
async fn refusal(config: &SinkConfig) -> String {
    let (metrics, dir) = (Metrics::new(), tempfile::tempdir().unwrap());
    let state = StateConfig { dir: dir.path().into(), max_delivered_bytes: 1 << 20 };
    let state = auditferry::state::State::open(&state, Arc::clone(&metrics)).unwrap();
    let sink = auditferry::sink::build(config, SinkId(0), &state, metrics).unwrap();
    let bytes = [[0u8; 16].as_slice(), b"{}"].concat();
    match sink.send(&EncodedBatch { ends: vec![bytes.len()], bytes }).await {
        Err(SendError::Fatal { reason }) => reason,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_federated_token_that_is_refused_holds_with_words_and_its_successors_are_found() {
    let world = world(WorldConfig::new().records(10).days(1)).await;
    let (web, dir) = (sentinel().await, tempfile::tempdir().unwrap());
    let (one, two) = (Issuer::new("one"), Issuer::new("two"));
    world.federate(trust());
    world.publish_key(one.published());
    let path = dir.path().join("token");
    let put = |token: &str| {
        let new = path.with_extension("new");
        std::fs::write(&new, token).unwrap();
        std::fs::rename(new, &path).unwrap();
    };
    let config = by_token_of(&world, &path, &web);
    let said = refusal(&config).await;
    assert!(said.contains("sink `soc`") && said.contains("cannot read the federated token"), "{said}");
    let stranger = one.token("system:serviceaccount:audit:default", AUDIENCE, 3600);
    put(&stranger);
    let said = refusal(&config).await;
    for part in ["sink `soc`", "AADSTS700213", "subject `system:serviceaccount:audit:default`"] {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert!(!said.contains(stranger.split('.').nth(1).unwrap()), "{said}");

    let bench = Bench::start(config);
    let offer = bench.offer(records(0, 200)).await;
    bench.until_health(false).await;
    assert_eq!((web.requests(), bench.dead_letters().len()), (0, 0), "nothing is sent without a token");
    put(&one.token(SUBJECT, AUDIENCE, 3600));
    assert_eq!(offer.settled().await, counts(200, 0));
    bench.until_health(true).await;
    // Another key and another token, as when a cluster's issuer changes its keys; then the token of Entra is good no more.
    world.publish_key(two.published());
    world.withdraw_key("one");
    put(&two.token(SUBJECT, AUDIENCE, 3600));
    let before: u64 = world.sign_ins().values().sum();
    web.set(|knobs| knobs.unauthorized = 1);
    assert_eq!(bench.offer(records(1000, 200)).await.settled().await, counts(200, 0));
    assert!(*bench.driver.health().borrow(), "renewed without a hold");
    assert_eq!((web.count(), world.sign_ins().values().sum::<u64>()), (400, before + 1));
    assert!(web.answers().contains(&401));
    bench.stop().await;
}
