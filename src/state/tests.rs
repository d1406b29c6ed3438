//! The state as its users see it: opened, changed, closed, opened again.

mod compaction;
mod order;
mod recovery;

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
    Options::small(&config(dir))
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

/// The generations of the files `<prefix><n><suffix>`, ascending.
fn generations(dir: &Path) -> (Vec<u64>, Vec<u64>) {
    let listing = Listing::of(dir).unwrap();
    (listing.snapshots, listing.journals)
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
fn the_thirty_third_sink_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let state = open(dir.path());
    for n in 0..32 {
        assert_eq!(state.sink_id(&format!("sink {n}")).unwrap(), SinkId(n));
    }
    let error = state.sink_id("one more").unwrap_err().to_string();
    assert!(error.contains("`one more`") && error.contains("`sink 0`, `sink 1`"), "{error}");
}

/// Or 32 reloads that are refused would leave no id for the one that is not.
#[test]
fn an_id_is_spent_only_when_its_sink_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let state = open(dir.path());
    state.sink_id("disk").unwrap();
    for n in 0..40 {
        let (new, newer) = (format!("new {n}"), format!("newer {n}"));
        let ids = state.sink_ids([new.as_str(), "disk", newer.as_str()]).unwrap();
        assert_eq!(ids, [SinkId(1), SinkId(0), SinkId(2)]);
    }
    state.name_sink(SinkId(1), "new");
    assert_eq!(state.sink_ids(["other", "new"]).unwrap(), [SinkId(2), SinkId(1)]);
}
