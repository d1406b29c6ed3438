//! The one way to ask for calendar time: when a cell is due, how old content is, when to try the
//! service again. Three implementations: the world's clock; one that runs `speed` times faster from a
//! given origin, so that days of late blobs and outages pass in seconds against the simulator; and
//! one that follows tokio's, which a test may pause: then a sleep costs nothing, and a week passes as
//! fast as what happens in it can be computed.
//!
//! What paces IO on this machine (socket time-outs, batch linger, group commit) is *not* calendar
//! time: it uses tokio's clock directly and never runs faster.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

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
    /// Tokio's clock, which showed `instant` when calendar time was `at_ms`, plus `offset_ms`.
    Following {
        mark: Arc<Mutex<Mark>>,
        offset_ms: i64,
    },
}

#[derive(Debug)]
struct Mark {
    at_ms: i64,
    instant: Instant,
}

fn lock(mark: &Mutex<Mark>) -> MutexGuard<'_, Mark> {
    mark.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Two that will always show the same.
impl PartialEq for Clock {
    fn eq(&self, other: &Clock) -> bool {
        match (&*self.0, &*other.0) {
            (Kind::System, Kind::System) => true,
            (
                Kind::Scaled { origin_ms, anchor_ms, speed },
                Kind::Scaled { origin_ms: origin, anchor_ms: anchor, speed: other },
            ) => (origin_ms, anchor_ms, speed) == (origin, anchor, other),
            _ => Arc::ptr_eq(&self.0, &other.0),
        }
    }
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

    /// A clock that shows `at_ms` (milliseconds since 1970) now and goes on as tokio's does, paused or not.
    pub fn following(at_ms: i64) -> Clock {
        let mark = Arc::new(Mutex::new(Mark { at_ms, instant: Instant::now() }));
        Clock(Arc::new(Kind::Following { mark, offset_ms: 0 }))
    }

    /// Makes a following clock, and all that were made from it, show `at_ms` now: a runtime has a clock
    /// of its own, and a process that starts again has another runtime. Other kinds cannot be set.
    pub fn set(&self, at_ms: i64) {
        if let Kind::Following { mark, offset_ms } = &*self.0 {
            *lock(mark) = Mark { at_ms: at_ms - offset_ms, instant: Instant::now() };
        }
    }

    /// The same clock, `offset_ms` ahead: that of a machine whose clock is wrong.
    #[must_use]
    pub fn ahead_by(&self, offset_ms: i64) -> Clock {
        Clock(Arc::new(match &*self.0 {
            Kind::System => Kind::Scaled { origin_ms: offset_ms, anchor_ms: 0, speed: 1.0 },
            Kind::Scaled { origin_ms, anchor_ms, speed } => {
                Kind::Scaled { origin_ms: origin_ms + offset_ms, anchor_ms: *anchor_ms, speed: *speed }
            }
            Kind::Following { mark, offset_ms: known } => {
                Kind::Following { mark: Arc::clone(mark), offset_ms: known + offset_ms }
            }
        }))
    }

    /// Whether it follows tokio's clock, which may jump ahead whenever no task has anything to do: what
    /// works on threads of its own must then be waited for.
    pub fn may_jump(&self) -> bool {
        matches!(*self.0, Kind::Following { .. })
    }

    /// Milliseconds since 1970-01-01 UTC.
    pub fn now_ms(&self) -> i64 {
        match &*self.0 {
            Kind::System => world_ms(),
            Kind::Scaled { origin_ms, anchor_ms, speed } => {
                origin_ms + ((world_ms() - anchor_ms) as f64 * speed) as i64
            }
            Kind::Following { mark, offset_ms } => {
                let mark = lock(mark);
                let passed = Instant::now().saturating_duration_since(mark.instant);
                mark.at_ms + offset_ms + i64::try_from(passed.as_millis()).unwrap_or(i64::MAX / 2)
            }
        }
    }

    /// Whole seconds since 1970-01-01 UTC.
    pub fn now(&self) -> Seconds {
        self.now_ms().div_euclid(1000)
    }

    /// How many calendar seconds pass in one second of the world.
    pub fn speed(&self) -> f64 {
        match *self.0 {
            Kind::System | Kind::Following { .. } => 1.0,
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

    #[tokio::test(start_paused = true)]
    async fn a_following_clock_passes_a_week_at_once_and_can_be_set() {
        let clock = Clock::following(1_000_000);
        let wrong = clock.ahead_by(600_000);
        clock.sleep(Duration::from_secs(7 * 86_400)).await;
        assert_eq!((clock.now_ms(), wrong.now_ms()), (605_800_000, 606_400_000));
        clock.set(5);
        assert_eq!((clock.now_ms(), wrong.now_ms()), (5, 600_005));
    }
}
