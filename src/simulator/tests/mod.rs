//! The simulator over real HTTP, seen by a small client that does no more than ask: the client is here.

mod days;
mod identities;
mod protocol;
mod scenarios;

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use reqwest::{Client, Response, StatusCode};
use tokio::net::TcpListener;

use super::stamp::{self, DAY_MS, HOUR_MS, MINUTE_MS};
use super::{ContentType, SimulatorHandle, WorldConfig, serve};

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
            let items: Vec<serde_json::Value> = serde_json::from_slice(&body).map_err(|e| e.to_string())?;
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
                Ok((200, _, body)) if body.starts_with(b"[") && closed(&body) => return Ok(body),
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
