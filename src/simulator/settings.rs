//! What a simulated world is asked to be: sizes, clock, protocol knobs, scenarios. Plain values with
//! a builder; nothing is done here.

use super::faults::Scenario;
use crate::clock::Clock;

/// The content types of the Management Activity API (activity-api 1.3). The simulator has its own
/// list, as it shares nothing with what it judges.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ContentType {
    AzureActiveDirectory,
    Exchange,
    SharePoint,
    General,
    Dlp,
}

impl ContentType {
    /// All five, in the order of the documentation.
    pub const ALL: [ContentType; 5] = [
        ContentType::AzureActiveDirectory,
        ContentType::Exchange,
        ContentType::SharePoint,
        ContentType::General,
        ContentType::Dlp,
    ];

    /// The documented spelling.
    pub const fn as_str(self) -> &'static str {
        match self {
            ContentType::AzureActiveDirectory => "Audit.AzureActiveDirectory",
            ContentType::Exchange => "Audit.Exchange",
            ContentType::SharePoint => "Audit.SharePoint",
            ContentType::General => "Audit.General",
            ContentType::Dlp => "DLP.All",
        }
    }

    /// Reads any casing.
    pub fn parse(name: &str) -> Option<ContentType> {
        ContentType::ALL.into_iter().find(|t| t.as_str().eq_ignore_ascii_case(name))
    }

    pub(super) const fn index(self) -> usize {
        self as usize
    }

    /// The third and fourth part of a content id (activity-api 1.7, anatomy).
    pub(super) const fn id_parts(self) -> (&'static str, &'static str) {
        match self {
            ContentType::AzureActiveDirectory => ("audit_azureactivedirectory", "Audit_AzureActiveDirectory"),
            ContentType::Exchange => ("audit_exchange", "Audit_Exchange"),
            ContentType::SharePoint => ("audit_sharepoint", "Audit_SharePoint"),
            ContentType::General => ("audit_general", "Audit_General"),
            ContentType::Dlp => ("dlp_all", "DLP_All"),
        }
    }
}

/// What a content id names (activity-api 1.7, "partial blob").
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Identity {
    /// A fixed set of records, whatever the query.
    #[default]
    Stable,
    /// The part of an index range that the query's bounds (and now) cut out.
    Windowed,
}

/// Size, clock, knobs and scenarios of a world.
#[derive(Clone, Debug)]
pub struct WorldConfig {
    pub seed: u64,
    pub tenants: usize,
    /// Records of the history, over all tenants and types.
    pub records: u64,
    /// Days of history before the start; the service lists 7.
    pub days: u32,
    /// Records of a blob of the history on average; `None`: about 40 blobs a feed, at most 200 records each.
    pub records_per_blob: Option<u32>,
    /// Parts of the records that each content type gets, in the order of [`ContentType::ALL`].
    pub shares: [u32; 5],
    /// Records a minute and feed that keep appearing after the start; 0: none.
    pub live_rate: f64,
    /// Records of a blob that appears after the start; `None`: what comes in within 20 seconds.
    pub live_per_blob: Option<u32>,
    /// Virtual hours after the start beyond which nothing appears any more; `None`: never.
    pub live_hours: Option<u32>,
    pub identity: Identity,
    /// Virtual time at the start, milliseconds since 1970; `None`: the world's.
    pub start_ms: Option<i64>,
    /// Virtual seconds in a second.
    pub speed: f64,
    /// Milliseconds by which the service's clock is ahead of its clients'.
    pub skew_ms: i64,
    /// Percent of the records, and of what appears later, that the first tenant has; 0: as many as the others.
    pub noisy: u32,
    /// A clock made elsewhere, in place of one made of `start_ms` and `speed`.
    pub clock: Option<Clock>,
    pub scenarios: Vec<Scenario>,
    /// Part of the objects that each scenario strikes, from and to: a rate of its own for each, by the
    /// seed. `None`: some 50 objects, whatever the size of the world.
    pub rates: Option<(f64, f64)>,
    /// Root that the server names itself by; `None`: the address that it listens on.
    pub public_url: Option<String>,
    pub protocol: Protocol,
}

/// Knobs of the protocol. Defaults are strict (activity-api 4.1). Times are virtual.
#[derive(Clone, Debug)]
pub struct Protocol {
    /// `None`: 3599 s, or 30 s of the world where the clock runs so fast that this is longer.
    pub token_lifetime_s: Option<i64>,
    /// Seconds between two `start` requests of a feed.
    pub start_cooldown_s: i64,
    /// All subscriptions exist from the start.
    pub subscribed: bool,
    /// Seconds after `start` until the first content is listed.
    pub first_content_delay_s: i64,
    pub page_size: usize,
    /// `NextPageUri` in its odd forms (activity-api 4.1); off: only the plain form.
    pub odd_pages: bool,
    /// How far back a listing may start, in seconds, beyond 7 days.
    pub window_tolerance_s: i64,
    /// A range of exactly 24 h is refused.
    pub refuse_exact_day: bool,
    /// A range above 24 h is answered with what its first 24 h hold instead of AF20055.
    pub partial_over_day: bool,
    /// `contentExpiration` minus `contentCreated`.
    pub expiration_days: i64,
    /// Age of a blob beyond which it is really refused.
    pub retrieval_days: i64,
    /// Blob downloads at once and tenant above which a violation is noted.
    pub max_downloads: usize,
    /// Tenants (by position) whose application lacks `ActivityFeed.ReadDlp`.
    pub without_dlp: Vec<usize>,
    /// The members of a record come in another order at each fetch.
    pub shuffle_fields: bool,
    /// Bytes of the record of `huge_record`.
    pub huge_record_bytes: usize,
    /// Blobs go gzipped to whom accepts it.
    pub gzip: bool,
}

