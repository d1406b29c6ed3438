//! What to do about a feed's subscription. Pure: what the service's list says, what its content says and
//! what we did go in; whether to start it comes out. Nothing here or elsewhere ever stops one: what is
//! published between a stop and a start is gone (activity-api 1.5).

use super::client::SubscriptionStatus;
use crate::clock::Seconds;
use crate::feed::ContentType;
use crate::state::Subscription;

/// Between two starts of a subscription (activity-api 1.5: 15 minutes must pass).
pub const START_COOL_DOWN: Seconds = 15 * 60 + 5;
/// A start further in the future than this was written down by a clock that was wrong.
const FUTURE: Seconds = 60;

/// What the service's list says of a content type.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    pub is_enabled: bool,
    /// Somebody is notified by webhook: a start without a body would take it away.
    pub has_webhook: bool,
}

impl Seen {
    /// A type that is not listed has no subscription. One without a status is enabled: the documentation's own
    /// sample has one (activity-api 1.4).
    pub fn of(statuses: &[SubscriptionStatus], content_type: ContentType) -> Seen {
        let of_type = statuses.iter().find(|s| s.content_type.eq_ignore_ascii_case(content_type.as_str()));
        of_type.map_or(Seen::default(), |s| Seen {
            is_enabled: s.status.as_deref().is_none_or(|status| status.eq_ignore_ascii_case("enabled")),
            has_webhook: s.webhook.as_ref().is_some_and(|webhook| !webhook.is_null()),
        })
    }
}

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Ask for content.
    Use,
    /// Start it and ask for content.
    Start,
    /// Content is refused though the list says enabled, and a start could take away somebody's webhook:
    /// ask for content all the same, and say so.
    Spare,
    /// Not enabled, and started too short a time ago: wait until then.
    Wait(Seconds),
}

/// Decides. `is_denied`: content was refused for want of a subscription since it was last listed.
pub fn decide(seen: Seen, known: &Subscription, is_denied: bool, now: Seconds) -> Step {
    let started_at = known.started_at.filter(|at| *at <= now + FUTURE);
    let ready_at = started_at.map_or(now, |at| at + START_COOL_DOWN);
    let is_ready = ready_at <= now;
    match (seen.is_enabled, is_denied) {
        (true, false) => Step::Use,
        (true, true) if seen.has_webhook => Step::Spare,
        // A start that was taken and does not show yet, in the list or in the content: that may take minutes.
        (true, true) if !is_ready => Step::Use,
        (false, false) if !is_ready && known.enabled == Some(true) => Step::Use,
        (false, _) if !is_ready => Step::Wait(ready_at),
        _ => Step::Start,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Seconds = 1_000_000;

    fn seen(text: &str) -> Seen {
        let statuses: Vec<SubscriptionStatus> = serde_json::from_str(text).unwrap();
        Seen::of(&statuses, ContentType::Exchange)
    }

    #[test]
    fn the_list_is_read_in_any_case_and_without_a_status() {
        let on = Seen { is_enabled: true, has_webhook: false };
        assert_eq!(seen(r#"[{"contentType":"AUDIT.exchange","status":"Enabled","webhook":null}]"#), on);
        assert_eq!(seen(r#"[{"contentType":"Audit.Exchange"}]"#), on);
        assert_eq!(seen(r#"[{"contentType":"Audit.General","status":"enabled"}]"#), Seen::default());
        let webhook = r#"[{"contentType":"Audit.Exchange","status":"disabled","webhook":{"address":"https://x"}}]"#;
        assert_eq!(seen(webhook), Seen { is_enabled: false, has_webhook: true });
    }

    #[test]
    fn a_start_is_sent_when_needed_once_a_cool_down_and_never_over_a_webhook() {
        let (on, off) = (Seen { is_enabled: true, has_webhook: false }, Seen::default());
        let hook = Seen { has_webhook: true, ..on };
        let known = |started_ago: Option<Seconds>, enabled| Subscription {
            started_at: started_ago.map(|ago| NOW - ago),
            enabled,
            disabled_since: None,
        };
        let (never, lately, long_ago) = (known(None, None), known(Some(60), Some(true)), known(Some(906), Some(true)));
        let table = [
            (on, &never, false, Step::Use),
            (off, &never, false, Step::Start),
            // Disabled by somebody.
            (off, &long_ago, false, Step::Start),
            // Started, and the list or the content lags.
            (off, &lately, false, Step::Use),
            (on, &lately, true, Step::Use),
            (off, &lately, true, Step::Wait(NOW + START_COOL_DOWN - 60)),
            // It lags for longer than the cool-down.
            (on, &long_ago, true, Step::Start),
            (on, &never, true, Step::Start),
            // Somebody's webhook.
            (hook, &long_ago, true, Step::Spare),
            (hook, &long_ago, false, Step::Use),
            (Seen { has_webhook: true, ..off }, &long_ago, true, Step::Start),
        ];
        for (seen, known, is_denied, step) in table {
            assert_eq!(decide(seen, known, is_denied, NOW), step, "{seen:?} {known:?} {is_denied}");
        }
        // A start that failed, or was cut off by a crash after it was written down, counts all the same.
        assert_eq!(decide(off, &known(Some(60), Some(false)), false, NOW), Step::Wait(NOW + START_COOL_DOWN - 60));
        // One of the future was written down by a wrong clock.
        assert_eq!(decide(off, &known(Some(-90_000), Some(false)), false, NOW), Step::Start);
    }
}
