//! A request's body as it leaves: gzip, where it is asked for, and its bytes counted. Comes in: bytes. Goes out: the same,
//! smaller. Lets other work run in between, and never keeps anything.

use std::borrow::Cow;
use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;

use crate::metrics::Metrics;
use crate::sink::SendError;

/// Bytes compressed between two looks at other work: about a millisecond at level 1.
const COMPRESSED_AT_ONCE: usize = 64 * 1024;

/// Makes the series that [`packed`] counts in.
pub fn declare(sink: &str, metrics: &Metrics) {
    for encoding in ["identity", "gzip"] {
        metrics.sink_bytes.with_label_values(&[sink, encoding]);
    }
}

/// The body as it is sent, with `gzip` or as it is, counted for the sink by encoding. The header that says which is the
/// caller's to set.
pub async fn packed(
    sink: &str,
    plain: Cow<'_, [u8]>,
    with_gzip: bool,
    metrics: &Metrics,
) -> Result<Vec<u8>, SendError> {
    let bytes = |encoding| metrics.sink_bytes.with_label_values(&[sink, encoding]);
    let length = plain.len() as u64;
    if !with_gzip {
        bytes("identity").inc_by(length);
        return Ok(plain.into_owned());
    }
    let body = gzip(&plain).await.map_err(|error| SendError::Retry {
        after: None,
        reason: format!("sink `{sink}`: cannot compress a batch: {error}"),
    })?;
    bytes("identity").inc_by(length);
    bytes("gzip").inc_by(body.len() as u64);
    Ok(body)
}

/// Level 1: compression is what a record costs most (performance reference, compression).
///
/// # Errors
/// None that is known: it writes to memory.
async fn gzip(bytes: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::with_capacity(bytes.len() / 6), Compression::new(1));
    for chunk in bytes.chunks(COMPRESSED_AT_ONCE) {
        encoder.write_all(chunk)?;
        tokio::task::yield_now().await;
    }
    encoder.finish()
}
