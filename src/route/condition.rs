//! Judging a condition. Comes in: the condition, a feed, and a record where one was read. Goes out:
//! whether it holds; `None` where that depends on a record that is not there. Cannot fail.

use std::borrow::Cow;

use crate::config::{Key, Matcher, Test, When, starts_with};
use crate::feed::Feed;
use crate::normalize::{self, Outcome};
use crate::record::{Field, View};

/// Whether `when` holds.
pub(super) fn judge(when: &When, feed: &Feed, view: Option<&View<'_>>) -> Option<bool> {
    let tests = all(when.tests.iter().map(|test| self::test(test, feed, view)));
    if when.any.is_empty() {
        return tests;
    }
    all([tests, any(when.any.iter().map(|when| judge(when, feed, view)))].into_iter())
}

/// False beats unknown beats true.
fn all(verdicts: impl Iterator<Item = Option<bool>>) -> Option<bool> {
    let mut sum = Some(true);
    for verdict in verdicts {
        match verdict {
            Some(false) => return Some(false),
            Some(true) => {}
            None => sum = None,
        }
    }
    sum
}

/// True beats unknown beats false.
fn any(verdicts: impl Iterator<Item = Option<bool>>) -> Option<bool> {
    all(verdicts.map(|verdict| verdict.map(|holds| !holds))).map(|none| !none)
}

fn test(test: &Test, feed: &Feed, view: Option<&View<'_>>) -> Option<bool> {
    let wanted = test.wanted.as_slice();
    Some(match test.key {
        Key::Tenant => exactly(wanted, &feed.tenant.name),
        Key::ContentType => text(wanted, Some(feed.content_type.as_str())),
        // Alerts will not come by here as records of a feed.
        Key::Kind => text(wanted, Some("audit")),
        Key::Workload => field(wanted, view?, Field::Workload),
        Key::Operation => field(wanted, view?, Field::Operation),
        Key::User => field(wanted, view?, Field::UserId),
        Key::Outcome => {
            let outcome = normalize::outcome(view?).unwrap_or(Outcome::Unknown);
            text(wanted, Some(outcome.as_str()))
        }
        Key::RecordType => {
            let number = view?.record_type();
            fits(wanted, &|matcher| matches!(matcher, Matcher::Number(n) if Some(*n) == number))
        }
        Key::SourceIp => {
            let address = normalize::source_ip(view?);
            fits(
                wanted,
                &|matcher| matches!((matcher, address), (Matcher::Network(network), Some(address)) if network.contains(address)),
            )
        }
    })
}

fn field(wanted: &[Matcher], view: &View<'_>, field: Field) -> bool {
    let value: Option<Cow<'_, str>> = view.string(field);
    text(wanted, value.as_deref())
}

/// Whatever the case of ASCII letters: the service itself is not of one mind about it.
fn text(wanted: &[Matcher], value: Option<&str>) -> bool {
    fits(wanted, &|matcher| match (matcher, value) {
        (Matcher::Is(text), Some(value)) => text.eq_ignore_ascii_case(value),
        (Matcher::Prefix(prefix), Some(value)) => starts_with(value, prefix),
        _ => false,
    })
}

/// As configured: two names may differ in case only.
fn exactly(wanted: &[Matcher], value: &str) -> bool {
    fits(wanted, &|matcher| match matcher {
        Matcher::Is(text) => text == value,
        Matcher::Prefix(prefix) => value.starts_with(prefix.as_str()),
        _ => false,
    })
}

/// Whether one of `wanted` fits; `plain` judges those that are no combination.
fn fits(wanted: &[Matcher], plain: &dyn Fn(&Matcher) -> bool) -> bool {
    wanted.iter().any(|matcher| match matcher {
        Matcher::Not(others) => !fits(others, plain),
        Matcher::All(parts) => parts.iter().all(|part| fits(part, plain)),
        matcher => plain(matcher),
    })
}
