//! Each scenario fires, and the books say exactly what it made impossible.

use std::time::Duration;

use super::*;
use crate::simulator::{Identity, Scenario};

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
            .days(2)
            .identity(identity)
            .tune(|p| p.start_cooldown_s = 0)
            .scenarios(&Scenario::all());
        let simulator = start(config).await;
        simulator.disable(Scenario::Late);
        let (got, _) = Probe::new(&simulator).drain(2, 2).await;
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
    // Either the page's address leads away, which ends the listing, if only because the trap answers with an
    // empty one; or an entry's does.
    if let Ok(listed) = listed {
        assert!(listed.is_empty() || listed.iter().any(|(_, uri)| !uri.starts_with(&format!("{root}/api/"))));
    }
    assert!(simulator.report().faults["forged_urls"] > 0);
    let trap = format!("http://{}/api", simulator.trap_address());
    probe.http.get(trap).bearer_auth("x").send().await.unwrap();
    assert!(simulator.report().violations.iter().any(|v| v.kind == "token_to_foreign_host"));
}

/// The answer to one download while everything is struck.
async fn struck(scenario: Scenario) -> (SimulatorHandle, Result<(u16, HashMap<String, String>, Vec<u8>), String>) {
    let simulator = start(WorldConfig::new().records(2000).only(ContentType::Exchange)).await;
    let answer = {
        let mut probe = Probe::new(&simulator);
        let uri = first_blob(&mut probe, ContentType::Exchange).await;
        simulator.enable(scenario, Some(1.0));
        probe.send(0, false, &uri).await.map_err(|e| e.to_string())
    };
    (simulator, answer)
}

#[tokio::test]
async fn a_fault_looks_like_what_it_says() {
    for seed in 0..4 {
        let config = WorldConfig::new().records(300).only(ContentType::General).seed(seed);
        let simulator = start(config.scenario(Scenario::TruncatedBody)).await;
        simulator.disable(Scenario::TruncatedBody);
        let mut probe = Probe::new(&simulator);
        let uri = first_blob(&mut probe, ContentType::General).await;
        let whole = probe.fetch(0, &uri).await.unwrap();
        simulator.enable(Scenario::TruncatedBody, Some(1.0));
        assert!(probe.send(0, false, &uri).await.is_err(), "a body that broke off came whole");
        simulator.disable(Scenario::TruncatedBody);
        simulator.enable(Scenario::HalfJson, Some(1.0));
        let (status, _, half) = probe.send(0, false, &uri).await.unwrap();
        assert!(status == 200 && half.len() < whole.len() && whole.starts_with(&half));
    }
    let (_simulator, answer) = struck(Scenario::Throttle429).await;
    let (status, _, body) = answer.unwrap();
    assert!(status == 429 && code(&body) == "AF429");
    let (_simulator, answer) = struck(Scenario::Throttle403).await;
    let (status, _, body) = answer.unwrap();
    assert!(
        status == 403 && String::from_utf8_lossy(&body).contains("Too many requests. Method=GetBlob, PublisherId=")
    );
    let (_simulator, answer) = struck(Scenario::ServerError).await;
    let (status, _, body) = answer.unwrap();
    assert_eq!((status, code(&body).as_str()), (500, "AF50000"));
    let (_simulator, answer) = struck(Scenario::HtmlError).await;
    let (status, headers, body) = answer.unwrap();
    assert!(matches!(status, 502 | 503) && headers["content-type"] == "text/html" && body.starts_with(b"<html>"));
    let (_simulator, answer) = struck(Scenario::GarbageError).await;
    let (status, _, body) = answer.unwrap();
    assert!(status == 400 && code(&body).starts_with("StartSubscription [CorrId="));
    let (_simulator, answer) = struck(Scenario::Eventual).await;
    let (status, _, body) = answer.unwrap();
    assert_eq!((status, code(&body).as_str()), (404, "AF20050"));
    let (simulator, answer) = struck(Scenario::Expired).await;
    let (status, _, body) = answer.unwrap();
    assert_eq!((status, code(&body).as_str()), (400, "AF20051"));
    assert!(simulator.report().unreachable.len() as u64 == simulator.report().blobs);
    assert_eq!(simulator.report().unreachable_records.len(), 2000);
}

#[tokio::test]
async fn a_token_that_dies_takes_its_download_along() {
    let (simulator, answer) = struck(Scenario::TokenExpiry).await;
    assert!(answer.is_err());
    let mut probe = Probe::new(&simulator);
    // The next token is good again.
    assert!(!first_blob(&mut probe, ContentType::Exchange).await.is_empty());
}

#[tokio::test]
async fn what_vanished_is_gone_from_the_listings() {
    let (simulator, answer) = struck(Scenario::Vanished).await;
    let (status, _, body) = answer.unwrap();
    assert_eq!((status, code(&body).as_str()), (404, "AF20050"));
    let refused: Vec<String> = simulator.report().unreachable.into_iter().flat_map(|u| u.refused).collect();
    assert_eq!(refused.len(), 1);
    let mut probe = Probe::new(&simulator);
    let now = simulator.clock().now_ms();
    let mut listed = 0;
    for day in 1..7 {
        let from = now - day * DAY_MS;
        for (id, _) in probe.list(0, ContentType::Exchange, from, from + DAY_MS).await.unwrap() {
            assert!(id != refused[0]);
            listed += 1;
        }
    }
    assert!(listed > 20);
}

#[tokio::test]
async fn a_failing_page_lets_the_listing_through_later() {
    let simulator = start(WorldConfig::new().records(500).only(ContentType::General)).await;
    let mut probe = Probe::new(&simulator);
    probe.start(0, ContentType::General).await;
    simulator.enable(Scenario::PageError, Some(1.0));
    let now = simulator.clock().now_ms();
    let mut answers = Vec::new();
    for _ in 0..4 {
        answers.push(probe.list(0, ContentType::General, now - DAY_MS, now).await);
    }
    assert!(answers[0].as_ref().is_err_and(|e| e == "400 AF20031" || e == "500 AF50000"), "{answers:?}");
    assert!(answers[3].as_ref().is_ok_and(|listed| !listed.is_empty()), "{answers:?}");
}
