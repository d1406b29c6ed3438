//! `rate_limit`: how fast a sink is sent what it has not been sent before. Waiting holds the batch, so a
//! required sink slows the source down and nothing is lost; what is sent again costs nothing anew.
//!
//! Comes in: events and bytes of a batch. Goes out: time that passed, counted. Batches are filled up to the
//! burst only ([`fitting`]); an event larger than that passes and is paid for afterwards, or it would never pass.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::config::{BatchConfig, RateLimitConfig};
use crate::metrics::Metrics;

/// The limit of one sink.
pub(super) struct Limit {
    sink: String,
    events: Option<Bucket>,
    bytes: Option<Bucket>,
    metrics: Arc<Metrics>,
}

impl Limit {
    /// `None`: nothing is limited.
    pub fn new(sink: &str, config: Option<&RateLimitConfig>, metrics: &Arc<Metrics>) -> Option<Limit> {
        let config = config?;
        metrics.sink_limited_seconds.with_label_values(&[sink]);
        let bucket = |per_second: u64| Bucket::new(per_second as f64, config.burst);
        Some(Limit {
            sink: sink.to_owned(),
            events: config.events_per_second.map(bucket),
            bytes: config.bytes_per_second.map(bucket),
            metrics: Arc::clone(metrics),
        })
    }

    /// Returns when a batch of this size may leave.
    pub async fn wait(&self, events: usize, bytes: usize) {
        let now = Instant::now();
        let of = |bucket: &Option<Bucket>, cost| bucket.as_ref().map_or(Duration::ZERO, |b| b.take(cost, now));
        let wait = of(&self.events, events).max(of(&self.bytes, bytes));
        if wait.is_zero() {
            return;
        }
        // Counted as it passes: a wait may outlast many scrapes.
        let counter = self.metrics.sink_limited_seconds.with_label_values(&[&self.sink]);
        let until = now + wait;
        while let left = until.saturating_duration_since(Instant::now())
            && !left.is_zero()
        {
            let slice = left.min(Duration::from_secs(1));
            tokio::time::sleep(slice).await;
            counter.inc_by(slice.as_secs_f64());
        }
    }
}

/// The batches that a limit lets pass at once: one above the burst would be a multiple of the rate in one go.
pub(super) fn fitting(batch: &BatchConfig, limit: Option<&RateLimitConfig>) -> BatchConfig {
    let seconds = limit.map_or(0.0, |limit| limit.burst.as_secs_f64());
    let within = |most: usize, per_second: Option<u64>| {
        per_second.map_or(most, |rate| most.min((rate as f64 * seconds) as usize).max(1))
    };
    BatchConfig {
        max_events: within(batch.max_events, limit.and_then(|limit| limit.events_per_second)),
        max_bytes: within(batch.max_bytes, limit.and_then(|limit| limit.bytes_per_second)),
        ..*batch
    }
}

/// What may pass without waiting grows by the rate up to the burst, and falls below nothing by what passed.
struct Bucket {
    per_second: f64,
    burst: f64,
    balance: Mutex<(f64, Instant)>,
}

impl Bucket {
    fn new(per_second: f64, burst: Duration) -> Bucket {
        let burst = per_second * burst.as_secs_f64();
        Bucket { per_second, burst, balance: Mutex::new((burst, Instant::now())) }
    }

    /// Takes `cost` and says how long to wait until all that was taken before has been earned.
    fn take(&self, cost: usize, now: Instant) -> Duration {
        let mut balance = self.balance.lock().unwrap_or_else(PoisonError::into_inner);
        let (had, since) = *balance;
        let earned = now.saturating_duration_since(since).as_secs_f64() * self.per_second;
        let have = (had + earned).min(self.burst);
        *balance = (have - cost as f64, now);
        let owed = (cost as f64).min(self.burst) - have;
        if owed > 0.0 { Duration::from_secs_f64(owed / self.per_second) } else { Duration::ZERO }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limit(events: Option<u64>, bytes: Option<u64>, burst: u64) -> (Limit, Arc<Metrics>) {
        let metrics = Metrics::new();
        let burst = Duration::from_secs(burst);
        let config = RateLimitConfig { events_per_second: events, bytes_per_second: bytes, burst };
        (Limit::new("s", Some(&config), &metrics).unwrap(), metrics)
    }

    #[tokio::test(start_paused = true)]
    async fn what_passes_in_the_long_run_is_the_rate_and_the_wait_is_counted() {
        let (limit, metrics) = limit(Some(100), None, 2);
        let began = Instant::now();
        for _ in 0..50 {
            limit.wait(20, 1).await;
        }
        // 1,000 events at 100 a second, of which the burst of 200 passed at once.
        let seconds = began.elapsed().as_secs_f64();
        assert!((7.9..8.1).contains(&seconds), "{seconds}");
        let counted = metrics.sink_limited_seconds.with_label_values(&["s"]).get();
        assert!((counted - seconds).abs() < 0.2, "{counted} of {seconds}");
    }

    #[tokio::test(start_paused = true)]
    async fn the_narrower_of_two_limits_holds_and_a_batch_above_the_burst_passes() {
        let (limit, _) = limit(Some(1_000_000), Some(1000), 1);
        let began = Instant::now();
        limit.wait(1, 5000).await;
        assert!(began.elapsed() < Duration::from_millis(10), "the first goes at once");
        limit.wait(1, 1000).await;
        let seconds = began.elapsed().as_secs_f64();
        assert!((4.9..5.1).contains(&seconds), "{seconds}: it is paid for afterwards");
    }

    #[test]
    fn a_batch_is_no_larger_than_the_burst_and_holds_one_event_at_least() {
        let batch = BatchConfig { max_bytes: 1 << 20, max_events: 10_000, linger: Duration::ZERO, concurrency: 1 };
        let of = |events_per_second, bytes_per_second, burst| {
            let limit = RateLimitConfig { events_per_second, bytes_per_second, burst: Duration::from_millis(burst) };
            let fits = fitting(&batch, Some(&limit));
            (fits.max_events, fits.max_bytes)
        };
        assert_eq!(of(Some(5), None, 1000), (5, 1 << 20));
        assert_eq!(of(Some(5), None, 100), (1, 1 << 20));
        assert_eq!(of(Some(20_000), Some(4096), 2000), (10_000, 8192));
        let free = fitting(&batch, None);
        assert_eq!((free.max_events, free.max_bytes), (10_000, 1 << 20));
    }

    #[tokio::test(start_paused = true)]
    async fn idle_time_is_saved_up_to_the_burst_only() {
        let (limit, _) = limit(Some(10), None, 3);
        limit.wait(30, 0).await;
        tokio::time::sleep(Duration::from_secs(3600)).await;
        let began = Instant::now();
        limit.wait(30, 0).await;
        assert!(began.elapsed() < Duration::from_millis(10));
        limit.wait(30, 0).await;
        assert!(began.elapsed() > Duration::from_secs(2));
    }
}
