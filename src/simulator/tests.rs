//! The simulator over real HTTP, seen by a small client that does no more than ask.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use reqwest::{Client, Response, StatusCode};
use tokio::net::TcpListener;

use super::stamp::{self, DAY_MS, HOUR_MS, MINUTE_MS};
use super::{ContentType, Identity, Scenario, SimulatorHandle, WorldConfig, serve};

async fn start(config: WorldConfig) -> SimulatorHandle {
    serve(config, TcpListener::bind("127.0.0.1:0").await.unwrap()).await.unwrap()
}

/// Asks, and tries again until it is told that it cannot be.
struct Probe<'a> {
    simulator: &'a SimulatorHandle,
    http: Client,
    tokens: HashMap<usize, String>,
}

/// A listed blob: id and address.
type Listed = (String, String);

impl<'a> Probe<'a> {
    fn new(simulator: &'a SimulatorHandle) -> Probe<'a> {
        let http = Client::builder().no_proxy().timeout(Duration::from_secs(20)).build().unwrap();
        Probe { simulator, http, tokens: HashMap::new() }
    }

    async fn ask_token(&self, tenant: usize, secret: &str) -> Response {
        let access = &self.simulator.tenants()[tenant];
        let url = format!("{}/{}/oauth2/v2.0/token", self.simulator.login_url(), access.tenant_id);
        let scope = format!("{}/.default", self.simulator.api_url());
        let form = [
            ("grant_type", "client_credentials"),
            ("client_id", &access.client_id),
            ("client_secret", secret),
            ("scope", &scope),
        ];
        self.http.post(url).form(&form).send().await.unwrap()
    }

    async fn token(&mut self, tenant: usize) -> String {
        if let Some(token) = self.tokens.get(&tenant) {
            return token.clone();
        }
        for _ in 0..20 {
            let response = self.ask_token(tenant, &self.simulator.tenants()[tenant].client_secret.clone()).await;
            if response.status() == StatusCode::OK {
                let body: serde_json::Value = serde_json::from_slice(&response.bytes().await.unwrap()).unwrap();
                let token = body["access_token"].as_str().unwrap().to_owned();
                self.tokens.insert(tenant, token.clone());
                return token;
            }
        }
        panic!("no token");
    }

    fn feed(&self, tenant: usize, operation: &str) -> String {
        let access = &self.simulator.tenants()[tenant];
        format!("{}/api/v1.0/{}/activity/feed/{operation}", self.simulator.api_url(), access.tenant_id)
    }

    async fn send(
        &mut self,
        tenant: usize,
        post: bool,
        url: &str,
    ) -> reqwest::Result<(u16, HashMap<String, String>, Vec<u8>)> {
        let token = self.token(tenant).await;
        let publisher = ("PublisherIdentifier", self.simulator.tenants()[tenant].tenant_id.clone());
        let mut url = url::Url::parse(url).unwrap();
        if !url.query_pairs().any(|(k, _)| k.eq_ignore_ascii_case("PublisherIdentifier")) {
            url.query_pairs_mut().append_pair(publisher.0, &publisher.1);
        }
        let request = if post { self.http.post(url) } else { self.http.get(url) };
        let response = request.bearer_auth(token).send().await?;
        let headers: HashMap<String, String> =
            response.headers().iter().map(|(k, v)| (k.to_string(), v.to_str().unwrap().to_owned())).collect();
        let status = response.status().as_u16();
        if status == 401 {
            self.tokens.remove(&tenant);
        }
        Ok((status, headers, response.bytes().await?.to_vec()))
    }

    async fn start(&mut self, tenant: usize, kind: ContentType) -> (u16, String) {
        let url = self.feed(tenant, &format!("subscriptions/start?contentType={}", kind.as_str()));
        loop {
            if let Ok((status, _, body)) = self.send(tenant, true, &url).await
                && status != 401
            {
                return (status, code(&body));
            }
        }
    }

    async fn list(
        &mut self,
        tenant: usize,
        kind: ContentType,
        from_ms: i64,
        to_ms: i64,
    ) -> Result<Vec<Listed>, String> {
        let mut url = self.feed(
            tenant,
            &format!(
                "subscriptions/content?contentType={}&startTime={}&endTime={}",
                kind.as_str(),
                stamp::seconds(from_ms),
                stamp::seconds(to_ms)
            ),
        );
        let mut listed = Vec::new();
        for _ in 0..500 {
            let (status, headers, body) = self.send(tenant, false, &url).await.map_err(|e| e.to_string())?;
            if status != 200 {
                return Err(format!("{status} {}", code(&body)));
            }
            let items: Vec<serde_json::Value> = serde_json::from_slice(&body).unwrap();
            for item in items {
                let text = |key: &str| item[key].as_str().unwrap().to_owned();
                listed.push((text("contentId"), text("contentUri")));
            }
            match headers.get("nextpageuri") {
                Some(next) => url.clone_from(next),
                None => return Ok(listed),
            }
        }
        panic!("endless");
    }

    /// Everything that can be had, by content id; what cannot, with the code.
    async fn drain(
        &mut self,
        rounds: usize,
        days: i64,
    ) -> (BTreeMap<(usize, String), Vec<u8>>, BTreeMap<String, String>) {
        let mut got = BTreeMap::new();
        let mut lost = BTreeMap::new();
        let now = self.simulator.clock().now_ms();
        let cells: Vec<i64> = (now / HOUR_MS - days * 24..=now / HOUR_MS).map(|h| h * HOUR_MS).collect();
        for tenant in 0..self.simulator.tenants().len() {
            for kind in ContentType::ALL {
                self.start(tenant, kind).await;
                for _ in 0..rounds {
                    for cell in &cells {
                        let from = (*cell).max(self.simulator.clock().now_ms() - 7 * DAY_MS + 2 * MINUTE_MS);
                        if from >= cell + HOUR_MS {
                            continue;
                        }
                        let mut listed = Err(String::new());
                        for _ in 0..40 {
                            listed = self.list(tenant, kind, from, cell + HOUR_MS).await;
                            match &listed {
                                Err(code) if code.contains("AF20023") => {
                                    self.start(tenant, kind).await;
                                }
                                Err(_) => {}
                                Ok(_) => break,
                            }
                        }
                        for (id, uri) in listed.unwrap() {
                            let known = got.contains_key(&(tenant, id.clone())) || lost.contains_key(&id);
                            if !known {
                                match self.fetch(tenant, &uri).await {
                                    Ok(body) => drop(got.insert((tenant, id), body)),
                                    Err(code) => drop(lost.insert(id, code)),
                                }
                            }
                        }
                    }
                }
            }
        }
        (got, lost)
    }

    async fn fetch(&mut self, tenant: usize, uri: &str) -> Result<Vec<u8>, String> {
        let mut last = String::new();
        for _ in 0..40 {
            match self.send(tenant, false, uri).await {
                Ok((200, _, body)) if closed(&body) => return Ok(body),
                Ok((200, ..)) => last = "half".into(),
                Ok((status, _, body)) => last = format!("{status} {}", code(&body)),
                Err(error) => last = error.to_string(),
            }
        }
        Err(last)
    }
}

/// Whether the brackets outside of strings close at the very end; hostile records pass.
fn closed(body: &[u8]) -> bool {
    let (mut depth, mut inside, mut escaped) = (0i64, false, false);
    for (at, byte) in body.iter().enumerate() {
        match (inside, byte) {
            (true, _) if escaped => escaped = false,
            (true, b'\\') => escaped = true,
            (_, b'"') => inside = !inside,
            (false, b'[' | b'{') => depth += 1,
            (false, b']' | b'}') => depth -= 1,
            _ => {}
        }
        if depth == 0 && !inside {
            return at + 1 == body.len();
        }
    }
    false
}

fn code(body: &[u8]) -> String {
    let value: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
    value["error"]["code"].as_str().unwrap_or("").to_owned()
}

/// Record texts, with how often each was in the bodies.
fn records(bodies: &BTreeMap<(usize, String), Vec<u8>>) -> HashMap<String, usize> {
    let mut counts = HashMap::new();
    for body in bodies.values() {
        let list: Vec<Box<serde_json::value::RawValue>> = serde_json::from_slice(body).unwrap();
        for record in list {
            *counts.entry(record.get().to_owned()).or_default() += 1;
        }
    }
    counts
}

#[tokio::test]
async fn what_is_served_is_the_truth_in_both_identity_modes() {
    for identity in [Identity::Stable, Identity::Windowed] {
        let simulator = start(WorldConfig::new().tenants(2).records(3000).identity(identity)).await;
        let (got, lost) = Probe::new(&simulator).drain(1, 7).await;
        assert!(lost.is_empty(), "{lost:?}");
        let served = records(&got);
        let truth: Vec<_> = simulator.truth().collect();
        assert_eq!(truth.len(), 3000);
        for record in &truth {
            assert!(record.reachable);
            assert_eq!(served.get(std::str::from_utf8(&record.record).unwrap()), Some(&1), "{identity:?}");
        }
        assert_eq!(served.len(), 3000);
        let report = simulator.report();
        assert_eq!((report.records, report.unreachable.len(), report.pending_records), (3000, 0, 0));
        assert!(report.violations.is_empty(), "{:?}", report.violations);
        let cut = got.len() as u64 > report.blobs;
        assert_eq!(cut, identity == Identity::Windowed, "{} ids of {} blobs", got.len(), report.blobs);
    }
}

#[tokio::test]
async fn refusals_have_the_codes_of_the_service() {
    let simulator = start(WorldConfig::new().tenants(2).records(500).tune(|p| p.without_dlp = vec![1])).await;
    let mut probe = Probe::new(&simulator);
    let now = simulator.clock().now_ms();
    let (from, to) = (now - HOUR_MS, now);
    let kind = ContentType::Exchange;
    assert_eq!(probe.ask_token(0, "wrong").await.status(), 401);
    assert_eq!(probe.list(0, kind, from, to).await.unwrap_err(), "400 AF20022");
    assert_eq!(probe.start(0, kind).await.0, 200);
    assert_eq!(probe.start(0, kind).await, (400, "AF20024".to_owned()));
    assert_eq!(probe.list(0, kind, from, to).await.unwrap().len(), 0);
    assert_eq!(probe.list(0, kind, to, from).await.unwrap_err(), "400 AF20030");
    assert_eq!(probe.list(0, kind, now - 25 * HOUR_MS, now).await.unwrap_err(), "400 AF20055");
    assert_eq!(probe.list(0, kind, now - 8 * DAY_MS, now - 7 * DAY_MS - HOUR_MS).await.unwrap_err(), "400 AF20055");
    assert!(probe.list(0, kind, now - HOUR_MS, now + 10 * HOUR_MS).await.is_ok());
    for (url, expected) in [
        (probe.feed(0, "subscriptions/content?contentType=Audit.Nothing"), (400, "AF20020")),
        (probe.feed(0, "subscriptions/content?startTime=2026-01-01"), (400, "AF20001")),
        (probe.feed(0, "subscriptions/content?contentType=audit.exchange&startTime=2026-01-01"), (400, "AF20030")),
        (probe.feed(0, "audit/nonsense"), (400, "AF20052")),
        (probe.feed(1, "subscriptions/list"), (400, "AF20010")),
        (probe.feed(0, "subscriptions/list").replace(&simulator.tenants()[0].tenant_id, "contoso"), (400, "AF20013")),
    ] {
        let (status, _, body) = probe.send(0, false, &url).await.unwrap();
        assert_eq!((status, code(&body).as_str()), expected, "{url}");
    }
    assert_eq!(probe.list(1, ContentType::Dlp, from, to).await.unwrap_err(), "401 AF10001");
    simulator.disable_subscription(0, kind);
    assert_eq!(probe.list(0, kind, from, to).await.unwrap_err(), "400 AF20023");
    assert_eq!(probe.start(0, kind).await.0, 429);
    simulator.revoke_tokens(0);
    assert!(probe.list(0, kind, from, to).await.unwrap_err().starts_with("401"));
    let violations: Vec<_> = simulator.report().violations.into_iter().map(|v| v.kind).collect();
    for kind in ["token_of_another_tenant", "range_over_24h", "start_within_cooldown"] {
        assert!(violations.iter().any(|v| v == kind), "{kind} is not in {violations:?}");
    }
    assert!(!violations.iter().any(|v| v == "no_publisher_identifier"));
}

/// One scenario alone, in a small world, drained to the end.
async fn alone(scenario: Scenario, config: WorldConfig) -> SimulatorHandle {
    let simulator = start(config.scenario(scenario)).await;
    let (got, lost) = Probe::new(&simulator).drain(2, 2).await;
    let fired = simulator.report().faults[scenario.name()];
    assert!(fired >= 20, "{} fired {fired} times", scenario.name());
    let unreachable: Vec<String> = simulator.report().unreachable.iter().map(|u| u.content_id.clone()).collect();
    assert_eq!(lost.len(), unreachable.len(), "{lost:?}");
    assert!(unreachable.iter().all(|id| lost.contains_key(id)));
    let served: HashMap<String, usize> = bodies_split(&got);
    for record in simulator.truth() {
        let text = String::from_utf8_lossy(&record.record).into_owned();
        assert_eq!(served.contains_key(&text), record.reachable, "{} {:?}", scenario.name(), record.reason);
    }
    simulator
}

/// As [`records`], by the separator between records, since hostile bodies are not JSON.
fn bodies_split(bodies: &BTreeMap<(usize, String), Vec<u8>>) -> HashMap<String, usize> {
    let mut counts = HashMap::new();
    for body in bodies.values() {
        let text = String::from_utf8_lossy(&body[1..body.len() - 1]);
        for record in text.split(",\r\n") {
            *counts.entry(record.to_owned()).or_default() += 1;
        }
    }
    counts
}

#[tokio::test]
async fn each_fault_fires_alone_and_lets_a_patient_client_through() {
    for scenario in Scenario::all() {
        let config = WorldConfig::new().days(2).records(2000).tune(|p| p.start_cooldown_s = 0);
        if scenario != Scenario::Late {
            alone(scenario, config).await.shutdown().await;
        }
    }
}

#[tokio::test]
async fn late_blobs_come_in_time() {
    // Three hours pass in a second and a half.
    let simulator = start(WorldConfig::new().records(2000).speed(7200.0).scenario(Scenario::Late)).await;
    let mut probe = Probe::new(&simulator);
    probe.drain(1, 7).await;
    let first = simulator.report();
    assert!(first.faults["late"] >= 20, "{:?}", first.faults);
    tokio::time::sleep(Duration::from_millis(1700)).await;
    assert_eq!(simulator.report().pending_records, 0);
}

#[tokio::test]
async fn all_faults_at_once_leave_exactly_the_unreachable_records_behind() {
    for identity in [Identity::Stable, Identity::Windowed] {
        let config = WorldConfig::new()
            .tenants(3)
            .records(6000)
            .identity(identity)
            .tune(|p| p.start_cooldown_s = 0)
            .scenarios(&Scenario::all());
        let simulator = start(config).await;
        simulator.disable(Scenario::Late);
        let (got, _) = Probe::new(&simulator).drain(2, 7).await;
        let served = bodies_split(&got);
        let report = simulator.report();
        for scenario in Scenario::all() {
            let fired = report.faults.get(scenario.name()).copied().unwrap_or(0);
            assert!(
                fired >= 20 || scenario == Scenario::Late || scenario == Scenario::Duplicates,
                "{} fired {fired} times",
                scenario.name()
            );
        }
        let mut unreachable = 0;
        for record in simulator.truth() {
            unreachable += usize::from(!record.reachable);
            // `null` is `null` wherever it stands.
            if record.hostile == Some("not_object") {
                continue;
            }
            let text = String::from_utf8_lossy(&record.record).into_owned();
            assert_eq!(served.contains_key(&text), record.reachable, "{:?} {:?}", record.reason, record.content_ids);
        }
        assert_eq!(unreachable, report.unreachable_records.len());
        assert!(unreachable > 0);
    }
}

/// Starts a type, gives the first blob of the last days.
async fn first_blob(probe: &mut Probe<'_>, kind: ContentType) -> String {
    probe.start(0, kind).await;
    let now = probe.simulator.clock().now_ms();
    for day in 0..7 {
        let to = now - day * DAY_MS;
        let listed = probe.list(0, kind, to - DAY_MS + MINUTE_MS * 5, to).await.unwrap();
        if let Some((_, uri)) = listed.first() {
            return uri.clone();
        }
    }
    panic!("nothing is listed");
}

#[tokio::test]
async fn gzip_and_h2_bring_the_same_body() {
    use std::io::Read;
    // A large blob, so that it is streamed.
    let config = WorldConfig::new().records(1500).only(ContentType::Exchange).records_per_blob(1000);
    let simulator = start(config).await;
    let mut probe = Probe::new(&simulator);
    let uri = first_blob(&mut probe, ContentType::Exchange).await;
    let plain = probe.fetch(0, &uri).await.unwrap();
    assert!(plain.len() > 1_000_000);
    let h2 = Client::builder().no_proxy().http2_prior_knowledge().build().unwrap();
    for (client, version) in [(&probe.http, reqwest::Version::HTTP_11), (&h2, reqwest::Version::HTTP_2)] {
        let request = client.get(&uri).bearer_auth(&probe.tokens[&0]).header("Accept-Encoding", "gzip");
        let response = request.send().await.unwrap();
        assert_eq!(response.version(), version);
        assert_eq!(response.headers()["content-encoding"], "gzip");
        let body = response.bytes().await.unwrap();
        assert!(body.len() < plain.len() / 2);
        let mut text = Vec::new();
        flate2::read::MultiGzDecoder::new(&body[..]).read_to_end(&mut text).unwrap();
        assert!(text == plain);
    }
    assert!(simulator.report().violations.iter().any(|v| v.kind == "no_publisher_identifier"));
}

#[tokio::test]
async fn live_records_appear_as_time_passes() {
    for identity in [Identity::Stable, Identity::Windowed] {
        let config = WorldConfig::new().records(0).speed(600.0).live_rate(30.0).identity(identity);
        let simulator = start(config).await;
        tokio::time::sleep(Duration::from_millis(600)).await;
        let before: Vec<_> = simulator.truth().filter(|r| r.reachable).collect();
        assert!(before.len() > 300, "{}", before.len());
        let (got, _) = Probe::new(&simulator).drain(1, 7).await;
        let served = records(&got);
        for record in &before {
            assert!(served.contains_key(std::str::from_utf8(&record.record).unwrap()), "{identity:?} {}", record.index);
        }
    }
}

#[tokio::test]
async fn the_worst_are_there_when_asked_for() {
    let world = || WorldConfig::new().records(400).only(ContentType::SharePoint);
    let simulator = start(world().scenario(Scenario::HugeRecord).tune(|p| p.huge_record_bytes = 3 << 20)).await;
    simulator.enable(Scenario::HugeRecord, Some(0.01));
    assert!(simulator.truth().any(|r| r.record.len() > 3 << 20));

    let simulator = start(world()).await;
    let mut probe = Probe::new(&simulator);
    let uri = first_blob(&mut probe, ContentType::SharePoint).await;
    simulator.enable(Scenario::Bomb, Some(1.0));
    let request = probe.http.get(&uri).bearer_auth(&probe.tokens[&0]).header("Accept-Encoding", "gzip");
    let body = request.send().await.unwrap().bytes().await.unwrap();
    assert!(body.len() > 1 << 20 && simulator.report().faults["bomb"] == 1, "{}", body.len());
    simulator.disable(Scenario::Bomb);

    simulator.enable(Scenario::EndlessPages, Some(1.0));
    let now = simulator.clock().now_ms();
    let mut url = probe.feed(
        0,
        &format!(
            "subscriptions/content?contentType=Audit.SharePoint&startTime={}&endTime={}",
            stamp::seconds(now - HOUR_MS),
            stamp::seconds(now)
        ),
    );
    for _ in 0..60 {
        let (status, headers, _) = probe.send(0, false, &url).await.unwrap();
        assert_eq!(status, 200);
        url.clone_from(&headers["nextpageuri"]);
    }
    simulator.disable(Scenario::EndlessPages);

    simulator.enable(Scenario::SlowBody, Some(1.0));
    let begun = std::time::Instant::now();
    assert!(probe.fetch(0, &uri).await.unwrap().len() > 1024);
    assert!(begun.elapsed() > Duration::from_millis(700));
    simulator.disable(Scenario::SlowBody);

    simulator.enable(Scenario::ForgedUrls, Some(1.0));
    let listed = probe.list(0, ContentType::SharePoint, now - 20 * HOUR_MS, now).await;
    let root = simulator.api_url();
    // Either the page's address leads away, which ends the listing, or an entry's does.
    if let Ok(listed) = listed {
        assert!(listed.iter().any(|(_, uri)| !uri.starts_with(&format!("{root}/api/"))));
    }
    assert!(simulator.report().faults["forged_urls"] > 0);
    let trap = format!("http://{}/api", simulator.trap_address());
    probe.http.get(trap).bearer_auth("x").send().await.unwrap();
    assert!(simulator.report().violations.iter().any(|v| v.kind == "token_to_foreign_host"));
}

#[tokio::test]
async fn the_same_seed_serves_the_same_world() {
    let lines = |simulator: &SimulatorHandle| {
        let mut out = Vec::new();
        simulator.truth().for_each(|record| record.write_line(true, &mut out));
        out
    };
    let config = || WorldConfig::new().seed(9).records(600).scenarios(&Scenario::all()).start_ms(1_790_000_000_000);
    let (one, two) = (start(config()).await, start(config()).await);
    assert!(lines(&one) == lines(&two));
    assert!(lines(&one) != lines(&start(config().seed(10)).await));
    // Over HTTP the same lines, and every one of them JSON.
    let served = reqwest::get(format!("{}/_sim/truth", one.api_url())).await.unwrap().bytes().await.unwrap();
    assert!(served == lines(&one));
    for line in served.split(|b| *b == b'\n').filter(|line| !line.is_empty()) {
        let text = std::str::from_utf8(line).unwrap();
        let _: &serde_json::value::RawValue = serde_json::from_str(text).unwrap();
    }
    let report = reqwest::get(format!("{}/_sim/report", one.api_url())).await.unwrap().bytes().await.unwrap();
    let report: serde_json::Value = serde_json::from_slice(&report).unwrap();
    assert_eq!(report["records"], 600);
}
