//! Identities: every way to sign in, against the simulator's real verification, through the real binary. Right ones
//! collect; wrong, expired and misaddressed ones are refused, the log says why and what to do, and once the file is
//! mended the same process goes on; rotated under load, nothing is lost or there twice.

use std::process::Command;
use std::time::{Duration, Instant};

use auditferry::simulator::{ManagedIdentity, RegisteredCertificate, SimulatorHandle, WorldConfig};

use super::credentials::{AUDIENCE, Certificate, Issuer, SUBJECT, now, trust};
use crate::support::{Place, Process, Served, compare, figure, file_hashes, served, size, world};

const LIMIT: Duration = Duration::from_secs(60);
/// A mended file is noticed within 2 s; the rest is for a busy machine.
const AT_ONCE: Duration = Duration::from_secs(12);
/// A configuration whose one tenant signs in by `auth`, at `login`.
fn configure(place: &Place, world: &SimulatorHandle, auth: &str, login: &str) {
    let tenant = &world.tenants()[0];
    place.write_text(&format!(
        "state: {{ dir: {:?} }}\nadmin: {{ listen: 127.0.0.1:0 }}\ncollect: {{ requests_per_minute: 100000, poll_interval: 1s }}\ntenants:\n  - {{ name: contoso, tenant_id: {:?}, client_id: {:?}, auth: {auth}, endpoints: {{ api: {:?}, login: {login:?} }} }}\nsinks:\n{}",
        place.state_dir(),
        tenant.tenant_id,
        tenant.client_id,
        world.api_url(),
        place.file_sink("out.ndjson"),
    ));
}

/// Swaps a file as Kubernetes does: the new one stands there at once, whole.
fn put(place: &Place, name: &str, content: impl AsRef<[u8]>) {
    let new = place.path(&format!("{name}.new"));
    std::fs::write(&new, content).unwrap();
    std::fs::rename(new, place.path(name)).unwrap();
}

fn log(place: &Place) -> String {
    std::fs::read_to_string(place.path("log")).unwrap_or_default()
}

