//! The grid: which cell of a feed is listed next, and when. Pure: what is known and what time it is
//! go in, the next listing comes out.
//!
//! Nothing in the documentation bounds how late a blob may enter the listing of an old hour, so
//! every cell is listed again, ever more seldom, until the service's retention ends
//! (activity-api 3.1–3.2). Always with the cell's own bounds, or content ids would change.

use std::collections::BTreeSet;

use crate::clock::Seconds;
use crate::state::{CELL, Cell, FeedProgress};

const MINUTE: Seconds = 60;
const HOUR: Seconds = 3600;
const DAY: Seconds = 24 * HOUR;

/// The service lists what became available in the last 7 days (activity-api 1.7).
pub const RETENTION: Seconds = 7 * DAY;
/// From this age of its start on, a cell is listed for the last time: late enough to have seen what
/// came late, four hours before its first seconds can no longer be asked for.
pub const LAST_SWEEP: Seconds = RETENTION - 4 * HOUR;
/// A cell nearer than this to the end of its retention is not waited with.
const LAST_CHANCE: Seconds = 10 * MINUTE;
/// How far the start of a listing moves on when the service refuses it as too old.
pub const REFUSED_STEP: Seconds = MINUTE;
/// How far inside the retention the first start begins, so that it is not refused on the way.
pub const FIRST_START_MARGIN: Seconds = 5 * MINUTE;

/// A listing to be made: all pages of `[from, to)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listing {
    /// The cell it belongs to.
    pub cell: Seconds,
    pub from: Seconds,
    pub to: Seconds,
    /// Its success is the cell's last sweep.
    pub last: bool,
}

/// What to do next about listings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    Now(Listing),
    /// Nothing before this time.
    At(Seconds),
}

/// The start of the cell that holds `at`.
pub fn cell_of(at: Seconds) -> Seconds {
    at.div_euclid(CELL) * CELL
}

/// Where collection begins on the first start.
pub fn first_start(now: Seconds, backfill: Seconds) -> Seconds {
    now - backfill.min(RETENTION - FIRST_START_MARGIN)
}

/// How long after its last listing a cell is listed again.
fn interval(cell: Seconds, now: Seconds, poll: Seconds) -> Seconds {
    let age = now - (cell + CELL);
    match age {
        // The live cell and the one before it.
        ..HOUR => poll,
        _ if age < 3 * HOUR => (5 * MINUTE).max(poll),
        _ if age < DAY => 30 * MINUTE,
        _ => 6 * HOUR,
    }
}

/// When a cell is due; `None` when it needs no more listings.
fn due(start: Seconds, cell: Option<&Cell>, now: Seconds, poll: Seconds) -> Option<Seconds> {
    let Some(listed_at) = cell.and_then(|c| c.listed_at) else { return Some(Seconds::MIN) };
    if cell.is_some_and(|c| c.swept) {
        return None;
    }
    // Listed in the future: a clock was wrong, then or now.
    if listed_at > now + MINUTE {
        return Some(Seconds::MIN);
    }
    let regular = listed_at + interval(start, now, poll);
    Some(regular.min((start + LAST_SWEEP).max(listed_at + MINUTE)))
}

/// The next listing of a feed: live cells first, then the oldest that can still be listed by all we know,
/// then those that retention seems to have overtaken: asking for them is a formality that must not cost
/// the next ones their last minutes. `held` tells until when a cell is held back after a failure
/// (`Seconds::MIN`: not at all).
pub fn next(progress: &FeedProgress, now: Seconds, poll: Seconds, held: impl Fn(Seconds) -> Seconds) -> Next {
    let live = cell_of(now);
    let mut soonest = live + CELL;
    let mut found: Option<Seconds> = None;
    for start in open_cells(progress, now) {
        let Some(due) = due(start, progress.cells.get(&start), now, poll) else { continue };
        let due = due.max(held(start));
        if due > now {
            soonest = soonest.min(due);
            continue;
        }
        if start >= live - CELL {
            found = Some(start);
            break;
        }
        let is_better = found.is_none_or(|found| is_overtaken(found, now) && !is_overtaken(start, now));
        found = if is_better { Some(start) } else { found };
    }
    match found {
        Some(cell) => Next::Now(listing(progress, cell, now)),
        None => Next::At(soonest),
    }
}

/// Whether all of a cell seems to be beyond retention. Only the service's word makes it so.
fn is_overtaken(cell: Seconds, now: Seconds) -> bool {
    cell + CELL <= now - RETENTION
}

/// Whether cells are closed whose time has not come: closed by a clock that was wrong, for a cell closes
/// days after its end. The hour is for a collection begun a moment ago and a clock set back a little.
pub fn is_ahead(progress: &FeedProgress, now: Seconds) -> bool {
    progress.closed_before > cell_of(now) + CELL
}

