//! What no table of ours knows of the records that come by: types without a name, operations without a row, top-level
//! fields that Microsoft's schema does not have. They are sent on like all others; this is how it is seen that the
//! service has something new. Comes in: a [`Sighting`] a part of a blob. Goes out: counters, names for `/status`, and a
//! line of the log at most once an hour. Bounded, whatever is sent; names only, never a value.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::metrics::{Counter, Metrics};
use crate::normalize::operations;
use crate::record::{Field, View, types};

/// What can be unknown: label `kind`.
pub const KINDS: [&str; 3] = ["record_type", "operation", "field"];
const TYPE: usize = 0;
const OPERATION: usize = 1;
const FIELD: usize = 2;

/// Names of one kind that a part is asked for; it has at most a MiB of records, and usually none.
const OF_A_PART: usize = 256;
/// Names of one kind that are remembered, at up to 150 bytes: those beyond push out the rarest, so that a flood of names
/// seen once cannot hide one that is seen often.
const REMEMBERED: usize = 1000;
/// Names of one kind that `/status` shows.
pub const SHOWN: usize = 100;
/// Characters of a name that are kept. Microsoft's longest operation has some 70.
const LONGEST: usize = 96;
/// Names of one kind that a line of the log gives.
const LOGGED: usize = 10;
const BETWEEN_LINES: Duration = Duration::from_secs(3600);

/// What one part has that is unknown: filled without a lock, and without an allocation while everything is known.
#[derive(Debug, Default)]
pub struct Sighting {
    names: [HashMap<Box<str>, u64>; 3],
    others: [u64; 3],
}

impl Sighting {
    /// Looks at one record.
    pub fn look(&mut self, view: &View<'_>) {
        if view.record_type().is_none_or(|number| types::name(number).is_none())
            && let Some(number) = view.string(Field::RecordType)
        {
            self.add(TYPE, &number);
        }
        if let Some(operation) = view.string(Field::Operation).filter(|name| operations::find(name).is_none()) {
            self.add(OPERATION, &operation);
        }
        for entry in view.entries().filter(|entry| entry.field.is_none()) {
            self.add(FIELD, entry.name());
        }
    }

    fn add(&mut self, kind: usize, name: &str) {
        let names = &mut self.names[kind];
        if let Some(count) = names.get_mut(name) {
            *count += 1;
        } else if names.len() < OF_A_PART {
            names.insert(name.into(), 1);
        } else {
            self.others[kind] += 1;
        }
    }

    fn is_empty(&self) -> bool {
        self.names.iter().all(HashMap::is_empty)
    }
}

/// A name as it may be shown: no control characters and nothing that turns a line around, and not too long.
fn shown(name: &str) -> String {
    let is_plain = |c: &char| c.is_alphanumeric() || matches!(c, ' '..='~' | '–');
    let mut letters = name.chars().map(|c| if is_plain(&c) { c } else { '\u{fffd}' });
    let mut shown: String = letters.by_ref().take(LONGEST).collect();
    if letters.next().is_some() {
        shown.push('…');
    }
    shown
}

/// The names of one kind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names {
    /// Those seen most, first the most frequent.
    pub most: Vec<(String, u64)>,
    /// How often any other was seen.
    pub others: u64,
}

#[derive(Debug, Default)]
struct Book {
    counts: HashMap<String, u64>,
    others: u64,
    /// Not in the log yet: the first few names, and how many there are.
    fresh: Vec<String>,
    fresh_count: usize,
}

impl Book {
    fn add(&mut self, name: String, count: u64) {
        if let Some(known) = self.counts.get_mut(&name) {
            *known += count;
            return;
        }
        self.fresh_count += 1;
        if self.fresh.len() < LOGGED {
            self.fresh.push(name.clone());
        }
        if self.counts.len() >= REMEMBERED {
            let rarest = self.counts.iter().min_by_key(|(_, count)| **count).map(|(name, _)| name.clone());
            self.others += rarest.and_then(|name| self.counts.remove(&name)).unwrap_or(0);
        }
        self.counts.insert(name, count);
    }

    fn names(&self) -> Names {
        let mut most: Vec<(String, u64)> = self.counts.iter().map(|(name, count)| (name.clone(), *count)).collect();
        most.sort_unstable_by(|one, other| other.1.cmp(&one.1).then_with(|| one.0.cmp(&other.0)));
        let rest = most.split_off(most.len().min(SHOWN));
        Names { others: self.others + rest.iter().map(|(_, count)| count).sum::<u64>(), most }
    }
}

#[derive(Debug, Default)]
struct Books {
    books: [Book; 3],
    told: Option<Instant>,
}

/// All that was seen since the process began. One for all workers.
pub struct Unknown {
    books: Mutex<Books>,
    counters: [Counter; 3],
}

impl Unknown {
    pub fn new(metrics: &Metrics) -> Arc<Unknown> {
        let counters = KINDS.map(|kind| metrics.unknown.with_label_values(&[kind]));
        Arc::new(Unknown { books: Mutex::default(), counters })
    }

    /// Takes up what a part had.
    pub fn note(&self, sighting: Sighting) {
        if !sighting.is_empty() {
            self.note_at(sighting, Instant::now());
        }
    }

