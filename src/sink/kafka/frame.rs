//! A message inside a batch's bytes: the driver keeps an event as bytes, and a Kafka message is more
//! than a value.
//!
//! ```text
//! ticket u64, timestamp i64 (ms since 1970), then topic, key and each header: length u32 and bytes; the rest is the value
//! ```
//!
//! Comes in: what is to be sent. Goes out: the same, borrowed. Never leaves this process, so it has no version.

/// A message to be sent.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Frame<'a> {
    /// Unique in this process: by it a delivery report finds its message.
    pub ticket: usize,
    pub timestamp_ms: i64,
    pub topic: &'a str,
    pub key: &'a [u8],
    /// As many as were pushed.
    pub headers: Vec<&'a [u8]>,
    pub value: &'a [u8],
}

/// Begins a frame.
pub(super) fn begin(ticket: usize, timestamp_ms: i64, out: &mut Vec<u8>) {
    out.extend_from_slice(&(ticket as u64).to_le_bytes());
    out.extend_from_slice(&timestamp_ms.to_le_bytes());
}

/// Appends one field that `write` writes; `write` only appends.
pub(super) fn field(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&[0; 4]);
    write(out);
    // Fields come from templates and names; one of 4 GiB does not fit the process.
    let length = u32::try_from(out.len() - start - 4).unwrap_or(u32::MAX);
    out[start..start + 4].copy_from_slice(&length.to_le_bytes());
}

/// The frames of a batch whose events end at `ends`, each with `headers` headers. `None`: these are no frames.
pub(super) fn read<'a>(bytes: &'a [u8], ends: &[usize], headers: usize) -> Option<Vec<Frame<'a>>> {
    let mut from = 0;
    ends.iter()
        .map(|end| {
            let frame = one(bytes.get(from..*end)?, headers);
            from = *end;
            frame
        })
        .collect()
}

fn one(mut bytes: &[u8], headers: usize) -> Option<Frame<'_>> {
    let ticket = u64::from_le_bytes(*bytes.split_off(..8)?.as_array()?);
    let timestamp_ms = i64::from_le_bytes(*bytes.split_off(..8)?.as_array()?);
    let mut next = || {
        let length = u32::from_le_bytes(*bytes.split_off(..4)?.as_array()?);
        bytes.split_off(..usize::try_from(length).ok()?)
    };
    let topic = std::str::from_utf8(next()?).ok()?;
    let key = next()?;
    let headers = (0..headers).map(|_| next()).collect::<Option<_>>()?;
    Some(Frame { ticket: usize::try_from(ticket).ok()?, timestamp_ms, topic, key, headers, value: bytes })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_framed_is_read_back_and_a_cut_frame_is_none() {
        let (mut out, mut ends) = (Vec::new(), Vec::new());
        for n in 0..3_u8 {
            begin(usize::from(n), -1 - i64::from(n), &mut out);
            field(&mut out, |out| out.extend_from_slice(b"topic"));
            field(&mut out, |_| ());
            field(&mut out, |out| out.push(n));
            out.extend_from_slice(&[b'v'; 2]);
            ends.push(out.len());
        }
        let frames = read(&out, &ends, 1).unwrap();
        let wanted = Frame { ticket: 2, timestamp_ms: -3, topic: "topic", key: b"", headers: vec![&[2]], value: b"vv" };
        assert_eq!((frames.len(), &frames[2]), (3, &wanted));
        assert_eq!(read(&out[..20], &[20], 1), None);
    }
}
