use std::path::Path;
use std::time::{Duration, Instant};

use super::*;
use crate::ack::Settlement;
use crate::clock::world_ms;
use crate::feed::ContentType;
use crate::sink::SinkSet;

fn config(dir: &Path) -> StateConfig {
    StateConfig { dir: dir.to_owned(), max_delivered_bytes: 1 << 30 }
}

fn options(dir: &Path) -> Options {
    Options::new(&config(dir))
}

/// Compacts after every few hundred bytes.
fn small(dir: &Path) -> Options {
    let options = options(dir);
    let pace = Pace { interval: Duration::from_millis(5), ..options.pace };
    let shelf = Limits { segments: 2, ..options.shelf };
    Options { journal_bytes: 1, generation_keys: 10, pace, shelf, retry_after: Duration::from_millis(20) }
}

fn open(dir: &Path) -> State {
    State::open(&config(dir), Metrics::new()).unwrap()
}

fn feed_key() -> FeedKey {
    FeedKey { tenant_id: "6f1c".into(), content_type: ContentType::General }
}

fn blob(n: u32) -> ListedBlob {
    ListedBlob { content_id: format!("blob-{n}"), content_uri: "https://x".into(), created_ms: 5, expires: None }
}

fn listed(n: u32) -> FeedFact {
    FeedFact::Listed { cell: 0, at: 10, complete: true, last: false, blobs: vec![blob(n)] }
}

fn settled(n: u32) -> FeedFact {
    let counts = Settlement { delivered: 1, ..Settlement::default() };
    FeedFact::Settled { content: ContentKey::of(&format!("blob-{n}")), counts, bytes: 100 }
}

fn key(n: u32) -> RecordKey {
    let mut key = RecordKey::default();
    key.0.copy_from_slice(&blake3::hash(&n.to_le_bytes()).as_bytes()[..16]);
    key
}

fn position(inode: u64, length: u64) -> FilePosition {
    FilePosition { path: "/out".into(), inode, length }
}

fn has(state: &State, sink: SinkId, n: u32) -> bool {
    let share = crate::ack::Finalizer::new(|_| {});
    let wanted = SinkSet::of(sink);
    let missing = state.delivered().claim(wanted, wanted, [(key(n), share)].into_iter());
    state.delivered().resolve(sink, Outcome::Lost, &[key(n)]);
    missing[0].is_empty()
}

fn progress(state: &State) -> FeedProgress {
    state.feed(&feed_key()).read(FeedProgress::clone)
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// Copies the files of a directory, as a crash or a backup would find them.
fn copy(from: &Path) -> tempfile::TempDir {
    let to = tempfile::tempdir().unwrap();
    for name in names(from) {
        std::fs::copy(from.join(&name), to.path().join(&name)).unwrap();
    }
    to
}

fn recoveries(metrics: &Metrics) -> Vec<&'static str> {
    let count = |reason: &&str| metrics.state_recoveries.with_label_values(&[*reason]).get() > 0;
    load::REASONS.into_iter().filter(count).collect()
}

/// Opens what is there; returns the state and what was found damaged.
fn reopen(dir: &Path) -> (State, Vec<&'static str>) {
    let metrics = Metrics::new();
    let state = State::open(&config(dir), Arc::clone(&metrics)).unwrap();
    (state, recoveries(&metrics))
}

#[tokio::test]
async fn everything_durable_is_there_after_a_crash() {
    let dir = tempfile::tempdir().unwrap();
    let state = open(dir.path());
    let disk = state.sink_id("disk").unwrap();
    let feed = state.feed(&feed_key());
    feed.record(FeedFact::Opened { from: 0 });
    feed.record(listed(1));
    state.file_opened(disk, &position(7, 10));
    state.acked(disk, Outcome::Delivered, &[key(1), key(2)], Some(&position(7, 90)));
    state.acked(disk, Outcome::Rejected, &[key(3)], None);
    state.acked(disk, Outcome::Lost, &[key(4)], None);
    state.durable().await.unwrap();
    let crashed = copy(dir.path());
    feed.record(settled(1));
    assert_eq!(State::inspect(dir.path()).unwrap()[0].1.pending.len(), 1, "not yet committed");
    drop((feed, state));

    let (state, found) = reopen(crashed.path());
    assert_eq!(found, [""; 0]);
    assert_eq!(progress(&state).pending.len(), 1);
    assert_eq!([1, 2, 3, 4, 5].map(|n| has(&state, disk, n)), [true, true, true, false, false]);
    assert_eq!(state.file_length(disk, 7), Some((90, true)));
    assert!(state.may_cut(disk, 7, world_ms()) && !state.may_cut(disk, 7, world_ms() + 11 * 60 * 1000));
    assert_eq!(state.sink_id("disk").unwrap(), disk);
    assert_ne!(state.sink_id("other").unwrap(), disk);
    assert!((world_ms() - 60_000..=world_ms()).contains(&state.newest_frame_world_ms()));
    let (state, _) = reopen(dir.path());
    assert_eq!(progress(&state).ledger.blobs_settled, 1, "a drop commits");
}

