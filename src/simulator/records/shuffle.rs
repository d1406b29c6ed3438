//! Gives the members of a record another order: the service does not keep it between fetches
//! (activity-api 1.8). Works on the bytes; values are moved, never changed.

use super::super::chance::Chance;

/// The members of the object `{…}`, as ranges; `None` for anything else.
fn members(object: &[u8]) -> Option<Vec<std::ops::Range<usize>>> {
    if object.first() != Some(&b'{') || object.last() != Some(&b'}') {
        return None;
    }
    let (mut depth, mut inside, mut escaped, mut from) = (0u32, false, false, 1);
    let mut ranges = Vec::new();
    for (at, byte) in object.iter().enumerate() {
        match (inside, byte) {
            (true, _) if escaped => escaped = false,
            (true, b'\\') => escaped = true,
            (_, b'"') => inside = !inside,
            (true, _) => {}
            (false, b'{' | b'[') => depth += 1,
            (false, b'}' | b']') => depth = depth.checked_sub(1)?,
            (false, b',') if depth == 1 => {
                ranges.push(from..at);
                from = at + 1;
            }
            _ => {}
        }
    }
    ranges.push(from..object.len() - 1);
    Some(ranges)
}

/// Reorders the members of the record that starts at `start` and ends `out`.
pub(in crate::simulator) fn shuffle(out: &mut Vec<u8>, start: usize, seed: u64) {
    let object = out[start..].to_vec();
    let Some(mut ranges) = members(&object) else { return };
    let mut chance = Chance::new(seed);
    for at in (1..ranges.len()).rev() {
        ranges.swap(at, chance.below(at as u64 + 1) as usize);
    }
    out.truncate(start + 1);
    for range in ranges {
        out.extend_from_slice(&object[range]);
        out.push(b',');
    }
    out.pop();
    out.push(b'}');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_move_and_stay_whole() {
        let text = r#"{"a":"x,\"}","b":[1,{"c":2}],"d":{"e":","},"f":null,"g":1.00}"#;
        let mut orders = std::collections::HashSet::new();
        for seed in 0..20 {
            let mut out = b"[".to_vec();
            out.extend_from_slice(text.as_bytes());
            shuffle(&mut out, 1, seed);
            let shuffled: serde_json::Value = serde_json::from_slice(&out[1..]).unwrap();
            assert_eq!(shuffled, serde_json::from_str::<serde_json::Value>(text).unwrap());
            assert_eq!(out.len(), text.len() + 1);
            orders.insert(out);
        }
        assert!(orders.len() > 5);
    }
}
