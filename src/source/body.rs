//! A response's body, piece by piece, decoded by us within limits.
//!
//! No total time-out: a large body may take as long as it progresses. No total size either: memory
//! is bounded by the reader, who takes pieces of at most [`PIECE`]. What is bounded is standing still
//! and swelling: a body that drips is given up, and so is one that unpacks to 200 times what came.

use std::io::Write;
use std::time::Duration;

use bytes::buf::Writer;
use bytes::{Buf, BufMut, Bytes, BytesMut};
use flate2::write::MultiGzDecoder;
use tokio::time::Instant;

use crate::http::error_chain;

/// Decoded bytes handed over at once, about; small beside a part, large beside a call's cost.
const PIECE: usize = 256 * 1024;
/// Compressed bytes given to the decoder at once: audit records make some 40 KiB of them.
const STEP: usize = 4 * 1024;
/// The same at the start and after a step that grew more than 64-fold: gzip grows at most 1,032-fold,
/// so 258 KiB, where [`STEP`] could make 4 MiB.
const CAREFUL_STEP: usize = 256;
/// Below this much output, any ratio is fine (a small body of equal bytes is no bomb).
const BOMB_FLOOR: u64 = 64 * 1024 * 1024;
/// Output to input beyond which a body is a bomb; audit records pack about 10-fold (operations 5.2).
const BOMB_RATIO: u64 = 200;
/// What a body must bring in each stretch of `stall_timeout`, unless it ends.
const LEAST_PROGRESS: usize = 16 * 1024;

/// Why a body could not be read to its end.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// The connection broke or the length is not what was announced.
    #[error("the body ended early: {0}")]
    Broken(String),
    #[error("the body stood still: under 16 KiB in {0:?}")]
    Stalled(Duration),
    #[error("the body is not gzip though it says so: {0}")]
    NotGzip(std::io::Error),
    #[error("the body unpacks to more than 200 times its size")]
    Bomb,
    #[error("the body is larger than {0} bytes")]
    TooLarge(usize),
}

/// A body being read.
pub struct Body {
    response: reqwest::Response,
    /// Received and not yet decoded.
    raw: Bytes,
    decoder: Option<MultiGzDecoder<Writer<BytesMut>>>,
    step: usize,
    stall: Duration,
    /// Time spent waiting and bytes received in the current stretch.
    waited: Duration,
    progress: usize,
    /// Bytes as received, and as handed over.
    pub received: u64,
    pub decoded: u64,
}

impl Body {
    /// Reads `response`, which must bring 16 KiB in each stretch of `stall`.
    pub fn new(response: reqwest::Response, stall: Duration) -> Body {
        let is_gzip = response
            .headers()
            .get(reqwest::header::CONTENT_ENCODING)
            .is_some_and(|encoding| encoding.as_bytes().eq_ignore_ascii_case(b"gzip"));
        let decoder = is_gzip.then(|| MultiGzDecoder::new(BytesMut::new().writer()));
        Body {
            response,
            raw: Bytes::new(),
            decoder,
            step: CAREFUL_STEP,
            stall,
            waited: Duration::ZERO,
            progress: 0,
            received: 0,
            decoded: 0,
        }
    }

    /// Appends the next piece to `buffer`; `false` when the body has ended, complete.
    pub async fn next_piece(&mut self, buffer: &mut BytesMut) -> Result<bool, BodyError> {
        let before = buffer.len();
        while buffer.len() - before < PIECE {
            if self.raw.is_empty() && !self.receive().await? {
                self.finish(buffer)?;
                self.decoded += (buffer.len() - before) as u64;
                return Ok(buffer.len() > before);
            }
            self.decode(buffer)?;
            if self.decoder.is_none() {
                break;
            }
        }
        self.decoded += (buffer.len() - before) as u64;
        if self.decoded > BOMB_FLOOR && self.decoded / BOMB_RATIO > self.received {
            return Err(BodyError::Bomb);
        }
        Ok(true)
    }

    /// Reads all of a body that must be small.
    pub async fn collect(mut self, limit: usize) -> Result<BytesMut, BodyError> {
        let mut buffer = BytesMut::new();
        while self.next_piece(&mut buffer).await? {
            if buffer.len() > limit {
                return Err(BodyError::TooLarge(limit));
            }
        }
        Ok(buffer)
    }

    /// `NextPageUri`, which a body may carry too (activity-api 1.8).
    pub fn next_page_uri(&self) -> Option<String> {
        next_page_uri(&self.response)
    }

    async fn receive(&mut self) -> Result<bool, BodyError> {
        let left = self.stall.saturating_sub(self.waited);
        let asked = Instant::now();
        let Ok(chunk) = tokio::time::timeout(left, self.response.chunk()).await else {
            return Err(BodyError::Stalled(self.stall));
        };
        let Some(chunk) = chunk.map_err(|error| BodyError::Broken(error_chain(&error)))? else {
            return Ok(false);
        };
        self.received += chunk.len() as u64;
        self.waited += asked.elapsed();
        self.progress += chunk.len();
        if self.progress >= LEAST_PROGRESS {
            self.progress = 0;
            self.waited = Duration::ZERO;
        }
        self.raw = chunk;
        Ok(true)
    }

    fn decode(&mut self, buffer: &mut BytesMut) -> Result<(), BodyError> {
        let Some(decoder) = &mut self.decoder else {
            buffer.extend_from_slice(&self.raw);
            self.raw.clear();
            return Ok(());
        };
        let step = self.raw.len().min(self.step);
        let before = buffer.len();
        decoder.write_all(&self.raw[..step]).map_err(BodyError::NotGzip)?;
        self.raw.advance(step);
        take(decoder, buffer);
        // What grew much may grow so again.
        let is_swelling = (buffer.len() - before) / step.max(1) > PIECE / STEP;
        self.step = if is_swelling { CAREFUL_STEP } else { STEP };
        Ok(())
    }

    fn finish(&mut self, buffer: &mut BytesMut) -> Result<(), BodyError> {
        if let Some(mut decoder) = self.decoder.take() {
            if self.received > 0 {
                decoder.try_finish().map_err(|error| BodyError::Broken(format!("gzip: {error}")))?;
            }
            take(&mut decoder, buffer);
        }
        Ok(())
    }
}

/// Moves what the decoder has written to the reader's buffer.
fn take(decoder: &mut MultiGzDecoder<Writer<BytesMut>>, buffer: &mut BytesMut) {
    let written = decoder.get_mut().get_mut();
    buffer.extend_from_slice(written);
    written.clear();
}

/// The `NextPageUri` header, or the name the documentation once gave it (activity-api 1.7).
pub fn next_page_uri(response: &reqwest::Response) -> Option<String> {
    let headers = response.headers();
    let value = headers.get("NextPageUri").or_else(|| headers.get("NextPageUrl"))?;
    let text = String::from_utf8_lossy(value.as_bytes()).trim().to_owned();
    (!text.is_empty()).then_some(text)
}
