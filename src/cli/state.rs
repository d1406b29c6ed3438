//! `state show`: what is known and what is missing, for people and as JSON.
//!
//! Reads the state directory without taking it, so it may be asked while a process runs. Field names
//! of the JSON are public: they change only with a note in the CHANGELOG.

mod document;

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

use document::{Feed, Interval, Lost, Shown, Subscription};

use super::Exit;
use crate::config::Config;
use crate::sink::{KeeperError, look_at_kept_state};
use crate::state::{LossReason, State, StateError};

/// Lost blobs and intervals named one by one for people; the JSON names all that the ledger has.
const NAMED: usize = 20;

/// Where the state is kept in Kafka, mounts what lies there, to be looked at as long as the answer is held.
pub(super) async fn kept(config: &Config) -> Result<Option<impl Sized + use<>>, KeeperError> {
    match config.kept_by() {
        Some((sink, kafka, topic)) => look_at_kept_state(sink, kafka, topic, &config.state.dir).await.map(Some),
        None => Ok(None),
    }
}

/// Says why the state was not had, by the exit code too; an error of anything else is handed on.
pub(super) fn unusable(error: anyhow::Error) -> anyhow::Result<Exit> {
    let exit = match error.downcast_ref::<KeeperError>() {
        Some(error) => of_keeper(error),
        None if error.is::<StateError>() => Exit::State,
        None => return Err(error),
    };
    eprintln!("{error}");
    Ok(exit)
}

/// Brokers that are away or refuse us are no fault of the state.
pub(super) fn of_keeper(error: &KeeperError) -> Exit {
    match error {
        KeeperError::Unusable { .. } => Exit::State,
        KeeperError::Refused { .. } | KeeperError::Away { .. } => Exit::Unreachable,
    }
}

/// Writes what the state in `dir` says to `out`: one JSON document, or lines for people.
pub fn show(dir: &Path, json: bool, out: &mut dyn Write) -> anyhow::Result<()> {
    let mut feeds: Vec<Feed> = State::inspect(dir)?.iter().map(|(key, progress)| Feed::of(key, progress)).collect();
    feeds.sort_by(|a, b| (&a.tenant_id, a.content_type).cmp(&(&b.tenant_id, b.content_type)));
    if json {
        serde_json::to_writer_pretty(&mut *out, &Shown { feeds })?;
        writeln!(out)?;
        return Ok(());
    }
    if feeds.is_empty() {
        writeln!(out, "no feed has been opened yet in {}", dir.display())?;
    }
    for feed in &feeds {
        feed.print(out)?;
    }
    Ok(())
}

impl Feed {
    fn print(&self, out: &mut dyn Write) -> std::io::Result<()> {
        let books = &self.ledger;
        let none = || "-".to_owned();
        writeln!(out, "{}  {}", self.tenant_id, self.content_type)?;
        writeln!(out, "  from            {}", self.from.clone().unwrap_or_else(none))?;
        writeln!(out, "  complete until  {}", self.complete_until.clone().unwrap_or_else(none))?;
        writeln!(out, "  open cells      {}", self.open_cells)?;
        let oldest = self.pending.first().map_or_else(String::new, |blob| format!(", oldest created {}", blob.created));
        writeln!(out, "  pending blobs   {}{oldest}", self.pending.len())?;
        writeln!(
            out,
            "  blobs           {} listed, {} settled, {} lost",
            books.blobs_listed, books.blobs_settled, books.blobs_lost
        )?;
        writeln!(
            out,
            "  records         {} delivered, {} duplicate, {} filtered, {} rejected",
            books.delivered, books.duplicate, books.filtered, books.rejected
        )?;
        writeln!(out, "  subscription    {}", self.subscription)?;
        print_intervals(out, "refused as too old", &books.refused)?;
        print_intervals(out, "suspected gap", &books.suspected)?;
        let mut by_reason: BTreeMap<LossReason, Vec<&Lost>> = BTreeMap::new();
        for lost in &books.lost {
            by_reason.entry(lost.reason).or_default().push(lost);
        }
        for (reason, lost) in by_reason {
            writeln!(out, "  lost, {}: {}", word(reason), lost.len())?;
            for blob in lost.iter().rev().take(NAMED) {
                // An id is the service's text: no control characters to somebody's terminal.
                let id = blob.content_id.escape_debug();
                writeln!(out, "    {id}  created {}, given up {}", blob.created, blob.at)?;
            }
            more(out, lost.len())?;
        }
        Ok(())
    }
}

impl std::fmt::Display for Subscription {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self.enabled {
            None => "not yet seen",
            Some(true) => "enabled",
            Some(false) => "disabled",
        })?;
        if let Some(since) = &self.disabled_since {
            write!(f, " since {since}")?;
        }
        if let Some(at) = &self.started_at {
            write!(f, ", last started by us {at}")?;
        }
        Ok(())
    }
}

fn word(reason: LossReason) -> &'static str {
    match reason {
        LossReason::Expired => "expired",
        LossReason::Gone => "gone",
        LossReason::Unreadable => "unreadable",
    }
}

