//! An event inside a batch's bytes: its record key (16 bytes), then what is sent of it. The driver keeps an event as
//! bytes, and the request needs the keys too. Never leaves this process, so it has no version.

use crate::record::RecordKey;

/// One event of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Frame<'a> {
    pub key: &'a [u8],
    pub body: &'a [u8],
}

/// Begins a frame; what is appended until its end is its body.
pub(super) fn begin(key: &RecordKey, out: &mut Vec<u8>) {
    out.extend_from_slice(&key.0);
}

/// The frames of a batch whose events end at `ends`. `None`: these are no frames.
pub(super) fn read<'a>(bytes: &'a [u8], ends: &[usize]) -> Option<Vec<Frame<'a>>> {
    let mut from = 0;
    ends.iter()
        .map(|end| {
            let (key, body) = bytes.get(from..*end)?.split_at_checked(16)?;
            from = *end;
            Some(Frame { key, body })
        })
        .collect()
}

/// What a batch is known by, whenever it is sent: the record key itself of a single event, a hash of all keys of
/// several. Hexadecimal digits.
pub(super) fn batch_key(frames: &[Frame<'_>]) -> String {
    let mut key = RecordKey([0; 16]);
    match frames {
        [one] => key.0.copy_from_slice(one.key),
        several => {
            let mut hasher = blake3::Hasher::new();
            several.iter().for_each(|frame| {
                hasher.update(frame.key);
            });
            key.0.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
        }
    }
    key.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_is_known_by_its_keys_alone_and_a_single_event_by_its_own() {
        let (mut out, mut ends) = (Vec::new(), Vec::new());
        for n in 0..3_u8 {
            begin(&RecordKey([n; 16]), &mut out);
            out.push(b'a' + n);
            ends.push(out.len());
        }
        let frames = read(&out, &ends).unwrap();
        assert_eq!(frames.iter().map(|frame| frame.body).collect::<Vec<_>>(), [b"a", b"b", b"c"]);
        assert_eq!(batch_key(&frames[1..2]), "01".repeat(16));
        let same: Vec<_> = frames.iter().map(|frame| Frame { body: b"other", ..*frame }).collect();
        assert_eq!(batch_key(&frames), batch_key(&same));
        assert_ne!(batch_key(&frames), batch_key(&frames[..2]));
        assert_eq!(read(&out[..20], &[20, 21]), None);
    }
}