#[tokio::test]
async fn a_group_is_committed_within_its_interval_without_being_asked() {
    let dir = tempfile::tempdir().unwrap();
    let state = State::open_with(&config(dir.path()), Metrics::new(), small(dir.path())).unwrap();
    state.feed(&feed_key()).record(listed(1));
    let until = Instant::now() + Duration::from_secs(20);
    while State::inspect(dir.path()).unwrap().is_empty() {
        assert!(Instant::now() < until, "not committed");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[test]
fn a_second_process_is_refused_until_the_first_lets_go() {
    let dir = tempfile::tempdir().unwrap();
    let first = open(dir.path());
    let feed = first.feed(&feed_key());
    let refused = State::open(&config(dir.path()), Metrics::new());
    assert!(matches!(refused, Err(StateError::Locked { .. })));
    drop(first);
    assert!(matches!(State::open(&config(dir.path()), Metrics::new()), Err(StateError::Locked { .. })), "a feed lives");
    drop(feed);
    open(dir.path());
}

/// Writes `rounds` of facts and acks with tiny thresholds, waits until everything is compacted.
async fn fill(dir: &Path, rounds: u32) -> State {
    let state = State::open_with(&config(dir), Metrics::new(), small(dir)).unwrap();
    let (a, b) = (state.sink_id("a").unwrap(), state.sink_id("b").unwrap());
    let feed = state.feed(&feed_key());
    for n in 0..rounds {
        feed.record(listed(n));
        state.acked(a, Outcome::Delivered, &[key(3 * n), key(3 * n + 1), key(3 * n + 2)], Some(&position(1, n.into())));
        state.acked(b, Outcome::Delivered, &[key(3 * n)], None);
        if n % 2 == 0 {
            feed.record(settled(n));
        }
        state.durable().await.unwrap();
    }
    state
}

fn check(state: &State, rounds: u32) {
    let (a, b) = (state.sink_id("a").unwrap(), state.sink_id("b").unwrap());
    for n in 0..3 * rounds {
        assert!(has(state, a, n), "record {n}");
        assert_eq!(has(state, b, n), n % 3 == 0, "record {n}");
    }
    assert!(!has(state, a, 3 * rounds));
    let progress = progress(state);
    assert_eq!(progress.ledger.blobs_listed, u64::from(rounds));
    assert_eq!(progress.ledger.blobs_settled, u64::from(rounds.div_ceil(2)));
    assert_eq!(progress.pending.len() as u32, rounds / 2);
}

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

/// The generations of the files `<prefix><n><suffix>`, ascending.
fn generations(dir: &Path) -> (Vec<u64>, Vec<u64>) {
    let listing = Listing::of(dir).unwrap();
    (listing.snapshots, listing.journals)
}

#[tokio::test]
async fn a_damaged_snapshot_is_set_aside_and_the_one_before_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    drop(fill(dir.path(), 60).await);
    let newest = *generations(dir.path()).0.last().unwrap();
    let path = snapshot::path(dir.path(), newest);
    let mut bytes = std::fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let (state, found) = reopen(dir.path());
    assert_eq!(found, ["snapshot"]);
    check(&state, 60);
    let a = state.sink_id("a").unwrap();
    assert_eq!(state.file_length(a, 1), Some((59, false)), "no file is cut after damage");
    assert!(names(dir.path()).iter().any(|name| name.starts_with(&format!("snapshot-{newest}.bin.damaged-"))));
    drop(state);
    let (state, found) = reopen(dir.path());
    assert_eq!(found, [""; 0], "once");
    check(&state, 60);
    assert_eq!(state.file_length(a, 1), Some((59, false)), "not even at the next start");
}

#[tokio::test]
async fn without_any_snapshot_the_keys_are_still_known_and_the_feeds_begin_anew() {
    let dir = tempfile::tempdir().unwrap();
    drop(fill(dir.path(), 60).await);
    for generation in generations(dir.path()).0 {
        std::fs::write(snapshot::path(dir.path(), generation), b"rubbish").unwrap();
    }
    let (state, found) = reopen(dir.path());
    assert_eq!(found, ["snapshot", "lost"]);
    let (a, b) = (state.sink_id("a").unwrap(), state.sink_id("b").unwrap());
    assert!((0..180).all(|n| has(&state, a, n) && has(&state, b, n) == (n % 3 == 0)));
    assert_eq!(progress(&state), FeedProgress::default());
}

#[tokio::test]
async fn a_damaged_journal_keeps_what_precedes_it_and_closes_no_cell_on_later_word() {
    let dir = tempfile::tempdir().unwrap();
    let state = open(dir.path());
    let sink = state.sink_id("a").unwrap();
    let feed = state.feed(&feed_key());
    feed.record(FeedFact::Opened { from: 0 });
    feed.record(listed(1));
    state.acked(sink, Outcome::Delivered, &[key(1)], Some(&position(1, 10)));
    state.durable().await.unwrap();
    let before = std::fs::metadata(journal::path(dir.path(), 0)).unwrap().len() as usize;
    feed.record(listed(2));
    state.durable().await.unwrap();
    feed.record(FeedFact::Closed { cell: 0 });
    drop((feed, state));
    let path = journal::path(dir.path(), 0);
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[before + 30] ^= 4;
    std::fs::write(&path, bytes).unwrap();
    let (state, found) = reopen(dir.path());
    assert_eq!(found, ["journal"]);
    assert!(progress(&state).pending.contains_key(&ContentKey::of("blob-1")));
    assert_eq!(progress(&state).closed_before, 0);
    assert!(has(&state, sink, 1));
    assert_eq!(state.file_length(sink, 1), Some((10, false)));
    drop(state);
    assert_eq!(reopen(dir.path()).1, [""; 0]);
}

#[tokio::test]
async fn a_torn_tail_is_cut_and_a_bad_one_set_aside() {
    let dir = tempfile::tempdir().unwrap();
    let state = open(dir.path());
    let sink = state.sink_id("a").unwrap();
    state.acked(sink, Outcome::Delivered, &[key(1)], Some(&position(1, 10)));
    state.durable().await.unwrap();
    let good = std::fs::metadata(journal::path(dir.path(), 0)).unwrap().len();
    state.acked(sink, Outcome::Delivered, &[key(2)], Some(&position(1, 20)));
    state.durable().await.unwrap();
    let whole = copy(dir.path());
    drop(state);
    let bytes = std::fs::read(journal::path(whole.path(), 0)).unwrap();
    for (length, flip, reasons, trusted) in
        [(bytes.len() - 1, false, &[][..], true), (bytes.len(), true, &["tail"][..], false)]
    {
        let dir = copy(whole.path());
        let mut bytes = bytes[..length].to_vec();
        bytes[length - 1] ^= u8::from(flip);
        std::fs::write(journal::path(dir.path(), 0), bytes).unwrap();
        let (state, found) = reopen(dir.path());
        assert_eq!(found, reasons);
        assert_eq!((has(&state, sink, 1), has(&state, sink, 2)), (true, false));
        assert_eq!(state.file_length(sink, 1), Some((10, trusted)), "{good}");
        state.acked(sink, Outcome::Delivered, &[key(5)], None);
        drop(state);
        let (state, found) = reopen(dir.path());
        assert_eq!((found, has(&state, sink, 5)), (vec![], true));
    }
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

#[tokio::test]
async fn no_byte_changed_anywhere_stops_a_start_or_invents_a_delivery() {
    let dir = tempfile::tempdir().unwrap();
    drop(fill(dir.path(), 30).await);
    let files = names(dir.path());
    for (round, name) in files.iter().filter(|name| *name != "lock").flat_map(|n| [n; 6]).enumerate() {
        let changed = copy(dir.path());
        let path = changed.path().join(name);
        let mut bytes = std::fs::read(&path).unwrap();
        match round % 6 {
            0 => bytes.clear(),
            1 => bytes.truncate(bytes.len() / 3),
            2 => bytes.fill(0),
            3 => bytes.extend_from_slice(&[0; 4096]),
            n => {
                let at = bytes.len() * n / 6;
                bytes[at] ^= 16;
            }
        }
        std::fs::write(&path, bytes).unwrap();
        let (state, _) = reopen(changed.path());
        let (a, b) = (state.sink_id("a").unwrap(), state.sink_id("b").unwrap());
        assert_eq!((a, b), (SinkId(0), SinkId(1)), "{name} {round}");
        assert!((0..90).all(|n| !has(&state, b, n) || n % 3 == 0), "{name} {round}");
        drop(state);
        let (_, found) = reopen(changed.path());
        assert_eq!(found, [""; 0], "{name} {round}: repaired at the first start");
    }
}

#[tokio::test]
async fn after_a_failed_write_nothing_is_reported_durable() {
    let dir = tempfile::tempdir().unwrap();
    let state = open(dir.path());
    state.durable().await.unwrap();
    let error = StateError::Io { path: "x".into(), source: std::io::Error::other("no space") };
    state.handle.shared.group.fail(&error);
    state.feed(&feed_key()).record(listed(1));
    assert!(matches!(state.durable().await, Err(StateError::Io { .. })));
    assert_eq!(state.failed().await.to_string(), "`x`: no space");
}

#[tokio::test]
async fn what_comes_after_the_close_is_not_called_durable() {
    let dir = tempfile::tempdir().unwrap();
    let state = open(dir.path());
    state.close().await.unwrap();
    state.close().await.unwrap();
    state.feed(&feed_key()).record(listed(1));
    assert!(matches!(state.durable().await, Err(StateError::Closed)));
}

#[test]
fn a_state_older_than_the_file_does_not_cut_it_at_this_start_nor_at_the_next() {
    let dir = tempfile::tempdir().unwrap();
    let (sink, an_hour_ago) = (SinkId(0), world_ms() - 3_600_000);
    let mut first = Vec::new();
    Frame::Time { world_ms: an_hour_ago }.encode(&mut first).unwrap();
    Frame::FileOpened { sink, position: Cow::Owned(position(1, 10)) }.encode(&mut first).unwrap();
    journal::Writer::create(dir.path(), 0).unwrap().commit(&first, &[]).unwrap();
    for _ in 0..3 {
        let state = open(dir.path());
        assert!(!state.may_cut(sink, 1, world_ms()));
        assert!(state.may_cut(sink, 1, an_hour_ago + 60_000));
    }
    let state = open(dir.path());
    state.file_opened(sink, &position(1, 20));
    assert!(state.may_cut(sink, 1, world_ms()), "opened by this process, so known again");
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
async fn a_full_disk_ends_the_process_and_loses_nothing_reported_durable() {
    let dir = tempfile::tempdir().unwrap();
    let state = State::open_with(&config(dir.path()), Metrics::new(), small(dir.path())).unwrap();
    let next = journal::path(dir.path(), 1);
    std::os::unix::fs::symlink("/dev/full", &next).unwrap();
    let a = state.sink_id("a").unwrap();
    let mut durable = 0;
    let error = loop {
        assert!(durable < 1000, "the disk is not full");
        state.acked(a, Outcome::Delivered, &[key(durable)], None);
        match state.durable().await {
            Ok(()) => durable += 1,
            Err(error) => break error,
        }
    };
    assert!(error.to_string().starts_with(&format!("`{}`", next.display())), "{error}");
    assert_eq!(state.failed().await.to_string(), error.to_string());
    assert!(state.durable().await.is_err(), "never again");
    drop(state);
    std::fs::remove_file(&next).unwrap();
    let (state, found) = reopen(dir.path());
    assert_eq!(found, [""; 0]);
    assert!((0..durable).all(|n| has(&state, a, n)));
}

#[test]
fn the_thirty_third_sink_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let state = open(dir.path());
    for n in 0..32 {
        assert_eq!(state.sink_id(&format!("sink {n}")).unwrap(), SinkId(n));
    }
    assert!(matches!(state.sink_id("one more"), Err(StateError::TooManySinks { .. })));
}
