//! The world: tenants, people, and where every blob lies. A blob is a range of record indexes, a
//! record is made from (seed, tenant, type, index) when somebody asks (records/), so memory grows with
//! the number of blobs only, never with records or their bytes.

use super::chance::{Chance, guid, hash};
use super::faults::{Faults, Object, Scenario};
use super::records::people::{User, make_users};
use super::settings::{ContentType, Identity, WorldConfig};
use super::stamp::{DAY_MS, HOUR_MS, MINUTE_MS};
use crate::clock::{Clock, world_ms};

/// The longest stretch of time over which a blob fills (the second stamp of a content id is up to
/// 16 minutes after the first: activity-api 1.7).
pub(super) const MAX_SPAN_MS: i64 = 16 * MINUTE_MS;

/// A range of records that is listed as one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Blob {
    pub number: u64,
    pub created_ms: i64,
    /// The records: type, first index, how many.
    pub source: ContentType,
    pub first: u64,
    pub count: u32,
    /// How long it fills; record `j` lies at `created_ms + span_ms * j / count`.
    pub span_ms: u32,
    pub region: u8,
    /// A further copy of records that have a home elsewhere.
    pub copy: bool,
}

impl Blob {
    /// When record `offset` of the blob came in (windowed identity).
    pub(super) fn stamp_of(&self, offset: u32) -> i64 {
        self.created_ms + (u64::from(self.span_ms) * u64::from(offset) / u64::from(self.count.max(1))) as i64
    }

    pub(super) fn end_ms(&self) -> i64 {
        self.created_ms + i64::from(self.span_ms)
    }

    /// The first offset whose stamp is at or after `ms`.
    pub(super) fn offset_at(&self, ms: i64) -> u32 {
        if ms <= self.created_ms {
            return 0;
        }
        if ms >= self.end_ms() {
            return self.count;
        }
        let ahead = (ms - self.created_ms) as u64 * u64::from(self.count);
        ahead.div_ceil(u64::from(self.span_ms)).min(u64::from(self.count)) as u32
    }
}

/// A content type of a tenant.
#[derive(Debug)]
pub(super) struct FeedWorld {
    pub seed: u64,
    /// Sorted by `created_ms`; numbers are positions.
    pub history: Vec<Blob>,
    /// First record index and blob number of the blobs that are home to their records.
    homes: Vec<(u64, u32)>,
    /// Copies of this feed's records anywhere in the tenant: first index, end, type, blob number.
    pub copies: Vec<(u64, u64, ContentType, u64)>,
    /// Records of the history.
    pub records: u64,
    /// Milliseconds between live blobs and records of one; 0: none.
    live_interval_ms: i64,
    live_count: u32,
    /// Live blobs there will ever be.
    live_most: u64,
    /// Which live blobs are followed by a replay: the threshold of a 64-bit hash; 0: none.
    replays: u64,
    /// The attack story: its first record and the time it starts.
    pub story_index: u64,
    pub story_ms: i64,
}

/// A customer.
#[derive(Debug)]
pub(super) struct TenantWorld {
    pub index: usize,
    pub name: String,
    pub id: String,
    pub domain: String,
    pub users: Vec<User>,
    /// One for each of [`ContentType::ALL`].
    pub feeds: Vec<FeedWorld>,
}

/// Everything that exists.
#[derive(Debug)]
pub struct World {
    pub(super) config: WorldConfig,
    pub(super) clock: Clock,
    /// Virtual and world time at the start; with the speed they make the clock.
    pub(super) origin_ms: i64,
    pub(super) anchor_ms: i64,
    pub(super) client_id: String,
    pub(super) client_secret: String,
    pub(super) tenants: Vec<TenantWorld>,
    pub(super) faults: Faults,
}

