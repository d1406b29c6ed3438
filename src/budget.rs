//! The byte budget of everything in flight (`collect.in_flight`): what has been fetched and is not
//! yet done. It is what makes memory flat: a slow sink stops the fetching, not the process.
//!
//! Nobody may hold more than a quarter, so that one tenant's flood leaves room for the others.
//! A body below 8 MiB goes forward only when whole, so several half-read bodies could fill the
//! budget and wait for each other for ever; one of them at a time may therefore go over it
//! (the *overdraft*), which keeps at least one body moving; and one of those that are read slowly beside them.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// The share of the budget that one tenant may hold: a quarter (DESIGN, flow 2.6).
const TENANT_SHARE: usize = 4;

/// Shared by all fetches. Cheap to clone.
#[derive(Clone)]
pub struct Budget(Arc<Inner>);

struct Inner {
    limit: AtomicUsize,
    held: Mutex<Held>,
    freed: Notify,
}

#[derive(Default)]
struct Held {
    total: usize,
    by_tenant: HashMap<Arc<str>, usize>,
    overdraft_taken: [bool; 2],
}

/// Whose overdraft a charge may take. One for both would be held for hours by a body that is read slowly.
#[derive(Clone, Copy)]
enum Lane {
    Common,
    Beside,
}

impl Budget {
    /// A budget of `limit` bytes.
    pub fn new(limit: usize) -> Budget {
        Budget(Arc::new(Inner { limit: AtomicUsize::new(limit), held: Mutex::default(), freed: Notify::new() }))
    }

    /// An empty charge in the name of `tenant`.
    pub fn charge(&self, tenant: &Arc<str>) -> Charge {
        self.charge_in(Lane::Common, tenant)
    }

    /// The same for a body that is read beside the others for as long as it takes: with an overdraft that is
    /// taken only by such, so that it neither waits for its own bytes nor keeps the others from theirs.
    pub fn charge_beside(&self, tenant: &Arc<str>) -> Charge {
        self.charge_in(Lane::Beside, tenant)
    }

    fn charge_in(&self, lane: Lane, tenant: &Arc<str>) -> Charge {
        Charge { budget: self.clone(), tenant: Arc::clone(tenant), bytes: 0, lane, overdraft: false }
    }

    /// Bytes in flight now.
    pub fn used(&self) -> usize {
        self.0.held().total
    }

    /// The configured limit in bytes.
    pub fn limit(&self) -> usize {
        self.0.limit()
    }

    /// Another limit from now on; what is held stays.
    pub fn set_limit(&self, limit: usize) {
        self.0.limit.store(limit, Ordering::Relaxed);
        self.0.freed.notify_waiters();
    }
}

