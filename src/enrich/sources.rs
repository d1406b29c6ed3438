//! The files that databases come from: which are there, which changed, which cannot be used. Comes in: paths. Goes out: the
//! databases of a moment, and what is to be said of each file. A database that was good stays until a better one is there: a
//! file that is half written, damaged or gone costs nothing.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::database::{Database, Fault, Kind, Look};
use crate::config::EnrichConfig;
use crate::metrics::{Counter, Gauge, Metrics};

/// Looks between two tries where there was no room for a copy: each try fills what is left of the disk for a moment. 5 minutes.
const REST: u32 = 60;

/// The databases by kind, in the order of the configuration.
type Loaded = (Vec<Arc<Database>>, Vec<Arc<Database>>);

/// What is to be shown of a database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DatabaseStatus {
    /// The key in the configuration.
    pub kind: &'static str,
    pub file: String,
    pub standing: Standing,
    /// Why the file as it is now cannot be used.
    pub trouble: Option<String>,
}

/// Whether a database is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    Missing,
    /// What it calls itself, and when it was built: seconds since 1970.
    Loaded {
        database_type: String,
        built: i64,
    },
}

/// See the module's head.
pub(super) struct Sources {
    /// Where nameless copies are made.
    copies: PathBuf,
    sources: Mutex<Vec<Source>>,
}

struct Source {
    kind: Kind,
    path: PathBuf,
    /// What is read from, and how the file looked then.
    loaded: Option<(Arc<Database>, Option<Look>)>,
    /// How the file looked at the last look.
    before: Option<Look>,
    /// How the file looked that could not be used, and why.
    refused: Option<(Option<Look>, String)>,
    /// Looks that are left out, for want of room.
    rest: u32,
    built: Gauge,
    failures: Counter,
}

impl Sources {
    pub fn none() -> Sources {
        Sources { copies: PathBuf::new(), sources: Mutex::default() }
    }

    pub fn new(config: &EnrichConfig, copies: &Path, metrics: &Metrics) -> Sources {
        let city = config.city.iter().map(|path| (Kind::City, path));
        let asn = config.asn.iter().map(|path| (Kind::Asn, path));
        let sources = city.chain(asn).map(|(kind, path)| Source::new(kind, path, metrics)).collect();
        Sources { copies: copies.to_owned(), sources: Mutex::new(sources) }
    }

    /// Of databases that come with the program, each for both kinds.
    pub fn embedded(name: &str, databases: &[Arc<Database>], metrics: &Metrics) -> Sources {
        let of = |kind, database: &Arc<Database>| {
            let mut source = Source::new(kind, Path::new(name), metrics);
            source.built.set(database.built());
            source.loaded = Some((Arc::clone(database), None));
            source
        };
        let sources =
            databases.iter().flat_map(|database| [of(Kind::City, database), of(Kind::Asn, database)]).collect();
        Sources { copies: PathBuf::new(), sources: Mutex::new(sources) }
    }

    pub fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }

    pub fn status(&self) -> Vec<DatabaseStatus> {
        self.lock().iter().map(Source::status).collect()
    }

    /// Looks at each file; all databases that there are then, if any is another one. `is_later`: not the first look, so that a
    /// file must have stood still since the one before. Blocking.
    pub fn look(&self, is_later: bool) -> Option<Loaded> {
        let mut sources = self.lock();
        let mut changed = false;
        for source in sources.iter_mut() {
            changed |= source.look(&self.copies, is_later);
        }
        let of = |wanted| {
            let loaded =
                sources.iter().filter(|source| source.kind == wanted).filter_map(|source| source.loaded.as_ref());
            loaded.map(|(database, _)| Arc::clone(database)).collect()
        };
        changed.then(|| (of(Kind::City), of(Kind::Asn)))
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Source>> {
        self.sources.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Sources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.status()).finish()
    }
}

impl Source {
    fn new(kind: Kind, path: &Path, metrics: &Metrics) -> Source {
        let file = path.display().to_string();
        let labels = [kind.as_str(), file.as_str()];
        Source {
            kind,
            path: path.to_owned(),
            loaded: None,
            before: None,
            refused: None,
            rest: 0,
            built: metrics.enrich_built.with_label_values(&labels),
            failures: metrics.enrich_failures.with_label_values(&labels),
        }
    }

    fn status(&self) -> DatabaseStatus {
        let standing = match &self.loaded {
            None => Standing::Missing,
            Some((database, _)) => {
                Standing::Loaded { database_type: database.database_type().to_owned(), built: database.built() }
            }
        };
        let trouble = self.refused.as_ref().map(|(_, trouble)| trouble.clone());
        DatabaseStatus { kind: self.kind.as_str(), file: self.path.display().to_string(), standing, trouble }
    }

    /// True if there is another database now.
    fn look(&mut self, copies: &Path, is_later: bool) -> bool {
        if matches!(self.loaded, Some((_, None))) {
            // It comes with the program.
            return false;
        }
        let now = Look::at(&self.path);
        let stands_still = !is_later || now == self.before;
        self.before = now;
        if now.is_some() && self.loaded.as_ref().is_some_and(|(_, look)| *look == now) {
            // Back to what it was, if it was ever away.
            self.refused = None;
            return false;
        }
        if self.rest > 0 {
            self.rest -= 1;
            return false;
        }
        if !stands_still || self.refused.as_ref().is_some_and(|(look, _)| *look == now) {
            return false;
        }
        match Database::open(&self.path, self.kind, copies) {
            Ok((database, look)) => self.take(database, look),
            Err(fault) => {
                self.refuse(now, &fault);
                false
            }
        }
    }

    fn take(&mut self, database: Database, look: Look) -> bool {
        tracing::info!(
            kind = self.kind.as_str(),
            file = %self.path.display(),
            database = database.database_type(),
            built = database.built(),
            "the database is read from now on"
        );
        self.built.set(database.built());
        (self.loaded, self.refused) = (Some((Arc::new(database), Some(look))), None);
        true
    }

    fn refuse(&mut self, look: Option<Look>, fault: &Fault) {
        let trouble = fault.to_string();
        // Said once, not at each look.
        if self.refused.as_ref().is_none_or(|(_, said)| *said != trouble) {
            self.failures.inc();
            let meanwhile = match self.loaded {
                Some(_) => "the one before is used further",
                None => "events go on without it",
            };
            tracing::warn!(
                kind = self.kind.as_str(),
                file = %self.path.display(),
                error = trouble,
                "a database for `enrich` cannot be used; {meanwhile}, and it is looked for again"
            );
        }
        // Of these the file itself says nothing: another try may go well.
        let is_passing = matches!(fault, Fault::Changed | Fault::NoRoom(..));
        self.rest = if matches!(fault, Fault::NoRoom(..)) { REST } else { 0 };
        self.refused = Some((if is_passing { Some(Look::NEVER) } else { look }, trouble));
    }
}
