//! Which sinks an event goes to, and which a feed's blobs wait for. Pure. Without a condition a sink
//! gets everything; with one it is judged by what is known: of a feed its tenant and content type, of an
//! event its record as well.
//!
//! A condition that cannot be judged does not exclude: a feed *may* need the sink, and a record that
//! nobody could read goes to every sink that its feed may need. Nothing is lost because it was not understood.

mod condition;
mod intake;

pub use intake::{Down, Intake};

use crate::config::{Format, SinkConfig, When};
use crate::feed::Feed;
use crate::normalize::Form;
use crate::record::View;
use crate::sink::{SinkId, SinkSet};

/// The sinks of the running graph.
#[derive(Clone, Debug, Default)]
pub struct Routes {
    all: SinkSet,
    required: SinkSet,
    /// By form: sinks that have it, and those of them that are sent records as they came.
    forms: [SinkSet; Form::COUNT],
    verbatim: SinkSet,
    /// Whether one of them goes by how grave a record is.
    grades: bool,
    conditions: Vec<(SinkId, When)>,
}

/// What is known of a feed's events before any is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FeedRoute {
    /// Sinks that want every event of the feed.
    pub always: SinkSet,
    /// Sinks that want some, depending on the record.
    pub perhaps: SinkSet,
}

impl FeedRoute {
    /// Every sink that may want an event of the feed.
    pub fn possible(self) -> SinkSet {
        self.always.union(self.perhaps)
    }
}

impl Routes {
    /// Adds a sink.
    pub fn add(&mut self, id: SinkId, sink: &SinkConfig) {
        let only = SinkSet::of(id);
        self.all = self.all.union(only);
        if sink.required {
            self.required = self.required.union(only);
        }
        let form = &mut self.forms[sink.form().place()];
        *form = form.union(only);
        if sink.format == Format::Raw {
            self.verbatim = self.verbatim.union(only);
        }
        self.grades |= sink.grades();
        self.conditions.extend(sink.when.clone().map(|when| (id, when)));
    }

    /// Sinks that a blob waits for, where they want something of it.
    pub fn required(&self) -> SinkSet {
        self.required
    }

    /// Sinks that have this form, be it only for what could not be read.
    pub fn of_form(&self, form: Form) -> SinkSet {
        self.forms[form.place()]
    }

    /// Sinks that are sent records in this form.
    pub fn written(&self, form: Form) -> SinkSet {
        self.of_form(form).minus(self.verbatim)
    }

    /// Whether a sink goes by how grave a record is.
    pub fn grades(&self) -> bool {
        self.grades
    }

    /// Sinks with a condition.
    pub fn conditional(&self) -> impl Iterator<Item = SinkId> {
        self.conditions.iter().map(|(id, _)| *id)
    }

    /// Who wants events of this feed.
    pub fn of(&self, feed: &Feed) -> FeedRoute {
        let mut route = FeedRoute { always: self.all, perhaps: SinkSet::EMPTY };
        for (id, when) in &self.conditions {
            let verdict = condition::judge(when, feed, None);
            if verdict != Some(true) {
                route.always = route.always.minus(SinkSet::of(*id));
            }
            if verdict.is_none() {
                route.perhaps = route.perhaps.union(SinkSet::of(*id));
            }
        }
        route
    }

    /// Who wants this event; `None`: nobody could read it.
    pub fn wanted(&self, feed: &Feed, route: FeedRoute, view: Option<&View<'_>>) -> SinkSet {
        let Some(view) = view.filter(|_| !route.perhaps.is_empty()) else { return route.possible() };
        let open = self.conditions.iter().filter(|(id, _)| route.perhaps.contains(*id));
        open.filter(|(_, when)| condition::judge(when, feed, Some(view)) != Some(false))
            .fold(route.always, |wanted, (id, _)| wanted.union(SinkSet::of(*id)))
    }

    /// The required sinks that a feed may need: it fetches while all of them take data.
    pub fn needs(&self, feed: &Feed) -> SinkSet {
        self.of(feed).possible().intersection(self.required)
    }
}

#[cfg(test)]
mod tests;