impl World {
    /// Lays out the world; the clock starts now.
    pub fn new(config: WorldConfig) -> World {
        let anchor_ms = world_ms();
        let origin_ms = config.clock.as_ref().map_or(anchor_ms, Clock::now_ms);
        let origin_ms = config.start_ms.unwrap_or(origin_ms);
        let clock = match &config.clock {
            Some(clock) => clock.clone(),
            None if config.speed == 1.0 && config.start_ms.is_none() => Clock::system(),
            None => Clock::scaled(origin_ms, anchor_ms, config.speed),
        };
        let (clock, origin_ms) = match config.skew_ms {
            0 => (clock, origin_ms),
            skew_ms => (clock.ahead_by(skew_ms), origin_ms + skew_ms),
        };
        let mut ids = Chance::new(hash(&[config.seed, 0xc11e]));
        let client_id = guid(ids.next(), ids.next());
        let client_secret = format!("sim~{:016x}{:016x}", ids.next(), ids.next());
        let tenants: Vec<_> = (0..config.tenants).map(|index| tenant(&config, index, origin_ms)).collect();
        let feeds = tenants.iter().flat_map(|t| &t.feeds);
        let blobs: u64 = feeds.clone().map(|f| f.history.len() as u64).sum();
        let records: u64 = feeds.clone().map(|f| f.records).sum();
        let listings = feeds.count() as u64 * u64::from(config.days.max(1)) * 24;
        let faults = Faults::new(config.seed, &config.scenarios, blobs, listings, records);
        if let Some((low, high)) = config.rates {
            for scenario in &config.scenarios {
                let part = (hash(&[config.seed, *scenario as u64, 0x7a7e]) % 1000) as f64 / 1000.0;
                faults.set(*scenario, Some(low + (high - low) * part));
            }
        }
        World { config, clock, origin_ms, anchor_ms, client_id, client_secret, tenants, faults }
    }

    pub(super) fn feed(&self, tenant: usize, kind: ContentType) -> &FeedWorld {
        &self.tenants[tenant].feeds[kind.index()]
    }

    /// When a blob can first be listed.
    pub(super) fn available_ms(&self, tenant: usize, kind: ContentType, blob: &Blob) -> i64 {
        let object = blob_key(tenant, kind, blob.number);
        if self.faults.selects(Scenario::VeryLate, Object::Blob(object)) {
            let mut chance = Chance::new(self.faults.variant(Scenario::VeryLate, object));
            return blob.created_ms.max(self.origin_ms) + chance.between(6 * 60, 6 * 24 * 60) as i64 * MINUTE_MS;
        }
        if !self.faults.selects(Scenario::Late, Object::Blob(object)) {
            return blob.created_ms;
        }
        let mut chance = Chance::new(self.faults.variant(Scenario::Late, object));
        let delay = if chance.percent(30) { chance.between(1, 5) } else { chance.between(5, 180) };
        blob.created_ms.max(self.origin_ms) + delay as i64 * MINUTE_MS
    }

    /// How many records of the blob are there at `now_ms`, from its front: all of them with stable identity,
    /// unless it grows.
    pub(super) fn filled(&self, tenant: usize, kind: ContentType, blob: &Blob, now_ms: i64) -> u32 {
        match self.config.identity {
            _ if blob.created_ms > now_ms => 0,
            Identity::Stable if blob.created_ms > self.origin_ms => {
                let key = blob_key(tenant, kind, blob.number);
                if !self.faults.selects(Scenario::Growing, Object::Blob(key)) {
                    return blob.count;
                }
                // Full within the 16 minutes that the stamps of real ids lie apart.
                let minutes = 1 + self.faults.variant(Scenario::Growing, key) % 16;
                let grown = (now_ms - blob.created_ms) as u64 * u64::from(blob.count) / (minutes * MINUTE_MS as u64);
                grown.clamp(1, u64::from(blob.count)) as u32
            }
            Identity::Stable => blob.count,
            Identity::Windowed => blob.offset_at(now_ms + 1),
        }
    }
}

/// A blob among all blobs of the world, for decisions.
pub(super) fn blob_key(tenant: usize, kind: ContentType, number: u64) -> u64 {
    hash(&[tenant as u64, kind as u64, number])
}

impl FeedWorld {
    /// The blob with this number, if it exists at `now_ms`.
    pub(super) fn blob(&self, number: u64, kind: ContentType, origin_ms: i64, now_ms: i64) -> Option<Blob> {
        if let Some(blob) = self.history.get(usize::try_from(number).ok()?) {
            return Some(*blob);
        }
        let after = number - self.history.len() as u64;
        let (k, lane) = (after / self.lanes(), after % self.lanes());
        if k >= self.live_blobs(origin_ms, now_ms) {
            return None;
        }
        if lane == 0 {
            return Some(self.live_blob(k, kind, origin_ms));
        }
        self.replayed(k, kind, origin_ms).filter(|blob| blob.created_ms <= now_ms)
    }

