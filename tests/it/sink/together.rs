//! Several sinks at once, end to end: those that are not required and hang, each from another moment on, hold up nobody
//! and say what they skipped.

use std::time::{Duration, Instant};

use auditferry::simulator::WorldConfig;

use crate::hec::{FakeHec, Options};
use crate::support::{Place, compare, file_hashes, served, world};
use crate::web::{FakeWeb, Kind};

const LIMIT: Duration = Duration::from_secs(120);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn optional_sinks_that_hang_hold_up_no_other_and_say_what_they_skipped() {
    let world = world(WorldConfig::new().records(12_000).days(1).speed(20.0)).await;
    let hec = FakeHec::start_with(Options { hash_events: true, ..Options::default() }).await;
    // Each takes a request one day, and answers when everything else is long over; what waits for them then is of
    // different blobs.
    const HANG: Duration = Duration::from_secs(600);
    let web = FakeWeb::start(Kind::Ndjson).await;
    web.set(|knobs| knobs.answer_delay = HANG);
    let mut others = Vec::new();
    for _ in 0..4 {
        others.push(FakeWeb::start(Kind::Ndjson).await);
    }
    let place = Place::new();
    let sinks = format!(
        "{}  - {{ name: splunk, type: splunk_hec, url: {:?}, token: token }}\n  - {{ name: soc, type: http, url: {:?}, required: false }}\n",
        place.file_sink("out.ndjson"),
        hec.url(),
        web.url("/in")
    );
    let other = |(n, web): (usize, &FakeWeb)| {
        format!("  - {{ name: other{n}, type: http, url: {:?}, required: false }}\n", web.url("/in"))
    };
    let sinks = sinks + &others.iter().enumerate().map(other).collect::<String>();
    let collect = "collect: { requests_per_minute: 100000, poll_interval: 5s, backfill: 2d, in_flight: 4MiB }";
    place.write_config(&world, &sinks, collect);
    let mut process = place.start(&[], &[]);
    let (truth, began) = (served(&world).reachable.len(), Instant::now());
    while hec.distinct() < truth {
        assert!(began.elapsed() < LIMIT, "{} of {truth}\n{}", hec.distinct(), place.log_tail());
        let hung = hec.count() * 6 / truth;
        others.iter().take(hung).for_each(|other| other.set(|knobs| knobs.answer_delay = HANG));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(web.requests() > 0, "the other one was sent something");
    let admin = process.admin().await.unwrap();
    let page = reqwest::get(format!("http://{admin}/metrics")).await.unwrap().text().await.unwrap();
    let dropped = |page: &str| -> u64 {
        let line = page.lines().find(|line| {
            line.starts_with("auditferry_sink_events_total{") && line.contains("dropped") && line.contains("soc")
        });
        line.unwrap().rsplit(' ').next().unwrap().parse().unwrap()
    };
    let skipped = dropped(&page);
    // How many depends on how fast the others go on.
    assert!(skipped > 300, "{skipped} skipped");
    assert!(others.iter().all(|other| other.count() > 0), "each took something before it hung");
    assert!(page.contains("auditferry_sink_circuit_open{sink=\"splunk\"} 0"));
    // Said while it runs, not only at its end.
    assert!(place.log().contains("does not keep up and is not required"), "{}", place.log_tail());
    // The file may take the last batch a moment later.
    while file_hashes(&place.path("out.ndjson")).len() < truth {
        assert!(began.elapsed() < LIMIT, "the file lacks records\n{}", place.log_tail());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    process.terminate();
    let status = process.wait(Duration::from_secs(30)).await.expect("a sink that hangs does not hold up the end");
    assert_eq!(status.code(), Some(0), "{}", place.log_tail());
    // What the lines say adds up to what was counted.
    let lines = place.log();
    let said: u64 = lines
        .lines()
        .filter(|line| line.contains("does not keep up and is not required") && line.contains("\"soc\""))
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["events"].as_u64().unwrap())
        .sum();
    assert!(said >= skipped, "{said} said, {skipped} counted before the end");
    std::iter::once(&web).chain(&others).for_each(|one| one.set(|knobs| knobs.answer_delay = Duration::ZERO));
    // Both required ones have everything once.
    let served = served(&world);
    let ended = place.run_once(LIMIT).await;
    assert_eq!(ended.code(), Some(0), "{}", place.log_tail());
    let at_hec: Vec<_> = hec.received().events.iter().filter_map(|event| event.hash).collect();
    for (name, arrived) in [("file", file_hashes(&place.path("out.ndjson"))), ("splunk", at_hec)] {
        let found = compare(&served, arrived);
        assert_eq!((found.lost, found.duplicates), (0, 0), "{name}: {found:?}");
    }
}
