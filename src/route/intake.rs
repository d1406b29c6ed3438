//! Whether a feed may fetch: not while a required sink that its records may need takes nothing. Comes
//! in: which sinks are down, told by who watches them. Goes out: yes or no, a feed at a time. Listing is
//! never held up by it.

use std::sync::Arc;

use tokio::sync::watch;

use super::Routes;
use crate::feed::Feed;
use crate::sink::SinkSet;

/// The source's view of the routes. Cheap to clone.
#[derive(Clone)]
pub struct Intake {
    routes: watch::Receiver<Arc<Routes>>,
    down: watch::Receiver<SinkSet>,
    journal: watch::Receiver<bool>,
}

impl Intake {
    /// `routes`: those of the running graph. `down`: the required sinks that take nothing now. `journal`: false while it cannot keep up, when
    /// nothing new should be begun for anybody.
    pub fn new(
        routes: watch::Receiver<Arc<Routes>>,
        down: watch::Receiver<SinkSet>,
        journal: watch::Receiver<bool>,
    ) -> Intake {
        Intake { routes, down, journal }
    }

    /// The sinks that keep the feed from fetching; empty: it may.
    pub fn held_by(&self, feed: &Feed) -> SinkSet {
        let down = *self.down.borrow();
        if down.is_empty() { SinkSet::EMPTY } else { self.routes.borrow().needs(feed).intersection(down) }
    }

    /// Whether the feed may fetch something new.
    pub fn takes(&self, feed: &Feed) -> bool {
        *self.journal.borrow() && self.held_by(feed).is_empty()
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