/// The next listing of a run that ends: the first of `cells` that is not held back, due or not, and that
/// retention has not overtaken if there is one.
pub fn next_of(
    progress: &FeedProgress,
    cells: &BTreeSet<Seconds>,
    now: Seconds,
    held: impl Fn(Seconds) -> Seconds,
) -> Next {
    let mut free = cells.iter().copied().filter(|cell| held(*cell) <= now);
    let first = free.next();
    let best = first.filter(|cell| !is_overtaken(*cell, now)).or_else(|| free.find(|cell| !is_overtaken(*cell, now)));
    match best.or(first) {
        Some(cell) => Next::Now(listing(progress, cell, now)),
        None => Next::At(cells.iter().copied().map(held).min().unwrap_or(Seconds::MAX)),
    }
}

fn listing(progress: &FeedProgress, cell: Seconds, now: Seconds) -> Listing {
    let refused = progress.cells.get(&cell).map_or(0, |c| Seconds::from(c.refused));
    // One listing may lack a blob that the next one has, so a cell's only one is not its last, if there is
    // time for another.
    let was_listed = progress.cells.get(&cell).is_some_and(|c| c.listed_at.is_some());
    let is_pressed = now - cell >= RETENTION - LAST_CHANCE;
    let last = now - cell >= LAST_SWEEP && (was_listed || is_pressed);
    Listing { cell, from: cell + refused, to: cell + CELL, last }
}

/// The search for where, within a cell, the service's retention begins: it refused the cell's start as too
/// old. Only what it refuses is lost, and it may reach back further than it says (an hour has been seen,
/// activity-api 1.7), so the edge is not computed but asked for: where it should be, a step beside that,
/// then by halves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Edge {
    /// A start that was refused, and the earliest that was not (the end of the cell was never asked for).
    refused: Seconds,
    accepted: Seconds,
    to: Seconds,
    /// Where to ask next; `None`: in the middle.
    guess: Option<Seconds>,
    is_first: bool,
}

impl Edge {
    /// `listing` was refused at `now`.
    pub fn of(listing: &Listing, now: Seconds) -> Edge {
        Edge {
            refused: listing.from,
            accepted: listing.to,
            to: listing.to,
            guess: Some(now - RETENTION),
            is_first: true,
        }
    }

    /// The next start to try; `None` when the edge is known to the step.
    pub fn next(&self) -> Option<Seconds> {
        let (low, high) = (self.refused + REFUSED_STEP, self.accepted - REFUSED_STEP);
        let middle = self.refused + (self.accepted - self.refused) / 2;
        match self.accepted - self.refused {
            ..=REFUSED_STEP => None,
            // Between one step and two there is one place that tells.
            _ if high < low => Some(high),
            _ => Some(self.guess.unwrap_or(middle).clamp(low, high)),
        }
    }

    /// The service's word on the start that [`Edge::next`] named.
    pub fn answered(&mut self, from: Seconds, is_accepted: bool) {
        // The guess and the step beside it, then halves.
        let was_first = std::mem::take(&mut self.is_first);
        if is_accepted {
            self.accepted = from;
            self.guess = was_first.then_some(from - REFUSED_STEP);
        } else {
            self.refused = from;
            self.guess = was_first.then_some(from + REFUSED_STEP);
        }
    }

    /// Where to list from; `None`: all of the cell is refused.
    pub fn found(&self) -> Option<Seconds> {
        (self.accepted < self.to).then_some(self.accepted)
    }
}

/// Starts of all cells that are not closed, the live one included, ascending.
pub fn open_cells(progress: &FeedProgress, now: Seconds) -> impl Iterator<Item = Seconds> {
    let closed_before = progress.closed_before;
    let older = progress.cells.keys().copied().take_while(move |start| *start < closed_before);
    let count = ((cell_of(now) - closed_before).max(0) / CELL) + 1;
    older.chain((0..count).map(move |n| closed_before + n * CELL))
}

/// Cells that may close: swept, and none of their blobs pending.
pub fn closable(progress: &FeedProgress) -> Vec<Seconds> {
    let mut swept: BTreeSet<Seconds> =
        progress.cells.iter().filter(|(_, c)| c.swept).map(|(start, _)| *start).collect();
    for pending in progress.pending.values() {
        if swept.is_empty() {
            break;
        }
        swept.remove(&pending.cell);
    }
    swept.into_iter().collect()
}

