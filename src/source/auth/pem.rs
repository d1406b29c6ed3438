//! PEM: the blocks of a file, decoded. Comes in: bytes. Goes out: labels and DER. Text around the blocks is left
//! out, as `openssl` writes it there; what is between the marks and not base64 is an error, never a guess.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use memchr::memmem;
use zeroize::Zeroizing;

/// One block.
pub struct Block {
    pub label: String,
    pub der: Zeroizing<Vec<u8>>,
}

/// Whether there is a block at all: what tells PEM from a PFX file.
pub fn is_pem(bytes: &[u8]) -> bool {
    memmem::find(bytes, b"-----BEGIN ").is_some()
}

/// Every block, in order. The error names the first that cannot be read.
pub fn blocks(bytes: &[u8]) -> Result<Vec<Block>, String> {
    let mut found = Vec::new();
    let mut rest = bytes;
    while let Some(at) = memmem::find(rest, b"-----BEGIN ") {
        rest = &rest[at + b"-----BEGIN ".len()..];
        let end = memmem::find(rest, b"-----").ok_or("a `BEGIN` line has no end")?;
        let label = String::from_utf8_lossy(&rest[..end]).into_owned();
        let body = &rest[end + 5..];
        let close = format!("-----END {label}-----");
        let length = memmem::find(body, close.as_bytes()).ok_or_else(|| format!("`{label}` has no `END` line"))?;
        let text: Zeroizing<Vec<u8>> =
            Zeroizing::new(body[..length].iter().copied().filter(|byte| !byte.is_ascii_whitespace()).collect());
        if memchr::memchr(b':', &text).is_some() {
            return Err(format!(
                "`{label}` is encrypted in the old way of openssl; convert it: openssl pkcs8 -topk8 -in OLD -out NEW"
            ));
        }
        let der = STANDARD.decode(&*text).map_err(|_| format!("`{label}` is not base64 between its marks"))?;
        found.push(Block { label, der: Zeroizing::new(der) });
        rest = &body[length..];
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_found_between_other_text_and_broken_ones_are_named() {
        let text = b"Bag Attributes\n-----BEGIN A-----\r\nAQI=\r\n-----END A-----\nx\n-----BEGIN B-----\nAw==\n-----END B-----\n";
        let found = blocks(text).unwrap();
        let found: Vec<_> = found.iter().map(|block| (block.label.as_str(), block.der.as_slice())).collect();
        assert_eq!(found, [("A", &[1u8, 2][..]), ("B", &[3][..])]);
        for (broken, said) in [
            ("-----BEGIN A-----\nAQI=\n", "no `END`"),
            ("-----BEGIN A-----\nA?=\n-----END A-----", "not base64"),
            ("-----BEGIN A-----\nProc-Type: 4,ENCRYPTED\n\nAQI=\n-----END A-----", "old way"),
        ] {
            assert!(blocks(broken.as_bytes()).err().unwrap().contains(said), "{broken}");
        }
        assert!(!is_pem(&[SEQUENCE, 3]) && is_pem(text));
    }

    const SEQUENCE: u8 = 0x30;
}
