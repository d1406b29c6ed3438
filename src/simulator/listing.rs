//! `GET /subscriptions/content`: which blobs a range holds, page by page (activity-api 1.7).

use std::sync::Arc;

use axum::http::HeaderValue;
use axum::response::Response;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::api::{Denied, content_type, json, strike, subscribed};
use super::blobs::content_id;
use super::chance::{hash, hash_text};
use super::download::{spoil, spoilt_by};
use super::faults::{Object, Scenario};
use super::forged;
use super::ledger::{GONE, KEPT_BACK, LISTED, WITHHELD};
use super::server::{Call, Refusal, Shared, answer, window_start_ms};
use super::settings::{ContentType, Identity};
use super::stamp::{self, DAY_MS, SECOND_MS};
use super::token::Claims;
use super::truth;
use super::world::{Blob, MAX_SPAN_MS, blob_key};

/// A listing that is being paged through.
#[derive(Clone, Copy, Debug)]
struct Query {
    tenant: usize,
    kind: ContentType,
    start_ms: i64,
    end_ms: i64,
}

/// Where a page starts. What is listed is fixed when the first page is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Cursor {
    as_of_ms: i64,
    offset: u64,
    page: u64,
    endless: bool,
}

impl Query {
    fn key(&self) -> u64 {
        hash(&[self.tenant as u64, self.kind as u64, self.start_ms as u64, self.end_ms as u64])
    }

    /// The opaque text of `nextPage`, good for this query only.
    fn token(&self, cursor: Cursor) -> String {
        let body = format!("{}.{}.{}.{}", cursor.as_of_ms, cursor.offset, cursor.page, u8::from(cursor.endless));
        URL_SAFE_NO_PAD.encode(format!("{body}.{:x}", hash_text(self.key(), &body)))
    }

    fn cursor(&self, token: &str) -> Option<Cursor> {
        let text = String::from_utf8(URL_SAFE_NO_PAD.decode(token).ok()?).ok()?;
        let (body, check) = text.rsplit_once('.')?;
        if format!("{:x}", hash_text(self.key(), body)) != check {
            return None;
        }
        let mut parts = body.split('.');
        Some(Cursor {
            as_of_ms: parts.next()?.parse().ok()?,
            offset: parts.next()?.parse().ok()?,
            page: parts.next()?.parse().ok()?,
            endless: parts.next()? == "1",
        })
    }
}

pub(super) fn content(shared: &Arc<Shared>, call: &Call, tenant: usize, claims: &Claims) -> Result<Response, Denied> {
    shared.ledger.request("content");
    let (kind, name) = content_type(call)?;
    let faults = &shared.world.faults;
    if faults.is_on(Scenario::SubscriptionDisabled) {
        let at = 4 + faults.variant(Scenario::SubscriptionDisabled, blob_key(tenant, kind, 0)) % 12;
        // Twice a feed, or more often where there are few.
        let times = (30 / (shared.world.tenants.len() * ContentType::ALL.len()).max(1)).max(2);
        shared.subscriptions.wear(tenant, kind, at as u32, times as u32);
    }
    subscribed(shared, tenant, kind, claims)?;
    let now_ms = shared.world.clock.now_ms();
    let (start_ms, end_ms) = range(shared, call, now_ms)?;
    let query = Query { tenant, kind, start_ms, end_ms };
    let cursor = match call.param("nextpage") {
        None => Cursor { as_of_ms: now_ms, offset: 0, page: 1, endless: false },
        Some(token) => query.cursor(token).ok_or_else(bad_page)?,
    };
    let object = Object::Listing(hash(&[query.key(), cursor.page.min(2)]));
    strike(shared, call, tenant, object, "GetContents")?;
    if cursor.page > 1
        && faults.selects(Scenario::PageMissing, Object::Listing(query.key()))
        && faults.strikes_again(Scenario::PageMissing, object)
    {
        let page = "<html><body>404 - File or directory not found.</body></html>";
        return Err(Denied(Box::new(answer(404, "text/html", page))));
    }
    if let Some(scenario) = spoilt_by(faults, object) {
        return Ok(json(spoil(scenario, b"[]".to_vec())));
    }
    if cursor.page > 1
        && faults.selects(Scenario::PageError, Object::Listing(query.key()))
        && faults.strikes_again(Scenario::PageError, object)
    {
        return Err(if query.key().is_multiple_of(3) {
            Refusal::new(500, "AF50000", "An internal error occurred. Retry the request.").into()
        } else {
            bad_page().into()
        });
    }
    Ok(page(shared, call, &query, name, cursor))
}

