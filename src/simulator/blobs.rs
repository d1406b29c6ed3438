//! Content ids and bodies. An id names a cut `[from, to)` of a blob in the service's own text form
//! (activity-api 1.7, anatomy); a body is written record by record as the client takes it.

use std::sync::Arc;

use super::chance::hash;
use super::faults::{Object, Scenario};
use super::records;
use super::settings::{ContentType, Identity};
use super::stamp;
use super::world::{Blob, World};

const REGIONS: [&str; 4] = ["emea0036", "na0030", "apac0012", "emea9037"];

/// A blob as listed: which one, and which of its records, as offsets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Handle {
    pub tenant: usize,
    pub kind: ContentType,
    pub number: u64,
    pub from: u32,
    pub to: u32,
}

/// The two stamps of a cut: when its first record came in, and one millisecond after its last one (the
/// whole blob: when it ended).
fn stamps(blob: &Blob, from: u32, to: u32) -> (i64, i64) {
    let end = if to >= blob.count { blob.end_ms() } else { blob.stamp_of(to - 1) + 1 };
    (blob.stamp_of(from), end)
}

/// The text of a content id. The low digits of the stamps carry the blob's number.
pub(super) fn content_id(kind: ContentType, blob: &Blob, from: u32, to: u32) -> String {
    let (first, second) = stamps(blob, from, to);
    let (lower, upper) = kind.id_parts();
    let region = REGIONS[usize::from(blob.region) % REGIONS.len()];
    let twice = if kind == ContentType::AzureActiveDirectory && blob.region == 1 { "$na0030" } else { "" };
    format!(
        "{}${}${lower}${upper}${region}{twice}",
        stamp::stamp23(first, blob.number),
        stamp::stamp23(second, blob.number / 1_000_000)
    )
}

/// Why an id names nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum IdError {
    /// Not an id at all.
    Malformed,
    /// Well formed, but there is no such content.
    Unknown,
}

/// Reads an id back and checks it against the blob that it names.
pub(super) fn parse(world: &World, tenant: usize, id: &str, now_ms: i64) -> Result<(Handle, Blob), IdError> {
    let mut parts = id.splitn(5, '$');
    let mut part = || parts.next().ok_or(IdError::Malformed);
    let (first_ms, low) = stamp::parse_stamp23(part()?).ok_or(IdError::Malformed)?;
    let (second_ms, high) = stamp::parse_stamp23(part()?).ok_or(IdError::Malformed)?;
    let lower = part()?;
    let kind = ContentType::ALL.into_iter().find(|k| k.id_parts().0 == lower).ok_or(IdError::Malformed)?;
    let number = high * 1_000_000 + low;
    let blob = world.feed(tenant, kind).blob(number, kind, world.origin_ms, now_ms).ok_or(IdError::Unknown)?;
    let (from, to) = (blob.offset_at(first_ms), blob.offset_at(second_ms));
    let cut = match world.config.identity {
        Identity::Stable => (0, blob.count),
        // Nobody can name what has not come in yet.
        Identity::Windowed => (from, to.min(world.filled(tenant, kind, &blob, now_ms))),
    };
    if cut.0 >= cut.1 || content_id(kind, &blob, cut.0, cut.1) != id {
        return Err(IdError::Unknown);
    }
    let cut = (cut.0, cut.1.min(world.filled(tenant, kind, &blob, now_ms)));
    Ok((Handle { tenant, kind, number, from: cut.0, to: cut.1 }, blob))
}

/// Writes the JSON array of a cut piece by piece.
#[derive(Debug)]
pub(super) struct BodyWriter {
    world: Arc<World>,
    tenant: usize,
    kind: ContentType,
    next: u64,
    end: u64,
    home: Option<Blob>,
    opened: bool,
    copy: bool,
    /// Orders the members of records, if they are to be shuffled.
    shuffle: Option<u64>,
}

impl BodyWriter {
    /// `fetch`: how many times this content was asked for.
    pub(super) fn new(world: Arc<World>, tenant: usize, blob: &Blob, from: u32, to: u32, fetch: u64) -> BodyWriter {
        let (next, end) = (blob.first + u64::from(from), blob.first + u64::from(to));
        let shuffle = world.config.protocol.shuffle_fields.then_some(fetch);
        BodyWriter { shuffle, world, tenant, kind: blob.source, next, end, home: None, opened: false, copy: blob.copy }
    }

