//! The tenant's subscriptions while the process runs: listed at the start and every ten minutes, started
//! where `subscription::decide` says so, believed as they were last seen while they cannot be listed.

use std::sync::Arc;

use super::super::client::SubscriptionStatus;
use super::super::error::ApiError;
use super::super::feed_run::Subscribed;
use super::super::subscription::{Seen, Step, decide};
use super::{Event, TenantRun};
use crate::clock::Seconds;

/// How often the subscriptions are looked at (activity-api 3.8).
const CHECK: Seconds = 600;
/// The same while one is not enabled or the look failed.
const RETRY: Seconds = 30;

impl TenantRun {
    pub(super) fn check_subscriptions(&mut self, now: Seconds) -> Seconds {
        if self.is_checking || self.next_check > now {
            return self.next_check.max(now + 1);
        }
        self.is_checking = true;
        self.next_check = now + CHECK;
        let (client, inbox) = (Arc::clone(&self.client), Arc::clone(&self.inbox));
        self.tasks.spawn(async move { inbox.push(Event::Subscriptions(client.subscriptions().await)) });
        self.next_check
    }

    pub(super) fn subscriptions(&mut self, result: Result<Vec<SubscriptionStatus>, ApiError>, now: Seconds) {
        self.is_checking = false;
        // One answer may tell an absurd time: no book is opened and no hour judged by it.
        if !self.client.server_clock.is_known() {
            let is_answer = result.is_ok();
            self.next_check = now + if is_answer { 1 } else { RETRY };
            if is_answer {
                return;
            }
        }
        match result {
            Ok(statuses) => {
                for index in 0..self.feeds.len() {
                    self.feeds[index].open(now, self.shared.backfill);
                    self.look_after(index, &statuses, now);
                }
            }
            Err(error) => self.cannot_list(&error, now),
        }
    }

    /// Without the list, a subscription that was last seen enabled is used: its content tells soon enough.
    fn cannot_list(&mut self, error: &ApiError, now: Seconds) {
        tracing::warn!(tenant = %self.client_name(), %error, "cannot list the subscriptions, trying again");
        self.next_check = now + RETRY;
        let is_known = self.client.server_clock.is_known();
        for feed in &mut self.feeds {
            feed.note_trouble(Some(error.to_string()));
            let was_enabled = feed.state().read(|p| p.from.is_some() && p.subscription.enabled == Some(true));
            if is_known && was_enabled && feed.subscribed == Subscribed::Unknown {
                feed.open(now, self.shared.backfill);
                feed.subscribed = Subscribed::Yes;
            }
        }
    }

    fn look_after(&mut self, index: usize, statuses: &[SubscriptionStatus], now: Seconds) {
        let feed = &mut self.feeds[index];
        feed.alarm_if_unsubscribed(now);
        if feed.is_starting {
            return;
        }
        let seen = Seen::of(statuses, feed.feed().content_type);
        let known = feed.state().read(|p| p.subscription.clone());
        let (tenant, content_type) = (feed.feed().tenant.name.clone(), feed.feed().content_type);
        match decide(seen, &known, feed.is_denied(), now) {
            Step::Use => self.feeds[index].note_subscription(true, false, now),
            Step::Spare => {
                tracing::warn!(tenant, %content_type, "content is refused though the subscription is listed as enabled; \
                    it has a webhook, which a start would take away, so it is not started: start it anew by hand");
                feed.subscribed = Subscribed::Yes;
            }
            Step::Wait(until) => {
                self.feeds[index].note_subscription(false, false, now);
                // It may show before.
                self.next_check = self.next_check.min(until).min(now + RETRY);
            }
            Step::Start => {
                if seen.has_webhook {
                    tracing::warn!(tenant, %content_type, "the subscription is disabled and has a webhook, which the start takes away");
                }
                tracing::info!(tenant, %content_type, listed_as_enabled = seen.is_enabled, "starting the subscription");
                // Its cool-down is written down when it is answered: after a crash on the way the service's own list
                // tells whether it arrived, and a cool-down for one that did not would lose the edge of retention.
                self.feeds[index].note_subscription(false, false, now);
                self.feeds[index].is_starting = true;
                let (client, inbox) = (Arc::clone(&self.client), Arc::clone(&self.inbox));
                self.tasks.spawn(async move { inbox.push(Event::Started(index, client.start(content_type).await)) });
            }
        }
    }

    pub(super) fn started(&mut self, index: usize, result: Result<(), ApiError>, now: Seconds) {
        // It may have waited for its turn: the cool-down counts from when it was sent, which is hardly before now.
        self.feeds[index].is_starting = false;
        self.feeds[index].note_subscription(result.is_ok(), true, now);
        self.feeds[index].state().hurry();
        let feed = self.feeds[index].feed();
        let labels = [feed.tenant.name.as_str(), feed.content_type.as_str()];
        let outcome = if result.is_ok() { "ok" } else { "failed" };
        self.shared.metrics.subscription_starts.with_label_values(&[labels[0], labels[1], outcome]).inc();
        if let Err(error) = result {
            tracing::warn!(tenant = labels[0], content_type = labels[1], %error,
                "the subscription could not be started, trying again after its cool-down");
            self.feeds[index].note_trouble(Some(error.to_string()));
            self.next_check = self.next_check.min(now + RETRY);
        }
    }
}
