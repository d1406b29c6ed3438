//! Where events go that a sink refuses for good: a file, one JSON line each (DESIGN 3.3), fsynced before the event
//! counts as done; a Kafka topic with the same line as message, which every replica in sync has by then; or both.
//! Not an event buffer: what is here needs a person, or `replay`.
//!
//! Comes in: events with what was said of them, or a record in a file that is too large for memory.
//! Goes out: lines. Never gives up and never reports a letter kept that is not where it should be: when the
//! disk is full or the brokers are away the caller waits, and its batch with it.

mod file;
mod letter;
mod topic;

use std::fs::File as Spool;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;

use super::SinkBuildError;
use super::shape::Kept;
use crate::config::{DeadLettersConfig, Format};
use crate::disk::File;
use crate::event::{Event, EventMeta, Part};
use crate::metrics::Metrics;
use crate::normalize::Profile;
use crate::retry::Backoff;

pub use file::{SetAside, put_back, set_aside};
pub use letter::LetterHead;
use letter::{Missing, copy_base64, copy_flat, copy_text, is_text, push_edited, push_format, push_head, push_record};
pub use topic::read as read_topic;
use topic::{LetterTopic, Message};

/// Waits between tries to write: quick enough to go on soon after the disk has room again.
const FIRST_WAIT: Duration = Duration::from_millis(500);
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// The dead letters cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DeadLetterError {
    #[error(
        "cannot write the dead letters to `{path}`: {source}; set `dead_letters.file` to a place that can be written"
    )]
    File { path: PathBuf, source: io::Error },
    #[error("`dead_letters.kafka`: {0}")]
    Topic(#[from] SinkBuildError),
}

/// The dead letters. Cheap to clone, shared by all drivers.
#[derive(Clone)]
pub struct DeadLetters(Arc<Inner>);

struct Inner {
    file: Option<PathBuf>,
    topic: Option<LetterTopic>,
    metrics: Arc<Metrics>,
    /// One writer of the file at a time: a line must not be torn by another.
    writing: Mutex<()>,
}

impl DeadLetters {
    /// Letters in a file only, which is created (mode 0600) where it is missing. Blocking.
    pub fn open(path: &Path, metrics: Arc<Metrics>) -> Result<DeadLetters, DeadLetterError> {
        DeadLetters::of(&DeadLettersConfig::in_file(path), metrics)
    }

    /// Checks that the file can be written, and makes the producer of the topic, which begins to look for the brokers.
    /// Blocking; asks nobody.
    pub fn of(config: &DeadLettersConfig, metrics: Arc<Metrics>) -> Result<DeadLetters, DeadLetterError> {
        let file = config.file.clone();
        if let Some(path) = &file {
            file::open_at_line_start(path).map_err(|source| DeadLetterError::File { path: path.clone(), source })?;
        }
        let topic = config.topic.as_ref().map(|topic| LetterTopic::new(topic, file.is_some(), &metrics)).transpose()?;
        Ok(DeadLetters(Arc::new(Inner { file, topic, metrics, writing: Mutex::new(()) })))
    }

    /// Letters that lie somewhere already: nothing is written, only counted.
    pub fn nowhere(metrics: Arc<Metrics>) -> DeadLetters {
        DeadLetters(Arc::new(Inner { file: None, topic: None, metrics, writing: Mutex::new(()) }))
    }

    /// Whether letters lie in a file, so that there is a disk for them.
    pub fn have_a_file(&self) -> bool {
        self.0.file.is_some()
    }

