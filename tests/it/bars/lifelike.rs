//! What a service does that is neither right nor wrong, end to end and each by itself: a blob that grows
//! at the live edge, one that is gone and comes back, a subscription that its list and its content speak of
//! differently. The real binary against a little service whose calendar runs an hour a second.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use auditferry::clock::world_ms;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};

use super::little_service::{Asked, LittleService, TENANT_ID, body, entry, json};
use crate::support::Place;

const SPEED: f64 = 3600.0;
const LIMIT: Duration = Duration::from_secs(30);
const KIND: &str = "Audit.SharePoint";

fn place(service: &LittleService) -> Place {
    let place = Place::new();
    // Commits within a moment, so that what a kill forgets is little.
    let text = service.config(&place.state_dir(), "a-secret", ", stall_timeout: 5s");
    place.write_text(&format!("{text}sinks:\n{}", place.file_sink("out")));
    place
}

fn lines(place: &Place) -> usize {
    std::fs::read(place.path("out")).map_or(0, |bytes| bytes.iter().filter(|byte| **byte == b'\n').count())
}

/// Waits until `is_so`, at most [`LIMIT`].
async fn until(place: &Place, what: &str, mut is_so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < LIMIT, "{what} does not happen\n{}", place.log_tail());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// The time that a parameter of a listing names, milliseconds.
fn bound(asked: &Asked, name: &str) -> i64 {
    let text = asked.query.split_once(name).unwrap().1.split('&').next().unwrap().replace("%3A", ":");
    format!("{text}Z").parse::<jiff::Timestamp>().unwrap().as_millisecond()
}

/// A listing that names `id`, if it asks for its time.
fn listing(asked: &Asked, root: &str, id: &str, created_ms: i64) -> Response {
    let holds = (bound(asked, "startTime=")..bound(asked, "endTime=")).contains(&created_ms);
    json(if holds { format!("[{}]", entry(root, KIND, id, created_ms)) } else { "[]".to_owned() })
}