    fn note_at(&self, sighting: Sighting, now: Instant) -> bool {
        let mut books = self.books.lock().unwrap_or_else(PoisonError::into_inner);
        for (kind, (names, others)) in sighting.names.into_iter().zip(sighting.others).enumerate() {
            self.counters[kind].inc_by(names.values().sum::<u64>() + others);
            let book = &mut books.books[kind];
            book.others += others;
            for (name, count) in names {
                book.add(shown(&name), count);
            }
        }
        let is_new = books.books.iter().any(|book| book.fresh_count > 0);
        let is_time = books.told.is_none_or(|told| now.saturating_duration_since(told) >= BETWEEN_LINES);
        if !(is_new && is_time) {
            return false;
        }
        books.told = Some(now);
        let [types, operations, fields] = &mut books.books;
        // Not inside of the macro, which leaves it out while nobody listens.
        let (record_types, operations, fields) = (fresh(types), fresh(operations), fresh(fields));
        tracing::info!(
            record_types,
            operations,
            fields,
            "records have names that are new to this release; they are sent on like all others, and `/status` has the counts"
        );
        true
    }

    /// What was seen, by kind, in the order of [`KINDS`].
    pub fn names(&self) -> [Names; 3] {
        let books = self.books.lock().unwrap_or_else(PoisonError::into_inner);
        [TYPE, OPERATION, FIELD].map(|kind| books.books[kind].names())
    }
}

/// What of a kind is new, for the log.
fn fresh(book: &mut Book) -> String {
    let (names, count) = (std::mem::take(&mut book.fresh), std::mem::take(&mut book.fresh_count));
    match count - names.len() {
        0 => names.join(", "),
        more => format!("{} and {more} more", names.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sighting(records: &[&str]) -> Sighting {
        let mut sighting = Sighting::default();
        for record in records {
            sighting.look(&View::parse(record.as_bytes()).unwrap());
        }
        sighting
    }

    fn most(names: &Names) -> Vec<(&str, u64)> {
        names.most.iter().map(|(name, count)| (name.as_str(), *count)).collect()
    }

    #[test]
    fn what_no_table_knows_is_counted_by_name_and_what_one_knows_is_not() {
        let metrics = Metrics::new();
        let unknown = Unknown::new(&metrics);
        unknown.note(sighting(&[
            r#"{"Id":"1","RecordType":15,"Operation":"UserLoggedIn","UserId":"a"}"#,
            r#"{"RecordType":99999,"Operation":"Turn the tables","Nobody":"a value","Nowhere":1}"#,
            r#"{"RecordType":"a word","Operation":"Turn the tables","Nobody":null}"#,
            r#"{"RecordType":null,"Operation":{}}"#,
        ]));
        let [types, operations, fields] = unknown.names();
        assert_eq!(most(&types), [("99999", 1), ("a word", 1)]);
        assert_eq!(most(&operations), [("Turn the tables", 2)]);
        assert_eq!(most(&fields), [("Nobody", 2), ("Nowhere", 1)]);
        let page = metrics.render();
        for line in [r#"{kind="record_type"} 2"#, r#"{kind="operation"} 2"#, r#"{kind="field"} 3"#] {
            assert!(page.contains(&format!("auditferry_unknown_total{line}")), "{page}");
        }
    }

    #[test]
    fn a_known_record_leaves_nothing_behind() {
        let sighting = sighting(&[r#"{"Id":"1","RecordType":15,"Operation":"UserLoggedIn","Workload":"x"}"#]);
        assert!(sighting.is_empty());
        assert!(sighting.names.iter().all(|names| names.capacity() == 0), "known names are not kept");
    }

    #[test]
    fn a_flood_of_names_is_bounded_and_hides_none_that_comes_often() {
        let metrics = Metrics::new();
        let unknown = Unknown::new(&metrics);
        let mut sent = 0;
        for part in 0..20 {
            let fields: Vec<String> = (0..300).map(|n| format!(r#""Flood{part}x{n}":1"#)).collect();
            unknown.note(sighting(&[&format!("{{{}}}", fields.join(","))]));
            unknown.note(sighting(&[r#"{"Often":1}"#, r#"{"Often":1}"#]));
            sent += 302;
        }
        let [.., fields] = unknown.names();
        assert_eq!(most(&fields)[0], ("Often", 40));
        assert_eq!(fields.most.len(), SHOWN);
        assert_eq!(fields.others + fields.most.iter().map(|(_, count)| count).sum::<u64>(), sent);
        assert!(unknown.books.lock().unwrap().books[FIELD].counts.len() <= REMEMBERED);
    }

    #[test]
    fn a_hostile_name_is_cut_and_has_no_control_characters() {
        assert_eq!(shown("Set-Mailbox"), "Set-Mailbox");
        assert_eq!(shown("Ümläut – 名"), "Ümläut – 名");
        assert_eq!(shown("a\u{1b}[31m\nb\u{202e}c\u{0}"), "a\u{fffd}[31m\u{fffd}b\u{fffd}c\u{fffd}");
        let long = shown(&"ä".repeat(10_000));
        assert_eq!(long.chars().count(), LONGEST + 1);
        assert!(long.ends_with('…'));
    }

    #[test]
    fn something_new_is_told_at_most_once_an_hour_and_then_all_of_it() {
        let unknown = Unknown::new(&Metrics::new());
        let began = Instant::now();
        let at = |seconds| began + Duration::from_secs(seconds);
        assert!(unknown.note_at(sighting(&[r#"{"New1":1}"#]), at(0)), "at once");
        assert!(!unknown.note_at(sighting(&[r#"{"New1":1}"#]), at(9000)), "that is not new");
        assert!(unknown.note_at(sighting(&[r#"{"New2":1}"#]), at(9001)));
        assert!(!unknown.note_at(sighting(&[r#"{"New3":1}"#]), at(9002)), "too early");
        assert_eq!(unknown.books.lock().unwrap().books[FIELD].fresh, ["New3"]);
        assert!(unknown.note_at(sighting(&[r#"{"New1":1}"#]), at(9001 + 3600)), "now New3 is told");
        assert!(unknown.books.lock().unwrap().books[FIELD].fresh.is_empty());
    }
}
