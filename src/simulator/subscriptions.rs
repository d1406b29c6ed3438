//! Subscriptions of each feed: never started, enabled, disabled, stopped; the pause between two
//! starts (activity-api 1.5).

use std::sync::{Mutex, PoisonError};

use super::settings::ContentType;

/// The state of one subscription; times in virtual milliseconds.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Subscription {
    pub state: State,
    /// When it was first started: content is listed from then on, plus a delay.
    pub first_start_ms: i64,
    last_start_ms: Option<i64>,
    /// When it was last enabled by a start.
    pub enabled_ms: Option<i64>,
    /// How often the scenario has disabled it, and listings since it was last enabled.
    disabled: u32,
    listings: u32,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum State {
    #[default]
    NeverStarted,
    Enabled,
    Disabled,
}

/// How `start` went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Start {
    pub outcome: StartOutcome,
    /// Less than the cool-down since the last `start`.
    pub too_soon: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StartOutcome {
    Started,
    /// Nothing to change: AF20024.
    Redundant,
    Refused,
}

/// All subscriptions.
#[derive(Debug)]
pub(super) struct Subscriptions(Vec<[Mutex<Subscription>; 5]>);

impl Subscriptions {
    /// With `since`: all of them have been enabled since then.
    pub(super) fn new(tenants: usize, since: Option<i64>) -> Subscriptions {
        let one = || {
            Mutex::new(since.map_or_else(Subscription::default, |ms| Subscription {
                state: State::Enabled,
                first_start_ms: ms,
                ..Subscription::default()
            }))
        };
        Subscriptions((0..tenants).map(|_| std::array::from_fn(|_| one())).collect())
    }

    fn at(&self, tenant: usize, kind: ContentType) -> std::sync::MutexGuard<'_, Subscription> {
        self.0[tenant][kind.index()].lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn get(&self, tenant: usize, kind: ContentType) -> Subscription {
        *self.at(tenant, kind)
    }

    pub(super) fn start(&self, tenant: usize, kind: ContentType, now_ms: i64, cooldown_ms: i64) -> Start {
        let mut subscription = self.at(tenant, kind);
        let too_soon = subscription.last_start_ms.is_some_and(|last| now_ms - last < cooldown_ms);
        let outcome = match subscription.state {
            State::Enabled => StartOutcome::Redundant,
            _ if too_soon => StartOutcome::Refused,
            State::NeverStarted | State::Disabled => {
                if subscription.state == State::NeverStarted {
                    subscription.first_start_ms = now_ms;
                }
                subscription.state = State::Enabled;
                subscription.listings = 0;
                StartOutcome::Started
            }
        };
        // A refused start does not push the next one further away.
        if outcome != StartOutcome::Refused {
            subscription.last_start_ms = Some(now_ms);
        }
        if outcome == StartOutcome::Started {
            subscription.enabled_ms = Some(now_ms);
        }
        Start { outcome, too_soon }
    }

    pub(super) fn disable(&self, tenant: usize, kind: ContentType) {
        let mut subscription = self.at(tenant, kind);
        if subscription.state == State::Enabled {
            subscription.state = State::Disabled;
        }
    }

    /// Counts a listing; disables at the `at`-th one after a start, at most `times` times.
    pub(super) fn wear(&self, tenant: usize, kind: ContentType, at: u32, times: u32) {
        let mut subscription = self.at(tenant, kind);
        subscription.listings += 1;
        if subscription.state == State::Enabled && subscription.listings >= at && subscription.disabled < times {
            subscription.disabled += 1;
            subscription.state = State::Disabled;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_start_waits_for_the_cool_down() {
        let all = Subscriptions::new(1, None);
        let kind = ContentType::General;
        let start = |now| all.start(0, kind, now, 900).outcome;
        assert_eq!(start(0), StartOutcome::Started);
        assert_eq!(start(1000), StartOutcome::Redundant);
        all.disable(0, kind);
        assert_eq!(start(1500), StartOutcome::Refused);
        assert_eq!(start(1900), StartOutcome::Started);
        assert_eq!(all.get(0, kind).first_start_ms, 0);
        assert_eq!(all.get(0, ContentType::Exchange).state, State::NeverStarted);
    }
}
