//! The truth: every record that exists, where it can be had, and whether it can be had at all. Made
//! again from the seed, one record at a time; nothing of it is kept.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::blobs::content_id;
use super::chance::guid;
use super::faults::{Object, Scenario};
use super::ledger::{GONE, LISTED, WITHHELD};
use super::records::json::Json;
use super::records::{self, Meta};
use super::server::Shared;
use super::settings::{ContentType, Identity};
use super::stamp::{self, DAY_MS, HOUR_MS, SECOND_MS};
use super::world::{Blob, blob_key};

/// A record as it was, or will be, served.
#[derive(Clone, Debug)]
pub struct TruthRecord {
    pub tenant_id: String,
    /// The feed that it was first listed in.
    pub content_type: ContentType,
    /// Position in that feed.
    pub index: u64,
    /// `None`: missing, null or empty.
    pub id: Option<String>,
    /// `YYYY-MM-DDTHH:MM:SS`.
    pub creation_time: String,
    pub record_type: i64,
    pub operation: &'static str,
    /// The blobs that hold it, each in full (windowed identity may list parts under other ids).
    pub content_ids: Vec<String>,
    /// When the blob that it first came in could first be listed, virtual milliseconds since 1970.
    pub listable_ms: i64,
    /// False: no blob that holds it can be had now; `reason` says why.
    pub reachable: bool,
    pub reason: Option<&'static str>,
    /// The scenario that spoiled it.
    pub hostile: Option<&'static str>,
    /// Verbatim.
    pub record: Vec<u8>,
}

impl TruthRecord {
    /// One line of NDJSON, with or without the record. A record that is not JSON comes as `record_base64`.
    pub fn write_line(&self, with_record: bool, out: &mut Vec<u8>) {
        let mut json = Json { out };
        json.begin(b'{');
        json.text("tenant_id", &self.tenant_id);
        json.text("content_type", self.content_type.as_str());
        match &self.id {
            Some(id) => json.text("id", id),
            None => json.raw("id", "null"),
        }
        json.text("creation_time", &self.creation_time);
        json.number("record_type", self.record_type);
        json.text("operation", self.operation);
        json.open("content_ids", b'[');
        for id in &self.content_ids {
            json.item(id);
        }
        json.close(b']');
        json.flag("reachable", self.reachable);
        if let Some(reason) = self.reason {
            json.text("reason", reason);
        }
        if let Some(hostile) = self.hostile {
            json.text("hostile", hostile);
        }
        if with_record {
            let valid = self.hostile.is_none()
                || serde_json::from_slice::<&serde_json::value::RawValue>(&self.record).is_ok()
                    && !self.record.contains(&b'\n');
            if valid {
                json.key("record");
                json.out.extend_from_slice(&self.record);
                json.out.push(b',');
            } else {
                json.text("record_base64", &STANDARD.encode(&self.record));
            }
        }
        json.close(b'}');
        out.pop();
        out.push(b'\n');
    }
}

/// A blob that can be listed for less than this before retention ends is owed by nobody: a client that lists
/// old hours every 6 hours, and for the last time 4 hours before the end, may not see it.
const SHORT_MS: i64 = 10 * HOUR_MS;

/// When a blob can first be listed, as things went: the first content comes some time after the start.
pub(super) fn listable_ms(shared: &Shared, tenant: usize, kind: ContentType, blob: &Blob) -> i64 {
    let available_ms = shared.world.available_ms(tenant, kind, blob);
    available_ms.max(ready_ms(shared, tenant, kind))
}

/// When the first content of a feed is listed; 0 before its first start.
pub(super) fn ready_ms(shared: &Shared, tenant: usize, kind: ContentType) -> i64 {
    let first_ms = shared.subscriptions.get(tenant, kind).first_start_ms;
    let faults = &shared.world.faults;
    let late_ms = match faults.is_on(Scenario::LateContent) {
        true => (faults.variant(Scenario::LateContent, blob_key(tenant, kind, 0)) % (12 * HOUR_MS as u64)) as i64,
        false => 0,
    };
    if first_ms == 0 { 0 } else { first_ms + shared.world.config.protocol.first_content_delay_s * SECOND_MS + late_ms }
}

