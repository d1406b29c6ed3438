//! What is known of one feed, and the facts that change it. Pure: no clock, no IO. The journal holds
//! facts, the snapshot holds progress, and [`FeedProgress::apply`] is the only way from one to the
//! other, in the running process and at a start alike.

use std::collections::{BTreeMap, HashMap, HashSet};

use serde::{Deserialize, Serialize};

use crate::ack::Settlement;
use crate::clock::Seconds;

/// Width of a cell of the grid, seconds. Always listed with these constant bounds, because the
/// service cuts blobs by the bounds of the query: other bounds, other content ids (activity-api 1.7).
pub const CELL: Seconds = 3600;

/// How many lost blobs and refused intervals the ledger names one by one; beyond, they are only
/// counted. 10,000: a page of JSON a person can still search, and about 2 MB.
pub const LEDGER_NAMES: usize = 10_000;

/// 128-bit hash of a `contentId`: what remains of a blob once it is settled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ContentKey(pub [u8; 16]);

impl ContentKey {
    pub fn of(content_id: &str) -> ContentKey {
        let mut key = [0; 16];
        key.copy_from_slice(&blake3::hash(content_id.as_bytes()).as_bytes()[..16]);
        ContentKey(key)
    }

    /// The mark under which a cell remembers a blob that was settled young, beside the keys of those that
    /// were settled for good. A hash of its own, so that it is no blob's key.
    pub(crate) fn young(&self) -> ContentKey {
        let mut key = [0; 16];
        key.copy_from_slice(&blake3::derive_key("auditferry settled young", &self.0)[..16]);
        ContentKey(key)
    }
}

/// A blob as a listing named it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListedBlob {
    pub content_id: String,
    /// As served; checked against the pinned host each time it is used, never here.
    pub content_uri: String,
    /// `contentCreated`, milliseconds since 1970 UTC.
    pub created_ms: i64,
    /// `contentExpiration` in seconds, where given and readable. Never acted on: only the server's
    /// word counts (activity-api 1.7).
    pub expires: Option<Seconds>,
}

/// A listed blob that is not yet settled.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PendingBlob {
    pub blob: ListedBlob,
    /// Start of the cell whose listing named it.
    pub cell: Seconds,
}

/// Why a blob was given up. Each is a statement of the server or a body nobody could read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LossReason {
    /// The server says it expired (AF20051).
    Expired,
    /// The server does not know it and no longer lists it (AF20050, AF20052, 404).
    Gone,
    /// Complete, the same every time, and beyond what can be read within the limits.
    Unreadable,
}

impl LossReason {
    /// All reasons, as they appear in metrics and in the ledger.
    pub const ALL: [LossReason; 3] = [LossReason::Expired, LossReason::Gone, LossReason::Unreadable];

    pub fn as_str(self) -> &'static str {
        match self {
            LossReason::Expired => "expired",
            LossReason::Gone => "gone",
            LossReason::Unreadable => "unreadable",
        }
    }
}

/// One thing that happened to a feed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FeedFact {
    /// Collection begins at `from`.
    Opened { from: Seconds },
    /// The subscription was seen enabled or not; `started` when we asked the service to start it.
    Subscription { at: Seconds, enabled: bool, started: bool },
    /// A listing of the cell at `cell` named these blobs. `complete`: all its pages were read.
    /// `last`: it was taken after the last sweep age, so the cell may close.
    Listed { cell: Seconds, at: Seconds, complete: bool, last: bool, blobs: Vec<ListedBlob> },
    /// Everything in the blob is done.
    Settled { content: ContentKey, counts: Settlement, bytes: u64 },
    /// The blob will never be had.
    Lost { content: ContentKey, at: Seconds, reason: LossReason },
    /// The server refused to list `[from, to)` as too old.
    Refused { from: Seconds, to: Seconds },
    /// The cell needs no more listings and all its blobs are terminal.
    Closed { cell: Seconds },
    /// As `Settled`, but its body was read so soon after the blob became available that it may have grown
    /// since: it is read once more when its cell is old enough.
    SettledYoung { content: ContentKey, counts: Settlement, bytes: u64 },
    /// Blobs settled young that an old cell still lists: pending once more.
    Again { cell: Seconds, blobs: Vec<ListedBlob> },
    /// Cells up to a time that has not come yet were closed by a clock that was wrong: what begins at
    /// `from` or later is to be listed as if it never had been.
    Reopened { from: Seconds },
    /// The server refused to list `[from, to)` as too old, but it had been listed completely before: what
    /// appeared in it later than that, if anything did, will never be had.
    Unswept { from: Seconds, to: Seconds },
}

