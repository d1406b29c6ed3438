//! What takes hours or days: asked in the process, on a clock that passes them at once. The client
//! asks once and believes what it is told, so each test shows what such a client would see.

use std::collections::{HashMap, HashSet};
use std::io;
use std::time::Duration;

use axum::http::{Method, Request};
use futures_util::{StreamExt, TryStreamExt};
use tokio::time::{Instant, timeout};

use super::*;
use crate::clock::Clock;
use crate::simulator::{Scenario, Simulator};

const KIND: ContentType = ContentType::Exchange;

/// A client without patience.
struct Naive {
    simulator: Simulator,
    token: String,
}

impl Naive {
    async fn new(config: WorldConfig) -> Naive {
        let clock = Clock::following(1_772_323_200_000);
        let simulator = Simulator::in_process(config.only(KIND).clock(clock));
        let mut naive = Naive { simulator, token: String::new() };
        naive.token = naive.new_token().await;
        naive
    }

    /// A world with one scenario that strikes everything.
    async fn struck(scenario: Scenario, config: WorldConfig) -> Naive {
        let naive = Naive::new(config.scenario(scenario).rates(1.0, 1.0)).await;
        naive.start().await;
        naive
    }

    async fn new_token(&self) -> String {
        let access = &self.simulator.tenants()[0];
        let form = url::form_urlencoded::Serializer::new(String::new())
            .append_pair("grant_type", "client_credentials")
            .append_pair("client_id", &access.client_id)
            .append_pair("client_secret", &access.client_secret)
            .append_pair("scope", &format!("{}/.default", self.simulator.api_url()))
            .finish();
        let url = format!("{}/{}/oauth2/v2.0/token", self.simulator.login_url(), access.tenant_id);
        let request = Request::builder().method(Method::POST).uri(url).body(form.into()).unwrap();
        let answer: serde_json::Value = serde_json::from_slice(&self.send(request).await.unwrap().1).unwrap();
        answer["access_token"].as_str().unwrap_or_default().to_owned()
    }

    async fn send(&self, request: Request<axum::body::Body>) -> io::Result<(u16, Vec<u8>)> {
        let answer = self.simulator.answer(request).await?;
        let status = answer.status().as_u16();
        let body = answer.into_body().map_ok(|piece| piece.to_vec()).boxed().try_concat().await?;
        Ok((status, body))
    }

    async fn ask(&self, method: Method, url: &str) -> io::Result<(u16, Vec<u8>)> {
        let request =
            Request::builder().method(method).uri(url).header("authorization", format!("Bearer {}", self.token));
        self.send(request.body(axum::body::Body::empty()).unwrap()).await
    }

    fn feed(&self, operation: &str) -> String {
        let id = &self.simulator.tenants()[0].tenant_id;
        let separator = if operation.contains('?') { '&' } else { '?' };
        format!(
            "{}/api/v1.0/{id}/activity/feed/{operation}{separator}PublisherIdentifier={id}",
            self.simulator.api_url()
        )
    }

    async fn start(&self) -> u16 {
        let url = self.feed(&format!("subscriptions/start?contentType={}", KIND.as_str()));
        self.ask(Method::POST, &url).await.unwrap().0
    }

    async fn list(&self, from_ms: i64, to_ms: i64) -> (u16, Vec<Listed>) {
        let (from, to) = (stamp::seconds(from_ms), stamp::seconds(to_ms));
        let url = format!("subscriptions/content?contentType={}&startTime={from}&endTime={to}", KIND.as_str());
        let (status, body) = self.ask(Method::GET, &self.feed(&url)).await.unwrap();
        let items: Vec<serde_json::Value> = serde_json::from_slice(&body).unwrap_or_default();
        let text = |item: &serde_json::Value, key: &str| item[key].as_str().unwrap().to_owned();
        (status, items.iter().map(|item| (text(item, "contentId"), text(item, "contentUri"))).collect())
    }

    /// All blobs of the last `days`, day by day.
    async fn list_days(&self, days: i64) -> Vec<Listed> {
        let now = self.now();
        let mut listed = Vec::new();
        for day in 0..days {
            let from = (now - (day + 1) * DAY_MS).max(now - 7 * DAY_MS + MINUTE_MS);
            listed.extend(self.list(from, now - day * DAY_MS).await.1);
        }
        listed
    }

    async fn records(&self, uri: &str) -> Vec<serde_json::Value> {
        let (status, body) = self.ask(Method::GET, uri).await.unwrap();
        assert_eq!(status, 200, "{}", String::from_utf8_lossy(&body));
        serde_json::from_slice(&body).unwrap()
    }

    fn now(&self) -> i64 {
        self.simulator.clock().now_ms()
    }

    async fn pass(&mut self, hours: u64) {
        self.simulator.clock().sleep(Duration::from_secs(hours * 3600)).await;
        self.token = self.new_token().await;
    }

