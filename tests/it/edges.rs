//! The edges that a collector is lost at, each small and by itself, end to end: the simulator, the real
//! binary, a file. What goes in is one scenario; what must come out is every record once, or the ledger's
//! word for it. The bars measure all of this at once; here the name of a test says what broke.

use std::collections::BTreeSet;
use std::time::Duration;

use auditferry::simulator::{Scenario, SimulatorHandle, WorldConfig};

use crate::support::{Comparison, Place, compare, file_hashes, ledgered_lost, served, world};

/// No run takes longer; most take a second or two.
const LIMIT: Duration = Duration::from_secs(40);

/// One tenant, some 400 blobs, a few in each cell of a day. The world is quick, so that what is asked for again is so at once.
fn small() -> WorldConfig {
    WorldConfig::new().records(2000).days(1).records_per_blob(5).speed(20.0)
}

/// How often the scenario struck.
fn strikes(world: &SimulatorHandle, scenario: Scenario) -> u64 {
    world.report().faults.get(scenario.name()).copied().unwrap_or(0)
}

/// A place with a file to write to, and a configuration for this world.
fn place(world: &SimulatorHandle) -> Place {
    let place = Place::new();
    // Two days for a world of one: time is so quick here that retention would overtake a cell at its edge.
    let collect = "collect: { requests_per_minute: 100000, poll_interval: 5s, backfill: 2d }";
    place.write_config(world, &place.file_sink("out.ndjson"), collect);
    place
}

/// Runs until everything is there, `runs` times over.
async fn run(place: &Place, runs: usize) {
    for _ in 0..runs {
        let ended = place.run_once(LIMIT).await;
        assert_eq!(ended.code(), Some(0), "{}", place.log_tail());
    }
}

fn arrived(world: &SimulatorHandle, place: &Place) -> Comparison {
    compare(&served(world), file_hashes(&place.path("out.ndjson")))
}

/// Everything that can be had is there once and nothing else is.
fn assert_whole(world: &SimulatorHandle, place: &Place) {
    let arrived = arrived(world, place);
    assert!(arrived.arrived > 0);
    assert_eq!((arrived.lost, arrived.duplicates, arrived.foreign), (0, 0, 0), "{arrived:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_blobs_of_one_instant_are_two_blobs() {
    let world = world(small()).await;
    // A content id begins with `contentCreated`; its third part is the type (activity-api 1.7, anatomy).
    let ids: BTreeSet<String> = world.truth().flat_map(|record| record.content_ids).collect();
    let instant = |id: &String| (id[..17].to_owned(), id.split('$').nth(2).unwrap().to_owned());
    let instants: BTreeSet<_> = ids.iter().map(instant).collect();
    assert!(instants.len() < ids.len(), "the world has no two blobs of one instant");
    let place = place(&world);
    run(&place, 1).await;
    assert_whole(&world, &place);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_page_that_names_a_next_one_is_not_the_end() {
    // Where a later page is to fail, the first one is empty.
    let world = world(small().tune(|protocol| protocol.page_size = 2).scenario(Scenario::PageError)).await;
    world.enable(Scenario::PageError, Some(0.5));
    let place = place(&world);
    run(&place, 1).await;
    assert_whole(&world, &place);
    assert!(strikes(&world, Scenario::PageError) > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_ends_in_its_middle_is_fetched_again() {
    let world = world(small().scenarios(&[Scenario::HalfJson, Scenario::TruncatedBody])).await;
    let place = place(&world);
    run(&place, 1).await;
    assert_whole(&world, &place);
    assert!(strikes(&world, Scenario::HalfJson) > 0 && strikes(&world, Scenario::TruncatedBody) > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listing_in_any_order_and_with_a_hole_is_listed_again_until_it_is_whole() {
    let world = world(small().scenario(Scenario::OutOfOrder)).await;
    let place = place(&world);
    // A blob is missing from one listing, its first or its second.
    run(&place, 3).await;
    assert_whole(&world, &place);
    assert!(strikes(&world, Scenario::OutOfOrder) > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_expired_is_in_the_ledger_by_name_and_nothing_else_is() {
    let world = world(small().scenario(Scenario::Expired)).await;
    world.enable(Scenario::Expired, Some(0.2));
    let place = place(&world);
    let ended = place.run_once(LIMIT).await;
    assert_eq!(ended.code(), Some(1), "a loss is told by the exit code; {}", place.log_tail());
    assert_whole(&world, &place);
    let expired = world.truth().filter(|record| record.reason == Some("expired"));
    let expired: BTreeSet<String> = expired.flat_map(|record| record.content_ids).collect();
    assert!(!expired.is_empty());
    let lost = ledgered_lost(&place.ledger());
    assert!(lost.values().all(|reason| reason == "expired"), "{lost:?}");
    assert_eq!(lost.into_keys().collect::<BTreeSet<_>>(), expired);
}

#[tokio::test(flavor = "multi_thread")]
async fn records_without_an_id_are_told_apart_by_what_is_in_them() {
    let world = world(small().scenario(Scenario::MissingId)).await;
    world.enable(Scenario::MissingId, Some(0.3));
    let place = place(&world);
    run(&place, 1).await;
    assert!(world.truth().filter(|record| record.id.is_none()).count() > 100);
    assert_whole(&world, &place);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forged_address_is_never_asked_and_costs_no_record() {
    let world = world(small().scenario(Scenario::ForgedUrls)).await;
    world.enable(Scenario::ForgedUrls, Some(0.5));
    let place = place(&world);
    let ended = place.run_once(LIMIT).await;
    assert!(strikes(&world, Scenario::ForgedUrls) > 40);
    assert_eq!(world.report().violations.len(), 0, "{:?}", world.report().violations);
    assert_eq!(ended.code(), Some(0), "{}", place.log_tail());
    assert_whole(&world, &place);
}

/// The process dies between the file and the journal: what it wrote last, nobody recorded.
#[cfg(feature = "failpoints")]
#[tokio::test(flavor = "multi_thread")]
async fn a_crash_between_the_file_and_the_journal_doubles_nothing() {
    let world = world(small()).await;
    let place = place(&world);
    for batch in ["journal_append:2", "send:1", "send:2"] {
        let mut process = place.start(&["--once"], &[("AUDITFERRY_KILL_AT", batch)]);
        let ended = process.wait(LIMIT).await.expect("the process ends in time");
        assert_eq!(ended.code(), None, "it was not killed at {batch}: {}", place.log_tail());
    }
    assert!(std::fs::metadata(place.path("out.ndjson")).unwrap().len() > 0);
    run(&place, 1).await;
    assert_whole(&world, &place);
}
