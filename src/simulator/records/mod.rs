//! Records, made on demand: the same (seed, tenant, type, index) gives the same bytes at any time, in
//! any order. Shapes and the mix of operations follow activity-api 5; what is common to all records is
//! here, one file a workload has the rest. Written straight into the output; no tree is built.

mod dlp;
mod entra;
mod exchange;
mod general;
mod hostile;
pub(super) mod json;
pub(super) mod people;
mod sharepoint;
pub(super) mod shuffle;

use self::json::Json;
use self::people::User;
use super::chance::{Chance, hash};
use super::faults::Scenario;
use super::settings::ContentType;
use super::stamp::{DAY_MS, HOUR_MS, MINUTE_MS, SECOND_MS};
use super::world::{FeedWorld, TenantWorld, World};

/// What the truth says of a record beside its bytes.
#[derive(Clone, Debug, Default)]
pub(super) struct Meta {
    /// `None`: the record has none, or an empty one.
    pub id: Option<(u64, u64)>,
    pub creation_ms: i64,
    pub record_type: i64,
    pub operation: &'static str,
    pub hostile: Option<Scenario>,
}

/// A record being written.
struct Maker<'a> {
    json: Json<'a>,
    tenant: &'a TenantWorld,
    user: &'a User,
    chance: Chance,
    meta: Meta,
    /// How far into the attack story, if this record is part of it.
    story: Option<u64>,
    index: u64,
    id: (u64, u64),
}

/// How many records a story has at most.
const STORY: u64 = 40;

/// Appends the record to `out`. `home_ms` is the `contentCreated` of the blob it first came in.
pub(super) fn write(
    world: &World,
    tenant: usize,
    kind: ContentType,
    index: u64,
    home_ms: i64,
    out: &mut Vec<u8>,
) -> Meta {
    let tenant_world = &world.tenants[tenant];
    let feed = tenant_world.feed(kind);
    let hostile = hostile::choose(world, tenant, kind, index);
    if hostile == Some(Scenario::NotObject) {
        hostile::element(feed.seed, index, out);
        return Meta { hostile, creation_ms: home_ms, ..Meta::default() };
    }
    let start = out.len();
    let mut chance = Chance::new(hash(&[feed.seed, index]));
    let user = &tenant_world.users[skewed(&mut chance, tenant_world.users.len())];
    let story = index.checked_sub(feed.story_index).filter(|at| *at < STORY);
    let mut creation_ms =
        story.map_or_else(|| home_ms - delay(&mut chance), |at| feed.story_ms + at as i64 * 2 * SECOND_MS);
    let mut id = record_id(feed, kind, index);
    if hostile == Some(Scenario::SameId) && index > 0 {
        // Of another time: nothing else tells a record from one of the same Id and operation.
        id = record_id(feed, kind, index - 1);
        creation_ms = home_ms - 6 * DAY_MS;
    }
    let meta = Meta { id: Some(id), creation_ms, hostile, ..Meta::default() };
    let mut maker = Maker { json: Json { out }, tenant: tenant_world, user, chance, meta, story, index, id };
    maker.json.begin(b'{');
    match kind {
        ContentType::AzureActiveDirectory => entra::write(&mut maker),
        ContentType::Exchange => exchange::write(&mut maker),
        ContentType::SharePoint => sharepoint::write(&mut maker),
        ContentType::General => general::write(&mut maker),
        ContentType::Dlp => dlp::write(&mut maker),
    }
    maker.json.close(b'}');
    let mut meta = maker.meta;
    out.pop();
    if let Some(scenario) = hostile {
        hostile::spoil(world, scenario, hash(&[feed.seed, index, 13]), start, out, &mut meta);
    }
    meta
}

/// The Id; an undone DLP match has the Id of the match (activity-api 5, DLP.All).
fn record_id(feed: &FeedWorld, kind: ContentType, index: u64) -> (u64, u64) {
    let index = if kind == ContentType::Dlp && dlp::is_undo(index) { index - 1 } else { index };
    (hash(&[feed.seed, index, 1]), hash(&[feed.seed, index, 2]))
}

