//! What a refusal means for a feed as a whole: how long it rests, what is said of it, and when the
//! subscription must be looked after. Nothing is given up here.

use super::super::error::ApiError;
use super::super::troubles::{CLOUD_HOST, PERMISSION, REASONS, SUBSCRIPTION};
use super::{FeedRun, Subscribed};
use crate::clock::Seconds;
use crate::state::ContentKey;

/// How long a feed rests after its permission or token was refused, or while the tenant is being set
/// up: doubling from the first to these, since one refusal may be a hiccup and many are a setting.
const FIRST_REST: Seconds = 15;
const UNAUTHORIZED_REST: Seconds = 15 * 60;
const UNPROVISIONED_REST: Seconds = 30 * 60;
/// And after the service said there is no enabled subscription, whatever its list says.
const UNSUBSCRIBED_REST: Seconds = 30;
/// Refused so long for want of a subscription, and healing alone does not seem to help (activity-api 1.10).
const UNSUBSCRIBED_ALARM: Seconds = 3600;
/// So many different content ids called invalid one after the other are no accident of one blob: the host is that
/// of another cloud (activity-api 1.1).
pub(super) const INVALID_BURST: usize = 10;

impl FeedRun {
    /// What a refusal means for the feed as a whole. Returns true when the subscription must be looked after.
    pub(super) fn react(&mut self, error: &ApiError, now: Seconds) -> bool {
        let longest = match error {
            ApiError::Unauthorized { .. } => UNAUTHORIZED_REST,
            ApiError::Unprovisioned { .. } => UNPROVISIONED_REST,
            ApiError::NotSubscribed { .. } => {
                self.is_denied = true;
                self.note_subscription(false, false, now);
                self.rest_until = now + UNSUBSCRIBED_REST;
                self.note_trouble(Some(error.to_string()));
                return true;
            }
            ApiError::ForbiddenUrl { url, reason } => {
                let tenant = self.feed().tenant.name.as_str();
                self.books.metrics.api_refused_urls.with_label_values(&[tenant]).inc();
                tracing::error!(
                    tenant,
                    url,
                    reason,
                    "the service named a URL outside the pinned host; no request was sent, it will be listed again"
                );
                return false;
            }
            _ => return false,
        };
        // Several requests in the air are refused together; that is one refusal.
        if self.rest_until > now {
            return false;
        }
        let rest = FIRST_REST.saturating_mul(1 << self.refusals.min(10)).min(longest);
        self.refusals += 1;
        if self.refusals >= 3 {
            tracing::error!(tenant = %self.feed().tenant.name, content_type = %self.feed().content_type, error = %error, rest,
                "the service refuses this feed; it rests and is tried again, its cells stay open");
            self.show(PERMISSION, true);
        }
        self.rest_until = now + rest;
        self.note_trouble(Some(error.to_string()));
        false
    }

    /// The tenant signs in with something else now: what the old was refused says nothing of it.
    pub fn credential_changed(&mut self) {
        if self.refusals > 0 {
            (self.rest_until, self.refusals) = (Seconds::MIN, 0);
        }
    }

    /// A content id was called invalid: of many in a row the host is to blame, and nothing is fetched for
    /// a while, nor given up.
    pub(super) fn invalid_id(&mut self, key: ContentKey, error: &ApiError, now: Seconds) {
        if self.invalid_ids.len() < INVALID_BURST {
            self.invalid_ids.insert(key);
        }
        if self.invalid_ids.len() < INVALID_BURST || self.fetch_rest_until > now {
            return;
        }
        let rest = FIRST_REST.saturating_mul(1 << self.invalid_rests.min(10)).min(UNAUTHORIZED_REST);
        self.invalid_rests = self.invalid_rests.saturating_add(1);
        self.fetch_rest_until = now + rest;
        tracing::error!(tenant = %self.feed().tenant.name, content_type = %self.feed().content_type, %error, rest,
            "one content id after the other is called invalid: is `cloud` (or `endpoints`) that of the tenant? nothing is given up for it");
        self.show(CLOUD_HOST, true);
        self.note_trouble(Some(format!("content ids are called invalid, is `cloud` that of the tenant? {error}")));
    }

    pub(super) fn ids_are_good(&mut self) {
        self.invalid_rests = 0;
        if std::mem::take(&mut self.invalid_ids).len() >= INVALID_BURST {
            self.fetch_rest_until = Seconds::MIN;
            self.show(CLOUD_HOST, false);
            self.note_trouble(None);
        }
    }

    /// Whether content was refused for want of a subscription since it was last listed.
    pub fn is_denied(&self) -> bool {
        self.is_denied
    }

    /// What the tenant's look at its subscriptions came to, or the content's refusal. While content was
    /// refused, only its being listed again says that the subscription is enabled: until then is the gap in
    /// which the service may have kept nothing.
    pub fn note_subscription(&mut self, enabled: bool, started: bool, now: Seconds) {
        self.subscribed = if enabled { Subscribed::Yes } else { Subscribed::No };
        if !enabled {
            self.unsubscribed_since.get_or_insert(now);
        }
        // While content is refused an answer of "enabled" is not yet believed.
        if started || !(enabled && self.is_denied) {
            self.books.subscription(enabled && !self.is_denied, started, now);
        }
    }

    /// Says so when healing has not helped for an hour.
    pub fn alarm_if_unsubscribed(&mut self, now: Seconds) {
        let Some(since) = self.unsubscribed_since.filter(|since| now - since >= UNSUBSCRIBED_ALARM) else { return };
        tracing::error!(tenant = %self.feed().tenant.name, content_type = %self.feed().content_type, since,
            "the service has refused this feed's content for over an hour as not subscribed; starting it goes on, look at the tenant");
        self.show(SUBSCRIPTION, true);
    }

    /// What keeps the feed, for `/status`; `None`: nothing does.
    pub fn note_trouble(&self, text: Option<String>) {
        self.troubles.set(&self.feed().key(), text);
    }

    pub(super) fn show(&self, reason: &'static str, is_on: bool) {
        debug_assert!(REASONS.contains(&reason));
        let [tenant, content_type] = self.books.labels();
        self.books.metrics.feed_trouble.with_label_values(&[tenant, content_type, reason]).set(i64::from(is_on));
    }
}
