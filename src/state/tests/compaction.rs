//! Journals that end beside running changes, and disks that fail meanwhile.

use std::collections::BTreeMap;

use super::*;
use crate::disk::double::{Call, Double, Fault, Image};

#[tokio::test]
async fn compaction_keeps_everything_and_the_directory_small() {
    let dir = tempfile::tempdir().unwrap();
    let state = fill(dir.path(), 100).await;
    check(&state, 100);
    state.close().await.unwrap();
    let snapshots = names(dir.path()).iter().filter(|name| name.starts_with("snapshot-")).count();
    assert!((1..=2).contains(&snapshots), "{:?}", names(dir.path()));
    assert!(names(dir.path()).len() < 16, "{:?}", names(dir.path()));
    drop(state);
    let (state, found) = reopen(dir.path());
    assert_eq!(found, [""; 0]);
    check(&state, 100);
    let a = state.sink_id("a").unwrap();
    assert_eq!(state.file_length(a, 1), Some((99, true)));
}

/// A crash between the steps of a compaction leaves the older files, newer ones and temporary ones.
#[tokio::test]
async fn a_crash_between_the_steps_of_a_compaction_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let state = State::open_with(&config(dir.path()), Metrics::new(), options(dir.path())).unwrap();
    let a = state.sink_id("a").unwrap();
    let feed = state.feed(&feed_key());
    feed.record(listed(1));
    state.acked(a, Outcome::Delivered, &[key(1), key(2)], None);
    drop((feed, state));
    let before = copy(dir.path());
    drop(State::open_with(&config(dir.path()), Metrics::new(), small(dir.path())).unwrap());
    let state = State::open_with(&config(dir.path()), Metrics::new(), small(dir.path())).unwrap();
    state.acked(a, Outcome::Delivered, &[key(3)], None);
    let until = Instant::now() + Duration::from_secs(20);
    while generations(dir.path()).0.is_empty() {
        assert!(Instant::now() < until, "not compacted");
        state.durable().await.unwrap();
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    drop(state);
    let after = dir.path();
    let segment = names(after).into_iter().find(|name| name.starts_with("keys-")).unwrap();
    let (snapshots, journals) = generations(after);
    let journal = format!("journal-{}.log", journals.last().unwrap());
    let snapshot = format!("snapshot-{}.bin", snapshots[0]);
    assert!(journals.contains(&0), "the generation before is kept: {:?}", names(after));
    let steps: [&[&str]; 3] = [&[&journal], &[&journal, &segment], &[&journal, &segment, &snapshot]];
    for step in steps {
        let crashed = copy(before.path());
        // The old journal as it was when it ended.
        std::fs::copy(journal::path(after, 0), journal::path(crashed.path(), 0)).unwrap();
        for name in step {
            std::fs::copy(after.join(name), crashed.path().join(name)).unwrap();
        }
        for rubbish in ["snapshot-9.bin.tmp", "keys-9.seg.tmp"] {
            std::fs::write(crashed.path().join(rubbish), b"half").unwrap();
        }
        let (state, found) = reopen(crashed.path());
        assert_eq!(found, [""; 0], "{step:?}");
        assert_eq!([1, 2, 3, 4].map(|n| has(&state, a, n)), [true, true, true, false], "{step:?}");
        assert_eq!(progress(&state).pending.len(), 1);
        assert!(!names(crashed.path()).iter().any(|name| name.ends_with(".tmp")));
    }
}

