//! One tenant's loop: looks after the subscriptions, spawns what its feeds want next, and hears how
//! it ended. At most one listing a feed and a few fetches a tenant are in the air; fetches of all
//! tenants queue for common slots one at a time, so tenants take turns.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;

use super::client::{Client, SubscriptionStatus};
use super::error::ApiError;
use super::feed_run::{FeedRun, Subscribed};
use super::fetch::{FetchContext, FetchError, Fetched, fetch};
use super::grid::{Listing, Next};
use super::listing::{Listed, list};
use crate::ack::{Finalizer, Settlement};
use crate::clock::{Clock, Seconds};
use crate::feed::ContentType;
use crate::metrics::Metrics;
use crate::route::Intake;
use crate::state::{ContentKey, FeedFact};

/// How often the subscriptions are looked at (activity-api 3.8).
const SUBSCRIPTION_CHECK: Seconds = 600;
/// The same while one is not enabled or the look failed.
const SUBSCRIPTION_RETRY: Seconds = 30;
/// Between two starts of a subscription (activity-api 1.5: 15 minutes must pass).
const START_COOL_DOWN: Seconds = 15 * 60 + 5;
/// Longest sleep of the loop, calendar time: a clock that jumped is noticed.
const LONGEST_SLEEP: Seconds = 600;

/// What became of something the loop started.
enum Event {
    Subscriptions(Result<Vec<SubscriptionStatus>, ApiError>),
    Started(usize, Result<(), ApiError>),
    Found(usize, Vec<(ContentKey, i64)>),
    Listed(usize, Listing, Result<Listed, ApiError>),
    FetchBegan,
    Fetched(usize, ContentKey, Result<Fetched, FetchError>),
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
    pub fetch_slots: Arc<Semaphore>,
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
    client: Arc<Client>,
    feeds: Vec<FeedRun>,
    inbox: Arc<Inbox>,
    tasks: JoinSet<()>,
    /// Fetches in the air, and whether one of them waits for its slot.
    fetching: usize,
    is_waiting: bool,
    is_checking: bool,
    next_check: Seconds,
    /// Which feed is asked first for the next fetch.
    turn: usize,
    once: bool,
}

