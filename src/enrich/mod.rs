//! What is known of an address, an application, a user agent beside the record: places, autonomous systems, names.
//!
//! Comes in: databases in MaxMind's format, which others keep up to date, and tables of our own. Goes out: members of an ECS
//! document, appended to the caller's buffer. Nothing here can fail for the caller: a database that is missing or damaged is a warning, a metric and a
//! line in `/status`; events go on without it, and it is looked for again. No network, ever: who brings the files is the
//! operator's choice (`make geo`, geoipupdate; docs/enrichment.md).

mod agents;
mod applications;
mod cache;
mod countries;
mod database;
mod place;
mod ranges;
mod schema;
mod sources;

use std::fmt;
use std::net::IpAddr;
use std::path::Path;
use std::sync::{Arc, OnceLock, PoisonError, RwLock, RwLockReadGuard};
use std::time::Duration;

use maxminddb::MaxMindDbError;

use crate::config::EnrichConfig;
use crate::metrics::{Counter, Metrics};

use agents::Agents;
pub use applications::application;
use cache::Cache;
use database::Database;
use sources::Sources;
pub use sources::{DatabaseStatus, Standing};

/// Between two looks at the files. One that changed is read when two looks found the same: 5 to 10 seconds later.
const LOOK: Duration = Duration::from_secs(5);
/// Addresses that are remembered, at some 250 bytes each (docs/decisions/015 has the measurements).
const REMEMBERED: usize = 32_768;

/// What is known beside the records; shared by all workers.
pub struct Enricher {
    /// Swapped as a whole.
    databases: RwLock<Databases>,
    sources: Sources,
    agents: Option<Agents>,
    counters: Option<Counters>,
}

/// The databases of a moment, and what they said.
struct Databases {
    city: Vec<Arc<Database>>,
    asn: Vec<Arc<Database>>,
    /// Whether anything is to be said of addresses at all.
    is_wanted: bool,
    known: Cache<IpAddr>,
}

/// Addresses by what was found.
struct Counters {
    found: Counter,
    special: Counter,
    unknown: Counter,
    error: Counter,
}

/// What an address turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum Outcome {
    Found,
    /// Set apart for a purpose.
    Special,
    Unknown,
    /// A record of a database could not be read.
    Error,
}

impl Enricher {
    /// One that adds nothing.
    pub fn none() -> Arc<Enricher> {
        static NONE: OnceLock<Arc<Enricher>> = OnceLock::new();
        Arc::clone(NONE.get_or_init(|| {
            let (sources, databases) = (Sources::none(), Databases::new(Vec::new(), Vec::new(), false));
            Arc::new(Enricher { databases: RwLock::new(databases), sources, agents: None, counters: None })
        }))
    }

    /// Opens what is configured. Blocking: it copies each database to a nameless file below `copies`. What cannot be opened is said, and
    /// looked for again by [`keep_fresh`](Self::keep_fresh).
    pub fn open(config: &EnrichConfig, copies: &Path, metrics: &Arc<Metrics>) -> Arc<Enricher> {
        let sources = Sources::new(config, copies, metrics);
        let enricher = Enricher {
            databases: RwLock::new(Databases::new(Vec::new(), Vec::new(), !sources.is_empty())),
            sources,
            agents: config.user_agent.then(Agents::new),
            counters: Some(Counters::new(metrics)),
        };
        enricher.look(false);
        Arc::new(enricher)
    }

    /// The one of `demo`: places for the addresses that the simulator makes up, all invented, from a database in the program.
    ///
    /// # Errors
    /// Never, while the test of it holds.
    pub fn invented(metrics: &Arc<Metrics>) -> Result<Arc<Enricher>, MaxMindDbError> {
        let database = Arc::new(Database::embedded(include_bytes!("invented.mmdb"))?);
        let both = vec![database];
        let sources = Sources::embedded("invented", &both, metrics);
        Ok(Arc::new(Enricher {
            databases: RwLock::new(Databases::new(both.clone(), both, true)),
            sources,
            agents: Some(Agents::new()),
            counters: Some(Counters::new(metrics)),
        }))
    }

    /// Appends `"as":{…},"geo":{…},` of what is known of an address: JSON members, each with a comma behind it.
    pub fn place(&self, ip: IpAddr, out: &mut Vec<u8>) {
        let databases = self.current();
        if !databases.is_wanted {
            return;
        }
        let outcome = databases.place(ip.to_canonical(), out);
        if let Some(counters) = &self.counters {
            counters.of(outcome).inc();
        }
    }

    /// Appends the members of `user_agent` that the text tells, each with a comma behind it: `device`, `name`, `os`, `version`.
    pub fn user_agent(&self, text: &str, out: &mut Vec<u8>) {
        if let Some(agents) = &self.agents {
            agents.write(text, out);
        }
    }

