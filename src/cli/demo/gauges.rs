//! The numbers that the demo shows, read from the same metrics that an operator scrapes. Sums over
//! all tenants, content types and sinks; takes nothing from inside the pipeline.

use prometheus::core::Collector;
use prometheus::proto::MetricFamily;

use crate::metrics::Metrics;

/// One look at the metrics.
#[derive(Clone, Debug, Default)]
pub(super) struct Gauges {
    pub delivered: u64,
    pub duplicate: u64,
    pub rejected: u64,
    pub unreadable: u64,
    pub blobs_settled: u64,
    pub blobs_retried: u64,
    pub blobs_pending: u64,
    pub blobs_lost: u64,
    pub throttled: u64,
    pub refused_urls: u64,
    pub subscription_starts: u64,
    pub requests_failed: u64,
    pub tokens: u64,
    /// Upper ends of the latency buckets in seconds, and how many fell at or below each, over all time.
    pub latency: Vec<(f64, u64)>,
    /// Bytes of memory that are our own, where the system tells.
    pub memory: Option<u64>,
}

impl Gauges {
    pub fn read(metrics: &Metrics) -> Gauges {
        let events = metrics.events.collect();
        Gauges {
            delivered: sum(&events, &[("outcome", "delivered")]),
            duplicate: sum(&events, &[("outcome", "duplicate")]),
            rejected: sum(&events, &[("outcome", "rejected")]),
            unreadable: sum(&metrics.unreadable.collect(), &[]),
            blobs_settled: sum(&metrics.blobs_settled.collect(), &[]),
            blobs_retried: sum(&metrics.blobs_retried.collect(), &[]),
            blobs_pending: metrics
                .blobs_pending
                .collect()
                .iter()
                .flat_map(MetricFamily::get_metric)
                .map(|metric| metric.get_gauge().get_value() as u64)
                .sum(),
            blobs_lost: sum(&metrics.blobs_lost.collect(), &[]),
            throttled: sum(&metrics.api_throttled.collect(), &[]),
            refused_urls: sum(&metrics.api_refused_urls.collect(), &[]),
            subscription_starts: sum(&metrics.subscription_starts.collect(), &[]),
            tokens: sum(&metrics.token_refreshes.collect(), &[("result", "ok")]),
            requests_failed: sum(&metrics.api_requests.collect(), &[("code", "5xx")]),
            latency: buckets(&metrics.pipeline_latency.collect()),
            memory: crate::memory::anonymous(),
        }
    }

    /// The upper end of the bucket in which the median of what came after `earlier` lies, seconds.
    pub fn median_latency_since(&self, earlier: &Gauges) -> Option<f64> {
        let before = |end: f64| earlier.latency.iter().find(|(other, _)| *other == end).map_or(0, |(_, count)| *count);
        let fresh: Vec<(f64, u64)> =
            self.latency.iter().map(|(end, count)| (*end, count.saturating_sub(before(*end)))).collect();
        let all = fresh.last().filter(|(_, count)| *count > 0)?.1;
        fresh.iter().find(|(_, count)| count * 2 >= all).map(|(end, _)| *end)
    }
}

/// The sum of all counters whose labels have these values.
fn sum(families: &[MetricFamily], labels: &[(&str, &str)]) -> u64 {
    let matches = |metric: &prometheus::proto::Metric| {
        labels.iter().all(|(name, value)| {
            metric.get_label().iter().any(|label| label.name() == *name && label.value() == *value)
        })
    };
    families
        .iter()
        .flat_map(MetricFamily::get_metric)
        .filter(|metric| matches(metric))
        .map(|metric| metric.get_counter().get_value() as u64)
        .sum()
}

/// The buckets of a histogram, summed over all labels.
fn buckets(families: &[MetricFamily]) -> Vec<(f64, u64)> {
    let mut sums: Vec<(f64, u64)> = Vec::new();
    for bucket in
        families.iter().flat_map(MetricFamily::get_metric).flat_map(|metric| metric.get_histogram().get_bucket())
    {
        match sums.iter_mut().find(|(end, _)| *end == bucket.upper_bound()) {
            Some((_, count)) => *count += bucket.cumulative_count(),
            None => sums.push((bucket.upper_bound(), bucket.cumulative_count())),
        }
    }
    sums.sort_by(|a, b| a.0.total_cmp(&b.0));
    sums
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_over_labels_and_picks_outcomes() {
        let metrics = Metrics::new();
        metrics.events.with_label_values(&["a", "DLP.All", "delivered"]).inc_by(3);
        metrics.events.with_label_values(&["b", "DLP.All", "delivered"]).inc_by(4);
        metrics.events.with_label_values(&["b", "DLP.All", "duplicate"]).inc_by(5);
        metrics.blobs_settled.with_label_values(&["a", "DLP.All"]).inc_by(2);
        let gauges = Gauges::read(&metrics);
        assert_eq!((gauges.delivered, gauges.duplicate, gauges.blobs_settled), (7, 5, 2));
    }

    #[test]
    fn the_median_is_that_of_the_new_observations() {
        let metrics = Metrics::new();
        let latency = metrics.pipeline_latency.with_label_values(&["out"]);
        (0..100).for_each(|_| latency.observe(5000.0));
        let earlier = Gauges::read(&metrics);
        assert_eq!(earlier.median_latency_since(&earlier), None);
        (0..9).for_each(|_| latency.observe(0.4));
        latency.observe(50.0);
        assert_eq!(Gauges::read(&metrics).median_latency_since(&earlier), Some(0.5));
    }
}
