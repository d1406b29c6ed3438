//! One feed, driven by hand: what ends a blob and what must not.

use super::super::trouble::FOREIGN_FOR;
use super::super::troubles::CLOUD_HOST;
use super::*;
use crate::feed::{ContentType, Tenant};
use crate::state::{CELL, ListedBlob, State};

const NOW: Seconds = 1_000_000 * 3600 + 100;

fn feed_run() -> (tempfile::TempDir, FeedRun) {
    let dir = tempfile::tempdir().unwrap();
    let config = crate::config::StateConfig { dir: dir.path().to_owned(), max_delivered_bytes: 1 << 20 };
    let metrics = Metrics::new();
    let state = State::open(&config, Arc::clone(&metrics)).unwrap();
    let tenant = Arc::new(Tenant { name: "t".into(), id: "id".into(), domains: vec![] });
    let feed = Feed { tenant, content_type: ContentType::Exchange };
    let state = state.feed(&feed.key());
    state.record(FeedFact::Opened { from: NOW - 6 * CELL });
    (dir, FeedRun::new(feed, state, metrics, Troubles::default(), false))
}

fn listed(run: &mut FeedRun, cell: Seconds, ids: &[String]) -> Vec<ContentKey> {
    let blob = |id: &String| ListedBlob {
        content_id: id.clone(),
        content_uri: String::new(),
        created_ms: cell * 1000,
        expires: None,
    };
    let blobs = ids.iter().map(blob).collect();
    run.state().record(FeedFact::Listed { cell, at: NOW, complete: true, last: true, blobs });
    let new: Vec<_> = ids.iter().map(|id| (ContentKey::of(id), cell * 1000)).collect();
    run.found(&Found { new: new.clone(), again: vec![] });
    new.into_iter().map(|(key, _)| key).collect()
}

fn settle(run: &mut FeedRun, key: ContentKey, now: Seconds) {
    run.fetched(key, Ok(Fetched { bytes: 1, salvaged: false }), now);
    run.settled(key, Settlement::default(), now);
}

#[test]
fn the_books_are_gone_through_once_a_second_however_many_blobs_settle_in_it() {
    let (_dir, mut run) = feed_run();
    let cell = grid::cell_of(NOW) - CELL;
    let ids: Vec<String> = (0..10).map(|n| format!("blob-{n}")).collect();
    let keys = listed(&mut run, cell, &ids);
    let shown = |run: &FeedRun| run.books.metrics.blobs_pending.with_label_values(&run.books.labels()).get();
    for key in keys {
        settle(&mut run, key, NOW);
        run.books.review(NOW);
    }
    assert_eq!(shown(&run), 9, "only after the first of them");
    assert!(run.state().read(|p| p.cells.contains_key(&cell)));
    assert_eq!(run.books.review(NOW), NOW + 1);
    assert_eq!(run.books.review(NOW + 1), Seconds::MAX);
    assert_eq!(shown(&run), 0);
    assert!(run.state().read(|p| !p.cells.contains_key(&cell)), "the cell is done and closes");
}

#[test]
fn a_gateways_page_in_place_of_a_body_does_not_end_the_blob_while_an_outage_lasts() {
    let (_dir, mut run) = feed_run();
    let key = listed(&mut run, grid::cell_of(NOW) - CELL, &["blob".to_owned()])[0];
    let mut now = NOW;
    let attempt = |run: &mut FeedRun, now: &mut Seconds, error| {
        while run.queue.next_due(*now).is_some_and(|due| due > *now) {
            *now += 1;
        }
        let Attempt { key, manner, .. } = run.next_fetch(*now).unwrap();
        run.fetched(key, Err(FetchError::Malformed { error, print: (7, 7) }), *now);
        run.settled(key, Settlement { lost: 1, ..Settlement::default() }, *now);
        manner.salvage
    };
    let page = Malformed::Structure(SplitError::NotAnArray);
    while now < NOW + FOREIGN_FOR - LAST_RETRY {
        assert!(!attempt(&mut run, &mut now, page), "after {} s", now - NOW);
    }
    assert!(run.state().read(|p| p.pending.contains_key(&key)));
    while run.state().read(|p| p.pending.contains_key(&key)) {
        attempt(&mut run, &mut now, page);
    }
    assert!(now >= NOW + FOREIGN_FOR);
    // An array that is broken the same way each time is the blob's own.
    let key = listed(&mut run, grid::cell_of(NOW) - CELL, &["own".to_owned()])[0];
    let salvaged: Vec<bool> = (0..5).map(|_| attempt(&mut run, &mut now, Malformed::Unfinished)).collect();
    assert_eq!(salvaged, [false, false, false, false, true]);
    assert!(run.state().read(|p| !p.pending.contains_key(&key)));
}

