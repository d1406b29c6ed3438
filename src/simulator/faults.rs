//! The scenarios: which faults exist, which are on, whether one strikes a given object, how often it
//! did. A decision is a hash of (seed, scenario, object), and an object fails a bounded number of
//! times, so that a client that tries again gets through. Nothing here knows what a fault looks like.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use super::chance::hash;

macro_rules! scenarios {
    ($($variant:ident $name:literal $level:ident $group:ident $what:literal;)*) => {
        /// Something that goes wrong, on purpose.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Scenario { $(#[doc = $what] $variant,)* }

        /// Every scenario: name and what it does.
        pub const SCENARIOS: &[(&str, &str)] = &[$(($name, $what),)*];

        const ALL: &[Scenario] = &[$(Scenario::$variant,)*];
        const LEVEL: &[Level] = &[$(Level::$level,)*];
        const GROUP: &[Group] = &[$(Group::$group,)*];
    };
}

/// What a scenario strikes, which sets how often by default.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Level {
    Request,
    Record,
    /// A few records of the whole world.
    Rare,
}

/// Who gets to see a scenario that is not asked for by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Group {
    /// The name `all`: those that a client can live with in a busy test on a real clock.
    All,
    /// The world `chaos` as well: those that take hours or days.
    Chaos,
    /// Nobody.
    Asked,
}

scenarios! {
    TruncatedBody "truncated_body" Request All "a body breaks off: shorter than its Content-Length, or a chunked body aborted";
    HalfJson "half_json" Request All "a body ends cleanly in the middle of its JSON";
    Throttle429 "throttle_429" Request All "429 with Retry-After in seconds, as a date, or absent";
    Throttle403 "throttle_403" Request All "403 with AF429, the documented form of throttling";
    ServerError "server_error" Request All "500 with AF50000";
    HtmlError "html_error" Request All "502 or 503 with a page of HTML";
    TokenExpiry "token_expiry" Request All "the token dies early: 401 on a call, or in the middle of a download";
    TokenEndpointError "token_endpoint_error" Request All "the token endpoint answers 400, 429, 500 or HTML before it works; tokens die early";
    Duplicates "duplicates" Request All "the same records in further blobs: soon after, days after, in another content type";
    Late "late" Request All "a blob becomes listable minutes to hours after its contentCreated";
    OutOfOrder "out_of_order" Request All "listings shuffled; a blob is missing from one listing and back in the next";
    Expired "expired" Request All "AF20051 before its time: these records cannot be had";
    Vanished "vanished" Request All "404 AF20050 for ever and gone from the listings: these records cannot be had";
    Eventual "eventual" Request All "AF20050 right after the listing, then the blob is there";
    SubscriptionDisabled "subscription_disabled" Request All "AF20023 until the subscription is started again";
    PageError "page_error" Request All "the next page answers AF20031 or 500";
    GarbageError "garbage_error" Request All "400 with an exception text where the error code belongs";
    InvalidUtf8 "invalid_utf8" Record All "a record holds bytes that are not UTF-8";
    Nul "nul" Record All "a record holds a NUL, raw or escaped";
    Deep "deep" Record All "a record is nested 300 levels deep";
    BadEscape "bad_escape" Record All "a record holds an escape that JSON does not know, or half a surrogate pair";
    NotObject "not_object" Record All "an element of the array is a number, a string, null, a list";
    DupKeys "dup_keys" Record All "a record names a field twice";
    BigIntegers "big_integers" Record All "a record holds integers beyond 64 bits";
    MissingId "missing_id" Record All "a record has no Id, a null or an empty one";
    HugeRecord "huge_record" Rare Asked "a few records of 50 MB";
    Bomb "bomb" Request Asked "a gzip body of a few megabytes that grows to gigabytes";
    EndlessPages "endless_pages" Request Asked "a listing whose pages never end";
    SlowBody "slow_body" Request Asked "a body that drips";
    ForgedUrls "forged_urls" Request Asked "contentUri and NextPageUri point elsewhere";
    AbsurdRetryAfter "absurd_retry_after" Request All "429 with a Retry-After of a day";
    RequestTimeout "request_timeout" Request All "408";
    EmptyBadGateway "empty_bad_gateway" Request All "502 without a body";
    RetryInAnHour "retry_in_an_hour" Request All "500 with AF50000 and the advice to try again in an hour";
    PlainError "plain_error" Request All "an error in plain text, or in JSON called something else";
    MissingPermission "missing_permission" Request All "401 with AF10001, as where a permission was taken away for a while";
    ConnectionReset "connection_reset" Request All "the connection breaks before the head of an answer";
    EmptyBody "empty_body" Request All "200 and not a byte";
    NullBody "null_body" Request All "200 and `null`";
    ObjectBody "object_body" Request All "200 and an object where an array belongs";
    TrailingGarbage "trailing_garbage" Request All "something follows the end of the array";
    ByteOrderMark "byte_order_mark" Request All "a byte order mark precedes the array";
    ContentInvalid "content_invalid" Request All "AF20052 for a content id that is good";
    ListedTwice "listed_twice" Request All "a listing names a blob twice";
    PageLoop "page_loop" Request All "NextPageUri of a page leads to the page itself";
    PageMissing "page_missing" Request All "the next page answers 404 in HTML";
    WrongDate "wrong_date" Request All "Date is wrong by up to ten minutes, rarely by days";
    EqualCreated "equal_created" Request All "most blobs share their contentCreated with others; laid out at the start";
    InvalidClient "invalid_client" Request All "the token endpoint refuses a good secret; tokens die early";
    NotANumber "not_a_number" Record All "a record holds NaN, Infinity or a number with leading zeros";
    FloatSizes "float_sizes" Record All "a record holds whole numbers with decimals";
    RecordTypeText "record_type_text" Record All "RecordType is a string";
    SameId "same_id" Record All "a record has the Id of its neighbour, and other content";
    Quota "quota" Request Chaos "429 beyond so many requests a minute of a tenant";
    SlowAnswer "slow_answer" Request Chaos "the head of an answer takes most of a minute";
    SlowToken "slow_token" Request Chaos "the token endpoint takes so long that most clients hang up";
    StalledBody "stalled_body" Request Chaos "headers, and then nothing for ever";
    Absent "absent" Request Chaos "404 AF20050 for ever though it is listed: these records cannot be had";
    VeryLate "very_late" Request Chaos "a blob becomes listable hours to six days after its contentCreated";
    CrowdedHour "crowded_hour" Request Chaos "half of the history became available within one hour; laid out at the start";
    Replay "replay" Request Chaos "live blobs bring records again that were served up to days before";
    IdCase "id_case" Record Chaos "a further copy of a record has its Id in capitals";
    LateSubscription "late_subscription" Request Chaos "a start is answered well and has effect minutes to an hour later";
    LateContent "late_content" Request Chaos "the first content is listed up to 12 hours after the start";
    ShortBackfill "short_backfill" Request Chaos "nothing older than 22 hours before the first start is ever listed";
    Growing "growing" Request Chaos "a live blob is listed while it fills and holds more records later, under the same id";
}