fn refusal(status: u16, code: &str) -> Response {
    let body = format!(r#"{{"error":{{"code":"{code}","message":"no"}}}}"#);
    (StatusCode::from_u16(status).unwrap(), body).into_response()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blob_read_while_it_was_filling_is_read_once_more_even_by_the_next_process() {
    let created_ms = world_ms() - 60_000;
    let service = LittleService::start(vec![], SPEED, move |asked, root| {
        if asked.is_listing(KIND) {
            return Some(listing(asked, root, "grows", created_ms));
        }
        // It has grown by the time of the second look.
        asked.is_blob("grows").then(|| json(if asked.before == 0 { body(0..5) } else { body(0..9) }))
    })
    .await;
    let asked = || service.asked().iter().filter(|asked| asked.is_blob("grows")).count();
    let place = place(&service);
    let mut process = place.start(&[], &[]);
    until(&place, "the first reading", || lines(&place) == 5).await;
    process.terminate();
    assert_eq!(process.wait(LIMIT).await.unwrap().code(), Some(0), "{}", place.log_tail());
    assert_eq!(asked(), 1);
    let mut process = place.start(&[], &[]);
    until(&place, "the second reading", || lines(&place) == 9).await;
    let listings = || service.asked().iter().filter(|asked| asked.is_listing(KIND)).count();
    let before = listings();
    until(&place, "more listings", || listings() > before + 20).await;
    assert_eq!((asked(), lines(&place)), (2, 9), "read once more and never again, and nothing twice");
    process.terminate();
    process.wait(LIMIT).await.unwrap();
    let ledger = &place.ledger();
    let feed = ledger["feeds"].as_array().unwrap().iter().find(|feed| feed["content_type"] == KIND).unwrap();
    assert_eq!((&feed["ledger"]["blobs_listed"], &feed["ledger"]["blobs_settled"]), (&1.into(), &1.into()), "{feed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blob_that_was_gone_and_comes_back_is_delivered_and_no_longer_lost() {
    let created_ms = world_ms() - 90 * 60_000;
    let (was_asked, is_back) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let (hide, show) = (Arc::clone(&was_asked), Arc::clone(&is_back));
    let service = LittleService::start(vec![], SPEED, move |asked, root| {
        let is_there = show.load(Ordering::SeqCst);
        if asked.is_listing(KIND) && (is_there || !hide.load(Ordering::SeqCst)) {
            return Some(listing(asked, root, "returns", created_ms));
        }
        asked.is_blob("returns").then(|| {
            hide.store(true, Ordering::SeqCst);
            if is_there { json(body(0..4)) } else { refusal(404, "AF20050") }
        })
    })
    .await;
    let place = place(&service);
    let mut process = place.start(&[], &[]);
    let lost = || crate::support::ledgered_lost(&place.ledger()).into_iter().collect::<Vec<_>>();
    until(&place, "the loss", || place.state_dir().exists() && lost() == [("returns".to_owned(), "gone".to_owned())])
        .await;
    is_back.store(true, Ordering::SeqCst);
    until(&place, "the return", || lines(&place) == 4).await;
    process.terminate();
    process.wait(LIMIT).await.unwrap();
    assert_eq!(lost(), [], "it is in the ledger of losses still");
}

/// The content says that there is no subscription, `list` that it is enabled. With somebody's webhook nothing
/// is started; without, once a cool-down.
#[tokio::test(flavor = "multi_thread")]
async fn a_denied_subscription_is_started_once_a_cool_down_but_never_over_a_webhook() {
    for has_webhook in [false, true] {
        let heals = Arc::new(AtomicBool::new(false));
        let healed = Arc::clone(&heals);
        let blobs = vec![(KIND, "blob", body(0..3))];
        let service = LittleService::start(blobs, SPEED, move |asked, _| {
            let hook = if has_webhook { r#"{"address":"https://x","status":"enabled"}"# } else { "null" };
            if asked.path.ends_with("/subscriptions/list") {
                return Some(json(format!(r#"[{{"contentType":"{KIND}","status":"enabled","webhook":{hook}}}]"#)));
            }
            if asked.path.ends_with("/subscriptions/start") {
                return Some(refusal(400, "AF20024"));
            }
            (asked.is_listing(KIND) && !healed.load(Ordering::SeqCst)).then(|| refusal(400, "AF20023"))
        })
        .await;
        let place = Place::new();
        let text = service.config(&place.state_dir(), "a-secret", "");
        let text = text.replace("tenants:\n  - { name", &format!("tenants:\n  - {{ content_types: [{KIND}], name"));
        assert!(text.contains(TENANT_ID));
        place.write_text(&format!("{text}sinks:\n{}", place.file_sink("out")));
        let mut process = place.start(&[], &[]);
        let count = |end: &str| service.asked().iter().filter(|asked| asked.path.ends_with(end)).count();
        until(&place, "the denials", || count("/subscriptions/content") > 100).await;
        let (minutes, starts) = (world_minutes(&service), count("/subscriptions/start"));
        if has_webhook {
            assert_eq!(starts, 0);
        } else {
            assert!(starts >= 2 && starts as i64 <= minutes / 15 + 1, "{starts} starts in {minutes} minutes");
        }
        heals.store(true, Ordering::SeqCst);
        until(&place, "the healing", || lines(&place) == 3).await;
        process.terminate();
        process.wait(LIMIT).await.unwrap();
        let ledger = place.ledger();
        let suspected = &ledger["feeds"][0]["ledger"]["suspected"];
        assert_eq!(suspected.as_array().map(Vec::len), Some(1), "one gap from denial to healing: {ledger}");
        assert_eq!(count("/subscriptions/stop"), 0);
    }
}

/// Calendar minutes since the service began.
fn world_minutes(service: &LittleService) -> i64 {
    service.age_ms() / 60_000
}

#[tokio::test(flavor = "multi_thread")]
async fn while_subscriptions_cannot_be_listed_the_last_word_on_them_is_believed() {
    let is_down = Arc::new(AtomicBool::new(false));
    let down = Arc::clone(&is_down);
    let blobs = vec![(KIND, "first", body(0..2))];
    let created_ms = world_ms() + 30_000;
    let service = LittleService::start(blobs, SPEED, move |asked, root| {
        let is_down = down.load(Ordering::SeqCst);
        if is_down && asked.path.ends_with("/subscriptions/list") {
            return Some(refusal(500, "AF50000"));
        }
        if is_down && asked.is_listing(KIND) {
            return Some(listing(asked, root, "second", created_ms));
        }
        asked.is_blob("second").then(|| json(body(2..5)))
    })
    .await;
    let place = place(&service);
    let mut process = place.start(&[], &[]);
    until(&place, "the first blob", || lines(&place) == 2).await;
    process.terminate();
    process.wait(LIMIT).await.unwrap();
    is_down.store(true, Ordering::SeqCst);
    let mut process = place.start(&[], &[]);
    until(&place, "the second blob", || lines(&place) == 5).await;
    process.terminate();
    process.wait(LIMIT).await.unwrap();
}
