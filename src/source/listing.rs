//! One listing: all pages of a cell, each page's blobs made known as soon as it is read, the cell
//! counted as listed only when the last page was.

use std::collections::HashSet;

use super::client::{Client, Page};
use super::error::ApiError;
use super::grid::{Edge, Listing, RETENTION};
use super::live_edge::is_ripe;
use crate::failpoint;
use crate::feed::ContentType;
use crate::state::{ContentKey, FeedFact, FeedState, ListedBlob};

/// Pages of one listing. 20,000 pages of the smallest size seen are over a million blobs an hour.
const MAX_PAGES: usize = 20_000;
/// Pages in a row that name no blob which this listing had not named before; an empty page may carry a
/// next one (activity-api 1.7), a thousand of them are a loop. Blobs known from earlier listings count:
/// a busy cell is thousands of pages, and all of them are known when it is listed again.
const MAX_IDLE_PAGES: usize = 1_000;
/// How near the edge of retention a refusal is believed to be about age rather than about clocks.
const EDGE_MARGIN: i64 = 15 * 60;
/// What was listed at a time is sure up to this long before it: that is when the listing may have begun.
const LISTING_TAKES: i64 = 15 * 60;
/// A re-listing that brings nothing is journalled only from this age of its cell on; for younger cells
/// a start simply lists again. Otherwise polling alone would fill the journal.
const JOURNAL_EMPTY_FROM_AGE: i64 = 3 * 3600;

/// What a page named that is to be fetched: keys and `contentCreated` in milliseconds.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// Blobs that were not known.
    pub new: Vec<(ContentKey, i64)>,
    /// Blobs that were read when they were young, and are to be read once more.
    pub again: Vec<(ContentKey, i64)>,
}

impl Found {
    pub fn is_empty(&self) -> bool {
        self.new.is_empty() && self.again.is_empty()
    }
}

/// What a complete listing named.
#[derive(Debug, Default)]
pub struct Listed {
    /// Every blob named, known before or not.
    pub seen: HashSet<ContentKey>,
    /// Seconds that the server refused as too old and that were to be collected.
    pub refused_seconds: u64,
    /// The whole cell was covered: what it did not name is not listed any more.
    pub is_whole: bool,
}

/// Lists `listing` for a feed. What earlier pages named stays known when a later page fails; `found`
/// hears of it either way.
pub async fn list(
    client: &Client,
    state: &FeedState,
    content_type: ContentType,
    mut listing: Listing,
    found: impl Fn(Found),
) -> Result<Listed, ApiError> {
    loop {
        let text = match list_pages(client, state, content_type, &listing, &found).await {
            Err(ApiError::RangeRefused { text }) => text,
            other => return other,
        };
        let now = client.server_clock.now();
        if listing.from > now - RETENTION + EDGE_MARGIN {
            // Not about age. The end of the live cell lies in the future, which a deployment may refuse
            // (activity-api 3.1): then up to now.
            if listing.to <= now || now <= listing.from {
                return Err(ApiError::RangeRefused { text });
            }
            listing.to = now;
            continue;
        }
        match edge(client, state, content_type, &listing, now, &found).await? {
            Some(from) => listing.from = from,
            None => {
                listing.from = listing.to;
                let mut listed = Listed { refused_seconds: refused(state, &listing), ..Listed::default() };
                complete(state, &listing, now, Vec::new(), &mut listed);
                return Ok(listed);
            }
        }
    }
}

/// Asks the service from where on it still lists the cell.
async fn edge(
    client: &Client,
    state: &FeedState,
    content_type: ContentType,
    listing: &Listing,
    now: i64,
    found: &impl Fn(Found),
) -> Result<Option<i64>, ApiError> {
    let mut edge = Edge::of(listing, now);
    while let Some(from) = edge.next() {
        match client.list(content_type, from, listing.to).await {
            Ok(page) => {
                // What it names may be too old to be listed by the time the edge is found.
                let sorted = sort(state, listing.cell, now, page.blobs, &mut HashSet::new());
                keep(state, listing.cell, now, sorted, found);
                edge.answered(from, true);
            }
            Err(ApiError::RangeRefused { .. }) => edge.answered(from, false),
            Err(error) => return Err(error),
        }
    }
    Ok(edge.found())
}

