//! The request budget of one tenant: evenly spaced up to a rate, halved when the service says too
//! many, recovering by a tenth a minute (additive increase, multiplicative decrease).
//!
//! The service's quota is 2,000 requests a minute and tenant at least (activity-api 1.9); the default
//! of 1,000 leaves half to whoever else reads the tenant. Setting the machine's clock changes nothing:
//! what has passed is counted, not what a clock shows.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::steady::Steady;
use crate::clock::Clock;

/// Requests that may go at once after a quiet time (activity-api 3.10).
const BURST: f64 = 50.0;
/// The rate never falls below this, requests a minute.
const FLOOR: f64 = 30.0;
/// The pause after a refusal that names no time, and its ceiling; a named time is kept up to an hour.
const PAUSE: Duration = Duration::from_secs(30);
const LONGEST_PAUSE: Duration = Duration::from_secs(300);
const LONGEST_NAMED_PAUSE: Duration = Duration::from_secs(3600);

#[derive(Debug)]
pub struct Throttle {
    clock: Clock,
    steady: Steady,
    /// Requests a minute when nothing was refused.
    ceiling: f64,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// Requests a minute now.
    rate: f64,
    rate_since_ms: i64,
    /// When the next request would go if there were no burst.
    next_ms: f64,
    paused_until_ms: i64,
    refusals_in_a_row: u32,
}

impl Throttle {
    pub fn new(clock: Clock, requests_per_minute: u32) -> Throttle {
        let ceiling = f64::from(requests_per_minute).max(1.0);
        let steady = Steady::of(&clock);
        let state = State {
            rate: ceiling,
            rate_since_ms: steady.now_ms(),
            next_ms: 0.0,
            paused_until_ms: 0,
            refusals_in_a_row: 0,
        };
        Throttle { clock, steady, ceiling, state: Mutex::new(state) }
    }

    /// Waits for a request's turn.
    pub async fn turn(&self) {
        loop {
            let wait = self.try_turn();
            if wait.is_zero() {
                return;
            }
            self.clock.sleep(wait).await;
        }
    }

    /// Waits until the service no longer has the tenant pause.
    pub async fn pause_ended(&self) {
        while let Some(left) = self.pause() {
            self.clock.sleep(left).await;
        }
    }

    /// What is left of the pause that the service asked for, calendar time; `None`: there is none.
    pub fn pause(&self) -> Option<Duration> {
        self.lock().pause(self.steady.now_ms())
    }

    /// Takes a turn if it is due; otherwise says how long to wait (calendar time).
    fn try_turn(&self) -> Duration {
        let now = self.steady.now_ms();
        let mut state = self.lock();
        if let Some(left) = state.pause(now) {
            return left;
        }
        state.recover(now, self.ceiling);
        let spacing = 60_000.0 / state.rate;
        let earliest = now as f64 - BURST * spacing;
        let due = state.next_ms.max(earliest);
        if due > now as f64 {
            return millis((due - now as f64).ceil() as i64);
        }
        state.next_ms = due + spacing;
        Duration::ZERO
    }

    /// The service took a request.
    pub fn taken(&self) {
        self.lock().refusals_in_a_row = 0;
    }

    /// The service said too many requests: half the rate, and a pause for the whole tenant.
    pub fn refused(&self, after: Option<Duration>) -> Duration {
        let now = self.steady.now_ms();
        let mut state = self.lock();
        let pause = match after {
            Some(named) => named.min(LONGEST_NAMED_PAUSE),
            None => PAUSE.saturating_mul(1 << state.refusals_in_a_row.min(4)).min(LONGEST_PAUSE),
        };
        let jitter = pause.mul_f64(fastrand::f64() * 0.2);
        // Several requests in the air are refused together; that is one refusal.
        if now >= state.paused_until_ms {
            state.rate = (state.rate / 2.0).max(FLOOR.min(self.ceiling));
            state.rate_since_ms = now;
            state.refusals_in_a_row += 1;
        }
        let until = now + i64::try_from((pause + jitter).as_millis()).unwrap_or(i64::MAX / 4);
        state.paused_until_ms = state.paused_until_ms.max(until);
        pause
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// What is left of the pause, calendar time.
    fn pause(&self, now_ms: i64) -> Option<Duration> {
        let left = self.paused_until_ms - now_ms;
        (left > 0).then(|| millis(left))
    }

    /// A tenth of the ceiling more for each minute without a refusal.
    fn recover(&mut self, now: i64, ceiling: f64) {
        let minutes = (now - self.rate_since_ms) as f64 / 60_000.0;
        if self.rate < ceiling && minutes > 0.0 {
            self.rate = (self.rate + minutes * ceiling / 10.0).min(ceiling);
        }
        self.rate_since_ms = now;
    }
}

fn millis(ms: i64) -> Duration {
    Duration::from_millis(u64::try_from(ms).unwrap_or(0).max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A clock that stands still: a day of it is a microsecond of ours.
    fn standing() -> Clock {
        Clock::scaled(1_000_000_000, crate::clock::world_ms(), 1e-9)
    }

    #[test]
    fn a_burst_passes_and_the_next_waits_its_spacing() {
        let throttle = Throttle::new(standing(), 60);
        let passed = (0..100).take_while(|_| throttle.try_turn().is_zero()).count();
        assert_eq!(passed, 51);
        assert_eq!(throttle.try_turn(), Duration::from_secs(1));
    }

    #[test]
    fn refusals_halve_once_and_pause_the_tenant() {
        let throttle = Throttle::new(standing(), 1000);
        assert_eq!(throttle.refused(Some(Duration::from_secs(7))), Duration::from_secs(7));
        throttle.refused(None);
        assert_eq!(throttle.lock().rate, 500.0);
        assert!(throttle.try_turn() >= Duration::from_secs(7));
        assert_eq!(throttle.refused(Some(Duration::from_secs(86_400))), LONGEST_NAMED_PAUSE);
    }
}
