//! One attempt at one blob: its body turned into parts of whole records while it arrives.
//!
//! A body below [`HOLD`] goes forward only when it is complete; a larger one flows part by part, so
//! that memory does not grow with it. Either way the attempt counts as complete only when the body
//! ended as announced and its array was closed; anything else loses the attempt, never the blob.

use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::mpsc;

use super::block::{self, Room};
use super::body::{Body, BodyError};
use super::client::Client;
use super::error::ApiError;
use super::pin::PinnedUrl;
use super::trouble::Manner;
use crate::ack::Finalizer;
use crate::budget::{Budget, Charge};
use crate::failpoint;
use crate::feed::BlobId;
use crate::metrics::{Metrics, Raised};
use crate::record::Span;
use crate::record::salvage::salvage;
use crate::record::split::{SplitError, Splitter};

use spool::{Spool, Spooled};

/// A smaller body is held until it is complete (DESIGN, flow 2.2).
const HOLD: usize = 8 * 1024 * 1024;
/// Size of a part, about: large enough to batch well, small enough to be let go soon.
const PART: usize = 1024 * 1024;
/// What a record takes at the least while it is under way, bytes: metadata, its key in flight, and the document of one
/// that is no object. Measured with a million numbers for records: 745. A real record is larger by itself.
const RECORD: usize = 768;
/// Records of a part at the most; a part of real ones has a tenth of it.
const PART_RECORDS: usize = 8192;
/// Reserved before each piece is read; see `body::PIECE`.
const RESERVE: usize = 256 * 1024;
/// White space and commas between two records beyond which they are not kept; real ones are a few bytes.
const BLANK: usize = 4 * 1024;
/// A token no older than this was not what an earlier answer was about, seconds.
const FRESH: i64 = 30;
/// Further pages of one body; the documentation knows none (activity-api 1.8), so this only ends a loop.
const MAX_BODY_PAGES: usize = 100;

/// Whole records of a blob, as they were sent.
pub struct RawBatch {
    pub blob: BlobId,
    pub bytes: Bytes,
    /// The records in `bytes`.
    pub spans: Vec<Span>,
    pub ack: Finalizer,
    pub charge: Charge,
}

/// A record over `max_record`, spooled to a file that has no name any more. Beyond 256 MiB the file
/// is empty and only size and hash are known.
pub struct OversizedRecord {
    pub blob: BlobId,
    /// `None`: there is no place for it.
    pub file: Option<File>,
    pub bytes: u64,
    /// Hash of its bytes.
    pub hash: [u8; 16],
    /// False when it was too large to be kept.
    pub is_kept: bool,
    pub ack: Finalizer,
}

/// What a fetch sends forward.
pub enum Arrival {
    Batch(RawBatch),
    Oversized(OversizedRecord),
}

/// What all fetches share.
pub struct FetchContext {
    pub forward: mpsc::Sender<Arrival>,
    pub budget: Budget,
    pub max_record: usize,
    /// Where an oversized record is spooled; `None`: nowhere, of such a record only size and hash are learned.
    pub spool_dir: Option<PathBuf>,
    pub metrics: Arc<Metrics>,
}

/// An attempt that read its body to the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fetched {
    pub bytes: u64,
    /// True when the body was broken and salvaged.
    pub salvaged: bool,
}