impl Default for Protocol {
    fn default() -> Protocol {
        Protocol {
            token_lifetime_s: None,
            start_cooldown_s: 15 * 60,
            subscribed: false,
            first_content_delay_s: 0,
            page_size: 50,
            odd_pages: true,
            window_tolerance_s: 0,
            refuse_exact_day: false,
            partial_over_day: false,
            expiration_days: 7,
            retrieval_days: 20,
            max_downloads: 64,
            without_dlp: Vec::new(),
            shuffle_fields: false,
            huge_record_bytes: 50 * 1024 * 1024,
            gzip: true,
        }
    }
}

impl Default for WorldConfig {
    fn default() -> WorldConfig {
        WorldConfig {
            seed: 1,
            tenants: 1,
            records: 1000,
            days: 7,
            records_per_blob: None,
            // Entra, Exchange, SharePoint, General, DLP: about the mix of a real tenant (performance, corpus).
            shares: [25, 27, 38, 7, 3],
            live_rate: 0.0,
            live_per_blob: None,
            live_hours: None,
            identity: Identity::Stable,
            start_ms: None,
            speed: 1.0,
            skew_ms: 0,
            noisy: 0,
            clock: None,
            scenarios: Vec::new(),
            rates: None,
            public_url: None,
            protocol: Protocol::default(),
        }
    }
}

/// Sets one field and hands the configuration on.
macro_rules! setters {
    ($($name:ident: $type:ty),* $(,)?) => {
        $(
            #[must_use]
            pub fn $name(mut self, value: $type) -> Self {
                self.$name = value;
                self
            }
        )*
    };
}

impl WorldConfig {
    /// One tenant, 1,000 records, 7 days, no faults.
    pub fn new() -> WorldConfig {
        WorldConfig::default()
    }

    /// What `demo` shows: two tenants, a day of history, and new records every few seconds.
    pub fn demo() -> WorldConfig {
        WorldConfig::new().tenants(2).records(2000).days(1).live_rate(120.0)
    }

    setters! {
        seed: u64,
        tenants: usize,
        records: u64,
        days: u32,
        shares: [u32; 5],
        live_rate: f64,
        identity: Identity,
        speed: f64,
        skew_ms: i64,
        noisy: u32,
        protocol: Protocol,
    }

    #[must_use]
    pub fn records_per_blob(mut self, records: u32) -> Self {
        self.records_per_blob = Some(records);
        self
    }

    #[must_use]
    pub fn start_ms(mut self, ms: i64) -> Self {
        self.start_ms = Some(ms);
        self
    }

    /// Traffic after the start: records a minute and feed, records of a blob, and after how many virtual
    /// hours it ends.
    #[must_use]
    pub fn live(mut self, rate: f64, per_blob: u32, hours: u32) -> Self {
        (self.live_rate, self.live_per_blob, self.live_hours) = (rate, Some(per_blob.max(1)), Some(hours));
        self
    }

    /// Each scenario strikes a part of the objects between these, one of its own.
    #[must_use]
    pub fn rates(mut self, low: f64, high: f64) -> Self {
        self.rates = Some((low, high));
        self
    }

    /// Runs on a clock made elsewhere.
    #[must_use]
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = Some(clock);
        self
    }

    /// Only this content type has records.
    #[must_use]
    pub fn only(mut self, kind: ContentType) -> Self {
        self.shares = [0; 5];
        self.shares[kind.index()] = 1;
        self
    }

    /// Switches one scenario on.
    #[must_use]
    pub fn scenario(mut self, scenario: Scenario) -> Self {
        if !self.scenarios.contains(&scenario) {
            self.scenarios.push(scenario);
        }
        self
    }

    /// Switches several on.
    #[must_use]
    pub fn scenarios(self, scenarios: &[Scenario]) -> Self {
        scenarios.iter().fold(self, |config, scenario| config.scenario(*scenario))
    }

    /// Virtual seconds that a token lasts.
    pub(super) fn token_lifetime_s(&self) -> i64 {
        self.protocol.token_lifetime_s.unwrap_or_else(|| 3599.max((30.0 * self.speed) as i64))
    }

    /// Changes protocol knobs in place.
    #[must_use]
    pub fn tune(mut self, change: impl FnOnce(&mut Protocol)) -> Self {
        change(&mut self.protocol);
        self
    }
}
