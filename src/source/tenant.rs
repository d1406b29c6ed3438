//! One tenant's loop: looks after the subscriptions, spawns what its feeds want next, and hears how
//! it ended. At most one listing a feed and a few fetches a tenant are in the air; tenants take turns at
//! fetching, and each waits for one turn at a time.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;

use super::client::{Client, SubscriptionStatus};
use super::error::ApiError;
use super::feed_run::{Attempt, FeedRun};
use super::fetch::{FetchContext, FetchError, Fetched, fetch};
use super::grid::{Listing, Next};
use super::listing::{Found, Listed, list};
use super::throttle::Throttle;
use super::trouble::Manner;
use super::turns::{TenantNumber, Turn, Turns};
use crate::ack::{Finalizer, Settlement};
use crate::clock::{Clock, Seconds};
use crate::metrics::Metrics;
use crate::route::Intake;
use crate::state::ContentKey;

/// Longest sleep of the loop, calendar time: a clock that jumped is noticed.
const LONGEST_SLEEP: Seconds = 600;

/// The service's time going back further than this is a clock that was set, not an answer that was slow.
const SET_BACK: Seconds = 60;

/// What became of something the loop started.
enum Event {
    Subscriptions(Result<Vec<SubscriptionStatus>, ApiError>),
    Started(usize, Result<(), ApiError>),
    Found(usize, Found),
    Listed(usize, Listing, Result<Listed, ApiError>),
    FetchBegan,
    Fetched(usize, ContentKey, Manner, Result<Fetched, FetchError>),
    Settled(usize, ContentKey, Settlement),
}

/// Events for the loop. Not a channel, because verdicts are given where nothing may wait; bounded all
/// the same by what the loop itself put into the air.
#[derive(Default)]
struct Inbox {
    events: Mutex<Vec<Event>>,
    arrived: Notify,
}

impl Inbox {
    fn push(&self, event: Event) {
        self.events.lock().unwrap_or_else(PoisonError::into_inner).push(event);
        self.arrived.notify_one();
    }

