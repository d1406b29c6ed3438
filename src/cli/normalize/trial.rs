//! The reading of files under trial, for the fuzzer: any bytes are read to their end, the same elements come however the
//! bytes are cut into pieces, in the order of their lines, and plain JSON loses nothing but what stands between elements.

use std::io::{self, Read};

use super::elements::NotClosed;
use super::input::Input;
use super::portal::Remark;

/// Reads `bytes` in one piece and in small ones.
pub fn read(bytes: &[u8]) {
    let whole = elements(bytes);
    let step = bytes.first().map_or(1, |first| usize::from(*first) % 7 + 1);
    let in_pieces = elements(InPieces { step, bytes });
    // How much comes out of a broken packing before that is seen is the unpacker's to say.
    assert!(whole == in_pieces || whole.is_none() || in_pieces.is_none(), "another result in steps of {step}");
    let Some((elements, is_plain)) = whole else { return };
    assert!(elements.windows(2).all(|pair| pair[0].0 <= pair[1].0), "a line before the one before");
    if is_plain && !bytes.starts_with(b"\x1f\x8b") && !matches!(bytes, [0xff, 0xfe, ..] | [0xfe, 0xff, ..]) {
        let kept = |bytes: &[u8]| -> Vec<u8> {
            let is_between = |byte: &u8| byte.is_ascii_whitespace() || b"[],\xef\xbb\xbf".contains(byte);
            bytes.iter().filter(|byte| !is_between(byte)).copied().collect()
        };
        let all: Vec<u8> = elements.iter().flat_map(|(_, element, _)| element).copied().collect();
        assert!(kept(&all) == kept(bytes), "content is dropped");
    }
}

type Elements = Vec<(u64, Vec<u8>, Option<Remark>)>;

/// All elements, and whether they are JSON's with nothing around them; nothing where the bytes are none of ours or a packing
/// is broken.
fn elements(reader: impl Read) -> Option<(Elements, bool)> {
    let mut input = Input::new(reader).ok()?;
    let mut all = Vec::new();
    while let Some(element) = input.next_element() {
        all.push((element.line, element.bytes.to_vec(), element.remark));
    }
    let (is_plain, is_whole) = match &mut input {
        Input::Json(json) => {
            let is_torn = |error: io::Error| error.get_ref().is_some_and(|error| error.is::<NotClosed>());
            let is_whole = json.elements.failure().is_none_or(|(_, error)| is_torn(error));
            (json.elements.wrappers() + json.taken_out == 0, is_whole)
        }
        Input::Export(rows) => (false, rows.failure().is_none()),
    };
    is_whole.then_some((all, is_plain))
}

struct InPieces<'a> {
    step: usize,
    bytes: &'a [u8],
}

impl Read for InPieces<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let length = self.step.min(self.bytes.len()).min(into.len());
        let (now, rest) = self.bytes.split_at(length);
        into[..length].copy_from_slice(now);
        self.bytes = rest;
        Ok(length)
    }
}