/// Waits for a line of the log that holds all of these.
async fn said(place: &Place, parts: &[&str]) -> Duration {
    let began = Instant::now();
    while began.elapsed() < LIMIT {
        if log(place).lines().any(|line| parts.iter().all(|part| line.contains(part))) {
            return began.elapsed();
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("no line says {parts:?}:\n{}", place.log_tail());
}

/// Waits until the world's records of now have all arrived; says how long it took, and what they were.
async fn all_arrived(place: &Place, world: &SimulatorHandle, process: &mut Process) -> (Duration, Served) {
    let began = Instant::now();
    let truth = served(world);
    while began.elapsed() < LIMIT {
        assert!(process.ended().is_none(), "{}", place.log_tail());
        if compare(&truth, file_hashes(&place.path("out.ndjson"))).lost == 0 {
            return (began.elapsed(), truth);
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("not everything arrived:\n{}", place.log_tail());
}

/// Ends the process: nothing of `truth` may be missing, nothing there twice or invented. Says how many arrived.
async fn settle(place: &Place, world: &SimulatorHandle, mut process: Process, truth: &Served) -> usize {
    process.terminate();
    assert!(process.wait(LIMIT).await.is_some_and(|status| status.success()), "{}", place.log_tail());
    let hashes = file_hashes(&place.path("out.ndjson"));
    let lost = compare(truth, hashes.iter().copied()).lost;
    // The world goes on: what came after `truth` was taken may be there too.
    let arrived = compare(&served(world), hashes);
    assert_eq!((lost, arrived.duplicates, arrived.foreign), (0, 0, 0), "{}", place.log_tail());
    assert_eq!(world.report().violations.len(), 0, "{:?}", world.report().violations);
    arrived.arrived
}

async fn small_world() -> SimulatorHandle {
    let world = world(WorldConfig::new().records(size(300, 5_000)).days(1)).await;
    world.withdraw_secret(&world.tenants()[0].client_secret.clone());
    world
}

/// What is refused, with what words, and what mends it.
struct Case<'a> {
    name: &'a str,
    auth: String,
    /// In the log, in one line: cause and way out.
    words: &'a [&'a str],
    mend: &'a dyn Fn(&Place, &SimulatorHandle),
}

/// Starts on a wrong credential, waits for the words, mends it, and wants everything from the same process.
async fn refused_then_mended(place: &Place, world: &SimulatorHandle, case: Case<'_>) {
    configure(place, world, &case.auth, &world.login_url());
    let mut process = place.start(&[], &[]);
    let said = said(place, case.words).await;
    (case.mend)(place, world);
    let (arrived, truth) = all_arrived(place, world, &mut process).await;
    // A refused feed rests for 15 s at first; a mended file ends that.
    assert!(arrived < AT_ONCE, "{}: {arrived:?}", case.name);
    let count = settle(place, world, process, &truth).await;
    figure(
        "identities",
        format_args!(
            "{}: refused with words after {:.1} s, mended and all {count} there after {:.1} s, {:?}",
            case.name,
            said.as_secs_f64(),
            arrived.as_secs_f64(),
            world.sign_ins()
        ),
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn identities_a_secret_that_is_wrong_or_expired_is_explained_and_its_successor_found() {
    let (world, place) = (small_world().await, Place::new());
    world.add_secret("good~one", None);
    put(&place, "secret", "wrong~one");
    let auth = format!("{{ client_secret: \"${{file:{}}}\" }}", place.path("secret").display());
    let mend = |place: &Place, _: &SimulatorHandle| put(place, "secret", "good~one\n");
    let words =
        ["AADSTS7000215", "Ensure the secret being sent", "value was pasted and not its id", "Correlation ID: "];
    refused_then_mended(&place, &world, Case { name: "wrong secret", auth, words: &words, mend: &mend }).await;

    let (world, place) = (small_world().await, Place::new());
    world.add_secret("old~one", Some(now() - 5));
    put(&place, "secret", "old~one");
    let auth = format!(
        "{{ client_secret: \"${{file:{}}}\", client_secret_expires: 2024-02-29 }}",
        place.path("secret").display()
    );
    let mend = |place: &Place, world: &SimulatorHandle| {
        world.add_secret("new~one", None);
        put(place, "secret", "new~one");
    };
    let words = ["AADSTS7000222", "create new keys", "make a new secret", "ended on 2024-02-29"];
    refused_then_mended(&place, &world, Case { name: "expired secret", auth, words: &words, mend: &mend }).await;
    assert!(log(&place).contains("the client secret has ended by our clock"), "{}", place.log_tail());
}

#[tokio::test(flavor = "multi_thread")]
async fn identities_a_certificate_that_is_expired_or_of_another_key_is_explained_and_its_successor_found() {
    let auth = |place: &Place| format!("{{ certificate: {{ file: {:?} }} }}", place.path("app.pem"));
    let good = Certificate::new(-1, 90);
    let mend = |place: &Place, world: &SimulatorHandle| {
        world.add_certificate(good.registered.clone());
        put(place, "app.pem", good.pem());
    };

    let (world, place) = (small_world().await, Place::new());
    let stranger = Certificate::new(-1, 90);
    put(&place, "app.pem", stranger.pem());
    let words = ["AADSTS700027", "is not registered on application", "upload this certificate", "thumbprint"];
    let auth_here = auth(&place);
    refused_then_mended(
        &place,
        &world,
        Case { name: "unknown certificate", auth: auth_here, words: &words, mend: &mend },
    )
    .await;

    let (world, place) = (small_world().await, Place::new());
    let old = Certificate::new(-90, -1);
    world.add_certificate(old.registered.clone());
    put(&place, "app.pem", old.pem());
    let words = ["AADSTS700027", "The key used is expired", "which expired on", "where it expired a new one"];
    let auth_here = auth(&place);
    refused_then_mended(
        &place,
        &world,
        Case { name: "expired certificate", auth: auth_here, words: &words, mend: &mend },
    )
    .await;
    assert!(log(&place).contains("the certificate has ended by our clock"), "{}", place.log_tail());

    // A certificate with the key of another: nothing that could be sent, and the reason in the log.
    let (world, place) = (small_world().await, Place::new());
    put(&place, "app.pem", format!("{}{}", stranger.certificate, good.key));
    let words = ["belongs to none of the certificates", "give the two that belong together"];
    let auth_here = auth(&place);
    refused_then_mended(&place, &world, Case { name: "key of another", auth: auth_here, words: &words, mend: &mend })
        .await;

    // What is registered has the certificate's name and not its key: the signature is checked for real.
    let (world, place) = (small_world().await, Place::new());
    let forged =
        RegisteredCertificate { public_key: good.registered.public_key.clone(), ..stranger.registered.clone() };
    world.add_certificate(forged);
    put(&place, "app.pem", stranger.pem());
    let words = ["AADSTS700027", "did not match the expected signature"];
    let auth_here = auth(&place);
    refused_then_mended(&place, &world, Case { name: "wrong signature", auth: auth_here, words: &words, mend: &mend })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn identities_an_assertion_for_another_endpoint_is_explained() {
    let (world, place) = (small_world().await, Place::new());
    let good = Certificate::new(-1, 90);
    world.add_certificate(good.registered.clone());
    put(&place, "app.pem", good.pem());
    let auth = format!("{{ certificate: {{ file: {:?} }} }}", place.path("app.pem"));
    configure(&place, &world, &auth, &world.login_url().replace("127.0.0.1", "localhost"));
    let mut process = place.start(&[], &[]);
    said(&place, &["AADSTS700023", "audience claim does not match", "`endpoints.login`"]).await;
    process.terminate();
    assert!(process.wait(LIMIT).await.is_some());
    configure(&place, &world, &auth, &world.login_url());
    let mut process = place.start(&[], &[]);
    let (_, truth) = all_arrived(&place, &world, &mut process).await;
    let count = settle(&place, &world, process, &truth).await;
    figure("identities", format_args!("wrong audience: refused with words; at the right endpoint all {count} arrive"));
}

/// A machine whose clock is 14 minutes behind signs what is long over for the service.
#[tokio::test(flavor = "multi_thread")]
async fn identities_a_clock_that_is_wrong_is_learned_from_the_refusal() {
    let config = WorldConfig::new().records(300).days(1).skew_ms(14 * 60_000);
    let (world, place) = (world(config).await, Place::new());
    let good = Certificate::new(-1, 90);
    world.add_certificate(good.registered.clone());
    put(&place, "app.pem", good.pem());
    configure(
        &place,
        &world,
        &format!("{{ certificate: {{ file: {:?} }} }}", place.path("app.pem")),
        &world.login_url(),
    );
    let mut process = place.start(&[], &[]);
    let (arrived, truth) = all_arrived(&place, &world, &mut process).await;
    assert!(log(&place).contains("set this machine's clock"), "{}", place.log_tail());
    let count = settle(&place, &world, process, &truth).await;
    figure("identities", format_args!("a clock 14 minutes behind: all {count} after {:.1} s", arrived.as_secs_f64()));
}

#[tokio::test(flavor = "multi_thread")]
async fn identities_a_federated_token_is_explained_by_what_it_says_and_its_successor_found() {
    let (issuer, stranger) = (Issuer::new("one"), Issuer::new("one"));
    let good = |place: &Place| put(place, "token", issuer.token(SUBJECT, AUDIENCE, 3600));
    let mend = |place: &Place, _: &SimulatorHandle| good(place);
    let absent = "cannot read the federated token";
    let cases: [(&str, Option<String>, &[&str]); 6] = [
        ("no token", None, &[absent, "azure.workload.identity/use"]),
        (
            "wrong subject",
            Some(issuer.token("system:serviceaccount:audit:default", AUDIENCE, 3600)),
            &["AADSTS700213", "service account", "subject `system:serviceaccount:audit:default`"],
        ),
        (
            "wrong audience",
            Some(issuer.token(SUBJECT, "api://other", 3600)),
            &["AADSTS700212", "api://AzureADTokenExchange", "api://other"],
        ),
        (
            "expired token",
            Some(issuer.token(SUBJECT, AUDIENCE, -900)),
            &["AADSTS700024", "the kubelet renews", "seconds ago"],
        ),
        ("wrong key", Some(stranger.token(SUBJECT, AUDIENCE, 3600)), &["AADSTS700027", "cluster's issuer URL"]),
        ("no JWT", Some("e30.e30.e30".to_owned()), &["AADSTS700211", "set the issuer of the federated credential"]),
    ];
    for (name, token, words) in cases.into_iter().take(size(4, 6)) {
        let (world, place) = (small_world().await, Place::new());
        world.federate(trust());
        world.publish_key(issuer.published());
        if let Some(token) = &token {
            put(&place, "token", token);
        }
        let auth = format!("{{ workload_identity: {{ token_file: {:?} }} }}", place.path("token"));
        refused_then_mended(&place, &world, Case { name, auth, words, mend: &mend }).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn identities_a_managed_identity_is_asked_for_at_the_machine_itself_and_never_through_a_proxy() {
    const ID: &str = "00000000-0000-4000-8000-0000000000d1";
    let (world, place) = (small_world().await, Place::new());
    configure(&place, &world, &format!("{{ managed_identity: {{ client_id: {ID} }} }}"), &world.login_url());
    // A proxy at which nobody listens: whatever went there would fail.
    let proxy = [("HTTP_PROXY", "http://127.0.0.1:9"), ("http_proxy", "http://127.0.0.1:9"), ("NO_PROXY", "")];
    let login = world.login_url();
    let metadata = [proxy.as_slice(), &[("AZURE_POD_IDENTITY_AUTHORITY_HOST", login.as_str())]].concat();
    let mut process = place.start(&[], &metadata);
    said(&place, &["managed identity", "Identity not found", "assign the identity to this machine", ID]).await;
    world.assign_identity(ManagedIdentity { tenant: 0, client_id: Some(ID.into()), header: None });
    // Nothing of ours changed, so the refusal is believed for its minute: a new start asks at once.
    process.terminate();
    assert!(process.wait(LIMIT).await.is_some());
    let mut process = place.start(&[], &metadata);
    let (_, truth) = all_arrived(&place, &world, &mut process).await;
    let count = settle(&place, &world, process, &truth).await;
    figure(
        "identities",
        format_args!("managed identity: refused with words, then all {count}, {:?}", world.sign_ins()),
    );

    let (world, place) = (small_world().await, Place::new());
    world.assign_identity(ManagedIdentity { tenant: 0, client_id: None, header: Some("shown~header".into()) });
    configure(&place, &world, "{ managed_identity: {} }", &world.login_url());
    let endpoint = format!("{}/msi/token", world.login_url());
    let app_service =
        [proxy.as_slice(), &[("IDENTITY_ENDPOINT", endpoint.as_str()), ("IDENTITY_HEADER", "shown~header")]];
    let mut process = place.start(&[], &app_service.concat());
    let (_, truth) = all_arrived(&place, &world, &mut process).await;
    let count = settle(&place, &world, process, &truth).await;
    figure("identities", format_args!("managed identity of App Service: all {count}, {:?}", world.sign_ins()));
}

/// Secret, PEM, PFX of both ages, and a projected token, each replaced again and again under live traffic, the old one
/// withdrawn before, at, or after the file changes.
#[tokio::test(flavor = "multi_thread")]
async fn identities_rotated_under_load_lose_nothing_and_double_nothing() {
    let rotations = size(3, 12);
    for kind in ["secret", "pem", "pfx", "token"] {
        let config = WorldConfig::new().records(300).days(1).live(size(600.0, 1200.0), 10, 1);
        let world = world(config.tune(|protocol| protocol.token_lifetime_s = Some(2))).await;
        world.withdraw_secret(&world.tenants()[0].client_secret.clone());
        let place = Place::new();
        let mut issued = Vec::new();
        let rotate = |number: usize| -> Box<dyn Fn(&SimulatorHandle)> {
            match kind {
                "secret" => {
                    let secret = format!("secret~{number}");
                    world.add_secret(&secret, None);
                    put(&place, "credential", &secret);
                    Box::new(move |world| world.withdraw_secret(&secret))
                }
                "token" => {
                    let issuer = Issuer::new(&format!("key-{number}"));
                    world.publish_key(issuer.published());
                    put(&place, "credential", issuer.token(SUBJECT, AUDIENCE, 3600));
                    let kid = issuer.published().kid;
                    Box::new(move |world| world.withdraw_key(&kid))
                }
                _ => {
                    let certificate = Certificate::new(-1, 90);
                    world.add_certificate(certificate.registered.clone());
                    if kind == "pem" {
                        put(&place, "credential", certificate.pem());
                    } else {
                        certificate.write_pfx(&place.path("made.pfx"), "pass word", number % 2 == 1);
                        std::fs::rename(place.path("made.pfx"), place.path("credential")).unwrap();
                    }
                    let der = certificate.registered.der;
                    Box::new(move |world| world.withdraw_certificate(&der))
                }
            }
        };
        world.federate(trust());
        issued.push(rotate(0));
        let path = place.path("credential");
        let auth = match kind {
            "secret" => format!("{{ client_secret: \"${{file:{}}}\" }}", path.display()),
            "token" => format!("{{ workload_identity: {{ token_file: {path:?} }} }}"),
            _ => format!("{{ certificate: {{ file: {path:?}, password: pass word }} }}"),
        };
        configure(&place, &world, &auth, &world.login_url());
        let mut process = place.start(&[], &[]);
        all_arrived(&place, &world, &mut process).await;
        for number in 1..=rotations {
            // Every second time the old one goes first, and a refusal stands when the new one comes.
            let early = number % 2 == 0;
            if early {
                issued.last().unwrap()(&world);
                world.revoke_tokens(0);
                tokio::time::sleep(Duration::from_millis(2500)).await;
            }
            let withdraw = rotate(number);
            if !early {
                issued.last().unwrap()(&world);
                world.revoke_tokens(0);
            }
            issued.push(withdraw);
            let before = world.sign_ins().len();
            let began = Instant::now();
            // All federated tokens sign in under one name, so a new one cannot be seen to be used.
            let limit = Duration::from_millis(if kind == "token" { 1500 } else { 20_000 });
            while world.sign_ins().values().sum::<u64>() == 0
                || began.elapsed() < limit && before == world.sign_ins().len()
            {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
        let (waited, truth) = all_arrived(&place, &world, &mut process).await;
        let asked: Vec<u64> = world.sign_ins().values().copied().collect();
        let count = settle(&place, &world, process, &truth).await;
        figure(
            "identities",
            format_args!(
                "{kind}: {rotations} rotations under load, {count} records, lost 0, twice 0, no restart; the rest there {:.1} s after the last; tokens {asked:?}",
                waited.as_secs_f64()
            ),
        );
        if kind != "token" {
            assert!(asked.len() > rotations, "each was used: {:?}", world.sign_ins());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn identities_the_end_of_a_credential_is_shown_everywhere() {
    let (world, place) = (small_world().await, Place::new());
    let soon = Certificate::new(-300, 13);
    world.add_certificate(soon.registered.clone());
    put(&place, "app.pem", soon.pem());
    let auth = format!("{{ certificate: {{ file: {:?} }} }}", place.path("app.pem"));
    configure(&place, &world, &auth, &world.login_url());
    let mut process = place.start(&[], &[]);
    let (_, truth) = all_arrived(&place, &world, &mut process).await;
    let admin = process.admin().await.unwrap();
    let ask = async |page: &str| reqwest::get(format!("http://{admin}/{page}")).await.unwrap().text().await.unwrap();
    let ends = soon.registered.not_after;
    let metrics = ask("metrics").await;
    for (kind, value) in [("certificate", ends), ("client_secret", 0)] {
        let shown = metrics.lines().any(|line| {
            line.starts_with("auditferry_credential_expiry_timestamp_seconds{")
                && line.contains(&format!("kind=\"{kind}\""))
                && line.ends_with(&format!("}} {value}"))
        });
        assert!(shown, "{kind} {value}");
    }
    let status: serde_json::Value = serde_json::from_str(&ask("status").await).unwrap();
    assert_eq!(status["tenants"][0]["credential"], serde_json::json!({ "kind": "certificate", "expires": ends }));
    said(&place, &["ends within two weeks"]).await;
    let validate =
        Command::new(env!("CARGO_BIN_EXE_auditferry")).arg("validate").arg("-c").arg(place.config()).output();
    let printed = String::from_utf8(validate.unwrap().stdout).unwrap();
    assert!(printed.contains("signs in with certificate") && printed.contains("(12 days)"), "{printed}");
    settle(&place, &world, process, &truth).await;
}