fn bad_page() -> Refusal {
    Refusal::new(400, "AF20031", "Invalid nextPage Input.")
}

/// The range asked for (activity-api 1.7: both or neither, at most 24 h, at most 7 days back).
fn range(shared: &Shared, call: &Call, now_ms: i64) -> Result<(i64, i64), Refusal> {
    let protocol = &shared.world.config.protocol;
    let bad = |text: &str| Refusal::new(400, "AF20030", text);
    let (start_ms, end_ms) = match (call.param("starttime"), call.param("endtime")) {
        (None, None) => {
            shared.ledger.violation("range_omitted", || call.path.clone());
            return Ok((now_ms - DAY_MS, now_ms));
        }
        (Some(start), Some(end)) => {
            let parse = |text: &str| {
                stamp::parse_bound(text).ok_or_else(|| bad("Start time and end time must both be valid date times."))
            };
            (parse(start)?, parse(end)?)
        }
        _ => return Err(bad("Start time and end time must both be specified (or both omitted).")),
    };
    if start_ms >= end_ms {
        return Err(bad("The start time must be before the end time."));
    }
    let too_wide = end_ms - start_ms > DAY_MS || protocol.refuse_exact_day && end_ms - start_ms == DAY_MS;
    if end_ms - start_ms > DAY_MS {
        shared.ledger.violation("range_over_24h", || format!("{} s", (end_ms - start_ms) / SECOND_MS));
    }
    let old = start_ms < window_start_ms(shared, now_ms);
    if old || too_wide && !protocol.partial_over_day {
        return Err(Refusal::new(
            400,
            "AF20055",
            "Start time and end time must both be specified (or both omitted) and must be less than or equal to 24 hours apart, with the start time no more than 7 days in the past.",
        ));
    }
    Ok((start_ms, end_ms.min(start_ms + DAY_MS)))
}

/// Positions of the blobs that could be in the range: of the history, then live ones.
struct Candidates {
    history: std::ops::Range<u64>,
    live: std::ops::Range<u64>,
    /// Scenario `out_of_order`: positions are visited in steps, from somewhere.
    step: u64,
    from: u64,
}

impl Candidates {
    fn of(shared: &Shared, query: &Query, as_of_ms: i64) -> Candidates {
        let world = &shared.world;
        let feed = world.feed(query.tenant, query.kind);
        let slack = if world.config.identity == Identity::Windowed { MAX_SPAN_MS } else { 0 };
        let low = feed.history.partition_point(|b| b.created_ms < query.start_ms - slack) as u64;
        let high = feed.history.partition_point(|b| b.created_ms < query.end_ms.min(as_of_ms + 1)) as u64;
        let live = |ms: i64| feed.live_blobs(world.origin_ms, ms);
        // A replay is somewhat younger than the live blob that it follows.
        let first = live(query.start_ms - slack - 1).saturating_sub(feed.lanes() - 1);
        let live = first * feed.lanes()..live((query.end_ms - 1).min(as_of_ms)) * feed.lanes();
        let mut candidates = Candidates { history: low..high.max(low), live, step: 1, from: 0 };
        let len = candidates.len();
        if world.faults.is_on(Scenario::OutOfOrder) && len > 1 {
            let start = hash(&[query.key(), as_of_ms as u64]);
            candidates.from = start % len;
            candidates.step = (1 + start % 97..).find(|step| gcd(*step, len) == 1).unwrap_or(1);
        }
        candidates
    }

    fn len(&self) -> u64 {
        (self.history.end - self.history.start) + self.live.end.saturating_sub(self.live.start)
    }