impl Scenario {
    /// The name as used on the command line and in the report.
    pub fn name(self) -> &'static str {
        SCENARIOS[self as usize].0
    }

    /// Every scenario there is.
    pub fn every() -> &'static [Scenario] {
        ALL
    }

    /// The scenarios behind the name `all`: those that a client can live with in a busy test.
    pub fn all() -> Vec<Scenario> {
        ALL.iter().copied().filter(|s| GROUP[*s as usize] == Group::All).collect()
    }

    /// The scenarios of the world `chaos`: those of `all`, and those that take days.
    pub fn chaos() -> Vec<Scenario> {
        ALL.iter().copied().filter(|s| GROUP[*s as usize] != Group::Asked).collect()
    }

    /// Reads a name, or `all`, `chaos`, `none`; `None` for one that does not exist.
    pub fn parse(name: &str) -> Option<Vec<Scenario>> {
        match name.trim() {
            "all" => Some(Scenario::all()),
            "chaos" => Some(Scenario::chaos()),
            "none" | "" => Some(Vec::new()),
            name => ALL.iter().find(|s| s.name() == name).map(|s| vec![*s]),
        }
    }
}

/// What is struck.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Object {
    /// A blob, by feed and number.
    Blob(u64),
    /// A listing request, by feed, bounds and page.
    Listing(u64),
    /// A record, by feed and index.
    Record(u64),
}

const OFF: u64 = 0;
const DEFAULT: u64 = u64::MAX;

/// Which scenarios are on, what they struck.
#[derive(Debug)]
pub(super) struct Faults {
    seed: u64,
    /// Per scenario: off, the default rate, or a threshold of a 64-bit hash.
    modes: Vec<AtomicU64>,
    counts: Vec<AtomicU64>,
    /// How often an object already failed by a scenario; only what was struck is here.
    attempts: Mutex<HashMap<(u8, u64), u8>>,
    blob: u64,
    listing: u64,
    record: u64,
    rare: u64,
}

/// A fraction as a threshold of a 64-bit hash.
fn threshold(fraction: f64) -> u64 {
    ((fraction.clamp(0.0, 1.0) * u64::MAX as f64) as u64).clamp(1, DEFAULT - 1)
}

impl Faults {
    /// Default rates aim at some 50 struck objects a scenario, whatever the size of the world.
    pub(super) fn new(seed: u64, on: &[Scenario], blobs: u64, listings: u64, records: u64) -> Faults {
        let rate = |aim: f64, of: u64, low: f64, high: f64| threshold((aim / of.max(1) as f64).clamp(low, high));
        let faults = Faults {
            seed,
            modes: ALL.iter().map(|_| AtomicU64::new(OFF)).collect(),
            counts: ALL.iter().map(|_| AtomicU64::new(0)).collect(),
            attempts: Mutex::new(HashMap::new()),
            blob: rate(50.0, blobs, 0.002, 0.6),
            listing: rate(50.0, listings, 0.002, 0.3),
            record: rate(60.0, records, 0.000_05, 0.2),
            rare: rate(3.0, records, 0.0, 0.2),
        };
        for scenario in on {
            faults.set(*scenario, None);
        }
        faults
    }

