//! Every metric, declared once: name, help, labels. Label values come from closed sets
//! (configured tenant names, the five content types, configured sink names, fixed reasons), and all
//! combinations exist from the start, so that `rate()` and alerts see a zero before the first event.
//! Names, units and label rules: DESIGN 3.4. The page goes out family by family, because that of a thousand
//! tenants, held whole, would be a good part of the process's memory.

mod family;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use prometheus::core::{Collector, MetricVec, MetricVecBuilder};
use prometheus::{
    CounterVec, Encoder, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntGauge, Opts, TextEncoder,
};
use tokio::time::Instant;

pub use family::{Counter, Counters, Gauge, Gauges};

/// Declares the struct, its constructor and the catalogue in one table, so that none can drift.
macro_rules! metrics {
    ($( $(#[$doc:meta])* $field:ident : $kind:ident $name:literal $help:literal [$($label:literal),*] ; )*) => {
        /// All metrics of the process. Cheap to share.
        pub struct Metrics {
            $( $(#[$doc])* pub $field: metrics!(@type $kind), )*
        }

        /// Name, type, help and labels of every metric, in the order of declaration: the source of
        /// the documentation and of the golden test.
        pub const CATALOGUE: &[(&str, &str, &str, &[&str])] =
            &[$( (concat!("auditferry_", $name), stringify!($kind), $help, &[$($label),*]), )*];

        impl Metrics {
            /// Everything, without a series where there are labels.
            #[allow(clippy::expect_used, reason = "names and labels are literals; a bad one fails the first test that runs")]
            pub fn new() -> Arc<Metrics> {
                let names = Arc::new(family::Names::default());
                $( let $field = metrics!(@make names $kind $name $help [$($label),*]); )*
                let metrics = Metrics { $($field),* };
                metrics.build_info.with_label_values(&[env!("CARGO_PKG_VERSION"), REVISION, FEATURES]).set(1);
                Arc::new(metrics)
            }

            /// Every metric, in the order of declaration.
            fn collectors(&self) -> Vec<&dyn Collector> {
                vec![$( &self.$field ),*]
            }

            /// Forgets every series that has all of these label values: of a tenant, a feed or a sink that is no more.
            pub fn forget(&self, labels: &[(&str, &str)]) {
                $( metrics!(@forget $kind self.$field, labels); )*
            }
        }
    };
    (@type counter) => { IntCounter };
    (@type counters) => { Counters };
    (@type gauge) => { IntGauge };
    (@type gauges) => { Gauges };
    (@type float_counters) => { CounterVec };
    (@type float_gauges) => { GaugeVec };
    (@type histogram) => { Histogram };
    (@type histograms) => { HistogramVec };
    (@make $names:ident counter $name:literal $help:literal [$($label:literal),*]) => { IntCounter::with_opts(metrics!(@opts $name $help)).expect("literal") };
    (@make $names:ident counters $name:literal $help:literal [$($label:literal),*]) => { Counters::new(concat!("auditferry_", $name), $help, &[$($label),*], &$names).expect("literal") };
    (@make $names:ident gauge $name:literal $help:literal [$($label:literal),*]) => { IntGauge::with_opts(metrics!(@opts $name $help)).expect("literal") };
    (@make $names:ident gauges $name:literal $help:literal [$($label:literal),*]) => { Gauges::new(concat!("auditferry_", $name), $help, &[$($label),*], &$names).expect("literal") };
    (@make $names:ident float_counters $name:literal $help:literal [$($label:literal),*]) => { CounterVec::new(metrics!(@opts $name $help), &[$($label),*]).expect("literal") };
    (@make $names:ident float_gauges $name:literal $help:literal [$($label:literal),*]) => { GaugeVec::new(metrics!(@opts $name $help), &[$($label),*]).expect("literal") };
    (@make $names:ident histogram $name:literal $help:literal [$($label:literal),*]) => { Histogram::with_opts(HistogramOpts::from(metrics!(@opts $name $help)).buckets(LATENCY_BUCKETS.to_vec())).expect("literal") };
    (@make $names:ident histograms $name:literal $help:literal [$($label:literal),*]) => { HistogramVec::new(HistogramOpts::from(metrics!(@opts $name $help)).buckets(LATENCY_BUCKETS.to_vec()), &[$($label),*]).expect("literal") };
    (@forget counters $field:expr, $labels:ident) => { $field.forget($labels) };
    (@forget gauges $field:expr, $labels:ident) => { $field.forget($labels) };
    (@forget float_counters $field:expr, $labels:ident) => { forget(&$field, $labels) };
    (@forget float_gauges $field:expr, $labels:ident) => { forget(&$field, $labels) };
    (@forget histograms $field:expr, $labels:ident) => { forget(&$field, $labels) };
    (@forget $kind:ident $field:expr, $labels:ident) => { let _ = &$field; };
    (@opts $name:literal $help:literal) => { Opts::new(concat!("auditferry_", $name), $help) };
}

/// Seconds; from a send on a local network to Microsoft's week (operations reference 4.2).
const LATENCY_BUCKETS: &[f64] = &[
    0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0, 7200.0, 21600.0,
    86400.0, 604800.0,
];

metrics! {
    build_info: gauges "build_info" "1, with version, revision of the source and features of the build as labels" ["version", "revision", "features"];

    feed_watermark: gauges "feed_watermark_timestamp_seconds" "the feed is known complete up to here (moves on an empty listing too)" ["tenant", "content_type"];
    feed_last_success: gauges "feed_last_success_timestamp_seconds" "last complete listing" ["tenant", "content_type"];
    oldest_pending: gauges "oldest_pending_blob_created_timestamp_seconds" "contentCreated of the oldest unsettled blob, 0 if none" ["tenant", "content_type"];
    oldest_expiration: gauges "oldest_pending_content_expiration_timestamp_seconds" "when the first of the unsettled blobs expires at the service, 0 if there is none" ["tenant", "content_type"];
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
    blobs_in_flight: gauges "blobs_in_flight" "blobs that are being fetched" [];
    events: counters "events_total" "records by what became of them" ["tenant", "content_type", "outcome"];
    unreadable: counters "events_unreadable_total" "records that could not be read and went out as event.kind pipeline_error" ["tenant", "content_type"];

    unknown: counters "unknown_total" "names in records that no table of this release has: types, operations, top-level fields; `/status` has the names" ["kind"];
    faults: counters "faults_total" "panics over a record that were caught: faults of ours; it went out as event.kind pipeline_error" ["stage"];

    api_requests: counters "api_requests_total" "requests to the service by operation and status class" ["operation", "code"];
    api_tenant_requests: counters "api_tenant_requests_total" "requests to the service by tenant, to hold against its quota of 2,000 a minute" ["tenant"];
    api_seconds: histograms "api_request_duration_seconds" "from sending a request to the head of its answer" ["operation"];
    api_retry_after: histogram "api_retry_after_seconds" "pauses that the service named when it said too many requests" [];
    api_throttled: counters "api_throttled_total" "answers that said too many requests" ["tenant"];
    api_bytes: counters "api_bytes_total" "bytes of blob bodies as received and as decoded" ["encoding"];
    api_refused_urls: counters "api_refused_urls_total" "server-made URLs outside the pinned host and path; no token was sent" ["tenant"];
    token_refreshes: counters "token_refreshes_total" "token requests by result" ["tenant", "result"];
    token_expiry: gauges "token_expiry_timestamp_seconds" "when the current token ends" ["tenant"];
    credential_expiry: gauges "credential_expiry_timestamp_seconds" "when what the tenant signs in with ends: its certificate, or its secret as configured; 0 if not known" ["tenant", "kind"];
    subscription_starts: counters "subscription_starts_total" "subscription starts by result" ["tenant", "content_type", "result"];
    clock_skew: float_gauges "clock_skew_seconds" "server clock minus ours" ["tenant"];

    source_latency: histograms "source_latency_seconds" "contentCreated minus CreationTime: Microsoft's share" ["content_type"];
    pipeline_latency: histograms "pipeline_latency_seconds" "settled minus contentCreated: ours, poll interval included" ["content_type"];

    sink_info: gauges "sink_info" "1, with the kind of the sink and whether blobs wait for it" ["sink", "sink_type", "required"];
    sink_batches: counters "sink_batches_total" "batches by result" ["sink", "result"];
    sink_events: counters "sink_events_total" "events by result" ["sink", "result"];
    sink_bytes: counters "sink_bytes_total" "bytes sent, before and after compression" ["sink", "encoding"];
    sink_send_seconds: histograms "sink_send_duration_seconds" "one send, to the receiver's word" ["sink"];
    sink_last_ack: gauges "sink_last_ack_timestamp_seconds" "last acknowledgement" ["sink"];
    sink_circuit_open: gauges "sink_circuit_open" "1 while the sink takes nothing and is probed" ["sink"];
    sink_retries: counters "sink_retries_total" "sends that will be repeated, by why: failed, told_to_wait (the receiver named a time), slow (it took others meanwhile), refused (it takes nothing until somebody mends it)" ["sink", "reason"];
    sink_in_flight: gauges "sink_in_flight_batches" "batches sent and not yet answered" ["sink"];
    sink_queued: gauges "sink_queued_events" "events waiting for the sink" ["sink"];
    sink_acks_waiting: gauges "sink_indexer_acks_waiting" "batches accepted by a Splunk HEC receiver and not yet acknowledged by its indexers" ["sink"];
    sink_acks: counters "sink_indexer_acks_total" "ends of the wait for an indexer acknowledgement: confirmed, or timed_out or forgotten, after which the batch is sent again" ["sink", "result"];
    sink_resent: counters "sink_resent_events_total" "events sent again although the receiver may have them, by why: duplicates with the same key are possible" ["sink", "reason"];
    sink_already_there: counters "sink_already_there_events_total" "events that Elasticsearch or OpenSearch had when they were sent: sent before, and there once all the same" ["sink"];
    sink_limited_seconds: float_counters "sink_limited_seconds_total" "seconds that batches waited because of the sink's rate_limit" ["sink"];
    sink_long_events: counters "sink_long_events_total" "delivered events above 10,000 bytes, which Splunk cuts unless TRUNCATE in its props.conf allows more" ["sink"];
    syslog_truncated: counters "syslog_truncated_events_total" "delivered syslog messages that were cut to max_size and marked so" ["sink"];
    kafka_throttled: counters "kafka_throttled_seconds_total" "seconds that Kafka's brokers made requests wait because of a quota" ["sink"];
    kafka_renewed: counters "kafka_producers_renewed_total" "Kafka producers replaced, after a fatal error, because the login changed, or (unsure) because a transaction's end was not certain" ["sink", "reason"];
    kafka_transactions: counters "kafka_transactions_total" "transactions of a transactional Kafka sink by how they ended: committed, aborted, or unsure, after which a new producer looks what the brokers have" ["sink", "result"];
    dead_letters: counters "dead_letters_total" "events refused for good, kept in the dead letters" ["sink"];

    config_last_reload_successful: gauge "config_last_reload_successful" "1 if the configuration was last read without a fault, 0 if it was refused and the one before runs on" [];
    config_last_reload_success: gauge "config_last_reload_success_timestamp_seconds" "when the running configuration was last read" [];
    config_reloads: counters "config_reloads_total" "reloads by result: ok (applied, or nothing had changed) or refused" ["result"];

    in_flight_bytes: gauge "in_flight_bytes" "bytes fetched and not yet done" [];
    in_flight_limit: gauge "in_flight_limit_bytes" "collect.in_flight" [];
    backpressure: float_counters "backpressure_seconds_total" "time spent waiting, over all that waited, by for what: budget (fetches for room in collect.in_flight), pipeline (fetches for its workers), journal (batches for its disk)" ["stage"];

    enrich_lookups: counters "enrich_lookups_total" "addresses looked up, by outcome: found, special (private and other ranges set apart), unknown, error (a record of a database could not be read)" ["outcome"];
    enrich_built: gauges "enrich_database_build_timestamp_seconds" "when the database that is read from was built, 0 while there is none" ["kind", "file"];
    enrich_failures: counters "enrich_database_load_failures_total" "times that a database file was found missing, damaged or of another kind; the one before is used further" ["kind", "file"];

    delivered_keys: gauges "delivered_keys" "record keys known, by where they lie" ["tier"];
    delivered_evicted: counter "delivered_evicted_total" "record keys forgotten before their 8 days because of the size cap" [];
    journal_commits: counters "journal_commits_total" "group commits by result" ["result"];
    journal_commit_seconds: histogram "journal_commit_duration_seconds" "write and fsync of one group" [];
    journal_stalled: gauge "journal_stalled" "1 while the journal cannot be written for want of room; acknowledgements wait" [];
    journal_bytes: gauge "journal_bytes" "size of the current journal" [];
    state_generation: gauge "state_generation" "number of the current journal; it grows by one with each compaction" [];
    state_bytes: gauges "state_size_bytes" "what the state directory holds, by what it is; the dead letters are not in it" ["part"];
    snapshots: counters "snapshots_total" "compactions by result" ["result"];
    state_recoveries: counters "state_recoveries_total" "starts that found damaged or lost state" ["reason"];
    checkpoint_last_success: gauge "checkpoint_last_success_timestamp_seconds" "last fsynced group" [];

    memory_anonymous: gauge "memory_anonymous_bytes" "memory of the process without mapped files, which the kernel takes back at need" [];
    memory_limit: gauge "memory_limit_bytes" "memory that the process's cgroup may use, 0 if there is no limit" [];
    runtime_workers: gauge "runtime_workers" "threads that run tasks" [];
    runtime_tasks: gauge "runtime_tasks" "tasks that are alive" [];
    runtime_queued: gauge "runtime_queued_tasks" "tasks that wait for a thread" [];
}

/// Revision of the source, where the build was told it.
const REVISION: &str = match option_env!("AUDITFERRY_REVISION") {
    Some(revision) => revision,
    None => "unknown",
};

/// Features of this build that change what it does.
const FEATURES: &str = if cfg!(feature = "failpoints") { "failpoints" } else { "" };

/// Values of the label `stage` of `backpressure_seconds_total`.
const STAGES: [&str; 3] = ["budget", "pipeline", "journal"];

/// A wait shorter than this is none.
const WAITED: Duration = Duration::from_millis(1);

/// The same of a vector of `prometheus`.
fn forget<B: MetricVecBuilder>(vector: &MetricVec<B>, labels: &[(&str, &str)])
where
    MetricVec<B>: Collector,
{
    let has = |metric: &prometheus::proto::Metric, (name, value): &(&str, &str)| {
        metric.get_label().iter().any(|label| label.name() == *name && label.value() == *value)
    };
    let families = vector.collect();
    let metrics = families.iter().flat_map(|family| family.get_metric());
    for metric in metrics.filter(|metric| labels.iter().all(|label| has(metric, label))) {
        let all: HashMap<&str, &str> = metric.get_label().iter().map(|label| (label.name(), label.value())).collect();
        let _ = vector.remove(&all);
    }
}

impl Metrics {
    /// The text exposition, `process_*` included, in pieces: a family each.
    pub fn pages(self: Arc<Metrics>) -> impl Iterator<Item = String> + Send {
        self.look_at_process();
        (0..=CATALOGUE.len()).map(move |index| {
            let mut families = match self.collectors().get(index) {
                Some(own) => own.collect(),
                None => prometheus::gather(),
            };
            // One without a series is not there.
            families.retain(|family| !family.get_metric().is_empty());
            let mut text = Vec::new();
            match TextEncoder::new().encode(&families, &mut text) {
                Ok(()) => String::from_utf8(text).unwrap_or_default(),
                Err(error) => format!("# the metrics could not be written: {error}\n"),
            }
        })
    }

    /// The whole text exposition.
    pub fn render(self: &Arc<Metrics>) -> String {
        Arc::clone(self).pages().collect()
    }

    /// Makes the labels exist that belong to no tenant and no sink, and notes the memory limit.
    pub fn declare(&self, memory_limit: Option<u64>) {
        self.memory_limit.set(memory_limit.and_then(|limit| i64::try_from(limit).ok()).unwrap_or(0));
        self.blobs_in_flight.with_label_values(&[]);
        for stage in STAGES {
            self.backpressure.with_label_values(&[stage]);
        }
    }

    /// Waits for `work`, and counts the wait as one for `stage` if it was one.
    pub async fn wait_for<T>(&self, stage: &'static str, work: impl Future<Output = T>) -> T {
        debug_assert!(STAGES.contains(&stage));
        let began = Instant::now();
        let done = work.await;
        let waited = began.elapsed();
        if waited >= WAITED {
            self.backpressure.with_label_values(&[stage]).inc_by(waited.as_secs_f64());
        }
        done
    }

    fn look_at_process(&self) {
        if let Some(bytes) = crate::memory::anonymous().and_then(|bytes| i64::try_from(bytes).ok()) {
            self.memory_anonymous.set(bytes);
        }
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let (runtime, as_gauge) = (runtime.metrics(), |count: usize| i64::try_from(count).unwrap_or(i64::MAX));
        self.runtime_workers.set(as_gauge(runtime.num_workers()));
        self.runtime_tasks.set(as_gauge(runtime.num_alive_tasks()));
        self.runtime_queued.set(as_gauge(runtime.global_queue_depth()));
    }
}

/// One more of a gauge, until it is dropped.
pub struct Raised(Gauge);

impl Raised {
    pub fn new(gauge: Gauge) -> Raised {
        gauge.add(1);
        Raised(gauge)
    }
}

impl Drop for Raised {
    fn drop(&mut self) {
        self.0.sub(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_build_is_shown_and_every_name_is_there_once() {
        let line = format!(
            "auditferry_build_info{{version=\"{}\",revision=\"{REVISION}\",features=\"{FEATURES}\"}} 1",
            env!("CARGO_PKG_VERSION")
        );
        assert!(Metrics::new().render().contains(&line));
        let names: std::collections::HashSet<&str> = CATALOGUE.iter().map(|(name, ..)| *name).collect();
        assert_eq!(names.len(), CATALOGUE.len());
    }

    #[tokio::test(start_paused = true)]
    async fn only_a_wait_counts_as_one() {
        let metrics = Metrics::new();
        metrics.wait_for("budget", async {}).await;
        let seconds = || metrics.backpressure.with_label_values(&["budget"]).get();
        assert_eq!(seconds(), 0.0);
        metrics.wait_for("budget", tokio::time::sleep(Duration::from_secs(3))).await;
        assert!((3.0..3.5).contains(&seconds()), "{}", seconds());
    }

    #[test]
    fn what_is_forgotten_leaves_no_series_and_takes_no_other() {
        let metrics = Metrics::new();
        for tenant in ["old", "new"] {
            for content_type in ["DLP.All", "Audit.General"] {
                metrics.blobs_listed.with_label_values(&[tenant, content_type]).inc();
            }
            metrics.clock_skew.with_label_values(&[tenant]).set(1.0);
        }
        metrics.sink_send_seconds.with_label_values(&["old"]).observe(1.0);
        metrics.forget(&[("tenant", "new"), ("content_type", "DLP.All")]);
        metrics.forget(&[("tenant", "old")]);
        let text = metrics.render();
        assert!(!text.contains("tenant=\"old\"") && !text.contains("DLP.All"), "{text}");
        assert!(
            text.contains("auditferry_blobs_listed_total{tenant=\"new\",content_type=\"Audit.General\"} 1"),
            "{text}"
        );
        assert!(text.contains("sink=\"old\"") && text.contains("auditferry_clock_skew_seconds{tenant=\"new\"}"));
        metrics.forget(&[("sink", "old")]);
        assert!(!metrics.render().contains("sink=\"old\""));
    }
}
