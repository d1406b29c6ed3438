//! A response's body, piece by piece, decoded by us within limits.
//!
//! No total time-out: a large body may take as long as it progresses. No total size either: memory
//! is bounded by the reader, who takes pieces of at most [`PIECE`]. What is bounded is standing still,
//! crawling and swelling: a body that drips is given up, and so is one that unpacks to 200 times what came.

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
/// What a body must bring in each stretch of `stall_timeout`, unless it ends or may take its time.
const LEAST_PROGRESS: usize = 16 * 1024;
/// What it must bring in each [`SPAN`] stretches: at 60 s a stretch 1.7 KiB a second, a tenth of a poor
/// line shared by all 16 fetches. Time spent waiting for room to put it in does not count. A body below
/// this rate is given up and asked for again, and after a few times read beside the others.
const LEAST_IN_SPAN: usize = 512 * 1024;
const SPAN: u32 = 5;

/// Why a body could not be read to its end.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// The connection broke or the length is not what was announced.
    #[error("the body ended early: {0}")]
    Broken(String),
    #[error("the body stood still for most of {0:?}")]
    Stalled(Duration),
    /// It progresses, but so slowly that others would wait for hours.
    #[error("the body is slow: under 16 KiB in a `stall_timeout`, or under 512 KiB in five of them")]
    Slow,
    #[error("the body is not gzip though it says so: {0}")]
    NotGzip(std::io::Error),
    #[error("the body unpacks to more than 200 times its size")]
    Bomb,
    #[error("there is no memory to hold the body: {0}")]
    Memory(std::io::Error),
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
    /// The same of the current span; `None`: this body may take its time.
    span: Option<(Duration, usize)>,
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
            span: Some((Duration::ZERO, 0)),
            received: 0,
            decoded: 0,
        }
    }

    /// From now on it is enough that it progresses at all.
    pub fn take_your_time(&mut self) {
        self.span = None;
    }

    /// Appends the next piece to `into`; `false` when the body has ended, complete.
    pub async fn next_piece(&mut self, into: &mut impl Write) -> Result<bool, BodyError> {
        let mut piece = 0;
        while piece < PIECE {
            if self.raw.is_empty() && !self.receive().await? {
                piece += self.finish(into)?;
                self.decoded += piece as u64;
                return Ok(piece > 0);
            }
            piece += self.decode(into)?;
            if self.decoder.is_none() {
                break;
            }
        }
        self.decoded += piece as u64;
        if self.decoded > BOMB_FLOOR && self.decoded / BOMB_RATIO > self.received {
            return Err(BodyError::Bomb);
        }
        Ok(true)
    }

    /// Reads all of a body that must be small.
    pub async fn collect(mut self, limit: usize) -> Result<BytesMut, BodyError> {
        let mut buffer = BytesMut::new();
        while self.next_piece(&mut (&mut buffer).writer()).await? {
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
            // What brought something until not long ago drips; what fell silent will bring nothing more.
            let is_drip = self.progress > 0 && left < self.stall / 2;
            return Err(if is_drip { BodyError::Slow } else { BodyError::Stalled(self.stall) });
        };
        let Some(chunk) = chunk.map_err(|error| BodyError::Broken(error_chain(&error)))? else {
            return Ok(false);
        };
        self.received += chunk.len() as u64;
        let waited = asked.elapsed();
        self.waited += waited;
        self.progress += chunk.len();
        if let Some((span, brought)) = &mut self.span {
            *span += waited;
            *brought += chunk.len();
            if *span >= self.stall * SPAN {
                if *brought < LEAST_IN_SPAN {
                    return Err(BodyError::Slow);
                }
                (*span, *brought) = (Duration::ZERO, 0);
            }
        }
        if self.progress >= LEAST_PROGRESS || self.span.is_none() {
            self.progress = 0;
            self.waited = Duration::ZERO;
        }
        self.raw = chunk;
        Ok(true)
    }

    /// Both return the number of bytes that they appended.
    fn decode(&mut self, into: &mut impl Write) -> Result<usize, BodyError> {
        let Some(decoder) = &mut self.decoder else {
            let raw = std::mem::take(&mut self.raw);
            into.write_all(&raw).map_err(BodyError::Memory)?;
            return Ok(raw.len());
        };
        let step = self.raw.len().min(self.step);
        decoder.write_all(&self.raw[..step]).map_err(BodyError::NotGzip)?;
        self.raw.advance(step);
        let appended = take(decoder, into)?;
        // What grew much may grow so again.
        let is_swelling = appended / step.max(1) > PIECE / STEP;
        self.step = if is_swelling { CAREFUL_STEP } else { STEP };
        Ok(appended)
    }

    fn finish(&mut self, into: &mut impl Write) -> Result<usize, BodyError> {
        let Some(mut decoder) = self.decoder.take() else { return Ok(0) };
        if self.received > 0 {
            decoder.try_finish().map_err(|error| BodyError::Broken(format!("gzip: {error}")))?;
        }
        take(&mut decoder, into)
    }
}

