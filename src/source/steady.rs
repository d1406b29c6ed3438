//! Calendar time that never steps: what the clock showed once, and how much has passed since. For waits
//! and rates, which must not end early, late or never because somebody set the machine's clock.
//!
//! Comes in: a clock, once. Goes out: milliseconds that only grow.

use tokio::time::Instant;

use crate::clock::Clock;

/// See the module's head.
#[derive(Clone, Copy, Debug)]
pub struct Steady {
    began: Instant,
    at_ms: i64,
    speed: f64,
}

impl Steady {
    /// Shows what `clock` shows now and goes on at its speed.
    pub fn of(clock: &Clock) -> Steady {
        Steady { began: Instant::now(), at_ms: clock.now_ms(), speed: clock.speed() }
    }

    /// Milliseconds since 1970 UTC as the clock would have it had nobody set it since.
    pub fn now_ms(&self) -> i64 {
        self.at_ms + (self.began.elapsed().as_secs_f64() * 1000.0 * self.speed) as i64
    }

    /// The same in whole seconds.
    pub fn now(&self) -> i64 {
        self.now_ms().div_euclid(1000)
    }
}
