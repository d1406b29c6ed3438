//! When to try again: exponential back-off with full jitter, and what a receiver says about it.
//!
//! Comes in: limits, and sometimes a `Retry-After`. Goes out: how long to wait. Never sleeps and never
//! gives up: who retries decides what is worth retrying.
//!
//! `backon` computes the ceilings (1×, 2×, 4× … up to the limit). Its own jitter only ever adds to
//! them; many clients that failed together are spread better by a delay anywhere in [0, ceiling]
//! ("full jitter"), which is drawn here.

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};

/// The longest wait a receiver can order. Ten minutes: longer than any honest throttle that is
/// known, and short enough that an absurd header (a day has been seen) does not stop a feed.
pub const MAX_RETRY_AFTER: Duration = Duration::from_secs(600);

/// The waits between the tries of one thing.
#[derive(Debug)]
pub struct Backoff {
    policy: ExponentialBuilder,
    ceilings: ExponentialBackoff,
    initial: Duration,
    max: Duration,
}

impl Backoff {
    /// First ceiling `initial`, doubling up to `max`.
    pub fn new(initial: Duration, max: Duration) -> Backoff {
        let policy = ExponentialBuilder::new().with_min_delay(initial.min(max)).with_max_delay(max).without_max_times();
        Backoff { policy, ceilings: policy.build(), initial: initial.min(max), max }
    }

    /// How long to wait before the next try: what the receiver asked for, exactly (it is taken as
    /// capped already, by [`parse_retry_after`]), else anything up to the next ceiling. That too where it asked for
    /// less than the first ceiling: `Retry-After: 0`, or a date that has passed, must not make a loop without a pause.
    pub fn next_delay(&mut self, asked: Option<Duration>) -> Duration {
        let ceiling = self.ceilings.next().unwrap_or(self.max);
        let own = ceiling.mul_f64(fastrand::f64());
        match asked {
            Some(asked) if asked >= self.initial => asked,
            Some(asked) => asked.max(own),
            None => own,
        }
    }

    /// Begins anew, after a success.
    pub fn reset(&mut self) {
        self.ceilings = self.policy.build();
    }
}

/// Reads a `Retry-After`: seconds or an HTTP date (RFC 9110, 10.2.3). `now_ms` is the time the date is
/// compared with, milliseconds since 1970. `None` for what is neither; at most [`MAX_RETRY_AFTER`];
/// a date that has passed is zero.
pub fn parse_retry_after(value: &str, now_ms: i64) -> Option<Duration> {
    let value = value.trim();
    if !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit()) {
        // More digits than fit are a very long time, not garbage.
        let seconds = value.parse().unwrap_or(u64::MAX);
        return Some(Duration::from_secs(seconds).min(MAX_RETRY_AFTER));
    }
    let at_ms = jiff::fmt::rfc2822::parse(value).ok()?.timestamp().as_millisecond();
    let wait_ms = u64::try_from(at_ms.saturating_sub(now_ms)).unwrap_or(0);
    Some(Duration::from_millis(wait_ms).min(MAX_RETRY_AFTER))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_stay_below_ceilings_that_double_and_fill_them() {
        let max = Duration::from_secs(8);
        let mut largest = [Duration::ZERO; 6];
        for _ in 0..500 {
            let mut backoff = Backoff::new(Duration::from_secs(1), max);
            for (attempt, seen) in largest.iter_mut().enumerate() {
                *seen = (*seen).max(backoff.next_delay(None));
                assert!(*seen <= Duration::from_secs(1 << attempt).min(max), "{attempt}: {seen:?}");
            }
        }
        let filled = [1, 2, 4, 8, 8, 8].map(|seconds| Duration::from_secs(seconds).mul_f64(0.9));
        assert!(largest.iter().zip(filled).all(|(seen, floor)| *seen > floor), "{largest:?}");
    }

    #[test]
    fn an_order_is_obeyed_and_a_success_begins_anew() {
        let mut backoff = Backoff::new(Duration::from_millis(10), Duration::from_secs(60));
        assert_eq!(backoff.next_delay(Some(Duration::from_secs(30))), Duration::from_secs(30));
        for _ in 0..20 {
            backoff.next_delay(None);
        }
        backoff.reset();
        assert!(backoff.next_delay(None) <= Duration::from_millis(10));
    }

    #[test]
    fn an_order_to_come_at_once_is_no_order_to_come_without_end() {
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(60));
        let waits: Vec<Duration> = (0..12).map(|_| backoff.next_delay(Some(Duration::ZERO))).collect();
        assert!(waits.iter().sum::<Duration>() > Duration::from_secs(5), "{waits:?}");
        assert_eq!(backoff.next_delay(Some(Duration::from_secs(1))), Duration::from_secs(1));
    }

    #[test]
    fn retry_after_is_seconds_or_a_date_and_capped() {
        let date = "Sun, 06 Nov 1994 08:49:37 GMT";
        let at_ms = 784_111_777_000;
        let cases = [
            ("0", Some(0)),
            (" 30 ", Some(30)),
            ("86400", Some(600)),
            ("99999999999999999999999", Some(600)),
            (date, Some(37)),
            ("Sun, 07 Nov 2094 08:49:37 GMT", Some(600)),
            ("", None),
            ("-5", None),
            ("soon", None),
            ("1.5", None),
        ];
        for (value, seconds) in cases {
            assert_eq!(parse_retry_after(value, at_ms - 37_000), seconds.map(Duration::from_secs), "{value}");
        }
        assert_eq!(parse_retry_after(date, at_ms + 1), Some(Duration::ZERO));
    }
}