/// Scenario `short_backfill`: the blob was there long before the first start.
pub(super) fn is_before_backfill(shared: &Shared, tenant: usize, kind: ContentType, blob: &Blob) -> bool {
    shared.world.faults.is_on(Scenario::ShortBackfill)
        && blob.created_ms < shared.subscriptions.get(tenant, kind).first_start_ms - 22 * HOUR_MS
}

/// Why a blob cannot be had now; `None`: it can.
pub(super) fn unreachable(
    shared: &Shared,
    tenant: usize,
    kind: ContentType,
    blob: &Blob,
    now_ms: i64,
) -> Option<&'static str> {
    let world = &shared.world;
    let object = Object::Blob(blob_key(tenant, kind, blob.number));
    let marks = shared.ledger.lock().marks(tenant, kind, blob.number);
    let listable_ms = listable_ms(shared, tenant, kind, blob);
    let was_listed = marks & LISTED != 0;
    let in_time_ms = blob.created_ms.max(shared.subscriptions.get(tenant, kind).first_start_ms);
    let is_late = listable_ms > in_time_ms && listable_ms > blob.created_ms + 7 * DAY_MS - SHORT_MS;
    if !was_listed {
        if is_before_backfill(shared, tenant, kind, blob) {
            return Some("before_backfill");
        }
        if is_late {
            return Some("too_late");
        }
        if blob.created_ms < now_ms - 7 * DAY_MS - world.config.protocol.window_tolerance_s * SECOND_MS {
            return Some("too_old");
        }
        // Whatever becomes of it then, nobody can have seen it.
        if listable_ms > now_ms {
            return Some("pending");
        }
    }
    if marks & GONE != 0 || world.faults.selects(Scenario::Vanished, object) {
        return Some("vanished");
    }
    if world.faults.selects(Scenario::Expired, object) {
        return Some("expired");
    }
    if world.faults.selects(Scenario::Absent, object) {
        return Some("absent");
    }
    // Of a blob that the bounds of queries cut in two, one part may have been listed and the other not.
    if is_late && world.config.identity == Identity::Windowed {
        return Some("too_late");
    }
    if listable_ms > now_ms {
        return Some("pending");
    }
    if marks & (LISTED | WITHHELD) == WITHHELD {
        return Some("withheld");
    }
    None
}

/// All records that exist now, tenant by tenant, type by type, in order.
#[derive(Debug)]
pub struct Truth {
    shared: Arc<Shared>,
    tenant: usize,
    kind: usize,
    index: u64,
    end: u64,
    now_ms: i64,
    home: Option<(Blob, Option<&'static str>)>,
}

impl Truth {
    pub(super) fn new(shared: Arc<Shared>) -> Truth {
        let now_ms = shared.world.clock.now_ms();
        let mut truth = Truth { shared, tenant: 0, kind: 0, index: 0, end: 0, now_ms, home: None };
        truth.end = truth.existing();
        truth
    }

    /// Records of the feed at hand that exist.
    fn existing(&self) -> u64 {
        if self.tenant >= self.shared.world.tenants.len() {
            return 0;
        }
        let kind = ContentType::ALL[self.kind];
        records_of(&self.shared, self.tenant, kind, self.now_ms)
    }

    /// Where a record lies: its home, its content ids if wanted, and why it cannot be had.
    fn place(&mut self, kind: ContentType, index: u64, ids: Option<&mut Vec<String>>) -> (Blob, Option<&'static str>) {
        let world = &self.shared.world;
        let feed = world.feed(self.tenant, kind);
        let (home, mut reason) = match self.home {
            Some((home, reason)) if (home.first..home.first + u64::from(home.count)).contains(&index) => (home, reason),
            _ => {
                let home = feed.home(index, kind, world.origin_ms);
                let reason = unreachable(&self.shared, self.tenant, kind, &home, self.now_ms);
                *self.home.insert((home, reason))
            }
        };
        if reason.is_none() && (index - home.first) as u32 >= world.filled(self.tenant, kind, &home, self.now_ms) {
            reason = Some("pending");
        }
        let mut scratch = Vec::new();
        let wanted = ids.is_some();
        let ids = ids.unwrap_or(&mut scratch);
        if wanted {
            ids.push(content_id(kind, &home, 0, home.count));
        }
        if !wanted && reason.is_none() {
            return (home, None);
        }
        for (first, end, into, number) in &feed.copies {
            if !(*first..*end).contains(&index) {
                continue;
            }
            let copy = world.feed(self.tenant, *into).history[*number as usize];
            if wanted {
                ids.push(content_id(*into, &copy, 0, copy.count));
            }
            if reason.is_some() && unreachable(&self.shared, self.tenant, *into, &copy, self.now_ms).is_none() {
                reason = None;
            }
        }
        if reason.is_some() && self.is_replayed(kind, index) {
            reason = None;
        }
        (home, reason)
    }

