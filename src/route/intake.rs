//! Whether a feed may fetch: not while a required sink that its records may need takes nothing. Comes
//! in: which sinks are down, told by who watches them. Goes out: yes or no, a feed at a time, and whether what
//! is being read must make way for others. Listing is never held up by it.

use std::sync::Arc;

use tokio::sync::watch;

use super::Routes;
use crate::feed::Feed;
use crate::sink::SinkSet;

/// The required sinks that take nothing now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Down {
    /// All of them: nothing new is fetched of a feed that needs one.
    pub all: SinkSet,
    /// Those of them that some feed does not need: what is under way to them holds memory and turns that
    /// the others could use, and is let go.
    pub shared: SinkSet,
}

/// The source's view of the routes. Cheap to clone.
#[derive(Clone)]
pub struct Intake {
    routes: watch::Receiver<Arc<Routes>>,
    down: watch::Receiver<Down>,
    journal: watch::Receiver<bool>,
}

impl Intake {
    /// `routes`: those of the running graph. `down`: the required sinks that take nothing now. `journal`: false while it cannot keep up, when
    /// nothing new should be begun for anybody.
    pub fn new(
        routes: watch::Receiver<Arc<Routes>>,
        down: watch::Receiver<Down>,
        journal: watch::Receiver<bool>,
    ) -> Intake {
        Intake { routes, down, journal }
    }

    /// The sinks that keep the feed from fetching; empty: it may.
    pub fn held_by(&self, feed: &Feed) -> SinkSet {
        let down = self.down.borrow().all;
        if down.is_empty() { SinkSet::EMPTY } else { self.routes.borrow().needs(feed).intersection(down) }
    }

    /// Whether the feed may fetch something new.
    pub fn takes(&self, feed: &Feed) -> bool {
        *self.journal.borrow() && self.held_by(feed).is_empty()
    }

    /// Returns once bodies of the feed that are being read must make way: they could not be delivered, and
    /// while they wait for room they hold turns and memory of feeds that could go on.
    pub async fn makes_way(&mut self, feed: &Feed) {
        loop {
            let needs = self.routes.borrow_and_update().needs(feed);
            if !self.down.borrow_and_update().shared.intersection(needs).is_empty() {
                return;
            }
            tokio::select! {
                Ok(()) = self.down.changed() => {}
                Ok(()) = self.routes.changed() => {}
                // Nobody tells any more: the process is ending, and that is seen to elsewhere.
                else => std::future::pending().await,
            }
        }
    }

    /// Returns when the answers may have changed; an error once nobody tells any more.
    pub async fn changed(&mut self) -> Result<(), watch::error::RecvError> {
        // No required sink, nobody to tell of one: the journal is still heard.
        tokio::select! {
            Ok(()) = self.down.changed() => Ok(()),
            Ok(()) = self.routes.changed() => Ok(()),
            changed = self.journal.changed() => changed,
        }
    }
}