    /// Switches on; `rate` is the part of objects struck, `None` the default.
    pub(super) fn set(&self, scenario: Scenario, rate: Option<f64>) {
        self.modes[scenario as usize].store(rate.map_or(DEFAULT, threshold), Ordering::Relaxed);
    }

    pub(super) fn clear(&self, scenario: Scenario) {
        self.modes[scenario as usize].store(OFF, Ordering::Relaxed);
    }

    pub(super) fn is_on(&self, scenario: Scenario) -> bool {
        self.modes[scenario as usize].load(Ordering::Relaxed) != OFF
    }

    /// Whether the object is one that the scenario strikes; nothing is counted.
    pub(super) fn selects(&self, scenario: Scenario, object: Object) -> bool {
        let mode = self.modes[scenario as usize].load(Ordering::Relaxed);
        if mode == OFF {
            return false;
        }
        let (default, key) = match object {
            Object::Blob(key) => (self.blob, key),
            Object::Listing(key) => (self.listing, key),
            Object::Record(key) => (self.record, key),
        };
        let limit = match (mode, LEVEL[scenario as usize]) {
            (DEFAULT, Level::Rare) => self.rare,
            (DEFAULT, _) => default,
            (limit, _) => limit,
        };
        hash(&[self.seed, scenario as u64, key]) < limit
    }

    /// Strikes if the object is selected and has not failed often enough; counts.
    pub(super) fn strikes(&self, scenario: Scenario, object: Object) -> bool {
        self.selects(scenario, object) && self.strikes_again(scenario, object)
    }

    /// Strikes every object at the default rate, the selected ones at any other.
    pub(super) fn strikes_most(&self, scenario: Scenario, object: Object) -> bool {
        let mode = self.modes[scenario as usize].load(Ordering::Relaxed);
        mode != OFF && (mode == DEFAULT || self.selects(scenario, object)) && self.strikes_again(scenario, object)
    }

    /// Like [`Faults::strikes`] for an object that is known to be selected: 1 to 3 times each.
    pub(super) fn strikes_again(&self, scenario: Scenario, object: Object) -> bool {
        let (Object::Blob(key) | Object::Listing(key) | Object::Record(key)) = object;
        let limit = 1 + (hash(&[self.seed, 99, scenario as u64, key]) % 3) as u8;
        let mut attempts = self.attempts.lock().unwrap_or_else(PoisonError::into_inner);
        let done = attempts.entry((scenario as u8, key)).or_insert(0);
        if *done >= limit {
            return false;
        }
        *done += 1;
        drop(attempts);
        self.count(scenario);
        true
    }

    /// Counts one firing.
    pub(super) fn count(&self, scenario: Scenario) {
        self.counts[scenario as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// A number to vary a fault by, the same for the same object.
    pub(super) fn variant(&self, scenario: Scenario, key: u64) -> u64 {
        hash(&[self.seed, 7, scenario as u64, key])
    }

    /// Firings of every scenario that is on or ever fired.
    pub(super) fn counts(&self) -> Vec<(&'static str, u64)> {
        ALL.iter()
            .map(|s| (*s, self.counts[*s as usize].load(Ordering::Relaxed)))
            .filter(|(s, count)| *count > 0 || self.is_on(*s))
            .map(|(s, count)| (s.name(), count))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_strikes_the_same_objects_and_stops() {
        let make = || Faults::new(5, &[Scenario::ServerError], 1000, 1000, 1000);
        let (one, two) = (make(), make());
        let struck = |f: &Faults| (0..1000).filter(|k| f.selects(Scenario::ServerError, Object::Blob(*k))).count();
        assert_eq!(struck(&one), struck(&two));
        assert!((20..120).contains(&struck(&one)), "{}", struck(&one));
        let victim = (0..1000).find(|k| one.selects(Scenario::ServerError, Object::Blob(*k))).unwrap();
        let hits = (0..10).filter(|_| one.strikes(Scenario::ServerError, Object::Blob(victim))).count();
        assert!((1..=3).contains(&hits), "{hits}");
        assert!(!one.strikes(Scenario::HalfJson, Object::Blob(victim)));
    }

    #[test]
    fn names_are_unique_and_readable() {
        for scenario in Scenario::every() {
            assert_eq!(Scenario::parse(scenario.name()), Some(vec![*scenario]));
        }
        assert_eq!(Scenario::parse("no such"), None);
        assert_eq!(Scenario::chaos().len(), SCENARIOS.len() - 5);
        assert_eq!(Scenario::all().len(), Scenario::chaos().len() - 13);
    }
}