/// Writes the Id of the record at `start` in capitals; false if it has none.
pub(super) fn capitals(out: &mut [u8], start: usize) -> bool {
    const KEY: &[u8] = b"\"Id\":\"";
    let at = out[start..].windows(KEY.len()).position(|window| window == KEY);
    match at.and_then(|at| out.get_mut(start + at + KEY.len()..start + at + KEY.len() + 36)) {
        Some(id) => {
            id.make_ascii_uppercase();
            true
        }
        None => false,
    }
}

/// A few people do most of it.
fn skewed(chance: &mut Chance, count: usize) -> usize {
    let one = chance.below(count as u64);
    chance.below(one + 1) as usize
}

/// How long before its blob a record was made: minutes, mostly; days, rarely (activity-api 1.7).
fn delay(chance: &mut Chance) -> i64 {
    let delay = match chance.below(100) {
        0..75 => chance.between(MINUTE_MS as u64, 30 * MINUTE_MS as u64),
        75..96 => chance.between(30 * MINUTE_MS as u64, 3 * HOUR_MS as u64),
        _ => chance.between(3 * HOUR_MS as u64, 4 * DAY_MS as u64),
    };
    delay as i64
}

impl TenantWorld {
    pub(super) fn feed(&self, kind: ContentType) -> &FeedWorld {
        &self.feeds[kind.index()]
    }
}

/// Who a record says did it.
struct Actor<'a> {
    user_id: &'a str,
    user_key: &'a str,
    user_type: i64,
    /// `None`: the record has no `ClientIP` at all.
    client_ip: Option<&'a str>,
}

impl Maker<'_> {
    /// The members that all records share (activity-api 5, common).
    fn head(&mut self, record_type: i64, operation: &'static str, workload: &str, actor: &Actor<'_>) {
        self.meta.record_type = record_type;
        self.meta.operation = operation;
        let json = &mut self.json;
        json.time("CreationTime", self.meta.creation_ms);
        if self.meta.hostile == Some(Scenario::MissingId) {
            self.meta.id = None;
            match self.index % 3 {
                0 => json.raw("Id", "null"),
                1 => json.text("Id", ""),
                _ => {}
            }
        } else {
            json.guid("Id", self.id.0, self.id.1);
        }
        json.text("Operation", operation);
        json.text("OrganizationId", &self.tenant.id);
        if self.chance.percent(1) || self.meta.hostile == Some(Scenario::RecordTypeText) {
            json.text("RecordType", &record_type.to_string());
        } else {
            json.number("RecordType", record_type);
        }
        json.text("UserKey", actor.user_key);
        json.number("UserType", actor.user_type);
        json.number("Version", 1);
        json.text("Workload", workload);
        if let Some(ip) = actor.client_ip {
            json.text("ClientIP", ip);
        }
        json.text("UserId", actor.user_id);
    }

    /// The user's address in one of the forms that are seen (activity-api 5, common).
    fn client_ip(&mut self) -> String {
        let address = &self.user.address;
        let v6 = address.contains(':');
        match self.chance.below(100) {
            0..70 => address.clone(),
            70..84 if v6 => format!("[{address}]:{}", self.chance.between(1024, 65_536)),
            70..84 => format!("{address}:{}", self.chance.between(1024, 65_536)),
            84..88 => format!("ffff:10.11.{}.{}", self.chance.below(256), self.chance.below(256)),
            88..94 => format!("2001:db8::{:x}", self.chance.below(0xffff)),
            94..97 => String::new(),
            _ => format!("10.{}.{}.{}", self.chance.below(256), self.chance.below(256), self.chance.between(1, 255)),
        }
    }

    fn guid(&mut self, key: &str) {
        let (high, low) = (self.chance.next(), self.chance.next());
        self.json.guid(key, high, low);
    }

    fn any_guid(&mut self) -> String {
        super::chance::guid(self.chance.next(), self.chance.next())
    }

    /// Letters and digits as in opaque ids.
    fn opaque(&mut self, length: usize) -> String {
        const SIGNS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        let mut text = String::with_capacity(length);
        while text.len() < length {
            let mut bits = self.chance.next();
            for _ in 0..10.min(length - text.len()) {
                text.push(char::from(SIGNS[(bits & 63) as usize]));
                bits >>= 6;
            }
        }
        text
    }
}