/// One open cell of the grid, `[start, start + CELL)`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cell {
    /// Server time of the newest complete listing.
    pub listed_at: Option<Seconds>,
    /// The final sweep has been done.
    pub swept: bool,
    /// Seconds at its start that the server refused as too old.
    pub refused: u16,
    /// Blobs that need no more fetching. Boxed: most cells of most tenants have none.
    pub settled: Option<Box<HashSet<ContentKey>>>,
}

/// What is known of the subscription.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subscription {
    pub enabled: Option<bool>,
    /// When we last sent a start; 15 minutes must pass before the next (activity-api 1.5).
    pub started_at: Option<Seconds>,
    /// Since when it has been seen disabled: a suspected gap.
    pub disabled_since: Option<Seconds>,
}

/// A blob that will never be had.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LostBlob {
    pub content_id: String,
    /// RFC 3339 is for people; this is milliseconds since 1970.
    pub created_ms: i64,
    pub at: Seconds,
    pub reason: LossReason,
}

/// The books of one feed: what the service offered and what became of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ledger {
    pub blobs_listed: u64,
    pub blobs_settled: u64,
    pub bytes: u64,
    pub delivered: u64,
    pub duplicate: u64,
    pub filtered: u64,
    pub rejected: u64,
    pub blobs_lost: u64,
    /// The newest [`LEDGER_NAMES`] of them.
    pub lost: Vec<LostBlob>,
    /// Seconds of listing that the server refused as too old, in all.
    pub refused_seconds: u64,
    /// Those seconds as intervals `[from, to)`, merged where they touch.
    pub refused: Vec<(Seconds, Seconds)>,
    /// Intervals in which the subscription was seen disabled, so that the service may have kept nothing, or that
    /// were listed but could not be listed a last time, so that what came late may be missing.
    pub suspected: Vec<(Seconds, Seconds)>,
}

/// Everything that is known of one feed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FeedProgress {
    /// Where collection begins; `None` before the first start.
    pub from: Option<Seconds>,
    /// Cells that are not yet closed, by their start. A closed cell leaves the map; cells before
    /// `closed_before` are never opened again.
    pub cells: BTreeMap<Seconds, Cell>,
    pub closed_before: Seconds,
    pub pending: HashMap<ContentKey, PendingBlob>,
    pub subscription: Subscription,
    pub ledger: Ledger,
}

impl FeedProgress {
    /// Whether a blob listed in `cell` still has to be queued.
    pub fn is_new(&self, cell: Seconds, content: &ContentKey) -> bool {
        !self.pending.contains_key(content)
            && !self.has_settled(cell, content)
            && !self.has_settled(cell, &content.young())
    }

    /// Whether a blob listed in `cell` is settled but was read too soon to be sure that it was whole.
    pub fn is_young(&self, cell: Seconds, content: &ContentKey) -> bool {
        !self.pending.contains_key(content) && self.has_settled(cell, &content.young())
    }

    /// Whether a pending blob has been settled before and is only read once more.
    pub fn is_again(&self, content: &ContentKey) -> bool {
        self.pending.get(content).is_some_and(|pending| self.has_settled(pending.cell, &content.young()))
    }

    fn has_settled(&self, cell: Seconds, content: &ContentKey) -> bool {
        self.cells.get(&cell).and_then(|c| c.settled.as_ref()).is_some_and(|settled| settled.contains(content))
    }

