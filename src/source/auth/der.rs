//! DER, as far as certificates and PFX files need it: one element after the other, lengths checked. Comes in:
//! bytes. Goes out: slices of them, `None` where they are not what was asked for. Never panics, never
//! allocates, never descends by itself: how deep it goes is written in whoever reads.

/// Tags (X.690 8.1.2).
pub const INTEGER: u8 = 0x02;
pub const BIT_STRING: u8 = 0x03;
pub const OCTET_STRING: u8 = 0x04;
pub const OID: u8 = 0x06;
pub const UTC_TIME: u8 = 0x17;
pub const GENERALIZED_TIME: u8 = 0x18;
pub const SEQUENCE: u8 = 0x30;
/// `[0]`, with elements inside and without.
pub const CONTEXT_0: u8 = 0xa0;
pub const CONTEXT_0_PLAIN: u8 = 0x80;

/// What is left of a run of elements.
#[derive(Clone, Copy, Debug)]
pub struct Der<'a>(pub &'a [u8]);

impl<'a> Der<'a> {
    /// The next element: its tag, its content, and all of its bytes.
    pub fn any(&mut self) -> Option<(u8, &'a [u8], &'a [u8])> {
        let all = self.0;
        let (tag, first) = (*all.first()?, *all.get(1)?);
        let (start, length) = match first {
            0..=0x7f => (2, usize::from(first)),
            0x81..=0x84 => {
                let count = usize::from(first & 0x7f);
                let digits = all.get(2..2 + count)?;
                (2 + count, digits.iter().fold(0, |length, digit| length << 8 | usize::from(*digit)))
            }
            // Of unknown length: BER, not DER.
            _ => return None,
        };
        let end = start.checked_add(length)?;
        let content = all.get(start..end)?;
        self.0 = &all[end..];
        Some((tag, content, &all[..end]))
    }

    /// The content of the next element, which must bear this tag.
    pub fn element(&mut self, tag: u8) -> Option<&'a [u8]> {
        let mut ahead = *self;
        let (found, content, _) = ahead.any()?;
        if found != tag {
            return None;
        }
        *self = ahead;
        Some(content)
    }

    /// The elements inside the next one, which must bear this tag.
    pub fn inside(&mut self, tag: u8) -> Option<Der<'a>> {
        self.element(tag).map(Der)
    }

    /// The next element as a small number that is not negative.
    pub fn number(&mut self) -> Option<u32> {
        let digits = self.element(INTEGER)?;
        let is_small = !digits.is_empty() && digits.len() <= 5 && digits[0] < 0x80;
        is_small.then(|| digits.iter().fold(0u64, |number, digit| number << 8 | u64::from(*digit)))?.try_into().ok()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_are_taken_apart_and_lengths_are_checked() {
        let mut der = Der(&[SEQUENCE, 5, INTEGER, 1, 7, OCTET_STRING, 0, INTEGER, 2, 1]);
        let mut inside = der.inside(SEQUENCE).unwrap();
        assert_eq!((inside.number(), inside.element(OCTET_STRING), inside.is_empty()), (Some(7), Some(&[][..]), true));
        assert!(der.any().is_none(), "shorter than it says");
        assert!(Der(&[SEQUENCE, 0x84, 0xff, 0xff, 0xff, 0xff, 0]).any().is_none());
        assert!(Der(&[SEQUENCE, 0x80, 0, 0]).any().is_none(), "no length");
        assert!(Der(&[INTEGER, 1, 0xff]).number().is_none(), "negative");
    }
}
