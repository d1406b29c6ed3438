//! What a process says of a state directory that it cannot use, or can no longer write (docs/state.md).

use std::time::Duration;

use auditferry::config::StateConfig;
use auditferry::metrics::Metrics;
use auditferry::simulator::WorldConfig;
use auditferry::state::State;

use crate::support::{Place, world};

/// Runs once; the exit code and the log.
async fn run(place: &Place) -> (Option<i32>, String) {
    let _ = std::fs::remove_file(place.path("log"));
    let status = place.run_once(Duration::from_secs(40)).await;
    (status.code(), std::fs::read_to_string(place.path("log")).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_state_directory_that_cannot_be_used_ends_with_4_and_the_way_out() {
    let world = world(WorldConfig::new().records(200)).await;
    let place = Place::new();
    place.write_config(&world, &place.file_sink("out.ndjson"), "");

    std::fs::write(place.state_dir(), b"a file").unwrap();
    let (code, log) = run(&place).await;
    assert!(code == Some(4) && log.contains("the path of a directory"), "{log}");
    std::fs::remove_file(place.state_dir()).unwrap();

    let config = StateConfig { dir: place.state_dir(), max_delivered_bytes: 1 << 30 };
    let held = State::open(&config, Metrics::new()).unwrap();
    let (code, log) = run(&place).await;
    assert!(code == Some(4) && log.contains("in use by another auditferry"), "{log}");
    drop(held);

    let journal = place.state_dir().join("journal-0.log");
    let whole = std::fs::read(&journal).unwrap();
    std::fs::write(place.state_dir().join("snapshot-9.bin.tmp"), b"theirs").unwrap();
    for (version, says) in [(2u32, "upgrade auditferry"), (0, "start once the release that wrote it")] {
        let mut other = whole.clone();
        other[8..12].copy_from_slice(&version.to_le_bytes());
        let crc = crc32fast::hash(&other[..20]);
        other[20..24].copy_from_slice(&crc.to_le_bytes());
        std::fs::write(&journal, &other).unwrap();
        let (code, log) = run(&place).await;
        assert!(code == Some(4) && log.contains(says) && log.contains("journal-0.log"), "{log}");
        assert!(std::fs::read(&journal).unwrap() == other, "changed");
        assert!(place.state_dir().join("snapshot-9.bin.tmp").exists(), "nothing of a later version is touched");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_waited_for_and_shown() {
    let world = world(WorldConfig::new().records(2000)).await;
    let place = Place::new();
    place.write_config(&world, &place.file_sink("out.ndjson"), "");
    std::fs::create_dir(place.state_dir()).unwrap();
    let next = place.state_dir().join("journal-1.log");
    // What is written there finds no room; a real file takes its place once it is gone.
    let mut process = place.start(&[], &[("AUDITFERRY_JOURNAL_LIMIT", "1000")]);
    let until = std::time::Instant::now() + Duration::from_secs(30);
    // Not before the start has looked at the directory: it would find a state that lost its beginning.
    while !place.state_dir().join("journal-0.log").exists() {
        assert!(std::time::Instant::now() < until, "no journal: {}", place.log_tail());
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    std::os::unix::fs::symlink("/dev/full", &next).unwrap();
    let address = process.admin().await.expect("it listens");
    let ask = async |path: &str| reqwest::get(format!("http://{address}{path}")).await.unwrap();
    while !ask("/metrics").await.text().await.unwrap().contains("auditferry_journal_stalled 1") {
        assert!(std::time::Instant::now() < until, "never full: {}", place.log_tail());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    while !ask("/status").await.text().await.unwrap().contains("make room") {
        assert!(std::time::Instant::now() < until, "not shown: {}", place.log_tail());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(
        (ask("/readyz").await.status(), ask("/livez").await.status()),
        (200.try_into().unwrap(), 200.try_into().unwrap())
    );
    assert!(process.ended().is_none());
    std::fs::remove_file(&next).unwrap();
    while !ask("/metrics").await.text().await.unwrap().contains("auditferry_journal_stalled 0") {
        assert!(std::time::Instant::now() < until + Duration::from_secs(20), "{}", place.log_tail());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    process.terminate();
    assert_eq!(process.wait(Duration::from_secs(30)).await.unwrap().code(), Some(0), "{}", place.log_tail());
}