/// What is in memory and what the files say agree, however facts and compactions fall together.
#[tokio::test]
async fn facts_of_many_threads_survive_compaction_beside_them() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options { journal_bytes: 2000, ..small(dir.path()) };
    let state = State::open_with(&config(dir.path()), Metrics::new(), options).unwrap();
    let sinks = [0, 1, 2].map(|n| state.sink_id(&format!("sink {n}")).unwrap());
    std::thread::scope(|scope| {
        for thread in 0..3 {
            let state = &state;
            scope.spawn(move || {
                let feed = state.feed(&feed_key());
                let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
                for n in (0..400).map(|n| n * 3 + thread) {
                    feed.record(listed(n));
                    state.acked(sinks[thread as usize], Outcome::Delivered, &[key(n)], Some(&position(1, n.into())));
                    if n % 2 == 0 {
                        feed.record(settled(n));
                    }
                    if n % 20 == 0 {
                        runtime.block_on(state.durable()).unwrap();
                    }
                }
            });
        }
    });
    let known = progress(&state);
    let ends = sinks.map(|sink| state.file_length(sink, 1));
    state.close().await.unwrap();
    let snapshots = state.handle.shared.metrics.snapshots.with_label_values(&["ok"]).get();
    assert!(snapshots > 1, "{snapshots} compactions");
    drop(state);
    let (state, found) = reopen(dir.path());
    assert_eq!((found, progress(&state)), (vec![], known));
    assert_eq!(sinks.map(|sink| state.file_length(sink, 1)), ends);
    for n in 0..1200 {
        assert_eq!(sinks.map(|sink| has(&state, sink, n)), [0, 1, 2].map(|thread| n % 3 == thread), "{n}");
    }
}

#[tokio::test]
async fn a_failed_compaction_is_repeated_and_nothing_is_lost_meanwhile() {
    let dir = tempfile::tempdir().unwrap();
    let metrics = Metrics::new();
    let state = State::open_with(&config(dir.path()), Arc::clone(&metrics), small(dir.path())).unwrap();
    let obstacle = dir.path().join("snapshot-1.bin.tmp");
    std::fs::create_dir(&obstacle).unwrap();
    let a = state.sink_id("a").unwrap();
    let until = Instant::now() + Duration::from_secs(20);
    let mut n = 0;
    let mut wait_for = async |word: &str| {
        while metrics.snapshots.with_label_values(&[word]).get() == 0 {
            assert!(Instant::now() < until, "no {word}");
            state.acked(a, Outcome::Delivered, &[key(n)], None);
            n += 1;
            state.durable().await.unwrap();
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    wait_for("error").await;
    std::fs::remove_dir(&obstacle).unwrap();
    wait_for("ok").await;
    assert!((0..n).all(|n| has(&state, a, n)));
    drop(state);
    let (state, found) = reopen(dir.path());
    assert_eq!(found, [""; 0]);
    assert!((0..n).all(|n| has(&state, a, n)));
}

#[test]
fn nothing_changes_while_a_journal_ends() {
    let dir = tempfile::tempdir().unwrap();
    let state = open(dir.path());
    let changes: [fn(&State); 4] = [
        |state| state.feed(&feed_key()).record(listed(1)),
        |state| state.acked(SinkId(0), Outcome::Delivered, &[key(1)], None),
        |state| state.file_opened(SinkId(0), &position(1, 0)),
        |state| drop(state.sink_id("a")),
    ];
    for change in changes {
        let (done, finished) = std::sync::mpsc::sync_channel(1);
        let ending = state.handle.shared.gate.write().unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                change(&state);
                done.send(()).unwrap();
            });
            assert!(finished.recv_timeout(Duration::from_millis(50)).is_err());
            drop(ending);
            finished.recv_timeout(Duration::from_secs(20)).unwrap();
        });
    }
}

#[tokio::test]
async fn a_clock_that_jumps_ahead_forgets_no_keys() {
    let dir = tempfile::tempdir().unwrap();
    let mut generation = crate::delivered::Generation::default();
    generation.mark(&key(9999), SinkSet::of(SinkId(0)));
    let names = BTreeMap::from([(SinkId(0), "a".to_owned())]);
    let long_ago = world_ms() - 20 * 24 * 3600 * 1000;
    crate::delivered::segment::write(dir.path(), 1, long_ago, &names, 1, generation.sorted()).unwrap();
    let state = fill(dir.path(), 30).await;
    assert!(state.handle.shared.metrics.snapshots.with_label_values(&["ok"]).get() >= 1);
    assert!(has(&state, SinkId(0), 9999));
}

