//! Every metric, declared once: name, help, labels. Label values come from closed sets
//! (configured tenant names, the five content types, configured sink names, fixed reasons), and all
//! combinations exist from the start, so that `rate()` and alerts see a zero before the first event.
//! Names, units and label rules: DESIGN 3.4.

use std::sync::Arc;

use prometheus::{
    CounterVec, Encoder, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge,
    IntGaugeVec, Opts, Registry, TextEncoder,
};

/// Declares the struct, its constructor and the catalogue in one table, so that none can drift.
macro_rules! metrics {
    ($( $(#[$doc:meta])* $field:ident : $kind:ident $name:literal $help:literal [$($label:literal),*] ; )*) => {
        /// All metrics of the process. Cheap to share.
        pub struct Metrics {
            registry: Registry,
            $( $(#[$doc])* pub $field: metrics!(@type $kind), )*
        }

        /// Name, type, help and labels of every metric, in the order of declaration: the source of
        /// the documentation and of the golden test.
        pub const CATALOGUE: &[(&str, &str, &str, &[&str])] =
            &[$( (concat!("auditferry_", $name), stringify!($kind), $help, &[$($label),*]), )*];

        impl Metrics {
            /// Registers everything in a registry of its own.
            #[allow(clippy::expect_used, reason = "names and labels are literals; a clash fails the first test that runs")]
            pub fn new() -> Arc<Metrics> {
                let registry = Registry::new();
                $( let $field = metrics!(@make $kind $name $help [$($label),*]);
                   registry.register(Box::new($field.clone())).expect("metric names are unique"); )*
                let metrics = Metrics { registry, $($field),* };
                metrics.build_info.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
                Arc::new(metrics)
            }
        }
    };
    (@type counter) => { IntCounter };
    (@type counters) => { IntCounterVec };
    (@type float_counters) => { CounterVec };
    (@type gauge) => { IntGauge };
    (@type gauges) => { IntGaugeVec };
    (@type float_gauge) => { Gauge };
    (@type float_gauges) => { GaugeVec };
    (@type histogram) => { Histogram };
    (@type histograms) => { HistogramVec };
    (@make counter $name:literal $help:literal [$($label:literal),*]) => { IntCounter::with_opts(metrics!(@opts $name $help)).expect("literal") };
    (@make counters $name:literal $help:literal [$($label:literal),*]) => { IntCounterVec::new(metrics!(@opts $name $help), &[$($label),*]).expect("literal") };
    (@make float_counters $name:literal $help:literal [$($label:literal),*]) => { CounterVec::new(metrics!(@opts $name $help), &[$($label),*]).expect("literal") };
    (@make gauge $name:literal $help:literal [$($label:literal),*]) => { IntGauge::with_opts(metrics!(@opts $name $help)).expect("literal") };
    (@make gauges $name:literal $help:literal [$($label:literal),*]) => { IntGaugeVec::new(metrics!(@opts $name $help), &[$($label),*]).expect("literal") };
    (@make float_gauge $name:literal $help:literal [$($label:literal),*]) => { Gauge::with_opts(metrics!(@opts $name $help)).expect("literal") };
    (@make float_gauges $name:literal $help:literal [$($label:literal),*]) => { GaugeVec::new(metrics!(@opts $name $help), &[$($label),*]).expect("literal") };
    (@make histogram $name:literal $help:literal [$($label:literal),*]) => { Histogram::with_opts(HistogramOpts::from(metrics!(@opts $name $help)).buckets(LATENCY_BUCKETS.to_vec())).expect("literal") };
    (@make histograms $name:literal $help:literal [$($label:literal),*]) => { HistogramVec::new(HistogramOpts::from(metrics!(@opts $name $help)).buckets(LATENCY_BUCKETS.to_vec()), &[$($label),*]).expect("literal") };
    (@opts $name:literal $help:literal) => { Opts::new(concat!("auditferry_", $name), $help) };
}

/// Seconds; from a send on a local network to Microsoft's week (operations reference 4.2).
const LATENCY_BUCKETS: &[f64] = &[
    0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0, 7200.0, 21600.0,
    86400.0, 604800.0,
];

metrics! {
    build_info: gauges "build_info" "1, with the version as label" ["version"];

    feed_watermark: gauges "feed_watermark_timestamp_seconds" "the feed is known complete up to here (moves on an empty listing too)" ["tenant", "content_type"];
    feed_last_success: gauges "feed_last_success_timestamp_seconds" "last complete listing" ["tenant", "content_type"];
    oldest_pending: gauges "oldest_pending_blob_created_timestamp_seconds" "contentCreated of the oldest unsettled blob, 0 if none" ["tenant", "content_type"];
    subscription_enabled: gauges "subscription_enabled" "1 if the subscription was last seen enabled" ["tenant", "content_type"];
    blobs_listed: counters "blobs_listed_total" "blobs seen for the first time in a listing" ["tenant", "content_type"];
    blobs_fetched: counters "blobs_fetched_total" "blob bodies read to their end" ["tenant", "content_type"];
    blobs_settled: counters "blobs_settled_total" "blobs of which everything is done" ["tenant", "content_type"];
    blobs_retried: counters "blobs_retried_total" "blob attempts that ended unsettled and will be repeated" ["tenant", "content_type"];
    blobs_lost: counters "blobs_lost_total" "blobs that will never be had" ["tenant", "content_type", "reason"];
    blobs_returned: counters "blobs_returned_total" "blobs that had been given up as gone, came back and are delivered" ["tenant", "content_type"];
    blobs_again: counters "blobs_read_again_total" "blobs read a second time because the first was at the live edge, by whether they had grown" ["tenant", "content_type", "result"];
    listing_unreadable: counters "listing_entries_unreadable_total" "entries of listings without a content id" ["tenant"];
    feed_trouble: gauges "feed_trouble" "1 while the feed needs a person: permission, subscription (refused for over an hour), cloud_host (content ids of another cloud)" ["tenant", "content_type", "reason"];
    refused_seconds: counters "refused_seconds_total" "seconds of content the server refused to list as too old" ["tenant", "content_type"];
    blobs_pending: gauges "blobs_pending" "listed blobs that are not settled" ["tenant", "content_type"];
    events: counters "events_total" "records by what became of them" ["tenant", "content_type", "outcome"];
    unreadable: counters "events_unreadable_total" "records that could not be read and went out as event.kind pipeline_error" ["tenant", "content_type"];

    faults: counters "faults_total" "panics over a record that were caught: faults of ours; it went out as event.kind pipeline_error" ["stage"];

    api_requests: counters "api_requests_total" "requests to the service by operation and status class" ["operation", "code"];
    api_throttled: counters "api_throttled_total" "answers that said too many requests" ["tenant"];
    api_bytes: counters "api_bytes_total" "bytes of blob bodies as received and as decoded" ["encoding"];
    api_refused_urls: counters "api_refused_urls_total" "server-made URLs outside the pinned host and path; no token was sent" ["tenant"];
    token_refreshes: counters "token_refreshes_total" "token requests by result" ["tenant", "result"];
    token_expiry: gauges "token_expiry_timestamp_seconds" "when the current token ends" ["tenant"];
    subscription_starts: counters "subscription_starts_total" "subscription starts by result" ["tenant", "content_type", "result"];
    clock_skew: float_gauges "clock_skew_seconds" "server clock minus ours" ["tenant"];

    source_latency: histograms "source_latency_seconds" "contentCreated minus CreationTime: Microsoft's share" ["content_type"];
    pipeline_latency: histograms "pipeline_latency_seconds" "settled minus contentCreated: ours, poll interval included" ["content_type"];

    sink_batches: counters "sink_batches_total" "batches by result" ["sink", "result"];
    sink_events: counters "sink_events_total" "events by result" ["sink", "result"];
    sink_bytes: counters "sink_bytes_total" "bytes sent, before and after compression" ["sink", "encoding"];
    sink_send_seconds: histograms "sink_send_duration_seconds" "one send, to the receiver's word" ["sink"];
    sink_last_ack: gauges "sink_last_ack_timestamp_seconds" "last acknowledgement" ["sink"];
    sink_circuit_open: gauges "sink_circuit_open" "1 while the sink takes nothing and is probed" ["sink"];
    sink_queued: gauges "sink_queued_events" "events waiting for the sink" ["sink"];
    sink_acks_waiting: gauges "sink_indexer_acks_waiting" "batches accepted by a Splunk HEC receiver and not yet acknowledged by its indexers" ["sink"];
    sink_acks: counters "sink_indexer_acks_total" "ends of the wait for an indexer acknowledgement: confirmed, or timed_out or forgotten, after which the batch is sent again" ["sink", "result"];
    sink_resent: counters "sink_resent_events_total" "events sent again although the receiver may have them, by why: duplicates with the same key are possible" ["sink", "reason"];
    sink_limited_seconds: float_counters "sink_limited_seconds_total" "seconds that batches waited because of the sink's rate_limit" ["sink"];
    sink_long_events: counters "sink_long_events_total" "delivered events above 10,000 bytes, which Splunk cuts unless TRUNCATE in its props.conf allows more" ["sink"];
    kafka_throttled: counters "kafka_throttled_seconds_total" "seconds that Kafka's brokers made requests wait because of a quota" ["sink"];
    kafka_renewed: counters "kafka_producers_renewed_total" "Kafka producers replaced, after a fatal error or because the login changed" ["sink", "reason"];
    dead_letters: counters "dead_letters_total" "events refused for good, kept in the dead letters" ["sink"];

    in_flight_bytes: gauge "in_flight_bytes" "bytes fetched and not yet done" [];
    in_flight_limit: gauge "in_flight_limit_bytes" "collect.in_flight" [];

    delivered_keys: gauges "delivered_keys" "record keys known, by where they lie" ["tier"];
    delivered_evicted: counter "delivered_evicted_total" "record keys forgotten before their 8 days because of the size cap" [];
    journal_commits: counters "journal_commits_total" "group commits by result" ["result"];
    journal_commit_seconds: histogram "journal_commit_duration_seconds" "write and fsync of one group" [];
    journal_stalled: gauge "journal_stalled" "1 while the journal cannot be written for want of room; acknowledgements wait" [];
    journal_bytes: gauge "journal_bytes" "size of the current journal" [];
    snapshots: counters "snapshots_total" "compactions by result" ["result"];
    state_recoveries: counters "state_recoveries_total" "starts that found damaged or lost state" ["reason"];
    checkpoint_last_success: gauge "checkpoint_last_success_timestamp_seconds" "last fsynced group" [];
}

impl Metrics {
    /// The text exposition, `process_*` included.
    pub fn render(&self) -> String {
        let mut text = Vec::new();
        let encoder = TextEncoder::new();
        let mut families = self.registry.gather();
        families.extend(prometheus::gather());
        match encoder.encode(&families, &mut text) {
            Ok(()) => String::from_utf8_lossy(&text).into_owned(),
            Err(error) => format!("# the metrics could not be written: {error}\n"),
        }
    }
}

/// The sum of a counter over all its labels.
pub fn total(counters: &IntCounterVec) -> u64 {
    use prometheus::core::Collector;
    let families = counters.collect();
    families.iter().flat_map(|f| f.get_metric()).map(|m| m.get_counter().get_value() as u64).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_shown() {
        let line = format!("auditferry_build_info{{version=\"{}\"}} 1", env!("CARGO_PKG_VERSION"));
        assert!(Metrics::new().render().contains(&line));
    }
}
