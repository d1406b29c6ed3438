//! Whole: everything served arrives, once, JSON-equal, at HEC and in a file; a second run adds nothing.

use std::time::Duration;

use auditferry::simulator::{Identity, WorldConfig};

use crate::hec::{FakeHec, Options};
use crate::support::{Place, compare, figure, file_hashes, served, size, world};

#[tokio::test(flavor = "multi_thread")]
async fn whole() {
    for identity in [Identity::Stable, Identity::Windowed] {
        whole_in(identity).await;
    }
}

async fn whole_in(identity: Identity) {
    let records = size(15_000, 210_000);
    let world = world(WorldConfig::new().tenants(3).records(records).identity(identity)).await;
    let hec = FakeHec::start_with(Options { hash_events: true, ..Options::default() }).await;
    let place = Place::new();
    let sinks = format!(
        "  - {{ name: splunk, type: splunk_hec, url: {:?}, token: token }}\n{}",
        hec.url(),
        place.file_sink("out.ndjson")
    );
    place.write_config(&world, &sinks, "");

    let limit = Duration::from_secs(size(60, 300));
    let first = place.run_once(limit).await;
    assert_eq!(first.code(), Some(0), "{}", place.log_tail());
    let truth = served(&world);
    let at_hec = compare(&truth, hec.received().events.iter().filter_map(|event| event.hash));
    let in_file = compare(&truth, file_hashes(&place.path("out.ndjson")));
    figure("whole", format_args!("{identity:?}: served {}, HEC {at_hec:?}, file {in_file:?}", truth.reachable.len()));
    for arrived in [&at_hec, &in_file] {
        assert_eq!((arrived.lost, arrived.duplicates, arrived.foreign), (0, 0, 0));
        assert_eq!(arrived.arrived, truth.reachable.len());
    }

    let second = place.run_once(limit).await;
    assert_eq!(second.code(), Some(0), "{}", place.log_tail());
    let added = (hec.count() - at_hec.arrived, file_hashes(&place.path("out.ndjson")).len() - in_file.arrived);
    figure("whole", format_args!("{identity:?}: a second run added {added:?}"));
    assert_eq!(added, (0, 0));
    assert_eq!(world.report().violations.len(), 0, "{:?}", world.report().violations);
}