async fn list_pages(
    client: &Client,
    state: &FeedState,
    content_type: ContentType,
    listing: &Listing,
    found: &impl Fn(Found),
) -> Result<Listed, ApiError> {
    let mut listed = Listed::default();
    let mut asked = HashSet::new();
    let mut idle = 0;
    let mut page = client.list(content_type, listing.from, listing.to).await?;
    loop {
        let Page { blobs, next, .. } = page;
        let named = listed.seen.len();
        let at = client.server_clock.now();
        let mut sorted = sort(state, listing.cell, at, blobs, &mut listed.seen);
        idle = if listed.seen.len() == named { idle + 1 } else { 0 };
        let Some(next) = next else {
            listed.refused_seconds = refused(state, listing);
            // The end may be now instead of the cell's: nothing stands behind that yet.
            listed.is_whole = listing.from <= listing.cell;
            // One fact with the end of the listing.
            complete(state, listing, at, std::mem::take(&mut sorted.blobs), &mut listed);
            keep(state, listing.cell, at, sorted, found);
            return Ok(listed);
        };
        keep(state, listing.cell, at, sorted, found);
        let url = client.pin.check(&next)?;
        let is_loop = !asked.insert(ContentKey::of(url.as_url().as_str()));
        if is_loop || asked.len() > MAX_PAGES || idle > MAX_IDLE_PAGES {
            let text = format!("the listing does not end: {} pages, the last {idle} without anything new", asked.len());
            return Err(ApiError::Transient { text });
        }
        page = client.page(&url).await?;
    }
}

/// A page's blobs by what is to be done about them; known ones are in none of these.
struct Sorted {
    blobs: Vec<ListedBlob>,
    again: Vec<ListedBlob>,
    found: Found,
}

/// Those of `blobs` that are not known, and those that are to be read once more at `now`.
fn sort(state: &FeedState, cell: i64, now: i64, blobs: Vec<ListedBlob>, seen: &mut HashSet<ContentKey>) -> Sorted {
    let mut keys = Vec::new();
    let mut again = Vec::new();
    let is_ripe = is_ripe(cell, now);
    let new: Vec<ListedBlob> = state.read(|progress| {
        let is_new = |blob: &ListedBlob| {
            let key = ContentKey::of(&blob.content_id);
            let is_new = seen.insert(key) && progress.is_new(cell, &key);
            if is_new {
                keys.push((key, blob.created_ms));
            } else if is_ripe && progress.is_young(cell, &key) {
                again.push((key, blob.clone()));
            }
            is_new
        };
        blobs.into_iter().filter(is_new).collect()
    });
    let found = Found { new: keys, again: again.iter().map(|(key, blob)| (*key, blob.created_ms)).collect() };
    Sorted { blobs: new, again: again.into_iter().map(|(_, blob)| blob).collect(), found }
}

/// Writes down what a page named, and tells of it.
fn keep(state: &FeedState, cell: i64, at: i64, page: Sorted, found: &impl Fn(Found)) {
    if !page.again.is_empty() {
        state.record(FeedFact::Again { cell, blobs: page.again });
    }
    if !page.blobs.is_empty() {
        state.record(FeedFact::Listed { cell, at, complete: false, last: false, blobs: page.blobs });
    }
    found(page.found);
}

/// Ledgers what the server refused at the start of the cell, as far as it was to be collected; returns
/// the seconds that are lost. What an earlier listing covered is not: only what came late in it may be.
fn refused(state: &FeedState, listing: &Listing) -> u64 {
    let (from, listed_to) = state.read(|p| {
        let cell = p.cells.get(&listing.cell);
        let known = cell.map_or(0, |c| i64::from(c.refused));
        let from = (listing.cell + known).max(p.from.unwrap_or(listing.cell));
        (from, cell.and_then(|c| c.listed_at).map_or(from, |at| at - LISTING_TAKES))
    });
    let to = listing.from;
    let middle = listed_to.clamp(from.min(to), to);
    if middle > from {
        tracing::warn!(
            cell = listing.cell,
            seconds = middle - from,
            "hours that were listed could not be listed a last time; what appeared late in them may be missing; it is in the ledger"
        );
        state.record(FeedFact::Unswept { from, to: middle });
    }
    if to > middle {
        state.record(FeedFact::Refused { from: middle, to });
    }
    u64::try_from(to - middle).unwrap_or(0)
}

fn complete(state: &FeedState, listing: &Listing, at: i64, blobs: Vec<ListedBlob>, listed: &mut Listed) {
    let Listing { cell, last, .. } = *listing;
    let end = cell + crate::state::CELL;
    let known = state.read(|p| p.cells.get(&cell).and_then(|c| c.listed_at));
    // Also the first one after its end: what a long outage then leaves behind counts as listed.
    let is_first = known.is_none_or(|known| known < end && at >= end);
    let is_news = !blobs.is_empty() || last || at - cell > JOURNAL_EMPTY_FROM_AGE || is_first;
    let fact = FeedFact::Listed { cell, at, complete: true, last, blobs };
    if is_news {
        state.record(fact);
    } else {
        state.note(fact);
    }
    listed.seen.shrink_to_fit();
    failpoint::pass("list");
}