    /// Whether a replay that can be had holds the record.
    fn is_replayed(&self, kind: ContentType, index: u64) -> bool {
        let world = &self.shared.world;
        let feed = world.feed(self.tenant, kind);
        if feed.lanes() == 1 {
            return false;
        }
        let live = 0..feed.live_blobs(world.origin_ms, self.now_ms);
        live.filter_map(|k| feed.replayed(k, kind, world.origin_ms)).any(|blob| {
            (blob.first..blob.first + u64::from(blob.count)).contains(&index)
                && blob.first + u64::from(world.filled(self.tenant, kind, &blob, self.now_ms)) > index
                && unreachable(&self.shared, self.tenant, kind, &blob, self.now_ms).is_none()
        })
    }

    /// The record at (tenant, type, index).
    fn record(&mut self, kind: ContentType, index: u64) -> TruthRecord {
        let mut content_ids = Vec::new();
        let (home, reason) = self.place(kind, index, Some(&mut content_ids));
        let world = &self.shared.world;
        let mut record = Vec::with_capacity(2048);
        let meta: Meta = records::write(world, self.tenant, kind, index, home.created_ms, &mut record);
        TruthRecord {
            tenant_id: world.tenants[self.tenant].id.clone(),
            content_type: kind,
            index,
            id: meta.id.map(|(high, low)| guid(high, low)),
            creation_time: stamp::seconds(meta.creation_ms),
            record_type: meta.record_type,
            operation: meta.operation,
            content_ids,
            listable_ms: listable_ms(&self.shared, self.tenant, kind, &home),
            reachable: reason.is_none(),
            reason,
            hostile: meta.hostile.map(Scenario::name),
            record,
        }
    }

    /// The next place in line: a type and an index.
    fn step(&mut self) -> Option<(ContentType, u64)> {
        while self.tenant < self.shared.world.tenants.len() {
            if self.index < self.end {
                let index = self.index;
                self.index += 1;
                return Some((ContentType::ALL[self.kind], index));
            }
            self.index = 0;
            self.home = None;
            self.kind += 1;
            if self.kind == ContentType::ALL.len() {
                self.kind = 0;
                self.tenant += 1;
            }
            self.end = self.existing();
        }
        None
    }

    /// Only the records that cannot be had; the others are not even made.
    pub(super) fn unreachable(mut self) -> impl Iterator<Item = TruthRecord> {
        std::iter::from_fn(move || {
            loop {
                let (kind, index) = self.step()?;
                if self.place(kind, index, None).1.is_some() {
                    return Some(self.record(kind, index));
                }
            }
        })
    }
}

/// Records of a feed that exist at `now_ms`, come in or not.
pub(super) fn records_of(shared: &Shared, tenant: usize, kind: ContentType, now_ms: i64) -> u64 {
    let world = &shared.world;
    let feed = world.feed(tenant, kind);
    let live = feed.live_blobs(world.origin_ms, now_ms);
    if live == 0 {
        return feed.records;
    }
    let last = feed.live_blob(live - 1, kind, world.origin_ms);
    last.first + u64::from(world.filled(tenant, kind, &last, now_ms))
}

impl Iterator for Truth {
    type Item = TruthRecord;

    fn next(&mut self) -> Option<TruthRecord> {
        let (kind, index) = self.step()?;
        Some(self.record(kind, index))
    }
}
