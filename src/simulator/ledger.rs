//! What the clients did: requests, listings, downloads, breaches of the protocol, and what each blob
//! went through (listed, withheld, gone). Counters only; a mark of one byte a blob.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::Serialize;

use super::blobs::Handle;
use super::settings::ContentType;

/// Marks of a blob.
pub(super) const LISTED: u8 = 1;
/// Left out of a listing on purpose, at least once.
pub(super) const WITHHELD: u8 = 2;
/// Gone for ever (scenario `vanished`).
pub(super) const GONE: u8 = 4;
/// Kept back by scenario `late`, at least once.
pub(super) const KEPT_BACK: u8 = 8;

/// Refused content ids kept for the report, per blob.
const MAX_REFUSED: usize = 8;

#[derive(Debug, Default)]
pub(super) struct Counters {
    pub requests: BTreeMap<&'static str, u64>,
    /// Kind: how often, the first example.
    pub violations: BTreeMap<&'static str, (u64, String)>,
    /// Downloads of each content id, by hash of its handle.
    pub fetches: HashMap<Handle, u32>,
    pub fetches_total: u64,
    pub fetches_complete: u64,
    pub bytes: u64,
    /// Downloads now and at most, per tenant.
    pub downloads: Vec<(usize, usize)>,
    marks: HashMap<(usize, ContentType), Vec<u8>>,
    pub refused: HashMap<(usize, ContentType, u64), Vec<String>>,
    /// Forged addresses handed out so far.
    pub forged: Forged,
}

/// Forged addresses by the place they stood in; each place goes through all forms in turn.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Forged {
    pub content_uris: usize,
    pub next_page_uris: usize,
}

/// The books.
#[derive(Debug)]
pub(super) struct Ledger(Mutex<Counters>);

impl Ledger {
    pub(super) fn new(tenants: usize) -> Ledger {
        Ledger(Mutex::new(Counters { downloads: vec![(0, 0); tenants], ..Counters::default() }))
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Counters> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn request(&self, what: &'static str) {
        *self.lock().requests.entry(what).or_default() += 1;
    }

    /// Notes a breach of the protocol by a client.
    pub(super) fn violation(&self, kind: &'static str, example: impl FnOnce() -> String) {
        self.lock().violations.entry(kind).or_insert_with(|| (0, example())).0 += 1;
    }
}

impl Counters {
    pub(super) fn marks(&self, tenant: usize, kind: ContentType, number: u64) -> u8 {
        self.marks.get(&(tenant, kind)).and_then(|m| m.get(number as usize)).copied().unwrap_or(0)
    }

    /// Sets marks; true if one of them is new.
    pub(super) fn mark(&mut self, tenant: usize, kind: ContentType, number: u64, marks: u8) -> bool {
        let all = self.marks.entry((tenant, kind)).or_default();
        if all.len() <= number as usize {
            all.resize(number as usize + 1, 0);
        }
        let slot = &mut all[number as usize];
        let new = *slot | marks != *slot;
        *slot |= marks;
        new
    }

    pub(super) fn refuse(&mut self, tenant: usize, kind: ContentType, number: u64, id: &str) {
        let ids = self.refused.entry((tenant, kind, number)).or_default();
        if ids.len() < MAX_REFUSED && !ids.iter().any(|known| known == id) {
            ids.push(id.to_owned());
        }
    }
}
