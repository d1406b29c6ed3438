//! The byte budget of everything in flight (`collect.in_flight`): what has been fetched and is not
//! yet done. It is what makes memory flat: a slow sink stops the fetching, not the process.
//!
//! Nobody may hold more than a quarter, so that one tenant's flood leaves room for the others.
//! A body below 8 MiB goes forward only when whole, so several half-read bodies could fill the
//! budget, or their tenant's quarter, and wait for each other for ever. One body at a time may therefore go
//! over the budget (the *overdraft*), and one of each feed over its tenant's quarter where that leaves a quarter of the
//! budget free: of each, because an overdraft ends when its bytes are done, and those of one feed may wait long for
//! a sink that the others do without. Bodies that are read slowly beside the rest have the same apart. What a sink that is not
//! required keeps has no overdraft: that sink may hang, and its backlog is bounded.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::feed::ContentType;

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
    /// Whoever is over the budget, by lane.
    over_all: [bool; 2],
    /// The feeds that are over their tenant's quarter, by lane.
    over_share: HashSet<(Arc<str>, ContentType, Lane)>,
}

/// Whose overdraft a charge may take. One for both would be held for hours by a body that is read slowly.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Lane {
    Common,
    Beside,
}

impl Budget {
    /// A budget of `limit` bytes.
    pub fn new(limit: usize) -> Budget {
        Budget(Arc::new(Inner { limit: AtomicUsize::new(limit), held: Mutex::default(), freed: Notify::new() }))
    }

    /// An empty charge in the name of a feed of `tenant`.
    pub fn charge(&self, tenant: &Arc<str>, content_type: ContentType) -> Charge {
        self.charge_in(Lane::Common, tenant, content_type)
    }

    /// The same for a body that is read beside the others for as long as it takes: with an overdraft that is
    /// taken only by such, so that it neither waits for its own bytes nor keeps the others from theirs.
    pub fn charge_beside(&self, tenant: &Arc<str>, content_type: ContentType) -> Charge {
        self.charge_in(Lane::Beside, tenant, content_type)
    }

    fn charge_in(&self, lane: Lane, tenant: &Arc<str>, content_type: ContentType) -> Charge {
        let over = Mutex::default();
        Charge { budget: self.clone(), tenant: Arc::clone(tenant), content_type, bytes: 0, lane, over }
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
    content_type: ContentType,
    bytes: usize,
    lane: Lane,
    over: Mutex<Over>,
}

/// The overdrafts that a charge has taken.
#[derive(Clone, Copy, Default)]
struct Over {
    /// Over the budget, and with that over every share of it: whoever has this waits for nobody.
    all: bool,
    /// Over the tenant's quarter.
    share: bool,
}

impl Charge {
    /// Waits until `bytes` more fit, then holds them. With `may_overdraw` the wait also ends when
    /// the overdraft that it takes is free; the charge then goes over until it is dropped.
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
        // Over its share it goes only where that leaves one for somebody else.
        let leaves_room = held.total + bytes <= inner.limit() - inner.limit() / TENANT_SHARE;
        let over = *self.over();
        let fits = over.all || fits_all && (fits_tenant || over.share && leaves_room);
        if !(fits || may_overdraw && self.overdraw(&mut held, fits_all, leaves_room)) {
            return false;
        }
        held.add(&self.tenant, bytes);
        self.bytes += bytes;
        true
    }

    /// Takes the overdraft that lets it go on, if it is free.
    fn overdraw(&mut self, held: &mut Held, fits_all: bool, leaves_room: bool) -> bool {
        let mut over = *self.over();
        if leaves_room {
            over.share = held.over_share.insert(self.feed());
            *self.over() = over;
            return over.share;
        }
        if fits_all && !over.share && held.over_share.contains(&self.feed()) {
            // Another body of its feed is the one that goes on.
            return false;
        }
        over.all = !std::mem::replace(&mut held.over_all[self.lane as usize], true);
        *self.over() = over;
        over.all
    }

    fn over(&self) -> MutexGuard<'_, Over> {
        self.over.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets another take the overdrafts from now on; the bytes stay held. For bytes that somebody may keep who is
    /// bounded otherwise, and whom nobody shall wait for.
    pub fn pay_back(&self) {
        let mut held = self.budget.0.held();
        self.end_overdrafts(&mut held);
        drop(held);
        self.budget.0.freed.notify_waiters();
    }

    fn end_overdrafts(&self, held: &mut Held) {
        let over = std::mem::take(&mut *self.over());
        if over.all {
            held.over_all[self.lane as usize] = false;
        }
        if over.share {
            held.over_share.remove(&self.feed());
        }
    }

    fn feed(&self) -> (Arc<str>, ContentType, Lane) {
        (Arc::clone(&self.tenant), self.content_type, self.lane)
    }

    /// Holds `bytes` more without waiting, even over the limit: for what is made of bytes already
    /// held (a part's documents), where waiting would wait for itself.
    pub fn add(&mut self, bytes: usize) {
        self.budget.0.held().add(&self.tenant, bytes);
        self.bytes += bytes;
    }

