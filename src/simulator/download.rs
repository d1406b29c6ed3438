//! `GET contentUri`: a blob's body, streamed, with what can happen to it on the way
//! (activity-api 1.8, 4.2).

use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::{HeaderValue, header};
use axum::response::Response;
use flate2::Compression;
use flate2::write::GzEncoder;

use super::api::{Denied, json, strike, subscribed};
use super::blobs::{self, BodyWriter, Handle, IdError};
use super::faults::{Faults, Object, Scenario};
use super::ledger::GONE;
use super::server::{Call, Refusal, Shared, percent_decode};
use super::settings::Identity;
use super::stamp::DAY_MS;
use super::token::Claims;
use super::world::{Blob, blob_key};

/// Bytes of plain body made at once.
const PIECE: usize = 128 * 1024;
/// A body up to this size is sent in one go with its length, as the service does with small ones.
const SMALL: usize = 256 * 1024;
/// What a drip brings, and how long the next one takes.
const DRIP_BYTES: usize = 512;
const DRIP_PAUSE: Duration = Duration::from_millis(250);

/// How a body ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Whole,
    /// The connection breaks after a part.
    Broken,
    /// The body ends as if all were there, after a part of it.
    Halved,
    /// Whole, but slow.
    Slow,
}

pub(super) fn blob(
    shared: &Arc<Shared>,
    call: &Call,
    tenant: usize,
    claims: &Claims,
    id: &str,
) -> Result<Response, Denied> {
    shared.ledger.request("blob");
    let world = &shared.world;
    let id = percent_decode(id);
    let now_ms = world.clock.now_ms();
    let not_there = || Refusal::new(404, "AF20050", format!("The specified content ({id}) does not exist."));
    let (handle, blob) = match blobs::parse(world, tenant, &id, now_ms) {
        Ok(found) => found,
        Err(IdError::Malformed) => {
            return Err(Refusal::new(400, "AF20052", format!("Content ID {id} in the URL is invalid.")).into());
        }
        Err(IdError::Unknown) => {
            shared.ledger.violation("content_never_listed", || id.clone());
            return Err(not_there().into());
        }
    };
    if call.query.iter().any(|(key, _)| key != "publisheridentifier") {
        shared.ledger.violation("content_uri_modified", || format!("{}?{:?}", call.path, call.query));
    }
    subscribed(shared, tenant, handle.kind, claims)?;
    let key = blob_key(tenant, handle.kind, blob.number);
    let object = Object::Blob(key);
    let faults = &world.faults;
    {
        let mut ledger = shared.ledger.lock();
        *ledger.fetches.entry(handle).or_default() += 1;
        ledger.fetches_total += 1;
    }
    let expired = || Refusal::new(400, "AF20051", format!("Content requested with the key {id} has already expired."));
    if now_ms - blob.created_ms > world.config.protocol.retrieval_days * DAY_MS {
        return Err(expired().into());
    }
    if faults.selects(Scenario::Vanished, object) {
        faults.count(Scenario::Vanished);
        let mut ledger = shared.ledger.lock();
        ledger.mark(tenant, handle.kind, blob.number, GONE);
        ledger.refuse(tenant, handle.kind, blob.number, &id);
        return Err(not_there().into());
    }
    if faults.selects(Scenario::Absent, object) {
        faults.count(Scenario::Absent);
        shared.ledger.lock().refuse(tenant, handle.kind, blob.number, &id);
        return Err(not_there().into());
    }
    if faults.selects(Scenario::Expired, object) {
        faults.count(Scenario::Expired);
        shared.ledger.lock().refuse(tenant, handle.kind, blob.number, &id);
        return Err(expired().into());
    }
    strike(shared, call, tenant, object, "GetBlob")?;
    if faults.strikes(Scenario::Eventual, object) {
        return Err(not_there().into());
    }
    if faults.strikes(Scenario::ContentInvalid, object) {
        return Err(Refusal::new(400, "AF20052", format!("Content ID {id} in the URL is invalid.")).into());
    }
    if faults.strikes(Scenario::StalledBody, object) {
        return Ok(json(Body::from_stream(futures_util::stream::pending::<Piece>())));
    }
    if call.accepts_gzip() && faults.strikes(Scenario::Bomb, object) {
        return Ok(bomb());
    }
    let fate = if faults.strikes(Scenario::TruncatedBody, object) {
        Fate::Broken
    } else if faults.strikes(Scenario::HalfJson, object) {
        Fate::Halved
    } else if faults.selects(Scenario::TokenExpiry, object) && faults.strikes_again(Scenario::TokenExpiry, object) {
        // The token dies in the middle of the download, and the download with it.
        shared.tokens.revoke(tenant);
        Fate::Broken
    } else if faults.strikes(Scenario::SlowBody, object) {
        Fate::Slow
    } else {
        Fate::Whole
    };
    if world.config.identity == Identity::Stable && handle.to < blob.count {
        faults.count(Scenario::Growing);
    }
    let spoilt = spoilt_by(faults, object);
    if blob.copy && faults.is_on(Scenario::Duplicates) {
        faults.count(Scenario::Duplicates);
    }
    if let (Some(scenario), Fate::Whole) = (spoilt, fate) {
        return Ok(spoilt_body(shared, call, handle, &blob, scenario));
    }
    Ok(send(shared, call, handle, &blob, fate, key))
}