#[tokio::test]
async fn a_full_disk_holds_what_is_acknowledged_until_there_is_room() {
    let dir = tempfile::tempdir().unwrap();
    let state = State::open_with(&config(dir.path()), Metrics::new(), small(dir.path())).unwrap();
    let next = journal::path(dir.path(), 1);
    std::os::unix::fs::symlink("/dev/full", &next).unwrap();
    let a = state.sink_id("a").unwrap();
    let mut durable = 0;
    loop {
        assert!(durable < 1000, "the disk is not full");
        state.acked(a, Outcome::Delivered, &[key(durable)], None);
        if tokio::time::timeout(Duration::from_millis(200), state.durable()).await.is_err() {
            break;
        }
        durable += 1;
    }
    assert!(!*state.health().borrow(), "nothing new is to be begun");
    let trouble = state.trouble().unwrap();
    assert!(trouble.starts_with(&format!("`{}`", next.display())) && trouble.contains("make room"), "{trouble}");
    assert_eq!(state.handle.shared.metrics.journal_stalled.get(), 1);
    std::fs::remove_file(&next).unwrap();
    tokio::time::timeout(Duration::from_secs(20), state.durable()).await.unwrap().unwrap();
    let mut health = state.health();
    tokio::time::timeout(Duration::from_secs(20), health.wait_for(|health| *health)).await.unwrap().unwrap();
    assert_eq!(state.trouble(), None);
    drop(state);
    let (state, found) = reopen(dir.path());
    assert_eq!(found, [""; 0]);
    assert!((0..=durable).all(|n| has(&state, a, n)));
}

#[test]
fn a_start_on_a_full_disk_ends_and_says_what_to_do() {
    let root = Path::new("/double-full-at-start");
    let mounted = Double::mount(root, Image::default());
    let dir = root.join("state");
    for is_new in [true, false] {
        // A whole state is read; the first thing that is written finds no room.
        let full = Fault { call: Some(Call::Write), path: String::new(), after: 0, times: usize::MAX, errno: 28 };
        mounted.disk.fail(full);
        let error = State::open_with(&config(&dir), Metrics::new(), options(&dir)).err().unwrap().to_string();
        assert!(error.contains("/double-full-at-start/state/journal-0.log"), "{is_new}: {error}");
        assert!(error.contains("make room"), "{is_new}: {error}");
        mounted.disk.mend();
        let (state, found) = reopen(&dir);
        assert_eq!((found, has(&state, SinkId(0), 1)), (vec![], !is_new));
        state.sink_id("a").unwrap();
        state.acked(SinkId(0), Outcome::Delivered, &[key(1)], None);
    }
}

#[tokio::test]
async fn what_waits_for_a_disk_that_stands_still_is_bounded_and_the_end_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let options = small(dir.path());
    let pace = Pace { behind: 10_000, most: 50_000, ..options.pace };
    let state = State::open_with(&config(dir.path()), Metrics::new(), Options { pace, ..options }).unwrap();
    std::os::unix::fs::symlink("/dev/full", journal::path(dir.path(), 1)).unwrap();
    let a = state.sink_id("a").unwrap();
    let until = Instant::now() + Duration::from_secs(20);
    let mut n = 0;
    let error = loop {
        assert!(Instant::now() < until, "not bounded");
        state.acked(a, Outcome::Delivered, &[key(n)], None);
        n += 1;
        if n % 100 == 0
            && let Ok(error) = tokio::time::timeout(Duration::from_millis(1), state.failed()).await
        {
            break error.to_string();
        }
    };
    assert!(error.contains("bytes wait for it") && error.contains("faster disk"), "{error}");
    assert!(state.durable().await.is_err());
}