    /// Reads files that were replaced, or that came, for as long as anybody holds the enricher.
    pub fn keep_fresh(self: &Arc<Self>) {
        if self.sources.is_empty() {
            return;
        }
        let enricher = Arc::downgrade(self);
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(LOOK).await;
                let Some(enricher) = enricher.upgrade() else { return };
                // A panic in it is told by the runtime, and does not end the looking.
                let _ = tokio::task::spawn_blocking(move || enricher.look(true)).await;
            }
        });
    }

    /// Each database that is configured, in order.
    pub fn status(&self) -> Vec<DatabaseStatus> {
        self.sources.status()
    }

    /// Forgets the metrics of the databases that `new`, which comes in place of this one, does not have.
    pub fn forget_what_is_not_of(&self, new: &Enricher, metrics: &Metrics) {
        let kept = new.status();
        let is_gone = |old: &DatabaseStatus| !kept.iter().any(|new| (new.kind, &new.file) == (old.kind, &old.file));
        for gone in self.status().iter().filter(|old| is_gone(old)) {
            metrics.forget(&[("kind", gone.kind), ("file", &gone.file)]);
        }
    }

    /// Looks at all files. Blocking.
    fn look(&self, is_later: bool) {
        if let Some((city, asn)) = self.sources.look(is_later) {
            let new = Databases::new(city, asn, true);
            let old = {
                let mut current = self.databases.write().unwrap_or_else(PoisonError::into_inner);
                std::mem::replace(&mut *current, new)
            };
            // Unmapped when nobody waits for the lock any more.
            drop(old);
        }
    }

    fn current(&self) -> RwLockReadGuard<'_, Databases> {
        self.databases.read().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Enricher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Enricher").field("sources", &self.sources).field("agents", &self.agents).finish_non_exhaustive()
    }
}

impl Databases {
    fn new(city: Vec<Arc<Database>>, asn: Vec<Arc<Database>>, is_wanted: bool) -> Databases {
        Databases { city, asn, is_wanted, known: Cache::new(REMEMBERED) }
    }

    /// As [`Enricher::place`].
    fn place(&self, ip: IpAddr, out: &mut Vec<u8>) -> Outcome {
        let start = out.len();
        // The outcome is remembered as the last byte.
        if self.known.get(&ip, out) {
            return out.pop().map_or(Outcome::Unknown, Outcome::of);
        }
        let outcome = self.look_up(ip, out);
        out.push(outcome as u8);
        self.known.insert(ip, &out[start..]);
        out.pop();
        outcome
    }

    fn look_up(&self, ip: IpAddr, out: &mut Vec<u8>) -> Outcome {
        let (start, mut errors) = (out.len(), 0);
        let mut note = |file: &Database, error: MaxMindDbError| {
            tracing::debug!(database = file.database_type(), %error, "a record cannot be read");
            errors += 1;
        };
        for file in &self.asn {
            match file.autonomous_system(ip) {
                Ok(Some(record)) => place::write_as(&record, out),
                Ok(None) => {}
                Err(error) => note(file, error),
            }
            if out.len() > start {
                break;
            }
        }
        let geo = out.len();
        for file in &self.city {
            match file.geo(ip) {
                Ok(Some(record)) => place::write_geo(&record, out),
                Ok(None) => {}
                Err(error) => note(file, error),
            }
            if out.len() > geo {
                break;
            }
        }
        if out.len() == geo
            && let Some(purpose) = ranges::purpose(ip)
        {
            place::write_purpose(purpose, out);
            return Outcome::Special;
        }
        match (out.len() > start, errors) {
            (true, _) => Outcome::Found,
            (false, 0) => Outcome::Unknown,
            (false, _) => Outcome::Error,
        }
    }
}

impl Outcome {
    fn of(byte: u8) -> Outcome {
        [Outcome::Found, Outcome::Special, Outcome::Unknown, Outcome::Error]
            .into_iter()
            .find(|outcome| *outcome as u8 == byte)
            .unwrap_or(Outcome::Unknown)
    }
}

impl Counters {
    fn new(metrics: &Metrics) -> Counters {
        let of = |outcome: &str| metrics.enrich_lookups.with_label_values(&[outcome]);
        Counters { found: of("found"), special: of("special"), unknown: of("unknown"), error: of("error") }
    }

    fn of(&self, outcome: Outcome) -> &Counter {
        match outcome {
            Outcome::Found => &self.found,
            Outcome::Special => &self.special,
            Outcome::Unknown => &self.unknown,
            Outcome::Error => &self.error,
        }
    }
}

#[cfg(test)]
mod tests;
