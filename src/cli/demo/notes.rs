//! What is happening and why, in words: from the change of the metrics between two looks. Each kind
//! is said at most every few seconds, with the count of all that came since.

use std::time::Duration;

use super::gauges::Gauges;

/// How often one kind of note is said; in between it is counted.
const PAUSE: Duration = Duration::from_secs(5);

type Count = fn(&Gauges) -> u64;

/// Which number means what.
const KINDS: &[(Count, &str)] = &[
    (|g| g.tokens, "token fetched: the first, or the service refused the last one"),
    (|g| g.subscription_starts, "subscription started: records are kept only for subscribers"),
    (|g| g.throttled, "the service said \"too many requests\": left alone as long as it asked"),
    (|g| g.requests_failed, "the service failed to answer: asked again after a growing pause"),
    (|g| g.blobs_retried, "a download broke off or was garbled: the blob is fetched again"),
    (|g| g.duplicate, "records came twice: their keys are known, nothing is sent twice"),
    (|g| g.unreadable, "a record was no valid JSON: sent as pipeline_error, its bytes kept"),
    (|g| g.refused_urls, "an address outside the service's host was named: no token went there"),
    (|g| g.blobs_lost, "the service no longer has a blob that it listed: it is in the ledger"),
    (|g| g.rejected, "a receiver refused a record for good: kept in the dead letters"),
];

/// What has been said so far, for each of [`KINDS`].
#[derive(Default)]
pub(super) struct Notes {
    said: Vec<(u64, Option<Duration>)>,
}

impl Notes {
    /// The notes that are due, `now` being the time since the start.
    pub fn look(&mut self, gauges: &Gauges, now: Duration) -> Vec<String> {
        self.said.resize(KINDS.len(), (0, None));
        let mut notes = Vec::new();
        for ((count, words), (said, when)) in KINDS.iter().zip(&mut self.said) {
            let value = count(gauges);
            let due = when.is_none_or(|when| now >= when + PAUSE);
            if value > *said && due {
                notes.push(format!("{}x {words}", value - *said));
                (*said, *when) = (value, Some(now));
            }
        }
        notes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_note_fits_a_terminal_of_80_columns() {
        for (_, words) in KINDS {
            assert!(format!("  · 999x {words}").chars().count() <= 80, "{words}");
        }
    }

    #[test]
    fn a_kind_is_said_at_once_and_then_gathered() {
        let mut notes = Notes::default();
        let throttled = |n| Gauges { throttled: n, ..Gauges::default() };
        let at = Duration::from_secs;
        assert!(notes.look(&throttled(0), at(0)).is_empty());
        assert!(notes.look(&throttled(2), at(1))[0].starts_with("2x the service said"));
        assert!(notes.look(&throttled(5), at(2)).is_empty());
        assert!(notes.look(&throttled(9), at(7))[0].starts_with("7x "));
        assert!(notes.look(&throttled(9), at(20)).is_empty());
    }
}
