//! The order in which facts stand in the journal. The order of the calls that make them durable is looked at
//! by `bars::power`.

use super::*;

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