    fn object(&self, index: u64) -> Object {
        Object::Record(hash(&[self.tenant as u64, self.kind as u64, index]))
    }

    /// Appends about `target` bytes; false when the array is closed. Struck records are counted.
    pub(super) fn fill(&mut self, out: &mut Vec<u8>, target: usize) -> bool {
        let goal = out.len() + target;
        if !self.opened {
            out.push(b'[');
            self.opened = true;
        }
        while self.next < self.end && out.len() < goal {
            let index = self.next;
            let home = match self.home {
                Some(home) if (home.first..home.first + u64::from(home.count)).contains(&index) => home,
                _ => *self.home.insert(self.world.feed(self.tenant, self.kind).home(
                    index,
                    self.kind,
                    self.world.origin_ms,
                )),
            };
            let start = out.len();
            let in_capitals = self.copy && self.world.faults.selects(Scenario::IdCase, self.object(index));
            let meta = records::write(&self.world, self.tenant, self.kind, index, home.created_ms, out);
            if let Some(scenario) = meta.hostile {
                self.world.faults.count(scenario);
            } else if in_capitals && records::capitals(out, start) {
                self.world.faults.count(Scenario::IdCase);
            } else if let Some(fetch) = self.shuffle {
                records::shuffle::shuffle(out, start, hash(&[index, fetch]));
            }
            self.next += 1;
            out.extend_from_slice(if self.next < self.end { b",\r\n" } else { b"]" });
        }
        self.next < self.end
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulator::WorldConfig;

    #[test]
    fn an_id_reads_back_to_its_cut() {
        let world = World::new(WorldConfig::new().records(3000).identity(Identity::Windowed));
        let now = world.clock.now_ms();
        for kind in ContentType::ALL {
            for blob in &world.tenants[0].feed(kind).history {
                for (from, to) in [(0, blob.count), (blob.count / 2, blob.count), (0, 1)] {
                    let id = content_id(kind, blob, from, to);
                    let (handle, _) = parse(&world, 0, &id, now).unwrap();
                    assert_eq!((handle.number, handle.from, handle.to), (blob.number, from, to), "{id}");
                }
            }
        }
        assert_eq!(parse(&world, 0, "nonsense", now).unwrap_err(), IdError::Malformed);
    }

    #[test]
    fn shuffled_members_change_with_each_fetch_and_say_the_same() {
        let config = WorldConfig::new().records(50).only(ContentType::General).tune(|p| p.shuffle_fields = true);
        let world = Arc::new(World::new(config.records_per_blob(50)));
        let blob = world.tenants[0].feed(ContentType::General).history[0];
        let fetch = |number| {
            let mut out = Vec::new();
            let mut body = BodyWriter::new(Arc::clone(&world), 0, &blob, 0, blob.count, number);
            while body.fill(&mut out, 1000) {}
            out
        };
        let (one, two) = (fetch(1), fetch(2));
        assert!(one != two && one.len() == two.len());
        let read = |body: &[u8]| serde_json::from_slice::<Vec<serde_json::Value>>(body).unwrap();
        assert_eq!(read(&one), read(&two));
    }

    #[test]
    fn a_body_is_json_and_the_same_twice() {
        let world = Arc::new(World::new(WorldConfig::new().records(4000)));
        let mut ids = std::collections::HashSet::new();
        let mut records = 0;
        let mut bytes = 0;
        for kind in ContentType::ALL {
            for blob in &world.tenants[0].feed(kind).history {
                let write = |piece| {
                    let mut out = Vec::new();
                    let mut body = BodyWriter::new(Arc::clone(&world), 0, blob, 0, blob.count, 0);
                    while body.fill(&mut out, piece) {}
                    out
                };
                let (one, two) = (write(100), write(1 << 20));
                assert!(one == two);
                bytes += one.len();
                let list: Vec<serde_json::Value> = serde_json::from_slice(&one).unwrap();
                assert_eq!(list.len(), blob.count as usize);
                for record in list {
                    records += 1;
                    ids.insert((record["Id"].to_string(), record["Operation"].to_string()));
                    assert!(record["CreationTime"].as_str().unwrap().len() == 19);
                }
            }
        }
        assert_eq!((records, ids.len()), (4000, 4000));
        assert!((1200..4000).contains(&(bytes / records)), "{} bytes a record", bytes / records);
    }
}
