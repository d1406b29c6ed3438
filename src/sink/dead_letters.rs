//! Where events go that a sink refuses for good: one file, one JSON line each (DESIGN 3.3), fsynced
//! before the event counts as done. Not an event buffer: what is here needs a person, or `replay`.
//!
//! Comes in: events with what was said of them, or a record in a file that is too large for memory.
//! Goes out: lines. Never gives up and never reports a letter kept that is not on the disk: when the
//! disk is full the caller waits, and its batch with it.

use std::fs::File as Spool;
use std::io::{self, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tokio::sync::Mutex;

use super::line::push_flat;
use super::shape::Kept;
use super::template::escape;
use crate::clock::world_ms;
use crate::config::Format;
use crate::disk::{self, File, Fsync};
use crate::event::Event;
use crate::feed::BlobId;
use crate::metrics::Metrics;
use crate::normalize::Profile;
use crate::record::RecordKey;
use crate::retry::Backoff;

/// Waits between tries to write: quick enough to go on soon after the disk has room again.
const FIRST_WAIT: Duration = Duration::from_millis(500);
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// Bytes of a streamed record handled at once.
const CHUNK: usize = 64 * 1024;

/// The dead-letter file cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("cannot write the dead letters to `{path}`: {source}; set `dead_letters.file` to a place that can be written")]
pub struct DeadLetterError {
    path: PathBuf,
    source: io::Error,
}

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

/// The dead-letter file. Cheap to clone, shared by all drivers.
#[derive(Clone)]
pub struct DeadLetters(Arc<Inner>);

struct Inner {
    path: PathBuf,
    metrics: Arc<Metrics>,
    /// One writer at a time: a line must not be torn by another.
    writing: Mutex<()>,
}

impl DeadLetters {
    /// Checks that the file can be written, creating it (mode 0600) where it is missing. Blocking.
    pub fn open(path: &Path, metrics: Arc<Metrics>) -> Result<DeadLetters, DeadLetterError> {
        // Where nothing is on a disk there is no file, and what would go into it waits: see `append`.
        let looked_at = if disk::is_mirrored(path) { Ok(()) } else { open_at_line_start(path).map(drop) };
        looked_at.map_err(|source| DeadLetterError { path: path.to_owned(), source })?;
        Ok(DeadLetters(Arc::new(Inner { path: path.to_owned(), metrics, writing: Mutex::new(()) })))
    }

    /// Keeps these events, each with what the receiver said of it; returns when they are on the disk. `kept`
    /// says what stands in for a record of which the sink was not shown everything.
    pub async fn append<'a>(
        &self,
        sink: &str,
        refused: impl IntoIterator<Item = (Event<'a>, &'a str)>,
        kept: impl Fn(&Event<'_>) -> Option<Kept>,
    ) {
        let mut lines = Vec::new();
        let mut count = 0;
        for (event, answer) in refused {
            let head = LetterHead {
                sink: sink.to_owned(),
                reason: "refused",
                answer: answer.to_owned(),
                blob: event.part.blob.clone(),
                key: Some(event.meta.key),
                event_id: event.id().to_vec(),
            };
            push_head(&head, &mut lines);
            match kept(&event) {
                Some(Kept { format, profile, json }) => {
                    push_format(format, profile, &mut lines);
                    push_record(&json, true, &mut lines);
                }
                None => {
                    push_format(Format::Raw, Profile::default(), &mut lines);
                    push_record(event.raw(), event.meta.readable, &mut lines);
                }
            }
            lines.extend_from_slice(b"}\n");
            count += 1;
        }
        if count > 0 {
            let lines = Arc::new(lines);
            self.keep(sink, count, move |file| file.write_all(&lines)).await;
        }
    }

    /// Keeps one record that is too large for memory, read from the start of `record` (a spooled
    /// temporary file); `is_json` says that it is one JSON value. Returns when it is on the disk.
    pub async fn append_stream(&self, letter: LetterHead, record: Spool, is_json: bool) {
        let sink = letter.sink.clone();
        let source = Arc::new((letter, record));
        let write = move |file: &mut File| {
            let (letter, record) = &*source;
            let mut head = Vec::new();
            push_head(letter, &mut head);
            push_format(Format::Raw, Profile::default(), &mut head);
            file.write_all(&head)?;
            match is_json {
                true => copy_flat(record, file),
                false if is_text(record)? => copy_text(record, file),
                false => copy_base64(record, file),
            }?;
            file.write_all(b"}\n")
        };
        self.keep(&sink, 1, write).await;
    }

    async fn keep<W>(&self, sink: &str, count: u64, write: W)
    where
        W: Fn(&mut File) -> io::Result<()> + Clone + Send + 'static,
    {
        let _turn = self.0.writing.lock().await;
        let mut backoff = Backoff::new(FIRST_WAIT, LONGEST_WAIT);
        let mut failed = false;
        loop {
            let (inner, write) = (Arc::clone(&self.0), write.clone());
            let result = tokio::task::spawn_blocking(move || append_durably(&inner.path, write)).await;
            match result.unwrap_or_else(|join| Err(io::Error::other(join))) {
                Ok(()) => break,
                Err(error) if !failed => {
                    failed = true;
                    tracing::error!(path = %self.0.path.display(), %error, sink, letters = count,
                        "cannot write the dead letters; the batch is held and it is tried again until there is room");
                }
                Err(_) => {}
            }
            tokio::time::sleep(backoff.next_delay(None)).await;
        }
        if failed {
            tracing::info!(path = %self.0.path.display(), "the dead letters can be written again");
        }
        self.0.metrics.dead_letters.with_label_values(&[sink]).inc_by(count);
    }
}

/// Opened anew each time: letters are rare, and so the file may be moved away while we run.
fn append_durably(path: &Path, write: impl Fn(&mut File) -> io::Result<()>) -> io::Result<()> {
    let mut file = open_at_line_start(path)?;
    let before = file.about()?.length;
    let written = write(&mut file).and_then(|()| file.fsync(Fsync::Letters));
    if written.is_err() {
        // Half a line must not stay: the next try would leave the letter twice, once torn.
        let _ = file.set_len(before);
    }
    written
}

fn open_at_line_start(path: &Path) -> io::Result<File> {
    let (mut file, _) = disk::append(path, 0o600)?;
    // Not only of a new file: a process that was killed may have made the name and not its fsync.
    disk::fsync_dir(path.parent().unwrap_or(Path::new("")), Fsync::LettersName)?;
    let length = file.about()?.length;
    let line = start_of_last_line(&file, length)?;
    if line < length {
        repair_last_line(&mut file, path, line)?;
    }
    Ok(file)
}

/// Where the text after the last newline begins; `length` when the file ends with one.
fn start_of_last_line(file: &File, length: u64) -> io::Result<u64> {
    let mut chunk = vec![0; CHUNK];
    let mut end = length;
    while end > 0 {
        let start = end.saturating_sub(CHUNK as u64);
        let part = &mut chunk[..(end - start) as usize];
        file.read_exact_at(part, start)?;
        if let Some(at) = memchr::memrchr(b'\n', part) {
            return Ok(start + at as u64 + 1);
        }
        end = start;
    }
    Ok(0)
}

/// A last line without its newline: whole JSON gets one (an editor took it), anything else was torn
/// by a crash before it was promised, and its event is fetched again.
fn repair_last_line(file: &mut File, path: &Path, line: u64) -> io::Result<()> {
    let whole = serde_json::from_reader::<_, serde::de::IgnoredAny>(BufReader::new(file.reader_at(line))).is_ok();
    if whole {
        return file.write_all(b"\n");
    }
    tracing::warn!(path = %path.display(), "the last dead letter was torn by a crash and is cut; its event is fetched again");
    file.set_len(line)
}

fn push_head(head: &LetterHead, out: &mut Vec<u8>) {
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

/// The record is kept as it came, so that it can be sent again to any sink; but of a sink that may not have
/// all of it, the letter has no more than the sink would have got.
/// The format of what the letter holds, which is not always the sink's: a record that the sink was sent as a message is kept
/// as it came. A document with Elastic's habits says so.
fn push_format(format: Format, profile: Profile, out: &mut Vec<u8>) {
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

fn push_record(record: &[u8], readable: bool, out: &mut Vec<u8>) {
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

fn copy_flat(record: &Spool, out: &mut File) -> io::Result<()> {
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
fn is_text(record: &Spool) -> io::Result<bool> {
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
fn copy_text(record: &Spool, out: &mut File) -> io::Result<()> {
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

fn copy_base64(record: &Spool, out: &mut File) -> io::Result<()> {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sink::samples;
    use serde_json::Value;
    use std::os::unix::fs::PermissionsExt;

    fn letters(path: &Path) -> Vec<Value> {
        let text = std::fs::read_to_string(path).unwrap();
        assert!(text.is_empty() || text.ends_with('\n'));
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    fn head() -> LetterHead {
        let blob = samples::part(&[samples::RECORD]).blob.clone();
        LetterHead {
            sink: String::new(),
            reason: "oversized",
            answer: "9 MiB".into(),
            blob,
            key: None,
            event_id: Vec::new(),
        }
    }

    fn spooled(bytes: &[u8]) -> Spool {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        file
    }

    #[tokio::test]
    async fn a_letter_is_one_line_with_the_record_inside() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("dead.ndjson");
        let dead = DeadLetters::open(&path, Metrics::new()).unwrap();
        let part = samples::part(&[samples::RECORD, "not\n\"json\""]);
        dead.append("splunk", [(part.event(0), "no\nway"), (part.event(1), "bad")], |_| None).await;
        let letters = letters(&path);
        assert_eq!(letters.len(), 2);
        assert_eq!(letters[0]["record"], serde_json::from_str::<Value>(samples::RECORD).unwrap());
        assert_eq!(letters[0]["answer"], "no\nway");
        assert_eq!(letters[0]["tenant"], "con\"toso");
        assert_eq!(letters[0]["event_id"], "id-1");
        assert_eq!(letters[0]["key"], part.event(0).meta.key.to_string());
        assert_eq!((&letters[1]["record"], &letters[1]["event_id"]), (&Value::from("not\n\"json\""), &Value::Null));
        let names: Vec<_> = letters[0].as_object().unwrap().keys().map(String::as_str).collect();
        let mut expected =
            ["at", "sink", "reason", "answer", "tenant", "content_type", "blob", "key", "event_id", "format", "record"];
        expected.sort_unstable();
        assert_eq!(names, expected);
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(dead.0.metrics.dead_letters.with_label_values(&["splunk"]).get(), 2);
    }

    #[test]
    fn bytes_that_are_no_text_are_kept_byte_for_byte() {
        let kept = |record: &[u8]| {
            let mut line = b"{\"a\":1".to_vec();
            push_record(record, false, &mut line);
            line.push(b'}');
            serde_json::from_slice::<Value>(&line).unwrap()
        };
        let broken = b"{\"Id\":\"\xC3\x28\xFF\0\"";
        let letter = kept(broken);
        assert_eq!(STANDARD.decode(letter["record_base64"].as_str().unwrap()).unwrap(), broken);
        assert_eq!(letter["record"], Value::Null);
        let letter = kept("{\"Id\":\"é".as_bytes());
        assert_eq!((&letter["record"], letter.get("record_base64")), (&Value::from("{\"Id\":\"é"), None));
    }

    #[tokio::test]
    async fn an_oversized_record_is_streamed_in_as_json_or_as_text() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("dead.ndjson");
        let dead = DeadLetters::open(&path, Metrics::new()).unwrap();
        let json = format!("{{\r\n\"a\":\"{}\"}}", "é".repeat(CHUNK));
        dead.append_stream(head(), spooled(json.as_bytes()), true).await;
        // One odd byte in front, so that a character lies across every chunk's end; then a broken one at the end.
        let mut text = format!("x{}", "€\n".repeat(CHUNK)).into_bytes();
        dead.append_stream(head(), spooled(&text), false).await;
        text.push(0xE2);
        dead.append_stream(head(), spooled(&text), false).await;
        let letters = letters(&path);
        assert_eq!(letters[0]["record"], serde_json::from_str::<Value>(&json).unwrap());
        assert_eq!(letters[1]["record"], std::str::from_utf8(&text[..text.len() - 1]).unwrap());
        assert_eq!(letters[2]["record"], Value::Null);
        assert_eq!(STANDARD.decode(letters[2]["record_base64"].as_str().unwrap()).unwrap(), text);
        assert_eq!((&letters[1]["sink"], &letters[1]["reason"]), (&Value::Null, &Value::from("oversized")));
    }

    #[test]
    fn a_torn_last_line_is_cut_and_a_whole_one_is_ended() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("dead.ndjson");
        for (text, expected) in [
            ("{\"a\":1}\n{\"b\":", "{\"a\":1}\n"),
            ("{\"a\":1}\n{\"b\":2}", "{\"a\":1}\n{\"b\":2}\n"),
            ("{", ""),
            ("", ""),
        ] {
            std::fs::write(&path, text).unwrap();
            DeadLetters::open(&path, Metrics::new()).unwrap();
            assert_eq!(std::fs::read_to_string(&path).unwrap(), expected);
        }
    }

    #[tokio::test]
    async fn a_letter_that_cannot_be_written_is_held_until_it_can() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("dead.ndjson");
        let dead = DeadLetters::open(&path, Metrics::new()).unwrap();
        std::fs::remove_file(&path).unwrap();
        std::fs::create_dir(&path).unwrap();
        let part = samples::part(&[samples::RECORD]);
        let append = dead.append("splunk", [(part.event(0), "no")], |_| None);
        tokio::pin!(append);
        assert!(tokio::time::timeout(Duration::from_millis(100), &mut append).await.is_err());
        std::fs::remove_dir(&path).unwrap();
        append.await;
        assert_eq!(letters(&path).len(), 1);
    }
}