    fn fired(&self, scenario: Scenario) -> u64 {
        self.simulator.report().faults.get(scenario.name()).copied().unwrap_or(0)
    }
}

fn world() -> WorldConfig {
    WorldConfig::new().records(300).records_per_blob(5).tune(|p| {
        p.page_size = 1000;
        p.odd_pages = false;
    })
}

#[tokio::test(start_paused = true)]
async fn a_quota_is_full_within_its_minute() {
    let naive = Naive::struck(Scenario::Quota, world()).await;
    let now = naive.now();
    let mut refused = 0;
    for _ in 0..150 {
        refused += u64::from(naive.list(now - HOUR_MS, now).await.0 == 429);
    }
    assert_eq!((refused, naive.fired(Scenario::Quota)), (30, 30));
    naive.simulator.clock().sleep(Duration::from_secs(60)).await;
    assert_eq!(naive.list(now - HOUR_MS, now).await.0, 200);
}

#[tokio::test(start_paused = true)]
async fn answers_tokens_and_bodies_can_take_for_ever() {
    let naive = Naive::struck(Scenario::SlowAnswer, world()).await;
    let (began, now) = (Instant::now(), naive.now());
    naive.list(now - HOUR_MS, now).await;
    assert!(began.elapsed() >= Duration::from_secs(20), "{:?}", began.elapsed());

    let began = Instant::now();
    Naive::struck(Scenario::SlowToken, world()).await;
    assert!(began.elapsed() >= Duration::from_secs(5), "{:?}", began.elapsed());

    let naive = Naive::struck(Scenario::StalledBody, world()).await;
    let (_, uri) = naive.list_days(7).await.swap_remove(0);
    assert!(timeout(Duration::from_secs(86_400), naive.ask(Method::GET, &uri)).await.is_err(), "it came");
    assert_eq!(naive.fired(Scenario::StalledBody), 1);
}

#[tokio::test(start_paused = true)]
async fn what_is_absent_stays_listed_and_is_never_there() {
    let mut naive = Naive::struck(Scenario::Absent, world()).await;
    for _ in 0..2 {
        let listed = naive.list_days(3).await;
        let (status, body) = naive.ask(Method::GET, &listed[0].1).await.unwrap();
        assert_eq!((status, code(&body).as_str()), (404, "AF20050"));
        naive.pass(24).await;
    }
    let report = naive.simulator.report();
    assert_eq!(report.unreachable.len() as u64, report.blobs);
    // Those of the oldest days were never listed.
    assert!(report.unreachable.iter().filter(|blob| blob.reason == "absent").count() >= 20);
    assert!(report.unreachable.iter().all(|blob| matches!(blob.reason, "absent" | "too_old")));
    assert_eq!(naive.fired(Scenario::Absent), 2);
}

#[tokio::test(start_paused = true)]
async fn very_late_blobs_come_within_six_days_and_some_too_late() {
    let mut naive = Naive::struck(Scenario::VeryLate, world()).await;
    assert_eq!(naive.list_days(7).await.len(), 0);
    assert!(naive.fired(Scenario::VeryLate) >= 20 && naive.simulator.report().pending_records > 0);
    let mut seen = HashSet::new();
    for _ in 0..7 * 4 {
        naive.pass(6).await;
        seen.extend(naive.list_days(7).await.into_iter().map(|(id, _)| id));
    }
    let report = naive.simulator.report();
    assert!(seen.len() >= 20 && report.pending_records == 0, "{} {}", seen.len(), report.pending_records);
    // Nobody who looks four times a day misses one that is owed.
    let unseen = report.unreachable.iter().filter(|blob| !seen.contains(&blob.content_id));
    assert!(unseen.clone().all(|blob| matches!(blob.reason, "too_late" | "too_old")));
    assert_eq!(seen.len() as u64 + unseen.count() as u64, report.blobs);
}

#[tokio::test(start_paused = true)]
async fn half_of_the_history_can_lie_in_one_hour() {
    let naive = Naive::struck(Scenario::CrowdedHour, world()).await;
    let listed = naive.list_days(7).await;
    let mut hours: HashMap<&str, usize> = HashMap::new();
    listed.iter().for_each(|(id, _)| *hours.entry(&id[..10]).or_default() += 1);
    let mut most: Vec<usize> = hours.into_values().collect();
    most.sort_unstable_by_key(|count| std::cmp::Reverse(*count));
    assert!((most[0] + most[1]) * 2 >= listed.len() - 4, "{most:?}");
    assert!(naive.fired(Scenario::CrowdedHour) >= 20);
}

#[tokio::test(start_paused = true)]
async fn replays_bring_known_records_under_new_ids() {
    let mut naive = Naive::struck(Scenario::Replay, world().live(0.5, 3, 24)).await;
    naive.pass(26).await;
    let mut counts: HashMap<String, usize> = HashMap::new();
    for (_, uri) in naive.list_days(7).await {
        for record in naive.records(&uri).await {
            *counts.entry(record["Id"].to_string() + &record["Operation"].to_string()).or_default() += 1;
        }
    }
    let report = naive.simulator.report();
    assert!(counts.len() as u64 <= report.records && counts.values().any(|count| *count > 1), "{}", counts.len());
    assert!(naive.fired(Scenario::Replay) >= 20);
}

