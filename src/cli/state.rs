//! `state show`: each feed's books, without taking the directory from a process that runs. For a
//! person, or one JSON document. Changes nothing.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::PathBuf;

use serde::Serialize;

use super::{Exit, StateDir, StateShowArgs};
use crate::clock::Seconds;
use crate::config::load;
use crate::feed::FeedKey;
use crate::state::{FeedProgress, LostBlob, State};

/// One feed as shown. Times are seconds since 1970 UTC.
#[derive(Serialize)]
struct FeedView<'a> {
    tenant_id: &'a str,
    content_type: &'static str,
    /// Collection began here.
    from: Option<Seconds>,
    subscribed: Option<bool>,
    open_cells: usize,
    pending: usize,
    blobs_listed: u64,
    blobs_settled: u64,
    blobs_lost: u64,
    delivered: u64,
    duplicate: u64,
    filtered: u64,
    rejected: u64,
    bytes: u64,
    refused_seconds: u64,
    refused: &'a [(Seconds, Seconds)],
    suspected: &'a [(Seconds, Seconds)],
    lost: &'a [LostBlob],
}

/// Prints what the state knows.
pub(super) fn show(args: &StateShowArgs) -> anyhow::Result<Exit> {
    let dir = match directory(&args.place) {
        Ok(dir) => dir,
        Err(exit) => return Ok(exit),
    };
    let feeds = match State::inspect(&dir) {
        Ok(feeds) => feeds,
        Err(error) => {
            eprintln!("{error}");
            return Ok(Exit::State);
        }
    };
    let views: Vec<FeedView<'_>> = feeds.iter().map(|(key, progress)| view(key, progress)).collect();
    let text = if args.json { serde_json::to_string_pretty(&views)? + "\n" } else { words(&views)? };
    std::io::stdout().lock().write_all(text.as_bytes())?;
    Ok(Exit::Good)
}

fn directory(place: &StateDir) -> Result<PathBuf, Exit> {
    match (&place.dir, &place.config) {
        (Some(dir), _) => Ok(dir.clone()),
        (None, Some(file)) => load(file).map(|config| config.state.dir).map_err(|faults| {
            eprintln!("{faults}");
            Exit::Usage
        }),
        (None, None) => Err(Exit::Usage),
    }
}

fn view<'a>(key: &'a FeedKey, progress: &'a FeedProgress) -> FeedView<'a> {
    let ledger = &progress.ledger;
    FeedView {
        tenant_id: &key.tenant_id,
        content_type: key.content_type.as_str(),
        from: progress.from,
        subscribed: progress.subscription.enabled,
        open_cells: progress.cells.len(),
        pending: progress.pending.len(),
        blobs_listed: ledger.blobs_listed,
        blobs_settled: ledger.blobs_settled,
        blobs_lost: ledger.blobs_lost,
        delivered: ledger.delivered,
        duplicate: ledger.duplicate,
        filtered: ledger.filtered,
        rejected: ledger.rejected,
        bytes: ledger.bytes,
        refused_seconds: ledger.refused_seconds,
        refused: &ledger.refused,
        suspected: &ledger.suspected,
        lost: &ledger.lost,
    }
}

fn words(views: &[FeedView<'_>]) -> Result<String, std::fmt::Error> {
    let mut out = String::new();
    if views.is_empty() {
        writeln!(out, "no feed is known yet")?;
    }
    for feed in views {
        writeln!(out, "{} {}", feed.tenant_id, feed.content_type)?;
        writeln!(
            out,
            "  since {}, subscription {}",
            time(feed.from),
            match feed.subscribed {
                Some(true) => "enabled",
                Some(false) => "NOT enabled",
                None => "not seen yet",
            }
        )?;
        writeln!(
            out,
            "  blobs   {} listed, {} settled, {} pending, {} lost",
            feed.blobs_listed, feed.blobs_settled, feed.pending, feed.blobs_lost
        )?;
        writeln!(
            out,
            "  records {} delivered, {} duplicate, {} filtered, {} refused by a sink",
            feed.delivered, feed.duplicate, feed.filtered, feed.rejected
        )?;
        for (from, to) in feed.refused {
            writeln!(
                out,
                "  MISSING {} to {}: the service refused to list it as too old",
                time(Some(*from)),
                time(Some(*to))
            )?;
        }
        for (from, to) in feed.suspected {
            writeln!(out, "  suspect {} to {}: the subscription was not enabled", time(Some(*from)), time(Some(*to)))?;
        }
        for lost in feed.lost {
            writeln!(
                out,
                "  LOST    {} created {}: {:?}",
                lost.content_id,
                time(Some(lost.created_ms / 1000)),
                lost.reason
            )?;
        }
    }
    Ok(out)
}

fn time(seconds: Option<Seconds>) -> String {
    seconds
        .and_then(|seconds| jiff::Timestamp::from_second(seconds).ok())
        .map_or_else(|| "the first start".to_owned(), |time| time.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::feed::ContentType;
    use crate::state::{ContentKey, FeedFact, ListedBlob, LossReason};

    fn progress() -> (FeedKey, FeedProgress) {
        let mut progress = FeedProgress::default();
        let blob = ListedBlob { content_id: "blob-1".into(), content_uri: String::new(), created_ms: 0, expires: None };
        progress.apply(&FeedFact::Listed { cell: 0, at: 1, complete: true, last: false, blobs: vec![blob] });
        progress.apply(&FeedFact::Lost { content: ContentKey::of("blob-1"), at: 2, reason: LossReason::Expired });
        progress.apply(&FeedFact::Refused { from: 0, to: 60 });
        (FeedKey { tenant_id: "t".into(), content_type: ContentType::Dlp }, progress)
    }

    #[test]
    fn every_loss_is_named_in_words_and_in_json() {
        let (key, progress) = progress();
        let views = [view(&key, &progress)];
        let said = words(&views).unwrap();
        assert!(said.contains("LOST    blob-1 created 1970-01-01T00:00:00Z: Expired"), "{said}");
        assert!(said.contains("MISSING 1970-01-01T00:00:00Z to 1970-01-01T00:01:00Z"), "{said}");
        let json = serde_json::to_value(&views).unwrap();
        assert_eq!(json[0]["lost"][0]["reason"], "expired");
        assert_eq!(json[0]["refused_seconds"], 60);
    }
}
