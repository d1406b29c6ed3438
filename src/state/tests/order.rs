//! The order in which things are made durable. A kill leaves to the kernel what was written, so neither
//! a missing fsync nor a wrong order shows in a crash test: here the calls and the frames are looked at.

use super::*;

const NOTHING: [String; 0] = [];

#[tokio::test]
async fn nothing_is_reported_durable_before_its_fsync() {
    let dir = tempfile::tempdir().unwrap();
    disk::record::listen(dir.path());
    // So that nothing is committed but on demand.
    let pace =
        Pace { interval: Duration::from_secs(3600), heartbeat: Duration::from_secs(3600), ..options(dir.path()).pace };
    let state = State::open_with(&config(dir.path()), Metrics::new(), Options { pace, ..options(dir.path()) }).unwrap();
    assert_eq!(disk::record::report(dir.path()).1, NOTHING);
    let disk = state.sink_id("disk").unwrap();
    for n in 0..5 {
        state.acked(disk, Outcome::Delivered, &[key(n)], None);
        let before = disk::record::report(dir.path()).0;
        state.durable().await.unwrap();
        let (calls, lost) = disk::record::report(dir.path());
        assert!(calls > before && lost == NOTHING, "a power loss would take {lost:?}");
    }
}

#[tokio::test]
async fn nothing_gets_its_name_or_replaces_what_was_before_its_fsync() {
    let dir = tempfile::tempdir().unwrap();
    disk::record::listen(dir.path());
    let state = State::open_with(&config(dir.path()), Metrics::new(), small(dir.path())).unwrap();
    let disk = state.sink_id("disk").unwrap();
    let until = Instant::now() + Duration::from_secs(20);
    let mut n = 0;
    // Until the first journal is gone: renamed and removed was by then.
    while journal::path(dir.path(), 0).exists() {
        assert!(Instant::now() < until, "not compacted twice");
        state.acked(disk, Outcome::Delivered, &[key(n)], None);
        state.durable().await.unwrap();
        n += 1;
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    state.close().await.unwrap();
    assert_eq!(disk::record::report(dir.path()).1, NOTHING);
}

/// Settled blobs are not fetched again, so a crash between the two would forget their records' keys.
#[tokio::test]
async fn what_a_sink_has_is_journalled_before_the_blob_that_hears_of_it_is_settled() {
    let dir = tempfile::tempdir().unwrap();
    let state = open(dir.path());
    let disk = state.sink_id("disk").unwrap();
    let feed = state.feed(&feed_key());
    feed.record(listed(1));
    let told = feed.clone();
    let share = crate::ack::Finalizer::new(move |_| told.record(settled(1)));
    let wanted = SinkSet::of(disk);
    state.delivered().claim(wanted, wanted, [(key(1), share)].into_iter());
    state.acked(disk, Outcome::Delivered, &[key(1)], None);
    state.durable().await.unwrap();
    let mut seen = Vec::new();
    journal::read(&journal::path(dir.path(), 0), 0, &mut |frame| match frame {
        Frame::Acked { .. } => seen.push("acked"),
        Frame::Feed { fact, .. } if matches!(*fact, FeedFact::Settled { .. }) => seen.push("settled"),
        _ => {}
    })
    .unwrap();
    assert_eq!(seen, ["acked", "settled"]);
}