impl TenantRun {
    pub fn new(shared: Arc<Shared>, client: Client, feeds: Vec<FeedRun>, once: bool) -> TenantRun {
        TenantRun {
            shared,
            client: Arc::new(client),
            feeds,
            inbox: Arc::default(),
            tasks: JoinSet::new(),
            fetching: 0,
            is_waiting: false,
            is_checking: false,
            next_check: Seconds::MIN,
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
        loop {
            for event in self.inbox.take() {
                self.hear(event);
            }
            if self.feeds.iter().all(FeedRun::is_at_rest) {
                self.feeds.iter_mut().for_each(|feed| feed.end(now));
                return;
            }
            self.inbox.arrived.notified().await;
        }
    }

    async fn forward(&mut self, stop: &mut watch::Receiver<bool>) {
        let mut intake = self.shared.intake.clone();
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
                _ = stop.wait_for(|stop| *stop) => return,
            }
        }
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
            wake = wake.min(self.feeds[index].review(now));
        }
        wake.min(self.fetch_next(now))
    }

    fn check_subscriptions(&mut self, now: Seconds) -> Seconds {
        if self.is_checking || self.next_check > now {
            return self.next_check.max(now + 1);
        }
        self.is_checking = true;
        self.next_check = now + SUBSCRIPTION_CHECK;
        let (client, inbox) = (Arc::clone(&self.client), Arc::clone(&self.inbox));
        self.tasks.spawn(async move { inbox.push(Event::Subscriptions(client.subscriptions().await)) });
        self.next_check
    }

    fn spawn_listing(&mut self, index: usize, listing: Listing) {
        let feed = &mut self.feeds[index];
        feed.is_listing = true;
        let (client, inbox, state) = (Arc::clone(&self.client), Arc::clone(&self.inbox), feed.state.clone());
        let content_type = feed.feed.content_type;
        self.tasks.spawn(async move {
            let found = |new: &[(ContentKey, i64)]| {
                if !new.is_empty() {
                    inbox.push(Event::Found(index, new.to_vec()));
                }
            };
            let result = list(&client, &state, content_type, listing, found).await;
            inbox.push(Event::Listed(index, listing, result));
        });
    }

    /// Starts a fetch if one may start; the next one starts when this one has its slot.
    fn fetch_next(&mut self, now: Seconds) -> Seconds {
        if self.is_waiting || self.fetching >= self.shared.fetches_per_tenant {
            return Seconds::MAX;
        }
        for offset in 0..self.feeds.len() {
            let index = (self.turn + offset) % self.feeds.len();
            if !self.shared.intake.takes(&self.feeds[index].feed) {
                continue;
            }
            if let Some((key, blob, uri, salvage_it)) = self.feeds[index].next_fetch(now) {
                self.turn = index + 1;
                self.fetching += 1;
                self.is_waiting = true;
                let inbox = Arc::clone(&self.inbox);
                let ack = Finalizer::new(move |settlement| inbox.push(Event::Settled(index, key, settlement)));
                let (shared, client, inbox) =
                    (Arc::clone(&self.shared), Arc::clone(&self.client), Arc::clone(&self.inbox));
                self.tasks.spawn(async move {
                    let slot: Option<OwnedSemaphorePermit> = Arc::clone(&shared.fetch_slots).acquire_owned().await.ok();
                    inbox.push(Event::FetchBegan);
                    let result = fetch(&shared.fetch, &client, &blob, &uri, ack, salvage_it).await;
                    drop(slot);
                    inbox.push(Event::Fetched(index, key, result));
                });
                return Seconds::MAX;
            }
        }
        let open = self.feeds.iter().filter(|feed| self.shared.intake.takes(&feed.feed));
        open.filter_map(|feed| feed.next_fetch_at(now)).min().unwrap_or(Seconds::MAX)
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
            Event::Found(index, new) => {
                self.feeds[index].found(&new);
                false
            }
            Event::Listed(index, listing, result) => self.feeds[index].listed(&listing, result, now),
            Event::FetchBegan => {
                self.is_waiting = false;
                false
            }
            Event::Fetched(index, key, result) => {
                self.fetching -= 1;
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

    /// The service's list of subscriptions: those not enabled are started, the others left alone
    /// (a start without a body could take away somebody's webhook, activity-api 3.8).
    fn subscriptions(&mut self, result: Result<Vec<SubscriptionStatus>, ApiError>, now: Seconds) {
        self.is_checking = false;
        let statuses = match result {
            Ok(statuses) => statuses,
            Err(error) => {
                tracing::warn!(tenant = %self.client_name(), error = %error, "cannot list the subscriptions, trying again");
                self.feeds.iter_mut().for_each(|feed| feed.trouble_text = Some(error.to_string()));
                self.next_check = now + SUBSCRIPTION_RETRY;
                return;
            }
        };
        for index in 0..self.feeds.len() {
            let content_type = self.feeds[index].feed.content_type;
            self.feeds[index].open(now, self.shared.backfill);
            if is_enabled(&statuses, content_type) {
                self.note_subscription(index, now, true, false);
            } else {
                self.start(index, now);
            }
        }
    }

    fn start(&mut self, index: usize, now: Seconds) {
        let started_at = self.feeds[index].state.read(|p| p.subscription.started_at);
        let ready_at = started_at.map_or(now, |at| at + START_COOL_DOWN);
        self.note_subscription(index, now, false, ready_at <= now);
        if ready_at > now {
            self.next_check = self.next_check.min(ready_at);
            return;
        }
        let feed = &self.feeds[index].feed;
        tracing::info!(tenant = %feed.tenant.name, content_type = %feed.content_type, "starting the subscription");
        let content_type = feed.content_type;
        let (client, inbox) = (Arc::clone(&self.client), Arc::clone(&self.inbox));
        self.tasks.spawn(async move { inbox.push(Event::Started(index, client.start(content_type).await)) });
    }

    fn started(&mut self, index: usize, result: Result<(), ApiError>, now: Seconds) {
        let feed = &self.feeds[index].feed;
        let labels = [feed.tenant.name.as_str(), feed.content_type.as_str()];
        let outcome = if result.is_ok() { "ok" } else { "failed" };
        self.shared.metrics.subscription_starts.with_label_values(&[labels[0], labels[1], outcome]).inc();
        match result {
            Ok(()) => self.note_subscription(index, now, true, false),
            Err(error) => {
                tracing::warn!(tenant = labels[0], content_type = labels[1], error = %error,
                    "the subscription could not be started, trying again after its cool-down");
                self.feeds[index].trouble_text = Some(error.to_string());
                self.next_check = self.next_check.min(now + SUBSCRIPTION_RETRY);
            }
        }
    }

    fn note_subscription(&mut self, index: usize, now: Seconds, enabled: bool, started: bool) {
        let feed = &mut self.feeds[index];
        feed.subscribed = if enabled { Subscribed::Yes } else { Subscribed::No };
        let is_news = feed.state.read(|p| p.subscription.enabled != Some(enabled)) || started;
        if is_news {
            feed.state.record(FeedFact::Subscription { at: now, enabled, started });
        }
        let labels = [feed.feed.tenant.name.as_str(), feed.feed.content_type.as_str()];
        self.shared.metrics.subscription_enabled.with_label_values(&labels).set(i64::from(enabled));
    }

    fn client_name(&self) -> &str {
        self.feeds.first().map_or("", |feed| &feed.feed.tenant.name)
    }
}

fn is_enabled(statuses: &[SubscriptionStatus], content_type: ContentType) -> bool {
    let of_type = statuses.iter().find(|s| s.content_type.eq_ignore_ascii_case(content_type.as_str()));
    // A listed subscription without a status is enabled: the documentation's own sample has one.
    of_type.is_some_and(|s| s.status.as_deref().is_none_or(|status| status.eq_ignore_ascii_case("enabled")))
}