    /// Moves `bytes` (at most what is held) into a charge of their own. Overdrafts go along
    /// with the first split, so that they are free again when those bytes are done.
    pub fn split(&mut self, bytes: usize) -> Charge {
        let bytes = bytes.min(self.bytes);
        self.bytes -= bytes;
        let mut part = self.budget.charge_in(self.lane, &self.tenant, self.content_type);
        (part.bytes, part.over) = (bytes, std::mem::take(&mut self.over));
        part
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
        self.end_overdrafts(&mut held);
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

    const FEED: ContentType = ContentType::Exchange;

    #[tokio::test]
    async fn a_tenant_holds_no_more_than_a_quarter_and_dropping_gives_back() {
        let budget = Budget::new(400);
        let (a, b) = (Arc::from("a"), Arc::from("b"));
        let mut first = budget.charge(&a, FEED);
        first.reserve(100, false).await;
        let mut second = budget.charge(&a, FEED);
        assert!(waits(&mut second, 1, false).await, "a tenant must not pass its quarter");
        budget.charge(&b, FEED).reserve(100, false).await;
        drop(first);
        second.reserve(100, false).await;
        drop(second);
        assert_eq!(budget.used(), 0);
    }

    #[tokio::test]
    async fn an_overdraft_that_was_paid_back_is_free_for_another_though_its_bytes_are_held() {
        // With nothing of others it is the tenant's quarter that is passed, with three quarters of others the budget.
        for others in [0, 300] {
            let budget = Budget::new(400);
            let (tenant, other) = (Arc::from("a"), Arc::from("b"));
            let mut of_others = budget.charge(&other, FEED);
            of_others.add(others);
            let (mut first, mut second) = (budget.charge(&tenant, FEED), budget.charge(&tenant, FEED));
            first.reserve(100, false).await;
            first.reserve(100, true).await;
            assert!(waits(&mut second, 50, true).await, "{others}: it is taken");
            first.pay_back();
            assert!(!waits(&mut second, 50, true).await, "{others}: it is free");
            drop(first);
            let mut third = budget.charge(&tenant, FEED);
            assert!(waits(&mut third, 100, true).await, "{others}: it is the second's now");
            drop(second);
            third.reserve(100, true).await;
            drop((third, of_others));
            assert_eq!(budget.used(), 0);
        }
    }

    #[tokio::test]
    async fn exactly_one_charge_may_overdraw_until_its_bytes_are_done() {
        let budget = Budget::new(40);
        let feeds = [Arc::from("a"), Arc::from("b")];
        let mut one = budget.charge(&feeds[0], FEED);
        one.reserve(40, true).await;
        one.reserve(10, true).await;
        let mut two = budget.charge(&feeds[1], FEED);
        assert!(waits(&mut two, 10, true).await, "only one overdraft at a time");
        let part = one.split(50);
        assert_eq!((one.bytes(), part.bytes()), (0, 50));
        drop(one);
        assert!(waits(&mut two, 10, true).await, "the overdraft went with the part");
        drop(part);
        two.reserve(10, true).await;
        assert_eq!(budget.used(), 10);
    }

    #[tokio::test]
    async fn one_body_of_each_feed_may_pass_its_tenants_quarter_until_its_bytes_are_done() {
        let budget = Budget::new(400);
        let (a, b): (Arc<str>, Arc<str>) = (Arc::from("a"), Arc::from("b"));
        let mut held_up = budget.charge(&a, FEED);
        held_up.reserve(100, true).await;
        held_up.reserve(10, true).await;
        let held_up = held_up.split(110);
        assert!(waits(&mut budget.charge(&a, FEED), 1, true).await, "what its part waits for, its feed waits for");
        // Neither another feed of the tenant nor another tenant does.
        let mut other_feed = budget.charge(&a, ContentType::Dlp);
        assert!(!waits(&mut other_feed, 10, true).await);
        let mut bodies = [budget.charge(&b, FEED), budget.charge(&b, FEED)];
        for body in &mut bodies {
            body.reserve(50, true).await;
        }
        assert!(!waits(&mut bodies[0], 50, true).await, "half-read bodies of one tenant wait for each other");
        assert!(waits(&mut bodies[1], 50, true).await, "one at a time");
        drop(held_up);
        assert!(!waits(&mut budget.charge(&a, FEED), 1, true).await);
    }

    /// With one of each of its feeds over its quarter a tenant would hold all there is.
    #[tokio::test]
    async fn bodies_over_their_tenants_quarter_leave_a_quarter_to_the_others() {
        let budget = Budget::new(400);
        let (a, b): (Arc<str>, Arc<str>) = (Arc::from("a"), Arc::from("b"));
        // Whoever has the one overdraft of all goes on in any case.
        let mut over_all = budget.charge(&b, FEED);
        over_all.reserve(401, true).await;
        over_all.reserve(1, true).await;
        over_all.shrink_to(1);
        let mut bodies = ContentType::ALL.map(|content_type| budget.charge(&a, content_type));
        for body in &mut bodies {
            while !waits(body, 10, true).await {}
        }
        assert!((290..=300).contains(&budget.used()), "{}", budget.used());
        assert!(!waits(&mut budget.charge(&Arc::from("c"), FEED), 100, false).await, "a quarter for another");
    }

    #[tokio::test]
    async fn a_charge_beside_the_others_overdraws_apart_from_theirs_and_goes_on_alone() {
        let budget = Budget::new(40);
        let a: Arc<str> = Arc::from("a");
        let (mut one, mut two) = (budget.charge_beside(&a, FEED), budget.charge_beside(&a, FEED));
        one.reserve(10, true).await;
        let mut common = budget.charge(&a, FEED);
        common.reserve(10, true).await;
        assert!(!waits(&mut one, 30, true).await, "it must not wait for its own bytes");
        assert!(waits(&mut two, 1, true).await, "one of them at a time");
        assert!(!waits(&mut common, 30, true).await, "the others' is another");
        drop(one);
        assert!(!waits(&mut two, 1, true).await);
    }
}
