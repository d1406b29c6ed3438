//! Picks readable lines out of the passing events. Comes in: every event, on the pipeline's threads.
//! Goes out: a few of them, as [`Line`]s over a bounded channel; when nobody has read the last ones
//! yet an event is only counted, so that looking never slows the pipeline.

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::Deserialize;
use tokio::sync::mpsc;

use crate::app::Observer;
use crate::cli::logging::escaped;
use crate::event::Event;
use crate::normalize::{Form, Profile};

/// Lines waiting for the next look: some ten times what one look prints, so that it has a choice.
const WAITING: usize = 64;

/// One event, ready to be shown: nothing in it can drive a terminal.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Line {
    pub time: String,
    pub tenant: String,
    pub workload: String,
    pub operation: String,
    pub user: String,
    pub source: String,
    /// `success`, `failure` or empty.
    pub outcome: String,
}

/// The observer.
pub(super) struct Watcher {
    lines: mpsc::Sender<Line>,
    skipped: AtomicU64,
}

impl Watcher {
    pub fn new() -> (Arc<Watcher>, mpsc::Receiver<Line>) {
        let (lines, receiver) = mpsc::channel(WAITING);
        (Arc::new(Watcher { lines, skipped: AtomicU64::new(0) }), receiver)
    }

    /// How many events were only counted since the last call.
    pub fn take_skipped(&self) -> u64 {
        self.skipped.swap(0, Ordering::Relaxed)
    }
}

impl Observer for Watcher {
    fn event(&self, event: &Event<'_>) {
        match self.lines.try_reserve() {
            Ok(place) => place.send(line(event)),
            Err(_) => {
                self.skipped.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

fn line(event: &Event<'_>) -> Line {
    let mut line = describe(event.doc(Form::Ecs(Profile::Auditferry)));
    line.tenant = escaped(&event.part.blob.feed.tenant.name);
    let plain = |bytes: &[u8]| escaped(&String::from_utf8_lossy(bytes));
    line.workload = plain(event.workload());
    line.operation = plain(event.operation());
    if let Some(time) = event.meta.time_ms.and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok()) {
        // 2026-01-31T12:34:56.789Z: the clock's part.
        line.time = time.to_string().get(11..19).unwrap_or_default().to_owned();
    }
    line
}

/// The few fields of an ECS document that a line shows.
#[derive(Default, Deserialize)]
struct Document<'a> {
    #[serde(borrow, default)]
    event: EventFields<'a>,
    #[serde(borrow, default)]
    user: UserFields<'a>,
    #[serde(borrow, default)]
    source: SourceFields<'a>,
}

#[derive(Default, Deserialize)]
struct EventFields<'a> {
    #[serde(borrow, default)]
    outcome: Option<Cow<'a, str>>,
}

#[derive(Default, Deserialize)]
struct UserFields<'a> {
    #[serde(borrow, default)]
    email: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    name: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    id: Option<Cow<'a, str>>,
}

#[derive(Default, Deserialize)]
struct SourceFields<'a> {
    #[serde(borrow, default)]
    ip: Option<Cow<'a, str>>,
}

fn describe(document: &[u8]) -> Line {
    let fields: Document<'_> = serde_json::from_slice(document).unwrap_or_default();
    let plain = |text: Option<Cow<'_, str>>| text.map(|text| escaped(&text)).unwrap_or_default();
    let user = fields.user;
    Line {
        user: plain(user.email.or(user.id).or(user.name)),
        source: plain(fields.source.ip),
        outcome: plain(fields.event.outcome),
        ..Line::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_the_fields_of_a_document_and_disarms_them() {
        let line =
            describe(br#"{"event":{"outcome":"failure"},"user":{"id":"a\u001b[2J@b"},"source":{"ip":"192.0.2.1"}}"#);
        assert_eq!((line.outcome.as_str(), line.source.as_str()), ("failure", "192.0.2.1"));
        assert_eq!(line.user, "a\\u{1b}[2J@b");
        assert_eq!(describe(b"not json"), Line::default());
    }
}
