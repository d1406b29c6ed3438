//! Scenario `quota`: how many requests a tenant may make in a minute of virtual time (activity-api 1.9).

use std::sync::{Mutex, PoisonError};

use super::stamp::MINUTE_MS;

/// Requests a minute and tenant; real tenants have 2,000 and more, of which a test need not make use.
const A_MINUTE: u32 = 120;

/// The minute at hand of each tenant, and its requests.
#[derive(Debug)]
pub(super) struct Quota(Vec<Mutex<(i64, u32)>>);

impl Quota {
    pub(super) fn new(tenants: usize) -> Quota {
        Quota((0..tenants).map(|_| Mutex::default()).collect())
    }

    /// Counts a request; true when it is one too many.
    pub(super) fn is_over(&self, tenant: usize, now_ms: i64) -> bool {
        let mut at_hand = self.0[tenant].lock().unwrap_or_else(PoisonError::into_inner);
        let minute = now_ms.div_euclid(MINUTE_MS);
        if at_hand.0 != minute {
            *at_hand = (minute, 0);
        }
        at_hand.1 += 1;
        at_hand.1 > A_MINUTE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_minute_is_full_and_the_next_is_empty() {
        let quota = Quota::new(2);
        assert_eq!((0..A_MINUTE + 5).filter(|_| quota.is_over(1, 30_000)).count(), 5);
        assert!(!quota.is_over(1, 60_000) && !quota.is_over(0, 30_000));
    }
}
