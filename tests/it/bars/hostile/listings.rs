//! Listings that hurt: pages without an end, for a while and for ever.

use std::time::Duration;

use auditferry::simulator::{ContentType, Scenario, WorldConfig};

use super::super::little_service::{self as little, LittleService};
use super::{CLEAN_LIMIT, MEMORY_KIB, Pair, arrived, configure, differences, lines, numbers, start, watch};
use crate::support::{Place, figure, size};

#[tokio::test(flavor = "multi_thread")]
async fn hostile_a_listing_that_ends_late_is_listed_again() {
    let pair = Pair::new(WorldConfig::new().only(ContentType::General).records(300)).await;
    pair.hostile.enable(Scenario::EndlessPages, Some(size(0.005, 0.05)));
    let place = Place::new();
    pair.config(&place, &place.file_sink("out"), "");
    let (limit, output) = (Duration::from_secs(size(90, 240)), place.path("out"));
    let watched = watch(start(&place, limit), limit, &output, pair.clean_mark()).await;
    let pages = pair.hostile.report().faults["endless_pages"];
    figure("hostile", format_args!("{pages} endless pages, {watched:?}"));
    assert_eq!(watched.code, Some(0), "{}", place.log_tail());
    assert!(pages > 1000);
    assert_eq!(differences(&pair.expected(), &arrived(lines(&output)).0), [""; 0]);
    assert!(watched.enough_after.is_some_and(|after| after < CLEAN_LIMIT), "{watched:?}");
    assert!(watched.peak_kib <= MEMORY_KIB, "{} KiB", watched.peak_kib);
}

/// One listing never ends and names something new ever so often; what it names is fetched, the other
/// feeds are whole, and neither memory nor journal grows with the pages.
#[tokio::test(flavor = "multi_thread")]
async fn hostile_a_listing_without_an_end_ends_the_run_as_unreachable() {
    let blobs =
        vec![("Audit.SharePoint", "named", little::body(0..20)), ("Audit.Exchange", "other", little::body(20..40))];
    let service = LittleService::start(blobs, 1.0, |asked, root| {
        let is_page = asked.is_listing("Audit.SharePoint") && asked.query.contains("nextPage");
        let is_first = asked.is_listing("Audit.SharePoint") && !is_page;
        let next = format!(
            "{root}/api/v1.0/{}/activity/feed/subscriptions/content?contentType=Audit.SharePoint&nextPage={}",
            little::TENANT_ID,
            asked.before
        );
        let created_ms = auditferry::clock::world_ms() - 90 * 60 * 1000;
        let entry = little::entry(root, "Audit.SharePoint", "named", created_ms);
        let page = if is_first { "[]".to_owned() } else { format!("[{entry}]") };
        (is_page || is_first).then(|| {
            let mut response = little::json(page);
            response.headers_mut().insert("nextpageuri", next.parse().unwrap());
            response
        })
    })
    .await;
    let place = Place::new();
    configure(&place, &service, "");
    let (limit, output) = (Duration::from_secs(size(15, 60)), place.path("out"));
    let watched = watch(start(&place, limit), limit, &output, (40, "")).await;
    let pages = service.asked().iter().filter(|asked| asked.query.contains("nextPage")).count();
    let files = std::fs::read_dir(place.state_dir()).unwrap().flatten();
    let state: u64 = files.filter_map(|file| Some(file.metadata().ok()?.len())).sum();
    figure("hostile", format_args!("no last page: {pages} pages, {state} bytes of state, {watched:?}"));
    assert_eq!(watched.code, Some(3), "{}", place.log_tail());
    assert_eq!(numbers(&output), (0..40).collect::<Vec<_>>());
    assert!(pages > 1000);
    assert!(state < 1024 * 1024, "{state} bytes");
    assert!(watched.peak_kib <= MEMORY_KIB, "{} KiB", watched.peak_kib);
}