fn attempt(run: &mut FeedRun, now: Seconds, error: FetchError) -> Option<ContentKey> {
    let Attempt { key, .. } = run.next_fetch(now)?;
    run.fetched(key, Err(error), now);
    run.settled(key, Settlement { lost: 1, ..Settlement::default() }, now);
    Some(key)
}

fn invalid() -> FetchError {
    ApiError::InvalidContent { text: "AF20052".into() }.into()
}

#[test]
fn the_host_of_another_cloud_holds_the_fetching_and_drops_nothing() {
    let (_dir, mut run) = feed_run();
    let ids: Vec<String> = (0..30).map(|n| format!("blob-{n}")).collect();
    let keys = listed(&mut run, grid::cell_of(NOW) - CELL, &ids);
    let tried = (0..30).map_while(|_| attempt(&mut run, NOW, invalid())).count();
    assert_eq!(tried, INVALID_BURST, "then it rests");
    let fault = run.books.metrics.feed_trouble.with_label_values(&["t", "Audit.Exchange", CLOUD_HOST]);
    assert_eq!(fault.get(), 1);
    // Days later, the cell beyond retention: still nothing is given up.
    let mut now = NOW;
    while now < NOW + 9 * 24 * 3600 {
        now += 900;
        while attempt(&mut run, now, invalid()).is_some() {}
        run.judge_missing(grid::cell_of(NOW) - CELL, &Listed::default());
    }
    assert_eq!(run.state().read(|p| (p.pending.len(), p.ledger.blobs_lost)), (30, 0));
    // The setting is put right.
    now += 3600;
    for _ in &keys {
        now += 600;
        let Some(Attempt { key, .. }) = run.next_fetch(now) else { continue };
        settle(&mut run, key, now);
    }
    assert_eq!((fault.get(), run.state().read(|p| p.pending.len())), (0, 0));
}

#[test]
fn time_that_goes_back_leaves_nothing_waiting_for_a_year() {
    let (_dir, mut run) = feed_run();
    listed(&mut run, grid::cell_of(NOW) - CELL, &["blob".to_owned()]);
    let year = NOW + 365 * 24 * 3600;
    attempt(&mut run, year, ApiError::NotFound { text: String::new() }.into());
    run.react(&ApiError::Unauthorized { text: String::new() }, year);
    assert!(run.next_fetch_at(NOW).unwrap() > NOW + 3600);
    run.rewind(NOW);
    assert!(run.next_fetch_at(NOW).unwrap() <= NOW + LAST_RETRY);
    assert!(run.next_fetch(NOW + LAST_RETRY).is_some());
}

#[test]
fn a_slow_blob_waits_for_the_lane_and_others_do_not_wait_for_it() {
    let (_dir, mut run) = feed_run();
    let ids = ["a".to_owned(), "b".to_owned(), "c".to_owned()];
    let keys = listed(&mut run, grid::cell_of(NOW) - CELL, &ids);
    let mut now = NOW;
    // Two of them are slow, again and again.
    for _ in 0..3 {
        now += LAST_RETRY;
        while let Some(Attempt { key, .. }) = run.next_fetch(now) {
            let transient = || ApiError::Transient { text: String::new() }.into();
            let result = Err(if key == keys[2] { transient() } else { BodyError::Slow.into() });
            run.fetched(key, result, now);
            run.settled(key, Settlement { lost: 1, ..Settlement::default() }, now);
        }
    }
    now += LAST_RETRY;
    let manners: Vec<bool> = std::iter::from_fn(|| run.next_fetch(now)).map(|attempt| attempt.manner.slow).collect();
    assert_eq!(manners.iter().filter(|slow| **slow).count(), 1, "one slow body of a feed at a time: {manners:?}");
    assert_eq!(manners.len(), 2, "{manners:?}");
}

