//! Pinned: no request, let alone a token or a secret, goes where an answer says; and everything that
//! can be had arrives all the same.

use std::time::Duration;

use auditferry::simulator::{FORGED_FORMS, Scenario, WorldConfig};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};

use super::little_service::{LittleService, TOKEN, body};
use crate::support::{Place, Process, compare, figure, file_hashes, served, size, world};

#[tokio::test(flavor = "multi_thread")]
async fn pinned_forged_addresses_are_never_asked() {
    // Small enough to end within a minute: by then the oldest blobs leave what is listed at this speed.
    // Two blobs a page, so that every listing has further pages, and time that makes back-off short.
    let world = WorldConfig::new().records(size(4000, 8000)).records_per_blob(4).speed(30.0);
    let world = self::world(world.tune(|protocol| protocol.page_size = 2)).await;
    world.enable(Scenario::ForgedUrls, Some(0.5));
    let place = Place::new();
    place.write_config(&world, &place.file_sink("out.ndjson"), "");
    let limit = Duration::from_secs(size(60, 200));
    let mut process = place.start(&["--once", "--once-timeout", &format!("{}s", limit.as_secs())], &[]);
    let (status, refused) = until_the_end(&mut process, limit).await;
    assert_eq!(status, Some(0), "{}", place.log_tail());

    let (report, truth) = (world.report(), served(&world));
    let arrived = compare(&truth, file_hashes(&place.path("out.ndjson")));
    figure(
        "pinned",
        format_args!(
            "{FORGED_FORMS} forms, {} contentUris and {} NextPageUris forged, {refused} refusals last counted, {arrived:?}, violations {:?}",
            report.forged.content_uris, report.forged.next_page_uris, report.violations
        ),
    );
    const { assert!(FORGED_FORMS >= 40) };
    assert!(report.forged.content_uris >= FORGED_FORMS, "{:?}", report.forged);
    assert!(report.forged.next_page_uris >= FORGED_FORMS, "{:?}", report.forged);
    assert!(report.violations.is_empty(), "{:?}", report.violations);
    assert!(refused >= FORGED_FORMS as u64, "{refused}");
    assert_eq!((arrived.lost, arrived.duplicates, arrived.foreign), (0, 0, 0));
    assert_eq!(arrived.arrived, truth.reachable.len());

    // The trap can see: with a token and without one.
    let client = reqwest::Client::new();
    let trap = format!("http://{}/api/v1.0/x", world.trap_address());
    client.get(&trap).bearer_auth(TOKEN).send().await.unwrap();
    client.get(&trap).send().await.unwrap();
    let seen: Vec<(String, u64)> = world.report().violations.into_iter().map(|v| (v.kind, v.count)).collect();
    assert_eq!(seen, [("request_to_foreign_host".to_owned(), 1), ("token_to_foreign_host".to_owned(), 1)]);
}

/// Waits for the end, and says what `auditferry_api_refused_urls_total` last showed.
async fn until_the_end(process: &mut Process, limit: Duration) -> (Option<i32>, u64) {
    let admin = process.admin().await.unwrap();
    let deadline = tokio::time::Instant::now() + limit + Duration::from_secs(30);
    let mut refused = 0;
    while tokio::time::Instant::now() < deadline {
        if let Some(status) = process.ended() {
            return (status.code(), refused);
        }
        if let Ok(answer) = reqwest::get(format!("http://{admin}/metrics")).await
            && let Ok(text) = answer.text().await
        {
            let values = text.lines().filter(|line| line.starts_with("auditferry_api_refused_urls_total"));
            refused = values.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum::<f64>() as u64;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    (None, refused)
}

fn redirect(status: u16, to: &str) -> Response {
    (StatusCode::from_u16(status).unwrap(), [("location", to)]).into_response()
}

/// Each kind of request is redirected with each status before it is answered.
#[tokio::test(flavor = "multi_thread")]
async fn pinned_redirects_are_not_followed() {
    const STATUSES: [u16; 5] = [301, 302, 303, 307, 308];
    let trap = LittleService::start(Vec::new(), 1.0, |_, _| None).await;
    let to = format!("{}/api/v1.0/stolen", trap.root());
    // Two of each status a path, except where a path is asked for once in a long while.
    let service = LittleService::start(vec![("Audit.SharePoint", "blob$1", body(0..10))], 60.0, move |asked, _| {
        let times = if asked.path.ends_with("/token") { 1 } else { STATUSES.len() as u32 };
        (asked.before < times).then(|| redirect(STATUSES[(asked.before + 3) as usize % STATUSES.len()], &to))
    })
    .await;
    let place = Place::new();
    write(&place, &service, &place.file_sink("out.ndjson"));
    let status = place.run_once(Duration::from_secs(size(60, 120))).await;
    assert_eq!(status.code(), Some(0), "{}", place.log_tail());
    assert_eq!(file_hashes(&place.path("out.ndjson")).len(), 10);
    let redirected = service.asked().iter().filter(|asked| asked.before < STATUSES.len() as u32).count();
    figure("pinned", format_args!("{redirected} redirects, {} requests to where they lead", trap.asked().len()));
    assert!(trap.asked().is_empty(), "{:?}", trap.asked());
    assert!(service.asked().iter().any(|asked| asked.authorization.is_some()));
}

/// A collector that redirects gets no second request with the token either.
#[tokio::test(flavor = "multi_thread")]
async fn pinned_a_sinks_redirect_is_not_followed() {
    let trap = LittleService::start(Vec::new(), 1.0, |_, _| None).await;
    let to = format!("{}/services/collector/event", trap.root());
    let service = LittleService::start(vec![("Audit.SharePoint", "blob$1", body(0..10))], 60.0, move |asked, _| {
        asked.path.contains("/collector").then(|| redirect(307, &to))
    })
    .await;
    let place = Place::new();
    let sink = format!("  - {{ name: splunk, type: splunk_hec, url: {:?}, token: canary }}\n", service.root());
    write(&place, &service, &sink);
    let status = place.run_once(Duration::from_secs(6)).await;
    assert_eq!(status.code(), Some(3), "{}", place.log_tail());
    let asked = service.asked();
    assert!(asked.iter().any(|a| a.path.contains("/collector") && a.authorization.is_some()));
    assert!(trap.asked().is_empty(), "{:?}", trap.asked());
}

fn write(place: &Place, service: &LittleService, sinks: &str) {
    let text = format!("{}sinks:\n{sinks}", service.config(&place.state_dir(), "secret", ""));
    place.write_text(&text);
}
