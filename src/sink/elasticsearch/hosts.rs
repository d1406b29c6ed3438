//! Which address of a cluster is asked next: one after the other, and one that fails rests. Pure but for tokio's clock.
//!
//! Comes in: how an exchange with an address ended. Goes out: an address. There always is one: where all rest, the one that
//! has rested most of its time.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use url::Url;

/// How long an address rests after its first failure; doubling up to [`LONGEST`].
const FIRST: Duration = Duration::from_secs(1);
/// A node that was away for long is asked again within this.
const LONGEST: Duration = Duration::from_secs(60);

/// The addresses of a cluster.
pub(super) struct Hosts {
    urls: Vec<Url>,
    next: AtomicUsize,
    rests: Mutex<Vec<Rest>>,
}

#[derive(Clone, Copy, Default)]
struct Rest {
    until: Option<Instant>,
    failures: u32,
}

impl Hosts {
    /// At least one address.
    pub fn new(urls: Vec<Url>) -> Hosts {
        let rests = Mutex::new(vec![Rest::default(); urls.len()]);
        Hosts { urls, next: AtomicUsize::new(0), rests }
    }

    pub fn len(&self) -> usize {
        self.urls.len()
    }

    /// The next address, and its number for [`well`](Self::well) and [`failed`](Self::failed).
    pub fn pick(&self) -> (usize, &Url) {
        let (start, now) = (self.next.fetch_add(1, Ordering::Relaxed), Instant::now());
        let rests = self.rests();
        let order = || (0..self.urls.len()).map(|step| (start.wrapping_add(step)) % self.urls.len());
        let awake = order().find(|number| rests[*number].until.is_none_or(|until| until <= now));
        let number = awake.or_else(|| order().min_by_key(|number| rests[*number].until)).unwrap_or(0);
        (number, &self.urls[number])
    }

    /// It answered.
    pub fn well(&self, number: usize) {
        self.rests()[number] = Rest::default();
    }

    /// It did not, or said that it cannot. True where another one is awake. While it rests that is no new failure: one
    /// restart cuts all requests that are on their way.
    pub fn failed(&self, number: usize) -> bool {
        let (mut rests, now) = (self.rests(), Instant::now());
        let rest = &mut rests[number];
        if rest.until.is_none_or(|until| until <= now) {
            let time = FIRST.saturating_mul(1 << rest.failures.min(6)).min(LONGEST);
            *rest = Rest { until: Some(now + time), failures: rest.failures.saturating_add(1) };
        }
        rests.iter().any(|rest| rest.until.is_none_or(|until| until <= now))
    }

    fn rests(&self) -> MutexGuard<'_, Vec<Rest>> {
        self.rests.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hosts(count: usize) -> Hosts {
        Hosts::new((0..count).map(|n| Url::parse(&format!("https://es-{n}:9200")).unwrap()).collect())
    }

    fn picks(hosts: &Hosts, count: usize) -> Vec<usize> {
        (0..count).map(|_| hosts.pick().0).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn addresses_take_turns_and_one_that_fails_rests_longer_each_time() {
        let hosts = hosts(3);
        assert_eq!(picks(&hosts, 4), [0, 1, 2, 0]);
        assert!(hosts.failed(1));
        assert!(!picks(&hosts, 6).contains(&1));
        tokio::time::advance(FIRST).await;
        assert!(picks(&hosts, 3).contains(&1), "it is tried again");
        hosts.failed(1);
        tokio::time::advance(FIRST).await;
        assert!(!picks(&hosts, 3).contains(&1), "twice as long now");
        tokio::time::advance(FIRST).await;
        assert!(picks(&hosts, 3).contains(&1));
        hosts.well(1);
        hosts.failed(1);
        tokio::time::advance(FIRST).await;
        assert!(picks(&hosts, 3).contains(&1), "an answer makes it begin anew");
    }

    #[tokio::test(start_paused = true)]
    async fn several_requests_cut_by_one_restart_are_one_failure() {
        let hosts = hosts(2);
        (0..4).for_each(|_| _ = hosts.failed(0));
        tokio::time::advance(FIRST).await;
        assert!(picks(&hosts, 2).contains(&0), "it rests as after one failure");
    }

    #[tokio::test(start_paused = true)]
    async fn where_all_rest_the_one_that_rested_most_is_asked() {
        let hosts = hosts(2);
        assert!(hosts.failed(0));
        tokio::time::advance(Duration::from_millis(100)).await;
        assert!(!hosts.failed(1), "nobody is awake");
        assert_eq!(picks(&hosts, 3), [0, 0, 0]);
        assert_eq!(hosts.len(), 2);
        for _ in 0..100 {
            hosts.failed(0);
        }
        tokio::time::advance(LONGEST).await;
        assert_eq!(picks(&hosts, 2).len(), 2);
    }
}
