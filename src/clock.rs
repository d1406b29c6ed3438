//! The one way to ask for calendar time: when a cell is due, how old content is, when to try the
//! service again. Two implementations: the world's clock, and one that runs `speed` times faster
//! from a given origin, so that days of late blobs and outages pass in seconds against the simulator.
//!
//! What paces IO on this machine (socket time-outs, batch linger, group commit) is *not* calendar
//! time: it uses tokio's clock directly and never runs faster.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Seconds since 1970-01-01 UTC; the unit of everything the service filters on.
pub type Seconds = i64;

/// Calendar time and sleeping in it.
#[derive(Clone, Debug)]
pub struct Clock(Arc<Kind>);

#[derive(Debug)]
enum Kind {
    System,
    /// Calendar time was `origin_ms` when the world's clock showed `anchor_ms`.
    Scaled {
        origin_ms: i64,
        anchor_ms: i64,
        speed: f64,
    },
}

impl Clock {
    /// The world's own clock.
    pub fn system() -> Clock {
        Clock(Arc::new(Kind::System))
    }

    /// A clock that showed `origin_ms` when the world's showed `anchor_ms` (both milliseconds since
    /// 1970) and runs `speed` times as fast. Two processes with the same three numbers agree.
    pub fn scaled(origin_ms: i64, anchor_ms: i64, speed: f64) -> Clock {
        Clock(Arc::new(Kind::Scaled { origin_ms, anchor_ms, speed: speed.max(f64::MIN_POSITIVE) }))
    }

    /// Milliseconds since 1970-01-01 UTC.
    pub fn now_ms(&self) -> i64 {
        let world = world_ms();
        match *self.0 {
            Kind::System => world,
            Kind::Scaled { origin_ms, anchor_ms, speed } => origin_ms + ((world - anchor_ms) as f64 * speed) as i64,
        }
    }

    /// Whole seconds since 1970-01-01 UTC.
    pub fn now(&self) -> Seconds {
        self.now_ms().div_euclid(1000)
    }

    /// How many calendar seconds pass in one second of the world.
    pub fn speed(&self) -> f64 {
        match *self.0 {
            Kind::System => 1.0,
            Kind::Scaled { speed, .. } => speed,
        }
    }

    /// Sleeps `duration` of calendar time.
    pub async fn sleep(&self, duration: Duration) {
        tokio::time::sleep(duration.div_f64(self.speed())).await;
    }
}

/// The world's clock in milliseconds since 1970; for file times and anchors only.
pub fn world_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| i64::try_from(d.as_millis()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scaled_clock_runs_from_its_origin_at_its_speed() {
        let clock = Clock::scaled(1_000_000, world_ms() - 1000, 60.0);
        let now = clock.now_ms();
        assert!((1_060_000..1_090_000).contains(&now), "{now}");
    }
}
