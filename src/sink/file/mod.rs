//! A file of newline-delimited JSON, exactly once on one host (DESIGN, table 1).
//!
//! Comes in: batches of lines; goes out: a file, fsynced, and after each batch the position that the
//! journal keeps with the batch's keys. What lies beyond the newest journalled position of an inode
//! was written by a batch that nobody recorded: a start cuts it, and its records are fetched again.
//! Never cuts where the state cannot vouch for it; then it appends and says that lines may be doubled.
//!
//! One batch at a time. The work on the file itself is in [`disk`], on a blocking thread.

mod disk;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::Mutex;

use super::line::Written;
use super::{Accepted, EncodedBatch, FilePosition, SendError, Sink, SinkId, line};
use crate::config::{FileConfig, SinkConfig};
use crate::event::Event;
use crate::metrics::Metrics;
use crate::state::State;
use disk::{Opened, OutputFile};

/// One output file and its rotated predecessors.
pub struct FileSink {
    name: String,
    id: SinkId,
    written: Written,
    path: PathBuf,
    max_size: Option<u64>,
    keep: usize,
    state: State,
    metrics: Arc<Metrics>,
    /// `None` before the first batch, and after a failure that leaves its length unknown.
    file: Mutex<Option<OutputFile>>,
}

impl FileSink {
    pub fn new(config: &SinkConfig, file: &FileConfig, id: SinkId, state: State, metrics: Arc<Metrics>) -> FileSink {
        metrics.sink_bytes.with_label_values(&[&config.name, "identity"]);
        FileSink {
            name: config.name.clone(),
            id,
            written: Written::of(config),
            path: file.path.clone(),
            max_size: file.max_size,
            keep: file.keep,
            state,
            metrics,
            file: Mutex::new(None),
        }
    }

    /// Opens the file and brings it to where the state says it stands.
    async fn open(&self) -> Result<OutputFile, SendError> {
        let path = self.path.clone();
        let opened = self.blocking(move || disk::open(&path)).await?;
        let known = if opened.created { None } else { self.state.file_length(self.id, opened.file.inode) };
        let Opened { mut file, modified_ms, .. } = opened;
        let length = file.length;
        let shown = self.path.display();
        match known {
            // Nothing of ours can lie beyond: the journal knows every byte.
            // Journalled all the same, as below: that this run writes to it is what lets the next one cut.
            Some((trusted, _)) if trusted == length => {}
            Some((trusted, true)) if trusted < length && self.state.may_cut(self.id, file.inode, modified_ms) => {
                file = self.blocking(move || file.cut_to(trusted).map(|()| file)).await?;
                tracing::info!(sink = %self.name, path = %shown, bytes = length - trusted,
                    "cut what the last run wrote but did not record; its records are fetched again");
            }
            Some((trusted, _)) if trusted > length => {
                tracing::warn!(sink = %self.name, path = %shown, expected = trusted, found = length,
                    "the file is shorter than it was; appending to what is there");
            }
            _ if length > 0 => {
                tracing::warn!(sink = %self.name, path = %shown, bytes = length,
                    "the state does not vouch for the end of this file; appending, duplicates possible");
            }
            _ => {}
        }
        if !file.ends_a_line {
            file = self.blocking(move || file.end_line().map(|()| file)).await?;
        }
        self.journal_start(&file).await?;
        Ok(file)
    }

    /// Journals where a file begins before its first byte, so that a crash right after the first
    /// batch finds an inode that it knows.
    async fn journal_start(&self, file: &OutputFile) -> Result<(), SendError> {
        self.state.file_opened(self.id, &self.position(file));
        self.durable().await
    }

    async fn durable(&self) -> Result<(), SendError> {
        // The process ends by itself when the journal fails; until then the batch is held.
        self.state.durable().await.map_err(|error| SendError::Retry {
            after: None,
            reason: format!("sink `{}`: the state cannot be written: {error}", self.name),
        })
    }

    fn position(&self, file: &OutputFile) -> FilePosition {
        FilePosition { path: self.path.to_string_lossy().into_owned(), inode: file.inode, length: file.length }
    }

    /// The file to write the next `bytes` to: the open one, unless it was moved away or is full.
    async fn ready(&self, open: Option<OutputFile>, bytes: usize) -> Result<OutputFile, SendError> {
        let Some(mut file) = open else { return self.open().await };
        let path = self.path.clone();
        let in_place;
        (file, in_place) = self.blocking(move || file.is_at(&path).map(|in_place| (file, in_place))).await?;
        let full = self.max_size.is_some_and(|max| file.length > 0 && file.length + bytes as u64 > max);
        if in_place && !full {
            return Ok(file);
        }
        // The old inode is not opened again, so nothing may remain on it that is not journalled.
        self.durable().await?;
        drop(file);
        if in_place {
            let (path, keep) = (self.path.clone(), self.keep);
            self.blocking(move || disk::rotate(&path, keep)).await?;
        }
        self.open().await
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> Result<T, SendError> {
        let result = tokio::task::spawn_blocking(work).await.unwrap_or_else(|join| Err(io::Error::other(join)));
        result.map_err(|error| self.classify(&error))
    }

    fn classify(&self, error: &io::Error) -> SendError {
        use rustix::io::Errno;
        let (sink, path) = (&self.name, self.path.display());
        let advice = match error.raw_os_error().map(Errno::from_raw_os_error) {
            Some(Errno::LOOP) => "it is a symbolic link, which is not followed: give the path of the file itself",
            Some(Errno::ACCESS | Errno::PERM | Errno::ROFS) => "allow this user to write there",
            Some(Errno::NOENT | Errno::NOTDIR) => "create its directory",
            Some(Errno::WOULDBLOCK) => {
                return SendError::Retry {
                    after: None,
                    reason: format!(
                        "sink `{sink}`: `{path}` is still being written to, by another process or by a write that hangs; written when it ends"
                    ),
                };
            }
            Some(Errno::ISDIR | Errno::NXIO) => "give the path of a regular file",
            _ => {
                return SendError::Retry {
                    after: None,
                    reason: format!("sink `{sink}`: `{path}`: {error}; written again"),
                };
            }
        };
        SendError::Fatal { reason: format!("sink `{sink}`: `{path}`: {error}; {advice}") }
    }
}

impl Sink for FileSink {
    fn encode(&self, event: &Event<'_>, out: &mut Vec<u8>) {
        line::push_event(event, self.written, out);
    }

    fn serial(&self) -> bool {
        true
    }

    async fn send(&self, batch: &EncodedBatch) -> Result<Accepted, SendError> {
        // Taken out while it is worked on: whoever drops this future leaves no half-known file behind.
        let mut slot = self.file.lock().await;
        let mut file = self.ready(slot.take(), batch.bytes.len()).await?;
        let bytes = batch.bytes.clone();
        let written;
        (file, written) = self
            .blocking(move || {
                let written = file.append(&bytes);
                Ok((file, written))
            })
            .await?;
        let position = self.position(&file);
        // After a failed write the length is known again, or else the file is opened anew.
        *slot = (!file.unknown).then_some(file);
        written.map_err(|error| self.classify(&error))?;
        self.metrics.sink_bytes.with_label_values(&[&self.name, "identity"]).inc_by(batch.bytes.len() as u64);
        Ok(Accepted { position: Some(position) })
    }

    /// Opens the file, which fails for the same reasons for which a batch would be refused.
    async fn probe(&self) -> Result<(), SendError> {
        let mut slot = self.file.lock().await;
        let file = self.ready(slot.take(), 0).await?;
        *slot = Some(file);
        Ok(())
    }
}