/// The newest intervals, one a line.
fn print_intervals(out: &mut dyn Write, what: &str, intervals: &[Interval]) -> std::io::Result<()> {
    for interval in intervals.iter().rev().take(NAMED) {
        writeln!(out, "  {what}: {} to {}", interval.from, interval.to)?;
    }
    more(out, intervals.len())
}

fn more(out: &mut dyn Write, all: usize) -> std::io::Result<()> {
    match all.saturating_sub(NAMED) {
        0 => Ok(()),
        more => writeln!(out, "    and {more} more; --json names them all"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ack::Settlement;
    use crate::config::StateConfig;
    use crate::feed::{ContentType, FeedKey};
    use crate::metrics::Metrics;
    use crate::state::{ContentKey, FeedFact, ListedBlob};

    fn shown(json: bool) -> String {
        let dir = tempfile::tempdir().unwrap();
        let config = StateConfig { dir: dir.path().to_owned(), max_delivered_bytes: 1 << 20 };
        let state = State::open(&config, Metrics::new()).unwrap();
        let feed = state.feed(&FeedKey { tenant_id: "6f1c".into(), content_type: ContentType::Exchange });
        let blob = |id: &str| ListedBlob {
            content_id: id.into(),
            content_uri: "https://x".into(),
            created_ms: 1_600_000_000_123,
            expires: None,
        };
        let blobs = vec![blob("one"), blob("two"), blob("three")];
        let counts = Settlement { delivered: 4, rejected: 1, ..Settlement::default() };
        for fact in [
            FeedFact::Opened { from: 1_599_998_400 },
            FeedFact::Subscription { at: 1_599_998_460, enabled: true, started: true },
            FeedFact::Listed { cell: 1_599_998_400, at: 1_600_000_100, complete: true, last: false, blobs },
            FeedFact::Settled { content: ContentKey::of("one"), counts, bytes: 77 },
            FeedFact::Lost { content: ContentKey::of("two"), at: 1_600_000_200, reason: LossReason::Expired },
            FeedFact::Refused { from: 1_599_998_400, to: 1_599_998_460 },
        ] {
            feed.record(fact);
        }
        drop((feed, state));
        let mut out = Vec::new();
        show(dir.path(), json, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn people_see_what_is_known_and_what_is_missing() {
        insta::assert_snapshot!(shown(false), @r#"
        6f1c  Audit.Exchange
          from            2020-09-13T12:00:00Z
          complete until  2020-09-13T12:26:40Z
          open cells      1
          pending blobs   1, oldest created 2020-09-13T12:26:40.123Z
          blobs           3 listed, 1 settled, 1 lost
          records         4 delivered, 0 duplicate, 0 filtered, 1 rejected
          subscription    enabled, last started by us 2020-09-13T12:01:00Z
          refused as too old: 2020-09-13T12:00:00Z to 2020-09-13T12:01:00Z
          lost, expired: 1
            two  created 2020-09-13T12:26:40.123Z, given up 2020-09-13T12:30:00Z
        "#);
    }

    #[test]
    fn the_json_has_the_names_that_are_promised() {
        insta::assert_snapshot!(shown(true), @r#"
        {
          "feeds": [
            {
              "tenant_id": "6f1c",
              "content_type": "Audit.Exchange",
              "from": "2020-09-13T12:00:00Z",
              "complete_until": "2020-09-13T12:26:40Z",
              "open_cells": 1,
              "cells": [
                {
                  "start": "2020-09-13T12:00:00Z",
                  "listed_at": "2020-09-13T12:28:20Z",
                  "swept": false,
                  "settled": 2
                }
              ],
              "pending": [
                {
                  "content_id": "three",
                  "created": "2020-09-13T12:26:40.123Z",
                  "cell": "2020-09-13T12:00:00Z"
                }
              ],
              "ledger": {
                "blobs_listed": 3,
                "blobs_settled": 1,
                "blobs_lost": 1,
                "bytes": 77,
                "delivered": 4,
                "duplicate": 0,
                "filtered": 0,
                "rejected": 1,
                "refused_seconds": 60,
                "lost": [
                  {
                    "content_id": "two",
                    "created": "2020-09-13T12:26:40.123Z",
                    "at": "2020-09-13T12:30:00Z",
                    "reason": "expired"
                  }
                ],
                "refused": [
                  {
                    "from": "2020-09-13T12:00:00Z",
                    "to": "2020-09-13T12:01:00Z"
                  }
                ],
                "suspected": []
              },
              "subscription": {
                "enabled": true,
                "started_at": "2020-09-13T12:01:00Z",
                "disabled_since": null
              }
            }
          ]
        }
        "#);
    }

    #[test]
    fn a_directory_that_is_not_there_is_an_error_that_names_it() {
        let error = show(Path::new("/nonexistent/state"), false, &mut Vec::new()).unwrap_err();
        assert!(error.to_string().contains("/nonexistent/state"), "{error}");
    }
}
