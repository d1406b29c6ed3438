//! The JSON of `state show`: the shape that is promised, filled from what the state knows. Times are
//! RFC 3339 in UTC. Prints nothing.

use serde::Serialize;

use crate::clock::Seconds;
use crate::feed::FeedKey;
use crate::source::grid;
use crate::state::{FeedProgress, LossReason, LostBlob};

#[derive(Serialize)]
pub(super) struct Shown {
    pub(super) feeds: Vec<Feed>,
}

#[derive(Serialize)]
pub(super) struct Feed {
    pub(super) tenant_id: String,
    pub(super) content_type: &'static str,
    pub(super) from: Option<String>,
    /// Everything the service listed before this is done.
    pub(super) complete_until: Option<String>,
    pub(super) open_cells: usize,
    pub(super) cells: Vec<OpenCell>,
    pub(super) pending: Vec<Pending>,
    pub(super) ledger: Ledger,
    pub(super) subscription: Subscription,
}

#[derive(Serialize)]
pub(super) struct OpenCell {
    pub(super) start: String,
    pub(super) listed_at: Option<String>,
    pub(super) swept: bool,
    pub(super) settled: usize,
}

#[derive(Serialize)]
pub(super) struct Pending {
    pub(super) content_id: String,
    pub(super) created: String,
    pub(super) cell: String,
}

#[derive(Serialize)]
pub(super) struct Ledger {
    pub(super) blobs_listed: u64,
    pub(super) blobs_settled: u64,
    pub(super) blobs_lost: u64,
    pub(super) bytes: u64,
    pub(super) delivered: u64,
    pub(super) duplicate: u64,
    pub(super) filtered: u64,
    pub(super) rejected: u64,
    pub(super) refused_seconds: u64,
    pub(super) lost: Vec<Lost>,
    pub(super) refused: Vec<Interval>,
    pub(super) suspected: Vec<Interval>,
}

#[derive(Serialize)]
pub(super) struct Lost {
    pub(super) content_id: String,
    pub(super) created: String,
    pub(super) at: String,
    pub(super) reason: LossReason,
}

#[derive(Serialize)]
pub(super) struct Interval {
    pub(super) from: String,
    pub(super) to: String,
}

#[derive(Serialize)]
pub(super) struct Subscription {
    pub(super) enabled: Option<bool>,
    pub(super) started_at: Option<String>,
    pub(super) disabled_since: Option<String>,
}

fn time(seconds: Seconds) -> String {
    time_ms(seconds.saturating_mul(1000))
}

/// RFC 3339 in UTC; the number itself for a time beyond the calendar.
fn time_ms(milliseconds: i64) -> String {
    jiff::Timestamp::from_millisecond(milliseconds).map_or_else(|_| milliseconds.to_string(), |time| time.to_string())
}

fn intervals(known: &[(Seconds, Seconds)]) -> Vec<Interval> {
    known.iter().map(|(from, to)| Interval { from: time(*from), to: time(*to) }).collect()
}

/// Up to when the feed is known complete, as of its newest journalled listing.
fn complete_until(progress: &FeedProgress) -> Option<Seconds> {
    let newest = progress.cells.values().filter_map(|cell| cell.listed_at).max();
    Some(grid::complete_until(progress, newest.or(progress.from)?))
}

impl Feed {
    pub(super) fn of(key: &FeedKey, progress: &FeedProgress) -> Feed {
        let mut pending: Vec<_> = progress.pending.values().collect();
        pending.sort_by(|a, b| (a.blob.created_ms, &a.blob.content_id).cmp(&(b.blob.created_ms, &b.blob.content_id)));
        let books = &progress.ledger;
        let lost = |lost: &LostBlob| Lost {
            content_id: lost.content_id.clone(),
            created: time_ms(lost.created_ms),
            at: time(lost.at),
            reason: lost.reason,
        };
        Feed {
            tenant_id: key.tenant_id.to_string(),
            content_type: key.content_type.as_str(),
            from: progress.from.map(time),
            complete_until: complete_until(progress).map(time),
            open_cells: progress.cells.len(),
            cells: progress
                .cells
                .iter()
                .map(|(start, cell)| OpenCell {
                    start: time(*start),
                    listed_at: cell.listed_at.map(time),
                    swept: cell.swept,
                    settled: cell.settled.as_ref().map_or(0, |settled| settled.len()),
                })
                .collect(),
            pending: pending
                .into_iter()
                .map(|pending| Pending {
                    content_id: pending.blob.content_id.clone(),
                    created: time_ms(pending.blob.created_ms),
                    cell: time(pending.cell),
                })
                .collect(),
            ledger: Ledger {
                blobs_listed: books.blobs_listed,
                blobs_settled: books.blobs_settled,
                blobs_lost: books.blobs_lost,
                bytes: books.bytes,
                delivered: books.delivered,
                duplicate: books.duplicate,
                filtered: books.filtered,
                rejected: books.rejected,
                refused_seconds: books.refused_seconds,
                lost: books.lost.iter().map(lost).collect(),
                refused: intervals(&books.refused),
                suspected: intervals(&books.suspected),
            },
            subscription: Subscription {
                enabled: progress.subscription.enabled,
                started_at: progress.subscription.started_at.map(time),
                disabled_since: progress.subscription.disabled_since.map(time),
            },
        }
    }
}