    /// Changes what is known by one fact. Facts about cells and blobs that are not known (a journal
    /// older than the snapshot, a blob settled twice) change nothing they should not.
    pub fn apply(&mut self, fact: &FeedFact) {
        match fact {
            FeedFact::Opened { from } => {
                self.from = Some(*from);
                self.closed_before = self.closed_before.max(from.div_euclid(CELL) * CELL);
            }
            FeedFact::Subscription { at, enabled, started } => self.apply_subscription(*at, *enabled, *started),
            FeedFact::Listed { cell, at, complete, last, blobs } => {
                for blob in blobs {
                    let content = ContentKey::of(&blob.content_id);
                    if self.is_new(*cell, &content) {
                        self.ledger.blobs_listed += 1;
                        self.pending.insert(content, PendingBlob { blob: blob.clone(), cell: *cell });
                    }
                }
                if *cell >= self.closed_before || self.cells.contains_key(cell) {
                    let known = self.cells.entry(*cell).or_default();
                    if *complete {
                        known.listed_at = Some(*at);
                        known.swept |= *last;
                    }
                }
            }
            FeedFact::Settled { content, counts, bytes } => {
                let pending = self.terminate(content, Some(*content));
                self.apply_settled(pending, counts, *bytes);
            }
            FeedFact::SettledYoung { content, counts, bytes } => {
                let pending = self.terminate(content, Some(content.young()));
                self.apply_settled(pending, counts, *bytes);
            }
            FeedFact::Again { cell, blobs } => {
                for blob in blobs {
                    let content = ContentKey::of(&blob.content_id);
                    // The mark stays until it is settled for good: it is what tells it from a new one.
                    if self.is_young(*cell, &content) {
                        self.ledger.blobs_settled = self.ledger.blobs_settled.saturating_sub(1);
                        self.pending.insert(content, PendingBlob { blob: blob.clone(), cell: *cell });
                    }
                }
            }
            FeedFact::Reopened { from } => {
                self.from = Some(self.from.map_or(*from, |known| known.min(*from)));
                self.closed_before = self.closed_before.min(from.div_euclid(CELL) * CELL);
                for (_, cell) in self.cells.range_mut(self.closed_before..) {
                    (cell.listed_at, cell.swept) = (None, false);
                }
            }
            FeedFact::Lost { content, at, reason } => {
                // What is gone and unlisted may come back and is then wanted again; what expired or
                // cannot be read would be asked for at every sweep.
                let remember = (*reason != LossReason::Gone).then_some(*content);
                if let Some(pending) = self.terminate(content, remember) {
                    self.ledger.blobs_lost += 1;
                    let lost = LostBlob {
                        content_id: pending.blob.content_id,
                        created_ms: pending.blob.created_ms,
                        at: *at,
                        reason: *reason,
                    };
                    push_capped(&mut self.ledger.lost, lost);
                }
            }
            FeedFact::Refused { from, to } => self.apply_refused(*from, *to),
            FeedFact::Unswept { from, to } => {
                match self.ledger.suspected.last_mut() {
                    Some(last) if last.1 == *from => last.1 = *to,
                    _ => push_capped(&mut self.ledger.suspected, (*from, *to)),
                }
                self.set_refused(*from, *to);
            }
            FeedFact::Closed { cell } => self.apply_closed(*cell),
        }
    }

    fn apply_subscription(&mut self, at: Seconds, enabled: bool, started: bool) {
        let subscription = &mut self.subscription;
        if started {
            subscription.started_at = Some(at);
        }
        if enabled {
            if let Some(since) = subscription.disabled_since.take() {
                push_capped(&mut self.ledger.suspected, (since, at));
            }
        } else if subscription.enabled == Some(true) && subscription.disabled_since.is_none() {
            subscription.disabled_since = Some(at);
        }
        subscription.enabled = Some(enabled);
    }

    /// Cells are closed in any order. Those before this one that were never listed (a failed listing is
    /// held back, and the next cell's turn comes first) must be known by name from now on, for nothing
    /// before `closed_before` is looked for any more.
    fn apply_closed(&mut self, cell: Seconds) {
        if self.from.is_some() {
            let mut unlisted = self.closed_before;
            while unlisted < cell {
                self.cells.entry(unlisted).or_default();
                unlisted += CELL;
            }
        }
        self.cells.remove(&cell);
        self.closed_before = self.closed_before.max(cell + CELL);
    }

    fn apply_refused(&mut self, from: Seconds, to: Seconds) {
        self.ledger.refused_seconds += u64::try_from(to - from).unwrap_or(0);
        match self.ledger.refused.last_mut() {
            Some(last) if last.1 == from => last.1 = to,
            _ => push_capped(&mut self.ledger.refused, (from, to)),
        }
        self.set_refused(from, to);
    }

    /// The cell is listed from `to` on.
    fn set_refused(&mut self, from: Seconds, to: Seconds) {
        let cell = from.div_euclid(CELL) * CELL;
        if cell >= self.closed_before || self.cells.contains_key(&cell) {
            let known = self.cells.entry(cell).or_default();
            known.refused = u16::try_from((to - cell).clamp(0, CELL)).unwrap_or(0);
        }
    }

    fn apply_settled(&mut self, pending: Option<PendingBlob>, counts: &Settlement, bytes: u64) {
        let ledger = &mut self.ledger;
        ledger.blobs_settled += 1;
        ledger.bytes += bytes;
        ledger.delivered += u64::from(counts.delivered);
        ledger.duplicate += u64::from(counts.duplicate);
        ledger.filtered += u64::from(counts.filtered);
        ledger.rejected += u64::from(counts.rejected);
        // What was gone has come back and is delivered: it was never lost, and was listed twice.
        let Some(PendingBlob { blob, .. }) = pending.filter(|_| !ledger.lost.is_empty()) else { return };
        let is_it = |lost: &LostBlob| lost.created_ms == blob.created_ms && lost.content_id == blob.content_id;
        if let Some(at) = ledger.lost.iter().position(is_it) {
            ledger.lost.remove(at);
            ledger.blobs_lost = ledger.blobs_lost.saturating_sub(1);
            ledger.blobs_listed = ledger.blobs_listed.saturating_sub(1);
        }
    }