impl Inner {
    fn limit(&self) -> usize {
        self.limit.load(Ordering::Relaxed)
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Held {
    fn add(&mut self, tenant: &Arc<str>, bytes: usize) {
        self.total += bytes;
        *self.by_tenant.entry(Arc::clone(tenant)).or_default() += bytes;
    }

    fn remove(&mut self, tenant: &Arc<str>, bytes: usize) {
        self.total -= bytes;
        if let Some(held) = self.by_tenant.get_mut(tenant) {
            *held -= bytes;
            if *held == 0 {
                self.by_tenant.remove(tenant);
            }
        }
    }
}

/// Bytes held out of the budget; given back on drop.
pub struct Charge {
    budget: Budget,
    tenant: Arc<str>,
    bytes: usize,
    lane: Lane,
    overdraft: bool,
}

impl Charge {
    /// Waits until `bytes` more fit, then holds them. With `may_overdraw` the wait also ends when
    /// the overdraft is free; the charge then goes over the budget until it is dropped.
    pub async fn reserve(&mut self, bytes: usize, may_overdraw: bool) {
        let inner = Arc::clone(&self.budget.0);
        loop {
            let freed = inner.freed.notified();
            tokio::pin!(freed);
            freed.as_mut().enable();
            if self.try_reserve(&inner, bytes, may_overdraw) {
                return;
            }
            freed.await;
        }
    }

    fn try_reserve(&mut self, inner: &Inner, bytes: usize, may_overdraw: bool) -> bool {
        let mut held = inner.held();
        let of_tenant = held.by_tenant.get(&self.tenant).copied().unwrap_or(0);
        // Something larger than the whole share must still pass, alone.
        let fits_tenant = of_tenant == 0 || of_tenant + bytes <= inner.limit() / TENANT_SHARE;
        let fits_all = held.total == 0 || held.total + bytes <= inner.limit();
        if !(self.overdraft || fits_tenant && fits_all) {
            if !may_overdraw || held.overdraft_taken[self.lane as usize] {
                return false;
            }
            held.overdraft_taken[self.lane as usize] = true;
            self.overdraft = true;
        }
        held.add(&self.tenant, bytes);
        self.bytes += bytes;
        true
    }

    /// Holds `bytes` more without waiting, even over the limit: for what is made of bytes already
    /// held (a part's documents), where waiting would wait for itself.
    pub fn add(&mut self, bytes: usize) {
        self.budget.0.held().add(&self.tenant, bytes);
        self.bytes += bytes;
    }

    /// Moves `bytes` (at most what is held) into a charge of their own. The overdraft goes along
    /// with the first split, so that it is free again when those bytes are done.
    pub fn split(&mut self, bytes: usize) -> Charge {
        let bytes = bytes.min(self.bytes);
        self.bytes -= bytes;
        let overdraft = std::mem::take(&mut self.overdraft);
        Charge { budget: self.budget.clone(), tenant: Arc::clone(&self.tenant), bytes, lane: self.lane, overdraft }
    }

    /// Gives back all but `bytes`.
    pub fn shrink_to(&mut self, bytes: usize) {
        let spare = self.bytes.saturating_sub(bytes);
        if spare > 0 {
            self.bytes -= spare;
            self.budget.0.held().remove(&self.tenant, spare);
            self.budget.0.freed.notify_waiters();
        }
    }

    /// Bytes held.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        let mut held = self.budget.0.held();
        held.remove(&self.tenant, self.bytes);
        if self.overdraft {
            held.overdraft_taken[self.lane as usize] = false;
        }
        drop(held);
        self.budget.0.freed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    async fn waits(charge: &mut Charge, bytes: usize, may_overdraw: bool) -> bool {
        tokio::time::timeout(Duration::from_millis(20), charge.reserve(bytes, may_overdraw)).await.is_err()
    }

    #[tokio::test]
    async fn a_tenant_holds_no_more_than_a_quarter_and_dropping_gives_back() {
        let budget = Budget::new(400);
        let (a, b) = (Arc::from("a"), Arc::from("b"));
        let mut first = budget.charge(&a);
        first.reserve(100, false).await;
        let mut second = budget.charge(&a);
        assert!(waits(&mut second, 1, false).await, "a tenant must not pass its quarter");
        budget.charge(&b).reserve(100, false).await;
        drop(first);
        second.reserve(100, false).await;
        drop(second);
        assert_eq!(budget.used(), 0);
    }

    #[tokio::test]
    async fn exactly_one_charge_may_overdraw_until_its_bytes_are_done() {
        let budget = Budget::new(40);
        let a: Arc<str> = Arc::from("a");
        let mut one = budget.charge(&a);
        one.reserve(10, true).await;
        one.reserve(10, true).await;
        let mut two = budget.charge(&a);
        assert!(waits(&mut two, 10, true).await, "only one overdraft at a time");
        let part = one.split(20);
        assert_eq!((one.bytes(), part.bytes()), (0, 20));
        drop(one);
        assert!(waits(&mut two, 10, true).await, "the overdraft went with the part");
        drop(part);
        two.reserve(10, true).await;
    }

    #[tokio::test]
    async fn a_charge_beside_the_others_overdraws_apart_from_theirs_and_goes_on_alone() {
        let budget = Budget::new(40);
        let a: Arc<str> = Arc::from("a");
        let (mut one, mut two) = (budget.charge_beside(&a), budget.charge_beside(&a));
        one.reserve(10, true).await;
        let mut common = budget.charge(&a);
        common.reserve(10, true).await;
        assert!(!waits(&mut one, 30, true).await, "it must not wait for its own bytes");
        assert!(waits(&mut two, 1, true).await, "one of them at a time");
        assert!(!waits(&mut common, 30, true).await, "the others' is another");
        drop(one);
        assert!(!waits(&mut two, 1, true).await);
    }
}
