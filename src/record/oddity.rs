//! What inside of a record needs a second look before it is copied whole: a name that may stand twice in one object,
//! a list that has objects and other things in it.
//!
//! Comes in: what the scanner walks over. Goes out: two flags. Nothing that is odd goes unseen; what is not odd may be
//! taken for it now and then, which costs who looks again and changes nothing. Keeps no names, never allocates.

use super::scan::Watch;

/// See the module's head.
#[derive(Clone, Debug)]
pub struct Oddities {
    /// A name may stand twice in some object inside of the record.
    pub may_repeat: bool,
    /// Some list of the record has objects and other things in it.
    pub is_mixed: bool,
    /// Of the list that is read: no element yet, objects, others.
    kinds: u8,
    /// Objects that are open.
    depth: usize,
    /// Of each of them which names have been there: two bits a name.
    seen: [[u64; WORDS]; DEPTH],
}

/// Objects within one another that are watched, more than Microsoft's schema has. What is deeper is looked at again.
const DEPTH: usize = 8;
/// 256 bits: of objects of ten names one in fifty is looked at in vain.
const WORDS: usize = 4;

impl Oddities {
    pub fn new() -> Oddities {
        Oddities { may_repeat: false, is_mixed: false, kinds: 0, depth: 0, seen: [[0; WORDS]; DEPTH] }
    }

    /// Of what was not watched nothing is known.
    pub fn unknown() -> Oddities {
        Oddities { may_repeat: true, is_mixed: true, ..Oddities::new() }
    }

    /// A new value begins.
    #[inline]
    pub fn next(&mut self) {
        (self.kinds, self.depth) = (0, 0);
    }
}

impl Watch for Oddities {
    #[inline]
    fn open(&mut self) {
        match self.seen.get_mut(self.depth) {
            Some(seen) => *seen = [0; WORDS],
            None => self.may_repeat = true,
        }
        self.depth += 1;
    }

    #[inline]
    fn close(&mut self) {
        self.depth -= 1;
    }

    #[inline]
    fn name(&mut self, bytes: &[u8], from: usize, end: usize) {
        let Some(seen) = self.seen.get_mut(self.depth.wrapping_sub(1)) else { return };
        // With its quotes, of which one name has as many as another.
        let name = &bytes[from..end];
        let hash = hash(name);
        let (one, other) = ((hash >> 6) as usize % WORDS, (hash >> 14) as usize % WORDS);
        let (bit, second) = (1u64 << (hash & 63), 1u64 << (hash >> 8 & 63));
        // An escape may spell a name otherwise.
        self.may_repeat |= (seen[one] & bit != 0 && seen[other] & second != 0) | name.contains(&b'\\');
        seen[one] |= bit;
        seen[other] |= second;
    }

    #[inline]
    fn element(&mut self, is_object: bool) {
        self.kinds |= if is_object { 1 } else { 2 };
        self.is_mixed |= self.kinds == 3;
    }
}

/// Of the first and the last eight bytes and the length.
#[inline]
fn hash(name: &[u8]) -> u64 {
    const ODD: u64 = 0x9E37_79B9_7F4A_7C15;
    let (first, last) = super::field::ends(name);
    let mixed = (first ^ name.len() as u64).wrapping_mul(ODD) ^ last;
    mixed.wrapping_mul(ODD) >> 32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::scan;

    fn watched(json: &str) -> (bool, bool) {
        let mut odd = Oddities::new();
        odd.next();
        assert_eq!(scan::value_watched(json.as_bytes(), 0, &mut odd), Some(json.len()), "{json}");
        (odd.may_repeat, odd.is_mixed)
    }

    #[test]
    fn a_name_that_stands_twice_in_an_object_is_never_missed() {
        for twice in [
            r#"{"a":1,"a":2}"#,
            r#"[{"b":{"a":1}},{"a":[{}],"b":{"c":{},"d":1},"a":2}]"#,
            r#"{"a":{"a":1},"b":{"a":{"a":2}},"a":3}"#,
            r#"{"\u0061":1,"a":2}"#,
            r#"{"longer than sixteen":1,"longer than sixteen":1}"#,
        ] {
            assert!(watched(twice).0, "{twice}");
        }
        for depth in 1..40 {
            let deep = format!("{}{}{}", "[{\"a\":".repeat(depth), r#"{"b":1,"b":2}"#, "}]".repeat(depth));
            assert!(watched(&deep).0, "{deep}");
        }
    }

    #[test]
    fn one_name_in_several_objects_is_not_odd() {
        for once in [
            r#"{"a":{"a":{"a":1}}}"#,
            r#"[{"Name":"a","Value":"b"},{"Name":"a","Value":"b"}]"#,
            r#"{"AADSessionId":"1","APIId":"2","ClientAppId":"3","CorrelationId":"4","UniqueTokenId":"5","IssuedAtTime":"6"}"#,
            "[]",
            "{}",
        ] {
            assert_eq!(watched(once), (false, false), "{once}");
        }
    }

    #[test]
    fn a_list_of_objects_and_others_is_mixed() {
        for (list, is_mixed) in [
            (r#"[{"a":1}, "b"]"#, true),
            (r#"[null ,{"a":1}]"#, true),
            (r#"[[{}],{"a":1}]"#, true),
            (r#"["}", "b"]"#, false),
            (r#"[{"a":[1,{}]} , {}]"#, false),
            (r#"["a","b"]"#, false),
        ] {
            assert_eq!(watched(list).1, is_mixed, "{list}");
        }
    }
}