/// Why an attempt ended early.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    #[error(transparent)]
    Api(#[from] ApiError),
    #[error(transparent)]
    Body(#[from] BodyError),
    /// Complete and not an array of records. `print` is the same when the same bytes came again.
    #[error("{error}")]
    Malformed { error: Malformed, print: (u64, u32) },
    #[error("cannot spool an oversized record in `{path}`: {source}")]
    Spool { path: PathBuf, source: std::io::Error },
    /// Given up half-way for feeds that can go on, while a sink that this one needs takes nothing.
    #[error("made way for other feeds while its sink takes nothing")]
    MadeWay,
    /// The pipeline is gone: the process is ending.
    #[error("the pipeline is closed")]
    Closed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    #[error(transparent)]
    Structure(#[from] SplitError),
    #[error("the array is not closed though the body ended well")]
    Unfinished,
}

/// Fetches `blob` from `uri` in the given manner.
pub async fn fetch(
    context: &FetchContext,
    client: &Client,
    blob: &BlobId,
    uri: &str,
    ack: Finalizer,
    manner: Manner,
) -> Result<Fetched, FetchError> {
    let _in_flight = Raised::new(context.metrics.blobs_in_flight.with_label_values(&[]));
    if manner.fresh_token {
        client.renew_token_if_older(FRESH).await;
    }
    let mut attempt = Attempt::new(context, blob, &ack, manner);
    let mut next = Some(content_url(context, client, blob, uri));
    let mut pages = 0;
    while let Some(url) = next.take() {
        if pages == MAX_BODY_PAGES {
            return Err(ApiError::Transient { text: format!("a body of more than {MAX_BODY_PAGES} pages") }.into());
        }
        let mut body = client.content(&url).await?;
        if manner.slow {
            body.take_your_time();
        }
        next = body.next_page_uri().map(|uri| client.pin.check(&uri)).transpose()?;
        pages += 1;
        attempt.read(&mut body).await?;
    }
    let fetched = attempt.finish().await?;
    failpoint::pass("fetch");
    ack.release();
    Ok(fetched)
}

/// Where the service says the blob is, if a token may go there; else where we know blobs to be.
fn content_url(context: &FetchContext, client: &Client, blob: &BlobId, uri: &str) -> PinnedUrl {
    if uri.is_empty() {
        return client.pin.content_url(&blob.content_id);
    }
    client.pin.check(uri).unwrap_or_else(|error| {
        let tenant = blob.feed.tenant.name.as_str();
        context.metrics.api_refused_urls.with_label_values(&[tenant]).inc();
        tracing::error!(tenant, %error, "refused a contentUri, asking the pinned host for the blob instead");
        client.pin.content_url(&blob.content_id)
    })
}

/// The state of an attempt between two pieces.
struct Attempt<'a> {
    context: &'a FetchContext,
    blob: &'a BlobId,
    ack: &'a Finalizer,
    charge: Charge,
    splitter: Splitter,
    buffer: Room,
    /// Whole records in `buffer` that were not sent forward.
    spans: Vec<Span>,
    /// Bytes of bodies read, and whether parts already flow.
    total: u64,
    is_flowing: bool,
    spool: Option<Spool>,
    salvaged: bool,
    manner: Manner,
}

impl<'a> Attempt<'a> {
    fn new(context: &'a FetchContext, blob: &'a BlobId, ack: &'a Finalizer, manner: Manner) -> Attempt<'a> {
        let tenant = Arc::from(blob.feed.tenant.id.as_str());
        let (budget, content_type) = (&context.budget, blob.feed.content_type);
        Attempt {
            context,
            blob,
            ack,
            charge: if manner.slow {
                budget.charge_beside(&tenant, content_type)
            } else {
                budget.charge(&tenant, content_type)
            },
            splitter: Splitter::default(),
            buffer: Room::default(),
            spans: Vec::new(),
            total: 0,
            is_flowing: false,
            spool: None,
            salvaged: false,
            manner,
        }
    }

    /// Reads one body to its end.
    async fn read(&mut self, body: &mut Body) -> Result<(), FetchError> {
        self.splitter = Splitter::default();
        self.splitter.skip(self.buffer.len());
        let mut crc = crc32fast::Hasher::new();
        let mut broken = None;
        let mut break_print = (0, 0);
        loop {
            self.context.metrics.wait_for("budget", self.charge.reserve(RESERVE, true)).await;
            let before = self.buffer.len();
            let more = body.next_piece(&mut self.buffer).await?;
            // A piece that swelled is accounted for at once, so that whoever asks next waits for it.
            self.charge.add((self.buffer.len() - before).saturating_sub(RESERVE));
            // Of a broken body the rest is still read, to know whether it is the same each time, and held for salvage.
            if broken.is_none() {
                broken = self.scan().err();
                if let Some(error) = broken {
                    break_print = self.break_print(error, before, body.decoded, crc.clone());
                }
            }
            if let Some(error) = broken
                && (self.is_flowing || self.buffer.len() > HOLD)
            {
                return Err(FetchError::Malformed { error: error.into(), print: break_print });
            }
            crc.update(&self.buffer[before..]);
            if broken.is_none() {
                self.spool_oversized().await?;
                self.flow().await?;
                self.drop_blank();
            }
            self.charge.shrink_to(self.buffer.len());
            if !more {
                break;
            }
        }
        self.total += body.decoded;
        let bytes = &self.context.metrics.api_bytes;
        bytes.with_label_values(&["received"]).inc_by(body.received);
        bytes.with_label_values(&["decoded"]).inc_by(body.decoded);
        let error = match broken {
            Some(error) => Malformed::Structure(error),
            None if !self.splitter.has_begun() => SplitError::NotAnArray.into(),
            None if !self.splitter.is_done() => Malformed::Unfinished,
            None => return Ok(()),
        };
        if !self.manner.salvage || self.is_flowing || self.spool.is_some() {
            return Err(FetchError::Malformed { error, print: (body.decoded, crc.finalize()) });
        }
        let spans = catch_unwind(AssertUnwindSafe(|| salvage(&self.buffer))).unwrap_or_default();
        let has_object = spans.iter().any(|span| self.buffer[span.start as usize] == b'{');
        // A page of HTML or nothing at all is not what the blob holds: that must not pass for its content.
        if spans.is_empty() || error == Malformed::Structure(SplitError::NotAnArray) && !has_object {
            return Err(FetchError::Malformed { error, print: (body.decoded, crc.finalize()) });
        }
        self.spans = spans;
        self.salvaged = true;
        Ok(())
    }

    /// What a body that is not read to its end is known by: where it breaks, and the bytes before that (`crc`: those
    /// before the piece that begins at `before`). Not how far it was read, which depends on how the network cut it.
    fn break_print(&self, error: SplitError, before: usize, decoded: u64, mut crc: crc32fast::Hasher) -> (u64, u32) {
        if error == SplitError::Fault {
            // A panic tells no place.
            return (u64::MAX, 0);
        }
        let at = self.splitter.scanned().clamp(before, self.buffer.len());
        crc.update(&self.buffer[before..at]);
        (decoded - (self.buffer.len() - at) as u64, crc.finalize())
    }

    /// Finds the records in what came. A panic there is one more way of not being able to read the body, which
    /// after some tries is salvaged without the splitter: it must not end the process again and again.
    fn scan(&mut self) -> Result<(), SplitError> {
        let (splitter, buffer, spans) = (&mut self.splitter, &self.buffer, &mut self.spans);
        let scanned = catch_unwind(AssertUnwindSafe(|| {
            failpoint::panic_at("split", buffer);
            splitter.scan(buffer, spans)
        }));
        scanned.unwrap_or_else(|_| {
            self.context.metrics.faults.with_label_values(&["split"]).inc();
            let feed = &self.blob.feed;
            tracing::error!(tenant = %feed.tenant.name, content_type = %feed.content_type, content_id = %self.blob.content_id,
                "a fault of ours struck at splitting this body; it is fetched again, and after some tries salvaged; please report it");
            Err(SplitError::Fault)
        })
    }

    /// Sends parts on while a large body is still arriving.
    async fn flow(&mut self) -> Result<(), FetchError> {
        let begins = !self.is_flowing && self.buffer.len() >= HOLD;
        self.is_flowing |= begins;
        while self.is_flowing && self.spans.last().is_some_and(|last| last.end as usize >= PART) {
            self.forward_part(false).await?;
        }
        if begins {
            // From here on a part at a time passes; the room that was held is not needed again.
            self.buffer.shrink().map_err(BodyError::Memory)?;
        }
        Ok(())
    }

    /// Lets go of what came after the last record and begins none: however much of it comes, it is not
    /// held. One byte stays, so that records do not run into each other.
    fn drop_blank(&mut self) {
        let keep = self.spans.last().map_or(0, |last| last.end as usize + 1);
        if self.splitter.open_element().is_none() && self.buffer.len() > keep + BLANK {
            self.splitter.cut(self.buffer.len() - keep);
            self.buffer.truncate(keep);
        }
    }

    /// Sends the rest on, now that everything came whole.
    async fn finish(mut self) -> Result<Fetched, FetchError> {
        while !self.spans.is_empty() {
            self.forward_part(true).await?;
        }
        Ok(Fetched { bytes: self.total, salvaged: self.salvaged })
    }

    /// Cuts about [`PART`] bytes of whole records off the front of the buffer and sends them on, once there is room for
    /// what becomes of them.
    async fn forward_part(&mut self, is_complete: bool) -> Result<(), FetchError> {
        let count = self.spans.iter().take_while(|s| (s.end as usize) < PART).count();
        let count = (count + 1).min(PART_RECORDS).min(self.spans.len());
        let rest = self.spans.split_off(count);
        let spans = std::mem::replace(&mut self.spans, rest);
        let Some(cut) = spans.last().map(|last| last.end as usize) else { return Ok(()) };
        let last = is_complete && self.spans.is_empty();
        // Each part is freed when it is done, not when all of its body is.
        let bytes = if last {
            std::mem::take(&mut self.buffer).into_first(cut)
        } else {
            let part = block::copy(&self.buffer[..cut]);
            self.buffer.advance(cut);
            part
        };
        self.splitter.cut(cut);
        for span in &mut self.spans {
            *span = span.start - cut as u32..span.end - cut as u32;
        }
        // Tiny records take more than their bytes, which is all that was reserved so far.
        let beyond = (spans.len() * RECORD).saturating_sub(cut);
        if beyond > 0 {
            self.charge.reserve(beyond, true).await;
        }
        let mut charge = self.charge.split(cut + beyond);
        charge.shrink_to(cut + beyond);
        let batch = RawBatch { blob: self.blob.clone(), bytes, spans, ack: self.ack.share(), charge };
        let sent = self.context.metrics.wait_for("pipeline", self.context.forward.send(Arrival::Batch(batch))).await;
        sent.map_err(|_| FetchError::Closed)?;
        failpoint::pass("part");
        Ok(())
    }

    /// Moves a record that has outgrown `max_record` out of memory; sends it on once it has ended.
    async fn spool_oversized(&mut self) -> Result<(), FetchError> {
        if let Some(first) = self.spans.first().cloned()
            && self.spool.is_some()
        {
            self.write_to_spool(first.end as usize).await?;
            self.spans.remove(0);
            self.rebase(first.end);
            if let Some(spool) = self.spool.take() {
                let Spooled { file, bytes, hash, is_kept } = spool.end().await.map_err(|e| self.spool_error(e))?;
                let blob = self.blob.clone();
                let record = OversizedRecord { blob, file, bytes, hash, is_kept, ack: self.ack.share() };
                self.context.forward.send(Arrival::Oversized(record)).await.map_err(|_| FetchError::Closed)?;
            }
        }
        let Some(open) = self.splitter.open_element() else { return Ok(()) };
        if self.spool.is_none() && self.buffer.len() - open > self.context.max_record {
            // What stands before it goes first, so that it begins the buffer.
            while !self.spans.is_empty() {
                self.is_flowing = true;
                self.forward_part(false).await?;
            }
            let open = self.splitter.open_element().unwrap_or(0);
            self.buffer.advance(open);
            self.splitter.cut(open);
            self.is_flowing = true;
            let spool = Spool::create(self.context.spool_dir.as_deref()).await.map_err(|e| self.spool_error(e))?;
            self.spool = Some(spool);
        }
        if self.spool.is_some() {
            let all = self.buffer.len();
            self.write_to_spool(all).await?;
            self.splitter.cut(all);
        }
        Ok(())
    }

    fn rebase(&mut self, cut: u32) {
        self.splitter.cut(cut as usize);
        for span in &mut self.spans {
            *span = span.start - cut..span.end - cut;
        }
    }

    /// Moves the first `bytes` of the buffer to the spool.
    async fn write_to_spool(&mut self, bytes: usize) -> Result<(), FetchError> {
        if let Some(spool) = &mut self.spool {
            let written = spool.write(&self.buffer[..bytes]).await;
            written.map_err(|e| self.spool_error(e))?;
        }
        self.buffer.advance(bytes);
        Ok(())
    }

    fn spool_error(&self, source: std::io::Error) -> FetchError {
        FetchError::Spool { path: self.context.spool_dir.clone().unwrap_or_default(), source }
    }
}

mod spool;
#[cfg(test)]
mod tests;