/// Moves what the decoder has written to the reader.
fn take(decoder: &mut MultiGzDecoder<Writer<BytesMut>>, into: &mut impl Write) -> Result<usize, BodyError> {
    let written = decoder.get_mut().get_mut();
    into.write_all(written).map_err(BodyError::Memory)?;
    let count = written.len();
    written.clear();
    Ok(count)
}

/// The `NextPageUri` header, or the name the documentation once gave it (activity-api 1.7).
pub fn next_page_uri(response: &reqwest::Response) -> Option<String> {
    let headers = response.headers();
    let value = headers.get("NextPageUri").or_else(|| headers.get("NextPageUrl"))?;
    let text = String::from_utf8_lossy(value.as_bytes()).trim().to_owned();
    (!text.is_empty()).then_some(text)
}

#[cfg(test)]
mod tests {
    use std::io;

    use futures_util::{StreamExt as _, stream};

    use super::*;

    const STALL: Duration = Duration::from_secs(60);

    /// A body of 100 chunks of 100 bytes, one each `apart`; after `silent_after` of them nothing more.
    fn drip(apart: Duration, silent_after: usize) -> Body {
        let chunks = stream::iter(0..100).then(move |n| async move {
            let wait = if n < silent_after { apart } else { 100 * STALL };
            tokio::time::sleep(wait).await;
            Ok::<_, io::Error>(Bytes::from_static(&[b' '; 100]))
        });
        let response = axum::http::Response::new(reqwest::Body::wrap_stream(chunks));
        Body::new(response.into(), STALL)
    }

    #[tokio::test(start_paused = true)]
    async fn a_drip_is_slow_and_passes_when_it_may_take_its_time_and_silence_is_neither() {
        for apart in [1, 7, 40] {
            let apart = Duration::from_secs(apart);
            let ended = drip(apart, 100).collect(1 << 20).await;
            assert!(matches!(ended, Err(BodyError::Slow)), "{apart:?}: {ended:?}");
            let mut body = drip(apart, 100);
            body.take_your_time();
            assert_eq!(body.collect(1 << 20).await.unwrap().len(), 10_000, "{apart:?}");
            let mut body = drip(apart, 3);
            body.take_your_time();
            assert!(matches!(body.collect(1 << 20).await, Err(BodyError::Stalled(_))));
        }
        assert!(matches!(drip(Duration::ZERO, 3).collect(1 << 20).await, Err(BodyError::Stalled(_))));
        assert!(matches!(drip(Duration::ZERO, 0).collect(1 << 20).await, Err(BodyError::Stalled(_))));
    }

    /// Over the network as a run has it, in virtual time: 100 KiB every 20 s, for over an hour.
    #[tokio::test(start_paused = true)]
    async fn an_hour_long_body_that_moves_is_not_cut() {
        use axum::{Router, routing::get};
        const PIECES: usize = 200;
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let pieces = || {
            stream::iter(0..PIECES).then(|_| async {
                tokio::time::sleep(Duration::from_secs(20)).await;
                Ok::<_, io::Error>(Bytes::from(vec![b' '; 100 * 1024]))
            })
        };
        let app = Router::new().route("/", get(move || async move { axum::body::Body::from_stream(pieces()) }));
        tokio::spawn(async move { axum::serve(listener, app).await });
        let client = crate::http::client(&Default::default(), &crate::config::ProxyConfig::Off, None).unwrap();
        let began = Instant::now();
        let response = client.execute(client.get(url).build().unwrap()).await.unwrap();
        let read = Body::new(response, STALL).collect(usize::MAX).await.unwrap();
        assert_eq!(read.len(), PIECES * 100 * 1024);
        assert!(began.elapsed() > Duration::from_secs(3600), "{:?}", began.elapsed());
    }
}
