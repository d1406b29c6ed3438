//! The report: what exists, what was asked for, what was done to the clients and what they did wrong,
//! and what nobody could have had.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;

use super::blobs::content_id;
use super::chance::guid;
pub use super::ledger::Forged;
use super::records;
use super::server::Shared;
use super::settings::ContentType;
use super::truth::{self, Truth};
use super::world::Blob;

/// `GET /_sim/report`.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Virtual time, milliseconds since 1970.
    pub now_ms: i64,
    /// Distinct records that exist now.
    pub records: u64,
    pub blobs: u64,
    /// Blobs that nobody can have, and why.
    pub unreachable: Vec<UnreachableBlob>,
    /// Records none of whose blobs can be had, now or later.
    pub unreachable_records: Vec<UnreachableRecord>,
    /// Records that are not to be had yet.
    pub pending_records: u64,
    pub requests: BTreeMap<String, u64>,
    pub fetches: Fetches,
    pub faults: BTreeMap<String, u64>,
    pub forged: Forged,
    pub violations: Vec<Violation>,
}

#[derive(Clone, Debug, Serialize)]
pub struct UnreachableBlob {
    pub tenant_id: String,
    pub content_type: &'static str,
    pub content_id: String,
    /// Ids under which it was refused to a client (windowed identity has several for a blob).
    pub refused: Vec<String>,
    pub reason: &'static str,
    /// Ids of its records; one without an Id is left out.
    pub ids: Vec<String>,
}

#[derive(Clone, Debug, Serialize)]
pub struct UnreachableRecord {
    pub tenant_id: String,
    pub content_type: &'static str,
    pub id: Option<String>,
    pub operation: &'static str,
    pub reason: &'static str,
}

#[derive(Clone, Debug, Default, Serialize)]
pub struct Fetches {
    pub total: u64,
    /// Bodies that were sent to their end.
    pub complete: u64,
    /// Different content ids asked for, and the most that one was.
    pub distinct: u64,
    pub max_per_content: u32,
    /// Bytes of bodies before compression.
    pub bytes: u64,
    /// Most downloads at once of a tenant.
    pub max_downloads: usize,
}

#[derive(Clone, Debug, Serialize)]
pub struct Violation {
    pub kind: String,
    pub count: u64,
    pub example: String,
}

/// Reasons that pass with time.
fn passes(reason: &str) -> bool {
    matches!(reason, "pending" | "withheld")
}

/// Takes stock.
pub(super) fn report(shared: &Arc<Shared>) -> Report {
    let world = &shared.world;
    let now_ms = world.clock.now_ms();
    let mut report = Report {
        now_ms,
        records: 0,
        blobs: 0,
        unreachable: Vec::new(),
        unreachable_records: Vec::new(),
        pending_records: 0,
        requests: BTreeMap::new(),
        fetches: Fetches::default(),
        faults: world.faults.counts().into_iter().map(|(name, count)| (name.to_owned(), count)).collect(),
        forged: Forged::default(),
        violations: Vec::new(),
    };
    let mut anything = false;
    for (tenant, tenant_world) in world.tenants.iter().enumerate() {
        for kind in ContentType::ALL {
            let feed = tenant_world.feed(kind);
            report.records += truth::records_of(shared, tenant, kind, now_ms);
            let blobs = feed.blobs(world.origin_ms, now_ms);
            report.blobs += blobs;
            for number in 0..blobs {
                let Some(blob) = feed.blob(number, kind, world.origin_ms, now_ms) else { continue };
                let Some(reason) = truth::unreachable(shared, tenant, kind, &blob, now_ms) else { continue };
                anything = true;
                if !passes(reason) {
                    report.unreachable.push(unreachable_blob(shared, tenant, kind, &blob, reason));
                }
            }
        }
    }
    if anything || world.config.live_rate > 0.0 {
        count_records(shared, &mut report);
    }
    let ledger = shared.ledger.lock();
    report.requests = ledger.requests.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect();
    report.fetches = Fetches {
        total: ledger.fetches_total,
        complete: ledger.fetches_complete,
        distinct: ledger.fetches.len() as u64,
        max_per_content: ledger.fetches.values().copied().max().unwrap_or(0),
        bytes: ledger.bytes,
        max_downloads: ledger.downloads.iter().map(|(_, most)| *most).max().unwrap_or(0),
    };
    report.forged = ledger.forged;
    report.violations = ledger
        .violations
        .iter()
        .map(|(kind, (count, example))| Violation { kind: (*kind).to_owned(), count: *count, example: example.clone() })
        .collect();
    report
}

fn count_records(shared: &Arc<Shared>, report: &mut Report) {
    for record in Truth::new(Arc::clone(shared)).unreachable() {
        match record.reason {
            Some(reason) if passes(reason) => report.pending_records += 1,
            Some(reason) => report.unreachable_records.push(UnreachableRecord {
                tenant_id: record.tenant_id,
                content_type: record.content_type.as_str(),
                id: record.id,
                operation: record.operation,
                reason,
            }),
            None => {}
        }
    }
}

fn unreachable_blob(
    shared: &Shared,
    tenant: usize,
    kind: ContentType,
    blob: &Blob,
    reason: &'static str,
) -> UnreachableBlob {
    let world = &shared.world;
    let mut scratch = Vec::new();
    let source = world.feed(tenant, blob.source);
    let ids = (blob.first..blob.first + u64::from(blob.count))
        .filter_map(|index| {
            scratch.clear();
            let home = source.home(index, blob.source, world.origin_ms);
            records::write(world, tenant, blob.source, index, home.created_ms, &mut scratch).id
        })
        .map(|(high, low)| guid(high, low))
        .collect();
    let refused = shared.ledger.lock().refused.get(&(tenant, kind, blob.number)).cloned().unwrap_or_default();
    UnreachableBlob {
        tenant_id: world.tenants[tenant].id.clone(),
        content_type: kind.as_str(),
        content_id: content_id(kind, blob, 0, blob.count),
        refused,
        reason,
        ids,
    }
}
