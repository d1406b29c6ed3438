//! Turns at fetching, over all tenants: so many bodies are read at once and no more, and whoever holds the
//! fewest is served next. A last quarter is kept for tenants that hold none, so that a few floods of long
//! bodies (or of bodies that wait for their tenant's share of memory) do not keep a quiet tenant waiting.
//!
//! Comes in: a tenant's wish. Goes out: a [`Turn`], given back when dropped. Never gives more than there are.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

/// The part kept for tenants without any.
const KEPT: usize = 4;

/// A tenant, by its position in the configuration.
pub type TenantNumber = usize;

/// See the module's head. Cheap to clone.
#[derive(Clone)]
pub struct Turns(Arc<Mutex<Inner>>);

struct Inner {
    free: usize,
    kept: usize,
    held: HashMap<TenantNumber, usize>,
    waiting: VecDeque<(TenantNumber, oneshot::Sender<Turn>)>,
}

/// Leave to read one body.
pub struct Turn {
    turns: Turns,
    tenant: TenantNumber,
    is_held: bool,
}

impl Turns {
    /// `count` at once.
    pub fn new(count: usize) -> Turns {
        let count = count.max(1);
        Turns(Arc::new(Mutex::new(Inner {
            free: count,
            kept: count / KEPT,
            held: HashMap::new(),
            waiting: VecDeque::new(),
        })))
    }

    /// Waits for a turn; a wait that is given up costs nobody anything.
    pub async fn turn(&self, tenant: TenantNumber) -> Option<Turn> {
        let (give, given) = oneshot::channel();
        {
            let mut inner = self.lock();
            inner.waiting.push_back((tenant, give));
            self.serve(&mut inner);
        }
        given.await.ok()
    }

    /// Gives out what is free: to the waiting tenant with the fewest, the first to come among equals.
    fn serve(&self, inner: &mut Inner) {
        loop {
            let holds = |tenant: &TenantNumber| inner.held.get(tenant).copied().unwrap_or(0);
            let next = inner.waiting.iter().enumerate().min_by_key(|(at, (tenant, _))| (holds(tenant), *at));
            let Some((at, (tenant, _))) = next else { return };
            let needs = if holds(tenant) == 0 { 1 } else { 1 + inner.kept };
            if inner.free < needs {
                return;
            }
            let Some((tenant, give)) = inner.waiting.remove(at) else { return };
            let turn = Turn { turns: self.clone(), tenant, is_held: true };
            match give.send(turn) {
                Ok(()) => {
                    inner.free -= 1;
                    *inner.held.entry(tenant).or_default() += 1;
                }
                // Nobody waits any more: it was never held.
                Err(mut turn) => turn.is_held = false,
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if !self.is_held {
            return;
        }
        let mut inner = self.turns.lock();
        inner.free += 1;
        if let Some(held) = inner.held.get_mut(&self.tenant) {
            *held -= 1;
            if *held == 0 {
                inner.held.remove(&self.tenant);
            }
        }
        self.turns.serve(&mut inner);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt as _;

    /// As many turns as `tenant` can have now.
    fn grab(turns: &Turns, tenant: TenantNumber) -> Vec<Turn> {
        std::iter::from_fn(|| turns.turn(tenant).now_or_never().flatten()).collect()
    }

    #[test]
    fn floods_do_not_take_the_last_quarter_from_a_tenant_that_holds_none() {
        let turns = Turns::new(16);
        let floods = [grab(&turns, 0), grab(&turns, 1)];
        assert_eq!([floods[0].len(), floods[1].len()], [12, 1]);
        for quiet in 2..5 {
            assert_eq!(grab(&turns, quiet).len(), 1, "tenant {quiet}");
        }
    }

    #[tokio::test]
    async fn tenants_take_turns_whoever_came_first() {
        let turns = Turns::new(4);
        let mut held = grab(&turns, 0);
        let order = Arc::new(Mutex::new(Vec::new()));
        let mut tasks = tokio::task::JoinSet::new();
        for tenant in [0, 0, 0, 1, 1, 2] {
            let (turns, order) = (turns.clone(), Arc::clone(&order));
            let mut waiting = Box::pin(async move {
                let turn = turns.turn(tenant).await;
                order.lock().unwrap().push(tenant);
                tokio::task::yield_now().await;
                turn
            });
            assert!(futures_util::poll!(&mut waiting).is_pending() || tenant != 0);
            tasks.spawn(async move { drop(waiting.await) });
        }
        while let Some(turn) = held.pop() {
            drop(turn);
            tokio::task::yield_now().await;
        }
        while tasks.join_next().await.is_some() {}
        let order = order.lock().unwrap().clone();
        let last_of_others = order.iter().rposition(|tenant| *tenant != 0).unwrap();
        let noisy_before = order[..last_of_others].iter().filter(|tenant| **tenant == 0).count();
        assert!(noisy_before <= 1, "{order:?}");
        assert_eq!(grab(&turns, 7).len(), 3, "all came back, one of four is kept");
    }

    #[test]
    fn a_wait_given_up_is_not_served() {
        let turns = Turns::new(1);
        let first = turns.turn(0).now_or_never().flatten().unwrap();
        drop(Box::pin(turns.turn(1)));
        let mut given_up = Box::pin(turns.turn(1));
        assert!(given_up.as_mut().now_or_never().is_none());
        drop(given_up);
        drop(first);
        assert!(turns.turn(2).now_or_never().flatten().is_some());
    }
}
