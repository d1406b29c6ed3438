//! Starts on damaged, lost and older state.

use super::*;

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
        [(bytes.len() - 1, false, &[][..], true), (bytes.len(), true, &["tail"][..], true)]
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

#[tokio::test]
async fn feeds_of_another_tenant_and_files_of_another_product_are_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let theirs = dir.path().join("theirs.db");
    std::fs::write(&theirs, b"theirs").unwrap();
    let other = FeedKey { tenant_id: "another".into(), ..feed_key() };
    let state = open(dir.path());
    state.feed(&other).record(listed(7));
    state.close().await.unwrap();
    drop(state);
    drop(fill(dir.path(), 60).await);
    let newest = *generations(dir.path()).0.last().expect("compacted");
    let known: BTreeMap<_, _> = State::inspect(dir.path()).unwrap().into_iter().collect();
    assert!(known[&other].pending.contains_key(&ContentKey::of("blob-7")));
    assert_eq!(known.len(), 2);
    // With a name like ours it counts as damage, and is kept under another.
    let like_ours = snapshot::path(dir.path(), newest + 9);
    std::fs::write(&like_ours, b"theirs too").unwrap();
    let (state, found) = reopen(dir.path());
    assert_eq!(found, ["snapshot"]);
    check(&state, 60);
    assert!(!like_ours.exists());
    let kept = |name: &String| std::fs::read(dir.path().join(name)).unwrap() == b"theirs too";
    assert!(names(dir.path()).iter().filter(|name| name.contains(".damaged-")).any(kept));
    assert_eq!(std::fs::read(&theirs).unwrap(), b"theirs");
}