#[test]
fn a_listing_of_a_part_of_its_cell_says_nothing_of_what_it_did_not_name() {
    let lost_after = |is_whole, named: bool| {
        let (_dir, mut run) = feed_run();
        let cell = grid::cell_of(NOW) - CELL;
        let key = listed(&mut run, cell, &["blob".to_owned()])[0];
        attempt(&mut run, NOW, invalid()).unwrap();
        let listing = Listing { cell, from: cell, to: cell + CELL, last: false };
        let seen = if named { HashSet::from([key]) } else { HashSet::new() };
        run.listed(&listing, Ok(Listed { seen, is_whole, ..Listed::default() }), NOW + 1);
        attempt(&mut run, NOW + 2 * 3600, invalid()).unwrap();
        run.state().read(|p| p.ledger.blobs_lost)
    };
    assert_eq!(lost_after(true, false), 1);
    assert_eq!(lost_after(true, true), 0);
    assert_eq!(lost_after(false, false), 0);
    assert_eq!(lost_after(false, true), 0);
}

#[test]
fn one_invalid_id_of_a_quiet_feed_does_not_hold_the_others() {
    let (_dir, mut run) = feed_run();
    let cell = grid::cell_of(NOW) - CELL;
    listed(&mut run, cell, &["invalid".to_owned()]);
    let mut now = NOW;
    for _ in 0..INVALID_BURST + 5 {
        now += LAST_RETRY;
        attempt(&mut run, now, invalid()).unwrap();
    }
    let key = listed(&mut run, cell, &["good".to_owned()])[0];
    assert_eq!(run.next_fetch(now).map(|attempt| attempt.key), Some(key));
}

#[test]
fn what_is_only_read_once_more_comes_last_after_a_failure_and_after_a_restart_too() {
    let (_dir, mut run) = feed_run();
    let cell = grid::cell_of(NOW) - CELL;
    let again = listed(&mut run, cell - CELL, &["again".to_owned()])[0];
    let counts = Settlement::default();
    run.state().record(FeedFact::SettledYoung { content: again, counts, bytes: 1 });
    let created_ms = (cell - CELL) * 1000;
    let blob = ListedBlob { content_id: "again".into(), content_uri: String::new(), created_ms, expires: None };
    run.state().record(FeedFact::Again { cell: cell - CELL, blobs: vec![blob] });
    run.queue = Queue::default();
    run.found(&Found { new: vec![], again: vec![(again, created_ms)] });
    let transient = || ApiError::Transient { text: String::new() }.into();
    assert_eq!(attempt(&mut run, NOW, transient()), Some(again));
    let keys = listed(&mut run, cell, &["a".to_owned(), "b".to_owned()]);
    let now = NOW + LAST_RETRY;
    let first = [run.next_fetch(now).unwrap().key, run.next_fetch(now).unwrap().key];
    assert!(first.iter().all(|key| keys.contains(key)), "after a failure");
    assert_eq!(run.next_fetch(now).unwrap().key, again);
    let FeedRun { books, .. } = run;
    let mut run = FeedRun::new(books.feed, books.state, books.metrics, Troubles::default(), false);
    let first = [run.next_fetch(now).unwrap().key, run.next_fetch(now).unwrap().key];
    assert!(first.iter().all(|key| keys.contains(key)), "after a restart");
    assert_eq!(run.next_fetch(now).unwrap().key, again);
}

#[test]
fn what_is_known_from_before_is_shown_before_the_service_answered() {
    let (_dir, mut run) = feed_run();
    let cell = grid::cell_of(NOW) - 2 * CELL;
    listed(&mut run, cell, &["first".into()]);
    listed(&mut run, cell + CELL, &["second".into()]);
    run.state().record(FeedFact::Subscription { at: NOW, enabled: true, started: false });
    let metrics = Metrics::new();
    let (feed, state) = (run.feed().clone(), run.state().clone());
    let again = FeedRun::new(feed, state, Arc::clone(&metrics), Troubles::default(), false);
    let labels = again.books.labels();
    let gauges = [
        &metrics.blobs_pending,
        &metrics.oldest_pending,
        &metrics.oldest_expiration,
        &metrics.feed_last_success,
        &metrics.subscription_enabled,
    ];
    let shown = gauges.map(|gauge| gauge.with_label_values(&labels).get());
    assert_eq!(shown, [2, cell, cell + RETENTION, NOW, 1], "a process that cannot reach the service looks idle");
    let watermark = metrics.feed_watermark.with_label_values(&labels).get();
    assert!((NOW - 6 * CELL..=cell).contains(&watermark), "{}", NOW - watermark);
}