#[tokio::test(start_paused = true)]
async fn a_copy_can_have_its_id_in_capitals() {
    let naive = Naive::struck(Scenario::IdCase, world()).await;
    let mut forms: HashMap<String, HashSet<String>> = HashMap::new();
    for (_, uri) in naive.list_days(7).await {
        for record in naive.records(&uri).await {
            let id = record["Id"].as_str().unwrap().to_owned();
            forms.entry(id.to_ascii_lowercase()).or_default().insert(id);
        }
    }
    assert!(forms.values().filter(|forms| forms.len() == 2).count() >= 20);
    assert!(naive.fired(Scenario::IdCase) >= 20);
}

#[tokio::test(start_paused = true)]
async fn a_start_can_take_effect_late() {
    let naive = Naive::new(world().scenario(Scenario::LateSubscription)).await;
    assert_eq!(naive.start().await, 200);
    let now = naive.now();
    let (_, subscriptions) = naive.ask(Method::GET, &naive.feed("subscriptions/list")).await.unwrap();
    assert_eq!((subscriptions.as_slice(), naive.list(now - HOUR_MS, now).await.0), (b"[]".as_slice(), 400));
    assert_eq!(naive.start().await, 400, "enabled already, it says");
    naive.simulator.clock().sleep(Duration::from_secs(3000)).await;
    naive.simulator.clock().sleep(Duration::from_secs(590)).await;
    assert_eq!(naive.list(now - HOUR_MS, now).await.0, 200);
    assert!(naive.fired(Scenario::LateSubscription) > 0);
}

#[tokio::test(start_paused = true)]
async fn the_first_content_can_be_late_and_begin_a_day_before_the_start() {
    let mut naive = Naive::struck(Scenario::LateContent, world()).await;
    assert_eq!(naive.list_days(7).await.len(), 0);
    naive.pass(12).await;
    assert!(naive.list_days(7).await.len() > 20 && naive.fired(Scenario::LateContent) > 0);

    let naive = Naive::struck(Scenario::ShortBackfill, world()).await;
    let all = naive.list_days(7).await.len();
    let (start, hidden) = (naive.now(), naive.fired(Scenario::ShortBackfill));
    assert!(all > 0 && hidden >= 20 && all as u64 + hidden == naive.simulator.report().blobs, "{all} {hidden}");
    assert_eq!(naive.list(start - 40 * HOUR_MS, start - 22 * HOUR_MS).await.1.len(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_growing_blob_holds_more_later_under_the_same_id() {
    let naive = Naive::struck(Scenario::Growing, world().live(2.0, 40, 4)).await;
    naive.simulator.clock().sleep(Duration::from_secs(20 * 60 + 20)).await;
    let now = naive.now();
    let (id, uri) = naive.list(now - 5 * MINUTE_MS, now + HOUR_MS).await.1.pop().unwrap();
    let early = naive.records(&uri).await;
    naive.simulator.clock().sleep(Duration::from_secs(1800)).await;
    let listed = naive.list(now - 5 * MINUTE_MS, now + HOUR_MS).await.1;
    assert!(listed.contains(&(id, uri.clone())));
    let later = naive.records(&uri).await;
    assert!(early.len() < 40 && later.len() == 40 && later.starts_with(&early), "{} {}", early.len(), later.len());
    assert!(naive.fired(Scenario::Growing) == 1);
}

#[tokio::test(start_paused = true)]
async fn a_date_can_be_wrong_and_a_connection_break_before_an_answer() {
    let naive = Naive::struck(Scenario::ConnectionReset, world()).await;
    let now = naive.now();
    let (from, to) = (stamp::seconds(now - HOUR_MS), stamp::seconds(now));
    let url = naive.feed(&format!("subscriptions/content?contentType={}&startTime={from}&endTime={to}", KIND.as_str()));
    assert_eq!(naive.ask(Method::GET, &url).await.unwrap_err().kind(), io::ErrorKind::ConnectionReset);

    let naive = Naive::struck(Scenario::WrongDate, world()).await;
    let mut wrong = 0;
    for hour in 0..40 {
        let url = naive.feed(&format!("subscriptions/list?hour={hour}"));
        let request = Request::builder().uri(url).header("authorization", format!("Bearer {}", naive.token));
        let answer = naive.simulator.answer(request.body(axum::body::Body::empty()).unwrap()).await.unwrap();
        wrong += usize::from(answer.headers()["date"] != stamp::http_date(naive.now()));
    }
    assert!(wrong >= 35 && naive.fired(Scenario::WrongDate) >= 40, "{wrong}");
}
