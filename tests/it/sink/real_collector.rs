//! The same against the OpenTelemetry Collector's receiver, which was not written by us.

use std::time::Duration;

use auditferry::config::{AckConfig, AckMode, SinkConfig, SinkKind};
use auditferry::secret::SecretSource;

use super::{Bench, LIMIT, counts, hec_kind, keys_of, records, sink_config};
use crate::real::collector::Collector;

fn sink(collector: &Collector, mode: AckMode) -> SinkConfig {
    let mut kind = hec_kind(&collector.url(), SecretSource::Value("token".into()));
    if let SinkKind::SplunkHec(hec) = &mut kind {
        hec.ack = AckConfig {
            mode,
            timeout: Duration::from_secs(3),
            query_interval: Duration::from_millis(100),
            max_pending: 5,
        };
    }
    sink_config("splunk", kind)
}

async fn started(with_ack: bool) -> Collector {
    tokio::task::spawn_blocking(move || Collector::start(with_ack)).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_record_is_acknowledged_once_and_verbatim() {
    let collector = started(true).await;
    for (from, mode) in [(0, AckMode::Auto), (10_000, AckMode::Required)] {
        let bench = Bench::start(sink(&collector, mode));
        let offer = bench.offer(records(from, 2000)).await;
        assert_eq!(offer.settled().await, counts(2000, 0), "{}", collector.log_end());
        let acks = |result| bench.metrics.sink_acks.with_label_values(&["splunk", result]).get();
        assert!(acks("confirmed") > 1 && acks("timed_out") == 0 && acks("forgotten") == 0);
        let mut written = collector.written();
        written.retain(|(key, _)| keys_of(&offer).binary_search(key).is_ok());
        assert_eq!(written.len(), 2000, "once each");
        let sent: std::collections::HashSet<_> = records(from, 2000).collect();
        assert!(written.iter().all(|(_, event)| sent.contains(&event.to_string())));
        bench.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_its_extension_it_is_taken_at_its_word_or_held_as_configured() {
    let collector = started(false).await;
    let bench = Bench::start(sink(&collector, AckMode::Auto));
    let offer = bench.offer(records(0, 500)).await;
    assert_eq!(offer.settled().await, counts(500, 0), "{}", collector.log_end());
    bench.stop().await;
    let written = async {
        while collector.written().len() < 500 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(LIMIT, written).await.expect("what it accepted it writes, later");

    let bench = Bench::start(sink(&collector, AckMode::Required));
    let offer = bench.offer(records(1000, 500)).await;
    bench.until_health(false).await;
    assert!(!offer.is_settled());
    assert_eq!(collector.written().len(), 500, "nothing is sent that could not be acknowledged");
}