/// A download on its way; its end is noted whatever way it ends.
#[derive(Debug)]
struct InFlight {
    shared: Arc<Shared>,
    tenant: usize,
}

impl InFlight {
    fn new(shared: &Arc<Shared>, tenant: usize) -> InFlight {
        let limit = shared.world.config.protocol.max_downloads;
        let now = {
            let mut ledger = shared.ledger.lock();
            let (now, most) = &mut ledger.downloads[tenant];
            *now += 1;
            *most = (*most).max(*now);
            *now
        };
        if now > limit {
            shared.ledger.violation("too_many_downloads", || format!("{now} at once"));
        }
        InFlight { shared: Arc::clone(shared), tenant }
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        let (now, _) = &mut self.shared.ledger.lock().downloads[self.tenant];
        *now = now.saturating_sub(1);
    }
}

/// A body being written, compressed or not.
struct Stream {
    writer: BodyWriter,
    encoder: Option<GzEncoder<Vec<u8>>>,
    plain: Vec<u8>,
    more: bool,
    /// Whether it is meant to reach its end.
    whole: bool,
    made: usize,
    in_flight: InFlight,
}

impl Stream {
    /// The next piece as it goes over the wire; empty only at the end.
    fn piece(&mut self) -> std::io::Result<Vec<u8>> {
        loop {
            if !self.more {
                return Ok(Vec::new());
            }
            self.plain.clear();
            self.more = self.writer.fill(&mut self.plain, PIECE);
            self.made += self.plain.len();
            let out = match &mut self.encoder {
                None => std::mem::take(&mut self.plain),
                Some(encoder) => {
                    encoder.write_all(&self.plain)?;
                    if self.more {
                        std::mem::take(encoder.get_mut())
                    } else {
                        match self.encoder.take() {
                            Some(encoder) => encoder.finish()?,
                            None => Vec::new(),
                        }
                    }
                }
            };
            if !self.more {
                let mut ledger = self.in_flight.shared.ledger.lock();
                ledger.bytes += self.made as u64;
                ledger.fetches_complete += u64::from(self.whole);
            }
            if !out.is_empty() {
                return Ok(out);
            }
        }
    }
}