    /// Numbers that a live blob takes: its own, and that of a replay that may follow it.
    pub(super) fn lanes(&self) -> u64 {
        if self.replays > 0 { 2 } else { 1 }
    }

    /// Scenario `replay`: the blob that comes after live blob `k` and holds what an earlier one holds.
    pub(super) fn replayed(&self, k: u64, kind: ContentType, origin_ms: i64) -> Option<Blob> {
        if hash(&[self.seed, k, 11]) >= self.replays {
            return None;
        }
        let earlier = hash(&[self.seed, k, 12]) % (self.history.len() as u64 + k).max(1);
        let original = match self.history.get(earlier as usize) {
            Some(blob) if blob.copy => return None,
            Some(blob) => *blob,
            None => self.live_blob(earlier - self.history.len() as u64, kind, origin_ms),
        };
        let after = self.live_blob(k, kind, origin_ms);
        let (number, created_ms) = (after.number + 1, after.created_ms + self.live_interval_ms / 3);
        Some(Blob { number, created_ms, span_ms: after.span_ms, region: after.region, copy: true, ..original })
    }

    /// Live blobs created up to and at `ms`.
    pub(super) fn live_blobs(&self, origin_ms: i64, ms: i64) -> u64 {
        if self.live_interval_ms == 0 || ms < origin_ms {
            return 0;
        }
        (((ms - origin_ms) / self.live_interval_ms) as u64).min(self.live_most)
    }

    /// Live blob `k`; the first comes one interval after the start.
    pub(super) fn live_blob(&self, k: u64, kind: ContentType, origin_ms: i64) -> Blob {
        Blob {
            number: self.history.len() as u64 + k * self.lanes(),
            created_ms: origin_ms + (k as i64 + 1) * self.live_interval_ms,
            source: kind,
            first: self.records + k * u64::from(self.live_count),
            count: self.live_count,
            span_ms: self.live_interval_ms.clamp(1, 5 * MINUTE_MS) as u32,
            region: (hash(&[self.seed, k, 3]) % 4) as u8,
            copy: false,
        }
    }

    /// Blobs that exist at `now_ms`.
    pub(super) fn blobs(&self, origin_ms: i64, now_ms: i64) -> u64 {
        self.history.len() as u64 + self.live_blobs(origin_ms, now_ms) * self.lanes()
    }

    /// The blob that a record first came in.
    pub(super) fn home(&self, index: u64, kind: ContentType, origin_ms: i64) -> Blob {
        if index < self.records {
            let at = self.homes.partition_point(|(first, _)| *first <= index);
            return self.history[self.homes[at.saturating_sub(1)].1 as usize];
        }
        self.live_blob((index - self.records) / u64::from(self.live_count.max(1)), kind, origin_ms)
    }
}

const NAMES: [&str; 12] = [
    "contoso",
    "fabrikam",
    "northwind",
    "adatum",
    "litware",
    "tailspin",
    "wingtip",
    "proseware",
    "lucerne",
    "margie",
    "alpine",
    "woodgrove",
];

fn tenant(config: &WorldConfig, index: usize, origin_ms: i64) -> TenantWorld {
    let mut chance = Chance::new(hash(&[config.seed, index as u64, 0x7e2a]));
    let name = match index / NAMES.len() {
        0 => NAMES[index].to_owned(),
        round => format!("{}{}", NAMES[index % NAMES.len()], round + 1),
    };
    let domain = format!("{name}.example");
    let id = guid(chance.next(), chance.next());
    let users = make_users(&mut chance, &domain);
    let total: u64 = config.shares.iter().map(|s| u64::from(*s)).sum::<u64>().max(1);
    // Records are dealt to tenants and then to types so that the sums are exact.
    let tenants = config.tenants.max(1) as u64;
    let noise = if tenants > 1 { config.records * u64::from(config.noisy.min(100)) / 100 } else { 0 };
    let quiet = config.records - noise;
    let mine = quiet / tenants + u64::from((index as u64) < quiet % tenants) + if index == 0 { noise } else { 0 };
    let mut given = 0;
    let mut parts = 0;
    let mut feeds = Vec::new();
    for kind in ContentType::ALL {
        parts += u64::from(config.shares[kind.index()]);
        let upto = (u128::from(mine) * u128::from(parts) / u128::from(total)) as u64;
        feeds.push(feed(config, index, kind, upto - given, origin_ms));
        given = upto;
    }
    let mut tenant = TenantWorld { index, name, id, domain, users, feeds };
    if config.scenarios.iter().any(|s| matches!(s, Scenario::Duplicates | Scenario::IdCase)) {
        add_copies(config, &mut tenant, origin_ms);
    }
    tenant
}