    fn take(&self) -> Vec<Event> {
        std::mem::take(&mut *self.events.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// What all tenants share.
pub struct Shared {
    pub fetch: FetchContext,
    /// Bodies read at once, and beside them the slow ones.
    pub turns: Turns,
    pub slow_lane: Turns,
    pub fetches_per_tenant: usize,
    pub clock: Clock,
    pub poll_interval: Duration,
    pub backfill: Duration,
    /// Which feeds may fetch something new: not those that need a sink that is down.
    pub intake: Intake,
    pub metrics: Arc<Metrics>,
}

pub struct TenantRun {
    shared: Arc<Shared>,
    /// Which tenant this is, where they take turns.
    number: TenantNumber,
    client: Arc<Client>,
    feeds: Vec<FeedRun>,
    inbox: Arc<Inbox>,
    tasks: JoinSet<()>,
    /// Fetches in the air, and whether one of them waits for its slot.
    fetching: usize,
    is_waiting: bool,
    is_checking: bool,
    next_check: Seconds,
    /// The latest time seen.
    latest: Seconds,
    /// Which feed is asked first for the next fetch.
    turn: usize,
    once: bool,
}

impl TenantRun {
    pub fn new(
        shared: Arc<Shared>,
        number: TenantNumber,
        client: Client,
        feeds: Vec<FeedRun>,
        once: bool,
    ) -> TenantRun {
        TenantRun {
            shared,
            number,
            client: Arc::new(client),
            feeds,
            inbox: Arc::default(),
            tasks: JoinSet::new(),
            fetching: 0,
            is_waiting: false,
            is_checking: false,
            next_check: Seconds::MIN,
            latest: Seconds::MIN,
            turn: 0,
            once,
        }
    }

    /// Runs until `stop` and then until what has been read whole is done; or until everything is
    /// done if this is a run that ends. Bodies half read at a stop are dropped, which counts as lost:
    /// they are fetched again at the next start.
    pub async fn run(mut self, mut stop: watch::Receiver<bool>) {
        self.forward(&mut stop).await;
        self.tasks.shutdown().await;
        for event in self.inbox.take() {
            self.hear(event);
        }
        let now = self.client.server_clock.now();
        self.feeds.iter_mut().for_each(|feed| feed.drain(now));
        self.feeds.iter().for_each(|feed| feed.books.put_down_listings());
        loop {
            for event in self.inbox.take() {
                self.hear(event);
            }
            if self.feeds.iter().all(FeedRun::is_at_rest) {
                self.feeds.iter_mut().for_each(|feed| feed.books.end(now));
                return;
            }
            self.inbox.arrived.notified().await;
        }
    }

    async fn forward(&mut self, stop: &mut watch::Receiver<bool>) {
        let mut intake = self.shared.intake.clone();
        let client = Arc::clone(&self.client);
        let mut changed = std::pin::pin!(client.credential_changed());
        loop {
            for event in self.inbox.take() {
                self.hear(event);
            }
            while let Some(ended) = self.tasks.try_join_next() {
                if let Err(error) = ended
                    && error.is_panic()
                {
                    // Its feed would wait for it for ever; the app ends the process instead.
                    std::panic::resume_unwind(error.into_panic());
                }
            }
            if self.once && self.feeds.iter().all(FeedRun::is_done_once) {
                return;
            }
            let now = self.client.server_clock.now();
            self.heed_time(now);
            let wake = self.act(now).clamp(now + 1, now + LONGEST_SLEEP);
            let nap_ms = wake * 1000 - self.client.server_clock.now_ms();
            let nap = Duration::from_millis(u64::try_from(nap_ms).unwrap_or(0).max(1));
            let inbox = Arc::clone(&self.inbox);
            tokio::select! {
                () = inbox.arrived.notified() => {}
                () = self.shared.clock.sleep(nap) => {}
                // Once nobody judges the intake any more (no sink is required) it stays as it is; without
                // the pattern this would be ready for ever and the loop never sleep.
                Ok(()) = intake.changed() => {}
                () = &mut changed => {
                    changed.set(client.credential_changed());
                    self.next_check = Seconds::MIN;
                    self.feeds.iter_mut().for_each(FeedRun::credential_changed);
                }
                _ = stop.wait_for(|stop| *stop) => return,
            }
        }
    }

    /// A time that goes back leaves nothing waiting for what would come only much later.
    fn heed_time(&mut self, now: Seconds) {
        if now < self.latest.saturating_sub(SET_BACK) {
            tracing::info!(tenant = %self.client_name(), seconds = self.latest - now, "the service's time went back");
            self.next_check = Seconds::MIN;
            self.feeds.iter_mut().for_each(|feed| feed.rewind(now));
        }
        self.latest = now;
    }

    /// Starts everything that is due; returns when to look again.
    fn act(&mut self, now: Seconds) -> Seconds {
        let mut wake = self.check_subscriptions(now);
        let poll = Seconds::try_from(self.shared.poll_interval.as_secs()).unwrap_or(Seconds::MAX).max(1);
        for index in 0..self.feeds.len() {
            match self.feeds[index].next_listing(now, poll) {
                Next::Now(listing) => self.spawn_listing(index, listing),
                Next::At(at) => wake = wake.min(at),
            }
            wake = wake.min(self.feeds[index].books.review(now));
        }
        wake.min(self.fetch_next(now))
    }

    fn spawn_listing(&mut self, index: usize, listing: Listing) {
        let feed = &mut self.feeds[index];
        feed.is_listing = true;
        let (client, inbox, state) = (Arc::clone(&self.client), Arc::clone(&self.inbox), feed.state().clone());
        let content_type = feed.feed().content_type;
        self.tasks.spawn(async move {
            let found = |found: Found| {
                if !found.is_empty() {
                    inbox.push(Event::Found(index, found));
                }
            };
            let result = list(&client, &state, content_type, listing, found).await;
            inbox.push(Event::Listed(index, listing, result));
        });
    }

    /// Starts a fetch if one may start; the next one starts when this one has its turn.
    fn fetch_next(&mut self, now: Seconds) -> Seconds {
        while !self.is_waiting && self.fetching < self.shared.fetches_per_tenant {
            let feeds = self.feeds.len();
            let (turn, intake) = (self.turn, &self.shared.intake);
            let next = (0..feeds).map(|offset| (turn + offset) % feeds).find_map(|index| {
                let feed = &mut self.feeds[index];
                intake.takes(feed.feed()).then(|| feed.next_fetch(now)).flatten().map(|attempt| (index, attempt))
            });
            let Some((index, attempt)) = next else {
                let open = self.feeds.iter().filter(|feed| self.shared.intake.takes(feed.feed()));
                return open.filter_map(|feed| feed.next_fetch_at(now)).min().unwrap_or(Seconds::MAX);
            };
            self.turn = index + 1;
            self.spawn_fetch(index, attempt);
        }
        Seconds::MAX
    }

    fn spawn_fetch(&mut self, index: usize, attempt: Attempt) {
        let Attempt { key, blob, uri, manner } = attempt;
        // A slow one goes beside the others, and neither it nor its wait keeps them.
        if !manner.slow {
            self.fetching += 1;
            self.is_waiting = true;
        }
        let inbox = Arc::clone(&self.inbox);
        let ack = Finalizer::new(move |settlement| inbox.push(Event::Settled(index, key, settlement)));
        let (shared, client, inbox) = (Arc::clone(&self.shared), Arc::clone(&self.client), Arc::clone(&self.inbox));
        let number = self.number;
        self.tasks.spawn(async move {
            let lane = if manner.slow { &shared.slow_lane } else { &shared.turns };
            let turn = turn(lane, number, &client.throttle).await;
            if !manner.slow {
                inbox.push(Event::FetchBegan);
            }
            let result = fetch(&shared.fetch, &client, &blob, &uri, ack, manner).await;
            drop(turn);
            inbox.push(Event::Fetched(index, key, manner, result));
        });
    }

    fn hear(&mut self, event: Event) {
        let now = self.client.server_clock.now();
        let needs_attention = match event {
            Event::Subscriptions(result) => {
                self.subscriptions(result, now);
                false
            }
            Event::Started(index, result) => {
                self.started(index, result, now);
                false
            }
            Event::Found(index, found) => {
                self.feeds[index].found(&found);
                false
            }
            Event::Listed(index, listing, result) => self.feeds[index].listed(&listing, result, now),
            Event::FetchBegan => {
                self.is_waiting = false;
                false
            }
            Event::Fetched(index, key, manner, result) => {
                self.fetching -= usize::from(!manner.slow);
                self.feeds[index].fetched(key, result, now)
            }
            Event::Settled(index, key, settlement) => {
                self.feeds[index].settled(key, settlement, now);
                false
            }
        };
        if needs_attention {
            self.next_check = self.next_check.min(now + 1);
        }
    }

    fn client_name(&self) -> &str {
        self.feeds.first().map_or("", |feed| &feed.feed().tenant.name)
    }
}

/// Waits for a turn at fetching; while the service has the whole tenant pause, which may be an hour, it holds none.
async fn turn(lane: &Turns, number: TenantNumber, throttle: &Throttle) -> Option<Turn> {
    loop {
        throttle.pause_ended().await;
        let turn = lane.turn(number).await;
        if throttle.pause().is_none() {
            return turn;
        }
    }
}

mod subscriptions;

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt as _;

    #[tokio::test]
    async fn a_tenant_that_must_pause_holds_no_turn() {
        let clock = Clock::following(1_000_000_000_000);
        let throttle = Throttle::new(clock.clone(), 1000);
        let lane = Turns::new(1);
        assert!(turn(&lane, 0, &throttle).now_or_never().is_some());
        // One that waits already when the service says so.
        let first = lane.turn(1).await;
        let mut waiting = Box::pin(turn(&lane, 0, &throttle));
        assert!(waiting.as_mut().now_or_never().is_none());
        throttle.refused(Some(Duration::from_secs(600)));
        assert!(turn(&lane, 2, &throttle).now_or_never().is_none());
        drop(first);
        assert!(waiting.as_mut().now_or_never().is_none());
        assert!(lane.turn(3).now_or_never().flatten().is_some(), "the turn is free for others");
    }
}
