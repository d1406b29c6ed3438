//! The service's clock: time that never steps, plus an offset learned from `Date`, the only place where
//! the service's time shows (activity-api 1.4).
//!
//! Comes in: the `Date` of each answer and when the answer was on its way. Goes out: the time by the
//! service. Ours may be wrong by years or be set while we run: once the service has said what time it
//! is, only its word counts. One answer with an absurd `Date` must not count, or a host with a wrong clock
//! would make cells look old enough to be swept for the last time.

use std::sync::{Mutex, MutexGuard, PoisonError};

use super::steady::Steady;
use crate::clock::{Clock, Seconds};

/// An offset this near to the one believed, or to what our own clock says, is believed at once.
const NEAR_MS: i64 = 15 * 60 * 1000;
/// Any other only when so many answers in a row say the same, for as long as this once an offset has been learned,
const ANSWERS: u32 = 3;
const PATIENCE_MS: i64 = 10 * 60 * 1000;
/// and for as long as this while there is none: nothing is begun meanwhile, and where collection begins is
/// not moved back afterwards, so a host with a wrong clock that answers first must not decide it.
const FIRST_PATIENCE_MS: i64 = 60 * 1000;

/// See the module's head.
pub struct ServerClock {
    clock: Clock,
    steady: Steady,
    learned: Mutex<Learned>,
}

#[derive(Default)]
struct Learned {
    /// The service's time minus the steady one; `None`: not learned yet.
    offset_ms: Option<i64>,
    doubted: Option<Doubted>,
    /// An answer came without a `Date`: there may be none to learn from.
    is_dateless: bool,
}

/// An offset that is far from everything known.
struct Doubted {
    offset_ms: i64,
    since_ms: i64,
    answers: u32,
}

impl ServerClock {
    pub fn new(clock: Clock) -> ServerClock {
        let steady = Steady::of(&clock);
        ServerClock { clock, steady, learned: Mutex::default() }
    }

    /// Seconds since 1970 UTC by the service, as well as we know it.
    pub fn now(&self) -> Seconds {
        self.now_ms().div_euclid(1000)
    }

    /// Milliseconds since 1970 UTC by the service, as well as we know it.
    pub fn now_ms(&self) -> i64 {
        match self.learned().offset_ms {
            Some(offset) => self.steady.now_ms() + offset,
            None => self.clock.now_ms(),
        }
    }

    /// Whether what it shows may be acted on for good: the service said it, or says nothing.
    pub fn is_known(&self) -> bool {
        let learned = self.learned();
        learned.offset_ms.is_some() || learned.is_dateless && learned.doubted.is_none()
    }

    /// Milliseconds by which the service is ahead of our own clock.
    pub fn skew_ms(&self) -> i64 {
        self.now_ms() - self.clock.now_ms()
    }

    /// When something happens, for [`ServerClock::observe`]: milliseconds that never step.
    pub fn mark_ms(&self) -> i64 {
        self.steady.now_ms()
    }

    /// `Date` was written between our `sent` and `received` marks and cuts off the fraction of a second, so
    /// it bounds the offset from both sides; an offset within the bounds stays. `None`: no `Date` came.
    pub fn observe(&self, date_ms: Option<i64>, sent_ms: i64, received_ms: i64) {
        let ours = self.clock.now_ms() - self.steady.now_ms();
        self.learn(date_ms, sent_ms, received_ms, ours);
    }

    /// `ours`: our own clock minus the steady time.
    fn learn(&self, date_ms: Option<i64>, sent_ms: i64, received_ms: i64, ours: i64) {
        let mut learned = self.learned();
        let Some(date_ms) = date_ms else {
            learned.is_dateless = true;
            return;
        };
        let (least, most) = (date_ms - received_ms, date_ms + 999 - sent_ms);
        if least > most {
            return;
        }
        let wanted = learned.offset_ms.unwrap_or(ours).clamp(least, most);
        let is_near = |other: i64| other.abs_diff(wanted) <= NEAR_MS as u64;
        let doubted = learned.doubted.take();
        if is_near(ours) || learned.offset_ms.is_some_and(is_near) {
            learned.offset_ms = Some(wanted);
            return;
        }
        let (since_ms, answers) = match doubted.filter(|d| is_near(d.offset_ms)) {
            Some(doubted) => (doubted.since_ms, doubted.answers + 1),
            None => (received_ms, 1),
        };
        let patience = if learned.offset_ms.is_some() { PATIENCE_MS } else { FIRST_PATIENCE_MS };
        if answers >= ANSWERS && received_ms - since_ms >= patience {
            tracing::warn!(
                skew_seconds = (wanted - ours) / 1000,
                "the service's clock and ours disagree; the service's counts"
            );
            learned.offset_ms = Some(wanted);
        } else {
            learned.doubted = Some(Doubted { offset_ms: wanted, since_ms, answers });
        }
    }