fn feed(config: &WorldConfig, tenant: usize, kind: ContentType, records: u64, origin_ms: i64) -> FeedWorld {
    let seed = hash(&[config.seed, tenant as u64, kind as u64, 0xfeed]);
    let mut chance = Chance::new(seed);
    let average = config.records_per_blob.map_or_else(|| (records / 40).clamp(1, 200), |n| u64::from(n.max(1)));
    // Half an hour, or a minute of the world, is left to the client before the oldest blob leaves the window;
    // the newest blob has filled before the start.
    let length = i64::from(config.days.max(1)) * DAY_MS;
    let margin = (30 * MINUTE_MS).max((config.speed * MINUTE_MS as f64) as i64).min(length / 2);
    let (from, to) = (origin_ms - length + margin, origin_ms - MAX_SPAN_MS - MINUTE_MS);
    let mut counts = Vec::new();
    let mut left = records;
    while left > 0 {
        let count = (average * chance.between(25, 176) / 100).clamp(1, left);
        counts.push(count as u32);
        left -= count;
    }
    let slots = counts.len().max(1) as i64;
    let is_crowded = config.scenarios.contains(&Scenario::CrowdedHour);
    let ties = if config.scenarios.contains(&Scenario::EqualCreated) { 90 } else { 25 };
    let mut history = Vec::with_capacity(counts.len());
    let mut first = 0;
    let mut created_ms = from;
    for (number, count) in counts.into_iter().enumerate() {
        // A quarter share their contentCreated with the one before: another region.
        let tie = number > 0 && chance.percent(ties);
        let slot = (to - from) as f64 / slots as f64;
        let place = number as f64 + chance.below(1000) as f64 / 1000.0;
        let quarter = slots as f64 / 4.0;
        let at = if is_crowded && (quarter..3.0 * quarter).contains(&place) {
            from + (quarter * slot + (place - quarter) / (2.0 * quarter) * HOUR_MS as f64) as i64
        } else {
            from + (place * slot) as i64
        };
        created_ms = if tie { created_ms } else { at.max(created_ms) };
        history.push(Blob {
            number: number as u64,
            created_ms,
            source: kind,
            first,
            count,
            span_ms: chance.between(90_000, MAX_SPAN_MS as u64) as u32,
            region: if tie { (number % 4) as u8 } else { chance.below(4) as u8 },
            copy: false,
        });
        first += u64::from(count);
    }
    let homes = history.iter().map(|b| (b.first, b.number as u32)).collect();
    let story = history.get(history.len() * 3 / 5);
    let (story_index, story_ms) = story.map_or((u64::MAX, 0), |b| (b.first, b.created_ms - 20 * MINUTE_MS));
    let share = f64::from(config.shares[kind.index()]);
    let live = config.live_rate > 0.0 && share > 0.0;
    // So much more, that the others together have the rest.
    let noise = f64::from(config.noisy.min(99)) / f64::from(100 - config.noisy.min(99)) * config.tenants as f64;
    let live_rate = if tenant == 0 && noise > 0.0 { config.live_rate * noise.max(1.0) } else { config.live_rate };
    // A live blob every 20 seconds or less often, so that there is at least one record in it.
    let live_count = config.live_per_blob.map_or((live_rate / 3.0).round(), f64::from).max(1.0);
    let live_interval_ms = if live { (60_000.0 * live_count / live_rate).round().max(1.0) as i64 } else { 0 };
    let live_most = config.live_hours.map_or(u64::MAX, |h| (i64::from(h) * HOUR_MS / live_interval_ms.max(1)) as u64);
    FeedWorld {
        seed,
        history,
        homes,
        copies: Vec::new(),
        records,
        live_interval_ms,
        live_count: live_count as u32,
        live_most,
        replays: if config.scenarios.contains(&Scenario::Replay) { replay_threshold(config) } else { 0 },
        story_index,
        story_ms,
    }
}

