//! Records that hurt: what a careless parser breaks on. Each spoils an otherwise ordinary record, or
//! takes its place. Which records are struck is decided by the seed; every one written is counted.

use super::super::chance::hash;
use super::super::faults::{Object, Scenario};
use super::super::settings::ContentType;
use super::super::world::World;
use super::Meta;

const KINDS: [Scenario; 13] = [
    Scenario::InvalidUtf8,
    Scenario::Nul,
    Scenario::Deep,
    Scenario::BadEscape,
    Scenario::NotObject,
    Scenario::DupKeys,
    Scenario::BigIntegers,
    Scenario::MissingId,
    Scenario::HugeRecord,
    Scenario::NotANumber,
    Scenario::FloatSizes,
    Scenario::RecordTypeText,
    Scenario::SameId,
];

/// Nesting of a `deep` record.
const DEPTH: usize = 300;

/// The scenario that strikes this record, if one does; the first in a row that starts anywhere.
pub(super) fn choose(world: &World, tenant: usize, kind: ContentType, index: u64) -> Option<Scenario> {
    if !KINDS.iter().any(|s| world.faults.is_on(*s)) {
        return None;
    }
    let object = hash(&[tenant as u64, kind as u64, index]);
    let offset = (object % KINDS.len() as u64) as usize;
    (0..KINDS.len())
        .map(|k| KINDS[(k + offset) % KINDS.len()])
        .find(|s| world.faults.selects(*s, Object::Record(object)))
}

/// What stands in the array where a record belongs.
pub(super) fn element(seed: u64, index: u64, out: &mut Vec<u8>) {
    let elements: [&[u8]; 7] = [b"null", b"42", b"-1.5e3", b"\"a string\"", b"true", b"[1,[2,{}]]", b"{}"];
    let at = hash(&[seed, index, 17]) % elements.len() as u64;
    out.extend_from_slice(elements[at as usize]);
    // Two elements alike would be one record to whoever hashes them: most carry their index.
    match at {
        1 => out.extend_from_slice(index.to_string().as_bytes()),
        3 => {
            out.pop();
            out.extend_from_slice(format!(" {seed:x} {index}\"").as_bytes());
        }
        _ => {}
    }
}

/// Puts the offending member in front of the first one, or behind the last.
pub(super) fn spoil(
    world: &World,
    scenario: Scenario,
    variant: u64,
    start: usize,
    out: &mut Vec<u8>,
    _meta: &mut Meta,
) {
    let mut member: Vec<u8> = Vec::new();
    match scenario {
        Scenario::InvalidUtf8 => member.extend_from_slice(b"\"ItemName\":\"caf\xe9 \xff\xfe \xed\xa0\x80 end\","),
        Scenario::Nul if variant.is_multiple_of(2) => member.extend_from_slice(b"\"ItemName\":\"before\0after\","),
        Scenario::Nul => member.extend_from_slice(b"\"ItemName\":\"before\\u0000after\","),
        Scenario::Deep => {
            member.extend_from_slice(b"\"Deep\":");
            let (open, close): (&[u8], &[u8]) =
                if variant.is_multiple_of(2) { (b"[", b"]") } else { (b"{\"a\":", b"}") };
            (0..DEPTH).for_each(|_| member.extend_from_slice(open));
            member.push(b'1');
            (0..DEPTH).for_each(|_| member.extend_from_slice(close));
            member.push(b',');
        }
        Scenario::BadEscape if variant.is_multiple_of(2) => {
            member.extend_from_slice(b"\"ItemName\":\"C:\\x\\path\",");
        }
        Scenario::BadEscape => member.extend_from_slice(b"\"ItemName\":\"half \\ud83d pair\","),
        Scenario::DupKeys => {
            member.extend_from_slice(b"\"Workload\":\"First\",\"ItemName\":\"one\",\"ItemName\":\"two\",");
        }
        Scenario::BigIntegers => {
            member.extend_from_slice(b"\"Big\":12345678901234567890123,\"Negative\":-98765432109876543210,");
            member.extend_from_slice(b"\"Tiny\":1e-400,\"Vast\":1E+400,\"Long\":0.1000000000000000055511151231257827,");
        }
        Scenario::NotANumber => {
            let number = ["NaN", "Infinity", "-Infinity", "007", "1.", "+1", ".5"][(variant % 7) as usize];
            member.extend_from_slice(format!("\"Score\":{number},").as_bytes());
        }
        Scenario::FloatSizes => {
            member.extend_from_slice(b"\"SizeInBytes\":1156492.00,\"FileSizeBytes\":2.5E+3,\"OperationCount\":3.0,");
        }
        Scenario::HugeRecord => {
            let size = world.config.protocol.huge_record_bytes;
            member.reserve(size + 16);
            member.extend_from_slice(b"\"Payload\":\"");
            member.resize(member.len() + size, b'x');
            member.extend_from_slice(b"\",");
        }
        _ => return,
    }
    // `{"CreationTime":…}`: behind the opening bracket, or, with the comma in front, before the closing one.
    if scenario != Scenario::DupKeys && variant.is_multiple_of(3) {
        member.pop();
        out.pop();
        out.push(b',');
        out.extend_from_slice(&member);
        out.push(b'}');
    } else {
        out.splice(start + 1..start + 1, member);
    }
}
