//! What a journal says: one frame a fact, length-prefixed, encoded by postcard. Encoding and
//! decoding only; what a frame means is said by [`super::book`] and [`super::FeedProgress`].

use std::borrow::Cow;

use serde::{Deserialize, Serialize, Serializer};

use super::FeedFact;
use crate::feed::FeedKey;
use crate::sink::{FilePosition, SinkId};

/// One journalled fact. The order of the variants is the format: append only.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Frame<'a> {
    /// First frame of a journal file, and of every run in it: all sinks known, so that no later
    /// frame names an unknown one; where a process starts, the newest frame it found.
    Start {
        last_run_ended_ms: Option<i64>,
        #[serde(borrow)]
        sinks: Vec<(SinkId, Cow<'a, str>)>,
    },
    /// First frame of every group: when it was committed.
    Time { world_ms: i64 },
    /// A name is given this id for good.
    Sink {
        id: SinkId,
        #[serde(borrow)]
        name: Cow<'a, str>,
    },
    /// Something happened to a feed.
    Feed { key: Cow<'a, FeedKey>, fact: Cow<'a, FeedFact> },
    /// The sink has these records (16 bytes each); its file, if it is one, ends at `position`.
    Acked {
        sink: SinkId,
        #[serde(borrow, serialize_with = "bytes")]
        keys: &'a [u8],
        position: Option<Cow<'a, FilePosition>>,
    },
    /// The sink is about to write to a file that ends at `position`.
    FileOpened { sink: SinkId, position: Cow<'a, FilePosition> },
    /// What was known of the ends of files up to here must not be used to cut them.
    Distrust,
}

fn bytes<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_bytes(bytes)
}

/// Bytes of the length before each frame.
const PREFIX: usize = 4;

impl Frame<'_> {
    /// Appends the frame, or leaves `out` as it was.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) -> Result<(), postcard::Error> {
        let start = out.len();
        out.extend_from_slice(&[0; PREFIX]);
        let encoded = postcard::to_io(self, &mut *out).map(|_| ());
        match encoded
            .and_then(|()| u32::try_from(out.len() - start - PREFIX).map_err(|_| postcard::Error::SerializeBufferFull))
        {
            Ok(length) => out[start..start + PREFIX].copy_from_slice(&length.to_le_bytes()),
            Err(error) => {
                out.truncate(start);
                return Err(error);
            }
        }
        Ok(())
    }
}

/// Calls `see` for each frame of a group, in order. False when the bytes are not frames to their end;
/// then nothing has been seen.
pub(crate) fn decode_all(payload: &[u8], see: &mut dyn FnMut(Frame<'_>)) -> bool {
    if !each(payload, &mut |_| {}) {
        return false;
    }
    each(payload, see)
}

fn each(mut rest: &[u8], see: &mut dyn FnMut(Frame<'_>)) -> bool {
    while let Some((prefix, tail)) = rest.split_first_chunk::<PREFIX>() {
        let length = u32::from_le_bytes(*prefix) as usize;
        let Some((frame, tail)) = tail.split_at_checked(length) else { return false };
        match postcard::take_from_bytes::<Frame<'_>>(frame) {
            Ok((frame, [])) => see(frame),
            _ => return false,
        }
        rest = tail;
    }
    rest.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_come_back_in_order_and_a_cut_group_is_refused_whole() {
        let position = FilePosition { path: "/x".into(), inode: 7, length: 9 };
        let frames = [
            Frame::Time { world_ms: 5 },
            Frame::Acked { sink: SinkId(3), keys: &[1; 32], position: Some(Cow::Borrowed(&position)) },
            Frame::Distrust,
        ];
        let mut bytes = Vec::new();
        for frame in &frames {
            frame.encode(&mut bytes).unwrap();
        }
        let mut seen = Vec::new();
        assert!(decode_all(&bytes, &mut |frame| seen.push(format!("{frame:?}"))));
        assert_eq!(seen, frames.iter().map(|frame| format!("{frame:?}")).collect::<Vec<_>>());
        assert!(!decode_all(&bytes[..bytes.len() - 1], &mut |_| panic!("nothing of a cut group may be used")));
    }
}
