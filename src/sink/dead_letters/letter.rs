//! The form of a dead letter: one JSON line (DESIGN 3.3). Comes in: what is known of it, and its record in memory or in a
//! spooled file. Goes out: bytes. A record that cannot go along is named by its length and by where it may be had.

use std::fs::File as Spool;
use std::io::{self, Read, Seek, SeekFrom, Write};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::super::line::push_flat;
use super::super::template::escape;
use crate::clock::world_ms;
use crate::config::Format;
use crate::disk::File;
use crate::feed::BlobId;
use crate::normalize::Profile;
use crate::record::RecordKey;

/// Bytes of a streamed record handled at once.
pub(super) const CHUNK: usize = 64 * 1024;

/// What is known of a dead letter beside its record.
#[derive(Clone, Debug)]
pub struct LetterHead {
    /// Name of the sink that refused it; empty when no sink was asked.
    pub sink: String,
    /// Of a closed set: `refused`, `oversized`.
    pub reason: &'static str,
    /// What the receiver said, or what exceeded which limit.
    pub answer: String,
    pub blob: BlobId,
    pub key: Option<RecordKey>,
    /// The record's `Id`, JSON-escaped as sent; empty when it has none.
    pub event_id: Vec<u8>,
}

pub(super) fn push_head(head: &LetterHead, out: &mut Vec<u8>) {
    let at = jiff::Timestamp::from_millisecond(world_ms()).unwrap_or_default();
    out.extend_from_slice(format!("{{\"at\":\"{at:.3}\",\"sink\":").as_bytes());
    if head.sink.is_empty() {
        out.extend_from_slice(b"null");
    } else {
        push_string(&head.sink, out);
    }
    for (name, value) in [
        ("reason", head.reason),
        ("answer", &head.answer),
        ("tenant", &head.blob.feed.tenant.name),
        ("content_type", head.blob.feed.content_type.as_str()),
        ("blob", &head.blob.content_id),
    ] {
        out.extend_from_slice(format!(",\"{name}\":").as_bytes());
        push_string(value, out);
    }
    out.extend_from_slice(b",\"key\":");
    match head.key {
        Some(key) => push_string(&key.to_string(), out),
        None => out.extend_from_slice(b"null"),
    }
    out.extend_from_slice(b",\"event_id\":");
    if head.event_id.is_empty() {
        out.extend_from_slice(b"null");
    } else {
        out.push(b'"');
        push_flat(&head.event_id, out);
        out.push(b'"');
    }
}

/// The mark of a letter that holds what the sink was shown, of a record of which that was not everything.
pub(super) fn push_edited(out: &mut Vec<u8>) {
    out.extend_from_slice(b",\"edited\":true");
}

/// A record that does not go along: how long it is, and where it may be had.
pub(super) struct Missing {
    bytes: u64,
    why: String,
}

impl Missing {
    /// The whole letter lies in the file.
    pub fn in_file(bytes: u64) -> Missing {
        let why = "larger than the topic takes; the whole letter lies in `dead_letters.file`";
        Missing { bytes, why: why.to_owned() }
    }

    /// Nobody has kept it.
    pub fn unkept(head: &LetterHead, bytes: u64) -> Missing {
        Missing { bytes, why: format!("larger than what is kept; {}", had(head)) }
    }

    /// The topic does not take it, and nobody else has it.
    pub fn refused(head: &LetterHead, bytes: u64, why: &str) -> Missing {
        Missing { bytes, why: format!("{why}; {}", had(head)) }
    }

    /// The letter, without a newline.
    pub fn letter(&self, head: &LetterHead) -> Vec<u8> {
        let mut out = Vec::new();
        push_head(head, &mut out);
        push_format(Format::Raw, Profile::default(), &mut out);
        out.extend_from_slice(JSON);
        out.extend_from_slice(format!("null,\"record_bytes\":{},\"record_missing\":", self.bytes).as_bytes());
        push_string(&self.why, &mut out);
        out.push(b'}');
        out
    }
}

/// Where a record can be had as long as Microsoft keeps its blob (activity-api 1.7).
fn had(head: &LetterHead) -> String {
    format!(
        "it is in the blob `{}` of tenant `{}`, which the Management Activity API keeps for 7 days: GET /api/v1.0/{}/activity/feed/audit/{}",
        head.blob.content_id, head.blob.feed.tenant.name, head.blob.feed.tenant.id, head.blob.content_id
    )
}