/// Up to when the feed is known complete: every cell before it listed after its end (or up to when it was
/// listed), every listed blob before it settled. Seconds since 1970 UTC.
pub fn complete_until(progress: &FeedProgress, now: Seconds) -> Seconds {
    let mut until = progress.from.unwrap_or(now);
    for start in open_cells(progress, now) {
        match progress.cells.get(&start).and_then(|c| c.listed_at) {
            Some(listed_at) if listed_at >= start + CELL => until = until.max(start + CELL),
            Some(listed_at) => {
                until = until.max(listed_at);
                break;
            }
            None => break,
        }
    }
    let oldest_pending = progress.pending.values().map(|p| p.blob.created_ms.div_euclid(1000)).min();
    oldest_pending.map_or(until, |oldest| until.min(oldest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::{FeedFact, ListedBlob};

    const NOW: Seconds = 1_000_000 * HOUR + 100;
    const POLL: Seconds = 30;

    fn opened(from: Seconds) -> FeedProgress {
        let mut progress = FeedProgress::default();
        progress.apply(&FeedFact::Opened { from });
        progress
    }

    fn list(progress: &mut FeedProgress, listing: Listing, at: Seconds) {
        let Listing { cell, last, .. } = listing;
        progress.apply(&FeedFact::Listed { cell, at, complete: true, last, blobs: vec![] });
    }

    /// Makes all listings that are due at `now`; returns their cells.
    fn drain(progress: &mut FeedProgress, now: Seconds) -> Vec<Seconds> {
        let mut cells = Vec::new();
        while let Next::Now(listing) = next(progress, now, POLL, |_| Seconds::MIN) {
            list(progress, listing, now);
            cells.push(listing.cell);
            assert!(cells.len() < 1000, "the grid loops");
        }
        cells
    }

    #[test]
    fn a_first_start_lists_every_cell_once_the_live_ones_first() {
        let mut progress = opened(first_start(NOW, RETENTION));
        let cells = drain(&mut progress, NOW);
        assert_eq!(cells.len(), 169);
        assert_eq!(cells[..2], [cell_of(NOW) - CELL, cell_of(NOW)]);
        assert!(cells[2..].is_sorted());
    }

    #[test]
    fn the_live_cell_and_the_one_before_are_polled_older_ones_thin_out() {
        let mut progress = opened(NOW - 50 * HOUR);
        drain(&mut progress, NOW);
        assert_eq!(next(&progress, NOW + 1, POLL, |_| Seconds::MIN), Next::At(NOW + POLL));
        assert_eq!(drain(&mut progress, NOW + POLL).len(), 2);
        assert_eq!(drain(&mut progress, NOW + 5 * MINUTE).len(), 4);
        let per_day: usize = (1..=24 * 12).map(|n| drain(&mut progress, NOW + n * 5 * MINUTE).len()).sum();
        // 2 live and 2 young cells at each of 288 steps, 21 half-hourly, 26 six-hourly.
        assert!((2000..2500).contains(&per_day), "{per_day} listings a day without the polls between");
    }

    #[test]
    fn a_cell_closes_after_its_last_sweep_and_not_while_a_blob_is_pending() {
        let mut progress = opened(NOW);
        let cell = cell_of(NOW);
        drain(&mut progress, NOW);
        let late = cell + LAST_SWEEP;
        let Next::Now(listing) = next(&progress, late, POLL, |s| if s == cell { Seconds::MIN } else { Seconds::MAX })
        else {
            panic!("the last sweep is due");
        };
        assert!(listing.last && listing.from == cell && late - listing.from < RETENTION);
        let blob = ListedBlob { content_id: "b".into(), content_uri: String::new(), created_ms: 0, expires: None };
        let key = crate::state::ContentKey::of("b");
        progress.apply(&FeedFact::Listed { cell, at: late, complete: true, last: true, blobs: vec![blob] });
        assert!(closable(&progress).is_empty());
        progress.apply(&FeedFact::Settled { content: key, counts: Default::default(), bytes: 0 });
        assert_eq!(closable(&progress), [cell]);
    }

    #[test]
    fn a_cell_that_could_not_be_listed_yet_is_not_forgotten_when_a_later_one_closes() {
        let mut progress = opened(NOW - RETENTION + FIRST_START_MARGIN);
        let first = cell_of(NOW - RETENTION + FIRST_START_MARGIN);
        // The listing of the oldest cell failed and is held back; the next one is swept and closes.
        let others = |s| if s == first || s >= NOW - DAY { Seconds::MAX } else { Seconds::MIN };
        let Next::Now(once) = next(&progress, NOW - MINUTE, POLL, others) else { panic!("due") };
        assert!(!once.last && once.cell > first, "one listing may have a hole");
        list(&mut progress, once, NOW - MINUTE);
        let Next::Now(second) = next(&progress, NOW, POLL, others) else { panic!("due") };
        assert!(second.last && second.cell == once.cell);
        list(&mut progress, second, NOW);
        assert_eq!(closable(&progress), [second.cell]);
        progress.apply(&FeedFact::Closed { cell: second.cell });
        assert_eq!(open_cells(&progress, NOW).next(), Some(first));
        assert!(open_cells(&progress, NOW).all(|cell| cell != second.cell));
        assert!(drain(&mut progress, NOW).contains(&first));
    }

    #[test]
    fn a_cell_listed_in_the_future_is_listed_again_now() {
        let mut progress = opened(NOW);
        drain(&mut progress, NOW + DAY);
        assert_eq!(drain(&mut progress, NOW), [cell_of(NOW)]);
    }

    /// Asks a service whose retention begins at `edge`; returns where to list from and how often it was asked.
    fn search(listing: &Listing, now: Seconds, edge: Seconds) -> (Option<Seconds>, usize) {
        assert!(listing.from < edge);
        let mut search = Edge::of(listing, now);
        let mut asked = 0;
        while let Some(from) = search.next() {
            assert!(from > listing.from && from < listing.to);
            search.answered(from, from >= edge);
            asked += 1;
            assert!(asked < 20);
        }
        (search.found(), asked)
    }

    #[test]
    fn a_cell_past_the_edge_is_asked_for_whole_and_then_from_where_the_service_says() {
        let progress = opened(NOW - RETENTION);
        let Next::Now(whole) = next(&progress, NOW, POLL, |s| if s < NOW - DAY { Seconds::MIN } else { Seconds::MAX })
        else {
            panic!("due");
        };
        assert_eq!(whole.from, whole.cell);
        for edge in whole.from + 1..whole.to {
            // Whatever the service thinks the time is, no more than a step of what it still lists is given up.
            for skew in [0, -20 * MINUTE, 20 * MINUTE, 3 * HOUR] {
                let (found, asked) = search(&whole, edge + RETENTION + skew, edge);
                assert!(found.is_none_or(|from| (edge..=edge + REFUSED_STEP).contains(&from)), "{edge} {found:?}");
                assert!(found.is_some() || edge > whole.to - REFUSED_STEP * 2, "{edge}");
                assert!(asked <= if skew == 0 { 3 } else { 10 }, "{asked}");
            }
        }
        assert_eq!(search(&whole, NOW + DAY, whole.to), (None, 1), "a cell that is gone costs one more question");
    }

    #[test]
    fn what_can_still_be_listed_comes_before_what_retention_has_overtaken() {
        let progress = opened(NOW - 9 * DAY);
        let Next::Now(first) = next(&progress, NOW, POLL, |s| if s < NOW - DAY { Seconds::MIN } else { Seconds::MAX })
        else {
            panic!("due");
        };
        assert_eq!(first.cell, cell_of(NOW - RETENTION));
        let cells: BTreeSet<Seconds> = open_cells(&progress, NOW).collect();
        let Next::Now(of_once) = next_of(&progress, &cells, NOW, |_| Seconds::MIN) else { panic!("due") };
        assert_eq!(of_once.cell, first.cell);
        let old = cells.iter().copied().filter(|cell| is_overtaken(*cell, NOW)).collect();
        assert!(matches!(next_of(&progress, &old, NOW, |_| Seconds::MIN), Next::Now(_)));
    }

    #[test]
    fn what_a_clock_of_the_future_closed_is_opened_again() {
        let mut progress = opened(NOW);
        let future = NOW + 30 * DAY;
        for cell in drain(&mut progress, future) {
            if future - cell >= LAST_SWEEP {
                progress.apply(&FeedFact::Closed { cell });
            }
        }
        assert!(is_ahead(&progress, NOW) && !is_ahead(&progress, future));
        progress.apply(&FeedFact::Reopened { from: first_start(NOW, RETENTION) });
        assert!(!is_ahead(&progress, NOW));
        assert_eq!(drain(&mut progress, NOW).len(), 169);
        assert!(closable(&progress).iter().all(|cell| *cell < NOW - LAST_SWEEP), "none of the future");
    }

    #[test]
    fn a_held_cell_waits_and_the_others_do_not() {
        let progress = opened(NOW);
        assert_eq!(next(&progress, NOW, POLL, |_| NOW + 7), Next::At(NOW + 7));
    }

    #[test]
    fn complete_until_stops_at_the_oldest_pending_blob() {
        let mut progress = opened(NOW - 3 * HOUR);
        drain(&mut progress, NOW);
        assert_eq!(complete_until(&progress, NOW), NOW);
        let created_ms = (NOW - 2 * HOUR) * 1000;
        let blob = ListedBlob { content_id: "b".into(), content_uri: String::new(), created_ms, expires: None };
        progress.apply(&FeedFact::Listed {
            cell: cell_of(NOW),
            at: NOW,
            complete: true,
            last: false,
            blobs: vec![blob],
        });
        assert_eq!(complete_until(&progress, NOW), NOW - 2 * HOUR);
    }
}