    fn learned(&self) -> MutexGuard<'_, Learned> {
        self.learned.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE_MS: i64 = 60_000;
    const DAY_MS: i64 = 24 * 60 * MINUTE_MS;

    fn offset(server: &ServerClock) -> Option<i64> {
        server.learned().offset_ms
    }

    #[test]
    fn the_offset_is_learned_to_the_bounds_of_a_date_and_then_stays() {
        let server = ServerClock::new(Clock::system());
        server.learn(Some(600_000), 0, 10, 0);
        assert_eq!(offset(&server), Some(599_990));
        server.learn(Some(600_000), 300, 900, 0);
        assert_eq!(offset(&server), Some(599_990));
    }

    #[test]
    fn a_first_absurd_date_is_doubted_and_nothing_is_known_until_the_next_answer() {
        let server = ServerClock::new(Clock::system());
        server.learn(Some(-20_000 * DAY_MS), 0, 0, 0);
        assert!(!server.is_known());
        server.learn(Some(0), 0, 0, 0);
        assert!(server.is_known());
        assert_eq!(offset(&server), Some(0));
    }

    #[test]
    fn our_clock_may_be_wrong_by_years_when_the_service_says_so_for_a_minute() {
        let server = ServerClock::new(Clock::system());
        for second in [0, 0, 0, 30, 59] {
            let at = second * 1000;
            server.learn(Some(at + 900 * DAY_MS), at, at, 0);
            assert!(!server.is_known(), "after {second} seconds");
        }
        server.learn(Some(MINUTE_MS + 900 * DAY_MS), MINUTE_MS, MINUTE_MS, 0);
        assert_eq!((offset(&server), server.is_known()), (Some(900 * DAY_MS), true));
    }

    #[test]
    fn a_learned_clock_moves_far_only_after_ten_minutes_of_one_word_or_when_ours_agrees() {
        let server = ServerClock::new(Clock::system());
        server.learn(Some(0), 0, 0, 0);
        for minute in 0..10 {
            let at = minute * MINUTE_MS;
            server.learn(Some(at + 9 * DAY_MS), at, at, 0);
            assert_eq!(offset(&server), Some(0), "after {minute} minutes");
        }
        let at = 10 * MINUTE_MS;
        server.learn(Some(at + 9 * DAY_MS), at, at, 0);
        assert_eq!(offset(&server), Some(9 * DAY_MS));
        // The machine slept for a day: its own clock went on, the steady time stood still.
        server.learn(Some(at + 10 * DAY_MS), at, at, 10 * DAY_MS);
        assert_eq!(offset(&server), Some(10 * DAY_MS));
        // One right answer between wrong ones, and the wrong ones begin anew.
        for minute in 20..60 {
            let (at, wrong) = (minute * MINUTE_MS, if minute % 5 == 0 { 0 } else { 30 * DAY_MS });
            server.learn(Some(at + 10 * DAY_MS + wrong), at, at, 10 * DAY_MS);
            assert_eq!(offset(&server), Some(10 * DAY_MS));
        }
    }

    #[test]
    fn ours_being_set_while_we_run_changes_nothing_once_the_service_has_spoken() {
        let server = ServerClock::new(Clock::system());
        server.learn(Some(server.mark_ms()), server.mark_ms(), server.mark_ms(), 0);
        let before = server.now_ms();
        // Only `ours` moves: what is shown does not read it.
        server.learn(Some(server.mark_ms()), server.mark_ms(), server.mark_ms(), -400 * DAY_MS);
        assert!((server.now_ms() - before).abs() < 2000);
    }

    #[test]
    fn a_service_without_a_date_is_taken_at_our_own_time() {
        let server = ServerClock::new(Clock::system());
        assert!(!server.is_known());
        server.observe(None, 0, 0);
        assert!(server.is_known());
    }
}