    /// A pending blob has come to its end; its cell remembers it as `mark`.
    fn terminate(&mut self, content: &ContentKey, mark: Option<ContentKey>) -> Option<PendingBlob> {
        let pending = self.pending.remove(content)?;
        if let Some(cell) = self.cells.get_mut(&pending.cell) {
            if let Some(settled) = &mut cell.settled {
                settled.remove(&content.young());
            }
            if let Some(mark) = mark {
                cell.settled.get_or_insert_default().insert(mark);
            }
        }
        Some(pending)
    }
}

fn push_capped<T>(names: &mut Vec<T>, name: T) {
    if names.len() == LEDGER_NAMES {
        names.remove(0);
    }
    names.push(name);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blob(id: &str) -> ListedBlob {
        ListedBlob { content_id: id.into(), content_uri: String::new(), created_ms: 1, expires: None }
    }

    fn listed(ids: &[&str]) -> FeedFact {
        let blobs = ids.iter().map(|id| blob(id)).collect();
        FeedFact::Listed { cell: 0, at: 10, complete: true, last: false, blobs }
    }

    #[test]
    fn a_settled_blob_is_not_new_again_and_a_gone_one_is() {
        let mut progress = FeedProgress::default();
        progress.apply(&listed(&["a", "b", "c"]));
        let key = ContentKey::of;
        progress.apply(&FeedFact::Settled { content: key("a"), counts: Settlement::default(), bytes: 1 });
        progress.apply(&FeedFact::Lost { content: key("b"), at: 1, reason: LossReason::Gone });
        progress.apply(&FeedFact::Lost { content: key("c"), at: 1, reason: LossReason::Expired });
        let new = ["a", "b", "c"].map(|id| progress.is_new(0, &key(id)));
        assert_eq!(new, [false, true, false]);
        assert_eq!((progress.ledger.blobs_lost, progress.ledger.blobs_listed), (2, 3));
    }

    #[test]
    fn what_was_gone_and_came_back_is_no_longer_lost() {
        let mut progress = FeedProgress::default();
        let (content, counts) = (ContentKey::of("a"), Settlement::default());
        progress.apply(&listed(&["a", "b"]));
        progress.apply(&FeedFact::Lost { content, at: 1, reason: LossReason::Gone });
        progress.apply(&listed(&["a", "b"]));
        progress.apply(&FeedFact::Settled { content, counts, bytes: 1 });
        let ledger = &progress.ledger;
        assert_eq!((ledger.blobs_listed, ledger.blobs_settled, ledger.blobs_lost, ledger.lost.len()), (2, 1, 0, 0));
    }

    #[test]
    fn a_blob_settled_young_is_read_once_more_and_then_never() {
        let mut progress = FeedProgress::default();
        let (content, counts) = (ContentKey::of("a"), Settlement::default());
        let look = |p: &FeedProgress| (p.is_new(0, &content), p.is_young(0, &content), p.is_again(&content));
        progress.apply(&listed(&["a"]));
        assert_eq!(look(&progress), (false, false, false));
        progress.apply(&FeedFact::SettledYoung { content, counts, bytes: 1 });
        assert_eq!(look(&progress), (false, true, false));
        let again = FeedFact::Again { cell: 0, blobs: vec![blob("a")] };
        progress.apply(&again);
        assert_eq!(look(&progress), (false, false, true));
        progress.apply(&FeedFact::Settled { content, counts, bytes: 1 });
        progress.apply(&again);
        assert_eq!(look(&progress), (false, false, false));
        assert_eq!((progress.ledger.blobs_listed, progress.ledger.blobs_settled), (1, 1));
        assert!(progress.pending.is_empty());
    }

    #[test]
    fn refused_intervals_that_touch_are_one() {
        let mut progress = FeedProgress::default();
        progress.apply(&listed(&[]));
        progress.apply(&FeedFact::Refused { from: 0, to: 60 });
        progress.apply(&FeedFact::Refused { from: 60, to: 120 });
        assert_eq!(progress.ledger.refused, vec![(0, 120)]);
        assert_eq!((progress.ledger.refused_seconds, progress.cells[&0].refused), (120, 120));
    }
}