/// One live blob in five is replayed, unless rates are given.
fn replay_threshold(config: &WorldConfig) -> u64 {
    let rate = config.rates.map_or(0.2, |(low, high)| f64::midpoint(low, high));
    (rate.clamp(0.0, 1.0) * u64::MAX as f64) as u64
}

/// The scenario `duplicates`: further blobs over records that have a home already.
fn add_copies(config: &WorldConfig, tenant: &mut TenantWorld, origin_ms: i64) {
    let blobs: usize = tenant.feeds.iter().map(|f| f.history.len()).sum();
    let chosen = (50 / config.tenants.max(1) as u64 + 1).max(blobs as u64 / 200).min(blobs as u64);
    let mut added: Vec<Vec<Blob>> = vec![Vec::new(); ContentType::ALL.len()];
    let mut chance = Chance::new(hash(&[config.seed, tenant.index as u64, 0xd0b1e]));
    let latest = origin_ms - MAX_SPAN_MS - MINUTE_MS;
    // A type without records may be one that nobody collects.
    let used: Vec<ContentType> = ContentType::ALL.into_iter().filter(|kind| config.shares[kind.index()] > 0).collect();
    for _ in 0..chosen {
        let mut at = chance.below(blobs as u64) as usize;
        let Some(original) = tenant.feeds.iter().find_map(|f| {
            if at < f.history.len() {
                return Some(f.history[at]);
            }
            at -= f.history.len();
            None
        }) else {
            continue;
        };
        let delay = match chance.below(3) {
            0 => chance.between(1, 90) as i64 * MINUTE_MS,
            1 => chance.between(2, 20) as i64 * HOUR_MS,
            _ => chance.between(1, 6) as i64 * DAY_MS,
        };
        let into = if chance.percent(30) { chance.pick(&used) } else { original.source };
        // Half of the time the copy straddles: it starts in the middle.
        let skip = if chance.percent(50) { original.count / 2 } else { 0 };
        added[into.index()].push(Blob {
            created_ms: (original.created_ms + delay).min(latest).max(original.created_ms),
            first: original.first + u64::from(skip),
            count: original.count - skip,
            region: 3 - original.region,
            copy: true,
            ..original
        });
    }
    let mut copies = Vec::new();
    for (kind, added) in ContentType::ALL.into_iter().zip(added) {
        let feed = &mut tenant.feeds[kind.index()];
        feed.history.extend(added);
        feed.history.sort_by_key(|b| b.created_ms);
        feed.homes.clear();
        for (number, blob) in feed.history.iter_mut().enumerate() {
            blob.number = number as u64;
            if blob.copy {
                let end = blob.first + u64::from(blob.count);
                copies.push((blob.source, (blob.first, end, kind, blob.number)));
            } else {
                feed.homes.push((blob.first, number as u32));
            }
        }
        feed.homes.sort_unstable();
    }
    for (source, copy) in copies {
        tenant.feeds[source.index()].copies.push(copy);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_dealt_without_remainder_and_every_one_has_a_home() {
        let world =
            World::new(WorldConfig::new().tenants(3).records(10_001).scenario(Scenario::Duplicates).live_rate(30.0));
        let feeds = || world.tenants.iter().flat_map(|t| &t.feeds);
        assert_eq!(feeds().map(|f| f.records).sum::<u64>(), 10_001);
        for feed in feeds() {
            let kind = ContentType::ALL.into_iter().find(|k| feed.history.iter().any(|b| b.source == *k && !b.copy));
            let kind = kind.unwrap();
            assert!(feed.history.windows(2).all(|w| w[0].created_ms <= w[1].created_ms));
            for index in (0..feed.records + 50).step_by(7) {
                let home = feed.home(index, kind, world.origin_ms);
                assert!((home.first..home.first + u64::from(home.count)).contains(&index));
                assert!(!home.copy);
            }
        }
        assert!(feeds().flat_map(|f| &f.copies).count() >= 20);
    }

    #[test]
    fn cuts_of_a_blob_tile_it() {
        let world = World::new(WorldConfig::new().records(2000));
        for blob in &world.tenants[0].feeds[1].history {
            for offset in 0..blob.count {
                let stamp = blob.stamp_of(offset);
                assert!(blob.offset_at(stamp) <= offset && blob.offset_at(stamp + 1) > offset);
            }
            assert_eq!(blob.offset_at(blob.end_ms()), blob.count);
        }
    }
}