fn send(shared: &Arc<Shared>, call: &Call, handle: Handle, blob: &Blob, fate: Fate, key: u64) -> Response {
    let gzip = call.accepts_gzip() && shared.world.config.protocol.gzip;
    let fetch = shared.ledger.lock().fetches.get(&handle).copied().unwrap_or(0);
    let writer =
        BodyWriter::new(Arc::clone(&shared.world), handle.tenant, blob, handle.from, handle.to, u64::from(fetch));
    let variant = shared.world.faults.variant(Scenario::HalfJson, key ^ u64::from(handle.from));
    let mut stream = Stream {
        writer,
        encoder: gzip.then(|| GzEncoder::new(Vec::new(), Compression::fast())),
        plain: Vec::with_capacity(PIECE + 8192),
        more: true,
        whole: matches!(fate, Fate::Whole | Fate::Slow),
        made: 0,
        in_flight: InFlight::new(shared, handle.tenant),
    };
    // A body that might be small is made whole first.
    let mut ready = Vec::new();
    if fate != Fate::Slow {
        if fate == Fate::Halved {
            return halved(stream, variant, gzip);
        }
        while stream.more && ready.len() < SMALL {
            match stream.piece() {
                Ok(piece) => ready.extend_from_slice(&piece),
                Err(error) => return Refusal::new(500, "AF50000", error.to_string()).response(),
            }
        }
    }
    let whole = !stream.more;
    let length = (whole && fate != Fate::Slow).then_some(ready.len());
    let body = match fate {
        Fate::Broken => {
            // Half of the time the length is promised and not kept, else a chunked body is aborted.
            ready.truncate(variant as usize % ready.len().max(1));
            Body::from_stream(broken(Bytes::from(ready), stream))
        }
        Fate::Slow => Body::from_stream(slow(stream)),
        _ if whole => Body::from(ready),
        _ => Body::from_stream(rest(Bytes::from(ready), stream)),
    };
    let mut response = json(body);
    if gzip {
        response.headers_mut().insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    if let Some(length) = length
        && fate == Fate::Broken
        && variant.is_multiple_of(2)
    {
        response.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    }
    response
}

/// Ends cleanly inside the JSON: the part that is there is made whole as far as HTTP goes.
fn halved(mut stream: Stream, variant: u64, gzip: bool) -> Response {
    let mut plain = Vec::new();
    stream.writer.fill(&mut plain, SMALL);
    // One in eight is empty.
    let empty = variant.is_multiple_of(8);
    let keep = if empty { 0 } else { 1 + variant as usize % plain.len().saturating_sub(1).max(1) };
    plain.truncate(keep);
    let Some(mut encoder) = stream.encoder.take() else { return json(plain) };
    let body = encoder.write_all(&plain).and_then(|()| encoder.finish()).unwrap_or_default();
    let mut response = json(body);
    if gzip {
        response.headers_mut().insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    response
}

/// The scenario that makes something else of the array in a body, if one does.
pub(super) fn spoilt_by(faults: &Faults, object: Object) -> Option<Scenario> {
    const SPOILING: [Scenario; 5] = [
        Scenario::EmptyBody,
        Scenario::NullBody,
        Scenario::ObjectBody,
        Scenario::TrailingGarbage,
        Scenario::ByteOrderMark,
    ];
    SPOILING.into_iter().find(|scenario| faults.strikes(*scenario, object))
}

/// What such a scenario makes of it.
pub(super) fn spoil(scenario: Scenario, mut array: Vec<u8>) -> Vec<u8> {
    match scenario {
        Scenario::EmptyBody => Vec::new(),
        Scenario::NullBody => b"null".to_vec(),
        Scenario::ObjectBody => [br#"{"value":"#.as_slice(), &array, b"}"].concat(),
        Scenario::TrailingGarbage => {
            array.extend_from_slice(b"\r\n<!-- served by cache 7 -->");
            array
        }
        _ => [b"\xef\xbb\xbf".as_slice(), &array].concat(),
    }
}

fn spoilt_body(shared: &Arc<Shared>, call: &Call, handle: Handle, blob: &Blob, scenario: Scenario) -> Response {
    let world = Arc::clone(&shared.world);
    let mut writer = BodyWriter::new(world, handle.tenant, blob, handle.from, handle.to, 0);
    let mut plain = Vec::new();
    while writer.fill(&mut plain, SMALL) {}
    let plain = spoil(scenario, plain);
    if !call.accepts_gzip() || plain.is_empty() {
        return json(plain);
    }
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    let packed = encoder.write_all(&plain).and_then(|()| encoder.finish()).unwrap_or_default();
    let mut response = json(packed);
    response.headers_mut().insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    response
}

type Piece = std::io::Result<Bytes>;

/// What is ready, then the rest as it is made.
fn rest(ready: Bytes, stream: Stream) -> impl futures_util::Stream<Item = Piece> {
    futures_util::stream::unfold((Some(ready), stream), |(ready, mut stream)| async move {
        if let Some(ready) = ready {
            return Some((Ok(ready), (None, stream)));
        }
        let piece = match stream.piece() {
            Ok(piece) if piece.is_empty() => return None,
            piece => piece.map(Bytes::from),
        };
        tokio::task::yield_now().await;
        Some((piece, (None, stream)))
    })
}

/// What is ready, then an error, which ends the connection.
fn broken(ready: Bytes, stream: Stream) -> impl futures_util::Stream<Item = Piece> {
    futures_util::stream::unfold((0, ready, stream), |(step, ready, stream)| async move {
        match step {
            0 => Some((Ok(ready.clone()), (1, ready, stream))),
            1 => {
                // Lets what is there reach the client first.
                tokio::time::sleep(Duration::from_millis(5)).await;
                let error = std::io::Error::new(std::io::ErrorKind::ConnectionAborted, "broken on purpose");
                Some((Err(error), (2, ready, stream)))
            }
            _ => None,
        }
    })
}

fn slow(stream: Stream) -> impl futures_util::Stream<Item = Piece> {
    futures_util::stream::unfold((Bytes::new(), stream), |(mut ready, mut stream)| async move {
        if ready.is_empty() {
            ready = match stream.piece() {
                Ok(piece) if piece.is_empty() => return None,
                Ok(piece) => Bytes::from(piece),
                Err(error) => return Some((Err(error), (Bytes::new(), stream))),
            };
        }
        tokio::time::sleep(DRIP_PAUSE).await;
        let drip = ready.split_to(DRIP_BYTES.min(ready.len()));
        Some((Ok(drip), (ready, stream)))
    })
}

/// Plain bytes of one member of the bomb, and how many members it has: 4 GiB out of some 4 MB.
const BOMB_MEMBER: usize = 16 << 20;
const BOMB_MEMBERS: usize = 256;

/// An array that opens, and then nothing but white space.
fn bomb() -> Response {
    let member = |first: &[u8]| -> Bytes {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        let space = vec![b' '; 1 << 16];
        let mut written = encoder.write_all(first);
        for _ in 0..BOMB_MEMBER / space.len() {
            written = written.and_then(|()| encoder.write_all(&space));
        }
        written.and_then(|()| encoder.finish()).map(Bytes::from).unwrap_or_default()
    };
    let (first, next) = (member(b"["), member(b""));
    let members = std::iter::once(first).chain(std::iter::repeat_n(next, BOMB_MEMBERS - 1));
    let mut response = json(Body::from_stream(futures_util::stream::iter(members.map(Piece::Ok))));
    response.headers_mut().insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    response
}