    /// Keeps these events, each with what the receiver said of it; returns when they are where they should be. `kept`
    /// says what stands in for a record of which the sink was not shown everything.
    pub async fn append<'a>(
        &self,
        sink: &str,
        refused: impl IntoIterator<Item = (Event<'a>, &'a str)>,
        kept: impl Fn(&Event<'_>) -> Option<Kept>,
    ) {
        let mut lines = Vec::new();
        let mut messages = Vec::new();
        let mut count = 0;
        for (event, answer) in refused {
            let start = lines.len();
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
                    push_edited(&mut lines);
                    push_record(&json, true, &mut lines);
                }
                None => {
                    push_format(Format::Raw, Profile::default(), &mut lines);
                    push_record(event.raw(), event.meta.readable, &mut lines);
                }
            }
            lines.push(b'}');
            if let Some(topic) = &self.0.topic {
                let bytes = event.raw().len() as u64;
                messages.push(Message::new(topic, event, head, lines[start..].to_vec(), bytes));
            }
            lines.push(b'\n');
            count += 1;
        }
        if count > 0 {
            let lines = Arc::new(lines);
            self.keep(sink, count, move |file| file.write_all(&lines), messages).await;
        }
    }

    /// Keeps one record that is too large for memory, read from the start of `record` (a spooled
    /// temporary file); `is_json` says that it is one JSON value. Returns when it is where it should be: whole in the
    /// file, and without its record in the topic, which takes no message of this size.
    pub async fn append_stream(&self, letter: LetterHead, record: Spool, is_json: bool) {
        let sink = letter.sink.clone();
        let bytes = record.metadata().map_or(0, |about| about.len());
        let messages = self.without_record(&letter, &Missing::in_file(bytes));
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
        self.keep(&sink, 1, write, messages).await;
    }

    /// Keeps what is known of a record of so many bytes that nobody has kept.
    pub async fn append_without_record(&self, letter: LetterHead, bytes: u64) {
        let sink = letter.sink.clone();
        let missing = Missing::unkept(&letter, bytes);
        let messages = self.without_record(&letter, &missing);
        let mut line = missing.letter(&letter);
        line.push(b'\n');
        self.keep(&sink, 1, move |file| file.write_all(&line), messages).await;
    }

    fn without_record(&self, letter: &LetterHead, missing: &Missing) -> Vec<Message> {
        let Some(topic) = &self.0.topic else { return Vec::new() };
        let meta = EventMeta { key: letter.key.unwrap_or_default(), ..EventMeta::default() };
        let part = Part::bare(letter.blob.clone(), Default::default(), Vec::new(), vec![meta]);
        vec![Message::without_record(topic, part.event(0), letter.clone(), missing)]
    }

    /// Returns when the file has what `write` writes and the topic has the messages.
    async fn keep<W>(&self, sink: &str, count: u64, write: W, messages: Vec<Message>)
    where
        W: Fn(&mut File) -> io::Result<()> + Clone + Send + 'static,
    {
        if let Some(path) = &self.0.file {
            self.keep_in_file(path, sink, count, write).await;
        }
        if let Some(topic) = &self.0.topic {
            topic.keep(sink, messages).await;
        }
        self.0.metrics.dead_letters.with_label_values(&[sink]).inc_by(count);
    }

    async fn keep_in_file<W>(&self, path: &Path, sink: &str, count: u64, write: W)
    where
        W: Fn(&mut File) -> io::Result<()> + Clone + Send + 'static,
    {
        let _turn = self.0.writing.lock().await;
        let mut backoff = Backoff::new(FIRST_WAIT, LONGEST_WAIT);
        let mut failed = false;
        loop {
            let (to, write) = (path.to_owned(), write.clone());
            let result = tokio::task::spawn_blocking(move || file::append_durably(&to, write)).await;
            match result.unwrap_or_else(|join| Err(io::Error::other(join))) {
                Ok(()) => break,
                Err(error) if !failed => {
                    failed = true;
                    tracing::error!(path = %path.display(), %error, sink, letters = count,
                        "cannot write the dead letters; the batch is held and it is tried again until there is room");
                }
                Err(_) => {}
            }
            tokio::time::sleep(backoff.next_delay(None)).await;
        }
        if failed {
            tracing::info!(path = %path.display(), "the dead letters can be written again");
        }
    }
}

#[cfg(test)]
mod tests;
