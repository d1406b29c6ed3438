//! What keeps feeds from going on, in words, for `/status`: the last word of each feed that rests or is
//! refused, gone when it goes on. Kept in memory only.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::feed::FeedKey;

/// The values of the `reason` label of `feed_trouble`: troubles that do not pass by themselves.
pub const REASONS: [&str; 3] = [PERMISSION, SUBSCRIPTION, CLOUD_HOST];
/// Token or permission is refused.
pub const PERMISSION: &str = "permission";
/// Content is refused for want of a subscription, for over an hour.
pub const SUBSCRIPTION: &str = "subscription";
/// Content ids are invalid one after the other: the host is another cloud's.
pub const CLOUD_HOST: &str = "cloud_host";

/// See the module's head. Cheap to clone.
#[derive(Clone, Default)]
pub struct Troubles(Arc<Mutex<HashMap<FeedKey, String>>>);

impl Troubles {
    /// What keeps the feed, or that nothing does.
    pub fn set(&self, feed: &FeedKey, text: Option<String>) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match text {
            Some(text) => drop(all.insert(feed.clone(), text)),
            None => drop(all.remove(feed)),
        }
    }

    pub fn of(&self, feed: &FeedKey) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(feed).cloned()
    }
}
