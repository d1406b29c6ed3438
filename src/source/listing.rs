//! One listing: all pages of a cell, each page's blobs made known as soon as it is read, the cell
//! counted as listed only when the last page was.

use std::collections::HashSet;

use super::client::{Client, Page};
use super::error::ApiError;
use super::grid::{Listing, RETENTION, after_refusal};
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
/// A re-listing that brings nothing is journalled only from this age of its cell on; for younger cells
/// a start simply lists again. Otherwise polling alone would fill the journal.
const JOURNAL_EMPTY_FROM_AGE: i64 = 3 * 3600;

/// What a complete listing named.
#[derive(Debug, Default)]
pub struct Listed {
    /// Every blob named, known before or not.
    pub seen: HashSet<ContentKey>,
    /// Blobs that were not known: key and `contentCreated` in milliseconds.
    pub new: Vec<(ContentKey, i64)>,
    /// Seconds that the server refused as too old and that were to be collected.
    pub refused_seconds: u64,
}

/// Lists `listing` for a feed. What earlier pages named stays known when a later page fails; `found`
/// hears of it either way.
pub async fn list(
    client: &Client,
    state: &FeedState,
    content_type: ContentType,
    mut listing: Listing,
    found: impl Fn(&[(ContentKey, i64)]),
) -> Result<Listed, ApiError> {
    loop {
        match list_pages(client, state, content_type, &listing, &found).await {
            Err(ApiError::RangeRefused { text }) => {
                let now = client.server_clock.now();
                if listing.from > now - RETENTION + EDGE_MARGIN {
                    return Err(ApiError::RangeRefused { text });
                }
                match after_refusal(&listing, now) {
                    Some(later) => listing = later,
                    None => {
                        listing.from = listing.to;
                        let mut listed = Listed { refused_seconds: refused(state, &listing), ..Listed::default() };
                        complete(state, &listing, now, Vec::new(), &mut listed);
                        return Ok(listed);
                    }
                }
            }
            other => return other,
        }
    }
}

async fn list_pages(
    client: &Client,
    state: &FeedState,
    content_type: ContentType,
    listing: &Listing,
    found: &impl Fn(&[(ContentKey, i64)]),
) -> Result<Listed, ApiError> {
    let mut listed = Listed::default();
    let mut asked = HashSet::new();
    let mut idle = 0;
    let mut page = client.list(content_type, listing.from, listing.to).await?;
    loop {
        let Page { blobs, next } = page;
        let named = listed.seen.len();
        let (blobs, new) = unknown(state, listing.cell, blobs, &mut listed.seen);
        idle = if listed.seen.len() == named { idle + 1 } else { 0 };
        listed.new.extend_from_slice(&new);
        let Some(next) = next else {
            listed.refused_seconds = refused(state, listing);
            complete(state, listing, client.server_clock.now(), blobs, &mut listed);
            found(&new);
            return Ok(listed);
        };
        if !blobs.is_empty() {
            let at = client.server_clock.now();
            state.record(FeedFact::Listed { cell: listing.cell, at, complete: false, last: false, blobs });
            found(&new);
        }
        let url = client.pin.check(&next)?;
        let is_loop = !asked.insert(ContentKey::of(url.as_url().as_str()));
        if is_loop || asked.len() > MAX_PAGES || idle > MAX_IDLE_PAGES {
            let text = format!("the listing does not end: {} pages, the last {idle} without anything new", asked.len());
            return Err(ApiError::Transient { text });
        }
        page = client.page(&url).await?;
    }
}

/// Those of `blobs` that are not known, whole and as keys.
fn unknown(
    state: &FeedState,
    cell: i64,
    blobs: Vec<ListedBlob>,
    seen: &mut HashSet<ContentKey>,
) -> (Vec<ListedBlob>, Vec<(ContentKey, i64)>) {
    let mut keys = Vec::new();
    let new = state.read(|progress| {
        let is_new = |blob: &ListedBlob| {
            let key = ContentKey::of(&blob.content_id);
            let is_new = seen.insert(key) && progress.is_new(cell, &key);
            if is_new {
                keys.push((key, blob.created_ms));
            }
            is_new
        };
        blobs.into_iter().filter(is_new).collect()
    });
    (new, keys)
}

/// Ledgers what the server refused at the start of the cell, as far as it was to be collected; returns
/// its seconds.
fn refused(state: &FeedState, listing: &Listing) -> u64 {
    let from = state.read(|p| {
        let known = p.cells.get(&listing.cell).map_or(0, |c| i64::from(c.refused));
        (listing.cell + known).max(p.from.unwrap_or(listing.cell))
    });
    if listing.from > from {
        state.record(FeedFact::Refused { from, to: listing.from });
    }
    u64::try_from(listing.from - from).unwrap_or(0)
}

fn complete(state: &FeedState, listing: &Listing, at: i64, blobs: Vec<ListedBlob>, listed: &mut Listed) {
    let Listing { cell, last, .. } = *listing;
    let is_news = !blobs.is_empty()
        || last
        || at - cell > JOURNAL_EMPTY_FROM_AGE
        || state.read(|p| p.cells.get(&cell).is_none_or(|c| c.listed_at.is_none()));
    let fact = FeedFact::Listed { cell, at, complete: true, last, blobs };
    if is_news {
        state.record(fact);
    } else {
        state.note(fact);
    }
    listed.seen.shrink_to_fit();
    failpoint::pass("list");
}
