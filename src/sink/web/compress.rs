//! gzip of a request's body. Comes in: bytes. Goes out: the same, smaller. Lets other work run in between, and never
//! keeps anything.

use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;

/// Bytes compressed between two looks at other work: about a millisecond at level 1.
const COMPRESSED_AT_ONCE: usize = 64 * 1024;

/// Level 1: compression is what a record costs most (performance reference, compression).
///
/// # Errors
/// None that is known: it writes to memory.
pub async fn gzip(bytes: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::with_capacity(bytes.len() / 6), Compression::new(1));
    for chunk in bytes.chunks(COMPRESSED_AT_ONCE) {
        encoder.write_all(chunk)?;
        tokio::task::yield_now().await;
    }
    encoder.finish()
}