    /// The blob at a position.
    fn number(&self, position: u64, history_len: u64) -> u64 {
        let len = self.len().max(1);
        let at = ((u128::from(position) * u128::from(self.step) + u128::from(self.from)) % u128::from(len)) as u64;
        let old = self.history.end - self.history.start;
        if at < old { self.history.start + at } else { history_len + self.live.start + at - old }
    }
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// The part of a blob that the query cuts out, as offsets; `None`: nothing of it.
fn cut(shared: &Shared, query: &Query, blob: &Blob, as_of_ms: i64) -> Option<(u32, u32)> {
    if shared.world.config.identity == Identity::Stable {
        let inside = (query.start_ms..query.end_ms).contains(&blob.created_ms);
        return inside.then_some((0, blob.count));
    }
    let filled = shared.world.filled(query.tenant, query.kind, blob, as_of_ms);
    let to = blob.offset_at(query.end_ms).min(filled);
    let from = blob.offset_at(query.start_ms);
    (from < to).then_some((from, to))
}

/// Whether the faults leave the blob in this listing.
fn kept(shared: &Shared, query: &Query, blob: &Blob, as_of_ms: i64) -> bool {
    let (world, kind, tenant) = (&shared.world, query.kind, query.tenant);
    let key = blob_key(tenant, kind, blob.number);
    let mut ledger = shared.ledger.lock();
    if world.available_ms(tenant, kind, blob) > as_of_ms {
        if ledger.mark(tenant, kind, blob.number, KEPT_BACK) {
            let very = world.faults.selects(Scenario::VeryLate, Object::Blob(key));
            world.faults.count(if very { Scenario::VeryLate } else { Scenario::Late });
        }
        return false;
    }
    if truth::is_before_backfill(shared, tenant, kind, blob) {
        if ledger.mark(tenant, kind, blob.number, KEPT_BACK) {
            world.faults.count(Scenario::ShortBackfill);
        }
        return false;
    }
    let marks = ledger.marks(tenant, kind, blob.number);
    if marks & GONE != 0 && world.faults.is_on(Scenario::Vanished) {
        return false;
    }
    // Missing once: half of them from their first listing, half from their second.
    let second = world.faults.variant(Scenario::OutOfOrder, key).is_multiple_of(2);
    if marks & WITHHELD == 0
        && (marks & LISTED != 0) == second
        && world.faults.selects(Scenario::OutOfOrder, Object::Blob(key))
    {
        ledger.mark(tenant, kind, blob.number, WITHHELD);
        world.faults.count(Scenario::OutOfOrder);
        return false;
    }
    if ledger.mark(tenant, kind, blob.number, LISTED) {
        count_layout(shared, query, blob);
    }
    true
}

/// Counts what a first listing shows of the scenarios that only lay the world out.
fn count_layout(shared: &Shared, query: &Query, blob: &Blob) {
    let (world, history) = (&shared.world, &shared.world.feed(query.tenant, query.kind).history);
    let at = blob.number as usize;
    if world.faults.is_on(Scenario::EqualCreated)
        && at > 0
        && history.get(at).is_some_and(|b| history[at - 1].created_ms == b.created_ms)
    {
        world.faults.count(Scenario::EqualCreated);
    }
    if world.faults.is_on(Scenario::CrowdedHour) && (history.len() / 4..3 * history.len() / 4).contains(&at) {
        world.faults.count(Scenario::CrowdedHour);
    }
    if world.faults.is_on(Scenario::Replay) && blob.copy && at >= history.len() {
        world.faults.count(Scenario::Replay);
    }
}

/// Scenarios that need a listing of more than one page.
const PAGING: [Scenario; 3] = [Scenario::PageError, Scenario::PageMissing, Scenario::PageLoop];

fn page(shared: &Arc<Shared>, call: &Call, query: &Query, name: &str, cursor: Cursor) -> Response {
    let world = &shared.world;
    let (tenant, kind) = (query.tenant, query.kind);
    let protocol = &world.config.protocol;
    let ready = cursor.as_of_ms >= truth::ready_ms(shared, tenant, kind);
    let candidates = Candidates::of(shared, query, cursor.as_of_ms);
    if !ready && candidates.len() > 0 && world.faults.is_on(Scenario::LateContent) {
        world.faults.count(Scenario::LateContent);
    }
    let len = if ready { candidates.len() } else { 0 };
    let size = protocol.page_size.max(1) as u64;
    let odd = query.key();
    let mut next = None;
    let mut items = Vec::new();
    let endless = cursor.endless
        || cursor.page == 1 && world.faults.strikes(Scenario::EndlessPages, Object::Listing(query.key()));
    // An empty page may carry NextPageUri: sometimes the first one, always where a later page shall fail.
    let first_is_empty = cursor.page == 1
        && (protocol.odd_pages && odd % 11 == 3
            || PAGING.iter().any(|scenario| world.faults.selects(*scenario, Object::Listing(query.key()))));
    if first_is_empty {
        next = Some(Cursor { page: 2, ..cursor });
    } else {
        let feed = world.feed(tenant, kind);
        let end = (cursor.offset + size).min(len);
        for position in cursor.offset..end {
            let number = candidates.number(position, feed.history.len() as u64);
            let Some(blob) = feed.blob(number, kind, world.origin_ms, cursor.as_of_ms) else { continue };
            let Some((from, to)) = cut(shared, query, &blob, cursor.as_of_ms) else { continue };
            if kept(shared, query, &blob, cursor.as_of_ms) {
                let item = entry(shared, query, name, &blob, from, to);
                let key = blob_key(tenant, kind, blob.number);
                if world.faults.strikes(Scenario::ListedTwice, Object::Blob(key)) {
                    items.push(item.clone());
                }
                items.push(item);
            }
        }
        // A full last page ends the listing, or an empty one follows: both are seen.
        let full = protocol.odd_pages
            && end == len
            && end > cursor.offset
            && len.is_multiple_of(size)
            && odd.is_multiple_of(2);
        if end < len || full {
            next = Some(Cursor { offset: end, page: cursor.page + 1, ..cursor });
        }
    }
    if endless {
        next = Some(Cursor { page: cursor.page + 1, endless: true, ..next.unwrap_or(cursor) });
        if cursor.endless {
            world.faults.count(Scenario::EndlessPages);
        }
    }
    if next.is_some()
        && world.faults.selects(Scenario::PageLoop, Object::Listing(query.key()))
        && world.faults.strikes_again(Scenario::PageLoop, Object::Listing(hash(&[query.key(), cursor.page, 8])))
    {
        next = Some(cursor);
    }
    let mut response = json(format!("[{}]", items.join(",")));
    if let Some(next) = next {
        let uri = next_page_uri(shared, call, query, name, next);
        if let Ok(value) = HeaderValue::from_str(&uri) {
            response.headers_mut().insert("nextpageuri", value);
        }
    }
    response
}

fn entry(shared: &Shared, query: &Query, name: &str, blob: &Blob, from: u32, to: u32) -> String {
    let id = content_id(query.kind, blob, from, to);
    let created_ms = blob.stamp_of(from);
    let tenant_id = &shared.world.tenants[query.tenant].id;
    let real = format!("{}/api/v1.0/{tenant_id}/activity/feed/audit/{id}", shared.base);
    let key = blob_key(query.tenant, query.kind, blob.number);
    let uri = if shared.world.faults.strikes(Scenario::ForgedUrls, Object::Blob(key)) {
        let form = next_form(&mut shared.ledger.lock().forged.content_uris);
        serde_json::Value::from(forged::url(form, &shared.base, &shared.trap, &real)).to_string()
    } else {
        format!("\"{real}\"")
    };
    let expires_ms = created_ms + shared.world.config.protocol.expiration_days * DAY_MS;
    format!(
        r#"{{"contentType":"{name}","contentId":"{id}","contentUri":{uri},"contentCreated":"{}","contentExpiration":"{}"}}"#,
        stamp::millis(created_ms),
        stamp::millis(expires_ms)
    )
}

/// The number of the next form for one place.
fn next_form(handed_out: &mut usize) -> usize {
    *handed_out += 1;
    *handed_out - 1
}

/// The address of the next page, in one of the forms that were seen (activity-api 1.7, 4.1).
fn next_page_uri(shared: &Shared, call: &Call, query: &Query, name: &str, cursor: Cursor) -> String {
    let odd = if shared.world.config.protocol.odd_pages { hash(&[query.key(), cursor.page, 5]) } else { 0 };
    let version = if odd & 1 == 1 { "v1" } else { "v1.0" };
    let [kind, start, end, next] = if odd & 2 == 2 {
        ["contenttype", "starttime", "endtime", "nextpage"]
    } else {
        ["contentType", "startTime", "endTime", "nextPage"]
    };
    let real = format!(
        "{}/api/{version}/{}/activity/feed/subscriptions/content?{kind}={name}&{start}={}&{end}={}&{next}={}",
        shared.base,
        shared.world.tenants[query.tenant].id,
        stamp::seconds(query.start_ms),
        stamp::seconds(query.end_ms),
        query.token(cursor)
    );
    let object = Object::Listing(hash(&[query.key(), cursor.page, 6]));
    if shared.world.faults.strikes(Scenario::ForgedUrls, object) {
        // An empty address is passed over: whoever is told of no next page has come to the end.
        let handed_out = &mut shared.ledger.lock().forged.next_page_uris;
        let mut forged = String::new();
        while forged.is_empty() {
            forged = forged::url(next_form(handed_out), &shared.base, &shared.trap, &real);
        }
        return forged;
    }
    match call.param("publisheridentifier") {
        Some(publisher) if odd & 4 == 0 => format!("{real}&PublisherIdentifier={publisher}"),
        _ => real,
    }
}
