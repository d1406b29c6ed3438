//! What lies in the checkpoint topic: the keys of the records that are in the same transaction, and who
//! writes. Comes in: keys. Goes out: the value of a message, and back. Pure.
//!
//! ```text
//! [magic 4][version u16][kind u16][length of the transactional id u16][transactional id][payload][crc32 of all before u32]
//! kind 1: [length of the sink's name u16][its name][record keys, 16 bytes each]; kind 2: the process that took over (16 bytes), milliseconds since 1970 i64
//! ```
//! Numbers are little-endian. Several deployments may share a topic: each reads what bears its own id. The keys are of one
//! sink: what another sink has under the same id is not taken for ours, though who writes is named for all of them.

const MAGIC: &[u8; 4] = b"AFCP";
const VERSION: u16 = 1;
const HEAD: usize = 10;
const KEYS: u16 = 1;
const OWNER: u16 = 2;
/// Keys in one message: 480 KB, below the 1 MB that a topic takes by default (message.max.bytes).
pub(in crate::sink::kafka) const KEYS_IN_A_MESSAGE: usize = 30_000;

/// A process of ours, drawn at its start.
pub(in crate::sink::kafka) type Instance = [u8; 16];

/// What a message says.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::sink::kafka) enum Entry<'a> {
    /// These records are in the topics, 16 bytes a key.
    Keys(&'a [u8]),
    /// This process writes from here on.
    Owner(Instance),
}

/// Why a value says nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(in crate::sink::kafka) enum Unreadable {
    #[error("no checkpoint of auditferry's, or a damaged one")]
    Damaged,
    #[error(
        "a checkpoint of format {0}, and this auditferry reads up to {VERSION}; upgrade auditferry, nothing was changed"
    )]
    Newer(u16),
}

/// The value of a message with these keys (16 bytes each) of a sink.
pub(in crate::sink::kafka) fn keys(id: &str, sink: &str, keys: &[u8]) -> Vec<u8> {
    let length = u16::try_from(sink.len()).unwrap_or(u16::MAX);
    encode(id, KEYS, &[&length.to_le_bytes(), sink.as_bytes(), keys])
}

/// The value of a message that says who writes from here on.
pub(in crate::sink::kafka) fn owner(id: &str, instance: Instance, world_ms: i64) -> Vec<u8> {
    encode(id, OWNER, &[&instance, &world_ms.to_le_bytes()])
}

fn encode(id: &str, kind: u16, payload: &[&[u8]]) -> Vec<u8> {
    let mut out = Vec::with_capacity(HEAD + id.len() + payload.iter().map(|part| part.len()).sum::<usize>() + 4);
    out.extend_from_slice(MAGIC);
    out.extend_from_slice(&VERSION.to_le_bytes());
    out.extend_from_slice(&kind.to_le_bytes());
    // The configuration holds ids to 200 bytes.
    out.extend_from_slice(&u16::try_from(id.len()).unwrap_or(u16::MAX).to_le_bytes());
    out.extend_from_slice(id.as_bytes());
    payload.iter().for_each(|part| out.extend_from_slice(part));
    let crc = crc32fast::hash(&out);
    out.extend_from_slice(&crc.to_le_bytes());
    out
}

/// What a value says to the sink that owns `id`; `None` when it is another's.
pub(in crate::sink::kafka) fn read<'a>(value: &'a [u8], id: &str, sink: &str) -> Result<Option<Entry<'a>>, Unreadable> {
    let (body, crc) = value.split_last_chunk::<4>().ok_or(Unreadable::Damaged)?;
    if body.len() < HEAD || !body.starts_with(MAGIC) || crc32fast::hash(body).to_le_bytes() != *crc {
        return Err(Unreadable::Damaged);
    }
    let number = |at: usize| u16::from_le_bytes([body[at], body[at + 1]]);
    let length = usize::from(number(8));
    let (whose, payload) = body[HEAD..].split_at_checked(length).ok_or(Unreadable::Damaged)?;
    if whose != id.as_bytes() {
        return Ok(None);
    }
    match (number(4), number(6)) {
        (version, _) if version > VERSION => Err(Unreadable::Newer(version)),
        (VERSION, KEYS) => {
            let (length, rest) = payload.split_first_chunk::<2>().ok_or(Unreadable::Damaged)?;
            let length = usize::from(u16::from_le_bytes(*length));
            match rest.split_at_checked(length) {
                Some((name, _)) if name != sink.as_bytes() => Ok(None),
                Some((_, keys)) if keys.len().is_multiple_of(16) => Ok(Some(Entry::Keys(keys))),
                _ => Err(Unreadable::Damaged),
            }
        }
        (VERSION, OWNER) => match payload.split_first_chunk::<16>() {
            Some((instance, time)) if time.len() == 8 => Ok(Some(Entry::Owner(*instance))),
            _ => Err(Unreadable::Damaged),
        },
        _ => Err(Unreadable::Damaged),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read_back_by_its_owner_only() {
        let value = keys("ferry-bus", "bus", &[7; 48]);
        assert_eq!(read(&value, "ferry-bus", "bus"), Ok(Some(Entry::Keys(&[7; 48]))));
        assert_eq!(read(&value, "ferry-bu", "bus"), Ok(None));
        assert_eq!(read(&value, "ferry-bus", "lake"), Ok(None), "another sink's keys are not ours");
        let value = owner("ferry-bus", [9; 16], -1);
        for sink in ["bus", "lake"] {
            assert_eq!(read(&value, "ferry-bus", sink), Ok(Some(Entry::Owner([9; 16]))), "who writes is told to all");
        }
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_seen() {
        let value = keys("x", "bus", &[7; 32]);
        for bit in 0..value.len() * 8 {
            let mut changed = value.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(read(&changed, "x", "bus"), Err(Unreadable::Damaged), "bit {bit}");
        }
        for length in 0..value.len() {
            assert_eq!(read(&value[..length], "x", "bus"), Err(Unreadable::Damaged), "cut at {length}");
        }
    }

    #[test]
    fn a_later_version_is_refused_and_not_called_damage() {
        let mut value = keys("x", "bus", &[7; 32]);
        value.truncate(value.len() - 4);
        value[4] = 2;
        let crc = crc32fast::hash(&value);
        value.extend_from_slice(&crc.to_le_bytes());
        assert_eq!(read(&value, "x", "bus"), Err(Unreadable::Newer(2)));
    }
}