/// The record is kept as it came, so that it can be sent again to any sink; but of a sink that may not have
/// all of it, the letter has no more than the sink would have got.
/// The format of what the letter holds, which is not always the sink's: a record that the sink was sent as a message is kept
/// as it came. A document with Elastic's habits says so.
pub(super) fn push_format(format: Format, profile: Profile, out: &mut Vec<u8>) {
    out.extend_from_slice(b",\"format\":\"");
    out.extend_from_slice(format.as_str().as_bytes());
    out.push(b'"');
    if format == Format::Ecs && profile != Profile::default() {
        out.extend_from_slice(b",\"ecs_profile\":\"");
        out.extend_from_slice(profile.as_str().as_bytes());
        out.push(b'"');
    }
}

fn push_string(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    escape(text, out);
    out.push(b'"');
}

/// The three forms of a record: JSON as it came; text that is no JSON, as a string; bytes that are no
/// text either, in base64, for a string could not hold them.
const JSON: &[u8] = b",\"record\":";
const TEXT: &[u8] = b",\"record\":\"";
const BYTES: &[u8] = b",\"record\":null,\"record_base64\":\"";

pub(super) fn push_record(record: &[u8], readable: bool, out: &mut Vec<u8>) {
    if readable {
        out.extend_from_slice(JSON);
        return push_flat(record, out);
    }
    match std::str::from_utf8(record) {
        Ok(text) => {
            out.extend_from_slice(TEXT);
            escape(text, out);
        }
        Err(_) => {
            out.extend_from_slice(BYTES);
            out.extend_from_slice(STANDARD.encode(record).as_bytes());
        }
    }
    out.push(b'"');
}

pub(super) fn copy_flat(record: &Spool, out: &mut File) -> io::Result<()> {
    out.write_all(JSON)?;
    let mut flat = Vec::new();
    each_chunk(record, |chunk, _| {
        flat.clear();
        push_flat(chunk, &mut flat);
        out.write_all(&flat)?;
        Ok(chunk.len())
    })
}

/// Whether the record is UTF-8 from its first to its last byte.
pub(super) fn is_text(record: &Spool) -> io::Result<bool> {
    let mut is_text = true;
    each_chunk(record, |chunk, last| {
        let whole = whole_characters(chunk, last);
        is_text &= whole.is_some();
        Ok(whole.unwrap_or(chunk.len()))
    })?;
    Ok(is_text)
}

/// Bytes of whole characters at the start of the chunk, one cut by its end left for the next; `None`:
/// this is no UTF-8.
fn whole_characters(chunk: &[u8], last: bool) -> Option<usize> {
    match std::str::from_utf8(chunk) {
        Ok(_) => Some(chunk.len()),
        Err(error) if error.error_len().is_none() && !last => Some(error.valid_up_to()),
        Err(_) => None,
    }
}

/// For a record of which [`is_text`] says yes.
pub(super) fn copy_text(record: &Spool, out: &mut File) -> io::Result<()> {
    out.write_all(TEXT)?;
    let mut text = Vec::new();
    each_chunk(record, |chunk, last| {
        let whole = whole_characters(chunk, last).unwrap_or(chunk.len());
        text.clear();
        escape(&String::from_utf8_lossy(&chunk[..whole]), &mut text);
        out.write_all(&text)?;
        Ok(whole)
    })?;
    out.write_all(b"\"")
}

pub(super) fn copy_base64(record: &Spool, out: &mut File) -> io::Result<()> {
    out.write_all(BYTES)?;
    each_chunk(record, |chunk, last| {
        // Three bytes are four characters; only the last piece may need filling.
        let whole = if last { chunk.len() } else { chunk.len() / 3 * 3 };
        out.write_all(STANDARD.encode(&chunk[..whole]).as_bytes())?;
        Ok(whole)
    })?;
    out.write_all(b"\"")
}

/// Reads `record` from its start; `handle` says how many of the bytes it is shown are done.
fn each_chunk(record: &Spool, mut handle: impl FnMut(&[u8], bool) -> io::Result<usize>) -> io::Result<()> {
    let mut reader = record;
    reader.seek(SeekFrom::Start(0))?;
    let mut buffer = vec![0; CHUNK];
    let mut kept = 0;
    loop {
        let read = reader.read(&mut buffer[kept..])?;
        let filled = kept + read;
        let last = read == 0;
        let done = if filled > 0 { handle(&buffer[..filled], last)? } else { 0 };
        if last {
            return Ok(());
        }
        buffer.copy_within(done..filled, 0);
        kept = filled - done;
    }
}
